"""Standard output and standard error, whatever they are: closed, full, left by their reader, of another encoding."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

__all__ = ["UnwritableError", "safe_streams"]

_ESCAPED = "cnnengine.escaped"


class UnwritableError(Exception):
    """Standard output is closed or full: results cannot be given."""


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""What a stream cannot encode as ``\uXXXX``, as JSON has it: two of them beyond 16 bits."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    words = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{words[i] << 8 | words[i + 1]:04x}" for i in range(0, len(words), 2)), error.end


codecs.register_error(_ESCAPED, _escaped)


class _Nowhere(io.TextIOBase):
    """A closed standard error; `print` to None would write to standard output."""

    def write(self, text: str) -> int:
        return len(text)

    def isatty(self) -> bool:
        return False


@contextmanager
def safe_streams() -> Iterator[None]:
    """Characters that standard output cannot encode are escaped inside, and messages to a closed standard error go nowhere.

    What was written is out when the context ends.

    Raises
    ------
    UnwritableError
        Standard output is closed, or takes no more.
    BrokenPipeError
        Nobody reads standard output any more.
    """
    stdout, stderr = sys.stdout, sys.stderr
    if stderr is None:
        sys.stderr = _Nowhere()
    try:
        if stdout is None or stdout.closed:
            raise UnwritableError("standard output is closed")
        errors = stdout.errors if isinstance(stdout, io.TextIOWrapper) else None
        if isinstance(stdout, io.TextIOWrapper):
            stdout.reconfigure(errors=_ESCAPED)
        try:
            try:
                yield
            finally:
                _flush()
        finally:
            if isinstance(stdout, io.TextIOWrapper) and not stdout.closed:
                stdout.reconfigure(errors=errors)
    finally:
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            _abandon(sys.stderr)
        sys.stderr = stderr


def _flush() -> None:
    """Write what is buffered; what fails here would be a complaint of the interpreter at its exit."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon(sys.stdout)
        raise
    except OSError as error:
        _abandon(sys.stdout)
        raise UnwritableError(f"standard output cannot be written: {error.strerror or error}") from None


def _abandon(stream: TextIO) -> None:
    """Let go what a stream has not taken."""
    with suppress(OSError, ValueError):
        number, nowhere = stream.fileno(), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
