"""DeformConv: a convolution whose taps are moved by an input."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .._kernels.pack import pack_bias, pack_conv
from ..errors import ModelError, ShapeError
from ..operator import EVERY, ROUNDING, SAME, Giving, Lowering, NodeRecord, Operator
from ..packing import Empty
from ..records import dataclass
from ..spec import TensorSpec
from .common import FLOAT32, Specs, required


@dataclass(frozen=True)
class DeformConv(Operator):
    """ONNX DeformConv (19, 22), any number of spatial axes; over two, by kernels.

    For each tap of the kernel the channels are sampled, linearly and with zeros outside, where the regular grid and the offset
    put it; the samples are columns that the weights multiply.
    """

    strides: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    dilations: tuple[int, ...] | None = None
    group: int = 1
    offset_group: int = 1
    kernel_shape: tuple[int, ...] | None = None

    op_type: ClassVar[str] = "DeformConv"
    min_version: ClassVar[int] = 19
    tolerance: ClassVar[str] = ROUNDING
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = EVERY

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> DeformConv:
        given: dict[str, Any] = {}
        for name, least in (("strides", 1), ("pads", 0), ("dilations", 1), ("kernel_shape", 1)):
            value = node.attribute(name, None)
            given[name] = None if value is None else tuple(map(int, value))
            if value is not None and min(given[name], default=least) < least:
                raise ModelError(
                    f"{name} cannot be", node=node.name, operator=node.op_type, expected=f">= {least}", received=given[name]
                )
        for name in ("group", "offset_group"):
            count = given[name] = int(node.attribute(name, 1))
            if count < 1:
                raise ModelError(f"{name} cannot be", node=node.name, operator=node.op_type, expected=">= 1", received=count)
        return cls(**given)

    def _window(self, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Strides, dilations, and pads (all begins, then all ends)."""
        found = self.strides or (1,) * rank, self.dilations or (1,) * rank, self.pads or (0,) * 2 * rank
        if tuple(map(len, found)) != (rank, rank, 2 * rank):
            raise ShapeError("attributes do not fit the kernel", operator=self.op_type, expected=f"{rank} axes", received=found)
        return found

    def _shape(self, shapes: Sequence[tuple[int, ...] | None]) -> tuple[int, ...]:
        x, w, offset, bias, mask = shapes
        assert x is not None
        assert w is not None
        rank = len(x) - 2
        if rank < 1 or len(w) != len(x) or w[1] * self.group != x[1] or w[0] % self.group or x[1] % self.offset_group:
            expected = f"(C_out, C / {self.group}, kernel...), {self.group} groups and {self.offset_group} of offsets"
            raise ShapeError("the weights do not fit", operator=self.op_type, tensor="W", expected=expected, received=(x, w))
        kernel = self.kernel_shape or w[2:]
        if kernel != w[2:]:
            raise ShapeError("is not that of W", operator=self.op_type, tensor="kernel_shape", expected=w[2:], received=kernel)
        strides, dilations, pads = self._window(rank)
        out = tuple(
            (x[2 + a] + pads[a] + pads[rank + a] - dilations[a] * (w[2 + a] - 1) - 1) // strides[a] + 1 for a in range(rank)
        )
        if min(out) < 1:
            raise ShapeError("the kernel is larger than the padded input", operator=self.op_type, expected=x, received=w)
        taps = self.offset_group * int(np.prod(w[2:]))
        wanted = {"offset": (offset, (x[0], taps * rank, *out)), "B": (bias, (w[0],)), "mask": (mask, (x[0], taps, *out))}
        for name, (shape, expected_shape) in wanted.items():
            if shape is not None and shape != expected_shape:
                raise ShapeError("does not fit", operator=self.op_type, tensor=name, expected=expected_shape, received=shape)
        return (x[0], w[0], *out)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        given: list[TensorSpec | None] = [required(inputs, i, self.op_type) for i in range(3)]
        given += [inputs[i] if i < len(inputs) else None for i in (3, 4)]
        if not all(spec is None or spec.is_concrete for spec in given):
            return [TensorSpec(x.dtype, None if x.shape is None else (None,) * len(x.shape))]
        return [TensorSpec(x.dtype, self._shape([None if spec is None else spec.concrete for spec in given]))]

    def reference(self, *inputs: Any) -> list[Any]:
        x, w, offset, bias, mask = [*inputs, None, None][:5]
        shape = self._shape([None if value is None else value.shape for value in (x, w, offset, bias, mask)])
        n, out, kernel = shape[0], shape[2:], w.shape[2:]
        strides, dilations, pads = self._window(len(kernel))
        spatial, taps, parts = x.shape[2:], int(np.prod(kernel)), self.offset_group
        # (N, offset group, channel, pixel), the taps of a group, and where each is moved to along each axis
        image = x.reshape(n, parts, x.shape[1] // parts, -1)
        moved = offset.reshape(n, parts, taps, len(kernel), -1)
        weights = None if mask is None else mask.reshape(n, parts, taps, 1, -1)
        grid = np.indices(out).reshape(len(out), -1)
        columns = np.zeros((n, parts, image.shape[2], taps, grid.shape[1]), x.dtype)
        for tap, place in enumerate(np.ndindex(*kernel)):
            each = []
            for axis, extent in enumerate(spatial):
                start = grid[axis] * strides[axis] - pads[axis] + place[axis] * dilations[axis]
                at = start + moved[:, :, tap, axis].astype(np.float64)
                near = (at > -1) & (at < extent)  # elsewhere, NaN too, all samples are outside
                at = np.where(near, at, 0)
                low = np.floor(at)
                part = at - low
                pairs = ((low, 1 - part), (low + 1, part))
                each.append(
                    [
                        (np.clip(i, 0, extent - 1).astype(np.int64), np.where(near & (i >= 0) & (i < extent), weight, 0))
                        for i, weight in pairs
                    ]
                )
            for corner in itertools.product(*each):
                index = np.ravel_multi_index([i for i, _ in corner], spatial)
                weight = np.prod([part for _, part in corner], axis=0)[:, :, None]
                sample = np.take_along_axis(image, index[:, :, None], axis=3)
                columns[:, :, :, tap] += np.where(weight != 0, sample * weight.astype(x.dtype), 0)
            if weights is not None:
                columns[:, :, :, tap] *= weights[:, :, tap]
        rows = w.reshape(self.group, w.shape[0] // self.group, -1)
        y = (rows @ columns.reshape(n, self.group, rows.shape[2], -1)).reshape(shape)
        return [y if bias is None else y + bias.reshape(-1, *(1,) * len(out))]

    def lower(self, ctx: Lowering) -> bool:
        """The samples of all taps in planes, (group, tap, channel), and a 1x1 convolution of them."""
        x, w, bias = ctx.inputs[0], ctx.const(1), ctx.const(3)
        given = [spec for spec in ctx.inputs if spec is not None]
        if x is None or w is None or len(x.concrete) != 4 or any(spec.dtype != FLOAT32 for spec in given):
            return False
        has_bias, has_mask = (len(ctx.inputs) > i and ctx.inputs[i] is not None for i in (3, 4))
        if has_bias and bias is None:
            return False
        (n, c, _, _), g, lanes = x.concrete, self.group, ctx.lanes
        if any(k > 1 and c % (k * lanes) for k in (g, self.offset_group)) or 0 in x.concrete or 0 in ctx.outputs[0].concrete:
            return False
        strides, dilations, pads = self._window(2)
        o, cg, kh, kw = w.shape
        padded = -(-cg // lanes) * lanes
        columns = ctx.temp_planes((n, g * kh * kw * padded, *ctx.outputs[0].concrete[2:]))
        ctx.call(
            "deform_columns",
            (ctx.planes(0), ctx.plain(2), ctx.plain(4) if has_mask else None),
            (columns,),
            kernel=(kh, kw),
            strides=strides,
            dilations=dilations,
            pads=pads[:2],
            group=g,
            parts=self.offset_group,
        )

        def flat(empty: Empty) -> np.ndarray:
            rows = np.zeros((o, kh * kw, padded), np.float32)
            rows[:, :, :cg] = w.reshape(o, cg, kh * kw).transpose(0, 2, 1)
            packed: np.ndarray = pack_conv(rows.reshape(o, kh * kw * padded, 1), g, lanes, empty)
            return packed

        names = (ctx.name(1), ctx.name(3) if has_bias else "")
        ctx.call(
            "conv",
            [
                columns,
                ctx.pack(("deform", *names, g, lanes), flat),
                ctx.pack(("bias", *names, g), lambda empty: pack_bias(bias, o, empty, g)),
                None,
            ],
            [ctx.out_planes(groups=g)],
            taps=[(0, 0, 0)],
            stride=(1, 1, 1),
            groups=g,
            activation=None,
        )
        return True
