"""Shapes and known values of a run of nodes, at concrete input shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from ..errors import CNNEngineError, InputError, ShapeError
from ..graph import Node
from ..limits import look
from ..ops.common import FAULTS
from ..spec import TensorSpec, check_size

KNOWN_LIMIT = 1 << 16
"""Elements up to which a value that follows from known values is computed while planning."""


@contextmanager
def located(node: Node, model: str | None = None) -> Iterator[None]:
    """Errors of the block tell where they happened; what is not a CNNEngineError becomes one."""
    try:
        yield
    except CNNEngineError as error:
        raise error.locate(model=model or None, node=node.name, operator=node.op.op_type) from None
    except FAULTS as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise InputError(
            f"cannot be computed ({type(error).__name__}: {reason})",
            model=model or None,
            node=node.name,
            operator=node.op.op_type,
        ) from error


def infer_nodes(nodes: Sequence[Node], specs: dict[str, TensorSpec], model: str) -> int:
    """Fill `specs` with the outputs of `nodes`, in order.

    Returns
    -------
    int
        How many nodes were inferred. When fewer than all, the last of them has an output whose shape depends on data; its
        outputs are not in `specs`.
    """
    for index, node in enumerate(nodes):
        look(model=model or None, node=node.name, operator=node.op.op_type)
        inputs = [specs[n] if n else None for n in node.inputs]
        depends = False
        try:
            outputs = _infer(node, inputs)
            for name, spec in zip(node.outputs, outputs, strict=False):
                if name and not spec.is_concrete:
                    depends = True
                elif name:
                    check_size(spec.concrete, spec.dtype, name)
        except (CNNEngineError, *FAULTS):
            with located(node, model):
                raise
        if depends or _loose(inputs, outputs):
            return index + 1
        for name, spec in zip(node.outputs, outputs, strict=False):
            if name:
                specs[name] = spec
    return len(nodes)


def _loose(inputs: Sequence[TensorSpec | None], outputs: Sequence[TensorSpec]) -> bool:
    """Whether a node must run on the host between plans, like one whose extents depend on data.

    Sequences, optional values and texts have no place in a plan's memory.
    """
    for s in (*inputs, *outputs):
        if s is not None and (not s.is_concrete or s.dtype.kind == "O"):
            return any(s.value is None for s in outputs)
    return False


def _infer(node: Node, inputs: list[TensorSpec | None]) -> list[TensorSpec]:
    outputs = node.op.specs(inputs)
    if len(outputs) < len(node.outputs) and len(outputs) < sum(1 for n in node.outputs if n):
        raise ShapeError("has more outputs than the operator gives", expected=len(outputs), received=len(node.outputs))
    for spec in inputs:  # nearly always an early end
        if spec is not None and spec.value is None:
            return outputs
    small = all(s.is_concrete and math.prod(s.concrete) <= KNOWN_LIMIT for s in outputs)
    if not inputs or not small or all(s.value is not None for s in outputs):
        return outputs
    values = node.op.evaluate(*[None if s is None else s.value for s in inputs])
    return [TensorSpec.of(np.asarray(v)) if not isinstance(v, list) else s for v, s in zip(values, outputs, strict=False)]
