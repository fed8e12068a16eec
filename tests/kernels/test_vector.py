"""Elementwise, reduction and softmax kernels against float64 NumPy, on every instruction set and 1 and 2 threads."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from cnnengine._kernels import ACTIVATIONS, dispatch, kernel
from cnnengine.layout import NO_HALO, Halo, View, aligned_empty
from cnnengine.operator import Activation

INF = math.inf
erf = np.frompyfunc(math.erf, 1, 1)
erfc = np.frompyfunc(math.erfc, 1, 1)


def guarded(values: np.ndarray, shift: int = 0) -> np.ndarray:
    """A flat float32 copy that starts `shift` floats into a NaN-filled buffer and is followed by NaN."""
    values = np.ascontiguousarray(values)
    if values.dtype == bool:
        return values.reshape(-1)
    room = np.full(values.size + shift + 64, np.nan, np.float32)
    room[shift : shift + values.size] = values.reshape(-1)
    return room[shift:]


def run(
    name: str, inputs: list, shape: tuple[int, ...], threads: int, dtype: type = np.float32, shift: int = 0, **params
) -> np.ndarray:
    """A kernel on plain arrays; fails if anything is written past the output."""
    views = [View.plain(a.shape, a.dtype) for a in inputs]
    out = View.plain(shape, dtype)
    k = kernel(name)
    launch = k.build(views, [out], **params)
    if dtype is bool:
        y = np.full(out.size + 64, 7, np.uint8)
        guard = 7
    else:
        y = np.full(out.size + 64, 123.0, np.float32)
        guard = 123.0
    k.front(launch, *[guarded(a, shift) for a in inputs], y.view(np.bool_) if dtype is bool else y, threads=threads)
    assert (y[out.size :] == guard).all()
    return y[: out.size].reshape(shape).astype(dtype)


def to_planes(x: np.ndarray, lanes: int, halo: Halo = NO_HALO) -> tuple[np.ndarray, View]:
    """x in planes; halo, unused lanes and all else NaN."""
    view = View.planes(x.shape, lanes, halo)
    buffer = aligned_empty(view.size)
    buffer[:] = np.nan
    d, h, w = view.dhw
    x5 = x.reshape(view.n, view.c, d, h, w)
    for n in range(view.n):
        for c in range(view.c):
            for z in range(d):
                for r in range(h):
                    start = view.offset + n * view.sn + c // lanes * view.sp + z * view.sd + r * view.sh + c % lanes
                    buffer[start : start + w * lanes : lanes] = x5[n, c, z, r]
    return buffer, view


def from_planes(buffer: np.ndarray, view: View) -> np.ndarray:
    d, h, w = view.dhw
    y = np.empty((view.n, view.c, d, h, w), np.float32)
    for n in range(view.n):
        for c in range(view.c):
            for z in range(d):
                for r in range(h):
                    start = view.offset + n * view.sn + c // view.lanes * view.sp + z * view.sd + r * view.sh + c % view.lanes
                    y[n, c, z, r] = buffer[start : start + w * view.lanes : view.lanes]
    return y.reshape(view.shape)


def assert_halo_zero(buffer: np.ndarray, view: View) -> None:
    """Every float of the buffer that is no pixel is a zero: the halo is all the rest."""
    inside = np.zeros(view.size, bool)
    d, h, w = view.dhw
    for n in range(view.n):
        for b in range(view.blocks):
            for z in range(d):
                for r in range(h):
                    start = view.offset + n * view.sn + b * view.sp + z * view.sd + r * view.sh
                    inside[start : start + w * view.lanes] = True
    assert (buffer[: view.size][~inside] == 0).all()


def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Error in units in the last place of the float32 nearest to `want` (float64); infinite where only one is NaN or infinite."""
    with np.errstate(all="ignore"):
        near = want.astype(np.float32)
        unit = np.spacing(np.abs(np.where(np.isfinite(near), near, np.float32(3.4028235e38)))).astype(np.float64)
        error = np.abs(got.astype(np.float64) - want) / unit
    same = (np.isnan(got) & np.isnan(want)) | (got == near)
    return np.where(same, 0.0, np.where(np.isfinite(error), error, INF))


def samples() -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.concatenate(
        [
            rng.integers(0, 2**32, 30000, dtype=np.uint64).astype(np.uint32).view(np.float32),
            rng.uniform(-4, 4, 20000).astype(np.float32),
            rng.uniform(-20, 20, 20000).astype(np.float32),
            rng.uniform(-110, 95, 20000).astype(np.float32),
            (1 + rng.uniform(-0.3, 0.5, 5000)).astype(np.float32),
            (rng.uniform(0, 1, 3000) * 1e-38).astype(np.float32),
            np.float32([0.0, -0.0, 1.0, -1.0, INF, -INF, np.nan, 0.5, 1.5, 2.5, -0.5, -1.5, 8388607.5, 8388608.0, -8388608.0]),
            np.float32([1e-45, -1e-45, 3.4e38, -3.4e38, 88.72, 88.73, -87.34, -103.97, -103.98, 6.0, -6.0, 3.0, -3.0]),
        ]
    )


def double_sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1.0) / (1 + e)


def double_mish(x: np.ndarray) -> np.ndarray:
    e = np.exp(np.minimum(x, 0))
    f = np.exp(-np.maximum(x, 0))
    below = np.maximum(x, -800) * e * (e + 2) / (e * (e + 2) + 2)
    return np.where(x < 0, below, x * (1 + 2 * f) / (1 + 2 * f + 2 * f * f))


def double_gelu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 100, x, 0.5 * np.clip(x, -40, 200) * erfc(-np.clip(x, -40, 200) / math.sqrt(2)).astype(np.float64))


def double_gelu_tanh(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, -25, None)
    return x * double_sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


A, B = float(np.float32(0.3)), float(np.float32(0.6))
# name, alpha, beta, the function in float64, ulps
FUNCTIONS = {
    "sigmoid": (0, 0, double_sigmoid, 4),
    "tanh": (0, 0, np.tanh, 4),
    "silu": (0, 0, lambda x: np.maximum(x, -800) * double_sigmoid(x), 4),
    "elu": (A, 0, lambda x: np.where(x < 0, A * np.expm1(np.minimum(x, 0)), x), 4),
    "selu": (A, B, lambda x: B * np.where(x < 0, A * np.expm1(np.minimum(x, 0)), x), 4),
    "celu": (0.5, 0, lambda x: np.where(x < 0, 0.5 * np.expm1(np.minimum(x, 0) / 0.5), x), 4),
    "gelu": (0, 0, double_gelu, 6),
    "mish": (0, 0, double_mish, 4),
    "softplus": (0, 0, lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), 4),
    "softsign": (0, 0, lambda x: np.where(np.isinf(x), np.sign(x), x / (1 + np.abs(x))), 4),
    "exp": (0, 0, np.exp, 4),
    "log": (0, 0, np.log, 4),
    "erf": (0, 0, lambda x: erf(x).astype(np.float64), 4),
    "sqrt": (0, 0, np.sqrt, 0.5),
    "reciprocal": (0, 0, lambda x: 1 / x, 0.5),
    "hard_swish": (0, 0, lambda x: x * np.clip(x / 6 + 0.5, 0, 1), None),
    "hard_sigmoid": (A, B, lambda x: np.clip(A * x + B, 0, 1), None),
    "square": (0, 0, np.square, 0.5),
    "affine": (A, B, lambda x: A * x + B, None),
    "leaky_relu": (A, 0, lambda x: np.where(x < 0, A * x, x), 0.5),
    "sin": (0, 0, np.sin, 2),
    "cos": (0, 0, np.cos, 2),
    "tan": (0, 0, np.tan, 4),
    "asin": (0, 0, np.arcsin, 3),
    "acos": (0, 0, np.arccos, 3),
    "atan": (0, 0, np.arctan, 3),
    "sinh": (0, 0, np.sinh, 3),
    "cosh": (0, 0, np.cosh, 3),
    "asinh": (0, 0, np.arcsinh, 1),
    "acosh": (0, 0, np.arccosh, 1),
    "atanh": (0, 0, np.arctanh, 1),
}
QUARTER, ZERO = np.float32(0.25), np.float32(0)
EXACT = {
    "clip": (-0.7, 1.2, lambda x: np.minimum(np.maximum(x, np.float32(-0.7)), np.float32(1.2))),
    "abs": (0, 0, np.abs),
    "neg": (0, 0, np.negative),
    "sign": (0, 0, np.sign),
    "floor": (0, 0, np.floor),
    "ceil": (0, 0, np.ceil),
    "round": (0, 0, np.rint),
    "whole": (0, 0, lambda x: np.where(np.isnan(x), np.float32(0), np.rint(x))),
    "thresholded_relu": (0.25, 0, lambda x: np.where(x > 0.25, x, np.float32(0))),
    "shrink": (0.5, 0.25, lambda x: np.select([x < -0.5, x > 0.5, np.isnan(x)], [x + QUARTER, x - QUARTER, x], ZERO)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(isa: str, name: str) -> None:
    alpha, beta, function, limit = FUNCTIONS[name]
    x = samples()
    y = run("activation", [x], x.shape, 1, activation=Activation(name, alpha, beta))
    with np.errstate(all="ignore"):
        want = function(x.astype(np.float64))
    error = ulps(y, want)
    if limit is None:
        # a sum that may cancel: units of its largest term
        with np.errstate(all="ignore"):
            error = np.where(error > 2, np.abs(y - want) / np.float64(2**-23), 0.0)
        limit = 1
    worst = int(error.argmax())
    assert error[worst] <= limit, f"{name}({x[worst]!r}) = {y[worst]!r}, not {want[worst]!r}: {error[worst]} ulp"


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_arguments_of_many_turns(isa: str, name: str) -> None:
    """Floats next to multiples of pi / 2, on both sides of where the reduction in double ends, and the largest there are."""
    function, limit = FUNCTIONS[name][2:]
    turns = np.concatenate([np.arange(1, 3000), np.random.default_rng(7).integers(1, 1 << 40, 20000)])
    near = (turns * (np.pi / 2)).astype(np.float32)
    edge = np.float32(2**20)
    ends = [np.nextafter(edge, np.float32(0)), edge, np.nextafter(edge, np.float32(INF)), np.float32(3.4028235e38)]
    x = np.concatenate([near, -near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(INF)), np.float32(ends)])
    y = run("activation", [x], x.shape, 1, activation=Activation(name))
    error = ulps(y, function(x.astype(np.float64)))
    assert error.max() <= limit, f"{name}({x[error.argmax()]!r}): {error.max()} ulp"


@pytest.mark.parametrize("name", ["sin", "tan", "asin", "atan", "sinh", "asinh", "atanh"])
def test_odd_functions_keep_the_sign_of_zero(isa: str, name: str) -> None:
    zeros = np.float32([0.0, -0.0])
    y = run("activation", [zeros], (2,), 1, activation=Activation(name))
    np.testing.assert_array_equal(np.signbit(y), [False, True])
    assert not y.any()


def test_gelu_tanh(isa: str) -> None:
    """Relative to |x|: the tail's relative error is that of the argument of its exponential."""
    x = samples()
    y = run("activation", [x], x.shape, 1, activation=Activation("gelu_tanh"))
    with np.errstate(all="ignore"):
        want = double_gelu_tanh(x.astype(np.float64))
        error = np.minimum(ulps(y, want), np.abs(y - want) / (np.abs(x.astype(np.float64)) * 2**-23))
    assert np.nanmax(error) <= 2
    assert (np.isnan(y) == np.isnan(x)).all()
    usual = np.abs(x) < 3
    assert ulps(y[usual], want[usual]).max() <= 16


@pytest.mark.parametrize("alpha", [1.0, 1.702, -1.0])
def test_swish(isa: str, alpha: float) -> None:
    alpha = float(np.float32(alpha))
    x = samples()
    x = x[~np.isinf(x)]
    y = run("activation", [x], x.shape, 1, activation=Activation("swish", alpha))
    with np.errstate(all="ignore"):
        want = x.astype(np.float64) * double_sigmoid(alpha * x.astype(np.float64))
        error = np.minimum(ulps(y, want), np.abs(y - want) / (np.abs(x.astype(np.float64)) * 2**-23))
    assert np.nanmax(error) <= 2
    assert (np.isnan(y) == np.isnan(x)).all()
    ends = np.float32([INF, -INF])
    got = run("activation", [ends], (2,), 1, activation=Activation("swish", alpha))
    np.testing.assert_array_equal(got, {1: [INF, 0], -1: [0, -INF]}[int(np.sign(alpha))])


@pytest.mark.parametrize("name", EXACT)
def test_exact(isa: str, name: str) -> None:
    alpha, beta, function = EXACT[name]
    x = samples()
    y = run("activation", [x], x.shape, 1, activation=Activation(name, alpha, beta))
    with np.errstate(all="ignore"):
        want = function(x)
    np.testing.assert_array_equal(y, want)
    if name not in ("clip", "sign", "whole"):
        np.testing.assert_array_equal(np.signbit(y[~np.isnan(y)]), np.signbit(want[~np.isnan(want)]))


def pow_cases() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(9)
    special = np.float32(
        [0.0, -0.0, 1, -1, 2, -2, 3, 0.5, -0.5, INF, -INF, np.nan, 1e-45, 3e38, -3e38, 16777217, 8388609, -3, 1.0000001]
    )
    x, y = (a.reshape(-1) for a in np.meshgrid(special, special))
    any_bits = rng.integers(0, 2**32, (2, 20000), dtype=np.uint64).astype(np.uint32).view(np.float32)
    bases = [x, any_bits[0], rng.uniform(0, 50, 20000).astype(np.float32), rng.uniform(-9, 9, 2000).astype(np.float32)]
    powers = [y, any_bits[1], rng.uniform(-25, 25, 20000).astype(np.float32), rng.integers(-9, 9, 2000).astype(np.float32)]
    return np.concatenate(bases), np.concatenate(powers)


def test_pow(isa: str) -> None:
    x, y = pow_cases()
    got = run("binary", [x, y], x.shape, 1, op="pow")
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), y.astype(np.float64))
    error = ulps(got, want)
    worst = int(error.argmax())
    assert error[worst] <= 1, f"{x[worst]!r} ** {y[worst]!r} = {got[worst]!r}, not {want[worst]!r}"
    for exponent in (2.0, -1.0, 0.5, 3.0, 0.0):
        unary = run("activation", [x], x.shape, 1, activation=Activation("pow", exponent))
        with np.errstate(all="ignore"):
            assert ulps(unary, np.power(x.astype(np.float64), np.full(x.shape, exponent))).max() <= 1


def test_every_activation_is_tested() -> None:
    assert set(ACTIVATIONS) == {*FUNCTIONS, *EXACT, "gelu_tanh", "swish", "pow"}


@pytest.mark.parametrize("name", ["clip", "gelu", "log", "round", "pow"])
def test_sizes_and_addresses(isa: str, threads: int, name: str) -> None:
    """Around the registers, at every offset from an aligned address: each element as if alone, nothing else touched."""
    lanes = dispatch.lanes()
    x = np.random.default_rng(1).uniform(0.1, 3, 40000).astype(np.float32)
    activation = Activation(name, 0.5, 2.0)
    whole = run("activation", [x], x.shape, threads, activation=activation)
    for n in (0, 1, 2, lanes - 1, lanes, lanes + 1, 2 * lanes - 1, 2 * lanes + 3, 5 * lanes + 1, 16384, 16385, 32769):
        for shift in (0, 1, 3):
            part = run("activation", [x[:n]], (n,), threads, shift=shift, activation=activation)
            np.testing.assert_array_equal(part, whole[:n])


def test_in_place(isa: str, threads: int) -> None:
    x = np.random.default_rng(1).standard_normal(20001).astype(np.float32)
    k = kernel("activation")
    view = View.plain(x.shape)
    launch = k.build([view], [view], activation=Activation("tanh"))
    y = x.copy()
    k.front(launch, y, y, threads=threads)
    np.testing.assert_array_equal(y, run("activation", [x], x.shape, 1, activation=Activation("tanh")))


SHAPES = [
    (1, 1, 1),
    (2, 3, 5),
    (1, 17, 4, 6),
    (2, 33, 7, 7),
    (1, 8, 2, 3, 4),
    (3, 16, 1, 1),
    (1, 20, 60, 30),
    (2, 5),
    (1, 16, 20000),
]
HALOS: list[Halo] = [NO_HALO, ((0, 0), (1, 1), (1, 1)), ((0, 0), (0, 0), (2, 1)), ((0, 0), (2, 0), (0, 0))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("halo", HALOS)
def test_activation_in_planes(isa: str, threads: int, shape: tuple[int, ...], halo: Halo) -> None:
    lanes = dispatch.lanes()
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    buffer, view = to_planes(x, lanes, ((0, 0), (0, 1), (1, 0)))
    out = View.planes(shape, lanes, halo)
    y = aligned_empty(out.size)
    y[:] = 55.0
    k = kernel("activation")
    k.front(k.build([view], [out], activation=Activation("clip", 0.0, INF)), buffer, y, threads=threads)
    np.testing.assert_array_equal(from_planes(y, out), np.maximum(x, 0))
    assert_halo_zero(y, out)


OPS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "min": np.minimum,
    "max": np.maximum,
    "prelu": lambda a, b: np.where(a < 0, a * b, a + np.zeros_like(b)),
}
BROADCASTS = [
    ((7,), (7,)),
    ((), ()),
    ((1,), (5,)),
    ((3, 4, 5), ()),
    ((), (3, 4, 5)),
    ((2, 3, 5, 7), (3, 1, 1)),
    ((3, 1, 1), (2, 3, 5, 7)),
    ((2, 3, 5, 7), (2, 3, 1, 1)),
    ((2, 3, 5, 7), (2, 1, 5, 7)),
    ((2, 3, 5, 7), (7,)),
    ((2, 3, 1, 7), (1, 3, 5, 1)),
    ((4, 1), (1, 37)),
    ((2, 1, 3, 1, 2, 1, 3, 1), (1, 2, 1, 2, 1, 3, 1, 5)),
    ((1, 1, 30, 40, 60), (5, 1, 40, 60)),
    ((1, 50000), (2, 50000)),
    ((1, 120, 70, 3), (1, 1, 1, 3)),
    ((3,), (2, 7000, 3)),
    ((2, 5, 61), (2, 1, 61)),
    ((2, 1, 5), (2, 3, 5)),
    ((0, 4, 3), (3,)),
    ((0, 3), (1, 3)),
    ((3, 0), (3, 1)),
]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shapes", BROADCASTS)
def test_binary_plain(isa: str, threads: int, op: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    rng = np.random.default_rng(2)
    a, b = (np.asarray(rng.standard_normal(s), np.float32) for s in shapes)
    if op == "prelu" and np.broadcast_shapes(*shapes) != shapes[0]:
        pytest.skip("a slope broadcasts one way")
    want = OPS[op](a, b)
    np.testing.assert_array_equal(run("binary", [a, b], want.shape, threads, shift=1, op=op), want)
    fused = run("binary", [a, b], want.shape, threads, op=op, activation=Activation("clip", 0.0, 1.0))
    np.testing.assert_array_equal(fused, np.clip(want, 0, 1))


def test_min_max_nan(isa: str) -> None:
    a, b = (x.reshape(-1) for x in np.meshgrid(*[np.float32([1, 2, np.nan, INF, -INF])] * 2))
    for op in ("min", "max"):
        np.testing.assert_array_equal(run("binary", [a, b], a.shape, 1, op=op), OPS[op](a, b))
        np.testing.assert_array_equal(run("binary", [a, np.float32(np.nan)], a.shape, 1, op=op), np.full(a.shape, np.nan))


OPERANDS = ["same", "scalar", "channels", "images", "image_planes", "pixels", "image_scalars"]


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "prelu"])
@pytest.mark.parametrize("form", OPERANDS)
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 33, 7, 6), (1, 16, 2, 3, 4), (2, 1, 3, 3), (1, 24, 40, 40), (3, 17, 1, 1)])
@pytest.mark.parametrize("halo", HALOS[:2])
def test_binary_planes(isa: str, threads: int, op: str, form: str, shape: tuple[int, ...], halo: Halo) -> None:
    lanes = dispatch.lanes()
    rng = np.random.default_rng(4)
    ones = (1,) * (len(shape) - 2)
    other = {
        "same": shape,
        "scalar": (),
        "channels": (shape[1], *ones),
        "images": (shape[0], shape[1], *ones),
        "image_planes": (shape[0], shape[1], *ones),
        "pixels": (shape[0], 1, *shape[2:]),
        "image_scalars": (shape[0], 1, *ones),
    }[form]
    a = rng.standard_normal(shape).astype(np.float32)
    b = np.asarray(rng.standard_normal(other), np.float32)
    a_buffer, a_view = to_planes(a, lanes, ((0, 0), (1, 0), (0, 2)))
    if form in ("same", "image_planes"):
        b_buffer, b_view = to_planes(b, lanes, ((0, 0), (0, 1), (1, 1)) if form == "same" else ((0, 0), (1, 1), (1, 1)))
    else:
        b_buffer, b_view = guarded(b), View.plain(b.shape)
    out = View.planes(shape, lanes, halo)
    k = kernel("binary")
    for swap in (False, True):
        if swap and op == "prelu":
            continue
        y = aligned_empty(out.size)
        y[:] = 55.0
        pairs = [(a_buffer, a_view), (b_buffer, b_view)]
        if swap:
            pairs.reverse()
        launch = k.build([p[1] for p in pairs], [out], op=op, activation=Activation("leaky_relu", 0.5))
        k.front(launch, *[p[0] for p in pairs], y, threads=threads)
        want = OPS[op](b, a) if swap else OPS[op](a, b)
        np.testing.assert_array_equal(from_planes(y, out), np.where(want < 0, want * np.float32(0.5), want))
        assert_halo_zero(y, out)


def test_bad_geometry_is_refused(isa: str) -> None:
    lanes = dispatch.lanes()
    binary = kernel("binary").build
    plain = View.plain
    with pytest.raises(ValueError, match="broadcast"):
        binary([plain((3,)), plain((4,))], [plain((4,))], op="add")
    with pytest.raises(ValueError, match="broadcast"):
        binary([plain((1,)), plain((1,))], [plain((4,))], op="add")
    with pytest.raises(ValueError, match="broadcast"):
        binary([View.planes((1, 3, 4, 4), lanes), plain((3, 4, 1))], [View.planes((1, 3, 4, 4), lanes)], op="add")
    k = kernel("activation")
    launch = k.build([plain((8,))], [plain((8,))], activation=Activation("exp"))
    with pytest.raises(ValueError, match="32 are needed"):
        k.front(launch, np.zeros(7, np.float32), np.zeros(8, np.float32))


@pytest.mark.parametrize("shapes", BROADCASTS)
def test_compare_and_where(isa: str, threads: int, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    rng = np.random.default_rng(2)
    a, b = (np.asarray(rng.integers(-1, 2, s), np.float32) for s in shapes)
    rules = {
        "equal": np.equal,
        "greater": np.greater,
        "greater_or_equal": np.greater_equal,
        "less": np.less,
        "less_or_equal": np.less_equal,
    }
    for op, function in rules.items():
        want = function(a, b)
        np.testing.assert_array_equal(run("compare", [a, b], want.shape, threads, dtype=bool, op=op), want)
        np.testing.assert_array_equal(run("where", [want, a, b], want.shape, threads), np.where(want, a, b))
        got = run("where", [np.asarray(a > 0), b, np.float32(7)], want.shape, threads)
        np.testing.assert_array_equal(got, np.where(a > 0, b, np.float32(7)))


@pytest.mark.parametrize("shapes", BROADCASTS)
def test_logic(isa: str, threads: int, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    rng = np.random.default_rng(3)
    a, b = (np.asarray(rng.integers(0, 2, s), bool) for s in shapes)
    for op, function in {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}.items():
        want = function(a, b)
        np.testing.assert_array_equal(run("logic", [a, b], want.shape, threads, dtype=bool, op=op), want)


REDUCTIONS = {
    "sum": lambda x, a: x.sum(axis=a),
    "mean": lambda x, a: x.mean(axis=a),
    "max": lambda x, a: x.max(axis=a, initial=-INF),
    "min": lambda x, a: x.min(axis=a, initial=INF),
    "prod": lambda x, a: x.prod(axis=a),
    "l1": lambda x, a: np.abs(x).sum(axis=a),
    "l2": lambda x, a: np.sqrt(np.square(x).sum(axis=a)),
    "sum_square": lambda x, a: np.square(x).sum(axis=a),
    "log_sum": lambda x, a: np.log(x.sum(axis=a)),
    "log_sum_exp": lambda x, a: np.log(np.exp(x).sum(axis=a)),
}
REDUCED = [
    ((5,), (0,)),
    ((), ()),
    ((3, 7), (0,)),
    ((3, 7), (1,)),
    ((3, 7), ()),
    ((2, 3, 4, 5), (1, 2)),
    ((2, 3, 4, 5), (2, 3)),
    ((2, 3, 4, 5), (0, 2)),
    ((2, 3, 4, 5), (1, 3)),
    ((2, 3, 4, 5), (0, 1, 2, 3)),
    ((2, 3, 2, 3, 2, 3, 2), (0, 2, 4, 6)),
    ((2, 3, 2, 3, 2, 3, 2), (1, 3, 5)),
    ((2, 1, 4, 1, 5), (1, 3, 4)),
    ((4, 67, 300), (1,)),
    ((4, 67, 300), (0,)),
    ((3, 2000), (1,)),
    ((2, 100000), (1,)),
    ((64, 513), (0,)),
    ((0, 3), (1,)),
    ((3, 0), (1,)),
    ((3, 0, 4), (1,)),
]


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize(("shape", "axes"), REDUCED)
def test_reduce(isa: str, threads: int, op: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    x = np.asarray(np.random.default_rng(6).uniform(0.5, 1.5, shape), np.float32)
    count = math.prod(shape[a] for a in axes)
    if op == "prod" and count > 500:
        x = x ** np.float32(1 / count)
    if op in ("sum", "mean", "l1", "l2", "max", "min"):
        x = np.asarray(x * np.random.default_rng(7).choice([-1, 1], shape), np.float32)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mean of nothing
        want = np.asarray(REDUCTIONS[op](x.astype(np.float64), axes))
    got = run("reduce", [x], want.shape, threads, shift=1, op=op, axes=axes)
    if op in ("max", "min"):
        np.testing.assert_array_equal(got, want)
        return
    # sums: an error of a few roundings of their largest possible size, however many terms
    scale = np.abs(x).astype(np.float64).sum(axis=axes) if op in ("sum", "l1") else np.abs(want)
    if op == "mean":
        scale = np.abs(x).astype(np.float64).mean(axis=axes) if count else np.abs(want)
    with np.errstate(all="ignore"):
        near = np.abs(got - want) <= 8 * 2**-24 * np.maximum(scale, 1e-30 if op not in ("log_sum", "log_sum_exp") else 1.0)
    assert (near | (np.isnan(got) & np.isnan(want)) | (got == want)).all()


def test_reduce_special_values(isa: str) -> None:
    x = np.float32([[1, np.nan, 3], [INF, 1, -INF], [-INF, -INF, -INF], [1000, 1000, -1000], [INF, 2, 3]])
    for op, want in (
        ("max", [np.nan, INF, -INF, 1000, INF]),
        ("min", [np.nan, -INF, -INF, -1000, 2]),
        ("sum", [np.nan, np.nan, -INF, 1000, INF]),
        ("log_sum_exp", [np.nan, INF, -INF, 1000 + math.log(2), INF]),
    ):
        np.testing.assert_array_equal(run("reduce", [x], (5,), 1, op=op, axes=(1,)), np.float32(want))
        np.testing.assert_array_equal(run("reduce", [x.T], (5,), 1, op=op, axes=(0,)), np.float32(want))


SOFTMAX = [
    ((5,), 0),
    ((3, 1000), 1),
    ((2, 3, 5), 1),
    ((4, 17, 33), 1),
    ((2, 10, 40, 40), 1),
    ((7, 1), 1),
    ((1, 200000), 1),
    ((3, 1), 0),
    ((2, 0, 3), 1),
    ((0, 4), 1),
    ((6, 31), 0),
    ((2, 3, 4), 2),
]


@pytest.mark.parametrize(("shape", "axis"), SOFTMAX)
@pytest.mark.parametrize("log", [False, True])
def test_softmax(isa: str, threads: int, shape: tuple[int, ...], axis: int, log: bool) -> None:
    x = np.random.default_rng(8).normal(0, 5, shape).astype(np.float32)
    x64 = x.astype(np.float64)
    if x.size:
        x64 = x64 - x64.max(axis=axis, keepdims=True)
    with np.errstate(all="ignore"):
        want = x64 - np.log(np.exp(x64).sum(axis=axis, keepdims=True))
    got = run("softmax", [x], shape, threads, shift=1, axis=axis, log=log)
    if log:
        np.testing.assert_allclose(got, want, rtol=4e-7, atol=4e-7)
    else:
        # x - max rounds once, which is a relative error of its exponential
        bound = np.exp(want) * (np.abs(x64) + 12) * 2**-24 + 1e-44
        assert (np.abs(got - np.exp(want)) <= bound).all()
    flat = run("softmax", [x], shape, threads, axis=axis, log=log, flatten=True)
    if x.size:
        rows = x.reshape(math.prod(shape[:axis]), -1)
        np.testing.assert_array_equal(flat.reshape(rows.shape), run("softmax", [rows], rows.shape, 1, axis=1, log=log))


def test_softmax_special_values(isa: str) -> None:
    x = np.float32([[-INF, 0, 0, -INF], [1e38, -1e38, 0, 0], [np.nan, 1, 2, 3], [-INF, -INF, -INF, -INF]])
    want = np.float32([[0, 0.5, 0.5, 0], [1, 0, 0, 0], [np.nan] * 4, [np.nan] * 4])
    np.testing.assert_array_equal(run("softmax", [x], x.shape, 1, axis=1), want)
    np.testing.assert_array_equal(run("softmax", [np.ascontiguousarray(x.T)], x.shape, 1, axis=0), want.T)
