"""What rewrites of quantised networks share: how a float tensor is told by integers, as DequantizeLinear and QuantizeLinear say.

Inside of a network that is planned, quantised tensors are uint8: one of int8 goes through a FlipSign, and its zero point is 128
more. `cancel_flips` takes out those that meet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..graph import Node
from ..ops.flip_sign import FlipSign
from ..ops.quantized import DequantizeLinear, QuantizeLinear
from .nodes import FLOAT32, Nodes

UINT8, INT8 = np.dtype(np.uint8), np.dtype(np.int8)


@dataclass(frozen=True)
class Steps:
    """The numbers ``(q - zero) * scale`` for q of uint8 or int8.

    Attributes
    ----------
    scale : float
        A positive normal number of float32.
    zero : int
    signed : bool
        Whether q is int8.
    """

    scale: float
    zero: int
    signed: bool

    def unsigned(self) -> Steps:
        """The same numbers told by uint8."""
        return replace(self, zero=self.zero + 128, signed=False) if self.signed else self


def steps_of(node: Node, nodes: Nodes) -> Steps | None:
    """How a DequantizeLinear or QuantizeLinear relates floats and integers, where one constant scale and zero point serve all."""
    op = node.op
    if not isinstance(op, (DequantizeLinear, QuantizeLinear)) or op.block_size:
        return None
    scale, zero = nodes.constant(node, 1), nodes.constant(node, 2)
    if scale is None or scale.size != 1 or scale.dtype != FLOAT32 or (zero is None and len(node.inputs) > 2 and node.inputs[2]):
        return None
    if zero is not None and (zero.size != 1 or zero.dtype not in (UINT8, INT8)):
        return None
    if op.output_dtype is not None and op.output_dtype not in (FLOAT32, UINT8, INT8):
        return None
    if isinstance(op, QuantizeLinear):
        if op.precision is not None and op.precision != FLOAT32:
            return None
        dtype = zero.dtype if zero is not None else op.output_dtype or UINT8
        if not nodes.is_float32(node.inputs[0]):
            return None
    else:
        dtype = zero.dtype if zero is not None else nodes.dtype(node.inputs[0]) or FLOAT32
    if dtype not in (UINT8, INT8):
        return None
    number = float(scale.reshape(()))
    if not np.finfo(np.float32).tiny <= number < np.inf:
        return None
    return Steps(number, 0 if zero is None else int(zero.reshape(())), dtype == INT8)


@dataclass(frozen=True)
class Quantized:
    """A float tensor of the graph as integers: the value that holds them, and what they mean."""

    name: str
    steps: Steps


def integers(name: str, nodes: Nodes) -> Quantized | None:
    """The integers that a float value is made of, by a DequantizeLinear with one scale and zero point; None for others."""
    maker = nodes.maker(name, "DequantizeLinear")
    steps = None if maker is None else steps_of(maker, nodes)
    return None if maker is None or steps is None else Quantized(maker.inputs[0], steps)


def unsigned(x: Quantized, nodes: Nodes, added: list[Node]) -> Quantized:
    """The same as uint8: with a FlipSign, which goes to `added`, where it is int8 and not made by one."""
    if not x.steps.signed:
        return x
    maker = nodes.maker(x.name, "FlipSign")
    if maker is not None:
        return Quantized(maker.inputs[0], x.steps.unsigned())
    for node in added:
        if isinstance(node.op, FlipSign) and node.inputs == (x.name,):
            return Quantized(node.outputs[0], x.steps.unsigned())
    flip = Node(FlipSign(), (x.name,), (nodes.fresh(f"{x.name}/unsigned"),), f"{x.name}/unsigned")
    added.append(flip)
    return Quantized(flip.outputs[0], x.steps.unsigned())


def only_quantized(name: str, nodes: Nodes) -> tuple[Node, Steps] | None:
    """The QuantizeLinear with one constant scale and zero point that alone reads a value, and what its integers mean."""
    reader = nodes.only_reader(name)
    if reader is None or not isinstance(reader.op, QuantizeLinear) or reader.inputs[0] != name:
        return None
    steps = steps_of(reader, nodes)
    return None if steps is None else (reader, steps)


def results(quantize: Node, steps: Steps, nodes: Nodes) -> tuple[str, list[Node]]:
    """The name under which an operator that stands for `quantize` makes its uint8 results, and the nodes that follow it."""
    y = quantize.outputs[0]
    if not steps.signed:
        return y, []
    name = nodes.fresh(f"{y}/unsigned")
    return name, [Node(FlipSign(), (name,), (y,), f"{y}/signed")]
