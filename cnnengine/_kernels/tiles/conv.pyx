"""Convolution tiles: the innermost loops, compiled once per instruction set.

Layout
    x    planes [..][pixel][IC]: IC = LANES channels of a pixel side by side, or IC = 1
    w    one panel: [plane][tap][channel of the plane][B * LANES output channels]
    y    blocks [..][pixel][LANES], `yplane` floats apart

A tile is P neighbouring output pixels x B output blocks, held in P * B registers. Loops: input plane, kernel tap, channel;
innermost, B weight registers meet P broadcast input values. One step is P * B FMAs, P broadcasts and B loads, so 14 x 2 on
32 registers and 6 x 2 on 16 keep both FMA ports busy: the innermost loop runs at 0.98 of the FMA peak, a long reduction at 0.95.
9 x 3 and 4 x 3 serve an odd number of blocks, 7 x 4 and 3 x 4 narrow rows. Where input values take registers on their way (NEON),
tiles are narrower by a pixel or two, so that no sum is put on the stack. Kernel taps come as a table of offsets: dilation, 1-D,
2-D, 3-D and the phases of a transposed convolution are all the same tile. A second table passes over taps of the weights that
this call does not use. There is no border code: planes carry a zero halo.

What the compiler needs
    P, B, S and IC are constants of each instance: every function here is inlined into `widths`, whose constants select it.
    An accumulator is a register from the bias to the store only if every access to `acc` has a constant index before gcc looks for
    scalars, which is before it unrolls loops. Hence `pixels`, written out, instead of loops over P and B.
    With 32 registers the channel count must be unknown to gcc: a constant one is unrolled and spills.
    With 16 registers it must be known and unrolled: it saves the loop's own instructions. Hence `UNROLL`. What is unrolled must stay
    in the order that it is written in, weights in registers: left alone, gcc loads the pixels of several steps ahead, for which
    there are no registers, and weights once for every pixel. Hence `vplace` and `unmoved`.
    The innermost loop is a `while True`: where it may run no time at all, gcc keeps a flag for it in a mask register, and setting it
    takes a turn of an FMA port.
    Only the last plane may have fewer channels: lanes beyond them are never read, whatever lies there.

Fetching ahead
    The pixels of the next plane, or of the next tile, go to the first-level cache (with several taps most of them are there), and a
    share of the weights that the next tiles will need to the second: rows of planes and panels lie too far apart for the processor
    to guess.

Planes of one channel
    Kernel taps that are neighbours in a row of x lie side by side as the channels of a pixel do, and their weights too: a run of
    them is one tap of `channels` channels, of which neighbouring pixels share all but S.
"""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE
from libc.math cimport INFINITY

from cnnengine._kernels.simd cimport *

cdef extern from "simd.h" nogil:
    """
    #define UNROLL (VREGISTERS < 32)
    /* whether a multiply-add takes x from memory, for all lanes; else x needs registers of its own */
    #ifdef __AVX512F__
    #define FROM_MEMORY 1
    #else
    #define FROM_MEMORY 0
    #endif
    /* widest tile of 1 to 4 output blocks */
    #define WIDTH1 (VREGISTERS < 32 ? 12 : 14)
    #define WIDTH2 (VREGISTERS < 32 ? 6 : FROM_MEMORY ? 14 : 12)
    #define WIDTH3 (VREGISTERS < 32 ? 4 : FROM_MEMORY ? 9 : 8)
    #define WIDTH4 (VREGISTERS < 32 ? 3 : FROM_MEMORY ? 7 : 6)
    /* widest depthwise tile with kernels 3, 5 and 7 wide: its sums, a row of weights and a pixel are in registers */
    #define WIDTH_K3 (VREGISTERS < 32 ? 10 : 14)
    #define WIDTH_K5 (VREGISTERS < 32 ? 8 : 14)
    #define WIDTH_K7 (VREGISTERS < 32 ? 7 : 14)
    /* the same pointer, but loads through it are not moved out of a loop: they would be spilled, and read from the stack */
    AI const float *unmoved(const float *p) { __asm__("" : "+r"(p)); return p; }
    /* the same pointer, but what is read through it is read anew: kept from before, it would be kept on the stack */
    AI const void *unread(const void *p) { __asm__("" : "+r"(p)); return p; }
    """
    enum: UNROLL, WIDTH1, WIDTH2, WIDTH3, WIDTH4, WIDTH_K3, WIDTH_K5, WIDTH_K7
    const float *unmoved(const float *) noexcept
    const void *unread(const void *) noexcept


# What is done to every accumulator of a tile.
cdef enum:
    SET                                 # to the bias, in `wv`
    READ                                # from y
    MULTIPLY                            # add a broadcast value of x times `wv`
    ADD                                 # add the residual
    LOWER                               # clip
    UPPER
    WRITE                               # to y


cdef inline void one(const int OP, const int b, vf *acc, const vf *wv, const float *x, float *y, Py_ssize_t plane, float limit) noexcept nogil:
    if OP == SET: acc[b] = wv[b]
    elif OP == READ: acc[b] = vload(y + b * plane)
    elif OP == MULTIPLY:
        acc[b] = acc[b] + wv[b] * x[0]
        if UNROLL: acc[b] = vplace(acc[b])
    elif OP == ADD: acc[b] = acc[b] + vload(x + b * plane)
    elif OP == LOWER: acc[b] = vmax_keep(acc[b], limit)
    elif OP == UPPER: acc[b] = vmin_keep(acc[b], limit)
    else: vstore(y + b * plane, acc[b])


cdef inline void pixel(const int OP, const int B, vf *acc, const vf *wv, const float *x, float *y, Py_ssize_t plane, float limit) noexcept nogil:
    one(OP, 0, acc, wv, x, y, plane, limit)
    if B > 1: one(OP, 1, acc, wv, x, y, plane, limit)
    if B > 2: one(OP, 2, acc, wv, x, y, plane, limit)
    if B > 3: one(OP, 3, acc, wv, x, y, plane, limit)


cdef inline void pixels(const int OP, const int P, const int B, vf *acc, const vf *wv, const float *x, float *y, Py_ssize_t step,
                        Py_ssize_t plane, float limit) noexcept nogil:
    """`OP` on P pixels, `step` apart in x or y, of B blocks, `plane` apart."""
    pixel(OP, B, acc, wv, x, y, plane, limit)
    if P > 1: pixel(OP, B, acc + B, wv, x + step, y + step, plane, limit)
    if P > 2: pixel(OP, B, acc + 2 * B, wv, x + 2 * step, y + 2 * step, plane, limit)
    if P > 3: pixel(OP, B, acc + 3 * B, wv, x + 3 * step, y + 3 * step, plane, limit)
    if P > 4: pixel(OP, B, acc + 4 * B, wv, x + 4 * step, y + 4 * step, plane, limit)
    if P > 5: pixel(OP, B, acc + 5 * B, wv, x + 5 * step, y + 5 * step, plane, limit)
    if P > 6: pixel(OP, B, acc + 6 * B, wv, x + 6 * step, y + 6 * step, plane, limit)
    if P > 7: pixel(OP, B, acc + 7 * B, wv, x + 7 * step, y + 7 * step, plane, limit)
    if P > 8: pixel(OP, B, acc + 8 * B, wv, x + 8 * step, y + 8 * step, plane, limit)
    if P > 9: pixel(OP, B, acc + 9 * B, wv, x + 9 * step, y + 9 * step, plane, limit)
    if P > 10: pixel(OP, B, acc + 10 * B, wv, x + 10 * step, y + 10 * step, plane, limit)
    if P > 11: pixel(OP, B, acc + 11 * B, wv, x + 11 * step, y + 11 * step, plane, limit)
    if P > 12: pixel(OP, B, acc + 12 * B, wv, x + 12 * step, y + 12 * step, plane, limit)
    if P > 13: pixel(OP, B, acc + 13 * B, wv, x + 13 * step, y + 13 * step, plane, limit)


cdef inline void load_weights(const int B, vf *wv, const float *w, const float *w2) noexcept nogil:
    wv[0] = vload(w)
    if B > 1: wv[1] = vload(w + LANES)
    if B > 2: wv[2] = vload(w2)
    if B > 3: wv[3] = vload(w2 + LANES)
    if UNROLL:
        wv[0] = vplace(wv[0])
        if B > 1: wv[1] = vplace(wv[1])
        if B > 2: wv[2] = vplace(wv[2])
        if B > 3: wv[3] = vplace(wv[3])


cdef inline void tile(const int P, const int B, const int S, const int IC, Py_ssize_t count, const conv_tile_t *t) noexcept nogil:
    """`count` tiles of P pixels x B blocks, side by side, at stride S (0: t.xstep) over planes of IC channels.

    Short sums are over after a hundred cycles: a call for each tile would cost a tenth of them. What tiles share is read again for
    each one (`unread`): kept, it would be put on the stack, and stores are what the end of a tile waits for.
    """
    cdef vf acc[28]
    cdef vf wv[4]
    cdef int p
    cdef Py_ssize_t c, tap, k, ic, step, line, lines = t.ahead_lines
    cdef const float *x = t.x
    cdef const float *xc
    cdef const float *xi
    cdef const float *end
    cdef const float *w
    cdef const float *w2
    cdef const float *ahead = t.ahead
    cdef const float *residual = t.residual
    cdef float *y = t.y
    while True:
        t = <const conv_tile_t *>unread(t)
        step = S * IC if S else t.xstep
        c = t.planes + (1 if t.partial else 0)
        xc = x
        w = t.w
        w2 = t.w2
        if t.first:
            load_weights(B, wv, t.bias, t.bias + 2 * LANES)
            pixels(SET, P, B, acc, wv, NULL, NULL, 0, 0, 0)
        else:
            pixels(READ, P, B, acc, NULL, NULL, y, t.ystep, t.yplane, 0)
        if t.n_taps == 0:
            c = 0
        while c > 0:
            c = c - 1
            ic = t.channels
            if c == 0 and t.partial:
                ic = t.partial
            tap = 0
            while True:
                xi = xc + t.taps[tap]
                if t.skips != NULL:
                    w = w + t.skips[tap] * ic * (2 if B > 2 else B) * LANES
                    if B > 2:
                        w2 = w2 + t.skips[tap] * ic * (B - 2) * LANES
                for line in range(lines):
                    prefetch_l2(ahead)
                    ahead = ahead + LINE
                # with 16 registers a plane is half as wide, and fetching the next tile's first one costs more than it saves
                if IC > 1 and t.n_taps == 1 and (c > 0 or not UNROLL):
                    end = xi + t.xplane if UNROLL or c > 0 else x + P * step + t.taps[0]
                    for p in range((P * LANES + LINE - 1) // LINE if S == 1 else P):
                        prefetch_l1(end + p * (LINE if S == 1 else step))
                if UNROLL and IC > 1 and ic == LANES:
                    xi = unmoved(xi)
                    for k in range(LANES):
                        load_weights(B, wv, w, w2)
                        pixels(MULTIPLY, P, B, acc, wv, xi + k, NULL, step, 0, 0)
                        w = w + (2 if B > 2 else B) * LANES
                        if B > 2:
                            w2 = w2 + (B - 2) * LANES
                else:
                    end = xi + ic
                    while True:
                        load_weights(B, wv, w, w2)
                        pixels(MULTIPLY, P, B, acc, wv, xi, NULL, step, 0, 0)
                        # the sums return to their registers: without this the last ones land in those of the weights, and are moved
                        vkeep(wv[0])
                        if B > 1: vkeep(wv[1])
                        if B > 2: vkeep(wv[2])
                        if B > 3: vkeep(wv[3])
                        w = w + (2 if B > 2 else B) * LANES
                        if B > 2:
                            w2 = w2 + (B - 2) * LANES
                        xi = xi + 1
                        if xi == end:
                            break
                tap = tap + 1
                if tap == t.n_taps:
                    break
            if t.skips != NULL:
                w = w + t.skips[t.n_taps] * ic * (2 if B > 2 else B) * LANES
                if B > 2:
                    w2 = w2 + t.skips[t.n_taps] * ic * (B - 2) * LANES
            xc = xc + t.xplane
        t = <const conv_tile_t *>unread(t)
        if t.last:
            if residual != NULL:
                pixels(ADD, P, B, acc, NULL, residual, NULL, t.rstep, t.rplane, 0)
            if t.low > -INFINITY:
                pixels(LOWER, P, B, acc, NULL, NULL, NULL, 0, 0, t.low)
            if t.high < INFINITY:
                pixels(UPPER, P, B, acc, NULL, NULL, NULL, 0, 0, t.high)
        pixels(WRITE, P, B, acc, NULL, NULL, y, t.ystep, t.yplane, 0)
        count = count - 1
        if count <= 0:
            break
        x = x + P * step
        y = y + P * t.ystep
        if residual != NULL:
            residual = residual + P * t.rstep
        if ahead >= t.ahead_end:
            lines = 0


cdef inline void widths(const int B, const int S, const int IC, const int widest, int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil:
    """The instance for P pixels; `widest` keeps those that would spill from being compiled.

    A tree, not a chain: to gcc each comparison halves the odds of what follows, and it neither unrolls nor keeps in registers
    what it holds for cold.
    """
    if P <= 7 or widest <= 7:
        if P <= 4 or widest <= 4:
            if P <= 2 or widest <= 2:
                if P <= 1 or widest <= 1:
                    tile(1, B, S, IC, count, t)
                else:
                    tile(2, B, S, IC, count, t)
            else:
                if P <= 3 or widest <= 3:
                    tile(3, B, S, IC, count, t)
                else:
                    tile(4, B, S, IC, count, t)
        else:
            if P <= 6 or widest <= 6:
                if P <= 5 or widest <= 5:
                    tile(5, B, S, IC, count, t)
                else:
                    tile(6, B, S, IC, count, t)
            else:
                tile(7, B, S, IC, count, t)
    else:
        if P <= 11 or widest <= 11:
            if P <= 9 or widest <= 9:
                if P <= 8 or widest <= 8:
                    tile(8, B, S, IC, count, t)
                else:
                    tile(9, B, S, IC, count, t)
            else:
                if P <= 10 or widest <= 10:
                    tile(10, B, S, IC, count, t)
                else:
                    tile(11, B, S, IC, count, t)
        else:
            if P <= 13 or widest <= 13:
                if P <= 12 or widest <= 12:
                    tile(12, B, S, IC, count, t)
                else:
                    tile(13, B, S, IC, count, t)
            else:
                tile(14, B, S, IC, count, t)


cdef void blocked_1_0(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(1, 0, LANES, WIDTH1, P, count, t)
cdef void blocked_1_1(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(1, 1, LANES, WIDTH1, P, count, t)
cdef void blocked_1_2(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(1, 2, LANES, WIDTH1, P, count, t)
cdef void blocked_2_0(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(2, 0, LANES, WIDTH2, P, count, t)
cdef void blocked_2_1(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(2, 1, LANES, WIDTH2, P, count, t)
cdef void blocked_2_2(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(2, 2, LANES, WIDTH2, P, count, t)
cdef void blocked_3_0(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(3, 0, LANES, WIDTH3, P, count, t)
cdef void blocked_3_1(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(3, 1, LANES, WIDTH3, P, count, t)
cdef void blocked_3_2(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(3, 2, LANES, WIDTH3, P, count, t)
cdef void blocked_4_0(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(4, 0, LANES, WIDTH4, P, count, t)
cdef void blocked_4_1(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(4, 1, LANES, WIDTH4, P, count, t)
cdef void blocked_4_2(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(4, 2, LANES, WIDTH4, P, count, t)
cdef void plain_1_0(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(1, 0, 1, WIDTH1, P, count, t)
cdef void plain_1_1(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(1, 1, 1, WIDTH1, P, count, t)
cdef void plain_1_2(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(1, 2, 1, WIDTH1, P, count, t)
cdef void plain_2_0(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(2, 0, 1, WIDTH2, P, count, t)
cdef void plain_2_1(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(2, 1, 1, WIDTH2, P, count, t)
cdef void plain_2_2(int P, Py_ssize_t count, const conv_tile_t *t) noexcept nogil: widths(2, 2, 1, WIDTH2, P, count, t)


# ---------------------------------------------------------------- depthwise
# Rows of one channel block. Where the taps are rows of K neighbours, at stride 1 or 2, a row of the kernel stays in K registers and
# every pixel is loaded once for all of them: P multiply-adds a tap, but only (P - 1) S + K loads a row of taps. Narrow planes take
# two output rows at once, so that the sums are as many as the latency of a multiply-add asks for. The order of a sum is that of
# the taps in every instance.

cdef inline void finish(const int P, Py_ssize_t at, vf *acc, const depthwise_tile_t *t, float *y, const float *residual) noexcept nogil:
    """Residual, clip, store. Functions of one pixel, written out, as in `pixels`."""
    cdef int p
    if residual != NULL:
        for p in range(P):
            acc[p] = acc[p] + vload(residual + (at + p) * LANES)
    if t.low > -INFINITY:
        for p in range(P):
            acc[p] = vmax_keep(acc[p], t.low)
    if t.high < INFINITY:
        for p in range(P):
            acc[p] = vmin_keep(acc[p], t.high)
    for p in range(P):
        vstore(y + (at + p) * LANES, acc[p])


cdef inline void depthwise_tile(const int P, const int S, Py_ssize_t at, const depthwise_tile_t *t, const float *x, float *y,
                                const float *residual) noexcept nogil:
    """Any taps: each is one weight register and P loads."""
    cdef vf acc[14]
    cdef vf w
    cdef int p
    cdef Py_ssize_t tap
    cdef Py_ssize_t step = S * LANES if S else t.xstep
    cdef const float *xi
    x = x + at * step
    w = vload(t.bias)
    for p in range(P):
        acc[p] = w
    for tap in range(t.n_taps):
        xi = x + t.taps[tap]
        w = vload(t.w + tap * LANES)
        for p in range(P):
            acc[p] = acc[p] + w * vload(xi + p * step)
    finish(P, at, acc, t, y, residual)


cdef inline void depthwise_row(const int S, const depthwise_tile_t *t, const float *x, float *y, const float *residual) noexcept nogil:
    cdef Py_ssize_t at = 0, n = t.width
    while n - at >= 14 or n - at == 7:
        if n - at >= 14:
            depthwise_tile(14, S, at, t, x, y, residual)
            at = at + 14
        else:
            depthwise_tile(7, S, at, t, x, y, residual)
            at = at + 7
    while n - at >= 4:
        depthwise_tile(4, S, at, t, x, y, residual)
        at = at + 4
    while n - at >= 2:
        depthwise_tile(2, S, at, t, x, y, residual)
        at = at + 2
    if n - at >= 1:
        depthwise_tile(1, S, at, t, x, y, residual)


cdef inline void depthwise_rows(const int S, const depthwise_tile_t *t) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(t.rows):
        depthwise_row(S, t, t.x + row * t.xrow, t.y + row * t.yrow, t.residual + row * t.rrow if t.residual != NULL else NULL)


cdef void depthwise_0(const depthwise_tile_t *t) noexcept nogil: depthwise_rows(0, t)


cdef inline void meet(const int P, const int K, const int S, const int j, const int q, vf *acc, const vf *w, vf v) noexcept nogil:
    """Column q of x meets tap j of the kernel's row."""
    if j < K and q >= j and (q - j) % S == 0 and (q - j) // S < P:
        acc[(q - j) // S] = acc[(q - j) // S] + w[j] * v


cdef inline void meets(const int P, const int K, const int S, const int q, vf *acc, const vf *w, vf v) noexcept nogil:
    meet(P, K, S, 0, q, acc, w, v)
    meet(P, K, S, 1, q, acc, w, v)
    meet(P, K, S, 2, q, acc, w, v)
    meet(P, K, S, 3, q, acc, w, v)
    meet(P, K, S, 4, q, acc, w, v)
    meet(P, K, S, 5, q, acc, w, v)
    meet(P, K, S, 6, q, acc, w, v)


cdef inline void columns(const int P, const int K, const int S, const int N, vf *acc, const vf *w, const float *x) noexcept nogil:
    """N columns of x, written out, as in `pixels`."""
    if N > 0: meets(P, K, S, 0, acc, w, vload(x + 0 * LANES))
    if N > 1: meets(P, K, S, 1, acc, w, vload(x + 1 * LANES))
    if N > 2: meets(P, K, S, 2, acc, w, vload(x + 2 * LANES))
    if N > 3: meets(P, K, S, 3, acc, w, vload(x + 3 * LANES))
    if N > 4: meets(P, K, S, 4, acc, w, vload(x + 4 * LANES))
    if N > 5: meets(P, K, S, 5, acc, w, vload(x + 5 * LANES))
    if N > 6: meets(P, K, S, 6, acc, w, vload(x + 6 * LANES))
    if N > 7: meets(P, K, S, 7, acc, w, vload(x + 7 * LANES))
    if N > 8: meets(P, K, S, 8, acc, w, vload(x + 8 * LANES))
    if N > 9: meets(P, K, S, 9, acc, w, vload(x + 9 * LANES))
    if N > 10: meets(P, K, S, 10, acc, w, vload(x + 10 * LANES))
    if N > 11: meets(P, K, S, 11, acc, w, vload(x + 11 * LANES))
    if N > 12: meets(P, K, S, 12, acc, w, vload(x + 12 * LANES))
    if N > 13: meets(P, K, S, 13, acc, w, vload(x + 13 * LANES))
    if N > 14: meets(P, K, S, 14, acc, w, vload(x + 14 * LANES))
    if N > 15: meets(P, K, S, 15, acc, w, vload(x + 15 * LANES))
    if N > 16: meets(P, K, S, 16, acc, w, vload(x + 16 * LANES))
    if N > 17: meets(P, K, S, 17, acc, w, vload(x + 17 * LANES))
    if N > 18: meets(P, K, S, 18, acc, w, vload(x + 18 * LANES))
    if N > 19: meets(P, K, S, 19, acc, w, vload(x + 19 * LANES))
    if N > 20: meets(P, K, S, 20, acc, w, vload(x + 20 * LANES))
    if N > 21: meets(P, K, S, 21, acc, w, vload(x + 21 * LANES))
    if N > 22: meets(P, K, S, 22, acc, w, vload(x + 22 * LANES))
    if N > 23: meets(P, K, S, 23, acc, w, vload(x + 23 * LANES))
    if N > 24: meets(P, K, S, 24, acc, w, vload(x + 24 * LANES))
    if N > 25: meets(P, K, S, 25, acc, w, vload(x + 25 * LANES))
    if N > 26: meets(P, K, S, 26, acc, w, vload(x + 26 * LANES))
    if N > 27: meets(P, K, S, 27, acc, w, vload(x + 27 * LANES))
    if N > 28: meets(P, K, S, 28, acc, w, vload(x + 28 * LANES))
    if N > 29: meets(P, K, S, 29, acc, w, vload(x + 29 * LANES))
    if N > 30: meets(P, K, S, 30, acc, w, vload(x + 30 * LANES))
    if N > 31: meets(P, K, S, 31, acc, w, vload(x + 31 * LANES))
    if N > 32: meets(P, K, S, 32, acc, w, vload(x + 32 * LANES))


cdef inline void kernel_tile(const int P, const int K, const int S, const int R, Py_ssize_t at, const depthwise_tile_t *t, const float *x,
                             float *y, const float *residual) noexcept nogil:
    """P pixels of R output rows, taps in rows of K neighbours."""
    cdef vf acc[14]
    cdef vf other[7]
    cdef vf w[7]
    cdef int p
    cdef Py_ssize_t tap
    cdef const float *xi
    cdef const float *wi = t.w
    x = x + at * S * LANES
    w[0] = vload(t.bias)
    for p in range(P):
        acc[p] = w[0]
    if R > 1:
        for p in range(P):
            other[p] = w[0]
    tap = 0
    while tap < t.n_taps:
        xi = x + t.taps[tap]
        tap = tap + K
        for p in range(K):
            w[p] = vload(wi + p * LANES)
        wi = wi + K * LANES
        columns(P, K, S, (P - 1) * S + K, acc, w, xi)
        if R > 1:
            columns(P, K, S, (P - 1) * S + K, other, w, xi + t.xrow)
    finish(P, at, acc, t, y, residual)
    if R > 1:
        finish(P, at, other, t, y + t.yrow, residual + t.rrow if residual != NULL else NULL)


cdef inline void kernel_tiles(const int K, const int S, const int R, const int widest, int P, Py_ssize_t at, const depthwise_tile_t *t,
                              const float *x, float *y, const float *residual) noexcept nogil:
    """The instance for P pixels, none wider than `widest` (see `widths`)."""
    if P <= 7 or widest <= 7:
        if P <= 4 or widest <= 4:
            if P <= 2 or widest <= 2:
                if P <= 1 or widest <= 1:
                    kernel_tile(1, K, S, R, at, t, x, y, residual)
                else:
                    kernel_tile(2, K, S, R, at, t, x, y, residual)
            else:
                if P <= 3 or widest <= 3:
                    kernel_tile(3, K, S, R, at, t, x, y, residual)
                else:
                    kernel_tile(4, K, S, R, at, t, x, y, residual)
        else:
            if P <= 6 or widest <= 6:
                if P <= 5 or widest <= 5:
                    kernel_tile(5, K, S, R, at, t, x, y, residual)
                else:
                    kernel_tile(6, K, S, R, at, t, x, y, residual)
            else:
                kernel_tile(7, K, S, R, at, t, x, y, residual)
    else:
        if P <= 10 or widest <= 10:
            if P <= 8 or widest <= 8:
                kernel_tile(8, K, S, R, at, t, x, y, residual)
            else:
                if P <= 9 or widest <= 9:
                    kernel_tile(9, K, S, R, at, t, x, y, residual)
                else:
                    kernel_tile(10, K, S, R, at, t, x, y, residual)
        else:
            if P <= 12 or widest <= 12:
                if P <= 11 or widest <= 11:
                    kernel_tile(11, K, S, R, at, t, x, y, residual)
                else:
                    kernel_tile(12, K, S, R, at, t, x, y, residual)
            else:
                if P <= 13 or widest <= 13:
                    kernel_tile(13, K, S, R, at, t, x, y, residual)
                else:
                    kernel_tile(14, K, S, R, at, t, x, y, residual)


cdef inline void kernel_rows(const int K, const int S, const int widest, const depthwise_tile_t *t) noexcept nogil:
    cdef Py_ssize_t row = 0, at, left, pieces
    cdef const float *x
    cdef const float *residual
    cdef float *y
    while row < t.rows:
        x = t.x + row * t.xrow
        y = t.y + row * t.yrow
        residual = t.residual + row * t.rrow if t.residual != NULL else NULL
        if not UNROLL and t.width <= 7 and row + 2 <= t.rows:
            kernel_tiles(K, S, 2, 7, <int>t.width, 0, t, x, y, residual)
            row = row + 2
            continue
        pieces = (t.width + widest - 1) // widest
        at = 0
        while pieces > 0:
            left = (t.width - at + pieces - 1) // pieces
            kernel_tiles(K, S, 1, widest, <int>left, at, t, x, y, residual)
            at = at + left
            pieces = pieces - 1
        row = row + 1


cdef void kernel_3_1(const depthwise_tile_t *t) noexcept nogil: kernel_rows(3, 1, WIDTH_K3, t)
cdef void kernel_3_2(const depthwise_tile_t *t) noexcept nogil: kernel_rows(3, 2, WIDTH_K3, t)
cdef void kernel_5_1(const depthwise_tile_t *t) noexcept nogil: kernel_rows(5, 1, WIDTH_K5, t)
cdef void kernel_5_2(const depthwise_tile_t *t) noexcept nogil: kernel_rows(5, 2, WIDTH_K5, t)
cdef void kernel_7_1(const depthwise_tile_t *t) noexcept nogil: kernel_rows(7, 1, WIDTH_K7, t)
cdef void kernel_7_2(const depthwise_tile_t *t) noexcept nogil: kernel_rows(7, 2, WIDTH_K7, t)


# Several channels a group: the lanes of a pixel are permuted so that each output lane meets channel k of its own group. No value
# of another group is touched, not even by a zero: infinities and NaN stay in their group.
#
# A permutation costs as much as a multiply-add. Where the taps are rows of three neighbours, at stride 1 or 2, a row's pixels are
# permuted once for each channel and meet all three taps: P + 2 permutations for 3 P multiply-adds at stride 1.

cdef inline void grouped_tile(const int P, Py_ssize_t at, const depthwise_tile_t *t) noexcept nogil:
    """Any taps, any stride: one permutation for each multiply-add."""
    cdef vf acc[14]
    cdef vf w
    cdef vi order
    cdef int p
    cdef Py_ssize_t tap, k, step = t.xstep
    cdef const float *x = t.x + at * step
    cdef const float *xi
    cdef const float *wi = t.w
    w = vload(t.bias)
    for p in range(P):
        acc[p] = w
    for tap in range(t.n_taps):
        xi = x + t.taps[tap]
        for k in range(t.per_group):
            order = vgroup(<int>t.per_group, <int>k)
            w = vload(wi)
            for p in range(P):
                acc[p] = acc[p] + w * vpermute(vload(xi + p * step), order)
            wi = wi + LANES
    finish(P, at, acc, t, t.y, t.residual)


cdef inline void grouped_tile3(const int P, const int S, Py_ssize_t at, const depthwise_tile_t *t) noexcept nogil:
    """Taps in rows of three neighbours, stride S."""
    cdef vf acc[14]
    cdef vf w0, w1, w2, v
    cdef vi order
    cdef int p, q
    cdef Py_ssize_t tap, k, g = t.per_group
    cdef const float *x = t.x + at * S * LANES
    cdef const float *xi
    cdef const float *wi
    v = vload(t.bias)
    for p in range(P):
        acc[p] = v
    for tap in range(0, t.n_taps, 3):
        xi = x + t.taps[tap]
        wi = t.w + tap * g * LANES
        for k in range(g):
            order = vgroup(<int>g, <int>k)
            xi = unmoved(xi)
            w0 = vload(wi)
            w1 = vload(wi + g * LANES)
            w2 = vload(wi + 2 * g * LANES)
            for q in range((P - 1) * S + 3):
                v = vpermute(vload(xi + q * LANES), order)
                if q % S == 0 and q // S < P:
                    acc[q // S] = acc[q // S] + w0 * v
                if q >= 1 and (q - 1) % S == 0 and (q - 1) // S < P:
                    acc[(q - 1) // S] = acc[(q - 1) // S] + w1 * v
                if q >= 2 and (q - 2) % S == 0 and (q - 2) // S < P:
                    acc[(q - 2) // S] = acc[(q - 2) // S] + w2 * v
            wi = wi + LANES
    finish(P, at, acc, t, t.y, t.residual)


cdef inline void grouped_part(const int P, const int S, Py_ssize_t at, const depthwise_tile_t *t) noexcept nogil:
    if S == 0: grouped_tile(P, at, t)
    else: grouped_tile3(P, S, at, t)


cdef inline void grouped_stride(const int S, const depthwise_tile_t *t) noexcept nogil:
    cdef Py_ssize_t at = 0, n = t.width
    while not UNROLL and (n - at >= 28 or n - at == 14):
        grouped_part(14, S, at, t)
        at = at + 14
    # on 16 registers the sums, a row of weights, the order and a pixel would be too many
    while not UNROLL and n - at >= 10:
        grouped_part(10, S, at, t)
        at = at + 10
    while n - at >= 7:
        grouped_part(7, S, at, t)
        at = at + 7
    while n - at >= 4:
        grouped_part(4, S, at, t)
        at = at + 4
    while n - at >= 2:
        grouped_part(2, S, at, t)
        at = at + 2
    if n - at >= 1:
        grouped_part(1, S, at, t)


cdef void grouped_rows(const depthwise_tile_t *all) noexcept nogil:
    cdef Py_ssize_t tap, row
    cdef depthwise_tile_t one = all[0]
    cdef depthwise_tile_t *t = &one
    cdef int threes = t.n_taps % 3 == 0
    for tap in range(0, t.n_taps - 2, 3):
        if t.taps[tap + 1] - t.taps[tap] != LANES or t.taps[tap + 2] - t.taps[tap] != 2 * LANES:
            threes = 0
    for row in range(all.rows):
        if threes and t.xstep == LANES: grouped_stride(1, t)
        elif threes and t.xstep == 2 * LANES: grouped_stride(2, t)
        else: grouped_stride(0, t)
        t.x = t.x + t.xrow
        t.y = t.y + t.yrow
        if t.residual != NULL:
            t.residual = t.residual + t.rrow


# ---------------------------------------------------------------- dot products
# N rows of weights against one x; the lanes are added in one fixed order. Weights mostly come from memory: eight rows at once
# are as many streams, and each is read some lines at a time, so that x is read an eighth as often. Lines are fetched to the
# second-level cache: rows are often a multiple of 4 KiB apart, and then those of all rows would meet in one set of the first.
cdef enum:
    DOT_AHEAD = 512                     # floats between what is read and what is fetched


cdef inline void dot_tile(const int N, const int SUMS, const int RUN, const float *x, const float *w, Py_ssize_t k, const float *bias,
                          float *y, float low, float high) noexcept nogil:
    """N rows of w, each in SUMS partial sums, RUN registers of a row after one another."""
    cdef vf acc[8]
    cdef vf v[4]
    cdef Py_ssize_t at = 0, ahead
    cdef int i, j, lane
    cdef float total
    for i in range(N * SUMS):
        acc[i] = vset(0)
    while at + RUN * LANES <= k:
        # at the end of the rows, the start of the next N
        ahead = at + DOT_AHEAD if at + DOT_AHEAD < k else at + DOT_AHEAD + (N - 1) * k
        for j in range(RUN):
            v[j] = vload(x + at + j * LANES)
        for i in range(N):
            for j in range(RUN):
                if j * LANES % LINE == 0:
                    prefetch_l2(w + i * k + ahead + j * LANES)
                acc[i * SUMS + j % SUMS] = acc[i * SUMS + j % SUMS] + v[j] * vload(w + i * k + at + j * LANES)
        at = at + RUN * LANES
    while at < k:
        lane = LANES if k - at > LANES else <int>(k - at)
        v[0] = vload_part(x + at, lane)
        for i in range(N):
            acc[i * SUMS] = acc[i * SUMS] + v[0] * vload_part(w + i * k + at, lane)
        at = at + lane
    for i in range(N):
        v[0] = acc[i * SUMS]
        if SUMS == 2:
            v[0] = v[0] + acc[i * SUMS + 1]
        total = vsum(v[0])
        if bias != NULL:
            total = total + bias[i]
        # comparisons that a NaN fails, so that it stays
        total = low if low > total else total
        y[i] = high if high < total else total


cdef void dot(const float *x, const float *w, Py_ssize_t k, int n, const float *bias, float *y, float low, float high) noexcept nogil:
    cdef int i = 0
    if n == DOT_ROWS:
        dot_tile(8, 1, 4, x, w, k, bias, y, low, high)
        return
    if n >= 4:
        dot_tile(4, 2, 4, x, w, k, bias, y, low, high)
        i = 4
    while i < n:
        dot_tile(1, 2, 4, x, w + i * k, k, bias + i if bias != NULL else NULL, y + i, low, high)
        i = i + 1


cdef double fma_loop(long n) noexcept nogil:
    """n steps of 12 independent multiply-adds in registers."""
    cdef vf a[12]
    cdef vf x = vset(<float>1e-6), s = vset(0)
    cdef int i
    cdef long r
    for i in range(12):
        a[i] = vset(i + 1)
    for r in range(n):
        for i in range(12):
            # what is added to is what is written: some processors know no other multiply-add, and would copy registers
            a[i] = a[i] + a[i] * x
    for i in range(12):
        s = s + a[i]
    # the sum keeps the loop alive; it is finite, so the product is 0
    return 2.0 * 12 * LANES * n + 0 * (<float *>&s)[0]


cdef ConvTiles tiles
tiles.lanes = LANES
tiles.width[1] = WIDTH1
tiles.width[2] = WIDTH2
tiles.width[3] = WIDTH3
tiles.width[4] = WIDTH4
tiles.blocked[1][:] = [blocked_1_0, blocked_1_1, blocked_1_2]
tiles.blocked[2][:] = [blocked_2_0, blocked_2_1, blocked_2_2]
tiles.blocked[3][:] = [blocked_3_0, blocked_3_1, blocked_3_2]
tiles.blocked[4][:] = [blocked_4_0, blocked_4_1, blocked_4_2]
tiles.plain[1][:] = [plain_1_0, plain_1_1, plain_1_2]
tiles.plain[2][:] = [plain_2_0, plain_2_1, plain_2_2]
tiles.depthwise = depthwise_0
tiles.kernels[0][:] = [kernel_3_1, kernel_3_2]
tiles.kernels[1][:] = [kernel_5_1, kernel_5_2]
tiles.kernels[2][:] = [kernel_7_1, kernel_7_2]
tiles.grouped = grouped_rows
tiles.dot = dot
tiles.fma_loop = fma_loop
capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
