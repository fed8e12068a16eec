"""inline_if: an If whose condition is a constant is its one branch."""

from __future__ import annotations

from ..graph import Graph, Node
from ..ops.control import If
from ..ops.shape import Identity
from .nodes import Nodes, rewrite


@rewrite(("If",))
def inline_if(nodes: Nodes) -> None:
    """Put the chosen branch's nodes in the place of the If, under names of their own."""
    for node in nodes.of("If"):
        condition = nodes.constant(node, 0)
        if not isinstance(node.op, If) or condition is None or condition.size != 1:
            nodes.left(node, "the condition is not constant")
            continue
        nodes.put(node, *_branch(node, node.op.branch(condition), nodes))


def _branch(node: Node, branch: Graph, nodes: Nodes) -> list[Node]:
    names = dict(zip(branch.inputs, node.inputs[1:], strict=True))
    made = dict.fromkeys(o for n in branch.nodes for o in n.outputs if o)
    tail = []
    for inner, outer in zip(branch.outputs, node.outputs, strict=True):
        if not outer:
            continue
        if inner in made and inner not in names:
            names[inner] = outer
        else:  # an outer value or a constant as it is, or one value as two outputs
            tail.append((inner, outer))

    for name, value in branch.constants.items():
        names[name] = nodes.add(f"{node.name}/{name}", value)
    for name in made:
        if name not in names:
            names[name] = nodes.fresh(f"{node.name}/{name}")
    body = [
        n.replace(
            inputs=tuple(names[i] if i else "" for i in n.inputs),
            outputs=tuple(names[o] if o else "" for o in n.outputs),
            name=f"{node.name}/{n.name}",
        )
        for n in branch.nodes
    ]
    return body + [Node(Identity(), (names[inner],), (outer,), f"{node.name}/{outer}") for inner, outer in tail]
