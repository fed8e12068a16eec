"""Windowed, global, adaptive and pyramid pools, and max_unpool, against the oracle."""

from __future__ import annotations

import functools
import math

import numpy as np
import oracle
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import EXACT, ROUNDING, assert_close, assert_same_bits

import cnnengine.functional as F
from cnnengine.errors import CNNEngineError, InputError, ShapeError

from .common import AUTO_PADS, CHANNELS, WIDTHS, both, geometries, name_of, normal, outcome, refused

MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
LP = {1: F.lp_pool1d, 2: F.lp_pool2d, 3: F.lp_pool3d}
UNPOOL = {1: F.max_unpool1d, 2: F.max_unpool2d, 3: F.max_unpool3d}
ADAPTIVE_MAX = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}
ADAPTIVE_AVG = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


def pool_cases():
    """(x shape, kernel, keywords); no window lies wholly inside the padding."""
    for c in CHANNELS:
        yield (2, c, 7, 9), 3, {"stride": 2, "pads": 1}
        yield (1, c, 6, 8), 2, {"stride": 2}
    for k in (1, 2, 3, 5, 7):
        for stride in (1, 2, 3, 4):
            yield (1, 5, 13, 14), k, {"stride": stride, "pads": k // 2}
            yield (1, 5, 13, 14), k, {"stride": stride, "pads": (0, k // 2, k // 3, 0), "ceil_mode": True}
    for stride in (1, 2, 3):
        for dilation in (2, 3, (1, 2)):
            for ceil_mode in (False, True):
                yield (1, 4, 11, 12), 3, {"stride": stride, "dilation": dilation, "pads": 1, "ceil_mode": ceil_mode}
    for auto_pad in AUTO_PADS:
        for k, stride, dilation in ((3, 1, 1), (3, 2, 1), (2, 2, 1), (4, 3, 1), (1, 3, 1), (2, 4, 1), (3, 1, 2), (2, 2, 3)):
            for ceil_mode in (False, True):
                yield (1, 3, 11, 10), k, {"auto_pad": auto_pad, "stride": stride, "dilation": dilation, "ceil_mode": ceil_mode}
    yield (1, 9, 12, 7), (3, 2), {"stride": (2, 3), "pads": (1, 0, 2, 1)}
    yield (1, 9, 12, 7), (1, 4), {"stride": (3, 1), "ceil_mode": True}
    yield (1, 9, 12, 7), (12, 7), {}
    yield (1, 2, 2, 2), 3, {"stride": 2, "ceil_mode": True}  # a ceil window larger than the input
    yield (1, 2, 4, 2), 3, {"stride": 2, "pads": (0, 0, 1, 0), "ceil_mode": True}
    for n in (0, 1, 3):
        yield (n, 5, 6, 7), 2, {"stride": 2, "ceil_mode": True}
        yield (n, 5, 7), 3, {}
        yield (n, 5, 3, 4, 5), 2, {}
    yield (2, 64, 56, 56), 3, {"stride": 2, "pads": 1}  # large enough to be split between threads
    for c in (1, 8, 17):
        yield (2, c, 40), 4, {"stride": 3, "pads": (1, 2)}
        yield (2, c, 42), 3, {"stride": 2, "dilation": 2, "ceil_mode": True}
        yield (1, c, 4, 6, 9), 2, {"stride": 2, "ceil_mode": True}
        yield (1, c, 4, 5, 9), (1, 3, 3), {"stride": (1, 2, 2), "pads": (0, 1, 1, 0, 1, 0)}
    yield (1, 3, 5, 6, 7), (2, 3, 2), {"auto_pad": "SAME_LOWER", "stride": (2, 2, 3), "dilation": (2, 1, 1)}


CASES = {name_of(case): case for case in pool_cases()}


@functools.cache
def max_problem(key):
    x_shape, kernel, kw = CASES[key]
    x = normal(*x_shape)
    return x, *oracle.max_pool(x, kernel, **kw)


@functools.cache
def average_problem(key, count):
    x_shape, kernel, kw = CASES[key]
    x = normal(*x_shape)
    return [oracle.avg_pool(v, kernel, count_include_pad=count, **kw) for v in (x, abs(x))]


@functools.cache
def lp_problem(key, p):
    x_shape, kernel, kw = CASES[key]
    return oracle.lp_pool(normal(*x_shape), kernel, p=p, **kw)


def window_size(x_shape, kernel):
    return kernel ** (len(x_shape) - 2) if isinstance(kernel, int) else math.prod(kernel)


@pytest.mark.parametrize("key", CASES)
def test_max_pool(key, isa):
    _, kernel, kw = CASES[key]
    x, expected, where = max_problem(key)
    pool = MAX[x.ndim - 2]
    y = both(pool, x, kernel, **kw)
    assert_close(y, expected, EXACT)
    z, indices = both(pool, x, kernel, return_indices=True, **kw)
    assert_same_bits(z, y)
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(indices, where)


@pytest.mark.parametrize("key", CASES)
def test_avg_pool(key, isa):
    x_shape, kernel, kw = CASES[key]
    x = normal(*x_shape)
    for count in (False, True):
        expected, magnitude = average_problem(key, count)
        y = both(AVG[x.ndim - 2], x, kernel, count_include_pad=count, **kw)
        assert_close(y, expected, ROUNDING, magnitude=magnitude, terms=window_size(x_shape, kernel))


@pytest.mark.parametrize("key", CASES)
def test_lp_pool(key, isa):
    x_shape, kernel, kw = CASES[key]
    x = normal(*x_shape)
    for p in (1, 2, 3):
        y = both(LP[x.ndim - 2], x, kernel, p=p, **kw)
        assert_close(y, lp_problem(key, p), ROUNDING, terms=window_size(x_shape, kernel))
    assert_same_bits(LP[x.ndim - 2](x, kernel, **kw), LP[x.ndim - 2](x, kernel, p=2, **kw))


def test_pool_widths(isa):
    for width in WIDTHS:
        for c, k, kw in ((5, 3, {"pads": (0, 1)}), (17, 2, {"stride": (1, 2), "pads": (0, 1), "ceil_mode": True})):
            x, kernel = normal(1, c, 2, width), (1, k)
            assert_close(both(F.max_pool2d, x, kernel, **kw), oracle.max_pool(x, kernel, **kw)[0], EXACT)
            magnitude = oracle.avg_pool(abs(x), kernel, **kw)
            assert_close(
                both(F.avg_pool2d, x, kernel, **kw), oracle.avg_pool(x, kernel, **kw), ROUNDING, magnitude=magnitude, terms=k
            )
            assert_close(both(F.lp_pool2d, x, kernel, **kw), oracle.lp_pool(x, kernel, **kw), ROUNDING, terms=k)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_pool_of_ties_takes_the_first(isa, rank):
    x = np.random.default_rng(0).integers(0, 3, (2, 17, *[7] * rank)).astype(np.float32)
    for kw in ({"stride": 2}, {"pads": 1}, {"dilation": 2}):
        y, indices = both(MAX[rank], x, 3, return_indices=True, **kw)
        expected, where = oracle.max_pool(x, 3, **kw)
        assert_close(y, expected, EXACT)
        np.testing.assert_array_equal(indices, where)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("c", [1, 4, 17])
def test_nan_reaches_its_own_windows_alone(isa, rank, c):
    for kernel, kw in ((3, {"stride": 2, "pads": 1}), (2, {}), (2, {"stride": 2})):
        for at in (0, 3, 6):
            x = normal(2, c, *[7] * rank)
            x[(1, c - 1, *[at] * rank)] = np.nan
            expected, _ = oracle.max_pool(x, kernel, **kw)
            y, indices = both(MAX[rank], x, kernel, return_indices=True, **kw)
            assert_close(y, expected, EXACT)
            assert_close(both(MAX[rank], x, kernel, **kw), expected, EXACT)
            np.testing.assert_array_equal(x.ravel()[indices], y)  # an index of a NaN is where a NaN stands
            for pool, reference in ((AVG[rank], oracle.avg_pool), (LP[rank], oracle.lp_pool)):
                np.testing.assert_array_equal(np.isnan(both(pool, x, kernel, **kw)), np.isnan(reference(x, kernel, **kw)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_pool_of_infinities(isa, rank):
    """-inf is a value like others: its index lies inside its window, and padding never wins."""
    for c in (1, 17):
        x = np.full((1, c, *[6] * rank), -np.inf, np.float32)
        y, indices = both(MAX[rank], x, 3, pads=1, stride=2, return_indices=True)
        expected, where = oracle.max_pool(x, 3, pads=1, stride=2)
        assert_close(y, expected, EXACT)
        np.testing.assert_array_equal(indices, where)
        x[(0, c - 1, *[5] * rank)] = np.inf
        assert_close(both(MAX[rank], x, 3, pads=1, stride=2), oracle.max_pool(x, 3, pads=1, stride=2)[0], EXACT)
    x = np.full((1, 3, *[4] * rank), -3e38, np.float32)
    assert_close(both(MAX[rank], x, 2, pads=1), oracle.max_pool(x, 2, pads=1)[0], EXACT)


@given(geometry=geometries(ceil=True), c=st.integers(1, 18), n=st.integers(0, 2), count=st.booleans(), p=st.integers(1, 3))
def test_pool_geometry(isa, geometry, c, n, count, p):
    rank, spatial, kernel, kw = geometry
    x = normal(n, c, *spatial)
    try:
        expected, where = oracle.max_pool(x, kernel, **kw)
    except ValueError:
        for pool in (MAX, AVG, LP):
            with pytest.raises(ShapeError):
                pool[rank](x, kernel, **kw)
        return
    assume((where >= 0).all())  # windows wholly inside the padding have a test of their own
    y, indices = both(MAX[rank], x, kernel, return_indices=True, **kw)
    assert_close(y, expected, EXACT)
    np.testing.assert_array_equal(indices, where)
    terms = math.prod(kernel)
    magnitude = oracle.avg_pool(abs(x), kernel, count_include_pad=count, **kw)
    expected = oracle.avg_pool(x, kernel, count_include_pad=count, **kw)
    y = both(AVG[rank], x, kernel, count_include_pad=count, **kw)
    assert_close(y, expected, ROUNDING, magnitude=magnitude, terms=terms)
    assert_close(both(LP[rank], x, kernel, p=p, **kw), oracle.lp_pool(x, kernel, p=p, **kw), ROUNDING, terms=terms)


@pytest.mark.parametrize(
    ("kernel", "kw"), [(2, {"pads": 2}), (3, {"pads": (0, 3, 0, 3)}), (2, {"dilation": 9, "pads": 4}), (1, {"pads": 1})]
)
def test_windows_wholly_inside_the_padding(isa, kernel, kw):
    """ONNX gives them no value: they are refused, or the other windows are right and no memory outside of x is read."""
    x = normal(1, 5, 4, 4) - 100
    expected, where = oracle.max_pool(x, kernel, **kw)
    real = where >= 0
    assert not real.all()
    y = outcome(lambda: MAX[2](x, kernel, return_indices=True, **kw))
    if y is not None:
        np.testing.assert_array_equal(y[0][real], expected[real].astype(np.float32))
        np.testing.assert_array_equal(y[1][real], where[real])
        assert (y[0][~real] <= np.finfo(np.float32).min).all()
        assert (y[1] < x.size).all()
    y = outcome(lambda: AVG[2](x, kernel, count_include_pad=True, **kw))
    if y is not None:
        expected = oracle.avg_pool(x, kernel, count_include_pad=True, **kw)
        assert_close(y, expected, ROUNDING, magnitude=abs(expected), terms=9)
    y = outcome(lambda: LP[2](x, kernel, **kw))
    if y is not None:
        assert_close(y, oracle.lp_pool(x, kernel, **kw), ROUNDING, terms=9)


# ---- global, adaptive, pyramid -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        *[(2, c, 5, 7) for c in CHANNELS],
        *[(1, 3, w) for w in (1, 2, 15, 16, 17, 54, 1000)],
        (1, 1, 1, 1),
        (0, 4, 3, 3),
        (3, 2, 3, 4, 5),
        (1, 2, 3, 2, 3, 2),
        (1, 512, 7, 7),
        (2, 40, 64, 65),
    ],
    ids=lambda s: "x".join(map(str, s)),
)
def test_global_pools(isa, shape):
    x, terms = normal(*shape), math.prod(shape[2:])
    assert_close(both(F.global_max_pool, x), oracle.global_max_pool(x), EXACT)
    magnitude = oracle.global_avg_pool(abs(x))
    assert_close(both(F.global_avg_pool, x), oracle.global_avg_pool(x), ROUNDING, magnitude=magnitude, terms=terms)
    for p in (1, 2, 3):
        assert_close(both(F.global_lp_pool, x, p=p), oracle.global_lp_pool(x, p=p), ROUNDING, terms=terms)


def test_global_pools_of_nan_and_inf(isa):
    x = normal(2, 17, 5, 6)
    x[0, 3, 4, 5], x[1, 16, 0, 0], x[1, 2] = np.nan, np.inf, -np.inf
    assert_close(both(F.global_max_pool, x), oracle.global_max_pool(x), EXACT)
    for ours, reference in ((F.global_avg_pool, oracle.global_avg_pool), (F.global_lp_pool, oracle.global_lp_pool)):
        expected = reference(x)
        with np.errstate(invalid="ignore"):
            magnitude = np.nan_to_num(reference(abs(x)), posinf=0.0)
        assert_close(both(ours, x), expected, ROUNDING, magnitude=magnitude, terms=30)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("c", [1, 8, 17])
def test_adaptive_pools(isa, rank, c):
    for spatial in ((13, 7, 6), (6, 6, 6), (1, 2, 3), (5, 14, 4)):
        x = normal(2, c, *spatial[:rank])
        for size in (1, 2, 3, 5, 6, 7, tuple(range(2, 2 + rank))):
            y = both(ADAPTIVE_MAX[rank], x, size)
            assert_close(y, oracle.adaptive_max_pool(x, size), EXACT)
            y = both(ADAPTIVE_AVG[rank], x, size)
            magnitude = oracle.adaptive_avg_pool(abs(x), size)
            assert_close(y, oracle.adaptive_avg_pool(x, size), ROUNDING, magnitude=magnitude, terms=math.prod(spatial[:rank]))


def test_adaptive_pools_of_nan_and_of_nothing(isa):
    x = normal(1, 5, 9, 10)
    x[0, 4, 8, 9] = np.nan
    assert_close(both(F.adaptive_max_pool2d, x, (4, 3)), oracle.adaptive_max_pool(x, (4, 3)), EXACT)
    assert both(F.adaptive_avg_pool2d, normal(0, 5, 9, 10), 3).shape == (0, 5, 3, 3)


@given(
    spatial=st.lists(st.integers(1, 13), min_size=1, max_size=3),
    sizes=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    c=st.integers(1, 9),
)
def test_adaptive_geometry(isa, spatial, sizes, c):
    rank = len(spatial)
    x, size = normal(1, c, *spatial), tuple(sizes[:rank])
    assert_close(both(ADAPTIVE_MAX[rank], x, size), oracle.adaptive_max_pool(x, size), EXACT)
    magnitude = oracle.adaptive_avg_pool(abs(x), size)
    assert_close(
        both(ADAPTIVE_AVG[rank], x, size),
        oracle.adaptive_avg_pool(x, size),
        ROUNDING,
        magnitude=magnitude,
        terms=math.prod(spatial),
    )


@pytest.mark.parametrize("mode", ["max", "avg"])
@pytest.mark.parametrize("levels", [(4, 2, 1), (1,), (6, 3, 2, 1), (1, 2, 3), [5]], ids=str)
def test_spatial_pyramid_pool(isa, mode, levels):
    for shape in ((1, 3, 8, 8), (2, 17, 13, 10), (1, 8, 37, 53), (3, 4, 2, 3), (1, 16, 1, 1), (0, 4, 8, 8)):
        x = normal(*shape)
        y = both(F.spatial_pyramid_pool, x, levels=levels, mode=mode)
        assert y.shape == (shape[0], shape[1] * sum(n * n for n in levels))  # whatever H and W are
        expected = oracle.spatial_pyramid_pool(x, levels=levels, mode=mode)
        if mode == "max":
            assert_close(y, expected, EXACT)
        else:
            magnitude = oracle.spatial_pyramid_pool(abs(x), levels=levels, mode=mode)
            assert_close(y, expected, ROUNDING, magnitude=magnitude, terms=math.prod(shape[2:]))
    x = normal(1, 2, 5, 6)
    assert_same_bits(F.spatial_pyramid_pool(x), F.spatial_pyramid_pool(x, levels=(4, 2, 1), mode="max"))


# ---- max_unpool --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("c", [1, 5, 17])
def test_max_unpool_undoes_max_pool(isa, rank, c):
    for kernel, stride, pads in ((2, 2, 0), (3, 3, 0), (3, 3, 1), (2, 3, 0)):
        extent = 4 * stride + kernel - 2 * pads  # what max_unpool infers from five windows
        x = normal(2, c, *[extent] * rank)
        y, indices = MAX[rank](x, kernel, stride=stride, pads=pads, return_indices=True)
        z = both(UNPOOL[rank], y, indices, kernel, stride=stride, pads=pads)
        assert z.shape == x.shape
        assert_close(z, oracle.max_unpool(y, indices, kernel, stride=stride, pads=pads), EXACT)
        assert_same_bits(z.ravel()[indices], y)
        assert np.count_nonzero(z) == y.size  # windows do not overlap, so all values came back, and nothing else
        larger = (*x.shape[:2], *[extent + 1] * rank)
        assert_close(
            both(UNPOOL[rank], y, indices, kernel, stride=stride, pads=pads, output_shape=larger),
            oracle.max_unpool(y, indices, kernel, stride=stride, pads=pads, output_shape=larger),
            EXACT,
        )


def test_max_unpool_of_onnx(isa):
    """maxunpool_export_with_output_shape: indices count in the inferred 4 x 4, not in the 5 x 5 asked for."""
    x = np.float32([[[[5, 6], [7, 8]]]])
    indices = np.array([[[[5, 7], [13, 15]]]])
    y = F.max_unpool2d(x, indices, 2, stride=2, output_shape=(1, 1, 5, 5))
    np.testing.assert_array_equal(y[0, 0], [[0, 0, 0, 0, 0], [0, 5, 0, 6, 0], [0, 0, 0, 0, 0], [0, 7, 0, 8, 0], [0, 0, 0, 0, 0]])
    assert F.max_unpool2d(x[:0], indices[:0], 2, stride=2).shape == (0, 1, 4, 4)


@pytest.mark.parametrize("bad", [-1, 16, 2**31, -(2**62), 2**63 - 1])
def test_max_unpool_refuses_indices_outside_of_the_output(bad):
    indices = np.array([[[[5, 7], [bad, 15]]]], np.int64)
    with pytest.raises(CNNEngineError, match=r"indices|index"):
        F.max_unpool2d(np.ones((1, 1, 2, 2), np.float32), indices, 2, stride=2)


def test_max_unpool_refuses_an_index_of_the_larger_shape():
    indices = np.array([[[[5, 7], [13, 20]]]], np.int64)  # 20 lies inside 5 x 5, not inside the inferred 4 x 4
    with pytest.raises(CNNEngineError, match=r"indices|index"):
        F.max_unpool2d(np.ones((1, 1, 2, 2), np.float32), indices, 2, stride=2, output_shape=(1, 1, 5, 5))


# ---- what is refused ---------------------------------------------------------------------------------------------------

X = normal(1, 4, 8, 8)


@pytest.mark.parametrize("pool", [F.max_pool2d, F.avg_pool2d, F.lp_pool2d])
@pytest.mark.parametrize(
    ("names", "x", "kernel", "kw"),
    [
        (("x",), normal(4, 8, 8), 2, {}),
        (("x",), normal(1, 4, 8, 8, 8), 2, {}),
        (("kernel",), X, 9, {}),
        (("kernel",), X, 9, {"auto_pad": "VALID"}),
        (("kernel",), X, 0, {}),
        (("kernel",), X, (2, -1), {}),
        (("kernel",), X, (2, 2, 2), {}),
        (("stride", "strides"), X, 2, {"stride": 0}),
        (("stride", "strides"), X, 2, {"stride": (1, 2, 3)}),
        (("dilation", "dilations"), X, 2, {"dilation": 0}),
        (("kernel", "dilation"), X, 2, {"dilation": 8}),
        (("pads",), X, 3, {"pads": -1}),
        (("pads",), X, 3, {"pads": (1, 1, 1)}),
        (("auto_pad",), X, 2, {"auto_pad": "FULL"}),
    ],
)
def test_pools_refuse(pool, names, x, kernel, kw):
    with refused(InputError if "auto_pad" in kw and "kernel" not in names else ShapeError, *names):
        pool(x, kernel, **kw)


@pytest.mark.parametrize("huge", [2**31, 2**40, 2**62, 2**63 - 1, 2**64])
def test_huge_geometry_raises(huge):
    for pool in (F.max_pool2d, F.avg_pool2d, F.lp_pool2d):
        for kernel, kw in (
            (2, {"pads": huge}),
            (huge, {}),
            (2, {"dilation": huge}),
            (huge, {"pads": huge}),
            ((1, huge), {"pads": huge}),
        ):
            with pytest.raises((CNNEngineError, MemoryError)):
                pool(X, kernel, **kw)
    for adaptive in (F.adaptive_max_pool2d, F.adaptive_avg_pool2d):
        with pytest.raises((CNNEngineError, MemoryError)):
            adaptive(X, huge)
    with pytest.raises((CNNEngineError, MemoryError)):
        F.spatial_pyramid_pool(X, levels=(huge,))
    y, indices = F.max_pool2d(X, 2, return_indices=True)
    for kernel, kw in ((huge, {}), (2, {"stride": huge}), (2, {"pads": huge}), (2, {"output_shape": (1, 4, huge, huge)})):
        with pytest.raises((CNNEngineError, MemoryError)):
            F.max_unpool2d(y, indices, kernel, **kw)


def test_the_others_refuse():
    for names, call in (
        (("p",), lambda: F.lp_pool2d(X, 2, p=0)),
        (("p",), lambda: F.global_lp_pool(X, p=-1)),
        (("x",), lambda: F.global_avg_pool(normal(3, 4))),
        (("x",), lambda: F.global_max_pool(normal(3))),
        (("x",), lambda: F.adaptive_avg_pool2d(normal(1, 2, 3), 1)),
        (("output_size",), lambda: F.adaptive_max_pool2d(X, 0)),
        (("output_size",), lambda: F.adaptive_max_pool2d(X, (1, 2, 3))),
        (("output_size",), lambda: F.adaptive_avg_pool2d(X, (1, -2))),
        (("x",), lambda: F.spatial_pyramid_pool(normal(1, 2, 3))),
        (("x",), lambda: F.spatial_pyramid_pool(normal(1, 2, 3, 3, 3))),
        (("levels",), lambda: F.spatial_pyramid_pool(X, levels=())),
        (("levels",), lambda: F.spatial_pyramid_pool(X, levels=(4, 0))),
        (("mode",), lambda: F.spatial_pyramid_pool(X, mode="median")),
        (("indices",), lambda: F.max_unpool2d(X, np.zeros((1, 4, 8, 7), np.int64), 2)),
        (("output_shape",), lambda: F.max_unpool2d(X, np.zeros(X.shape, np.int64), 2, stride=2, output_shape=(1, 4, 9, 9))),
        (("output_shape",), lambda: F.max_unpool2d(X, np.zeros(X.shape, np.int64), 2, stride=2, output_shape=(2, 4, 16, 16))),
        (("output_shape",), lambda: F.max_unpool2d(X, np.zeros(X.shape, np.int64), 2, stride=2, output_shape=(16,))),
    ):
        with refused(CNNEngineError, *names):
            call()


@pytest.mark.parametrize("shape", [(1, 3, 0, 5), (1, 3, 0)])
def test_pools_of_no_pixels_are_refused(shape):
    """The maximum, or the mean, of nothing; over all axes they are what ReduceMax and ReduceMean give."""
    x = np.zeros(shape, np.float32)
    for pool, nothing in ((F.global_max_pool, -np.inf), (F.global_avg_pool, np.nan), (F.global_lp_pool, 0)):
        np.testing.assert_array_equal(pool(x), np.full((*shape[:2], *(1,) * (len(shape) - 2)), nothing, np.float32))
    for call in (
        lambda: MAX[len(shape) - 2](x, 1),
        lambda: AVG[len(shape) - 2](x, 1),
        lambda: ADAPTIVE_MAX[len(shape) - 2](x, 2),
        lambda: ADAPTIVE_AVG[len(shape) - 2](x, 2),
    ):
        with pytest.raises(ShapeError):
            call()
