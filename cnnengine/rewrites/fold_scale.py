"""fold_scale: constants per channel that are multiplied or added after a convolution or Gemm go into its weights and bias."""

from __future__ import annotations

from .nodes import Nodes, rewrite
from .per_channel import LINEAR, fold

KINDS = ("Mul", "Div", "Add", "Sub")


@rewrite(KINDS, LINEAR)
def fold_scale(nodes: Nodes) -> None:
    """Mul, Div, Add and Sub by constants per channel after Conv, ConvTranspose or Gemm, one after another."""
    for node in nodes.of(*KINDS):
        for index in (0, 1):
            if nodes.constant(node, index) is not None:
                fold(nodes, node, node.inputs[1 - index])
                break
