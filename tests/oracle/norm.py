"""BatchNormalization-15 (inference), LayerNormalization-17, InstanceNormalization-22, GroupNormalization-21, LRN-13."""

from __future__ import annotations

import numpy as np


def _per_channel(v, x):
    return np.asarray(v, np.float64).reshape(-1, *[1] * (x.ndim - 2))


def _standardise(x, axes, epsilon):
    mean = x.mean(axis=axes, keepdims=True)
    var = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    return (x - mean) / np.sqrt(var + epsilon)


def batch_norm(x, scale, bias, mean, var, *, epsilon=1e-5):
    x = np.asarray(x, np.float64)
    scale, bias, mean, var = (_per_channel(v, x) for v in (scale, bias, mean, var))
    return (x - mean) / np.sqrt(var + epsilon) * scale + bias


def layer_norm(x, scale=None, bias=None, *, axis=-1, epsilon=1e-5):
    """Over axes axis..last; scale and bias broadcast to x."""
    x = np.asarray(x, np.float64)
    y = _standardise(x, tuple(range(axis % x.ndim, x.ndim)), epsilon)
    if scale is not None:
        y = y * np.asarray(scale, np.float64)
    if bias is not None:
        y = y + np.asarray(bias, np.float64)
    return y


def rms_norm(x, scale=None, *, axis=-1, epsilon=1e-5):
    """RMSNormalization-23: over the root of the mean square on axes axis..last; scale broadcasts to x."""
    x = np.asarray(x, np.float64)
    y = x / np.sqrt((x**2).mean(axis=tuple(range(axis % x.ndim, x.ndim)), keepdims=True) + epsilon)
    return y if scale is None else y * np.asarray(scale, np.float64)


def instance_norm(x, scale, bias, *, epsilon=1e-5):
    x = np.asarray(x, np.float64)
    return _standardise(x, tuple(range(2, x.ndim)), epsilon) * _per_channel(scale, x) + _per_channel(bias, x)


def group_norm(x, scale, bias, *, groups, epsilon=1e-5):
    """Scale and bias per channel."""
    x = np.asarray(x, np.float64)
    grouped = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    y = _standardise(grouped, tuple(range(2, grouped.ndim)), epsilon).reshape(x.shape)
    return y * _per_channel(scale, x) + _per_channel(bias, x)


def local_response_norm(x, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    """The window of channels c - floor((size-1)/2) .. c + ceil((size-1)/2), cut at the ends."""
    x = np.asarray(x, np.float64)
    y = np.zeros(x.shape)
    for c in range(x.shape[1]):
        first, last = max(0, c - (size - 1) // 2), min(x.shape[1] - 1, c + size // 2)  # size // 2 == ceil((size-1)/2)
        square_sum = (x[:, first : last + 1] ** 2).sum(axis=1)
        y[:, c] = x[:, c] / (bias + alpha / size * square_sum) ** beta
    return y
