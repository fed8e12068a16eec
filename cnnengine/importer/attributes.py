"""Protobuf attributes and tensors as Python values and arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from .reader import EXTERNAL, check_rank, tensor_bytes
from .wire import PLAIN, Attribute, NodeMessage, SparseTensor, Tensor, array

if TYPE_CHECKING:
    import onnx

LARGEST = 2**33
"""Bytes that a sparse tensor may have once it is dense: a small file must not ask for all memory."""


FLOAT, INT, STRING, TENSOR, GRAPH, FLOATS, INTS, STRINGS, TENSORS, GRAPHS, SPARSE_TENSOR = range(1, 12)
"""AttributeProto.AttributeType."""
STRING_TENSOR = 8
"""TensorProto.STRING."""
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
    found = array(tensor) if isinstance(tensor, Tensor) else None
    if found is not None and found.size == math.prod(tensor.dims):
        whole = found.reshape(tuple(tensor.dims))
        if not views or whole.nbytes < VIEWED:
            whole = np.array(whole)
            whole.flags.writeable = False
        return whole
    if raw is not None and isinstance(raw, bytes) and size is not None and tensor.data_type in PLAIN:
        return np.frombuffer(raw, PLAIN[tensor.data_type]).reshape(tuple(tensor.dims))
    import onnx
    from onnx import numpy_helper

    own: Any = tensor
    if isinstance(tensor, Tensor):
        own = onnx.TensorProto.FromString(tensor.SerializeToString())
        if tensor.loaded:
            own.raw_data, own.data_location = bytes(tensor.raw_data), 0
            own.ClearField("external_data")
    try:
        values = np.asarray(numpy_helper.to_array(own))
    except Exception as error:
        # the helper raises TypeError, ValueError, KeyError or NotImplementedError, as the damage may be
        raise ModelError(
            f"a tensor cannot be read ({error})", tensor=tensor.name, expected=f"data for {tuple(tensor.dims)}"
        ) from None
    if values.shape != tuple(tensor.dims):
        raise ModelError(
            "a tensor's data do not fit its dims", tensor=tensor.name, expected=tuple(tensor.dims), received=values.shape
        )
    if tensor.data_type == STRING_TENSOR:
        texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values.reshape(-1)]
        values = np.empty(len(texts), object)
        values[:] = texts
        values = values.reshape(tuple(tensor.dims))
    return values


def dense(sparse: onnx.SparseTensorProto | SparseTensor) -> np.ndarray:
    """A SparseTensorProto as a dense array; its indices are linear or one coordinate row per value."""
    check_rank(sparse, sparse.values.name)
    values, indices, dims = array_of(sparse.values), array_of(sparse.indices), tuple(sparse.dims)
    name = sparse.values.name
    if any(d < 0 for d in dims) or math.prod(dims) * values.dtype.itemsize > LARGEST:
        raise ModelError("a sparse tensor has impossible dims", tensor=name, expected=f"at most {LARGEST} bytes", received=dims)
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
