"""Pictures as torchvision prepares them: within one of 255 levels of what it was recorded to give."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnengine.preprocess import Preprocess

_spec = importlib.util.spec_from_file_location("preprocess_recorded", Path(__file__).with_name("recorded.py"))
assert _spec is not None
assert _spec.loader is not None
recorded = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(recorded)


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    with np.load(recorded.FILE) as file:
        return dict(file)


def levels(x: np.ndarray, settings: Preprocess) -> np.ndarray:
    """(C, H, W) in levels 0..255."""
    mean, std = (np.reshape(v, (-1, 1, 1)) for v in (settings.mean, settings.std))
    return (x * std + mean) / settings.scale


@pytest.mark.parametrize("case", recorded.CASES)
@pytest.mark.parametrize("name", recorded.PICTURES)
def test_within_a_level_of_torchvision(case: str, name: str, stored: dict[str, np.ndarray]) -> None:
    if name != "made":
        pytest.importorskip("skimage")
    settings = Preprocess(**recorded.CASES[case][1])
    x = settings.apply(Image.fromarray(recorded.picture(name)))[0]
    assert x.shape == tuple(stored[f"{case}/{name}/shape"])
    wanted = np.empty(x.size, np.float32)
    wanted[:] = np.nan
    places = np.random.default_rng(7).integers(0, x.size, recorded.KEPT)
    wanted[places] = stored[f"{case}/{name}"]
    known = np.isfinite(wanted)
    difference = np.abs(levels(x, settings) - levels(wanted.reshape(x.shape), settings)).ravel()[known]
    assert difference.max() <= 1 + 1e-3
    assert difference.mean() < 0.25  # most levels are the same


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("preset 256 224", {"resize": None}),
        ("preset 256 224", {"antialias": False}),
        ("preset 232 224 bilinear", {"resample": "bicubic"}),
        ("preset odd", {"fit": "letterbox", "resize": None}),
        ("stretch bicubic", {"antialias": False}),
        ("tensor bilinear", {"antialias": True}),
        ("tensor nearest", {"antialias": True}),
        ("tensor enlarge bicubic", {"antialias": True}),  # the cubic of Pillow is another
    ],
)
def test_the_comparison_tells_other_settings(case: str, change: dict[str, object], stored: dict[str, np.ndarray]) -> None:
    settings = Preprocess(**{**recorded.CASES[case][1], **change})
    x = settings.apply(Image.fromarray(recorded.picture("made")))[0]
    wanted = stored[f"{case}/made"]
    assert np.abs(recorded.kept(x) - wanted).max() * 255 > 3


def test_the_record_has_every_case(stored: dict[str, np.ndarray]) -> None:
    assert {f"{case}/{name}" for case in recorded.CASES for name in recorded.PICTURES} == {
        key for key in stored if not key.endswith("/shape")
    }
