"""What bfloat16 costs in accuracy, beside what it costs an engine that rounds everything: errors at the first output.

    CNNENGINE_ISA=avx2dot python benchmarks/bfloat16_error.py MODEL... [--inputs 3]

| column | |
|---|---|
| `products` | onnxruntime on float32, whose Conv, Gemm and MatMul have both operands rounded to bfloat16 |
| `everything` | the same, and what each operator gives rounded too: bfloat16 planes between all layers |
| `cnnengine` | `precision="bfloat16"` |

Each is the root mean square of the differences from onnxruntime's float32 over that of the values, the largest over the inputs
(seeded, normally distributed). Needs an instruction set that multiplies pairs of bfloat16 numbers, or one that emulates them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx.shape_inference
import onnx.version_converter
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cnnengine  # noqa: E402

PRODUCTS = ("Conv", "Gemm", "MatMul")


def rounded(path: str, everything: bool) -> onnx.ModelProto:
    """The model with roundings to bfloat16 as pairs of Casts; constants are rounded in place."""
    model = onnx.load(path)
    if next(one.version for one in model.opset_import if one.domain == "") < 13:  # from which on Cast knows bfloat16
        model = onnx.version_converter.convert_version(model, 13)
    model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    floats = {value.name for value in graph.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    ends = {value.name for value in graph.output}
    nodes: list[onnx.NodeProto] = []

    def through(name: str, given: str) -> list[onnx.NodeProto]:
        half = f"{given}.bfloat16"
        return [
            helper.make_node("Cast", [name], [half], to=TensorProto.BFLOAT16),
            helper.make_node("Cast", [half], [given], to=TensorProto.FLOAT),
        ]

    for node in graph.node:
        if node.op_type in PRODUCTS:
            for at, name in enumerate(node.input[:2]):
                if name in weights:
                    value = numpy_helper.to_array(weights[name]).astype(ml_dtypes.bfloat16).astype(np.float32)
                    weights[name].CopyFrom(numpy_helper.from_array(value, name))
                else:
                    given = f"{name}.to.{len(nodes)}"
                    nodes += through(name, given)
                    node.input[at] = given
        nodes.append(node)
        (y, *others) = node.output
        if everything and not others and y in floats and y not in ends and node.op_type != "Constant":
            node.output[0] = f"{y}.float32"
            nodes += through(node.output[0], y)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def error(y: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(np.square(y - expected).mean() / np.square(expected).mean()))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--inputs", type=int, default=3)
    args = parser.parse_args(argv)

    def session(model: bytes) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    print(f"{'':28}{'products':>12}{'everything':>12}{'cnnengine':>12}  convolutions and dense layers in bfloat16")
    for path in args.models:
        plain = session(Path(path).read_bytes())
        (given,) = plain.get_inputs()
        shape = [extent if isinstance(extent, int) else 1 for extent in given.shape]
        inputs = [np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in range(args.inputs)]
        expected = [plain.run(None, {given.name: x})[0] for x in inputs]
        found = []
        for everything in (False, True):
            one = session(rounded(path, everything).SerializeToString())
            found.append(max(error(one.run(None, {given.name: x})[0], y) for x, y in zip(inputs, expected, strict=True)))
        with cnnengine.load(path, precision="bfloat16") as model:
            ours = [np.asarray(model.run(None, {given.name: x})[0]) for x in inputs]
            lowered = len(model.lowered)
        found.append(max(error(a, y) for a, y in zip(ours, expected, strict=True)))
        print(f"{Path(path).name:28}" + "".join(f"{one:12.1e}" for one in found) + f"  {lowered}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
