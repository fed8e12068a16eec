"""Operators of onnxruntime's domain com.microsoft, from its documentation (docs/ContribOperators.md)."""

from __future__ import annotations

import math

import numpy as np


def wide(x):
    return np.asarray(x, np.float64)


def gelu(x):
    return wide(x) * 0.5 * (1 + np.vectorize(math.erf)(wide(x) / math.sqrt(2)))


def fast_gelu(x):
    x = wide(x)
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def sigmoid(x):
    return 1 / (1 + np.exp(-wide(x)))


def selu(x, alpha, gamma):
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


ACTIVATIONS = {
    "Relu": lambda x: np.maximum(x, 0),
    "Tanh": np.tanh,
    "Sigmoid": sigmoid,
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Softplus": lambda x: np.log1p(np.exp(x)),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "LeakyRelu": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "Elu": lambda x, alpha: np.where(x < 0, alpha * np.expm1(x), x),
    "Celu": lambda x, alpha: np.maximum(x, 0) + np.minimum(alpha * np.expm1(x / alpha), 0),
    "ThresholdedRelu": lambda x, alpha: np.where(x > alpha, x, 0),
    "HardSigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "Selu": selu,
    "Clip": np.clip,
    "ParametricSoftplus": lambda x, alpha, beta: alpha * np.log1p(np.exp(beta * x)),
    "ScaledTanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
}
"""Activation -> its function of x in float64 and the parameters."""


def fused_matmul(a, b, *, alpha=1.0, trans_a=0, trans_b=0, batch_a=0, batch_b=0):
    """transBatch takes the first axis behind the batch's axes, trans then swaps the last two; vectors stay."""
    operands = []
    for x, swapped, behind in ((wide(a), trans_a, batch_a), (wide(b), trans_b, batch_b)):
        if behind and x.ndim > 1:
            x = np.moveaxis(x, 0, -2)
        operands.append(x.swapaxes(-1, -2) if swapped and x.ndim > 1 else x)
    return alpha * np.matmul(*operands)


def unpacked(packed, n, blocks, block, bits):
    """(n, blocks, block) unsigned integers of so many bits, the lowest bits of a byte first."""
    out = np.zeros((n, blocks, block), int)
    flat = np.asarray(packed).reshape(n, blocks, -1)
    for j in range(block):
        byte, place = divmod(j * bits, 8)
        out[:, :, j] = (flat[:, :, byte] >> place) & ((1 << bits) - 1)
    return out


def nbits_weights(packed, scales, zeros=None, places=None, *, n, k, bits, block):
    """(k, n) weights; zeros are packed bytes, or numbers as the scales."""
    blocks = -(-k // block)
    numbers = unpacked(packed, n, blocks, block, bits).reshape(n, -1)[:, :k]
    middle = np.full((n, blocks), float(1 << (bits - 1)))
    if zeros is not None and zeros.dtype == np.uint8:
        rows = zeros.reshape(n, -1)
        middle = unpacked(rows, n, 1, rows.shape[1] * 8 // bits, bits)[:, 0, :blocks].astype(float)
    elif zeros is not None:
        middle = wide(zeros).reshape(n, blocks)
    weights = np.zeros((k, n))
    for column in range(k):
        at = column // block if places is None else int(places[column])
        weights[column] = (numbers[:, column] - middle[:, at]) * wide(scales).reshape(n, blocks)[:, at]
    return weights


def crop_and_resize(x, rois, images, size, *, mode="bilinear", outside=0.0):
    """TensorFlow's crop_and_resize of (N, C, H, W)."""
    x = wide(x)
    height, width = x.shape[2:]
    y = np.full((len(rois), x.shape[1], *size), float(outside))

    def place(start, end, extent, count, i):
        if count == 1:
            return 0.5 * (start + end) * (extent - 1)
        return start * (extent - 1) + i * (end - start) * (extent - 1) / (count - 1)

    for r, (y1, x1, y2, x2) in enumerate(wide(rois)):
        for i in range(size[0]):
            for j in range(size[1]):
                v, u = place(y1, y2, height, size[0], i), place(x1, x2, width, size[1], j)
                if not (0 <= v <= height - 1 and 0 <= u <= width - 1):
                    continue
                image = x[images[r]]
                if mode == "nearest":
                    y[r, :, i, j] = image[:, int(v + 0.5), int(u + 0.5)]
                    continue
                top, left = int(v), int(u)
                bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
                a, b = v - top, u - left
                upper = image[:, top, left] * (1 - b) + image[:, top, right] * b
                lower = image[:, bottom, left] * (1 - b) + image[:, bottom, right] * b
                y[r, :, i, j] = upper * (1 - a) + lower * a
    return y
