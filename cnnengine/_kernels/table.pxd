# KernelTable: what one instruction set offers. Each tile family has a struct of function pointers in its own .pxd; the
# dispatcher fills a table per instruction set from the capsules of its tile modules. Geometry structs hold the table
# that they were built for, so that a plan keeps working on the instruction set that it was made for.

from cnnengine._kernels.tiles.conv cimport ConvTiles
from cnnengine._kernels.tiles.move cimport MoveTiles
from cnnengine._kernels.tiles.pool cimport PoolTiles
from cnnengine._kernels.tiles.vector cimport VectorTiles

cdef enum:
    TABLE_VERSION = 1                   # changes with any struct below

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

cdef struct KernelTable:
    int lanes
    char name[16]
    ConvTiles conv
    PoolTiles pool
    VectorTiles vector
    MoveTiles move
