"""JPEG files decoded at a part of their extents: when, how far from all pixels, upright, and where the picture lies in them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image

from cnnengine.errors import InputError
from cnnengine.preprocess import Preprocess, read_image

CROP = Preprocess(size=48, fit="crop", resize=(56,), scale=1)


def jpeg(height: int, width: int, orientation: int | None = None, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """Waves of several lengths, other ones across than down, with a corner that is bright."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([120 + 60 * np.sin(x / 37), 120 + 60 * np.sin(y / 53), 120 + 60 * np.sin((x + 2 * y) / 71)], 2)
    pixels[: height // 4, : width // 3] += 60
    file, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[0x112] = orientation
    options: dict[str, Any] = {} if kind == "PNG" else {"quality": 92}
    Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(file, kind, exif=exif, **options)
    return file.getvalue()


def both(settings: Preprocess, data: bytes) -> tuple[Any, np.ndarray, np.ndarray]:
    """What was decoded, the input that it becomes, and the input that all pixels become."""
    picture = settings.read(io.BytesIO(data))
    x, place = settings.prepared(picture)
    whole = settings.read(io.BytesIO(data), exact=True)
    assert whole.box is None
    y, same = settings.prepared(whole)
    assert place == same
    np.testing.assert_array_equal(y, settings.apply(read_image(io.BytesIO(data))))
    return picture, x, y


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
@pytest.mark.parametrize("extents", [(480, 640), (481, 643), (903, 455), (455, 1207)])
def test_every_orientation(orientation: int | None, extents: tuple[int, int]) -> None:
    picture, x, y = both(CROP, jpeg(*extents, orientation))
    turned = orientation in (5, 6, 7, 8)
    assert picture.original == (extents[::-1] if turned else extents)
    assert picture.image.width < picture.original[1] / 3
    difference = np.abs(x - y)
    # a picture that is laid half a pixel beside its place differs by more than 2 on average, a mirrored one by 50
    assert difference.mean() < 0.75
    assert difference.max() < 12


@pytest.mark.parametrize(
    ("extents", "decoded"),
    [
        ((112, 112), (112, 112)),  # resized to 56: exactly half
        ((113, 113), (113, 113)),
        ((114, 114), (57, 57)),
        ((114, 300), (57, 150)),
        ((300, 114), (150, 57)),
        ((227, 227), (114, 114)),
        ((228, 228), (57, 57)),
        ((456, 456), (57, 57)),
        ((1500, 2000), (188, 250)),
        ((40, 50), (40, 50)),
    ],
)
def test_from_below_half_on(extents: tuple[int, int], decoded: tuple[int, int]) -> None:
    picture = CROP.read(io.BytesIO(jpeg(*extents)))
    assert (picture.image.height, picture.image.width) == decoded
    assert (picture.box is None) == (decoded == extents)


@pytest.mark.parametrize(
    "settings",
    [
        Preprocess(size=48, scale=1),
        Preprocess(size=48, fit="letterbox", scale=1, fill=114.0),
        Preprocess(resize=56, fit="shorter", scale=1, multiple=32),
        Preprocess(size=48, crop_pct=0.875, fit="crop", resample="bicubic", scale=1),
        Preprocess(size=48, resample="lanczos", gray=True, scale=1),
        Preprocess(size=(24, 48), fit="line", scale=1, order="BGR", layout="NHWC"),
    ],
)
def test_every_way_to_fit(settings: Preprocess) -> None:
    picture, x, y = both(settings, jpeg(480, 643))
    assert picture.box is not None
    assert np.abs(x - y).mean() < 0.75


@pytest.mark.parametrize(("extents", "mode"), [((480, 643), "L"), ((643, 480), "L"), ((113, 113), "RGB"), ((40, 50), "RGB")])
@pytest.mark.parametrize("orientation", [None, 6])
def test_a_gray_input_needs_no_colours(extents: tuple[int, int], mode: str, orientation: int | None) -> None:
    settings = Preprocess(size=48, fit="crop", resize=(56,), scale=1, gray=True)
    data = jpeg(*extents, orientation)
    picture, x, y = both(settings, data)
    assert picture.image.mode == mode
    assert np.abs(x - y).mean() < 0.75
    assert CROP.read(io.BytesIO(data)).image.mode == "RGB"  # whose colours count


@pytest.mark.parametrize(
    "settings",
    [
        Preprocess(size=48, antialias=False, scale=1),  # the nearest pixels alone: fewer of them are others
        Preprocess(size=48, resample="nearest", scale=1),
        Preprocess(fit="pad", multiple=32, scale=1),
        Preprocess(scale=1),
    ],
)
def test_where_other_pixels_would_count(settings: Preprocess) -> None:
    picture, x, y = both(settings, jpeg(480, 640))
    assert picture.box is None
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_other_formats_are_decoded_whole(kind: str) -> None:
    picture, x, y = both(CROP, jpeg(480, 640, kind=kind))
    assert (picture.box, picture.original) == (None, (480, 640))
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_modes(mode: str) -> None:
    picture, x, y = both(CROP, jpeg(480, 640, mode=mode))
    assert picture.box is not None
    assert np.abs(x - y).mean() < 0.75


def test_a_file_that_is_cut_off() -> None:
    data = jpeg(480, 640)
    with pytest.raises(InputError, match="truncated"):
        CROP.read(io.BytesIO(data[: len(data) // 2]))


def test_a_picture_that_does_not_fit_is_refused_by_the_same_words() -> None:
    settings = Preprocess(size=48, fit="pad", scale=1)
    for exact in (False, True):
        with pytest.raises(InputError, match="larger than the input"):
            settings.prepared(settings.read(io.BytesIO(jpeg(60, 60)), exact))
