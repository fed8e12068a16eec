"""Mixtures of pixels of bytes: bit for bit what float32 gives, at each instruction set, on one and two threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnengine._kernels import kernel

from .bytes_planes import in_planes, run

WEIGHTS = np.array([0, 0, 0.25, 0.5, 0.75, 1 / 3, 0.1, 1], np.float32)
Table = tuple[np.ndarray, np.ndarray, np.ndarray]


def table(rng: np.random.Generator, n: int, m: int) -> Table:
    return rng.integers(0, n, m), rng.integers(0, n, m), rng.choice(WEIGHTS, m)


def definition(x: np.ndarray, tables: list[Table], x_zero: int, ratio: float, zero: int, low: int, high: int) -> np.ndarray:
    y = x.astype(np.float32)
    for axis, (first, second, weight) in enumerate(tables, 2):
        a, b = y.take(first, axis), y.take(second, axis)
        product = (b - a) * weight.reshape(-1, *(1,) * (x.ndim - 1 - axis))
        assert product.dtype == np.float32
        y = a + product
    steps = np.rint((y - np.float32(x_zero)) * np.float32(ratio)).astype(np.float64)
    return np.clip(steps + zero, low, high).astype(np.uint8)


CASES = [
    # x, extents of y
    ((1, 8, 5, 6), (10, 12)),
    ((2, 19, 4, 7), (3, 23)),
    ((1, 3, 1, 1), (4, 5)),
    ((1, 33, 9), (20,)),
    ((2, 5, 3, 4, 5), (6, 3, 9)),
    ((1, 16, 40, 70), (80, 140)),  # several units and chunks
    ((3, 4, 2, 2), (1, 1)),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_mixtures(case: int, threads: int, isa: str) -> None:
    shape, out = CASES[case]
    rng = np.random.default_rng(case)
    x = rng.integers(0, 256, shape).astype(np.uint8)
    tables = [table(rng, n, m) for n, m in zip(shape[2:], out, strict=True)]
    for store in [(0, 1.0, 0, 0, 255), (128, 0.37, 117, 0, 255), (7, 3.9, 200, 210, 250), (255, 1e-3, 3, 0, 255)]:
        views = [in_planes(shape, ((1, 0), (0, 2), (1, 1)), store[0])]
        y = in_planes((*shape[:2], *out), ((0, 1), (2, 0), (1, 3)), 77)
        (got,) = run("resize", [(views[0], x)], [y], threads, tables=tables, store=store)
        np.testing.assert_array_equal(got, definition(x, tables, *store))


def test_what_must_be_refused() -> None:
    rng = np.random.default_rng(0)
    x, y = in_planes((1, 3, 4, 5)), in_planes((1, 3, 8, 10))
    tables = [table(rng, 4, 8), table(rng, 5, 10)]
    good = (128, 0.5, 7, 0, 255)
    kernel("resize").build([x], [y], tables=tables, store=good)
    wrong: list[dict[str, Any]] = [
        {"tables": tables},  # mixtures, and nothing said of what becomes of them
        {"tables": tables, "store": (256, *good[1:])},
        {"tables": tables, "store": (128, 0.0, 7, 0, 255)},
        {"tables": tables, "store": (128, np.nan, 7, 0, 255)},
        {"tables": tables, "store": (128, 2.0**22, 7, 0, 255)},
        {"tables": tables, "store": (128, 0.5, -1, 0, 255)},
        {"tables": tables, "store": (128, 0.5, 7, 9, 8)},
        {"tables": tables, "store": (128, 0.5, 7, 0, 256)},
        {"tables": [tables[0], (np.full(10, 5), *tables[1][1:])], "store": good},
        {"tables": tables[:1], "store": good},
    ]
    for params in wrong:
        with pytest.raises(ValueError, match="resize"):
            kernel("resize").build([x], [y], **params)
    floats = [in_planes(v.shape, dtype=np.float32) for v in (x, y)]
    with pytest.raises(ValueError, match="stored by"):
        kernel("resize").build(floats[:1], floats[1:], tables=tables, store=good)
