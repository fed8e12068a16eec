"""conv1d/2d/3d and conv_transpose1d/2d/3d against the oracle."""

from __future__ import annotations

import functools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import ROUNDING, assert_close, assert_same_bits

import cnnengine.functional as F
from cnnengine.errors import CNNEngineError, InputError, ShapeError
from cnnengine.ops.conv import Conv

from .common import AUTO_PADS, CHANNELS, WIDTHS, both, geometries, name_of, normal, refused

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def check_conv(x, w, bias=None, **kw):
    y = both(CONV[x.ndim - 2], x, w, bias, **kw)
    magnitude = oracle.conv(abs(x), abs(w), None if bias is None else abs(bias), **kw)
    assert_close(y, oracle.conv(x, w, bias, **kw), ROUNDING, magnitude=magnitude, terms=math.prod(w.shape[1:]) + 1)


def check_transpose(x, w, bias=None, **kw):
    y = both(TRANSPOSE[x.ndim - 2], x, w, bias, **kw)
    magnitude = oracle.conv_transpose(abs(x), abs(w), None if bias is None else abs(bias), **kw)
    terms = x.shape[1] // kw.get("groups", 1) * math.prod(w.shape[2:]) + 1
    assert_close(y, oracle.conv_transpose(x, w, bias, **kw), ROUNDING, magnitude=magnitude, terms=terms)


def dilated_cases(n=2):
    """Dilations so large that whole regions of the output meet padding alone at some taps."""
    yield (n, 20, 14, 13), (40, 20, 3, 3), {"dilation": 6, "pads": 6}
    yield (n, 20, 14, 13), (40, 20, 3, 3), {"dilation": 12, "pads": 12}
    yield (n, 20, 14, 13), (40, 20, 3, 3), {"dilation": (18, 5), "pads": (18, 5)}
    yield (n, 20, 15, 13), (24, 20, 3, 3), {"dilation": 9, "pads": 9, "stride": 2}
    yield (n, 20, 9, 30), (24, 20, 3, 2), {"dilation": (1, 20), "pads": (1, 20, 1, 3)}
    yield (n, 20, 40), (24, 20, 3), {"dilation": 25, "pads": (25, 30)}
    yield (n, 10, 5, 6, 7), (12, 10, 3, 1, 3), {"dilation": (4, 1, 5), "pads": (4, 0, 5)}
    yield (n, 64, 10, 10), (64, 32, 3, 3), {"dilation": 7, "pads": 7, "groups": 2}
    yield (n, 8, 4, 4), (8, 8, 3, 3), {"dilation": 6, "pads": 20}  # output that no tap reaches


def conv_cases():
    """(x shape, w shape, keywords)."""
    for c in CHANNELS:
        yield (2, c, 6, 9), (17, c, 3, 3), {"pads": 1}
        yield (1, 5, 7, 8), (c, 5, 3, 3), {}
        yield (1, c, 5, 7), (CHANNELS[-1 - CHANNELS.index(c)], c, 1, 1), {}
        yield (2, c, 6, 15), (c, 1, 3, 3), {"groups": c, "pads": 1}  # depthwise
        yield (1, c, 7, 9), (2 * c, 1, 3, 3), {"groups": c, "stride": 2, "pads": (1, 0, 0, 1)}  # depthwise, multiplier 2
    yield (1, 3, 23, 21), (20, 3, 7, 7), {"stride": 2, "pads": 3}
    yield (1, 3, 35, 35), (33, 3, 11, 11), {"stride": 4, "pads": 2}
    for k in (1, 3, 5, 7):
        for stride in (1, 2, 3, 4):
            yield (1, 6, 13, 14), (19, 6, k, k), {"stride": stride, "pads": k // 2}
    yield (1, 4, 9, 10), (6, 4, 1, 7), {"pads": (0, 3)}
    yield (1, 4, 9, 10), (6, 4, 7, 1), {"pads": (3, 0)}
    yield (1, 16, 9, 10), (16, 16, 2, 3), {"stride": (1, 3)}
    yield (1, 16, 9, 10), (16, 16, 4, 2), {"stride": (3, 1), "pads": (0, 1, 2, 3)}
    yield (1, 8, 6, 6), (8, 8, 3, 3), {"pads": (2, 0, 0, 1)}
    yield (1, 8, 4, 5), (8, 8, 3, 3), {"pads": 5}  # windows wholly inside the padding see zeros
    yield (1, 8, 5, 5), (8, 1, 3, 3), {"pads": (4, 0, 0, 6), "groups": 8}
    yield (2, 16, 8, 7, 8), (16, 16, 1, 1, 1), {}
    yield from dilated_cases()
    for dilation in (2, 3, (1, 2), (3, 1)):
        yield (1, 5, 12, 13), (18, 5, 3, 3), {"dilation": dilation, "pads": 2}
        yield (1, 17, 12, 13), (17, 1, 3, 3), {"dilation": dilation, "pads": 2, "groups": 17}
        yield (1, 4, 12, 13), (8, 4, 3, 2), {"dilation": dilation, "stride": 2}
    for auto_pad in AUTO_PADS:
        for k, stride, dilation in ((3, 1, 1), (3, 2, 1), (2, 2, 1), (4, 3, 1), (1, 3, 1), (2, 4, 1), (3, 1, 2), (2, 2, 3)):
            kw = {"auto_pad": auto_pad, "stride": stride, "dilation": dilation}
            yield (1, 3, 11, 10), (9, 3, k, k), kw
            yield (1, 16, 11, 10), (16, 1, k, k), {**kw, "groups": 16}
    for groups, c, m in ((2, 8, 6), (3, 12, 48), (4, 32, 64), (2, 34, 62), (5, 15, 10), (8, 128, 128), (3, 3, 51)):
        yield (2, c, 7, 8), (m, c // groups, 3, 3), {"groups": groups, "pads": 1}
        yield (1, c, 7, 8), (m, c // groups, 1, 1), {"groups": groups}
    for n in (0, 1, 3):
        yield (n, 5, 6, 7), (18, 5, 3, 3), {"pads": 1}
        yield (n, 16, 6, 7), (16, 1, 3, 3), {"groups": 16}
        yield (n, 7, 6, 7), (3, 7, 1, 1), {}
        yield (n, 7, 20), (3, 7, 5), {}
        yield (n, 2, 3, 6, 7), (3, 2, 3, 3, 3), {}
    # the whole input is one window; one row; one column
    yield (3, 16, 5, 5), (120, 16, 5, 5), {}
    yield (1, 33, 1, 40), (17, 33, 1, 3), {"pads": (0, 1)}
    yield (1, 33, 40, 1), (17, 33, 3, 1), {"pads": (1, 0)}
    # large enough to be split between threads, K large enough for several blocks
    yield (1, 64, 28, 28), (72, 64, 3, 3), {"pads": 1}
    yield (1, 3, 112, 112), (32, 3, 3, 3), {"stride": 2, "pads": 1}
    yield (1, 260, 14, 14), (130, 260, 1, 1), {}
    yield (1, 256, 7, 7), (64, 256, 3, 3), {"pads": 1}
    yield (2, 96, 56, 56), (96, 1, 3, 3), {"groups": 96, "pads": 1}
    # 1-D
    for c in (1, 3, 8, 16, 17, 33):
        yield (2, c, 50), (16, c, 5), {"stride": 2, "pads": (1, 3)}
        yield (1, c, 31), (c, 1, 3), {"groups": c, "dilation": 2, "pads": 2}
    yield (1, 1, 2000), (32, 1, 80), {"stride": 4, "pads": 38}
    yield (1, 4, 40), (8, 2, 3), {"groups": 2, "auto_pad": "SAME_LOWER", "stride": 2}
    # 3-D
    for c in (1, 3, 8, 16, 17, 33):
        yield (1, c, 4, 5, 9), (18, c, 3, 3, 3), {"pads": 1}
        yield (1, c, 4, 5, 9), (c, 1, 2, 3, 3), {"groups": c, "stride": (1, 2, 2), "pads": (0, 1, 1, 1, 1, 0)}
    yield (1, 4, 5, 6, 7), (6, 2, 1, 3, 2), {"groups": 2, "dilation": (1, 2, 3), "auto_pad": "SAME_UPPER"}
    yield (1, 3, 8, 30, 30), (24, 3, 3, 3, 3), {"pads": 1, "stride": (1, 2, 2)}


@functools.cache
def conv_problem(key):
    """Arrays and what the oracle makes of them, once for all instruction sets."""
    x_shape, w_shape, kw = CONV_CASES[key]
    x, w, bias = normal(*x_shape), normal(*w_shape, seed=1), normal(w_shape[0], seed=2)
    return x, w, bias, oracle.conv(x, w, bias, **kw), oracle.conv(abs(x), abs(w), abs(bias), **kw)


CONV_CASES = {name_of(case): case for case in conv_cases()}


@pytest.mark.parametrize("key", CONV_CASES)
def test_conv(key, isa):
    x, w, bias, expected, magnitude = conv_problem(key)
    kw = CONV_CASES[key][2]
    y = both(CONV[x.ndim - 2], x, w, bias, **kw)
    assert_close(y, expected, ROUNDING, magnitude=magnitude, terms=math.prod(w.shape[1:]) + 1)


@pytest.mark.parametrize("k", [1, 3])
def test_conv_widths(isa, k):
    for width in WIDTHS:
        check_conv(normal(1, 5, 3, width), normal(17, 5, k, k), normal(17), pads=k // 2)
        check_conv(normal(1, 19, 3, width), normal(19, 1, k, k), normal(19), pads=k // 2, groups=19)
        check_conv(normal(1, 16, 2, width), normal(33, 16, 1, k), pads=(0, k // 2))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_without_bias(isa, rank):
    check_conv(normal(2, 5, *[6] * rank), normal(7, 5, *[3] * rank))
    check_conv(normal(2, 5, *[6] * rank), normal(5, 1, *[3] * rank), groups=5)


def test_conv_takes_scalars_tuples_and_both_forms_of_pads(isa):
    x, w = normal(1, 3, 9, 9), normal(5, 3, 3, 3)
    y = F.conv2d(x, w, stride=2, pads=1, dilation=2)
    for pads in ((1, 1), (1, 1, 1, 1), [1, 1]):
        assert_same_bits(y, F.conv2d(x, w, stride=(2, 2), pads=pads, dilation=[2, 2]))
    assert_same_bits(F.conv2d(x, w, pads=(1, 2)), F.conv2d(x, w, pads=(1, 2, 1, 2)))
    x, w = normal(1, 3, 9), normal(5, 3, 3)
    assert_same_bits(F.conv1d(x, w, pads=2), F.conv1d(x, w, pads=(2, 2)))
    assert_same_bits(F.conv1d(x, w, pads=(2,)), F.conv1d(x, w, pads=(2, 2)))
    assert_same_bits(F.conv1d(x, w, stride=np.int64(2)), F.conv1d(x, w, stride=2))


def test_conv_weights_may_change_between_calls(isa):
    """The same array with other values: nothing packed may be taken from the call before."""
    x, w = normal(1, 8, 6, 6), normal(16, 8, 3, 3)
    first = F.conv2d(x, w)
    w *= 2
    assert_same_bits(F.conv2d(x, w), first * np.float32(2))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_conv_nan_and_inf_reach_their_own_windows_alone(isa, rank, value):
    for c, m, k in ((3, 17, 3), (16, 16, 3), (33, 5, 1), (5, 20, 2)):
        x, w, bias = normal(2, c, *[7] * rank), normal(m, c, *[k] * rank), normal(m)
        plain = both(CONV[rank], x, w, bias, pads=1)
        x[(1, c - 1, *[3] * rank)] = value
        y = both(CONV[rank], x, w, bias, pads=1)
        expected = oracle.conv(x, w, bias, pads=1)
        untouched = np.isfinite(expected)
        assert not untouched.all()
        assert_same_bits(y[untouched], plain[untouched])
        np.testing.assert_array_equal(y[~untouched], expected[~untouched])


@pytest.mark.parametrize(
    ("groups", "c", "m", "k"), [(2, 2, 2, 3), (3, 9, 12, 3), (4, 4, 8, 3), (17, 17, 17, 3), (16, 16, 32, 1), (2, 32, 32, 1)]
)
def test_conv_nan_in_one_group_stays_there(isa, groups, c, m, k):
    x, w, bias = normal(1, c, 6, 7), normal(m, c // groups, k, k), normal(m)
    plain = both(F.conv2d, x, w, bias, groups=groups)
    per_group = m // groups
    for bad in {0, groups - 1}:
        dirty = x.copy()
        dirty[:, bad * (c // groups) : (bad + 1) * (c // groups)] = np.nan
        y = both(F.conv2d, dirty, w, bias, groups=groups)
        mine = np.zeros(m, bool)
        mine[bad * per_group : (bad + 1) * per_group] = True
        assert np.isnan(y[:, mine]).all()
        assert_same_bits(y[:, ~mine], plain[:, ~mine])
        dirty_w, dirty_bias = w.copy(), bias.copy()
        dirty_w[mine] = np.inf
        dirty_bias[mine] = np.nan
        assert_same_bits(both(F.conv2d, x, dirty_w, dirty_bias, groups=groups)[:, ~mine], plain[:, ~mine])


@pytest.mark.parametrize(("x_shape", "w_shape", "kw"), list(dilated_cases(3)), ids=str)
def test_regions_by_themselves(isa, monkeypatch, x_shape, w_shape, kw):
    """The regions of large dilations as calls of their own, which small layers are not cut into otherwise."""
    monkeypatch.setattr("cnnengine.ops.conv_choice.CALL_PRODUCTS", 0)
    check_conv(normal(*x_shape), normal(*w_shape, seed=1), normal(w_shape[0], seed=2), **kw)


def transpose_cases():
    for c in CHANNELS:
        yield (1, c, 4, 6), (c, 5, 3, 3), {"stride": 2}
        yield (1, 3, 4, 6), (3, c, 2, 2), {"stride": 2}
        yield (2, c, 3, 5), (c, 1, 3, 3), {"stride": 2, "pads": 1, "groups": c}
    for width in (20, 21, 31, 64):  # phases of a depthwise one, wider than a tile has pixels
        yield (1, 19, 3, width), (19, 1, 3, 3), {"stride": 2, "pads": 1, "groups": 19}
        yield (2, 8, 3, width), (8, 1, 4, 4), {"stride": 2, "pads": (1, 1, 0, 1), "groups": 8}
        yield (1, 5, width), (5, 1, 3), {"stride": 3, "groups": 5}
    for k in (1, 2, 3, 4):
        for stride in (1, 2, 3, 4):
            yield (1, 5, 4, 5), (5, 6, k, k), {"stride": stride}
            for auto_pad in ("SAME_UPPER", "SAME_LOWER", "VALID"):
                yield (1, 2, 4, 5), (2, 3, k, k), {"stride": stride, "auto_pad": auto_pad}
    yield (1, 4, 5, 6), (4, 3, 3, 3), {"pads": (0, 1, 2, 1)}
    yield (1, 4, 5, 6), (4, 3, 3, 3), {"stride": 2, "pads": 1, "output_padding": 1}
    yield (1, 4, 5, 6), (4, 3, 3, 3), {"stride": (2, 3), "pads": (1, 0, 0, 2), "output_padding": (1, 2)}
    yield (1, 4, 5, 6), (4, 3, 3, 2), {"dilation": (2, 3), "stride": 2}
    yield (1, 4, 5, 6), (4, 3, 4, 4), {"dilation": 2, "pads": 3, "output_padding": 1}
    for auto_pad in ("NOTSET", "SAME_UPPER", "SAME_LOWER"):
        for wanted in ((10, 12), (11, 13), (9, 10), (8, 13)):
            yield (1, 3, 5, 6), (3, 4, 3, 3), {"stride": 2, "output_shape": wanted, "auto_pad": auto_pad}
    yield (1, 3, 5, 6), (3, 4, 3, 3), {"stride": 2, "output_shape": (10, 12), "pads": 1}  # which it overrides
    yield (1, 3, 5, 6), (3, 4, 3, 3), {"stride": 2, "output_shape": (11, 13), "output_padding": 1}
    yield (1, 3, 5, 6), (3, 4, 2, 2), {"stride": 3, "output_shape": (15, 18)}  # one more than there is
    for groups, c, m in ((2, 8, 3), (3, 12, 16), (4, 4, 2), (2, 34, 17)):
        yield (1, c, 4, 5), (c, m, 3, 3), {"groups": groups, "stride": 2}
    for n in (0, 3):
        yield (n, 4, 3, 5), (4, 3, 3, 3), {"stride": 2}
        yield (n, 4, 5), (4, 3, 3), {}
    yield (1, 48, 14, 14), (48, 24, 2, 2), {"stride": 2}
    yield (1, 32, 12, 12), (32, 20, 4, 4), {"stride": 2, "pads": 1}
    for c in (1, 8, 17):
        yield (2, c, 13), (c, 6, 4), {"stride": 2, "pads": (1, 0)}
        yield (1, c, 3, 4, 5), (c, 6, 3, 2, 2), {"stride": (1, 2, 2), "pads": (1, 0, 0, 1, 0, 0)}
        yield (1, c, 3, 2, 4), (c, 1, 3, 2, 3), {"groups": c, "dilation": (2, 1, 1)}
    yield (1, 3, 9), (3, 5, 3), {"stride": 3, "auto_pad": "SAME_LOWER"}
    yield (1, 2, 2, 3, 3), (2, 3, 2, 3, 3), {"stride": 2, "auto_pad": "SAME_UPPER"}


TRANSPOSE_CASES = {name_of(case): case for case in transpose_cases()}


@functools.cache
def transpose_problem(key):
    x_shape, w_shape, kw = TRANSPOSE_CASES[key]
    x, w = normal(*x_shape), normal(*w_shape, seed=1)
    bias = normal(w_shape[1] * kw.get("groups", 1), seed=2)
    return x, w, bias, oracle.conv_transpose(x, w, bias, **kw), oracle.conv_transpose(abs(x), abs(w), abs(bias), **kw)


@pytest.mark.parametrize("key", TRANSPOSE_CASES)
def test_conv_transpose(key, isa):
    x, w, bias, expected, magnitude = transpose_problem(key)
    kw = TRANSPOSE_CASES[key][2]
    y = both(TRANSPOSE[x.ndim - 2], x, w, bias, **kw)
    terms = x.shape[1] // kw.get("groups", 1) * math.prod(w.shape[2:]) + 1
    assert_close(y, expected, ROUNDING, magnitude=magnitude, terms=terms)


def test_conv_transpose_widths(isa):
    for width in WIDTHS:
        check_transpose(normal(1, 3, 1, width), normal(3, 9, 1, 3), normal(9), stride=(1, 2), pads=(0, 1))
    check_transpose(normal(2, 3, 4, 5), normal(3, 9, 2, 2), stride=2)


@pytest.mark.parametrize(("groups", "c", "m"), [(2, 2, 1), (3, 9, 4), (17, 17, 1), (2, 32, 16)])
def test_conv_transpose_nan_in_one_group_stays_there(isa, groups, c, m):
    x, w, bias = normal(1, c, 4, 5), normal(c, m, 3, 3), normal(m * groups)
    plain = both(F.conv_transpose2d, x, w, bias, groups=groups, stride=2)
    for bad in {0, groups - 1}:
        dirty = x.copy()
        dirty[:, bad * (c // groups), 1, 2] = np.nan
        y = both(F.conv_transpose2d, dirty, w, bias, groups=groups, stride=2)
        expected = oracle.conv_transpose(dirty, w, bias, groups=groups, stride=2)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
        assert_same_bits(y[~np.isnan(y)], plain[~np.isnan(y)])


# ---- geometry ----------------------------------------------------------------------------------------------------------


@given(geometry=geometries(), groups=st.integers(1, 3), c=st.integers(1, 6), m=st.integers(1, 9), n=st.integers(0, 2))
def test_conv_geometry(isa, geometry, groups, c, m, n):
    rank, spatial, kernel, kw = geometry
    x, w, bias = normal(n, c * groups, *spatial), normal(m * groups, c, *kernel), normal(m * groups)
    try:
        oracle.conv(x, w, bias, groups=groups, **kw)
    except ValueError:
        with pytest.raises(ShapeError):
            CONV[rank](x, w, bias, groups=groups, **kw)
    else:
        check_conv(x, w, bias, groups=groups, **kw)


@given(
    geometry=geometries(transpose=True), groups=st.integers(1, 3), c=st.integers(1, 5), m=st.integers(1, 5), n=st.integers(0, 2)
)
def test_conv_transpose_geometry(isa, geometry, groups, c, m, n):
    rank, spatial, kernel, kw = geometry
    x, w, bias = normal(n, c * groups, *spatial), normal(c * groups, m, *kernel), normal(m * groups)
    try:
        oracle.conv_transpose(x, w, bias, groups=groups, **kw)
    except ValueError:
        with pytest.raises(ShapeError):
            TRANSPOSE[rank](x, w, bias, groups=groups, **kw)
    else:
        check_transpose(x, w, bias, groups=groups, **kw)


# ---- what is refused ---------------------------------------------------------------------------------------------------

X, W, B = normal(1, 4, 8, 8), normal(6, 4, 3, 3), normal(6)


@pytest.mark.parametrize(
    ("names", "args", "kw"),
    [
        (("x",), (normal(4, 8, 8), W), {}),
        (("x",), (normal(1, 4, 8, 8, 8), W), {}),
        (("w",), (X, normal(6, 4, 3)), {}),
        (("w",), (X, normal(6, 5, 3, 3)), {}),
        (("w", "groups"), (X, W), {"groups": 2}),
        (("groups",), (X, normal(6, 1, 3, 3)), {"groups": 3}),  # 4 channels
        (("groups",), (X, normal(7, 2, 3, 3)), {"groups": 2}),  # 7 outputs
        (("groups",), (X, W), {"groups": 0}),
        (("groups",), (X, W), {"groups": -1}),
        (("bias",), (X, W, normal(5)), {}),
        (("bias",), (X, W, normal(6, 1)), {}),
        (("stride", "strides"), (X, W), {"stride": 0}),
        (("stride", "strides"), (X, W), {"stride": (1, -1)}),
        (("stride", "strides"), (X, W), {"stride": (1, 1, 1)}),
        (("dilation", "dilations"), (X, W), {"dilation": 0}),
        (("dilation", "dilations"), (X, W), {"dilation": (1,)}),
        (("pads",), (X, W), {"pads": -1}),
        (("pads",), (X, W), {"pads": (0, 0, -1, 0)}),
        (("pads",), (X, W), {"pads": (0, 0, 0)}),
        (("auto_pad",), (X, W), {"auto_pad": "SAME"}),
        (("w", "kernel"), (X, normal(6, 4, 9, 3)), {}),
        (("w", "kernel"), (X, W), {"dilation": 4}),
        (("w", "kernel"), (X, normal(6, 4, 0, 3)), {}),
    ],
)
def test_conv_refuses(names, args, kw):
    with refused(InputError if "auto_pad" in kw and "kernel" not in names else ShapeError, *names):
        F.conv2d(*args, **kw)


XT, WT = normal(1, 4, 5, 5), normal(4, 3, 3, 3)


@pytest.mark.parametrize(
    ("names", "args", "kw"),
    [
        (("x",), (normal(4, 5, 5), WT), {}),
        (("w",), (XT, normal(4, 3, 3)), {}),
        (("w",), (XT, normal(5, 3, 3, 3)), {}),
        (("groups",), (XT, WT), {"groups": 3}),
        (("groups",), (XT, WT), {"groups": 0}),
        (("bias",), (XT, WT, normal(4)), {}),
        (("bias",), (XT, WT, normal(3)), {"groups": 2}),
        (("stride", "strides"), (XT, WT), {"stride": 0}),
        (("dilation", "dilations"), (XT, WT), {"dilation": -2}),
        (("pads",), (XT, WT), {"pads": -1}),
        (("pads",), (XT, WT), {"pads": 4}),  # nothing is left
        (("output_padding",), (XT, WT), {"output_padding": -1}),
        (("output_padding",), (XT, WT), {"output_padding": (1, 1, 1)}),
        (("output_shape",), (XT, WT), {"output_shape": (0, 5)}),
        (("output_shape",), (XT, WT), {"output_shape": (5, 5, 5)}),
        (("auto_pad",), (XT, WT), {"auto_pad": "same_upper"}),
    ],
)
def test_conv_transpose_refuses(names, args, kw):
    with refused(InputError if "auto_pad" in kw and "kernel" not in names else ShapeError, *names):
        F.conv_transpose2d(*args, **kw)


HUGE = (2**31, 2**40, 2**62, 2**63 - 1, 2**64, 2**80)


@pytest.mark.parametrize("huge", HUGE)
def test_huge_geometry_raises(huge):
    """No allocation of that size exists, and products of such numbers leave 64 bits."""
    for kw in ({"pads": huge}, {"pads": (0, 0, 0, huge), "stride": 1}, {"dilation": huge}, {"groups": huge}):
        with pytest.raises((CNNEngineError, MemoryError)):
            F.conv2d(X, W, B, **kw)
    for kw in ({"stride": huge}, {"output_padding": huge}, {"output_shape": huge}, {"dilation": huge}, {"pads": huge}):
        with pytest.raises((CNNEngineError, MemoryError)):
            F.conv_transpose2d(XT, WT, **kw)


@pytest.mark.parametrize("huge", HUGE)
def test_a_huge_stride_takes_one_window(isa, huge):
    try:
        y = F.conv2d(X, W, B, stride=huge)
    except CNNEngineError:
        assert huge >= 2**31  # may be refused, may not be wrong
    else:
        assert_same_bits(y, F.conv2d(X, W, B, stride=6))


@pytest.mark.parametrize("value", [1.5, "1", None, (1, None), (1.5, 1)])
@pytest.mark.parametrize("argument", ["stride", "pads", "dilation"])
def test_geometry_is_made_of_integers(argument, value):
    with pytest.raises((CNNEngineError, TypeError)):
        F.conv2d(X, W, **{argument: value})


def test_weights_are_read_at_every_call() -> None:
    """Launches of small layers are kept, their weights are not: also not those of another thread, or of another layer."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 6, 9, 9), dtype=np.float32)
    w = rng.standard_normal((10, 6, 3, 3), dtype=np.float32)
    bias = rng.standard_normal(10, dtype=np.float32)

    def expected(w: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        (y,) = Conv(pads=(1, 1, 1, 1)).evaluate(x, w, bias)
        return np.asarray(y)

    for _ in range(3):
        np.testing.assert_allclose(F.conv2d(x, w, bias, pads=1), expected(w, bias), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(F.conv2d(x, w, pads=1), expected(w, None), rtol=1e-4, atol=1e-4)
        w += 1
        bias[:] = rng.standard_normal(10)
    other = F.dense(x.reshape(12, 81), w.reshape(-1)[: 5 * 81].reshape(5, 81))
    np.testing.assert_allclose(other, x.reshape(12, 81) @ w.reshape(-1)[: 5 * 81].reshape(5, 81).T, rtol=1e-4, atol=1e-4)

    many = [rng.standard_normal(w.shape, dtype=np.float32) for _ in range(8)]
    wanted = [expected(v, bias) for v in many]

    def run(i: int) -> list[np.ndarray]:
        return [F.conv2d(x, many[i], bias, pads=1) for _ in range(50)]

    with ThreadPoolExecutor(8) as pool:
        for y, results in zip(wanted, pool.map(run, range(8)), strict=True):
            for found in results:
                np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-4)
                np.testing.assert_array_equal(found, results[0])
