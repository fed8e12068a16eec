"""Operators that pick elements by their values: NonZero, TopK, Compress, Unique."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .._kernels import function
from ..errors import InputError, ModelError, ShapeError
from ..operator import ANY_RANK, EXACT, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import Dim, TensorSpec
from . import immediate
from .common import INT64, Specs, normal_axis, required, scalar, spec_at
from .copies import NUMBERS, movable


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
class Compress(Operator):
    """ONNX Compress (9, 11, 28): the slices along an axis for which a condition holds, or such elements of the flattened input.

    Attributes
    ----------
    axis : int, optional
        None: x counts as a vector.
    """

    axis: int | None = None

    op_type: ClassVar[str] = "Compress"
    tolerance: ClassVar[str] = EXACT

    def _along(self, shape: tuple[int, ...], condition: tuple[int, ...]) -> int | None:
        """The axis from the front; the condition fits."""
        axis = None if self.axis is None else normal_axis(self.axis, len(shape), self.op_type)
        n = math.prod(shape) if axis is None else shape[axis]
        if len(condition) != 1 or condition[0] > n:
            raise ShapeError(
                "the condition does not fit",
                operator=self.op_type,
                tensor="condition",
                expected=f"a vector of at most {n}",
                received=condition,
            )
        return axis

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, condition = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        if condition.dtype != np.bool_:
            raise InputError(
                "not a condition", operator=self.op_type, tensor="condition", expected="bool", received=condition.dtype
            )
        if x.shape is None:
            return [TensorSpec(x.dtype, (None,) if self.axis is None else None)]
        if x.is_concrete and condition.is_concrete:
            self._along(x.concrete, condition.concrete)
        count = None if condition.value is None else int(np.count_nonzero(condition.value))
        if self.axis is None:
            return [TensorSpec(x.dtype, (count,))]
        axis = normal_axis(self.axis, len(x.shape), self.op_type)
        return [TensorSpec(x.dtype, (*x.shape[:axis], count, *x.shape[axis + 1 :]))]

    def reference(self, *inputs: Any) -> list[Any]:
        x, condition = inputs
        axis = self._along(x.shape, condition.shape)
        return [np.asarray(np.compress(condition, x, axis))]

    def immediate(self, *inputs: Any) -> list[Any] | None:
        x, condition = inputs
        if not movable(TensorSpec(x.dtype, x.shape)):
            return None
        return [function("compress")(x, condition, self._along(x.shape, condition.shape))]

    def lower(self, ctx: Lowering) -> bool:
        x, condition = ctx.inputs[0], ctx.const(1)
        if x is None or condition is None or not movable(x):
            return False
        axis = self._along(x.concrete, condition.shape)
        if not math.prod(ctx.outputs[0].concrete):
            ctx.out_plain()
            return True
        source = ctx.plain(0) if axis is not None else ctx.plain(0).reshaped((math.prod(x.concrete),))
        ctx.call("gather", (source,), (ctx.out_plain(),), axis=axis or 0, indices=np.flatnonzero(condition))
        return True


def _order(value: Any) -> tuple[Any, ...]:
    """A Python value as a key that sorts, NaN last and equal to itself, -0 as 0."""
    if isinstance(value, complex):
        return (*_order(value.real), *_order(value.imag))
    return (1, 0) if value != value else (0, value + 0.0 if isinstance(value, float) else value)


@dataclass(frozen=True)
class Unique(Operator):
    """ONNX Unique (11, 28): the elements (or slices along an axis) that differ, and where they are.

    A NaN equals a NaN and sorts last, -0 equals 0; of equals the first one is given.

    Attributes
    ----------
    axis : int, optional
        None: elements of the flattened input.
    sorted : int
        0: in the order in which they first come.
    """

    axis: int | None = None
    sorted: int = 1

    op_type: ClassVar[str] = "Unique"
    tolerance: ClassVar[str] = EXACT

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        more = [TensorSpec(INT64, (None,))] * 3
        if self.axis is None:
            return [TensorSpec(x.dtype, (None,)), *more]
        if x.shape is None:
            return [TensorSpec(x.dtype, None), *more]
        axis = normal_axis(self.axis, len(x.shape), self.op_type)
        shape: tuple[Dim, ...] = (*x.shape[:axis], None, *x.shape[axis + 1 :])
        return [TensorSpec(x.dtype, shape), *more]

    def _rows(self, x: np.ndarray) -> np.ndarray:
        """The elements or slices as rows."""
        if self.axis is None:
            return x.reshape(-1, 1)
        axis = normal_axis(self.axis, x.ndim, self.op_type)
        moved = np.ascontiguousarray(np.moveaxis(x, axis, 0))
        return moved.reshape(x.shape[axis], math.prod(moved.shape[1:]))

    def _results(self, x: np.ndarray, first: np.ndarray, inverse: np.ndarray, counts: np.ndarray) -> list[Any]:
        y = x.reshape(-1).take(first) if self.axis is None else x.take(first, self.axis)
        return [y, first, inverse, counts]

    def reference(self, *inputs: Any) -> list[Any]:
        x = np.asarray(inputs[0])
        keys = [tuple(map(_order, row)) for row in self._rows(x).tolist()]
        places: dict[tuple[Any, ...], list[int]] = {}
        for i, key in enumerate(keys):
            places.setdefault(key, []).append(i)
        order = sorted(places) if self.sorted else list(places)
        number = {key: i for i, key in enumerate(order)}
        return self._results(
            x,
            np.array([places[k][0] for k in order], np.int64),
            np.array([number[k] for k in keys], np.int64),
            np.array([len(places[k]) for k in order], np.int64),
        )

    def immediate(self, *inputs: Any) -> list[Any] | None:
        x = inputs[0]
        viewed = x.view(np.uint8) if x.dtype == np.bool_ else x
        if viewed.dtype not in NUMBERS:
            return None
        return self._results(x, *function("unique")(self._rows(viewed), bool(self.sorted)))
