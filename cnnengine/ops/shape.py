"""Operators that move, select or rename elements without computing: views, joins, slices, pads, casts and shape queries.

What later versions of an operator take as an input (axes, pads, sizes ...) earlier ones had as an attribute: the field
of that name holds the attribute and is None where the value comes as an input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError, UnsupportedOperatorError
from ..operator import ANY_RANK, EVERY, EXACT, SAME, Gives, Giving, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import Dim, TensorSpec
from .common import (
    INT64,
    broadcast_shape,
    code_of,
    dtype_of,
    integers,
    is_small,
    normal_axes,
    normal_axis,
    required,
    scalar,
    spec_at,
)
from .copies import along_channels, copy, known_integers, movable, pad_constant, pick, short_enough, strides_of

Specs = Sequence[TensorSpec | None]


def _ints(value: Any) -> tuple[int, ...] | None:
    return None if value is None else tuple(int(v) for v in value)


def _known(inputs: Specs, index: int, attribute: tuple[int, ...] | None, operator: str, tensor: str) -> tuple[int, ...] | None:
    """The attribute, or the known value of the input that replaced it; None where it is neither."""
    if attribute is not None:
        return attribute
    spec = spec_at(inputs, index)
    return None if spec is None or spec.value is None else integers(spec.value, operator, tensor)


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
class Reshape(Operator):
    """ONNX Reshape (1 to 25): 0 copies the input's extent (unless `allowzero`), one -1 takes what is left."""

    shape: tuple[int, ...] | None = None
    allowzero: int = 0

    op_type: ClassVar[str] = "Reshape"
    tolerance: ClassVar[str] = EXACT
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Reshape:
        shape = _ints(node.attribute("shape")) if node.version < 5 else None
        if node.version < 5 and shape is None:
            raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected="shape")
        return cls(shape, int(node.attribute("allowzero", 0)))

    def resolve(self, extents: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...]:
        """The output shape for an input of these extents."""
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
        wanted = _known(inputs, 1, self.shape, self.op_type, "shape")
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

    def lower(self, ctx: Lowering) -> bool:
        if not movable(ctx.inputs[0]) or not ctx.outputs[0].is_concrete:
            return False
        ctx.alias()
        return True


@dataclass(frozen=True)
class Flatten(Operator):
    """ONNX Flatten (1 to 25): a matrix, the axes before `axis` times the axes from it on."""

    axis: int = 1

    op_type: ClassVar[str] = "Flatten"
    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = (Gives(rank=2),)
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

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

    def lower(self, ctx: Lowering) -> bool:
        if not movable(ctx.inputs[0]) or not ctx.outputs[0].is_concrete:
            return False
        ctx.alias()
        return True


@dataclass(frozen=True)
class Transpose(Operator):
    """ONNX Transpose (1 to 25): axis i of the output is axis perm[i] of the input; reversed by default."""

    perm: tuple[int, ...] | None = None

    op_type: ClassVar[str] = "Transpose"
    tolerance: ClassVar[str] = EXACT
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

    def order(self, rank: int) -> tuple[int, ...]:
        """`perm` for this rank, checked."""
        if self.perm is None:
            return tuple(reversed(range(rank)))
        if sorted(self.perm) != list(range(rank)):
            raise ShapeError(
                "not a permutation of the axes",
                operator=self.op_type,
                tensor="perm",
                expected=f"0..{rank - 1}",
                received=self.perm,
            )
        return self.perm

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        if x.shape is None:
            return [TensorSpec(x.dtype, None if self.perm is None else (None,) * len(self.perm))]
        return [TensorSpec(x.dtype, tuple(x.shape[p] for p in self.order(len(x.shape))))]

    def reference(self, *inputs: Any) -> list[Any]:
        return [
            np.ascontiguousarray(inputs[0].transpose(self.order(inputs[0].ndim))).reshape(
                [inputs[0].shape[p] for p in self.order(inputs[0].ndim)]
            )
        ]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or not movable(x) or not short_enough(x.concrete):
            return False
        order = self.order(len(x.concrete))
        moved = [p for p in order if x.concrete[p] != 1]
        if moved == sorted(moved):
            ctx.alias()
            return True
        shape = [x.concrete[p] for p in order]
        strides = strides_of(x.concrete)
        copy(ctx, ctx.plain(0), ctx.out_plain(), shape, [strides[p] for p in order], strides_of(shape))
        return True


@dataclass(frozen=True)
class Squeeze(Operator):
    """ONNX Squeeze (1 to 25): drops axes of extent 1, all of them when no axes are given."""

    axes: tuple[int, ...] | None = None

    op_type: ClassVar[str] = "Squeeze"
    tolerance: ClassVar[str] = EXACT
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Squeeze:
        return cls(_ints(node.attribute("axes")) if node.version < 13 else None)

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
        axes = _known(inputs, 1, self.axes, self.op_type, "axes")
        unknown = axes is None and spec_at(inputs, 1) is not None
        if x.shape is None or unknown or (axes is None and not x.is_concrete):
            return [TensorSpec(x.dtype, None)]
        return [TensorSpec(x.dtype, self._shape(x.shape, axes))]

    def reference(self, *inputs: Any) -> list[Any]:
        axes = self.axes
        if axes is None and len(inputs) > 1 and inputs[1] is not None:
            axes = integers(inputs[1], self.op_type, "axes")
        return [inputs[0].reshape(self._shape(inputs[0].shape, axes))]

    def lower(self, ctx: Lowering) -> bool:
        if not movable(ctx.inputs[0]) or not ctx.outputs[0].is_concrete:
            return False
        ctx.alias()
        return True


@dataclass(frozen=True)
class Unsqueeze(Operator):
    """ONNX Unsqueeze (1 to 25): puts axes of extent 1 where the output has them."""

    axes: tuple[int, ...] | None = None

    op_type: ClassVar[str] = "Unsqueeze"
    tolerance: ClassVar[str] = EXACT
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Unsqueeze:
        axes = _ints(node.attribute("axes")) if node.version < 13 else None
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
        axes = _known(inputs, 1, self.axes, self.op_type, "axes")
        return [TensorSpec(x.dtype, None if x.shape is None or axes is None else self._shape(x.shape, axes))]

    def reference(self, *inputs: Any) -> list[Any]:
        axes = self.axes if self.axes is not None else integers(inputs[1], self.op_type, "axes")
        return [inputs[0].reshape(self._shape(inputs[0].shape, axes))]

    def lower(self, ctx: Lowering) -> bool:
        if not movable(ctx.inputs[0]) or not ctx.outputs[0].is_concrete:
            return False
        ctx.alias()
        return True


@dataclass(frozen=True)
class Concat(Operator):
    """ONNX Concat (1 to 13): joins tensors of one dtype along an axis; all other extents agree."""

    axis: int = 1

    op_type: ClassVar[str] = "Concat"
    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = (Gives(ranks=EVERY, alike=True),)
    elements: ClassVar[Sequence[int]] = EVERY
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Concat:
        axis = node.attribute("axis", 1 if node.version < 4 else None)
        if axis is None:
            raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected="axis")
        return cls(int(axis))

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        specs = [required(inputs, i, self.op_type) for i in range(max(len(inputs), 1))]
        for s in specs[1:]:
            if s.dtype != specs[0].dtype:
                raise InputError("the inputs differ in dtype", operator=self.op_type, expected=specs[0].dtype, received=s.dtype)
        shapes = [s.shape for s in specs if s.shape is not None]
        if len(shapes) < len(specs):
            return [TensorSpec(specs[0].dtype, None)]
        rank = len(shapes[0])
        axis = normal_axis(self.axis, rank, self.op_type)
        out: list[Dim] = list(shapes[0])
        for shape in shapes[1:]:
            if len(shape) != rank:
                raise ShapeError("the inputs differ in rank", operator=self.op_type, expected=shapes[0], received=shape)
            for i, (a, b) in enumerate(zip(out, shape, strict=True)):
                both = isinstance(a, int) and isinstance(b, int)
                if i == axis:
                    out[i] = a + b if isinstance(a, int) and isinstance(b, int) else None
                elif both and a != b:
                    raise ShapeError(f"axis {i} differs between the inputs", operator=self.op_type, expected=out, received=shape)
                elif not isinstance(a, int):
                    out[i] = b
        return [TensorSpec(specs[0].dtype, tuple(out))]

    def reference(self, *inputs: Any) -> list[Any]:
        self.infer([TensorSpec(x.dtype, x.shape) for x in inputs])
        return [np.concatenate(inputs, axis=self.axis)]

    def lower(self, ctx: Lowering) -> bool:
        specs = [s for s in ctx.inputs if s is not None]
        if not all(movable(s) and short_enough(s.concrete) for s in specs) or not ctx.outputs[0].is_concrete:
            return False
        out = ctx.outputs[0].concrete
        axis = normal_axis(self.axis, len(out), self.op_type)
        parts = [i for i, s in enumerate(specs) if 0 not in s.concrete]
        at = 0
        if along_channels(ctx, axis, parts) and parts:
            target = ctx.out_planes()
            for i in parts:
                channels = specs[i].concrete[1]
                ctx.call("copy_planes", (ctx.planes(i),), (target,), channels=channels, y_channel=at)
                at += channels
            return True
        target, strides = ctx.out_plain(), strides_of(out)
        for i in parts:
            shape = specs[i].concrete
            copy(ctx, ctx.plain(i), target, shape, strides_of(shape), strides, 0, at * strides[axis])
            at += shape[axis]
        return True


@dataclass(frozen=True)
class Split(Operator):
    """ONNX Split (1 to 18): pieces along an axis, by sizes or into equal parts.

    Attributes
    ----------
    axis : int
    split : tuple of int, optional
        The sizes, where they are an attribute.
    parts : int
        Number of outputs.
    uneven : bool
        Version 18 and later: equal parts whose last one may be smaller.
    """

    axis: int = 0
    split: tuple[int, ...] | None = None
    parts: int = 1
    uneven: bool = False

    op_type: ClassVar[str] = "Split"
    tolerance: ClassVar[str] = EXACT
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Split:
        parts = len(node.outputs)
        wanted = node.attribute("num_outputs")
        if wanted is not None and int(wanted) != parts:
            raise ModelError(
                "num_outputs and the outputs differ", node=node.name, operator=node.op_type, expected=int(wanted), received=parts
            )
        split = _ints(node.attribute("split")) if node.version < 13 else None
        return cls(int(node.attribute("axis", 0)), split, parts, node.version >= 18)

    def sizes(self, extent: int, split: Sequence[int] | None) -> tuple[int, ...]:
        """Extents of the outputs along the axis."""
        if split is None:
            part = -(-extent // self.parts)
            if self.uneven:
                sizes = tuple(max(min(part, extent - i * part), 0) for i in range(self.parts))
            else:
                sizes = (part,) * self.parts
        else:
            sizes = tuple(split)
        if len(sizes) != self.parts or any(s < 0 for s in sizes) or sum(sizes) != extent:
            raise ShapeError(
                "the pieces do not make up the axis",
                operator=self.op_type,
                tensor="split",
                expected=f"{self.parts} pieces, {extent} together",
                received=sizes,
            )
        return sizes

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        if x.shape is None:
            return [TensorSpec(x.dtype, None)] * self.parts
        axis = normal_axis(self.axis, len(x.shape), self.op_type)
        split = _known(inputs, 1, self.split, self.op_type, "split")
        extent = x.shape[axis]
        sizes: Sequence[Dim]
        if not isinstance(extent, int) or (split is None and spec_at(inputs, 1) is not None):
            sizes = split if split is not None else (None,) * self.parts
        else:
            sizes = self.sizes(extent, split)
        return [TensorSpec(x.dtype, (*x.shape[:axis], s, *x.shape[axis + 1 :])) for s in sizes]

    def reference(self, *inputs: Any) -> list[Any]:
        x = inputs[0]
        axis = normal_axis(self.axis, x.ndim, self.op_type)
        split = self.split
        if split is None and len(inputs) > 1 and inputs[1] is not None:
            split = integers(inputs[1], self.op_type, "split")
        return np.split(x, np.cumsum(self.sizes(x.shape[axis], split))[:-1], axis=axis)

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or not movable(x) or not short_enough(x.concrete) or not all(o.is_concrete for o in ctx.outputs):
            return False
        axis = normal_axis(self.axis, len(x.concrete), self.op_type)
        blocked = along_channels(ctx, axis, (0,)) and math.prod(x.concrete) > 0
        source = ctx.planes(0) if blocked else ctx.plain(0)
        strides, at = strides_of(x.concrete), 0
        for i, spec in enumerate(ctx.outputs):
            shape = spec.concrete
            if not ctx.wants(i):
                at += shape[axis]
                continue
            if blocked and shape[axis]:
                ctx.call("copy_planes", (source,), (ctx.out_planes(i),), channels=shape[axis], x_channel=at)
            else:
                copy(ctx, source, ctx.out_plain(i), shape, strides, strides_of(shape), at * strides[axis])
            at += shape[axis]
        return True


@dataclass(frozen=True)
class Slice(Operator):
    """ONNX Slice (1 to 13): every `step`-th element from start to before end, both clamped, per named axis."""

    starts: tuple[int, ...] | None = None
    ends: tuple[int, ...] | None = None
    axes: tuple[int, ...] | None = None

    op_type: ClassVar[str] = "Slice"
    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Slice:
        if node.version >= 10:
            return cls()
        starts, ends = _ints(node.attribute("starts")), _ints(node.attribute("ends"))
        if starts is None or ends is None:
            raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected="starts and ends")
        return cls(starts, ends, _ints(node.attribute("axes")))

    def resolve(
        self,
        extents: Sequence[int],
        starts: Sequence[int],
        ends: Sequence[int],
        axes: Sequence[int] | None,
        steps: Sequence[int] | None,
    ) -> list[tuple[int, int, int]]:
        """(first, step, count) for every axis of an input of these extents."""
        rank = len(extents)
        chosen = normal_axes(axes if axes is not None else range(len(starts)), rank, self.op_type)
        by = steps if steps is not None else (1,) * len(starts)
        if not len(starts) == len(ends) == len(chosen) == len(by):
            raise ShapeError(
                "starts, ends, axes and steps differ in length",
                operator=self.op_type,
                expected=len(starts),
                received=(len(ends), len(chosen), len(by)),
            )
        result = [(0, 1, n) for n in extents]
        for start, end, axis, step in zip(starts, ends, chosen, by, strict=True):
            if step == 0:
                raise ShapeError(
                    "a step of zero", operator=self.op_type, tensor="steps", expected="a step other than 0", received=tuple(by)
                )
            n = extents[axis]
            start, end = (v + n if v < 0 else v for v in (start, end))
            low, high = (0, n) if step > 0 else (-1, n - 1)
            start, end = min(max(start, max(low, 0)), max(high, 0)), min(max(end, low), high)
            count = max(0, -((start - end) // step)) if n else 0
            result[axis] = (start if count else 0, step, count)
        return result

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        if x.shape is None:
            return [TensorSpec(x.dtype, None)]
        starts = _known(inputs, 1, self.starts, self.op_type, "starts")
        ends = _known(inputs, 2, self.ends, self.op_type, "ends")
        axes = _known(inputs, 3, self.axes, self.op_type, "axes")
        steps = _known(inputs, 4, None, self.op_type, "steps")
        hidden = [i for i, v in ((3, axes), (4, steps)) if v is None and spec_at(inputs, i) is not None]
        if starts is None or ends is None or hidden:
            if 3 in hidden:
                return [TensorSpec(x.dtype, (None,) * len(x.shape))]
            count = required(inputs, 1, self.op_type)
            if axes is None:
                length = len(starts) if starts is not None else (count.shape[0] if count.shape else None)
                axes = tuple(range(length)) if isinstance(length, int) else tuple(range(len(x.shape)))
            cut = normal_axes(axes, len(x.shape), self.op_type)
            return [TensorSpec(x.dtype, tuple(None if i in cut else d for i, d in enumerate(x.shape)))]
        if not x.is_concrete:
            cut = normal_axes(axes if axes is not None else range(len(starts)), len(x.shape), self.op_type)
            full = self.resolve([d if isinstance(d, int) else 0 for d in x.shape], starts, ends, axes, steps)
            return [
                TensorSpec(
                    x.dtype,
                    tuple((full[i][2] if isinstance(d, int) else None) if i in cut else d for i, d in enumerate(x.shape)),
                )
            ]
        return [TensorSpec(x.dtype, tuple(c for _, _, c in self.resolve(x.concrete, starts, ends, axes, steps)))]

    def reference(self, *inputs: Any) -> list[Any]:
        x = inputs[0]
        given = [None if v is None else integers(v, self.op_type, "slice") for v in (*inputs[1:], None, None, None, None)]
        starts = self.starts if self.starts is not None else given[0]
        ends = self.ends if self.ends is not None else given[1]
        axes = self.axes if self.starts is not None else given[2]
        steps = None if self.starts is not None else given[3]
        if starts is None or ends is None:
            raise ModelError("a required input is absent", operator=self.op_type, expected="starts and ends")
        index = []
        for first, step, count in self.resolve(x.shape, starts, ends, axes, steps):
            last = first + step * count
            index.append(slice(first, last if last >= 0 else None, step) if count else slice(0, 0))
        return [x[tuple(index)]]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or not movable(x) or not short_enough(x.concrete):
            return False
        values = []
        for i, (attribute, tensor) in enumerate(
            ((self.starts, "starts"), (self.ends, "ends"), (self.axes, "axes"), (None, "steps")), 1
        ):
            known, value = known_integers(ctx, i, attribute, self.op_type, tensor)
            if not known:
                return False
            values.append(value)
        starts, ends, axes, steps = values
        if starts is None or ends is None:
            return False
        cut = self.resolve(x.concrete, starts, ends, axes, steps)
        shape = [count for _, _, count in cut]
        uncut = [i for i, (part, n) in enumerate(zip(cut, x.concrete, strict=True)) if part == (0, 1, n)]
        if len(uncut) == len(cut):
            ctx.same()
        elif set(range(len(cut))) - set(uncut) == {1} and cut[1][1] == 1 and along_channels(ctx, 1, (0,)) and 0 not in shape:
            ctx.call("copy_planes", (ctx.planes(0),), (ctx.out_planes(),), channels=shape[1], x_channel=cut[1][0])
        else:
            strides = strides_of(x.concrete)
            first = sum(start * s for (start, _, _), s in zip(cut, strides, strict=True))
            x_strides = [step * s for (_, step, _), s in zip(cut, strides, strict=True)]
            copy(ctx, ctx.plain(0), ctx.out_plain(), shape, x_strides, strides_of(shape), first)
        return True


@dataclass(frozen=True)
class Pad(Operator):
    """ONNX Pad (1 to 25): widens (or, by negative pads, crops) axes at both ends.

    Attributes
    ----------
    mode : {"constant", "reflect", "edge", "wrap"}
    pads : tuple of int, optional
        All begins, then all ends, where they are an attribute (before 11).
    value : float
        What constant mode writes, where it is an attribute (before 11).
    """

    mode: str = "constant"
    pads: tuple[int, ...] | None = None
    value: float = 0.0

    op_type: ClassVar[str] = "Pad"
    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = (0, 2)
    moves: ClassVar[bool] = True
    settings: ClassVar[bool] = True

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Pad:
        mode = node.attribute("mode", "constant")
        allowed = ("constant", "reflect", "edge") if node.version < 19 else ("constant", "reflect", "edge", "wrap")
        if mode not in allowed:
            raise ModelError("unknown mode", node=node.name, operator=node.op_type, expected=allowed, received=mode)
        if node.version >= 11:
            return cls(mode)
        name = "paddings" if node.version < 2 else "pads"
        pads = _ints(node.attribute(name))
        if pads is None:
            raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected=name)
        return cls(mode, pads, float(node.attribute("value", 0.0)))

    def resolve(self, rank: int, pads: Sequence[int], axes: Sequence[int] | None) -> list[tuple[int, int]]:
        """(begin, end) for every axis."""
        chosen = normal_axes(axes, rank, self.op_type) if axes is not None else tuple(range(rank))
        if len(pads) != 2 * len(chosen):
            raise ShapeError(
                "pads has the wrong length", operator=self.op_type, tensor="pads", expected=2 * len(chosen), received=tuple(pads)
            )
        result = [(0, 0)] * rank
        for i, axis in enumerate(chosen):
            result[axis] = (pads[i], pads[len(chosen) + i])
        return result

    def _check(self, extents: Sequence[int], widths: Sequence[tuple[int, int]]) -> tuple[int, ...]:
        out = []
        for i, (n, (b, e)) in enumerate(zip(extents, widths, strict=True)):
            kept = n + min(b, 0) + min(e, 0)
            if kept < 0 or -b > n or -e > n:
                raise ShapeError(
                    f"more is cropped than axis {i} has",
                    operator=self.op_type,
                    tensor="pads",
                    expected=f"at most {n}",
                    received=(b, e),
                )
            if self.mode != "constant" and max(b, e) > 0 and kept == 0:
                raise ShapeError(
                    f"axis {i} is empty: there is nothing to repeat",
                    operator=self.op_type,
                    expected="an extent >= 1",
                    received=tuple(extents),
                )
            out.append(n + b + e)
        return tuple(out)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        if x.shape is None:
            return [TensorSpec(x.dtype, None)]
        pads = _known(inputs, 1, self.pads, self.op_type, "pads")
        axes = _known(inputs, 3, None, self.op_type, "axes")
        if pads is None or (axes is None and spec_at(inputs, 3) is not None):
            return [TensorSpec(x.dtype, (None,) * len(x.shape))]
        widths = self.resolve(len(x.shape), pads, axes)
        if x.is_concrete:
            return [TensorSpec(x.dtype, self._check(x.concrete, widths))]
        return [
            TensorSpec(
                x.dtype,
                tuple(
                    d if (b, e) == (0, 0) else d + b + e if isinstance(d, int) else None
                    for d, (b, e) in zip(x.shape, widths, strict=True)
                ),
            )
        ]

    def reference(self, *inputs: Any) -> list[Any]:
        x, pads, value, axes = (*inputs, None, None, None)[:4]
        widths = self.resolve(
            x.ndim,
            self.pads if self.pads is not None else integers(pads, self.op_type, "pads"),
            None if axes is None else integers(axes, self.op_type, "axes"),
        )
        self._check(x.shape, widths)
        cut = tuple(slice(max(-b, 0), n - max(-e, 0)) for n, (b, e) in zip(x.shape, widths, strict=True))
        grow = [(max(b, 0), max(e, 0)) for b, e in widths]
        if self.mode != "constant":
            return [np.pad(x[cut], grow, mode=self.mode)]  # type: ignore[call-overload]
        fill = self.value if value is None else scalar(value, self.op_type, "constant_value")
        return [np.pad(x[cut], grow, constant_values=fill)]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or not movable(x) or not short_enough(x.concrete):
            return False
        known, pads = known_integers(ctx, 1, self.pads, self.op_type, "pads")
        axes_known, axes = known_integers(ctx, 3, None, self.op_type, "axes")
        value: Any = self.value
        if len(ctx.inputs) > 2 and ctx.inputs[2] is not None:
            constant = ctx.const(2)
            if constant is None:
                return False
            value = scalar(constant, self.op_type, "constant_value")
        if not known or not axes_known or pads is None:
            return False
        widths = self.resolve(len(x.concrete), pads, axes)
        out = self._check(x.concrete, widths)
        if not any(b or e for b, e in widths):
            ctx.same()
        elif self.mode == "constant" and value == 0 and self._stays_in_planes(ctx, x, widths):
            ctx.call("pad_planes", (ctx.planes(0),), (ctx.out_planes(),), pads=widths[2:])
        elif self.mode == "constant":
            pad_constant(ctx, ctx.plain(0), ctx.out_plain(), x.concrete, widths, value)
        elif 0 in out:
            ctx.out_plain()
        else:
            picks = {}
            for axis, (n, (b, e)) in enumerate(zip(x.concrete, widths, strict=True)):
                if b or e:
                    kept = np.arange(n)[max(-b, 0) : n - max(-e, 0)]
                    picks[axis] = np.pad(kept, (max(b, 0), max(e, 0)), mode=self.mode)  # type: ignore[call-overload]
            # pixels by index: a Resize whose weights are zero. Plain rows go item by item, slower than a reorder to planes
            pays = x.dtype == np.float32 and 3 <= len(out) <= 5 and 2 * out[1] >= ctx.lanes and len(out) - 1 in picks
            if min(picks) >= 2 and (pays or along_channels(ctx, 1, (0,))):
                every = [picks.get(axis, np.arange(x.concrete[axis])) for axis in range(2, len(out))]
                tables = [(at, at, np.zeros(len(at), np.float32)) for at in every]
                ctx.call("resize", (ctx.planes(0),), (ctx.out_planes(),), tables=tables)
                return True
            pick(ctx, ctx.plain(0), ctx.out_plain(), x.concrete, x.dtype, picks)
        return True

    @staticmethod
    def _stays_in_planes(ctx: Lowering, x: TensorSpec, widths: Sequence[tuple[int, int]]) -> bool:
        """Whether zeros around the pixels of what lies in planes are all that is asked for."""
        spatial = all(w == (0, 0) for w in widths[:2]) and all(min(w) >= 0 for w in widths) and 0 not in x.concrete
        return spatial and len(widths) > 2 and along_channels(ctx, 1, (0,))


@dataclass(frozen=True)
class Expand(Operator):
    """ONNX Expand (8, 13): broadcasts input and wanted shape against each other."""

    op_type: ClassVar[str] = "Expand"
    tolerance: ClassVar[str] = EXACT
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK
    settings: ClassVar[bool] = True

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, shape = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        if shape.value is None or not x.is_concrete:
            length = shape.shape[0] if shape.shape else None
            if not isinstance(length, int) or x.shape is None:
                return [TensorSpec(x.dtype, None)]
            return [TensorSpec(x.dtype, (None,) * max(length, len(x.shape)))]
        return [TensorSpec(x.dtype, broadcast_shape(x.concrete, integers(shape.value, self.op_type, "shape"), self.op_type))]

    def reference(self, *inputs: Any) -> list[Any]:
        x, shape = inputs
        return [np.array(np.broadcast_to(x, broadcast_shape(x.shape, integers(shape, self.op_type, "shape"), self.op_type)))]

    def lower(self, ctx: Lowering) -> bool:
        x, y = ctx.inputs[0], ctx.outputs[0]
        if x is None or not movable(x) or not y.is_concrete or not short_enough(y.concrete):
            return False
        out = y.concrete
        shape = (1,) * (len(out) - len(x.concrete)) + x.concrete
        if shape == out:
            ctx.alias()
            return True
        strides = [0 if n == 1 else s for n, s in zip(shape, strides_of(shape), strict=True)]
        copy(ctx, ctx.plain(0), ctx.out_plain(), out, strides, strides_of(out))
        return True


@dataclass(frozen=True)
class Tile(Operator):
    """ONNX Tile (1 to 13): repeats along every axis (version 1: along one, `tiles` times)."""

    single_axis: bool = False

    op_type: ClassVar[str] = "Tile"
    tolerance: ClassVar[str] = EXACT
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK
    settings: ClassVar[bool] = True

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Tile:
        return cls(node.version < 6)

    def repeats(self, rank: int, second: Any, third: Any) -> tuple[int, ...]:
        """How often each axis is repeated."""
        if self.single_axis:
            axis = normal_axis(int(scalar(third, self.op_type, "axis")), rank, self.op_type)
            return tuple(int(scalar(second, self.op_type, "tiles")) if i == axis else 1 for i in range(rank))
        result = integers(second, self.op_type, "repeats")
        if len(result) != rank or any(r < 0 for r in result):
            raise ShapeError(
                "repeats does not fit the input",
                operator=self.op_type,
                tensor="repeats",
                expected=f"{rank} numbers >= 0",
                received=result,
            )
        return result

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        specs = [required(inputs, i, self.op_type) for i in ((1, 2) if self.single_axis else (1,))]
        if x.shape is None:
            return [TensorSpec(x.dtype, None)]
        if any(s.value is None for s in specs):
            return [TensorSpec(x.dtype, (None,) * len(x.shape))]
        by = self.repeats(len(x.shape), specs[0].value, specs[-1].value)
        return [
            TensorSpec(
                x.dtype, tuple(d * r if isinstance(d, int) else d if r == 1 else None for d, r in zip(x.shape, by, strict=True))
            )
        ]

    def reference(self, *inputs: Any) -> list[Any]:
        return [np.tile(inputs[0], self.repeats(inputs[0].ndim, inputs[1], inputs[2] if len(inputs) > 2 else None))]

    def lower(self, ctx: Lowering) -> bool:
        x, y = ctx.inputs[0], ctx.outputs[0]
        if x is None or not movable(x) or not y.is_concrete:
            return False
        if x.concrete == y.concrete:
            ctx.same()
            return True
        if 0 in y.concrete:
            ctx.out_plain()
            return True
        by = [m // n for m, n in zip(y.concrete, x.concrete, strict=True)]
        shape = [v for pair in zip(by, x.concrete, strict=True) for v in pair]
        if not short_enough(shape):
            return False
        x_strides = [v for s in strides_of(x.concrete) for v in (0, s)]
        y_strides = [v for n, s in zip(x.concrete, strides_of(y.concrete), strict=True) for v in (n * s, s)]
        copy(ctx, ctx.plain(0), ctx.out_plain(), shape, x_strides, y_strides)
        return True


def _parse(text: Any) -> float:
    word = str(text).strip()
    return float({"INF": "inf", "+INF": "inf", "-INF": "-inf"}.get(word.upper(), word))


SATURATING = frozenset(("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"))


def convert(x: np.ndarray, dtype: np.dtype, saturate: bool = True, round_mode: str = "up") -> np.ndarray:
    """`x` as Cast gives it: truncated towards zero, bool by "not zero", numbers from and to text.

    `saturate` says whether numbers beyond the range of an 8-bit float become its largest one; `round_mode` is that of
    float8e8m0: "up", "down" or "nearest".
    """
    if x.dtype == dtype:
        return x
    for given in (x.dtype, dtype):
        if code_of(given) is None:
            raise UnsupportedOperatorError(
                "this element type is not supported", operator="Cast", expected="a NumPy dtype", received=given
            )
    if dtype.kind == "O":
        flat = [str(v) for v in x.reshape(-1)]
        out = np.empty(len(flat), object)
        out[:] = flat
        return out.reshape(x.shape)
    if x.dtype.kind == "O":
        if dtype.kind in "iu":
            values = [int(str(v)) for v in x.reshape(-1)]
        else:
            values = [_parse(v) for v in x.reshape(-1)]  # type: ignore[misc]
        return np.array(values).astype(dtype).reshape(x.shape)
    if dtype.name == "float8_e8m0fnu":
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_float8e8m0(x.astype(np.float32), saturate, round_mode)).astype(dtype)
    if is_small(x.dtype) and dtype.kind in "iub":
        x = x.astype(np.float32)  # of which NumPy has all conversions
    if saturate and dtype.name in SATURATING:
        import ml_dtypes

        limits = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call,unused-ignore]
        wide = x.astype(np.float64)
        return np.clip(wide, float(limits.min), float(limits.max)).astype(np.float32).astype(dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # out of range is undefined in ONNX, NaN to integer too
        return x.astype(dtype)


CASTABLE = tuple(np.dtype(t) for t in ("float32", "float64", "int32", "int64", "int8", "uint8", "bool"))


def lower_cast(ctx: Lowering, dtype: np.dtype) -> bool:
    """The kernel `cast` for the common dtypes; the others are left to the host."""
    x = ctx.inputs[0]
    if x is None or not movable(x):
        return False
    if x.dtype == dtype:
        ctx.same()
        return True
    if x.dtype not in CASTABLE or dtype not in CASTABLE:
        return False
    ctx.call("cast", (ctx.plain(0),), (ctx.out_plain(),))
    return True


def _round_mode(mode: Any, node: NodeRecord) -> str:
    if mode not in ("up", "down", "nearest"):
        raise ModelError(
            "an unknown round_mode", node=node.name, operator=node.op_type, expected="'up', 'down' or 'nearest'", received=mode
        )
    return str(mode)


@dataclass(frozen=True)
class Cast(Operator):
    """ONNX Cast (1 to 28) between all element types.

    Attributes
    ----------
    saturate : int
        For 8-bit floats: whether numbers out of range become the largest one (else NaN or infinite).
    round_mode : {"up", "down", "nearest"}
        For float8e8m0.
    """

    to: np.dtype
    saturate: int = 1
    round_mode: str = "up"

    op_type: ClassVar[str] = "Cast"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False
    light: ClassVar[int] = ANY_RANK

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Cast:
        to = node.attribute("to")
        if to is None:
            raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected="to")
        dtype = dtype_of(to, operator=node.op_type, node=node.name)
        return cls(dtype, int(node.attribute("saturate", 1)), _round_mode(node.attribute("round_mode", "up"), node))

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(self.to, required(inputs, 0, self.op_type).shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        return [convert(inputs[0], self.to, bool(self.saturate), self.round_mode)]

    def lower(self, ctx: Lowering) -> bool:
        return lower_cast(ctx, self.to)


@dataclass(frozen=True)
class CastLike(Operator):
    """ONNX CastLike (15 to 28): Cast to the second input's dtype."""

    saturate: int = 1
    round_mode: str = "up"

    op_type: ClassVar[str] = "CastLike"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> CastLike:
        return cls(int(node.attribute("saturate", 1)), _round_mode(node.attribute("round_mode", "up"), node))

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(required(inputs, 1, self.op_type).dtype, required(inputs, 0, self.op_type).shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        return [convert(inputs[0], inputs[1].dtype, bool(self.saturate), self.round_mode)]

    def lower(self, ctx: Lowering) -> bool:
        return ctx.inputs[1] is not None and lower_cast(ctx, ctx.inputs[1].dtype)


def _blocks(shape: tuple[int, ...], operator: str) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        raise ShapeError("the input must be (N, C, H, W)", operator=operator, expected="rank 4", received=shape)
    return shape


@dataclass(frozen=True)
class DepthToSpace(Operator):
    """ONNX DepthToSpace (1 to 13): channels become blocks of pixels, block index first (DCR) or channel first (CRD)."""

    blocksize: int
    mode: str = "DCR"

    op_type: ClassVar[str] = "DepthToSpace"
    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        n, c, h, w = _blocks(shape, self.op_type)
        b = self.blocksize
        if b < 1 or c % (b * b):
            raise ShapeError(
                "the channels do not divide", operator=self.op_type, expected=f"a multiple of {b}*{b} channels", received=shape
            )
        if self.mode not in ("DCR", "CRD"):
            raise ShapeError("unknown mode", operator=self.op_type, tensor="mode", expected=("DCR", "CRD"), received=self.mode)
        return (n, c // (b * b), h * b, w * b)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        return [TensorSpec(x.dtype, self._shape(x.concrete) if x.is_concrete else (None,) * 4)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, b = inputs[0], self.blocksize
        n, c, h, w = self._shape(x.shape)
        if self.mode == "DCR":
            blocks = x.reshape(n, b, b, c, h // b, w // b).transpose(0, 3, 4, 1, 5, 2)
        else:
            blocks = x.reshape(n, c, b, b, h // b, w // b).transpose(0, 1, 4, 2, 5, 3)
        return [blocks.reshape(n, c, h, w)]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or not movable(x):
            return False
        n, c, h, w = self._shape(x.concrete)
        b = self.blocksize
        split = (n, b, b, c, h // b, w // b) if self.mode == "DCR" else (n, c, b, b, h // b, w // b)
        order = (0, 3, 4, 1, 5, 2) if self.mode == "DCR" else (0, 1, 4, 2, 5, 3)
        shape, strides = [split[i] for i in order], strides_of(split)
        copy(ctx, ctx.plain(0), ctx.out_plain(), shape, [strides[i] for i in order], strides_of(shape))
        return True


@dataclass(frozen=True)
class SpaceToDepth(Operator):
    """ONNX SpaceToDepth (1 to 28): blocks of pixels become channels, block index first (DCR) or channel first (CRD)."""

    blocksize: int
    mode: str = "DCR"

    op_type: ClassVar[str] = "SpaceToDepth"
    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        n, c, h, w = _blocks(shape, self.op_type)
        b = self.blocksize
        if b < 1 or h % b or w % b:
            raise ShapeError(
                "the pixels do not divide", operator=self.op_type, expected=f"H and W multiples of {b}", received=shape
            )
        if self.mode not in ("DCR", "CRD"):
            raise ShapeError("unknown mode", operator=self.op_type, tensor="mode", expected=("DCR", "CRD"), received=self.mode)
        return (n, c * b * b, h // b, w // b)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        return [TensorSpec(x.dtype, self._shape(x.concrete) if x.is_concrete else (None,) * 4)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, b = inputs[0], self.blocksize
        n, c, h, w = self._shape(x.shape)
        order = (0, 3, 5, 1, 2, 4) if self.mode == "DCR" else (0, 1, 3, 5, 2, 4)
        return [x.reshape(n, c // (b * b), h, b, w, b).transpose(order).reshape(n, c, h, w)]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or not movable(x):
            return False
        n, c, h, w = self._shape(x.concrete)
        b = self.blocksize
        split = (n, c // (b * b), h, b, w, b)
        order = (0, 3, 5, 1, 2, 4) if self.mode == "DCR" else (0, 1, 3, 5, 2, 4)
        shape, strides = [split[i] for i in order], strides_of(split)
        copy(ctx, ctx.plain(0), ctx.out_plain(), shape, [strides[i] for i in order], strides_of(shape))
        return True
