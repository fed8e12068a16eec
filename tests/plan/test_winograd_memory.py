"""The bound on the memory of transformed weights, the option that sets it, and weights that are not transformed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine import InferenceSession, SessionOptions
from cnnengine.graph import Node
from cnnengine.ops.conv import Conv
from cnnengine.plan.budget import ALLOWANCE, allowed, choose_transforms
from cnnengine.report import summarize
from cnnengine.spec import TensorSpec

FLOAT32 = np.dtype(np.float32)


def plan(*layers: tuple[int, int, int, int]) -> tuple[list[Node], dict[str, TensorSpec]]:
    """Convolutions of 3x3, padded: (input channels, output channels, pixels of a side, number of the weights)."""
    nodes, specs = [], {}
    for index, (c, o, side, weights) in enumerate(layers):
        specs[f"x{index}"] = TensorSpec(FLOAT32, (1, c, side, side))
        specs[f"w{weights}"] = TensorSpec(FLOAT32, (o, c, 3, 3), np.zeros((o, c, 3, 3), np.float32))
        nodes.append(Node(Conv(pads=(1, 1, 1, 1)), (f"x{index}", f"w{weights}"), (f"y{index}",)))
    return nodes, specs


def extra(c: int, o: int, matrices: int) -> int:
    return 4 * c * o * (matrices - 9) + c * o * 9 // 4


def test_all_are_transformed_where_the_limit_allows() -> None:
    nodes, specs = plan((64, 64, 56, 0), (128, 128, 28, 1), (256, 256, 7, 2), (64, 8, 4, 3))
    assert choose_transforms(nodes, specs, 8, math.inf) == {"y0": (4, 4), "y1": (4, 4), "y2": (2, 2)}
    whole = extra(64, 64, 36) + extra(128, 128, 36) + extra(256, 256, 16)
    assert choose_transforms(nodes, specs, 8, whole) == choose_transforms(nodes, specs, 8, math.inf)
    assert choose_transforms(nodes, specs, 8, whole - 1) != choose_transforms(nodes, specs, 8, math.inf)


def test_what_saves_most_per_byte_comes_first() -> None:
    nodes, specs = plan((256, 256, 14, 0), (64, 64, 56, 1), (256, 256, 28, 2))
    assert choose_transforms(nodes, specs, 8, extra(64, 64, 36)) == {"y1": (4, 4)}
    some = choose_transforms(nodes, specs, 8, extra(64, 64, 36) + extra(256, 256, 16))
    assert some == {"y1": (4, 4), "y2": (2, 2)}
    assert choose_transforms(nodes, specs, 8, 0) == {}


def test_smaller_tiles_are_a_step_on_the_way() -> None:
    nodes, specs = plan((256, 256, 28, 0), (256, 256, 28, 1))
    assert choose_transforms(nodes, specs, 8, 2 * extra(256, 256, 16)) == {"y0": (2, 2), "y1": (2, 2)}
    assert choose_transforms(nodes, specs, 8, extra(256, 256, 16) + extra(256, 256, 36)) == {"y0": (4, 4), "y1": (2, 2)}


def test_shared_weights_count_once() -> None:
    nodes, specs = plan((64, 64, 56, 0), (64, 64, 28, 0))
    assert choose_transforms(nodes, specs, 8, extra(64, 64, 36)) == {"y0": (4, 4), "y1": (4, 4)}


@pytest.mark.parametrize("limit", [0, 50_000, 200_000, 700_000, 1_500_000, 5_000_000])
def test_the_limit_holds_whatever_is_chosen(limit: int) -> None:
    layers = [(64, 64, 56, 0), (64, 128, 28, 1), (128, 128, 28, 2), (128, 256, 14, 3), (256, 256, 7, 4), (32, 32, 9, 5)]
    nodes, specs = plan(*layers)
    found = choose_transforms(nodes, specs, 8, limit)
    taken = sum(extra(c, o, (found[f"y{i}"][0] + 2) ** 2) for i, (c, o, _, _) in enumerate(layers) if f"y{i}" in found)
    assert taken <= limit
    assert found or limit < 100_000


def test_allowed() -> None:
    assert allowed(True, 1000, False) == ALLOWANCE + 1000
    assert allowed(True, 1000, True) == ALLOWANCE
    assert allowed(3.0, 1000, True) == 2000
    assert allowed(1.0, 1000, False) == 0
    assert allowed(math.inf, 1000, True) == math.inf


def model(value: float | None = None, count: int = 2) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for i in range(count):
        w = (rng.standard_normal((64, 64, 3, 3)) / 24).astype(np.float32)
        if value is not None and i == 0:
            w[5, 6, 1, 2] = value
        weights.append(numpy_helper.from_array(w, f"w{i}"))
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"y{i}"], pads=[1] * 4))
        last = f"y{i}"
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 20, 20])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [None] * 4)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def transformed(loaded: cnnengine.Model) -> list[bool]:
    return ["winograd" in layer.kernels for layer in summarize(loaded).layers if layer.operator == "Conv"]


@pytest.mark.parametrize(
    ("option", "count"), [(True, 2), (False, 0), (1, 0), (1.5, 1), (4.1, 2), (math.inf, 2), (np.True_, 2), (np.float32(1), 0)]
)
def test_the_option_bounds_the_weights(option, count) -> None:
    with cnnengine.load(model(), winograd=option) as loaded:
        assert sum(transformed(loaded)) == count


@pytest.mark.parametrize("option", [0, 0.5, -1, math.nan, "on", None, [1]])
def test_other_options_are_refused(option) -> None:
    with pytest.raises(cnnengine.InputError, match="winograd"):
        cnnengine.load(model(), winograd=option)


def test_the_option_of_a_session_and_of_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(model(), path)
    x = np.random.default_rng(1).standard_normal((1, 64, 20, 20)).astype(np.float32)
    want = cnnengine.load(path, winograd=False)(x)
    for text, same in (("off", True), ("1", True), ("on", False), ("4.1", False)):
        options = SessionOptions()
        options.add_session_config_entry("cnnengine.winograd", text)
        got = InferenceSession(path, options).run(None, {"x": x})[0]
        assert np.array_equal(got, want) == same
    options = SessionOptions()
    options.add_session_config_entry("cnnengine.winograd", "often")
    with pytest.raises(cnnengine.InputError, match="winograd"):
        InferenceSession(path, options)
    for text, chosen in (("off", False), ("on", True)):
        command = [sys.executable, "-m", "cnnengine", "profile", str(path), "--seconds", "0", "--json", "--winograd", text]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert ("winograd" in json.dumps(json.loads(done.stdout))) == chosen
    done = subprocess.run([*command[:-1], "often"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "number from 1 on" in done.stderr


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e35])
def test_weights_that_no_transform_keeps_are_used_directly(value: float, threads: int) -> None:
    x = np.random.default_rng(1).standard_normal((1, 64, 20, 20)).astype(np.float32)
    with cnnengine.load(model(value), winograd=False) as direct, cnnengine.load(model(value), threads=threads) as loaded:
        assert transformed(loaded) == [False, True]
        with np.errstate(all="ignore"):
            got, want = loaded.run(["y1"], {"x": x})[0], direct.run(["y1"], {"x": x})[0]
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


def test_external_data_leave_less_memory(tmp_path: Path) -> None:
    """Beside files of weights onnxruntime holds one copy of them, not two."""
    path = tmp_path / "net.onnx"
    proto = model(count=80)
    onnx.save(proto, tmp_path / "whole.onnx")
    onnx.save(proto, path, save_as_external_data=True, location="net.data", size_threshold=0)
    with cnnengine.load(tmp_path / "whole.onnx") as whole, cnnengine.load(path) as apart:
        assert all(transformed(whole))
        count = sum(transformed(apart))
    assert count * extra(64, 64, 16) <= ALLOWANCE
    assert 0 < count < 80 or 80 * extra(64, 64, 16) <= ALLOWANCE


CHILD = """
import sys, threading
import numpy as np
import cnnengine

result = []

def work():
    model = cnnengine.load(sys.argv[1], threads=1)
    result.append(model(np.ones((1, 64, 20, 20), np.float32)))

cnnengine.load(sys.argv[1], threads=1)
threading.stack_size(int(sys.argv[2]) << 10)
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert result and np.isfinite(result[0]).all()
"""


@pytest.mark.parametrize("kilobytes", [128, 96])
def test_threads_with_small_stacks_load_and_run(kilobytes: int, tmp_path: Path) -> None:
    """Of what is on the stack, the interpreter takes most."""
    path = tmp_path / "net.onnx"
    onnx.save(model(), path)
    done = subprocess.run([sys.executable, "-c", CHILD, str(path), str(kilobytes)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
