"""Segmentation: a class for each pixel of the picture.

Scores are interpolated to the picture's own pixels, through whatever was cut, filled and stretched (`sampling`), and the best
class of each pixel is taken after that: edges are as sharp as the scores make them. This is done in bands of rows, so that a
large photo and many classes take little memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, ShapeError
from ..preprocess import Placement
from ..preprocess.sampling import Axis, across_columns, along, down_rows, nearest
from .candidates import array_of
from .detect import part_of_one
from .drawing import colour_of, overlaid
from .source import Known, Source, known_of, ran
from .tables import Printed, named, table

if TYPE_CHECKING:
    from PIL.Image import Image

BAND = 1 << 16
"""Pixels that are interpolated at once, for each class: what a processor's second cache holds."""
UNSEEN = -1
"""Of pixels that the network has not seen: they were cut off."""


@dataclass(frozen=True, eq=False)
class Segmentation(Printed):
    """A class for each pixel.

    Attributes
    ----------
    classes : ndarray, int32 (height, width)
        In pixels of the picture, upright; -1 where it was cut off before the network saw it.
    labels : tuple of str, or None
    """

    classes: np.ndarray
    labels: tuple[str, ...] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return self.classes.shape[0], self.classes.shape[1]

    def mask(self, index: int) -> np.ndarray:
        """The pixels of a class, bool of the picture's height and width."""
        found: np.ndarray = self.classes == index
        return found

    def shares(self) -> list[tuple[int, float]]:
        """Classes that there are and their part of the pixels that were seen, the largest first."""
        numbers, counts = np.unique(self.classes[self.classes != UNSEEN], return_counts=True)
        total = max(int(counts.sum()), 1)
        found = [(int(n), float(c) / total) for n, c in zip(numbers, counts, strict=True)]
        return sorted(found, key=lambda one: (-one[1], one[0]))

    def __str__(self) -> str:
        rows = [[named(index, self.labels), f"{100 * share:.2f} %"] for index, share in self.shares()]
        return table(["class", "pixels"], rows, (1,))

    def as_text(self) -> str:
        """Classes and their part of the pixels, the largest first."""
        return "\t".join(f"{named(i, self.labels)} {100 * share:.2f}%" for i, share in self.shares()) or "nothing"

    def as_json(self) -> dict[str, object]:
        found = []
        for index, share in self.shares():
            label = None if self.labels is None or index >= len(self.labels) else self.labels[index]
            found.append({"index": index, "label": label, "share": round(share, 6)})
        return {"kind": "segmentation", "size": list(self.size), "found": found}

    def draw(self, image: Image) -> Image:
        """A copy of the picture, upright, with the colour of its class over each pixel but those of class 0."""
        from ..preprocess.pictures import eight_bits

        made = eight_bits(image, False, None).copy()
        if (made.height, made.width) != self.size:
            raise InputError("is another picture", tensor="image", expected=self.size, received=(made.height, made.width))
        for index, _ in self.shares():
            if index:
                overlaid(made, self.mask(index), 0, 0, colour_of(index))
        return made


class Segment:
    """Turns an output into a `Segmentation`.

    Parameters
    ----------
    names : sequence of str
        The model's outputs; the first is read, or that of the name "out" or "logits".
    known : Known
        What is known of the model.
    layout : {"NCHW", "NHWC"} or None
        Order of the axes of the output; None for that of the input, where it fits.
    threshold : float or None
        Of an output with one score for each pixel: those above it are class 1. None is a half.
    """

    def __init__(self, names: Sequence[str], known: Known, layout: str | None = None, threshold: float | None = None) -> None:
        if layout not in (None, "NCHW", "NHWC"):
            raise InputError("unknown order of axes", tensor="layout", expected="NCHW or NHWC", received=layout)
        self._names = tuple(names)
        self._known = known
        self._layout = layout
        self._threshold = 0.5 if threshold is None else part_of_one(threshold, "threshold")
        self._logits: bool | None = None if known.output is None else known.output == "logits"
        self._said: tuple[str, ...] = ()
        wanted = [i for i, n in enumerate(names) if n in ("out", "logits")]
        self._at = wanted[0] if len(wanted) == 1 else 0

    @property
    def said(self) -> tuple[str, ...]:
        """Which output is read, and how, once outputs were seen."""
        return self._said

    def samples(self, outputs: Sequence[object], count: int | None, canvas: tuple[int, int] | None) -> list[list[object]] | None:
        """As `Task` has it."""
        name = self._names[self._at]
        y = array_of(outputs[self._at], name)
        if canvas is None:
            raise InputError("pixels are of pictures, and the model's input is none", expected="an input of four axes")
        if y.ndim == 4 and y.dtype.kind in "iub" and 1 in (y.shape[1], y.shape[3]):
            y = y[:, 0] if y.shape[1] == 1 else y[..., 0]
        if y.ndim not in (3, 4) or y.shape[0] != (count or 1):
            raise ShapeError("is not a map for each picture", tensor=name, expected=f"{count or 1}, ...", received=y.shape)
        if y.dtype.kind == "f" and np.isnan(y).any():
            raise InputError("has numbers that are none", tensor=name, expected="scores", received="NaN")
        last = self._last(y, canvas)
        if last is None:
            maps = y
        else:
            maps = y.transpose(0, 3, 1, 2) if last else y
        left = [n for i, n in enumerate(self._names) if i != self._at]
        without = f", without {', '.join(left)}" if left else ""
        if last is None:
            how = "a class for each pixel"
        elif maps.shape[1] == 1:
            if self._logits is None:
                self._logits = bool(y.size and (y.min() < -1e-3 or y.max() > 1 + 1e-3))
            of = "of its sigmoid" if self._logits else "as it is"
            how = f"one score for each pixel, {of}, above {self._threshold:g}"
        else:
            how = f"scores of {maps.shape[1]} classes for each pixel, the best of them"
        self._said = self._said or (f"segments: {how}{without}",)
        return [[maps[i]] for i in range(len(maps))]

    def read(self, outputs: Sequence[object], place: Placement | None) -> Mapping[str, Segmentation]:
        """The classes of one sample's pixels, as "segmentation"."""
        if place is None:
            raise InputError("pixels are of pictures, and the model's input is none", expected="an input of four axes")
        (maps,) = outputs
        assert isinstance(maps, np.ndarray)
        labels = self._known.labels
        if labels is not None and maps.ndim == 3 and maps.shape[0] > 1 and maps.shape[0] != len(labels):
            raise InputError(
                "the labels do not fit the model",
                tensor=self._names[self._at],
                expected=f"{maps.shape[0]} labels",
                received=len(labels),
            )
        return {"segmentation": Segmentation(self._classes(maps, place), labels)}

    def _last(self, y: np.ndarray, canvas: tuple[int, int]) -> bool | None:
        """Whether the classes are on the last axis; None where there is no axis of classes."""
        name = self._names[self._at]
        if y.ndim == 3:
            if y.dtype.kind not in "iub":
                raise ShapeError(
                    "has no axis of classes", tensor=name, expected="(samples, classes, height, width)", received=y.shape
                )
            return None
        if self._layout is not None:
            return self._layout == "NHWC"
        most = max(canvas)  # what an element more or less, of rounding, makes
        fits = [abs(h * canvas[1] - w * canvas[0]) <= most and 0 < h <= 2 * canvas[0] for h, w in (y.shape[2:], y.shape[1:3])]
        if fits[0] != fits[1]:
            return bool(fits[1])
        if fits[0] and self._known.labels is not None:
            count = len(self._known.labels)
            if (y.shape[1] == count) != (y.shape[3] == count):
                return bool(y.shape[3] == count)
        raise InputError(
            "which axis has the classes is not known: say it",
            tensor="layout",
            expected=f"NCHW or NHWC, for an input of {canvas[0]} x {canvas[1]}",
            received=f"{name} {y.shape}",
        )

    def _classes(self, maps: np.ndarray, place: Placement) -> np.ndarray:
        height, width = place.original
        shape = maps.shape[-2:]
        columns = along(place, 1, shape[1])
        found = np.empty((height, width), np.int32)
        band = max(1, BAND // max(1, width))
        for begin in range(0, height, band):
            rows = along(place, 0, shape[0], begin, min(begin + band, height))
            part = found[begin : begin + band]
            if maps.ndim == 2:
                part[...] = nearest(maps, rows, columns)
            else:
                self._best(maps, rows, columns, part)
            part[~rows.seen] = UNSEEN
        found[:, ~columns.seen] = UNSEEN
        return found

    def _best(self, maps: np.ndarray, rows: Axis, columns: Axis, found: np.ndarray) -> None:
        """The best class of these pixels, the first among equals, class after class."""
        across, low = across_columns(maps, rows, columns)
        if len(maps) == 1:
            least = self._threshold
            if self._logits:
                with np.errstate(divide="ignore"):
                    least = float(np.log(least) - np.log1p(-least)) if least < 1 else np.inf
            found[...] = down_rows(across[0], low, rows) > least
            return
        best = down_rows(across[0], low, rows)
        found[...] = 0
        for index in range(1, len(maps)):
            scores = down_rows(across[index], low, rows)
            better = scores > best
            np.copyto(best, scores, where=better)
            found[better] = index


def segment(
    model: Any,
    image: Any,
    *,
    layout: str | None = None,
    threshold: float | None = None,
    labels: Sequence[str] | None = None,
    assume: str | None = None,
    **settings: Any,
) -> Segmentation:
    """The class of each pixel of a picture.

    Parameters
    ----------
    model : Model, or what `cnnengine.load` takes
    image : path, bytes, binary file object, PIL.Image.Image, or uint8 ndarray (H, W) or (H, W, 3)
    layout : {"NCHW", "NHWC"}, optional
        Order of the output's axes, where it is not that of the input.
    threshold : float, optional
        Of an output with one score for each pixel: those above it are class 1; a half by default.
    labels : sequence of str, optional
        The classes' names, in place of the file's.
    assume, **settings
        As for `Model.preparation`.

    Returns
    -------
    Segmentation

    Raises
    ------
    InputError
        The picture or an option cannot be used, or the output is not a map over the picture.
    """
    with Source.of(model) as source:
        names = [o.name for o in source.model.outputs]
        task = Segment(names, known_of(source.model, labels), layout, threshold)
        return ran(source, task, image, assume, settings, Segmentation)
