"""merge_branches: convolutions of one input whose results are added are one convolution with the sum of their kernels.

RepVGG and its kin train a 3x3 convolution, a 1x1 and a BatchNormalization side by side and add them; files hold the three where
nobody merged them before the export (Ding et al., 2021, arXiv:2101.03697).
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ..graph import Node
from ..weights import LARGE, Summed
from ..window import Window
from .common import field_of, only_output
from .nodes import Nodes, rewrite
from .per_channel import MAX_FLOAT32, largest, linear, scale_and_shift


@rewrite(("Add",), ("Conv",))
def merge_branches(nodes: Nodes) -> None:
    """Add of two Conv, or of a Conv and a BatchNormalization, that alone read them and have the same input."""
    for node in nodes.of("Add"):
        if not only_output(node) or len(node.inputs) != 2:
            continue
        for first, second in (node.inputs, node.inputs[::-1]):
            large, small = nodes.maker(first, "Conv"), nodes.maker(second, "Conv", "BatchNormalization")
            if large is None or small is None or large is small or large.inputs[0] != small.inputs[0]:
                continue
            if field_of(node.op, "activation") is not None or linear(first, nodes, node) is None:
                continue
            if nodes.only_reader(second) is not node:
                nodes.left(node, f"{second} is read by others too")
                continue
            merged = _merged(large, small, node, nodes)
            if merged is None:
                nodes.left(node, f"the taps of {small.name} do not lie on those of {large.name}")
                continue
            parts = zip(("weight", "bias"), merged, strict=True)
            names = [nodes.add(f"{large.name}/merged_{part}", value) for part, value in parts]
            nodes.put(node, large.replace(inputs=(large.inputs[0], *names), outputs=node.outputs))
            break


def _window(op: Any, w: np.ndarray) -> Window | None:
    """The window of a convolution whose padding does not depend on its input."""
    window = Window.of(w.shape[2:], op.strides, op.dilations, op.pads, op.auto_pad)
    if window.auto_pad == "VALID":
        window = Window.of(window.kernel, window.strides, window.dilations)
    fixed = window.auto_pad == "NOTSET" and min(window.pads, default=-1) >= 0
    return window if fixed and (not op.kernel_shape or tuple(op.kernel_shape) == window.kernel) else None


def _growth(window: Window) -> tuple[int, ...]:
    """By how much an input with its padding exceeds what the window covers of it: with the strides, that decides the output."""
    begins, ends = window.pads[: window.rank], window.pads[window.rank :]
    return tuple(b + e - n for b, e, n in zip(begins, ends, window.extent, strict=True))


def _first_taps(large: Window, small: Window) -> tuple[int, ...] | None:
    """The taps of one window that the first tap of another lies on, if all of its taps lie on some for inputs of any size."""
    if large.strides != small.strides or _growth(large) != _growth(small):
        return None
    taps = []
    for axis in range(large.rank):
        dilation, count = large.dilations[axis], small.kernel[axis]
        first, beside = divmod(large.pads[axis] - small.pads[axis], dilation)
        if beside or (count > 1 and small.dilations[axis] != dilation) or not 0 <= first <= large.kernel[axis] - count:
            return None
        taps.append(first)
    return tuple(taps)


def _merged(large: Node, small: Node, add: Node, nodes: Nodes) -> tuple[Any, np.ndarray] | None:
    """Weights and bias of `large` with those of `small`, whose taps all lie on its own, added; None where they do not."""
    op, other = cast(Any, large.op), cast(Any, small.op)
    w, b = nodes.constant(large, 1), nodes.constant(large, 2)
    assert w is not None
    window = _window(op, w)
    within: Window | None = None
    added: Any = None
    if other.op_type == "Conv":
        added, shift = nodes.constant(small, 1), nodes.constant(small, 2)
        alone = linear(small.outputs[0], nodes, add) is not None
        if alone and added.shape[:2] == w.shape[:2] and other.group == op.group:
            within = _window(other, added)
    elif window is not None and w.shape[1] * op.group == w.shape[0] and field_of(other, "activation") is None:
        factors = scale_and_shift(small, small.inputs[0], nodes, w.shape[0], w.ndim)
        if factors is not None:
            added, shift = factors
            within = Window.of((1,) * window.rank)
    taps = None if window is None or within is None else _first_taps(window, within)
    if within is None or taps is None or not largest(w, nodes) + largest(added, nodes) < MAX_FLOAT32:
        return None
    part: tuple[Any, ...]
    if other.op_type == "Conv":
        part = (slice(None), slice(None), *(slice(t, t + k) for t, k in zip(taps, within.kernel, strict=True)))
    else:
        channel = np.arange(w.shape[0])
        part = (channel, channel % w.shape[1], *taps)
    bias = np.zeros(w.shape[0]) if b is None else b.astype(np.float64)
    total = np.asarray(bias + (0.0 if shift is None else shift), np.float32)
    if not np.isfinite(total).all():
        return None
    merged: Any = Summed(w, part, added)
    return (np.asarray(merged) if merged.nbytes < LARGE else merged), total
