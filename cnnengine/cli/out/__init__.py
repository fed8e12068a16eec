"""What `predict --out` writes: a file of lines, a table, arrays, or a folder of pictures, one sample after the other.

`Out` is what each kind of file has; `opened` makes the one that a name asks for. `jsonl` and `csv` write text as results come,
`parquet` a table in groups of rows (`columns` has those of both), `arrays` the outputs themselves, `folder` pictures. None
holds more than the names of what is written and one group of rows: memory does not grow with the results.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol

from ...errors import InputError
from .arrays import Arrays
from .base import Found, Mode, Outputs, Sample
from .csv import Csv
from .folder import Folder, Targets, saved
from .jsonl import Jsonl
from .parquet import Parquet

__all__ = ["KINDS", "Folder", "Found", "Mode", "Out", "Outputs", "Sample", "Targets", "opened", "saved"]


class Out(Protocol):
    """Where results go."""

    def has(self, sample: Sample) -> bool:
        """Whether the sample's results are there already, and that was asked for; to be called once for each, in order."""
        ...

    def begin(self, found: Found, outputs: Outputs) -> None:
        """Take note of what the first sample has.

        Raises
        ------
        InputError
            The kind of file does not take it, or what is there is of another kind.
        """
        ...

    def write(self, sample: Sample, found: Found, outputs: Outputs) -> None:
        """Add a sample: all of it or, where that raises, nothing.

        Raises
        ------
        InputError
            It does not go with those before it.
        OSError
            The file cannot be written.
        """
        ...

    def close(self) -> None:
        """Write what is not yet written."""
        ...


KINDS: dict[str, Callable[[str, Mode], Out]] = {".jsonl": Jsonl, ".csv": Csv, ".parquet": Parquet, ".npz": Arrays}
"""Ends of names and what they stand for; a name without one is a folder's."""


def opened(path: str, mode: Mode, inputs: Sequence[str] = ()) -> Out:
    """The kind of file that the name asks for, made or gone on with; the inputs are not written over.

    Raises
    ------
    InputError
        There is no such kind, it cannot be written, it is there and nobody said that it may be added to, or what is there are no
        results.
    """
    end = os.path.splitext(path)[1].lower()
    if os.path.isdir(path) or path.endswith(("/", os.sep)) or not end:
        return Folder(path, mode, inputs)
    kind = KINDS.get(end)
    if kind is None:
        raise InputError(
            "unknown kind of file", tensor="--out", expected=f"{', '.join(KINDS)}, or a folder for pictures", received=path
        )
    if mode is Mode.NEW and os.path.lexists(path):
        raise InputError("is there already", tensor="--out", expected="--resume or --append, or another name", received=path)
    try:
        return kind(path, mode)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", tensor="--out", received=path) from error
