"""Pictures: files opened and decoded, every mode of Pillow as 8 bits of gray or of red, green and blue, resized.

Animated files and those of several pages stand for their first picture; `frames_of` tells how many there are.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..arguments import array
from ..errors import InputError
from ..records import dataclass
from .taps import resize_plain

if TYPE_CHECKING:
    from PIL.Image import Image

WIDE = ("I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of 16 bits."""
DRAFTED = ("JPEG", "MPO")
"""Formats that Pillow decodes at a part of their extents."""
ORIENTATION = 0x0112
"""EXIF's tag."""
TURNED = (5, 6, 7, 8)
"""Orientations that exchange height and width."""
SIXTEEN_BITS = ("PNG", "PPM")
"""Formats whose mode "I" holds 16 bits: the plugins scale to that range."""


def as_image(image: str | os.PathLike[str] | bytes | IO[bytes] | np.ndarray | Image) -> Image:
    """A path, a file's bytes, an open file, a Pillow image, or pixels as an array, as a Pillow image.

    Parameters
    ----------
    image : path, bytes, binary file object, PIL.Image.Image, or uint8 ndarray (H, W), (H, W, 1) or (H, W, 3)
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
        try:
            return read_image(image)
        except InputError as error:
            raise InputError(f"{os.fspath(image)}: {error.message}", received=error.received) from error
    if isinstance(image, (bytes, bytearray, memoryview)):
        return read_image(io.BytesIO(image))
    if not isinstance(image, np.ndarray) and hasattr(image, "read"):
        return read_image(image)
    pixels = array(image, "image")
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3))) or not pixels.size:
        raise InputError(
            "not pixels of an image",
            tensor="image",
            expected="a path, bytes, an open file, a Pillow image, or uint8 (H, W) or (H, W, 3)",
            received=f"{pixels.dtype} {pixels.shape}",
        )
    return pillow.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels))


def require_pillow() -> None:
    """Raise InputError, naming the extra, unless Pillow can be imported."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise InputError("reading images needs Pillow: pip install Pillow") from None


@dataclass(frozen=True)
class Decoded:
    """A picture, upright, that may have been decoded at a part of its extents.

    Attributes
    ----------
    image : PIL.Image.Image
    original : (height, width)
        Of the picture in the file, upright.
    box : (left, top, right, bottom), or None
        What of `image` the picture fills, where it was made smaller: its last row and column may lie halfway outside.
    """

    image: Image
    original: tuple[int, int]
    box: tuple[float, float, float, float] | None = None


def read_image(path: str | os.PathLike[str] | IO[bytes]) -> Image:
    """Open and decode an image file, turned upright as its EXIF orientation says.

    Raises
    ------
    InputError
        Pillow is not installed, or the file is missing, broken, too large or not an image.
    """
    return decoded(path).image


def decoded(
    path: str | os.PathLike[str] | IO[bytes],
    needed: Callable[[int, int], tuple[int, int] | None] | None = None,
    gray: bool = False,
) -> Decoded:
    """The same, at a half, a quarter or an eighth of its extents where no more is needed.

    Of JPEG, libjpeg computes so many pixels of each block from as many of its frequencies, in a fraction of the time. Other files
    are decoded whole.

    Parameters
    ----------
    path : path or binary file object
    needed : function
        From the picture's height and width, upright, to the least that is needed; None for all of it.
    gray : bool
        Whether a picture that is made smaller needs no colours: of JPEG, brightness alone is decoded then.

    Raises
    ------
    InputError
        As by `read_image`, or by `needed`.
    """
    require_pillow()
    from PIL import Image as pillow
    from PIL import ImageOps, UnidentifiedImageError

    try:
        with pillow.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            width, height = image.size
            orientation = image.getexif().get(ORIENTATION, 1) if image.format in DRAFTED else 1
            turned = orientation in TURNED
            original = (width, height) if turned else (height, width)
            wanted = None if needed is None or image.format not in DRAFTED else needed(*original)
            drafted = None
            if wanted is not None:
                least = wanted if turned else (wanted[1], wanted[0])
                smaller = width // least[0] > 1 and height // least[1] > 1
                drafted = image.draft("L" if gray and smaller else None, least)
            margins = None
            if drafted is not None and image.size != (width, height):
                filled = drafted[1]  # extents are divided by 2, 4 or 8: a part of the last column and row may lie outside
                margins = _margins(image.width - filled[2], image.height - filled[3], orientation)
            image.load()
            made = _of_format(image, image.format)
            upright = ImageOps.exif_transpose(made)
            upright.info["frames"] = frames
            if margins is None:
                return Decoded(upright, (upright.height, upright.width))
            left, top, right, bottom = margins
            return Decoded(upright, original, (left, top, upright.width - right, upright.height - bottom))
    except UnidentifiedImageError:
        raise InputError("not an image that Pillow can read") from None
    except OSError as error:
        raise InputError(f"cannot read the image: {error.strerror or error}") from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise SyntaxError, struct.error, DecompressionBombError and more
        raise InputError(f"cannot decode the image: {error}") from error


def _margins(right: float, bottom: float, orientation: int) -> tuple[float, float, float, float]:
    """Where margins at the right and the bottom come to lie once the picture is upright: left, top, right, bottom."""
    return {
        2: (right, 0.0, 0.0, bottom),
        3: (right, bottom, 0.0, 0.0),
        4: (0.0, bottom, right, 0.0),
        5: (0.0, 0.0, bottom, right),
        6: (bottom, 0.0, 0.0, right),
        7: (bottom, right, 0.0, 0.0),
        8: (0.0, right, bottom, 0.0),
    }.get(orientation, (0.0, 0.0, right, bottom))


def frames_of(image: Image) -> int:
    """How many pictures the file had that `read_image` took the first of."""
    frames = image.info.get("frames", 1)
    return frames if isinstance(frames, int) else 1


def _of_format(image: Image, kind: str | None) -> Image:
    """Mode "I" as 16 bits where the format says that it holds them."""
    if image.mode != "I" or kind not in SIXTEEN_BITS:
        return image
    from PIL import Image as pillow

    made = pillow.fromarray(np.clip(np.asarray(image), 0, 65535).astype(np.uint16))
    made.info.update(image.info)
    return made


def eight_bits(image: Image, gray: bool, background: tuple[float, ...] | None) -> Image:
    """Any image in mode "L" or "RGB".

    Transparency is dropped, as `Image.convert` does it, or laid over a colour. 16 bits of gray are scaled: Pillow would cut off
    all above 255.

    Raises
    ------
    InputError
        A mode that has no range (32-bit integers, floats).
    """
    from PIL import Image as pillow

    if image.mode in WIDE:
        levels = np.asarray(image).astype(np.uint32)
        image = pillow.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise InputError("pixels without a known range; convert the image to 8 or 16 bits", received=f"mode {image.mode}")
    if background is not None and ("A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info):
        colour = tuple(round(v) for v in (background if len(background) == 3 else background * 3))
        above = image.convert("RGBA")
        below = pillow.new("RGBA", image.size, (*colour, 255))
        image = pillow.alpha_composite(below, above)
    return image.convert("L" if gray else "RGB")


def resized(
    image: Image,
    height: int,
    width: int,
    resample: str,
    antialias: bool,
    box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """uint8 pixels (height, width, C) of an image in mode "L" or "RGB", or of what lies in the box."""
    from PIL import Image as pillow

    channels = len(image.getbands())
    if image.size == (width, height) and box is None:
        return np.asarray(image).reshape(height, width, channels)
    if not antialias:
        return resize_plain(np.asarray(image).reshape(image.height, image.width, channels), height, width, resample)
    made: Any = image.resize((width, height), pillow.Resampling[resample.upper()], box)
    return np.asarray(made).reshape(height, width, channels)
