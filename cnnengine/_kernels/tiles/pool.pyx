"""Pooling tiles: windows over planes, whole planes, and contiguous runs, compiled once per instruction set.

Layout
    x, y   planes [..][pixel][LANES]; `flat` alone reads a plain run of floats

`row`: P output pixels at once, each in a register. Where taps lie side by side (no dilation along the row) and the window
is 2, 3 or 5 wide at stride 1 or 2, the window is taken apart: first every column of input pixels is reduced over the
window's rows, then the columns over its width. Neighbouring windows share columns, so 3x3 at stride 1 costs 4.5 operations
a pixel instead of 9. Border pixels come as rows of width 1 whose taps the caller has clipped: no tile knows about padding.

`box` and `flat`: one large window. Sums go through three levels (four registers over 64 steps, 64 of those, the total), so
that their rounding error grows with the levels' lengths and not with the window's: a mean over millions of pixels is as
good as one over hundreds.

NaN: `take_max` is a maximum, which keeps a NaN that is there, and a blend, which takes one that comes.
"""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE

from libc.math cimport INFINITY

from cnnengine._kernels.simd cimport *

cdef extern from "simd.h" nogil:
    """
    /* v where it is larger or NaN. GCC before 14 makes four to ten instructions of the plain text where three do. */
    #if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
    typedef float pf __attribute__((vector_size(VBYTES)));
    AI vf take_max(vf a, vf v)
    {
    #if defined(__AVX512F__)
        pf larger = __builtin_ia32_maxps512_mask((pf)v, (pf)a, (pf)a, -1, 4);
        return (vf)__builtin_ia32_blendmps_512_mask(larger, (pf)v, __builtin_ia32_cmpps512_mask((pf)v, (pf)v, 3, -1, 4));
    #elif defined(__AVX__)
        return (vf)__builtin_ia32_blendvps256(__builtin_ia32_maxps256((pf)v, (pf)a), (pf)v, __builtin_ia32_cmpps256((pf)v, (pf)v, 3));
    #else
        return vselect((vi)(v != v), v, (vf)__builtin_ia32_maxps((pf)v, (pf)a));
    #endif
    }
    #else
    AI vf take_max(vf a, vf v) { return vselect((vi)(v > a) | (vi)(v != v), v, a); }
    #endif
    /* lanes by..LANES at the front; the others are of no use */
    AI vf half_down(vf a, int by)
    {
        vi at = {0};
        for (int i = 0; i < LANES; i++) at[i] = (i + by) % LANES;
    #if defined(__clang__)
        vf r;
        for (int i = 0; i < LANES; i++) r[i] = a[at[i]];
        return r;
    #else
        return (vf)__builtin_shuffle((vi)a, at);
    #endif
    }
    /* the last n lanes of a, the others from `fill` */
    AI vf keep_last(vf a, int n, vf fill)
    {
        vi at = {0};
        for (int i = 0; i < LANES; i++) at[i] = i;
        return vselect((vi)(at >= viset(LANES - n)), a, fill);
    }
    """
    vf keep_last(vf, int, vf) noexcept
    vf half_down(vf, int) noexcept
    vf take_max(vf, vf) noexcept

cdef enum:
    SEGMENT = 64                        # steps of one level of a long sum


cdef inline vf start(const int KIND) noexcept nogil:
    return vset(-INFINITY) if KIND == POOL_MAX else vset(0)


cdef inline vf combine(const int KIND, vf a, vf v, float p) noexcept nogil:
    """The value `a` so far and one more tap."""
    if KIND == POOL_MAX:
        return take_max(a, v)
    if KIND == POOL_AVG:
        return a + v
    if KIND == POOL_L1:
        return a + vf_abs(v)
    if KIND == POOL_L2:
        return a + v * v
    return a + vpower(vf_abs(v), p)


cdef inline vf merge(const int KIND, vf a, vf b) noexcept nogil:
    """Two partial results."""
    return take_max(a, b) if KIND == POOL_MAX else a + b


cdef inline vf finish(const int KIND, vf a, const pool_tile_t *t) noexcept nogil:
    if KIND == POOL_AVG:
        return a / vset(t.count)
    if KIND == POOL_L2:
        return vf_sqrt(a)
    if KIND == POOL_LP:
        return vpower(a, <float>1 / t.p)
    return a


cdef inline void pixels(const int KIND, const int P, Py_ssize_t at, const pool_tile_t *t) noexcept nogil:
    """P pixels from `at` under any window."""
    cdef vf acc[4]
    cdef vf part[4]
    cdef int i
    cdef Py_ssize_t z, r, k, step = t.step
    cdef const float *x
    for i in range(P):
        acc[i] = start(KIND)
    for z in range(t.kd):
        for r in range(t.kh):
            x = t.x + at * step + z * t.td + r * t.th
            for i in range(P):
                part[i] = start(KIND)
            for k in range(t.kw):
                for i in range(P):
                    part[i] = combine(KIND, part[i], vload(x + i * step), t.p)
                x = x + t.tw
            for i in range(P):
                acc[i] = merge(KIND, acc[i], part[i])
    for i in range(P):
        vstore(t.y + (at + i) * LANES, finish(KIND, acc[i], t))


cdef inline void columns(const int KIND, const int P, const int KW, const int S, Py_ssize_t at, const pool_tile_t *t) noexcept nogil:
    """P pixels from `at` under windows KW wide at stride S, taps side by side."""
    cdef vf column[12]
    cdef vf acc
    cdef int i, k
    cdef Py_ssize_t z, r
    cdef const float *x
    for i in range((P - 1) * S + KW):
        column[i] = start(KIND)
    for z in range(t.kd):
        for r in range(t.kh):
            x = t.x + at * (S * LANES) + z * t.td + r * t.th
            for i in range((P - 1) * S + KW):
                column[i] = combine(KIND, column[i], vload(x + i * LANES), t.p)
    for i in range(P):
        acc = column[i * S]
        for k in range(1, KW):
            acc = merge(KIND, acc, column[i * S + k])
        vstore(t.y + (at + i) * LANES, finish(KIND, acc, t))


cdef inline void row_of(const int KIND, const int KW, const int S, const pool_tile_t *t) noexcept nogil:
    """The whole row; KW = 0: any window."""
    cdef Py_ssize_t at = 0, n = t.width
    while n - at >= 4:
        if KW:
            columns(KIND, 4, KW, S, at, t)
        else:
            pixels(KIND, 4, at, t)
        at = at + 4
    while n - at >= 1:
        if KW:
            columns(KIND, 1, KW, S, at, t)
        else:
            pixels(KIND, 1, at, t)
        at = at + 1


cdef inline void row(const int KIND, const pool_tile_t *t) noexcept nogil:
    if t.tw == LANES and t.kw == 2 and t.step == 2 * LANES: row_of(KIND, 2, 2, t)
    elif t.tw == LANES and t.kw == 3 and t.step == 2 * LANES: row_of(KIND, 3, 2, t)
    elif t.tw == LANES and t.kw == 3 and t.step == LANES: row_of(KIND, 3, 1, t)
    elif t.tw == LANES and t.kw == 5 and t.step == LANES: row_of(KIND, 5, 1, t)
    elif t.tw == LANES and t.kw == 2 and t.step == LANES: row_of(KIND, 2, 1, t)
    else: row_of(KIND, 0, 0, t)


cdef inline void box(const int KIND, const pool_tile_t *t) noexcept nogil:
    """One pixel: three levels of sums, four registers wide."""
    cdef vf low[4]
    cdef vf middle = start(KIND), total = start(KIND)
    cdef int i
    cdef Py_ssize_t z, r, at, end, segments = 0, tw = t.tw
    cdef const float *x
    for z in range(t.kd):
        for r in range(t.kh):
            x = t.x + z * t.td + r * t.th
            at = 0
            while at < t.kw:
                end = at + 4 * SEGMENT
                if end > t.kw:
                    end = t.kw
                for i in range(4):
                    low[i] = start(KIND)
                while end - at >= 4:
                    for i in range(4):
                        low[i] = combine(KIND, low[i], vload(x + (at + i) * tw), t.p)
                    at = at + 4
                while at < end:
                    low[0] = combine(KIND, low[0], vload(x + at * tw), t.p)
                    at = at + 1
                middle = merge(KIND, middle, merge(KIND, merge(KIND, low[0], low[1]), merge(KIND, low[2], low[3])))
                segments = segments + 1
                if segments == SEGMENT:
                    total = merge(KIND, total, middle)
                    middle = start(KIND)
                    segments = 0
    vstore(t.y, finish(KIND, merge(KIND, total, middle), t))


cdef inline void flat(const int KIND, const pool_tile_t *t) noexcept nogil:
    """t.kw contiguous floats to one."""
    cdef vf low[4]
    cdef vf middle = start(KIND), total = start(KIND)
    cdef int i
    cdef Py_ssize_t at = 0, end, n = t.kw, segments = 0
    while n - at >= LANES:
        end = n if n - at < 4 * SEGMENT * LANES else at + 4 * SEGMENT * LANES
        for i in range(4):
            low[i] = start(KIND)
        while end - at >= 4 * LANES:
            for i in range(4):
                low[i] = combine(KIND, low[i], vload(t.x + at + i * LANES), t.p)
            at = at + 4 * LANES
        while end - at >= LANES:
            low[0] = combine(KIND, low[0], vload(t.x + at), t.p)
            at = at + LANES
        middle = merge(KIND, middle, merge(KIND, merge(KIND, low[0], low[1]), merge(KIND, low[2], low[3])))
        segments = segments + 1
        if segments == SEGMENT:
            total = merge(KIND, total, middle)
            middle = start(KIND)
            segments = 0
    total = merge(KIND, total, middle)
    # the rest beside neutral values (0 adds nothing, -inf is never the larger one); where it can, by a load that ends with it
    if at < n and n >= LANES:
        total = combine(KIND, total, keep_last(vload(t.x + n - LANES), <int>(n - at), start(KIND)), t.p)
    elif at < n:
        total = combine(KIND, total, vload_fill(t.x + at, <int>(n - at), -INFINITY if KIND == POOL_MAX else 0), t.p)
    # fold the lanes: the upper half moves down, again and again
    if LANES == 16:
        total = merge(KIND, total, half_down(total, 8))
    if LANES >= 8:
        total = merge(KIND, total, half_down(total, 4))
    total = merge(KIND, total, half_down(total, 2))
    total = merge(KIND, total, half_down(total, 1))
    t.y[0] = vlane(finish(KIND, total, t), 0)


cdef void row_max(const pool_tile_t *t) noexcept nogil: row(POOL_MAX, t)
cdef void row_avg(const pool_tile_t *t) noexcept nogil: row(POOL_AVG, t)
cdef void row_l1(const pool_tile_t *t) noexcept nogil: row(POOL_L1, t)
cdef void row_l2(const pool_tile_t *t) noexcept nogil: row(POOL_L2, t)
cdef void row_lp(const pool_tile_t *t) noexcept nogil: row_of(POOL_LP, 0, 0, t)
cdef void box_max(const pool_tile_t *t) noexcept nogil: box(POOL_MAX, t)
cdef void box_avg(const pool_tile_t *t) noexcept nogil: box(POOL_AVG, t)
cdef void box_l1(const pool_tile_t *t) noexcept nogil: box(POOL_L1, t)
cdef void box_l2(const pool_tile_t *t) noexcept nogil: box(POOL_L2, t)
cdef void box_lp(const pool_tile_t *t) noexcept nogil: box(POOL_LP, t)
cdef void flat_max(const pool_tile_t *t) noexcept nogil: flat(POOL_MAX, t)
cdef void flat_avg(const pool_tile_t *t) noexcept nogil: flat(POOL_AVG, t)
cdef void flat_l1(const pool_tile_t *t) noexcept nogil: flat(POOL_L1, t)
cdef void flat_l2(const pool_tile_t *t) noexcept nogil: flat(POOL_L2, t)
cdef void flat_lp(const pool_tile_t *t) noexcept nogil: flat(POOL_LP, t)

cdef PoolTiles tiles
tiles.lanes = LANES
tiles.row[:] = [row_max, row_avg, row_l1, row_l2, row_lp]
tiles.box[:] = [box_max, box_avg, box_l1, box_l2, box_lp]
tiles.flat[:] = [flat_max, flat_avg, flat_l1, flat_l2, flat_lp]
capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
