"""Rewrites that need shapes: what a pass over the graph cannot decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..graph import Node, TensorSpec
from ..ops.conv import Conv, ConvChain

CHAIN_BYTES = 1 << 20
"""Hidden tensors of an image from this size on are not stored."""


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


def fuse_chains(nodes: Sequence[Node], specs: Mapping[str, TensorSpec], kept: set[str]) -> list[Node]:
    """1x1 Conv + depthwise Conv, and depthwise Conv + 1x1 Conv, where the tensor between them is large -> ConvChain.

    That tensor must be read by the second convolution alone.
    """
    users: dict[str, int] = {}
    for node in nodes:
        for name in (*node.inputs, *node.op.captures()):
            users[name] = users.get(name, 0) + 1
    made = {name: i for i, node in enumerate(nodes) for name in node.outputs if name}
    result: list[Node | None] = list(nodes)

    def before(name: str) -> int | None:
        """The node that makes `name`, if nobody else reads it and it is too large to be stored."""
        at = made.get(name)
        if at is None or users[name] != 1 or name in kept:
            return None
        return at if 4 * int(np.prod(specs[name].concrete[1:])) >= CHAIN_BYTES else None

    for index, node in enumerate(nodes):
        current = result[index]
        if current is None:
            continue
        if _is_depthwise(node, specs):
            at = before(node.inputs[0])
            if at is not None and result[at] is nodes[at] and _is_pointwise(nodes[at], specs) and _expands(nodes[at], specs):
                result[at] = None
                result[index] = _chain([nodes[at], node], expand=True, project=False)
    return [n for n in result if n is not None]


def _chain(convs: Sequence[Node], *, expand: bool, project: bool) -> Node:
    inputs = [convs[0].inputs[0]]
    for node in convs:
        inputs += [node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else ""]
    last = convs[-1]
    inputs += last.inputs[3:]
    return replace(last, op=ConvChain(tuple(n.op for n in convs), expand, project), inputs=tuple(inputs))  # type: ignore[misc]


def _known_conv(node: Node, specs: Mapping[str, TensorSpec]) -> bool:
    """A Conv over two spatial axes of float32 whose weights and bias are known."""
    return (
        isinstance(node.op, Conv)
        and all(not n or specs[n].value is not None for n in node.inputs[1:3])
        and len(specs[node.inputs[0]].concrete) == 4
        and specs[node.inputs[0]].dtype == np.float32
    )


def _is_pointwise(node: Node, specs: Mapping[str, TensorSpec]) -> bool:
    if not _known_conv(node, specs):
        return False
    x, w, y = (specs[n].concrete for n in (node.inputs[0], node.inputs[1], node.outputs[0]))
    return node.op.group == 1 and w[2:] == (1, 1) and x[2:] == y[2:] and max(node.op.strides, default=1) == 1  # type: ignore[attr-defined]


def _expands(node: Node, specs: Mapping[str, TensorSpec]) -> bool:
    """Whether a 1x1 convolution reads less than it writes, and whole blocks of channels."""
    return not node.op.residual and 8 <= specs[node.inputs[0]].concrete[1] < specs[node.outputs[0]].concrete[1]  # type: ignore[attr-defined]


def _is_depthwise(node: Node, specs: Mapping[str, TensorSpec]) -> bool:
    """One channel a group, no residual, and every row of padding met by the kernel together with a row of the plane."""
    if not _known_conv(node, specs) or node.op.residual:  # type: ignore[attr-defined]
        return False
    x, w, y = (specs[n].concrete for n in (node.inputs[0], node.inputs[1], node.outputs[0]))
    if not node.op.group == x[1] == w[0] > 1 or w[1] != 1 or 0 in y:  # type: ignore[attr-defined]
        return False
    window = node.op._window(w)  # type: ignore[attr-defined]
    _, begins, _ = window.resolve(x[2:])
    return bool(0 <= begins[0] < window.extent[0])
