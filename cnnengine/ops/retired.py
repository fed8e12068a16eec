"""Operators that ONNX had as experimental up to opset 9: files of 2017 and 2018 have them (tiny YOLOv2, what came of CoreML)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import ModelError, ShapeError
from ..operator import EXACT, Expansion, Gives, Giving, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from . import activation
from .cast import CastLike
from .common import required
from .copies import copy, movable, short_enough, strides_of
from .norm import BatchNormalization
from .pieces import Slice as _Slice


def needed(node: NodeRecord, *names: str) -> list[Any]:
    """Attributes that must be there, though the schemas do not say so."""
    for name in names:
        if name not in node.attributes:
            raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected=name)
    return [node.attributes[name] for name in names]


class Affine(Operator):
    """``alpha * x + beta``."""

    op_type: ClassVar[str] = "Affine"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        return activation.Affine(float(node.attribute("alpha", 1.0)), float(node.attribute("beta", 0.0)))


class Scale(Operator):
    """``scale * x``."""

    op_type: ClassVar[str] = "Scale"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        return activation.Affine(float(node.attribute("scale", 1.0)), 0.0)


class DynamicSlice(Operator):
    """Slice by inputs, as it became in opset 10."""

    op_type: ClassVar[str] = "DynamicSlice"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        return _Slice()


class ImageScaler(Operator):
    """``scale * x + bias`` with a bias for each channel: a BatchNormalization, which convolutions take in."""

    op_type: ClassVar[str] = "ImageScaler"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        bias = np.array(needed(into.record, "bias")[0], np.float32)
        x = into.input(0)
        scale = np.full(bias.shape, into.record.attribute("scale", 1.0), np.float32)
        values = (scale, bias, np.zeros_like(bias), np.ones_like(bias))
        parameters = [into.add(CastLike(), into.constant(v), x) for v in values]
        into.add(BatchNormalization(epsilon=0.0), x, *parameters, outputs=into.record.outputs)
        return True


def scaled(into: Expansion, function: Operator, alpha: float, beta: float, x: str) -> None:
    """``alpha * function(beta * x)``, the last nodes of an expansion."""
    inner = into.add(function, into.add(activation.Affine(beta, 0.0), x))
    into.add(activation.Affine(alpha, 0.0), inner, outputs=into.record.outputs)


class ParametricSoftplus(Operator):
    """``alpha * log(1 + exp(beta * x))``."""

    op_type: ClassVar[str] = "ParametricSoftplus"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        alpha, beta = needed(into.record, "alpha", "beta")
        scaled(into, activation.Softplus(), alpha, beta, into.input(0))
        return True


class ScaledTanh(Operator):
    """``alpha * tanh(beta * x)``."""

    op_type: ClassVar[str] = "ScaledTanh"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        alpha, beta = needed(into.record, "alpha", "beta")
        scaled(into, activation.Tanh(), alpha, beta, into.input(0))
        return True


@dataclass(frozen=True)
class Crop(Operator):
    """Images (N, C, H, W) without a border of so many pixels at the left, top, right and bottom.

    Attributes
    ----------
    border : (left, top, right, bottom)
    scale : (height, width), optional
        The extents of what is kept, from the left and top border on: right and bottom do not count then.
    """

    op_type: ClassVar[str] = "Crop"
    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = (Gives(rank=4),)
    border: tuple[int, ...]
    scale: tuple[int, ...] | None = None

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        border, scale = tuple(needed(node, "border")[0]), node.attribute("scale")
        if len(border) != 4 or min(border) < 0:
            raise ModelError("a border has four sides", node=node.name, operator="Crop", expected="4 extents", received=border)
        if scale is not None and (len(scale) != 2 or min(scale) < 0):
            raise ModelError("a scale is (height, width)", node=node.name, operator="Crop", expected="2 extents", received=scale)
        return cls(border, None if scale is None else tuple(scale))

    def _place(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """top, left, height and width."""
        if len(shape) != 4:
            raise ShapeError("needs images", operator="Crop", tensor="input", expected="(N, C, H, W)", received=shape)
        left, top, right, bottom = self.border
        height, width = self.scale or (shape[2] - top - bottom, shape[3] - left - right)
        if min(height, width) < 0 or top + height > shape[2] or left + width > shape[3]:
            raise ShapeError(
                "there is not so much to crop",
                operator="Crop",
                tensor="input",
                expected=f"room for border {self.border}, scale {self.scale}",
                received=shape,
            )
        return top, left, height, width

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x = required(inputs, 0, "Crop")
        return [TensorSpec(x.dtype, (*x.concrete[:2], *self._place(x.concrete)[2:]))]

    def reference(self, *inputs: Any) -> list[Any]:
        x: np.ndarray = inputs[0]
        top, left, height, width = self._place(x.shape)
        return [x[:, :, top : top + height, left : left + width].copy()]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or not movable(x) or not short_enough(x.concrete):
            return False
        top, left, *_ = self._place(x.concrete)
        shape, strides = ctx.outputs[0].concrete, strides_of(x.concrete)
        copy(ctx, ctx.plain(0), ctx.out_plain(), shape, strides, strides_of(shape), top * strides[2] + left)
        return True
