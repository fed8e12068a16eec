"""What constants do to each channel of a value, and how that goes into the weights of the node that makes it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..graph import Node
from ..ops.dense import Gemm
from ..records import dataclass
from ..weights import LARGE, Computed, Scaled
from .common import field_of, only_output
from .nodes import FLOAT32, Nodes

LINEAR = ("Conv", "ConvTranspose", "Gemm")
DEPTH = 20
"""Products of products, none of which are kept, that weights may be."""
PART = 1 << 16
"""Weights that are compared at a time: they stay in the second-level cache."""
MAX_FLOAT32 = float(np.finfo(np.float32).max)


def per_channel(value: np.ndarray, count: int, rank: int) -> np.ndarray | None:
    """A constant as one float64 number per channel (axis 1 of `rank` axes), or None where it is something else."""
    if value.dtype != FLOAT32 or value.ndim > rank:
        return None
    shape = (1,) * (rank - value.ndim) + value.shape
    if any(d != 1 for i, d in enumerate(shape) if i != 1) or shape[1] not in (1, count):
        return None
    return np.broadcast_to(value.reshape(shape[1]).astype(np.float64), (count,))


def scale_and_shift(node: Node, x: str, nodes: Nodes, count: int, rank: int) -> tuple[np.ndarray, np.ndarray] | None:
    """What a node multiplies each of `count` channels of its input `x` by and then adds, in float64, if constants say.

    Of Mul, Div, Add, Sub and a BatchNormalization at inference; their activation comes after. A variance below zero gives NaN.
    """
    if not only_output(node):
        return None
    if node.op.op_type == "BatchNormalization":
        return _normalisation(node, nodes, count) if node.inputs[0] == x else None
    if len(node.inputs) != 2 or field_of(node.op, "axis") is not None:
        return None
    index = 1 if node.inputs[0] == x else 0
    value = nodes.constant(node, index)
    if value is None:
        return None
    vector = per_channel(value, count, rank)
    if vector is None:
        nodes.left(node, f"a constant of shape {value.shape} and type {value.dtype} is not one float32 number per channel")
        return None
    one, zero = np.ones_like(vector), np.zeros_like(vector)
    kind = node.op.op_type
    if kind == "Mul":
        return vector, zero
    if kind == "Add":
        return one, vector
    if index == 0:
        nodes.left(node, "the constant is on the left side")  # constant - y, constant / y
        return None
    if kind == "Sub":
        return one, -vector
    return (1 / vector, zero) if kind == "Div" and vector.all() else None


def _normalisation(node: Node, nodes: Nodes, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    if field_of(node.op, "training_mode", 0) or not field_of(node.op, "spatial", 1):
        return None
    values = [nodes.constant(node, i) for i in range(1, 5)]
    if any(v is None for v in values):
        nodes.left(node, "scale, bias, mean or variance is not constant")
        return None
    scale, bias, mean, var = (v.astype(np.float64) for v in values if v is not None)
    if scale.shape != (count,) or any(v.shape != scale.shape for v in (bias, mean, var)):
        return None  # a wrong model: its own shape rule says so
    epsilon = float(field_of(node.op, "epsilon", 1e-5))  # type: ignore[arg-type]
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(var + epsilon)
        return factor, bias - mean * factor


@dataclass(frozen=True)
class Linear:
    """A convolution or Gemm whose weights and bias, if it has one, are float32 constants.

    Attributes
    ----------
    node : Node
    w : weights
    channels, rank : int
        Of its result.
    bias : ndarray of float64, optional
        What it adds to each channel.
    """

    node: Node
    w: np.ndarray
    channels: int
    rank: int
    bias: np.ndarray | None


def linear(name: str, nodes: Nodes, reader: Node) -> Linear | None:
    """What makes a value that one node alone reads, when it is linear in constants."""
    node = nodes.maker(name, *LINEAR)
    if node is None or not only_output(node):
        return None
    if nodes.only_reader(name) is None:
        nodes.left(reader, f"{name} is read by others too")
        return None
    if field_of(node.op, "activation") is not None or len(node.inputs) > 3:
        nodes.left(reader, f"something else is fused into {node.name} already")
        return None
    w = nodes.constant(node, 1)
    if w is None or w.dtype != FLOAT32:
        nodes.left(reader, f"the weights of {node.name} are no float32 constants")
        return None
    found = node.op.linear_channels(w.shape)
    if found is None:
        return None
    count, rank = found
    if len(node.inputs) < 3 or not node.inputs[2]:
        return Linear(node, w, count, rank, None)
    b = nodes.constant(node, 2)
    if b is None or b.dtype != FLOAT32:
        nodes.left(reader, f"the bias of {node.name} is no float32 constant")
        return None
    if isinstance(node.op, Gemm):
        vector = per_channel(b, count, rank)
        bias = None if vector is None else node.op.beta * vector
    else:
        bias = b.astype(np.float64) if b.shape == (count,) else None
    if bias is None:
        nodes.left(reader, f"the bias of {node.name} is not one number per channel")
        return None
    return Linear(node, w, count, rank, bias)


def fold(nodes: Nodes, after: Node, x: str) -> None:
    """Let what makes `x`, a convolution or Gemm, give what `after` makes of it by constants per channel.

    Nothing changes where the weights, now or then, are not finite.
    """
    found = linear(x, nodes, after)
    if found is None:
        return
    node, w = found.node, found.w
    factors = scale_and_shift(after, x, nodes, found.channels, found.rank)
    if factors is None:
        return
    if field_of(after.op, "activation") is not None:
        nodes.left(after, "an activation is fused into it")
        return
    scale, shift = factors
    if _depth(w) >= DEPTH:
        nodes.left(after, f"{DEPTH} others are folded into the weights of {node.name} already")
        return
    if not math.isfinite(largest(w, nodes)):  # asked here, at last, since it reads all of them
        nodes.left(after, f"the weights of {node.name} are not finite")
        return
    new_w: Any = Scaled(w, node.op.over_weights(scale, w.shape))
    if w.nbytes < LARGE or not largest(new_w, nodes) < MAX_FLOAT32:  # where that is no more than a bound, the products decide
        new_w = np.asarray(new_w)
    new_b = np.asarray((0.0 if found.bias is None else found.bias) * scale + shift, np.float32)
    if not all(isinstance(v, Computed) or np.isfinite(v).all() for v in (new_w, new_b)):
        nodes.left(after, "the products are beyond float32")  # the two steps may still be fine one after the other
        return
    names = [nodes.add(f"{node.name}/folded_{part}", value) for part, value in (("weight", new_w), ("bias", new_b))]
    op = replace(node.op, beta=1.0) if isinstance(node.op, Gemm) else node.op
    nodes.put(node, node.replace(op=op, inputs=(node.inputs[0], *names), outputs=after.outputs), gone=(after,))


def _depth(w: object) -> int:
    count = 0
    while isinstance(w, Computed):
        w, count = w.source, count + 1
    return count


def largest(w: np.ndarray | Computed, nodes: Nodes) -> float:
    """The largest absolute value, or not less than it; NaN where there is one."""
    known = nodes.largest.get(id(w))
    if known is None:
        found = w.bound(lambda inner: largest(inner, nodes)) if isinstance(w, Computed) else _largest(w)
        known = nodes.largest[id(w)] = w, found
    return known[1]


def _largest(w: np.ndarray) -> float:
    """The largest absolute value, NaN where there is one; part by part, so that weights come from memory once."""
    if not w.size:
        return 0.0
    flat = w.reshape(-1) if w.flags.c_contiguous else w.T.reshape(-1) if w.flags.f_contiguous else w
    step = PART if flat.ndim == 1 else max(len(flat), 1)
    found = []
    for start in range(0, len(flat), step):
        part = flat[start : start + step]
        found += [float(part.max()), -float(part.min())]
    return float(np.max(found))
