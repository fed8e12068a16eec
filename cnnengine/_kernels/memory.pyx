# cython: language_level=3
"""Memory of what is packed."""

import threading

import numpy as np


cdef class Slab:
    """Memory of arrays that are kept together: taken from large pieces, of which the system makes huge pages.

    First touches are then a third of the time, which is as much as packing takes. The first piece is small, for small models. A
    piece is given back when no array in it is left.
    """

    cdef object piece
    cdef Py_ssize_t at

    def __init__(self):
        self.piece = None
        self.at = 0

    def floats(self, Py_ssize_t n):
        """An uninitialised 1-D float32 array whose data is 64-byte aligned."""
        if n > SLAB_LARGEST:
            return own_floats(n, HUGE_PAGE)
        if self.piece is None or self.at + n > self.piece.shape[0]:
            small = self.piece is None and n <= SLAB_FIRST
            self.piece = own_floats(SLAB_FIRST) if small else own_floats(SLAB_PIECE, HUGE_PAGE)
            self.at = 0
        start = self.at
        self.at += (n + 15) & ~<Py_ssize_t>15
        return self.piece[start : start + n]


cdef enum:
    SLAB_FIRST = 1 << 18        # floats of a slab's first piece
    SLAB_PIECE = 1 << 22        # of the others
    SLAB_LARGEST = 1 << 21      # of an array in them
    HUGE_PAGE = 2 << 20         # bytes; NumPy asks the system for them where an array has twice as many

_packing = threading.local()


def pack_into(slab):
    """Take the memory of what this thread packs from a Slab, until it is None."""
    _packing.slab = slab



cdef object aligned_floats(Py_ssize_t n):
    """An uninitialised 1-D float32 array whose data is 64-byte aligned, of the Slab in use if there is one."""
    slab = getattr(_packing, "slab", None)
    return own_floats(n) if slab is None else slab.floats(n)


cdef object own_floats(Py_ssize_t n, Py_ssize_t alignment=64):
    """An uninitialised 1-D float32 array whose data is aligned to so many bytes."""
    raw = np.empty(n + alignment // 4, np.float32)
    cdef float[::1] whole = raw
    cdef Py_ssize_t start = (alignment - <Py_ssize_t>(<size_t>&whole[0] % alignment)) % alignment // 4
    return raw[start : start + n]
