"""Tiles of quantised convolutions: the innermost loops, compiled once per instruction set.

Layout
    x    planes [..][pixel][word]: LANES channels of a pixel side by side, QSTEP of them in a word of 32 bits (qsimd.h): bytes, or
         numbers of 16 bits that were made of them (`widen`)
    w    one panel: [tap][plane][word of the plane][B * LANES output channels][QSTEP]
    y    blocks [..][pixel][LANES] of bytes, floats or sums, `yplane` bytes apart

A tile is P neighbouring output pixels x B output blocks, whose sums are held in P * B registers. Loops: kernel tap, input plane,
word; innermost, B weight registers meet P words of x in every lane. It is the float tile (tiles/conv.pyx) with a step of QSTEP
channels, and what that one says of registers, of constants and of the order of instructions holds here. A plane's words are over
in some thirty cycles, so planes lie at one distance and taps, which come from a table, are outside. Where a product of 16 bits
and its addition are two instructions, the sum waits for the addition alone: a tile of 3 x 2 is as fast as one of 6 x 2. Channels
beyond the last one meet weights of zero: whatever lies there, the product is none.

Storing
    A sum becomes float32, is multiplied by the ratio of its channel, rounded to the nearest integer, halves to even, moved by the
    zero point and clamped. With a residual that is done twice, as the two quantisations of a file do. Each product and sum of floats
    is rounded: no multiply-add, so that all instruction sets give the same bits. Two pixels of two blocks become bytes together:
    the conversions to 16 bits and to 8 saturate, and bounds are applied to bytes. Where a sum is short, storing it takes half of
    the time.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int32_t

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE

from cnnengine._kernels.qsimd cimport *
from cnnengine._kernels.simd cimport *
from cnnengine._kernels.tiles.words cimport word_tile_t

cdef extern from "qsimd.h" nogil:
    """
    #define UNROLL (VREGISTERS < 32 || QSTEP == 2 || QFLIP)
    #define WIDTH1 (VREGISTERS < 32 ? 10 : 14)
    #define WIDTH2 (VREGISTERS < 32 ? 6 : QSTEP == 2 || QFLIP ? 12 : 14)
    #define STEPS (LANES / QSTEP)
    AI const void *unread(const void *p) { __asm__("" : "+r"(p)); return p; }
    AI const char *unmoved(const char *p) { __asm__("" : "+r"(p)); return p; }
    """
    enum: UNROLL, WIDTH1, WIDTH2, STEPS
    const void *unread(const void *) noexcept
    const char *unmoved(const char *) noexcept


cdef inline void pixel(const int SET, const int B, vi *acc, const vi *wv, const char *x) noexcept nogil:
    """Set sums to `wv`, or add the products of a word of x and `wv`."""
    cdef vi word
    if SET:
        acc[0] = wv[0]
        if B > 1: acc[1] = wv[1]
    else:
        word = vword(x)
        acc[0] = vdot(acc[0], word, wv[0])
        if B > 1: acc[1] = vdot(acc[1], word, wv[1])
        if UNROLL:
            acc[0] = viplace(acc[0])
            if B > 1: acc[1] = viplace(acc[1])


cdef inline void pixels(const int SET, const int P, const int B, vi *acc, const vi *wv, const char *x, Py_ssize_t step) noexcept nogil:
    """The same for P pixels, `step` bytes apart."""
    pixel(SET, B, acc, wv, x)
    if P > 1: pixel(SET, B, acc + B, wv, x + step)
    if P > 2: pixel(SET, B, acc + 2 * B, wv, x + 2 * step)
    if P > 3: pixel(SET, B, acc + 3 * B, wv, x + 3 * step)
    if P > 4: pixel(SET, B, acc + 4 * B, wv, x + 4 * step)
    if P > 5: pixel(SET, B, acc + 5 * B, wv, x + 5 * step)
    if P > 6: pixel(SET, B, acc + 6 * B, wv, x + 6 * step)
    if P > 7: pixel(SET, B, acc + 7 * B, wv, x + 7 * step)
    if P > 8: pixel(SET, B, acc + 8 * B, wv, x + 8 * step)
    if P > 9: pixel(SET, B, acc + 9 * B, wv, x + 9 * step)
    if P > 10: pixel(SET, B, acc + 10 * B, wv, x + 10 * step)
    if P > 11: pixel(SET, B, acc + 11 * B, wv, x + 11 * step)
    if P > 12: pixel(SET, B, acc + 12 * B, wv, x + 12 * step)
    if P > 13: pixel(SET, B, acc + 13 * B, wv, x + 13 * step)


cdef inline void scaled(const int ADDS, const int b, vi *sums, const word_tile_t *t, const char *residual) noexcept nogil:
    """A sum becomes a number of steps of y."""
    cdef vf v = vi_to_vf(sums[0]) * vload(t.ratio + b * LANES)
    if ADDS:
        v = vi_to_vf(vround(vbounded(v, t.first_low, t.first_high)))
        v = v * vset(t.scale) + (vbytes(<const uint8_t *>residual + b * t.rplane) - vset(t.r_zero)) * vset(t.r_scale)
    sums[0] = vround(vconvertible(v))


cdef inline void quantised(const int ADDS, const int P, const int B, vi *acc, const word_tile_t *t, char *y, const char *residual) noexcept nogil:
    """One or two pixels are stored as bytes."""
    scaled(ADDS, 0, acc, t, residual)
    if B > 1: scaled(ADDS, 1, acc + 1, t, residual)
    if P > 1:
        scaled(ADDS, 0, acc + B, t, residual + t.rstep)
        if B > 1: scaled(ADDS, 1, acc + 3, t, residual + t.rstep)
    vstore_pixels(P, B, acc, <uint8_t *>y, t.ystep, t.yplane, viset(t.zeros), viset(t.lows), viset(t.highs))


cdef inline void wide(const int B, vi *acc, const word_tile_t *t, char *y) noexcept nogil:
    """A pixel is stored as floats, or as sums."""
    cdef vf v
    cdef int b
    for b in range(B):
        if t.mode == Q_SUMS:
            vi_store(y + b * t.yplane, acc[b])
            continue
        v = vi_to_vf(acc[b]) * vload(t.ratio + b * LANES)
        if t.offset != NULL:
            v = v + vload(t.offset + b * LANES)
        vstore(<float *>(y + b * t.yplane), vbounded(v, t.low, t.high))


cdef inline void stored(const int KIND, const int P, const int B, vi *acc, const word_tile_t *t, char *y, const char *residual) noexcept nogil:
    """P pixels of a tile, P being 1 or 2."""
    if KIND < 2:
        quantised(KIND, P, B, acc, t, y, residual)
    else:
        wide(B, acc, t, y)
        if P > 1: wide(B, acc + B, t, y + t.ystep)


cdef inline void all_stored(const int KIND, const int P, const int B, vi *acc, const word_tile_t *t, char *y, const char *residual) noexcept nogil:
    """`KIND`: 0 for bytes, 1 with a residual, 2 for what has 32 bits."""
    cdef Py_ssize_t ystep = 2 * t.ystep, rstep = 2 * t.rstep if KIND == 1 else 0
    stored(KIND, 2 if P > 1 else 1, B, acc, t, y, residual)
    if P > 2: stored(KIND, 2 if P > 3 else 1, B, acc + 2 * B, t, y + ystep, residual + rstep)
    if P > 4: stored(KIND, 2 if P > 5 else 1, B, acc + 4 * B, t, y + 2 * ystep, residual + 2 * rstep)
    if P > 6: stored(KIND, 2 if P > 7 else 1, B, acc + 6 * B, t, y + 3 * ystep, residual + 3 * rstep)
    if P > 8: stored(KIND, 2 if P > 9 else 1, B, acc + 8 * B, t, y + 4 * ystep, residual + 4 * rstep)
    if P > 10: stored(KIND, 2 if P > 11 else 1, B, acc + 10 * B, t, y + 5 * ystep, residual + 5 * rstep)
    if P > 12: stored(KIND, 2 if P > 13 else 1, B, acc + 12 * B, t, y + 6 * ystep, residual + 6 * rstep)


cdef inline void load_weights(const int B, vi *wv, const char *w) noexcept nogil:
    wv[0] = vi_load(w)
    if B > 1: wv[1] = vi_load(w + 4 * LANES)
    if UNROLL:
        wv[0] = viplace(wv[0])
        if B > 1: wv[1] = viplace(wv[1])


cdef inline void words(const int P, const int B, const int N, vi *acc, const char *x, const char *w, Py_ssize_t step) noexcept nogil:
    """The products of N words of each pixel."""
    cdef vi wv[2]
    cdef int k
    if WRITTEN_OUT:
        qdot_avx2(P, B, acc, w, x, step, N)
        return
    x = unmoved(x)
    for k in range(N):
        load_weights(B, wv, w + k * B * 4 * LANES)
        pixels(0, P, B, acc, wv, x + 4 * k, step)


cdef inline void tile(const int P, const int B, Py_ssize_t count, const word_tile_t *t) noexcept nogil:
    """`count` tiles of P pixels x B blocks, side by side."""
    cdef vi acc[28]
    cdef vi wv[2]
    cdef Py_ssize_t c, tap, k, step = t.xstep, plane = t.xplane, line, lines = t.ahead_lines
    cdef const char *x = t.x
    cdef const char *xi
    cdef const char *w
    cdef const char *ahead = t.ahead
    cdef const char *residual = t.residual
    cdef char *y = t.y
    while True:
        t = <const word_tile_t *>unread(t)
        w = t.w
        load_weights(B, wv, <const char *>t.bias)
        pixels(1, P, B, acc, wv, NULL, 0)
        for tap in range(t.n_taps):
            xi = x + t.taps[tap]
            for line in range(lines):
                prefetch_l2(ahead)
                ahead = ahead + 64
            c = t.planes
            if t.steps == STEPS:
                while c > 0:
                    words(P, B, STEPS, acc, xi, w, step)
                    w = w + STEPS * B * 4 * LANES
                    xi = xi + plane
                    c = c - 1
            elif c > 0:
                # planes of four channels: the first layer
                words(P, B, 4 // QSTEP, acc, xi, w, step)
                w = w + 4 // QSTEP * B * 4 * LANES
            for k in range(t.partial):
                words(P, B, 1, acc, xi + 4 * k, w, step)
                w = w + B * 4 * LANES
        t = <const word_tile_t *>unread(t)
        if t.mode != Q_BYTES:
            all_stored(2, P, B, acc, t, y, NULL)
        elif residual != NULL:
            all_stored(1, P, B, acc, t, y, residual)
        else:
            all_stored(0, P, B, acc, t, y, NULL)
        count = count - 1
        if count <= 0:
            break
        x = x + P * step
        y = y + P * t.ystep
        if residual != NULL:
            residual = residual + P * t.rstep


include "words.pxi"


cdef void widen(const uint8_t *x, int16_t *y, Py_ssize_t n, int zero) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = <int16_t>(x[i] - zero)


cdef double dot_loop(long n) noexcept nogil:
    """n steps of 12 independent additions of products in registers."""
    cdef vi a[12]
    cdef vi x = viset(0x01020102), y = viset(0x01010101), s = viset(0)
    cdef int i
    cdef long r
    for i in range(12):
        a[i] = viset(i)
    for r in range(n):
        for i in range(12):
            # to the compiler another x each time: one product would serve all
            x = viplace(x)
            a[i] = viplace(vdot(a[i], x, y))
    for i in range(12):
        s = s + a[i]
    # the sum keeps the loop alive
    return 2.0 * 12 * LANES * QSTEP * n + 0.0 * (<int32_t *>&s)[0]


cdef QConvTiles tiles
tiles.lanes = LANES
tiles.step = QSTEP
tiles.flip = QFLIP
tiles.width[1] = WIDTH1
tiles.width[2] = WIDTH2
tiles.tile[1] = tile_1
tiles.tile[2] = tile_2
tiles.widen = widen
tiles.dot_loop = dot_loop
capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
