"""Where a picture comes to lie in a model's input: the extents that it is resized to, and what is cut off or filled.

A picture is resized, then drawn on a canvas at an offset: a negative one cuts off, a positive one leaves room that is filled.
Every way to fit is one such pair, and the extents are those that the libraries come to from which networks are exported:

- `crop`: torchvision's Resize of one number (the longer side is rounded down) and CenterCrop (half an element is rounded to
  even). Where height and width to be covered differ, the ratio is the smaller of both, rounded to the nearest.
- `letterbox`: rounded to the nearest, at least 1; what remains is halved, the smaller half above and on the left.
- `shorter`: torchvision's Resize with max_size.
- `line`: rounded up where there is room, down where the picture alone decides the width, as RapidOCR has it.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from ..errors import InputError
from ..records import dataclass

Extents = tuple[int, int]

MOST_PIXELS = 1 << 28
"""Of a canvas: a line of text that is a million times as wide as high would ask for terabytes."""


class Fitting(Protocol):
    """What of `Preprocess` decides where a picture lies."""

    @property
    def size(self) -> Extents | None: ...
    @property
    def fit(self) -> str: ...
    @property
    def resize(self) -> tuple[int, ...] | None: ...
    @property
    def crop_pct(self) -> float | None: ...
    @property
    def longest(self) -> int | None: ...
    @property
    def multiple(self) -> int: ...
    @property
    def align(self) -> str: ...


@dataclass(frozen=True)
class Placement:
    """Where the pixels of a picture lie in the input.

    Attributes
    ----------
    original, resized, canvas : (height, width)
        Of the picture, of the picture after resizing, and of the input.
    top, left : int
        Where the resized picture begins on the canvas; negative where it is cut off.
    """

    original: Extents
    resized: Extents
    canvas: Extents
    top: int
    left: int

    def to_original(self, points: np.ndarray) -> np.ndarray:
        """Points of the input in pixels of the picture.

        Parameters
        ----------
        points : ndarray, (..., 2 * n)
            Pairs x, y: a corner of the input's first pixel is 0, 0. Boxes of two corners are two pairs.

        Returns
        -------
        ndarray of the same shape, float64
            Not cut off at the picture's edges.
        """
        pairs = np.asarray(points, np.float64)
        found: np.ndarray = pairs.reshape(*pairs.shape[:-1], pairs.shape[-1] // 2, 2) - (self.left, self.top)
        found = found * (self.original[1] / self.resized[1], self.original[0] / self.resized[0])
        return found.reshape(pairs.shape)


def placed(height: int, width: int, settings: Fitting) -> Placement:
    """Where a picture of this height and width comes to lie.

    Raises
    ------
    InputError
        It does not fit, or the input would have too many pixels.
    """
    own = (height, width)
    resized, canvas = _FITS[settings.fit](own, settings)
    if math.prod(resized) > MOST_PIXELS or math.prod(canvas) > MOST_PIXELS:
        raise InputError(
            "the resized picture would be too large", expected=f"at most {MOST_PIXELS} pixels", received=f"{resized}, {canvas}"
        )
    begins = [0 if settings.align == "start" else _centred(r, c) for r, c in zip(resized, canvas, strict=True)]
    return Placement(own, resized, canvas, begins[0], begins[1])


def _centred(resized: int, canvas: int) -> int:
    return (canvas - resized) // 2 if resized <= canvas else -round((resized - canvas) / 2)


def _stretch(own: Extents, settings: Fitting) -> tuple[Extents, Extents]:
    if settings.size is None:
        rounded = tuple(max(1, round(n / settings.multiple)) * settings.multiple for n in own)
        return (rounded[0], rounded[1]), (rounded[0], rounded[1])
    return _before_the_cut(settings.size, settings), settings.size


def _crop(own: Extents, settings: Fitting) -> tuple[Extents, Extents]:
    assert settings.size is not None  # the settings ask for it
    if len(settings.resize or ()) == 1:
        return _by_the_shorter(own, settings.resize[0], None), settings.size  # type: ignore[index]
    whole = _before_the_cut(settings.size, settings)
    if whole[0] == whole[1]:
        return _by_the_shorter(own, whole[0], None), settings.size
    ratio = min(own[0] / whole[0], own[1] / whole[1])
    return _at_least_one(own[0] / ratio, own[1] / ratio), settings.size


def _letterbox(own: Extents, settings: Fitting) -> tuple[Extents, Extents]:
    assert settings.size is not None
    whole = _before_the_cut(settings.size, settings)
    ratio = min(whole[0] / own[0], whole[1] / own[1])
    resized = _at_least_one(own[0] * ratio, own[1] * ratio)
    return resized, _multiples(resized, settings.multiple) if settings.multiple > 1 else settings.size


def _pad(own: Extents, settings: Fitting) -> tuple[Extents, Extents]:
    return own, _room_for(own, settings)


def _shorter(own: Extents, settings: Fitting) -> tuple[Extents, Extents]:
    assert settings.resize is not None
    resized = _by_the_shorter(own, settings.resize[0], settings.longest)
    return resized, _room_for(resized, settings)


def _line(own: Extents, settings: Fitting) -> tuple[Extents, Extents]:
    assert settings.size is not None
    height, least = settings.size
    width = own[1] * height / own[0]
    room = max(least, int(width))
    if settings.longest is not None:
        room = max(least, min(room, settings.longest))
    return (height, max(1, min(math.ceil(width), room))), (height, room)


_FITS = {"stretch": _stretch, "crop": _crop, "letterbox": _letterbox, "pad": _pad, "shorter": _shorter, "line": _line}


def _before_the_cut(size: Extents, settings: Fitting) -> Extents:
    """The extents that are filled before the middle is cut out."""
    if settings.resize is not None:
        return settings.resize[0], settings.resize[-1]
    if settings.crop_pct is None:
        return size
    return math.floor(size[0] / settings.crop_pct), math.floor(size[1] / settings.crop_pct)


def _by_the_shorter(own: Extents, shorter: int, longest: int | None) -> Extents:
    short, long = min(own), max(own)
    resized = shorter, int(shorter * long / short)
    if longest is not None and resized[1] > longest:
        resized = max(1, int(longest * resized[0] / resized[1])), longest
    return resized if own[0] <= own[1] else (resized[1], resized[0])


def _at_least_one(height: float, width: float) -> Extents:
    return max(1, round(height)), max(1, round(width))


def _multiples(extents: Extents, multiple: int) -> Extents:
    return -(-extents[0] // multiple) * multiple, -(-extents[1] // multiple) * multiple


def _room_for(resized: Extents, settings: Fitting) -> Extents:
    if settings.size is None:
        return _multiples(resized, settings.multiple)
    if resized[0] > settings.size[0] or resized[1] > settings.size[1]:
        raise InputError(
            f"the picture is larger than the input, and fit {settings.fit!r} does not cut",
            expected=f"at most {settings.size[0]} x {settings.size[1]}",
            received=f"{resized[0]} x {resized[1]}",
        )
    return settings.size
