"""Kernels over every element type, bit for bit against NumPy; 1 and 2 threads, sizes on both sides of the chunks."""

from __future__ import annotations

import numpy as np
import pytest

from cnnengine._kernels import function, kernel
from cnnengine._kernels.typed import BITS, COMPARISONS, PAIRS, RUNNING_TYPES, TYPES, reverse_chunks
from cnnengine.layout import View

from .test_select import run

RNG = np.random.default_rng(30112026)
I64 = np.dtype(np.int64)
SPECIAL = (0.0, -0.0, 1.5, -1.5, 3.0, -3.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 5e-39, 2.0**31, 7.0)


def values(dtype: np.dtype, shape: tuple[int, ...], zeros: bool = True) -> np.ndarray:
    """Small and extreme numbers of a type, NaN and infinities among floats."""
    if dtype.kind == "f":
        x = np.where(RNG.random(shape) < 0.5, RNG.choice(SPECIAL, shape), RNG.normal(0, 50, shape)).astype(dtype)
    else:
        info = np.iinfo(dtype)
        edges = [info.min, info.max, info.max - 1, 1, 2, 3, 7] + ([-1, -2, -7] if dtype.kind == "i" else [])
        x = np.where(
            RNG.random(shape) < 0.5, RNG.choice(np.array(edges, dtype), shape), RNG.integers(0, 100, shape).astype(dtype)
        )
    return x if zeros else np.where(x == 0, dtype.type(1), x)


def expected(op: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The function by NumPy; division and shifts of integers written out, as Python's integers have them."""
    simple = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "equal": np.equal,
        "greater": np.greater, "greater_or_equal": np.greater_equal, "less": np.less, "less_or_equal": np.less_equal,
        "fmod": np.fmod, "mod": np.mod, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    }  # fmt: skip
    with np.errstate(all="ignore"):
        if op in simple:
            return np.asarray(simple[op](a, b))
        if op == "div" and a.dtype.kind == "f":
            return np.asarray(a / b)
    bits = 8 * a.dtype.itemsize
    one = {
        "div": lambda x, y: abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1),
        "left": lambda x, y: x << y if 0 <= y < bits else 0,
        "right": lambda x, y: x >> y if 0 <= y < bits else (-1 if x < 0 else 0),
    }[op]
    wide = np.frompyfunc(lambda x, y: one(int(x), int(y)) % 2**bits, 2, 1)(a, b)
    return wide.astype(f"u{a.dtype.itemsize}").view(a.dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("op", PAIRS)
def test_pairs_with_every_broadcast(threads: int, op: str, dtype: np.dtype) -> None:
    if op in BITS and dtype.kind == "f":
        with pytest.raises(ValueError, match=op):
            kernel("pair").build((View.plain((3,), dtype),) * 2, (View.plain((3,), dtype),), op=op)
        return
    for sa, sb in (
        ((5000,), (5000,)), ((3, 1, 5), (3, 4, 1)), ((), (7,)), ((7, 9), (9,)), ((9,), (2, 7, 9)), ((2, 3, 4), (3, 1)),
        ((0, 3), (3,)),
    ):  # fmt: skip
        a, b = values(dtype, sa), values(dtype, sb, zeros=op not in ("div", "fmod", "mod") or dtype.kind == "f")
        want = expected(op, a, b)
        out = np.dtype(np.bool_) if op in COMPARISONS else dtype
        (y,) = run("pair", [a, b], [(want.shape, out)], threads, op=op)
        np.testing.assert_array_equal(y, want)


def test_long_runs_are_cut_and_an_axis_aligned(threads: int) -> None:
    a, b = values(TYPES[8], (3, 40000)), values(TYPES[8], (3,))
    (y,) = run("pair", [a, b], [(a.shape, I64)], threads, op="sub", b_shape=(3, 1))
    np.testing.assert_array_equal(y, a - b[:, None])


def test_remainders_of_floats_are_exact(threads: int) -> None:
    """Any bits: quotients from below one to above 2 ** 29, where the loop hands over to the C library."""
    a, b = (RNG.integers(0, 2**32, 200000, dtype=np.uint64).astype(np.uint32).view(np.float32) for _ in range(2))
    with np.errstate(all="ignore"):
        b[:100000] = np.abs(a[:100000]) * RNG.uniform(1e-9, 3, 100000).astype(np.float32)
        a[:50000] = (b[:50000] * RNG.integers(1, 1 << 20, 50000)).astype(np.float32)  # near whole quotients
    for op, one in (("fmod", np.fmod), ("mod", np.mod)):
        (y,) = run("pair", [a, b], [(a.shape, a.dtype)], threads, op=op)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(y, one(a, b))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_float_tests(threads: int, dtype: str) -> None:
    with np.errstate(over="ignore"):
        x = RNG.choice(np.array(SPECIAL), 40001).astype(dtype)
    for given, want in (
        ({"nan": True}, np.isnan(x)),
        ({"positive": True, "negative": True}, np.isinf(x)),
        ({"positive": True}, np.isposinf(x)),
        ({"negative": True}, np.isneginf(x)),
        ({}, np.zeros(x.shape, bool)),
    ):
        (y,) = run("float_test", [x], [(x.shape, np.bool_)], threads, **given)
        np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "axis"), [((1,), 0), ((7, 70), 1), ((70, 7), 0), ((3, 19, 300), 1), ((2, 5, 4, 1), 2), ((9000,), 0)]
)
def test_positions_of_extremes(isa: str, threads: int, dtype: np.dtype, shape: tuple[int, ...], axis: int) -> None:
    """Many equals, and in floats NaN: the first or the last of them, of a NaN before everything else."""
    kinds = [RNG.integers(0, 4, shape).astype(dtype)]
    if dtype.kind == "f":
        kinds += [np.where(RNG.random(shape) < 0.05, np.nan, kinds[0]).astype(dtype), np.full(shape, np.nan, dtype)]
        kinds += [np.full(shape, -np.inf, dtype), np.full(shape, np.inf, dtype)]
    for x in kinds:
        for least, find in ((False, np.argmax), (True, np.argmin)):
            want = find(x, axis=axis)
            (y,) = run("arg", [x], [(want.shape, I64)], threads, axis=axis, least=least)
            np.testing.assert_array_equal(y, want)
            (y,) = run("arg", [x], [(want.shape, I64)], threads, axis=axis, least=least, last=True)
            np.testing.assert_array_equal(y, shape[axis] - 1 - find(np.flip(x, axis), axis=axis))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "axis", "flatten"), [((5, 9), 1, False), ((9, 300), 0, False), ((2, 3, 5), 1, True), ((2, 3), 2, True)]
)
def test_hardmax(threads: int, dtype: type, shape: tuple[int, ...], axis: int, flatten: bool) -> None:
    x = RNG.integers(0, 4, shape).astype(dtype)
    x.reshape(-1)[4] = np.nan
    folded = x.reshape(int(np.prod(shape[:axis])), -1) if flatten else x
    along = 1 if flatten else axis
    want = (np.arange(folded.shape[along]).reshape([-1 if a == along else 1 for a in range(folded.ndim)]) == np.expand_dims(
        folded.argmax(along), along)).astype(dtype).reshape(shape)  # fmt: skip
    (y,) = run("hardmax", [x], [(shape, dtype)], threads, axis=axis, flatten=flatten)
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("index", TYPES, ids=str)
@pytest.mark.parametrize("dtype", [np.bool_, np.int16, np.float32, np.int64])
def test_one_hot(threads: int, index: np.dtype, dtype: type) -> None:
    """Places from both ends, and numbers that name none: outside, fractions, NaN."""
    off_on = np.array([1, 0]).astype(dtype)
    for shape, axis, depth in (((50,), 1, 7), ((3, 5000), 1, 4), ((6, 5), 0, 3), ((), 0, 4), ((2, 0), 1, 3), ((40000,), 1, 2)):
        i = values(index, shape) if index.kind == "f" else RNG.integers(0 if index.kind == "u" else -12, 12, shape).astype(index)
        out = (*shape[:axis], depth, *shape[axis:])
        grid = np.arange(depth).reshape([-1 if a == axis else 1 for a in range(len(out))])
        which = np.expand_dims(np.where(i < 0, i + depth, i) if index.kind != "u" else i, axis)
        (y,) = run("one_hot", [i, off_on], [(out, dtype)], threads, axis=axis)
        np.testing.assert_array_equal(y, np.where(which == grid, off_on[1], off_on[0]))


@pytest.mark.parametrize("dtype", [np.bool_, np.float16, np.float32, np.int64])
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (2, 3, 5, 5), (1, 1), (400, 300)])
def test_triangle(threads: int, dtype: type, shape: tuple[int, ...]) -> None:
    x = RNG.integers(1, 2, shape).astype(dtype)
    rows, columns = shape[-2:]
    for k in (0, 1, -1, 3, -3, columns, -rows, 2**62, -(2**62)):
        for upper in (True, False):
            bounded = max(-1000, min(k, 1000))
            want = np.triu(x, bounded) if upper else np.tril(x, bounded)
            (y,) = run("triangle", [x, np.array(k)], [(shape, dtype)], threads, upper=upper)
            np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("batch_axis", [0, 1])
@pytest.mark.parametrize("dtype", [np.bool_, np.float32, np.int64])
def test_reverse_sequence_and_lengths_that_are_none(threads: int, batch_axis: int, dtype: type) -> None:
    for shape in ((5, 7), (4, 4, 3), (300, 40, 33)):
        x = RNG.integers(0, 100, shape).astype(dtype)
        n, time = shape[batch_axis], shape[1 - batch_axis]
        lengths = RNG.integers(0, time + 1, n)
        want = np.array(x)
        for i, k in enumerate(lengths):
            place = (i, slice(0, k)) if batch_axis == 0 else (slice(0, k), i)
            want[place] = x[place][::-1]
        chunks = reverse_chunks(shape, x.dtype.itemsize)
        outputs = [(shape, dtype), ((3 * chunks,), I64)]
        y, words = run("reverse_sequence", [x, lengths], outputs, threads, batch_axis=batch_axis)
        np.testing.assert_array_equal(y, want)
        assert not words.any()
        for bad in (-1, time + 1, 2**62):
            lengths[-1] = bad
            _, words = run("reverse_sequence", [x, lengths], outputs, threads, batch_axis=batch_axis)
            assert next(w for w in words.reshape(-1, 3).tolist() if w[0]) == [1, bad, 0]


@pytest.mark.parametrize("dtype", RUNNING_TYPES, ids=str)
def test_running_product(threads: int, dtype: np.dtype) -> None:
    for shape, axis in (((9,), 0), ((3, 5, 1500), 1), ((4, 6), 1)):
        x = RNG.integers(1, 4, shape).astype(dtype)
        with np.errstate(all="ignore"):
            want = np.cumprod(x, axis=axis, dtype=dtype)
        (y,) = run("running", [x], [(shape, dtype)], threads, op="product", axis=axis)
        np.testing.assert_array_equal(y, want)
        (y,) = run("running", [x], [(shape, dtype)], threads, op="product", axis=axis, exclusive=True, reverse=True)
        before = np.flip(np.cumprod(np.flip(x, axis), axis=axis, dtype=dtype), axis)
        shifted = np.concatenate([before.take(range(1, shape[axis]), axis), np.ones_like(x.take([0], axis))], axis)
        np.testing.assert_array_equal(y, shifted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 33])
def test_determinant(threads: int, dtype: type, n: int) -> None:
    x = RNG.normal(size=(9, n, n)).astype(dtype)
    if n > 1:
        x[0, 1] = x[0, 0]
        x[1] = 0
    (y,) = run("determinant", [x], [((9,), dtype)], threads)
    want = np.linalg.det(x.astype(np.float64))
    np.testing.assert_allclose(y, want, rtol=1e-6 if dtype is np.float32 else 1e-12, atol=1e-12 * max(1.0, np.abs(want).max()))


@pytest.mark.parametrize("dtype", [np.bool_, np.int16, np.float32, np.int64])
def test_compress(dtype: type) -> None:
    for shape, axis in (((30,), None), ((4, 6), None), ((5, 7), 0), ((5, 7), 1), ((3, 5, 4), 1), ((3, 0), 0)):
        x = RNG.integers(0, 100, shape).astype(dtype)
        n = x.size if axis is None else shape[axis]
        for wanted in (RNG.random(n) < 0.5, np.zeros(n, bool), np.ones(n, bool), np.ones(max(n - 2, 0), bool)):
            y = function("compress")(x, wanted, axis)
            np.testing.assert_array_equal(y, np.compress(wanted, x, axis))
            assert y.dtype == x.dtype
    with pytest.raises(ValueError, match="compress"):
        function("compress")(np.zeros(3), np.ones(4, bool), None)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(("n", "width", "most"), [(1, 1, 5), (40, 1, 9), (5000, 1, 3000), (200, 3, 2), (30, 1, 1), (6, 0, 1)])
def test_unique(dtype: np.dtype, n: int, width: int, most: int) -> None:
    rows = RNG.integers(0, min(most, 100) if dtype.itemsize == 1 else most, (n, width)).astype(dtype)
    if dtype.kind == "i":
        rows = (rows.astype(np.int64) - most // 2).astype(dtype)
    if dtype.kind == "f":
        rows = np.where(rows == 1, -rows, rows).astype(dtype)
    keys = [tuple(r) for r in rows.tolist()]
    for in_order in (True, False):
        order = sorted(set(keys)) if in_order else list(dict.fromkeys(keys))
        first, inverse, counts = function("unique")(rows, in_order)
        assert first.tolist() == [keys.index(k) for k in order]
        assert inverse.tolist() == [order.index(k) for k in keys]
        assert counts.tolist() == [keys.count(k) for k in order]


def test_unique_takes_nan_as_one_number_and_zeros_as_one() -> None:
    x = np.float32([np.nan, 0.0, -0.0, np.inf, -np.nan, -np.inf]).reshape(-1, 1)
    first, inverse, counts = function("unique")(x, True)
    assert (first.tolist(), inverse.tolist(), counts.tolist()) == ([5, 1, 3, 0], [3, 1, 1, 2, 3, 0], [1, 2, 1, 2])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int32", "int64"])
def test_progression(dtype: str) -> None:
    for start, delta, count in ((0, 1, 0), (3, -2, 1000), (5, 7, 1), (-9, 3, 40000)):
        s, d = np.dtype(dtype).type(start), np.dtype(dtype).type(delta)
        if np.dtype(dtype).kind == "f":
            s, d = s * np.dtype(dtype).type(0.1), d * np.dtype(dtype).type(0.3)
        with np.errstate(over="ignore"):
            want = (s + np.arange(count).astype(dtype) * d).astype(dtype)
        np.testing.assert_array_equal(function("progression")(s, d, count), want)
