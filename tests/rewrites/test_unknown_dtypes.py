"""What is compared with a dtype that may be unknown: NumPy takes None for float64."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine._kernels import dispatch
from cnnengine.rewrites.facts import Fact

F64 = np.dtype(np.float64)


def test_an_unknown_dtype_is_not_float64() -> None:
    for unknown in (Fact(), Fact(None, 2)):
        assert not unknown.has_dtype(F64)
        assert unknown != Fact(F64, unknown.rank)
        assert Fact(F64, unknown.rank) != unknown
        assert unknown == Fact(None, unknown.rank)
    assert Fact(F64, 2).has_dtype(F64)
    assert Fact(F64, 2) == Fact(np.dtype("d"), 2)
    assert Fact(F64, 2) != Fact(np.dtype(np.float32), 2)
    assert Fact(F64, 2) != Fact(F64, 3)


X = np.array([[3, 1, 2], [0, 5, 4]], np.float32)
MAKERS: list[tuple[str, list[str], dict[str, object], np.ndarray]] = [
    ("ArgMax", ["x"], {"axis": 1, "keepdims": 0}, X.argmax(1)),
    ("ArgMin", ["x"], {"axis": 0}, X.argmin(0)[None]),
    ("IsNaN", ["x"], {}, np.isnan(X)),
    ("Where", ["large", "x", "y"], {}, np.where(X > 2, X, X + 1)),
    ("Einsum", ["x", "y"], {"equation": "ij,ij->i"}, (X * (X + 1)).sum(1)),
    ("GatherND", ["x", "at"], {}, X[[0, 1], [2, 0]]),
    ("Compress", ["x", "take"], {"axis": 1}, X[:, [0, 2]]),
    ("Not", ["large"], {}, X <= 2),
    ("BitShift", ["bits", "bits"], {"direction": "LEFT"}, np.array([2, 8], np.uint8)),
]


@pytest.mark.parametrize("to", [np.float64, np.float32, np.int32, np.float16])
@pytest.mark.parametrize("maker", MAKERS, ids=[m[0] for m in MAKERS])
def test_casts_of_unknown_values_stay(maker: tuple[str, list[str], dict[str, object], np.ndarray], to: type) -> None:
    op, inputs, attributes, made = maker
    nodes = [
        helper.make_node(op, inputs, ["made"], **attributes),
        helper.make_node("Cast", ["made"], ["cast"], to=helper.np_dtype_to_tensor_dtype(np.dtype(to))),
        helper.make_node("Div", ["cast", "four"], ["out"]),
    ]
    fed = {"x": X, "y": X + 1, "large": X > 2, "bits": np.array([1, 2], np.uint8)}
    constants = {"at": np.array([[0, 2], [1, 0]]), "take": np.array([True, False, True]), "four": np.array(4, to)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in fed.items()],
        [onnx.ValueInfoProto(name="out")],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (out,) = cnnengine.load(model).run(None, fed)
    expected = made.astype(to) / np.array(4, to) if np.dtype(to).kind == "f" else made.astype(to) // 4
    assert out.dtype == to
    np.testing.assert_allclose(out, expected.astype(to), rtol=1e-3 if to is np.float16 else 1e-6)


def test_quantising_in_double_precision() -> None:
    """The quotient by a third lies at a half in float32 and beside it in float64."""
    x = (np.arange(200, dtype=np.float32) + 0.5) * np.float32(0.1)
    node = helper.make_node("QuantizeLinear", ["x", "scale"], ["y"], precision=TensorProto.DOUBLE)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, x.shape)],
        [numpy_helper.from_array(np.array(0.1, np.float32), "scale")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    expected = np.clip(np.rint(x.astype(np.float64) / np.float64(np.float32(0.1))), 0, 255).astype(np.uint8)
    assert (expected != np.clip(np.rint(x / np.float32(0.1)), 0, 255)).any()
    for isa in dispatch.available_isas():
        with dispatch.use_isa(isa):
            np.testing.assert_array_equal(cnnengine.load(model).run(None, {"x": x})[0], expected)
