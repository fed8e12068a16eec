"""channels_first: what works on the last axis behind a Transpose to channels-last works on axis 1 before it.

A block of ConvNeXt goes to channels-last and back for the sake of its LayerNormalization and MatMuls. On channels-first values
these are a norm over axis 1 and 1x1 convolutions, which take biases, activations and residuals in; the transposes meet and
cancel. Here one Transpose moves behind one node at a time; the other rewrites do the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..graph import Node
from ..ops.activation import PRelu
from ..ops.conv import Conv
from ..ops.dense import MatMul
from ..ops.elementwise import Add, Div, Mul, Sub
from ..ops.fused import ChannelLayerNorm, Dense
from ..ops.norm import LayerNormalization
from ..ops.transpose import Transpose
from .common import only_output
from .nodes import FLOAT32, Nodes, rewrite


@rewrite(("Transpose",))
def channels_first(nodes: Nodes) -> None:
    """Move Transposes (N, C, spatial...) -> (N, spatial..., C) of float32 values of rank 4 and 5 behind the one node that reads
    them: LayerNormalization of the last axis, MatMul by constant weights, functions of single elements, PRelu, and
    arithmetic with constants per channel or with another such Transpose."""
    before: dict[str, tuple[str, int]] = {}
    shared: dict[tuple[str, tuple[int, ...]], str] = {}

    def constant(stem: str, value: np.ndarray) -> str:
        found = shared.get((stem, value.shape))  # what many nodes read is packed once
        if found is None:
            # a view, if need be of the file: packing reads it either way
            found = shared[stem, value.shape] = nodes.add(stem, value)
        return found

    def source(name: str, node: Node) -> str | None:
        """What lies before the Transpose that makes a value read by this node alone."""
        return before[name][0] if name in before and nodes.only_reader(name) is node else None

    for node in nodes:
        if isinstance(node.op, Transpose):
            rank = nodes.rank(node.inputs[0])
            if rank in (4, 5) and nodes.is_float32(node.inputs[0]) and node.op.order(rank) == _last(rank):
                before[node.outputs[0]] = (node.inputs[0], rank)
            continue
        if not node.inputs or not only_output(node):
            continue
        at = next((i for i, name in enumerate(node.inputs) if name in before), -1)
        if at < 0:
            continue
        rank = before[node.inputs[at]][1]
        new = None
        x = source(node.inputs[at], node)
        slopes = isinstance(node.op, PRelu) and not node.op.by_channel and at == 0 and node.inputs[1] in nodes.constants
        if slopes or (isinstance(node.op, (Add, Sub, Mul, Div)) and node.op.axis is None):
            new = _arithmetic(node, at, x, rank, source, nodes, constant)
        elif at != 0 or x is None:
            nodes.left(
                node, "what lies behind the Transpose is read elsewhere too" if x is None else "it is not the first operand"
            )
            continue
        elif node.op.elementwise:
            if all(not n or (n in nodes.constants and nodes.constants[n].size == 1) for n in node.inputs[1:]):
                new = node.replace(inputs=(x, *node.inputs[1:]))
        elif isinstance(node.op, LayerNormalization):
            new = _layer_norm(node, node.op, x, rank, nodes)
        elif isinstance(node.op, (MatMul, Dense)) and node.op.activation is None:
            w = nodes.constant(node, 1)
            if w is not None and w.ndim == 2 and w.dtype == FLOAT32:
                weights = constant(f"{node.inputs[1]} (1x1)", w.T.reshape(*w.shape[::-1], *(1,) * (rank - 2)))
                bias = nodes.constant(node, 2)
                if bias is not None:
                    vector = constant(f"{node.inputs[2]} (1x1)", bias.reshape(-1))
                    new = Node(Conv(), (x, weights, vector), node.outputs, node.name)
                elif not any(node.inputs[2:]):
                    new = Node(Conv(), (x, weights), node.outputs, node.name)
        if new is None:
            nodes.left(node, f"it does not work on axis 1 of values of {rank} axes as on the last one")
            continue
        inner = nodes.fresh(f"{node.outputs[0]} (channels first)")
        turned = Node(Transpose(_last(rank)), (inner,), node.outputs, f"{node.name}/transpose")
        before[node.outputs[0]] = (inner, rank)
        nodes.put(node, new.replace(outputs=(inner,)), turned)


def _last(rank: int) -> tuple[int, ...]:
    return (0, *range(2, rank), 1)


def _layer_norm(node: Node, op: LayerNormalization, x: str, rank: int, nodes: Nodes) -> Node | None:
    if op.axis not in (-1, rank - 1) or any(op.outputs):
        return None
    lengths = set()
    for i in (1, 2):
        if i < len(node.inputs) and node.inputs[i]:
            value = nodes.constant(node, i)
            if value is None or value.ndim != 1 or value.size < 2 or value.dtype != FLOAT32:
                return None
            lengths.add(value.size)
    if len(lengths) > 1:
        return None
    return Node(ChannelLayerNorm(op.epsilon, op.expands), (x, *node.inputs[1:]), node.outputs, node.name)


def _arithmetic(
    node: Node,
    at: int,
    x: str | None,
    rank: int,
    source: Callable[[str, Node], str | None],
    nodes: Nodes,
    constant: Callable[[str, np.ndarray], str],
) -> Node | None:
    """The node on values before their Transposes; a constant along the last axis goes to axis 1."""
    if x is None or node.inputs[0] == node.inputs[1]:
        return None
    other = node.inputs[1 - at]
    value = nodes.constant(node, 1 - at)
    if value is None:
        y = source(other, node)
    elif value.size == 1 and value.ndim <= rank:
        y = other
    elif value.ndim <= rank and value.size == value.shape[-1]:
        y = constant(f"{other} (channels first)", value.reshape(-1, *(1,) * (rank - 2)))
    else:
        y = None
    if y is None:
        return None
    return node.replace(inputs=(x, y) if at == 0 else (y, x))
