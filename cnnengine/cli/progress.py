"""How far a long command has come: one line on a terminal, rewritten in place."""

from __future__ import annotations

import os
import time
from typing import TextIO

MANY = 10
"""Inputs from which on progress is worth a line."""
PAUSE = 0.1
"""Seconds between two writings of it."""
WIDTH = 80
"""Columns of a terminal that does not say how wide it is."""


class StatusLine:
    """What is being done, in place of the last such line, where `stream` is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shows = stream.isatty()
        self._visible = False

    @property
    def shows(self) -> bool:
        """Whether anybody sees it."""
        return self._shows

    @property
    def visible(self) -> bool:
        """Whether it stands on the terminal now."""
        return self._visible

    def tell(self, text: str) -> None:
        """Write the line, as much of it as the terminal is wide."""
        if not self._shows:
            return
        try:
            width = os.get_terminal_size(self._stream.fileno()).columns or WIDTH
        except (OSError, ValueError):
            width = WIDTH
        self._stream.write(f"\r{text[: width - 1]}\x1b[K")
        self._stream.flush()
        self._visible = True

    def clear(self) -> None:
        """Take the line away: before other output, and at the end."""
        if self._visible:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._visible = False


class Progress:
    """Counts inputs, and shows the count when `stream` is a terminal and there are many.

    Parameters
    ----------
    total : int
    stream : text stream
        Usually standard error: standard output carries the results.
    """

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total = total
        self._line = StatusLine(stream)
        self._shows = total >= MANY and self._line.shows
        self._done = self._failed = 0
        self._hidden = False
        self._started = self._written = time.monotonic()

    def step(self, count: int = 1, failed: int = 0) -> None:
        """Count inputs as done, and some of what they hold as failed."""
        self._done += count
        self._failed += failed
        now = time.monotonic()
        if self._shows and (self._hidden or now - self._written >= PAUSE):
            self._show(now)

    def skip(self) -> None:
        """Take an input from the total: nothing is to be done for it."""
        self._total -= 1

    def clear(self) -> None:
        """Take the line away: before other output, and at the end. The next step shows it again."""
        self._hidden = self._hidden or self._line.visible
        self._line.clear()

    def _show(self, now: float) -> None:
        rate = self._done / max(now - self._started, 1e-9)
        left = "" if not self._done else f", {duration((self._total - self._done) / rate)} left"
        failed = f", {self._failed} failed" if self._failed else ""
        self._line.tell(f"{self._done}/{self._total} inputs, {rate:.1f} a second{left}{failed}")
        self._written, self._hidden = now, False


def duration(seconds: float) -> str:
    """A time for people: seconds up to two minutes, then minutes, then hours and minutes."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
