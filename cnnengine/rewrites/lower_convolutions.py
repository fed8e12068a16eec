"""lower_convolutions: which convolutions multiply numbers of bfloat16, once shapes are known and transforms are chosen."""

from __future__ import annotations

import math
from collections.abc import Collection

from ..graph import Node
from ..ops.conv_choice import PAIR_TIME, useful_regions
from ..ops.fused import FusedConv, RoundedConv, convolution
from ..ops.taps import tap_ranges
from .nodes import Nodes

CONV_RESIDUAL = 3
"""Input of a convolution that is added to its sums."""


def paired_outputs(nodes: Nodes, names: Collection[str], lanes: int) -> set[str]:
    """Outputs of the convolutions among these nodes, by name, that have a kernel of bfloat16 products and gain by it.

    Groups must be whole blocks of `lanes` channels, nothing scales the channels of x, and weights and bias are known. A kernel
    whose taps meet padding alone for most of the output is faster without these. One that gives a single pixel is no faster with
    them, and is mostly part of a gate: where that is next to closed, small errors of its sums are large ones of what passes.
    """
    return {node.outputs[0] for node in nodes.of("Conv") if node.name in names and _fits(node, nodes, lanes)}


def _fits(node: Node, nodes: Nodes, lanes: int) -> bool:
    conv = convolution(node.op)
    if conv is None or (isinstance(node.op, FusedConv) and node.op.gated):
        return False
    if any(n and nodes.value(n) is None for n in node.inputs[1:3]) or not nodes.is_float32(node.inputs[0]):
        return False
    x, w, y = (nodes.shape(n) for n in (node.inputs[0], node.inputs[1], node.outputs[0]))
    if not 3 <= len(x) <= 5 or 0 in (*x, *w, *y) or math.prod(y[2:]) == 1:
        return False
    if conv.group > 1 and (w[1] % lanes or w[0] // conv.group % lanes):
        return False
    window = conv.window(w)
    out, begins, _ = window.resolve(x[2:])
    ranges = tap_ranges(window, begins)
    regions = useful_regions(window, x[2:], out, ranges, math.prod(out) * math.prod(w))
    if regions is None:
        return True
    left = math.prod(sum(count * len(used) for _, count, used in axis) for axis in regions)
    return left > PAIR_TIME * math.prod(out) * math.prod(map(len, ranges))


def lower_convolutions(nodes: Nodes, chosen: Collection[str]) -> None:
    """Conv -> RoundedConv, of those that make these values.

    What only such convolutions read, as x or as the residual, is rounded where it is made; else each of them rounds its x.
    """
    makers = [node for node in nodes.of("Conv") if node.outputs[0] in chosen]
    readers = {id(node) for node in makers}
    rounded = {node.outputs[0] for node in makers if _rounds(node.outputs[0], nodes, readers)}
    for node in makers:
        conv, residual = convolution(node.op), isinstance(node.op, FusedConv) and node.op.residual
        assert conv is not None
        inputs = (*node.inputs, *("",) * (CONV_RESIDUAL - len(node.inputs)))
        nodes.put(node, node.replace(op=RoundedConv(conv, residual, node.outputs[0] in rounded), inputs=inputs))


def _rounds(name: str, nodes: Nodes, readers: Collection[int]) -> bool:
    """Whether such convolutions alone read a value, and not as their weights."""
    found = nodes.readers(name)
    return name not in nodes.kept and bool(found) and all(id(n) in readers and name not in n.inputs[1:3] for n in found)
