"""Operators that run as several kernels, against their references: norms over an axis, and resizing by products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnengine.ops.norm import LpNormalization, MeanVarianceNormalization
from cnnengine.ops.reduce import ArgMax, ArgMin
from cnnengine.ops.resize import Resize
from cnnengine.plan.eager import by_kernels

X = np.random.default_rng(9).standard_normal((2, 5, 7, 9)).astype(np.float32)


def same(op: Any, *operands: Any, rtol: float = 1e-5) -> None:
    results = by_kernels(op, operands)
    assert results is not None
    np.testing.assert_allclose(results[0], op.evaluate(*operands)[0], rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("size", [1.0, 1e-30, 1e30])
def test_lp_normalization(isa: str, axis: int, p: int, size: float) -> None:
    """Also of numbers whose squares are no float32, and of zeros."""
    x = X * np.float32(size)
    x[0, :, 3] = 0
    x[:, 2, 0] = 0
    same(LpNormalization(axis, p), x)
    zeros = np.zeros((2, 3), np.float32)
    results = by_kernels(LpNormalization(1, p), [zeros])
    assert results is not None
    np.testing.assert_array_equal(results[0], zeros)


@pytest.mark.parametrize("axes", [(0, 2, 3), (1,), (2, 3), (0, 1, 2, 3), (-1,)])
def test_mean_variance_normalization(isa: str, axes: tuple[int, ...]) -> None:
    same(MeanVarianceNormalization(axes), X, rtol=1e-4)


@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric"]
)
@pytest.mark.parametrize(
    ("mode", "exclude", "antialias"), [("cubic", 0, 0), ("cubic", 1, 0), ("linear", 1, 0), ("linear", 0, 1), ("cubic", 0, 1)]
)
@pytest.mark.parametrize("scales", [(1, 1, 1.7, 0.6), (1, 1, 0.4, 2.5), (1, 2, 1, 1)])
def test_resize_by_products(coordinates: str, mode: str, exclude: int, antialias: int, scales: tuple[float, ...]) -> None:
    op = Resize(mode, coordinates, exclude_outside=exclude, antialias=antialias)
    same(op, X, None, np.float32(scales))


def test_cropping() -> None:
    roi = np.float32([0, 0, 0.2, 0.1, 1, 1, 0.8, 0.7])
    sizes = np.array([2, 5, 4, 11])
    op = Resize("linear", "tf_crop_and_resize")
    same(op, X, roi, None, sizes)
    outside = np.float32([0, 0, -0.2, 0.1, 1, 1, 1.2, 0.7])
    same(op, X, outside, None, sizes)  # beyond the picture


@pytest.mark.parametrize("scales", [(1, 1, 1.7, 0.6), (2, 1, 1, 1)])
def test_threads_and_batches_give_the_same_bits(scales: tuple[float, ...]) -> None:
    op, s = Resize("cubic"), np.float32(scales)
    one, two = by_kernels(op, [X, None, s], threads=1), by_kernels(op, [X, None, s], threads=2)
    assert one is not None and two is not None
    np.testing.assert_array_equal(one[0], two[0])


@pytest.mark.parametrize("kind", [ArgMax, ArgMin])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_positions_of_extremes(isa: str, kind: type[ArgMax] | type[ArgMin], axis: int, keepdims: bool, last: bool) -> None:
    """With many ties, and infinities of either sign."""
    x = np.round(X * 2)
    x[0, 1], x[1, :, 2] = np.inf, -np.inf
    op = kind(axis, keepdims, last)
    results = by_kernels(op, [x])
    assert results is not None
    (want,) = op.evaluate(x)
    assert results[0].dtype == np.int64
    np.testing.assert_array_equal(results[0], want)
    corner = np.ascontiguousarray(x[:, :1, :1, :1])
    single = by_kernels(op, [corner])
    assert single is not None
    np.testing.assert_array_equal(single[0], op.evaluate(corner)[0])


def test_positions_lie_inside_whatever_comes() -> None:
    x = np.full((2, 5), np.nan, np.float32)
    for op in (ArgMax(1), ArgMin(1), ArgMax(1, select_last_index=True)):
        results = by_kernels(op, [x])
        assert results is not None
        assert ((results[0] >= 0) & (results[0] < 5)).all()
