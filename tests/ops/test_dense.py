"""Gemm and MatMul in models: constant and run-time operands, against the operators' references, without host nodes."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine.operator import NodeRecord
from cnnengine.ops import lookup

RNG = np.random.default_rng(11)


def check(op_type: str, attributes: dict, arrays: list[np.ndarray], constant: tuple[int, ...]) -> None:
    """A model of one node, some inputs constant; equal to the reference within rounding, at 1 and 2 threads to the bit."""
    names = [f"i{k}" for k in range(len(arrays))]
    graph = helper.make_graph(
        [helper.make_node(op_type, names, ["y"], name="node", **attributes)],
        "graph",
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape)
            for k, (n, a) in enumerate(zip(names, arrays, strict=True))
            if k not in constant
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(arrays[k], names[k]) for k in constant],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    cls = lookup(op_type)
    assert cls is not None
    op = cls.from_onnx(NodeRecord(op_type, "", 13, attributes, tuple(names), ("y",)))
    wide = [a.astype(np.float64) for a in arrays]
    want = op.evaluate(*wide)[0]
    size = (
        op.evaluate(*[np.abs(a) for a in wide])[0]
        if attributes.get("alpha", 1) > 0 and attributes.get("beta", 1) > 0
        else np.abs(want)
    )
    feeds = {n: a for k, (n, a) in enumerate(zip(names, arrays, strict=True)) if k not in constant}
    with cnnengine.load(model) as engine:
        one = engine.run(None, feeds, threads=1)[0]
        two = engine.run(None, feeds, threads=2)[0]
        assert engine.host_nodes() == []
    assert one.tobytes() == two.tobytes()
    assert one.dtype == np.float32
    assert one.shape == want.shape
    terms = arrays[0].size
    assert (np.abs(one - want) <= 2.0**-23 * (4 + np.sqrt(terms)) * np.abs(size)).all()


def rand(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("trans_a", "trans_b"), list(itertools.product((0, 1), repeat=2)))
@pytest.mark.parametrize("constant", [(), (1,), (2,), (1, 2)])
@pytest.mark.parametrize("c", [None, (19,), (1, 19), (7, 1), (7, 19), (1,), ()])
def test_gemm(trans_a, trans_b, constant, c):
    arrays = [rand(*((33, 7) if trans_a else (7, 33))), rand(*((19, 33) if trans_b else (33, 19)))]
    if c is not None:
        arrays.append(rand(*c))
    attributes = {"transA": trans_a, "transB": trans_b, "alpha": 0.5, "beta": 2.0}
    check("Gemm", attributes, arrays, tuple(k for k in constant if k < len(arrays)))
    check("Gemm", {"transA": trans_a, "transB": trans_b}, arrays, tuple(k for k in constant if k < len(arrays)))


SHAPES = [
    ((7, 33), (33, 19)),
    ((2, 7, 33), (33, 19)),
    ((2, 7, 33), (2, 33, 19)),
    ((2, 1, 7, 33), (3, 33, 19)),
    ((33,), (33, 19)),
    ((7, 33), (33,)),
    ((33,), (33,)),
    ((4, 3, 16, 36), (4, 3, 36, 16)),
]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("constant", [(), (0,), (1,)])
def test_matmul(shapes, constant):
    check("MatMul", {}, [rand(*shapes[0]), rand(*shapes[1])], constant)
