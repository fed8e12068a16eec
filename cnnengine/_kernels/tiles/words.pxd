# What tiles of convolutions over words of 32 bits are told: of four bytes, or of two numbers of 16 bits (qconv, bconv).

from cnnengine._kernels.ints cimport ceil_div

cdef struct word_tile_t:
    const char *x                       # first pixel of the tile in the first plane: a pixel is some words
    const char *w                       # weights of this panel
    const void *bias                    # per output channel of the tile: int32 for integers, else float
    const float *ratio                  # per output channel: what a unit of a sum is in steps of y, or in y's own numbers
    const float *offset                 # for floats: added after that, per output channel, or NULL
    char *y                             # first output pixel in the first block
    const char *residual                # added before the second quantisation, or before the clip; or NULL; same first pixel
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
    int mode                            # what y is made of: of qconv.pxd, or of bconv.pxd
    float low, high                     # bounds of floats
    # of quantised numbers: the zero point of y in 16 bits, twice; bounds of bytes, four times
    int zeros, lows, highs
    # and with a residual: the result, rounded within these bounds, times `scale`, plus (residual - r_zero) * r_scale
    float first_low, first_high, scale, r_scale, r_zero
    int r_half                          # of bfloat16: whether the residual is of half the size

# Computes `count` tiles side by side, each of `width` neighbouring pixels of one or two output blocks.
ctypedef void (*word_tile_fn)(int width, Py_ssize_t count, const word_tile_t *t) noexcept nogil


cdef inline void tile_row(word_tile_fn tile, Py_ssize_t widest, Py_ssize_t width, word_tile_t *t, Py_ssize_t *lines) noexcept nogil:
    """`width` pixels from those where t stands, in tiles of nearly equal width: at most two calls; `lines` are left to be fetched."""
    cdef Py_ssize_t pieces = ceil_div(width, widest), narrow, wider, pixels
    if pieces <= 0:
        return
    narrow = width // pieces
    wider = width - narrow * pieces
    if wider > 0:
        pixels = wider * (narrow + 1)
        run_tiles(tile, <int>narrow + 1, wider, t, lines)
        t.x = t.x + pixels * t.xstep
        t.y = t.y + pixels * t.ystep
        if t.residual != NULL:
            t.residual = t.residual + pixels * t.rstep
    run_tiles(tile, <int>narrow, pieces - wider, t, lines)


cdef inline void run_tiles(word_tile_fn tile, int width, Py_ssize_t count, word_tile_t *t, Py_ssize_t *lines) noexcept nogil:
    cdef Py_ssize_t steps = t.n_taps * count
    if lines[0] <= 0:
        t.ahead_lines = 0
    tile(width, count, t)
    t.ahead = t.ahead + 64 * t.ahead_lines * steps
    lines[0] -= t.ahead_lines * steps
