"""bfloat16, 8-bit and 4-bit floats, 4-bit and 2-bit integers: casts, bits, and operators that compute in wider types."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import cnnengine
from cnnengine.errors import InputError, ModelError
from cnnengine.operator import NodeRecord
from cnnengine.ops.activation import Sigmoid
from cnnengine.ops.bits import BitCast
from cnnengine.ops.cast import Cast, convert
from cnnengine.ops.common import SMALL_TYPES, code_of, is_small, kind_of, known_dtype
from cnnengine.ops.elementwise import Add, Equal, Pow, Where
from cnnengine.ops.reduce import ReduceMax
from cnnengine.spec import TensorSpec

BF16 = np.dtype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("code", SMALL_TYPES)
def test_types_have_numbers_and_kinds(code: int) -> None:
    dtype = known_dtype(code)
    assert dtype is not None and is_small(dtype)
    assert code_of(dtype) == code
    assert dtype == helper.tensor_dtype_to_np_dtype(code)
    assert kind_of(dtype) == ("u" if "uint" in dtype.name else "i" if "int" in dtype.name else "f")


def test_of_numpys_own_types() -> None:
    assert known_dtype(99) is None
    assert (kind_of(np.dtype(np.float32)), kind_of(np.dtype(object)), kind_of(np.dtype("V"))) == ("f", "O", "V")
    assert code_of(np.dtype("U3")) is None


def test_they_compute_in_float32_and_round_once() -> None:
    x = np.linspace(-4, 4, 40).astype(BF16)
    (spec,), (y,) = Sigmoid().specs([TensorSpec.of(x)]), Sigmoid().evaluate(x)
    assert spec.dtype == y.dtype == BF16
    np.testing.assert_array_equal(y, (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32).astype(BF16))
    (same,) = Equal().evaluate(x, x)
    assert same.dtype == np.bool_ and same.all()
    assert Equal().specs([TensorSpec.of(x), TensorSpec.of(x)])[0].dtype == np.bool_
    (top,) = ReduceMax().evaluate(x)
    assert top.dtype == BF16 and top.reshape(()) == x[-1]
    ints = np.array([-8, 7], np.int8).astype(ml_dtypes.int4)
    assert Add().evaluate(ints, np.zeros(2, ml_dtypes.int4))[0].dtype == ml_dtypes.int4


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"])
def test_saturation(name: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name))
    largest = float(ml_dtypes.finfo(dtype).max)
    x = np.float32([1e6, -1e6, np.inf, -np.inf, np.nan, 1.0])
    y = convert(x, dtype).astype(np.float32)
    np.testing.assert_array_equal(y, [largest, -largest, largest, -largest, np.nan, 1])
    beyond = convert(x, dtype, saturate=False).astype(np.float32)
    assert not np.isfinite(beyond[:5]).any()


@pytest.mark.parametrize(("mode", "want"), [("up", 4.0), ("down", 2.0), ("nearest", 2.0)])
def test_rounding_of_powers_of_two(mode: str, want: float) -> None:
    assert convert(np.float32([2.5]), np.dtype(ml_dtypes.float8_e8m0fnu), True, mode).astype(np.float32) == want


def test_unknown_round_mode() -> None:
    with pytest.raises(ModelError, match="round_mode"):
        Cast.from_onnx(NodeRecord("Cast", "", 24, {"to": 24, "round_mode": "sideways"}, ("x",), ("y",)))


def test_bits() -> None:
    x = np.float32([1.0, -2.0])
    assert BitCast(np.dtype(np.uint32)).evaluate(x)[0].tolist() == [0x3F800000, 0xC0000000]
    assert BitCast(np.dtype(ml_dtypes.uint4)).evaluate(np.array([-1, 7], np.int8).astype(ml_dtypes.int4))[0].astype(
        int
    ).tolist() == [15, 7]
    assert BitCast(BF16).evaluate(np.uint16([0x3F80]))[0].astype(float) == 1
    for wrong, to in (
        (x, np.dtype(np.int64)),
        (np.zeros(2, ml_dtypes.int4), np.dtype(np.int8)),
        (np.array(["a"], object), np.dtype(np.int64)),
    ):
        with pytest.raises(InputError, match="width"):
            BitCast(to).specs([TensorSpec.of(wrong)])
    with pytest.raises(ModelError, match="texts"):
        BitCast.from_onnx(NodeRecord("BitCast", "", 26, {"to": 8}, ("x",), ("y",)))


@pytest.mark.parametrize("code", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_half_precision_networks_are_computed_in_float32(code: int) -> None:
    """Nothing between input and output is rounded to half precision, and only the casts at both ends run on the host."""
    rng = np.random.default_rng(5)
    dtype = helper.tensor_dtype_to_np_dtype(code)
    w = rng.standard_normal((8, 3, 3, 3)).astype(dtype)
    v = rng.standard_normal((5, 8)).astype(dtype)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "v"], ["f"], transB=1),
        helper.make_node("Softmax", ["f"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", code, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", code, None)],
        [helper.make_tensor(n, code, a.shape, a.tobytes(), raw=True) for n, a in (("w", w), ("v", v))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    x = rng.standard_normal((2, 3, 8, 8)).astype(dtype)
    loaded = cnnengine.load(model, threads=1)
    (y,) = loaded.run(None, {"x": x})
    assert y.dtype == dtype

    def plain(name: str) -> np.ndarray:
        return {"w": w, "v": v}[name].astype(np.float32)

    float_model = onnx.ModelProto()
    float_model.CopyFrom(model)
    del float_model.graph.initializer[:]
    for name in "wv":
        float_model.graph.initializer.append(onnx.numpy_helper.from_array(plain(name), name))
    for value in (*float_model.graph.input, *float_model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    (want,) = cnnengine.load(float_model, threads=1).run(None, {"x": x.astype(np.float32)})
    np.testing.assert_array_equal(y, want.astype(dtype))
    kinds = {n.name: n.op.op_type for n in loaded._graph.nodes}
    assert [kinds[n] for n in loaded.host_nodes()] == []


def test_types_do_not_mix() -> None:
    """A small type behind float32 is an error, but for exponents."""
    x, y = np.float32([1, 2]), np.float32([1, 2]).astype(BF16)
    for op in (Add(), Equal()):
        with pytest.raises(InputError, match="types"):
            op.specs([TensorSpec.of(x), TensorSpec.of(y)])
    assert Pow().specs([TensorSpec.of(x), TensorSpec.of(y)])[0].dtype == np.float32
    assert Pow().evaluate(x, y)[0].tolist() == [1, 4]
    assert Pow().specs([TensorSpec.of(y), TensorSpec.of(x)])[0].dtype == BF16
    chosen = Where().evaluate(np.array([True, False]), y, y)[0]
    assert chosen.dtype == BF16
