"""Convolution tiles: the innermost loops, compiled once per instruction set.

Layout
    x    planes [..][pixel][IC]: IC = LANES channels of a pixel side by side, or IC = 1
    w    one panel: [plane][tap][channel of the plane][B * LANES output channels]
    y    blocks [..][pixel][LANES], `yplane` floats apart

A tile is P neighbouring output pixels x B output blocks, held in P * B registers. Loops: input plane, kernel tap, channel;
innermost, B weight registers meet P broadcast input values. One step is P * B FMAs, P broadcasts and B loads, so 14 x 2 on
32 registers and 6 x 2 on 16 keep both FMA ports busy. Kernel taps come as a table of offsets: dilation, 1-D, 2-D, 3-D and the
phases of a transposed convolution are all the same tile. There is no border code: planes carry a zero halo.

What the compiler needs
    P, B, S and IC are constants of each instance: every function here is inlined into `widths`, whose constants select it.
    With 32 registers the channel count must be unknown to gcc: a constant one is unrolled and spills (1x1: 122 -> 52 GFLOP/s).
    With 16 registers it must be known and unrolled: it saves the loop's own instructions. Hence `UNROLL`.
    Only the last plane may have fewer channels: lanes beyond them are never read, whatever lies there.

Fetching ahead
    The pixels of the next plane go to the first-level cache (with several taps most of them are there), and a share of the weights
    that the next tiles will need to the second: rows of planes and panels lie too far apart for the processor to guess.

Planes of one channel
    Kernel taps that are neighbours in a row of x lie side by side as the channels of a pixel do, and their weights too: a run of
    them is one tap of `channels` channels, of which neighbouring pixels share all but S.
"""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "simd.h" nogil:
    """
    #define UNROLL (VREGISTERS < 32)
    /* widest tile of 1, 2 and 4 output blocks */
    #define WIDTH1 (VREGISTERS < 32 ? 12 : 14)
    #define WIDTH2 (VREGISTERS < 32 ? 6 : 14)
    #define WIDTH4 (VREGISTERS < 32 ? 3 : 7)
    """
    ctypedef float vf
    ctypedef int vi
    enum: LANES, UNROLL, WIDTH1, WIDTH2, WIDTH4
    vf vset(float) noexcept
    vf vload(const float *) noexcept
    vf vload_part(const float *, int) noexcept
    void vstore(float *, vf) noexcept
    vf vmax_keep(vf, float) noexcept
    vi vgroup(int per_group, int k) noexcept
    vf vpermute(vf, vi) noexcept
    vf vmin_keep(vf, float) noexcept
    void prefetch_l1(const void *) noexcept
    void prefetch_l2(const void *) noexcept


cdef inline void tile(const int P, const int B, const int S, const int IC, const conv_tile_t *t) noexcept nogil:
    """P pixels x B blocks at stride S (0: t.xstep) over planes of IC channels."""
    cdef vf acc[56]                     # 14 x 4, though no instance uses more than 28
    cdef vf wv[4]
    cdef int p, b
    cdef Py_ssize_t c, tap, k, ic, planes = t.planes, n_taps = t.n_taps
    cdef Py_ssize_t step = S * IC if S else t.xstep
    cdef const float *xc = t.x
    cdef const float *xi
    cdef const float *w = t.w
    cdef const float *w2 = t.w2
    cdef const float *ahead = t.ahead
    cdef Py_ssize_t line, lines = t.ahead_lines
    cdef const Py_ssize_t *taps = t.taps
    if t.first:
        for p in range(P):
            for b in range(B):
                acc[p * B + b] = vload(t.bias + b * LANES)
    else:
        for p in range(P):
            for b in range(B):
                acc[p * B + b] = vload(t.y + b * t.yplane + p * t.ystep)
    if UNROLL and IC > 1:
        for c in range(planes):
            for tap in range(n_taps):
                xi = xc + taps[tap]
                for line in range(lines):
                    prefetch_l2(ahead)
                    ahead = ahead + LINE
                if IC > 1 and n_taps == 1:
                    for p in range((P * LANES + LINE - 1) // LINE if S == 1 else P):
                        prefetch_l1(xi + t.xplane + p * (LINE if S == 1 else step))
                for k in range(LANES):
                    for b in range(B):
                        wv[b] = vload(w + b * LANES) if b < 2 else vload(w2 + (b - 2) * LANES)
                    for p in range(P):
                        for b in range(B):
                            acc[p * B + b] = acc[p * B + b] + wv[b] * xi[p * step + k]
                    w = w + (2 if B > 2 else B) * LANES
                    if B > 2:
                        w2 = w2 + 2 * LANES
            xc = xc + t.xplane
        planes = 0
    # whole planes where they are not unrolled, then the partial one
    for c in range(planes + (1 if t.partial else 0)):
        ic = t.channels if c < planes else t.partial
        for tap in range(n_taps):
            xi = xc + taps[tap]
            for line in range(lines):
                prefetch_l2(ahead)
                ahead = ahead + LINE
            if IC > 1 and n_taps == 1:
                for p in range((P * LANES + LINE - 1) // LINE if S == 1 else P):
                    prefetch_l1(xi + t.xplane + p * (LINE if S == 1 else step))
            for k in range(ic):
                for b in range(B):
                    wv[b] = vload(w + b * LANES) if b < 2 else vload(w2 + (b - 2) * LANES)
                for p in range(P):
                    for b in range(B):
                        acc[p * B + b] = acc[p * B + b] + wv[b] * xi[p * step + k]
                w = w + (2 if B > 2 else B) * LANES
                if B > 2:
                    w2 = w2 + 2 * LANES
        xc = xc + t.xplane
    if t.last:
        if t.residual != NULL:
            for p in range(P):
                for b in range(B):
                    acc[p * B + b] = acc[p * B + b] + vload(t.residual + b * t.rplane + p * t.rstep)
        # two loops: gcc does not unroll one of P * B, and then `acc` lies in memory all along
        for p in range(P):
            for b in range(B):
                acc[p * B + b] = vmin_keep(vmax_keep(acc[p * B + b], t.low), t.high)
    for p in range(P):
        for b in range(B):
            vstore(t.y + b * t.yplane + p * t.ystep, acc[p * B + b])


cdef inline void widths(const int B, const int S, const int IC, const int widest, int P, const conv_tile_t *t) noexcept nogil:
    """The instance for P pixels; `widest` keeps those that would spill from being compiled."""
    if P == 1: tile(1, B, S, IC, t)
    elif P == 2 and widest >= 2: tile(2, B, S, IC, t)
    elif P == 3 and widest >= 3: tile(3, B, S, IC, t)
    elif P == 4 and widest >= 4: tile(4, B, S, IC, t)
    elif P == 5 and widest >= 5: tile(5, B, S, IC, t)
    elif P == 6 and widest >= 6: tile(6, B, S, IC, t)
    elif P == 7 and widest >= 7: tile(7, B, S, IC, t)
    elif P == 8 and widest >= 8: tile(8, B, S, IC, t)
    elif P == 9 and widest >= 9: tile(9, B, S, IC, t)
    elif P == 10 and widest >= 10: tile(10, B, S, IC, t)
    elif P == 11 and widest >= 11: tile(11, B, S, IC, t)
    elif P == 12 and widest >= 12: tile(12, B, S, IC, t)
    elif P == 13 and widest >= 13: tile(13, B, S, IC, t)
    elif P == 14 and widest >= 14: tile(14, B, S, IC, t)


cdef void blocked_1_0(int P, const conv_tile_t *t) noexcept nogil: widths(1, 0, LANES, WIDTH1, P, t)
cdef void blocked_1_1(int P, const conv_tile_t *t) noexcept nogil: widths(1, 1, LANES, WIDTH1, P, t)
cdef void blocked_1_2(int P, const conv_tile_t *t) noexcept nogil: widths(1, 2, LANES, WIDTH1, P, t)
cdef void blocked_2_0(int P, const conv_tile_t *t) noexcept nogil: widths(2, 0, LANES, WIDTH2, P, t)
cdef void blocked_2_1(int P, const conv_tile_t *t) noexcept nogil: widths(2, 1, LANES, WIDTH2, P, t)
cdef void blocked_2_2(int P, const conv_tile_t *t) noexcept nogil: widths(2, 2, LANES, WIDTH2, P, t)
cdef void blocked_4_0(int P, const conv_tile_t *t) noexcept nogil: widths(4, 0, LANES, WIDTH4, P, t)
cdef void blocked_4_1(int P, const conv_tile_t *t) noexcept nogil: widths(4, 1, LANES, WIDTH4, P, t)
cdef void blocked_4_2(int P, const conv_tile_t *t) noexcept nogil: widths(4, 2, LANES, WIDTH4, P, t)
cdef void plain_1_0(int P, const conv_tile_t *t) noexcept nogil: widths(1, 0, 1, WIDTH1, P, t)
cdef void plain_1_1(int P, const conv_tile_t *t) noexcept nogil: widths(1, 1, 1, WIDTH1, P, t)
cdef void plain_1_2(int P, const conv_tile_t *t) noexcept nogil: widths(1, 2, 1, WIDTH1, P, t)
cdef void plain_2_0(int P, const conv_tile_t *t) noexcept nogil: widths(2, 0, 1, WIDTH2, P, t)
cdef void plain_2_1(int P, const conv_tile_t *t) noexcept nogil: widths(2, 1, 1, WIDTH2, P, t)
cdef void plain_2_2(int P, const conv_tile_t *t) noexcept nogil: widths(2, 2, 1, WIDTH2, P, t)


# ---------------------------------------------------------------- depthwise
# One row of one channel block: P pixels in P registers; every tap is one weight register and P loads.

cdef inline void depthwise_tile(const int P, const int S, Py_ssize_t at, const depthwise_tile_t *t) noexcept nogil:
    cdef vf acc[14]
    cdef vf w
    cdef int p
    cdef Py_ssize_t tap
    cdef Py_ssize_t step = S * LANES if S else t.xstep
    cdef const float *x = t.x + at * step
    cdef const float *xi
    cdef float *y = t.y + at * LANES
    w = vload(t.bias)
    for p in range(P):
        acc[p] = w
    for tap in range(t.n_taps):
        xi = x + t.taps[tap]
        w = vload(t.w + tap * LANES)
        for p in range(P):
            acc[p] = acc[p] + w * vload(xi + p * step)
    if t.residual != NULL:
        for p in range(P):
            acc[p] = acc[p] + vload(t.residual + (at + p) * LANES)
    for p in range(P):
        vstore(y + p * LANES, vmin_keep(vmax_keep(acc[p], t.low), t.high))


cdef inline void depthwise_row(const int S, const depthwise_tile_t *t) noexcept nogil:
    cdef Py_ssize_t at = 0, n = t.width
    while n - at >= 14 or n - at == 7:
        if n - at >= 14:
            depthwise_tile(14, S, at, t)
            at = at + 14
        else:
            depthwise_tile(7, S, at, t)
            at = at + 7
    while n - at >= 4:
        depthwise_tile(4, S, at, t)
        at = at + 4
    while n - at >= 2:
        depthwise_tile(2, S, at, t)
        at = at + 2
    if n - at >= 1:
        depthwise_tile(1, S, at, t)


cdef void depthwise_0(const depthwise_tile_t *t) noexcept nogil: depthwise_row(0, t)
cdef void depthwise_1(const depthwise_tile_t *t) noexcept nogil: depthwise_row(1, t)
cdef void depthwise_2(const depthwise_tile_t *t) noexcept nogil: depthwise_row(2, t)


# Several channels a group: the lanes of a pixel are permuted so that each output lane meets channel k of its own group. No value
# of another group is touched, not even by a zero: infinities and NaN stay in their group.

cdef inline void grouped_tile(const int P, Py_ssize_t at, const depthwise_tile_t *t) noexcept nogil:
    cdef vf acc[14]
    cdef vf w
    cdef vi order
    cdef int p
    cdef Py_ssize_t tap, k, step = t.xstep
    cdef const float *x = t.x + at * step
    cdef const float *xi
    cdef const float *wi = t.w
    cdef float *y = t.y + at * LANES
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
    if t.residual != NULL:
        for p in range(P):
            acc[p] = acc[p] + vload(t.residual + (at + p) * LANES)
    for p in range(P):
        vstore(y + p * LANES, vmin_keep(vmax_keep(acc[p], t.low), t.high))


cdef void grouped_row(const depthwise_tile_t *t) noexcept nogil:
    cdef Py_ssize_t at = 0, n = t.width
    while n - at >= 10:
        grouped_tile(10, at, t)
        at = at + 10
    while n - at >= 7:
        grouped_tile(7, at, t)
        at = at + 7
    while n - at >= 4:
        grouped_tile(4, at, t)
        at = at + 4
    while n - at >= 2:
        grouped_tile(2, at, t)
        at = at + 2
    if n - at >= 1:
        grouped_tile(1, at, t)


# ---------------------------------------------------------------- Winograd F(4x4, 3x3)
# Y = A^T [(G g G^T) * (B^T d B)] A with the points 0, 1, -1, 2, -2 and infinity (Lavin and Gray, 2016). The transforms of d and
# of the products stand here, each along columns and then along rows; lanes are channels.

cdef inline void transform_input(const vf *d, float *o, Py_ssize_t s) noexcept nogil:
    """B^T of six neighbouring registers; the results are `s` floats apart."""
    cdef vf a = d[4] - d[2] * <float>4, b = d[3] - d[1] * <float>4
    cdef vf e = d[4] - d[2], f = (d[3] - d[1]) * <float>2
    vstore(o, (d[4] - d[2] * <float>5) + d[0] * <float>4)
    vstore(o + s, a + b)
    vstore(o + 2 * s, a - b)
    vstore(o + 3 * s, e + f)
    vstore(o + 4 * s, e - f)
    vstore(o + 5 * s, (d[5] - d[3] * <float>5) + d[1] * <float>4)


cdef inline void transform_output(const vf *m, vf *o, const int s) noexcept nogil:
    """A^T: six neighbouring registers become four, `s` apart."""
    cdef vf a = m[1] + m[2], b = m[1] - m[2], e = m[3] + m[4], f = m[3] - m[4]
    o[0] = m[0] + a + e
    o[s] = b + f * <float>2
    o[2 * s] = a + e * <float>4
    o[3 * s] = b + f * <float>8 + m[5]


cdef void winograd_input(const float *x, Py_ssize_t xrow, Py_ssize_t rows, Py_ssize_t columns, float *v, Py_ssize_t step,
                         Py_ssize_t count) noexcept nogil:
    """`count` tiles side by side. A tile's first two columns are the last two of the tile before it: they are transformed once."""
    cdef vf columns_of[48]              # two halves in turn: four transformed columns of a tile
    cdef vf d[6]
    cdef vf zeros = vset(0)
    cdef const float *at[6]             # the next pixel of every row; rows beyond the last one are zeros again and again
    cdef Py_ssize_t by[6]
    cdef vf *old = columns_of
    cdef vf *new = columns_of + 24
    cdef vf *spare
    cdef Py_ssize_t t
    cdef int i, j
    for i in range(6):
        at[i] = x + i * xrow if i < rows else <const float *>&zeros
        by[i] = LANES if i < rows else 0
    for j in range(2):
        for i in range(6):
            d[i] = vload(at[i]) if j < columns else zeros
            at[i] = at[i] + by[i]
        transform_input(d, <float *>(old + 12 + 6 * j), LANES)
    columns = columns - 2
    for t in range(count):
        if columns >= 4:
            for j in range(4):
                for i in range(6):
                    d[i] = vload(at[i] + j * by[i])
                transform_input(d, <float *>(new + 6 * j), LANES)
            for i in range(6):
                at[i] = at[i] + 4 * by[i]
        else:
            for j in range(4):
                for i in range(6):
                    d[i] = vload(at[i] + j * by[i]) if j < columns else zeros
                transform_input(d, <float *>(new + 6 * j), LANES)
        for i in range(6):
            d[0] = old[12 + i]
            d[1] = old[18 + i]
            for j in range(4):
                d[2 + j] = new[6 * j + i]
            transform_input(d, v + 6 * i * step, step)
        spare = old
        old = new
        new = spare
        columns = columns - 4
        v = v + LANES


cdef inline void output_tile(const int whole, const winograd_output_t *t, const float *from_, float *y, const float *residual,
                             Py_ssize_t columns) noexcept nogil:
    cdef vf m[6]
    cdef vf c[24]
    cdef vf r
    cdef vf bias = vload(t.bias)
    cdef int i, j
    for j in range(6):
        for i in range(6):
            m[i] = vload(from_ + (6 * i + j) * t.step)
        transform_output(m, c + j, 6)
    for i in range(4):
        if whole or i < t.rows:
            transform_output(c + 6 * i, m, 1)
            for j in range(4):
                if whole or j < columns:
                    r = m[j] + bias
                    if residual != NULL:
                        r = r + vload(residual + i * t.rrow + j * LANES)
                    vstore(y + i * t.yrow + j * LANES, vmin_keep(vmax_keep(r, t.low), t.high))


cdef void winograd_output(const winograd_output_t *t) noexcept nogil:
    cdef Py_ssize_t i, columns = t.columns
    cdef const float *residual = t.residual
    for i in range(t.count):
        if t.rows >= 4 and columns >= 4:
            output_tile(1, t, t.m + i * LANES, t.y + 4 * i * LANES, residual, columns)
        else:
            output_tile(0, t, t.m + i * LANES, t.y + 4 * i * LANES, residual, columns)
        if residual != NULL:
            residual = residual + 4 * LANES
        columns = columns - 4


# ---------------------------------------------------------------- dot products
# N rows of weights against one x, in 2 N accumulators; the lanes are added in one fixed order.

cdef inline void dot_tile(const int N, const float *x, const float *w, Py_ssize_t k, const float *bias, float *y, float low,
                          float high) noexcept nogil:
    cdef vf acc[8]
    cdef vf x0, x1
    cdef Py_ssize_t at = 0
    cdef int i, lane
    cdef float total
    for i in range(2 * N):
        acc[i] = vset(0)
    while at + 2 * LANES <= k:
        x0 = vload(x + at)
        x1 = vload(x + at + LANES)
        for i in range(N):
            acc[2 * i] = acc[2 * i] + x0 * vload(w + i * k + at)
            acc[2 * i + 1] = acc[2 * i + 1] + x1 * vload(w + i * k + at + LANES)
        at = at + 2 * LANES
    while at < k:
        lane = LANES if k - at > LANES else <int>(k - at)
        x0 = vload_part(x + at, lane)
        for i in range(N):
            acc[2 * i] = acc[2 * i] + x0 * vload_part(w + i * k + at, lane)
        at = at + lane
    for i in range(N):
        acc[2 * i] = acc[2 * i] + acc[2 * i + 1]
        total = 0
        for lane in range(LANES):
            total = total + (<float *>&acc[2 * i])[lane]
        if bias != NULL:
            total = total + bias[i]
        # comparisons that a NaN fails, so that it stays
        total = low if low > total else total
        y[i] = high if high < total else total


cdef void dot(const float *x, const float *w, Py_ssize_t k, int n, const float *bias, float *y, float low, float high) noexcept nogil:
    if n == 4:
        dot_tile(4, x, w, k, bias, y, low, high)
    elif n == 3:
        dot_tile(3, x, w, k, bias, y, low, high)
    elif n == 2:
        dot_tile(2, x, w, k, bias, y, low, high)
    else:
        dot_tile(1, x, w, k, bias, y, low, high)


cdef double fma_loop(long n) noexcept nogil:
    """n steps of 12 independent multiply-adds in registers."""
    cdef vf a[12]
    cdef vf x = vset(<float>0.999), y = vset(<float>1e-6), s = vset(0)
    cdef int i
    cdef long r
    for i in range(12):
        a[i] = vset(i)
    for r in range(n):
        for i in range(12):
            a[i] = a[i] * x + y
    for i in range(12):
        s = s + a[i]
    # the sum keeps the loop alive; it is finite, so the product is 0
    return 2.0 * 12 * LANES * n + 0 * (<float *>&s)[0]


cdef ConvTiles tiles
tiles.lanes = LANES
tiles.width[1] = WIDTH1
tiles.width[2] = WIDTH2
tiles.width[4] = WIDTH4
tiles.blocked[1][:] = [blocked_1_0, blocked_1_1, blocked_1_2]
tiles.blocked[2][:] = [blocked_2_0, blocked_2_1, blocked_2_2]
tiles.blocked[4][:] = [blocked_4_0, blocked_4_1, blocked_4_2]
tiles.plain[1][:] = [plain_1_0, plain_1_1, plain_1_2]
tiles.plain[2][:] = [plain_2_0, plain_2_1, plain_2_2]
tiles.depthwise[:] = [depthwise_0, depthwise_1, depthwise_2]
tiles.grouped = grouped_row
tiles.winograd_input = winograd_input
tiles.winograd_output = winograd_output
tiles.dot = dot
tiles.fma_loop = fma_loop
capsule = PyCapsule_New(&tiles, "cnnengine.tiles.conv", NULL)
