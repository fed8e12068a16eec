"""The normalisation kernels, each instruction set, one and two threads, among buffers full of NaN, against the oracle."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
from oracle import ROUNDING, assert_close

from cnnengine.operator import Activation, NodeRecord
from cnnengine.ops import norm as ops
from cnnengine.ops.fused import ChannelLayerNorm
from cnnengine.spec import TensorSpec

from .launching import run

HALO = {1: ((0, 0), (0, 0), (2, 1)), 2: ((0, 0), (1, 0), (1, 3)), 3: ((0, 1), (2, 1), (1, 3))}
SHAPES = [(2, 19, 5, 7), (1, 3, 33), (2, 37, 3, 4, 5), (1, 16, 1, 1), (0, 5, 3, 3), (1, 5, 120, 130), (3, 64, 4, 4)]


def data(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def over(v, x):
    return np.asarray(v, np.float64).reshape(-1, *[1] * (x.ndim - 2))


def layouts(shape, *, halo=True):
    """Keywords of `run` for plain and for planes, the latter with and without halos."""
    yield {}
    if 3 <= len(shape) <= 5:
        yield {"planes": (0,), "out_planes": (0,)}
        if halo:
            yield {"planes": (0,), "out_planes": (0,), "halo": HALO[len(shape) - 2], "out_halo": HALO[len(shape) - 2]}


def standard_magnitude(x, axes, scale, bias, epsilon):
    x = x.astype(np.float64)
    absolute = np.abs(x) + np.abs(x).mean(axis=axes, keepdims=True)
    return absolute / np.sqrt(x.var(axis=axes, keepdims=True) + epsilon) * np.abs(scale) + np.abs(bias)


@pytest.mark.parametrize("activation", [None, Activation("clip", 0.0, math.inf), Activation("sigmoid")], ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (4, 7), (3, 41)])
def test_batch_norm(shape, activation, isa, threads):
    x, c = data(*shape) * 3, shape[1]
    scale, bias, mean, var = data(c, seed=1), data(c, seed=2), data(c, seed=3) * 10, np.square(data(c, seed=4))
    want = oracle.batch_norm(x, scale, bias, mean, var)
    s, b, m, v = (over(a, x) for a in (scale, bias, mean, var))
    magnitude = (np.abs(x) + np.abs(m)) * np.abs(s) / np.sqrt(v + 1e-5) + np.abs(b)
    if activation is not None:
        want = np.maximum(want, 0) if activation.kind == "clip" else oracle.sigmoid(want)
        magnitude = magnitude if activation.kind == "clip" else magnitude * want * (1 - want) + want
    for layout in layouts(shape):
        (got,) = run("batch_norm", [x, scale, bias, mean, var], [shape], threads=threads, activation=activation, **layout)
        assert_close(got, want, ROUNDING, magnitude=magnitude)
    op = ops.BatchNormalization(activation=activation)
    assert_close(op.evaluate(x, scale, bias, mean, var)[0], want, ROUNDING, magnitude=magnitude)
    assert op.specs([TensorSpec.of(a) for a in (x, scale, bias, mean, var)])[0].shape == shape


def test_batch_norm_training_reference():
    x, scale, bias, mean, var = data(3, 4, 5, 6), data(4, seed=1), data(4, seed=2), data(4, seed=3), np.square(data(4, seed=4))
    op = ops.BatchNormalization.from_onnx(
        NodeRecord(
            "BatchNormalization", "", 15, {"training_mode": 1, "momentum": 0.8}, ("x", "s", "b", "m", "v"), ("y", "rm", "rv")
        )
    )
    y, running_mean, running_var = op.evaluate(x, scale, bias, mean, var)
    now = x.astype(np.float64)
    m, v = now.mean(axis=(0, 2, 3)), now.var(axis=(0, 2, 3))
    want = oracle.batch_norm(x, scale, bias, m, v)
    assert_close(y, want, ROUNDING, magnitude=np.abs(want) + np.abs(over(bias, x)) * 2)
    np.testing.assert_allclose(running_mean, 0.8 * mean + 0.2 * m, rtol=1e-6)
    np.testing.assert_allclose(running_var, 0.8 * var + 0.2 * v, rtol=1e-6)


@pytest.mark.parametrize("offset", [0, 1e4])
@pytest.mark.parametrize("shape", [s for s in SHAPES if math.prod(s[2:]) > 1])
def test_instance_norm(shape, offset, isa, threads):
    x, c = data(*shape) * 3 + np.float32(offset), shape[1]
    scale, bias = data(c, seed=1), data(c, seed=2)
    want = oracle.instance_norm(x, scale, bias)
    # the deviations are exact up to the rest of the mean: a large mean costs nothing
    magnitude = np.abs(want - over(bias, x)) + np.abs(over(scale, x)) + np.abs(over(bias, x))
    for layout in layouts(shape):
        name, extra = ("channel_norm", {}) if layout else ("row_norm", {"length": math.prod(shape[2:]), "runs": 1})
        (got,) = run(name, [x, scale, bias], [shape], threads=threads, **layout, **extra)
        assert_close(got, want, ROUNDING, magnitude=magnitude, terms=4)
    assert_close(ops.InstanceNormalization().evaluate(x, scale, bias)[0], want, ROUNDING, magnitude=magnitude)


@pytest.mark.parametrize(
    ("shape", "groups"), [((2, 12, 5, 7), 3), ((1, 34, 6), 2), ((2, 64, 28, 28), 32), ((0, 6, 4, 4), 2), ((1, 6, 3, 3, 3), 1)]
)
def test_group_norm(shape, groups, isa, threads):
    x, c = data(*shape) * 3 + 1, shape[1]
    size = c // groups
    scale, bias = data(c, seed=1), data(c, seed=2)
    want = oracle.group_norm(x, scale, bias, groups=groups)
    magnitude = np.abs(want - over(bias, x)) + np.abs(over(scale, x)) + np.abs(over(bias, x))
    length = size * math.prod(shape[2:])
    (got,) = run("row_norm", [x, scale, bias], [shape], threads=threads, length=length, runs=size)
    assert_close(got, want, ROUNDING, magnitude=magnitude, terms=4)
    assert_close(ops.GroupNormalization(groups).evaluate(x, scale, bias)[0], want, ROUNDING, magnitude=magnitude)
    one = [np.repeat(v[:groups], size) for v in (scale, bias)]  # version 18: per group
    want = oracle.group_norm(x, *one, groups=groups)
    magnitude = np.abs(want - over(one[1], x)) + np.abs(over(one[0], x)) + np.abs(over(one[1], x))
    (got,) = run("row_norm", [x, scale[:groups], bias[:groups]], [shape], threads=threads, length=length, runs=1)
    assert_close(got, want, ROUNDING, magnitude=magnitude, terms=4)
    assert_close(
        ops.GroupNormalization(groups, per_group=True).evaluate(x, scale[:groups], bias[:groups])[0],
        want,
        ROUNDING,
        magnitude=magnitude,
    )


@pytest.mark.parametrize("given", [(), ("scale",), ("bias",), ("scale", "bias")])
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 33, 96, 1000, 70001])
def test_layer_norm(length, given, isa, threads):
    x = data(5, length) * 2 + 3
    scale, bias = (data(length, seed=i) if name in given else None for i, name in enumerate(("scale", "bias"), 1))
    want = oracle.layer_norm(x, scale, bias)
    magnitude = standard_magnitude(x, (1,), 1 if scale is None else scale, 0 if bias is None else bias, 1e-5)
    got, mean, inverse = run("row_norm", [x, scale, bias], [x.shape, (5, 1), (5, 1)], threads=threads, length=length)
    assert_close(got, want, ROUNDING, magnitude=magnitude)
    wide = x.astype(np.float64)
    assert_close(mean, wide.mean(axis=1, keepdims=True), ROUNDING)
    if length > 1:
        assert_close(inverse, 1 / np.sqrt(wide.var(axis=1, keepdims=True) + 1e-5), ROUNDING)
    op = ops.LayerNormalization(outputs=(True, True))
    for a, b in zip(op.evaluate(x, scale, bias)[1:], (mean, inverse), strict=True):
        assert_close(a, b.astype(np.float64), ROUNDING, magnitude=np.abs(b) * 4)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("offset", [0, 3, -1e4])
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 33, 96, 1000, 70001])
def test_rms_norm(length, offset, scaled, isa, threads):
    x = data(5, length) * 2 + np.float32(offset)
    scale = data(length, seed=1) if scaled else None
    want = oracle.rms_norm(x, scale)
    got, _, inverse = run("row_norm", [x, scale, None], [x.shape, (5, 1), (5, 1)], threads=threads, length=length, centred=False)
    assert_close(got, want, ROUNDING, magnitude=np.abs(want) * 2)
    wide = x.astype(np.float64)
    root = 1 / np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-5)
    assert_close(inverse, root, ROUNDING)
    op = ops.RMSNormalization(outputs=(False, True))
    y, _, reference = op.evaluate(x, scale)
    assert_close(y, want, ROUNDING, magnitude=np.abs(want) * 2)
    assert_close(reference, root, ROUNDING)
    assert [s.shape for s in op.specs([None if a is None else TensorSpec.of(a) for a in (x, scale)])] == [x.shape, (5, 1), (5, 1)]


@pytest.mark.parametrize("given", [(), ("scale",), ("bias",), ("scale", "bias")])
@pytest.mark.parametrize("shape", [*SHAPES, (2, 96, 3, 43), (1, 1100, 2, 3), (2, 33, 1, 1), (2, 1, 4, 4)])
def test_pixel_norm(shape, given, isa, threads):
    """A layer norm of channels: of each pixel, whatever lies beside it."""
    x, c = data(*shape) * 2 + 30, shape[1]
    scale, bias = (data(c, seed=i) if name in given else None for i, name in enumerate(("scale", "bias"), 1))
    last = np.moveaxis(x, 1, -1)
    want = np.moveaxis(oracle.layer_norm(last, scale, bias), -1, 1)
    magnitude = standard_magnitude(x, (1,), 1 if scale is None else over(scale, x), 0 if bias is None else over(bias, x), 1e-5)
    for layout in layouts(shape):
        if layout:
            (got,) = run("pixel_norm", [x, scale, bias], [shape], threads=threads, **layout)
            assert_close(got, want, ROUNDING, magnitude=magnitude)
    op = ChannelLayerNorm()
    inputs = [x] if not given else [x, scale, bias]
    assert_close(op.evaluate(*inputs)[0], want, ROUNDING, magnitude=magnitude)
    assert op.specs([None if a is None else TensorSpec.of(a) for a in inputs])[0].shape == shape


def test_pixel_norm_refuses_what_does_not_fit():
    x = data(2, 20, 4, 4)
    with pytest.raises(ValueError, match="pixel_norm"):
        run("pixel_norm", [x, None, None], [x.shape])
    with pytest.raises(ValueError, match="20 are needed"):
        run("pixel_norm", [x, data(19), None], [x.shape], planes=(0,), out_planes=(0,))
    with pytest.raises(ValueError, match="norm"):
        run("pixel_norm", [x, None, None], [(2, 20, 4, 5)], planes=(0,), out_planes=(0,))


@pytest.mark.parametrize(
    "kw", [{}, {"alpha": 0.5, "beta": 0.6, "bias": 1.5}, {"alpha": 2.0, "beta": 1.0}, {"alpha": 2.0, "beta": 0.5}], ids=str
)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 40])
def test_lrn(size, kw, isa, threads):
    kw = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0, **kw}
    for shape in (*SHAPES, (2, 17)):
        x = data(*shape) * 3
        want = oracle.local_response_norm(x, size=size, **kw)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_power = np.nan_to_num(np.log(np.abs(x / want)))  # beta * log(base): its rounding enters the exponent
        magnitude = np.abs(want) * (1 + np.abs(log_power))
        for layout in layouts(shape):
            (got,) = run("lrn", [x], [shape], threads=threads, size=size, **kw, **layout)
            assert_close(got, want, ROUNDING, magnitude=magnitude, terms=size)
        assert_close(ops.LRN(size, **kw).evaluate(x)[0], want, ROUNDING, magnitude=magnitude)


def test_nan_stays_in_its_row(isa):
    x = data(2, 17, 5, 5)
    x[1, 16, 4, 4] = np.nan
    one = np.ones(17, np.float32)
    for layout in layouts(x.shape):
        name, extra = ("channel_norm", {}) if layout else ("row_norm", {"length": 25, "runs": 1})
        (got,) = run(name, [x, one, one], [x.shape], **layout, **extra)
        assert np.isnan(got[1, 16]).all() and np.count_nonzero(np.isnan(got)) == 25
        (got,) = run("batch_norm", [x, one, one, one, one], [x.shape], activation=Activation("clip", 0.0, 6.0), **layout)
        assert np.isnan(got[1, 16, 4, 4]) and np.count_nonzero(np.isnan(got)) == 1
        (got,) = run("lrn", [x], [x.shape], size=3, alpha=1.0, beta=0.75, bias=1.0, **layout)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(oracle.local_response_norm(x, size=3)))


def test_builders_refuse_what_does_not_fit():
    x, six, five = data(1, 6, 4, 4), data(6), data(5)
    for name, arrays, out, extra in (
        ("batch_norm", [x, six, six, five, six], x.shape, {}),
        ("batch_norm", [x, six, six, six, six], (1, 6, 4, 5), {}),
        ("row_norm", [x, five, five], x.shape, {"length": 16}),
        ("row_norm", [x, six, six], x.shape, {"length": 15, "runs": 1}),
        ("row_norm", [x, six, six], x.shape, {"length": 16, "runs": 3}),
        ("row_norm", [x, six, five], x.shape, {"length": 16, "runs": 1}),
        ("lrn", [x], x.shape, {"size": 0, "alpha": 1.0, "beta": 0.75, "bias": 1.0}),
        ("channel_norm", [x, six, six], x.shape, {}),
    ):
        with pytest.raises(ValueError):
            run(name, arrays, [out], **extra)


def test_mean_variance_and_lp_normalisation_references():
    x = data(2, 3, 4, 5) + 1
    wide = x.astype(np.float64)
    mean, deviation = wide.mean(axis=(0, 2, 3), keepdims=True), wide.std(axis=(0, 2, 3), keepdims=True)
    np.testing.assert_allclose(
        ops.MeanVarianceNormalization().evaluate(x)[0], (wide - mean) / (deviation + 1e-9), rtol=1e-5, atol=1e-6
    )
    x[:, 1] = 0
    for p in (1, 2):
        got = ops.LpNormalization(axis=1, p=p).evaluate(x)[0]
        np.testing.assert_allclose(got, x / np.linalg.norm(x.astype(np.float64), ord=p, axis=1, keepdims=True), rtol=1e-6)
    assert not ops.LpNormalization(axis=3).evaluate(x)[0][:, 1].any()  # a norm of 0
