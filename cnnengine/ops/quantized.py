"""Convolutions of 8-bit integers: ConvInteger and QLinearConv, exact in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError
from ..graph import TensorSpec
from ..records import dataclass
from .base import EXACT, NodeRecord, Operator
from .common import required, spec_at
from .conv import Conv

Specs = Sequence[TensorSpec | None]


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
