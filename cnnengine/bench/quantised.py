"""A quantised ONNX file (QDQ) as a module of torch with the same scales, for converters that read torch's quantised operators.

The file stands alone, as `engines.py` does, and is used where its engines are converted: with torch, onnx and onnx2torch.

Weights that the file dequantises become floats again and are quantised anew by their own scales, which gives back the same
integers; Quantize and Dequantize of activations become torch.ops.quantized_decomposed, unsigned ones as signed, 128 lower: so is
what these converters look for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

LOW, HIGH = -128, 127
WEIGHTS_LOW = -127
VERSIONS = (10, 13, 19, 21, 23, 24, 25)
"""Of QuantizeLinear and DequantizeLinear."""


@dataclass(frozen=True)
class Scales:
    """Of a tensor of weights; the axis is None for one scale."""

    scale: np.ndarray
    axis: int | None

    def transposed(self) -> Scales:
        return Scales(self.scale, None if self.axis is None else 1 - self.axis)


def without_weight_quantisation(model: Any) -> dict[bytes, Scales]:
    """Fold DequantizeLinear of constants into floats; the scales of what was int8, by the bytes of the floats.

    Raises
    ------
    NotImplementedError
        Weights with a zero point, or unsigned ones.
    """
    onnx = importlib.import_module("onnx")
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found: dict[bytes, Scales] = {}
    for node in list(model.graph.node):
        if node.op_type != "DequantizeLinear" or not all(name in tensors for name in node.input if name):
            continue
        q, scale = tensors[node.input[0]], tensors[node.input[1]]
        zero = tensors[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros_like(scale, q.dtype)
        if q.dtype not in (np.int8, np.int32) or zero.any():
            raise NotImplementedError(f"{node.output[0]}: weights of {q.dtype} with a zero point of {zero.reshape(-1)[0]}")
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        shape = [-1 if scale.size > 1 and i == axis % q.ndim else 1 for i in range(q.ndim)]
        value = (q.astype(np.float32) * scale.reshape(shape)).astype(np.float32)
        if q.dtype == np.int8:
            found[value.tobytes()] = Scales(scale.reshape(-1), axis % q.ndim if scale.size > 1 else None)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, node.output[0]))
        model.graph.node.remove(node)
    return found


def scales_of(weight: np.ndarray, known: dict[bytes, Scales]) -> Scales | None:
    """Of a module's weight, which may be the file's transposed."""
    found = known.get(weight.tobytes())
    if found is None and weight.ndim == 2:
        found = known.get(np.ascontiguousarray(weight.T).tobytes())
        return None if found is None else found.transposed()
    return found


def module(path: str, convert: Callable[[Any], Any]) -> Any:
    """The module.

    Parameters
    ----------
    path : str
    convert : callable
        onnx2torch's.

    Raises
    ------
    NotImplementedError
        What the converters have no form for: activations quantised per axis or to other types than 8 bits.
    """
    onnx, torch = importlib.import_module("onnx"), importlib.import_module("torch")
    importlib.import_module("torch.ao.quantization.fx._decomposed")
    registry = importlib.import_module("onnx2torch.node_converters.registry")
    common = importlib.import_module("onnx2torch.utils.common")
    ops, functional = torch.ops.quantized_decomposed, torch.nn.functional

    class Activation(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self, operator: Any, scale: float, zero: int) -> None:
            super().__init__()
            self.operator, self.scale, self.zero = operator, scale, zero

        def forward(self, x: Any) -> Any:
            return self.operator(x, self.scale, self.zero, LOW, HIGH, torch.int8)

    class Weighted(torch.nn.Module):  # type: ignore[name-defined, misc]
        """A convolution or dense layer whose weight passes through its quantisation."""

        def __init__(self, inner: Any, scales: Scales) -> None:
            super().__init__()
            self.inner, self.axis, self.one = inner, scales.axis, float(scales.scale[0])
            self.register_buffer("scale", torch.from_numpy(scales.scale.astype(np.float32)))
            self.register_buffer("zero", torch.zeros(scales.scale.size, dtype=torch.int64))

        def forward(self, x: Any) -> Any:
            bounds = (WEIGHTS_LOW, HIGH, torch.int8)
            if self.axis is None:
                how = (self.one, 0, *bounds)
                w = ops.dequantize_per_tensor(ops.quantize_per_tensor(self.inner.weight, *how), *how)
            else:
                along = (self.scale, self.zero, self.axis, *bounds)
                w = ops.dequantize_per_channel(ops.quantize_per_channel(self.inner.weight, *along), *along)
            if isinstance(self.inner, torch.nn.Linear):
                return functional.linear(x, w, self.inner.bias)
            return self.inner._conv_forward(x, w, self.inner.bias)

    def activation(node: Any, graph: Any) -> Any:
        constants = [graph.initializers[name].to_torch() for name in node.input_values[1:] if name in graph.initializers]
        if len(constants) != len(node.input_values) - 1 or constants[0].numel() != 1:
            raise NotImplementedError(f"{node.name}: scales that are not one constant")
        zero = constants[1] if len(constants) > 1 else torch.zeros(1, dtype=torch.uint8)
        if zero.dtype not in (torch.uint8, torch.int8):
            raise NotImplementedError(f"{node.name}: activations of {zero.dtype}")
        lower = 128 if zero.dtype == torch.uint8 else 0
        operator = ops.quantize_per_tensor if node.operation_type == "QuantizeLinear" else ops.dequantize_per_tensor
        return common.OperationConverterResult(
            torch_module=Activation(operator, float(constants[0]), int(zero) - lower),
            onnx_mapping=common.OnnxMapping(inputs=(node.input_values[0],), outputs=node.output_values),
        )

    for name in ("QuantizeLinear", "DequantizeLinear"):
        for version in VERSIONS:
            registry.add_converter(name, version)(activation)
    model = onnx.load(path)
    known = without_weight_quantisation(model)
    made = convert(model).eval()
    for name, inner in list(made.named_modules()):
        if isinstance(inner, torch.nn.Linear | torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d):
            scales = scales_of(inner.weight.detach().numpy(), known)
            if scales is not None:
                parent, _, leaf = name.rpartition(".")
                setattr(made.get_submodule(parent), leaf, Weighted(inner, scales))
    return made
