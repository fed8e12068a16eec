"""read: path, bytes, file object or ModelProto -> a ModelProto whose tensors are all inside it; open_model: the same as a Source.

A Source reads by `wire`, whose tensors are views on the mapped file, and by protobuf where that declines.

A model file is untrusted input. Bytes that are no model, tensors whose data lie outside the model's folder or do not
have the size that their dims ask for, and versions that nothing here knows end in a ModelError or a warning, never in
a crash or in numbers read from somewhere else.
"""

from __future__ import annotations

import math
import mmap
import os
import stat
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, ModelNotFoundError
from ..ops import lookup
from .schemas import IR_VERSION, OPSET
from .wire import Malformed, ModelMessage, parse

if TYPE_CHECKING:
    import onnx

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes that one protobuf message can have; larger models keep their tensors in external files."""
MAPPED = 1 << 20
"""Bytes from which a file is mapped, not read."""
RELEASED = 8 << 20
"""Bytes that are used of mapped files before their pages are given back."""
EXTERNAL = 1
"""TensorProto.DataLocation."""


class MappedFile:
    """A file's bytes: the system's own pages, or, of small files and where it cannot be mapped, a copy.

    A mapping lives on when its file is deleted or replaced by another. Where the file itself is written to, what was not read
    yet is lost; `check` tells, and nothing that runs may hold a view.
    """

    def __init__(self, path: str) -> None:
        """Raises OSError or ValueError."""
        self.path = path
        self.data: bytes | mmap.mmap
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            self._state = _state(status)
            self._descriptor = -1
            self.is_regular = stat.S_ISREG(status.st_mode)
            if not self.is_regular or status.st_size < MAPPED:
                self.data = file.read()
                return
            try:
                self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError):
                self.data = file.read()
                return
            self._descriptor = os.dup(file.fileno())

    def check(self) -> None:
        """Raise ModelError where the file was written to since it was mapped."""
        if self._descriptor >= 0 and _state(os.fstat(self._descriptor)) != self._state:
            raise ModelError("the model's file was written to after it was loaded: load it again", tensor=self.path)

    def release(self) -> None:
        """Give back the memory of the pages that were read; they come back from the file when they are read again."""
        if isinstance(self.data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self.data.madvise(mmap.MADV_DONTNEED)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            os.close(self._descriptor)


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


class Source:
    """A model as it was given, and how to tell it again.

    Attributes
    ----------
    message : onnx.ModelProto or ModelMessage
        With all tensors inside.
    file, external : the mapped file, and those of external data by location
    """

    def __init__(self, message: Any, name: str, data: Any = None, folder: str | None = None) -> None:
        self.message = message
        self.name = name
        self.file: MappedFile | None = None
        self.external: dict[str, MappedFile] = {}
        self._data = data
        self._folder = folder
        self._used = 0

    def proto(self) -> onnx.ModelProto:
        """The model as protobuf, with all tensors inside; not to be changed.

        Raises
        ------
        ModelError
            A file that it lies in was written to.
        """
        if not isinstance(self.message, ModelMessage):
            given: onnx.ModelProto = self.message
            return given
        self.check()
        proto = _parse(self._data, self.name)
        _load_external(proto, self._folder, self.name, self.external)
        return proto

    def serialized(self) -> bytes:
        """The model as one file's bytes; raises as `proto`."""
        if isinstance(self.message, ModelMessage) and not any(t.loaded for t in _all_tensors(self.message)):
            self.check()
            return bytes(self._data)
        data: bytes = self.proto().SerializeToString()
        return data

    def check(self) -> None:
        """Raise ModelError where a file that tensors are views of was written to."""
        for file in self._files():
            file.check()

    @property
    def apart(self) -> bool:
        """Whether tensors lie in files of their own, external data."""
        return bool(self.external)

    def _files(self) -> list[MappedFile]:
        return [*([] if self.file is None else [self.file]), *self.external.values()]

    def release(self, used: int | None = None) -> None:
        """Give back the memory of files: when so many more bytes make it worth it, or at once."""
        self._used += used or 0
        if used is None or self._used >= RELEASED:
            self._used = 0
            for file in self._files():
                file.release()


def open_model(model: Any, base_dir: str | os.PathLike[str] | None = None) -> Source:
    """Open a model; arguments and errors are those of `read`."""
    if type(model).__name__ == "ModelProto" and hasattr(model, "graph"):
        return Source(read(model, base_dir), "ModelProto")
    file, data, name, folder = _content(model)
    if base_dir is not None:
        folder = os.fspath(base_dir)
    try:
        message = parse(data)
        graph = message.__dict__.get("graph")
        if graph is None or not (graph.node or graph.output or graph.initializer):
            raise Malformed("no graph")
        if not _all_known(graph):
            raise Malformed("operators that ONNX may define as functions, of protobufs")
    except Malformed:
        proto = _parse(data, name)
        _check_versions(proto, name)
        _load_external(proto, folder, name, {})
        return Source(proto, name)
    source = Source(message, name, data, folder)
    source.file = file
    _check_versions(message, name)
    _load_external(message, folder, name, source.external)
    return source


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
        proto, name, folder = model, "ModelProto", None
    else:
        _, data, name, folder = _content(model)
        proto = _parse(data, name)
    _check_versions(proto, name)
    if any(_is_external(t) for t in _all_tensors(proto)):
        if proto is model:
            copy = onnx.ModelProto()
            copy.CopyFrom(proto)
            proto = copy
        _load_external(proto, folder if base_dir is None else base_dir, name, {})
    return proto


def _all_known(graph: Any) -> bool:
    """Whether every node, of subgraphs too, has an operator here."""
    for node in graph.node:
        constant = node.op_type == "Constant" and node.domain in ("", "ai.onnx")
        if not constant and lookup(node.op_type, node.domain) is None:
            return False
        for attribute in node.attribute:
            inner = [*attribute.graphs, *((attribute.g,) if attribute.HasField("g") else ())]
            if not all(_all_known(g) for g in inner):
                return False
    return True


def _content(model: Any) -> tuple[MappedFile | None, bytes | mmap.mmap, str, str | None]:
    """The file, its bytes, a name for messages, and the folder; None where there is none."""
    if isinstance(model, bytes | bytearray | memoryview):
        return None, bytes(model), "bytes", None
    if hasattr(model, "read"):
        data = model.read()
        if not isinstance(data, bytes | bytearray | memoryview):
            raise ModelError("the file object gives text", expected="a file opened in binary mode", received=type(data).__name__)
        return None, bytes(data), str(getattr(model, "name", "file object")), None
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
        file = MappedFile(path)
        return file, file.data, path, os.path.dirname(os.path.abspath(path))
    except FileNotFoundError:
        raise ModelNotFoundError("there is no such file", model=path) from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ModelError(f"the file cannot be read ({getattr(error, 'strerror', None) or error})", model=path) from None


def _parse(data: Any, name: str) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data if isinstance(data, bytes) else memoryview(data))
    except (DecodeError, UnicodeDecodeError, RuntimeError):
        raise ModelError(
            "not an ONNX model, or a damaged one", model=name, expected="an ONNX protobuf", received=_first(data)
        ) from None
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output or proto.graph.initializer):
        raise ModelError("not an ONNX model: it has no graph", model=name, expected="an ONNX protobuf", received=_first(data))
    return proto


def _first(data: bytes | mmap.mmap) -> str:
    return f"{len(data)} bytes, first {data[:8]!r}"


def _check_versions(proto: Any, name: str) -> None:
    if not proto.HasField("graph"):
        raise ModelError("the model has no graph", model=name)
    newest, newest_ir = OPSET, IR_VERSION
    opsets = [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")]
    if proto.ir_version > newest_ir or any(v > newest for v in opsets):
        import onnx

        newest, newest_ir = onnx.defs.onnx_opset_version(), onnx.IR_VERSION
    if proto.ir_version > newest_ir:
        warnings.warn(
            f"{name}: IR version {proto.ir_version} is newer than {newest_ir}, the newest that this onnx package knows",
            stacklevel=4,
        )
    elif proto.ir_version < 1:
        raise ModelError("the model names no IR version", model=name, expected=f"1..{newest_ir}", received=proto.ir_version)
    for version in opsets:
        if version > newest:
            warnings.warn(
                f"{name}: opset {version} is newer than {newest}, the newest that this onnx package knows", stacklevel=4
            )


def _is_external(tensor: Any) -> bool:
    return bool(tensor.data_location == EXTERNAL)


def _tensors_of(nodes: Any) -> Iterator[Any]:
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


def _tensors_in(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of(graph.node)


def _all_tensors(proto: onnx.ModelProto | ModelMessage) -> Iterator[Any]:
    yield from _tensors_in(proto.graph)
    for function in proto.functions:
        yield from _tensors_of(function.node)


BITS: dict[int, int] = {
    1: 32,
    2: 8,
    3: 8,
    4: 16,
    5: 16,
    6: 32,
    7: 64,
    9: 8,
    10: 16,
    11: 64,
    12: 32,
    13: 64,
    14: 64,
    15: 128,
    16: 16,
}
"""TensorProto.DataType -> bits of an element of raw data."""


def tensor_bytes(tensor: Any) -> int | None:
    """Bytes that the raw data of a tensor has by its dims, or None for types whose size is not known."""
    bits = BITS.get(tensor.data_type)
    return None if bits is None else math.prod(tensor.dims) * bits // 8


def _load_external(proto: Any, base_dir: str | os.PathLike[str] | None, name: str, files: dict[str, MappedFile]) -> None:
    """Put the data of external tensors into them; `files` holds those opened before, by location, and gets the others."""
    root: str | None = None
    for tensor in _all_tensors(proto):
        if not _is_external(tensor):
            continue
        if base_dir is None:
            raise ModelError(
                "the model keeps tensors in other files, and their folder is not known", model=name, expected="base_dir"
            )
        root = root or os.path.realpath(base_dir)
        entries = {e.key: e.value for e in tensor.external_data}
        location = entries.get("location", "")
        path = "" if location in files else _inside(root, location, name, tensor.name)
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
            file = files.get(location) or files.setdefault(location, MappedFile(path))
        except FileNotFoundError:
            raise ModelNotFoundError(
                "a file with external data does not exist", model=name, tensor=tensor.name, received=location
            ) from None
        except OSError as error:
            raise ModelError(
                f"a file with external data cannot be read ({error.strerror})", model=name, tensor=tensor.name, received=location
            ) from None
        if not file.is_regular:
            raise ModelError("external data must be an ordinary file", model=name, tensor=tensor.name, received=location)
        if offset + size > len(file.data):
            raise ModelError(
                "the external file is too short",
                model=name,
                tensor=tensor.name,
                expected=f"{size} bytes at offset {offset}",
                received=f"a file of {len(file.data)} bytes",
            )
        view = memoryview(file.data)[offset : offset + size]
        if isinstance(proto, ModelMessage):
            tensor.load(view)
        else:
            import onnx

            tensor.raw_data = bytes(view)
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
