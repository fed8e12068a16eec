"""cut: a graph that begins at values in its middle, which become its inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import CNNEngineError, InputError, UnsupportedOperatorError
from ..graph import Graph, Node
from ..ops.control import Controlling
from ..plan.inference import infer_nodes
from ..rewrites.facts import facts
from ..spec import Dim, TensorSpec

SEQUENCES = ("SplitToSequence", "SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SequenceMap")
"""Operators whose outputs are lists of tensors."""

LISTED = 8
"""Names that an error lists."""


def cut(graph: Graph, names: Sequence[str]) -> Graph:
    """The graph with exactly these inputs, in this order; what only leads to them is left out.

    Parameters
    ----------
    graph : Graph
        As it is in the file, with the outputs that are wanted.
    names : sequence of str
        Values of the graph: its inputs, what nodes make, constants, which are then fed instead.

    Raises
    ------
    InputError
        A value that is not there, named twice or read by nothing that the outputs need; or a way from the file's inputs to the
        outputs that leads past all of them. `expected` names the values that it crosses the cut by.
    UnsupportedOperatorError
        What a value is, its element type or whether it is a tensor at all, does not follow from the graph.
    """
    makers = graph.producers()
    if not names:
        raise InputError("names no value", model=graph.name, tensor="inputs", expected="tensor names of the graph")
    for at, name in enumerate(names):
        if not name or name not in graph.names():
            raise graph.no_value(name)
        if name in names[:at]:
            raise InputError("is named twice", model=graph.name, tensor=name, expected="each input once")
    begun = set(names)
    nodes = _needed(graph, makers, begun)
    read = {n for node in nodes for n in node.inputs} | set(graph.outputs)
    for name in names:
        if name not in read and name not in graph.inputs:
            raise InputError(
                "no output depends on it", model=graph.name, tensor=name, expected=f"a value that leads to {_list(graph.outputs)}"
            )
    _closed(graph, nodes, names, read)
    specs = _specs(graph, names)
    taken = set(graph.names())
    kept = [_without(node, begun, taken) for node in nodes]
    constants = {n: v for n, v in graph.constants.items() if n in read and n not in begun}
    return graph.replace(inputs={n: specs[n] for n in names}, nodes=kept, constants=constants)


def _needed(graph: Graph, makers: Mapping[str, Node], begun: set[str]) -> list[Node]:
    """The nodes that the outputs need behind the cut, in order."""
    wanted, found = [n for n in graph.outputs if n not in begun], set()
    while wanted:
        node = makers.get(wanted.pop())
        if node is not None and id(node) not in found:
            found.add(id(node))
            wanted += [n for n in node.inputs if n and n not in begun]
    return [node for node in graph.nodes if id(node) in found]


def _closed(graph: Graph, nodes: Sequence[Node], names: Sequence[str], read: set[str]) -> None:
    """Raise InputError where the nodes read an input of the file that is not fed any more."""
    begun = set(names)
    missing = [n for n in graph.inputs if n in read and n not in begun]
    if not missing:
        return
    before, behind = set(missing), set(begun)  # what is computed of the file's inputs past the cut, and what of the cut
    for node in nodes:
        if not behind.isdisjoint(node.inputs):
            behind.update(node.outputs)
        elif not before.isdisjoint(node.inputs):
            before.update(n for n in node.outputs if n not in begun)
    crossing = [n for node in nodes if not behind.isdisjoint(node.inputs) for n in node.inputs if n in before and n not in behind]
    crossing += [n for n in graph.outputs if n in before and n not in behind]
    # a value that depends on both sides is not fed: what it reads of the far side is
    found = list(dict.fromkeys(crossing)) or missing
    raise InputError(
        "the outputs need more than is fed: what crosses the cut must be an input too",
        model=graph.name,
        tensor="inputs",
        expected=f"also {_list(found)}" + ("" if found == missing else f" (or {_list(missing)})"),
        received=_list(names),
    )


def _without(node: Node, begun: set[str], taken: set[str]) -> Node:
    """The node, with other names for those of its outputs that are fed now."""
    if begun.isdisjoint(node.outputs):
        return node
    outputs = []
    for name in node.outputs:
        fresh = name
        while fresh in taken and name in begun:
            fresh += "'"
        taken.add(fresh)
        outputs.append(fresh)
    return node.replace(outputs=tuple(outputs))


def _list(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - LISTED} more" if len(shown) > LISTED else ""
    return ", ".join(map(repr, shown[:LISTED])) + more


# ---------------------------------------------------------------- what the values are
def _specs(graph: Graph, names: Sequence[str]) -> dict[str, TensorSpec]:
    """What is known of the values: dtype, and extents where they are the same for any batch.

    The file's own notes on inner values are not asked: exporters leave those of another batch there.
    """
    found: dict[str, TensorSpec] = {}
    probes: list[dict[str, TensorSpec]] | None = None
    for name in names:
        if name in graph.inputs:
            found[name] = graph.inputs[name]
            continue
        if name in graph.constants:
            value = graph.constants[name]
            found[name] = TensorSpec(value.dtype, value.shape)
            continue
        probes = _probes(graph) if probes is None else probes
        found[name] = _spec(graph, name, probes)
    return found


def _spec(graph: Graph, name: str, probes: Sequence[Mapping[str, TensorSpec]]) -> TensorSpec:
    node = graph.producers()[name]
    fact = facts(graph).get(name)
    kind = _kind(graph, name)
    dtype = None if fact is None else fact.dtype
    shape: tuple[Dim, ...] | None = None if fact is None or fact.rank is None else (None,) * fact.rank
    seen = [probe[name] for probe in probes if name in probe]
    if kind != "tensor":
        shape = None
    elif seen and len(seen) == len(probes) and all(s.is_concrete for s in seen):
        dtype = seen[0].dtype
        shapes = [s.concrete for s in seen]
        if len({len(s) for s in shapes}) == 1:
            shape = tuple(extents[0] if len(set(extents)) == 1 else None for extents in zip(*shapes, strict=True))
        else:
            shape = None
    if dtype is None or kind not in ("tensor", "sequence"):
        raise UnsupportedOperatorError(
            "a network cannot begin at this value: its type does not follow from the graph",
            model=graph.name,
            node=node.name,
            operator=node.op.op_type,
            tensor=name,
            expected="a value whose element type is known",
        )
    return TensorSpec(np.dtype(dtype), shape, kind=kind)


def _kind(graph: Graph, name: str) -> str:
    """What a value is: a tensor, a sequence or an optional value."""
    node = graph.producers().get(name)
    if node is None:
        return graph.inputs[name].kind if name in graph.inputs else "tensor"
    if node.op.op_type in SEQUENCES:
        return "sequence"
    if node.op.op_type == "Optional":
        return "optional"
    if node.op.op_type == "Identity":
        return _kind(graph, node.inputs[0])
    if isinstance(node.op, Controlling):
        bodies: list[Any] = [getattr(node.op, field) for field in node.op.graphs]
        index = node.outputs.index(name) + (node.op.op_type == "Loop")
        kinds = {list(body.outputs.values())[index].kind for body in bodies}
        return kinds.pop() if len(kinds) == 1 else "optional"
    return "tensor"


def _probes(graph: Graph) -> list[dict[str, TensorSpec]]:
    """Specs of what follows from the shapes of the file's inputs, for a batch of 2 and of 3 where it is dynamic.

    None where more than the batch is dynamic, or the batch must be another one.
    """
    made: list[dict[str, TensorSpec]] = []
    for batch in (2, 3):
        specs = {name: TensorSpec.of(np.asarray(value)) for name, value in graph.constants.items()}
        for name, spec in graph.inputs.items():
            if spec.shape is None or spec.kind != "tensor":
                return []
            shape = tuple(batch if axis == 0 and not isinstance(d, int) else d for axis, d in enumerate(spec.shape))
            if not all(isinstance(d, int) for d in shape):
                return []
            specs[name] = TensorSpec(spec.dtype, shape)
        try:
            infer_nodes(graph.nodes, specs, graph.name)
        except CNNEngineError:
            return []
        made.append(specs)
    return made
