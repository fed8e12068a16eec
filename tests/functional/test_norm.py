"""batch, layer, instance and group norm, local_response_norm and dropout against the oracle."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
from oracle import EXACT, ROUNDING, assert_close, assert_same_bits

import cnnengine.functional as F
from cnnengine.errors import CNNEngineError, ShapeError

from .common import CHANNELS, both, normal, refused

SHAPES = [
    *[(2, c, 5, 7) for c in CHANNELS],
    *[(1, 3, w) for w in (1, 2, 15, 16, 17, 31, 54)],
    (2, 6, 3, 4, 5),
    (1, 1, 1, 1),
    (0, 5, 3, 3),
    (3, 32, 28, 30),
]


def shape_id(shape):
    return "x".join(map(str, shape))


def channel_values(c):
    """Scale, bias, mean, variance."""
    return normal(c, seed=1), normal(c, seed=2), normal(c, seed=3), np.square(normal(c, seed=4))


def over(v, x):
    return np.asarray(v, np.float64).reshape(-1, *[1] * (x.ndim - 2))


def standard_magnitude(x, axes, scale, bias, epsilon):
    """(|x| + mean of |x|) / deviation * |scale| + |bias|: what the subtraction of the mean may lose."""
    x = x.astype(np.float64)
    absolute = np.abs(x) + np.abs(x).mean(axis=axes, keepdims=True)
    return absolute / np.sqrt(x.var(axis=axes, keepdims=True) + epsilon) * np.abs(scale) + np.abs(bias)


@pytest.mark.parametrize("shape", [*SHAPES, (4, 7), (3, 17)], ids=shape_id)
@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_batch_norm(isa, shape, epsilon):
    x, (scale, bias, mean, var) = normal(*shape) * 3, channel_values(shape[1])
    y = both(F.batch_norm, x, scale, bias, mean, var, epsilon=epsilon)
    s, b, m, v = (over(a, x) for a in (scale, bias, mean, var))
    magnitude = (np.abs(x) + np.abs(m)) * np.abs(s) / np.sqrt(v + epsilon) + np.abs(b)
    assert_close(y, oracle.batch_norm(x, scale, bias, mean, var, epsilon=epsilon), ROUNDING, magnitude=magnitude)


@pytest.mark.parametrize("shape", SHAPES, ids=shape_id)
def test_instance_norm(isa, shape):
    x, (scale, bias, _, _) = normal(*shape) * 3, channel_values(shape[1])
    for epsilon in (1e-5, 0.5):
        y = both(F.instance_norm, x, scale, bias, epsilon=epsilon)
        magnitude = standard_magnitude(x, tuple(range(2, x.ndim)), over(scale, x), over(bias, x), epsilon)
        expected = oracle.instance_norm(x, scale, bias, epsilon=epsilon)
        assert_close(y, expected, ROUNDING, magnitude=magnitude, terms=math.prod(shape[2:]))


@pytest.mark.parametrize(
    ("shape", "groups"),
    [
        ((2, 12, 5, 7), 1),
        ((2, 12, 5, 7), 3),
        ((2, 12, 5, 7), 12),
        ((1, 32, 3, 3), 8),
        ((1, 34, 6), 2),
        ((2, 6, 2, 3, 4), 2),
        ((0, 6, 4, 4), 2),
        ((1, 48, 1, 1), 4),
        ((2, 64, 28, 28), 32),
    ],
)
def test_group_norm(isa, shape, groups):
    x, (scale, bias, _, _) = normal(*shape) * 3 + 1, channel_values(shape[1])
    for epsilon in (1e-5, 0.5):
        y = both(F.group_norm, x, scale, bias, groups=groups, epsilon=epsilon)
        grouped = x.reshape(shape[0], groups, -1) if shape[0] else x.reshape(0, groups, math.prod(shape[1:]) // groups)
        magnitude = standard_magnitude(grouped, 2, 1.0, 0.0, epsilon).reshape(shape) * np.abs(over(scale, x)) + np.abs(
            over(bias, x)
        )
        expected = oracle.group_norm(x, scale, bias, groups=groups, epsilon=epsilon)
        assert_close(y, expected, ROUNDING, magnitude=magnitude, terms=math.prod(shape[1:]) // groups)


@pytest.mark.parametrize(("shape", "axis"), [((3, 4, 5), 0), ((3, 4, 5), 1), ((3, 4, 5), 2), ((3, 4, 5), -1), ((3, 4, 5), -3)])
@pytest.mark.parametrize("given", ["none", "scale", "bias", "scale and bias"])
def test_layer_norm_axes(isa, shape, axis, given):
    x, normalised = normal(*shape) * 2, shape[axis % 3 :]
    scale = normal(*normalised, seed=1) if "scale" in given else None
    bias = normal(*normalised, seed=2) if "bias" in given else None
    check_layer_norm(x, scale, bias, axis=axis)


def check_layer_norm(x, scale=None, bias=None, *, axis=-1, epsilon=1e-5):
    y = both(F.layer_norm, x, scale, bias, axis=axis, epsilon=epsilon)
    axes = tuple(range(axis % x.ndim, x.ndim))
    absolute = [default if v is None else v.astype(np.float64) for v, default in ((scale, 1.0), (bias, 0.0))]
    magnitude = standard_magnitude(x, axes, *absolute, epsilon)
    expected = oracle.layer_norm(x, scale, bias, axis=axis, epsilon=epsilon)
    assert_close(y, expected, ROUNDING, magnitude=magnitude, terms=math.prod(x.shape[axis % x.ndim :]))


def test_layer_norm_lengths(isa):
    for length in (*range(1, 34), 48, 96, 768, 1000):
        check_layer_norm(normal(5, length) + 2, normal(length, seed=1), normal(length, seed=2))
    check_layer_norm(normal(2, 49, 96), normal(96, seed=1), normal(96, seed=2), epsilon=0.1)
    check_layer_norm(normal(0, 8), normal(8), normal(8))
    check_layer_norm(normal(17))


def test_layer_norm_scale_broadcasts_as_in_onnx(isa):
    x = normal(2, 3, 4, 5)
    check_layer_norm(x, normal(5), normal(4, 1), axis=2)
    check_layer_norm(x, normal(1), normal(3, 1, 5), axis=1)


@pytest.mark.parametrize("offset", [1e3, -1e4])
def test_norms_of_a_large_mean(isa, offset):
    """mean(x*x) - mean(x)**2 has no digits left here; mean((x - mean)**2) has."""
    x = normal(2, 8, 9, 9) + np.float32(offset)
    one, zero = np.ones(8, np.float32), np.zeros(8, np.float32)
    magnitude = standard_magnitude(x, (2, 3), 1.0, 0.0, 1e-5)
    assert_close(both(F.instance_norm, x, one, zero), oracle.instance_norm(x, one, zero), ROUNDING, magnitude=magnitude, terms=81)
    magnitude = standard_magnitude(x.reshape(2, 2, 4, 9, 9), (2, 3, 4), 1.0, 0.0, 1e-5).reshape(x.shape)
    expected = oracle.group_norm(x, one, zero, groups=2)
    assert_close(both(F.group_norm, x, one, zero, groups=2), expected, ROUNDING, magnitude=magnitude, terms=324)
    check_layer_norm(x, axis=1)


def test_norms_of_a_constant_are_the_bias(isa):
    x, (_, bias, _, _) = np.full((2, 6, 5, 5), 0.75, np.float32), channel_values(6)
    expected = np.broadcast_to(bias.reshape(6, 1, 1), x.shape)
    one = np.ones(6, np.float32)
    for y in (both(F.instance_norm, x, one, bias), both(F.group_norm, x, one, bias, groups=2)):
        assert_same_bits(y, np.ascontiguousarray(expected))  # sums of 0.75 are exact, so x - mean is 0


def test_nan_stays_in_its_row(isa):
    x, (scale, bias, mean, var) = normal(2, 17, 5, 5), channel_values(17)
    x[1, 16, 4, 4] = np.nan
    for y, where in (
        (both(F.batch_norm, x, scale, bias, mean, var), (1, 16, 4, 4)),
        (both(F.instance_norm, x, scale, bias), (1, 16)),
        (both(F.layer_norm, x), (1, 16, 4)),
        (both(F.group_norm, x, scale, bias, groups=17), (1, 16)),
    ):
        expected = np.zeros(x.shape, bool)
        expected[where] = True
        np.testing.assert_array_equal(np.isnan(y), expected)
    y = both(F.local_response_norm, x, size=3)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(oracle.local_response_norm(x, size=3)))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 40])
def test_local_response_norm(isa, size):
    for shape in (*SHAPES, (2, 17)):
        x = normal(*shape) * 3
        for kw in ({}, {"alpha": 0.5, "beta": 0.6, "bias": 1.5}, {"alpha": 2.0, "beta": 1.0, "bias": 1.0}):
            expected = oracle.local_response_norm(x, size=size, **kw)
            with np.errstate(divide="ignore", invalid="ignore"):
                log_power = np.nan_to_num(np.log(np.abs(x / expected)))  # beta * log(base): its rounding enters the exponent
            magnitude = np.abs(expected) * (1.0 + np.abs(log_power))
            assert_close(both(F.local_response_norm, x, size=size, **kw), expected, ROUNDING, magnitude=magnitude, terms=size)


def test_dropout_is_the_identity(isa):
    for shape in ((), (7,), (0, 3), (2, 3, 5, 7)):
        x = normal(*shape)
        y = both(F.dropout, x)
        assert_close(y, oracle.dropout(x), EXACT)
        assert not np.shares_memory(x, y)


X, ONE = normal(2, 6, 4, 4), np.ones(6, np.float32)


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("wrong", [normal(5), normal(6, 1), normal(1), normal()], ids=["5", "6x1", "1", "scalar"])
def test_batch_norm_refuses(at, wrong):
    args = [ONE] * 4
    args[at] = wrong
    with refused(ShapeError, ("scale", "bias", "mean", "var")[at]):
        F.batch_norm(X, *args)


def test_the_others_refuse():
    for names, call in (
        (("x",), lambda: F.batch_norm(normal(6), ONE, ONE, ONE, ONE)),
        (("x",), lambda: F.instance_norm(normal(2, 6), ONE, ONE)),
        (("scale",), lambda: F.instance_norm(X, normal(2), ONE)),
        (("bias",), lambda: F.instance_norm(X, ONE, normal(7))),
        (("scale",), lambda: F.group_norm(X, normal(2), ONE, groups=2)),  # per group: GroupNormalization-18
        (("bias",), lambda: F.group_norm(X, ONE, normal(2), groups=2)),
        (("groups",), lambda: F.group_norm(X, ONE, ONE, groups=4)),
        (("groups",), lambda: F.group_norm(X, ONE, ONE, groups=0)),
        (("scale",), lambda: F.layer_norm(X, normal(5))),
        (("scale",), lambda: F.layer_norm(X, normal(2, 6, 4, 4, 4))),
        (("bias",), lambda: F.layer_norm(X, normal(4), normal(4, 2))),
        (("axis",), lambda: F.layer_norm(X, axis=4)),
        (("axis",), lambda: F.layer_norm(X, axis=-5)),
        (("size",), lambda: F.local_response_norm(X, size=0)),
        (("size",), lambda: F.local_response_norm(X, size=-3)),
        (("x",), lambda: F.local_response_norm(normal(6), size=3)),
    ):
        with refused(CNNEngineError, *names):
            call()
