"""open_model: path, bytes, file object or ModelProto -> a Source, whose message has all tensors inside; read: a ModelProto so.

Files are read by `wire`, whose tensors are views on the mapped file; a ModelProto stays what it is. The onnx package is needed
for what is given or asked for as a ModelProto, and for nothing else.

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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import CNNEngineError, ModelError, ModelNotFoundError, needed, shortened
from ..limits import current, exceeded, use
from ..spec import MAX_RANK
from .guard import Guard, Watch
from .schemas import IR_VERSION, OPSET
from .wire import GraphMessage, Malformed, ModelMessage, ValueInfo, as_message, encode, parse

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


class Mapping(mmap.mmap):
    """A mapping that tells whether all of its pages could be read."""

    watch: Watch
    """Ends before the mapping does: an object's attributes are given up first."""


class MappedFile:
    """A file's bytes: the system's own pages, or, of small files and where it cannot be mapped, a copy.

    A mapping lives on when its file is deleted or replaced by another. Where the file itself is written to, what was not read
    yet is lost; `check` tells, and nothing that runs may hold a view. Pages are read inside of `reading` alone, which survives
    a file that is cut short.
    """

    def __init__(self, path: str, limit: int | None = None) -> None:
        """Raises OSError, ValueError, or ModelError: it is neither a file nor a pipe, or has more than `limit` bytes."""
        self.path = path
        self.data: bytes | mmap.mmap
        self._descriptor = -1
        # a pipe that nobody writes to would be waited for; it is empty
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            self._status = status
            self.is_regular = stat.S_ISREG(status.st_mode)
            if not (self.is_regular or stat.S_ISFIFO(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                raise ModelError("neither a file nor a pipe", model=path, expected="an ordinary file")
            os.set_blocking(descriptor, True)
            if not self.is_regular or status.st_size < MAPPED:
                self.data = _whole(file, path, limit)
                return
            if limit is not None and status.st_size > limit:
                raise _too_large(path, limit, status.st_size)
            try:
                mapping = Mapping(descriptor, 0, access=mmap.ACCESS_READ)
                mapping.watch = Watch(mapping)
                self.data = mapping
            except (OSError, ValueError):
                self.data = _whole(file, path, limit)
                return
            self._descriptor = os.dup(descriptor)

    def check(self) -> None:
        """Raise ModelError where the file was written to since it was mapped, or could not be read."""
        if self._descriptor < 0:
            return
        if isinstance(self.data, Mapping) and self.data.watch.lost:
            raise _lost(self.path, "was cut short, or its disk failed, while it was read")
        now, then = os.fstat(self._descriptor), self._status
        if (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns):
            raise _lost(self.path, "was written to after it was loaded")
        if now.st_ctime_ns != then.st_ctime_ns:
            if self._only_touched(now):
                self._status = now
            else:
                raise _lost(self.path, "was written to after it was loaded, and its time put back")

    def _only_touched(self, now: os.stat_result) -> bool:
        """Whether the time of the last change follows from a new name, link, owner or right, which leave what the file holds."""
        fields = ("st_mode", "st_uid", "st_gid", "st_nlink")
        if any(getattr(now, f) != getattr(self._status, f) for f in fields):
            return True
        try:
            named = os.stat(self.path)
        except OSError:
            return True
        return (named.st_dev, named.st_ino) != (now.st_dev, now.st_ino)

    def release(self) -> None:
        """Give back the memory of the pages that were read; they come back from the file when they are read again."""
        if isinstance(self.data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self.data.madvise(mmap.MADV_DONTNEED)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            os.close(self._descriptor)


def _lost(path: str, what: str) -> ModelError:
    return ModelError(
        f"the model's file {what}: load it again",
        model=path,
        expected="the file as it was; a new version under a new name that then takes its place (os.replace), or load(bytes), "
        "whose model keeps what it needs",
    )


def _whole(file: Any, path: str, limit: int | None) -> bytes:
    """All bytes of an open file, a device or pipe perhaps, which may have no end."""
    data: bytes = file.read(-1 if limit is None else limit + 1)
    if limit is not None and len(data) > limit:
        raise _too_large(path, limit, f"more than {limit}")
    return data


def _too_large(path: str, limit: int, received: object) -> ModelError:
    if limit < PROTOBUF_LIMIT:
        return exceeded("file_bytes", received, limit, model=path)
    return ModelError(
        "the file is too large to be one ONNX message", model=path, expected=f"at most {limit} bytes", received=received
    )


class reading:
    """Context in which mapped files may be read; what was made of files that were written to meanwhile is refused at its end.

    Attributes
    ----------
    files : list of MappedFile
        Those that are checked, whatever else went wrong: what is read of a lost file fails in many ways.
    """

    def __init__(self, files: Iterable[MappedFile] = ()) -> None:
        self.files = list(files)
        self._guard = Guard()

    def open(self, model: Any, base_dir: str | os.PathLike[str] | None = None) -> Source:
        """`open_model`, its files among those that are checked."""
        source = open_model(model, base_dir)
        self.files = source.files()
        return source

    def __enter__(self) -> reading:
        self._guard.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._guard.__exit__(kind, value, trace)
        if value is None or isinstance(value, Exception):
            for file in self.files:
                try:
                    file.check()
                except ModelError as error:
                    raise error from None


class Source:
    """A model as it was given, and how to tell it again.

    Attributes
    ----------
    message : onnx.ModelProto or ModelMessage
        With all tensors inside.
    file, external : the mapped file, and those of external data by location
    """

    def __init__(
        self, message: onnx.ModelProto | ModelMessage, name: str, data: Any = None, folder: Folder | None = None
    ) -> None:
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
        NotInstalledError
            The model is a file, and onnx is not installed.
        """
        if not isinstance(self.message, ModelMessage):
            return self.message
        self.check()
        with self.reading():
            if self._data is None:
                return _parse(encode(self.message), self.name)
            proto = _parse(self._data, self.name)
            _load_external(proto, self._folder, self.name, self.external)
        return proto

    def serialized(self) -> bytes:
        """The model as one file's bytes.

        Raises
        ------
        ModelError
            A file that it lies in was written to, or it is too large for one message.
        """
        if isinstance(self.message, ModelMessage):
            self.check()
            whole = self._data is not None and not any(t.loaded for t in _all_tensors(self.message))
            size = 0 if whole else sum(len(t.raw_data) for t in _all_tensors(self.message))
            if size > PROTOBUF_LIMIT:
                raise self._too_large(f"{size} bytes of tensors")
            with self.reading():
                data = bytes(self._data) if whole else encode(self.message)
            if len(data) > PROTOBUF_LIMIT:
                raise self._too_large(f"{len(data)} bytes")
            return data
        try:
            whole_file: bytes = self.message.SerializeToString()
        except Exception as error:  # EncodeError or ValueError, as the release of protobuf may be
            raise self._too_large(error) from None
        return whole_file

    def _too_large(self, received: object) -> ModelError:
        return ModelError(
            "the model with its external data is too large for one message",
            model=self.name,
            expected=f"at most {PROTOBUF_LIMIT} bytes",
            received=received,
        )

    def with_graph(self, **fields: Any) -> Source:
        """The same with other values of these fields of its graph, which may refer to what it has."""
        message = as_message(ModelMessage, self.message)
        source = Source(message.changed(graph=message.graph.changed(**fields)), self.name)
        source.file, source.external = self.file, dict(self.external)
        return source

    def with_outputs(self, names: Iterable[str]) -> bytes:
        """`serialized`, with these values as outputs too, whose types are left to the reader."""
        known = {value.name for value in self.message.graph.output}
        added = [ValueInfo().changed(name=name) for name in names if name not in known]
        # of a message that is given in pieces a reader takes the fields together
        return self.serialized() + encode(ModelMessage().changed(graph=GraphMessage().changed(output=added)))

    def reading(self) -> reading:
        """Context in which tensors may be read that are views of files."""
        return reading(self.files())

    def check(self) -> None:
        """Raise ModelError where a file that tensors are views of was written to."""
        for file in self.files():
            file.check()

    @property
    def apart(self) -> bool:
        """Whether tensors lie in files of their own, external data."""
        return bool(self.external)

    def files(self) -> list[MappedFile]:
        """The files that tensors are views of."""
        return [*([] if self.file is None else [self.file]), *self.external.values()]

    def release(self, used: int | None = None) -> None:
        """Give back the memory of files: when so many more bytes make it worth it, or at once."""
        self._used += used or 0
        if used is None or self._used >= RELEASED:
            self._used = 0
            for file in self.files():
                file.release()


def open_model(model: Any, base_dir: str | os.PathLike[str] | None = None) -> Source:
    """Open a model; arguments and errors are those of `read`, and a Source is one already."""
    if isinstance(model, Source):
        return model
    if type(model).__name__ == "ModelProto" and hasattr(model, "graph"):
        return Source(read(model, base_dir), "ModelProto")
    with reading() as opened:
        file, data, name, folder = _content(model, opened)
        if base_dir is not None:
            folder = Folder.given(base_dir)
        external: dict[str, MappedFile] = {}
        try:
            message = parse(data)
        except Malformed:
            raise _no_model(data, name) from None
        if not message.HasField("graph") or not (message.graph.node or message.graph.output or message.graph.initializer):
            raise _no_model(data, name)
        use("file_bytes", len(data), model=name)
        _count_nodes(message, name)
        source = Source(message, name, data, folder)
        source.file = file
        _check_versions(message, name)
        _load_external(message, folder, name, external)
        source.external = external
        opened.files = source.files()
        return source


def read(model: Any, base_dir: str | os.PathLike[str] | None = None) -> onnx.ModelProto:
    """Read a model, with its external data.

    Parameters
    ----------
    model : path, bytes-like, binary file object or onnx.ModelProto
        A ModelProto is returned as it is, or as a copy when external data had to be read.
    base_dir : path, optional
        The folder of external data; by default the model file's own. Needed for external data when `model` is not a path.
        A folder that is named here is trusted: links in it may lead out of it.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ModelNotFoundError
        The file, or one that holds its tensors, does not exist.
    ModelError
        Not an ONNX model, damaged, or with external data outside the folder or of the wrong size.
    NotInstalledError
        onnx is not installed.
    """
    package = _onnx()
    with reading() as opened:
        proto: onnx.ModelProto
        if isinstance(model, package.ModelProto):
            proto, name, folder = model, "ModelProto", None
        else:
            _, data, name, folder = _content(model, opened)
            proto = _parse(data, name)
        _check_versions(proto, name)
        if any(_is_external(t) for t in _all_tensors(proto)):
            if proto is model:
                copy = package.ModelProto()
                copy.CopyFrom(proto)
                proto = copy
            external: dict[str, MappedFile] = {}
            _load_external(proto, folder if base_dir is None else Folder.given(base_dir), name, external)
            opened.files.extend(external.values())
        return proto


def external_files(model: str) -> tuple[str, ...]:
    """Locations of the external data that a model's file refers to, as it writes them; they need not be there.

    Raises
    ------
    ModelNotFoundError, ModelError
        The file does not exist, or is not an ONNX model.
    """
    with reading() as opened:
        _, data, name, _ = _content(model, opened)
        try:
            message = parse(data)
        except Malformed:
            raise _no_model(data, name) from None
        external = [t for t in _all_tensors(message) if _is_external(t)]
        return tuple(sorted({e.value for t in external for e in t.external_data if e.key == "location"}))


def _count_nodes(message: ModelMessage, name: str) -> None:
    """Raise LimitError for more nodes than the limits allow, those of functions and of graphs inside of nodes counted."""
    left = [message.graph.node, *(function.node for function in message.functions)]
    while left:
        nodes = left.pop()
        use("nodes", len(nodes), model=name)
        for node in nodes:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    left.append(attribute.g.node)
                left.extend(graph.node for graph in attribute.graphs)


@dataclass(frozen=True)
class Folder:
    """Where external data may lie.

    Attributes
    ----------
    places : folders in which a location is looked up, in this order
    roots : real folders that a file must lie in when all links are followed; None where the folder is trusted
    """

    places: tuple[str, ...]
    roots: tuple[str, ...] | None

    @staticmethod
    def given(base_dir: str | os.PathLike[str]) -> Folder:
        """A folder that the caller names."""
        return Folder((os.fsdecode(os.fspath(base_dir)),), None)

    @staticmethod
    def of_model(path: str) -> Folder:
        """That of a model file, and that of the file which it is a link to: caches keep links to files beside each other."""
        own, real = os.path.dirname(os.path.abspath(path)), os.path.dirname(os.path.realpath(path))
        return Folder(tuple(dict.fromkeys((own, real))), tuple(dict.fromkeys((os.path.realpath(own), real))))

    def find(self, location: str, name: str, tensor: str) -> str:
        """The real path of an external file."""
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
        outside = False
        for place in self.places:
            path = os.path.realpath(os.path.join(place, *parts))
            if self.roots is not None and not any(os.path.commonpath([root, path]) == root for root in self.roots):
                outside = True
            elif os.path.isfile(path):  # before open: opening a pipe would wait for a writer
                return path
            elif os.path.lexists(path):
                raise ModelError("external data must be an ordinary file", model=name, tensor=tensor, received=location)
        if outside:
            raise ModelError(
                "external data must lie in the model's folder",
                model=name,
                tensor=tensor,
                expected="no link that leads out of it, unless base_dir names the folder",
                received=repr(location),
            )
        raise ModelNotFoundError("a file with external data does not exist", model=name, tensor=tensor, received=location)


def _content(model: Any, opened: reading) -> tuple[MappedFile | None, bytes | mmap.mmap, str, Folder | None]:
    """The file, its bytes, a name for messages, and the folder; None where there is none."""
    if isinstance(model, bytes | bytearray | memoryview):
        return None, bytes(model), "bytes", None
    if hasattr(model, "read"):
        try:
            data = model.read()
        except MemoryError:
            raise
        except Exception as error:  # objects raise what they like
            raise ModelError(
                f"the file object cannot be read ({shortened(str, error)})", received=type(error).__name__
            ) from error
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
        file = MappedFile(path, min(PROTOBUF_LIMIT, current().file_bytes))
        opened.files.append(file)
        return file, file.data, path, Folder.of_model(path)
    except FileNotFoundError:
        raise ModelNotFoundError("there is no such file", model=path) from None
    except CNNEngineError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ModelError(f"the file cannot be read ({getattr(error, 'strerror', None) or error})", model=path) from None


def _onnx() -> Any:
    return needed("onnx", "a model as onnx.ModelProto")


def _parse(data: Any, name: str) -> onnx.ModelProto:
    proto: onnx.ModelProto = _onnx().ModelProto()
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

    try:
        proto.ParseFromString(data if isinstance(data, bytes) else memoryview(data))
    except (DecodeError, UnicodeDecodeError, RuntimeError):
        raise _no_model(data, name) from None
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output or proto.graph.initializer):
        raise _no_model(data, name)
    return proto


def _no_model(data: bytes | mmap.mmap, name: str) -> ModelError:
    from .foreign import foreign

    found = foreign(data, name)
    if found is not None:
        return ModelError(f"not an ONNX model: it is {found.kind}", model=name, expected=f"an ONNX file: {found.way}")
    return ModelError("not an ONNX model, or a damaged one", model=name, expected="an ONNX protobuf", received=_first(data))


def _first(data: bytes | mmap.mmap) -> str:
    return f"{len(data)} bytes, first {data[:8]!r}"


def _check_versions(proto: Any, name: str) -> None:
    if not proto.HasField("graph"):
        raise ModelError("the model has no graph", model=name)
    if proto.ir_version > IR_VERSION:
        warnings.warn(
            f"{name}: IR version {proto.ir_version} is newer than {IR_VERSION}, the newest that is known here", stacklevel=4
        )
    elif proto.ir_version < 1:
        raise ModelError("the model names no IR version", model=name, expected=f"1..{IR_VERSION}", received=proto.ir_version)
    for opset in proto.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version > OPSET:
            warnings.warn(f"{name}: opset {opset.version} is newer than {OPSET}, the newest that is known here", stacklevel=4)


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
    **dict.fromkeys((17, 18, 19, 20, 24), 8),
    **dict.fromkeys((21, 22, 23), 4),
    **dict.fromkeys((25, 26), 2),
    **dict.fromkeys((27, 28), 6),
}
"""TensorProto.DataType -> bits of an element of raw data."""


def check_rank(tensor: Any, name: str | None = None) -> None:
    """Raise ModelError for more dims than an array can have: a million of them would take hours to multiply."""
    if len(tensor.dims) > MAX_RANK:
        raise ModelError(
            "a tensor has too many axes",
            tensor=tensor.name if name is None else name,
            expected=f"at most {MAX_RANK}",
            received=len(tensor.dims),
        )


def tensor_bytes(tensor: Any) -> int | None:
    """Bytes that the raw data of a tensor has by its dims, the last one filled up, or None for types whose size is not known."""
    bits = BITS.get(tensor.data_type)
    return None if bits is None else -(-math.prod(tensor.dims) * bits // 8)


def _number(text: str) -> int:
    """Digits as a number; -1 is what some writers put for a length that they leave out."""
    if not (text.isascii() and text.isdigit()) and text != "-1":
        raise ValueError
    return int(text)


def _load_external(proto: Any, folder: Folder | None, name: str, files: dict[str, MappedFile]) -> None:
    """Put the data of external tensors into them; `files` holds those opened before, by location, and gets the others."""
    for tensor in _all_tensors(proto):
        if not _is_external(tensor):
            continue
        if folder is None:
            raise ModelError(
                "the model keeps tensors in other files, and their folder is not known", model=name, expected="base_dir"
            )
        entries = {e.key: e.value for e in tensor.external_data}
        location = entries.get("location", "")
        path = "" if location in files else folder.find(location, name, tensor.name)
        try:
            offset, length = _number(entries.get("offset") or "0"), _number(entries.get("length") or "-1")
        except ValueError:
            raise ModelError(
                "offset and length of external data must be integers", model=name, tensor=tensor.name, received=entries
            ) from None
        check_rank(tensor)
        size = tensor_bytes(tensor)
        if size is None:
            raise ModelError(
                "this element type cannot lie in an external file", model=name, tensor=tensor.name, received=tensor.data_type
            )
        if offset < 0 or size < 0 or (length != -1 and length != size):
            raise ModelError(
                "external data has the wrong size",
                model=name,
                tensor=tensor.name,
                expected=f"{size} bytes",
                received=f"{length} at offset {offset}",
            )
        try:
            if location not in files:
                use("file_bytes", os.path.getsize(path), model=name, tensor=tensor.name)
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
            tensor.raw_data = bytes(view)
            tensor.ClearField("external_data")
            tensor.data_location = 0
