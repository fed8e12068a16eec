"""Tiles of quantised convolutions: the innermost loops, compiled once per instruction set.

Layout
    x    planes [..][pixel][word]: LANES channels of a pixel side by side, QSTEP of them in a word of 32 bits (qsimd.h): bytes, or
         numbers of 16 bits that were made of them (`widen`)
    w    one panel: [plane][tap][word of the plane][B * LANES output channels][QSTEP]
    y    blocks [..][pixel][LANES] of bytes, floats or sums, `yplane` bytes apart

A tile is P neighbouring output pixels x B output blocks, whose sums are held in P * B registers. Loops: input plane, kernel tap,
word; innermost, B weight registers meet P words of x in every lane. It is the float tile (tiles/conv.pyx) with a step of QSTEP
channels, and what that one says of registers, of constants and of the order of instructions holds here. Where a product of 16
bits and its addition are two instructions, the sum waits for the addition alone: a tile of 3 x 2 is as fast as one of 6 x 2.
Channels beyond the last one meet weights of zero: whatever lies there, the product is none.

Storing
    A sum becomes float32, is multiplied by the ratio of its channel, bounded, rounded to the nearest integer, halves to even, and
    moved by the zero point. With a residual that is done twice, as the two quantisations of a file do. Each product and sum of
    floats is rounded: no multiply-add, so that all instruction sets give the same bits. Bounds are integers, so that to bound
    before rounding is to bound after it, and no number is too large to be converted.
"""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE

from cnnengine._kernels.qsimd cimport *
from cnnengine._kernels.simd cimport *

cdef extern from "qsimd.h" nogil:
    """
    #define UNROLL (VREGISTERS < 32)
    #define WIDTH1 (VREGISTERS < 32 ? 10 : 14)
    #define WIDTH2 (VREGISTERS < 32 ? 6 : 14)
    #define STEPS (LANES / QSTEP)
    AI const void *unread(const void *p) { __asm__("" : "+r"(p)); return p; }
    AI const char *unmoved(const char *p) { __asm__("" : "+r"(p)); return p; }
    """
    enum: UNROLL, WIDTH1, WIDTH2, STEPS
    const void *unread(const void *) noexcept
    const char *unmoved(const char *) noexcept


# What is done to every sum of a tile.
cdef enum:
    SET                                 # to the bias, in `wv`
    MULTIPLY                            # add the products of a word of x and `wv`
    WRITE                               # to y


cdef inline void store(const int b, vi acc, const qconv_tile_t *t, char *y, const uint8_t *residual) noexcept nogil:
    cdef vf v
    if t.mode == Q_SUMS:
        vi_store(y + b * t.yplane, acc)
        return
    v = vi_to_vf(acc) * vload(t.ratio + b * LANES)
    if t.mode == Q_FLOATS:
        if t.offset != NULL:
            v = v + vload(t.offset + b * LANES)
        vstore(<float *>(y + b * t.yplane), vbounded(v, t.low, t.high))
        return
    if residual != NULL:
        v = vi_to_vf(vround(vbounded(v, t.first_low, t.first_high)))
        v = v * vset(t.scale) + (vbytes(residual + b * t.rplane) - vset(t.r_zero)) * vset(t.r_scale)
    vstore_bytes(<uint8_t *>(y + b * t.yplane), vround(vbounded(v, t.low, t.high)) + viset(t.zero))


cdef inline void pixel(const int OP, const int B, vi *acc, const vi *wv, const char *x, char *y, const uint8_t *residual,
                       const qconv_tile_t *t) noexcept nogil:
    cdef vi word
    if OP == SET:
        acc[0] = wv[0]
        if B > 1: acc[1] = wv[1]
    elif OP == MULTIPLY:
        word = vword(x)
        acc[0] = vdot(acc[0], word, wv[0])
        if B > 1: acc[1] = vdot(acc[1], word, wv[1])
        if UNROLL:
            acc[0] = viplace(acc[0])
            if B > 1: acc[1] = viplace(acc[1])
    else:
        store(0, acc[0], t, y, residual)
        if B > 1: store(1, acc[1], t, y, residual)


cdef inline void pixels(const int OP, const int P, const int B, vi *acc, const vi *wv, const char *x, Py_ssize_t step,
                        const qconv_tile_t *t, char *y, const uint8_t *residual) noexcept nogil:
    """`OP` on P pixels, `step` bytes apart in x, of B blocks."""
    cdef Py_ssize_t ystep = t.ystep if OP == WRITE else 0, rstep = t.rstep if OP == WRITE and residual != NULL else 0
    pixel(OP, B, acc, wv, x, y, residual, t)
    if P > 1: pixel(OP, B, acc + B, wv, x + step, y + ystep, residual + rstep, t)
    if P > 2: pixel(OP, B, acc + 2 * B, wv, x + 2 * step, y + 2 * ystep, residual + 2 * rstep, t)
    if P > 3: pixel(OP, B, acc + 3 * B, wv, x + 3 * step, y + 3 * ystep, residual + 3 * rstep, t)
    if P > 4: pixel(OP, B, acc + 4 * B, wv, x + 4 * step, y + 4 * ystep, residual + 4 * rstep, t)
    if P > 5: pixel(OP, B, acc + 5 * B, wv, x + 5 * step, y + 5 * ystep, residual + 5 * rstep, t)
    if P > 6: pixel(OP, B, acc + 6 * B, wv, x + 6 * step, y + 6 * ystep, residual + 6 * rstep, t)
    if P > 7: pixel(OP, B, acc + 7 * B, wv, x + 7 * step, y + 7 * ystep, residual + 7 * rstep, t)
    if P > 8: pixel(OP, B, acc + 8 * B, wv, x + 8 * step, y + 8 * ystep, residual + 8 * rstep, t)
    if P > 9: pixel(OP, B, acc + 9 * B, wv, x + 9 * step, y + 9 * ystep, residual + 9 * rstep, t)
    if P > 10: pixel(OP, B, acc + 10 * B, wv, x + 10 * step, y + 10 * ystep, residual + 10 * rstep, t)
    if P > 11: pixel(OP, B, acc + 11 * B, wv, x + 11 * step, y + 11 * ystep, residual + 11 * rstep, t)
    if P > 12: pixel(OP, B, acc + 12 * B, wv, x + 12 * step, y + 12 * ystep, residual + 12 * rstep, t)
    if P > 13: pixel(OP, B, acc + 13 * B, wv, x + 13 * step, y + 13 * ystep, residual + 13 * rstep, t)


cdef inline void load_weights(const int B, vi *wv, const char *w) noexcept nogil:
    wv[0] = vi_load(w)
    if B > 1: wv[1] = vi_load(w + 4 * LANES)
    if UNROLL:
        wv[0] = viplace(wv[0])
        if B > 1: wv[1] = viplace(wv[1])


cdef inline void tile(const int P, const int B, Py_ssize_t count, const qconv_tile_t *t) noexcept nogil:
    """`count` tiles of P pixels x B blocks, side by side."""
    cdef vi acc[28]
    cdef vi wv[2]
    cdef Py_ssize_t c, tap, k, n, step = t.xstep, line, lines = t.ahead_lines
    cdef const char *x = t.x
    cdef const char *xc
    cdef const char *xi
    cdef const char *end
    cdef const char *w
    cdef const char *ahead = t.ahead
    cdef const uint8_t *residual = t.residual
    cdef char *y = t.y
    while True:
        t = <const qconv_tile_t *>unread(t)
        c = t.planes + (1 if t.partial else 0)
        xc = x
        w = t.w
        load_weights(B, wv, <const char *>t.bias)
        pixels(SET, P, B, acc, wv, NULL, 0, t, NULL, NULL)
        if t.n_taps == 0:
            c = 0
        while c > 0:
            c = c - 1
            n = t.steps
            if c == 0 and t.partial:
                n = t.partial
            tap = 0
            while True:
                xi = xc + t.taps[tap]
                for line in range(lines):
                    prefetch_l2(ahead)
                    ahead = ahead + 64
                if UNROLL and n == STEPS:
                    xi = unmoved(xi)
                    for k in range(STEPS):
                        load_weights(B, wv, w)
                        pixels(MULTIPLY, P, B, acc, wv, xi + 4 * k, step, t, NULL, NULL)
                        w = w + B * 4 * LANES
                else:
                    end = xi + 4 * n
                    while True:
                        load_weights(B, wv, w)
                        pixels(MULTIPLY, P, B, acc, wv, xi, step, t, NULL, NULL)
                        w = w + B * 4 * LANES
                        xi = xi + 4
                        if xi == end:
                            break
                tap = tap + 1
                if tap == t.n_taps:
                    break
            xc = xc + t.xplane
        t = <const qconv_tile_t *>unread(t)
        pixels(WRITE, P, B, acc, NULL, NULL, 0, t, y, residual)
        count = count - 1
        if count <= 0:
            break
        x = x + P * step
        y = y + P * t.ystep
        if residual != NULL:
            residual = residual + P * t.rstep


cdef inline void widths(const int B, const int widest, int P, Py_ssize_t count, const qconv_tile_t *t) noexcept nogil:
    """The instance for P pixels, found as in tiles/conv.pyx; `widest` keeps those that would spill from being compiled."""
    if P <= 7 or widest <= 7:
        if P <= 4 or widest <= 4:
            if P <= 2 or widest <= 2:
                if P <= 1 or widest <= 1:
                    tile(1, B, count, t)
                else:
                    tile(2, B, count, t)
            else:
                if P <= 3 or widest <= 3:
                    tile(3, B, count, t)
                else:
                    tile(4, B, count, t)
        else:
            if P <= 6 or widest <= 6:
                if P <= 5 or widest <= 5:
                    tile(5, B, count, t)
                else:
                    tile(6, B, count, t)
            else:
                tile(7, B, count, t)
    else:
        if P <= 11 or widest <= 11:
            if P <= 9 or widest <= 9:
                if P <= 8 or widest <= 8:
                    tile(8, B, count, t)
                else:
                    tile(9, B, count, t)
            else:
                if P <= 10 or widest <= 10:
                    tile(10, B, count, t)
                else:
                    tile(11, B, count, t)
        else:
            if P <= 13 or widest <= 13:
                if P <= 12 or widest <= 12:
                    tile(12, B, count, t)
                else:
                    tile(13, B, count, t)
            else:
                tile(14, B, count, t)


cdef void tile_1(int P, Py_ssize_t count, const qconv_tile_t *t) noexcept nogil: widths(1, WIDTH1, P, count, t)
cdef void tile_2(int P, Py_ssize_t count, const qconv_tile_t *t) noexcept nogil: widths(2, WIDTH2, P, count, t)


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
