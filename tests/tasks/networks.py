"""Networks whose outputs are known: they are constants of the file, or the input itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def constant(path: Path, outputs: dict[str, np.ndarray], shape: tuple[object, ...] = ("N", 3, 64, 96), **metadata: str) -> Path:
    """An input that takes pictures, outputs that are constants (a batch of one, plus nothing of the input)."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    axes = list(range(len(shape)))
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=axes, keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    weights = [numpy_helper.from_array(np.float32(0), "zero")]
    infos = []
    for name, y in outputs.items():
        whole = y.dtype.kind in "iu"
        weights.append(numpy_helper.from_array(y if whole else y.astype(np.float32), f"{name}_is"))
        kind = helper.np_dtype_to_tensor_dtype(y.dtype if whole else np.dtype(np.float32))
        if whole:
            nodes.append(helper.make_node("Cast", ["nothing"], [f"{name}_none"], to=kind))
        nodes.append(helper.make_node("Add", [f"{name}_is", f"{name}_none" if whole else "nothing"], [name]))
        infos.append(helper.make_tensor_value_info(name, kind, [None] * y.ndim))
    return _saved(path, nodes, [x], infos, weights, metadata)


def enlarging(path: Path, times: int = 2, **metadata: str) -> Path:
    """Each pixel as `times` by `times` of the same."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, None, None])
    node = helper.make_node(
        "Resize", ["x", "", "by"], ["y"], mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"
    )
    return _saved(path, [node], [x], [y], [numpy_helper.from_array(np.float32([1, 1, times, times]), "by")], metadata)


def through(path: Path, op: str, count: int = 3, **metadata: str) -> Path:
    """The mean of each channel, through an operator."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", count])
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f" if op else "y"]),
    ]
    if op:
        nodes.append(helper.make_node(op, ["f"], ["y"]))
    return _saved(path, nodes, [x], [y], [], metadata)


def _saved(path: Path, nodes: list, inputs: list, outputs: list, weights: list, metadata: dict[str, str]) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {key.replace("__", "."): text for key, text in metadata.items()})
    onnx.save(model, path)
    return path
