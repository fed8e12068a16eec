"""Conv-22 and ConvTranspose-22."""

from __future__ import annotations

import itertools

import numpy as np

from .geometry import per_axis, split_pads, transpose_axis, window_axis


def conv(x, w, bias=None, *, stride=1, pads=0, dilation=1, groups=1, auto_pad="NOTSET"):
    """x (N, C, ...), w (M, C / groups, k...), bias (M,) -> (N, M, ...)."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    rank = x.ndim - 2
    stride, dilation, pads = per_axis(stride, rank), per_axis(dilation, rank), split_pads(pads, rank)
    if w.ndim != x.ndim or w.shape[1] * groups != x.shape[1] or w.shape[0] % groups:
        raise ValueError(f"x {x.shape}, w {w.shape}, groups {groups}")
    kernel = w.shape[2:]
    axes = [window_axis(x.shape[2 + i], kernel[i], stride[i], dilation[i], *pads[i], auto_pad) for i in range(rank)]
    out = [a[0] for a in axes]
    begins = [a[1] for a in axes]
    # An input with as many zeros around it as the windows reach over: axis i of the window o, tap k reads o*s + k*d.
    reach = [(out[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 for i in range(rank)]
    extents = [max(reach[i], begins[i] + x.shape[2 + i]) for i in range(rank)]
    padded = np.zeros((*x.shape[:2], *extents))
    padded[(..., *[slice(b, b + n) for b, n in zip(begins, x.shape[2:], strict=True)])] = x
    y = np.zeros((x.shape[0], w.shape[0], *out))
    c, m = w.shape[1], w.shape[0] // groups
    for tap in itertools.product(*[range(k) for k in kernel]):
        seen = padded[
            (
                ...,
                *[
                    slice(tap[i] * dilation[i], tap[i] * dilation[i] + (out[i] - 1) * stride[i] + 1, stride[i])
                    for i in range(rank)
                ],
            )
        ]
        for g in range(groups):
            w_mc = w[(slice(g * m, (g + 1) * m), slice(None), *tap)]
            y[:, g * m : (g + 1) * m] += np.einsum("mc,nc...->nm...", w_mc, seen[:, g * c : (g + 1) * c])
    if bias is not None:
        y += np.asarray(bias, np.float64).reshape(-1, *[1] * rank)
    return y


def conv_transpose(
    x, w, bias=None, *, stride=1, pads=0, output_padding=0, output_shape=None, dilation=1, groups=1, auto_pad="NOTSET"
):
    """x (N, C, ...), w (C, M / groups, k...), bias (M,) -> (N, M, ...): every input element adds its kernel to the output."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    rank = x.ndim - 2
    stride, dilation, pads = per_axis(stride, rank), per_axis(dilation, rank), split_pads(pads, rank)
    output_padding = per_axis(output_padding, rank)
    wanted = (None,) * rank if output_shape is None else per_axis(output_shape, rank)
    if w.ndim != x.ndim or w.shape[0] != x.shape[1] or x.shape[1] % groups:
        raise ValueError(f"x {x.shape}, w {w.shape}, groups {groups}")
    spatial, kernel = x.shape[2:], w.shape[2:]
    axes = [
        transpose_axis(spatial[i], kernel[i], stride[i], dilation[i], *pads[i], auto_pad, output_padding[i], wanted[i])
        for i in range(rank)
    ]
    c, m = x.shape[1] // groups, w.shape[1]
    y = np.zeros((x.shape[0], m * groups, *[a[0] for a in axes]))
    for tap in itertools.product(*[range(k) for k in kernel]):
        for at in itertools.product(*[range(n) for n in spatial]):
            to = [at[i] * stride[i] + tap[i] * dilation[i] - axes[i][1] for i in range(rank)]
            if any(t < 0 or t >= axes[i][0] for i, t in enumerate(to)):
                continue
            for g in range(groups):
                x_nc = x[(slice(None), slice(g * c, (g + 1) * c), *at)]
                w_cm = w[(slice(g * c, (g + 1) * c), slice(None), *tap)]
                y[(slice(None), slice(g * m, (g + 1) * m), *to)] += x_nc @ w_cm
    if bias is not None:
        y += np.asarray(bias, np.float64).reshape(-1, *[1] * rank)
    return y
