"""fuse_layernorm: LayerNormalization and InstanceNormalization as exporters spell them out become one operator.

Before opset 17 there is no LayerNormalization: (x - mean) / sqrt(mean((x - mean)**2) + epsilon) * scale + bias stands in the
file as nine nodes. Keras writes x * inverse + (bias - mean * inverse), where the inverse of the deviation holds the scale
already; some write the variance as mean(x**2) - mean**2. Over axis 1 of (N, C, spatial...) it is the LayerNorm2d of ConvNeXt
and its kind, over all spatial axes an instance norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..graph import Node
from ..operator import Operator
from ..ops.fused import ChannelLayerNorm
from ..ops.norm import InstanceNormalization, LayerNormalization
from .nodes import FLOAT32, Nodes, rewrite
from .rewrite import Matcher, axes_of, field_of, only_output, plain, scalar_of


@rewrite(("Sub",), ("Sqrt", "Pow"), ("ReduceMean", "GlobalAveragePool"))
def fuse_layernorm(nodes: Nodes) -> None:
    """Replace the last node of float32 normalisations by one operator."""
    match = _Matcher(nodes)
    for node in nodes.of("Add", "Sub", "Mul", "Div"):
        if not only_output(node) or not plain(node) or len(node.inputs) != 2:
            continue
        found = match.whole(node) or match.scaled(node)
        if found is not None:
            nodes.put(found.last, found.node(nodes.add))


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


class _Matcher(Matcher):
    def number(self, node: Node, index: int) -> float | None:
        return scalar_of(self.nodes.constant(node, index), self.nodes.rank(node.inputs[1 - index]))

    def mean(self, name: str) -> tuple[str, tuple[int, ...]] | None:
        """(x, axes) of a mean that keeps its axes."""
        node = self.maker(name, "ReduceMean", "GlobalAveragePool")
        if node is None:
            return None
        rank = self.nodes.rank(node.inputs[0])
        if node.op.op_type == "GlobalAveragePool":
            return None if rank is None or rank < 3 else (node.inputs[0], tuple(range(2, rank)))
        axes = axes_of(node.op, self.nodes.constant(node, 1), rank)
        return (node.inputs[0], tuple(sorted(axes))) if axes is not None and field_of(node.op, "keepdims", 1) else None

    def square(self, name: str) -> str | None:
        """x of x * x or x**2."""
        node = self.maker(name, "Mul", "Pow")
        if node is None:
            return None
        if node.op.op_type == "Mul":
            return node.inputs[0] if node.inputs[0] == node.inputs[1] else None
        return node.inputs[0] if self.number(node, 1) == 2.0 else None

    def centred(self, name: str) -> tuple[str, tuple[int, ...]] | None:
        """(x, axes) of x - mean(x)."""
        node = self.maker(name, "Sub")
        mean = None if node is None else self.mean(node.inputs[1])
        return mean if node is not None and mean is not None and mean[0] == node.inputs[0] else None

    def variance(self, name: str) -> tuple[str, tuple[int, ...]] | None:
        """(x, axes) of mean((x - mean(x))**2) or mean(x**2) - mean(x)**2."""
        node = self.maker(name, "Sub")
        if node is not None:
            squares, root = self.mean(node.inputs[0]), self.square(node.inputs[1])
            mean = None if root is None else self.mean(root)
            if squares is None or mean is None or squares[1] != mean[1]:
                return None
            return mean if self.square(squares[0]) == mean[0] else None
        squares = self.mean(name)
        inner = None if squares is None else self.square(squares[0])
        mean = None if inner is None else self.centred(inner)
        return mean if mean is not None and squares is not None and squares[1] == mean[1] else None

    def spread(self, name: str) -> tuple[str, tuple[int, ...], float] | None:
        """(x, axes, epsilon) of variance(x) + epsilon."""
        node = self.maker(name, "Add")
        for index in (0, 1) if node is not None else ():
            assert node is not None
            epsilon = self.number(node, index)
            found = None if epsilon is None else self.variance(node.inputs[1 - index])
            if found is not None and epsilon is not None and epsilon > 0:
                return (*found, epsilon)
        return None

    def deviation(self, name: str) -> tuple[str, tuple[int, ...], float] | None:
        """(x, axes, epsilon) of sqrt(variance(x) + epsilon)."""
        node = self.maker(name, "Sqrt", "Pow")
        if node is None or (node.op.op_type == "Pow" and self.number(node, 1) != 0.5):
            return None
        return self.spread(node.inputs[0])

    def inverse(self, name: str) -> tuple[str, tuple[int, ...], float] | None:
        """(x, axes, epsilon) of 1 / sqrt(variance(x) + epsilon)."""
        node = self.maker(name, "Reciprocal", "Div", "Pow")
        if node is None:
            return None
        if node.op.op_type == "Pow":
            return self.spread(node.inputs[0]) if self.number(node, 1) == -0.5 else None
        if node.op.op_type == "Div" and self.number(node, 0) != 1.0:
            return None
        return self.deviation(node.inputs[-1])

    def moments(self, found: tuple[str, tuple[int, ...], float]) -> _Moments | None:
        return _Moments(found[0], found[1], self.nodes.rank(found[0])) if self.nodes.is_float32(found[0]) else None

    def whole(self, node: Node) -> _Norm | None:
        """x * inverse + (bias - mean * inverse), inverse = scale / sqrt(variance + epsilon)."""
        if node.op.op_type not in ("Add", "Sub"):
            return None
        for index in (0, 1) if node.op.op_type == "Add" else (0,):
            product, rest = self.maker(node.inputs[index], "Mul"), node.inputs[1 - index]
            for side in (0, 1) if product is not None else ():
                assert product is not None
                x, factor = product.inputs[side], product.inputs[1 - side]
                inverse, scale = self.inverse(factor), None
                if inverse is None:
                    inverse, scale = self.times_constant(factor)
                moments = None if inverse is None or inverse[0] != x else self.moments(inverse)
                if inverse is None or moments is None or (scale is not None and moments.parameter(scale) is None):
                    continue
                shift = self.shift(rest, factor, moments, negated=node.op.op_type == "Add")
                if shift is not None:
                    found = self.norm(moments, inverse[2], scale, shift[0], node)
                    if found is not None:
                        return found
        return None

    def times_constant(self, name: str) -> tuple[tuple[str, tuple[int, ...], float] | None, np.ndarray | None]:
        node = self.maker(name, "Mul")
        for index in (0, 1) if node is not None else ():
            assert node is not None
            value = self.nodes.constant(node, index)
            inverse = None if value is None else self.inverse(node.inputs[1 - index])
            if inverse is not None:
                return inverse, value
        return None, None

    def shift(self, name: str, factor: str, moments: _Moments, negated: bool) -> tuple[np.ndarray | None] | None:
        """(bias,) of bias - mean * factor; (None,) of mean * factor, negated or not."""

        def product(name: str, negative: bool) -> bool:
            node = self.maker(name, "Mul", "Neg")
            if node is not None and node.op.op_type == "Neg":
                return negative and product(node.inputs[0], False)
            for side in (0, 1) if node is not None else ():
                assert node is not None
                mean, other = node.inputs[side], node.inputs[1 - side]
                if other != factor:
                    continue
                if negative:
                    minus = self.maker(mean, "Neg")
                    if minus is None:
                        continue
                    mean = minus.inputs[0]
                if self.mean(mean) == (moments.x, moments.axes):
                    return True
            return False

        if product(name, negated):
            return (None,)
        if not negated:
            return None
        node = self.maker(name, "Sub", "Add")
        for index in (0, 1) if node is not None else ():
            assert node is not None
            value = self.nodes.constant(node, index)
            subtracts = node.op.op_type == "Sub"
            if moments.parameter(value) is None or (subtracts and index == 1):
                continue
            if product(node.inputs[1 - index], not subtracts):
                return (value,)
        return None

    def scaled(self, node: Node) -> _Norm | None:
        """(x - mean) / deviation, and the scale and bias behind it."""
        found = None
        if node.op.op_type == "Div":
            found = self.deviation(node.inputs[1])
            if found is not None and self.centred(node.inputs[0]) != found[:2]:
                return None
        elif node.op.op_type == "Mul":
            for side in (0, 1):
                found = self.inverse(node.inputs[1 - side])
                if found is not None and self.centred(node.inputs[side]) == found[:2]:
                    break
                found = None
        moments = None if found is None else self.moments(found)
        if found is None or moments is None:
            return None
        last = node
        parameters: list[np.ndarray | None] = []
        for kind in ("Mul", "Add"):
            reader = self.nodes.only_reader(last.outputs[0])
            value = None
            if reader is not None and reader.op.op_type == kind and only_output(reader):
                index = 0 if reader.inputs[1] == last.outputs[0] else 1
                value = self.nodes.constant(reader, index)
                if not plain(reader) or moments.parameter(value) is None:
                    value = None
            parameters.append(value)
            if value is not None and reader is not None:
                last = reader
        whole = self.norm(moments, found[2], parameters[0], parameters[1], last)
        return self.norm(moments, found[2], None, None, node) if whole is None else whole

    def norm(
        self, moments: _Moments, epsilon: float, scale: np.ndarray | None, bias: np.ndarray | None, last: Node
    ) -> _Norm | None:
        given = [(None, None) if v is None else moments.parameter(v) or (-1, None) for v in (scale, bias)]
        counts = {count for count, _ in given if count is not None}
        op = moments.operator(epsilon, per_channel=counts == {0}) if len(counts) < 2 and -1 not in counts else None
        return None if op is None else _Norm(op, moments.x, given[0][1], given[1][1], last)
