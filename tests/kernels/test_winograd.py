"""Winograd convolution against the oracle in float64, at every instruction set and with 1 and 2 threads."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from oracle import assert_same_bits

from cnnengine._kernels import dispatch, kernel
from cnnengine._kernels import pack as kernels
from cnnengine._kernels import winograd as winograd_kernel
from cnnengine.layout import NO_HALO, View, aligned_empty, merge_halos
from cnnengine.operator import Activation

from .launching import blocked, unblocked

GUARD = 512
OUT_HALO = {4: ((0, 0), (1, 0), (1, 3)), 5: ((1, 0), (2, 1), (0, 2))}
SAME = (1, 1, 1, 1)
SAME3 = (1, 1, 1, 1, 1, 1)


def data(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def among_nan(array: np.ndarray, fill: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """An aligned copy of a flat array with NaN before and behind it: the whole, and the part."""
    whole = aligned_empty(array.size + 2 * GUARD)
    whole[:] = np.nan
    part = whole[GUARD : GUARD + array.size]
    if fill:
        part[:] = array
    return whole, part


def tile_of(kernel):
    """The larger tile that there is for these taps along h and w."""
    return max(tile for taps, tile, strides in winograd_kernel.FORMS if taps == tuple(kernel) and strides == (1, 1))


def winograd(
    x,
    w,
    bias,
    pads,
    *,
    tile=None,
    strides=(1, 1),
    dilations=(1, 1),
    stride=1,
    groups=1,
    residual=None,
    activation=None,
    in_halo=NO_HALO,
    out_halo=NO_HALO,
    threads=1,
):
    """The Winograd kernel on arrays, among NaN; `pads` as in ONNX, `stride` along depth."""
    kernel_shape = w.shape[-2:]
    tile = tile or tile_of(kernel_shape)
    deep = x.ndim == 5
    front, top, left, back, bottom, right = pads if deep else (0, *pads[:2], 0, *pads[2:])
    taps = w.shape[2] if deep else 1
    lanes = dispatch.lanes()
    # with several taps in depth, depths beyond x are never read
    need = ((front, back) if taps == 1 else (0, 0), (top, bottom), (left, right))
    xv = View.planes(x.shape, lanes, merge_halos(need, in_halo), groups)
    padded = x.shape[-2] + top + bottom, x.shape[-1] + left + right
    windows = zip(padded, kernel_shape, dilations, strides, strict=True)
    side = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in windows]
    if deep:
        side.insert(0, (x.shape[2] + front + back - taps) // stride + 1)
    yv = View.planes((x.shape[0], w.shape[0], *side), lanes, out_halo, groups)
    rv = None if residual is None else View.planes(yv.shape, lanes, in_halo, groups)
    launch = kernel("winograd").build(
        [xv, None, None, rv],
        [yv],
        kernel=kernel_shape,
        tile=tile,
        strides=strides,
        dilations=dilations,
        pads=(front, top, left),
        taps=taps,
        stride=stride,
        groups=groups,
        activation=activation,
    )
    flat = winograd_kernel.depth_as_channels(w) if deep else w
    packed = winograd_kernel.pack_winograd(flat, aligned_empty, tile, strides, groups)
    arrays = [blocked(xv, x), packed, kernels.pack_bias(bias, w.shape[0], aligned_empty, groups)]
    arrays.append(None if rv is None else blocked(rv, residual))
    operands = [None if a is None else among_nan(a)[1] for a in arrays]
    whole, y = among_nan(np.empty(yv.size, np.float32), fill=False)
    kernel("winograd").front(launch, *operands, y, threads=threads)
    assert np.isnan(whole[:GUARD]).all() and np.isnan(whole[GUARD + y.size :]).all(), "written outside of the output"
    return unblocked(yv, y)


def assert_near(got, want, before):
    """The transforms' rounding errors are those of the largest values around: relative to max |y| `before` the activation."""
    assert got.shape == want.shape and got.dtype == np.float32
    if want.size:
        error = np.abs(got - want).max() / np.abs(before).max()
        assert error < 1e-5, f"error {error:.3g} of max |y|"


def check(x, w, bias, pads, *, threads, tile=None, strides=(1, 1), dilations=(1, 1), stride=1, groups=1):
    """Plain, and with a residual and each way of activation; without and with foreign halos."""
    steps, dilation = (stride, *strides), (1, *dilations)
    want = oracle.conv(x, w, bias, pads=pads, stride=steps[5 - x.ndim :], dilation=dilation[5 - x.ndim :], groups=groups)
    residual = data(*want.shape, seed=3)
    same = {"tile": tile, "strides": strides, "dilations": dilations, "stride": stride, "groups": groups, "threads": threads}
    for halo in (NO_HALO, OUT_HALO[x.ndim]):
        assert_near(winograd(x, w, bias, pads, in_halo=halo, out_halo=halo, **same), want, want)
        for activation, expected in (
            (None, want + residual),
            (Activation("clip", 0.0, 6.0), np.clip(want + residual, 0, 6)),
            (Activation("leaky_relu", 0.1), np.where(want + residual < 0, 0.1 * (want + residual), want + residual)),
        ):
            got = winograd(x, w, bias, pads, residual=residual, activation=activation, in_halo=halo, out_halo=halo, **same)
            assert_near(got, expected, want + residual)


@pytest.mark.parametrize(
    ("xs", "o", "pads"),
    [
        ((1, 16, 16, 16), 16, SAME),
        ((1, 64, 56, 56), 64, SAME),
        ((2, 130, 14, 14), 136, SAME),  # runs of tiles across images, a partial plane, an odd number of blocks
        ((1, 48, 27, 30), 300, SAME),  # border tiles of every size, several passes
        ((1, 300, 14, 13), 40, SAME),  # several runs of input planes
        ((1, 20, 17, 13), 24, SAME),
        ((1, 20, 9, 10), 24, (0, 0, 0, 0)),
        ((1, 20, 9, 10), 24, (2, 0, 1, 3)),
        ((3, 5, 7, 7), 33, SAME),
        ((1, 32, 3, 3), 8, (0, 0, 0, 0)),  # one pixel
        ((0, 32, 14, 14), 8, SAME),
    ],
)
def test_winograd(xs, o, pads, isa, threads):
    check(data(*xs), data(o, xs[1], 3, 3, seed=1), data(o, seed=2), pads, threads=threads)


@pytest.mark.parametrize(
    ("xs", "o", "kernel_shape", "tile"),
    [
        ((1, 64, 27, 27), 72, (5, 5), (2, 2)),
        ((2, 130, 14, 13), 40, (5, 5), (2, 2)),  # runs across images, a partial plane, several runs of input planes
        ((1, 20, 5, 6), 24, (5, 5), (2, 2)),
        ((0, 16, 9, 9), 8, (5, 5), (2, 2)),
        ((1, 512, 7, 7), 48, (3, 3), (2, 2)),
        ((2, 20, 9, 10), 24, (3, 3), (2, 2)),
        ((3, 5, 6, 3), 33, (3, 3), (2, 2)),
        ((1, 64, 1, 1000), 40, (1, 3), (1, 4)),  # 1-D: several runs of tiles
        ((2, 20, 8, 9), 300, (1, 3), (1, 4)),
        ((2, 300, 8, 9), 20, (3, 1), (4, 1)),
        ((1, 17, 30, 61), 24, (3, 1), (4, 1)),
        ((1, 40, 1, 501), 33, (1, 5), (1, 4)),
        ((2, 20, 7, 10), 24, (1, 5), (1, 4)),
        ((2, 20, 7, 10), 24, (5, 1), (4, 1)),
        ((1, 40, 1, 501), 33, (1, 7), (1, 4)),
        ((1, 160, 17, 17), 40, (1, 7), (1, 4)),
        ((1, 160, 17, 17), 40, (7, 1), (4, 1)),
        ((2, 20, 4, 8), 24, (1, 7), (1, 4)),
        ((2, 20, 8, 4), 24, (7, 1), (4, 1)),
    ],
)
def test_winograd_of_other_kernels(xs, o, kernel_shape, tile, isa, threads):
    w, bias = data(o, xs[1], *kernel_shape, seed=1), data(o, seed=2)
    kh, kw = kernel_shape
    check(data(*xs), w, bias, (kh // 2, kw // 2) * 2, tile=tile, threads=threads)
    check(data(*xs), w, bias, (kh // 2, 0, (kh > 1) * 2, kw - 1), tile=tile, threads=threads)


@pytest.mark.parametrize(
    ("xs", "o", "pads"),
    [
        ((1, 16, 16, 16), 16, SAME),
        ((1, 64, 56, 56), 72, SAME),
        ((2, 130, 15, 14), 136, SAME),  # runs across images, a partial plane, an odd number of blocks
        ((1, 48, 29, 31), 300, (0, 1, 1, 0)),  # border tiles of every size, several passes
        ((1, 20, 17, 13), 24, (1, 0, 2, 2)),
        ((3, 5, 7, 7), 33, SAME),
        ((1, 32, 3, 3), 8, (0, 0, 0, 0)),  # one pixel
        ((1, 32, 3, 40), 8, (0, 1, 1, 1)),
        ((0, 32, 14, 14), 8, SAME),
    ],
)
def test_winograd_at_stride_2(xs, o, pads, isa, threads):
    w, bias = data(o, xs[1], 3, 3, seed=1), data(o, seed=2)
    check(data(*xs), w, bias, pads, tile=(4, 4), strides=(2, 2), threads=threads)


@pytest.mark.parametrize(
    ("xs", "o", "kernel_shape", "tile", "dilations", "pads"),
    [
        ((1, 64, 20, 21), 72, (3, 3), (4, 4), (2, 2), (2, 2, 2, 2)),
        ((2, 130, 16, 13), 40, (3, 3), (4, 4), (4, 4), (4, 4, 4, 4)),  # runs across phases and images
        ((1, 20, 17, 19), 24, (3, 3), (4, 4), (3, 2), (3, 2, 3, 2)),
        ((1, 20, 11, 12), 24, (3, 3), (4, 4), (5, 3), (0, 1, 4, 2)),
        ((1, 20, 7, 5), 24, (3, 3), (4, 4), (2, 6), (2, 6, 2, 6)),  # phases without a pixel
        ((1, 33, 12, 12), 24, (3, 3), (2, 2), (2, 2), (2, 2, 2, 2)),
        ((1, 20, 21, 18), 24, (5, 5), (2, 2), (2, 3), (4, 6, 4, 6)),
        ((2, 40, 1, 200), 33, (1, 3), (1, 4), (1, 8), (0, 8, 0, 8)),
        ((1, 40, 30, 9), 33, (7, 1), (4, 1), (2, 1), (6, 0, 6, 0)),
        ((1, 40, 9, 40), 33, (1, 5), (1, 4), (1, 3), (0, 6, 0, 6)),
        ((0, 16, 9, 9), 8, (3, 3), (4, 4), (2, 2), (2, 2, 2, 2)),
    ],
)
def test_winograd_dilated(xs, o, kernel_shape, tile, dilations, pads, isa, threads):
    w, bias = data(o, xs[1], *kernel_shape, seed=1), data(o, seed=2)
    check(data(*xs), w, bias, pads, tile=tile, dilations=dilations, threads=threads)


def test_winograd_dilated_threads_and_batch_change_no_bit(isa):
    x, w, bias = data(2, 70, 22, 25), data(100, 70, 3, 3, seed=1), data(100, seed=2)
    one, two = (winograd(x, w, bias, (2, 2, 2, 2), dilations=(2, 2), threads=t) for t in (1, 2))
    assert_same_bits(one, two)
    assert_same_bits(one[1:].copy(), winograd(x[1:], w, bias, (2, 2, 2, 2), dilations=(2, 2)))


@pytest.mark.parametrize(("dilations", "strides"), [((0, 1), (1, 1)), ((2, 2), (2, 2)), ((1, -1), (1, 1))])
def test_winograd_refuses_other_dilations(dilations, strides, isa):
    xv = View.planes((1, 16, 16, 16), dispatch.lanes(), ((0, 0), (4, 4), (4, 4)))
    yv = View.planes((1, 16, 8, 8), dispatch.lanes())
    with pytest.raises(ValueError, match="dilations"):
        kernel("winograd").build([xv, None, None, None], [yv], strides=strides, dilations=dilations, pads=(0, 1, 1))


def test_winograd_of_groups_at_stride_2(isa, threads):
    x, w, bias = data(2, 60, 13, 17), data(40, 30, 3, 3, seed=1), data(40, seed=2)
    check(x, w, bias, SAME, tile=(4, 4), strides=(2, 2), groups=2, threads=threads)


@pytest.mark.parametrize(("kernel_shape", "tile", "strides"), sorted(winograd_kernel.FORMS))
def test_winograd_rounds_no_more_than_said(kernel_shape, tile, strides, isa):
    """Against float64, relative to max |y|, where sums are long: less than 1e-5, as the design block says."""
    kh, kw = kernel_shape
    x, w = data(1, 512, 16, 16), data(64, 512, kh, kw, seed=1)
    want = oracle.conv(x, w, None, pads=(kh // 2, kw // 2) * 2, stride=strides)
    got = winograd(x, w, np.zeros(64, np.float32), (kh // 2, kw // 2) * 2, tile=tile, strides=strides)
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


@pytest.mark.parametrize(("kernel_shape", "tile", "strides"), sorted(winograd_kernel.FORMS))
def test_winograd_threads_and_batch_change_no_bit(kernel_shape, tile, strides, isa):
    kh, kw = kernel_shape
    x, w, bias = data(2, 70, 30, 31), data(300, 70, kh, kw, seed=1), data(300, seed=2)
    pads = (kh // 2, kw // 2) * 2
    one, two = (winograd(x, w, bias, pads, tile=tile, strides=strides, threads=t) for t in (1, 2))
    assert_same_bits(one, two)
    assert_same_bits(one[1:].copy(), winograd(x[1:], w, bias, pads, tile=tile, strides=strides))


@pytest.mark.parametrize(
    ("xs", "o", "taps", "stride", "pads"),
    [
        ((1, 16, 8, 12, 12), 16, 3, 1, SAME3),
        ((2, 64, 5, 14, 14), 48, 3, 1, SAME3),
        ((1, 20, 6, 9, 11), 40, 3, 1, SAME3),  # a partial plane: tap by tap
        ((1, 160, 4, 7, 9), 24, 3, 1, SAME3),  # more input channels than one run of planes has
        ((1, 32, 9, 10, 10), 24, 3, 2, SAME3),
        ((1, 32, 9, 10, 10), 24, 3, 3, (0, 1, 1, 2, 1, 1)),
        ((2, 24, 7, 9, 10), 20, 1, 1, (0, 1, 1, 0, 1, 1)),  # one tap in depth
        ((1, 24, 7, 9, 10), 20, 1, 2, (1, 1, 1, 2, 1, 1)),
        ((1, 16, 3, 9, 9), 16, 2, 1, (0, 0, 2, 1, 3, 1)),
        ((1, 20, 2, 9, 9), 16, 3, 1, (4, 1, 1, 5, 1, 1)),  # depths of padding alone
        ((1, 32, 2, 9, 9), 16, 3, 1, (4, 1, 1, 5, 1, 1)),
        ((1, 16, 1, 9, 9), 16, 5, 1, (2, 1, 1, 2, 1, 1)),
        ((1, 16, 4, 3, 3), 8, 3, 1, (1, 0, 0, 1, 0, 0)),  # one pixel a depth
        ((0, 16, 4, 9, 9), 8, 3, 1, SAME3),
    ],
)
def test_winograd_3d(xs, o, taps, stride, pads, isa, threads):
    check(data(*xs), data(o, xs[1], taps, 3, 3, seed=1), data(o, seed=2), pads, threads=threads, stride=stride)


@pytest.mark.parametrize(("taps", "stride"), [(3, 1), (3, 2), (1, 1)])
def test_winograd_3d_of_5x5(taps, stride, isa, threads):
    x, w, bias = data(1, 36, 6, 11, 9), data(24, 36, taps, 5, 5, seed=1), data(24, seed=2)
    check(x, w, bias, (taps // 2, 2, 2) * 2, threads=threads, stride=stride)


@pytest.mark.parametrize(
    ("xs", "o", "taps", "groups"),
    [
        ((1, 64, 14, 14), 64, 0, 2),
        ((2, 60, 13, 10), 40, 0, 2),  # groups that end within a block
        ((1, 36, 9, 9), 54, 0, 3),
        ((1, 40, 5, 9, 9), 48, 3, 2),
        ((1, 64, 5, 9, 9), 32, 3, 2),
    ],
)
def test_winograd_of_groups(xs, o, taps, groups, isa, threads):
    kernel_shape = (taps, 3, 3) if taps else (3, 3)
    w = data(o, xs[1] // groups, *kernel_shape, seed=1)
    check(data(*xs), w, data(o, seed=2), SAME3 if taps else SAME, threads=threads, groups=groups)


@pytest.mark.parametrize(("channels", "taps"), [(70, 3), (64, 3), (24, 1)])
def test_winograd_3d_threads_and_batch_change_no_bit(channels, taps, isa):
    x, w, bias = data(3, channels, 6, 18, 19), data(40, channels, taps, 3, 3, seed=1), data(40, seed=2)
    pads = (taps // 2, 1, 1, taps // 2, 1, 1)
    one, two = (winograd(x, w, bias, pads, threads=t) for t in (1, 2))
    assert_same_bits(one, two)
    for i in range(3):
        assert_same_bits(one[i : i + 1].copy(), winograd(x[i : i + 1], w, bias, pads))


def test_winograd_refuses_windows_that_leave_the_input(isa):
    xv = View.planes((1, 16, 8, 8), dispatch.lanes(), ((0, 0), (1, 1), (1, 0)))
    yv = View.planes((1, 16, 8, 8), dispatch.lanes())
    with pytest.raises(ValueError, match="leave"):
        kernel("winograd").build([xv, None, None, None], [yv], pads=(0, 1, 1))


@pytest.mark.parametrize("halo", [((0, 0), (1, 1), (1, 1)), ((1, 0), (1, 1), (1, 1)), ((0, 1), (1, 1), (1, 1))])
def test_winograd_refuses_depths_outside_of_the_halo(halo, isa):
    xv = View.planes((1, 16, 4, 8, 8), dispatch.lanes(), halo)
    yv = View.planes((1, 16, 6, 8, 8), dispatch.lanes())
    with pytest.raises(ValueError, match="leave"):
        kernel("winograd").build([xv, None, None, None], [yv], pads=(1, 1, 1), taps=1)


def test_winograd_refuses_other_groups(isa):
    xv = View.planes((1, 30, 8, 8), dispatch.lanes(), ((0, 0), (1, 1), (1, 1)))
    yv = View.planes((1, 30, 8, 8), dispatch.lanes())
    with pytest.raises(ValueError, match="groups"):
        kernel("winograd").build([xv, None, None, None], [yv], pads=(0, 1, 1), groups=3)


@pytest.mark.parametrize(
    ("kernel_shape", "tile"), [((3, 3), (1, 4)), ((5, 5), (4, 4)), ((1, 1), (1, 1)), ((7, 7), (4, 4)), ((1, 5), (1, 2))]
)
def test_winograd_refuses_other_kernels(kernel_shape, tile, isa):
    kh, kw = kernel_shape
    xv = View.planes((1, 16, 8, 8), dispatch.lanes(), ((0, 0), (3, 3), (3, 3)))
    yv = View.planes((1, 16, 8, 8), dispatch.lanes())
    with pytest.raises(ValueError, match="kernels of"):
        kernel("winograd").build([xv, None, None, None], [yv], kernel=kernel_shape, tile=tile, pads=(0, kh // 2, kw // 2))
    with pytest.raises(ValueError, match="kernels of"):
        winograd_kernel.pack_winograd(data(16, 16, kh, kw), aligned_empty, tile)


@pytest.mark.parametrize(("kernel_shape", "tile", "strides"), sorted(winograd_kernel.FORMS))
def test_winograd_refuses_too_narrow_a_halo(kernel_shape, tile, strides, isa):
    """One pixel less than the taps read, at each side."""
    kh, kw = kernel_shape
    yv = View.planes((1, 16, 8 // strides[0], 8 // strides[1]), dispatch.lanes())
    for axis, size in enumerate(kernel_shape):
        # at stride 2 the last window of an even extent ends within it
        for side in (0, 1)[: 2 // strides[axis]] if size > 1 else ():
            halo = [[kh // 2, kh // 2], [kw // 2, kw // 2]]
            halo[axis][side] -= 1
            xv = View.planes((1, 16, 8, 8), dispatch.lanes(), ((0, 0), tuple(halo[0]), tuple(halo[1])))
            with pytest.raises(ValueError, match="leave"):
                kernel("winograd").build(
                    [xv, None, None, None], [yv], kernel=kernel_shape, tile=tile, strides=strides, pads=(0, kh // 2, kw // 2)
                )
