"""fuse_matmul: the Add of a constant bias behind a MatMul with constant weights is part of it; of a matrix, they are a Gemm."""

from __future__ import annotations

from ..graph import Graph, Node
from ..ops import lookup
from ..ops.fused import Dense
from .facts import Fact, facts
from .rewrite import FLOAT32, Uses, only_output, plain


def fuse_matmul(graph: Graph) -> Graph:
    """MatMul(x, w) + b -> Gemm(x, w, b) for x of rank 2, Dense(x, w, b) for higher ranks.

    x is float32, w a constant (K, N), b a constant of N elements along the last axis.
    """
    cls = lookup("Gemm")
    if cls is None:
        return graph
    uses, known = Uses(graph), facts(graph)
    gone: set[int] = set()
    changes: dict[int, Node] = {}
    for node in graph.nodes:
        if node.op.op_type != "MatMul":
            continue
        w = uses.constant(node, 1)
        add = uses.only_reader(node.outputs[0])
        fact = known.get(node.inputs[0], Fact())
        if w is None or w.ndim != 2 or len(node.inputs) > 2 or not fact.has_dtype(FLOAT32) or fact.rank is None or fact.rank < 2:
            continue
        if getattr(node.op, "activation", None) is not None:
            continue
        if add is None or add.op.op_type != "Add" or not only_output(add) or not plain(add):
            continue
        index = 1 - add.inputs.index(node.outputs[0])
        bias = uses.constant(add, index)
        if (
            bias is None
            or bias.dtype != FLOAT32
            or bias.shape[-1:] != w.shape[1:]
            or bias.size != w.shape[1]
            or bias.ndim > fact.rank
        ):
            continue
        gone.add(id(node))
        op = cls() if fact.rank == 2 else Dense()
        changes[id(add)] = Node(op, (*node.inputs, add.inputs[index]), add.outputs, node.name)
    if not changes:
        return graph
    return graph.replace(nodes=[changes.get(id(n), n) for n in graph.nodes if id(n) not in gone])
