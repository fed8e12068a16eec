"""dead_code: nodes and constants that no graph output needs go."""

from __future__ import annotations

from ..graph import Graph, Node


def dead_code(graph: Graph) -> Graph:
    """Keep the nodes and constants that graph outputs need."""
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.isdisjoint(node.outputs):
            continue
        kept.append(node)
        needed.update(node.reads())
        needed.discard("")
    constants = {n: v for n, v in graph.constants.items() if n in needed}
    if len(kept) == len(graph.nodes) and len(constants) == len(graph.constants):
        return graph
    return graph.replace(nodes=kept[::-1], constants=constants)
