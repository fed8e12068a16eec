"""run_host: one node on arrays, outside of a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..graph import Node
from .eager import by_kernels

RunNode = Callable[[Node, Sequence[Any], int, set[str] | None], list[Any]]
"""What runs a node: called as `run_host` is."""


def run_host(node: Node, inputs: Sequence[Any], threads: int, by_numpy: set[str] | None = None) -> list[Any]:
    """One node on arrays (or lists), by what there is: a compiled function, kernels for the node alone, its reference.

    The names of nodes that ran by their reference are added to `by_numpy`.
    """
    plain = all(a is None or isinstance(a, np.ndarray) for a in inputs)
    if plain and inputs:
        results = node.op.immediate(*[a if a is None or a.flags.c_contiguous else np.ascontiguousarray(a) for a in inputs])
        if results is not None:
            return results
    if plain and inputs and isinstance(inputs[0], np.ndarray) and inputs[0].dtype == np.float32 and node.op.domain == "":
        arrays = [None if a is None else np.ascontiguousarray(a).reshape(a.shape) for a in inputs]
        results = by_kernels(node.op, arrays, threads=threads)
        if results is not None:
            return results
    if by_numpy is not None:
        by_numpy.add(node.name)
    return node.op.evaluate(*inputs)


def settled(value: Any) -> Any:
    """A result as plans take it: arrays C-contiguous."""
    if isinstance(value, np.ndarray):
        return value if value.flags.c_contiguous else np.ascontiguousarray(value)
    return value if isinstance(value, list) or value is None else np.asarray(value)
