"""Drafts of quantised products of matrices and pools; scales are powers of two, as in quantised.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from quantised_drafts import BYTES, bias, dequantised, quantised, scale, steps, weights, zero
from rewrites import Draft, pattern


def _ended(d: Draft, y: str) -> None:
    """An activation perhaps, and the output: integers, floats of them, or floats."""
    kind = d.pick.randrange(4)
    if kind == 0:
        y = d.n("Relu", y)
    elif kind == 1:
        y = d.clip(y, 0.0, 6.0)
    if d.maybe(0.25):
        d.give(y if d.maybe() else d.n("Neg", y))
    else:
        quantised(d, y)


@pattern("quantized_products")
def product_between(d: Draft) -> None:
    d.opset = d.one(13, 17, 21)
    gemm = d.maybe()
    shape = d.shape(2 if gemm else d.one(2, 3, 4))
    k, n = shape[-1], d.one(3, 4, 7)
    by = steps(d)
    x = dequantised(d, d.x(*shape), by)
    if gemm:
        turned = d.one(0, 1)
        w, w_scale = weights(d, (n, k) if turned else (k, n), 0 if turned else 1, d.maybe(0.8), d.one(30, 127))
        y = d.n("Gemm", x, w, *bias(d, by[0], w_scale, n), transB=turned, **({"alpha": 0.5} if d.near(0.1) else {}))
    else:
        w, w_scale = weights(d, (k, n), 1, d.maybe(0.8), d.one(30, 127))
        y = d.n("MatMul", x, w)
        for name in bias(d, by[0], w_scale, n):
            if d.near():
                name = d.x(*shape[:-1], n)  # another value, not a bias
            y = d.n("Add", *d.order(y, name))
    _ended(d, y)


@pattern("quantized_products")
def product_of_two_results(d: Draft) -> None:
    d.opset = d.one(13, 17, 21)
    *batch, m, k = d.shape(d.one(2, 3, 4))
    n = d.one(3, 4, 7)
    a = dequantised(d, d.x(*batch, m, k))
    b = dequantised(d, d.x(*(batch if d.maybe(0.8) else ()), k, n))
    _ended(d, d.n("MatMul", a, b))


@pattern("qlinear_products")
def qlinear_product(d: Draft) -> None:
    d.opset = d.one(11, 13, 21)
    shape = d.shape(d.one(2, 3, 4))
    k, n = shape[-1], d.one(3, 4, 7)
    signed, w_signed, y_signed = d.maybe(), d.maybe(0.7), d.maybe()
    by = (scale(d), zero(d, signed))
    x = d.n("QuantizeLinear", d.x(*shape), *by)
    columns = n if d.maybe() else 0
    w_by = (scale(d, -6, -3, columns), zero(d, w_signed, columns))
    if d.maybe(0.7):
        w = d.c(d.rng.integers(-40 if w_signed else 0, 41, (k, n)), BYTES[w_signed])
    else:
        w_by = (scale(d, -6, -3), zero(d, w_signed))
        w = d.n("QuantizeLinear", d.x(*(shape[:-2] if d.maybe() else ()), k, n), *w_by)
    y_by = (scale(d), zero(d, y_signed))
    y = d.n("QLinearMatMul", x, *by, w, *w_by, *y_by)
    d.give(d.n("DequantizeLinear", y, *y_by) if d.maybe() else y)


@pattern("integer_products")
def dynamic_product(d: Draft) -> None:
    d.opset = d.one(11, 13, 17, 21)
    shape = d.shape(d.one(2, 3, 4))
    k, n = shape[-1], d.one(3, 4, 7)
    x, x_scale, x_zero = d.n("DynamicQuantizeLinear", d.x(*shape), outputs=3)
    signed = d.maybe()
    columns = n if d.maybe() else 0
    known = d.maybe(0.75)
    if known:
        w = d.c(d.rng.integers(-127 if signed else 0, 128, (k, n)), BYTES[signed])
        w_zero, w_scale = zero(d, signed, columns), d.c(d.rng.uniform(0.01, 0.1, columns or None))
    else:
        w, w_scale, w_zero = d.n("DynamicQuantizeLinear", d.x(*(shape[:-2] if d.maybe() else ()), k, n), outputs=3)
    zeros = [x_zero, w_zero] if d.maybe(0.9) else [x_zero] if d.maybe() else []
    if zeros and d.near(0.3):
        zeros[0] = zero(d, False, shape[-2])  # one for each row
    sums = d.n("MatMulInteger", x, w, *zeros)
    if d.maybe(0.15):
        d.give(d.n("Add", sums, d.c(3, np.int32)))
        return
    y = d.n("Cast", sums, to=1)
    ratio = d.n("Mul", *d.order(x_scale, w_scale)) if d.maybe(0.8) else d.one(x_scale, w_scale)
    y = d.n("Mul", *d.order(y, ratio))
    if d.maybe():
        addend = d.r(n) if not d.near() else d.x(*shape[:-1], n)
        y = d.n("Add", *d.order(y, addend))
    d.give(y if d.maybe() else d.n("Relu", y))


@pattern("quantized_resizes")
def resized_between(d: Draft) -> None:
    d.opset = d.one(13, 17, 19)
    rank = d.one(3, 4, 4, 5)
    shape = d.shape(rank)
    by = steps(d)
    x = d.x(*shape) if d.near(0.1) else dequantised(d, d.x(*shape), by)
    modes = ["half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners"] + ["tf_crop_and_resize"] * d.near(0.1)
    attributes: dict[str, Any] = {"coordinate_transformation_mode": d.one(*modes)}
    if d.near(0.1):
        attributes["exclude_outside"] = 1
    factors = [1.0, d.one(2.0, 0.5) if d.near(0.1) else 1.0, *[d.one(1.0, 2.0, 2.0, 4.0, 0.5) for _ in shape[2:]]]
    roi = d.c([0.0] * rank + [1.0] * rank)
    if d.maybe(0.3):
        given = [roi, "", d.ints(*[max(int(n * f), 1) for n, f in zip(shape, factors, strict=True)])]
    else:
        given = [roi, d.c(factors)]
    y = d.n("Resize", x, *given, mode="cubic" if d.near(0.1) else "linear", **attributes)
    if d.maybe(0.3):
        y = d.n("Relu", y) if d.maybe() else d.clip(y, -1.0, 2.0)
    if d.near(0.1):
        d.give(y)
    else:
        quantised(d, y)


@pattern("quantized_pools")
def pool_between(d: Draft) -> None:
    d.opset = d.one(13, 17, 21)
    rank = d.one(3, 4, 4, 5)
    shape = d.shape(rank)
    by = steps(d)
    kind = d.one("AveragePool", "MaxPool", "GlobalAveragePool", "ReduceMean")
    kernel = [d.one(1, 2, 3) if n > 2 else 1 for n in shape[2:]]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": [d.one(1, 2) for _ in kernel]}
    if d.maybe():
        attributes["pads"] = [k // 2 for k in kernel] * 2
    if kind == "MaxPool":
        q = d.n("MaxPool", d.n("QuantizeLinear", d.x(*shape), *by), **attributes)
        d.give(d.n("DequantizeLinear", q, *by) if d.maybe() else q)
        return
    x = dequantised(d, d.x(*shape), by)
    if kind == "AveragePool":
        y = d.n(kind, x, **attributes, count_include_pad=d.one(0, 1))
    elif kind == "ReduceMean":
        y = d.reduce("ReduceMean", x, list(range(2, rank)) if not d.near() else [d.pick.randrange(rank)], d.one(0, 1))
    else:
        y = d.n(kind, x)
    quantised(d, y)
