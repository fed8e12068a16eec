# cython: language_level=3
"""Pooling: sliding windows, whole planes, adaptive bins and pyramids over planes; maxima with indices and their inverse.

Layout
    pool             planes -> planes of the same lanes and groups
    global_pool      planes -> planes or plain; plain -> plain (each channel one contiguous run)
    adaptive_pool    planes -> plain (N, sum over levels of C * bins)
    max_pool_indices, max_unpool    plain

Loop order of a chunk
    pool: a run of output rows of one plane, or several whole planes where planes are small. For every row the taps of the
    depth and height axes are clipped against the input's extents; the row itself is a left border of single pixels with
    clipped taps, an interior whose windows lie inside the input, and a right border. The halo is never read: it holds zeros,
    and a maximum needs -inf, a mean its divisor.
    global_pool: one plane, or a run of plain channels. adaptive_pool: some rows of bins of one level of one plane, which go
    through scratch because bins of a plane lie lane by lane and the output is plain.
"""

from libc.math cimport INFINITY
from libc.stdint cimport INT32_MAX, int32_t, int64_t
from libc.string cimport memset

from cnnengine._kernels.chunks cimport CHUNK_NS, LARGE_PLANE, chunk_ns, per_chunk
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, clamp, larger
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.planes cimport channels_of, fill_halo, first_channel, planes_of, planes_t
from cnnengine._kernels.table cimport KernelTable
from cnnengine._kernels.tiles.pool cimport POOL_AVG, POOL_L1, POOL_L2, POOL_LP, POOL_MAX, pool_tile_t

cdef extern from *:
    """
    #include <stdint.h>
    /* For n neighbouring windows, `step` floats apart, one more tap: v and its offset where v is larger, or the first NaN.
       By selects and without branches, which would be a coin's toss; compilers vectorise it. */
    static inline __attribute__((always_inline)) void keep_larger_step(
        const float *restrict x, const Py_ssize_t step, int32_t offset, int n, float *restrict best, int32_t *restrict at)
    {
        for (int i = 0; i < n; i++) {
            float v = x[i * step], b = best[i];
            int32_t take = -((v > b) | ((v != v) & (b == b)));
            best[i] = take ? v : b;
            at[i] = (offset & take) | (at[i] & ~take);
        }
    }
    static void keep_larger(const float *x, Py_ssize_t step, int32_t offset, int n, float *best, int32_t *at)
    {
        if (step == 1) keep_larger_step(x, 1, offset, n, best, at);
        else if (step == 2) keep_larger_step(x, 2, offset, n, best, at);
        else keep_larger_step(x, step, offset, n, best, at);
    }
    """
    void keep_larger(const float *x, Py_ssize_t step, int32_t offset, int n, float *best, int32_t *at) noexcept nogil

cdef enum:
    INDEX_PIXELS = 64                   # windows that max_pool_indices takes at once

cdef double PER_NS = 1.5                # registers that are read in a nanosecond

KINDS = {"max": POOL_MAX, "avg": POOL_AVG, "lp": POOL_LP}


cdef int kind_of(str kind, double p) except -1:
    """Number of the tile for "max", "avg" or "lp" with this p."""
    if kind not in KINDS:
        raise ValueError(f"pool: kind {kind!r} is not one of {', '.join(KINDS)}")
    if kind == "lp":
        if not p > 0:
            raise ValueError(f"pool: p must be positive, not {p}")
        return POOL_L1 if p == 1 else POOL_L2 if p == 2 else POOL_LP
    return KINDS[kind]


cdef int three(object values, Py_ssize_t missing, Py_ssize_t *out) except -1:
    """One to three numbers as (d, h, w), absent leading axes being `missing`."""
    if not 1 <= len(values) <= 3:
        raise ValueError(f"pool: {values} is not one number for each of 1 to 3 axes")
    cdef Py_ssize_t i, first = 3 - len(values)
    for i in range(3):
        out[i] = missing if i < first else values[i - first]
    return 0


# ---------------------------------------------------------------- geometry of one axis
cdef axis_t axis_of(Py_ssize_t k, Py_ssize_t s, Py_ssize_t d, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t n, Py_ssize_t out):
    cdef axis_t a
    a.k, a.s, a.d, a.begin, a.n, a.padded, a.out = k, s, d, begin, n, n + end, out
    a.inner0 = clamp(ceil_div(begin, s), 0, out)
    last = n - 1 - (k - 1) * d + begin          # largest o * s whose window ends inside
    a.inner1 = clamp(last // s + 1 if last >= 0 else 0, a.inner0, out)
    return a


cdef int axes_of(axis_t *axes, object xv, object yv, object kernel, object stride, object dilation, object begins, object ends) except -1:
    cdef Py_ssize_t k[3]
    cdef Py_ssize_t s[3]
    cdef Py_ssize_t d[3]
    cdef Py_ssize_t b[3]
    cdef Py_ssize_t e[3]
    cdef int i
    three(kernel, 1, k)
    three(stride, 1, s)
    three(dilation, 1, d)
    three(begins, 0, b)
    three(ends, 0, e)
    for i in range(3):
        if k[i] < 1 or s[i] < 1 or d[i] < 1 or b[i] < 0 or e[i] < 0:
            raise ValueError(f"pool: kernel {kernel}, stride {stride}, dilation {dilation}, pads {begins} {ends}")
        axes[i] = axis_of(k[i], s[i], d[i], b[i], e[i], xv.dhw[i], yv.dhw[i])
    if xv.shape[:2] != yv.shape[:2] or len(xv.shape) != len(yv.shape):
        raise ValueError(f"pool: {xv.shape} -> {yv.shape}")
    return 0


# ---------------------------------------------------------------- sliding windows
cdef struct pool_t:
    const KernelTable *table
    planes_t x, y
    axis_t axes[3]
    Py_ssize_t rows, chunk_rows, row_chunks         # output rows of a plane, of a chunk; chunks of a plane
    Py_ssize_t planes, chunk_planes                 # of the batch; of a chunk (1 where row_chunks > 1)
    int kind, include_pad
    float p


cdef void pool_rows(const pool_t *g, const float *x, float *y, Py_ssize_t row, Py_ssize_t end) noexcept nogil:
    """Output rows `row` to `end` of one plane; x and y are its first pixels."""
    cdef const axis_t *w = &g.axes[2]
    cdef taps_t z, r, c
    cdef pool_tile_t t
    cdef Py_ssize_t oz, oy, ox, taps
    cdef const float *xrow
    cdef float *yrow
    t.p = g.p
    t.td = g.axes[0].d * g.x.sd
    t.th = g.axes[1].d * g.x.sh
    t.tw = w.d * g.x.lanes
    t.step = w.s * g.x.lanes
    for row in range(row, end):
        oz = row // g.axes[1].out
        oy = row % g.axes[1].out
        z = taps_of(&g.axes[0], oz)
        r = taps_of(&g.axes[1], oy)
        taps = z.padded * r.padded if g.include_pad else z.count * r.count
        t.kd = z.count
        t.kh = r.count
        xrow = x + z.at * g.x.sd + r.at * g.x.sh
        yrow = y + oz * g.y.sd + oy * g.y.sh
        ox = 0
        while ox < w.out:
            t.y = yrow + ox * g.y.lanes
            if ox == w.inner0 and w.inner1 > ox:
                t.x = xrow + (ox * w.s - w.begin) * g.x.lanes
                t.kw = w.k
                t.width = w.inner1 - ox
                t.count = <float>(taps * w.k)
            else:
                c = taps_of(w, ox)
                t.x = xrow + c.at * g.x.lanes
                t.kw = c.count
                t.width = 1
                t.count = <float>(taps * (c.padded if g.include_pad else c.count))
            g.table.pool.row[g.kind](&t)
            ox = ox + t.width


cdef void pool_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const pool_t *g = <const pool_t *>geometry
    cdef Py_ssize_t first = chunk * g.chunk_planes, part = 0, plane, n, block, row
    if g.row_chunks > 1:
        # part by part through all blocks of an image
        first = chunk // (g.x.blocks * g.row_chunks) * g.x.blocks + chunk % g.x.blocks
        part = chunk // g.x.blocks % g.row_chunks
    row = part * g.chunk_rows
    cdef Py_ssize_t end = row + g.chunk_rows if row + g.chunk_rows < g.rows else g.rows
    cdef Py_ssize_t stop = first + g.chunk_planes if first + g.chunk_planes < g.planes else g.planes
    for plane in range(first, stop):
        n = plane // g.x.blocks
        block = plane % g.x.blocks
        if part == 0:
            fill_halo(&g.y, <float *>args[1], n, block)
        pool_rows(g, <const float *>args[0] + g.x.offset + n * g.x.sn + block * g.x.sp,
                  <float *>args[1] + g.y.offset + n * g.y.sn + block * g.y.sp, row, end)


def build_pool(inputs, outputs, *, kind, kernel, stride, dilation, begins, ends, count_include_pad=False, p=2):
    """Max, average or L_p pooling of planes with a sliding window.

    Parameters
    ----------
    inputs, outputs : x; y
        Planes of the instruction set's lanes, equal groups; y's extents say how many windows there are.
    kind : {"max", "avg", "lp"}
    kernel, stride, dilation, begins, ends : sequences of int
        One per spatial axis. `ends` counts in the divisor of `count_include_pad` alone.
    count_include_pad : bool
        The average divides by the taps inside the padded input, else by those inside the input.
    p : float
    """
    xv, = inputs
    yv, = outputs
    cdef pool_t g
    cdef Py_ssize_t work, taps, wanted
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    if xv.lanes != g.table.lanes or yv.lanes != g.table.lanes or xv.groups != yv.groups:
        raise ValueError(f"pool: lanes {xv.lanes} -> {yv.lanes}, groups {xv.groups} -> {yv.groups}")
    axes_of(g.axes, xv, yv, kernel, stride, dilation, begins, ends)
    g.x = planes_of(xv)
    g.y = planes_of(yv)
    g.kind = kind_of(kind, p)
    g.include_pad = bool(count_include_pad)
    g.p = p
    g.rows = g.y.d * g.y.h
    g.planes = g.x.n * g.x.blocks
    taps = g.axes[0].k * g.axes[1].k * g.axes[2].k
    work = g.rows * g.y.w * taps * (20 if g.kind == POOL_LP else 1)
    wanted = <Py_ssize_t>(PER_NS * chunk_ns(g.planes * work / PER_NS))
    g.row_chunks = clamp((work + wanted // 2) // wanted, 2 if g.x.d * g.x.h * g.x.w >= LARGE_PLANE else 1, g.rows if g.rows else 1)
    g.chunk_rows = ceil_div(g.rows, g.row_chunks)
    g.row_chunks = ceil_div(g.rows, g.chunk_rows) if g.rows else 1
    g.chunk_planes = clamp(wanted // (work + 16), 1, 64) if g.row_chunks == 1 else 1
    n_chunks = ceil_div(g.planes, g.chunk_planes) * g.row_chunks
    return make_launch(f"pool {kind}", pool_chunk, &g, sizeof(g), n_chunks, 0, (xv.nbytes, yv.nbytes),
                       <double>work * g.planes * g.x.lanes, xv.nbytes + yv.nbytes)


# ---------------------------------------------------------------- whole planes
cdef struct global_t:
    const KernelTable *table
    planes_t x, y                       # y unused where it is plain
    Py_ssize_t c, length                # plain: channels, floats of one
    Py_ssize_t rows, chunk_rows         # plain: n * c
    int kind, y_planes
    float p, count


cdef inline void store_lanes(const float *from_, float *to, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        to[i * step] = from_[i]


cdef void global_planes_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const global_t *g = <const global_t *>geometry
    cdef Py_ssize_t n = chunk // g.x.blocks, block = chunk % g.x.blocks, channel, valid
    cdef pool_tile_t t
    t.x = <const float *>args[0] + g.x.offset + n * g.x.sn + block * g.x.sp
    t.kd, t.kh, t.kw = g.x.d, g.x.h, g.x.w
    t.td, t.th, t.tw = g.x.sd, g.x.sh, g.x.lanes
    if t.th == t.kw * t.tw:             # rows without halo are one run
        t.kw = t.kw * t.kh
        t.kh = 1
    t.count = g.count
    t.p = g.p
    if g.y_planes:
        fill_halo(&g.y, <float *>args[1], n, block)
        t.y = <float *>args[1] + g.y.offset + n * g.y.sn + block * g.y.sp
        g.table.pool.box[g.kind](&t)
    else:
        t.y = <float *>scratch
        g.table.pool.box[g.kind](&t)
        channel = first_channel(&g.x, block)
        valid = channels_of(&g.x, block)
        store_lanes(t.y, <float *>args[1] + n * g.x.c + channel, 1, valid)


cdef void global_plain_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const global_t *g = <const global_t *>geometry
    cdef Py_ssize_t row, first = chunk * g.chunk_rows
    cdef Py_ssize_t end = first + g.chunk_rows if first + g.chunk_rows < g.rows else g.rows
    cdef pool_tile_t t
    t.kw = g.length
    t.count = g.count
    t.p = g.p
    for row in range(first, end):
        t.x = <const float *>args[0] + row * g.length
        t.y = <float *>args[1] + row
        g.table.pool.flat[g.kind](&t)


def build_global_pool(inputs, outputs, *, kind, p=2):
    """Max, mean or L_p norm over all spatial axes.

    Parameters
    ----------
    inputs, outputs : x; y
        x (N, C, spatial...) in planes of the instruction set's lanes or plain; y (N, C, 1...) in planes (of equal groups) or
        plain; of a plain x, y is plain.
    kind : {"max", "avg", "lp"}
    p : float
    """
    xv, = inputs
    yv, = outputs
    cdef global_t g
    cdef Py_ssize_t spatial = 1, elements = xv.shape[0] * xv.shape[1]
    for v in xv.shape[2:]:
        spatial *= v
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    g.kind = kind_of(kind, p)
    g.p = p
    g.count = <float>spatial
    if xv.shape[:2] != yv.shape[:2] or any(v != 1 for v in yv.shape[2:]):
        raise ValueError(f"global_pool: {xv.shape} -> {yv.shape}")
    extents = (xv.nbytes, yv.nbytes)
    flops = <double>elements * spatial
    if xv.is_plain:
        if not yv.is_plain:
            raise ValueError("global_pool: x is plain, y is not")
        g.rows = elements
        g.length = spatial
        # finding the next row costs as much as 64 elements
        g.chunk_rows = per_chunk(g.rows, (spatial + 64) / (PER_NS * g.table.lanes))
        return make_launch(f"global_pool {kind}, plain", global_plain_chunk, &g, sizeof(g), ceil_div(g.rows, g.chunk_rows), 0, extents,
                           flops, xv.nbytes + yv.nbytes)
    if xv.lanes != g.table.lanes or (not yv.is_plain and (yv.lanes != xv.lanes or yv.groups != xv.groups)):
        raise ValueError(f"global_pool: lanes {xv.lanes} -> {yv.lanes}, groups {xv.groups} -> {yv.groups}")
    g.x = planes_of(xv)
    g.y_planes = not yv.is_plain
    if g.y_planes:
        g.y = planes_of(yv)
    return make_launch(f"global_pool {kind}", global_planes_chunk, &g, sizeof(g), g.x.n * g.x.blocks, 0 if g.y_planes else 64, extents,
                       flops, xv.nbytes + yv.nbytes)


# ---------------------------------------------------------------- adaptive bins, pyramids
cdef struct level_t:
    Py_ssize_t out[3]
    Py_ssize_t bins                     # out[0] * out[1] * out[2]
    Py_ssize_t base                     # of the level in one image's output
    Py_ssize_t edges                    # index of its first (start, end) pair: axis after axis
    Py_ssize_t first_part, chunk_rows   # parts before it; rows of bins of a part


cdef struct adaptive_t:
    const KernelTable *table
    planes_t x
    Py_ssize_t n_levels, parts, out_n   # parts of a plane, floats of one image's output
    int kind
    # level_t levels[n_levels], then Py_ssize_t edges[][2] follow


cdef void adaptive_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const adaptive_t *g = <const adaptive_t *>geometry
    cdef const level_t *levels = <const level_t *>(g + 1)
    cdef const Py_ssize_t *edges = <const Py_ssize_t *>(levels + g.n_levels)
    cdef const Py_ssize_t *z
    cdef const Py_ssize_t *r
    cdef const Py_ssize_t *c
    cdef const level_t *v = levels
    cdef Py_ssize_t part = chunk % g.parts, plane = chunk // g.parts
    cdef Py_ssize_t n = plane // g.x.blocks, block = plane % g.x.blocks, row, end, i, lane, channel, valid
    cdef const float *x = <const float *>args[0] + g.x.offset + n * g.x.sn + block * g.x.sp
    cdef float *y
    cdef float *row_bins = <float *>scratch
    cdef pool_tile_t t
    for i in range(1, g.n_levels):
        if levels[i].first_part <= part:
            v = levels + i
    channel = first_channel(&g.x, block)
    valid = channels_of(&g.x, block)
    y = <float *>args[1] + n * g.out_n + v.base + channel * v.bins
    edges = edges + 2 * v.edges
    row = (part - v.first_part) * v.chunk_rows
    end = row + v.chunk_rows if row + v.chunk_rows < v.out[0] * v.out[1] else v.out[0] * v.out[1]
    t.td, t.th, t.tw = g.x.sd, g.x.sh, g.x.lanes
    t.width = 1
    t.step = 0
    t.p = 0
    for row in range(row, end):
        z = edges + 2 * (row // v.out[1])
        r = edges + 2 * (v.out[0] + row % v.out[1])
        for i in range(v.out[2]):
            c = edges + 2 * (v.out[0] + v.out[1] + i)
            t.kd, t.kh, t.kw = z[1] - z[0], r[1] - r[0], c[1] - c[0]
            t.x = x + z[0] * t.td + r[0] * t.th + c[0] * t.tw
            t.y = row_bins + i * g.x.lanes
            t.count = <float>(t.kd * t.kh * t.kw)
            if t.kw >= 8:
                g.table.pool.box[g.kind](&t)
            else:
                g.table.pool.row[g.kind](&t)
        for lane in range(valid):
            for i in range(v.out[2]):
                y[lane * v.bins + row * v.out[2] + i] = row_bins[i * g.x.lanes + lane]


def build_adaptive_pool(inputs, outputs, *, kind, levels):
    """Adaptive pooling into one grid of bins, or a pyramid of grids.

    Bin i of o over an axis of n pixels covers floor(i * n / o) to ceil((i + 1) * n / o) (PyTorch's adaptive pools; He et al.
    2014, arXiv:1406.4729).

    Parameters
    ----------
    inputs, outputs : x; y
        x in planes of the instruction set's lanes; y plain, one run per image: level after level (C, bins).
    kind : {"max", "avg"}
    levels : sequence of sequences of int
        Bins per spatial axis, for every level.
    """
    xv, = inputs
    yv, = outputs
    cdef adaptive_t g
    cdef Launch launch
    cdef level_t *v
    cdef Py_ssize_t *edges
    cdef Py_ssize_t n_levels = len(levels), i, j, a, n, rows, bins, parts, at = 0, widest = 0
    cdef Py_ssize_t out[3]
    cdef Py_ssize_t dhw[3]
    cdef const KernelTable *table = current_table()
    if xv.lanes != table.lanes or not yv.is_plain or n_levels < 1:
        raise ValueError(f"adaptive_pool: lanes {xv.lanes} -> {yv.lanes}, {n_levels} levels")
    if kind not in ("max", "avg"):
        raise ValueError(f"adaptive_pool: kind {kind!r}")
    three(xv.dhw, 1, dhw)
    for level in levels:
        three(level, 1, out)
        if out[0] < 1 or out[1] < 1 or out[2] < 1 or min(xv.dhw) < 1:
            raise ValueError(f"adaptive_pool: {xv.shape} to {level}")
    memset(&g, 0, sizeof(g))
    g.table = table
    g.x = planes_of(xv)
    g.kind = kind_of(kind, 2)
    g.n_levels = n_levels
    found = []
    for level in levels:
        three(level, 1, out)
        rows = out[0] * out[1]
        bins = rows * out[2]
        widest = larger(widest, out[2])
        # several parts where a chunk would take longer than a whole one
        parts = clamp(<Py_ssize_t>(larger(dhw[0] * dhw[1] * dhw[2], bins) / (PER_NS * CHUNK_NS)), 1, rows)
        found.append((bins, g.out_n, at, g.parts, ceil_div(rows, parts)))
        g.out_n += g.x.c * bins
        g.parts += ceil_div(rows, ceil_div(rows, parts))
        at += out[0] + out[1] + out[2]
    if yv.size != g.out_n * g.x.n:
        raise ValueError(f"adaptive_pool: {xv.shape} with levels {levels} gives {g.out_n} values an image, y is {yv.shape}")
    launch = make_launch(f"adaptive_pool {kind}", adaptive_chunk, &g, sizeof(g), g.x.n * g.x.blocks * g.parts,
                         widest * table.lanes * sizeof(float), (xv.nbytes, yv.nbytes),
                         <double>n_levels * xv.n * xv.c * dhw[0] * dhw[1] * dhw[2], xv.nbytes + yv.nbytes)
    v = <level_t *>launch.tail(n_levels * sizeof(level_t) + 2 * at * sizeof(Py_ssize_t))
    edges = <Py_ssize_t *>(v + n_levels)
    for i in range(n_levels):
        three(levels[i], 1, v[i].out)
        v[i].bins, v[i].base, v[i].edges, v[i].first_part, v[i].chunk_rows = found[i]
        for a in range(3):
            n = v[i].out[a]
            for j in range(n):
                edges[0] = j * dhw[a] // n
                edges[1] = ceil_div((j + 1) * dhw[a], n)
                edges += 2
    return launch


# ---------------------------------------------------------------- maxima with indices
cdef struct indices_t:
    axis_t axes[3]
    Py_ssize_t rows, plane, out_plane   # output rows of all planes; floats of an input and of an output plane
    Py_ssize_t chunk_rows
    Py_ssize_t steps[3]                 # what a step along d, h, w adds to an index


cdef void indices_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const indices_t *g = <const indices_t *>geometry
    cdef const axis_t *w = &g.axes[2]
    cdef Py_ssize_t row = chunk * g.chunk_rows, plane, inside, ox, zi, ri, ci, at, corner
    cdef Py_ssize_t end = row + g.chunk_rows if row + g.chunk_rows < g.rows else g.rows
    cdef Py_ssize_t plane_rows = g.axes[0].out * g.axes[1].out
    cdef taps_t z, r, c
    cdef const float *x
    cdef float *y
    cdef int64_t *indices
    cdef float best[INDEX_PIXELS]
    cdef int32_t best_at[INDEX_PIXELS]  # offsets from the window's first tap
    cdef int i, n
    for row in range(row, end):
        plane = row // plane_rows
        inside = row % plane_rows
        z = taps_of(&g.axes[0], inside // g.axes[1].out)
        r = taps_of(&g.axes[1], inside % g.axes[1].out)
        x = <const float *>args[0] + plane * g.plane
        y = <float *>args[1] + row * w.out
        indices = <int64_t *>args[2] + row * w.out
        ox = 0
        while ox < w.out:
            if w.inner0 <= ox < w.inner1:
                c.at = ox * w.s - w.begin
                c.count = w.k
                n = <int>(w.inner1 - ox if w.inner1 - ox < INDEX_PIXELS else INDEX_PIXELS)
            else:
                c = taps_of(w, ox)
                n = 1
            if z.count == 0 or r.count == 0 or c.count == 0:
                y[ox] = -INFINITY
                indices[ox] = -1
                ox = ox + 1
                continue
            corner = (z.at * g.axes[1].n + r.at) * w.n + c.at
            for i in range(n):
                best[i] = x[corner + i * w.s]
                best_at[i] = 0
            for zi in range(z.count):
                for ri in range(r.count):
                    at = (zi * g.axes[0].d * g.axes[1].n + ri * g.axes[1].d) * w.n
                    for ci in range(c.count):
                        keep_larger(x + corner + at, w.s, <int32_t>at, n, best, best_at)
                        at = at + w.d
            for i in range(n):
                y[ox + i] = best[i]
                at = corner + i * w.s + best_at[i]
                if g.steps[2] != 1:
                    at = at % w.n * g.steps[2] + at // w.n % g.axes[1].n * g.steps[1] + at // w.n // g.axes[1].n * g.steps[0]
                indices[ox + i] = plane * g.plane + at
            ox = ox + n


def build_max_pool_indices(inputs, outputs, *, kernel, stride, dilation, begins, ends, storage_order=0):
    """Max pooling of a plain tensor with the position of every maximum.

    Parameters
    ----------
    inputs, outputs : x; y, indices
        Plain; indices int64, into the whole flattened x; -1 where a window lies in the padding altogether (y is -inf there).
    kernel, stride, dilation, begins, ends : sequences of int
    storage_order : {0, 1}
        1: positions inside a plane count along its first spatial axis first.
    """
    xv, = inputs
    yv, iv = outputs
    cdef indices_t g
    memset(&g, 0, sizeof(g))
    if not (xv.is_plain and yv.is_plain and iv.is_plain) or yv.shape != iv.shape or iv.dtype.itemsize != 8:
        raise ValueError(f"max_pool_indices: {xv} -> {yv}, {iv}")
    axes_of(g.axes, xv, yv, kernel, stride, dilation, begins, ends)
    g.plane = g.axes[0].n * g.axes[1].n * g.axes[2].n
    if g.plane > INT32_MAX:
        raise ValueError(f"max_pool_indices: planes of {g.plane} elements")
    g.rows = xv.shape[0] * xv.shape[1] * g.axes[0].out * g.axes[1].out
    if storage_order:
        # along the tensor's own first spatial axis first; absent axes are 1 long
        g.steps[0] = 1
        g.steps[1] = g.axes[0].n
        g.steps[2] = g.axes[0].n * g.axes[1].n
    else:
        g.steps[:] = [g.axes[1].n * g.axes[2].n, g.axes[2].n, 1]
    work = max(1, g.axes[2].out * g.axes[0].k * g.axes[1].k * g.axes[2].k)
    g.chunk_rows = per_chunk(g.rows, work)
    return make_launch("max_pool_indices", indices_chunk, &g, sizeof(g), ceil_div(g.rows, g.chunk_rows), 0,
                       (xv.nbytes, yv.nbytes, iv.nbytes), <double>g.rows * work, xv.nbytes + yv.nbytes + iv.nbytes).typed(inputs, outputs)


cdef struct unpool_t:
    Py_ssize_t values                   # of x
    Py_ssize_t inferred[5]              # the shape that indices refer to, N, C, d, h, w
    Py_ssize_t out[5]
    Py_ssize_t inferred_size, out_size
    int same


cdef void unpool_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const unpool_t *g = <const unpool_t *>geometry
    cdef const float *x = <const float *>args[0]
    cdef const int64_t *indices = <const int64_t *>args[1]
    cdef float *y = <float *>args[2]
    cdef int64_t *words = <int64_t *>args[3]
    cdef Py_ssize_t i, index, rest, at, step
    cdef int a
    if g.out_size:  # an empty output may have no memory at all
        memset(y, 0, g.out_size * sizeof(float))
    words[0] = words[1] = words[2] = 0
    for i in range(g.values):
        index = indices[i]
        if index < 0 or index >= g.inferred_size:
            words[0] = 1
            words[1] = index
            return
        if not g.same:
            rest = index
            index = 0
            step = 1
            for a in range(4, -1, -1):
                at = rest % g.inferred[a]
                rest = rest // g.inferred[a]
                index = index + at * step
                step = step * g.out[a]
        y[index] = x[i]


def build_max_unpool(inputs, outputs, *, inferred):
    """The inverse of `max_pool_indices`: values at their indices, zeros elsewhere.

    One chunk: an index may point anywhere, and of equal indices the last value counts.

    Parameters
    ----------
    inputs, outputs : x, indices; y, words
        Plain; indices int64; three words of int64: whether an index lies outside the inferred shape, the first that does, 0.
    inferred : tuple of int
        The shape (N, C, spatial...) that indices refer to; y may be larger along spatial axes.
    """
    xv, iv = inputs
    yv, wv = outputs
    cdef unpool_t g
    cdef int a
    memset(&g, 0, sizeof(g))
    if not (xv.is_plain and iv.is_plain and yv.is_plain) or xv.shape != iv.shape or iv.dtype.itemsize != 8:
        raise ValueError(f"max_unpool: {xv}, {iv} -> {yv}")
    if wv.dtype.itemsize != 8 or wv.size != 3:
        raise ValueError(f"max_unpool: words {wv}")
    if len(inferred) != len(yv.shape) or not 3 <= len(inferred) <= 5 or any(i > o for i, o in zip(inferred, yv.shape)) \
            or tuple(inferred[:2]) != yv.shape[:2]:
        raise ValueError(f"max_unpool: {inferred} does not fit into {yv.shape}")
    missing = 5 - len(inferred)
    inferred5 = (*inferred[:2], *(1,) * missing, *inferred[2:])
    out5 = (*yv.shape[:2], *(1,) * missing, *yv.shape[2:])
    g.inferred_size = g.out_size = 1
    for a in range(5):
        g.inferred[a] = inferred5[a]
        g.out[a] = out5[a]
        g.inferred_size *= g.inferred[a]
        g.out_size *= g.out[a]
    g.same = inferred5 == out5
    g.values = xv.size
    return make_launch("max_unpool", unpool_chunk, &g, sizeof(g), 1, 0, (xv.nbytes, iv.nbytes, yv.nbytes, wv.nbytes), 0,
                       xv.nbytes + iv.nbytes + yv.nbytes).typed(inputs, outputs)
