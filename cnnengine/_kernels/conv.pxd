# What kernels over x, weights, bias, residual and y share.

from cnnengine._kernels.launch cimport Launch

# checks and runs a launch over x, weights, bias, residual (or None), y
cdef int run_five(Launch launch, const float[::1] x, const float[::1] w, const float[::1] bias, const float[::1] residual, float[::1] y,
                  int threads) except -1
