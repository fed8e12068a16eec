# What the kernels of the convolution family share.

from cnnengine._kernels.launch cimport Launch
from cnnengine._kernels.table cimport KernelTable
from cnnengine._kernels.tiles.conv cimport depthwise_rows_fn

cdef struct activation_t:
    int kind                            # ACT_NONE when the clip below does all of it
    float alpha, beta
    float low, high                     # clip applied in registers


cdef activation_t activation_of(object activation) except *

# checks and runs a launch over x, weights, bias, residual (or None), y
cdef int run_five(Launch launch, const float[::1] x, const float[::1] w, const float[::1] bias, const float[::1] residual, float[::1] y,
                  int threads) except -1

cdef depthwise_rows_fn depthwise_tile_of(const KernelTable *table, object taps, Py_ssize_t stride) except *

# an uninitialised 1-D float32 array whose data is 64-byte aligned
cdef object aligned_floats(Py_ssize_t n)
