"""widen_half: float16 and bfloat16 are computed in float32, from the first operator to the last.

Kernels are float32. Each value of half precision that computation reads gets a float32 twin; what computes makes the twin
alone, and a Cast rounds it only where something else reads it. So a whole network rounds at its outputs, and where the file
itself casts to half precision.
"""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.cast import Cast, CastLike
from ..ops.common import kind_of
from ..ops.shape import Identity
from ..weights import widened
from .nodes import FLOAT32, Nodes, rewrite


def is_half(dtype: np.dtype) -> bool:
    """Whether this is float16 or bfloat16."""
    return dtype.itemsize == 2 and kind_of(dtype) == "f"


@rewrite()
def widen_half(nodes: Nodes) -> None:
    """Compute in float32 what the file has in half precision."""
    if not any(map(is_half, nodes.given())) and not any(isinstance(n.op, Cast) and is_half(n.op.to) for n in nodes.of("Cast")):
        return  # nearly all models
    known: dict[str, np.dtype] = {}
    twins: dict[str, str] = {}

    def type_of(name: str) -> np.dtype | None:
        return known[name] if name in known else nodes.dtype(name)

    def half(name: str) -> np.dtype | None:
        """The dtype of a value of half precision."""
        dtype = type_of(name)
        return dtype if dtype is not None and is_half(dtype) else None

    for node in nodes:
        op, casts = node.op, []
        if isinstance(op, CastLike) and (target := half(node.inputs[1])) is not None:
            op = Cast(target, op.saturate, op.round_mode)
            old, node = node, node.replace(op=op, inputs=node.inputs[:1])
            nodes.put(old, node)
        if isinstance(op, Cast):
            source, y = node.inputs[0], node.outputs[0]
            if source in twins and op.to == FLOAT32:
                nodes.put(node, Node(Identity(), (twins[source],), node.outputs, node.name))
            elif is_half(op.to):
                if source in twins and half(source) == op.to:
                    twins[y] = twins[source]
                known[y] = op.to
            continue
        places = [i for i, n in enumerate(node.inputs) if n and i in op.elements]
        halves = [i for i in places if half(node.inputs[i]) is not None]
        wanted = bool(halves) and (not op.moves or any(node.inputs[i] in twins for i in places))
        if wanted and not op.mixes:  # halves beside floats are a wrong model: its own rule says so
            mixed = [type_of(node.inputs[i]) for i in places]
            wanted = len({dtype for dtype in mixed if dtype is not None}) < 2
        dtype = half(node.inputs[halves[0]]) if halves else None
        if not wanted or dtype is None:
            # what only moves, or casts, keeps the type
            if dtype is not None and op.moves:
                known.update((o, dtype) for o in node.outputs if o)
            continue
        for i in places:
            name = node.inputs[i]
            if name not in twins and name in nodes.constants:
                twins[name] = nodes.add(f"{name}/float32", widened(nodes.constants[name]))
            elif name not in twins:
                twins[name] = nodes.fresh(f"{name}/float32")
                casts.append(Node(Cast(FLOAT32), (name,), (twins[name],), twins[name]))
        inputs = tuple(twins[n] if i in places else n for i, n in enumerate(node.inputs))
        typed = () if op.mixes and 0 not in halves else op.element_outputs
        outputs, rounded = list(node.outputs), []
        for i, name in enumerate(node.outputs):
            if name and i in typed:
                outputs[i] = twins[name] = nodes.fresh(f"{name}/float32")
                known[name] = dtype
                rounded.append(Node(Cast(dtype), (outputs[i],), (name,), f"{name}/{dtype.name}"))
        nodes.put(node, *casts, node.replace(inputs=inputs, outputs=tuple(outputs)), *rounded)
