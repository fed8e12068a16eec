"""Normalisation tiles: affine maps, moments, and local response, compiled once per instruction set.

Layout
    `planes`, `moments_planes`, `lrn_pixels` read planes [..][pixel][LANES]; the others contiguous runs of a plain tensor.

Means are subtracted before anything is multiplied, never folded into the shift: x * a - mean * a cancels where the mean is
large against the deviation. Moments take two passes: sums in double, then squares of the deviations, summed in float over
64 steps and in double beyond. The mean comes as a float and the rest that its rounding left.

Local response: `lrn_run` sums the window's squares for LANES neighbouring positions, channel by channel, reading each input
`size` times from the first-level cache: a running sum would carry rounding errors of large values along. `lrn_pixels` first
lays the squares of a pixel's channels side by side in scratch, between zeros, and then adds shifted loads; eight pixels are
laid out before any is summed, so that no load waits for a store.

`pixel_norm` takes a few neighbouring pixels through all blocks three times, which stay in the first-level cache: their sums
lie in registers, so that a block costs one load, and its lanes are added up at the end.
"""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE

from libc.math cimport sqrt

from cnnengine._kernels.simd cimport *

cdef enum:
    PLANES = 0
    RUN = 1
    VECTORS = 2
    EACH = 3
    SEGMENT = 64                        # squares that are summed in float
    PIXELS = 4                          # that go through the blocks together


cdef inline vf part(const float *p, Py_ssize_t i, int n) noexcept nogil:
    """LANES floats from p[i], or the n that are left."""
    return vload(p + i) if n == LANES else vload_part(p + i, n)


cdef inline vf mapped(const int KIND, const int HAS_REST, const int HAS_SCALE, const int HAS_SHIFT, Py_ssize_t i, int n,
                      vf mean, vf rest, vf factor, vf shift, const affine_tile_t *t) noexcept nogil:
    cdef vf v = part(t.x, i, n)
    if KIND == VECTORS:
        mean = part(t.mean, i, n)
        factor = part(t.factor, i, n)
        shift = part(t.shift, i, n)
    if KIND == EACH and HAS_SHIFT:
        shift = part(t.shift, i, n)
    v = v - mean
    if HAS_REST:
        v = v - rest
    v = v * factor
    if KIND == EACH and HAS_SCALE:
        v = v * part(t.scale, i, n)
    if HAS_SHIFT:
        v = v + shift
    return vmin_keep(vmax_keep(v, t.low), t.high)


cdef inline void affine(const int KIND, const int HAS_REST, const int HAS_SCALE, const int HAS_SHIFT, const affine_tile_t *t) noexcept nogil:
    cdef vf mean = vset(0), rest = vset(0), factor = vset(1), shift = vset(0)
    cdef Py_ssize_t i = 0, n = t.n
    if KIND == PLANES:
        n = n * LANES
        mean = vload(t.mean)
        factor = vload(t.factor)
        if HAS_REST:
            rest = vload(t.rest)
        if HAS_SHIFT:
            shift = vload(t.shift)
    elif KIND != VECTORS:
        mean = vset(t.mean[0])
        factor = vset(t.factor[0])
        if HAS_REST:
            rest = vset(t.rest[0])
        if HAS_SHIFT and KIND == RUN:
            shift = vset(t.shift[0])
    while n - i >= LANES:
        vstore(t.y + i, mapped(KIND, HAS_REST, HAS_SCALE, HAS_SHIFT, i, LANES, mean, rest, factor, shift, t))
        i = i + LANES
    if KIND != PLANES and n > i:
        vstore_part(t.y + i, mapped(KIND, HAS_REST, HAS_SCALE, HAS_SHIFT, i, <int>(n - i), mean, rest, factor, shift, t), <int>(n - i))


cdef void affine_planes(const affine_tile_t *t) noexcept nogil:
    if t.rest != NULL: affine(PLANES, 1, 0, 1, t)
    else: affine(PLANES, 0, 0, 1, t)


cdef void affine_run(const affine_tile_t *t) noexcept nogil:
    if t.rest != NULL: affine(RUN, 1, 0, 1, t)
    else: affine(RUN, 0, 0, 1, t)


cdef void affine_vectors(const affine_tile_t *t) noexcept nogil: affine(VECTORS, 0, 0, 1, t)


cdef void affine_each(const affine_tile_t *t) noexcept nogil:
    if t.scale != NULL and t.shift != NULL: affine(EACH, 1, 1, 1, t)
    elif t.scale != NULL: affine(EACH, 1, 1, 0, t)
    elif t.shift != NULL: affine(EACH, 1, 0, 1, t)
    else: affine(EACH, 1, 0, 0, t)


# ---------------------------------------------------------------- moments
cdef void moments(const float *x, Py_ssize_t n, double *mean, double *squares) noexcept nogil:
    cdef vd sums[4]
    cdef vf s[2]
    cdef vf m, rest, v
    cdef double lanes[DLANES]
    cdef double total = 0, mu
    cdef float high
    cdef Py_ssize_t i = 0, end
    cdef int k
    for k in range(4):
        sums[k] = vdset(0)
    while n - i >= 2 * LANES:
        v = vload(x + i)
        sums[0] = sums[0] + vf_low(v)
        sums[1] = sums[1] + vf_high(v)
        v = vload(x + i + LANES)
        sums[2] = sums[2] + vf_low(v)
        sums[3] = sums[3] + vf_high(v)
        i = i + 2 * LANES
    vdstore(lanes, (sums[0] + sums[1]) + (sums[2] + sums[3]))
    for k in range(DLANES):
        total = total + lanes[k]
    for i in range(i, n):
        total = total + x[i]
    mu = total / <double>n
    mean[0] = mu
    high = <float>mu
    m = vset(high)
    rest = vset(<float>(mu - high))
    for k in range(2):
        sums[k] = vdset(0)
    i = 0
    while n - i >= LANES:
        end = n if n - i < SEGMENT * LANES else i + SEGMENT * LANES
        for k in range(2):
            s[k] = vset(0)
        while end - i >= 2 * LANES:
            for k in range(2):
                v = (vload(x + i + k * LANES) - m) - rest
                s[k] = s[k] + v * v
            i = i + 2 * LANES
        while end - i >= LANES:
            v = (vload(x + i) - m) - rest
            s[0] = s[0] + v * v
            i = i + LANES
        v = s[0] + s[1]
        sums[0] = sums[0] + vf_low(v)
        sums[1] = sums[1] + vf_high(v)
    vdstore(lanes, sums[0] + sums[1])
    total = 0
    for k in range(DLANES):
        total = total + lanes[k]
    for i in range(i, n):
        total = total + (x[i] - mu) * (x[i] - mu)
    squares[0] = total


cdef void moments_planes(const float *x, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, Py_ssize_t sd, Py_ssize_t sh,
                         double *mean, double *squares) noexcept nogil:
    cdef vd low = vdset(0), high = vdset(0)
    cdef vf v, m, rest, s
    cdef float means[LANES]
    cdef float rests[LANES]
    cdef Py_ssize_t z, r, i, end
    cdef const float *p
    cdef int k
    for z in range(d):
        for r in range(h):
            p = x + z * sd + r * sh
            for i in range(w):
                v = vload(p + i * LANES)
                low = low + vf_low(v)
                high = high + vf_high(v)
    vdstore(mean, low)
    vdstore(mean + DLANES, high)
    for k in range(LANES):
        mean[k] = mean[k] / <double>(d * h * w)
        means[k] = <float>mean[k]
        rests[k] = <float>(mean[k] - means[k])
    m = vload(means)
    rest = vload(rests)
    low = vdset(0)
    high = vdset(0)
    for z in range(d):
        for r in range(h):
            p = x + z * sd + r * sh
            i = 0
            while i < w:
                end = w if w - i < SEGMENT else i + SEGMENT
                s = vset(0)
                for i in range(i, end):
                    v = (vload(p + i * LANES) - m) - rest
                    s = s + v * v
                i = end
                low = low + vf_low(s)
                high = high + vf_high(s)
    vdstore(squares, low)
    vdstore(squares + DLANES, high)


# ---------------------------------------------------------------- local response
cdef inline vf responded(vf v, vf total, const lrn_tile_t *t) noexcept nogil:
    """v / (bias + alpha * total) ** beta."""
    cdef vf base = vset(t.bias) + vset(t.alpha) * total
    if t.beta == <float>0.75:
        base = vf_sqrt(base)
        return v / (base * vf_sqrt(base))
    if t.beta == <float>0.5:
        return v / vf_sqrt(base)
    if t.beta == <float>1:
        return v / base
    return v / vpower(base, t.beta)


cdef inline void lrn_positions(const int WHOLE, const lrn_tile_t *t) noexcept nogil:
    cdef vf v, total
    cdef int n = LANES if WHOLE else <int>t.n
    cdef Py_ssize_t c, k, first, last
    for c in range(t.channels):
        first = c - t.before if c > t.before else 0
        last = c + t.after if c + t.after < t.channels else t.channels - 1
        total = vset(0)
        for k in range(first, last + 1):
            v = part(t.x, k * t.stride, n)
            total = total + v * v
        v = responded(part(t.x, c * t.stride, n), total, t)
        if WHOLE:
            vstore(t.y + c * t.stride, v)
        else:
            vstore_part(t.y + c * t.stride, v, n)


cdef void lrn_run(const lrn_tile_t *t) noexcept nogil:
    if t.n == LANES: lrn_positions(1, t)
    else: lrn_positions(0, t)


cdef void lrn_pixels(const lrn_tile_t *t) noexcept nogil:
    """t.x and t.y: the first pixel of the first block; t.stride and t.ystride floats between blocks."""
    cdef Py_ssize_t blocks = (t.channels + LANES - 1) // LANES
    cdef Py_ssize_t row = t.before + blocks * LANES + t.after, pixel, b, k
    cdef float *squares
    cdef vf v, total
    for pixel in range(t.n):
        squares = t.scratch + pixel * row
        for k in range(t.before):
            squares[k] = 0
        for b in range(blocks):
            v = vload(t.x + b * t.stride + pixel * LANES)
            vstore(squares + t.before + b * LANES, v * v)
        for k in range(t.before + t.channels, row):
            squares[k] = 0
    for b in range(blocks):
        for pixel in range(t.n):
            squares = t.scratch + pixel * row + b * LANES
            total = vset(0)
            for k in range(t.before + t.after + 1):
                total = total + vload(squares + k)
            vstore(t.y + b * t.ystride + pixel * LANES, responded(vload(t.x + b * t.stride + pixel * LANES), total, t))


# ---------------------------------------------------------------- channels of a pixel
cdef inline vf masked(const float *p, bint whole, vi mask) noexcept nogil:
    return vload(p) if whole else vselect(mask, vload(p), vset(0))


cdef inline void pixels(const int COUNT, const pixel_norm_tile_t *t, Py_ssize_t first, vi mask) noexcept nogil:
    """COUNT pixels from the first; lanes of the last block that `mask` leaves out are no channels."""
    cdef Py_ssize_t blocks = (t.channels + LANES - 1) // LANES, whole = t.channels // LANES, b, end
    cdef int tail = <int>(t.channels - whole * LANES), i
    cdef const float *x = t.x + first * LANES
    cdef const float *p
    cdef float *y = t.y + first * LANES
    cdef vd low[PIXELS]
    cdef vd high[PIXELS]
    cdef vf mean[PIXELS]
    cdef vf rest[PIXELS]
    cdef vf factor[PIXELS]
    cdef vf squares[PIXELS]
    cdef vf v, scale = vset(1), shift = vset(0)
    cdef double mu
    for i in range(COUNT):
        low[i] = vdset(0)
        high[i] = vdset(0)
    for b in range(blocks):
        p = x + b * t.xstride
        for i in range(COUNT):
            v = masked(p + i * LANES, b < whole, mask)
            low[i] = low[i] + vf_low(v)
            high[i] = high[i] + vf_high(v)
    for i in range(COUNT):
        mu = vd_sum(low[i] + high[i]) / <double>t.channels
        mean[i] = vset(<float>mu)
        rest[i] = vset(<float>(mu - <float>mu))
        low[i] = vdset(0)
        high[i] = vdset(0)
    b = 0
    while b < blocks:
        end = blocks if blocks - b < SEGMENT else b + SEGMENT
        for i in range(COUNT):
            squares[i] = vset(0)
        for b in range(b, end):
            p = x + b * t.xstride
            for i in range(COUNT):
                v = (vload(p + i * LANES) - mean[i]) - rest[i]
                v = v if b < whole else vselect(mask, v, vset(0))
                squares[i] = squares[i] + v * v
        b = end
        for i in range(COUNT):
            low[i] = low[i] + vf_low(squares[i])
            high[i] = high[i] + vf_high(squares[i])
    for i in range(COUNT):
        factor[i] = vset(<float>(1 / sqrt(vd_sum(low[i] + high[i]) / <double>t.channels + t.epsilon)))
    for b in range(blocks):
        p = x + b * t.xstride
        if t.scale != NULL:
            scale = vload(t.scale + b * LANES) if b < whole else vload_part(t.scale + b * LANES, tail)
        if t.shift != NULL:
            shift = vload(t.shift + b * LANES) if b < whole else vload_part(t.shift + b * LANES, tail)
        for i in range(COUNT):
            v = (vload(p + i * LANES) - mean[i]) - rest[i]
            vstore(y + b * t.ystride + i * LANES, v * factor[i] * scale + shift)


cdef void pixel_norm(const pixel_norm_tile_t *t) noexcept nogil:
    cdef float lanes[LANES]
    cdef Py_ssize_t i, tail = t.channels % LANES
    cdef vf mask
    for i in range(LANES):
        lanes[i] = <float>(tail - i)
    mask = vload(lanes)
    i = 0
    while i + PIXELS <= t.n:
        pixels(PIXELS, t, i, vlt(vset(0), mask))
        i = i + PIXELS
    for i in range(i, t.n):
        pixels(1, t, i, vlt(vset(0), mask))


cdef NormTiles tiles
tiles.lanes = LANES
tiles.planes = affine_planes
tiles.run = affine_run
tiles.vectors = affine_vectors
tiles.each = affine_each
tiles.moments = moments
tiles.moments_planes = moments_planes
tiles.lrn_run = lrn_run
tiles.lrn_pixels = lrn_pixels
tiles.pixel_norm = pixel_norm
capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
