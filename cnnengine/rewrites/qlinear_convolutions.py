"""qlinear_convolutions: a QLinearConv whose scales and zero points are constants is a QuantizedConv."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.flip_sign import FlipSign
from ..ops.integer_conv import QLinearConv
from ..ops.quantized_conv import QuantizedConv
from .nodes import FLOAT32, Nodes, rewrite
from .quantized import INT8, UINT8, Quantized, Steps, normal, unsigned


@rewrite(("QLinearConv",))
def qlinear_convolutions(nodes: Nodes) -> None:
    """QLinearConv -> QuantizedConv, between FlipSigns where its tensors are int8."""
    for node in nodes.of("QLinearConv"):
        op = node.op
        if not isinstance(op, QLinearConv):
            continue
        found = [nodes.constant(node, i) for i in range(1, 8)]
        x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = found
        bias = nodes.constant(node, 8)
        if any(value is None for value in found) or (bias is None and len(node.inputs) > 8 and node.inputs[8]):
            nodes.left(node, "its weights, scales or zero points are known only while it runs")
            continue
        assert x_scale is not None and x_zero is not None and w is not None and w_scale is not None
        assert w_zero is not None and y_scale is not None and y_zero is not None
        singles = (x_scale, x_zero, y_scale, y_zero)
        if any(value.size != 1 for value in singles) or any(v.dtype != FLOAT32 for v in (x_scale, w_scale, y_scale)):
            continue  # a wrong model, or one of another type: its own rules say so
        if any(v.dtype not in (UINT8, INT8) for v in (x_zero, y_zero, w)) or nodes.dtype(node.inputs[0]) != x_zero.dtype:
            continue
        o = w.shape[0]
        if (
            w_scale.size not in (1, o)
            or w_zero.size not in (1, o)
            or w_zero.dtype != w.dtype
            or (bias is not None and bias.shape != (o,))
        ):
            continue
        if not all(np.all(value > 0) for value in (x_scale, w_scale, y_scale)):
            continue  # a wrong model: its own rules say so
        with np.errstate(all="ignore"):
            ratio = np.broadcast_to(x_scale.reshape(()) * w_scale.reshape(-1) / y_scale.reshape(()), (o,)).astype(FLOAT32)
        if not normal(ratio):
            nodes.left(node, "the ratio of its scales is no normal number")
            continue
        added: list[Node] = []
        steps = Steps(float(x_scale.reshape(())), int(x_zero.reshape(())), x_zero.dtype == INT8)
        x = unsigned(Quantized(node.inputs[0], steps), nodes, added)
        zero = int(y_zero.reshape(())) + (128 if y_zero.dtype == INT8 else 0)
        fused = QuantizedConv(op.conv, x.steps.zero, zero=zero, low=-zero, high=255 - zero)
        inputs = [x.name, node.inputs[3], node.inputs[5] if np.any(w_zero) else "", nodes.add(f"{node.name}/ratio", ratio)]
        if bias is not None:
            inputs.append(node.inputs[8])
        y = node.outputs[0]
        after: list[Node] = []
        if y_zero.dtype == INT8:
            y = nodes.fresh(f"{y}/unsigned")
            after.append(Node(FlipSign(), (y,), node.outputs, f"{node.outputs[0]}/signed"))
        nodes.put(node, *added, Node(fused, tuple(inputs), (y,), node.name), *after)
