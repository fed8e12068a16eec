"""Elementwise tiles."""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "simd.h" nogil:
    enum: LANES

cdef void activate(int kind, const float *x, float *y, Py_ssize_t n, float alpha, float beta) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = alpha if alpha > x[i] else (beta if beta < x[i] else x[i])

cdef VectorTiles tiles
tiles.lanes = LANES
tiles.activate = activate
capsule = PyCapsule_New(&tiles, "cnnengine.tiles.vector", NULL)
