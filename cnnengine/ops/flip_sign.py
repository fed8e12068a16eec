"""FlipSign: 8-bit integers with their highest bit flipped, by which the numbers of uint8 are those of int8 plus 128."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import InputError
from ..operator import EXACT, Lowering, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import Specs, required, spec_at

UINT8, INT8 = np.dtype(np.uint8), np.dtype(np.int8)


@dataclass(frozen=True)
class FlipSign(Operator):
    """int8 to uint8 and back, 128 apart: kernels of quantised numbers take uint8 alone."""

    op_type: ClassVar[str] = "FlipSign"
    tolerance: ClassVar[str] = EXACT
    elementwise: ClassVar[bool] = True

    def outline(self, inputs: Specs) -> list[TensorSpec]:
        x = spec_at(inputs, 0)
        known = x is not None and x.dtype in (UINT8, INT8)
        return [TensorSpec(_other(x.dtype) if x is not None and known else np.dtype("V"), None if x is None else x.shape)]

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        if x.dtype not in (UINT8, INT8):
            raise InputError("has the wrong dtype", operator=self.op_type, tensor="x", expected="uint8 or int8", received=x.dtype)
        return [TensorSpec(_other(x.dtype), x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x = np.asarray(inputs[0])
        return [(x.view(UINT8) ^ np.uint8(128)).view(_other(x.dtype))]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or x.dtype not in (UINT8, INT8) or not all(x.concrete):
            return False
        groups = ctx.grouping(0) if x.dtype == UINT8 else None
        source = ctx.plain(0) if groups is None else ctx.planes(0, groups=groups, fill=0)
        ctx.call("flip_sign", (source,), (ctx.out_plain() if x.dtype == UINT8 else ctx.out_any(),))
        return True


def _other(dtype: np.dtype) -> np.dtype:
    return INT8 if dtype == UINT8 else UINT8
