"""fold_sequences: SplitToSequence whose elements are taken at constant positions is a Split, or a Slice for each."""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node
from ..ops.sequence import Piece, SequenceAt, SplitToSequence
from ..ops.shape import Split
from .rewrite import Uses, fresh


def fold_sequences(graph: Graph) -> Graph:
    """Split where all sizes are listed, Slice where one size is given; every reader must be a SequenceAt at a constant."""
    uses = Uses(graph)
    constants: dict[str, np.ndarray] = {}
    splits: dict[int, Node] = {}
    gone: set[int] = set()
    for node in graph.nodes:
        sizes = uses.constant(node, 1)
        if not isinstance(node.op, SplitToSequence) or sizes is None or node.outputs[0] in graph.outputs:
            continue
        readers = uses.readers.get(node.outputs[0], [])
        positions = [uses.constant(r, 1) if isinstance(r.op, SequenceAt) else None for r in readers]
        if sizes.ndim == 0:
            if readers and int(sizes) > 0 and all(p is not None and int(p) >= 0 for p in positions):
                gone.add(id(node))
                for position, reader in zip(positions, readers, strict=True):
                    piece = Piece.of(node.op.axis, int(position), int(sizes))  # type: ignore[arg-type]
                    splits[id(reader)] = Node(piece, node.inputs[:1], reader.outputs, reader.name)
            continue
        if not readers or any(p is None or not -len(sizes) <= int(p) < len(sizes) for p in positions):
            continue
        outputs = [""] * len(sizes)
        places = [int(p) % len(sizes) for p in positions]  # type: ignore[arg-type]
        if len(set(places)) < len(places):
            continue  # common_subexpressions merges equal readers first
        for place, reader in zip(places, readers, strict=True):
            outputs[place] = reader.outputs[0]
            gone.add(id(reader))
        name = fresh(graph, f"{node.name}/split", constants)
        constants[name] = sizes.astype(np.int64)
        splits[id(node)] = Node(Split(node.op.axis, None, len(sizes), True), (node.inputs[0], name), tuple(outputs), node.name)
    if not splits:
        return graph
    nodes = [splits.get(id(n), n) for n in graph.nodes if id(n) not in gone]
    return graph.replace(nodes=nodes, constants={**graph.constants, **constants})
