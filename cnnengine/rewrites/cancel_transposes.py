"""cancel_transposes: a Transpose of a Transpose is one Transpose, or none."""

from __future__ import annotations

from ..ops.transpose import Transpose
from .nodes import Nodes, rewrite


@rewrite(("Transpose",))
def cancel_transposes(nodes: Nodes) -> None:
    """Compose the permutations; remove_identity drops what has become none."""
    for node in nodes.of("Transpose"):
        first = nodes.maker(node.inputs[0], "Transpose")
        if first is None or not isinstance(first.op, Transpose) or not isinstance(node.op, Transpose):
            continue
        a, b = first.op.perm, node.op.perm
        rank = len(a or b or ()) or nodes.rank(first.inputs[0])
        if not rank:
            nodes.left(node, "the rank is not known")
            continue
        a, b = first.op.order(rank), node.op.order(rank)
        nodes.put(node, node.replace(op=Transpose(tuple(a[p] for p in b)), inputs=first.inputs))
