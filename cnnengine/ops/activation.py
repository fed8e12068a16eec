"""Functions of one element: Relu and its kin, exponentials, rounding, trigonometry.

A class names the kernel activation that it is (`kernel_activation`); its reference computes in float64 and rounds once.
Swish (with alpha 1: SiLU), Gelu and HardSwish are what passes put in place of subgraphs; Affine, in the domain "cnnengine",
is ``alpha * x + beta`` for them too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError, UnsupportedOperatorError
from ..operator import ANY_RANK, BROADCAST, EVERY, EXACT, READ_PLAIN, SAME, Activation, Giving, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import FLOAT32, broadcast_shape, required, scalar, spec_at
from .elements import check_kind, lower_activation, lower_binary, number_of, reference_activation

# ---------------------------------------------------------------- operators


@dataclass(frozen=True)
class _Unary(Operator):
    """A function of one element: y has the shape and dtype of x."""

    kinds: ClassVar[str] = "f"
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = EVERY
    elementwise: ClassVar[bool] = True

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        if len(node.inputs) != 1 or not node.inputs[0]:
            raise ModelError("takes one input", node=node.name, operator=node.op_type, received=f"{len(node.inputs)} inputs")
        return super().from_onnx(node)

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        check_kind(x, self.kinds, self.op_type)
        return [TensorSpec(x.dtype, x.shape)]

    def kernel_activation(self) -> Activation | None:
        """The activation that this operator is; None where kernels have none."""
        return None

    def as_activation(self, inputs: Sequence[TensorSpec | None]) -> Activation | None:
        return self.kernel_activation()

    def reference(self, *inputs: Any) -> list[Any]:
        activation = self.kernel_activation()
        assert activation is not None
        return [reference_activation(np.asarray(inputs[0]), activation)]

    def lower(self, ctx: Lowering) -> bool:
        activation = self.kernel_activation()
        return activation is not None and lower_activation(ctx, activation)


@dataclass(frozen=True)
class Relu(_Unary):
    """``max(x, 0)`` (ONNX Relu 1, 6, 13, 14)."""

    op_type: ClassVar[str] = "Relu"
    tolerance: ClassVar[str] = EXACT
    kinds: ClassVar[str] = "fi"

    def kernel_activation(self) -> Activation:
        return Activation("clip", 0.0, math.inf)

    def reference(self, *inputs: Any) -> list[Any]:
        x = np.asarray(inputs[0])
        return [np.maximum(x, x.dtype.type(0))]


@dataclass(frozen=True)
class LeakyRelu(_Unary):
    """``x``, below zero ``alpha * x`` (ONNX LeakyRelu 1, 6, 16)."""

    op_type: ClassVar[str] = "LeakyRelu"
    alpha: float = 0.01

    def kernel_activation(self) -> Activation:
        return Activation("leaky_relu", self.alpha)


@dataclass(frozen=True)
class ThresholdedRelu(_Unary):
    """``x`` above alpha, else 0 (ONNX ThresholdedRelu 10, 22; 1 in the files of older exporters)."""

    op_type: ClassVar[str] = "ThresholdedRelu"
    alpha: float = 1.0

    def kernel_activation(self) -> Activation:
        return Activation("thresholded_relu", self.alpha)


@dataclass(frozen=True)
class Elu(_Unary):
    """``x``, below zero ``alpha * (exp(x) - 1)`` (ONNX Elu 1, 6, 22; arXiv:1511.07289)."""

    op_type: ClassVar[str] = "Elu"
    alpha: float = 1.0

    def kernel_activation(self) -> Activation:
        return Activation("elu", self.alpha)


@dataclass(frozen=True)
class Selu(_Unary):
    """``gamma`` times Elu (ONNX Selu 1, 6, 22; arXiv:1706.02515)."""

    op_type: ClassVar[str] = "Selu"
    alpha: float = 1.67326319217681884765625
    gamma: float = 1.05070102214813232421875

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        base = super().from_onnx(node)
        if node.version < 6:
            # the first version wrote its defaults with four decimals
            return cls(float(node.attribute("alpha", 1.6732)), float(node.attribute("gamma", 1.0507)))
        return base

    def kernel_activation(self) -> Activation:
        return Activation("selu", self.alpha, self.gamma)


@dataclass(frozen=True)
class Celu(_Unary):
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))`` (ONNX Celu 12; arXiv:1704.07483)."""

    op_type: ClassVar[str] = "Celu"
    alpha: float = 1.0

    def kernel_activation(self) -> Activation:
        return Activation("celu", self.alpha)

    def as_activation(self, inputs: Sequence[TensorSpec | None]) -> Activation | None:
        return self.kernel_activation() if self.alpha > 0 else None

    def lower(self, ctx: Lowering) -> bool:
        # the kernel's form holds for a positive alpha
        return self.alpha > 0 and super().lower(ctx)


@dataclass(frozen=True)
class Gelu(_Unary):
    """``0.5 * x * (1 + erf(x / sqrt(2)))``, or its approximation by tanh (ONNX Gelu 20; arXiv:1606.08415)."""

    op_type: ClassVar[str] = "Gelu"
    approximate: str = "none"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        if node.attribute("approximate", "none") not in ("none", "tanh"):
            raise UnsupportedOperatorError(
                "unknown approximation",
                node=node.name,
                operator="Gelu",
                expected="'none' or 'tanh'",
                received=node.attribute("approximate"),
            )
        return super().from_onnx(node)

    def kernel_activation(self) -> Activation:
        return Activation("gelu_tanh" if self.approximate == "tanh" else "gelu")


@dataclass(frozen=True)
class Swish(_Unary):
    """``x * sigmoid(alpha * x)`` (ONNX Swish 24; with alpha 1: SiLU, arXiv:1606.08415)."""

    op_type: ClassVar[str] = "Swish"
    alpha: float = 1.0

    def kernel_activation(self) -> Activation:
        if self.alpha == 0.0:
            return Activation("affine", 0.5, 0.0)
        return Activation("silu") if self.alpha == 1.0 else Activation("swish", self.alpha)


@dataclass(frozen=True)
class Affine(_Unary):
    """``alpha * x + beta``, of the domain "cnnengine": for passes, and the experimental Affine 1 of old files."""

    op_type: ClassVar[str] = "Affine"
    domain: ClassVar[str] = "cnnengine"
    alpha: float = 1.0
    beta: float = 0.0

    def kernel_activation(self) -> Activation:
        return Activation("affine", self.alpha, self.beta)


@dataclass(frozen=True)
class HardSigmoid(_Unary):
    """``max(0, min(1, alpha * x + beta))`` (ONNX HardSigmoid 1, 6, 22)."""

    op_type: ClassVar[str] = "HardSigmoid"
    alpha: float = 0.2
    beta: float = 0.5

    def kernel_activation(self) -> Activation:
        return Activation("hard_sigmoid", self.alpha, self.beta)


@dataclass(frozen=True)
class Shrink(_Unary):
    """``x + bias`` below ``-lambd``, ``x - bias`` above ``lambd``, else 0 (ONNX Shrink 9)."""

    op_type: ClassVar[str] = "Shrink"
    kinds: ClassVar[str] = "fiu"
    lambd: float = 0.5
    bias: float = 0.0

    def kernel_activation(self) -> Activation:
        return Activation("shrink", self.lambd, self.bias)


@dataclass(frozen=True)
class Clip(Operator):
    """``min(max(x, low), high)`` (ONNX Clip 1, 6: bounds as attributes; 11, 12, 13: as inputs, either may be absent).

    Attributes
    ----------
    min, max : float, optional
        Bounds that are part of the operator; inputs 1 and 2 are used where these are None.
    """

    op_type: ClassVar[str] = "Clip"
    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = SAME
    elements: ClassVar[Sequence[int]] = EVERY
    elementwise: ClassVar[bool] = True
    settings: ClassVar[bool] = True
    min: float | None = None
    max: float | None = None

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        if not 1 <= len(node.inputs) <= (3 if node.version >= 11 else 1) or not node.inputs[0]:
            raise ModelError("takes x and at most two bounds", node=node.name, operator="Clip", received=node.inputs)
        if node.version >= 11:
            return cls()
        low, high = node.attribute("min"), node.attribute("max")
        return cls(None if low is None else float(low), None if high is None else float(high))

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x = required(inputs, 0, "Clip")
        check_kind(x, "fiu", "Clip")
        for index, name in ((1, "min"), (2, "max")):
            bound = spec_at(inputs, index)
            if bound is None:
                continue
            if math.prod(bound.concrete) != 1:
                raise ShapeError("a bound must be a scalar", operator="Clip", tensor=name, expected="()", received=bound.shape)
            if bound.dtype != x.dtype:
                raise InputError("a bound of another type", operator="Clip", tensor=name, expected=x.dtype, received=bound.dtype)
        return [TensorSpec(x.dtype, x.shape)]

    def as_activation(self, inputs: Sequence[TensorSpec | None]) -> Activation | None:
        bounds = []
        for index, own, default in ((1, self.min, -math.inf), (2, self.max, math.inf)):
            given = spec_at(inputs, index)
            if own is None and given is not None:
                own = number_of(given, 1)
                if own is None:
                    return None
            bounds.append(default if own is None else own)
        # of bounds that cross Clip gives the upper one, which fused kernels do not promise; NaN is none
        return Activation("clip", *bounds) if bounds[0] <= bounds[1] else None

    def reference(self, *inputs: Any) -> list[Any]:
        y = np.asarray(inputs[0])
        for index, own, function in ((1, self.min, np.maximum), (2, self.max, np.minimum)):
            bound = inputs[index] if index < len(inputs) and own is None else own
            if bound is not None:
                y = function(y, np.asarray(bound).reshape(()).astype(y.dtype))
        return [np.array(y, copy=True)]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or x.dtype != FLOAT32:
            return False
        bounds: list[float | None] = []
        for index, own, default in ((1, self.min, -math.inf), (2, self.max, math.inf)):
            if own is not None or spec_at(ctx.inputs, index) is None:
                bounds.append(default if own is None else own)
            else:
                value = ctx.const(index)
                bounds.append(None if value is None else float(scalar(value, "Clip", "bound")))
        if any(b is not None and math.isnan(b) for b in bounds):
            return False
        low, high = bounds
        if low is not None and high is not None:
            return lower_activation(ctx, Activation("clip", low, high))
        # bounds that are computed: one pass for each
        middle = ctx.temp(x.concrete)
        source = ctx.plain(0)
        for index, op, bound, target in ((1, "max", low, middle), (2, "min", high, ctx.out_plain())):
            if bound is None:
                ctx.call("binary", [source, ctx.plain(index)], [target], op=op)
            else:
                limits = (bound, math.inf) if op == "max" else (-math.inf, bound)
                ctx.call("activation", [source], [target], activation=Activation("clip", *limits))
            source = target
        return True


@dataclass(frozen=True)
class PRelu(Operator):
    """``x``, below zero ``slope * x`` (ONNX PRelu 1, 6: one slope or one per channel; 7, 9, 16: broadcast to x).

    Attributes
    ----------
    by_channel : bool
        The slope is (C,) for axis 1, as before version 7.
    expands : bool
        The slope may widen x, as a product does that a rewrite took for a PRelu.
    """

    op_type: ClassVar[str] = "PRelu"
    gives: ClassVar[Giving] = BROADCAST
    elements: ClassVar[Sequence[int]] = EVERY
    reads: ClassVar[str] = READ_PLAIN
    by_channel: bool = False
    expands: bool = False

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        if len(node.inputs) != 2 or not all(node.inputs):
            raise ModelError("takes x and a slope", node=node.name, operator="PRelu", received=node.inputs)
        return cls(node.version < 7)

    def _slope_shape(self, x: tuple[int, ...], slope: tuple[int, ...]) -> tuple[int, ...]:
        """The slope's shape for broadcasting."""
        if self.by_channel and math.prod(slope) != 1 and len(x) > 1:
            return (math.prod(slope),) + (1,) * (len(x) - 2)
        return slope

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x, slope = required(inputs, 0, "PRelu"), required(inputs, 1, "PRelu")
        check_kind(x, "fiu", "PRelu")
        if slope.dtype != x.dtype:
            raise InputError("a slope of another type", operator="PRelu", tensor="slope", expected=x.dtype, received=slope.dtype)
        shape = self._slope_shape(x.concrete, slope.concrete)
        if self.expands:
            return [TensorSpec(x.dtype, broadcast_shape(x.concrete, shape, "PRelu"))]
        fits = len(shape) <= len(x.concrete) and all(
            s in (1, d) for s, d in zip(reversed(shape), reversed(x.concrete), strict=False)
        )
        if not fits:
            raise ShapeError(
                "the slope does not broadcast to x", operator="PRelu", tensor="slope", expected=x.shape, received=slope.shape
            )
        return [TensorSpec(x.dtype, x.shape)]

    def as_activation(self, inputs: Sequence[TensorSpec | None]) -> Activation | None:
        x, given = spec_at(inputs, 0), spec_at(inputs, 1)
        if x is None or given is None:
            return None
        # a slope of more axes than x would widen it; of an unknown rank it is taken at its word
        slope = number_of(given, len(x.shape) if x.shape is not None else 0 if self.expands else ANY_RANK)
        return None if slope is None else Activation("leaky_relu", slope)

    def reference(self, *inputs: Any) -> list[Any]:
        x, slope = (np.asarray(i) for i in inputs)
        slope = slope.reshape(self._slope_shape(x.shape, slope.shape))
        with np.errstate(all="ignore"):
            return [np.where(x < 0, x * slope, x)]

    def lower(self, ctx: Lowering) -> bool:
        x, slope = ctx.inputs
        assert x is not None and slope is not None
        if x.dtype != FLOAT32:
            return False
        return lower_binary(ctx, "prelu", None, self._slope_shape(x.concrete, slope.concrete))


def _simple(name: str, kind: str, text: str, kinds: str = "f", tolerance: str | None = None) -> type[_Unary]:
    """The class of an operator without attributes, which is the kernel activation `kind`."""

    def kernel_activation(self: _Unary) -> Activation:
        return Activation(kind)

    body: dict[str, Any] = {
        "__doc__": text,
        "__module__": __name__,
        "op_type": name,
        "kinds": kinds,
        "kernel_activation": kernel_activation,
    }
    if tolerance is not None:
        body["tolerance"] = tolerance
    return dataclass(frozen=True)(type(name, (_Unary,), body))


Sigmoid = _simple("Sigmoid", "sigmoid", "``1 / (1 + exp(-x))`` (ONNX Sigmoid 1, 6, 13).")
Tanh = _simple("Tanh", "tanh", "Hyperbolic tangent (ONNX Tanh 1, 6, 13).")
HardSwish = _simple("HardSwish", "hard_swish", "``x * max(0, min(1, x / 6 + 0.5))`` (ONNX HardSwish 14, 22).")
Mish = _simple("Mish", "mish", "``x * tanh(softplus(x))`` (ONNX Mish 18, 22; arXiv:1908.08681).")
Softplus = _simple("Softplus", "softplus", "``log(1 + exp(x))`` (ONNX Softplus 1, 22).")
Softsign = _simple("Softsign", "softsign", "``x / (1 + |x|)`` (ONNX Softsign 1, 22).")
Exp = _simple("Exp", "exp", "e to the power x (ONNX Exp 1, 6, 13).")
Log = _simple("Log", "log", "Natural logarithm (ONNX Log 1, 6, 13).")
Sqrt = _simple("Sqrt", "sqrt", "Square root, NaN below zero (ONNX Sqrt 1, 6, 13).")
Reciprocal = _simple("Reciprocal", "reciprocal", "``1 / x`` (ONNX Reciprocal 1, 6, 13).")
Floor = _simple("Floor", "floor", "The largest integer that is not larger (ONNX Floor 1, 6, 13).", tolerance=EXACT)
Ceil = _simple("Ceil", "ceil", "The smallest integer that is not smaller (ONNX Ceil 1, 6, 13).", tolerance=EXACT)
Round = _simple("Round", "round", "The nearest integer, halves to even (ONNX Round 11, 22).", tolerance=EXACT)
_Erf = _simple("Erf", "erf", "Gauss error function (ONNX Erf 9, 13).", kinds="fiu")


class Erf(_Erf):  # type: ignore[misc, valid-type]
    __doc__ = _Erf.__doc__

    def reference(self, *inputs: Any) -> list[Any]:
        x = np.asarray(inputs[0])
        return [reference_activation(x, Activation("erf"))]


class _Exact(_Unary):
    """A function that NumPy has for every dtype."""

    function: ClassVar[Callable[..., Any]]
    tolerance: ClassVar[str] = EXACT

    def reference(self, *inputs: Any) -> list[Any]:
        x = np.asarray(inputs[0])
        with np.errstate(all="ignore"):
            return [np.asarray(type(self).function(x), dtype=x.dtype)]


@dataclass(frozen=True)
class Abs(_Exact):
    """Absolute value (ONNX Abs 1, 6, 13)."""

    op_type: ClassVar[str] = "Abs"
    kinds: ClassVar[str] = "fiu"
    function: ClassVar[Callable[..., Any]] = np.abs
    light: ClassVar[int] = ANY_RANK

    def kernel_activation(self) -> Activation:
        return Activation("abs")


@dataclass(frozen=True)
class Neg(_Exact):
    """``-x`` (ONNX Neg 1, 6, 13)."""

    op_type: ClassVar[str] = "Neg"
    kinds: ClassVar[str] = "fi"
    function: ClassVar[Callable[..., Any]] = np.negative
    light: ClassVar[int] = ANY_RANK

    def kernel_activation(self) -> Activation:
        return Activation("neg")


@dataclass(frozen=True)
class Sign(_Exact):
    """-1, 0 or 1; NaN stays NaN (ONNX Sign 9, 13)."""

    op_type: ClassVar[str] = "Sign"
    kinds: ClassVar[str] = "fiu"
    function: ClassVar[Callable[..., Any]] = np.sign

    def kernel_activation(self) -> Activation:
        return Activation("sign")


Sin = _simple("Sin", "sin", "Sine (ONNX Sin 7, 22).")
Cos = _simple("Cos", "cos", "Cosine (ONNX Cos 7, 22).")
Tan = _simple("Tan", "tan", "Tangent (ONNX Tan 7, 22).")
Asin = _simple("Asin", "asin", "Inverse sine (ONNX Asin 7, 22).")
Acos = _simple("Acos", "acos", "Inverse cosine (ONNX Acos 7, 22).")
Atan = _simple("Atan", "atan", "Inverse tangent (ONNX Atan 7, 22).")
Sinh = _simple("Sinh", "sinh", "Hyperbolic sine (ONNX Sinh 9, 22).")
Cosh = _simple("Cosh", "cosh", "Hyperbolic cosine (ONNX Cosh 9, 22).")
Asinh = _simple("Asinh", "asinh", "Inverse hyperbolic sine (ONNX Asinh 9, 22).")
Acosh = _simple("Acosh", "acosh", "Inverse hyperbolic cosine (ONNX Acosh 9, 22).")
Atanh = _simple("Atanh", "atanh", "Inverse hyperbolic tangent (ONNX Atanh 9, 22).")
