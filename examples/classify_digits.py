"""Classify images of handwritten digits with a loaded model, all in one batch.

    pip install '.[image]'
    python examples/classify_digits.py models/samples/*.png
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import cnnengine
from cnnengine.preprocess import Preprocess, read_image

MODEL = Path(__file__).resolve().parent.parent / "models" / "digits_lenet.onnx"


def classify(paths: Sequence[str | Path]) -> list[str]:
    """The label of each image."""
    with cnnengine.load(MODEL) as model:
        preprocess = Preprocess.of_model(model.metadata, model.inputs[0].shape)
        x_nchw = np.concatenate([preprocess.apply(read_image(path)) for path in paths])
        logits = model(x_nchw)
        labels = json.loads(model.metadata["cnnengine.labels"])
    return [labels[i] for i in logits.argmax(axis=1)]


if __name__ == "__main__":
    for path, label in zip(sys.argv[1:], classify(sys.argv[1:]), strict=True):
        print(path, label)
