"""Means of quantised numbers: over windows, and over all spatial axes.

Sums of integers are exact; times the quotient of the scales, divided by the number of taps, each rounded to float32, they are
means in steps of the result.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError
from ..operator import SAME, Giving, Lowering, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import Specs, required
from .pool import AveragePool, GlobalAveragePool

UINT8 = np.dtype(np.uint8)
FLOAT64 = np.dtype(np.float64)

MOST = (1 << 31) // 255
"""Numbers of a mean whose sum is known to fit 32 bits: what kernels take."""


@dataclass(frozen=True)
class _QuantizedMean(Operator):
    """``y = clamp(rint(float32(sum of (x - x_zero)) * (x_scale / scale) / count) + zero)`` of uint8; padding counts as 0.

    Attributes
    ----------
    x_scale, scale : float
        Of x and y; float32 numbers.
    x_zero, zero : int
    """

    x_scale: float
    x_zero: int
    scale: float
    zero: int

    gives: ClassVar[Giving] = SAME

    @property
    def ratio(self) -> float:
        """What a step of x is in steps of y."""
        return float(np.float32(self.x_scale) / np.float32(self.scale))

    def _like(self, inputs: Specs) -> list[TensorSpec]:
        """The input as what pools of floats take."""
        x = required(inputs, 0, self.op_type)
        if x.dtype != UINT8:
            raise InputError("has the wrong dtype", operator=self.op_type, tensor="x", expected=UINT8, received=x.dtype)
        return [TensorSpec(FLOAT64, x.shape)]

    def _quantised(self, total: np.ndarray, count: Any) -> np.ndarray:
        with np.errstate(all="ignore"):
            steps = total.astype(np.float32) * np.float32(self.ratio) / np.maximum(count, 1).astype(np.float32)
            steps = np.rint(steps).astype(np.float64)
        return np.asarray(np.clip(steps + self.zero, 0, 255).astype(np.uint8))

    def _numbers(self) -> dict[str, Any]:
        return {"ratio": self.ratio, "x_zero": self.x_zero, "y_zero": self.zero}


@dataclass(frozen=True)
class QuantizedAveragePool(_QuantizedMean):
    """AveragePool of uint8.

    Attributes
    ----------
    pool : AveragePool
        Its windows.
    """

    pool: AveragePool

    op_type: ClassVar[str] = "QuantizedAveragePool"

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(UINT8, self.pool.infer(self._like(inputs))[0].shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        total, count = self.pool.counted(np.asarray(inputs[0]).astype(np.float64) - self.x_zero)
        return [self._quantised(total, count)]

    def lower(self, ctx: Lowering) -> bool:
        geometry = self.pool.geometry(ctx, UINT8)
        if geometry is None or math.prod(geometry["kernel"]) > MOST:
            return False
        geometry |= {"count_include_pad": bool(self.pool.count_include_pad), **self._numbers()}
        ctx.call("qpool", [ctx.planes(0, fill=self.x_zero)], [ctx.out_planes(0)], kind="avg", **geometry)
        return True


@dataclass(frozen=True)
class QuantizedGlobalAveragePool(_QuantizedMean):
    """GlobalAveragePool of uint8."""

    op_type: ClassVar[str] = "QuantizedGlobalAveragePool"

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(UINT8, GlobalAveragePool().infer(self._like(inputs))[0].shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x = np.asarray(inputs[0]).astype(np.int64) - self.x_zero
        total = x.sum(axis=tuple(range(2, x.ndim)), keepdims=True)
        return [self._quantised(total, math.prod(x.shape[2:]))]

    def lower(self, ctx: Lowering) -> bool:
        spec = ctx.inputs[0]
        assert spec is not None
        if not 1 <= math.prod(spec.concrete[2:]) <= MOST:
            return False
        lower_global(ctx, "avg", self.x_zero, **self._numbers())
        return True


def lower_global(ctx: Lowering, kind: str, fill: int, **numbers: Any) -> None:
    """A pool of uint8 over all spatial axes, in the layout in which its input is at hand."""
    groups = ctx.grouping(0)
    if groups is None:
        ctx.call("qglobal_pool", [ctx.plain(0)], [ctx.out_plain()], kind=kind, **numbers)
    else:
        ctx.call("qglobal_pool", [ctx.planes(0, groups=groups, fill=fill)], [ctx.out_any(groups=groups)], kind=kind, **numbers)
