"""Winograd tiles that hold what is not finite, or far larger than the rest: other windows than those which hold it are right."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
from oracle import assert_same_bits

from cnnengine._kernels import dispatch
from cnnengine._kernels.winograd import FORMS, pack_winograd
from cnnengine.layout import aligned_empty
from cnnengine.operator import Activation

from .test_winograd import data, winograd

LOCAL = 2e-5
"""Of the largest |y| among the outputs whose windows hold nothing large."""

LARGE = 1e3
"""What the tests put into x is larger, the rest smaller."""


def pads_of(kernel) -> tuple[int, int, int, int]:
    return (kernel[0] // 2, kernel[1] // 2) * 2


def expected(x, w, bias, pads, *, residual=None, activation=None, strides=(1, 1), dilations=(1, 1), groups=1):
    """The oracle in float64 rounded once, and the activation."""
    with np.errstate(all="ignore"):
        y = np.asarray(oracle.conv(x.astype(np.float64), w, bias, pads=pads, stride=strides, dilation=dilations, groups=groups))
        if residual is not None:
            y = y + residual
        if activation == "clip":
            y = np.clip(y, 0, 6)
        elif activation == "leaky_relu":
            y = np.where(y < 0, 0.1 * y, y)
        holds = (~(np.abs(x) < LARGE)).any(1, keepdims=True).astype(np.float64)
        one = np.ones((1, 1, *w.shape[2:]))
        touched = np.asarray(oracle.conv(holds, one, None, pads=pads, stride=strides, dilation=dilations, groups=1)) > 0
        return y.astype(np.float32), np.broadcast_to(touched, y.shape)


def assert_local(got, expected, limit=LOCAL):
    """Infinities and NaN at the same places; outputs right in their own scale, but for those whose windows hold what is large."""
    want, touched = expected
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    infinite = np.isinf(want)
    np.testing.assert_array_equal(got[infinite], want[infinite])
    known = np.isfinite(want)
    assert np.isfinite(got[known]).all()
    error = np.zeros(want.shape)
    error[known] = np.abs(got[known].astype(np.float64) - want[known])
    ordinary = ~touched
    assert ordinary.any() and known[ordinary].all()
    assert error[ordinary].max() <= limit * np.abs(want[ordinary]).max(), f"{error[ordinary].max():.3g}"
    if (touched & known).any():
        assert error[touched & known].max() <= 1e-5 * np.abs(want[touched & known]).max()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e38, -1e20, 1e7])
@pytest.mark.parametrize(("kernel_shape", "tile", "strides"), sorted(FORMS))
def test_one_pixel_stays_in_its_windows(kernel_shape, tile, strides, value, isa):
    """In the middle, at the corners, on the rim of tiles, in a whole plane and in a part of one."""
    pads = pads_of(kernel_shape)
    with dispatch.use_isa(isa):
        channels = 2 * dispatch.lanes() + 3
    w, bias = data(37, channels, *kernel_shape, seed=1) / np.float32(8), data(37, seed=2)
    for channel, row, column in ((0, 9, 10), (channels - 1, 0, 0), (channels - 2, 21, 22), (1, 4, 7), (channels - 1, 12, 22)):
        x = data(1, channels, 22, 23)
        x[0, channel, row % 22, column] = value
        want = expected(x, w, bias, pads, strides=strides)
        assert_local(winograd(x, w, bias, pads, tile=tile, strides=strides), want)


@pytest.mark.parametrize("activation", ["clip", "leaky_relu", None])
@pytest.mark.parametrize("value", [np.inf, np.nan, 1e8])
def test_residual_and_activation_apply_to_what_is_computed_again(value, activation, isa, threads):
    x, w = data(2, 24, 17, 18), data(40, 24, 3, 3, seed=1) / np.float32(8)
    bias, residual = data(40, seed=2), data(2, 40, 17, 18, seed=3)
    x[0, 3, 8, 8] = x[1, 20, 16, 0] = value
    want = expected(x, w, bias, (1, 1, 1, 1), residual=residual, activation=activation)
    fused = {"clip": Activation("clip", 0.0, 6.0), "leaky_relu": Activation("leaky_relu", 0.1), None: None}[activation]
    assert_local(winograd(x, w, bias, (1, 1, 1, 1), residual=residual, activation=fused, threads=threads), want)


@pytest.mark.parametrize("value", [np.inf, np.nan, -1e9, 1e30])
def test_a_masked_part_of_an_image(value, isa, threads):
    """All channels of a rectangle, and a frame: whole tiles, and their halves."""
    w, bias = data(24, 16, 3, 3, seed=1) / np.float32(8), data(24, seed=2)
    for part in (np.s_[:, :, 7:15, 10:], np.s_[:, :, 5, :], np.s_[:, :, :, 12:13], np.s_[:, 3:5, 0:2, :]):
        x = data(1, 16, 24, 25)
        x[part] = value
        assert_local(winograd(x, w, bias, (1, 1, 1, 1), threads=threads), expected(x, w, bias, (1, 1, 1, 1)))


def test_an_image_of_which_nothing_is_finite(isa):
    """Sums of squares that are infinite are no measure, and those of all windows may be."""
    w = data(24, 16, 3, 3, seed=1)
    w[:, 1] = np.abs(w[:, 1])
    x = data(1, 16, 20, 20)
    x[0, 1] = np.inf
    x[0, 1, 5, 5] = 1.0
    got, (want, _) = winograd(x, w, np.zeros(24, np.float32), (1, 1, 1, 1)), expected(x, w, None, (1, 1, 1, 1))
    np.testing.assert_array_equal(got, want)
    assert np.isposinf(want).all()
    x = np.float32(1e20) * data(1, 16, 20, 20)  # squares overflow, values do not
    got, (want, _) = winograd(x, w, np.zeros(24, np.float32), (1, 1, 1, 1)), expected(x, w, None, (1, 1, 1, 1))
    assert np.abs(got.astype(np.float64) - want).max() <= 1e-5 * np.abs(want.astype(np.float64)).max()


@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e15])
def test_the_scale_of_an_image_does_not_count(scale, isa):
    """What is large is what is large beside its neighbours."""
    w = data(24, 16, 3, 3, seed=1) / np.float32(8)
    x = data(1, 16, 20, 20)
    x[0, 5, 9, 9] = 3e6
    got = winograd(x * np.float32(scale), w, np.zeros(24, np.float32), (1, 1, 1, 1)) / np.float64(scale)
    assert_local(got.astype(np.float32), expected(x, w, None, (1, 1, 1, 1)))


def test_windows_of_zeros_beside_what_is_large_are_the_bias(isa):
    w, bias = data(24, 16, 3, 3, seed=1), data(24, seed=2)
    x = np.zeros((1, 16, 24, 24), np.float32)
    x[0, 0, 3, 3] = 1.0
    got = winograd(x, w, bias, (1, 1, 1, 1))
    far = np.ones((24, 24), bool)
    far[2:5, 2:5] = False
    np.testing.assert_array_equal(got[0][:, far], np.repeat(bias[:, None], far.sum(), 1))


@pytest.mark.parametrize("dilations", [(2, 2), (1, 3)])
@pytest.mark.parametrize("value", [np.nan, 1e10])
def test_dilated(dilations, value, isa):
    x, w, bias = data(1, 20, 19, 21), data(24, 20, 3, 3, seed=1) / np.float32(8), data(24, seed=2)
    x[0, 11, 9, 10] = x[0, 0, 18, 20] = value
    pads = (dilations[0], dilations[1]) * 2
    want = expected(x, w, bias, pads, dilations=dilations)
    assert_local(winograd(x, w, bias, pads, dilations=dilations), want)


@pytest.mark.parametrize("value", [-np.inf, np.nan, 1e10])
@pytest.mark.parametrize(
    ("channels", "o", "taps", "stride", "groups"), [(16, 24, 3, 1, 1), (20, 40, 3, 2, 1), (32, 48, 2, 1, 2), (130, 16, 1, 1, 1)]
)
def test_in_depth_and_in_groups(channels, o, taps, stride, groups, value, isa, threads):
    x, w, bias = data(1, channels, 6, 13, 14), data(o, channels // groups, taps, 3, 3, seed=1) / np.float32(8), data(o, seed=2)
    x[0, channels - 1, 3, 6, 6] = x[0, 0, 0, 0, 13] = value
    pads = (taps // 2, 1, 1) * 2
    want = expected(x, w, bias, pads, strides=(stride, 1, 1), dilations=(1, 1, 1), groups=groups)
    assert_local(winograd(x, w, bias, pads, stride=stride, groups=groups, threads=threads), want)


def test_signs_and_zeros_of_taps_are_those_of_the_weights(isa):
    """Infinity times a tap that is zero is NaN; taps that vanish beside their neighbours keep their sign."""
    rng = np.random.default_rng(0)
    w = data(40, 35, 3, 3, seed=1)
    w[rng.random(w.shape) < 0.3] = 0
    w[rng.random(w.shape) < 0.3] *= np.float32(1e-12)
    for channel in (0, 17, 34):
        x = np.ones((1, 35, 16, 16), np.float32)
        x[0, channel, 8, 8] = np.inf
        got, (want, _) = winograd(x, w, np.zeros(40, np.float32), (1, 1, 1, 1)), expected(x, w, None, (1, 1, 1, 1))
        near = np.s_[0, :, 7:10, 7:10]
        np.testing.assert_array_equal(got[near], want[near])
        assert np.isnan(want[near]).any() and np.isposinf(want[near]).any() and np.isneginf(want[near]).any()


@pytest.mark.parametrize(("kernel_shape", "tile", "strides"), sorted(FORMS))
def test_threads_and_batch_change_no_bit(kernel_shape, tile, strides, isa):
    x, w, bias, pads = data(2, 70, 18, 19), data(100, 70, *kernel_shape, seed=1), data(100, seed=2), pads_of(kernel_shape)
    x[:, 3, 9, 9], x[1, 69, 2, 2] = 1e12, np.inf
    one, two = (winograd(x, w, bias, pads, tile=tile, strides=strides, threads=t) for t in (1, 2))
    assert_same_bits(one, two)
    assert_same_bits(one[1:].copy(), winograd(x[1:], w, bias, pads, tile=tile, strides=strides))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 2e30])
def test_weights_that_no_transform_keeps_are_refused(value, isa):
    w = data(20, 20, 3, 3)
    w[19, 18, 1, 1] = value
    with pytest.raises(OverflowError, match="weights"):
        pack_winograd(w, aligned_empty)


def test_a_part_of_tiles_alone_is_computed_again(isa):
    """The other pixels keep their bits."""
    x, w, bias = data(1, 16, 24, 24), data(16, 16, 3, 3, seed=1), data(16, seed=2)
    before = winograd(x, w, bias, (1, 1, 1, 1))
    x[0, 3, 9, 9] = math.nan
    after = winograd(x, w, bias, (1, 1, 1, 1))
    same = (before == after).all((0, 1))
    assert same.sum() >= 24 * 24 - 4 * 16 and not same[9, 9]
