"""Which task reads a model's outputs: the one that is asked for, that metadata name, or that the outputs leave no doubt of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..model import Model
from ..preprocess import Placement, Preprocess
from .classify import Classify, kind_of
from .detect import MOST, OVERLAP, THRESHOLD, Detect, seen_of
from .embed import Embed
from .image import Render
from .layouts import matches
from .segment import Segment
from .source import Known, known_of
from .task import Described, Task
from .text import Text

NAMES = ("classify", "detect", "segment", "image", "embed", "text")
"""Of the tasks that are read."""
READ_AS = {"pose": "detect"}
"""What metadata name otherwise: boxes with key points are boxes."""


@dataclass(frozen=True)
class Wishes:
    """What callers say of a model's outputs; None where they say nothing.

    Attributes
    ----------
    task, layout, values, output : str or None
        As the tasks take them.
    threshold, overlap : float or None
    top : int or None
    labels : tuple of str, or None
    """

    task: str | None = None
    layout: str | None = None
    values: str | None = None
    output: str | None = None
    threshold: float | None = None
    overlap: float | None = None
    top: int | None = None
    labels: tuple[str, ...] | None = None


class Chosen:
    """A `Task` that is decided by the first outputs, where nobody says which it is.

    Parameters
    ----------
    model : Model
    wishes : Wishes
    settings : Preprocess or None
        How pictures become the input.
    option : function
        How a caller names what is wished.

    Raises
    ------
    InputError
        There is no such task, or a wish is out of its range.
    """

    def __init__(
        self,
        model: Model,
        wishes: Wishes,
        settings: Preprocess | None = None,
        option: Callable[[str], str] = "{}=".format,
    ) -> None:
        if wishes.task is not None and wishes.task not in NAMES:
            raise InputError("no such task", tensor=option("task"), expected=", ".join(NAMES), received=wishes.task)
        self._model = model
        self._wishes = wishes
        self._settings = settings
        self._option = option
        self._names = [o.name for o in model.outputs]
        self._known: Known = known_of(model, wishes.labels)
        self._task: Task | None = None
        self._how = ""
        stated = None if self._known.task is None else READ_AS.get(self._known.task, self._known.task)
        name = wishes.task or (stated if stated in NAMES else None)
        if name is not None and name != "segment":
            self._task = self._made(name, True)
        self._name = name

    @property
    def task(self) -> Task | None:
        """The task, once it is decided."""
        return self._task

    @property
    def said(self) -> tuple[str, ...]:
        """How outputs are read where nobody said it."""
        parts = () if self._task is None else self._task.said
        return (self._how, *parts) if self._how else parts

    def samples(self, outputs: Sequence[object], count: int | None, canvas: tuple[int, int] | None) -> list[list[object]] | None:
        """As `Task` has it."""
        if self._task is None:
            self._decide(outputs, count, canvas)
        assert self._task is not None
        return self._task.samples(outputs, count, canvas)

    def read(self, outputs: Sequence[object], place: Placement | None) -> Mapping[str, Described]:
        """As `Task` has it."""
        assert self._task is not None
        return self._task.read(outputs, place)

    def _decide(self, outputs: Sequence[object], count: int | None, canvas: tuple[int, int] | None) -> None:
        seen = seen_of(self._names, self._known, outputs, count, canvas)
        found = matches(seen) if canvas is not None and self._known.task in (None, "segment", "detect", "pose") else []
        if self._name == "segment":  # a mask for each box, or a class for each pixel
            self._task = self._made("detect" if len(found) == 1 else "segment", True)
            return
        if len(found) == 1:
            self._how = "task detect, by the outputs"
            self._task = self._made("detect", False)
            return
        if canvas is not None and _enlarged(seen.outputs, canvas):
            self._how = "task image, by the outputs"
            self._task = self._made("image", False)
            return
        ranked = [y for y in seen.outputs if count is not None and y.size == count * max(y.shape[1:], default=1)]
        if len(ranked) < len(seen.outputs):
            several = f" ({' or '.join(match.layout for match in found)}?)" if found else ""
            self._how = f"what the outputs mean is not known{several}: {self._option('task')} {', '.join(NAMES)} says it"
        self._task = self._made("classify", False)

    def _made(self, name: str, stated: bool) -> Task:
        wishes, known, names = self._wishes, self._known, self._names
        if name == "detect":
            threshold = THRESHOLD if wishes.threshold is None else wishes.threshold
            overlap = OVERLAP if wishes.overlap is None else wishes.overlap
            return Detect(names, known, wishes.layout, threshold, overlap, wishes.top or MOST, True, self._option("layout"))
        if name == "segment":
            layout = wishes.layout
            return Segment(names, known, layout, wishes.threshold)
        if name == "image":
            return Render(names, self._settings, wishes.values, self._option("values"))
        if name == "embed":
            return Embed(names)
        if name == "text":
            characters = wishes.labels if wishes.labels is not None else known.characters
            return Text(names, characters, "first", self._option("labels"))
        output = known.output if wishes.output is None else wishes.output
        kind, said = kind_of(self._model, output) if stated or known.labels is not None else (output, ())
        return Classify(names, known.labels, kind, wishes.top or 3, said)


def _enlarged(outputs: Sequence[np.ndarray], canvas: tuple[int, int]) -> bool:
    """Whether there is one output, a picture of a multiple of the input's extents: nothing but super-resolution gives that."""
    if len(outputs) != 1 or outputs[0].ndim != 4:
        return False
    shape = outputs[0].shape
    for channels, height, width in ((shape[1], *shape[2:]), (shape[3], *shape[1:3])):
        times = height // canvas[0]
        if channels in (1, 3) and times >= 2 and (height, width) == (times * canvas[0], times * canvas[1]):
            return True
    return False
