"""Model-local ONNX functions for layers that ONNX has no operator for: adaptive pooling and spatial pyramid pooling.

A function's body consists of standard operators, so that a file that holds one runs in any engine. cnnengine recognises the
functions, by name and by body, and runs each as one kernel. docs/export.md shows how to export a PyTorch model with them.

A function's name says everything that its body depends on: ``SpatialPyramidPool2d_max_4_2_1`` has the levels 4, 2 and 1,
``AdaptivePool2d_avg_7_7`` gives 7 x 7. Functions are made with the onnx package; it is not needed to recognise them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import InputError, needed
from .operator import Operator
from .ops.pool import AdaptivePool, SpatialPyramidPool

if TYPE_CHECKING:
    import onnx

__all__ = ["DOMAIN", "adaptive_pool", "attach", "operator_of", "spatial_pyramid_pool"]

DOMAIN = "cnnengine"
"""The functions' domain; its version is 1."""
VERSION = 1
OLDEST_OPSET = 13
NEWEST_OPSET = 28
"""Opsets of the default domain whose operators the bodies can be written with."""

_NAME = re.compile(r"(SpatialPyramidPool|AdaptivePool)([123])d_(max|avg)((?:_[1-9][0-9]{0,3}){1,16})")


def spatial_pyramid_pool(
    levels: Sequence[int] = (4, 2, 1), *, mode: str = "max", rank: int = 2, opset: int = 18
) -> onnx.FunctionProto:
    """Spatial pyramid pooling (He et al. 2014, arXiv:1406.4729) as an ONNX function of one input.

    The function takes (N, C, spatial...) of any spatial extents of at least 1 to (N, C * sum(l ** rank for l in levels)):
    per level an adaptive pool into l bins per axis, flattened in C order; levels are joined in the given order.

    Parameters
    ----------
    levels : sequence of int
        Up to 16 levels of 1 to 9999 bins.
    mode : {"max", "avg"}
    rank : {1, 2, 3}
        Number of spatial axes.
    opset : int
        Version of the default domain that the body is written for, 13 to 28; a model's own must be compatible with it.

    Returns
    -------
    onnx.FunctionProto
        In the domain ``cnnengine``; a node calls it by its ``name``.

    Raises
    ------
    InputError
        A parameter is out of its range, or the onnx package is not installed (a NotInstalledError).
    """
    return _pyramid(tuple(levels), mode, rank, opset).function()


def _pyramid(levels: tuple[int, ...], mode: str, rank: int, opset: int) -> _Body:
    _check(levels, mode, rank, opset)
    body = _Body(f"SpatialPyramidPool{rank}d", mode, levels, opset)
    parts = []
    for level in levels:
        pooled = body.pool("x", (level,) * rank, mode)
        parts.append(body.add("Flatten", [pooled], axis=1))
    body.add("Concat", parts, "y", axis=1)
    body.doc = f"Spatial pyramid pooling: levels {', '.join(map(str, levels))} of {mode} pooling."
    return body


def adaptive_pool(output_size: Sequence[int], *, mode: str = "max", opset: int = 18) -> onnx.FunctionProto:
    """Adaptive pooling as an ONNX function of one input: bin i of o over n pixels is floor(i*n/o) to ceil((i+1)*n/o).

    These are the bins of PyTorch's AdaptiveMaxPool and AdaptiveAvgPool.

    Parameters
    ----------
    output_size : sequence of int
        One size of 1 to 9999 per spatial axis, one to three.
    mode : {"max", "avg"}
    opset : int
        As for `spatial_pyramid_pool`.

    Returns
    -------
    onnx.FunctionProto

    Raises
    ------
    InputError
        A parameter is out of its range, or the onnx package is not installed (a NotInstalledError).
    """
    return _adaptive(tuple(output_size), mode, opset).function()


def _adaptive(output_size: tuple[int, ...], mode: str, opset: int) -> _Body:
    rank = len(output_size)
    _check(output_size, mode, rank, opset)
    body = _Body(f"AdaptivePool{rank}d", mode, output_size, opset)
    body.add("Identity", [body.pool("x", output_size, mode)], "y")
    body.doc = f"Adaptive {mode} pooling to {' x '.join(map(str, output_size))}."
    return body


def attach(model: onnx.ModelProto) -> onnx.ModelProto:
    """Add the functions that the model's nodes of the domain ``cnnengine`` call and that it lacks.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place: functions and the import of the domain are added, nothing else. The bodies are written for the
        model's own opset. Nodes of the main graph, of subgraphs and of the model's functions are looked at.

    Returns
    -------
    onnx.ModelProto
        The same.

    Raises
    ------
    InputError
        A node of the domain has a name that is not a function of this module, or the model's opset or IR version is too
        old (functions need IR version 8).
    """
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
    present = {f.name for f in model.functions if f.domain == DOMAIN}
    stack = [list(model.graph.node), *(list(f.node) for f in model.functions)]
    missing: dict[str, onnx.FunctionProto] = {}
    while stack:
        for node in stack.pop():
            for attribute in node.attribute:
                stack.extend(list(g.node) for g in ([attribute.g] if attribute.HasField("g") else attribute.graphs))
            if node.domain != DOMAIN or node.op_type in present or node.op_type in missing:
                continue
            body = _body_of(node.op_type, int(opsets.get("", 0)))
            if body is None:
                raise InputError(
                    "no such function in cnnengine.onnx_functions",
                    node=node.name,
                    operator=node.op_type,
                    expected="a name such as SpatialPyramidPool2d_max_4_2_1 or AdaptivePool2d_avg_7_7",
                )
            missing[node.op_type] = body.function()
    if missing and model.ir_version < 8:
        raise InputError("the model is too old for functions", tensor="ir_version", expected=">= 8", received=model.ir_version)
    model.functions.extend(missing.values())
    if missing and DOMAIN not in opsets:
        model.opset_import.add(domain=DOMAIN, version=VERSION)
    return model


def operator_of(function: Any) -> Operator | None:
    """The operator that computes what this function computes, or None for a function that is not one of this module's.

    Parameters
    ----------
    function : onnx.FunctionProto
        Or what has its fields.

    Name and body must both agree; names of inner values and of nodes, and doc strings, do not count.
    """
    found = _NAME.fullmatch(function.name) if function.domain == DOMAIN and not getattr(function, "overload", "") else None
    if found is None:
        return None
    kind, rank, mode, numbers = found.groups()
    sizes = tuple(int(n) for n in numbers[1:].split("_"))
    opset = next((int(o.version) for o in function.opset_import if o.domain in ("", "ai.onnx")), 0)
    # every bin takes a node: names that promise more than the body has cost nothing here
    if len(function.node) < sum(sizes) or not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        return None
    canonical = _body_of(function.name, opset)
    if canonical is None or _essence(function) != _essence(canonical):
        return None
    if kind == "AdaptivePool":
        return AdaptivePool(sizes, mode)
    return SpatialPyramidPool(sizes, mode, int(rank))


def _body_of(name: str, opset: int) -> _Body | None:
    """The function of this name, or None where the name is not one that this module gives."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    kind, rank, mode, numbers = found.groups()
    sizes = tuple(int(n) for n in numbers[1:].split("_"))
    if kind == "AdaptivePool":
        return _adaptive(sizes, mode, opset) if len(sizes) == int(rank) else None
    return _pyramid(sizes, mode, int(rank), opset)


def _check(sizes: tuple[int, ...], mode: str, rank: int, opset: int) -> None:
    def require(condition: bool, name: str, expected: str, received: object) -> None:
        if not condition:
            raise InputError("not possible in an ONNX function", tensor=name, expected=expected, received=received)

    require(
        1 <= len(sizes) <= 16 and all(isinstance(n, int) and 1 <= n <= 9999 for n in sizes), "sizes", "1 to 16 of 1..9999", sizes
    )
    require(mode in ("max", "avg"), "mode", "'max' or 'avg'", mode)
    require(rank in (1, 2, 3), "spatial axes", "1 to 3", rank)
    require(OLDEST_OPSET <= opset <= NEWEST_OPSET, "opset", f"{OLDEST_OPSET} to {NEWEST_OPSET}", opset)


def _essence(function: Any) -> object:
    """What a function computes, as comparable data: values are numbered in the order in which they appear."""
    numbers: dict[str, int] = {"": -1}

    def number(name: str) -> int:
        return numbers.setdefault(name, len(numbers))

    inputs = [number(n) for n in function.input]
    nodes = []
    for node in function.node:
        operator = (node.op_type, "" if node.domain == "ai.onnx" else node.domain)
        attributes = sorted((_attribute(a) for a in node.attribute), key=repr)
        nodes.append((operator, [number(i) for i in node.input], [number(o) for o in node.output], attributes))
    defaults = (list(function.attribute), len(function.attribute_proto))
    return (inputs, nodes, [number(n) for n in function.output], defaults)


_OTHER_FIELDS = ("f", "s", "t", "g", "sparse_tensor", "tp"), ("floats", "strings", "tensors", "graphs", "sparse_tensors")


def _attribute(attribute: Any) -> object:
    """An integer or a list of them, with all that it has; of an attribute that has anything else only that it has it."""
    if isinstance(attribute, _Attribute):
        return (attribute.name, attribute.type, attribute.value)
    single, several = _OTHER_FIELDS
    odd = [n for n in single if attribute.HasField(n)] + [n for n in several if len(getattr(attribute, n))]
    if odd or attribute.ref_attr_name:
        return (attribute.name, attribute.ref_attr_name, odd)
    i = int(attribute.i) if attribute.HasField("i") else None
    ints = tuple(int(n) for n in attribute.ints)
    if i is not None and ints:
        return (attribute.name, i, ints)
    return (attribute.name, int(attribute.type), ints if i is None else i)


_INT, _INTS = 2, 7
"""AttributeProto.AttributeType."""


@dataclass(frozen=True)
class _Attribute:
    name: str
    value: int | tuple[int, ...]

    @property
    def type(self) -> int:
        return _INT if isinstance(self.value, int) else _INTS


@dataclass(frozen=True)
class _Node:
    op_type: str
    input: list[str]
    output: list[str]
    attribute: list[_Attribute]
    domain: str = ""


class _Body:
    """A function under construction; what it writes is a format: files in the world are recognised by it.

    It has the fields of a FunctionProto that `_essence` reads.
    """

    attribute = attribute_proto = ()

    def __init__(self, kind: str, mode: str, sizes: tuple[int, ...], opset: int) -> None:
        self._name = "_".join([kind, mode, *map(str, sizes)])
        self._opset = opset
        self._known: dict[object, str] = {}
        self.node: list[_Node] = []
        self.input, self.output = ["x"], ["y"]
        self.doc = ""

    def add(self, op_type: str, inputs: list[str], output: str = "", **attributes: int | tuple[int, ...]) -> str:
        output = output or f"{op_type.lower()}_{len(self.node)}"
        self.node.append(_Node(op_type, inputs, [output], [_Attribute(n, v) for n, v in attributes.items()]))
        return output

    def ints(self, *values: int) -> str:
        """An int64 vector; one Constant for all that are equal."""
        if values not in self._known:
            self._known[values] = self.add("Constant", [], value_ints=values)
        return self._known[values]

    def bins(self, axis: int, count: int) -> tuple[str, str]:
        """First pixels and ends of the bins of an axis of the input, as two vectors."""
        key = ("bins", axis, count)
        if key not in self._known:
            if "shape" not in self._known:
                self._known["shape"] = self.add("Shape", ["x"])
            extent = self.add("Gather", [self._known["shape"], self.ints(axis)], axis=0)
            starts = self.add("Mul", [extent, self.ints(*range(count))])
            starts = self.add("Div", [starts, self.ints(count)])
            ends = self.add("Mul", [extent, self.ints(*range(1, count + 1))])
            ends = self.add("Div", [self.add("Add", [ends, self.ints(count - 1)]), self.ints(count)])
            self._known[key] = f"{starts} {ends}"
        starts, ends = self._known[key].split()
        return starts, ends

    def pool(self, x: str, sizes: tuple[int, ...], mode: str) -> str:
        """Axis after axis: the bins are products of intervals, so the order of the axes does not matter."""
        for axis, count in enumerate(sizes, 2):
            if count == 1:
                x = self.reduce(x, axis, mode)
                continue
            starts, ends = self.bins(axis, count)
            parts = []
            for i in range(count):
                start, end = (self.add("Gather", [v, self.ints(i)], axis=0) for v in (starts, ends))
                parts.append(self.reduce(self.add("Slice", [x, start, end, self.ints(axis)]), axis, mode))
            x = self.add("Concat", parts, axis=axis)
        return x

    def reduce(self, x: str, axis: int, mode: str) -> str:
        op_type = "ReduceMax" if mode == "max" else "ReduceMean"
        if self._opset < 18:
            return self.add(op_type, [x], axes=(axis,), keepdims=1)
        return self.add(op_type, [x, self.ints(axis)], keepdims=1)

    def function(self) -> onnx.FunctionProto:
        helper = needed("onnx.helper", "a function for models")
        nodes = [helper.make_node(n.op_type, n.input, n.output, **{a.name: a.value for a in n.attribute}) for n in self.node]
        imports = [helper.make_opsetid("", self._opset)]
        made: onnx.FunctionProto = helper.make_function(
            DOMAIN, self._name, self.input, self.output, nodes, imports, doc_string=self.doc
        )
        return made
