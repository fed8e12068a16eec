"""Operators that make tensors from sizes alone. Constant has no class: the importer makes it a constant of the graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .._kernels import function
from ..errors import InputError, ShapeError
from ..operator import ANY_RANK, EXACT, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec, check_rank, check_size
from .common import FLOAT32, integers, required, scalar
from .copies import movable


@dataclass(frozen=True)
class ConstantOfShape(Operator):
    """ONNX ConstantOfShape (9 to 25): one value everywhere, float32 zero by default."""

    value: Any = 0.0
    dtype: np.dtype = FLOAT32

    op_type: ClassVar[str] = "ConstantOfShape"
    tolerance: ClassVar[str] = EXACT
    light: ClassVar[int] = ANY_RANK
    settings: ClassVar[bool] = True

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> ConstantOfShape:
        value = node.attribute("value")
        return cls() if value is None else cls(scalar(value, node.op_type, "value").item(), value.dtype)

    def _shape(self, shape: Any) -> tuple[int, ...]:
        result = integers(shape, self.op_type, "input")
        check_rank(len(result), "input")
        check_size(result, self.dtype)
        if any(d < 0 for d in result):
            raise ShapeError("not a shape", operator=self.op_type, tensor="input", expected="extents >= 0", received=result)
        return result

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        shape = required(inputs, 0, self.op_type)
        if shape.value is not None:
            return [TensorSpec(self.dtype, self._shape(shape.value))]
        rank = shape.shape[0] if shape.shape else None
        return [TensorSpec(self.dtype, (None,) * rank if isinstance(rank, int) else None)]

    def reference(self, *inputs: Any) -> list[Any]:
        return [np.full(self._shape(inputs[0]), self.value, self.dtype)]

    def lower(self, ctx: Lowering) -> bool:
        if not movable(ctx.outputs[0]):
            return False
        ctx.call("fill", (), (ctx.out_plain(),), value=self.value)
        return True


COUNTED = frozenset(np.dtype(t) for t in ("float32", "float64", "int16", "int32", "int64"))
"""Types that ranges are compiled for."""


KNOWN = 1 << 20
"""Elements of a range up to which it is computed while planning; a longer one is at each run."""


@dataclass(frozen=True)
class Range(Operator):
    """ONNX Range (11, 27): start, start + delta, ... before limit."""

    op_type: ClassVar[str] = "Range"
    tolerance: ClassVar[str] = EXACT
    light: ClassVar[int] = ANY_RANK
    settings: ClassVar[bool] = True

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        specs = [required(inputs, i, self.op_type) for i in range(3)]
        if all(s.value is not None for s in specs):
            values = [s.value for s in specs]
            start, _, count = self._counted(values)
            if count <= KNOWN:
                return [TensorSpec.of(self.reference(*values)[0])]
            return [TensorSpec(start.dtype, (count,))]
        return [TensorSpec(specs[0].dtype, (None,))]

    def _counted(self, inputs: Sequence[Any]) -> tuple[Any, Any, int]:
        """Start, step and number of steps."""
        start, limit, delta = (scalar(v, self.op_type, t) for v, t in zip(inputs, ("start", "limit", "delta"), strict=True))
        if delta == 0:
            raise InputError(
                "a step of zero", operator=self.op_type, tensor="delta", expected="a step other than 0", received=delta
            )
        if not all(np.isfinite(v) for v in (start, limit, delta)):
            raise InputError(
                "a range without an end",
                operator=self.op_type,
                tensor="limit",
                expected="finite numbers",
                received=(start, limit, delta),
            )
        count = max(math.ceil((limit.item() - start.item()) / delta.item()), 0)
        check_size((count,), start.dtype)
        return start, delta, count

    def reference(self, *inputs: Any) -> list[Any]:
        start, delta, count = self._counted(inputs)
        dtype = start.dtype
        return [(start + np.arange(count, dtype=dtype) * delta).astype(dtype)]

    def immediate(self, *inputs: Any) -> list[Any] | None:
        start, delta, count = self._counted(inputs)
        if start.dtype not in COUNTED or delta.dtype != start.dtype:
            return None
        return [function("progression")(start, delta, count)]
