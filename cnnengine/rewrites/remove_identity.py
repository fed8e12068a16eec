"""remove_identity: nodes that give their input as it is, or give it wherever dtype and rank make them do nothing, go."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.cast import Cast
from ..ops.extend import Pad
from ..ops.pieces import Concat
from ..ops.shape import Dropout, Identity, Reshape
from ..ops.transpose import Transpose
from .nodes import Nodes, rewrite

KINDS = ("Identity", "Dropout", "Cast", "Transpose", "Concat", "Reshape", "Pad")


@rewrite(KINDS)
def remove_identity(nodes: Nodes) -> None:
    """Drop Identity, Dropout, Cast to the same dtype, Transpose and Reshape that keep all axes, Concat of one, Pad by nothing."""
    same: dict[str, str] = {}
    roots: dict[str, str] = {}
    taken: set[str] = set()  # values whose names graph outputs take over
    for node in nodes.of(*KINDS):
        x, y = (node.inputs or ("",))[0], node.outputs[0]
        # old Dropouts name a mask that nobody reads
        if not x or not y or any(map(nodes.wanted, filter(None, node.outputs[1:]))) or not _is_identity(node, nodes):
            continue
        root = roots.get(x, x)
        if y in nodes.kept:
            if isinstance(node.op, Identity) and (nodes.maker(root) is None or root in nodes.kept or root in taken):
                continue  # its name cannot be taken over: the Identity would come back at once
            taken.add(root)
        same[y], roots[y] = x, root
    nodes.same(same)


def _is_identity(node: Node, nodes: Nodes) -> bool:
    op = node.op
    if isinstance(op, Identity):
        return True
    if isinstance(op, Dropout):
        mode = nodes.constant(node, 2)
        return len(node.inputs) < 3 or not node.inputs[2] or (mode is not None and not mode.any())
    if isinstance(op, Cast):
        dtype = nodes.dtype(node.inputs[0])
        return dtype is not None and dtype == op.to
    if isinstance(op, Transpose):
        rank = len(op.perm or ())
        return op.perm is not None and op.perm == tuple(range(rank)) and nodes.rank(node.inputs[0]) in (None, rank)
    if isinstance(op, Concat):
        return len(node.inputs) == 1
    if isinstance(op, Reshape):
        wanted = op.shape if op.shape is not None else nodes.constant(node, 1)
        if wanted is None or op.allowzero or nodes.rank(node.inputs[0]) != len(wanted):
            return False
        return all(int(d) == 0 for d in wanted)
    if isinstance(op, Pad):
        pads = op.pads if op.pads is not None else nodes.constant(node, 1)
        return pads is not None and not np.any(pads)
    return False
