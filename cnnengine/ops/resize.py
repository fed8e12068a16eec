"""Resize before version 11 and Upsample: output pixel i lies at input position i / scale, without further modes.

onnx.reference misreads these versions; it is right for Resize from 11 on, which therefore runs as a checked fallback.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..errors import ModelError, ShapeError, UnsupportedOperatorError
from ..graph import TensorSpec
from .base import NodeRecord, Operator
from .common import required, spec_at


@dataclass(frozen=True)
class Upsample(Operator):
    """ONNX Upsample (7, 9): nearest or multilinear.

    Attributes
    ----------
    mode : {"nearest", "linear"}
    scales : tuple of float, optional
        One per axis, where they are an attribute (version 7).
    """

    mode: str = "nearest"
    scales: tuple[float, ...] | None = None

    op_type: ClassVar[str] = "Upsample"
    min_version: ClassVar[int] = 7

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Upsample:
        mode = {"bilinear": "linear"}.get(node.attribute("mode", "nearest"), node.attribute("mode", "nearest"))
        if mode not in ("nearest", "linear"):
            raise ModelError("unknown mode", node=node.name, operator=node.op_type, expected=("nearest", "linear"), received=mode)
        scales = node.attribute("scales") if node.version < 9 else None
        return cls(mode, None if scales is None else tuple(float(s) for s in scales))

    def _scales(self, rank: int, given: Any) -> tuple[float, ...]:
        scales = self.scales if self.scales is not None else tuple(float(s) for s in np.asarray(given).reshape(-1))
        if len(scales) != rank or not all(math.isfinite(s) and s > 0 for s in scales):
            raise ShapeError(
                "scales does not fit the input",
                operator=self.op_type,
                tensor="scales",
                expected=f"{rank} numbers > 0",
                received=scales,
            )
        return scales

    def sizes(self, extents: Sequence[int], given: Any) -> tuple[int, ...]:
        """Extents of the output."""
        return tuple(
            math.floor(np.float32(n) * np.float32(s)) for n, s in zip(extents, self._scales(len(extents), given), strict=True)
        )

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x, scales = required(inputs, 0, self.op_type), spec_at(inputs, 1)
        if x.shape is None:
            return [TensorSpec(x.dtype, None)]
        if not x.is_concrete or (self.scales is None and (scales is None or scales.value is None)):
            return [TensorSpec(x.dtype, (None,) * len(x.shape))]
        return [TensorSpec(x.dtype, self.sizes(x.concrete, None if scales is None else scales.value))]

    def reference(self, *inputs: Any) -> list[Any]:
        x, given = inputs[0], inputs[1] if len(inputs) > 1 else None
        sizes, y = self.sizes(x.shape, given), x
        for axis, (size, scale) in enumerate(zip(sizes, self._scales(x.ndim, given), strict=True)):
            last = x.shape[axis] - 1
            if scale == 1 or last < 0:
                continue
            position = (np.arange(size, dtype=np.float32) / np.float32(scale)).astype(np.float64)
            if self.mode == "nearest":
                index = np.floor(position) if scale > 1 else np.ceil(position)
                y = y.take(np.clip(index, 0, last).astype(np.intp), axis=axis)
                continue
            low = np.clip(np.floor(position), 0, last).astype(np.intp)
            share = np.clip(position - low, 0, 1).reshape(-1, *(1,) * (x.ndim - 1 - axis))
            a, b = y.take(low, axis=axis), y.take(np.minimum(low + 1, last), axis=axis)
            y = a * (1 - share) + b * share
        return [y.astype(x.dtype)]


@dataclass(frozen=True)
class Resize(Upsample):
    """ONNX Resize (10): Upsample that also makes smaller; its nearest rounds up there."""

    op_type: ClassVar[str] = "Resize"
    min_version: ClassVar[int] = 10

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Upsample:
        if node.version > 10:
            raise UnsupportedOperatorError(
                "versions from 11 on have no class", node=node.name, operator=node.op_type, received=node.version
            )
        return super().from_onnx(node)
