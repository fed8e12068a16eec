"""Operators that rewrites make: ONNX has none of them, or not in this form.

One that is an operator of ONNX with more operands keeps that one's `op_type`, by which reports name it, and its domain.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .._kernels.pack import pack_bias, pack_conv, pack_depthwise
from ..layout import NO_HALO
from ..operator import EVERY, EXACT, READ_PACKED, SAME, Activation, Extents, Gives, Giving, Lowering, Operator
from ..packing import PairPanels, Panels
from ..records import dataclass
from ..spec import TensorSpec
from ..weights import Rounded
from .common import FLOAT32, required
from .conv import Conv, known_weights, lower_conv, names_of
from .copies import in_planes
from .dense import MatMul, lower_dense, lower_product, product
from .elements import activate
from .norm import ChannelNorm, all_float32, over, standardised
from .taps import halo_for, tap_ranges, three

# ---------------------------------------------------------------- convolutions


@dataclass(frozen=True)
class _Fused(Operator):
    """A convolution and what a rewrite gave it to do.

    Attributes
    ----------
    conv : Conv
        Its activation comes last.
    residual : bool
        Whether an input of the output's shape is added before the activation.
    """

    conv: Conv
    residual: bool = False

    op_type: ClassVar[str] = "Conv"
    gives: ClassVar[Giving] = (Gives(0, (0, 1), alike=True),)
    elements: ClassVar[Sequence[int]] = EVERY
    reads: ClassVar[str] = READ_PACKED

    @property
    def activation(self) -> Activation | None:
        """What comes last."""
        return self.conv.activation

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        return self.conv.multiply_adds(inputs, outputs)


@dataclass(frozen=True)
class FusedConv(_Fused):
    """A convolution that reads more than x, weights and bias.

    Inputs: x, w and the bias (or ""); then the residual, where there is one; then the gate, where there is one.

    Attributes
    ----------
    gated : bool
        Whether an input (N, C, 1...) scales the channels of x first; of 1x1 convolutions alone.
    """

    gated: bool = False

    @classmethod
    def of(cls, op: Conv | FusedConv) -> FusedConv:
        """As it is, or with nothing more to read yet."""
        return cls(op) if isinstance(op, Conv) else op

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        return self.conv.infer(inputs[:3])

    def reference(self, *inputs: Any) -> list[Any]:
        x, w, b = inputs[:3]
        y = self.conv.sums(x * inputs[-1] if self.gated else x, w, b)
        if self.residual:
            y += inputs[3]
        return [activate(y.astype(x.dtype), self.activation)]

    def lower(self, ctx: Lowering) -> bool:
        return lower_conv(ctx, self.conv, 3 if self.residual else None, 3 + self.residual if self.gated else None)


def convolution(op: Operator) -> Conv | None:
    """The convolution of x (N, C, spatial axes...) that an operator is, whatever else it reads; None for any other."""
    if isinstance(op, FusedConv):
        return op.conv
    return op if isinstance(op, Conv) else None


@dataclass(frozen=True)
class RoundedConv(_Fused):
    """A convolution of x by weights that are rounded to bfloat16, both of them, with sums of float32.

    Inputs: x, w and the bias (or ""); then the residual, where there is one. Groups are whole blocks of channels.

    Attributes
    ----------
    rounds : bool
        Whether the result is rounded too: all who read it are of this class.
    """

    rounds: bool = False

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        return self.conv.infer(inputs[:3])

    def reference(self, *inputs: Any) -> list[Any]:
        y = self.conv.sums(_to_bfloat16(inputs[0]), _to_bfloat16(inputs[1]), inputs[2])
        if self.residual:
            y += inputs[3]
        y = activate(y.astype(inputs[0].dtype), self.activation)
        return [_to_bfloat16(y) if self.rounds else y]

    def lower(self, ctx: Lowering) -> bool:
        known, x = known_weights(ctx), ctx.inputs[0]
        assert x is not None
        if known is None:
            return False
        (w, bias), g = known, self.conv.group
        window = self.conv.window(w.shape)
        out, begins, _ = window.resolve(x.concrete[2:])
        taps = [three(t, 0) for t in itertools.product(*tap_ranges(window, begins))]
        stride, names = three(window.strides, 1), names_of(ctx, bias)
        halo = halo_for(taps, three(out, 1), stride, three(x.concrete[2:], 1))
        ctx.call(
            "bconv",
            [
                ctx.planes(0, halo=halo, groups=g, halves=True),
                ctx.pack(("bconv", *names, g), PairPanels(w, ctx.lanes, g)),
                ctx.pack(("bias", *names, g), lambda empty: pack_bias(bias, w.shape[0], empty, g)),
                ctx.planes(3, groups=g, halves=True) if self.residual else None,
            ],
            [ctx.out_planes(groups=g, halves=self.rounds)],
            taps=taps,
            stride=stride,
            groups=g,
            activation=self.activation,
        )
        return True


def _to_bfloat16(values: np.ndarray) -> np.ndarray:
    """To the nearest numbers of bfloat16, as float32."""
    return np.asarray(Rounded(values, "bfloat16"))


@dataclass(frozen=True)
class ChannelsLastConv(_Fused):
    """A convolution over two spatial axes of x (N, H, W, C) of few channels, in one group and without dilation, to (N, O, H, W).

    Inputs: x, w (O, C, kh, kw) and the bias (or ""); then the residual (N, O, H, W), where there is one.
    """

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        n, *spatial, c = x.concrete
        return self.conv.infer([TensorSpec(x.dtype, (n, c, *spatial)), *inputs[1:3]])

    def reference(self, *inputs: Any) -> list[Any]:
        return FusedConv(self.conv, self.residual).reference(np.moveaxis(inputs[0], -1, 1), *inputs[1:])

    def lower(self, ctx: Lowering) -> bool:
        """(N, H, W, C) is one channel of W * C pixels, and one kw wide a kernel of kw * C, at C times the stride."""
        known, x = known_weights(ctx), ctx.inputs[0]
        assert x is not None
        if known is None:
            return False
        w, bias = known
        n, height, width, c = x.concrete
        window = self.conv.window(w.shape)
        _, (top, left), _ = window.resolve((height, width))
        o, _, kh, kw = w.shape
        names = names_of(ctx, bias)
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
    """A depthwise convolution with the 1x1 convolutions around it.

    Inputs: x, then weights and bias (or "") of each convolution, then the residual, where there is one.

    Attributes
    ----------
    convs : tuple of Conv
        In order.
    expand, project : bool
        Whether the first and the last one are 1x1; the other one is the depthwise convolution, over two spatial axes.
    residual : bool
        Whether an input of the output's shape is added before the activation of the last one.
    """

    convs: tuple[Conv, ...] = ()
    expand: bool = False
    project: bool = False
    residual: bool = False

    op_type: ClassVar[str] = "ConvChain"
    domain: ClassVar[str] = "cnnengine"
    gives: ClassVar[Giving] = SAME

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        spec = inputs[0]
        for i, conv in enumerate(self.convs):
            (spec,) = conv.infer([spec, inputs[1 + 2 * i], inputs[2 + 2 * i]])
        assert spec is not None
        return [spec]

    def reference(self, *inputs: Any) -> list[Any]:
        value = inputs[0]
        last = len(self.convs) - 1
        for i, conv in enumerate(self.convs):
            added = [inputs[-1]] if self.residual and i == last else []
            (value,) = FusedConv(conv, bool(added)).reference(value, inputs[1 + 2 * i], inputs[2 + 2 * i], *added)
        return [value]

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        weights = [inputs[1 + 2 * i] for i in range(len(self.convs))] if inputs else [None]
        if None in (*weights, *inputs[:1], *outputs[:1]):
            return None
        total, (x, y) = 0, (inputs[0] or (), outputs[0] or ())
        for index, shape in enumerate(weights):
            pixels = x[2:] if self.expand and index == 0 else y[2:]
            total += x[0] * math.prod(pixels) * math.prod(shape or ())
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
                window = conv.window(w.shape)
            else:
                packed.append(ctx.pack(("conv", *names, 1, ctx.lanes), Panels(w, ctx.lanes)))
                packed.append(ctx.pack(("bias", *names, 1), lambda empty, w=w, bias=bias: pack_bias(bias, w.shape[0], empty)))  # type: ignore[misc]
        out, begins, _ = window.resolve(x.concrete[2:])
        taps = list(itertools.product(*tap_ranges(window, begins)))
        halo = NO_HALO
        if not self.expand:
            halo = halo_for([three(t, 0) for t in taps], three(out, 1), three(window.strides, 1), three(x.concrete[2:], 1))
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


# ---------------------------------------------------------------- products of matrices


@dataclass(frozen=True)
class Dense(Operator):
    """``a @ w + bias + residual`` of float32 a (..., K) with two axes or more, by a constant matrix w (K, N).

    Inputs: a, w and a constant bias (N,) (or ""); then the residual, where there is one.

    Attributes
    ----------
    activation : Activation, optional
        What comes last.
    residual : bool
        Whether an input of the output's shape is added before it.
    """

    activation: Activation | None = None
    residual: bool = False

    op_type: ClassVar[str] = "MatMul"
    elements: ClassVar[Sequence[int]] = EVERY

    def outline(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        return MatMul().outline(inputs)

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        return MatMul().multiply_adds(inputs, outputs)

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        return MatMul().infer(inputs[:2])

    def reference(self, *inputs: Any) -> list[Any]:
        y = product(inputs[0], inputs[1])
        for addend in inputs[2:]:
            if addend is not None:
                y = y + addend
        return [activate(y.astype(inputs[0].dtype), self.activation)]

    def lower(self, ctx: Lowering) -> bool:
        return lower_dense(ctx, self.activation, 3 if self.residual else None)


@dataclass(frozen=True)
class ScaledMatMul(Operator):
    """``scale * a @ b`` of two matrices that are known only while running, b with its last two axes swapped if `transposed`.

    Attributes
    ----------
    scale : float
    transposed : bool
    activation : Activation, optional
        What comes last.
    """

    scale: float = 1.0
    transposed: bool = False
    activation: Activation | None = None

    op_type: ClassVar[str] = "MatMul"
    elements: ClassVar[Sequence[int]] = EVERY

    def outline(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        return MatMul().outline(inputs)

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        return MatMul().multiply_adds(inputs, outputs)

    @classmethod
    def of(cls, op: MatMul | ScaledMatMul, scale: float, transposed: bool) -> MatMul | ScaledMatMul:
        """The product with the activation of `op`: ONNX's own where there is nothing to scale or swap."""
        return MatMul(op.activation) if scale == 1 and not transposed else cls(scale, transposed, op.activation)

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        a, b = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        shape = b.concrete
        return MatMul().infer([a, TensorSpec(b.dtype, (*shape[:-2], *shape[:-3:-1])) if self.transposed else b])

    def reference(self, *inputs: Any) -> list[Any]:
        a, b = inputs
        y = product(a, b.swapaxes(-1, -2) if self.transposed else b) * self.scale
        return [activate(y.astype(a.dtype), self.activation)]

    def lower(self, ctx: Lowering) -> bool:
        return lower_product(ctx, self.activation, scale=self.scale, transposed=self.transposed)


Place = tuple[tuple[int, ...], tuple[int, ...], int]
"""Where a strided operand lies in a buffer: shape, strides and offset, in elements."""


@dataclass(frozen=True)
class SoftmaxProduct(Operator):
    """Attention: ``softmax(scale * q @ k^T) @ v`` over the last axis.

    Attributes
    ----------
    q, k, v : (shape, strides, offset)
        Where the operands (batch..., rows, columns) lie in the three inputs, in elements.
    order : tuple of int
        Permutation of the axes of the result; the last one stays.
    scale : float
    """

    q: Place
    k: Place
    v: Place
    order: tuple[int, ...]
    scale: float = 1.0

    op_type: ClassVar[str] = "SoftmaxProduct"
    domain: ClassVar[str] = "cnnengine"

    def _shape(self) -> tuple[int, ...]:
        shape = (*self.q[0][:-1], self.v[0][-1])
        return tuple(shape[axis] for axis in self.order)

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        return [TensorSpec(FLOAT32, self._shape())]

    def reference(self, *inputs: Any) -> list[Any]:
        q, k, v = (
            np.lib.stride_tricks.as_strided(
                np.ascontiguousarray(x).reshape(-1)[offset:], shape, [s * x.itemsize for s in strides]
            ).astype(np.float64)
            for x, (shape, strides, offset) in zip(inputs, (self.q, self.k, self.v), strict=True)
        )
        scores = self.scale * (q @ k.swapaxes(-1, -2))
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        y = (weights / weights.sum(axis=-1, keepdims=True)) @ v
        return [np.ascontiguousarray(y.transpose(self.order)).astype(inputs[0].dtype)]

    def lower(self, ctx: Lowering) -> bool:
        *batch, m, d = self.q[0]
        n, e = self.v[0][-2:]
        strides = [0] * len(self.order)
        step = 1
        for axis, extent in zip(reversed(self.order), reversed(self._shape()), strict=True):
            strides[axis] = step
            step *= extent
        places = {name: place[1:] for name, place in (("q", self.q), ("k", self.k), ("v", self.v))}
        ctx.call(
            "attention",
            [ctx.plain(0), ctx.plain(1), ctx.plain(2)],
            [ctx.out_plain()],
            batch=tuple(batch),
            m=m,
            n=n,
            d=d,
            e=e,
            y=(tuple(strides), 0),
            scale=self.scale,
            **places,
        )
        return True


# ---------------------------------------------------------------- channels


@dataclass(frozen=True)
class TakeChannels(Operator):
    """Channels of tensors (N, C, ...), in any order: what channel shuffles and Gather along channels become.

    Attributes
    ----------
    channels : tuple of int
        For each channel of the output, the channel of the input, counted on from one input to the next.
    """

    channels: tuple[int, ...]

    op_type: ClassVar[str] = "TakeChannels"
    domain: ClassVar[str] = "cnnengine"
    tolerance: ClassVar[str] = EXACT

    MAX_INPUTS: ClassVar[int] = 23

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        return [TensorSpec(x.dtype, None if x.shape is None else (x.shape[0], len(self.channels), *x.shape[2:]))]

    def reference(self, *inputs: Any) -> list[Any]:
        return [np.concatenate(inputs, axis=1)[:, list(self.channels)]]

    def lower(self, ctx: Lowering) -> bool:
        if len(ctx.inputs) == 1 and not ctx.is_planes(0):
            ctx.call("gather", (ctx.plain(0),), (ctx.out_plain(),), axis=1, indices=np.array(self.channels, np.int64))
            return True
        operands = [in_planes(ctx, i, ctx.grouping(i) or 1) for i in range(len(ctx.inputs))]
        ctx.call("take_planes", operands, (ctx.out_planes(),), channels=self.channels)
        return True


@dataclass(frozen=True)
class ChannelLayerNorm(ChannelNorm):
    """LayerNormalization over axis 1 of (N, C, ...), scale and bias (C,), each or none: one between two transposes."""

    op_type: ClassVar[str] = "ChannelLayerNorm"
    domain: ClassVar[str] = "cnnengine"

    def reference(self, *inputs: Any) -> list[Any]:
        x, scale, bias = (*inputs, None, None)[:3]
        y = standardised(x, (1,), self.epsilon)[0]
        if scale is not None:
            y = y * over(scale, x)
        if bias is not None:
            y = y + over(bias, x)
        return [y.astype(x.dtype)]

    def lower(self, ctx: Lowering) -> bool:
        spec = ctx.inputs[0]
        if spec is None or not all_float32(ctx) or len(spec.concrete) > 5:
            return False
        given = (*ctx.inputs, None, None)[1:3]
        if self.expands and any(v is not None and v.shape != spec.concrete[1:2] for v in given):
            return False
        parameters = [None if v is None else ctx.plain(i) for i, v in enumerate(given, 1)]
        ctx.call("pixel_norm", [ctx.planes(0), *parameters], [ctx.out_planes(0)], epsilon=self.epsilon)
        return True
