"""Files of other packages: prepared as their own programs do it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnengine

rapidocr = pytest.importorskip("rapidocr_onnxruntime")
skimage = pytest.importorskip("skimage")
MODEL = Path(rapidocr.__file__).parent / "models" / "ch_PP-OCRv4_rec_infer.onnx"


@pytest.mark.parametrize("box", [(0, 0, 384, 20), (0, 0, 60, 40), (100, 3, 331, 30), (5, 5, 8, 100)])
def test_lines_are_prepared_as_rapidocr_does_it(box: tuple[int, int, int, int]) -> None:
    from PIL import Image
    from rapidocr_onnxruntime.ch_ppocr_rec import TextRecognizer

    image = Image.open(Path(skimage.__file__).parent / "data" / "page.png").convert("RGB").crop(box)
    bgr = np.asarray(image)[:, :, ::-1]
    program = TextRecognizer.__new__(TextRecognizer)
    program.rec_image_shape = [3, 48, 320]
    expected = program.resize_norm_img(bgr, max(320 / 48, bgr.shape[1] / bgr.shape[0]))
    with cnnengine.load(MODEL) as model:
        assert model.about.task == "text"
        x = model.preprocess(image)[0]
    assert x.shape == expected.shape
    assert np.abs(x - expected).max() * 127.5 < 1.001  # a level: OpenCV has weights of 11 bits
