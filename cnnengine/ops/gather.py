"""Operators that pick elements by index or by value: Gather and Scatter families, OneHot, NonZero, TopK, CumSum, Trilu."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .._kernels import function
from ..errors import InputError, ModelError, ShapeError
from ..operator import ANY_RANK, EXACT, ROUNDING, Lowering, NodeRecord, Operand, Operator
from ..records import dataclass
from ..spec import Dim, TensorSpec, check_size
from . import immediate
from .common import INT64, normal_axis, required, scalar, spec_at
from .copies import MAX_AXES, copy, movable, offsets, strides_of

Specs = Sequence[TensorSpec | None]

REDUCTIONS = ("none", "add", "mul", "max", "min")

NUMBERS = frozenset(
    np.dtype(t) for t in ("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
)
"""Types of numbers that the kernel `one_hot` reads places from."""


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
            _element_axes(x.concrete, i.concrete, self.axis, self.op_type)
        return [TensorSpec(x.dtype, i.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, indices = inputs
        return [x[_element_index(x.shape, indices, self.axis, self.op_type)]]

    def lower(self, ctx: Lowering) -> bool:
        x, i = ctx.inputs[0], ctx.inputs[1]
        if x is None or i is None or not movable(x):
            return False
        if not math.prod(i.concrete):
            return _nothing(ctx, 1)
        found = _element_offsets(ctx, x.concrete, i.concrete, self.axis, self.op_type)
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


def _element_offsets(ctx: Lowering, shape: tuple[int, ...], indices: tuple[int, ...], axis: int, operator: str) -> Operand | None:
    axis, strides = _element_axes(shape, indices, axis, operator), strides_of(shape)
    bases = [0 if a == axis else s for a, s in enumerate(strides)]
    return offsets(ctx, 1, 1, (shape[axis],), (strides[axis],), indices, bases)


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


def _element_axes(shape: tuple[int, ...], indices: tuple[int, ...], axis: int, operator: str) -> int:
    if len(indices) != len(shape):
        raise ShapeError("data and indices differ in rank", operator=operator, expected=f"rank {len(shape)}", received=indices)
    axis = normal_axis(axis, len(shape), operator)
    for a, (n, i) in enumerate(zip(shape, indices, strict=True)):
        if a != axis and i > n:
            raise ShapeError(
                f"indices are longer than the data along axis {a}", operator=operator, expected=shape, received=indices
            )
    return axis


def _element_index(shape: tuple[int, ...], indices: np.ndarray, axis: int, operator: str) -> tuple[np.ndarray, ...]:
    axis = _element_axes(shape, indices.shape, axis, operator)
    grid = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis] = wrapped(indices, shape[axis], operator)
    return tuple(grid)


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
            _element_axes(x.concrete, i.concrete, self.axis, self.op_type)
        return [TensorSpec(x.dtype, x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, indices, updates = inputs
        if updates.shape != indices.shape:
            raise ShapeError(
                "indices and updates differ in shape", operator=self.op_type, expected=indices.shape, received=updates.shape
            )
        out = np.array(x)
        _store(out, _element_index(x.shape, indices, self.axis, self.op_type), updates, self.reduction)
        return [out]

    def lower(self, ctx: Lowering) -> bool:
        x, i = ctx.inputs[0], ctx.inputs[1]
        if x is None or i is None or not _puttable(ctx, self.reduction):
            return False
        found = _element_offsets(ctx, x.concrete, i.concrete, self.axis, self.op_type)
        if found is None:
            return False
        _put(ctx, found, x.concrete, 1, self.reduction)
        return True


@dataclass(frozen=True)
class Scatter(ScatterElements):
    """ONNX Scatter (9): ScatterElements by its old name."""

    op_type: ClassVar[str] = "Scatter"


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


@dataclass(frozen=True)
class NonZero(Operator):
    """ONNX NonZero (9, 13): coordinates of the elements that are not zero, one column each, in C order."""

    op_type: ClassVar[str] = "NonZero"
    tolerance: ClassVar[str] = EXACT
    light: ClassVar[int] = ANY_RANK
    divides: ClassVar[bool] = True

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        return [TensorSpec(INT64, (None if x.shape is None else max(len(x.shape), 1), None))]

    def reference(self, *inputs: Any) -> list[Any]:
        return [np.array(np.nonzero(np.atleast_1d(inputs[0])), np.int64)]

    def immediate(self, *inputs: Any) -> list[Any] | None:
        x = inputs[0]
        return [function("find_nonzero")(x)] if movable(TensorSpec(x.dtype, x.shape)) and x.dtype != np.float16 else None


@dataclass(frozen=True)
class TopK(Operator):
    """ONNX TopK (1 to 24): the k largest or smallest along an axis and their indices; of equals, the lower index first."""

    axis: int = -1
    largest: int = 1
    sorted: int = 1
    k: int | None = None

    op_type: ClassVar[str] = "TopK"
    tolerance: ClassVar[str] = EXACT
    elements: ClassVar[Sequence[int]] = (0,)
    element_outputs: ClassVar[Sequence[int]] = (0,)
    light: ClassVar[int] = ANY_RANK

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> TopK:
        k = node.attribute("k") if node.version < 10 else None
        if node.version < 10 and k is None:
            raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected="k")
        return cls(
            int(node.attribute("axis", -1)),
            int(node.attribute("largest", 1)),
            int(node.attribute("sorted", 1)),
            None if k is None else int(k),
        )

    def _count(self, extent: int, k: Any) -> int:
        count = self.k if self.k is not None else int(scalar(k, self.op_type, "K"))
        if not 0 <= count <= extent:
            raise ShapeError(
                "k does not fit the axis", operator=self.op_type, tensor="K", expected=f"0..{extent}", received=count
            )
        return count

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        if x.shape is None:
            return [TensorSpec(x.dtype, None), TensorSpec(INT64, None)]
        axis = normal_axis(self.axis, len(x.shape), self.op_type)
        k = spec_at(inputs, 1)
        known = self.k is not None or (k is not None and k.value is not None)
        extent = x.shape[axis]
        n = self._count(extent if isinstance(extent, int) else 2**63, None if k is None else k.value) if known else None
        shape = (*x.shape[:axis], n, *x.shape[axis + 1 :])
        return [TensorSpec(x.dtype, shape), TensorSpec(INT64, shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x = inputs[0]
        axis = normal_axis(self.axis, x.ndim, self.op_type)
        count = self._count(x.shape[axis], inputs[1] if len(inputs) > 1 else None)
        if self.largest:  # a stable ascending sort of the reversed axis, read backwards, keeps the lower index first
            order = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
        else:
            order = np.argsort(x, axis=axis, kind="stable")
        indices = order.take(range(count), axis=axis).astype(np.int64)
        return [np.take_along_axis(x, indices, axis), indices]

    def immediate(self, *inputs: Any) -> list[Any] | None:
        x = inputs[0]
        if not movable(TensorSpec(x.dtype, x.shape)) or x.dtype in (np.float16, np.bool_):
            return None
        axis = normal_axis(self.axis, x.ndim, self.op_type)
        count = self._count(x.shape[axis], inputs[1] if len(inputs) > 1 else None)
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
        if x.ndim == 1 and x.dtype == np.float32 and count:
            found: list[Any] = function("best_of_line")(x, count, bool(self.largest))
            return found
        return immediate.call("topk", [x], [(shape, x.dtype), (shape, INT64)], axis=axis, largest=bool(self.largest))

    def lower(self, ctx: Lowering) -> bool:
        x, k = ctx.inputs[0], ctx.const(1)
        if x is None or not movable(x) or x.dtype == np.float16 or x.dtype == np.bool_ or (self.k is None and k is None):
            return False
        axis = normal_axis(self.axis, len(x.concrete), self.op_type)
        shape = (*x.concrete[:axis], self._count(x.concrete[axis], k), *x.concrete[axis + 1 :])
        results = [ctx.out_plain(i) if ctx.wants(i) else ctx.temp(shape, t) for i, t in enumerate((x.dtype, INT64))]
        if math.prod(shape):
            ctx.call("topk", (ctx.plain(0),), results, axis=axis, largest=bool(self.largest))
        return True


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
