"""remove_identity: nodes that give their input as it is, or give it wherever dtype and rank make them do nothing, go."""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node
from ..ops.shape import Cast, Concat, Dropout, Identity, Pad, Reshape, Transpose
from .facts import Fact, facts
from .rewrite import Uses, substitute


def remove_identity(graph: Graph) -> Graph:
    """Drop Identity, Dropout, Cast to the same dtype, Transpose and Reshape that keep all axes, Concat of one, Pad by nothing."""
    known, uses = facts(graph), Uses(graph)
    same: dict[str, str] = {}
    roots: dict[str, str] = {}
    taken: set[str] = set()
    """Values whose names graph outputs take over."""
    for node in graph.nodes:
        if (
            node.inputs
            and node.inputs[0]
            and node.outputs[0]
            and _one_output(graph, node, uses)
            and _is_identity(node, known, uses)
        ):
            root = roots.get(node.inputs[0], node.inputs[0])
            if node.outputs[0] in graph.outputs and isinstance(node.op, Identity) and not _can_rename(graph, root, uses, taken):
                continue
            same[node.outputs[0]] = node.inputs[0]
            roots[node.outputs[0]] = root
            if node.outputs[0] in graph.outputs:
                taken.add(root)
    return substitute(graph, same) if same else graph


def _one_output(graph: Graph, node: Node, uses: Uses) -> bool:
    """Whether nothing needs the node's other outputs (old Dropouts name a mask that nobody reads)."""
    return not any(o and (o in uses.readers or o in graph.outputs) for o in node.outputs[1:])


def _can_rename(graph: Graph, source: str, uses: Uses, taken: set[str]) -> bool:
    """Whether an output's Identity would not come back at once: its input is made by a node and is no output itself."""
    return source in uses.makers and source not in graph.outputs and source not in taken


def _is_identity(node: Node, known: dict[str, Fact], uses: Uses) -> bool:
    op, fact = node.op, known.get(node.inputs[0], Fact())
    if isinstance(op, Identity):
        return True
    if isinstance(op, Dropout):
        mode = uses.constant(node, 2)
        return len(node.inputs) < 3 or not node.inputs[2] or (mode is not None and not mode.any())
    if isinstance(op, Cast):
        return fact.has_dtype(op.to)
    if isinstance(op, Transpose):
        return op.perm is not None and op.perm == tuple(range(len(op.perm))) and fact.rank in (None, len(op.perm))
    if isinstance(op, Concat):
        return len(node.inputs) == 1
    if isinstance(op, Reshape):
        wanted = op.shape if op.shape is not None else uses.constant(node, 1)
        keeps = wanted is not None and not op.allowzero and fact.rank == len(wanted)
        return keeps and all(int(d) == 0 for d in wanted)  # type: ignore[union-attr]
    if isinstance(op, Pad):
        pads = op.pads if op.pads is not None else uses.constant(node, 1)
        return pads is not None and not np.any(pads)
    return False
