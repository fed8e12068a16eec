"""merge_activation: an activation that alone reads a node's result is computed where that node stores it."""

from __future__ import annotations

import dataclasses

from ..graph import Graph, Node
from .facts import Fact, facts, specs_of
from .rewrite import FLOAT32, Uses, only_output


def merge_activation(graph: Graph) -> Graph:
    """Set the `activation` field of float32 nodes that have one, and let them make the activation's value."""
    uses, known = Uses(graph), facts(graph)
    merged: dict[int, Node] = {}
    gone: set[int] = set()
    for node in graph.nodes:
        host = uses.maker(node.inputs[0]) if node.inputs and only_output(node) else None
        if host is None or id(host) in merged or not hasattr(host.op, "activation") or host.op.activation is not None:
            continue
        if (
            uses.only_reader(node.inputs[0]) is not node
            or not only_output(host)
            or not known.get(node.inputs[0], Fact()).has_dtype(FLOAT32)
        ):
            continue
        rank = known[node.inputs[0]].rank
        if node.op.light >= 0 and (rank is None or rank <= host.op.light):
            continue  # both run at once behind a data-dependent extent, which is no work for a plan
        activation = node.op.as_activation(specs_of(node, known, graph.constants))
        if activation is None:
            continue
        merged[id(host)] = host.replace(op=dataclasses.replace(host.op, activation=activation), outputs=node.outputs)  # type: ignore[type-var]
        gone.add(id(node))
    if not gone:
        return graph
    return graph.replace(nodes=[merged.get(id(n), n) for n in graph.nodes if id(n) not in gone])
