"""The graph between importer and planning: values by name, nodes that hold operators.

A `Graph` knows neither ONNX protobufs nor kernels. Every rewrite maps a Graph to a Graph, and every Graph can be run
by `Graph.evaluate` with the operators' plain NumPy references, so that a rewrite is tested as before == after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .arguments import meant, nearest
from .errors import InputError, ModelError
from .operator import Operator
from .spec import TensorSpec


@dataclass(frozen=True, eq=False)
class Node:
    """One operator with the names of its values; an empty input name means "absent". What graphs inside of it read are inputs."""

    op: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    name: str = ""

    def __init__(self, op: Operator, inputs: tuple[str, ...], outputs: tuple[str, ...], name: str = "") -> None:
        fields = self.__dict__
        fields["op"] = op
        fields["inputs"] = inputs
        fields["outputs"] = outputs
        fields["name"] = name

    def replace(self, **changes: object) -> Node:
        return replace(self, **changes)  # type: ignore[arg-type]


def output_specs(node: Node, specs: Mapping[str, TensorSpec]) -> list[TensorSpec]:
    """Specs of all outputs of a node whose named ones are in `specs`: kernels may have to compute what nobody asked for."""
    if all(node.outputs):
        return [specs[name] for name in node.outputs]
    made = node.op.specs([specs[name] if name else None for name in node.inputs])
    nothing = TensorSpec(np.dtype(np.float32), ())  # of an output that the operator does not give in this form
    made += [nothing] * (len(node.outputs) - len(made))
    return [specs[name] if name else spec for name, spec in zip(node.outputs, made, strict=False)]


@dataclass(eq=False)
class Graph:
    """Nodes in topological order, constants by name (arrays, or `Computed` ones), inputs and outputs.

    Passes never change a Graph in place: they build another one (`replace`), sharing the arrays.
    """

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    nodes: list[Node]
    constants: dict[str, np.ndarray]
    name: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    _producers: dict[str, Node] | None = field(default=None, init=False, repr=False)
    _names: frozenset[str] | None = field(default=None, init=False, repr=False)

    def replace(self, **changes: object) -> Graph:
        return replace(self, **changes)  # type: ignore[arg-type]

    def producers(self) -> dict[str, Node]:
        """Value name -> the node that makes it; made once, not to be changed."""
        if self._producers is None:
            self._producers = {name: node for node in self.nodes for name in node.outputs if name}
        return self._producers

    def names(self) -> frozenset[str]:
        """The names of all values; made once."""
        if self._names is None:
            self._names = frozenset(self.inputs).union(self.constants, *[node.outputs for node in self.nodes])
        return self._names

    def no_value(self, name: str, what: str = "a tensor name of the graph", others: Iterable[str] = ()) -> InputError:
        """The error for a name that no value has; `expected` has what a node of that name makes, or the names like it.

        Parameters
        ----------
        name : str
        what : str
            What the name was to stand for.
        others : iterable of str
            Names that would have been taken too.
        """
        made = [o for node in self.nodes if node.name == name for o in node.outputs if o]
        said = "no such value in the model"
        if made:
            expected = f"{what}; a node has this name, and makes {', '.join(map(repr, made))}"
        else:
            known = [*self.names(), *others]
            said += meant(name, known)
            expected = nearest(name, known, what)
        return InputError(said, model=self.name, tensor=name, expected=expected)

    def check(self) -> None:
        """Raise ModelError unless every value is made once, before it is read."""
        known = set(self.inputs) | set(self.constants)
        for node in self.nodes:
            for name in node.inputs:
                if name not in known and name:
                    raise ModelError(
                        "reads a value that no earlier node makes",
                        model=self.name,
                        node=node.name,
                        operator=node.op.op_type,
                        tensor=name,
                    )
            for name in node.outputs:
                if not name:
                    continue
                if name in known:
                    raise ModelError(
                        "makes a value that exists already",
                        model=self.name,
                        node=node.name,
                        operator=node.op.op_type,
                        tensor=name,
                    )
                known.add(name)
        for name in self.outputs:
            if name not in known:
                raise ModelError("an output that nothing makes", model=self.name, tensor=name)

    def evaluate(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> list[np.ndarray]:
        """Run the graph with the operators' NumPy references: slow, the yardstick of every rewrite."""
        values: dict[str, object] = {name: np.asarray(value) for name, value in self.constants.items()}
        values.update(feeds)
        for node in self.nodes:
            results = node.op.evaluate(*[values[n] if n else None for n in node.inputs])
            for name, value in zip(node.outputs, results, strict=False):
                if name:
                    values[name] = value
        return [values[name] for name in (outputs if outputs is not None else self.outputs)]  # type: ignore[misc]
