"""Segment: a run of nodes made ready for one set of shapes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from ..graph import Node
from ..runtime.blas import limited
from ..runtime.runner import Workspace
from ..spec import TensorSpec
from .buffers import Buffer
from .host import RunNode, settled
from .inference import located
from .plan import Around, Plan


@dataclass(eq=False)
class Tail:
    """The last node of a segment, when its outputs' shapes depend on data: runs on the host, after the plan."""

    node: Node
    inputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Layer:
    """A node as it was made ready, with what was fused into it; for reports.

    Attributes
    ----------
    node : Node
    inputs, outputs : (shape, dtype) of its values, None where absent
    """

    node: Node
    inputs: tuple[tuple[tuple[int, ...], np.dtype] | None, ...]
    outputs: tuple[tuple[tuple[int, ...], np.dtype] | None, ...]

    @staticmethod
    def of(node: Node, specs: Mapping[str, TensorSpec]) -> Layer:
        def known(name: str) -> tuple[tuple[int, ...], np.dtype] | None:
            spec = specs.get(name) if name else None
            return (spec.concrete, spec.dtype) if spec is not None and spec.is_concrete else None

        return Layer(node, tuple(known(n) for n in node.inputs), tuple(known(n) for n in node.outputs))


@dataclass(eq=False)
class Segment:
    """A run of nodes made ready for one set of shapes.

    Attributes
    ----------
    start, end : int
        Nodes of the graph that it covers.
    plan : Plan
    inputs : names of the values that the plan reads from outside, by slot
    outputs : (name, shape, dtype) of the values that it gives, by slot
    constants : values that follow from shapes alone and are read outside
    run_node : how the tail is run
    host_nodes : names of the nodes that run on the host
    tail : Tail, optional
    layers : the nodes that run, in order, without the tail
    by_numpy : names of the host nodes that found no kernel when they ran
    tiles : the tiles of convolutions by Winograd's algorithm, by the name of their output
    tensors : names of the values that each buffer of the arena holds; for reports
    following : the segments that came after this one, by what the tail gave
    """

    start: int
    end: int
    plan: Plan
    inputs: list[str]
    outputs: list[tuple[str, tuple[int, ...], np.dtype]]
    constants: dict[str, np.ndarray]
    run_node: RunNode
    host_nodes: list[str] = field(default_factory=list)
    tail: Tail | None = None
    layers: list[Layer] = field(default_factory=list)
    by_numpy: set[str] = field(default_factory=set)
    tiles: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    tensors: Mapping[Buffer, Sequence[str]] = field(default_factory=dict)
    following: WeakValueDictionary[Hashable, Segment] = field(default_factory=WeakValueDictionary)

    @property
    def is_compiled(self) -> bool:
        """Whether nothing of it runs on the host."""
        return self.tail is None and not self.plan.hosted

    def execute(
        self,
        values: dict[str, Any],
        workspace: Workspace,
        threads: int,
        given: Mapping[str, np.ndarray] | None = None,
        around: Around | None = None,
    ) -> None:
        """Run on `values` (arrays by name, C-contiguous) and add the results to them.

        `given` are arrays (C-contiguous, aligned) for outputs to be written into, used where shape and dtype are right. Nodes
        that run on the host do so inside of `around`.
        """
        if given:
            outputs = [
                a if (a := given.get(n)) is not None and a.shape == shape and a.dtype == dtype else np.empty(shape, dtype)
                for n, shape, dtype in self.outputs
            ]
        else:
            outputs = [np.empty(shape, dtype) for _, shape, dtype in self.outputs]
        self.plan.execute(workspace, [values[n] for n in self.inputs], outputs, threads, around)
        values.update(self.constants)
        values.update(zip((name for name, _, _ in self.outputs), outputs, strict=True))
        if self.tail is not None:
            with nullcontext() if around is None else around(self.tail.node.name):
                self.run_tail(values, threads)

    def run_tail(self, values: dict[str, Any], threads: int) -> None:
        """Run the tail alone, on `values` and into them."""
        assert self.tail is not None
        node = self.tail.node
        inputs = [values[n] if n else None for n in self.tail.inputs]
        with located(node):
            if node.op.light >= 0:  # without a product of matrices, but in graphs whose plans see to that themselves
                results = self.run_node(node, inputs, threads, self.by_numpy)
            else:
                with limited(threads):
                    results = self.run_node(node, inputs, threads, self.by_numpy)
        for name, value in zip(node.outputs, results, strict=False):
            if name:
                values[name] = settled(value)
