"""Shapes and inputs for a model: what every report starts from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..arguments import extents, mapping, meant
from ..errors import InputError, ShapeError
from ..model import Model, inside
from ..spec import check_size

Shapes = Mapping[str, Sequence[int]]


@contextmanager
def opened(model: Any, **options: Any) -> Iterator[Model]:
    """A model as it is, or loaded with these options and closed behind."""
    if isinstance(model, Model):
        yield model
        return
    with Model(model, **options) as loaded:
        yield loaded


def resolve_shapes(model: Model, shapes: Shapes | None) -> dict[str, tuple[int, ...]] | None:
    """A shape for every input: the given one, else the file's with a batch of 1; None where another extent is dynamic.

    Raises
    ------
    InputError
        A name is not an input's.
    """
    names = [info.name for info in model.inputs]
    for name in () if shapes is None else mapping(shapes, "shapes", model=model.name):
        if name not in names:
            said = f"no such input{meant(name, names)}"
            raise InputError(said, model=model.name, tensor=name, expected=f"one of {', '.join(names)}")
    resolved: dict[str, tuple[int, ...]] = {}
    for info in model.inputs:
        if shapes and info.name in shapes:
            resolved[info.name] = extents(shapes[info.name], info.name, model=model.name)
            continue
        if info.default_shape is None:
            return None
        resolved[info.name] = info.default_shape
    return resolved


def dynamic_inputs(model: Model) -> list[str]:
    """Inputs whose shape must be given, since more than the batch is dynamic."""
    return [i.name for i in model.inputs if i.shape is None or any(not isinstance(n, int) for n in i.shape[1:])]


def _check_sizes(model: Model, shapes: Shapes) -> None:
    for info in model.inputs:
        shape = extents(shapes[info.name], info.name, model=model.name)
        try:
            check_size(shape, info.dtype, info.name)
        except ShapeError as error:
            raise error.locate(model=model.name) from None


def random_feeds(model: Model, shapes: Shapes) -> dict[str, Any]:
    """Inputs of these shapes: normally distributed numbers from a fixed seed, zeros where they are integers, empty texts.

    Raises
    ------
    ShapeError, InputError
        A shape does not fit the model.
    """
    _check_sizes(model, shapes)
    rng = np.random.default_rng(0)
    feeds: dict[str, Any] = {}
    for info in model.inputs:
        shape = shapes[info.name]
        if info.dtype.kind == "O":
            feeds[info.name] = np.full(shape, "", object)
            continue
        floating = "float" in info.dtype.name  # bfloat16 and the small ones are of no kind of NumPy's
        numbers = rng.standard_normal(shape) if floating else np.zeros(shape)
        feeds[info.name] = numbers.astype(info.dtype)
    return inside(model).check_feeds(feeds)
