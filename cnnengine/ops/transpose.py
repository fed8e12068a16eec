"""Operators that give axes another order: Transpose, DepthToSpace, SpaceToDepth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import ShapeError
from ..operator import ANY_RANK, EXACT, SAME, Giving, Lowering, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import (
    Specs,
    required,
)
from .copies import copy, movable, short_enough, strides_of


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
class _Blocks(Operator):
    """What DepthToSpace and SpaceToDepth share: axes are split, put into another order, and joined.

    Attributes
    ----------
    blocksize : int
        Pixels of a block along each of the two axes.
    mode : {"DCR", "CRD"}
        Whether the index within a block comes before the channel or behind it.
    """

    blocksize: int
    mode: str = "DCR"

    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = (0,)
    moves: ClassVar[bool] = True

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 4:
            raise ShapeError("the input must be (N, C, H, W)", operator=self.op_type, expected="rank 4", received=shape)
        if self.mode not in ("DCR", "CRD"):
            raise ShapeError("unknown mode", operator=self.op_type, tensor="mode", expected=("DCR", "CRD"), received=self.mode)

    def _parts(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The extents of the axes once they are split, the order that they get, and the shape that they are joined to."""
        raise NotImplementedError

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        return [TensorSpec(x.dtype, self._parts(x.concrete)[2] if x.is_concrete else (None,) * 4)]

    def reference(self, *inputs: Any) -> list[Any]:
        split, order, shape = self._parts(inputs[0].shape)
        return [inputs[0].reshape(split).transpose(order).reshape(shape)]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or not movable(x):
            return False
        split, order, _ = self._parts(x.concrete)
        shape, strides = [split[i] for i in order], strides_of(split)
        copy(ctx, ctx.plain(0), ctx.out_plain(), shape, [strides[i] for i in order], strides_of(shape))
        return True


@dataclass(frozen=True)
class DepthToSpace(_Blocks):
    """ONNX DepthToSpace (1 to 13): channels become blocks of pixels, block index first (DCR) or channel first (CRD)."""

    op_type: ClassVar[str] = "DepthToSpace"

    def _parts(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        self._check(shape)
        (n, c, h, w), b = shape, self.blocksize
        if b < 1 or c % (b * b):
            raise ShapeError(
                "the channels do not divide", operator=self.op_type, expected=f"a multiple of {b}*{b} channels", received=shape
            )
        c //= b * b
        split, order = (
            ((n, b, b, c, h, w), (0, 3, 4, 1, 5, 2)) if self.mode == "DCR" else ((n, c, b, b, h, w), (0, 1, 4, 2, 5, 3))
        )
        return split, order, (n, c, h * b, w * b)


@dataclass(frozen=True)
class SpaceToDepth(_Blocks):
    """ONNX SpaceToDepth (1 to 28): blocks of pixels become channels, block index first (DCR) or channel first (CRD)."""

    op_type: ClassVar[str] = "SpaceToDepth"

    def _parts(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        self._check(shape)
        (n, c, h, w), b = shape, self.blocksize
        if b < 1 or h % b or w % b:
            raise ShapeError(
                "the pixels do not divide", operator=self.op_type, expected=f"H and W multiples of {b}", received=shape
            )
        order = (0, 3, 5, 1, 2, 4) if self.mode == "DCR" else (0, 1, 3, 5, 2, 4)
        return (n, c, h // b, b, w // b, b), order, (n, c * b * b, h // b, w // b)
