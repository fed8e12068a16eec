"""Pooling tiles."""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "simd.h" nogil:
    enum: LANES

cdef PoolTiles tiles
tiles.lanes = LANES
capsule = PyCapsule_New(&tiles, "cnnengine.tiles.pool", NULL)
