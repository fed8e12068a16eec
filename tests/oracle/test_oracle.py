"""The oracle itself: against numbers worked out by hand, against ONNX's own node cases, and against PyTorch and
onnxruntime where these are installed (they decide nothing; where they differ from the specification the test says so)."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest

import oracle

NAN, INF = math.nan, math.inf


def image(*rows):
    """Rows -> (1, 1, H, W)."""
    return np.array(rows, np.float64)[None, None]


def line(*values):
    """Values -> (1, 1, W)."""
    return np.array(values, np.float64)[None, None]


class TestByHand:
    def test_conv(self):
        x = image([1, 2, 3], [4, 5, 6], [7, 8, 9])
        w = image([1, 10], [100, 1000])
        np.testing.assert_array_equal(oracle.conv(x, w), image([5421, 6532], [8754, 9865]))
        np.testing.assert_array_equal(
            oracle.conv(x, w, [0.5], stride=2, pads=(1, 1, 0, 0)), image([1000.5, 3200.5], [7040.5, 9865.5])
        )
        np.testing.assert_array_equal(oracle.conv(x, w, dilation=2), image([9731]))

    def test_conv_groups(self):
        x = np.array([[[1, 2], [3, 4], [5, 6], [7, 8]]], np.float64)  # (1, 4, 2)
        w = np.array([[[1], [10]], [[100], [1000]]], np.float64)  # two groups of two channels, one output each
        np.testing.assert_array_equal(oracle.conv(x, w, groups=2), [[[31, 42], [7500, 8600]]])
        w = np.arange(1, 9, dtype=np.float64).reshape(8, 1, 1)  # depthwise, multiplier 2
        expected = [[[1, 2], [2, 4], [9, 12], [12, 16], [25, 30], [30, 36], [49, 56], [56, 64]]]
        np.testing.assert_array_equal(oracle.conv(x, w, groups=4), expected)

    @pytest.mark.parametrize(
        ("auto_pad", "expected"),
        [("SAME_UPPER", [21, 43, 5]), ("SAME_LOWER", [10, 32, 54]), ("VALID", [21, 43])],
    )
    def test_conv_auto_pad(self, auto_pad, expected):
        y = oracle.conv(line(1, 2, 3, 4, 5), line(1, 10), stride=2, auto_pad=auto_pad)
        np.testing.assert_array_equal(y, line(*expected))

    def test_same_with_a_stride_larger_than_the_kernel_pads_nothing(self):
        np.testing.assert_array_equal(oracle.conv(line(1, 2, 3, 4, 5, 6), line(1), stride=5, auto_pad="SAME_LOWER"), line(1, 6))

    def test_conv_transpose(self):
        x, w = line(1, 2), line(1, 10, 100)
        np.testing.assert_array_equal(oracle.conv_transpose(x, w), line(1, 12, 120, 200))
        np.testing.assert_array_equal(oracle.conv_transpose(x, w, [5], stride=2), line(6, 15, 107, 25, 205))
        np.testing.assert_array_equal(oracle.conv_transpose(x, w, stride=2, pads=(1, 0)), line(10, 102, 20, 200))
        np.testing.assert_array_equal(oracle.conv_transpose(x, w, stride=2, pads=1, output_padding=1), line(10, 102, 20, 200))
        np.testing.assert_array_equal(oracle.conv_transpose(x, w, dilation=2), line(1, 2, 10, 20, 100, 200))
        # full is 1 10 102 20 200; one element too many: it goes at the begin, except with SAME_UPPER
        np.testing.assert_array_equal(oracle.conv_transpose(x, w, stride=2, auto_pad="SAME_UPPER"), line(1, 10, 102, 20))
        np.testing.assert_array_equal(oracle.conv_transpose(x, w, stride=2, auto_pad="SAME_LOWER"), line(10, 102, 20, 200))
        np.testing.assert_array_equal(oracle.conv_transpose(x, w, stride=2, output_shape=(4,)), line(10, 102, 20, 200))
        np.testing.assert_array_equal(oracle.conv_transpose(x, w, stride=2, output_shape=(2,)), line(102, 20))
        np.testing.assert_array_equal(
            oracle.conv_transpose(x, w, stride=2, output_shape=(3,), pads=(0, 2), auto_pad="SAME_UPPER"), line(10, 102, 20)
        )
        np.testing.assert_array_equal(oracle.conv_transpose(x, line(7), stride=3, auto_pad="SAME_UPPER"), line(7, 0, 0, 14, 0, 0))

    def test_conv_transpose_groups(self):
        x = np.array([[[1.0], [2.0], [3.0], [4.0]]])
        w = np.array([[[1], [2]], [[10], [20]], [[100], [200]], [[1000], [2000]]], np.float64)  # C 4, 2 outputs a group
        np.testing.assert_array_equal(oracle.conv_transpose(x, w, groups=2), [[[21], [42], [4300], [8600]]])

    def test_max_pool(self):
        x = image([1, 9, 3], [4, 5, 6], [7, 8, 2])
        y, indices = oracle.max_pool(x, 2)
        np.testing.assert_array_equal(y, image([9, 9], [8, 8]))
        np.testing.assert_array_equal(indices, [[[[1, 1], [7, 7]]]])
        y, indices = oracle.max_pool(-np.concatenate([x, x]), 3, pads=1, stride=2)
        np.testing.assert_array_equal(y[1, 0], [[-1, -3], [-4, -2]])  # padding is no zero
        np.testing.assert_array_equal(indices[1, 0], [[9, 11], [12, 17]])

    def test_max_pool_ceil_drops_a_window_that_starts_in_the_padding(self):
        x = line(1, 2, 3, 4, 5)
        np.testing.assert_array_equal(oracle.max_pool(x, 2, stride=2, ceil_mode=True)[0], line(2, 4, 5))
        np.testing.assert_array_equal(oracle.max_pool(line(1, 2, 3, 4), 1, stride=3, pads=(0, 1), ceil_mode=True)[0], line(1, 4))
        np.testing.assert_array_equal(
            oracle.max_pool(line(1, 2, 3), 1, stride=2, pads=(1, 2), ceil_mode=True)[0][..., 1:], line(2)
        )

    def test_a_ceil_window_may_be_larger_than_the_input(self):
        # ceil((2 - 3) / 2 + 1) = 1; PyTorch and onnxruntime agree
        np.testing.assert_array_equal(oracle.max_pool(line(1, 2), 3, stride=2, ceil_mode=True)[0], line(2))
        np.testing.assert_array_equal(oracle.avg_pool(line(1, 2), 3, stride=2, ceil_mode=True, count_include_pad=True), line(1.5))

    def test_max_pool_nan_and_ties(self):
        y, indices = oracle.max_pool(line(1, NAN, 3, 3, 2), 2)
        np.testing.assert_array_equal(y, line(NAN, NAN, 3, 3))
        np.testing.assert_array_equal(indices, [[[1, 1, 2, 3]]])
        y, indices = oracle.max_pool(line(-INF, -INF), 2)
        assert y[0, 0, 0] == -INF and indices[0, 0, 0] == 0

    def test_avg_pool(self):
        x = line(1, 2, 3, 4, 5)
        np.testing.assert_array_equal(oracle.avg_pool(x, 3, pads=1, stride=2), line(1.5, 3, 4.5))
        np.testing.assert_array_equal(oracle.avg_pool(x, 3, pads=1, stride=2, count_include_pad=True), line(1, 3, 3))
        # ceil: the last window starts at 3, two taps inside and one beyond the padded input
        np.testing.assert_array_equal(oracle.avg_pool(x, 3, stride=3, ceil_mode=True, count_include_pad=True), line(2, 4.5))
        # begins at -1: windows {-1,0,1}, {2,3,4}, {5,6,7} of which 5 alone is (end) padding
        np.testing.assert_array_equal(oracle.avg_pool(x, 3, stride=3, pads=1, ceil_mode=True, count_include_pad=True), line(1, 4))
        np.testing.assert_array_equal(
            oracle.avg_pool(x, 2, dilation=3, pads=(1, 1), count_include_pad=True), line(1.5, 2.5, 3.5, 1.5)
        )

    def test_lp_pool(self):
        np.testing.assert_allclose(oracle.lp_pool(line(3, -4, 12, 0), 2), line(5, math.sqrt(160), 12), rtol=1e-15)
        np.testing.assert_allclose(oracle.lp_pool(line(3, -4, 12), 2, p=1, pads=1), line(3, 7, 16, 12), rtol=1e-15)
        np.testing.assert_allclose(oracle.global_lp_pool(image([2, 2], [2, 2]), p=3), image([32 ** (1 / 3)]), rtol=1e-15)

    def test_global_pools(self):
        x = np.array([[[1, 2, 6], [NAN, 0, 1]]])
        np.testing.assert_array_equal(oracle.global_max_pool(x), [[[6], [NAN]]])
        np.testing.assert_array_equal(oracle.global_avg_pool(x), [[[3], [NAN]]])

    def test_adaptive_pools(self):
        x = line(1, 2, 3, 4, 5)  # 3 bins: [0, 2), [1, 4), [3, 5)
        np.testing.assert_array_equal(oracle.adaptive_avg_pool(x, 3), line(1.5, 3, 4.5))
        np.testing.assert_array_equal(oracle.adaptive_max_pool(x, 7), line(1, 2, 3, 3, 4, 5, 5))

    def test_spatial_pyramid_pool(self):
        x = np.stack([image([1, 2, 3], [4, 5, 6])[0, 0], image([6, 5, 4], [3, 2, 1])[0, 0]])[None]
        y = oracle.spatial_pyramid_pool(x, levels=(2, 1))
        np.testing.assert_array_equal(y, [[2, 3, 5, 6, 6, 5, 3, 2, 6, 6]])
        np.testing.assert_array_equal(oracle.spatial_pyramid_pool(x, levels=(1,), mode="avg"), [[3.5, 3.5]])

    def test_max_unpool(self):
        y = oracle.max_unpool(line(7, 9), np.array([[[1, 2]]]), 2, stride=2)
        np.testing.assert_array_equal(y, line(0, 7, 9, 0))
        y = oracle.max_unpool(line(7, 9), np.array([[[1, 2]]]), 2, stride=2, output_shape=(1, 1, 5))
        np.testing.assert_array_equal(y, line(0, 7, 9, 0, 0))

    def test_norms(self):
        x = np.array([[[1.0, 3.0], [2.0, 6.0]]])  # (1, 2, 2); per channel: mean 2 and 4, var 1 and 4
        kw = {"epsilon": 0.0}
        np.testing.assert_allclose(oracle.instance_norm(x, [1, 10], [0, 5], **kw), [[[-1, 1], [-5, 15]]])
        np.testing.assert_allclose(oracle.layer_norm(x, [1, 2], [5, 5], **kw), [[[4, 7], [4, 7]]])
        # the whole: mean 3, var (4 + 0 + 1 + 9) / 4 = 3.5
        np.testing.assert_allclose(oracle.layer_norm(x, axis=1, **kw), (x - 3) / math.sqrt(3.5))
        np.testing.assert_allclose(
            oracle.group_norm(x, [1, 2], [0, 1], groups=1, **kw)[0, 1], [-2 / math.sqrt(3.5) + 1, 6 / math.sqrt(3.5) + 1]
        )
        np.testing.assert_allclose(
            oracle.group_norm(x, [1, 10], [0, 5], groups=2, **kw), oracle.instance_norm(x, [1, 10], [0, 5], **kw)
        )
        np.testing.assert_allclose(oracle.batch_norm(x, [1, 2], [0, 1], [1, 2], [3, 8], epsilon=1.0), [[[0, 1], [1, 8 / 3 + 1]]])

    def test_local_response_norm(self):
        x = np.array([1.0, 2, 3, 4]).reshape(1, 4, 1, 1)
        # size 2: channels c and c + 1; size 3: c - 1 .. c + 1
        np.testing.assert_allclose(
            oracle.local_response_norm(x, size=2, alpha=2.0, beta=1.0, bias=1.0).ravel(), [1 / 6, 2 / 14, 3 / 26, 4 / 17]
        )
        np.testing.assert_allclose(
            oracle.local_response_norm(x, size=3, alpha=3.0, beta=1.0, bias=0.0).ravel(), [1 / 5, 2 / 14, 3 / 29, 4 / 25]
        )

    def test_activations(self):
        x = np.array([-2.0, 0.0, 3.0])
        e2 = math.exp(-2)
        for y, expected in (
            (oracle.relu(x), [0, 0, 3]),
            (oracle.leaky_relu(x, alpha=0.1), [-0.2, 0, 3]),
            (oracle.prelu(x, [0.5, 1, 2]), [-1, 0, 3]),
            (oracle.elu(x, alpha=2.0), [2 * (e2 - 1), 0, 3]),
            (oracle.selu(x, alpha=2.0, gamma=3.0), [6 * (e2 - 1), 0, 9]),
            (oracle.celu(x, alpha=2.0), [2 * (math.exp(-1) - 1), 0, 3]),
            (oracle.sigmoid(x), [1 / (1 + math.exp(2)), 0.5, 1 / (1 + math.exp(-3))]),
            (oracle.silu(x), [-2 / (1 + math.exp(2)), 0, 3 / (1 + math.exp(-3))]),
            (oracle.softplus(x), [math.log(1 + e2), math.log(2), math.log(1 + math.exp(3))]),
            (oracle.mish(x), [-2 * math.tanh(math.log(1 + e2)), 0, 3 * math.tanh(math.log(1 + math.exp(3)))]),
            (oracle.tanh(x), [math.tanh(-2), 0, math.tanh(3)]),
            (oracle.softsign(x), [-2 / 3, 0, 0.75]),
            (oracle.hard_sigmoid(x), [0.1, 0.5, 1]),
            (oracle.hard_swish(x), [-2 / 6, 0, 3]),
            (oracle.gelu(x), [-2 * 0.022750131948179, 0, 3 * 0.9986501019683699]),
            (oracle.gelu(x, approximate="tanh"), [-0.045402305912, 0, 2.99636261]),
            (oracle.clip(x, -1, 2), [-1, 0, 2]),
            (oracle.clip(x, 2, -1), [-1, -1, -1]),
            (oracle.clip(x), x),
        ):
            np.testing.assert_allclose(y, expected, rtol=1e-8, atol=0)
        for f in (oracle.sigmoid, oracle.softplus, oracle.mish, oracle.silu):
            assert np.isfinite(f(np.array([-1e4, 1e4]))).all()

    def test_softmax(self):
        x = np.log([[1.0, 3.0], [2.0, 2.0]])
        np.testing.assert_allclose(oracle.softmax(x), [[0.25, 0.75], [0.5, 0.5]])
        np.testing.assert_allclose(oracle.softmax(x, axis=0), [[1 / 3, 3 / 5], [2 / 3, 2 / 5]])
        np.testing.assert_allclose(oracle.log_softmax(x + 1e4), np.log([[0.25, 0.75], [0.5, 0.5]]), rtol=1e-9)

    def test_dense_and_flatten(self):
        np.testing.assert_array_equal(oracle.dense([[1, 2]], [[3, 4], [5, 6], [7, 8]], [0, 1, 2]), [[11, 18, 25]])
        x = np.arange(24.0).reshape(2, 3, 4)
        for axis, shape in ((0, (1, 24)), (1, (2, 12)), (2, (6, 4)), (3, (24, 1)), (-1, (6, 4)), (-3, (1, 24))):
            y = oracle.flatten(x, axis=axis)
            assert y.shape == shape
            np.testing.assert_array_equal(y.ravel(), x.ravel())

    @pytest.mark.parametrize(
        "bad",
        [
            lambda x: oracle.conv(x, np.ones((1, 1, 6, 6))),
            lambda x: oracle.conv(x, np.ones((1, 2, 1, 1))),
            lambda x: oracle.conv_transpose(x, np.ones((1, 1, 1, 1)), pads=3),
            lambda x: oracle.max_pool(x, 6),
            lambda x: oracle.max_pool(x, 6, auto_pad="VALID"),
            lambda x: oracle.max_unpool(x, np.full(x.shape, x.size), 1),
            lambda x: oracle.flatten(x, axis=5),
        ],
    )
    def test_bad_geometry_is_refused(self, bad):
        with pytest.raises(ValueError):
            bad(np.ones((1, 1, 5, 5)))


class TestCloseness:
    def test_exact(self):
        third = np.array([1 / 3, NAN, INF, 0.0])
        oracle.assert_close(third.astype(np.float32), third, oracle.EXACT)
        oracle.assert_close(np.float32([-0.0]), [0.0], oracle.EXACT)
        for wrong in (np.nextafter(np.float32(1 / 3), np.float32(1)), NAN, INF, 0):
            with pytest.raises(AssertionError):
                oracle.assert_close(np.float32([wrong]), [1 / 3], oracle.EXACT)

    def test_rounding(self):
        oracle.assert_close(np.float32([1 + 4 * 2.0**-23]), [1.0], oracle.ROUNDING)
        oracle.assert_close(np.float32([1e-9]), [0.0], oracle.ROUNDING, magnitude=[0.1])
        oracle.assert_close(np.float32([0.0, INF, NAN]), [1e-39, 1e39, NAN], oracle.ROUNDING)
        for actual, expected in (
            (1 + 6 * 2.0**-23, 1.0),
            (1e-9, 0.0),
            (NAN, 1.0),
            (1.0, NAN),
            (INF, 1.0),
            (1.0, INF),
            (-INF, INF),
        ):
            with pytest.raises(AssertionError):
                oracle.assert_close(np.float32([actual]), [expected], oracle.ROUNDING)

    def test_dtype_and_shape_are_part_of_the_result(self):
        for actual in (np.zeros(2), np.zeros((2, 1), np.float32), np.zeros(1, np.float32)):
            for kind in (oracle.EXACT, oracle.ROUNDING):
                with pytest.raises(AssertionError):
                    oracle.assert_close(actual, np.zeros(2), kind)


# ---- ONNX's node cases -------------------------------------------------------------------------------------------------


def _window(a):
    names = {"strides": "stride", "pads": "pads", "dilations": "dilation", "auto_pad": "auto_pad"}
    return {ours: a[theirs] for theirs, ours in names.items() if theirs in a}


def _pool(a):
    return {"kernel": a["kernel_shape"], "ceil_mode": bool(a.get("ceil_mode", 0)), **_window(a)}


def _max_pool(a, x):
    y, indices = oracle.max_pool(x, **_pool(a))
    if a.get("storage_order"):  # the same positions, each plane numbered column by column
        plane = math.prod(x.shape[2:])
        at = np.unravel_index(indices % plane, x.shape[2:])
        indices = indices // plane * plane + np.ravel_multi_index(at[::-1], x.shape[2:][::-1])
    return y, indices


def _conv_transpose(a, x, w, b=None):
    extra = {k: a[k] for k in ("output_padding", "output_shape") if k in a}
    return oracle.conv_transpose(x, w, b, groups=a.get("group", 1), **extra, **_window(a))


def _some(a, *names):
    return {n: a[n] for n in names if n in a}


def _layer_norm(a, x, scale, bias=None):
    axes = tuple(range(a.get("axis", -1) % x.ndim, x.ndim))
    x64 = x.astype(np.float64)
    mean = x64.mean(axis=axes, keepdims=True)
    deviation = 1.0 / np.sqrt(x64.var(axis=axes, keepdims=True) + a.get("epsilon", 1e-5))
    return oracle.layer_norm(x, scale, bias, **_some(a, "axis", "epsilon")), mean, deviation


def _gemm(a, x, w, c=None):
    x = x.T if a.get("transA") else x
    w = w if a.get("transB") else w.T
    y = a.get("alpha", 1.0) * oracle.dense(x, w)
    return y if c is None else y + a.get("beta", 1.0) * c


# operator -> (how the oracle computes it, how many cases onnx 1.23 has at least)
NODE_CASES = {
    "Conv": (lambda a, x, w, b=None: oracle.conv(x, w, b, groups=a.get("group", 1), **_window(a)), 6),
    "ConvTranspose": (_conv_transpose, 10),
    "MaxPool": (_max_pool, 14),
    "AveragePool": (lambda a, x: oracle.avg_pool(x, count_include_pad=bool(a.get("count_include_pad", 0)), **_pool(a)), 15),
    "LpPool": (lambda a, x: oracle.lp_pool(x, **_some(a, "p"), **_pool(a)), 6),
    "GlobalMaxPool": (lambda a, x: oracle.global_max_pool(x), 2),
    "GlobalAveragePool": (lambda a, x: oracle.global_avg_pool(x), 2),
    "MaxUnpool": (
        lambda a, x, i, shape=None: oracle.max_unpool(x, i, a["kernel_shape"], **_window(a), output_shape=shape),
        2,
    ),
    "LRN": (lambda a, x: oracle.local_response_norm(x, **_some(a, "size", "alpha", "beta", "bias")), 2),
    "BatchNormalization": (lambda a, *xs: oracle.batch_norm(*xs, **_some(a, "epsilon")), 2),
    "LayerNormalization": (_layer_norm, 10),
    "InstanceNormalization": (lambda a, *xs: oracle.instance_norm(*xs, **_some(a, "epsilon")), 2),
    "GroupNormalization": (lambda a, *xs: oracle.group_norm(*xs, groups=a["num_groups"], **_some(a, "epsilon")), 2),
    "Dropout": (lambda a, x, *ignored: oracle.dropout(x), 2),
    "Gemm": (_gemm, 8),
    "Flatten": (lambda a, x: oracle.flatten(x, **_some(a, "axis")), 8),
    "Softmax": (lambda a, x: oracle.softmax(x, **_some(a, "axis")), 6),
    "LogSoftmax": (lambda a, x: oracle.log_softmax(x, **_some(a, "axis")), 6),
    "Relu": (lambda a, x: oracle.relu(x), 1),
    "LeakyRelu": (lambda a, x: oracle.leaky_relu(x, **_some(a, "alpha")), 3),
    "PRelu": (lambda a, x, slope: oracle.prelu(x, slope), 2),
    "Elu": (lambda a, x: oracle.elu(x, **_some(a, "alpha")), 3),
    "Selu": (lambda a, x: oracle.selu(x, **_some(a, "alpha", "gamma")), 3),
    "Celu": (lambda a, x: oracle.celu(x, **_some(a, "alpha")), 1),
    "Gelu": (lambda a, x: oracle.gelu(x, **{k: v.decode() if isinstance(v, bytes) else v for k, v in a.items()}), 4),
    "Mish": (lambda a, x: oracle.mish(x), 1),
    "Sigmoid": (lambda a, x: oracle.sigmoid(x), 2),
    "HardSigmoid": (lambda a, x: oracle.hard_sigmoid(x, **_some(a, "alpha", "beta")), 3),
    "HardSwish": (lambda a, x: oracle.hard_swish(x), 1),
    "Tanh": (lambda a, x: oracle.tanh(x), 2),
    "Softplus": (lambda a, x: oracle.softplus(x), 2),
    "Softsign": (lambda a, x: oracle.softsign(x), 2),
    "Clip": (lambda a, x, low=None, high=None: oracle.clip(x, low, high), 8),
}
MODULES = {
    "AveragePool": "averagepool",
    "MaxUnpool": "maxunpool",
    "BatchNormalization": "batch_normalization",
    "InstanceNormalization": "instance_normalization",
}
TRAINING = {"training_mode"}
PRINTED_TO_FOUR_DIGITS = {"test_averagepool_2d_ceil_last_window_starts_on_pad"}


@pytest.fixture(scope="module")
def node_cases():
    """operator -> its one-node cases; only the modules of these operators are imported, since all of them take 17 s."""
    onnx = pytest.importorskip("onnx")
    node = importlib.import_module("onnx.backend.test.case.node")
    for operator in NODE_CASES:
        importlib.import_module(f"onnx.backend.test.case.node.{MODULES.get(operator, operator.lower())}")
    cases = {}
    for case in node._NodeTestCases:
        nodes = case.model.graph.node
        if len(nodes) != 1 or nodes[0].op_type not in NODE_CASES:
            continue
        attributes = {}
        for a in nodes[0].attribute:
            value = onnx.helper.get_attribute_value(a)
            attributes[a.name] = value.decode() if isinstance(value, bytes) else value
        if TRAINING & attributes.keys():
            continue
        cases.setdefault(nodes[0].op_type, []).append((case, attributes, [bool(name) for name in nodes[0].input]))
    return cases


@pytest.mark.parametrize("operator", NODE_CASES)
def test_onnx_node_cases(node_cases, operator):
    compute, at_least = NODE_CASES[operator]
    checked = 0
    for case, attributes, given in node_cases[operator]:
        for inputs, outputs in case.data_sets:
            inputs = iter(inputs)
            arguments = [next(inputs) if present else None for present in given]
            if arguments[0].dtype not in (np.float32, np.float64):
                continue
            if operator == "Dropout" and len(arguments) == 3 and arguments[2]:
                continue  # training
            results = compute(attributes, *arguments)
            results = results if isinstance(results, tuple) else (results,)
            for result, expected in zip(results, outputs, strict=False):
                assert result.shape == expected.shape, case.name
                rtol = 5e-4 if case.name in PRINTED_TO_FOUR_DIGITS else 2e-5
                np.testing.assert_allclose(result, expected, rtol=rtol, atol=2e-6, err_msg=case.name)
            checked += 1
    assert checked >= at_least


# ---- other engines -----------------------------------------------------------------------------------------------------


def _close(ours, theirs):
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


class TestAgainstTorch:
    """PyTorch in float64: what it defines as ONNX does, and the adaptive pools, which it defines."""

    @pytest.mark.parametrize("rank", [1, 2, 3])
    def test_conv(self, torch, rank):
        rng = np.random.default_rng(rank)
        conv = getattr(torch.nn.functional, f"conv{rank}d")
        transpose = getattr(torch.nn.functional, f"conv_transpose{rank}d")
        for groups, k, stride, pad, dilation in [(1, 3, 1, 1, 1), (2, 2, 2, 0, 1), (4, 3, 3, 2, 2), (1, 1, 2, 0, 1)]:
            x = rng.standard_normal((2, 4, *range(7, 7 + rank)))
            w, b = rng.standard_normal((8, 4 // groups, *[k] * rank)), rng.standard_normal(8)
            ours = oracle.conv(x, w, b, stride=stride, pads=pad, dilation=dilation, groups=groups)
            _close(ours, conv(*map(torch.from_numpy, (x, w, b)), stride, pad, dilation, groups))
            w, b = rng.standard_normal((4, 3, *[k] * rank)), rng.standard_normal(3 * groups)
            more = stride - 1
            ours = oracle.conv_transpose(x, w, b, stride=stride, pads=pad, dilation=dilation, groups=groups, output_padding=more)
            _close(ours, transpose(*map(torch.from_numpy, (x, w, b)), stride, pad, more, groups, dilation))

    @pytest.mark.parametrize("rank", [1, 2, 3])
    @pytest.mark.parametrize("ceil_mode", [False, True])
    def test_pools(self, torch, rank, ceil_mode):
        rng = np.random.default_rng(rank)
        functional = torch.nn.functional
        max_pool, avg_pool = getattr(functional, f"max_pool{rank}d"), getattr(functional, f"avg_pool{rank}d")
        adaptive_max, adaptive_avg = (
            getattr(functional, f"adaptive_max_pool{rank}d"),
            getattr(functional, f"adaptive_avg_pool{rank}d"),
        )
        x = rng.standard_normal((2, 3, *range(6, 6 + rank)))
        t = torch.from_numpy(x)
        for k, stride, pad in [(2, 2, 0), (3, 2, 1), (3, 1, 1), (4, 3, 2), (2, 3, 1), (1, 2, 0)]:
            y, indices = oracle.max_pool(x, k, stride=stride, pads=pad, ceil_mode=ceil_mode)
            theirs, their_indices = max_pool(t, k, stride, pad, ceil_mode=ceil_mode, return_indices=True)
            _close(y, theirs)
            per_plane = indices % math.prod(x.shape[2:])  # PyTorch numbers each plane
            _close(per_plane, their_indices)
            for count in (False, True):
                ours = oracle.avg_pool(x, k, stride=stride, pads=pad, ceil_mode=ceil_mode, count_include_pad=count)
                _close(ours, avg_pool(t, k, stride, pad, ceil_mode, count))
        for size in (1, 2, 3, 5, 6, 9):
            _close(oracle.adaptive_max_pool(x, size), adaptive_max(t, size))
            _close(oracle.adaptive_avg_pool(x, size), adaptive_avg(t, size))

    def test_norms_and_activations(self, torch):
        rng = np.random.default_rng(0)
        functional = torch.nn.functional
        x, scale, bias = rng.standard_normal((2, 6, 3, 4)) * 3, rng.standard_normal(6), rng.standard_normal(6)
        mean, var = rng.standard_normal(6), rng.random(6)
        t, ts, tb = map(torch.from_numpy, (x, scale, bias))
        _close(
            oracle.batch_norm(x, scale, bias, mean, var), functional.batch_norm(t, *map(torch.from_numpy, (mean, var)), ts, tb)
        )
        _close(oracle.instance_norm(x, scale, bias), functional.instance_norm(t, weight=ts, bias=tb))
        _close(oracle.group_norm(x, scale, bias, groups=3), functional.group_norm(t, 3, ts, tb))
        _close(oracle.layer_norm(x, axis=2), functional.layer_norm(t, (3, 4)))
        _close(oracle.local_response_norm(x, size=3), functional.local_response_norm(t, 3))  # odd sizes; even ones are shifted
        for name in ("relu", "elu", "celu", "gelu", "silu", "mish", "sigmoid", "tanh", "softsign"):
            _close(getattr(oracle, name)(x), getattr(functional, name)(t))
        _close(oracle.selu(x, alpha=1.6732632423543772848, gamma=1.0507009873554804934), functional.selu(t))  # ONNX rounds them
        np.testing.assert_allclose(oracle.softplus(x), functional.softplus(t, threshold=100).numpy(), rtol=1e-12)
        np.testing.assert_allclose(oracle.hard_swish(x), functional.hardswish(t).numpy(), rtol=1e-12, atol=1e-12)
        _close(oracle.gelu(x, approximate="tanh"), functional.gelu(t, approximate="tanh"))
        for axis in range(-4, 4):
            _close(oracle.softmax(x, axis=axis), functional.softmax(t, axis))
            _close(oracle.log_softmax(x, axis=axis), functional.log_softmax(t, axis))


@pytest.fixture(scope="module")
def run():
    onnxruntime = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    def run(operator, *inputs, outputs=1, **attributes):
        names = [f"i{k}" for k in range(len(inputs))]
        graph = helper.make_graph(
            [helper.make_node(operator, names, [f"o{k}" for k in range(outputs)], **attributes)],
            "g",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in zip(names, inputs, strict=True)],
            [helper.make_empty_tensor_value_info(f"o{k}") for k in range(outputs)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        results = session.run(None, dict(zip(names, inputs, strict=True)))
        return results[0] if outputs == 1 else results

    return run


class TestAgainstOnnxruntime:
    """onnxruntime on what PyTorch cannot express: auto_pad, asymmetric pads, SAME with strides, global Lp, even LRN."""

    @pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
    @pytest.mark.parametrize(("k", "stride", "dilation"), [(3, 1, 1), (2, 2, 1), (5, 3, 1), (1, 3, 1), (2, 1, 3), (3, 4, 1)])
    def test_windows(self, run, auto_pad, k, stride, dilation):
        if dilation > 1 and auto_pad.startswith("SAME"):
            pytest.skip("onnxruntime refuses SAME with dilations in Conv and computes the pools' pads without them")
        rng = np.random.default_rng(0)
        x = rng.standard_normal((2, 4, 9, 8)).astype(np.float32)
        window = {"strides": [stride] * 2, "dilations": [dilation] * 2, "auto_pad": auto_pad}
        pads = (0, 0, 0, 0)
        if auto_pad == "NOTSET" and k > 1:
            window["pads"] = pads = [1, 0, 0, 1]
        ours = {"stride": stride, "dilation": dilation, "auto_pad": auto_pad, "pads": pads}
        w = rng.standard_normal((6, 2, k, k)).astype(np.float32)
        np.testing.assert_allclose(
            oracle.conv(x, w, groups=2, **ours), run("Conv", x, w, group=2, **window), rtol=1e-4, atol=1e-5
        )
        if not (auto_pad.startswith("SAME") and k < stride):  # else onnxruntime makes the output smaller than in * stride
            w = rng.standard_normal((4, 3, k, k)).astype(np.float32)
            y = run("ConvTranspose", x, w, group=2, **window)
            np.testing.assert_allclose(oracle.conv_transpose(x, w, groups=2, **ours), y, rtol=1e-4, atol=1e-5)
        if auto_pad == "SAME_UPPER" and k < stride:
            return  # onnxruntime's pools start inside of the input there (a negative pad), its Conv and SAME_LOWER do not
        for ceil_mode in (0,) if auto_pad == "VALID" else (0, 1):  # for VALID with ceil onnxruntime takes NOTSET's formula
            pool = {"kernel_shape": [k, k], "ceil_mode": ceil_mode, **window}
            ours_pool = {"ceil_mode": bool(ceil_mode), **ours}
            y, indices = run("MaxPool", x, outputs=2, **pool)
            for mine, theirs in zip(oracle.max_pool(x, k, **ours_pool), (y, indices), strict=True):
                np.testing.assert_array_equal(mine, theirs)
            for count in (0, 1):
                y = run("AveragePool", x, count_include_pad=count, **pool)
                mine = oracle.avg_pool(x, k, count_include_pad=bool(count), **ours_pool)
                np.testing.assert_allclose(mine, y, rtol=1e-5, atol=1e-6)
            y = run("LpPool", x, p=3, **pool)
            np.testing.assert_allclose(oracle.lp_pool(x, k, p=3, **ours_pool), y, rtol=1e-5, atol=1e-6)

    def test_the_rest(self, run):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((2, 5, 4, 6)).astype(np.float32)
        close = {"rtol": 1e-5, "atol": 1e-6}
        np.testing.assert_allclose(oracle.global_lp_pool(x, p=3), run("GlobalLpPool", x, p=3), **close)
        for size in (1, 3, 5):
            y = run("LRN", x, size=size, alpha=0.5, beta=0.6, bias=1.5)
            np.testing.assert_allclose(oracle.local_response_norm(x, size=size, alpha=0.5, beta=0.6, bias=1.5), y, **close)
        scale, bias = rng.standard_normal((2, 5)).astype(np.float32)
        y = run("GroupNormalization", x, scale, bias, num_groups=5)
        np.testing.assert_allclose(oracle.group_norm(x, scale, bias, groups=5), y, **close)
        w, x = rng.standard_normal((2, 3, 3, 3)).astype(np.float32), rng.standard_normal((1, 2, 3, 3)).astype(np.float32)
        for auto_pad in ("NOTSET", "SAME_UPPER", "SAME_LOWER"):
            for wanted in (6, 7):
                ours = oracle.conv_transpose(x, w, stride=2, output_shape=(wanted, wanted), auto_pad=auto_pad)
                y = run("ConvTranspose", x, w, strides=[2, 2], output_shape=[wanted, wanted], auto_pad=auto_pad)
                np.testing.assert_allclose(ours, y, err_msg=f"{auto_pad} {wanted}", **close)
