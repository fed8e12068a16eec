"""fold_constants: nodes that read constants alone are computed once, here."""

from __future__ import annotations

import math

import numpy as np

from ..errors import CNNEngineError
from ..graph import Graph, Node
from ..ops.common import FAULTS
from ..ops.control import waits
from ..spec import TensorSpec

FREE = 1 << 16
"""Bytes that a result may always have. Larger ones may have `Operator.growth` times the bytes of what they are made from."""


def fold_constants(graph: Graph) -> Graph:
    """Replace nodes whose inputs are all constants by their results; a node that fails stays, to fail with its name later."""
    constants = dict(graph.constants)
    nodes = []
    for node in graph.nodes:
        results = _results(node, constants)
        if results is None:
            nodes.append(node)
        else:
            constants.update((n, v) for n, v in zip(node.outputs, results, strict=False) if n)
    return graph if len(nodes) == len(graph.nodes) else graph.replace(nodes=nodes, constants=constants)


def _results(node: Node, constants: dict[str, np.ndarray]) -> list[np.ndarray] | None:
    for name in node.inputs:  # nearly always an early end
        if name and name not in constants:
            return None
    if not any(node.inputs) or waits(node.op):
        return None
    values = [constants[n] if n else None for n in node.inputs]
    limit = max(FREE, node.op.growth * sum(v.nbytes for v in values if v is not None))
    try:
        specs = node.op.infer([None if v is None else TensorSpec.of(v) for v in values])
        if any(s.is_concrete and math.prod(s.concrete) * s.dtype.itemsize > limit for s in specs):
            return None
        results = node.op.reference(*values)
    except (CNNEngineError, *FAULTS):
        return None
    if not all(isinstance(r, np.ndarray | np.generic) for r in results) or sum(r.nbytes for r in results) > limit:
        return None  # sequences stay values of the graph
    return [np.asarray(r) for r in results]
