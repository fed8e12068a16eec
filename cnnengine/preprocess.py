"""What a model's file says of its input and classes, and the way from an image file to that input, in NumPy and Pillow.

The metadata key `cnnengine.preprocess` holds size, channels, layout and scaling, `cnnengine.labels` the classes
(docs/metadata.md). The value of an element is `(pixel * scale - mean) / std` with pixels 0..255, computed in float32.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from .arguments import array, extents, number
from .errors import InputError, ModelError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "LABELS_KEY",
    "METADATA_KEY",
    "Preprocess",
    "as_image",
    "labels_of_model",
    "list_of_strings",
    "read_image",
    "require_pillow",
]

METADATA_KEY = "cnnengine.preprocess"
LABELS_KEY = "cnnengine.labels"
LAYOUTS = ("NCHW", "NHWC")
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
    size : (height, width) or None
        Images are resized to this, without keeping their aspect; None keeps each image's own size.
    gray : bool
        One channel of luminance (ITU-R 601-2, as Pillow's mode "L"); otherwise three channels, red, green and blue.
    scale : float
        Factor applied to the pixels 0..255.
    mean, std : tuple of float
        Subtracted after scaling, then divided by: one number, or one per channel.
    resample : {"nearest", "bilinear", "bicubic", "lanczos"}
        Pillow's filter for resizing.
    """

    layout: str = "NCHW"
    size: tuple[int, int] | None = None
    gray: bool = False
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resample: str = "bilinear"

    def __post_init__(self) -> None:
        self._require(self.layout in LAYOUTS, "layout", " or ".join(LAYOUTS))
        self._require(self.resample in RESAMPLES, "resample", "one of " + ", ".join(RESAMPLES))
        self._require(isinstance(self.gray, bool), "gray", "true or false")
        self._require(
            self.size is None or (len(self.size) == 2 and all(1 <= n <= MAX_EXTENT for n in self.size)),
            "size",
            f"height and width, 1 to {MAX_EXTENT}",
        )
        self._require(math.isfinite(self.scale), "scale", "a finite number")
        for name in ("mean", "std"):
            values = getattr(self, name)
            self._require(len(values) in (1, self.channels), name, f"1 or {self.channels} numbers")
            self._require(all(math.isfinite(v) for v in values), name, "finite numbers")
        self._require(0 not in self.std, "std", "numbers other than 0")

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
        """The settings for a model's image input: overrides, then the file's metadata, then what the shape tells.

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
        stated = _from_metadata(metadata)
        told = _from_shape(shape, given.get("layout", stated.get("layout")))
        if np.issubdtype(dtype, np.integer):
            told["scale"] = 1.0
        return cls(**{**told, **stated, **_normalised(given)})  # type: ignore[arg-type]

    def apply(self, image: Image, dtype: np.dtype | type = np.float32) -> np.ndarray:
        """A Pillow image as a model's input.

        Parameters
        ----------
        image : PIL.Image.Image
            Any mode; transparency is dropped, 16-bit gray is reduced to 8 bits.
        dtype : numpy dtype
            dtype of the result. Integer results are rounded half to even.

        Returns
        -------
        ndarray, (1, C, H, W) or (1, H, W, C)

        Raises
        ------
        InputError
            The image's mode has no defined range (32-bit integers, floats), or the result does not fit the dtype.
        """
        from PIL import Image as pillow

        image = _to_eight_bit(image).convert("L" if self.gray else "RGB")
        if self.size is not None and image.size != (self.size[1], self.size[0]):
            image = image.resize((self.size[1], self.size[0]), pillow.Resampling[self.resample.upper()])
        scale, mean, std = (np.array(value, np.float32) for value in (self.scale, self.mean, self.std))
        pixels = np.asarray(image, dtype=np.float32).reshape(image.height, image.width, self.channels)
        x_hwc: np.ndarray = (pixels * scale - mean) / std
        x = x_hwc.transpose(2, 0, 1) if self.layout == "NCHW" else x_hwc
        return _cast(np.ascontiguousarray(x[None]), np.dtype(dtype))


def labels_of_model(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """The labels in a model's metadata, or None.

    Raises
    ------
    ModelError
        They are not a JSON list of strings.
    """
    text = metadata.get(LABELS_KEY)
    if text is None:
        return None
    try:
        return list_of_strings(text)
    except ValueError as error:
        raise ModelError(f"not a JSON list of strings: {error}", tensor=LABELS_KEY) from None


def list_of_strings(text: str) -> tuple[str, ...]:
    """A JSON list of strings; raises ValueError for anything else."""
    labels = json.loads(text)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError("it holds something else")
    return tuple(labels)


def as_image(image: str | os.PathLike[str] | np.ndarray | Image) -> Image:
    """A path, a Pillow image, or pixels as an array, as a Pillow image.

    Parameters
    ----------
    image : path, PIL.Image.Image, or uint8 ndarray (H, W), (H, W, 1) or (H, W, 3)
        Channels of an array are red, green, blue.

    Raises
    ------
    InputError
        Pillow is not installed, the file cannot be read, or the array is of another kind.
    """
    require_pillow()
    from PIL import Image as pillow

    if isinstance(image, pillow.Image):
        return image
    if isinstance(image, (str, os.PathLike)):
        return read_image(image)
    pixels = array(image, "image")
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3))) or not pixels.size:
        raise InputError(
            "not pixels of an image",
            tensor="image",
            expected="a path, a Pillow image, or uint8 (H, W) or (H, W, 3)",
            received=f"{pixels.dtype} {pixels.shape}",
        )
    return pillow.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels))


def require_pillow() -> None:
    """Raise InputError, naming the package, unless Pillow can be imported."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise InputError("reading images needs Pillow: pip install Pillow") from None


def read_image(path: str | os.PathLike[str]) -> Image:
    """Open and decode an image file, turned upright as its EXIF orientation says.

    Raises
    ------
    InputError
        Pillow is not installed, or the file is missing, broken, too large or not an image.
    """
    require_pillow()
    from PIL import Image as pillow
    from PIL import ImageOps, UnidentifiedImageError

    try:
        with pillow.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise InputError("not an image that Pillow can read") from None
    except OSError as error:
        raise InputError(f"cannot read the image: {error.strerror or error}") from error
    except Exception as error:  # Pillow's decoders raise SyntaxError, struct.error, DecompressionBombError and more
        raise InputError(f"cannot decode the image: {error}") from error


def _to_eight_bit(image: Image) -> Image:
    """Pillow clips when it converts wide modes to 8 bits; scale 16-bit gray instead, refuse what has no known range."""
    from PIL import Image as pillow

    if image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.uint32)
        return pillow.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise InputError("pixels without a known range; convert the image to 8 or 16 bits", received=f"mode {image.mode}")
    return image


def _cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if not np.issubdtype(dtype, np.integer):
        return x.astype(dtype, copy=False)
    rounded: np.ndarray = np.rint(x)
    limits = np.iinfo(dtype)
    if rounded.size and (rounded.min() < limits.min or rounded.max() > limits.max):
        raise InputError(
            f"preprocessed pixels do not fit {dtype}",
            expected=f"{limits.min} to {limits.max}",
            received=f"{rounded.min():g} to {rounded.max():g}",
        )
    return rounded.astype(dtype)


def _from_metadata(metadata: Mapping[str, str]) -> dict[str, object]:
    text = metadata.get(METADATA_KEY)
    if text is None:
        return {}
    try:
        stated = json.loads(text)
    except ValueError as error:
        raise ModelError(f"not valid JSON: {error}", tensor=METADATA_KEY) from None
    known = [f.name for f in fields(Preprocess)]
    if not isinstance(stated, dict) or not set(stated) <= set(known):
        raise ModelError("not the settings expected", tensor=METADATA_KEY, expected=f"an object of {known}", received=text)
    try:
        settings = _normalised(stated)
        Preprocess(**settings)  # type: ignore[arg-type]
    except InputError as error:
        raise ModelError(str(error), tensor=METADATA_KEY) from None
    except (TypeError, ValueError):
        raise ModelError("a setting of the wrong type", tensor=METADATA_KEY, received=text) from None
    return settings


def _normalised(settings: Mapping[str, object]) -> dict[str, object]:
    """Numbers and lists as the dataclass holds them."""
    result = dict(settings)
    for name in ("mean", "std"):
        if name in result:
            value = result[name]
            result[name] = tuple([number(v, name) for v in (value if isinstance(value, list | tuple) else (value,))])
    if "scale" in result:
        result["scale"] = number(result["scale"], "scale")
    if result.get("size") is not None:
        result["size"] = extents(result["size"], "size")
    return result


def _from_shape(shape: Sequence[Dim] | None, layout: object) -> dict[str, object]:
    """Layout (unless given), size and channels as far as the input's shape tells them."""
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
    if isinstance(height, int) and isinstance(width, int):
        told["size"] = (height, width)
    return told
