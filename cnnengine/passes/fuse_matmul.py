"""fuse_matmul: MatMul of a matrix with constant weights, and the Add of a constant bias behind it, are a Gemm."""

from __future__ import annotations

from ..graph import Graph, Node
from ..ops import lookup
from .rewrite import FLOAT32, Fact, Uses, facts, only_output


def fuse_matmul(graph: Graph) -> Graph:
    """MatMul(x, w) + b -> Gemm(x, w, b), for float32 x of rank 2, constant w (K, N) and constant b (N,) or (1, N)."""
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
        if w is None or w.ndim != 2 or known.get(node.inputs[0]) != Fact(FLOAT32, 2):
            continue
        if add is None or add.op.op_type != "Add" or not only_output(add) or getattr(add.op, "activation", None) is not None:
            continue
        index = 1 - add.inputs.index(node.outputs[0])
        bias = uses.constant(add, index)
        if bias is None or bias.dtype != FLOAT32 or bias.shape not in ((w.shape[1],), (1, w.shape[1])):
            continue
        gone.add(id(node))
        changes[id(add)] = Node(cls(), (*node.inputs, add.inputs[index]), add.outputs, node.name)
    if not changes:
        return graph
    return graph.replace(nodes=[changes.get(id(n), n) for n in graph.nodes if id(n) not in gone])
