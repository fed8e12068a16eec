"""A reader of ONNX files that copies no tensor: messages as plain objects, tensor data as views on the file's bytes.

onnx and protobuf take 50 ms to import and copy every weight, so a file is read here first. What `parse` gives has the names of
onnx's protobuf classes, for reading: fields, defaults, `HasField`, `WhichOneof`. It is strict: whatever is out of the ordinary
(damaged bytes, messages given twice, unknown enum values) raises Malformed, and the caller asks protobuf, whose word is final.
Text that is not UTF-8 has escapes for the bytes that are none. Fields that inference does not need (documentation of nodes,
quantisation notes, training) are skipped.

Format: a message is a run of fields, each a varint key (field number * 8 + wire type) and a value; wire type 0 is a varint,
1 eight bytes, 5 four bytes, 2 a length and so many bytes (texts, bytes, messages, packed numbers).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .fields import Malformed, fill

__all__ = ["Malformed", "ModelMessage", "array", "parse"]

Buffer = memoryview

FLOATS, DOUBLES, INT32S, INT64S, UINT64S = 1, 10, 5, 7, 11
"""Field numbers of TensorProto's packed numbers, by which `Tensor.packed` holds them."""


class Message:
    """Base of the messages: fields that a file has are instance attributes, the others the class's defaults."""

    FIELDS: ClassVar[dict[int, tuple[str, str, Any]]] = {}
    """Key -> name, kind and message class of the field."""
    ONE_OF: ClassVar[tuple[str, ...]] = ()

    _place: tuple[Buffer, int, int] = (memoryview(b""), 0, 0)
    """The file's bytes, and where the message begins and ends in them."""

    def HasField(self, name: str) -> bool:
        return name in self.__dict__

    def WhichOneof(self, name: str) -> str | None:
        return next((n for n in self.ONE_OF if n in self.__dict__), None)

    def SerializeToString(self) -> bytes:
        data, start, end = self._place
        return bytes(data[start:end])


class Entry(Message):
    """StringStringEntryProto."""

    key = value = ""
    FIELDS: ClassVar = {10: ("key", "text", None), 18: ("value", "text", None)}


class Tensor(Message):
    """TensorProto; `raw_data` and the packed numbers are views on the file."""

    name = ""
    dims: list[int] | tuple[()] = ()
    data_type = data_location = 0
    raw_data: Buffer | bytes = b""
    external_data: list[Entry] | tuple[()] = ()
    other = False
    """Whether it holds data in a form that only onnx reads."""
    FIELDS: ClassVar = {
        8: ("dims", "ints", None),
        10: ("dims", "packed ints", None),
        16: ("data_type", "int32", None),
        34: ("float_data", "packed", None),
        37: ("other", "flag4", None),
        42: ("other", "flag", None),
        40: ("other", "flag0", None),
        50: ("other", "flag", None),
        58: ("int64_data", "packed ints", None),
        56: ("int64_data", "ints", None),
        66: ("name", "text", None),
        74: ("raw_data", "view", None),
        82: ("other", "flag", None),
        81: ("other", "flag8", None),
        90: ("other", "flag", None),
        88: ("other", "flag0", None),
        26: ("other", "flag", None),
        106: ("external_data", "messages", Entry),
        112: ("data_location", "int32", None),
    }
    loaded = False
    """Whether the data came from an external file."""

    def load(self, data: Buffer) -> None:
        """Take the data of an external tensor; its references to the file stay in the message's bytes."""
        self.raw_data, self.data_location, self.loaded = data, 0, True


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


class Type(Message):
    """TypeProto; sequences and optional values are left to protobuf, of other types than tensors is told only which it is."""

    tensor_type = TensorType()
    ONE_OF = ("tensor_type", "sequence_type", "map_type", "optional_type", "sparse_tensor_type", "opaque_type")
    FIELDS: ClassVar = {
        10: ("tensor_type", "message", TensorType),
        34: ("sequence_type", "refused", None),
        42: ("map_type", "flag", None),
        74: ("optional_type", "refused", None),
        66: ("sparse_tensor_type", "flag", None),
        58: ("opaque_type", "flag", None),
    }


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
    floats: list[float] | tuple[()] = ()
    ints: list[int] | tuple[()] = ()
    strings: list[bytes] | tuple[()] = ()
    tensors: list[Tensor] | tuple[()] = ()
    graphs: list[GraphMessage] | tuple[()] = ()
    sparse_tensors: list[SparseTensor] | tuple[()] = ()


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

    def copy(self) -> NodeMessage:
        """The node with an input list of its own."""
        copy = NodeMessage()
        copy.__dict__.update(self.__dict__, input=list(self.input))
        return copy


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


class ModelMessage(Message):
    """ModelProto; model-local functions are left to protobuf."""

    ir_version = model_version = 0
    producer_name = domain = doc_string = ""
    opset_import: list[Opset] | tuple[()] = ()
    graph = GraphMessage()
    metadata_props: list[Entry] | tuple[()] = ()
    functions: tuple[()] = ()
    FIELDS: ClassVar = {
        8: ("ir_version", "int", None),
        66: ("opset_import", "messages", Opset),
        18: ("producer_name", "text", None),
        34: ("domain", "text", None),
        40: ("model_version", "int", None),
        50: ("doc_string", "text", None),
        58: ("graph", "message", GraphMessage),
        114: ("metadata_props", "messages", Entry),
        202: ("functions", "refused", None),
    }


Attribute.FIELDS = {
    10: ("name", "text", None),
    170: ("ref_attr_name", "text", None),
    160: ("type", "int32", None),
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
}

Attribute.g = GraphMessage()


def parse(data: Any) -> ModelMessage:
    """The model in these bytes, without a copy of them: `data` must stay as it is.

    Raises
    ------
    Malformed
        Let protobuf judge.
    """
    view = memoryview(data).cast("B").toreadonly()
    model = ModelMessage()
    fill(model, view, 0, len(view))
    return model


PLAIN: dict[int, str] = {
    1: "<f4",
    2: "|u1",
    3: "|i1",
    4: "<u2",
    5: "<i2",
    6: "<i4",
    7: "<i8",
    9: "|b1",
    10: "<f2",
    11: "<f8",
    12: "<u4",
    13: "<u8",
}
"""TensorProto.DataType -> the NumPy dtype whose bytes raw_data has."""


def array(tensor: Tensor) -> np.ndarray | None:
    """A tensor's values as a read-only view on the file, flat; None where onnx must be asked."""
    values = tensor.__dict__
    dtype = PLAIN.get(tensor.data_type)
    forms = [f for f in ("raw_data", "float_data", "int64_data", "other") if f in values]
    if dtype is None or len(forms) > 1:
        return None
    if forms == ["raw_data"]:
        if len(tensor.raw_data) % np.dtype(dtype).itemsize:
            return None
        return np.frombuffer(tensor.raw_data, dtype)
    if forms == ["float_data"] and tensor.data_type == 1:
        return np.frombuffer(values["float_data"], "<f4")
    if forms == ["int64_data"] and tensor.data_type == 7:
        return np.array(values["int64_data"], np.int64)
    return None
