"""Trace: the tensors of a file for one input, each computed as the file says, and what a run makes of them.

A run fuses nodes, so that most tensors of a file are never in memory. A trace runs the nodes by the same kernels with every
tensor kept. It goes through the graph in parts, each a graph of its own whose outputs are all that its nodes make: as many nodes
as make `limit` bytes, or up to one behind which shapes depend on data. What later parts read is kept, the rest while there is
room, so that a network of any size can be looked at anywhere.

Whether a tensor has the bits of a run follows from comparing the layers of both: the same operator with the same kernels on
inputs of the same bits, or an operator that computes exactly.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np

from ..errors import InputError
from ..graph import Graph, Node
from ..layout import kept
from ..operator import EXACT, Activation
from ..ops.control import Controlling
from ..records import fields_of
from ..runtime.blas import limited
from ..runtime.locks import own_lock
from ..runtime.runner import Workspace
from ..spec import UNKNOWN, TensorSpec
from .inference import infer_nodes
from .planner import Store
from .program import Program
from .segment import Segment

ALIASES = ("Identity", "Dropout")
"""Operators of which a run has nothing to compute: they are not named among what is fused."""

SHOWN = 200
"""Tensors that notebooks list."""


@dataclass(frozen=True)
class FileNode:
    """A node as it is in the file.

    Attributes
    ----------
    name : str
        The engine's, as reports have it, where the file has none.
    operator, domain : str
        The domain of ONNX's own operators is "ai.onnx".
    inputs, outputs : tuple of str
        Tensors; empty where absent.
    """

    name: str
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Traced:
    """A tensor of a file; made by `Trace`. What it holds is computed when it is asked for.

    Attributes
    ----------
    name : str
    node : FileNode or None
        The node that makes it; None for an input or an initializer.
    source : {"input", "constant", "node"}
        A constant is an initializer, or what a node Constant makes.
    """

    def __init__(self, trace: Trace, name: str, node: FileNode | None, source: str) -> None:
        self._trace = trace
        self.name = name
        self.node = node
        self.source = source

    @property
    def value(self) -> Any:
        """An array that cannot be written to; of a sequence a list of them, and None of an optional value that is absent."""
        return self._trace.value(self.name)

    @property
    def how(self) -> str:
        """What a run makes of it.

        "alone": a layer of its own gives it. "fused": a layer computes it together with other nodes. "known": it follows from
        the file and the shapes, and is not computed at a run. "unused": no output needs it. "given": it is an input.
        """
        return self._trace.found(self.name)[0]

    @property
    def fused(self) -> tuple[str, ...]:
        """Names of all nodes that a run computes in one layer with the one that makes it; none where it is alone."""
        return self._trace.found(self.name)[1]

    @property
    def exact(self) -> bool:
        """Whether a run has this tensor with these bits; else it has it within rounding, or has it nowhere in memory."""
        return self._trace.found(self.name)[2]

    def __repr__(self) -> str:
        maker = self.source if self.node is None else f"{self.node.operator} {self.node.name!r}"
        return f"<Traced {self.name!r} of {maker}>"


@dataclass(frozen=True, eq=False)
class _Part:
    """Nodes that are run together, and what they read from outside."""

    start: int
    end: int
    inputs: dict[str, Any]
    known: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Made:
    """A layer of a plan: what is compared."""

    node: Node
    kernels: tuple[str, ...]
    tile: Any
    hosted: bool
    constants: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class _Progress:
    """How far a trace has come; a further part makes another one, so that it is whole at every moment.

    Attributes
    ----------
    parts : with the layers of each by the values that they make, and the names of what followed from the file and the shapes
    part_of : the part that makes a value
    live : values that later parts read
    known : those of them that follow from the file and the shapes
    """

    parts: tuple[tuple[_Part, dict[str, _Made], frozenset[str]], ...]
    part_of: dict[str, int]
    live: dict[str, Any]
    known: dict[str, np.ndarray]

    @property
    def end(self) -> int:
        """The first node that is in no part."""
        return self.parts[-1][0].end if self.parts else 0


class Trace(Mapping[str, Traced]):
    """The tensors of a file by name, in the file's order; made by `Model.trace`. Safe to use from several threads.

    Attributes
    ----------
    model : str
    nodes : tuple of FileNode
        Of the file's own graph, in its order; those that lead to no tensor of this model are left out.
    inputs, outputs : tuple of str
    """

    def __init__(
        self,
        graph: Graph,
        program: Program,
        values: Mapping[str, Any],
        nodes: Sequence[FileNode],
        initializers: Sequence[str],
        *,
        store: Store | None,
        threads: int,
        winograd: bool | float,
        precision: str,
        limit: int,
    ) -> None:
        self.model = graph.name
        self.inputs = tuple(graph.inputs)
        self.outputs = tuple(graph.outputs)
        makers, known = graph.producers(), graph.names()
        named = []
        for node in nodes:
            made = [n for n in node.outputs if n and n in known and n not in graph.inputs]
            if made:
                inner = next((makers[n] for n in made if n in makers), None)
                named.append(node if node.name or inner is None else replace(node, name=inner.name))
        self.nodes = tuple(named)
        of_file = {n: node for node in named for n in node.outputs if n and n in known and n not in graph.inputs}
        self._tensors: dict[str, Traced] = {}
        constants = [n for n in initializers if n in graph.constants]
        for name in dict.fromkeys((*graph.inputs, *constants, *of_file)):
            source = "input" if name in graph.inputs else "constant" if name in graph.constants else "node"
            self._tensors[name] = Traced(self, name, of_file.get(name), source)
        self._dropped = {n: node for node in nodes for n in node.outputs if n and n not in known}
        self._graph = graph
        self._program = program
        self._store = store
        self._threads = threads
        self._winograd = winograd
        self._precision = precision
        # which layers are of lower precision is decided by all of a network
        self._limit = limit if precision == "float32" else None
        self._feeds = {name: _own(value) for name, value in values.items()}
        self._lock = own_lock(self)
        self._done = _Progress((), {}, dict(self._feeds), {})
        self._last_read = {n: at for at, node in enumerate(graph.nodes) for n in node.inputs if n}
        self._results: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._verdicts: dict[str, tuple[str, tuple[str, ...], bool]] | None = None

    def __getitem__(self, name: str) -> Traced:
        """The tensor of this name.

        Raises
        ------
        InputError
            The file has none; `expected` has the names like it.
        """
        found = self._tensors.get(name) if isinstance(name, str) else None
        if found is None:
            raise self._unknown(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def get(self, name: str, default: Any = None) -> Any:
        """The tensor of this name, or `default`."""
        return self._tensors.get(name, default)

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<cnnengine.Trace of {self.model!r}: {len(self._tensors)} tensors of {len(self.nodes)} nodes>"

    def _repr_html_(self) -> str:
        from ..pages import escape, listing

        rows = []
        for tensor in list(self._tensors.values())[:SHOWN]:
            node = tensor.node
            rows.append((tensor.name, tensor.source, "" if node is None else node.operator, "" if node is None else node.name))
        more = f"<p>and {len(self._tensors) - SHOWN} more</p>" if len(self._tensors) > SHOWN else ""
        return f"<p>{escape(repr(self)[1:-1])}</p>{listing(('tensor', 'source', 'operator', 'node'), rows)}{more}"

    def _unknown(self, name: Any) -> InputError:
        if not isinstance(name, str):
            return InputError(
                "tensors have names", model=self.model, tensor="name", expected="a str", received=type(name).__name__
            )
        if name in self._dropped:
            node = self._dropped[name]
            return InputError(
                "an output that is not computed", model=self.model, node=node.name, operator=node.operator, tensor=name
            )
        holder = _holder(self._graph, name)
        if holder is not None:
            return InputError(
                "the tensor is inside of a node, which computes it at each of its rounds",
                model=self.model,
                node=holder.name,
                operator=holder.op.op_type,
                tensor=name,
                expected=f"what the node gives: {', '.join(map(repr, filter(None, holder.outputs)))}",
            )
        return self._graph.no_value(name, "a tensor of the file")

    def maker(self, name: str) -> Node | None:
        """The engine's node that makes a tensor, with its settings; None of an input or a constant.

        Of an operator that the engine writes by several, it is the last of these.
        """
        self[name]
        return self._graph.producers().get(name)

    # ------------------------------------------------------------ values
    def value(self, name: str) -> Any:
        """What a tensor holds; `Traced.value` in one call.

        Raises
        ------
        InputError, ShapeError
            No such tensor; or a node on the way to it cannot be computed.
        ModelError
            The file was lost or written to.
        """
        self[name]
        with self._lock:
            if name in self._feeds:
                return _frozen(self._feeds[name])
            if name in self._graph.constants:
                return _frozen(self._constant(name))
            while name not in self._done.part_of:
                self._advance()
            at = self._done.part_of[name]
            if at not in self._results:
                self._keep(at, self._run(self._done.parts[at][0])[0])
            self._results.move_to_end(at)
            return _frozen(self._results[at][name])

    def _constant(self, name: str) -> np.ndarray:
        """A copy of a constant: the file that it may be a view of is read here alone."""
        with nullcontext() if self._store is None else self._store.reading():
            return np.array(self._graph.constants[name])

    def _advance(self) -> None:
        """Run the next part."""
        done = self._done
        if self._store is None:
            part, known = self._next()
        else:
            self._store.check()
            with self._store.reading():
                part, known = self._next()
        results, layers, settled = self._run(part)
        later = {n: v for n, v in {**done.live, **results}.items() if self._last_read.get(n, -1) >= part.end}
        at = len(done.parts)
        self._keep(at, results)
        self._done = _Progress(
            (*done.parts, (part, layers, settled)),
            {**done.part_of, **dict.fromkeys(results, at)},
            later,
            {n: v for n, v in {**done.known, **known}.items() if n in later},
        )

    def _keep(self, at: int, results: dict[str, Any]) -> None:
        """Keep what a part gave, and give up what was asked for the longest time ago where it is too much."""
        self._results[at] = results
        if self._limit is None:
            return
        held = {i: sum(map(_nbytes, values.values())) for i, values in self._results.items()}
        for old in list(self._results):
            if old != at and sum(held.values()) > self._limit:
                del self._results[old], held[old]

    def _next(self) -> tuple[_Part, dict[str, np.ndarray]]:
        """The nodes that follow, as many as make `limit` bytes; and what is known of what they make."""
        done, graph = self._done, self._graph
        start, end = done.end, len(graph.nodes)
        known: dict[str, np.ndarray] = {}
        if self._limit is not None:
            specs = {n: TensorSpec.of(np.asarray(v)) for n, v in graph.constants.items()}
            specs.update({n: _spec(v) for n, v in done.live.items()})
            specs.update({n: TensorSpec.of(v) for n, v in done.known.items()})
            end, total = start + infer_nodes(graph.nodes[start:], specs, self.model), 0
            for index, node in enumerate(graph.nodes[start:end], start):
                total += sum(math.prod(specs[n].concrete) * specs[n].dtype.itemsize for n in node.outputs if n in specs)
                if total > self._limit and index > start:
                    end = index
                    break
            made = {n for node in graph.nodes[start:end] for n in node.outputs if n in specs}
            known = {n: value for n in made if (value := specs[n].value) is not None}
        read = {n for node in graph.nodes[start:end] for n in node.inputs if n}
        inputs = {n: v for n, v in done.live.items() if n in read and n not in done.known}
        return _Part(start, end, inputs, {n: v for n, v in done.known.items() if n in read}), known

    def _run(self, part: _Part) -> tuple[dict[str, Any], dict[str, _Made], frozenset[str]]:
        """All that the nodes of a part make, its layers, and the names of what followed from the file and the shapes."""
        from ..rewrites import lower_precision, simplify  # as in `Planner`

        nodes = self._graph.nodes[part.start : part.end]
        names = [n for node in nodes for n in node.outputs if n]
        read = {n for node in nodes for n in node.inputs if n}
        constants = {n: v for n, v in self._graph.constants.items() if n in read}
        inputs = {n: _declared(v) for n, v in part.inputs.items()}
        graph = Graph(inputs, {n: TensorSpec(UNKNOWN, None) for n in names}, nodes, {**constants, **part.known}, self.model)
        with nullcontext() if self._store is None else self._store.reading(), limited(self._threads):
            if self._store is not None:
                self._store.check()
            simple, _, pairs = lower_precision(simplify(graph), self._precision)
            given = {n: kept(simple.constants[n]) for n in simple.outputs if n in simple.constants}
        simple = simple.replace(constants={**simple.constants, **given})
        program = Program(simple, winograd=self._winograd, store=self._store, threads=self._threads, pairs=pairs)
        values: dict[str, Any] = dict(part.inputs)
        layers: dict[str, _Made] = {}
        settled = {*simple.constants, *part.known}
        for segment in _walk(program, values, self._threads, True):
            layers.update(_layers(segment, simple.constants))
            settled.update(segment.constants)
        results = {n: _frozen(values[n] if n in values else simple.constants[n]) for n in names}
        return results, layers, frozenset(settled)

    # ------------------------------------------------------------ what a run makes of them
    def found(self, name: str) -> tuple[str, tuple[str, ...], bool]:
        """`how`, `fused` and `exact` of a tensor. All of the trace is computed for this, once."""
        self[name]
        if name in self._feeds:
            return "given", (), True
        if name in self._graph.constants:
            return "known", (), True
        with self._lock:
            while self._done.end < len(self._graph.nodes):
                self._advance()
            if self._verdicts is None:
                with nullcontext() if self._store is None else self._store.reading():
                    self._verdicts = self._judge()
            return self._verdicts[name]

    def _judge(self) -> dict[str, tuple[str, tuple[str, ...], bool]]:
        run: dict[str, _Made] = {}
        settled = set(self._program.graph.constants)
        values: dict[str, Any] = dict(self._feeds)
        for segment in _walk(self._program, values, self._threads, False):
            run.update(_layers(segment, self._program.graph.constants))
            settled.update(segment.constants)
        members = self._members(run, settled)
        same = self._same_bits(run)
        sure = {n for (_, _, known), at in zip(self._done.parts, count()) for n in known if self._done.part_of.get(n) == at}
        names = {n: node.name for node in self.nodes for n in node.outputs}
        verdicts: dict[str, tuple[str, tuple[str, ...], bool]] = {}
        for name in self._done.part_of:
            if name in sure or name in settled:
                verdicts[name] = "known", (), name in sure or name in same
                continue
            together = members.get(name, frozenset())
            fused = tuple(dict.fromkeys(names[n] for n in self._tensors if n in together and n in names))
            fused = fused if len(fused) > 1 else ()
            if name in run:
                verdicts[name] = "fused" if fused else "alone", fused, name in same
            else:
                verdicts[name] = "fused" if fused else "unused", fused, False
        return verdicts

    def _same_bits(self, run: Mapping[str, _Made]) -> set[str]:
        """The values that have the bits of a run, were it to store them."""
        own = self._graph.names()
        before = self._before_activations(run)
        same = {*self._feeds, *self._graph.constants}
        for _, layers, settled in self._done.parts:
            here = same | settled
            for name, ours in layers.items():
                if name in here or not all(n in here for n in ours.node.inputs if n):
                    continue
                theirs = run.get(name) or before.get(name)
                # a name that a rewrite made may be of something else in the other graph
                if (name in own and ours.node.op.tolerance == EXACT) or (theirs is not None and self._alike(ours, theirs)):
                    here.add(name)
            same.update(here & own)
        return same

    def _members(self, run: Mapping[str, _Made], settled: set[str]) -> dict[str, frozenset[str]]:
        """For each tensor that a run computes, those that the same layer computes."""
        makers = self._graph.producers()
        found: dict[str, frozenset[str]] = {}
        for made in {id(m.node): m for m in run.values()}.values():
            ends = {*made.node.inputs, *self._feeds, *settled}
            wanted = [n for n in made.node.outputs if n in makers]
            seen: set[str] = set()
            while wanted:
                name = wanted.pop()
                if name in seen or name not in makers or (name in ends and name not in made.node.outputs):
                    continue
                if name in run and run[name] is not made and run[name].node is not made.node:
                    continue
                seen.add(name)
                wanted += makers[name].inputs
            own = frozenset(n for n in seen if makers[n].op.op_type not in ALIASES) or frozenset(seen)
            for name in seen:
                found.setdefault(name, own)
        return found

    def _before_activations(self, run: Mapping[str, _Made]) -> dict[str, _Made]:
        """The layers of a run that end in an activation, as they are without it: by what the activation reads."""
        makers = self._graph.producers()
        found: dict[str, _Made] = {}
        for name, made in run.items():
            kind: Any = type(made.node.op)
            activation = getattr(made.node.op, "activation", None)
            node = makers.get(name)
            if not isinstance(activation, Activation) or "activation" not in fields_of(kind):
                continue  # a convolution with a residual has it of the convolution that it is around
            if node is None or not node.inputs:
                continue
            plain = made.node.replace(op=replace(made.node.op, activation=None), outputs=(node.inputs[0],))  # type: ignore[type-var]
            found.setdefault(node.inputs[0], replace(made, node=plain))
        return found

    def _alike(self, ours: _Made, theirs: _Made) -> bool:
        """Whether two layers compute the same bits of the same inputs."""
        a, b = ours.node, theirs.node
        if type(a.op) is not type(b.op) or len(a.inputs) != len(b.inputs) or ours.hosted != theirs.hosted:
            return False
        if ours.kernels != theirs.kernels or ours.tile != theirs.tile:
            return False
        try:
            if not bool(a.op == b.op):
                return False
        except ValueError:  # settings that are arrays
            return False
        return all(self._same_input(x, y, ours, theirs) for x, y in zip(a.inputs, b.inputs, strict=True))

    def _same_input(self, ours: str, theirs: str, a: _Made, b: _Made) -> bool:
        if ours in a.constants and theirs in b.constants and not (ours == theirs and ours in self._graph.constants):
            x, y = a.constants[ours], b.constants[theirs]
            return x is y or (isinstance(x, np.ndarray) and isinstance(y, np.ndarray) and _equal(x, y))
        return ours == theirs


def _walk(program: Program, values: dict[str, Any], threads: int, to_end: bool) -> Iterator[Segment]:
    """The segments for these values in order, run on them; the last one not, unless `to_end`."""
    workspace = program.workspaces.take()
    try:
        yield from _walked(program, values, workspace, threads, to_end)
    finally:
        program.workspaces.give(workspace)


def _walked(program: Program, values: dict[str, Any], workspace: Workspace, threads: int, to_end: bool) -> Iterator[Segment]:
    start, count = 0, len(program.graph.nodes)
    while start < count:
        segment = program.segment(start, values)
        yield segment
        start = segment.end
        if start < count or to_end:
            segment.execute(values, workspace, threads)


def _layers(segment: Segment, constants: Mapping[str, Any]) -> dict[str, _Made]:
    """The layers of a segment by the values that they make, in order."""
    nodes = [layer.node for layer in segment.layers] + ([] if segment.tail is None else [segment.tail.node])
    owners = {name: node for node in nodes for name in node.outputs if name}
    owners.update((node.name, node) for node in nodes)
    kernels: dict[int, list[str]] = {}
    for report in segment.plan.reports:
        node = owners.get(report.node)
        if node is not None and not report.kernel.startswith(("reorder", "copy")):
            kernels.setdefault(id(node), []).append(report.kernel)
    found: dict[str, _Made] = {}
    everything = {**constants, **segment.constants}
    for node in nodes:
        hosted = node.name in segment.host_nodes or (segment.tail is not None and node is segment.tail.node)
        tile = segment.tiles.get(node.outputs[0]) if node.outputs else None
        made = _Made(node, tuple(kernels.get(id(node), ())), tile, hosted, everything)
        found.update((name, made) for name in node.outputs if name)
    return found


def _holder(graph: Graph, name: str) -> Node | None:
    """The node inside of whose graphs a tensor is."""
    for node in graph.nodes:
        if isinstance(node.op, Controlling):
            for body in [getattr(node.op, field) for field in node.op.graphs]:
                if name in body.names() or _holder(body, name) is not None:
                    return node
    return None


def _spec(value: Any) -> TensorSpec:
    if isinstance(value, np.ndarray):
        return TensorSpec(value.dtype, value.shape)
    return TensorSpec(np.dtype(object), None)


def _declared(value: Any) -> TensorSpec:
    """What an input of a graph is, of which this is a value."""
    if isinstance(value, list):
        return TensorSpec(value[0].dtype if value else UNKNOWN, None, kind="sequence")
    return TensorSpec(UNKNOWN, None, kind="optional") if value is None else TensorSpec(value.dtype, value.shape)


def _equal(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether arrays have the same bits."""
    return x.dtype == y.dtype and x.shape == y.shape and (x.dtype == object or x.tobytes() == y.tobytes())


def _nbytes(value: Any) -> int:
    return sum(map(_nbytes, value)) if isinstance(value, list) else int(getattr(value, "nbytes", 0))


def _own(value: Any) -> Any:
    """A copy that stays what it is when the caller goes on with his array."""
    if isinstance(value, list):
        return [_own(v) for v in value]
    return None if value is None else _frozen(np.array(value, order="C"))


def _frozen(value: Any) -> Any:
    """The value, arrays of it as views that cannot be written to."""
    if isinstance(value, list):
        return [_frozen(v) for v in value]
    if value is None:
        return None
    view = np.asarray(value).view()
    view.flags.writeable = False
    return view
