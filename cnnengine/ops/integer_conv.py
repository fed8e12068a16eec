"""Convolutions of 8-bit integers: sums are exact, in 32 bits where they are the result."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError
from ..operator import EXACT, Extents, Gives, Giving, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import Specs, required, spec_at
from .conv import Conv
from .scales import Quantity, Vetted

EIGHT_BITS = (np.dtype(np.uint8), np.dtype(np.int8))


def _by_channel(value: Any, rank: int) -> np.ndarray:
    """One number, or one per output channel, so that it broadcasts along axis 0 of weights of this rank."""
    array = np.asarray(value)
    return array.reshape(()) if array.size == 1 else array.reshape(-1, *(1,) * (rank - 1))


def requantized(sums: np.ndarray, ratio: np.ndarray, zero: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """``clamp(rint(float32(sums) * ratio) + zero)``: halves to even, NaN (a sum of 0 and an infinite ratio) to the zero point."""
    limits = np.iinfo(dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        y = np.rint(sums.astype(np.float32) * ratio).astype(np.float64)
    return np.asarray(np.clip(np.where(np.isnan(y), 0.0, y) + zero, limits.min, limits.max).astype(dtype))


@dataclass(frozen=True)
class _IntegerConv(Vetted):
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
            if spec.dtype not in EIGHT_BITS:
                raise InputError(
                    "has the wrong dtype", operator=self.op_type, tensor=name, expected="uint8 or int8", received=spec.dtype
                )
        self.vet(inputs)
        # float64 holds all sums of products of 8-bit integers exactly
        wide = np.dtype(np.float64)
        return self.conv.infer([TensorSpec(wide, x.shape), TensorSpec(wide, w.shape)])[0].concrete

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        return self.conv.multiply_adds((inputs[0], inputs[self.weights]) if inputs else (), outputs)

    def _sums(self, x: np.ndarray, x_zero: Any, w: np.ndarray, w_zero: Any) -> np.ndarray:
        wide_x, wide_w = x.astype(np.float64), w.astype(np.float64)
        if x_zero is not None:
            wide_x -= np.asarray(x_zero).reshape(())
        if w_zero is not None:
            wide_w -= _by_channel(w_zero, w.ndim)
        sums: np.ndarray = self.conv.reference(wide_x, wide_w)[0]
        return sums


@dataclass(frozen=True)
class ConvInteger(_IntegerConv):
    """ONNX ConvInteger (10): the convolution of 8-bit integers less their zero points, in int32, which wraps around."""

    op_type: ClassVar[str] = "ConvInteger"
    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = (Gives(np.dtype(np.int32), (0, 1), alike=True),)
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("x", 0, None, 2),
        Quantity("w", 1, None, 3, 0, "output channel"),
    )

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(np.dtype(np.int32), self._shape(inputs))]

    def reference(self, *inputs: Any) -> list[Any]:
        self.vet_values(inputs)
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
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("x", 0, 1, 2),
        Quantity("w", 3, 4, 5, 0, "output channel"),
        Quantity("y", None, 6, 7, types=EIGHT_BITS),
    )

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        weights, zero, bias = required(inputs, 3, self.op_type), required(inputs, 7, self.op_type), spec_at(inputs, 8)
        shape = self._shape(inputs)
        if bias is not None and bias.dtype != np.int32:
            raise InputError("has the wrong dtype", operator=self.op_type, tensor="B", expected="int32", received=bias.dtype)
        if bias is not None and bias.concrete != weights.concrete[:1]:
            raise ShapeError(
                "has the wrong shape", operator=self.op_type, tensor="B", expected=weights.concrete[:1], received=bias.shape
            )
        return [TensorSpec(zero.dtype, shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        self.vet_values(inputs)
        x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = (*inputs, None)[:9]
        sums = self._sums(x, x_zero, w, w_zero)
        if bias is not None:
            sums += bias.reshape(-1, *(1,) * (sums.ndim - 2))
        scales = [np.asarray(s).astype(np.float32) for s in (x_scale, w_scale, y_scale)]
        with np.errstate(over="ignore", under="ignore"):
            ratio = scales[0].reshape(()) * _by_channel(scales[1], w.ndim - 1) / scales[2].reshape(())
        return [requantized(sums, ratio, np.asarray(y_zero, np.float64).reshape(()), y_zero.dtype)]
