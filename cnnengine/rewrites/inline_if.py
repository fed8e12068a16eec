"""inline_if: an If whose condition is a constant is its one branch."""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node
from ..ops.control import If
from ..ops.shape import Identity


def inline_if(graph: Graph) -> Graph:
    """Put the chosen branch's nodes in the place of the If, under names of their own."""
    constants = dict(graph.constants)
    taken = {*graph.inputs, *graph.constants, *(o for n in graph.nodes for o in n.outputs)}
    nodes: list[Node] = []
    for node in graph.nodes:
        condition = graph.constants.get(node.inputs[0]) if isinstance(node.op, If) else None
        if condition is None or condition.size != 1:
            nodes.append(node)
            continue
        assert isinstance(node.op, If)
        nodes += _branch(node, node.op.branch(condition), constants, taken)
    return graph if len(nodes) == len(graph.nodes) and nodes == graph.nodes else graph.replace(nodes=nodes, constants=constants)


def _branch(node: Node, branch: Graph, constants: dict[str, np.ndarray], taken: set[str]) -> list[Node]:
    names = dict(zip(branch.inputs, node.inputs[1:], strict=True))
    made = {o for n in branch.nodes for o in n.outputs if o}
    tail = []
    for inner, outer in zip(branch.outputs, node.outputs, strict=True):
        if not outer:
            continue
        if inner in made and inner not in names:
            names[inner] = outer
        else:  # an outer value or a constant as it is, or one value as two outputs
            tail.append((inner, outer))

    def unique(name: str) -> str:
        candidate, count = f"{node.name}/{name}", 1
        while candidate in taken:
            count += 1
            candidate = f"{node.name}/{name}#{count}"
        taken.add(candidate)
        return candidate

    for name, value in branch.constants.items():
        names[name] = unique(name)
        constants[names[name]] = value
    for name in made:
        if name not in names:
            names[name] = unique(name)
    body = [
        n.replace(
            inputs=tuple(names[i] if i else "" for i in n.inputs),
            outputs=tuple(names[o] if o else "" for o in n.outputs),
            name=f"{node.name}/{n.name}",
        )
        for n in branch.nodes
    ]
    return body + [Node(Identity(), (names[inner],), (outer,), f"{node.name}/{outer}") for inner, outer in tail]
