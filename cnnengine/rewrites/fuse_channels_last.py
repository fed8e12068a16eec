"""fuse_channels_last: a convolution of an image of few channels reads it as it lies, channels last."""

from __future__ import annotations

from ..ops.fused import ChannelsLastConv, FusedConv, convolution
from ..ops.transpose import Transpose
from .convolutions import is_known
from .nodes import Nodes, rewrite


@rewrite(("Transpose",), ("Conv",))
def fuse_channels_last(nodes: Nodes) -> None:
    """Transpose (N, H, W, C) -> (N, C, H, W) of few channels + Conv -> Conv that reads the image as it is.

    The last of the rewrites: the others take the axes of a convolution's input for (N, C, H, W).
    """
    for node in nodes.of("Conv"):
        x, conv = node.inputs[0], convolution(node.op)
        maker = nodes.maker(x, "Transpose")
        if maker is None or not isinstance(maker.op, Transpose) or conv is None or not is_known(node, nodes):
            continue
        if maker.op.order(4) != (0, 3, 1, 2) or not 1 <= nodes.shape(x)[1] <= 4 or nodes.value(maker.inputs[0]) is not None:
            continue
        if nodes.only_reader(x) is None:
            nodes.left(node, f"{x} is read elsewhere too")
        elif 0 in nodes.shape(node.outputs[0]) or conv.group != 1 or max(conv.dilations, default=1) != 1:
            nodes.left(node, "the convolution has groups or dilations, or gives nothing")
        else:
            op = ChannelsLastConv(conv, FusedConv.of(node.op).residual)  # type: ignore[arg-type]
            nodes.put(node, node.replace(op=op, inputs=(maker.inputs[0], *node.inputs[1:])))
