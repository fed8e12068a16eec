"""Tensors without elements: images of no height, batches of none, a result that is asked for empty."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import cnnengine
from cnnengine._kernels import dispatch

NONE = (0, 6, 5, 4)


def run(op: str, inputs: list[np.ndarray | None], behind: str = "", opset: int = 18, **attributes: Any) -> np.ndarray:
    """The node, on what another makes (or on its input itself), by each instruction set."""
    read = [f"c{i}" if v is not None else "" for i, v in enumerate(inputs)]
    nodes = [helper.make_node(op, ["made", *read[1:]], ["y"], **attributes)]
    nodes.insert(0, helper.make_node(behind or "Identity", ["c0"], ["made"]))
    x = inputs[0]
    assert x is not None
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("c0", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(v, f"c{i}") for i, v in enumerate(inputs) if i and v is not None],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    found = []
    for isa in dispatch.available_isas():
        with dispatch.use_isa(isa), cnnengine.load(model) as loaded:
            found += [loaded.run(None, {"c0": x}, threads=t)[0] for t in (1, 2)]
    for y in found[1:]:
        np.testing.assert_array_equal(y, found[0])
    return found[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("shape", [(2, 5, 0, 4), (1, 3, 0), (2, 3, 4, 0, 2), (0, 3, 0, 2)])
@pytest.mark.parametrize(
    ("op", "reduction", "nothing"),
    [("GlobalAveragePool", "ReduceMean", np.nan), ("GlobalMaxPool", "ReduceMax", -np.inf), ("GlobalLpPool", "ReduceL2", 0)],
)
def test_global_pools_are_reductions(op: str, reduction: str, nothing: float, shape: tuple[int, ...], dtype: type) -> None:
    x = np.zeros(shape, dtype)
    wanted = np.full((*shape[:2], *(1,) * (len(shape) - 2)), nothing, dtype)
    for behind in ("", "Relu"):
        y = run(op, [x], behind)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, wanted)
        np.testing.assert_array_equal(run(reduction, [x, np.arange(2, x.ndim)], behind), wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("group", [1, 2, 6])
def test_convolutions_of_no_images(group: int, dtype: type) -> None:
    x = np.zeros(NONE, dtype)
    assert run("Conv", [x, np.ones((12, 6 // group, 3, 3), dtype)], group=group).shape == (0, 12, 3, 2)
    assert run("ConvTranspose", [x, np.ones((6, 2, 3, 3), dtype)], group=group).shape == (0, 2 * group, 7, 6)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("sizes", [(1, 3, 0, 4), (1, 3, 8, 0), (1, 3, 0, 0)])
def test_empty_images(mode: str, sizes: tuple[int, ...]) -> None:
    y = run("Resize", [np.ones((1, 3, 4, 4), np.float32), None, None, np.array(sizes)], mode=mode)
    assert (y.shape, y.dtype) == (sizes, np.float32)
