"""widen_half: float16 and bfloat16 are computed in float32, from the first operator to the last.

Kernels are float32. Each value of half precision that computation reads gets a float32 twin; what computes makes the twin
alone, and a Cast rounds it only where something else reads it. So a whole network rounds at its outputs, and where the file
itself casts to half precision.
"""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node
from ..ops.common import kind_of
from ..ops.shape import Cast, CastLike, Dropout, Identity
from .facts import NO_FACT, facts
from .rewrite import fresh

FLOAT32 = np.dtype(np.float32)

_ALL = frozenset(
    [
        "Abs",
        "Acos",
        "Acosh",
        "Add",
        "And",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "AveragePool",
        "Ceil",
        "Celu",
        "Concat",
        "Conv",
        "ConvTranspose",
        "DeformConv",
        "Cos",
        "Cosh",
        "Div",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "Gemm",
        "GlobalAveragePool",
        "GlobalLpPool",
        "GlobalMaxPool",
        "Greater",
        "GreaterOrEqual",
        "GroupNormalization",
        "HardSigmoid",
        "HardSwish",
        "InstanceNormalization",
        "IsInf",
        "IsNaN",
        "LRN",
        "LayerNormalization",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "LpNormalization",
        "LpPool",
        "MatMul",
        "Max",
        "MaxPool",
        "Mean",
        "MeanVarianceNormalization",
        "Min",
        "Mish",
        "Mod",
        "Mul",
        "Neg",
        "PRelu",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sinh",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Sum",
        "Swish",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
        "Clip",
        "LogSoftmax",
        "Softmax",
        "Hardmax",
    ]
)
"""Operators whose inputs all have the element type."""
_SOME: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        [
            "AffineGrid",
            "ArgMax",
            "ArgMin",
            "Col2Im",
            "CumSum",
            "DepthToSpace",
            "Dropout",
            "Expand",
            "Flatten",
            "Gather",
            "GatherElements",
            "GatherND",
            "Identity",
            "Pow",
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSum",
            "ReduceSumSquare",
            "Reshape",
            "Resize",
            "Slice",
            "SpaceToDepth",
            "Split",
            "Squeeze",
            "Tile",
            "TopK",
            "Transpose",
            "Trilu",
            "Unsqueeze",
            "Upsample",
            "MaxUnpool",
        ],
        (0,),
    ),
    "GridSample": (0, 1),
    "Pad": (0, 2),
    "RoiAlign": (0, 1),
    "ScatterElements": (0, 2),
    "ScatterND": (0, 2),
    "Where": (1, 2),
    "GRU": (0, 1, 2, 3, 5),
    "LSTM": (0, 1, 2, 3, 5, 6, 7),
    "RNN": (0, 1, 2, 3, 5),
}
"""Operators of whose inputs these have the element type."""
_MOVES = frozenset(
    [
        "Concat",
        "DepthToSpace",
        "Dropout",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "Identity",
        "Pad",
        "Reshape",
        "ScatterElements",
        "ScatterND",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
    ]
)
"""Operators that only move: they do so in half precision unless a twin is at hand."""
_KEEP_OUTPUT: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        ["And", "ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual"], ()
    ),
    **dict.fromkeys(("LayerNormalization", "MaxPool", "TopK"), (0,)),
}
"""Operators of whose outputs only these have the element type; of others, all."""

_BY_FIRST = frozenset(["GridSample"])
"""Operators whose inputs may differ in type, and whose outputs have the first one's."""


def is_half(dtype: np.dtype) -> bool:
    """Whether this is float16 or bfloat16."""
    return dtype.itemsize == 2 and kind_of(dtype) == "f"


def widen_half(graph: Graph) -> Graph:
    """Compute in float32 what the file has in half precision."""
    dtypes = [s.dtype for s in graph.inputs.values()] + [v.dtype for v in graph.constants.values()]
    if not any(map(is_half, dtypes)) and not any(isinstance(n.op, Cast) and is_half(n.op.to) for n in graph.nodes):
        return graph  # nearly all models
    found = facts(graph)
    known = {name: fact.dtype for name, fact in found.items() if fact.dtype is not None and is_half(fact.dtype)}
    twins: dict[str, str] = {}
    constants: dict[str, np.ndarray] = {}
    names: set[str] = set()
    nodes: list[Node] = []
    changed = False

    def unique(name: str) -> str:
        made = fresh(graph, name, names)
        names.add(made)
        return made

    def twin(name: str) -> str:
        if name not in twins:
            twins[name] = unique(f"{name}/float32")
            if name in graph.constants:
                constants[twins[name]] = graph.constants[name].astype(np.float32)
            else:
                nodes.append(Node(Cast(FLOAT32), (name,), (twins[name],), twins[name]))
        return twins[name]

    for node in graph.nodes:
        kind = node.op.op_type
        op = node.op
        if isinstance(op, CastLike) and node.inputs[1] in known:
            op = Cast(known[node.inputs[1]], op.saturate, op.round_mode)
            node = node.replace(op=op, inputs=node.inputs[:1])
            changed = True
        if isinstance(op, Cast):
            source, target = node.inputs[0], node.outputs[0]
            if source in twins and op.to == FLOAT32:
                node = Node(Identity(), (twins[source],), node.outputs, node.name)
                changed = True
            elif is_half(op.to):
                if source in twins and known[source] == op.to:
                    twins[target] = twins[source]
                known[target] = op.to
            nodes.append(node)
            continue
        places = _places(node)
        typed_inputs = frozenset(places)
        halves = [i for i in places if node.inputs[i] in known]
        wanted = bool(halves) and (kind not in _MOVES or any(node.inputs[i] in twins for i in places))
        if wanted and kind in _ALL:  # halves beside floats are a wrong model: its own rule says so
            mixed = [known[n] if n in known else found.get(n, NO_FACT).dtype for n in node.inputs if n]
            wanted = len({dtype for dtype in mixed if dtype is not None}) < 2
        if not wanted:
            nodes.append(node)
            # what only moves, or casts, keeps the type
            if halves and kind in _MOVES:
                known.update((o, known[node.inputs[halves[0]]]) for o in node.outputs if o)
            continue
        changed = True
        dtype = known[node.inputs[halves[0]]]
        inputs = tuple(twin(n) if i in typed_inputs and n else n for i, n in enumerate(node.inputs))
        typed = _KEEP_OUTPUT.get(kind, range(len(node.outputs)))
        if kind in _BY_FIRST and 0 not in halves:
            typed = ()
        outputs, casts = list(node.outputs), []
        for i in typed:
            if i < len(outputs) and outputs[i]:
                name = outputs[i]
                outputs[i] = twins[name] = unique(f"{name}/float32")
                known[name] = dtype
                casts.append(Node(Cast(dtype), (outputs[i],), (name,), f"{name}/{dtype.name}"))
        nodes.append(node.replace(inputs=inputs, outputs=tuple(outputs)))
        nodes += casts
    return graph.replace(nodes=nodes, constants={**graph.constants, **constants}) if changed else graph


def _places(node: Node) -> tuple[int, ...]:
    """The node's present inputs that have the element type; none where it cannot be computed in another."""
    kind = node.op.op_type
    if kind == "Dropout" and isinstance(node.op, Dropout) and node.op.mask:
        return ()
    if kind in _ALL:
        return tuple(i for i, n in enumerate(node.inputs) if n)
    if kind == "BatchNormalization" and not any(node.outputs[1:]):
        return tuple(i for i, n in enumerate(node.inputs) if n)
    return tuple(i for i in _SOME.get(kind, ()) if i < len(node.inputs) and node.inputs[i])
