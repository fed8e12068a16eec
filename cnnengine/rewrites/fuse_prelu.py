"""fuse_prelu: PRelu as TensorFlow and Keras spell it out becomes one operator.

Relu(x) - slope * Relu(-x), Relu(x) + slope * Min(x, 0), and Relu(x) + slope * (x - |x|) * 0.5.
"""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.activation import PRelu
from .nodes import FLOAT32, Nodes, rewrite
from .rewrite import Matcher, field_of, only_output, plain, scalar_of

FACTORS = 6
"""Constants and signs that a slope may be spread over."""


@rewrite(("Add", "Sub"), ("Relu", "Max", "Clip"))
def fuse_prelu(nodes: Nodes) -> None:
    """Replace the last Add or Sub of a float32 PRelu with a constant slope."""
    match = _Matcher(nodes)
    for node in nodes.of("Add", "Sub"):
        found = match.prelu(node) if only_output(node) and plain(node) else None
        if found is not None:
            slope = nodes.add(f"{node.outputs[0]} (slope)", found[1])
            nodes.put(node, Node(PRelu(expands=True), (found[0], slope), node.outputs, node.name))


class _Matcher(Matcher):
    def prelu(self, node: Node) -> tuple[str, np.ndarray] | None:
        """(x, slope) of what an Add or Sub makes."""
        for index in (0, 1) if node.op.op_type == "Add" else (0,):
            x = self.bounded(node.inputs[index], upper=False)
            rank = None if x is None else self.nodes.rank(x)
            if x is None or rank is None or not self.nodes.is_float32(x):
                continue
            slope = self.negative(node.inputs[1 - index], x, rank)
            if slope is not None and slope.ndim <= rank:
                slope = slope if node.op.op_type == "Add" else -slope
                return x, slope.astype(np.float32)
        return None

    def bounded(self, name: str, upper: bool) -> str | None:
        """x of max(x, 0), or of min(x, 0)."""
        node = self.maker(name, "Min" if upper else "Max", "Relu", "Clip")
        if node is None:
            return None
        if node.op.op_type == "Relu":
            return None if upper else node.inputs[0]
        if node.op.op_type == "Clip":
            bounds = []
            for index, field in ((1, "min"), (2, "max")):
                value = field_of(node.op, field)
                if value is None and index < len(node.inputs) and node.inputs[index]:
                    value = scalar_of(self.nodes.constant(node, index), 1)
                    if value is None:
                        return None
                bounds.append(value)
            free = bounds[0] is None or bounds[0] <= -np.finfo(np.float32).max  # type: ignore[operator]
            if upper:
                return node.inputs[0] if bounds[1] == 0 and free else None
            free = bounds[1] is None or bounds[1] >= np.finfo(np.float32).max  # type: ignore[operator]
            return node.inputs[0] if bounds[0] == 0 and free else None
        for index in (0, 1) if len(node.inputs) == 2 else ():
            rank = self.nodes.rank(node.inputs[1 - index])
            if scalar_of(self.nodes.constant(node, index), rank) == 0.0:
                return node.inputs[1 - index]
        return None

    def negative(self, name: str, x: str, rank: int, depth: int = 0) -> np.ndarray | None:
        """slope of slope * min(x, 0), which may be a product of a few constants."""
        if depth > FACTORS:
            return None
        if self.bounded(name, upper=True) == x:
            return np.ones((), np.float64)
        node = self.maker(name, "Mul", "Div", "Neg", "Relu", "Sub")
        if node is None:
            return None
        kind = node.op.op_type
        if kind == "Relu":
            minus = self.maker(node.inputs[0], "Neg")
            return -np.ones((), np.float64) if minus is not None and minus.inputs[0] == x else None
        if kind == "Sub":  # x - |x| is min(x, 0) twice
            size = self.maker(node.inputs[1], "Abs")
            return np.full((), 2.0) if node.inputs[0] == x and size is not None and size.inputs[0] == x else None
        if kind == "Neg":
            inner = self.negative(node.inputs[0], x, rank, depth + 1)
            return None if inner is None else np.negative(inner)
        for index in (0, 1) if kind == "Mul" else (1,):
            value = self.nodes.constant(node, index)
            if value is None or value.dtype != FLOAT32 or value.ndim > rank or not np.isfinite(value).all():
                continue
            inner = self.negative(node.inputs[1 - index], x, rank, depth + 1)
            if inner is not None and (kind == "Mul" or value.all()):
                return np.asarray(inner * value if kind == "Mul" else inner / value)
        return None
