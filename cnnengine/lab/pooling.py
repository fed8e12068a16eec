"""The pooling laboratory: every kind of pooling, what a shift changes, which pixel won, what unpooling gives back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import arguments, pages
from .. import functional as F
from .picture import LEAST, SIDE, alike, binomial, gray, light, share, signed, taken
from .result import Experiment, Panel

LEVELS = (4, 2, 1)
DETAIL = 64
"""Pixels in which single ones are seen."""


def _kernel(kernel: Any) -> int:
    return arguments.integer(kernel, "kernel", 2, LEAST // 2)


def _max(x: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    y = F.max_pool2d(x, kernel, stride=stride)
    assert isinstance(y, np.ndarray)  # no tuple without indices
    return y


def pooling(image: Any, kernel: int = 4, *, size: int = SIDE) -> Experiment:
    """The same picture through every kind of pooling.

    Parameters
    ----------
    image : as `cnnengine.lab.taken` takes it
    kernel : int
        Of the windows, which do not overlap where it is not said.
    size : int
        The most that the picture's longer side may have.

    Raises
    ------
    InputError
    """
    k, x = _kernel(kernel), taken(image, size)
    channels = x.shape[1]
    blur = alike(binomial(5), channels)
    l2 = F.lp_pool2d(x, k, stride=k)
    pyramid = F.spatial_pyramid_pool(x, levels=LEVELS)
    seven = F.adaptive_avg_pool2d(x, 7)
    bins = -(-x.shape[2] // 7), -(-x.shape[3] // 7)
    panels = [
        light("input", x, "The picture, each channel from 0 to 1."),
        light("max", _max(x, k, k), f"Keeps the largest of every {k} x {k}: bright things grow, dark lines go."),
        light("average", F.avg_pool2d(x, k, stride=k), f"Keeps the mean of every {k} x {k}: what is fine evens out."),
        light(
            "L2",
            l2,
            f"The root of the sum of squares of every {k} x {k}: between mean and maximum, here divided by {k} to be seen.",
            high=k,
        ),
        light(
            "overlapping max",
            _max(x, 3, 2),
            "Keeps the largest of every 3 x 3, moving by 2: neighbours share a row or a column.",
        ),
        light(
            "1x1 convolution, stride",
            F.conv2d(x, alike(np.ones((1, 1)), channels), stride=k, groups=channels),
            f"Takes every {k}th pixel of every {k}th row, and drops the rest unseen: fine stripes become coarse ones.",
        ),
        light(
            "5x5 convolution, stride",
            F.conv2d(x, blur, stride=k, pads=2, groups=channels),
            f"A weighted sum of every 5 x 5, moving by {k}; weights are learned. These blur; zeros around darken the border.",
        ),
        light(
            "adaptive average",
            seven,
            f"7 x 7 bins whatever the input's size, here of up to {bins[0]} x {bins[1]} pixels; they may overlap by one.",
        ),
        light("adaptive max", F.adaptive_max_pool2d(x, 7), "The largest of each of the same 7 x 7 bins."),
        light("global average", F.global_avg_pool(x), "One number for each channel: where things are is gone."),
        _pyramid(pyramid, channels),
    ]
    return Experiment("Pooling", "What becomes of one picture when neighbours become one number.", panels)


def _pyramid(y: np.ndarray, channels: int) -> Panel:
    """The bins of a pyramid beside each other, each level as high as the first."""
    grids, begin, side = [], 0, 96
    for level in LEVELS:
        count = channels * level * level
        part = np.rint(np.clip(y[0, begin : begin + count], 0, 1) * 255).astype(np.uint8).reshape(channels, level, level)
        begin += count
        large = part.repeat(side // level, 1).repeat(side // level, 2)
        grids += [large, np.full((channels, side, 4), 128, np.uint8)]
    whole = np.concatenate(grids[:-1], axis=2)
    said = f"The largest of 4 x 4, 2 x 2 and 1 x 1 bins, one after another: {y.shape[1]} numbers for a picture of any size."
    return Panel("pyramid (SPP)", y, said, whole[0] if channels == 1 else np.ascontiguousarray(whole.transpose(1, 2, 0)))


def shift(image: Any, pixels: int = 3, kernel: int = 4, *, size: int = SIDE) -> Experiment:
    """What changes behind each kind of pooling when the picture moves to the left by a few pixels.

    Parameters
    ----------
    image, kernel, size : as for `pooling`
    pixels : int

    Raises
    ------
    InputError
    """
    k, x = _kernel(kernel), gray(taken(image, size))
    move = arguments.integer(pixels, "pixels", 1, x.shape[3] // 4)
    before, after = np.ascontiguousarray(x[..., :-move]), np.ascontiguousarray(x[..., move:])
    one = np.ones((1, 1, 1, 1), np.float32)
    blur = binomial(2 * k - 1)[None, None]
    ways: list[tuple[str, str, Callable[[np.ndarray], np.ndarray]]] = [
        ("no pooling", "Every pixel", lambda v: v),
        ("every pixel of many", f"Every {k}th pixel alone", lambda v: F.conv2d(v, one, stride=k)),
        ("max", f"The largest of every {k} x {k}", lambda v: _max(v, k, k)),
        ("average", f"The mean of every {k} x {k}", lambda v: F.avg_pool2d(v, k, stride=k)),
        ("L2", f"The root of the mean square of every {k} x {k}", lambda v: F.lp_pool2d(v, k, stride=k) / np.float32(k)),
        ("overlapping max", "The largest of every 3 x 3, moving by 2", lambda v: _max(v, 3, 2)),
        (
            "blur, stride",
            f"A blur of {2 * k - 1} x {2 * k - 1}, then every {k}th pixel",
            lambda v: F.conv2d(v, blur, stride=k, pads=k - 1),
        ),
        ("adaptive average", "The mean of each of 7 x 7 bins", lambda v: F.adaptive_avg_pool2d(v, 7)),
        ("global average", "The mean of all", F.global_avg_pool),
    ]
    panels = [light("input", before, "Before."), light("moved", after, f"Moved to the left by {move} pixels.")]
    for name, said, way in ways:
        changed = way(after) - way(before)
        panels.append(signed(name, changed, f"{said}: {share(float(np.abs(changed).mean()))} of white off, on average.", 0.3))
    about = f"What a shift by {move} pixels changes: orange is brighter, blue darker. The larger the bins, the less it is."
    return Experiment("Shift", about, panels)


def winners(image: Any, kernel: int = 4, *, size: int = SIDE) -> Experiment:
    """Which pixels a maximum pooling keeps.

    Parameters
    ----------
    image, kernel, size : as for `pooling`

    Raises
    ------
    InputError
    """
    k, x = _kernel(kernel), gray(taken(image, size))
    top, left = [max(0, (n - DETAIL) // 2) for n in x.shape[2:]]
    x = np.ascontiguousarray(x[..., top : top + DETAIL, left : left + DETAIL])
    panels = [light("input", x, "The middle of the picture in gray.")]
    for name, window, stride in (("apart", k, k), ("overlapping", 3, 2)):
        y, indices = F.max_pool2d(x, window, stride=stride, return_indices=True)
        count = np.bincount(indices.ravel(), minlength=x.size).reshape(x.shape).astype(np.float32)
        kept = float((count > 0).mean())
        said = f"Every {window} x {window}, moving by {stride}: {share(kept)} of the pixels win; the others count for nothing."
        if count.max() > 1:
            said += f" Some win in {int(count.max())} windows."
        cover = pages.heat(count[0, 0])
        below = light("", x, "").pixels
        drawn = np.asarray(pages.over(pages.image_of(below), cover, 1.0))
        panels += [light(f"{name}: pooled", y, "What the next layer sees."), Panel(f"{name}: winners", count, said, drawn)]
    return Experiment("Which pixel won", "A maximum takes one pixel of each window and forgets the rest.", panels)


def unpooling(image: Any, kernel: int = 2, *, size: int = SIDE) -> Experiment:
    """What comes back when a pooled picture is made large again.

    Parameters
    ----------
    image, kernel, size : as for `pooling`

    Raises
    ------
    InputError
    """
    k, x = _kernel(kernel), gray(taken(image, size))
    x = np.ascontiguousarray(x[..., : x.shape[2] // k * k, : x.shape[3] // k * k])
    pooled, indices = F.max_pool2d(x, k, stride=k, return_indices=True)
    mean = F.avg_pool2d(x, k, stride=k)
    back = F.max_unpool2d(pooled, indices, k, stride=k)
    spread = F.conv_transpose2d(mean, np.ones((1, 1, k, k), np.float32), stride=k)
    taps = 2 * k - k % 2
    tent = 1 - np.abs(np.arange(taps) - (taps - 1) / 2) / k
    smooth = F.conv_transpose2d(mean, np.outer(tent, tent)[None, None].astype(np.float32), stride=k, pads=k // 2)
    flat = F.conv_transpose2d(np.ones_like(mean), np.ones((1, 1, 3, 3), np.float32), stride=2)

    def lost(y: np.ndarray) -> str:
        return share(float(np.abs(x - y).mean()))

    panels = [
        light("input", x, "The picture in gray."),
        light("pooled", pooled, f"The largest of every {k} x {k}."),
        light(
            "max unpooling",
            back,
            f"Each winner returns to its place, zeros elsewhere: {lost(back)} of white is missing on average.",
        ),
        light("dropped", x - back, "What unpooling does not give back: all that did not win."),
        light(
            "each mean, spread", spread, f"A transposed convolution of ones: blocks of {k} x {k}. {lost(spread)} off on average."
        ),
        light(
            "each mean, interpolated", smooth, "A transposed convolution by a tent: what bilinear resizing is, but at the border."
        ),
        light(
            "checkerboard",
            flat,
            "A plain white input through a transposed 3 x 3 with stride 2: where windows overlap, up to four add up.",
            high=float(flat.max()),
        ),
    ]
    return Experiment("Unpooling", "What pooling dropped does not come back; where it was may.", panels)
