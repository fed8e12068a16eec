"""quantized_pools: means of dequantised numbers that are quantised again are of integers, and maxima of int8 are of uint8."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..operator import Operator
from ..ops.flip_sign import FlipSign
from ..ops.pool import AveragePool, GlobalAveragePool, MaxPool
from ..ops.quantized_pool import QuantizedAveragePool, QuantizedGlobalAveragePool
from ..ops.reduce import ReduceMean
from ..ops.shape import Flatten
from .common import axes_of, only_output
from .nodes import Nodes, rewrite
from .quantized import INT8, Steps, integers, normal, results, told_quantized, unsigned

MEANS = ("AveragePool", "GlobalAveragePool", "ReduceMean")


@rewrite((*MEANS, "MaxPool"))
def quantized_pools(nodes: Nodes) -> None:
    """DequantizeLinear -> AveragePool, GlobalAveragePool or spatial ReduceMean -> QuantizeLinear; MaxPool of int8."""
    for node in nodes.of(*MEANS):
        if only_output(node) and nodes.maker(node.inputs[0], "DequantizeLinear") is not None:
            _pool(node, nodes)
    for node in nodes.of("MaxPool"):
        if isinstance(node.op, MaxPool) and nodes.dtype(node.inputs[0]) == INT8:
            _of_int8(node, nodes)


def _of_int8(node: Node, nodes: Nodes) -> None:
    """Flipping the highest bit keeps the order, and makes 0, which a window of nothing has, of the lowest number."""
    if not only_output(node):
        nodes.left(node, "the places of its maxima are read")
        return
    x, y = node.inputs[0], node.outputs[0]
    flipped, pooled = nodes.fresh(f"{x}/unsigned"), nodes.fresh(f"{y}/unsigned")
    before = Node(FlipSign(), (x,), (flipped,), f"{node.name}/unsigned")
    nodes.put(
        node, before, Node(node.op, (flipped,), (pooled,), node.name), Node(FlipSign(), (pooled,), (y,), f"{node.name}/signed")
    )


def _pool(node: Node, nodes: Nodes) -> None:
    x = integers(node.inputs[0], nodes)
    if x is None:
        nodes.left(node, "its input has no constant scale and zero point for all of it")
        return
    found = told_quantized(node.outputs[0], node, nodes)
    if found is None:
        return
    quantize, signed = found
    added: list[Node] = []
    op = node.op
    flat = False
    if isinstance(op, ReduceMean):
        rank = nodes.rank(node.inputs[0])
        axes = axes_of(op, nodes.constant(node, 1), rank)
        if rank is None or rank < 3 or axes is None or sorted(axes) != list(range(2, rank)):
            nodes.left(node, "its axes are not known to be all of the spatial ones")
            return
        flat = not op.keepdims
    with np.errstate(all="ignore"):
        ratio = np.float32(x.steps.scale) / np.float32(signed.scale)
    if not normal(ratio):
        nodes.left(node, "the ratio of its scales is no normal number")
        return
    source = unsigned(x, nodes, added)
    made, after = results(quantize, signed, nodes)
    new = _mean(op, source.steps, signed.unsigned())
    if flat:
        pooled = nodes.fresh(f"{made}/pooled")
        whole = [Node(new, (source.name,), (pooled,), node.name), Node(Flatten(1), (pooled,), (made,), f"{node.name}/flatten")]
    else:
        whole = [Node(new, (source.name,), (made,), node.name)]
    nodes.put(node, *added, *whole, *after, gone=(quantize,))


def _mean(op: Operator, x: Steps, y: Steps) -> Operator:
    if isinstance(op, AveragePool):
        return QuantizedAveragePool(x.scale, x.zero, y.scale, y.zero, op)
    assert isinstance(op, (GlobalAveragePool, ReduceMean))
    return QuantizedGlobalAveragePool(x.scale, x.zero, y.scale, y.zero)
