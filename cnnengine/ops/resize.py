"""Resize and Upsample: every output pixel is a weighted sum of a few input pixels per axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError
from ..operator import ROUNDING, SAME, Giving, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import FLOAT32, Specs, integers, normal_axes, required, spec_at
from .copies import UINT8, in_planes, pick

PRODUCT_LIMIT = 1 << 20
"""Elements of the weights of one axis."""

Taps = tuple[np.ndarray, np.ndarray]
"""Input indices and weights, both (outputs, taps)."""
Axis = tuple[int, int, Fraction, tuple[float, float]]
"""Extents of the input and of the output, the exact scale, and the part of the input that is looked at."""
Positions = tuple[np.ndarray, int]
"""Numerators of exact fractions, integers, and the denominator of all."""

FAR = 1 << 40
"""Positions farther outside than this count as lying here: indices stay within int64."""

COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")


@dataclass(frozen=True)
class Resize(Operator):
    """ONNX Resize (10 to 19): nearest, linear and cubic, along any axes.

    Attributes
    ----------
    mode : {"nearest", "linear", "cubic"}
    coordinates, rounding : str
        coordinate_transformation_mode and nearest_mode; "simple" is version 10's: down when enlarging, up when shrinking.
    first : int
        Index of the input `scales`; `sizes` follows it, and roi stands before it from version 11 on.
    axes : tuple of int, optional
        Which axes roi, scales and sizes name (18).
    policy : {"stretch", "not_larger", "not_smaller"}
    """

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    rounding: str = "round_prefer_floor"
    cubic_a: float = -0.75
    exclude_outside: int = 0
    extrapolation: float = 0.0
    antialias: int = 0
    axes: tuple[int, ...] | None = None
    policy: str = "stretch"
    first: int = 2
    factors: tuple[float, ...] | None = None

    op_type: ClassVar[str] = "Resize"
    min_version: ClassVar[int] = 10
    tolerance: ClassVar[str] = ROUNDING
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = (0,)
    settings: ClassVar[bool] = True

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Resize:
        def one_of(name: str, allowed: Sequence[str], default: str) -> str:
            value = node.attribute(name, default)
            if value not in allowed:
                raise ModelError(
                    f"unknown {name}", node=node.name, operator=node.op_type, expected=tuple(allowed), received=value
                )
            return str(value)

        if node.version < 11:
            mode = one_of("mode", ("nearest", "linear", "bilinear"), "nearest")
            return cls("linear" if mode == "bilinear" else mode, "asymmetric", "simple", first=1)
        axes = node.attribute("axes")
        return cls(
            one_of("mode", ("nearest", "linear", "cubic"), "nearest"),
            one_of("coordinate_transformation_mode", COORDINATES, "half_pixel"),
            one_of("nearest_mode", ROUNDINGS[:4], "round_prefer_floor"),
            float(node.attribute("cubic_coeff_a", -0.75)),
            int(node.attribute("exclude_outside", 0)),
            float(node.attribute("extrapolation_value", 0.0)),
            int(node.attribute("antialias", 0)),
            None if axes is None else tuple(int(a) for a in axes),
            one_of("keep_aspect_ratio_policy", ("stretch", "not_larger", "not_smaller"), "stretch"),
        )

    # ---------------------------------------------------------------- geometry

    def resolve(self, shape: Sequence[int], scales: Any, sizes: Any) -> tuple[tuple[int, ...], tuple[Fraction, ...]]:
        """Output shape and exact scale of every axis."""
        rank = len(shape)
        axes = tuple(range(rank)) if self.axes is None else normal_axes(self.axes, rank, self.op_type)
        given = None if scales is None or np.size(scales) == 0 else [float(v) for v in np.asarray(scales).reshape(-1)]
        wanted = None if sizes is None or np.size(sizes) == 0 else list(integers(sizes, self.op_type, "sizes"))
        if (given is None) == (wanted is None):
            raise ShapeError("exactly one of scales and sizes must be given", operator=self.op_type, expected="scales or sizes")
        values: Sequence[float] = given if given is not None else wanted  # type: ignore[assignment]
        empty = wanted is not None and self.policy == "stretch"  # what is asked for may be an empty image
        if len(values) != len(axes) or not all(math.isfinite(v) and (v > 0 or (empty and v == 0)) for v in values):
            raise ShapeError(
                "scales or sizes do not fit", operator=self.op_type, expected=f"{len(axes)} numbers > 0", received=tuple(values)
            )
        out, factors = list(shape), [Fraction(1)] * rank
        if wanted is None:
            for axis, v in zip(axes, values, strict=True):
                # extents are rounded to float32, as the scales are: 10 * 0.7 is 7
                out[axis], factors[axis] = math.floor(np.float32(shape[axis]) * np.float32(v)), Fraction(v)
            return tuple(out), tuple(factors)
        if any(shape[a] == 0 for a in axes):
            raise ShapeError("an empty axis has no scale", operator=self.op_type, expected="extents >= 1", received=tuple(shape))
        every = [Fraction(v, shape[a]) for a, v in zip(axes, wanted, strict=True)]
        if self.policy != "stretch":
            factor = min(every) if self.policy == "not_larger" else max(every)
            for axis in axes:
                out[axis], factors[axis] = math.floor(shape[axis] * factor + Fraction(1, 2)), factor
            return tuple(out), tuple(factors)
        for axis, v, factor in zip(axes, wanted, every, strict=True):
            out[axis], factors[axis] = v, factor
        return tuple(out), tuple(factors)

    def positions(self, n: int, out: int, scale: Fraction, begin: float, end: float) -> Positions:
        """Where the centre of every output pixel falls among n input pixels, exactly.

        Which pixel is nearest, and whether a position lies on a pixel, must not depend on rounding: the positions are
        start + i * step with fractions, and come as integers over one denominator.
        """
        half = Fraction(1, 2)
        step, start = 1 / scale, Fraction(0)
        kind = self.coordinates
        if kind == "align_corners":
            # the conformance suite divides by the exact length, n * scale, not by the output's extent
            length = out if abs(n * scale - out) < Fraction(1, 10000) else n * scale
            step = (n - 1) / Fraction(length - 1) if length > 1 else Fraction(0)
        elif kind == "tf_half_pixel_for_nn":
            start = half * step
        elif kind == "tf_crop_and_resize":
            first, last = Fraction(begin) * (n - 1), Fraction(end) * (n - 1)
            step, start = ((last - first) / (out - 1), first) if out > 1 else (Fraction(0), (first + last) / 2)
        elif kind == "pytorch_half_pixel" and out <= 1:
            step = Fraction(0)
        elif kind != "asymmetric":
            start = half * step - half
            if kind == "half_pixel_symmetric":
                start += (n - out / scale) / 2
        denominator = math.lcm(step.denominator, start.denominator)
        a, b = int(step * denominator), int(start * denominator)
        # Python's integers where 64 bits may not do: taps multiply by two and add the denominator
        small = max(abs(a) * out + abs(b), denominator * max(n, 1)) < 1 << 60
        return np.arange(out, dtype=np.int64 if small else object) * a + b, denominator

    def off(self, n: int, positions: Positions) -> np.ndarray:
        """Which positions lie outside of the n pixels."""
        at, one = positions
        return ((at < 0) | (at > (n - 1) * one)).astype(bool)

    def taps(self, n: int, out: int, scale: Fraction, begin: float = 0.0, end: float = 1.0) -> Taps:
        """Indices and weights along one axis; an index outside stands for the nearest pixel."""
        at, one = self.positions(n, out, scale, begin, end)
        if self.mode == "nearest":
            kind = self.rounding if self.rounding != "simple" else "ceil" if scale < 1 else "floor"
            if kind == "round_prefer_floor":
                index = -((one - 2 * at) // (2 * one))
            elif kind == "round_prefer_ceil":
                index = (2 * at + one) // (2 * one)
            else:
                index = at // one if kind == "floor" else -(-at // one)
            return np.clip(index, 0, n - 1).astype(np.int64)[:, None], np.ones((out, 1))
        whole = at // one
        part = ((at - whole * one) / one).astype(np.float64)[:, None]
        shrink = min(float(scale), 1.0) if self.antialias else 1.0
        reach = 1 if self.mode == "linear" else 2
        start = math.floor(-reach / shrink) + 1
        base = np.clip(whole, -FAR, FAR).astype(np.int64)
        steps = np.arange(start, start + 2 * reach - 2 * start) if shrink < 1 else np.arange(1 - reach, reach + 1)
        index = base[:, None] + steps
        t = np.abs((steps - part) * shrink)
        if self.mode == "linear":
            weights = np.clip(1 - t, 0, 1)
        else:
            a = self.cubic_a
            near = ((a + 2) * t - (a + 3)) * t * t + 1
            far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
            weights = np.where(t <= 1, near, np.where(t < 2, far, 0.0))
        if self.exclude_outside:
            weights = np.where((index >= 0) & (index < n), weights, 0.0)
        if self.exclude_outside or shrink < 1:
            total = weights.sum(1, keepdims=True)
            weights = weights / np.where(total == 0, 1, total)
        return np.clip(index, 0, n - 1), weights

    @property
    def mixes_two(self) -> bool:
        """Whether every output pixel is a mixture of two input pixels per axis, and axes that keep their extents stay."""
        moves = self.coordinates in ("tf_crop_and_resize", "tf_half_pixel_for_nn")
        return self.mode == "linear" and not (moves or self.exclude_outside or self.antialias)

    # ---------------------------------------------------------------- operator

    def values_of(self, inputs: Sequence[Any]) -> tuple[Any, Any, Any]:
        """roi, scales, sizes."""
        padded = (*inputs, None, None, None, None)
        if self.factors is not None:
            return None, np.array(self.factors), None
        return (None, padded[1], None) if self.first == 1 else (padded[1], padded[2], padded[3])

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        specs = [spec_at(inputs, i) for i in range(4)]
        values = [None if s is None else s.value for s in specs]
        unknown = any(specs[i] is not None and values[i] is None for i in range(self.first, 4)) and self.factors is None
        if x.shape is None:
            return [TensorSpec(x.dtype, None)]
        if unknown or not x.is_concrete:
            return [TensorSpec(x.dtype, (None,) * len(x.shape))]
        _, scales, sizes = self.values_of(values)
        return [TensorSpec(x.dtype, self.resolve(x.concrete, scales, sizes)[0])]

    def _keeps(self, n: int, m: int, scale: Fraction, region: tuple[float, float]) -> bool:
        """Whether an axis stays as it is: every output pixel lies on an input pixel."""
        return n == m and scale == 1 and region == (0.0, 1.0) and self.coordinates != "tf_half_pixel_for_nn"

    def _regions(self, rank: int, roi: Any) -> list[tuple[float, float]]:
        regions = [(0.0, 1.0)] * rank
        if self.coordinates == "tf_crop_and_resize" and roi is not None and np.size(roi):
            axes = tuple(range(rank)) if self.axes is None else normal_axes(self.axes, rank, self.op_type)
            flat = np.asarray(roi, np.float64).reshape(-1)
            if flat.size != 2 * len(axes):
                raise ShapeError(
                    "roi has the wrong length", operator=self.op_type, tensor="roi", expected=2 * len(axes), received=flat.size
                )
            if not np.isfinite(flat).all():
                raise InputError(
                    "must be finite", operator=self.op_type, tensor="roi", expected="numbers", received=tuple(flat.tolist())
                )
            for i, axis in enumerate(axes):
                regions[axis] = (float(flat[i]), float(flat[len(axes) + i]))
        return regions

    def reference(self, *inputs: Any) -> list[Any]:
        x = inputs[0]
        roi, scales, sizes = self.values_of(inputs)
        out, factors = self.resolve(x.shape, scales, sizes)
        if 0 in out:
            return [np.empty(out, x.dtype)]
        regions = self._regions(x.ndim, roi)
        y = x if self.mode == "nearest" else x.astype(np.float64)
        outside = np.zeros(out, bool)
        for axis, (n, m, scale, region) in enumerate(zip(x.shape, out, factors, regions, strict=True)):
            if self._keeps(n, m, scale, region):
                continue
            index, weights = self.taps(n, m, scale, *region)
            shape = [-1 if a == axis else 1 for a in range(x.ndim)]
            if self.mode == "nearest":
                y = y.take(index[:, 0], axis)
            else:
                y = sum(y.take(index[:, k], axis) * weights[:, k].reshape(shape) for k in range(index.shape[1]))
            if self.coordinates == "tf_crop_and_resize":
                outside |= self.off(n, self.positions(n, m, scale, *region)).reshape(shape)
        if x.dtype.kind in "iu" and self.mode != "nearest":
            limits = np.iinfo(x.dtype)
            y = np.clip(np.rint(y), limits.min, limits.max)
        y = np.asarray(y).astype(x.dtype)
        if outside.any():
            y = np.where(outside, np.asarray(self.extrapolation, x.dtype), y)
        return [y]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or x.dtype not in (FLOAT32, UINT8) or not 3 <= len(x.concrete) <= 5 or 0 in x.concrete:
            return False
        every = self.axes_of(ctx)
        if every is None:
            return False
        if all(self._keeps(*axis) for axis in every):
            ctx.same()
            return True
        out, factors, regions = tuple(axis[1] for axis in every), tuple(axis[2] for axis in every), [axis[3] for axis in every]
        if x.dtype == UINT8 and (self.mode != "nearest" or self.coordinates == "tf_crop_and_resize"):
            return False
        if out[:2] != x.concrete[:2] or any(factor != 1 for factor in factors[:2]) or regions[:2] != [(0.0, 1.0)] * 2:
            return x.dtype == FLOAT32 and self._lower_as_products(ctx, out, factors, regions)
        # few channels fill few lanes; what lies plain stays so
        blocked = ctx.is_planes(0) and 2 * out[1] > ctx.lanes
        axes = every[2:]
        shrinks = self.antialias and any(factor < 1 for factor in factors)
        tapped = self.mode == "cubic" or self.exclude_outside or self.coordinates == "tf_crop_and_resize" or shrinks
        if blocked and (self.mode == "nearest" or not tapped) and self.coordinates != "tf_crop_and_resize":
            ctx.call("resize", (in_planes(ctx, 0),), (ctx.out_planes(),), tables=tuple(self.mixture(*axis) for axis in axes))
            return True
        if x.dtype == UINT8:
            picks = {axis: self.taps(*numbers[:3], *numbers[3])[0][:, 0] for axis, numbers in enumerate(axes, 2)}
            pick(ctx, ctx.plain(0), ctx.out_plain(), x.concrete, x.dtype, picks)
            return True
        given = {"tables": tuple(self._table(*axis) for axis in axes), "value": self.extrapolation}
        if blocked:
            ctx.call("resample", (ctx.planes(0),), (ctx.out_planes(),), **given)
        else:
            ctx.call("resample", (ctx.plain(0),), (ctx.out_plain(),), **given)
        return True

    def axes_of(self, ctx: Lowering) -> list[Axis] | None:
        """The axes of a node; None where they are known only while it runs, or nothing is left of them."""
        x = ctx.inputs[0]
        assert x is not None
        values = [None if i >= len(ctx.inputs) or ctx.inputs[i] is None else ctx.const(i) for i in range(1, 4)]
        if self.factors is None and any(
            i < len(ctx.inputs) and ctx.inputs[i] is not None and values[i - 1] is None for i in range(self.first, 4)
        ):
            return None
        roi, scales, sizes = self.values_of((None, *values))
        out, factors = self.resolve(x.concrete, scales, sizes)
        if 0 in out:
            return None
        return list(zip(x.concrete, out, factors, self._regions(len(out), roi), strict=True))

    def mixture(self, n: int, m: int, scale: Fraction, region: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of one axis, nearest or linear: two pixels for each output pixel, and the weight of the second."""
        index, weights = self.taps(n, m, scale, *region)
        second = weights[:, 1] if weights.shape[1] > 1 else np.zeros(m)
        return index[:, 0], index[:, -1], second.astype(np.float32)

    def _table(self, n: int, m: int, scale: Fraction, region: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of one axis: how many taps each output pixel has, and their indices and weights, one output after the other.

        Taps outside join the pixel that they stand for; pixels that are extrapolated have none.
        """
        if self._keeps(n, m, scale, region):
            return np.ones(n, np.int64), np.arange(n), np.ones(n, np.float32)
        index, weights = self.taps(n, m, scale, *region)
        base = index.min(1)
        joined = np.zeros((m, int((index.max(1) - base).max()) + 1))
        np.add.at(joined, (np.arange(m)[:, None], index - base[:, None]), weights)
        weighs, steps = joined != 0, np.arange(joined.shape[1])
        first = weighs.argmax(1)
        last = np.where(weighs.any(1), joined.shape[1] - 1 - weighs[:, ::-1].argmax(1), first)
        kept = (steps >= first[:, None]) & (steps <= last[:, None])
        if self.coordinates == "tf_crop_and_resize":
            kept &= ~self.off(n, self.positions(n, m, scale, *region))[:, None]
        return kept.sum(1), (base[:, None] + steps)[kept], joined[kept].astype(np.float32)

    def _lower_as_products(
        self, ctx: Lowering, out: tuple[int, ...], factors: tuple[Fraction, ...], regions: list[tuple[float, float]]
    ) -> bool:
        """Along each axis, a product with the matrix of its weights: any kernel, also over axes that are not spatial."""
        x = ctx.inputs[0]
        assert x is not None
        if self.mode == "nearest":
            return False
        shape, value, matrices = list(x.concrete), ctx.plain(0), []
        for axis, (n, m, scale, region) in enumerate(zip(shape, out, factors, regions, strict=True)):
            if self._keeps(n, m, scale, region):
                continue
            if self.coordinates == "tf_crop_and_resize" and self.off(n, self.positions(n, m, scale, *region)).any():
                return False  # the extrapolated border is made by the reference
            if n * m > PRODUCT_LIMIT:
                return False
            index, weights = self.taps(n, m, scale, *region)
            matrix = np.zeros((m, n))
            np.add.at(matrix, (np.arange(m)[:, None], index), weights)
            matrices.append((axis, matrix.astype(np.float32)))
        if not matrices:
            return False
        for step, (axis, rows) in enumerate(matrices):
            m, n = rows.shape
            key = ("resize", self, n, m, factors[axis], regions[axis])
            packed = ctx.pack(key, lambda _, rows=rows: rows)  # type: ignore[misc]
            after = math.prod(shape[axis + 1 :])
            shape[axis] = m
            target = ctx.out_plain() if step == len(matrices) - 1 else ctx.temp(tuple(shape))
            before = math.prod(shape[:axis])
            ctx.call(
                "matmul",
                (packed.reshaped((m, n)), value.reshaped((before, n, after))),
                (target.reshaped((before, m, after)),),
                activation=None,
            )
            value = target
        return True


@dataclass(frozen=True)
class Upsample(Resize):
    """ONNX Upsample (1, 7, 9): enlarges by scales, an attribute in version 7; in 1 images by `height_scale` and `width_scale`."""

    op_type: ClassVar[str] = "Upsample"
    min_version: ClassVar[int] = 1

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Upsample:
        mode = node.attribute("mode", "nearest")
        if mode not in ("nearest", "linear", "bilinear"):
            raise ModelError("unknown mode", node=node.name, operator=node.op_type, expected=("nearest", "linear"), received=mode)
        scales = node.attribute("scales") if node.version < 9 else None
        if node.version < 7:
            scales = [1.0, 1.0, node.attribute("height_scale"), node.attribute("width_scale")]
        if node.version < 9 and scales is None:
            raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected="scales")
        factors = None if scales is None else tuple(float(s) for s in scales)
        return cls("nearest" if mode == "nearest" else "linear", "asymmetric", "simple", first=1, factors=factors)
