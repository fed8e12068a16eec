"""Running sums and products: CumSum, CumProd."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError
from ..operator import ANY_RANK, Lowering, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import Specs, normal_axis, required, scalar
from .copies import movable


@dataclass(frozen=True)
class CumSum(Operator):
    """ONNX CumSum (11, 14): running sums along an axis, with or without the element itself, from either end."""

    exclusive: int = 0
    reverse: int = 0

    op_type: ClassVar[str] = "CumSum"
    elements: ClassVar[Sequence[int]] = (0,)
    light: ClassVar[int] = ANY_RANK

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, axis = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        if axis.value is not None and x.shape is not None:
            self._axis(axis.value, len(x.shape))
        return [TensorSpec(x.dtype, x.shape)]

    def _axis(self, axis: Any, rank: int) -> int:
        value = scalar(axis, self.op_type, "axis")
        if value.dtype.kind not in "iu":
            raise InputError(
                "the axis must be an integer",
                operator=self.op_type,
                tensor="axis",
                expected="int32 or int64",
                received=value.dtype,
            )
        return normal_axis(int(value), rank, self.op_type)

    def reference(self, *inputs: Any) -> list[Any]:
        x = inputs[0]
        axis = self._axis(inputs[1], x.ndim)
        y = np.flip(x, axis) if self.reverse else x
        if self.exclusive:
            body = np.cumsum(y, axis=axis, dtype=x.dtype)
            y = np.concatenate(
                [np.zeros_like(x.take([0], axis)) if x.shape[axis] else x, body.take(range(max(x.shape[axis] - 1, 0)), axis)],
                axis,
            )
        else:
            y = np.cumsum(y, axis=axis, dtype=x.dtype)
        return [np.flip(y, axis) if self.reverse else y]

    def lower(self, ctx: Lowering) -> bool:
        x, axis = ctx.inputs[0], ctx.const(1)
        if x is None or axis is None or not movable(x) or x.dtype not in (np.float32, np.float64, np.int32, np.int64):
            return False
        at = self._axis(axis, len(x.concrete))
        if math.prod(x.concrete):
            given = {"axis": at, "exclusive": bool(self.exclusive), "reverse": bool(self.reverse)}
            ctx.call("running", (ctx.plain(0),), (ctx.out_plain(),), op="sum", **given)
        else:
            ctx.out_plain()
        return True


@dataclass(frozen=True)
class CumProd(CumSum):
    """ONNX CumProd (26): running products along an axis, with or without the element itself, from either end."""

    op_type: ClassVar[str] = "CumProd"
    elements: ClassVar[Sequence[int]] = ()
    light: ClassVar[int] = -1

    def reference(self, *inputs: Any) -> list[Any]:
        x = inputs[0]
        axis = self._axis(inputs[1], x.ndim)
        y = np.flip(x, axis) if self.reverse else x
        if self.exclusive and x.shape[axis]:
            y = np.concatenate([np.ones_like(y.take([0], axis)), y.take(range(x.shape[axis] - 1), axis)], axis)
        y = np.cumprod(y, axis=axis, dtype=x.dtype)
        return [np.flip(y, axis) if self.reverse else y]

    def lower(self, ctx: Lowering) -> bool:
        x, axis = ctx.inputs[0], ctx.const(1)
        kinds = (np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64)
        if x is None or axis is None or not movable(x) or x.dtype not in kinds:
            return False
        at = self._axis(axis, len(x.concrete))
        if math.prod(x.concrete):
            given = {"axis": at, "exclusive": bool(self.exclusive), "reverse": bool(self.reverse)}
            ctx.call("running", (ctx.plain(0),), (ctx.out_plain(),), op="product", **given)
        else:
            ctx.out_plain()
        return True
