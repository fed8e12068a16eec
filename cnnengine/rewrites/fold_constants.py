"""fold_constants: nodes that read constants alone are computed once, here."""

from __future__ import annotations

import math

import numpy as np

from ..errors import CNNEngineError, LimitError
from ..graph import Node
from ..limits import left, look, use
from ..ops.cast import HALVES, Cast
from ..ops.common import FAULTS
from ..ops.control import waits
from ..spec import TensorSpec
from ..weights import widened
from .nodes import FLOAT32, Nodes, rewrite

FREE = 1 << 16
"""Bytes that a result may always have. Larger ones may have `Operator.growth` times the bytes of what they are made from."""


@rewrite()
def fold_constants(nodes: Nodes) -> None:
    """Replace nodes whose inputs are all constants by their results; a node that fails stays, to fail with its name later."""
    for node in nodes:
        source = nodes.constant(node, 0)
        if isinstance(node.op, Cast) and node.op.to == FLOAT32 and source is not None and source.dtype.name in HALVES:
            nodes.computed(node, {node.outputs[0]: widened(source)})  # weights that a file has in half precision, to save room
            continue
        results = results_of(node, nodes)
        if results is not None:
            nodes.computed(node, {n: v for n, v in zip(node.outputs, results, strict=False) if n})


def results_of(node: Node, nodes: Nodes) -> list[np.ndarray] | None:
    """What a node gives, where its inputs are all constants and it may be computed while a model is loaded."""
    constants = nodes.constants
    for name in node.inputs:  # nearly always an early end
        if name and name not in constants:
            return None
    if not any(node.inputs) or waits(node.op):
        return None
    values = [constants[n] if n else None for n in node.inputs]
    limit = min(max(FREE, node.op.growth * sum(v.nbytes for v in values if v is not None)), left("total_bytes"))
    try:
        specs = node.op.specs([None if v is None else TensorSpec.of(v) for v in values])
        if any(s.is_concrete and math.prod(s.concrete) * s.dtype.itemsize > limit for s in specs):
            return None
        look(node=node.name, operator=node.op.op_type)
        results = node.op.evaluate(*values)
    except LimitError:
        raise
    except (CNNEngineError, *FAULTS):
        return None
    if not all(isinstance(r, np.ndarray | np.generic) for r in results):
        return None  # sequences stay values of the graph
    made = sum(r.nbytes for r in results)
    if made > limit:
        return None
    use("total_bytes", made, node=node.name, operator=node.op.op_type)
    return [np.asarray(r) for r in results]
