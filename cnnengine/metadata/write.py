"""Text in the metadata of an ONNX file, changed on the level of bytes: nothing else of the file is touched, nor parsed.

A model is a protobuf message: a run of fields, each a key (number * 8 + wire type) and a value. metadata_props is field 14, once
for each entry; an entry has the key as field 1 and the value as field 2. Replaced entries are left out, new ones stand at the
end; all other fields are copied as they are, in pieces, however large. A message has at most 2 GiB, which no reader passes.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import IO

from ..errors import InputError, ModelError, ModelNotFoundError
from ..importer.wire import sized

PROPS = 14 << 3 | 2
LIMIT = (1 << 31) - 1
PIECE = 1 << 20
VARINT = 10
"""Bytes that a number has at most."""
MOST_FIELDS = 1 << 20
"""Of a model's outermost message; ordinary files have some dozens."""

Span = tuple[int, int]


def properties_of(path: str) -> dict[str, str]:
    """The metadata of a file; of a key that is there twice, the last.

    Raises
    ------
    ModelError
        There is no such file, or it is no protobuf message.
    """
    with _opened(path) as (file, size):
        return {key: value for _, key, value in _entries(file, size, path)}


def write_properties(path: str, out: str, properties: Mapping[str, str]) -> None:
    """A copy of a model's file with these entries in its metadata, in place of those of the same key.

    Parameters
    ----------
    path, out : str
        They may be the same file, which is then replaced when all is written.
    properties : mapping of str to str

    Raises
    ------
    ModelError
        The file is no protobuf message.
    InputError
        The copy would be too large, or cannot be written.
    """
    target = os.path.realpath(out)
    if os.path.exists(target) and not stat.S_ISREG(os.stat(target).st_mode):
        raise InputError(f"{out}: cannot be written: it is no ordinary file")
    added = b"".join(sized(PROPS, _entry(key, value)) for key, value in properties.items())
    with _opened(path) as (file, size):
        dropped = [span for span, key, _ in _entries(file, size, path) if key in properties]
        kept = _complement(dropped, size)
        total = sum(end - start for start, end in kept) + len(added)
        if total > LIMIT:
            raise InputError(
                f"{out}: the file would be too large for one ONNX message", expected=f"at most {LIMIT} bytes", received=total
            )
        try:
            _replace(target, file, kept, added)
        except OSError as error:
            raise InputError(f"{out}: cannot be written: {error.strerror or error}") from error


def _replace(target: str, file: IO[bytes], kept: list[Span], added: bytes) -> None:
    """Write beside the target, then put it in its place: what was there is whole until then."""
    mode = stat.S_IMODE(os.stat(target).st_mode) if os.path.exists(target) else _default_mode()
    handle, beside = tempfile.mkstemp(prefix=".cnnengine.", dir=os.path.dirname(target))
    try:
        with os.fdopen(handle, "wb") as made:
            for start, end in kept:
                file.seek(start)
                _copy(file, made, end - start)
            made.write(added)
            made.flush()
            os.fsync(made.fileno())
        os.chmod(beside, mode)
        os.replace(beside, target)
    except BaseException:
        os.unlink(beside)
        raise


def _copy(source: IO[bytes], made: IO[bytes], count: int) -> None:
    while count:
        piece = source.read(min(PIECE, count))
        if not piece:
            raise OSError("the model's file was cut short while it was read")
        made.write(piece)
        count -= len(piece)


def _default_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


class _opened:
    """A model's file, and how many bytes it has. It is read, not mapped: what is cut short meanwhile gives an error."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> tuple[IO[bytes], int]:
        try:
            self._file = open(self._path, "rb")
        except FileNotFoundError:
            raise ModelNotFoundError("there is no such file", model=self._path) from None
        except (OSError, ValueError) as error:
            raise ModelError(f"the file cannot be read ({getattr(error, 'strerror', None) or error})", model=self._path) from None
        status = os.fstat(self._file.fileno())
        if not stat.S_ISREG(status.st_mode):
            self._file.close()
            raise ModelError("not an ordinary file", model=self._path)
        return self._file, status.st_size

    def __exit__(self, *raised: object) -> None:
        self._file.close()


# ---------------------------------------------------------------- the wire format
class _Damaged(Exception):
    """Not a protobuf message."""


def _entries(file: IO[bytes], size: int, path: str) -> Iterator[tuple[Span, str, str]]:
    """Where the entries of the metadata stand, with key and value."""

    def read(at: int, count: int) -> bytes:
        file.seek(at)
        return file.read(count)

    try:
        for number, (key, start, inner, end) in enumerate(_fields(read, 0, size)):
            if number >= MOST_FIELDS:
                raise _Damaged
            if key != PROPS:
                continue
            entry = read(inner, end - inner)
            if len(entry) != end - inner:
                raise _Damaged
            texts = {10: "", 18: ""}
            for field, _, at, stop in _fields(lambda at, count, entry=entry: entry[at : at + count], 0, len(entry)):  # type: ignore[misc]
                if field in texts:
                    texts[field] = entry[at:stop].decode("utf-8", "surrogateescape")
            yield (start, end), texts[10], texts[18]
    except _Damaged:
        raise ModelError("not an ONNX model, or a damaged one", model=path, expected="an ONNX protobuf") from None


def _fields(read: Callable[[int, int], bytes], at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Key, begin of the field, begin and end of its value, of the fields in these bytes."""
    while at < end:
        start = at
        head = read(at, min(2 * VARINT, end - at))
        key, used = _varint(head, 0)
        kind, at = key & 7, at + used
        if key >> 3 == 0:
            raise _Damaged
        inner = at
        if kind == 0:
            at += _varint(head, used)[1] - used
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, stop = _varint(head, used)
            inner = at + stop - used
            at = inner + length
        else:
            raise _Damaged
        if at > end:
            raise _Damaged
        yield key, start, inner, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * VARINT, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Damaged


def _complement(spans: list[Span], size: int) -> list[Span]:
    """What is left of `size` bytes without these spans, in order."""
    found, at = [], 0
    for start, end in spans:
        if start > at:
            found.append((at, start))
        at = end
    return [*found, (at, size)] if at < size else found


def _entry(key: str, value: str) -> bytes:
    return sized(10, key.encode("utf-8", "surrogateescape")) + sized(18, value.encode("utf-8", "surrogateescape"))
