"""Tiles of quantised numbers, but for products."""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE

from cnnengine._kernels.simd cimport *

cdef QVectorTiles tiles
tiles.lanes = LANES
capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
