# Normalisation tiles of one instruction set: pointers only.

# y = ((x - mean) - rest) * factor * scale + shift, clipped. `rest` is what the rounding of the mean to float left over.
cdef struct affine_tile_t:
    const float *x
    float *y
    Py_ssize_t n                        # floats; pixels of `planes`
    const float *mean
    const float *rest                   # NULL: none
    const float *factor
    const float *scale                  # `each` alone; NULL: 1
    const float *shift                  # NULL: 0
    float low, high

ctypedef void (*affine_fn)(const affine_tile_t *t) noexcept nogil
# Mean and sum of squared deviations of n floats.
ctypedef void (*moments_fn)(const float *x, Py_ssize_t n, double *mean, double *squares) noexcept nogil
# The same for every lane of a plane of d x h x w pixels; `mean` and `squares` hold LANES doubles.
ctypedef void (*moments_planes_fn)(const float *x, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, Py_ssize_t sd, Py_ssize_t sh,
                                   double *mean, double *squares) noexcept nogil

cdef struct lrn_tile_t:
    const float *x                      # [channel][..]: `stride` floats apart
    float *y
    Py_ssize_t channels, stride
    Py_ssize_t ystride                  # `pixels`: floats between blocks of y
    Py_ssize_t n                        # neighbouring positions of `run`, at most lanes; pixels of `pixels`, at most LRN_PIXELS
    Py_ssize_t before, after            # channels of the window before and after its own
    float alpha                         # divided by the window's size
    float beta, bias
    float *scratch                      # `pixels`: LRN_PIXELS * (before + blocks * lanes + after) floats

ctypedef void (*lrn_fn)(const lrn_tile_t *t) noexcept nogil

cdef struct pixel_norm_tile_t:
    const float *x                      # the first pixel of the first block
    float *y
    Py_ssize_t channels
    Py_ssize_t xstride, ystride         # floats between blocks
    Py_ssize_t n                        # pixels, side by side
    const float *scale                  # `channels` floats; NULL: 1
    const float *shift                  # NULL: 0
    double epsilon

# Every pixel's channels by their own mean and variance.
ctypedef void (*pixel_norm_fn)(const pixel_norm_tile_t *t) noexcept nogil

cdef enum:
    LRN_PIXELS = 8

cdef struct NormTiles:
    int lanes
    affine_fn planes                    # one value per lane
    affine_fn run                       # one value for all
    affine_fn vectors                   # one value per float (mean, factor, shift)
    affine_fn each                      # one mean and factor, scale and shift per float
    moments_fn moments
    moments_planes_fn moments_planes
    lrn_fn lrn_run                      # plain: positions side by side
    lrn_fn lrn_pixels                   # planes: `stride` floats between blocks
    pixel_norm_fn pixel_norm            # planes
