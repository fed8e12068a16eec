"""Tiles of products of quantised numbers."""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE

from cnnengine._kernels.simd cimport *

cdef QConvTiles tiles
tiles.lanes = LANES
capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
