"""The convolution of quantised numbers, each instruction set, one and two threads, among noise: its integers bit for bit."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnengine._kernels import dispatch, kernel, qconv
from cnnengine.layout import NO_HALO, View, aligned_empty, merge_halos
from cnnengine.operator import Activation

from .launching import blocked, unblocked
from .sliding import sliding

pytestmark = pytest.mark.products_of_bytes

GUARD = 512
RNG = np.random.default_rng(5)


def sums_of(x, w, bias, x_zero, *, pads=0, **geometry) -> np.ndarray:
    """The sums as integers: padding is the zero point, so that it adds nothing."""
    exact = oracle.conv(x.astype(np.float64) - x_zero, w, None, pads=pads, **geometry)
    exact = exact + np.asarray(bias, np.float64).reshape(-1, *(1,) * (x.ndim - 2))
    return exact.astype(np.int64).astype(np.int32)


def quantised(sums, ratio, low, high, zero) -> np.ndarray:
    """Sums in steps of a result, each operation of floats rounded."""
    by_channel = np.asarray(ratio, np.float32).reshape(-1, *(1,) * (sums.ndim - 2))
    scaled = sums.astype(np.float32) * by_channel
    return np.rint(np.clip(scaled, np.float32(low), np.float32(high))).astype(np.int32) + zero


def run(
    x, w, bias, ratio, *, x_zero, zero=0, low=-np.inf, high=np.inf, mode="bytes", stride=1, pads=0, dilation=1, groups=1,
    residual=None, first=None, scales=None, r_zero=0, table=None, offset=None, activation=None, few=False, in_halo=NO_HALO,
    out_halo=NO_HALO, late_zero=False, threads=1,
):  # fmt: skip
    """The kernel on arrays (N, C, ...), laid out among noise."""
    window = sliding(x.shape, w.shape[2:], stride, pads, dilation)
    lanes = dispatch.lanes()
    x_groups = 1 if x.shape[1] // groups % lanes == 0 else groups
    y_groups = 1 if w.shape[0] // groups % lanes == 0 else groups
    bytes_, dtype = np.dtype(np.uint8), np.dtype({"bytes": np.uint8, "floats": np.float32, "sums": np.int32}[mode])
    xv = View.planes(x.shape, 4 if few else lanes, merge_halos(window.halo, in_halo), x_groups, bytes_, x_zero)
    yv = View.planes((x.shape[0], w.shape[0], *window.shape), lanes, out_halo, y_groups, dtype, zero if mode == "bytes" else 0)
    rv = None if residual is None else View.planes(yv.shape, lanes, in_halo, y_groups, bytes_, r_zero)
    narrow = np.int8 if qconv.word() == 4 else np.int16
    operands = [
        qconv.pack_qconv(w.astype(narrow), groups, xv.lanes, aligned_empty),
        qconv.pack_channels(bias, groups, aligned_empty, np.int32),
        qconv.pack_channels(w.astype(np.int64).reshape(w.shape[0], -1).sum(1), groups, aligned_empty, np.int32),
        qconv.pack_channels(ratio, groups, aligned_empty),
        None if offset is None else qconv.pack_channels(offset, groups, aligned_empty),
        None if rv is None else blocked(rv, residual),
        table,
        np.array([x_zero], np.uint8) if late_zero else None,
    ]
    views = [None if a is None else View.plain(a.shape, a.dtype) for a in operands]
    views[5] = rv
    params = {} if residual is None else {"first": first, "scales": scales, "r_zero": r_zero}
    launch = kernel("qconv").build(
        [xv, *views], [yv], taps=window.taps, x_zero=0 if late_zero else x_zero, stride=window.step, groups=groups, mode=mode,
        zero=zero, low=low, high=high, activation=activation, **params,
    )  # fmt: skip
    whole = aligned_empty(yv.size + 2 * GUARD, dtype)
    whole.view(np.uint8)[:] = 0xA5
    y = whole[GUARD : GUARD + yv.size]
    launch(blocked(xv, x), *operands, y, threads=threads)
    for edge in (whole[:GUARD], whole[GUARD + yv.size :]):
        assert (edge.view(np.uint8) == 0xA5).all(), "written outside of the output"
    return unblocked(yv, y)


def case(n=1, c=8, o=8, spatial=(6, 7), kernel=(3, 3), groups=1, x_zero=117, low=-128, high=127, seed=0):
    """x, weights, bias and ratios; weights as large as an int8 allows here and there."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (n, c, *spatial)).astype(np.uint8)
    w = np.clip(np.rint(rng.standard_normal((o, c // groups, *kernel)) * 70), low, high).astype(np.int64)
    bias = rng.integers(-5000, 5000, o)
    ratio = (rng.uniform(0.5, 2.0, o) / (70 * 74 * np.sqrt(c // groups * np.prod(kernel)) / 60)).astype(np.float32)
    return {"x": x, "w": w, "bias": bias, "ratio": ratio, "x_zero": x_zero}


def check(args, *, zero=100, **kw):
    geometry = {k: kw[k] for k in ("stride", "pads", "dilation", "groups") if k in kw}
    sums = sums_of(args["x"], args["w"], args["bias"], args["x_zero"], **geometry)
    low, high = kw.get("low", -zero), kw.get("high", 255 - zero)
    got = run(**args, zero=zero, **kw)
    np.testing.assert_array_equal(got, quantised(sums, args["ratio"], low, high, zero))


SHAPES = [
    # n, c, o, spatial, kernel, geometry
    (1, 8, 8, (5, 6), (1, 1), {}),
    (2, 13, 19, (6, 7), (3, 3), {"pads": 1}),
    (1, 32, 33, (9, 29), (1, 1), {}),
    (1, 40, 16, (8, 15), (1, 1), {"stride": 2}),
    (1, 17, 24, (11, 10), (3, 3), {"pads": 1, "stride": 2}),
    (1, 5, 9, (9, 12), (3, 2), {"dilation": (2, 3), "pads": (2, 3, 1, 0)}),
    (1, 16, 40, (7, 7), (5, 5), {"pads": 2}),
    (2, 24, 48, (5, 5), (3, 3), {"groups": 2, "pads": 1}),
    (1, 12, 6, (6, 6), (3, 3), {"groups": 3, "pads": 1}),
    (1, 9, 11, (23,), (4,), {"pads": (1, 2), "stride": 3}),
    (1, 6, 10, (4, 5, 6), (2, 3, 3), {"pads": (0, 1, 1, 1, 1, 1), "stride": (2, 1, 1)}),
    (1, 64, 64, (14, 14), (3, 3), {"pads": 1}),
    (1, 300, 70, (3, 4), (1, 1), {}),
    (1, 8, 16, (1, 1), (1, 1), {}),
    (3, 4, 130, (2, 33), (1, 3), {"pads": (0, 1, 0, 1)}),
]


@pytest.mark.parametrize("which", range(len(SHAPES)))
def test_integers_bit_for_bit(isa: str, threads: int, which: int) -> None:
    n, c, o, spatial, kernel_shape, geometry = SHAPES[which]
    args = case(n, c, o, spatial, kernel_shape, geometry.get("groups", 1), seed=which)
    check(args, threads=threads, **geometry)
    check(args, threads=threads, zero=0, low=0, in_halo=((1, 0), (0, 2), (1, 1)), out_halo=((0, 0), (1, 1), (2, 1)), **geometry)


@given(st.data())
def test_any_geometry(data: st.DataObject) -> None:
    isa = data.draw(st.sampled_from(dispatch.available_isas()))
    rank = data.draw(st.integers(1, 3))
    draw = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(rank))  # noqa: E731
    kernel_shape, stride, dilation = draw(1, 3), draw(1, 3), draw(1, 2)
    pads = tuple(data.draw(st.integers(0, (k - 1) * d)) for _ in range(2) for k, d in zip(kernel_shape, dilation, strict=True))
    spatial = tuple((k - 1) * d + data.draw(st.integers(1, 6)) for k, d in zip(kernel_shape, dilation, strict=True))
    groups = data.draw(st.integers(1, 3))
    c, o = groups * data.draw(st.integers(1, 18)), groups * data.draw(st.integers(1, 18))
    x_zero, zero = data.draw(st.integers(0, 255)), data.draw(st.integers(0, 255))
    args = case(data.draw(st.integers(1, 2)), c, o, spatial, kernel_shape, groups, x_zero, seed=data.draw(st.integers(0, 99)))
    with dispatch.use_isa(isa):
        check(args, zero=zero, stride=stride, dilation=dilation, pads=pads, groups=groups, few=groups == 1 and c <= 4)


def test_extremes_do_not_saturate(isa: str, threads: int) -> None:
    """Products as large as they get, all of one sign, beyond what 24 bits hold: no instruction may clip neighbours' sums."""
    for x_value, w_value, x_zero in ((255, -128, 0), (255, 127, 0), (0, -128, 255), (0, 127, 255), (255, 127, 128)):
        x = np.full((1, 96, 5, 7), x_value, np.uint8)
        w = np.full((17, 96, 3, 3), w_value, np.int64)
        bias = np.arange(17) * 1000 - 8000
        args = {"x": x, "w": w, "bias": bias, "ratio": np.full(17, 3e-6, np.float32), "x_zero": x_zero}
        check(args, threads=threads, pads=1, zero=128)
        got = run(**args, mode="sums", pads=1, threads=threads)
        np.testing.assert_array_equal(got, sums_of(x, w, bias, x_zero, pads=1))


def test_halves_go_to_the_even_number(isa: str) -> None:
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    w = np.ones((1, 1, 1, 1), np.int64)
    args = {"x": x, "w": w, "bias": np.zeros(1), "ratio": np.array([0.5], np.float32), "x_zero": 0}
    check(args, zero=3, few=True)
    check({**args, "x_zero": 128}, zero=100)


def test_weights_less_zero_points(isa: str, threads: int) -> None:
    """Weights of nine bits, as uint8 less a zero point: 16-bit words hold them, words of bytes hold them in two parts."""
    args = case(1, 21, 18, (6, 9), (3, 3), seed=3)
    w = np.random.default_rng(1).integers(-255, 256, args["w"].shape)
    sums = sums_of(args["x"], w, args["bias"], args["x_zero"], pads=1)
    if qconv.word() == 2:
        got = run(**{**args, "w": w}, mode="sums", pads=1, threads=threads)
        np.testing.assert_array_equal(got, sums)


@pytest.mark.parametrize("groups", [1, 2])
def test_residual(isa: str, threads: int, groups: int) -> None:
    args = case(2, 16, 24, (7, 13), (3, 3), groups, seed=9)
    residual = RNG.integers(0, 256, (2, 24, 7, 13)).astype(np.uint8)
    scales = (float(np.float32(0.7)), float(np.float32(1.3)))
    for zero, low in ((90, -90), (0, 0)):
        got = run(
            **args, zero=zero, low=low, pads=1, groups=groups, residual=residual, first=(-120, 135), scales=scales, r_zero=131,
            threads=threads, in_halo=((0, 0), (1, 1), (1, 1)), out_halo=((0, 0), (1, 1), (1, 1)),
        )  # fmt: skip
        sums = sums_of(args["x"], args["w"], args["bias"], args["x_zero"], pads=1, groups=groups)
        first = quantised(sums, args["ratio"], -120, 135, 0).astype(np.float32) * np.float32(scales[0])
        total = first + (residual.astype(np.float32) - np.float32(131)) * np.float32(scales[1])
        np.testing.assert_array_equal(got, np.rint(np.clip(total, low, 255 - zero)).astype(np.int32) + zero)


def test_table_and_late_zero_point(isa: str, threads: int) -> None:
    args = case(1, 19, 26, (8, 11), (3, 3), seed=4)
    table = RNG.integers(0, 256, 256).astype(np.uint8)
    sums = sums_of(args["x"], args["w"], args["bias"], args["x_zero"], pads=1)
    want = table[quantised(sums, args["ratio"], -77, 178, 77)]
    got = run(**args, zero=77, pads=1, table=table, threads=threads)
    np.testing.assert_array_equal(got, want)
    got = run(**args, zero=77, pads=1, table=table, late_zero=True, threads=threads)
    np.testing.assert_array_equal(got, want)


def test_floats(isa: str, threads: int) -> None:
    args = case(1, 12, 21, (6, 17), (3, 3), seed=6)
    offset = RNG.standard_normal(21).astype(np.float32)
    sums = sums_of(args["x"], args["w"], args["bias"], args["x_zero"], pads=1).astype(np.float32)
    want = sums * args["ratio"].reshape(-1, 1, 1) + offset.reshape(-1, 1, 1)
    got = run(**args, mode="floats", pads=1, offset=offset, threads=threads, out_halo=((0, 0), (1, 0), (0, 2)))
    np.testing.assert_array_equal(got, want)
    got = run(**args, mode="floats", pads=1, offset=offset, activation=Activation("clip", 0.0, 6.0), threads=threads)
    np.testing.assert_array_equal(got, np.clip(want, 0, 6))
    got = run(**args, mode="floats", pads=1, offset=offset, activation=Activation("leaky_relu", 0.25), threads=threads)
    np.testing.assert_array_equal(got, np.where(want < 0, want * np.float32(0.25), want))
