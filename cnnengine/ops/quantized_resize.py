"""QuantizedResize: linear Resize of uint8, with what comes before and after it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import InputError
from ..operator import EXACT, SAME, Giving, Lowering, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import Specs, required
from .resize import Resize

UINT8, FLOAT32 = np.dtype(np.uint8), np.dtype(np.float32)
MOST_RATIO = 2.0**22
"""Steps of the result that a step of the input may be: 255 of them are integers of 32 bits."""


@dataclass(frozen=True)
class QuantizedResize(Operator):
    """``y = clamp(rint((mixture - x_zero) * (x_scale / scale)), low, high) + zero`` of uint8.

    The mixture of the integers is made along one axis after the other, the first one first: ``a + (b - a) * weight``. Each
    operation is rounded to float32, halves go to the even integer: results are the same bits on every machine.

    Inputs are those of the Resize.

    Attributes
    ----------
    resize : Resize
        One that `mixes_two`.
    x_scale, scale : float
        Of x and y; float32 numbers.
    x_zero, zero : int
    low, high : int
        Bounds of the result less its zero point.
    """

    resize: Resize
    x_scale: float
    x_zero: int
    scale: float
    zero: int
    low: int
    high: int

    op_type: ClassVar[str] = "QuantizedResize"
    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = SAME
    settings: ClassVar[bool] = True

    @property
    def ratio(self) -> float:
        """What a step of x is in steps of y."""
        return float(np.float32(self.x_scale) / np.float32(self.scale))

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        if x.dtype != UINT8:
            raise InputError("has the wrong dtype", operator=self.op_type, tensor="x", expected=UINT8, received=x.dtype)
        return self.resize.infer(inputs)

    def reference(self, *inputs: Any) -> list[Any]:
        x = np.asarray(inputs[0])
        _, scales, sizes = self.resize.values_of(inputs)
        out, factors = self.resize.resolve(x.shape, scales, sizes)
        if 0 in out:
            return [np.empty(out, UINT8)]
        y = x.astype(np.float32)
        for axis, (n, m, scale) in enumerate(zip(x.shape, out, factors, strict=True)):
            first, second, weight = self.resize.mixture(n, m, scale, (0.0, 1.0))
            a, b = y.take(first, axis), y.take(second, axis)
            y = a + (b - a) * weight.reshape([-1 if at == axis else 1 for at in range(x.ndim)])
        steps = np.rint((y - np.float32(self.x_zero)) * np.float32(self.ratio))
        return [(np.clip(steps, self.low, self.high).astype(np.int32) + self.zero).astype(np.uint8)]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        assert x is not None
        if not 3 <= len(x.concrete) <= 5 or 0 in x.concrete:
            return False
        axes = self.resize.axes_of(ctx)
        if axes is None or any(n != m or scale != 1 for n, m, scale, _ in axes[:2]):
            return False
        tables = tuple(self.resize.mixture(*axis) for axis in axes[2:])
        store = (self.x_zero, self.ratio, self.zero, self.low + self.zero, self.high + self.zero)
        ctx.call("resize", (ctx.planes(0, fill=self.x_zero),), (ctx.out_planes(),), tables=tables, store=store)
        return True
