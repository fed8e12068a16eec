"""How constants are made that can be made in parts: by several threads, and giving a file's pages back in between."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ._kernels.cast import narrow
from ._kernels.pack import pack_conv, pack_panels
from .layout import ALIGNMENT, aligned_empty, is_mapped
from .weights import Computed, Half, cut

PART = 2 << 20
"""Bytes of a constant that are made at a time: so much of a file and of products with a scale is held beside what is packed."""

LINE = ALIGNMENT // 4
"""Floats between the starts of a slab's arrays, or a multiple of it."""

Empty = Callable[[int], np.ndarray]
"""Gives uninitialised memory for so many floats: 1-D, 64-byte aligned."""

Build = Callable[[Empty], np.ndarray]
"""Makes a constant; what it packs, it packs into memory from there."""


class Slab:
    """Memory of arrays that are kept together: taken from large pieces, of which the system makes huge pages.

    First touches are then a third of the time, which is as much as packing takes. The first piece is small, for small models. A
    piece is given back when no array in it is left.
    """

    FIRST = 1 << 18
    """Floats of the first piece."""
    PIECE = 1 << 22
    """Of the others."""
    LARGEST = 1 << 21
    """Of an array in them: larger ones have memory of their own."""

    def __init__(self) -> None:
        self._piece: np.ndarray | None = None
        self._at = 0

    def floats(self, n: int) -> np.ndarray:
        """An uninitialised 1-D float32 array whose data is 64-byte aligned."""
        if n > self.LARGEST:
            return aligned_empty(n)
        if self._piece is None or self._at + n > len(self._piece):
            self._piece = aligned_empty(self.FIRST if self._piece is None and n <= self.FIRST else self.PIECE)
            self._at = 0
        start = self._at
        self._at += -(-n // LINE) * LINE
        return self._piece[start : start + n]


class Scratch:
    """Memory of one thread that packs, used again from part to part: fresh memory costs as much as what is done with it."""

    def __init__(self) -> None:
        self._held = np.empty(0, np.float32)

    def floats(self, n: int) -> np.ndarray:
        """So many floats, good until the next call."""
        if self._held.size < n:
            self._held = np.empty(n, np.float32)
        return self._held[:n]


Jobs = list[Callable[[Scratch], int]]
"""Each makes a part and tells its bytes; in any order, and side by side."""


class InParts:
    """A `Build` that several threads may share; between its parts a file's pages are given back."""

    def __call__(self, empty: Empty) -> np.ndarray:
        raise NotImplementedError

    def parts(self, lanes: int, empty: Empty) -> tuple[np.ndarray, Jobs] | None:
        """Memory for the constant, by `empty`, and what fills it; None where it is made as a whole."""
        raise NotImplementedError


class Copy(InParts):
    """Makes a constant as it is, in memory that a run may read: a copy of what lies in a file."""

    def __init__(self, source: np.ndarray) -> None:
        self.source = source

    def __call__(self, empty: Empty) -> np.ndarray:
        found = self.parts(1, empty)
        if found is None:
            return self.source
        for job in found[1]:
            job(Scratch())
        return found[0]

    def parts(self, lanes: int, empty: Empty) -> tuple[np.ndarray, Jobs] | None:
        if not is_mapped(self.source):
            return None
        made = aligned_empty(self.source.size, self.source.dtype.newbyteorder("="))
        flat, step = self.source.reshape(-1), max(PART // max(self.source.itemsize, 1), 1)

        def fill(start: int) -> int:
            part = made[start : start + step]
            part[...] = flat[start : start + step]
            return part.nbytes

        return made, [lambda _, start=start: fill(start) for start in range(0, flat.size, step)]  # type: ignore[misc]


class Panels(InParts):
    """Packs weights (O, C / groups, taps...) as `pack_conv` does; what the parts make has the bits of the whole.

    Parameters
    ----------
    weights : ndarray of float32 or Computed
    channels : int
        Channels of one input plane.
    groups : int
    transposed : bool
        Whether the weights are (C, O), a matrix.
    factor : float
        Multiplies the weights, in float32.
    """

    def __init__(
        self, weights: np.ndarray | Computed, channels: int, groups: int = 1, *, transposed: bool = False, factor: float = 1.0
    ) -> None:
        self.weights, self.channels, self.groups = weights, channels, groups
        self.transposed, self.factor = transposed, np.float32(factor)

    def _rows(self, start: int, end: int, scratch: Scratch) -> np.ndarray:
        """The weights of some outputs."""
        part = cut(self.weights, 1 if self.transposed else 0, start, end)
        found = part.made(scratch.floats) if isinstance(part, Computed) else part
        if self.transposed:
            found = found.T
        if found.ndim == 2:
            found = found[:, :, None]
        return found if self.factor == 1 else found * self.factor

    def __call__(self, empty: Empty) -> np.ndarray:
        whole = self._rows(0, self.weights.shape[1 if self.transposed else 0], Scratch())
        packed: np.ndarray = pack_conv(whole, self.groups, self.channels, empty)
        return packed

    def parts(self, lanes: int, empty: Empty) -> tuple[np.ndarray, Jobs] | None:
        if self.weights.nbytes <= PART or self.groups != 1:
            return None
        shape = self.weights.shape[::-1] if self.transposed else self.weights.shape
        o, row = shape[0], math.prod(shape[1:])
        made = empty(-(-o // lanes) * lanes * row)
        step = max(PART // 4 // row // (2 * lanes), 1) * 2 * lanes

        def fill(start: int, scratch: Scratch) -> int:
            rows = self._rows(start, min(start + step, o), scratch)
            pack_panels(rows, self.channels, made, start)
            return rows.nbytes

        return made, [lambda scratch, start=start: fill(start, scratch) for start in range(0, o, step)]  # type: ignore[misc]


class HalfPanels(Panels):
    """Packs a matrix as `Panels` does and keeps it in half the size, told as uint16.

    Parameters
    ----------
    weights : Half
        (O, C), or where `transposed` (C, O).
    channels : int
    transposed : bool
    """

    def __init__(self, weights: Half, channels: int, *, transposed: bool = False) -> None:
        super().__init__(weights, channels, transposed=transposed)
        self.kind = weights.kind

    def __call__(self, empty: Empty) -> np.ndarray:
        outputs, row = self._extents()
        made = _halves(empty, -(-outputs // self.channels) * self.channels * row)
        self._fill(0, outputs, made, Scratch())
        return made

    def _extents(self) -> tuple[int, int]:
        o, row = self.weights.shape[::-1] if self.transposed else self.weights.shape
        return o, row

    def _fill(self, start: int, end: int, made: np.ndarray, scratch: Scratch) -> int:
        """Pack these outputs, the first of which begins a panel."""
        row = self._extents()[1]
        size = -(-(end - start) // self.channels) * self.channels * row
        room = scratch.floats(size + (end - start) * row)
        packed = room[:size]
        part = cut(self.weights, 1 if self.transposed else 0, start, end)
        assert isinstance(part, Half)
        rows = part.made(lambda n: room[size : size + n])
        pack_panels((rows.T if self.transposed else rows)[:, :, None], self.channels, packed, 0)
        halves = made[start * row : start * row + size]
        narrow(packed, halves, self.kind)
        if size and self.kind == "bfloat16":  # whose blocks lie in turn, number by number, in panels that have two
            pairs = halves[: size // (2 * self.channels * row) * 2 * self.channels * row].reshape(-1, 2, self.channels)
            pairs.reshape(-1, self.channels, 2)[...] = pairs.transpose(0, 2, 1).copy()
        return rows.nbytes // 2

    def parts(self, lanes: int, empty: Empty) -> tuple[np.ndarray, Jobs] | None:
        if self.weights.nbytes <= PART:
            return None
        o, row = self._extents()
        made = _halves(empty, -(-o // lanes) * lanes * row)
        step = max(PART // 4 // row // (2 * lanes), 1) * 2 * lanes

        def fill(start: int, scratch: Scratch) -> int:
            return self._fill(start, min(start + step, o), made, scratch)

        return made, [lambda scratch, start=start: fill(start, scratch) for start in range(0, o, step)]  # type: ignore[misc]


class NarrowPanels(Panels):
    """Packs weights (O, C / groups, taps...) as `Panels` does and keeps them in half the size, told as uint16.

    Parameters
    ----------
    weights : Half
    channels : int
    groups : int
    """

    def __init__(self, weights: Half, channels: int, groups: int = 1) -> None:
        super().__init__(weights, channels, groups)
        self.kind = weights.kind

    def __call__(self, empty: Empty) -> np.ndarray:
        packed = super().__call__(lambda n: np.empty(n, np.float32))
        made = _halves(empty, packed.size)
        narrow(packed, made, self.kind)
        return made

    def parts(self, lanes: int, empty: Empty) -> tuple[np.ndarray, Jobs] | None:
        if self.weights.nbytes <= PART or self.groups != 1:
            return None
        o, row = self.weights.shape[0], math.prod(self.weights.shape[1:])
        made = _halves(empty, -(-o // lanes) * lanes * row)
        step = max(PART // 4 // row // (2 * lanes), 1) * 2 * lanes

        def fill(start: int, scratch: Scratch) -> int:
            end = min(start + step, o)
            size = -(-(end - start) // lanes) * lanes * row
            room = scratch.floats(size + (end - start) * row)
            part = cut(self.weights, 0, start, end)
            assert isinstance(part, Half)
            rows = part.made(lambda n: room[size : size + n])
            pack_panels(rows.reshape(end - start, *rows.shape[1:], *(1,) * (rows.ndim == 2)), self.channels, room[:size], 0)
            narrow(room[:size], made[start * row : start * row + size], self.kind)
            return rows.nbytes // 2

        return made, [lambda scratch, start=start: fill(start, scratch) for start in range(0, o, step)]  # type: ignore[misc]


class PairPanels(Panels):
    """Packs weights (O, C / groups, taps...) rounded to bfloat16, in pairs of channels, told as uint16: as `bconv` reads them.

    Parameters
    ----------
    weights : ndarray of float32 or Computed
    lanes : int
        Of a register: the outputs of a block.
    groups : int
    """

    def __init__(self, weights: np.ndarray | Computed, lanes: int, groups: int = 1) -> None:
        super().__init__(weights, lanes, groups)
        o, c, *kernel = weights.shape
        self._taps = math.prod(kernel)
        self._row = -(-c // 2) * 2 * self._taps  # packed numbers of an output
        self._group = -(-(o // groups) // lanes) * lanes * self._row

    def _fill(self, start: int, end: int, scratch: Scratch, made: np.ndarray) -> int:
        from ._kernels.bconv import pack_pairs  # with the first plan that asks for them

        rows = np.ascontiguousarray(self._rows(start, end, scratch), np.float32)
        pack_pairs(rows.reshape(len(rows), -1, self._taps), self.groups, made)
        return rows.nbytes // 2

    def __call__(self, empty: Empty) -> np.ndarray:
        made = _halves(empty, self.groups * self._group)
        self._fill(0, self.weights.shape[0], Scratch(), made)
        return made

    def parts(self, lanes: int, empty: Empty) -> tuple[np.ndarray, Jobs] | None:
        if self.weights.nbytes <= PART or self.groups != 1:
            return None
        o, step = self.weights.shape[0], max(PART // 4 // self._row // (2 * lanes), 1) * 2 * lanes
        made = _halves(empty, self._group)

        def fill(start: int, scratch: Scratch) -> int:
            return self._fill(start, min(start + step, o), scratch, made[start * self._row :])

        return made, [lambda scratch, start=start: fill(start, scratch) for start in range(0, o, step)]  # type: ignore[misc]


def _halves(empty: Empty, n: int) -> np.ndarray:
    """Memory for so many numbers of half a float's size."""
    return empty((n + 1) // 2).view(np.uint16)[:n]
