"""Operators that give a tensor as it is, under another shape, or its shape.

What later versions of an operator take as an input (axes, pads, sizes ...) earlier ones had as an attribute: the field
of that name holds the attribute and is None where the value comes as an input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError, UnsupportedOperatorError
from ..operator import ANY_RANK, EXACT, SAME, Gives, Giving, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import Dim, TensorSpec, check_rank
from .common import (
    INT64,
    Specs,
    as_ints,
    given_integers,
    integers,
    normal_axes,
    required,
    scalar,
    spec_at,
)
from .copies import movable


@dataclass(frozen=True)
class Identity(Operator):
    """ONNX Identity (1 to 25): the input as it is, tensors and sequences alike."""

    op_type: ClassVar[str] = "Identity"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [required(inputs, 0, self.op_type)]

    def reference(self, *inputs: Any) -> list[Any]:
        return [inputs[0]]

    def lower(self, ctx: Lowering) -> bool:
        if not movable(ctx.inputs[0]):
            return False
        ctx.same()
        return True


@dataclass(frozen=True)
class Dropout(Operator):
    """ONNX Dropout (1 to 22): the input as it is, and a mask of ones; in training mode, with a seed, elements are dropped.

    Which ones the specification leaves open: they are those of ONNX's own cases, by NumPy's Mersenne Twister.

    Attributes
    ----------
    mask : {"", "same", "bool"}
        Whether the mask is asked for: before version 10 it has the input's dtype.
    seed : int, optional
        From version 12 on. Without one, dropping is refused: its result would differ from run to run.
    """

    mask: str = ""
    seed: int | None = None

    op_type: ClassVar[str] = "Dropout"
    tolerance: ClassVar[str] = EXACT
    moves: ClassVar[bool] = True

    @property
    def gives(self) -> Giving:  # type: ignore[override]
        return SAME if not self.mask else (Gives(), Gives(0 if self.mask == "same" else np.dtype(np.bool_)))

    @property
    def elements(self) -> Sequence[int]:  # type: ignore[override]
        return () if self.mask else (0,)

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Dropout:
        seed = node.attribute("seed")
        given = None if seed is None else int(seed)
        if len(node.outputs) < 2 or not node.outputs[1]:
            return cls("", given)
        return cls("same" if node.version < 10 else "bool", given)

    def _dropping(self, ratio: Any, mode: Any) -> float:
        """The share of the elements that is dropped: 0 unless training; raises where there is no seed."""
        if mode is None or not bool(np.asarray(mode).any()):
            return 0.0
        share = 0.5 if ratio is None else float(scalar(ratio, self.op_type, "ratio"))
        if not 0 <= share < 1:
            raise InputError("must be from 0 to 1", operator=self.op_type, tensor="ratio", expected="[0, 1)", received=share)
        if share and self.seed is None:
            raise UnsupportedOperatorError(
                "dropping at random is training", operator=self.op_type, tensor="training_mode", expected=False, received=True
            )
        return share

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        ratio, mode = spec_at(inputs, 1), spec_at(inputs, 2)
        if mode is not None and mode.value is not None and (ratio is None or ratio.value is not None):
            self._dropping(None if ratio is None else ratio.value, mode.value)
        if not self.mask:
            return [TensorSpec(x.dtype, x.shape)]
        return [TensorSpec(x.dtype, x.shape), TensorSpec(x.dtype if self.mask == "same" else np.dtype(np.bool_), x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, ratio, mode = (*inputs, None, None)[:3]
        share = self._dropping(ratio, mode)
        keep = np.ones(x.shape, np.bool_)
        if share:
            keep = np.random.RandomState(self.seed).uniform(0, 1, x.shape) >= share
            x = (keep * x.astype(np.float64) / (1 - share)).astype(x.dtype)
        return [x, keep.astype(x.dtype if self.mask == "same" else np.bool_)] if self.mask else [x]

    def lower(self, ctx: Lowering) -> bool:
        if not movable(ctx.inputs[0]):
            return False
        for i, spec in enumerate(ctx.inputs[1:], 1):
            if spec is not None and ctx.const(i) is None:
                return False
        if self._dropping(*(ctx.const(i) if i < len(ctx.inputs) and ctx.inputs[i] is not None else None for i in (1, 2))):
            return False
        ctx.same()
        if self.mask:
            ctx.call("fill", (), (ctx.out_plain(1),), value=1)
        return True


@dataclass(frozen=True)
class Shape(Operator):
    """ONNX Shape (1 to 25): the extents from axis `start` to before axis `end`, both clamped."""

    start: int = 0
    end: int | None = None

    op_type: ClassVar[str] = "Shape"
    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = (Gives(INT64, rank=1),)
    light: ClassVar[int] = ANY_RANK

    def _cut(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(shape[slice(self.start, self.end)])

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        if x.shape is None:
            return [TensorSpec(INT64, (None,))]
        part = self._cut(x.shape)
        if all(isinstance(d, int) for d in part):
            return [TensorSpec.of(np.array(part, np.int64))]
        return [TensorSpec(INT64, (len(part),))]

    def reference(self, *inputs: Any) -> list[Any]:
        return [np.array(self._cut(inputs[0].shape), np.int64)]


@dataclass(frozen=True)
class Size(Operator):
    """ONNX Size (1 to 25): the number of elements."""

    op_type: ClassVar[str] = "Size"
    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = (Gives(INT64, rank=0),)
    light: ClassVar[int] = ANY_RANK

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        return [TensorSpec.of(np.array(math.prod(x.concrete), np.int64)) if x.is_concrete else TensorSpec(INT64, ())]

    def reference(self, *inputs: Any) -> list[Any]:
        return [np.array(inputs[0].size, np.int64)]


@dataclass(frozen=True)
class _View(Operator):
    """What gives the elements of its first input, in their order, under another shape."""

    tolerance: ClassVar[str] = EXACT
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

    def lower(self, ctx: Lowering) -> bool:
        if not movable(ctx.inputs[0]) or not ctx.outputs[0].is_concrete:
            return False
        ctx.alias()
        return True


@dataclass(frozen=True)
class Reshape(_View):
    """ONNX Reshape (1 to 25): 0 copies the input's extent (unless `allowzero`), one -1 takes what is left."""

    shape: tuple[int, ...] | None = None
    allowzero: int = 0

    op_type: ClassVar[str] = "Reshape"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Reshape:
        shape = as_ints(node.attribute("shape")) if node.version < 5 else None
        if node.version < 5 and shape is None:
            raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected="shape")
        return cls(shape, int(node.attribute("allowzero", 0)))

    def resolve(self, extents: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...]:
        """The output shape for an input of these extents."""
        check_rank(len(wanted), "shape")
        shape = list(wanted)
        for i, d in enumerate(shape):
            if d == 0 and not self.allowzero:
                if i >= len(extents):
                    raise ShapeError(
                        "0 copies an extent that the input does not have",
                        operator=self.op_type,
                        tensor="shape",
                        expected=f"at most {len(extents)} axes to copy",
                        received=tuple(wanted),
                    )
                shape[i] = extents[i]
        total = math.prod(extents)
        if shape.count(-1) > 1 or any(d < -1 for d in shape) or (self.allowzero and -1 in shape and 0 in shape):
            raise ShapeError(
                "not a shape", operator=self.op_type, tensor="shape", expected="extents, at most one -1", received=tuple(wanted)
            )
        if -1 in shape:
            rest = math.prod(d for d in shape if d != -1)
            if rest == 0 or total % rest:
                raise ShapeError(
                    "the elements do not fit",
                    operator=self.op_type,
                    expected=f"a multiple of {rest} elements",
                    received=tuple(extents),
                )
            shape[shape.index(-1)] = total // rest
        if math.prod(shape) != total:
            raise ShapeError(
                "the elements do not fit",
                operator=self.op_type,
                expected=f"{math.prod(shape)} elements for {tuple(wanted)}",
                received=f"{total} of {tuple(extents)}",
            )
        return tuple(shape)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        wanted = given_integers(inputs, 1, self.shape, self.op_type, "shape")
        if wanted is None:
            spec = required(inputs, 1, self.op_type)
            rank = spec.shape[0] if spec.shape else None
            return [TensorSpec(x.dtype, (None,) * rank if isinstance(rank, int) else None)]
        if not x.is_concrete:
            return [TensorSpec(x.dtype, tuple(d if d > 0 else None for d in wanted))]
        return [TensorSpec(x.dtype, self.resolve(x.concrete, wanted))]

    def reference(self, *inputs: Any) -> list[Any]:
        x = inputs[0]
        wanted = self.shape if self.shape is not None else integers(inputs[1], self.op_type, "shape")
        return [x.reshape(self.resolve(x.shape, wanted))]


@dataclass(frozen=True)
class Flatten(_View):
    """ONNX Flatten (1 to 25): a matrix, the axes before `axis` times the axes from it on."""

    axis: int = 1

    op_type: ClassVar[str] = "Flatten"
    gives: ClassVar[Giving] = (Gives(rank=2),)

    def _shape(self, extents: Sequence[Dim]) -> tuple[Dim, ...]:
        rank = len(extents)
        if not -rank <= self.axis <= rank:
            raise ShapeError(
                "there is no such axis", operator=self.op_type, tensor="axis", expected=f"{-rank}..{rank}", received=self.axis
            )
        cut = self.axis + rank if self.axis < 0 else self.axis
        halves = ([d for d in part if isinstance(d, int)] for part in (extents[:cut], extents[cut:]))
        lengths = (cut, rank - cut)
        return tuple(math.prod(known) if len(known) == n else None for known, n in zip(halves, lengths, strict=True))

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        return [TensorSpec(x.dtype, (None, None) if x.shape is None else self._shape(x.shape))]

    def reference(self, *inputs: Any) -> list[Any]:
        return [inputs[0].reshape(self._shape(inputs[0].shape))]


@dataclass(frozen=True)
class Squeeze(_View):
    """ONNX Squeeze (1 to 25): drops axes of extent 1, all of them when no axes are given."""

    axes: tuple[int, ...] | None = None

    op_type: ClassVar[str] = "Squeeze"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Squeeze:
        return cls(as_ints(node.attribute("axes")) if node.version < 13 else None)

    def _shape(self, extents: Sequence[Dim], axes: tuple[int, ...] | None) -> tuple[Dim, ...]:
        if axes is None:
            return tuple(d for d in extents if d != 1)
        drop = normal_axes(axes, len(extents), self.op_type)
        for a in drop:
            if isinstance(extents[a], int) and extents[a] != 1:
                raise ShapeError(
                    f"axis {a} cannot be dropped", operator=self.op_type, expected="an extent of 1", received=tuple(extents)
                )
        return tuple(d for i, d in enumerate(extents) if i not in drop)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        axes = given_integers(inputs, 1, self.axes, self.op_type, "axes")
        unknown = axes is None and spec_at(inputs, 1) is not None
        if x.shape is None or unknown or (axes is None and not x.is_concrete):
            return [TensorSpec(x.dtype, None)]
        return [TensorSpec(x.dtype, self._shape(x.shape, axes))]

    def reference(self, *inputs: Any) -> list[Any]:
        axes = self.axes
        if axes is None and len(inputs) > 1 and inputs[1] is not None:
            axes = integers(inputs[1], self.op_type, "axes")
        return [inputs[0].reshape(self._shape(inputs[0].shape, axes))]


@dataclass(frozen=True)
class Unsqueeze(_View):
    """ONNX Unsqueeze (1 to 25): puts axes of extent 1 where the output has them."""

    axes: tuple[int, ...] | None = None

    op_type: ClassVar[str] = "Unsqueeze"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Unsqueeze:
        axes = as_ints(node.attribute("axes")) if node.version < 13 else None
        if node.version < 13 and axes is None:
            raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected="axes")
        return cls(axes)

    def _shape(self, extents: Sequence[Dim], axes: tuple[int, ...]) -> tuple[Dim, ...]:
        rank = len(extents) + len(axes)
        new = normal_axes(axes, rank, self.op_type)
        rest = iter(extents)
        return tuple(1 if i in new else next(rest) for i in range(rank))

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        axes = given_integers(inputs, 1, self.axes, self.op_type, "axes")
        return [TensorSpec(x.dtype, None if x.shape is None or axes is None else self._shape(x.shape, axes))]

    def reference(self, *inputs: Any) -> list[Any]:
        axes = self.axes if self.axes is not None else integers(inputs[1], self.op_type, "axes")
        return [inputs[0].reshape(self._shape(inputs[0].shape, axes))]
