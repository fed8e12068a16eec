"""Operators of the domain com.microsoft as onnxruntime's optimizer writes them, by the operators of ONNX that they stand for.

What they compute is what onnxruntime's documentation of them says. Most are several operators of ONNX in one: they are written as
those again, so that the passes and the lowering fuse them as they fuse everybody's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError, UnsupportedOperatorError
from ..operator import EXACT, ROUNDING, SAME, Expansion, Gives, Giving, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from . import activation, cast, conv, dense, elementwise, norm, pool, retired, sample, transpose
from .common import Specs, integers, required, spec_at


@dataclass(frozen=True)
class AxesMoved(transpose.Transpose):
    """A Transpose whose permutation depends on the rank, which a file does not say.

    Attributes
    ----------
    move : {"swap", "behind", "turn", "last", "first"}
        The last two axes change places; axis 0 goes before the last one, or to the end; axis 1 goes to the end, or the last axis
        to place 1. A vector stays as it is.
    """

    tolerance: ClassVar[str] = EXACT
    move: str = "swap"

    def order(self, rank: int) -> tuple[int, ...]:
        axes = tuple(range(rank))
        if rank < 2:
            return axes
        if self.move == "swap":
            return (*axes[:-2], rank - 1, rank - 2)
        if self.move == "behind":
            return (*axes[1:-1], 0, rank - 1)
        if self.move == "turn":
            return (*axes[1:], 0)
        if self.move == "last":
            return (0, *axes[2:], 1)
        return (0, rank - 1, *axes[1:-1])


def _plain(into: Expansion, op_type: str, leave_out: tuple[str, ...] = (), inputs: int = 8) -> NodeRecord:
    """The file's node as one of ONNX's, with its first inputs and without some attributes."""
    node = into.record
    attributes = {k: v for k, v in node.attributes.items() if k not in leave_out}
    names = node.inputs[:inputs]
    while names and not names[-1]:
        names = names[:-1]
    return NodeRecord(op_type, "", 11, attributes, names, node.outputs[:1], node.name)


def _number(into: Expansion, value: float, like: str) -> str:
    """A scalar of the element type of another value."""
    return into.add(cast.CastLike(), into.constant(np.array(value, np.float32)), like)


@dataclass(frozen=True)
class Addend(elementwise.Add):
    """Add of a second input that must not widen the first one; of just its shape where `whole`."""

    whole: bool = False

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        found = super().infer(inputs)
        x, y = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        if found[0].shape != x.shape or (self.whole and y.shape != x.shape):
            raise ShapeError(
                "what is added has the wrong shape", operator=self.op_type, tensor="addend", expected=x.shape, received=y.shape
            )
        return found


# ---------------------------------------------------------------- convolutions and dense layers

_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "HardSwish": (),
    "Softplus": (),
    "Softsign": (),
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "Celu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Selu": ("alpha", "gamma"),
    "Clip": ("min", "max"),
    "ParametricSoftplus": ("alpha", "beta"),
    "ScaledTanh": ("alpha", "beta"),
}
"""Activation -> the parameters that it must have, in their order."""
_OF_CONV = ("Relu", "Tanh", "Sigmoid", "HardSwish", "LeakyRelu", "HardSigmoid", "Clip")
_OF_GEMM = tuple(name for name in _ACTIVATIONS if name not in ("Clip", "HardSwish"))


def _activate(into: Expansion, name: str, parameters: Sequence[float], x: str) -> None:
    """The activation of x, the node's result."""
    if name in ("ParametricSoftplus", "ScaledTanh"):
        alpha, beta = parameters
        retired.scaled(into, activation.Softplus() if name == "ParametricSoftplus" else activation.Tanh(), alpha, beta, x)
        return
    op: Operator = getattr(activation, name)(**dict(zip(_ACTIVATIONS[name], map(float, parameters), strict=True)))
    into.add(op, x, outputs=into.record.outputs[:1])


def _named(node: NodeRecord, known: Sequence[str]) -> str:
    name = node.attribute("activation", "")
    if name not in known:
        raise UnsupportedOperatorError(
            "an activation that onnxruntime does not fuse here",
            node=node.name,
            operator=node.op_type,
            tensor="activation",
            expected=tuple(known),
            received=name,
        )
    return str(name)


class FusedConv(Operator):
    """Conv, to which `Z` is added and then an activation applied."""

    op_type: ClassVar[str] = "FusedConv"
    last: ClassVar[bool] = False
    """Whether x, Z and the result have their channels last."""

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        node = into.record
        op = conv.Conv.from_onnx(_plain(into, "Conv", ("activation", "activation_params"), 3))
        name, parameters = "", node.attribute("activation_params", ())
        if "activation" in node.attributes:
            name = _named(node, _OF_CONV)
            if len(parameters) < len(_ACTIVATIONS[name]):
                raise ModelError(
                    "parameters of the activation are missing",
                    node=node.name,
                    operator=node.op_type,
                    tensor="activation_params",
                    expected=_ACTIVATIONS[name],
                    received=tuple(parameters),
                )
            parameters = parameters[: len(_ACTIVATIONS[name])]
        x, z = into.input(0), into.input(3)
        if cls.last:
            x = into.add(AxesMoved(move="first"), x)
            z = into.add(AxesMoved(move="first"), z) if z else ""
        final = () if name or z or cls.last else node.outputs
        y = into.add(op, x, into.input(1), into.input(2), outputs=final)
        if z:
            y = into.add(Addend(whole=True), y, z, outputs=() if name or cls.last else node.outputs)
        if cls.last:
            if name:
                operator = getattr(activation, name)
                y = into.add(operator(**dict(zip(_ACTIVATIONS[name], map(float, parameters), strict=True))), y)
            into.add(AxesMoved(move="last"), y, outputs=node.outputs)
        elif name:
            _activate(into, name, parameters, y)
        return True


class NhwcFusedConv(FusedConv):
    """`FusedConv` of tensors whose channels are last; the weights are as Conv has them."""

    op_type: ClassVar[str] = "NhwcFusedConv"
    last: ClassVar[bool] = True


class NhwcConv(NhwcFusedConv):
    """Conv of a tensor whose channels are last; the weights are as Conv has them."""

    op_type: ClassVar[str] = "NhwcConv"


class NhwcMaxPool(Operator):
    """MaxPool of a tensor whose channels are last."""

    op_type: ClassVar[str] = "NhwcMaxPool"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        op = pool.MaxPool.from_onnx(_plain(into, "MaxPool"))
        y = into.add(op, into.add(AxesMoved(move="first"), into.input(0)))
        into.add(AxesMoved(move="last"), y, outputs=into.record.outputs)
        return True


class FusedGemm(Operator):
    """Gemm with an activation; its parameters are the attributes activation_alpha, activation_beta and activation_gamma."""

    op_type: ClassVar[str] = "FusedGemm"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        node = into.record
        name = _named(node, _OF_GEMM)
        parameters = retired.needed(node, *(f"activation_{p}" for p in _ACTIVATIONS[name]))
        own = tuple(key for key in node.attributes if key.startswith("activation"))
        op = dense.Gemm.from_onnx(_plain(into, "Gemm", own))
        _activate(into, name, parameters, into.add(op, *node.inputs))
        return True


class FusedMatMul(Operator):
    """``alpha * A' @ B'``: the last two axes of A and B may change places, and their first one may be what counts as rows."""

    op_type: ClassVar[str] = "FusedMatMul"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        node = into.record
        operands = []
        for index, letter in enumerate("AB"):
            swapped, batch = (bool(node.attribute(f"{name}{letter}", 0)) for name in ("trans", "transBatch"))
            move = ("turn" if swapped else "behind") if batch else "swap" if swapped else ""
            operands.append(into.add(AxesMoved(move=move), into.input(index)) if move else into.input(index))
        alpha = float(node.attribute("alpha", 1.0))
        product = into.add(dense.MatMul(), *operands, outputs=node.outputs if alpha == 1 else ())
        if alpha != 1:
            into.add(elementwise.Mul(), product, _number(into, alpha, node.inputs[0]), outputs=node.outputs)
        return True


class TransposeMatMul(FusedMatMul):
    """`FusedMatMul` as it was called before."""

    op_type: ClassVar[str] = "TransposeMatMul"


@dataclass(frozen=True)
class UnpackedWeights(Operator):
    """The weights (K, N) of a MatMulNBits, as numbers of the type of its scales. No operator of a file.

    Inputs are B, N rows of so many bits for each of K columns, the lowest bits first; a scale for each block of columns; the
    zero points of the blocks, packed as B is or numbers as the scales are, by default the middle of the range; and which block a
    column belongs to, where that is not its place.
    """

    op_type: ClassVar[str] = "UnpackedWeights"
    domain: ClassVar[str] = "cnnengine"
    tolerance: ClassVar[str] = ROUNDING
    gives: ClassVar[Giving] = (Gives(1, rank=2),)
    growth: ClassVar[int] = 16
    """Times that the result may have the bytes of the inputs, where all are constants (`rewrites.fold_constants`)."""

    bits: int
    block: int
    n: int
    k: int

    @property
    def blocks(self) -> int:
        return -(-self.k // self.block)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        packed, scales = required(inputs, 0, "MatMulNBits"), required(inputs, 1, "MatMulNBits")
        zeros, places = spec_at(inputs, 2), spec_at(inputs, 3)
        rows = -(-self.blocks * self.bits // 8)
        wanted: list[tuple[str, TensorSpec, Any, int]] = [
            ("B", packed, np.uint8, self.n * self.blocks * (self.block * self.bits // 8))
        ]
        wanted.append(("scales", scales, scales.dtype, self.n * self.blocks))
        if zeros is not None:
            whole = zeros.dtype != np.uint8
            wanted.append(("zero_points", zeros, scales.dtype if whole else np.uint8, self.n * (self.blocks if whole else rows)))
        for tensor, spec, dtype, size in wanted:
            if spec.dtype != dtype:
                raise InputError(
                    "has the wrong dtype", operator="MatMulNBits", tensor=tensor, expected=np.dtype(dtype), received=spec.dtype
                )
            if int(np.prod(spec.concrete, dtype=object)) != size:
                raise ShapeError(
                    "has the wrong size",
                    operator="MatMulNBits",
                    tensor=tensor,
                    expected=f"{size} elements for K = {self.k}, N = {self.n}",
                    received=spec.shape,
                )
        if scales.dtype.kind != "f":
            raise InputError(
                "has the wrong dtype", operator="MatMulNBits", tensor="scales", expected="float", received=scales.dtype
            )
        if places is not None and (len(places.concrete) != 1 or places.concrete[0] < self.k or places.dtype.kind not in "iu"):
            raise ShapeError(
                "must have an index for each column",
                operator="MatMulNBits",
                tensor="g_idx",
                expected=f"({self.k},) of int32",
                received=f"{places.shape} of {places.dtype}",
            )
        return [TensorSpec(scales.dtype, (self.k, self.n))]

    def _numbers(self, packed: np.ndarray, each: int) -> np.ndarray:
        """(rows, each) small integers out of bytes."""
        per = 8 // self.bits
        shifts = np.arange(per, dtype=np.uint8) * np.uint8(self.bits)
        numbers = (packed.reshape(self.n, -1, 1) >> shifts) & np.uint8((1 << self.bits) - 1)
        return np.asarray(numbers.reshape(self.n, -1)[:, :each])

    def reference(self, *inputs: Any) -> list[Any]:
        packed, scales, zeros, places = (*inputs, None, None)[:4]
        block_of = np.arange(self.k) // self.block
        if places is not None:
            block_of = np.asarray(places[: self.k]).astype(np.int64)
            if self.k and (block_of.min() < 0 or block_of.max() >= self.blocks):
                raise InputError(
                    "an index lies outside", operator="MatMulNBits", tensor="g_idx", expected=f"0..{self.blocks - 1}"
                )
        wide = np.float64 if scales.dtype == np.float64 else np.float32
        factors = scales.reshape(self.n, self.blocks).astype(wide)
        if zeros is None:
            middle = np.full((self.n, self.blocks), 1 << (self.bits - 1), wide)
        elif zeros.dtype == np.uint8:
            middle = self._numbers(zeros, self.blocks).astype(wide)
        else:
            middle = zeros.reshape(self.n, self.blocks).astype(wide)
        weights: Any = self._numbers(packed, self.k).astype(wide)
        weights -= middle[:, block_of]
        weights *= factors[:, block_of]
        return [np.ascontiguousarray(weights.T.astype(scales.dtype))]


class MatMulNBits(Operator):
    """``A @ dequantised B + bias`` with weights of 2, 4 or 8 bits, scaled by blocks of columns; computed in the type of A."""

    op_type: ClassVar[str] = "MatMulNBits"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        node = into.record
        bits, block = int(node.attribute("bits", 4)), int(node.attributes["block_size"])
        n, k = int(node.attributes["N"]), int(node.attributes["K"])
        if bits not in (2, 4, 8) or node.attribute("weight_prepacked", 0):
            raise UnsupportedOperatorError(
                "weights of this form are not read",
                node=node.name,
                operator=node.op_type,
                expected="2, 4 or 8 bits, not packed for one kind of processor",
                received=f"{bits} bits, weight_prepacked {node.attribute('weight_prepacked', 0)}",
            )
        if block < 16 or block & (block - 1) or n < 1 or k < 1:
            raise ModelError(
                "impossible extents",
                node=node.name,
                operator=node.op_type,
                expected="N and K >= 1, a block_size that is a power of 2 and at least 16",
                received=f"N = {n}, K = {k}, block_size = {block}",
            )
        weights = into.add(UnpackedWeights(bits, block, n, k), *(into.input(i) for i in (1, 2, 3, 4)))
        bias = into.input(5)
        product = into.add(dense.MatMul(), into.input(0), weights, outputs=() if bias else node.outputs)
        if bias:
            into.add(Addend(), product, bias, outputs=node.outputs)
        return True


# ---------------------------------------------------------------- activations


class Gelu(Operator):
    """ONNX's Gelu, before it was one."""

    op_type: ClassVar[str] = "Gelu"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        return activation.Gelu()


class QuickGelu(Operator):
    """``x * sigmoid(alpha * x)``."""

    op_type: ClassVar[str] = "QuickGelu"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        return activation.Swish(float(node.attribute("alpha", 1.702)))


class BiasGelu(Operator):
    """Gelu of the sum of two inputs, the second of which is a vector."""

    op_type: ClassVar[str] = "BiasGelu"
    approximate: ClassVar[str] = "none"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        x = into.input(0)
        if into.input(1):
            x = into.add(Addend(), x, into.input(1))
        into.add(activation.Gelu(cls.approximate), x, outputs=into.record.outputs)
        return True


class FastGelu(BiasGelu):
    """Gelu by its approximation with tanh, of the first input plus the second one if there is one."""

    op_type: ClassVar[str] = "FastGelu"
    approximate: ClassVar[str] = "tanh"


# ---------------------------------------------------------------- normalisation


def _normalise(
    into: Expansion, rms: bool, x: str, parameters: tuple[str, ...], results: tuple[str, str, str], axis: int = -1
) -> None:
    """LayerNormalization or RMSNormalization of x; `results` are the names of y, the mean and 1 over the deviation."""
    node = into.record
    cls = norm.RMSNormalization if rms else norm.LayerNormalization
    epsilon = float(node.attribute("epsilon", 1e-5 if node.op_type == "SimplifiedLayerNormalization" else 1e-12))
    op = cls(axis, epsilon, int(node.attribute("stash_type", 1)), (bool(results[1]), bool(results[2])))
    outputs: tuple[str, ...] = results
    if not any(results):
        return
    while not outputs[-1]:
        outputs = outputs[:-1]
    into.add(op, x, *parameters, outputs=outputs)


class SimplifiedLayerNormalization(Operator):
    """RMSNormalization; a second output is 1 over the root of the mean square. onnxruntime has it in the default domain."""

    op_type: ClassVar[str] = "SimplifiedLayerNormalization"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        axis = int(into.record.attribute("axis", -1))
        _normalise(into, True, into.input(0), (into.input(1),), (into.output(), "", into.output(1)), axis)
        return True


class SkipLayerNormalization(Operator):
    """LayerNormalization of input + skip + bias; the fourth output is that sum."""

    op_type: ClassVar[str] = "SkipLayerNormalization"
    rms: ClassVar[bool] = False

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        total, bias = into.output(3), into.input(3 if cls.rms else 4)
        parameters = (into.input(2), "" if cls.rms else into.input(3))
        named = (total,) if total else ()
        x = into.add(Addend(), into.input(0), into.input(1), outputs=() if bias else named)
        if bias:
            x = into.add(Addend(), x, bias, outputs=named)
        mean = into.output(1)
        if cls.rms and mean:
            into.dropped, into.reason, mean = (mean,), "the mean of a SkipSimplifiedLayerNormalization, which has none", ""
        _normalise(into, cls.rms, x, parameters, (into.output(), mean, into.output(2)))
        return True


class SkipSimplifiedLayerNormalization(SkipLayerNormalization):
    """RMSNormalization of input + skip + bias; the fourth output is that sum."""

    op_type: ClassVar[str] = "SkipSimplifiedLayerNormalization"
    rms: ClassVar[bool] = True


class GroupNorm(Operator):
    """GroupNormalization of images whose channels are last, unless `channels_last` is 0; then SiLU where `activation` is 1."""

    op_type: ClassVar[str] = "GroupNorm"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        node = into.record
        last, silu = bool(node.attribute("channels_last", 1)), int(node.attributes["activation"])
        if silu not in (0, 1):
            raise ModelError("unknown activation", node=node.name, operator=node.op_type, expected=(0, 1), received=silu)
        x = into.add(AxesMoved(move="first"), into.input(0)) if last else into.input(0)
        parameters = [into.add(cast.CastLike(), into.input(i), into.input(0)) for i in (1, 2)]
        op = norm.GroupNormalization(int(node.attributes["groups"]), float(node.attribute("epsilon", 1e-5)))
        y = into.add(op, x, *parameters, outputs=() if silu or last else node.outputs)
        if silu:
            y = into.add(activation.Swish(), y, outputs=() if last else node.outputs)
        if last:
            into.add(AxesMoved(move="last"), y, outputs=node.outputs)
        return True


# ---------------------------------------------------------------- sampling, matrices


class GridSample(Operator):
    """ONNX's GridSample, before it was one (torch.onnx wrote it below opset 16)."""

    op_type: ClassVar[str] = "GridSample"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        as_in_16 = NodeRecord("GridSample", "", 16, node.attributes, node.inputs, node.outputs, node.name)
        return sample.GridSample.from_onnx(as_in_16)


@dataclass(frozen=True)
class CropAndResize(Operator):
    """Regions of images resized to one size, as TensorFlow's crop_and_resize; runs in NumPy.

    The corners (y1, x1, y2, x2) of a region are parts of height - 1 and width - 1 of its image; sampled are as many places at
    equal distances as the crop has pixels, the corners among them, or the middle where that is one. Places outside of the image
    are `extrapolation_value`.
    """

    op_type: ClassVar[str] = "CropAndResize"
    tolerance: ClassVar[str] = ROUNDING
    gives: ClassVar[Giving] = (Gives(rank=4),)
    mode: str = "bilinear"
    extrapolation_value: float = 0.0

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        mode = node.attribute("mode", "bilinear")
        if mode not in ("bilinear", "nearest"):
            raise ModelError(
                "unknown mode", node=node.name, operator=node.op_type, expected=("bilinear", "nearest"), received=mode
            )
        return cls(str(mode), float(node.attribute("extrapolation_value", 0.0)))

    def _size(self, value: Any) -> tuple[int, int]:
        size = integers(value, self.op_type, "crop_size")
        if len(size) != 2 or min(size) < 1:
            raise InputError("must be (height, width)", operator=self.op_type, tensor="crop_size", expected=">= 1", received=size)
        return size[0], size[1]

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, rois, images, size = (required(inputs, i, self.op_type) for i in range(4))
        if len(x.concrete) != 4 or 0 in x.concrete[2:]:
            raise ShapeError("needs images", operator=self.op_type, tensor="X", expected="(N, C, H, W)", received=x.shape)
        if len(images.concrete) != 1 or rois.concrete != (images.concrete[0], 4):
            raise ShapeError(
                "the inputs do not fit",
                operator=self.op_type,
                tensor="rois",
                expected="rois (R, 4) and batch_indices (R,)",
                received=(rois.shape, images.shape),
            )
        for tensor, spec, kinds in (("X", x, "f"), ("rois", rois, "f"), ("batch_indices", images, "iu")):
            if spec.dtype.kind not in kinds:
                raise InputError("has the wrong dtype", operator=self.op_type, tensor=tensor, received=spec.dtype)
        extents: tuple[int | None, int | None] = (None, None) if size.value is None else self._size(size.value)
        return [TensorSpec(x.dtype, (rois.concrete[0], x.concrete[1], *extents))]

    def _places(self, start: np.ndarray, end: np.ndarray, extent: int, count: int) -> np.ndarray:
        """(regions, count) places along an axis, in the regions' type as onnxruntime computes them."""
        kind = start.dtype.type
        if count == 1:
            return np.asarray((0.5 * (start + end).astype(np.float64) * (extent - 1)).astype(kind))[:, None]
        step = (end - start) * kind(extent - 1) / kind(count - 1)
        places = start[:, None] * kind(extent - 1) + np.arange(count, dtype=kind) * step[:, None]
        places[:, 0], places[:, -1] = start * kind(extent - 1), end * kind(extent - 1)
        return np.asarray(places)

    def reference(self, *inputs: Any) -> list[Any]:
        x, rois, images, size = inputs
        height, width = self._size(size)
        if images.size and (images.min() < 0 or images.max() >= x.shape[0]):
            raise InputError(
                "an image that the batch does not have",
                operator=self.op_type,
                tensor="batch_indices",
                expected=f"0..{x.shape[0] - 1}",
                received=int(images.min() if images.min() < 0 else images.max()),
            )
        corners = rois if rois.dtype == np.float64 else rois.astype(np.float32)
        y, known = np.zeros((len(rois), x.shape[1], height, width)), np.ones((len(rois), 1, height, width), bool)
        axes: list[list[tuple[np.ndarray, np.ndarray]]] = []
        for axis, count in ((0, height), (1, width)):
            extent = x.shape[2 + axis]
            with np.errstate(all="ignore"):
                places = self._places(corners[:, axis], corners[:, axis + 2], extent, count)
            inside = (places >= 0) & (places <= extent - 1)
            places = np.where(inside, places, 0).astype(np.float64)
            known &= inside[:, None, :, None] if axis == 0 else inside[:, None, None, :]
            if self.mode == "nearest":
                axes.append([(np.floor(places + 0.5).astype(np.int64), np.ones_like(places))])
            else:
                low = np.floor(places)
                part = places - low
                axes.append([(low.astype(np.int64), 1 - part), (np.ceil(places).astype(np.int64), part)])
        for rows, by_row in axes[0]:
            for columns, by_column in axes[1]:
                picked = x[images[:, None, None], :, rows[:, :, None], columns[:, None, :]].astype(np.float64)
                weight = by_row[:, None, :, None] * by_column[:, None, None, :]
                y += np.where(weight != 0, np.moveaxis(picked, -1, 1) * weight, 0)
        return [np.where(known, y, self.extrapolation_value).astype(x.dtype)]


@dataclass(frozen=True)
class Inverse(Operator):
    """The inverse of square matrices (the last two axes), NaN where there is none; runs in NumPy."""

    op_type: ClassVar[str] = "Inverse"
    gives: ClassVar[Giving] = SAME

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        if len(x.concrete) < 2 or x.concrete[-1] != x.concrete[-2]:
            raise ShapeError("needs square matrices", operator=self.op_type, tensor="X", expected="(..., M, M)", received=x.shape)
        if x.dtype.kind != "f":
            raise InputError("has the wrong dtype", operator=self.op_type, tensor="X", expected="float", received=x.dtype)
        return [TensorSpec(x.dtype, x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x: np.ndarray = inputs[0]
        matrices = x.astype(np.float64).reshape(-1, *x.shape[-2:])
        y = np.full(matrices.shape, np.nan)
        for i, matrix in enumerate(matrices):
            try:
                y[i] = np.linalg.inv(matrix)
            except np.linalg.LinAlgError:
                continue  # it has none
        return [y.reshape(x.shape).astype(x.dtype)]
