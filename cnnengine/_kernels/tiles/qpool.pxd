# Tiles of quantised numbers beside those of products: depthwise convolutions on their way in and out, and pools; pointers only.

from libc.stdint cimport int32_t, uint8_t

# What is done to each sum of a row of pixels, as `qconv_tile_t` has it.
cdef struct qstore_t:
    const float *ratio                  # per lane: what a unit of a sum is in steps of y, or in y's own numbers
    const float *offset                 # for floats: added after that, per lane, or NULL
    const int32_t *bias                 # added to the sums, per lane, or NULL
    const uint8_t *table                # what stands for each of the 256 results, or NULL
    const uint8_t *residual             # first pixel; added before the second quantisation, or NULL
    Py_ssize_t rstep, ystep             # bytes between pixels
    int mode                            # Q_BYTES or Q_FLOATS
    float low, high                     # bounds of what is stored, for bytes less the zero point
    int zero                            # zero point of y
    float first_low, first_high, scale, r_scale, r_zero

cdef struct qpool_tile_t:
    const uint8_t *x                    # first pixel of the first row under the windows
    Py_ssize_t kd, kh, td, th           # rows under them, and bytes between those
    Py_ssize_t pixels                   # of an input row
    Py_ssize_t left                     # pixels of padding before it, at the start of `line`
    Py_ssize_t right                    # and after it
    Py_ssize_t kw, dilation, stride     # taps of a row, pixels between them, pixels between windows
    Py_ssize_t width                    # windows of a row
    void *line                          # left + pixels + right pixels: a row of what columns come to, bytes or int32
    uint8_t *wide                       # maxima at every pixel, for strides
    uint8_t *y
    # means
    float ratio                         # what a step of x is in steps of y
    const float *count                  # per window: what its sum is divided by
    int x_zero, zero

cdef struct QPoolTiles:
    int lanes
    # n bytes less `zero`, as floats; n is a multiple of the lanes
    void (*widen)(const uint8_t *x, float *y, Py_ssize_t n, float zero) noexcept nogil
    # sums of `pixels` pixels, exact in float, to y
    void (*store)(const float *sums, char *y, Py_ssize_t pixels, const qstore_t *t) noexcept nogil
    # a row of windows
    void (*max_row)(const qpool_tile_t *t) noexcept nogil
    void (*mean_row)(const qpool_tile_t *t) noexcept nogil
    # kd x kh rows of t.pixels pixels, reduced to one pixel: y; a sum is divided by count[0]
    void (*max_box)(const qpool_tile_t *t) noexcept nogil
    void (*mean_box)(const qpool_tile_t *t) noexcept nogil
    # n bytes reduced to one number
    int (*max_run)(const uint8_t *x, Py_ssize_t n) noexcept nogil
    long long (*sum_run)(const uint8_t *x, Py_ssize_t n) noexcept nogil
    # the byte that a sum stands for, as the others have it
    int (*step_of)(float sum, float ratio, float count, int zero) noexcept nogil
