"""Quantised operators by their definitions: sums of Python's and NumPy's wide integers, scaled in float32 as ONNX says it.

What is rounded, and in which order, is written out: float32(sum) times float32(x_scale * w_scale / y_scale), halves to even, plus
the zero point, clamped. `assert_steps` judges what is computed in floats on the way.
"""

from __future__ import annotations

import itertools

import numpy as np

from .geometry import per_axis, split_pads, window_axis

LIMITS = {"uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767)}
LIMITS |= {"uint4": (0, 15), "int4": (-8, 7), "uint2": (0, 3), "int2": (-2, 1)}


def along(parameter, shape, axis):
    """Numbers per index of an axis as an array of the whole shape."""
    parameter = np.asarray(parameter)
    if parameter.size == 1:
        return np.broadcast_to(parameter.reshape(()), shape)
    return np.broadcast_to(parameter.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))]), shape)


def in_blocks(parameter, shape, axis, size):
    """Numbers per block along an axis as an array of the whole shape."""
    whole = np.empty(shape, parameter.dtype)
    for index in np.ndindex(*shape):
        place = list(index)
        place[axis] //= size
        whole[index] = parameter[tuple(place)]
    return whole


def quantize(x, scale, zero, dtype):
    """Of parameters of the whole shape, or scalars."""
    low, high = LIMITS[np.dtype(dtype).name]
    with np.errstate(all="ignore"):
        quotient = np.asarray(x, np.float32) / np.asarray(scale, np.float32)
    y = np.empty(quotient.shape, object)
    zeros = np.broadcast_to(np.asarray(zero).astype(np.int64), quotient.shape)
    for index in np.ndindex(*quotient.shape):
        q, z = float(quotient[index]), int(zeros[index])
        if q != q:
            q = 0.0
        step = min(max(q, -1e9), 1e9)
        y[index] = min(max(round(step) + z, low), high)
    return y.astype(np.int64)


def dequantize(x, scale, zero):
    """Integers less integers are exact; one rounding to float32, and one of the product."""
    moved = np.asarray(x).astype(np.int64) - np.asarray(zero).astype(np.int64)
    return moved.astype(np.float32) * np.asarray(scale, np.float32)


def real(x, scale, zero):
    """In float64."""
    return (np.asarray(x).astype(np.int64) - np.asarray(zero).astype(np.int64)) * np.asarray(scale, np.float64)


def conv_sums(x, x_zero, w, w_zero, *, stride=1, dilation=1, pads=0, groups=1, auto_pad="NOTSET"):
    """int64 sums of (x - x_zero) * (w - w_zero); padding counts as x_zero, and so as nothing."""
    rank = x.ndim - 2
    stride, dilation, pads = per_axis(stride, rank), per_axis(dilation, rank), split_pads(pads, rank)
    wide = x.astype(np.int64) - int(x_zero)
    weights = w.astype(np.int64) - np.asarray(w_zero).astype(np.int64).reshape(-1, *(1,) * (w.ndim - 1))
    axes = [window_axis(x.shape[2 + i], w.shape[2 + i], stride[i], dilation[i], *pads[i], auto_pad) for i in range(rank)]
    y = np.zeros((len(x), len(w), *(a[0] for a in axes)), np.int64)
    per, into = len(w) // groups, w.shape[1]
    for place in itertools.product(*(range(a[0]) for a in axes)):
        for tap in itertools.product(*map(range, w.shape[2:])):
            at = tuple(p * s + t * d - a[1] for p, s, t, d, a in zip(place, stride, tap, dilation, axes, strict=True))
            if any(not 0 <= i < n for i, n in zip(at, x.shape[2:], strict=True)):
                continue
            pixel = wide[(slice(None), slice(None), *at)]
            for group in range(groups):
                part = pixel[:, group * into : (group + 1) * into]
                taps = weights[(slice(group * per, (group + 1) * per), slice(None), *tap)]
                y[(slice(None), slice(group * per, (group + 1) * per), *place)] += part @ taps.T
    return y


def wrapped(sums):
    """In 32 bits."""
    return ((sums.astype(object) + 2**31) % 2**32 - 2**31).astype(np.int64)


def requantize(sums, ratio, zero, dtype):
    """clamp(rint(float32(sum) * ratio) + zero)"""
    low, high = LIMITS[np.dtype(dtype).name]
    scaled = np.asarray(sums, np.int64).astype(np.float32) * np.asarray(ratio, np.float32)
    return np.clip(np.rint(scaled.astype(np.float64)) + np.asarray(zero).astype(np.int64), low, high).astype(np.int64)


def dynamic(x):
    """(y, scale, zero) of DynamicQuantizeLinear."""
    low, high = min(np.float32(0), np.float32(x.min(initial=0))), max(np.float32(0), np.float32(x.max(initial=0)))
    scale = np.float32(high - low) / np.float32(255)
    if scale == 0:
        scale = np.float32(1)
    zero = round(float(min(max(np.float32(-low) / scale, np.float32(0)), np.float32(255))))
    return quantize(x, scale, zero, np.uint8), scale, zero


def assert_steps(got, value, scale, zero, near=1e-5):
    """`got` is `value` (float64) quantised; where that lies within `near`, relative, of a half, either neighbour may come."""
    low, high = LIMITS[got.dtype.name]
    steps = np.asarray(value, np.float64) / np.float64(np.float32(scale))
    want = np.clip(np.rint(steps) + int(zero), low, high)
    differs = got.astype(np.int64) != want
    assert (np.abs(got.astype(np.int64) - want)[differs] <= 1).all(), np.abs(got.astype(np.int64) - want).max()
    assert (np.abs(np.abs(steps - np.floor(steps)) - 0.5)[differs] < near * np.maximum(1, np.abs(steps[differs]))).all()
