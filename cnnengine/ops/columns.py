"""Col2Im: columns of blocks, added up into images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import ModelError, ShapeError
from ..operator import ROUNDING, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import FLOAT32, Specs, integers, required


@dataclass(frozen=True)
class Col2Im(Operator):
    """ONNX Col2Im (18): the sum, at each pixel, of the columns' elements of all blocks that it lies in; any number of axes."""

    strides: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    dilations: tuple[int, ...] | None = None

    op_type: ClassVar[str] = "Col2Im"
    min_version: ClassVar[int] = 18
    tolerance: ClassVar[str] = ROUNDING
    elements: ClassVar[Sequence[int]] = (0,)

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Col2Im:
        given: dict[str, Any] = {}
        for name, least in (("strides", 1), ("pads", 0), ("dilations", 1)):
            value = node.attribute(name, None)
            given[name] = None if value is None else tuple(map(int, value))
            if value is not None and min(given[name], default=least) < least:
                raise ModelError(
                    f"{name} cannot be", node=node.name, operator=node.op_type, expected=f">= {least}", received=given[name]
                )
        return cls(**given)

    def _geometry(self, image: tuple[int, ...], block: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Strides, dilations, pads (all begins, then all ends) and the number of blocks along each axis."""
        rank = len(image)
        found = self.strides or (1,) * rank, self.dilations or (1,) * rank, self.pads or (0,) * 2 * rank
        if rank < 1 or len(block) != rank or tuple(map(len, found)) != (rank, rank, 2 * rank) or min(*image, *block) < 1:
            raise ShapeError(
                "attributes do not fit the image", operator=self.op_type, expected=f"{rank} axes", received=(image, block, *found)
            )
        strides, dilations, pads = found
        counts = tuple(
            (image[a] + pads[a] + pads[rank + a] - dilations[a] * (block[a] - 1) - 1) // strides[a] + 1 for a in range(rank)
        )
        if min(counts) < 1:
            raise ShapeError("the block is larger than the padded image", operator=self.op_type, expected=image, received=block)
        return strides, dilations, pads, counts

    def _shape(self, x: tuple[int, ...], image: tuple[int, ...], block: tuple[int, ...]) -> tuple[int, ...]:
        counts = self._geometry(image, block)[3]
        taps = math.prod(block)
        if len(x) != 3 or x[1] % taps or x[2] != math.prod(counts):
            expected = f"(N, C * {taps}, {math.prod(counts)})"
            raise ShapeError("the columns do not fit", operator=self.op_type, tensor="input", expected=expected, received=x)
        return (x[0], x[1] // taps, *image)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, image, block = (required(inputs, i, self.op_type) for i in range(3))
        if not x.is_concrete or image.value is None or block.value is None:
            rank = next((s.shape[0] for s in (image, block) if s.shape is not None and len(s.shape) == 1), None)
            return [TensorSpec(x.dtype, (None,) * (2 + rank) if isinstance(rank, int) else None)]
        sizes = integers(image.value, self.op_type, "image_shape"), integers(block.value, self.op_type, "block_shape")
        return [TensorSpec(x.dtype, self._shape(x.concrete, *sizes))]

    def reference(self, *inputs: Any) -> list[Any]:
        x = inputs[0]
        image, block = integers(inputs[1], self.op_type, "image_shape"), integers(inputs[2], self.op_type, "block_shape")
        shape = self._shape(x.shape, image, block)
        strides, dilations, pads, counts = self._geometry(image, block)
        rank = len(image)
        padded = np.zeros((*shape[:2], *(n + pads[a] + pads[rank + a] for a, n in enumerate(image))), x.dtype)
        columns = x.reshape(*shape[:2], math.prod(block), *counts)
        for tap, place in enumerate(np.ndindex(*block)):
            at = tuple(
                slice(place[a] * dilations[a], place[a] * dilations[a] + (counts[a] - 1) * strides[a] + 1, strides[a])
                for a in range(rank)
            )
            padded[(slice(None), slice(None), *at)] += columns[:, :, tap]
        cut = (slice(None), slice(None), *(slice(pads[a], pads[a] + n) for a, n in enumerate(image)))
        return [np.ascontiguousarray(padded[cut])]

    def lower(self, ctx: Lowering) -> bool:
        x, image, block = ctx.inputs[0], ctx.const(1), ctx.const(2)
        if x is None or x.dtype != FLOAT32 or image is None or block is None or not 1 <= np.size(image) <= 3:
            return False
        sizes = integers(image, self.op_type, "image_shape"), integers(block, self.op_type, "block_shape")
        strides, dilations, pads, _ = self._geometry(*sizes)
        ctx.call("col2im", (ctx.plain(0),), (ctx.out_plain(),), block=sizes[1], strides=strides, dilations=dilations, pads=pads)
        return True
