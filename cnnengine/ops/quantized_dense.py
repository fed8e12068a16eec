"""QuantizedDense: a product of matrices of integers, with what comes before and after its sums.

Rewrites make it of QLinearMatMul, MatMulInteger, QGemm, and of a MatMul or Gemm between DequantizeLinear and QuantizeLinear.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from .._kernels.qdense import pack_columns, pack_qdense, pack_qdense_bias, pack_qdense_part, packed_sizes
from ..errors import InputError
from ..operator import Activation, Extents, Lowering, Operand, Operator
from ..packing import PART, Empty, InParts, Jobs, Panels, Scratch
from ..records import dataclass
from ..spec import TensorSpec
from .common import FLOAT32, Specs, required, spec_at
from .dense import MatMul
from .elements import activate

UINT8, INT8, INT32 = (np.dtype(t) for t in (np.uint8, np.int8, np.int32))
X, W, W_ZERO, RATIO, BIAS, OFFSET, TABLE, X_SCALE, X_ZERO, W_SCALE = range(10)
"""Inputs; those from the third on may be absent."""

MOST = (1 << 31) - 1
BYTES, FLOATS, SUMS = "bytes", "floats", "sums"
"""`QuantizedDense.gives_what`: results quantised again, as floats, or the sums in int32."""


class OfColumns(InParts):
    """Makes what follows from the sums of the columns of weights (K, N), of large ones in parts, as `BytePanels`.

    Parameters
    ----------
    weights : ndarray of int8 or uint8
    finish : callable
        Makes the constant, flat, of the sums (int64), in memory by its second argument; its size depends on N alone.
    """

    def __init__(self, weights: np.ndarray, finish: Callable[[np.ndarray, Empty], np.ndarray]) -> None:
        self.weights, self.finish = weights, finish

    def __call__(self, empty: Empty) -> np.ndarray:
        return self.finish(self.weights.sum(axis=0, dtype=np.int64), empty)

    def parts(self, lanes: int, empty: Empty) -> tuple[np.ndarray, Jobs] | None:
        w = self.weights
        if w.nbytes <= PART:
            return None
        totals, lock = np.zeros(w.shape[1], np.int64), threading.Lock()
        made = self.finish(totals, empty)
        by_rows = w.strides[0] >= w.strides[1]
        step = max(PART // w.shape[1 if by_rows else 0], 1)
        starts = range(0, w.shape[0 if by_rows else 1], step)
        left = len(starts)

        def add(start: int) -> int:
            nonlocal left
            part = slice(start, start + step)
            read = w[part] if by_rows else w[:, part]
            found = read.sum(axis=0, dtype=np.int64)
            with lock:
                totals[slice(None) if by_rows else part] += found
                left -= 1
                if not left:
                    made[...] = self.finish(totals, Scratch().floats)
            return read.size

        return made, [lambda _, start=start: add(start) for start in starts]  # type: ignore[misc]


class BytePanels(Panels):
    """Packs weights (K, N) of bytes, large ones in parts: the rows, or columns, that lie side by side in the file."""

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__(weights, 1)

    def __call__(self, empty: Empty) -> np.ndarray:
        packed: np.ndarray = pack_qdense(self.weights, empty)
        return packed

    def parts(self, lanes: int, empty: Empty) -> tuple[np.ndarray, Jobs] | None:
        w, (k, n) = np.asarray(self.weights), self.weights.shape
        if w.nbytes <= PART:
            return None
        made = empty(packed_sizes(k, n)[0] // 4).view(np.int8)
        panel = packed_sizes(0, 1)[1]
        by_rows = w.strides[0] >= w.strides[1]
        # whole words of K, whole panels of N
        step = max(PART // n // 4, 1) * 4 if by_rows else max(PART // k // panel, 1) * panel

        def fill(start: int) -> int:
            part = w[start : start + step] if by_rows else w[:, start : start + step]
            pack_qdense_part(part, start if by_rows else 0, 0 if by_rows else start, k, made)
            return part.size

        return made, [lambda _, start=start: fill(start) for start in range(0, k if by_rows else n, step)]  # type: ignore[misc]


@dataclass(frozen=True)
class QuantizedDense(Operator):
    """``y = clamp(rint(float32(sums) * ratio), low, high) + zero`` of integers ``sums = (x - x_zero) @ (w - w_zero) + bias``.

    Inputs: x (..., K) of uint8; w, a constant (K, N) of int8 or uint8, or (..., K, N) of uint8 that is known only while running;
    its zero point (one of w's type, or one per column, or ""); ratio (one or (N,)) of float32 or "" for 1, bias (N,) of int32 or
    "", offset (N,) of float32 or "", table or ""; x_scale (float32), x_zero (uint8) and w_scale (float32), one number each that
    is known only while running, or "": scales are multiplied with each other, then with the ratio.

    Each operation of floats is rounded to float32, halves go to the even integer: results are
    the same bits on every machine.

    Attributes
    ----------
    x_zero, zero : int
        Zero points of x, where it is no input, and of y.
    low, high : int
        Bounds of y less its zero point.
    gives_what : {"bytes", "floats", "sums"}
        Whether y is that; or ``activation(float32(sums) * ratio + offset)``; or the sums, int32.
    activation : Activation, optional
        Of floats.
    transposed : bool
        Whether w is (..., N, K).
    wraps : bool
        Whether sums are ONNX's int32, which wraps around; they are exact else, and no kernel takes what may not fit.
    """

    x_zero: int = 0
    zero: int = 0
    low: int = 0
    high: int = 255
    gives_what: str = BYTES
    activation: Activation | None = None
    transposed: bool = False
    wraps: bool = False

    op_type: ClassVar[str] = "QuantizedDense"

    @property
    def dtype(self) -> np.dtype:
        """Of y."""
        return {BYTES: UINT8, FLOATS: FLOAT32, SUMS: INT32}[self.gives_what]

    def _turned(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*shape[:-2], *shape[:-3:-1]) if self.transposed else shape

    def outline(self, inputs: Specs) -> list[TensorSpec]:
        shapes = [None if spec is None else spec.shape for spec in (spec_at(inputs, X), spec_at(inputs, W))]
        ranks = [len(shape) for shape in shapes if shape is not None]
        known = len(ranks) == 2 and min(ranks) >= 2
        return [TensorSpec(self.dtype, (None,) * max(ranks) if known else None)]

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, w = required(inputs, X, self.op_type), required(inputs, W, self.op_type)
        for name, spec, kinds in (("x", x, (UINT8,)), ("w", w, (UINT8, INT8))):
            if spec.dtype not in kinds:
                raise InputError(
                    "has the wrong dtype",
                    operator=self.op_type,
                    tensor=name,
                    expected=" or ".join(map(str, kinds)),
                    received=spec.dtype,
                )
        wide = np.dtype(np.float64)
        shapes = (x.concrete, self._turned(w.concrete))
        return [TensorSpec(self.dtype, MatMul().infer([TensorSpec(wide, s) for s in shapes])[0].shape)]

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        if not inputs or inputs[0] is None or not outputs or outputs[0] is None:
            return None
        return math.prod(outputs[0]) * inputs[0][-1]

    def reference(self, *inputs: Any) -> list[Any]:
        x, w, w_zero, ratio, bias, offset, table, x_scale, x_zero, w_scale = (*inputs, *(None,) * 10)[:10]
        wide = np.asarray(w).astype(np.float64)  # which holds all sums of products of such integers exactly
        wide = wide.swapaxes(-1, -2) if self.transposed else wide
        if w_zero is not None:
            wide = wide - (w_zero.reshape(()) if w_zero.size == 1 else w_zero.reshape(-1)).astype(np.float64)
        exact = np.asarray((x.astype(np.float64) - (self.x_zero if x_zero is None else float(x_zero.reshape(())))) @ wide)
        sums = exact.astype(np.int64)
        if bias is not None:
            sums = sums + bias.astype(np.int64)
        if self.wraps or self.gives_what == SUMS:
            sums = sums.astype(np.int32)
        if self.gives_what == SUMS:
            return [sums]
        with np.errstate(all="ignore"):
            factor = np.float32(1)
            for scale in (x_scale, w_scale):
                factor = factor if scale is None else factor * np.float32(scale.reshape(()))
            by_column = factor if ratio is None else factor * (ratio.reshape(()) if ratio.size == 1 else ratio)
            y = sums.astype(np.float32) * by_column
            if self.gives_what == FLOATS:
                return [activate(y if offset is None else y + offset, self.activation)]
        y = (np.rint(np.clip(y, np.float32(self.low), np.float32(self.high))).astype(np.int32) + self.zero).astype(np.uint8)
        return [y if table is None else table[y]]

    # ---------------------------------------------------------------- lowering

    def lower(self, ctx: Lowering) -> bool:
        x, w, out = ctx.inputs[X], ctx.inputs[W], ctx.outputs[0].concrete
        assert x is not None and w is not None
        here = [index < len(ctx.inputs) and ctx.inputs[index] is not None for index in range(10)]
        given = {index: ctx.const(index) if here[index] else None for index in (W_ZERO, RATIO, BIAS, OFFSET, TABLE)}
        if any(here[i] and given[i] is None for i in (RATIO, BIAS, OFFSET, TABLE)):
            return False
        if 0 in out or not x.concrete or len(w.concrete) < 2:
            return False
        known = ctx.const(W)
        if not self.wraps and not self._fits(x.concrete[-1], known, given):
            return False
        if known is not None:
            if known.ndim != 2 or (here[W_ZERO] and given[W_ZERO] is None):
                return False
            matrix = known.T if self.transposed else known
            weights, sums, bias = self._packed(ctx, matrix, given, here[X_ZERO])
            batch: tuple[int, ...] = ()
        else:
            found = self._batch(x.concrete, w.concrete, out)
            if w.dtype != UINT8 or found is None:
                return False
            batch = found
            weights, sums = self._pack_running(ctx, self._turned(w.concrete), batch)
            bias = self._columns(ctx, BIAS, given[BIAS], np.int32)
        n = out[-1] if len(w.concrete) > 1 and len(out) else 1
        self._call(ctx, weights, sums, bias, given, here, batch, n, known is not None)
        return True

    def _fits(self, k: int, w: np.ndarray | None, given: dict[int, np.ndarray | None]) -> bool:
        """Whether all sums of k products fit 32 bits; by the weights themselves where extents do not tell."""
        bias, zero = given[BIAS], given[W_ZERO]
        left = MOST - (0 if bias is None or not bias.size else int(np.abs(bias.astype(np.int64)).max()))
        if k * 255 * 255 <= left:
            return True
        if w is None or w.ndim != 2:
            return False
        moved = (w.T if self.transposed else w).astype(np.int16)
        if zero is not None:
            moved -= zero.reshape(-1).astype(np.int16)
        return int(np.abs(moved).sum(axis=0, dtype=np.int64).max()) * 255 <= left

    def _batch(self, x: tuple[int, ...], w: tuple[int, ...], out: tuple[int, ...]) -> tuple[int, ...] | None:
        """The axes of the batch where w has as many matrices as the result; () where it has one; None where neither holds."""
        if math.prod(w[:-2]) == 1:
            return ()
        whole = out[:-2] if len(x) > 1 else ()
        fits = w[:-2] == whole and (x[:-2] == whole or (len(x) > 1 and math.prod(x[:-2]) == 1))
        return whole if fits else None

    def _key(self, ctx: Lowering, what: str, *indices: int) -> tuple[Any, ...]:
        names = [ctx.name(i) if i < len(ctx.inputs) and ctx.inputs[i] is not None else "" for i in indices]
        return (f"qdense {what}", self.transposed, *names)

    def _packed(
        self, ctx: Lowering, w: np.ndarray, given: dict[int, np.ndarray | None], x_zero_comes: bool
    ) -> tuple[Operand, Operand | None, Operand | None]:
        """Weights, the sums of their columns where x's zero point comes while running, and else a bias that knows it."""
        k, n = w.shape
        flip = 128 if w.dtype == UINT8 else 0
        if x_zero_comes:

            def of_columns(totals: np.ndarray, empty: Empty) -> np.ndarray:
                array: np.ndarray = pack_columns((totals - flip * k).astype(np.int32), n, np.int32, empty)
                return array

            sums = ctx.pack(self._key(ctx, "sums", W), OfColumns(w, of_columns))
            bias = self._columns(ctx, BIAS, given[BIAS], np.int32)
        else:

            def biased(totals: np.ndarray, empty: Empty) -> np.ndarray:
                array: np.ndarray = pack_qdense_bias(w, given[BIAS], self.x_zero, empty, totals)
                return array

            sums, bias = None, ctx.pack((*self._key(ctx, "bias", W, BIAS), self.x_zero), OfColumns(w, biased))
        return ctx.pack(self._key(ctx, "weights", W), BytePanels(w)), sums, bias

    def _pack_running(self, ctx: Lowering, shape: tuple[int, ...], batch: tuple[int, ...]) -> tuple[Operand, Operand]:
        """Panels of a matrix, or of as many as the batch has, made while running."""
        k, n = shape[-2:]
        count, columns = packed_sizes(k, n)
        many = math.prod(batch)
        weights, sums = ctx.temp((many * count,), np.int8), ctx.temp((many * columns,), np.int32)
        source = ctx.plain(W).reshaped((*batch, n, k) if self.transposed else (*batch, k, n))
        ctx.call("qpack", [source], [weights, sums], transposed=self.transposed)
        return weights, sums

    def _columns(self, ctx: Lowering, index: int, value: np.ndarray | None, dtype: type, less: int = 0) -> Operand | None:
        """Numbers for each column, padded."""
        if value is None:
            return None
        n, numbers = ctx.outputs[0].concrete[-1], value.reshape(-1).astype(dtype) - dtype(less)
        return ctx.pack(
            ("qdense columns", ctx.name(index), n, dtype.__name__, less),
            lambda empty: pack_columns(numbers[0] if numbers.size == 1 else numbers, n, dtype, empty),
        )

    def _call(
        self,
        ctx: Lowering,
        weights: Operand,
        sums: Operand | None,
        bias: Operand | None,
        given: dict[int, np.ndarray | None],
        here: list[bool],
        batch: tuple[int, ...],
        n: int,
        known: bool,
    ) -> None:
        x, w, out = ctx.inputs[X], ctx.inputs[W], ctx.outputs[0].concrete
        assert x is not None and w is not None
        flip = 128 if w.dtype == UINT8 else 0
        zero, w_zero, columns, late = given[W_ZERO], -flip, None, None
        if zero is not None and zero.size > 1:
            columns, w_zero = self._columns(ctx, W_ZERO, zero, np.int32, flip), 0
        elif zero is not None:
            w_zero = int(zero.reshape(())) - flip
        elif here[W_ZERO]:
            late = ctx.plain(W_ZERO)
        floats = self.gives_what == FLOATS
        params: dict[str, Any] = {"x_zero": 0 if here[X_ZERO] else self.x_zero, "w_zero": 0 if late is not None else w_zero}
        after = None
        if self.gives_what == BYTES:
            params |= {"y_zero": self.zero, "low": self.low + self.zero, "high": self.high + self.zero}
        elif floats and self.activation is not None:
            if self.activation.kind == "clip":
                params |= {"low": self.activation.alpha, "high": self.activation.beta}
            else:
                after = self.activation
        table = ctx.plain(TABLE) if self.gives_what == BYTES and here[TABLE] else None
        rows = (1, out[-1]) if len(x.concrete) == 1 else out
        source = ctx.plain(X)
        if len(x.concrete) == 1:
            source = source.reshaped((1, x.concrete[0]))
        elif batch and x.concrete[:-2] != batch:
            source = source.reshaped(x.concrete[-2:])
        elif not batch and len(out) != len(x.concrete):  # one matrix of more axes than x
            source = source.reshaped((*rows[:-1], x.concrete[-1]))
        y = ctx.out_plain() if after is None else ctx.temp(out)
        ctx.call(
            "qdense",
            [
                source,
                weights,
                sums,
                columns,
                bias,
                self._columns(ctx, RATIO, given[RATIO], np.float32),
                self._columns(ctx, OFFSET, given[OFFSET], np.float32) if floats else table,
                *[ctx.plain(i) if here[i] else None for i in (X_SCALE, X_ZERO, W_SCALE)],
                late,
            ],
            [y.reshaped(rows)],
            batched=bool(batch),
            **params,
        )
        if after is not None:
            ctx.call("activation", [y], [ctx.out_plain()], activation=after)
