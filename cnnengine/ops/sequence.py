"""Sequences of tensors, as exporters write them for `split` and `chunk`: Python lists while running.

A sequence's TensorSpec has its elements' dtype and no shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ShapeError
from ..graph import TensorSpec
from .base import EXACT, Operator
from .common import integers, normal_axis, required, scalar

Specs = Sequence[TensorSpec | None]


@dataclass(frozen=True)
class SplitToSequence(Operator):
    """ONNX SplitToSequence (11, 24): pieces of one size (the last may be smaller), of listed sizes, or single slices."""

    axis: int = 0
    keepdims: int = 1

    op_type: ClassVar[str] = "SplitToSequence"
    tolerance: ClassVar[str] = EXACT

    def sizes(self, extent: int, split: Any) -> tuple[int, ...]:
        """Extents of the pieces along the axis; `split` None means single slices."""
        if split is None:
            return (1,) * extent
        given = integers(split, self.op_type, "split")
        if np.asarray(split).ndim == 0:
            if given[0] < 1:
                raise ShapeError(
                    "pieces must have an extent", operator=self.op_type, tensor="split", expected=">= 1", received=given[0]
                )
            return tuple(min(given[0], extent - i) for i in range(0, extent, given[0]))
        if any(s < 0 for s in given) or sum(given) != extent:
            raise ShapeError(
                "the pieces do not make up the axis",
                operator=self.op_type,
                tensor="split",
                expected=f"{extent} together",
                received=given,
            )
        return given

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(required(inputs, 0, self.op_type).dtype, None)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, split = inputs[0], inputs[1] if len(inputs) > 1 else None
        axis = normal_axis(self.axis, x.ndim, self.op_type)
        sizes = self.sizes(x.shape[axis], split)
        pieces = np.split(x, np.cumsum(sizes)[:-1], axis=axis) if sizes else []
        if split is None and not self.keepdims:
            pieces = [p.squeeze(axis) for p in pieces]
        return [pieces]


@dataclass(frozen=True)
class SequenceAt(Operator):
    """ONNX SequenceAt (11): the tensor at a position, counted from the end when negative."""

    op_type: ClassVar[str] = "SequenceAt"
    tolerance: ClassVar[str] = EXACT

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(required(inputs, 0, self.op_type).dtype, None)]

    def reference(self, *inputs: Any) -> list[Any]:
        items, position = inputs[0], int(scalar(inputs[1], self.op_type, "position"))
        if not -len(items) <= position < len(items):
            raise InputError(
                "the sequence has no such element",
                operator=self.op_type,
                tensor="position",
                expected=f"{-len(items)}..{len(items) - 1}",
                received=position,
            )
        return [items[position]]


@dataclass(frozen=True)
class SequenceConstruct(Operator):
    """ONNX SequenceConstruct (11): its inputs as a list."""

    op_type: ClassVar[str] = "SequenceConstruct"
    tolerance: ClassVar[str] = EXACT

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(required(inputs, 0, self.op_type).dtype, None)]

    def reference(self, *inputs: Any) -> list[Any]:
        return [list(inputs)]


@dataclass(frozen=True)
class SequenceLength(Operator):
    """ONNX SequenceLength (11): the number of elements."""

    op_type: ClassVar[str] = "SequenceLength"
    tolerance: ClassVar[str] = EXACT

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(np.dtype(np.int64), ())]

    def reference(self, *inputs: Any) -> list[Any]:
        return [np.array(len(inputs[0]), np.int64)]


@dataclass(frozen=True)
class ConcatFromSequence(Operator):
    """ONNX ConcatFromSequence (11): the elements joined along an axis, or along a new one."""

    axis: int
    new_axis: int = 0

    op_type: ClassVar[str] = "ConcatFromSequence"
    tolerance: ClassVar[str] = EXACT

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(required(inputs, 0, self.op_type).dtype, None)]

    def reference(self, *inputs: Any) -> list[Any]:
        items = inputs[0]
        if not items:
            raise InputError("the sequence is empty", operator=self.op_type, expected="at least one tensor", received=0)
        try:
            return [np.stack(items, self.axis) if self.new_axis else np.concatenate(items, self.axis)]
        except ValueError:  # numpy's AxisError too
            raise ShapeError(
                "the elements cannot be joined",
                operator=self.op_type,
                expected="equal extents on the other axes",
                received=[x.shape for x in items],
            ) from None
