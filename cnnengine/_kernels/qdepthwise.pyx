# cython: language_level=3
"""Depthwise convolution of bytes, and convolution in groups of a few channels, over the tiles of float.

Layout
    x, residual      planes of bytes; no group leaves a block, so that a block of y reads its own block of x and no other
    y                planes of bytes, or of floats
    weights          float32 [block][tap][channel of the group][lane], the numbers less their zero points, as `pack_depthwise` has them
    bias             float32 [block][lane]: added to the sums where no sum leaves 2**24; else int32, added to them afterwards

Loop order of a chunk
    A chunk is one image, one block and a run of output rows, which it takes in strips of columns, a few rows of a strip at a time.
    What these rows read of x is widened into scratch, as floats less the zero point, each pixel once: a band that the first-level
    cache holds. The tile of the float convolution makes sums of it, in scratch too, which are quantised on their way out. Going down
    a strip, the rows that the next band has in common with this one are moved up.

Products and sums of numbers of 8 bits are exact in float32 as long as all of them stay below 2**24, whatever order a tile adds in,
fused or not: the bits of the result are those of integers. Whoever lowers a layer looks at the weights for that; the builder refuses
what no weights allow.
"""

from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memmove, memset

from cnnengine._kernels.chunks cimport CHUNK_NS, LARGE_PLANE
from cnnengine._kernels.depthwise cimport depthwise_tile_of
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, clamp, larger, smaller
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.planes cimport fill_halo, fill_halo_bytes, planes_of, planes_t
from cnnengine._kernels.table cimport KernelTable
from cnnengine._kernels.tiles.conv cimport depthwise_rows_fn, depthwise_tile_t
from cnnengine._kernels.tiles.qconv cimport Q_BYTES, Q_FLOATS
from cnnengine._kernels.tiles.qpool cimport qstore_t

from libc.math cimport INFINITY

cdef enum:
    FLOPS_PER_NS = 16       # a pixel is loaded for one or a few multiply-adds, and quantised
    BAND = 20480            # bytes of a band and of the sums made of it: they stay in the first-level cache
    STRIP = 40              # output pixels of a strip

cdef Py_ssize_t EXACT = 1 << 24


cdef struct qdepthwise_t:
    const KernelTable *table
    planes_t x, y, r
    Py_ssize_t rows_h, rows, width                  # output grid
    Py_ssize_t sd, sh, sw                           # its step in x, in pixels
    Py_ssize_t y0, yd, yh, yw                       # elements: its first pixel in a plane of y, its steps
    Py_ssize_t n_taps, chunk_rows, row_chunks, per_group
    Py_ssize_t strips                               # of columns
    Py_ssize_t some_rows                            # output rows of a band
    Py_ssize_t depths                               # planes of depth that the taps of an output row read
    Py_ssize_t h0, extent_h, w0, extent_w           # first row and column that taps read, and how many they span
    Py_ssize_t band_row, band_depth                 # floats of a row of a band, of one depth of it
    Py_ssize_t x_zero, y_item
    int has_residual, write_halo
    depthwise_rows_fn tile
    int late                            # 1 where the zero point of x is an operand
    qstore_t store
    # Py_ssize_t taps[n_taps], depth[depths] follow: offsets in a band, and where each depth lies


cdef void widen_rows(const qdepthwise_t *g, const uint8_t *x, float *band, Py_ssize_t rows, Py_ssize_t columns, float zero) noexcept nogil:
    """`rows` rows of `columns` pixels from x on."""
    cdef Py_ssize_t row
    for row in range(rows):
        g.table.qpool.widen(x + row * g.x.sh, band + row * g.band_row, columns * g.table.lanes, zero)


cdef void qdepthwise_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const qdepthwise_t *g = <const qdepthwise_t *>geometry
    cdef Py_ssize_t block = chunk % g.y.blocks, part = chunk // g.y.blocks % g.row_chunks, n = chunk // g.row_chunks // g.y.blocks
    cdef Py_ssize_t lanes = g.table.lanes, begin = part * g.chunk_rows, end = smaller(begin + g.chunk_rows, g.rows)
    cdef Py_ssize_t strip, column, width, columns, row, some, i, z, oz, oy, rows, kept, last
    cdef const Py_ssize_t *taps = <const Py_ssize_t *>(g + 1)
    cdef const Py_ssize_t *depth = taps + g.n_taps
    cdef const uint8_t *plane = <const uint8_t *>args[0] + g.x.offset + n * g.x.sn + block * g.x.sp
    cdef const uint8_t *x
    cdef const uint8_t *r = <const uint8_t *>args[5] + g.r.offset + n * g.r.sn + block * g.r.sp if g.has_residual else NULL
    cdef float zero = <float>((<const uint8_t *>args[7])[0] if g.late else g.x_zero)
    cdef char *y = <char *>args[7 + g.late] + (g.y.offset + n * g.y.sn + block * g.y.sp + g.y0) * g.y_item
    cdef char *to
    cdef float *band = <float *>scratch
    cdef float *sums = band + g.depths * g.band_depth
    cdef depthwise_tile_t t
    cdef qstore_t store = g.store
    t.w = <const float *>args[1] + block * g.n_taps * g.per_group * lanes
    t.per_group = g.per_group
    t.bias = <const float *>args[2] + block * lanes
    t.taps = taps
    t.n_taps = g.n_taps
    t.xstep = g.sw * lanes
    t.xrow = g.sh * g.band_row
    t.residual = NULL
    t.rrow = 0
    t.low = -INFINITY
    t.high = INFINITY
    t.x = band
    t.y = sums
    store.bias = <const int32_t *>args[3] + block * lanes if args[3] != NULL else NULL
    store.ratio = <const float *>args[4] + block * lanes
    store.table = <const uint8_t *>args[6] if store.mode == Q_BYTES else NULL
    store.offset = <const float *>args[6] + block * lanes if store.mode == Q_FLOATS and args[6] != NULL else NULL
    store.residual = NULL
    for strip in range(g.strips):
        column = strip * g.width // g.strips
        width = (strip + 1) * g.width // g.strips - column
        columns = (width - 1) * g.sw + g.extent_w
        t.width = width
        t.yrow = width * lanes
        row = begin
        last = -1                   # the output row behind the last band, where the next one goes on from it
        while row < end:
            oz = row // g.rows_h
            oy = row % g.rows_h
            some = smaller(smaller(g.rows_h - oy, g.some_rows), end - row)
            rows = (some - 1) * g.sh + g.extent_h
            # what the band before has of it
            kept = larger(g.extent_h - g.sh, 0) if row == last and oy > 0 else 0
            for z in range(g.depths):
                x = plane + (oz * g.sd + depth[z]) * g.x.sd + (oy * g.sh + g.h0) * g.x.sh + (column * g.sw + g.w0) * lanes
                if kept:
                    memmove(band + z * g.band_depth, band + z * g.band_depth + g.some_rows * g.sh * g.band_row,
                            ((kept - 1) * g.band_row + columns * lanes) * sizeof(float))
                widen_rows(g, x + kept * g.x.sh, band + z * g.band_depth + kept * g.band_row, rows - kept, columns, zero)
            t.rows = some
            g.tile(&t)
            for i in range(some):
                to = y + (oz * g.yd + (oy + i) * g.yh + column * g.yw) * g.y_item
                if r != NULL:
                    store.residual = r + oz * g.r.sd + (oy + i) * g.r.sh + column * lanes
                g.table.qpool.store(sums + i * width * lanes, to, width, &store)
            row = row + some
            last = row if some == g.some_rows else -1
    if part == 0 and g.write_halo:
        if g.store.mode == Q_BYTES:
            fill_halo_bytes(&g.y, <char *>args[7 + g.late], n, block, g.y.fill)
        else:
            fill_halo(&g.y, <float *>args[7 + g.late], n, block)


def build_qdepthwise(inputs, outputs, *, taps, x_zero, y_zero=0, low=0, high=255, stride=(1, 1, 1), start=(0, 0, 0), step=(1, 1, 1),
                     extent=None, per_group=1, write_halo=True, first=(0.0, 0.0), scale=1.0, r_scale=1.0, r_zero=0):
    """Convolution of planes of bytes in groups that do not leave a block: ``y = clamp(rint(float32(sum) * ratio) + zero)``.

    Parameters
    ----------
    inputs : x, weights, bias, sums, ratio, residual, more, and perhaps zero
        Views. x in planes of uint8; weights float32 by `pack_depthwise`; bias float32 by `pack_bias` (zeros where `sums` is there);
        sums int32 like it, added to sums that bias would make leave 2**24, or None; ratio float32 like it. The residual in
        planes of uint8, or None. more: a table of 256 uint8 that stand for the results, or, of float results, what is added to
        them, float32 like bias; or None. zero: one uint8, the zero point of x, which its halo holds, where it is an operand.
    outputs : y
        Planes of uint8, or of float32: the latter are not rounded, bounded by `low` and `high`.
    taps, stride, start, step, extent, write_halo
        As in `build_conv`.
    x_zero, y_zero : int
    low, high : number
        Bounds of what is stored, the zero point included where it is bytes.
    per_group : int
        Input channels of a group and its output channels: a power of two, at most `lanes`.
    first, scale, r_scale, r_zero
        With a residual: the result, rounded within the bounds `first`, which are less its zero point, times `scale`, plus
        (residual - r_zero) * r_scale, is what is bounded and rounded.
    """
    xv, wv, bv, sv, qv, rv, mv, *late = inputs
    yv, = outputs
    cdef qdepthwise_t g
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, i, n_taps = len(taps), offset, od, oh, ow, first_at, last_at, axis, low_at, high_at
    cdef Py_ssize_t *offsets
    cdef Launch launch
    cdef bint floats = yv.dtype.kind == "f"
    memset(&g, 0, sizeof(g))
    if xv.lanes != lanes or yv.lanes != lanes or xv.c != yv.c or xv.groups != 1 or yv.groups != 1 or xv.n != yv.n:
        raise ValueError(f"qdepthwise: {xv} -> {yv}")
    if xv.dtype.str != "|u1" or yv.dtype.str not in ("|u1", "<f4", ">f4"):
        raise ValueError(f"qdepthwise: {xv.dtype} -> {yv.dtype}")
    if per_group < 1 or lanes % per_group or xv.c % per_group:
        raise ValueError(f"qdepthwise: {per_group} channels a group of {xv.c}, {lanes} a block")
    if n_taps < 1:
        raise ValueError("qdepthwise: no taps")
    if not 0 <= x_zero <= 255 or not 0 <= y_zero <= 255:
        raise ValueError(f"qdepthwise: zero points {x_zero} and {y_zero}")
    if not floats and not 0 <= low <= high <= 255:
        raise ValueError(f"qdepthwise: bounds {low} and {high}")
    if n_taps * per_group * larger(x_zero, 255 - x_zero) >= EXACT:
        raise ValueError(f"qdepthwise: sums of {n_taps * per_group} products are not exact in float32")
    g.per_group = per_group
    g.table = table
    g.x = planes_of(xv)
    g.y = planes_of(yv)
    od, oh, ow = yv.dhw if extent is None else extent
    if start[0] + (od - 1) * step[0] >= g.y.d or start[1] + (oh - 1) * step[1] >= g.y.h or start[2] + (ow - 1) * step[2] >= g.y.w:
        raise ValueError("qdepthwise: the output grid leaves y")
    g.rows_h = oh
    g.rows = od * oh
    g.width = ow
    g.sd, g.sh, g.sw = stride
    g.y0 = start[0] * g.y.sd + start[1] * g.y.sh + start[2] * lanes
    g.yd = step[0] * g.y.sd
    g.yh = step[1] * g.y.sh
    g.yw = step[2] * lanes
    g.y_item = 4 if floats else 1
    g.write_halo = write_halo
    g.n_taps = n_taps
    g.x_zero = x_zero
    g.late = len(late)
    g.tile = depthwise_tile_of(table, taps, stride[2]) if per_group == 1 else table.conv.grouped
    if rv is not None:
        if rv.shape != yv.shape or rv.lanes != lanes or rv.groups != 1 or extent is not None or tuple(step) != (1, 1, 1) or floats:
            raise ValueError(f"qdepthwise: residual {rv} for {yv}")
        g.has_residual = 1
        g.r = planes_of(rv)
    g.store.mode = Q_FLOATS if floats else Q_BYTES
    g.store.ystep = g.yw * g.y_item
    g.store.rstep = lanes
    g.store.zero = y_zero
    g.store.low = low if floats else low - y_zero
    g.store.high = high if floats else high - y_zero
    g.store.first_low, g.store.first_high = first
    g.store.scale, g.store.r_scale, g.store.r_zero = scale, r_scale, r_zero
    # what the taps reach
    depths = sorted({t[0] for t in taps})
    g.depths = len(depths)
    g.h0 = min(t[1] for t in taps)
    g.extent_h = max(t[1] for t in taps) - g.h0 + 1
    g.w0 = min(t[2] for t in taps)
    g.extent_w = max(t[2] for t in taps) - g.w0 + 1
    if g.rows and g.width and xv.n and xv.c:
        first_at = g.x.offset + depths[0] * g.x.sd + g.h0 * g.x.sh + g.w0 * lanes
        last_at = g.x.offset + (xv.n - 1) * g.x.sn + (g.x.blocks - 1) * g.x.sp + ((od - 1) * g.sd + depths[-1]) * g.x.sd
        last_at = last_at + ((oh - 1) * g.sh + g.h0 + g.extent_h - 1) * g.x.sh
        last_at = last_at + ((ow - 1) * g.sw + g.w0 + g.extent_w) * lanes - 1
        if first_at < 0 or last_at >= xv.size:
            raise ValueError(f"qdepthwise: the taps reach elements {first_at} to {last_at} of a buffer of {xv.size}")
        for axis in range(3):
            low_at = min(t[axis] for t in taps)
            high_at = max(t[axis] for t in taps) + (yv.dhw if extent is None else extent)[axis] * stride[axis] - stride[axis]
            if (low_at < 0 or high_at >= xv.dhw[axis]) and xv.fill != x_zero and not late:
                raise ValueError(f"qdepthwise: the halo of x holds {xv.fill}, its zero point is {x_zero}")
    # strips and bands
    g.strips = larger(ceil_div(g.width, STRIP), 1)
    columns = (ceil_div(g.width, g.strips) - 1) * g.sw + g.extent_w
    g.band_row = columns * lanes
    fixed = larger(g.extent_h - g.sh, 0) * g.band_row * g.depths
    a_row = g.sh * g.band_row * g.depths + ceil_div(g.width, g.strips) * lanes
    g.some_rows = clamp((BAND // 4 - fixed) // larger(a_row, 1), 1, larger(g.rows_h, 1))
    g.band_depth = ((g.some_rows - 1) * g.sh + g.extent_h) * g.band_row
    g.chunk_rows = larger(CHUNK_NS * FLOPS_PER_NS // larger(2 * n_taps * g.per_group * lanes * g.width, 1), 1)
    i = ceil_div(g.rows, g.chunk_rows)
    if g.rows * g.width >= LARGE_PLANE:
        i = ceil_div(i, 4) * 4
    g.chunk_rows = larger(ceil_div(g.rows, i), 1)
    g.row_chunks = ceil_div(g.rows, g.chunk_rows)
    launch = make_launch(
        "qdepthwise" if per_group == 1 else f"qgrouped {per_group}",
        qdepthwise_chunk,
        &g,
        sizeof(g),
        xv.n * g.y.blocks * g.row_chunks,
        4 * (g.depths * g.band_depth + g.some_rows * ceil_div(g.width, g.strips) * lanes),
        (
            xv.nbytes,
            4 * g.y.blocks * n_taps * g.per_group * lanes,
            4 * g.y.blocks * lanes,
            0 if sv is None else 4 * g.y.blocks * lanes,
            4 * g.y.blocks * lanes,
            rv.nbytes if rv is not None else 0,
            0 if mv is None else 4 * g.y.blocks * lanes if floats else 256,
            *(1 for _ in late),
            yv.nbytes,
        ),
        2.0 * xv.n * yv.c * g.rows * g.width * n_taps * g.per_group,
        xv.nbytes + yv.nbytes + (rv.nbytes if rv is not None else 0),
    )
    offsets = <Py_ssize_t *>launch.tail((n_taps + g.depths) * sizeof(Py_ssize_t))
    for i in range(n_taps):
        offset = depths.index(taps[i][0]) * g.band_depth + (taps[i][1] - g.h0) * g.band_row + (taps[i][2] - g.w0) * lanes
        offsets[i] = offset
    for i in range(g.depths):
        offsets[n_taps + i] = depths[i]
    return launch.typed(inputs, outputs)
