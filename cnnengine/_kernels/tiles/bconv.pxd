# Tiles of products of bfloat16 numbers: pointers only. The numbers are told as uint16_t.

from libc.stdint cimport uint16_t

from cnnengine._kernels.tiles.words cimport word_tile_fn

cdef enum:
    B_HALVES = 0                        # results are rounded to bfloat16
    B_FLOATS = 1                        # results are float32

cdef struct BConvTiles:
    int lanes                           # 0 where the instruction set has no such products
    int width[3]                        # widest tile of B output blocks
    word_tile_fn tile[3]
    # n floats as bfloat16, to the nearest, halves to even; numbers below the least normal one may become zeros
    void (*narrow)(const float *x, uint16_t *y, Py_ssize_t n) noexcept nogil
    double (*pair_loop)(long n) noexcept nogil      # returns the floating-point operations that it did
