"""What rewrites ask of nodes and their constants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..graph import Node
from ..operator import Operator
from ..spec import MAX_RANK
from .nodes import Nodes


def only_output(node: Node) -> bool:
    """Whether the first output is the only one that the node has."""
    return not any(node.outputs[1:])


def scalar_of(value: np.ndarray | None, rank: int | None = None) -> float | None:
    """The number that a one-element constant is, unless its rank would widen a value of rank `rank`; None is not known."""
    if value is None or value.size != 1 or value.dtype.kind != "f" or value.ndim > (rank or 0):
        return None
    return float(value.reshape(-1)[0])


def field_of(op: Operator, name: str, default: object = None) -> object:
    """A field of an operator, or `default` where its class has none of that name."""
    return getattr(op, name, default)


def axes_of(op: Operator, given: np.ndarray | None, rank: int | None) -> tuple[int, ...] | None:
    """The axes that a reduction names, by its attribute or constant input, from 0 on where the rank is known; None where they
    are not known, none, or no axes of this rank."""
    named = field_of(op, "axes")
    if given is not None and given.size > MAX_RANK:
        return None
    axes = tuple(int(a) for a in (given.reshape(-1) if named is None and given is not None else named or ()))  # type: ignore[attr-defined]
    if rank is not None:
        if any(not -rank <= a < rank for a in axes):
            return None
        axes = tuple(a % rank for a in axes)
    return axes if axes and len(set(axes)) == len(axes) else None


def plain(node: Node) -> bool:
    """Whether nothing is fused into the node, and its second input is aligned at the last axis."""
    return getattr(node.op, "activation", None) is None and getattr(node.op, "axis", None) is None


def bounds(node: Node, nodes: Nodes) -> tuple[float, float] | None:
    """Between what a Clip keeps its input, infinite where nothing says; None where that is known only while it runs."""
    found = []
    for index, name, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        value: Any = field_of(node.op, name)
        if value is None and index < len(node.inputs) and node.inputs[index]:
            value = scalar_of(nodes.constant(node, index), 1)
            if value is None:
                return None
        found.append(default if value is None else float(value))
    return found[0], found[1]
