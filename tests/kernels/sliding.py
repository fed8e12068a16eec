"""The geometry of a convolution of arrays (N, C, ...): what the tests of its kernels lay out and tell them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from cnnengine.layout import spatial3


@dataclass(frozen=True)
class Sliding:
    shape: tuple[int, ...]
    """Extents of the output."""
    step: tuple[int, int, int]
    taps: list[tuple[int, int, int]]
    """Pixel of x that each tap reads for the first output pixel."""
    halo: tuple[tuple[int, int], ...]
    """What x must have around it for that."""


def sliding(x_shape: tuple[int, ...], kernel: tuple[int, ...], stride: Any = 1, pads: Any = 0, dilation: Any = 1) -> Sliding:
    """One number stands for all axes, and for both ends of each."""
    rank = len(kernel)
    pad = (pads,) * (2 * rank) if isinstance(pads, int) else tuple(pads)
    step, dil = three(stride, rank, 1), three(dilation, rank, 1)
    shape = tuple(
        (n + pad[i] + pad[i + rank] - dil[3 - rank + i] * (k - 1) - 1) // step[3 - rank + i] + 1
        for i, (n, k) in enumerate(zip(x_shape[2:], kernel, strict=True))
    )
    begins = three(pad[:rank], rank, 0)
    taps = [
        tuple(t * d - b for t, d, b in zip(tap, dil, begins, strict=True))
        for tap in itertools.product(*(range(k) for k in three(kernel, rank, 1)))
    ]
    size, extent = spatial3(x_shape), spatial3((0, 0, *shape))
    halo = tuple(
        (max(0, -min(t[a] for t in taps)), max(0, max(t[a] for t in taps) + (extent[a] - 1) * step[a] - size[a] + 1))
        for a in range(3)
    )
    return Sliding(shape, step, taps, halo)  # type: ignore[arg-type]


def three(values: Any, rank: int, fill: int) -> tuple[int, int, int]:
    values = (values,) * rank if isinstance(values, int) else tuple(values)
    return (fill,) * (3 - rank) + values  # type: ignore[return-value]
