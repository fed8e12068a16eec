"""Protobuf attributes and tensors as Python values and arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError, NotInstalledError
from ..limits import use
from ..ops.common import known_dtype
from ..spec import check_size
from .reader import BITS, EXTERNAL, check_rank, tensor_bytes
from .wire import Attribute, NodeMessage, SparseTensor, Tensor

if TYPE_CHECKING:
    import onnx

"""Bytes that a sparse tensor may have once it is dense: a small file must not ask for all memory."""


FLOAT, INT, STRING, TENSOR, GRAPH, FLOATS, INTS, STRINGS, TENSORS, GRAPHS, SPARSE_TENSOR = range(1, 12)
"""AttributeProto.AttributeType."""
STRING_TENSOR, BOOL_TENSOR = 8, 9
"""TensorProto.STRING, TensorProto.BOOL."""
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
    14: "<c8",
    15: "<c16",
}
"""TensorProto.DataType -> the NumPy dtype whose bytes raw_data has."""
FIELDS: dict[int, str] = {1: "float_data", 14: "float_data", 11: "double_data", 15: "double_data", 7: "int64_data"}
FIELDS |= {12: "uint64_data", 13: "uint64_data"}
"""TensorProto.DataType -> the field that has its numbers where raw_data has not; of the others int32_data, as bits or numbers."""
COMPLEX = (14, 15)
"""Types with two numbers an element."""
AS_NUMBERS = (2, 3, 6)
"""Types of int32_data whose numbers are meant, not their bits."""
VIEWED = 1 << 16
"""Bytes from which `array_of` gives views where it may: smaller arrays are copied, which aligns them too."""


def array_of(tensor: onnx.TensorProto | Tensor, *, views: bool = False) -> np.ndarray:
    """A TensorProto's values, read-only; with `views`, those of large tensors lie in the file, perhaps unaligned."""
    if tensor.dims and min(tensor.dims) < 0:
        raise ModelError(
            "a tensor has a negative extent", tensor=tensor.name, expected="extents >= 0", received=tuple(tensor.dims)
        )
    check_rank(tensor)
    if tensor.data_location == EXTERNAL:
        raise ModelError("a tensor's data were not loaded", tensor=tensor.name, expected="a model read with its external data")
    size = tensor_bytes(tensor)
    raw = tensor.raw_data if tensor.HasField("raw_data") else None
    if raw is not None and size is not None and len(raw) != size:
        raise ModelError(
            "a tensor's data do not fit its dims",
            tensor=tensor.name,
            expected=f"{size} bytes for {tuple(tensor.dims)}",
            received=len(raw),
        )
    values = _strings(tensor) if tensor.data_type == STRING_TENSOR else _numbers(tensor, raw)
    if values.size != math.prod(tensor.dims):
        raise ModelError(
            "a tensor's data do not fit its dims",
            tensor=tensor.name,
            expected=f"{math.prod(tensor.dims)} elements for {tuple(tensor.dims)}",
            received=values.size,
        )
    if not values.size:  # NumPy refuses what the other extents would make too large
        check_size(tensor.dims, values.dtype, tensor.name)
    whole = values.reshape(tuple(tensor.dims))
    if whole.base is not None and (not views or whole.nbytes < VIEWED):
        whole = np.array(whole)
    whole.flags.writeable = False
    return whole


def _strings(tensor: onnx.TensorProto | Tensor) -> np.ndarray:
    texts = [_text(v) for v in tensor.string_data]
    values = np.empty(len(texts), object)
    values[:] = texts
    return values


def _numbers(tensor: Any, raw: Any) -> np.ndarray:
    """A tensor's elements in one row, which may be a view of the file, of whichever field has them; raw_data comes first."""
    code = tensor.data_type
    if tensor.HasField("segment"):
        raise ModelError("a tensor is given in segments, which ONNX does not define", tensor=tensor.name)
    try:
        dtype = known_dtype(code)
    except NotInstalledError as error:
        raise error.locate(tensor=tensor.name) from None
    if dtype is None:
        raise ModelError("a tensor has an unknown element type", tensor=tensor.name, expected="1 to 28", received=code)
    bits = BITS[code]
    if raw is not None:
        if code in PLAIN:
            return np.frombuffer(raw, PLAIN[code])
        data: np.ndarray = np.frombuffer(raw, np.uint8)
        return data.view(dtype) if bits >= 8 else _unpacked(data, bits, math.prod(tensor.dims)).view(dtype)
    if code in FIELDS:
        name = FIELDS[code]
        given = {"float_data": "<f4", "double_data": "<f8", "int64_data": "<i8", "uint64_data": "<u8"}[name]
        numbers = _field(tensor, name, given)
        if code not in COMPLEX:
            return numbers.astype(PLAIN[code], copy=False)
        if numbers.size % 2:
            raise ModelError("a tensor's data do not fit its dims", tensor=tensor.name, expected="pairs", received=numbers.size)
        return numbers.view(PLAIN[code])
    integers: np.ndarray = _field(tensor, "int32_data", "<i4")
    if code in AS_NUMBERS:
        return integers.astype(PLAIN[code], copy=False)
    if code == BOOL_TENSOR:
        return np.not_equal(integers.astype(np.uint8), 0)
    if bits == 16:
        return integers.astype(np.uint16).view(dtype)
    data = integers.astype(np.uint8)
    if bits < 8 and bits != 6:
        data = _unpacked(data, bits, math.prod(tensor.dims))
    return (data & 63 if bits == 6 else data).view(dtype)


def _field(tensor: onnx.TensorProto | Tensor, name: str, dtype: str) -> np.ndarray:
    """The numbers of a field: wire has them as bytes, integers as int64."""
    held = getattr(tensor, name)
    if not isinstance(tensor, Tensor):
        return np.array(held, dtype)
    if name in ("float_data", "double_data"):
        return np.frombuffer(held, dtype)
    return np.frombuffer(held, "<i8" if name != "uint64_data" else "<u8").astype(dtype)


def _unpacked(data: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Elements of less than a byte, the first in the lowest bits; at most so many, since a last byte may be filled up."""
    if bits == 6:
        few = np.zeros(-(-len(data) // 3) * 3, np.uint8)
        few[: len(data)] = data
        a, b, c = few.reshape(-1, 3).T
        parts = [a & 63, a >> 6 | (b & 15) << 2, b >> 4 | (c & 3) << 4, c >> 2]
        fitting = len(data) * 8 // 6
    else:
        parts = [data >> shift & (1 << bits) - 1 for shift in range(0, 8, bits)]
        fitting = len(data) * (8 // bits)
    return np.stack(parts, 1).reshape(-1)[: min(count, fitting)] if len(data) else np.empty(0, np.uint8)


def tensor_of(name: str, values: np.ndarray, code: int) -> Tensor:
    """An array as a TensorProto of this element type."""
    fields: dict[str, Any] = {"name": name, "dims": list(values.shape), "data_type": code}
    if code == STRING_TENSOR:
        fields["string_data"] = [str(v).encode() for v in values.reshape(-1)]
    elif BITS[code] < 8:  # one to a byte
        fields["int32_data"] = _packed(values.reshape(-1).view(np.uint8), BITS[code]).astype("<i8").tobytes()
    else:
        little = values.astype(values.dtype.newbyteorder("<"), copy=False) if values.dtype.isbuiltin == 1 else values
        fields["raw_data"] = little.tobytes()
    return Tensor().changed(**fields)


def _packed(data: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of `_unpacked` in the form that int32_data has: elements of 6 bits lie there in a number each."""
    if bits == 6:
        return data & 63
    several = 8 // bits
    filled = np.zeros(-(-len(data) // several) * several, np.uint8)
    filled[: len(data)] = data & (1 << bits) - 1
    parts = filled.reshape(-1, several) << np.arange(0, 8, bits, dtype=np.uint8)
    packed: np.ndarray = np.bitwise_or.reduce(parts, axis=1)
    return packed


def dense(sparse: onnx.SparseTensorProto | SparseTensor) -> np.ndarray:
    """A SparseTensorProto as a dense array; its indices are linear or one coordinate row per value."""
    check_rank(sparse, sparse.values.name)
    values, indices, dims = array_of(sparse.values), array_of(sparse.indices), tuple(sparse.dims)
    name = sparse.values.name
    if any(d < 0 for d in dims):
        raise ModelError("a sparse tensor has impossible dims", tensor=name, expected="extents >= 0", received=dims)
    check_size(dims, values.dtype, name)
    use("total_bytes", math.prod(dims) * values.dtype.itemsize, tensor=name)
    if values.ndim != 1 or indices.dtype.kind not in "iu" or indices.shape not in ((len(values),), (len(values), len(dims))):
        raise ModelError(
            "a sparse tensor's indices do not fit", tensor=name, expected=f"{len(values)} rows", received=indices.shape
        )
    out = np.zeros(dims, values.dtype)
    limits = np.array([out.size]) if indices.ndim == 1 else np.array(dims)
    rows = indices.reshape(len(values), -1)
    if rows.size and ((rows < 0) | (rows >= limits)).any():
        raise ModelError("a sparse tensor's index lies outside", tensor=name, expected=dims)
    if indices.ndim == 1:
        out.reshape(-1)[indices] = values
    else:
        out[tuple(indices.T)] = values
    return out


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def kind_of(attribute: onnx.AttributeProto | Attribute) -> int:
    """The attribute's type; files of IR version 1 leave it out, then the filled field tells."""
    if attribute.type:
        return int(attribute.type)
    for field, kind in (("f", FLOAT), ("i", INT), ("s", STRING), ("t", TENSOR), ("g", GRAPH)):
        if attribute.HasField(field):
            return kind
    for field, kind in (("floats", FLOATS), ("ints", INTS), ("strings", STRINGS), ("tensors", TENSORS)):
        if len(getattr(attribute, field)):
            return kind
    return INTS


def value_of(attribute: onnx.AttributeProto | Attribute) -> Any:
    """int, float, str, ndarray, or a list of them; graphs and types are not converted here (None)."""
    kind = kind_of(attribute)
    if kind == FLOAT:
        return float(attribute.f)
    if kind == INT:
        return int(attribute.i)
    if kind == STRING:
        return _text(attribute.s)
    if kind == TENSOR:
        return array_of(attribute.t)
    if kind == SPARSE_TENSOR:
        return dense(attribute.sparse_tensor)
    if kind == FLOATS:
        return list(map(float, attribute.floats))
    if kind == INTS:
        return list(map(int, attribute.ints))
    if kind == STRINGS:
        return [_text(v) for v in attribute.strings]
    if kind == TENSORS:
        return [array_of(t) for t in attribute.tensors]
    return None


def constant_value(node: onnx.NodeProto | NodeMessage) -> np.ndarray:
    """What a Constant node holds, in any of its attribute forms."""
    given = [a for a in node.attribute if a.name.startswith(("value", "sparse_value"))]
    if len(given) != 1:
        raise ModelError(
            "a Constant must have one value",
            node=node.name,
            operator="Constant",
            expected="one attribute",
            received=[a.name for a in given],
        )
    attribute = given[0]
    value = value_of(attribute)
    if attribute.name in ("value", "sparse_value") and isinstance(value, np.ndarray):
        return value
    dtypes = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
        "value_string": object,
        "value_strings": object,
    }
    if attribute.name not in dtypes or value is None:
        raise ModelError("an unknown form of Constant", node=node.name, operator="Constant", received=attribute.name)
    return np.array(value, dtypes[attribute.name])
