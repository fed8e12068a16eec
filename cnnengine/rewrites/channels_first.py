"""channels_first: what works on the last axis behind a Transpose to channels-last works on axis 1 before it.

A block of ConvNeXt goes to channels-last and back for the sake of its LayerNormalization and MatMuls. On channels-first values
these are a norm over axis 1 and 1x1 convolutions, which take biases, activations and residuals in; the transposes meet and
cancel. Here one Transpose moves behind one node at a time; the other passes do the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..graph import Graph, Node
from ..ops.activation import PRelu
from ..ops.conv import Conv
from ..ops.dense import MatMul
from ..ops.elementwise import Add, Div, Mul, Sub
from ..ops.fused import ChannelLayerNorm
from ..ops.norm import LayerNormalization
from ..ops.shape import Transpose
from .facts import Fact, facts
from .rewrite import FLOAT32, Uses, fresh, only_output, replaced


def channels_first(graph: Graph) -> Graph:
    """Move Transposes (N, C, spatial...) -> (N, spatial..., C) of float32 values of rank 4 and 5 behind the one node that reads
    them: LayerNormalization of the last axis, MatMul by constant weights, functions of single elements, PRelu, and
    arithmetic with constants per channel or with another such Transpose."""
    uses, known = Uses(graph), facts(graph)
    before: dict[str, tuple[str, int]] = {}
    changes: dict[int, list[Node]] = {}
    constants: dict[str, np.ndarray] = {}
    taken: set[str] = set()
    shared: dict[tuple[str, tuple[int, ...]], str] = {}

    def name_of(stem: str) -> str:
        name = fresh(graph, stem, taken)
        taken.add(name)
        return name

    def constant(stem: str, value: np.ndarray) -> str:
        found = shared.get((stem, value.shape))  # what many nodes read is packed once
        if found is None:
            found = shared[stem, value.shape] = name_of(stem)
            constants[found] = value  # a view, if need be of the file: packing reads it either way
        return found

    def source(name: str, node: Node) -> str | None:
        """What lies before the Transpose that makes a value read by this node alone."""
        return before[name][0] if name in before and uses.only_reader(name) is node else None

    for index, node in enumerate(graph.nodes):
        if isinstance(node.op, Transpose):
            fact = known.get(node.inputs[0], Fact())
            rank = fact.rank
            if rank in (4, 5) and fact.has_dtype(FLOAT32) and node.op.order(rank) == _last(rank):
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
        slopes = isinstance(node.op, PRelu) and not node.op.by_channel and at == 0 and node.inputs[1] in graph.constants
        if slopes or (isinstance(node.op, (Add, Sub, Mul, Div)) and node.op.axis is None):
            new = _arithmetic(node, at, x, rank, source, uses, constant)
        elif at != 0 or x is None:
            continue
        elif node.op.elementwise:
            if all(not n or (n in graph.constants and graph.constants[n].size == 1) for n in node.inputs[1:]):
                new = node.replace(inputs=(x, *node.inputs[1:]))
        elif isinstance(node.op, LayerNormalization):
            new = _layer_norm(node, node.op, x, rank, uses)
        elif isinstance(node.op, MatMul) and node.op.activation is None:
            w = uses.constant(node, 1)
            if w is not None and w.ndim == 2 and w.dtype == FLOAT32:
                weights = constant(f"{node.inputs[1]} (1x1)", w.T.reshape(*w.shape[::-1], *(1,) * (rank - 2)))
                bias = uses.constant(node, 2)
                if bias is not None:
                    vector = constant(f"{node.inputs[2]} (1x1)", bias.reshape(-1))
                    new = Node(Conv(), (x, weights, vector), node.outputs, node.name)
                elif not any(node.inputs[2:]):
                    new = Node(Conv(), (x, weights), node.outputs, node.name)
        if new is None:
            continue
        inner = name_of(f"{node.outputs[0]} (channels first)")
        changes[index] = [
            new.replace(outputs=(inner,)),
            Node(Transpose(_last(rank)), (inner,), node.outputs, f"{node.name}/transpose"),
        ]
        before[node.outputs[0]] = (inner, rank)
    return replaced(graph, changes, constants)


def _last(rank: int) -> tuple[int, ...]:
    return (0, *range(2, rank), 1)


def _layer_norm(node: Node, op: LayerNormalization, x: str, rank: int, uses: Uses) -> Node | None:
    if op.axis not in (-1, rank - 1) or any(op.outputs):
        return None
    lengths = set()
    for i in (1, 2):
        if i < len(node.inputs) and node.inputs[i]:
            value = uses.constant(node, i)
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
    uses: Uses,
    constant: Callable[[str, np.ndarray], str],
) -> Node | None:
    """The node on values before their Transposes; a constant along the last axis goes to axis 1."""
    if x is None or node.inputs[0] == node.inputs[1]:
        return None
    other = node.inputs[1 - at]
    value = uses.constant(node, 1 - at)
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
