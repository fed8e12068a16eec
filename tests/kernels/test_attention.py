"""Attention against float64 NumPy: tile edges, operands anywhere in a buffer, permuted results."""

from __future__ import annotations

import numpy as np
import pytest

from cnnengine._kernels import kernel
from cnnengine.layout import View, aligned_copy, aligned_empty


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def place(array: np.ndarray, base: np.ndarray) -> tuple[tuple[int, ...], int]:
    """Strides and offset of a view, in elements."""
    start = (array.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // 4
    return tuple(s // 4 for s in array.strides), start


def attend(q, k, v, bases, order, scale, threads=1):
    """y of views q (b.., m, d), k (b.., n, d), v (b.., n, e) of three bases; the result's axes in this order."""
    shape = tuple((*q.shape[:-1], v.shape[-1])[axis] for axis in order)
    y = aligned_empty(int(np.prod(shape)))
    y[...] = np.nan
    steps = np.empty(shape, np.float32).transpose(np.argsort(order))
    params = {"batch": q.shape[:-2], "m": q.shape[-2], "n": k.shape[-2], "d": q.shape[-1], "e": v.shape[-1], "scale": scale}
    places = {name: place(a, base) for name, a, base in zip("qkv", (q, k, v), bases, strict=True)}
    launch = kernel("attention").build(
        [View.plain(b.shape) for b in bases], [View.plain(shape)], y=(tuple(s // 4 for s in steps.strides), 0), **places, **params
    )
    kernel("attention").front(launch, *(aligned_copy(b) for b in bases), y, threads=threads)
    return y.reshape(shape)


def wanted(q, k, v, order, scale):
    scores = scale * (q.astype(np.float64) @ k.astype(np.float64).swapaxes(-1, -2))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return ((weights / weights.sum(axis=-1, keepdims=True)) @ v.astype(np.float64)).transpose(order)


def check(q, k, v, bases, order=None, scale=0.3, threads=1):
    order = tuple(range(q.ndim)) if order is None else order
    got = attend(q, k, v, bases, order, scale, threads)
    np.testing.assert_allclose(got, wanted(q, k, v, order, scale), rtol=2e-5, atol=4e-6)
    return got


# rows around the tile heights, keys and columns around one, two and three blocks of every instruction set
@pytest.mark.parametrize("m", [1, 5, 12, 13, 28, 29, 70])
@pytest.mark.parametrize(
    ("n", "d", "e"), [(1, 1, 1), (3, 5, 4), (16, 16, 8), (31, 17, 33), (33, 36, 36), (64, 8, 48), (100, 40, 7)]
)
def test_shapes_around_the_tiles(isa, m, n, d, e):
    q, k, v = normal(2, m, d), normal(2, n, d, seed=1), normal(2, n, e, seed=2)
    check(q, k, v, (q, k, v))
    turned = np.ascontiguousarray(k.swapaxes(-1, -2))
    check(q, turned.swapaxes(-1, -2), v, (q, turned, v))


@pytest.mark.parametrize("heads", [1, 3])
def test_parts_of_one_product(isa, threads, heads):
    """As vision transformers have it: (N, tokens, 3, heads, d) holds all three, the result is (N, tokens, heads, d)."""
    for n, d in ((9, 20), (65, 36)):
        qkv = normal(2, n, 3, heads, d)
        q, k, v = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
        check(q, k, v, (qkv, qkv, qkv), (0, 2, 1, 3), d**-0.5, threads)


def test_many_rows_for_any_number_of_threads(isa):
    q, k, v = normal(3, 500, 24), normal(3, 300, 24, seed=1), normal(3, 300, 40, seed=2)
    first = check(q, k, v, (q, k, v))
    for threads in (2, 3):
        assert check(q, k, v, (q, k, v), threads=threads).tobytes() == first.tobytes()
    alone = attend(q[1:2], k[1:2], v[1:2], (q[1:2], k[1:2], v[1:2]), (0, 1, 2), 0.3)
    assert alone.tobytes() == first[1:2].tobytes()


def test_large_scores_and_nan(isa):
    q, k, v = normal(1, 20, 8) * 60, normal(1, 40, 8, seed=1) * 60, normal(1, 40, 5, seed=2)
    check(q, k, v, (q, k, v), scale=1.0)
    q[0, 3, 2] = np.nan
    got = attend(q, k, v, (q, k, v), (0, 1, 2), 1.0)
    assert np.isnan(got[0, 3]).all() and not np.isnan(np.delete(got[0], 3, 0)).any()


def test_what_leaves_its_buffer_is_refused():
    q = normal(2, 5, 4)
    good = {"batch": (2,), "m": 5, "n": 5, "d": 4, "e": 4, **dict.fromkeys("qkvy", ((20, 4, 1), 0))}
    views = [View.plain(q.shape)] * 3, [View.plain(q.shape)]
    kernel("attention").build(*views, **good)
    for change in (
        {"q": ((20, 4, 1), 1)},
        {"k": ((21, 4, 1), 0)},
        {"v": ((20, 5, 1), 0)},
        {"v": ((20, 1, 4), 0)},
        {"y": ((20, 4, 1), 1)},
        {"q": ((-20, 4, 1), 20)},
        {"q": ((20, 4, 1), -1)},
        {"k": ((20, 8, 2), 0)},
        {"m": 6},
        {"n": 0},
        {"batch": (2, 1)},
    ):
        with pytest.raises(ValueError):
            kernel("attention").build(*views, **{**good, **change})
