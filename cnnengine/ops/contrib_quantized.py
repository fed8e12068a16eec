"""Quantised operators of the domain com.microsoft, by the operators of ONNX that they stand for.

Most are DequantizeLinear, an operator on floats and QuantizeLinear, and are written as those, so that what is done with files
that have them apart is done with these. Products are written as the products of integers that they are. Scales and zero points of
operands that are not weights are single numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError
from ..operator import Expansion, Gives, Giving, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from . import activation, cast, elementwise, integer_conv, integer_products, pieces, pool, quantized, recurrent, reduce
from .common import FLOAT32, Specs, required
from .contrib import Addend, AxesMoved
from .integer_conv import EIGHT_BITS
from .scales import OWN, Parameter, Quantity, Vetted, vet_quantities


def _plain(into: Expansion, op_type: str, version: int = 11, leave_out: tuple[str, ...] = ()) -> NodeRecord:
    """The attributes of the file's node as those of one of ONNX's operators of x and y."""
    node = into.record
    attributes = {k: v for k, v in node.attributes.items() if k not in leave_out}
    return NodeRecord(op_type, "", version, attributes, ("x",), ("y",), node.name)


def _floats(into: Expansion, x: int) -> str:
    """Input `x` as floats, by the scale and the zero point that follow it."""
    return into.add(quantized.DequantizeLinear(whole=True), *(into.input(x + i) for i in range(3)))


def _quantised(into: Expansion, y: str, scale: int, like: int = 0) -> None:
    """Let y be the node's result, quantised by input `scale` and the zero point after it; 0 of the type of input `like`."""
    zero = into.input(scale + 1)
    if not zero:
        zero = into.add(cast.CastLike(), into.constant(np.zeros((), np.int32)), into.input(like))
    into.add(quantized.QuantizeLinear(whole=True), y, into.input(scale), zero, outputs=into.record.outputs)


class QuantizeLinear(Operator):
    """ONNX's QuantizeLinear, of more types than it had then."""

    op_type: ClassVar[str] = "QuantizeLinear"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        return quantized.QuantizeLinear.from_onnx(node)


class DequantizeLinear(Operator):
    """ONNX's DequantizeLinear, of more types than it had then."""

    op_type: ClassVar[str] = "DequantizeLinear"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        return quantized.DequantizeLinear.from_onnx(node)


# ---------------------------------------------------------------- functions of elements


class _OfOne(Operator):
    """A function of x; inputs are x, its scale and zero point, and those of the result."""

    @classmethod
    def function(cls, into: Expansion) -> Operator:
        """The operator on floats."""
        raise NotImplementedError

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        last = bool(into.record.attribute("channels_last", 0))
        op = cls.function(into)
        x = _floats(into, 0)
        y = into.add(op, into.add(AxesMoved(move="first"), x) if last else x)
        _quantised(into, into.add(AxesMoved(move="last"), y) if last else y, 3)
        return True


class QLinearSigmoid(_OfOne):
    """Sigmoid."""

    op_type: ClassVar[str] = "QLinearSigmoid"

    @classmethod
    def function(cls, into: Expansion) -> Operator:
        return activation.Sigmoid()


class QLinearLeakyRelu(_OfOne):
    """LeakyRelu."""

    op_type: ClassVar[str] = "QLinearLeakyRelu"

    @classmethod
    def function(cls, into: Expansion) -> Operator:
        return activation.LeakyRelu(float(into.record.attribute("alpha", 0.01)))


class QLinearSoftmax(_OfOne):
    """Softmax as ONNX has it in the opset that the attribute `opset` names; `axis` is the last one where it is not given."""

    op_type: ClassVar[str] = "QLinearSoftmax"

    @classmethod
    def function(cls, into: Expansion) -> Operator:
        node = into.record
        opset = int(node.attributes["opset"])
        if opset < 1:
            raise ModelError("there is no such opset", node=node.name, operator=node.op_type, expected=">= 1", received=opset)
        attributes = {"axis": int(node.attribute("axis", -1))}
        version = 13 if opset >= 13 else 11
        return reduce.Softmax.from_onnx(NodeRecord("Softmax", "", version, attributes, ("x",), ("y",), node.name))


class QLinearReduceMean(_OfOne):
    """ReduceMean."""

    op_type: ClassVar[str] = "QLinearReduceMean"

    @classmethod
    def function(cls, into: Expansion) -> Operator:
        return reduce.ReduceMean.from_onnx(_plain(into, "ReduceMean"))


class QLinearAveragePool(_OfOne):
    """AveragePool; the channels are last where `channels_last` is 1."""

    op_type: ClassVar[str] = "QLinearAveragePool"

    @classmethod
    def function(cls, into: Expansion) -> Operator:
        return pool.AveragePool.from_onnx(_plain(into, "AveragePool", leave_out=("channels_last",)))


class QLinearGlobalAveragePool(_OfOne):
    """GlobalAveragePool; the channels are last where `channels_last` is 1."""

    op_type: ClassVar[str] = "QLinearGlobalAveragePool"

    @classmethod
    def function(cls, into: Expansion) -> Operator:
        return pool.GlobalAveragePool()


class _OfTwo(Operator):
    """A function of A and B; inputs are both of them, each with scale and zero point, and those of the result."""

    function: ClassVar[Callable[[], Operator]]

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        y = into.add(cls.function(), _floats(into, 0), _floats(into, 3))
        _quantised(into, y, 6)
        return True


class QLinearAdd(_OfTwo):
    """Add."""

    op_type: ClassVar[str] = "QLinearAdd"
    function: ClassVar[Callable[[], Operator]] = elementwise.Add


class QLinearMul(_OfTwo):
    """Mul."""

    op_type: ClassVar[str] = "QLinearMul"
    function: ClassVar[Callable[[], Operator]] = elementwise.Mul


class QLinearWhere(Operator):
    """Where; inputs are the condition, both values with scale and zero point, and those of the result."""

    op_type: ClassVar[str] = "QLinearWhere"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        y = into.add(elementwise.Where(), into.input(0), _floats(into, 1), _floats(into, 4))
        _quantised(into, y, 7)
        return True


class QLinearConcat(Operator):
    """Concat; inputs are scale and zero point of the result, then each tensor with its own."""

    op_type: ClassVar[str] = "QLinearConcat"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        node = into.record
        count = len(node.inputs) - 2
        if count < 3 or count % 3 or not all(node.inputs):
            raise ModelError(
                "needs tensors with a scale and a zero point each",
                node=node.name,
                operator=node.op_type,
                expected="2 inputs, and 3 for each tensor",
                received=node.inputs,
            )
        y = into.add(pieces.Concat(int(node.attributes["axis"])), *(_floats(into, 2 + 3 * i) for i in range(count // 3)))
        into.add(quantized.QuantizeLinear(whole=True), y, *node.inputs[:2], outputs=node.outputs)
        return True


# ---------------------------------------------------------------- convolutions and products


class QLinearConv(Operator):
    """ONNX's QLinearConv; the channels of x and y are last where `channels_last` is 1, the weights are as Conv has them."""

    op_type: ClassVar[str] = "QLinearConv"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        node = into.record
        last = bool(node.attribute("channels_last", 0))
        attributes = {k: v for k, v in node.attributes.items() if k != "channels_last"}
        plain = NodeRecord("QLinearConv", "", 10, attributes, node.inputs, node.outputs, node.name)
        op = integer_conv.QLinearConv.from_onnx(plain)
        if not last:
            into.add(op, *node.inputs, outputs=node.outputs)
            return True
        y = into.add(op, into.add(AxesMoved(move="first"), node.inputs[0]), *node.inputs[1:])
        into.add(AxesMoved(move="last"), y, outputs=node.outputs)
        return True


class QGemm(Operator):
    """See `integer_products.QGemm`."""

    op_type: ClassVar[str] = "QGemm"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        return integer_products.QGemm.from_onnx(node)


@dataclass(frozen=True)
class Factor(elementwise.Mul):
    """Mul by numbers that must not widen the product: one, or one for each of its columns."""

    operator: str = "Mul"
    tensor: str = "b_scale"

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, y = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        if x.is_concrete and y.is_concrete:
            Parameter(self.operator, self.tensor).sized(y.concrete, x.concrete[-1] if x.concrete else None, "column")
        return super().infer(inputs)


@dataclass(frozen=True)
class Scales(Vetted, elementwise.Mul):
    """The product of the scales of two matrices, the first one's a single number."""

    operator: str = "Mul"

    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("a", None, 0, None),
        Quantity("b", None, 1, None, OWN),
    )

    def vet(self, inputs: Specs, names: Sequence[str] = ()) -> None:
        vet_quantities(self.quantities, inputs, self.operator, names)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        self.vet(inputs)
        return super().infer(inputs)

    def reference(self, *inputs: Any) -> list[Any]:
        self.vet_values(inputs)
        return super().reference(*inputs)


@dataclass(frozen=True)
class WideScale(Vetted, cast.Cast):
    """A scale in float32."""

    to: np.dtype = FLOAT32
    operator: str = "Cast"
    tensor: str = "scale"

    def vet(self, inputs: Specs, names: Sequence[str] = ()) -> None:
        vet_quantities((Quantity("", None, 0, None, OWN, called=(self.tensor, "")),), inputs, self.operator, names)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        self.vet(inputs)
        return super().infer(inputs)

    def reference(self, *inputs: Any) -> list[Any]:
        self.vet_values(inputs)
        return super().reference(*inputs)


def _scaled(into: Expansion, sums: str, a_scale: str, b_scale: str, bias: str, like: str = "") -> None:
    """Let int32 sums, times both scales, plus the bias, be the node's result; of the type of `like`."""
    node = into.record
    if like:  # sums and scales in float32, which holds more of them than float16
        a_scale = into.add(WideScale(operator=node.op_type, tensor="a_scale"), a_scale)
        b_scale = into.add(WideScale(operator=node.op_type, tensor="b_scale"), b_scale)
        bias = into.add(cast.Cast(FLOAT32), bias) if bias else ""
    ratio = into.add(Scales(operator=node.op_type), a_scale, b_scale)
    final = () if bias or like else node.outputs
    y = into.add(Factor(operator=node.op_type), into.add(cast.Cast(FLOAT32), sums), ratio, outputs=final)
    if bias:
        y = into.add(Addend(), y, bias, outputs=() if like else node.outputs)
    if like:
        into.add(cast.CastLike(), y, like, outputs=node.outputs)


class MatMulIntegerToFloat(Operator):
    """MatMulInteger, times both scales, plus a bias; inputs are A, B, a_scale, b_scale, a_zero_point, b_zero_point, bias."""

    op_type: ClassVar[str] = "MatMulIntegerToFloat"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        sums = into.add(integer_products.MatMulInteger(), *(into.input(i) for i in (0, 1, 4, 5)))
        _scaled(into, sums, into.input(2), into.input(3), into.input(6), like=into.input(2))
        return True


class DynamicQuantizeMatMul(Operator):
    """A quantised by DynamicQuantizeLinear times B, in float32; inputs are A, B, b_scale, b_zero_point, bias."""

    op_type: ClassVar[str] = "DynamicQuantizeMatMul"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        a, scale, zero = (into.fresh(stem) for stem in ("quantized", "scale", "zero_point"))
        into.add(quantized.DynamicQuantizeLinear(), into.input(0), outputs=(a, scale, zero))
        sums = into.add(integer_products.MatMulInteger(), a, into.input(1), zero, into.input(3))
        _scaled(into, sums, scale, into.input(2), into.input(4))
        return True


# ---------------------------------------------------------------- recurrent layers


@dataclass(frozen=True)
class RecurrentWeights(Operator):
    """Weights (directions, gates * hidden, inputs) in float32 out of quantised ones with the last two axes the other way around.

    Inputs are these, their scale and their zero point: one number for each direction, or for each of its gates' units.
    No operator of a file.

    Attributes
    ----------
    operator, tensor : str
        Whose weights they are, for messages.
    """

    operator: str = ""
    tensor: str = ""

    op_type: ClassVar[str] = "RecurrentWeights"
    domain: ClassVar[str] = "cnnengine"
    widens: ClassVar[bool] = False
    gives: ClassVar[Giving] = (Gives(FLOAT32, rank=3),)

    def vet(self, inputs: Specs, names: Sequence[str] = ()) -> None:
        w = inputs[0]
        quantity = Quantity(self.tensor, 0, 1, 2, OWN)
        vet_quantities((quantity,), inputs, self.operator, names)
        if w is None or not w.is_concrete or len(w.concrete) != 3:
            return
        directions, _, units = w.concrete
        for parameter, _ in quantity.parameters(self.operator, names):
            spec = inputs[parameter.place]
            if spec is not None and spec.is_concrete and spec.concrete not in ((directions,), (directions, units)):
                text = "must be one number per direction, or one per direction and unit"
                raise parameter.wrong(ShapeError, text, ((directions,), (directions, units)), spec.shape)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        w, scale, zero = (required(inputs, i, self.operator) for i in range(3))
        if len(w.concrete) != 3 or w.dtype not in EIGHT_BITS:
            raise InputError(
                "has the wrong dtype or rank",
                operator=self.operator,
                tensor=self.tensor,
                expected="(directions, inputs, gates * hidden) of uint8 or int8",
                received=f"{w.shape} of {w.dtype}",
            )
        self.vet((w, scale, zero))
        directions, size, units = w.concrete
        return [TensorSpec(FLOAT32, (directions, units, size))]

    def reference(self, *inputs: Any) -> list[Any]:
        self.vet([TensorSpec.of(np.asarray(v)) for v in inputs])
        w, scale, zero = inputs
        wide = w.astype(np.float32) - zero.astype(np.float32).reshape(len(w), 1, -1)
        wide *= scale.astype(np.float32).reshape(len(w), 1, -1)
        return [np.ascontiguousarray(wide.swapaxes(1, 2))]


class DynamicQuantizeLSTM(Operator):
    """LSTM whose weights are quantised; X and the states are not.

    onnxruntime quantises X and the state of each step too, by scales that depend on what else is in the batch: that saves time
    there, and is no part of what the operator is for.
    """

    op_type: ClassVar[str] = "DynamicQuantizeLSTM"

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        node = into.record
        plain = NodeRecord("LSTM", "", 14, node.attributes, node.inputs[:8], node.outputs, node.name)
        op = recurrent.LSTM.from_onnx(plain)
        weights = [
            into.add(RecurrentWeights(node.op_type, name), *(into.input(i) for i in places))
            for name, places in (("W", (1, 8, 9)), ("R", (2, 10, 11)))
        ]
        into.add(op, node.inputs[0], *weights, *node.inputs[3:8], outputs=node.outputs)
        return True
