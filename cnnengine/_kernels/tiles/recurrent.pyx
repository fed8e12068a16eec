"""Tiles of recurrent layers: the product of a state and its weights, and the cells' functions; compiled once per instruction set.

Product
    What a step multiplies is one vector for each sequence of the batch, and the next step needs its result: there is nothing to
    share weights with. So one sum is a chain of dependent additions, and four panels, eight registers of sums, go side by side:
    with fewer the additions wait for each other, with more the state is spilled. Weights come from the second or third-level cache
    once a step. Panels are those of the convolution (`pack_dense`), so several sequences of a batch use its tiles on them, whose
    sums run over k in this order too: a sequence has the same bits alone and in a batch.

    Weights beyond the second-level cache: each second step begins with the panels that the step before ended with (`backwards`),
    which that cache still holds; in one direction a cache that drops what was unused for longest would hold none of them.

Cells
    Sigmoid and Tanh of all gates are written on exp(-x) and expm1(-2|x|), whose polynomials go in step, since one chain of these
    operations fills few of a core's ports. Quotients that are multiplied have one division: i * tanh(g) is
    num / ((1 + exp(-i)) * (t + 2)), t = expm1(-2 |g|). Arguments are cut to 87 either way, where sigmoid is 2e-38 or one: no
    denominator overflows. NaN gives NaN.
"""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE

from cnnengine._kernels.simd cimport *


# ---------------------------------------------------------------- products
cdef inline void unit(const int P, const float *x, const float *w, Py_ssize_t k, float *y) noexcept nogil:
    """P panels: every access to a sum has a constant index, or gcc keeps them in memory."""
    cdef const float *w1 = w + k * 2 * LANES
    cdef const float *w2 = w1 + k * 2 * LANES
    cdef const float *w3 = w2 + k * 2 * LANES
    cdef const float *end = x + k
    cdef vf a0, a1, a2, a3, a4, a5, a6, a7
    a0 = vload(y)
    a1 = vload(y + LANES)
    a2 = a3 = a4 = a5 = a6 = a7 = a0
    if P > 1:
        a2 = vload(y + 2 * LANES)
        a3 = vload(y + 3 * LANES)
    if P > 2:
        a4 = vload(y + 4 * LANES)
        a5 = vload(y + 5 * LANES)
    if P > 3:
        a6 = vload(y + 6 * LANES)
        a7 = vload(y + 7 * LANES)
    while x < end:
        a0 = a0 + vload(w) * x[0]
        a1 = a1 + vload(w + LANES) * x[0]
        w = w + 2 * LANES
        if P > 1:
            a2 = a2 + vload(w1) * x[0]
            a3 = a3 + vload(w1 + LANES) * x[0]
            w1 = w1 + 2 * LANES
        if P > 2:
            a4 = a4 + vload(w2) * x[0]
            a5 = a5 + vload(w2 + LANES) * x[0]
            w2 = w2 + 2 * LANES
        if P > 3:
            a6 = a6 + vload(w3) * x[0]
            a7 = a7 + vload(w3 + LANES) * x[0]
            w3 = w3 + 2 * LANES
        x = x + 1
    vstore(y, a0)
    vstore(y + LANES, a1)
    if P > 1:
        vstore(y + 2 * LANES, a2)
        vstore(y + 3 * LANES, a3)
    if P > 2:
        vstore(y + 4 * LANES, a4)
        vstore(y + 5 * LANES, a5)
    if P > 3:
        vstore(y + 6 * LANES, a6)
        vstore(y + 7 * LANES, a7)


cdef void vector_product(const float *x, const float *w, Py_ssize_t k, Py_ssize_t panels, int backwards, float *y) noexcept nogil:
    cdef Py_ssize_t units = (panels + 3) // 4, i, at, left
    for i in range(units):
        at = 4 * (units - 1 - i if backwards else i)
        left = panels - at
        if left >= 4: unit(4, x, w + at * k * 2 * LANES, k, y + at * 2 * LANES)
        elif left == 3: unit(3, x, w + at * k * 2 * LANES, k, y + at * 2 * LANES)
        elif left == 2: unit(2, x, w + at * k * 2 * LANES, k, y + at * 2 * LANES)
        else: unit(1, x, w + at * k * 2 * LANES, k, y + at * 2 * LANES)


# ---------------------------------------------------------------- cells
cdef inline vf cut(vf x) noexcept nogil:
    return vmin_keep(vmax_keep(x, -87.0), 87.0)


cdef inline void exponentials(vf *z, vf *two, const int N) noexcept nogil:
    """exp(z) = two * z + two of N registers in step, |z| <= 87; the polynomial is that of tiles/vector.pyx."""
    cdef vf t[4]
    cdef vf n[4]
    cdef vf r[4]
    cdef vf q[4]
    cdef int i
    for i in range(N):
        t[i] = z[i] * <float>1.44269504088896341 + <float>12582912.0
    for i in range(N):
        n[i] = t[i] - <float>12582912.0
    for i in range(N):
        r[i] = z[i] - n[i] * <float>0.693359375
    for i in range(N):
        r[i] = r[i] - n[i] * <float>-2.12194440e-4
    for i in range(N):
        q[i] = r[i] * <float>0.00019845897622872144 + <float>0.0013940893113613129
    for i in range(N):
        q[i] = q[i] * r[i] + <float>0.008333389647305012
    for i in range(N):
        q[i] = q[i] * r[i] + <float>0.04166635870933533
    for i in range(N):
        q[i] = q[i] * r[i] + <float>0.1666666567325592
    for i in range(N):
        q[i] = q[i] * r[i] + <float>0.5
    for i in range(N):
        z[i] = (q[i] * r[i]) * r[i] + r[i]
    # the integer stands in the low bits of t; the shift drops all above
    for i in range(N):
        two[i] = vi_bits((vf_bits(t[i]) + 127) << 23)


cdef void lstm(const float *gates, Py_ssize_t n, float *c, float *h) noexcept nogil:
    cdef vf z[4]
    cdef vf two[4]
    cdef vf g, t, ci, co, cf, cell
    cdef Py_ssize_t j = 0
    while j < n:
        g = vload(gates + 3 * n + j)
        z[0] = cut(vneg(vload(gates + j)))
        z[1] = cut(vneg(vload(gates + n + j)))
        z[2] = cut(vneg(vload(gates + 2 * n + j)))
        z[3] = cut(vf_abs(g) * <float>-2.0)
        exponentials(z, two, 4)
        # one over the gates
        ci = two[0] * z[0] + two[0] + <float>1.0
        co = two[1] * z[1] + two[1] + <float>1.0
        cf = two[2] * z[2] + two[2] + <float>1.0
        t = two[3] * z[3] + (two[3] - <float>1.0)
        cell = vdivide(vload(c + j), cf) + vdivide(vcopysign(t, g), ci * (t + <float>2.0))
        vstore(c + j, cell)
        z[0] = cut(vf_abs(cell) * <float>-2.0)
        exponentials(z, two, 1)
        t = two[0] * z[0] + (two[0] - <float>1.0)
        vstore(h + j, vdivide(vcopysign(t, cell), co * (t + <float>2.0)))
        j = j + LANES


cdef void gru(const float *gates, const float *again, Py_ssize_t n, float *h) noexcept nogil:
    cdef vf z[2]
    cdef vf two[2]
    cdef vf e, cz, g, t
    cdef Py_ssize_t j = 0
    while j < n:
        z[0] = cut(vneg(vload(gates + j)))
        z[1] = cut(vneg(vload(gates + n + j)))
        exponentials(z, two, 2)
        e = two[0] * z[0] + two[0]
        cz = e + <float>1.0
        g = vload(gates + 2 * n + j) + vdivide(vload(again + j), two[1] * z[1] + two[1] + <float>1.0)
        z[0] = cut(vf_abs(g) * <float>-2.0)
        exponentials(z, two, 1)
        t = two[0] * z[0] + (two[0] - <float>1.0)
        # (1 - z) * tanh(g) + z * h, where 1 - z is e / (1 + e)
        vstore(h + j, vdivide(e * vdivide(vcopysign(t, g), t + <float>2.0) + vload(h + j), cz))
        j = j + LANES


cdef RecurrentTiles tiles
tiles.lanes = LANES
tiles.vector_product = vector_product
tiles.lstm = lstm
tiles.gru = gru
capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
