"""sum_as_add: a float32 Sum is a chain of Adds, which merge with convolutions and activations."""

from __future__ import annotations

from ..graph import Node
from ..ops.elementwise import Add
from .nodes import Nodes, rewrite


@rewrite(("Sum",))
def sum_as_add(nodes: Nodes) -> None:
    """From left to right, as Sum adds; a Sum of one value is left alone."""
    for node in nodes.of("Sum"):
        count = len(node.inputs)
        if count < 2:
            continue
        if not all(map(nodes.is_float32, node.inputs)):
            nodes.left(node, "a value is not known to be float32")
            continue
        value, adds = node.inputs[0], []
        for index, name in enumerate(node.inputs[1:], 2):
            out = node.outputs[0] if index == count else nodes.fresh(f"{node.outputs[0]} ({index} of {count})")
            adds.append(Node(Add(), (value, name), (out,), node.name))
            value = out
        nodes.put(node, *adds)
