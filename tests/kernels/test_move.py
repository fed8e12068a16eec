"""Kernels that move values: every instruction set, 1 and 2 threads, NaN-filled buffers, bit for bit against NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cnnengine._kernels import kernel
from cnnengine._kernels.dispatch import available_isas, lanes, use_isa
from cnnengine.runtime.layout import View, aligned_copy, aligned_empty

RNG = np.random.default_rng(20261122)
ISAS = available_isas()
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


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "shape, groups",
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
    with use_isa(isa):
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


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("direction", ["pack", "unpack", "rows"])
def test_reorder_stays_inside_its_buffers(isa, direction):
    """Canaries around both buffers survive, and values before and behind the input do not matter."""
    with use_isa(isa):
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
            assert (y[:32] == 77).all() and (y[32 + yv.size :] == 77).all()


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
