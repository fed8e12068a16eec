"""lower_precision: which layers compute with weights of fewer bits, where the caller asks for that."""

from __future__ import annotations

from typing import Any

from .._kernels import dispatch
from ..errors import InputError
from ..graph import Graph, Node
from ..ops.conv import Conv
from ..ops.dense import Gemm, MatMul
from ..weights import Half, Rounded
from .nodes import FLOAT32, Nodes

PRECISIONS = ("float32", "bfloat16")
"""What `load` takes as `precision`."""

MEMORY_BOUND = 1 << 20
"""Bytes of float32 weights from which a dense layer comes from memory at each run: smaller ones stay in the second-level cache,
where numbers of half the size gain nothing."""


def precision_option(value: Any) -> str:
    """What `load` was given for `precision`, checked.

    Raises
    ------
    InputError
        It is none of PRECISIONS.
    """
    if not isinstance(value, str) or value not in PRECISIONS:
        raise InputError(
            "unknown value", tensor="precision", expected=f"one of {', '.join(map(repr, PRECISIONS))}", received=value
        )
    return value


def lower_precision(graph: Graph, precision: str) -> tuple[Graph, tuple[str, ...], tuple[str, ...]]:
    """The graph, after all rewrites that need no shapes, with layers in this precision; the names of these layers; and those of
    convolutions that may get it once shapes are known.

    Layers are convolutions and products of matrices; all else stays as it is. So do the first ones, which read what the model is
    given, and the last ones, whose results nothing evens out. Of the others those are lowered that gain by it: dense layers of a
    matrix by weights of at least MEMORY_BOUND, which are rounded and kept in half the size; and convolutions, where the
    instruction set in use multiplies pairs of bfloat16 numbers (`lower_convolutions`). Sums are float32. It follows from the
    graph, the extents of an image and the instruction set: the batch changes no result.
    """
    if precision == "float32":
        return graph, (), ()
    nodes = Nodes.of_graph(graph)
    lowered: list[str] = []
    convolutions: list[str] = []
    for node in inner_layers(nodes):
        if dispatch.has_pairs() and _may_pair(node, nodes):
            convolutions.append(node.name)
        if not _gains(node, nodes):
            continue
        name = nodes.add(f"{node.inputs[1]}/{precision}", Rounded(nodes.constants[node.inputs[1]], precision))  # type: ignore[arg-type]
        nodes.put(node, node.replace(inputs=(node.inputs[0], name, *node.inputs[2:])))
        lowered.append(node.name)
    return nodes.graph(), tuple(lowered), tuple(convolutions)


def inner_layers(nodes: Nodes) -> list[Node]:
    """Convolutions and products of matrices that have others before and behind them."""
    layers = {id(node): node for node in nodes if node.op.multiply_adds((), ()) is None}
    after: set[str] = set()  # values that a layer has gone into
    later: set[int] = set()
    for node in nodes:
        behind = not after.isdisjoint(node.inputs)
        if behind:
            later.add(id(node))
        if behind or id(node) in layers:
            after.update(n for n in node.outputs if n)
    ahead: set[str] = set()  # values that go into a layer
    found: list[Node] = []
    for node in reversed(list(nodes)):
        before = not ahead.isdisjoint(node.outputs)
        if before and id(node) in layers and id(node) in later:
            found.append(node)
        if before or id(node) in layers:
            ahead.update(n for n in node.inputs if n)
    return found[::-1]


def _may_pair(node: Node, nodes: Nodes) -> bool:
    """Whether it is a convolution by float32 weights that the file has, of whole blocks of channels as far as that is known."""
    w: Any = nodes.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if not isinstance(node.op, Conv) or w is None or isinstance(w, Half) or w.dtype != FLOAT32:
        return False
    return bool(node.op.group == 1 or w.shape[1] > 1)


def _gains(node: Node, nodes: Nodes) -> bool:
    """Whether it is a dense layer whose weights come from memory."""
    w: Any = nodes.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if w is None or isinstance(w, Half) or w.dtype != FLOAT32 or w.ndim != 2 or w.nbytes < MEMORY_BOUND:
        return False
    if isinstance(node.op, Gemm):
        return node.op.alpha == 1 and not node.op.transA
    return isinstance(node.op, MatMul) and nodes.rank(node.inputs[0]) == 2
