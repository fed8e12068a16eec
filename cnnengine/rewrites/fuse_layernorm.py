"""fuse_layernorm: LayerNormalization and InstanceNormalization as exporters spell them out become one operator.

Before opset 17 there is no LayerNormalization: (x - mean) / sqrt(mean((x - mean)**2) + epsilon) * scale + bias stands in the
file as nine nodes. Keras writes x * inverse + (bias - mean * inverse), where the inverse of the deviation holds the scale
already; some write the variance as mean(x**2) - mean**2. Over axis 1 of (N, C, spatial...) it is the LayerNorm2d of ConvNeXt
and its kind, over all spatial axes an instance norm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..graph import Node
from ..operator import Operator
from ..ops.fused import ChannelLayerNorm
from ..ops.norm import InstanceNormalization, LayerNormalization
from .common import axes_of, field_of, only_output, plain
from .nodes import FLOAT32, Nodes, rewrite
from .pattern import Constant, Found, Number, Pattern, Value, made


class Mean(Pattern):
    """A mean that keeps its axes, which are named."""

    def __init__(self, inner: Pattern) -> None:
        self.inner = inner

    def find(self, name: str, found: Found, nodes: Nodes, beside: str = "") -> Iterator[Found]:
        node = nodes.maker(name, "ReduceMean", "GlobalAveragePool")
        axes = None if node is None else _axes(node, nodes)
        if node is not None and axes is not None and found.get("axes", axes) == axes:
            yield from self.inner.find(node.inputs[0], {**found, "axes": axes}, nodes)


def _axes(node: Node, nodes: Nodes) -> tuple[int, ...] | None:
    rank = nodes.rank(node.inputs[0])
    if node.op.op_type == "GlobalAveragePool":
        return None if rank is None or rank < 3 else tuple(range(2, rank))
    axes = axes_of(node.op, nodes.constant(node, 1), rank)
    return tuple(sorted(axes)) if axes is not None and field_of(node.op, "keepdims", 1) else None


def _square(value: Pattern) -> Pattern:
    return value * value | value**2


X = Value("x")
MEAN = Mean(X)
CENTRED = X - MEAN
VARIANCE = Mean(_square(CENTRED)) | Mean(_square(X)) - _square(MEAN)
SPREAD = VARIANCE + Number(name="epsilon")
DEVIATION = made("Sqrt", SPREAD) | SPREAD**0.5
INVERSE = made("Reciprocal", DEVIATION) | 1 / DEVIATION | SPREAD**-0.5
NORM = CENTRED / DEVIATION | CENTRED * INVERSE
FACTOR = Value("factor", INVERSE | INVERSE * Constant("scale"))
SHIFT = MEAN * FACTOR
MINUS = made("Neg", SHIFT) | made("Neg", MEAN) * FACTOR
WHOLE = X * FACTOR - SHIFT | X * FACTOR + (MINUS | Constant("bias") - SHIFT | Constant("bias") + MINUS)


@rewrite(("Sub",), ("Sqrt", "Pow"), ("ReduceMean", "GlobalAveragePool"))
def fuse_layernorm(nodes: Nodes) -> None:
    """Replace the last node of float32 normalisations by one operator."""
    for node in nodes.of("Add", "Sub", "Mul", "Div"):
        if not only_output(node) or not plain(node):
            continue
        product = node.op.op_type in ("Mul", "Div")
        found = next((NORM if product else WHOLE).find(node.outputs[0], {}, nodes), None)
        if found is None:
            continue
        if not nodes.is_float32(found["x"]):
            nodes.left(node, "the values are not known to be float32")
            continue
        moments = _Moments(found["x"], found["axes"], nodes.rank(found["x"]))
        if product:
            norm = _with_parameters(moments, found["epsilon"], node, nodes)
        else:
            norm = _norm(moments, found["epsilon"], found.get("scale"), found.get("bias"), node)
        if norm is None:
            nodes.left(node, f"no operator normalises over axes {moments.axes} with such parameters, or the rank is not known")
        else:
            nodes.put(norm.last, norm.node(nodes.add))


@dataclass(frozen=True)
class _Moments:
    """Mean and variance of x over `axes` (none is negative, where the rank is known)."""

    x: str
    axes: tuple[int, ...]
    rank: int | None

    def parameter(self, value: np.ndarray | None) -> tuple[int, np.ndarray] | None:
        """How a constant multiplies or adds to the result: (number of axes from the last that it spans, as these axes) for one
        value per normalised position, (0, (C,)) for one value per channel; None where it is neither."""
        if value is None or value.dtype != FLOAT32 or value.size < 2:
            return None
        count = len(self.axes)
        shape = value.shape
        while shape and shape[0] == 1:
            shape = shape[1:]
        trailing = self.axes == tuple(range(-count, 0)) or (
            self.rank is not None and self.axes == tuple(range(self.rank - count, self.rank))
        )
        if trailing and len(shape) <= count and value.ndim <= (count if self.rank is None else self.rank):
            return count, np.ascontiguousarray(value.reshape(shape))
        if self.rank is None or not 3 <= self.rank <= 5 or value.ndim > self.rank:
            return None
        if shape == (value.size, *(1,) * (self.rank - 2)) and self.axes in ((1,), tuple(range(2, self.rank))):
            return 0, np.ascontiguousarray(value.reshape(-1))
        return None

    def operator(self, epsilon: float, per_channel: bool) -> Operator | None:
        count = len(self.axes)
        if self.rank is None:
            return LayerNormalization(-count, epsilon, expands=True) if self.axes == tuple(range(-count, 0)) else None
        if self.axes == (1,) and 3 <= self.rank <= 5:
            return ChannelLayerNorm(epsilon, True)
        if per_channel:
            return InstanceNormalization(epsilon, True)
        trailing = self.axes == tuple(range(self.rank - count, self.rank))
        return LayerNormalization(-count, epsilon, expands=True) if trailing else None


@dataclass(frozen=True)
class _Norm:
    """A normalisation and the node that makes its result."""

    op: Operator
    x: str
    scale: np.ndarray | None
    bias: np.ndarray | None
    last: Node

    def node(self, constant: Callable[[str, np.ndarray], str]) -> Node:
        scale, bias = self.scale, self.bias
        if isinstance(self.op, InstanceNormalization):  # which has both
            some = scale if scale is not None else bias
            assert some is not None
            scale = np.ones_like(some) if scale is None else scale
            bias = np.zeros_like(some) if bias is None else bias
        y = self.last.outputs[0]
        inputs = [self.x]
        if scale is not None or bias is not None:
            inputs.append("" if scale is None else constant(f"{y} (scale)", scale))
        if bias is not None:
            inputs.append(constant(f"{y} (bias)", bias))
        return Node(self.op, tuple(inputs), self.last.outputs, self.last.name)


def _with_parameters(moments: _Moments, epsilon: float, node: Node, nodes: Nodes) -> _Norm | None:
    """The normalisation with the scale and bias behind it, where they are its own."""
    last = node
    parameters: list[np.ndarray | None] = []
    for kind in ("Mul", "Add"):
        reader = nodes.only_reader(last.outputs[0])
        value = None
        if reader is not None and reader.op.op_type == kind and only_output(reader) and plain(reader):
            value = nodes.constant(reader, 0 if reader.inputs[1] == last.outputs[0] else 1)
            if value is not None and moments.parameter(value) is None:
                nodes.left(reader, f"a constant of shape {value.shape} is no parameter of a norm over axes {moments.axes}")
                value = None
        parameters.append(value)
        if value is not None and reader is not None:
            last = reader
    return _norm(moments, epsilon, parameters[0], parameters[1], last) or _norm(moments, epsilon, None, None, node)


def _norm(moments: _Moments, epsilon: float, scale: np.ndarray | None, bias: np.ndarray | None, last: Node) -> _Norm | None:
    given = [(None, None) if v is None else moments.parameter(v) or (-1, None) for v in (scale, bias)]
    counts = {count for count, _ in given if count is not None}
    op = moments.operator(epsilon, per_channel=counts == {0}) if len(counts) < 2 and -1 not in counts else None
    return None if op is None else _Norm(op, moments.x, given[0][1], given[1][1], last)
