"""What rewrites share: replacing values and following constants."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np

from ..graph import Graph, Node
from ..operator import Operator
from ..ops.shape import Identity
from ..spec import MAX_RANK
from .nodes import Nodes

FLOAT32 = np.dtype(np.float32)
INT64 = np.dtype(np.int64)


class Uses:
    """Who makes and who reads each value of a graph, made once per pass."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.makers = graph.producers()
        self.readers = graph.consumers()

    def maker(self, name: str, *op_types: str) -> Node | None:
        """The node that makes a value, if it is one of these operators (any, when none are named)."""
        node = self.makers.get(name)
        return node if node is not None and (not op_types or node.op.op_type in op_types) else None

    def only_reader(self, name: str) -> Node | None:
        """The one node that reads a value, once; None when there are others, or when the value is a graph output."""
        readers = self.readers.get(name, ())
        return readers[0] if len(readers) == 1 and name not in self.graph.outputs else None

    def constant(self, node: Node, index: int) -> np.ndarray | None:
        """The constant that a node reads as input `index`, if it is there and one."""
        return self.graph.constants.get(node.inputs[index]) if index < len(node.inputs) else None


def only_output(node: Node) -> bool:
    """Whether the first output is the only one that the node has."""
    return not any(node.outputs[1:])


def fresh(graph: Graph, name: str, taken: Container[str] = ()) -> str:
    """A value name that the graph does not have."""
    known = graph.names()
    if name not in known and name not in taken:
        return name
    counts: dict[str, int] = graph.__dict__.setdefault("_fresh", {})  # so that n equal names take n steps
    count = counts.get(name, 2)
    while (candidate := f"{name}#{count}") in known or candidate in taken:
        count += 1
    counts[name] = count
    return candidate


def substitute(graph: Graph, same: Mapping[str, str]) -> Graph:
    """Read `same[name]` wherever `name` is read; the nodes that made the old values go when nothing else needs them.

    A graph output keeps its name: the maker of its new value takes the name over, or, where that value is a graph
    input, a constant or an output itself, an Identity passes it on.
    """
    if not same:
        return graph
    final: dict[str, str] = {}
    for name in same:
        chain = []
        while name in same and name not in final:
            chain.append(name)
            name = same[name]
        final.update(dict.fromkeys(chain, final.get(name, name)))
    renamed: dict[str, str] = {}
    passed_on: dict[str, str] = {}
    made = {o for n in graph.nodes for o in n.outputs if o}
    for name in graph.outputs:
        if name not in final:
            continue
        target = final[name]
        if target in made and target not in graph.outputs and target not in renamed:
            renamed[target] = name
        else:
            passed_on[name] = renamed.get(target, target)

    def read(name: str) -> str:
        name = final.get(name, name)
        return renamed.get(name, name)

    touched = final.keys() | renamed.keys()
    nodes = []
    for node in graph.nodes:
        if touched.isdisjoint(node.inputs) and touched.isdisjoint(node.outputs) and any(node.outputs):
            nodes.append(node)
            continue
        outputs = tuple("" if o in final else renamed.get(o, o) for o in node.outputs)
        if any(node.outputs) and not any(outputs):
            continue
        inputs = tuple(read(i) for i in node.inputs)
        same_node = inputs == node.inputs and outputs == node.outputs
        nodes.append(node if same_node else Node(node.op, inputs, outputs, node.name))
    nodes += [Node(Identity(), (read(t),), (o,), f"{o}/identity") for o, t in passed_on.items()]
    return graph.replace(nodes=nodes)


def replaced(graph: Graph, changes: Mapping[int, Sequence[Node]], constants: Mapping[str, np.ndarray] | None = None) -> Graph:
    """The graph with the nodes at these positions replaced by others (none: removed), and constants added."""
    if not changes and not constants:
        return graph
    nodes: list[Node] = []
    for i, node in enumerate(graph.nodes):
        nodes.extend(changes.get(i, (node,)))
    return graph.replace(nodes=nodes, constants={**graph.constants, **(constants or {})})


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
