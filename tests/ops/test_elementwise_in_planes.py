"""Activations, arithmetic and reductions behind a convolution, where tensors lie in planes; and what old versions meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine

SHAPE = (2, 19, 5, 6)


def behind_identity(
    op_type: str,
    opset: int,
    others: Sequence[np.ndarray],
    attributes: dict[str, Any],
    *,
    computed: bool,
    shape: tuple[int, ...] = SHAPE,
) -> tuple[np.ndarray, np.ndarray]:
    """x and the operator's output for a convolution of x that copies it; the other inputs are constants, or computed too."""
    c = shape[1]
    weights = np.eye(c, dtype=np.float32).reshape(c, c, *(1,) * (len(shape) - 2))
    names = [f"other{i}" for i in range(len(others))]
    nodes = [helper.make_node("Conv", ["x", "w"], ["middle"]), helper.make_node(op_type, ["middle", *names], ["y"], **attributes)]
    constants = [numpy_helper.from_array(weights, "w")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    feeds = {}
    for name, value in zip(names, others, strict=True):
        if computed:
            feeds[name] = value
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
        else:
            constants.append(numpy_helper.from_array(value, name))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (y,) = cnnengine.load(model, threads=1).run(None, {"x": x, **feeds})
    return x, y


def other(*shape: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(1).uniform(0.5, 2, shape), np.float32)


def softmax(x: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


Case = tuple[str, int, list[np.ndarray], dict[str, Any], Callable[..., np.ndarray]]
CASES: list[Case] = [
    ("Add", 6, [other(19)], {"broadcast": 1, "axis": 1}, lambda x, b: x + b[:, None, None]),
    ("Mul", 6, [other(5, 6)], {"broadcast": 1}, lambda x, b: x * b),
    ("Sub", 6, [other(2, 19)], {"broadcast": 1, "axis": 0}, lambda x, b: x - b[:, :, None, None]),
    ("Div", 1, [other(*SHAPE)], {}, lambda x, b: x / b),
    ("Add", 14, [other(19, 1, 1)], {}, lambda x, b: x + b),
    ("Mul", 14, [other(2, 19, 1, 1)], {}, lambda x, b: x * b),
    ("Mul", 14, [other(2, 1, 5, 6)], {}, lambda x, b: x * b),
    ("Mul", 14, [other(1, 19, 5, 1)], {}, lambda x, b: x * b),
    ("Sub", 14, [other(6)], {}, lambda x, b: x - b),
    ("Add", 14, [other(3, 1, 1, 1, 1)], {}, lambda x, b: x + b),
    ("Pow", 13, [np.float32(2)], {}, lambda x, b: x * x),
    ("Max", 13, [other(19, 1, 1), other()], {}, lambda x, a, b: np.maximum(np.maximum(x, a), b)),
    ("Mean", 13, [other(19, 1, 1), other(*SHAPE)], {}, lambda x, a, b: (x + a + b) / 3),
    ("PRelu", 6, [other(19)], {}, lambda x, s: np.where(x < 0, x * s[:, None, None], x)),
    ("PRelu", 6, [other(1)], {}, lambda x, s: np.where(x < 0, x * s, x)),
    ("PRelu", 16, [other(19, 1, 1)], {}, lambda x, s: np.where(x < 0, x * s, x)),
    ("PRelu", 16, [other(6)], {}, lambda x, s: np.where(x < 0, x * s, x)),
    ("Clip", 6, [], {"min": -0.5, "max": 0.75}, lambda x: np.clip(x, -0.5, 0.75)),
    ("Clip", 13, [np.float32(-0.5), np.float32(0.75)], {}, lambda x, a, b: np.clip(x, a, b)),
    ("Clip", 13, [np.float32(0.75), np.float32(-0.5)], {}, lambda x, a, b: np.minimum(np.maximum(x, a), b)),
    ("Clip", 13, [np.float32(0.25)], {}, lambda x, a: np.maximum(x, a)),
    ("Selu", 1, [], {}, lambda x: 1.0507 * np.where(x < 0, 1.6732 * np.expm1(x), x)),
    ("Softmax", 11, [], {}, lambda x: softmax(x.reshape(2, -1), 1).reshape(x.shape)),
    ("Softmax", 11, [], {"axis": 2}, lambda x: softmax(x, (2, 3))),
    ("Softmax", 13, [], {"axis": 1}, lambda x: softmax(x, 1)),
    ("Softmax", 13, [], {}, lambda x: softmax(x, 3)),
    ("ReduceMax", 11, [], {"axes": [1], "keepdims": 0}, lambda x: x.max(1)),
    ("ReduceSum", 11, [], {"axes": [-1, 0]}, lambda x: x.sum((0, 3), keepdims=True)),
    ("ReduceL2", 13, [], {}, lambda x: np.sqrt(np.square(x).sum(keepdims=True))),
    ("ArgMax", 13, [], {"axis": 1}, lambda x: x.argmax(1)[:, None]),
    ("Swish", 24, [], {"alpha": 1.702}, lambda x: x / (1 + np.exp(-1.702 * x))),
    ("Round", 11, [], {}, np.rint),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1]}")
@pytest.mark.parametrize("computed", [False, True], ids=["constants", "inputs"])
def test_behind_a_convolution(case: Case, computed: bool) -> None:
    op_type, opset, others, attributes, function = case
    if computed and not others:
        pytest.skip("has no other input")
    x, y = behind_identity(op_type, opset, others, attributes, computed=computed)
    want = function(x, *others)
    assert y.shape == want.shape
    np.testing.assert_allclose(y, want, rtol=3e-6, atol=1e-6)


def test_a_slope_does_not_widen_its_input() -> None:
    with pytest.raises(cnnengine.CNNEngineError, match="slope does not broadcast"):
        behind_identity("PRelu", 16, [other(3, 1, 19, 1, 1)], {}, computed=True)


def test_an_axis_that_is_not_there() -> None:
    with pytest.raises(cnnengine.CNNEngineError, match="no such axis"):
        behind_identity("Softmax", 13, [], {"axis": 4}, computed=False)
