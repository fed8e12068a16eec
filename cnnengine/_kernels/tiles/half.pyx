"""Tiles for float16 and bfloat16: runs that convert, and dense layers whose weights are of half the size; compiled once per
instruction set.

Runs
    A register at a time; the rest of a run goes through a register of memory, so that nothing beyond it is read or written.
    Instructions that convert float16 make NaNs quiet, which integers do not: a piece of a run in which a NaN came out is converted
    anew by integers, so that every instruction set gives the same bits.

Dense
    One row of x is bound by memory: weights of half the size are half the time. A tile is R rows by P panels of two blocks of
    outputs, one sum for each; a weight is loaded and widened once for all rows. One row takes four panels, because fewer sums would
    wait for their own additions; so sums run over k in one order whatever the rows, the order of the convolution's tiles, and
    have the bits that these give on the widened weights. Every access to a sum has a constant index, or gcc keeps them in memory:
    hence `cells`, written out. bfloat16 lies in pairs, a number of each of a panel's two blocks: a shift and a mask widen it.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint16_t
from libc.string cimport memcpy

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE

from cnnengine._kernels.simd cimport *

cdef extern from "half.h" nogil:
    """
    /* sums of 6 or 8 rows by two blocks, a row of weights and a number of x are in registers */
    #define HALF_ROWS (VREGISTERS < 32 ? 6 : 8)
    """
    enum: HALF_QUIETS, HALF_ROWS
    vf vf16_load(const uint16_t *) noexcept
    vf vf16_load_bits(const uint16_t *) noexcept
    vf vbf16_load(const uint16_t *) noexcept
    vf vbf16_even(const uint16_t *) noexcept
    vf vbf16_odd(const uint16_t *) noexcept
    void vf16_store(uint16_t *, vf) noexcept
    void vf16_store_bits(uint16_t *, vf) noexcept
    void vbf16_store(uint16_t *, vf) noexcept

cdef enum:
    BY_BITS = 2                         # float16 by integers, beside FLOAT16 and BFLOAT16
    PIECE = 1024                        # numbers that are converted anew where there is a NaN


# ---------------------------------------------------------------- runs
cdef inline vf wide(const int KIND, const uint16_t *x) noexcept nogil:
    if KIND == FLOAT16:
        return vf16_load(x)
    if KIND == BFLOAT16:
        return vbf16_load(x)
    return vf16_load_bits(x)


cdef inline void put(const int KIND, uint16_t *y, vf v) noexcept nogil:
    if KIND == FLOAT16:
        vf16_store(y, v)
    elif KIND == BFLOAT16:
        vbf16_store(y, v)
    else:
        vf16_store_bits(y, v)


cdef inline bint widen_run(const int KIND, const uint16_t *x, float *y, Py_ssize_t n) noexcept nogil:
    """Whether a NaN is among them."""
    cdef vi nan = viset(0)
    cdef vf v
    cdef uint16_t rest[16]
    cdef Py_ssize_t i = 0
    while i + LANES <= n:
        v = wide(KIND, x + i)
        nan = nan | vne(v, v)
        vstore(y + i, v)
        i = i + LANES
    if i < n:
        for lane in range(LANES):
            rest[lane] = 0
        memcpy(rest, x + i, (n - i) * sizeof(uint16_t))
        v = wide(KIND, rest)
        nan = nan | vne(v, v)
        vstore_part(y + i, v, <int>(n - i))
    return vany(nan)


cdef inline bint narrow_run(const int KIND, const float *x, uint16_t *y, Py_ssize_t n) noexcept nogil:
    """Whether a NaN is among them."""
    cdef vi nan = viset(0)
    cdef vf v
    cdef uint16_t rest[16]
    cdef Py_ssize_t i = 0
    while i + LANES <= n:
        v = vload(x + i)
        nan = nan | vne(v, v)
        put(KIND, y + i, v)
        i = i + LANES
    if i < n:
        v = vload_part(x + i, <int>(n - i))
        nan = nan | vne(v, v)
        put(KIND, rest, v)
        memcpy(y + i, rest, (n - i) * sizeof(uint16_t))
    return vany(nan)


cdef void widen_f16(const uint16_t *x, float *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0, some
    while i < n:
        some = PIECE if n - i > PIECE else n - i
        if widen_run(FLOAT16, x + i, y + i, some) and HALF_QUIETS:
            widen_run(BY_BITS, x + i, y + i, some)
        i = i + some


cdef void widen_bf16(const uint16_t *x, float *y, Py_ssize_t n) noexcept nogil:
    widen_run(BFLOAT16, x, y, n)


cdef void narrow_f16(const float *x, uint16_t *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0, some
    while i < n:
        some = PIECE if n - i > PIECE else n - i
        if narrow_run(FLOAT16, x + i, y + i, some) and HALF_QUIETS:
            narrow_run(BY_BITS, x + i, y + i, some)
        i = i + some


cdef void narrow_bf16(const float *x, uint16_t *y, Py_ssize_t n) noexcept nogil:
    narrow_run(BFLOAT16, x, y, n)


# ---------------------------------------------------------------- dense
cdef inline void cell(const int I, const int R, const int P, const int B, vf *sums, const vf *w, const vf *x) noexcept nogil:
    """The sums of row I // P and panel I % P go on by one k."""
    if I < R * P:
        sums[2 * I] = sums[2 * I] + w[2 * (I % P)] * x[I // P]
        if B == 2:
            sums[2 * I + 1] = sums[2 * I + 1] + w[2 * (I % P) + 1] * x[I // P]


cdef inline void panel(const int I, const int KIND, const int P, const int B, vf *w, const uint16_t *from_, Py_ssize_t step) noexcept nogil:
    if I < P and KIND == BFLOAT16 and B == 2:
        w[2 * I] = vbf16_even(from_ + I * step)
        w[2 * I + 1] = vbf16_odd(from_ + I * step)
    elif I < P:
        w[2 * I] = wide(KIND, from_ + I * step)
        if B == 2:
            w[2 * I + 1] = wide(KIND, from_ + I * step + LANES)


cdef inline void number(const int I, const int R, vf *x, const float *from_, Py_ssize_t step) noexcept nogil:
    if I < R:
        x[I] = vset(from_[I * step])


cdef inline void begin(const int I, const int R, const int P, const int B, vf *sums, const float *bias) noexcept nogil:
    if I < R * P:
        sums[2 * I] = vload(bias + I % P * 2 * LANES)
        if B == 2:
            sums[2 * I + 1] = vload(bias + I % P * 2 * LANES + LANES)


cdef inline void end(const int I, const int R, const int P, const int B, const vf *sums, const half_tile_t *t) noexcept nogil:
    cdef Py_ssize_t at = I % P * 2 * LANES
    cdef vf v
    if I < R * P:
        v = sums[2 * I]
        if t.residual != NULL:
            v = v + vload(t.residual + I // P * t.rstep + at)
        vstore(t.y + I // P * t.ystep + at, vmin_keep(vmax_keep(v, t.low), t.high))
        if B == 2:
            v = sums[2 * I + 1]
            if t.residual != NULL:
                v = v + vload(t.residual + I // P * t.rstep + at + LANES)
            vstore(t.y + I // P * t.ystep + at + LANES, vmin_keep(vmax_keep(v, t.low), t.high))


cdef inline void tile(const int KIND, const int R, const int P, const int B, const half_tile_t *t) noexcept nogil:
    cdef vf sums[16]
    cdef vf w[8]
    cdef vf x[8]
    cdef const uint16_t *at = t.w
    cdef const float *from_ = t.x
    cdef const float *last = t.x + t.k
    cdef Py_ssize_t step = t.k * 2 * LANES, xstep = t.xstep
    begin(0, R, P, B, sums, t.bias)
    begin(1, R, P, B, sums, t.bias)
    begin(2, R, P, B, sums, t.bias)
    begin(3, R, P, B, sums, t.bias)
    begin(4, R, P, B, sums, t.bias)
    begin(5, R, P, B, sums, t.bias)
    begin(6, R, P, B, sums, t.bias)
    begin(7, R, P, B, sums, t.bias)
    while from_ < last:
        panel(0, KIND, P, B, w, at, step)
        panel(1, KIND, P, B, w, at, step)
        panel(2, KIND, P, B, w, at, step)
        panel(3, KIND, P, B, w, at, step)
        number(0, R, x, from_, xstep)
        cell(0, R, P, B, sums, w, x)
        if P > 1:
            cell(1, R, P, B, sums, w, x)
        if P > 2:
            cell(2, R, P, B, sums, w, x)
            cell(3, R, P, B, sums, w, x)
        number(1, R, x, from_, xstep)
        if P == 1:
            cell(1, R, P, B, sums, w, x)
        if P == 2:
            cell(2, R, P, B, sums, w, x)
            cell(3, R, P, B, sums, w, x)
        if P == 1:
            number(2, R, x, from_, xstep)
            cell(2, R, P, B, sums, w, x)
            number(3, R, x, from_, xstep)
            cell(3, R, P, B, sums, w, x)
            number(4, R, x, from_, xstep)
            cell(4, R, P, B, sums, w, x)
            number(5, R, x, from_, xstep)
            cell(5, R, P, B, sums, w, x)
            number(6, R, x, from_, xstep)
            cell(6, R, P, B, sums, w, x)
            number(7, R, x, from_, xstep)
            cell(7, R, P, B, sums, w, x)
        at = at + B * LANES
        from_ = from_ + 1
    end(0, R, P, B, sums, t)
    end(1, R, P, B, sums, t)
    end(2, R, P, B, sums, t)
    end(3, R, P, B, sums, t)
    end(4, R, P, B, sums, t)
    end(5, R, P, B, sums, t)
    end(6, R, P, B, sums, t)
    end(7, R, P, B, sums, t)


cdef inline void dense(const int KIND, int rows, int panels, bint single, const half_tile_t *t) noexcept nogil:
    if single:
        if rows == 1:
            tile(KIND, 1, 1, 1, t)
        elif rows == 2:
            tile(KIND, 2, 1, 1, t)
        elif rows == 3:
            tile(KIND, 3, 1, 1, t)
        elif rows == 4:
            tile(KIND, 4, 1, 1, t)
        elif rows == 5:
            tile(KIND, 5, 1, 1, t)
        elif rows == 6:
            tile(KIND, 6, 1, 1, t)
        elif rows == 7:
            tile(KIND, 7 if HALF_ROWS > 6 else 6, 1, 1, t)
        else:
            tile(KIND, HALF_ROWS, 1, 1, t)
    elif rows == 1:
        if panels == 4:
            tile(KIND, 1, 4, 2, t)
        elif panels == 2:
            tile(KIND, 1, 2, 2, t)
        else:
            tile(KIND, 1, 1, 2, t)
    elif rows == 2:
        if panels == 2:
            tile(KIND, 2, 2, 2, t)
        else:
            tile(KIND, 2, 1, 2, t)
    elif rows == 3:
        tile(KIND, 3, 1, 2, t)
    elif rows == 4:
        tile(KIND, 4, 1, 2, t)
    elif rows == 5:
        tile(KIND, 5, 1, 2, t)
    elif rows == 6:
        tile(KIND, 6, 1, 2, t)
    elif rows == 7:
        tile(KIND, 7 if HALF_ROWS > 6 else 6, 1, 2, t)
    else:
        tile(KIND, HALF_ROWS, 1, 2, t)


cdef void dense_f16(int rows, int panels, bint single, const half_tile_t *t) noexcept nogil:
    dense(FLOAT16, rows, panels, single, t)


cdef void dense_bf16(int rows, int panels, bint single, const half_tile_t *t) noexcept nogil:
    dense(BFLOAT16, rows, panels, single, t)


cdef HalfTiles tiles
tiles.lanes = LANES
tiles.rows = HALF_ROWS
tiles.widen[:] = [widen_f16, widen_bf16]
tiles.narrow[:] = [narrow_f16, narrow_bf16]
tiles.dense[:] = [dense_f16, dense_bf16]
capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
