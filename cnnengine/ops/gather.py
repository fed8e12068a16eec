"""Operators that pick elements by index: the Gather family, and ReverseSequence by lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .._kernels.typed import reverse_chunks
from ..errors import InputError, ModelError, ShapeError
from ..operator import ANY_RANK, EXACT, Lowering, NodeRecord, Operand, Operator
from ..records import dataclass
from ..spec import Dim, TensorSpec
from . import immediate
from .common import INT64, Specs, normal_axis, required
from .copies import MAX_AXES, movable, offsets, strides_of


def wrapped(indices: np.ndarray, extent: int, operator: str) -> np.ndarray:
    """Indices counted from the front; raises InputError where one lies outside."""
    if indices.dtype.kind not in "iu":
        raise InputError(
            "indices must be integers", operator=operator, tensor="indices", expected="int32 or int64", received=indices.dtype
        )
    if indices.size and (indices.min() < -extent or indices.max() >= extent):
        bad = indices[(indices < -extent) | (indices >= extent)].reshape(-1)[0]
        raise InputError(
            "an index lies outside the axis",
            operator=operator,
            tensor="indices",
            expected=f"{-extent}..{extent - 1}",
            received=int(bad),
        )
    return np.where(indices < 0, indices + extent, indices).astype(np.intp)


def _taken(x: np.ndarray, indices: np.ndarray, axis: int, operator: str) -> np.ndarray:
    """Slices of x; an index outside is an InputError."""
    if indices.dtype in (np.int32, np.int64):  # NumPy checks them itself
        try:
            return np.asarray(x.take(indices, axis=axis))
        except IndexError:
            pass
    return np.asarray(x.take(wrapped(indices, x.shape[axis], operator), axis=axis))


@dataclass(frozen=True)
class Gather(Operator):
    """ONNX Gather (1 to 13): slices along one axis, in the order of `indices`."""

    axis: int = 0

    op_type: ClassVar[str] = "Gather"
    tolerance: ClassVar[str] = EXACT
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, i = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        if i.dtype.kind not in "iuV":  # V: not known yet, inside a graph
            raise InputError(
                "indices must be integers", operator=self.op_type, tensor="indices", expected="int32 or int64", received=i.dtype
            )
        if x.shape is None or i.shape is None:
            return [TensorSpec(x.dtype, None)]
        axis = normal_axis(self.axis, len(x.shape), self.op_type)
        return [TensorSpec(x.dtype, (*x.shape[:axis], *i.shape, *x.shape[axis + 1 :]))]

    def reference(self, *inputs: Any) -> list[Any]:
        x, indices = inputs
        axis = normal_axis(self.axis, x.ndim, self.op_type)
        return [_taken(x, np.asarray(indices), axis, self.op_type)]

    def lower(self, ctx: Lowering) -> bool:
        x, indices = ctx.inputs[0], ctx.const(1)
        if x is None or not movable(x) or not movable(ctx.outputs[0]):
            return False
        axis = normal_axis(self.axis, len(x.concrete), self.op_type)
        n, outer, inner = x.concrete[axis], math.prod(x.concrete[:axis]), math.prod(x.concrete[axis + 1 :])
        if indices is None:
            if not math.prod(ctx.outputs[0].concrete):
                return _nothing(ctx, 1)
            found = offsets(ctx, 1, 1, (n,), (inner,))
            if found is None:
                return False
            ctx.call("take", (ctx.plain(0), found), (ctx.out_plain(),), outer=outer, step=n * inner, inner=inner)
            return True
        if indices.size and (indices.min() < -n or indices.max() >= n):
            return False  # the reference raises when it runs
        if indices.size == n and np.array_equal(indices.reshape(-1) % max(n, 1), np.arange(n)):
            ctx.alias()
            return True
        if math.prod(ctx.outputs[0].concrete):
            ctx.call("gather", (ctx.plain(0),), (ctx.out_plain(),), axis=axis, indices=indices)
        else:
            ctx.out_plain()
        return True


@dataclass(frozen=True)
class GatherElements(Operator):
    """ONNX GatherElements (11, 13): one element per index, the index replacing one coordinate."""

    axis: int = 0

    op_type: ClassVar[str] = "GatherElements"
    tolerance: ClassVar[str] = EXACT
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, i = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        if x.is_concrete and i.is_concrete:
            element_axes(x.concrete, i.concrete, self.axis, self.op_type)
        return [TensorSpec(x.dtype, i.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, indices = inputs
        return [x[element_index(x.shape, indices, self.axis, self.op_type)]]

    def lower(self, ctx: Lowering) -> bool:
        x, i = ctx.inputs[0], ctx.inputs[1]
        if x is None or i is None or not movable(x):
            return False
        if not math.prod(i.concrete):
            return _nothing(ctx, 1)
        found = element_offsets(ctx, x.concrete, i.concrete, self.axis, self.op_type)
        if found is None:
            return False
        ctx.call("take", (ctx.plain(0), found), (ctx.out_plain(),))
        return True


def _nothing(ctx: Lowering, index: int) -> bool:
    """An output without elements; False where there are indices all the same, which the reference checks."""
    spec = ctx.inputs[index]
    if spec is None or 0 not in spec.concrete:
        return False
    ctx.out_plain()
    return True


def element_offsets(ctx: Lowering, shape: tuple[int, ...], indices: tuple[int, ...], axis: int, operator: str) -> Operand | None:
    axis, strides = element_axes(shape, indices, axis, operator), strides_of(shape)
    bases = [0 if a == axis else s for a, s in enumerate(strides)]
    return offsets(ctx, 1, 1, (shape[axis],), (strides[axis],), indices, bases)


def element_axes(shape: tuple[int, ...], indices: tuple[int, ...], axis: int, operator: str) -> int:
    if len(indices) != len(shape):
        raise ShapeError("data and indices differ in rank", operator=operator, expected=f"rank {len(shape)}", received=indices)
    axis = normal_axis(axis, len(shape), operator)
    for a, (n, i) in enumerate(zip(shape, indices, strict=True)):
        if a != axis and i > n:
            raise ShapeError(
                f"indices are longer than the data along axis {a}", operator=operator, expected=shape, received=indices
            )
    return axis


def element_index(shape: tuple[int, ...], indices: np.ndarray, axis: int, operator: str) -> tuple[np.ndarray, ...]:
    axis = element_axes(shape, indices.shape, axis, operator)
    grid = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis] = wrapped(indices, shape[axis], operator)
    return tuple(grid)


@dataclass(frozen=True)
class GatherND(Operator):
    """ONNX GatherND (11 to 13): the last axis of `indices` holds coordinates into the data behind the batch axes."""

    batch_dims: int = 0

    op_type: ClassVar[str] = "GatherND"
    tolerance: ClassVar[str] = EXACT
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

    def _shape(self, x: Sequence[Dim], i: Sequence[Dim]) -> tuple[Dim, ...] | None:
        b = self.batch_dims
        if not i or not 0 <= b < min(len(x), len(i)):
            raise ShapeError("batch_dims does not fit", operator=self.op_type, expected=f"< {min(len(x), len(i))}", received=b)
        if not isinstance(i[-1], int):
            return None
        if not 1 <= i[-1] <= len(x) - b:
            raise ShapeError(
                "the coordinates have the wrong length", operator=self.op_type, expected=f"1..{len(x) - b}", received=i[-1]
            )
        if any(p != q for p, q in zip(x[:b], i[:b], strict=True) if isinstance(p, int) and isinstance(q, int)):
            raise ShapeError("the batch axes differ", operator=self.op_type, expected=tuple(x[:b]), received=tuple(i[:b]))
        return (*i[:-1], *x[b + i[-1] :])

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, i = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        return [TensorSpec(x.dtype, None if x.shape is None or i.shape is None else self._shape(x.shape, i.shape))]

    def reference(self, *inputs: Any) -> list[Any]:
        x, indices = inputs
        shape, b = self._shape(x.shape, indices.shape), self.batch_dims
        batch, depth = math.prod(x.shape[:b]), indices.shape[-1]
        points = indices.reshape(batch, -1, depth)
        coordinates = [wrapped(points[..., k], x.shape[b + k], self.op_type) for k in range(depth)]
        flat = x.reshape(batch, *x.shape[b:])[(np.arange(batch)[:, None], *coordinates)]
        return [flat.reshape(shape)]

    def immediate(self, *inputs: Any) -> list[Any] | None:
        x, indices = inputs
        if not movable(TensorSpec(x.dtype, x.shape)) or indices.dtype not in (np.int32, np.int64) or indices.ndim > MAX_AXES:
            return None
        shape: Any = self._shape(x.shape, indices.shape)
        b = self.batch_dims
        depth, strides = indices.shape[-1], strides_of(x.shape)
        if depth == 1 and b == 0:
            return [_taken(x, indices.reshape(indices.shape[:-1]), 0, self.op_type)]
        if 0 in shape or depth > MAX_AXES:
            return None
        bases = [strides[a] if a < b else 0 for a in range(indices.ndim - 1)]
        extents, steps = x.shape[b : b + depth], strides[b : b + depth]
        found = immediate.offsets(indices, self.op_type, depth, extents, steps, indices.shape[:-1], bases)
        return immediate.call("take", [x, found], [(shape, x.dtype)], inner=math.prod(x.shape[b + depth :]))

    def lower(self, ctx: Lowering) -> bool:
        x, i = ctx.inputs[0], ctx.inputs[1]
        if x is None or i is None or not movable(x):
            return False
        if not math.prod(ctx.outputs[0].concrete):
            return _nothing(ctx, 1)
        b, depth, strides = self.batch_dims, i.concrete[-1], strides_of(x.concrete)
        bases = [strides[a] if a < b else 0 for a in range(len(i.concrete) - 1)]
        found = offsets(ctx, 1, depth, x.concrete[b : b + depth], strides[b : b + depth], i.concrete[:-1], bases)
        if found is None:
            return False
        ctx.call("take", (ctx.plain(0), found), (ctx.out_plain(),), inner=math.prod(x.concrete[b + depth :]))
        return True


@dataclass(frozen=True)
class ReverseSequence(Operator):
    """ONNX ReverseSequence (10, 28): the first `sequence_lens` elements of each sequence in reverse."""

    time_axis: int = 0
    batch_axis: int = 1

    op_type: ClassVar[str] = "ReverseSequence"
    tolerance: ClassVar[str] = EXACT

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        op = super().from_onnx(node)
        assert isinstance(op, ReverseSequence)
        if {op.time_axis, op.batch_axis} != {0, 1}:
            raise ModelError(
                "time and batch must be the first two axes",
                node=node.name,
                operator=node.op_type,
                expected="0 and 1",
                received=(op.time_axis, op.batch_axis),
            )
        return op

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, lengths = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        if lengths.dtype != INT64:
            raise InputError(
                "has the wrong type", operator=self.op_type, tensor="sequence_lens", expected="int64", received=lengths.dtype
            )
        if x.is_concrete and lengths.is_concrete:
            shape = x.concrete
            if len(shape) < 2 or lengths.concrete != (shape[self.batch_axis],):
                raise ShapeError(
                    "must be one length per sequence",
                    operator=self.op_type,
                    tensor="sequence_lens",
                    expected=f"({shape[self.batch_axis]},)" if len(shape) > 1 else "an input of two axes and more",
                    received=lengths.shape,
                )
        return [TensorSpec(x.dtype, x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, lengths = inputs
        n = x.shape[self.time_axis]
        if lengths.size and (lengths.min() < 0 or lengths.max() > n):
            raise InputError(
                "a length lies outside the axis",
                operator=self.op_type,
                tensor="sequence_lens",
                expected=f"0..{n}",
                received=f"{lengths.min()}..{lengths.max()}",
            )
        y = np.array(x)
        for i, k in enumerate(lengths):
            if self.batch_axis == 0:
                y[i, :k] = x[i, :k][::-1]
            else:
                y[:k, i] = x[:k, i][::-1]
        return [y]

    def lower(self, ctx: Lowering) -> bool:
        x, lengths = ctx.inputs[0], ctx.inputs[1]
        if x is None or lengths is None or not movable(x):
            return False
        if not math.prod(x.concrete):
            return False  # lengths are checked all the same
        words = ctx.faults(reverse_chunks(x.concrete, x.dtype.itemsize))
        ctx.call("reverse_sequence", (ctx.plain(0), ctx.plain(1)), (ctx.out_plain(), words), batch_axis=self.batch_axis)
        return True
