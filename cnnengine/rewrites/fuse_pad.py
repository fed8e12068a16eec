"""fuse_pad: zeros that a Pad puts around the pixels become pads of the convolution or pooling that reads them."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..graph import Graph, Node
from ..ops.shape import Pad
from .facts import Fact, facts
from .rewrite import Uses, field_of


def fuse_pad(graph: Graph) -> Graph:
    """Move the pads of Pad (constant zeros, spatial axes, none negative) into Conv, or into an AveragePool that counts them."""
    uses, known = Uses(graph), facts(graph)
    nodes = []
    for node in graph.nodes:
        pad = uses.maker(node.inputs[0], "Pad") if node.op.op_type in ("Conv", "AveragePool") else None
        merged = None if pad is None or uses.only_reader(pad.outputs[0]) is not node else _merged(node, pad, uses, known)
        nodes.append(node if merged is None else merged)
    return graph if all(a is b for a, b in zip(nodes, graph.nodes, strict=True)) else graph.replace(nodes=nodes)


def _merged(node: Node, pad: Node, uses: Uses, known: dict[str, Fact]) -> Node | None:
    op = pad.op
    rank = known.get(pad.inputs[0], Fact()).rank
    if node.op.op_type == "Conv":
        weights = known.get(node.inputs[1], Fact())
        rank = rank if rank is not None else weights.rank
    if not isinstance(op, Pad) or rank is None or rank < 3 or op.mode != "constant":
        return None
    given = op.pads if op.pads is not None else uses.constant(pad, 1)
    value: object = op.value
    if len(pad.inputs) > 2 and pad.inputs[2]:
        value = uses.constant(pad, 2)
    axes = None
    if len(pad.inputs) > 3 and pad.inputs[3]:
        axes = uses.constant(pad, 3)
        if axes is None:
            return None
    if given is None or value is None or np.asarray(value).size != 1 or np.any(np.asarray(value) != 0):
        return None
    count = len(axes) if axes is not None else rank
    if len(given) != 2 * count:
        return None
    widths = op.resolve(rank, tuple(int(p) for p in given), None if axes is None else tuple(int(a) for a in axes))
    if any(w != (0, 0) for w in widths[:2]) or any(min(w) < 0 for w in widths):
        return None
    auto_pad = field_of(node.op, "auto_pad", "NOTSET") or "NOTSET"
    old = field_of(node.op, "pads", ()) or (0,) * (2 * (rank - 2))
    if auto_pad == "VALID":
        old = (0,) * (2 * (rank - 2))
    elif auto_pad != "NOTSET":
        return None
    assert isinstance(old, tuple)
    pads = tuple(int(o) + n for o, n in zip(old, [w[0] for w in widths[2:]] + [w[1] for w in widths[2:]], strict=True))
    changes: dict[str, object] = {"pads": pads, "auto_pad": "NOTSET"}
    if node.op.op_type == "AveragePool":
        if field_of(node.op, "ceil_mode", 0):
            return None  # the last window is cut where the padded input ends: where the zeros are counts
        if any(old) and not field_of(node.op, "count_include_pad", 0):
            return None  # the pool's own pads must stay out of the mean, the zeros must not
        kernel = field_of(node.op, "kernel_shape")
        dilations = field_of(node.op, "dilations") or (1,) * (rank - 2)
        extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))  # type: ignore[call-overload]
        if any(p >= e for p, e in zip(pads, extent * 2, strict=True)):
            return None  # a window of padding alone
        changes["count_include_pad"] = 1
    return node.replace(op=dataclasses.replace(node.op, **changes), inputs=(pad.inputs[0], *node.inputs[1:]))  # type: ignore[type-var]
