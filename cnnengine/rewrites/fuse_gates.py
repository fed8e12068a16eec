"""fuse_gates: x * g(x) as exporters spell it out becomes one operator: Swish, HardSwish, Gelu (both forms), Mish.

A product is taken apart into its factors, through Mul and Div by constants, in whatever order they were written:
0.5 * x * (1 + Erf(x / sqrt(2))), x * Sigmoid(x), x * Clip(x + 3, 0, 6) / 6 ... are then one comparison each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..graph import Node
from ..operator import Operator
from ..ops.activation import Gelu, HardSwish, Mish, Swish
from .nodes import Nodes, rewrite
from .rewrite import field_of, only_output, scalar_of

TOLERANCE = 1e-5
"""How far a constant may lie from what the formula has, relative: float32 constants lie within 1e-7."""
FINE = 1e-12
"""The same for float64, whose results show what a constant lost to float32."""


@dataclass
class Product:
    """A number times values."""

    number: float = 1.0
    factors: list[str] = field(default_factory=list)


@rewrite(("Mul", "Div"))
def fuse_gates(nodes: Nodes) -> None:
    """Replace the last Mul or Div of such a product."""
    match = _Matcher(nodes)
    for node in nodes.of("Mul", "Div"):
        found = match.gate(node) if only_output(node) else None
        if found is not None:
            nodes.put(node, Node(found[0], (found[1],), node.outputs, node.name))


class _Matcher:
    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.tolerance = FINE

    def near(self, a: float, b: float) -> bool:
        return math.isclose(a, b, rel_tol=self.tolerance)

    def number(self, node: Node, index: int) -> float | None:
        """The one-element float constant that a node reads, unless it widens the other input."""
        return scalar_of(self.nodes.constant(node, index), self.nodes.rank(node.inputs[1 - index]))

    def product(self, node: Node, depth: int = 0) -> Product:
        """What a Mul or Div makes, as a number times values; inner products are taken apart when nobody else reads them."""
        result = Product()
        for index in (0, 1):
            number = self.number(node, index)
            if number is not None and (index == 1 or node.op.op_type == "Mul") and number != 0:
                result.number = result.number * number if node.op.op_type == "Mul" else result.number / number
                continue
            if node.op.op_type == "Div" and index == 1:
                return Product(1.0, [node.outputs[0]])  # a quotient of values is one factor
            inner = self.nodes.maker(node.inputs[index], "Mul", "Div")
            if inner is None or depth > 4 or getattr(inner.op, "activation", None) is not None:
                result.factors.append(node.inputs[index])
                continue
            part = self.product(inner, depth + 1)
            result.number *= part.number
            result.factors += part.factors
        return result

    def scaled(self, name: str) -> Product:
        """A value as a number times values."""
        node = self.nodes.maker(name, "Mul", "Div")
        return Product(1.0, [name]) if node is None or getattr(node.op, "activation", None) is not None else self.product(node)

    def plus(self, name: str) -> tuple[str, float] | None:
        """(x, c) when the value is x + c."""
        node = self.nodes.maker(name, "Add")
        if node is None or getattr(node.op, "activation", None) is not None:
            return None
        for index in (0, 1):
            number = self.number(node, index)
            if number is not None:
                return node.inputs[1 - index], number
        return None

    def gate(self, node: Node) -> tuple[Operator, str] | None:
        """The operator and its input that the node's product is."""
        if getattr(node.op, "activation", None) is not None:
            return None
        self.tolerance = TOLERANCE if any(map(self.nodes.is_float32, node.inputs)) else FINE
        product = self.product(node)
        if len(product.factors) != 2:
            return None
        for x, g in (product.factors, product.factors[::-1]):
            op = self.operator(x, g, product.number)
            if op is not None:
                return op, x
        return None

    def operator(self, x: str, g: str, number: float) -> Operator | None:
        maker = self.nodes.maker(g)
        if maker is None or not maker.inputs:
            return None
        kind, op = maker.op.op_type, maker.op
        if kind == "Sigmoid" and maker.inputs[0] == x and number == 1:
            return Swish()
        if kind == "HardSigmoid" and maker.inputs[0] == x and number == 1:
            if self.near(float(field_of(op, "alpha", 0.0)), 1 / 6) and field_of(op, "beta") == 0.5:  # type: ignore[arg-type]
                return HardSwish()
            return None
        if kind == "Tanh" and number == 1:
            inner = self.nodes.maker(maker.inputs[0], "Softplus")
            return Mish() if inner is not None and inner.inputs[0] == x else None
        if kind == "Clip" and self.near(number, 1 / 6):
            return HardSwish() if self.plus(maker.inputs[0]) == (x, 3.0) and self.bounds(maker) == (0.0, 6.0) else None
        if kind == "Add" and self.near(number, 0.5):
            one = self.plus(g)
            inner = None if one is None or one[1] != 1.0 else self.nodes.maker(one[0], "Erf", "Tanh")
            if inner is None:
                return None
            argument = self.scaled(inner.inputs[0])
            if inner.op.op_type == "Erf":
                return Gelu() if argument.factors == [x] and self.near(argument.number, math.sqrt(0.5)) else None
            return Gelu("tanh") if self.is_cubic(x, argument) else None
        return None

    def bounds(self, clip: Node) -> tuple[float | None, float | None]:
        result = []
        for index, name in ((1, "min"), (2, "max")):
            bound: Any = field_of(clip.op, name)
            if bound is None and index < len(clip.inputs):
                bound = scalar_of(self.nodes.constant(clip, index), 1)
            result.append(bound)
        return result[0], result[1]

    def is_cubic(self, x: str, argument: Product) -> bool:
        """sqrt(2/pi) * (x + 0.044715 * x**3), or sqrt(2/pi) * x * (1 + 0.044715 * x**2)."""
        if not self.near(argument.number, math.sqrt(2 / math.pi)):
            return False
        factors = list(argument.factors)
        power = 3
        if len(factors) == 2 and x in factors:
            factors.remove(x)
            power = 2
        total = self.nodes.maker(factors[0], "Add") if len(factors) == 1 else None
        if total is None:
            return False
        for index in (0, 1):
            plain = self.number(total, index) == 1.0 if power == 2 else total.inputs[index] == x
            if plain and self.is_power(x, self.scaled(total.inputs[1 - index]), power):
                return True
        return False

    def is_power(self, x: str, term: Product, power: int) -> bool:
        """0.044715 * x**power."""
        count = 0
        for name in term.factors:
            node = self.nodes.maker(name, "Pow")
            if name == x:
                count += 1
            elif node is not None and node.inputs[0] == x:
                exponent = self.number(node, 1)
                if exponent is None or exponent != int(exponent):
                    return False
                count += int(exponent)
            else:
                return False
        return count == power and self.near(term.number, 0.044715)
