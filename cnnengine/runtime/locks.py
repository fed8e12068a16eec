"""Locks of objects that outlive forks: a child finds them free, though a thread that it lacks held them."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

_owners: weakref.WeakSet[Any] = weakref.WeakSet()


def own_lock(owner: Any) -> threading.Lock:
    """A lock for `owner`, to be its attribute ``_lock``; a forked child gives it another one.

    What the lock guards must be whole at every moment for a thread that does not look at the lock: the thread that held it may
    have been in the middle.
    """
    _owners.add(owner)
    return threading.Lock()


def _renew() -> None:
    for owner in list(_owners):
        owner._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
