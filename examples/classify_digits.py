"""Classify images of handwritten digits with a loaded model, all in one batch.

pip install '.[image]'
python examples/classify_digits.py models/samples/*.png
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import cnnengine

MODEL = Path(__file__).resolve().parent.parent / "models" / "digits_lenet.onnx"


def classify(paths: Sequence[str | Path]) -> list[str]:
    """The label of each image."""
    with cnnengine.load(MODEL) as model:
        assert model.labels is not None  # the file carries them, and how images are to be prepared
        logits = model(np.concatenate([model.preprocess(path) for path in paths]))
        return [model.labels[i] for i in logits.argmax(axis=1)]


if __name__ == "__main__":
    for path, label in zip(sys.argv[1:], classify(sys.argv[1:]), strict=True):
        print(path, label)
