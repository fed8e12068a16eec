"""Limits: how much a model may ask for, and the one place where what it asks for is counted.

A file of a hundred bytes can ask for more memory and time than any machine has. Whoever opens it says how much it may have, by
a `Limits`, which holds for loading it and for its runs. Every loop and every piece of memory that grows with a number of the
file is counted here, before it is made (`check`, `use`), and `look` ends a load that takes too long.

What is counted belongs to one load or one run, on one thread: `within` begins an account, and whatever runs inside of it on that
thread is on it. Without one the limits are the default's.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from contextvars import ContextVar, Token
from functools import cache
from types import TracebackType
from typing import Any

from .arguments import integer, number
from .errors import InputError, LimitError
from .records import dataclass, fields_of

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30


def _read(path: str) -> int | None:
    """The number in a file; None where there is none ("max" is none)."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read().strip()
    except OSError:
        return None
    return int(text) if text.isascii() and text.isdigit() else None


def memory(root: str = "/") -> int:
    """Bytes that this process may have: the least of the machine's memory, its control groups' and its address space's limits."""
    found: list[int | None] = []
    with suppress(AttributeError, OSError, ValueError):  # not every system tells
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    try:
        import resource

        for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            soft = resource.getrlimit(kind)[0]
            found.append(None if soft == resource.RLIM_INFINITY else soft)
    except ImportError:
        pass
    try:
        with open(os.path.join(root, "proc/self/cgroup"), encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        lines = []
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        base = os.path.join(root, "sys/fs/cgroup", "memory" if controllers else "")
        # inside of a container the path may be the host's: what is mounted then is the container's own group, at the base
        parts = [part for part in path.split("/") if part not in ("", ".")]
        for count in range(len(parts), -1, -1):
            folder = os.path.join(base, *parts[:count])
            found.append(_read(os.path.join(folder, "memory.limit_in_bytes" if controllers else "memory.max")))
    known = [n for n in found if n is not None and n > 0]
    return min(known, default=1 << 40)


@cache
def _memory() -> int:
    return memory()


def _share(part: float, least: int = 0) -> int:
    return max(int(_memory() * part), least)


@dataclass(frozen=True)
class Limits:
    """How much a model may ask for while it is loaded and run; what is more is a `LimitError`.

    The defaults are for files of one's own: what they allow may take all of the machine for a while, but ends. Sizes are parts of
    the memory that the process may have (of the machine, its control group, its address space). `Limits.strict()` is for files
    of strangers.

    Attributes
    ----------
    file_bytes : int
        Of the model's file and of external data, together.
    nodes : int
        Nodes of the file, those of graphs inside of nodes and of functions counted.
    expanded_nodes, expanded_bytes : int
        What calls of functions expand to.
    tensor_bytes : int
        Of one tensor that is computed; the file's own have what `file_bytes` allows.
    total_bytes : int
        Of constants that loading makes beside the file's: folded ones, sparse ones that become dense.
    arena_bytes : int
        Of the intermediate results of one plan, with what kernels need beside; and of its outputs, together.
    steps : int
        Calls of kernels in one plan.
    phases : int
        Parts that the strides of one ConvTranspose cut its output into.
    loop_trips : int
        Rounds of all loops in one run.
    load_seconds : float
        Of loading, and of each plan that is made later. Looked at between nodes and rewrites.
    """

    file_bytes: int = 0
    nodes: int = 1 << 18
    expanded_nodes: int = 1 << 16
    expanded_bytes: int = 256 * MB
    tensor_bytes: int = 0
    total_bytes: int = 0
    arena_bytes: int = 0
    steps: int = 1 << 16
    phases: int = 1 << 13
    loop_trips: int = 1 << 18
    load_seconds: float = 900.0

    def __post_init__(self) -> None:
        values = self.__dict__
        for name in fields_of(Limits):
            if name == "load_seconds":
                values[name] = number(values[name], name)
                if not values[name] > 0:
                    raise InputError("is out of range", tensor=name, expected="> 0", received=values[name])
            elif values[name] == 0 and name in SHARES and type(values[name]) is int:
                values[name] = _share(*SHARES[name])
            elif values[name] != math.inf:
                values[name] = integer(values[name], name, 1, None)

    @classmethod
    def strict(cls, **changes: Any) -> Limits:
        """For a stranger's file: a network of ordinary size passes, and what it can take is little.

        Parameters
        ----------
        **changes
            Limits that are to be others.
        """
        strict: dict[str, Any] = {
            "file_bytes": 2 * GB,
            "nodes": 1 << 15,
            "expanded_nodes": 1 << 14,
            "expanded_bytes": 64 * MB,
            "tensor_bytes": min(GB, _share(1 / 8)),
            "total_bytes": min(GB, _share(1 / 8)),
            "arena_bytes": min(2 * GB, _share(1 / 4)),
            "steps": 1 << 14,
            "phases": 1 << 12,
            "loop_trips": 10_000,
            "load_seconds": 60.0,
        }
        return cls(**{**strict, **changes})


SHARES: dict[str, tuple[float, int]] = {
    "file_bytes": (2.0, 16 * GB),
    "tensor_bytes": (0.25, 0),
    "total_bytes": (0.5, 0),
    "arena_bytes": (0.5, 0),
}
"""Limits that are parts of the memory where nobody names them, and what they are at least."""


class Account:
    """What one load or one run has used so far of its limits."""

    __slots__ = ("deadline", "limits", "used")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.used: dict[str, int] = {}
        self.deadline = time.monotonic() + limits.load_seconds


_account: ContextVar[Account | None] = ContextVar("cnnengine_limits", default=None)


@cache
def default() -> Limits:
    """The limits that hold where nobody names others."""
    return Limits()


def current() -> Limits:
    """The limits that hold on this thread now."""
    account = _account.get()
    return default() if account is None else account.limits


class within:
    """Context in which these limits hold, with an account of its own unless one of them is open already."""

    __slots__ = ("_limits", "_token")

    def __init__(self, limits: Limits | None) -> None:
        self._limits = limits
        self._token: Token[Account | None] | None = None

    def __enter__(self) -> None:
        account = _account.get()
        limits = default() if self._limits is None else self._limits
        if account is None or account.limits is not limits:
            self._token = _account.set(Account(limits))

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._token is not None:
            _account.reset(self._token)


def check(limit: str, asked: float, **where: str | None) -> None:
    """Raise LimitError where a model asks for more than this limit; `where` is what `CNNEngineError` takes."""
    most = getattr(current(), limit)
    if asked > most:
        raise exceeded(limit, asked, most, **where)


def use(limit: str, more: int, **where: str | None) -> None:
    """`check` for what is used up piece by piece."""
    account = _account.get()
    if account is None:
        return check(limit, more, **where)
    used = account.used[limit] = account.used.get(limit, 0) + more
    most = getattr(account.limits, limit)
    if used > most:
        raise exceeded(limit, used, most, **where)
    return None


def left(limit: str) -> float:
    """How much of it is not used up yet, for work that can be left undone."""
    account = _account.get()
    if account is None:
        return getattr(default(), limit)  # type: ignore[no-any-return]
    return getattr(account.limits, limit) - account.used.get(limit, 0)  # type: ignore[no-any-return]


def look(**where: str | None) -> None:
    """Raise LimitError where a load takes longer than it may."""
    account = _account.get()
    if account is not None and time.monotonic() > account.deadline:
        most = account.limits.load_seconds
        raise exceeded("load_seconds", round(most + time.monotonic() - account.deadline, 3), most, **where)


def exceeded(limit: str, asked: object, most: float, **where: str | None) -> LimitError:
    """The error of a model that asks for more than a limit."""
    expected = f"at most {most}, or limits=Limits({limit}=...) with more"
    error = LimitError(f"the model asks for more than the limit {limit} allows", expected=expected, received=asked, **where)
    error.limit = limit
    return error
