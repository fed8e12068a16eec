"""sum_as_add: a float32 Sum is a chain of Adds, which merge with convolutions and activations."""

from __future__ import annotations

from ..graph import Graph, Node
from ..ops.elementwise import Add, Sum
from .facts import Fact, facts
from .rewrite import FLOAT32, fresh


def sum_as_add(graph: Graph) -> Graph:
    """From left to right, as Sum adds; a Sum of one value is left alone."""
    if not any(isinstance(node.op, Sum) for node in graph.nodes):
        return graph
    known = facts(graph)
    nodes: list[Node] = []
    taken: set[str] = set()
    for node in graph.nodes:
        if not isinstance(node.op, Sum) or len(node.inputs) < 2:
            nodes.append(node)
            continue
        if any(not known.get(name, Fact()).has_dtype(FLOAT32) for name in node.inputs):
            nodes.append(node)
            continue
        value = node.inputs[0]
        for index, name in enumerate(node.inputs[1:], 2):
            last = index == len(node.inputs)
            out = node.outputs[0] if last else fresh(graph, f"{node.outputs[0]} ({index} of {len(node.inputs)})", taken)
            taken.add(out)
            nodes.append(Node(Add(), (value, name), (out,), node.name))
            value = out
    changed = len(nodes) != len(graph.nodes) or any(a is not b for a, b in zip(nodes, graph.nodes, strict=True))
    return graph.replace(nodes=nodes) if changed else graph
