"""The reader's own picture as the input of layers, and what layers give as pictures again."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import arguments, pages
from ..errors import InputError
from ..preprocess import as_image
from ..preprocess.pictures import eight_bits
from .result import Panel

SIDE = 192
"""Pixels of the longer side that a picture is made no larger than, by default."""
LEAST = 16
"""Pixels of the shorter side that experiments need."""


def taken(image: Any, size: int = SIDE, gray: bool = False) -> np.ndarray:
    """A picture as float32 (1, C, H, W), 0 to 1, of one or three channels.

    Parameters
    ----------
    image : path, bytes, binary file object, PIL.Image.Image, uint8 ndarray (H, W) or (H, W, 3), or float ndarray from 0 to 1
    size : int
        The most that its longer side may have; larger ones are made smaller.
    gray : bool
        One channel, whatever the picture has.

    Raises
    ------
    InputError
        It is no picture, or too small.
    """
    most = arguments.integer(size, "size", LEAST, 1024)
    if isinstance(image, np.ndarray) and image.dtype.kind == "f":
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)) or not np.isfinite(image).all():
            raise InputError(
                "not pixels of an image",
                tensor="image",
                expected="finite numbers from 0 to 1, (H, W) or (H, W, 3)",
                received=f"{image.dtype} {image.shape}",
            )
        image = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    found = as_image(image)
    picture = eight_bits(found, gray or found.mode in ("1", "L", "LA", "I", "I;16", "F"), None)
    if max(picture.size) > most:
        picture = picture.copy()
        picture.thumbnail((most, most))
    if min(picture.size) < LEAST:
        raise InputError(
            "the picture is too small", tensor="image", expected=f"at least {LEAST} x {LEAST} pixels", received=picture.size[::-1]
        )
    pixels = np.asarray(picture, np.float32).reshape(picture.height, picture.width, -1) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def gray(x: np.ndarray) -> np.ndarray:
    """One channel of luminance."""
    if x.shape[1] == 1:
        return x
    return np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), x[0], 1)[None, None].astype(np.float32)


def light(name: str, y: np.ndarray, sentence: str, low: float = 0.0, high: float = 1.0) -> Panel:
    """A panel of numbers from `low`, black, to `high`, white: (1, C, H, W) of one or three channels."""
    share = np.clip((y[0] - low) / max(high - low, 1e-30), 0, 1)
    pixels = np.rint(np.nan_to_num(share) * 255).astype(np.uint8)
    return Panel(name, y, sentence, pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def signed(name: str, y: np.ndarray, sentence: str, most: float | None = None) -> Panel:
    """A panel of signed numbers, of several channels their mean: orange above zero, blue below.

    The full colour is that of `most`, by default of what one in a hundred is beyond.
    """
    maps = y[0].mean(axis=0)
    usual = float(np.percentile(np.abs(maps), 99)) or float(np.abs(maps).max())
    return Panel(name, y, sentence, pages.signed(maps, usual if most is None else most))


def share(value: float) -> str:
    """A share for people."""
    return f"{100 * value:.3g} %"


def binomial(size: int) -> np.ndarray:
    """A blur: weights (size, size) of a binomial in both directions, whose sum is 1."""
    row = np.array([1.0])
    for _ in range(size - 1):
        row = np.convolve(row, [0.5, 0.5])
    return np.outer(row, row).astype(np.float32)


def alike(weights: np.ndarray, channels: int) -> np.ndarray:
    """The same filter for each channel by itself: weights (C, 1, h, w) of a convolution with as many groups."""
    return np.ascontiguousarray(np.broadcast_to(weights, (channels, 1, *weights.shape)), np.float32)
