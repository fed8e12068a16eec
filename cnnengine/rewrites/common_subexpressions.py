"""common_subexpressions: equal operators on the same values are computed once, equal small constants kept once."""

from __future__ import annotations

from collections.abc import Hashable

from ..graph import Node
from ..operator import Operator
from .nodes import Nodes, rewrite

SMALL = 1024
"""Bytes of constants that are compared."""


@rewrite()
def common_subexpressions(nodes: Nodes) -> None:
    """Merge nodes with equal operators and inputs; those with graph outputs stay, so that every output has a maker."""
    same: dict[str, str] = {}
    values: dict[Hashable, str] = {}
    for name, value in nodes.constants.items():
        if value.nbytes <= SMALL and value.dtype.kind != "O" and name not in nodes.kept:
            first = values.setdefault((value.dtype, value.shape, value.tobytes()), name)
            if first != name:
                same[name] = first
    seen: dict[Hashable, Node] = {}
    equal: dict[Hashable, dict[Operator, Node]] = {}
    for node in nodes:
        inputs = node.inputs if same.keys().isdisjoint(node.inputs) else tuple(same.get(n, n) for n in node.inputs)
        place = (type(node.op), inputs, len(node.outputs))
        alike = seen.setdefault(place, node)
        if alike is node:
            continue  # nearly always: operators are not compared
        try:
            found = equal.setdefault(place, {alike.op: alike}).setdefault(node.op, node)
        except TypeError:  # an operator with a field that cannot be hashed
            continue
        if found is node or any(o in nodes.kept for o in node.outputs):
            continue
        if any(o and not p for o, p in zip(node.outputs, found.outputs, strict=True)):
            continue
        same.update((o, p) for o, p in zip(node.outputs, found.outputs, strict=True) if o)
    nodes.same(same)
