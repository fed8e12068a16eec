"""quantized_convolutions: a convolution of dequantised numbers is one of integers."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.conv import Conv, ConvTranspose
from ..ops.quantized_conv import QuantizedConv
from .nodes import Nodes, rewrite
from .quantized import bias_of, integers, stored, unsigned, weights_of


@rewrite(("Conv", "ConvTranspose"), ("DequantizeLinear",))
def quantized_convolutions(nodes: Nodes) -> None:
    """DequantizeLinear -> Conv (-> Relu or Clip) -> QuantizeLinear, or without the last, is a QuantizedConv."""
    for node in nodes.of("Conv", "ConvTranspose"):
        op = node.op
        if not isinstance(op, (Conv, ConvTranspose)) or op.activation is not None:
            continue
        x = integers(node.inputs[0], nodes)
        # groups of a transposed convolution share the numbers of an output channel
        transposed = isinstance(op, ConvTranspose)
        w = weights_of(node.inputs[1], int(transposed), nodes, per_channel=not transposed or op.group == 1)
        if x is None or w is None or nodes.constants[w.name].ndim < 3:
            if all(nodes.maker(name, "DequantizeLinear") is not None for name in node.inputs[:2]):
                nodes.left(node, "the scales and zero points of its input or weights are not of a form that integers serve")
            continue
        o = op.output_channels(nodes.constants[w.name].shape)
        sums = np.ascontiguousarray(np.broadcast_to(np.float32(x.steps.scale) * w.scale, (o,)))
        bias = bias_of(node.inputs[2] if len(node.inputs) > 2 else "", sums, nodes)
        if bias is None:
            nodes.left(node, "the bias is known only while it runs")
            continue
        last = stored(node, node.outputs[0], (), sums, bias, nodes)
        if last is None:
            continue
        added: list[Node] = []
        source = unsigned(x, nodes, added)
        new = QuantizedConv(op, source.steps.zero, floats=True)
        if last.steps is not None:
            new = QuantizedConv(op, source.steps.zero, zero=last.steps.zero, low=last.low, high=last.high)
        inputs = (source.name, w.name, w.zero, *last.inputs(node, nodes))
        nodes.put(node, *added, Node(new, inputs, (last.name,), node.name), *last.after, gone=last.gone)
