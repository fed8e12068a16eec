"""widen_half: what is computed in float32 instead of half precision, and where it is rounded."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from cnnengine.graph import Graph, Node
from cnnengine.ops.activation import Relu, Sigmoid
from cnnengine.ops.cast import Cast, CastLike
from cnnengine.ops.choose import TopK
from cnnengine.ops.elementwise import Add, Equal, Mul
from cnnengine.ops.shape import Reshape
from cnnengine.ops.transpose import Transpose
from cnnengine.rewrites import simplify
from cnnengine.rewrites.widen_half import widen_half
from cnnengine.spec import TensorSpec

HALF = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
F32 = np.dtype(np.float32)


def graph(nodes: list[Node], dtype: np.dtype, outputs: tuple[str, ...] = ("y",), **constants: np.ndarray) -> Graph:
    return Graph({"x": TensorSpec(dtype, (2, 3))}, {o: TensorSpec(dtype, None) for o in outputs}, nodes, dict(constants))


def node(op: object, inputs: str, outputs: str) -> Node:
    return Node(op, tuple(inputs.split()), tuple(outputs.split()), outputs)  # type: ignore[arg-type]


def kinds(g: Graph) -> list[str]:
    return [n.op.op_type for n in g.nodes]


@pytest.mark.parametrize("dtype", HALF)
def test_a_chain_rounds_at_its_end_alone(dtype: np.dtype) -> None:
    w = np.float32([[1.1], [0.3]]).astype(dtype)
    before = graph([node(Mul(), "x w", "a"), node(Sigmoid(), "a", "b"), node(Add(), "b x", "y")], dtype, w=w)
    after = simplify(before)
    assert kinds(after) == ["Cast", "Mul", "Add", "Cast"]  # the sigmoid went into the product
    x = np.linspace(-3, 3, 6).reshape(2, 3).astype(dtype)
    (y,) = after.evaluate({"x": x})
    wide, factor = x.astype(np.float32), w.astype(np.float32)
    product = (wide * factor).astype(np.float64)
    want = ((1 / (1 + np.exp(-product))).astype(np.float32) + wide).astype(dtype)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, want)
    # rounding after each node gives nearly the same
    (plain,) = before.evaluate({"x": x})
    np.testing.assert_allclose(y.astype(float), plain.astype(float), rtol=4 * float(ml_dtypes.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", HALF)
def test_what_only_moves_stays_as_it_is(dtype: np.dtype) -> None:
    before = graph([node(Transpose((1, 0)), "x", "a"), node(Reshape((6,)), "a", "y")], dtype)
    assert widen_half(before) is before


def test_a_network_of_float32_stays_as_it_is() -> None:
    before = graph([node(Relu(), "x", "y")], F32)
    assert widen_half(before) is before


@pytest.mark.parametrize("dtype", HALF)
def test_moves_behind_computation_move_float32(dtype: np.dtype) -> None:
    before = graph([node(Relu(), "x", "a"), node(Transpose((1, 0)), "a", "b"), node(Sigmoid(), "b", "y")], dtype)
    assert kinds(simplify(before)) == ["Cast", "Relu", "Transpose", "Sigmoid", "Cast"]


def test_the_files_own_casts_round() -> None:
    """float32 to float16 inside a file is a rounding that its author asked for."""
    nodes = [node(Relu(), "x", "a"), node(Cast(HALF[0]), "a", "b"), node(Add(), "b b", "c"), node(Cast(F32), "c", "y")]
    after = simplify(graph(nodes, F32))
    x = np.float32([[1.0001, 2.0003, 70000], [0, 1, 2]])
    (y,) = after.evaluate({"x": x})
    assert y.dtype == np.float32
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(y, 2 * x.astype(np.float16).astype(np.float32))


def test_results_of_other_types_stay() -> None:
    nodes = [node(Relu(), "x", "a"), node(TopK(k=2), "a", "values places"), node(Equal(), "a x", "same")]
    after = simplify(graph(nodes, HALF[0], ("values", "places", "same")))
    values, places, same = after.evaluate({"x": np.float16([[1, 3, -2], [0, 5, 4]])})
    assert (values.dtype, places.dtype, same.dtype) == (np.float16, np.int64, np.bool_)
    assert values.tolist() == [[3, 1], [5, 4]]
    assert places.tolist() == [[1, 0], [1, 2]]
    assert same.tolist() == [[True, True, False], [True, True, True]]


def test_cast_like_a_half() -> None:
    nodes = [node(Relu(), "x", "a"), node(CastLike(), "one a", "b"), node(Add(), "a b", "y")]
    (y,) = simplify(graph(nodes, HALF[1], one=np.float32([1.001]))).evaluate({"x": np.ones((2, 3), HALF[1])})
    assert y.dtype == HALF[1]
    assert (y.astype(float) == 2).all()
