# Tiles of one instruction set for numbers of half the size: pointers only. They are told as uint16_t: float16, or bfloat16.

from libc.stdint cimport uint16_t

cdef enum:
    FLOAT16 = 0
    BFLOAT16 = 1

# y[i] = x[i] for i < n, exact; NaNs keep sign and bits.
ctypedef void (*widen_fn)(const uint16_t *x, float *y, Py_ssize_t n) noexcept nogil

# y[i] = x[i] for i < n, to the nearest, halves to even, beyond the largest infinite; NaNs stay NaNs: float16 with the upper bits
# of theirs, bfloat16 the quiet one of the sign.
ctypedef void (*narrow_fn)(const float *x, uint16_t *y, Py_ssize_t n) noexcept nogil

cdef struct half_tile_t:
    const float *x                      # first of the rows
    Py_ssize_t xstep                    # floats between rows
    const uint16_t *w                   # panels [k][2 * LANES], of bfloat16 [k][LANES][2]; a last one of one block [k][LANES]
    Py_ssize_t k
    const float *bias                   # one for each output of the tile
    const float *residual               # added before the clip, or NULL
    float *y
    Py_ssize_t rstep, ystep             # floats between rows
    float low, high

# y = min(max(bias + x w + residual, low), high) for 1 to HALF_ROWS rows and `panels` panels: 1, 2 and 4 for one row, 1 and 2 for two, else 1; with
# `single`, one panel of one block. A sum runs over k in its order, so neither rows nor panels change its bits.
ctypedef void (*half_dense_fn)(int rows, int panels, bint single, const half_tile_t *t) noexcept nogil

cdef struct HalfTiles:
    int lanes
    int rows                            # of x at most that a tile takes
    widen_fn widen[2]                   # FLOAT16, BFLOAT16
    narrow_fn narrow[2]
    half_dense_fn dense[2]
