"""fuse_gates_into_weights: what scales the channels before a 1x1 convolution scales its weights, where those are fewer."""

from __future__ import annotations

import math
from dataclasses import replace

from ..ops.conv import Conv
from ..ops.elementwise import Mul
from ..ops.fused import FusedConv
from .convolutions import is_pointwise
from .nodes import Nodes, rewrite


@rewrite(("Mul",), ("Conv",))
def fuse_gates_into_weights(nodes: Nodes) -> None:
    """x (N, C, H, W) * gate (N, C, 1, 1) + 1x1 Conv -> Conv with a gate, where the weights are fewer than the pixels.

    The product must be read by the convolution alone, and its gate must not be known (then it is folded anyway).
    """
    for node in nodes.of("Conv"):
        y, op = node.inputs[0], node.op
        mul = nodes.maker(y, "Mul")
        if mul is None or not isinstance(mul.op, Mul) or not isinstance(op, (Conv, FusedConv)) or not is_pointwise(node, nodes):
            continue
        shape, o = nodes.shape(y), nodes.shape(node.outputs[0])[1]
        for x, gate in (mul.inputs, mul.inputs[::-1]):
            if nodes.shape(x) == shape and nodes.shape(gate) == (*shape[:2], 1, 1) and nodes.value(gate) is None:
                break
        else:
            continue
        if mul.op.activation is not None or nodes.only_reader(y) is None:
            nodes.left(node, f"{y} is read elsewhere too" if mul.op.activation is None else "an activation lies between")
        elif shape[1] < 8 or 2 * o > math.prod(shape[2:]) or shape[0] == 0:
            nodes.left(node, f"the weights for {o} channels are more than {math.prod(shape[2:])} pixels, or fill no block")
        else:
            inputs = (x, *node.inputs[1:], *("",) * (3 - len(node.inputs)), gate)
            nodes.put(node, node.replace(op=replace(FusedConv.of(op), gated=True), inputs=inputs))
