"""fuse_quantized_sums: a tensor that is added to what a quantised convolution gives is an input of it."""

from __future__ import annotations

from dataclasses import replace

from ..graph import Node
from ..ops.quantized_conv import RESIDUAL, QuantizedConv, Residual
from ..ops.quantized_elements import QuantizedAdd
from .nodes import Nodes, rewrite


@rewrite(("QuantizedAdd",), ("QuantizedConv",))
def fuse_quantized_sums(nodes: Nodes) -> None:
    """QuantizedConv + QuantizedAdd of a tensor of the same shape -> the same with a residual input.

    The convolution must be read by the sum alone, and the other operand must exist before it runs.
    """
    for node in nodes.of("QuantizedAdd"):
        op = node.op
        if not isinstance(op, QuantizedAdd) or node.inputs[0] == node.inputs[1]:
            continue
        # prefer the operand that is made last: the other one then exists
        for index in sorted((0, 1), key=lambda i: nodes.position(node.inputs[i]), reverse=True):
            mine, other = node.inputs[index], node.inputs[1 - index]
            maker = nodes.maker(mine, "QuantizedConv")
            if maker is not None and _fits(maker, mine, other, (op.a_zero, op.b_zero)[index], node, nodes):
                nodes.put(maker, _fused(maker, other, op, index, node), gone=(node,))
                break


def _fits(maker: Node, mine: str, other: str, zero: int, node: Node, nodes: Nodes) -> bool:
    conv = maker.op
    if not isinstance(conv, QuantizedConv) or conv.floats or conv.residual is not None or len(maker.inputs) > RESIDUAL:
        nodes.left(node, f"something else is fused into {maker.name} already")
    elif nodes.only_reader(mine) is not node:
        nodes.left(node, f"{mine} is read elsewhere too")
    elif nodes.position(other) >= nodes.position(mine):
        nodes.left(node, f"the other operand is made after {mine}")
    elif zero != conv.zero:
        nodes.left(node, f"its zero point for {mine} is another than that which {mine} has")
    elif nodes.shape(mine) != nodes.shape(other):
        nodes.left(node, f"the operands have different shapes, {nodes.shape(mine)} and {nodes.shape(other)}")
    else:
        return True
    return False


def _fused(maker: Node, other: str, op: QuantizedAdd, index: int, node: Node) -> Node:
    """The convolution with the other operand as residual; products are added in either order to the same bits."""
    conv = maker.op
    assert isinstance(conv, QuantizedConv)
    ratios = [float(r) for r in op.ratios]
    zeros = (op.a_zero, op.b_zero)
    residual = Residual(conv.low, conv.high, ratios[index], ratios[1 - index], zeros[1 - index])
    inputs = (*maker.inputs, *("",) * (RESIDUAL - len(maker.inputs)), other)
    new = replace(conv, residual=residual, zero=op.zero, low=op.low, high=op.high)
    return maker.replace(op=new, inputs=inputs, outputs=node.outputs)
