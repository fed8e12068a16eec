"""Normalisation: BatchNormalization, InstanceNormalization, LayerNormalization, RMSNormalization, GroupNormalization, LRN,
MeanVarianceNormalization, LpNormalization."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from ..errors import InputError, ModelError, ShapeError
from ..operator import EVERY, READ_PLAIN, SAME, Activation, Expansion, Gives, Giving, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import broadcast_shape
from .elements import activate
from .reduce import reducible

FLOAT32 = np.dtype(np.float32)
_STASHES: dict[int, np.dtype] = {1: FLOAT32, 11: np.dtype(np.float64), 10: np.dtype(np.float16)}
"""`stash_type` -> the dtype of statistics; x's with another."""


def _wide(x: np.ndarray) -> np.dtype:
    """What means and variances of this dtype are computed in."""
    return np.dtype(np.float64) if x.dtype.itemsize <= 8 else x.dtype


def shape_of(inputs: Sequence[TensorSpec | None], operator: str, rank: int) -> tuple[int, ...]:
    """Concrete shape of input 0: floating point, of at least this rank."""
    spec = inputs[0] if inputs else None
    if spec is None:
        raise ModelError("a required input is absent", operator=operator, expected="input 0")
    if spec.dtype.kind != "f":
        raise InputError(
            "cannot normalise this element type", operator=operator, expected="a floating-point tensor", received=spec.dtype
        )
    shape = spec.concrete
    if len(shape) < rank:
        raise ShapeError("the rank is too low", operator=operator, tensor="x", expected=f"rank >= {rank}", received=shape)
    return shape


def check_vector(inputs: Sequence[TensorSpec | None], index: int, name: str, length: int, operator: str) -> None:
    spec = inputs[index] if index < len(inputs) else None
    if spec is None:
        raise ModelError("a required input is absent", operator=operator, tensor=name, expected=f"input {index}")
    if spec.shape != (length,):
        raise ShapeError("has the wrong shape", operator=operator, tensor=name, expected=(length,), received=spec.shape)


def widened(shape: tuple[int, ...], inputs: Sequence[TensorSpec | None], operator: str, spatial: int) -> tuple[int, ...]:
    """The shape of x with scale and bias, the inputs behind it, which `spatial` axes of extent 1 follow."""
    for spec in inputs[1:3]:
        if spec is not None:
            shape = broadcast_shape(shape, (*spec.concrete, *(1,) * spatial), operator)
    return shape


def outlined(inputs: Sequence[TensorSpec | None], expands: bool) -> list[TensorSpec]:
    """What is known of x with scale and bias, numbers per channel: the dtype and rank of x, unless they may widen it."""
    if expands and any(s is not None and (s.shape is None or len(s.shape) > 2) for s in inputs[1:3]):
        return [Gives(ranks=()).of(inputs)]
    return [Gives().of(inputs)]


def over(v: np.ndarray, x: np.ndarray) -> np.ndarray:
    """One value per channel, shaped to broadcast over x."""
    return np.asarray(v).astype(_wide(x)).reshape(-1, *(1,) * (x.ndim - 2))


def _spread(v: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """v broadcast to this shape, flat."""
    return np.ascontiguousarray(np.broadcast_to(v, shape)).reshape(-1)


def all_float32(ctx: Lowering) -> bool:
    return all(spec is None or spec.dtype == FLOAT32 for spec in ctx.inputs)


def standardised(
    x: np.ndarray, axes: tuple[int, ...], epsilon: float, centred: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """((x - mean) / deviation, mean, 1 / deviation), wide; the mean counts as 0 unless `centred`."""
    wide = x.astype(_wide(x))
    mean = wide.mean(axis=axes, keepdims=True)
    if not centred:
        mean = np.zeros_like(mean)
    rest = wide - mean
    inverse = 1.0 / np.sqrt((rest * rest).mean(axis=axes, keepdims=True) + epsilon)
    return rest * inverse, mean, inverse


@dataclass(frozen=True)
class BatchNormalization(Operator):
    """ONNX BatchNormalization (1, 6, 7, 9, 14, 15).

    At inference ``y = (x - mean) / sqrt(var + epsilon) * scale + bias`` per channel. With `training_mode` (14, 15) the
    statistics are the batch's, and two more outputs carry the running ones. Before version 14 it is inference always, whatever
    outputs of training a file names, as in onnxruntime; who reads one of those is refused. The old `spatial` = 0 normalises every
    element of (C, spatial...) by itself. A tensor of one axis is (N,), of one channel.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    spatial: int = 1
    training_mode: int = 0
    outputs: int = 1
    activation: Activation | None = None

    op_type: ClassVar[str] = "BatchNormalization"
    gives: ClassVar[Giving] = (Gives(), Gives(3, (3,)), Gives(4, (4,)))
    reads: ClassVar[str] = READ_PLAIN

    @property
    def elements(self) -> Sequence[int]:  # type: ignore[override]
        return EVERY if self.outputs == 1 else ()

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Self:
        training = bool(node.attribute("training_mode", 0))
        return cls(
            float(node.attribute("epsilon", 1e-5)),
            float(node.attribute("momentum", 0.9)),
            int(node.attribute("spatial", 1)) if node.version < 9 else 1,
            int(training),
            len(node.outputs) if training else 1,
        )

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        node = into.record
        if node.version >= 14 or not any(node.outputs[1:]):
            return False
        into.add(cls.from_onnx(node), *node.inputs, outputs=node.outputs[:1])
        into.dropped = node.outputs[1:]
        into.reason = "an output of BatchNormalization in training mode, which is not defined for inference before version 14"
        return True

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        shape = shape_of(inputs, self.op_type, 1)
        assert inputs[0] is not None
        for index, name in enumerate(("scale", "bias", "mean", "var"), 1):
            if self.spatial:
                check_vector(inputs, index, name, shape[1] if len(shape) > 1 else 1, self.op_type)
            else:
                spec = inputs[index] if index < len(inputs) else None
                if spec is None or spec.shape is None or math.prod(spec.concrete) != math.prod(shape[1:]):
                    raise ShapeError(
                        "has the wrong shape",
                        operator=self.op_type,
                        tensor=name,
                        expected=shape[1:],
                        received=spec and spec.shape,
                    )
        result = [TensorSpec(inputs[0].dtype, shape)]
        for index in (3, 4)[: self.outputs - 1]:
            spec = inputs[index]
            assert spec is not None
            result.append(TensorSpec(spec.dtype, spec.shape))
        return result

    def reference(self, *inputs: Any) -> list[Any]:
        x, scale, bias, mean, var = inputs[:5]
        if not self.spatial:
            parameters = [np.asarray(v).astype(_wide(x)).reshape(x.shape[1:]) for v in (scale, bias, mean, var)]
        elif self.training_mode:
            axes = (0, *range(2, x.ndim))
            wide = x.astype(_wide(x))
            now_mean, now_var = wide.mean(axis=axes), wide.var(axis=axes)
            parameters = [over(v, x) for v in (scale, bias, now_mean, now_var)]
        else:
            parameters = [over(v, x) for v in (scale, bias, mean, var)]
        s, b, m, v = parameters
        y = activate(((x - m) / np.sqrt(v + self.epsilon) * s + b).astype(x.dtype), self.activation)
        if not self.training_mode or self.outputs == 1:
            return [y]
        running = (
            (mean * self.momentum + now_mean * (1 - self.momentum)).astype(np.asarray(mean).dtype),
            (var * self.momentum + now_var * (1 - self.momentum)).astype(np.asarray(var).dtype),
        )
        return [y, *running][: self.outputs]

    def lower(self, ctx: Lowering) -> bool:
        spec = ctx.inputs[0]
        if self.training_mode or not self.spatial or spec is None or not all_float32(ctx):
            return False
        parameters = [ctx.plain(i) for i in range(1, 5)]
        planes = ctx.is_planes(0) and 1 < len(spec.concrete) <= 5
        x = ctx.planes(0) if planes else ctx.plain(0)
        y = ctx.out_planes(0) if planes else ctx.out_plain(0)
        if len(spec.concrete) == 1:
            x, y = (operand.reshaped((*spec.concrete, 1)) for operand in (x, y))
        ctx.call("batch_norm", [x, *parameters], [y], epsilon=self.epsilon, activation=self.activation)
        return True


@dataclass(frozen=True)
class ChannelNorm(Operator):
    """What norms with a number per channel for scale and for bias share.

    Attributes
    ----------
    expands : bool
        Scale and bias may widen x, as a product and a sum do that a rewrite took for a norm; that runs on the host.
    """

    epsilon: float = 1e-5
    expands: bool = False

    least_rank: ClassVar[int] = 2
    needs_both: ClassVar[bool] = False
    """Whether scale and bias must be there."""

    def outline(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        return outlined(inputs, self.expands)

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        shape = shape_of(inputs, self.op_type, self.least_rank)
        assert inputs[0] is not None
        if self.expands:
            return [TensorSpec(inputs[0].dtype, widened(shape, inputs, self.op_type, len(shape) - 2))]
        for index, name in ((1, "scale"), (2, "bias")):
            if self.needs_both or (index < len(inputs) and inputs[index] is not None):
                check_vector(inputs, index, name, shape[1], self.op_type)
        return [TensorSpec(inputs[0].dtype, shape)]


@dataclass(frozen=True)
class InstanceNormalization(ChannelNorm):
    """ONNX InstanceNormalization (1, 6, 22)."""

    op_type: ClassVar[str] = "InstanceNormalization"
    elements: ClassVar[Sequence[int]] = EVERY
    reads: ClassVar[str] = READ_PLAIN
    least_rank: ClassVar[int] = 3
    needs_both: ClassVar[bool] = True

    def reference(self, *inputs: Any) -> list[Any]:
        x, scale, bias = inputs
        y = standardised(x, tuple(range(2, x.ndim)), self.epsilon)[0]
        return [(y * over(scale, x) + over(bias, x)).astype(x.dtype)]

    def lower(self, ctx: Lowering) -> bool:
        spec = ctx.inputs[0]
        if spec is None or not all_float32(ctx):
            return False
        shape = spec.concrete
        if self.expands and any(v is None or v.shape != shape[1:2] for v in ctx.inputs[1:]):
            return False
        if ctx.is_planes(0) and len(shape) <= 5:
            ctx.call("channel_norm", [ctx.planes(0), ctx.plain(1), ctx.plain(2)], [ctx.out_planes(0)], epsilon=self.epsilon)
        else:
            ctx.call(
                "row_norm",
                [ctx.plain(0), ctx.plain(1), ctx.plain(2)],
                [ctx.out_plain(0)],
                length=math.prod(shape[2:]),
                runs=1,
                epsilon=self.epsilon,
            )
        return True


@dataclass(frozen=True)
class _LayerNorm(Operator):
    """What LayerNormalization and RMSNormalization share: the axes from `axis` on; scale and bias broadcast to them."""

    axis: int = -1
    epsilon: float = 1e-5
    stash_type: int = 1
    outputs: tuple[bool, bool] = (False, False)
    """Whether the mean and the inverse of the deviation are wanted."""
    expands: bool = False
    """Whether scale and bias may widen x, as a product and a sum do that a rewrite took for a norm; that runs on the host."""

    centred: ClassVar[bool] = True
    """Whether the mean is subtracted."""
    elements: ClassVar[Sequence[int]] = EVERY
    element_outputs: ClassVar[Sequence[int]] = (0,)

    @property
    def gives(self) -> Giving:  # type: ignore[override]
        statistics = Gives(_STASHES.get(self.stash_type, 0))
        return (Gives(ranks=(0, 1, 2) if self.expands else (0,)), statistics, statistics)

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Self:
        names = (*node.outputs, "", "")
        return cls(
            int(node.attribute("axis", -1)),
            float(node.attribute("epsilon", 1e-5)),
            int(node.attribute("stash_type", 1)),
            (bool(names[1]), bool(names[2])),
        )

    def _axis(self, rank: int) -> int:
        if not -rank <= self.axis < rank:
            raise ShapeError(
                "there is no such axis", operator=self.op_type, tensor="axis", expected=f"{-rank}..{rank - 1}", received=self.axis
            )
        return self.axis % rank

    def _stash(self, dtype: np.dtype) -> np.dtype:
        return _STASHES.get(self.stash_type, dtype)

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        shape = shape_of(inputs, self.op_type, 1)
        assert inputs[0] is not None
        axis = self._axis(len(shape))
        if self.expands:
            return [TensorSpec(inputs[0].dtype, widened(shape, inputs, self.op_type, 0))]
        for index, name in ((1, "scale"), (2, "bias")):
            spec = inputs[index] if index < len(inputs) else None
            if spec is None:
                continue
            wanted, given = shape[axis:], spec.concrete
            padded = (1,) * (len(wanted) - len(given)) + given
            if len(padded) != len(wanted) or any(g not in (1, w) for g, w in zip(padded, wanted, strict=True)):
                raise ShapeError(
                    "does not broadcast to the axes", operator=self.op_type, tensor=name, expected=wanted, received=given
                )
        statistics = TensorSpec(self._stash(inputs[0].dtype), (*shape[:axis], *(1,) * (len(shape) - axis)))
        result = [TensorSpec(inputs[0].dtype, shape)]
        if any(self.outputs):
            result.append(statistics)
        if self.outputs[1]:
            result.append(statistics)
        return result

    def reference(self, *inputs: Any) -> list[Any]:
        x, scale, bias = (*inputs, None, None)[:3]
        axis = self._axis(x.ndim)
        y, mean, inverse = standardised(x, tuple(range(axis, x.ndim)), self.epsilon, self.centred)
        if scale is not None:
            y = y * scale
        if bias is not None:
            y = y + bias
        stash = self._stash(x.dtype)
        result = [y.astype(x.dtype), mean.astype(stash), inverse.astype(stash)]
        return result[: 3 if self.outputs[1] else 2 if self.outputs[0] else 1]

    def lower(self, ctx: Lowering) -> bool:
        spec = ctx.inputs[0]
        if spec is None or not all_float32(ctx) or (any(self.outputs) and self._stash(FLOAT32) != FLOAT32):
            return False
        shape = spec.concrete
        wanted = shape[self._axis(len(shape)) :]
        if ctx.outputs[0].shape != shape:
            return False
        parameters: list[Any] = []
        for index in (1, 2):
            given = ctx.inputs[index] if index < len(ctx.inputs) else None
            if given is None:
                parameters.append(None)
            elif math.prod(given.concrete) == math.prod(wanted):
                parameters.append(ctx.plain(index))
            else:
                value = ctx.const(index)
                if value is None:
                    return False
                key = ("layer_norm", ctx.name(index), wanted)
                parameters.append(ctx.pack(key, lambda _, value=value: _spread(value, wanted)))  # type: ignore[misc]
        x = ctx.plain(0)
        outputs: list[Any] = [ctx.out_plain(0)]
        statistics = (*shape[: len(shape) - len(wanted)], *(1,) * len(wanted))
        if any(self.outputs):
            outputs.append(ctx.out_plain(1) if ctx.wants(1) else ctx.temp(statistics))
        if self.outputs[1]:
            outputs.append(ctx.out_plain(2))
        kind: dict[str, Any] = {} if self.centred else {"centred": False}
        ctx.call("row_norm", [x, *parameters], outputs, length=math.prod(wanted), epsilon=self.epsilon, **kind)
        return True


@dataclass(frozen=True)
class LayerNormalization(_LayerNorm):
    """ONNX LayerNormalization (17; 1 in files that onnxruntime wrote for older opsets): over the axes from `axis` on.

    The optional outputs are the mean and the inverse of the deviation, their normalised axes 1, in float32 (`stash_type` 1).
    """

    op_type: ClassVar[str] = "LayerNormalization"
    reads: ClassVar[str] = READ_PLAIN


@dataclass(frozen=True)
class RMSNormalization(_LayerNorm):
    """ONNX RMSNormalization (23; arXiv:1910.07467): x over the root of its mean square on the axes from `axis` on, times a scale.

    Only nodes of onnxruntime's SimplifiedLayerNormalization have the second of `outputs`, 1 over the root; none has the first.
    """

    op_type: ClassVar[str] = "RMSNormalization"
    centred: ClassVar[bool] = False


@dataclass(frozen=True)
class GroupNormalization(Operator):
    """ONNX GroupNormalization: scale and bias per group in version 18, per channel from version 21 on (`per_group`)."""

    num_groups: int
    epsilon: float = 1e-5
    per_group: bool = False

    op_type: ClassVar[str] = "GroupNormalization"
    min_version: ClassVar[int] = 18
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = EVERY
    reads: ClassVar[str] = READ_PLAIN

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Self:
        if "num_groups" not in node.attributes:
            raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected="num_groups")
        return cls(int(node.attributes["num_groups"]), float(node.attribute("epsilon", 1e-5)), node.version < 21)

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        shape = shape_of(inputs, self.op_type, 3)
        assert inputs[0] is not None
        if self.num_groups < 1 or shape[1] % self.num_groups:
            raise ShapeError(
                "groups do not divide the channels",
                operator=self.op_type,
                tensor="groups",
                expected=f"a divisor of {shape[1]}",
                received=self.num_groups,
            )
        for index, name in ((1, "scale"), (2, "bias")):
            check_vector(inputs, index, name, self.num_groups if self.per_group else shape[1], self.op_type)
        return [TensorSpec(inputs[0].dtype, shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, scale, bias = inputs
        size = x.shape[1] // self.num_groups
        grouped = x.reshape(x.shape[0], self.num_groups, size, *x.shape[2:])
        y = standardised(grouped, tuple(range(2, grouped.ndim)), self.epsilon)[0].reshape(x.shape)
        if self.per_group:
            scale, bias = np.repeat(scale, size), np.repeat(bias, size)
        return [(y * over(scale, x) + over(bias, x)).astype(x.dtype)]

    def lower(self, ctx: Lowering) -> bool:
        spec = ctx.inputs[0]
        if spec is None or not all_float32(ctx):
            return False
        shape = spec.concrete
        size = shape[1] // self.num_groups
        ctx.call(
            "row_norm",
            [ctx.plain(0), ctx.plain(1), ctx.plain(2)],
            [ctx.out_plain(0)],
            length=size * math.prod(shape[2:]),
            runs=1 if self.per_group else size,
            epsilon=self.epsilon,
        )
        return True


@dataclass(frozen=True)
class LRN(Operator):
    """ONNX LRN (1, 13): ``y = x / (bias + alpha / size * sum of squares over a window of channels) ** beta``.

    The window reaches from floor((size - 1) / 2) channels before to ceil((size - 1) / 2) after.
    """

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    op_type: ClassVar[str] = "LRN"
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = EVERY

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        shape = shape_of(inputs, self.op_type, 2)
        assert inputs[0] is not None
        if self.size < 1:
            raise ShapeError(
                "the window must be positive", operator=self.op_type, tensor="size", expected=">= 1", received=self.size
            )
        return [TensorSpec(inputs[0].dtype, shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x: np.ndarray = inputs[0]
        channels = x.shape[1]
        squares = np.square(x.astype(_wide(x)))
        total = np.zeros_like(squares)
        for c in range(channels):
            total[:, c] = squares[:, max(0, c - (self.size - 1) // 2) : min(channels, c + self.size // 2 + 1)].sum(axis=1)
        return [(x / (self.bias + self.alpha / self.size * total) ** self.beta).astype(x.dtype)]

    def lower(self, ctx: Lowering) -> bool:
        spec = ctx.inputs[0]
        if spec is None or spec.dtype != FLOAT32:
            return False
        planes = ctx.is_planes(0) and len(spec.concrete) <= 5
        x = ctx.planes(0) if planes else ctx.plain(0)
        y = ctx.out_planes(0) if planes else ctx.out_plain(0)
        ctx.call("lrn", [x], [y], size=self.size, alpha=self.alpha, beta=self.beta, bias=self.bias)
        return True


@dataclass(frozen=True)
class MeanVarianceNormalization(Operator):
    """ONNX MeanVarianceNormalization (9, 13): ``(x - mean) / (deviation + 1e-9)`` over `axes`.

    The experimental version 1 says by `across_channels` whether axis 1 is among the axes 0, 2 and 3, of those that there are, and
    may leave out the division (`normalize_variance` 0); as onnxruntime has it.
    """

    axes: tuple[int, ...] = (0, 2, 3)
    present: bool = False
    """Whether axes beyond the rank are left out."""
    divide: bool = True

    op_type: ClassVar[str] = "MeanVarianceNormalization"
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = EVERY

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Self:
        if node.version >= 9:
            return cls(tuple(node.attribute("axes", (0, 2, 3))))
        axes = (0, 1, 2, 3) if node.attribute("across_channels", 0) else (0, 2, 3)
        return cls(axes, True, bool(node.attribute("normalize_variance", 1)))

    def _axes(self, rank: int) -> tuple[int, ...]:
        if self.present:
            return tuple(a for a in self.axes if a < rank)
        if any(not -rank <= a < rank for a in self.axes):
            raise ShapeError(
                "there is no such axis", operator=self.op_type, tensor="axes", expected=f"{-rank}..{rank - 1}", received=self.axes
            )
        return tuple(sorted({a % rank for a in self.axes}))

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        shape = shape_of(inputs, self.op_type, 1)
        assert inputs[0] is not None
        self._axes(len(shape))
        return [TensorSpec(inputs[0].dtype, shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x: np.ndarray = inputs[0]
        axes = self._axes(x.ndim)
        wide = x.astype(_wide(x))
        centred = wide - wide.mean(axis=axes, keepdims=True)
        if not self.divide:
            return [centred.astype(x.dtype)]
        deviation = np.sqrt((centred * centred).mean(axis=axes, keepdims=True))
        return [(centred / (deviation + 1e-9)).astype(x.dtype)]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or x.dtype != FLOAT32 or 0 in x.concrete:
            return False
        axes = self._axes(len(x.concrete))
        if not reducible(x.concrete, axes):
            return False
        kept = tuple(1 if a in axes else d for a, d in enumerate(x.concrete))
        mean = ctx.temp(kept)
        ctx.call("reduce", [ctx.plain(0)], [mean], op="mean", axes=axes)
        if not self.divide:
            ctx.call("binary", [ctx.plain(0), mean], [ctx.out_plain()], op="sub", activation=None)
            return True
        variance, deviation = ctx.temp(kept), ctx.temp(kept)
        centred, square = ctx.temp(x.concrete), ctx.temp(x.concrete)
        ctx.call("binary", [ctx.plain(0), mean], [centred], op="sub", activation=None)
        ctx.call("activation", [centred], [square], activation=Activation("square"))
        ctx.call("reduce", [square], [variance], op="mean", axes=axes)
        ctx.call("activation", [variance], [deviation], activation=Activation("sqrt"))
        shifted = ctx.temp(kept)
        ctx.call("activation", [deviation], [shifted], activation=Activation("affine", 1.0, 1e-9))
        ctx.call("binary", [centred, shifted], [ctx.out_plain()], op="div", activation=None)
        return True


@dataclass(frozen=True)
class LpNormalization(Operator):
    """ONNX LpNormalization (1, 22): x over its L1 or L2 norm along an axis; where the norm is 0 so is the result."""

    axis: int = -1
    p: int = 2

    op_type: ClassVar[str] = "LpNormalization"
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = EVERY

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        shape = shape_of(inputs, self.op_type, 1)
        assert inputs[0] is not None
        rank = len(shape)
        if not -rank <= self.axis < rank:
            raise ShapeError(
                "there is no such axis", operator=self.op_type, tensor="axis", expected=f"{-rank}..{rank - 1}", received=self.axis
            )
        if self.p not in (1, 2):
            raise ModelError(
                "the norm must be of order 1 or 2", operator=self.op_type, tensor="p", expected="1 or 2", received=self.p
            )
        return [TensorSpec(inputs[0].dtype, shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x: np.ndarray = inputs[0]
        wide = x.astype(_wide(x))
        norm = np.abs(wide).sum(axis=self.axis, keepdims=True)
        if self.p == 2:
            norm = np.sqrt(np.square(wide).sum(axis=self.axis, keepdims=True))
        return [np.divide(wide, norm, out=np.zeros_like(wide), where=norm != 0).astype(x.dtype)]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or x.dtype != FLOAT32 or 0 in x.concrete:
            return False
        axis = self.axis % len(x.concrete)
        if not reducible(x.concrete, (axis,)):
            return False
        kept = tuple(1 if a == axis else d for a, d in enumerate(x.concrete))
        # over its largest element first: squares neither overflow nor vanish, and where all is zero the divisor is not
        least = ctx.pack(("smallest normal",), lambda _: np.full(1, np.finfo(np.float32).tiny, np.float32))
        absolute, scaled = ctx.temp(x.concrete), ctx.temp(x.concrete)
        largest, divisor, norm, length = (ctx.temp(kept) for _ in range(4))
        ctx.call("activation", [ctx.plain(0)], [absolute], activation=Activation("abs"))
        ctx.call("reduce", [absolute], [largest], op="max", axes=(axis,))
        ctx.call("binary", [largest, least], [divisor], op="max", activation=None)
        ctx.call("binary", [ctx.plain(0), divisor], [scaled], op="div", activation=None)
        ctx.call("reduce", [scaled], [norm], op="l1" if self.p == 1 else "l2", axes=(axis,))
        ctx.call("binary", [norm, least], [length], op="max", activation=None)
        ctx.call("binary", [scaled, length], [ctx.out_plain()], op="div", activation=None)
        return True


OPERATORS: tuple[type[Operator], ...] = (
    BatchNormalization,
    InstanceNormalization,
    LayerNormalization,
    RMSNormalization,
    GroupNormalization,
    LRN,
    MeanVarianceNormalization,
    LpNormalization,
)
"""The operators of this file."""
