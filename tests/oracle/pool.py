"""MaxPool, AveragePool, LpPool, the Global pools and MaxUnpool of opset 22; adaptive pools as PyTorch defines them;
spatial pyramid pooling (He et al. 2014, arXiv:1406.4729, whose bins [floor(i*n/l), ceil((i+1)*n/l)) are the adaptive ones)."""

from __future__ import annotations

import itertools
import math

import numpy as np

from .geometry import per_axis, split_pads, taps, window_axis


def _windows(spatial, kernel, stride, pads, dilation, ceil_mode, auto_pad):
    """Yield (output index, per axis the taps inside the input, per axis the number of taps inside the padded input),
    and the output extents first."""
    rank = len(spatial)
    kernel, stride, dilation = per_axis(kernel, rank), per_axis(stride, rank), per_axis(dilation, rank)
    pads = split_pads(pads, rank)
    if min(*kernel, *stride, *dilation) < 1:
        raise ValueError("kernel, stride and dilation are positive")
    axes = [window_axis(spatial[i], kernel[i], stride[i], dilation[i], *pads[i], auto_pad, ceil_mode) for i in range(rank)]
    yield tuple(a[0] for a in axes)
    for at in itertools.product(*[range(a[0]) for a in axes]):
        inside, padded = [], []
        for i, (_, begin, end) in enumerate(axes):
            positions = taps(at[i] * stride[i] - begin, kernel[i], dilation[i])
            inside.append([p for p in positions if 0 <= p < spatial[i]])
            padded.append(sum(-begin <= p < spatial[i] + end for p in positions))
        yield at, inside, padded


def max_pool(x, kernel, *, stride=1, pads=0, dilation=1, ceil_mode=False, auto_pad="NOTSET"):
    """(y, indices): the maximum per window (NaN wins), and where its first occurrence stands in x.ravel().

    A window wholly inside the padding holds nothing: -inf and index -1."""
    x = np.asarray(x, np.float64)
    spatial = x.shape[2:]
    windows = _windows(spatial, kernel, stride, pads, dilation, ceil_mode, auto_pad)
    y = np.full((*x.shape[:2], *next(windows)), -np.inf)
    indices = np.full(y.shape, -1, np.int64)
    plane = math.prod(spatial)
    first_of_plane = np.arange(x.shape[0] * x.shape[1]).reshape(x.shape[:2]) * plane
    within_plane = np.arange(plane).reshape(spatial)
    for at, inside, _ in windows:
        if all(inside):
            values = x[(..., *np.ix_(*inside))].reshape(*x.shape[:2], math.prod(map(len, inside)))
            best = np.argmax(values, axis=2)  # the first maximum, or the first NaN
            y[(..., *at)] = np.take_along_axis(values, best[..., None], axis=2)[..., 0]
            indices[(..., *at)] = first_of_plane + within_plane[np.ix_(*inside)].ravel()[best]
    return y, indices


def avg_pool(x, kernel, *, stride=1, pads=0, dilation=1, ceil_mode=False, auto_pad="NOTSET", count_include_pad=False):
    """Mean over the taps inside the input, or with count_include_pad over those inside the padded input."""
    x = np.asarray(x, np.float64)
    windows = _windows(x.shape[2:], kernel, stride, pads, dilation, ceil_mode, auto_pad)
    y = np.zeros((*x.shape[:2], *next(windows)))
    axes = tuple(range(2, x.ndim))
    for at, inside, padded in windows:
        count = math.prod(padded) if count_include_pad else math.prod(map(len, inside))
        total = x[(..., *np.ix_(*inside))].sum(axis=axes) if all(inside) else np.zeros(x.shape[:2])
        with np.errstate(invalid="ignore"):
            y[(..., *at)] = total / np.float64(count)
    return y


def lp_pool(x, kernel, *, p=2, stride=1, pads=0, dilation=1, ceil_mode=False, auto_pad="NOTSET"):
    """(sum of |x|**p)**(1/p) per window; padding adds nothing."""
    x = np.asarray(x, np.float64)
    windows = _windows(x.shape[2:], kernel, stride, pads, dilation, ceil_mode, auto_pad)
    y = np.zeros((*x.shape[:2], *next(windows)))
    axes = tuple(range(2, x.ndim))
    for at, inside, _ in windows:
        if all(inside):
            y[(..., *at)] = (np.abs(x[(..., *np.ix_(*inside))]) ** p).sum(axis=axes) ** (1.0 / p)
    return y


def global_max_pool(x):
    return np.asarray(x, np.float64).max(axis=tuple(range(2, np.ndim(x))), keepdims=True)


def global_avg_pool(x):
    return np.asarray(x, np.float64).mean(axis=tuple(range(2, np.ndim(x))), keepdims=True)


def global_lp_pool(x, *, p=2):
    x = np.abs(np.asarray(x, np.float64))
    return (x**p).sum(axis=tuple(range(2, x.ndim)), keepdims=True) ** (1.0 / p)


def _adaptive(x, output_size, reduce):
    x = np.asarray(x, np.float64)
    spatial = x.shape[2:]
    out = per_axis(output_size, len(spatial))
    y = np.zeros((*x.shape[:2], *out))
    for at in itertools.product(*[range(o) for o in out]):
        bins = [slice(at[i] * spatial[i] // out[i], -(-(at[i] + 1) * spatial[i] // out[i])) for i in range(len(spatial))]
        y[(..., *at)] = reduce(x[(..., *bins)], axis=tuple(range(2, x.ndim)))
    return y


def adaptive_max_pool(x, output_size):
    return _adaptive(x, output_size, np.max)


def adaptive_avg_pool(x, output_size):
    return _adaptive(x, output_size, np.mean)


def spatial_pyramid_pool(x, *, levels=(4, 2, 1), mode="max"):
    """(N, C, H, W) -> (N, C * sum(l * l)): per level an l x l adaptive pool, flattened channel by channel."""
    pool = {"max": adaptive_max_pool, "avg": adaptive_avg_pool}[mode]
    x = np.asarray(x, np.float64)
    return np.concatenate([pool(x, level).reshape(x.shape[0], x.shape[1] * level * level) for level in levels], axis=1)


def max_unpool(x, indices, kernel, *, stride=1, pads=0, output_shape=None):
    """Values put back at `indices` into zeros of the inferred shape; an explicit output_shape adds zeros at the ends.

    That indices refer to the inferred shape is what the specification's own case says (maxunpool_export_with_output_shape)."""
    x, indices = np.asarray(x, np.float64), np.asarray(indices)
    rank = x.ndim - 2
    kernel, stride, pads = per_axis(kernel, rank), per_axis(stride, rank), split_pads(pads, rank)
    inferred = (*x.shape[:2], *[(x.shape[2 + i] - 1) * stride[i] - sum(pads[i]) + kernel[i] for i in range(rank)])
    y = np.zeros(inferred)
    for value, index in zip(x.ravel(), indices.ravel(), strict=True):
        if not 0 <= index < y.size:
            raise ValueError(f"index {index} of {y.size} elements")
        y[np.unravel_index(index, inferred)] = value
    if output_shape is None:
        return y
    larger = np.zeros(output_shape)
    larger[tuple(slice(0, n) for n in inferred)] = y
    return larger
