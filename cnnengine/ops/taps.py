"""Where the taps of a window over 1 to 3 spatial axes read their input."""

from __future__ import annotations

from collections.abc import Sequence

from ..layout import Halo
from ..window import Window

Offsets = tuple[int, int, int]
Pair = tuple[int, int]


def three(values: Sequence[int], fill: int) -> Offsets:
    """Values of 1 to 3 spatial axes as (d, h, w)."""
    return (fill,) * (3 - len(values)) + tuple(values)  # type: ignore[return-value]


def halo_for(offsets: Sequence[Offsets], extent: Sequence[int], stride: Offsets, size: Sequence[int]) -> Halo:
    """The halo that x needs so that every tap of every output pixel lies inside."""
    halo = []
    for axis in range(3):
        low = min(o[axis] for o in offsets)
        high = max(o[axis] for o in offsets) + (extent[axis] - 1) * stride[axis]
        halo.append((max(0, -low), max(0, high - (size[axis] - 1))))
    return tuple(halo)  # type: ignore[return-value]


def plane(values: Sequence[int], fill: int) -> Pair:
    """Values of 1 to 3 spatial axes as those of the last two."""
    return three(values, fill)[1:]


def tap_ranges(window: Window, begins: Sequence[int]) -> list[list[int]]:
    """Per spatial axis, where the taps of the first output pixel read x, whose windows begin in so much padding."""
    return [[t * d - b for t in range(k)] for k, d, b in zip(window.kernel, window.dilations, begins, strict=True)]
