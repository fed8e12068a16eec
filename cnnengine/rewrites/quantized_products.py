"""quantized_products: a product of dequantised matrices is one of integers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..graph import Node
from ..ops.dense import Gemm, MatMul
from ..ops.elementwise import Add
from ..ops.quantized import DequantizeLinear
from ..ops.quantized_dense import BYTES, FLOATS, QuantizedDense
from .common import bounds, only_output
from .nodes import FLOAT32, Nodes, rewrite
from .quantized import INT8, UINT8, Quantized, integers, only_quantized, results, unsigned
from .quantized_convolutions import Bias, QuantizedWeights, between, bias_of


@rewrite(("MatMul", "Gemm"), ("DequantizeLinear",))
def quantized_products(nodes: Nodes) -> None:
    """DequantizeLinear -> MatMul or Gemm (-> Add of a constant) (-> Relu or Clip) -> QuantizeLinear is a QuantizedDense.

    Without the QuantizeLinear it gives floats. Weights are constants, dequantised with one scale or one for each column; or the
    other matrix is known only while running, and dequantised too.
    """
    for node in nodes.of("MatMul", "Gemm"):
        op = node.op
        if not isinstance(op, (MatMul, Gemm)) or not only_output(node) or nodes.maker(node.inputs[1], "DequantizeLinear") is None:
            continue
        x = integers(node.inputs[0], nodes)
        if x is None:
            if nodes.maker(node.inputs[0], "DequantizeLinear") is not None:
                nodes.left(node, "its input has no constant scale and zero point for all of it")
            continue
        bare = op == Gemm(transB=op.transB) if isinstance(op, Gemm) else op == MatMul() and len(node.inputs) == 2
        if not bare:
            nodes.left(node, "it scales or transposes its input, or something else is fused into it already")
            continue
        transposed = isinstance(op, Gemm) and bool(op.transB)
        w = weights_of(node.inputs[1], transposed, nodes)
        if w is not None:
            _constant(node, x, w, transposed, nodes)
            continue
        other = integers(node.inputs[1], nodes)
        if other is None or nodes.constants.get(other.name) is not None:
            nodes.left(node, "its weights are no matrix with one scale, or one for each column, that is known and normal")
        else:
            _running(node, x, other, transposed, nodes)


def weights_of(name: str, transposed: bool, nodes: Nodes) -> QuantizedWeights | None:
    """The integers that a constant matrix (K, N), or (N, K), is, with one scale or one for each of N."""
    maker = nodes.maker(name, "DequantizeLinear")
    if maker is None or not isinstance(maker.op, DequantizeLinear) or maker.op.block_size or not only_output(maker):
        return None
    w, scale, zero = (nodes.constant(maker, i) for i in range(3))
    if w is None or scale is None or w.dtype not in (UINT8, INT8) or scale.dtype != FLOAT32 or w.ndim != 2:
        return None
    if zero is None and len(maker.inputs) > 2 and maker.inputs[2]:
        return None
    if maker.op.output_dtype is not None and maker.op.output_dtype != FLOAT32:
        return None
    axis = 0 if transposed else 1
    for value in (scale, zero):
        if value is not None and value.size != 1 and (value.shape != (w.shape[axis],) or maker.op.axis % w.ndim != axis):
            return None
    if not np.all((scale >= np.finfo(np.float32).tiny) & (scale < np.inf)):
        return None
    return QuantizedWeights(maker.inputs[0], maker.inputs[2] if zero is not None and np.any(zero) else "", scale.reshape(-1))


@dataclass(frozen=True)
class _Ends:
    """What comes behind a product.

    Attributes
    ----------
    y : str
        The last value.
    gone : tuple of Node
        The nodes that make it of the product.
    bias : Bias
    """

    y: str
    gone: tuple[Node, ...]
    bias: Bias


def _constant(node: Node, x: Quantized, w: QuantizedWeights, transposed: bool, nodes: Nodes) -> None:
    n = nodes.constants[w.name].shape[0 if transposed else 1]
    sums = np.ascontiguousarray(np.broadcast_to(np.float32(x.steps.scale) * w.scale, (n,)))
    ends = _biased(node, sums, nodes)
    if ends is None:
        nodes.left(node, "the bias is not known, or is no number for each column")
        return
    _put(node, x, [w.name, w.zero], sums, ends, transposed, [], nodes)


def _running(node: Node, x: Quantized, w: Quantized, transposed: bool, nodes: Nodes) -> None:
    """Both matrices are known only while running."""
    if len(node.inputs) > 2:
        nodes.left(node, "both matrices are known only while it runs, and there is a bias")
        return
    added: list[Node] = []
    right = unsigned(w, nodes, added)
    zero = nodes.add(f"{right.name}/zero point", np.asarray(right.steps.zero, np.uint8)) if right.steps.zero else ""
    sums = np.full(1, np.float32(x.steps.scale) * np.float32(w.steps.scale), np.float32)
    _put(node, x, [right.name, zero], sums, _Ends(node.outputs[0], (), Bias()), transposed, added, nodes)


def _per_column(name: str, n: int, nodes: Nodes, rank: int | None) -> bool:
    """Whether a constant, dequantised perhaps, is one number for each of n columns, and does not widen what has this rank."""
    maker = nodes.maker(name, "DequantizeLinear")
    value = nodes.constants.get(maker.inputs[0] if maker is not None else name)
    if value is None:
        return False
    return value.shape[-1:] == (n,) and value.size == n and value.ndim <= (1 if rank is None else max(rank, 1))


def _biased(node: Node, sums: np.ndarray, nodes: Nodes) -> _Ends | None:
    """The bias of a Gemm, or that an Add behind a MatMul adds; None where it is of no use."""
    y, n = node.outputs[0], len(sums)
    if isinstance(node.op, Gemm):
        name = node.inputs[2] if len(node.inputs) > 2 else ""
        if name and not _per_column(name, n, nodes, 2):
            return None
        bias = bias_of(name, sums, nodes)
        return None if bias is None else _Ends(y, (), bias)
    add = nodes.only_reader(y)
    if add is None or not isinstance(add.op, Add) or add.op != Add() or not only_output(add):
        return _Ends(y, (), Bias())
    name = add.inputs[1 - add.inputs.index(y)]
    bias = bias_of(name, sums, nodes) if _per_column(name, n, nodes, nodes.rank(y)) else None
    # what is added may be another value, which it then stays
    return _Ends(y, (), Bias()) if bias is None else _Ends(add.outputs[0], (add,), bias)


def _put(
    node: Node, x: Quantized, w: list[str], sums: np.ndarray, ends: _Ends, transposed: bool, added: list[Node], nodes: Nodes
) -> None:
    low, high = -np.inf, np.inf
    y, gone = ends.y, ends.gone
    reader = nodes.only_reader(y)
    if reader is not None and reader.op.op_type in ("Relu", "Clip") and reader.inputs[0] == y and only_output(reader):
        limits = (0.0, np.inf) if reader.op.op_type == "Relu" else bounds(reader, nodes)
        if limits is not None and limits[0] <= limits[1] and only_quantized(reader.outputs[0], nodes) is not None:
            low, high = limits
            y, gone = reader.outputs[0], (*gone, reader)
    last = only_quantized(y, nodes)
    units, offset = ends.bias.units, ends.bias.floats
    after: list[Node] = []
    if last is None:
        ratio, made = sums, y
        new = QuantizedDense(gives_what=FLOATS)
    else:
        quantize, signed = last
        steps = signed.unsigned()
        within = between(low, high, steps)
        if within is None:
            nodes.left(node, "no quantised number lies within the bounds of its activation")
            return
        with np.errstate(all="ignore"):
            ratio = sums / np.float32(steps.scale)
            if offset is not None:
                exact = np.rint(offset.astype(np.float64) / sums.astype(np.float64))
                if not np.all(np.abs(exact) < 1 << 30):
                    nodes.left(node, "the bias is too large to be one of the sums")
                    return
                units, offset = exact.astype(np.int32), None
        new = QuantizedDense(0, steps.zero, within[0], within[1], BYTES)
        made, after = results(quantize, signed, nodes)
        gone = (*gone, quantize)
    if not np.all((ratio >= np.finfo(np.float32).tiny) & (ratio < np.inf)):
        nodes.left(node, "the ratio of its scales is no normal number")
        return
    source = unsigned(x, nodes, added)
    inputs = [source.name, *w, nodes.add(f"{node.name}/ratio", ratio.astype(np.float32))]
    inputs.append("" if units is None else nodes.add(f"{node.name}/bias", units))
    inputs.append("" if offset is None else nodes.add(f"{node.name}/offset", offset))
    while not inputs[-1]:
        inputs.pop()
    op = replace(new, x_zero=source.steps.zero, transposed=transposed)
    nodes.put(node, *added, Node(op, tuple(inputs), (made,), node.name), *after, gone=gone)
