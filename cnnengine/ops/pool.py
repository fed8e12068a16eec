"""Pooling: MaxPool, AveragePool, LpPool, the Global pools, MaxUnpool; adaptive and pyramid pooling (domain cnnengine)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from ..errors import InputError, ModelError, ShapeError
from ..operator import EVERY, EXACT, SAME, Gives, Giving, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from ..window import Window

FLOAT32 = np.dtype(np.float32)
INT64 = np.dtype(np.int64)
UINT8 = np.dtype(np.uint8)


def _spatial(spec: TensorSpec | None, operator: str, kinds: str = "f") -> tuple[int, ...]:
    """The concrete shape of a tensor (N, C, spatial...) whose dtype is of these kinds."""
    if spec is None:
        raise ModelError("a required input is absent", operator=operator, expected="input 0")
    shape = spec.concrete
    if spec.dtype.kind not in kinds:
        raise InputError(
            "cannot pool this element type", operator=operator, expected="a floating-point tensor", received=spec.dtype
        )
    if len(shape) < 3:
        raise ShapeError(
            "needs a batch axis, a channel axis and spatial axes",
            operator=operator,
            tensor="x",
            expected="rank >= 3",
            received=shape,
        )
    return shape


def _wide(x: np.ndarray) -> np.dtype:
    """What sums of this dtype are made in."""
    return np.dtype(np.float64) if x.dtype.itemsize <= 8 else x.dtype


def _root(total: np.ndarray, p: float) -> np.ndarray:
    return np.sqrt(total) if p == 2 else total ** (1.0 / p)


@dataclass(frozen=True)
class _WindowPool(Operator):
    """What the three operators with a sliding window share."""

    kernel_shape: tuple[int, ...]
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    auto_pad: str = "NOTSET"
    ceil_mode: int = 0

    kinds: ClassVar[str] = "f"
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = EVERY

    @property
    def window(self) -> Window:
        return Window.of(self.kernel_shape, self.strides, self.dilations, self.pads, self.auto_pad, bool(self.ceil_mode))

    def _resolve(self, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        window = self.window
        if window.auto_pad == "NOTSET" and min(window.pads) < 0:
            raise ShapeError(
                "pads must not be negative", operator=self.op_type, tensor="pads", expected=">= 0", received=window.pads
            )
        return window.resolve(shape[2:])

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        shape = _spatial(inputs[0] if inputs else None, self.op_type, self.kinds)
        assert inputs[0] is not None
        return [TensorSpec(inputs[0].dtype, (*shape[:2], *self._resolve(shape)[0]))]

    def _taps(self, x: np.ndarray) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        """Per kernel tap, first axis outermost: where its outputs stand, and the inputs that it brings them."""
        window = self.window
        out, begins, _ = self._resolve(x.shape)
        axes: list[list[tuple[slice, slice]]] = []
        for n, m, k, s, d, b in zip(x.shape[2:], out, window.kernel, window.strides, window.dilations, begins, strict=True):
            taps: Iterable[int] = range(k)
            if k > n * m:  # most of them meet padding alone: those that do not, by the outputs
                met = (range(max(0, -((i * s - b) // d)), min(k, -((i * s - b - n) // d))) for i in range(m))
                taps = sorted(set(itertools.chain.from_iterable(met)))
            along = []
            for tap in taps:
                offset = tap * d - b
                first, end = max(0, -(offset // s)), min(m, (n - 1 - offset) // s + 1)
                if end > first:
                    start = first * s + offset
                    along.append((slice(first, end), slice(start, start + (end - first - 1) * s + 1, s)))
            axes.append(along)
        for picked in itertools.product(*axes):
            yield (..., *(to for to, _ in picked)), (..., *(source for _, source in picked))

    def geometry(self, ctx: Lowering, dtype: np.dtype = FLOAT32) -> dict[str, Any] | None:
        """What launches are told of the windows; None where no kernel takes the input, which must be of this type."""
        spec = ctx.inputs[0]
        assert spec is not None
        shape = spec.concrete
        if spec.dtype != dtype or len(shape) > 5:
            return None
        window = self.window
        _, begins, ends = self._resolve(shape)
        return {
            "kernel": window.kernel,
            "stride": window.strides,
            "dilation": window.dilations,
            "begins": begins,
            "ends": ends,
        }

    def _call(self, ctx: Lowering, kind: str, **params: Any) -> bool:
        geometry = self.geometry(ctx)
        if geometry is None:
            return False
        ctx.call("pool", [ctx.planes(0)], [ctx.out_planes(0)], kind=kind, **geometry, **params)
        return True


@dataclass(frozen=True)
class MaxPool(_WindowPool):
    """ONNX MaxPool (1, 8, 10, 11, 12, 22).

    The second output, where the node has one, holds the position of each maximum in the whole flattened input (the first of
    equals; a NaN counts as the maximum); `storage_order` 1 counts positions inside a plane along its first axis first.
    A window that lies in the padding altogether gives the lowest value and index -1.
    """

    storage_order: int = 0
    indices: bool = False

    op_type: ClassVar[str] = "MaxPool"
    tolerance: ClassVar[str] = EXACT
    kinds: ClassVar[str] = "fiu"
    gives: ClassVar[Giving] = (Gives(), Gives(INT64))
    element_outputs: ClassVar[Sequence[int]] = (0,)

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Self:
        op = super().from_onnx(node)
        if node.attribute("storage_order", 0) not in (0, 1):
            raise ModelError(
                "unknown storage_order",
                node=node.name,
                operator=cls.op_type,
                tensor="storage_order",
                expected=(0, 1),
                received=node.attribute("storage_order"),
            )
        return cls(**{**op.__dict__, "indices": len(node.outputs) > 1 and bool(node.outputs[1])})

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        y = super().infer(inputs)[0]
        return [y, TensorSpec(INT64, y.shape)] if self.indices else [y]

    def reference(self, *inputs: Any) -> list[Any]:
        x: np.ndarray = inputs[0]
        out = (*x.shape[:2], *self._resolve(x.shape)[0])
        y = np.full(out, -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min, x.dtype)
        if not self.indices:
            for to, source in self._taps(x):
                y[to] = np.maximum(y[to], x[source])
            return [y]
        plane = math.prod(x.shape[2:])
        inside = np.arange(plane).reshape(x.shape[2:], order="F" if self.storage_order else "C")
        where = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *(1,) * inside.ndim) * plane + inside
        at = np.full(out, -1, np.int64)
        for to, source in self._taps(x):
            value, best = x[source], y[to]
            better = (value > best) | ((value != value) & (best == best)) | (at[to] < 0)
            y[to] = np.where(better, value, best)
            at[to] = np.where(better, where[source], at[to])
        return [y, at]

    def lower(self, ctx: Lowering) -> bool:
        if not self.indices:
            bytes_ = self.geometry(ctx, UINT8)
            if bytes_ is None:
                return self._call(ctx, "max")
            ctx.call("qpool", [ctx.planes(0, fill=0)], [ctx.out_planes(0)], kind="max", **bytes_)
            return True
        geometry = self.geometry(ctx)
        if geometry is None:
            return False
        outputs = [ctx.out_plain(0), ctx.out_plain(1)]
        ctx.call("max_pool_indices", [ctx.plain(0)], outputs, **geometry, storage_order=self.storage_order)
        return True


@dataclass(frozen=True)
class AveragePool(_WindowPool):
    """ONNX AveragePool (1, 7, 10, 11, 19, 22).

    The divisor counts the taps inside the input, or with `count_include_pad` those inside the padded input: with `ceil_mode`
    a window may reach beyond it.
    """

    count_include_pad: int = 0

    op_type: ClassVar[str] = "AveragePool"

    def counted(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sums of the windows of x, and what each is divided by."""
        window = self.window
        out, begins, ends = self._resolve(x.shape)
        total = np.zeros((*x.shape[:2], *out), _wide(x))
        count = np.zeros(out)
        for to, source in self._taps(x):
            total[to] += x[source]
            count[to] += 1
        if self.count_include_pad:
            count = np.ones(out)
            for i, n in enumerate(x.shape[2:]):
                start = np.arange(out[i]) * window.strides[i] - begins[i]
                inside = np.clip(-((start - n - ends[i]) // window.dilations[i]), 0, window.kernel[i])
                count = count * inside.reshape(-1, *(1,) * (len(out) - 1 - i))
        return total, count

    def reference(self, *inputs: Any) -> list[Any]:
        x: np.ndarray = inputs[0]
        total, count = self.counted(x)
        with np.errstate(invalid="ignore"):
            return [(total / count).astype(x.dtype)]

    def lower(self, ctx: Lowering) -> bool:
        return self._call(ctx, "avg", count_include_pad=bool(self.count_include_pad))


@dataclass(frozen=True)
class LpPool(_WindowPool):
    """ONNX LpPool (1, 2, 11, 18, 22): ``(sum |x|**p) ** (1/p)`` per window; p was a float in version 1."""

    p: float = 2

    op_type: ClassVar[str] = "LpPool"

    def __post_init__(self) -> None:
        _check_p(self.p, self.op_type)

    def reference(self, *inputs: Any) -> list[Any]:
        x: np.ndarray = inputs[0]
        powers = np.abs(x.astype(_wide(x))) ** self.p
        total = np.zeros((*x.shape[:2], *self._resolve(x.shape)[0]), powers.dtype)
        for to, source in self._taps(x):
            total[to] += powers[source]
        return [_root(total, self.p).astype(x.dtype)]

    def lower(self, ctx: Lowering) -> bool:
        return self._call(ctx, "lp", p=float(self.p))


def _check_p(p: float, operator: str) -> None:
    if not p > 0:
        raise ShapeError("p must be positive", operator=operator, tensor="p", expected="> 0", received=p)


@dataclass(frozen=True)
class _GlobalPool(Operator):
    """Reduction over all spatial axes, which stay as 1; over none of their elements it is what a reduction of those axes is."""

    kind: ClassVar[str] = ""
    kinds: ClassVar[str] = "f"
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = EVERY
    nothing: ClassVar[float] = 0.0
    """The reduction of no elements."""

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        shape = _spatial(inputs[0] if inputs else None, self.op_type, self.kinds)
        assert inputs[0] is not None
        return [TensorSpec(inputs[0].dtype, (*shape[:2], *(1,) * (len(shape) - 2)))]

    def reference(self, *inputs: Any) -> list[Any]:
        x: np.ndarray = inputs[0]
        if 0 in x.shape[2:]:
            return [np.full((*x.shape[:2], *(1,) * (x.ndim - 2)), self.nothing, x.dtype)]
        return [self._of(x).astype(x.dtype)]

    def _of(self, x: np.ndarray) -> np.ndarray:
        """The reduction of at least one element."""
        raise NotImplementedError

    def _call(self, ctx: Lowering, **params: Any) -> bool:
        spec = ctx.inputs[0]
        assert spec is not None
        if spec.dtype != FLOAT32:
            return False
        if 0 in spec.concrete[2:]:
            ctx.call("fill", (), (ctx.out_plain(0),), value=self.nothing)
        elif ctx.is_planes(0):
            ctx.call("global_pool", [ctx.planes(0)], [ctx.out_planes(0)], kind=self.kind, **params)
        else:
            ctx.call("global_pool", [ctx.plain(0)], [ctx.out_plain(0)], kind=self.kind, **params)
        return True

    def lower(self, ctx: Lowering) -> bool:
        return self._call(ctx)


def _spatial_axes(x: np.ndarray) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@dataclass(frozen=True)
class GlobalMaxPool(_GlobalPool):
    """ONNX GlobalMaxPool (1, 22)."""

    op_type: ClassVar[str] = "GlobalMaxPool"
    tolerance: ClassVar[str] = EXACT
    kind: ClassVar[str] = "max"
    nothing: ClassVar[float] = -math.inf

    def _of(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.max(axis=_spatial_axes(x), keepdims=True))


@dataclass(frozen=True)
class GlobalAveragePool(_GlobalPool):
    """ONNX GlobalAveragePool (1, 22)."""

    op_type: ClassVar[str] = "GlobalAveragePool"
    kind: ClassVar[str] = "avg"
    nothing: ClassVar[float] = math.nan

    def _of(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.mean(axis=_spatial_axes(x), keepdims=True, dtype=_wide(x)))


@dataclass(frozen=True)
class GlobalLpPool(_GlobalPool):
    """ONNX GlobalLpPool (1, 2, 22); p was a float in version 1."""

    p: float = 2

    op_type: ClassVar[str] = "GlobalLpPool"
    kind: ClassVar[str] = "lp"

    def __post_init__(self) -> None:
        _check_p(self.p, self.op_type)

    def _of(self, x: np.ndarray) -> np.ndarray:
        return _root((np.abs(x.astype(_wide(x))) ** self.p).sum(axis=_spatial_axes(x), keepdims=True), self.p)

    def lower(self, ctx: Lowering) -> bool:
        return self._call(ctx, p=float(self.p))


@dataclass(frozen=True)
class MaxUnpool(Operator):
    """ONNX MaxUnpool (9, 11, 22): values at the positions that MaxPool gave, zeros elsewhere.

    Positions refer to the shape that kernel, strides and pads imply; an explicit `output_shape` input adds zeros at the ends
    of the spatial axes (so the specification's case maxunpool_export_with_output_shape). A fourth input, which files do not
    have, is the shape of what the MaxPool pooled whose indices these are: where `output_shape` is that shape, positions refer
    to it (`importer.graphs` adds the input to nodes whose indices a MaxPool of the same graph makes).
    """

    kernel_shape: tuple[int, ...]
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()

    op_type: ClassVar[str] = "MaxUnpool"
    min_version: ClassVar[int] = 9
    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = (0,)

    def _inferred(self, shape: Sequence[int]) -> tuple[int, ...]:
        window = Window.of(self.kernel_shape, self.strides, None, self.pads)
        if len(shape) != window.rank + 2:
            raise ShapeError(
                "the window and the input differ in rank",
                operator=self.op_type,
                expected=f"{window.rank} spatial axes",
                received=tuple(shape),
            )
        spatial = tuple(
            (n - 1) * s - window.pads[i] - window.pads[window.rank + i] + k
            for i, (n, s, k) in enumerate(zip(shape[2:], window.strides, window.kernel, strict=True))
        )
        if min(spatial) < 1:
            raise ShapeError("leaves nothing of a spatial axis", operator=self.op_type, expected="extents >= 1", received=spatial)
        return (*shape[:2], *spatial)

    def _shapes(self, shape: Sequence[int], output_shape: Any, pooled: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shape that positions refer to, and that of the output."""
        inferred = self._inferred(shape)
        if output_shape is None:
            return inferred, inferred
        wanted = tuple(int(v) for v in np.asarray(output_shape).reshape(-1))
        if pooled is not None and wanted == tuple(int(v) for v in np.asarray(pooled)) and wanted[:2] == inferred[:2]:
            return wanted, wanted
        if (
            len(wanted) != len(inferred)
            or wanted[:2] != inferred[:2]
            or any(w < i for w, i in zip(wanted, inferred, strict=True))
        ):
            raise ShapeError(
                "the output shape does not hold the unpooled tensor",
                operator=self.op_type,
                tensor="output_shape",
                expected=f"{inferred} or larger spatial extents",
                received=wanted,
            )
        return inferred, wanted

    def _check_indices(self, indices: np.ndarray, size: int) -> None:
        if indices.size and (indices.min() < 0 or indices.max() >= size):
            raise InputError(
                "an index is out of range",
                operator=self.op_type,
                tensor="indices",
                expected=f"0..{size - 1}",
                received=f"{indices.min()}..{indices.max()}",
            )

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        shape = _spatial(inputs[0] if inputs else None, self.op_type, "fiu")
        indices = inputs[1] if len(inputs) > 1 else None
        if inputs[0] is None or indices is None:
            raise ModelError("a required input is absent", operator=self.op_type, expected="X and I")
        if indices.shape != shape or indices.dtype != INT64:
            raise ShapeError(
                "indices must be int64 of the input's shape",
                operator=self.op_type,
                tensor="indices",
                expected=shape,
                received=f"{indices.dtype} {indices.shape}",
            )
        wanted = inputs[2] if len(inputs) > 2 else None
        pooled = inputs[3] if len(inputs) > 3 else None
        if wanted is not None and wanted.value is None:
            return [TensorSpec(inputs[0].dtype, (None,) * len(shape))]
        addressed, output = self._shapes(
            shape, None if wanted is None else wanted.value, None if pooled is None else pooled.value
        )
        if indices.value is not None:
            self._check_indices(indices.value, math.prod(addressed))
        return [TensorSpec(inputs[0].dtype, output)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, indices, wanted, pooled = (*inputs, None, None)[:4]
        addressed, output = self._shapes(x.shape, wanted, pooled)
        y = np.zeros(math.prod(addressed), x.dtype)
        flat = np.asarray(indices).reshape(-1)
        self._check_indices(flat, y.size)
        y[flat] = x.reshape(-1)
        result = np.zeros(output, x.dtype)
        result[tuple(slice(0, n) for n in addressed)] = y.reshape(addressed)
        return [result]

    def lower(self, ctx: Lowering) -> bool:
        spec = ctx.inputs[0]
        assert spec is not None
        shape = spec.concrete
        if spec.dtype != FLOAT32 or len(shape) > 5 or not ctx.outputs[0].is_concrete:
            return False
        wanted, pooled = (ctx.const(i) if i < len(ctx.inputs) else None for i in (2, 3))
        addressed, _ = self._shapes(shape, wanted, pooled)
        ctx.call("max_unpool", [ctx.plain(0), ctx.plain(1)], [ctx.out_plain(0), ctx.faults(1)], inferred=addressed)
        return True


MODES = ("max", "avg")


def _adaptive(x: np.ndarray, output_size: Sequence[int], mode: str) -> np.ndarray:
    """Reduce axis after axis: the bins are products of intervals (a mean is a sum first, then divided by the bin's size)."""
    y = x if mode == "max" else x.astype(_wide(x))
    count = np.ones(())
    for i, (n, o) in enumerate(zip(x.shape[2:], output_size, strict=True)):
        edges = [(j * n // o, -(-(j + 1) * n // o)) for j in range(o)]
        source = np.moveaxis(y, 2 + i, 0)
        parts = [source[a:b].max(axis=0) if mode == "max" else source[a:b].sum(axis=0) for a, b in edges]
        y = np.stack(parts, axis=2 + i)
        count = count[..., None] * np.array([b - a for a, b in edges], np.float64)
    return y if mode == "max" else (y / count).astype(x.dtype)


def _check_mode(mode: str, operator: str) -> None:
    if mode not in MODES:
        raise InputError("unknown mode", operator=operator, tensor="mode", expected=" or ".join(MODES), received=mode)


def _poolable(spec: TensorSpec | None, operator: str, mode: str) -> tuple[int, ...]:
    shape = _spatial(spec, operator, "fiu" if mode == "max" else "f")
    if len(shape) > 5 or min(shape[2:]) < 1:
        raise ShapeError(
            "cannot be pooled", operator=operator, expected="1 to 3 spatial axes, none of them empty", received=shape
        )
    return shape


@dataclass(frozen=True)
class AdaptivePool(Operator):
    """Adaptive max or average pooling: bin i of o over n pixels covers floor(i*n/o) to ceil((i+1)*n/o) (PyTorch).

    Attributes
    ----------
    output_size : tuple of int
        One per spatial axis.
    mode : {"max", "avg"}
    """

    output_size: tuple[int, ...]
    mode: str = "max"

    op_type: ClassVar[str] = "AdaptivePool"
    domain: ClassVar[str] = "cnnengine"
    gives: ClassVar[Giving] = SAME

    def __post_init__(self) -> None:
        _check_mode(self.mode, self.op_type)
        if not self.output_size or min(self.output_size) < 1:
            raise ShapeError(
                "output sizes must be positive",
                operator=self.op_type,
                tensor="output_size",
                expected=">= 1",
                received=self.output_size,
            )

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        shape = _poolable(inputs[0] if inputs else None, self.op_type, self.mode)
        assert inputs[0] is not None
        if len(self.output_size) != len(shape) - 2:
            raise ShapeError(
                "one output size per spatial axis is needed",
                operator=self.op_type,
                tensor="output_size",
                expected=f"{len(shape) - 2} sizes",
                received=self.output_size,
            )
        return [TensorSpec(inputs[0].dtype, (*shape[:2], *self.output_size))]

    def reference(self, *inputs: Any) -> list[Any]:
        return [_adaptive(inputs[0], self.output_size, self.mode)]

    def lower(self, ctx: Lowering) -> bool:
        spec = ctx.inputs[0]
        if spec is None or spec.dtype != FLOAT32:
            return False
        ctx.call("adaptive_pool", [ctx.planes(0)], [ctx.out_plain(0)], kind=self.mode, levels=(self.output_size,))
        return True


@dataclass(frozen=True)
class SpatialPyramidPool(Operator):
    """Spatial pyramid pooling (He et al. 2014, arXiv:1406.4729): any spatial extents to a vector of fixed length.

    Every level l is an adaptive pool into l bins per spatial axis, flattened in C order; levels are joined in their order.

    Attributes
    ----------
    levels : tuple of int
    mode : {"max", "avg"}
    rank : int
        Number of spatial axes that the input must have; 0 for any.
    """

    levels: tuple[int, ...] = (4, 2, 1)
    mode: str = "max"
    rank: int = 0

    op_type: ClassVar[str] = "SpatialPyramidPool"
    domain: ClassVar[str] = "cnnengine"
    gives: ClassVar[Giving] = (Gives(rank=2),)

    def __post_init__(self) -> None:
        _check_mode(self.mode, self.op_type)
        if not self.levels or min(self.levels) < 1:
            raise ShapeError(
                "levels must be positive", operator=self.op_type, tensor="levels", expected=">= 1", received=self.levels
            )

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        shape = _poolable(inputs[0] if inputs else None, self.op_type, self.mode)
        assert inputs[0] is not None
        if self.rank and self.rank != len(shape) - 2:
            raise ShapeError("the rank is another", operator=self.op_type, expected=f"{self.rank} spatial axes", received=shape)
        return [TensorSpec(inputs[0].dtype, (shape[0], shape[1] * sum(v ** (len(shape) - 2) for v in self.levels)))]

    def reference(self, *inputs: Any) -> list[Any]:
        x: np.ndarray = inputs[0]
        parts = [_adaptive(x, (v,) * (x.ndim - 2), self.mode) for v in self.levels]
        return [np.concatenate([p.reshape(x.shape[0], math.prod(p.shape[1:])) for p in parts], axis=1)]

    def lower(self, ctx: Lowering) -> bool:
        spec = ctx.inputs[0]
        if spec is None or spec.dtype != FLOAT32:
            return False
        rank = len(spec.concrete) - 2
        ctx.call(
            "adaptive_pool", [ctx.planes(0)], [ctx.out_plain(0)], kind=self.mode, levels=tuple((v,) * rank for v in self.levels)
        )
        return True


OPERATORS: tuple[type[Operator], ...] = (
    MaxPool,
    AveragePool,
    LpPool,
    GlobalMaxPool,
    GlobalAveragePool,
    GlobalLpPool,
    MaxUnpool,
    AdaptivePool,
    SpatialPyramidPool,
)
"""The operators of this file."""
