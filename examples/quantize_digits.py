"""Quantise a network that tells digits apart to 8 bits, and compare it with the float one.

pip install '.[quantize]'
python examples/quantize_digits.py lenet8.onnx
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import cnnengine
from cnnengine.quantization import Quantization

MODELS = Path(__file__).resolve().parent.parent / "models"
MODEL = MODELS / "digits_lenet.onnx"


def quantise(out: str | Path) -> Quantization:
    """Ranges from 200 digits, the accuracy of the other 399; at most half a percent may be lost."""
    digits = np.load(MODELS / "digits_heldout.npz")
    with cnnengine.load(MODEL) as model:
        x = np.concatenate([model.preprocess(image) for image in digits["images"]])
    return cnnengine.quantize(MODEL, x[:200], out, test=x[200:], truth=digits["labels"][200:], keep_accuracy=0.005)


if __name__ == "__main__":
    found = quantise(sys.argv[1])
    for layer in found.layers:
        print(f"{layer.node}: {layer.own:.2%} lost by itself, {layer.error:.2%} with all before it")
    print(f"accuracy {found.accuracy_before:.2%}, {found.accuracy_after:.2%} in 8 bits")
    print(f"{found.size_before} bytes, {found.size_after} in 8 bits")
