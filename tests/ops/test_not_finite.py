"""NaN and infinities: kernels, the float32 references and those in float64 put them at the same places."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine.errors import InputError
from cnnengine.importer import import_model

NAN, INF = np.nan, np.inf
TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}


def model(op: str, inputs: list[np.ndarray], opset: int = 18, constants: tuple[int, ...] = (), outputs: int = 1, **attributes):
    """A node whose inputs are fed, but for these constants."""
    names = [f"x{i}" for i in range(len(inputs))]
    fed = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for i, (n, x) in enumerate(zip(names, inputs, strict=True))
        if i not in constants
    ]
    held = [numpy_helper.from_array(inputs[i], names[i]) for i in constants]
    made = [f"y{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(op, names, made, **attributes)], "g", fed, [onnx.ValueInfoProto(name=n) for n in made], held
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def image(dtype: type = np.float32) -> np.ndarray:
    """Channels with a NaN or infinities at many places, one with NaN alone, two of an infinity alone."""
    x = np.random.default_rng(4).normal(0, 3, (2, 19, 9, 10)).astype(dtype)
    for i, value in enumerate((NAN, INF, -INF, NAN, INF)):
        x[:, i, i, 2 * i] = value
        x[0, 6 + i, :: 2 + i, 1] = value
    x[1, 12], x[0, 13], x[1, 14] = NAN, INF, -INF
    x[1, 15, :, 4] = [NAN, INF, -INF, 0, -0.0, 1, -1, 1e15, -1e15]
    return x


UNARY = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Shrink",
    "Identity",
    "IsNaN",
    "IsInf",
    "GlobalMaxPool",
    "GlobalAveragePool",
    "GlobalLpPool",
]
REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
BINARY = ["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "PRelu", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"]
CASES = {
    **{op: (op, {}, ()) for op in UNARY},
    **{f"Reduce{op} {axes}": (f"Reduce{op}", {}, (np.array(axes),)) for op in REDUCTIONS for axes in ([2, 3], [1], [3], [0, 2])},
    **{f"{op} axis {axis} {last}": (op, {"axis": axis, "select_last_index": last}, ())
       for op in ("ArgMax", "ArgMin") for axis in (0, 1, 2, 3) for last in (0, 1)},
    **{f"{op} axis {axis}": (op, {"axis": axis}, ()) for op in ("Softmax", "LogSoftmax", "Hardmax") for axis in (1, 3)},
    **{f"{op} {k} {s} {p}": (op, {"kernel_shape": [k, k], "strides": [s, s], "pads": [p] * 4}, ())
       for op in ("MaxPool", "AveragePool", "LpPool") for k, s, p in ((2, 2, 0), (3, 2, 1), (3, 1, 1), (5, 1, 2), (4, 3, 0))},
    "Clip": ("Clip", {}, (np.float32(-1), np.float32(2))),
    "Clip to NaN": ("Clip", {}, (np.float32(-1), np.float32(NAN))),
    "Clip from NaN": ("Clip", {}, (np.float32(NAN), np.float32(1))),
    "TopK": ("TopK", {"axis": 3}, (np.array([4]),)),
    "TopK smallest": ("TopK", {"axis": 2, "largest": 0}, (np.array([3]),)),
}  # fmt: skip


def assert_same_places(got: np.ndarray, want: np.ndarray) -> None:
    assert got.shape == want.shape
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want)
        return
    with np.errstate(over="ignore"):
        want = want.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.where(np.isinf(got), got, 0), np.where(np.isinf(want), want, 0))


@pytest.mark.parametrize("name", CASES)
def test_kernels_and_references_agree(isa: str, name: str) -> None:
    op, attributes, more = CASES[name]
    opset = 22
    x = image()
    inputs = [x, *more]
    attributes = {**attributes, "outputs": 2 if op == "TopK" else 1}
    proto = model(op, inputs, opset, tuple(range(1, len(inputs))), **attributes)
    for threads in (1, 2):
        got, *_ = cnnengine.load(proto, threads=threads).run(None, {"x0": x})
        with np.errstate(all="ignore"):
            assert_same_places(got, import_model(proto).evaluate({"x0": x})[0])
    wide = [a.astype(np.float64) if a.dtype == np.float32 else a for a in inputs]
    double = model(op, wide, opset, tuple(range(1, len(inputs))), **attributes)
    with np.errstate(all="ignore"):
        assert_same_places(got, cnnengine.load(double).run(None, {"x0": wide[0]})[0])


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("by_channel", [False, True])
def test_pairs_agree(isa: str, op: str, by_channel: bool) -> None:
    special = np.float32([NAN, INF, -INF, 0, -0.0, 1, -1, 2.5, 3e38])
    a = np.tile(special, (1, 9, 9, 1))
    b = special.reshape(9, 1, 1) if by_channel else np.ascontiguousarray(a.swapaxes(2, 3))
    proto = model(op, [a, b])
    (got,) = cnnengine.load(proto).run(None, {"x0": a, "x1": b})
    wide = model(op, [a.astype(np.float64), b.astype(np.float64)])
    with np.errstate(all="ignore"):
        assert_same_places(got, import_model(proto).evaluate({"x0": a, "x1": b})[0])
        if op != "PRelu":  # 0 * inf and products beyond float32 are the same in both
            assert_same_places(got, cnnengine.load(wide).run(None, {"x0": a.astype(np.float64), "x1": b.astype(np.float64)})[0])


@pytest.mark.parametrize("n", [1, 7, 16, 40, 5000])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_quantised_nan_is_the_zero_point(isa: str, n: int, dtype: type) -> None:
    x = np.full(n, NAN, np.float32)
    x[n // 2] = INF
    proto = model("QuantizeLinear", [x, np.float32(0.1), np.array(100, dtype)], constants=(1, 2))
    (got,) = cnnengine.load(proto).run(None, {"x0": x})
    want = np.full(n, 100, dtype)
    want[n // 2] = np.iinfo(dtype).max
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(import_model(proto).evaluate({"x0": x})[0], want)


# ---------------------------------------------------------------- MaxUnpool: which places its indices are


def unpooling(shape: tuple[int, ...], output: tuple[int, ...] | None, ceil: int = 0, dynamic: bool = False) -> onnx.ModelProto:
    """MaxPool and MaxUnpool by its indices (through an Identity), to an output of this shape."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p", "i"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=ceil),
        helper.make_node("Identity", ["i"], ["j"]),
        helper.make_node("MaxUnpool", ["p", "j", *(["s"] if output else [])], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * len(shape) if dynamic else shape)
    held = [numpy_helper.from_array(np.array(output), "s")] if output else []
    graph = helper.make_graph(nodes, "g", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("shape", "ceil"), [((1, 3, 7, 9), 0), ((2, 5, 8, 8), 0), ((1, 2, 7, 7), 1)])
def test_unpooling_to_the_pooled_shape_puts_values_back(shape: tuple[int, ...], ceil: int, dynamic: bool) -> None:
    x = np.random.default_rng(1).permutation(int(np.prod(shape))).reshape(shape).astype(np.float32) + 1
    proto = unpooling(shape, shape, ceil, dynamic)
    (y,) = cnnengine.load(proto).run(None, {"x": x})
    assert y.shape == shape
    np.testing.assert_array_equal(y[y != 0], x[y != 0])
    assert np.count_nonzero(y) == shape[0] * shape[1] * np.prod([-(-n // 2) if ceil else n // 2 for n in shape[2:]])
    np.testing.assert_array_equal(import_model(proto).evaluate({"x": x})[0], y)


def test_foreign_indices_are_places_of_the_inferred_shape() -> None:
    """As the specification's case has it: 4 x 4 in the corner of 5 x 5."""
    x, i = np.float32([[[[5, 6], [7, 8]]]]), np.array([[[[5, 7], [13, 15]]]])
    proto = model("MaxUnpool", [x, i, np.array([1, 1, 5, 5])], constants=(2,), kernel_shape=[2, 2], strides=[2, 2])
    (y,) = cnnengine.load(proto).run(None, {"x0": x, "x1": i})
    want = np.zeros((1, 1, 5, 5), np.float32)
    want[0, 0, 1, 1], want[0, 0, 1, 3], want[0, 0, 3, 1], want[0, 0, 3, 3] = 5, 6, 7, 8
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("bad", [-1, 16, 99, 2**62])
def test_a_bad_index_of_a_run_is_an_error(threads: int, bad: int) -> None:
    x, i = np.float32([[[[5, 6], [7, 8]]]]), np.array([[[[5, 7], [13, bad]]]])
    loaded = cnnengine.load(model("MaxUnpool", [x, i], kernel_shape=[2, 2], strides=[2, 2]), threads=threads)
    with pytest.raises(InputError, match=rf"MaxUnpool.*indices.*{bad}"):
        loaded.run(None, {"x0": x, "x1": i})
    i[...] = [[0, 3], [8, 11]]
    assert loaded.run(None, {"x0": x, "x1": i})[0].sum() == 26
