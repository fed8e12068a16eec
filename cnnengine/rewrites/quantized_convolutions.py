"""quantized_convolutions: a convolution of dequantised numbers is one of integers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..graph import Node
from ..ops.conv import Conv, ConvTranspose
from ..ops.quantized import DequantizeLinear
from ..ops.quantized_conv import QuantizedConv
from .common import bounds, only_output
from .nodes import FLOAT32, Nodes, rewrite
from .quantized import INT8, UINT8, Quantized, Steps, integers, only_quantized, results, unsigned


@dataclass(frozen=True)
class QuantizedWeights:
    """Constant integers that stand for weights.

    Attributes
    ----------
    name, zero : str
        The constants; zero may be empty.
    scale : ndarray of float32
        One number, or one per output channel.
    """

    name: str
    zero: str
    scale: np.ndarray


@rewrite(("Conv", "ConvTranspose"), ("DequantizeLinear",))
def quantized_convolutions(nodes: Nodes) -> None:
    """DequantizeLinear -> Conv (-> Relu or Clip) -> QuantizeLinear, or without the last, is a QuantizedConv."""
    for node in nodes.of("Conv", "ConvTranspose"):
        op = node.op
        if not isinstance(op, (Conv, ConvTranspose)) or op.activation is not None:
            continue
        x = integers(node.inputs[0], nodes)
        w = weights_of(node, op, nodes)
        if x is None or w is None:
            if (
                nodes.maker(node.inputs[0], "DequantizeLinear") is not None
                and nodes.maker(node.inputs[1], "DequantizeLinear") is not None
            ):
                nodes.left(node, "the scales and zero points of its input or weights are not of a form that integers serve")
            continue
        sums = scale_of_sums(x.steps, w, nodes.constants[w.name].shape, op)
        bias = bias_of(node.inputs[2] if len(node.inputs) > 2 else "", sums, nodes)
        if bias is None:
            nodes.left(node, "the bias is known only while it runs")
            continue
        _put(node, op, x, w, sums, bias, nodes)


def weights_of(node: Node, op: Conv | ConvTranspose, nodes: Nodes) -> QuantizedWeights | None:
    """The integers that the weights of a convolution are, with one scale or one per output channel."""
    maker = nodes.maker(node.inputs[1], "DequantizeLinear")
    if maker is None or not isinstance(maker.op, DequantizeLinear) or maker.op.block_size or not only_output(maker):
        return None
    w, scale, zero = (nodes.constant(maker, i) for i in range(3))
    if w is None or scale is None or w.dtype not in (UINT8, INT8) or scale.dtype != FLOAT32 or w.ndim < 3:
        return None
    if zero is None and len(maker.inputs) > 2 and maker.inputs[2]:
        return None
    if maker.op.output_dtype is not None and maker.op.output_dtype != FLOAT32:
        return None
    axis = 0 if isinstance(op, Conv) else 1
    for value in (scale, zero):
        if value is None or value.size == 1:
            continue
        # groups of a transposed convolution share the numbers of an output channel
        if value.shape != (w.shape[axis],) or maker.op.axis % w.ndim != axis or (axis == 1 and op.group != 1):
            return None
    if not np.all((scale >= np.finfo(np.float32).tiny) & (scale < np.inf)):
        return None
    name = maker.inputs[2] if zero is not None and np.any(zero) else ""
    return QuantizedWeights(maker.inputs[0], name, scale.reshape(-1))


def scale_of_sums(x: Steps, w: QuantizedWeights, shape: tuple[int, ...], op: Conv | ConvTranspose) -> np.ndarray:
    """What a unit of the sums is, for each output channel: float32 (O,)."""
    o = shape[0] if isinstance(op, Conv) else shape[1] * op.group
    return np.ascontiguousarray(np.broadcast_to(np.float32(x.scale) * w.scale, (o,)))


@dataclass(frozen=True)
class Bias:
    """A bias in units of the sums (int32), as floats, or none."""

    units: np.ndarray | None = None
    floats: np.ndarray | None = None


def bias_of(name: str, sums: np.ndarray, nodes: Nodes) -> Bias | None:
    """The bias of this name, none where it is empty; None where it is not known."""
    if not name:
        return Bias()
    value = nodes.constants.get(name)
    if value is not None:
        return Bias(floats=value.reshape(-1).astype(np.float32))
    maker = nodes.maker(name, "DequantizeLinear")
    if maker is None or not isinstance(maker.op, DequantizeLinear) or maker.op.block_size:
        return None
    units, scale, zero = (nodes.constant(maker, i) for i in range(3))
    if units is None or scale is None or units.ndim != 1 or scale.size not in (1, units.size):
        return None
    if zero is None and len(maker.inputs) > 2 and maker.inputs[2]:
        return None
    if units.dtype == np.int32 and (zero is None or not np.any(zero)) and len(units) == len(sums):
        scales = np.broadcast_to(scale.reshape(-1), sums.shape)
        if np.all(np.abs(scales - sums) <= np.float32(1e-6) * np.abs(sums)):
            return Bias(units=units)
    found = maker.op.evaluate(units, scale, zero)[0]
    return Bias(floats=np.asarray(found, np.float32).reshape(-1))


def _put(
    node: Node, op: Conv | ConvTranspose, x: Quantized, w: QuantizedWeights, sums: np.ndarray, bias: Bias, nodes: Nodes
) -> None:
    y, gone = node.outputs[0], []
    low, high = -np.inf, np.inf
    reader = nodes.only_reader(y)
    if reader is not None and reader.op.op_type in ("Relu", "Clip") and reader.inputs[0] == y and only_output(reader):
        limits = (0.0, np.inf) if reader.op.op_type == "Relu" else bounds(reader, nodes)
        if limits is not None and limits[0] <= limits[1]:
            low, high = limits
            gone.append(reader)
            y = reader.outputs[0]
    last = only_quantized(y, nodes)
    if last is None and gone:
        # floats have activations of their own, fused later
        gone, low, high, y = [], -np.inf, np.inf, node.outputs[0]
        last = only_quantized(y, nodes)
    added: list[Node] = []
    if last is None:
        new = QuantizedConv(op, 0, floats=True)
        made = y
        after: list[Node] = []
        ratio = sums
        units, offset = bias.units, bias.floats
    else:
        quantize, signed = last
        steps = signed.unsigned()
        ratio = sums / np.float32(steps.scale)
        offset = None
        units = bias.units
        if bias.floats is not None:
            with np.errstate(all="ignore"):
                exact = np.rint(bias.floats.astype(np.float64) / sums.astype(np.float64))
            if not np.all(np.abs(exact) < 1 << 30):
                nodes.left(node, "the bias is too large to be one of the sums")
                return
            units = exact.astype(np.int32)
        within = between(low, high, steps)
        if within is None:
            nodes.left(node, "no quantised number lies within the bounds of its activation")
            return
        new = QuantizedConv(op, 0, zero=steps.zero, low=within[0], high=within[1])
        made, after = results(quantize, signed, nodes)
        gone.append(quantize)
    if not np.all(np.isfinite(ratio)) or not np.all(ratio >= np.finfo(np.float32).tiny):
        nodes.left(node, "the ratio of its scales is no normal number")
        return
    source = unsigned(x, nodes, added)
    inputs = [source.name, w.name, w.zero, nodes.add(f"{node.name}/ratio", ratio.astype(np.float32))]
    inputs.append("" if units is None else nodes.add(f"{node.name}/bias", units))
    inputs.append("" if offset is None else nodes.add(f"{node.name}/offset", offset))
    while not inputs[-1]:
        inputs.pop()
    fused = Node(replace(new, x_zero=source.steps.zero), tuple(inputs), (made,), node.name)
    nodes.put(node, *added, fused, *after, gone=gone)


def between(low: float, high: float, steps: Steps) -> tuple[int, int] | None:
    """The uint8 numbers, less their zero point, that stand for floats within these bounds; None where there are none."""
    scale = np.float32(steps.scale)

    def step(bound: float, limit: int) -> int:
        with np.errstate(all="ignore"):
            number = float(np.rint(np.float32(bound) / scale))
        return int(min(max(number, -steps.zero), 255 - steps.zero)) if np.isfinite(number) else limit

    found = step(low, -steps.zero), step(high, 255 - steps.zero)
    return found if found[0] <= found[1] else None
