"""bind_constants: constants that a subgraph reads from outside become its own, so that they are known where it is planned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..graph import Graph, Node
from ..ops.control import Controlling


def bind_constants(graph: Graph) -> Graph:
    """Move captured constants from the inputs of If, Loop, Scan and SequenceMap into their graphs."""
    nodes = [_bound(node, node.op, graph) if isinstance(node.op, Controlling) else node for node in graph.nodes]
    return graph if all(a is b for a, b in zip(nodes, graph.nodes, strict=True)) else graph.replace(nodes=nodes)


def _bound(node: Node, op: Controlling, graph: Graph) -> Node:
    own = op.own_inputs
    constant = [i >= own and name in graph.constants for i, name in enumerate(node.inputs)]
    if not any(constant):
        return node
    bodies: dict[str, Any] = {}
    any_op: Any = op
    for field in op.graphs:
        body: Graph = getattr(op, field)
        before = len(node.inputs) - len(body.inputs)  # inputs of the node that this graph does not have: the condition of If
        values = {name: graph.constants[node.inputs[i + before]] for i, name in enumerate(body.inputs) if constant[i + before]}
        kept = {name: spec for name, spec in body.inputs.items() if name not in values}
        bodies[field] = body.replace(inputs=kept, constants={**body.constants, **values})
    inputs = tuple(name for name, known in zip(node.inputs, constant, strict=True) if not known)
    return node.replace(op=replace(any_op, **bodies), inputs=inputs)
