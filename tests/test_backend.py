"""ONNX's backend interface: what it takes, gives and refuses."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cnnengine import backend
from cnnengine.errors import InputError, ModelError, UnsupportedOperatorError

X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
Y = np.linspace(0, 1, 3, dtype=np.float32)


def add_model(operator: str = "Add") -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["N", 3]), ("y", [3]))]
    out = [
        helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["N", 3]),
        helper.make_tensor_value_info("a:0", TensorProto.FLOAT, None),
    ]
    nodes = [helper.make_node(operator, ["x", "y"], ["sum"]), helper.make_node("Abs", ["sum"], ["a:0"])]
    return helper.make_model(
        helper.make_graph(nodes, "g", values, out), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


def test_it_is_a_backend() -> None:
    assert issubclass(backend.Backend, onnx.backend.base.Backend)
    assert isinstance(backend.prepare(add_model()), onnx.backend.base.BackendRep)


def test_prepare_runs_many_times_and_shapes() -> None:
    rep = backend.prepare(add_model(), "CPU", threads=1)
    assert rep.model.threads == 1
    for x in (X, X[:1], np.zeros((0, 3), np.float32)):
        result = rep.run([x, Y])
        np.testing.assert_array_equal(result[0], x + Y)
        np.testing.assert_array_equal(result[1], np.abs(x + Y))
        assert result.sum is result[0]  # outputs go by their names where those are Python's


@pytest.mark.parametrize("inputs", [[X, Y], (X, Y), {"y": Y, "x": X}])
def test_inputs_by_order_and_by_name(inputs: object) -> None:
    np.testing.assert_array_equal(backend.run_model(add_model(), inputs)[0], X + Y)


def test_one_array_for_one_input() -> None:
    node = helper.make_node("Neg", ["x"], ["y"])
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in "xy"]
    model = helper.make_model(
        helper.make_graph([node], "g", value[:1], value[1:]), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    np.testing.assert_array_equal(backend.run_model(model, X)[0], -X)


def test_sequences_and_optional_values() -> None:
    float_type = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    sequence = helper.make_sequence_type_proto(float_type)
    optional = helper.make_optional_type_proto(sequence)
    graph = helper.make_graph(
        [helper.make_node("OptionalHasElement", ["o"], ["has"]), helper.make_node("SequenceInsert", ["s", "x"], ["t"])],
        "g",
        [
            helper.make_value_info("o", optional),
            helper.make_value_info("s", sequence),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [helper.make_tensor_value_info("has", TensorProto.BOOL, []), helper.make_value_info("t", sequence)],
    )
    rep = backend.prepare(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))
    assert [(i.name, i.kind) for i in rep.model.inputs] == [("o", "optional sequence"), ("s", "sequence"), ("x", "tensor")]
    has, made = rep.run([None, [Y], X])
    assert has.dtype == np.bool_ and not has
    assert [a.shape for a in made] == [(3,), (2, 3)]
    made[0][:] = 7  # the caller's own arrays stay as they are
    assert Y[2] == 1
    has, made = rep.run([[], [], X])
    assert has and len(made) == 1
    with pytest.raises(InputError, match=r"'s'.*sequence"):
        rep.run([None, Y, X])
    with pytest.raises(InputError, match=r"'s'.*dtype"):
        rep.run([None, [Y.astype(np.int32)], X])


def test_run_node() -> None:
    result = backend.run_node(helper.make_node("Add", ["x", "y"], ["z"]), [X, Y])
    np.testing.assert_array_equal(result.z, X + Y)
    by_name = backend.run_node(helper.make_node("Sub", ["x", "y"], ["z"]), {"y": Y, "x": X})
    np.testing.assert_array_equal(by_name[0], X - Y)
    same = backend.run_node(helper.make_node("Mul", ["x", "x"], ["z"]), [X])
    np.testing.assert_array_equal(same[0], X * X)


def test_run_node_with_an_absent_input() -> None:
    node = helper.make_node("Clip", ["x", "", "high"], ["y"])
    np.testing.assert_array_equal(backend.run_node(node, [X, np.float32(1)])[0], np.minimum(X, 1))


def test_run_node_under_an_opset() -> None:
    """Softmax normalises everything from the axis on before version 13, one axis after."""
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    e = np.exp(x.astype(np.float64))
    node = helper.make_node("Softmax", ["x"], ["y"], axis=1)
    old = backend.run_node(node, [x], opset_version=11)[0]
    new = backend.run_node(node, [x], opset_version=13)[0]
    np.testing.assert_allclose(old, e / e.sum((1, 2), keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(new, e / e.sum(1, keepdims=True), rtol=1e-5)


def test_run_node_of_another_domain() -> None:
    node = helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml", threshold=0.5)
    np.testing.assert_array_equal(backend.run_node(node, [X])[0], (X > 0.5).astype(np.float32))


def test_devices() -> None:
    assert backend.supports_device("CPU")
    assert backend.supports_device("CPU:0")
    for device in ("CUDA", "CUDA:1", "NOTHING", ""):
        assert not backend.supports_device(device)
    for run in (backend.prepare, lambda m, d: backend.run_model(m, [X, Y], d)):
        with pytest.raises(InputError, match="no such device"):
            run(add_model(), "CUDA")
    with pytest.raises(InputError, match="no such device"):
        backend.run_node(helper.make_node("Neg", ["x"], ["y"]), [X], "CUDA")


def test_compatible() -> None:
    assert backend.is_compatible(add_model())
    assert not backend.is_compatible(add_model("NoSuchOperator"))
    assert not backend.is_compatible(add_model(), "CUDA")


def test_what_is_refused() -> None:
    rep = backend.prepare(add_model())
    with pytest.raises(InputError, match="too many inputs"):
        rep.run([X, Y, Y])
    with pytest.raises(InputError, match=r"'y'.*missing"):
        rep.run([X])
    with pytest.raises(InputError, match="no such input"):
        rep.run({"x": X, "y": Y, "z": Y})
    with pytest.raises(InputError, match="unknown arguments"):
        rep.run([X, Y], device="CPU")
    with pytest.raises(InputError, match="dtype"):
        rep.run([X.astype(np.float64), Y])
    with pytest.raises(UnsupportedOperatorError, match="NoSuchOperator"):
        backend.prepare(add_model("NoSuchOperator"))
    with pytest.raises(InputError, match="wrong number of inputs"):
        backend.run_node(helper.make_node("Add", ["x", "y"], ["z"]), [X])
    with pytest.raises(ModelError):
        backend.run_node(helper.make_node("Concat", ["x"], ["y"]), [X])  # without its axis
