"""float16 and bfloat16: conversions have the bits of NumPy and ml_dtypes, dense layers those of the float32 kernel."""

from __future__ import annotations

import itertools
import math

import ml_dtypes
import numpy as np
import pytest

from cnnengine._kernels import kernel
from cnnengine._kernels.cast import HALVES, narrow, widen
from cnnengine._kernels.dispatch import lanes
from cnnengine._kernels.pack import pack_bias, pack_dense
from cnnengine.layout import View, aligned_empty
from cnnengine.operator import Activation
from cnnengine.packing import PART, HalfPanels, Scratch
from cnnengine.weights import Rounded, Scaled, Widened, cut, widened

from .launching import run

U16, U32, F32 = np.uint16, np.uint32, np.float32
TYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
EVERY = np.arange(1 << 16, dtype=U16)


def floats() -> np.ndarray:
    """Bits of float32: every number of either half size, what lies halfway to the next, and the neighbours of both."""
    rng = np.random.default_rng(0)
    found = [
        rng.integers(0, 1 << 32, 200_000, dtype=np.uint64).astype(U32),
        np.arange(0, 1 << 32, 65_521, dtype=np.uint64).astype(U32),
    ]
    with np.errstate(all="ignore"):
        for dtype in TYPES.values():
            exact = EVERY.view(dtype).astype(F32).view(U32).astype(np.int64)
            halfway = exact + (1 << 12 if dtype == np.float16 else 1 << 15)
            found += [np.clip(bits + step, 0, (1 << 32) - 1).astype(U32) for bits in (exact, halfway) for step in (-1, 0, 1)]
        tiny = (EVERY[:2048].astype(np.float64) + 0.5) * 2.0**-24  # halfway between float16 below its normal ones
        found += [tiny.astype(F32).view(U32), (-tiny).astype(F32).view(U32)]
    return np.concatenate(found)


FLOATS = floats()


def astype(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """NumPy's conversion, whose NaNs of float16 keep their bits: where it has an instruction (aarch64), that makes them quiet."""
    with np.errstate(all="ignore"):
        y = x.astype(dtype)
        nan = np.isnan(x)
    if x.dtype == np.float16 and dtype == F32:
        bits = x.view(U16)[nan].astype(U32)
        y.view(U32)[nan] = (bits & 0x8000) << 16 | 0x7F800000 | (bits & 0x3FF) << 13
    elif x.dtype == F32 and dtype == np.float16:
        bits = x.view(U32)[nan]
        y.view(U16)[nan] = bits >> 16 & 0x8000 | 0x7C00 | np.maximum(bits >> 13 & 0x3FF, 1)
    return y


@pytest.mark.parametrize("kind", HALVES)
def test_every_number_is_widened_to_its_bits(isa: str, kind: str) -> None:
    y = np.empty(EVERY.size, F32)
    widen(EVERY, y, kind)
    np.testing.assert_array_equal(y.view(U32), astype(EVERY.view(TYPES[kind]), F32).view(U32))
    # without a NaN in between too, which other instructions convert
    for bits in (EVERY[np.isfinite(astype(EVERY.view(TYPES[kind]), F32))], EVERY[EVERY % 0x8000 <= 0x7C00][:1000]):
        y = np.empty(bits.size, F32)
        widen(bits, y, kind)
        np.testing.assert_array_equal(y.view(U32), astype(bits.view(TYPES[kind]), F32).view(U32))


@pytest.mark.parametrize("kind", HALVES)
def test_numbers_are_rounded_to_the_nearest(isa: str, kind: str) -> None:
    for bits in (FLOATS, FLOATS[~np.isnan(FLOATS.view(F32))]):
        y = np.empty(bits.size, U16)
        narrow(bits.view(F32), y, kind)
        np.testing.assert_array_equal(y, astype(bits.view(F32), TYPES[kind]).view(U16))


@pytest.mark.parametrize("kind", HALVES)
def test_runs_of_every_length_at_every_place(isa: str, kind: str) -> None:
    """Of what lies around a run nothing is read into it, and nothing is written."""
    rng = np.random.default_rng(1)
    for n, start in itertools.product((*range(68), 1023, 1024, 1025, 2050), (0, 1, 3)):
        x = np.full(n + start + 9, np.nan, F32)
        x[start : start + n] = rng.standard_normal(n)
        y = np.full(n + start + 9, 0x5555, U16)
        narrow(x[start : start + n], y[start : start + n], kind)
        expected = astype(x[start : start + n], TYPES[kind])
        np.testing.assert_array_equal(y[start : start + n], expected.view(U16))
        assert (np.delete(y, slice(start, start + n)) == 0x5555).all()
        z = np.full(n + start + 9, 7, F32)
        widen(y[start : start + n], z[start : start + n], kind)
        np.testing.assert_array_equal(z[start : start + n], expected.astype(F32))
        assert (np.delete(z, slice(start, start + n)) == 7).all()


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="widen: 3 numbers to 4"):
        widen(np.zeros(3, U16), np.zeros(4, F32), "float16")
    with pytest.raises(ValueError, match="narrow: 4 numbers to 3"):
        narrow(np.zeros(4, F32), np.zeros(3, U16), "bfloat16")


OTHERS = [*(np.dtype(t) for t in ("float32", "float64", "int32", "int64", "int8", "uint8", "bool")), *TYPES.values()]
PAIRS = [(a, b) for a, b in itertools.product(OTHERS, OTHERS) if a != b and (a in TYPES.values() or b in TYPES.values())]


def cast(x: np.ndarray, target: np.dtype, threads: int = 1) -> np.ndarray:
    launch = kernel("cast").build((View.plain(x.shape, x.dtype),), (View.plain(x.shape, target),))
    whole = np.full(x.size * target.itemsize + 64, 0x55, np.uint8)
    y = whole[: x.size * target.itemsize].view(target)
    told = [a.view(U16) if a.dtype == TYPES["bfloat16"] else a for a in (x, y)]  # no buffer tells of bfloat16
    launch(*told, threads=threads)
    assert (whole[x.size * target.itemsize :] == 0x55).all()
    return y


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda d: d.name)
def test_casts_between_halves_and_others(isa: str, threads: int, source: np.dtype, target: np.dtype) -> None:
    rng = np.random.default_rng(2)
    for n in (0, 1, 77, 511, 512, 513, 100_003):
        x = rng.uniform(-120, 120, n)
        if source.kind in "ub" or target.kind in "ub":
            x = np.abs(x)
        x = x.astype(source)
        x[::7] = 0
        if source.kind not in "iub" and target.kind not in "iu" and n > 9:
            x[1::7], x[2::7], x[3::7] = np.nan, np.inf, -np.inf
            x[4::7] = astype(np.array(70000.0), source)
        if target.kind not in "iub" and source in (np.int32, np.int64) and n > 9:
            x[1::7], x[2::7], x[3::7] = 65519, 65520, np.iinfo(source).min + 12345
        wide = x.astype(F32) if source == TYPES["bfloat16"] and target.kind in "iu" else x  # of which NumPy has all conversions
        np.testing.assert_array_equal(
            cast(x, target, threads).view(f"u{target.itemsize}"), astype(wide, target).view(f"u{target.itemsize}")
        )


@pytest.mark.parametrize("kind", HALVES)
def test_float64_is_rounded_as_numpy_has_it(isa: str, kind: str) -> None:
    """float16 once, though it goes by float32; bfloat16 twice."""
    exact = astype(EVERY.view(np.float16), np.float64)
    exact = exact[np.isfinite(exact)]
    order = np.unique(exact)
    halfway = (order[1:] + order[:-1]) / 2
    x = np.concatenate([exact, halfway, np.nextafter(halfway, np.inf), np.nextafter(halfway, -np.inf), halfway * (1 + 2.0**-40)])
    x = np.concatenate(
        [
            x,
            [
                65519.999999,
                65520.0,
                1e300,
                -1e300,
                1e-300,
                -1e-300,
                2.0**-25,
                np.nextafter(2.0**-25, 1),
                math.inf,
                -math.inf,
                math.nan,
            ],
        ]
    )
    np.testing.assert_array_equal(cast(x, TYPES[kind]).view(U16), astype(x, TYPES[kind]).view(U16))


def test_views_that_no_cast_takes_are_refused() -> None:
    for source, target in (("float16", "float16"), ("int16", "float16"), ("float16", "uint16"), ("uint16", "float32")):
        with pytest.raises(ValueError, match="cast: "):
            kernel("cast").build((View.plain((3,), np.dtype(source)),), (View.plain((3,), np.dtype(target)),))


# ---------------------------------------------------------------- dense
def packed(w: np.ndarray, kind: str) -> np.ndarray:
    """Panels of weights (O, K), which numbers of `kind` hold, as `build_dense_half` reads them."""
    found = HalfPanels(Widened(astype(w, TYPES[kind])), lanes())(aligned_empty)
    assert found.dtype == U16
    return found


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 7, 8, 9, 13, 40])
def test_dense_gives_the_bits_of_the_float32_kernel(isa: str, threads: int, rows: int, kind: str) -> None:
    rng = np.random.default_rng(rows)
    n = lanes()
    for k, o in itertools.product(
        (1, 3, n, 100), (1, n - 1, n, n + 1, 2 * n - 1, 2 * n, 2 * n + 1, 4 * n, 7 * n + 3, 8 * n, 9 * n, 16 * n + 1)
    ):
        x = rng.standard_normal((rows, k), dtype=F32)
        w = astype(rng.standard_normal((o, k), dtype=F32), TYPES[kind]).astype(F32)
        bias, residual = rng.standard_normal(o, dtype=F32), rng.standard_normal((rows, o), dtype=F32)
        for added, activation in itertools.product(
            (None, residual), (None, Activation("clip", -0.5, 0.75), Activation("sigmoid"))
        ):
            packed_bias = pack_bias(bias, o, aligned_empty)
            (want,) = run("dense", [x, pack_dense(w, aligned_empty), packed_bias, added], [(rows, o)], activation=activation)
            (got,) = run(
                "dense_half",
                [x, packed(w, kind), packed_bias, added],
                [(rows, o)],
                threads=threads,
                activation=activation,
                kind=kind,
            )
            np.testing.assert_array_equal(got.view(U32), want.view(U32))


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("rows", [1, 2, 70])
def test_dense_of_many_chunks(isa: str, threads: int, rows: int, kind: str) -> None:
    rng = np.random.default_rng(9)
    k, o = 700, 1030
    x, w = rng.standard_normal((rows, k), dtype=F32), rng.standard_normal((o, k), dtype=F32)
    (got,) = run(
        "dense_half", [x, packed(w, kind), pack_bias(None, o, aligned_empty), None], [(rows, o)], threads=threads, kind=kind
    )
    wide = astype(w, TYPES[kind]).astype(F32)
    (want,) = run("dense", [x, pack_dense(wide, aligned_empty), pack_bias(None, o, aligned_empty), None], [(rows, o)])
    np.testing.assert_array_equal(got.view(U32), want.view(U32))


def test_dense_keeps_what_is_not_finite(isa: str) -> None:
    """float16 below its normal numbers, infinite and NaN weights."""
    o, k = 3 * lanes() + 1, 5
    w = np.resize(np.float16([6e-8, -6e-8, 1e-5, np.inf, 1, -np.inf, 65504, np.nan, 0, -0.0, 2]), (o, k))
    x = np.float32([[1, 1, 1, 1, 1], [0.5, 2, 1024, 3, -1]])
    bias = pack_bias(None, o, aligned_empty)
    with np.errstate(all="ignore"):
        (want,) = run("dense", [x, pack_dense(w.astype(F32), aligned_empty), bias, None], [(2, o)])
        (got,) = run("dense_half", [x, packed(w, "float16"), bias, None], [(2, o)], kind="float16")
    np.testing.assert_array_equal(got, want)
    assert np.isnan(got).any() and np.isinf(got).any()


def test_dense_half_refuses_what_does_not_fit() -> None:
    bias = View.plain((64,))
    with pytest.raises(ValueError, match="float8"):
        kernel("dense_half").build((View.plain((2, 4)), View.plain((64,), U16), bias, None), (View.plain((2, 3)),), kind="float8")
    with pytest.raises(ValueError, match="dense_half: "):
        kernel("dense_half").build(
            (View.plain((2, 4)), View.plain((64,), U16), bias, None), (View.plain((3, 3)),), kind="float16"
        )
    with pytest.raises(ValueError, match="residual"):
        views = (View.plain((2, 4)), View.plain((64,), U16), bias, View.plain((2, 4)))
        kernel("dense_half").build(views, (View.plain((2, 3)),), kind="float16")
    launch = kernel("dense_half").build(
        (View.plain((2, 4)), View.plain((64,), U16), bias, None), (View.plain((2, 3)),), kind="float16"
    )
    x, y = np.zeros((2, 4), F32), np.zeros((2, 3), F32)
    with pytest.raises(ValueError, match="uint16 is needed"):
        launch(x, np.zeros(64, F32), np.zeros(64, F32), None, y)
    with pytest.raises(ValueError, match="operand 1 has 6 bytes"):
        launch(x, np.zeros(3, U16), np.zeros(64, F32), None, y)


# ---------------------------------------------------------------- weights
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kind", HALVES)
def test_panels_in_parts_are_those_of_the_whole(isa: str, kind: str, transposed: bool) -> None:
    rng = np.random.default_rng(4)
    o, k = 1025, 2 * PART // 4 // 1000
    w = astype(rng.standard_normal((k, o) if transposed else (o, k), dtype=F32), TYPES[kind])
    for weights in (Widened(w), Rounded(w.astype(F32), kind)):
        build = HalfPanels(weights, lanes(), transposed=transposed)
        made, jobs = build.parts(lanes(), aligned_empty) or (None, [])
        assert made is not None and len(jobs) > 1
        scratch = Scratch()
        for job in reversed(jobs):
            job(scratch)
        rows = (w.T if transposed else w).astype(F32)
        expected = np.empty(made.size, U16)
        narrow(pack_dense(rows, aligned_empty), expected, kind)
        if kind == "bfloat16":
            two = o // (2 * lanes()) * 2 * lanes() * k if 0 < o % (2 * lanes()) <= lanes() else expected.size
            expected[:two] = expected[:two].reshape(-1, 2, lanes()).swapaxes(1, 2).reshape(-1)
        np.testing.assert_array_equal(made, expected)
        np.testing.assert_array_equal(build(aligned_empty), expected)


@pytest.mark.parametrize("kind", HALVES)
def test_weights_of_half_the_size(kind: str) -> None:
    dtype = TYPES[kind]
    w = astype(np.random.default_rng(5).standard_normal((40, 500, 3), dtype=F32), dtype)
    raw = np.zeros(w.nbytes + 1, np.uint8)
    raw[1:] = w.reshape(-1).view(np.uint8)
    unaligned = raw[1:].view(dtype).reshape(w.shape)
    for given in (w, unaligned, np.asfortranarray(w)):
        one = Widened(given)
        assert (one.shape, one.dtype, one.nbytes, one.kind) == (w.shape, np.float32, 4 * w.size, kind)
        np.testing.assert_array_equal(np.asarray(one), w.astype(F32))
        np.testing.assert_array_equal(np.asarray(cut(one, 1, 3, 77)), w[:, 3:77].astype(F32))
        assert one.bound(lambda inner: math.nan) == np.abs(w.astype(F32)).max()
        np.testing.assert_array_equal(np.asarray(Scaled(one, np.full((40, 1, 1), 0.1))), (w.astype(np.float64) * 0.1).astype(F32))
    w[3, 4, 1] = -np.inf
    assert Widened(w).bound(lambda inner: 0.0) == math.inf
    w[3, 4, 0] = np.nan
    assert math.isnan(Widened(w).bound(lambda inner: 0.0))
    wide = np.random.default_rng(6).standard_normal((7, 9), dtype=F32)
    rounded = Rounded(wide, kind)
    np.testing.assert_array_equal(np.asarray(rounded), astype(wide, dtype).astype(F32))
    np.testing.assert_array_equal(np.asarray(cut(rounded, 0, 2, 5)), astype(wide, dtype).astype(F32)[2:5])
    assert rounded.bound(lambda inner: float(np.abs(inner).max())) >= np.abs(np.asarray(rounded)).max()
    assert isinstance(widened(w), Widened)
    small = widened(w[:1, :5])
    assert isinstance(small, np.ndarray) and small.dtype == F32
