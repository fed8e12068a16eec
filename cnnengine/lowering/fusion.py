"""Rewrites that need shapes: what a pass over the graph cannot decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..graph import Node, TensorSpec
from ..ops.conv import Conv


def fuse_residuals(nodes: Sequence[Node], specs: Mapping[str, TensorSpec], kept: set[str]) -> list[Node]:
    """Conv + Add of a tensor of the same shape (+ activation) -> Conv with a residual input.

    The convolution must be read by the Add alone and the other operand must exist before the convolution runs.
    """
    users: dict[str, int] = {}
    for node in nodes:
        for name in (*node.inputs, *node.op.captures()):
            users[name] = users.get(name, 0) + 1
    made = {name: i for i, node in enumerate(nodes) for name in node.outputs if name}
    result: list[Node | None] = list(nodes)
    for index, node in enumerate(nodes):
        if node.op.op_type != "Add" or len(node.inputs) != 2 or node.inputs[0] == node.inputs[1]:
            continue
        # prefer the operand that is made last: the other one then exists
        first, second = sorted(node.inputs, key=lambda n: made.get(n, -1), reverse=True)
        at = made.get(first, -1)
        conv = result[at] if at >= 0 else None
        if conv is None or not isinstance(conv.op, Conv) or conv.op.residual or conv.op.activation is not None:
            continue
        if users[first] != 1 or first in kept or made.get(second, -1) >= at:
            continue
        if specs[first].shape != specs[second].shape or specs[second].dtype != specs[first].dtype:
            continue
        op = replace(conv.op, residual=True, activation=getattr(node.op, "activation", None))
        inputs = (*conv.inputs, *("",) * (3 - len(conv.inputs)), second)
        result[index] = None
        result[at] = replace(conv, op=op, inputs=inputs, outputs=node.outputs)
        made[node.outputs[0]] = at
    return [n for n in result if n is not None]
