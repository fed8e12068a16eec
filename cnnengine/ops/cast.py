"""Operators that change the element type: Cast, CastLike."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import ModelError, UnsupportedOperatorError
from ..operator import ANY_RANK, EXACT, Lowering, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import (
    Specs,
    code_of,
    dtype_of,
    is_small,
    required,
)
from .copies import movable


def _parse(text: Any) -> float:
    word = str(text).strip()
    return float({"INF": "inf", "+INF": "inf", "-INF": "-inf"}.get(word.upper(), word))


SATURATING = frozenset(("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"))


def convert(x: np.ndarray, dtype: np.dtype, saturate: bool = True, round_mode: str = "up") -> np.ndarray:
    """`x` as Cast gives it: truncated towards zero, bool by "not zero", numbers from and to text.

    `saturate` says whether numbers beyond the range of an 8-bit float become its largest one; `round_mode` is that of
    float8e8m0: "up", "down" or "nearest".
    """
    if x.dtype == dtype:
        return x
    for given in (x.dtype, dtype):
        if code_of(given) is None:
            raise UnsupportedOperatorError(
                "this element type is not supported", operator="Cast", expected="a NumPy dtype", received=given
            )
    if dtype.kind == "O":
        flat = [str(v) for v in x.reshape(-1)]
        out = np.empty(len(flat), object)
        out[:] = flat
        return out.reshape(x.shape)
    if x.dtype.kind == "O":
        if dtype.kind in "iu":
            values = [int(str(v)) for v in x.reshape(-1)]
        else:
            values = [_parse(v) for v in x.reshape(-1)]  # type: ignore[misc]
        return np.array(values).astype(dtype).reshape(x.shape)
    if dtype.name == "float8_e8m0fnu":
        return _exponents(x.astype(np.float32), saturate, round_mode).view(dtype)
    if is_small(x.dtype) and dtype.kind in "iub":
        x = x.astype(np.float32)  # of which NumPy has all conversions
    if saturate and dtype.name in SATURATING:
        import ml_dtypes

        limits = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call,unused-ignore]
        wide = x.astype(np.float64)
        return np.clip(wide, float(limits.min), float(limits.max)).astype(np.float32).astype(dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # out of range is undefined in ONNX, NaN to integer too
        return x.astype(dtype)


def _exponents(x: np.ndarray, saturate: bool, round_mode: str) -> np.ndarray:
    """The bits of float8e8m0 of float32: the exponent, rounded by the significand; 255 is NaN. The sign is dropped."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    exponent, rest = bits >> 23 & 0xFF, bits & 0x7FFFFF
    if round_mode == "up":
        more = rest > 0
    elif round_mode == "nearest":  # a half goes to the even one, which ONNX takes any exponent but 0 to be
        more = (rest > 0x400000) | ((rest == 0x400000) & (exponent > 0))
    else:
        more = np.zeros(x.shape, bool)
    most = 0xFE if saturate else 0xFF
    return np.where(exponent == 0xFF, 0xFF, np.minimum(exponent + more, most)).astype(np.uint8)


CASTABLE = tuple(np.dtype(t) for t in ("float32", "float64", "int32", "int64", "int8", "uint8", "bool"))


HALVES = ("float16", "bfloat16")


def lower_cast(ctx: Lowering, dtype: np.dtype) -> bool:
    """The kernel `cast` for the common dtypes; the others are left to the host."""
    x = ctx.inputs[0]
    if x is None or not x.is_concrete:
        return False
    if x.dtype == dtype and movable(x):
        ctx.same()
        return True
    if x.dtype == dtype or not all(d in CASTABLE or d.name in HALVES for d in (x.dtype, dtype)):
        return False
    ctx.call("cast", (ctx.plain(0),), (ctx.out_plain(),))
    return True


def _round_mode(mode: Any, node: NodeRecord) -> str:
    if mode not in ("up", "down", "nearest"):
        raise ModelError(
            "an unknown round_mode", node=node.name, operator=node.op_type, expected="'up', 'down' or 'nearest'", received=mode
        )
    return str(mode)


@dataclass(frozen=True)
class Cast(Operator):
    """ONNX Cast (1 to 28) between all element types.

    Attributes
    ----------
    saturate : int
        For 8-bit floats: whether numbers out of range become the largest one (else NaN or infinite).
    round_mode : {"up", "down", "nearest"}
        For float8e8m0.
    """

    to: np.dtype
    saturate: int = 1
    round_mode: str = "up"

    op_type: ClassVar[str] = "Cast"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False
    light: ClassVar[int] = ANY_RANK

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Cast:
        to = node.attribute("to")
        if to is None:
            raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected="to")
        dtype = dtype_of(to, operator=node.op_type, node=node.name)
        return cls(dtype, int(node.attribute("saturate", 1)), _round_mode(node.attribute("round_mode", "up"), node))

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(self.to, required(inputs, 0, self.op_type).shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        return [convert(inputs[0], self.to, bool(self.saturate), self.round_mode)]

    def lower(self, ctx: Lowering) -> bool:
        return lower_cast(ctx, self.to)


@dataclass(frozen=True)
class CastLike(Operator):
    """ONNX CastLike (15 to 28): Cast to the second input's dtype."""

    saturate: int = 1
    round_mode: str = "up"

    op_type: ClassVar[str] = "CastLike"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> CastLike:
        return cls(int(node.attribute("saturate", 1)), _round_mode(node.attribute("round_mode", "up"), node))

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(required(inputs, 1, self.op_type).dtype, required(inputs, 0, self.op_type).shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        return [convert(inputs[0], inputs[1].dtype, bool(self.saturate), self.round_mode)]

    def lower(self, ctx: Lowering) -> bool:
        return ctx.inputs[1] is not None and lower_cast(ctx, ctx.inputs[1].dtype)
