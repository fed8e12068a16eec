"""fold_batchnorm: BatchNormalization after a convolution or Gemm goes into its weights and bias."""

from __future__ import annotations

from .nodes import Nodes, rewrite
from .per_channel import LINEAR, fold


@rewrite(("BatchNormalization",), LINEAR)
def fold_batchnorm(nodes: Nodes) -> None:
    """BatchNormalization at inference, with constant scale, bias, mean and variance, after Conv, ConvTranspose or Gemm."""
    for node in nodes.of("BatchNormalization"):
        fold(nodes, node, node.inputs[0])
