# Pooling tiles of one instruction set: pointers only.

cdef enum:
    POOL_MAX = 0                        # NaN wins; a window without taps gives -inf
    POOL_AVG = 1                        # sum / count
    POOL_L1 = 2                         # sum of |x|
    POOL_L2 = 3                         # square root of the sum of squares
    POOL_LP = 4                         # (sum of |x| ** p) ** (1 / p)
    POOL_KINDS = 5

cdef struct pool_tile_t:
    const float *x                      # first tap of the first pixel
    float *y                            # first output pixel; pixels are side by side
    Py_ssize_t kd, kh, kw               # taps per axis, all of them inside the input
    Py_ssize_t td, th, tw               # floats between neighbouring taps
    Py_ssize_t width                    # output pixels
    Py_ssize_t step                     # floats between the first taps of neighbouring pixels
    float count                         # divisor of POOL_AVG
    float p

ctypedef void (*pool_tile_fn)(const pool_tile_t *t) noexcept nogil

cdef struct PoolTiles:
    int lanes
    pool_tile_fn row[POOL_KINDS]        # a row of pixels under windows of one size
    pool_tile_fn box[POOL_KINDS]        # one pixel under a large window
    # n contiguous floats reduced to one: t.x, t.kw and t.count are read, one float is written to t.y
    pool_tile_fn flat[POOL_KINDS]
