# Elementwise, reduction and normalisation tiles of one instruction set: pointers only.

# Activations that kernels fuse, by number; names and parameters in cnnengine/_kernels/__init__.py.
cdef enum ActivationKind:
    ACT_NONE = 0
    ACT_CLIP = 1                        # min(max(x, alpha), beta); Relu is (0, inf)
    ACT_LEAKY_RELU = 2                  # alpha * x below zero
    ACT_SIGMOID = 3
    ACT_TANH = 4
    ACT_SILU = 5
    ACT_HARD_SIGMOID = 6                # max(0, min(1, alpha * x + beta))
    ACT_HARD_SWISH = 7
    ACT_ELU = 8                         # alpha * (exp(x) - 1) below zero
    ACT_SELU = 9                        # gamma (beta) * (alpha * (exp(x) - 1)) below zero
    ACT_CELU = 10
    ACT_GELU = 11                       # by erf
    ACT_GELU_TANH = 12
    ACT_MISH = 13
    ACT_SOFTPLUS = 14
    ACT_SOFTSIGN = 15
    ACT_EXP = 16
    ACT_LOG = 17
    ACT_ERF = 18
    ACT_ABS = 19
    ACT_NEG = 20
    ACT_SQRT = 21
    ACT_RECIPROCAL = 22
    ACT_SIGN = 23
    ACT_FLOOR = 24
    ACT_CEIL = 25
    ACT_ROUND = 26                      # half to even
    ACT_THRESHOLDED_RELU = 27
    ACT_SQUARE = 28
    ACT_POW = 29                        # x ** alpha
    ACT_AFFINE = 30                     # alpha * x + beta
    ACT_SWISH = 31                      # x * sigmoid(alpha * x)
    ACT_SHRINK = 32                     # x + beta below -alpha, x - beta above alpha, else 0
    ACT_SIN = 33
    ACT_COS = 34
    ACT_TAN = 35
    ACT_ASIN = 36
    ACT_ACOS = 37
    ACT_ATAN = 38
    ACT_SINH = 39
    ACT_COSH = 40
    ACT_ASINH = 41
    ACT_ACOSH = 42
    ACT_ATANH = 43
    ACT_WHOLE = 44                      # as ACT_ROUND, 0 for NaN: what quantising makes of a quotient

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

# y[i] = activation(x[i]) for i < n; x and y may be the same array. `kind` is an ActivationKind.
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
