"""What is seen of a tensor at a glance: its numbers in a few figures, and its maps in small, in 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .layers import Shown

BINS = 36
SIDE = 56
"""Rows and columns of a small map at most."""
LENGTH = 256
"""Columns of a map of one row."""
MOST = 256
"""Maps of a layer that are kept in small, the strongest."""
SILENT = 0.0


@dataclass
class Small:
    """Maps of a tensor in small.

    Attributes
    ----------
    numbers : ndarray of int32
        Which maps, the strongest first.
    codes : ndarray of uint8 (maps, rows, columns)
    """

    numbers: np.ndarray
    codes: np.ndarray

    def part(self, count: int, side: int) -> Small:
        """Fewer of them, of fewer rows and columns."""
        return Small(self.numbers[:count], lessened(self.codes[:count].astype(np.float32), side).round().astype(np.uint8))


def figures(value: np.ndarray, shown: Shown) -> dict[str, Any]:
    """Least, largest and mean, share of zeros, silent maps, numbers that are not finite, and a histogram."""
    flat = np.asarray(value).reshape(-1).astype(np.float64)
    finite = np.isfinite(flat)
    bad = int(flat.size - finite.sum())
    flat = flat[finite] if bad else flat
    if not flat.size:
        return {"bad": bad, "count": int(value.size)}
    low, high = float(flat.min()), float(flat.max())
    edges = (low, high) if high > low else (low - 0.5, high + 0.5)
    maps = shown.of(value) if value.ndim else np.asarray(value).reshape(1, 1, 1)
    found: dict[str, Any] = {
        "count": int(value.size),
        "min": low,
        "max": high,
        "mean": float(flat.mean()),
        "std": float(flat.std()),
        "zeros": float((flat == 0).mean()),
        "bad": bad,
        "hist": [int(v) for v in np.histogram(np.clip(flat, *edges), BINS, edges)[0]] if np.isfinite(high - low) else [],
    }
    if len(maps) > 1:
        found["silent"] = int((np.abs(maps.astype(np.float64)).reshape(len(maps), -1).max(axis=1) == SILENT).sum())
    return found


def scale_of(stats: dict[str, Any]) -> tuple[float, float]:
    """The numbers that the codes 0 and 254 stand for: symmetric around 0 where there are numbers of both signs."""
    low, high = stats.get("min", 0.0), stats.get("max", 0.0)
    if low < 0 < high:
        most = max(-low, high)
        return -most, most
    if low >= 0:
        return 0.0, high or 1.0
    return low, 0.0


def small(value: np.ndarray, shown: Shown, stats: dict[str, Any]) -> tuple[Small, np.ndarray]:
    """The maps in small, and how strong each of all is (the mean of its magnitudes)."""
    maps = shown.of(value).astype(np.float32) if value.ndim else np.asarray(value, np.float32).reshape(1, 1, 1)
    maps = np.nan_to_num(maps, nan=0.0, posinf=stats.get("max", 0.0), neginf=stats.get("min", 0.0))
    with np.errstate(over="ignore"):
        strength = np.abs(maps).reshape(len(maps), -1).mean(axis=1, dtype=np.float64).astype(np.float32)
    order = np.argsort(-strength, kind="stable")[:MOST].astype(np.int32)
    low, high = scale_of(stats)
    side = LENGTH if maps.shape[1] == 1 else SIDE
    with np.errstate(over="ignore", invalid="ignore"):
        levels = (lessened(maps[order], side).astype(np.float64) - low) * (254 / (high - low))
    codes = np.clip(np.rint(np.nan_to_num(levels)), 0, 254).astype(np.uint8)
    return Small(order, codes), strength


def lessened(maps: np.ndarray, side: int) -> np.ndarray:
    """Maps of at most so many rows and columns: means of what falls together."""
    for axis in (1, 2):
        n = maps.shape[axis]
        if n > side:
            edges = (np.arange(side) * n) // side
            counts = np.diff(np.append(edges, n)).astype(np.float32)
            sums = np.add.reduceat(maps, edges, axis=axis)
            maps = sums / (counts[:, None] if axis == 1 else counts)
    return maps
