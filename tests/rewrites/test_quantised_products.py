"""Products and means between quantised tensors: what becomes of matches, and the reasons that near misses get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_quantised_elements import S8, U8, Bytes, kinds, same_bits

from cnnengine.ops.cast import Cast
from cnnengine.ops.dense import Gemm
from cnnengine.ops.pool import AveragePool
from cnnengine.ops.reduce import ReduceMean
from cnnengine.rewrites import explaining, simplify

F32, I32 = np.dtype(np.float32), np.dtype(np.int32)
Make = Callable[[Bytes], tuple[str, ...]]


@pytest.fixture
def b() -> Bytes:
    return Bytes()


def weights(b: Bytes, k: int = 6, n: int = 4, scale: Any = 0.25, zero: Any = None, axis: int = 1) -> str:
    """Dequantised weights (K, N)."""
    w = b.constant(b.rng.integers(-30, 31, (k, n)), S8)
    more = () if zero is None else (b.constant(zero, S8),)
    return b.node("DequantizeLinear", w, b.constant(scale), *more, axis=axis)


def left(b: Bytes, *shape: int, signed: bool = False, by: Any = None) -> str:
    return b.dq(b.bytes(*(shape or (3, 6)), signed=signed), by or b.steps(0.5, -3 if signed else 7, signed))


# ---------------------------------------------------------------- matches


def _matmul(b: Bytes) -> tuple[str, ...]:
    return (b.q(b.node("MatMul", left(b), weights(b)), b.steps(8.0, 3)),)


def _columns(b: Bytes) -> tuple[str, ...]:
    w = weights(b, scale=[0.25, 0.5, 1.0, 2.0], zero=[0, 1, -2, 3])
    return (b.q(b.node("MatMul", left(b, 2, 3, 6), w), b.steps(8.0, 3)),)


def _gemm(b: Bytes) -> tuple[str, ...]:
    w = b.dq(b.constant(b.rng.integers(-30, 31, (4, 6)), S8), (b.constant([0.25, 0.5, 1.0, 2.0]),), axis=0)  # type: ignore[arg-type]
    bias = b.dq(b.constant([5, -6, 7, 900], I32), (b.constant([0.125, 0.25, 0.5, 1.0]),), axis=0)  # type: ignore[arg-type]
    return (b.q(b.node("Relu", b.node(Gemm(transB=1), left(b), w, bias)), b.steps(8.0, 3)),)


def _added(b: Bytes) -> tuple[str, ...]:
    y = b.node("Add", b.random(1, 4), b.node("MatMul", left(b), weights(b)))
    return (b.q(y, b.steps(8.0, 3)),)


def _floats(b: Bytes) -> tuple[str, ...]:
    return (b.node("Add", b.node("MatMul", left(b), weights(b)), b.constant([1.5, -2.0, 0.25, 8.0])),)


def _two(b: Bytes) -> tuple[str, ...]:
    right = b.dq(b.bytes(2, 6, 4, name="w"), b.steps(0.25, 130))
    return (b.q(b.node("MatMul", left(b, 2, 3, 6), right), b.steps(8.0, 3)),)


def _qlinear(b: Bytes) -> tuple[str, ...]:
    w = b.constant(b.rng.integers(-30, 31, (6, 4)), S8)
    x = b.bytes(3, 6)
    return (b.node("QLinearMatMul", x, *b.steps(0.5), w, *b.steps(0.25, 0, True), *b.steps(8.0)),)


def _sums(b: Bytes) -> tuple[str, ...]:
    return (b.node("MatMulInteger", b.bytes(3, 6), b.constant(b.rng.integers(-30, 31, (6, 4)), S8)),)


def _dynamic(b: Bytes) -> tuple[str, ...]:
    b.node("DynamicQuantizeLinear", b.input(3, 6, symbolic=False), outputs=("q", "s", "z"))
    w = b.constant(b.rng.integers(-30, 31, (6, 4)), S8)
    sums = b.node(Cast(F32), b.node("MatMulInteger", "q", w, "z"))
    y = b.node("Mul", sums, b.node("Mul", b.constant([0.1, 0.2, 0.3, 0.4]), "s"))
    return (b.node("Add", y, b.random(4)),)


def _average(b: Bytes) -> tuple[str, ...]:
    return (b.q(b.node(AveragePool((2, 2)), left(b, 1, 3, 6, 6)), b.steps(0.25, 3)),)


def _mean(b: Bytes) -> tuple[str, ...]:
    return (b.q(b.node(ReduceMean((2, 3)), left(b, 1, 3, 4, 4)), b.steps(0.25, 3)),)


def _flat_mean(b: Bytes) -> tuple[str, ...]:
    return (b.q(b.node(ReduceMean((-1, 2), keepdims=0), left(b, 1, 3, 4, 4)), b.steps(0.25, 3)),)


MATCHES: list[tuple[Make, list[str]]] = [
    (_matmul, ["QuantizedDense"]),
    (_columns, ["QuantizedDense"]),
    (_gemm, ["QuantizedDense"]),
    (_added, ["QuantizedDense"]),
    (_floats, ["QuantizedDense"]),
    (_two, ["QuantizedDense"]),
    (_qlinear, ["QuantizedDense"]),
    (_sums, ["QuantizedDense"]),
    (_dynamic, ["DynamicQuantizeLinear", "QuantizedDense"]),
    (_average, ["QuantizedAveragePool"]),
    (_mean, ["QuantizedGlobalAveragePool"]),
    (_flat_mean, ["QuantizedGlobalAveragePool", "Flatten"]),
]


@pytest.mark.parametrize(("make", "expected"), MATCHES, ids=lambda v: v.__name__ if callable(v) else "")
def test_matches(b: Bytes, make: Make, expected: list[str]) -> None:
    """One operator is left, with the bits that the floats had: scales are powers of two."""
    before = b.graph(*make(b))
    after = simplify(before)
    assert kinds(after.nodes) == expected
    if make is _added:  # a bias of floats is rounded to the sums
        after.check()
        one, two = before.evaluate(b.feeds)[0], after.evaluate(b.feeds)[0]
        assert np.abs(one.astype(int) - two.astype(int)).max() <= 1
    else:
        same_bits(b, before, after)


# ---------------------------------------------------------------- near misses


def _left_by_axis(b: Bytes) -> tuple[str, ...]:
    x = b.node("DequantizeLinear", b.bytes(3, 6), b.constant([0.5, 1.0, 2.0]), b.constant([1, 2, 3], U8), axis=0)
    return (b.q(b.node("MatMul", x, weights(b)), b.steps(8.0, 3)),)


def _weights_by_row(b: Bytes) -> tuple[str, ...]:
    return (b.q(b.node("MatMul", left(b, 3, 4), weights(b, 4, 4, [0.25, 0.5, 1.0, 2.0], axis=0)), b.steps(8.0, 3)),)


def _alpha(b: Bytes) -> tuple[str, ...]:
    return (b.q(b.node(Gemm(alpha=0.5), left(b), weights(b)), b.steps(8.0, 3)),)


def _transposed_left(b: Bytes) -> tuple[str, ...]:
    return (b.q(b.node(Gemm(transA=1), left(b, 6, 3), weights(b)), b.steps(8.0, 3)),)


def _matrix_bias(b: Bytes) -> tuple[str, ...]:
    return (b.q(b.node("Gemm", left(b), weights(b), b.random(3, 4)), b.steps(8.0, 3)),)


def _huge_bias(b: Bytes) -> tuple[str, ...]:
    bias = b.constant([1e30, 0, 0, 0])
    return (b.q(b.node("Gemm", left(b), weights(b), bias), b.steps(8.0, 3)),)


def _no_ratio(b: Bytes) -> tuple[str, ...]:
    return (b.q(b.node("MatMul", left(b, by=b.steps(2.0**-100)), weights(b, scale=2.0**-60)), b.steps(8.0, 3)),)


def _bias_of_two(b: Bytes) -> tuple[str, ...]:
    right = b.dq(b.bytes(6, 4, name="w"), b.steps(0.25, 130))
    return (b.q(b.node("Gemm", left(b), right, b.random(4)), b.steps(8.0, 3)),)


def _running_scale(b: Bytes) -> tuple[str, ...]:
    w = b.constant(b.rng.integers(-30, 31, (6, 4)), S8)
    scale = b.node("Abs", b.input(name="scale", symbolic=False))
    zero = b.constant(7, U8)
    return (b.node("QLinearMatMul", b.bytes(3, 6), scale, zero, w, *b.steps(0.25, 0, True), *b.steps(8.0)),)


def _rows(b: Bytes) -> tuple[str, ...]:
    w = b.constant(b.rng.integers(-30, 31, (6, 4)), S8)
    by = b.constant([0.5, 0.25, 1.0]), b.constant([1, 2, 3], U8)
    return (b.node("QLinearMatMul", b.bytes(3, 6), *by, w, *b.steps(0.25, 0, True), *b.steps(8.0)),)


def _several_zeros(b: Bytes) -> tuple[str, ...]:
    w = b.constant(b.rng.integers(-30, 31, (6, 4)), S8)
    return (b.node("MatMulInteger", b.bytes(3, 6), w, b.constant([1, 2, 3], U8)),)


def _given_zero(b: Bytes) -> tuple[str, ...]:
    w = b.constant(b.rng.integers(-30, 31, (6, 4)), S8)
    return (b.node("MatMulInteger", b.bytes(3, 6), w, b.bytes(name="zero")),)


def _shared_mean(b: Bytes) -> tuple[str, ...]:
    y = b.node(AveragePool((2, 2)), left(b, 1, 3, 6, 6))
    return b.q(y, b.steps(0.25, 3)), b.node("Neg", y)


def _mean_of_channels(b: Bytes) -> tuple[str, ...]:
    return (b.q(b.node(ReduceMean((1, 2)), left(b, 1, 3, 4, 4)), b.steps(0.25, 3)),)


def _mean_by_axis(b: Bytes) -> tuple[str, ...]:
    x = b.node("DequantizeLinear", b.bytes(1, 3, 4, 4), b.constant([0.5, 1.0, 2.0]), b.constant([1, 2, 3], U8))
    return (b.q(b.node("GlobalAveragePool", x), b.steps(0.25, 3)),)


def _places(b: Bytes) -> tuple[str, ...]:
    q = b.q(b.input(1, 3, 4, 4, symbolic=False), b.steps(0.25, 3, True))
    b.node("MaxPool", q, outputs=("y", "at"), kernel_shape=(2, 2), indices=True)
    return "y", "at"


MISSES: list[tuple[Make, str]] = [
    (_left_by_axis, "its input has no constant scale and zero point for all of it"),
    (_weights_by_row, "its weights are no matrix with one scale, or one for each column, that is known and normal"),
    (_alpha, "it scales or transposes its input, or something else is fused into it already"),
    (_transposed_left, "it scales or transposes its input, or something else is fused into it already"),
    (_matrix_bias, "the bias is not known, or is no number for each column"),
    (_huge_bias, "the bias is too large to be one of the sums"),
    (_no_ratio, "the ratio of its scales is no normal number"),
    (_bias_of_two, "both matrices are known only while it runs, and there is a bias"),
    (_running_scale, "its scales or zero points are known only while it runs"),
    (_rows, "it has a scale or zero point for each row"),
    (_several_zeros, "its first matrix has several zero points"),
    (_given_zero, "the zero point of its first matrix is known only while it runs"),
    (_shared_mean, "no QuantizeLinear with one constant scale and zero point alone reads it"),
    (_mean_of_channels, "its axes are not known to be all of the spatial ones"),
    (_mean_by_axis, "its input has no constant scale and zero point for all of it"),
    (_places, "the places of its maxima are read"),
]
MINE = {"quantized_products", "qlinear_products", "integer_products", "quantized_pools"}


@pytest.mark.parametrize(("make", "reason"), MISSES, ids=lambda v: v.__name__ if callable(v) else "")
def test_near_misses(b: Bytes, make: Make, reason: str) -> None:
    """The reason is said, and what the graph gives is what it gave."""
    before = b.graph(*make(b))
    with explaining() as found:
        after = simplify(before)
    assert reason in {d.reason for d in found.values() if d.rewrite in MINE}
    with np.errstate(all="ignore"):
        same_bits(b, before, after)


def test_what_is_added_and_no_bias_stays(b: Bytes) -> None:
    product = b.node("MatMul", left(b), weights(b))
    before = b.graph(b.q(b.node("Add", product, b.input(3, 4, name="other", symbolic=False)), b.steps(8.0, 3)))
    after = simplify(before)
    assert kinds(after.nodes) == ["QuantizedDense", "Add", "QuantizeLinear"]
    same_bits(b, before, after)


def test_sums_that_are_no_scaled_ones_are_int32(b: Bytes) -> None:
    b.node("DynamicQuantizeLinear", b.input(3, 6, symbolic=False), outputs=("q", "s", "z"))
    sums = b.node(Cast(F32), b.node("MatMulInteger", "q", b.constant(b.rng.integers(-30, 31, (6, 4)), S8), "z"))
    before = b.graph(b.node("Mul", sums, b.input(3, 4, name="factor", symbolic=False)))
    after = simplify(before)
    assert kinds(after.nodes) == ["DynamicQuantizeLinear", "QuantizedDense", "Cast", "Mul"]
    same_bits(b, before, after)


def test_maxima_of_int8_are_of_uint8(b: Bytes) -> None:
    q = b.q(b.input(1, 3, 4, 4, symbolic=False), b.steps(0.25, 3, True))
    before = b.graph(b.dq(b.node("MaxPool", q, kernel_shape=(2, 2), pads=(1, 1, 0, 0)), b.steps(0.25, 3, True)))
    after = simplify(before)
    assert kinds(after.nodes) == ["QuantizeLinear", "MaxPool", "DequantizeLinear"]  # the flips are zero points of 128 more
    same_bits(b, before, after)
