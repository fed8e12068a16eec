"""Operators that join tensors and cut them: Concat, Split, Slice.

What later versions of an operator take as an input (axes, pads, sizes ...) earlier ones had as an attribute: the field
of that name holds the attribute and is None where the value comes as an input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError
from ..operator import ANY_RANK, EVERY, EXACT, SAME, Gives, Giving, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import Dim, TensorSpec
from .common import (
    Specs,
    as_ints,
    given_integers,
    integers,
    normal_axes,
    normal_axis,
    required,
    spec_at,
)
from .copies import along_channels, copy, in_planes, known_integers, movable, short_enough, strides_of


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
                ctx.call("copy_planes", (in_planes(ctx, i),), (target,), channels=channels, y_channel=at)
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
        split = as_ints(node.attribute("split")) if node.version < 13 else None
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
        split = given_integers(inputs, 1, self.split, self.op_type, "split")
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
        source = in_planes(ctx, 0) if blocked else ctx.plain(0)
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
        starts, ends = as_ints(node.attribute("starts")), as_ints(node.attribute("ends"))
        if starts is None or ends is None:
            raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected="starts and ends")
        return cls(starts, ends, as_ints(node.attribute("axes")))

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
        starts = given_integers(inputs, 1, self.starts, self.op_type, "starts")
        ends = given_integers(inputs, 2, self.ends, self.op_type, "ends")
        axes = given_integers(inputs, 3, self.axes, self.op_type, "axes")
        steps = given_integers(inputs, 4, None, self.op_type, "steps")
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
            ctx.call("copy_planes", (in_planes(ctx, 0),), (ctx.out_planes(),), channels=shape[1], x_channel=cut[1][0])
        else:
            strides = strides_of(x.concrete)
            first = sum(start * s for (start, _, _), s in zip(cut, strides, strict=True))
            x_strides = [step * s for (_, step, _), s in zip(cut, strides, strict=True)]
            copy(ctx, ctx.plain(0), ctx.out_plain(), shape, x_strides, strides_of(shape), first)
        return True
