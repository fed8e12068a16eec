"""Operators that pick by indices known while running only: planned, on every dtype, against their references."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine import InputError
from cnnengine.ops.choose import TopK
from cnnengine.ops.gather import Gather, GatherElements, GatherND
from cnnengine.ops.running import CumSum
from cnnengine.ops.scatter import ScatterElements, ScatterND
from cnnengine.runtime.runner import fill_arenas

RNG = np.random.default_rng(11)
DTYPES = [np.float32, np.float64, np.int32, np.int64, np.bool_, np.uint8]


@pytest.fixture(autouse=True)
def filled():
    fill_arenas(255)
    yield
    fill_arenas(None)


def build(
    kind: str, arrays: dict[str, np.ndarray], outputs: int = 1, constants: tuple[str, ...] = (), **attributes: Any
) -> cnnengine.Model:
    """A model of one node, every array an input unless it is among the constants."""
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in arrays.items()
        if n not in constants
    ]
    initializers = [numpy_helper.from_array(arrays[n], n) for n in constants]
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(kind, list(arrays), names, name="the node", **attributes)
    graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name=n) for n in names], initializers)
    for info in graph.output:
        info.type.tensor_type.elem_type = (
            helper.np_dtype_to_tensor_dtype(arrays["x"].dtype) if info.name == "y0" else TensorProto.INT64
        )
    return cnnengine.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))


def check(
    op: Any, kind: str, arrays: dict[str, np.ndarray], outputs: int = 1, constants: tuple[str, ...] = (), **attributes: Any
) -> None:
    model = build(kind, arrays, outputs, constants, **attributes)
    expected = op.evaluate(*arrays.values())
    for _ in range(2):
        got = model.run(None, {n: a for n, a in arrays.items() if n not in constants})
        for a, b in zip(got, expected, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    assert not model.host_nodes()


def some(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return (RNG.standard_normal(shape) * 50).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize(
    ("shape", "axis", "points"),
    [((7,), 0, ()), ((7,), 0, (5,)), ((3, 4, 5), 1, (2, 6)), ((3, 4, 5), -1, (9,)), ((2, 3, 1), 0, (1,)), ((4, 2), 0, (0,))],
)
def test_gather(dtype, index, shape, axis, points):
    n = shape[axis]
    check(Gather(axis), "Gather", {"x": some(shape, dtype), "i": RNG.integers(-n, n, points).astype(index)}, axis=axis)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "points", "axis"), [((5, 6), (5, 6), 0), ((5, 6), (2, 9), 1), ((4, 1, 3), (3, 1, 2), -1), ((9,), (20,), 0)]
)
def test_gather_and_scatter_elements(dtype, shape, points, axis):
    n = shape[axis]
    x, i = some(shape, dtype), RNG.integers(-n, n, points)
    check(GatherElements(axis), "GatherElements", {"x": x, "i": i}, axis=axis)
    u = some(points, dtype)
    check(ScatterElements(axis), "ScatterElements", {"x": x, "i": i, "u": u}, axis=axis)
    if dtype in (np.float32, np.float64, np.int32, np.int64):
        for reduction in ("add", "mul", "max", "min"):
            with np.errstate(all="ignore"):
                op = ScatterElements(axis, reduction)
                check(op, "ScatterElements", {"x": x, "i": i, "u": u}, axis=axis, reduction=reduction)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "points", "depth", "batch"),
    [((5,), (4,), 1, 0), ((5, 6), (3, 2), 1, 0), ((5, 6), (7,), 2, 0), ((3, 5, 6, 2), (3, 4), 2, 1), ((2, 3, 4), (2, 3), 1, 2)],
)
def test_gather_and_scatter_nd(dtype, shape, points, depth, batch):
    i = np.stack([RNG.integers(-shape[batch + k], shape[batch + k], points) for k in range(depth)], -1)
    x = some(shape, dtype)
    check(GatherND(batch), "GatherND", {"x": x, "i": i}, batch_dims=batch)
    if batch == 0:
        u = some((*points, *shape[depth:]), dtype)
        check(ScatterND(), "ScatterND", {"x": x, "i": i, "u": u})
        if dtype in (np.float32, np.int64):
            check(ScatterND("add"), "ScatterND", {"x": x, "i": i, "u": u}, reduction="add")


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d is not np.bool_])
def test_topk_and_cumsum(dtype):
    x = some((4, 30, 3), dtype)
    check(TopK(1, 0), "TopK", {"x": x, "k": np.array([7])}, 2, ("k",), axis=1, largest=0)
    check(TopK(-1, 1), "TopK", {"x": x, "k": np.array([3])}, 2, ("k",))
    if dtype is not np.uint8:
        check(CumSum(1, 1), "CumSum", {"x": x, "a": np.array(-2)}, 1, ("a",), exclusive=1, reverse=1)


def test_only_the_indices_of_topk_may_be_wanted():
    node = helper.make_node("TopK", ["x", "k"], ["", "i"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 9])],
        [helper.make_tensor_value_info("i", TensorProto.INT64, None)],
        [numpy_helper.from_array(np.array([2]), "k")],
    )
    model = cnnengine.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))
    x = some((3, 9), np.float32)
    np.testing.assert_array_equal(model(x), np.argsort(-x, axis=1)[:, :2])


@pytest.mark.parametrize("bad", [-8, 7, 2**40])
@pytest.mark.parametrize("kind", ["Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND"])
def test_a_bad_index_is_an_error_that_names_the_node(kind, bad):
    i = np.array([[3], [bad]]) if kind.endswith("ND") else np.array([0, bad])
    arrays = {"x": some((7,), np.float32), "i": i}
    if kind.startswith("Scatter"):
        arrays["u"] = some((2,), np.float32)
    model = build(kind, arrays)
    with pytest.raises(InputError, match=f"the node.*{kind}.*outside.*{bad}"):
        model.run(None, arrays)
    arrays["i"] = np.clip(i, -7, 6)
    model.run(None, arrays)  # and the model goes on


def test_a_bad_index_is_an_error_in_a_bound_loop_too():
    model = build("Gather", {"x": some((7,), np.float32), "i": np.array([1, 2])})
    binding = model.bind()
    binding.inputs["x"][...] = 1
    binding.inputs["i"][...] = [3, 9]
    with pytest.raises(InputError, match="the node"):
        binding.run()
    binding.inputs["i"][...] = [3, 5]
    assert binding.run()["y0"].tolist() == [1, 1]


def test_a_gather_of_everything_copies_nothing():
    model = build("Gather", {"x": some((1, 3, 4, 4), np.float32), "i": np.array(0)}, constants=("i",), axis=0)
    x = some((1, 3, 4, 4), np.float32)
    np.testing.assert_array_equal(model(x), x[0])
    (segment,) = model._program.segments()
    assert [r.kernel for r in segment.plan.reports] == ["copy_nd[rows]"]  # into the output
