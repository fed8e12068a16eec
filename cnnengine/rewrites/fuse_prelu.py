"""fuse_prelu: PRelu as TensorFlow and Keras spell it out becomes one operator.

Relu(x) - slope * Relu(-x), Relu(x) + slope * Min(x, 0), and Relu(x) + slope * (x - |x|) * 0.5.
"""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.activation import PRelu
from .common import bounds, only_output, plain
from .nodes import FLOAT32, Nodes, rewrite
from .pattern import Number, Pattern, Product, Value, made

LARGEST = float(np.finfo(np.float32).max)


def _from_0(node: Node, nodes: Nodes) -> bool:
    found = bounds(node, nodes)
    return found is not None and found[0] == 0 and found[1] >= LARGEST


def _to_0(node: Node, nodes: Nodes) -> bool:
    found = bounds(node, nodes)
    return found is not None and found[1] == 0 and found[0] <= -LARGEST


X = Value("x")
POSITIVE = made("Relu", X) | made("Max", X, Number(0.0)) | made("Clip", X, where=_from_0)
NEGATIVE: tuple[tuple[float, Pattern], ...] = (
    (1.0, made("Min", X, Number(0.0)) | made("Clip", X, where=_to_0)),
    (-1.0, made("Relu", made("Neg", X))),
    (2.0, X - made("Abs", X)),
)
"""min(x, 0) times these."""
SUMS = [(times, POSITIVE + Product(None, negative, name="slope")) for times, negative in NEGATIVE]
DIFFERENCES = [(-times, POSITIVE - Product(None, negative, name="slope")) for times, negative in NEGATIVE]


@rewrite(("Add", "Sub"), ("Relu", "Max", "Clip"), ("Min", "Clip", "Neg", "Abs"))
def fuse_prelu(nodes: Nodes) -> None:
    """Replace the last Add or Sub of a float32 PRelu with a constant slope."""
    for node in nodes.of("Add", "Sub"):
        if not only_output(node) or not plain(node):
            continue
        for times, pattern in SUMS if node.op.op_type == "Add" else DIFFERENCES:
            found = next(pattern.find(node.outputs[0], {}, nodes), None)
            if found is None:
                continue
            x, slope = found["x"], np.asarray(found["slope"] * times)
            rank = nodes.rank(x)
            if rank is None or not nodes.is_float32(x):
                nodes.left(node, "the rank is not known" if rank is None else "the values are not known to be float32")
            elif slope.ndim > rank:
                nodes.left(node, f"a slope of shape {slope.shape} widens values of {rank} axes")
            else:
                name = nodes.add(f"{node.outputs[0]} (slope)", slope.astype(FLOAT32))
                nodes.put(node, Node(PRelu(expands=True), (x, name), node.outputs, node.name))
            break
