"""cancel_transposes: a Transpose of a Transpose is one Transpose, or none."""

from __future__ import annotations

from ..graph import Graph
from ..ops.shape import Transpose
from .facts import Fact, facts
from .rewrite import Uses


def cancel_transposes(graph: Graph) -> Graph:
    """Compose the permutations; remove_identity drops what has become none, dead_code the first if nothing reads it."""
    uses, known = Uses(graph), facts(graph)
    nodes = []
    for node in graph.nodes:
        first = uses.maker(node.inputs[0], "Transpose") if isinstance(node.op, Transpose) else None
        if first is not None and isinstance(first.op, Transpose) and isinstance(node.op, Transpose):
            a, b = first.op.perm, node.op.perm
            rank = len(a or b or ()) or known.get(first.inputs[0], Fact()).rank
            if rank:
                a, b = first.op.order(rank), node.op.order(rank)
                node = node.replace(op=Transpose(tuple(a[p] for p in b)), inputs=first.inputs)
        nodes.append(node)
    return graph if all(a is b for a, b in zip(nodes, graph.nodes, strict=True)) else graph.replace(nodes=nodes)
