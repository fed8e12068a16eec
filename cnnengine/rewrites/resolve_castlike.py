"""resolve_castlike: a CastLike whose target's dtype is known for all inputs is a Cast."""

from __future__ import annotations

from ..graph import Graph
from ..ops.common import code_of
from ..ops.shape import Cast, CastLike
from .facts import Fact, facts


def resolve_castlike(graph: Graph) -> Graph:
    """Name the dtype, so that the node no longer waits for the other value and constants behind it can fold."""
    known = facts(graph)
    nodes = []
    for node in graph.nodes:
        dtype = known.get(node.inputs[1], Fact()).dtype if isinstance(node.op, CastLike) else None
        if dtype is not None and code_of(dtype) is not None:
            assert isinstance(node.op, CastLike)
            node = node.replace(op=Cast(dtype, node.op.saturate, node.op.round_mode), inputs=node.inputs[:1])
        nodes.append(node)
    return graph if all(a is b for a, b in zip(nodes, graph.nodes, strict=True)) else graph.replace(nodes=nodes)
