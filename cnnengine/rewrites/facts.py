"""dtype and rank of values, as far as they follow from the graph alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from weakref import WeakKeyDictionary

import numpy as np

from ..errors import CNNEngineError
from ..graph import Graph, Node
from ..ops.common import kind_of
from ..spec import TensorSpec

INT64 = np.dtype(np.int64)


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
        return [first if getattr(node.op, "keepdims", 1) else Fact(first.dtype)]
    if kind in ("SplitToSequence", "SequenceAt"):  # of a sequence, the facts of its elements
        return [first if getattr(node.op, "keepdims", 1) else Fact(first.dtype)]
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
