"""Kernels that choose by index, rank or value: every instruction set, 1 and 2 threads, bit for bit against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnengine._kernels import INDEX_CHUNK, function, kernel
from cnnengine.layout import View

RNG = np.random.default_rng(22112026)
I64 = np.dtype(np.int64)
GUARD = 64


def run(
    name: str, inputs: list[np.ndarray], outputs: list[tuple[tuple[int, ...], Any]], threads: int, **params: Any
) -> list[np.ndarray]:
    """One kernel on plain arrays; outputs start as 0xff bytes between guards, which must stay."""
    made = [np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize + 2 * GUARD, 255, np.uint8) for shape, dtype in outputs]
    views = [View.plain(shape, dtype) for shape, dtype in outputs]
    launch = kernel(name).build([View.plain(a.shape, a.dtype) for a in inputs], views, **params)
    results = [m[GUARD : len(m) - GUARD].view(dtype).reshape(shape) for m, (shape, dtype) in zip(made, outputs, strict=True)]
    launch(*[np.ascontiguousarray(a) for a in inputs], *results, threads=threads)
    for m in made:
        assert (m[:GUARD] == 255).all()
        assert (m[len(m) - GUARD :] == 255).all()
    return results


def words(points: int) -> tuple[tuple[int, ...], np.dtype]:
    return (3 * -(-points // INDEX_CHUNK),), I64


# ---------------------------------------------------------------- indices


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("points", [1, 7, INDEX_CHUNK - 1, INDEX_CHUNK, 2 * INDEX_CHUNK + 5])
def test_offsets_of_points_with_several_indices(threads, dtype, points):
    extents, strides = (5, 3, 9), (27, 9, 1)
    indices = np.stack([RNG.integers(-n, n, points) for n in extents], -1).astype(dtype)
    offsets, said = run(
        "index_offsets", [indices], [((points,), I64), words(points)], threads, depth=3, extents=extents, strides=strides
    )
    expected = np.ravel_multi_index(tuple((indices % extents).T.astype(np.int64)), extents)
    np.testing.assert_array_equal(offsets, expected)
    assert not said.any()


def test_offsets_with_bases_over_several_chunks(threads):
    shape, bases = (3, 7, 2 * INDEX_CHUNK // 20 + 1), (1000, 0, 10)
    indices = RNG.integers(0, 10, shape)
    points = indices.size
    offsets, _ = run(
        "index_offsets",
        [indices],
        [((points,), I64), words(points)],
        threads,
        depth=1,
        extents=(10,),
        strides=(1,),
        shape=shape,
        bases=bases,
    )
    grid = np.indices(shape)
    np.testing.assert_array_equal(offsets, (indices + sum(g * b for g, b in zip(grid, bases, strict=True))).reshape(-1))


@pytest.mark.parametrize("bad", [-6, 5, 2**31 - 1, -(2**31), 2**62, -(2**63)])
@pytest.mark.parametrize("at", [0, INDEX_CHUNK, INDEX_CHUNK + 3])
def test_bad_indices_are_reported_and_lead_nowhere(threads, bad, at):
    points = INDEX_CHUNK + 10
    indices = RNG.integers(-5, 5, (points, 2))
    indices[at, 1] = bad
    indices[at + 2, 0] = 77  # a later one of the same chunk is not told
    offsets, said = run(
        "index_offsets", [indices], [((points,), I64), words(points)], threads, depth=2, extents=(5, 5), strides=(5, 1)
    )
    assert 0 <= offsets.min() <= offsets.max() < 25
    said = said.reshape(-1, 3)
    chunk = at // INDEX_CHUNK
    assert said[chunk].tolist() == [1, bad, 1]
    assert said[1 - chunk].tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.bool_, np.uint8, np.int16])
@pytest.mark.parametrize(
    ("outer", "n", "count", "inner"), [(1, 9, 40, 1), (3, 5, 17, 2), (2, 4, 3, 4), (1, 6, 9, 33), (2, 50, 9000, 3)]
)
def test_take(threads, dtype, outer, n, count, inner):
    x = RNG.integers(0, 2 if dtype is np.bool_ else 100, (outer, n, inner)).astype(dtype)
    picked = RNG.integers(0, n, count)
    (y,) = run("take", [x, picked * inner], [((outer, count, inner), dtype)], threads, outer=outer, step=n * inner, inner=inner)
    np.testing.assert_array_equal(y, x[:, picked])


def test_take_and_put_refuse_views_that_do_not_fit():
    x, o, y = View.plain((4, 5)), View.plain((3,), I64), View.plain((3, 5))
    with pytest.raises(ValueError, match="take"):
        kernel("take").build((x, o), (View.plain((3, 4)),), inner=5)
    with pytest.raises(ValueError, match="take"):
        kernel("take").build((x, View.plain((3,))), (y,), inner=5)
    with pytest.raises(ValueError, match="put"):
        kernel("put").build((o, View.plain((3, 4))), (x,), inner=5)
    with pytest.raises(ValueError, match="topk"):
        kernel("topk").build((x,), (View.plain((4, 6)), View.plain((4, 6), I64)), axis=1)
    with pytest.raises(ValueError, match="index_offsets"):
        kernel("index_offsets").build(
            (View.plain((3,), np.uint8),), (o, View.plain((3,), I64)), depth=1, extents=(4,), strides=(1,)
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("inner", [1, 3])
def test_put_takes_points_in_their_order(dtype, reduction, inner):
    y = RNG.integers(-4, 5, (6, inner)).astype(dtype)
    at = RNG.integers(0, 6, 40)  # many hits a row
    u = RNG.integers(-9, 10, (40, inner)).astype(dtype)
    if np.dtype(dtype).kind == "f":
        y[2, 0] = u[7, 0] = np.nan
    else:
        u[5, 0], u[6, 0] = np.iinfo(dtype).max, np.iinfo(dtype).min
    expected = y.copy()
    with np.errstate(all="ignore"):
        if reduction == "none":
            for p, row in zip(at, u, strict=True):
                expected[p] = row
        else:
            {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[reduction].at(expected, at, u)
    views = [View.plain(a.shape, a.dtype) for a in (at, u)]
    got = y.copy()
    launch = kernel("put").build(views, [View.plain(y.shape, y.dtype)], inner=inner, reduction=reduction)
    launch(at * inner, u, got)
    np.testing.assert_array_equal(got, expected)


# ---------------------------------------------------------------- top k

TYPES = [np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]


def ranked(x: np.ndarray, k: int, axis: int, largest: bool) -> np.ndarray:
    """Indices of the k best by Python's sort: NaN above all, the lower index first among equals."""
    y = np.empty((*np.moveaxis(x, axis, -1).shape[:-1], k), np.int64)
    for at in np.ndindex(y.shape[:-1]):
        line = np.moveaxis(x, axis, -1)[at].tolist()
        key = [(v != v, 0 if v != v else v) for v in line]
        y[at] = sorted(range(len(line)), key=key.__getitem__, reverse=largest)[:k]  # stable both ways
    return np.moveaxis(y, -1, axis)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(
    ("shape", "axis", "k"),
    [((1,), 0, 1), ((50,), 0, 7), ((3, 40), 1, 40), ((4, 33, 5), 1, 6), ((2, 3, 700), 2, 60), ((5, 2), 0, 2)],
)
def test_topk(threads, dtype, largest, shape, axis, k):
    info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else None
    x = RNG.integers(0, 20, shape).astype(dtype)  # ties
    if info is not None and x.size > 4:
        x.reshape(-1)[:4] = [info.min, info.max, info.min, info.max]
    elif x.size > 8:
        x.reshape(-1)[:8] = [np.nan, -np.inf, np.inf, 0.0, -0.0, -np.nan, -3.5, np.nan]
    out = tuple(k if a == axis else n for a, n in enumerate(shape))
    values, indices = run("topk", [x], [(out, dtype), (out, I64)], threads, axis=axis, largest=largest)
    np.testing.assert_array_equal(indices, ranked(x, k, axis, largest))
    np.testing.assert_array_equal(values, np.take_along_axis(x, indices, axis))


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (7, 7), (9, 1), (300, 60), (3001, 8)])
def test_best_of_line(largest, n, k):
    x = RNG.integers(0, 50, n).astype(np.float32)
    if n > 8:
        x[:8] = [np.nan, -np.inf, np.inf, 0.0, -0.0, -np.nan, -3.5, np.nan]
    values, indices = function("best_of_line")(x, k, largest)
    np.testing.assert_array_equal(indices, ranked(x, k, 0, largest))
    np.testing.assert_array_equal(values, x[indices])


@pytest.mark.parametrize("order", ["rising", "falling", "equal"])
def test_topk_of_long_lines(order):
    x = {"rising": np.arange(5000), "falling": -np.arange(5000), "equal": np.zeros(5000)}[order].astype(np.float32)
    _, indices = run("topk", [x], [((100,), np.float32), ((100,), I64)], 1, axis=0)
    np.testing.assert_array_equal(indices, np.argsort(-x, kind="stable")[:100])


# ---------------------------------------------------------------- running sums


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((1,), 0), ((30,), 0), ((3, 5, 7), 1), ((2, 9), 1), ((4, 2, 2050), 0)])
def test_running_sum(threads, dtype, exclusive, reverse, shape, axis):
    x = (RNG.standard_normal(shape) * 100).astype(dtype)
    (got,) = run("running", [x], [(shape, dtype)], threads, op="sum", axis=axis, exclusive=exclusive, reverse=reverse)
    y = np.flip(x, axis) if reverse else x
    total = np.zeros_like(np.take(x, 0, axis))
    expected = np.empty_like(x)
    for i in range(shape[axis]):
        at = tuple(i if a == axis else slice(None) for a in range(len(shape)))
        if exclusive:
            expected[at] = total
        total = total + y[at] if i else y[at]
        if not exclusive:
            expected[at] = total
    np.testing.assert_array_equal(got, np.flip(expected, axis) if reverse else expected)


# ---------------------------------------------------------------- data-dependent extents


@pytest.mark.parametrize("dtype", [np.bool_, np.float32, np.float64, *[np.dtype(t) for t in "bBhHiIlL"]])
@pytest.mark.parametrize("shape", [(), (1,), (1000,), (3, 0, 4), (7, 11), (2, 3, 4, 5)])
def test_find_nonzero(dtype, shape):
    x = (RNG.integers(-1, 2, shape) * RNG.integers(0, 2, shape)).astype(dtype)
    if np.dtype(dtype).kind == "f" and x.size > 3:
        x.reshape(-1)[:3] = [np.nan, -0.0, 1e-40]
    got = function("find_nonzero")(np.ascontiguousarray(x).reshape(shape))
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, np.array(np.nonzero(np.atleast_1d(x))))
