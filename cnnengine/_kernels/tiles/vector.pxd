# Elementwise, reduction and normalisation tiles of one instruction set: pointers only.

# Of the activations that activations.h lists, those that kernels name.
cdef extern from "activations.h":
    enum: ACT_NONE, ACT_AFFINE, ACT_CLIP, ACT_SIGMOID, ACT_TANH

# How an operand of a binary tile is read.
cdef enum:
    MODE_SCALAR = 0                     # one float for all
    MODE_FULL = 1                       # one float per element
    MODE_VECTOR = 2                     # LANES floats, again and again: channels of a plane
    MODE_PIXEL = 3                      # one float per LANES elements

cdef enum:
    OP_ADD = 0
    OP_SUB = 1
    OP_MUL = 2
    OP_DIV = 3
    OP_POW = 4
    OP_MIN = 5                          # NaN of either operand is the result, also of OP_MAX
    OP_MAX = 6
    OP_PRELU = 7                        # a, below zero b * a

cdef enum:
    RED_SUM = 0
    RED_ABS = 1                         # sum of absolute values
    RED_SQUARE = 2                      # sum of squares
    RED_EXP = 3                         # sum of exp(x - shift)
    RED_PROD = 4
    RED_MAX = 5                         # NaN is the result
    RED_MIN = 6

# y[i] = activation(x[i]) for i < n; x and y may be the same array. `kind` is an activation's number; ACT_NONE copies.
ctypedef void (*activate_fn)(int kind, const float *x, float *y, Py_ssize_t n, float alpha, float beta) noexcept nogil
# y[i] = a[i] op b[i], operands read by modes of which one at least is MODE_FULL; y may be an operand of MODE_FULL.
ctypedef void (*binary_fn)(int op, const float *a, int a_mode, const float *b, int b_mode, float *y, Py_ssize_t n) noexcept nogil
# Reduce `rows` rows of n contiguous floats into one number, `stride` floats apart; returns acc combined with it. `shift` for RED_EXP.
ctypedef double (*reduce_rows_fn)(int kind, const float *x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t n, double acc,
                                  float shift) noexcept nogil
# Reduce `rows` rows, `stride` floats apart, into acc[n]; `shift` (n floats) for RED_EXP.
ctypedef void (*reduce_columns_fn)(int kind, const float *x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t n, double *acc,
                                   const float *shift) noexcept nogil
# Softmax (or its logarithm) of n columns of `axis` elements `stride` floats apart; x and y may be the same array.
ctypedef void (*softmax_fn)(int log_of, const float *x, float *y, Py_ssize_t axis, Py_ssize_t stride, Py_ssize_t n) noexcept nogil

cdef struct VectorTiles:
    int lanes
    activate_fn activate
    binary_fn binary
    reduce_rows_fn reduce_rows
    reduce_columns_fn reduce_columns
    softmax_fn softmax
