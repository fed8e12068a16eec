# Geometry that pools of floats and of bytes share: the windows of one axis.

from cnnengine._kernels.ints cimport ceil_div, clamp

cdef struct axis_t:
    Py_ssize_t k, s, d, begin           # kernel, stride, dilation, begin pad
    Py_ssize_t n, padded                # input extent; end of the padded input, counted from the input's start
    Py_ssize_t out
    Py_ssize_t inner0, inner1           # output positions whose windows lie inside the input


cdef struct taps_t:
    Py_ssize_t at                       # input position of the first tap inside the input
    Py_ssize_t count                    # taps inside the input
    Py_ssize_t padded                   # taps inside the padded input


cdef inline taps_t taps_of(const axis_t *a, Py_ssize_t o) noexcept nogil:
    cdef taps_t t
    cdef Py_ssize_t start = o * a.s - a.begin
    cdef Py_ssize_t first = ceil_div(-start, a.d) if start < 0 else 0
    cdef Py_ssize_t end = clamp(ceil_div(a.n - start, a.d), 0, a.k)
    t.count = end - first if end > first else 0
    t.at = start + first * a.d if t.count else 0
    t.padded = clamp(ceil_div(a.padded - start, a.d), 0, a.k)
    return t


cdef int axes_of(axis_t *axes, object xv, object yv, object kernel, object stride, object dilation, object begins, object ends) except -1
