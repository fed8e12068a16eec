"""Random small networks: optimised, node by node without the passes, and by onnx.reference; all must agree.

Graphs are made of what the passes and the lowering look for (chains of convolutions, gates, residuals, concatenations, channel
shuffles, channels-last blocks, dilated convolutions, activations as exporters write them), with random geometry, in random
orders, and with values of the middle as outputs, so that what is fused must also be left alone where somebody else reads it.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import onnx
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import cnnengine
from cnnengine._kernels import dispatch
from cnnengine.importer import import_model, open_model
from cnnengine.ops import conv_choice
from cnnengine.plan.host import run_host
from cnnengine.runtime.runner import fill_arenas

CHAINS = importlib.import_module("cnnengine.rewrites.fuse_chains")  # the package has the rewrite under this name

TOLERANCE = 2e-5
"""Of max |y|: float32 rounds by 6e-8, sums here have up to 500 terms, and up to 30 layers follow one another."""

OPSETS = (13, 15, 17, 18, 19, 20, 21, 21, 21, 22, 23)
"""Where operators are other ones or are written otherwise; blocks leave out what their version has not."""


@dataclass(frozen=True)
class Value:
    """A tensor (N, channels, spatial...) of the graph that is being made."""

    name: str
    channels: int
    spatial: tuple[int, ...]


class Maker:
    """Draws a graph block by block; values have magnitudes about 1 throughout, so that rounding does not grow."""

    def __init__(self, seed: str) -> None:
        self.begin(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.integral: set[str] = set()
        self.opset = OPSETS[-1]
        self.shown: list[str] = []
        """What blocks made for another reader: outputs of the graph."""

    # ------------------------------------------------------------ choosing
    def begin(self, seed: str) -> None:
        """Each block has a seed of its own, so that it stays as it is when others are left out."""
        self.choose = random.Random(seed)
        self.rng = np.random.default_rng(self.choose.getrandbits(64))

    def integer(self, low: int, high: int) -> int:
        return self.choose.randint(low, high)

    def one(self, *choices: Any) -> Any:
        return self.choose.choice(choices)

    def maybe(self) -> bool:
        return self.choose.random() < 0.5

    def swapped(self, a: str, b: str) -> tuple[str, str]:
        return (b, a) if self.maybe() else (a, b)

    # ------------------------------------------------------------ nodes
    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def normal(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> str:
        return self.constant(self.rng.standard_normal(shape) * scale + shift)

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        names = [name, *(f"{name}.{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, **attributes))
        return name

    def conv(
        self,
        x: Value,
        channels: int,
        kernel: Sequence[int],
        *,
        group: int = 1,
        bias: bool | None = None,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
    ) -> Value:
        rank = len(x.spatial)
        strides, dilations, pads = strides or (1,) * rank, dilations or (1,) * rank, pads or (0,) * 2 * rank
        inner = x.channels // group
        inputs = [x.name, self.normal(channels, inner, *kernel, scale=1 / math.sqrt(inner * math.prod(kernel)))]
        if self.maybe() if bias is None else bias:
            inputs.append(self.normal(channels, scale=0.3))
        extent = tuple(
            (n + pads[i] + pads[rank + i] - d * (k - 1) - 1) // s + 1
            for i, (n, k, s, d) in enumerate(zip(x.spatial, kernel, strides, dilations, strict=True))
        )
        attributes: dict[str, Any] = {"pads": list(pads)}
        if group > 1:
            attributes["group"] = group
        if max(strides) > 1:
            attributes["strides"] = list(strides)
        if max(dilations) > 1:
            attributes["dilations"] = list(dilations)
        return Value(self.node("Conv", *inputs, **attributes), channels, extent)

    def like(self, x: Value, name: str) -> Value:
        return Value(name, x.channels, x.spatial)

    def norm(self, x: Value) -> Value:
        """Batch normalisation, or the multiplication and addition per channel that others write for it."""
        if self.maybe():
            names = [self.normal(x.channels, scale=0.2, shift=1), self.normal(x.channels, scale=0.3)]
            names += [self.normal(x.channels, scale=0.2), self.constant(self.rng.uniform(0.5, 1.5, x.channels))]
            return self.like(x, self.node("BatchNormalization", x.name, *names, epsilon=self.one(1e-5, 1e-3)))
        shape = self.one((x.channels,), (1, x.channels))
        ones = (1,) * len(x.spatial)
        kind, y = self.integer(0, 2), x.name
        if kind < 2:
            y = self.node("Mul", *self.swapped(y, self.normal(*shape, *ones, scale=0.2, shift=1)))
        if kind > 0:
            y = self.node(self.one("Add", "Sub"), y, self.normal(*shape, *ones, scale=0.3))
        return self.like(x, y)

    def activation(self, x: Value) -> Value:
        """As exporters write it."""
        n, c, name = self.node, self.constant, x.name
        kind = self.one("relu", "relu6", "silu", "hard_swish", "sigmoid", "gelu", "leaky", "prelu", "mish", "none", "other")
        if kind == "relu":
            name = n("Relu", name)
        elif kind == "relu6":
            name = n("Clip", name, c(0.0), c(6.0)) if self.maybe() else n("Min", n("Relu", name), c(6.0))
        elif kind == "hard_swish" and self.opset < 14:
            name = n("Mul", *self.swapped(name, n("HardSigmoid", name, alpha=1 / 6, beta=0.5)))
        elif kind == "silu":
            name = n("Mul", *self.swapped(name, n("Sigmoid", name)))
        elif kind == "hard_swish":
            way = self.integer(0, 3)
            if way == 0:
                name = n("HardSwish", name)
            elif way == 1:
                name = n("Mul", *self.swapped(name, n("HardSigmoid", name, alpha=1 / 6, beta=0.5)))
            else:
                clipped = n("Clip", n("Add", *self.swapped(name, c(3.0))), c(0.0), c(6.0))
                if way == 2:
                    name = n("Div", n("Mul", *self.swapped(name, clipped)), c(6.0))
                else:
                    name = n("Mul", *self.swapped(name, n("Div", clipped, c(6.0))))
        elif kind == "sigmoid":
            name = n(self.one("Sigmoid", "HardSigmoid", "Tanh"), name)
        elif kind == "gelu":
            way = self.integer(0 if self.opset >= 20 else 1, 2)
            if way == 0:
                name = n("Gelu", name, approximate=self.one("none", "tanh"))
            elif way == 1:
                erf = n("Add", n("Erf", n("Div", name, c(math.sqrt(2)))), c(1.0))
                name = n("Mul", n("Mul", *self.swapped(name, erf)), c(0.5))
            else:
                erf = n("Add", n("Erf", n("Mul", name, c(math.sqrt(0.5)))), c(1.0))
                name = n("Mul", *self.swapped(n("Mul", name, c(0.5)), erf))
        elif kind == "leaky":
            name = n("LeakyRelu", name, alpha=self.one(0.01, 0.2, -0.3))
        elif kind == "prelu":
            name = n("PRelu", name, self.normal(self.one(1, x.channels), *(1,) * len(x.spatial), scale=0.2))
        elif kind == "mish":
            name = (
                n("Mish", name)
                if self.opset >= 18 and self.maybe()
                else n("Mul", *self.swapped(name, n("Tanh", n("Softplus", name))))
            )
        elif kind == "other":
            name = n(self.one("Elu", "Selu", "Celu", "Softplus", "Softsign", "Neg", "Abs"), name)
        return self.like(x, name)

    def tail(self, x: Value) -> Value:
        """What may follow a convolution."""
        if self.maybe():
            x = self.norm(x)
        return self.activation(x)

    # ------------------------------------------------------------ blocks
    def plain_conv(self, x: Value) -> Value:
        rank = len(x.spatial)
        kernel = [self.integer(1, min(5 if rank < 3 else 3, n + 2)) for n in x.spatial]
        pads = [self.integer(0, k // 2 + 1) for k in kernel * 2]
        for i, (n, k) in enumerate(zip(x.spatial, kernel, strict=True)):
            pads[i] += max(0, k - n - pads[i] - pads[rank + i])
        group = self.one(*[g for g in (1, 1, 2, 3, 4, x.channels) if x.channels % g == 0])
        channels = group * self.integer(1, max(3, 40 // group))
        if self.maybe() and x.channels % group == 0:
            channels = x.channels
        strides = [self.one(1, 1, 2) for _ in kernel]
        return self.tail(self.conv(x, channels, kernel, group=group, strides=strides, pads=pads))

    def square_conv(self, x: Value) -> Value:
        """Padded, of 3 to 7 taps along one axis or both: what Winograd may compute, of channels that pay."""
        rank = len(x.spatial)
        if x.channels < 16 and self.maybe():
            x = self.activation(self.conv(x, self.one(16, 24, 32, 36), [1] * rank))
        kernels = {
            1: ([3], [5], [7]),
            2: ([3, 3], [3, 3], [5, 5], [1, 3], [3, 1], [1, 5], [5, 1], [1, 7], [7, 1]),
            3: ([3, 3, 3], [1, 3, 3], [3, 5, 5], [1, 5, 5]),
        }
        kernel = self.one(*kernels[rank])
        stride, dilation = (1, 1) if rank == 3 else self.one((1, 1), (1, 1), (2, 1), (1, 2), (1, 3))
        pads = [k // 2 * dilation for k in kernel] * 2
        group = self.one(1, 1, 1, 2) if x.channels % 2 == 0 else 1
        channels = group * (self.one(16, 24, 32, 40, self.integer(3, 40)) // group)
        steps = {"strides": [stride] * rank, "dilations": [dilation] * rank}
        y = self.conv(x, channels, kernel, pads=pads, group=group, **steps)
        return self.residual(self.tail(y), x)

    def dilated_conv(self, x: Value) -> Value:
        """Taps that may meet nothing but padding."""
        dilations = [self.integer(1, 9) for _ in x.spatial]
        pads = [d if n + 2 * d >= 2 * d + 1 else d + 1 for n, d in zip(x.spatial, dilations, strict=True)]
        group = self.one(1, x.channels)
        y = self.conv(
            x,
            x.channels if group > 1 else self.integer(1, 24),
            [3] * len(pads),
            group=group,
            dilations=dilations,
            pads=pads * 2,
            strides=[self.one(1, 1, 1, 2) for _ in pads],
        )
        return self.tail(y)

    def pyramid(self, x: Value) -> Value:
        """ASPP: dilated branches and a pooled one, joined."""
        rank = len(x.spatial)
        c = self.integer(4, 20)
        parts = [self.activation(self.conv(x, c, [1] * rank))]
        for _ in range(self.integer(1, 3)):
            d = self.integer(2, 12)
            parts.append(self.activation(self.conv(x, self.one(c, 8, 16), [3] * rank, dilations=[d] * rank, pads=[d] * 2 * rank)))
        if self.maybe():
            pooled = self.conv(Value(self.pooled(x), x.channels, (1,) * rank), c, [1] * rank)
            parts.append(Value(self.node("Resize", pooled.name, "", "", self.sizes(x, c, *x.spatial)), c, x.spatial))
        return self.tail(self.conv(self.concat(parts), self.integer(4, 24), [1] * rank))

    def residual(self, y: Value, x: Value) -> Value:
        """y + x where that fits, now and then."""
        if y.spatial != x.spatial or not self.maybe():
            return y
        if y.channels != x.channels:
            x = self.conv(x, y.channels, [1] * len(x.spatial))
        y = self.like(y, self.node("Add", *self.swapped(y.name, x.name)))
        return self.activation(y) if self.maybe() else y

    def pooled(self, x: Value) -> str:
        if self.maybe():
            return self.node("GlobalAveragePool", x.name)
        axes = range(2, 2 + len(x.spatial)) if self.maybe() else range(-len(x.spatial), 0)
        if self.opset < 18:
            return self.node("ReduceMean", x.name, axes=list(axes), keepdims=1)
        return self.node("ReduceMean", x.name, self.ints(*axes), keepdims=1)

    def gate(self, x: Value) -> Value:
        """Squeeze and excite."""
        ones = (1,) * len(x.spatial)
        squeezed = self.conv(Value(self.pooled(x), x.channels, ones), self.integer(1, 12), ones)
        name = self.conv(self.activation(squeezed), x.channels, ones).name
        name = self.node(self.one("Sigmoid", "HardSigmoid"), name)
        return self.like(x, self.node("Mul", *self.swapped(x.name, name)))

    def mobile(self, x: Value) -> Value:
        """Expand, depthwise, gate, project, add: each of them now and then left out."""
        rank, y = len(x.spatial), x
        if self.maybe():
            y = self.tail(self.conv(y, self.integer(8, 48), [1] * rank))
        if self.integer(0, 3):
            kernel = [self.one(1, 3, 3, 5) for _ in x.spatial]
            strides = [self.one(1, 1, 2)] * rank
            pads = [self.integer(0, k - 1) if self.maybe() else k // 2 for k in kernel * 2]
            for i, (n, k) in enumerate(zip(y.spatial, kernel, strict=True)):
                pads[i] += max(0, k - n - pads[i] - pads[rank + i])
            y = self.tail(self.conv(y, y.channels, kernel, group=y.channels, strides=strides, pads=pads))
        if self.maybe():
            y = self.gate(y)
        y = self.conv(y, x.channels if self.maybe() else self.integer(1, 40), [1] * rank)
        return self.residual(self.tail(y) if self.maybe() else y, x)

    def concat(self, parts: Sequence[Value]) -> Value:
        axis = 1 if self.maybe() else -1 - len(parts[0].spatial)
        name = self.node("Concat", *[p.name for p in parts], axis=axis)
        return Value(name, sum(p.channels for p in parts), parts[0].spatial)

    def dense_block(self, x: Value) -> Value:
        """Each layer joins all that was made before; channel counts that end within blocks, too."""
        rank, made = len(x.spatial), [x]
        growth = self.one(4, 8, 12, 16)
        for _ in range(self.integer(1, 3)):
            y = self.concat(made) if len(made) > 1 else x
            y = self.activation(self.norm(y)) if self.maybe() else y
            made.append(self.activation(self.conv(y, growth, [3] * rank, pads=[1] * 2 * rank)))
        return self.concat(made)

    def branches(self, x: Value) -> Value:
        """Several paths of the same extents, joined; a path may be there twice, or be x itself."""
        rank = len(x.spatial)
        parts = []
        for _ in range(self.integer(2, 4)):
            kind = self.integer(0, 4)
            if kind == 0:
                parts.append(x)
            elif kind == 1 and parts:
                parts.append(parts[-1])
            elif kind == 2:
                op = self.one("MaxPool", "AveragePool")
                parts.append(self.like(x, self.node(op, x.name, kernel_shape=[3] * rank, pads=[1] * 2 * rank)))
            else:
                k = self.one(1, 3)
                parts.append(self.activation(self.conv(x, self.integer(1, 24), [k] * rank, pads=[k // 2] * 2 * rank)))
        return self.concat(parts)

    def split(self, x: Value) -> list[Value]:
        """Parts along the channels, by Split or by Slices."""
        if x.channels < 2:
            return [x]
        at = self.one(*{c for c in (8, 16, x.channels // 2, self.integer(1, x.channels - 1)) if 0 < c < x.channels})
        axis = 1 if self.maybe() else -1 - len(x.spatial)
        if self.maybe():
            name = self.node("Split", x.name, self.ints(at, x.channels - at), outputs=2, axis=axis)
            names = (name, f"{name}.1")
        else:
            end = self.one(x.channels, 2**63 - 1)
            cuts = ((0, at), (at, end))
            names = tuple(self.node("Slice", x.name, self.ints(a), self.ints(b), self.ints(axis)) for a, b in cuts)
        return [Value(names[0], at, x.spatial), Value(names[1], x.channels - at, x.spatial)]

    def split_block(self, x: Value) -> Value:
        """As in ShuffleNet and CSP nets: one part is worked on, and they are joined again."""
        parts = self.split(x)
        which = self.integer(0, len(parts) - 1)
        for _ in range(self.integer(1, 2)):
            y = self.conv(parts[which], self.one(parts[which].channels, 8, 13), [1] * len(x.spatial))
            parts[which] = self.residual(self.tail(y), parts[which])
        if self.maybe():
            parts.reverse()
        y = self.concat(parts)
        return self.shuffle(y) if self.maybe() else y

    def joined_and_split(self, x: Value) -> Value:
        """What is joined is read by a Split alone, whose parts end elsewhere than those that were joined."""
        rank = len(x.spatial)
        parts = [
            self.activation(self.conv(x, self.one(8, 16, self.integer(1, 20)), [1] * rank)) for _ in range(self.integer(2, 3))
        ]
        aside = self.conv(x, self.one(8, 16), [1] * rank)
        whole = self.concat(parts)
        pieces = self.split(whole)
        for i, piece in enumerate(pieces):
            k = self.one(1, 3)
            pieces[i] = self.activation(self.conv(piece, 8, [k] * rank, pads=[k // 2] * 2 * rank))
        return self.concat([*pieces, aside])

    def shuffle(self, x: Value) -> Value:
        groups = self.one(*[g for g in (1, 2, 3, 4) if x.channels % g == 0])
        if self.integer(0, 3) == 0:
            order = self.rng.permutation(x.channels) - self.one(0, x.channels)
            return self.like(x, self.node("Gather", x.name, self.constant(order, np.int64), axis=1))
        inner = self.node("Reshape", x.name, self.ints(0, groups, x.channels // groups, *x.spatial))
        inner = self.node("Transpose", inner, perm=[0, 2, 1, *range(3, 3 + len(x.spatial))])
        y = self.like(x, self.node("Reshape", inner, self.ints(0, self.one(-1, x.channels), *x.spatial)))
        return self.one(*self.split(y)) if self.maybe() else y

    def pool(self, x: Value, mean: bool = False) -> Value:
        rank = len(x.spatial)
        kernel = [self.integer(1, min(3, n)) for n in x.spatial]
        strides = [self.integer(1, 2) for _ in kernel]
        pads = [self.integer(0, k // 2) for k in kernel * 2]
        up = self.integer(0, 1)
        extent = []
        for i, (n, k, s) in enumerate(zip(x.spatial, kernel, strides, strict=True)):
            count = (n + pads[i] + pads[rank + i] - k + up * (s - 1)) // s + 1
            extent.append(count - (up and (count - 1) * s >= n + pads[i]))  # none starts in the padding behind
        extent = tuple(extent)
        attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": pads, "ceil_mode": up}
        if not mean and self.maybe():
            return Value(self.node("MaxPool", x.name, **attributes), x.channels, extent)
        name = self.node("AveragePool", x.name, count_include_pad=self.integer(0, 1), **attributes)
        return Value(name, x.channels, extent)

    def resize(self, x: Value) -> Value:
        mode = self.one("nearest", "linear") if len(x.spatial) < 3 else "nearest"
        if self.maybe():
            factors = [self.one(1, 2, 2, 3) if n <= 16 else 1 for n in x.spatial]
            extent = tuple(n * f for n, f in zip(x.spatial, factors, strict=True))
            inputs = ["", self.constant([1.0, 1.0, *factors])]
        else:
            extent = tuple(self.integer(1, 20) for _ in x.spatial)
            inputs = ["", "", self.sizes(x, x.channels, *extent)]
        attributes = {
            "coordinate_transformation_mode": self.one("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel")
        }
        if mode == "nearest":  # others may fall between two pixels, where rounding alone decides
            attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        name = self.node("Resize", x.name, *inputs, mode=mode, **attributes)
        return Value(name, x.channels, extent)

    def sizes(self, x: Value, *extents: int) -> str:
        """(N, extents...), N taken from x when the model runs."""
        batch = self.node("Shape", x.name, end=1) if self.opset >= 15 else self.node("Shape", x.name)
        self.integral.add(batch)
        if self.opset < 15:
            batch = self.node("Slice", batch, self.ints(0), self.ints(1))
        sizes = self.node("Concat", batch, self.ints(*extents), axis=0)
        self.integral |= {batch, sizes}
        return sizes

    def pad(self, x: Value) -> Value:
        rank = len(x.spatial)
        mode = self.one("constant", "constant", "reflect", "edge")
        widths = [self.integer(0, min(3, n - 1)) for n in x.spatial * 2]
        name = self.node("Pad", x.name, self.ints(0, 0, *widths[:rank], 0, 0, *widths[rank:]), mode=mode)
        extent = tuple(n + widths[i] + widths[rank + i] for i, n in enumerate(x.spatial))
        y = Value(name, x.channels, extent)
        if self.maybe():
            kernel = [min(self.one(1, 3), n) for n in extent]
            y = self.tail(self.conv(y, self.integer(1, 24), kernel, strides=[self.integer(1, 2) for _ in kernel]))
        return y

    def padded_pool(self, x: Value) -> Value:
        """Zeros that a mean counts, and windows that the ceiling cuts."""
        rank = len(x.spatial)
        widths = [self.integer(0, 2) for _ in x.spatial * 2]
        more = self.one(0, 0, 0, 1)  # channels of zeros, which no pads of a pool are
        padded = self.node("Pad", x.name, self.ints(0, more, *widths[:rank], 0, 0, *widths[rank:]))
        extent = tuple(n + widths[i] + widths[rank + i] for i, n in enumerate(x.spatial))
        return self.pool(Value(padded, x.channels + more, extent), mean=True)

    def cut(self, x: Value) -> Value:
        """Slices of the extents, with steps and from behind."""
        axis = self.integer(0, len(x.spatial) - 1)
        n = x.spatial[axis]
        start, step = self.integer(0, n - 1), self.one(1, 2, -1)
        end = self.integer(start + 1, n) if step > 0 else -(2**63)
        count = -(-(end - start) // step) if step > 0 else start + 1
        name = self.node("Slice", x.name, *map(self.ints, (start, end, axis + 2, step)))
        return Value(name, x.channels, (*x.spatial[:axis], count, *x.spatial[axis + 1 :]))

    def channels_last(self, x: Value) -> Value:
        """A block of ConvNeXt: to channels-last for the norm and the products, and back."""
        rank, c = len(x.spatial), x.channels
        y = x
        if self.maybe():
            y = self.conv(x, c, [3] * rank, group=c, pads=[1] * 2 * rank)
        name = self.node("Transpose", y.name, perm=[0, *range(2, 2 + rank), 1])
        if c > 3 and self.opset >= 17 and self.maybe():
            names = [self.normal(c, scale=0.2, shift=1), self.normal(c, scale=0.2)][: self.integer(1, 2)]
            name = self.node("LayerNormalization", name, *names, axis=self.one(-1, rank + 1), epsilon=1e-3)
        hidden = c
        for _ in range(self.integer(0, 2)):
            wide = self.integer(1, 32)
            name = self.node("MatMul", name, self.normal(hidden, wide, scale=1 / math.sqrt(hidden)))
            if self.maybe():
                name = self.node("Add", *self.swapped(name, self.normal(wide, scale=0.3)))
            name = self.activation(Value(name, wide, ())).name if self.maybe() else name
            hidden = wide
        if hidden != c:
            name = self.node("MatMul", name, self.normal(hidden, c, scale=1 / math.sqrt(hidden)))
        if self.maybe():
            name = self.node(self.one("Mul", "Add"), *self.swapped(name, self.normal(c, scale=0.2, shift=1)))
        if self.maybe():
            other = self.node("Transpose", x.name, perm=[0, *range(2, 2 + rank), 1])
            name = self.node(self.one("Add", "Mul", "Sub"), *self.swapped(name, other))
        y = self.like(x, self.node("Transpose", name, perm=[0, rank + 1, *range(1, rank + 1)]))
        return self.residual(y, x)

    def normalised(self, x: Value) -> Value:
        c = x.channels
        vectors = [self.normal(c, scale=0.2, shift=1), self.normal(c, scale=0.3)]
        kind = self.integer(0, 3)
        if kind == 0 and math.prod(x.spatial) > 8:
            name = self.node("InstanceNormalization", x.name, *vectors, epsilon=1e-2)
        elif kind == 1 and self.opset >= 21 and math.prod(x.spatial) > 8:
            groups = self.one(*[g for g in (1, 2, 3, 4) if c % g == 0])
            name = self.node("GroupNormalization", x.name, *vectors, num_groups=groups, epsilon=1e-2)
        elif kind == 2:
            name = self.node("LRN", x.name, size=self.one(1, 3, 5), alpha=0.1, beta=0.75, bias=1.0)
        else:
            return self.norm(x)
        return self.like(x, name)

    def transposed_conv(self, x: Value) -> Value:
        kernel = [self.integer(1, 3) for _ in x.spatial]
        strides = [self.integer(1, 2) if n < 14 else 1 for n in x.spatial]
        group = self.one(*[g for g in (1, 1, 2, 3, 4, x.channels) if x.channels % g == 0])
        inner = x.channels // group
        each = self.one(inner, self.integer(1, max(1, 24 // group)))
        channels = group * each
        w = self.normal(x.channels, each, *kernel, scale=1 / math.sqrt(inner * math.prod(kernel)))
        name = self.node("ConvTranspose", x.name, w, kernel_shape=kernel, strides=strides, group=group)
        extent = tuple((n - 1) * s + k for n, s, k in zip(x.spatial, strides, kernel, strict=True))
        return self.tail(Value(name, channels, extent))

    def depthwise_transposed(self, x: Value) -> Value:
        """A channel by itself, every pixel made several."""
        kernel = [self.integer(1, 4) for _ in x.spatial]
        strides = [self.integer(1, 3) if n < 14 else self.one(1, 2) for n in x.spatial]
        pads = [self.integer(0, k - 1) // 2 for k in kernel * 2]
        w = self.normal(x.channels, 1, *kernel, scale=1 / math.sqrt(math.prod(kernel)))
        inputs = [x.name, w, *([self.normal(x.channels, scale=0.3)] if self.maybe() else [])]
        name = self.node("ConvTranspose", *inputs, kernel_shape=kernel, strides=strides, pads=pads, group=x.channels)
        rank = len(kernel)
        extent = tuple(
            (n - 1) * s + k - pads[i] - pads[rank + i] for i, (n, s, k) in enumerate(zip(x.spatial, strides, kernel, strict=True))
        )
        return self.tail(Value(name, x.channels, extent)) if min(extent) > 0 else x

    def channels_last_conv(self, x: Value) -> Value:
        """As converters of channels-last frameworks write it: Transposes around every layer, and a Pad before the second."""
        rank = len(x.spatial)
        last, first = [0, *range(2, 2 + rank), 1], [0, rank + 1, *range(1, rank + 1)]
        name = self.node("Transpose", x.name, perm=last)
        if self.maybe():
            name = self.node(self.one("Add", "Mul"), *self.swapped(name, self.normal(x.channels, scale=0.2, shift=1)))
        if self.maybe():
            name = self.activation(Value(name, x.channels, ())).name
        widths = [self.integer(0, 2) for _ in x.spatial * 2]
        extent = tuple(n + widths[i] + widths[rank + i] for i, n in enumerate(x.spatial))
        if any(widths) and self.maybe():
            name = self.node("Pad", name, self.ints(0, *widths[:rank], 0, 0, *widths[rank:], 0))
        else:
            extent = x.spatial
        y = Value(self.node("Transpose", name, perm=first), x.channels, extent)
        kernel = [min(self.one(1, 3), n) for n in extent]
        group = self.one(1, x.channels)
        y = self.conv(y, x.channels, kernel, group=group, strides=[self.integer(1, 2) for _ in kernel])
        name = self.node("Transpose", y.name, perm=last)
        name = self.activation(Value(name, x.channels, ())).name
        return self.like(y, self.node("Transpose", name, perm=first))

    def blocks_of_pixels(self, x: Value) -> Value:
        """Pixels become channels, or channels pixels; only planes have them."""
        if len(x.spatial) != 2:
            return self.arithmetic(x)
        if x.channels % 4 == 0:
            name = self.node("DepthToSpace", x.name, blocksize=2, mode=self.one("DCR", "CRD"))
            return Value(name, x.channels // 4, (2 * x.spatial[0], 2 * x.spatial[1]))
        if x.channels <= 12 and x.spatial[0] % 2 == x.spatial[1] % 2 == 0:
            name = self.node("SpaceToDepth", x.name, blocksize=2)
            return Value(name, x.channels * 4, (x.spatial[0] // 2, x.spatial[1] // 2))
        return x

    def attention(self, x: Value) -> Value:
        """Tokens of pixels, one head."""
        c, size = x.channels, self.one(4, 8, 12)
        if math.prod(x.spatial) > 300:
            return x
        flat = self.node("Transpose", self.node("Reshape", x.name, self.ints(0, c, -1)), perm=[0, 2, 1])
        q, k, v = (self.node("MatMul", flat, self.normal(c, size, scale=1 / math.sqrt(c))) for _ in range(3))
        factor = self.constant(size**-0.25)
        if self.maybe():
            q, k = self.node("Mul", q, factor), self.node("Mul", self.node("Transpose", k, perm=[0, 2, 1]), factor)
            scores = self.node("MatMul", q, k)
        else:
            scores = self.node("MatMul", q, self.node("Transpose", k, perm=[0, 2, 1]))
            scores = self.node("Div", scores, self.constant(math.sqrt(size)))
        weights = self.node("Softmax", scores, axis=-1)
        y = self.node("MatMul", weights, v)
        if self.maybe():
            self.shown.append(self.node(self.one("Neg", "Relu"), self.one(q, k, v, scores, weights, y)))
        y = self.node("MatMul", y, self.normal(size, c, scale=1 / math.sqrt(size)))
        y = self.node("Transpose", y, perm=[0, 2, 1])
        return self.residual(self.like(x, self.node("Reshape", y, self.ints(0, c, *x.spatial))), x)

    def arithmetic(self, x: Value) -> Value:
        """With constants, and of two values made of x."""
        if self.maybe():
            op = self.one("Add", "Sub", "Mul", "Div", "Max", "Min")
            number = self.constant(self.one(0.5, 2.0, -1.5), np.float32)
            if op == "Div":
                return self.like(x, self.node(op, x.name, number))
            return self.like(x, self.node(op, *self.swapped(x.name, number)))
        a, b = self.activation(x), self.conv(x, x.channels, [1] * len(x.spatial))
        if self.maybe():
            b = self.activation(b)
        return self.like(x, self.node(self.one("Add", "Sub", "Mul", "Max", "Min"), *self.swapped(a.name, b.name)))


BLOCKS = [
    Maker.plain_conv,
    *[Maker.square_conv] * 4,
    *[Maker.dilated_conv] * 2,
    Maker.pyramid,
    Maker.gate,
    *[Maker.mobile] * 4,
    Maker.dense_block,
    Maker.branches,
    *[Maker.split_block] * 2,
    Maker.shuffle,
    Maker.pool,
    Maker.resize,
    Maker.pad,
    Maker.cut,
    *[Maker.channels_last] * 3,
    *[Maker.channels_last_conv] * 2,
    Maker.blocks_of_pixels,
    Maker.normalised,
    Maker.transposed_conv,
    Maker.depthwise_transposed,
    Maker.joined_and_split,
    Maker.padded_pool,
    *[Maker.attention] * 2,
    Maker.arithmetic,
    Maker.tail,
]


class Case:
    """A model for any batch, and what it is fed."""

    def __init__(self, model: onnx.ModelProto, x: np.ndarray, isa: str, eager: bool) -> None:
        self.model = model
        self.x = x
        self.isa = isa
        self.eager = eager  # chains and regions, which pay in large layers, in small ones too

    def __repr__(self) -> str:
        return f"{self.isa}, {self.x.shape}, eager={self.eager}\n{onnx.printer.to_text(self.model)}"

    def limits(self) -> contextlib.ExitStack:
        """A context in which layers are as large as chains and regions want them."""
        stack = contextlib.ExitStack()
        if self.eager:
            stack.enter_context(mock.patch.object(CHAINS, "CHAIN_BYTES", 1))
            stack.enter_context(mock.patch.object(conv_choice, "CALL_PRODUCTS", 0))
        return stack


@st.composite
def cases(draw: Any) -> Case:
    # Few draws, and those of different kinds: hypothesis likes to repeat parts, and repeated blocks find less than other ones.
    # The bits of `which` are the blocks that are there; fewer of them is what a failure shrinks to.
    seed, which = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 255))
    make = Maker(f"{seed} shape")
    make.opset = make.one(*OPSETS)
    rank = make.one(2, 2, 2, 2, 2, 1, 3)
    channels = make.one(3, 8, 16, 24, 32, make.integer(1, 40))
    low, high = make.one(*{1: [(5, 40)], 2: [(4, 9), (9, 18), (9, 18)], 3: [(2, 6), (5, 8)]}[rank])
    if rank == 2 and make.integer(0, 9) == 0:  # wide planes, of which chunks and tiles have only a part
        channels, low, high = min(channels, 8), 20, 60
    spatial = tuple(make.integer(low, high) for _ in range(rank))
    largest = max(1000, math.prod(spatial))
    dims: list[Any] = make.one(["N", channels, *spatial], ["N", channels, *"DHW"[:rank]], [2, channels, *spatial])
    isa, eager = make.one(*dispatch.available_isas()), make.maybe()
    x = make.rng.standard_normal((2, channels, *spatial)).astype(np.float32)
    values = [Value("x", channels, spatial)]
    for i in range(8):
        make.begin(f"{seed} {i}")
        if not which >> i & 1:
            continue
        value = make.one(*BLOCKS)(make, values[-1] if make.integer(0, 4) else make.one(*values))
        if math.prod(value.spatial) <= largest:
            values.append(value)
    make.begin(f"{seed} outputs")
    outputs = [values[-1].name]
    if make.maybe():
        flat = make.node("Flatten", make.pooled(values[-1]), axis=1)
        w, b = make.normal(7, values[-1].channels, scale=1 / math.sqrt(values[-1].channels)), make.normal(7)
        outputs.append(make.node("Softmax", make.node("Gemm", flat, w, b, transB=1), axis=-1))
    # values of the middle, wherever they are
    names = [name for n in make.nodes for name in n.output if name not in make.integral]
    outputs += make.choose.sample(names, min(len(names), make.one(0, 0, 1, 5)))
    outputs += make.shown
    outputs = list(dict.fromkeys(o for o in outputs if o != "x"))
    if not outputs:
        outputs = [make.node("Relu", "x")]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        make.nodes,
        "random",
        [info("x", TensorProto.FLOAT, dims)],
        [info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(v, k) for k, v in make.constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", make.opset)], ir_version=10)
    return Case(model, x, isa, eager)


class MaxPool(OpRun):
    """onnx.reference takes pads of planes in another order than ONNX, and leaves them out for rows and volumes."""

    def _run(self, x, auto_pad=None, ceil_mode=0, dilations=None, kernel_shape=None, pads=None, storage_order=0, strides=None):
        y, _ = oracle.max_pool(x, kernel_shape, stride=strides or 1, pads=pads or 0, ceil_mode=bool(ceil_mode))
        return (y.astype(x.dtype),)


class AveragePool(OpRun):
    """As MaxPool."""

    def _run(
        self,
        x,
        auto_pad=None,
        ceil_mode=0,
        count_include_pad=0,
        dilations=None,
        kernel_shape=None,
        pads=None,
        strides=None,
    ):
        y = oracle.avg_pool(
            x,
            kernel_shape,
            stride=strides or 1,
            pads=pads or 0,
            ceil_mode=bool(ceil_mode),
            count_include_pad=bool(count_include_pad),
        )
        return (y.astype(x.dtype),)


class LRN(OpRun):
    """onnx.reference computes as many channels as there are images."""

    def _run(self, x, alpha=None, beta=None, bias=None, size=None):
        return (oracle.local_response_norm(x, size=size, alpha=alpha, beta=beta, bias=bias).astype(x.dtype),)


class ConvTranspose(OpRun):
    """onnx.reference takes the weights of a group by output channels, where they are those of its input channels."""

    def _run(
        self,
        x,
        w,
        b=None,
        auto_pad=None,
        dilations=None,
        group=1,
        kernel_shape=None,
        output_padding=None,
        output_shape=None,
        pads=None,
        strides=None,
    ):
        return (oracle.conv_transpose(x, w, b, stride=strides or 1, pads=pads or 0, groups=group).astype(x.dtype),)


class BatchNormalization(OpRun):
    """Before version 14 onnx.reference mixes in what the batch's own mean and variance are."""

    def _run(self, x, scale, bias, mean, variance, epsilon=None, momentum=None, training_mode=None):
        return (oracle.batch_norm(x, scale, bias, mean, variance, epsilon=epsilon).astype(x.dtype),)


CORRECTED = [MaxPool, AveragePool, LRN, ConvTranspose, BatchNormalization]
"""Operators that onnx.reference gets wrong, by the oracle."""


def node_by_node(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """The file's graph without any pass: each node by its own kernels, where it has some for these values."""
    graph = import_model(open_model(model, None).message)
    values: dict[str, Any] = {**graph.constants, "x": x}
    for node in graph.nodes:
        results = run_host(node, [values[n] if n else None for n in node.inputs], 1)
        values.update((n, v) for n, v in zip(node.outputs, results, strict=False) if n)
    return [values[name] for name in graph.outputs]


def for_one_image(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model for a batch of 1."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return copy


def agree(names: Sequence[str], actual: Sequence[np.ndarray], expected: Sequence[np.ndarray], who: str) -> None:
    for name, a, e in zip(names, actual, expected, strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype), (who, name)
        difference = np.abs(a.astype(np.float64) - e).max(initial=0)
        assert difference <= TOLERANCE * np.abs(e).max(initial=0), (who, name, difference, np.abs(e).max())


@pytest.fixture(autouse=True)
def rubbish():
    fill_arenas(255)
    yield
    fill_arenas(None)


def check(case: Case) -> None:
    """All ways to compute a case agree, and what must have the same bits has them."""
    names = [o.name for o in case.model.graph.output]
    expected = ReferenceEvaluator(case.model, new_ops=CORRECTED).run(None, {"x": case.x})
    with dispatch.use_isa(case.isa), case.limits():
        agree(names, node_by_node(case.model, case.x), expected, "node by node")
        for winograd in (False, True):
            with cnnengine.load(case.model, winograd=winograd) as model:
                results = model.run(None, {"x": case.x}, threads=1)
                agree(names, results, expected, f"optimised, winograd={winograd}")
                for name, one, two in zip(names, results, model.run(None, {"x": case.x}, threads=2), strict=True):
                    np.testing.assert_array_equal(two, one, f"{name}: 2 threads")
            with cnnengine.load(for_one_image(case.model), winograd=winograd) as model:
                for i in range(len(case.x)):
                    single = model.run(None, {"x": case.x[i : i + 1]}, threads=1)
                    for name, batch, image in zip(names, results, single, strict=True):
                        np.testing.assert_array_equal(image[0], batch[i], f"{name}: image {i} alone")


@settings(max_examples=280)
@given(cases())
def test_random_graphs(case: Case) -> None:
    check(case)
