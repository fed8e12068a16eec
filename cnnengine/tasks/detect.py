"""Detection: boxes, scores and classes in pixels of the picture, whoever exported the network.

How outputs describe boxes is recognised (`layouts.py`); what overlaps is suppressed by the compiled function of ONNX's
NonMaxSuppression where the network has not done it; `Placement` says where the picture lies in the input, so that boxes come back
through crops, letterboxes and stretched pictures exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arguments import integer, number
from ..errors import InputError
from ..preprocess import Placement
from ..preprocess.sampling import along, bilinear
from .candidates import Candidates, Extents, Match, Seen
from .detections import Detections, outward
from .layouts import recognised
from .source import Known, Source, known_of, ran
from .suppression import suppressed

THRESHOLD, OVERLAP, MOST = 0.25, 0.45, 100


class Detect:
    """Turns outputs into `Detections`.

    Parameters
    ----------
    names : sequence of str
        The model's outputs.
    known : Known
        What is known of the model.
    layout : str, optional
        How boxes are described, where it is known: a name of `layouts.LAYOUTS`.
    threshold : float
        Boxes with scores above it count.
    overlap : float
        A box goes when its intersection over union with a better one is above it, unless the network has done so.
    top : int
        How many boxes stay.
    by_class : bool
        Whether boxes suppress those of their own class alone.
    option : str
        How a caller says the layout.

    Raises
    ------
    InputError
        A number is out of its range.
    """

    def __init__(
        self,
        names: Sequence[str],
        known: Known,
        layout: str | None = None,
        threshold: float = THRESHOLD,
        overlap: float = OVERLAP,
        top: int = MOST,
        by_class: bool = True,
        option: str = "layout=",
    ) -> None:
        self._names = tuple(names)
        self._known = known
        self._layout = layout
        self._threshold = part_of_one(threshold, "threshold")
        self._overlap = part_of_one(overlap, "overlap")
        self._top = integer(top, "top", 1, None)
        self._by_class = by_class
        self._option = option
        self._match: Match | None = None

    @property
    def said(self) -> tuple[str, ...]:
        """The layout, once outputs were seen."""
        if self._match is None:
            return ()
        found = self._match
        how = "" if not found.suppresses else f", overlaps above {self._overlap:g} suppressed"
        return (f"boxes: {found.said} (layout {found.layout}, scores above {self._threshold:g}{how})",)

    def seen(self, outputs: Sequence[object], count: int | None, canvas: Extents | None) -> Seen:
        """Outputs and what is known, for those who recognise layouts."""
        return seen_of(self._names, self._known, outputs, count, canvas)

    def samples(self, outputs: Sequence[object], count: int | None, canvas: Extents | None) -> list[list[object]] | None:
        """As `Task` has it; the first outputs decide the layout."""
        if canvas is None:
            raise InputError("boxes are found in pictures, and the model's input is none", expected="an input of four axes")
        if self._match is None:
            self._match = recognised(self.seen(outputs, count, canvas), self._layout, self._option)
        made = self._match.split(outputs, count)
        if made is None:
            shapes = ", ".join(str(getattr(y, "shape", type(y).__name__)) for y in outputs)
            raise InputError("the outputs are not one for each picture", expected=f"{count} pictures", received=shapes)
        return made

    def read(self, outputs: Sequence[object], place: Placement | None) -> Mapping[str, Detections]:
        """The boxes of one sample, as "detections"."""
        if place is None or self._match is None:
            raise InputError("boxes are found in pictures, and the model's input is none", expected="an input of four axes")
        found = self._match.read(outputs, place.canvas, self._threshold)
        if self._match.suppresses:
            by_class = self._by_class
            found = found[suppressed(found.boxes, found.scores, found.classes, self._overlap, self._top, by_class)]
        else:
            found = found[np.argsort(-found.scores, kind="stable")[: self._top]]
        return {"detections": _in_the_picture(found, place, self._known.labels, self._match.layout)}


def seen_of(names: Sequence[str], known: Known, outputs: Sequence[object], count: int | None, canvas: Extents | None) -> Seen:
    """The arrays among the outputs, and what is known of the model."""
    arrays = tuple(y if isinstance(y, np.ndarray) else np.empty(0, object) for y in outputs)
    labels = None if known.labels is None else len(known.labels)
    return Seen(tuple(names), arrays, count, canvas, labels, known.task, known.words, known.points)


def _in_the_picture(found: Candidates, place: Placement, labels: tuple[str, ...] | None, layout: str) -> Detections:
    """From the input's pixels to those of the picture; boxes that lie outside of it altogether are none."""
    height, width = place.original
    boxes = place.to_original(found.boxes)
    boxes = np.clip(boxes, 0, [width, height, width, height])
    inside = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    found, boxes = found[inside], boxes[inside].astype(np.float32)
    points = None
    if found.points is not None:
        points = found.points.astype(np.float32)
        points[..., :2] = place.to_original(found.points[..., :2])
    masks = _masks(found, boxes, place)
    scores = found.scores.astype(np.float32)
    return Detections(boxes, scores, found.classes, place.original, labels, masks, points, layout)


def _masks(found: Candidates, boxes: np.ndarray, place: Placement) -> tuple[np.ndarray, ...] | None:
    """Pixels of each box: above 0 of the coefficients' sum of prototypes, or above a half of probabilities."""
    if found.masks is None and (found.prototypes is None or found.coefficients is None):
        return None
    made = []
    for i, box in enumerate(boxes):
        left, top, right, bottom = outward(box, place.original)
        if found.masks is not None:
            values, least = found.masks[i][None], 0.5
        else:
            assert found.coefficients is not None
            assert found.prototypes is not None
            values, least = np.tensordot(found.coefficients[i], found.prototypes, 1)[None], 0.0
        rows = along(place, 0, values.shape[1], top, bottom)
        columns = along(place, 1, values.shape[2], left, right)
        made.append(bilinear(values, rows, columns)[0] > least)
    return tuple(made)


def part_of_one(value: object, name: str) -> float:
    """A number from 0 to 1; raises InputError for anything else."""
    found = number(value, name)
    if not 0 <= found <= 1:
        raise InputError("out of range", tensor=name, expected="0 to 1", received=found)
    return found


def detect(
    model: Any,
    image: Any,
    *,
    layout: str | None = None,
    threshold: float = THRESHOLD,
    overlap: float = OVERLAP,
    top: int = MOST,
    by_class: bool = True,
    labels: Sequence[str] | None = None,
    assume: str | None = None,
    **settings: Any,
) -> Detections:
    """The objects in a picture.

    Parameters
    ----------
    model : Model, or what `cnnengine.load` takes
    image : path, bytes, binary file object, PIL.Image.Image, or uint8 ndarray (H, W) or (H, W, 3)
    layout : str, optional
        How the outputs describe boxes (docs/tasks.md), where that is not recognised.
    threshold : float
        Boxes with scores above it count.
    overlap : float
        A box goes when its intersection over union with a better one is above it, unless the network has done so.
    top : int
        How many boxes stay.
    by_class : bool
        Whether boxes suppress those of their own class alone.
    labels : sequence of str, optional
        The classes' names, in place of the file's.
    assume, **settings
        As for `Model.preparation`.

    Returns
    -------
    Detections

    Raises
    ------
    InputError
        The picture or an option cannot be used, or the outputs are not those of a detector that is known.
    """
    with Source.of(model) as source:
        known = known_of(source.model, labels)
        names = [o.name for o in source.model.outputs]
        task = Detect(names, known, layout, threshold, overlap, top, by_class)
        return ran(source, task, image, assume, settings, Detections)
