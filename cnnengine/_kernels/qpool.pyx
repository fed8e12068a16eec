# cython: language_level=3
"""Pools of bytes: windows and whole planes.

Layout
    qpool            planes -> planes of the same lanes and groups
    qglobal_pool     planes -> planes or plain; plain -> plain (each channel one contiguous run)

Loop order of a chunk
    qpool: a run of output rows of one plane, or several whole planes where planes are small; a row of windows at a time. Taps of the
    depth and height axes are clipped against the input's extents, and along a row the tile has padding of its own: the halo is
    never read, whatever it holds.
    qglobal_pool: one plane, or a run of plain channels.

A mean is ``clamp(rint(float32(sum of (x - x_zero)) * ratio / count) + zero)``, where ratio is the quotient of the scales of x and y:
sums are exact, each operation on them is rounded to float32. A window of nothing has a mean of zero.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memset

from cnnengine._kernels.chunks cimport LARGE_PLANE, chunk_ns, per_chunk
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, clamp, larger, smaller
from cnnengine._kernels.launch cimport make_launch
from cnnengine._kernels.planes cimport channels_of, fill_halo_bytes, first_channel, planes_of, planes_t
from cnnengine._kernels.pool cimport axes_of, axis_t, taps_of, taps_t
from cnnengine._kernels.table cimport KernelTable
from cnnengine._kernels.tiles.qpool cimport qpool_tile_t

cdef double PER_NS = 3.0                # pixels of a block that are read in a nanosecond

MOST = (1 << 31) // 255                 # numbers whose sum is known to fit 32 bits


cdef struct qpool_t:
    const KernelTable *table
    planes_t x, y
    axis_t axes[3]
    Py_ssize_t rows, chunk_rows, row_chunks         # output rows of a plane, of a chunk; chunks of a plane
    Py_ssize_t planes, chunk_planes                 # of the batch; of a chunk (1 where row_chunks > 1)
    Py_ssize_t left, right                          # pixels beside a row
    int mean, include_pad, x_zero, zero
    float ratio


cdef void counts(const qpool_t *g, Py_ssize_t rows, float *out) noexcept nogil:
    """What the sum of each window of a row is divided by, `rows` rows being under it."""
    cdef const axis_t *w = &g.axes[2]
    cdef Py_ssize_t i
    cdef taps_t taps
    for i in range(w.out):
        taps = taps_of(w, i)
        out[i] = <float>larger(rows * (taps.padded if g.include_pad else taps.count), 1)


cdef void qpool_rows(const qpool_t *g, const uint8_t *x, uint8_t *y, Py_ssize_t row, Py_ssize_t end, char *scratch) noexcept nogil:
    """Output rows `row` to `end` of one plane; x and y are its first pixels."""
    cdef const axis_t *w = &g.axes[2]
    cdef Py_ssize_t line = (g.left + g.x.w + g.right) * g.x.lanes, before = -1, rows, oz, oy
    cdef taps_t z, r
    cdef qpool_tile_t t
    cdef float *per_window = <float *>(scratch + (4 if g.mean else 2) * line)
    t.td = g.axes[0].d * g.x.sd
    t.th = g.axes[1].d * g.x.sh
    t.pixels = g.x.w
    t.left = g.left
    t.right = g.right
    t.kw = w.k
    t.dilation = w.d
    t.stride = w.s
    t.width = w.out
    t.line = scratch
    t.wide = <uint8_t *>scratch + line
    t.ratio = g.ratio
    t.count = per_window
    t.x_zero = g.x_zero
    t.zero = g.zero
    for row in range(row, end):
        oz = row // g.axes[1].out
        oy = row % g.axes[1].out
        z = taps_of(&g.axes[0], oz)
        r = taps_of(&g.axes[1], oy)
        t.kd = z.count
        t.kh = r.count
        t.x = x + z.at * g.x.sd + r.at * g.x.sh
        t.y = y + oz * g.y.sd + oy * g.y.sh
        if g.mean:
            rows = z.padded * r.padded if g.include_pad else z.count * r.count
            if rows != before:
                counts(g, rows, per_window)
                before = rows
            g.table.qpool.mean_row(&t)
        else:
            g.table.qpool.max_row(&t)


cdef void qpool_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const qpool_t *g = <const qpool_t *>geometry
    cdef Py_ssize_t first = chunk * g.chunk_planes, part = 0, plane, n, block, row
    if g.row_chunks > 1:
        # part by part through all blocks of an image
        first = chunk // (g.x.blocks * g.row_chunks) * g.x.blocks + chunk % g.x.blocks
        part = chunk // g.x.blocks % g.row_chunks
    row = part * g.chunk_rows
    cdef Py_ssize_t end = smaller(row + g.chunk_rows, g.rows), stop = smaller(first + g.chunk_planes, g.planes)
    for plane in range(first, stop):
        n = plane // g.x.blocks
        block = plane % g.x.blocks
        if part == 0:
            fill_halo_bytes(&g.y, <char *>args[1], n, block, g.y.fill)
        qpool_rows(g, <const uint8_t *>args[0] + g.x.offset + n * g.x.sn + block * g.x.sp,
                   <uint8_t *>args[1] + g.y.offset + n * g.y.sn + block * g.y.sp, row, end, scratch)


cdef int kind_of(object kind, object ratio, object x_zero, object y_zero) except -1:
    """Whether it is a mean."""
    if kind not in ("max", "avg"):
        raise ValueError(f"qpool: kind {kind!r} is not max or avg")
    if not 0 <= x_zero <= 255 or not 0 <= y_zero <= 255 or not 0 < ratio < float("inf"):
        raise ValueError(f"qpool: zero points {x_zero} and {y_zero}, ratio {ratio}")
    return kind == "avg"


cdef int check_types(object xv, object yv) except -1:
    if xv.dtype.str != "|u1" or yv.dtype.str != "|u1":
        raise ValueError(f"qpool: {xv.dtype} -> {yv.dtype}, not uint8")
    return 0


def build_qpool(inputs, outputs, *, kind, kernel, stride, dilation, begins, ends, count_include_pad=False, ratio=1.0, x_zero=0, y_zero=0):
    """Max or average pooling of planes of bytes with a sliding window.

    Parameters
    ----------
    inputs, outputs : x; y
        Planes of uint8 of the instruction set's lanes, equal groups; y's extents say how many windows there are.
    kind : {"max", "avg"}
    kernel, stride, dilation, begins, ends, count_include_pad
        As in `build_pool`.
    ratio : float
        Of an average: the scale of x divided by that of y, a float32 number.
    x_zero, y_zero : int
        Their zero points. Padding counts as the number zero.
    """
    xv, = inputs
    yv, = outputs
    cdef qpool_t g
    cdef Py_ssize_t work, taps, wanted, line
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    check_types(xv, yv)
    if xv.lanes != g.table.lanes or yv.lanes != g.table.lanes or xv.groups != yv.groups:
        raise ValueError(f"qpool: lanes {xv.lanes} -> {yv.lanes}, groups {xv.groups} -> {yv.groups}")
    axes_of(g.axes, xv, yv, kernel, stride, dilation, begins, ends)
    g.x = planes_of(xv)
    g.y = planes_of(yv)
    g.mean = kind_of(kind, ratio, x_zero, y_zero)
    g.ratio = ratio
    g.x_zero = x_zero
    g.zero = y_zero
    g.include_pad = bool(count_include_pad)
    taps = g.axes[0].k * g.axes[1].k * g.axes[2].k
    if g.mean and taps > MOST:
        raise ValueError(f"qpool: sums of {taps} numbers may not fit 32 bits")
    g.left = g.axes[2].begin
    g.right = larger((g.axes[2].out - 1) * g.axes[2].s + (g.axes[2].k - 1) * g.axes[2].d + 1 - g.left - g.x.w, 0)
    line = (g.left + g.x.w + g.right) * g.x.lanes
    g.rows = g.y.d * g.y.h
    g.planes = g.x.n * g.x.blocks
    work = g.rows * g.y.w * taps
    wanted = <Py_ssize_t>(PER_NS * chunk_ns(g.planes * work / PER_NS))
    g.row_chunks = clamp((work + wanted // 2) // wanted, 2 if g.x.d * g.x.h * g.x.w >= LARGE_PLANE else 1, g.rows if g.rows else 1)
    g.chunk_rows = ceil_div(g.rows, g.row_chunks)
    g.row_chunks = ceil_div(g.rows, g.chunk_rows) if g.rows else 1
    g.chunk_planes = clamp(wanted // (work + 16), 1, 64) if g.row_chunks == 1 else 1
    n_chunks = ceil_div(g.planes, g.chunk_planes) * g.row_chunks if g.y.w else 0
    return make_launch(f"qpool {kind}", qpool_chunk, &g, sizeof(g), n_chunks, (4 if g.mean else 2) * line + 4 * g.y.w,
                       (xv.nbytes, yv.nbytes), <double>work * g.planes * g.x.lanes, xv.nbytes + yv.nbytes).typed(inputs, outputs)


# ---------------------------------------------------------------- whole planes
cdef struct qglobal_t:
    const KernelTable *table
    planes_t x, y                       # y unused where it is plain
    Py_ssize_t length                   # plain: bytes of a channel
    Py_ssize_t rows, chunk_rows         # plain: n * c
    int mean, y_planes, x_zero, zero
    float ratio, count


cdef void qglobal_planes_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const qglobal_t *g = <const qglobal_t *>geometry
    cdef Py_ssize_t n = chunk // g.x.blocks, block = chunk % g.x.blocks, channel, valid, i
    cdef uint8_t *y
    cdef qpool_tile_t t
    t.x = <const uint8_t *>args[0] + g.x.offset + n * g.x.sn + block * g.x.sp
    t.kd, t.kh, t.pixels = g.x.d, g.x.h, g.x.w
    t.td, t.th = g.x.sd, g.x.sh
    if g.mean and t.th == t.pixels * g.x.lanes:         # rows without halo are one run
        t.pixels = t.pixels * t.kh
        t.kh = 1
    t.ratio = g.ratio
    t.count = &g.count
    t.x_zero = g.x_zero
    t.zero = g.zero
    t.y = <uint8_t *>scratch
    t.wide = <uint8_t *>scratch + g.x.lanes
    if g.y_planes:
        fill_halo_bytes(&g.y, <char *>args[1], n, block, g.y.fill)
        t.y = <uint8_t *>args[1] + g.y.offset + n * g.y.sn + block * g.y.sp
    if g.mean:
        g.table.qpool.mean_box(&t)
    else:
        g.table.qpool.max_box(&t)
    if not g.y_planes:
        channel = first_channel(&g.x, block)
        valid = channels_of(&g.x, block)
        y = <uint8_t *>args[1] + n * g.x.c + channel
        for i in range(valid):
            y[i] = t.y[i]


cdef void qglobal_plain_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const qglobal_t *g = <const qglobal_t *>geometry
    cdef Py_ssize_t row, first = chunk * g.chunk_rows, end = smaller(first + g.chunk_rows, g.rows)
    cdef const uint8_t *x
    cdef uint8_t *y = <uint8_t *>args[1]
    cdef long long total
    for row in range(first, end):
        x = <const uint8_t *>args[0] + row * g.length
        if g.mean:
            total = g.table.qpool.sum_run(x, g.length) - <long long>g.x_zero * g.length
            y[row] = <uint8_t>g.table.qpool.step_of(<float>total, g.ratio, g.count, g.zero)
        else:
            y[row] = <uint8_t>g.table.qpool.max_run(x, g.length)


def build_qglobal_pool(inputs, outputs, *, kind, ratio=1.0, x_zero=0, y_zero=0):
    """Maximum or mean of bytes over all spatial axes.

    Parameters
    ----------
    inputs, outputs : x; y
        uint8. x (N, C, spatial...) in planes of the instruction set's lanes or plain; y (N, C, 1...) in planes (of equal groups) or
        plain; of a plain x, y is plain.
    kind, ratio, x_zero, y_zero
        As in `build_qpool`.
    """
    xv, = inputs
    yv, = outputs
    cdef qglobal_t g
    cdef Py_ssize_t spatial = 1, elements = xv.shape[0] * xv.shape[1]
    for v in xv.shape[2:]:
        spatial *= v
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    check_types(xv, yv)
    g.mean = kind_of(kind, ratio, x_zero, y_zero)
    if spatial < 1 or (g.mean and spatial > MOST):
        raise ValueError(f"qglobal_pool: {spatial} numbers a channel, not 1 to {MOST}")
    g.ratio = ratio
    g.count = <float>spatial
    g.x_zero = x_zero
    g.zero = y_zero
    if xv.shape[:2] != yv.shape[:2] or any(v != 1 for v in yv.shape[2:]):
        raise ValueError(f"qglobal_pool: {xv.shape} -> {yv.shape}")
    extents = (xv.nbytes, yv.nbytes)
    flops = <double>elements * spatial
    if xv.is_plain:
        if not yv.is_plain:
            raise ValueError("qglobal_pool: x is plain, y is not")
        g.rows = elements
        g.length = spatial
        g.chunk_rows = per_chunk(g.rows, 8 + g.length / 8.0)
        return make_launch(f"qglobal_pool {kind}", qglobal_plain_chunk, &g, sizeof(g), ceil_div(g.rows, g.chunk_rows), 0, extents, flops,
                           xv.nbytes + yv.nbytes).typed(inputs, outputs)
    if xv.lanes != g.table.lanes or (not yv.is_plain and (yv.lanes != xv.lanes or yv.groups != xv.groups)):
        raise ValueError(f"qglobal_pool: lanes {xv.lanes} -> {yv.lanes}, groups {xv.groups} -> {yv.groups}")
    g.x = planes_of(xv)
    if not yv.is_plain:
        g.y = planes_of(yv)
        g.y_planes = 1
    return make_launch(f"qglobal_pool {kind}", qglobal_planes_chunk, &g, sizeof(g), g.x.n * g.x.blocks, (1 + g.x.w) * g.x.lanes, extents,
                       flops, xv.nbytes + yv.nbytes).typed(inputs, outputs)
