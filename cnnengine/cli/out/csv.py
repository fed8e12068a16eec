"""Results as comma-separated values (RFC 4180, in UTF-8, lines ended by a new line alone)."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterator

from ...errors import InputError
from .base import Found, Lines, Mode, Outputs, Sample, no_results
from .columns import columns_of, rows_of


class Csv:
    """A header, then a sample's rows together.

    Bytes of names that are no text are written as they are. A vector is a column for each element, `v0` and on. Where a file ends
    within a row, as after a power failure, that row is dropped, and with `Mode.RESUME` the sample whose rows it may belong to.
    """

    def __init__(self, path: str, mode: Mode) -> None:
        self._path = path
        self._done: set[str] = set()
        self._header: list[str] = []
        self._columns: tuple[str, ...] = ()
        size = 0
        if mode is not Mode.NEW and os.path.exists(path):
            size = self._read(path, mode)
        self._lines = Lines(path)
        self._lines.cut(size)

    def _read(self, path: str, mode: Mode) -> int:
        """Take header and names of samples; returns how many bytes hold whole samples."""
        size = begun = 0
        last: str | None = None
        done: set[str] = set()
        for record, length in _records(path):
            if record is None:
                if mode is Mode.RESUME and last is not None:
                    done.discard(last)
                    size = begun
                break
            if size == 0:
                self._header = record
                if record[:1] != ["input"]:
                    raise no_results(path, "its header")
            elif len(record) != len(self._header):
                raise no_results(path, f"a row of {len(record)} fields below {len(self._header)}")
            elif record[0] != last:
                last, begun = record[0], size
                done.add(last)
            size += length
        if mode is Mode.RESUME:
            self._done = done
        return size

    def has(self, sample: Sample) -> bool:
        return sample.name in self._done

    def begin(self, found: Found, outputs: Outputs) -> None:
        self._columns = columns_of(found)
        header = list(self._columns)
        if "vector" in header:
            length = max(len(row["vector"]) for row in rows_of("", found, self._columns) if "vector" in row)
            header[header.index("vector") :] = [f"v{i}" for i in range(length)] + header[header.index("vector") + 1 :]
        if self._header and self._header != header:
            raise InputError(
                "has other columns", tensor="--out", expected=",".join(header), received=f"{self._path}: {','.join(self._header)}"
            )
        if not self._header:
            self._header = header
            self._lines.add(_text([header]))

    def write(self, sample: Sample, found: Found, outputs: Outputs) -> None:
        table = []
        for row in rows_of(sample.name, found, self._columns):
            for i, number in enumerate(row.pop("vector", ())):
                row[f"v{i}"] = number
            if not row.keys() <= set(self._header):
                raise InputError("has more elements than the samples before it", expected=len(self._header), received=len(row))
            table.append([row.get(name) for name in self._header])
        self._lines.add(_text(table))

    def close(self) -> None:
        self._lines.close()


def _text(rows: list[list[object]] | list[list[str]]) -> bytes:
    text = io.StringIO()
    returns = any(isinstance(cell, str) and "\r" in cell for row in rows for cell in row)  # which Python's writer may not quote
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL).writerows(rows)
    try:
        return text.getvalue().encode("utf-8", sys.getfilesystemencodeerrors())
    except UnicodeEncodeError:  # labels of JSON may hold any surrogate
        return text.getvalue().encode("utf-8", "backslashreplace")


def _records(path: str) -> Iterator[tuple[list[str] | None, int]]:
    """Rows and how many bytes each has; None for one that is cut off."""
    with open(path, "rb") as file:
        pending = b""
        for line in file:
            pending += line
            if pending.count(b'"') % 2 or not line.endswith(b"\n"):
                continue
            text = pending.decode("utf-8", sys.getfilesystemencodeerrors())
            try:
                yield next(csv.reader(io.StringIO(text, newline="")), []), len(pending)
            except csv.Error as error:
                raise no_results(path, str(error)) from None
            pending = b""
        if pending:
            yield None, len(pending)
