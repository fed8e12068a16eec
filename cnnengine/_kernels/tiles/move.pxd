# Data-movement tiles of one instruction set: pointers only. Distances and counts are in floats.

# y[p * LANES + c] = x[c * xc + p] for p < pixels and c < channels, 0 for the other lanes. `readable` floats may be read from
# the start of every channel's row (at least `pixels`).
ctypedef void (*pack_fn)(const float *x, Py_ssize_t xc, Py_ssize_t readable, float *y, Py_ssize_t pixels, Py_ssize_t channels) noexcept nogil

# y[c * yc + p] = x[p * LANES + c] for p < pixels and c < channels. Up to `writable` floats from the start of every channel's
# row (at least `pixels`) may be overwritten with anything.
ctypedef void (*unpack_fn)(const float *x, float *y, Py_ssize_t yc, Py_ssize_t writable, Py_ssize_t pixels, Py_ssize_t channels) noexcept nogil

# y[c * yr + r] = x[r * xr + c] for r < rows and c < columns.
ctypedef void (*transpose_fn)(const float *x, Py_ssize_t xr, float *y, Py_ssize_t yr, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil

# y[i] = a[i] * (1 - t) + b[i] * t for i < n; n is a multiple of LANES; y may be a or b.
ctypedef void (*blend_rows_fn)(const float *a, const float *b, float t, float *y, Py_ssize_t n) noexcept nogil

# y[p * LANES + l] = x[first[p] + l] * (1 - t[p]) + x[second[p] + l] * t[p] for p < pixels; x[first[p] + l] alone where t is NULL.
ctypedef void (*blend_pixels_fn)(const float *x, const Py_ssize_t *first, const Py_ssize_t *second, const float *t, float *y,
                                 Py_ssize_t pixels) noexcept nogil

# Pixels whose lanes come from several places: lane l of y's pixel p is lane orders[i][l] of x[i]'s pixel p for the one i whose
# masks[i][l] is -1 (the others are 0). Lanes that no i serves stay as they are where `keep`, else become 0. Table: for each of
# `parts` i, LANES orders, then LANES masks.
ctypedef void (*mix_fn)(const float *const *x, const int *table, int parts, bint keep, float *y, Py_ssize_t pixels) noexcept nogil

# Whether one of n boxes, as five arrays `room` floats apart (low and high edges along x, the same along y, area), shares more
# than `threshold` of its union with the box of these five numbers; boxes without an area share nothing. `room` is at least n
# rounded up to 4 * LANES; boxes from n on have area 0.
ctypedef bint (*overlaps_fn)(const float *boxes, Py_ssize_t room, Py_ssize_t n, const float *box, float threshold) noexcept nogil

# y[p * LANES + l] is the sum of weights[k] * x[offsets[k] + l] over the taps[p] taps of pixel p, k counting on from pixel to pixel;
# 0 where a pixel has none.
ctypedef void (*weigh_fn)(const float *x, const Py_ssize_t *offsets, const float *weights, const int *taps, float *y,
                          Py_ssize_t pixels) noexcept nogil

cdef struct MoveTiles:
    int lanes
    pack_fn pack
    unpack_fn unpack
    transpose_fn transpose
    blend_rows_fn blend_rows
    blend_pixels_fn blend_pixels
    mix_fn mix
    overlaps_fn overlaps
    weigh_fn weigh
