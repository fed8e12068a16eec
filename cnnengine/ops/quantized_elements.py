"""Operators on the elements of two quantised tensors, that rewrites make: their sums and products."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import InputError
from ..operator import EXACT, Lowering, Operand, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import Specs, broadcast_shape, required, spec_at
from .copies import MAX_AXES, copy, strides_of

UINT8 = np.dtype(np.uint8)
MAX_REACH = 2.0**30
"""Steps of the result that no sum or product may leave before it is clamped, or no kernel computes it."""


@dataclass(frozen=True)
class _Pair(Operator):
    """What sums and products of two uint8 tensors share: the numbers are ``(q - zero) * scale`` of each.

    Attributes
    ----------
    a_scale, b_scale, scale : float
        Of the operands and of the result; float32 numbers.
    a_zero, b_zero, zero : int
    low, high : int
        Bounds of the result less its zero point.
    """

    a_scale: float
    a_zero: int
    b_scale: float
    b_zero: int
    scale: float
    zero: int
    low: int
    high: int

    tolerance: ClassVar[str] = EXACT
    kernel: ClassVar[str]

    def outline(self, inputs: Specs) -> list[TensorSpec]:
        shapes = [None if spec is None else spec.shape for spec in (spec_at(inputs, 0), spec_at(inputs, 1))]
        known = [len(shape) for shape in shapes if shape is not None]
        return [TensorSpec(UINT8, (None,) * max(known) if len(known) == 2 else None)]

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        a, b = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        for name, spec in (("a", a), ("b", b)):
            if spec.dtype != UINT8:
                raise InputError("has the wrong dtype", operator=self.op_type, tensor=name, expected="uint8", received=spec.dtype)
        if not a.is_concrete or not b.is_concrete:
            return self.outline(inputs)
        return [TensorSpec(UINT8, broadcast_shape(a.concrete, b.concrete, self.op_type))]

    def steps(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The result in steps, before it is rounded: float32 of the operands less their zero points."""
        raise NotImplementedError

    def numbers(self, swapped: bool) -> dict[str, Any] | None:
        """Parameters of the kernel that tell ratios, the second operand being the first one; None where none serve."""
        raise NotImplementedError

    def reference(self, *inputs: Any) -> list[Any]:
        a, b = (np.asarray(x).astype(np.float32) - np.float32(z) for x, z in zip(inputs, (self.a_zero, self.b_zero), strict=True))
        with np.errstate(all="ignore"):
            y = np.rint(self.steps(a, b)).astype(np.float64)
        y = np.clip(np.where(np.isnan(y), 0.0, y), self.low, self.high) + self.zero
        return [y.astype(np.uint8)]

    def lower(self, ctx: Lowering) -> bool:
        a, b, out = ctx.inputs[0], ctx.inputs[1], ctx.outputs[0].concrete
        if a is None or b is None or not all(out) or sum(n != 1 for n in out) > MAX_AXES:
            return False
        swapped = a.concrete != out
        numbers = self.numbers(swapped)
        if numbers is None:
            return False
        first, second = (1, 0) if swapped else (0, 1)
        shapes = [a.concrete, b.concrete]
        x, y = shapes[first], shapes[second]
        zeros = (self.b_zero, self.a_zero) if swapped else (self.a_zero, self.b_zero)
        numbers |= {"a_zero": zeros[0], "b_zero": zeros[1], "zero": self.zero}
        numbers |= {"low": self.low + self.zero, "high": self.high + self.zero}
        operands: list[Operand]
        groups = ctx.grouping(first)
        if groups is None and x == y:
            groups = ctx.grouping(second)
        if x == out and groups is not None and y in (out, (*out[:2], *(1,) * (len(out) - 2))):
            operands = [ctx.planes(index, groups=groups, fill=0) for index in (first, second)]
            ctx.call(self.kernel, operands, (ctx.out_planes(groups=groups),), **numbers)
            return True
        operands = []
        for index, shape, broadcasts in ((first, x, False), (second, y, True)):
            operand = ctx.plain(index)
            if shape != out and not (broadcasts and _by_rows(shape, out)):
                whole = ctx.temp(out, UINT8)
                long = (1,) * (len(out) - len(shape)) + shape
                strides = [0 if n == 1 else s for n, s in zip(long, strides_of(long), strict=True)]
                copy(ctx, operand, whole, out, strides, strides_of(out))
                operand = whole
            operands.append(operand)
        ctx.call(self.kernel, operands, (ctx.out_plain(),), **numbers)
        return True


def _by_rows(short: tuple[int, ...], out: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape has one number for each of some rows, which are those of all axes from one on."""
    long = (1,) * (len(out) - len(short)) + short
    axes = [axis for axis, n in enumerate(long) if n != 1]
    return not axes or long[axes[0] : axes[-1] + 1] == out[axes[0] : axes[-1] + 1]


@dataclass(frozen=True)
class QuantizedAdd(_Pair):
    """``y = clamp(rint((a - a_zero) * (a_scale / scale) + (b - b_zero) * (b_scale / scale)), low, high) + zero``.

    A difference has a negative `b_scale`. Ratios, products and the sum are rounded to float32, halves go to the even integer.
    """

    op_type: ClassVar[str] = "QuantizedAdd"
    kernel: ClassVar[str] = "qadd"

    @property
    def ratios(self) -> tuple[np.float32, np.float32]:
        """What a step of each operand is in steps of the result."""
        scale = np.float32(self.scale)
        with np.errstate(all="ignore"):
            return np.float32(self.a_scale) / scale, np.float32(self.b_scale) / scale

    def steps(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        first, second = self.ratios
        return np.asarray(a * first + b * second)

    def numbers(self, swapped: bool) -> dict[str, Any] | None:
        first, second = (float(r) for r in self.ratios)
        if not 255 * (abs(first) + abs(second)) <= MAX_REACH:
            return None
        return {"ratios": (second, first) if swapped else (first, second)}


@dataclass(frozen=True)
class QuantizedMul(_Pair):
    """``y = clamp(rint((a - a_zero) * (b - b_zero) * (a_scale * b_scale / scale)), low, high) + zero``.

    The ratio, step by step, and the product are rounded to float32, halves go to the even integer.
    """

    op_type: ClassVar[str] = "QuantizedMul"
    kernel: ClassVar[str] = "qmul"

    @property
    def ratio(self) -> np.float32:
        """What a step of the exact product is in steps of the result."""
        with np.errstate(all="ignore"):
            return np.float32(self.a_scale) * np.float32(self.b_scale) / np.float32(self.scale)

    def steps(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a * b * self.ratio)

    def numbers(self, swapped: bool) -> dict[str, Any] | None:
        ratio = float(self.ratio)
        return {"ratio": ratio} if 255 * 255 * abs(ratio) <= MAX_REACH else None
