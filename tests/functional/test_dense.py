"""dense and flatten against the oracle."""

from __future__ import annotations

import functools

import numpy as np
import oracle
import pytest
from oracle import EXACT, ROUNDING, assert_close, assert_same_bits

import cnnengine.functional as F
from cnnengine.errors import CNNEngineError, ShapeError

from .common import CHANNELS, both, normal, refused

# batch, inputs, outputs
SIZES = [
    *[(1, c, 10) for c in CHANNELS],
    *[(1, 10, c) for c in CHANNELS],
    *[(n, 33, 17) for n in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 28, 29, 31, 33)],
    (1, 400, 120),
    (3, 1023, 65),
    (1, 1, 1),
    (64, 1, 1),
    (1, 4096, 1000),
    (16, 512, 300),
    (130, 64, 48),
]


@functools.cache
def problem(n, inputs, outputs):
    x, w, bias = normal(n, inputs), normal(outputs, inputs, seed=1), normal(outputs, seed=2)
    return x, w, bias, oracle.dense(x, w, bias), oracle.dense(abs(x), abs(w), abs(bias))


@pytest.mark.parametrize("size", SIZES, ids=lambda s: "x".join(map(str, s)))
def test_dense(isa, size):
    x, w, bias, expected, magnitude = problem(*size)
    assert_close(both(F.dense, x, w, bias), expected, ROUNDING, magnitude=magnitude, terms=size[1] + 1)
    bare = oracle.dense(x, w)
    assert_close(both(F.dense, x, w), bare, ROUNDING, magnitude=oracle.dense(abs(x), abs(w)), terms=size[1])


def test_dense_weights_may_change_between_calls(isa):
    x, w = normal(2, 20), normal(9, 20)
    first = F.dense(x, w)
    w *= 2
    assert_same_bits(F.dense(x, w), first * np.float32(2))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_dense_nan_stays_in_its_row_and_column(isa, value):
    for n, inputs, outputs in ((1, 5, 7), (9, 33, 35), (17, 16, 16)):
        x, w = normal(n, inputs), normal(outputs, inputs, seed=1)
        plain = F.dense(x, w)
        dirty = x.copy()
        dirty[n - 1, inputs - 1] = value
        y = both(F.dense, dirty, w)
        assert_same_bits(y[: n - 1], plain[: n - 1])
        np.testing.assert_array_equal(y[n - 1], oracle.dense(dirty, w)[n - 1])
        dirty = w.copy()
        dirty[outputs - 1, 0] = value
        y = both(F.dense, x, dirty)
        assert_same_bits(y[:, :-1], plain[:, :-1])
        assert not np.isfinite(y[:, -1]).any()


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,), (2, 3), (0, 3, 4), (3, 0, 4), (2, 17, 5, 5), (1, 2, 3, 4, 5, 6)])
def test_flatten(isa, shape):
    x = normal(*shape)
    for axis in range(-len(shape), len(shape) + 1):
        y = both(F.flatten, x, axis=axis)
        assert_close(y, oracle.flatten(x, axis=axis), EXACT)
        assert not np.shares_memory(x, y)
    assert_same_bits(F.flatten(x), F.flatten(x, axis=1))


def test_flatten_keeps_every_bit():
    x = np.random.default_rng(0).integers(0, 2**32, (3, 4, 50), np.uint32).view(np.float32)  # NaN payloads, denormals, -0
    assert F.flatten(x).tobytes() == x.tobytes()


def test_refused():
    x, w = normal(3, 8), normal(5, 8)
    for error, names, call in (
        (ShapeError, ("x",), lambda: F.dense(normal(3, 8, 1), w)),
        (ShapeError, ("x",), lambda: F.dense(normal(8), w)),
        (ShapeError, ("w",), lambda: F.dense(x, normal(5, 7))),
        (ShapeError, ("w",), lambda: F.dense(x, normal(8, 5))),
        (ShapeError, ("w",), lambda: F.dense(x, normal(5, 8, 1))),
        (ShapeError, ("bias",), lambda: F.dense(x, w, normal(8))),
        (ShapeError, ("bias",), lambda: F.dense(x, w, normal(5, 1))),
        (CNNEngineError, ("axis",), lambda: F.flatten(x, axis=3)),
        (CNNEngineError, ("axis",), lambda: F.flatten(x, axis=-3)),
        (CNNEngineError, ("axis",), lambda: F.flatten(x, axis=2**70)),
    ):
        with refused(error, *names):
            call()
