"""Program and Segment: the graph made ready for one instruction set, and its parts made ready for shapes."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from .._kernels import dispatch
from .._kernels.conv import Slab
from ..errors import CNNEngineError
from ..graph import Graph, Node, TensorSpec
from ..ops.copies import movable
from ..runtime.eager import by_kernels
from ..runtime.emit import BufferRef, Emitter
from ..runtime.layout import NO_HALO, KernelCall, kept
from ..runtime.locks import own_lock
from ..runtime.plan import HostStep, Plan, build_plan
from ..runtime.runner import Workspace
from .fusion import (
    fuse_affine,
    fuse_attention,
    fuse_chains,
    fuse_channels,
    fuse_channels_last,
    fuse_gates_into_weights,
    fuse_pads,
    fuse_residuals,
    fuse_softmax_products,
    repeat_channels,
)
from .inference import infer_nodes, located

PLANS = 32
"""Plans kept per program, the least recently used given up first."""


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
    host_nodes : names of the nodes that run on the host
    tail : Tail, optional
    layers : the nodes that run, in order, without the tail
    by_numpy : names of the host nodes that found no kernel when they ran
    """

    start: int
    end: int
    plan: Plan
    inputs: list[str]
    outputs: list[tuple[str, tuple[int, ...], np.dtype]]
    constants: dict[str, np.ndarray]
    host_nodes: list[str] = field(default_factory=list)
    tail: Tail | None = None
    layers: list[Layer] = field(default_factory=list)
    by_numpy: set[str] = field(default_factory=set)

    def execute(
        self, values: dict[str, Any], workspace: Workspace, threads: int, given: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Run on `values` (arrays by name, C-contiguous) and add the results to them.

        `given` are arrays (C-contiguous, aligned) for outputs to be written into, used where shape and dtype are right.
        """
        if given:
            outputs = [
                a if (a := given.get(n)) is not None and a.shape == shape and a.dtype == dtype else np.empty(shape, dtype)
                for n, shape, dtype in self.outputs
            ]
        else:
            outputs = [np.empty(shape, dtype) for _, shape, dtype in self.outputs]
        self.plan.execute(workspace, [values[n] for n in self.inputs], outputs, threads)
        values.update(self.constants)
        values.update(zip((name for name, _, _ in self.outputs), outputs, strict=True))
        if self.tail is not None:
            self.run_tail(values, threads)

    def run_tail(self, values: dict[str, Any], threads: int) -> None:
        """Run the tail alone, on `values` and into them."""
        assert self.tail is not None
        node = self.tail.node
        with located(node):
            results = run_host(node, [values[n] if n else None for n in self.tail.inputs], threads, self.by_numpy)
        for name, value in zip(node.outputs, results, strict=False):
            if name:
                values[name] = (
                    value if isinstance(value, list) or value is None else np.ascontiguousarray(value).reshape(np.shape(value))
                )


def run_host(node: Node, inputs: Sequence[Any], threads: int, by_numpy: set[str] | None = None) -> list[Any]:
    """One node on arrays (or lists): by kernels where it can be lowered on its own, else by its reference.

    The names of nodes that ran by their reference are added to `by_numpy`.
    """
    plain = all(a is None or isinstance(a, np.ndarray) for a in inputs)
    if plain and inputs and isinstance(inputs[0], np.ndarray) and inputs[0].dtype == np.float32 and node.op.domain == "":
        arrays = [None if a is None else np.ascontiguousarray(a).reshape(a.shape) for a in inputs]
        results = by_kernels(node.op, arrays, threads=threads)
        if results is not None:
            return results
    if by_numpy is not None:
        by_numpy.add(node.name)
    return node.op.reference(*inputs)


class Store(Protocol):
    """Where constants lie that are views of a file; a run never reads them, planning does."""

    def check(self) -> None:
        """Raise ModelError where they are lost."""
        ...

    def release(self, used: int | None = None) -> None:
        """Give back memory: now and then, told the bytes that were packed, or at once."""
        ...


class Program:
    """A graph lowered for one instruction set; immutable but for its caches, shared by all threads.

    Parameters
    ----------
    graph : Graph
        After the passes.
    winograd : bool
        Whether convolutions may use Winograd's algorithm.
    store : Store, optional
        Of the file that constants are views of.
    """

    def __init__(self, graph: Graph, *, winograd: bool = False, store: Store | None = None) -> None:
        self._store = store
        self.winograd = winograd
        self.graph = graph
        self.isa = dispatch.current_isa()
        self.lanes = dispatch.lanes()
        self._slab = Slab()
        self._packed: dict[tuple[Hashable, ...], np.ndarray] = {}
        self._segments: OrderedDict[Hashable, Segment] = OrderedDict()
        self._lock = own_lock(self)
        self._constant_specs = {name: TensorSpec.of(value) for name, value in graph.constants.items()}
        reads: dict[str, int] = {}
        for index, node in enumerate(graph.nodes):
            for name in (*node.inputs, *node.op.captures()):
                if name:
                    reads[name] = index
        for name in graph.outputs:
            reads[name] = len(graph.nodes)
        self._last_read = reads

    def segment(self, start: int, values: Mapping[str, Any]) -> Segment:
        """The segment from node `start` on for values of these shapes, planned or from the cache.

        Raises
        ------
        ShapeError, InputError
            The shapes do not fit the model; names node and operator.
        """
        live = {n: v for n, v in values.items() if self._last_read.get(n, -1) >= start and n not in self.graph.constants}
        key = (start, *((n, v.dtype.str, v.shape) if isinstance(v, np.ndarray) else (n, "list") for n, v in live.items()))
        with self._lock:
            found = self._segments.get(key)
            if found is not None:
                self._segments.move_to_end(key)
                return found
            specs = {
                n: TensorSpec(v.dtype, v.shape) if isinstance(v, np.ndarray) else TensorSpec(np.dtype(object), None)
                for n, v in live.items()
            }
            made = self._plan(start, specs)
            self._segments[key] = made
            while len(self._segments) > PLANS:
                self._segments.popitem(last=False)
            return made

    def segments(self) -> list[Segment]:
        """The plans made so far."""
        with self._lock:
            return list(self._segments.values())

    def clear(self) -> None:
        """Forget all plans."""
        with self._lock:
            self._segments.clear()

    def _plan(self, start: int, live: dict[str, TensorSpec]) -> Segment:
        graph = self.graph
        if self._store is not None:
            self._store.check()
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
            names = (*tail_node.inputs, *tail_node.op.captures())
            wanted.update(n for n in names if n in made)
            tail = Tail(tail_node, tail_node.inputs)
        nodes = self._needed(fuse_pads(self._needed(nodes, specs, wanted), specs), specs, wanted)
        nodes = fuse_attention(fuse_residuals(nodes, specs, graph.constants, wanted), specs, wanted)
        nodes = self._needed(fuse_softmax_products(nodes, specs, wanted), specs, wanted)
        nodes = fuse_affine(nodes, specs, graph.constants, wanted)
        nodes = repeat_channels(self._needed(fuse_channels(nodes, specs), specs, wanted), specs)
        nodes = fuse_gates_into_weights(fuse_chains(nodes, specs, wanted), specs, wanted)
        nodes = fuse_channels_last(nodes, specs, wanted)

        emitter = Emitter(self.lanes, self._packed, self.winograd, None if self._store is None else self._store.release, self._slab)
        slots: list[str] = []
        hosts: list[str] = []
        by_numpy: set[str] = set()
        host_steps: list[tuple[int, HostStep]] = []
        for node in nodes:
            for name in node.inputs:
                if name and name not in emitter.values:
                    self._enter(name, specs, live, emitter, slots)
            self._lower_node(node, specs, emitter, host_steps, hosts, by_numpy)
        outputs: list[tuple[str, tuple[int, ...], np.dtype]] = []
        constants: dict[str, np.ndarray] = {}
        for name in sorted(wanted):
            value = specs[name].value
            if value is not None:
                constants[name] = kept(value)
                continue
            ref = emitter.operand(name, 0, 1, NO_HALO, name)
            shape, dtype = specs[name].concrete, specs[name].dtype
            if ref.buffer.kind == "arena":
                ref.buffer.kind, ref.buffer.slot = "output", len(outputs)
            else:
                copy = emitter.add_host_output(f"{name} (copy)", shape, dtype)
                copy.buffer.kind, copy.buffer.slot = "output", len(outputs)
                if movable(specs[name]):
                    emitter.calls.append(KernelCall("copy_nd", (ref,), (copy,), _whole(shape), name))
                else:
                    host_steps.append((len(emitter.calls), HostStep(name, "Identity", _same, (ref,), (copy,))))
            outputs.append((name, shape, dtype))
        items: list[KernelCall | HostStep] = []
        pending = list(host_steps)
        for index in range(len(emitter.calls) + 1):
            while pending and pending[0][0] == index:
                items.append(pending.pop(0)[1])
            if index < len(emitter.calls):
                items.append(emitter.calls[index])
        try:
            plan = build_plan(items)
        except CNNEngineError as error:
            operator = next((n.op.op_type for n in nodes if n.name == error.node), None)
            raise error.locate(model=graph.name or None, operator=operator) from None
        if self._store is not None:
            self._store.release()
        segment = Segment(start, end, plan, slots, outputs, constants, hosts, tail, [Layer.of(n, specs) for n in nodes], by_numpy)
        if tail is not None:
            # what follows from constants alone is read by the tail too
            for name in tail.inputs:
                if name and name not in live and name not in made and name in graph.constants:
                    constants[name] = kept(graph.constants[name])
        return segment

    def _needed(self, nodes: list[Node], specs: Mapping[str, TensorSpec], wanted: set[str]) -> list[Node]:
        """Nodes whose outputs are not known from shapes alone and that something needs."""
        need = {n for n in wanted if specs[n].value is None}
        kept: list[Node] = []
        for node in reversed(nodes):
            if any(n in need and specs[n].value is None for n in node.outputs):
                kept.append(node)
                need.update(n for n in (*node.inputs, *node.op.captures()) if n and specs[n].value is None)
        return kept[::-1]

    def _enter(
        self, name: str, specs: Mapping[str, TensorSpec], live: Mapping[str, TensorSpec], emitter: Emitter, slots: list[str]
    ) -> None:
        spec = specs[name]
        if spec.value is not None:
            emitter.add_constant(name, spec.value)
            if name not in self._constant_specs:
                emitter.local.add(name)
        elif name in live:
            emitter.add_input(name, spec.concrete, spec.dtype, len(slots))
            slots.append(name)

    def _lower_node(
        self,
        node: Node,
        specs: Mapping[str, TensorSpec],
        emitter: Emitter,
        host_steps: list[tuple[int, HostStep]],
        hosts: list[str],
        by_numpy: set[str],
    ) -> None:
        out_specs = [specs[n] if n else TensorSpec(np.dtype(np.float32), ()) for n in node.outputs]
        mark = len(emitter.calls)
        ctx = emitter.context(node.name, node.op.op_type, node.inputs, node.outputs, out_specs)
        with located(node, self.graph.name):
            if node.op.lower(ctx):
                return
        if len(emitter.calls) != mark and any(c.node == node.name and c.kernel != "reorder" for c in emitter.calls[mark:]):
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
        hosts.append(node.name)

        def run(*arrays: Any) -> list[Any]:
            with located(node):
                return run_host(node, arrays, 1, by_numpy)

        host_steps.append((len(emitter.calls), HostStep(node.name, node.op.op_type, run, tuple(inputs), tuple(refs))))


def _whole(shape: tuple[int, ...]) -> dict[str, Any]:
    """Parameters of copy_nd for all of a tensor."""
    return {"shape": (math.prod(shape),), "x_strides": (1,), "y_strides": (1,), "x_offset": 0, "y_offset": 0}


def _same(value: np.ndarray) -> list[np.ndarray]:
    return [value]
