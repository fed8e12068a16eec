"""QuantizedConv: a convolution of uint8 by integer weights, with what comes before and after its sums.

Rewrites make it of QLinearConv, of ConvInteger, and of a Conv between DequantizeLinear and QuantizeLinear.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from .._kernels.qconv import pack_channels, pack_qconv, word
from ..layout import NO_HALO, Halo, merge_halos
from ..operator import READ_VALUES, Activation, Extents, Lowering, Operand, Operator
from ..packing import Empty
from ..records import dataclass
from ..spec import TensorSpec
from .common import FLOAT32, Specs, required, spec_at
from .conv import Conv, ConvTranspose, Phase, phases_of, picked
from .conv_choice import within_blocks
from .elements import activate
from .quantized_depthwise import Added, lower_depthwise
from .taps import halo_for, tap_ranges, three

UINT8 = np.dtype(np.uint8)
LITTLE = 2.0**-4
"""Steps of a result that a bias may be cut by, where 32 bits would not hold what is added to it."""
X, W, W_ZERO, RATIO, BIAS, OFFSET, RESIDUAL, TABLE, X_SCALE, X_ZERO = range(10)
"""Inputs; those from the third on may be absent, but for the ratio."""


@dataclass(frozen=True)
class Residual:
    """How a uint8 tensor is added to a result: ``(result - zero) * scale + (residual - r_zero) * r_scale``, in steps of the sum.

    Attributes
    ----------
    low, high : int
        Bounds of the result that it is added to, less its zero point.
    scale, r_scale : float
        What a step of that result, and of the residual, is in steps of the sum: float32 numbers.
    zero : int
        Zero point of the residual.
    """

    low: int
    high: int
    scale: float
    r_scale: float
    zero: int


@dataclass(frozen=True)
class QuantizedConv(Operator):
    """``y = clamp(rint(float32(sums) * ratio), low, high) + zero`` of integers ``sums = conv(x - x_zero, w - w_zero) + bias``.

    Inputs: x (N, C, ...) of uint8, w as the convolution has it, of int8 or uint8, its zero point (one, or one per output channel,
    or ""), ratio (O,) of float32, bias (O,) of int32 or "", offset (O,) of float32 or "", residual or "", table or ""; and where
    they are known only while it runs, x's scale, by which the ratio is multiplied, and its zero point, which counts then.

    Each operation of floats is rounded to float32, halves go to the even integer: results are the same bits on every machine.

    Attributes
    ----------
    conv : Conv or ConvTranspose
        Geometry; without an activation.
    x_zero, zero : int
        Zero points of x and y.
    low, high : int
        Bounds of y less its zero point, beside those that uint8 has.
    floats : bool
        Whether y is ``activation(float32(sums) * ratio + offset)`` instead.
    activation : Activation, optional
        Of floats.
    residual : Residual, optional
        Added before the bounds; rounded before that within its own.
    """

    conv: Conv | ConvTranspose
    x_zero: int
    zero: int = 0
    low: int = 0
    high: int = 255
    floats: bool = False
    activation: Activation | None = None
    residual: Residual | None = None

    op_type: ClassVar[str] = "QuantizedConv"
    reads: ClassVar[str] = READ_VALUES  # weights and biases decide how often a tap is there, and whether sums fit

    @property
    def dtype(self) -> np.dtype:
        """Of y."""
        return FLOAT32 if self.floats else UINT8

    @property
    def bounds(self) -> tuple[int, int]:
        """Of y less its zero point, with those that uint8 has."""
        return max(self.low, -self.zero), min(self.high, 255 - self.zero)

    def outline(self, inputs: Specs) -> list[TensorSpec]:
        shapes = [spec.shape for spec in (spec_at(inputs, X), spec_at(inputs, W)) if spec is not None and spec.shape is not None]
        return [TensorSpec(self.dtype, (None,) * len(shapes[0]) if shapes else None)]

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, w = required(inputs, X, self.op_type), required(inputs, W, self.op_type)
        wide = np.dtype(np.float64)  # which holds all sums of products of such integers exactly
        return [TensorSpec(self.dtype, self.conv.infer([TensorSpec(wide, x.shape), TensorSpec(wide, w.shape)])[0].shape)]

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        return self.conv.multiply_adds(inputs, outputs)

    def over_outputs(self, values: np.ndarray, w_shape: tuple[int, ...]) -> np.ndarray:
        """One number, or one per output channel, so that it broadcasts to the weights."""
        values = np.asarray(values)
        return values.reshape(()) if values.size == 1 else self.conv.over_weights(values, w_shape)

    def reference(self, *inputs: Any) -> list[Any]:
        x, w, w_zero, ratio, bias, offset, residual, table, x_scale, x_zero = (*inputs, *(None,) * 10)[:10]
        wide = w.astype(np.float64)
        if w_zero is not None:
            wide = wide - self.over_outputs(w_zero.astype(np.float64), w.shape)
        by_channel = (-1, *(1,) * (x.ndim - 2))
        exact = self.conv.reference(x.astype(np.float64) - (self.x_zero if x_zero is None else x_zero), wide)[0].astype(np.int64)
        if x_scale is not None:
            ratio = x_scale * ratio
        fitting = None if bias is None else self._bias(w, w_zero, bias, ratio)
        bias = bias if fitting is None else fitting
        if bias is not None:
            exact = exact + bias.astype(np.int64).reshape(by_channel)
        y = exact.astype(np.float32) * ratio.reshape(by_channel)
        if self.floats:
            if offset is not None:
                y = y + offset.reshape(by_channel)
            return [activate(y, self.activation)]
        if self.residual is not None:
            r = self.residual
            y = np.rint(np.clip(y, np.float32(r.low), np.float32(r.high))) * np.float32(r.scale)
            y = y + (residual.astype(np.float32) - np.float32(r.zero)) * np.float32(r.r_scale)
        low, high = self.bounds
        y = (np.rint(np.clip(y, np.float32(low), np.float32(high))).astype(np.int32) + self.zero).astype(np.uint8)
        return [y if table is None else table[y]]

    # ---------------------------------------------------------------- lowering

    def lower(self, ctx: Lowering) -> bool:
        x, w, ratio = ctx.inputs[X], ctx.const(W), ctx.const(RATIO)
        assert x is not None
        absent = [index >= len(ctx.inputs) or ctx.inputs[index] is None for index in range(10)]
        given = {index: None if absent[index] else ctx.const(index) for index in (W_ZERO, BIAS, OFFSET, TABLE)}
        spatial = x.concrete[2:]
        if w is None or ratio is None or any(not absent[i] and given[i] is None for i in given):
            return False
        if len(spatial) > 3 or 0 in x.concrete or 0 in w.shape or (self.residual is None) != absent[RESIDUAL]:
            return False
        bias = self._bias(w, given[W_ZERO], given[BIAS], ratio)
        if bias is None:
            return False
        late = not absent[X_SCALE]
        if late != (not absent[X_ZERO]) or (late and not self.floats):
            return False
        if isinstance(self.conv, Conv):
            if not self._lower_depthwise(ctx, self.conv, w, ratio, {**given, BIAS: bias}):
                self._lower_conv(ctx, self.conv, w, bias, spatial)
        else:
            self._lower_transposed(ctx, self.conv, w, bias, spatial)
        return True

    def _bias(self, w: np.ndarray, zero: np.ndarray | None, bias: np.ndarray | None, ratio: np.ndarray) -> np.ndarray | None:
        """The bias (O,) with which 32 bits hold every sum; None where there is none that gives the same results.

        Quantisers write biases as large as int32 for channels whose weights are next to nothing: their sums change the result
        by a small part of a step, or the bias alone puts it beyond every bound.
        """
        o = self.conv.output_channels(w.shape)
        given = np.zeros(o, np.int64) if bias is None else np.broadcast_to(bias.astype(np.int64).reshape(-1), (o,))
        most = 128 if zero is None and w.dtype == np.int8 else 255
        if w.size // o * most * 255 + int(np.abs(given).max(initial=0)) < 1 << 31:
            return given.astype(np.int32)  # whatever the weights are
        sizes = np.abs(_moved(self, w, zero))
        if isinstance(self.conv, Conv):
            sums = sizes.reshape(o, -1).sum(1, dtype=np.int64)
        else:
            # (C, O / group, taps...): a group's inputs meet its own outputs
            g = self.conv.group
            sums = sizes.reshape(g, w.shape[0] // g, w.shape[1], -1).sum((1, 3), dtype=np.int64).reshape(-1)
        reach = sums * 255
        room = (1 << 31) - 1 - reach
        if np.all(np.abs(given) <= room):
            return given.astype(np.int32)
        small = np.clip(given, -room, room)
        steps = np.abs(ratio.astype(np.float64).reshape(-1))
        # what is cut off a bias changes nothing where all that is left of it is beyond every bound of the result
        beyond = (np.abs(small) - reach) * steps >= 1024
        little = np.abs(given - small) * steps <= LITTLE
        if self.floats or np.any(room < 0) or not np.all(beyond | little):
            return None
        return small.astype(np.int32)

    def _lower_depthwise(
        self, ctx: Lowering, conv: Conv, w: np.ndarray, ratio: np.ndarray, given: dict[int, np.ndarray | None]
    ) -> bool:
        """Groups that stay within a block of channels; False for others."""
        if not within_blocks(conv.group, w.shape[1], w.shape[0] // conv.group, ctx.lanes):
            return False
        added = None
        if self.residual is not None:
            r = self.residual
            added = Added(RESIDUAL, r.low, r.high, r.scale, r.r_scale, r.zero)
        low, high = (-math.inf, math.inf) if self.floats else (bound + self.zero for bound in self.bounds)
        activation = self.activation
        if activation is not None and activation.kind == "clip":
            low, high, activation = activation.alpha, activation.beta, None
        y = None if activation is None else ctx.temp_planes(ctx.outputs[0].concrete)
        o = w.shape[0]
        bias, offset = given[BIAS], given[OFFSET]
        done = lower_depthwise(
            ctx,
            conv.window(w.shape),
            _moved(self, w, given[W_ZERO]),
            None if bias is None else np.broadcast_to(bias.reshape(-1), (o,)),
            np.broadcast_to(ratio.reshape(-1), (o,)),
            groups=conv.group,
            key=_names(ctx, W, W_ZERO, RATIO, BIAS, OFFSET, TABLE),
            x_zero=self.x_zero,
            y_zero=self.zero,
            low=low,
            high=high,
            table=given[TABLE],
            offset=None if offset is None else np.broadcast_to(offset.reshape(-1), (o,)),
            added=added,
            y=y,
            dynamic=(X_SCALE, X_ZERO) if len(ctx.inputs) > X_ZERO else None,
        )
        if done and y is not None:
            ctx.call("activation", [y], [ctx.out_planes()], activation=activation)
        return done

    def _lower_conv(self, ctx: Lowering, conv: Conv, w: np.ndarray, bias: np.ndarray, spatial: tuple[int, ...]) -> None:
        window = conv.window(w.shape)
        out, begins, _ = window.resolve(spatial)
        taps = [three(t, 0) for t in itertools.product(*tap_ranges(window, begins))]
        stride, g = three(window.strides, 1), conv.group
        halo = halo_for(taps, three(out, 1), stride, three(spatial, 1))
        few = g == 1 and w.shape[1] <= 4 and not ctx.is_planes(X)
        lanes = 4 if few else ctx.lanes
        x = self._x(ctx, halo, lanes, g)
        packed, again = self._weights(ctx, ("qconv", g, lanes), w, g, lanes, None)
        self._call(ctx, x, packed, bias, taps * again, [ctx.out_planes(groups=g)], groups=g, stride=stride)

    def _lower_transposed(
        self, ctx: Lowering, conv: ConvTranspose, w: np.ndarray, bias: np.ndarray, spatial: tuple[int, ...]
    ) -> None:
        phases = phases_of(conv, w.shape, spatial)
        halo, g = NO_HALO, conv.group
        for phase in phases:
            if phase.taps:
                halo = merge_halos(halo, halo_for(phase.taps, phase.extent, (1, 1, 1), three(spatial, 1)))
        x = self._x(ctx, halo, ctx.lanes, g)
        y = [ctx.out_planes(groups=g)]
        for index, phase in enumerate(phases):
            packed, again = self._weights(ctx, ("qconv transpose", g, phase.picks), w, g, ctx.lanes, phase)
            self._call(
                ctx,
                x,
                packed,
                bias,
                phase.taps * again,
                y,
                groups=g,
                start=phase.start,
                step=three(conv.window(w.shape).strides, 1),
                extent=phase.extent,
                write_halo=index + 1 == len(phases),
            )

    def _x(self, ctx: Lowering, halo: Halo, lanes: int, groups: int) -> Operand:
        """x in planes, with a halo of its zero point."""
        if len(ctx.inputs) <= X_ZERO or halo == NO_HALO:
            return ctx.planes(X, halo=halo, lanes=lanes, groups=groups, fill=self.x_zero)
        x = ctx.inputs[X]
        assert x is not None
        if x.concrete[1] // groups % lanes == 0:
            groups = 1  # every group is whole blocks: one layout
        around = ctx.temp_planes(x.concrete, UINT8, lanes=lanes, groups=groups, halo=halo)
        ctx.call("surround", [ctx.planes(X, lanes=lanes, groups=groups, fill=0), ctx.plain(X_ZERO)], [around])
        return around

    def _weights(
        self, ctx: Lowering, form: tuple[Any, ...], w: np.ndarray, groups: int, lanes: int, phase: Phase | None
    ) -> tuple[tuple[Operand, Operand], int]:
        """Weights and their sums as operands, and how often each tap is there: once where bytes hold the weights."""
        zero, names = ctx.const(W_ZERO), _names(ctx, W, W_ZERO)
        again = 1
        if word() == 4 and (w.dtype != np.int8 or (zero is not None and np.any(zero))):
            moved = _moved(self, w, zero)
            again = max(-(int(moved.min()) // 128), -(-int(moved.max()) // 127), 1)
        packed = ctx.pack((*form, again, *names), partial(_pack, self, w, zero, groups, lanes, again, phase))
        sums = ctx.pack((*form, "sums", *names), partial(_pack_sums, self, w, zero, groups, phase))
        return (packed, sums), again

    def _call(
        self,
        ctx: Lowering,
        x: Operand,
        weights: tuple[Operand, Operand],
        bias: np.ndarray,
        taps: Sequence[Any],
        y: list[Operand],
        groups: int,
        **at: Any,
    ) -> None:
        o = ctx.outputs[0].concrete[1]

        def packed_channels(values: np.ndarray, dtype: type, *names: str) -> Operand:
            key = ("channels", *names, o, groups, dtype.__name__)
            return ctx.pack(key, lambda empty: pack_channels(np.broadcast_to(values.reshape(-1), (o,)), groups, empty, dtype))

        def channels(index: int) -> Operand | None:
            value = ctx.const(index)
            return None if value is None else packed_channels(value, np.float32, ctx.name(index))

        params: dict[str, Any] = {"mode": "floats", "activation": self.activation}
        if not self.floats:
            params = dict(zip(("low", "high"), self.bounds, strict=True), zero=self.zero)
        residual = None
        if self.residual is not None:
            r = self.residual
            residual = ctx.planes(RESIDUAL, groups=groups, fill=r.zero)
            params |= {"first": (r.low, r.high), "scales": (r.scale, r.r_scale), "r_zero": r.zero}
        table = ctx.plain(TABLE) if len(ctx.inputs) > TABLE and ctx.inputs[TABLE] is not None else None
        packed, sums = weights
        ratio, zero = channels(RATIO), None
        assert ratio is not None
        if len(ctx.inputs) > X_ZERO:
            scaled = ctx.temp((groups * -(-(o // groups) // ctx.lanes) * ctx.lanes,))
            ctx.call("binary", [ratio, ctx.plain(X_SCALE)], [scaled], op="mul", activation=None, b_shape=())
            ratio, zero = scaled, ctx.plain(X_ZERO)
        ctx.call(
            "qconv",
            [
                x,
                packed,
                packed_channels(bias, np.int32, "bias", *_names(ctx, W, W_ZERO, RATIO, BIAS)),
                sums,
                ratio,
                channels(OFFSET),
                residual,
                table,
                zero,
            ],
            y,
            taps=taps,
            x_zero=self.x_zero,
            groups=groups,
            **params,
            **at,
        )


def _names(ctx: Lowering, *indices: int) -> tuple[str, ...]:
    """The names of these inputs, empty where absent, for keys of what is packed."""
    return tuple(ctx.name(i) if i < len(ctx.inputs) and ctx.inputs[i] is not None else "" for i in indices)


def _moved(op: QuantizedConv, w: np.ndarray, zero: np.ndarray | None) -> np.ndarray:
    """Weights less their zero points, as int16."""
    moved = np.asarray(w).astype(np.int16)
    return moved if zero is None else moved - op.over_outputs(zero.astype(np.int16), w.shape)


def _of_conv(op: QuantizedConv, w: np.ndarray, zero: np.ndarray | None, groups: int, phase: Phase | None) -> np.ndarray:
    """Weights less their zero points as (O, C / groups, taps...)."""
    moved = _moved(op, w, zero)
    if phase is None:
        return moved
    c, og = w.shape[:2]
    by_group = picked(moved, phase.picks).reshape(groups, c // groups, og, len(phase.picks))
    return by_group.transpose(0, 2, 1, 3).reshape(groups * og, c // groups, len(phase.picks))


def _pack(
    op: QuantizedConv,
    w: np.ndarray,
    zero: np.ndarray | None,
    groups: int,
    lanes: int,
    again: int,
    phase: Phase | None,
    empty: Empty,
) -> np.ndarray:
    whole = _of_conv(op, w, zero, groups, phase)
    if again > 1:
        rest = whole.reshape(*whole.shape[:2], math.prod(whole.shape[2:]))
        parts = []
        for _ in range(again):
            parts.append(np.clip(rest, -128, 127))
            rest = rest - parts[-1]
        whole = np.concatenate(parts, 2)
    packed: np.ndarray = pack_qconv(whole, groups, lanes, empty)
    return packed


def _pack_sums(
    op: QuantizedConv, w: np.ndarray, zero: np.ndarray | None, groups: int, phase: Phase | None, empty: Empty
) -> np.ndarray:
    whole = _of_conv(op, w, zero, groups, phase)
    sums = whole.reshape(len(whole), -1).sum(1, dtype=np.int64).astype(np.int32)
    packed: np.ndarray = pack_channels(sums, groups, empty, np.int32)
    return packed
