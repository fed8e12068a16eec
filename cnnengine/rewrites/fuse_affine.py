"""fuse_affine: constants per channel that are multiplied and then added are one pass over the tensor."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.elementwise import Add, Mul
from ..ops.norm import BatchNormalization
from .nodes import FLOAT32, Nodes, rewrite
from .per_channel import scale_and_shift


@rewrite(("Add",), ("Mul",))
def fuse_affine(nodes: Nodes) -> None:
    """Mul and Add by constants per channel of (N, C, spatial...) -> one BatchNormalization.

    Only constants of the model count: what follows from shapes differs from plan to plan.
    """
    for node in nodes.of("Add"):
        add, middle = node.op, next((n for n in node.inputs if nodes.maker(n, "Mul") is not None), "")
        mul = nodes.maker(middle, "Mul")
        if mul is None or not isinstance(add, Add) or not isinstance(mul.op, Mul):
            continue
        shape = nodes.shape(node.outputs[0])
        if not 3 <= len(shape) <= 5 or not nodes.is_float32(middle):
            continue
        x = next((n for n in mul.inputs if n not in nodes.constants), "")
        if not x or nodes.constant(mul, 1 - mul.inputs.index(x)) is None:
            continue
        if nodes.constant(node, 1 - node.inputs.index(middle)) is None:
            continue
        if nodes.shape(x) != shape or nodes.shape(middle) != shape:
            nodes.left(node, "a constant widens the tensor")
            continue
        scale = scale_and_shift(mul, x, nodes, shape[1], len(shape))
        shift = scale_and_shift(node, middle, nodes, shape[1], len(shape))
        if scale is None or shift is None:
            continue
        if mul.op.activation is not None or nodes.only_reader(middle) is None:
            nodes.left(node, f"{middle} is read elsewhere too" if mul.op.activation is None else "an activation lies between")
            continue
        vectors = {"scale": scale[0], "bias": shift[1], "mean": np.zeros_like(shift[1]), "variance": np.ones_like(shift[1])}
        names = [nodes.add(f"{node.outputs[0]} ({kind})", vector.astype(FLOAT32)) for kind, vector in vectors.items()]
        op = BatchNormalization(epsilon=0.0, activation=add.activation)
        nodes.put(node, Node(op, (x, *names), node.outputs, node.name))
