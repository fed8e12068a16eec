"""To and from quantised numbers: by scales and zero points that are given, or that follow from the values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .._kernels import RANGE_CHUNK
from ..errors import InputError, ModelError, ShapeError
from ..operator import Gives, Giving, Lowering, NodeRecord, Operand, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .cast import convert
from .common import FLOAT32, Specs, dtype_of, is_small, kind_of, normal_axis, required, spec_at
from .integer_conv import EIGHT_BITS
from .scales import OWN, Parameter, Quantity, Vetted

_LIMITS = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}
_TARGETS = ("uint8", "int8", "uint16", "int16", *_LIMITS)
"""Integers that floats are quantised to, beside the floats of 8 and 4 bits."""


def _limits(dtype: np.dtype) -> tuple[int, int]:
    if dtype.name in _LIMITS:
        return _LIMITS[dtype.name]
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _is_target(dtype: np.dtype) -> bool:
    return dtype.name in _TARGETS or (is_small(dtype) and kind_of(dtype) == "f" and dtype.itemsize == 1)


@dataclass(frozen=True)
class _Scaling(Vetted):
    """What both ways share: one scale for all, one per index of an axis, or one per block along it.

    Attributes
    ----------
    axis : int
    block_size : int
        0: no blocks.
    output_dtype : numpy.dtype, optional
    whole : bool
        Whether there is one scale for all and nothing else, as onnxruntime's operators on quantised tensors have it.
    """

    axis: int = 1
    block_size: int = 0
    output_dtype: np.dtype | None = None
    whole: bool = False

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

    def _aligned(self, given: tuple[int, ...], shape: tuple[int, ...], parameter: Parameter) -> tuple[int, ...] | None:
        """The shape by which parameters of shape `given` broadcast to `shape`; None for blocks."""
        if given in ((), (1,)) and not self.block_size:
            return ()
        axis = normal_axis(self.axis, len(shape), self.op_type)
        if not self.block_size:
            parameter.sized(given, shape[axis], f"index of axis {axis}")
            return (*given, *(1,) * (len(shape) - axis - 1))
        blocks = tuple(-(-n // self.block_size) if i == axis else n for i, n in enumerate(shape))
        if given != blocks:
            raise parameter.wrong(ShapeError, f"does not fit the blocks of {self.block_size} along axis {axis}", blocks, given)
        return None

    def _laid_out(self, value: np.ndarray, shape: tuple[int, ...], role: str) -> np.ndarray:
        """`value` so that it broadcasts to `shape`."""
        aligned = self._aligned(value.shape, shape, Parameter(self.op_type, role))
        if aligned is not None:
            return value.reshape(aligned)
        axis = normal_axis(self.axis, len(shape), self.op_type)
        return np.repeat(value, min(self.block_size, max(shape[axis], 1)), axis).take(range(shape[axis]), axis)

    def vet(self, inputs: Specs, names: Sequence[str] = ()) -> None:
        super().vet(inputs, names)
        x = spec_at(inputs, 0)
        for parameter, _ in self.quantities[0].parameters(self.op_type, names):
            spec = spec_at(inputs, parameter.place)
            if spec is None or not spec.is_concrete:
                continue
            if self.whole:
                parameter.sized(spec.concrete)
            if x is None or x.shape is None:
                continue
            several = self.block_size or spec.concrete not in ((), (1,))
            if several and not -len(x.shape) <= self.axis < len(x.shape):
                limits = f"axis from {-len(x.shape)} to {len(x.shape) - 1}"
                raise parameter.wrong(ShapeError, "is for an axis that there is not", limits, self.axis)
            if x.is_concrete:
                self._aligned(spec.concrete, x.concrete, parameter)

    def _call(self, ctx: Lowering, kernel: str) -> bool:
        """Add the call of the kernel: in planes where x is, else plain, unless who reads the result first wants the other."""
        x, y = ctx.inputs[0], ctx.outputs[0]
        assert x is not None
        axis = None
        numbers: list[Operand | None] = []
        for index in (1, 2):
            spec = spec_at(ctx.inputs, index)
            numbers.append(None if spec is None else ctx.plain(index))
            if spec is not None and self._aligned(spec.concrete, x.concrete, Parameter(self.op_type, "")):
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

    def _lowers(self, ctx: Lowering) -> bool:
        """Whether kernels take these parameters: what the network computes is looked at where it is, on the host."""
        x, scale, zero = ctx.inputs[0], ctx.const(1), spec_at(ctx.inputs, 2)
        if x is None or not all(x.concrete) or self.block_size or scale is None or scale.dtype != FLOAT32:
            return False
        return zero is None or ctx.const(2) is not None or zero.dtype in EIGHT_BITS


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
    quantities: ClassVar[tuple[Quantity, ...]] = (Quantity("y", None, 1, 2, OWN),)

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> QuantizeLinear:
        code = int(node.attribute("precision", 0))
        precision = dtype_of(code, operator=node.op_type, node=node.name) if code else None
        return cls(**cls._common(node), saturate=int(node.attribute("saturate", 1)), precision=precision)

    def vet(self, inputs: Specs, names: Sequence[str] = ()) -> None:
        zero = spec_at(inputs, 2)
        if zero is not None and kind_of(zero.dtype) != "V":
            parameter = Parameter(self.op_type, "y_zero_point", 2, names)
            parameter.typed(zero.dtype, self.output_dtype, "the output")
            if not _is_target(zero.dtype):
                raise parameter.wrong(InputError, "has the wrong dtype", "a type of quantised numbers", zero.dtype)
        super().vet(inputs, names)

    def _target(self, zero: np.dtype | None) -> np.dtype:
        target = zero if zero is not None else self.output_dtype or np.dtype(np.uint8)
        if not _is_target(target):
            raise InputError(
                "nothing is quantised to this type",
                operator=self.op_type,
                tensor="y",
                expected="a type of quantised numbers",
                received=target,
            )
        return target

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, zero = required(inputs, 0, self.op_type), spec_at(inputs, 2)
        if kind_of(x.dtype) not in "fi":
            raise InputError("cannot be quantised", operator=self.op_type, tensor="x", expected="floats", received=x.dtype)
        self.vet(inputs)
        return [TensorSpec(self._target(None if zero is None else zero.dtype), x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        self.vet_values((None, *inputs[1:]))
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
        if x is None or x.dtype != FLOAT32 or target not in EIGHT_BITS or not self._lowers(ctx):
            return False
        if self.precision is not None and self.precision != FLOAT32:  # NumPy finds None equal to float64
            return False
        return self._call(ctx, "quantize")


@dataclass(frozen=True)
class DequantizeLinear(_Scaling):
    """ONNX DequantizeLinear (10 to 28): ``(x - zero_point) * scale``, in the type of the scale or `output_dtype`."""

    op_type: ClassVar[str] = "DequantizeLinear"

    @property
    def quantities(self) -> tuple[Quantity, ...]:  # type: ignore[override]
        return (Quantity("x", 0, 1, 2, OWN, any_sign=self.block_size > 0),)

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> DequantizeLinear:
        return cls(**cls._common(node))

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, scale = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        if not _is_target(x.dtype) and x.dtype != np.int32:
            raise InputError(
                "holds no quantised numbers",
                operator=self.op_type,
                tensor="x",
                expected="integers or small floats",
                received=x.dtype,
            )
        self.vet(inputs)
        return [TensorSpec(self.output_dtype or scale.dtype, x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        self.vet_values(inputs)
        x, scale, zero = (*inputs, None)[:3]
        wide = x.astype(np.float64)  # which holds int32 less int32 exactly
        if zero is not None:
            wide = wide - self._laid_out(zero.astype(np.float64), x.shape, "x_zero_point")
        factor = self._laid_out(scale.astype(np.float64 if scale.dtype == np.float64 else np.float32), x.shape, "x_scale")
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            y = wide.astype(factor.dtype) * factor
            return [np.asarray(y).astype(self.output_dtype or scale.dtype)]

    def lower(self, ctx: Lowering) -> bool:
        x, out = ctx.inputs[0], ctx.outputs[0]
        if x is None or out.dtype != FLOAT32 or not self._lowers(ctx):
            return False
        if x.dtype in EIGHT_BITS:
            return self._call(ctx, "dequantize")
        zero = ctx.const(2) if spec_at(ctx.inputs, 2) is not None else np.zeros(1)
        if x.dtype != np.int32 or zero is None or zero.any():  # int32 less int32 has more bits than float32
            return False
        scale = required(ctx.inputs, 1, self.op_type).concrete
        shape = self._aligned(scale, x.concrete, Parameter(self.op_type, ""))
        wide = ctx.temp(x.concrete)
        ctx.call("cast", [ctx.plain(0)], [wide])
        ctx.call("binary", [wide, ctx.plain(1)], [ctx.out_plain()], op="mul", activation=None, b_shape=shape)
        return True


@dataclass(frozen=True)
class DynamicQuantizeLinear(Operator):
    """ONNX DynamicQuantizeLinear (11): x as uint8, by a scale and zero point that just hold its values and 0.

    Outputs are y, y_scale and y_zero_point. Where all of x is 0 the scale is 1.
    """

    op_type: ClassVar[str] = "DynamicQuantizeLinear"
    min_version: ClassVar[int] = 11
    widens: ClassVar[bool] = False
    gives: ClassVar[Giving] = (Gives(np.dtype(np.uint8)), Gives(FLOAT32, rank=0), Gives(np.dtype(np.uint8), rank=0))

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        if x.dtype != FLOAT32:
            raise InputError("has the wrong dtype", operator=self.op_type, tensor="x", expected="float32", received=x.dtype)
        return [TensorSpec(np.dtype(np.uint8), x.shape), TensorSpec(FLOAT32, ()), TensorSpec(np.dtype(np.uint8), ())]

    def reference(self, *inputs: Any) -> list[Any]:
        x: np.ndarray = inputs[0]
        with np.errstate(all="ignore"):
            low, high = np.minimum(np.min(x, initial=0), np.float32(0)), np.maximum(np.max(x, initial=0), np.float32(0))
            scale = np.float32((high - low) / np.float32(255))
            scale = np.float32(1) if high == low else scale
            zero = np.rint(np.clip((np.float32(0) - low) / scale, 0, 255))
            zero = np.float32(0) if np.isnan(zero) else zero
            y = np.rint(x / scale)
            y = np.clip(np.where(np.isnan(y), np.float32(0), y) + zero, 0, 255)
        return [y.astype(np.uint8), np.asarray(scale, np.float32), np.asarray(zero).astype(np.uint8)]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or x.dtype != FLOAT32 or not all(x.concrete):
            return False
        source = ctx.plain(0)
        found = ctx.temp((2 * -(-math.prod(x.concrete) // RANGE_CHUNK),))
        scale = ctx.out_plain(1) if ctx.wants(1) else ctx.temp(())
        zero = ctx.out_plain(2) if ctx.wants(2) else ctx.temp((), np.uint8)
        ctx.call("qrange", (source,), (found,))
        ctx.call("dynamic_scale", (found,), (scale, zero))
        if ctx.wants():
            ctx.call("quantize", (source, scale, zero), (ctx.out_any(),))
        return True
