"""limited: NumPy's BLAS held to as many threads as a run has.

Nodes without a compiled kernel run in NumPy, whose matrix products go to OpenBLAS: it has threads of its own, one for each CPU,
that know nothing of `threads` and spin between products. OpenBLAS has one count for the process. So what is set here, the least
of what the runs under way may use, holds for all threads of the process as long as a run with such nodes lasts, and the last one
sets it back. Where NumPy came with another library (Accelerate, MKL, a BLAS without threads) nothing is limited.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import threading
from collections.abc import Callable
from functools import cache
from types import TracebackType

NAMES = (
    "scipy_openblas_%s_num_threads64_",
    "scipy_openblas_%s_num_threads",
    "openblas_%s_num_threads64_",
    "openblas_%s_num_threads",
)
"""OpenBLAS's functions: NumPy's wheels have a prefix of their own, and there is a suffix where integers have 64 bits."""

_lock = threading.RLock()  # a finalizer may run in here, and run a model
_held: list[int] = []  # what each of those that hold it may use
_before = 0  # what was set when the first of them came ...
_set = 0  # ... and what they set


class limited:
    """Context manager: in here NumPy's BLAS uses at most so many threads."""

    __slots__ = ("_threads",)

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def __enter__(self) -> None:
        global _before
        count = _functions()
        if count is None:
            return
        with _lock:
            if not _held:
                _before = count[0]()
            _held.append(self._threads)
            _apply(count)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        count = _functions()
        if count is None:
            return
        with _lock:
            if self._threads in _held:  # not in a child that was made in here
                _held.remove(self._threads)
                _apply(count)


def _apply(count: tuple[Callable[[], int], Callable[[int], None]]) -> None:
    """Set what the holders may use; with `_lock` held."""
    global _set, _before
    now = count[0]()
    if _set and now != _set:
        _before = now  # somebody else set it meanwhile, and means it
    wanted = min([_before, *_held])
    if wanted != now:
        count[1](wanted)
    _set = wanted if _held else 0


@cache
def _functions() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """OpenBLAS's functions that get and set its count of threads, in the library that NumPy uses; None where there are none.

    A library that is found by the extension module that needs it is the one that NumPy calls, however many others there are.
    """
    for module in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):
        try:
            library = ctypes.CDLL(importlib.import_module(module).__file__)
        except (ImportError, OSError, TypeError):
            continue
        for name in NAMES:
            try:
                get, put = (getattr(library, name % what) for what in ("get", "set"))
            except AttributeError:
                continue
            get.restype, get.argtypes = ctypes.c_int, []
            put.restype, put.argtypes = None, [ctypes.c_int]
            return get, put
    return None


def _forked() -> None:
    """A child lacks the threads that held the limit, and may have been made while one of them held the lock."""
    global _lock, _set
    _lock = threading.RLock()
    if _held:
        _held.clear()
        count = _functions()
        if count is not None and count[0]() == _set:
            count[1](_before)
        _set = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
