"""Files of pictures: orientation, transparency, depth, animations, CMYK, what is handed in, and dtypes of inputs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnengine.errors import InputError
from cnnengine.preprocess import Preprocess, as_image, frames_of, read_image

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
PLAIN = Preprocess(scale=1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_every_orientation_is_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation](PIXELS)))
    stored.save(tmp_path / f"x.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / f"x.{suffix}")), PIXELS)


class TestTransparency:
    RGBA = np.array([[[200, 100, 50, 0], [200, 100, 50, 255], [200, 100, 50, 51]]], np.uint8)

    def test_is_dropped(self) -> None:
        x = PLAIN.apply(Image.fromarray(self.RGBA))
        assert (x[0].transpose(1, 2, 0) == [200, 100, 50]).all()

    def test_or_laid_over_a_colour(self) -> None:
        x = Preprocess(scale=1, background=(0, 255, 10)).apply(Image.fromarray(self.RGBA))[0].transpose(1, 2, 0)
        np.testing.assert_allclose(x[0], [[0, 255, 10], [200, 100, 50], [40, 224, 18]], atol=1)
        white = Preprocess(scale=1, background=255, gray=True).apply(Image.fromarray(self.RGBA).convert("LA"))
        np.testing.assert_allclose(white.ravel()[[0, 1]], [255, 124], atol=1)

    def test_of_a_palette(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 40, 50, 60])
        image.putpixel((1, 0), 1)
        image.save(tmp_path / "p.png", transparency=0)
        x = Preprocess(scale=1, background=255).apply(read_image(tmp_path / "p.png"))[0].transpose(1, 2, 0)
        assert x.tolist() == [[[255, 255, 255], [40, 50, 60]]]

    def test_an_opaque_picture_is_left_alone(self) -> None:
        image = Image.fromarray(PIXELS)
        np.testing.assert_array_equal(Preprocess(background=9).apply(image), Preprocess().apply(image))


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_sixteen_bits_of_every_format(tmp_path: Path, suffix: str) -> None:
    levels = np.array([[0, 128, 129, 257 * 100, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / f"deep.{suffix}")
    x = Preprocess(gray=True, scale=1).apply(read_image(tmp_path / f"deep.{suffix}"))
    assert x.ravel().tolist() == [0, 0, 1, 100, 255]


def test_thirty_two_bits_have_no_range(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 70000]], np.int32)).save(tmp_path / "wide.tiff")
    with pytest.raises(InputError, match="mode I"):
        Preprocess(gray=True).apply(read_image(tmp_path / "wide.tiff"))


@pytest.mark.parametrize("suffix", ["gif", "png", "tiff", "webp"])
def test_of_several_pictures_the_first_is_taken(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (4, 3), (level, 0, 0)) for level in (0, 120, 240)]
    lossless = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:], **lossless)
    image = read_image(tmp_path / f"x.{suffix}")
    assert frames_of(image) == 3
    assert not PLAIN.apply(image).any()
    assert frames_of(as_image(PIXELS)) == 1
    frames[0].save(tmp_path / f"one.{suffix}")
    assert frames_of(read_image(tmp_path / f"one.{suffix}")) == 1


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    x = PLAIN.apply(read_image(tmp_path / "red.jpg"))
    np.testing.assert_allclose(x[0, :, 4, 4], [255, 0, 0], atol=6)


def test_whatever_holds_a_picture_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(PIXELS).save(path)
    data = path.read_bytes()
    with open(path, "rb") as file:
        for image in (
            path,
            str(path),
            data,
            bytearray(data),
            memoryview(data),
            io.BytesIO(data),
            file,
            PIXELS,
            Image.fromarray(PIXELS),
        ):
            np.testing.assert_array_equal(np.asarray(as_image(image)), PIXELS)


@pytest.mark.parametrize(
    "image",
    [None, 7, b"", b"no picture", io.BytesIO(b"x"), PIXELS.astype(np.float32), PIXELS[..., :2], np.zeros((0, 3, 3), np.uint8)],
)
def test_what_is_no_picture(image: Any) -> None:
    with pytest.raises(InputError):
        as_image(image)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png: cannot read the image: No such file"):
        as_image(tmp_path / "none.png")


class TestDtypes:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8, np.int8, np.int32])
    def test_of_inputs(self, dtype: type) -> None:
        settings = Preprocess(scale=0.5)
        x = settings.apply(Image.fromarray(PIXELS), dtype)
        assert x.dtype == dtype
        wanted = PIXELS.transpose(2, 0, 1)[None] / 2
        np.testing.assert_array_equal(
            x, np.rint(wanted).astype(dtype) if np.issubdtype(dtype, np.integer) else wanted.astype(dtype)
        )

    @pytest.mark.parametrize(("dtype", "scale"), [(np.float16, 1000.0), (np.uint8, 2.0), (np.uint8, -1.0), (np.int8, 1.0)])
    def test_that_do_not_hold_the_values(self, dtype: type, scale: float) -> None:
        with pytest.raises(InputError, match="do not fit"):
            Preprocess(scale=scale).apply(Image.fromarray(PIXELS), dtype)

    def test_the_order_of_channels(self) -> None:
        rgb, bgr = (Preprocess(order=order, mean=(1, 2, 3), scale=1).apply(Image.fromarray(PIXELS)) for order in ("RGB", "BGR"))
        np.testing.assert_array_equal(rgb[0, 0] + 1, bgr[0, 2] + 3)
        np.testing.assert_array_equal(rgb[0, 1], bgr[0, 1])
