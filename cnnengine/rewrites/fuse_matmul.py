"""fuse_matmul: the Add of a constant bias behind a MatMul with constant weights is part of it; of a matrix, they are a Gemm."""

from __future__ import annotations

from ..graph import Node
from ..operator import Operator
from ..ops.dense import Gemm, MatMul
from ..ops.elementwise import Add
from ..ops.fused import Dense
from .nodes import FLOAT32, Nodes, rewrite


@rewrite(("MatMul",), ("Add",))
def fuse_matmul(nodes: Nodes) -> None:
    """MatMul(x, w) + b (+ activation) -> Gemm(x, w, b) for x of rank 2, Dense(x, w, b) for higher ranks.

    x is float32, w a constant (K, N), b a constant of N elements along the last axis.
    """
    for node in nodes.of("MatMul"):
        w = nodes.constant(node, 1)
        add = nodes.only_reader(node.outputs[0])
        if not isinstance(node.op, MatMul) or w is None or add is None or not isinstance(add.op, Add):
            continue
        x, index = node.inputs[0], 1 - add.inputs.index(node.outputs[0])
        bias, rank = nodes.constant(add, index), nodes.rank(x)
        if bias is None:
            continue  # the sum of two values: perhaps a residual
        if node.op != MatMul() or len(node.inputs) > 2:
            nodes.left(node, "something else is fused into it already")
        elif not nodes.is_float32(x) or bias.dtype != FLOAT32:
            nodes.left(node, "the values or the bias are not known to be float32")
        elif rank is None:
            nodes.left(node, "the rank is not known")
        elif rank < 2 or w.ndim != 2:
            nodes.left(node, "the weights are no matrix" if rank >= 2 else "x is a vector")
        elif add.op.axis is not None:
            nodes.left(node, "the bias is aligned at an axis, as before version 7")
        elif bias.shape[-1:] != w.shape[1:] or bias.size != w.shape[1] or bias.ndim > rank:
            nodes.left(node, f"a constant of shape {bias.shape} is not one number for each of {w.shape[1]} columns")
        else:
            # scales behind a Gemm go into its weights; where shapes are known, that is done, and a residual may go into a Dense
            matrix = rank == 2 and nodes.specs is None
            op: Operator = Gemm(activation=add.op.activation) if matrix else Dense(add.op.activation)
            nodes.put(add, Node(op, (*node.inputs, add.inputs[index]), add.outputs, node.name))
