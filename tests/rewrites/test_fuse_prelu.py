"""PRelu as TensorFlow and Keras spell it out: fused ones compute the same, near misses are left alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support import Builder, kinds, same

from cnnengine.ops.transpose import Transpose
from cnnengine.rewrites import simplify
from cnnengine.rewrites.dead_code import dead_code
from cnnengine.rewrites.fuse_prelu import fuse_prelu

Make = Callable[[Builder, str], str]


@pytest.fixture
def b() -> Builder:
    return Builder()


def negated(b: Builder, x: str) -> str:
    return b.node("Relu", b.node("Neg", x))


def twice(b: Builder, x: str) -> str:
    """x - |x|."""
    return b.node("Sub", x, b.node("Abs", x))


FUSED: list[Make] = [
    # Keras: relu(x) + -alpha * relu(-x), the minus folded into the constant
    lambda b, x: b.node("Add", b.node("Relu", x), b.node("Mul", negated(b, x), b.random(3, 1, 1))),
    lambda b, x: b.node("Add", b.node("Mul", b.random(1, 3, 1, 1), negated(b, x)), b.node("Relu", x)),
    lambda b, x: b.node("Sub", b.node("Relu", x), b.node("Mul", b.random(1, 5), negated(b, x))),
    lambda b, x: b.node("Add", b.node("Relu", x), b.node("Neg", b.node("Mul", b.random(5), negated(b, x)))),
    # TensorFlow 1: relu(x) + alpha * (x - |x|) * 0.5
    lambda b, x: b.node("Add", b.node("Relu", x), b.node("Mul", b.node("Mul", b.random(3, 1, 1), twice(b, x)), b.constant(0.5))),
    lambda b, x: b.node("Add", b.node("Relu", x), b.node("Div", b.node("Mul", twice(b, x), b.random(5)), b.constant(2.0))),
    # max(x, 0) + alpha * min(x, 0)
    lambda b, x: b.node(
        "Add", b.node("Mul", b.random(3, 1, 1), b.node("Min", x, b.constant(0.0))), b.node("Max", b.constant([0.0]), x)
    ),
    lambda b, x: b.node("Add", b.node("Clip", x, min=0.0), b.node("Mul", b.constant(0.3), b.node("Clip", x, max=0.0))),
]


@pytest.mark.parametrize("case", range(len(FUSED)))
def test_prelus_fuse(b: Builder, case: int) -> None:
    before = b.graph(FUSED[case](b, b.node("Tanh", b.input(2, 3, 4, 5))))
    after = dead_code(fuse_prelu(before))
    assert kinds(after) == ["Tanh", "PRelu"]
    same(b, before, after)


def test_shared_parts_stay(b: Builder) -> None:
    x = b.node("Tanh", b.input(2, 3, 4, 5))
    positive = b.node("Relu", x)
    before = b.graph(b.node("Add", positive, b.node("Mul", b.random(3, 1, 1), negated(b, x))), positive)
    after = dead_code(fuse_prelu(before))
    assert sorted(kinds(after)) == ["PRelu", "Relu", "Tanh"]
    same(b, before, after)


def test_between_transposes(b: Builder) -> None:
    x = b.node(Transpose((0, 2, 3, 1)), b.node("Tanh", b.input(2, 5, 4, 3)))
    y = b.node("Add", b.node("Relu", x), b.node("Mul", b.random(1, 1, 5), negated(b, x)))
    before = b.graph(b.node(Transpose((0, 3, 1, 2)), y))
    after = simplify(before)
    assert kinds(after) == ["Tanh", "PRelu"]
    same(b, before, after)


NOT_FUSED: list[Make] = [
    lambda b, x: b.node("Add", b.node("Relu", x), b.node("Mul", b.random(3, 1, 1), b.node("Relu", x))),
    lambda b, x: b.node("Add", b.node("Relu", x), b.node("Mul", b.random(3, 1, 1), negated(b, b.node("Tanh", x)))),
    lambda b, x: b.node("Add", b.node("Relu", x), b.node("Mul", b.node("Sigmoid", x), negated(b, x))),
    lambda b, x: b.node("Sub", b.node("Mul", b.random(3, 1, 1), negated(b, x)), b.node("Relu", x)),
    lambda b, x: b.node("Add", b.node("Relu", x), b.node("Mul", b.random(2, 1, 3, 1, 1), negated(b, x))),
    lambda b, x: b.node("Add", b.node("Relu", x), b.node("Mul", b.constant(np.inf), negated(b, x))),
    lambda b, x: b.node("Add", b.node("Relu", x), b.node("Div", b.random(3, 1, 1), negated(b, x))),
    lambda b, x: b.node("Add", b.node("Clip", x, min=0.0, max=6.0), b.node("Mul", b.random(3, 1, 1), negated(b, x))),
    lambda b, x: b.node("Add", b.node("Max", x, b.constant(0.1)), b.node("Mul", b.random(3, 1, 1), negated(b, x))),
]


@pytest.mark.parametrize("case", range(len(NOT_FUSED)))
def test_near_misses_stay(b: Builder, case: int) -> None:
    before = b.graph(NOT_FUSED[case](b, b.node("Tanh", b.input(2, 3, 4, 5))))
    assert fuse_prelu(before) is before
