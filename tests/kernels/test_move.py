"""Kernels that move values: every instruction set, 1 and 2 threads, NaN-filled buffers, bit for bit against NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnengine._kernels import kernel
from cnnengine._kernels.dispatch import lanes
from cnnengine.layout import View, aligned_copy, aligned_empty

RNG = np.random.default_rng(20261122)
HALOS = [((0, 0), (0, 0), (0, 0)), ((0, 0), (1, 1), (1, 1)), ((1, 0), (0, 2), (3, 1))]


def to_buffer(x: np.ndarray, view: View, filler: float = np.nan) -> np.ndarray:
    """The buffer of `view` with the values of x, its halo zero and every other float `filler`: the layout, written down."""
    if view.is_plain:
        return aligned_copy(x)
    buffer = aligned_empty(view.size)
    buffer[:] = filler
    d, h, w = view.dhw
    (d0, d1), (h0, h1), (w0, w1) = view.halo
    whole = buffer.reshape(x.shape[0], view.blocks, d0 + d + d1, h0 + h + h1, w0 + w + w1, view.lanes)
    inside = whole[:, :, d0 : d0 + d, h0 : h0 + h, w0 : w0 + w]
    values = inside.copy()
    whole[...] = 0
    inside[...] = values
    x5 = x.reshape(*x.shape[:2], d, h, w)
    size = view.c // view.groups
    for c in range(view.c):
        group, at = divmod(c, size)
        inside[:, group * view.group_blocks + at // view.lanes, ..., at % view.lanes] = x5[:, c]
    return buffer


def views(shape: tuple[int, ...], groups: tuple[int, ...]) -> list[View]:
    tail = len(shape) - 2
    made = [View.plain(shape)]
    for halo, g, n in itertools.product(HALOS, groups, (1, lanes())):
        kept = tuple(pair if axis >= 3 - tail else (0, 0) for axis, pair in enumerate(halo))
        made.append(View.planes(shape, n, kept, g))  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    ("shape", "groups"),
    [
        ((2, 3), (1, 3)),
        ((1, 40), (1, 2)),
        ((2, 5, 1), (1, 5)),
        ((1, 16, 33), (1, 2)),
        ((2, 1, 1, 1), (1,)),
        ((2, 17, 7, 7), (1, 17)),
        ((1, 32, 14, 14), (1, 2, 4)),
        ((1, 48, 5, 31), (1, 3, 6)),
        ((1, 6, 150, 170), (1, 2)),
        ((2, 33, 3, 4, 5), (1, 3)),
        ((1, 20, 2, 17, 16), (1, 2)),
    ],
)
def test_reorder_between_all_layouts(isa, threads, shape, groups):
    x = RNG.standard_normal(shape).astype(np.float32)
    for xv, yv in itertools.product(views(shape, groups), repeat=2):
        launch = kernel("reorder").build((xv,), (yv,))
        y = aligned_empty(yv.size)
        y[:] = np.nan
        kernel("reorder").front(launch, to_buffer(x, xv), y, threads=threads)
        expected = to_buffer(x, yv)
        specified = ~np.isnan(expected)
        assert np.array_equal(y[specified], expected[specified]), (launch.kernel, xv, yv)
        if "rows" not in launch.kernel:  # lanes beyond the last channel
            assert not y[~specified].any(), (launch.kernel, xv, yv)


@pytest.mark.parametrize("direction", ["pack", "unpack", "rows"])
def test_reorder_stays_inside_its_buffers(isa, direction):
    """Canaries around both buffers survive, and values before and behind the input do not matter."""
    for w, c in itertools.product((1, 7, 15, 16, 17, 30), (1, 3, 16, 19)):
        plain, planes = View.plain((2, c, 3, w)), View.planes((2, c, 3, w), lanes())
        xv, yv = {"pack": (plain, planes), "unpack": (planes, plain), "rows": (planes, planes)}[direction]
        x = RNG.standard_normal((2, c, 3, w)).astype(np.float32)
        around = aligned_empty(xv.size + 64)
        around[:] = np.nan
        around[32 : 32 + xv.size] = to_buffer(x, xv)
        y = aligned_empty(yv.size + 64)
        y[:] = 77
        kernel("reorder").front(kernel("reorder").build((xv,), (yv,)), around[32 : 32 + xv.size], y[32 : 32 + yv.size])
        expected = to_buffer(x, yv)
        specified = ~np.isnan(expected)
        assert np.array_equal(y[32 : 32 + yv.size][specified], expected[specified])
        assert (y[:32] == 77).all()
        assert (y[32 + yv.size :] == 77).all()


def test_reorder_of_nothing():
    for shape in [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0)]:
        a, b = View.plain(shape), View.planes(shape, lanes(), HALOS[1])
        if shape[1]:
            y = aligned_empty(b.size)
            y[:] = np.nan
            kernel("reorder").front(kernel("reorder").build((a,), (b,)), aligned_empty(0), y)
            back = aligned_empty(0)
            kernel("reorder").front(kernel("reorder").build((b,), (a,)), y, back)


def test_reorder_refuses_what_does_not_fit():
    plain = View.plain((1, 4, 5, 5))
    with pytest.raises(ValueError, match="shapes"):
        kernel("reorder").build((plain,), (View.planes((1, 4, 5, 6), lanes()),))
    with pytest.raises(ValueError, match="float32"):
        kernel("reorder").build((View.plain((1, 4, 5, 5), np.int32),), (plain,))
    launch = kernel("reorder").build((plain,), (View.planes((1, 4, 5, 5), lanes()),))
    with pytest.raises(ValueError, match="operand 1"):
        kernel("reorder").front(launch, aligned_empty(100), aligned_empty(10))


def run_planes(isa, threads, shape_x, shape_y, channels, x_channel, y_channel):
    x = RNG.standard_normal(shape_x).astype(np.float32)
    for xh, yh, n in itertools.product(HALOS[:2], HALOS[:2], (1, lanes())):
        xv, yv = View.planes(shape_x, n, xh), View.planes(shape_y, n, yh)
        launch = kernel("copy_planes").build((xv,), (yv,), channels=channels, x_channel=x_channel, y_channel=y_channel)
        before = RNG.standard_normal(shape_y).astype(np.float32)
        y = to_buffer(before, yv, 0)
        kernel("copy_planes").front(launch, to_buffer(x, xv), y, threads=threads)
        before[:, y_channel : y_channel + channels] = x[:, x_channel : x_channel + channels]
        expected = to_buffer(before, yv)
        specified = ~np.isnan(expected)
        assert np.array_equal(y[specified], expected[specified]), (launch.kernel, xv, yv)


@pytest.mark.parametrize(
    ("c_x", "c_y", "channels", "x_channel", "y_channel"),
    [(16, 48, 16, 0, 16), (32, 64, 32, 0, 32), (64, 32, 32, 32, 0), (20, 36, 20, 0, 16), (40, 20, 20, 16, 0), (24, 50, 24, 0, 13),
     (58, 29, 29, 29, 0), (3, 4, 1, 1, 2), (16, 64, 16, 0, 37), (64, 64, 5, 15, 14)],
)  # fmt: skip
def test_copy_planes(isa, threads, c_x, c_y, channels, x_channel, y_channel):
    run_planes(isa, threads, (2, c_x, 5, 9), (2, c_y, 5, 9), channels, x_channel, y_channel)


def test_copy_planes_writes_the_halo_of_concatenated_inputs():
    """Two inputs, an output full of NaN: every specified float is written."""
    parts = [RNG.standard_normal((1, c, 6, 7)).astype(np.float32) for c in (lanes() + 3, 2 * lanes() - 1)]
    whole = np.concatenate(parts, 1)
    yv = View.planes(whole.shape, lanes(), HALOS[1])
    y = aligned_empty(yv.size)
    y[:] = np.nan
    at = 0
    for part in parts:
        xv = View.planes(part.shape, lanes())
        launch = kernel("copy_planes").build((xv,), (yv,), channels=part.shape[1], y_channel=at)
        kernel("copy_planes").front(launch, to_buffer(part, xv), y)
        at += part.shape[1]
    expected = to_buffer(whole, yv)
    specified = ~np.isnan(expected)
    assert np.array_equal(y[specified], expected[specified])


def test_copy_planes_refuses_ranges_outside():
    v = View.planes((1, 20, 4, 4), lanes())
    for bad in (
        {"channels": 21},
        {"channels": 5, "x_channel": 16},
        {"channels": 5, "y_channel": 16},
        {"channels": 1, "x_channel": -1},
    ):
        with pytest.raises(ValueError, match="channels"):
            kernel("copy_planes").build((v,), (v,), **bad)
    with pytest.raises(ValueError, match="one group"):
        kernel("copy_planes").build((v,), (View.planes((1, 20, 4, 4), lanes(), groups=2),), channels=1)


@pytest.mark.parametrize(
    ("shape", "pads"),
    [
        ((2, 19, 5, 7), [(1, 1), (1, 1)]),
        ((1, 16, 5, 7), [(0, 2), (3, 0)]),
        ((1, 5, 6), [(2, 1)]),
        ((2, 5, 3, 4, 5), [(1, 0), (0, 2), (1, 1)]),
        ((1, 3, 60, 70), [(1, 1), (0, 0)]),
        ((0, 3, 6, 7), [(1, 1), (1, 1)]),
    ],
)
def test_pad_planes(isa, threads, shape, pads):
    x = RNG.standard_normal(shape).astype(np.float32)
    expected = np.pad(x, [(0, 0), (0, 0), *pads])
    for x_halo, y_halo in itertools.product(HALOS[: 2 if len(shape) == 4 else 1], repeat=2):
        xv, yv = View.planes(shape, lanes(), x_halo), View.planes(expected.shape, lanes(), y_halo)
        y = aligned_empty(yv.size)
        y[:] = np.nan
        kernel("pad_planes").front(kernel("pad_planes").build((xv,), (yv,), pads=pads), to_buffer(x, xv), y, threads=threads)
        whole = to_buffer(expected, yv)
        specified = ~np.isnan(whole)
        assert np.array_equal(y[specified], whole[specified])


def test_pad_planes_refuses_what_does_not_fit():
    v, w = View.planes((1, 5, 4, 4), lanes()), View.planes((1, 5, 6, 4), lanes())
    for inputs, output, pads in (
        (v, w, [(1, 1), (1, 1)]),
        (v, w, [(3, -1), (0, 0)]),
        (View.plain((1, 5, 4, 4)), w, [(1, 1), (0, 0)]),
        (View.planes((1, 5, 0, 4), lanes()), w, [(3, 3), (0, 0)]),
        (View.planes((1, 6, 4, 4), lanes()), w, [(1, 1), (0, 0)]),
    ):
        with pytest.raises(ValueError, match="pad_planes"):
            kernel("pad_planes").build((inputs,), (output,), pads=pads)


def run_take(shapes, groups, out_groups, channels, threads, tail=(5, 9)):
    """take_planes of inputs of these batch-less channel counts; every float of the output is specified or 0."""
    xs = [RNG.standard_normal((2, c, *tail)).astype(np.float32) for c in shapes]
    x_views = [View.planes(x.shape, lanes(), HALOS[i % 2], g) for i, (x, g) in enumerate(zip(xs, groups, strict=True))]
    expected = np.concatenate(xs, 1)[:, channels]
    for halo in HALOS[:2]:
        yv = View.planes(expected.shape, lanes(), halo, out_groups)
        launch = kernel("take_planes").build(x_views, (yv,), channels=channels)
        y = aligned_empty(yv.size)
        y[:] = np.nan
        buffers = [to_buffer(x, v) for x, v in zip(xs, x_views, strict=True)]
        kernel("take_planes").front(launch, *buffers, y, threads=threads)
        whole = to_buffer(expected, yv)
        specified = ~np.isnan(whole)
        assert np.array_equal(y[specified], whole[specified]), (shapes, groups, out_groups)


@pytest.mark.parametrize("shuffle", [2, 3, 4, 8, 29])
@pytest.mark.parametrize("groups", [1, 2])
def test_take_planes_shuffles_channels(isa, threads, shuffle, groups):
    c = 2 * shuffle * 7
    order = np.arange(c).reshape(shuffle, -1).T.reshape(-1)
    run_take([c], [groups], 1, order, threads)
    run_take([c // 2, c // 2], [1, groups if c // 2 % groups == 0 else 1], 2, order, threads, (3, 2, 4))


@pytest.mark.parametrize("seed", range(8))
def test_take_planes_of_many(isa, threads, seed):
    rng = np.random.default_rng(seed)
    shapes = [int(n) for n in rng.integers(1, 40, rng.integers(1, 24))]
    channels = rng.integers(0, sum(shapes), int(rng.integers(1, 70)))
    run_take(shapes, [1] * len(shapes), 1, channels, threads)


def test_take_planes_of_large_planes(isa, threads):
    run_take([35], [1], 1, np.arange(35)[::-1], threads, (150, 170))
    run_take([35], [1], 1, np.arange(35), threads, (1, 20000))


def test_take_planes_of_nothing():
    for shape in [(0, 3, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0)]:
        v = View.planes(shape, lanes(), HALOS[1])
        y = aligned_empty(v.size)
        y[:] = np.nan
        kernel("take_planes").front(kernel("take_planes").build((v,), (v,), channels=[2, 1, 0]), np.zeros(v.size, np.float32), y)
        assert not y.any()


def test_take_planes_refuses_what_does_not_fit():
    v = View.planes((1, 20, 4, 4), lanes())
    for inputs, output, channels in (
        ((), v, []),
        ((v,) * 24, v, range(20)),
        ((v,), v, range(19)),
        ((v,), v, range(1, 21)),
        ((v,), v, range(-1, 19)),
        ((View.plain((1, 20, 4, 4)),), v, range(20)),
        ((View.planes((1, 20, 4, 5), lanes()),), v, range(20)),
        ((View.planes((1, 20, 4, 4), 2 * lanes()),), v, range(20)),
    ):
        with pytest.raises(ValueError, match="take_planes"):
            kernel("take_planes").build(inputs, (output,), channels=channels)
    launch = kernel("take_planes").build((v,), (v,), channels=range(20))
    ok = np.zeros(v.size, np.float32)
    for buffers in ((ok,), (ok, ok[:-1].copy()), (ok[:-1].copy(), ok)):
        with pytest.raises(ValueError, match="take_planes"):
            launch(*buffers)
    with pytest.raises(TypeError, match="take_planes"):
        launch(ok, ok, ok)


DTYPES = [np.uint8, np.bool_, np.float16, np.int32, np.float32, np.int64, np.float64]


def values(shape, dtype) -> np.ndarray:
    return RNG.integers(0, 2 if dtype == np.bool_ else 120, shape).astype(dtype)


def in_items(array: np.ndarray) -> tuple[int, ...]:
    return tuple(s // array.itemsize for s in array.strides)


def copy_view(source: np.ndarray, target: np.ndarray, threads: int = 1) -> tuple[np.ndarray, str]:
    """copy_nd from the numpy view `source` into the region that the view `target` names; the buffer after, and the variant."""
    base_x, base_y = root(source), root(target)
    launch = kernel("copy_nd").build(
        (View.plain(base_x.shape, base_x.dtype),),
        (View.plain(base_y.shape, base_y.dtype),),
        shape=source.shape,
        x_strides=in_items(source),
        y_strides=in_items(target),
        x_offset=(source.ctypes.data - base_x.ctypes.data) // source.itemsize,
        y_offset=(target.ctypes.data - base_y.ctypes.data) // target.itemsize,
    )
    x, y = aligned_copy(base_x), aligned_copy(base_y)
    kernel("copy_nd").front(launch, x, y, threads=threads)
    return y.reshape(base_y.shape), launch.kernel


def root(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def check_copy(source: np.ndarray, target: np.ndarray, threads: int = 1) -> str:
    y, variant = copy_view(source, target, threads)
    base = root(target)
    expected = base.copy()
    window = np.lib.stride_tricks.as_strided(
        expected.reshape(-1)[(target.ctypes.data - base.ctypes.data) // target.itemsize :], target.shape, target.strides
    )
    window[...] = source
    assert y.tobytes() == expected.tobytes(), (variant, source.shape, source.strides, target.strides)
    return variant


def fresh(shape, dtype) -> np.ndarray:
    return np.full(shape, 7 if dtype != np.bool_ else 1, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_copy_nd_transposes(isa, threads, dtype):
    seen = set()
    for shape in [(3, 5), (16, 16), (17, 33), (100, 3), (3, 100), (4, 100), (63, 4), (20001, 3), (64, 257), (1, 9), (300, 700)]:
        seen.add(check_copy(values(shape, dtype).T, fresh(shape[::-1], dtype), threads))
    for perm in itertools.permutations(range(4)):
        x = values((2, 19, 6, 17), dtype)
        seen.add(check_copy(x.transpose(perm), fresh([x.shape[p] for p in perm], dtype), threads))
    for perm in [(4, 0, 3, 1, 2), (0, 2, 4, 3, 1), (3, 1, 4, 0, 2)]:
        x = values((3, 2, 5, 4, 18), dtype)
        seen.add(check_copy(x.transpose(perm), fresh([x.shape[p] for p in perm], dtype), threads))
    assert {v.split("[")[1] for v in seen} >= {"rows]", "transpose]"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_copy_nd_slices_expands_and_parts(threads, dtype):
    x = values((3, 12, 20, 22), dtype)
    variants = set()
    for source in [
        x[:, 2:7, ::2, ::-1],
        x[::-1, ::-3, 5:6, 1:],
        x[:, :, 3:19:5, 21:3:-4],
        x[1:2],
        x[..., :2],
        x[..., 5],
        np.broadcast_to(x[:, :1], (3, 9, 20, 22)),
        np.broadcast_to(x[:, :, :1, :1], (3, 12, 7, 8)),
        np.broadcast_to(x[:1, :1, :1, :1], (4, 3, 2, 5)),
        np.broadcast_to(x[2, 3, :, 4:5], (2, 20, 6)),
        x[:, :, ::2, ::2].transpose(0, 2, 3, 1),
        x.reshape(3, 2, 2, 3, 20, 22).transpose(0, 3, 4, 1, 5, 2),
    ]:
        variants.add(check_copy(source, fresh(source.shape, dtype), threads))
        into = fresh([2 * n + 3 for n in source.shape], dtype)
        variants.add(check_copy(source, into[tuple(slice(2, 2 + n) for n in source.shape)], threads))
        variants.add(check_copy(source, into[tuple(slice(1, 1 + 2 * n, 2) for n in source.shape)], threads))
    assert {v.split("[")[1] for v in variants} == {"rows]", "spread]", "transpose]", "strided]"}


def test_copy_nd_of_large_arrays_in_pieces(threads):
    x = RNG.standard_normal((1000, 1100)).astype(np.float32)
    assert check_copy(x, fresh(x.shape, np.float32), threads) == "copy_nd[rows]"
    assert check_copy(x.T, fresh(x.T.shape, np.float32), threads) == "copy_nd[transpose]"
    assert check_copy(x[:, ::-1], fresh(x.shape, np.float32), threads) == "copy_nd[strided]"
    assert check_copy(np.broadcast_to(x[:, :1], x.shape), fresh(x.shape, np.float32), threads) == "copy_nd[spread]"
    assert check_copy(np.broadcast_to(x[:1, :1], x.shape), fresh(x.shape, np.float32), threads) == "copy_nd[spread]"
    wide = RNG.standard_normal((3, 300_000)).astype(np.float32)
    check_copy(wide.T, fresh(wide.T.shape, np.float32), threads)
    check_copy(fresh((300_000, 3), np.uint8).T, fresh((3, 300_000), np.uint8), threads)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_copy_nd_of_any_view(data):
    """Any transposed, sliced and broadcast view, against NumPy."""
    rank = data.draw(st.integers(1, 5))
    dtype = data.draw(st.sampled_from(DTYPES))
    x = values(data.draw(st.lists(st.integers(1, 7), min_size=rank, max_size=rank)), dtype)
    source = x[tuple(slice(None, None, data.draw(st.sampled_from([1, 1, 2, -1, -2, 3]))) for _ in range(rank))]
    source = source.transpose(data.draw(st.permutations(range(rank))))
    stretch = [data.draw(st.integers(1, 5)) if n == 1 else n for n in source.shape]
    source = np.broadcast_to(source, stretch)
    steps = [data.draw(st.sampled_from([1, 1, 1, 2])) for _ in range(rank)]
    starts = [data.draw(st.integers(0, 2)) for _ in range(rank)]
    target = fresh([a + s * n + 1 for a, s, n in zip(starts, steps, source.shape, strict=True)], dtype)
    cut = target[tuple(slice(a, a + s * n, s) for a, s, n in zip(starts, steps, source.shape, strict=True))]
    check_copy(source, cut, data.draw(st.sampled_from([1, 2])))


def test_copy_nd_refuses_what_leaves_its_buffers():
    v, build = View.plain((4, 5)), kernel("copy_nd").build
    good = {"shape": (4, 5), "x_strides": (5, 1), "y_strides": (5, 1)}
    build((v,), (v,), **good)
    for bad in (
        {"x_offset": 1},
        {"y_offset": 1},
        {"x_offset": -1},
        {"x_strides": (5, 2)},
        {"x_strides": (-5, 1)},
        {"y_strides": (6, 1)},
        {"shape": (5, 5)},
    ):
        with pytest.raises(ValueError, match="reaches items"):
            build((v,), (v,), **{**good, **bad})
    for strides in ((1, 1), (5, 0), (4, 1)):
        with pytest.raises(ValueError, match="overlaps itself"):
            build((v,), (v,), **{**good, "y_strides": strides})
    with pytest.raises(ValueError, match="item size"):
        build((v,), (View.plain((4, 5), np.int64),), **good)
    launch = build((v,), (v,), **good)
    with pytest.raises(ValueError, match="operand 0 has 76 bytes"):
        kernel("copy_nd").front(launch, aligned_empty(19), aligned_empty(20))


def test_copy_nd_of_nothing():
    v = View.plain((0, 5))
    launch = kernel("copy_nd").build((v,), (v,), shape=(0, 5), x_strides=(5, 1), y_strides=(5, 1))
    kernel("copy_nd").front(launch, np.empty(0, np.float32), np.empty(0, np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_fill(threads, dtype):
    for shape, cut in [
        ((3, 4, 9), np.s_[:]),
        ((3, 4, 9), np.s_[1:, 2:, :3]),
        ((400, 500), np.s_[3:, 2:]),
        ((5, 6), np.s_[:, ::2]),
        ((7,), np.s_[2:3]),
    ]:
        y = values(shape, dtype)
        expected = y.copy()
        expected[cut] = 1
        target = y[cut]
        view = View.plain(shape, dtype)
        launch = kernel("fill").build(
            (),
            (view,),
            value=1,
            shape=target.shape,
            y_strides=in_items(target),
            y_offset=(target.ctypes.data - y.ctypes.data) // y.itemsize,
        )
        buffer = aligned_copy(y)
        kernel("fill").front(launch, buffer, threads=threads)
        assert np.array_equal(buffer.reshape(shape), expected)
        kernel("fill").front(kernel("fill").build((), (view,), value=0), buffer, threads=threads)
        assert not buffer.any()
    with pytest.raises(ValueError, match="reaches items"):
        kernel("fill").build((), (View.plain((4,), dtype),), value=0, shape=(5,), y_strides=(1,))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather(threads, dtype):
    for shape, axis, picked in [
        ((5, 6, 7), 0, [4, 0, -1, 2, 2]),
        ((5, 6, 7), 1, [[0, 5], [-6, 3]]),
        ((5, 6, 7), 2, [6]),
        ((5, 6, 7), 2, 3),
        ((900, 8, 40), 1, [7, 1, 1]),
        ((30, 1000), 1, list(range(999, -1, -1))),
        ((4, 3), 1, np.empty((0, 2), np.int64)),
    ]:
        x = values(shape, dtype)
        expected = np.take(x, np.asarray(picked, np.int64), axis)
        launch = kernel("gather").build(
            (View.plain(shape, dtype),), (View.plain(expected.shape, dtype),), axis=axis, indices=picked
        )
        y = aligned_copy(fresh(expected.shape, dtype))
        kernel("gather").front(launch, aligned_copy(x), y, threads=threads)
        assert np.array_equal(y.reshape(expected.shape), expected)


def test_gather_refuses_indices_out_of_range():
    for picked in ([5], [-6], [0, 1 << 40]):
        with pytest.raises(ValueError, match="indices"):
            kernel("gather").build((View.plain((5, 2)),), (View.plain((len(picked), 2)),), axis=0, indices=picked)


CASTS = [np.float32, np.float64, np.int32, np.int64, np.int8, np.uint8, np.bool_]


@pytest.mark.parametrize(("source", "target"), list(itertools.product(CASTS, CASTS)))
def test_cast(threads, source, target):
    for n in (0, 1, 77, 100_003):
        x = RNG.uniform(-130, 250, n)
        if source in (np.uint8, np.bool_):
            x = np.abs(x)
        if np.issubdtype(source, np.floating) and target in (np.int8, np.uint8):
            x = np.clip(x, 0, 127)  # beyond the target's range conversion from floating point is undefined
        x = x.astype(np.int64).astype(source) if np.issubdtype(source, np.integer) or source == np.bool_ else x.astype(source)
        if np.issubdtype(source, np.floating) and n:
            x[::7] = 0
            x[1::7] = 0.25
            if not np.issubdtype(target, np.integer):
                x[2::7] = np.nan
        launch = kernel("cast").build((View.plain((n,), source),), (View.plain((n,), target),))
        y = aligned_copy(fresh((n,), target))
        kernel("cast").front(launch, aligned_copy(x), y, threads=threads)
        assert np.array_equal(y, x.astype(target), equal_nan=np.issubdtype(target, np.floating))


def test_cast_refuses_other_dtypes():
    with pytest.raises(ValueError, match="int16"):
        kernel("cast").build((View.plain((3,), np.int16),), (View.plain((3,)),))


@pytest.mark.parametrize(
    ("shape", "out"),
    [
        ((2, 5, 9), (17,)),
        ((1, 20, 7, 6), (14, 13)),
        ((2, 17, 5, 8), (3, 2)),
        ((1, 33, 3, 4, 5), (6, 4, 11)),
        ((1, 3, 40, 50), (160, 200)),
    ],
)
def test_resize(isa, threads, shape, out):
    """Against the same mixtures in float64; a second pixel of weight zero along d and h is not read."""
    for linear, (xh, yh) in itertools.product((False, True), itertools.product(HALOS[:2], repeat=2)):
        tail = len(out)
        cut = [tuple(p if a >= 3 - tail else (0, 0) for a, p in enumerate(h)) for h in (xh, yh)]
        xv, yv = View.planes(shape, lanes(), cut[0]), View.planes((*shape[:2], *out), lanes(), cut[1])
        x = RNG.standard_normal(shape).astype(np.float32)
        expected, tables = x.astype(np.float64), []
        for axis, (n, m) in enumerate(zip(shape[2:], out, strict=True), 2):
            first, second = RNG.integers(0, n, m), RNG.integers(0, n, m)
            weight = (RNG.integers(0, 5, m) / 4 if linear else np.zeros(m)).astype(np.float32)
            tables.append((first, second, weight))
            w = weight.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
            expected = expected.take(first, axis) * (1 - w) + expected.take(second, axis) * w
        launch = kernel("resize").build((xv,), (yv,), tables=tuple(tables))
        y = aligned_empty(yv.size)
        y[:] = np.nan
        kernel("resize").front(launch, to_buffer(x, xv), y, threads=threads)
        wanted = to_buffer(expected.astype(np.float32), yv)
        specified = ~np.isnan(wanted)
        if linear:
            np.testing.assert_allclose(y[specified], wanted[specified], rtol=0, atol=2e-6)
        else:
            assert np.array_equal(y[specified], wanted[specified])


def test_resize_refuses_tables_that_do_not_fit():
    v = View.planes((1, 4, 3, 5), lanes())
    ok = [(np.arange(n), np.arange(n), np.zeros(n, np.float32)) for n in (3, 5)]
    kernel("resize").build((v,), (v,), tables=ok)
    for index, match in ((np.arange(4), "a table of"), (np.array([0, 1, 3]), "outside"), (np.array([0, -1, 1]), "outside")):
        with pytest.raises(ValueError, match=match):
            kernel("resize").build((v,), (v,), tables=[(index, index, np.zeros(len(index), np.float32)), ok[1]])
    with pytest.raises(ValueError, match="per spatial axis"):
        kernel("resize").build((v,), (v,), tables=ok[:1])
