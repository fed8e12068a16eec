"""Which convolutions of a model run as Winograd, and that they give what the direct ones give."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine.report import summarize
from cnnengine.runtime.runner import fill_arenas

TOLERANCE = 1e-5
"""Of max |y|, against the direct algorithm."""


@pytest.fixture(autouse=True)
def rubbish():
    fill_arenas(255)
    yield
    fill_arenas(None)


def net(x_shape, w_shape, **attributes):
    """Relu(Conv(x)): the input gets its halo from the operator before."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal(w_shape).astype(np.float32)
    bias = rng.standard_normal(w_shape[0]).astype(np.float32)
    rank = len(x_shape)
    graph = helper.make_graph(
        [
            helper.make_node("Neg", ["x"], ["a"]),
            helper.make_node("Conv", ["a", "w", "b"], ["c"], name="conv", **attributes),
            helper.make_node("Relu", ["c"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x_shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(bias, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def kernels_of_conv(model) -> tuple[str, ...]:
    return next(layer.kernels for layer in summarize(model).layers if layer.operator == "Conv")


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "attributes", "chosen"),
    [
        ((1, 32, 14, 14), (32, 32, 3, 3), {"pads": [1] * 4}, True),
        ((1, 32, 7, 7), (32, 32, 3, 3), {"pads": [1] * 4}, True),  # tiles of 2x2
        ((1, 32, 4, 7), (32, 32, 3, 3), {"pads": [1] * 4}, False),  # eight of them
        ((1, 16, 7, 7), (16, 16, 3, 3), {"pads": [1] * 4}, False),
        ((1, 32, 14, 14), (32, 32, 3, 3), {"pads": [1] * 4, "strides": [2, 2]}, False),
        ((1, 32, 32, 32), (40, 32, 3, 3), {"pads": [1] * 4, "strides": [2, 2]}, True),
        ((1, 96, 27, 30), (100, 96, 3, 3), {"pads": [1, 0, 1, 1], "strides": [2, 2]}, True),
        ((1, 32, 32, 32), (40, 32, 3, 3), {"pads": [1] * 4, "strides": [2, 1]}, False),
        ((1, 24, 32, 32), (40, 24, 3, 3), {"pads": [1] * 4, "strides": [2, 2]}, False),
        ((1, 96, 17, 17), (40, 96, 3, 3), {"pads": [1] * 4, "strides": [2, 2]}, False),  # 9 pixels, tiles for 12
        ((1, 32, 64), (40, 32, 3), {"pads": [1, 1], "strides": [2]}, False),
        ((1, 32, 14, 14), (32, 32, 3, 3), {"pads": [2] * 4, "dilations": [2, 2]}, True),
        ((1, 32, 17, 16), (40, 32, 3, 3), {"pads": [4] * 4, "dilations": [4, 4]}, True),
        ((1, 352, 15, 16), (352, 352, 3, 3), {"pads": [2] * 4, "dilations": [2, 2]}, True),  # so many weights that tiles are 2x2
        ((1, 32, 20, 20), (40, 32, 3, 3), {"pads": [6] * 4, "dilations": [6, 6]}, False),
        ((1, 32, 9, 9), (40, 32, 3, 3), {"pads": [4] * 4, "dilations": [4, 4]}, False),  # three pixels of four
        ((1, 32, 40, 40), (40, 32, 3, 3), {"pads": [2] * 4, "dilations": [2, 2], "strides": [2, 2]}, False),
        ((1, 96, 64, 64), (40, 96, 3, 3), {"pads": [2] * 4, "dilations": [2, 2], "strides": [2, 2]}, False),  # tiles that pay
        ((1, 32, 14, 14), (32, 32, 1, 3), {"pads": [0, 1, 0, 1]}, True),
        ((1, 32, 14, 14), (32, 32, 3, 1), {"pads": [1, 0, 1, 0]}, True),
        ((1, 32, 14, 14), (32, 32, 1, 5), {"pads": [0, 2, 0, 2]}, True),
        ((1, 32, 14, 14), (32, 32, 5, 1), {"pads": [2, 0, 2, 0]}, True),
        ((1, 32, 14, 14), (32, 32, 1, 7), {"pads": [0, 3, 0, 3]}, True),
        ((1, 32, 14, 14), (32, 32, 7, 1), {"pads": [3, 0, 3, 0]}, True),
        ((1, 32, 14, 14), (32, 32, 1, 9), {"pads": [0, 4, 0, 4]}, False),
        ((1, 32, 14, 14), (32, 32, 3, 5), {"pads": [1, 2, 1, 2]}, False),
        ((1, 24, 14, 13), (32, 24, 5, 5), {"pads": [2] * 4}, True),
        ((1, 24, 14, 14), (32, 24, 5, 5), {"pads": [2] * 4, "strides": [2, 1]}, False),
        ((1, 48, 14, 13), (40, 24, 5, 5), {"pads": [2] * 4, "group": 2}, True),
        ((1, 32, 20), (32, 32, 3), {"pads": [1, 1]}, False),
        ((1, 32, 48), (32, 32, 3), {"pads": [1, 1]}, True),
        ((1, 40, 101), (32, 40, 5), {"pads": [2, 2]}, True),
        ((1, 64, 101), (72, 32, 3), {"pads": [1, 1], "group": 2}, True),
        ((1, 64, 101), (40, 64, 3), {"pads": [2, 2], "dilations": [2]}, True),
        ((1, 64, 101), (40, 64, 3), {"pads": [8, 8], "dilations": [8]}, False),
        ((1, 32, 14, 4, 14), (32, 32, 3, 1, 3), {"pads": [1, 0, 1] * 2}, False),
        ((1, 64, 14, 14), (64, 32, 3, 3), {"pads": [1] * 4, "group": 2}, True),
        ((1, 48, 14, 14), (72, 24, 3, 3), {"pads": [1] * 4, "group": 2}, True),  # groups that end within a block
        ((1, 64, 14, 14), (64, 4, 3, 3), {"pads": [1] * 4, "group": 16}, False),
        ((1, 32, 4, 14, 14), (32, 32, 3, 3, 3), {"pads": [1] * 6}, True),
        ((1, 32, 5, 14, 13), (40, 32, 3, 3, 3), {"pads": [1] * 6, "strides": [2, 1, 1]}, True),
        ((1, 32, 4, 14, 14), (32, 32, 1, 3, 3), {"pads": [0, 1, 1, 0, 1, 1]}, True),
        ((1, 32, 4, 14, 14), (32, 32, 1, 3, 3), {"pads": [1, 1, 1, 2, 1, 1], "strides": [2, 1, 1]}, True),
        ((1, 64, 4, 14, 14), (32, 32, 3, 3, 3), {"pads": [1] * 6, "group": 2}, True),
        ((1, 32, 4, 14, 14), (32, 32, 3, 5, 5), {"pads": [1, 2, 2] * 2}, True),
        ((1, 32, 4, 14, 14), (32, 32, 3, 1, 1), {"pads": [1, 0, 0] * 2}, False),
        ((1, 32, 4, 14, 14), (32, 32, 3, 3, 3), {"pads": [2, 1, 1] * 2, "dilations": [2, 1, 1]}, False),
        ((1, 32, 4, 14, 14), (32, 32, 3, 3, 3), {"pads": [1] * 6, "strides": [1, 2, 2]}, False),
    ],
)
def test_choice_and_result(x_shape, w_shape, attributes, chosen, isa, threads):
    x = np.random.default_rng(1).standard_normal(x_shape).astype(np.float32)
    model = net(x_shape, w_shape, **attributes)
    with cnnengine.load(model, threads=threads, fallback="error", winograd=False) as direct:
        assert "winograd" not in kernels_of_conv(direct)
        want = direct(x)
    with cnnengine.load(model, threads=threads, fallback="error") as fast:
        assert ("winograd" in kernels_of_conv(fast)) == chosen
        got = fast(x)
    assert np.abs(got - want).max() <= TOLERANCE * np.abs(want).max()


def test_layers_that_share_weights_have_their_own_transforms(isa, threads):
    """One tensor of weights, read at strides, dilations and plane sizes that take different tiles."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((64, 64, 3, 3)).astype(np.float32) / 24
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["near"], pads=[1] * 4),
        helper.make_node("Conv", ["x", "w"], ["half"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Conv", ["x", "w"], ["far"], pads=[2] * 4, dilations=[2, 2]),
        helper.make_node("MaxPool", ["x"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["small", "w"], ["tiny"], pads=[1] * 4),
    ]
    names = ["near", "half", "far", "tiny"]
    graph = helper.make_graph(
        nodes,
        "shared",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 32, 32])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    x = rng.standard_normal((1, 64, 32, 32)).astype(np.float32)
    with cnnengine.load(model, threads=threads, winograd=False) as direct, cnnengine.load(model, threads=threads) as fast:
        layers = [layer for layer in summarize(fast).layers if layer.operator == "Conv"]
        assert all("winograd" in layer.kernels for layer in layers)
        for name, want, got in zip(names, direct.run(names, {"x": x}), fast.run(names, {"x": x}), strict=True):
            assert np.abs(got - want).max() <= TOLERANCE * np.abs(want).max(), name
