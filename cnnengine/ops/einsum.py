"""Einsum: sums of products by letters. Products of two tensors run as one product of matrices between transpositions."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError
from ..operator import Gives, Lowering, NodeRecord, Operand, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import FLOAT32, required
from .copies import copy, short_enough, strides_of

ELLIPSIS = "."
"""What stands for `...` in the terms, which single letters make up otherwise."""


def terms_of(equation: str) -> tuple[tuple[str, ...], str]:
    """The terms of the inputs and that of the output, `...` as one character.

    Without ``->`` the output has the letters that occur once, in alphabetical order, behind the ellipsis.

    Raises
    ------
    ValueError
        Not an equation.
    """
    text = equation.replace(" ", "").replace("...", ELLIPSIS)
    left, arrow, right = text.partition("->")
    terms = tuple(left.split(","))
    for term in (*terms, right):
        if not re.fullmatch(r"[A-Za-z]*(\.[A-Za-z]*)?", term):
            raise ValueError(f"not a term: {term!r}")
    letters = left.replace(",", "").replace(ELLIPSIS, "")
    if not arrow:
        right = (ELLIPSIS if ELLIPSIS in left else "") + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    given = right.replace(ELLIPSIS, "")
    if len(set(given)) < len(given) or not set(given) <= set(letters) or (ELLIPSIS in right and ELLIPSIS not in left):
        raise ValueError(f"not an output: {right!r}")
    return terms, right


@dataclass(frozen=True)
class Einsum(Operator):
    """ONNX Einsum (12, 28): NumPy's einsum.

    Attributes
    ----------
    equation : str
    """

    equation: str

    op_type: ClassVar[str] = "Einsum"
    min_version: ClassVar[int] = 12

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Einsum:
        equation = node.attribute("equation")
        try:
            terms, _ = terms_of(str(equation))
        except ValueError as error:
            raise ModelError(
                f"the equation cannot be read ({error})", node=node.name, operator="Einsum", received=equation
            ) from None
        if len(terms) != len(node.inputs):
            raise ModelError(
                "the equation has another number of terms",
                node=node.name,
                operator="Einsum",
                expected=len(node.inputs),
                received=equation,
            )
        return cls(str(equation))

    def outline(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        terms, right = terms_of(self.equation)
        rank: int | None = len(right.replace(ELLIPSIS, ""))
        if ELLIPSIS in right:
            spread: list[int | None] = [None] * (len(terms) - len(inputs))
            spread += [
                None if s is None or s.shape is None else len(s.shape) - len(term.replace(ELLIPSIS, ""))
                for term, s in zip(terms, inputs, strict=False)
                if ELLIPSIS in term
            ]
            rank = None if None in spread else rank + max(spread)  # type: ignore[operator,type-var]
        return [TensorSpec(Gives().of(inputs).dtype, None if rank is None or rank < 0 else (None,) * rank)]

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        terms, right = terms_of(self.equation)
        extents: dict[str, int] = {}
        batch: tuple[int, ...] = ()
        first = required(inputs, 0, self.op_type)
        for i, term in enumerate(terms):
            spec = required(inputs, i, self.op_type)
            if spec.dtype != first.dtype or spec.dtype.kind not in "fiu":
                raise InputError(
                    "inputs of different types", operator="Einsum", tensor=f"input {i}", expected=first.dtype, received=spec.dtype
                )
            shape = spec.concrete
            spread = len(shape) - len(term.replace(ELLIPSIS, ""))
            if spread < 0 or (spread and ELLIPSIS not in term):
                raise ShapeError(
                    "the rank does not fit the term", operator="Einsum", tensor=f"input {i}", expected=term, received=shape
                )
            at = term.find(ELLIPSIS)
            if at >= 0:
                try:
                    batch = np.broadcast_shapes(batch, shape[at : at + spread])
                except ValueError:
                    raise ShapeError("the ellipses do not broadcast", operator="Einsum", expected=batch, received=shape) from None
                shape = shape[:at] + shape[at + spread :]
            for letter, n in zip(term.replace(ELLIPSIS, ""), shape, strict=True):
                known = extents.setdefault(letter, n)
                if known == 1:
                    extents[letter] = n
                elif n not in (1, known):
                    raise ShapeError(
                        f"extents of {letter!r} differ", operator="Einsum", tensor=f"input {i}", expected=known, received=n
                    )
        out: list[int] = []
        for letter in right:
            out += batch if letter == ELLIPSIS else [extents[letter]]
        return [TensorSpec(first.dtype, tuple(out))]

    def reference(self, *inputs: Any) -> list[Any]:
        terms, right = terms_of(self.equation)
        equation = f"{','.join(terms)}->{right}".replace(ELLIPSIS, "...")
        if inputs[0].dtype.kind != "f":
            return [np.asarray(np.einsum(equation, *inputs, optimize=len(inputs) > 2))]  # sums modulo 2^n have any order
        wide = [x.astype(np.float64) for x in inputs]
        return [np.asarray(np.einsum(equation, *wide, optimize=len(wide) > 2)).astype(inputs[0].dtype)]

    def lower(self, ctx: Lowering) -> bool:
        terms, right = terms_of(self.equation)
        specs = ctx.inputs
        if (
            len(terms) != 2
            or ELLIPSIS in "".join(terms)
            or any(s is None or s.dtype != FLOAT32 or 0 in s.concrete for s in specs)
        ):
            return False
        shapes = [s.concrete for s in specs if s is not None]
        a, b = terms
        extents = {**dict(zip(a, shapes[0], strict=True)), **dict(zip(b, shapes[1], strict=True))}
        if len(set(a)) < len(a) or len(set(b)) < len(b) or not (set(a) ^ set(b)) <= set(right):
            return False  # diagonals, and letters that are summed in one of them alone
        if any(extents[c] != n for t, s in zip(terms, shapes, strict=True) for c, n in zip(t, s, strict=True)):
            return False  # an extent of 1 beside another
        batch = [c for c in right if c in a and c in b]
        rows, columns = [c for c in right if c in a and c not in b], [c for c in right if c in b and c not in a]
        summed = [c for c in a if c in b and c not in right]
        made = [*batch, *rows, *columns]
        shape = [extents[c] for c in made]
        if not all(short_enough(s) for s in (*shapes, tuple(shape))):
            return False

        def size(letters: Sequence[str]) -> int:
            return math.prod(extents[c] for c in letters)

        left = self._ordered(ctx, ctx.plain(0), a, [*batch, *rows, *summed], extents)
        second = self._ordered(ctx, ctx.plain(1), b, [*batch, *summed, *columns], extents)
        in_order = made == list(right)
        product = ctx.out_plain() if in_order else ctx.temp(tuple(shape))
        n, m, k, w = size(batch), size(rows), size(summed), size(columns)
        ctx.call(
            "matmul",
            (left.reshaped((n, m, k)), second.reshaped((n, k, w))),
            (product.reshaped((n, m, w)),),
            activation=None,
        )
        if not in_order:
            strides = dict(zip(made, strides_of(shape), strict=True))
            final = [extents[c] for c in right]
            copy(ctx, product, ctx.out_plain(), final, [strides[c] for c in right], strides_of(final))
        return True

    def _ordered(self, ctx: Lowering, source: Operand, term: str, wanted: Sequence[str], extents: dict[str, int]) -> Operand:
        """The operand with its axes in the order of `wanted`."""
        moved = [c for c in wanted if extents[c] != 1]
        if moved == [c for c in term if extents[c] != 1]:
            return source
        strides = dict(zip(term, strides_of([extents[c] for c in term]), strict=True))
        shape = [extents[c] for c in wanted]
        target = ctx.temp(tuple(shape))
        copy(ctx, source, target, shape, [strides[c] for c in wanted], strides_of(shape))
        return target
