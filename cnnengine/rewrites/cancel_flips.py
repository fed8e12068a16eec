"""cancel_flips: a FlipSign of a FlipSign is what was flipped, and one beside a change of scale is a change of its zero point."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..graph import Node
from ..ops.flip_sign import FlipSign
from ..ops.quantized import QuantizeLinear
from .nodes import Nodes, rewrite
from .quantized import steps_of


@rewrite(("FlipSign",))
def cancel_flips(nodes: Nodes) -> None:
    """Take out pairs; let a QuantizeLinear make, and a DequantizeLinear read, what is there without the flip."""
    for node in nodes.of("FlipSign"):
        maker = nodes.maker(node.inputs[0])
        if maker is not None and isinstance(maker.op, FlipSign):
            nodes.same({node.outputs[0]: maker.inputs[0]})
        elif maker is not None and isinstance(maker.op, QuantizeLinear) and nodes.only_reader(node.inputs[0]) is node:
            moved = _moved(maker, node.inputs[0], nodes)
            if moved is not None:
                op = maker.op if maker.op.output_dtype is None else replace(maker.op, output_dtype=None)
                nodes.put(maker, maker.replace(op=op, inputs=(*maker.inputs[:2], moved), outputs=node.outputs), gone=(node,))
        else:
            nodes.left(node, "no QuantizeLinear alone makes what it flips")
    for node in nodes.of("DequantizeLinear"):
        maker = nodes.maker(node.inputs[0], "FlipSign")
        moved = None if maker is None else _moved(node, node.inputs[0], nodes)
        if maker is not None and moved is not None:
            nodes.put(node, node.replace(inputs=(maker.inputs[0], node.inputs[1], moved)))


def _moved(node: Node, stem: str, nodes: Nodes) -> str | None:
    """A zero point for the integers of a DequantizeLinear or QuantizeLinear once they are flipped; None where there is none."""
    steps = steps_of(node, nodes)
    if steps is None:
        nodes.left(node, "its scale and zero point are no single constants")
        return None
    zero = np.int8(steps.zero - 128) if not steps.signed else np.uint8(steps.zero + 128)
    return nodes.add(f"{stem}/zero point", np.asarray(zero))
