"""Convolution and transposed convolution: kernels over 1 to 3 spatial axes, NumPy over more."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from .._kernels.pack import pack_bias, pack_conv, pack_depthwise
from .._kernels.winograd import depth_as_channels, pack_winograd
from ..errors import InputError, ModelError, ShapeError, UnsupportedOperatorError
from ..layout import NO_HALO, Halo, merge_halos
from ..limits import check
from ..operator import EVERY, READ_PACKED, Activation, Extents, Gives, Giving, Lowering, NodeRecord, Operator
from ..packing import Empty, NarrowPanels, Panels
from ..records import dataclass
from ..spec import TensorSpec
from ..weights import Half
from ..window import Window
from .conv_choice import HALF_KEPT, Transform, transforms, useful_regions, winograd_tile, within_blocks
from .elements import activate
from .taps import Offsets, Pair, halo_for, plane, tap_ranges, three

FLOAT32 = np.dtype(np.float32)


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
        Fused by a rewrite.
    """

    gives: ClassVar[Giving] = (Gives(0, (0, 1), alike=True),)
    elements: ClassVar[Sequence[int]] = EVERY
    reads: ClassVar[str] = READ_PACKED

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

    def window(self, w_shape: tuple[int, ...]) -> Window:
        """The window of weights of this shape; raises ShapeError where the attributes do not fit them."""
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


def _multiply_adds(of: Extents, inputs: Extents) -> int | None:
    """Of a convolution each of whose `of` elements meets all weights of its channel; None where shapes are not known."""
    whole, weights = (of[0], inputs[1]) if inputs else (None, None)
    return None if whole is None or weights is None else math.prod(whole) * math.prod(weights[1:])


@dataclass(frozen=True)
class Conv(_Convolution):
    """ONNX Conv (versions 1, 11, 22)."""

    op_type: ClassVar[str] = "Conv"

    def output_channels(self, w: tuple[int, ...]) -> int:
        """Of weights of this shape."""
        return w[0]

    def linear_channels(self, w: tuple[int, ...]) -> tuple[int, int] | None:
        return w[0], len(w)

    def over_weights(self, vector: np.ndarray, w: tuple[int, ...]) -> np.ndarray:
        return vector.reshape(-1, *(1,) * (len(w) - 1))

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x, w = inputs[0], inputs[1]
        assert x is not None and w is not None
        ws = w.concrete
        self._check(inputs, ws[0] if ws else 0, ws[1] * self.group if len(ws) > 1 else 0)
        try:
            out, _, _ = self.window(ws).resolve(x.concrete[2:])
        except ShapeError as error:
            raise error.locate(operator=self.op_type, tensor="x") from None
        return [TensorSpec(x.dtype, (x.concrete[0], ws[0], *out))]

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        return _multiply_adds(outputs, inputs)

    def reference(self, *inputs: Any) -> list[Any]:
        y = self.sums(*inputs)
        return [activate(y.astype(inputs[0].dtype), self.activation)]

    def sums(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
        """The convolution and its bias, not yet rounded to the dtype of x."""
        window = self.window(w.shape)
        out, begins, ends = window.resolve(x.shape[2:])
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
        return y

    def transforms(self, x: tuple[int, ...], w: TensorSpec, lanes: int) -> list[Transform]:
        """How Winograd's algorithm may compute this for x of this shape, the fastest way first; none where it does not pay."""
        if w.value is None or w.dtype != FLOAT32:
            return []
        o, cg = w.concrete[:2]
        return transforms(self.window(w.concrete), cg, o // self.group, self.group, x[2:], lanes)

    def lower(self, ctx: Lowering) -> bool:
        return lower_conv(ctx, self)


def known_weights(ctx: Lowering) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Weights and bias of a convolution of float32, None where the kernels cannot have them: they are packed beforehand."""
    w, bias, x = ctx.const(1), ctx.const(2), ctx.inputs[0]
    assert x is not None
    if w is None or x.dtype != FLOAT32 or (bias is None and len(ctx.inputs) > 2 and ctx.inputs[2] is not None):
        return None
    return w, bias


def names_of(ctx: Lowering, bias: np.ndarray | None) -> tuple[str, str]:
    """The names of weights and bias, for keys of what is packed."""
    return ctx.name(1), ctx.name(2) if bias is not None else ""


@dataclass(frozen=True)
class _Layer:
    """A convolution at concrete shapes.

    Attributes
    ----------
    op : Conv
    w, bias : ndarray
    names : tuple of str
        Of weights and bias.
    window : Window
    spatial, out, begins : tuples of int
        Extents of input and output, and where the windows begin, per spatial axis.
    residual, gate : int, optional
        Which inputs are added before the activation, and scale the channels of x.
    """

    op: Conv
    w: np.ndarray
    bias: np.ndarray | None
    names: tuple[str, str]
    window: Window
    spatial: tuple[int, ...]
    out: tuple[int, ...]
    begins: tuple[int, ...]
    residual: int | None
    gate: int | None

    @property
    def stride(self) -> Offsets:
        return three(self.window.strides, 1)

    @property
    def groups(self) -> int:
        return self.op.group

    def halo(self, taps: Sequence[Offsets], extent: Offsets) -> Halo:
        """The zeros around x that these taps of this many output pixels meet."""
        return halo_for(taps, extent, self.stride, three(self.spatial, 1))


def lower_conv(ctx: Lowering, op: Conv, residual: int | None = None, gate: int | None = None) -> bool:
    """The kernel calls of a convolution, `residual` and `gate` being the inputs that a rewrite gave it besides; or False."""
    known, x = known_weights(ctx), ctx.inputs[0]
    assert x is not None
    spatial = x.concrete[2:]
    if known is None or len(spatial) > 3:
        return False
    w, bias = known
    window = op.window(w.shape)
    out, begins, _ = window.resolve(spatial)
    layer = _Layer(op, w, bias, names_of(ctx, bias), window, spatial, out, begins, residual, gate)
    (o, cg), g = w.shape[:2], op.group
    if within_blocks(g, cg, o // g, ctx.lanes):
        _lower_depthwise(ctx, layer)
        return True
    tile: Pair | None = None
    if ctx.winograd:
        tile = winograd_tile(window, cg, o // g, out) if isinstance(ctx.winograd, bool) else ctx.winograd
    if tile is not None:
        _lower_winograd(ctx, layer, tile)
    else:
        _lower_direct(ctx, layer)
    return True


def _lower_depthwise(ctx: Lowering, layer: _Layer) -> None:
    """Groups that stay within a block of channels."""
    w, bias, names = layer.w, layer.bias, layer.names
    taps = [three(t, 0) for t in itertools.product(*tap_ranges(layer.window, layer.begins))]
    packed = ctx.pack(("depthwise", *names), lambda empty: pack_depthwise(w, empty))
    bias_packed = ctx.pack(("bias", *names), lambda empty: pack_bias(bias, w.shape[0], empty))
    residual = None if layer.residual is None else ctx.planes(layer.residual)
    ctx.call(
        "depthwise",
        [ctx.planes(0, halo=layer.halo(taps, three(layer.out, 1))), packed, bias_packed, residual],
        [ctx.out_planes()],
        taps=taps,
        stride=layer.stride,
        per_group=w.shape[1],
        activation=layer.op.activation,
    )


def _lower_winograd(ctx: Lowering, layer: _Layer, tile: Pair) -> None:
    """By Winograd's algorithm in tiles of so many output pixels."""
    w, bias, names, g = layer.w, layer.bias, layer.names, layer.groups
    window = layer.window
    depth = window.kernel[0] if len(layer.out) == 3 else 1
    kernel, strides, dilations = (plane(v, 1) for v in (window.kernel, window.strides, window.dilations))
    taps = [three(t, 0) for t in itertools.product(*tap_ranges(window, layer.begins))]
    halo = layer.halo(taps, three(layer.out, 1))
    if depth > 1:
        # depths beyond x are skipped, not read
        halo = ((0, 0), *halo[1:])

    def transform(empty: Empty) -> np.ndarray:
        whole = w if w.ndim > 3 else w[:, :, None]
        try:
            packed: np.ndarray = pack_winograd(whole if whole.ndim == 4 else depth_as_channels(whole), empty, tile, strides, g)
        except OverflowError:
            raise NotTransformable(names[0]) from None
        return packed

    ctx.call(
        "winograd",
        [
            ctx.planes(0, halo=halo, groups=g),
            ctx.pack(("winograd", *names, g, tile, strides), transform),
            ctx.pack(("bias", *names, g), lambda empty: pack_bias(bias, w.shape[0], empty, g)),
            None if layer.residual is None else ctx.planes(layer.residual, groups=g),
        ],
        [ctx.out_planes(groups=g)],
        kernel=kernel,
        tile=tile,
        strides=strides,
        dilations=dilations,
        pads=three(layer.begins, 0),
        taps=depth,
        stride=layer.stride[0],
        groups=g,
        activation=layer.op.activation,
    )


def _lower_direct(ctx: Lowering, layer: _Layer) -> None:
    """By the taps as they are: all of them for all of the output, or those that each of its regions meets."""
    bias, names, g = layer.bias, layer.names, layer.groups
    w: Any = layer.w
    o, cg = w.shape[:2]
    ranges = tap_ranges(layer.window, layer.begins)
    regions = useful_regions(layer.window, layer.spatial, layer.out, ranges, math.prod(layer.out) * w.size)
    if regions is None:
        taps = [three(t, 0) for t in itertools.product(*ranges)]
        halo, calls = layer.halo(taps, three(layer.out, 1)), [{"taps": taps}]
    else:
        halo, calls = _calls_by_region(layer, ranges, regions)
    few = g == 1 and cg < ctx.lanes and cg <= 4 and not ctx.is_planes(0)
    lanes = 1 if few else ctx.lanes
    form: dict[str, Any] = {}
    if isinstance(w, Half) and w.nbytes >= HALF_KEPT and lanes > 1 and layer.gate is None:
        packed = ctx.pack(("conv half", *names, g, lanes), NarrowPanels(w, lanes, g))
        form = {"kind": w.kind}
    else:
        packed = ctx.pack(("conv", *names, g, lanes), Panels(w, lanes, g))
    bias_packed = ctx.pack(("bias", *names, g), lambda empty: pack_bias(bias, o, empty, g))
    # for one unit of outputs the kernel itself lays the rows of few plain channels between zeros; else that takes as long
    as_it_lies = few and regions is None and len(layer.out) < 3 and min(layer.out) > 0 and o <= 2 * ctx.lanes
    x = ctx.plain(0) if as_it_lies else ctx.planes(0, halo=halo, lanes=lanes, groups=g)
    residual = None if layer.residual is None else ctx.planes(layer.residual, groups=g)
    if layer.gate is not None:
        # weights are laid out in blocks of `lanes` outputs, and every image has its own
        scaled = ctx.temp((ctx.outputs[0].concrete[0] * -(-o // lanes) * lanes * cg * g,))
        ctx.call("gate_weights", [packed, ctx.planes(layer.gate)], [scaled], out_channels=o)
        packed, form = scaled, {"weights_per_image": True}
    y = ctx.out_planes(groups=g)
    for index, call in enumerate(calls):
        ctx.call(
            "conv",
            [x, packed, bias_packed, residual],
            [y],
            stride=layer.stride,
            groups=g,
            activation=layer.op.activation,
            write_halo=index + 1 == len(calls),
            **call,
            **form,
        )


def _calls_by_region(
    layer: _Layer, ranges: Sequence[Sequence[int]], regions: Sequence[Sequence[tuple[int, int, list[int]]]]
) -> tuple[Halo, list[dict[str, Any]]]:
    """The halo that all regions need together, and what the call of each is told."""
    halo, calls = NO_HALO, []
    count = math.prod(layer.window.kernel)
    for picks in itertools.product(*regions):
        used = [
            (at, three(offsets, 0))
            for at, (tap, offsets) in enumerate(
                zip(itertools.product(*map(range, layer.window.kernel)), itertools.product(*ranges), strict=True)
            )
            if all(t in pick[2] for t, pick in zip(tap, picks, strict=True))
        ]
        first, extent = three([p[0] for p in picks], 0), three([p[1] for p in picks], 1)
        # taps count from the pixel of the grid's own start
        here: list[Offsets] = [
            tuple(a + f * s for a, f, s in zip(t, first, layer.stride, strict=True))  # type: ignore[misc]
            for _, t in used
        ]
        if here:
            halo = merge_halos(halo, layer.halo(here, extent))
        calls.append({"taps": here, "start": first, "extent": extent, "weight_taps": ([at for at, _ in used], count)})
    return halo, calls


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

    def output_channels(self, w: tuple[int, ...]) -> int:
        """Of weights of this shape."""
        return w[1] * self.group

    def linear_channels(self, w: tuple[int, ...]) -> tuple[int, int] | None:
        return w[1] * self.group, len(w)

    def over_weights(self, vector: np.ndarray, w: tuple[int, ...]) -> np.ndarray:
        # (C_in, C_out / group, kernel...): each group of inputs has its own outputs
        by_group = np.repeat(vector.reshape(self.group, -1), w[0] // self.group, axis=0)
        return by_group.reshape(*w[:2], *(1,) * (len(w) - 2))

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
        window = self.window(w_shape)
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

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        return _multiply_adds(inputs, inputs)

    def reference(self, *inputs: Any) -> list[Any]:
        x, w = inputs[0], inputs[1]
        b = inputs[2] if len(inputs) > 2 else None
        window = self.window(w.shape)
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
        known, x = known_weights(ctx), ctx.inputs[0]
        assert x is not None
        spatial = x.concrete[2:]
        if known is None or len(spatial) > 3:
            return False
        w, bias = known
        window = self.window(w.shape)
        phases = phases_of(self, w.shape, spatial)
        halo = NO_HALO
        for phase in phases:
            if phase.taps:
                halo = merge_halos(halo, halo_for(phase.taps, phase.extent, (1, 1, 1), three(spatial, 1)))
        g, (c, og) = self.group, w.shape[:2]
        o, names = og * g, names_of(ctx, bias)
        # groups that do not leave a block of channels
        inside = within_blocks(g, c // g, og, ctx.lanes)
        groups = 1 if inside else g
        key = names if inside else (*names, g)
        bias_packed = ctx.pack(("bias", *key), lambda empty: pack_bias(bias, o, empty, 1 if inside else g))
        x_planes, y = ctx.planes(0, halo=halo, groups=groups), ctx.out_planes(groups=groups)
        for index, phase in enumerate(phases):
            if inside:
                packed = ctx.pack(("depthwise_transpose", *names, phase.picks), partial(_pack_inside, w, g, phase.picks))
            else:
                packed = ctx.pack(("conv_transpose", *names, g, phase.picks), partial(_pack_phase, w, g, phase.picks, ctx.lanes))
            which: dict[str, Any] = {"per_group": c // g} if inside else {"groups": g}
            ctx.call(
                "depthwise" if inside else "conv",
                [x_planes, packed, bias_packed, None],
                [y],
                taps=phase.taps,
                start=phase.start,
                step=three(window.strides, 1),
                extent=phase.extent,
                activation=self.activation,
                write_halo=index + 1 == len(phases),
                **which,
            )
        return True


@dataclass(frozen=True)
class Phase:
    """Output pixels of a transposed convolution that the same taps reach.

    Attributes
    ----------
    start, extent : (d, h, w)
        The first of them, and how many there are along each axis, a stride apart.
    picks : tuple of tuples of int
        The taps of the kernel.
    taps : list of (d, h, w)
        Where each reads the input.
    """

    start: Offsets
    extent: Offsets
    picks: tuple[tuple[int, ...], ...]
    taps: list[Offsets]


def phases_of(conv: ConvTranspose, w_shape: tuple[int, ...], spatial: tuple[int, ...]) -> list[Phase]:
    """The phases of a transposed convolution by weights of this shape over these extents."""
    out, begins, _ = conv._resolve(w_shape, spatial)
    if any(b < 0 for b in begins):
        raise UnsupportedOperatorError("negative begin pads are not supported", operator=conv.op_type, received=begins)
    window = conv.window(w_shape)
    check("phases", math.prod(map(min, window.strides, out)), operator=conv.op_type)
    # per axis and phase: first output position, extent, [(tap, pixel offset)]
    axes = []
    for k, s, d, b, size in zip(window.kernel, window.strides, window.dilations, begins, out, strict=True):
        along = []
        for start in range(min(s, size)):
            at = start + b
            used = [(t, (at - t * d) // s) for t in range(k) if (at - t * d) % s == 0]
            along.append((start, -(-(size - start) // s), used))
        axes.append(along)
    phases = []
    for parts in itertools.product(*axes):
        chosen = list(itertools.product(*(used for _, _, used in parts)))
        phases.append(
            Phase(
                three([start for start, _, _ in parts], 0),
                three([extent for _, extent, _ in parts], 1),
                tuple(tuple(t for t, _ in pick) for pick in chosen),
                [three([offset for _, offset in pick], 0) for pick in chosen],
            )
        )
    return phases


def picked(w: np.ndarray, picks: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Some taps of weights (A, B, kernel...), as (A, B, taps)."""
    whole = np.asarray(w)  # once, where it has to be computed
    found = np.zeros((*whole.shape[:2], len(picks)), whole.dtype)
    for i, tap in enumerate(picks):
        found[..., i] = whole[(slice(None),) * 2 + tap]
    return found


def _pack_inside(w: np.ndarray, groups: int, picks: Sequence[tuple[int, ...]], empty: Empty) -> np.ndarray:
    """Weights (C, C / groups, kernel...) of a phase for the depthwise kernel."""
    c, og = w.shape[:2]
    by_group = w.reshape(groups, og, og, *w.shape[2:]).swapaxes(1, 2).reshape(c, og, *w.shape[2:])
    packed: np.ndarray = pack_depthwise(picked(by_group, picks), empty)
    return packed


def _pack_phase(w: np.ndarray, groups: int, picks: Sequence[tuple[int, ...]], lanes: int, empty: Empty) -> np.ndarray:
    """Weights (C, O / groups, kernel...) of a phase as those of a convolution of C to O channels."""
    c, og = w.shape[:2]
    by_group = picked(w, picks).reshape(groups, c // groups, og, len(picks))
    of_conv = by_group.transpose(0, 2, 1, 3).reshape(groups * og, c // groups, len(picks))
    packed: np.ndarray = pack_conv(of_conv, groups, lanes, empty)
    return packed
