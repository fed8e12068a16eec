"""Layers of a quantised network and what each of them loses.

Taken is the QDQ form, where a layer is a node whose inputs are dequantised and whose output is quantised again. Its *error* is
that of its output in the quantised network against the float one: all that the layers before it lost is in it. Its *own* error is
what it loses alone: the float network is given a second, quantised copy of each layer, which reads the float tensors. Its
*effect* is the error of the network's outputs where this layer alone is quantised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

MOVES = frozenset(
    {
        "Clip", "Flatten", "Gather", "GatherElements", "Identity", "MaxPool", "Pad", "Relu", "Reshape", "Slice", "Split",
        "Squeeze", "TopK", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""Operators that lose nothing themselves: they move, select or cut off values, or go into the layer before them."""
_SUFFIX = "_QuantizeLinear_Input"
"""What the quantiser appends to the name of an output of the model, which it needs for the dequantised one."""
_OWN = "own/"
"""Before the names of what stands beside the float network."""


@dataclass(frozen=True)
class Layer:
    """A quantised layer.

    Attributes
    ----------
    node, operator : str
    tensor : str
        Its output in the float network; where the quantiser took away the Relu behind it, that of the Relu.
    seen : str
        What readers of that tensor get in the quantised network.
    """

    node: str
    operator: str
    tensor: str
    seen: str


class Layers:
    """The quantised layers of a network.

    Parameters
    ----------
    plain, quantised : onnx.ModelProto
        The prepared float network, and its QDQ form.
    """

    def __init__(self, plain: onnx.ModelProto, quantised: onnx.ModelProto) -> None:
        self._plain, self._quantised = plain, quantised
        self._floats = {name for node in plain.graph.node for name in node.output} | {i.name for i in plain.graph.input}
        self._makers = {name: node for node in quantised.graph.node for name in node.output if name}
        self._weights = {tensor.name for tensor in quantised.graph.initializer}
        self._quantisers = {node.input[0]: node for node in quantised.graph.node if node.op_type == "QuantizeLinear"}
        self._dequantisers = {node.input[0]: node for node in quantised.graph.node if node.op_type == "DequantizeLinear"}
        names = {node.name for node in plain.graph.node}
        self._nodes = {
            node.name: node
            for node in quantised.graph.node
            if node.name in names and node.op_type not in MOVES and self._is_quantised(node)
        }
        self.layers = tuple(
            Layer(node.name, node.op_type, tensor, self._seen(node.output[0]))
            for node in self._nodes.values()
            if (tensor := self._float(node.output[0])) is not None
        )

    def _is_quantised(self, node: onnx.NodeProto) -> bool:
        """Whether a node reads quantised numbers, and, where it has weights, quantised ones of those."""
        made = [self._makers.get(name) for name in node.input]
        from_scales = [maker is not None and maker.op_type == "DequantizeLinear" for maker in made]
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            return all(from_scales[:2])
        return any(from_scales) and node.output[0] in self._quantisers

    def _float(self, name: str) -> str | None:
        """The tensor of the float network that this one is."""
        name = name if name in self._floats else name.removesuffix(_SUFFIX)
        return name if name in self._floats else None

    def _seen(self, name: str) -> str:
        quantiser = self._quantisers.get(name)
        if quantiser is None or quantiser.output[0] not in self._dequantisers:
            return name
        return str(self._dequantisers[quantiser.output[0]].output[0])

    # ------------------------------------------------------------ layers alone
    def beside(self) -> tuple[onnx.ModelProto, dict[str, str]]:
        """The float network with a quantised copy of each layer beside it; by layer, the copy's output."""
        copy, found = self._copy(), {}
        made: set[str] = set()
        for layer in self.layers:
            output = self._add(copy, layer.node, made)
            if output is not None:
                found[layer.node] = output
        return copy, found

    def alone(self, layer: Layer) -> onnx.ModelProto | None:
        """The float network with this layer quantised, and nothing else; None where it cannot be taken by itself."""
        copy, before = self._copy(), len(self._plain.graph.node)
        output = self._add(copy, layer.node, set())
        if output is None:
            return None
        nodes = list(copy.graph.node)
        for node in nodes[:before]:
            node.input[:] = [output if name == layer.tensor else name for name in node.input]
            node.output[:] = [_OWN + "unused" if name == layer.tensor else name for name in node.output]
        if layer.tensor in [value.name for value in copy.graph.output]:
            for node in nodes[before:]:
                node.output[:] = [layer.tensor if name == output else name for name in node.output]
                node.input[:] = [layer.tensor if name == output else name for name in node.input]
            for node in nodes[:before]:
                node.input[:] = [layer.tensor if name == output else name for name in node.input]
        _sort(copy)
        return copy

    def _copy(self) -> onnx.ModelProto:
        import onnx

        copy = onnx.ModelProto()
        copy.CopyFrom(self._plain)
        opsets = {o.domain: o.version for o in self._quantised.opset_import}
        for opset in copy.opset_import:
            opset.version = opsets.pop(opset.domain, opset.version)
        del copy.graph.value_info[:]
        return copy

    def _add(self, copy: onnx.ModelProto, name: str, made: set[str]) -> str | None:
        """Add a layer that reads the float tensors; its output, dequantised. `made` are names that are there already."""
        node = self._nodes[name]
        nodes: list[onnx.NodeProto] = []
        weights: list[str] = []
        inputs: list[str] = []
        for value in node.input:
            one = self._input(value, nodes, weights, made)
            if one is None:
                return None
            inputs.append(one)
        output = f"{_OWN}{node.output[0]}"
        nodes.append(_with(node, inputs, [output, *(f"{_OWN}{o}" for o in node.output[1:])]))
        quantiser = self._quantisers.get(node.output[0])
        if quantiser is not None and quantiser.output[0] in self._dequantisers:
            back = self._dequantisers[quantiser.output[0]]
            whole = f"{_OWN}{node.output[0]}/quantised"
            scales = [[_OWN + n for n in each.input[1:]] for each in (quantiser, back)]
            weights += [*quantiser.input[1:], *back.input[1:]]
            nodes.append(_with(quantiser, [output, *scales[0]], [whole]))
            output = f"{_OWN}{node.output[0]}/seen"
            nodes.append(_with(back, [whole, *scales[1]], [output]))
        if not self._take(copy, weights, made):
            return None
        for new in nodes:
            new.name = f"{_OWN}{new.name}/{name}"
        made.update(n for new in nodes for n in new.output)
        copy.graph.node.extend(nodes)
        return output

    def _input(self, name: str, nodes: list[onnx.NodeProto], weights: list[str], made: set[str]) -> str | None:
        """What a layer reads, from the float network or its constants."""
        if not name:
            return ""
        if name in self._weights:
            weights.append(name)
            return _OWN + name
        maker = self._makers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear":
            return self._float(name)
        inside = f"{_OWN}{name}/in"
        if inside in made or any(inside in node.output for node in nodes):
            return inside
        source, scales = maker.input[0], [_OWN + n for n in maker.input[1:]]
        weights += maker.input[1:]
        if source in self._weights:
            weights.append(source)
            nodes.append(_with(maker, [_OWN + source, *scales], [inside]))
            return inside
        quantiser = self._makers.get(source)
        value = self._float(quantiser.input[0]) if quantiser is not None and quantiser.op_type == "QuantizeLinear" else None
        if quantiser is None or value is None:
            return None
        whole = f"{inside}/quantised"
        weights += quantiser.input[1:]
        nodes.append(_with(quantiser, [value, *[_OWN + n for n in quantiser.input[1:]]], [whole]))
        nodes.append(_with(maker, [whole, *scales], [inside]))
        return inside

    def _take(self, copy: onnx.ModelProto, names: Sequence[str], made: set[str]) -> bool:
        """Add constants of the quantised network."""
        if any(name not in self._weights for name in names):
            return False
        wanted = {name for name in names if _OWN + name not in made}
        for tensor in self._quantised.graph.initializer:
            if tensor.name in wanted:
                copy.graph.initializer.append(tensor)
                copy.graph.initializer[-1].name = _OWN + tensor.name
                made.add(_OWN + tensor.name)
        return True


def _with(node: onnx.NodeProto, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.NodeProto:
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = inputs
    copy.output[:] = outputs
    return copy


def _sort(proto: onnx.ModelProto) -> None:
    """Bring nodes into an order in which each reads what is there."""
    makers = {name: at for at, node in enumerate(proto.graph.node) for name in node.output if name}
    nodes, done, order = list(proto.graph.node), set[int](), list[int]()
    for start in range(len(nodes)):
        stack: list[tuple[int, Iterator[str]]] = [(start, iter(_read_by(nodes[start])))]
        while stack:
            at, left = stack[-1]
            if at in done:
                stack.pop()
                continue
            before = next((makers[name] for name in left if name in makers and makers[name] not in done), None)
            if before is None:
                done.add(at)
                order.append(at)
                stack.pop()
            else:
                stack.append((before, iter(_read_by(nodes[before]))))
    copies = [_with(nodes[at], nodes[at].input, nodes[at].output) for at in order]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)


def _read_by(node: onnx.NodeProto) -> list[str]:
    """What a node and the graphs inside of it read."""
    inner = [g for a in node.attribute for g in (*a.graphs, *((a.g,) if a.HasField("g") else ()))]
    return [*node.input, *(name for graph in inner for each in graph.node for name in _read_by(each))]
