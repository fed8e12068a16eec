"""QuantizedTable: any function of single elements from 8 bits to 8 bits, told by its 256 values."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ShapeError
from ..operator import EXACT, SAME, Giving, Lowering, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import Specs, required

UINT8 = np.dtype(np.uint8)
SIZE = 256


@dataclass(frozen=True)
class QuantizedTable(Operator):
    """``table[x]``: inputs are x of uint8 and the table, (256,) of uint8. Made by `rewrites.quantized_tables`."""

    op_type: ClassVar[str] = "QuantizedTable"
    domain: ClassVar[str] = "cnnengine"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False
    gives: ClassVar[Giving] = SAME
    elementwise: ClassVar[bool] = True
    settings: ClassVar[bool] = True

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, table = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        for name, spec in (("x", x), ("table", table)):
            if spec.dtype != UINT8:
                raise InputError("has the wrong dtype", operator=self.op_type, tensor=name, expected=UINT8, received=spec.dtype)
        if table.concrete != (SIZE,):
            raise ShapeError("has the wrong shape", operator=self.op_type, tensor="table", expected=(SIZE,), received=table.shape)
        return [TensorSpec(UINT8, x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, table = inputs
        return [np.asarray(table[x])]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or not all(x.concrete):
            return False
        groups = ctx.grouping(0)
        if groups is None:
            source, target = ctx.plain(0), ctx.out_any()
        else:
            source, target = ctx.planes(0, groups=groups, fill=0), ctx.out_any(groups=groups)
        ctx.call("qtable", (source, ctx.plain(1)), (target,))
        return True
