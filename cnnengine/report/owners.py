"""Which node a step serves: plans name nodes or values, layers are what both belong to."""

from __future__ import annotations

from ..graph import Node
from ..plan import Layer, Segment


def layers_of(segment: Segment) -> list[Layer]:
    """The layers of a segment, with the one that ends it."""
    tail = [] if segment.tail is None else [Layer(segment.tail.node, (), (None,) * len(segment.tail.node.outputs))]
    return [*segment.layers, *tail]


def owners_of(segment: Segment) -> dict[str, Node]:
    """Name of a node or of its values -> the node: plans name either."""
    owners: dict[str, Node] = {}
    for layer in layers_of(segment):
        owners.update((name, layer.node) for name in layer.node.outputs if name)
    owners.update((layer.node.name, layer.node) for layer in layers_of(segment))
    return owners
