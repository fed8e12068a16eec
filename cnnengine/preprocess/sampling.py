"""Maps over a model's input seen from the picture: a value for each pixel of the picture, by one interpolation.

The centre of a pixel of the picture lies somewhere on the input (`Placement`), and there between the centres of the map's
elements: along each axis that is a pair of elements and a weight, as `interpolate(align_corners=False)` has it, whatever
the map's resolution is and however the picture was resized, cut and filled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .placing import Placement


@dataclass(frozen=True, eq=False)
class Axis:
    """For pixels along one axis: the elements before and behind each, what the second is worth, and whether it was seen."""

    first: np.ndarray
    second: np.ndarray
    weight: np.ndarray
    seen: np.ndarray


def along(place: Placement, axis: int, extent: int, begin: int = 0, end: int | None = None) -> Axis:
    """Where the picture's pixels from `begin` to `end` lie in a map of this extent over all of the input; axis 0 are rows."""
    offset = (place.top, place.left)[axis]
    stop = place.original[axis] if end is None else end
    at = (np.arange(begin, stop) + 0.5) * (place.resized[axis] / place.original[axis]) + offset
    seen = (at >= 0) & (at <= place.canvas[axis])
    at = np.clip(at * (extent / place.canvas[axis]) - 0.5, 0, extent - 1)
    first = np.floor(at).astype(np.intp)
    return Axis(first, np.minimum(first + 1, extent - 1), (at - first).astype(np.float32), seen)


def bilinear(maps: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """Maps (C, h, w) at these pixels: float32 (C, rows, columns)."""
    across, low = across_columns(maps, rows, columns)
    made: np.ndarray = down_rows(across, low, rows)
    return made


def across_columns(maps: np.ndarray, rows: Axis, columns: Axis) -> tuple[np.ndarray, int]:
    """The maps' rows that these pixels read, at the pixels' columns: float32 (C, k, columns); and the first of them.

    Columns go first: maps have fewer rows than pictures, and picking single elements is what takes time.
    """
    if not len(rows.first):
        return np.empty((len(maps), 0, len(columns.first)), np.float32), 0
    low, high = int(rows.first.min()), int(rows.second.max()) + 1
    part = maps[:, low:high].astype(np.float32, copy=False)
    before, behind = np.take(part, columns.first, 2), np.take(part, columns.second, 2)
    behind -= before
    behind *= columns.weight
    behind += before
    return behind, low


def down_rows(across: np.ndarray, low: int, rows: Axis) -> np.ndarray:
    """Rows of `across_columns` at these pixels, along the last but one axis."""
    before, behind = np.take(across, rows.first - low, -2), np.take(across, rows.second - low, -2)
    behind -= before
    behind *= rows.weight[:, None]
    behind += before
    return behind


def nearest(numbers: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """Whole numbers (h, w) at these pixels: of the element that is nearest."""
    down = np.where(rows.weight > 0.5, rows.second, rows.first)
    across = np.where(columns.weight > 0.5, columns.second, columns.first)
    made: np.ndarray = numbers[down][:, across]
    return made
