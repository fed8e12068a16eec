"""fold_beside_quantized: what reads constants alone is computed, but for the floats that quantised weights stand for.

The rewrites that compute with integers look for the DequantizeLinear of weights; what they leave becomes floats after them.
"""

from __future__ import annotations

from ..ops.quantized import DequantizeLinear
from .fold_constants import results_of
from .nodes import Nodes, rewrite


@rewrite()
def fold_beside_quantized(nodes: Nodes) -> None:
    """Replace nodes whose inputs are all constants by their results, DequantizeLinear excepted."""
    for node in nodes:
        results = None if isinstance(node.op, DequantizeLinear) else results_of(node, nodes)
        if results is not None:
            nodes.computed(node, {n: v for n, v in zip(node.outputs, results, strict=False) if n})
