"""Drafts of quantised networks between convolutions: what moves numbers, and functions of single elements."""

from __future__ import annotations

import numpy as np
from quantised_drafts import dequantised, quantised, scale, steps, weights, zero
from rewrites import Draft, pattern


def _again(d: Draft, y: str, by: tuple[str, ...]) -> None:
    """The output: y quantised, mostly as it was before."""
    if d.near(0.2):
        quantised(d, y)
    elif d.maybe():
        d.give(d.n("QuantizeLinear", y, *by))
    else:
        d.give(dequantised(d, y, by))


def _moved(d: Draft, x: str, shape: tuple[int, ...], by: tuple[str, ...]) -> str:
    """x (N, C, H, W), moved somehow."""
    kind = d.pick.randrange(14)
    n, c, h, w = shape
    if kind == 0:
        return d.n("Transpose", x, perm=d.pick.sample(range(4), 4))
    if kind == 1:
        return d.n("Reshape", x, d.ints(d.one(0, n), -1, h))
    if kind == 2:
        return d.n("Flatten", x, axis=d.one(0, 1, 2, -1))
    if kind == 3:
        return d.squeeze(d.n("Unsqueeze", x, d.ints(1)), 1)
    if kind == 4:
        return d.n("Slice", x, d.ints(0, 1), d.ints(2, 99), d.ints(1, 2))
    if kind == 5:
        first, *_ = d.split(x, [2, c - 2], 1)
        return first
    if kind == 6:
        return d.n("Gather", x, d.ints(1, 0, -1), axis=d.one(1, 2))
    if kind == 7:
        return d.n("Tile", x, d.ints(1, 2, 1, 1))
    if kind == 8:
        return d.n("Expand", x, d.ints(2, n, c, h, w))
    if kind == 9:
        value = d.constants[by[0]].reshape(-1)[0] * d.one(0, 1, -2, 0.5, 1000)
        more = [d.c(value)] if d.maybe(0.7) else []
        return d.n("Pad", x, d.ints(0, 0, 1, 2, 0, 0, 0, 1), *more, mode=d.one("constant", "constant", "edge", "reflect"))
    if kind == 10:
        pads = d.one([0] * 4, [1] * 4, [0, 1, 1, 0])
        return d.n("MaxPool", x, kernel_shape=[2, 2], strides=[d.one(1, 2)] * 2, pads=pads)
    if kind == 11:
        scales = d.c([1.0, 1.0, 2.0, d.one(2.0, 1.5)])
        mode = d.one("nearest", "nearest", "linear")
        return d.n("Resize", x, "", scales, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    if kind == 12:
        condition = d.c(d.rng.random((1, c, 1, w)) < 0.5, np.bool_)
        return d.n("Where", condition, x, dequantised(d, d.feed(*shape), by))
    return d.n("DepthToSpace", d.n("SpaceToDepth", x, blocksize=1), blocksize=1)


@pattern("quantized_moves")
def moved(d: Draft) -> None:
    d.opset = d.one(13, 17)
    shape = (2, d.one(3, 4, 5), d.one(4, 5), d.one(4, 6))
    by = steps(d)
    x = dequantised(d, d.x(*shape), by)
    y = _moved(d, x, shape, by)
    if d.near(0.1):
        d.give(d.one(x, y))
    _again(d, y, by)


@pattern("quantized_moves")
def joined(d: Draft) -> None:
    d.opset = d.one(13, 17)
    shape = d.shape(d.one(2, 3, 4))
    by = steps(d)
    parts = [dequantised(d, d.x(*shape), steps(d) if d.near(0.15) else by) for _ in range(d.one(2, 3))]
    _again(d, d.n("Concat", *parts, axis=d.pick.randrange(-len(shape), len(shape))), by)


@pattern("quantized_moves")
def viewed_before_it_is_quantised(d: Draft) -> None:
    d.opset = d.one(13, 17)
    n, c, h, w = shape = d.shape(4)
    kernel, _ = weights(d, (4, c, 1, 1), 0, True, 20)
    y = d.n("Conv", dequantised(d, d.x(*shape)), kernel)
    z = d.n("Reshape", d.n("Transpose", y, perm=[0, 2, 3, 1]), d.ints(n, h * w, 4))
    if d.near(0.15):
        d.give(d.n("Neg", y))
    _again(d, z, steps(d))


def _function(d: Draft, x: str) -> str:
    """A function of single elements of x, that floats compute exactly."""
    kind = d.pick.randrange(8)
    if kind == 0:
        return d.n("Relu", x)
    if kind == 1:
        return d.clip(x, d.one(-0.5, 0.0), d.one(None, 2.0))
    if kind == 2:
        return d.n("LeakyRelu", x, alpha=d.one(0.5, 0.25))
    if kind == 3:
        return d.n(d.one("Add", "Mul", "Sub"), *d.order(x, d.number(d.one(0.5, 2.0, -0.25))))
    if kind == 4:
        return d.n("Max", *d.order(x, d.number(0.25)))
    if kind == 5:
        return d.n("Abs", x)
    if kind == 6:
        return d.n("Where", d.n("Greater", x, d.number(0.25)), x, d.number(-1.0))
    signed = d.maybe()
    return d.n("Mul", x, d.n("DequantizeLinear", zero(d, signed), scale(d)))


@pattern("quantized_tables")
def function(d: Draft) -> None:
    d.opset = d.one(13, 17)
    y = dequantised(d, d.x(*d.shape(d.one(2, 3, 4))))
    for _ in range(d.one(1, 1, 2, 3)):
        y = _function(d, y)
        if d.maybe(0.2):
            y = dequantised(d, y)
    if d.near(0.15):
        y = d.n("Add", y, d.r(*d.shape(2), scale=0.25))
    quantised(d, y)


@pattern("quantized_tables")
def gate(d: Draft) -> None:
    """x * f(x), with f(x) quantised as often as not."""
    d.opset = d.one(13, 17)
    shape = d.shape(d.one(2, 4))
    x = dequantised(d, d.x(*shape))
    inner = _function(d, _function(d, x))
    gate = dequantised(d, inner) if d.maybe() else inner
    if d.near(0.2):
        x = dequantised(d, d.x(*shape))
    quantised(d, d.n(d.one("Mul", "Add"), *d.order(x, gate)))


@pattern("quantized_tables")
def other_steps(d: Draft) -> None:
    d.opset = d.one(13, 17)
    x = dequantised(d, d.x(*d.shape(d.one(2, 3, 4))))
    quantised(d, dequantised(d, x) if d.maybe() else x)
