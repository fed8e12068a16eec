"""Elementwise activations, softmax and log_softmax against the oracle."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from oracle import EXACT, ROUNDING, assert_close, assert_same_bits

import cnnengine.functional as F
from cnnengine.errors import CNNEngineError, ShapeError

from .common import both, normal, refused


def grid():
    """Everything from the denormals to where float32 ends, dense where the functions bend."""
    positive = np.concatenate(
        [np.linspace(1e-3, 20, 1999), np.geomspace(1e-44, 1e-3, 400), np.geomspace(20, 3e38, 300), np.linspace(80, 110, 301)]
    )
    return np.concatenate([-positive, [0.0, -0.0, 3.0, -3.0, 2.5, -2.5, 1.0, -1.0], positive]).astype(np.float32)


def elu_magnitude(x, alpha=1.0, gamma=1.0, inner=1.0):
    """alpha * (exp(x / inner) - 1) taken as alpha * (exp(x / inner) + 1): the specification subtracts."""
    x = x.astype(np.float64)
    return gamma * np.where(x < 0, alpha * (np.exp(np.minimum(x, 0.0) / inner) + 1.0), x)


def gelu_magnitude(x, **kw):
    """0.5 * |x| * (1 + |erf|); from 14 on gelu(-x) is under the smallest normal, and nothing may be left of the sum."""
    x = x.astype(np.float64)
    return np.where(np.abs(x) < 14, np.abs(x), np.abs(oracle.gelu(x, **kw)))


def gated_magnitude(function):
    """x * gate(x), whose gate may be flushed to zero under the smallest normal as any other result."""
    return lambda x: np.abs(function(x)) + np.abs(x.astype(np.float64)) * 2.0**-126 / (5 * 2.0**-23)


def hard_sigmoid_magnitude(x, alpha=0.2, beta=0.5):
    """alpha * |x| + beta between the two ends; there the result is exact."""
    x = x.astype(np.float64)
    t = alpha * x + beta
    return np.where((t > -1e-3) & (t < 1 + 1e-3), alpha * np.abs(x) + abs(beta), 0.0)


def hard_swish_magnitude(x):
    x = x.astype(np.float64)
    return np.where(x > -3.001, np.abs(x) * np.minimum(np.abs(x) / 6 + 0.5, 2.0), 0.0)


# name, keywords, class, magnitude; without one the magnitude is that of the result
CASES = [
    ("relu", {}, EXACT, None),
    ("leaky_relu", {}, ROUNDING, None),
    ("leaky_relu", {"alpha": 0.3}, ROUNDING, None),
    ("leaky_relu", {"alpha": -0.5}, ROUNDING, None),
    ("leaky_relu", {"alpha": 0.0}, ROUNDING, None),
    ("leaky_relu", {"alpha": 2.0}, ROUNDING, None),
    ("elu", {}, ROUNDING, elu_magnitude),
    ("elu", {"alpha": 2.5}, ROUNDING, elu_magnitude),
    ("selu", {}, ROUNDING, lambda x: elu_magnitude(x, 1.6732632, 1.050701)),
    ("selu", {"alpha": 2.0, "gamma": 3.0}, ROUNDING, elu_magnitude),
    ("celu", {}, ROUNDING, elu_magnitude),
    ("celu", {"alpha": 2.0}, ROUNDING, lambda x, alpha: elu_magnitude(x, alpha, inner=alpha)),
    ("gelu", {}, ROUNDING, gelu_magnitude),
    ("gelu", {"approximate": "tanh"}, ROUNDING, gelu_magnitude),
    ("silu", {}, ROUNDING, gated_magnitude(oracle.silu)),
    ("mish", {}, ROUNDING, gated_magnitude(oracle.mish)),
    ("sigmoid", {}, ROUNDING, None),
    ("hard_sigmoid", {}, ROUNDING, hard_sigmoid_magnitude),
    ("hard_sigmoid", {"alpha": 1 / 6, "beta": 0.6}, ROUNDING, hard_sigmoid_magnitude),
    ("hard_swish", {}, ROUNDING, hard_swish_magnitude),
    ("tanh", {}, ROUNDING, None),
    ("softplus", {}, ROUNDING, None),
    ("softsign", {}, ROUNDING, None),
    ("clip", {"min": -1.5, "max": 2.25}, EXACT, None),
    ("clip", {"min": 0.1}, EXACT, None),
    ("clip", {"max": 6.0}, EXACT, None),
    ("clip", {}, EXACT, None),
    ("clip", {"min": 2.0, "max": -1.0}, EXACT, None),
    ("clip", {"min": -np.inf, "max": np.inf}, EXACT, None),
]
IDS = [
    "-".join([name, *[f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in kw.items()]]) for name, kw, _, _ in CASES
]
each_case = pytest.mark.parametrize(("name", "kw", "kind", "magnitude"), CASES, ids=IDS)


def check(name, x, kw, kind, magnitude, threads=None):
    y = both(getattr(F, name), x, **kw) if threads is None else getattr(F, name)(x, threads=threads, **kw)
    if name == "clip":  # the bounds are float32 as x is
        kw = {k: np.float32(v) for k, v in kw.items()}
    if magnitude is None:
        assert_close(y, getattr(oracle, name)(x, **kw), kind)
    else:
        assert_close(y, getattr(oracle, name)(x, **kw), kind, magnitude=magnitude(x, **kw))


@each_case
def test_values(isa, name, kw, kind, magnitude):
    check(name, grid(), kw, kind, magnitude)


@each_case
def test_lengths_and_shapes(isa, threads, name, kw, kind, magnitude):
    for shape in (*[(n,) for n in range(68)], (), (0, 3), (3, 5, 7), (2, 17, 6, 6), (1, 2, 3, 4, 5, 6)):
        check(name, np.asarray(normal(*shape) * 4), kw, kind, magnitude, threads)


@each_case
def test_large_arrays(isa, name, kw, kind, magnitude):
    check(name, normal(3, 100_003)[1:] * 4, kw, kind, magnitude)


@pytest.mark.parametrize("name", sorted({name for name, *_ in CASES}))
def test_nan_propagates(isa, name):
    kw = {"min": -1.0, "max": 1.0} if name == "clip" else {}
    for length in (1, 5, 19, 35):
        for at in {0, length // 2, length - 1}:
            x = normal(length)
            plain = getattr(F, name)(x, **kw)
            x[at] = np.nan
            y = both(getattr(F, name), x, **kw)
            assert np.isnan(y[at])
            others = np.arange(length) != at
            assert_same_bits(y[others], plain[others])


@pytest.mark.parametrize(
    ("name", "kw", "low", "high"),
    [
        ("relu", {}, 0, np.inf),
        ("leaky_relu", {}, -np.inf, np.inf),
        ("elu", {"alpha": 2.0}, -2, np.inf),
        ("selu", {"alpha": 2.0, "gamma": 3.0}, -6, np.inf),
        ("celu", {"alpha": 2.0}, -2, np.inf),
        ("sigmoid", {}, 0, 1),
        ("hard_sigmoid", {}, 0, 1),
        ("tanh", {}, -1, 1),
        ("softplus", {}, 0, np.inf),
        ("clip", {"min": -2.0, "max": 3.0}, -2, 3),
        ("clip", {}, -np.inf, np.inf),
    ],
)
def test_infinities(isa, name, kw, low, high):
    for length in (2, 34):
        y = both(getattr(F, name), np.resize(np.float32([-np.inf, np.inf]), length), **kw)
        np.testing.assert_array_equal(y, np.resize(np.float32([low, high]), length))


@pytest.mark.parametrize(
    ("shape", "slope"),
    [
        ((2, 5, 3, 4), (5, 1, 1)),
        ((2, 17, 7, 7), (17, 1, 1)),
        ((2, 5, 3, 4), (1,)),
        ((2, 5, 3, 4), ()),
        ((2, 5, 3, 4), (4,)),  # aligned at the last axis, as ONNX broadcasts
        ((2, 5, 3, 4), (3, 4)),
        ((2, 5, 3, 4), (5, 3, 4)),
        ((2, 5, 3, 4), (2, 5, 3, 4)),
        ((2, 5, 3, 4), (2, 1, 3, 1)),
        ((2, 5, 3, 4), (1, 5, 1, 1)),
        ((7, 33), (33,)),
        ((33,), (33,)),
        ((0, 3, 2), (3, 1)),
        ((2, 3, 4, 5, 6), (3, 1, 1, 1)),
    ],
)
def test_prelu(isa, shape, slope):
    x, a = normal(*shape), normal(*slope, seed=1)
    assert_close(both(F.prelu, x, a), oracle.prelu(x, a), EXACT)  # one product, rounded once


def test_prelu_nan(isa):
    x, slope = normal(1, 5, 3, 3), normal(5, 1, 1)
    x[0, 2, 1, 1], slope[4] = np.nan, np.nan
    np.testing.assert_array_equal(np.isnan(both(F.prelu, x, slope)), np.isnan(oracle.prelu(x, slope)))


def softmax_magnitude(x, axis, log):
    x = x.astype(np.float64)
    distance = np.abs(x - x.max(axis=axis, keepdims=True)) if x.size else x
    if log:
        return distance + np.log(np.exp(-distance).sum(axis=axis, keepdims=True)) + 1.0
    return oracle.softmax(x, axis=axis) * (1.0 + distance) if x.size else x


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        *[((3, n), -1) for n in (1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 1000)],
        ((7,), 0),
        ((1,), -1),
        *[((2, 3, 4, 5), axis) for axis in range(-4, 4)],
        ((2, 17, 5, 7), 1),
        ((1, 21, 40, 41), 1),
        ((64, 600), 1),
        ((600, 64), 0),
    ],
)
def test_softmax(isa, name, shape, axis):
    for scale in (1, 30, 1000):
        x = normal(*shape) * scale
        y = both(getattr(F, name), x, axis=axis)
        expected = getattr(oracle, name)(x, axis=axis)
        magnitude = softmax_magnitude(x, axis, name == "log_softmax")
        assert_close(y, expected, ROUNDING, magnitude=magnitude, terms=shape[axis])


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_special_values(isa, name):
    f, reference = getattr(F, name), getattr(oracle, name)
    assert_same_bits(f(normal(3, 5)), f(normal(3, 5), axis=-1))  # the default
    assert both(f, normal(0, 5)).shape == (0, 5)
    x = normal(4, 19)
    plain = f(x)
    x[1, 3] = -np.inf  # probability 0
    x[2, 18] = np.nan  # the row is NaN
    x[3, 0] = np.inf  # inf - inf
    y, expected = both(f, x), reference(x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    assert y[1, 3] == (0 if name == "softmax" else -np.inf)
    assert_same_bits(y[0], plain[0])
    magnitude = np.where(np.isfinite(expected[1]), np.abs(expected[1]), 0) * 8 + (name == "log_softmax")
    assert_close(y[1], expected[1], ROUNDING, magnitude=magnitude, terms=19)
    for value in (3e38, -3e38, 1e-40):
        assert_close(both(f, np.full((2, 4), value, np.float32)), reference(np.zeros((2, 4))), ROUNDING, terms=4)


def test_refused():
    x = normal(2, 5, 3, 4)
    for error, names, call in (
        (ShapeError, ("slope",), lambda: F.prelu(x, normal(5))),
        (ShapeError, ("slope",), lambda: F.prelu(x, normal(1, 2, 5, 3, 4))),
        (ShapeError, ("slope",), lambda: F.prelu(normal(1, 5), normal(2, 5))),  # x does not broadcast to slope
        (CNNEngineError, ("axis",), lambda: F.softmax(x, axis=4)),
        (CNNEngineError, ("axis",), lambda: F.log_softmax(x, axis=-5)),
        (CNNEngineError, ("axis",), lambda: F.softmax(normal(), axis=0)),
        (CNNEngineError, ("approximate",), lambda: F.gelu(x, approximate="erf")),
    ):
        with refused(error, *names):
            call()
