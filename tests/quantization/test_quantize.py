"""`cnnengine quantize`: samples and classes, the files that it writes, its figures, the search, and what it refuses."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import Result, runner
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import cnnengine
from cnnengine.cli import main
from cnnengine.errors import CNNEngineError, InputError
from cnnengine.preprocess import Preprocess
from cnnengine.quantization import static
from cnnengine.quantization.samples import Reading, Samples

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
LENET = MODELS / "digits_lenet.onnx"
NIN = MODELS / "digits_nin.onnx"
SPP = MODELS / "digits_spp.onnx"
LENET_LAYERS = ["/conv1/Conv", "/conv2/Conv", "/conv3/Conv", "/fc1/Gemm", "/fc2/Gemm"]
QUANTISED = {"QuantizeLinear", "DequantizeLinear"}


@pytest.fixture
def cnn(capsys: pytest.CaptureFixture[str]):
    """Run `cnnengine quantize` in this process."""
    return runner(capsys, "quantize")


@pytest.fixture(scope="session")
def ort() -> Any:
    return pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True, scope="session")
def briefly() -> Iterator[None]:
    """No test looks at the measured speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(static, "SECONDS", 0.01)
        yield


def held_out() -> tuple[np.ndarray, np.ndarray]:
    stored = np.load(MODELS / "digits_heldout.npz")
    return stored["images"], stored["labels"]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The held-out digits as pictures, in a folder for each class."""
    root = tmp_path_factory.mktemp("digits")
    for at, (image, label) in enumerate(zip(*held_out(), strict=True)):
        (root / str(label)).mkdir(exist_ok=True)
        Image.fromarray(image).save(root / str(label) / f"{at:03}.png")
    return root


@pytest.fixture(scope="session")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 200 of them as LeNet takes them, with their classes."""
    images, labels = held_out()
    path = tmp_path_factory.mktemp("arrays") / "digits.npz"
    with cnnengine.load(LENET) as model:
        np.savez(path, image=np.concatenate([model.preprocess(image) for image in images[:200]]), labels=labels[:200])
    return path


def weights_of(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def kinds_of(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def dequantised(proto: onnx.ModelProto, name: str) -> np.ndarray | None:
    """The constant, as it is stored, that the second input of a node is dequantised of; None of a float weight."""
    makers = {out: node for node in proto.graph.node for out in node.output}
    node = next(node for node in proto.graph.node if node.name == name)
    maker = makers.get(node.input[1])
    return None if maker is None or maker.op_type != "DequantizeLinear" else weights_of(proto)[maker.input[0]]


def told_right(model: str | Path | onnx.ModelProto, data: Path) -> int:
    stored = np.load(data)
    with cnnengine.load(model) as network:
        return int((network.predict(stored["image"]).argmax(1) == stored["labels"]).sum())


def saved(
    path: Path, nodes: list, inputs: dict[str, list], outputs: dict[str, list], weights: dict[str, Any], opset: int = 18
) -> Path:
    values = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in group.items()] for group in (inputs, outputs)]
    constants = [numpy_helper.from_array(np.asarray(w), n) for n, w in weights.items()]
    graph = helper.make_graph(nodes, "small", *values, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def conv_net(path: Path, batch: int | str = "N", opset: int = 18, names: bool = True) -> Path:
    """Conv, Relu, Conv, global mean, (N, 5) scores."""
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first" * names),
        helper.make_node("Relu", ["c"], ["r"], name="relu" * names),
        helper.make_node("Conv", ["r", "v"], ["d"], name="second" * names),
        helper.make_node("GlobalAveragePool", ["d"], ["g"], name="mean" * names),
        helper.make_node("Flatten", ["g"], ["y"], name="flat" * names),
    ]
    weights = {
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "v": rng.standard_normal((5, 4, 3, 3)).astype(np.float32),
    }
    return saved(path, nodes, {"x": [batch, 3, 8, 8]}, {"y": [batch, 5]}, weights, opset)


# ---------------------------------------------------------------- the digit networks


class TestDigits:
    @pytest.mark.parametrize(
        ("name", "before", "options"),
        [
            ("digits_lenet", 596, []),
            ("digits_lenet_dynamo", 596, []),
            ("digits_nin", 595, []),
            ("digits_spp", 598, ["--size", "16x24"]),
            ("digits_nin", 595, ["--format", "qoperator"]),
            ("digits_nin", 595, ["--calibration", "entropy"]),
            ("digits_nin", 595, ["--type", "s8s8"]),
        ],
    )
    def test_accuracy_is_kept(self, ort, cnn, digits: Path, tmp_path: Path, name: str, before: int, options: list[str]) -> None:
        """Within half a percent of the float network, which has what models/README.md says."""
        out, report = tmp_path / "out.onnx", tmp_path / "report.json"
        result = cnn(MODELS / f"{name}.onnx", "--data", digits, "-o", out, "--report", report, *options)
        assert (result.status, result.err) == (0, [])
        data = json.loads(report.read_text())
        assert (data["evaluated"], data["labelled"], data["correct_before"]) == (599, 599, before)
        assert data["accuracy_after"] >= data["accuracy_before"] - 0.005
        assert f"accuracy: {before / 599:.2%} ({before} of 599) before, " in "\n".join(result.out)
        proto, original = onnx.load(out), onnx.load(MODELS / f"{name}.onnx")
        onnx.checker.check_model(proto)
        assert QUANTISED & set(kinds_of(proto))
        assert not {"Conv"} & set(kinds_of(proto)) or "qoperator" not in options
        assert {p.key: p.value for p in proto.metadata_props} == {p.key: p.value for p in original.metadata_props}
        assert [v.name for v in proto.graph.input] == [v.name for v in original.graph.input]
        assert [v.name for v in proto.graph.output] == [v.name for v in original.graph.output]
        assert data["size_after"] == out.stat().st_size < data["size_before"] == (MODELS / f"{name}.onnx").stat().st_size
        assert {opset.domain for opset in proto.opset_import} <= {"", "com.microsoft"}
        if data["engine"] == "cnnengine":
            images, labels = held_out()
            settings = {"size": (16, 24)} if options[:1] == ["--size"] else {}
            with cnnengine.load(out) as model:
                scores = model.predict(np.concatenate([model.preprocess(image, **settings) for image in images]))
            assert int((scores.argmax(1) == labels).sum()) == data["correct_after"]

    def test_example(self, ort, tmp_path: Path) -> None:
        told = subprocess.run(
            [sys.executable, ROOT / "examples" / "quantize_digits.py", tmp_path / "out.onnx"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        *layers, accuracy, size = told.stdout.splitlines()
        assert [line.split(":")[0] for line in layers] == LENET_LAYERS
        before, after = (float(part) for part in re.findall(r"([\d.]+)%", accuracy))
        assert after >= before - 0.5 and before > 99
        assert size == f"{LENET.stat().st_size} bytes, {(tmp_path / 'out.onnx').stat().st_size} in 8 bits"

    def test_the_result_predicts_without_options(self, ort, cnn, digits: Path, tmp_path: Path, capsys) -> None:
        assert cnn(LENET, "--data", digits, "-o", tmp_path / "out.onnx").status == 0
        assert main(["predict", str(tmp_path / "out.onnx"), str(MODELS / "samples" / "7.png"), "--top", "1"]) == 0
        assert capsys.readouterr().out.split("\t")[1].split()[0] == "7"


# ---------------------------------------------------------------- what is written


class TestFiles:
    @pytest.mark.parametrize(("kind", "weights", "inputs"), [("u8s8", "i1", "u1"), ("s8s8", "i1", "i1"), ("u8u8", "u1", "u1")])
    def test_types(self, ort, arrays: Path, tmp_path: Path, kind: str, weights: str, inputs: str) -> None:
        found = cnnengine.quantize(LENET, arrays, tmp_path / "out.onnx", type=kind, samples=8)
        proto = onnx.load(tmp_path / "out.onnx")
        stored = dequantised(proto, "/conv2/Conv")
        assert stored is not None and stored.dtype == np.dtype(weights)
        values = weights_of(proto)
        first = next(n for n in proto.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "image")
        assert values[first.input[2]].dtype == np.dtype(inputs)
        assert (found.type, found.calibrated) == (kind, 8)

    @pytest.mark.parametrize(("per_channel", "scales"), [(True, 16), (False, 1)])
    def test_scales_per_channel(self, ort, arrays: Path, per_channel: bool, scales: int) -> None:
        proto = cnnengine.quantize(LENET, arrays, per_channel=per_channel, samples=8).proto
        assert proto is not None
        makers = {out: node for node in proto.graph.node for out in node.output}
        conv = next(node for node in proto.graph.node if node.name == "/conv2/Conv")
        assert weights_of(proto)[makers[conv.input[1]].input[1]].size == scales

    def test_formats(self, ort, arrays: Path) -> None:
        pairs = cnnengine.quantize(LENET, arrays, samples=8).proto
        operators = cnnengine.quantize(LENET, arrays, samples=8, format="qoperator").proto
        assert pairs is not None and operators is not None
        assert kinds_of(pairs).count("Conv") == 3 and "QLinearConv" not in kinds_of(pairs)
        assert kinds_of(operators).count("QLinearConv") == 3 and "Conv" not in kinds_of(operators)

    def test_calibration_decides_the_ranges(self, ort, arrays: Path) -> None:
        """Min-max holds all values of the samples, a percentile fewer."""
        scales = {}
        for method, percentile in (("minmax", 99.99), ("percentile", 99.0), ("percentile", 90.0), ("entropy", 99.99)):
            proto = cnnengine.quantize(LENET, arrays, calibration=method, percentile=percentile, samples=64).proto
            assert proto is not None
            scales[method, percentile] = float(weights_of(proto)["image_scale"])
        x = np.load(arrays)["image"]
        assert scales["minmax", 99.99] == pytest.approx((x.max() - x.min()) / 255, rel=1e-5)
        assert scales["percentile", 90.0] < scales["percentile", 99.0] < scales["minmax", 99.99]
        assert 0 < scales["entropy", 99.99] <= scales["minmax", 99.99] * 1.01

    def test_only_as_many_samples_as_asked_decide(self, ort, arrays: Path, tmp_path: Path) -> None:
        """They are spread over all: the first and the last are among them."""
        x = np.zeros((50, 1, 32, 32), np.float32)
        x[0], x[-1], x[1] = 3, -2, 100
        proto = cnnengine.quantize(LENET, x, samples=2).proto
        assert proto is not None
        assert float(weights_of(proto)["image_scale"]) == pytest.approx(5 / 255, rel=1e-5)

    @pytest.mark.parametrize(
        ("exclude", "left"),
        [
            (["/conv2/Conv"], ["/conv2/Conv"]),
            (["Gemm"], ["/fc1/Gemm", "/fc2/Gemm"]),
            (["/conv*", "/fc2/Gemm"], ["/conv1/Conv", "/conv2/Conv", "/conv3/Conv", "/fc2/Gemm"]),
        ],
    )
    def test_excluded_layers_stay_in_float(self, ort, arrays: Path, exclude: list[str], left: list[str]) -> None:
        found = cnnengine.quantize(LENET, arrays, exclude=exclude, samples=8)
        assert found.proto is not None
        assert [n for n in LENET_LAYERS if dequantised(found.proto, n) is None] == left
        assert [layer.node for layer in found.layers] == [n for n in LENET_LAYERS if n not in left]
        assert set(left) <= set(found.excluded)

    @pytest.mark.parametrize("opset", [9, 11, 13])
    def test_older_opsets_and_nodes_without_names(self, ort, tmp_path: Path, opset: int) -> None:
        path = conv_net(tmp_path / "m.onnx", opset=opset, names=False)
        x = np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32)
        found = cnnengine.quantize(path, x, exclude=["Conv_2"])
        assert [layer.node for layer in found.layers][:1] == ["Conv_0"]
        assert found.excluded == ("Conv_2",)
        assert found.proto is not None
        assert next(o.version for o in found.proto.opset_import if not o.domain) >= 13

    def test_a_failure_leaves_what_is_there(
        self, ort, cnn, arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out.onnx"
        out.write_bytes(b"before")

        replace = os.replace

        def broken(source: Any, target: Any) -> None:
            if Path(target) == out:
                raise OSError(28, "No space left on device")
            replace(source, target)

        monkeypatch.setattr("os.replace", broken)
        result = cnn(LENET, "--data", arrays, "-o", out, "--samples", 4)
        assert (result.status, len(result.err)) == (2, 1)
        assert "No space left" in result.err[0]
        assert out.read_bytes() == b"before"
        assert os.listdir(tmp_path) == ["out.onnx"]

    def test_logging_and_streams_are_left_alone(
        self, ort, arrays: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = logging.getLogger()
        monkeypatch.setattr(root, "handlers", [])  # as in a program that has not set up logging
        before = (list(root.handlers), root.level, logging.root.manager.disable)
        cnnengine.quantize(LENET, arrays, calibration="percentile", samples=4)
        assert (list(root.handlers), root.level, logging.root.manager.disable) == before
        assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------- figures


class TestFigures:
    def test_errors_are_those_of_the_tensors(self, ort, arrays: Path) -> None:
        x = np.load(arrays)["image"][:20]
        found = cnnengine.quantize(LENET, x)
        assert found.proto is not None
        for layer in found.layers:
            with cnnengine.load(LENET, outputs=[layer.tensor]) as model:
                want = model(x).astype(np.float64)
            seen = layer.tensor if layer.tensor == "logits" else f"{layer.tensor}_DequantizeLinear_Output"
            with cnnengine.load(found.proto, outputs=[seen]) as model:
                got = model(x)
            error = math.sqrt(((got - want) ** 2).sum() / (want**2).sum())
            assert layer.error == pytest.approx(error, rel=1e-4)
            assert layer.snr == pytest.approx(-20 * math.log10(error), abs=1e-3)
        assert found.outputs[0].error == found.layers[-1].error
        first, second = found.layers[:2]
        assert first.own == pytest.approx(first.error, rel=1e-6)  # nothing is before it
        assert second.own is not None and second.error is not None and second.own < second.error

    def test_a_layer_by_itself(self, ort, arrays: Path) -> None:
        """Its own error is the network's where all others are excluded."""
        x = np.load(arrays)["image"][:20]
        found = {layer.node: layer for layer in cnnengine.quantize(LENET, x).layers}
        for name in LENET_LAYERS[1:]:
            single = cnnengine.quantize(LENET, x, exclude=[n for n in LENET_LAYERS if n != name])
            (layer,) = (layer for layer in single.layers if layer.node == name)
            assert layer.error == pytest.approx(found[name].own, rel=0.02)

    def test_accuracy_by_array_and_by_truth_are_the_same(self, ort, cnn, arrays: Path, digits: Path, tmp_path: Path) -> None:
        stored = np.load(arrays)
        data = {"image": stored["image"]}
        found = cnnengine.quantize(LENET, data, truth=stored["labels"], samples=16)
        with cnnengine.load(LENET) as model:
            before = int((model.predict(stored["image"]).argmax(1) == stored["labels"]).sum())
        assert found.proto is not None
        assert (found.correct_before, found.correct_after, found.labelled) == (before, told_right(found.proto, arrays), 200)
        assert cnnengine.quantize(LENET, arrays, samples=16).as_dict()["correct_after"] == found.correct_after

    def test_without_classes_the_networks_are_compared(self, ort, cnn, arrays: Path, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.load(arrays)["image"][:20])
        result = cnn(LENET, "--data", tmp_path / "x.npy", "-o", tmp_path / "out.onnx")
        assert result.status == 0
        assert any(line.startswith("accuracy: not known without classes") for line in result.out)
        assert "same class as the float network: 20 of 20" in result.out

    def test_other_samples_to_compare_on(self, ort, arrays: Path) -> None:
        x = np.load(arrays)["image"]
        found = cnnengine.quantize(LENET, x[:8], test=x[100:130], truth=np.load(arrays)["labels"][100:130])
        assert (found.calibrated, found.evaluated, found.labelled) == (8, 30, 30)

    def test_a_model_without_scores(self, ort, cnn, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")]
        path = saved(
            tmp_path / "m.onnx", nodes, {"x": ["N", 3, 8, 8]}, {"y": ["N", 2, 6, 6]}, {"w": rng.random((2, 3, 3, 3), np.float32)}
        )
        np.save(tmp_path / "x.npy", rng.random((4, 3, 8, 8), np.float32))
        result = cnn(path, "--data", tmp_path / "x.npy", "-o", tmp_path / "out.onnx")
        assert result.status == 0
        assert "accuracy: not known, no output has a score for each class" in result.out
        result = cnn(path, "--data", tmp_path / "x.npy", "-o", tmp_path / "out2.onnx", "--keep-accuracy", "1%")
        assert (result.status, len(result.err)) == (2, 1)
        assert "--exclude" in result.err[0]
        assert not (tmp_path / "out2.onnx").exists()

    def test_several_inputs_and_fixed_batches(self, ort, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        fixed = conv_net(tmp_path / "fixed.onnx", batch=4)
        x = rng.standard_normal((10, 3, 8, 8)).astype(np.float32)
        found = cnnengine.quantize(fixed, x, truth=[0] * 10)  # the third run is filled up
        with cnnengine.load(fixed) as model:
            assert found.correct_before == int((model.predict(x).argmax(1) == 0).sum())
        assert (found.evaluated, found.labelled) == (10, 10)
        nodes = [
            helper.make_node("Conv", ["a", "w"], ["c"], name="conv"),
            helper.make_node("Add", ["c", "b"], ["y"], name="sum"),
        ]
        two = saved(
            tmp_path / "two.onnx",
            nodes,
            {"a": ["N", 3, 4, 4], "b": ["N", 2, 4, 4]},
            {"y": ["N", 2, 4, 4]},
            {"w": rng.random((2, 3, 1, 1), np.float32)},
        )
        np.savez(tmp_path / "two.npz", a=rng.random((5, 3, 4, 4)), b=rng.random((5, 2, 4, 4)))
        found = cnnengine.quantize(two, tmp_path / "two.npz")
        assert found.evaluated == 5
        assert {layer.node for layer in found.layers} == {"conv", "sum"}

    def test_what_cnnengine_cannot_run_is_judged_by_onnxruntime(
        self, ort, cnn, arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from cnnengine.quantization import judge

        class Refusing(judge.Model):
            def __init__(self, model: Any, **options: Any) -> None:
                super().__init__(model, **options)
                if any("Quantize" in node.op.op_type for node in self._graph.nodes):
                    raise cnnengine.UnsupportedOperatorError("no such operator")

        monkeypatch.setattr(judge, "Model", Refusing)
        result = cnn(LENET, "--data", arrays, "-o", tmp_path / "out.onnx", "--samples", 8)
        assert result.status == 0
        assert any(line.endswith(" of 200 (by onnxruntime, cnnengine cannot run it)") for line in result.out)
        assert any(line.startswith("speed: not known") for line in result.out)


# ---------------------------------------------------------------- layers left in float


class TestSearch:
    @pytest.fixture(scope="class")
    @classmethod
    def found(cls, ort, arrays: Path, tmp_path_factory: pytest.TempPathFactory) -> cnnengine.quantization.Quantization:
        """Ranges so narrow that the accuracy is lost."""
        out = tmp_path_factory.mktemp("search") / "out.onnx"
        return cnnengine.quantize(NIN, arrays, out, calibration="percentile", percentile=95, samples=32, keep_accuracy=0.06)

    def test_the_accuracy_is_kept(self, found, arrays: Path) -> None:
        assert found.kept and found.out is not None
        assert found.accuracy_after >= found.accuracy_before - 0.06
        assert told_right(found.out, arrays) == found.correct_after

    def test_the_layers_are_in_float_and_no_others(self, found) -> None:
        proto = onnx.load(found.out)
        assert 0 < len(found.float_layers) < len(found.layers)
        for layer in found.layers:
            if layer.operator == "Conv":
                assert (dequantised(proto, layer.node) is None) == (layer.node in found.float_layers)
            assert layer.quantised or layer.error is None
            assert layer.effect is not None and layer.effect > 0
        assert not any(layer.quantised for layer in found.layers if layer.node in found.float_layers)

    def test_what_was_tried(self, found) -> None:
        first, *others = found.trials
        assert (first.float_layers, first.kept) == ((), False)
        order = sorted(found.layers, key=lambda layer: -layer.effect)
        assert others[0].float_layers == (order[0].node,)  # the largest effect first
        chosen = [trial for trial in found.trials if set(trial.float_layers) == set(found.float_layers)]
        assert [trial.kept for trial in chosen] == [True]
        assert chosen[0].accuracy == found.accuracy_after and chosen[0].size == found.size_after
        least = found.accuracy_before - 0.06
        assert all(trial.kept == (trial.accuracy >= least) for trial in found.trials)
        names = [layer.node for layer in order]
        back = [t for t in found.trials if list(t.float_layers) != names[: len(t.float_layers)]]
        for name in found.float_layers[:-1]:  # none of them can be put back
            assert any(name not in trial.float_layers and not trial.kept for trial in back)
            without = set(found.float_layers) - {name}
            assert not any(trial.kept and set(trial.float_layers) <= without for trial in found.trials)

    def test_nothing_to_search(self, ort, cnn, arrays: Path, tmp_path: Path) -> None:
        result = cnn(LENET, "--data", arrays, "-o", tmp_path / "out.onnx", "--keep-accuracy", "1%")
        assert result.status == 0
        assert "to lose no more than 1 %: all layers can be quantised" in result.out

    def test_an_accuracy_that_cannot_be_kept(self, ort, cnn, arrays: Path, tmp_path: Path) -> None:
        """The best that was tried is written; status 1, and one line says so."""
        out, report = tmp_path / "out.onnx", tmp_path / "r.json"
        options = ["--calibration", "percentile", "--percentile", "60", "--samples", 16, "--report", report]
        result = cnn(LENET, "--data", arrays, "-o", out, "--keep-accuracy", "0%", "--exclude", "Gemm,/conv1/Conv", *options)
        data = json.loads(report.read_text())
        assert (result.status, data["kept"]) == (1, False)
        assert result.err == [f"cnnengine: no set of layers keeps the accuracy; {out} is the best that was tried"]
        assert data["accuracy_after"] == max(trial["accuracy"] for trial in data["trials"])
        assert told_right(out, arrays) == data["correct_after"]

    def test_without_classes_it_is_what_the_float_network_says(self, ort, arrays: Path) -> None:
        x = np.load(arrays)["image"][:60]
        found = cnnengine.quantize(NIN, x, calibration="percentile", percentile=95, keep_accuracy=0.05)
        assert found.accuracy_before is None and found.kept and found.float_layers
        assert found.same is not None and found.same >= 57

    def test_in_words(self, ort, cnn, arrays: Path, tmp_path: Path) -> None:
        options = ["--calibration", "percentile", "--percentile", "95", "--samples", 32, "--keep-accuracy", "6%"]
        result = cnn(NIN, "--data", arrays, "-o", tmp_path / "out.onnx", *options)
        assert result.status == 0
        text = "\n".join(result.out)
        assert "to lose no more than 6 %, " in text and " sets of layers were left in float:" in text
        assert "left in float: " in text and " in float" in text
        assert result.out[1].split() == ["layer", "operator", "own", "error", "dB", "error", "dB", "effect"]


# ---------------------------------------------------------------- samples


class TestSamples:
    def reading(self, names: tuple[str, ...] | None = ("null", "one", "two"), **options: Any) -> Reading:
        with cnnengine.load(LENET) as model:
            inputs, settings = model.inputs, Preprocess.of_model(model.metadata, model.inputs[0].shape)

        def refuse(path: str, error: CNNEngineError) -> None:
            raise error

        return Reading(inputs, lambda: settings, names, options.get("refuse", refuse))

    def labels(self, samples: Samples) -> list[int | None]:
        return [label for unit in samples.units() for label in unit.labels]

    def pictures(self, root: Path, *names: str) -> Path:
        for at, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), at, np.uint8)).save(path)
        return root

    def test_a_folder_for_each_class(self, tmp_path: Path) -> None:
        """By label, else by number; hidden and empty folders are none."""
        root = self.pictures(tmp_path, "two/a.png", "one/b.png", "one/c.png", "0/d.png", ".cache/e.png")
        (root / "empty").mkdir()
        (root / "notes.txt").write_text("of no matter")
        found = self.reading().of(root)
        assert self.labels(found) == [0, 1, 1, 2]
        assert found.labelled == 4

    def test_a_label_that_looks_like_a_number_is_a_label(self, tmp_path: Path) -> None:
        assert self.labels(self.reading(("7", "1", "x")).of(self.pictures(tmp_path, "7/a.png", "2/b.png"))) == [2, 0]

    def test_a_folder_of_files(self, tmp_path: Path) -> None:
        found = self.reading().of(self.pictures(tmp_path, "b.png", "a.png"))
        assert self.labels(found) == [None, None]
        assert [float(unit.feeds["image"][0, 0, 0, 0]) for unit in found.units()] == sorted(
            (float(unit.feeds["image"][0, 0, 0, 0]) for unit in found.units()), reverse=True
        )

    @pytest.mark.parametrize("separator", [",", "\t", ", "])
    def test_a_file_of_classes(self, tmp_path: Path, separator: str) -> None:
        root = self.pictures(tmp_path / "d", "a.png", "b, c.png", "e.png")
        (tmp_path / "t").write_text(f"b, c.png{separator}two\n\na.png{separator}0\n")
        assert self.labels(self.reading().of(root, tmp_path / "t")) == [0, 2, None]

    def test_arrays_carry_their_classes(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", image=np.zeros((3, 1, 32, 32), np.float32), labels=np.array([2, 0, 1]))
        assert self.labels(self.reading().of(tmp_path / "x.npz")) == [2, 0, 1]

    def test_batches_are_filled_up(self) -> None:
        x = np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1) * np.ones((1, 1, 32, 32), np.float32)
        reading = self.reading()
        samples = Samples(reading.of(x, [0, 1, 2, 3, 4])._samples, 2)
        units = list(samples.units())
        assert samples.runs == 3
        assert [unit.labels for unit in units] == [(0, 1), (2, 3), (4,)]
        assert units[2].feeds["image"][:, 0, 0, 0].tolist() == [4, 4]

    def test_what_is_beyond_the_memory_is_read_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("cnnengine.quantization.samples.KEPT_BYTES", 4096)  # one picture
        found = self.reading().of(self.pictures(tmp_path, "a.png", "b.png"))
        list(found.units())
        for name in ("a.png", "b.png"):
            Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / name)
        first, second = (float(unit.feeds["image"][0, 0, 0, 0]) for unit in found.units())
        assert first < second

    @pytest.mark.parametrize(
        ("names", "label", "said"),
        [
            (("null", "one"), "two", "no class of the model"),
            (None, "one", "the number of a class"),
            (("crane", "crane"), "crane", "several classes"),
            (("1", "1"), "1", "several classes"),
        ],
    )
    def test_classes_are_not_guessed(self, tmp_path: Path, names: tuple[str, ...] | None, label: str, said: str) -> None:
        root = self.pictures(tmp_path, f"{label}/a.png")
        with pytest.raises(InputError, match=said):
            self.reading(names).of(root)

    def test_what_is_refused(self, tmp_path: Path) -> None:
        root = self.pictures(tmp_path / "d", "one/a.png", "b.png")
        with pytest.raises(InputError, match="beside the folders of classes"):
            self.reading().of(root)
        (tmp_path / "t").write_text("a.png one\n")
        with pytest.raises(InputError, match=r"line 1.*not a path and a class"):
            self.reading().of(root / "one", tmp_path / "t")
        (tmp_path / "t").write_text("a.png,one\na.png,two\n")
        with pytest.raises(InputError, match=r"line 2.*a sample is named twice"):
            self.reading().of(root / "one", tmp_path / "t")
        (tmp_path / "t").write_text("a.png,one\nz.png,two\n")
        with pytest.raises(InputError, match=r"not among the samples.*z\.png"):
            self.reading().of(root / "one", tmp_path / "t")
        with pytest.raises(InputError, match="cannot read the samples' classes"):
            self.reading().of(root / "one", tmp_path / "none")
        np.savez(tmp_path / "x.npz", image=np.zeros((3, 1, 32, 32), np.float32), labels=np.zeros(2, int))
        with pytest.raises(InputError, match="not a class for each sample"):
            self.reading().of(tmp_path / "x.npz")


# ---------------------------------------------------------------- wrong use


class TestRefused:
    def one_line(self, result: Result, *parts: str) -> None:
        assert (result.status, result.out) == (2, [])
        (line,) = result.err
        assert line.startswith("cnnengine: ")
        for part in parts:
            assert part in line

    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["--data", "none"], ["none"]),
            (["--data", "empty"], ["nothing to calibrate on", "empty", ".png"]),
            ([], ["--data"]),
            (["--keep-accuracy", "0.5"], ["0.5%"]),
            (["--keep-accuracy", "x%"], ["0.5%"]),
            (["--keep-accuracy", "100%"], ["0.5%"]),
            (["--keep-accuracy", "-1%"], ["--keep-accuracy"]),
            (["--percentile", "99"], ["--calibration percentile"]),
            (["--calibration", "percentile", "--percentile", "50"], ["percentile"]),
            (["--calibration", "average"], ["average"]),
            (["--type", "s8u8"], ["s8u8"]),
            (["--format", "tflite"], ["tflite"]),
            (["--exclude", "/conv9/Conv"], ["no such node or operator", "/conv1/Conv"]),
            (["--exclude", "Softmax"], ["no such node or operator"]),
            (["--exclude", ","], ["--exclude"]),
            (["--exclude", "Conv,Gemm,MaxPool,Relu,Flatten"], ["no node can be quantised"]),
            (["--samples", "0"], ["--samples"]),
            (["--labels", "none.txt"], ["none.txt"]),
            (["--truth", "none.csv"], ["none.csv"]),
            (["--report", "none/r.json"], ["--report"]),
            (["--report", "out.onnx"], ["--report"]),
            (["-o", "none/out.onnx"], ["none"]),
            (["-o", "empty"], ["empty"]),
        ],
    )
    def test_wrong_arguments(
        self, ort, cnn, arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], parts: list[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "empty").mkdir()
        data = [] if "--data" in arguments or not arguments else ["--data", arrays]
        out = [] if "-o" in arguments else ["-o", "out.onnx"]
        self.one_line(cnn(LENET, *data, *out, *arguments), *parts)
        assert os.listdir(tmp_path) == ["empty"]

    def test_the_model_itself_is_not_written_over(self, ort, cnn, arrays: Path, tmp_path: Path) -> None:
        path = conv_net(tmp_path / "m.onnx")
        before = path.read_bytes()
        (tmp_path / "link.onnx").symlink_to(path)
        for out in (path, tmp_path / "." / "m.onnx", tmp_path / "link.onnx"):
            self.one_line(cnn(path, "--data", arrays, "-o", out), "the model itself")
        assert path.read_bytes() == before

    def test_a_model_that_is_quantised(self, ort, cnn, arrays: Path, tmp_path: Path) -> None:
        for form in ("qdq", "qoperator"):
            cnnengine.quantize(LENET, arrays, tmp_path / "q.onnx", format=form, samples=4)
            try:
                cnnengine.load(tmp_path / "q.onnx").close()
            except cnnengine.UnsupportedOperatorError:
                continue
            self.one_line(
                cnn(tmp_path / "q.onnx", "--data", arrays, "-o", tmp_path / "o.onnx"), "quantised already", "float model"
            )

    def test_no_model(self, ort, cnn, arrays: Path, tmp_path: Path) -> None:
        self.one_line(cnn(tmp_path / "none.onnx", "--data", arrays, "-o", tmp_path / "o.onnx"), "none.onnx")

    def test_nothing_that_can_be_quantised(self, ort, cnn, tmp_path: Path) -> None:
        path = saved(tmp_path / "m.onnx", [helper.make_node("Exp", ["x"], ["y"])], {"x": ["N", 3]}, {"y": ["N", 3]}, {})
        np.save(tmp_path / "x.npy", np.zeros((2, 3), np.float32))
        self.one_line(cnn(path, "--data", tmp_path / "x.npy", "-o", tmp_path / "o.onnx"), "no node can be quantised", "Conv")

    def test_without_the_extra(self, cnn, arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        for name in [n for n in sys.modules if n.startswith("onnxruntime.")]:
            monkeypatch.setitem(sys.modules, name, None)
        self.one_line(cnn(LENET, "--data", arrays, "-o", tmp_path / "o.onnx"), "pip install onnxruntime")

    def test_an_older_library(self, ort, cnn, arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import onnxruntime.quantization as library

        monkeypatch.setattr(library, "quantize_static", lambda model_input, model_output: None)
        self.one_line(cnn(LENET, "--data", arrays, "-o", tmp_path / "o.onnx"), "too old", "pip install --upgrade")

    def test_pictures_that_cannot_be_read_are_told(self, ort, cnn, digits: Path, tmp_path: Path) -> None:
        """Those that can be are used; status 1. Without any, there is nothing to do."""
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "bad.png").write_bytes(b"not a picture")
        result = cnn(LENET, "--data", tmp_path / "d", "-o", tmp_path / "o.onnx")
        assert (result.status, len(result.err)) == (2, 2)
        assert "bad.png" in result.err[0] and "no sample can be used" in result.err[1]
        for digit in "357":
            (tmp_path / "d" / f"{digit}.png").write_bytes((MODELS / "samples" / f"{digit}.png").read_bytes())
        result = cnn(LENET, "--data", tmp_path / "d", "-o", tmp_path / "o.onnx", "--report", tmp_path / "r.json")
        assert (result.status, len(result.err)) == (1, 1)
        assert json.loads((tmp_path / "r.json").read_text())["refused"].keys() == {str(tmp_path / "d" / "bad.png")}
        assert (tmp_path / "o.onnx").exists()
        with pytest.raises(InputError, match=r"bad\.png"):
            cnnengine.quantize(LENET, tmp_path / "d")

    def test_numbers_that_have_no_range(self, ort, cnn, arrays: Path, tmp_path: Path) -> None:
        x = np.load(arrays)["image"][:4].copy()
        x[2, 0, 0, 0] = np.nan
        np.save(tmp_path / "x.npy", x)
        result = cnn(LENET, "--data", tmp_path / "x.npy", "-o", tmp_path / "o.onnx", "--report", tmp_path / "r.json")
        assert result.status == 1
        assert "x.npy[2]" in result.err[0] and "NaN" in result.err[0]
        assert json.loads((tmp_path / "r.json").read_text())["calibrated"] == 3

    def test_a_class_that_the_model_lacks(self, ort, cnn, arrays: Path, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", image=np.load(arrays)["image"][:2], labels=np.array([1, 10]))
        self.one_line(cnn(LENET, "--data", tmp_path / "x.npz", "-o", tmp_path / "o.onnx"), "no such class", "0 to 9", "10")

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"format": "tflite"}, "format"),
            ({"type": "u8"}, "type"),
            ({"calibration": None}, "calibration"),
            ({"percentile": 20}, "percentile"),
            ({"per_channel": 2}, "per_channel"),
            ({"samples": 0}, "samples"),
            ({"exclude": "Conv"}, "exclude"),
            ({"keep_accuracy": 1.5}, "keep_accuracy"),
            ({"keep_accuracy": "0.5%"}, "keep_accuracy"),
            ({"out": 3}, "out"),
            ({"labels": 3}, "labels"),
            ({"truth": np.zeros(3)}, "labels"),
        ],
    )
    def test_wrong_values(self, ort, options: dict[str, Any], said: str) -> None:
        with pytest.raises(InputError, match=said):
            cnnengine.quantize(LENET, np.zeros((2, 1, 32, 32), np.float32), **options)


def test_nothing_of_it_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, cnnengine, cnnengine.cli\n"
        "told = lambda: print('cnnengine.quantization' in sys.modules, 'onnxruntime' in sys.modules)\n"
        "cnnengine.cli._parser(); told(); cnnengine.quantize; told()"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False", "True", "False"]
