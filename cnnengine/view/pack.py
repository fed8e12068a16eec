"""Numbers in a page: compressed, as text, within a budget of bytes that all layers share.

A chunk is an array whose bytes are sorted by their place in a number (exponents of neighbours are alike, so that they pack), by
zlib, in base64. The page takes it apart again with code of its own, when it is looked at.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence

import numpy as np

OVERHEAD = 60
"""Bytes of a chunk's element in the page."""
TEXT = 4 / 3
"""Bytes of base64 for a byte."""
FULL = 0.94
"""What random floats pack to."""


def packed(array: np.ndarray, level: int = 6) -> str:
    """The text of a chunk."""
    data = np.ascontiguousarray(array)
    size = data.dtype.itemsize
    raw = data.astype(data.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8)
    if size > 1:
        raw = np.ascontiguousarray(raw.reshape(-1, size).T)
    return base64.b64encode(zlib.compress(raw.tobytes(), level)).decode("ascii")


def floats(array: np.ndarray) -> np.ndarray:
    """The array in float32, or in float64 where that has not all of its numbers."""
    wide = np.asarray(array)
    if wide.dtype == np.float32:
        return wide
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = wide.astype(np.float32)
        return (
            narrow
            if np.array_equal(narrow.astype(np.float64), wide.astype(np.float64), equal_nan=True)
            else wide.astype(np.float64)
        )


class Store:
    """Chunks of a page, no more than fit.

    Parameters
    ----------
    budget : int
        Bytes that chunks may take.
    """

    def __init__(self, budget: int) -> None:
        self.left = budget
        self.chunks: list[str] = []

    def fits(self, text: str) -> bool:
        return len(text) + OVERHEAD <= self.left

    def add(self, text: str) -> int:
        """Keep a chunk and give its number; that it fits was asked before."""
        self.left -= len(text) + OVERHEAD
        self.chunks.append(text)
        return len(self.chunks) - 1


def estimate(shape: Sequence[int], itemsize: int = 4) -> float:
    """Bytes in the page that an array takes at most, about."""
    size = itemsize
    for n in shape:
        size *= n
    return size * FULL * TEXT + OVERHEAD


def shares(wanted: Sequence[float], total: float) -> list[float]:
    """What each gets of a total: all the same, and what one does not need goes on to the others."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    got = [0.0] * len(wanted)
    left = total
    for done, i in enumerate(order):
        got[i] = min(wanted[i], max(left, 0) / (len(order) - done))
        left -= got[i]
    return got
