# cython: language_level=3
"""Convolution of quantised numbers over the tiles of the instruction set.

Layout
    x, residual      planes of uint8 (see layout.py), whose halo holds the zero point. x may have planes of four channels (the first
                     layer: a pixel is one word, and the fourth channel meets weights of zero)
    weights          int8 where the instruction set adds four products of bytes (`step` 4), else int16 (`step` 2): panels of two
                     output blocks (the last one of an odd number: one), one after another, group by group:
                     [panel][tap][plane][word of the plane][B * lanes][step]; channels beyond the last are zeros
    bias, sums       int32 per output channel, in whole blocks: what is added, and the sums of an output's weights
    ratio, offset    float32 per output channel, in whole blocks
    y                planes of uint8, of float32, or of int32

Sums are those of (x - x_zero) * w. With a step of 4 the products are of x itself, and x_zero times the sums of the weights is taken
from the bias, when a unit begins: the zero point may be known only then. With a step of 2 a chunk makes numbers of 16 bits of the
pixels that it reads, less the zero point, in its scratch (`stage`).

Loop order of a chunk
    A chunk is one image, one group, a run of output rows of one depth and a run of units of two output blocks. It stages its rows,
    all of their channels, once. Inside: unit, row, tile. Sums never leave the registers, so that a panel is read for each tile: it
    stays in the second-level cache while the rows pass. Where the weights outweigh the input a chunk has as many rows as the stage
    holds and few units, so that weights are read once; elsewhere few rows and all units, so that pixels are staged once.

Taps are a table of pixel offsets, and the output grid has a start and a step, as in conv.pyx.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int16_t, int32_t, uint8_t
from libc.string cimport memcpy, memset

import numpy as np

from cnnengine._kernels.activation cimport activation_of, activation_t
from cnnengine._kernels.chunks cimport CHUNK_NS, FLOPS_PER_NS, PIECES
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, clamp, larger, smaller
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.planes cimport fill_halo_of, planes_of, planes_t
from cnnengine._kernels.table cimport ACT_NONE, KernelTable
from cnnengine._kernels.tiles.qconv cimport Q_BYTES, Q_FLOATS, Q_SUMS, qconv_tile_fn, qconv_tile_t

cdef enum:
    STAGE = 160 << 10                   # bytes of staged pixels: they and a panel of weights lie in the second-level cache


cdef enum:                              # operands
    X, WEIGHTS, BIAS, SUMS, RATIO, OFFSET, RESIDUAL, TABLE, ZERO, Y


cdef struct qconv_t:
    const KernelTable *table
    planes_t x, y, r
    Py_ssize_t groups, x_blocks, y_blocks           # blocks per group
    Py_ssize_t whole                                # whole input planes per group
    Py_ssize_t steps, partial                       # words of a pixel of a whole plane, of the last one (0: it is whole)
    Py_ssize_t depths, rows, width, last_width      # output grid: depths, rows of a depth, pixels of a row, of the last row
    Py_ssize_t x0, xd, xh, xw                       # bytes of x: first pixel, steps of the output grid
    Py_ssize_t y0, yd, yh, yw                       # bytes of y
    Py_ssize_t r0, rd, rh, rw
    Py_ssize_t item                                 # bytes of an element of y
    Py_ssize_t n_taps
    Py_ssize_t units, chunk_units, unit_chunks, chunk_rows, row_chunks
    # staged pixels: planes, and in each the depths and rows that the taps of a run of output rows meet
    Py_ssize_t stage_plane, stage_depth, stage_row  # bytes between them
    Py_ssize_t stage_depths, first_depth            # how many, and the first from the output's own
    Py_ssize_t top, left                            # the first row and column that an output pixel meets, from its own
    Py_ssize_t row_step, more_rows                  # staged rows per output row, and those after them
    Py_ssize_t columns, last_columns, pixel_step    # staged pixels of a row, of the last one; bytes of them per output pixel
    Py_ssize_t x_row, x_pixel                       # bytes of x between staged rows, between staged pixels
    int staged, units_outside, mode, x_zero, zero, write_halo
    float low, high, first_low, first_high, scale, r_scale, r_zero
    activation_t act
    # Py_ssize_t taps[n_taps] follows: bytes from the first pixel in x, or in what is staged


cdef void qconv_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const qconv_t *g = <const qconv_t *>geometry
    cdef const KernelTable *table = g.table
    cdef Py_ssize_t lanes = table.lanes, n, group, depth, part, share, unit, row0, row1, row, width, at, left, pieces, block, blocks, b
    cdef Py_ssize_t panel, widest, tiles, size, words
    cdef const char *x
    cdef int zero = g.x_zero
    cdef int32_t *bias = <int32_t *>scratch
    cdef const int32_t *sums
    cdef qconv_tile_t t
    cdef qconv_tile_fn tile
    cdef uint8_t *row_y
    cdef float *row_f
    if args[ZERO] != NULL:
        zero = (<const uint8_t *>args[ZERO])[0]
    # chunk -> image, group, depth, rows and units
    if g.units_outside:
        part = chunk % g.row_chunks
        chunk = chunk // g.row_chunks
        depth = chunk % g.depths
        chunk = chunk // g.depths
        share = chunk % g.unit_chunks
        chunk = chunk // g.unit_chunks
    else:
        share = chunk % g.unit_chunks
        chunk = chunk // g.unit_chunks
        part = chunk % g.row_chunks
        chunk = chunk // g.row_chunks
        depth = chunk % g.depths
        chunk = chunk // g.depths
    group = chunk % g.groups
    n = chunk // g.groups
    row0 = part * g.chunk_rows
    row1 = smaller(row0 + g.chunk_rows, g.rows)
    x = <const char *>args[X] + g.x0 + n * g.x.sn + group * g.x_blocks * g.x.sp + depth * g.xd
    t.xplane = g.x.sp
    t.xstep = g.xw
    if g.staged:
        stage(g, x, row0, row1, zero, scratch + 256)
        # where the staged pixels of the first row's own would be
        x = scratch + 256
        t.xplane = g.stage_plane
        t.xstep = g.pixel_step
    else:
        x = x + row0 * g.xh
        zero = zero - (128 if table.qconv.flip else 0)
    t.taps = <const Py_ssize_t *>(g + 1)
    t.n_taps = g.n_taps
    t.planes = g.whole
    t.steps = g.steps
    t.partial = g.partial
    t.yplane = g.y.sp * g.item
    t.ystep = g.yw
    t.rplane = g.r.sp
    t.rstep = g.rw
    t.mode = g.mode
    t.low, t.high = g.low, g.high
    t.zeros = g.zero | g.zero << 16
    t.lows = splat(<int>g.low + g.zero) if g.mode == Q_BYTES else 0
    t.highs = splat(<int>g.high + g.zero) if g.mode == Q_BYTES else 0
    t.first_low, t.first_high = g.first_low, g.first_high
    t.scale, t.r_scale, t.r_zero = g.scale, g.r_scale, g.r_zero
    t.bias = bias
    t.residual = NULL
    t.offset = NULL
    words = g.whole * g.steps + g.partial
    panel = words * g.n_taps * 8 * lanes
    for unit in range(share * g.chunk_units, smaller((share + 1) * g.chunk_units, g.units)):
        block = 2 * unit
        blocks = smaller(2, g.y_blocks - block)
        tile = table.qconv.tile[blocks]
        widest = table.qconv.width[blocks]
        at = (group * g.y_blocks + block) * lanes
        for b in range(blocks * lanes):
            bias[b] = (<const int32_t *>args[BIAS])[at + b]
        if not g.staged:
            sums = <const int32_t *>args[SUMS] + at
            for b in range(blocks * lanes):
                # unsigned, for sums that wrap around
                bias[b] = <int32_t>(<unsigned int>bias[b] - <unsigned int>zero * <unsigned int>sums[b])
        t.ratio = <const float *>args[RATIO] + at
        if args[OFFSET] != NULL:
            t.offset = <const float *>args[OFFSET] + at
        t.w = <const char *>args[WEIGHTS] + group * words * g.n_taps * 4 * g.y_blocks * lanes + unit * panel
        # meanwhile the next unit's weights come closer
        tiles = (row1 - row0) * ceil_div(g.width, widest)
        size = panel if unit + 1 < g.units else 0
        t.ahead = t.w + panel
        t.ahead_lines = ceil_div(ceil_div(size, 64), larger(tiles * g.n_taps, 1))
        left = ceil_div(size, 64)
        for row in range(row0, row1):
            width = g.width if row + 1 < g.rows else g.last_width
            t.x = x + (row - row0) * (g.stage_row * g.row_step if g.staged else g.xh)
            t.y = <char *>args[Y] + g.y0 + (n * g.y.sn + (group * g.y_blocks + block) * g.y.sp) * g.item + depth * g.yd + row * g.yh
            if args[RESIDUAL] != NULL:
                t.residual = <const uint8_t *>args[RESIDUAL] + g.r0 + n * g.r.sn + (group * g.y_blocks + block) * g.r.sp + depth * g.rd + row * g.rh
            tile_row(tile, widest, width, &t, &left)
            t.y = <char *>args[Y] + g.y0 + (n * g.y.sn + (group * g.y_blocks + block) * g.y.sp) * g.item + depth * g.yd + row * g.yh
            # while the row is in the first-level cache
            if args[TABLE] != NULL:
                for b in range(blocks):
                    row_y = <uint8_t *>t.y + b * g.y.sp
                    if g.yw == lanes:
                        table.qvector.table(<const uint8_t *>args[TABLE], row_y, row_y, width * lanes)
                    else:
                        for at in range(width):
                            table.qvector.table(<const uint8_t *>args[TABLE], row_y + at * g.yw, row_y + at * g.yw, lanes)
            elif g.act.kind != ACT_NONE:
                for b in range(blocks):
                    row_f = <float *>(t.y + b * t.yplane)
                    if g.yw == 4 * lanes:
                        table.vector.activate(g.act.kind, row_f, row_f, width * lanes, g.act.alpha, g.act.beta)
                    else:
                        for at in range(width):
                            table.vector.activate(g.act.kind, row_f, row_f, lanes, g.act.alpha, g.act.beta)
                            row_f = <float *>(<char *>row_f + g.yw)
        if g.write_halo and row0 == 0 and depth == 0:
            for b in range(blocks):
                fill_halo_of(&g.y, g.item, <char *>args[Y], n, group * g.y_blocks + block + b, g.y.fill if g.mode == Q_BYTES else 0)


cdef inline int splat(int byte) noexcept nogil:
    """A byte four times."""
    return <int>(<unsigned int>byte * 0x01010101u)


cdef inline void tile_row(qconv_tile_fn tile, Py_ssize_t widest, Py_ssize_t width, qconv_tile_t *t, Py_ssize_t *lines) noexcept nogil:
    """`width` pixels from those where t stands, in tiles of nearly equal width: at most two calls; `lines` are left to be fetched."""
    cdef Py_ssize_t pieces = ceil_div(width, widest), narrow, wider, pixels
    if pieces <= 0:
        return
    narrow = width // pieces
    wider = width - narrow * pieces
    if wider > 0:
        pixels = wider * (narrow + 1)
        run_tiles(tile, <int>narrow + 1, wider, t, lines)
        t.x = t.x + pixels * t.xstep
        t.y = t.y + pixels * t.ystep
        if t.residual != NULL:
            t.residual = t.residual + pixels * t.rstep
    run_tiles(tile, <int>narrow, pieces - wider, t, lines)


cdef inline void run_tiles(qconv_tile_fn tile, int width, Py_ssize_t count, qconv_tile_t *t, Py_ssize_t *lines) noexcept nogil:
    cdef Py_ssize_t steps = t.n_taps * count
    if lines[0] <= 0:
        t.ahead_lines = 0
    tile(width, count, t)
    t.ahead = t.ahead + 64 * t.ahead_lines * steps
    lines[0] -= t.ahead_lines * steps


cdef void stage(const qconv_t *g, const char *x, Py_ssize_t row0, Py_ssize_t row1, int zero, char *to) noexcept nogil:
    """The pixels of x that these output rows meet, all planes of the group, as numbers of 16 bits less the zero point."""
    cdef Py_ssize_t lanes = g.x.lanes, planes = g.whole + (1 if g.partial else 0), plane, z, r, p, columns
    cdef Py_ssize_t rows = (row1 - 1 - row0) * g.row_step + g.more_rows + 1
    cdef const uint8_t *row
    cdef int16_t *y
    for plane in range(planes):
        for z in range(g.stage_depths):
            y = <int16_t *>(to + plane * g.stage_plane + z * g.stage_depth)
            row = <const uint8_t *>x + plane * g.x.sp + (g.first_depth + z) * g.x.sd + row0 * g.xh + g.top * g.x.sh + g.left * lanes
            for r in range(rows):
                columns = g.last_columns if row0 + r >= g.rows - 1 else g.columns
                if g.x_pixel == lanes:
                    g.table.qconv.widen(row, y, columns * lanes, zero)
                else:
                    for p in range(columns):
                        g.table.qconv.widen(row + p * g.x_pixel, y + p * lanes, lanes, zero)
                y = y + g.stage_row // 2
                row = row + g.x_row


cdef Py_ssize_t span(object taps, int axis) except -1:
    """How far the taps reach along an axis."""
    return max(t[axis] for t in taps) - min(t[axis] for t in taps)


def build_qconv(inputs, outputs, *, taps, x_zero=0, stride=(1, 1, 1), start=(0, 0, 0), step=(1, 1, 1), extent=None, groups=1, mode="bytes",
                zero=0, low=-INFINITY, high=INFINITY, first=None, scales=None, r_zero=0, activation=None, write_halo=True):
    """Convolution of planes of uint8 with weights of int8 or less.

    Parameters
    ----------
    inputs : x, weights, bias, sums, ratio, offset, residual, table, x_zero
        Views; weights by `pack_qconv`, the four after them in whole blocks as `pack_channels` makes them (offset may be None).
        residual: uint8 planes like y, or None; table: 256 bytes through which results go, or None; x_zero: one uint8, which x's
        halo holds, or None where the parameter of this name says it.
    outputs : y
        Of uint8, float32 or int32, as `mode` says.
    taps : sequence of (d, h, w)
        Pixel of x that each kernel tap reads, from the pixel ``i * stride``; x must have the halo for it.
    x_zero : int
        The zero point of x.
    stride, start, step, extent : (d, h, w)
        As in `build_conv`.
    groups : int
    mode : {"bytes", "floats", "sums"}
        ``clamp(rint(sum * ratio), low, high) + zero``, ``clamp(sum * ratio + offset, low, high)``, or the sum.
    zero : int
        The zero point of y.
    low, high : float
        Bounds, for bytes less the zero point, whole numbers.
    first : (low, high), optional
        With a residual: bounds of what is added to it, less its zero point.
    scales : (float, float), optional
        With a residual: what a step of the result before, and of the residual, is in steps of y.
    r_zero : int
        The zero point of the residual.
    activation : Activation, optional
        Of floats.
    write_halo : bool
        Whether this call writes y's halo.
    """
    xv, wv, bv, sv, av, ov, rv, tv, zv = inputs
    yv, = outputs
    cdef qconv_t g
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, i, n_taps = len(taps), lowest = 0, highest = 0, offset, begin, end
    cdef Py_ssize_t od, oh, ow, cg, og, work, wanted, word, rows, stage_bytes = 0, fixed
    cdef Py_ssize_t *offsets
    cdef Launch launch
    memset(&g, 0, sizeof(g))
    modes = {"bytes": (Q_BYTES, np.uint8), "floats": (Q_FLOATS, np.float32), "sums": (Q_SUMS, np.int32)}
    g.mode = modes[mode][0]
    if xv.dtype != np.uint8 or yv.dtype != modes[mode][1]:
        raise ValueError(f"qconv: {xv} -> {yv} in {mode}")
    if xv.lanes not in (4, lanes) or yv.lanes != lanes or xv.c % groups or yv.c % groups or xv.n != yv.n or (xv.lanes < lanes and xv.c > 4):
        raise ValueError(f"qconv: {xv} -> {yv} with groups {groups}")
    for v in (xv, yv):
        # groups of whole blocks lie as one group does
        if v.groups != groups and not (v.groups == 1 and v.c // groups % v.lanes == 0):
            raise ValueError(f"qconv: {v} does not have {groups} groups")
    g.table = table
    g.x = planes_of(xv)
    g.y = planes_of(yv)
    g.groups = groups
    cg = xv.c // groups
    og = yv.c // groups
    word = table.qconv.step
    g.staged = word == 2
    g.x_blocks = ceil_div(cg, xv.lanes)
    g.whole = cg // xv.lanes
    g.steps = xv.lanes // word
    g.partial = ceil_div(cg % xv.lanes, word)
    g.y_blocks = ceil_div(og, lanes)
    g.item = yv.dtype.itemsize
    od, oh, ow = yv.dhw if extent is None else extent
    g.depths, g.rows = od, oh
    g.width = g.last_width = ow
    g.xd = stride[0] * g.x.sd
    g.xh = stride[1] * g.x.sh
    g.xw = stride[2] * g.x.lanes
    g.x0 = g.x.offset
    g.y0 = (g.y.offset + start[0] * g.y.sd + start[1] * g.y.sh + start[2] * lanes) * g.item
    g.yd = step[0] * g.y.sd * g.item
    g.yh = step[1] * g.y.sh * g.item
    g.yw = step[2] * lanes * g.item
    if start[0] + (od - 1) * step[0] >= g.y.d or start[1] + (oh - 1) * step[1] >= g.y.h or start[2] + (ow - 1) * step[2] >= g.y.w:
        raise ValueError("qconv: the output grid leaves y")
    g.n_taps = n_taps
    g.x_zero, g.zero = x_zero, zero
    g.low, g.high = low, high
    g.act = activation_of(activation)
    if g.act.kind != ACT_NONE and g.mode != Q_FLOATS:
        raise ValueError(f"qconv: {activation} of {mode}")
    if g.mode == Q_FLOATS and activation is not None and g.act.kind == ACT_NONE:
        g.low, g.high = g.act.low, g.act.high
    if g.mode == Q_BYTES:
        low, high = max(low, -zero), min(high, 255 - zero)
        g.low, g.high = low, high
    if g.mode == Q_BYTES and not (0 <= zero <= 255 and low <= high and low == int(low) and high == int(high)):
        raise ValueError(f"qconv: bounds {low} and {high} around {zero}")
    if not 0 <= x_zero <= 255 or (tv is not None and (g.mode != Q_BYTES or tv.nbytes != 256)):
        raise ValueError(f"qconv: zero point {x_zero}, table {tv}")
    if rv is not None:
        if rv.dtype != np.uint8 or rv.shape != yv.shape or rv.lanes != lanes or rv.groups != yv.groups or g.mode != Q_BYTES:
            raise ValueError(f"qconv: residual {rv} for {yv}")
        g.r = planes_of(rv)
        g.r0 = g.r.offset + start[0] * g.r.sd + start[1] * g.r.sh + start[2] * lanes
        g.rd = step[0] * g.r.sd
        g.rh = step[1] * g.r.sh
        g.rw = step[2] * lanes
        g.first_low, g.first_high = first
        g.scale, g.r_scale = scales
        g.r_zero = r_zero

    # a 1x1 convolution without halos: one long row, in runs of a few tiles
    flat = n_taps == 1 and tuple(taps[0]) == (0, 0, 0) and tuple(stride) == (1, 1, 1) and tuple(step) == (1, 1, 1) and extent is None
    for v in (xv, yv, rv):
        flat = flat and (v is None or all(a == 0 and b == 0 for a, b in v.halo))
    if flat:
        work = od * oh * ow
        g.width = smaller(work, 56)
        g.rows = ceil_div(work, g.width)
        g.depths = 1 if work else 0
        g.last_width = work - (g.rows - 1) * g.width if work else 0
        g.xh = g.width * g.x.lanes
        g.yh = g.width * lanes * g.item
        g.rh = g.width * lanes

    # what a run of rows stages
    g.row_step = g.more_rows = g.stage_depths = 1
    if n_taps:
        g.first_depth = min(t[0] for t in taps)
        g.stage_depths = span(taps, 0) + 1
        g.top = min(t[1] for t in taps)
        g.left = min(t[2] for t in taps)
        g.more_rows = span(taps, 1)
        # where all taps are in one row or column, only what is met is staged
        g.row_step = stride[1] if g.more_rows else 1
        g.x_row = g.x.sh if g.more_rows else g.xh
        i = span(taps, 2)
        g.x_pixel = g.x.lanes if i else g.xw
        g.pixel_step = 2 * (g.xw if i else g.x.lanes)
        g.columns = (g.width - 1) * stride[2] + i + 1 if i else g.width
        g.last_columns = (g.last_width - 1) * stride[2] + i + 1 if i else g.last_width
    g.stage_row = 2 * g.columns * g.x.lanes
    fixed = g.stage_depths * (g.whole + (1 if g.partial else 0)) * g.stage_row

    g.units = ceil_div(g.y_blocks, 2)
    # a row's operations for one unit; a step of so many chunks that they are neither too short nor too long
    work = larger(4 * cg * n_taps * lanes * g.width, 1)
    wanted = clamp(work * g.units * groups * xv.n * g.rows * g.depths // (2 * PIECES), CHUNK_NS * FLOPS_PER_NS, 8 * CHUNK_NS * FLOPS_PER_NS)
    # rows that the stage holds
    rows = larger(g.rows, 1)
    if g.staged and fixed:
        rows = clamp((STAGE // fixed - g.more_rows - 1) // g.row_step + 1, 1, rows)
    g.units_outside = cg * n_taps * og > xv.c // groups * xv.dhw[0] * xv.dhw[1] * xv.dhw[2]
    if g.units_outside:
        g.chunk_units = clamp(wanted // (work * rows), 1, g.units)
    else:
        rows = clamp(wanted // (work * g.units), 1, rows)
        g.chunk_units = clamp(wanted // (work * rows), 1, g.units)
    g.row_chunks = ceil_div(g.rows, rows)
    g.chunk_rows = larger(ceil_div(g.rows, g.row_chunks), 1)
    g.unit_chunks = ceil_div(g.units, larger(g.chunk_units, 1))
    g.chunk_units = larger(ceil_div(g.units, g.unit_chunks), 1)
    rows = (g.chunk_rows - 1) * g.row_step + g.more_rows + 1
    if g.staged:
        g.stage_depth = rows * g.stage_row
        g.stage_plane = g.stage_depths * g.stage_depth
        stage_bytes = g.stage_plane * (g.whole + (1 if g.partial else 0))

    for i in range(n_taps):
        offset = taps[i][0] * g.x.sd + taps[i][1] * g.x.sh + taps[i][2] * g.x.lanes
        lowest = smaller(offset, lowest) if i else offset
        highest = larger(offset, highest) if i else offset
    if g.rows and g.depths and ow and xv.n and n_taps and g.x.blocks:
        begin = g.x0 + lowest
        end = g.x0 + (xv.n - 1) * g.x.sn + (g.x.blocks - 1) * g.x.sp + highest + g.x.lanes - 1
        end = end + ((od - 1) * g.xd + (oh - 1) * g.xh + (ow - 1) * g.xw if not flat else (g.x.d * g.x.h * g.x.w - 1) * g.x.lanes)
        if begin < 0 or end >= xv.size:
            raise ValueError(f"qconv: the taps reach elements {begin} to {end} of a buffer of {xv.size}")
    g.write_halo = write_halo
    padded = groups * g.y_blocks * lanes
    weights = padded * (g.whole * g.steps + g.partial) * n_taps * 4
    launch = make_launch(
        f"qconv {table.qconv.width[2]}x2 " + ("staged" if g.staged else "dot") + ("" if mode == "bytes" else f" {mode}"),
        qconv_chunk,
        &g,
        sizeof(g),
        xv.n * groups * g.depths * g.row_chunks * g.unit_chunks,
        256 + stage_bytes,
        (
            xv.nbytes,
            weights,
            4 * padded,
            4 * padded,
            4 * padded,
            4 * padded if ov is not None else 0,
            rv.nbytes if rv is not None else 0,
            256 if tv is not None else 0,
            1 if zv is not None else 0,
            yv.nbytes,
        ),
        2.0 * xv.n * yv.c * od * oh * ow * cg * n_taps,
        xv.nbytes + yv.nbytes + weights + (rv.nbytes if rv is not None else 0),
    )
    offsets = <Py_ssize_t *>launch.tail(larger(n_taps, 1) * sizeof(Py_ssize_t))
    for i in range(n_taps):
        if g.staged:
            offsets[i] = (taps[i][0] - g.first_depth) * g.stage_depth
            offsets[i] += ((taps[i][1] - g.top) * g.stage_row if g.more_rows else 0) + (taps[i][2] - g.left) * 2 * g.x.lanes
        else:
            offsets[i] = taps[i][0] * g.x.sd + taps[i][1] * g.x.sh + taps[i][2] * g.x.lanes
    return launch.typed(inputs, outputs)


# ---------------------------------------------------------------- a halo that is known while running

cdef struct surround_t:
    planes_t x, y


cdef void surround_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    """One plane of one image."""
    cdef const surround_t *g = <const surround_t *>geometry
    cdef Py_ssize_t n = chunk // g.y.blocks, block = chunk % g.y.blocks, z, r
    cdef const char *x = <const char *>args[0] + g.x.offset + n * g.x.sn + block * g.x.sp
    cdef char *y = <char *>args[2] + g.y.offset + n * g.y.sn + block * g.y.sp
    for z in range(g.x.d):
        for r in range(g.x.h):
            memcpy(y + z * g.y.sd + r * g.y.sh, x + z * g.x.sd + r * g.x.sh, g.x.w * g.x.lanes)
    fill_halo_of(&g.y, 1, <char *>args[2], n, block, (<const uint8_t *>args[1])[0])


def build_surround(inputs, outputs) -> Launch:
    """Planes of uint8 with a halo of their zero point, which is an operand.

    Parameters
    ----------
    inputs : x, zero
        Planes with any halo; one uint8.
    outputs : y
        The same planes with the halo that is wanted.
    """
    xv, zv = inputs
    yv, = outputs
    cdef surround_t g
    same = xv.shape == yv.shape and xv.lanes == yv.lanes and xv.groups == yv.groups and not xv.is_plain
    if not same or xv.dtype != np.uint8 or yv.dtype != np.uint8 or zv.nbytes < 1:
        raise ValueError(f"surround: {xv} -> {yv}")
    memset(&g, 0, sizeof(g))
    g.x = planes_of(xv)
    g.y = planes_of(yv)
    launch = make_launch("surround", surround_chunk, &g, sizeof(g), g.y.n * g.y.blocks, 0, (xv.nbytes, 1, yv.nbytes), 0.0,
                         xv.nbytes + yv.nbytes)
    return (<Launch>launch).typed(inputs, outputs)


def word() -> int:
    """Channels that a 32-bit word of the tiles in use holds: 4, of bytes, or 2, of 16 bits."""
    return current_table().qconv.step


def pack_qconv(w, Py_ssize_t groups, Py_ssize_t channels, empty):
    """Weights (O, C / groups, taps...), less their zero points, as `build_qconv` reads them.

    Parameters
    ----------
    w : ndarray of int8 or int16, shape (O, C / groups, ...)
        int8 where `word()` is 4.
    groups : int
    channels : int
        Channels of one input plane: the lanes, or 4.
    empty : callable
        Gives memory for so many floats.

    Returns
    -------
    ndarray of float32, 1-D, that holds them
    """
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, step = table.qconv.step, o = w.shape[0], cg = w.shape[1], og = o // groups
    n_taps = int(np.prod(w.shape[2:], dtype=np.int64))
    planes, rest = cg // channels, cg % channels
    steps, partial = channels // step, ceil_div(rest, step)
    blocks = ceil_div(og, lanes)
    words = (planes * steps + partial) * n_taps
    packed = empty(groups * blocks * lanes * words)
    if packed.size == 0:
        return packed
    target = packed.view(np.int8 if step == 4 else np.int16).reshape(groups, -1)
    w = np.asarray(w, target.dtype).reshape(groups, og, cg, n_taps)
    at = 0
    for block in range(0, blocks, 2):
        width = min(2, blocks - block) * lanes
        part = w[:, block * lanes : block * lanes + width]
        size = words * width * step
        panel = target[:, at : at + size]
        at += size
        if part.shape[1] < width:
            part = np.concatenate([part, np.zeros((groups, width - part.shape[1], cg, n_taps), part.dtype)], 1)
        if rest % step:
            part = np.concatenate([part, np.zeros((groups, width, step - rest % step, n_taps), part.dtype)], 2)
        # (group, output, word, channel, tap) -> (group, tap, word, output, channel): a plane's words follow those of the one before
        panel[...] = part.reshape(groups, width, -1, step, n_taps).transpose(0, 4, 2, 1, 3).reshape(groups, -1)
    return packed


def pack_channels(values, Py_ssize_t groups, empty, dtype=np.float32):
    """One 32-bit number per output channel, each group padded with zeros to whole blocks."""
    cdef Py_ssize_t lanes = current_table().lanes
    og = len(values) // groups
    packed = empty(groups * ceil_div(og, lanes) * lanes)
    rows = packed.view(dtype).reshape(groups, -1)
    rows[...] = 0
    rows[:, :og] = np.asarray(values, dtype).reshape(groups, og)
    return packed
