"""fuse_softmax_products: softmax(q @ k) @ v is one kernel, which reads q, k and v where they lie."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.dense import MatMul
from ..ops.fused import Place, ScaledMatMul, SoftmaxProduct
from ..ops.gather import Gather
from ..ops.pieces import Slice, Split
from ..ops.reduce import Softmax
from ..ops.shape import Flatten, Identity, Reshape, Squeeze, Unsqueeze
from ..ops.transpose import Transpose
from .cuts import starts
from .nodes import Nodes, rewrite

ATTENTION_BYTES = 1 << 20
"""Of keys and values of one matrix that attention packs at most: half of a common second-level cache."""


@rewrite(("Softmax",), ("MatMul",))
def fuse_softmax_products(nodes: Nodes) -> None:
    """MatMul or ScaledMatMul + Softmax of the last axis + MatMul -> SoftmaxProduct, where nothing else reads between.

    q, k and v are read where they lie in what Transpose, Split, Slice, Squeeze, Gather and Reshape made them of, and a Transpose
    of the result is done while it is written.
    """
    for node in nodes.of("MatMul"):
        softmax = nodes.maker(node.inputs[0], "Softmax") if isinstance(node.op, MatMul) else None
        scores = None if softmax is None else nodes.maker(softmax.inputs[0], "MatMul")
        if softmax is None or scores is None:
            continue
        first = scores.op
        if not isinstance(softmax.op, Softmax) or not isinstance(first, (MatMul, ScaledMatMul)):
            continue
        names, y = (*scores.inputs, node.inputs[1]), node.outputs[0]
        rank, axis = len(nodes.shape(y)), softmax.op.axis
        scale, transposed = (first.scale, first.transposed) if isinstance(first, ScaledMatMul) else (1.0, False)
        if any(nodes.value(n) is not None or not nodes.is_float32(n) for n in names):
            nodes.left(node, "an operand is known by now, or not float32")
            continue
        if any(nodes.only_reader(n) is None or not nodes.is_float32(n) for n in (node.inputs[0], softmax.inputs[0])):
            nodes.left(node, "the scores are read elsewhere too")
            continue
        if rank < 2 or axis not in (-1, rank - 1):
            nodes.left(node, "the Softmax is not over the last axis")
            continue
        if first.activation is not None or node.op != MatMul() or not np.isfinite(np.float32(scale)):
            nodes.left(node, "something else is fused into a product already")
            continue
        places = [_place(n, nodes, rows=i != 1) for i, n in enumerate(names)]
        (q_name, q), (k_name, k), (v_name, v) = places
        if not transposed:
            k = (_swapped(k[0]), _swapped(k[1]), k[2])
        *batch, n, e = v[0]
        d = q[0][-1]
        if len({len(p[0]) for p in (q, k, v)}) != 1 or list(q[0][:-2]) != batch or list(k[0][:-2]) != batch:
            nodes.left(node, "the operands have different batches")
            continue
        if 4 * n * (d + e) > ATTENTION_BYTES:
            nodes.left(node, f"keys and values have {4 * n * (d + e)} bytes, more than {ATTENTION_BYTES}")
            continue
        if len(batch) > 8 or 0 in (*q[0], *k[0], *v[0]) or q[1][-1] != 1 or v[1][-1] != 1 or 1 not in k[1][-2:]:
            nodes.left(node, "the operands do not lie in rows")
            continue
        order, outputs, gone = tuple(range(rank)), node.outputs, []
        after = nodes.only_reader(y)
        if after is not None and isinstance(after.op, Transpose) and after.op.order(rank)[-1] == rank - 1 and nodes.is_float32(y):
            order, outputs, gone = after.op.order(rank), after.outputs, [after]
        op = SoftmaxProduct(q, k, v, order, scale)
        nodes.put(node, Node(op, (q_name, k_name, v_name), outputs, node.name), gone=gone)


def _swapped(pair: tuple[int, ...]) -> tuple[int, ...]:
    return (*pair[:-2], pair[-1], pair[-2])


def _place(name: str, nodes: Nodes, rows: bool) -> tuple[str, Place]:
    """A value as a strided part of the first tensor before it that is computed, its rows contiguous where `rows`."""
    source, view, offset = _strided(name, nodes)
    if rows and view.strides[-1] != 1 and view.shape[-1] > 1:
        source, view, offset = name, _dense(nodes.shape(name)), 0
    strides = view.strides if view.shape[-1] > 1 or not rows else (*view.strides[:-1], 1)
    return source, (view.shape, strides, offset)


def _dense(shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape, C-contiguous, of items of one byte; none of them exists."""
    strides = tuple(int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))
    return np.lib.stride_tricks.as_strided(np.empty(1, np.int8), shape, strides, writeable=False)


def _strided(name: str, nodes: Nodes) -> tuple[str, np.ndarray, int]:
    """(source, view, offset): the value is this view of a contiguous source; NumPy's views do the arithmetic."""
    node, whole = nodes.maker(name), (name, _dense(nodes.shape(name)), 0)
    if node is None or not node.inputs or nodes.value(name) is not None:
        return whole
    op, shape = node.op, nodes.shape(name)
    if not isinstance(op, (Flatten, Gather, Identity, Reshape, Slice, Split, Squeeze, Transpose, Unsqueeze)):
        return whole
    source, view, offset = _strided(node.inputs[0], nodes)
    if isinstance(op, Transpose):
        return source, view.transpose(op.order(view.ndim)), offset
    if isinstance(op, (Split, Slice)):
        begins = starts(node, name, nodes)
        if begins is None:
            return whole
        offset += sum(start * step for start, step in zip(begins, view.strides, strict=True))
        return source, view[tuple(slice(extent) for extent in shape)], offset
    if isinstance(op, Gather):
        index, axis = nodes.value(node.inputs[1]), op.axis % view.ndim
        if index is None or index.size != 1 or not -view.shape[axis] <= int(index.reshape(-1)[0]) < view.shape[axis]:
            return whole
        offset += int(index.reshape(-1)[0]) % view.shape[axis] * view.strides[axis]
        view = view[(slice(None),) * axis + (slice(1),)]
    try:
        view = view[...]
        view.shape = shape
    except AttributeError:  # not without a copy
        return whole
    return source, view, offset
