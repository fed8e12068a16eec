"""Operators that reduce axes: sums, extremes, norms, softmax, positions of extremes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import CNNEngineError, InputError, ModelError
from ..operator import ANY_RANK, EVERY, EXACT, SAME, Gives, Giving, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import FLOAT32, INT64, integers, normal_axes, normal_axis, required, spec_at
from .copies import movable
from .elements import check_kind


@dataclass(frozen=True)
class _Reduce(Operator):
    """What all Reduce operators share.

    Attributes
    ----------
    axes : tuple of int, optional
        Part of the operator before version 18 (ReduceSum: 13); None where input 1 has them, or where all are meant.
    keepdims : bool
        Reduced axes stay, with extent 1.
    noop_with_empty_axes : bool
        No axes mean none instead of all.
    """

    kinds: ClassVar[str] = "fiu"
    kernel_op: ClassVar[str] = ""
    elements: ClassVar[Sequence[int]] = (0,)
    axes_input_from: ClassVar[int] = 18
    axes: tuple[int, ...] | None = None
    keepdims: bool = True
    noop_with_empty_axes: bool = False

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        by_input = node.version >= cls.axes_input_from
        if not 1 <= len(node.inputs) <= (2 if by_input else 1) or not node.inputs[0]:
            raise ModelError("takes x and perhaps axes", node=node.name, operator=node.op_type, received=node.inputs)
        axes = None if by_input else node.attribute("axes")
        noop = bool(node.attribute("noop_with_empty_axes", 0)) and by_input
        return cls(None if axes is None else tuple(int(a) for a in axes), bool(node.attribute("keepdims", 1)), noop)

    def _axes(self, rank: int, given: Any) -> tuple[int, ...]:
        """The axes to reduce, from the front; `given` is the value of input 1."""
        chosen = self.axes if given is None else integers(given, self.op_type, "axes")
        if not chosen:
            return () if self.noop_with_empty_axes else tuple(range(rank))
        return normal_axes(chosen, rank, self.op_type)

    def _shape(self, shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
        if self.keepdims:
            return tuple(1 if a in axes else s for a, s in enumerate(shape))
        return tuple(s for a, s in enumerate(shape) if a not in axes)

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        check_kind(x, self.kinds, self.op_type, "data")
        given = spec_at(inputs, 1)
        if given is not None and given.value is None:
            if given.dtype.kind not in "iu":
                raise InputError(
                    "axes must be integers", operator=self.op_type, tensor="axes", expected="int64", received=given.dtype
                )
            if math.prod(given.concrete) == 0:
                return [TensorSpec(x.dtype, self._shape(x.concrete, self._axes(len(x.concrete), np.zeros(0, np.int64))))]
            if not self.keepdims:
                # axes are distinct: their number is the rank that goes
                return [TensorSpec(x.dtype, (None,) * (len(x.concrete) - math.prod(given.concrete)))]
            return [TensorSpec(x.dtype, (None,) * len(x.concrete))]
        axes = self._axes(len(x.concrete), None if given is None else given.value)
        return [TensorSpec(x.dtype, self._shape(x.concrete, axes))]

    def outline(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x, given = spec_at(inputs, 0), spec_at(inputs, 1)
        if x is None or x.shape is None or self.keepdims:
            return [Gives().of(inputs) if self.keepdims else Gives(ranks=()).of(inputs)]
        rank = len(x.shape)
        if given is not None and given.value is None:
            # axes are distinct: their number is the rank that goes, but none may mean all
            count = given.shape[0] if given.shape and isinstance(given.shape[0], int) else 0
            return [TensorSpec(x.dtype, (None,) * (rank - count) if 0 < count <= rank else None)]
        try:
            axes = self._axes(rank, None if given is None else given.value)
        except CNNEngineError:
            return []
        return [TensorSpec(x.dtype, (None,) * (rank - len(axes)))]

    def compute(self, x: np.ndarray, axes: tuple[int, ...]) -> Any:
        """The reduction of float64, or of integers in their own type, with kept dimensions."""
        raise NotImplementedError

    def reference(self, *inputs: Any) -> list[Any]:
        x = np.asarray(inputs[0])
        axes = self._axes(x.ndim, inputs[1] if len(inputs) > 1 else None)
        wide = x.astype(np.float64) if x.dtype.kind == "f" else x
        with np.errstate(all="ignore"):
            y = np.asarray(self.compute(wide, axes)).astype(x.dtype)
        return [y.reshape(self._shape(x.shape, axes))]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or x.dtype != FLOAT32:
            return False
        given = ctx.const(1) if spec_at(ctx.inputs, 1) is not None else None
        if given is None and spec_at(ctx.inputs, 1) is not None:
            return False
        axes = self._axes(len(x.concrete), given)
        if _runs(x.concrete, axes) > 8:
            return False
        ctx.call("reduce", [ctx.plain(0)], [ctx.out_plain()], op=self.kernel_op, axes=axes)
        return True


def reducible(shape: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Whether the kernel `reduce` takes these axes of this shape."""
    return _runs(shape, axes) <= 8


def _runs(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """Runs of kept and of reduced axes, extents of 1 left out."""
    flags = [a in axes for a, s in enumerate(shape) if s != 1]
    return sum(1 for i, f in enumerate(flags) if i == 0 or f != flags[i - 1])


def _truncated_mean(x: np.ndarray, axes: tuple[int, ...]) -> Any:
    """Mean of integers, cut off: sums in Python's integers cannot overflow."""
    total = np.sum(x.astype(object), axis=axes, keepdims=True)
    count = math.prod(x.shape[a] for a in axes)
    if count == 0:
        return np.zeros(np.shape(total), x.dtype)
    return np.vectorize(lambda t: int(t) // count if t >= 0 else -(-int(t) // count), otypes=[x.dtype])(total)


@dataclass(frozen=True)
class ReduceSum(_Reduce):
    """Sum (ONNX ReduceSum 1, 11, 13)."""

    op_type: ClassVar[str] = "ReduceSum"
    kernel_op: ClassVar[str] = "sum"
    axes_input_from: ClassVar[int] = 13

    def compute(self, x: np.ndarray, axes: tuple[int, ...]) -> Any:
        return np.sum(x, axis=axes, keepdims=True, dtype=x.dtype)


@dataclass(frozen=True)
class ReduceMean(_Reduce):
    """Mean; of integers cut off (ONNX ReduceMean 1, 11, 13, 18)."""

    op_type: ClassVar[str] = "ReduceMean"
    kernel_op: ClassVar[str] = "mean"

    def compute(self, x: np.ndarray, axes: tuple[int, ...]) -> Any:
        if x.dtype.kind != "f":
            return _truncated_mean(x, axes)
        count = math.prod(x.shape[a] for a in axes)
        return np.sum(x, axis=axes, keepdims=True) / np.float64(count)


def _least(dtype: np.dtype) -> Any:
    return -np.inf if dtype.kind == "f" else (False if dtype.kind == "b" else np.iinfo(dtype).min)


def _largest(dtype: np.dtype) -> Any:
    return np.inf if dtype.kind == "f" else (True if dtype.kind == "b" else np.iinfo(dtype).max)


@dataclass(frozen=True)
class ReduceMax(_Reduce):
    """Largest element; of nothing the least value (ONNX ReduceMax 1, 11, 12, 13, 18, 20)."""

    op_type: ClassVar[str] = "ReduceMax"
    tolerance: ClassVar[str] = EXACT
    kinds: ClassVar[str] = "fiub"
    kernel_op: ClassVar[str] = "max"
    light: ClassVar[int] = ANY_RANK

    def compute(self, x: np.ndarray, axes: tuple[int, ...]) -> Any:
        return np.max(x, axis=axes, keepdims=True, initial=_least(x.dtype))


@dataclass(frozen=True)
class ReduceMin(_Reduce):
    """Smallest element; of nothing the largest value (ONNX ReduceMin 1, 11, 12, 13, 18, 20)."""

    op_type: ClassVar[str] = "ReduceMin"
    tolerance: ClassVar[str] = EXACT
    kinds: ClassVar[str] = "fiub"
    kernel_op: ClassVar[str] = "min"
    light: ClassVar[int] = ANY_RANK

    def compute(self, x: np.ndarray, axes: tuple[int, ...]) -> Any:
        return np.min(x, axis=axes, keepdims=True, initial=_largest(x.dtype))


@dataclass(frozen=True)
class ReduceProd(_Reduce):
    """Product (ONNX ReduceProd 1, 11, 13, 18)."""

    op_type: ClassVar[str] = "ReduceProd"
    kernel_op: ClassVar[str] = "prod"

    def compute(self, x: np.ndarray, axes: tuple[int, ...]) -> Any:
        return np.prod(x, axis=axes, keepdims=True, dtype=x.dtype)


@dataclass(frozen=True)
class ReduceL1(_Reduce):
    """Sum of absolute values (ONNX ReduceL1 1, 11, 13, 18)."""

    op_type: ClassVar[str] = "ReduceL1"
    kernel_op: ClassVar[str] = "l1"

    def compute(self, x: np.ndarray, axes: tuple[int, ...]) -> Any:
        return np.sum(np.abs(x), axis=axes, keepdims=True, dtype=x.dtype)


@dataclass(frozen=True)
class ReduceL2(_Reduce):
    """Square root of the sum of squares (ONNX ReduceL2 1, 11, 13, 18)."""

    op_type: ClassVar[str] = "ReduceL2"
    kernel_op: ClassVar[str] = "l2"

    def compute(self, x: np.ndarray, axes: tuple[int, ...]) -> Any:
        return np.sqrt(np.sum(np.square(x.astype(np.float64)), axis=axes, keepdims=True))


@dataclass(frozen=True)
class ReduceSumSquare(_Reduce):
    """Sum of squares (ONNX ReduceSumSquare 1, 11, 13, 18)."""

    op_type: ClassVar[str] = "ReduceSumSquare"
    kernel_op: ClassVar[str] = "sum_square"

    def compute(self, x: np.ndarray, axes: tuple[int, ...]) -> Any:
        return np.sum(np.square(x), axis=axes, keepdims=True, dtype=x.dtype)


@dataclass(frozen=True)
class ReduceLogSum(_Reduce):
    """Logarithm of the sum (ONNX ReduceLogSum 1, 11, 13, 18)."""

    op_type: ClassVar[str] = "ReduceLogSum"
    kernel_op: ClassVar[str] = "log_sum"

    def compute(self, x: np.ndarray, axes: tuple[int, ...]) -> Any:
        return np.log(np.sum(x.astype(np.float64), axis=axes, keepdims=True))


@dataclass(frozen=True)
class ReduceLogSumExp(_Reduce):
    """Logarithm of the sum of exponentials, without overflow (ONNX ReduceLogSumExp 1, 11, 13, 18)."""

    op_type: ClassVar[str] = "ReduceLogSumExp"
    kernel_op: ClassVar[str] = "log_sum_exp"

    def compute(self, x: np.ndarray, axes: tuple[int, ...]) -> Any:
        x = x.astype(np.float64)
        top = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
        shift = np.where(np.isfinite(top), top, 0.0)
        return shift + np.log(np.sum(np.exp(x - shift), axis=axes, keepdims=True))


# ---------------------------------------------------------------- softmax


@dataclass(frozen=True)
class _Normalise(Operator):
    """Softmax, LogSoftmax, Hardmax.

    Attributes
    ----------
    axis : int
    flatten : bool
        All axes from `axis` on count as one, as before version 13.
    """

    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = EVERY
    axis: int = -1
    flatten: bool = False

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        if len(node.inputs) != 1 or not node.inputs[0]:
            raise ModelError("takes one input", node=node.name, operator=node.op_type, received=node.inputs)
        old = node.version < 13
        return cls(int(node.attribute("axis", 1 if old else -1)), old)

    def _axis(self, rank: int) -> int:
        if self.flatten and self.axis == rank:
            return rank
        return normal_axis(self.axis, rank, self.op_type)

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        check_kind(x, "f", self.op_type)
        self._axis(len(x.concrete))
        return [TensorSpec(x.dtype, x.shape)]

    def compute(self, x: np.ndarray) -> np.ndarray:
        """The function along axis 1 of float64 (outer, axis, inner)."""
        raise NotImplementedError

    def reference(self, *inputs: Any) -> list[Any]:
        x = np.asarray(inputs[0])
        axis = self._axis(x.ndim)
        outer = math.prod(x.shape[:axis])
        middle = math.prod(x.shape[axis:]) if self.flatten else x.shape[axis]
        inner = 1 if self.flatten else math.prod(x.shape[axis + 1 :])
        if x.size == 0:
            return [x.copy()]
        with np.errstate(all="ignore"):
            y = self.compute(x.reshape(outer, middle, inner).astype(np.float64))
        return [y.reshape(x.shape).astype(x.dtype)]

    def _lower(self, ctx: Lowering, log: bool) -> bool:
        x = ctx.inputs[0]
        if x is None or x.dtype != FLOAT32:
            return False
        axis = self._axis(len(x.concrete))
        ctx.call("softmax", [ctx.plain(0)], [ctx.out_plain()], axis=axis, log=log, flatten=self.flatten)
        return True


@dataclass(frozen=True)
class Softmax(_Normalise):
    """``exp(x) / sum(exp(x))`` along an axis (ONNX Softmax 1, 11: all axes from `axis` on; 13: one axis)."""

    op_type: ClassVar[str] = "Softmax"

    def compute(self, x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))

    def lower(self, ctx: Lowering) -> bool:
        return self._lower(ctx, log=False)


@dataclass(frozen=True)
class LogSoftmax(_Normalise):
    """Logarithm of Softmax (ONNX LogSoftmax 1, 11, 13)."""

    op_type: ClassVar[str] = "LogSoftmax"

    def compute(self, x: np.ndarray) -> np.ndarray:
        y = x - x.max(axis=1, keepdims=True)
        return np.asarray(y - np.log(np.exp(y).sum(axis=1, keepdims=True)))

    def lower(self, ctx: Lowering) -> bool:
        return self._lower(ctx, log=True)


@dataclass(frozen=True)
class Hardmax(_Normalise):
    """1 at the first largest element along an axis, 0 elsewhere (ONNX Hardmax 1, 11, 13)."""

    op_type: ClassVar[str] = "Hardmax"
    tolerance: ClassVar[str] = EXACT

    def compute(self, x: np.ndarray) -> np.ndarray:
        y = np.zeros_like(x)
        np.put_along_axis(y, x.argmax(axis=1)[:, None], 1.0, axis=1)
        return y

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or x.dtype not in (np.float32, np.float64) or math.prod(x.concrete) >= 1 << 31:
            return False
        if math.prod(x.concrete):
            ctx.call("hardmax", [ctx.plain(0)], [ctx.out_plain()], axis=self._axis(len(x.concrete)), flatten=self.flatten)
        else:
            ctx.out_plain()
        return True


@dataclass(frozen=True)
class _Arg(Operator):
    """Position of an extreme, int64; a NaN is more extreme than every number, as NumPy has it.

    Attributes
    ----------
    axis : int
    keepdims : bool
    select_last_index : bool
        Of equal extremes the last, else the first.
    """

    tolerance: ClassVar[str] = EXACT
    elements: ClassVar[Sequence[int]] = (0,)
    element_outputs: ClassVar[Sequence[int]] = ()
    light: ClassVar[int] = ANY_RANK
    find: ClassVar[Callable[..., Any]]
    least: ClassVar[bool]
    axis: int = 0
    keepdims: bool = True
    select_last_index: bool = False

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        if len(node.inputs) != 1 or not node.inputs[0]:
            raise ModelError("takes one input", node=node.name, operator=node.op_type, received=node.inputs)
        last = bool(node.attribute("select_last_index", 0)) and node.version >= 12
        return cls(int(node.attribute("axis", 0)), bool(node.attribute("keepdims", 1)), last)

    def outline(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x = spec_at(inputs, 0)
        rank = None if x is None or x.shape is None else len(x.shape) - (not self.keepdims)
        return [TensorSpec(INT64, None if rank is None or rank < 0 else (None,) * rank)]

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        check_kind(x, "fiu", self.op_type, "data")
        axis = normal_axis(self.axis, len(x.concrete), self.op_type)
        if x.concrete[axis] == 0:
            raise InputError(
                "no extreme of nothing", operator=self.op_type, tensor="data", expected="elements along axis", received=x.shape
            )
        kept = (1,) if self.keepdims else ()
        return [TensorSpec(INT64, (*x.concrete[:axis], *kept, *x.concrete[axis + 1 :]))]

    def reference(self, *inputs: Any) -> list[Any]:
        x = np.asarray(inputs[0])
        axis = normal_axis(self.axis, x.ndim, self.op_type)
        find = type(self).find
        if self.select_last_index:
            y = x.shape[axis] - 1 - find(np.flip(x, axis), axis=axis, keepdims=self.keepdims)
        else:
            y = find(x, axis=axis, keepdims=self.keepdims)
        return [np.asarray(y, dtype=np.int64)]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or not movable(x) or x.dtype in (np.float16, np.bool_):
            return False
        axis = normal_axis(self.axis, len(x.concrete), self.op_type)
        if not 0 < x.concrete[axis] < 1 << 31:
            return False
        if math.prod(x.concrete):
            ctx.call("arg", [ctx.plain(0)], [ctx.out_plain()], axis=axis, least=self.least, last=self.select_last_index)
        else:
            ctx.out_plain()
        return True


@dataclass(frozen=True)
class ArgMax(_Arg):
    """Position of the largest element (ONNX ArgMax 1, 11, 12, 13)."""

    op_type: ClassVar[str] = "ArgMax"
    find: ClassVar[Callable[..., Any]] = np.argmax
    least: ClassVar[bool] = False


@dataclass(frozen=True)
class ArgMin(_Arg):
    """Position of the smallest element (ONNX ArgMin 1, 11, 12, 13)."""

    op_type: ClassVar[str] = "ArgMin"
    find: ClassVar[Callable[..., Any]] = np.argmin
    least: ClassVar[bool] = True
