"""Operators of single elements on tensors of rank 0: the numbers that they give in one of rank 1, in a plan and at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import cnnengine

UNARY = {
    "bool": ["Not", "Identity"],
    "int32": ["BitwiseNot", "Abs", "Neg", "Sign", "Identity"],
    "uint8": ["BitwiseNot", "Identity"],
    "float32": [
        *("Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Sqrt", "Reciprocal", "Exp", "Log", "Sin", "Cos", "Tan", "Asin"),
        *(
            "Acos",
            "Atan",
            "Sinh",
            "Cosh",
            "Asinh",
            "Acosh",
            "Atanh",
            "Erf",
            "IsNaN",
            "IsInf",
            "Relu",
            "LeakyRelu",
            "Elu",
            "Selu",
            "Celu",
        ),
        *("ThresholdedRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Softplus", "Softsign", "Tanh", "Mish", "Gelu", "Clip"),
        *("Shrink", "Identity", "Swish"),
    ],
}
BINARY = {
    "bool": ["And", "Or", "Xor", "Equal"],
    "int32": [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Mod",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "Equal",
        "Less",
        "Greater",
        "Max",
        "Min",
    ],
    "float32": ["Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Equal", "Less", "GreaterOrEqual", "Max", "Min", "Mean", "Sum"],
}
CASES = [(op, dtype, n) for n, table in ((1, UNARY), (2, BINARY)) for dtype, ops in table.items() for op in ops]
VALUES: dict[str, Any] = {"bool": True, "int32": 5, "uint8": 9, "float32": 0.625}


def run(op: str, dtype: str, count: int, shape: tuple[int, ...]) -> np.ndarray:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    names = [f"x{i}" for i in range(count)]
    inputs = [helper.make_tensor_value_info(name, element, shape) for name in names]
    output = helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)
    graph = helper.make_graph([helper.make_node(op, names, ["y"])], "g", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10).SerializeToString()
    y: np.ndarray = cnnengine.load(model, threads=1).run(None, {name: np.full(shape, VALUES[dtype], dtype) for name in names})[0]
    return y


@pytest.mark.parametrize(("op", "dtype", "count"), CASES)
def test_a_scalar_is_as_good_as_a_vector(op: str, dtype: str, count: int) -> None:
    scalar, vector = run(op, dtype, count, ()), run(op, dtype, count, (1,))
    assert scalar.shape == () and vector.shape == (1,) and scalar.dtype == vector.dtype
    np.testing.assert_array_equal(scalar, vector[0])
