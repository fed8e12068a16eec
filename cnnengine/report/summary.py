"""What a model consists of, layer by layer: operators, output shapes, parameters, multiply-adds, kernels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..graph import Node
from ..model import Model, inside
from ..operator import Activation, Operator
from ..ops.fused import ConvChain, FusedConv
from ..plan import Layer, Segment
from ..weights import Computed
from .memory import Memory, memory_of, segments_of
from .owners import layers_of, owners_of
from .planning import Shapes, opened, resolve_shapes
from .tables import Printed, Text, shape_text, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Known = tuple[tuple[int, ...], np.dtype]


@dataclass(frozen=True)
class LayerSummary:
    """One layer as it is run.

    Attributes
    ----------
    name : str
        The node's.
    operator : str
    fused : tuple of str
        What the kernel does besides: "gate" of the channels, "add" of a residual, an activation; the parts of a ConvChain, a
        depthwise convolution with the 1x1 convolutions around it.
    outputs : tuple of (shape, dtype), or None where the shape is not known
    parameters : int
        Numbers in its constant weights, after normalisations were merged into them.
    macs : int or None
        Multiply-adds of convolutions and matrix products, 0 for other operators; None without shapes. Winograd's algorithm,
        where it is used, needs fewer.
    kernels : tuple of str
        Compiled kernels that run it, in order; empty when nothing has to be computed (or shapes are not known).
    runs : {"kernel", "free", "host", "fallback", "unknown"}
        Compiled; nothing to do; by NumPy; by onnx.reference; or not known without shapes.
    tensors : tuple of str
        The outputs' names, "" of one that nothing reads: what `load(outputs=...)` takes.
    """

    name: str
    operator: str
    fused: tuple[str, ...]
    outputs: tuple[tuple[tuple[int, ...], str] | None, ...]
    parameters: int
    macs: int | None
    kernels: tuple[str, ...]
    runs: str
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary(Printed):
    """A model's layers and totals.

    Attributes
    ----------
    model, isa : str
    shapes : dict of str to tuple of int, or None
        The inputs' shapes that it holds for; None when a dynamic one was not given.
    layers : tuple of LayerSummary
    parameters : int
        Each constant counted once, however many layers read it.
    macs : int or None
    arena_bytes : int or None
        Memory for intermediate tensors.
    weight_bytes : int or None
        Memory of the packed weights.
    precision : str
        As the model was loaded.
    lowered : tuple of str
        Names of the layers in this precision, where that is not float32.
    memory : Memory or None
        Which tensors are in memory at which step; None when shapes are not known.
    """

    model: str
    isa: str
    shapes: dict[str, tuple[int, ...]] | None
    layers: tuple[LayerSummary, ...]
    parameters: int
    macs: int | None
    arena_bytes: int | None
    weight_bytes: int | None
    precision: str = "float32"
    lowered: tuple[str, ...] = ()
    memory: Memory | None = field(default=None, repr=False)

    def count(self, runs: str) -> int:
        """How many layers run in this way."""
        return sum(layer.runs == runs for layer in self.layers)

    def text(self) -> Text:
        """A line for each layer, and the totals."""
        out = Text()
        if self.shapes is None:
            out.line("layers:")
        else:
            shapes = ", ".join(f"{name} {shape_text(shape)}" for name, shape in self.shapes.items())
            out.line(f"layers{' at ' if shapes else ''}{shapes}:")
        rows = [["name", "operator", "tensor", "shape", "parameters", "MACs", "kernel"]]
        rows += [_row(layer) for layer in self.layers]
        out.table(rows, (4, 5))
        parts = [f"{len(self.layers)} layers", f"{self.parameters:,} parameters"]
        if self.macs is not None:
            parts.append(f"{self.macs:,} MACs")
        if self.weight_bytes is not None and self.arena_bytes is not None:
            parts.append(f"{self.weight_bytes / 1e6:.1f} MB of weights, {self.arena_bytes / 1e6:.1f} MB for tensors")
        out.line(f"total: {', '.join(parts)}")
        if self.precision == "float32":
            out.line("precision: float32")
        else:
            out.line(f"precision: {self.precision} in {', '.join(self.lowered) or 'no layer'}; else float32")
        without = [
            f"{layer.name} ({layer.operator}, {layer.runs})" for layer in self.layers if layer.runs in ("host", "fallback")
        ]
        out.line(f"without a compiled kernel: {', '.join(without) if without else 'no layer'}")
        return out

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        data = asdict(replace(self, memory=None))
        data["memory"] = None if self.memory is None else self.memory.as_dict()
        for layer, described in zip(self.layers, data["layers"], strict=True):
            del described["tensors"]
            described["outputs"] = [
                {"name": name, "shape": None if o is None else list(o[0]), "dtype": None if o is None else o[1]}
                for name, o in zip(layer.tensors, layer.outputs, strict=True)
            ]
        return data

    def plot(self) -> Figure:
        """Memory over the steps of a run: which tensors lie where, and where the most is in use (`Memory.plot`).

        Raises
        ------
        InputError
            matplotlib is not installed, or shapes are not known.
        """
        if self.memory is None:
            raise InputError("memory is known when shapes are: give them", model=self.model, tensor="shapes")
        return self.memory.plot()


def _row(layer: LayerSummary) -> list[str]:
    operator = " + ".join([layer.operator, *layer.fused])
    outputs = " ".join("?" if output is None else shape_text(output[0]) for output in layer.outputs)
    kernel = {"kernel": _counted(layer.kernels), "free": "-", "unknown": "?"}.get(layer.runs, layer.runs)
    if layer.runs == "host" and layer.kernels:
        kernel = f"host, {_counted(layer.kernels)}"
    macs = "?" if layer.macs is None else f"{layer.macs:,}" if layer.macs else ""
    tensors = " ".join(shortened(name or "-") for name in layer.tensors)
    return [shortened(layer.name), operator, tensors, outputs, f"{layer.parameters:,}" if layer.parameters else "", macs, kernel]


def _counted(kernels: Sequence[str]) -> str:
    """Names of kernels, each run of the same one with its length."""
    runs = [(name, len(list(group))) for name, group in itertools.groupby(kernels)]
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in runs)


def summarize(model: Any, shapes: Shapes | None = None) -> Summary:
    """Describe a model's layers.

    Parameters
    ----------
    model : Model, or as for `cnnengine.load`
    shapes : mapping of str to tuple of int, optional
        Shapes of inputs; those left out are the file's, with a batch of 1 where it is dynamic. When another extent stays
        dynamic, the layers are listed without shapes, multiply-adds and kernels.

    Returns
    -------
    Summary

    Raises
    ------
    ShapeError, InputError
        The shapes do not fit the model.
    ClosedError
    """
    with opened(model) as loaded:
        return _summary(loaded, shapes)


def _summary(model: Model, shapes: Shapes | None) -> Summary:
    view = inside(model)
    resolved = resolve_shapes(model, shapes)
    graph = view.graph
    layers: list[LayerSummary] = []
    read: set[str] = set()
    arena: int | None = None
    weights: int | None = None
    held: Memory | None = None
    if resolved is None:
        for node in graph.nodes:
            parameters = _parameters(node, graph.constants)
            read.update(parameters)
            host = "fallback" if node.op.by_onnx else "unknown"
            outputs = (None,) * len(node.outputs)
            total = sum(parameters.values())
            layers.append(
                LayerSummary(node.name, node.op.op_type, fused_of(node), outputs, total, None, (), host, tuple(node.outputs))
            )
    else:
        found = segments_of(model, resolved)
        for segment in found:
            kernels = kernels_of(segment)
            for layer in layers_of(segment):
                parameters = _parameters(layer.node, graph.constants)
                read.update(parameters)
                layers.append(_describe(layer, segment, kernels.get(id(layer.node), []), sum(parameters.values())))
        arena = max((segment.plan.arena_bytes for segment in found), default=0)
        weights = view.weight_bytes
        held = memory_of(model.name, resolved, found)
    total = sum(graph.constants[name].size for name in read)
    macs = None if resolved is None else sum(layer.macs or 0 for layer in layers)
    figures = total, macs, arena, weights
    return Summary(model.name, model.isa, resolved, tuple(layers), *figures, model.precision, model.lowered, held)


def kernels_of(segment: Segment) -> dict[int, list[str]]:
    """id of a node -> the kernels that its plan runs for it."""
    owners = owners_of(segment)
    result: dict[int, list[str]] = {}
    for report in segment.plan.reports:
        node = owners.get(report.node)
        if node is not None:
            result.setdefault(id(node), []).append(report.kernel)
    return result


def _describe(layer: Layer, segment: Segment, kernels: list[str], parameters: int) -> LayerSummary:
    node = layer.node
    if node.op.by_onnx:
        runs = "fallback"
    elif node.name in segment.host_nodes or (segment.tail is not None and node is segment.tail.node):
        runs = "host"
    else:
        runs = "kernel" if kernels else "free"
    outputs = tuple(None if o is None else (o[0], str(o[1])) for o in layer.outputs)
    fused, names = fused_of(node), tuple(node.outputs)
    return LayerSummary(node.name, node.op.op_type, fused, outputs, parameters, macs_of(layer), tuple(kernels), runs, names)


def fused_of(node: Node) -> tuple[str, ...]:
    """What was merged into the operator: a gate, a residual sum, an activation; the parts of a chain."""
    if isinstance(node.op, ConvChain):
        parts = ("expand",) * node.op.expand + ("depthwise",) + ("project",) * node.op.project
        ends = (False,) * (len(parts) - 1) + (node.op.residual,)
        convs = [FusedConv(conv, residual) for conv, residual in zip(node.op.convs, ends, strict=True)]
        return tuple(name for part, conv in zip(parts, convs, strict=True) for name in (part, *_extras(conv)))
    return _extras(node.op)


def _extras(op: Operator) -> tuple[str, ...]:
    fused = ["gate"] if getattr(op, "gated", False) else []
    fused += ["add"] if getattr(op, "residual", False) else []
    activation = getattr(op, "activation", None)
    if isinstance(activation, Activation):
        name = activation.kind
        if name == "clip" and activation.alpha == 0:
            name = {math.inf: "relu", 6.0: "relu6"}.get(activation.beta, name)
            name = "relu" if activation.beta > 3e38 else name
        fused.append(name)
    return tuple(fused)


def _parameters(node: Node, constants: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Constant weights that a node reads, by name: floating-point numbers, and integers of 8 bits."""
    if node.op.settings:
        return {}
    found = {}
    for name in node.inputs:
        value = constants.get(name) if name else None
        if isinstance(value, np.ndarray | Computed) and (value.dtype.kind == "f" or value.dtype in (np.int8, np.uint8)):
            found[name] = value.size
    return found


def macs_of(layer: Layer) -> int | None:
    """Multiply-adds of a convolution or matrix product; 0 for other operators, None where a shape is not known."""
    shapes = [[None if s is None else s[0] for s in values] for values in (layer.inputs, layer.outputs)]
    return layer.node.op.multiply_adds(*shapes)
