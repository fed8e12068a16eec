"""Where the pieces of Split and Slice lie in what they cut, at known shapes."""

from __future__ import annotations

from ..graph import Node, output_specs
from ..ops.pieces import Slice, Split
from .nodes import Nodes


def resolved_cut(node: Node, nodes: Nodes) -> list[tuple[int, int, int]] | None:
    """(start, step, count) of a Slice along each axis; None where its numbers are known only while it runs."""
    assert isinstance(node.op, Slice)
    values: list[tuple[int, ...] | None] = [node.op.starts, node.op.ends, node.op.axes, None]
    for index, tensor in enumerate(node.inputs[1:]):
        if tensor:
            known = nodes.value(tensor)
            if known is None:
                return None
            values[index] = tuple(int(v) for v in known.reshape(-1))
    starts, ends, axes, steps = values
    if starts is None or ends is None:
        return None
    return node.op.resolve(nodes.shape(node.inputs[0]), starts, ends, axes, steps)


def before(node: Node, name: str, nodes: Nodes, axis: int) -> int:
    """Extent, along the axis, of the pieces of a Split before one of its outputs; some of them may be absent."""
    return sum(spec.concrete[axis] for spec in output_specs(node, nodes.known())[: node.outputs.index(name)])


def starts(node: Node, name: str, nodes: Nodes) -> list[int] | None:
    """Where an output of a Split, or of a Slice of step 1, starts in the input, per axis."""
    x = nodes.shape(node.inputs[0])
    if isinstance(node.op, Split):
        found, axis = [0] * len(x), node.op.axis % len(x)
        found[axis] = before(node, name, nodes, axis)
        return found
    cut = resolved_cut(node, nodes)
    if cut is None:
        return None
    return [start for start, _, _ in cut] if all(step == 1 for _, step, _ in cut) else None
