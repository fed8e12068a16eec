"""Dense layers and products of matrices: Gemm and MatMul, by constant weights (packed once) or of two run-time operands."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import numpy as np

from .._kernels.pack import pack_bias
from ..errors import InputError, ModelError, ShapeError
from ..operator import EVERY, READ_PACKED, Activation, Extents, Gives, Giving, Lowering, NodeRecord, Operand, Operator
from ..packing import Empty, HalfPanels, Panels
from ..records import dataclass
from ..spec import UNKNOWN, TensorSpec
from ..weights import Computed, Half
from .common import spec_at
from .copies import copy
from .elements import activate

FLOAT32 = np.dtype(np.float32)
FEW_ROWS = 3
"""Rows up to which a dense layer that is called once reads its weights as they are: packing them takes longer.

Packed weights are one stream, and read a third faster from memory than rows that lie as they are, for one row already."""


@dataclass(frozen=True)
class Gemm(Operator):
    """ONNX Gemm (versions 1, 6, 7, 9, 11, 13): ``alpha * A' @ B' + beta * C``, C broadcast one way.

    Attributes
    ----------
    alpha, beta : float
    transA, transB : int
    activation : Activation, optional
        Fused by a rewrite.
    """

    alpha: float = 1.0
    beta: float = 1.0
    transA: int = 0
    transB: int = 0
    activation: Activation | None = None

    op_type: ClassVar[str] = "Gemm"
    gives: ClassVar[Giving] = (Gives(rank=2),)
    elements: ClassVar[Sequence[int]] = EVERY
    reads: ClassVar[str] = READ_PACKED

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        if len(node.inputs) < 2 or not node.inputs[0] or not node.inputs[1]:
            raise ModelError("needs A and B", node=node.name, operator=cls.op_type, received=node.inputs)
        return super().from_onnx(node)

    def linear_channels(self, w: tuple[int, ...]) -> tuple[int, int] | None:
        return w[0 if self.transB else 1], 2

    def over_weights(self, vector: np.ndarray, w: tuple[int, ...]) -> np.ndarray:
        return vector[:, None] if self.transB else vector

    def _product_shape(self, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, int]:
        if len(a) != 2 or len(b) != 2:
            raise ShapeError("A and B must be matrices", operator=self.op_type, expected="two axes each", received=f"{a} and {b}")
        m, k = a[::-1] if self.transA else a
        k2, n = b[::-1] if self.transB else b
        if k != k2:
            raise ShapeError("A and B do not fit", operator=self.op_type, tensor="B", expected=f"inner extent {k}", received=k2)
        return m, n

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        a, b = inputs[0], inputs[1]
        c = inputs[2] if len(inputs) > 2 else None
        assert a is not None and b is not None
        shape = self._product_shape(a.concrete, b.concrete)
        if c is not None:
            try:
                fits = np.broadcast_shapes(c.concrete, shape) == shape
            except ValueError:
                fits = False
            if not fits:
                raise ShapeError(
                    "C does not broadcast to the product", operator=self.op_type, tensor="C", expected=shape, received=c.concrete
                )
        for name, spec in (("B", b), ("C", c)):
            if spec is not None and spec.dtype != a.dtype:
                raise InputError("has the wrong dtype", operator=self.op_type, tensor=name, expected=a.dtype, received=spec.dtype)
        return [TensorSpec(a.dtype, shape)]

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        if not inputs or inputs[0] is None or outputs[0] is None:
            return None
        return math.prod(outputs[0]) * inputs[0][0 if self.transA else -1]

    def reference(self, *inputs: Any) -> list[Any]:
        a, b = inputs[0], inputs[1]
        c = inputs[2] if len(inputs) > 2 else None
        wide = np.float64 if a.dtype.kind == "f" else a.dtype
        y = (a.T if self.transA else a).astype(wide) @ (b.T if self.transB else b).astype(wide)
        if self.alpha != 1:
            y = y * self.alpha
        if c is not None:
            y = y + (c.astype(wide) if self.beta == 1 else c.astype(wide) * self.beta)
        return [activate(y.astype(a.dtype), self.activation)]

    def lower(self, ctx: Lowering) -> bool:
        a, b = ctx.inputs[:2]
        assert a is not None and b is not None
        if a.dtype != FLOAT32:
            return False
        if ctx.const(1) is None or self.transA or not self._bias_is_known(ctx):
            self._lower_general(ctx)
        else:
            self._lower_dense(ctx)
        return True

    def _bias_is_known(self, ctx: Lowering) -> bool:
        """Whether C is absent or a constant that is the same for every row."""
        if len(ctx.inputs) < 3 or ctx.inputs[2] is None:
            return True
        c = ctx.const(2)
        return c is not None and c.size in (1, ctx.outputs[0].concrete[1]) and c.shape[:-1] == (1,) * (c.ndim - 1)

    def _lower_dense(self, ctx: Lowering) -> None:
        b, c = ctx.const(1), ctx.const(2)
        assert b is not None
        n = b.shape[0] if self.transB else b.shape[1]

        def bias(empty: Empty) -> np.ndarray:
            values = None
            if c is not None:
                values = np.broadcast_to(c.reshape(-1), (n,)) * (1 if self.beta == 1 else np.float32(self.beta))
            packed: np.ndarray = pack_bias(values, n, empty)
            return packed

        names = (ctx.name(1), ctx.name(2) if c is not None else "")
        rows = ctx.outputs[0].concrete[0]
        plain_bias = c is None or (c.shape == (n,) and self.beta == 1)
        if not ctx.keeps and self.transB and self.alpha == 1 and plain_bias and rows <= FEW_ROWS:
            ctx.call(
                "dense_rows",
                [ctx.plain(0), ctx.plain(1), None if c is None else ctx.plain(2)],
                [ctx.out_plain()],
                activation=self.activation,
            )
            return
        add_dense(
            ctx,
            b,
            [ctx.pack(("dense bias", *names, self.beta), bias), None],
            ("dense", *names, self.alpha, self.transB),
            transposed=not self.transB,
            factor=self.alpha,
            activation=self.activation,
        )

    def _lower_general(self, ctx: Lowering) -> None:
        """The product of what is only known at run time, and C added behind it."""
        a = ctx.inputs[0]
        assert a is not None
        left = ctx.plain(0)
        if self.transA:
            k, m = a.concrete
            left = ctx.temp((m, k))
            copy(ctx, ctx.plain(0), left, (m, k), (1, m), (k, 1))
        c = ctx.inputs[2] if len(ctx.inputs) > 2 else None
        product = ctx.out_plain() if c is None else ctx.temp(ctx.outputs[0].concrete)
        last = self.activation if c is None else None
        ctx.call("matmul", [left, ctx.plain(1)], [product], transposed=bool(self.transB), scale=self.alpha, activation=last)
        if c is not None:
            addend = ctx.plain(2)
            if self.beta != 1:
                scaled = ctx.temp(c.concrete)
                ctx.call("activation", [addend], [scaled], activation=Activation("affine", self.beta, 0.0))
                addend = scaled
            ctx.call("binary", [product, addend], [ctx.out_plain()], op="add", activation=self.activation)


def add_dense(
    ctx: Lowering,
    weights: np.ndarray | Computed,
    addends: list[Operand | None],
    key: tuple[Hashable, ...],
    *,
    transposed: bool,
    factor: float = 1.0,
    activation: Activation | None = None,
) -> None:
    """The kernel call of a dense layer by these weights; what numbers of half the size hold is kept in them.

    Parameters
    ----------
    ctx : Lowering
    weights : ndarray or Computed
        (O, K), or where `transposed` (K, O).
    addends : list of Operand or None
        The packed bias and the residual.
    key : tuple
        Of the packed weights.
    transposed : bool
    factor : float
        Multiplies the weights.
    activation : Activation, optional
    """
    kernel, params = "dense", dict[str, str]()
    if isinstance(weights, Half) and factor == 1:
        packed = ctx.pack((*key, weights.kind), HalfPanels(weights, ctx.lanes, transposed=transposed))
        kernel, params = "dense_half", {"kind": weights.kind}
    else:
        packed = ctx.pack(key, Panels(weights, ctx.lanes, transposed=transposed, factor=factor))
    ctx.call(kernel, [ctx.plain(0), packed, *addends], [ctx.out_plain()], activation=activation, **params)


def product_of(a: TensorSpec | None, b: TensorSpec | None, like: TensorSpec | None) -> TensorSpec:
    """What is known of the product of matrices a and b, of the dtype of `like`."""
    dtype = UNKNOWN if like is None else like.dtype
    if a is None or b is None or a.shape is None or b.shape is None:
        return TensorSpec(dtype, None)
    m, n = len(a.shape), len(b.shape)
    return TensorSpec(dtype, (None,) * max(m - (n < 2), n - (m < 2), 0))


@dataclass(frozen=True)
class MatMul(Operator):
    """ONNX MatMul (versions 1, 9, 13): NumPy's matmul.

    Attributes
    ----------
    activation : Activation, optional
        Fused by a rewrite.
    """

    activation: Activation | None = None

    op_type: ClassVar[str] = "MatMul"
    elements: ClassVar[Sequence[int]] = EVERY

    def outline(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        return [product_of(spec_at(inputs, 0), spec_at(inputs, 1), spec_at(inputs, 0))]

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        if len(node.inputs) != 2 or not node.inputs[0] or not node.inputs[1]:
            raise ModelError("needs A and B", node=node.name, operator=cls.op_type, received=node.inputs)
        return cls()

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        a, b = inputs[0], inputs[1]
        assert a is not None and b is not None
        sa, sb = a.concrete, b.concrete
        if not sa or not sb:
            raise ShapeError(
                "scalars cannot be multiplied", operator=self.op_type, expected="one axis or more", received=f"{sa} and {sb}"
            )
        left = sa if len(sa) > 1 else (1, *sa)
        right = sb if len(sb) > 1 else (*sb, 1)
        if left[-1] != right[-2]:
            raise ShapeError(
                "A and B do not fit", operator=self.op_type, tensor="B", expected=f"inner extent {left[-1]}", received=sb
            )
        try:
            batch = np.broadcast_shapes(left[:-2], right[:-2])
        except ValueError:
            raise ShapeError("A and B do not broadcast", operator=self.op_type, tensor="B", expected=sa, received=sb) from None
        shape = (*batch, *(left[-2:-1] if len(sa) > 1 else ()), *(right[-1:] if len(sb) > 1 else ()))
        if a.dtype != b.dtype:
            raise InputError("has the wrong dtype", operator=self.op_type, tensor="B", expected=a.dtype, received=b.dtype)
        return [TensorSpec(a.dtype, shape)]

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        if not inputs or inputs[0] is None or outputs[0] is None:
            return None
        return math.prod(outputs[0]) * inputs[0][-1]

    def reference(self, *inputs: Any) -> list[Any]:
        return [activate(product(*inputs).astype(inputs[0].dtype), self.activation)]

    def lower(self, ctx: Lowering) -> bool:
        a, b = ctx.inputs[0], ctx.const(1)
        assert a is not None
        if b is not None and b.ndim == 2 and len(a.concrete) >= 2:
            return lower_dense(ctx, self.activation)
        return lower_product(ctx, self.activation)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """NumPy's matmul, floats in float64 and not yet rounded."""
    wide = np.dtype(np.float64) if a.dtype.kind == "f" else a.dtype
    y: np.ndarray = np.matmul(a.astype(wide), b.astype(wide))
    return y


def lower_product(ctx: Lowering, activation: Activation | None, *, scale: float = 1.0, transposed: bool = False) -> bool:
    """The kernel call of a product of what is known only while running; False unless float32."""
    a = ctx.inputs[0]
    assert a is not None
    if a.dtype != FLOAT32:
        return False
    operands = [ctx.plain(0), ctx.plain(1)]
    ctx.call("matmul", operands, [ctx.out_plain()], transposed=transposed, scale=scale, activation=activation)
    return True


def lower_dense(ctx: Lowering, activation: Activation | None, residual: int | None = None) -> bool:
    """The kernel call of a product by a constant matrix, and what is added to it: input 2, a constant bias, and the residual.

    False unless float32, and where the bias is not known.
    """
    a, b, bias = ctx.inputs[0], ctx.const(1), ctx.const(2)
    assert a is not None
    if a.dtype != FLOAT32 or b is None or (bias is None and len(ctx.inputs) > 2 and ctx.inputs[2] is not None):
        return False
    n = b.shape[1]
    name, bias_name = ctx.name(1), "" if bias is None else ctx.name(2)
    packed_bias = ctx.pack(("dense bias", name, bias_name, 1.0), lambda empty: pack_bias(bias, n, empty))
    addend = None if residual is None else ctx.plain(residual)
    add_dense(ctx, b, [packed_bias, addend], ("dense", name, "", 1.0, 0), transposed=True, activation=activation)
    return True
