"""Resizing without antialiasing: each element is made of its nearest neighbours, however much smaller the result is.

As torch's `interpolate(align_corners=False, antialias=False)` and OpenCV's `resize` define it: "nearest" takes the element at
floor(i * ratio), "bilinear" two on each axis, "bicubic" four by Keys' cubic convolution with a = -0.75 (Pillow has -0.5).
Elements beyond the edge repeat it. Columns are done after rows: a picture is seldom made taller, so this reads less.
"""

from __future__ import annotations

import numpy as np

CUBIC = -0.75


def resize_plain(pixels: np.ndarray, height: int, width: int, resample: str) -> np.ndarray:
    """uint8 pixels (H, W, C) as (height, width, C), rounded to the nearest."""
    if resample == "nearest":
        rows, columns = (np.arange(n) * m // n for n, m in zip((height, width), pixels.shape, strict=False))
        chosen: np.ndarray = pixels[rows][:, columns]
        return chosen
    found = _along(pixels, 0, height, resample)
    found = _along(found, 1, width, resample)
    if found.dtype == np.uint8:
        return found
    rounded: np.ndarray = np.clip(np.rint(found), 0, 255).astype(np.uint8)
    return rounded


def _along(x: np.ndarray, axis: int, count: int, resample: str) -> np.ndarray:
    extent = x.shape[axis]
    if extent == count:
        return x
    places, weights = _taps(extent, count, resample)
    shape = [1, 1, 1]
    shape[axis] = count
    total = None
    for place, weight in zip(places, weights, strict=True):
        part = np.take(x, place, axis).astype(np.float32, copy=False) * weight.reshape(shape)
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    result: np.ndarray = total
    return result


def _taps(extent: int, count: int, resample: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The elements that are read for each of `count`, and what each is worth."""
    at = (np.arange(count) + 0.5) * (extent / count) - 0.5
    first = np.floor(at).astype(np.intp)
    t = at - first
    if resample == "bilinear":
        weights = [1 - t, t]
    else:
        first = first - 1
        weights = [_far(t + 1), _near(t), _near(1 - t), _far(2 - t)]
    places = [np.clip(first + offset, 0, extent - 1) for offset in range(len(weights))]
    return places, [w.astype(np.float32) for w in weights]


def _near(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
    return found


def _far(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = ((x - 5) * x + 8) * x * CUBIC - 4 * CUBIC
    return found
