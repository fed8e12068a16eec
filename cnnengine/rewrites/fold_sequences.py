"""fold_sequences: SplitToSequence whose elements are taken at constant positions is a Split, or a Slice for each."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.pieces import Split
from ..ops.sequence import Piece, SequenceAt, SplitToSequence
from .nodes import Nodes, rewrite


@rewrite(("SplitToSequence",))
def fold_sequences(nodes: Nodes) -> None:
    """Split where all sizes are listed, Slice where one size is given; every reader must be a SequenceAt at a constant."""
    for node in nodes.of("SplitToSequence"):
        sizes = nodes.constant(node, 1)
        if not isinstance(node.op, SplitToSequence):
            continue
        if sizes is None or node.outputs[0] in nodes.kept:
            nodes.left(node, "the sizes are not constant" if sizes is None else "the sequence is an output")
            continue
        readers = nodes.readers(node.outputs[0])
        found = [nodes.constant(r, 1) if isinstance(r.op, SequenceAt) else None for r in readers]
        positions = [int(p) for p in found if p is not None]
        if not readers or len(positions) < len(readers):
            nodes.left(node, "something else than SequenceAt at a constant position reads the sequence")
            continue
        if sizes.ndim == 0:
            if int(sizes) <= 0 or min(positions) < 0:
                nodes.left(node, "the number of pieces decides which one is meant")
                continue
            for position, reader in zip(positions, readers, strict=True):
                piece = Piece.of(node.op.axis, position, int(sizes))
                nodes.put(reader, Node(piece, node.inputs[:1], reader.outputs, reader.name))
            continue
        if any(not -len(sizes) <= p < len(sizes) for p in positions):
            nodes.left(node, "a position lies outside of the sequence")
            continue
        outputs = [""] * len(sizes)
        places = [p % len(sizes) for p in positions]
        if len(set(places)) < len(places):
            continue  # common_subexpressions merges equal readers first
        for place, reader in zip(places, readers, strict=True):
            outputs[place] = reader.outputs[0]
        name = nodes.add(f"{node.name}/split", sizes.astype(np.int64))
        split = Node(Split(node.op.axis, None, len(sizes), True), (node.inputs[0], name), tuple(outputs), node.name)
        nodes.put(node, split, gone=readers)
