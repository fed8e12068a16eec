"""What operators of single elements share: activations plainly, and the kernel calls of functions of one and of two values."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..errors import InputError
from ..operator import Activation, Lowering
from ..spec import TensorSpec
from .common import FLOAT32, kind_of

_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


# ---------------------------------------------------------------- what kernels fuse, plainly


def _sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1.0) / (1.0 + e))


def _gate(x: np.ndarray, gate: np.ndarray) -> np.ndarray:
    """x * gate, where an infinite x times a gate of zero is the limit, zero."""
    return np.asarray(np.where(gate == 0, 0.0 * np.sign(x), x * gate))


def _elu(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def _softsign(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(np.isinf(x), np.sign(x), x / (1 + np.abs(x))))


def _mish(x: np.ndarray) -> np.ndarray:
    return _gate(x, np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))))


def _shrink(x: np.ndarray, lambd: float, bias: float) -> np.ndarray:
    return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, np.where(np.isnan(x), x, 0.0)))


_FUNCTIONS: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "clip": lambda x, a, b: np.minimum(np.maximum(x, a), b),
    "leaky_relu": lambda x, a, b: np.where(x < 0, a * x, x),
    "sigmoid": lambda x, a, b: _sigmoid(x),
    "tanh": lambda x, a, b: np.tanh(x),
    "silu": lambda x, a, b: _gate(x, _sigmoid(x)),
    "swish": lambda x, a, b: _gate(x, _sigmoid(a * x)),
    "hard_sigmoid": lambda x, a, b: np.clip(a * x + b, 0.0, 1.0),
    "hard_swish": lambda x, a, b: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "elu": lambda x, a, b: _elu(x, a),
    "selu": lambda x, a, b: b * _elu(x, a),
    "celu": lambda x, a, b: np.maximum(x, 0) + np.minimum(a * np.expm1(x / a), 0),
    "gelu": lambda x, a, b: _gate(x, 0.5 * _erfc(-x / math.sqrt(2.0))),
    "gelu_tanh": lambda x, a, b: _gate(x, _sigmoid(2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))),
    "mish": lambda x, a, b: _mish(x),
    "softplus": lambda x, a, b: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "softsign": lambda x, a, b: _softsign(x),
    "exp": lambda x, a, b: np.exp(x),
    "log": lambda x, a, b: np.log(x),
    "erf": lambda x, a, b: _erf(x),
    "abs": lambda x, a, b: np.abs(x),
    "neg": lambda x, a, b: np.negative(x),
    "sqrt": lambda x, a, b: np.sqrt(x),
    "reciprocal": lambda x, a, b: 1.0 / x,
    "sign": lambda x, a, b: np.sign(x),
    "floor": lambda x, a, b: np.floor(x),
    "ceil": lambda x, a, b: np.ceil(x),
    "round": lambda x, a, b: np.rint(x),
    "thresholded_relu": lambda x, a, b: np.where(x > a, x, 0.0),
    "square": lambda x, a, b: np.square(x),
    "pow": lambda x, a, b: np.power(x, np.full_like(x, a)),
    "affine": lambda x, a, b: a * x + b,
    "shrink": _shrink,
    "sin": lambda x, a, b: np.sin(x),
    "cos": lambda x, a, b: np.cos(x),
    "tan": lambda x, a, b: np.tan(x),
    "asin": lambda x, a, b: np.arcsin(x),
    "acos": lambda x, a, b: np.arccos(x),
    "atan": lambda x, a, b: np.arctan(x),
    "sinh": lambda x, a, b: np.sinh(x),
    "cosh": lambda x, a, b: np.cosh(x),
    "asinh": lambda x, a, b: np.arcsinh(x),
    "acosh": lambda x, a, b: np.arccosh(x),
    "atanh": lambda x, a, b: np.arctanh(x),
    "whole": lambda x, a, b: np.where(np.isnan(x), 0.0, np.rint(x)),
}
"""Activation -> its function of (float64 x, alpha, beta)."""


def reference_activation(x: np.ndarray, activation: Activation) -> np.ndarray:
    """An activation of floats, computed in float64 and rounded to the dtype of x."""
    with np.errstate(all="ignore"):
        y = _FUNCTIONS[activation.kind](x.astype(np.float64), activation.alpha, activation.beta)
        return np.asarray(y, dtype=x.dtype)


def activate(y: np.ndarray, activation: Activation | None) -> np.ndarray:
    """A fused activation, plainly."""
    if activation is None:
        return y
    return reference_activation(y, activation)


def check_kind(spec: TensorSpec, kinds: str, operator: str, tensor: str = "X") -> None:
    """Raise InputError unless the dtype's kind (NumPy's letter) is one of `kinds`."""
    if kind_of(spec.dtype) not in kinds:
        names = {"f": "float", "i": "signed", "u": "unsigned", "b": "bool"}
        raise InputError(
            "an input of a type that the operator does not take",
            operator=operator,
            tensor=tensor,
            expected=" or ".join(names[k] for k in kinds if k in names),
            received=str(spec.dtype),
        )


def number_of(spec: TensorSpec, rank: int) -> float | None:
    """The number that a one-element constant of float32 is, of at most this rank; None where it is not known to be one."""
    value = spec.value
    if value is None or value.size != 1 or value.dtype != FLOAT32 or value.ndim > rank:
        return None
    return float(np.asarray(value).reshape(-1)[0])


def lower_activation(ctx: Lowering, activation: Activation) -> bool:
    """The kernel call of a function of input 0 in the layout that it lies in; False unless float32."""
    spec = ctx.inputs[0]
    if spec is None or spec.dtype != FLOAT32:
        return False
    if ctx.is_planes(0):
        groups = ctx.grouping(0) or 1
        ctx.call("activation", [ctx.planes(0, groups=groups)], [ctx.out_planes(groups=groups)], activation=activation)
    else:
        ctx.call("activation", [ctx.plain(0)], [ctx.out_plain()], activation=activation)
    return True


def _fits_planes(shape: tuple[int, ...], out: tuple[int, ...]) -> bool:
    """Whether the kernel takes a plain operand of this shape with an output in planes of shape `out`."""
    if len(shape) > len(out):
        return False
    full = (1,) * (len(out) - len(shape)) + shape
    if any(s not in (1, o) for s, o in zip(full, out, strict=True)):
        return False
    return math.prod(full[2:]) == 1 or (full[1] == 1 and full[2:] == out[2:])


def lower_binary(ctx: Lowering, op: str, activation: Activation | None, b_shape: tuple[int, ...] | None = None) -> bool:
    """The kernel call of ``activation(a op b)``: in planes where an operand of the output's shape lies there.

    `b_shape` is what the second input counts as where NumPy's rule would align it elsewhere.
    """
    a, b = ctx.inputs[:2]
    if a is None or b is None or a.dtype != FLOAT32 or b.dtype != FLOAT32:
        return False
    out = ctx.outputs[0].concrete
    shapes = (a.concrete, b.concrete if b_shape is None else b_shape)
    aligned = {} if b_shape in (None, b.concrete) else {"b_shape": b_shape}
    whole = [s == out for s in shapes]
    if aligned:
        whole[1] = False  # its own layout is of another shape
    if any(w and ctx.is_planes(i) for i, w in enumerate(whole)) and all(
        w or _fits_planes(s, out) for s, w in zip(shapes, whole, strict=True)
    ):
        operands = []
        # a vector does not fit the unused lanes of groups
        groups = min(ctx.grouping(0) or 1, ctx.grouping(1) or 1) if all(whole) else 1
        for index, shape in enumerate(shapes):
            # one number per channel and image may lie in planes too (squeeze and excitation)
            vector = len(shape) == len(out) and shape[1:2] == out[1:2] and math.prod(shape[2:]) == 1
            in_planes = whole[index] or (vector and not (index and aligned) and ctx.is_planes(index))
            operands.append(ctx.planes(index, groups=groups) if in_planes else ctx.plain(index))
        ctx.call("binary", operands, [ctx.out_planes(groups=groups)], op=op, activation=activation, **aligned)
    else:
        ctx.call("binary", [ctx.plain(0), ctx.plain(1)], [ctx.out_plain()], op=op, activation=activation, **aligned)
    return True
