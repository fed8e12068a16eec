# cython: language_level=3
"""Tiles of the kernels that sample images, compiled once per instruction set.

What runs along a row of memory with one weight for all (`mix_rows`, `scatter` with a step of one) is vectors, four registers
of output at a time so that a tap's weight is spread once for all of them. What gathers from a row (`mix_along`, `blend_along`,
`pick`) has an index per output: loops without aliases, of which compilers make gathers where there are any.
"""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE

from cnnengine._kernels.simd cimport *

cdef extern from *:
    """
    static void blend_along(const float *restrict x, const int *restrict a, const int *restrict b, const float *restrict u,
                            const float *restrict v, float *restrict y, Py_ssize_t n)
    {
        for (Py_ssize_t i = 0; i < n; i++)
            y[i] = x[a[i]] * u[i] + x[b[i]] * v[i];
    }
    static void pick(const float *restrict x, const int *restrict at, float *restrict y, Py_ssize_t n)
    {
        for (Py_ssize_t i = 0; i < n; i++)
            y[i] = x[at[i]];
    }
    static void add_to(const float *restrict x, float *restrict y, Py_ssize_t n)
    {
        for (Py_ssize_t i = 0; i < n; i++)
            y[i] += x[i];
    }
    static void add_apart(const float *restrict x, float *restrict y, Py_ssize_t step, Py_ssize_t n)
    {
        for (Py_ssize_t i = 0; i < n; i++)
            y[i * step] += x[i];
    }
    static void lines2(const float *restrict x, const float *restrict a, const float *restrict b, float *restrict y, Py_ssize_t n)
    {
        const float a0 = a[0], a1 = a[1], b0 = b[0], b1 = b[1];
        for (Py_ssize_t i = 0; i < n; i++) {
            y[2 * i] = a0 * x[i] + b0;
            y[2 * i + 1] = a1 * x[i] + b1;
        }
    }
    static void lines3(const float *restrict x, const float *restrict a, const float *restrict b, float *restrict y, Py_ssize_t n)
    {
        const float a0 = a[0], a1 = a[1], a2 = a[2], b0 = b[0], b1 = b[1], b2 = b[2];
        for (Py_ssize_t i = 0; i < n; i++) {
            y[3 * i] = a0 * x[i] + b0;
            y[3 * i + 1] = a1 * x[i] + b1;
            y[3 * i + 2] = a2 * x[i] + b2;
        }
    }
    """
    void blend_along(const float *, const int *, const int *, const float *, const float *, float *, Py_ssize_t) noexcept nogil
    void pick(const float *, const int *, float *, Py_ssize_t) noexcept nogil
    void add_to(const float *, float *, Py_ssize_t) noexcept nogil
    void add_apart(const float *, float *, Py_ssize_t, Py_ssize_t) noexcept nogil
    void lines2(const float *, const float *, const float *, float *, Py_ssize_t) noexcept nogil
    void lines3(const float *, const float *, const float *, float *, Py_ssize_t) noexcept nogil


cdef void weigh_max(const float *x, const Py_ssize_t *offsets, const float *high, const float *low, Py_ssize_t taps, bint zero,
                    float *y) noexcept nogil:
    cdef Py_ssize_t k
    cdef vf most = vset(0), v
    for k in range(taps):
        v = vload(x + offsets[k])
        v = vmax_nan(v * vset(high[k]), v * vset(low[k]))
        most = vmax_nan(most, v) if k or zero else v
    vstore(y, most)


cdef void mix_rows(const float *x, const Py_ssize_t *offsets, const float *weights, Py_ssize_t taps, float *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0, k
    cdef vf a, b, c, d, w
    cdef const float *row
    cdef float total
    while i + 4 * LANES <= n:
        row = x + offsets[0] + i
        w = vset(weights[0])
        a = vload(row) * w
        b = vload(row + LANES) * w
        c = vload(row + 2 * LANES) * w
        d = vload(row + 3 * LANES) * w
        for k in range(1, taps):
            row = x + offsets[k] + i
            w = vset(weights[k])
            a = a + vload(row) * w
            b = b + vload(row + LANES) * w
            c = c + vload(row + 2 * LANES) * w
            d = d + vload(row + 3 * LANES) * w
        vstore(y + i, a)
        vstore(y + i + LANES, b)
        vstore(y + i + 2 * LANES, c)
        vstore(y + i + 3 * LANES, d)
        i = i + 4 * LANES
    while i + LANES <= n:
        a = vload(x + offsets[0] + i) * vset(weights[0])
        for k in range(1, taps):
            a = a + vload(x + offsets[k] + i) * vset(weights[k])
        vstore(y + i, a)
        i = i + LANES
    while i < n:
        total = x[offsets[0] + i] * weights[0]
        for k in range(1, taps):
            total = total + x[offsets[k] + i] * weights[k]
        y[i] = total
        i = i + 1


cdef void mix_along(const float *x, const Py_ssize_t *first, const float *weights, const int *taps, float *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef int k
    cdef const float *at
    cdef float even, odd
    for i in range(n):
        at = x + first[i]
        even = odd = 0
        k = 0
        while k + 1 < taps[i]:
            even = even + at[k] * weights[k]
            odd = odd + at[k + 1] * weights[k + 1]
            k = k + 2
        if k < taps[i]:
            even = even + at[k] * weights[k]
        y[i] = even + odd
        weights = weights + taps[i]


cdef void repeat(const float *x, Py_ssize_t times, float *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0, k
    cdef vf v
    if times == 2:
        while i + LANES <= n:
            v = vload(x + i)
            vstore(y + 2 * i, vzip_lo(v, v))
            vstore(y + 2 * i + LANES, vzip_hi(v, v))
            i = i + LANES
    while i < n:
        for k in range(times):
            y[i * times + k] = x[i]
        i = i + 1


cdef void scatter(const float *x, float *y, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    if step == 1:
        add_to(x, y, n)
    else:
        add_apart(x, y, step, n)


cdef void lines(const float *x, const float *a, const float *b, int axes, float *y, Py_ssize_t n) noexcept nogil:
    if axes == 2:
        lines2(x, a, b, y, n)
    else:
        lines3(x, a, b, y, n)


cdef ImageTiles tiles
tiles.weigh_max = weigh_max
tiles.mix_rows = mix_rows
tiles.mix_along = mix_along
tiles.blend_along = blend_along
tiles.pick = pick
tiles.repeat = repeat
tiles.scatter = scatter
tiles.lines = lines
capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
