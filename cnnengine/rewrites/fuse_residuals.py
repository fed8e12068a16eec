"""fuse_residuals: a tensor that is added to what a convolution or a product by a constant matrix gives is an input of it."""

from __future__ import annotations

from dataclasses import replace

from ..graph import Node
from ..ops.conv import Conv
from ..ops.dense import MatMul
from ..ops.elementwise import Add
from ..ops.fused import Dense, FusedConv
from .nodes import Nodes, rewrite


@rewrite(("Add",), ("Conv", "MatMul"))
def fuse_residuals(nodes: Nodes) -> None:
    """Conv or MatMul + Add of a tensor of the same shape (+ activation) -> the same with a residual input.

    The convolution, or product by a constant matrix, must be read by the Add alone, and the other operand must exist before it
    runs.
    """
    for node in nodes.of("Add"):
        if not isinstance(node.op, Add) or node.inputs[0] == node.inputs[1]:
            continue
        # prefer the operand that is made last: the other one then exists
        first, second = sorted(node.inputs, key=nodes.position, reverse=True)
        maker = nodes.maker(first, "Conv", "MatMul")
        fused = None if maker is None else _with_residual(maker, second, node, node.op, nodes)
        if maker is None or fused is None:
            if maker is None and nodes.maker(second, "Conv", "MatMul") is not None:
                nodes.left(node, f"the other operand is made after {second}")
            continue
        if nodes.only_reader(first) is None:
            nodes.left(node, f"{first} is read elsewhere too")
        elif nodes.position(second) >= nodes.position(first):
            nodes.left(node, "both operands come from one node")
        else:
            nodes.put(maker, fused, gone=(node,))


def _with_residual(maker: Node, second: str, node: Node, add: Add, nodes: Nodes) -> Node | None:
    op = maker.op
    if not isinstance(op, (Conv, MatMul, Dense)):
        return None
    if op.activation is not None or (isinstance(op, Dense) and op.residual):
        nodes.left(node, f"something else is fused into {maker.name} already")
        return None
    if isinstance(op, Conv):
        new: FusedConv | Dense = FusedConv(replace(op, activation=add.activation), residual=True)
    else:
        new = Dense(add.activation, residual=True)
        w, x = nodes.constant(maker, 1), maker.inputs[0]
        # packed once for all plans: what follows from shapes alone differs from plan to plan
        if w is None or w.ndim != 2 or len(nodes.shape(x)) < 2 or not nodes.is_float32(x):
            return None  # of two matrices that are known only while it runs
    y = maker.outputs[0]
    if nodes.dtype(second) != nodes.dtype(y) or nodes.shape(second) != nodes.shape(y):
        nodes.left(node, f"the operands have different shapes, {nodes.shape(y)} and {nodes.shape(second)}")
        return None
    inputs = (*maker.inputs, *("",) * (3 - len(maker.inputs)), second)
    return maker.replace(op=new, inputs=inputs, outputs=node.outputs)
