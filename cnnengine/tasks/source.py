"""From a model and a picture to outputs: which input takes it, what belongs beside it, and what is known of the model."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from .. import arguments
from ..errors import CNNEngineError, InputError
from ..feeds import TensorInfo
from ..metadata import Preparation
from ..model import Model, load
from ..preprocess import Placement, Preprocess, as_image
from ..preprocess.pictures import eight_bits
from ..records import fields_of
from .task import Task

T = TypeVar("T")


@dataclass(frozen=True)
class Known:
    """What is known of a model.

    Attributes
    ----------
    labels : tuple of str, or None
    task, output : str or None
        As metadata say it.
    words : str
        The file's description of itself, in lower case.
    points : (count, numbers) or None
        Of the key points of each box.
    characters : tuple of str, or None
        What each class but the blank stands for.
    """

    labels: tuple[str, ...] | None = None
    task: str | None = None
    output: str | None = None
    words: str = ""
    points: tuple[int, int] | None = None
    characters: tuple[str, ...] | None = None


def known_of(model: Model, labels: Sequence[str] | None = None) -> Known:
    """What is known of a model, with labels in place of its own where they are given."""
    about = model.about
    given = None if labels is None else tuple(arguments.names(labels, "labels"))
    characters = about.first("characters")
    return Known(
        model.labels if given is None else given,
        about.task,
        about.output,
        str(model.metadata.get("description", "")).lower(),
        _points(model.metadata.get("kpt_shape")),
        None if characters is None else tuple(characters[0]),  # type: ignore[arg-type]
    )


def _points(text: str | None) -> tuple[int, int] | None:
    """Ultralytics' `kpt_shape`: how many key points, and two or three numbers for each."""
    if text is None or len(text) > 100:
        return None
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    if not isinstance(found, (list, tuple)) or len(found) != 2 or not all(type(v) is int for v in found):
        return None
    return (found[0], found[1]) if 1 <= found[0] <= 10000 and found[1] in (2, 3) else None


@dataclass(frozen=True)
class PictureInput:
    """The input that takes pictures.

    Attributes
    ----------
    info : TensorInfo
        With an axis of samples, also where the model's own has none.
    bare : bool
        Whether the model's own has none.
    extents : TensorInfo or None
        A second input for the input's width and height, by which boxes are scaled (RT-DETR, D-FINE).
    """

    info: TensorInfo
    bare: bool
    extents: TensorInfo | None

    def feeds(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """What the model is fed for pictures (N, C, H, W) or (N, H, W, C).

        Raises
        ------
        InputError
            Several pictures, where it takes one.
        """
        if self.bare and len(x) != 1:
            raise InputError("the model takes one picture at a time", tensor=self.info.name, expected=1, received=len(x))
        found = {self.info.name: x[0] if self.bare else x}
        if self.extents is not None:
            height, width = canvas_of(x.shape) or (0, 0)
            found[self.extents.name] = np.tile(np.array([[width, height]], self.extents.dtype), (len(x), 1))
        return found


def picture_input(model: Model) -> PictureInput:
    """The input of a model that takes pictures.

    Raises
    ------
    InputError
        It has none, or others beside it that nobody feeds.
    """
    sizes = [i for i in model.inputs if i.name == "orig_target_sizes" and i.shape is not None and i.shape[1:] == (2,)]
    rest = [i for i in model.inputs if i not in sizes]
    if len(rest) != 1:
        names = ", ".join(value.name for value in model.inputs)
        raise InputError("pictures go to models of one input", model=model.name, expected=1, received=names)
    info = rest[0]
    if info.shape is not None and len(info.shape) == 3 and (info.shape[0] in (1, 3) or info.shape[2] in (1, 3)):
        return PictureInput(TensorInfo(info.name, (1, *info.shape), info.dtype), True, sizes[0] if sizes else None)
    return PictureInput(info, False, sizes[0] if sizes else None)


def canvas_of(shape: Sequence[int]) -> tuple[int, int] | None:
    """Height and width of pictures of this shape; None where it is not that of pictures."""
    if len(shape) != 4:
        return None
    last = shape[3] in (1, 3) and shape[1] not in (1, 3)
    return (shape[1], shape[2]) if last else (shape[2], shape[3])


def unplaced(canvas: tuple[int, int]) -> Placement:
    """Where a picture lies that is the input itself."""
    return Placement(canvas, canvas, canvas, 0, 0)


class Source:
    """A model to run, opened here where it was not a `Model`."""

    def __init__(self, model: Model, own: bool) -> None:
        self.model = model
        self._own = own

    @classmethod
    def of(cls, model: Any) -> Source:
        """A model, or what `cnnengine.load` takes."""
        return cls(model, False) if isinstance(model, Model) else cls(load(model), True)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._own:
            self.model.close()


def ran(source: Source, task: Task, image: Any, assume: str | None, settings: Mapping[str, Any], kind: type[T]) -> T:
    """What a picture's outputs mean: the one result of this kind.

    Raises
    ------
    CNNEngineError
        It names the model.
    """
    model = source.model
    try:
        taken = picture_input(model)
        preparation = prepared(model, taken, settings, assume)
        picture = as_image(image)
        x = preparation.settings.apply(picture, taken.info.dtype)
        place = preparation.settings.place(picture.height, picture.width)
        outputs = model.run(None, taken.feeds(x))
        samples = task.samples(outputs, 1, place.canvas)
        if samples is None:
            shapes = ", ".join(str(getattr(y, "shape", type(y).__name__)) for y in outputs)
            raise InputError("the outputs are not those of one picture", expected="a first axis of 1", received=shapes)
        found = [value for value in task.read(samples[0], place).values() if isinstance(value, kind)]
        if len(found) != 1:
            raise InputError(
                "the outputs are not what the task asks for",
                expected=f"one {kind.__name__}",
                received=", ".join(f"{o.name} {getattr(y, 'shape', '')}" for o, y in zip(model.outputs, outputs, strict=True)),
            )
        return found[0]
    except CNNEngineError as error:
        raise error.locate(model=model.name) from None


def prepared(model: Model, taken: PictureInput, settings: Mapping[str, Any], assume: str | None) -> Preparation:
    """How a picture becomes the input, by settings that are given and what is known of the model."""
    if taken.info is model.inputs[0] and len(model.inputs) == 1:
        return model.preparation(assume, **settings)
    known = list(fields_of(Preprocess))
    for name in settings:
        if name not in known:
            raise InputError("no such setting", tensor=name, expected=known)
    return model.about.preparation(taken.info, settings, assume)


def upright(image: Any) -> Any:
    """The picture as results are drawn on it: 8 bits of red, green and blue."""
    return eight_bits(as_image(image), False, None)
