"""A reader of ONNX files that copies no tensor: messages as plain objects, tensor data as views on the file's bytes.

onnx and protobuf take 50 ms to import and copy every weight, and need not be there. What `parse` gives has the names of onnx's
protobuf classes, for reading: fields, defaults, `HasField`, `WhichOneof`; only that a tensor's numbers are bytes, which
`attributes.array_of` reads. It takes what protobuf takes and refuses what protobuf refuses, but for two differences: text that is
not UTF-8 has escapes for the bytes that are none, and what lies in fields that inference does not need (documentation of nodes,
quantisation notes, training) is passed over unread.

Format: a message is a run of fields, each a varint key (field number * 8 + wire type) and a value; wire type 0 is a varint,
1 eight bytes, 5 four bytes, 2 a length and so many bytes (texts, bytes, messages, packed numbers).
"""

from __future__ import annotations

from struct import pack
from typing import Any, ClassVar, Self, TypeVar

from .fields import Malformed, fill

__all__ = ["Malformed", "ModelMessage", "encode", "parse", "sized"]

Buffer = memoryview
Parsed = TypeVar("Parsed", bound="Message")


class Message:
    """Base of the messages: fields that a file has are instance attributes, the others the class's defaults."""

    FIELDS: ClassVar[dict[int, tuple[str, str, Any]]] = {}
    """Key -> name, kind and message class of the field; of a field of numbers the form that `encode` writes is the first."""
    ONE_OF: ClassVar[tuple[str, ...]] = ()

    _place: tuple[Buffer, int, int] | None = None
    """The file's bytes, and where the message begins and ends in them; None of a message that no file has so."""
    _more: list[tuple[int, int]] | tuple[()] = ()
    """Where it goes on: a message may be given in pieces."""

    def HasField(self, name: str) -> bool:
        return name in self.__dict__

    def WhichOneof(self, name: str) -> str | None:
        return next((n for n in self.ONE_OF if n in self.__dict__), None)

    def ByteSize(self) -> int:
        """Bytes that it has in the file."""
        if self._place is None:
            return len(encode(self))
        _, start, end = self._place
        return end - start + sum(last - first for first, last in self._more)

    def SerializeToString(self) -> bytes:
        if self._place is None:
            return encode(self)
        data, start, end = self._place
        return b"".join(bytes(data[first:last]) for first, last in ((start, end), *self._more))

    def changed(self, **fields: Any) -> Self:
        """A copy with other values of these fields, which refers to the same messages otherwise."""
        copy = type(self)()
        copy.__dict__.update(self.__dict__, **fields)
        for name in ("_place", "_more"):
            copy.__dict__.pop(name, None)
        return copy


class Entry(Message):
    """StringStringEntryProto."""

    key = value = ""
    FIELDS: ClassVar = {10: ("key", "text", None), 18: ("value", "text", None)}


class Segment(Message):
    """TensorProto.Segment: a part of a tensor, which no file has any more."""

    begin = end = 0
    FIELDS: ClassVar = {8: ("begin", "int", None), 16: ("end", "int", None)}


class Tensor(Message):
    """TensorProto; `raw_data` and numbers are views on the file, or bytes where the file has them in pieces or as varints."""

    name = ""
    dims: list[int] | tuple[()] = ()
    data_type = data_location = 0
    raw_data: Buffer | bytes = b""
    float_data: Buffer | bytearray | bytes = b""
    double_data: Buffer | bytearray | bytes = b""
    int32_data: bytearray | bytes = b""
    int64_data: bytearray | bytes = b""
    uint64_data: bytearray | bytes = b""
    """Numbers as the bytes of float32, float64 and, of integers, int64."""
    string_data: list[bytes] | tuple[()] = ()
    segment = Segment()
    external_data: list[Entry] | tuple[()] = ()
    FIELDS: ClassVar = {
        8: ("dims", "ints", None),
        10: ("dims", "packed ints", None),
        16: ("data_type", "int32", None),
        34: ("float_data", "fixed", None),
        37: ("float_data", "fixed", None),
        42: ("int32_data", "packed numbers", None),
        40: ("int32_data", "numbers", None),
        50: ("string_data", "byteses", None),
        58: ("int64_data", "packed numbers", None),
        56: ("int64_data", "numbers", None),
        66: ("name", "text", None),
        74: ("raw_data", "view", None),
        82: ("double_data", "fixed", None),
        81: ("double_data", "fixed", None),
        90: ("uint64_data", "packed numbers", None),
        88: ("uint64_data", "numbers", None),
        26: ("segment", "message", Segment),
        106: ("external_data", "messages", Entry),
        112: ("data_location", "enum", None),
    }
    loaded = False
    """Whether the data came from an external file."""

    def load(self, data: Buffer) -> None:
        """Take the data of an external tensor; its references to the file stay in the message's bytes."""
        self.raw_data, self.data_location, self.loaded = data, 0, True
        self.__dict__.pop("external_data", None)


class SparseTensor(Message):
    """SparseTensorProto."""

    dims: list[int] | tuple[()] = ()
    values = Tensor()
    indices = Tensor()
    FIELDS: ClassVar = {
        10: ("values", "message", Tensor),
        18: ("indices", "message", Tensor),
        24: ("dims", "ints", None),
        26: ("dims", "packed ints", None),
    }


class Dimension(Message):
    """TensorShapeProto.Dimension."""

    dim_value = 0
    dim_param = ""
    ONE_OF = ("dim_value", "dim_param")
    FIELDS: ClassVar = {8: ("dim_value", "int", None), 18: ("dim_param", "text", None)}


class TensorShape(Message):
    """TensorShapeProto."""

    dim: list[Dimension] | tuple[()] = ()
    FIELDS: ClassVar = {10: ("dim", "messages", Dimension)}


class TensorType(Message):
    """TypeProto.Tensor and TypeProto.SparseTensor."""

    elem_type = 0
    shape = TensorShape()
    FIELDS: ClassVar = {8: ("elem_type", "int32", None), 18: ("shape", "message", TensorShape)}


class ElementType(Message):
    """TypeProto.Sequence and TypeProto.Optional."""

    elem_type: Type


class MapType(Message):
    """TypeProto.Map."""

    key_type = 0
    value_type: Type


class OpaqueType(Message):
    """TypeProto.Opaque."""

    domain = name = ""
    FIELDS: ClassVar = {10: ("domain", "text", None), 18: ("name", "text", None)}


class Type(Message):
    """TypeProto."""

    tensor_type = sparse_tensor_type = TensorType()
    sequence_type = optional_type = ElementType()
    map_type = MapType()
    opaque_type = OpaqueType()
    ONE_OF = ("tensor_type", "sequence_type", "map_type", "optional_type", "sparse_tensor_type", "opaque_type")
    FIELDS: ClassVar = {
        10: ("tensor_type", "message", TensorType),
        34: ("sequence_type", "message", ElementType),
        42: ("map_type", "message", MapType),
        74: ("optional_type", "message", ElementType),
        66: ("sparse_tensor_type", "message", TensorType),
        58: ("opaque_type", "message", OpaqueType),
    }


ElementType.elem_type = MapType.value_type = Type()
ElementType.FIELDS = {10: ("elem_type", "message", Type)}
MapType.FIELDS = {8: ("key_type", "int32", None), 18: ("value_type", "message", Type)}


class ValueInfo(Message):
    """ValueInfoProto."""

    name = ""
    type = Type()
    FIELDS: ClassVar = {10: ("name", "text", None), 18: ("type", "message", Type)}


class Opset(Message):
    """OperatorSetIdProto."""

    domain = ""
    version = 0
    FIELDS: ClassVar = {10: ("domain", "text", None), 16: ("version", "int", None)}


class Attribute(Message):
    """AttributeProto."""

    name = ref_attr_name = ""
    type = i = 0
    f = 0.0
    s = b""
    t = Tensor()
    g: GraphMessage
    sparse_tensor = SparseTensor()
    tp = Type()
    floats: list[float] | tuple[()] = ()
    ints: list[int] | tuple[()] = ()
    strings: list[bytes] | tuple[()] = ()
    tensors: list[Tensor] | tuple[()] = ()
    graphs: list[GraphMessage] | tuple[()] = ()
    sparse_tensors: list[SparseTensor] | tuple[()] = ()
    type_protos: list[Type] | tuple[()] = ()


class NodeMessage(Message):
    """NodeProto."""

    input: list[str] | tuple[()] = ()
    output: list[str] | tuple[()] = ()
    name = op_type = domain = overload = ""
    attribute: list[Attribute] | tuple[()] = ()
    FIELDS: ClassVar = {
        10: ("input", "texts", None),
        18: ("output", "texts", None),
        26: ("name", "text", None),
        34: ("op_type", "text", None),
        58: ("domain", "text", None),
        66: ("overload", "text", None),
        42: ("attribute", "messages", Attribute),
    }
    size = 0
    """Bytes that the node counts for, where it is not in the file as it is."""

    def ByteSize(self) -> int:
        return self.size or super().ByteSize()


class GraphMessage(Message):
    """GraphProto."""

    name = doc_string = ""
    node: list[NodeMessage] | tuple[()] = ()
    initializer: list[Tensor] | tuple[()] = ()
    sparse_initializer: list[SparseTensor] | tuple[()] = ()
    input: list[ValueInfo] | tuple[()] = ()
    output: list[ValueInfo] | tuple[()] = ()
    FIELDS: ClassVar = {
        10: ("node", "messages", NodeMessage),
        18: ("name", "text", None),
        42: ("initializer", "messages", Tensor),
        122: ("sparse_initializer", "messages", SparseTensor),
        82: ("doc_string", "text", None),
        90: ("input", "messages", ValueInfo),
        98: ("output", "messages", ValueInfo),
    }


class FunctionMessage(Message):
    """FunctionProto."""

    name = domain = overload = ""
    input: list[str] | tuple[()] = ()
    output: list[str] | tuple[()] = ()
    attribute: list[str] | tuple[()] = ()
    attribute_proto: list[Attribute] | tuple[()] = ()
    node: list[NodeMessage] | tuple[()] = ()
    opset_import: list[Opset] | tuple[()] = ()
    FIELDS: ClassVar = {
        10: ("name", "text", None),
        34: ("input", "texts", None),
        42: ("output", "texts", None),
        50: ("attribute", "texts", None),
        58: ("node", "messages", NodeMessage),
        74: ("opset_import", "messages", Opset),
        82: ("domain", "text", None),
        90: ("attribute_proto", "messages", Attribute),
        106: ("overload", "text", None),
    }


class ModelMessage(Message):
    """ModelProto."""

    ir_version = model_version = 0
    producer_name = domain = doc_string = ""
    opset_import: list[Opset] | tuple[()] = ()
    graph = GraphMessage()
    metadata_props: list[Entry] | tuple[()] = ()
    functions: list[FunctionMessage] | tuple[()] = ()
    FIELDS: ClassVar = {
        8: ("ir_version", "int", None),
        66: ("opset_import", "messages", Opset),
        18: ("producer_name", "text", None),
        34: ("domain", "text", None),
        40: ("model_version", "int", None),
        50: ("doc_string", "text", None),
        58: ("graph", "message", GraphMessage),
        114: ("metadata_props", "messages", Entry),
        202: ("functions", "messages", FunctionMessage),
    }


Attribute.FIELDS = {
    10: ("name", "text", None),
    170: ("ref_attr_name", "text", None),
    160: ("type", "enum", None),
    21: ("f", "float", None),
    24: ("i", "int", None),
    34: ("s", "bytes", None),
    42: ("t", "message", Tensor),
    50: ("g", "message", GraphMessage),
    178: ("sparse_tensor", "message", SparseTensor),
    61: ("floats", "floats", None),
    58: ("floats", "packed floats", None),
    64: ("ints", "ints", None),
    66: ("ints", "packed ints", None),
    74: ("strings", "byteses", None),
    82: ("tensors", "messages", Tensor),
    90: ("graphs", "messages", GraphMessage),
    186: ("sparse_tensors", "messages", SparseTensor),
    114: ("tp", "message", Type),
    122: ("type_protos", "messages", Type),
}

Attribute.g = GraphMessage()


def parse(data: Any) -> ModelMessage:
    """The model in these bytes, without a copy of them: `data` must stay as it is.

    Raises
    ------
    Malformed
    """
    return parse_as(ModelMessage, data)


def parse_as(kind: type[Parsed], data: Any) -> Parsed:
    """`parse` for a message of another kind."""
    view = memoryview(data).cast("B").toreadonly()
    message = kind()
    fill(message, view, 0, len(view))
    return message


def as_message(kind: type[Parsed], message: Any) -> Parsed:
    """The message itself, or what protobuf has as one of these."""
    return message if isinstance(message, kind) else parse_as(kind, message.SerializeToString())


def encode(message: Message) -> bytes:
    """The message as it is now, whatever the file has: its fields that are known here, tensors with the data that they got."""
    out = bytearray()
    written = set()
    for key, (name, kind, _) in message.FIELDS.items():
        value = message.__dict__.get(name)
        if value is None or name in written:
            continue
        written.add(name)
        out += _field(key, kind, value)
    return bytes(out)


def _field(key: int, kind: str, value: Any) -> bytes:
    """A field with its key, or as often as it has elements."""
    if kind in ("texts", "byteses", "messages", "ints", "floats"):
        single = {"texts": "text", "byteses": "bytes", "messages": "message", "ints": "int", "floats": "float"}[kind]
        return b"".join([_field(key, single, item) for item in value])
    if kind in ("int", "int32", "enum"):
        return varint(key) + varint(value)
    if kind == "float":
        return varint(key) + pack("<f", value)
    if kind == "message":
        data = encode(value) if isinstance(value, Message) else value.SerializeToString()
    elif kind == "text":
        data = value.encode("utf-8", "surrogatepass")
    elif kind == "packed numbers":
        data = b"".join(varint(n) for n in memoryview(value).cast("q"))
    else:  # bytes of any kind
        data = bytes(value)
    return sized(key, data)


def sized(key: int, data: bytes) -> bytes:
    """A field of wire type 2 with its key."""
    return varint(key) + varint(len(data)) + data


def varint(number: int) -> bytes:
    """As a message has it; of a negative number its 64 bits."""
    number &= 2**64 - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
