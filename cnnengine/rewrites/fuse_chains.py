"""fuse_chains: a large tensor between a 1x1 and a depthwise convolution is not stored."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..graph import Node
from ..ops.conv import Conv
from ..ops.fused import ConvChain, FusedConv
from .convolutions import is_depthwise, is_pointwise
from .nodes import Nodes, rewrite

CHAIN_BYTES = 1 << 19
"""Hidden tensors of an image from this size on are not stored: a quarter of a common second-level cache."""


@rewrite(("Conv",))
def fuse_chains(nodes: Nodes) -> None:
    """1x1 Conv + depthwise Conv, and depthwise Conv + 1x1 Conv, where the tensor between them is large -> ConvChain.

    That tensor must be read by the second convolution alone.
    """
    for node in nodes.of("Conv"):
        hidden = node.inputs[0]
        first = nodes.maker(hidden, "Conv")
        if first is None:
            continue
        # a depthwise convolution that is already in a chain stays there: all three in one are no faster
        expand = is_depthwise(node, nodes) and is_pointwise(first, nodes)
        project = not expand and is_pointwise(node, nodes) and is_depthwise(first, nodes)
        if expand and not _expands(first, nodes):
            nodes.left(node, f"{first.name} does not widen whole blocks of channels, or adds something")
        elif expand or project:
            size = 4 * math.prod(nodes.shape(hidden)[1:])
            if nodes.only_reader(hidden) is None:
                nodes.left(node, f"{hidden} is read elsewhere too")
            elif size < CHAIN_BYTES:
                nodes.left(node, f"the tensor between them has {size} bytes an image, fewer than {CHAIN_BYTES}")
            else:
                nodes.put(node, _chain([first, node], expand=expand, project=project))


def _chain(convs: Sequence[Node], *, expand: bool, project: bool) -> Node:
    inputs = [convs[0].inputs[0]]
    for node in convs:
        inputs += [node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else ""]
    last = convs[-1]
    inputs += last.inputs[3:]
    ops = [FusedConv.of(n.op) for n in convs]  # type: ignore[arg-type]
    chain = ConvChain(tuple(op.conv for op in ops), expand, project, residual=ops[-1].residual)
    return last.replace(op=chain, inputs=tuple(inputs))


def _expands(node: Node, nodes: Nodes) -> bool:
    """Whether a 1x1 convolution, with nothing added, reads less than it writes, and whole blocks of channels."""
    return isinstance(node.op, Conv) and 8 <= nodes.shape(node.inputs[0])[1] < nodes.shape(node.outputs[0])[1]
