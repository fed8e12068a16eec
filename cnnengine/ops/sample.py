"""Operators that sample a tensor at places given as a tensor: RoiAlign and GridSample."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError, UnsupportedOperatorError
from ..operator import ROUNDING, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import FLOAT32, Specs, required


def _choice(node: NodeRecord, name: str, allowed: Sequence[str], default: str) -> str:
    value = node.attribute(name, default)
    if value not in allowed:
        raise ModelError(f"unknown {name}", node=node.name, operator=node.op_type, expected=tuple(allowed), received=value)
    return str(value)


MOST_SAMPLES = 1 << 10
"""Samples along an axis of a bin that a file may ask for; networks take from 1 to 4."""


@dataclass(frozen=True)
class RoiAlign(Operator):
    """ONNX RoiAlign (10 to 22): the mean, or the largest, of bilinear samples in each bin of regions.

    "max" is the largest of the weighted corners of all samples, as ONNX's reference and onnxruntime have it.
    """

    mode: str = "avg"
    output_height: int = 1
    output_width: int = 1
    sampling_ratio: int = 0
    spatial_scale: float = 1.0
    half_pixel: bool = True

    op_type: ClassVar[str] = "RoiAlign"
    min_version: ClassVar[int] = 10
    tolerance: ClassVar[str] = ROUNDING
    elements: ClassVar[Sequence[int]] = (0, 1)

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> RoiAlign:
        modes = ("half_pixel", "output_half_pixel")
        half = node.version >= 16 and _choice(node, "coordinate_transformation_mode", modes, "half_pixel") == "half_pixel"
        numbers = [int(node.attribute(n, d)) for n, d in (("output_height", 1), ("output_width", 1), ("sampling_ratio", 0))]
        if min(numbers[:2]) < 1 or numbers[2] < 0:
            raise ModelError(
                "bins and samples cannot be", node=node.name, operator=node.op_type, expected=">= 1, >= 1, >= 0", received=numbers
            )
        if numbers[2] > MOST_SAMPLES:
            raise UnsupportedOperatorError(
                "too many samples in a bin",
                node=node.name,
                operator=node.op_type,
                tensor="sampling_ratio",
                expected=f"at most {MOST_SAMPLES} along an axis",
                received=numbers[2],
            )
        scale = float(node.attribute("spatial_scale", 1.0))
        return cls(_choice(node, "mode", ("avg", "max"), "avg"), numbers[0], numbers[1], numbers[2], scale, half)

    def _shape(self, x: tuple[int, ...], rois: tuple[int, ...], images: tuple[int, ...]) -> tuple[int, ...]:
        if len(x) != 4 or rois[1:] != (4,) or images != rois[:1]:
            raise ShapeError(
                "the inputs do not fit", operator=self.op_type, expected="(N, C, H, W), (R, 4), (R,)", received=(x, rois, images)
            )
        return (rois[0], x[1], self.output_height, self.output_width)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, rois, images = (required(inputs, i, self.op_type) for i in range(3))
        if images.dtype.kind not in "iuV":
            raise InputError(
                "must be integers", operator=self.op_type, tensor="batch_indices", expected="int64", received=images.dtype
            )
        if not (x.is_concrete and rois.is_concrete and images.is_concrete):
            return [TensorSpec(x.dtype, (None, None, self.output_height, self.output_width))]
        return [TensorSpec(x.dtype, self._shape(x.concrete, rois.concrete, images.concrete))]

    def _samples(self, start: float, size: float, bins: int, n: int) -> tuple[Any, Any, Any, Any]:
        """Of one region along an axis, (bins, samples) each: the lower and upper pixel, and their weights (0 outside)."""
        count = self.sampling_ratio or max(int(np.ceil(size / bins)), 0)
        # one rounded division: a place that lies on a border exactly is found there
        odd = 2.0 * np.arange(bins * count).reshape(bins, count) + 1
        at = start + size * odd / (2.0 * bins * max(count, 1))
        inside = (at >= -1) & (at <= n)
        at = np.clip(np.where(inside, at, 0), 0, n - 1)
        low = at.astype(np.int64)
        part = at - low
        return low, np.minimum(low + 1, n - 1), np.where(inside, 1 - part, 0), np.where(inside, part, 0)

    def reference(self, *inputs: Any) -> list[Any]:
        x, rois, images = inputs
        shape = self._shape(x.shape, rois.shape, images.shape)
        bad = images[(images < 0) | (images >= x.shape[0])]
        if bad.size:
            raise InputError(
                "an index lies outside the axis",
                operator=self.op_type,
                tensor="batch_indices",
                expected=f"0..{x.shape[0] - 1}",
                received=int(bad[0]),
            )
        y = np.zeros(shape, x.dtype)
        # in double, in which products of float32 are exact: no rounding moves a sample across a border
        scaled = rois.astype(np.float64) * self.spatial_scale - (0.5 if self.half_pixel else 0)
        for r, (x0, y0, x1, y1) in enumerate(scaled):
            width, height = x1 - x0, y1 - y0
            if not self.half_pixel:  # regions that are too small or turned around count as a pixel
                width, height = np.maximum(width, 1), np.maximum(height, 1)
            if not np.isfinite(scaled[r]).all():
                continue
            top, bottom, wt, wb = self._samples(y0, height, shape[2], x.shape[2])
            left, right, wl, wr = self._samples(x0, width, shape[3], x.shape[3])
            if not top.size or not left.size:
                continue
            plane = x[images[r]]
            corners = [
                plane[:, i[:, :, None, None], j] * (u[:, :, None, None] * v)
                for (i, u), (j, v) in itertools.product(((top, wt), (bottom, wb)), ((left, wl), (right, wr)))
            ]
            if self.mode == "avg":
                y[r] = sum(corners).mean((2, 4))
            else:
                y[r] = np.maximum.reduce(corners).max((2, 4))
        return [y]

    def lower(self, ctx: Lowering) -> bool:
        x, rois, images = ctx.inputs[:3]
        if x is None or rois is None or images is None or x.dtype != FLOAT32 or rois.dtype != FLOAT32:
            return False
        if images.dtype not in (np.int32, np.int64) or 0 in x.concrete:
            return False
        if 0 in ctx.outputs[0].concrete:
            ctx.out_plain()
            return True
        ctx.call(
            "roi_align",
            (ctx.planes(0), ctx.plain(1), ctx.plain(2)),
            (ctx.out_planes(), ctx.faults(rois.concrete[0])),
            scale=self.spatial_scale,
            ratio=self.sampling_ratio,
            half_pixel=self.half_pixel,
            mode=self.mode,
        )
        return True


@dataclass(frozen=True)
class GridSample(Operator):
    """ONNX GridSample (16 to 22): the input at the places of a grid, -1 and 1 being its edges; any number of spatial axes."""

    mode: str = "linear"
    padding_mode: str = "zeros"
    align_corners: int = 0

    op_type: ClassVar[str] = "GridSample"
    min_version: ClassVar[int] = 16
    tolerance: ClassVar[str] = ROUNDING
    elements: ClassVar[Sequence[int]] = (0, 1)
    mixes: ClassVar[bool] = True

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> GridSample:
        names = {"bilinear": "linear", "bicubic": "cubic", "nearest": "nearest"}
        if node.version >= 20:
            names = {"linear": "linear", "cubic": "cubic", "nearest": "nearest"}
        mode = names[_choice(node, "mode", tuple(names), next(iter(names)))]
        padding = _choice(node, "padding_mode", ("zeros", "border", "reflection"), "zeros")
        return cls(mode, padding, int(bool(node.attribute("align_corners", 0))))

    def _shape(self, x: tuple[int, ...], grid: tuple[int, ...]) -> tuple[int, ...]:
        if len(x) < 3 or len(grid) != len(x) or grid[0] != x[0] or grid[-1] != len(x) - 2:
            raise ShapeError(
                "the inputs do not fit",
                operator=self.op_type,
                tensor="grid",
                expected=f"(N, ..., {len(x) - 2})",
                received=(x, grid),
            )
        if 0 in x[2:] and 0 not in grid:
            raise ShapeError("there is nothing to sample", operator=self.op_type, tensor="X", expected="extents >= 1", received=x)
        return (*x[:2], *grid[1:-1])

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, grid = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        if not (x.is_concrete and grid.is_concrete):
            return [TensorSpec(x.dtype, None if x.shape is None else (None,) * len(x.shape))]
        return [TensorSpec(x.dtype, self._shape(x.concrete, grid.concrete))]

    def _mirrored(self, v: np.ndarray, low: float, high: float) -> np.ndarray:
        span = high - low
        if span <= 0:
            return np.full_like(v, low)
        away = np.where(v < low, low - v, v - high)
        turns = np.floor(away / span)
        rest = away - turns * span
        from_low = (v < low) == (turns % 2 == 0)
        return np.where((v < low) | (v > high), np.where(from_low, low + rest, high - rest), v)

    def _taps(self, v: np.ndarray, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """(pixel, weight) along an axis of n for normalised coordinates; outside, where that counts as 0, the weight is 0."""
        low, high = (0.0, n - 1.0) if self.align_corners else (-0.5, n - 0.5)
        v = (v + 1) / 2 * (n - 1) if self.align_corners else ((v + 1) * n - 1) / 2
        known = np.isfinite(v) & (np.abs(v) < 1e18)
        v = np.where(known, v, np.where(np.isnan(v), 0, np.where(v < 0, low, high))).astype(v.dtype)
        if self.mode == "nearest":
            v = np.rint(v)
        if self.padding_mode == "border" and self.mode != "cubic":  # of which each tap is clamped below
            v = np.where((v < low) | (v > high), np.clip(v, 0, n - 1), v)
        elif self.padding_mode == "reflection":
            v = self._mirrored(v, low, high)
        if self.mode == "nearest":
            pairs = [(np.trunc(v), np.ones_like(v))]
        else:
            base = np.floor(v)
            t = v - base
            if self.mode == "linear":
                pairs = [(base, 1 - t), (base + 1, t)]
            else:
                a = v.dtype.type(-0.75)
                near = [((a + 2) * s - (a + 3)) * s * s + 1 for s in (t, 1 - t)]
                far = [((a * s - 5 * a) * s + 8 * a) * s - 4 * a for s in (t + 1, 2 - t)]
                pairs = [(base - 1, far[0]), (base, near[0]), (base + 1, near[1]), (base + 2, far[1])]
        taps = []
        for index, weight in pairs:
            inside = (index >= 0) & (index <= n - 1)
            if self.padding_mode == "zeros":
                weight = np.where(inside & known, weight, 0)
            elif self.padding_mode == "reflection":
                index = np.where(inside, index, np.trunc(self._mirrored(index, low, high)))
            taps.append((np.clip(index, 0, n - 1).astype(np.int64), weight))
        return taps

    def reference(self, *inputs: Any) -> list[Any]:
        x, grid = inputs
        shape = self._shape(x.shape, grid.shape)
        if 0 in shape:
            return [np.zeros(shape, x.dtype)]
        spatial = x.shape[2:]
        places = grid.astype(np.float64)  # in which pixels' coordinates are exact
        with np.errstate(all="ignore"):  # places may be no numbers
            each = [self._taps(places[..., len(spatial) - 1 - axis], n) for axis, n in enumerate(spatial)]
        image = np.arange(x.shape[0]).reshape(-1, *(1,) * len(spatial))
        y = np.zeros((shape[0], *shape[2:], shape[1]), np.float64)
        last = np.moveaxis(x, 1, -1)
        for corner in itertools.product(*each):
            weight = np.ones(())
            for _, w in corner:
                weight = weight * w
            picked = last[(image, *(i for i, _ in corner))]
            y += np.where(weight[..., None] != 0, picked * weight[..., None], 0)
        return [np.moveaxis(y, -1, 1).astype(x.dtype)]

    def lower(self, ctx: Lowering) -> bool:
        x, grid = ctx.inputs[:2]
        if x is None or grid is None or x.dtype != FLOAT32 or grid.dtype != FLOAT32 or len(x.concrete) != 4:
            return False
        if 0 in ctx.outputs[0].concrete:
            ctx.out_plain()
            return True
        if max(x.concrete[2:]) >= 1 << 24:
            return False
        given = {"mode": self.mode, "padding": self.padding_mode, "align_corners": bool(self.align_corners)}
        ctx.call("grid_sample", (ctx.planes(0), ctx.plain(1)), (ctx.out_planes(),), **given)
        return True
