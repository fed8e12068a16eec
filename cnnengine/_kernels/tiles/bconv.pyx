"""Tiles of convolutions of bfloat16 numbers: the innermost loops, compiled once per instruction set that multiplies pairs of them.

Layout
    x    planes [..][pixel][word]: LANES channels of a pixel side by side, two of them in a word of 32 bits
    w    one panel: [tap][plane][word of the plane][B * LANES output channels][2]
    y    blocks [..][pixel][LANES] of bfloat16 or of float32, `yplane` bytes apart

A tile is P neighbouring output pixels x B output blocks, whose sums, of float32, are held in P * B registers. Loops: kernel tap, input
plane, word; innermost, B weight registers meet P words of x in every lane. It is the tile of quantised numbers (tiles/qconv.pyx) with
another product, and what that one and the float tile (tiles/conv.pyx) say of registers, of constants and of the order of instructions
holds here. A plane takes as many steps as a register has pairs of lanes.

A product of zero and an infinity or a NaN is NaN, so words end with the last channel: where their number is odd, whoever makes x puts
a zero beside it.

Storing
    The residual is added in float32, whatever it lies in, bounds are applied, and what is stored as bfloat16 is rounded once.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport INFINITY
from libc.stdint cimport uint16_t

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE

from cnnengine._kernels.simd cimport *
from cnnengine._kernels.tiles.words cimport word_tile_t

cdef extern from "bsimd.h" nogil:
    """
    #define UNROLL (VREGISTERS < 32)
    #define WIDTH1 (VREGISTERS < 32 ? 8 : 14)
    #define WIDTH2 (VREGISTERS < 32 ? 4 : 14)
    #define STEPS (LANES / 2)
    AI const void *unread(const void *p) { __asm__("" : "+r"(p)); return p; }
    AI const char *unmoved(const char *p) { __asm__("" : "+r"(p)); return p; }
    """
    enum: UNROLL, WIDTH1, WIDTH2, STEPS
    const void *unread(const void *) noexcept
    const char *unmoved(const char *) noexcept
    vf vpairs(vf sums, vi x, vi w) noexcept
    vi vpair(const char *) noexcept
    vi vpairs_load(const char *) noexcept
    vi vi_placed(vi) noexcept
    vf vbf16_load(const uint16_t *) noexcept
    void vbf16_round(uint16_t *, vf) noexcept


# What is done to every sum of a tile.
cdef enum:
    MULTIPLY                            # add the products of a word of x and weights
    ADD                                 # add a residual of float32
    ADD_HALF                            # add a residual of bfloat16
    LOWER                               # clip
    UPPER
    WRITE                               # to y as float32
    ROUND                               # to y as bfloat16


cdef inline void one(const int OP, vf *acc, char *p, float limit) noexcept nogil:
    if OP == ADD: acc[0] = acc[0] + vload(<const float *>p)
    elif OP == ADD_HALF: acc[0] = acc[0] + vbf16_load(<const uint16_t *>p)
    elif OP == LOWER: acc[0] = vmax_keep(acc[0], limit)
    elif OP == UPPER: acc[0] = vmin_keep(acc[0], limit)
    elif OP == WRITE: vstore(<float *>p, acc[0])
    else: vbf16_round(<uint16_t *>p, acc[0])


cdef inline void pixel(const int OP, const int B, vf *acc, const vi *wv, char *p, Py_ssize_t plane, float limit) noexcept nogil:
    cdef vi word
    if OP == MULTIPLY:
        word = vpair(p)
        acc[0] = vpairs(acc[0], word, wv[0])
        if B > 1: acc[1] = vpairs(acc[1], word, wv[1])
        # in the order that they are written in: else a sum or two move from register to register in every step
        acc[0] = vplace(acc[0])
        if B > 1: acc[1] = vplace(acc[1])
    else:
        one(OP, acc, p, limit)
        if B > 1: one(OP, acc + 1, p + plane, limit)


cdef inline void pixels(const int OP, const int P, const int B, vf *acc, const vi *wv, char *p, Py_ssize_t step, Py_ssize_t plane,
                        float limit) noexcept nogil:
    """`OP` on P pixels, `step` bytes apart in x, the residual or y, of B blocks, `plane` apart."""
    pixel(OP, B, acc, wv, p, plane, limit)
    if P > 1: pixel(OP, B, acc + B, wv, p + step, plane, limit)
    if P > 2: pixel(OP, B, acc + 2 * B, wv, p + 2 * step, plane, limit)
    if P > 3: pixel(OP, B, acc + 3 * B, wv, p + 3 * step, plane, limit)
    if P > 4: pixel(OP, B, acc + 4 * B, wv, p + 4 * step, plane, limit)
    if P > 5: pixel(OP, B, acc + 5 * B, wv, p + 5 * step, plane, limit)
    if P > 6: pixel(OP, B, acc + 6 * B, wv, p + 6 * step, plane, limit)
    if P > 7: pixel(OP, B, acc + 7 * B, wv, p + 7 * step, plane, limit)
    if P > 8: pixel(OP, B, acc + 8 * B, wv, p + 8 * step, plane, limit)
    if P > 9: pixel(OP, B, acc + 9 * B, wv, p + 9 * step, plane, limit)
    if P > 10: pixel(OP, B, acc + 10 * B, wv, p + 10 * step, plane, limit)
    if P > 11: pixel(OP, B, acc + 11 * B, wv, p + 11 * step, plane, limit)
    if P > 12: pixel(OP, B, acc + 12 * B, wv, p + 12 * step, plane, limit)
    if P > 13: pixel(OP, B, acc + 13 * B, wv, p + 13 * step, plane, limit)


cdef inline void load_weights(const int B, vi *wv, const char *w) noexcept nogil:
    wv[0] = vpairs_load(w)
    if B > 1: wv[1] = vpairs_load(w + 4 * LANES)
    if UNROLL:
        wv[0] = vi_placed(wv[0])
        if B > 1: wv[1] = vi_placed(wv[1])


cdef inline void begun(const int P, const int B, vf *acc, const float *bias) noexcept nogil:
    """All sums are the bias of their channel."""
    cdef vf b0 = vload(bias), b1
    acc[0] = b0
    if P > 1: acc[1 * B] = b0
    if P > 2: acc[2 * B] = b0
    if P > 3: acc[3 * B] = b0
    if P > 4: acc[4 * B] = b0
    if P > 5: acc[5 * B] = b0
    if P > 6: acc[6 * B] = b0
    if P > 7: acc[7 * B] = b0
    if P > 8: acc[8 * B] = b0
    if P > 9: acc[9 * B] = b0
    if P > 10: acc[10 * B] = b0
    if P > 11: acc[11 * B] = b0
    if P > 12: acc[12 * B] = b0
    if P > 13: acc[13 * B] = b0
    if B > 1:
        b1 = vload(bias + LANES)
        acc[1] = b1
        if P > 1: acc[1 * B + 1] = b1
        if P > 2: acc[2 * B + 1] = b1
        if P > 3: acc[3 * B + 1] = b1
        if P > 4: acc[4 * B + 1] = b1
        if P > 5: acc[5 * B + 1] = b1
        if P > 6: acc[6 * B + 1] = b1
        if P > 7: acc[7 * B + 1] = b1
        if P > 8: acc[8 * B + 1] = b1
        if P > 9: acc[9 * B + 1] = b1
        if P > 10: acc[10 * B + 1] = b1
        if P > 11: acc[11 * B + 1] = b1
        if P > 12: acc[12 * B + 1] = b1
        if P > 13: acc[13 * B + 1] = b1


cdef inline void words(const int P, const int B, Py_ssize_t n, vf *acc, const char *x, const char *w, Py_ssize_t step) noexcept nogil:
    """The products of n > 0 words of each pixel."""
    cdef vi wv[2]
    cdef int k
    cdef const char *end = x + 4 * n
    if UNROLL and n == STEPS:
        x = unmoved(x)
        for k in range(STEPS):
            load_weights(B, wv, w + k * B * 4 * LANES)
            pixels(MULTIPLY, P, B, acc, wv, <char *>x + 4 * k, step, 0, 0)
    else:
        while True:
            load_weights(B, wv, w)
            pixels(MULTIPLY, P, B, acc, wv, <char *>x, step, 0, 0)
            # the sums return to their registers: without this the last ones land in those of the weights, and are moved
            vi_placed(wv[0])
            if B > 1: vi_placed(wv[1])
            w = w + B * 4 * LANES
            x = x + 4
            if x == end:
                break


cdef inline void stored(const int P, const int B, vf *acc, const word_tile_t *t, char *y, char *residual) noexcept nogil:
    if residual != NULL:
        if t.r_half:
            pixels(ADD_HALF, P, B, acc, NULL, residual, t.rstep, t.rplane, 0)
        else:
            pixels(ADD, P, B, acc, NULL, residual, t.rstep, t.rplane, 0)
    if t.low > -INFINITY:
        pixels(LOWER, P, B, acc, NULL, NULL, 0, 0, t.low)
    if t.high < INFINITY:
        pixels(UPPER, P, B, acc, NULL, NULL, 0, 0, t.high)
    if t.mode == B_FLOATS:
        pixels(WRITE, P, B, acc, NULL, y, t.ystep, t.yplane, 0)
    else:
        pixels(ROUND, P, B, acc, NULL, y, t.ystep, t.yplane, 0)


cdef inline void tile(const int P, const int B, Py_ssize_t count, const word_tile_t *t) noexcept nogil:
    """`count` tiles of P pixels x B blocks, side by side."""
    cdef vf acc[28]
    cdef Py_ssize_t c, tap, k, step = t.xstep, plane = t.xplane, line, lines = t.ahead_lines
    cdef const char *x = t.x
    cdef const char *xi
    cdef const char *w
    cdef const char *ahead = t.ahead
    cdef char *residual = <char *>t.residual
    cdef char *y = t.y
    while True:
        t = <const word_tile_t *>unread(t)
        w = t.w
        begun(P, B, acc, <const float *>t.bias)
        for tap in range(t.n_taps):
            xi = x + t.taps[tap]
            for line in range(lines):
                prefetch_l2(ahead)
                ahead = ahead + 64
            c = t.planes + (1 if t.partial else 0)
            while c > 0:
                c = c - 1
                k = t.steps
                if c == 0 and t.partial:
                    k = t.partial
                words(P, B, k, acc, xi, w, step)
                w = w + k * B * 4 * LANES
                xi = xi + plane
        t = <const word_tile_t *>unread(t)
        stored(P, B, acc, t, y, residual)
        count = count - 1
        if count <= 0:
            break
        x = x + P * step
        y = y + P * t.ystep
        if residual != NULL:
            residual = residual + P * t.rstep


include "words.pxi"


cdef void narrow(const float *x, uint16_t *y, Py_ssize_t n) noexcept nogil:
    """A run of whole registers: rows of planes."""
    cdef Py_ssize_t i = 0
    while i < n:
        vbf16_round(y + i, vload(x + i))
        i = i + LANES


cdef double pair_loop(long n) noexcept nogil:
    """n steps of 12 independent additions of products in registers."""
    cdef vf a[12]
    cdef vf s = vset(0)
    # next to the least normal number: what is added up stays small
    cdef vi x = viset(0x01000100), y = viset(0x3f803f80)
    cdef int i
    cdef long r
    # a constant of bfloat16 that it knows, GCC 12 loads as one of float16
    y = vi_placed(y)
    for i in range(12):
        a[i] = vset(i)
    for r in range(n):
        for i in range(12):
            # to the compiler another x each time: one product would serve all
            x = vi_placed(x)
            a[i] = vplace(vpairs(a[i], x, y))
    for i in range(12):
        s = s + a[i]
    # the sum keeps the loop alive
    return 2.0 * 12 * LANES * 2 * n + 0.0 * (<float *>&s)[0]


cdef BConvTiles tiles
tiles.lanes = LANES
tiles.width[1] = WIDTH1
tiles.width[2] = WIDTH2
tiles.tile[1] = tile_1
tiles.tile[2] = tile_2
tiles.narrow = narrow
tiles.pair_loop = pair_loop
capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
