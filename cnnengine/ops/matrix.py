"""Operators of matrices that are no products: Trilu, EyeLike, Det."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ShapeError
from ..operator import EXACT, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import Specs, dtype_of, kind_of, required, scalar, spec_at
from .copies import fill, movable


@dataclass(frozen=True)
class Trilu(Operator):
    """ONNX Trilu (14): the upper or lower triangle of the last two axes, zeros elsewhere."""

    upper: int = 1

    op_type: ClassVar[str] = "Trilu"
    tolerance: ClassVar[str] = EXACT
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        if x.shape is not None and len(x.shape) < 2:
            raise ShapeError("the input must hold matrices", operator=self.op_type, expected="rank >= 2", received=x.shape)
        return [TensorSpec(x.dtype, x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x = inputs[0]
        k = int(scalar(inputs[1], self.op_type, "k")) if len(inputs) > 1 and inputs[1] is not None else 0
        rows, columns = np.ogrid[: x.shape[-2], : x.shape[-1]]
        keep = columns - rows >= k if self.upper else columns - rows <= k
        return [np.where(keep, x, np.zeros((), x.dtype))]

    def lower(self, ctx: Lowering) -> bool:
        x, k = ctx.inputs[0], spec_at(ctx.inputs, 1)
        if x is None or not movable(x) or (k is not None and (k.dtype != np.int64 or math.prod(k.concrete) != 1)):
            return False
        if not math.prod(x.concrete):
            ctx.out_plain()
            return True
        ctx.call("triangle", (ctx.plain(0), None if k is None else ctx.plain(1)), (ctx.out_plain(),), upper=bool(self.upper))
        return True


@dataclass(frozen=True)
class EyeLike(Operator):
    """ONNX EyeLike (9, 22): ones on the k-th diagonal of a matrix of the input's shape, zeros elsewhere.

    Attributes
    ----------
    k : int
    dtype : numpy.dtype, optional
        The input's where None.
    """

    k: int = 0
    dtype: np.dtype | None = None

    op_type: ClassVar[str] = "EyeLike"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> EyeLike:
        code = node.attribute("dtype")
        return cls(int(node.attribute("k", 0)), None if code is None else dtype_of(code, operator=node.op_type, node=node.name))

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        if x.shape is not None and len(x.shape) != 2:
            raise ShapeError("must be a matrix", operator=self.op_type, tensor="input", expected="two axes", received=x.shape)
        return [TensorSpec(self.dtype or x.dtype, x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x = inputs[0]
        rows, columns = x.shape
        k = max(-rows, min(self.k, columns))  # a diagonal beyond the matrix has no elements
        return [np.eye(rows, columns, k).astype(self.dtype or x.dtype)]

    def lower(self, ctx: Lowering) -> bool:
        out = ctx.outputs[0]
        if not movable(out):
            return False
        (rows, columns), target = out.concrete, ctx.out_plain()
        ctx.call("fill", (), (target,), value=0)
        count = min(rows, columns - self.k) if self.k >= 0 else min(rows + self.k, columns)
        if count > 0:
            fill(ctx, target, 1, (count,), (columns + 1,), self.k if self.k >= 0 else -self.k * columns)
        return True


@dataclass(frozen=True)
class Det(Operator):
    """ONNX Det (11, 22): determinants of the matrices of the last two axes."""

    op_type: ClassVar[str] = "Det"

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        if kind_of(x.dtype) != "f":
            raise InputError("not a matrix of floats", operator=self.op_type, tensor="X", expected="float", received=x.dtype)
        if x.shape is None:
            return [TensorSpec(x.dtype, None)]
        if len(x.shape) < 2 or (all(isinstance(n, int) for n in x.shape[-2:]) and x.shape[-1] != x.shape[-2]):
            raise ShapeError("must be square", operator=self.op_type, tensor="X", expected="(..., M, M)", received=x.shape)
        return [TensorSpec(x.dtype, x.shape[:-2])]

    def reference(self, *inputs: Any) -> list[Any]:
        x = inputs[0]
        with np.errstate(all="ignore"):
            return [np.asarray(np.linalg.det(x.astype(np.float64))).astype(x.dtype)]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or x.dtype not in (np.float32, np.float64):
            return False
        ctx.call("determinant", (ctx.plain(0),), (ctx.out_plain(),))
        return True
