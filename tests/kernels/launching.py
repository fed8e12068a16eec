"""Run one kernel on arrays: lay the operands out, fill everything else with NaN, check that nothing around them was touched."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnengine._kernels import kernel
from cnnengine._kernels.dispatch import lanes
from cnnengine.layout import NO_HALO, View, aligned_empty


def pixels(view: View, data: np.ndarray) -> np.ndarray:
    """A writable array (N, block, d, h, w, lane) over the pixels of a buffer in planes."""
    d, h, w = view.dhw
    shape = (view.n, view.blocks, d, h, w, view.lanes)
    strides = tuple(data.itemsize * s for s in (view.sn, view.sp, view.sd, view.sh, view.lanes, 1))
    return np.lib.stride_tricks.as_strided(data[view.offset :], shape, strides)


def halo_mask(view: View) -> np.ndarray:
    """True at the elements of a buffer that are halo."""
    mask = np.ones(view.size, np.float32)
    pixels(view, mask)[...] = 0
    return mask != 0


def blocked(view: View, x: np.ndarray) -> np.ndarray:
    """The buffer of x in planes with its halo; NaN, or noise where it is of bytes, in the lanes that no channel has."""
    data = aligned_empty(view.size, view.dtype)
    data[:] = np.nan if view.dtype.kind == "f" else np.random.default_rng(view.size).integers(0, 256, view.size)
    data[halo_mask(view)] = view.fill
    to = pixels(view, data)
    per_group, blocks = view.c // view.groups, view.group_blocks
    for c in range(view.c):
        group, inside = divmod(c, per_group)
        to[:, group * blocks + inside // view.lanes, ..., inside % view.lanes] = x[:, c].reshape(view.n, *view.dhw)
    return data


def unblocked(view: View, data: np.ndarray) -> np.ndarray:
    """The tensor in a buffer of planes; asserts that its halo is what it should be."""
    assert (data[halo_mask(view)] == view.fill).all()
    source = pixels(view, data)
    y = np.empty((view.n, view.c, *view.dhw), view.dtype)
    per_group, blocks = view.c // view.groups, view.group_blocks
    for c in range(view.c):
        group, inside = divmod(c, per_group)
        y[:, c] = source[:, group * blocks + inside // view.lanes, ..., inside % view.lanes]
    return y.reshape(view.shape)


def run(
    name: str,
    arrays: list[np.ndarray | None],
    outputs: list[tuple[int, ...] | tuple[tuple[int, ...], Any]],
    *,
    threads: int = 1,
    planes: tuple[int, ...] = (),
    out_planes: tuple[int, ...] = (),
    groups: int = 1,
    halo: Any = NO_HALO,
    out_halo: Any = NO_HALO,
    **params: Any,
) -> list[np.ndarray]:
    """Build and run kernel `name`; `planes` and `out_planes` tell which operands lie in planes."""
    inputs, in_views, out_views, results = [], [], [], []
    for i, x in enumerate(arrays):
        if x is None:
            in_views.append(None)
            inputs.append(None)
            continue
        view = View.planes(x.shape, lanes(), halo, groups) if i in planes else View.plain(x.shape, x.dtype)
        data = blocked(view, x) if i in planes else np.ascontiguousarray(x).reshape(-1)
        data.flags.writeable = False
        in_views.append(view)
        inputs.append(data)
    guard = 64
    for i, out in enumerate(outputs):
        shape, dtype = out if out and isinstance(out[0], tuple) else (out, np.float32)
        view = View.planes(shape, lanes(), out_halo, groups) if i in out_planes else View.plain(shape, dtype)
        whole = aligned_empty(view.size + 2 * guard, dtype)
        whole[:] = np.nan if np.dtype(dtype).kind == "f" else -(2**62)
        out_views.append(view)
        results.append(whole)
    launch = kernel(name).build(in_views, out_views, **params)
    kernel(name).front(
        launch, *inputs, *[r[guard : guard + v.size] for r, v in zip(results, out_views, strict=True)], threads=threads
    )
    made = []
    for whole, view in zip(results, out_views, strict=True):
        for edge in (whole[:guard], whole[guard + view.size :]):
            assert np.isnan(edge).all() if whole.dtype.kind == "f" else (edge == -(2**62)).all(), "written outside of the output"
        data = whole[guard : guard + view.size]
        made.append(data.reshape(view.shape) if view.is_plain else unblocked(view, data))
    return made
