"""Tiles of products of quantised matrices, compiled once per instruction set.

Layout
    x      rows of words of 32 bits: QSTEP numbers in a word (qsimd.h), bytes as they are or numbers of 16 bits (`words`)
    w      a panel of BLOCKS * LANES columns, [word][column][number of the word]: a byte each, whatever QSTEP is, so that weights
           take as little memory as they can; where a product takes 16 bits they are widened on their way to a register
    sums   [row][column of the panel], int32

A tile is R rows of x by all columns of a panel: a register of weights is loaded once for R rows, a word of x once for all registers
of weights beside it. Where there are but 16 registers, three rows and more take the panel in two halves: sums of 6 x 2 registers fit,
of 3 x 4 do not quite. A lone row has sums for even and for odd words, so that enough of them are on their way at a time. `viplace`
keeps the order in which sums are written here: a compiler that loads all words first puts sums on the stack. Numbers of x are as
they come (less 128 where both must be signed); `finish` takes zero points of both sides into account, by the sums of rows and of
columns, in 32 bits, where all of it is exact but for what does not fit an int32, as the operators of ONNX have it.
"""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE

from libc.stdint cimport int8_t, int32_t, uint8_t
from libc.string cimport memcpy, memset

from cnnengine._kernels.simd cimport *
from cnnengine._kernels.tiles.qconv cimport Q_BYTES, Q_FLOATS, Q_SUMS

cdef extern from "qsimd.h" nogil:
    """
    #define WIDE (VREGISTERS >= 32)
    #define TILE_ROWS 6
    /* a register of weights, whose numbers are bytes in memory */
    #if QSTEP == 4
    #define WSTEP VBYTES
    AI vi vweights(const char *p) { return vi_load(p); }
    #else
    #define WSTEP (VBYTES / 2)
    AI vi vweights(const char *p)
    {
    #  if LANES == 16
        return (vi)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
    #  elif LANES == 8
        return (vi)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
    #  elif defined(__SSE2__)
        __m128i b = _mm_loadl_epi64((const __m128i *)p);
        return (vi)_mm_srai_epi16(_mm_unpacklo_epi8(b, b), 8);
    #  elif defined(__aarch64__)
        return (vi)vmovl_s8(vld1_s8((const int8_t *)p));
    #  else
        int16_t t[2 * LANES];
        vi v;
        for (int i = 0; i < 2 * LANES; i++)
            t[i] = (signed char)p[i];
        memcpy(&v, t, VBYTES);
        return v;
    #  endif
    }
    #endif
    /* int32 as ONNX has it: what does not fit wraps around */
    AI int32_t wrapped(uint32_t a) { return (int32_t)a; }
    AI int32_t sum_of_bytes(const uint8_t *x, Py_ssize_t n)
    {
        uint32_t sum = 0;
        for (Py_ssize_t i = 0; i < n; i++)
            sum += x[i];
        return (int32_t)(QFLIP ? sum - 128u * (uint32_t)n : sum);
    }
    AI void widen_bytes(const uint8_t *restrict x, int16_t *restrict y, Py_ssize_t n)
    {
        for (Py_ssize_t i = 0; i < n; i++)
            y[i] = x[i];
    }
    /* one word of `n` columns whose bytes lie side by side */
    AI void interleave(const uint8_t *restrict w, Py_ssize_t row, Py_ssize_t n, int flip, uint8_t *restrict panel)
    {
        for (Py_ssize_t i = 0; i < n; i++)
            for (int s = 0; s < QSTEP; s++)
                panel[i * QSTEP + s] = w[s * row + i] ^ (uint8_t)flip;
    }
    """
    enum: QSTEP, QFLIP, WIDE, TILE_ROWS, WSTEP
    vi vdot(vi sums, vi x, vi w) noexcept
    vi vword(const char *) noexcept
    vi vweights(const char *) noexcept
    vi vi_load(const void *) noexcept
    void vi_store(void *, vi) noexcept
    vi viplace(vi) noexcept
    vf vbounded(vf, float low, float high) noexcept
    vi vround(vf) noexcept
    void vstore_bytes(uint8_t *, vi) noexcept
    int32_t sum_of_bytes(const uint8_t *, Py_ssize_t) noexcept
    void widen_bytes(const uint8_t *, short *, Py_ssize_t) noexcept
    void interleave(const uint8_t *, Py_ssize_t, Py_ssize_t, int, uint8_t *) noexcept

cdef enum:
    BLOCKS = QDENSE_BLOCKS


cdef inline void part(const int R, const int B, int first, const qdense_tile_t *t) noexcept nogil:
    """R rows by B registers of a panel from `first` on."""
    cdef vi sums[24]
    cdef vi w[4]
    cdef vi x
    cdef int r, b
    cdef Py_ssize_t k, words = t.words, step = t.xrow
    cdef const char *xk = t.x
    cdef const char *wk = t.w + first * WSTEP
    cdef int32_t *to = t.sums + first * LANES
    for b in range(R * B):
        sums[b] = viset(0)
    for k in range(words):
        for b in range(B):
            w[b] = viplace(vweights(wk + b * WSTEP))
        for r in range(R):
            x = vword(xk + r * step)
            for b in range(B):
                sums[r * B + b] = viplace(vdot(sums[r * B + b], x, w[b]))
        xk = xk + 4
        wk = wk + BLOCKS * WSTEP
    for r in range(R):
        for b in range(B):
            vi_store(to + (r * BLOCKS + b) * LANES, sums[r * B + b])


cdef inline void tile(const int R, const qdense_tile_t *t) noexcept nogil:
    """R rows."""
    if WIDE or R <= 2:
        part(R, BLOCKS, 0, t)
    else:
        part(R, 2, 0, t)
        part(R, 2, 2, t)


cdef void tile_1(const qdense_tile_t *t) noexcept nogil:
    cdef vi even[4]
    cdef vi odd[4]
    cdef vi x
    cdef int b
    cdef Py_ssize_t k
    cdef const char *w = t.w
    for b in range(BLOCKS):
        even[b] = viset(0)
        odd[b] = viset(0)
    for k in range(t.words // 2):
        x = vword(t.x + 8 * k)
        for b in range(BLOCKS):
            even[b] = vdot(even[b], x, vweights(w + b * WSTEP))
        x = vword(t.x + 8 * k + 4)
        for b in range(BLOCKS):
            odd[b] = vdot(odd[b], x, vweights(w + (BLOCKS + b) * WSTEP))
        w = w + 2 * BLOCKS * WSTEP
    if t.words % 2:
        x = vword(t.x + 4 * (t.words - 1))
        for b in range(BLOCKS):
            even[b] = vdot(even[b], x, vweights(w + b * WSTEP))
    for b in range(BLOCKS):
        vi_store(t.sums + b * LANES, even[b] + odd[b])


cdef void tile_2(const qdense_tile_t *t) noexcept nogil: tile(2, t)
cdef void tile_3(const qdense_tile_t *t) noexcept nogil: tile(3, t)
cdef void tile_4(const qdense_tile_t *t) noexcept nogil: tile(4, t)
cdef void tile_5(const qdense_tile_t *t) noexcept nogil: tile(5, t)
cdef void tile_6(const qdense_tile_t *t) noexcept nogil: tile(6, t)


cdef inline vi settled(vi sums, Py_ssize_t at, int x_sum, const qfinish_t *t) noexcept nogil:
    """Sums of products of numbers less their zero points, and the bias."""
    cdef vi zeros = viset(t.w_shift)
    if t.shifts:
        if t.w_zero != NULL:
            zeros = zeros + vi_load(t.w_zero + at)
        sums = sums - zeros * viset(x_sum)
    if t.w_sums != NULL:
        sums = sums + vi_load(t.w_sums + at) * viset(t.x_shift)
    if t.bias != NULL:
        sums = sums + vi_load(t.bias + at)
    return sums


cdef inline vf scaled(vi sums, Py_ssize_t at, const qfinish_t *t) noexcept nogil:
    cdef vf v = vi_to_vf(sums)
    if t.scales:
        return v * (vset(t.scale) * vload(t.ratio + at)) if t.ratio != NULL else v * vset(t.scale)
    return v * vload(t.ratio + at) if t.ratio != NULL else v


cdef inline vf as_floats(vi sums, Py_ssize_t at, const qfinish_t *t) noexcept nogil:
    cdef vf v = scaled(sums, at, t)
    if t.offset != NULL:
        v = v + vload(t.offset + at)
    # no bounds, no minimum: a NaN of the scale or the offset stays what it is
    return vmin_keep(vmax_keep(v, t.low), t.high)


cdef void finish(const int32_t *sums, char *y, Py_ssize_t n, int x_sum, const qfinish_t *t) noexcept nogil:
    cdef Py_ssize_t at = 0, some
    cdef int i
    cdef vi s
    cdef uint8_t bytes_[64]
    cdef char words[64]
    while at < n:
        some = n - at if n - at < LANES else LANES
        s = settled(vi_load(sums + at), at, x_sum, t)
        if t.mode == Q_BYTES:
            s = vround(vbounded(scaled(s, at, t), t.low, t.high)) + viset(t.zero)
            if some == LANES and t.table == NULL:
                vstore_bytes(<uint8_t *>y + at, s)
            else:
                vstore_bytes(bytes_, s)
                if t.table != NULL:
                    for i in range(LANES):
                        bytes_[i] = t.table[bytes_[i]]
                memcpy(y + at, bytes_, some)
        else:
            if t.mode == Q_FLOATS:
                s = vf_bits(as_floats(s, at, t))
            if some == LANES:
                vi_store(y + 4 * at, s)
            else:
                vi_store(words, s)
                memcpy(y + 4 * at, words, 4 * some)
        at = at + some


cdef void words(const uint8_t *x, char *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t rest = n % QSTEP
    if QSTEP == 4:
        memcpy(y, x, n)
    else:
        widen_bytes(x, <short *>y, n)
    if rest:
        memset(y + n * (4 // QSTEP), 0, (QSTEP - rest) * (4 // QSTEP))


cdef int sum_(const uint8_t *x, Py_ssize_t n) noexcept nogil:
    return sum_of_bytes(x, n)


cdef void pack(const uint8_t *w, Py_ssize_t row, Py_ssize_t column, Py_ssize_t k, Py_ssize_t n, int flip, int8_t *panel,
               int32_t *sums) noexcept nogil:
    cdef Py_ssize_t at = 0, i, some
    cdef int s
    cdef uint8_t v
    cdef uint8_t *to = <uint8_t *>panel
    cdef const int8_t *made
    while at < k:
        some = k - at if k - at < QSTEP else QSTEP
        if n < BLOCKS * LANES or some < QSTEP:
            memset(to, 0, BLOCKS * LANES * QSTEP)
        if column == 1 and some == QSTEP:
            interleave(w + at * row, row, n, flip, to)
        else:
            for i in range(n):
                for s in range(some):
                    v = w[(at + s) * row + i * column]
                    to[i * QSTEP + s] = v ^ <uint8_t>flip
        if sums != NULL:
            made = <const int8_t *>to
            for i in range(BLOCKS * LANES):
                for s in range(QSTEP):
                    sums[i] += made[i * QSTEP + s]
        to = to + BLOCKS * LANES * QSTEP
        at = at + QSTEP


cdef QDenseTiles tiles
tiles.lanes = LANES
tiles.step = QSTEP
tiles.flip = QFLIP
tiles.rows = TILE_ROWS
tiles.tile[1] = tile_1
tiles.tile[2] = tile_2
tiles.tile[3] = tile_3
tiles.tile[4] = tile_4
tiles.tile[5] = tile_5
tiles.tile[6] = tile_6
tiles.finish = finish
tiles.words = words
tiles.sum = sum_
tiles.pack = pack
capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
