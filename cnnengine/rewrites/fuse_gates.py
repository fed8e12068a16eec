"""fuse_gates: x * g(x) as exporters spell it out becomes one operator: Swish, HardSwish, Gelu (both forms), Mish."""

from __future__ import annotations

import math

from ..graph import Node
from ..operator import Operator
from ..ops.activation import Gelu, HardSigmoid, HardSwish, Mish, Swish
from .common import bounds, only_output, plain
from .nodes import Nodes, rewrite
from .pattern import FINE, TOLERANCE, Product, Value, made


def _sixth(node: Node, nodes: Nodes) -> bool:
    op, tolerance = node.op, TOLERANCE if nodes.is_float32(node.inputs[0]) else FINE
    return isinstance(op, HardSigmoid) and math.isclose(op.alpha, 1 / 6, rel_tol=tolerance) and op.beta == 0.5


X = Value("x")
SQUARE = Product(0.044715, X, X) | Product(0.044715, X**2)
CUBE = Product(0.044715, X, X, X) | Product(0.044715, X, X**2) | Product(0.044715, X**3)
ROOT = math.sqrt(2 / math.pi)
GATES: tuple[tuple[Operator, Product], ...] = (
    (Swish(), Product(1.0, X, made("Sigmoid", X))),
    (HardSwish(), Product(1.0, X, made("HardSigmoid", X, where=_sixth))),
    (HardSwish(), Product(1 / 6, X, made("Clip", X + 3, where=lambda clip, nodes: bounds(clip, nodes) == (0, 6)))),
    (Mish(), Product(1.0, X, made("Tanh", made("Softplus", X)))),
    (Gelu(), Product(0.5, X, made("Erf", Product(math.sqrt(0.5), X)) + 1)),
    (Gelu("tanh"), Product(0.5, X, made("Tanh", Product(ROOT, X + CUBE) | Product(ROOT, X, SQUARE + 1)) + 1)),
)


@rewrite(("Mul", "Div"), ("Sigmoid", "HardSigmoid", "Clip", "Softplus", "Erf", "Tanh"))
def fuse_gates(nodes: Nodes) -> None:
    """Replace the last Mul or Div of such a product."""
    present = [(op, pattern) for op, pattern in GATES if all(map(nodes.has, pattern.kinds()))]
    for node in nodes.of("Mul", "Div") if present else ():
        if not only_output(node) or not plain(node):
            continue
        y = node.outputs[0]
        for op, pattern in present:
            found = next(pattern.find(y, {}, nodes), None)
            if found is not None:
                nodes.put(node, Node(op, (found["x"],), node.outputs, node.name))
                break
            if nodes.explains:
                near = next(pattern.numbers(y, {}, nodes), None)
                if near is not None:
                    nodes.left(node, f"{op.op_type} times {near[0] / (pattern.number or 1):.6g}")
