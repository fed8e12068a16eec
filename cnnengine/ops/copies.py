"""Lowering of operators that only move values to the kernels copy_nd, copy_planes, fill and gather."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from .._kernels import INDEX_CHUNK
from ..operator import Lowering, Operand
from ..spec import TensorSpec
from .common import FLOAT32, INT64, integers

UINT8 = np.dtype(np.uint8)

MAX_AXES = 9
"""Axes that copy_nd takes."""

NUMBERS = frozenset(
    np.dtype(t) for t in ("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
)
"""Types of numbers that kernels compare and read places from."""


def strides_of(shape: Sequence[int]) -> tuple[int, ...]:
    """C strides in items."""
    return tuple(itertools.accumulate(reversed(shape[1:]), lambda a, b: a * b, initial=1))[::-1] if shape else ()


def movable(spec: TensorSpec | None) -> bool:
    """Whether kernels can copy this value: numbers or bools of at most 8 bytes, extents known."""
    if spec is None or not spec.is_concrete:
        return False
    dtype = spec.dtype
    return dtype.kind in "biuf" and dtype.isbuiltin == 1 and dtype.itemsize in (1, 2, 4, 8)


def known_integers(
    ctx: Lowering, index: int, attribute: Sequence[int] | None, operator: str, tensor: str
) -> tuple[bool, tuple[int, ...] | None]:
    """Integers that are an attribute or a constant input: (known, value); an absent input is known to be None."""
    if attribute is not None:
        return True, tuple(attribute)
    if index >= len(ctx.inputs) or ctx.inputs[index] is None:
        return True, None
    value = ctx.const(index)
    return value is not None, None if value is None else integers(value, operator, tensor)


def copy(
    ctx: Lowering,
    source: Operand,
    target: Operand,
    shape: Sequence[int],
    x_strides: Sequence[int],
    y_strides: Sequence[int],
    x_offset: int = 0,
    y_offset: int = 0,
) -> None:
    """Add a copy_nd call, without its axes of extent 1; nothing for an empty region."""
    if 0 in shape:
        return
    kept = [i for i, n in enumerate(shape) if n != 1]
    ctx.call(
        "copy_nd",
        (source,),
        (target,),
        shape=tuple(shape[i] for i in kept),
        x_strides=tuple(x_strides[i] for i in kept),
        y_strides=tuple(y_strides[i] for i in kept),
        x_offset=x_offset,
        y_offset=y_offset,
    )


def short_enough(shape: Sequence[int]) -> bool:
    return sum(n != 1 for n in shape) <= MAX_AXES


def fill(
    ctx: Lowering, target: Operand, value: object, shape: Sequence[int], y_strides: Sequence[int], y_offset: int = 0
) -> None:
    """Add a fill call for a region; nothing for an empty one."""
    if 0 in shape:
        return
    kept = [i for i, n in enumerate(shape) if n != 1]
    ctx.call(
        "fill",
        (),
        (target,),
        value=value,
        shape=tuple(shape[i] for i in kept),
        y_strides=tuple(y_strides[i] for i in kept),
        y_offset=y_offset,
    )


def along_channels(ctx: Lowering, axis: int, indices: Sequence[int]) -> bool:
    """Whether work along this axis can stay in planes: axis 1 of inputs of float32 or uint8 that all lie in planes."""
    return axis == 1 and all(
        spec is not None and spec.dtype in (FLOAT32, UINT8) and 2 <= len(spec.concrete) <= 5 and ctx.is_planes(i)
        for i, spec in ((i, ctx.inputs[i]) for i in indices)
    )


def in_planes(ctx: Lowering, index: int, groups: int = 1) -> Operand:
    """Input `index` of float32 or uint8 in planes without a halo."""
    spec = ctx.inputs[index]
    return ctx.planes(index, groups=groups, fill=0 if spec is not None and spec.dtype == UINT8 else None)


def offsets(
    ctx: Lowering,
    index: int,
    depth: int,
    extents: Sequence[int],
    strides: Sequence[int],
    shape: Sequence[int] = (),
    bases: Sequence[int] = (),
) -> Operand | None:
    """Where the points lie that input `index` names, `depth` indices each, as offsets in items; a run checks each of them.

    See `_kernels.select.build_index_offsets`. None where no kernel takes these indices.
    """
    spec = ctx.inputs[index]
    if spec is None or spec.dtype not in (np.int32, np.int64) or not spec.dtype.isnative or min(extents) < 1:
        return None
    kept = [i for i, n in enumerate(shape) if n != 1]
    if depth > MAX_AXES or len(kept) > MAX_AXES:
        return None
    count = math.prod(spec.concrete) // depth
    found = ctx.temp((count,), INT64)
    ctx.call(
        "index_offsets",
        (ctx.plain(index),),
        (found, ctx.faults(-(-count // INDEX_CHUNK))),
        depth=depth,
        extents=tuple(extents),
        strides=tuple(strides),
        shape=tuple(shape[i] for i in kept),
        bases=tuple(bases[i] for i in kept),
    )
    return found


def pad_constant(
    ctx: Lowering, source: Operand, target: Operand, shape: Sequence[int], widths: Sequence[tuple[int, int]], value: object
) -> None:
    """Copy `source` of this shape into the middle of `target`, cropped where a width is negative, and fill the rest."""
    out = [n + b + e for n, (b, e) in zip(shape, widths, strict=True)]
    if 0 in out:
        return
    x_strides, y_strides = strides_of(shape), strides_of(out)
    inside = [n + min(b, 0) + min(e, 0) for n, (b, e) in zip(shape, widths, strict=True)]
    begins = [max(b, 0) for b, _ in widths]
    at = sum(b * s for b, s in zip(begins, y_strides, strict=True))
    copy(
        ctx,
        source,
        target,
        inside,
        x_strides,
        y_strides,
        sum(max(-b, 0) * s for (b, _), s in zip(widths, x_strides, strict=True)),
        at,
    )
    for axis, (begin, n) in enumerate(zip(begins, inside, strict=True)):
        # beside the copied part along this axis: inside of it along the axes before, whole along those after
        before = sum(b * s for b, s in zip(begins[:axis], y_strides[:axis], strict=True))
        for start, stop in ((0, begin), (begin + n, out[axis])):
            region = [*inside[:axis], stop - start, *out[axis + 1 :]]
            fill(ctx, target, value, region, y_strides, before + start * y_strides[axis])


def pick(
    ctx: Lowering, source: Operand, target: Operand, shape: Sequence[int], dtype: np.dtype, picks: dict[int, np.ndarray]
) -> None:
    """numpy.take along several axes, one gather each; nothing for an empty output."""
    now = list(shape)
    for step, (axis, indices) in enumerate(picks.items()):
        now[axis] = len(indices)
        last = step == len(picks) - 1
        goal = target if last else ctx.temp(tuple(now), dtype)
        if math.prod(now):
            ctx.call("gather", (source,), (goal,), axis=axis, indices=indices)
        source = goal
