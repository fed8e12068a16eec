"""quantized_elements: sums, differences, products and joins of dequantised tensors are those of their integers."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.pieces import Concat
from ..ops.quantized import QuantizeLinear
from ..ops.quantized_elements import QuantizedAdd, QuantizedMul
from .nodes import Nodes, rewrite
from .quantized import Quantized, Steps, bounded, integers, results, told_between, told_quantized, unsigned


@rewrite(("Add", "Sub", "Mul", "Concat"), ("DequantizeLinear",), ("QuantizeLinear",))
def quantized_elements(nodes: Nodes) -> None:
    """DequantizeLinear twice -> Add, Sub or Mul (-> Relu or Clip) -> QuantizeLinear is a QuantizedAdd or QuantizedMul.

    A Concat between them joins integers: those that have another scale or zero point than the result are quantised anew before.
    """
    for node in nodes.of("Add", "Sub", "Mul"):
        if len(node.inputs) == 2:
            _pair(node, nodes)
    for node in nodes.of("Concat"):
        _join(node, nodes)


def _pair(node: Node, nodes: Nodes) -> None:
    a, b = (integers(name, nodes) for name in node.inputs)
    if a is None or b is None:
        if a is not None or b is not None:
            nodes.left(node, "one of its operands is no quantised tensor")
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
    added: list[Node] = []
    left, right = unsigned(a, nodes, added), unsigned(b, nodes, added)
    kind = QuantizedMul if node.op.op_type == "Mul" else QuantizedAdd
    b_scale = right.steps.scale if node.op.op_type != "Sub" else -right.steps.scale
    op = kind(left.steps.scale, left.steps.zero, b_scale, right.steps.zero, steps.scale, steps.zero, *within)
    if op.numbers(False) is None:
        nodes.left(node, "its results may be too large before they are clamped")
        return
    made, after = results(quantize, signed, nodes)
    fused = Node(op, (left.name, right.name), (made,), node.name)
    nodes.put(node, *added, fused, *after, gone=(*gone, quantize))


def _join(node: Node, nodes: Nodes) -> None:
    parts = [integers(name, nodes) for name in node.inputs]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        if known:
            nodes.left(node, "one of its inputs is no quantised tensor")
        return
    found = told_quantized(node.outputs[0], node, nodes)
    if found is None:
        return
    quantize, signed = found
    steps = signed.unsigned()
    added: list[Node] = []
    names = [_anew(name, part, quantize, steps, nodes, added) for name, part in zip(node.inputs, known, strict=True)]
    made, after = results(quantize, signed, nodes)
    assert isinstance(node.op, Concat)
    nodes.put(node, *added, Node(node.op, tuple(names), (made,), node.name), *after, gone=(quantize,))


def _anew(name: str, part: Quantized, quantize: Node, steps: Steps, nodes: Nodes, added: list[Node]) -> str:
    """uint8 of a float tensor by these steps: the integers that it is made of, or what a QuantizeLinear makes of it."""
    if part.steps.unsigned() == steps:
        return unsigned(part, nodes, added).name
    zero = nodes.add(f"{name}/zero point", np.asarray(steps.zero, np.uint8))
    made = nodes.fresh(f"{name}/anew")
    added.append(Node(QuantizeLinear(), (name, quantize.inputs[1], zero), (made,), made))
    return made
