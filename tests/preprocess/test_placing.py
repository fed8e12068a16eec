"""Where pictures come to lie: sizes on both sides of each rule, what is cut and filled, points back in the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnengine.errors import InputError
from cnnengine.preprocess import Placement, Preprocess
from cnnengine.preprocess.placing import MOST_PIXELS


@pytest.mark.parametrize(
    ("settings", "own", "resized", "canvas", "at"),
    [
        ({"size": (4, 6)}, (10, 10), (4, 6), (4, 6), (0, 0)),
        ({}, (10, 7), (10, 7), (10, 7), (0, 0)),
        ({"multiple": 4}, (10, 7), (8, 8), (8, 8), (0, 0)),
        ({"multiple": 4}, (1, 14), (4, 16), (4, 16), (0, 0)),
        ({"size": 8, "resize": (10, 12)}, (3, 3), (10, 12), (8, 8), (-1, -2)),
        ({"size": 8, "fit": "crop"}, (20, 10), (16, 8), (8, 8), (-4, 0)),
        ({"size": 8, "fit": "crop", "resize": 9}, (9, 20), (9, 20), (8, 8), (0, -6)),  # halves are rounded to even
        ({"size": 8, "fit": "crop", "resize": 11}, (11, 11), (11, 11), (8, 8), (-2, -2)),
        ({"size": 8, "fit": "crop", "resize": 5}, (5, 9), (5, 9), (8, 8), (1, 0)),  # smaller than what is cut out: filled
        ({"size": (8, 4), "fit": "crop"}, (10, 10), (8, 8), (8, 4), (0, -2)),
        ({"size": (8, 4), "fit": "crop", "crop_pct": 0.5}, (10, 10), (16, 16), (8, 4), (-4, -6)),
        ({"size": 8, "fit": "crop", "align": "start"}, (20, 10), (16, 8), (8, 8), (0, 0)),
        ({"size": 8, "fit": "letterbox"}, (20, 10), (8, 4), (8, 8), (0, 2)),
        ({"size": 8, "fit": "letterbox"}, (10, 13), (6, 8), (8, 8), (1, 0)),
        ({"size": 8, "fit": "letterbox", "align": "start"}, (20, 10), (8, 4), (8, 8), (0, 0)),
        ({"size": 8, "fit": "letterbox"}, (1, 1000), (1, 8), (8, 8), (3, 0)),
        ({"size": 64, "fit": "letterbox", "multiple": 16}, (20, 10), (64, 32), (64, 32), (0, 0)),
        ({"size": 64, "fit": "letterbox", "multiple": 16}, (20, 11), (64, 35), (64, 48), (0, 6)),
        ({"size": 8, "fit": "letterbox", "crop_pct": 0.5}, (20, 10), (16, 8), (8, 8), (-4, 0)),
        ({"fit": "pad", "multiple": 8, "align": "start"}, (9, 8), (9, 8), (16, 8), (0, 0)),
        ({"fit": "pad", "multiple": 8}, (9, 8), (9, 8), (16, 8), (3, 0)),
        ({"fit": "pad", "size": (12, 8)}, (9, 8), (9, 8), (12, 8), (1, 0)),
        ({"fit": "shorter", "resize": 8}, (20, 10), (16, 8), (16, 8), (0, 0)),
        ({"fit": "shorter", "resize": 8, "longest": 15}, (20, 10), (15, 7), (15, 7), (0, 0)),
        ({"fit": "shorter", "resize": 8, "longest": 16, "multiple": 16}, (20, 10), (16, 8), (16, 16), (0, 4)),
        ({"fit": "line", "size": (8, 16), "align": "start"}, (10, 11), (8, 9), (8, 16), (0, 0)),
        ({"fit": "line", "size": (8, 16), "align": "start"}, (10, 31), (8, 24), (8, 24), (0, 0)),
        ({"fit": "line", "size": (8, 16), "longest": 20, "align": "start"}, (10, 31), (8, 20), (8, 20), (0, 0)),
    ],
)
def test_extents(settings: dict[str, Any], own: Any, resized: Any, canvas: Any, at: Any) -> None:
    made = Preprocess(gray=True, **settings)
    assert made.place(*own) == Placement(own, resized, canvas, *at)
    x = made.apply(Image.new("L", (own[1], own[0]), 255))
    assert x.shape == (1, 1, *canvas)
    picture = np.zeros(canvas, bool)
    picture[max(at[0], 0) : at[0] + resized[0], max(at[1], 0) : at[1] + resized[1]] = True
    assert ((x[0, 0] == 1) == picture).all()
    assert (x[0, 0][~picture] == 0).all()


def test_the_fill_is_prepared_as_pixels_are() -> None:
    settings = Preprocess(size=4, fit="letterbox", fill=(10, 20, 30), order="BGR", scale=0.1, mean=(1, 2, 4), std=(1, 1, 2))
    x = settings.apply(Image.new("RGB", (8, 4), (100, 50, 40)))
    np.testing.assert_allclose(x[0, :, 0, 0], [0, 0, -0.5], atol=1e-6)  # blue first
    np.testing.assert_allclose(x[0, :, 1, 0], [3, 3, 3], atol=1e-6)


def test_points_of_the_input_are_told_in_the_picture() -> None:
    place = Preprocess(size=64, fit="letterbox").place(30, 60)
    assert (place.top, place.resized) == (16, (32, 64))
    boxes = np.array([[0, 16, 64, 48], [32, 32, 33, 33]])
    np.testing.assert_allclose(place.to_original(boxes), [[0, 0, 60, 30], [30, 15, 30.9375, 15.9375]])
    cut = Preprocess(size=8, fit="crop").place(20, 10)
    np.testing.assert_allclose(cut.to_original(np.array([0, 0])), [0, 5])
    assert place.to_original(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize(
    ("settings", "own"),
    [({"fit": "pad", "size": 8}, (9, 8)), ({"fit": "shorter", "resize": 8, "size": (8, 8)}, (8, 9))],
)
def test_a_picture_that_does_not_fit(settings: dict[str, Any], own: Any) -> None:
    with pytest.raises(InputError, match="larger than the input"):
        Preprocess(**settings).place(*own)


def test_a_line_of_a_million_times_its_height_is_refused() -> None:
    width = MOST_PIXELS // 48 + 1
    settings = Preprocess(fit="line", size=(48, 320))
    assert settings.place(48, width - 1).canvas == (48, width - 1)
    with pytest.raises(InputError, match="too large"):
        settings.place(48, width)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"fit": "crop"}, "size"),
        ({"fit": "letterbox"}, "size"),
        ({"fit": "line"}, "size"),
        ({"fit": "shorter"}, "resize"),
        ({"fit": "shorter", "resize": (3, 4)}, "resize"),
        ({"fit": "pad", "resize": 4}, "resize"),
        ({"resize": 4}, "size"),
        ({"size": 4, "resize": 4, "crop_pct": 0.5}, "crop_pct"),
        ({"crop_pct": 0.5}, "size"),
        ({"size": 4, "crop_pct": 0}, "crop_pct"),
        ({"size": 4, "crop_pct": 1.5}, "crop_pct"),
        ({"size": 4, "crop_pct": float("nan")}, "crop_pct"),
        ({"fit": "pad", "size": 4, "crop_pct": 0.5}, "crop_pct"),
        ({"size": 4, "longest": 4}, "longest"),
        ({"size": 4, "fit": "crop", "multiple": 2}, "multiple"),
        ({"size": 4, "multiple": 2}, "multiple"),
        ({"multiple": 0}, "multiple"),
        ({"multiple": 1.5}, "multiple"),
        ({"size": 4, "resample": "lanczos", "antialias": False}, "resample"),
        ({"fit": "squash"}, "fit"),
        ({"fit": ["crop"]}, "fit"),
        ({"order": "GBR"}, "order"),
        ({"align": "end"}, "align"),
        ({"fill": 256}, "fill"),
        ({"fill": (1, 2)}, "fill"),
        ({"gray": True, "fill": (1, 2, 3)}, "fill"),
        ({"background": (1, 2)}, "background"),
        ({"background": -1}, "background"),
        ({"antialias": "yes"}, "antialias"),
        ({"size": (4, 4, 4)}, "size"),
        ({"size": True}, "size"),
        ({"size": 1.5}, "size"),
        ({"resize": (0,)}, "resize"),
        ({"scale": "1/255"}, "scale"),
        ({"scale": float("inf")}, "scale"),
        ({"mean": None}, "mean"),
        ({"std": 0}, "std"),
    ],
)
def test_settings_that_contradict_each_other_name_one(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        Preprocess(**settings)
    assert caught.value.tensor == named


def test_plain_values_become_what_is_held() -> None:
    made = Preprocess(size=4, mean=1, std=[1, 2, 3], resize=5, fit="crop", fill=np.float32(3), gray=False)
    assert (made.size, made.mean, made.std, made.resize, made.fill) == ((4, 4), (1.0,), (1.0, 2.0, 3.0), (5,), (3.0,))
    assert hash(made) == hash(Preprocess(size=(4, 4), mean=(1.0,), std=(1, 2, 3), resize=(5,), fit="crop", fill=(3.0,)))
    with pytest.raises(AttributeError):
        made.size = None  # type: ignore[misc]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"size": 4},
        {"size": (4, 5), "fit": "crop", "resize": 7, "order": "BGR", "resample": "bicubic"},
        {"size": 8, "fit": "letterbox", "multiple": 4, "fill": (1, 2, 3), "align": "start", "antialias": False},
        {"gray": True, "fit": "shorter", "resize": 7, "longest": 9, "background": 255},
        {"size": 8, "fit": "line", "longest": 9, "layout": "NHWC", "scale": 1, "mean": 3, "std": (1, 2, 3)},
    ],
)
def test_metadata_hold_all_of_it(settings: dict[str, Any]) -> None:
    import json

    from cnnengine.preprocess import METADATA_KEY

    made = Preprocess(**settings)
    text = json.dumps(made.as_dict())
    channels = 1 if made.gray else 3
    assert Preprocess.of_model({METADATA_KEY: text}, None) == made
    for shape in ((None, channels, None, None), (None, None, None, channels), ("N", channels, 7, 9)):
        if made.layout == "NCHW" or shape[1] is None:
            assert Preprocess.of_model({METADATA_KEY: text}, shape) == made
