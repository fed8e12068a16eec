"""Products of two run-time matrices against float64 NumPy: tile edges, broadcast batches, transposed operands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import ROUNDING, assert_close, assert_same_bits

from cnnengine._kernels import kernel
from cnnengine.layout import View
from cnnengine.operator import Activation

from .launching import run


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def check(a: np.ndarray, b: np.ndarray, threads: int, *, transposed: bool = False, scale: float = 1.0) -> np.ndarray:
    right = b.swapaxes(-1, -2) if transposed and b.ndim > 1 else b
    want = np.matmul(a.astype(np.float64), right.astype(np.float64)) * scale
    magnitude = np.matmul(np.abs(a).astype(np.float64), np.abs(right).astype(np.float64)) * abs(scale)
    params = {"transposed": transposed, "scale": scale}
    (got,) = run("matmul", [a, b], [want.shape], threads=threads, **params)
    assert_close(got, want, ROUNDING, magnitude=magnitude, terms=a.shape[-1])
    return got


# rows around the tile heights, columns around one, two and three panels of every instruction set, k around the lanes
@pytest.mark.parametrize("m", [1, 2, 6, 7, 13, 14, 15, 29, 64])
@pytest.mark.parametrize(
    ("k", "n"), [(1, 1), (3, 5), (4, 8), (16, 32), (17, 33), (31, 16), (36, 64), (40, 47), (144, 49), (5, 100)]
)
@pytest.mark.parametrize("transposed", [False, True])
def test_shapes_around_the_tiles(isa, m, k, n, transposed):
    check(normal(m, k), normal(*((n, k) if transposed else (k, n)), seed=1), 1, transposed=transposed)


BATCHES = [
    ((2, 3, 7, 5), (2, 3, 5, 4)),
    ((2, 3, 7, 5), (5, 4)),
    ((7, 5), (2, 3, 5, 4)),
    ((2, 1, 7, 5), (3, 5, 4)),
    ((2, 3, 7, 5), (3, 5, 4)),
    ((2, 3, 1, 5), (2, 1, 5, 4)),
    ((1, 1, 7, 5), (4, 1, 5, 4)),
    ((4, 1, 3, 1, 7, 5), (1, 2, 3, 2, 5, 4)),
    ((5,), (5, 4)),
    ((7, 5), (5,)),
    ((5,), (5,)),
    ((3, 7, 5), (5,)),
    ((5,), (3, 5, 4)),
    ((0, 7, 5), (5, 4)),
    ((2, 0, 5), (2, 5, 4)),
    ((2, 7, 5), (2, 5, 0)),
    ((2, 7, 0), (2, 0, 4)),
]


@pytest.mark.parametrize("shapes", BATCHES)
def test_batches_broadcast(isa, threads, shapes):
    check(normal(*shapes[0]), normal(*shapes[1], seed=1), threads)


def test_vectors_of_a_transposed_operand(isa):
    check(normal(7, 5), normal(5, seed=1), 1, transposed=True)


@pytest.mark.parametrize("transposed", [False, True])
def test_scale(isa, transposed):
    check(normal(2, 9, 21), normal(2, *((35, 21) if transposed else (21, 35)), seed=1), 2, transposed=transposed, scale=-0.25)


def test_row_chunks_share_their_work_among_threads(isa):
    a, b = normal(2, 700, 90), normal(2, 90, 70, seed=1)
    assert_same_bits(check(a, b, 1), check(a, b, 2))
    launch = kernel("matmul").build([View.plain(a.shape), View.plain(b.shape)], [View.plain((2, 700, 70))])
    assert launch.n_chunks >= 8


def test_a_batch_gives_the_bits_of_its_matrices(isa):
    a, b = normal(3, 20, 37), normal(3, 37, 41, seed=1)
    together = check(a, b, 2)
    for i in range(3):
        assert_same_bits(together[i], check(a[i], b[i], 1))


@pytest.mark.parametrize("activation", [Activation("clip", 0.0, 6.0), Activation("gelu"), Activation("leaky_relu", 0.1)])
def test_activation_equals_the_kernel_of_its_own(isa, threads, activation):
    a, b = normal(2, 33, 20), normal(2, 20, 35, seed=1)
    (product,) = run("matmul", [a, b], [(2, 33, 35)])
    (want,) = run("activation", [product], [(2, 33, 35)], activation=activation)
    (got,) = run("matmul", [a, b], [(2, 33, 35)], threads=threads, activation=activation)
    assert_same_bits(got, want)


@given(
    st.lists(st.integers(1, 3), max_size=3),
    st.integers(1, 40),
    st.integers(1, 70),
    st.integers(1, 70),
    st.booleans(),
    st.integers(0, 7),
    st.integers(0, 3),
)
def test_any_shapes(batch, m, k, n, transposed, ones, cut):
    """Some batch axes of one operand or the other are 1, or missing in front."""
    left = [1 if ones >> i & 1 else d for i, d in enumerate(batch)]
    right = [1 if ones >> (2 - i) & 1 and left[i] != 1 else d for i, d in enumerate(batch)][min(cut, len(batch)) :]
    check(normal(*left, m, k), normal(*right, *((n, k) if transposed else (k, n)), seed=1), 1, transposed=transposed)


def test_what_does_not_fit_is_refused():
    build = kernel("matmul").build

    def view(*shape: int) -> View:
        return View.plain(shape)

    for a, b, y in [((2, 3), (4, 5), (2, 5)), ((2, 3, 4), (3, 4, 5), (3, 3, 5)), ((2, 3), (3, 5), (2, 6)), ((), (3, 5), (5,))]:
        with pytest.raises(ValueError, match="matmul"):
            build([view(*a), view(*b)], [view(*y)])
    with pytest.raises(ValueError, match="plain"):
        build([View.planes((1, 3), 4), view(3, 5)], [view(1, 5)])
    launch = build([view(2, 3), view(3, 5)], [view(2, 5)])
    arrays = [np.zeros(size, np.float32) for size in (6, 15, 10)]
    for short in range(3):
        given_arrays = [a[:-1] if i == short else a for i, a in enumerate(arrays)]
        with pytest.raises(ValueError, match=f"operand {short}"):
            kernel("matmul").front(launch, *given_arrays)
