"""Scales and zero points that cannot be right are refused with the node and the tensor, as soon as they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine import CNNEngineError

F = np.float32
X, S, Z, W = np.uint8([[1, 2], [3, 4]]), F(0.5), np.uint8(3), np.int8([[1, -2], [3, 4]])
IMAGE, KERNEL = np.zeros((1, 2, 4, 4), np.uint8), np.zeros((3, 2, 1, 1), np.int8)
SIGNED = np.int8(0)
FROM_X = {"X": X, "X_scale": S, "X_zero_point": Z, "Y_scale": S, "Y_zero_point": Z}

OPERATORS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # domain, inputs in their order (the first ones are data), attributes
    "QuantizeLinear": ("", {"x": X.astype(F), "y_scale": S, "y_zero_point": Z}, {}),
    "DequantizeLinear": ("", {"x": X, "x_scale": S, "x_zero_point": Z}, {}),
    "QLinearConv": ("", {
        "x": IMAGE, "x_scale": S, "x_zero_point": Z, "w": KERNEL, "w_scale": S, "w_zero_point": SIGNED, "y_scale": S,
        "y_zero_point": Z,
    }, {}),
    "QLinearMatMul": ("", {
        "a": X, "a_scale": S, "a_zero_point": Z, "b": W, "b_scale": S, "b_zero_point": SIGNED, "y_scale": S, "y_zero_point": Z,
    }, {}),
    "ConvInteger": ("", {"x": IMAGE, "w": KERNEL, "x_zero_point": Z, "w_zero_point": SIGNED}, {}),
    "MatMulInteger": ("", {"A": X, "B": W, "a_zero_point": Z, "b_zero_point": SIGNED}, {}),
    "QGemm": ("com.microsoft", {
        "A": X, "a_scale": S, "a_zero_point": Z, "B": W, "b_scale": S, "b_zero_point": SIGNED, "C": np.int32([1, 2]),
        "y_scale": S, "y_zero_point": Z,
    }, {}),
    "QLinearAdd": ("com.microsoft", {
        "A": X, "A_scale": S, "A_zero_point": Z, "B": X, "B_scale": S, "B_zero_point": Z, "C_scale": S, "C_zero_point": Z,
    }, {}),
    "QLinearMul": ("com.microsoft", {
        "A": X, "A_scale": S, "A_zero_point": Z, "B": X, "B_scale": S, "B_zero_point": Z, "C_scale": S, "C_zero_point": Z,
    }, {}),
    "QLinearSigmoid": ("com.microsoft", FROM_X, {}),
    "QLinearLeakyRelu": ("com.microsoft", FROM_X, {}),
    "QLinearSoftmax": ("com.microsoft", FROM_X, {"opset": 13}),
    "QLinearReduceMean": ("com.microsoft", FROM_X,
                          {"axes": [1], "keepdims": 1}),
    "QLinearAveragePool": ("com.microsoft", {**FROM_X, "X": IMAGE},
                           {"kernel_shape": [2, 2]}),
    "QLinearGlobalAveragePool": ("com.microsoft", {**FROM_X, "X": IMAGE}, {}),
    "QLinearConcat": ("com.microsoft", {"Y_scale": S, "Y_zero_point": Z, "X": X, "X_scale": S, "X_zero_point": Z}, {"axis": 0}),
    "QLinearWhere": ("com.microsoft", {
        "c": np.array([True, False]), "X": X, "X_scale": S, "X_zero_point": Z, "Y": X, "Y_scale": S, "Y_zero_point": Z,
        "Z_scale": S, "Z_zero_point": Z,
    }, {}),
    "MatMulIntegerToFloat": ("com.microsoft", {
        "A": X, "B": W, "a_scale": S, "b_scale": S, "a_zero_point": Z, "b_zero_point": SIGNED,
    }, {}),
    "DynamicQuantizeMatMul": ("com.microsoft", {"A": X.astype(F), "B": W, "b_scale": S, "b_zero_point": SIGNED}, {}),
}  # fmt: skip
DATA = ("x", "X", "a", "A", "c")
"""What is fed."""


def model(
    op: str,
    changes: Mapping[str, Any],
    *,
    fed: Sequence[str] = (),
    known: bool = True,
    attributes: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """A node named "it"; a parameter named p is the tensor "the_p". Inputs `fed`, and data, are inputs of the model."""
    domain, inputs, own = OPERATORS[op]
    values = {**inputs, **changes}
    names = {n: n if n in DATA else f"the_{n}" for n in inputs}
    node = helper.make_node(op, list(names.values()), ["result"], name="it", domain=domain, **(attributes or own))
    into, tensors = [], []
    for n, value in values.items():
        array = np.asarray(value)
        if n in DATA or n in fed:
            code = helper.np_dtype_to_tensor_dtype(array.dtype)
            shape = array.shape if known else [f"d{i}" for i in range(array.ndim)]
            into.append(helper.make_tensor_value_info(names[n], code, shape))
        else:
            tensors.append(numpy_helper.from_array(array, names[n]))
    graph = helper.make_graph([node], "g", into, [onnx.ValueInfoProto(name="result")], tensors)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def feeds(op: str, changes: Mapping[str, Any], fed: Sequence[str]) -> dict[str, np.ndarray]:
    values = {**OPERATORS[op][1], **changes}
    return {n if n in DATA else f"the_{n}": np.asarray(v) for n, v in values.items() if n in DATA or n in fed}


def refused(proto: onnx.ModelProto, tensor: str, text: str, planned: bool = False) -> None:
    """With the file's name of the tensor; where it takes shapes to know, with the specification's."""
    with pytest.raises(CNNEngineError, match=text) as caught:
        cnnengine.load(proto)
    assert (caught.value.node or "").split("/")[0] == "it"
    assert caught.value.tensor in ([f"the_{tensor}", tensor] if planned else [f"the_{tensor}"])


SCALES = [(op, name) for op, (_, inputs, _) in OPERATORS.items() for name in inputs if name.endswith("scale")]
ZEROS = [(op, name) for op, (_, inputs, _) in OPERATORS.items() for name in inputs if name.endswith("zero_point")]


@pytest.mark.parametrize("op", OPERATORS)
def test_good_ones_run(op: str) -> None:
    for fed in ((), [n for n in OPERATORS[op][1] if n.endswith(("scale", "zero_point"))]):
        cnnengine.load(model(op, {}, fed=fed)).run(None, feeds(op, {}, fed))
        cnnengine.load(model(op, {}, fed=fed, known=False)).run(None, feeds(op, {}, fed))


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("op", "name"), SCALES)
def test_scales(op: str, name: str, value: float) -> None:
    """When the model is loaded, also where no shape is known."""
    for known in (True, False):
        refused(model(op, {name: F(value)}, known=known), name, "must be positive and finite; expected numbers above 0; received")


@pytest.mark.parametrize(("op", "name"), SCALES)
def test_scales_of_another_type(op: str, name: str) -> None:
    refused(model(op, {name: np.int32(1)}, known=False), name, "has the wrong dtype; expected floats; received int32")


@pytest.mark.parametrize(("op", "name"), ZEROS)
def test_zero_points_of_another_type(op: str, name: str) -> None:
    """So that none lies outside of the type of what it belongs to."""
    for dtype in (np.int32, np.float32):
        refused(model(op, {name: np.asarray(300, dtype)}, known=False), name, "another type|wrong dtype")
    if not name.lower().startswith(("y", "c_", "z_")) or (op == "QLinearWhere" and name.startswith("Y")):
        other = np.uint8(1) if OPERATORS[op][1][name].dtype == np.int8 else np.int8(1)
        refused(model(op, {name: other}, known=False), name, "another type")


@pytest.mark.parametrize(
    ("op", "name"), [(op, n) for op, n in (*SCALES, *ZEROS) if op not in ("QuantizeLinear", "DequantizeLinear")]
)
def test_wrong_lengths(op: str, name: str) -> None:
    """Seven numbers fit nowhere here."""
    given = OPERATORS[op][1][name]
    refused(model(op, {name: np.full(7, given, np.asarray(given).dtype)}), name, "must be a scalar", planned="MatMul" in op)


@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
class TestAlongAxes:
    """Of x (2, 3, 4)."""

    def case(self, op: str, scale: Any, zero: Any = None, known: bool = True, **attributes: Any) -> onnx.ModelProto:
        x = np.zeros((2, 3, 4), np.uint8 if op == "DequantizeLinear" else F)
        letter = "x" if op == "DequantizeLinear" else "y"
        zero = np.zeros(np.shape(scale), np.uint8) if zero is None else zero
        changes = {"x": x, f"{letter}_scale": np.asarray(scale, F), f"{letter}_zero_point": zero}
        return model(op, changes, known=known, attributes=attributes)

    def refused(self, op: str, proto: onnx.ModelProto, which: str, text: str) -> None:
        with pytest.raises(CNNEngineError, match=text) as caught:
            loaded = cnnengine.load(proto)
            loaded.run(None, {"x": np.zeros((2, 3, 4), np.uint8 if op == "DequantizeLinear" else F)})
        assert caught.value.node == "it"
        assert which in (caught.value.tensor or "")

    @pytest.mark.parametrize("known", [True, False])
    def test_the_wrong_axis(self, op: str, known: bool) -> None:
        for axis in (0, 2, -1, -3):
            self.refused(op, self.case(op, np.ones(3), axis=axis, known=known), "scale", "one number per index of axis")
        cnnengine.load(self.case(op, np.ones(3), axis=1))
        cnnengine.load(self.case(op, np.ones(3), axis=-2))

    def test_no_such_axis(self, op: str) -> None:
        """Known of a tensor of any extents, as soon as its rank is."""
        for axis in (3, -4):
            with pytest.raises(CNNEngineError, match="an axis that there is not; expected axis from -3 to 2") as caught:
                cnnengine.load(self.case(op, np.ones(3), axis=axis, known=False))
            assert caught.value.node == "it" and "scale" in (caught.value.tensor or "")
        cnnengine.load(self.case(op, 1.0, axis=3))  # which says nothing of one number

    def test_two_axes(self, op: str) -> None:
        self.refused(op, self.case(op, np.ones((2, 3)), axis=1), "scale", "one number per index of axis")

    def test_the_zero_point_too(self, op: str) -> None:
        self.refused(op, self.case(op, 1.0, np.zeros(4, np.uint8), axis=1), "zero_point", "one number per index of axis")

    def test_which_number(self, op: str) -> None:
        self.refused(op, self.case(op, [1.0, 2.0, 0.0], axis=1), "scale", r"received 0\.0 at 2")

    @pytest.mark.parametrize(
        ("block", "shape"), [(2, (2, 3, 3)), (3, (2, 3, 1)), (4, (2, 3)), (4, (2, 3, 4)), (1, (2, 3, 1)), (2, ())]
    )
    def test_blocks_that_do_not_fit(self, op: str, block: int, shape: tuple[int, ...]) -> None:
        self.refused(op, self.case(op, np.ones(shape), axis=2, block_size=block), "scale", "does not fit the blocks")

    @pytest.mark.parametrize(
        ("block", "shape"), [(2, (2, 3, 2)), (3, (2, 3, 2)), (4, (2, 3, 1)), (1, (2, 3, 4)), (2**40, (2, 3, 1))]
    )
    def test_blocks_that_fit(self, op: str, block: int, shape: tuple[int, ...]) -> None:
        proto = self.case(op, np.ones(shape), axis=2, block_size=block)
        x = np.zeros((2, 3, 4), np.uint8 if op == "DequantizeLinear" else F)
        assert not cnnengine.load(proto).run(None, {"x": x})[0].any()

    def test_scales_of_blocks(self, op: str) -> None:
        """Weights in blocks may have what the others may not: the sign of a block's extreme, and 0 for a block of zeros."""
        proto = self.case(op, np.array([[[-1.0, 0.0]] * 3] * 2), axis=2, block_size=2)
        if op == "DequantizeLinear":
            cnnengine.load(proto)
        else:
            self.refused(op, proto, "scale", r"positive and finite.*-1\.0 at \(0, 0, 0\)")
        for value in (np.nan, np.inf):
            proto = self.case(op, np.full((2, 3, 2), value), axis=2, block_size=2)
            self.refused(op, proto, "scale", "must be (positive and )?finite")

    def test_a_negative_block(self, op: str) -> None:
        with pytest.raises(CNNEngineError, match="must not be negative"):
            cnnengine.load(self.case(op, 1.0, block_size=-2))


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize(("op", "name"), [(op, n) for op, n in SCALES if op not in ("QLinearSoftmax", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")])  # fmt: skip  # noqa: E501
def test_computed_ones_are_looked_at_when_they_are_there(op: str, name: str, value: float) -> None:
    proto = model(op, {}, fed=[name])
    loaded = cnnengine.load(proto)
    loaded.run(None, feeds(op, {}, [name]))
    with pytest.raises(CNNEngineError, match="must be positive and finite") as caught:
        loaded.run(None, feeds(op, {name: F(value)}, [name]))
    assert (caught.value.node or "").split("/")[0] == "it"
    assert "scale" in (caught.value.tensor or "")


def test_constants_that_the_file_computes() -> None:
    """Known once they are folded."""
    nodes = [
        helper.make_node("Sub", ["one", "one"], ["scale"], name="difference"),
        helper.make_node("QuantizeLinear", ["x", "scale"], ["q"], name="it"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])], [onnx.ValueInfoProto(name="q")],
        [numpy_helper.from_array(F(1), "one")],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)
    with pytest.raises(CNNEngineError, match=r"node 'it'.*tensor 'scale'.*y_scale must be positive and finite"):
        cnnengine.load(proto)


def test_weights() -> None:
    """Of weights all is known when the model is loaded: a scale per channel on the wrong axis, too."""
    w = numpy_helper.from_array(np.zeros((3, 5), np.int8), "w")
    for scale, axis, text in ((np.ones(3, F), 1, "axis 1"), (np.ones(4, F), 0, "axis 0"), (np.array([1, 2, -3], F), 0, "at 2")):
        nodes = [
            helper.make_node("DequantizeLinear", ["w", "s"], ["f"], name="it", axis=axis),
            helper.make_node("MatMul", ["x", "f"], ["y"], name="product"),
        ]
        graph = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "k"])], [onnx.ValueInfoProto(name="y")],
            [w, numpy_helper.from_array(scale, "s")],
        )  # fmt: skip
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)
        with pytest.raises(CNNEngineError, match=f"node 'it'.*tensor 's'.*{text}"):
            cnnengine.load(proto)


def test_in_a_branch() -> None:
    body = [helper.make_node("QuantizeLinear", ["x", "s"], ["r"], name="it")]
    branches = {
        name: helper.make_graph(body, name, [], [onnx.ValueInfoProto(name="r")], [numpy_helper.from_array(F(-1), "s")])
        for name in ("then_branch", "else_branch")
    }
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
    ]
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], name="if", **branches)], "g", inputs, [onnx.ValueInfoProto(name="y")]
    )
    with pytest.raises(CNNEngineError, match=r"node 'it.*y_scale must be positive"):
        cnnengine.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8))


def test_types_that_nothing_is_quantised_to() -> None:
    for zero in (np.int32(0), np.int64(0), np.float64(0)):
        with pytest.raises(CNNEngineError, match=r"it.*the_y_zero_point"):
            cnnengine.load(model("QuantizeLinear", {"y_zero_point": zero}))
    for x in (np.zeros((2, 2), np.int64), np.zeros((2, 2), F)):
        with pytest.raises(CNNEngineError, match=r"it.*holds no quantised numbers|it.*another type"):
            cnnengine.load(model("DequantizeLinear", {"x": x, "x_zero_point": np.asarray(0, x.dtype)}))
