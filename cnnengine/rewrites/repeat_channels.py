"""repeat_channels: a depthwise convolution with several outputs a channel reads each channel as often."""

from __future__ import annotations

from dataclasses import replace

from ..graph import Node
from ..ops.fused import FusedConv, TakeChannels, convolution
from ..spec import TensorSpec
from .nodes import FLOAT32, Nodes, rewrite


@rewrite(("Conv",))
def repeat_channels(nodes: Nodes) -> None:
    """Depthwise Conv with several outputs a channel -> TakeChannels, which repeats the channels, + depthwise Conv.

    Groups of one channel with several outputs would lie a block each, most of its lanes empty.
    """
    for node in nodes.of("Conv"):
        op, conv = node.op, convolution(node.op)
        if conv is None or not nodes.may_lie_in_planes(node.inputs[0]):
            continue
        x, w = nodes.shape(node.inputs[0]), nodes.shape(node.inputs[1])
        if not (conv.group == x[1] > 1 and w[0] > x[1] and w[0] % x[1] == 0 and w[1] == 1):
            continue
        if nodes.value(node.inputs[1]) is None:
            nodes.left(node, "the weights are known only while it runs")
            continue
        name = nodes.made(f"{node.outputs[0]} (channels)", TensorSpec(FLOAT32, (x[0], w[0], *x[2:])))
        take = TakeChannels(tuple(i // (w[0] // x[1]) for i in range(w[0])))
        conv = replace(conv, group=w[0])
        nodes.put(
            node,
            Node(take, node.inputs[:1], (name,), f"{node.name} (channels)"),
            node.replace(op=replace(op, conv=conv) if isinstance(op, FusedConv) else conv, inputs=(name, *node.inputs[1:])),
        )
