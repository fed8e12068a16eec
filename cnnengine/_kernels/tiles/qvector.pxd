# Tiles of quantised numbers, but for products: pointers only. Distances and counts are in elements.

from libc.stdint cimport uint8_t

# y[p * W + c] = x[c * xc + p] for p < pixels and c < channels, `fill` for the other lanes; W is LANES, or 4 (pack4). `readable`
# bytes may be read from the start of every channel's row (at least `pixels`).
ctypedef void (*pack_bytes_fn)(const uint8_t *x, Py_ssize_t xc, Py_ssize_t readable, uint8_t *y, Py_ssize_t pixels, Py_ssize_t channels,
                               int fill) noexcept nogil

# y[c * yc + p] = x[p * W + c] for p < pixels and c < channels; W is LANES, or 4 (unpack4). Up to `writable` bytes from the start of
# every channel's row (at least `pixels`) may be overwritten with anything.
ctypedef void (*unpack_bytes_fn)(const uint8_t *x, uint8_t *y, Py_ssize_t yc, Py_ssize_t writable, Py_ssize_t pixels,
                                 Py_ssize_t channels) noexcept nogil

# Pixels of LANES bytes whose lanes come from several places: lane l of y's pixel p is lane orders[i * LANES + l] of x[i]'s pixel p
# for the one i of `parts` where that is no 255. Lanes that no i serves stay as they are where `keep`, else become 0.
ctypedef void (*mix_bytes_fn)(const uint8_t *const *x, const uint8_t *orders, int parts, bint keep, uint8_t *y, Py_ssize_t pixels) noexcept nogil

# y[p * LANES + l] = x[first[p] + l] for p < pixels.
ctypedef void (*pick_bytes_fn)(const uint8_t *x, const Py_ssize_t *first, uint8_t *y, Py_ssize_t pixels) noexcept nogil

# y[i] = x[i] ^ bits, for i < n; y may be x.
ctypedef void (*flip_bytes_fn)(const uint8_t *x, uint8_t *y, Py_ssize_t n, int bits) noexcept nogil

# y[i] = table[x[i]] for i < n, of 256 entries; y may be x.
ctypedef void (*table_bytes_fn)(const uint8_t *table, const uint8_t *x, uint8_t *y, Py_ssize_t n) noexcept nogil

# Scales and zero points: one of each for all elements, or one for each element where `each`. Those of int8 come as uint8, 128 more;
# so do the integers, which have their highest bit flipped (`flip` 128, else 0).
cdef struct scaling_t:
    const float *scale
    const int *zero
    bint each
    int flip

# y[i] = clamp(rint(x[i] / scale) + zero, 0, 255) for i < n; not-a-number becomes the zero point.
ctypedef void (*quantize_fn)(const float *x, const scaling_t *s, uint8_t *y, Py_ssize_t n) noexcept nogil

# y[i] = (x[i] - zero) * scale for i < n.
ctypedef void (*dequantize_fn)(const uint8_t *x, const scaling_t *s, float *y, Py_ssize_t n) noexcept nogil

# Least and greatest of 0 and x[i], for i < n, into range[0] and range[1]; not-a-number, where one is there.
ctypedef void (*range_fn)(const float *x, float *range, Py_ssize_t n) noexcept nogil

# Numbers of quantised operators on two operands: where `product`, y = (a - a_zero) * (b - b_zero) * a_ratio, else
# y = (a - a_zero) * a_ratio + (b - b_zero) * b_ratio, each product and sum rounded; then clamp(rint(y) + zero, low, high).
cdef struct pairing_t:
    float a_zero, b_zero, a_ratio, b_ratio
    int zero, low, high
    bint product

# y[i] of a[i] and b[i] for i < n, or of b[i % period]: 0 where each has its own, else 4 * LANES, or 1.
ctypedef void (*pair_bytes_fn)(const uint8_t *a, const uint8_t *b, Py_ssize_t period, const pairing_t *s, uint8_t *y, Py_ssize_t n) noexcept nogil

# y[i] = a[i] + (b[i] - a[i]) * t for i < n, whole pixels; the difference, the product and the sum rounded each.
ctypedef void (*blend_bytes_fn)(const uint8_t *a, const uint8_t *b, float t, float *y, Py_ssize_t n) noexcept nogil
ctypedef void (*blend_floats_fn)(const float *a, const float *b, float t, float *y, Py_ssize_t n) noexcept nogil

# How what is blended of bytes is stored: v in steps of the result is (v - x_zero) * ratio, each operation rounded; then
# clamp(rint(that) + zero, low, high).
cdef struct blending_t:
    float x_zero, ratio
    int zero, low, high

# The same for lane l of pixel p < pixels, of x[first[p] + l] and x[second[p] + l] by t[p], stored in y[p * LANES + l].
ctypedef void (*blend_pixels_fn)(const float *x, const Py_ssize_t *first, const Py_ssize_t *second, const float *t, const blending_t *s,
                                 uint8_t *y, Py_ssize_t pixels) noexcept nogil

cdef struct QVectorTiles:
    int lanes
    pack_bytes_fn pack, pack4
    unpack_bytes_fn unpack, unpack4
    mix_bytes_fn mix
    pick_bytes_fn pick
    flip_bytes_fn flip
    table_bytes_fn table
    quantize_fn quantize
    dequantize_fn dequantize
    range_fn range
    pair_bytes_fn pair
    blend_bytes_fn blend_bytes
    blend_floats_fn blend_floats
    blend_pixels_fn blend_pixels
