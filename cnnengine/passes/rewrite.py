"""What passes share: replacing values, following constants, and a few facts (dtype, rank) that hold for every input."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from weakref import WeakKeyDictionary

import numpy as np

from ..errors import CNNEngineError
from ..graph import MAX_RANK, Graph, Node, TensorSpec
from ..ops.base import Operator
from ..ops.common import kind_of
from ..ops.shape import Identity

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


@dataclass(frozen=True, eq=False)
class Fact:
    """What is known of a value whatever the input shapes; None where it is not.

    NumPy takes None for float64 where it compares it with a dtype: ask `has_dtype`, which does not.
    """

    dtype: np.dtype | None = None
    rank: int | None = None

    def has_dtype(self, dtype: np.dtype) -> bool:
        """Whether the dtype is known and is this one."""
        return self.dtype is not None and self.dtype == dtype

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fact) or self.rank != other.rank:
            return False
        return self.dtype is other.dtype or (other.dtype is not None and self.has_dtype(other.dtype))

    def __hash__(self) -> int:
        return hash((self.dtype, self.rank))


_KEEP = frozenset(
    [
        "Abs",
        "AveragePool",
        "BatchNormalization",
        "Ceil",
        "Celu",
        "ChannelLayerNorm",
        "Clip",
        "CumSum",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "GlobalAveragePool",
        "GlobalLpPool",
        "GlobalMaxPool",
        "GroupNormalization",
        "HardSigmoid",
        "HardSwish",
        "Hardmax",
        "InstanceNormalization",
        "LRN",
        "LayerNormalization",
        "LeakyRelu",
        "Log",
        "LogSoftmax",
        "LpPool",
        "MaxPool",
        "MaxUnpool",
        "Mish",
        "Neg",
        "PRelu",
        "Reciprocal",
        "Relu",
        "Resize",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Softmax",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tanh",
        "ThresholdedRelu",
        "Upsample",
    ]
)
_BROADCAST = frozenset(["Add", "Div", "Max", "Mean", "Min", "Mod", "Mul", "Pow", "Sub", "Sum"])
_COMPARE = frozenset(["And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Or", "Xor"])
_REDUCE = frozenset(
    ["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"]
    + ["ReduceProd", "ReduceSum", "ReduceSumSquare"]
)
_BY_RULE = frozenset(
    [
        "Cast",
        "CastLike",
        "Concat",
        "ConstantOfShape",
        "DepthToSpace",
        "Dropout",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "Identity",
        "NonZero",
        "OneHot",
        "Pad",
        "Range",
        "Reshape",
        "ScatterElements",
        "ScatterND",
        "Shape",
        "Size",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "TopK",
        "Transpose",
        "Trilu",
        "Unsqueeze",
    ]
)


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


def _facts(graph: Graph) -> dict[str, Fact]:
    constants = graph.constants
    known: dict[str, Fact] = {n: _fact(v.dtype, v.ndim) for n, v in constants.items()}
    for name, spec in graph.inputs.items():
        known[name] = _fact(None if kind_of(spec.dtype) == "V" else spec.dtype, None if spec.shape is None else len(spec.shape))
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
            found = [_fact(f.dtype, f.rank) for f in _facts_of(node, known, graph)]
            node.__dict__["_facts"] = inputs, which, values, found
        for name, fact in zip(node.outputs, found, strict=False):
            if name:
                known[name] = fact
    return known


def _facts_of(node: Node, known: Mapping[str, Fact], graph: Graph) -> list[Fact]:
    kind = node.op.op_type
    inputs = [known.get(n, NO_FACT) for n in node.inputs if n]
    first = inputs[0] if inputs else NO_FACT
    if kind in _KEEP:
        return [first]
    if kind in ("Conv", "ConvTranspose"):
        return [Fact(first.dtype, inputs[1].rank if len(inputs) > 1 and inputs[1].rank is not None else first.rank)]
    if kind == "Gemm":
        return [Fact(first.dtype, 2)]
    if kind in _REDUCE:
        return [first if field_of(node.op, "keepdims", 1) else Fact(first.dtype)]
    if kind in ("SplitToSequence", "SequenceAt"):  # of a sequence, the facts of its elements
        return [first if field_of(node.op, "keepdims", 1) else Fact(first.dtype)]
    if kind in _BROADCAST or kind in _COMPARE:
        ranks = [f.rank for f in inputs]
        rank = None if None in ranks else max(ranks, default=0)  # type: ignore[type-var]
        return [Fact(np.dtype(np.bool_) if kind in _COMPARE else first.dtype, rank)]
    if kind == "MatMul" and len(inputs) >= 2 and None not in (inputs[0].rank, inputs[1].rank):
        a, b = inputs[0].rank, inputs[1].rank
        return [Fact(first.dtype, max(a, b) if a > 1 and b > 1 else max(a + b - 2, 0) if max(a, b) <= 2 else None)]  # type: ignore[operator,type-var]
    if kind == "MatMul":
        return [Fact(first.dtype)]
    if kind == "Reshape" and len(node.inputs) > 1 and node.inputs[1] not in graph.constants:
        return [Fact(first.dtype)]
    if kind in _BY_RULE and all(f.dtype is not None for f in inputs):
        if kind in ("Slice", "Transpose", "Pad", "Identity"):
            return [first]
        if kind == "Shape":
            return [Fact(INT64, 1)]
        if kind == "Gather" and len(inputs) > 1 and inputs[0].rank is not None and inputs[1].rank is not None:
            return [Fact(first.dtype, inputs[0].rank + inputs[1].rank - 1)]
        if kind == "Concat" and first.rank is not None:
            return [first]
        if kind == "Split":
            return [first] * len(node.outputs)
        specs: list[TensorSpec | None] = []
        for name in node.inputs:
            value = graph.constants.get(name)
            fact = known.get(name, NO_FACT)
            if not name:
                specs.append(None)
            elif value is not None:
                specs.append(TensorSpec.of(value))
            else:
                specs.append(TensorSpec(fact.dtype, None if fact.rank is None else (None,) * fact.rank))  # type: ignore[arg-type]
        try:
            return [Fact(s.dtype, None if s.shape is None else len(s.shape)) for s in node.op.infer(specs)]
        except CNNEngineError:
            return []  # the same error comes where shapes are known, with the node's name
    return []


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


class Matcher:
    """Finds patterns of plain nodes backwards from their last one."""

    def __init__(self, graph: Graph) -> None:
        self.uses = Uses(graph)
        self.known = facts(graph)

    def maker(self, name: str, *kinds: str) -> Node | None:
        node = self.uses.maker(name, *kinds)
        return node if node is not None and plain(node) else None
