"""Program and Segment: the graph made ready for one instruction set, and its parts made ready for shapes."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy as np

from .._kernels import dispatch
from ..errors import CNNEngineError
from ..graph import Graph, Node, output_specs
from ..layout import NO_HALO, KernelCall, is_mapped, kept
from ..ops.common import FAULTS
from ..ops.control import Controlling
from ..ops.conv import NotTransformable
from ..ops.copies import movable
from ..ops.elementwise import Add, Div, Mul, Sub
from ..rewrites.fusion import (
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
from ..runtime.blas import limited
from ..runtime.locks import own_lock
from ..runtime.runner import Workspace
from ..spec import TensorSpec
from .budget import allowed, choose_transforms
from .eager import by_kernels
from .emit import BufferRef, Emitter
from .inference import infer_nodes, located
from .plan import HostStep, Plan, build_plan

PLANS = 32
"""Plans kept for each node that a segment starts at, the least recently used given up first."""

STEPPED = 10
"""Times that light nodes behind a data-dependent extent run one by one before those shapes get a plan, which takes as long."""

SEEN = 2048
"""Shapes whose runs are counted."""

LIGHT_NAMES = (
    "Abs Add And ArgMax ArgMin Cast Concat ConstantOfShape CumSum Div Equal Expand Flatten Gather GatherElements GatherND",
    "Greater GreaterOrEqual Identity If Less LessOrEqual Loop Max Min Mul Neg NonMaxSuppression NonZero Not OneHot Or Range",
    "ReduceMax ReduceMin Reshape ScatterElements ScatterND Shape Size Slice Split Squeeze Sub Tile TopK Transpose Unsqueeze",
    "Where Xor",
)
LIGHT = frozenset(" ".join(LIGHT_NAMES).split())
"""Operators that NumPy computes to the same bits as the kernels do, so that it does not matter which of them runs."""

DIVIDING = frozenset(("If", "Loop", "NonMaxSuppression", "NonZero"))
"""Operators of LIGHT behind which a new segment starts."""

LIGHT_SIZE = 1 << 18
"""Elements of an input up to which a node is light."""


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
    following : the segments that came after this one, by what the tail gave
    run_host : how the tail is run
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
    following: WeakValueDictionary[Hashable, Segment] = field(default_factory=WeakValueDictionary)
    run_host: Callable[..., list[Any]] | None = None

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
        run = run_host if self.run_host is None else self.run_host
        inputs = [values[n] if n else None for n in self.tail.inputs]
        with located(node):
            if node.op.op_type in LIGHT:  # without a product of matrices, but in graphs whose plans see to that themselves
                results = run(node, inputs, threads, self.by_numpy)
            else:
                with limited(threads):
                    results = run(node, inputs, threads, self.by_numpy)
        for name, value in zip(node.outputs, results, strict=False):
            if name:
                values[name] = _settled(value)


def _settled(value: Any) -> Any:
    """A result as plans take it: arrays C-contiguous."""
    if isinstance(value, np.ndarray):
        return value if value.flags.c_contiguous else np.ascontiguousarray(value)
    return value if isinstance(value, list) or value is None else np.asarray(value)


def run_host(node: Node, inputs: Sequence[Any], threads: int, by_numpy: set[str] | None = None) -> list[Any]:
    """One node on arrays (or lists), by what there is: a compiled function, kernels for the node alone, its reference.

    The names of nodes that ran by their reference are added to `by_numpy`.
    """
    plain = all(a is None or isinstance(a, np.ndarray) for a in inputs)
    if plain and inputs:
        results = node.op.immediate(*[a if a is None or a.flags.c_contiguous else np.ascontiguousarray(a) for a in inputs])
        if results is not None:
            return results
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


class Program:
    """A graph lowered for one instruction set; immutable but for its caches, shared by all threads.

    Parameters
    ----------
    graph : Graph
        After the passes.
    winograd : bool or float
        As `load` takes it: whether convolutions may use Winograd's algorithm, and what memory their weights may take.
    store : Store, optional
        Of the file that constants are views of.
    threads : int
        Threads that pack constants.
    """

    def __init__(self, graph: Graph, *, winograd: bool | float = False, store: Store | None = None, threads: int = 1) -> None:
        self._store = store
        self._threads = threads
        self.winograd = winograd
        self.graph = graph
        self.isa = dispatch.current_isa()
        self.lanes = dispatch.lanes()
        self._slabs: list[Slab] = []
        self._packed: dict[tuple[Hashable, ...], np.ndarray] = {}
        self._segments: dict[int, OrderedDict[Hashable, Segment]] = {}
        self._seen: OrderedDict[Hashable, int] = OrderedDict()
        self._bodies: dict[int, Program] = {}
        self._workspaces: list[Workspace] = []
        self._lock = own_lock(self)
        self._light: list[bool] | None = None
        self._live: dict[int, list[str]] = {}
        self._untransformed: set[str] = set()
        self._constant_specs = {name: TensorSpec.of(value) for name, value in graph.constants.items()}
        reads: dict[str, int] = {}
        for index, node in enumerate(graph.nodes):
            reads.update(dict.fromkeys(node.reads(), index))
        reads.pop("", None)
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
        found = self._segment(start, values, True)
        assert found is not None
        return found

    def _segment(self, start: int, values: Mapping[str, Any], at_once: bool) -> Segment | None:
        """As `segment`; unless `at_once`, None for shapes of light nodes that have not come often enough to be planned."""
        names = self._live.get(start)
        if names is None:
            before = [*self.graph.inputs, *(n for node in self.graph.nodes[:start] for n in node.outputs if n)]
            names = [n for n in before if self._last_read.get(n, -1) >= start and n not in self.graph.constants]
            self._live[start] = names
        live = {n: values[n] for n in names if n in values}
        absent = () if len(live) == len(names) else tuple(n for n in names if n not in values)
        key = (start, absent, *[(v.dtype.str, v.shape) if isinstance(v, np.ndarray) else "list" for v in live.values()])
        with self._lock:
            plans = self._segments.setdefault(start, OrderedDict())
            found = plans.get(key)
            if found is not None:
                plans.move_to_end(key)
                return found
            if not at_once:
                times = self._seen.pop(key, 0)
                if times < STEPPED:
                    self._seen[key] = times + 1
                    if len(self._seen) > SEEN:
                        self._seen.popitem(last=False)
                    return None
            specs = {
                n: TensorSpec(v.dtype, v.shape) if isinstance(v, np.ndarray) else TensorSpec(np.dtype(object), None)
                for n, v in live.items()
            }
            if self._store is None:
                made = self._plan(start, specs)
            else:
                self._store.check()
                with self._store.reading():
                    made = self._plan(start, specs)
            plans[key] = made
            while len(plans) > PLANS:
                plans.popitem(last=False)
            return made

    def segments(self) -> list[Segment]:
        """All segments that are planned now, those of the nodes' graphs too."""
        with self._lock:
            found = [segment for plans in self._segments.values() for segment in plans.values()]
            bodies = list(self._bodies.values())
        return found + [segment for body in bodies for segment in body.segments()]

    def clear(self) -> None:
        """Forget all plans."""
        with self._lock:
            self._segments.clear()
            self._seen.clear()
            self._bodies.clear()
            self._workspaces.clear()

    # ---------------------------------------------------------------- running

    def run(
        self, values: dict[str, Any], workspace: Workspace, threads: int, given: Mapping[str, np.ndarray] | None = None
    ) -> Segment | None:
        """Run the whole graph on `values` (arrays by name, C-contiguous) and add its results to them; returns the first segment.

        Behind a node whose output's extents depend on data, shapes that come for the first few times run node by node where all
        nodes are light: planning them would take longer than running them, and such shapes may never come again.
        """
        start, count = 0, len(self.graph.nodes)
        opening: Segment | None = None
        before: Segment | None = None
        while start < count:
            segment: Segment | None = None
            follows: Hashable = None
            if before is not None and before.tail is not None:
                made = [values[n] for n in before.tail.node.outputs if n]
                follows = tuple([(a.dtype.num, a.shape) if isinstance(a, np.ndarray) else "list" for a in made])
                segment = before.following.get(follows)
            if segment is None:
                segment = self._segment(start, values, start == 0 or not self._is_light(start))
                if segment is not None and before is not None and follows is not None:
                    before.following[follows] = segment
            if segment is None:
                end = self._step(start, values, threads)
                if end > start:
                    start, before = end, None
                    continue
                segment = self.segment(start, values)
            segment.execute(values, workspace, threads, given)
            opening = opening or segment
            start, before = segment.end, segment
        return opening

    def evaluate(self, graph: Graph, values: Sequence[Any], threads: int) -> list[Any]:
        """The outputs of a subgraph of one of the nodes for its inputs, in their order: planned as this program is."""
        body = self._bodies.get(id(graph))
        if body is None:
            with self._lock:
                body = self._bodies.setdefault(
                    id(graph), Program(graph, winograd=self.winograd, store=self._store, threads=self._threads)
                )
        feeds = {name: _settled(value) for name, value in zip(graph.inputs, values, strict=True)}
        try:
            workspace = body._workspaces.pop()
        except IndexError:
            workspace = Workspace()
        try:
            body.run(feeds, workspace, threads)
        finally:
            body._workspaces.append(workspace)
        return [feeds[name] if name in feeds else graph.constants[name] for name in graph.outputs]

    def _is_light(self, index: int) -> bool:
        """Whether NumPy may run a node, its inputs being small: it gives the same bits, and reads no mapped file."""
        if self._light is None:
            constants = self.graph.constants
            self._light = [
                node.op.op_type in LIGHT
                and node.op.domain == ""
                and getattr(node.op, "activation", None) is None
                and getattr(node.op, "reduction", "none") == "none"
                and not any(n in constants and is_mapped(constants[n]) for n in node.inputs)
                for node in self.graph.nodes
            ]
        return self._light[index]

    def _step(self, start: int, values: dict[str, Any], threads: int) -> int:
        """Run light nodes one by one, up to one that is not, or past one behind which a segment starts; returns where."""
        nodes, constants, at = self.graph.nodes, self.graph.constants, start
        node = nodes[start]
        try:
            while at < len(nodes) and self._is_light(at):
                node, op = nodes[at], nodes[at].op
                inputs = [None if not n else values[n] if n in values else constants[n] for n in node.inputs]
                rank = 0
                for a in inputs:
                    if a is not None:
                        if not isinstance(a, np.ndarray) or a.size > LIGHT_SIZE:
                            return at
                        rank = max(rank, a.ndim)
                if rank > 2 and isinstance(op, (Add, Sub, Mul, Div)):
                    return at  # may be fused with others, which rounds differently
                if isinstance(op, Controlling):
                    results = self._run_host(node, inputs, threads)
                else:
                    computed = op.immediate(*inputs)
                    results = op.reference(*inputs) if computed is None else computed
                for name, value in zip(node.outputs, results, strict=False):
                    if name:
                        values[name] = _settled(value)
                at += 1
                if op.op_type in DIVIDING:
                    break
        except (CNNEngineError, *FAULTS):
            with located(node, self.graph.name):
                raise
        return at

    def _run_host(self, node: Node, inputs: Sequence[Any], threads: int, by_numpy: set[str] | None = None) -> list[Any]:
        """As `run_host`, the graphs of a node being planned too."""
        if isinstance(node.op, Controlling):
            results = node.op.run(inputs, lambda graph, values: self.evaluate(graph, values, threads))
            if by_numpy is not None and node.name not in by_numpy:
                bodies = [self._bodies.get(id(getattr(node.op, field))) for field in node.op.graphs]
                if any(segment.by_numpy for body in bodies if body is not None for segment in body.segments()):
                    by_numpy.add(node.name)
            return results
        return run_host(node, inputs, threads, by_numpy)

    def _plan(self, start: int, live: dict[str, TensorSpec]) -> Segment:
        graph = self.graph
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

        release = None if self._store is None else self._store.release
        emitter = Emitter(self.lanes, self._packed, self._transforms(nodes, specs), release, self._slabs)
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
        try:
            emitter.pack(self._threads)
        except NotTransformable as error:
            self._untransformed.add(error.args[0])
            return self._plan(start, live)
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
        segment.run_host = self._run_host
        if tail is not None:
            # what follows from constants alone is read by the tail too
            for name in tail.inputs:
                if name and name not in live and name not in made and name in graph.constants:
                    constants[name] = kept(graph.constants[name])
        return segment

    def _transforms(self, nodes: Sequence[Node], specs: Mapping[str, TensorSpec]) -> Mapping[str, tuple[int, int]] | bool:
        """The tiles of the convolutions of a plan that are computed by Winograd's algorithm."""
        if self.winograd is False:
            return False
        plain = sum(value.nbytes for value in self.graph.constants.values() if value.dtype == np.float32)
        limit = allowed(self.winograd, plain, self._store is not None and self._store.apart)
        return choose_transforms(nodes, specs, self.lanes, limit, self._untransformed)

    def _needed(self, nodes: list[Node], specs: Mapping[str, TensorSpec], wanted: set[str]) -> list[Node]:
        """Nodes whose outputs are not known from shapes alone and that something needs."""
        need = {n for n in wanted if specs[n].value is None}
        kept: list[Node] = []
        for node in reversed(nodes):
            if not need.isdisjoint(node.outputs):
                kept.append(node)
                need.update([n for n in node.reads() if n and specs[n].value is None])
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
        out_specs = output_specs(node, specs)
        mark = len(emitter.calls)
        ctx = emitter.context(node.name, node.op.op_type, node.inputs, node.outputs, out_specs)
        emitter.located = partial(located, node, self.graph.name)
        with emitter.located():
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
                return self._run_host(node, arrays, 1, by_numpy)

        host_steps.append((len(emitter.calls), HostStep(node.name, node.op.op_type, run, tuple(inputs), tuple(refs))))


def _whole(shape: tuple[int, ...]) -> dict[str, Any]:
    """Parameters of copy_nd for all of a tensor."""
    return {"shape": (math.prod(shape),), "x_strides": (1,), "y_strides": (1,), "x_offset": 0, "y_offset": 0}


def _same(value: np.ndarray) -> list[np.ndarray]:
    return [value]
