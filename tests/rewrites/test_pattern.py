"""Patterns: what fits, in every order, and what only looks like it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import Builder

from cnnengine.operator import Activation
from cnnengine.ops.elementwise import Add
from cnnengine.rewrites.nodes import Nodes
from cnnengine.rewrites.pattern import Constant, Number, Pattern, Product, Value, made
from cnnengine.spec import TensorSpec

X, Y = Value("x"), Value("y")


@pytest.fixture
def b() -> Builder:
    return Builder()


def found(b: Builder, y: str, pattern: Pattern) -> list[dict[str, Any]]:
    return list(pattern.find(y, {}, Nodes.of_graph(b.graph(y))))


@pytest.mark.parametrize("kind", ["Add", "Mul", "Max", "Min"])
def test_operands_may_come_in_either_order(b: Builder, kind: str) -> None:
    x, z = b.input(2, 3), b.input(2, 3, name="z")
    pattern = made(kind, made("Relu", X), Y)
    r = b.node("Relu", x)
    assert found(b, b.node(kind, r, z), pattern) == [{"x": x, "y": z}]
    assert found(b, b.node(kind, z, r), pattern) == [{"x": x, "y": z}]
    assert len(found(b, b.node(kind, r, b.node("Relu", z)), pattern)) == 2  # in both ways


def test_a_difference_and_a_quotient_have_an_order(b: Builder) -> None:
    x, z = b.input(2, 3), b.input(2, 3, name="z")
    r = b.node("Relu", x)
    assert found(b, b.node("Sub", r, z), made("Relu", X) - Y)
    assert not found(b, b.node("Sub", z, r), made("Relu", X) - Y)
    assert found(b, b.node("Div", r, z), made("Relu", X) / Y)
    assert not found(b, b.node("Div", z, r), made("Relu", X) / Y)


def test_one_name_is_one_value(b: Builder) -> None:
    x, z = b.input(2, 3), b.input(2, 3, name="z")
    pattern = X * made("Sigmoid", X)
    assert found(b, b.node("Mul", b.node("Sigmoid", x), x), pattern) == [{"x": x}]
    assert not found(b, b.node("Mul", b.node("Sigmoid", x), z), pattern)
    inner = Value("r", made("Relu", X))
    r = b.node("Relu", x)
    assert found(b, b.node("Add", r, b.node("Neg", r)), inner + made("Neg", inner)) == [{"x": x, "r": r}]
    other = b.node("Relu", x)
    assert not found(b, b.node("Add", r, b.node("Neg", other)), inner + made("Neg", inner))


@pytest.mark.parametrize(("constant", "fits"), [(3.0, True), ([3.0], True), ([[3.0]], True), ([[[3.0]]], False), (2.0, False)])
def test_a_number_does_not_widen_what_it_meets(b: Builder, constant: Any, fits: bool) -> None:
    x = b.node("Relu", b.input(2, 3))
    assert bool(found(b, b.node("Add", x, b.constant(constant)), X + 3)) == fits


def test_a_number_of_more_than_one_element_is_none(b: Builder) -> None:
    x = b.node("Relu", b.input(2, 3))
    y = b.node("Add", x, b.constant([3.0, 3.0, 3.0]))
    assert not found(b, y, X + 3)
    assert len(found(b, y, X + Constant("c"))) == 1


def test_a_number_beside_a_value_of_unknown_rank_has_none(b: Builder) -> None:
    b.inputs["n"] = TensorSpec(np.dtype(np.float32), None)
    assert found(b, b.node("Add", "n", b.constant(3.0)), X + 3)
    assert not found(b, b.node("Add", "n", b.constant([3.0])), X + 3)


def test_any_positive_number_is_named(b: Builder) -> None:
    x = b.input(2, 3)
    assert found(b, b.node("Add", x, b.constant(0.25)), X + Number(name="e")) == [{"x": x, "e": 0.25}]
    assert not found(b, b.node("Add", x, b.constant(-0.25)), X + Number(name="e"))


@pytest.mark.parametrize("fused", [{"activation": Activation("sigmoid")}, {"axis": 1}])
def test_a_node_that_does_more_does_not_fit(b: Builder, fused: dict[str, Any]) -> None:
    x, z = b.input(2, 3), b.input(2, 3, name="z")
    assert found(b, b.node(Add(), x, z), X + Y)
    assert not found(b, b.node(Add(**fused), x, z), X + Y)


def spread(b: Builder, x: str, g: str) -> list[str]:
    """x * g * 0.5 written in several ways."""
    half, two, minus = b.constant(0.5), b.constant([2.0]), b.constant(-0.5)
    return [
        b.node("Mul", b.node("Mul", x, g), half),
        b.node("Mul", b.node("Mul", half, g), x),
        b.node("Div", b.node("Mul", x, g), two),
        b.node("Mul", g, b.node("Div", x, two)),
        b.node("Neg", b.node("Mul", b.node("Mul", minus, x), g)),
        b.node("Mul", b.node("Mul", b.node("Mul", x, two), g), b.constant(0.25)),
    ]


def test_a_product_sees_through_constants(b: Builder) -> None:
    x = b.node("Tanh", b.input(2, 3))
    pattern = Product(0.5, X, made("Sigmoid", X))
    for y in spread(b, x, b.node("Sigmoid", x)):
        assert {"x": x} in found(b, y, pattern)
        assert not found(b, y, Product(0.25, X, made("Sigmoid", X)))
        assert not found(b, y, Product(0.5, X, made("Tanh", X)))


def test_a_product_may_be_a_factor_itself(b: Builder) -> None:
    """What is squashed is a product of two values, which are not two more factors."""
    x = b.node("Mul", b.node("Tanh", b.input(2, 3)), b.input(2, 3, name="z"))
    y = b.node("Mul", x, b.node("Sigmoid", x))
    assert {"x": x} in found(b, y, Product(1.0, X, made("Sigmoid", X)))


def test_no_quotient_of_values_is_a_product(b: Builder) -> None:
    x = b.node("Tanh", b.input(2, 3))
    assert not found(b, b.node("Div", b.node("Sigmoid", x), x), Product(1.0, X, made("Sigmoid", X)))
    assert not found(b, b.node("Div", b.constant(2.0), x), Product(0.5, X))


def test_numbers_are_near_for_float32_and_nearer_for_float64(b: Builder) -> None:
    x = b.node("Tanh", b.input(2, 3))
    assert found(b, b.node("Mul", x, b.constant(1 / 3)), Product(1 / 3, X))
    assert not found(b, b.node("Mul", x, b.constant(0.3334)), Product(1 / 3, X))
    b.inputs["d"] = TensorSpec(np.dtype(np.float64), (2, 3))
    assert found(b, b.node("Mul", "d", b.constant(1 / 3, np.float64)), Product(1 / 3, X))
    assert not found(b, b.node("Mul", "d", b.constant(float(np.float32(1 / 3)), np.float64)), Product(1 / 3, X))


def test_constants_of_a_named_product_are_multiplied(b: Builder) -> None:
    x = b.node("Tanh", b.input(2, 3))
    slope = np.array([1.0, 2.0, 3.0], np.float32)
    y = b.node("Neg", b.node("Mul", b.node("Div", b.node("Relu", x), b.constant(4.0)), b.constant(slope)))
    values = [f["s"] for f in found(b, y, Product(None, made("Relu", X), name="s"))]
    assert len(values) == 1
    np.testing.assert_array_equal(values[0], -slope / 4)
    zero = b.node("Div", b.node("Relu", x), b.constant([1.0, 0.0, 2.0]))
    assert not found(b, zero, Product(None, made("Relu", X), name="s"))


def test_a_long_product_is_given_up(b: Builder) -> None:
    y = x = b.node("Tanh", b.input(2, 3))
    for _ in range(200):
        y = b.node("Mul", y, b.constant(1.0))
    assert not found(b, y, Product(1.0, made("Tanh", X)))
    assert found(b, x, Product(1.0, made("Tanh", X)))


def test_what_a_pattern_needs(b: Builder) -> None:
    assert Product(0.5, X, made("Erf", X) + 1).kinds() == {"Erf", "Add"}
    assert (made("Sqrt", X) | X**0.5).kinds() == frozenset()
    assert (made("Abs", X) - X | made("Abs", X)).kinds() == {"Abs"}
