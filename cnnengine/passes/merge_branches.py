"""merge_branches: convolutions of one input whose results are added are one convolution with the sum of their kernels.

RepVGG and its kin train a 3x3 convolution, a 1x1 and a BatchNormalization side by side and add them; files hold the three where
nobody merged them before the export (Ding et al., 2021, arXiv:2101.03697).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..graph import Graph, Node, Summed
from .fold_batchnorm import scale_and_shift
from .fold_scale import LARGE, MAX_FLOAT32, Folding
from .rewrite import Uses, fresh, only_output, replaced


class _Geometry(NamedTuple):
    """A convolution along its spatial axes."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    growth: tuple[int, ...]
    """By how much the input with its padding exceeds one window: what decides the output's extents."""


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


def _geometry(op: Any, w: np.ndarray) -> _Geometry | None:
    """Of a convolution whose padding does not depend on its input."""
    rank = w.ndim - 2
    kernel = w.shape[2:]
    if rank < 1 or op.auto_pad not in ("", "NOTSET", "VALID") or (op.kernel_shape and tuple(op.kernel_shape) != kernel):
        return None
    strides, dilations = op.strides or (1,) * rank, op.dilations or (1,) * rank
    pads = op.pads if op.pads and op.auto_pad != "VALID" else (0,) * (2 * rank)
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank or min(pads) < 0:
        return None
    begins, ends = pads[:rank], pads[rank:]
    growth = tuple(b + e - (k - 1) * d - 1 for b, e, k, d in zip(begins, ends, kernel, dilations, strict=True))
    return _Geometry(kernel, tuple(strides), tuple(dilations), tuple(begins), growth)


def _merged(large: Node, small: Node, fold: Folding, uses: Uses) -> tuple[Any, np.ndarray] | None:
    """Weights and bias of `large` with those of `small`, whose taps all lie on its own, added; None where they do not."""
    op: Any = large.op
    w, b = uses.constant(large, 1), uses.constant(large, 2)
    assert w is not None
    geometry = _geometry(op, w)
    if geometry is None:
        return None
    bias = np.zeros(w.shape[0]) if b is None else b.astype(np.float64)
    added: Any
    part: tuple[Any, ...]
    if small.op.op_type == "Conv":
        if fold.target(small.outputs[0]) is not small:
            return None
        other: Any = small.op
        added, shift = uses.constant(small, 1), uses.constant(small, 2)
        theirs = _geometry(other, added)
        if theirs is None or added.shape[:2] != w.shape[:2] or other.group != op.group:
            return None
        if theirs.strides != geometry.strides or theirs.growth != geometry.growth:
            return None
        spread = theirs.dilations
        kernel, begins = theirs.kernel, theirs.begins
    else:
        factors = scale_and_shift(small, uses, w.shape[0])
        if factors is None or w.shape[1] * op.group != w.shape[0] or set(geometry.strides) != {1} or set(geometry.growth) != {-1}:
            return None
        added, shift = factors
        spread, kernel, begins = geometry.dilations, (1,) * len(geometry.kernel), (0,) * len(geometry.kernel)
    taps = []
    for mine, count, dilation, pad, step, begin in zip(
        geometry.kernel, kernel, geometry.dilations, geometry.begins, spread, begins, strict=True
    ):
        offset = pad - begin
        if offset < 0 or offset % dilation or (count > 1 and step != dilation) or offset // dilation + count > mine:
            return None
        taps.append(offset // dilation)
    if small.op.op_type == "Conv":
        part = (slice(None), slice(None), *(slice(t, t + k) for t, k in zip(taps, kernel, strict=True)))
    else:
        channel = np.arange(w.shape[0])
        part = (channel, channel % w.shape[1], *taps)
    if not fold.largest(w) + fold.largest(added) < MAX_FLOAT32:
        return None
    merged: Any = Summed(w, part, added)
    total = np.asarray(bias + (0.0 if shift is None else shift), np.float32)
    if not np.isfinite(total).all():
        return None
    return (np.asarray(merged) if merged.nbytes < LARGE else merged), total
