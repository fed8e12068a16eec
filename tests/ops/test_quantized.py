"""Integer convolutions against sums of Python's integers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import cnnengine
from cnnengine.errors import InputError, ShapeError
from cnnengine.operator import NodeRecord
from cnnengine.ops.integer_conv import ConvInteger, QLinearConv
from cnnengine.ops.integer_products import MatMulInteger, QLinearMatMul
from cnnengine.ops.quantized import DequantizeLinear, QuantizeLinear
from cnnengine.spec import TensorSpec

X = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 6)).astype(np.uint8)
W = np.random.default_rng(1).integers(-128, 128, (6, 2, 3, 2)).astype(np.int8)
ATTRIBUTES = {"strides": [2, 1], "pads": [1, 0, 1, 1], "group": 2, "dilations": [1, 2]}


def sums(x_zero: int, w_zero: np.ndarray) -> np.ndarray:
    x = X.astype(object) - x_zero
    x = np.pad(x, [(0, 0), (0, 0), (1, 1), (0, 1)], constant_values=0)
    out = np.zeros((2, 6, 3, 5), object)
    for n, o, i, j in np.ndindex(out.shape):
        for c, p, q in np.ndindex(2, 3, 2):
            out[n, o, i, j] += int(x[n, (o // 3) * 2 + c, 2 * i + p, j + 2 * q]) * (int(W[o, c, p, q]) - int(w_zero[o]))
    return out


def node(kind: str, inputs: int, weights: int) -> NodeRecord:
    return NodeRecord(kind, "", 10, ATTRIBUTES, tuple("abcdefghi"[:inputs]), ("y",))


@pytest.mark.parametrize("per_channel", [False, True])
def test_conv_integer(per_channel: bool) -> None:
    op = ConvInteger.from_onnx(node("ConvInteger", 4, 1))
    zeros = np.arange(-3, 3, dtype=np.int8) if per_channel else np.int8(5)
    operands = [X, W, np.uint8(200), np.asarray(zeros)]
    (spec,) = op.specs([TensorSpec.of(np.asarray(v)) for v in operands])
    (y,) = op.evaluate(*operands)
    assert y.dtype == spec.dtype == np.int32
    assert y.shape == spec.shape
    np.testing.assert_array_equal(y, sums(200, np.broadcast_to(zeros, 6)).astype(np.int64))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("biased", [False, True])
def test_qlinear_conv(dtype: type, biased: bool) -> None:
    op = QLinearConv.from_onnx(node("QLinearConv", 9, 3))
    w_scale = np.linspace(0.01, 0.03, 6, dtype=np.float32)
    zero = dtype(7)
    bias = np.arange(6, dtype=np.int32) * 100 - 200
    operands = [X, np.float32(0.02), np.uint8(120), W, w_scale, np.zeros(6, np.int8), np.float32(0.06), zero]
    operands += [bias] if biased else []
    (y,) = op.evaluate(*operands)
    exact = sums(120, np.zeros(6, int)) + (bias.reshape(-1, 1, 1).astype(object) if biased else 0)
    ratio = np.float32(0.02) * w_scale / np.float32(0.06)
    scaled = exact.astype(np.float64) * ratio.reshape(-1, 1, 1)
    limits = np.iinfo(dtype)
    want = np.clip(np.rint(scaled) + 7, limits.min, limits.max)
    assert y.dtype == dtype
    # float32 rounds the scaled sums: next to a half, either neighbour may come
    differs = y != want
    assert (np.abs(y.astype(int) - want)[differs] == 1).all()
    assert (np.abs(np.abs(scaled - np.floor(scaled)) - 0.5)[differs] < 1e-4).all()
    assert differs.mean() < 0.01
    assert limits.max in y or limits.min in y  # saturation is met


def test_refused() -> None:
    op = ConvInteger.from_onnx(node("ConvInteger", 2, 1))
    with pytest.raises(InputError, match="dtype"):
        op.specs([TensorSpec.of(X.astype(np.float32)), TensorSpec.of(W)])
    with pytest.raises(ShapeError, match="per output channel"):
        op.evaluate(X, W, np.uint8(0), np.zeros(5, np.int8))
    with pytest.raises(ShapeError, match="scalar"):
        op.evaluate(X, W, np.zeros(4, np.uint8))


def run(op_type: str, version: int, operands: list[np.ndarray], **attributes: object) -> np.ndarray:
    node = helper.make_node(op_type, [f"x{i}" for i in range(len(operands))], ["y"], **attributes)
    values = [helper.make_tensor_value_info("x0", helper.np_dtype_to_tensor_dtype(operands[0].dtype), operands[0].shape)]
    constants = [numpy_helper.from_array(np.asarray(v), f"x{i}") for i, v in enumerate(operands) if i]
    graph = helper.make_graph([node], "g", values, [onnx.ValueInfoProto(name="y")], constants)
    model = cnnengine.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8), threads=1)
    (compiled,) = model.run(None, {"x0": operands[0]})
    (plain,) = model._graph.nodes[0].op.evaluate(*operands)
    np.testing.assert_array_equal(compiled, plain)
    assert compiled.dtype == plain.dtype
    assert not model.host_nodes()
    return compiled


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("channels", [1, 9])
def test_halves_of_a_convolution_go_to_the_even_number(dtype: type, channels: int) -> None:
    """Of numbers that float32 holds: each result is half a sum, above and below the zero point, by kernels and references."""
    x = np.arange(-20, 21, dtype=np.int64).reshape(1, 1, 1, 41)
    operands = [np.repeat(x + 64, channels, 1).astype(dtype), np.float32(1), dtype(64)]
    w = np.zeros((3, channels, 1, 1), np.int8)
    w[:, -1, 0, 0] = 1, -1, 3
    operands += [w, np.float32(0.5), np.int8(0), np.float32(1), dtype(64)]
    names = [f"x{i}" for i in range(len(operands))]
    node = helper.make_node("QLinearConv", names, ["y"])
    info = helper.make_tensor_value_info("x0", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), operands[0].shape)
    constants = [numpy_helper.from_array(np.asarray(v), n) for n, v in zip(names[1:], operands[1:], strict=True)]
    graph = helper.make_graph([node], "g", [info], [onnx.ValueInfoProto(name="y")], constants)
    (y,) = cnnengine.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=8)).run(
        None, {"x0": operands[0]}
    )
    (plain,) = QLinearConv.from_onnx(NodeRecord("QLinearConv", "", 10, {}, tuple(names), ("y",))).evaluate(*operands)
    np.testing.assert_array_equal(y, plain)
    exact = x[0, 0] * np.array([1, -1, 3]).reshape(3, 1)  # twice the result
    want = np.array([[round(int(v) / 2) + 64 for v in row] for row in exact])  # Python's round goes to even
    np.testing.assert_array_equal(y[0, :, 0], want.reshape(3, 41))


@pytest.mark.parametrize("version", [10, 13, 19, 21])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("axis", [None, 1, -1])
def test_there_and_back(version: int, dtype: type, axis: int | None) -> None:
    """All versions, by kernels: halves go to even, what is out of range is clamped, and zero comes back as zero."""
    if version == 10 and axis is not None:
        pytest.skip("one scale for all")
    x = np.random.default_rng(4).standard_normal((2, 3, 5, 4)).astype(np.float32) * 40
    x[0, 0, 0] = [0, 0.25, 0.75, 1e9]
    n = 1 if axis is None else x.shape[axis]
    scale = np.full(n, 0.5, np.float32) * np.arange(1, n + 1, dtype=np.float32)
    zero = np.arange(n).astype(dtype) + dtype(3)
    shape = () if axis is None else tuple(n if i == axis % 4 else 1 for i in range(4))
    given = {} if axis is None else {"axis": axis}
    operands = [v.reshape(()) if axis is None else v for v in (scale, zero)]
    q = run("QuantizeLinear", version, [x, *operands], **given)
    wide_scale, wide_zero = scale.reshape(shape).astype(np.float64), zero.reshape(shape).astype(np.float64)
    limits = np.iinfo(dtype)
    want = np.clip(np.rint(x / wide_scale) + wide_zero, limits.min, limits.max)
    np.testing.assert_array_equal(q, want)
    assert q.dtype == dtype
    back = run("DequantizeLinear", version, [q, *operands], **given)
    np.testing.assert_array_equal(back, ((want - wide_zero) * wide_scale).astype(np.float32))
    assert back[0, 0, 0, 0] == 0


def test_without_a_zero_point() -> None:
    x = np.float32([-1, 0.5, 1.5, 300])
    assert run("QuantizeLinear", 13, [x, np.float32(1)]).tolist() == [0, 0, 2, 255]
    assert run("DequantizeLinear", 13, [np.int8([-3, 2]), np.float32(0.5)]).tolist() == [-1.5, 1]


def test_dequantised_sums() -> None:
    """int32, as biases are: exact before the scale."""
    x = np.int32([2**30 + 1, -5])
    (y,) = DequantizeLinear().evaluate(x, np.float32(0.5), np.int32(2**30))
    assert y.tolist() == [0.5, np.float32(-5 - 2**30) / 2]


def test_blocks() -> None:
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    scale = np.float32([[1, 2, 4], [1, 1, 0.5]])
    op = QuantizeLinear(axis=1, block_size=2)
    (q,) = op.evaluate(x, scale)
    want = np.rint(x / scale[:, [0, 0, 1, 1, 2]])
    np.testing.assert_array_equal(q, want)
    (back,) = DequantizeLinear(axis=1, block_size=2).evaluate(q, scale)
    np.testing.assert_array_equal(back, want * scale[:, [0, 0, 1, 1, 2]])
    with pytest.raises(ShapeError, match="blocks"):
        op.specs([TensorSpec.of(x), TensorSpec.of(scale[:, :2])])


def test_quantised_products() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.integers(0, 256, (2, 3, 4)).astype(np.uint8), rng.integers(-128, 128, (4, 5)).astype(np.int8)
    rows, columns = np.uint8([1, 2, 3]), np.int8([-2, -1, 0, 1, 2])
    left, right = a.astype(int) - rows.reshape(-1, 1), b.astype(int) - columns
    exact = np.zeros((2, 3, 5), int)
    for n, i, j in np.ndindex(exact.shape):
        exact[n, i, j] = sum(int(left[n, i, k]) * int(right[k, j]) for k in range(4))
    (y,) = MatMulInteger().evaluate(a, b, rows, columns)
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, exact)
    scales = np.float32([0.5, 0.25, 1])
    (q,) = QLinearMatMul().evaluate(a, scales, rows, b, np.float32(0.5), columns, np.float32(64), np.uint8(9))
    want = np.clip(np.rint(exact * (scales.reshape(-1, 1) / 128)) + 9, 0, 255)
    np.testing.assert_array_equal(q, want)
    with pytest.raises(ShapeError, match="one number per row"):
        MatMulInteger().evaluate(a, b, np.zeros(2, np.uint8))


def test_scales_that_do_not_fit() -> None:
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ShapeError, match="per index"):
        QuantizeLinear(axis=1).specs([TensorSpec.of(x), TensorSpec.of(np.ones(2, np.float32))])
    with pytest.raises(InputError, match="another type"):
        DequantizeLinear().specs([TensorSpec.of(np.int8([1])), TensorSpec.of(np.float32([1])), TensorSpec.of(np.uint8([1]))])
