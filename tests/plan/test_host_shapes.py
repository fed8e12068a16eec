"""Nodes on the host whose results are not what their operators say: an error with both shapes, and nothing is spread out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import cnnengine
from cnnengine.errors import ShapeError
from cnnengine.model import inside
from cnnengine.plan.plan import HostStep

SHAPE = (3, 4)


def model(monkeypatch: pytest.MonkeyPatch, result: Any) -> cnnengine.Model:
    """A model of a node on the host between two others; the node gives `result` of its input."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Softmax", ["a"], ["b"], name="softmax"),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.DOUBLE, SHAPE)
    graph = helper.make_graph(nodes, "g", [x], [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    made = cnnengine.load(data, threads=1)
    (segment,) = inside(made).program.segments()
    (step,) = (piece for piece in segment.plan.pieces if isinstance(piece, HostStep) and piece.node == "softmax")
    if result is not None:
        monkeypatch.setattr(step, "run", result)
    return made


X = np.random.default_rng(0).standard_normal(SHAPE)


def test_the_right_shape_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    powers = np.exp(np.maximum(X, 0))
    want = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model(monkeypatch, None)(X), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(1,), (), (1, 4), (3, 1), (4,), (4, 3), (12,), (1, 3, 4)])
def test_another_shape_is_an_error(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        model(monkeypatch, lambda a: [np.ones(shape)])(X)
    error = caught.value
    assert (error.node, error.operator, error.expected, error.received) == ("softmax", "Softmax", SHAPE, shape)


def test_no_result_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for results in ([], [None]):
        with pytest.raises(ShapeError, match="no result"):
            model(monkeypatch, lambda a, given=results: given)(X)
