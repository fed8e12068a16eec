"""What rewrites at known shapes ask of convolutions."""

from __future__ import annotations

from ..graph import Node
from ..ops.conv import Conv
from ..ops.fused import FusedConv, convolution
from .nodes import Nodes


def is_known(node: Node, nodes: Nodes) -> bool:
    """A convolution over two spatial axes of float32, without a gate, whose weights and bias are known."""
    return (
        convolution(node.op) is not None
        and not (isinstance(node.op, FusedConv) and node.op.gated)
        and all(not n or nodes.value(n) is not None for n in node.inputs[1:3])
        and nodes.rank(node.inputs[0]) == 4
        and nodes.is_float32(node.inputs[0])
    )


def is_pointwise(node: Node, nodes: Nodes) -> bool:
    """A 1x1 convolution that gives a pixel for each one."""
    conv = convolution(node.op)
    if conv is None or not is_known(node, nodes):
        return False
    x, w, y = (nodes.shape(n) for n in (node.inputs[0], node.inputs[1], node.outputs[0]))
    return conv.group == 1 and w[2:] == (1, 1) and x[2:] == y[2:] and max(conv.strides, default=1) == 1


def is_depthwise(node: Node, nodes: Nodes) -> bool:
    """One channel a group, nothing added, and every row of padding met by the kernel together with a row of the plane."""
    if not isinstance(node.op, Conv) or not is_known(node, nodes):
        return False
    x, w, y = (nodes.shape(n) for n in (node.inputs[0], node.inputs[1], node.outputs[0]))
    if not node.op.group == x[1] == w[0] > 1 or w[1] != 1 or 0 in y:
        return False
    window = node.op.window(w)
    _, begins, _ = window.resolve(x[2:])
    return bool(0 <= begins[0] < window.extent[0])
