"""Classes by their scores, best first; any other output as a summary of its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..preprocess import Placement
from .task import Described


@dataclass(frozen=True)
class Ranking:
    """The best classes of one sample, best first.

    Attributes
    ----------
    kind : {"probability", "score"}
        Scores are the model's numbers as they are.
    classes : tuple of (index, label or None, value)
    """

    kind: str
    classes: tuple[tuple[int, str | None, float], ...]

    def as_text(self) -> str:
        form = "{:.4f}" if self.kind == "probability" else "{:.6g}"
        return "\t".join(f"{index if label is None else label} {form.format(value)}" for index, label, value in self.classes)

    def as_json(self) -> dict[str, object]:
        classes = [{"index": index, "label": label, self.kind: _json_number(value)} for index, label, value in self.classes]
        return {"kind": self.kind, "top": classes}


@dataclass(frozen=True)
class Summary:
    """An output that is not one score per class: its dtype and shape, and the range of its finite numbers."""

    dtype: str
    shape: tuple[int, ...]
    low: float | None
    high: float | None

    def as_text(self) -> str:
        spread = "" if self.low is None or self.high is None else f", {self.low:.6g} to {self.high:.6g}"
        return f"{self.dtype} {self.shape}{spread}"

    def as_json(self) -> dict[str, object]:
        return {"kind": "array", "dtype": self.dtype, "shape": list(self.shape), "min": self.low, "max": self.high}


class Classify:
    """Turns one sample's outputs into rankings and summaries: classes where an output has a score for each.

    Parameters
    ----------
    names : sequence of str
        The model's outputs.
    labels : tuple of str, or None
        Used for outputs with as many classes; a model with one output must have as many.
    kind : {"logits", "probabilities"} or None
        Logits become probabilities by softmax. None: a row that is a distribution already counts as probabilities, any
        other is left as it is, since softmax would be wrong for a model that scores each class by itself.
    top : int
        How many classes to keep.
    """

    def __init__(self, names: Sequence[str], labels: tuple[str, ...] | None, kind: str | None, top: int) -> None:
        self._names = list(names)
        self._labels = labels
        self._kind = kind
        self._top = top

    def read(self, outputs: Sequence[object], place: Placement | None = None) -> dict[str, Described]:
        """Describe the outputs of one sample, without the batch axis."""
        return {name: self._describe(np.asarray(y)) for name, y in zip(self._names, outputs, strict=True)}

    def _describe(self, y: np.ndarray) -> Ranking | Summary:
        if np.issubdtype(y.dtype, np.floating) and y.size and y.size == max(y.shape, default=1):
            return self._rank(y.ravel().astype(np.float64))
        finite = y[np.isfinite(y)] if y.dtype.kind in "fiu" else np.empty(0)
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
        return Summary(str(y.dtype), y.shape, low, high)

    def _rank(self, scores: np.ndarray) -> Ranking:
        labels = self._labels
        if labels is not None and len(labels) != len(scores):
            if len(self._names) == 1:
                raise InputError("the labels do not fit the model", expected=f"{len(scores)} labels", received=len(labels))
            labels = None
        if self._kind == "logits":
            scores = np.exp(scores - scores.max())
            scores /= scores.sum()
        is_distribution = len(scores) > 1 and scores.min() >= 0 and abs(scores.sum() - 1) < 1e-3
        order = np.argsort(-scores, kind="stable")[: self._top]  # equal scores: lower index first; NaN: last
        return Ranking(
            "probability" if self._kind is not None or is_distribution else "score",
            tuple((int(i), labels[i] if labels else None, float(scores[i])) for i in order),
        )


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None
