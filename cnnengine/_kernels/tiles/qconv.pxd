# Tiles of products of quantised numbers: pointers only.

from libc.stdint cimport int16_t, uint8_t

from cnnengine._kernels.tiles.words cimport word_tile_fn

cdef enum:
    Q_BYTES = 0                         # results are quantised again, to uint8
    Q_FLOATS = 1                        # results are float32
    Q_SUMS = 2                          # results are the sums, int32

cdef struct QConvTiles:
    int lanes
    int step                            # channels that a word of x and a lane of w hold: 4 bytes, or 2 numbers of 16 bits
    int flip                            # whether a byte of x becomes signed on its way, 128 less
    int width[3]                        # widest tile of B output blocks
    word_tile_fn tile[3]
    # n bytes less `zero`, as numbers of 16 bits
    void (*widen)(const uint8_t *x, int16_t *y, Py_ssize_t n, int zero) noexcept nogil
    double (*dot_loop)(long n) noexcept nogil       # returns the operations that it did, two a product
