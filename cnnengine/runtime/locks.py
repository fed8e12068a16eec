"""Locks of objects that outlive forks: a child finds them free, though a thread that it lacks held them; and imports that forks
wait for."""

from __future__ import annotations

import importlib
import os
import threading
import weakref
from contextlib import AbstractContextManager, suppress
from importlib import _bootstrap
from typing import Any

_owners: weakref.WeakSet[Any] = weakref.WeakSet()


def own_lock(owner: Any) -> AbstractContextManager[bool]:
    """A lock for `owner`, to be its attribute ``_lock``; a forked child gives it another one.

    What the lock guards must be whole at every moment for a thread that does not look at the lock: the thread that held it may
    have been in the middle. So may the thread that takes it, which may hold it already: signal handlers and finalizers run models
    too.
    """
    _owners.add(owner)
    return threading.RLock()


PARTS = ("cnnengine", "onnx", "ml_dtypes")
"""What a load imports when it first needs it."""


def _under_way() -> list[str]:
    """Modules of these packages that other threads are importing."""
    locks: Any = getattr(_bootstrap, "_module_locks", {})
    found = []
    for name, reference in list(locks.items()):
        lock = reference() if name.partition(".")[0] in PARTS else None
        if getattr(lock, "owner", None) not in (None, threading.get_ident()):
            found.append(name)
    return found


def _settle() -> None:
    """Wait for imports that other threads are in the middle of: a child would wait for them for ever."""
    for _ in range(SETTLED):
        names = _under_way()
        if not names:
            break
        for name in names:
            with suppress(Exception):  # it fails in the thread that wants it
                importlib.import_module(name)


SETTLED = 100
"""Rounds of looking for imports, each of which may have begun another."""


def _renew() -> None:
    for owner in list(_owners):
        owner._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_settle, after_in_child=_renew)
