# Extents: the arithmetic of Py_ssize_t that all geometries share.

cdef inline Py_ssize_t smaller(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a < b else b


cdef inline Py_ssize_t larger(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a > b else b


cdef inline Py_ssize_t clamp(Py_ssize_t v, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    return low if v < low else high if v > high else v


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """a / b rounded up, for any a: how many pieces of b there are in a. 0 where b is not positive: nothing is no piece."""
    return a // b + (a % b > 0) if b > 0 else 0
