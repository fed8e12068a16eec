"""`Preprocess`: what is done with a picture before a model sees it, checked, and applied.

The metadata key `cnnengine.preprocess` holds the same fields as JSON (docs/metadata.md). The value of an element is
`(pixel * scale - mean) / std` with pixels 0..255, computed in float32.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING

import numpy as np

from ..arguments import boolean, extents, integer, number
from ..errors import InputError, ModelError
from ..records import dataclass, fields_of
from .keys import METADATA_KEY
from .pictures import Decoded, decoded, eight_bits, resized
from .placing import Placement, placed

if TYPE_CHECKING:
    from PIL.Image import Image

LAYOUTS = ("NCHW", "NHWC")
ORDERS = ("RGB", "BGR")
FITS = ("stretch", "crop", "letterbox", "pad", "shorter", "line")
ALIGNMENTS = ("center", "start")
RESAMPLES = ("nearest", "bilinear", "bicubic", "lanczos")
MAX_EXTENT = 1 << 16

Dim = int | str | None


@dataclass(frozen=True)
class Preprocess:
    """What to do with an image before the model sees it.

    Attributes
    ----------
    layout : {"NCHW", "NHWC"}
        Order of the input's axes.
    size : (height, width), int for both, or None
        Of the input; None keeps what each image comes to.
    gray : bool
        One channel of luminance (ITU-R 601-2, as Pillow's mode "L"); otherwise three channels in `order`.
    scale : float
        Factor applied to the pixels 0..255.
    mean, std : tuple of float, or float
        Subtracted after scaling, then divided by: one number, or one per channel in the input's order.
    resample : {"nearest", "bilinear", "bicubic", "lanczos"}
        Filter for resizing.
    order : {"RGB", "BGR"}
        Order of the three channels.
    fit : {"stretch", "crop", "letterbox", "pad", "shorter", "line"}
        How an image gets the input's size: "stretch" regardless of its aspect; "crop" resized so that it covers the size, the
        middle cut out; "letterbox" resized so that it fits into the size, the rest filled; "pad" not resized, filled; "shorter"
        the shorter side resized to `resize`, then filled; "line" resized to the size's height, filled to at least its width.
    resize : (int,), (height, width), int, or None
        What is resized to before the middle is cut out: with "crop", one number is the shorter side. None: the size, or what
        `crop_pct` makes of it.
    crop_pct : float or None
        The part of the resized image that the middle is, as timm names it: resized to `size / crop_pct`, rounded down.
    longest : int or None
        With "shorter" and "line", the longest that the other side becomes.
    multiple : int
        Height and width are filled up to multiples of this where the size does not fix them; "stretch" rounds to them.
    fill : tuple of float, or float
        Pixel value 0..255 of what is filled: one number, or one per channel in the input's order.
    align : {"center", "start"}
        Where the image lies in what is filled, and what is cut out of it: the middle, or the upper left.
    antialias : bool
        Whether every pixel counts when images are made smaller, as Pillow does it and torchvision by default; otherwise the
        nearest ones alone, as OpenCV and torch do.
    background : tuple of float, float, or None
        Colour (red, green, blue, or one number) under transparent images; None drops transparency, as Pillow's convert does.

    Raises
    ------
    InputError
        A field of the wrong kind or out of its range, or fields that contradict each other.

    Examples
    --------
    >>> imagenet = Preprocess(
    ...     size=224, fit="crop", resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    ... )
    """

    layout: str = "NCHW"
    size: tuple[int, int] | None = None
    gray: bool = False
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resample: str = "bilinear"
    order: str = "RGB"
    fit: str = "stretch"
    resize: tuple[int, ...] | None = None
    crop_pct: float | None = None
    longest: int | None = None
    multiple: int = 1
    fill: tuple[float, ...] = (0.0,)
    align: str = "center"
    antialias: bool = True
    background: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        self.__dict__.update(normalised(self.__dict__))
        for name, choices in _CHOICES.items():
            self._require(getattr(self, name) in choices, name, " or ".join(choices))
        self._require(
            self.size is None or (len(self.size) == 2 and all(1 <= n <= MAX_EXTENT for n in self.size)),
            "size",
            f"height and width, 1 to {MAX_EXTENT}",
        )
        for name in ("mean", "std", "fill"):
            self._require(len(getattr(self, name)) in (1, self.channels), name, f"1 or {self.channels} numbers")
        self._require(0 not in self.std, "std", "numbers other than 0")
        self._require(all(0 <= v <= 255 for v in self.fill), "fill", "numbers from 0 to 255")
        if self.background is not None:
            ok = len(self.background) in (1, 3) and all(0 <= v <= 255 for v in self.background)
            self._require(ok, "background", "1 or 3 numbers from 0 to 255")
        self._require(self.crop_pct is None or 0.01 <= self.crop_pct <= 1, "crop_pct", "0.01 to 1")
        if self.resize is not None:
            ok = len(self.resize) in (1, 2) and all(1 <= n <= MAX_EXTENT for n in self.resize)
            self._require(ok, "resize", f"one extent, or height and width, 1 to {MAX_EXTENT}")
        self._require_what_belongs_together()

    def _require_what_belongs_together(self) -> None:
        fit, size = self.fit, self.size
        if fit in ("crop", "letterbox", "line"):
            self._require(size is not None, "size", f"height and width, for fit {fit!r}")
        if fit == "shorter":
            self._require(self.resize is not None and len(self.resize) == 1, "resize", "one extent, for fit 'shorter'")
        if self.resize is not None:
            self._require(self.crop_pct is None, "crop_pct", "not beside resize")
            self._require(fit not in ("pad", "line"), "resize", f"nothing, for fit {fit!r}")
            if fit == "stretch":
                self._require(size is not None, "size", "what is cut out of the resized image")
        if self.crop_pct is not None:
            self._require(fit in ("stretch", "crop", "letterbox"), "crop_pct", f"nothing, for fit {fit!r}")
            self._require(size is not None, "size", "height and width, for crop_pct")
        if self.longest is not None:
            self._require(fit in ("shorter", "line"), "longest", f"nothing, for fit {fit!r}")
        if self.multiple > 1 and (fit in ("crop", "line") or (fit == "stretch" and size is not None)):
            self._require(False, "multiple", f"1, for fit {fit!r}{' with a size' if fit == 'stretch' else ''}")
        self._require(self.antialias or self.resample != "lanczos", "resample", "another filter, without antialias")

    def _require(self, condition: bool, name: str, expected: str) -> None:
        if not condition:
            raise InputError("not a valid preprocessing setting", tensor=name, expected=expected, received=getattr(self, name))

    @property
    def channels(self) -> int:
        """Channels of the model's input: 1 or 3."""
        return 1 if self.gray else 3

    @classmethod
    def of_model(
        cls,
        metadata: Mapping[str, str],
        shape: Sequence[Dim] | None,
        dtype: np.dtype | type = np.float32,
        **overrides: object,
    ) -> Preprocess:
        """The settings for a model's image input: overrides, then our own metadata, then what the shape tells, then defaults.

        `Model.preparation` knows the metadata of others too, and refuses to guess.

        Parameters
        ----------
        metadata : mapping of str to str
            The model's metadata; the key `cnnengine.preprocess` holds a JSON object with this class's fields.
        shape : sequence of int, str or None, or None
            The input's shape as the model states it; strings and None are dynamic extents.
        dtype : numpy dtype
            The input's dtype: the default scale is 1/255 for floating point and 1 for integers.
        **overrides
            Fields to set regardless of the file; None means "not given".

        Raises
        ------
        ModelError
            The metadata are not what docs/metadata.md says.
        InputError
            An override is invalid, or the input cannot hold an image of 1 or 3 channels.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        stated = stated_settings(metadata) or {}
        told = settings_of_shape(shape, given.get("layout", stated.get("layout")))
        if np.issubdtype(dtype, np.integer):
            told["scale"] = 1.0
        return cls(**layered(told, stated, given))  # type: ignore[arg-type]

    def place(self, height: int, width: int) -> Placement:
        """Where an image of this height and width comes to lie in the input."""
        return placed(height, width, self)

    def apply(self, image: Image, dtype: np.dtype | type = np.float32) -> np.ndarray:
        """A Pillow image as a model's input.

        Parameters
        ----------
        image : PIL.Image.Image
            Any mode; 16-bit gray is reduced to 8 bits.
        dtype : numpy dtype
            dtype of the result. Integer results are rounded half to even.

        Returns
        -------
        ndarray, (1, C, H, W) or (1, H, W, C)

        Raises
        ------
        InputError
            The image's mode has no defined range (32-bit integers, floats), or it or the result does not fit.
        """
        return self.prepared(Decoded(image, (image.height, image.width)), dtype)[0]

    def read(self, path: str | os.PathLike[str] | IO[bytes], exact: bool = False) -> Decoded:
        """A file for `prepared`, which takes a fraction of the time of decoding it where it is a large JPEG.

        Where a picture is resized to less than half its extents, by a filter for which every pixel counts, JPEG is decoded at a
        half, a quarter or an eighth, the least that has more pixels than it is resized to.

        Parameters
        ----------
        path : path or binary file object
        exact : bool
            Decode all pixels.

        Raises
        ------
        InputError
            The file cannot be read, or the picture does not fit.
        """
        counts = self.antialias and self.resample != "nearest"
        return decoded(path, None if exact or not counts else self._least)

    def _least(self, height: int, width: int) -> tuple[int, int]:
        """More pixels than a picture is resized to, so that the filter has the last word."""
        resized = self.place(height, width).resized
        return resized[0] + 1, resized[1] + 1

    def prepared(self, picture: Decoded, dtype: np.dtype | type = np.float32) -> tuple[np.ndarray, Placement]:
        """What `apply` makes of a picture, and where it lies; raises as it does."""
        image = eight_bits(picture.image, self.gray, self.background)
        place = self.place(*picture.original)
        pixels = resized(image, *place.resized, self.resample, self.antialias, picture.box)
        if self.order == "BGR":
            pixels = pixels[:, :, ::-1]
        x_hwc = self._on_canvas(pixels, place)
        x = x_hwc.transpose(2, 0, 1) if self.layout == "NCHW" else x_hwc
        return _cast(np.ascontiguousarray(x[None]), np.dtype(dtype)), place

    def normalise(self, pixels: np.ndarray, axis: int = -1) -> np.ndarray:
        """`(pixels * scale - mean) / std` in float32, with the channels along this axis in the input's order.

        Raises
        ------
        InputError
            There are as many mean values as channels, and the axis has another number.
        """
        shape = [1] * pixels.ndim
        if pixels.ndim:
            shape[axis] = -1
            if pixels.shape[axis] not in (1, self.channels) and max(len(self.mean), len(self.std)) > 1:
                raise InputError("has other channels than mean and std", expected=self.channels, received=pixels.shape)
        scale, mean, std = (np.array(value, np.float32) for value in (self.scale, self.mean, self.std))
        found: np.ndarray = (np.asarray(pixels, np.float32) * scale - mean.reshape(shape)) / std.reshape(shape)
        return found

    def _on_canvas(self, pixels: np.ndarray, place: Placement) -> np.ndarray:
        """Normalised pixels (H, W, C): what is cut off is not computed, what is filled has the fill's value."""
        (height, width), (rows, columns) = place.canvas, place.resized
        top, left = max(place.top, 0), max(place.left, 0)
        inside = pixels[
            max(-place.top, 0) : min(height - place.top, rows),
            max(-place.left, 0) : min(width - place.left, columns),
        ]
        x = self.normalise(inside)
        if x.shape[:2] == place.canvas:
            return x
        canvas = np.empty((height, width, self.channels), np.float32)
        canvas[...] = self.normalise(np.array(self.fill, np.float32))
        canvas[top : top + x.shape[0], left : left + x.shape[1]] = x
        return canvas

    def as_dict(self) -> dict[str, object]:
        """The fields as JSON has them; some of those that have their defaults are left out."""
        found: dict[str, object] = {}
        for name, field in fields_of(Preprocess).items():
            value = getattr(self, name)
            if value != field.default or name in ("layout", "size", "scale", "mean", "std"):
                found[name] = list(value) if isinstance(value, tuple) else value
        return found

    def describe(self) -> str:
        """All of it for people, in one line."""
        parts = [self.layout, "any size" if self.size is None else f"{self.size[0]}x{self.size[1]}"]
        parts.append("gray" if self.gray else self.order)
        text = f"{' '.join(parts)}, {self._fit_text()}, {_value_text(self.scale, self.mean, self.std)}"
        return text if self.background is None else f"{text}, on background {_numbers_text(self.background)}"

    def _fit_text(self) -> str:
        to = "" if self.resize is None else " to " + "x".join(map(str, self.resize))
        to = to if self.crop_pct is None else f" (crop_pct {self.crop_pct:g})"
        by = self.resample if self.antialias else f"{self.resample} without antialias"
        filled = f" filled with {_numbers_text(self.fill)}"
        multiples = "" if self.multiple == 1 else f" in multiples of {self.multiple}"
        most = "" if self.longest is None else f" and at most {self.longest}"
        if self.fit == "stretch":
            if self.size is None and self.multiple == 1:
                return "not resized"
            return f"stretched{to}{multiples}{' and the middle cut out' if to else ''}, {by}"
        if self.fit == "crop":
            return f"shorter side resized{to} and the middle cut out, {by}"
        start = "" if self.align == "center" else " at the upper left"
        if self.fit == "letterbox":
            return f"letterboxed{to}{multiples}{start}{filled}, {by}"
        if self.fit == "pad":
            return f"not resized, padded{multiples}{start}{filled}"
        if self.fit == "shorter":
            return f"shorter side resized{to}{most}{multiples}, {by}"
        return f"resized to a line of its height{most}{start}{filled}, {by}"


_CHOICES = {"layout": LAYOUTS, "order": ORDERS, "fit": FITS, "align": ALIGNMENTS, "resample": RESAMPLES}
_NUMBERS = ("mean", "std", "fill", "background")


def _value_text(scale: float, mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    factor = 1 / scale if scale else 0.0
    if scale == 1:
        text = "pixel"
    elif round(factor, 4) == round(factor) and abs(factor) > 1:
        text = f"pixel / {round(factor)}"
    else:
        text = f"pixel * {scale:.6g}"
    if any(mean):
        text += f" - {_numbers_text(mean)}"
    if any(v != 1 for v in std):
        text = f"({text}) / {_numbers_text(std)}" if " " in text else f"{text} / {_numbers_text(std)}"
    return text


def _numbers_text(values: tuple[float, ...]) -> str:
    texts = [f"{v:.6g}" for v in values]
    return texts[0] if len(set(texts)) == 1 else f"({', '.join(texts)})"


def _cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if not np.issubdtype(dtype, np.integer):
        with np.errstate(over="ignore"):
            made: np.ndarray = x.astype(dtype, copy=False)
        if dtype.itemsize < x.dtype.itemsize and not np.isfinite(made).all():
            received = f"{x.min():g} to {x.max():g}"
            raise InputError(f"preprocessed pixels do not fit {dtype}", expected="finite numbers", received=received)
        return made
    rounded: np.ndarray = np.rint(x)
    limits = np.iinfo(dtype)
    if rounded.size and (rounded.min() < limits.min or rounded.max() > limits.max):
        raise InputError(
            f"preprocessed pixels do not fit {dtype}",
            expected=f"{limits.min} to {limits.max}",
            received=f"{rounded.min():g} to {rounded.max():g}",
        )
    return rounded.astype(dtype)


def stated_settings(metadata: Mapping[str, str]) -> dict[str, object] | None:
    """The fields under our own key of a model's metadata; None without it.

    Raises
    ------
    ModelError
        It holds something else.
    """
    text = metadata.get(METADATA_KEY)
    if text is None:
        return None
    import json  # only here: few files state anything

    try:
        stated = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"not valid JSON: {error}", tensor=METADATA_KEY) from None
    known = list(fields_of(Preprocess))
    if not isinstance(stated, dict) or not set(stated) <= set(known):
        raise ModelError("not the settings expected", tensor=METADATA_KEY, expected=f"an object of {known}", received=text)
    try:
        found = normalised(stated)
        # Where the input's shape has the size, it is not here; its place is taken by one that contradicts nothing.
        sized = {"size": (1, 1), "multiple": 1} if found.get("size") is None and "fit" in found else {}
        Preprocess(**{**found, **sized})  # type: ignore[arg-type]
    except InputError as error:
        raise ModelError(str(error), tensor=METADATA_KEY) from None
    except (TypeError, ValueError):
        raise ModelError("a setting of the wrong type", tensor=METADATA_KEY, received=text) from None
    return found


def layered(*layers: Mapping[str, object]) -> dict[str, object]:
    """Settings of which later layers go before earlier ones; one of `resize` and `crop_pct` takes the other away."""
    found: dict[str, object] = {}
    for layer in layers:
        for name, other in (("resize", "crop_pct"), ("crop_pct", "resize")):
            if layer.get(name) is not None:
                found.pop(other, None)
        found.update(normalised(layer))
    return found


def normalised(settings: Mapping[str, object]) -> dict[str, object]:
    """Numbers and lists as the dataclass holds them.

    Raises
    ------
    InputError
        A value that is of another kind.
    """
    result = dict(settings)
    for name in _NUMBERS:
        if name in result and not (name == "background" and result[name] is None):
            value = result[name]
            result[name] = tuple([_finite(v, name) for v in (value if _several(value) else (value,))])  # type: ignore[attr-defined]
    if "scale" in result:
        result["scale"] = _finite(result["scale"], "scale")
    if result.get("crop_pct") is not None:
        result["crop_pct"] = _finite(result["crop_pct"], "crop_pct")
    for name in ("size", "resize"):
        value = result.get(name)
        if value is not None:
            if not _several(value) and hasattr(value, "__index__") and not isinstance(value, bool):
                value = (value,) if name == "resize" else (value, value)
            result[name] = extents(value, name)
    if result.get("longest") is not None:
        result["longest"] = integer(result["longest"], "longest", 1, MAX_EXTENT)
    if "multiple" in result:
        result["multiple"] = integer(result["multiple"], "multiple", 1, MAX_EXTENT)
    for name in ("gray", "antialias"):
        if name in result:
            result[name] = boolean(result[name], name)
    for name in _CHOICES:
        if name in result and not isinstance(result[name], str):
            raise InputError("must be text", tensor=name, expected=" or ".join(_CHOICES[name]), received=repr(result[name]))
    return result


def _several(value: object) -> bool:
    """Whether a value holds others; arrays without axes can be iterated by their class, not by themselves."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)) and getattr(value, "ndim", 1) != 0


def _finite(value: object, name: str) -> float:
    found = number(value, name)
    if not math.isfinite(found):
        raise InputError("not a valid preprocessing setting", tensor=name, expected="finite numbers", received=found)
    return found


def settings_of_shape(shape: Sequence[Dim] | None, layout: object) -> dict[str, object]:
    """Layout (unless given), size and channels as far as the input's shape tells them.

    Raises
    ------
    InputError
        The input cannot hold an image of 1 or 3 channels.
    """
    if shape is None:
        return {}
    if len(shape) != 4:
        raise InputError("the model's input is not an image", expected="4 axes", received=tuple(shape))
    if layout is None:
        layout = "NHWC" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "NCHW"
    channels, height, width = (shape[3], shape[1], shape[2]) if layout == "NHWC" else (shape[1], shape[2], shape[3])
    told: dict[str, object] = {"layout": layout}
    if isinstance(channels, int):
        if channels not in (1, 3):
            raise InputError("the model's input is not a gray or RGB image", expected="1 or 3 channels", received=tuple(shape))
        told["gray"] = channels == 1
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        told["size"] = (height, width)
    return told
