"""What arithmetic a file asks for, which of two is the higher, and how far apart two results of one may lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    import onnx

RANK = {"int4": 0, "float8": 1, "int8": 2, "bfloat16": 3, "float16": 4, "int16": 5, "float32": 6}
"""From the least bits that count to the most."""
SHOWN = {"bfloat16": "bf16", "float16": "f16"}
INTEGER = ("int4", "float8", "int8", "int16")
"""Of these a difference is told in quantisation steps."""
TOLERANCE: Mapping[str, float] = {
    "float32": 1e-3, "float16": 1e-2, "bfloat16": 1e-1, "int16": 16.0, "int8": 16.0, "float8": 16.0, "int4": 16.0,
}  # fmt: skip
"""Outputs further apart are not the same computation: relative to their largest absolute value, of `INTEGER` in steps.

Every engine rounds a quantised network elsewhere, and roundings cascade: outputs that are right lie up to two steps on either
side of the exact ones. Where a processor lacks instructions for products of bytes, some add pairs of products in 16 bits, which
saturates, or give up a bit of the weights: up to 11 steps were seen. What is wrong lies 25 and more away."""

QUANTISED = ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "QGemm")
KINDS = {
    2: "int8",
    3: "int8",
    4: "int16",
    5: "int16",
    17: "float8",
    18: "float8",
    19: "float8",
    20: "float8",
    21: "int4",
    22: "int4",
}
"""Element types of ONNX that QuantizeLinear gives."""
FLOATS = {1: "float32", 10: "float16", 11: "float32", 16: "bfloat16"}
SLOPES = {
    **dict.fromkeys(("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Slice", "Relu", "MaxPool"), 1.0),
    "Sigmoid": 0.25,
    "Softmax": 0.5,
    "LogSoftmax": 2.0,
    "Tanh": 1.0,
}
"""By how much an output of these changes at most when its inputs change by one."""
LEVELS = 255
"""Steps in the range of an output that nothing says the step of."""


def shown(precision: str) -> str:
    """ "float32", "bf16", "f16", "int8"."""
    return SHOWN.get(precision, precision)


def lower(a: str, b: str) -> str:
    return min(a, b, key=RANK.__getitem__)


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of branches and loop bodies too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes_of(inner)


def of_model(model: onnx.ModelProto) -> str:
    """Of a model with quantised activations their type; of others that of most of its weights.

    Weights that are dequantised before they are used leave the arithmetic in floats.
    """
    nodes = [*nodes_of(model.graph), *(node for function in model.functions for node in function.node)]
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    types |= {
        node.output[0]: attribute.t.data_type
        for node in nodes if node.op_type == "Constant"
        for attribute in node.attribute if attribute.name == "value"
    }  # fmt: skip
    found = set()
    for node in nodes:
        if node.op_type == "QuantizeLinear":
            named = [attribute.i for attribute in node.attribute if attribute.name == "output_dtype" and attribute.i]
            zero = types.get(node.input[2]) if len(node.input) > 2 else None
            found.add(KINDS.get(named[0] if named else zero or 2, "int8"))
        elif node.op_type in QUANTISED or node.op_type.startswith(("QLinear", "DynamicQuantize")):
            found.add("int8")
    if found:
        return min(found, key=RANK.__getitem__)
    sizes: dict[str, int] = {}
    for tensor in model.graph.initializer:
        if tensor.data_type in FLOATS:
            size = 1
            for extent in tensor.dims:
                size *= extent
            sizes[FLOATS[tensor.data_type]] = sizes.get(FLOATS[tensor.data_type], 0) + size
    if not sizes:
        given = [FLOATS.get(value.type.tensor_type.elem_type, "") for value in model.graph.input]
        return next(filter(None, given), "float32")
    return max(sizes, key=sizes.__getitem__)


def steps_of(model: onnx.ModelProto) -> list[float | None]:
    """For each output what one quantisation step before it changes in it at most; None where the graph does not say."""
    import onnx

    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output if name}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    tensors |= {
        node.output[0]: attribute.t
        for node in graph.node if node.op_type == "Constant"
        for attribute in node.attribute if attribute.name == "value"
    }  # fmt: skip

    def step(name: str, slope: float) -> float | None:
        node = makers.get(name)
        if node is None:
            return None
        if node.op_type in SLOPES:
            return step(node.input[0], slope * SLOPES[node.op_type])
        if node.op_type == "DequantizeLinear" and node.input[1] in tensors:
            scale = onnx.numpy_helper.to_array(tensors[node.input[1]])
            return slope * float(abs(scale).max()) if scale.size else None
        return None

    return [1.0 if value.type.tensor_type.elem_type in KINDS else step(value.name, 1.0) for value in graph.output]


def tolerances(text: str) -> dict[str, float]:
    """What ``--tolerance`` says: ``0.01`` for the floats, ``6steps`` for the quantised, ``bf16=0.05``; several by commas.

    Raises
    ------
    InputError
        Anything else.
    """
    names = {name: name for name in RANK} | {short: name for name, short in SHOWN.items()}
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.strip().rpartition("=")
        in_steps = value.endswith("steps")
        try:
            number = float(value.removesuffix("steps"))
        except ValueError:
            number = -1.0
        of = [names[name]] if name in names else [n for n in RANK if (n in INTEGER) == in_steps] if not equals else []
        if not (0 <= number < float("inf")) or not of or (in_steps and not set(of) <= set(INTEGER)):
            raise InputError(
                "no tolerance", tensor="tolerance", expected="as 0.01, 6steps, bf16=0.05 or int8=6", received=part.strip()
            )
        found |= dict.fromkeys(of, number)
    return found
