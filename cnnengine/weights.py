"""Weights that are computed when they are packed, and never kept.

`Half` ones are held by numbers of half the size: what a file has so, and what is rounded to that. They are widened when they are
packed, or packed as they are for kernels that widen them in registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

LARGE = 1 << 16
"""Bytes from which weights are computed where they are packed, and not before."""

PIECE = 1 << 20
"""Numbers that are looked at together."""


class Computed:
    """float32 weights that are computed when they are asked for and never kept: only packed they are needed.

    Takes the place of an ndarray among a graph's constants; what an ndarray has and this does not comes from one made for the
    purpose.

    Parameters
    ----------
    source : ndarray of float32, or Computed
        What they are made of; they have its shape.
    """

    __slots__ = ("dtype", "nbytes", "ndim", "shape", "size", "source")
    dtype: np.dtype
    shape: tuple[int, ...]
    nbytes: int
    ndim: int
    size: int

    def __init__(self, source: np.ndarray | Computed) -> None:
        self.source = source
        self.shape, self.dtype, self.ndim = source.shape, source.dtype, source.ndim
        self.size, self.nbytes = source.size, source.nbytes

    def made(self, empty: Callable[[int], np.ndarray]) -> np.ndarray:
        """The values, where it can be in memory for so many floats that `empty` gives."""
        raise NotImplementedError

    def cut(self, axis: int, start: int, end: int) -> np.ndarray | Computed:
        """A range of an axis, for which no more is computed than it needs."""
        raise NotImplementedError

    def bound(self, largest: Callable[[np.ndarray | Computed], float]) -> float:
        """The largest absolute value, or not less than it, from the `largest` of what it is made of."""
        raise NotImplementedError

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        out = self.made(lambda n: np.empty(n, np.float32))
        return out if dtype is None else out.astype(dtype, copy=False)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # the protocols by which NumPy looks for an array
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self)[key]


class Scaled(Computed):
    """Weights times numbers per channel. The products are those of float64, rounded once.

    Parameters
    ----------
    source : ndarray of float32, or Computed
    scale : ndarray of float64
        Broadcasts to the source.
    """

    __slots__ = ("scale",)

    def __init__(self, source: np.ndarray | Computed, scale: np.ndarray) -> None:
        super().__init__(source)
        self.scale = scale

    def made(self, empty: Callable[[int], np.ndarray]) -> np.ndarray:
        from ._kernels.pack import scale_rows  # only here: the graph itself needs no compiled code

        source = np.asarray(self.source)
        out: np.ndarray | None = scale_rows(source, self.scale, empty)
        if out is None:
            out = np.empty_like(source)
            np.multiply(source, self.scale, out=out, casting="same_kind")
        return out

    def cut(self, axis: int, start: int, end: int) -> Scaled:
        scale, own = self.scale, axis - (self.ndim - self.scale.ndim)
        if own >= 0 and scale.shape[own] > 1:
            scale = scale[(slice(None),) * own + (slice(start, end),)]
        return Scaled(cut(self.source, axis, start, end), scale)

    def bound(self, largest: Callable[[np.ndarray | Computed], float]) -> float:
        return largest(self.source) * float(np.abs(self.scale).max())


class Half(Computed):
    """float32 weights that numbers of half the size hold exactly.

    Parameters
    ----------
    source : ndarray, or Computed
    kind : {"float16", "bfloat16"}
    """

    __slots__ = ("kind",)

    def __init__(self, source: np.ndarray | Computed, kind: str) -> None:
        super().__init__(source)
        self.kind = kind
        self.dtype = np.dtype(np.float32)
        self.nbytes = 4 * self.size

    def bits(self) -> np.ndarray:
        """The numbers as uint16, flat."""
        raise NotImplementedError

    def made(self, empty: Callable[[int], np.ndarray]) -> np.ndarray:
        from ._kernels.cast import widen

        out = empty(self.size)
        widen(self.bits(), out, self.kind)
        return out.reshape(self.shape)


class Widened(Half):
    """Weights that a file has in half precision.

    Parameters
    ----------
    source : ndarray of float16 or bfloat16
    """

    __slots__ = ()

    def __init__(self, source: np.ndarray) -> None:
        super().__init__(source, source.dtype.name)

    def bits(self) -> np.ndarray:
        found = np.ascontiguousarray(self.source)
        if not found.flags.aligned:  # a view of a file
            found = found.copy()
        return found.reshape(-1).view(np.uint16)

    def cut(self, axis: int, start: int, end: int) -> Widened:
        part = cut(self.source, axis, start, end)
        assert isinstance(part, np.ndarray)
        return Widened(part)

    def bound(self, largest: Callable[[np.ndarray | Computed], float]) -> float:
        bits, most = self.bits(), 0  # without their signs, floats and their bits are in one order, NaN last
        for start in range(0, self.size, PIECE):
            most = max(most, int((bits[start : start + PIECE] & 0x7FFF).max()))
        from ._kernels.cast import widen

        value = np.empty(1, np.float32)
        widen(np.array([most], np.uint16), value, self.kind)
        return float(value[0])


class Rounded(Half):
    """float32 weights that are rounded to the nearest numbers of half the size, halves to even."""

    __slots__ = ()

    def bits(self) -> np.ndarray:
        from ._kernels.cast import narrow

        found = np.ascontiguousarray(self.source, np.float32)
        if not found.flags.aligned:
            found = found.copy()
        out = np.empty(self.size, np.uint16)
        narrow(found.reshape(-1), out, self.kind)
        return out

    def cut(self, axis: int, start: int, end: int) -> Rounded:
        return Rounded(cut(self.source, axis, start, end), self.kind)

    def bound(self, largest: Callable[[np.ndarray | Computed], float]) -> float:
        return largest(self.source) * (1 + 2.0**-8)


def widened(values: np.ndarray) -> Any:
    """float16 or bfloat16 as float32: at once, or of large ones where they are packed."""
    if 2 * values.nbytes < LARGE:
        return values.astype(np.float32)
    return Widened(values)


class Summed(Computed):
    """Weights with others added to a part of them.

    Parameters
    ----------
    source : ndarray of float32, or Computed
    part : tuple
        An index of the source, each element at most once: for the first two axes whole ones, or arrays of numbers.
    added : ndarray, or Computed
        What is added there.
    """

    __slots__ = ("added", "part")

    def __init__(self, source: np.ndarray | Computed, part: tuple[Any, ...], added: np.ndarray | Computed) -> None:
        super().__init__(source)
        self.part, self.added = part, added

    def made(self, empty: Callable[[int], np.ndarray]) -> np.ndarray:
        out = empty(self.size).reshape(self.shape)
        out[...] = self.source
        out[self.part] += np.asarray(self.added)
        return out

    def cut(self, axis: int, start: int, end: int) -> Summed:
        source, here = cut(self.source, axis, start, end), self.part[axis]
        if isinstance(here, slice):
            return Summed(source, self.part, cut(self.added, axis, start, end))
        inside = (here >= start) & (here < end)
        part = [p[inside] if isinstance(p, np.ndarray) else p for p in self.part]
        part[axis] = part[axis] - start
        return Summed(source, tuple(part), self.added[inside])

    def bound(self, largest: Callable[[np.ndarray | Computed], float]) -> float:
        return largest(self.source) + largest(self.added)


def cut(weights: np.ndarray | Computed, axis: int, start: int, end: int) -> np.ndarray | Computed:
    """A range of an axis of weights."""
    if isinstance(weights, Computed):
        return weights.cut(axis, start, end)
    return weights[(slice(None),) * axis + (slice(start, end),)]
