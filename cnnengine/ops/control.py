"""Operators that hold graphs: If, Loop, Scan and SequenceMap.

The outer values that a subgraph reads are further inputs of the node and of each of its subgraphs, after the
operator's own (the importer adds them, in the same order): a rewrite may rename or replace them like any other input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ..errors import CNNEngineError, InputError, ModelError
from ..graph import Graph
from ..limits import use
from ..operator import ANY_RANK, NodeRecord, Operator
from ..records import dataclass
from ..spec import UNKNOWN, TensorSpec
from .common import FAULTS, Specs, normal_axis, required, scalar

ROUNDS = 2**31 - 1
"""Rounds of a Loop that names no limit."""


def waits(op: Operator) -> bool:
    """Whether a node must not be computed while a model is loaded, for its operator's sake or for one's in its graphs."""
    if op.waits:
        return True
    return isinstance(op, Controlling) and any(waits(n.op) for field in op.graphs for n in getattr(op, field).nodes)


InferGraph = Callable[[Graph, Specs], list[TensorSpec]]
"""Specs of a graph's outputs from those of its inputs."""


def outline_graph(graph: Graph, inputs: Specs) -> list[TensorSpec]:
    """dtypes and ranks of a subgraph's outputs from what is known of its inputs; computes nothing."""
    nothing = TensorSpec(UNKNOWN, None)
    known: dict[str, TensorSpec | None] = {n: TensorSpec.of(v) for n, v in graph.constants.items()}
    known.update(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        found = node.op.outline([known[n] if n else None for n in node.inputs])
        known.update(dict.fromkeys(node.outputs, nothing))
        known.update((n, TensorSpec(s.dtype, s.shape)) for n, s in zip(node.outputs, found, strict=False))
    return [known[n] or nothing for n in graph.outputs]


def infer_graph(graph: Graph, inputs: Specs) -> list[TensorSpec]:
    """Specs of a subgraph's outputs from those of its inputs."""
    known: dict[str, TensorSpec | None] = {n: TensorSpec.of(v) for n, v in graph.constants.items()}
    known.update(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        specs = [known[n] if n else None for n in node.inputs]
        try:
            results = node.op.specs(specs)
        except ValueError:  # the rule asks for extents, and they are not known here
            if all(s is None or s.is_concrete for s in specs):
                raise
            results = node.op.outline(specs)
            results += [TensorSpec(UNKNOWN, None)] * (len(node.outputs) - len(results))
        if all(s is None or s.value is not None for s in specs) and not waits(node.op):
            values = node.op.evaluate(*[None if s is None else s.value for s in specs])
            results = [TensorSpec.of(v) if isinstance(v, np.ndarray) else r for v, r in zip(values, results, strict=True)]
        known.update(zip(node.outputs, results, strict=False))
    return [known[n] for n in graph.outputs]  # type: ignore[misc]


def _spec_of(value: Any) -> TensorSpec | None:
    """The spec of a value while running, its elements not told."""
    if value is None:
        return None
    return TensorSpec(value.dtype, value.shape) if isinstance(value, np.ndarray) else TensorSpec(UNKNOWN, None)


def _graph(node: NodeRecord, name: str) -> Graph:
    graph = node.attribute(name)
    if not isinstance(graph, Graph):
        raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected=f"the graph {name!r}")
    return graph


def _merged(a: TensorSpec, b: TensorSpec) -> TensorSpec:
    """What is sure when either may come."""
    if a.dtype == UNKNOWN:
        a = TensorSpec(b.dtype, a.shape)
    if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return TensorSpec(a.dtype, None)
    return TensorSpec(a.dtype, tuple(p if p == q else None for p, q in zip(a.shape, b.shape, strict=True)))


Evaluate = Callable[[Graph, Sequence[Any]], list[Any]]
"""The outputs of a graph for its inputs, in their order."""


def _plainly(graph: Graph, values: Sequence[Any]) -> list[Any]:
    return graph.evaluate(dict(zip(graph.inputs, values, strict=True)))


class Controlling(Operator):
    """An operator with graphs: `run` says which of them are evaluated on what, `evaluate` how.

    Class attributes
    ----------------
    graphs : names of the fields that hold graphs.
    """

    graphs: ClassVar[tuple[str, ...]] = ("body",)

    @property
    def own_inputs(self) -> int:
        """Inputs of the node before the captured ones."""
        raise NotImplementedError

    def infer_by(self, infer: InferGraph, inputs: Specs) -> list[TensorSpec]:
        """Specs of the outputs from those of the inputs, `infer` telling what graphs give."""
        raise NotImplementedError

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return self.infer_by(infer_graph, inputs)

    def outline(self, inputs: Specs) -> list[TensorSpec]:
        try:
            return self.infer_by(outline_graph, inputs)
        except (CNNEngineError, *FAULTS):
            return []

    def run(self, inputs: Sequence[Any], evaluate: Evaluate) -> list[Any]:
        """The outputs, each subgraph evaluated by `evaluate`."""
        raise NotImplementedError

    def reference(self, *inputs: Any) -> list[Any]:
        return self.run(inputs, _plainly)


@dataclass(frozen=True)
class If(Controlling):
    """ONNX If (1 to 25): the one graph or the other, by a condition."""

    then_branch: Graph
    else_branch: Graph

    op_type: ClassVar[str] = "If"
    widens: ClassVar[bool] = False
    graphs: ClassVar[tuple[str, ...]] = ("then_branch", "else_branch")
    light: ClassVar[int] = ANY_RANK
    divides: ClassVar[bool] = True

    @property
    def own_inputs(self) -> int:
        return 1

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> If:
        op = cls(_graph(node, "then_branch"), _graph(node, "else_branch"))
        for branch in (op.then_branch, op.else_branch):
            if len(branch.outputs) != len(node.outputs):
                raise ModelError(
                    "a branch has the wrong number of outputs",
                    node=node.name,
                    operator=node.op_type,
                    expected=len(node.outputs),
                    received=len(branch.outputs),
                )
        return op

    def branch(self, condition: Any) -> Graph:
        """The graph that a condition chooses."""
        return self.then_branch if bool(scalar(condition, self.op_type, "cond")) else self.else_branch

    def infer_by(self, infer: InferGraph, inputs: Specs) -> list[TensorSpec]:
        condition = required(inputs, 0, self.op_type)
        if condition.value is not None:
            return infer(self.branch(condition.value), inputs[1:])
        found: list[list[TensorSpec]] = []
        failures: list[CNNEngineError] = []
        for branch in (self.then_branch, self.else_branch):
            try:
                found.append(infer(branch, inputs[1:]))
            except CNNEngineError as error:
                failures.append(error)
        if not found:
            raise failures[0]
        if failures:  # the condition may keep these shapes out of that branch (a network per sampling rate): running decides
            return [TensorSpec(s.dtype, None) for s in found[0]]
        return [_merged(a, b) for a, b in zip(*found, strict=True)]

    def run(self, inputs: Sequence[Any], evaluate: Evaluate) -> list[Any]:
        return evaluate(self.branch(inputs[0]), inputs[1:])


@dataclass(frozen=True)
class Loop(Controlling):
    """ONNX Loop (1 to 25): a graph again and again, up to a number of rounds or while its condition holds.

    Attributes
    ----------
    body : Graph
        (round, condition, carried..., captured...) -> (condition, carried..., scanned...).
    carried : int
        Values that go from round to round; the outputs after them are stacked, one slice per round.
    """

    body: Graph
    carried: int

    op_type: ClassVar[str] = "Loop"
    widens: ClassVar[bool] = False
    waits: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK
    divides: ClassVar[bool] = True

    @property
    def own_inputs(self) -> int:
        return 2 + self.carried

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Loop:
        body, carried = _graph(node, "body"), max(len(node.inputs) - 2, 0)
        if len(body.outputs) < 1 + carried or len(body.inputs) < 2 + carried or len(node.outputs) != len(body.outputs) - 1:
            raise ModelError(
                "the body does not fit the node",
                node=node.name,
                operator=node.op_type,
                expected=f"{2 + carried} inputs, {1 + len(node.outputs)} outputs",
                received=f"{len(body.inputs)} and {len(body.outputs)}",
            )
        return cls(body, carried)

    def infer_by(self, infer: InferGraph, inputs: Specs) -> list[TensorSpec]:
        n = self.carried
        counter, condition = TensorSpec(np.dtype(np.int64), ()), TensorSpec(np.dtype(np.bool_), ())
        start = [None if s is None else TensorSpec(s.dtype, s.shape) for s in inputs[2 : 2 + n]]
        after = infer(self.body, [counter, condition, *start, *inputs[2 + n :]])
        carried = [a if s is None else _merged(s, a) for s, a in zip(start, after[1 : 1 + n], strict=True)]
        if any(c.shape != s.shape for c, s in zip(carried, start, strict=True) if s is not None):
            # an extent changes from round to round: ranks at most are sure, and no rule holds for the stacked outputs
            return [*carried, *(TensorSpec(a.dtype, None) for a in after[1 + n :])]
        return [*carried, *(TensorSpec(a.dtype, None if a.shape is None else (None, *a.shape)) for a in after[1 + n :])]

    def _goes_on(self) -> bool:
        """Whether the body hands its condition on unchanged, or always says to go on."""
        name = next(iter(self.body.outputs))
        makers = self.body.producers()
        while name in makers and makers[name].op.op_type == "Identity":
            name = makers[name].inputs[0]
        if name in self.body.constants:
            return bool(self.body.constants[name].all())
        return name == list(self.body.inputs)[1]

    def run(self, inputs: Sequence[Any], evaluate: Evaluate) -> list[Any]:
        limit = ROUNDS if inputs[0] is None else int(scalar(inputs[0], self.op_type, "M"))
        going = True if len(inputs) < 2 or inputs[1] is None else bool(scalar(inputs[1], self.op_type, "cond"))
        if going and limit >= ROUNDS and self._goes_on():
            raise InputError(
                "the loop has no end", operator=self.op_type, tensor="cond", expected="a limit, or a condition that changes"
            )
        n = self.carried
        state, captured = list(inputs[2 : 2 + n]), inputs[2 + n :]
        scanned: list[list[Any]] = [[] for _ in range(len(self.body.outputs) - 1 - n)]
        i = 0
        while going and i < limit:
            use("loop_trips", 1)
            results = evaluate(self.body, (np.array(i, np.int64), np.array(going), *state, *captured))
            going = bool(scalar(results[0], self.op_type, "cond"))
            state = results[1 : 1 + n]
            for column, value in zip(scanned, results[1 + n :], strict=True):
                column.append(value)
            i += 1
        if i == 0 and scanned:
            specs = self.infer([_spec_of(v) for v in inputs])[n:]
            return [*state, *(np.zeros([d if isinstance(d, int) else 0 for d in s.shape or (0,)], s.dtype) for s in specs)]
        return [*state, *(np.stack(column) for column in scanned)]


def _image(spec: TensorSpec) -> TensorSpec:
    """A spec without its batch axis."""
    return TensorSpec(spec.dtype, None if spec.shape is None else spec.shape[1:])


@dataclass(frozen=True)
class Scan(Controlling):
    """ONNX Scan (8 to 25): a graph over the slices of its inputs along an axis, with values carried on.

    Attributes
    ----------
    body : Graph
        (carried..., slices..., captured...) -> (carried..., slices...).
    scans : int
        Number of inputs that are cut into slices.
    formal : int
        Inputs of the node before the captured ones.
    batched : bool
        Version 8: all inputs have a batch axis, scanned is the one after it, and the node's first input, which may be absent,
        has the number of slices of each image.
    """

    body: Graph
    scans: int
    formal: int
    input_axes: tuple[int, ...] = ()
    input_directions: tuple[int, ...] = ()
    output_axes: tuple[int, ...] = ()
    output_directions: tuple[int, ...] = ()
    batched: bool = False

    op_type: ClassVar[str] = "Scan"
    widens: ClassVar[bool] = False
    waits: ClassVar[bool] = True

    @property
    def own_inputs(self) -> int:
        return self.formal + self.batched

    min_version: ClassVar[int] = 8

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Scan:
        batched = node.version < 9
        body, scans, formal = _graph(node, "body"), int(node.attribute("num_scan_inputs", 0)), len(node.inputs) - batched
        if not 1 <= scans <= formal or len(body.inputs) < formal or len(body.outputs) != len(node.outputs):
            raise ModelError(
                "the body does not fit the node",
                node=node.name,
                operator=node.op_type,
                expected=f"{formal} inputs, {len(node.outputs)} outputs",
                received=f"{len(body.inputs)} and {len(body.outputs)}",
            )
        stacked = len(node.outputs) - (formal - scans)
        lists = []
        for name, length in (
            ("scan_input_axes", scans),
            ("directions" if batched else "scan_input_directions", scans),
            ("scan_output_axes", stacked),
            ("scan_output_directions", stacked),
        ):
            values = tuple(node.attribute(name) or (0,) * length)
            if len(values) != length:
                raise ModelError(
                    "a list has the wrong length",
                    node=node.name,
                    operator=node.op_type,
                    expected=f"{length} {name}",
                    received=values,
                )
            lists.append(values)
        ins, in_ways, outs, out_ways = lists
        return cls(body, scans, formal, ins, in_ways, outs, out_ways, batched)

    def _rounds(self, shapes: Sequence[Sequence[Any]]) -> Any:
        lengths = {s[normal_axis(a, len(s), self.op_type)] for s, a in zip(shapes, self.input_axes, strict=True)}
        if len(lengths) != 1:
            raise InputError(
                "the scanned inputs differ in length",
                operator=self.op_type,
                expected="one length",
                received=sorted(map(str, lengths)),
            )
        return lengths.pop()

    def infer_by(self, infer: InferGraph, inputs: Specs) -> list[TensorSpec]:
        if self.batched:
            batch = required(inputs, 1, self.op_type).shape
            specs = self._of_one().infer_by(infer, [None if s is None else _image(s) for s in inputs[1:]])
            return [TensorSpec(s.dtype, None if s.shape is None or not batch else (batch[0], *s.shape)) for s in specs]
        states = self.formal - self.scans
        cut = [required(inputs, i, self.op_type) for i in range(states, self.formal)]
        rounds = self._rounds([s.shape for s in cut]) if all(s.shape is not None for s in cut) else None  # type: ignore[misc]
        slices = []
        for s, a in zip(cut, self.input_axes, strict=True):
            if s.shape is None:
                slices.append(TensorSpec(s.dtype, None))
            else:
                axis = normal_axis(a, len(s.shape), self.op_type)
                slices.append(TensorSpec(s.dtype, (*s.shape[:axis], *s.shape[axis + 1 :])))
        start = [None if s is None else TensorSpec(s.dtype, s.shape) for s in inputs[:states]]
        after = infer(self.body, [*start, *slices, *inputs[self.formal :]])
        out = [a if s is None else _merged(s, a) for s, a in zip(start, after[:states], strict=True)]
        for spec, a in zip(after[states:], self.output_axes, strict=True):
            if spec.shape is None:
                out.append(TensorSpec(spec.dtype, None))
            else:
                axis = normal_axis(a, len(spec.shape) + 1, self.op_type)
                out.append(TensorSpec(spec.dtype, (*spec.shape[:axis], rounds, *spec.shape[axis:])))
        return out

    def _of_one(self) -> Scan:
        """What version 8 does with each image."""
        return replace(self, batched=False)

    def _by_image(self, inputs: Sequence[Any], evaluate: Evaluate) -> list[Any]:
        lengths, own, captured = inputs[0], inputs[1 : 1 + self.formal], inputs[1 + self.formal :]
        states = self.formal - self.scans
        batch = {len(x) for x in own if x.ndim}
        longest = {x.shape[1] for x in own[states:] if x.ndim > 1}
        if len(batch) != 1 or len(longest) != 1 or (lengths is not None and lengths.shape != (max(batch),)):
            raise InputError(
                "the inputs differ in batch or length",
                operator=self.op_type,
                expected="one batch, one length",
                received=[x.shape for x in own],
            )
        rows = []
        for i in range(batch.pop()):
            n = max(longest) if lengths is None else int(lengths[i])
            if not 0 <= n <= max(longest):
                raise InputError("not a length", operator=self.op_type, tensor="sequence_lens", expected=max(longest), received=n)
            images = [x[i] for x in own[:states]] + [x[i, :n] for x in own[states:]]
            results = self._of_one().run((*images, *captured), evaluate)
            for k in range(states, len(results)):  # shorter sequences end in zeros
                y = results[k]
                results[k] = np.concatenate([y, np.zeros((max(longest) - n, *y.shape[1:]), y.dtype)])
            rows.append(results)
        return [np.stack(column) for column in zip(*rows, strict=True)]

    def run(self, inputs: Sequence[Any], evaluate: Evaluate) -> list[Any]:
        if self.batched:
            return self._by_image(inputs, evaluate)
        states = self.formal - self.scans
        state, cut, captured = list(inputs[:states]), inputs[states : self.formal], inputs[self.formal :]
        rounds = self._rounds([x.shape for x in cut])
        stacked: list[list[Any]] = [[] for _ in self.output_axes]
        use("loop_trips", rounds)
        for i in range(rounds):
            slices = [
                x.take(rounds - 1 - i if d else i, axis=a)
                for x, a, d in zip(cut, self.input_axes, self.input_directions, strict=True)
            ]
            results = evaluate(self.body, (*state, *map(np.asarray, slices), *captured))
            state = results[:states]
            for column, value in zip(stacked, results[states:], strict=True):
                column.append(value)
        if rounds == 0:
            specs = self.infer([None if v is None else TensorSpec(v.dtype, v.shape) for v in inputs])[states:]
            return [*state, *(np.zeros([d if isinstance(d, int) else 0 for d in s.shape or (0,)], s.dtype) for s in specs)]
        joined = [
            np.stack(c[::-1] if d else c, axis=a)
            for c, a, d in zip(stacked, self.output_axes, self.output_directions, strict=True)
        ]
        return [*state, *joined]


@dataclass(frozen=True)
class SequenceMap(Controlling):
    """ONNX SequenceMap (17): a graph on each element of a sequence, with the elements beside it or whole tensors.

    Attributes
    ----------
    body : Graph
        (element, further inputs..., captured...) -> one element of each output.
    formal : int
        Inputs of the node before the captured ones.
    """

    body: Graph
    formal: int

    op_type: ClassVar[str] = "SequenceMap"
    widens: ClassVar[bool] = False

    @property
    def own_inputs(self) -> int:
        return self.formal

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> SequenceMap:
        body = _graph(node, "body")
        if len(body.inputs) < len(node.inputs) or len(body.outputs) != len(node.outputs):
            raise ModelError(
                "the body does not fit the node",
                node=node.name,
                operator=node.op_type,
                expected=f"{len(node.inputs)} inputs, {len(node.outputs)} outputs",
                received=f"{len(body.inputs)} and {len(body.outputs)}",
            )
        return cls(body, len(node.inputs))

    def infer_by(self, infer: InferGraph, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(s.dtype, None) for s in self.body.outputs.values()]

    def run(self, inputs: Sequence[Any], evaluate: Evaluate) -> list[Any]:
        columns, captured = inputs[: self.formal], inputs[self.formal :]
        rounds = len(columns[0]) if isinstance(columns[0], list) else -1
        for column in columns:
            if rounds < 0 or (isinstance(column, list) and len(column) != rounds):
                raise InputError(
                    "the sequences do not fit together",
                    operator=self.op_type,
                    expected="a sequence, and others of its length",
                    received=[len(c) if isinstance(c, list) else type(c).__name__ for c in columns],
                )
        made: list[list[Any]] = [[] for _ in self.body.outputs]
        use("loop_trips", rounds)
        for i in range(rounds):
            results = evaluate(self.body, (*(c[i] if isinstance(c, list) else c for c in columns), *captured))
            for column, value in zip(made, results, strict=True):
                column.append(value)
        return made
