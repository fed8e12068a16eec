"""Boxes in a picture: what detectors find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .drawing import boxes_drawn, colour_of, overlaid
from .tables import Printed, named, table

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Detections(Printed):
    """What was found in a picture, the best first.

    Attributes
    ----------
    boxes : ndarray, float32 (n, 4)
        Left, top, right, bottom in pixels of the picture, upright; 0, 0 is the corner of its first pixel. Cut off at its edges.
    scores : ndarray, float32 (n,)
    classes : ndarray, int64 (n,)
    size : (height, width)
        Of the picture.
    labels : tuple of str, or None
        The classes' names.
    masks : tuple of bool ndarray, or None
        Which pixels belong to each, within its box rounded outward (`corner_of`, `mask`).
    points : ndarray, float32 (n, k, 2) or (n, k, 3), or None
        x, y in pixels of the picture, and how sure each is.
    layout : str
        How the outputs were read, as `docs/tasks.md` names it.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    size: tuple[int, int]
    labels: tuple[str, ...] | None = None
    masks: tuple[np.ndarray, ...] | None = None
    points: np.ndarray | None = None
    layout: str = ""

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> tuple[str, ...]:
        """The class of each box by its label, or by its number where it has none."""
        return tuple(named(int(c), self.labels) for c in self.classes)

    def mask(self, number: int) -> np.ndarray:
        """The pixels that belong to one of them, bool of the picture's height and width.

        Raises
        ------
        InputError
            There is none of this number, or the network gives no masks.
        """
        if self.masks is None or not 0 <= number < len(self):
            expected = "a network with masks" if self.masks is None else f"a number below {len(self)}"
            raise InputError("there is no such mask", tensor="number", expected=expected, received=number)
        whole = np.zeros(self.size, bool)
        part = self.masks[number]
        left, top, right, bottom = outward(self.boxes[number], self.size)
        whole[top:bottom, left:right] = part
        return whole

    def __str__(self) -> str:
        rows = [
            [name, f"{score:.4f}", *[f"{v:.1f}" for v in box]]
            for name, score, box in zip(self.names, self.scores, self.boxes, strict=True)
        ]
        return table(["class", "score", "left", "top", "right", "bottom"], rows, (1, 2, 3, 4, 5))

    def as_text(self) -> str:
        """`class score left top right bottom` of each, separated by tabs."""
        found = zip(self.names, self.scores, self.boxes, strict=True)
        return "\t".join(f"{name} {score:.4f} {' '.join(f'{v:.1f}' for v in box)}" for name, score, box in found) or "nothing"

    def as_json(self) -> dict[str, object]:
        """Numbers as they are; masks as the number of their pixels."""
        found = []
        for i, (index, score, box) in enumerate(zip(self.classes, self.scores, self.boxes, strict=True)):
            label = None if self.labels is None or index >= len(self.labels) else self.labels[index]
            one: dict[str, object] = {"index": int(index), "label": label, "score": _rounded(score), "box": _list(box)}
            if self.points is not None:
                one["points"] = [_list(p) for p in self.points[i]]
            if self.masks is not None:
                one["pixels"] = int(self.masks[i].sum())
            found.append(one)
        return {"kind": "detections", "size": list(self.size), "found": found}

    def draw(self, image: Image) -> Image:
        """A copy of the picture, upright, with frames, names and masks."""
        from ..preprocess.pictures import eight_bits

        made = eight_bits(image, False, None).copy()
        if (made.height, made.width) != self.size:
            raise InputError(
                "is another picture", tensor="image", expected=f"{self.size}", received=f"{(made.height, made.width)}"
            )
        colours = [colour_of(int(c)) for c in self.classes]
        for i in reversed(range(len(self))):
            if self.masks is not None:
                left, top, _, _ = outward(self.boxes[i], self.size)
                overlaid(made, self.masks[i], left, top, colours[i])
        boxes_drawn(
            made, self.boxes, [f"{n} {s:.2f}" for n, s in zip(self.names, self.scores, strict=True)], colours, self.points
        )
        return made


def outward(box: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box with its edges on those of pixels, so that it holds all that it touches: left, top, right, bottom."""
    left, top = (max(0, int(np.floor(v))) for v in box[:2])
    right, bottom = min(size[1], int(np.ceil(box[2]))), min(size[0], int(np.ceil(box[3])))
    return left, top, max(left, right), max(top, bottom)


def _rounded(value: object, digits: int = 6) -> float:
    number: Callable[[object], float] = float  # type: ignore[assignment]
    return round(number(value), digits)


def _list(values: np.ndarray) -> list[float]:
    return [_rounded(v, 3) for v in values]
