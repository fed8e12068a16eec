"""Chains of a depthwise convolution and the 1x1 convolutions around it: each instruction set, one and two threads, among NaN,
against the oracle, and bit for bit against the kernels one after another."""

from __future__ import annotations

import itertools

import numpy as np
import oracle
import pytest
from oracle import ROUNDING, assert_close, assert_same_bits

from cnnengine._kernels import dispatch, kernel
from cnnengine._kernels import pack as kernels
from cnnengine.layout import NO_HALO, View, aligned_copy, aligned_empty
from cnnengine.operator import Activation

from .launching import blocked, unblocked

GUARD = 512
RELU6 = Activation("clip", 0.0, 6.0)
SILU = Activation("silu")
HARD_SWISH = Activation("hard_swish")
OUT_HALO = ((0, 0), (1, 2), (2, 1))


pytestmark = pytest.mark.usefixtures("isa")


def data(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Chain:
    """Weights of a chain from `c` to `hidden` to `o` channels; c or o is None where that 1x1 convolution is absent."""

    def __init__(self, c, hidden, o, kernel_shape, *, stride=(1, 1), dilation=1, acts=(RELU6, RELU6, None), seed=1):
        self.hidden, self.stride, self.dilation, self.acts = hidden, stride, dilation, acts
        self.kernel_shape = kernel_shape
        self.pads = tuple((k - 1) * dilation // 2 for k in kernel_shape)
        self.we = None if c is None else data(hidden, c, 1, 1, seed=seed) / np.float32(np.sqrt(c))
        self.be = None if c is None else data(hidden, seed=seed + 1)
        self.wd, self.bd = data(hidden, 1, *kernel_shape, seed=seed + 2), data(hidden, seed=seed + 3)
        self.wp = None if o is None else data(o, hidden, 1, 1, seed=seed + 4) / np.float32(np.sqrt(hidden))
        self.bp = None if o is None else data(o, seed=seed + 5)

    @property
    def taps(self):
        ranges = [[t * self.dilation - p for t in range(k)] for k, p in zip(self.kernel_shape, self.pads, strict=True)]
        return list(itertools.product(*ranges))

    def size(self, x):
        return tuple(
            (n + 2 * p - self.dilation * (k - 1) - 1) // s + 1
            for n, p, k, s in zip(x.shape[2:], self.pads, self.kernel_shape, self.stride, strict=True)
        )

    def halo(self, x):
        """What the depthwise taps need around a plane of x's extent."""
        sides = []
        for n, p, k, s, out in zip(x.shape[2:], self.pads, self.kernel_shape, self.stride, self.size(x), strict=True):
            sides.append((p, max(0, (k - 1) * self.dilation - p + (out - 1) * s - (n - 1))))
        return ((0, 0), *sides)

    def run(self, x, residual=None, threads=1):
        """By the kernel; operands lie among NaN."""
        lanes = dispatch.lanes()
        y = (x.shape[0], self.hidden if self.wp is None else self.wp.shape[0], *self.size(x))
        xv = View.planes(x.shape, lanes, NO_HALO if self.we is not None else self.halo(x))
        yv = View.planes(y, lanes, OUT_HALO)
        rv = None if residual is None else View.planes(y, lanes, ((0, 0), (0, 1), (1, 0)))
        packed = [
            None if self.we is None else kernels.pack_conv(self.we, 1, lanes, aligned_empty),
            None if self.we is None else kernels.pack_bias(self.be, self.hidden, aligned_empty),
            kernels.pack_depthwise(self.wd, aligned_empty),
            kernels.pack_bias(self.bd, self.hidden, aligned_empty),
            None if self.wp is None else kernels.pack_conv(self.wp, 1, lanes, aligned_empty),
            None if self.wp is None else kernels.pack_bias(self.bp, self.wp.shape[0], aligned_empty),
        ]
        operands = [blocked(xv, x), *packed, None if rv is None else blocked(rv, residual)]
        buffers = []
        for operand in operands:
            if operand is None:
                buffers.append(None)
                continue
            whole = aligned_empty(operand.size + 2 * GUARD)
            whole[:] = np.nan
            whole[GUARD : GUARD + operand.size] = operand
            buffers.append(whole[GUARD : GUARD + operand.size])
        views = [xv, *(None if p is None else View.plain(p.shape) for p in packed), rv]
        whole = aligned_empty(yv.size + 2 * GUARD)
        whole[:] = np.nan
        launch = kernel("chain").build(
            views,
            [yv],
            taps=self.taps,
            hidden=self.hidden,
            size=self.size(x),
            stride=self.stride,
            expand=self.acts[0],
            depthwise=self.acts[1],
            project=self.acts[2],
        )
        kernel("chain").front(launch, *buffers, whole[GUARD : GUARD + yv.size], threads=threads)
        assert np.isnan(whole[:GUARD]).all() and np.isnan(whole[GUARD + yv.size :]).all()
        return unblocked(yv, whole[GUARD : GUARD + yv.size])

    def steps(self, x, residual=None):
        """By the kernels `conv` and `depthwise`, one after another."""
        lanes = dispatch.lanes()

        def call(name, source, halo, w, packed, bias, taps, stride, size, activation, added=None):
            xv = View.planes(source.shape, lanes, halo)
            yv = View.planes((source.shape[0], w.shape[0], *size), lanes)
            rv = None if added is None else View.planes(added.shape, lanes)
            arrays = [blocked(xv, source), aligned_copy(packed), aligned_copy(kernels.pack_bias(bias, w.shape[0], aligned_empty))]
            arrays.append(None if rv is None else blocked(rv, added))
            launch = kernel(name).build(
                [xv, View.plain(arrays[1].shape), View.plain(arrays[2].shape), rv], [yv],
                taps=[(0, *t) for t in taps], stride=(1, *stride), activation=activation,
            )  # fmt: skip
            out = aligned_empty(yv.size)
            kernel(name).front(launch, *arrays, out)
            return unblocked(yv, out)

        if self.we is not None:
            packed = kernels.pack_conv(self.we, 1, lanes, aligned_empty)
            x = call("conv", x, NO_HALO, self.we, packed, self.be, [(0, 0)], (1, 1), x.shape[2:], self.acts[0])
        packed = kernels.pack_depthwise(self.wd, aligned_empty)
        y = call("depthwise", x, self.halo(x), self.wd, packed, self.bd, self.taps, self.stride, self.size(x), self.acts[1])
        if self.wp is not None:
            packed = kernels.pack_conv(self.wp, 1, lanes, aligned_empty)
            y = call("conv", y, NO_HALO, self.wp, packed, self.bp, [(0, 0)], (1, 1), y.shape[2:], self.acts[2], residual)
        return y

    def expected(self, x, residual=None):
        """From the oracle, in float64: the result, and its magnitude (all terms positive)."""

        def act(y, activation):
            if activation is None:
                return y
            if activation.kind == "clip":
                return np.clip(y, activation.alpha, activation.beta)
            return y / (1 + np.exp(-y)) if activation.kind == "silu" else y * np.clip(y / 6 + 0.5, 0, 1)

        def through(x, residual, sign, act):
            """`sign` is what is done to each term."""
            y = sign(x.astype(np.float64))
            if self.we is not None:
                y = act(oracle.conv(y, sign(self.we.astype(np.float64)), sign(self.be)), self.acts[0])
            pads, options = (*self.pads, *self.pads), {"stride": self.stride, "dilation": self.dilation}
            y = oracle.conv(y, sign(self.wd.astype(np.float64)), sign(self.bd), pads=pads, groups=self.hidden, **options)
            y = act(y, self.acts[1])
            if self.wp is not None:
                y = oracle.conv(y, sign(self.wp.astype(np.float64)), sign(self.bp))
                y = act(y if residual is None else y + sign(residual), self.acts[2])
            return y

        # hard-swish, the steepest of the activations, makes an error up to 1.5 times as large
        return through(x, residual, lambda v: v, act), through(x, residual, np.abs, lambda y, _: 1.5 * y)

    @property
    def terms(self):
        """Terms of all sums that a result depends on in turn."""
        inputs = 0 if self.we is None else self.we.shape[1]
        return inputs + len(self.taps) + (0 if self.wp is None else self.hidden)


CASES = [
    # c, hidden, o, kernel, stride, dilation, height, width
    (16, 96, None, (3, 3), (2, 2), 1, 20, 29),
    (24, 40, None, (3, 3), (1, 1), 1, 37, 15),
    (20, 116, None, (5, 5), (1, 1), 1, 13, 17),
    (9, 24, None, (5, 5), (2, 2), 1, 41, 9),
    (40, 33, None, (7, 7), (1, 1), 1, 9, 30),
    (17, 31, None, (3, 1), (2, 3), 1, 11, 23),
    (16, 16, None, (3, 3), (1, 1), 2, 12, 11),
    (8, 48, None, (1, 1), (2, 2), 1, 7, 8),
    (12, 20, None, (3, 3), (4, 4), 1, 19, 18),
    (None, 32, 16, (3, 3), (1, 1), 1, 30, 29),
    (None, 40, 24, (5, 5), (2, 2), 1, 23, 16),
    (None, 116, 33, (3, 3), (2, 1), 1, 9, 14),
    (None, 7, 5, (7, 7), (1, 1), 1, 8, 9),
    (16, 72, 24, (3, 3), (1, 1), 1, 35, 20),
    (24, 40, 17, (5, 5), (2, 2), 1, 21, 22),
]
ACTS = [(RELU6, RELU6, None), (SILU, HARD_SWISH, SILU), (None, Activation("clip", 0.0, np.inf), RELU6)]


@pytest.mark.parametrize("acts", ACTS, ids=["relu6", "silu", "plain"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_the_oracle_and_the_kernels_alone(case, acts):
    c, hidden, o, kernel_shape, stride, dilation, height, width = case
    chain = Chain(c, hidden, o, kernel_shape, stride=stride, dilation=dilation, acts=acts)
    x = data(2, hidden if c is None else c, height, width, seed=9)
    residual = None if o is None else data(2, o, *chain.size(x), seed=10)
    y = chain.run(x, residual)
    expected, magnitude = chain.expected(x, residual)
    assert_close(y, expected, ROUNDING, magnitude=magnitude, terms=chain.terms)
    assert_same_bits(y, chain.steps(x, residual))
    for threads in (2, 5):
        assert_same_bits(chain.run(x, residual, threads), y)


@pytest.mark.parametrize("case", [(16, 48, None), (None, 48, 24), (16, 48, 24)], ids=str)
def test_many_bands(case):
    """Planes tall enough for several bands; a batch gives the bits of its images."""
    chain = Chain(*case, (3, 3), stride=(1, 1) if case[0] is None else (2, 2), acts=(SILU, RELU6, None))
    x = data(3, case[1] if case[0] is None else case[0], 230, 65, seed=3)
    residual = None if case[2] is None else data(3, case[2], *chain.size(x), seed=4)
    y = chain.run(x, residual)
    assert_same_bits(y, chain.steps(x, residual))
    assert_same_bits(chain.run(x, residual, 3), y)
    for i in range(3):
        assert_same_bits(chain.run(x[i : i + 1], None if residual is None else residual[i : i + 1]), y[i : i + 1])


def test_infinities_and_nan_stay_in_their_windows():
    chain = Chain(16, 32, None, (3, 3), acts=(None, None, None))
    x = data(1, 16, 12, 40)
    x[0, 3, 5, 20] = np.nan
    y = chain.run(x)
    touched = np.zeros((12, 40), bool)
    touched[4:7, 19:22] = True
    assert np.isnan(y[0, :, touched]).all() and np.isfinite(y[0, :, ~touched]).all()


def test_operands_that_do_not_fit():
    lanes = dispatch.lanes()
    x, y = View.planes((1, 16, 8, 8), lanes), View.planes((1, 32, 8, 8), lanes)
    weights = [View.plain((16 * 32,)), View.plain((32,)), View.plain((9 * 32,)), View.plain((32,)), None, None, None]
    taps = list(itertools.product((-1, 0, 1), (-1, 0, 1)))
    build = kernel("chain").build
    build([x, *weights], [y], taps=taps, hidden=32, size=(8, 8))
    for change in ({"size": (8, 7)}, {"hidden": 48}, {"taps": []}, {"stride": (0, 1)}, {"taps": [(1, 0)]}):
        with pytest.raises(ValueError, match="chain"):
            build([x, *weights], [y], **{"taps": taps, "hidden": 32, "size": (8, 8), **change})
    with pytest.raises(ValueError, match="taps reach"):
        build([y, None, None, *weights[2:]], [y], taps=taps, hidden=32, size=(8, 8))
    with pytest.raises(ValueError, match="residual"):
        build([x, *weights[:-1], y], [y], taps=taps, hidden=32, size=(8, 8))
    launch = build([x, *weights], [y], taps=taps, hidden=32, size=(8, 8))
    arrays = [np.zeros(v.size, np.float32) if v is not None else None for v in (x, *weights, y)]
    for short in (0, 1, 2, 3, 4, 8):
        given = list(arrays)
        given[short] = given[short][:8]
        with pytest.raises(ValueError):
            kernel("chain").front(launch, *given)


@pytest.mark.parametrize(("c", "o"), [(8, 5), (20, 40), (33, 16), (70, 100)])
def test_gate_weights(c, o):
    lanes = dispatch.lanes()
    w, gate = data(o, c, 1, 1), data(3, c, 1, 1, seed=2)
    packed = kernels.pack_conv(w, 1, lanes, aligned_empty)
    gv, sv = View.planes(gate.shape, lanes), View.plain((3 * packed.size,))
    scaled = aligned_empty(sv.size)
    scaled[:] = np.nan
    launch = kernel("gate_weights").build([View.plain(packed.shape), gv], [sv], out_channels=o)
    for threads in (1, 2):
        kernel("gate_weights").front(launch, packed, blocked(gv, gate), scaled, threads=threads)
        for i in range(3):
            expected = kernels.pack_conv(w * gate[i].reshape(1, c, 1, 1), 1, lanes, aligned_empty)
            assert np.array_equal(scaled[i * packed.size : (i + 1) * packed.size], expected)
    halo = View.planes(gate.shape, lanes, ((0, 0), (1, 1), (0, 0)))
    for views, out in (
        ([View.plain(packed.shape), halo], sv),
        ([View.plain((packed.size - 1,)), gv], sv),
        ([View.plain(packed.shape), gv], gv),
    ):
        with pytest.raises(ValueError, match="gate_weights"):
            kernel("gate_weights").build(views, [out], out_channels=o)
