"""quantized_products: a product of dequantised matrices is one of integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph import Node
from ..ops.dense import Gemm, MatMul
from ..ops.elementwise import Add
from ..ops.quantized_dense import BYTES, FLOATS, QuantizedDense
from .common import only_output
from .nodes import Nodes, rewrite
from .quantized import Bias, Quantized, QuantizedWeights, bias_of, integers, stored, unsigned, weights_of


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
        w = weights_of(node.inputs[1], 0 if transposed else 1, nodes)
        if w is not None and nodes.constants[w.name].ndim == 2:
            _constant(node, x, w, transposed, nodes)
            continue
        other = integers(node.inputs[1], nodes)
        if other is None or nodes.constants.get(other.name) is not None:
            nodes.left(node, "its weights are no matrix with one scale, or one for each column, that is known and normal")
        else:
            _running(node, x, other, transposed, nodes)


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
    last = stored(node, ends.y, ends.gone, sums, ends.bias, nodes)
    if last is None:
        return
    source = unsigned(x, nodes, added)
    op = QuantizedDense(source.steps.zero, gives_what=FLOATS, transposed=transposed)
    if last.steps is not None:
        op = QuantizedDense(source.steps.zero, last.steps.zero, last.low, last.high, BYTES, transposed=transposed)
    inputs = (source.name, *w, *last.inputs(node, nodes))
    nodes.put(node, *added, Node(op, inputs, (last.name,), node.name), *last.after, gone=last.gone)
