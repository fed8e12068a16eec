"""quantized_resizes: linear Resize of dequantised numbers that are quantised again is one of their integers."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.quantized_resize import MOST_RATIO, QuantizedResize
from ..ops.resize import Resize
from .common import only_output
from .nodes import Nodes, rewrite
from .quantized import bounded, integers, normal, results, told_between, told_quantized, unsigned

KINDS = ("Resize", "Upsample")


@rewrite(KINDS, ("DequantizeLinear",), ("QuantizeLinear",))
def quantized_resizes(nodes: Nodes) -> None:
    """DequantizeLinear -> linear Resize or Upsample (-> Relu or Clip) -> QuantizeLinear is a QuantizedResize."""
    for node in nodes.of(*KINDS):
        op = node.op
        if isinstance(op, Resize) and op.mode != "nearest" and only_output(node):
            _resize(node, op, nodes)


def _resize(node: Node, op: Resize, nodes: Nodes) -> None:
    x = integers(node.inputs[0], nodes)
    if x is None:
        if nodes.maker(node.inputs[0], "DequantizeLinear") is not None:
            nodes.left(node, "its input has no constant scale and zero point for all of it")
        return
    if not op.mixes_two:
        nodes.left(node, "its pixels are not mixtures of two per axis")
        return
    y, gone, low, high = bounded(node.outputs[0], nodes)
    found = told_quantized(y, node, nodes)
    if found is None:
        return
    quantize, signed = found
    steps = signed.unsigned()
    within = told_between(low, high, steps, node, nodes)
    if within is None:
        return
    with np.errstate(all="ignore"):
        ratio = np.float32(x.steps.scale) / np.float32(steps.scale)
    if not normal(ratio) or ratio >= MOST_RATIO:
        nodes.left(node, "the ratio of its scales serves no kernel")
        return
    added: list[Node] = []
    source = unsigned(x, nodes, added)
    new = QuantizedResize(op, source.steps.scale, source.steps.zero, steps.scale, steps.zero, *within)
    made, after = results(quantize, signed, nodes)
    fused = Node(new, (source.name, *node.inputs[1:]), (made,), node.name)
    nodes.put(node, *added, fused, *after, gone=(*gone, quantize))
