"""Elementwise activations (Relu-14, LeakyRelu-16, PRelu-16, Elu-22, Selu-22, Celu-12, Gelu-20, Swish-24 as silu, Mish-22,
Sigmoid-13, HardSigmoid-22, HardSwish-22, Tanh-13, Softplus-22, Softsign-22, Clip-13), Softmax-13 and LogSoftmax-13."""

from __future__ import annotations

import math

import numpy as np

SELU_ALPHA = 1.67326319217681884765625
SELU_GAMMA = 1.05070102214813232421875


def _f64(x):
    return np.asarray(x, np.float64)


def relu(x):
    return np.maximum(_f64(x), 0.0)


def leaky_relu(x, *, alpha=0.01):
    x = _f64(x)
    return np.where(x < 0, alpha * x, x)


def prelu(x, slope):
    """slope broadcasts to x, one way only."""
    x = _f64(x)
    return np.where(x < 0, np.broadcast_to(_f64(slope), x.shape) * x, x)


def elu(x, *, alpha=1.0):
    x = _f64(x)
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0.0)), x)


def selu(x, *, alpha=SELU_ALPHA, gamma=SELU_GAMMA):
    x = _f64(x)
    return gamma * np.where(x <= 0, alpha * np.expm1(np.minimum(x, 0.0)), x)


def celu(x, *, alpha=1.0):
    x = _f64(x)
    return np.maximum(0.0, x) + np.minimum(0.0, alpha * np.expm1(np.minimum(x, 0.0) / alpha))


def gelu(x, *, approximate="none"):
    x = _f64(x)
    if approximate == "none":
        erf = np.vectorize(math.erf, otypes=[np.float64])
        return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))
    if approximate == "tanh":
        return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    raise ValueError(f"approximate {approximate}")


def sigmoid(x):
    return np.exp(-softplus(-_f64(x)))  # 1 / (1 + exp(-x)) without its overflow


def silu(x):
    return _f64(x) * sigmoid(x)


def softplus(x):
    with np.errstate(invalid="ignore"):  # of NaN
        return np.logaddexp(0.0, _f64(x))  # log(exp(x) + 1) without its overflow


def mish(x):
    return _f64(x) * np.tanh(softplus(x))


def tanh(x):
    return np.tanh(_f64(x))


def softsign(x):
    x = _f64(x)
    return x / (1.0 + np.abs(x))


def hard_sigmoid(x, *, alpha=0.2, beta=0.5):
    return np.maximum(0.0, np.minimum(1.0, alpha * _f64(x) + beta))


def hard_swish(x):
    return _f64(x) * hard_sigmoid(x, alpha=1.0 / 6.0, beta=0.5)


def clip(x, min=None, max=None):
    """Min(max, Max(x, min)): with min > max every value becomes max."""
    x = _f64(x)
    if min is not None:
        x = np.maximum(x, float(min))
    if max is not None:
        x = np.minimum(x, float(max))
    return x


def softmax(x, *, axis=-1):
    x = _f64(x)
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(axis=axis, keepdims=True))
        return e / e.sum(axis=axis, keepdims=True)


def log_softmax(x, *, axis=-1):
    x = _f64(x)
    with np.errstate(invalid="ignore", divide="ignore"):
        shifted = x - x.max(axis=axis, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
