"""Shapes of dynamic inputs that a model runs at: found by trying, so that a suggestion can be followed."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence

from ..errors import CNNEngineError, InputError
from ..feeds import TensorInfo
from ..model import Model, inside
from .planning import Shapes, dynamic_inputs, random_feeds, resolve_shapes

Extents = dict[str, tuple[int, ...]]

PICTURES = ((224, 224), (48, 320), (320, 320), (640, 640), (32, 100), (64, 64), (256, 256), (299, 299), (512, 512), (28, 28))
"""Height and width; of lines of text among them, whose height is fixed by what follows."""
LENGTHS = (128, 16, 512, 256, 1, 16000, 1024, 2, 3, 4, 80)
"""Other extents: steps of a sequence, samples of sound."""
CHANNELS = (3, 1)
SECONDS = 5.0
"""No further shape is tried after this time."""
ELEMENTS = 1 << 24
"""Of an input; larger ones are not tried."""


def shapes_that_run(model: Model) -> Extents | None:
    """A shape for every input, the batch 1, at which the model runs on made-up values; None where none was found.

    Raises
    ------
    ClosedError
    """
    view, end = inside(model), time.monotonic() + SECONDS
    if any(info.shape is None or info.kind != "tensor" for info in model.inputs):
        return None
    for shapes in _candidates(model):
        if time.monotonic() > end:
            break
        try:
            view.run(random_feeds(model, shapes), model.threads)
        except (CNNEngineError, MemoryError):
            continue
        return shapes
    return None


def shape_options(shapes: Mapping[str, tuple[int, ...]], names: Iterator[str] | list[str]) -> str:
    """The command line's options for these inputs."""
    return " ".join(f"--shape {name}={','.join(map(str, shapes[name])) or 'scalar'}" for name in names)


def suggested(model: Model, names: Sequence[str]) -> str:
    """Options for these inputs that run; where none was found, what to fill in."""
    known = shapes_that_run(model)
    if known is not None:
        return shape_options(known, list(names))
    shapes = {info.name: ("?",) if info.shape is None else info.shape for info in model.inputs}
    texts = (f"{name}={','.join('N' if n is None else str(n) for n in shapes[name])}" for name in names)
    return f"--shape {' --shape '.join(texts)}, as the model is made for (no usual shape runs)"


def needed_shapes(model: Model, shapes: Shapes | None) -> dict[str, tuple[int, ...]]:
    """`resolve_shapes`, where a report cannot do without them.

    Raises
    ------
    InputError
        More than the batch is dynamic, and was not given; `expected` has options that run.
    """
    resolved = resolve_shapes(model, shapes)
    if resolved is None:
        missing = [name for name in dynamic_inputs(model) if name not in (shapes or {})]
        raise InputError(
            "more than the batch is dynamic: give the shape",
            model=model.name,
            tensor=", ".join(missing),
            expected=suggested(model, missing),
        )
    return resolved


def _candidates(model: Model) -> Iterator[Extents]:
    """Shapes worth a try, the likeliest first; extents of one name are one extent."""
    sizes = list(PICTURES)
    own = _own_size(model)
    if own is not None:
        sizes.insert(0, own)
    for at in range(max(len(sizes), len(LENGTHS))):
        height, width = sizes[min(at, len(sizes) - 1)]
        length = LENGTHS[min(at, len(LENGTHS) - 1)]
        made: list[Extents] = []
        for channels, middle in itertools.product(CHANNELS, (length, 1)):
            known: dict[object, int] = {}
            shapes = {info.name: _filled(info, known, (channels, height, width), length, middle) for info in model.inputs}
            if shapes not in made and all(math.prod(shape) <= ELEMENTS for shape in shapes.values()):
                made.append(shapes)
        yield from made


def _filled(
    info: TensorInfo, known: dict[object, int], picture: tuple[int, int, int], length: int, middle: int
) -> tuple[int, ...]:
    """The input's shape with its dynamic extents filled in; `middle` is axis 1 of three, which may be a batch: of states, say."""
    assert info.shape is not None
    channels, height, width = picture
    rank = len(info.shape)
    usual: dict[int, int] = {}
    if rank == 4:
        last = info.shape[3]
        is_last = isinstance(last, int) and last <= 4 and not isinstance(info.shape[1], int)
        usual = {1: height, 2: width, 3: channels} if is_last else {1: channels, 2: height, 3: width}
    elif rank == 3:
        usual = {1: middle}
    made = []
    for axis, extent in enumerate(info.shape):
        if isinstance(extent, int):
            made.append(extent)
            continue
        name = extent if isinstance(extent, str) else (info.name, axis)
        made.append(known.setdefault(name, 1 if axis == 0 else usual.get(axis, length)))
    return tuple(made)


def _own_size(model: Model) -> tuple[int, int] | None:
    """The size that the file's metadata, or a file beside it, name."""
    if len(model.inputs) != 1:
        return None
    try:
        size = model.preparation(assume="unit").settings.size
    except CNNEngineError:
        return None
    return None if size is None else (size[0], size[1])
