"""Written-out normalisations, as exporters write them: fused ones compute the same, near misses are left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import Builder, kinds, same

from cnnengine.graph import Graph
from cnnengine.ops.reduce import ReduceMean
from cnnengine.ops.transpose import Transpose
from cnnengine.rewrites import simplify
from cnnengine.rewrites.dead_code import dead_code
from cnnengine.rewrites.fuse_layernorm import fuse_layernorm

EPSILON = 1e-3


@pytest.fixture
def b() -> Builder:
    return Builder()


def mean(b: Builder, x: str, axes: tuple[int, ...], by_input: bool = False, keepdims: bool = True) -> str:
    if by_input:  # opset 18
        return b.node(ReduceMean(None, keepdims), x, b.constant(axes, np.int64))
    return b.node(ReduceMean(axes, keepdims), x)


def square(b: Builder, x: str, how: str) -> str:
    return b.node("Mul", x, x) if how == "mul" else b.node("Pow", x, b.constant(2.0))


def spread(
    b: Builder, x: str, axes: tuple[int, ...], how: str = "pow", by_input: bool = False, epsilon: float = EPSILON
) -> tuple[str, str]:
    """x - mean and variance + epsilon."""
    centred = b.node("Sub", x, mean(b, x, axes, by_input))
    variance = mean(b, square(b, centred, how), axes, by_input)
    return centred, b.node("Add", variance, b.constant(epsilon))


def normalised(b: Builder, x: str, axes: tuple[int, ...], how: str = "div", **options: Any) -> str:
    centred, wide = spread(b, x, axes, **options)
    if how == "div":
        return b.node("Div", centred, b.node("Sqrt", wide))
    if how == "power":
        return b.node("Mul", b.node("Pow", wide, b.constant(-0.5)), centred)
    if how == "half power":
        return b.node("Div", centred, b.node("Pow", wide, b.constant([0.5])))
    if how == "one over":
        return b.node("Mul", centred, b.node("Div", b.constant(1.0), b.node("Sqrt", wide)))
    return b.node("Mul", centred, b.node("Reciprocal", b.node("Sqrt", wide)))


def affine(b: Builder, x: str, scale: tuple[int, ...] | None, bias: tuple[int, ...] | None) -> str:
    if scale is not None:
        x = b.node("Mul", x, b.random(*scale))
    return x if bias is None else b.node("Add", b.random(*bias), x)


def keras(b: Builder, x: str, axes: tuple[int, ...], how: str, shape: tuple[int, ...] = (5,)) -> str:
    """x * inverse + (bias - mean * inverse), and what versions and back ends make of it."""
    average = mean(b, x, axes)
    if how == "squares":  # Keras 3 on PyTorch
        variance = b.node("Sub", mean(b, square(b, x, "pow"), axes), square(b, average, "mul"))
    else:
        variance = mean(b, square(b, b.node("Sub", x, average), "mul"), axes)
    inverse = b.node("Reciprocal", b.node("Sqrt", b.node("Add", b.constant(EPSILON), variance)))
    inverse = b.node("Mul", inverse, b.random(*shape)) if how != "plain" else inverse
    if how == "negated" or how == "squares":
        rest = b.node("Add", b.node("Mul", b.node("Neg", average), inverse), b.random(*shape))
    elif how == "plain":
        return b.node("Sub", b.node("Mul", x, inverse), b.node("Mul", average, inverse))
    elif how == "no bias":
        rest = b.node("Neg", b.node("Mul", inverse, average))
    else:
        rest = b.node("Sub", b.random(*shape), b.node("Mul", average, inverse))
    return b.node("Add", b.node("Mul", inverse, x), rest)


def lead(b: Builder, *shape: int) -> str:
    return b.node("Tanh", b.input(*shape))


Make = Callable[[Builder], str]
FUSED: list[tuple[str, Make]] = [
    *[
        ("LayerNormalization", lambda b, h=how: affine(b, normalised(b, lead(b, 2, 3, 4, 5), (-1,), h), (5,), (5,)))
        for how in ("div", "reciprocal", "power", "half power", "one over")
    ],
    ("LayerNormalization", lambda b: affine(b, normalised(b, lead(b, 2, 3, 4, 5), (3,)), (5,), (1, 1, 1, 5))),
    ("LayerNormalization", lambda b: affine(b, normalised(b, lead(b, 2, 7, 5), (-1,), by_input=True), (5,), (5,))),
    ("LayerNormalization", lambda b: affine(b, normalised(b, lead(b, 2, 3, 4, 5), (1, 2, 3)), (3, 4, 5), (3, 4, 5))),
    ("LayerNormalization", lambda b: affine(b, normalised(b, lead(b, 2, 3, 4, 5), (-1, -2), by_input=True), (4, 5), None)),
    ("LayerNormalization", lambda b: affine(b, normalised(b, lead(b, 2, 3, 4, 5), (-1,)), None, (5,))),
    ("LayerNormalization", lambda b: normalised(b, lead(b, 2, 3, 4, 5), (2, 3))),
    ("ChannelLayerNorm", lambda b: affine(b, normalised(b, lead(b, 2, 5, 4, 3), (1,)), (5, 1, 1), (5, 1, 1))),
    ("ChannelLayerNorm", lambda b: affine(b, normalised(b, lead(b, 2, 5, 4), (1,), "reciprocal"), (1, 5, 1), (5, 1))),
    ("ChannelLayerNorm", lambda b: normalised(b, lead(b, 2, 5, 4, 3), (-3,), how="div")),
    ("InstanceNormalization", lambda b: affine(b, normalised(b, lead(b, 2, 5, 4, 3), (2, 3)), (1, 5, 1, 1), (5, 1, 1))),
    ("InstanceNormalization", lambda b: affine(b, normalised(b, lead(b, 2, 5, 6), (2,)), (5, 1), None)),
    *[("LayerNormalization", lambda b, h=how: keras(b, lead(b, 2, 3, 4, 5), (-1,), h)) for how in ("", "negated", "squares")],
    *[("LayerNormalization", lambda b, h=how: keras(b, lead(b, 2, 3, 4, 5), (3,), h)) for how in ("plain", "no bias")],
    ("ChannelLayerNorm", lambda b: keras(b, lead(b, 2, 5, 4, 3), (1,), "", (5, 1, 1))),
    ("InstanceNormalization", lambda b: keras(b, lead(b, 2, 5, 4, 3), (2, 3), "negated", (5, 1, 1))),
]


@pytest.mark.parametrize("case", range(len(FUSED)))
def test_normalisations_fuse(b: Builder, case: int) -> None:
    kind, make = FUSED[case]
    before = b.graph(make(b))
    after = dead_code(fuse_layernorm(before))
    assert kinds(after) == ["Tanh", kind]
    same(b, before, after)
    assert kinds(simplify(before)) == ["Tanh", kind]


@pytest.mark.parametrize("case", range(len(FUSED)))
def test_against_float64(b: Builder, case: int) -> None:
    """Means far from 0 and a small spread: the fused form is at least as near to float64 as the nodes."""
    graph = b.graph(FUSED[case][1](b))
    b.feeds["x"] = (b.feeds["x"] * 0.05).astype(np.float32)
    fused = dead_code(fuse_layernorm(graph))
    wide = Graph(
        graph.inputs,
        graph.outputs,
        graph.nodes,
        {n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in graph.constants.items()},
    )
    (exact,) = wide.evaluate({"x": b.feeds["x"].astype(np.float64)})
    (nodes,), (one,) = graph.evaluate(b.feeds), fused.evaluate(b.feeds)
    size = np.abs(exact).max()
    assert one.dtype == np.float32
    assert np.abs(one - exact).max() <= max(np.abs(nodes - exact).max(), 1e-6 * size)


def test_the_scale_stays_where_the_plain_result_is_needed(b: Builder) -> None:
    core = normalised(b, lead(b, 2, 3, 4, 5), (-1,))
    out = affine(b, core, (5,), (5,))
    before = b.graph(out, core)
    after = dead_code(fuse_layernorm(before))
    assert kinds(after) == ["Tanh", "LayerNormalization", "Mul", "Add"]
    same(b, before, after)


def test_shared_parts_stay_for_their_other_readers(b: Builder) -> None:
    x = lead(b, 2, 3, 4, 5)
    centred, wide = spread(b, x, (-1,))
    out = affine(b, b.node("Div", centred, b.node("Sqrt", wide)), (5,), (5,))
    before = b.graph(out, centred, wide)
    after = dead_code(fuse_layernorm(before))
    assert kinds(after).count("LayerNormalization") == 1
    assert "Sqrt" not in kinds(after) and kinds(after).count("ReduceMean") == 2
    same(b, before, after)


def test_a_scale_that_does_not_fit_stays_behind(b: Builder) -> None:
    """Scales per row of a norm over the last axis, numbers, and values that are no constants."""
    core = normalised(b, lead(b, 2, 3, 4, 5), (-1,))
    outputs = [b.node("Mul", core, s) for s in (b.random(4, 1), b.constant(2.0), b.node("Neg", "x"))]
    before = b.graph(*outputs)
    after = dead_code(fuse_layernorm(before))
    assert sorted(kinds(after)) == ["LayerNormalization", "Mul", "Mul", "Mul", "Neg", "Tanh"]
    same(b, before, after)
    for scale in ((4, 1), (3, 1, 1)):
        b = Builder()
        before = b.graph(affine(b, normalised(b, lead(b, 2, 3, 4, 5), (-1,)), scale, (5,)))
        after = dead_code(fuse_layernorm(before))
        assert kinds(after) == ["Tanh", "LayerNormalization", "Mul", "Add"]
        same(b, before, after)


def test_between_transposes_it_is_a_norm_of_channels(b: Builder) -> None:
    x = b.node(Transpose((0, 2, 3, 1)), lead(b, 2, 5, 4, 3))
    y = affine(b, normalised(b, x, (-1,)), (5,), (5,))
    before = b.graph(b.node("Relu", b.node(Transpose((0, 3, 1, 2)), y)))
    after = simplify(before)
    assert kinds(after) == ["Tanh", "ChannelLayerNorm", "Relu"]
    same(b, before, after)


def two_axes(b: Builder, first: tuple[int, ...], second: tuple[int, ...]) -> str:
    x = lead(b, 2, 3, 4, 5)
    centred = b.node("Sub", x, mean(b, x, first))
    wide = b.node("Add", mean(b, square(b, centred, "pow"), second), b.constant(EPSILON))
    return b.node("Div", centred, b.node("Sqrt", wide))


def other_mean(b: Builder) -> str:
    x, y = lead(b, 2, 3, 4, 5), b.node("Tanh", "x")
    centred = b.node("Sub", x, mean(b, b.node("Neg", y), (-1,)))
    wide = b.node("Add", mean(b, square(b, centred, "pow"), (-1,)), b.constant(EPSILON))
    return b.node("Div", centred, b.node("Sqrt", wide))


def other_numerator(b: Builder) -> str:
    x = lead(b, 2, 3, 4, 5)
    return b.node("Div", x, b.node("Sqrt", spread(b, x, (-1,))[1]))


def cubed(b: Builder) -> str:
    x = lead(b, 2, 3, 4, 5)
    centred = b.node("Sub", x, mean(b, x, (-1,)))
    wide = b.node("Add", mean(b, b.node("Pow", centred, b.constant(4.0)), (-1,)), b.constant(EPSILON))
    return b.node("Div", centred, b.node("Sqrt", wide))


def turned_over(b: Builder) -> str:
    centred, wide = spread(b, lead(b, 2, 3, 4, 5), (-1,))
    return b.node("Div", b.node("Sqrt", wide), centred)


def wide_epsilon(b: Builder) -> str:
    """An epsilon per position."""
    x = lead(b, 2, 3, 4, 5)
    centred = b.node("Sub", x, mean(b, x, (-1,)))
    variance = mean(b, square(b, centred, "pow"), (-1,))
    return b.node("Div", centred, b.node("Sqrt", b.node("Add", variance, b.random(5))))


def wrong_shift(b: Builder) -> str:
    """x * inverse + (bias + mean * inverse)."""
    x = lead(b, 2, 3, 4, 5)
    inverse = b.node("Mul", b.node("Reciprocal", b.node("Sqrt", spread(b, x, (-1,))[1])), b.random(5))
    rest = b.node("Add", b.random(5), b.node("Mul", mean(b, x, (-1,)), inverse))
    return b.node("Add", b.node("Mul", x, inverse), rest)


NOT_FUSED: list[Make] = [
    lambda b: normalised(b, lead(b, 2, 3, 4, 5), (0, 3)),
    lambda b: normalised(b, lead(b, 2, 3, 4, 5), (2,)),
    lambda b: affine(b, normalised(b, lead(b, 2, 3, 4, 5), (0, 2, 3)), (3, 1, 1), (3, 1, 1)),
    lambda b: normalised(b, lead(b, 2, 3, 4, 5), (-1,), epsilon=-1.0),
    lambda b: two_axes(b, (-1,), (-2, -1)),
    lambda b: two_axes(b, (2,), (3,)),
    other_mean,
    other_numerator,
    cubed,
    turned_over,
    wide_epsilon,
    wrong_shift,
]


@pytest.mark.parametrize("case", range(len(NOT_FUSED)))
def test_near_misses_stay(b: Builder, case: int) -> None:
    before = b.graph(NOT_FUSED[case](b))
    assert fuse_layernorm(before) is before


def test_other_types_stay(b: Builder) -> None:
    out = normalised(b, lead(b, 2, 3, 4, 5), (-1,))
    graph = b.graph(out)
    spec = graph.inputs["x"]
    for dtype in (np.float64, np.float16):
        other = graph.replace(inputs={"x": type(spec)(np.dtype(dtype), spec.shape)})
        assert fuse_layernorm(other) is other
