"""Tiles of quantised numbers beside those of products, compiled once per instruction set.

Layout
    x, y   planes [..][pixel][LANES] of bytes; `store` writes floats too; `max_run` and `sum_run` read plain runs of bytes

Depthwise convolutions are computed by the tiles of float (tiles/conv.pyx), whose sums of numbers of 8 bits are exact below 2**24:
`widen` makes floats of bytes less their zero point, `store` makes of a sum what is stored, as tiles/qconv.pyx does. Sums that a
bias would make larger get it there, in 32 bits.

Rows of windows are taken apart: first each column of input pixels is reduced over the rows under the windows, into `line`, between
pixels of padding that change nothing; then the columns over the width of each window. Maxima are found in bytes, as many at a time
as a register holds, at every pixel, and those that a stride asks for are picked from them: a byte costs little beside a pixel that is
addressed for itself. Sums have 32 bits; times the ratio of the scales, divided by their count, each rounded to float32, they are
means in steps of the result.
"""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy, memset

from cnnengine._kernels.simd cimport *
from cnnengine._kernels.tiles.qconv cimport Q_FLOATS

cdef extern from "qsimd.h" nogil:
    """
    /* y[i] = max(y[i], x[i]); in registers, since compilers may not know that x and y are apart */
    typedef uint8_t vb_ __attribute__((vector_size(VBYTES), aligned(1), may_alias));
    AI vb_ vb_max(vb_ a, vb_ b)
    {
        vb_ m = (vb_)(a > b);
        return (a & m) | (b & ~m);
    }
    AI void larger_bytes(const uint8_t *restrict x, uint8_t *restrict y, Py_ssize_t n)
    {
        Py_ssize_t i = 0;
        for (; i + VBYTES <= n; i += VBYTES) {
            vb_ a, b;
            memcpy(&a, x + i, VBYTES);
            memcpy(&b, y + i, VBYTES);
            a = vb_max(a, b);
            memcpy(y + i, &a, VBYTES);
        }
        for (; i < n; i++)
            y[i] = x[i] > y[i] ? x[i] : y[i];
    }
    AI int largest_byte(const uint8_t *x, Py_ssize_t n)
    {
        int best = 0;
        for (Py_ssize_t i = 0; i < n; i++)
            best = x[i] > best ? x[i] : best;
        return best;
    }
    AI long long sum_bytes(const uint8_t *x, Py_ssize_t n)
    {
        long long total = 0;
    #if defined(__SSE2__) /* an instruction adds eight bytes to a number of 64 bits */
    #  if defined(__AVX2__)
        __m256i sums = _mm256_setzero_si256();
        for (; n >= 32; n -= 32, x += 32)
            sums = _mm256_add_epi64(sums, _mm256_sad_epu8(_mm256_loadu_si256((const __m256i *)x), _mm256_setzero_si256()));
        long long lanes[4];
        _mm256_storeu_si256((__m256i *)lanes, sums);
        total = lanes[0] + lanes[1] + lanes[2] + lanes[3];
    #  endif
        __m128i few = _mm_setzero_si128();
        for (; n >= 16; n -= 16, x += 16)
            few = _mm_add_epi64(few, _mm_sad_epu8(_mm_loadu_si128((const __m128i *)x), _mm_setzero_si128()));
        total += _mm_cvtsi128_si64(few) + _mm_cvtsi128_si64(_mm_unpackhi_epi64(few, few));
    #endif
        while (n > 0) {
            const Py_ssize_t some = n < 8388608 ? n : 8388608; /* so many bytes fit 31 bits */
            int32_t sum = 0;
            for (Py_ssize_t i = 0; i < some; i++)
                sum += x[i];
            total += sum;
            x += some;
            n -= some;
        }
        return total;
    }
    /* as a lane of `vround` does it */
    AI int round_even(float a) { return (int)__builtin_rintf(a); }
    """
    vi vi_load(const void *) noexcept
    void vi_store(void *, vi) noexcept
    vf vbounded(vf, float low, float high) noexcept
    vi vround(vf) noexcept
    vi vbytes_int(const uint8_t *) noexcept
    vf vbytes(const uint8_t *) noexcept
    void vstore_bytes(uint8_t *, vi) noexcept
    void larger_bytes(const uint8_t *, uint8_t *, Py_ssize_t) noexcept
    int largest_byte(const uint8_t *, Py_ssize_t) noexcept
    long long sum_bytes(const uint8_t *, Py_ssize_t) noexcept
    int round_even(float) noexcept


# ---------------------------------------------------------------- depthwise convolutions: in and out
cdef void widen(const uint8_t *x, float *y, Py_ssize_t n, float zero) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef vf z = vset(zero)
    while i + 4 * LANES <= n:
        vstore(y + i, vbytes(x + i) - z)
        vstore(y + i + LANES, vbytes(x + i + LANES) - z)
        vstore(y + i + 2 * LANES, vbytes(x + i + 2 * LANES) - z)
        vstore(y + i + 3 * LANES, vbytes(x + i + 3 * LANES) - z)
        i = i + 4 * LANES
    while i < n:
        vstore(y + i, vbytes(x + i) - z)
        i = i + LANES


cdef inline void look_up(const uint8_t *table, uint8_t *y) noexcept nogil:
    cdef int lane
    for lane in range(LANES):
        y[lane] = table[y[lane]]


cdef inline void store_row(const int FLOATS, const int BIAS, const int RESIDUAL, const int TABLE, const float *sums, char *y,
                           Py_ssize_t pixels, const qstore_t *t) noexcept nogil:
    cdef Py_ssize_t p
    cdef vf v, ratio = vload(t.ratio), offset = vset(0)
    cdef vi bias = viset(0), zero = viset(t.zero)
    cdef const uint8_t *residual = t.residual
    if FLOATS and t.offset != NULL:
        offset = vload(t.offset)
    if BIAS:
        bias = vi_load(t.bias)
    for p in range(pixels):
        v = vload(sums + p * LANES)
        if BIAS:
            v = vi_to_vf(vround(v) + bias)
        v = v * ratio
        if FLOATS:
            if t.offset != NULL:
                v = v + offset
            vstore(<float *>y, vbounded(v, t.low, t.high))
        else:
            if RESIDUAL:
                v = vi_to_vf(vround(vbounded(v, t.first_low, t.first_high)))
                v = v * vset(t.scale) + (vbytes(residual) - vset(t.r_zero)) * vset(t.r_scale)
                residual = residual + t.rstep
            vstore_bytes(<uint8_t *>y, vround(vbounded(v, t.low, t.high)) + zero)
            if TABLE:
                look_up(t.table, <uint8_t *>y)
        y = y + t.ystep


cdef void store(const float *sums, char *y, Py_ssize_t pixels, const qstore_t *t) noexcept nogil:
    if t.mode == Q_FLOATS:
        if t.bias != NULL: store_row(1, 1, 0, 0, sums, y, pixels, t)
        else: store_row(1, 0, 0, 0, sums, y, pixels, t)
    elif t.residual != NULL or t.table != NULL:
        if t.bias != NULL:
            if t.residual == NULL: store_row(0, 1, 0, 1, sums, y, pixels, t)
            elif t.table == NULL: store_row(0, 1, 1, 0, sums, y, pixels, t)
            else: store_row(0, 1, 1, 1, sums, y, pixels, t)
        else:
            if t.residual == NULL: store_row(0, 0, 0, 1, sums, y, pixels, t)
            elif t.table == NULL: store_row(0, 0, 1, 0, sums, y, pixels, t)
            else: store_row(0, 0, 1, 1, sums, y, pixels, t)
    else:
        if t.bias != NULL: store_row(0, 1, 0, 0, sums, y, pixels, t)
        else: store_row(0, 0, 0, 0, sums, y, pixels, t)


# ---------------------------------------------------------------- maxima
cdef void max_row(const qpool_tile_t *t) noexcept nogil:
    cdef uint8_t *line = <uint8_t *>t.line
    cdef uint8_t *middle = line + t.left * LANES
    cdef uint8_t *wide
    cdef Py_ssize_t z, r, k, p, n = t.pixels * LANES
    memset(line, 0, t.left * LANES)
    memset(middle + n, 0, t.right * LANES)
    if t.kd == 0 or t.kh == 0:
        memset(middle, 0, n)
    for z in range(t.kd):
        for r in range(t.kh):
            if z == 0 and r == 0:
                memcpy(middle, t.x, n)
            else:
                larger_bytes(t.x + z * t.td + r * t.th, middle, n)
    wide = t.y if t.stride == 1 else t.wide
    n = ((t.width - 1) * t.stride + 1) * LANES
    memcpy(wide, line, n)
    for k in range(1, t.kw):
        larger_bytes(line + k * t.dilation * LANES, wide, n)
    if t.stride > 1:
        for p in range(t.width):
            memcpy(t.y + p * LANES, wide + p * t.stride * LANES, LANES)


cdef void max_box(const qpool_tile_t *t) noexcept nogil:
    """By halves of a row that lie side by side, until a pixel is left; `wide` holds a row."""
    cdef Py_ssize_t z, r, n = t.pixels, half
    cdef uint8_t *wide = t.wide
    memcpy(wide, t.x, n * LANES)
    for z in range(t.kd):
        for r in range(t.kh):
            if z or r:
                larger_bytes(t.x + z * t.td + r * t.th, wide, n * LANES)
    while n > 1:
        half = n // 2
        # of an odd number the middle one stays, and meets the others in the next round
        larger_bytes(wide + (n - half) * LANES, wide, half * LANES)
        n = n - half
    memcpy(t.y, wide, LANES)


# ---------------------------------------------------------------- means
cdef void mean_row(const qpool_tile_t *t) noexcept nogil:
    cdef int32_t *line = <int32_t *>t.line
    cdef int32_t *middle = line + t.left * LANES
    cdef Py_ssize_t z, r, k, p
    cdef vi sums, lack = viset(-t.x_zero * <int>(t.kd * t.kh)), zero = viset(t.zero)
    cdef vf v
    cdef float low = <float>-t.zero, high = <float>(255 - t.zero)
    cdef const uint8_t *x
    memset(line, 0, t.left * LANES * sizeof(int32_t))
    memset(middle + t.pixels * LANES, 0, t.right * LANES * sizeof(int32_t))
    for p in range(t.pixels):
        sums = lack
        for z in range(t.kd):
            x = t.x + z * t.td + p * LANES
            for r in range(t.kh):
                sums = sums + vbytes_int(x)
                x = x + t.th
        vi_store(middle + p * LANES, sums)
    for p in range(t.width):
        sums = vi_load(line + p * t.stride * LANES)
        for k in range(1, t.kw):
            sums = sums + vi_load(line + (p * t.stride + k * t.dilation) * LANES)
        v = vi_to_vf(sums) * vset(t.ratio) / vset(t.count[p])
        vstore_bytes(t.y + p * LANES, vround(vbounded(v, low, high)) + zero)


cdef void mean_box(const qpool_tile_t *t) noexcept nogil:
    cdef vi sums[4]
    cdef vi total
    cdef Py_ssize_t z, r, p, count = t.kd * t.kh * t.pixels
    cdef int i
    cdef const uint8_t *x
    for i in range(4):
        sums[i] = viset(0)
    for z in range(t.kd):
        for r in range(t.kh):
            x = t.x + z * t.td + r * t.th
            p = 0
            while p + 4 <= t.pixels:
                for i in range(4):
                    sums[i] = sums[i] + vbytes_int(x + (p + i) * LANES)
                p = p + 4
            while p < t.pixels:
                sums[0] = sums[0] + vbytes_int(x + p * LANES)
                p = p + 1
    total = sums[0] + sums[1] + sums[2] + sums[3] - viset(<int>(count * t.x_zero))
    total = vround(vbounded(vi_to_vf(total) * vset(t.ratio) / vset(t.count[0]), <float>-t.zero, <float>(255 - t.zero)))
    vstore_bytes(t.y, total + viset(t.zero))


cdef int max_run(const uint8_t *x, Py_ssize_t n) noexcept nogil:
    return largest_byte(x, n)


cdef long long sum_run(const uint8_t *x, Py_ssize_t n) noexcept nogil:
    return sum_bytes(x, n)


cdef int step_of(float sum, float ratio, float count, int zero) noexcept nogil:
    cdef float v = sum * ratio / count
    v = <float>-zero if v < -zero else v
    v = <float>(255 - zero) if v > 255 - zero else v
    return round_even(v) + zero


cdef QPoolTiles tiles
tiles.lanes = LANES
tiles.widen = widen
tiles.store = store
tiles.max_row = max_row
tiles.mean_row = mean_row
tiles.max_box = max_box
tiles.mean_box = mean_box
tiles.max_run = max_run
tiles.sum_run = sum_run
tiles.step_of = step_of
capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
