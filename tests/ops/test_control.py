"""If, where a branch does not fit the shapes at hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine import CNNEngineError

F = TensorProto.FLOAT


def model() -> onnx.ModelProto:
    """A network for rows of 3 and one for rows of 5, chosen by a number that is fed."""

    def branch(name: str, size: int) -> onnx.GraphProto:
        w = numpy_helper.from_array(np.full((size, 2), size, np.float32), f"w{size}")
        node = helper.make_node("MatMul", ["x", f"w{size}"], [f"y{size}"], name=f"MatMul{size}")
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(f"y{size}", F, None)], [w])

    nodes = [
        helper.make_node("Equal", ["size", "three"], ["c"]),
        helper.make_node("If", ["c"], ["y"], name="choice", then_branch=branch("then", 3), else_branch=branch("else", 5)),
    ]
    inputs = [helper.make_tensor_value_info("x", F, ["n", "k"]), helper.make_tensor_value_info("size", TensorProto.INT64, [])]
    graph = helper.make_graph(
        nodes, "g", inputs, [helper.make_tensor_value_info("y", F, None)], [numpy_helper.from_array(np.array(3), "three")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("size", [3, 5])
def test_the_branch_that_is_not_taken_may_not_fit(size: int) -> None:
    x = np.ones((4, size), np.float32)
    (y,) = cnnengine.load(model()).run(None, {"x": x, "size": np.array(size)})
    np.testing.assert_array_equal(y, np.full((4, 2), size * size, np.float32))


def test_the_branch_that_is_taken_must_fit() -> None:
    loaded = cnnengine.load(model())
    with pytest.raises(CNNEngineError, match="choice"):
        loaded.run(None, {"x": np.ones((4, 3), np.float32), "size": np.array(5)})
    with pytest.raises(CNNEngineError, match="choice"):
        loaded.run(None, {"x": np.ones((4, 7), np.float32), "size": np.array(5)})
