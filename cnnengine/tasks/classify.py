"""Classes by their scores, best first; any other output as a summary of its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import integer
from ..errors import InputError
from ..metadata import OUTPUT_KINDS
from ..model import Model, inside
from ..preprocess import Placement
from .candidates import softmax
from .source import Source, known_of, ran
from .tables import Printed, table
from .task import by_the_first_axis

MOST = 3
PASSING = frozenset(("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Transpose"))
"""Operators that leave numbers as they are."""
SUMS = frozenset(
    ("Gemm", "MatMul", "Conv", "Add", "GlobalAveragePool", "ReduceMean", "BatchNormalization", "DequantizeLinear", "LogSoftmax")
)
"""Operators that no distribution comes from; softmax of what LogSoftmax gives is what it had."""


@dataclass(frozen=True)
class Ranking(Printed):
    """The best classes of one sample, best first.

    Attributes
    ----------
    kind : {"probability", "score"}
        Scores are the model's numbers as they are.
    classes : tuple of (index, label or None, value)
    """

    kind: str
    classes: tuple[tuple[int, str | None, float], ...]

    def __str__(self) -> str:
        rows = [["" if label is None else label, str(index), f"{value:.6g}"] for index, label, value in self.classes]
        return table(["label", "class", self.kind], rows, (1, 2))

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
    said : tuple of str
        How the outputs are read where nobody said it, for people.
    """

    def __init__(
        self,
        names: Sequence[str],
        labels: tuple[str, ...] | None,
        kind: str | None,
        top: int = MOST,
        said: tuple[str, ...] = (),
    ) -> None:
        self._names = list(names)
        self._labels = labels
        self._kind = kind
        self._top = top
        self._said = said

    @property
    def said(self) -> tuple[str, ...]:
        """How the outputs are read where nobody said it."""
        return self._said

    def samples(self, outputs: Sequence[object], count: int | None, canvas: tuple[int, int] | None) -> list[list[object]] | None:
        """As `Task` has it; labels that do not fit are refused at once."""
        made = by_the_first_axis(outputs, count)
        for sample in made[:1] if made else ():
            self.read(sample)
        return made

    def read(self, outputs: Sequence[object], place: Placement | None = None) -> dict[str, Ranking | Summary]:
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
            scores = softmax(scores)
        is_distribution = len(scores) > 1 and scores.min() >= 0 and abs(scores.sum() - 1) < 1e-3
        order = np.argsort(-scores, kind="stable")[: self._top]  # equal scores: lower index first; NaN: last
        return Ranking(
            "probability" if self._kind is not None or is_distribution else "score",
            tuple((int(i), labels[i] if labels else None, float(scores[i])) for i in order),
        )


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def ending(model: Model, name: str) -> str | None:
    """The operator that an output's numbers come from, as far as it tells what they are; None where it does not.

    "Softmax" and "Sigmoid" give probabilities, of all classes together and of each by itself; of SUMS are logits.
    """
    graph = inside(model).graph
    made = {output: node for node in graph.nodes for output in node.outputs}
    node = made.get(name)
    while node is not None and node.op.op_type in PASSING and node.inputs:
        node = made.get(node.inputs[0])
    if node is None:
        return None
    if node.op.op_type in ("Softmax", "Sigmoid"):
        return node.op.op_type
    plain = getattr(node.op, "activation", None) is None
    return node.op.op_type if plain and node.op.op_type in SUMS else None


def kind_of(model: Model, given: str | None) -> tuple[str | None, tuple[str, ...]]:
    """What the numbers of a classifier's output are, and what is to be said of it where nobody says it."""
    if given is not None or len(model.outputs) != 1:
        return given, ()
    last = ending(model, model.outputs[0].name)
    if last in SUMS:
        return "logits", (f"logits, as they come from {last}: softmax applied",)
    if last == "Sigmoid":
        return None, ("a sigmoid of each class: scores as they are",)
    return None, ()


def classify(
    model: Any,
    image: Any,
    *,
    top: int = MOST,
    output: str | None = None,
    labels: Sequence[str] | None = None,
    assume: str | None = None,
    **settings: Any,
) -> Ranking:
    """The best classes of a picture.

    Parameters
    ----------
    model : Model, or what `cnnengine.load` takes
    image : path, bytes, binary file object, PIL.Image.Image, or uint8 ndarray (H, W) or (H, W, 3)
    top : int
        How many classes.
    output : {"logits", "probabilities"}, optional
        What the output's numbers are, where the file does not say it. Else logits are those that come from a sum, such as a dense
        layer, and become probabilities by softmax; other numbers are left as they are.
    labels : sequence of str, optional
        The classes' names, in place of the file's.
    assume, **settings
        As for `Model.preparation`.

    Returns
    -------
    Ranking

    Raises
    ------
    InputError
        The picture or an option cannot be used, or the output is not a score for each class.
    """
    if output is not None and output not in OUTPUT_KINDS:
        raise InputError("unknown kind of output", tensor="output", expected=" or ".join(OUTPUT_KINDS), received=output)
    count = integer(top, "top", 1, None)
    with Source.of(model) as source:
        known = known_of(source.model, labels)
        kind, said = kind_of(source.model, known.output if output is None else output)
        task = Classify([o.name for o in source.model.outputs], known.labels, kind, count, said)
        return ran(source, task, image, assume, settings, Ranking)
