"""merge_branches: convolutions of one input whose results are added are one convolution with the sum of their kernels.

RepVGG and its kin train a 3x3 convolution, a 1x1 and a BatchNormalization side by side and add them; files hold the three where
nobody merged them before the export (Ding et al., 2021, arXiv:2101.03697).
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ..graph import Graph, Node
from ..weights import Summed
from ..window import Window
from .fold_batchnorm import scale_and_shift
from .fold_scale import LARGE, MAX_FLOAT32, Folding
from .rewrite import Uses, fresh, only_output, replaced


def merge_branches(graph: Graph) -> Graph:
    """Add of two Conv, or of a Conv and a BatchNormalization, that alone read them and have the same input."""
    uses = Uses(graph)
    fold = Folding(graph, uses)
    changes: dict[int, list[Node]] = {}
    constants: dict[str, np.ndarray] = {}
    gone: set[int] = set()
    for index, node in enumerate(graph.nodes):
        if node.op.op_type != "Add" or not only_output(node) or getattr(node.op, "activation", None) is not None:
            continue
        for first, second in (node.inputs, node.inputs[::-1]):
            large, small = fold.target(first), uses.maker(second, "Conv", "BatchNormalization")
            if large is None or small is None or large is small or large.op.op_type != "Conv":
                continue
            if large.inputs[0] != small.inputs[0] or uses.only_reader(second) is not node:
                continue
            merged = _merged(large, small, fold, uses)
            if merged is None:
                continue
            names = []
            for suffix, value in zip(("weight", "bias"), merged, strict=True):
                names.append(fresh(graph, f"{large.name}/merged_{suffix}", constants))
                constants[names[-1]] = value
            changes[index] = [large.replace(inputs=(large.inputs[0], *names), outputs=node.outputs)]
            gone.update((id(large), id(small)))
            break
    if not changes:
        return graph
    changes.update((i, []) for i, n in enumerate(graph.nodes) if id(n) in gone)
    return replaced(graph, changes, constants)


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


def _merged(large: Node, small: Node, fold: Folding, uses: Uses) -> tuple[Any, np.ndarray] | None:
    """Weights and bias of `large` with those of `small`, whose taps all lie on its own, added; None where they do not."""
    op, other = cast(Any, large.op), cast(Any, small.op)
    w, b = uses.constant(large, 1), uses.constant(large, 2)
    assert w is not None
    window = _window(op, w)
    within: Window | None = None
    added: Any = None
    if other.op_type == "Conv":
        added, shift = uses.constant(small, 1), uses.constant(small, 2)
        if fold.target(small.outputs[0]) is small and added.shape[:2] == w.shape[:2] and other.group == op.group:
            within = _window(other, added)
    elif window is not None and w.shape[1] * op.group == w.shape[0]:
        factors = scale_and_shift(small, uses, w.shape[0])
        if factors is not None:
            added, shift = factors
            within = Window.of((1,) * window.rank)
    taps = None if window is None or within is None else _first_taps(window, within)
    if within is None or taps is None or not fold.largest(w) + fold.largest(added) < MAX_FLOAT32:
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
