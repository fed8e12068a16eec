"""collector_paused: no collection of cyclic garbage while a model is loaded.

A load makes tens of thousands of objects that stay, and next to no cycles. Their number alone starts collections, of which the
last look at every object of the process: a fifth of the time that a file of many small nodes takes.
"""

from __future__ import annotations

import gc
import os
import threading
from types import TracebackType

_lock = threading.RLock()  # a finalizer may run in here, and load a model
_loads = 0
_paused = False


class collector_paused:
    """Pauses the collector of the process; the last of several that overlap lets it go on, if it ran before."""

    def __enter__(self) -> None:
        global _loads, _paused
        with _lock:
            if _loads == 0:
                _paused = gc.isenabled()
                if _paused:
                    gc.disable()
            _loads += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        global _loads
        with _lock:
            _loads = max(_loads - 1, 0)  # a finalizer may fork in here
            if _loads == 0:
                _resume()


def _resume() -> None:
    global _paused
    if _paused:
        _paused = False
        gc.enable()


def _forked() -> None:
    """A child lacks the threads that were loading, and may have been made while one of them held the lock."""
    global _lock, _loads
    _lock, _loads = threading.RLock(), 0
    _resume()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
