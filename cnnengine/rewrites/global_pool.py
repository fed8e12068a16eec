"""global_pool: the mean or maximum over all spatial axes, written as ReduceMean or ReduceMax, is a global pooling."""

from __future__ import annotations

from ..graph import Graph, Node
from ..ops import lookup
from ..ops.shape import Flatten
from .facts import Fact, facts
from .rewrite import FLOAT32, Uses, axes_of, field_of, fresh

POOLS = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}


def global_pool(graph: Graph) -> Graph:
    """ReduceMean and ReduceMax of float32 (N, C, spatial...) over all spatial axes; without keepdims a Flatten follows."""
    uses, known = Uses(graph), facts(graph)
    nodes: list[Node] = []
    taken: set[str] = set()
    for node in graph.nodes:
        pool = POOLS.get(node.op.op_type)
        cls = lookup(pool) if pool is not None else None
        if cls is None or not _all_spatial(node, known.get(node.inputs[0], Fact()), uses):
            nodes.append(node)
            continue
        if field_of(node.op, "keepdims", 1):
            nodes.append(Node(cls(), node.inputs[:1], node.outputs[:1], node.name))
            continue
        middle = fresh(graph, f"{node.outputs[0]}/pooled", taken)
        taken.add(middle)
        nodes.append(Node(cls(), node.inputs[:1], (middle,), node.name))
        nodes.append(Node(Flatten(1), (middle,), node.outputs[:1], f"{node.name}/flatten"))
    changed = len(nodes) != len(graph.nodes) or any(a is not b for a, b in zip(nodes, graph.nodes, strict=True))
    return graph.replace(nodes=nodes) if changed else graph


def _all_spatial(node: Node, fact: Fact, uses: Uses) -> bool:
    if fact.rank is None or fact.rank < 3 or not fact.has_dtype(FLOAT32):
        return False
    axes = axes_of(node.op, uses.constant(node, 1), fact.rank)
    return axes is not None and sorted(axes) == list(range(2, fact.rank))
