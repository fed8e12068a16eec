"""fold_batchnorm: BatchNormalization after a convolution or Gemm goes into its weights and bias."""

from __future__ import annotations

import numpy as np

from ..graph import Graph
from .fold_scale import Folding, channels
from .rewrite import Uses, field_of, only_output


def fold_batchnorm(graph: Graph) -> Graph:
    """BatchNormalization at inference, with constant scale, bias, mean and variance, after Conv, ConvTranspose or Gemm."""
    uses = Uses(graph)
    fold = Folding(graph, uses)
    for node in graph.nodes:
        if node.op.op_type != "BatchNormalization" or not only_output(node) or field_of(node.op, "training_mode", 0):
            continue
        if field_of(node.op, "activation") is not None or not field_of(node.op, "spatial", 1):
            continue
        target = fold.target(node.inputs[0])
        values = [uses.constant(node, i) for i in range(1, 5)]
        if target is None or any(v is None for v in values):
            continue
        scale, bias, mean, var = (v.astype(np.float64) for v in values if v is not None)
        if scale.shape != (channels(target, uses)[0],) or any(v.shape != scale.shape for v in (bias, mean, var)):
            continue  # a wrong model: its own shape rule says so
        epsilon = float(field_of(node.op, "epsilon", 1e-5))  # type: ignore[arg-type]
        with np.errstate(all="ignore"):  # a variance below zero gives NaN, which apply refuses
            factor = scale / np.sqrt(var + epsilon)
            fold.apply(target, node, factor, bias - mean * factor)
    return fold.done()
