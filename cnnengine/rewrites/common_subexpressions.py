"""common_subexpressions: equal operators on the same values are computed once, equal small constants kept once."""

from __future__ import annotations

from collections.abc import Hashable

from ..graph import Graph, Node
from .rewrite import substitute

SMALL = 1024
"""Bytes of constants that are compared."""


def common_subexpressions(graph: Graph) -> Graph:
    """Merge nodes with equal operators and inputs; those with graph outputs stay, so that every output has a maker."""
    same: dict[str, str] = {}
    values: dict[Hashable, str] = {}
    for name, value in graph.constants.items():
        if value.nbytes <= SMALL and value.dtype.kind != "O" and name not in graph.outputs:
            key: Hashable = (value.dtype, value.shape, value.tobytes())
            if values.setdefault(key, name) != name:
                same[name] = values[key]
    seen: dict[Hashable, Node] = {}
    for node in graph.nodes:
        inputs = node.inputs if same.keys().isdisjoint(node.inputs) else tuple(same.get(n, n) for n in node.inputs)
        try:
            key = (type(node.op), node.op, inputs, len(node.outputs))
            first = seen.setdefault(key, node)
        except TypeError:  # an operator with a field that cannot be hashed
            continue
        if first is node or any(o in graph.outputs for o in node.outputs):
            continue
        if any(o and not p for o, p in zip(node.outputs, first.outputs, strict=True)):
            continue
        same.update((o, p) for o, p in zip(node.outputs, first.outputs, strict=True) if o)
    return _merged(graph, same) if same else graph


def _merged(graph: Graph, same: dict[str, str]) -> Graph:
    graph = substitute(graph, same)
    return graph.replace(constants={n: v for n, v in graph.constants.items() if n not in same})
