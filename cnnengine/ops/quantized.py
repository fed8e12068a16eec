"""Quantised numbers: to and from them, convolutions and products of 8-bit integers, whose sums are exact in NumPy."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError
from ..operator import EXACT, Activation, Extents, Gives, Giving, Lowering, NodeRecord, Operand, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .cast import convert
from .common import FLOAT32, Specs, dtype_of, is_small, kind_of, normal_axis, required, spec_at
from .conv import Conv
from .dense import MatMul, product_of


def _per_channel(value: Any, channels: int, rank: int, operator: str, tensor: str) -> np.ndarray:
    """A scalar, or one number per output channel, so that it broadcasts along axis 0 of the weights."""
    array = np.asarray(value)
    if array.size == 1:
        return array.reshape(())
    if array.shape != (channels,):
        raise ShapeError(
            "must be a scalar or one number per output channel",
            operator=operator,
            tensor=tensor,
            expected=(channels,),
            received=array.shape,
        )
    return array.reshape(-1, *(1,) * (rank - 1))


def _scalar(value: Any, operator: str, tensor: str) -> np.ndarray:
    array = np.asarray(value)
    if array.size != 1:
        raise ShapeError("must be a scalar", operator=operator, tensor=tensor, expected="one element", received=array.shape)
    return array.reshape(())


@dataclass(frozen=True)
class _IntegerConv(Operator):
    """Attributes as `Conv` has them, in an operator of its own."""

    conv: Conv

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        names = {"x": node.inputs[0], "w": node.inputs[cls.weights]} if len(node.inputs) > cls.weights else {}
        if not all(names.values()) or not names:
            raise ModelError("needs x and w", node=node.name, operator=node.op_type, received=node.inputs)
        plain = NodeRecord("Conv", "", 11, node.attributes, tuple(names.values()), node.outputs, node.name)
        conv = Conv.from_onnx(plain)
        assert isinstance(conv, Conv)
        return cls(conv)

    weights: ClassVar[int] = 1

    def _shape(self, inputs: Specs) -> tuple[int, ...]:
        x, w = required(inputs, 0, self.op_type), required(inputs, self.weights, self.op_type)
        for name, spec in (("x", x), ("w", w)):
            if spec.dtype not in (np.uint8, np.int8):
                raise InputError(
                    "has the wrong dtype", operator=self.op_type, tensor=name, expected="uint8 or int8", received=spec.dtype
                )
        # float64 holds all sums of products of 8-bit integers exactly
        wide = np.dtype(np.float64)
        return self.conv.infer([TensorSpec(wide, x.shape), TensorSpec(wide, w.shape)])[0].concrete

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        return self.conv.multiply_adds((inputs[0], inputs[self.weights]) if inputs else (), outputs)

    def _sums(self, x: np.ndarray, x_zero: Any, w: np.ndarray, w_zero: Any) -> np.ndarray:
        wide_x, wide_w = x.astype(np.float64), w.astype(np.float64)
        if x_zero is not None:
            wide_x -= _scalar(x_zero, self.op_type, "x_zero_point")
        if w_zero is not None:
            wide_w -= _per_channel(w_zero, w.shape[0], w.ndim, self.op_type, "w_zero_point")
        sums: np.ndarray = self.conv.reference(wide_x, wide_w)[0]
        return sums


@dataclass(frozen=True)
class ConvInteger(_IntegerConv):
    """ONNX ConvInteger (10): the convolution of 8-bit integers less their zero points, in int32."""

    op_type: ClassVar[str] = "ConvInteger"
    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = (Gives(np.dtype(np.int32), (0, 1), alike=True),)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(np.dtype(np.int32), self._shape(inputs))]

    def reference(self, *inputs: Any) -> list[Any]:
        x, w, x_zero, w_zero = (*inputs, None, None)[:4]
        return [self._sums(x, x_zero, w, w_zero).astype(np.int64).astype(np.int32)]


@dataclass(frozen=True)
class QLinearConv(_IntegerConv):
    """ONNX QLinearConv (10): the convolution of quantised numbers, quantised again.

    The sums are exact; scaled in float32, rounded half to even, moved by the zero point and clamped to the output's range.
    """

    op_type: ClassVar[str] = "QLinearConv"
    weights: ClassVar[int] = 3
    gives: ClassVar[Giving] = (Gives(7, (0, 3), alike=True),)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        zero = required(inputs, 7, self.op_type)
        bias = spec_at(inputs, 8)
        if bias is not None and bias.dtype != np.int32:
            raise InputError("has the wrong dtype", operator=self.op_type, tensor="B", expected="int32", received=bias.dtype)
        if zero.dtype not in (np.uint8, np.int8):
            raise InputError(
                "has the wrong dtype", operator=self.op_type, tensor="y_zero_point", expected="uint8 or int8", received=zero.dtype
            )
        return [TensorSpec(zero.dtype, self._shape(inputs))]

    def reference(self, *inputs: Any) -> list[Any]:
        x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = (*inputs, None)[:9]
        sums = self._sums(x, x_zero, w, w_zero)
        if bias is not None:
            sums += bias.reshape(-1, *(1,) * (sums.ndim - 2))
        by_channel = _per_channel(w_scale, w.shape[0], w.ndim - 1, self.op_type, "w_scale").astype(np.float32)
        ratio = _scalar(x_scale, self.op_type, "x_scale") * by_channel / _scalar(y_scale, self.op_type, "y_scale")
        zero = _scalar(y_zero, self.op_type, "y_zero_point")
        limits = np.iinfo(zero.dtype)
        y = np.rint(sums.astype(np.float32) * ratio.astype(np.float32)).astype(np.float64) + zero
        return [np.clip(y, limits.min, limits.max).astype(zero.dtype)]


# ---------------------------------------------------------------- products of matrices


def _by_row(value: Any, rank: int) -> np.ndarray:
    """A scalar, a number per row (M,), or (..., M, 1): so that it broadcasts over the left matrix."""
    array = np.asarray(value).astype(np.float64)
    if array.size == 1:
        return array.reshape(())
    return array.reshape(-1, 1) if array.ndim == 1 and rank > 1 else array


def _by_column(value: Any) -> np.ndarray:
    """A scalar, a number per column (N,), or (..., 1, N): so that it broadcasts over the right matrix."""
    array = np.asarray(value).astype(np.float64)
    return array.reshape(()) if array.size == 1 else array


def _less(x: np.ndarray, zero: np.ndarray, operator: str, tensor: str) -> np.ndarray:
    try:
        result: np.ndarray = x.astype(np.float64) - zero
    except ValueError:
        result = np.empty(0)
    if result.shape != x.shape:
        raise ShapeError("does not fit the matrix", operator=operator, tensor=tensor, expected=x.shape, received=zero.shape)
    return result


def _product_shape(a: TensorSpec, b: TensorSpec, operator: str) -> tuple[int, ...]:
    for name, spec in (("A", a), ("B", b)):
        if kind_of(spec.dtype) not in "iuf" or (kind_of(spec.dtype) != "f" and spec.dtype.itemsize > 1):
            raise InputError("has the wrong dtype", operator=operator, tensor=name, expected="uint8 or int8", received=spec.dtype)
    wide = np.dtype(np.float64)
    return MatMul().infer([TensorSpec(wide, a.shape), TensorSpec(wide, b.shape)])[0].concrete


@dataclass(frozen=True)
class MatMulInteger(Operator):
    """ONNX MatMulInteger (10): the product of 8-bit matrices less their zero points, in int32."""

    op_type: ClassVar[str] = "MatMulInteger"
    tolerance: ClassVar[str] = EXACT

    def outline(self, inputs: Specs) -> list[TensorSpec]:
        return [product_of(spec_at(inputs, 0), spec_at(inputs, 1), TensorSpec(np.dtype(np.int32), ()))]

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        return MatMul().multiply_adds(inputs, outputs)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        a, b = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        return [TensorSpec(np.dtype(np.int32), _product_shape(a, b, self.op_type))]

    def reference(self, *inputs: Any) -> list[Any]:
        a, b, a_zero, b_zero = (*inputs, None, None)[:4]
        left = _less(a, _by_row(0 if a_zero is None else a_zero, a.ndim), self.op_type, "a_zero_point")
        right = _less(b, _by_column(0 if b_zero is None else b_zero), self.op_type, "b_zero_point")
        return [np.asarray(left @ right).astype(np.int64).astype(np.int32)]


@dataclass(frozen=True)
class QLinearMatMul(Operator):
    """ONNX QLinearMatMul (10, 21): the product of quantised matrices, quantised again.

    The sums are exact; scaled in float32, rounded half to even, moved by the zero point and clamped to the output's range.
    """

    op_type: ClassVar[str] = "QLinearMatMul"

    def outline(self, inputs: Specs) -> list[TensorSpec]:
        return [product_of(spec_at(inputs, 0), spec_at(inputs, 3), spec_at(inputs, 7))]

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        return MatMul().multiply_adds(inputs, outputs)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        a, b, zero = (required(inputs, i, self.op_type) for i in (0, 3, 7))
        return [TensorSpec(zero.dtype, _product_shape(a, b, self.op_type))]

    def reference(self, *inputs: Any) -> list[Any]:
        a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs
        left = _less(a, _by_row(a_zero, a.ndim), self.op_type, "a_zero_point")
        right = _less(b, _by_column(b_zero), self.op_type, "b_zero_point")
        sums = np.asarray(left @ right)
        rows = _by_row(a_scale, a.ndim).astype(np.float32)
        ratio = np.asarray(rows * _by_column(b_scale).astype(np.float32) / _by_row(y_scale, sums.ndim).astype(np.float32))
        limits = np.iinfo(y_zero.dtype)
        y = np.rint(sums.astype(np.float32) * ratio).astype(np.float64)
        y += _by_row(y_zero, sums.ndim)
        return [np.clip(y, limits.min, limits.max).astype(y_zero.dtype)]


# ---------------------------------------------------------------- to and from quantised numbers

_LIMITS = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}


def _limits(dtype: np.dtype) -> tuple[int, int]:
    if dtype.name in _LIMITS:
        return _LIMITS[dtype.name]
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _float32_scale(ctx: Lowering) -> bool:
    """Whether the scale is float32 and the zero point has 8 bits: all checks before the first call."""
    scale, zero = ctx.inputs[1], spec_at(ctx.inputs, 2)
    return scale is not None and scale.dtype == FLOAT32 and (zero is None or zero.dtype in (np.uint8, np.int8))


@dataclass(frozen=True)
class _Scaling(Operator):
    """What both ways share: one scale for all, one per index of an axis, or one per block along it.

    Attributes
    ----------
    axis : int
    block_size : int
        0: no blocks.
    output_dtype : numpy.dtype, optional
    """

    axis: int = 1
    block_size: int = 0
    output_dtype: np.dtype | None = None

    widens: ClassVar[bool] = False

    @classmethod
    def _common(cls, node: NodeRecord) -> dict[str, Any]:
        code = int(node.attribute("output_dtype", 0))
        block = int(node.attribute("block_size", 0))
        if block < 0:
            raise ModelError("must not be negative", node=node.name, operator=node.op_type, expected="block_size", received=block)
        return {
            "axis": int(node.attribute("axis", 1)),
            "block_size": block,
            "output_dtype": dtype_of(code, operator=node.op_type, node=node.name) if code else None,
        }

    def _laid_out(self, value: np.ndarray, shape: tuple[int, ...], tensor: str) -> np.ndarray:
        """`value` so that it broadcasts to `shape`."""
        if value.size == 1 and value.ndim <= 1:
            return value.reshape(())
        axis = normal_axis(self.axis, len(shape), self.op_type)
        if not self.block_size:
            if value.shape != (shape[axis],):
                raise ShapeError(
                    f"must be a scalar or one number per index of axis {axis}",
                    operator=self.op_type,
                    tensor=tensor,
                    expected=(shape[axis],),
                    received=value.shape,
                )
            return value.reshape(-1, *(1,) * (len(shape) - axis - 1))
        blocks = tuple(-(-n // self.block_size) if i == axis else n for i, n in enumerate(shape))
        if value.shape != blocks:
            raise ShapeError(
                "does not fit the blocks", operator=self.op_type, tensor=tensor, expected=blocks, received=value.shape
            )
        return np.repeat(value, self.block_size, axis).take(range(shape[axis]), axis)

    def _check(self, inputs: Specs) -> None:
        """Shapes of scale and zero point, as far as they are known."""
        x = required(inputs, 0, self.op_type)
        for index, tensor in ((1, "scale"), (2, "zero_point")):
            spec = spec_at(inputs, index)
            if spec is not None and spec.is_concrete and x.is_concrete:
                self._laid_out(np.broadcast_to(np.zeros(()), spec.concrete), x.concrete, tensor)

    def _call(self, ctx: Lowering, kernel: str) -> bool:
        """Add the call of the kernel: in planes where they are at hand, else plain, unless who reads the result wants the other."""
        x, y = ctx.inputs[0], ctx.outputs[0]
        assert x is not None
        axis = None
        numbers: list[Operand | None] = []
        for index, tensor in ((1, "scale"), (2, "zero_point")):
            spec = spec_at(ctx.inputs, index)
            numbers.append(None if spec is None else ctx.plain(index))
            if spec is not None and self._laid_out(np.broadcast_to(np.zeros(()), spec.concrete), x.concrete, tensor).ndim:
                axis = normal_axis(self.axis, len(x.concrete), self.op_type)
        groups = ctx.grouping(0) if axis is None and x.dtype != np.int8 else None
        if groups is not None:
            source = ctx.planes(0, groups=groups, fill=0 if x.dtype == np.uint8 else None)
            target = ctx.out_plain() if y.dtype == np.int8 else ctx.out_any(groups=groups)
        else:
            source = ctx.plain(0)
            target = ctx.out_any() if axis is None else ctx.out_plain()
        ctx.call(kernel, (source, *numbers), (target,), axis=axis)
        return True


@dataclass(frozen=True)
class QuantizeLinear(_Scaling):
    """ONNX QuantizeLinear (10 to 28): ``saturate(round(x / scale) + zero_point)``, halves to even.

    Attributes
    ----------
    saturate : int
        For 8-bit floats.
    precision : numpy.dtype, optional
        What the quotient is computed in; the type of x otherwise (float32 for small types and integers).
    """

    saturate: int = 1
    precision: np.dtype | None = None

    op_type: ClassVar[str] = "QuantizeLinear"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> QuantizeLinear:
        code = int(node.attribute("precision", 0))
        precision = dtype_of(code, operator=node.op_type, node=node.name) if code else None
        return cls(**cls._common(node), saturate=int(node.attribute("saturate", 1)), precision=precision)

    def _target(self, zero: np.dtype | None) -> np.dtype:
        if zero is not None and self.output_dtype is not None and zero != self.output_dtype:
            raise InputError(
                "the zero point has another type than the output",
                operator=self.op_type,
                tensor="y_zero_point",
                expected=self.output_dtype,
                received=zero,
            )
        return zero if zero is not None else self.output_dtype or np.dtype(np.uint8)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, zero = required(inputs, 0, self.op_type), spec_at(inputs, 2)
        if kind_of(x.dtype) not in "fi":
            raise InputError("cannot be quantised", operator=self.op_type, tensor="x", expected="floats", received=x.dtype)
        self._check(inputs)
        return [TensorSpec(self._target(None if zero is None else zero.dtype), x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, scale, zero = (*inputs, None)[:3]
        target = self._target(None if zero is None else zero.dtype)
        given = self.precision or x.dtype
        wide = given if given.kind == "f" and given.itemsize >= 2 and given.isbuiltin == 1 else FLOAT32
        with np.errstate(all="ignore"):
            quotient = x.astype(wide) / self._laid_out(scale.astype(wide), x.shape, "y_scale")
            if is_small(given) and given.itemsize == 2:  # bfloat16 rounds the quotient itself
                quotient = quotient.astype(given).astype(np.float32)
        offset = None if zero is None else self._laid_out(zero.astype(np.float32), x.shape, "y_zero_point")
        if kind_of(target) == "f":
            return [convert(quotient if offset is None else quotient + offset, target, bool(self.saturate))]
        low, high = _limits(target)
        with np.errstate(all="ignore"):
            y = np.rint(quotient).astype(np.float64)
            y = np.where(np.isnan(y), 0.0, y) + (0 if offset is None else offset)
        return [np.clip(y, low, high).astype(np.int32).astype(target)]

    def lower(self, ctx: Lowering) -> bool:
        x, (target,) = ctx.inputs[0], (o.dtype for o in ctx.outputs)
        if x is None or x.dtype != FLOAT32 or target not in (np.uint8, np.int8):
            return False
        if self.precision is not None and self.precision != FLOAT32:  # NumPy finds None equal to float64
            return False
        if not all(x.concrete) or self.block_size or not _float32_scale(ctx):
            return False
        return self._call(ctx, "quantize")


@dataclass(frozen=True)
class DequantizeLinear(_Scaling):
    """ONNX DequantizeLinear (10 to 28): ``(x - zero_point) * scale``, in the type of the scale or `output_dtype`."""

    op_type: ClassVar[str] = "DequantizeLinear"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> DequantizeLinear:
        return cls(**cls._common(node))

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, scale, zero = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type), spec_at(inputs, 2)
        if zero is not None and zero.dtype != x.dtype:
            raise InputError(
                "the zero point has another type than x",
                operator=self.op_type,
                tensor="x_zero_point",
                expected=x.dtype,
                received=zero.dtype,
            )
        self._check(inputs)
        return [TensorSpec(self.output_dtype or scale.dtype, x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, scale, zero = (*inputs, None)[:3]
        wide = x.astype(np.float64)  # which holds int32 less int32 exactly
        if zero is not None:
            wide = wide - self._laid_out(zero.astype(np.float64), x.shape, "x_zero_point")
        factor = self._laid_out(scale.astype(np.float64 if scale.dtype == np.float64 else np.float32), x.shape, "x_scale")
        y = wide.astype(factor.dtype) * factor
        return [np.asarray(y).astype(self.output_dtype or scale.dtype)]

    def lower(self, ctx: Lowering) -> bool:
        x, out = ctx.inputs[0], ctx.outputs[0]
        if x is None or x.dtype not in (np.uint8, np.int8) or out.dtype != FLOAT32 or not all(x.concrete):
            return False
        if self.block_size or not _float32_scale(ctx):
            return False
        return self._call(ctx, "dequantize")
