# an uninitialised 1-D float32 array whose data is 64-byte aligned
cdef object aligned_floats(Py_ssize_t n)
