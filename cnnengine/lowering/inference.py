"""Shapes and known values of a run of nodes, at concrete input shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import CNNEngineError, ShapeError
from ..graph import Node, TensorSpec

KNOWN_LIMIT = 1 << 16
"""Elements up to which a value that follows from known values is computed while planning."""


def infer_nodes(nodes: Sequence[Node], specs: dict[str, TensorSpec], model: str) -> int:
    """Fill `specs` with the outputs of `nodes`, in order.

    Returns
    -------
    int
        How many nodes were inferred. When fewer than all, the last of them has an output whose shape depends on data; its
        outputs are not in `specs`.
    """
    for index, node in enumerate(nodes):
        inputs = [specs[n] if n else None for n in node.inputs]
        try:
            outputs = _infer(node, inputs)
        except CNNEngineError as error:
            raise error.locate(model=model or None, node=node.name, operator=node.op.op_type) from None
        if any(name and not spec.is_concrete for name, spec in zip(node.outputs, outputs, strict=False)):
            return index + 1
        specs.update((name, spec) for name, spec in zip(node.outputs, outputs, strict=False) if name)
    return len(nodes)


def _infer(node: Node, inputs: list[TensorSpec | None]) -> list[TensorSpec]:
    outputs = node.op.infer(inputs)
    if len(outputs) < sum(1 for n in node.outputs if n):
        raise ShapeError("has more outputs than the operator gives", expected=len(outputs), received=len(node.outputs))
    known = all(s is None or s.value is not None for s in inputs)
    small = all(s.is_concrete and int(np.prod(s.concrete, dtype=np.int64)) <= KNOWN_LIMIT for s in outputs)
    if not known or not inputs or not small or all(s.value is not None for s in outputs):
        return outputs
    values = node.op.reference(*[None if s is None else s.value for s in inputs])
    return [TensorSpec.of(np.asarray(v)) if not isinstance(v, list) else s for v, s in zip(values, outputs, strict=False)]
