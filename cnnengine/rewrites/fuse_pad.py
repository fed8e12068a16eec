"""fuse_pad: zeros that a Pad puts around the pixels become pads of the convolution or pooling that reads them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..graph import Node
from ..ops.conv import Conv
from ..ops.extend import Pad
from ..ops.pool import AveragePool
from ..ops.transpose import Transpose
from .nodes import Nodes, rewrite


@rewrite(("Pad",), ("Conv", "AveragePool"))
def fuse_pad(nodes: Nodes) -> None:
    """Move the pads of Pad (constant zeros, spatial axes, none negative), also of one between two Transposes that cancel, into
    Conv, or into an AveragePool that counts them."""
    for node in nodes.of("Conv", "AveragePool"):
        op, x = node.op, node.inputs[0]
        maker = nodes.maker(x, "Pad", "Transpose")
        turned = maker if maker is not None and isinstance(maker.op, Transpose) else None
        pad = maker if turned is None else nodes.maker(turned.inputs[0], "Pad")
        if pad is None or not isinstance(pad.op, Pad) or not isinstance(op, (Conv, AveragePool)):
            continue
        rank = nodes.rank(x)
        if rank is None and isinstance(op, Conv):
            rank = nodes.rank(node.inputs[1])
        if rank is None or rank < 3:
            nodes.left(node, "the rank is not known")
            continue
        order = tuple(range(rank)) if turned is None or not isinstance(turned.op, Transpose) else turned.op.order(rank)
        widths = _zeros(pad, rank, node, nodes)
        if widths is None:
            continue
        widths = [widths[axis] for axis in order]
        if any(w != (0, 0) for w in widths[:2]) or any(min(w) < 0 for w in widths):
            nodes.left(node, "the Pad cuts, or pads the batch or the channels")
            continue
        source = pad.inputs[0]
        if turned is not None:
            before = nodes.maker(source, "Transpose")
            first = before.op.order(rank) if before is not None and isinstance(before.op, Transpose) else ()
            if before is None or tuple(first[axis] for axis in order if axis < len(first)) != tuple(range(rank)):
                nodes.left(node, "the Transposes around the Pad do not cancel")
                continue
            source = before.inputs[0]
        new = _padded(op, [w[0] for w in widths[2:]] + [w[1] for w in widths[2:]], node, nodes)
        if new is not None:
            nodes.put(node, node.replace(op=new, inputs=(source, *node.inputs[1:])))


def _zeros(pad: Node, rank: int, node: Node, nodes: Nodes) -> list[tuple[int, int]] | None:
    """How many zeros a Pad puts before and after each axis; None where it is no zeros, or not known."""
    op = pad.op
    assert isinstance(op, Pad)
    if op.mode != "constant":
        nodes.left(node, f"the Pad is of mode {op.mode}")
        return None
    given = [None if not name else nodes.value(name) for name in (*pad.inputs[1:], "", "", "")[:3]]
    if any(name and value is None for name, value in zip(pad.inputs[1:], given, strict=False)):
        nodes.left(node, "the pads or their value are known only while it runs")
        return None
    pads, value, axes = given
    pads = np.asarray(op.pads) if op.pads is not None else pads
    filled = np.asarray(op.value if value is None else value)
    if pads is None or pads.size != 2 * (rank if axes is None else axes.size):
        return None  # a wrong model: its own shape rule says so
    if filled.size != 1 or np.any(filled != 0):
        nodes.left(node, "the Pad is not of zeros")
        return None
    return op.resolve(rank, tuple(map(int, pads.reshape(-1))), None if axes is None else tuple(map(int, axes.reshape(-1))))


def _padded(op: Conv | AveragePool, added: list[int], node: Node, nodes: Nodes) -> Conv | AveragePool | None:
    """The operator with zeros added to its pads: those before each axis, then those after."""
    if op.auto_pad not in ("NOTSET", "VALID", ""):
        nodes.left(node, f"its own padding is {op.auto_pad}")
        return None
    old = op.pads if op.pads and op.auto_pad != "VALID" else (0,) * len(added)
    if len(old) != len(added):
        return None  # a wrong model: its own shape rule says so
    pads = tuple(int(o) + n for o, n in zip(old, added, strict=True))
    if isinstance(op, Conv):
        return replace(op, pads=pads, auto_pad="NOTSET")
    if op.ceil_mode:
        nodes.left(node, "of ceil_mode, whose last window is cut where the padded input ends")  # where the zeros are counts
        return None
    if any(old) and not op.count_include_pad:
        nodes.left(node, "its own pads stay out of the mean, the zeros do not")
        return None
    spatial = len(added) // 2
    extent = [(k - 1) * d + 1 for k, d in zip(op.kernel_shape, op.dilations or (1,) * spatial, strict=True)]
    if any(p >= e for p, e in zip(pads, extent * 2, strict=True)):
        nodes.left(node, "a window would be padding alone")
        return None
    return replace(op, pads=pads, auto_pad="NOTSET", count_include_pad=1)
