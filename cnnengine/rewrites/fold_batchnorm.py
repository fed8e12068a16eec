"""fold_batchnorm: BatchNormalization after a convolution or Gemm goes into its weights and bias."""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node
from .fold_scale import Folding, channels
from .rewrite import Uses, field_of, only_output


def fold_batchnorm(graph: Graph) -> Graph:
    """BatchNormalization at inference, with constant scale, bias, mean and variance, after Conv, ConvTranspose or Gemm."""
    uses = Uses(graph)
    fold = Folding(graph, uses)
    for node in graph.nodes:
        target = fold.target(node.inputs[0]) if node.op.op_type == "BatchNormalization" else None
        factors = None if target is None else scale_and_shift(node, uses, channels(target, uses)[0])
        if target is not None and factors is not None:
            fold.apply(target, node, *factors)
    return fold.done()


def scale_and_shift(node: Node, uses: Uses, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """What a BatchNormalization at inference multiplies each of `count` channels by and then adds, in float64, if constants say.

    A variance below zero gives NaN.
    """
    if not only_output(node) or field_of(node.op, "training_mode", 0) or field_of(node.op, "activation") is not None:
        return None
    values = [uses.constant(node, i) for i in range(1, 5)]
    if not field_of(node.op, "spatial", 1) or any(v is None for v in values):
        return None
    scale, bias, mean, var = (v.astype(np.float64) for v in values if v is not None)
    if scale.shape != (count,) or any(v.shape != scale.shape for v in (bias, mean, var)):
        return None  # a wrong model: its own shape rule says so
    epsilon = float(field_of(node.op, "epsilon", 1e-5))  # type: ignore[arg-type]
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(var + epsilon)
        return factor, bias - mean * factor
