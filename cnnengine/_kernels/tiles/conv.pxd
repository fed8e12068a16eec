# Convolution tiles of one instruction set: pointers only.

cdef struct conv_tile_t:
    const float *x                      # first pixel of the tile in the first plane
    const float *w                      # weights of this panel and K block
    const float *w2                     # weights of the next panel, for tiles of 3 and 4 blocks: the odd block of a tile of 3 is the last panel
    const float *bias                   # one float per output channel of the tile
    float *y                            # first output pixel in the first block
    const float *residual               # added before the clip, or NULL; same first pixel
    const Py_ssize_t *taps              # offset of every kernel tap from x, in floats
    const Py_ssize_t *skips             # NULL, or the taps of w passed over before each used one and, after them, behind the last
    Py_ssize_t n_taps
    Py_ssize_t planes                   # whole input planes of this K block
    Py_ssize_t channels                 # floats read per tap: lanes, or with planes of one channel the neighbouring taps of a run
    Py_ssize_t partial                  # channels of one more plane, or 0
    Py_ssize_t xplane, xstep            # floats between planes; between neighbouring pixels of the tile (run-time stride)
    Py_ssize_t yplane, ystep            # floats between output blocks, between output pixels
    Py_ssize_t rplane, rstep
    const float *ahead                  # weights to fetch into the second-level cache meanwhile
    Py_ssize_t ahead_lines              # 64-byte lines of them per input plane and tap
    const float *ahead_end              # where those end: no tile after this begins another line of them
    int first, last                     # first / last K block: start from the bias, finish with residual and clip
    float low, high                     # clip bounds; -inf and inf where there is none

cdef enum:
    LINE = 16                           # floats of a cache line


cdef inline void start_ahead(conv_tile_t *t, const float *w, Py_ssize_t floats, Py_ssize_t tiles) noexcept nogil:
    """Spread the fetching of `floats` weights at w over the next `tiles` tiles (t.planes and t.n_taps are set)."""
    cdef Py_ssize_t steps = tiles * t.n_taps * t.planes
    t.ahead = w
    t.ahead_end = w + floats
    t.ahead_lines = (floats // LINE + steps - 1) // steps if steps > 0 else 0


cdef inline void step_ahead(conv_tile_t *t, Py_ssize_t count) noexcept nogil:
    """After `count` tiles: on to the next lines, none beyond the end."""
    t.ahead = t.ahead + count * t.ahead_lines * t.n_taps * t.planes * LINE
    if t.ahead >= t.ahead_end:
        t.ahead_lines = 0


# Computes `count` tiles side by side, each of `width` neighbouring pixels of 1 to 4 output blocks.
ctypedef void (*conv_tile_fn)(int width, Py_ssize_t count, const conv_tile_t *t) noexcept nogil


cdef inline void tile_row(conv_tile_fn tile, Py_ssize_t widest, Py_ssize_t width, conv_tile_t *t) noexcept nogil:
    """`width` pixels from those where t stands, in tiles of nearly equal width: at most two calls. t moves on."""
    cdef Py_ssize_t pieces = (width + widest - 1) // widest, narrow, wider, pixels
    if pieces <= 0:
        return
    narrow = width // pieces
    wider = width - narrow * pieces
    if wider > 0:
        tile(<int>narrow + 1, wider, t)
        step_ahead(t, wider)
        pixels = wider * (narrow + 1)
        t.x = t.x + pixels * t.xstep
        t.y = t.y + pixels * t.ystep
        if t.residual != NULL:
            t.residual = t.residual + pixels * t.rstep
    tile(<int>narrow, pieces - wider, t)
    step_ahead(t, pieces - wider)


cdef struct depthwise_tile_t:
    const float *x                      # first pixel of the first row
    const float *w                      # [tap][channel of the group][lane]
    Py_ssize_t per_group                # channels of a group
    const float *bias                   # [lane]
    float *y
    const float *residual               # or NULL
    const Py_ssize_t *taps
    Py_ssize_t n_taps
    Py_ssize_t width                    # output pixels of a row
    Py_ssize_t xstep                    # floats between neighbouring pixels
    Py_ssize_t rows                     # output rows
    Py_ssize_t xrow, yrow, rrow         # floats between them
    float low, high

ctypedef void (*depthwise_rows_fn)(const depthwise_tile_t *t) noexcept nogil

cdef enum:
    CONV_STRIDES = 3                    # run-time stride, 1, 2

cdef enum:
    DOT_ROWS = 8                        # of weights that are read side by side

# y[i] = min(max(x . w[i] + bias[i], low), high) for n <= DOT_ROWS rows of k weights, one after another; bias may be NULL.
ctypedef void (*dot_fn)(const float *x, const float *w, Py_ssize_t k, int n, const float *bias, float *y, float low, float high) noexcept nogil

cdef struct ConvTiles:
    int lanes
    int width[5]                        # widest tile of B output blocks
    conv_tile_fn blocked[5][CONV_STRIDES]   # [B][stride or 0]; input planes of `lanes` channels
    conv_tile_fn plain[5][CONV_STRIDES]     # input planes of one channel
    depthwise_rows_fn depthwise         # one channel a group, any taps and stride
    depthwise_rows_fn kernels[3][2]     # the same for taps in rows of 3, 5 and 7 neighbours; strides 1 and 2
    depthwise_rows_fn grouped           # several channels a group
    dot_fn dot
    double (*fma_loop)(long n) noexcept nogil   # returns the floating-point operations it did
