"""Functions: a call is replaced by the function's nodes, with its names and attributes put in.

That holds for functions of the model's own and for ONNX operators without a class here that ONNX itself defines by a function.
The functions of `cnnengine.onnx_functions` are recognised by name and body: their calls stay, and become one operator each.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..limits import check, look
from ..operator import Operator
from ..ops import lookup
from .wire import Attribute, FunctionMessage, GraphMessage, ModelMessage, NodeMessage, as_message, parse_as

if TYPE_CHECKING:
    import onnx

Key = tuple[str, str, str]
Opsets = Mapping[str, int]

PREFIX = 120
"""Characters of a call's name that begin the names of what it expands to; of longer ones the end, so that calls inside calls have
names of bounded length."""


def unique(name: str, taken: set[str], counts: dict[str, int]) -> str:
    """This name, or it with the first number that makes it a new one; it is `taken` then.

    `counts` holds the last number by name, so that n equal names take n steps.
    """
    candidate = name
    if name in taken:
        count = counts.get(name, 1)
        while candidate in taken:
            count += 1
            candidate = f"{name}#{count}"
        counts[name] = count
    taken.add(candidate)
    return candidate


def key_of(node: Any) -> Key:
    """Domain, name and overload of a node or function."""
    name = node.op_type if hasattr(node, "op_type") else node.name
    return (node.domain, name, getattr(node, "overload", ""))


def opsets_of(imports: Iterable[Any]) -> dict[str, int]:
    """Domain -> version; "ai.onnx" is another name of the default domain. Of two imports the last counts, as in onnxruntime."""
    return {"" if o.domain == "ai.onnx" else o.domain: int(o.version) for o in imports}


@cache
def _definition(op_type: str, domain: str, opset: int) -> FunctionMessage | None:
    """The function by which ONNX defines an operator whatever the call, with the schema's defaults for attributes left out."""
    from base64 import a85decode  # only here: few models have such an operator

    from .other_schemas import BODIES

    bodies = BODIES.get(domain, {}).get(op_type, ())
    text = next((text for since, text in reversed(bodies) if since <= opset), None)
    return None if text is None else parse_as(FunctionMessage, a85decode(text))


def depends(op_type: str, domain: str) -> bool:
    """Whether ONNX defines an operator by a function that depends on the call, which the onnx package alone can make."""
    from .other_schemas import DEPENDENT

    return op_type in DEPENDENT.get(domain, ())


def _protobuf(message: Any, kind: str, onnx: Any) -> Any:
    """A message of `wire` as protobuf has it."""
    if isinstance(message, getattr(onnx, kind)):
        return message
    return getattr(onnx, kind).FromString(message.SerializeToString())


def _fill_defaults(function: onnx.FunctionProto, schema: Any) -> None:
    given = {a.name for a in function.attribute_proto}
    for name, attribute in schema.attributes.items():
        if attribute.default_value.type and name not in given:
            function.attribute_proto.append(attribute.default_value)


class Inliner:
    """Expands calls of model-local functions, nested ones too; names that it makes are unique in the model."""

    def __init__(self, model: onnx.ModelProto | ModelMessage) -> None:
        self.functions: dict[Key, FunctionMessage] = {key_of(f): as_message(FunctionMessage, f) for f in model.functions}
        self.operators: dict[Key, Operator] = {}
        if self.functions:
            from ..onnx_functions import operator_of  # only here: it imports what most models do not need
        for key, function in self.functions.items():
            operator = operator_of(function)
            if operator is not None:
                self.operators[key] = operator
        self._taken: set[str] | None = None
        self._counts: dict[str, int] = {}
        self._types: dict[str, onnx.TypeProto] | None = None
        self._model: Any = model
        self._expanded = self._bytes = 0

    def expand(self, nodes: Iterable[Any], opsets: Opsets) -> Iterator[tuple[Any, Opsets]]:
        """The nodes with calls replaced, each with the opset versions that it was written for; calls of `operators` stay.

        Raises
        ------
        ModelError
            A function calls itself, or a call does not fit its function.
        LimitError
            Functions that call each other twice double with each, out of a few bytes, and a function's constants are in each of
            its calls.
        """
        # the calls that are being expanded, innermost last: nodes that are left of each, their versions, its function
        stack: list[tuple[Iterator[Any], Opsets, Key | None]] = [(iter(nodes), opsets, None)]
        open_calls: set[Key | None] = set()
        while stack:
            left, opsets, key = stack[-1]
            node = next(left, None)
            if node is None:
                stack.pop()
                open_calls.discard(key)
                continue
            if len(stack) > 1:
                self._count(node)
            function = self.functions.get(key_of(node)) if self.functions else None
            if function is None and node.op_type != "Constant" and lookup(node.op_type, node.domain) is None:
                function = self._defined(node, opsets)
            if function is None:
                yield node, opsets
                continue
            key = key_of(node)
            if key in self.operators:
                yield node, opsets
                continue
            if key in open_calls:
                raise ModelError("a function calls itself", node=node.name, operator=node.op_type)
            open_calls.add(key)
            inner = opsets_of(function.opset_import) or dict(opsets)
            stack.append((self._body(node, function), inner, key))

    def _count(self, node: Any) -> None:
        self._expanded += 1
        self._bytes += node.ByteSize()
        check("expanded_nodes", self._expanded, node=node.name, operator=node.op_type)
        check("expanded_bytes", self._bytes, node=node.name, operator=node.op_type)
        look()

    def _defined(self, node: Any, opsets: Opsets) -> FunctionMessage | None:
        """The function by which ONNX defines this node's operator, None where there is none or types are missing for it."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        opset = opsets.get(domain)
        if opset is None:
            return None
        if not depends(node.op_type, domain):
            return _definition(node.op_type, domain, opset)
        try:
            import onnx
        except ImportError:
            return None  # what judges the node says so
        try:
            schema: Any = onnx.defs.get_schema(node.op_type, opset, domain)
        except Exception:
            return None  # onnx.defs.SchemaError, whose base differs between releases
        versions = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
        types = [self._type(name, onnx) for name in node.input]
        if not versions or len(node.input) > schema.max_input or any(t is None for t in types):
            return None
        try:
            body = schema.get_context_dependent_function_with_opset_version(
                max(versions), node.SerializeToString(), [t.SerializeToString() for t in types if t is not None]
            )
        except Exception:  # the builder refuses the call; what judges the node says why
            return None
        function = onnx.FunctionProto()
        function.ParseFromString(body if isinstance(body, bytes) else bytes(body.SerializeToString()))
        _fill_defaults(function, schema)
        return as_message(FunctionMessage, function) if function.node else None

    def _type(self, name: str, onnx: Any) -> Any:
        """The type of a value of the main graph by ONNX's shape inference, which runs when it is first asked."""
        if not name:
            return onnx.TypeProto()
        if self._types is None:
            model = _protobuf(self._model, "ModelProto", onnx)
            graph = model.graph
            bare = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
            bare.functions.extend(model.functions)
            bare.graph.node.extend(graph.node)
            bare.graph.input.extend(graph.input)
            bare.graph.value_info.extend(graph.value_info)
            bare.graph.output.extend(onnx.ValueInfoProto(name=v.name) for v in graph.output)
            known = {v.name for v in graph.input}
            for tensor in graph.initializer:  # without their data
                if tensor.name not in known:
                    bare.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
            with suppress(Exception):  # InferenceError, whose base differs between releases
                bare = onnx.shape_inference.infer_shapes(bare)
            values = (*bare.graph.input, *bare.graph.value_info, *bare.graph.output)
            self._types = {v.name: v.type for v in values if v.type.WhichOneof("value")}
        return self._types.get(name)

    def _names(self) -> set[str]:
        if self._taken is None:
            self._taken = set()
            stack = [self._model.graph]
            while stack:
                graph = stack.pop()
                self._taken.update(v.name for v in (*graph.input, *graph.initializer))
                for node in graph.node:
                    self._taken.update(node.output)
                    for a in node.attribute:
                        stack.extend([a.g] if a.HasField("g") else a.graphs)
        return self._taken

    def unique(self, name: str) -> str:
        """The name, or one made of it that no value of the model has; none but the first to ask gets it."""
        return unique(name, self._names(), self._counts)

    def _body(self, call: Any, function: FunctionMessage) -> Iterator[NodeMessage]:
        if len(call.input) > len(function.input) or len(call.output) > len(function.output):
            raise ModelError(
                "a call does not fit its function",
                node=call.name,
                operator=call.op_type,
                expected=f"at most {len(function.input)} inputs, {len(function.output)} outputs",
                received=f"{len(call.input)} and {len(call.output)}",
            )
        prefix = (call.name or call.op_type)[-PREFIX:]
        names = {formal: call.input[i] if i < len(call.input) else "" for i, formal in enumerate(function.input)}
        tail = []
        for i, formal in enumerate(function.output):
            actual = call.output[i] if i < len(call.output) else ""
            if formal in names:
                if actual:
                    tail.append(_identity(f"{prefix}/{formal}", names[formal], actual))
            else:
                names[formal] = actual or self.unique(f"{prefix}/{formal}")
        given = {a.name: a for a in call.attribute}
        for default in function.attribute_proto:
            given.setdefault(default.name, default)
        for node in function.node:
            yield self._renamed(node, names, given, prefix)
        yield from tail

    def _renamed(self, node: NodeMessage, names: MutableMapping[str, str], given: Mapping[str, Any], prefix: str) -> NodeMessage:
        """A function's node under the caller's names; `names` grows by the values that it makes.

        What is not renamed, tensors above all, is the function's own.
        """
        for name in node.output:
            if name and name not in names:
                names[name] = self.unique(f"{prefix}/{name}")
        kept = []
        size = node.ByteSize()
        for attribute in node.attribute:
            scope, values = names, given
            if attribute.ref_attr_name:
                value = given.get(attribute.ref_attr_name)
                if value is None:
                    continue  # an attribute that the caller left out and that has no default is absent
                size += value.ByteSize()
                attribute = as_message(Attribute, value).changed(name=attribute.name)
                scope, values = {}, {}  # names in a graph that the caller gives are the caller's
            if attribute.HasField("g"):
                attribute = attribute.changed(g=self._graph(attribute.g, ChainMap({}, scope), values, prefix))
            elif attribute.graphs:
                graphs = [self._graph(g, ChainMap({}, scope), values, prefix) for g in attribute.graphs]
                attribute = attribute.changed(graphs=graphs)
            kept.append(attribute)
        copy = node.changed(
            name=f"{prefix}/{node.name or node.op_type}",
            input=[names.get(n, n) for n in node.input],
            output=[names[n] if n else "" for n in node.output],
            attribute=kept,
        )
        copy.size = size
        return copy

    def _graph(self, graph: GraphMessage, names: MutableMapping[str, str], given: Mapping[str, Any], prefix: str) -> GraphMessage:
        """A subgraph of a function's node under the caller's names."""
        for value in (*graph.input, *graph.initializer):
            names[value.name] = names[value.name] if value.name in names else self.unique(f"{prefix}/{value.name}")
        nodes = [self._renamed(n, names, given, prefix) for n in graph.node]
        return graph.changed(
            node=nodes,
            input=[v.changed(name=names[v.name]) for v in graph.input],
            initializer=[t.changed(name=names[t.name]) for t in graph.initializer],
            output=[v.changed(name=names.get(v.name, v.name)) for v in graph.output],
        )


def _identity(name: str, source: str, target: str) -> NodeMessage:
    node = NodeMessage()
    node.op_type, node.name, node.input, node.output = "Identity", name, [source], [target]
    return node
