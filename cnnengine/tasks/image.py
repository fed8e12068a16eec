"""Image to image: super-resolution, style, denoising, depth: an output that is a picture itself.

Its numbers become levels by what the input's levels became numbers by, turned around, or by a range that is named. What was
filled around the picture is cut off, and a picture that was stretched or made smaller for the network gets its own extents back,
times what the network enlarges by.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..preprocess import Placement, Preprocess
from ..preprocess.placing import MOST_PIXELS
from .candidates import array_of
from .source import Source, picture_input, prepared, ran
from .tables import Printed, table
from .task import by_the_first_axis

if TYPE_CHECKING:
    from PIL.Image import Image

VALUES = {
    "input": "as the input's were made, turned around",
    "unit": "0 to 1",
    "signed": "-1 to 1",
    "pixels": "0 to 255",
    "minmax": "from its least to its largest: depth, heat",
}
"""What an output's numbers are."""


@dataclass(frozen=True, eq=False)
class Picture(Printed):
    """A picture that a network made.

    Attributes
    ----------
    pixels : ndarray, uint8 (height, width) or (height, width, 3)
        Gray, or red, green, blue.
    low, high : float
        The least and the largest number of the output.
    """

    pixels: np.ndarray
    low: float
    high: float

    def image(self) -> Image:
        """As a Pillow image."""
        from PIL import Image as pillow

        return pillow.fromarray(self.pixels)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file, of the kind that its name says.

        Raises
        ------
        InputError
            It cannot be written, or Pillow knows no such kind.
        """
        try:
            self.image().save(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{os.fspath(path)}: cannot be written: {error}") from error

    def draw(self, image: Image) -> Image:
        """The picture itself; that which it was made of is not needed."""
        return self.image()

    def __str__(self) -> str:
        height, width = self.pixels.shape[:2]
        kind = "gray" if self.pixels.ndim == 2 else "RGB"
        rows = [[str(width), str(height), kind, f"{self.low:.6g}", f"{self.high:.6g}"]]
        return table(["width", "height", "colours", "least", "largest"], rows, (0, 1, 3, 4))

    def as_text(self) -> str:
        """Extents, and the range of the output's numbers."""
        kind = "gray" if self.pixels.ndim == 2 else "RGB"
        return f"{self.pixels.shape[1]}x{self.pixels.shape[0]} {kind}, of {self.low:.6g} to {self.high:.6g}"

    def as_json(self) -> dict[str, object]:
        channels = 1 if self.pixels.ndim == 2 else 3
        return {
            "kind": "picture",
            "width": self.pixels.shape[1],
            "height": self.pixels.shape[0],
            "channels": channels,
            "min": self.low,
            "max": self.high,
        }


class Render:
    """Turns the first output that is a picture into a `Picture`.

    Parameters
    ----------
    names : sequence of str
        The model's outputs.
    settings : Preprocess or None
        How pictures become the input; None where the input came as arrays.
    values : str or None
        A name of VALUES; None for "input", where mean and deviation are the same for each channel.
    option : str
        How a caller says it.

    Raises
    ------
    InputError
        There is no such range.
    """

    def __init__(
        self, names: Sequence[str], settings: Preprocess | None, values: str | None = None, option: str = "values="
    ) -> None:
        if values is not None and values not in VALUES:
            raise InputError("no such range", tensor=option, expected=", ".join(VALUES), received=values)
        self._names = tuple(names)
        self._settings = settings
        self._values = values
        self._option = option
        self._found: tuple[int, bool] | None = None
        self._said: tuple[str, ...] = ()

    @property
    def said(self) -> tuple[str, ...]:
        """Which output is read, and how, once outputs were seen."""
        return self._said

    def samples(self, outputs: Sequence[object], count: int | None, canvas: tuple[int, int] | None) -> list[list[object]] | None:
        """As `Task` has it."""
        if self._found is None:
            self._found = self._find(outputs)
        return by_the_first_axis([outputs[self._found[0]]], count)

    def read(self, outputs: Sequence[object], place: Placement | None) -> Mapping[str, Picture]:
        """The picture of one sample, by the output's name."""
        assert self._found is not None
        at, last = self._found
        name = self._names[at]
        y = array_of(outputs[0], name)
        levels = self._levels(y if last else y.transpose(1, 2, 0), y.dtype, name)
        pixels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        if self._settings is not None and self._settings.order == "BGR" and pixels.shape[2] == 3:
            pixels = pixels[:, :, ::-1]
        pixels = pixels[:, :, 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels)
        made = pixels if place is None else _as_it_was(pixels, place)
        return {name: Picture(made, float(y.min()), float(y.max()))}

    def _find(self, outputs: Sequence[object]) -> tuple[int, bool]:
        """The output that is a picture, and whether its channels are last."""
        found = []
        for i, y in enumerate(outputs):
            if not isinstance(y, np.ndarray) or y.ndim != 4 or y.dtype.kind not in "fu" or not y.size:
                continue
            fits = y.shape[1] in (1, 3), y.shape[3] in (1, 3)
            if any(fits):
                preferred = self._settings is not None and self._settings.layout == "NHWC"
                found.append((i, preferred if all(fits) else fits[1]))
        if not found:
            shapes = [f"{n} {getattr(y, 'shape', '')}" for n, y in zip(self._names, outputs, strict=True)]
            raise InputError(
                "no output is a picture", tensor=self._names[0], expected="1 or 3 channels", received=", ".join(shapes)
            )
        at, last = found[0]
        left = [n for i, n in enumerate(self._names) if i != at]
        without = f", without {', '.join(left)}" if left else ""
        whole = np.asarray(outputs[at]).dtype.kind == "u"
        how = "levels" if whole else VALUES[self._range()]
        self._said = (f"picture: {self._names[at]}, {how}{without}",)
        return at, last

    def _range(self) -> str:
        """What the output's numbers are; raises InputError where that is not known."""
        if self._values not in (None, "input"):
            return str(self._values)
        settings = self._settings
        if settings is None or (self._values is None and (len(set(settings.mean)) > 1 or len(set(settings.std)) > 1)):
            raise InputError(
                "what the output's numbers are is not known: say their range",
                tensor=self._option,
                expected=", ".join(f"{n} ({t})" for n, t in VALUES.items()),
            )
        return "input"

    def _levels(self, y: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
        """Numbers (h, w, C) as levels from 0 to 255."""
        if dtype.kind == "u":
            return y
        kind = self._range()
        x = y.astype(np.float64)
        if not np.isfinite(x).all():
            raise InputError("has numbers that are not finite", tensor=name, expected="numbers of a picture")
        low, high = float(x.min()), float(x.max())
        if kind == "minmax":
            return (x - low) * (255 / (high - low) if high > low else 0.0)
        if kind == "input":
            assert self._settings is not None
            settings = self._settings
            levels = (x * settings.std + settings.mean) / settings.scale
        else:
            levels = x * 255 if kind == "unit" else (x + 1) * 127.5 if kind == "signed" else x
        if self._values is None:
            beyond = float(((levels < -64) | (levels > 319)).mean())
            if beyond > 0.5 or (high <= 1.5 and low >= -1.5 and kind == "input" and _is_pixels(self._settings)):
                raise InputError(
                    "its numbers are not in the range of the input's: say which they have",
                    tensor=name,
                    expected=f"{self._option}{', '.join(VALUES)}",
                    received=f"{low:g} to {high:g}",
                )
        found: np.ndarray = levels
        return found


def _is_pixels(settings: Preprocess | None) -> bool:
    return settings is not None and settings.scale == 1 and max(settings.std) <= 1


def _as_it_was(pixels: np.ndarray, place: Placement) -> np.ndarray:
    """Without what was filled, in the picture's own extents times what the network enlarges by."""
    cut, wanted = [], []
    for axis, offset in enumerate((place.top, place.left)):
        ratio = pixels.shape[axis] / place.canvas[axis]
        begin, end = max(offset, 0), min(offset + place.resized[axis], place.canvas[axis])
        cut.append(slice(round(begin * ratio), max(round(end * ratio), round(begin * ratio) + 1)))
        wanted.append(max(1, round((end - begin) * place.original[axis] / place.resized[axis] * ratio)))
    seen = pixels[cut[0], cut[1]]
    if seen.shape[:2] == tuple(wanted):
        return np.ascontiguousarray(seen)
    if wanted[0] * wanted[1] > MOST_PIXELS:
        raise InputError(
            "the picture would be too large", expected=f"at most {MOST_PIXELS} pixels", received=f"{wanted[0]} x {wanted[1]}"
        )
    from PIL import Image as pillow

    image = pillow.fromarray(np.ascontiguousarray(seen)).resize((wanted[1], wanted[0]), pillow.Resampling.BICUBIC)
    return np.asarray(image)


def image(model: Any, image: Any, *, values: str | None = None, assume: str | None = None, **settings: Any) -> Picture:
    """The picture that a network makes of a picture.

    Parameters
    ----------
    model : Model, or what `cnnengine.load` takes
    image : path, bytes, binary file object, PIL.Image.Image, or uint8 ndarray (H, W) or (H, W, 3)
    values : {"input", "unit", "signed", "pixels", "minmax"}, optional
        What the output's numbers are; else they are turned back as the input's were made, where all channels were made alike.
    assume, **settings
        As for `Model.preparation`.

    Returns
    -------
    Picture

    Raises
    ------
    InputError
        The picture or an option cannot be used, no output is a picture, or the range of its numbers is not known.
    """
    with Source.of(model) as source:
        own = prepared(source.model, picture_input(source.model), settings, assume).settings
        task = Render([o.name for o in source.model.outputs], own, values)
        return ran(source, task, image, assume, settings, Picture)
