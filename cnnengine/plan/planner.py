"""Planner: from a graph's nodes and the shapes of what they read to a segment."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

import numpy as np

from ..errors import CNNEngineError
from ..graph import Graph, Node, output_specs
from ..layout import NO_HALO, KernelCall, kept
from ..ops.conv import NotTransformable
from ..ops.copies import movable
from ..packing import Slab
from ..spec import TensorSpec
from .budget import allowed, choose_transforms
from .buffers import Buffer, BufferRef
from .emit import Emitter
from .host import RunNode
from .inference import infer_nodes, located
from .plan import HostStep, build_plan
from .segment import Layer, Segment, Tail


class Store(Protocol):
    """Where constants lie that are views of a file; a run never reads them, planning does."""

    @property
    def apart(self) -> bool:
        """Whether they lie in files of their own, external data."""
        ...

    def check(self) -> None:
        """Raise ModelError where they are lost."""
        ...

    def reading(self) -> AbstractContextManager[object]:
        """Context in which they may be read; at its end a ModelError where they were lost meanwhile."""
        ...

    def release(self, used: int | None = None) -> None:
        """Give back memory: now and then, told the bytes that were packed, or at once."""
        ...


class Planner:
    """Makes segments of one graph; what it packed for one serves the others.

    Calls of `plan` must not overlap.

    Parameters
    ----------
    graph : Graph
        After the rewrites that need no shapes.
    lanes : int
        Floats of a register of the instruction set.
    last_read : mapping of str to int
        The last node that reads a value, the number of nodes for outputs of the graph.
    run_node : callable
        Runs the nodes that have no kernels, as `run_host` does.
    winograd : bool or float
        As `load` takes it.
    store : Store, optional
        Of the file that constants are views of.
    threads : int
        Threads that pack constants.
    pairs : collection of str
        Names of convolutions that are computed by products of bfloat16 numbers where that is the fastest.

    Attributes
    ----------
    packed : dict
        Packed constants by key.
    paired : set of str
        Names of those that are, in a plan that was made.
    """

    def __init__(
        self,
        graph: Graph,
        lanes: int,
        last_read: Mapping[str, int],
        run_node: RunNode,
        *,
        winograd: bool | float,
        store: Store | None,
        threads: int,
        pairs: Collection[str] = (),
    ) -> None:
        self.packed: dict[tuple[Hashable, ...], np.ndarray] = {}
        self.paired: set[str] = set()
        self._pairs = pairs
        self._graph = graph
        self._lanes = lanes
        self._last_read = last_read
        self._run_node = run_node
        self._winograd = winograd
        self._store = store
        self._threads = threads
        self._slabs: list[Slab] = []
        self._untransformed: set[str] = set()  # weights that turned out to be beyond what a transform can hold
        self._constant_specs = {name: TensorSpec.of(value) for name, value in graph.constants.items()}

    def plan(self, start: int, live: Mapping[str, TensorSpec]) -> Segment:
        """The segment from node `start` on, for values of these shapes.

        Raises
        ------
        ShapeError, InputError
            The shapes do not fit the model; names node and operator.
        ModelError
            The file was lost or written to while its constants were read.
        """
        if self._store is None:
            return self._plan(start, live)
        self._store.check()
        with self._store.reading():
            return self._plan(start, live)

    def _plan(self, start: int, live: Mapping[str, TensorSpec]) -> Segment:
        from ..rewrites import specialize  # with the first plan: importing the package takes no time for rewrites

        graph = self._graph
        specs = {**self._constant_specs, **live}
        rest = graph.nodes[start:]
        count = infer_nodes(rest, specs, graph.name)
        end = start + count
        nodes = rest[:count]
        tail_node = None
        if nodes and any(n and n not in specs for n in nodes[-1].outputs):
            tail_node = nodes[-1]
            nodes = nodes[:-1]
        made = {n for node in nodes for n in node.outputs if n}
        wanted = {n for n in made if self._last_read.get(n, -1) >= end}
        tail = None
        if tail_node is not None:
            wanted.update(n for n in tail_node.inputs if n in made)
            tail = Tail(tail_node, tail_node.inputs)
        nodes = specialize(nodes, specs, graph.constants, wanted)
        nodes, tiles = self._transforms(nodes, specs, wanted)
        try:
            draft = self._lower(nodes, specs, live, tiles)
            outputs, constants = draft.give(wanted)
            draft.emitter.pack(self._threads)
        except NotTransformable as error:
            self._untransformed.add(error.args[0])
            return self._plan(start, live)
        try:
            plan = build_plan(draft.items())
        except CNNEngineError as error:
            operator = next((n.op.op_type for n in nodes if n.name == error.node), None)
            raise error.locate(model=graph.name or None, operator=operator) from None
        if self._store is not None:
            self._store.release()
        if tail is not None:
            # what follows from constants alone is read by the tail too
            for name in tail.inputs:
                if name and name not in live and name not in made and name in graph.constants:
                    constants[name] = kept(graph.constants[name])
        layers = [Layer.of(n, specs) for n in nodes]
        return Segment(
            start,
            end,
            plan,
            draft.inputs,
            outputs,
            constants,
            self._run_node,
            draft.host_nodes,
            tail,
            layers,
            draft.by_numpy,
            {} if isinstance(tiles, bool) else tiles,
            draft.tensors(),
        )

    def _lower(
        self,
        nodes: Sequence[Node],
        specs: Mapping[str, TensorSpec],
        live: Mapping[str, TensorSpec],
        tiles: Mapping[str, tuple[int, int]] | bool,
    ) -> Draft:
        release = None if self._store is None else self._store.release
        emitter = Emitter(self._lanes, self.packed, tiles, release, self._slabs)
        draft = Draft(emitter, specs, self._run_node, self._graph.name)
        for node in nodes:
            for name in node.inputs:
                if name and name not in emitter.values:
                    draft.enter(name, name in live, name in self._constant_specs)
            draft.lower(node)
        return draft

    def _transforms(
        self, nodes: list[Node], specs: dict[str, TensorSpec], wanted: Collection[str]
    ) -> tuple[list[Node], Mapping[str, tuple[int, int]] | bool]:
        """The nodes with the convolutions that multiply numbers of bfloat16; and the tiles of those by Winograd's algorithm."""
        paired: set[str] = set()
        if self._pairs:
            from ..rewrites.lower_convolutions import lower_convolutions, paired_outputs
            from ..rewrites.nodes import Nodes

            view = Nodes(nodes, self._graph.constants, wanted, specs=specs)
            paired = paired_outputs(view, self._pairs, self._lanes)
        tiles: Mapping[str, tuple[int, int]] | bool = False
        if self._winograd is not False:
            plain = sum(value.nbytes for value in self._graph.constants.values() if value.dtype == np.float32)
            limit = allowed(self._winograd, plain, self._store is not None and self._store.apart)
            tiles = choose_transforms(nodes, specs, self._lanes, limit, self._untransformed, paired)
            paired = paired.difference(tiles)
        if paired:
            lower_convolutions(view, paired)
            nodes = view.nodes()
            self.paired.update(node.name for node in nodes if not paired.isdisjoint(node.outputs))
        return nodes, tiles


class Draft:
    """One segment in the making: what lowering its nodes has given so far.

    Attributes
    ----------
    emitter : Emitter
    inputs : names of the values that are read from outside, by slot
    host_nodes : names of the nodes that run on the host
    by_numpy : names of those among them that found no kernel, once they run
    """

    def __init__(self, emitter: Emitter, specs: Mapping[str, TensorSpec], run_node: RunNode, model: str) -> None:
        self.emitter = emitter
        self.inputs: list[str] = []
        self.host_nodes: list[str] = []
        self.by_numpy: set[str] = set()
        self._specs = specs
        self._run_node = run_node
        self._model = model
        self._host_steps: list[tuple[int, HostStep]] = []  # with the number of calls before each

    def enter(self, name: str, live: bool, shared: bool) -> None:
        """Bring in a value that no node before makes: from outside, or a constant, which other plans share or not."""
        spec = self._specs[name]
        if spec.value is not None:
            self.emitter.add_constant(name, spec.value)
            if not shared:
                self.emitter.local.add(name)
        elif live:
            self.emitter.add_input(name, spec.concrete, spec.dtype, len(self.inputs))
            self.inputs.append(name)

    def lower(self, node: Node) -> None:
        """Add the kernel calls of a node, or a step on the host where it has none."""
        emitter = self.emitter
        out_specs = output_specs(node, self._specs)
        mark = len(emitter.calls)
        ctx = emitter.context(node.name, node.op.op_type, node.inputs, node.outputs, out_specs)
        emitter.located = partial(located, node, self._model)
        with emitter.located():
            if node.op.lower(ctx):
                return
        own = [c for c in emitter.calls[mark:] if c.node == node.name and not c.kernel.startswith("reorder")]
        if own:
            raise AssertionError(f"{node.op.op_type}.lower emitted calls and then returned False")
        inputs: list[BufferRef | np.ndarray | None] = []
        for name in node.inputs:
            if not name:
                inputs.append(None)
            elif emitter.values[name].constant is not None:
                inputs.append(emitter.host_constant(name))
            else:
                inputs.append(emitter.operand(name, 0, 1, NO_HALO, node.name))
        refs: list[BufferRef | None] = [
            emitter.add_host_output(n, s.concrete, s.dtype) if n else None for n, s in zip(node.outputs, out_specs, strict=True)
        ]
        self.host_nodes.append(node.name)
        run_node, by_numpy = self._run_node, self.by_numpy

        def run(*arrays: Any) -> list[Any]:
            with located(node):
                return run_node(node, arrays, 1, by_numpy)

        self.add_host(HostStep(node.name, node.op.op_type, run, tuple(inputs), tuple(refs)))

    def give(self, wanted: set[str]) -> tuple[list[tuple[str, tuple[int, ...], np.dtype]], dict[str, np.ndarray]]:
        """Put the wanted values into outputs: (name, shape, dtype) by slot, and what shapes alone decide."""
        emitter = self.emitter
        outputs: list[tuple[str, tuple[int, ...], np.dtype]] = []
        constants: dict[str, np.ndarray] = {}
        for name in sorted(wanted):
            spec = self._specs[name]
            if spec.value is not None:
                constants[name] = kept(spec.value)
                continue
            ref = emitter.operand(name, 0, 1, NO_HALO, name)
            shape, dtype = spec.concrete, spec.dtype
            if ref.buffer.kind == "arena":
                ref.buffer.kind, ref.buffer.slot = "output", len(outputs)
            else:
                copy = emitter.add_host_output(f"{name} (copy)", shape, dtype)
                copy.buffer.kind, copy.buffer.slot = "output", len(outputs)
                if movable(spec):
                    emitter.calls.append(KernelCall("copy_nd", (ref,), (copy,), _whole(shape), name))
                else:
                    self.add_host(HostStep(name, "Identity", _same, (ref,), (copy,)))
            outputs.append((name, shape, dtype))
        return outputs, constants

    def tensors(self) -> dict[Buffer, list[str]]:
        """The values that each buffer of the arena holds, under one shape or another."""
        found: dict[Buffer, list[str]] = {}
        for name, value in self.emitter.values.items():
            for ref in value.refs.values():
                if ref.buffer.kind == "arena":
                    found.setdefault(ref.buffer, []).append(name)
        return found

    def add_host(self, step: HostStep) -> None:
        """Add a step on the host, to run behind all calls so far."""
        self._host_steps.append((len(self.emitter.calls), step))

    def items(self) -> list[KernelCall | HostStep]:
        """Calls and steps on the host in the order in which they run."""
        items: list[KernelCall | HostStep] = []
        done = 0
        for before, step in self._host_steps:
            items += self.emitter.calls[done:before]
            items.append(step)
            done = before
        return items + self.emitter.calls[done:]


def _whole(shape: tuple[int, ...]) -> dict[str, Any]:
    """Parameters of copy_nd for all of a tensor."""
    return {"shape": (math.prod(shape),), "x_strides": (1,), "y_strides": (1,), "x_offset": 0, "y_offset": 0}


def _same(value: np.ndarray) -> list[np.ndarray]:
    return [value]
