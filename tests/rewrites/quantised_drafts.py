"""Drafts of quantised networks, for the rewrites that compute with integers.

Scales are powers of two and sums stay below 2^24, so that floats and integers give the same bits: a near miss that is taken for a
match shows however small it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from rewrites import Draft, pattern

BYTES = {False: np.uint8, True: np.int8}


def scale(d: Draft, low: int = -4, high: int = -1, channels: int = 0) -> str:
    """A power of two as a constant, or one for each channel."""
    exponents = [d.pick.randint(low, high) for _ in range(channels or 1)]
    values = [2.0**e for e in exponents]
    d.scales.append(d.c(values if channels or d.near(0.1) else values[0]))
    return d.scales[-1]


def zero(d: Draft, signed: bool, size: int = 0) -> str:
    values = [d.one(0, 3, 100 if not signed else -20) for _ in range(size or 1)]
    return d.c(values if size else values[0], BYTES[signed])


def steps(d: Draft, signed: bool | None = None) -> tuple[str, ...]:
    """Scale and zero point of a tensor; without the zero point, of uint8."""
    signed = d.maybe() if signed is None else signed
    return (scale(d),) if not signed and d.maybe(0.2) else (scale(d), zero(d, signed))


def dequantised(d: Draft, x: str, by: tuple[str, ...] | None = None, **attributes: Any) -> str:
    """What is left of x once it is quantised."""
    by = steps(d) if by is None else by
    return d.n("DequantizeLinear", d.n("QuantizeLinear", x, *by, **attributes), *by, **attributes)


def quantised(d: Draft, y: str) -> None:
    """The output: y quantised, as integers or floats."""
    if d.maybe(0.3):
        d.give(d.n("QuantizeLinear", y, *steps(d)))
    else:
        d.give(dequantised(d, y))


def weights(d: Draft, shape: tuple[int, ...], axis: int, signed: bool = True, limit: int = 127) -> tuple[str, str]:
    """Dequantised weights, and their scale."""
    channels = shape[axis] if d.maybe() else 0
    low, high = (-limit, limit + 1) if signed else (0, limit + 1)
    w = d.c(d.rng.integers(low, high, shape), BYTES[signed])
    by = scale(d, -6, -3, channels)
    more = [zero(d, signed, channels if d.constants[by].ndim else 0)] if not signed or d.maybe() else []
    if d.near(0.1) and signed and more:
        d.constants[more[0]] = np.full_like(d.constants[more[0]], 5)
    return d.n("DequantizeLinear", w, by, *more, axis=axis), by


def bias(d: Draft, x_scale: str, w_scale: str, count: int) -> list[str]:
    kind = d.pick.randrange(3)
    if kind == 0:
        return []
    product = d.constants[x_scale] * d.constants[w_scale]
    if product.size > 1:
        product = np.tile(product, count // product.size)
    units = d.rng.integers(-900, 900, count)
    if kind == 1:
        return [d.c((units * product).reshape(-1))]
    by = d.c(product if d.plainly or d.maybe(0.8) else product * 2)
    return [
        d.n(
            "DequantizeLinear", d.c(units, np.int32), by, *([d.c(np.zeros(product.shape), np.int32)] if d.maybe() else []), axis=0
        )
    ]


def convolution(d: Draft, kind: str = "Conv") -> tuple[str, tuple[str, ...]]:
    """A Conv or ConvTranspose of dequantised numbers."""
    d.opset = d.one(13, 17, 21)
    n, c, *spatial = d.shape(d.one(3, 4, 4, 5))
    group = d.one(1, 1, c)
    o = d.one(4, 6, 9) * (group if kind == "Conv" else 1)
    kernel = [d.one(1, 2, 3) if e > 2 else 1 for e in spatial]
    by = steps(d)
    x = dequantised(d, d.x(n, c, *spatial), by)
    shape = (o, c // group, *kernel) if kind == "Conv" else (c, o, *kernel)
    axis = 0 if kind == "Conv" else 1
    w, w_scale = weights(d, shape, axis, d.maybe(0.8), d.one(30, 127))
    attributes: dict[str, Any] = {"group": group}
    if d.maybe():
        attributes["pads"] = [k // 2 for k in kernel] * 2
    if d.maybe(0.3):
        attributes["strides"] = [d.one(1, 2) for _ in kernel]
    outputs = o if kind == "Conv" else o * group
    return d.n(kind, x, w, *bias(d, by[0], w_scale, outputs), **attributes), by


@pattern("quantized_convolutions")
def convolution_between(d: Draft) -> None:
    y, _ = convolution(d, d.one("Conv", "Conv", "ConvTranspose"))
    kind = d.pick.randrange(4)
    if kind == 0:
        y = d.n("Relu", y)
    elif kind == 1:
        y = d.clip(y, 0.0, 6.0)
    if d.maybe(0.2):
        d.give(y if d.maybe() else d.n("Neg", y))
    else:
        quantised(d, y)


@pattern("qlinear_convolutions")
def qlinear_convolution(d: Draft) -> None:
    d.opset = d.one(11, 13, 21)
    n, c, *spatial = d.shape(d.one(3, 4, 4, 5))
    group = d.one(1, 1, c)
    o = d.one(4, 6, 9) * group
    kernel = [d.one(1, 2, 3) if e > 2 else 1 for e in spatial]
    signed, w_signed, y_signed = d.maybe(), d.maybe(0.7), d.maybe()
    by = (scale(d), zero(d, signed))
    x = d.n("QuantizeLinear", d.x(n, c, *spatial), *by)
    channels = o if d.maybe() else 0
    w = d.c(d.rng.integers(-40 if w_signed else 0, 41, (o, c // group, *kernel)), BYTES[w_signed])
    w_scale, w_zero = scale(d, -6, -3, channels), zero(d, w_signed, channels if d.maybe() else 0)
    y_by = (scale(d), zero(d, y_signed))
    more = [d.c(d.rng.integers(-900, 900, o), np.int32)] if d.maybe() else []
    attributes: dict[str, Any] = {"group": group}
    if d.maybe():
        attributes["pads"] = [k // 2 for k in kernel] * 2
    y = d.n("QLinearConv", x, *by, w, w_scale, w_zero, *y_by, *more, **attributes)
    d.give(d.n("DequantizeLinear", y, *y_by) if d.maybe() else y)


@pattern("dynamic_convolutions")
def dynamic_convolution(d: Draft) -> None:
    d.opset = d.one(13, 17, 21)
    n, c, *spatial = d.shape(d.one(3, 4, 4, 5))
    group = d.one(1, 1, c)
    o = d.one(4, 6, 9) * group
    kernel = [d.one(1, 2, 3) if e > 2 else 1 for e in spatial]
    signed = d.maybe()
    x, x_scale, x_zero = d.n("DynamicQuantizeLinear", d.x(n, c, *spatial), outputs=3)
    w = d.c(d.rng.integers(-40 if signed else 0, 41, (o, c // group, *kernel)), BYTES[signed])
    more = [zero(d, signed, o if d.maybe(0.2) else 0)] if d.maybe() else []
    attributes = {"pads": [k // 2 for k in kernel] * 2} if d.maybe() else {}
    sums = d.n("Cast", d.n("ConvInteger", x, w, x_zero, *more, group=group, **attributes), to=onnx.TensorProto.FLOAT)
    by = x_scale
    if d.maybe(0.8):
        w_scale = d.r(o, *(1,) * len(spatial)) if d.maybe() else d.number(0.01)
        by = d.n("Mul", *d.order(x_scale, w_scale))
    y = d.n("Mul", *d.order(sums, by))
    if d.maybe():
        y = d.n("Add", *d.order(y, d.r(*d.vector_for(1, (n, o, *spatial)), scale=0.3)))
    d.give(d.n("Relu", y) if d.maybe() else y)


@pattern("fuse_quantized_sums")
def residual_sum(d: Draft) -> None:
    """A convolution of the input's shape, and the input, or what another one makes of it, added."""
    d.opset = d.one(13, 17, 21)
    n, c, *spatial = d.shape(d.one(3, 4, 4, 5))
    x = dequantised(d, d.x(n, c, *spatial), steps(d))
    depthwise = d.maybe(0.3)
    w, _ = weights(d, (c, 1 if depthwise else c, *(1,) * len(spatial)), 0, True, 60)
    y = d.n("Conv", x, w, group=c if depthwise else 1)
    y = dequantised(d, d.n("Relu", y) if d.maybe(0.3) else y)
    other = x
    if d.maybe(0.3):
        other = dequantised(d, d.n("Conv", x, weights(d, (c, c, *(1,) * len(spatial)), 0, True, 60)[0]))
    y = d.n("Add", *d.order(y, other))
    if d.maybe():
        y = d.n("Relu", y)
    quantised(d, y)


@pattern("fuse_quantized_tables")
def function_of_convolution(d: Draft) -> None:
    y, _ = convolution(d)
    by = (scale(d, -5, -4), zero(d, d.maybe()))
    q = dequantised(d, y, by)
    kind = d.one("Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "Elu", "Abs")
    y = d.n(kind, q)
    if d.maybe(0.4):
        y = d.n("Mul", *d.order(q, y))
    d.give(d.n("QuantizeLinear", y, d.c(2.0**-6), zero(d, d.maybe())))


@pattern("cancel_flips")
def flips_between(d: Draft) -> None:
    """Convolutions of int8, one behind the other."""
    d.opset = d.one(13, 17, 21)
    n, c, *spatial = d.shape(4)
    y = dequantised(d, d.x(n, c, *spatial), steps(d, True))
    for _ in range(2):
        w, _ = weights(d, (c, c, 1, 1), 0, True, 20)
        y = dequantised(d, d.n("Conv", y, w), steps(d, d.maybe(0.8)))
    d.give(y)


@pattern("fold_beside_quantized")
def constant_scale(d: Draft) -> None:
    """Scales that the file computes."""
    d.opset = d.one(13, 17, 21)
    shape = d.shape(4)
    by = d.n("Mul", d.c(0.5), d.c(0.25))
    z = zero(d, d.maybe())
    q = d.n("QuantizeLinear", d.x(*shape), by, z)
    w = d.n("DequantizeLinear", d.c(d.rng.integers(-9, 9, shape[1:]), np.int8), d.c(0.25))
    d.give(d.n("Add", d.n("DequantizeLinear", q, by, z), w))


def _operand(d: Draft, shape: tuple[int, ...]) -> str:
    """A dequantised tensor, or what comes near."""
    if d.near(0.1):
        return d.x(*shape)
    if d.near(0.1):
        return d.r(*shape)
    if d.near(0.1):
        by = (scale(d, channels=shape[1]), zero(d, True, shape[1]))
        return dequantised(d, d.x(*shape), by, axis=1)
    return dequantised(d, d.x(*shape, scale=4))


def _activated(d: Draft, y: str) -> str:
    kind = d.pick.randrange(5)
    if kind == 0:
        return d.n("Relu", y)
    return d.clip(y, d.one(None, -1.0, 0.5), d.one(None, 3.0)) if kind == 1 else y


@pattern("quantized_elements")
def two_quantised(d: Draft) -> None:
    d.opset = d.one(13, 17, 21)
    shape = d.shape(d.one(2, 4, 4))
    a, b = _operand(d, shape), _operand(d, d.thinned(shape))
    if d.maybe(0.1):
        b = a
    y = _activated(d, d.n(d.one("Add", "Add", "Mul", "Sub"), *d.order(a, b)))
    if d.near(0.1):
        d.give(y)
    elif d.near(0.1):
        quantised(d, d.n("Tanh", y))
    else:
        quantised(d, y)


@pattern("quantized_elements")
def joined_quantised(d: Draft) -> None:
    d.opset = d.one(13, 17, 21)
    shape = d.shape(d.one(2, 4, 4))
    axis = d.pick.randrange(len(shape))
    by = steps(d)
    parts = []
    for _ in range(d.one(2, 3)):
        part = tuple(d.one(n, n + 1) if i == axis else n for i, n in enumerate(shape))
        parts.append(dequantised(d, d.x(*part, scale=4), by) if d.maybe(0.4) else _operand(d, part))
    y = d.n("Concat", *parts, axis=axis)
    if d.maybe(0.4):
        d.give(dequantised(d, y, by))
    else:
        quantised(d, y)
