"""Data-movement tiles."""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "simd.h" nogil:
    enum: LANES

cdef MoveTiles tiles
tiles.lanes = LANES
capsule = PyCapsule_New(&tiles, "cnnengine.tiles.move", NULL)
