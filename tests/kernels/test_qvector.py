"""Kernels of quantised numbers: every instruction set, 1 and 2 threads, other bytes all around, bit for bit against NumPy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnengine._kernels import RANGE_CHUNK, kernel
from cnnengine._kernels.dispatch import lanes
from cnnengine.layout import NO_HALO, Halo, View, aligned_copy, aligned_empty

RNG = np.random.default_rng(20261130)
HALOS: list[Halo] = [NO_HALO, ((0, 0), (1, 1), (1, 1)), ((1, 0), (0, 2), (3, 1))]
SPARE = 77
"""What lanes hold that no channel has, and what outputs hold before they are written."""
CANARY = 32


def inside(view: View, data: np.ndarray) -> np.ndarray:
    """A writable array (N, block, d, h, w, lane) over the pixels of a buffer in planes."""
    d, h, w = view.dhw
    (d0, d1), (h0, h1), (w0, w1) = view.halo
    whole = data.reshape(view.n, view.blocks, d0 + d + d1, h0 + h + h1, w0 + w + w1, view.lanes)
    return whole[:, :, d0 : d0 + d, h0 : h0 + h, w0 : w0 + w]


def lane_mask(view: View) -> np.ndarray:
    """Where the lanes are that no channel has."""
    spare = np.zeros(view.size, bool)
    per_group = view.c // view.groups
    for block in range(view.blocks):
        used = per_group - block % view.group_blocks * view.lanes
        inside(view, spare)[:, block, ..., max(used, 0) :] = True
    return spare


def buffer(x: np.ndarray, view: View) -> np.ndarray:
    """The buffer of x, its halo `fill`, spare lanes NaN or SPARE: the layout, written down."""
    if view.is_plain:
        return aligned_copy(x)
    data = aligned_empty(view.size, view.dtype)
    data[:] = view.fill
    to = inside(view, data)
    to[...] = np.nan if view.dtype.kind == "f" else SPARE
    per_group = view.c // view.groups
    for c in range(view.c):
        group, at = divmod(c, per_group)
        to[:, group * view.group_blocks + at // view.lanes, ..., at % view.lanes] = x[:, c].reshape(view.n, *view.dhw)
    return data


def run(
    name: str, operands: list[np.ndarray | None], views: list[View | None], y: View, threads: int, **params: Any
) -> np.ndarray:
    """What the kernel writes, between canaries that survive it."""
    launch = kernel(name).build(tuple(views), (y,), **params)
    whole = aligned_empty(y.size + 2 * CANARY, y.dtype)
    whole.view(np.uint8)[:] = SPARE
    out = whole[CANARY : CANARY + y.size]
    buffers = [None if x is None or v is None else buffer(x, v) for x, v in zip(operands, views, strict=True)]
    kernel(name).front(launch, *buffers, out, threads=threads)
    assert (whole[:CANARY].view(np.uint8) == SPARE).all()
    assert (whole[CANARY + y.size :].view(np.uint8) == SPARE).all()
    return out


def check(got: np.ndarray, want: np.ndarray, view: View, what: object) -> None:
    """Bit for bit, but for lanes that no channel has."""
    expected = buffer(want, view)
    if not view.is_plain:
        spare = lane_mask(view)
        got, expected = got[~spare], expected[~spare]
    same = np.array_equal(got.view(np.uint8), expected.view(np.uint8))
    assert same, (what, got[got != expected][:5], expected[got != expected][:5])


def halo_of(halo: Halo, rank: int) -> Halo:
    return tuple(pair if axis >= 5 - rank else (0, 0) for axis, pair in enumerate(halo))  # type: ignore[return-value]


def layouts(shape: tuple[int, ...], groups: tuple[int, ...], dtype: Any, fill: int = 0) -> list[View]:
    """Plain, and in planes of all widths that tiles transpose to and from."""
    dtype = np.dtype(dtype)
    made = [View.plain(shape, dtype)]
    if dtype == np.int8:
        return made
    widths = {1, lanes(), 4} if dtype == np.uint8 else {1, lanes()}
    for halo, g, width in itertools.product(HALOS, groups, sorted(widths)):
        made.append(View.planes(shape, width, halo_of(halo, len(shape)), g, dtype, fill))
    return made


SHAPES = [
    ((2, 3), (1, 3)),
    ((1, 40), (1, 2)),
    ((2, 5, 1), (1, 5)),
    ((1, 16, 33), (1, 2)),
    ((2, 1, 1, 1), (1,)),
    ((2, 17, 7, 7), (1, 17)),
    ((1, 32, 14, 14), (1, 2, 4)),
    ((1, 3, 40, 45), (1, 3)),
    ((1, 6, 60, 50), (1, 2)),
    ((2, 33, 3, 4, 5), (1, 3)),
    ((1, 20, 2, 17, 16), (1, 2)),
]


def some(a: list[View], b: list[View], at: int = 0, count: int = 60) -> list[tuple[View, View]]:
    """About so many of all pairs, spread over them, others for each `at`."""
    every = list(itertools.product(a, b))
    return every[at % max(1, len(every) // count) :: max(1, len(every) // count)]


def transposes(x: View, y: View) -> bool:
    """Whether kernels of one function of each element go from here to there."""
    a, b = x.lanes or 1, y.lanes or 1
    whole = all(v.groups == 1 or v.c // v.groups % (v.lanes or 1) == 0 for v in (x, y))
    return (a == b and (a == 1 or x.groups == y.groups or whole)) or min(a, b) == 1


# ---------------------------------------------------------------- moves


@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_reorder_of_bytes(isa, threads, shape, groups):
    x = RNG.integers(0, 256, shape).astype(np.uint8)
    for xv, yv in some(layouts(shape, groups, np.uint8, 9), layouts(shape, groups, np.uint8, 130), threads, 200):
        if xv.lanes not in (0, 1, yv.lanes) and max(shape[1:]) > 40:
            continue  # lane by lane
        y = run("reorder", [x], [xv], yv, threads)
        check(y, x, yv, (xv, yv))
        if not yv.is_plain and (xv.lanes or 1) != yv.lanes and {xv.lanes or 1, yv.lanes} != {lanes()}:
            assert (y[lane_mask(yv)] == 130).all(), (xv, yv)  # which sums of products read


def test_bytes_beside_a_row_do_not_matter(isa):
    """No more is read of the input than its own bytes: it ends where its memory does, for every width of a row."""
    for c, w in itertools.product((1, 3, 4, lanes() - 1, lanes(), 19), (*range(1, 36), 63, 64, 65)):
        shape = (1, c, 1, w)
        x = RNG.integers(0, 256, shape).astype(np.uint8)
        for width in {lanes(), 4}:
            planes = View.planes(shape, width, NO_HALO, 1, np.dtype(np.uint8), 5)
            check(run("reorder", [x], [View.plain(shape, np.uint8)], planes, 1), x, planes, (shape, width))
            check(run("reorder", [x], [planes], View.plain(shape, np.uint8), 1), x, View.plain(shape, np.uint8), (shape, width))


@pytest.mark.parametrize(
    ("c_x", "c_y", "channels", "x_channel", "y_channel"),
    [(16, 48, 16, 0, 16), (32, 64, 32, 0, 32), (64, 32, 32, 32, 0), (20, 36, 20, 0, 16), (40, 20, 20, 16, 0), (24, 50, 24, 0, 13),
     (58, 29, 29, 29, 0), (3, 4, 1, 1, 2), (16, 64, 16, 0, 37), (64, 64, 5, 15, 14)],
)  # fmt: skip
def test_copy_planes_of_bytes(isa, threads, c_x, c_y, channels, x_channel, y_channel):
    x = RNG.integers(0, 256, (2, c_x, 5, 9)).astype(np.uint8)
    for xh, yh in itertools.product(HALOS[:2], HALOS[:2]):
        xv = View.planes(x.shape, lanes(), xh, 1, np.dtype(np.uint8), 3)
        yv = View.planes((2, c_y, 5, 9), lanes(), yh, 1, np.dtype(np.uint8), 200)
        before = RNG.integers(0, 256, yv.shape).astype(np.uint8)
        launch = kernel("copy_planes").build((xv,), (yv,), channels=channels, x_channel=x_channel, y_channel=y_channel)
        y = buffer(before, yv)
        kernel("copy_planes").front(launch, buffer(x, xv), y, threads=threads)
        before[:, y_channel : y_channel + channels] = x[:, x_channel : x_channel + channels]
        check(y, before, yv, launch)


@settings(max_examples=80)
@given(st.data())
def test_take_planes_of_bytes(isa, threads, data):
    parts = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    groups = [data.draw(st.sampled_from([g for g in (1, 2, 3) if c % g == 0])) for c in parts]
    out = data.draw(st.integers(1, 50))
    h, w = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 19))
    channels = data.draw(st.lists(st.integers(0, sum(parts) - 1), min_size=out, max_size=out))
    xs = [RNG.integers(0, 256, (2, c, h, w)).astype(np.uint8) for c in parts]
    halo = data.draw(st.sampled_from(HALOS[:2]))
    views = [View.planes(x.shape, lanes(), halo, g, np.dtype(np.uint8), 7) for x, g in zip(xs, groups, strict=True)]
    yv = View.planes((2, out, h, w), lanes(), data.draw(st.sampled_from(HALOS)), 1, np.dtype(np.uint8), 9)
    y = run("take_planes", xs, views, yv, threads, channels=channels)  # type: ignore[arg-type]
    check(y, np.concatenate(xs, 1)[:, channels], yv, (parts, channels))


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("fill", [0, 128])
def test_pad_planes_of_bytes(isa, threads, value, fill):
    """What is padded with, and what the halo around it holds, are two numbers."""
    x = RNG.integers(0, 256, (2, lanes() + 3, 5, 6)).astype(np.uint8)
    for halo in HALOS[:2]:
        xv = View.planes(x.shape, lanes(), HALOS[1], 1, np.dtype(np.uint8), 50)
        yv = View.planes((2, lanes() + 3, 8, 7), lanes(), halo, 1, np.dtype(np.uint8), fill)
        y = run("pad_planes", [x], [xv], yv, threads, pads=[(1, 2), (0, 1)], value=value)
        check(y, np.pad(x, [(0, 0), (0, 0), (1, 2), (0, 1)], constant_values=value), yv, (halo, value, fill))
    with pytest.raises(ValueError, match="pad_planes"):
        kernel("pad_planes").build((xv,), (yv,), pads=[(1, 2), (0, 1)], value=256)


@pytest.mark.parametrize("halo", HALOS)
def test_pixels_of_bytes_by_index(isa, threads, halo):
    x = RNG.integers(0, 256, (2, 2 * lanes() + 1, 5, 7)).astype(np.uint8)
    rows, columns = np.array([0, 0, 2, 2, 2, 4, 1]), np.arange(14) // 2
    tables = [(at, at, np.zeros(len(at), np.float32)) for at in (rows, columns)]
    xv = View.planes(x.shape, lanes(), HALOS[1], 1, np.dtype(np.uint8), 50)
    yv = View.planes((2, 2 * lanes() + 1, 7, 14), lanes(), halo, 1, np.dtype(np.uint8), 60)
    check(run("resize", [x], [xv], yv, threads, tables=tables), x[:, :, rows][..., columns], yv, halo)
    blended = [(rows, rows, np.full(7, 0.5, np.float32)), tables[1]]
    with pytest.raises(ValueError, match="not mixed"):
        kernel("resize").build((xv,), (yv,), tables=blended)


# ---------------------------------------------------------------- to and from floats


def quantized(x: np.ndarray, scale: Any, zero: Any, dtype: Any) -> np.ndarray:
    limits = np.iinfo(dtype)
    with np.errstate(all="ignore"):
        q = np.rint(x / np.asarray(scale, np.float32)).astype(np.float64)
    q = np.where(np.isnan(q), 0.0, q) + np.asarray(zero, np.float64)
    return np.clip(q, limits.min, limits.max).astype(dtype)


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers, of which some lie between two steps, some far outside, and some are none."""
    x = (RNG.standard_normal(shape) * 40).astype(np.float32)
    flat = x.reshape(-1)
    flat[::3] = np.round(flat[::3] * 2) / 2
    for i, v in enumerate((np.nan, np.inf, -np.inf, 1e30, -1e30, -0.0, 0.5, 1.5, -0.5)):
        flat[i * 5 % flat.size] = v
    return x


ZEROS = [
    (np.uint8, 0),
    (np.uint8, 128),
    (np.uint8, 255),
    (np.int8, 0),
    (np.int8, -128),
    (np.int8, 127),
    (np.uint8, None),
    (np.int8, None),
]


@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_quantize_and_dequantize_between_layouts(isa, threads, shape, groups):
    x = numbers(shape)
    fill = 128
    for at, (dtype, zero) in enumerate(ZEROS):
        scale = (0.5, 1.0, 0.37)[at % 3]
        operands = [np.full((), scale, np.float32), None if zero is None else np.full((), zero, dtype)]
        views = [View.plain((), np.float32), None if zero is None else View.plain((), dtype)]
        q = quantized(x, np.float32(scale), zero or 0, dtype)
        back = (q.astype(np.float64) - (zero or 0)).astype(np.float32) * np.float32(scale)
        for fv, qv in some(layouts(shape, groups, np.float32), layouts(shape, groups, dtype, fill), at + threads, 24):
            if not transposes(fv, qv):
                with pytest.raises(ValueError, match="quantize: from planes"):
                    kernel("quantize").build((fv, *views), (qv,))
                continue
            check(run("quantize", [x, *operands], [fv, *views], qv, threads), q, qv, (fv, qv, dtype, zero))
            check(run("dequantize", [q, *operands], [qv, *views], fv, threads), back, fv, (fv, qv, dtype, zero))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("which", ["both", "scale", "zero"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((2, 5, 7, 3), 1), ((2, 5, 7, 3), 3), ((3, 1500), 1), ((1500, 2), 0), ((7,), 0), ((2, 3, 1, 1), 1), ((40, 33), 0)],
)
def test_one_scale_per_index_of_an_axis(isa, threads, dtype, which, shape, axis):
    n = shape[axis]
    x = numbers(shape)
    scale = RNG.uniform(0.1, 2, n if which != "zero" else 1).astype(np.float32)
    limits = np.iinfo(dtype)
    zero = RNG.integers(limits.min, limits.max + 1, n if which != "scale" else 1).astype(dtype)
    laid = [v.reshape(-1, *(1,) * (len(shape) - axis - 1)) if v.size > 1 else v for v in (scale, zero)]
    q = quantized(x, *laid, dtype)
    back = (q.astype(np.float64) - laid[1]).astype(np.float32) * laid[0]
    f, i = View.plain(shape), View.plain(shape, dtype)
    views = [View.plain(scale.shape), View.plain(zero.shape, dtype)]
    check(run("quantize", [x, scale, zero], [f, *views], i, threads, axis=axis), q, i, shape)
    check(run("dequantize", [q, scale, zero], [i, *views], f, threads, axis=axis), back, f, shape)
    if n > 2:
        with pytest.raises(ValueError, match="scales or zero points"):
            kernel("quantize").build((f, View.plain((n - 1,)), None), (i,), axis=axis)


def test_what_quantize_refuses(isa):
    f, q, one = View.plain((1, 3, 4, 4)), View.plain((1, 3, 4, 4), np.uint8), View.plain(())
    bad: list[tuple[Any, Any, dict[str, Any]]] = [
        ((q, one, None), f, {}),
        ((f, View.plain((), np.float64), None), q, {}),
        ((f, one, View.plain((), np.int8)), q, {}),
        ((f, one, None), View.plain((1, 3, 4, 5), np.uint8), {}),
        ((f, View.plain((3,)), None), q, {}),
        ((f, View.plain((3,)), None), q, {"axis": 4}),
        ((f, View.plain((3,)), None), View.planes((1, 3, 4, 4), lanes(), dtype=np.dtype(np.uint8)), {"axis": 1}),
        ((f, one, None), View.planes((1, 3, 4, 4), lanes(), dtype=np.dtype(np.int8)), {}),
    ]
    for inputs, y, params in bad:
        with pytest.raises(ValueError, match="quantize"):
            kernel("quantize").build(inputs, (y,), **params)
    with pytest.raises(ValueError, match="dequantize"):
        kernel("dequantize").build((f, one, None), (f,))


@settings(max_examples=60)
@given(st.integers(1, 600), st.floats(width=32), st.integers(-128, 255), st.data())
def test_any_scale(isa, n, scale, zero, data):
    """Scales of 0, negative, not finite, and numbers that are not normal: what NumPy computes."""
    dtype = np.uint8 if zero > 127 else np.int8 if zero < 0 else data.draw(st.sampled_from([np.uint8, np.int8]))
    x = numbers((n,))
    operands = [x, np.full((), scale, np.float32), np.full((), zero, dtype)]
    views = [View.plain((n,)), View.plain(()), View.plain((), dtype)]
    y = run("quantize", operands, views, View.plain((n,), dtype), 1)  # type: ignore[arg-type]
    check(y, quantized(x, np.float32(scale), zero, dtype), View.plain((n,), dtype), (scale, zero))


@pytest.mark.parametrize("n", [1, 5, 37, RANGE_CHUNK, 3 * RANGE_CHUNK + 7])
@pytest.mark.parametrize("kind", ["mixed", "positive", "negative", "zero", "nan"])
def test_dynamic_scale(isa, threads, n, kind):
    x = (RNG.standard_normal(n) * 3).astype(np.float32)
    if kind in ("positive", "negative"):
        x = np.abs(x) * np.float32(1 if kind == "positive" else -1)
    elif kind == "zero":
        x[:] = 0
    elif kind == "nan":
        x[n // 2] = np.nan
    chunks = -(-n // RANGE_CHUNK)
    found = run("qrange", [x], [View.plain((n,))], View.plain((2 * chunks,)), threads)
    low, high = np.minimum(0, x.min()), np.maximum(0, x.max())
    np.testing.assert_array_equal(found[0::2].min(), low)
    np.testing.assert_array_equal(found[1::2].max(), high)
    scale, zero = np.empty(1, np.float32), np.empty(1, np.uint8)
    launch = kernel("dynamic_scale").build((View.plain((2 * chunks,)),), (View.plain(()), View.plain((), np.uint8)))
    kernel("dynamic_scale").front(launch, found, scale, zero)
    with np.errstate(all="ignore"):
        want = np.float32(1) if high == low else np.float32(high - low) / np.float32(255)
        point = np.rint(-(np.float32(low) / want))
    np.testing.assert_array_equal(scale[0], want)
    assert zero[0] == (0 if np.isnan(point) else np.clip(point, 0, 255))


# ---------------------------------------------------------------- tables, signs


@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_table_and_sign_between_layouts(isa, threads, shape, groups):
    x = RNG.integers(0, 256, shape).astype(np.uint8)
    table = RNG.permutation(256).astype(np.uint8)
    plain = View.plain(shape, np.int8)
    flipped = (x ^ 128).view(np.int8)
    every = layouts(shape, groups, np.uint8, 128)
    for xv, yv in some(every, every, threads, 120):
        if transposes(xv, yv):
            y = run("qtable", [x, table], [xv, View.plain((256,), np.uint8)], yv, threads)
            check(y, table[x], yv, (xv, yv))
    for xv in every:
        check(run("flip_sign", [x], [xv], plain, threads), flipped, plain, xv)
        check(run("flip_sign", [flipped], [plain], xv, threads), x, xv, xv)


@pytest.mark.parametrize("n", [0, 1, 15, 16, 127, 128, 129, 255, 256, 1000, 70000])
def test_table_of_runs(isa, threads, n):
    x = RNG.integers(0, 256, n).astype(np.uint8)
    x[: min(n, 256)] = np.arange(256)[:n]  # every entry
    table = RNG.integers(0, 256, 256).astype(np.uint8)
    view = View.plain((n,), np.uint8)
    check(run("qtable", [x, table], [view, View.plain((256,), np.uint8)], view, threads), table[x], view, n)


def test_what_tables_refuse(isa):
    q, f = View.plain((4, 4), np.uint8), View.plain((4, 4))
    for inputs, y in [
        ((q, View.plain((255,), np.uint8)), q),
        ((q, View.plain((256,), np.int8)), q),
        ((f, View.plain((256,), np.uint8)), f),
        ((q, View.plain((256,), np.uint8)), View.plain((16,), np.uint8)),
    ]:
        with pytest.raises(ValueError, match="qtable"):
            kernel("qtable").build(inputs, (y,))
    with pytest.raises(ValueError, match="flip_sign"):
        kernel("flip_sign").build((q,), (q,))


# ---------------------------------------------------------------- two operands


def added(a: Any, b: Any, p: dict[str, Any]) -> np.ndarray:
    ra, rb = (np.float32(r) for r in p["ratios"])
    left = (a.astype(np.float32) - np.float32(p["a_zero"])) * ra
    right = (b.astype(np.float32) - np.float32(p["b_zero"])) * rb
    return np.clip(np.rint(left + right).astype(np.float64) + p["zero"], p["low"], p["high"]).astype(np.uint8)


def multiplied(a: Any, b: Any, p: dict[str, Any]) -> np.ndarray:
    product = (a.astype(np.float32) - np.float32(p["a_zero"])) * (b.astype(np.float32) - np.float32(p["b_zero"]))
    return np.clip(np.rint(product * np.float32(p["ratio"])).astype(np.float64) + p["zero"], p["low"], p["high"]).astype(np.uint8)


def settings_of(product: bool, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    zeros = {"a_zero": int(rng.integers(0, 256)), "b_zero": int(rng.integers(0, 256)), "zero": int(rng.integers(0, 256))}
    low = int(rng.choice([0, zeros["zero"]]))
    high = int(rng.integers(low, 256))
    numbers = {**zeros, "low": low, "high": high}
    if product:
        return {**numbers, "ratio": float(rng.choice([0.5, 0.013, 1.0, 1000.0]))}
    return {**numbers, "ratios": (float(rng.choice([0.5, 1.5, 0.7])), float(rng.choice([0.25, -0.5, 0.3333, 2000.0])))}


@pytest.mark.parametrize(("name", "want"), [("qadd", added), ("qmul", multiplied)])
@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_two_operands_in_all_layouts(isa, threads, name, want, shape, groups):
    a, b = (RNG.integers(0, 256, shape).astype(np.uint8) for _ in range(2))
    gate = RNG.integers(0, 256, (*shape[:2], *(1,) * (len(shape) - 2))).astype(np.uint8)
    params = settings_of(name == "qmul", len(shape) * 100 + shape[1])
    widths = [
        (v, w)
        for v, w in itertools.product(layouts(shape, groups, np.uint8, 9), repeat=2)
        if (v.lanes, v.groups) == (w.lanes, w.groups)
    ]
    for xv, yv in widths:
        y = run(name, [a, b], [xv, xv], yv, threads, **params)
        check(y, want(a, b, params), yv, (xv, yv))
        if not xv.is_plain:
            gv = View.planes(gate.shape, xv.lanes, NO_HALO, xv.groups, np.dtype(np.uint8))
            check(run(name, [a, gate], [xv, gv], yv, threads, **params), want(a, gate, params), yv, (xv, gv))


@pytest.mark.parametrize(("name", "want"), [("qadd", added), ("qmul", multiplied)])
@pytest.mark.parametrize(
    ("shape", "short"),
    [((2, 3, 4, 5), (1,)), ((2, 3, 4, 5), ()), ((2, 3, 4, 5), (2, 3, 1, 1)), ((2, 3, 4, 5), (3, 1, 1)),
     ((2, 3, 4, 5), (1, 3, 4, 5)), ((2, 300), (300,)), ((3, 7, 100), (7, 100)), ((5, 1, 9), (9,)),
     ((70, 2, 2), (70, 1, 1)), ((2, 3, 4, 5), (1, 1, 4, 1))],
)  # fmt: skip
def test_the_second_operand_broadcasts(isa, threads, name, want, shape, short):
    a, b = RNG.integers(0, 256, shape).astype(np.uint8), RNG.integers(0, 256, short).astype(np.uint8)
    params = settings_of(name == "qmul", 5)
    view = View.plain(shape, np.uint8)
    y = run(name, [a, b], [view, View.plain(short, np.uint8)], view, threads, **params)
    check(y, want(a, b, params), view, short)


@pytest.mark.parametrize("name", ["qadd", "qmul"])
def test_halves_go_to_even_and_every_pair_is_right(isa, name):
    """All 65536 pairs of bytes, with ratios by which many results lie half-way."""
    a, b = (v.reshape(-1).astype(np.uint8) for v in np.meshgrid(np.arange(256), np.arange(256)))
    view = View.plain(a.shape, np.uint8)
    for zero in (0, 100, 255):
        numbers = {"a_zero": 128, "b_zero": 3, "zero": zero, "low": 0, "high": 255}
        if name == "qadd":
            p: dict[str, Any] = {**numbers, "ratios": (0.5, 0.25)}
            want = added(a, b, p)
        else:
            p = {**numbers, "ratio": 1 / 128}
            want = multiplied(a, b, p)
        check(run(name, [a, b], [view, view], view, 1, **p), want, view, zero)


def test_what_two_operands_refuse(isa):
    v = View.plain((2, 6, 4, 4), np.uint8)
    p = View.planes((2, 6, 4, 4), lanes(), dtype=np.dtype(np.uint8))
    good: dict[str, Any] = {"a_zero": 0, "b_zero": 0, "ratios": (1.0, 1.0), "zero": 0}
    bad: list[tuple[Any, Any, dict[str, Any]]] = [
        ((v, v), v, {"a_zero": 256}),
        ((v, v), v, {"zero": -1}),
        ((v, v), v, {"ratios": (np.inf, 1.0)}),
        ((v, v), v, {"ratios": (np.nan, 1.0)}),
        ((v, v), v, {"ratios": (1e9, 1.0)}),
        ((v, v), v, {"low": 9, "high": 8}),
        ((v, p), v, {}),
        ((v, View.plain((2, 6, 4, 4), np.int8)), v, {}),
        ((View.plain((1, 6, 4, 4), np.uint8), v), v, {}),
        ((v, View.plain((2, 1, 4, 1), np.uint8)), v, {}),
        ((p, View.planes((1, 6, 1, 1), lanes(), dtype=np.dtype(np.uint8))), p, {}),
        ((p, View.planes((2, 6, 4, 4), lanes(), groups=2, dtype=np.dtype(np.uint8))), p, {}),
    ]
    for inputs, y, changed in bad:
        with pytest.raises(ValueError, match="qadd"):
            kernel("qadd").build(inputs, (y,), **{**good, **changed})
    with pytest.raises(ValueError, match="qmul"):
        kernel("qmul").build((v, v), (v,), a_zero=0, b_zero=0, ratio=1e5, zero=0)
