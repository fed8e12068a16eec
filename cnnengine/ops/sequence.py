"""Sequences of tensors, Python lists while running, and optional values, which may be None.

A sequence's TensorSpec has its elements' dtype and no shape. Nodes that read or make one run on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError
from ..operator import EXACT, SAME, Gives, Giving, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import FLOAT32, Specs, dtype_of, integers, normal_axis, required, scalar, spec_at
from .pieces import Slice


@dataclass(frozen=True)
class SplitToSequence(Operator):
    """ONNX SplitToSequence (11, 24): pieces of one size (the last may be smaller), of listed sizes, or single slices."""

    axis: int = 0
    keepdims: int = 1

    op_type: ClassVar[str] = "SplitToSequence"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False

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

    def outline(self, inputs: Specs) -> list[TensorSpec]:
        return [(Gives() if self.keepdims else Gives(ranks=())).of(inputs)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, split = inputs[0], inputs[1] if len(inputs) > 1 else None
        axis = normal_axis(self.axis, x.ndim, self.op_type)
        if isinstance(split, np.ndarray) and split.ndim > 1:
            raise ShapeError("must be a scalar or a list", operator=self.op_type, tensor="split", received=split.shape)
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
    widens: ClassVar[bool] = False
    gives: ClassVar[Giving] = SAME

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
class Piece(Slice):
    """The piece at a position of SplitToSequence into pieces of one size: a Slice that must not lie past the end.

    Attributes
    ----------
    position, size : int
        From 0 on, and above 0.
    """

    position: int = 0
    size: int = 1

    @classmethod
    def of(cls, axis: int, position: int, size: int) -> Piece:
        start = position * size
        return cls((start,), (start + size,), (axis,), position, size)

    def _check(self, shape: Sequence[Any]) -> None:
        assert self.axes is not None
        extent = shape[normal_axis(self.axes[0], len(shape), SplitToSequence.op_type)]
        count = -(-extent // self.size) if isinstance(extent, int) else self.position + 1
        if self.position >= count:
            raise InputError(
                "the sequence has no such element",
                operator=SequenceAt.op_type,
                tensor="position",
                expected=f"{-count}..{count - 1}",
                received=self.position,
            )

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        if x.shape is not None:
            self._check(x.shape)
        return super().infer(inputs)

    def reference(self, *inputs: Any) -> list[Any]:
        self._check(np.shape(inputs[0]))
        return super().reference(*inputs)


@dataclass(frozen=True)
class SequenceConstruct(Operator):
    """ONNX SequenceConstruct (11): its inputs as a list."""

    op_type: ClassVar[str] = "SequenceConstruct"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(required(inputs, 0, self.op_type).dtype, None)]

    def reference(self, *inputs: Any) -> list[Any]:
        return [list(inputs)]


@dataclass(frozen=True)
class SequenceLength(Operator):
    """ONNX SequenceLength (11): the number of elements."""

    op_type: ClassVar[str] = "SequenceLength"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False

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
    widens: ClassVar[bool] = False

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(required(inputs, 0, self.op_type).dtype, None)]

    def outline(self, inputs: Specs) -> list[TensorSpec]:
        x = Gives().of(inputs)
        return [TensorSpec(x.dtype, x.shape if x.shape is None or not self.new_axis else (None, *x.shape))]

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


def _items(value: Any, operator: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(
            "must be a sequence", operator=operator, tensor="input_sequence", expected="a list", received=type(value).__name__
        )
    return value


@dataclass(frozen=True)
class SequenceEmpty(Operator):
    """ONNX SequenceEmpty (11): no elements, of float32 by default."""

    dtype: np.dtype = FLOAT32

    op_type: ClassVar[str] = "SequenceEmpty"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> SequenceEmpty:
        return cls(dtype_of(node.attribute("dtype", 1), operator=node.op_type, node=node.name))

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(self.dtype, None)]

    def reference(self, *inputs: Any) -> list[Any]:
        return [[]]


@dataclass(frozen=True)
class SequenceInsert(Operator):
    """ONNX SequenceInsert (11): the sequence with a tensor before a position, at its end when none is given."""

    op_type: ClassVar[str] = "SequenceInsert"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(required(inputs, 1, self.op_type).dtype, None)]

    def reference(self, *inputs: Any) -> list[Any]:
        items, tensor = list(_items(inputs[0], self.op_type)), inputs[1]
        if items and items[0].dtype != tensor.dtype:
            raise InputError(
                "the elements differ in dtype", operator=self.op_type, expected=items[0].dtype, received=tensor.dtype
            )
        position = len(items)
        if len(inputs) > 2 and inputs[2] is not None:
            position = int(scalar(inputs[2], self.op_type, "position"))
            if not -len(items) <= position <= len(items):
                raise InputError(
                    "the sequence has no such position",
                    operator=self.op_type,
                    tensor="position",
                    expected=f"{-len(items)}..{len(items)}",
                    received=position,
                )
        items.insert(position, tensor)
        return [items]


@dataclass(frozen=True)
class SequenceErase(Operator):
    """ONNX SequenceErase (11): the sequence without the element at a position, the last when none is given."""

    op_type: ClassVar[str] = "SequenceErase"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(required(inputs, 0, self.op_type).dtype, None)]

    def reference(self, *inputs: Any) -> list[Any]:
        items = list(_items(inputs[0], self.op_type))
        position = int(scalar(inputs[1], self.op_type, "position")) if len(inputs) > 1 and inputs[1] is not None else -1
        if not -len(items) <= position < len(items):
            raise InputError(
                "the sequence has no such element",
                operator=self.op_type,
                tensor="position",
                expected=f"{-len(items)}..{len(items) - 1}",
                received=position,
            )
        del items[position]
        return [items]


@dataclass(frozen=True)
class Optional(Operator):
    """ONNX Optional (15): its input as an optional value, or one without an element."""

    op_type: ClassVar[str] = "Optional"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False
    gives: ClassVar[Giving] = SAME

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Optional:
        if not any(node.inputs) and "type" not in node.attributes:
            raise ModelError("says neither value nor type", node=node.name, operator=node.op_type, expected="an input or a type")
        return cls()

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = spec_at(inputs, 0)
        return [TensorSpec(FLOAT32 if x is None else x.dtype, None)]

    def reference(self, *inputs: Any) -> list[Any]:
        return [inputs[0] if inputs else None]


@dataclass(frozen=True)
class OptionalHasElement(Operator):
    """ONNX OptionalHasElement (15 to 28): whether there is a value; no input at all means no."""

    op_type: ClassVar[str] = "OptionalHasElement"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = spec_at(inputs, 0)
        if x is None or x.is_concrete:
            return [TensorSpec.of(np.array(x is not None))]
        return [TensorSpec(np.dtype(np.bool_), ())]

    def reference(self, *inputs: Any) -> list[Any]:
        return [np.array(bool(inputs) and inputs[0] is not None)]


@dataclass(frozen=True)
class OptionalGetElement(Operator):
    """ONNX OptionalGetElement (15 to 28): the value, which must be there; tensors and sequences pass as they are."""

    op_type: ClassVar[str] = "OptionalGetElement"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [required(inputs, 0, self.op_type)]

    def reference(self, *inputs: Any) -> list[Any]:
        if inputs[0] is None:
            raise InputError("there is no element", operator=self.op_type, tensor="input", expected="a value", received=None)
        return [inputs[0]]
