"""AffineGrid: the places of an affine transformation, for GridSample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ShapeError
from ..operator import ROUNDING, Lowering, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import FLOAT32, Specs, integers, required


@dataclass(frozen=True)
class AffineGrid(Operator):
    """ONNX AffineGrid (20), over two or three spatial axes.

    The one pixel of an axis of extent 1 lies in the middle, 0, also where the corners are aligned, for which the specification
    has no number (PyTorch has 0 too); GridSample reads the same pixel from any place there.
    """

    align_corners: int = 0

    op_type: ClassVar[str] = "AffineGrid"
    min_version: ClassVar[int] = 20
    tolerance: ClassVar[str] = ROUNDING
    elements: ClassVar[Sequence[int]] = (0,)

    def coordinates(self, n: int) -> np.ndarray:
        """Of the n places along an axis of the grid that is transformed, float64; each is one rounded division."""
        if self.align_corners:
            return np.zeros(n) if n == 1 else (2.0 * np.arange(n) - (n - 1)) / (n - 1)
        return (2.0 * np.arange(n) + 1 - n) / n

    def _extents(self, theta: tuple[int, ...] | None, size: Any) -> tuple[int, ...]:
        """N and the spatial extents."""
        values = integers(size, self.op_type, "size")
        rank = len(values) - 2
        if rank not in (2, 3) or min(values) < 0:
            raise ShapeError(
                "is no size", operator=self.op_type, tensor="size", expected="(N, C, H, W) or (N, C, D, H, W)", received=values
            )
        if theta is not None and theta != (values[0], rank, rank + 1):
            expected = (values[0], rank, rank + 1)
            raise ShapeError("does not fit the size", operator=self.op_type, tensor="theta", expected=expected, received=theta)
        return (values[0], *values[2:])

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        theta, size = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        if theta.dtype.kind not in "fV":
            raise InputError(
                "must be floating point", operator=self.op_type, tensor="theta", expected="float", received=theta.dtype
            )
        if size.value is None:
            count = size.shape[0] if size.shape is not None and len(size.shape) == 1 else None
            return [TensorSpec(theta.dtype, (None,) * count if isinstance(count, int) else None)]
        extents = self._extents(theta.concrete if theta.is_concrete else None, size.value)
        return [TensorSpec(theta.dtype, (*extents, len(extents) - 1))]

    def reference(self, *inputs: Any) -> list[Any]:
        theta, size = inputs
        n, *spatial = self._extents(theta.shape, size)
        places = np.meshgrid(*[self.coordinates(extent) for extent in spatial], indexing="ij")
        # x before y before z, then 1
        whole = np.stack([*places[::-1], np.ones(spatial)], -1)
        y = np.einsum("...k,njk->n...j", whole, theta.astype(np.float64))
        return [y.reshape(n, *spatial, len(spatial)).astype(theta.dtype)]

    def lower(self, ctx: Lowering) -> bool:
        theta, size = ctx.inputs[0], ctx.const(1)
        if theta is None or theta.dtype != FLOAT32 or size is None:
            return False
        _, *spatial = self._extents(theta.concrete, size)
        coordinates = tuple(self.coordinates(extent) for extent in spatial)
        ctx.call("affine_grid", (ctx.plain(0),), (ctx.out_plain(),), coordinates=coordinates)
        return True
