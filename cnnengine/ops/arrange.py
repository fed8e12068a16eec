"""Operators that keep, reverse or number slices, identity matrices, running products and determinants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .._kernels import function
from .._kernels.typed import reverse_chunks
from ..errors import InputError, ModelError, ShapeError
from ..operator import EXACT, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import Dim, TensorSpec
from .common import INT64, dtype_of, kind_of, normal_axis, required
from .copies import fill, movable
from .gather import NUMBERS, CumSum

Specs = Sequence[TensorSpec | None]


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
