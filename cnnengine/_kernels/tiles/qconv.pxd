# Tiles of products of quantised numbers: pointers only.

from libc.stdint cimport int16_t, int32_t, uint8_t

cdef enum:
    Q_BYTES = 0                         # results are quantised again, to uint8
    Q_FLOATS = 1                        # results are float32
    Q_SUMS = 2                          # results are the sums, int32

cdef struct qconv_tile_t:
    const char *x                       # first pixel of the tile in the first plane: a pixel is some words of 32 bits
    const char *w                       # weights of this panel
    const int32_t *bias                 # per output channel of the tile
    const float *ratio                  # per output channel: what a unit of a sum is in steps of y, or in y's own numbers
    const float *offset                 # for floats: added after that, per output channel, or NULL
    char *y                             # first output pixel in the first block
    const uint8_t *residual             # added before the second quantisation, or NULL; same first pixel
    const Py_ssize_t *taps              # offset of every kernel tap from x, in bytes
    Py_ssize_t n_taps
    Py_ssize_t planes                   # whole input planes
    Py_ssize_t steps                    # words of a pixel of a whole plane
    Py_ssize_t partial                  # words of a pixel of one more plane, or 0
    Py_ssize_t xplane, xstep            # bytes between planes; between neighbouring pixels of the tile
    Py_ssize_t yplane, ystep            # bytes between output blocks, between output pixels
    Py_ssize_t rplane, rstep
    const char *ahead                   # weights to fetch into the second-level cache meanwhile
    Py_ssize_t ahead_lines              # 64-byte lines of them per tap
    int mode                            # Q_BYTES, ...
    float low, high                     # bounds of floats
    int zeros, lows, highs              # of bytes: the zero point of y in 16 bits, twice; bounds, four times
    # with a residual: the result, rounded within these bounds, times `scale`, plus (residual - r_zero) * r_scale
    float first_low, first_high, scale, r_scale, r_zero

# Computes `count` tiles side by side, each of `width` neighbouring pixels of one or two output blocks.
ctypedef void (*qconv_tile_fn)(int width, Py_ssize_t count, const qconv_tile_t *t) noexcept nogil

cdef struct QConvTiles:
    int lanes
    int step                            # channels that a word of x and a lane of w hold: 4 bytes, or 2 numbers of 16 bits
    int flip                            # whether a byte of x becomes signed on its way, 128 less
    int width[3]                        # widest tile of B output blocks
    qconv_tile_fn tile[3]
    # n bytes less `zero`, as numbers of 16 bits
    void (*widen)(const uint8_t *x, int16_t *y, Py_ssize_t n, int zero) noexcept nogil
    double (*dot_loop)(long n) noexcept nogil       # returns the operations that it did, two a product
