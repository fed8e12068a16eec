"""read: path, bytes, file object or ModelProto -> a ModelProto whose tensors are all inside it.

A model file is untrusted input. Bytes that are no model, tensors whose data lie outside the model's folder or do not
have the size that their dims ask for, and versions that nothing here knows end in a ModelError or a warning, never in
a crash or in numbers read from somewhere else.
"""

from __future__ import annotations

import math
import os
import stat
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, ModelNotFoundError

if TYPE_CHECKING:
    import onnx

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes that one protobuf message can have; larger models keep their tensors in external files."""


def read(model: Any, base_dir: str | os.PathLike[str] | None = None) -> onnx.ModelProto:
    """Read a model, with its external data.

    Parameters
    ----------
    model : path, bytes-like, binary file object or onnx.ModelProto
        A ModelProto is returned as it is, or as a copy when external data had to be read.
    base_dir : path, optional
        The folder that external data must lie in; by default the model file's own. Needed for external data when
        `model` is not a path.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ModelNotFoundError
        The file, or one that holds its tensors, does not exist.
    ModelError
        Not an ONNX model, damaged, or with external data outside the folder or of the wrong size.
    """
    import onnx

    if isinstance(model, onnx.ModelProto):
        proto, name = model, "ModelProto"
    else:
        data, name, folder = _bytes_of(model)
        if base_dir is None:
            base_dir = folder
        proto = _parse(data, name)
    _check_versions(proto, name)
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in _all_tensors(proto)):
        if proto is model:
            copy = onnx.ModelProto()
            copy.CopyFrom(proto)
            proto = copy
        _load_external(proto, base_dir, name)
    return proto


def _bytes_of(model: Any) -> tuple[bytes, str, str | None]:
    """The file's bytes, a name for messages, and the folder, where there is one."""
    if isinstance(model, bytes | bytearray | memoryview):
        return bytes(model), "bytes", None
    if hasattr(model, "read"):
        data = model.read()
        if not isinstance(data, bytes | bytearray | memoryview):
            raise ModelError("the file object gives text", expected="a file opened in binary mode", received=type(data).__name__)
        return bytes(data), str(getattr(model, "name", "file object")), None
    try:
        path = os.fsdecode(os.fspath(model))
    except TypeError:
        raise ModelError(
            "this is not a model",
            expected="a path, bytes, a binary file object or an onnx.ModelProto",
            received=type(model).__name__,
        ) from None
    try:
        if os.stat(path).st_size > PROTOBUF_LIMIT:
            raise ModelError(
                "the file is too large to be one ONNX message",
                model=path,
                expected=f"at most {PROTOBUF_LIMIT} bytes",
                received=os.stat(path).st_size,
            )
        with open(path, "rb") as file:
            return file.read(), path, os.path.dirname(os.path.abspath(path))
    except FileNotFoundError:
        raise ModelNotFoundError("there is no such file", model=path) from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ModelError(f"the file cannot be read ({getattr(error, 'strerror', None) or error})", model=path) from None


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError, RuntimeError):
        raise ModelError(
            "not an ONNX model, or a damaged one", model=name, expected="an ONNX protobuf", received=_first(data)
        ) from None
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output or proto.graph.initializer):
        raise ModelError("not an ONNX model: it has no graph", model=name, expected="an ONNX protobuf", received=_first(data))
    return proto


def _first(data: bytes) -> str:
    return f"{len(data)} bytes, first {data[:8]!r}"


def _check_versions(proto: onnx.ModelProto, name: str) -> None:
    import onnx

    if not proto.HasField("graph"):
        raise ModelError("the model has no graph", model=name)
    if proto.ir_version > onnx.IR_VERSION:
        warnings.warn(
            f"{name}: IR version {proto.ir_version} is newer than {onnx.IR_VERSION}, the newest that this onnx package knows",
            stacklevel=4,
        )
    elif proto.ir_version < 1:
        raise ModelError("the model names no IR version", model=name, expected=f"1..{onnx.IR_VERSION}", received=proto.ir_version)
    newest = onnx.defs.onnx_opset_version()
    for opset in proto.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version > newest:
            warnings.warn(
                f"{name}: opset {opset.version} is newer than {newest}, the newest that this onnx package knows", stacklevel=4
            )


def _tensors_of(nodes: Any) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (
                *attribute.sparse_tensors,
                *((attribute.sparse_tensor,) if attribute.HasField("sparse_tensor") else ()),
            ):
                yield from (sparse.values, sparse.indices)
            for graph in (*attribute.graphs, *((attribute.g,) if attribute.HasField("g") else ())):
                yield from _tensors_in(graph)


def _tensors_in(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of(graph.node)


def _all_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _tensors_in(proto.graph)
    for function in proto.functions:
        yield from _tensors_of(function.node)


def tensor_bytes(tensor: onnx.TensorProto) -> int | None:
    """Bytes that the raw data of a tensor has by its dims, or None for types whose size is not known."""
    import onnx

    sizes: dict[int, int] = {
        onnx.TensorProto.FLOAT: 32,
        onnx.TensorProto.UINT8: 8,
        onnx.TensorProto.INT8: 8,
        onnx.TensorProto.UINT16: 16,
        onnx.TensorProto.INT16: 16,
        onnx.TensorProto.INT32: 32,
        onnx.TensorProto.INT64: 64,
        onnx.TensorProto.BOOL: 8,
        onnx.TensorProto.FLOAT16: 16,
        onnx.TensorProto.DOUBLE: 64,
        onnx.TensorProto.UINT32: 32,
        onnx.TensorProto.UINT64: 64,
        onnx.TensorProto.COMPLEX64: 64,
        onnx.TensorProto.COMPLEX128: 128,
        onnx.TensorProto.BFLOAT16: 16,
    }
    bits = sizes.get(tensor.data_type)
    return None if bits is None else math.prod(tensor.dims) * bits // 8


def _load_external(proto: onnx.ModelProto, base_dir: str | os.PathLike[str] | None, name: str) -> None:
    import onnx

    if base_dir is None:
        raise ModelError("the model keeps tensors in other files, and their folder is not known", model=name, expected="base_dir")
    root = os.path.realpath(base_dir)
    for tensor in _all_tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {e.key: e.value for e in tensor.external_data}
        location = entries.get("location", "")
        path = _inside(root, location, name, tensor.name)
        try:
            offset, length = int(entries.get("offset") or 0), int(entries.get("length") or -1)
        except ValueError:
            raise ModelError(
                "offset and length of external data must be integers", model=name, tensor=tensor.name, received=entries
            ) from None
        size = tensor_bytes(tensor)
        if size is None:
            raise ModelError(
                "this element type cannot lie in an external file", model=name, tensor=tensor.name, received=tensor.data_type
            )
        if offset < 0 or size < 0 or (length >= 0 and length != size):
            raise ModelError(
                "external data has the wrong size",
                model=name,
                tensor=tensor.name,
                expected=f"{size} bytes",
                received=f"{length} at offset {offset}",
            )
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise ModelError("external data must be an ordinary file", model=name, tensor=tensor.name, received=location)
                if offset + size > status.st_size:
                    raise ModelError(
                        "the external file is too short",
                        model=name,
                        tensor=tensor.name,
                        expected=f"{size} bytes at offset {offset}",
                        received=f"a file of {status.st_size} bytes",
                    )
                file.seek(offset)
                data = file.read(size)
        except FileNotFoundError:
            raise ModelNotFoundError(
                "a file with external data does not exist", model=name, tensor=tensor.name, received=location
            ) from None
        except OSError as error:
            raise ModelError(
                f"a file with external data cannot be read ({error.strerror})", model=name, tensor=tensor.name, received=location
            ) from None
        tensor.raw_data = data
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT


def _inside(root: str, location: str, name: str, tensor: str) -> str:
    """The real path of an external file, which must lie in `root` after all links are followed."""
    parts = location.replace("\\", "/").split("/")
    absolute = not location or location.startswith(("/", "\\")) or os.path.isabs(location) or ":" in parts[0]
    if absolute or ".." in parts or "\0" in location:
        raise ModelError(
            "external data must lie in the model's folder",
            model=name,
            tensor=tensor,
            expected="a relative path without '..'",
            received=repr(location),
        )
    path = os.path.realpath(os.path.join(root, *parts))
    if os.path.commonpath([root, path]) != root:
        raise ModelError(
            "external data must lie in the model's folder",
            model=name,
            tensor=tensor,
            expected="no link that leads out of it",
            received=repr(location),
        )
    if not os.path.lexists(path):
        raise ModelNotFoundError("a file with external data does not exist", model=name, tensor=tensor, received=location)
    if not os.path.isfile(path):  # before open: opening a pipe would wait for a writer
        raise ModelError("external data must be an ordinary file", model=name, tensor=tensor, received=location)
    return path
