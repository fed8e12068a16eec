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
from .common import bounds, only_output
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


def normal(values: np.ndarray | np.float32) -> bool:
    """Whether all are positive normal numbers of float32."""
    return bool(np.all((values >= np.finfo(np.float32).tiny) & (values < np.inf)))


@dataclass(frozen=True)
class QuantizedWeights:
    """Constant integers that stand for weights.

    Attributes
    ----------
    name, zero : str
        The constants; zero may be empty.
    scale : ndarray of float32
        One number, or one per output channel.
    """

    name: str
    zero: str
    scale: np.ndarray


def weights_of(name: str, axis: int, nodes: Nodes, *, per_channel: bool = True) -> QuantizedWeights | None:
    """The integers that float weights are, with one scale, or, where that may be, one per index of this axis; None for others."""
    maker = nodes.maker(name, "DequantizeLinear")
    if maker is None or not isinstance(maker.op, DequantizeLinear) or maker.op.block_size or not only_output(maker):
        return None
    w, scale, zero = (nodes.constant(maker, i) for i in range(3))
    if w is None or scale is None or w.dtype not in (UINT8, INT8) or scale.dtype != FLOAT32 or w.ndim <= axis:
        return None
    if zero is None and len(maker.inputs) > 2 and maker.inputs[2]:
        return None
    if maker.op.output_dtype is not None and maker.op.output_dtype != FLOAT32:
        return None
    for value in (scale, zero):
        if value is None or value.size == 1:
            continue
        if not per_channel or value.shape != (w.shape[axis],) or maker.op.axis % w.ndim != axis:
            return None
    if not normal(scale):
        return None
    return QuantizedWeights(maker.inputs[0], maker.inputs[2] if zero is not None and np.any(zero) else "", scale.reshape(-1))


@dataclass(frozen=True)
class Bias:
    """A bias in units of the sums (int32), as floats, or none."""

    units: np.ndarray | None = None
    floats: np.ndarray | None = None


def bias_of(name: str, sums: np.ndarray, nodes: Nodes) -> Bias | None:
    """The bias of this name, none where it is empty; None where it is not known."""
    if not name:
        return Bias()
    value = nodes.constants.get(name)
    if value is not None:
        return Bias(floats=value.reshape(-1).astype(np.float32))
    maker = nodes.maker(name, "DequantizeLinear")
    if maker is None or not isinstance(maker.op, DequantizeLinear) or maker.op.block_size:
        return None
    units, scale, zero = (nodes.constant(maker, i) for i in range(3))
    if units is None or scale is None or units.ndim != 1 or scale.size not in (1, units.size):
        return None
    if zero is None and len(maker.inputs) > 2 and maker.inputs[2]:
        return None
    if units.dtype == np.int32 and (zero is None or not np.any(zero)) and len(units) == len(sums):
        scales = np.broadcast_to(scale.reshape(-1), sums.shape)
        if np.all(np.abs(scales - sums) <= np.float32(1e-6) * np.abs(sums)):
            return Bias(units=units)
    found = maker.op.evaluate(units, scale, zero)[0]
    return Bias(floats=np.asarray(found, np.float32).reshape(-1))


def told_quantized(name: str, node: Node, nodes: Nodes) -> tuple[Node, Steps] | None:
    """`only_quantized` of what `node` gives, with the reason why it is left where there is none."""
    found = only_quantized(name, nodes)
    if found is None:
        nodes.left(node, "no QuantizeLinear with one constant scale and zero point alone reads it")
    return found


def bounded(y: str, nodes: Nodes) -> tuple[str, tuple[Node, ...], float, float]:
    """The value of a Relu or Clip that alone reads this one, its node and its bounds; else this one, no node and no bounds."""
    reader = nodes.only_reader(y)
    if reader is not None and reader.op.op_type in ("Relu", "Clip") and reader.inputs[0] == y and only_output(reader):
        limits = (0.0, np.inf) if reader.op.op_type == "Relu" else bounds(reader, nodes)
        if limits is not None and limits[0] <= limits[1]:
            return reader.outputs[0], (reader,), *limits
    return y, (), -np.inf, np.inf


def between(low: float, high: float, steps: Steps) -> tuple[int, int] | None:
    """The uint8 numbers, less their zero point, that stand for floats within these bounds; None where there are none."""
    scale = np.float32(steps.scale)

    def step(bound: float, limit: int) -> int:
        with np.errstate(all="ignore"):
            number = float(np.rint(np.float32(bound) / scale))
        return int(min(max(number, -steps.zero), 255 - steps.zero)) if np.isfinite(number) else limit

    found = step(low, -steps.zero), step(high, 255 - steps.zero)
    return found if found[0] <= found[1] else None


def told_between(low: float, high: float, steps: Steps, node: Node, nodes: Nodes) -> tuple[int, int] | None:
    """`between`, with the reason why `node` is left where there are none."""
    found = between(low, high, steps)
    if found is None:
        nodes.left(node, "no quantised number lies within the bounds of its activation")
    return found


@dataclass(frozen=True)
class Stored:
    """How an operator on integers stores its sums: quantised again, or as floats.

    Attributes
    ----------
    name : str
        The value that it makes.
    after, gone : tuples of Node
        What follows it, and the nodes that it takes in.
    steps : Steps, optional
        Of the uint8 that it makes; None of floats.
    low, high : int
        Bounds of these less their zero point.
    ratio : ndarray of float32
        What a unit of a sum is, in steps or in floats.
    bias : Bias
        In units alone where there are steps.
    """

    name: str
    after: tuple[Node, ...]
    gone: tuple[Node, ...]
    steps: Steps | None
    low: int
    high: int
    ratio: np.ndarray
    bias: Bias

    def inputs(self, node: Node, nodes: Nodes) -> tuple[str, ...]:
        """Ratio, bias and offset as constants named after the node, without the absent ones at the end."""
        names = [nodes.add(f"{node.name}/ratio", self.ratio.astype(np.float32))]
        for what, value in (("bias", self.bias.units), ("offset", self.bias.floats)):
            names.append("" if value is None else nodes.add(f"{node.name}/{what}", value))
        while not names[-1]:
            names.pop()
        return tuple(names)


def stored(node: Node, y: str, gone: tuple[Node, ...], sums: np.ndarray, bias: Bias, nodes: Nodes) -> Stored | None:
    """How the operator that makes y, `gone` being taken in, stores sums with this bias, units of which are `sums`.

    A Relu or Clip behind y goes into the bounds of what a QuantizeLinear behind it makes; floats have activations of their own,
    which are fused later. None, with a reason, where it cannot be told by integers.
    """
    last, ends, low, high = bounded(y, nodes)
    found = only_quantized(last, nodes)
    if found is None:
        last, ends, low, high = y, (), -np.inf, np.inf
        found = only_quantized(y, nodes)
    if found is None:
        result = Stored(y, (), gone, None, 0, 0, sums, bias)
    else:
        quantize, signed = found
        steps, units = signed.unsigned(), bias.units
        within = told_between(low, high, steps, node, nodes)
        if within is None:
            return None
        with np.errstate(all="ignore"):
            ratio = sums / np.float32(steps.scale)
            if bias.floats is not None:
                exact = np.rint(bias.floats.astype(np.float64) / sums.astype(np.float64))
                if not np.all(np.abs(exact) < 1 << 30):
                    nodes.left(node, "the bias is too large to be one of the sums")
                    return None
                units = exact.astype(np.int32)
        name, after = results(quantize, signed, nodes)
        result = Stored(name, tuple(after), (*gone, *ends, quantize), steps, *within, ratio, Bias(units))
    if not normal(result.ratio):
        nodes.left(node, "the ratio of its scales is no normal number")
        return None
    return result
