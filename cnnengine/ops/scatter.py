"""Operators that write elements at indices: the Scatter family and OneHot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError
from ..operator import ANY_RANK, EXACT, ROUNDING, Lowering, NodeRecord, Operand, Operator
from ..records import dataclass
from ..spec import TensorSpec, check_size
from . import immediate
from .common import Specs, normal_axis, required, scalar
from .copies import NUMBERS, copy, movable, offsets, strides_of
from .gather import element_axes, element_index, element_offsets, wrapped

REDUCTIONS = ("none", "add", "mul", "max", "min")


def _reduction(node: NodeRecord) -> str:
    kind = node.attribute("reduction", "none")
    if kind not in REDUCTIONS:
        raise ModelError("unknown reduction", node=node.name, operator=node.op_type, expected=REDUCTIONS, received=kind)
    return str(kind)


def _store(out: np.ndarray, index: tuple[Any, ...], updates: np.ndarray, reduction: str) -> None:
    if reduction == "none":
        out[index] = updates
    else:
        {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[reduction].at(out, index, updates)


def _put(ctx: Lowering, found: Operand, shape: tuple[int, ...], inner: int, reduction: str) -> None:
    """A copy of input 0, and input 2 put into it."""
    y = ctx.out_plain()
    copy(ctx, ctx.plain(0), y, (math.prod(shape),), (1,), (1,))
    ctx.call("put", (found, ctx.plain(2)), (y,), inner=inner, reduction=reduction)


def _puttable(ctx: Lowering, reduction: str) -> bool:
    x, u = ctx.inputs[0], ctx.inputs[2]
    if x is None or u is None or not movable(x) or u.dtype != x.dtype or 0 in x.concrete or 0 in u.concrete:
        return False
    return reduction == "none" or x.dtype in (np.float32, np.float64, np.int32, np.int64)


@dataclass(frozen=True)
class ScatterElements(Operator):
    """ONNX ScatterElements (11 to 18): the inverse of GatherElements."""

    axis: int = 0
    reduction: str = "none"

    op_type: ClassVar[str] = "ScatterElements"
    tolerance: ClassVar[str] = ROUNDING
    elements: ClassVar[Sequence[int]] = (0, 2)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> ScatterElements:
        return cls(int(node.attribute("axis", 0)), _reduction(node))

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, i, u = (required(inputs, k, self.op_type) for k in range(3))
        if i.is_concrete and u.is_concrete and i.concrete != u.concrete:
            raise ShapeError("indices and updates differ in shape", operator=self.op_type, expected=i.shape, received=u.shape)
        if x.is_concrete and i.is_concrete:
            element_axes(x.concrete, i.concrete, self.axis, self.op_type)
        return [TensorSpec(x.dtype, x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, indices, updates = inputs
        if updates.shape != indices.shape:
            raise ShapeError(
                "indices and updates differ in shape", operator=self.op_type, expected=indices.shape, received=updates.shape
            )
        out = np.array(x)
        _store(out, element_index(x.shape, indices, self.axis, self.op_type), updates, self.reduction)
        return [out]

    def lower(self, ctx: Lowering) -> bool:
        x, i = ctx.inputs[0], ctx.inputs[1]
        if x is None or i is None or not _puttable(ctx, self.reduction):
            return False
        found = element_offsets(ctx, x.concrete, i.concrete, self.axis, self.op_type)
        if found is None:
            return False
        _put(ctx, found, x.concrete, 1, self.reduction)
        return True


@dataclass(frozen=True)
class Scatter(ScatterElements):
    """ONNX Scatter (9): ScatterElements by its old name."""

    op_type: ClassVar[str] = "Scatter"


@dataclass(frozen=True)
class ScatterND(Operator):
    """ONNX ScatterND (11 to 18): writes (or adds, multiplies ...) slices at the coordinates in `indices`."""

    reduction: str = "none"

    op_type: ClassVar[str] = "ScatterND"
    tolerance: ClassVar[str] = ROUNDING
    elements: ClassVar[Sequence[int]] = (0, 2)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> ScatterND:
        return cls(_reduction(node))

    def _check(self, x: tuple[int, ...], i: tuple[int, ...], u: tuple[int, ...]) -> None:
        if not i or not 1 <= i[-1] <= len(x):
            raise ShapeError("the coordinates have the wrong length", operator=self.op_type, expected=f"1..{len(x)}", received=i)
        if u != (*i[:-1], *x[i[-1] :]):
            raise ShapeError(
                "the updates have the wrong shape", operator=self.op_type, expected=(*i[:-1], *x[i[-1] :]), received=u
            )

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, i, u = (required(inputs, k, self.op_type) for k in range(3))
        if x.is_concrete and i.is_concrete and u.is_concrete:
            self._check(x.concrete, i.concrete, u.concrete)
        return [TensorSpec(x.dtype, x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, indices, updates = inputs
        self._check(x.shape, indices.shape, updates.shape)
        out = np.array(x)
        coordinates = tuple(wrapped(indices[..., k], x.shape[k], self.op_type) for k in range(indices.shape[-1]))
        _store(out, coordinates, updates, self.reduction)
        return [out]

    def lower(self, ctx: Lowering) -> bool:
        x, i = ctx.inputs[0], ctx.inputs[1]
        if x is None or i is None or not _puttable(ctx, self.reduction):
            return False
        depth, strides = i.concrete[-1], strides_of(x.concrete)
        found = offsets(ctx, 1, depth, x.concrete[:depth], strides[:depth])
        if found is None:
            return False
        _put(ctx, found, x.concrete, math.prod(x.concrete[depth:]), self.reduction)
        return True


@dataclass(frozen=True)
class OneHot(Operator):
    """ONNX OneHot (9, 11): values[1] where the new axis equals the index, values[0] elsewhere and for indices outside."""

    axis: int = -1

    op_type: ClassVar[str] = "OneHot"
    mixes: ClassVar[bool] = True
    tolerance: ClassVar[str] = EXACT
    light: ClassVar[int] = ANY_RANK
    settings: ClassVar[bool] = True

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        i, depth, values = (required(inputs, k, self.op_type) for k in range(3))
        if i.shape is None:
            return [TensorSpec(values.dtype, None)]
        axis = normal_axis(self.axis, len(i.shape) + 1, self.op_type)
        n = None if depth.value is None else self._depth(depth.value)
        return [TensorSpec(values.dtype, (*i.shape[:axis], n, *i.shape[axis:]))]

    def _depth(self, depth: Any) -> int:
        n = scalar(depth, self.op_type, "depth")
        if not 1 <= n < 2**63:  # NaN fails too
            raise InputError("not a depth", operator=self.op_type, tensor="depth", expected=">= 1", received=n)
        return int(n)

    def reference(self, *inputs: Any) -> list[Any]:
        indices, depth, values = inputs
        n = self._depth(depth)
        axis = normal_axis(self.axis, indices.ndim + 1, self.op_type)
        if not indices.size:
            return [np.zeros((*indices.shape[:axis], n, *indices.shape[axis:]), values.dtype)]
        which = np.expand_dims(np.where(indices < 0, indices + n, indices), axis)
        grid = np.arange(n).reshape([-1 if a == axis else 1 for a in range(indices.ndim + 1)])
        return [np.where(which == grid, values[1], values[0]).astype(values.dtype)]

    def immediate(self, *inputs: Any) -> list[Any] | None:
        indices, depth, values = inputs
        if indices.dtype not in NUMBERS or not movable(TensorSpec(values.dtype, values.shape)) or values.size != 2:
            return None
        n = self._depth(depth)
        axis = normal_axis(self.axis, indices.ndim + 1, self.op_type)
        shape = (*indices.shape[:axis], n, *indices.shape[axis:])
        check_size(shape, values.dtype)
        return immediate.call("one_hot", [indices, values], [(shape, values.dtype)], axis=axis)

    def lower(self, ctx: Lowering) -> bool:
        i, values, out = ctx.inputs[0], ctx.inputs[2], ctx.outputs[0]
        if i is None or values is None or i.dtype not in NUMBERS or not movable(out) or math.prod(values.concrete) != 2:
            return False
        if not math.prod(out.concrete):
            ctx.out_plain()
            return True
        axis = normal_axis(self.axis, len(out.concrete), self.op_type)
        ctx.call("one_hot", (ctx.plain(0), ctx.plain(2)), (ctx.out_plain(),), axis=axis)
        return True
