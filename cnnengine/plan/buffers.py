"""Buffers: the pieces of memory that kernel calls of a plan work on, before they lie anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..layout import NO_HALO, Halo, View

WHOLE = (-1,)
"""The shape of a reference to all of a constant, whose size is known when it is packed."""


@dataclass(eq=False)
class Buffer:
    """One piece of memory.

    Attributes
    ----------
    kind : {"arena", "constant", "input", "output"}
    shape, dtype : of the tensor that it was made for
    lanes, groups, halo, fill : its layout, as a View has it; lanes 0 is plain
    array : the values of a constant, flat and aligned, once it is packed
    slot : number of the input or output
    fault : (node, operator, text, tensor) where it holds the words in which a step reports bad inputs
    parent, block : the buffer that it is a range of channel blocks of, and the first of them (see plan.place)
    """

    kind: str
    shape: tuple[int, ...]
    dtype: np.dtype
    lanes: int = 0
    groups: int = 1
    halo: Halo = NO_HALO
    fill: int = 0
    array: np.ndarray | None = None
    slot: int = -1
    parent: Buffer | None = None
    block: int = 0
    fault: tuple[str, str, str, str] | None = None

    def place(self) -> tuple[Buffer, int]:
        """The buffer that this one lies in at last (itself, unless placed) and the first of its channel blocks there."""
        buffer, block = self, 0
        while buffer.parent is not None:
            block += buffer.block
            buffer = buffer.parent
        return buffer, block


@dataclass(frozen=True, eq=False)
class BufferRef:
    """A buffer under a shape (several shapes may name one plain buffer)."""

    buffer: Buffer
    shape: tuple[int, ...]

    def reshaped(self, shape: tuple[int, ...]) -> BufferRef:
        """The same plain buffer under another shape of as many elements."""
        return BufferRef(self.buffer, tuple(shape))

    def view(self) -> View:
        b = self.buffer
        if not b.lanes:
            return View.plain(b.shape if self.shape == WHOLE else self.shape, b.dtype)
        if b.parent is None:
            return _planes(b, b)
        root = b.place()[0]
        return _planes(b, root).within(_planes(root, root))

    def start(self) -> int:
        """Bytes from the start of the buffer's memory to the view: those of the blocks before it where it is placed."""
        root, block = self.buffer.place()
        return block * _planes(root, root).sp * root.dtype.itemsize if block else 0


def _planes(buffer: Buffer, root: Buffer) -> View:
    """The view of a buffer with the halo of the one that it lies in."""
    return View.planes(buffer.shape, buffer.lanes, root.halo, buffer.groups, buffer.dtype, root.fill)
