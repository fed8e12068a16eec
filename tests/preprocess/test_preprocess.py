"""Images to model inputs: sizes, channels, layouts, scaling, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnengine.errors import InputError, ModelError
from cnnengine.preprocess import METADATA_KEY, Preprocess, read_image

RED_GREEN = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)  # height 1, width 2


def meta(**settings: object) -> dict[str, str]:
    return {METADATA_KEY: json.dumps(settings)}


def test_rgb_is_scaled_normalised_and_laid_out_by_channel() -> None:
    settings = Preprocess(scale=1 / 255, mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    x = settings.apply(Image.fromarray(RED_GREEN))
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    np.testing.assert_allclose(x, [[[[1, -1]], [[-0.25, 0.75]], [[0, 0]]]], atol=1e-6)


def test_nhwc_is_the_same_with_channels_last() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8))
    nchw = Preprocess(mean=(0.1, 0.2, 0.3)).apply(image)
    nhwc = Preprocess(mean=(0.1, 0.2, 0.3), layout="NHWC").apply(image)
    assert nchw.shape == (1, 3, 5, 7)
    assert nhwc.shape == (1, 5, 7, 3)
    np.testing.assert_array_equal(nhwc.transpose(0, 3, 1, 2), nchw)


def test_gray_is_luminance() -> None:
    x = Preprocess(gray=True, scale=1.0).apply(Image.fromarray(RED_GREEN))
    assert x.shape == (1, 1, 1, 2)
    np.testing.assert_allclose(x.ravel(), [255 * 0.299, 255 * 0.587], atol=0.5)


def test_size_is_height_then_width() -> None:
    assert Preprocess(size=(4, 6)).apply(Image.fromarray(RED_GREEN)).shape == (1, 3, 4, 6)


def test_resampling_filters_differ_as_they_should() -> None:
    image = Image.fromarray(np.array([[0, 200]], np.uint8))
    nearest = Preprocess(gray=True, scale=1.0, size=(1, 4), resample="nearest").apply(image)
    bilinear = Preprocess(gray=True, scale=1.0, size=(1, 4), resample="bilinear").apply(image)
    assert nearest.ravel().tolist() == [0, 0, 200, 200]
    assert bilinear.ravel().tolist() == [0, 50, 150, 200]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("1", [0, 255]), ("L", [0, 255]), ("P", [0, 255]), ("RGBA", [0, 255]), ("LA", [0, 255]), ("CMYK", [0, 255])],
)
def test_every_usual_mode_is_read(mode: str, expected: list[int]) -> None:
    image = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("RGB").convert(mode)
    assert Preprocess(gray=True, scale=1.0).apply(image).ravel().tolist() == expected
    assert Preprocess(scale=1.0).apply(image).shape == (1, 3, 1, 2)


def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path: Path) -> None:
    levels = np.array([[0, 128, 257 * 100, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    x = Preprocess(gray=True, scale=1.0).apply(read_image(tmp_path / "deep.png"))
    assert x.ravel().tolist() == [0, 0, 100, 255]


def test_modes_without_a_range_are_refused() -> None:
    with pytest.raises(InputError, match="mode F"):
        Preprocess().apply(Image.fromarray(np.zeros((2, 2), np.float32)))


def test_photos_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by 90 degrees
    Image.new("L", (2, 5)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == (5, 2)


def test_integer_inputs_keep_pixel_values() -> None:
    settings = Preprocess.of_model({}, ("N", 1, 2, 3), np.dtype(np.uint8))
    x = settings.apply(Image.fromarray(RED_GREEN), np.uint8)
    assert x.dtype == np.uint8
    assert settings.scale == 1.0


def test_integer_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="do not fit uint8"):
        Preprocess(scale=1.0, mean=(1.0,)).apply(Image.fromarray(RED_GREEN), np.uint8)


@pytest.mark.parametrize(
    ("shape", "layout", "size", "gray"),
    [
        (("N", 3, 224, 200), "NCHW", (224, 200), False),
        (("N", 224, 200, 3), "NHWC", (224, 200), False),
        ((None, 1, None, None), "NCHW", None, True),
        (("N", None, None, None), "NCHW", None, False),
        ((1, 3, 224, 3), "NCHW", (224, 3), False),
        (None, "NCHW", None, False),
    ],
)
def test_what_the_shape_tells(shape: Any, layout: str, size: Any, gray: bool) -> None:
    settings = Preprocess.of_model({}, shape)
    assert (settings.layout, settings.size, settings.gray) == (layout, size, gray)


def test_overrides_beat_the_metadata_which_beat_the_shape() -> None:
    metadata = meta(size=[16, 16], scale=1, mean=[0.1, 0.2, 0.3], std=2)
    settings = Preprocess.of_model(metadata, ("N", 3, 32, 32))
    assert settings == Preprocess(size=(16, 16), scale=1.0, mean=(0.1, 0.2, 0.3), std=(2.0,))
    changed = Preprocess.of_model(metadata, ("N", 3, 32, 32), size=(8, 8), std=(4.0,), mean=None)
    assert changed == Preprocess(size=(8, 8), scale=1.0, mean=(0.1, 0.2, 0.3), std=(4.0,))


@pytest.mark.parametrize("shape", [("N", 10), (1, 4, 8, 8), ("N", 3, 4, 8, 8)])
def test_models_that_take_no_image_are_refused(shape: Any) -> None:
    with pytest.raises(InputError, match=r"not an? .*image"):
        Preprocess.of_model({}, shape)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"colour": 1}',
        '{"size": "32"}',
        '{"size": [32, 32, 3]}',
        '{"size": [0, 3]}',
        '{"size": [1e9, 3]}',
        '{"size": [100000, 3]}',
        '{"std": [1, 0, 1]}',
        '{"mean": [1, 2]}',
        '{"mean": "x"}',
        '{"scale": null}',
        '{"scale": NaN}',
        '{"layout": ["NCHW"]}',
        '{"resample": "cubic"}',
        '{"gray": "no"}',
    ],
)
def test_wrong_metadata_are_a_model_error_naming_the_key(text: str) -> None:
    with pytest.raises(ModelError, match=METADATA_KEY):
        Preprocess.of_model({METADATA_KEY: text}, ("N", 3, 8, 8))


@pytest.mark.parametrize("override", [{"std": (0.0,)}, {"mean": (1.0, 2.0)}, {"layout": "CHW"}, {"size": (0, 1)}])
def test_wrong_overrides_are_an_input_error(override: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(override))):
        Preprocess.of_model(meta(scale=1), ("N", 3, 8, 8), **override)


def test_broken_files_are_input_errors(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(whole)
    data = whole.read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("cut.png", "text.png", "empty.png", "missing.png", "."):
        with pytest.raises(InputError, match="image"):
            read_image(tmp_path / name)


def test_decompression_bombs_are_input_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match="exceeds limit"):
        read_image(tmp_path / "bomb.png")
