# Tiles of the kernels that sample images, of one instruction set: pointers only. Distances and counts are in floats.

# y[l] is the largest of high[k] * x[offsets[k] + l] and low[k] * x[offsets[k] + l] over the taps, and of 0 where `zero`; NaN where
# one of them is.
ctypedef void (*weigh_max_fn)(const float *x, const Py_ssize_t *offsets, const float *high, const float *low, Py_ssize_t taps, bint zero,
                              float *y) noexcept nogil

# y[i] is the sum of weights[k] * x[offsets[k] + i] over the taps (at least one), for i < n.
ctypedef void (*mix_rows_fn)(const float *x, const Py_ssize_t *offsets, const float *weights, Py_ssize_t taps, float *y,
                             Py_ssize_t n) noexcept nogil

# y[i] is the sum of weights[k] * x[first[i] + j] over j < taps[i], k counting on from one i to the next, for i < n.
ctypedef void (*mix_along_fn)(const float *x, const Py_ssize_t *first, const float *weights, const int *taps, float *y,
                              Py_ssize_t n) noexcept nogil

# y[i] = x[a[i]] * u[i] + x[b[i]] * v[i] for i < n.
ctypedef void (*blend_along_fn)(const float *x, const int *a, const int *b, const float *u, const float *v, float *y,
                                Py_ssize_t n) noexcept nogil

# y[i] = x[at[i]] for i < n.
ctypedef void (*pick_fn)(const float *x, const int *at, float *y, Py_ssize_t n) noexcept nogil

# y[i] = x[i // times] for i < n * times.
ctypedef void (*repeat_fn)(const float *x, Py_ssize_t times, float *y, Py_ssize_t n) noexcept nogil

# y[i * step] += x[i] for i < n.
ctypedef void (*scatter_fn)(const float *x, float *y, Py_ssize_t step, Py_ssize_t n) noexcept nogil

# y[i * axes + k] = a[k] * x[i] + b[k] for i < n and k < axes, which is 2 or 3.
ctypedef void (*lines_fn)(const float *x, const float *a, const float *b, int axes, float *y, Py_ssize_t n) noexcept nogil

cdef struct ImageTiles:
    weigh_max_fn weigh_max
    mix_rows_fn mix_rows
    mix_along_fn mix_along
    blend_along_fn blend_along
    pick_fn pick
    repeat_fn repeat
    scatter_fn scatter
    lines_fn lines
