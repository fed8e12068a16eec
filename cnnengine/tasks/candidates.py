"""What layouts of detectors have in common: the outputs that are looked at, and the boxes that are found in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

Extents = tuple[int, int]
Reader = Callable[[Sequence[object], Extents, float], "Candidates"]
Splitter = Callable[[Sequence[object], "int | None"], "list[list[object]] | None"]

STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
"""Of the maps that detectors without proposals have, in the usual sizes of networks."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Boxes above the threshold, before suppression.

    Attributes
    ----------
    boxes : ndarray, float64 (n, 4)
        Left, top, right, bottom in pixels of the input.
    scores : ndarray, float64 (n,)
    classes : ndarray, int64 (n,)
    points : ndarray, float64 (n, k, 2) or (n, k, 3), or None
        x, y in pixels of the input, and how sure each is.
    coefficients, prototypes : ndarray (n, m) and (m, h, w), or None
        The sigmoid of their product is a mask for each box, over all of the input.
    masks : ndarray (n, h, w), or None
        Probabilities over all of the input.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    points: np.ndarray | None = None
    coefficients: np.ndarray | None = None
    prototypes: np.ndarray | None = None
    masks: np.ndarray | None = None

    def __getitem__(self, rows: np.ndarray) -> Candidates:
        """Those of these numbers."""

        def some(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[rows]

        boxes, scores, classes = self.boxes[rows], self.scores[rows], self.classes[rows]
        return Candidates(boxes, scores, classes, some(self.points), some(self.coefficients), self.prototypes, some(self.masks))


@dataclass(frozen=True, eq=False)
class Seen:
    """A model's outputs and what is known of it, for those who recognise a layout.

    Attributes
    ----------
    names : tuple of str
    outputs : tuple of ndarray
        Of a run, with their batch axes.
    count : int or None
        Samples of the run.
    canvas : (height, width) or None
        Of the input.
    classes : int or None
        How many labels are known.
    task : str or None
        What metadata say of the model's purpose.
    words : str
        The file's description of itself, in lower case.
    points : (count, numbers) or None
        Of the key points of each box, where metadata say it.
    """

    names: tuple[str, ...]
    outputs: tuple[np.ndarray, ...]
    count: int | None = 1
    canvas: Extents | None = None
    classes: int | None = None
    task: str | None = None
    words: str = ""
    points: tuple[int, int] | None = None

    def named(self, *wanted: str) -> list[int] | None:
        """Where outputs stand whose names end so, behind a separator or alone; None unless each is there once."""
        found = []
        for name in wanted:
            at = [i for i, own in enumerate(self.names) if _plain(own) == name]
            if len(at) != 1:
                return None
            found.append(at[0])
        return found

    def shapes_text(self) -> str:
        """Names, dtypes and shapes, for messages."""
        return ", ".join(f"{n} {y.dtype} {y.shape}" for n, y in zip(self.names, self.outputs, strict=True))


@dataclass(frozen=True, eq=False)
class Match:
    """A layout that fits outputs.

    Attributes
    ----------
    layout : str
        Its name, as `--format` takes it.
    said : str
        How the outputs are read, for people.
    read : function
        From the outputs of a sample, the input's extents and the least score to `Candidates`.
    split : function
        From the outputs of a run and the number of samples to the outputs of each.
    suppresses : bool
        Whether boxes that overlap are still there.
    """

    layout: str
    said: str
    read: Reader
    split: Splitter
    suppresses: bool = True


def _plain(name: str) -> str:
    return name.split(":")[0].split("/")[-1].lower()


def anchors_of(canvas: Extents | None, each: int = 1) -> dict[int, tuple[int, ...]]:
    """How many boxes an input of this size has for each set of strides, and which set that is."""
    if canvas is None:
        return {}
    return {each * sum(-(-canvas[0] // s) * -(-canvas[1] // s) for s in strides): strides for strides in STRIDES}


def corners(boxes: np.ndarray) -> np.ndarray:
    """Boxes of centre, width and height as left, top, right, bottom; float64."""
    found = np.asarray(boxes, np.float64)
    half = found[..., 2:4] / 2
    made: np.ndarray = np.concatenate([found[..., :2] - half, found[..., :2] + half], -1)
    return made


def in_pixels(boxes: np.ndarray, canvas: Extents) -> np.ndarray:
    """Pairs x, y of parts of the input, in its pixels; float64."""
    made: np.ndarray = np.asarray(boxes, np.float64) * ([canvas[1], canvas[0]] * (boxes.shape[-1] // 2))
    return made


def array_of(value: object, tensor: str) -> np.ndarray:
    """An output as an array of numbers.

    Raises
    ------
    InputError
        It is a sequence, or holds other things.
    """
    if isinstance(value, np.generic):  # of an output without axes, but for that of samples
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        received = str(value.dtype) if isinstance(value, np.ndarray) else type(value).__name__
        raise InputError("not an array of numbers", tensor=tensor, expected="an array of numbers", received=received)
    return value.astype(np.float32) if value.dtype.kind == "f" and value.dtype.itemsize < 4 else value


def check_scores(scores: np.ndarray, tensor: str, layout: str) -> None:
    """Refuse what cannot be scores from 0 to 1: the layout is another one, or a sigmoid was left out.

    Raises
    ------
    InputError
    """
    if not scores.size:
        return
    low, high = float(scores.min()), float(scores.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # NaN is neither
        raise InputError(
            f"its scores are not those of layout {layout!r}", tensor=tensor, expected="0 to 1", received=f"{low:g} to {high:g}"
        )


def check_boxes(boxes: np.ndarray, canvas: Extents, tensor: str, layout: str, every: np.ndarray | None = None) -> None:
    """Refuse boxes in pixels that are parts of the input, not finite, or far larger than it: the layout is another one.

    Parameters
    ----------
    boxes : ndarray (n, 4)
        Those that count.
    canvas : (height, width)
    tensor, layout : str
    every : ndarray, optional
        All of the output, however low their scores are: one box alone may well lie in the corner.

    Raises
    ------
    InputError
    """
    if not boxes.size:
        return
    low, high = float(boxes.min()), float(boxes.max())
    most = 100 * max(canvas)
    if not (low >= -most and high <= most):
        raise InputError(
            f"its boxes are not those of layout {layout!r}",
            tensor=tensor,
            expected=f"pixels of an input of {canvas[0]} x {canvas[1]}",
            received=f"{low:g} to {high:g}",
        )
    if float((boxes if every is None else every).max()) <= 1.5 and min(canvas) > 16:
        raise InputError(
            f"its boxes are parts of the input, not pixels as in layout {layout!r}",
            tensor=tensor,
            expected=f"pixels of an input of {canvas[0]} x {canvas[1]}",
            received=f"{low:g} to {high:g}",
        )


def check_classes(classes: np.ndarray, tensor: str, layout: str) -> None:
    """Refuse numbers of classes that are not whole numbers from 0 on.

    Raises
    ------
    InputError
    """
    if not classes.size:
        return
    wrong = ~np.isfinite(classes) | (classes != np.rint(classes)) | (classes < 0) | (classes > 1 << 30)
    if wrong.any():
        value = classes[wrong][0]
        raise InputError(
            f"its classes are not those of layout {layout!r}", tensor=tensor, expected="whole numbers", received=value
        )


def best_classes(scores: np.ndarray, threshold: float, factor: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Rows whose best class is above the threshold; what each is worth, and the class. `scores` is (boxes, classes)."""
    classes = scores.argmax(1) if scores.shape[1] else np.zeros(len(scores), np.int64)
    best = scores[np.arange(len(scores)), classes] if scores.shape[1] else np.zeros(len(scores))
    best = best.astype(np.float64) if factor is None else best.astype(np.float64) * factor
    rows = np.flatnonzero(best > threshold)
    return rows, best[rows], classes[rows].astype(np.int64)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Of any floats, without overflow; float64."""
    wide = np.asarray(x, np.float64)
    small = np.exp(-np.abs(wide))
    found: np.ndarray = np.where(wide >= 0, 1 / (1 + small), small / (1 + small))
    return found


def softmax(x: np.ndarray) -> np.ndarray:
    """Along the last axis; float64."""
    wide = np.asarray(x, np.float64)
    powers = np.exp(wide - wide.max(-1, keepdims=True)) if wide.size else wide
    found: np.ndarray = powers / powers.sum(-1, keepdims=True)
    return found
