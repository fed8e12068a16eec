"""bind_constants: constants that a subgraph reads from outside become its own, so that they are known where it is planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..graph import Graph, Node
from ..ops.control import Controlling
from .nodes import Nodes, rewrite


@rewrite(("If", "Loop", "Scan", "SequenceMap"))
def bind_constants(nodes: Nodes) -> None:
    """Move captured constants from the inputs of If, Loop, Scan and SequenceMap into their graphs."""
    for node in nodes.of("If", "Loop", "Scan", "SequenceMap"):
        if isinstance(node.op, Controlling):
            bound = _bound(node, node.op, nodes.constants)
            if bound is not node:
                nodes.put(node, bound)


def _bound(node: Node, op: Controlling, constants: Mapping[str, np.ndarray]) -> Node:
    own = op.own_inputs
    constant = [i >= own and name in constants for i, name in enumerate(node.inputs)]
    if not any(constant):
        return node
    bodies: dict[str, Any] = {}
    any_op: Any = op
    for field in op.graphs:
        body: Graph = getattr(op, field)
        before = len(node.inputs) - len(body.inputs)  # inputs of the node that this graph does not have: the condition of If
        values = {name: constants[node.inputs[i + before]] for i, name in enumerate(body.inputs) if constant[i + before]}
        kept = {name: spec for name, spec in body.inputs.items() if name not in values}
        bodies[field] = body.replace(inputs=kept, constants={**body.constants, **values})
    inputs = tuple(name for name, known in zip(node.inputs, constant, strict=True) if not known)
    return node.replace(op=replace(any_op, **bodies), inputs=inputs)
