"""Results as a table of Apache Parquet, by pyarrow: the rows of the .csv, a vector as a list.

A Parquet file has its index at the end and cannot be added to: rows go to a new file, behind those of the one that is there, and
now and then, and at the end, it is put in its place.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from ...errors import InputError
from .._common import BREAKING
from .base import Found, Mode, Outputs, Sample, Saving, no_results
from .columns import TYPES, Row, columns_of, rows_of

GROUP = 4096
"""Rows that are kept until they are written."""


class Parquet:
    """A table in groups of rows; needs pyarrow. Names that are no text are strings of Python (`'caf\\udce9.jpg'`)."""

    def __init__(self, path: str, mode: Mode) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise InputError("writing .parquet needs pyarrow: pip install pyarrow") from None
        self._arrow: Any = pyarrow
        self._path = path
        self._part = f"{path}.part"
        self._rows: list[Row] = []
        self._done: set[str] = set()
        self._columns: tuple[str, ...] = ()
        self._writer: Any = None
        self._saving = Saving()
        self._old = mode is not Mode.NEW and os.path.exists(path)
        if self._old:
            self._read(mode)
        with open(self._part, "wb"):
            pass

    def _read(self, mode: Mode) -> None:
        try:
            with self._arrow.parquet.ParquetFile(self._path) as file:
                self._columns = tuple(file.schema_arrow.names)
                if file.schema_arrow != self._schema(self._columns):
                    raise no_results(self._path, "its columns")
                if mode is Mode.RESUME:
                    for batch in file.iter_batches(columns=["input"]):
                        self._done.update(batch.column(0).to_pylist())
        except (self._arrow.ArrowException, KeyError) as error:
            raise no_results(self._path, str(error)) from None

    def _schema(self, columns: tuple[str, ...]) -> Any:
        arrow = self._arrow
        types = {str: arrow.string(), int: arrow.int64(), float: arrow.float64(), list: arrow.list_(arrow.float64())}
        return arrow.schema([(name, types[TYPES[name]]) for name in columns])

    def has(self, sample: Sample) -> bool:
        return _text(sample.name) in self._done

    def begin(self, found: Found, outputs: Outputs) -> None:
        columns = columns_of(found)
        if self._columns and columns != self._columns:
            raise InputError(
                "has other columns",
                tensor="--out",
                expected=", ".join(columns),
                received=f"{self._path}: {', '.join(self._columns)}",
            )
        self._columns = columns

    def write(self, sample: Sample, found: Found, outputs: Outputs) -> None:
        rows = rows_of(sample.name, found, self._columns)
        self._rows += [{name: _text(v) if isinstance(v, str) else v for name, v in row.items()} for row in rows]
        if self._saving.due():
            self._save()
        elif len(self._rows) >= GROUP:
            self._flush()

    def _flush(self) -> None:
        schema = self._schema(self._columns)
        if self._writer is None:
            self._writer = self._arrow.parquet.ParquetWriter(self._part, schema)
            if self._old:
                with self._arrow.parquet.ParquetFile(self._path) as file:
                    for batch in file.iter_batches(batch_size=GROUP):
                        self._writer.write_batch(batch)
        rows, self._rows = self._rows, []
        if rows:
            self._writer.write_table(self._arrow.Table.from_pylist(rows, schema=schema))

    def close(self) -> None:
        try:
            if self._rows or self._writer is not None:
                self._save()
        finally:
            with contextlib.suppress(OSError):
                os.unlink(self._part)

    def _save(self) -> None:
        """Put all that is there by now into the file; what comes later begins with a copy of it."""
        with self._saving.measured():
            self._flush()
            writer, self._writer = self._writer, None  # closed once: one that fails leaves the file as it was
            writer.close()
            os.replace(self._part, self._path)
            self._old = True


def _text(name: str) -> str:
    """Parquet's strings are UTF-8."""
    return repr(name) if any("\ud800" <= found[0] <= "\udfff" for found in BREAKING.finditer(name)) else name
