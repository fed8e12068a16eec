"""Operators that make tensors larger: Pad, which may crop too, Expand, Tile.

What later versions of an operator take as an input (axes, pads, sizes ...) earlier ones had as an attribute: the field
of that name holds the attribute and is None where the value comes as an input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import ModelError, ShapeError
from ..operator import ANY_RANK, EXACT, SAME, Giving, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec, check_rank, check_size
from .common import (
    Specs,
    as_ints,
    broadcast_shape,
    given_integers,
    integers,
    normal_axes,
    normal_axis,
    required,
    scalar,
    spec_at,
)
from .copies import UINT8, along_channels, copy, in_planes, known_integers, movable, pad_constant, pick, short_enough, strides_of


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
        pads = as_ints(node.attribute(name))
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
        pads = given_integers(inputs, 1, self.pads, self.op_type, "pads")
        axes = given_integers(inputs, 3, None, self.op_type, "axes")
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
        elif self.mode == "constant" and (value == 0 or x.dtype == UINT8) and self._stays_in_planes(ctx, x, widths):
            ctx.call("pad_planes", (in_planes(ctx, 0),), (ctx.out_planes(),), pads=widths[2:], value=int(value))
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
                ctx.call("resize", (in_planes(ctx, 0),), (ctx.out_planes(),), tables=tables)
                return True
            pick(ctx, ctx.plain(0), ctx.out_plain(), x.concrete, x.dtype, picks)
        return True

    @staticmethod
    def _stays_in_planes(ctx: Lowering, x: TensorSpec, widths: Sequence[tuple[int, int]]) -> bool:
        """Whether one number around the pixels of what lies in planes is all that is asked for."""
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
        return [TensorSpec(x.dtype, self._shape(x.concrete, shape.value))]

    def _shape(self, extents: Sequence[int], wanted: Any) -> tuple[int, ...]:
        shape = integers(wanted, self.op_type, "shape")
        check_rank(len(shape), "shape")
        return broadcast_shape(extents, shape, self.op_type)

    def reference(self, *inputs: Any) -> list[Any]:
        x, wanted = inputs
        shape = self._shape(x.shape, wanted)
        check_size(shape, x.dtype)
        return [np.array(np.broadcast_to(x, shape))]

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
