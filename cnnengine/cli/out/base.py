"""What all kinds of results share: samples by name, modes, files that end in a whole line."""

from __future__ import annotations

import contextlib
import enum
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import InputError
from ...tasks import Described

Found = Mapping[str, Described]
"""What a sample's outputs mean, by name."""
Outputs = Mapping[str, Any]
"""A sample's outputs as the model gives them, by name."""


class Mode(enum.Enum):
    """What happens with results that are there."""

    NEW = "new"
    APPEND = "append"
    RESUME = "resume"


@dataclass(frozen=True)
class Sample:
    """One sample of an input.

    Attributes
    ----------
    path : str
        The input.
    index : int or None
        Which of its samples it is, where it holds several.
    below : str
        Folders that lie between the one that was given and the file.
    """

    path: str
    index: int | None = None
    below: str = ""

    @property
    def name(self) -> str:
        return self.path if self.index is None else f"{self.path}[{self.index}]"


class Saving:
    """When a file that is written as a whole is written anew, so that a process that is killed loses little of its work.

    Every minute; where writing takes long, so seldom that it takes a twentieth of the time.
    """

    SECONDS = 60.0
    SHARE = 20.0

    def __init__(self) -> None:
        self._next = time.monotonic() + self.SECONDS

    def due(self) -> bool:
        return time.monotonic() >= self._next

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Around writing."""
        began = time.monotonic()
        try:
            yield
        finally:
            ended = time.monotonic()
            self._next = ended + max(self.SECONDS, self.SHARE * (ended - began))


class Lines:
    """A file that is added to: what is written is on its way to the disk when `add` returns.

    Parameters
    ----------
    path : str
    """

    def __init__(self, path: str) -> None:
        self._made = not os.path.exists(path)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        self._path = path

    def cut(self, size: int) -> None:
        """Drop what lies behind this byte."""
        self._file.truncate(size)

    def add(self, data: bytes) -> None:
        """All of the bytes, or none where the disk is full."""
        before = self._file.seek(0, os.SEEK_END)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._file.truncate(before)
            raise OSError(error.errno, error.strerror, self._path) from error

    def close(self) -> None:
        """A file that was made here and that nothing was written to goes: it would be in the way of the next try."""
        empty = self._file.seek(0, os.SEEK_END) == 0
        self._file.close()
        if empty and self._made:
            os.unlink(self._path)


def no_results(path: str, why: str) -> InputError:
    """The error for a file that cannot be gone on with."""
    return InputError(f"holds other than results of predict: {why}", tensor="--out", received=path)
