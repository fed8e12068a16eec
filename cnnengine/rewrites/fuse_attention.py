"""fuse_attention: numbers that scale the operands of a product of matrices, and a Transpose of the second, are its attributes."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.dense import MatMul
from ..ops.fused import ScaledMatMul
from ..ops.transpose import Transpose
from .common import field_of
from .nodes import Nodes, rewrite


@rewrite(("MatMul",), ("Mul", "Div", "Transpose"))
def fuse_attention(nodes: Nodes) -> None:
    """MatMul of values that are scaled by numbers known by now, or whose last axes were swapped -> ScaledMatMul.

    Attention is written so: (q * s) @ (Transpose(k) * s), or (q @ Transpose(k)) * s. What made the operands goes where nothing
    else reads it, and so does a product that only its scaling reads.
    """
    for node in nodes.of("MatMul"):
        op = node.op
        if not isinstance(op, MatMul) or any(nodes.value(n) is not None for n in node.inputs):
            continue
        inputs, scale, swapped = list(node.inputs), 1.0, False
        for i in (0, 1):
            while (maker := nodes.maker(inputs[i])) is not None:
                number = _scaled_by(maker, nodes)
                turned = i == 1 and isinstance(maker.op, Transpose) and _swaps(maker.op, len(nodes.shape(inputs[1])))
                if number is None and not turned:
                    break
                if nodes.only_reader(inputs[i]) is None or not nodes.is_float32(inputs[i]):
                    nodes.left(node, f"{inputs[i]} is read elsewhere too, or not float32")
                    break
                inputs[i] = maker.inputs[0] if number is None else number[0]
                scale *= 1.0 if number is None else number[1]
                swapped ^= turned
        if inputs == list(node.inputs) or not np.isfinite(np.float32(scale)) or any(nodes.value(n) is not None for n in inputs):
            continue
        nodes.put(node, node.replace(op=ScaledMatMul.of(op, scale, swapped), inputs=tuple(inputs)))
    for node in nodes.of("Mul", "Div"):
        number = _scaled_by(node, nodes)
        product = None if number is None else nodes.maker(number[0], "MatMul")
        if number is None or product is None or not isinstance(product.op, (MatMul, ScaledMatMul)):
            continue
        if nodes.only_reader(number[0]) is None or not nodes.is_float32(number[0]) or product.op.activation is not None:
            nodes.left(node, f"{number[0]} is read elsewhere too, is not float32, or has an activation")
            continue
        op = product.op
        scale, swapped = (op.scale, op.transposed) if isinstance(op, ScaledMatMul) else (1.0, False)
        scale *= number[1]
        if any(nodes.value(n) is not None for n in product.inputs) or not np.isfinite(np.float32(scale)):
            continue
        nodes.put(node, product.replace(op=ScaledMatMul.of(op, scale, swapped), outputs=node.outputs))


def _swaps(op: Transpose, rank: int) -> bool:
    """Whether the last two axes change places and no others."""
    return op.order(rank) == (*range(rank - 2), rank - 1, rank - 2)


def _scaled_by(node: Node, nodes: Nodes) -> tuple[str, float] | None:
    """(x, s) when the node is x * s or x / s for a finite number s and makes a value of x's shape."""
    if node.op.op_type not in ("Mul", "Div") or len(node.inputs) != 2 or field_of(node.op, "activation") is not None:
        return None
    for i in (1, 0) if node.op.op_type == "Mul" else (1,):
        value, x = nodes.value(node.inputs[i]), node.inputs[1 - i]
        if value is None or value.size != 1 or nodes.shape(x) != nodes.shape(node.outputs[0]):
            continue
        number = float(value.reshape(-1)[0])
        if not np.isfinite(number) or number == 0:
            return None
        return x, number if node.op.op_type == "Mul" else 1 / number
    return None
