"""Results as lines of JSON, as `predict --json` prints them."""

from __future__ import annotations

import json
import os

from ..results import json_line
from .base import Found, Lines, Mode, Outputs, Sample, no_results


class Jsonl:
    """A JSON object a line. A last line that was cut off, as by a power failure, is dropped."""

    def __init__(self, path: str, mode: Mode) -> None:
        self._done: set[str] = set()
        size = 0
        if mode is not Mode.NEW and os.path.exists(path):
            size = self._read(path, mode)
        self._lines = Lines(path)
        self._lines.cut(size)

    def _read(self, path: str, mode: Mode) -> int:
        """Take the names of samples; returns how many bytes hold whole lines."""
        size = 0
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                size += len(line)
                if not line.strip():
                    continue
                try:
                    name = json.loads(line)["input"]
                except (ValueError, KeyError, TypeError, RecursionError):
                    raise no_results(path, f"line {number}") from None
                if not isinstance(name, str):
                    raise no_results(path, f"line {number}")
                if mode is Mode.RESUME:
                    self._done.add(name)
        return size

    def has(self, sample: Sample) -> bool:
        return sample.name in self._done

    def begin(self, found: Found, outputs: Outputs) -> None:
        pass

    def write(self, sample: Sample, found: Found, outputs: Outputs) -> None:
        self._lines.add(f"{json_line(sample.name, found)}\n".encode())

    def close(self) -> None:
        self._lines.close()
