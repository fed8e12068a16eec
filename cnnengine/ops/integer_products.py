"""Products of matrices of 8-bit integers: sums are exact, in 32 bits where they are the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError
from ..operator import EXACT, Extents, NodeRecord
from ..records import dataclass
from ..spec import UNKNOWN, TensorSpec
from .common import FLOAT32, Specs, required, spec_at
from .dense import MatMul, product_of
from .integer_conv import EIGHT_BITS, requantized
from .scales import OWN, Parameter, Quantity, Vetted

INT32 = np.dtype(np.int32)


def _product_shape(a: TensorSpec, b: TensorSpec, operator: str) -> tuple[int, ...]:
    for name, spec in (("A", a), ("B", b)):
        if spec.dtype not in EIGHT_BITS:
            raise InputError("has the wrong dtype", operator=operator, tensor=name, expected="uint8 or int8", received=spec.dtype)
    wide = np.dtype(np.float64)
    return MatMul().infer([TensorSpec(wide, a.shape), TensorSpec(wide, b.shape)])[0].concrete


class _Rows(Vetted):
    """Products whose parameters may be a number for each row of the left matrix or of the result, or column of the right one.

    A scalar; (M,) or (..., M, 1) for rows; (N,) or (..., 1, N) for columns.

    Class attributes
    ----------------
    by_row, by_column : tuple of int
        Places of operands that have parameters per row or per column.
    """

    by_row: ClassVar[tuple[int, ...]] = ()
    by_column: ClassVar[tuple[int, ...]] = ()

    def vet(self, inputs: Specs, names: Sequence[str] = ()) -> None:
        super().vet(inputs, names)
        for quantity in self.quantities:
            data = None if quantity.data is None else spec_at(inputs, quantity.data)
            if data is None or not data.is_concrete:
                continue
            for parameter, _ in quantity.parameters(self.op_type, names):
                spec = spec_at(inputs, parameter.place)
                if spec is not None and spec.is_concrete:
                    _aligned(spec.concrete, data.concrete, quantity.data in self.by_row, parameter)


def _aligned(shape: tuple[int, ...], matrix: tuple[int, ...], rows: bool, parameter: Parameter) -> tuple[int, ...]:
    """The shape by which numbers per row, or per column, broadcast over a matrix; raises ShapeError where they do not fit."""
    if int(np.prod(shape, dtype=object)) == 1 and len(shape) <= max(len(matrix), 1):
        return ()
    full = (*shape, 1) if rows and len(shape) == 1 else shape
    still = -1 if rows else -2
    fits = 2 <= len(matrix) >= len(full) and (len(full) < -still or full[still] == 1)
    if fits:
        ones = (1,) * (len(matrix) - len(full))
        fits = all(n in (1, m) for n, m in zip((*ones, *full), matrix, strict=True))
    if not fits:
        what = ("row", (matrix[-2:-1])) if rows else ("column", matrix[-1:])
        raise parameter.wrong(ShapeError, f"must be a scalar or one number per {what[0]}", what[1], shape)
    return full


def _numbers(value: Any, matrix: np.ndarray, rows: bool, operator: str, role: str, dtype: type = np.float64) -> np.ndarray:
    """A parameter so that it broadcasts over the matrix that it belongs to."""
    array = np.asarray(value)
    return array.reshape(_aligned(array.shape, matrix.shape, rows, Parameter(operator, role))).astype(dtype)


@dataclass(frozen=True)
class MatMulInteger(_Rows):
    """ONNX MatMulInteger (10): the product of 8-bit matrices less their zero points, in int32, which wraps around."""

    op_type: ClassVar[str] = "MatMulInteger"
    tolerance: ClassVar[str] = EXACT
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("A", 0, None, 2, OWN, called=("", "a_zero_point")),
        Quantity("B", 1, None, 3, OWN, called=("", "b_zero_point")),
    )
    by_row: ClassVar[tuple[int, ...]] = (0,)

    def outline(self, inputs: Specs) -> list[TensorSpec]:
        return [product_of(spec_at(inputs, 0), spec_at(inputs, 1), TensorSpec(INT32, ()))]

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        return MatMul().multiply_adds(inputs[:2], outputs)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        a, b = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        shape = _product_shape(a, b, self.op_type)
        self.vet(inputs)
        return [TensorSpec(INT32, shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        self.vet_values(inputs)
        a, b, a_zero, b_zero = (*inputs, None, None)[:4]
        left, right = a.astype(np.float64), b.astype(np.float64)
        if a_zero is not None:
            left -= _numbers(a_zero, a, True, self.op_type, "a_zero_point")
        if b_zero is not None:
            right -= _numbers(b_zero, b, False, self.op_type, "b_zero_point")
        return [np.asarray(left @ right).astype(np.int64).astype(np.int32)]


@dataclass(frozen=True)
class QLinearMatMul(_Rows):
    """ONNX QLinearMatMul (10, 21): the product of quantised matrices, quantised again.

    The sums are exact; scaled in float32, rounded half to even, moved by the zero point and clamped to the output's range.
    """

    op_type: ClassVar[str] = "QLinearMatMul"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("a", 0, 1, 2, OWN),
        Quantity("b", 3, 4, 5, OWN),
        Quantity("y", None, 6, 7, OWN, types=EIGHT_BITS),
    )
    by_row: ClassVar[tuple[int, ...]] = (0,)

    def outline(self, inputs: Specs) -> list[TensorSpec]:
        return [product_of(spec_at(inputs, 0), spec_at(inputs, 3), spec_at(inputs, 7))]

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        return MatMul().multiply_adds((inputs[0], inputs[3]) if inputs else (), outputs)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        a, b, zero = (required(inputs, i, self.op_type) for i in (0, 3, 7))
        shape = _product_shape(a, b, self.op_type)
        self.vet(inputs)
        for index, role in ((6, "y_scale"), (7, "y_zero_point")):
            spec = spec_at(inputs, index)
            if spec is not None:
                _aligned(spec.concrete, shape, True, Parameter(self.op_type, role))
        return [TensorSpec(zero.dtype, shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        self.vet_values(inputs)
        a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs
        left = a.astype(np.float64) - _numbers(a_zero, a, True, self.op_type, "a_zero_point")
        right = b.astype(np.float64) - _numbers(b_zero, b, False, self.op_type, "b_zero_point")
        sums = np.asarray(left @ right)
        rows = _numbers(a_scale, a, True, self.op_type, "a_scale", np.float32)
        columns = _numbers(b_scale, b, False, self.op_type, "b_scale", np.float32)
        results = _numbers(y_scale, sums, True, self.op_type, "y_scale", np.float32)
        with np.errstate(over="ignore", under="ignore"):
            ratio = rows * columns / results
        return [requantized(sums, ratio, _numbers(y_zero, sums, True, self.op_type, "y_zero_point"), y_zero.dtype)]


@dataclass(frozen=True)
class QGemm(Vetted):
    """com.microsoft.QGemm: ``alpha * (A' B' + C)`` of quantised matrices, quantised again, or float32 where there is no y_scale.

    Inputs are A, a_scale, a_zero_point, B, b_scale, b_zero_point, C, y_scale, y_zero_point. Scale and zero point of B may be one
    number per column; C is int32, told in steps of a_scale * b_scale. The sums are exact; scaled in float32.

    Attributes
    ----------
    alpha : float
    trans_a, trans_b : bool
        Whether A and B are transposed.
    """

    alpha: float = 1.0
    trans_a: bool = False
    trans_b: bool = False

    op_type: ClassVar[str] = "QGemm"
    domain: ClassVar[str] = "com.microsoft"

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> QGemm:
        given = [bool(name) for name in (*node.inputs, *[""] * 9)[7:9]]
        if given[0] != given[1]:
            raise ModelError(
                "needs both y_scale and y_zero_point, or neither", node=node.name, operator=node.op_type, received=node.inputs
            )
        flags = (bool(node.attribute(name, 0)) for name in ("transA", "transB"))
        return cls(float(node.attribute("alpha", 1.0)), *flags)

    @property
    def quantities(self) -> tuple[Quantity, ...]:  # type: ignore[override]
        return (
            Quantity("a", 0, 1, 2),
            Quantity("b", 3, 4, 5, 0 if self.trans_b else 1, "column"),
            Quantity("y", None, 7, 8, types=EIGHT_BITS),
        )

    def _matrices(self, inputs: Specs) -> list[TensorSpec]:
        found = []
        for index, name, turned in ((0, "A", self.trans_a), (3, "B", self.trans_b)):
            spec = required(inputs, index, self.op_type)
            if len(spec.concrete) != 2:
                raise ShapeError("needs a matrix", operator=self.op_type, tensor=name, expected="two axes", received=spec.shape)
            found.append(TensorSpec(spec.dtype, spec.concrete[::-1] if turned else spec.shape))
        return found

    def outline(self, inputs: Specs) -> list[TensorSpec]:
        zero = spec_at(inputs, 8) if inputs else TensorSpec(UNKNOWN, ())
        return [TensorSpec(FLOAT32 if zero is None else zero.dtype, (None, None))]

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        a, b = (inputs[0], inputs[3]) if len(inputs) > 3 else (None, None)
        if a is None or b is None:
            return None
        return a[0] * a[1] * b[0 if self.trans_b else 1]

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        a, b = self._matrices(inputs)
        shape = _product_shape(a, b, self.op_type)
        self.vet(inputs)
        c, zero = spec_at(inputs, 6), spec_at(inputs, 8)
        if c is not None:
            if c.dtype != INT32:
                raise InputError("has the wrong dtype", operator=self.op_type, tensor="C", expected="int32", received=c.dtype)
            full = (*(1,) * (2 - len(c.concrete)), *c.concrete)
            if len(full) != 2 or any(n not in (1, m) for n, m in zip(full, shape, strict=True)):
                raise ShapeError("does not fit the product", operator=self.op_type, tensor="C", expected=shape, received=c.shape)
        return [TensorSpec(FLOAT32 if zero is None else zero.dtype, shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        self.vet_values(inputs)
        a, a_scale, a_zero, b, b_scale, b_zero, c, y_scale, y_zero = (*inputs, None, None, None)[:9]
        turned = np.asarray(b.T if self.trans_b else b)
        sums = (a.T if self.trans_a else a).astype(np.float64) - np.asarray(a_zero).reshape(())
        sums = sums @ (turned.astype(np.float64) - np.asarray(b_zero).reshape(-1))
        if c is not None:
            sums = sums + c
        ratio = np.float32(self.alpha) * np.asarray(a_scale, np.float32).reshape(()) * np.asarray(b_scale, np.float32).reshape(-1)
        if y_zero is None:
            return [sums.astype(np.float32) * ratio]
        with np.errstate(over="ignore", under="ignore"):
            ratio = ratio / np.asarray(y_scale, np.float32).reshape(())
        return [requantized(sums, ratio, np.asarray(y_zero, np.float64).reshape(()), y_zero.dtype)]
