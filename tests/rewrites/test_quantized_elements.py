"""quantized_elements: what it makes of sums, products and joins of dequantised tensors, what it leaves, and why; to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import Builder, kinds

from cnnengine.graph import Graph
from cnnengine.ops.pieces import Concat
from cnnengine.ops.quantized import DequantizeLinear, QuantizeLinear
from cnnengine.ops.quantized_elements import QuantizedAdd, QuantizedMul
from cnnengine.rewrites import explaining, simplify
from cnnengine.rewrites.nodes import Nodes
from cnnengine.rewrites.quantized_elements import quantized_elements


def steps(b: Builder, scale: Any = 0.25, zero: Any = 100, dtype: type = np.uint8) -> tuple[str, str]:
    return b.constant(scale), b.constant(zero, dtype)


def tensor(b: Builder, name: str, scale: Any = 0.25, zero: Any = 100, dtype: type = np.uint8, shape: Any = (2, 3, 4, 5)) -> str:
    """A float tensor that was quantised, of numbers that reach both ends."""
    x = b.input(*shape, name=name)
    b.feeds[name] *= np.float32(20)
    by = steps(b, scale, zero, dtype)
    return b.node(DequantizeLinear(), b.node(QuantizeLinear(), x, *by), *by)


def given(b: Builder, y: str, scale: Any = 0.5, zero: Any = 30, dtype: type = np.uint8) -> Graph:
    return b.graph(b.node(QuantizeLinear(), y, *steps(b, scale, zero, dtype)))


def rewritten(b: Builder, graph: Graph) -> Graph:
    """After the rewrites; with scales that are powers of two it gives the bits that the floats gave."""
    after = simplify(graph)
    for got, want in zip(after.evaluate(b.feeds), graph.evaluate(b.feeds), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    return after


def made(graph: Graph) -> list[Any]:
    return [n.op for n in graph.nodes if isinstance(n.op, (QuantizedAdd, QuantizedMul))]


@pytest.mark.parametrize("dtypes", [(np.uint8,) * 3, (np.int8, np.uint8, np.uint8), (np.uint8, np.int8, np.int8), (np.int8,) * 3])
@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul"])
def test_two_operands(kind: str, dtypes: tuple[type, ...]) -> None:
    b = Builder()
    zeros = [-28 if t == np.int8 else 100 for t in dtypes]
    y = b.node(kind, tensor(b, "x", 0.25, zeros[0], dtypes[0]), tensor(b, "z", 0.5, zeros[1], dtypes[1]))
    after = rewritten(b, given(b, y, 1.0, zeros[2], dtypes[2]))
    (op,) = made(after)
    assert isinstance(op, QuantizedMul if kind == "Mul" else QuantizedAdd)
    assert (op.a_scale, op.a_zero, op.b_zero, op.scale, op.zero, op.low, op.high) == (0.25, 100, 100, 1.0, 100, -100, 155)
    assert op.b_scale == (-0.5 if kind == "Sub" else 0.5)
    assert not {"Add", "Sub", "Mul", "DequantizeLinear"} & set(kinds(after))


@pytest.mark.parametrize(("low", "high", "bounds"), [(0.0, None, (0, 225)), (-1.0, 6.0, (-2, 12)), (None, 0.26, (-30, 1))])
def test_the_activation_between_becomes_bounds(low: float | None, high: float | None, bounds: tuple[int, int]) -> None:
    b = Builder()
    y = b.node("Add", tensor(b, "x"), tensor(b, "z"))
    if (low, high) == (0.0, None):
        y = b.node("Relu", y)
    else:
        y = b.node("Clip", y, "" if low is None else b.constant(low), "" if high is None else b.constant(high))
    after = rewritten(b, given(b, y))
    (op,) = made(after)
    assert (op.low, op.high) == bounds
    assert not {"Relu", "Clip"} & set(kinds(after))


def test_any_scales_round_as_the_operator_says() -> None:
    """Scales that are no powers of two: ratios, products and the sum are rounded one by one."""
    b = Builder()
    y = b.node("Add", tensor(b, "x", 0.0371), tensor(b, "z", 0.0113, 7))
    (got,) = simplify(given(b, y, 0.0291, 99)).evaluate(b.feeds)
    f = np.float32
    x = np.clip(np.rint(b.feeds["x"] / f(0.0371)) + 100, 0, 255).astype(f) - f(100)
    z = np.clip(np.rint(b.feeds["z"] / f(0.0113)) + 7, 0, 255).astype(f) - f(7)
    total = x * (f(0.0371) / f(0.0291)) + z * (f(0.0113) / f(0.0291))
    np.testing.assert_array_equal(got, np.clip(np.rint(total) + 99, 0, 255))


def reason(b: Builder, graph: Graph) -> str:
    """Why the rewrite leaves it, alone; what all of them make of it is without operators of its own, and the same."""
    with explaining() as reasons:
        assert not quantized_elements.apply(Nodes.of_graph(graph))
    assert not made(rewritten(b, graph))
    found = [r.reason for r in reasons.values()]
    return found[0] if found else ""


@pytest.mark.parametrize("kind", ["Add", "Mul", "Concat"])
def test_what_is_left_and_why(kind: str) -> None:
    op: Any = Concat(1) if kind == "Concat" else kind
    b = Builder()
    assert "no quantised tensor" in reason(b, given(b, b.node(op, tensor(b, "x"), b.input(2, 3, 4, 5, name="z"))))
    b = Builder()
    assert "no quantised tensor" in reason(b, given(b, b.node(op, tensor(b, "x"), b.random(2, 3, 4, 5))))
    b = Builder()
    other = tensor(b, "z", [0.25, 0.5, 1.0], [1, 2, 3])
    assert "no quantised tensor" in reason(b, given(b, b.node(op, tensor(b, "x"), other)))
    b = Builder()
    y = b.node(op, tensor(b, "x"), tensor(b, "z"))
    assert "alone reads it" in reason(b, b.graph(y, b.node(QuantizeLinear(), y, *steps(b))))
    b = Builder()
    y = b.node("Tanh", b.node(op, tensor(b, "x"), tensor(b, "z")))
    assert "alone reads it" in reason(b, given(b, y))
    b = Builder()
    channels = 6 if kind == "Concat" else 3
    y = b.node(op, tensor(b, "x"), tensor(b, "z"))
    assert "alone reads it" in reason(b, given(b, y, [0.5] * channels, [30] * channels))
    b = Builder()
    y = b.node(op, b.input(2, 3, 4, 5, name="x"), b.input(2, 3, 4, 5, name="z"))
    assert not reason(b, given(b, y))


def test_bounds_and_ratios_that_no_kernel_serves() -> None:
    b = Builder()
    y = b.node("Clip", b.node("Add", tensor(b, "x"), tensor(b, "z")), b.constant(2.0), b.constant(1.0))
    assert "alone reads it" in reason(b, given(b, y))  # what it clips to is no interval
    for kind, scale in (("Add", 2.0**22), ("Mul", 2.0**10)):
        b = Builder()
        y = b.node(kind, tensor(b, "x", scale), tensor(b, "z", scale))
        assert "too large" in reason(b, given(b, y, 2.0**-3))


def test_an_activation_that_is_read_elsewhere_stays() -> None:
    b = Builder()
    y = b.node("Relu", b.node("Add", tensor(b, "x"), tensor(b, "z")))
    graph = b.graph(b.node(QuantizeLinear(), y, *steps(b)), b.node("Neg", y))
    assert not made(simplify(graph))


@pytest.mark.parametrize("signed", [False, True])
def test_joins(signed: bool) -> None:
    """Of three parts one has the steps of the result: it is joined as it is."""
    b = Builder()
    dtype, zero = (np.int8, -28) if signed else (np.uint8, 100)
    parts = [tensor(b, "x", 0.25, zero, dtype), tensor(b, "z", 0.5, zero, dtype), tensor(b, "u", 0.25, 3, np.uint8)]
    after = rewritten(b, given(b, b.node(Concat(1), *parts), 0.25, zero, dtype))
    found = kinds(after)
    (join,) = (n for n in after.nodes if n.op.op_type == "Concat")
    makers = {o: n.op.op_type for n in after.nodes for o in n.outputs}
    assert makers[join.inputs[0]] == "QuantizeLinear"
    assert found.count("FlipSign") == signed
    plain = simplify(given(b := Builder(), b.node(Concat(1), tensor(b, "x"), tensor(b, "z")), 0.25, 100))
    assert sorted(kinds(plain)) == ["Concat", "QuantizeLinear", "QuantizeLinear"]


def test_the_operators_outside_of_kernels() -> None:
    """References: ratios that leave the range of kernels, and dtypes that are refused."""
    from cnnengine.errors import InputError
    from cnnengine.spec import TensorSpec

    op = QuantizedAdd(1e30, 0, 1e30, 5, 1e-3, 7, -7, 248)
    assert op.numbers(False) is None
    a = np.array([0, 9, 0], np.uint8)
    np.testing.assert_array_equal(op.evaluate(a, np.array([5, 5, 0], np.uint8))[0], [7, 255, 0])
    assert QuantizedMul(1e30, 0, 1e30, 5, 1e-3, 7, -7, 248).numbers(False) is None
    with pytest.raises(InputError, match="uint8"):
        op.specs([TensorSpec(np.dtype(np.int8), (3,)), TensorSpec(np.dtype(np.uint8), (3,))])
    (spec,) = op.outline([TensorSpec(np.dtype(np.uint8), None), None])
    assert spec.dtype == np.uint8
