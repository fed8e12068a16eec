"""The depthwise convolution of bytes: bit for bit what integers give, at each instruction set, on one and two threads."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnengine._kernels import kernel
from cnnengine._kernels.dispatch import available_isas, lanes, use_isa
from cnnengine._kernels.pack import pack_bias, pack_depthwise
from cnnengine.layout import NO_HALO, View, aligned_empty

from .bytes_planes import in_planes, plain, run
from .sliding import sliding


def sums_of(x: np.ndarray, w: np.ndarray, bias: np.ndarray, x_zero: int, case: dict[str, Any]) -> np.ndarray:
    """Exact sums (N, C, ...) of the numbers of x less their zero point by w (C, per group, taps...), int64."""
    rank = x.ndim - 2
    stride, dilation = case.get("stride", (1,) * rank), case.get("dilation", (1,) * rank)
    pads = case.get("pads", (0,) * 2 * rank)
    wide = np.pad(x.astype(np.int64) - x_zero, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    out = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(wide.shape[2:], w.shape[2:], dilation, stride, strict=True)]
    per_group = w.shape[1]
    y = np.zeros((*x.shape[:2], *out), np.int64)
    for tap in itertools.product(*map(range, w.shape[2:])):
        at = tuple(slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in zip(tap, dilation, out, stride, strict=True))
        part = wide[(slice(None), slice(None), *at)]
        for c in range(x.shape[1]):
            for k in range(per_group):
                y[:, c] += part[:, c // per_group * per_group + k] * int(w[(c, k, *tap)])
    return y + bias.astype(np.int64).reshape(-1, *(1,) * rank)


def quantised(sums: np.ndarray, ratio: np.ndarray, zero: int, low: int, high: int) -> np.ndarray:
    steps = sums.astype(np.int32).astype(np.float32) * ratio.reshape(-1, *(1,) * (sums.ndim - 2))
    return np.clip(np.rint(steps).astype(np.float64) + zero, low, high).astype(np.uint8)


def convolve(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray,
    ratio: np.ndarray,
    x_zero: int,
    case: dict[str, Any],
    *,
    late: bool = False,
    residual: np.ndarray | None = None,
    more: np.ndarray | None = None,
    dtype: Any = np.uint8,
    y_halo: Any = NO_HALO,
    threads: int = 1,
    **params: Any,
) -> np.ndarray:
    window = sliding(x.shape, w.shape[2:], **case)
    c = x.shape[1]
    empty = aligned_empty
    early = pack_bias(None if late else bias.astype(np.float32), c, empty)
    after = pack_bias(bias.astype(np.int32).view(np.float32), c, empty).view(np.int32) if late else None
    ratios = pack_bias(ratio, c, empty)
    if dtype == np.float32 and more is not None:
        more = pack_bias(more, c, empty)
    fill = 77 if dtype == np.uint8 else 0
    y = in_planes((*x.shape[:2], *window.shape), y_halo, fill, dtype=dtype)
    operands = [
        (in_planes(x.shape, window.halo, x_zero), x),
        plain(pack_depthwise(w.astype(np.float32), empty)),
        plain(early),
        plain(after),
        plain(ratios),
        None if residual is None else (in_planes(residual.shape), residual),
        plain(more),
    ]
    params = {"taps": window.taps, "stride": window.step, "per_group": w.shape[1], "x_zero": x_zero, **params}
    return run("qdepthwise", operands, [y], threads, **params)[0]


def material(shape: tuple[int, ...], per_group: int, kernel: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, shape, np.uint8)
    w = rng.integers(-255, 256, (shape[1], per_group, *kernel))
    bias = rng.integers(-(1 << 20), 1 << 20, shape[1])
    ratio = rng.uniform(1e-4, 4e-3, shape[1]).astype(np.float32)
    return x, w, bias, ratio


CASES = [
    ((2, 19, 14, 15), 1, (3, 3), {"pads": (1, 1, 1, 1)}),
    ((1, 8, 9, 9), 1, (3, 3), {"pads": (1, 1, 1, 1), "stride": (2, 2)}),
    ((1, 33, 7, 5), 1, (5, 5), {"pads": (2, 2, 2, 2)}),
    ((1, 17, 30, 95), 1, (5, 5), {"pads": (2, 2, 2, 2), "stride": (2, 2)}),  # several strips
    ((1, 5, 61, 130), 1, (3, 3), {"pads": (1, 1, 1, 1)}),  # several strips, bands and chunks
    ((1, 6, 40, 41), 1, (7, 7), {"pads": (3, 3, 3, 3)}),
    ((1, 6, 30, 31), 1, (3, 3), {"pads": (6, 6, 6, 6), "dilation": (6, 6)}),
    ((1, 6, 30, 31), 1, (3, 2), {"dilation": (1, 2), "stride": (3, 1), "pads": (0, 1, 2, 0)}),
    ((1, 6, 5, 4), 1, (1, 1), {"stride": (3, 2)}),  # steps wider than the kernel
    ((2, 9, 45), 1, (3,), {"pads": (1, 1)}),
    ((1, 9, 200), 1, (4,), {"stride": (2,), "pads": (3, 0)}),
    ((1, 5, 6, 7, 9), 1, (3, 3, 3), {"pads": (1, 1, 1, 1, 1, 1)}),
    ((1, 5, 9, 7, 50), 1, (2, 3, 3), {"pads": (0, 1, 1, 1, 1, 1), "stride": (2, 1, 2), "dilation": (3, 1, 1)}),
    ((1, 24, 11, 12), 4, (3, 3), {"pads": (1, 1, 1, 1)}),
    ((1, 12, 11, 47), 2, (3, 3), {"pads": (1, 1, 1, 1), "stride": (2, 2)}),
    ((1, 12, 11, 12), 4, (2, 2), {}),
    ((0, 3, 6, 7), 1, (3, 2), {}),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_bits(isa: str, threads: int, case: int) -> None:
    shape, per_group, kernel, window = CASES[case]
    x, w, bias, ratio = material(shape, per_group, kernel, case)
    x_zero = (0, 255, 3, 128)[case % 4]
    sums = sums_of(x, w, bias, x_zero, window)
    halo = ((0, 1), (2, 0), (1, 3))
    got = convolve(x, w, bias, ratio, x_zero, window, threads=threads, y_zero=131, low=7, high=250, y_halo=halo)
    np.testing.assert_array_equal(got, quantised(sums, ratio, 131, 7, 250))


@pytest.mark.parametrize("late", [False, True])
def test_what_is_done_to_a_sum(isa: str, late: bool) -> None:
    """Biases beyond 2**24, tables, residuals, floats: with and without each other."""
    window = {"pads": (1, 1, 1, 1)}
    x, w, bias, ratio = material((1, 11, 9, 10), 1, (3, 3))
    if late:
        bias = np.random.default_rng(1).integers(-(1 << 31), 1 << 31, 11)  # sums wrap around, as int32 does
        ratio = (ratio * np.float32(2**-10)).astype(np.float32)
    sums = sums_of(x, w, bias, 100, window)
    table = np.random.default_rng(2).permutation(256).astype(np.uint8)
    residual = np.random.default_rng(3).integers(0, 256, sums.shape, np.uint8)
    offset = np.random.default_rng(4).standard_normal(11).astype(np.float32)
    per = (-1, 1, 1)
    steps = sums.astype(np.int32).astype(np.float32) * ratio.reshape(per)
    got = convolve(x, w, bias, ratio, 100, window, late=late, y_zero=3, more=table)
    np.testing.assert_array_equal(got, table[quantised(sums, ratio, 3, 0, 255)])
    got = convolve(x, w, bias, ratio, 100, window, late=late, dtype=np.float32, more=offset, low=-3.5, high=np.inf)
    want = np.maximum((steps + offset.reshape(per)).astype(np.float32), np.float32(-3.5))
    np.testing.assert_array_equal(got.view(np.int32), want.view(np.int32))
    got = convolve(x, w, bias, ratio, 100, window, late=late, dtype=np.float32, low=-np.inf, high=np.inf)
    np.testing.assert_array_equal(got.view(np.int32), steps.view(np.int32))
    v = np.rint(np.clip(steps, np.float32(-60), np.float32(100)))
    v = (v * np.float32(0.7)).astype(np.float32) + ((residual.astype(np.float32) - np.float32(90)) * np.float32(1.3)).astype(
        np.float32
    )
    want = (np.rint(np.clip(v, 0 - 40, 255 - 40)) + 40).astype(np.uint8)
    added = {"residual": residual, "first": (-60.0, 100.0), "scale": 0.7, "r_scale": 1.3, "r_zero": 90, "y_zero": 40}
    np.testing.assert_array_equal(convolve(x, w, bias, ratio, 100, window, late=late, **added), want)
    np.testing.assert_array_equal(convolve(x, w, bias, ratio, 100, window, late=late, more=table, **added), table[want])


def test_halves_go_to_the_even_number(isa: str) -> None:
    x = np.arange(8, dtype=np.uint8).reshape(1, 1, 1, 8)
    got = convolve(x, np.ones((1, 1, 1, 1), int), np.zeros(1, int), np.array([0.5], np.float32), 0, {})
    assert got.ravel().tolist() == [0, 0, 1, 2, 2, 2, 3, 4]


def test_the_largest_sums_are_exact(isa: str) -> None:
    """257 products of 255 by 255, and sums that only their last bit tells from the next float."""
    x = np.full((1, 3, 1, 300), 255, np.uint8)
    w = np.full((3, 1, 1, 257), 255)
    w[1, 0, 0, 0] = 254
    w[2] = -255
    want = sums_of(x, w, np.array([5, 6, 7]), 0, {})
    got = convolve(x, w, np.array([5, 6, 7]), np.ones(3, np.float32), 0, {}, dtype=np.float32, low=-np.inf, high=np.inf)
    np.testing.assert_array_equal(got.astype(np.int64), want)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_shape(data: st.DataObject) -> None:
    draw = data.draw
    isa = draw(st.sampled_from(available_isas()))
    rank = draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 5)) for _ in range(rank))
    dilation = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    window = {
        "stride": tuple(draw(st.integers(1, 3)) for _ in range(rank)),
        "dilation": dilation,
        "pads": tuple(draw(st.integers(0, 3)) for _ in range(2 * rank)),
    }
    spatial = tuple(
        (k - 1) * d + draw(st.integers(1, 12 if i < rank - 1 else 60))
        for i, (k, d) in enumerate(zip(kernel, dilation, strict=True))
    )
    per_group = draw(st.sampled_from([1, 1, 2, 4]))
    x, w, bias, ratio = material(
        (draw(st.integers(1, 2)), per_group * draw(st.integers(1, 6)), *spatial), per_group, kernel, draw(st.integers(0, 99))
    )
    x_zero, y_zero = draw(st.integers(0, 255)), draw(st.integers(0, 255))
    w = np.clip(w, -120, 120)
    sums = sums_of(x, w, bias, x_zero, window)
    with use_isa(isa):
        got = convolve(x, w, bias, ratio, x_zero, window, y_zero=y_zero, threads=draw(st.sampled_from([1, 2])))
    np.testing.assert_array_equal(got, quantised(sums, ratio, y_zero, 0, 255))


def test_phases_of_a_transposed_convolution(isa: str) -> None:
    """A grid of output pixels that do not lie side by side leaves the others as they are."""
    x, w, bias, ratio = material((1, 9, 5, 6), 1, (2, 2))
    sums = sums_of(x, w, bias, 7, {})
    taps = [(0, i, j) for i in range(2) for j in range(2)]
    y = in_planes((1, 9, 12, 15))
    operands = [
        (in_planes(x.shape, NO_HALO, 7), x),
        plain(pack_depthwise(w.astype(np.float32), aligned_empty)),
        plain(pack_bias(bias.astype(np.float32), 9, aligned_empty)),
        None,
        plain(pack_bias(ratio, 9, aligned_empty)),
        None,
        None,
    ]
    got = run("qdepthwise", operands, [y], taps=taps, x_zero=7, start=(0, 1, 2), step=(1, 3, 2), extent=(1, 4, 5))[0]
    want = np.full(y.shape, 0xA5, np.uint8)
    want[:, :, 1:11:3, 2:11:2] = quantised(sums, ratio, 0, 0, 255)
    np.testing.assert_array_equal(got, want)


def test_refused() -> None:
    view, other = in_planes((1, 8, 5, 5)), in_planes((1, 8, 5, 5), ((0, 0), (1, 1), (1, 1)), fill=9)
    vector = View.plain((lanes(),))

    def build(x: View = view, y: View = view, residual: View | None = None, **params: Any) -> None:
        given = {"taps": [(0, 0, 0)], "x_zero": 0, **params}
        kernel("qdepthwise").build([x, vector, vector, None, vector, residual, None], [y], **given)

    build()
    build(other, taps=[(0, -1, 1)], x_zero=9)
    with pytest.raises(ValueError, match="the halo of x holds 9, its zero point is 8"):
        build(other, taps=[(0, -1, 1)], x_zero=8)
    with pytest.raises(ValueError, match="not exact in float32"):
        build(in_planes((1, 8, 1, 70000)), in_planes((1, 8, 1, 1)), taps=[(0, 0, i) for i in range(66000)])
    with pytest.raises(ValueError, match="the taps reach"):
        build(taps=[(0, 1, 0)])
    with pytest.raises(ValueError, match="bounds 9 and 300"):
        build(low=9, high=300)
    with pytest.raises(ValueError, match="zero points -1"):
        build(x_zero=-1)
    with pytest.raises(ValueError, match="float32"):
        build(in_planes((1, 8, 5, 5), dtype=np.float32))
    with pytest.raises(ValueError, match="3 channels a group"):
        build(per_group=3)
    with pytest.raises(ValueError, match="residual"):
        build(residual=in_planes((1, 8, 5, 4)))
    with pytest.raises(ValueError, match="no taps"):
        build(taps=[])
    with pytest.raises(ValueError, match="leaves y"):
        build(extent=(1, 6, 5))
