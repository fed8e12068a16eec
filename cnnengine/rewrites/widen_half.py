"""widen_half: float16 and bfloat16 are computed in float32, from the first operator to the last.

Kernels are float32. Each value of half precision that computation reads gets a float32 twin; what computes makes the twin
alone, and a Cast rounds it only where something else reads it. So a whole network rounds at its outputs, and where the file
itself casts to half precision.
"""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node
from ..ops.common import kind_of
from ..ops.shape import Cast, CastLike, Identity
from .facts import NO_FACT, facts
from .rewrite import fresh

FLOAT32 = np.dtype(np.float32)


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
        places = [i for i, n in enumerate(node.inputs) if n and i in op.elements]
        halves = [i for i in places if node.inputs[i] in known]
        wanted = bool(halves) and (not op.moves or any(node.inputs[i] in twins for i in places))
        if wanted and not op.mixes:  # halves beside floats are a wrong model: its own rule says so
            given = [node.inputs[i] for i in places]
            mixed = [known[n] if n in known else found.get(n, NO_FACT).dtype for n in given]
            wanted = len({dtype for dtype in mixed if dtype is not None}) < 2
        if not wanted:
            nodes.append(node)
            # what only moves, or casts, keeps the type
            if halves and op.moves:
                known.update((o, known[node.inputs[halves[0]]]) for o in node.outputs if o)
            continue
        changed = True
        dtype = known[node.inputs[halves[0]]]
        inputs = tuple(twin(n) if i in places else n for i, n in enumerate(node.inputs))
        typed = () if op.mixes and 0 not in halves else op.element_outputs
        outputs, casts = list(node.outputs), []
        for i, name in enumerate(node.outputs):
            if name and i in typed:
                outputs[i] = twins[name] = unique(f"{name}/float32")
                known[name] = dtype
                casts.append(Node(Cast(dtype), (outputs[i],), (name,), f"{name}/{dtype.name}"))
        nodes.append(node.replace(inputs=inputs, outputs=tuple(outputs)))
        nodes += casts
    return graph.replace(nodes=nodes, constants={**graph.constants, **constants}) if changed else graph
