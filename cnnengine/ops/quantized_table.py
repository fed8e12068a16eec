"""QuantizedTable: any function of single elements from 8 bits to 8 bits, told by its 256 values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .._kernels import INDEX_CHUNK
from ..errors import InputError, ShapeError
from ..operator import EXACT, Gives, Giving, Lowering, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import INT64, Specs, required
from .integer_conv import EIGHT_BITS

SIZE = 256


@dataclass(frozen=True)
class QuantizedTable(Operator):
    """``table[x]``, where int8 counts as the uint8 of its bits.

    Inputs are x, uint8 or int8, and the table, (256,) of uint8 or int8. Made by `rewrites.quantized_tables`.
    """

    op_type: ClassVar[str] = "QuantizedTable"
    domain: ClassVar[str] = "cnnengine"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False
    gives: ClassVar[Giving] = (Gives(1, (0,)),)
    elements: ClassVar[Sequence[int]] = ()
    elementwise: ClassVar[bool] = True
    settings: ClassVar[bool] = True

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, table = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        for name, spec in (("x", x), ("table", table)):
            if spec.dtype not in EIGHT_BITS:
                raise InputError(
                    "has the wrong dtype", operator=self.op_type, tensor=name, expected="uint8 or int8", received=spec.dtype
                )
        if table.concrete != (SIZE,):
            raise ShapeError("has the wrong shape", operator=self.op_type, tensor="table", expected=(SIZE,), received=table.shape)
        return [TensorSpec(table.dtype, x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, table = inputs
        return [np.asarray(table[np.asarray(x).view(np.uint8)])]

    def lower(self, ctx: Lowering) -> bool:
        x, table = ctx.inputs[0], ctx.const(1)
        if x is None or table is None or not all(x.concrete):
            return False
        values = ctx.pack(("table", ctx.name(1)), lambda _: table)
        offsets = ctx.temp(x.concrete, INT64)
        if x.dtype == np.uint8:
            ctx.call("cast", [ctx.plain(0)], [offsets])
        else:  # places counted from the end where they are negative
            places = ctx.temp(x.concrete, np.int32)
            ctx.call("cast", [ctx.plain(0)], [places])
            chunks = -(-int(np.prod(x.concrete)) // INDEX_CHUNK)
            ctx.call("index_offsets", [places], [offsets, ctx.faults(chunks)], depth=1, extents=(SIZE,), strides=(1,))
        ctx.call("take", [values, offsets], [ctx.out_plain()])
        return True
