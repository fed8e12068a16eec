"""Run one kernel on operands of bytes in planes: what is nobody's is filled with a pattern, and nothing of it may be touched."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnengine._kernels import kernel
from cnnengine._kernels.dispatch import lanes
from cnnengine.layout import NO_HALO, View, aligned_empty

from .launching import blocked, unblocked

GUARD = 64
PATTERN = 0xA5


def in_planes(shape: tuple[int, ...], halo: Any = NO_HALO, fill: int = 0, groups: int = 1, dtype: Any = np.uint8) -> View:
    return View.planes(shape, lanes(), halo, groups, np.dtype(dtype), fill)


def run(
    name: str, inputs: list[tuple[View, np.ndarray] | None], outputs: list[View], threads: int = 1, **params: Any
) -> list[np.ndarray]:
    """Build and run kernel `name`: each input a view and the tensor; the outputs as tensors."""
    buffers, results = [], []
    for one in inputs:
        if one is None:
            buffers.append(None)
            continue
        view, x = one
        data = np.ascontiguousarray(x).reshape(-1).copy() if view.is_plain else blocked(view, x)
        data.flags.writeable = False
        buffers.append(data)
    for view in outputs:
        whole = aligned_empty(view.size + 2 * GUARD, view.dtype)
        whole.view(np.uint8)[:] = PATTERN
        results.append(whole)
    launch = kernel(name).build([None if i is None else i[0] for i in inputs], outputs, **params)
    launch(*buffers, *[r[GUARD : GUARD + v.size] for r, v in zip(results, outputs, strict=True)], threads=threads)
    made = []
    for whole, view in zip(results, outputs, strict=True):
        for edge in (whole[:GUARD], whole[GUARD + view.size :]):
            assert (edge.view(np.uint8) == PATTERN).all(), "written outside of the output"
        data = whole[GUARD : GUARD + view.size]
        made.append(data.reshape(view.shape).copy() if view.is_plain else unblocked(view, data))
    return made


def plain(x: np.ndarray | None) -> tuple[View, np.ndarray] | None:
    return None if x is None else (View.plain(x.shape, x.dtype), x)
