# Winograd tiles of one instruction set: pointers only. A tile is the pixels of one channel block between planes and its elements,
# which lie `step` floats apart.

cdef enum:
    MARKED = 16                         # kernels whose signs and zeros one mark tells
    SQUARES = 5                         # registers of sums of squares
    MAX_FORMS = 16
    MAX_ELEMENTS = 81                   # of a tile
    MAX_MATRICES = 36                   # of weights

cdef struct winograd_input_t:
    const float *x
    Py_ssize_t xrow, xstep              # floats between rows, between pixels
    Py_ssize_t rows, columns            # pixels from these on are read as zeros
    float *v
    Py_ssize_t step
    # Added to: the squares of all pixels, and then those of up to four of them of which every window of the tile has one (where there
    # are fewer, of fewer).
    float *squares

cdef struct winograd_output_t:
    const float *m
    Py_ssize_t step
    const float *bias                   # [lane]
    const float *residual               # or NULL
    Py_ssize_t rrow, rstep              # floats between rows, between pixels
    float *y
    Py_ssize_t yrow, ystep
    Py_ssize_t rows, columns            # pixels inside the plane: no other is read or written
    float low, high

# One kernel for `width` outputs, a multiple of 4.
cdef struct winograd_kernel_t:
    float *g                            # its taps, [tap][output]
    Py_ssize_t apart                    # floats between taps
    float *u                            # its elements, [element][output]
    Py_ssize_t size                     # floats between elements
    Py_ssize_t width
    const unsigned int *marks           # [tap][output], where elements are turned back into taps
    int bit                             # which of them is the kernel's

ctypedef void (*winograd_input_fn)(const winograd_input_t *t) noexcept nogil
ctypedef void (*winograd_output_fn)(const winograd_output_t *t) noexcept nogil
ctypedef void (*winograd_kernel_fn)(const winograd_kernel_t *t) noexcept nogil

# A way to compute convolutions. Along an axis a tile of `tile` outputs has tile * stride + taps - stride elements, and its weights
# have tile + taps - 1: at stride 2 the last four elements, odd pixels, share one.
cdef struct winograd_form_t:
    int taps_h, taps_w                  # of the kernel
    int tile_h, tile_w                  # output pixels of a tile
    int stride                          # along both
    winograd_input_fn input
    winograd_output_fn output
    winograd_kernel_fn weights          # taps to elements, G g G^T
    winograd_kernel_fn restore          # and back, to the rounding of the elements; signs and zeros are those that there were

# Elements of `count` kernels, taps g[(taps * k + t) * width + o] to u[e * size + k * width + o]; `marks`, [tap][width] for up to
# MARKED kernels, tell the signs and the zeros of the taps. Returns whether a tap is too large or not finite.
ctypedef int (*winograd_weights_fn)(const winograd_form_t *form, float *g, float *u, Py_ssize_t size, Py_ssize_t width, Py_ssize_t count,
                                    unsigned int *marks) noexcept nogil

# sums[i] += the first `used` lanes of register i of `count`.
ctypedef void (*add_lanes_fn)(const float *x, Py_ssize_t count, int used, float *sums) noexcept nogil

# Of a pixel's channels, in whole planes and a part of one more: *squares += (x * scale)^2; *largest becomes the largest magnitude
# of them and what it was, NaN being the largest.
ctypedef void (*weigh_pixel_fn)(const float *x, Py_ssize_t xplane, Py_ssize_t planes, int partial, float scale, float *squares,
                                float *largest) noexcept nogil

cdef struct WinogradTiles:
    int lanes
    int n_forms
    winograd_form_t forms[MAX_FORMS]    # of each kernel and stride the largest tile first
    winograd_weights_fn weights
    add_lanes_fn add_lanes
    weigh_pixel_fn weigh_pixel
