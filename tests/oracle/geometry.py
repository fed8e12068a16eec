"""Padding and output-size arithmetic of ONNX windows, one axis at a time, word for word from the specification."""

from __future__ import annotations

import math


def per_axis(value, rank):
    """An int for all axes, or one int per axis."""
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank:
        raise ValueError(f"{value} does not have {rank} entries")
    return values


def split_pads(pads, rank):
    """An int, one per axis, or all begins and then all ends -> [(begin, end)] per axis."""
    if isinstance(pads, int):
        return [(pads, pads)] * rank
    if len(pads) == rank:
        return [(p, p) for p in pads]
    if len(pads) == 2 * rank:
        return list(zip(pads[:rank], pads[rank:], strict=True))
    raise ValueError(f"{pads} is neither {rank} nor {2 * rank} pads")


def extent(k, d):
    """Extent of a kernel of k taps at dilation d."""
    return d * (k - 1) + 1


def window_axis(n, k, s, d, begin, end, auto_pad, ceil_mode=False):
    """(output size, begin pad, end pad) of Conv and the pools along an axis of n elements."""
    e = extent(k, d)
    if auto_pad == "NOTSET":
        if ceil_mode:
            out = math.ceil((n + begin + end - e) / s + 1)
            while out > 1 and (out - 1) * s >= n + begin:  # "windows that would start in the right padded region are ignored"
                out -= 1
        else:
            out = math.floor((n + begin + end - e) / s + 1)
    elif auto_pad == "VALID":
        begin = end = 0
        out = math.ceil((n - e + 1) / s)
    elif auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        out = math.ceil(n / s)
        total = max(0, (out - 1) * s + e - n)
        smaller, larger = total // 2, (total + 1) // 2
        begin, end = (smaller, larger) if auto_pad == "SAME_UPPER" else (larger, smaller)
    else:
        raise ValueError(f"auto_pad {auto_pad}")
    if out < 1:
        raise ValueError(f"no window of extent {e} fits into {n} elements padded by {begin} and {end}")
    return out, begin, end


def transpose_axis(n, k, s, d, begin, end, auto_pad, output_padding=0, output_shape=None):
    """(output size, number of elements cut off at the begin) of ConvTranspose along an axis of n elements."""
    full = s * (n - 1) + output_padding + extent(k, d)
    if output_shape is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        output_shape = n * s
    if output_shape is not None:
        total = max(0, full - output_shape)
        smaller, larger = total // 2, total - total // 2
        return output_shape, smaller if auto_pad == "SAME_UPPER" else larger
    if auto_pad == "VALID":
        begin = end = 0
    out = full - begin - end
    if out < 1:
        raise ValueError(f"pads {begin} and {end} leave nothing of {full} elements")
    return out, begin


def taps(start, k, d):
    """Input positions of the window that starts at `start`; those outside of the input are padding."""
    return [start + d * j for j in range(k)]
