"""What a network is fed: arrays as they are, or a picture on the way to its input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import arguments
from ..errors import InputError
from ..feeds import TensorInfo, check_feeds
from ..preprocess import LAYOUTS, Placement, as_image
from ..preprocess.pictures import eight_bits

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..metadata import Preparation


class Given:
    """One sample of a network's inputs.

    Attributes
    ----------
    feeds : mapping of str to ndarray
    begin : str
        The input that is explained.
    last : bool or None
        Whether its channels are last; None where nobody says it.
    picture : PIL.Image.Image or None
        What it was made of.
    place : Placement or None
        Where that picture lies in the input.
    """

    def __init__(
        self,
        feeds: Mapping[str, np.ndarray],
        begin: str,
        last: bool | None = None,
        picture: Image | None = None,
        place: Placement | None = None,
    ) -> None:
        self.feeds = feeds
        self.begin = begin
        self.last = last
        self.picture = picture
        self.place = place


def fed(
    x: Any,
    inputs: Sequence[TensorInfo],
    name: str | None,
    layout: str | None,
    preparation: Callable[[], Preparation],
    model: str,
) -> Given:
    """What `Model.explain` is given, checked.

    Raises
    ------
    InputError, ShapeError
        It does not fit the model's inputs, or is more than one sample.
    """
    if layout is not None and layout not in LAYOUTS:
        raise InputError("unknown layout", tensor="layout", expected=" or ".join(LAYOUTS), received=layout)
    last = None if layout is None else layout == "NHWC"
    known = {info.name: info for info in inputs}
    if name is not None and name not in known:
        said = f"no such input{arguments.meant(name, known)}"
        raise InputError(said, tensor="input", expected=f"one of {', '.join(known)}", received=name)
    for info in inputs:
        if info.shape and isinstance(info.shape[0], int) and info.shape[0] != 1 and len(info.shape) > 2:
            raise InputError(
                "the file fixes a batch, and one sample is explained",
                tensor=info.name,
                expected="a batch of 1, or a dynamic one",
                received=info.shape,
            )
    if not isinstance(x, Mapping) and len(inputs) == 1 and _is_picture(x, inputs[0]):
        found = preparation().settings
        picture = as_image(x)
        made = found.apply(picture, inputs[0].dtype)
        feeds = check_feeds({inputs[0].name: made}, known, model=model)
        upright = eight_bits(picture, False, found.background)
        place = found.place(picture.height, picture.width)
        return Given(feeds, inputs[0].name, found.layout == "NHWC", upright, place)
    if not isinstance(x, Mapping):
        if len(inputs) != 1:
            raise InputError("name the inputs", tensor="x", expected=list(known))
        x = {inputs[0].name: x}
    values = {n: _with_samples(v, known[n]) if n in known else v for n, v in x.items()}
    feeds = check_feeds(values, known, model=model)
    if name is None:
        seen = [n for n, v in feeds.items() if isinstance(v, np.ndarray) and 3 <= v.ndim <= 5] or list(feeds)
        if len(seen) != 1:
            raise InputError(
                "several inputs have places: say which is explained", tensor="input", expected=f"one of {', '.join(seen)}"
            )
        name = seen[0]
    if not isinstance(feeds[name], np.ndarray):
        raise InputError("is no tensor", tensor=name, expected="an array", received=type(feeds[name]).__name__)
    if feeds[name].shape[:1] != (1,):
        raise InputError("one sample is explained", tensor=name, expected="a first axis of 1", received=feeds[name].shape)
    return Given(feeds, name, last)


def _is_picture(x: Any, info: TensorInfo) -> bool:
    """Whether what is given is a picture and not the input itself."""
    if isinstance(x, np.ndarray):
        rank = None if info.shape is None else len(info.shape)
        pixels = x.dtype == np.uint8 and (x.ndim == 2 or (x.ndim == 3 and x.shape[2] in (1, 3)))
        return pixels and info.dtype != x.dtype and rank != x.ndim
    return isinstance(x, (str, bytes, bytearray, memoryview)) or hasattr(x, "__fspath__") or hasattr(x, "read") or _pillow(x)


def _pillow(x: Any) -> bool:
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(x).__mro__)


def _with_samples(value: Any, info: TensorInfo) -> Any:
    """The value, with an axis of samples where it lacks one."""
    array = arguments.array(value, info.name)
    lacks = info.shape is not None and array.ndim == len(info.shape) - 1 and array.ndim > 0
    return array[None] if lacks else array
