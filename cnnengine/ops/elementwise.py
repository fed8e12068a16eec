"""Operators between tensors of one broadcast shape: arithmetic, comparison, logic, selection, bits."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError
from ..operator import ANY_RANK, BROADCAST, EVERY, EXACT, SAME, Activation, Gives, Giving, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import FLOAT32, broadcast_shape, required
from .elements import check_kind, lower_activation, lower_binary, reference_activation

BOOL = np.dtype(np.bool_)
OF_BOOLS = (Gives(BOOL, EVERY),)
"""Bools of the rank to which all inputs broadcast."""


# ---------------------------------------------------------------- lowering


PAIRED = frozenset(
    np.dtype(t) for t in ("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
)
"""Element types of the kernel `pair`."""
PAIR_AXES = 9
"""Axes longer than 1 that it takes in any case."""


def lower_pair(ctx: Lowering, op: str, b_shape: tuple[int, ...] | None = None, divides: bool = False) -> bool:
    """The kernel call of ``a op b`` of any element type, plain.

    With `divides`, integers must be divided by a constant without zeros: a zero is an error, which the kernel cannot tell of.
    """
    a, b = ctx.inputs[:2]
    if a is None or b is None or a.dtype != b.dtype or a.dtype not in PAIRED:
        return False
    if sum(n != 1 for n in ctx.outputs[0].concrete) > PAIR_AXES:
        return False
    if divides and a.dtype.kind != "f":
        value = ctx.const(1)
        if value is None or not np.all(value):
            return False
    aligned = {} if b_shape in (None, b.concrete) else {"b_shape": b_shape}
    ctx.call("pair", [ctx.plain(0), ctx.plain(1)], [ctx.out_plain()], op=op, **aligned)
    return True


# ---------------------------------------------------------------- arithmetic


def _same_dtype(inputs: Sequence[TensorSpec | None], operator: str) -> np.dtype:
    first = required(inputs, 0, operator)
    for index in range(1, len(inputs)):
        other = required(inputs, index, operator)
        if other.dtype != first.dtype:
            raise InputError(
                "inputs of different types",
                operator=operator,
                tensor=f"input {index}",
                expected=first.dtype,
                received=other.dtype,
            )
    return first.dtype


def _old_axis(node: NodeRecord) -> int | None:
    """The axis of the broadcast of versions before 7; None where the shapes are simply equal or align at the end.

    Raises
    ------
    ModelError
        `axis` without `broadcast`.
    """
    if node.version >= 7:
        return None
    if not node.attribute("broadcast", 0):
        return None
    axis = node.attribute("axis")
    return None if axis is None else int(axis)


@dataclass(frozen=True)
class _Binary(Operator):
    """Two inputs that broadcast.

    Attributes
    ----------
    axis : int, optional
        Where the second input's first axis lies in the first input: the broadcast of versions before 7.
    """

    kinds: ClassVar[str] = "fiu"
    result: ClassVar[np.dtype | None] = None
    gives: ClassVar[Giving] = BROADCAST
    elements: ClassVar[Sequence[int]] = EVERY
    axis: int | None = None

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        if len(node.inputs) != 2 or not all(node.inputs):
            raise ModelError("takes two inputs", node=node.name, operator=node.op_type, received=node.inputs)
        return cls(axis=_old_axis(node), **cls._own_attributes(node))

    @classmethod
    def _own_attributes(cls, node: NodeRecord) -> dict[str, Any]:
        return {}

    def _aligned(self, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
        """The second input's shape for NumPy broadcasting."""
        if self.axis is None:
            return b
        start = self.axis + len(a) if self.axis < 0 else self.axis
        after = len(a) - start - len(b)
        if start < 0 or after < 0 or any(s not in (1, d) for s, d in zip(b, a[start:], strict=False)):
            raise ShapeError(
                "the second input does not fit the first at this axis",
                operator=self.op_type,
                tensor="B",
                expected=f"a part of {a} from axis {self.axis}",
                received=b,
            )
        return b + (1,) * after

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        if len(inputs) != 2:
            raise ModelError("takes two inputs", operator=self.op_type, received=len(inputs))
        a, b = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        self._check_dtypes(a, b)
        shape = broadcast_shape(a.concrete, self._aligned(a.concrete, b.concrete), self.op_type)
        return [TensorSpec(self.result or a.dtype, shape)]

    def _check_dtypes(self, a: TensorSpec, b: TensorSpec) -> None:
        _same_dtype((a, b), self.op_type)
        check_kind(a, self.kinds, self.op_type, "A")

    def compute(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The function of arrays that broadcast, in NumPy."""
        raise NotImplementedError

    def reference(self, *inputs: Any) -> list[Any]:
        a, b = (np.asarray(i) for i in inputs)
        with np.errstate(all="ignore"):
            y = np.asarray(self.compute(a, b.reshape(self._aligned(a.shape, b.shape))))
        return [y.astype(self.result or a.dtype, copy=False)]


@dataclass(frozen=True)
class _Arithmetic(_Binary):
    """Add, Sub, Mul, Div.

    Attributes
    ----------
    activation : Activation, optional
        Fused by a rewrite.
    """

    kernel_op: ClassVar[str] = ""
    light: ClassVar[int] = 2
    activation: Activation | None = None

    def reference(self, *inputs: Any) -> list[Any]:
        y = super().reference(*inputs)[0]
        return [y if self.activation is None else reference_activation(y, self.activation)]

    def lower(self, ctx: Lowering) -> bool:
        a, b = ctx.inputs[:2]
        assert a is not None and b is not None
        shape = self._aligned(a.concrete, b.concrete)
        if a.dtype != FLOAT32:
            return self.activation is None and lower_pair(ctx, self.kernel_op, shape, self.kernel_op == "div")
        return lower_binary(ctx, self.kernel_op, self.activation, shape)


@dataclass(frozen=True)
class Add(_Arithmetic):
    """``a + b`` (ONNX Add 1, 6, 7, 13, 14)."""

    op_type: ClassVar[str] = "Add"
    kernel_op: ClassVar[str] = "add"

    def compute(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a + b)


@dataclass(frozen=True)
class Sub(_Arithmetic):
    """``a - b`` (ONNX Sub 1, 6, 7, 13, 14)."""

    op_type: ClassVar[str] = "Sub"
    kernel_op: ClassVar[str] = "sub"

    def compute(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a - b)


@dataclass(frozen=True)
class Mul(_Arithmetic):
    """``a * b`` (ONNX Mul 1, 6, 7, 13, 14)."""

    op_type: ClassVar[str] = "Mul"
    kernel_op: ClassVar[str] = "mul"

    def compute(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a * b)


def _divide_integers(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Quotients toward zero, exact for the whole range; a divisor of zero is an error."""
    if np.any(b == 0):
        raise InputError("integer division by zero", operator="Div", tensor="B", expected="no zero", received=b.dtype)
    quotient = a // b
    if a.dtype.kind == "i":
        # floor and truncation differ where the signs differ and something remains
        quotient = quotient + ((quotient * b != a) & ((a < 0) != (b < 0)))
    return np.asarray(quotient, dtype=a.dtype)


@dataclass(frozen=True)
class Div(_Arithmetic):
    """``a / b``, of integers toward zero (ONNX Div 1, 6, 7, 13, 14)."""

    op_type: ClassVar[str] = "Div"
    kernel_op: ClassVar[str] = "div"

    def compute(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a / b) if a.dtype.kind == "f" else _divide_integers(a, b)


@dataclass(frozen=True)
class Pow(_Binary):
    """``a ** b`` in the type of a; b may have another (ONNX Pow 1, 7, 12, 13, 15)."""

    op_type: ClassVar[str] = "Pow"
    mixes: ClassVar[bool] = True
    elements: ClassVar[Sequence[int]] = (0,)

    def _check_dtypes(self, a: TensorSpec, b: TensorSpec) -> None:
        check_kind(a, "fi", "Pow", "X")
        check_kind(b, "fiu", "Pow", "Y")

    def compute(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.dtype.kind == "f":
            return np.asarray(np.power(a.astype(np.float64), b.astype(np.float64)))
        if b.dtype.kind == "f" or np.any(b < 0):
            # the exponent decides: computed as a float and cut off, as C does
            exact = np.power(a.astype(np.float64), b.astype(np.float64))
            return np.asarray(np.trunc(np.where(np.isfinite(exact), exact, 0.0)))
        return np.asarray(np.power(a, b.astype(a.dtype)))

    def as_activation(self, inputs: Sequence[TensorSpec | None]) -> Activation | None:
        x, exponent = inputs[0], inputs[1].value if len(inputs) > 1 and inputs[1] is not None else None
        if x is None or x.shape is None or exponent is None or exponent.size != 1 or exponent.ndim > len(x.shape):
            return None
        return self._power(np.asarray(exponent))

    def _power(self, exponent: np.ndarray) -> Activation:
        """The activation that it is with this exponent, one number."""
        power = float(exponent.reshape(-1)[0])
        simple = {1.0: Activation("affine", 1.0, 0.0), 2.0: Activation("square"), -1.0: Activation("reciprocal")}
        return simple.get(power, Activation("pow", power))

    def lower(self, ctx: Lowering) -> bool:
        a, b = ctx.inputs[:2]
        assert a is not None and b is not None
        if a.dtype != FLOAT32:
            return False
        exponent = ctx.const(1)
        if exponent is not None and exponent.size == 1 and a.concrete == ctx.outputs[0].concrete:
            return lower_activation(ctx, self._power(exponent))
        return lower_binary(ctx, "pow", None, self._aligned(a.concrete, b.concrete))


@dataclass(frozen=True)
class Mod(_Binary):
    """Remainder with the sign of the divisor, or with fmod that of the dividend (ONNX Mod 10, 13, 28).

    Attributes
    ----------
    fmod : int
        Floats without it are defined from version 28 on, and taken in the same way before.
    """

    op_type: ClassVar[str] = "Mod"
    tolerance: ClassVar[str] = EXACT
    fmod: int = 0

    @classmethod
    def _own_attributes(cls, node: NodeRecord) -> dict[str, Any]:
        return {"fmod": int(node.attribute("fmod", 0))}

    def compute(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.dtype.kind != "f" and np.any(b == 0):
            raise InputError("integer division by zero", operator="Mod", tensor="B", expected="no zero", received=b.dtype)
        return np.asarray(np.fmod(a, b) if self.fmod else np.mod(a, b))

    def lower(self, ctx: Lowering) -> bool:
        a, b = ctx.inputs[:2]
        assert a is not None and b is not None
        return lower_pair(ctx, "fmod" if self.fmod else "mod", self._aligned(a.concrete, b.concrete), divides=True)


@dataclass(frozen=True)
class _Variadic(Operator):
    """One or more inputs that broadcast to one shape."""

    kinds: ClassVar[str] = "f"
    kernel_op: ClassVar[str] = ""
    gives: ClassVar[Giving] = BROADCAST
    elements: ClassVar[Sequence[int]] = EVERY

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        if not node.inputs or not all(node.inputs):
            raise ModelError("takes one or more inputs", node=node.name, operator=node.op_type, received=node.inputs)
        return cls()

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        dtype = _same_dtype(inputs, self.op_type)
        check_kind(required(inputs, 0, self.op_type), self.kinds, self.op_type)
        shape: tuple[int, ...] = ()
        for index in range(len(inputs)):
            shape = broadcast_shape(shape, required(inputs, index, self.op_type).concrete, self.op_type)
        return [TensorSpec(dtype, shape)]

    def _finish(self, count: int) -> Activation | None:
        """What follows the last of `count` inputs."""
        return None

    def lower(self, ctx: Lowering) -> bool:
        specs = ctx.inputs
        finish = self._finish(len(specs))
        if len(specs) == 2 and finish is None and specs[0] is not None and specs[0].dtype != FLOAT32:
            return lower_pair(ctx, self.kernel_op)
        if any(s is None or s.dtype != FLOAT32 for s in specs):
            return False
        if len(specs) == 1:
            return lower_activation(ctx, finish or Activation("affine", 1.0, 0.0))
        if len(specs) == 2:
            return lower_binary(ctx, self.kernel_op, finish)
        # from left to right through plain buffers
        value, shape = ctx.plain(0), specs[0].concrete  # type: ignore[union-attr]
        for index in range(1, len(specs)):
            last = index == len(specs) - 1
            shape = broadcast_shape(shape, specs[index].concrete, self.op_type)  # type: ignore[union-attr]
            target = ctx.out_plain() if last else ctx.temp(shape)
            ctx.call("binary", [value, ctx.plain(index)], [target], op=self.kernel_op, activation=finish if last else None)
            value = target
        return True


@dataclass(frozen=True)
class Sum(_Variadic):
    """Sum of the inputs (ONNX Sum 1, 6, 8, 13)."""

    op_type: ClassVar[str] = "Sum"
    kernel_op: ClassVar[str] = "add"

    def reference(self, *inputs: Any) -> list[Any]:
        return [functools.reduce(np.add, [np.asarray(i) for i in inputs])]


@dataclass(frozen=True)
class Mean(_Variadic):
    """Mean of the inputs (ONNX Mean 1, 6, 8, 13)."""

    op_type: ClassVar[str] = "Mean"
    kernel_op: ClassVar[str] = "add"

    def _finish(self, count: int) -> Activation | None:
        return Activation("affine", 1.0 / count, 0.0)

    def reference(self, *inputs: Any) -> list[Any]:
        arrays = [np.asarray(i) for i in inputs]
        total = functools.reduce(np.add, [a.astype(np.float64) for a in arrays])
        return [np.asarray(total / len(arrays), dtype=arrays[0].dtype)]


@dataclass(frozen=True)
class Min(_Variadic):
    """The smallest of the inputs; NaN wins (ONNX Min 1, 6, 8, 12, 13)."""

    op_type: ClassVar[str] = "Min"
    tolerance: ClassVar[str] = EXACT
    kinds: ClassVar[str] = "fiu"
    kernel_op: ClassVar[str] = "min"
    light: ClassVar[int] = ANY_RANK

    def reference(self, *inputs: Any) -> list[Any]:
        return [functools.reduce(np.minimum, [np.asarray(i) for i in inputs])]


@dataclass(frozen=True)
class Max(_Variadic):
    """The largest of the inputs; NaN wins (ONNX Max 1, 6, 8, 12, 13)."""

    op_type: ClassVar[str] = "Max"
    tolerance: ClassVar[str] = EXACT
    kinds: ClassVar[str] = "fiu"
    kernel_op: ClassVar[str] = "max"
    light: ClassVar[int] = ANY_RANK

    def reference(self, *inputs: Any) -> list[Any]:
        return [functools.reduce(np.maximum, [np.asarray(i) for i in inputs])]


# ---------------------------------------------------------------- comparison, logic, selection


@dataclass(frozen=True)
class _Compare(_Binary):
    """A comparison: bool output."""

    tolerance: ClassVar[str] = EXACT
    result: ClassVar[np.dtype | None] = BOOL
    kernel_op: ClassVar[str] = ""
    function: ClassVar[Callable[..., Any]]
    gives: ClassVar[Giving] = OF_BOOLS
    element_outputs: ClassVar[Sequence[int]] = ()
    light: ClassVar[int] = ANY_RANK

    def compute(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        y: np.ndarray = type(self).function(a, b)
        return y

    def lower(self, ctx: Lowering) -> bool:
        a, b = ctx.inputs[:2]
        assert a is not None and b is not None
        shape = self._aligned(a.concrete, b.concrete)
        if a.dtype != FLOAT32 or b.dtype != FLOAT32 or shape != b.concrete:
            return lower_pair(ctx, self.kernel_op, shape)
        ctx.call("compare", [ctx.plain(0), ctx.plain(1)], [ctx.out_plain()], op=self.kernel_op)
        return True


@dataclass(frozen=True)
class Equal(_Compare):
    """``a == b`` (ONNX Equal 1, 7, 11, 13, 19)."""

    op_type: ClassVar[str] = "Equal"
    kinds: ClassVar[str] = "fiubOU"
    kernel_op: ClassVar[str] = "equal"
    function: ClassVar[Callable[..., Any]] = np.equal


@dataclass(frozen=True)
class Greater(_Compare):
    """``a > b`` (ONNX Greater 1, 7, 9, 13)."""

    op_type: ClassVar[str] = "Greater"
    kernel_op: ClassVar[str] = "greater"
    function: ClassVar[Callable[..., Any]] = np.greater


@dataclass(frozen=True)
class GreaterOrEqual(_Compare):
    """``a >= b`` (ONNX GreaterOrEqual 12, 16)."""

    op_type: ClassVar[str] = "GreaterOrEqual"
    kernel_op: ClassVar[str] = "greater_or_equal"
    function: ClassVar[Callable[..., Any]] = np.greater_equal


@dataclass(frozen=True)
class Less(_Compare):
    """``a < b`` (ONNX Less 1, 7, 9, 13)."""

    op_type: ClassVar[str] = "Less"
    kernel_op: ClassVar[str] = "less"
    function: ClassVar[Callable[..., Any]] = np.less


@dataclass(frozen=True)
class LessOrEqual(_Compare):
    """``a <= b`` (ONNX LessOrEqual 12, 16)."""

    op_type: ClassVar[str] = "LessOrEqual"
    kernel_op: ClassVar[str] = "less_or_equal"
    function: ClassVar[Callable[..., Any]] = np.less_equal


@dataclass(frozen=True)
class _Logic(_Binary):
    """Logic of bools, or of the bits of integers."""

    tolerance: ClassVar[str] = EXACT
    kinds: ClassVar[str] = "b"
    kernel_op: ClassVar[str] = ""
    function: ClassVar[Callable[..., Any]]

    def compute(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        y: np.ndarray = type(self).function(a, b)
        return y

    def lower(self, ctx: Lowering) -> bool:
        a, b = ctx.inputs[:2]
        assert a is not None and b is not None
        shape = self._aligned(a.concrete, b.concrete)
        if self.kinds != "b":
            return lower_pair(ctx, self.kernel_op, shape)
        if shape != b.concrete:
            return False
        ctx.call("logic", [ctx.plain(0), ctx.plain(1)], [ctx.out_plain()], op=self.kernel_op)
        return True


@dataclass(frozen=True)
class _Bools(_Logic):
    """Logic of bools."""

    gives: ClassVar[Giving] = OF_BOOLS
    element_outputs: ClassVar[Sequence[int]] = ()
    light: ClassVar[int] = ANY_RANK


@dataclass(frozen=True)
class And(_Bools):
    """Both (ONNX And 1, 7)."""

    op_type: ClassVar[str] = "And"
    kernel_op: ClassVar[str] = "and"
    function: ClassVar[Callable[..., Any]] = np.logical_and


@dataclass(frozen=True)
class Or(_Bools):
    """Either (ONNX Or 1, 7)."""

    op_type: ClassVar[str] = "Or"
    kernel_op: ClassVar[str] = "or"
    function: ClassVar[Callable[..., Any]] = np.logical_or


@dataclass(frozen=True)
class Xor(_Bools):
    """One of the two (ONNX Xor 1, 7)."""

    op_type: ClassVar[str] = "Xor"
    kernel_op: ClassVar[str] = "xor"
    function: ClassVar[Callable[..., Any]] = np.logical_xor


@dataclass(frozen=True)
class BitwiseAnd(_Logic):
    """Bits of both (ONNX BitwiseAnd 18)."""

    op_type: ClassVar[str] = "BitwiseAnd"
    kinds: ClassVar[str] = "iu"
    kernel_op: ClassVar[str] = "and"
    function: ClassVar[Callable[..., Any]] = np.bitwise_and


@dataclass(frozen=True)
class BitwiseOr(_Logic):
    """Bits of either (ONNX BitwiseOr 18)."""

    op_type: ClassVar[str] = "BitwiseOr"
    kinds: ClassVar[str] = "iu"
    kernel_op: ClassVar[str] = "or"
    function: ClassVar[Callable[..., Any]] = np.bitwise_or


@dataclass(frozen=True)
class BitwiseXor(_Logic):
    """Bits of one of the two (ONNX BitwiseXor 18)."""

    op_type: ClassVar[str] = "BitwiseXor"
    kinds: ClassVar[str] = "iu"
    kernel_op: ClassVar[str] = "xor"
    function: ClassVar[Callable[..., Any]] = np.bitwise_xor


@dataclass(frozen=True)
class BitShift(_Binary):
    """``a << b`` or ``a >> b``; a shift by less than 0 or by all bits leaves the sign alone (ONNX BitShift 11, 28).

    Attributes
    ----------
    direction : str
        "LEFT" or "RIGHT".
    """

    op_type: ClassVar[str] = "BitShift"
    tolerance: ClassVar[str] = EXACT
    kinds: ClassVar[str] = "iu"
    direction: str = "LEFT"

    @classmethod
    def _own_attributes(cls, node: NodeRecord) -> dict[str, Any]:
        direction = node.attribute("direction")
        if direction not in ("LEFT", "RIGHT"):
            raise ModelError(
                "an unknown direction", node=node.name, operator="BitShift", expected="'LEFT' or 'RIGHT'", received=direction
            )
        return {"direction": direction}

    def compute(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a, b = np.broadcast_arrays(a, b)
        inside = (b >= 0) & (b < a.dtype.itemsize * 8)
        by = np.where(inside, b, 0).astype(a.dtype)
        if self.direction == "RIGHT":
            return np.where(inside, np.right_shift(a, by), np.where(a < 0, -1, 0)).astype(a.dtype)
        bits = np.dtype(f"u{a.dtype.itemsize}")
        return np.where(inside, np.left_shift(a.astype(bits), by.astype(bits)), 0).astype(a.dtype)

    def lower(self, ctx: Lowering) -> bool:
        a, b = ctx.inputs[:2]
        assert a is not None and b is not None
        return lower_pair(ctx, self.direction.lower(), self._aligned(a.concrete, b.concrete))


@dataclass(frozen=True)
class _One(Operator):
    """A function of one element with a result by NumPy."""

    tolerance: ClassVar[str] = EXACT
    kinds: ClassVar[str] = "b"
    gives: ClassVar[Giving] = (Gives(BOOL),)
    elements: ClassVar[Sequence[int]] = EVERY
    element_outputs: ClassVar[Sequence[int]] = ()

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        if len(node.inputs) != 1 or not node.inputs[0]:
            raise ModelError("takes one input", node=node.name, operator=node.op_type, received=node.inputs)
        return super().from_onnx(node)

    def _result(self, dtype: np.dtype) -> np.dtype:
        return BOOL

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        check_kind(x, self.kinds, self.op_type)
        return [TensorSpec(self._result(x.dtype), x.shape)]


@dataclass(frozen=True)
class Not(_One):
    """Negation (ONNX Not 1)."""

    op_type: ClassVar[str] = "Not"
    light: ClassVar[int] = ANY_RANK

    def reference(self, *inputs: Any) -> list[Any]:
        return [np.asarray(np.logical_not(inputs[0]))]

    def lower(self, ctx: Lowering) -> bool:
        true = ctx.pack(("true",), lambda _: np.ones(1, np.bool_)).reshaped(())
        ctx.call("logic", [ctx.plain(0), true], [ctx.out_plain()], op="xor")
        return True


@dataclass(frozen=True)
class BitwiseNot(_One):
    """Every bit inverted (ONNX BitwiseNot 18)."""

    op_type: ClassVar[str] = "BitwiseNot"
    kinds: ClassVar[str] = "iu"
    gives: ClassVar[Giving] = SAME
    element_outputs: ClassVar[Sequence[int]] = EVERY

    def _result(self, dtype: np.dtype) -> np.dtype:
        return dtype

    def reference(self, *inputs: Any) -> list[Any]:
        return [np.asarray(np.bitwise_not(inputs[0]))]

    def lower(self, ctx: Lowering) -> bool:
        x = ctx.inputs[0]
        if x is None or x.dtype not in PAIRED or not math.prod(x.concrete):
            return False
        bits = ctx.pack(("all bits", str(x.dtype)), lambda _: np.invert(np.zeros(1, x.dtype))).reshaped(())
        ctx.call("pair", [ctx.plain(0), bits], [ctx.out_plain()], op="xor")
        return True


def _lower_test(ctx: Lowering, **which: bool) -> bool:
    x = ctx.inputs[0]
    if x is None or x.dtype not in (np.float32, np.float64, np.float16):
        return False
    ctx.call("float_test", [ctx.plain(0)], [ctx.out_plain()], **which)
    return True


@dataclass(frozen=True)
class IsNaN(_One):
    """Where x is NaN (ONNX IsNaN 9, 13, 20)."""

    op_type: ClassVar[str] = "IsNaN"
    kinds: ClassVar[str] = "f"

    def reference(self, *inputs: Any) -> list[Any]:
        return [np.asarray(np.isnan(inputs[0]))]

    def lower(self, ctx: Lowering) -> bool:
        return _lower_test(ctx, nan=True)


@dataclass(frozen=True)
class IsInf(_One):
    """Where x is infinite, of either or one sign (ONNX IsInf 10, 20)."""

    op_type: ClassVar[str] = "IsInf"
    kinds: ClassVar[str] = "f"
    detect_negative: int = 1
    detect_positive: int = 1

    def reference(self, *inputs: Any) -> list[Any]:
        x = np.asarray(inputs[0])
        return [np.asarray((np.isposinf(x) & bool(self.detect_positive)) | (np.isneginf(x) & bool(self.detect_negative)))]

    def lower(self, ctx: Lowering) -> bool:
        return _lower_test(ctx, positive=bool(self.detect_positive), negative=bool(self.detect_negative))


@dataclass(frozen=True)
class Where(Operator):
    """``condition ? a : b`` of three inputs that broadcast (ONNX Where 9, 16)."""

    op_type: ClassVar[str] = "Where"
    tolerance: ClassVar[str] = EXACT
    gives: ClassVar[Giving] = (Gives(1, EVERY),)
    elements: ClassVar[Sequence[int]] = (1, 2)
    moves: ClassVar[bool] = True
    light: ClassVar[int] = ANY_RANK

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        if len(node.inputs) != 3 or not all(node.inputs):
            raise ModelError("takes three inputs", node=node.name, operator="Where", received=node.inputs)
        return cls()

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        condition, a, b = (required(inputs, i, "Where") for i in range(3))
        check_kind(condition, "b", "Where", "condition")
        dtype = _same_dtype((a, b), "Where")
        shape = broadcast_shape(condition.concrete, broadcast_shape(a.concrete, b.concrete, "Where"), "Where")
        return [TensorSpec(dtype, shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        return [np.where(*inputs)]

    def lower(self, ctx: Lowering) -> bool:
        condition, a, b = ctx.inputs
        if condition is None or a is None or b is None or a.dtype != FLOAT32 or condition.dtype != BOOL:
            return False
        ctx.call("where", [ctx.plain(0), ctx.plain(1), ctx.plain(2)], [ctx.out_plain()])
        return True
