"""import_model: a ModelProto -> a Graph, every reason against it in one error."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CNNEngineError, ModelError, NotInstalledError, UnsupportedOperatorError, command, needed
from ..graph import Graph, Node
from ..limits import look
from ..operator import Expansion, NodeRecord, Operator
from ..ops import lookup
from ..ops.common import known_dtype
from ..ops.fallback import Fallback, refusal
from ..ops.shape import Identity
from ..spec import UNKNOWN, Dim, TensorSpec
from .attributes import GRAPH, GRAPHS, array_of, constant_value, dense, kind_of, value_of
from .functions import Inliner, Opsets, depends, key_of, opsets_of, unique
from .more_schemas import EXPERIMENTAL, FIRST_OUTPUTS, MORE, OPTIONAL
from .schemas import SCHEMAS
from .wire import ModelMessage, NodeMessage, as_message, encode

if TYPE_CHECKING:
    import onnx

ONE_PROCESSOR = ("com.microsoft.nchwc", "com.ms.internal.nhwc")
"""Domains of operators that onnxruntime's optimizer writes for the processor that it runs on."""

ONE_NODE = Operator.spell_out.__func__  # type: ignore[attr-defined]
"""What most operators' `spell_out` is: it does nothing."""


@dataclass(frozen=True)
class Problem:
    """One node that cannot be run, and why."""

    node: str
    op_type: str
    domain: str
    version: int
    reason: str

    def __str__(self) -> str:
        return f"node {self.node!r}: {self.op_type} (domain {self.domain or 'ai.onnx'!r}, version {self.version}): {self.reason}"


@dataclass(frozen=True)
class Schema:
    """What ONNX says of an operator at a version: its own version and the kinds of its attributes."""

    version: int
    attributes: Mapping[str, int]
    required: frozenset[str]
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    deprecated: bool


@cache
def schema_of(op_type: str, domain: str, version: int) -> Schema | None:
    """The schema in force at this opset version, or None where ONNX has none."""
    more, told = MORE.get(domain, {}).get(op_type), SCHEMAS.get(op_type) if domain == "" else None
    if more is not None and (told is None or version < int(told[0].split()[0])):
        return _told(more, version)
    if told is None:
        from .other_schemas import OTHER  # only here: most models have none of these

        told = OTHER.get(domain, {}).get(op_type)
    return None if told is None else _told(told, version)


def _told(lines: Sequence[str], version: int) -> Schema | None:
    """The schema by lines of `schemas`, `more_schemas` or `other_schemas`."""
    for line in reversed(lines):
        since, *limits = line.split()
        if int(since) <= version:
            break
    else:
        return None
    low, high, out_low, out_high = (2**31 - 1 if n == "*" else int(n) for n in limits[:4])
    deprecated = limits[4:5] == ["deprecated"]
    pairs = [text.split(":") for text in limits[5 if deprecated else 4 :]]
    return Schema(
        int(since),
        {name.rstrip("!"): int(kind) for name, kind in pairs},
        frozenset(name[:-1] for name, _ in pairs if name.endswith("!")),
        (low, high),
        (out_low, out_high),
        deprecated,
    )


def import_model(proto: onnx.ModelProto | ModelMessage, *, name: str = "", fallback: str = "checked") -> Graph:
    """Turn a model into a Graph.

    Parameters
    ----------
    proto : onnx.ModelProto or wire.ModelMessage
        With all tensors inside (`read` sees to that).
    name : str
        The model's name for messages; the graph's own by default.
    fallback : {"checked", "error"}
        Whether operators without a class may run through onnx.reference, for the versions checked in `ops/fallback.py`.

    Raises
    ------
    UnsupportedOperatorError
        Names every node that cannot be run; its attribute `problems` holds them one by one.
    ModelError
        The model breaks ONNX's rules.
    """
    if fallback not in ("checked", "error"):
        raise ModelError(
            "unknown fallback", model=name or None, tensor="fallback", expected=("checked", "error"), received=fallback
        )
    name = name or proto.graph.name or "model"
    try:
        importer = _Importer(proto, fallback == "checked")
        graph = importer.graph(proto.graph, importer.opsets, name)
        if importer.problems:
            raise _unsupported(importer.problems, name)
        importer.check_dropped(graph)
        graph.check()
        if not graph.outputs:
            raise ModelError("the graph has no outputs")
    except CNNEngineError as error:
        raise error.locate(model=name) from None
    graph.metadata.update({p.key: p.value for p in proto.metadata_props})
    return graph


def _unsupported(problems: list[Problem], name: str) -> UnsupportedOperatorError:
    if len(problems) == 1:
        only = problems[0]
        error = UnsupportedOperatorError(
            f"(domain {only.domain or 'ai.onnx'!r}, version {only.version}) {only.reason}",
            model=name,
            node=only.node,
            operator=only.op_type,
        )
    else:
        lines = "".join(f"\n  {p}" for p in problems)
        error = UnsupportedOperatorError(f"{len(problems)} nodes cannot be run:{lines}", model=name)
    error.problems = tuple(problems)  # type: ignore[attr-defined]
    return error


class _Importer:
    def __init__(self, proto: onnx.ModelProto | ModelMessage, fallback: bool) -> None:
        self.proto = proto
        self.fallback = fallback
        self.opsets = opsets_of(proto.opset_import)
        if not self.opsets or "" not in self.opsets:
            self.opsets[""] = 1  # files older than opset imports
        self.inliner = Inliner(proto)
        self.problems: list[Problem] = []
        self.dropped: dict[str, tuple[str, str]] = {}
        self.names: set[str] = set()
        self.counts: dict[str, int] = {}
        self.counter = 0

    def graph(self, proto: Any, opsets: Opsets, name: str, inner: bool = False) -> Graph:
        """A graph or subgraph; `inner` ones get the outer values that they read as further inputs."""
        constants: dict[str, np.ndarray] = {}
        for tensor in proto.initializer:
            if not tensor.name or tensor.name in constants:
                raise ModelError("an initializer has no name of its own", model=name, tensor=tensor.name)
            constants[tensor.name] = array_of(tensor, views=not inner)
        for sparse in proto.sparse_initializer:
            if not sparse.values.name or sparse.values.name in constants:
                raise ModelError("an initializer has no name of its own", model=name, tensor=sparse.values.name)
            constants[sparse.values.name] = dense(sparse)
        inputs: dict[str, TensorSpec] = {}
        for value in proto.input:
            if value.name in constants:
                continue  # before IR version 4 every initializer is an input as well
            if not value.name or value.name in inputs:
                raise ModelError("an input has no name of its own", tensor=value.name)
            inputs[value.name] = self._spec(value, inner)
        nodes: list[Node] = []
        for node, versions in self.inliner.expand(proto.node, opsets):
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                if len(node.output) != 1 or node.output[0] in constants or node.output[0] in inputs:
                    raise ModelError(
                        "makes a value that exists already",
                        node=node.name,
                        operator="Constant",
                        tensor=node.output[0] if node.output else None,
                    )
                constants[node.output[0]] = constant_value(node)
                continue
            nodes += self._node(node, versions, constants)
        if inner:
            inputs.update(
                dict.fromkeys(_outer(nodes, {*inputs, *constants}, [v.name for v in proto.output]), TensorSpec(UNKNOWN, None))
            )
        outputs: dict[str, TensorSpec] = {}
        for value in proto.output:
            name_of = value.name
            if value.name in outputs:  # listed again, the value has a second name
                name_of = self.inliner.unique(value.name)
                nodes.append(Node(Identity(), (value.name,), (name_of,), name_of))
            outputs[name_of] = self._spec(value, True)
        if self.problems:  # the values of refused nodes are missing: order and connections cannot be judged
            return Graph(inputs, outputs, nodes, constants, name)
        return Graph(inputs, outputs, _with_pooled(_sorted(nodes, {*inputs, *constants})), constants, name)

    def _spec(self, value: onnx.ValueInfoProto, lenient: bool) -> TensorSpec:
        held, form = value.type, []
        for name in ("optional", "sequence"):
            if held.WhichOneof("value") == f"{name}_type":
                held = getattr(held, f"{name}_type").elem_type
                form.append(name)
        kind = held.WhichOneof("value")
        if kind != "tensor_type":
            if lenient:
                return TensorSpec(UNKNOWN, None, kind=" ".join(form) or "tensor")
            if kind is None:
                raise ModelError("an input has no type", tensor=value.name, expected="a tensor type")
            raise UnsupportedOperatorError(
                "inputs must be tensors or sequences of them", tensor=value.name, expected="a tensor", received=kind
            )
        spec = self._tensor_spec(value.name, held.tensor_type, lenient)
        if not form:
            return spec
        return TensorSpec(spec.dtype, spec.shape if form == ["optional"] else None, kind=" ".join(form))

    def _tensor_spec(self, name: str, tensor: onnx.TypeProto.Tensor, lenient: bool) -> TensorSpec:
        try:
            dtype = known_dtype(tensor.elem_type)
        except NotInstalledError as error:
            raise error.locate(tensor=name) from None
        if dtype is None:
            if not lenient:
                raise UnsupportedOperatorError(
                    "an input has an element type that is not supported", tensor=name, received=tensor.elem_type
                )
            dtype = UNKNOWN
        if not tensor.HasField("shape"):
            return TensorSpec(dtype, None)
        return TensorSpec(dtype, tuple(_dim(d) for d in tensor.shape.dim))

    def check_dropped(self, graph: Graph) -> None:
        """Raise ModelError where the graph reads an output of a node that nothing makes."""
        if not self.dropped:
            return
        for name in dict.fromkeys([*(n for node in graph.nodes for n in node.inputs), *graph.outputs]):
            if name in self.dropped:
                node, reason = self.dropped[name]
                raise ModelError(reason, node=node, tensor=name, expected="a model that does not read it")

    def _unique(self, node: Any) -> str:
        name = node.name
        if not name:
            name = f"{node.op_type}_{self.counter}"
        self.counter += 1
        return unique(name, self.names, self.counts)

    def _node(self, node: Any, opsets: Opsets, constants: dict[str, np.ndarray]) -> list[Node]:
        """The node, or those that stand for it, whose constants are added; none when it is noted as a problem."""
        name, domain = self._unique(node), "" if node.domain == "ai.onnx" else node.domain
        look(node=name, operator=node.op_type)
        own = self.inliner.operators.get(key_of(node)) if self.inliner.operators else None
        if own is not None:
            if len(node.input) != 1 or len(node.output) != 1 or not node.input[0] or node.attribute:
                raise ModelError(
                    "a call does not fit its function",
                    node=name,
                    operator=node.op_type,
                    expected="one input, one output, no attribute",
                    received=f"{list(node.input)}, {list(node.output)}, {[a.name for a in node.attribute]}",
                )
            return [Node(own, tuple(node.input), tuple(node.output), name)]
        opset = opsets.get(domain, self.opsets.get(domain))
        schema = None if opset is None else schema_of(node.op_type, domain, opset)
        if schema is None or schema.deprecated:
            version = (opset or 0) if schema is None else schema.version
            self.problems.append(Problem(name, node.op_type, domain, version, self._reason(node, domain, opset, schema)))
            return []
        kinds = [kind_of(a) for a in node.attribute]
        if node.input and not node.input[-1] and GRAPH not in kinds and GRAPHS not in kinds:
            node = _trimmed(node)  # where captured values follow the inputs, their places count
        self._check(node, name, schema, kinds)
        before = len(self.problems)
        attributes: dict[str, Any] = {}
        captured: list[str] = []
        for a, kind in zip(node.attribute, kinds, strict=True):
            if kind != GRAPH and kind != GRAPHS:
                attributes[a.name] = value_of(a)
                continue
            single = kind == GRAPH
            inner = []
            for proto in [a.g] if single else a.graphs:
                inner.append(self.graph(proto, opsets, f"{name}/{proto.name or a.name}", inner=True))
                captured += list(inner[-1].inputs)[_formal(inner[-1], proto) :]
            attributes[a.name] = inner[0] if single else inner
        if len(self.problems) > before:
            return []
        captured = list(dict.fromkeys(captured))
        for key, value in attributes.items() if captured else ():
            if isinstance(value, Graph):
                attributes[key] = _with_captures(value, captured)
            elif isinstance(value, list) and value and isinstance(value[0], Graph):
                attributes[key] = [_with_captures(g, captured) for g in value]
        inputs, outputs = (*node.input, *captured), tuple(node.output)
        record = NodeRecord(node.op_type, domain, schema.version, attributes, tuple(node.input), outputs, name)
        cls = lookup(node.op_type, domain)
        reason = "no such operator here"
        if cls is not None and schema.version >= cls.min_version:
            try:
                if cls.spell_out.__func__ is not ONE_NODE:  # type: ignore[attr-defined]
                    into = Expansion(record, self.inliner.unique)
                    if cls.spell_out(into):
                        constants.update(into.constants)
                        self.dropped.update(dict.fromkeys(filter(None, into.dropped), (name, into.reason)))
                        return [Node(*written) for written in into.nodes]
                return [Node(cls.from_onnx(record), inputs, outputs, name)]
            except UnsupportedOperatorError as error:
                reason = _detail(error)
            except CNNEngineError as error:
                raise error.locate(node=name, operator=node.op_type) from None
            except (TypeError, ValueError) as error:  # an attribute of the wrong length or kind
                raise ModelError(f"an attribute is not what it should be ({error})", node=name, operator=node.op_type) from None
        elif cls is not None:
            reason = f"versions before {cls.min_version} are not supported"
        unchecked = refusal(node.op_type, domain, schema.version, attributes, len(node.input), len(node.output))
        if unchecked is None:
            if not self.fallback:
                unchecked = "it has no kernel, and fallback is 'error'"
            elif not has_onnx():
                unchecked = f"it runs through onnx.reference, which is not installed: {command()}"
            else:
                return [Node(Fallback.of(_protobuf(node), schema.version), inputs, outputs, name)]
        elif cls is None and depends(node.op_type, domain) and not has_onnx():
            unchecked = f"the onnx package, which is not installed, may write it by other operators: {command()}"
        reason = unchecked or reason
        self.problems.append(Problem(name, node.op_type, domain, schema.version, reason))
        return []

    def _reason(self, node: Any, domain: str, opset: int | None, schema: Schema | None) -> str:
        if schema is not None:
            return f"deprecated since version {schema.version}"
        if opset is None:
            return "the model imports no opset of this domain"
        if domain in ONE_PROCESSOR:
            return "onnxruntime's layout for one kind of processor: save the model with ORT_ENABLE_EXTENDED"
        if not domain and node.op_type in EXPERIMENTAL:
            return "an experimental operator, retired with opset 10 or before"
        newest = schema_of(node.op_type, domain, 2**31 - 1)
        return "no such operator" if newest is None else "not in this opset"

    def _check(self, node: Any, name: str, schema: Schema, kinds: Sequence[int]) -> None:
        """Attributes, of these kinds, and numbers of inputs and outputs against ONNX's schema."""
        where = {"node": name, "operator": node.op_type}
        if not schema.inputs[0] <= len(node.input) <= schema.inputs[1]:
            raise ModelError(
                "the wrong number of inputs",
                **where,
                expected=f"{schema.inputs[0]} to {schema.inputs[1]}",
                received=len(node.input),
            )
        fewest = 1 if node.op_type in FIRST_OUTPUTS and not node.domain else schema.outputs[0]
        if not fewest <= len(node.output) <= schema.outputs[1]:
            raise ModelError(
                "the wrong number of outputs",
                **where,
                expected=f"{schema.outputs[0]} to {schema.outputs[1]}",
                received=len(node.output),
            )
        needed = node.input[: schema.inputs[0]]
        if "" in needed and node.op_type not in ("Loop", "Scan") and not _may_lack(node, needed):
            raise ModelError(
                "a required input is absent", **where, expected=f"{schema.inputs[0]} inputs", received=tuple(node.input)
            )
        seen: set[str] = set()
        for a, kind in zip(node.attribute, kinds, strict=True):
            if a.name in seen:
                raise ModelError("an attribute is given twice", **where, received=a.name)
            seen.add(a.name)
            if a.ref_attr_name:
                raise ModelError("an attribute refers to a function's, outside of a function", **where, received=a.name)
            if a.name not in schema.attributes:
                raise ModelError(
                    "an attribute that the operator does not have", **where, expected=sorted(schema.attributes), received=a.name
                )
            if kind != schema.attributes[a.name]:
                raise ModelError(
                    f"attribute {a.name!r} has the wrong type",
                    **where,
                    expected=_kind_name(schema.attributes[a.name]),
                    received=_kind_name(kind),
                )
        if not schema.required:
            return
        missing = schema.required - seen
        if missing:
            raise ModelError("a required attribute is missing", **where, expected=", ".join(sorted(missing)))


def _may_lack(node: Any, needed: Sequence[str]) -> bool:
    """Whether the node may be without those of its first inputs that are absent."""
    optional = OPTIONAL.get(node.op_type, ()) if node.domain == "com.microsoft" else ()
    return all(name or index in optional for index, name in enumerate(needed))


def _detail(error: CNNEngineError) -> str:
    text = error.message if error.tensor is None else f"{error.tensor}: {error.message}"
    text += f"; expected {error.expected}" if error.expected is not None else ""
    return text + (f"; received {error.received}" if error.received is not None else "")


_KINDS = ["UNDEFINED", "FLOAT", "INT", "STRING", "TENSOR", "GRAPH", "FLOATS", "INTS", "STRINGS", "TENSORS", "GRAPHS"]
_KINDS += ["SPARSE_TENSOR", "SPARSE_TENSORS", "TYPE_PROTO", "TYPE_PROTOS"]
"""Names of AttributeProto.AttributeType."""


def _kind_name(kind: int) -> str:
    return _KINDS[kind] if 0 <= kind < len(_KINDS) else str(kind)


@cache
def has_onnx() -> bool:
    """Whether the onnx package can be imported."""
    try:
        needed("onnx", "")
    except NotInstalledError:
        return False
    return True


def _trimmed(node: Any) -> NodeMessage:
    """The node without its last inputs, which are absent; the file's node stays as it is."""
    count = len(node.input)
    while count and not node.input[count - 1]:
        count -= 1
    return as_message(NodeMessage, node).changed(input=list(node.input)[:count])


def _protobuf(node: Any) -> onnx.NodeProto:
    """The node as protobuf has it, with the data of tensors that lie in other files."""
    import onnx

    if not isinstance(node, NodeMessage):
        given: onnx.NodeProto = node
        return given
    proto: onnx.NodeProto = onnx.NodeProto.FromString(encode(node))
    return proto


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_param"):
        return str(dim.dim_param) or None
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return None


def _outer(nodes: list[Node], known: set[str], outputs: Iterable[str]) -> list[str]:
    """Names that a subgraph reads and does not make, in order of first use."""
    made = known | {o for n in nodes for o in n.outputs}
    read = [i for n in nodes for i in n.inputs] + list(outputs)
    return list(dict.fromkeys(n for n in read if n and n not in made))


def _formal(graph: Graph, proto: Any) -> int:
    """How many of a subgraph's inputs are its own; the captured ones follow."""
    constants = graph.constants
    return sum(v.name not in constants for v in proto.input)


def _with_captures(graph: Graph, captured: list[str]) -> Graph:
    """The subgraph with all outer values of its node as inputs, in the node's order, after its own inputs."""
    outer = set(captured)
    own = {n: s for n, s in graph.inputs.items() if n not in outer}
    return graph.replace(inputs={**own, **dict.fromkeys(captured, TensorSpec(UNKNOWN, None))})


def _with_pooled(nodes: list[Node]) -> list[Node]:
    """MaxUnpool nodes with an `output_shape` told the shape that their MaxPool pooled: its indices are places in that."""
    if not any(node.op.op_type == "MaxUnpool" for node in nodes):
        return nodes
    from ..ops.shape import Shape

    makers = {name: node for node in nodes for name in node.outputs if name}
    taken = {name for node in nodes for name in (*node.inputs, *node.outputs)}
    result = []
    for node in nodes:
        if node.op.op_type == "MaxUnpool" and len(node.inputs) == 3 and node.inputs[2]:
            source = node.inputs[1]
            while source in makers and makers[source].op.op_type == "Identity":
                source = makers[source].inputs[0]
            maker = makers.get(source)
            if maker is not None and maker.op.op_type == "MaxPool" and source == maker.outputs[1]:
                told = f"{node.name}:pooled"
                while told in taken:
                    told += "_"
                taken.add(told)
                result.append(Node(Shape(), maker.inputs[:1], (told,), f"{node.name}/pooled"))
                node = node.replace(inputs=(*node.inputs, told))
        result.append(node)
    return result


def _sorted(nodes: list[Node], known: set[str]) -> list[Node]:
    """The nodes so that each follows those it reads from, otherwise in the file's order."""
    maker: dict[str, int] = {}
    for i, node in enumerate(nodes):
        for o in node.outputs:
            if o:
                if o in maker or o in known:
                    raise ModelError("makes a value that exists already", node=node.name, operator=node.op.op_type, tensor=o)
                maker[o] = i
    waits = [{maker[n] for n in node.inputs if n in maker} for node in nodes]
    if all(not needs or max(needs) < i for i, needs in enumerate(waits)):
        return nodes  # as nearly every file has them
    users: list[list[int]] = [[] for _ in nodes]
    for i, needs in enumerate(waits):
        for m in needs:
            users[m].append(i)
    ready = [i for i, needs in enumerate(waits) if not needs]
    heapq.heapify(ready)
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append(nodes[i])
        for u in users[i]:
            waits[u].discard(i)
            if not waits[u]:
                heapq.heappush(ready, u)
    if len(order) < len(nodes):
        stuck = next(n for n, needs in zip(nodes, waits, strict=True) if needs)
        raise ModelError("the node waits for its own result: the graph has a cycle", node=stuck.name, operator=stuck.op.op_type)
    return order
