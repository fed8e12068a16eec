"""Coordinates against exact fractions: which pixel is read must not depend on rounding."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnengine.errors import InputError
from cnnengine.ops.affine import AffineGrid
from cnnengine.ops.resize import COORDINATES, ROUNDINGS, Resize
from cnnengine.ops.sample import GridSample, RoiAlign
from cnnengine.plan.eager import run_operator

F = np.float32
LARGEST = 64
PLAIN_MODES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn")


def numerators(mode: str, n: int, m: int) -> tuple[np.ndarray, int]:
    """Positions for n pixels made m, as the specification has them: integers over one denominator."""
    i = np.arange(m)
    if (mode == "pytorch_half_pixel" or mode == "align_corners") and m == 1:
        return 0 * i, 1
    if mode == "align_corners":
        return i * (n - 1), m - 1
    if mode == "asymmetric":
        return i * n, m
    if mode == "tf_half_pixel_for_nn":
        return (2 * i + 1) * n, 2 * m
    return (2 * i + 1) * n - m, 2 * m


def rounded(at: np.ndarray, one: int, kind: str) -> np.ndarray:
    down = at // one
    left = at - down * one
    more = {"floor": 0 * left, "ceil": left > 0, "round_prefer_floor": 2 * left > one, "round_prefer_ceil": 2 * left >= one}
    return down + more[kind]


@pytest.mark.parametrize("mode", PLAIN_MODES)
def test_nearest_pixels_of_all_sizes(mode):
    ops = {kind: Resize("nearest", mode, kind) for kind in ROUNDINGS[:4]}
    for n, m in itertools.product(range(1, LARGEST + 1), repeat=2):
        at, one = numerators(mode, n, m)
        for kind, op in ops.items():
            _, (scale,) = op.resolve((n,), None, np.array([m]))
            index, _ = op.taps(n, m, scale)
            expected = np.clip(rounded(at, one, kind), 0, n - 1)
            assert np.array_equal(index[:, 0], expected), (n, m, kind)


def position(mode: str, i: int, scale: Fraction, n: int, m: int) -> Fraction:
    half = Fraction(1, 2)
    if mode == "asymmetric":
        return i / scale
    if mode == "tf_half_pixel_for_nn":
        return (i + half) / scale
    if mode == "pytorch_half_pixel" and m == 1:
        return Fraction(0)
    if mode == "half_pixel_symmetric":
        return Fraction(n, 2) * (1 - Fraction(m) / (n * scale)) + (i + half) / scale - half
    return (i + half) / scale - half


@given(
    n=st.integers(1, 300),
    scale=st.floats(0.015625, 64, width=32),
    mode=st.sampled_from([m for m in PLAIN_MODES if m != "align_corners"]),
    kind=st.sampled_from(ROUNDINGS[:4]),
)
def test_positions_of_float32_scales_are_those_of_their_exact_values(n, scale, mode, kind):
    op = Resize("nearest", mode, kind)
    (m,), (factor,) = op.resolve((n,), np.array([scale], F), None)
    assert factor == Fraction(scale)
    if m == 0:
        return
    index, _ = op.taps(n, m, factor)
    at = [position(mode, i, Fraction(scale), n, m) for i in range(m)]
    expected = [int(rounded(np.array(x.numerator, object), x.denominator, kind)) for x in at]
    assert np.array_equal(index[:, 0], np.clip(expected, 0, n - 1))
    base, weights = Resize("linear", mode).taps(n, m, factor)
    parts = np.array([float(x - math.floor(x)) for x in at])
    np.testing.assert_allclose(weights[:, 1], parts, rtol=0, atol=2.0**-52)
    assert np.array_equal(base[:, 0], np.clip([math.floor(x) for x in at], 0, n - 1))


def test_the_table_of_modes_is_whole():
    assert {*PLAIN_MODES, "tf_crop_and_resize"} == set(COORDINATES)


@given(
    n=st.integers(1, 40),
    m=st.integers(1, 40),
    begin=st.floats(-2, 2, width=32),
    end=st.floats(-2, 2, width=32),
)
def test_cropped_positions(n, m, begin, end):
    op = Resize("linear", "tf_crop_and_resize")
    at, one = op.positions(n, m, Fraction(m, n), begin, end)
    first, last = Fraction(begin) * (n - 1), Fraction(end) * (n - 1)
    for i in range(m):
        expected = first + i * (last - first) / (m - 1) if m > 1 else (first + last) / 2
        assert Fraction(int(at[i]), one) == expected
        assert op.off(n, (at, one))[i] == (expected < 0 or expected > n - 1)


def test_regions_that_are_no_numbers_are_refused():
    x = np.zeros((1, 1, 4, 4), F)
    roi = np.array([0, 0, 0, np.nan, 1, 1, 1, 1], F)
    with pytest.raises(InputError, match="roi"):
        Resize("linear", "tf_crop_and_resize").evaluate(x, roi, np.ones(4, F), None)


@pytest.mark.parametrize(
    ("policy", "n_out", "scale"), [("not_larger", (7, 9), Fraction(7, 6)), ("not_smaller", (15, 20), Fraction(5, 2))]
)
def test_scales_that_keep_the_aspect_are_exact(policy, n_out, scale):
    out, factors = Resize(policy=policy).resolve((6, 8), None, np.array([7, 20]))
    assert out == n_out
    assert factors == (scale, scale)


def borders(n: int, corners: int) -> np.ndarray:
    """Places of the centres of n pixels and of the borders between them, as near as float32 comes, and their neighbours."""
    at = np.arange(-1, 2 * n + 1) / 2.0
    places = (at / (n - 1) * 2 - 1 if corners and n > 1 else (2 * at + 1) / n - 1).astype(F)
    every = np.concatenate([places, np.nextafter(places, F(9)), np.nextafter(places, F(-9))])
    return every[(every == 0) | (abs(every) > 2.0**-28)]  # nearer to 0, 1 + v is not exact in double


@pytest.mark.parametrize("corners", [0, 1])
def test_grid_sample_reads_the_nearest_pixel(isa, corners):
    op = GridSample("nearest", "border", corners)
    for n in range(1, LARGEST + 1):
        places = borders(n, corners)
        grid = np.zeros((1, 1, len(places), 2), F)
        grid[0, 0, :, 0] = places
        x = np.arange(n, dtype=F).reshape(1, 1, 1, n)
        expected = []
        for v in map(Fraction, places.tolist()):
            at = (v + 1) / 2 * (n - 1) if corners else ((v + 1) * n - 1) / 2
            expected.append(min(max(round(at), 0), n - 1))  # halves to even
        assert np.array_equal(op.evaluate(x, grid)[0].ravel(), expected), n
        assert np.array_equal(run_operator(op, [x, grid])[0].ravel(), expected), n


def mean_along(start: Fraction, size: Fraction, bins: int, ratio: int, n: int) -> list[Fraction]:
    """Of an axis whose pixels are 1, 2, 3 ...: the means over the samples of each bin."""
    count = ratio or max(math.ceil(size / bins), 0)
    means = []
    for b in range(bins):
        total = Fraction(0)
        for k in range(count):
            at = start + b * size / bins + (k + Fraction(1, 2)) * size / bins / count
            if -1 <= at <= n:
                total += min(max(at, Fraction(0)), Fraction(n - 1)) + 1
        means.append(total / count if count else Fraction(0))
    return means


@given(
    n=st.integers(1, 12),
    low=st.integers(-12, 24),
    size=st.integers(0, 48),
    bins=st.integers(1, 7),
    ratio=st.integers(0, 3),
    half=st.booleans(),
)
def test_roi_align_samples_where_fractions_say(n, low, size, bins, ratio, half):
    # borders at quarters of pixels, so that samples lie on -1 and n
    op = RoiAlign("avg", 1, bins, ratio, 0.5, half)
    roi = np.array([[low / 2, 0, (low + size) / 2, 2]], F)
    shift = Fraction(1, 2) if half else Fraction(0)
    x0, x1 = Fraction(low, 4) - shift, Fraction(low + size, 4) - shift
    width = x1 - x0 if half else max(x1 - x0, Fraction(1))
    expected = np.array([float(v) for v in mean_along(x0, width, bins, ratio, n)])
    x = np.broadcast_to(np.arange(1, n + 1, dtype=F), (1, 1, 3, n)).copy()
    inputs = [x, roi, np.zeros(1, np.int64)]
    np.testing.assert_allclose(op.evaluate(*inputs)[0].ravel(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run_operator(op, inputs)[0].ravel(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("corners", [0, 1])
def test_affine_grid_coordinates(isa, corners):
    op = AffineGrid(corners)
    for n in range(1, LARGEST + 1):
        if corners:
            exact = [Fraction(2 * i, n - 1) - 1 for i in range(n)] if n > 1 else [Fraction(0)]
        else:
            exact = [Fraction(2 * i + 1, n) - 1 for i in range(n)]
        assert op.coordinates(n).tolist() == [float(v) for v in exact]
        theta = np.array([[[1, 0, 0], [0, 1, 0]]], F)
        (y,) = run_operator(op, [theta, np.array([1, 1, n, n])])
        assert np.array_equal(y[0, 0, :, 0], np.array([float(v) for v in exact], F))
        assert np.array_equal(y[0, :, 0, 1], np.array([float(v) for v in exact], F))
