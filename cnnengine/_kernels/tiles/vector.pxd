# Elementwise, reduction and normalisation tiles of one instruction set: pointers only.

# y[i] = activation(x[i]) for i < n; x and y may be the same array. `kind` is an ActivationKind of table.pxd.
ctypedef void (*activate_fn)(int kind, const float *x, float *y, Py_ssize_t n, float alpha, float beta) noexcept nogil

cdef struct VectorTiles:
    int lanes
    activate_fn activate
