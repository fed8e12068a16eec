"""dynamic_convolutions: a convolution of integers whose scale is found while it runs makes floats where it stores its sums."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.cast import Cast
from ..ops.elementwise import Add, Mul
from ..ops.integer_conv import ConvInteger
from ..ops.quantized_conv import QuantizedConv
from .common import plain
from .nodes import FLOAT32, Nodes, rewrite
from .quantized import INT8, UINT8


@rewrite(("ConvInteger",), ("DynamicQuantizeLinear",), ("Cast",), ("Mul",))
def dynamic_convolutions(nodes: Nodes) -> None:
    """DynamicQuantizeLinear -> ConvInteger -> Cast -> Mul by both scales (-> Add of a bias) is a QuantizedConv of floats."""
    for node in nodes.of("ConvInteger"):
        op = node.op
        if not isinstance(op, ConvInteger):
            continue
        source = nodes.maker(node.inputs[0], "DynamicQuantizeLinear")
        if source is None or len(node.inputs) < 3 or node.inputs[2] != source.outputs[2]:
            nodes.left(node, "its input and zero point are not those of one DynamicQuantizeLinear")
            continue
        w, w_zero = nodes.constant(node, 1), nodes.constant(node, 3)
        if w is None or w.dtype not in (UINT8, INT8) or (w_zero is None and len(node.inputs) > 3 and node.inputs[3]):
            nodes.left(node, "its weights or their zero points are known only while it runs")
            continue
        o = w.shape[0]
        if w_zero is not None and w_zero.size not in (1, o):
            continue  # a wrong model: its own rules say so
        cast = nodes.only_reader(node.outputs[0])
        floats = cast is not None and isinstance(cast.op, Cast) and cast.op.to == FLOAT32
        product = nodes.only_reader(cast.outputs[0]) if cast is not None and floats else None
        if cast is None or product is None or not isinstance(product.op, Mul) or not plain(product):
            nodes.left(node, "no Cast to float32 and Mul alone read it")
            continue
        scale = _weight_scale(product, cast.outputs[0], source.outputs[1], o, w.ndim, nodes)
        if scale is None:
            nodes.left(node, "what it is multiplied by is not the scale of its input times a constant number, or one per output")
            continue
        gone, y = [cast, product], product.outputs
        offset, add = None, nodes.only_reader(product.outputs[0])
        if add is not None and isinstance(add.op, Add) and plain(add):
            offset = _by_channel(nodes.constant(add, 1 - add.inputs.index(product.outputs[0])), o, w.ndim)
            if offset is not None:
                gone, y = [*gone, add], add.outputs
        names = [node.inputs[0], node.inputs[1], node.inputs[3] if w_zero is not None and np.any(w_zero) else ""]
        names += [nodes.add(f"{node.name}/ratio", scale), "", "" if offset is None else nodes.add(f"{node.name}/offset", offset)]
        names += ["", "", source.outputs[1], source.outputs[2]]
        # where the last of them stands, all that it reads is there
        last = gone.pop()
        nodes.put(last, Node(QuantizedConv(op.conv, 0, floats=True), tuple(names), y, node.name), gone=(node, *gone))


def _weight_scale(product: Node, sums: str, x_scale: str, o: int, rank: int, nodes: Nodes) -> np.ndarray | None:
    """The scale of the weights, (O,), in a product of the sums and (x's scale times it); None where it is something else."""
    other = product.inputs[1 - product.inputs.index(sums)]
    if other == x_scale:
        return np.ones(o, np.float32)
    both = nodes.maker(other, "Mul")
    if both is None or not isinstance(both.op, Mul) or not plain(both) or x_scale not in both.inputs:
        return None
    return _by_channel(nodes.constant(both, 1 - both.inputs.index(x_scale)), o, rank)


def _by_channel(value: np.ndarray | None, o: int, rank: int) -> np.ndarray | None:
    """A float32 constant as one number per output channel, if it is one number, or lies along the channels of (N, O, ...)."""
    if value is None or value.dtype != FLOAT32 or value.ndim > rank:
        return None
    if value.size == 1:
        return np.full(o, value.reshape(()), np.float32)
    long = (1,) * (rank - value.ndim) + value.shape
    return value.reshape(-1) if long == (1, o, *(1,) * (rank - 2)) else None
