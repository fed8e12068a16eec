"""fuse_channels: channel shuffles, and what takes channels of a value, are one operator that names the channels."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.fused import TakeChannels
from ..ops.gather import Gather
from ..ops.pieces import Concat, Slice, Split
from ..ops.shape import Reshape
from ..ops.transpose import Transpose
from .cuts import before, resolved_cut
from .nodes import Nodes, rewrite

Channels = list[tuple[str, int]]
"""For each channel of a value, a value that holds it and where."""


@rewrite(("Gather", "Split", "Slice", "Reshape"))
def fuse_channels(nodes: Nodes) -> None:
    """Channel shuffles, Gather along channels, and Split or Slice of one -> TakeChannels, of a Concat's inputs where it is one.

    A shuffle is Reshape (N, C, ...) -> (N, g, C / g, ...), Transpose of axes 1 and 2, and Reshape back.
    """
    changes: list[tuple[Node, list[Node]]] = []  # made when all are found: a piece is followed through the nodes before it
    for node in nodes.of("Gather", "Split", "Slice", "Reshape"):
        if isinstance(node.op, (Split, Slice)) and _shuffled(node.inputs[0], nodes) is None:
            continue
        takes = []
        for name in filter(None, node.outputs):
            found = _shuffled(name, nodes)
            if found is None:
                break
            sources = list(dict.fromkeys(source for source, _ in found))
            starts = dict(zip(sources, np.cumsum([0, *(nodes.shape(s)[1] for s in sources)]).tolist(), strict=False))
            take = TakeChannels(tuple(starts[source] + c for source, c in found))
            takes.append(Node(take, tuple(sources), (name,), node.name))
        else:
            changes.append((node, takes))
    for node, takes in changes:
        if node in nodes:
            nodes.put(node, *takes)


def _joined(name: str, nodes: Nodes) -> Channels:
    """The channels of a value; those of a Concat along channels are its inputs'."""
    node = nodes.maker(name)
    joined = node is not None and isinstance(node.op, Concat) and node.op.axis in (1, 1 - len(nodes.shape(name)))
    parts = node.inputs if node is not None and joined else (name,)
    if len(parts) > TakeChannels.MAX_INPUTS or not all(nodes.may_lie_in_planes(part) for part in parts):
        parts = (name,)
    return [(part, c) for part in parts for c in range(nodes.shape(part)[1])]


def _shuffled(name: str, nodes: Nodes) -> Channels | None:
    """The channels of a value that is a shuffle or a part of one, else None."""
    node = nodes.maker(name)
    if node is None or not isinstance(node.op, (Gather, Split, Slice, Reshape)) or not nodes.may_lie_in_planes(name):
        return None
    if not node.inputs or not node.inputs[0]:
        return None
    source = node.inputs[0]
    if isinstance(node.op, Gather):
        index = nodes.value(node.inputs[1])
        if node.op.axis not in (1, 1 - len(nodes.shape(name))) or not nodes.may_lie_in_planes(source):
            return None
        if index is None:
            nodes.left(node, "the positions are known only while it runs")
            return None
        if index.ndim != 1 or len(nodes.shape(source)) != len(nodes.shape(name)):
            return None
        channels, n = _joined(source, nodes), nodes.shape(source)[1]
        if index.min() < -n or index.max() >= n:
            return None  # the reference raises when it runs
        return [channels[int(c)] for c in index]
    if isinstance(node.op, (Split, Slice)):
        whole = _shuffled(source, nodes)
        part = None if whole is None else _range(node, name, nodes)
        return None if whole is None or part is None else whole[part[0] : part[1]]
    transpose = nodes.maker(source)
    first = nodes.maker(transpose.inputs[0]) if transpose is not None and isinstance(transpose.op, Transpose) else None
    if transpose is None or first is None or not isinstance(first.op, Reshape) or not nodes.may_lie_in_planes(first.inputs[0]):
        return None
    assert isinstance(transpose.op, Transpose)
    outside, inside = nodes.shape(first.inputs[0]), nodes.shape(first.outputs[0])
    if outside != nodes.shape(name) or len(inside) < 3 or inside[0] != outside[0] or inside[1] * inside[2] != outside[1]:
        return None
    if transpose.op.order(len(inside)) != (0, 2, 1, *range(3, len(inside))):
        return None
    channels = _joined(first.inputs[0], nodes)
    return [channels[i] for i in np.arange(outside[1]).reshape(inside[1:3]).T.reshape(-1).tolist()]


def _range(node: Node, name: str, nodes: Nodes) -> tuple[int, int] | None:
    """First channel and end of an output of a Split or Slice that cuts channels alone."""
    x, y = nodes.shape(node.inputs[0]), nodes.shape(name)
    rank = len(x)
    if isinstance(node.op, Split):
        if node.op.axis not in (1, 1 - rank):
            return None
        start = before(node, name, nodes, 1)
        return start, start + y[1]
    cut = resolved_cut(node, nodes)
    if cut is None:
        return None
    if any(part != (0, 1, n) for i, (part, n) in enumerate(zip(cut, x, strict=True)) if i != 1) or cut[1][1] != 1:
        return None
    return cut[1][0], cut[1][0] + cut[1][2]
