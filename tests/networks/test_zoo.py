"""Exported graphs of real networks against what onnxruntime computed for them."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import zoo_support

import cnnengine
from cnnengine import rewrites
from cnnengine.importer import import_model
from cnnengine.rewrites.nodes import Nodes, Rewrite


class Network:
    """A materialised zoo model, and the engines made from it, by thread count."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.proto = zoo_support.model_proto(name)
        self.engines: dict[int, cnnengine.Model] = {}

    def engine(self, threads: int = 1) -> cnnengine.Model:
        if threads not in self.engines:
            self.engines[threads] = cnnengine.load(self.proto, threads=threads)
        return self.engines[threads]

    def close(self) -> None:
        for engine in self.engines.values():
            engine.close()


@pytest.fixture(scope="module", params=zoo_support.names())
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    made = Network(request.param)
    yield made
    made.close()


def run(engine: cnnengine.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return engine.run(None, feeds)


def test_the_committed_files_are_there() -> None:
    counts: dict[str, int] = {}
    for path in zoo_support.ZOO.glob("*.onnx"):
        network = path.name.split(".")[0]
        counts[network] = counts.get(network, 0) + 1
    whole = {
        "lenet5": 4,
        "sppnet": 2,
        "nin_lppool": 2,
        "resnet18": 7,
        "mobilenet_v2": 6,
        "unet_convt": 3,
        "audio_m5_1d": 3,
        "c3d_small": 3,
    }
    assert {name: counts.get(name) for name in whole} == whole
    assert sum(counts.values()) >= 55
    assert {path.name.removesuffix(".onnx") for path in zoo_support.ZOO.glob("*.onnx")} <= set(zoo_support.names())


def test_gives_the_expected_outputs(network: Network) -> None:
    engine = network.engine()
    entry = zoo_support.expected(network.name)
    assert [value.name for value in engine.inputs] == [entry["input"]["name"]]
    assert [value.name for value in engine.outputs] == [output["name"] for output in entry["outputs"]]
    outputs = run(engine, zoo_support.feeds(network.name))
    zoo_support.check_outputs(network.name, outputs, zoo_support.tolerance(network.name))


def test_runs_on_kernels_alone(network: Network) -> None:
    engine = network.engine()
    run(engine, zoo_support.feeds(network.name))
    assert (engine.host_nodes() == []) is (network.name not in zoo_support.IMPURE)


def test_batch_of_three_equals_three_runs(network: Network) -> None:
    if not zoo_support.batch_is_dynamic(network.proto):
        pytest.skip("the file fixes the batch")
    engine = network.engine()
    feeds = zoo_support.feeds(network.name, batch=3)
    together = run(engine, feeds)
    single = [run(engine, {key: value[i : i + 1] for key, value in feeds.items()}) for i in range(3)]
    zoo_support.check_outputs(network.name, single[0], zoo_support.tolerance(network.name))
    assert zoo_support.batch_difference(together, single) <= zoo_support.BATCH_TOLERANCE
    if network.name not in zoo_support.IMPURE:
        assert engine.host_nodes() == []


def test_is_bit_identical_at_one_and_two_threads(network: Network) -> None:
    feeds = zoo_support.feeds(network.name)
    for one, two in zip(run(network.engine(1), feeds), run(network.engine(2), feeds), strict=True):
        assert one.dtype == two.dtype
        assert one.shape == two.shape
        assert one.tobytes() == two.tobytes()


class TestCheckOutputs:
    """The check refuses what is not right."""

    NAME = "lenet5.ts"

    def right(self) -> np.ndarray:
        entry = zoo_support.expected(self.NAME)["outputs"][0]
        return np.asarray(entry["samples"], np.float32).reshape(entry["shape"])  # as many samples as elements

    def test_accepts_the_right_output(self) -> None:
        assert zoo_support.check_outputs(self.NAME, [self.right()]) < 1e-6
        assert zoo_support.check_outputs(self.NAME, {"output": self.right()}) < 1e-6

    @pytest.mark.parametrize("index", range(10))
    def test_refuses_one_wrong_element(self, index: int) -> None:
        wrong = self.right()
        wrong[0, index] += 3e-4 * np.abs(wrong).max()
        with pytest.raises(AssertionError, match="off by"):
            zoo_support.check_outputs(self.NAME, [wrong])

    def test_refuses_other_dtype_shape_count_and_nan(self) -> None:
        right = self.right()
        broken = copy.copy(right)
        broken[0, 3] = np.nan
        for outputs in ([right.astype(np.float64)], [right.reshape(-1)], [right, right], [], [broken], [right[:, ::-1]]):
            with pytest.raises(AssertionError):
                zoo_support.check_outputs(self.NAME, outputs)


@pytest.mark.parametrize("name", zoo_support.names())
def test_rewrites_left_out_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rewrite is left out where its operators are missing: it would have left the nodes as they are."""
    concerned, left_out = Rewrite.concerns, []

    def checked(rewrite: Rewrite, nodes: Nodes) -> bool:
        if not concerned(rewrite, nodes):
            left_out.append(rewrite)
            assert not rewrite.apply(nodes), rewrite.name
            return False
        return True

    monkeypatch.setattr(Rewrite, "concerns", checked)
    rewrites.simplify(import_model(zoo_support.model_proto(name)))
    assert left_out
