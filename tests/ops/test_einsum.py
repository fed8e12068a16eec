"""Einsum by kernels and by NumPy, against sums written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cnnengine.errors import InputError, ModelError, ShapeError
from cnnengine.operator import NodeRecord
from cnnengine.ops.einsum import Einsum, terms_of
from cnnengine.plan.eager import by_kernels
from cnnengine.spec import TensorSpec

EXTENTS = dict(zip("abcdefgh", (2, 3, 4, 5, 1, 2, 7, 3), strict=True))


def written_out(terms: tuple[str, ...], right: str, arrays: list[np.ndarray]) -> np.ndarray:
    letters = sorted(set("".join(terms)))
    out = np.zeros([EXTENTS[c] for c in right])
    for values in itertools.product(*(range(EXTENTS[c]) for c in letters)):
        at = dict(zip(letters, values, strict=True))
        product = 1.0
        for term, array in zip(terms, arrays, strict=True):
            product *= float(array[tuple(at[c] for c in term)])
        out[tuple(at[c] for c in right)] += product
    return out


@pytest.mark.parametrize(
    ("equation", "compiled"),
    [
        ("ab,bc->ac", True),
        ("abc,abd->acd", True),
        ("abcd,abed->abce", True),
        ("abcd,bade->ebca", True),
        ("abc,dc->dba", True),
        ("ab,cd->dacb", True),
        ("abc,abc->abc", True),
        ("abc,abc->b", True),
        ("abc,abc->", True),
        ("ab,bc", True),
        ("ae,eb->ab", True),
        ("aa->a", False),
        ("abc->cab", False),
        ("abc,cd->ad", False),
        ("ab,bc,cd->ad", False),
    ],
)
def test_sums(equation: str, compiled: bool) -> None:
    rng = np.random.default_rng(7)
    terms, right = terms_of(equation)
    arrays = [rng.standard_normal([EXTENTS[c] for c in t]).astype(np.float32) for t in terms]
    op = Einsum(equation)
    want = written_out(terms, right, arrays)
    (spec,) = op.specs([TensorSpec.of(a) for a in arrays])
    assert spec.shape == want.shape
    np.testing.assert_allclose(op.evaluate(*arrays)[0], want, rtol=1e-5, atol=1e-5)
    results = by_kernels(op, arrays)
    assert (results is not None) == compiled
    if results is not None:
        np.testing.assert_allclose(results[0], want, rtol=1e-4, atol=1e-5)


def test_ellipsis() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.standard_normal((2, 1, 3, 4)), rng.standard_normal((5, 4, 3))
    (y,) = Einsum("...ij, ...ji -> ...").evaluate(a, b)
    np.testing.assert_allclose(y, (a * np.swapaxes(b, -1, -2)).sum((-1, -2)), rtol=1e-12)
    assert Einsum("...ij,...ji->...").specs([TensorSpec.of(a), TensorSpec.of(b)])[0].shape == y.shape == (2, 5)


@pytest.mark.parametrize("equation", ["ab,bc->ad", "ab,bc->aa", "a1->a", "a->...a", "ab->a->b"])
def test_no_equation(equation: str) -> None:
    with pytest.raises(ModelError, match="equation"):
        Einsum.from_onnx(NodeRecord("Einsum", "", 12, {"equation": equation}, ("x", "y"), ("z",)))


def test_what_does_not_fit() -> None:
    x, y = np.zeros((2, 3), np.float32), np.zeros((4, 5), np.float32)
    with pytest.raises(ModelError, match="terms"):
        Einsum.from_onnx(NodeRecord("Einsum", "", 12, {"equation": "ab->a"}, ("x", "y"), ("z",)))
    with pytest.raises(ShapeError, match="'b' differ"):
        Einsum("ab,bc->ac").specs([TensorSpec.of(x), TensorSpec.of(y)])
    with pytest.raises(ShapeError, match="rank"):
        Einsum("abc,bc->ac").specs([TensorSpec.of(x), TensorSpec.of(y)])
    with pytest.raises(InputError, match="types"):
        Einsum("ab,ac->bc").specs([TensorSpec.of(x), TensorSpec.of(x.astype(np.float64))])
