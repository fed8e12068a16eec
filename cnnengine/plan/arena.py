"""Where buffers lie in the arena: they share memory when their lives do not meet.

Sorted by size, each takes the lowest gap that is free while it lives (greedy by size).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..layout import ALIGNMENT

FEW = 192
"""Buffers up to which Python places them as quickly as NumPy does."""


@dataclass(eq=False)
class Life:
    """A buffer: the first and the last item of the plan that touch it, its size, and where it lies once it is placed."""

    first: int
    last: int
    nbytes: int
    offset: int = -1


def _assign_many(lives: list[Life]) -> int:
    """As `assign`, to the same offsets: one step over arrays for each buffer in place of one over all buffers."""
    table = np.empty((4, len(lives)), np.int64)  # of the placed ones, by offset: first and last item, offset, end
    total = 0
    for count, life in enumerate(sorted(lives, key=lambda v: -v.nbytes)):
        first, last, offset, end = table[:, :count]
        beside = np.flatnonzero((first <= life.last) & (life.first <= last))
        reached = np.zeros(len(beside) + 1, np.int64)
        np.maximum.accumulate(end[beside], out=reached[1:])
        gaps = np.flatnonzero(reached[:-1] + life.nbytes <= offset[beside])
        life.offset = int(reached[gaps[0] if len(gaps) else -1])
        after = life.offset + -(-life.nbytes // ALIGNMENT) * ALIGNMENT
        at = int(np.searchsorted(offset, life.offset, side="right"))
        table[:, at + 1 : count + 1] = table[:, at:count].copy()
        table[:, at] = life.first, life.last, life.offset, after
        total = max(total, after)
    return total


def assign(lives: list[Life]) -> int:
    """Offsets for buffers by their lives; returns the bytes of the arena."""
    if len(lives) > FEW:
        return _assign_many(lives)
    placed: list[Life] = []
    total = 0
    for life in sorted(lives, key=lambda v: -v.nbytes):
        at = 0
        for other in sorted((p for p in placed if p.first <= life.last and life.first <= p.last), key=lambda p: p.offset):
            if at + life.nbytes <= other.offset:
                break
            at = max(at, other.offset + -(-other.nbytes // ALIGNMENT) * ALIGNMENT)
        life.offset = at
        placed.append(life)
        total = max(total, at + -(-life.nbytes // ALIGNMENT) * ALIGNMENT)
    return total
