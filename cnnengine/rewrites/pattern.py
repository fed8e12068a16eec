"""Patterns: what a value is computed from, as an expression.

    x = Value("x")
    swish = x * made("Sigmoid", x)
    hard_swish = Product(1 / 6, x, made("Clip", x + 3, where=bounds))

Operands of `+` and `*` may come in either order; what a `Value` of one name stands for is one value wherever it comes; a `Number`
is a constant of one element that does not widen what it meets. A `Product` sees through Mul, Div and Neg by constants: its number
may be spread over any of them. A node inside of a match has no activation fused into it and no axis, as operators before version
7 have. Whether anything else reads it does not matter: it then stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..graph import Node
from .common import plain, scalar_of
from .nodes import FLOAT32, Nodes

Found = dict[str, Any]
"""What a match has found so far: the names of values and what else a pattern names."""

COMMUTATIVE = ("Add", "Mul", "Max", "Min")
DEPTH = 6
"""Constants and signs that a number may be spread over."""
TOLERANCE = 1e-5
"""How far the number of a Product may lie from what the formula has, relative: float32 constants lie within 1e-7."""
FINE = 1e-12
"""The same for float64, whose results show what a constant lost to float32."""


class Pattern:
    """What a value may be."""

    def find(self, name: str, found: Found, nodes: Nodes, beside: str = "") -> Iterator[Found]:
        """What it may name, in every way in which a value fits; `beside` is the other operand of the node that reads it."""
        raise NotImplementedError

    def kinds(self) -> frozenset[str]:
        """Operators without any of which nothing fits."""
        return frozenset()

    def __add__(self, other: Pattern | float) -> Pattern:
        return made("Add", self, _pattern(other))

    def __sub__(self, other: Pattern | float) -> Pattern:
        return made("Sub", self, _pattern(other))

    def __mul__(self, other: Pattern) -> Pattern:
        return made("Mul", self, other)

    def __truediv__(self, other: Pattern) -> Pattern:
        return made("Div", self, other)

    def __rtruediv__(self, other: float) -> Pattern:
        return made("Div", _pattern(other), self)

    def __pow__(self, power: float) -> Pattern:
        return made("Pow", self, _pattern(power))

    def __or__(self, other: Pattern) -> Pattern:
        return Either(self, other)


def _pattern(given: Pattern | float) -> Pattern:
    return given if isinstance(given, Pattern) else Number(float(given))


class Value(Pattern):
    """Any value, or one that fits `inner`; the same one wherever the name comes again."""

    def __init__(self, name: str, inner: Pattern | None = None) -> None:
        self.name, self.inner = name, inner

    def find(self, name: str, found: Found, nodes: Nodes, beside: str = "") -> Iterator[Found]:
        before = found.get(self.name)
        if before is not None:
            if before == name:
                yield found
        elif self.inner is None:
            yield {**found, self.name: name}
        else:
            for inside in self.inner.find(name, found, nodes):
                yield {**inside, self.name: name}


class Number(Pattern):
    """A constant of one element: this number, or any positive one, which is named."""

    def __init__(self, value: float | None = None, name: str = "") -> None:
        self.value, self.name = value, name

    def find(self, name: str, found: Found, nodes: Nodes, beside: str = "") -> Iterator[Found]:
        number = scalar_of(nodes.constants.get(name), nodes.rank(beside) if beside else None)
        if number is None:
            return
        if self.value is None:
            if number > 0:
                yield {**found, self.name: number}
        elif number == self.value:
            yield found


class Constant(Pattern):
    """A constant, which is named."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find(self, name: str, found: Found, nodes: Nodes, beside: str = "") -> Iterator[Found]:
        value = nodes.constants.get(name)
        if value is not None:
            yield {**found, self.name: value}


class Made(Pattern):
    """What a node of an operator makes of its first inputs."""

    def __init__(self, kind: str, operands: tuple[Pattern, ...], where: Callable[[Node, Nodes], bool] | None) -> None:
        self.kind, self.operands, self.where = kind, operands, where

    def kinds(self) -> frozenset[str]:
        return frozenset([self.kind]).union(*(operand.kinds() for operand in self.operands))

    def find(self, name: str, found: Found, nodes: Nodes, beside: str = "") -> Iterator[Found]:
        node = nodes.maker(name, self.kind)
        if node is None or not plain(node) or (self.where is not None and not self.where(node, nodes)):
            return
        if len(self.operands) == 1:
            if node.inputs:
                yield from self.operands[0].find(node.inputs[0], found, nodes)
            return
        if len(node.inputs) != 2:
            return
        first, second = self.operands
        for a, b in (node.inputs, node.inputs[::-1])[: 1 + (self.kind in COMMUTATIVE)]:
            for half in first.find(a, found, nodes, b):
                yield from second.find(b, half, nodes, a)


def made(kind: str, *operands: Pattern, where: Callable[[Node, Nodes], bool] | None = None) -> Pattern:
    """What a node of this operator makes of one operand, whatever its other inputs are, or of two; `where` asks more of it."""
    return Made(kind, operands, where)


class Either(Pattern):
    """One of several."""

    def __init__(self, *patterns: Pattern) -> None:
        self.patterns = patterns

    def kinds(self) -> frozenset[str]:
        return frozenset.intersection(*(pattern.kinds() for pattern in self.patterns))

    def find(self, name: str, found: Found, nodes: Nodes, beside: str = "") -> Iterator[Found]:
        for pattern in self.patterns:
            yield from pattern.find(name, found, nodes, beside)


class Product(Pattern):
    """Values times a number, or, of one value, times float32 constants whose product is named."""

    def __init__(self, number: float | None, *factors: Pattern, name: str = "") -> None:
        self.number, self.factors, self.name = number, factors, name

    def kinds(self) -> frozenset[str]:
        return frozenset().union(*(factor.kinds() for factor in self.factors))

    def find(self, name: str, found: Found, nodes: Nodes, beside: str = "") -> Iterator[Found]:
        node = nodes.maker(name)
        tolerance = TOLERANCE if node is not None and any(map(nodes.is_float32, filter(None, node.inputs))) else FINE
        for number, inside in self.numbers(name, found, nodes):
            if self.number is None:
                yield {**inside, self.name: number}
            elif math.isclose(number, self.number, rel_tol=tolerance):
                yield inside

    def numbers(self, name: str, found: Found, nodes: Nodes) -> Iterator[tuple[Any, Found]]:
        """As `find`, with any number."""
        yield from self._split(name, self.factors, found, nodes, 0)

    def _split(
        self, name: str, factors: tuple[Pattern, ...], found: Found, nodes: Nodes, depth: int
    ) -> Iterator[tuple[Any, Found]]:
        if len(factors) == 1:
            for inside in factors[0].find(name, found, nodes):
                yield 1.0, inside
        node = nodes.maker(name, "Mul", "Div", "Neg") if depth <= DEPTH else None
        if node is None or not plain(node):
            return
        if node.op.op_type == "Neg":
            for number, inside in self._split(node.inputs[0], factors, found, nodes, depth + 1):
                yield -number, inside
            return
        divides = node.op.op_type == "Div"
        for index in (1,) if divides else (1, 0):
            constant = self._constant(node, index, nodes)
            if constant is None or (divides and not np.all(constant)):
                continue
            for number, inside in self._split(node.inputs[1 - index], factors, found, nodes, depth + 1):
                yield number / constant if divides else number * constant, inside
        if divides:
            return
        for chosen in range(1, 2 ** len(factors) - 1):  # which of the factors are on the left
            left = tuple(f for i, f in enumerate(factors) if chosen >> i & 1)
            right = tuple(f for i, f in enumerate(factors) if not chosen >> i & 1)
            for one, half in self._split(node.inputs[0], left, found, nodes, depth + 1):
                for two, inside in self._split(node.inputs[1], right, half, nodes, depth + 1):
                    yield one * two, inside

    def _constant(self, node: Node, index: int, nodes: Nodes) -> Any:
        value = nodes.constant(node, index)
        if self.number is not None:
            return scalar_of(value, nodes.rank(node.inputs[1 - index]))
        usable = value is not None and value.dtype == FLOAT32 and np.isfinite(value).all()
        return np.asarray(value, np.float64) if usable else None
