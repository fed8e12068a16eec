"""The model's outputs themselves, as .npz: each output of all samples in one array, and the samples' names beside them.

Rows wait in temporary files beside the target, so that memory does not grow; now and then, and at the end, the file is written in
one go and put in the place of the one that was there.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
import zipfile
import zlib
from typing import IO, Any

import numpy as np

from ...errors import InputError
from .base import Found, Mode, Outputs, Sample, Saving, no_results

NAMES = "input"
"""The array of the samples' names."""
NUMBERS = "biufc"


class _Rows:
    """What is collected of one output."""

    def __init__(self, folder: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype
        self.file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    @property
    def size(self) -> int:
        """Bytes of a sample."""
        return math.prod(self.shape) * self.dtype.itemsize


class Arrays:
    """A .npz that is written as a whole; outputs must be arrays of numbers, of one shape and dtype for all samples."""

    def __init__(self, path: str, mode: Mode) -> None:
        self._path = path
        self._folder = os.path.dirname(path) or "."
        self._names: list[str] = []
        self._rows: dict[str, _Rows] = {}
        if not os.path.isdir(self._folder):
            raise FileNotFoundError(2, "no such folder", self._folder)
        if mode is not Mode.NEW and os.path.exists(path):
            self._read()
        self._before = len(self._names)
        self._saving = Saving()
        self._done = frozenset(self._names) if mode is Mode.RESUME else frozenset()

    def _read(self) -> None:
        """Take over what the file holds."""
        try:
            with zipfile.ZipFile(self._path) as whole:
                for member in whole.namelist():
                    name = member.removesuffix(".npy")
                    with whole.open(member) as file:
                        if name == NAMES:
                            self._names = [str(n) for n in np.lib.format.read_array(file, allow_pickle=False)]
                        else:
                            self._take(name, file)
        except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise no_results(self._path, str(error)) from None
        for name, rows in self._rows.items():
            if rows.file.seek(0, os.SEEK_END) != rows.size * len(self._names):
                raise no_results(self._path, f"{name!r} has not a row for each of {len(self._names)} names")

    def _take(self, name: str, file: IO[bytes]) -> None:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"an array of version {version}")
        headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = headers[version](file)
        if fortran or not shape or dtype.kind not in NUMBERS:
            raise ValueError(f"{name!r} is not rows of numbers")
        self._rows[name] = _Rows(self._folder, tuple(shape[1:]), dtype)
        shutil.copyfileobj(file, self._rows[name].file)

    def has(self, sample: Sample) -> bool:
        return sample.name in self._done

    def begin(self, found: Found, outputs: Outputs) -> None:
        if NAMES in outputs:
            raise InputError("an output has the name of the samples' names", tensor=NAMES, expected=".jsonl", received=".npz")
        for name, y in outputs.items():
            if not isinstance(y, np.ndarray) or y.dtype.kind not in NUMBERS:
                raise InputError(
                    "is no array of numbers",
                    tensor=name,
                    expected="--out with .jsonl",
                    received=getattr(y, "dtype", type(y).__name__),
                )
        if not self._rows:
            self._rows = {name: _Rows(self._folder, y.shape, y.dtype) for name, y in outputs.items()}
        elif set(self._rows) != set(outputs):
            raise InputError(
                f"{self._path} holds other outputs", tensor="--out", expected=", ".join(outputs), received=", ".join(self._rows)
            )

    def write(self, sample: Sample, found: Found, outputs: Outputs) -> None:
        for name, y in outputs.items():
            rows = self._rows[name]
            if (y.shape, y.dtype) != (rows.shape, rows.dtype):
                raise InputError(
                    "is of another shape or dtype than the samples before it; .npz has one array for all",
                    tensor=name,
                    expected=f"{rows.dtype} {rows.shape}",
                    received=f"{y.dtype} {y.shape}",
                )
        for name, y in outputs.items():
            rows = self._rows[name]
            rows.file.seek(len(self._names) * rows.size)  # over what an error left behind
            rows.file.write(np.ascontiguousarray(y).data)
        self._names.append(sample.name)
        if self._saving.due():
            with contextlib.suppress(OSError):  # what is there stays; the end will say it
                self._save()

    def close(self) -> None:
        try:
            self._save()
        finally:
            for rows in self._rows.values():
                rows.file.close()

    def _save(self) -> None:
        """Put all that is there by now into the file."""
        if len(self._names) == self._before:
            return
        part = f"{self._path}.part"
        try:
            with self._saving.measured(), zipfile.ZipFile(part, "w") as whole:
                with whole.open(f"{NAMES}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.array(self._names, np.str_), allow_pickle=False)
                for name, rows in self._rows.items():
                    self._put(whole, name, rows)
            os.replace(part, self._path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(part)
        self._before = len(self._names)

    def _put(self, whole: zipfile.ZipFile, name: str, rows: _Rows) -> None:
        count = len(self._names)
        header = {"descr": np.lib.format.dtype_to_descr(rows.dtype), "fortran_order": False, "shape": (count, *rows.shape)}
        with whole.open(f"{name}.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            rows.file.seek(0)
            left = count * rows.size
            while left:
                piece = rows.file.read(min(left, 1 << 20))
                if not piece:
                    raise OSError(5, "temporary file is cut off", self._path)
                file.write(piece)
                left -= len(piece)
