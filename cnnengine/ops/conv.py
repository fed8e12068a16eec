"""Convolution and transposed convolution: kernels over 1 to 3 spatial axes, NumPy over more."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .._kernels.pack import pack_bias, pack_conv, pack_depthwise
from .._kernels.winograd import FORMS as WINOGRAD_FORMS
from .._kernels.winograd import depth_as_channels, pack_winograd
from ..errors import InputError, ModelError, ShapeError, UnsupportedOperatorError
from ..layout import NO_HALO, Halo, merge_halos
from ..operator import Activation, Lowering, NodeRecord, Operator
from ..packing import Empty, Panels
from ..records import dataclass
from ..spec import TensorSpec
from ..window import Window
from .elements import activate

FLOAT32 = np.dtype(np.float32)
Offsets = tuple[int, int, int]
Pair = tuple[int, int]


def _three(values: Sequence[int], fill: int) -> Offsets:
    """Values of 1 to 3 spatial axes as (d, h, w)."""
    return (fill,) * (3 - len(values)) + tuple(values)  # type: ignore[return-value]


def _halo_for(offsets: Sequence[Offsets], extent: Sequence[int], stride: Offsets, size: Sequence[int]) -> Halo:
    """The halo that x needs so that every tap of every output pixel lies inside."""
    halo = []
    for axis in range(3):
        low = min(o[axis] for o in offsets)
        high = max(o[axis] for o in offsets) + (extent[axis] - 1) * stride[axis]
        halo.append((max(0, -low), max(0, high - (size[axis] - 1))))
    return tuple(halo)  # type: ignore[return-value]


def _axis_regions(size: int, out: int, stride: int, offsets: Sequence[int]) -> list[tuple[int, int, list[int]]]:
    """Runs of output positions along one axis that the same taps serve: (first, count, taps that do not meet padding alone)."""
    regions: list[tuple[int, int, list[int]]] = []
    for i in range(out):
        used = [t for t, offset in enumerate(offsets) if 0 <= i * stride + offset < size]
        if regions and regions[-1][2] == used:
            regions[-1] = (regions[-1][0], regions[-1][1] + 1, used)
        else:
            regions.append((i, 1, used))
    return regions


CALL_PRODUCTS = 100_000
"""Multiply-adds that take as long as one more call of a kernel, its tiles' tails included."""


def _regions(
    window: Window, spatial: Sequence[int], out: Sequence[int], ranges: Sequence[Sequence[int]], products: int
) -> list[list[tuple[int, int, list[int]]]] | None:
    """The regions of every axis where leaving out taps that meet padding alone saves a fifth of the products, else None.

    With kernels that are not dilated, only the rim of the output has such taps: too narrow to be computed by itself. Every region
    is a call of its own, and all `products` of an image are few in small layers.
    """
    whole, left, axes = 1, 1, []
    for size, n, stride, dilation, offsets in zip(spatial, out, window.strides, window.dilations, ranges, strict=True):
        regions = [(0, n, list(range(len(offsets))))]
        if dilation > 1:
            regions = _axis_regions(size, n, stride, offsets)
        axes.append(regions)
        whole *= n * len(offsets)
        left *= sum(count * len(used) for _, count, used in regions)
    calls = math.prod(map(len, axes))
    if left > 0.8 * whole or calls > 9 or (1 - left / whole) * products < calls * CALL_PRODUCTS:
        return None
    return axes


LARGE_TRANSFORMED = 16 << 20
"""Bytes of transformed weights of 3-D and dilated kernels from which their memory counts."""


def _plane(values: Sequence[int], fill: int) -> Pair:
    """Values of 1 to 3 spatial axes as those of the last two."""
    return _three(values, fill)[1:]


def _winograd_tile(window: Window, channels: int, out_channels: int, out: Sequence[int]) -> Pair | None:
    """The output pixels of a Winograd tile, None where the direct kernel is faster; by channels of a group and output extents.

    Measured on AVX2 and AVX-512 over 6 to 56 pixels and 3 to 512 channels: from 9 tiles of 4x4 (an output of 9 pixels) on, 3x3
    kernels take 0.25 to 0.75 of the time with 32 channels and more, 5x5 kernels 0.4 to 0.6 from 16 channels and 16 tiles of 2x2
    on. With fewer tiles the weights, four times as many, are used too seldom; with few channels the transforms outweigh the
    products. From 5 to 8 pixels on a side 3x3 kernels have tiles of 2x2, for which the weights are less than twice as many.
    Kernels of one row or column take 0.4 to 0.85, 3x3 kernels at stride 2 0.65 to 0.9, those dilated by 2 to 4 0.3 to 0.6.

    The tiles of all depths share the weights: 4 tiles (7 pixels) at 2 depths take 0.6 of the time. Where the weights of 3-D
    layers are large, four times the memory buys little: r3d_18 takes a twentieth longer without the 28 MB of each layer of 256
    channels at 64 tiles, and no longer without the 113 MB of those of 512 channels at 8.

    The batch does not count: it must not change the rounding.
    """
    rank = len(window.kernel)
    kernel, strides, dilations = (_plane(v, 1) for v in (window.kernel, window.strides, window.dilations))
    tile: Pair | None = next((tile for taps, tile, step in WINOGRAD_FORMS if taps == kernel and step == strides), None)
    if tile is None or (rank == 3 and set(window.dilations) != {1}):
        return None

    def tiles(size: Pair) -> int:
        each = (d * -(-n // d // m) for n, d, m in zip(_plane(out, 1), dilations, size, strict=True))
        return math.prod(each) * (out[0] if rank == 3 else 1)

    least, products, count = min(channels, out_channels), channels * out_channels, tiles(tile)
    if max(dilations) > 1:
        # every phase has tiles of its own, which may reach beyond it; the direct kernel leaves out taps that meet padding alone
        waste = count * math.prod(tile) / max(math.prod(out), 1)
        if strides != (1, 1) or max(dilations) > 4 or waste > 2:
            return None
        if kernel == (3, 3) and 4 * 36 * products > LARGE_TRANSFORMED:
            return 2, 2  # 0.48 of the direct time instead of 0.4, for less than half of the memory
    if strides != (1, 1):
        # 81 products for 144, but tiles may reach beyond the output, and the transforms weigh more the fewer channels there are
        spent = 81 * count * (1 + 16 / least) if least else 0.0
        return tile if rank == 2 and least >= 32 and count >= 16 and spent <= 0.9 * 9 * math.prod(out) else None
    if 1 in kernel:
        return tile if rank < 3 and least >= (16 if 3 in kernel else 32) and products >= 1024 and count >= 12 else None
    enough = 9
    if rank == 3:
        enough = 8 if 4 * 36 * window.kernel[0] * channels * out_channels <= LARGE_TRANSFORMED else 65
    if count >= enough:
        return tile if least >= 8 and products >= (512 if count < 25 else 256) else None
    small: Pair = (2, 2)
    return small if rank == 2 and kernel == (3, 3) and tiles(small) >= 9 and least >= 32 else None


@dataclass(frozen=True)
class Transform:
    """A way of computing a convolution by Winograd's algorithm.

    Attributes
    ----------
    tile : (h, w)
        Output pixels of a tile.
    extra : int
        Bytes of the transformed weights beyond those of the plain ones.
    saved : float
        Products of one image that are saved, those being taken off that take as long as the transforms.
    """

    tile: Pair
    extra: int
    saved: float


TRANSFORM_PRODUCTS = 6
"""Products that take as long as the transforms of an element, per input channel and per output channel."""


class NotTransformable(Exception):
    """Weights, by name, that the transform would not keep finite."""


@dataclass(frozen=True)
class _Convolution(Operator):
    """What Conv and ConvTranspose share: attributes and checks.

    Attributes
    ----------
    kernel_shape : tuple of int, optional
        Taken from the weights when absent.
    strides, dilations, pads : tuples of int
        Empty: 1, 1 and 0 for every axis.
    auto_pad : str
    group : int
    activation : Activation, optional
        Fused by a pass.
    """

    kernel_shape: tuple[int, ...] | None = None
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    auto_pad: str = "NOTSET"
    group: int = 1
    activation: Activation | None = None

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        if len(node.inputs) not in (2, 3) or not node.inputs[0] or not node.inputs[1]:
            raise ModelError("needs x, w and perhaps a bias", node=node.name, operator=cls.op_type, received=node.inputs)
        return super().from_onnx(node)

    def _window(self, w_shape: tuple[int, ...]) -> Window:
        kernel = w_shape[2:]
        if self.kernel_shape is not None and tuple(self.kernel_shape) != kernel:
            raise ShapeError(
                "kernel_shape differs from the weights",
                operator=self.op_type,
                tensor="w",
                expected=self.kernel_shape,
                received=kernel,
            )
        try:
            window = Window.of(kernel, self.strides, self.dilations, self.pads, self.auto_pad)
        except ShapeError as error:
            raise error.locate(operator=self.op_type) from None
        if window.auto_pad == "NOTSET" and min(window.pads, default=0) < 0:
            raise ShapeError(
                "pads must not be negative", operator=self.op_type, tensor="pads", expected=">= 0", received=window.pads
            )
        return window

    def _check(self, inputs: Sequence[TensorSpec | None], out_channels: int, in_channels: int) -> None:
        x, w = inputs[0], inputs[1]
        assert x is not None and w is not None
        xs, ws = x.concrete, w.concrete
        if len(xs) < 3:
            raise ShapeError(
                "x has the wrong rank", operator=self.op_type, tensor="x", expected="(N, C, spatial axes...)", received=xs
            )
        if len(ws) != len(xs):
            raise ShapeError(
                "w has another rank than x", operator=self.op_type, tensor="w", expected=f"{len(xs)} axes", received=ws
            )
        for name, spec in (("x", x), ("w", w), ("bias", inputs[2] if len(inputs) > 2 else None)):
            if spec is not None and (spec.dtype.kind != "f" or spec.dtype != x.dtype):
                raise InputError(
                    "has the wrong dtype", operator=self.op_type, tensor=name, expected="float32", received=spec.dtype
                )
        if self.group < 1 or ws[0] % self.group or xs[1] % self.group or out_channels < 1:
            raise ShapeError(
                "groups do not divide the channels",
                operator=self.op_type,
                tensor="groups",
                expected=f"a divisor of {xs[1]} input channels and of w's {ws[0]}",
                received=self.group,
            )
        if xs[1] != in_channels:
            raise ShapeError(
                "w does not fit the channels of x",
                operator=self.op_type,
                tensor="w",
                expected=f"{xs[1]} input channels",
                received=ws,
            )
        if len(inputs) > 2 and inputs[2] is not None and inputs[2].concrete != (out_channels,):
            raise ShapeError(
                "the bias has the wrong shape",
                operator=self.op_type,
                tensor="bias",
                expected=(out_channels,),
                received=inputs[2].concrete,
            )


@dataclass(frozen=True)
class Conv(_Convolution):
    """ONNX Conv (versions 1, 11, 22).

    Attributes
    ----------
    residual : bool
        Whether a fourth input of the output's shape is added before the activation (fused by the lowering).
    gated : bool
        Whether the last input (N, C, 1...) scales the channels of x first (fused by the lowering, into 1x1 convolutions).
    channels_last : bool
        Whether x is (N, H, W, C) of few channels, in one group and without dilation (fused by the lowering).
    """

    residual: bool = False
    gated: bool = False
    channels_last: bool = False

    op_type: ClassVar[str] = "Conv"

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x, w = inputs[0], inputs[1]
        assert x is not None and w is not None
        ws = w.concrete
        if self.channels_last:
            x = TensorSpec(x.dtype, (x.concrete[0], x.concrete[-1], *x.concrete[1:-1]))
            inputs = (x, *inputs[1:])
        self._check(inputs, ws[0] if ws else 0, ws[1] * self.group if len(ws) > 1 else 0)
        try:
            out, _, _ = self._window(ws).resolve(x.concrete[2:])
        except ShapeError as error:
            raise error.locate(operator=self.op_type, tensor="x") from None
        return [TensorSpec(x.dtype, (x.concrete[0], ws[0], *out))]

    def reference(self, *inputs: Any) -> list[Any]:
        x, w = inputs[0], inputs[1]
        if self.gated:
            x = x * inputs[-1]
        if self.channels_last:
            x = np.moveaxis(x, -1, 1)
        b = inputs[2] if len(inputs) > 2 else None
        out, begins, ends = self._window(w.shape).resolve(x.shape[2:])
        window = self._window(w.shape)
        rank = len(out)
        wide = x.dtype if x.dtype == np.float64 else np.float64
        xp = np.pad(x.astype(wide), [(0, 0), (0, 0), *zip(begins, [max(e, 0) for e in ends], strict=True)])
        g = self.group
        y = np.zeros((x.shape[0], g, w.shape[0] // g, *out), wide)
        xg = xp.reshape(x.shape[0], g, x.shape[1] // g, *xp.shape[2:])
        wg = w.astype(wide).reshape(g, w.shape[0] // g, *w.shape[1:])
        for tap in itertools.product(*(range(k) for k in w.shape[2:])):
            at = tuple(
                slice(t * d, t * d + (o - 1) * s + 1, s)
                for t, d, s, o in zip(tap, window.dilations, window.strides, out, strict=True)
            )
            y += np.einsum("ngi...,goi->ngo...", xg[(slice(None),) * 3 + at], wg[(slice(None),) * 3 + tap])
        y = y.reshape(x.shape[0], w.shape[0], *out)
        if b is not None:
            y += b.astype(wide).reshape(-1, *(1,) * rank)
        if self.residual:
            y += inputs[3]
        return [activate(y.astype(x.dtype), self.activation)]

    def transforms(self, x: tuple[int, ...], w: TensorSpec, lanes: int) -> list[Transform]:
        """How Winograd's algorithm may compute this for x of this shape, the fastest way first; none where it does not pay."""
        if w.value is None or w.dtype != FLOAT32 or self.channels_last:
            return []
        shape = w.concrete
        o, cg, g = shape[0], shape[1], self.group
        if g > 1 and x[1] == o and lanes % cg == 0 and (cg == 1 or cg < lanes):
            return []
        window = self._window(shape)
        out, _, _ = window.resolve(x[2:])
        best = _winograd_tile(window, cg, o // g, out)
        if best is None:
            return []
        kernel, strides, dilations = (_plane(v, 1) for v in (window.kernel, window.strides, window.dilations))
        depth, deep = (window.kernel[0], out[0]) if len(out) == 3 else (1, 1)
        found = []
        for taps, tile, step in WINOGRAD_FORMS:
            if taps != kernel or step != strides or math.prod(tile) > math.prod(best):
                continue
            matrices = math.prod(n + k - 1 for n, k in zip(tile, kernel, strict=True))
            elements = math.prod(n * s + k - s for n, k, s in zip(tile, kernel, strides, strict=True))
            tiles = math.prod(d * -(-n // d // m) for n, d, m in zip(_plane(out, 1), dilations, tile, strict=True)) * deep
            spent = elements * tiles * (depth * cg * o + TRANSFORM_PRODUCTS * (x[1] + o))
            saved = float(math.prod(out) * math.prod(kernel) * depth * cg * o - spent)
            # four bytes an element, and two bits a tap
            extra = 4 * cg * o * depth * (matrices - math.prod(kernel)) + cg * o * depth * math.prod(kernel) // 4
            found.append(Transform(tile, extra, saved))
        return sorted(found, key=lambda option: -math.prod(option.tile))

    def lower(self, ctx: Lowering) -> bool:
        w, bias = ctx.const(1), ctx.const(2)
        x = ctx.inputs[0]
        assert x is not None
        if w is None or x.dtype != FLOAT32 or (bias is None and len(ctx.inputs) > 2 and ctx.inputs[2] is not None):
            return False
        if self.channels_last:
            return self._lower_channels_last(ctx, w, bias, x.concrete)
        c, spatial = x.concrete[1], x.concrete[2:]
        if len(spatial) > 3:
            return False
        window = self._window(w.shape)
        out, begins, _ = window.resolve(spatial)
        stride = _three(window.strides, 1)
        ranges = [[t * d - b for t in range(k)] for k, d, b in zip(window.kernel, window.dilations, begins, strict=True)]
        taps = [_three(t, 0) for t in itertools.product(*ranges)]
        halo = _halo_for(taps, _three(out, 1), stride, _three(spatial, 1))
        names = (ctx.name(1), ctx.name(2) if bias is not None else "")
        o, cg = w.shape[:2]
        g = self.group
        residual = None
        if g > 1 and c == o and ctx.lanes % cg == 0 and (cg == 1 or cg < ctx.lanes):
            packed = ctx.pack(("depthwise", *names), lambda empty: pack_depthwise(w, empty))
            bias_packed = ctx.pack(("bias", *names), lambda empty: pack_bias(bias, o, empty))
            if self.residual:
                residual = ctx.planes(3)
            ctx.call(
                "depthwise",
                [ctx.planes(0, halo=halo), packed, bias_packed, residual],
                [ctx.out_planes()],
                taps=taps,
                stride=stride,
                per_group=cg,
                activation=self.activation,
            )
            return True
        tile: Pair | None = None
        if ctx.winograd:
            tile = _winograd_tile(window, cg, o // g, out) if isinstance(ctx.winograd, bool) else ctx.winograd
        if tile is not None:
            depth = window.kernel[0] if len(out) == 3 else 1
            kernel, plane_strides, dilations = (_plane(v, 1) for v in (window.kernel, window.strides, window.dilations))
            if depth > 1:
                # depths beyond x are skipped, not read
                halo = ((0, 0), *halo[1:])

            def transform(empty: Empty) -> np.ndarray:
                whole = w if w.ndim > 3 else w[:, :, None]
                try:
                    packed: np.ndarray = pack_winograd(whole if whole.ndim == 4 else depth_as_channels(whole), empty, tile, plane_strides, g)
                except OverflowError:
                    raise NotTransformable(names[0]) from None
                return packed

            ctx.call(
                "winograd",
                [
                    ctx.planes(0, halo=halo, groups=g),
                    ctx.pack(("winograd", *names, g, tile, plane_strides), transform),
                    ctx.pack(("bias", *names, g), lambda empty: pack_bias(bias, o, empty, g)),
                    ctx.planes(3, groups=g) if self.residual else None,
                ],
                [ctx.out_planes(groups=g)],
                kernel=kernel,
                tile=tile,
                strides=plane_strides,
                dilations=dilations,
                pads=_three(begins, 0),
                taps=depth,
                stride=stride[0],
                groups=g,
                activation=self.activation,
            )
            return True
        lanes = 1 if g == 1 and cg < ctx.lanes and cg <= 4 and not ctx.is_planes(0) else ctx.lanes
        regions = _regions(window, spatial, out, ranges, math.prod(out) * w.size)
        calls: list[dict[str, Any]] = [{"taps": taps}]
        if regions is not None:
            calls = []
            halo = NO_HALO
            for picks in itertools.product(*regions):
                used = [
                    (at, _three(offsets, 0))
                    for at, (tap, offsets) in enumerate(
                        zip(itertools.product(*map(range, window.kernel)), itertools.product(*ranges), strict=True)
                    )
                    if all(t in pick[2] for t, pick in zip(tap, picks, strict=True))
                ]
                first, extent = _three([p[0] for p in picks], 0), _three([p[1] for p in picks], 1)
                # taps count from the pixel of the grid's own start
                here = [tuple(a + f * s for a, f, s in zip(t, first, stride, strict=True)) for _, t in used]
                if here:
                    halo = merge_halos(halo, _halo_for(here, extent, stride, _three(spatial, 1)))  # type: ignore[arg-type]
                calls.append(
                    {
                        "taps": here,
                        "start": first,
                        "extent": extent,
                        "weight_taps": ([at for at, _ in used], len(taps)),
                    }
                )
        packed = ctx.pack(("conv", *names, g, lanes), Panels(w, lanes, g))
        bias_packed = ctx.pack(("bias", *names, g), lambda empty: pack_bias(bias, o, empty, g))
        # for one unit of outputs the kernel itself lays the rows of few plain channels between zeros; else that takes as long
        whole = lanes == 1 and regions is None and len(out) < 3 and min(out) > 0 and o <= 2 * ctx.lanes
        xo = ctx.plain(0) if whole else ctx.planes(0, halo=halo, lanes=lanes, groups=g)
        if self.residual:
            residual = ctx.planes(3, groups=g)
        extra: dict[str, Any] = {}
        if self.gated:
            scaled = ctx.temp((x.concrete[0] * -(-o // lanes) * lanes * c,))
            ctx.call("gate_weights", [packed, ctx.planes(3 + self.residual)], [scaled], out_channels=o)
            packed, extra = scaled, {"weights_per_image": True}
        y = ctx.out_planes(groups=g)
        for index, call in enumerate(calls):
            ctx.call(
                "conv",
                [xo, packed, bias_packed, residual],
                [y],
                stride=stride,
                groups=g,
                activation=self.activation,
                write_halo=index + 1 == len(calls),
                **call,
                **extra,
            )
        return True

    def _lower_channels_last(self, ctx: Lowering, w: np.ndarray, bias: np.ndarray | None, x: tuple[int, ...]) -> bool:
        """(N, H, W, C) is one channel of W * C pixels, and one kw wide a kernel of kw * C, at C times the stride."""
        n, height, width, c = x
        window = self._window(w.shape)
        _, (top, left), _ = window.resolve((height, width))
        o, _, kh, kw = w.shape
        names = (ctx.name(1), ctx.name(2) if bias is not None else "")
        packed = ctx.pack(
            ("conv channels last", *names),
            lambda empty: pack_conv(np.ascontiguousarray(w.transpose(0, 2, 3, 1)).reshape(o, 1, kh, kw * c), 1, 1, empty),
        )
        ctx.call(
            "conv",
            [
                ctx.plain(0).reshaped((n, 1, height, width * c)),
                packed,
                ctx.pack(("bias", *names, 1), lambda empty: pack_bias(bias, o, empty)),
                ctx.planes(3) if self.residual else None,
            ],
            [ctx.out_planes()],
            taps=[(0, i - top, j - left * c) for i in range(kh) for j in range(kw * c)],
            stride=(1, window.strides[0], window.strides[1] * c),
            activation=self.activation,
        )
        return True


@dataclass(frozen=True)
class ConvChain(Operator):
    """A depthwise convolution with the 1x1 convolutions around it, made by the lowering (`lowering.fusion`).

    Inputs: x, then weights and bias (or "") of each convolution, then the residual of the last one if it has any.

    Attributes
    ----------
    convs : tuple of Conv
        In order.
    expand, project : bool
        Whether the first and the last one are 1x1; the other one is the depthwise convolution, over two spatial axes.
    """

    convs: tuple[Conv, ...] = ()
    expand: bool = False
    project: bool = False

    op_type: ClassVar[str] = "ConvChain"
    domain: ClassVar[str] = "cnnengine"

    @property
    def residual(self) -> bool:
        """Whether a last input is added before the last activation."""
        return self.convs[-1].residual

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        spec = inputs[0]
        for i, conv in enumerate(self.convs):
            extra = [inputs[-1]] if conv.residual else []
            (spec,) = conv.infer([spec, inputs[1 + 2 * i], inputs[2 + 2 * i], *extra])
        assert spec is not None
        return [spec]

    def reference(self, *inputs: Any) -> list[Any]:
        value = inputs[0]
        for i, conv in enumerate(self.convs):
            extra = [inputs[-1]] if conv.residual else []
            (value,) = conv.reference(value, inputs[1 + 2 * i], inputs[2 + 2 * i], *extra)
        return [value]

    def macs(self, x: tuple[int, ...], weights: Sequence[tuple[int, ...]], y: tuple[int, ...]) -> int:
        """Multiply-adds for these shapes."""
        total = 0
        for index, shape in enumerate(weights):
            pixels = x[2:] if self.expand and index == 0 else y[2:]
            total += x[0] * math.prod(pixels) * math.prod(shape)
        return total

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        assert x is not None
        middle = 1 if self.expand else 0
        packed: list[Any] = []
        for i, conv in enumerate(self.convs):
            w, bias = ctx.const(1 + 2 * i), ctx.const(2 + 2 * i)
            assert w is not None
            names = (ctx.name(1 + 2 * i), ctx.name(2 + 2 * i) if bias is not None else "")
            if i == middle:
                packed.append(ctx.pack(("depthwise", *names), lambda empty, w=w: pack_depthwise(w, empty)))  # type: ignore[misc]
                packed.append(ctx.pack(("bias", *names), lambda empty, w=w, bias=bias: pack_bias(bias, w.shape[0], empty)))  # type: ignore[misc]
                hidden = w.shape[0]
                window = conv._window(w.shape)
            else:
                packed.append(ctx.pack(("conv", *names, 1, ctx.lanes), Panels(w, ctx.lanes)))
                packed.append(ctx.pack(("bias", *names, 1), lambda empty, w=w, bias=bias: pack_bias(bias, w.shape[0], empty)))  # type: ignore[misc]
        out, begins, _ = window.resolve(x.concrete[2:])
        ranges = [[t * d - b for t in range(k)] for k, d, b in zip(window.kernel, window.dilations, begins, strict=True)]
        taps = list(itertools.product(*ranges))
        halo = NO_HALO
        if not self.expand:
            halo = _halo_for([_three(t, 0) for t in taps], _three(out, 1), _three(window.strides, 1), _three(x.concrete[2:], 1))
        ctx.call(
            "chain",
            [
                ctx.planes(0, halo=halo),
                *(packed[:2] if self.expand else (None, None)),
                *packed[2 * middle : 2 * middle + 2],
                *(packed[-2:] if self.project else (None, None)),
                ctx.planes(2 * len(self.convs) + 1) if self.residual else None,
            ],
            [ctx.out_planes()],
            taps=taps,
            hidden=hidden,
            size=tuple(out),
            stride=tuple(window.strides),
            expand=self.convs[0].activation if self.expand else None,
            depthwise=self.convs[middle].activation,
            project=self.convs[-1].activation if self.project else None,
        )
        return True


@dataclass(frozen=True)
class ConvTranspose(_Convolution):
    """ONNX ConvTranspose (versions 1, 11, 22).

    The output is cut into phases by ``position mod stride``: each is an ordinary stride-1 convolution with a part of the taps,
    written with a step. Nothing is multiplied by inserted zeros.

    Attributes
    ----------
    output_padding, output_shape : tuples of int
        Empty where absent; an output_shape overrides the pads. The first exporters wrote N and C into it too.
    """

    output_padding: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()

    op_type: ClassVar[str] = "ConvTranspose"

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x, w = inputs[0], inputs[1]
        assert x is not None and w is not None
        ws = w.concrete
        self._check(inputs, ws[1] * self.group if len(ws) > 1 else 0, ws[0] if ws else 0)
        out, _, _ = self._resolve(ws, x.concrete[2:])
        return [TensorSpec(x.dtype, (x.concrete[0], ws[1] * self.group, *out))]

    def _resolve(
        self, w_shape: tuple[int, ...], spatial: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        window = self._window(w_shape)
        if any(p >= max(s, d) or p < 0 for p, s, d in zip(self.output_padding, window.strides, window.dilations, strict=False)):
            raise ShapeError(
                "output_padding must be smaller than stride or dilation",
                operator=self.op_type,
                tensor="output_padding",
                expected=f"0 <= p < max{window.strides, window.dilations}",
                received=self.output_padding,
            )
        try:
            named = len(self.output_shape) == len(spatial) + 2
            return window.resolve_transpose(spatial, self.output_padding, self.output_shape[2:] if named else self.output_shape)
        except ShapeError as error:
            raise error.locate(operator=self.op_type, tensor="x") from None

    def reference(self, *inputs: Any) -> list[Any]:
        x, w = inputs[0], inputs[1]
        b = inputs[2] if len(inputs) > 2 else None
        window = self._window(w.shape)
        out, begins, _ = self._resolve(w.shape, x.shape[2:])
        g, rank = self.group, len(out)
        full = [
            max((n - 1) * s + e, p + o)
            for n, s, e, p, o in zip(x.shape[2:], window.strides, window.extent, begins, out, strict=True)
        ]
        y = np.zeros((x.shape[0], g, w.shape[1], *full))
        xg = x.astype(np.float64).reshape(x.shape[0], g, x.shape[1] // g, *x.shape[2:])
        wg = w.astype(np.float64).reshape(g, w.shape[0] // g, *w.shape[1:])
        for tap in itertools.product(*(range(k) for k in w.shape[2:])):
            at = tuple(
                slice(t * d, t * d + (n - 1) * s + 1, s)
                for t, d, s, n in zip(tap, window.dilations, window.strides, x.shape[2:], strict=True)
            )
            y[(slice(None),) * 3 + at] += np.einsum("ngi...,gio->ngo...", xg, wg[(slice(None),) * 3 + tap])
        y = y[(slice(None),) * 3 + tuple(slice(p, p + o) for p, o in zip(begins, out, strict=True))]
        y = y.reshape(x.shape[0], g * w.shape[1], *out)
        if b is not None:
            y = y + b.reshape(-1, *(1,) * rank)
        return [activate(y.astype(x.dtype), self.activation)]

    def lower(self, ctx: Lowering) -> bool:
        w, bias = ctx.const(1), ctx.const(2)
        x = ctx.inputs[0]
        assert x is not None
        if w is None or x.dtype != FLOAT32 or (bias is None and len(ctx.inputs) > 2 and ctx.inputs[2] is not None):
            return False
        spatial = x.concrete[2:]
        if len(spatial) > 3:
            return False
        window = self._window(w.shape)
        out, begins, _ = self._resolve(w.shape, spatial)
        if any(b < 0 for b in begins):
            raise UnsupportedOperatorError("negative begin pads are not supported", operator=self.op_type, received=begins)
        g, o = self.group, w.shape[1] * self.group
        names = (ctx.name(1), ctx.name(2) if bias is not None else "")
        bias_packed = ctx.pack(("bias", *names, g), lambda empty: pack_bias(bias, o, empty, g))
        # per axis and phase: first output position, extent, [(tap, pixel offset)]
        axes = []
        for k, s, d, b, size in zip(window.kernel, window.strides, window.dilations, begins, out, strict=True):
            phases = []
            for start in range(min(s, size)):
                at = start + b
                used = [(t, (at - t * d) // s) for t in range(k) if (at - t * d) % s == 0]
                phases.append((start, -(-(size - start) // s), used))
            axes.append(phases)
        calls = []
        halo: Halo = ((0, 0), (0, 0), (0, 0))
        for phase in itertools.product(*axes):
            picks = list(itertools.product(*(p[2] for p in phase)))
            taps = [_three([offset for _, offset in pick], 0) for pick in picks]
            extent = _three([p[1] for p in phase], 1)
            if taps:
                need = _halo_for(taps, extent, (1, 1, 1), _three(spatial, 1))
                halo = tuple((max(a[0], n[0]), max(a[1], n[1])) for a, n in zip(halo, need, strict=True))  # type: ignore[assignment]
            calls.append((_three([p[0] for p in phase], 0), extent, [tuple(t for t, _ in pick) for pick in picks], taps))
        cg = w.shape[0] // g
        inside = g > 1 and cg == w.shape[1] and ctx.lanes % cg == 0 and cg < ctx.lanes
        if inside:
            bias_packed = ctx.pack(("bias", *names), lambda empty: pack_bias(bias, o, empty))
        xo = ctx.planes(0, halo=halo) if inside else ctx.planes(0, halo=halo, groups=g)
        y = ctx.out_planes() if inside else ctx.out_planes(groups=g)
        for index, (first, extent, kernel_taps, taps) in enumerate(calls):
            params: dict[str, Any] = {
                "taps": taps,
                "start": first,
                "step": _three(window.strides, 1),
                "extent": extent,
                "activation": self.activation,
                "write_halo": index + 1 == len(calls),
            }
            if inside:  # groups that do not leave a block

                def inside_weights(empty: Empty, kernel_taps: list[tuple[int, ...]] = kernel_taps) -> np.ndarray:
                    by_group = w.reshape(g, cg, cg, *w.shape[2:]).swapaxes(1, 2).reshape(o, cg, *w.shape[2:])
                    picked = np.zeros((o, cg, len(kernel_taps)), np.float32)
                    for i, tap in enumerate(kernel_taps):
                        picked[..., i] = by_group[(slice(None),) * 2 + tap]
                    packed: np.ndarray = pack_depthwise(picked, empty)
                    return packed

                key = ("depthwise_transpose", *names, tuple(kernel_taps))
                ctx.call("depthwise", [xo, ctx.pack(key, inside_weights), bias_packed, None], [y], per_group=cg, **params)
                continue

            def weights(empty: Empty, kernel_taps: list[tuple[int, ...]] = kernel_taps) -> np.ndarray:
                by_group = w.reshape(g, cg, w.shape[1], *w.shape[2:])
                picked = np.zeros((g, cg, w.shape[1], len(kernel_taps)), np.float32)
                for i, tap in enumerate(kernel_taps):
                    picked[..., i] = by_group[(slice(None),) * 3 + tap]
                packed: np.ndarray = pack_conv(picked.transpose(0, 2, 1, 3).reshape(o, cg, len(kernel_taps)), g, ctx.lanes, empty)
                return packed

            ctx.call(
                "conv",
                [xo, ctx.pack(("conv_transpose", *names, g, tuple(kernel_taps)), weights), bias_packed, None],
                [y],
                groups=g,
                **params,
            )
        return True
