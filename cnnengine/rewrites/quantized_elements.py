"""quantized_elements: sums, differences and products of dequantised numbers, and joins of tensors of several scales, are of integers."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.quantized_elements import QuantizedAdd, QuantizedMul
from .common import bounds, only_output
from .nodes import Nodes, rewrite
from .quantized import integers, only_quantized, results, unsigned
from .quantized_convolutions import between


@rewrite(("Add", "Sub", "Mul"), ("DequantizeLinear",), ("QuantizeLinear",))
def quantized_elements(nodes: Nodes) -> None:
    """DequantizeLinear twice -> Add, Sub or Mul (-> Relu or Clip) -> QuantizeLinear is a QuantizedAdd or QuantizedMul."""
    for node in nodes.of("Add", "Sub", "Mul"):
        if len(node.inputs) == 2 and only_output(node):
            _pair(node, nodes)


def _pair(node: Node, nodes: Nodes) -> None:
    operands = [integers(name, nodes) for name in node.inputs]
    a, b = operands
    if a is None or b is None:
        if a is not None or b is not None:
            nodes.left(node, "one of its operands is no quantised tensor")
        return
    y, gone, low, high = _bounded(node, nodes)
    found = only_quantized(y, nodes)
    if found is None:
        nodes.left(node, "no QuantizeLinear with one constant scale and zero point alone reads it")
        return
    quantize, signed = found
    steps = signed.unsigned()
    within = between(low, high, steps)
    if within is None:
        nodes.left(node, "no quantised number lies within the bounds of its activation")
        return
    added: list[Node] = []
    left, right = unsigned(a, nodes, added), unsigned(b, nodes, added)
    kind = QuantizedMul if node.op.op_type == "Mul" else QuantizedAdd
    sign = -1.0 if node.op.op_type == "Sub" else 1.0
    op = kind(
        left.steps.scale,
        left.steps.zero,
        sign * right.steps.scale,
        right.steps.zero,
        steps.scale,
        steps.zero,
        within[0],
        within[1],
    )
    if op.numbers(False) is None:
        nodes.left(node, "its results leave the range of the kernels before they are clamped")
        return
    made, after = results(quantize, signed, nodes)
    fused = Node(op, (left.name, right.name), (made,), node.name)
    nodes.put(node, *added, fused, *after, gone=(*gone, quantize))


def _bounded(node: Node, nodes: Nodes) -> tuple[str, tuple[Node, ...], float, float]:
    """The result with a Relu or Clip that alone reads it, the nodes of these, and the bounds."""
    y = node.outputs[0]
    reader = nodes.only_reader(y)
    if reader is not None and reader.op.op_type in ("Relu", "Clip") and reader.inputs[0] == y and only_output(reader):
        limits = (0.0, np.inf) if reader.op.op_type == "Relu" else bounds(reader, nodes)
        if limits is not None and limits[0] <= limits[1]:
            return reader.outputs[0], (reader,), *limits
    return y, (), -np.inf, np.inf
