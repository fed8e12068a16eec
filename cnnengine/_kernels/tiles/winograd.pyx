"""Winograd tiles: the transforms of pixels, products and weights, compiled once per instruction set.

Layout
    x, y     planes [..][pixel][LANES]
    v, m     the elements of a tile, `step` floats apart: one register each
    g, u     taps and elements of kernels, [..][output]

Y = A^T [(G g G^T) * (B^T d B)] A (Lavin and Gray, 2016): the values at some points of the product of two polynomials. As many
elements along an axis as there are points, with infinity:

    4    0, 1, -1                               3 taps to 2 outputs
    6    0, 1, -1, 2, -2                        3 taps to 4 outputs, 5 taps to 2, with the same B
    8    0, 1, -1, 2, -2, 1/2, -1/2             5 taps to 4 outputs
    10   0, +-3/4, +-5/4, +-2, +-3/8            7 taps to 4 outputs
    9    0, 1, -1, 2 and four pixels            3 taps at stride 2 to 4 outputs

At stride 2 the outer taps meet the even pixels: two taps at stride 1, five elements; the middle tap meets the odd pixels, which
stay. 8 and 10 serve one axis alone, where their rounding errors are those of 6 along two. The transforms of d and of the products
stand here, along columns and then along rows, or along one of them (AH or AW, the elements along an axis, are 1 then); lanes are
channels. Row p of B^T has the coefficients of the product of x - q over all other points q, A^T the powers of p: for p and -p
their even parts are the same, and their odd parts but for the sign. The transform of weights is in winograd.h, in double.

The table at the end says which forms there are. Each row has its numbers and its functions; their constants select the code that
is inlined into them.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.string cimport memcpy

from cnnengine._kernels.simd cimport *

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE

cdef extern from "simd.h" nogil:
    """
    /* the larger magnitude, NaN being the largest: magnitudes are ordered as their bits are */
    AI vf vlargest(vf a, vf b) { vi x = (vi)a & viset(INT32_MAX), y = (vi)b & viset(INT32_MAX), m = x > y; return (vf)((m & x) | (~m & y)); }
    AI float larger_magnitude(float a, float b)
    {
        uint32_t x, y;
        memcpy(&x, &a, 4);
        memcpy(&y, &b, 4);
        return x > y ? a : b;
    }
    """
    vf vlargest(vf, vf) noexcept
    float larger_magnitude(float, float) noexcept

cdef extern from "winograd.h" nogil:
    void transform_kernel(int kh, int kw, int high, int wide, int stride, const float *g, Py_ssize_t apart, float *u, Py_ssize_t size,
                          Py_ssize_t width) noexcept
    void restore_kernel(int kh, int kw, int high, int wide, int stride, const float *u, Py_ssize_t size, Py_ssize_t width,
                        const unsigned int *marks, int marked, int bit, float *g, Py_ssize_t apart) noexcept
    int mark_kernels(const float *g, int taps, Py_ssize_t width, Py_ssize_t count, unsigned int *marks, int marked) noexcept


# ---------------------------------------------------------------- pixels
cdef inline void pair(vf even, vf odd, float p, vf *o, const int s) noexcept nogil:
    o[0] = even + odd * p
    o[s] = even - odd * p


cdef inline void transform_input(const int A, const vf *d, vf *o, const int s) noexcept nogil:
    """B^T of A neighbouring registers; the results are `s` apart."""
    if A == 1:
        o[0] = d[0]
    elif A == 4:
        o[0] = d[2] - d[0]
        o[s] = d[1] + d[2]
        o[2 * s] = d[2] - d[1]
        o[3 * s] = d[3] - d[1]
    elif A == 6:
        o[0] = (d[4] - d[2] * <float>5) + d[0] * <float>4
        pair(d[4] - d[2] * <float>4, d[3] - d[1] * <float>4, 1, o + s, s)
        pair(d[4] - d[2], d[3] - d[1], 2, o + 3 * s, s)
        o[5 * s] = (d[5] - d[3] * <float>5) + d[1] * <float>4
    elif A == 9:
        o[0] = (d[6] - d[2]) + (d[0] - d[4]) * <float>2
        o[s] = (d[6] - d[4]) - d[2] * <float>2
        o[2 * s] = (d[6] - d[4] * <float>3) + d[2] * <float>2
        o[3 * s] = d[6] - d[2]
        o[4 * s] = (d[8] - d[4]) + (d[2] - d[6]) * <float>2
        o[5 * s] = d[1]
        o[6 * s] = d[3]
        o[7 * s] = d[5]
        o[8 * s] = d[7]
    elif A == 8:
        o[0] = (d[6] - d[0]) + (d[2] - d[4]) * <float>5.25
        pair(d[6] + d[2] - d[4] * <float>4.25, d[5] + d[1] - d[3] * <float>4.25, 1, o + s, s)
        pair(d[6] - d[4] * <float>1.25 + d[2] * <float>0.25, d[5] - d[3] * <float>1.25 + d[1] * <float>0.25, 2, o + 3 * s, s)
        pair(d[6] - d[4] * <float>5 + d[2] * <float>4, d[5] - d[3] * <float>5 + d[1] * <float>4, 0.5, o + 5 * s, s)
        o[7 * s] = (d[7] - d[1]) + (d[3] - d[5]) * <float>5.25
    else:
        o[0] = (d[8] - d[6] * <float>6.265625 + d[4] * <float>10.240234375 - d[2] * <float>4.83453369140625
                + d[0] * <float>0.494384765625)
        pair(d[8] - d[6] * <float>5.703125 + d[4] * <float>7.0322265625 - d[2] * <float>0.87890625,
             d[7] - d[5] * <float>5.703125 + d[3] * <float>7.0322265625 - d[1] * <float>0.87890625, 0.75, o + s, s)
        pair(d[8] - d[6] * <float>4.703125 + d[4] * <float>2.8916015625 - d[2] * <float>0.31640625,
             d[7] - d[5] * <float>4.703125 + d[3] * <float>2.8916015625 - d[1] * <float>0.31640625, 1.25, o + 3 * s, s)
        pair(d[8] - d[6] * <float>2.265625 + d[4] * <float>1.177734375 - d[2] * <float>0.12359619140625,
             d[7] - d[5] * <float>2.265625 + d[3] * <float>1.177734375 - d[1] * <float>0.12359619140625, 2, o + 5 * s, s)
        pair(d[8] - d[6] * <float>6.125 + d[4] * <float>9.37890625 - d[2] * <float>3.515625,
             d[7] - d[5] * <float>6.125 + d[3] * <float>9.37890625 - d[1] * <float>3.515625, 0.375, o + 7 * s, s)
        o[9 * s] = (d[9] - d[7] * <float>6.265625 + d[5] * <float>10.240234375 - d[3] * <float>4.83453369140625
                    + d[1] * <float>0.494384765625)


cdef inline void transform_output(const int A, const int M, const vf *m, vf *o, const int s) noexcept nogil:
    """A^T: A neighbouring registers become M, `s` apart."""
    cdef vf a, b, e, f, g, h, k, l
    if A == 1:
        o[0] = m[0]
        return
    a = m[1] + m[2]
    b = m[1] - m[2]
    if A == 4:
        o[0] = m[0] + a
        o[s] = b + m[3]
        return
    if A == 9:
        o[0] = m[0] + a + m[3] + m[5]
        o[s] = b + m[3] * <float>2 + m[6]
        o[2 * s] = a + m[3] * <float>4 + m[7]
        o[3 * s] = b + m[3] * <float>8 + m[4] + m[8]
        return
    e = m[3] + m[4]
    f = m[3] - m[4]
    if A == 6:
        o[0] = m[0] + a + e
        if M == 2:
            o[s] = b + f * <float>2 + m[5]
        else:
            o[s] = b + f * <float>2
            o[2 * s] = a + e * <float>4
            o[3 * s] = b + f * <float>8 + m[5]
        return
    g = m[5] + m[6]
    h = m[5] - m[6]
    if A == 8:
        o[0] = m[0] + a + e + g
        o[s] = b + f * <float>2 + h * <float>0.5
        o[2 * s] = a + e * <float>4 + g * <float>0.25
        o[3 * s] = b + f * <float>8 + h * <float>0.125 + m[7]
        return
    k = m[7] + m[8]
    l = m[7] - m[8]
    o[0] = m[0] + a + e + g + k
    o[s] = b * <float>0.75 + f * <float>1.25 + h * <float>2 + l * <float>0.375
    o[2 * s] = a * <float>0.5625 + e * <float>1.5625 + g * <float>4 + k * <float>0.140625
    o[3 * s] = b * <float>0.421875 + f * <float>1.953125 + h * <float>8 + l * <float>0.052734375 + m[9]


cdef inline int lower_spot(const int A) noexcept nogil:
    """Of a tile's A pixels along an axis, one that the first windows have; the last ones have `upper_spot`."""
    if A == 1: return 0
    if A == 4: return 1
    if A == 6 or A == 9: return 2
    return 3 if A == 8 else 4


cdef inline int upper_spot(const int A) noexcept nogil:
    if A == 1: return 0
    return 6 if A == 9 else lower_spot(A) + 1


cdef inline void input_tile(const int AH, const int AW, const float *x, Py_ssize_t xrow, float *v, Py_ssize_t step,
                            float *squares) noexcept nogil:
    cdef vf d[10]
    cdef vf t[MAX_ELEMENTS]
    cdef vf one, other
    cdef int i, j
    # two sums: each waits for its last addition
    one = vload(squares)
    other = vset(0)
    for j in range(AW):
        for i in range(AH):
            d[i] = vload(x + i * xrow + j * LANES)
        for i in range(AH):
            if (AH * j + i) % 2: other = other + d[i] * d[i]
            else: one = one + d[i] * d[i]
        if j == lower_spot(AW) or j == upper_spot(AW):
            i = 1 if j == lower_spot(AW) else 3
            vstore(squares + i * LANES, vload(squares + i * LANES) + d[lower_spot(AH)] * d[lower_spot(AH)])
            if AH > 1:
                vstore(squares + (i + 1) * LANES, vload(squares + (i + 1) * LANES) + d[upper_spot(AH)] * d[upper_spot(AH)])
        transform_input(AH, d, t + j, AW)
    vstore(squares, one + other)
    for i in range(AH):
        transform_input(AW, t + AW * i, d, 1)
        for j in range(AW):
            vstore(v + (AW * i + j) * step, d[j])


cdef inline void input_part(const int AH, const int AW, const winograd_input_t *t) noexcept nogil:
    # One tile a call: in a loop over tiles gcc keeps 36 pointers in memory. Neighbours could share two transformed columns, but
    # then those wait in memory too, and it takes longer.
    cdef vf patch[MAX_ELEMENTS]
    cdef int i, j
    if t.rows >= AH and t.columns >= AW and t.xstep == LANES:
        input_tile(AH, AW, t.x, t.xrow, t.v, t.step, t.squares)
        return
    for i in range(AH):
        for j in range(AW):
            patch[AW * i + j] = vload(t.x + i * t.xrow + j * t.xstep) if i < t.rows and j < t.columns else vset(0)
    input_tile(AH, AW, <const float *>patch, AW * LANES, t.v, t.step, t.squares)


# ---------------------------------------------------------------- sums of squares
cdef void add_lanes(const float *x, Py_ssize_t count, int used, float *sums) noexcept nogil:
    cdef Py_ssize_t i
    cdef int lane
    if used == LANES:
        for i in range(count):
            sums[i] = sums[i] + vsum(vload(x + i * LANES))
    else:
        for i in range(count):
            for lane in range(used):
                sums[i] = sums[i] + x[i * LANES + lane]


cdef void weigh_pixel(const float *x, Py_ssize_t xplane, Py_ssize_t planes, int partial, float scale, float *squares,
                      float *largest) noexcept nogil:
    cdef vf v, sum = vset(0), most = vset(largest[0])
    cdef Py_ssize_t b
    cdef int lane
    for b in range(planes + (1 if partial else 0)):
        v = vload(x) if b < planes else vload_part(x, partial)
        most = vlargest(most, v)
        v = v * scale
        sum = sum + v * v
        x = x + xplane
    squares[0] = squares[0] + vsum(sum)
    for lane in range(LANES):
        largest[0] = larger_magnitude((<float *>&most)[lane], largest[0])


# ---------------------------------------------------------------- products
cdef inline void output_tile(const int AH, const int AW, const int MH, const int MW, const int whole, const winograd_output_t *t) noexcept nogil:
    """MH x MW pixels, or as many of them as there are."""
    cdef vf m[10]
    cdef vf c[36]
    cdef vf r
    cdef vf bias = vload(t.bias)
    cdef int i, j
    for j in range(AW):
        for i in range(AH):
            m[i] = vload(t.m + (AW * i + j) * t.step)
        transform_output(AH, MH, m, c + j, AW)
    for i in range(MH):
        if whole or i < t.rows:
            transform_output(AW, MW, c + AW * i, m, 1)
            for j in range(MW):
                if whole or j < t.columns:
                    r = m[j] + bias
                    if t.residual != NULL:
                        r = r + vload(t.residual + i * t.rrow + j * t.rstep)
                    vstore(t.y + i * t.yrow + j * t.ystep, vmin_keep(vmax_keep(r, t.low), t.high))


cdef inline void output_part(const int AH, const int AW, const int MH, const int MW, const winograd_output_t *t) noexcept nogil:
    if t.rows >= MH and t.columns >= MW:
        output_tile(AH, AW, MH, MW, 1, t)
    else:
        output_tile(AH, AW, MH, MW, 0, t)


# ---------------------------------------------------------------- weights
cdef inline void weights_part(const int KH, const int KW, const int UH, const int UW, const int S, const winograd_kernel_t *t) noexcept nogil:
    transform_kernel(KH, KW, UH, UW, S, t.g, t.apart, t.u, t.size, t.width)


cdef inline void restore_part(const int KH, const int KW, const int UH, const int UW, const int S, const winograd_kernel_t *t) noexcept nogil:
    restore_kernel(KH, KW, UH, UW, S, t.u, t.size, t.width, t.marks, MARKED, t.bit, t.g, t.apart)


cdef enum:
    WIDEST = 2 * LANES                  # output channels of a panel
    ALONG = 64 // WIDEST                # kernels whose elements are gathered before they are written: streams of whole lines


cdef int weights(const winograd_form_t *form, float *g, float *u, Py_ssize_t size, Py_ssize_t width, Py_ssize_t count,
                 unsigned int *marks) noexcept nogil:
    cdef float gathered[MAX_MATRICES * ALONG * WIDEST]
    cdef Py_ssize_t at = 0, k, e, some, taps = form.taps_h * form.taps_w
    cdef Py_ssize_t elements = (form.tile_h + form.taps_h - 1) * (form.tile_w + form.taps_w - 1)
    cdef winograd_kernel_t one
    one.apart = one.width = width
    one.size = ALONG * WIDEST
    one.marks = NULL
    one.bit = 0
    while at < count:
        some = count - at if count - at < ALONG else ALONG
        for k in range(some):
            one.g = g + (at + k) * taps * width
            one.u = gathered + k * width
            form.weights(&one)
        for e in range(elements):
            memcpy(u + e * size + at * width, gathered + e * ALONG * WIDEST, some * width * sizeof(float))
        at = at + some
    return mark_kernels(g, <int>taps, width, count, marks, MARKED)


# ---------------------------------------------------------------- forms
cdef void input_4_4(const winograd_input_t *t) noexcept nogil: input_part(4, 4, t)
cdef void input_6_6(const winograd_input_t *t) noexcept nogil: input_part(6, 6, t)
cdef void input_9_9(const winograd_input_t *t) noexcept nogil: input_part(9, 9, t)
cdef void input_1_6(const winograd_input_t *t) noexcept nogil: input_part(1, 6, t)
cdef void input_6_1(const winograd_input_t *t) noexcept nogil: input_part(6, 1, t)
cdef void input_1_8(const winograd_input_t *t) noexcept nogil: input_part(1, 8, t)
cdef void input_8_1(const winograd_input_t *t) noexcept nogil: input_part(8, 1, t)
cdef void input_1_10(const winograd_input_t *t) noexcept nogil: input_part(1, 10, t)
cdef void input_10_1(const winograd_input_t *t) noexcept nogil: input_part(10, 1, t)

cdef void output_6_6_to_4_4(const winograd_output_t *t) noexcept nogil: output_part(6, 6, 4, 4, t)
cdef void output_4_4_to_2_2(const winograd_output_t *t) noexcept nogil: output_part(4, 4, 2, 2, t)
cdef void output_6_6_to_2_2(const winograd_output_t *t) noexcept nogil: output_part(6, 6, 2, 2, t)
cdef void output_1_6_to_1_4(const winograd_output_t *t) noexcept nogil: output_part(1, 6, 1, 4, t)
cdef void output_6_1_to_4_1(const winograd_output_t *t) noexcept nogil: output_part(6, 1, 4, 1, t)
cdef void output_1_8_to_1_4(const winograd_output_t *t) noexcept nogil: output_part(1, 8, 1, 4, t)
cdef void output_8_1_to_4_1(const winograd_output_t *t) noexcept nogil: output_part(8, 1, 4, 1, t)
cdef void output_1_10_to_1_4(const winograd_output_t *t) noexcept nogil: output_part(1, 10, 1, 4, t)
cdef void output_10_1_to_4_1(const winograd_output_t *t) noexcept nogil: output_part(10, 1, 4, 1, t)
cdef void output_9_9_to_4_4(const winograd_output_t *t) noexcept nogil: output_part(9, 9, 4, 4, t)

cdef void weights_3_3_to_6_6(const winograd_kernel_t *t) noexcept nogil: weights_part(3, 3, 6, 6, 1, t)
cdef void weights_3_3_to_4_4(const winograd_kernel_t *t) noexcept nogil: weights_part(3, 3, 4, 4, 1, t)
cdef void weights_5_5_to_6_6(const winograd_kernel_t *t) noexcept nogil: weights_part(5, 5, 6, 6, 1, t)
cdef void weights_1_3_to_1_6(const winograd_kernel_t *t) noexcept nogil: weights_part(1, 3, 1, 6, 1, t)
cdef void weights_3_1_to_6_1(const winograd_kernel_t *t) noexcept nogil: weights_part(3, 1, 6, 1, 1, t)
cdef void weights_1_5_to_1_8(const winograd_kernel_t *t) noexcept nogil: weights_part(1, 5, 1, 8, 1, t)
cdef void weights_5_1_to_8_1(const winograd_kernel_t *t) noexcept nogil: weights_part(5, 1, 8, 1, 1, t)
cdef void weights_1_7_to_1_10(const winograd_kernel_t *t) noexcept nogil: weights_part(1, 7, 1, 10, 1, t)
cdef void weights_7_1_to_10_1(const winograd_kernel_t *t) noexcept nogil: weights_part(7, 1, 10, 1, 1, t)
cdef void weights_3_3_to_6_6_stride_2(const winograd_kernel_t *t) noexcept nogil: weights_part(3, 3, 6, 6, 2, t)

cdef void restore_3_3_to_6_6(const winograd_kernel_t *t) noexcept nogil: restore_part(3, 3, 6, 6, 1, t)
cdef void restore_3_3_to_4_4(const winograd_kernel_t *t) noexcept nogil: restore_part(3, 3, 4, 4, 1, t)
cdef void restore_5_5_to_6_6(const winograd_kernel_t *t) noexcept nogil: restore_part(5, 5, 6, 6, 1, t)
cdef void restore_1_3_to_1_6(const winograd_kernel_t *t) noexcept nogil: restore_part(1, 3, 1, 6, 1, t)
cdef void restore_3_1_to_6_1(const winograd_kernel_t *t) noexcept nogil: restore_part(3, 1, 6, 1, 1, t)
cdef void restore_1_5_to_1_8(const winograd_kernel_t *t) noexcept nogil: restore_part(1, 5, 1, 8, 1, t)
cdef void restore_5_1_to_8_1(const winograd_kernel_t *t) noexcept nogil: restore_part(5, 1, 8, 1, 1, t)
cdef void restore_1_7_to_1_10(const winograd_kernel_t *t) noexcept nogil: restore_part(1, 7, 1, 10, 1, t)
cdef void restore_7_1_to_10_1(const winograd_kernel_t *t) noexcept nogil: restore_part(7, 1, 10, 1, 1, t)
cdef void restore_3_3_to_6_6_stride_2(const winograd_kernel_t *t) noexcept nogil: restore_part(3, 3, 6, 6, 2, t)

cdef WinogradTiles tiles
tiles.lanes = LANES
tiles.n_forms = 0
tiles.weights = weights
tiles.add_lanes = add_lanes
tiles.weigh_pixel = weigh_pixel


cdef int add_form(int taps_h, int taps_w, int tile_h, int tile_w, int stride, winograd_input_fn input, winograd_output_fn output,
                  winograd_kernel_fn weights, winograd_kernel_fn restore) except -1:
    cdef winograd_form_t *form = &tiles.forms[tiles.n_forms]
    if tiles.n_forms == MAX_FORMS:
        raise ImportError("winograd: more forms than MAX_FORMS")
    form.taps_h, form.taps_w = taps_h, taps_w
    form.tile_h, form.tile_w = tile_h, tile_w
    form.stride = stride
    form.input = input
    form.output = output
    form.weights = weights
    form.restore = restore
    tiles.n_forms += 1
    return 0


# The one table of forms: taps and output pixels along h and w, stride; of each kernel the largest tile first, which is preferred.
add_form(3, 3, 4, 4, 1, input_6_6, output_6_6_to_4_4, weights_3_3_to_6_6, restore_3_3_to_6_6)
add_form(3, 3, 2, 2, 1, input_4_4, output_4_4_to_2_2, weights_3_3_to_4_4, restore_3_3_to_4_4)
add_form(5, 5, 2, 2, 1, input_6_6, output_6_6_to_2_2, weights_5_5_to_6_6, restore_5_5_to_6_6)
add_form(1, 3, 1, 4, 1, input_1_6, output_1_6_to_1_4, weights_1_3_to_1_6, restore_1_3_to_1_6)
add_form(3, 1, 4, 1, 1, input_6_1, output_6_1_to_4_1, weights_3_1_to_6_1, restore_3_1_to_6_1)
add_form(1, 5, 1, 4, 1, input_1_8, output_1_8_to_1_4, weights_1_5_to_1_8, restore_1_5_to_1_8)
add_form(5, 1, 4, 1, 1, input_8_1, output_8_1_to_4_1, weights_5_1_to_8_1, restore_5_1_to_8_1)
add_form(1, 7, 1, 4, 1, input_1_10, output_1_10_to_1_4, weights_1_7_to_1_10, restore_1_7_to_1_10)
add_form(7, 1, 4, 1, 1, input_10_1, output_10_1_to_4_1, weights_7_1_to_10_1, restore_7_1_to_10_1)
add_form(3, 3, 4, 4, 2, input_9_9, output_9_9_to_4_4, weights_3_3_to_6_6_stride_2, restore_3_3_to_6_6_stride_2)

capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
