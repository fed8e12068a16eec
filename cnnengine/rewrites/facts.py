"""dtype and rank of values, as far as they follow from the graph alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from weakref import WeakKeyDictionary

import numpy as np

from ..graph import Graph, Node
from ..operator import SAME
from ..ops.common import kind_of
from ..records import lazy
from ..spec import UNKNOWN, TensorSpec


@dataclass(frozen=True, eq=False)
class Fact:
    """What is known of a value whatever the input shapes; None where it is not.

    NumPy takes None for float64 where it compares it with a dtype: ask `has_dtype`, which does not.
    """

    dtype: np.dtype | None = None
    rank: int | None = None

    @lazy
    def spec(self) -> TensorSpec:
        """What `Operator.outline` is told of the value."""
        return TensorSpec(UNKNOWN if self.dtype is None else self.dtype, None if self.rank is None else (None,) * self.rank)

    def has_dtype(self, dtype: np.dtype) -> bool:
        """Whether the dtype is known and is this one."""
        return self.dtype is not None and self.dtype == dtype

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fact) or self.rank != other.rank:
            return False
        return self.dtype is other.dtype or (other.dtype is not None and self.has_dtype(other.dtype))

    def __hash__(self) -> int:
        return hash((self.dtype, self.rank))


NO_FACT = Fact()
_known_facts: WeakKeyDictionary[Graph, dict[str, Fact]] = WeakKeyDictionary()


def facts(graph: Graph) -> dict[str, Fact]:
    """dtype and rank of the values, where they follow from the graph alone; made once for each graph, not to be changed."""
    known = _known_facts.get(graph)
    if known is None:
        known = _known_facts[graph] = _facts(graph)
    return known


@cache
def _fact(dtype: np.dtype | None, rank: int | None) -> Fact:
    """One object for equal facts."""
    return Fact(dtype, rank)


@cache
def _dtype(dtype: np.dtype) -> np.dtype | None:
    """None where nothing is known."""
    return None if kind_of(dtype) == "V" else dtype


def _of(spec: TensorSpec) -> Fact:
    dtype = spec.dtype
    return _fact(_dtype(dtype) if dtype.kind == "V" else dtype, None if spec.shape is None else len(spec.shape))


def specs_of(node: Node, known: Mapping[str, Fact], constants: Mapping[str, np.ndarray]) -> list[TensorSpec | None]:
    """What is known of a node's inputs, None where absent; of constants their values."""
    return [None if not n else TensorSpec.of(constants[n]) if n in constants else known.get(n, NO_FACT).spec for n in node.inputs]


def _facts(graph: Graph) -> dict[str, Fact]:
    constants = graph.constants
    known: dict[str, Fact] = {n: _fact(v.dtype, v.ndim) for n, v in constants.items()}
    for name, spec in graph.inputs.items():
        known[name] = _of(spec)
    fact_of, value_of = known.get, constants.get
    for node in graph.nodes:
        inputs, values = tuple(map(fact_of, node.inputs)), tuple(map(value_of, node.inputs))
        which = tuple(map(id, values))
        # most nodes stay the same object with the same inputs from one graph to the next, and keep what was found; the values
        # are kept too, so that an id stays that of this one
        before = node.__dict__.get("_facts")
        if before is not None and before[0] == inputs and before[1] == which:
            found = before[3]
        else:
            gives = node.op.gives
            if gives is SAME:  # most nodes
                found = [inputs[0] or NO_FACT] if inputs else []
            elif gives is not None:  # values do not matter
                specs = [(f or NO_FACT).spec if n else None for n, f in zip(node.inputs, inputs, strict=True)]
                found = [_of(g.of(specs)) for g in gives]
            else:
                found = [_of(s) for s in node.op.outline(specs_of(node, known, constants))]
            node.__dict__["_facts"] = inputs, which, values, found
        for name, fact in zip(node.outputs, found, strict=False):
            if name:
                known[name] = fact
    return known
