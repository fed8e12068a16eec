# cython: language_level=3
"""Convolution, depthwise convolution and dense layers over the tiles of the instruction set.

Layout
    x, y, residual   planes (see layout.py); x may have planes of one channel (the first layer), or be plain: then a chunk
                     copies some of its rows between zeros, so that the whole image is neither copied nor read twice from afar.
                     An image (N, H, W, C) is one channel of rows of W * C pixels, its kernel's rows C times as long.
    weights          panels of two output blocks (the last one of an odd number: one), one after another, group by group:
                     [panel][plane][tap][channel of the plane][B * lanes]; only the last plane of a group may have fewer channels
    dense            x (M, K) and y (M, O) plain; a row is read as a pixel whose planes are its runs of `lanes` floats; where rows lie
                     a power of two apart, a tile's rows are laid side by side first, for several units of outputs

Loop order of a chunk
    A chunk is one image, one unit of 1 to 4 output blocks and a run of output rows. Inside: K block of input planes, row, tile.
    A K block's weights stay in the second-level cache while the rows pass (its lines come early enough: two are needed every 14
    cycles); sums of unfinished K blocks wait in y, so K blocks are as long as that allows.
    Rows are cut into tiles of nearly equal width, so that no width falls off a cliff. A 1x1 convolution without halo is one
    long row. Chunks run unit by unit where the weights outweigh the input, row by row otherwise.

Taps are a table of pixel offsets, and the output grid has a start and a step: dilation, 1-D, 2-D, 3-D and each phase of a
transposed convolution are the same kernel: ``y[start + i * step] = act(sum_t w[t] . x[i * stride + tap_t] + bias + residual)``.
"""

from libc.math cimport INFINITY
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import threading

import numpy as np

from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.launch cimport MAX_ARGS, Launch, make_launch
from cnnengine._kernels.planes cimport fill_halo, planes_of, planes_t
from cnnengine._kernels.table cimport ACT_CLIP, ACT_NONE, KernelTable
from cnnengine._kernels.tiles.conv cimport DOT_ROWS, LINE, conv_tile_fn, conv_tile_t, depthwise_tile_t, start_ahead, tile_row

from cnnengine._kernels import ACTIVATIONS

cdef extern from "portable.h" nogil:
    size_t second_level_cache() noexcept
    void fetch_ahead(const char *p, Py_ssize_t size) noexcept


cdef activation_t activation_of(object activation) except *:
    """From an (kind, alpha, beta) tuple, an operator.Activation or None."""
    cdef activation_t a
    a.kind = ACT_NONE
    a.alpha = a.beta = 0
    a.low = -INFINITY
    a.high = INFINITY
    if activation is None:
        return a
    code = ACTIVATIONS[activation.kind]
    if code == ACT_CLIP:
        a.low = activation.alpha
        a.high = activation.beta
    else:
        a.kind = code
        a.alpha = activation.alpha
        a.beta = activation.beta
    return a


cdef enum:
    PIECES = 16             # chunks that a step shall have ...
    PIECE = 400000          # ... of at least so many multiply-adds each
    LARGE_PLANE = 400       # pixels of planes that threads share by rows
    WAYS = 4                # lines of one set of the first-level cache, of eight or more, that a tile's pixels may take
    STAGE = 4096            # floats of a plain input that are copied at a time: a third of the first-level cache


cdef struct conv_t:
    const KernelTable *table
    planes_t x, y, r
    Py_ssize_t groups, x_blocks, y_blocks           # blocks per group
    Py_ssize_t channels, partial                    # of a whole input plane, of the last one (0: whole)
    Py_ssize_t run                                  # planes of one channel: neighbouring taps read as one
    Py_ssize_t whole                                # whole input planes per group
    Py_ssize_t rows_h, rows, width, last_width      # output grid: rows per depth, rows, pixels of a row, of the last row
    Py_ssize_t image_weights                        # floats of weights that each image has for itself, or 0
    Py_ssize_t x0, xd, xh, xw                       # floats: first pixel, steps of the output grid in x
    Py_ssize_t y0, yd, yh, yw
    Py_ssize_t r0, rd, rh, rw
    Py_ssize_t n_taps, w_taps, k_block              # taps of this call, taps that the weights have
    Py_ssize_t units4, units2, units3, units1       # per group; at most one of 3 or of 1, the last
    Py_ssize_t chunk_rows, row_chunks
    # of a plain input: output rows whose input is copied at a time, the input rows above and below that a row of pixels reads
    Py_ssize_t stage_rows, stage_top, stage_bottom, stride_h
    int units_outside, stride_index, has_residual, write_halo
    activation_t act
    # Py_ssize_t taps[n_taps] follows; those that start a run come first; then, where w_taps != n_taps, skips[n_taps + 1]


cdef void conv_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const conv_t *g = <const conv_t *>geometry
    cdef Py_ssize_t units = g.units4 + g.units2 + g.units3 + g.units1, n, group, unit, part
    cdef const float *x
    # chunk -> image, group, unit, run of rows
    if g.units_outside:
        part = chunk % g.row_chunks
        chunk = chunk // g.row_chunks
        unit = chunk % units
        chunk = chunk // units
    else:
        unit = chunk % units
        chunk = chunk // units
        part = chunk % g.row_chunks
        chunk = chunk // g.row_chunks
    group = chunk % g.groups
    n = chunk // g.groups
    x = <const float *>args[0] + g.x0 + n * g.x.sn + group * g.x_blocks * g.x.sp
    conv_unit(g, args, x, n, group, unit, part * g.chunk_rows, smaller((part + 1) * g.chunk_rows, g.rows), NULL, 0)


cdef void staged_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    """A run of rows of an image whose input is plain: some rows of it at a time are copied between zeros, for all units."""
    cdef const conv_t *g = <const conv_t *>geometry
    cdef Py_ssize_t units = g.units4 + g.units2 + g.units3 + g.units1, part = chunk % g.row_chunks, n = chunk // g.row_chunks
    cdef Py_ssize_t end = smaller((part + 1) * g.chunk_rows, g.rows), row = part * g.chunk_rows, last, first, c, r, unit, next, count
    cdef const float *x
    cdef float *to
    # rows are copied over rows: what lies beside them stays zero
    memset(scratch, 0, g.x.c * g.x.sp * sizeof(float))
    while row < end:
        last = smaller(row + g.stage_rows, end)
        first = row * g.stride_h + g.stage_top
        for c in range(g.x.c):
            x = <const float *>args[0] + (n * g.x.c + c) * g.x.h * g.x.w
            to = <float *>scratch + c * g.x.sp
            for r in range(first, (last - 1) * g.stride_h + g.stage_bottom + 1):
                if 0 <= r < g.x.h:
                    memcpy(to + g.x.w0, x + r * g.x.w, g.x.w * sizeof(float))
                else:
                    memset(to + g.x.w0, 0, g.x.w * sizeof(float))
                to = to + g.x.sh
        # where pixel (0, 0) would be
        x = <const float *>scratch + g.x.w0 - first * g.x.sh
        # meanwhile the next rows, or those of the chunk that comes next, come closer: it takes longer to wait for them than to copy them
        next = last * g.stride_h + g.stage_top if last * g.stride_h + g.stage_top > 0 else 0
        count = smaller((last + g.stage_rows - 1) * g.stride_h + g.stage_bottom + 1, g.x.h) - next
        for unit in range(units):
            conv_unit(g, args, x, n, 0, unit, row, last, <const float *>args[0] + (n * g.x.c * g.x.h + next) * g.x.w,
                      count * g.x.w if unit == 0 else 0)
        row = last


cdef inline Py_ssize_t smaller(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a < b else b


cdef void conv_unit(const conv_t *g, void *const *args, const float *x, Py_ssize_t n, Py_ssize_t group, Py_ssize_t unit,
                    Py_ssize_t row0, Py_ssize_t row1, const float *coming, Py_ssize_t floats) noexcept nogil:
    """These rows of one unit; x is the first pixel of the group's first plane. Fetches `floats` of every plane of a plain input, from
    `coming` on, besides."""
    cdef const KernelTable *table = g.table
    cdef const float *w = <const float *>args[1]
    cdef const float *bias = <const float *>args[2]
    cdef const float *residual = <const float *>args[3] if g.has_residual else NULL
    cdef float *y = <float *>args[4]
    cdef Py_ssize_t lanes = table.lanes
    cdef Py_ssize_t block, blocks, row, k0, kn, at, left, pieces, width, k_channels
    cdef Py_ssize_t panel, b, size, tiles, width_max, row_d, row_h, steps = 0, share = 0, turn = 0
    cdef const float *ahead
    cdef conv_tile_t t
    cdef conv_tile_fn tile
    cdef float *yp
    if unit < g.units4:
        blocks = 4
        block = 4 * unit
    elif unit < g.units4 + g.units2:
        blocks = 2
        block = 4 * g.units4 + 2 * (unit - g.units4)
    else:
        blocks = 3 if g.units3 else 1
        block = g.y_blocks - blocks

    # weights of one panel of two blocks: every channel of the group once per tap
    k_channels = g.whole * g.channels + g.partial
    panel = k_channels * g.w_taps * 2 * lanes
    w = w + n * g.image_weights + group * k_channels * g.w_taps * g.y_blocks * lanes + (block // 2) * panel
    bias = bias + (group * g.y_blocks + block) * lanes
    y = y + g.y0 + n * g.y.sn + (group * g.y_blocks + block) * g.y.sp
    if residual != NULL:
        residual = residual + g.r0 + n * g.r.sn + (group * g.y_blocks + block) * g.r.sp

    t.bias = bias
    t.taps = <const Py_ssize_t *>(g + 1)
    t.skips = t.taps + g.n_taps if g.w_taps != g.n_taps else NULL
    t.n_taps = g.n_taps // g.run
    t.channels = g.channels * g.run
    t.xplane = g.x.sp
    t.xstep = g.xw
    t.yplane = g.y.sp
    t.ystep = g.yw
    t.rplane = g.r.sp
    t.rstep = g.rw
    t.low = g.act.low
    t.high = g.act.high
    t.residual = NULL
    tile = table.conv.plain[blocks][g.stride_index] if g.channels == 1 else table.conv.blocked[blocks][g.stride_index]

    k0 = 0
    while True:
        kn = g.whole - k0
        if kn > g.k_block:
            kn = g.k_block
        t.first = k0 == 0
        t.last = k0 + kn == g.whole
        t.planes = kn
        t.partial = g.partial if t.last else 0
        t.w = w + k0 * g.channels * g.w_taps * (2 if blocks > 1 else 1) * lanes
        t.w2 = w + panel + k0 * g.channels * g.w_taps * (1 if blocks == 3 else 2) * lanes
        # meanwhile the next K block, or the next unit's first
        size = kn * g.channels * g.w_taps * (2 if blocks > 1 else 1) * lanes
        width_max = table.conv.width[blocks]
        tiles = (row1 - row0) * ((g.width + width_max - 1) // width_max)
        ahead = t.w + size + (panel if blocks == 4 and t.last else 0)
        start_ahead(&t, ahead, size, tiles)
        if floats > 0:
            # a plane's share of a tile, each tile one plane's
            steps = t.n_taps * kn
            share = (floats // LINE + tiles // g.x.c) // at_least(tiles // g.x.c, 1)
            share = (share + steps - 1) // steps * steps * LINE
            turn = 0
        for row in range(row0, row1):
            width = g.width if row + 1 < g.rows else g.last_width
            row_d = row // g.rows_h
            row_h = row - row_d * g.rows_h
            t.x = x + k0 * g.x.sp + row_d * g.xd + row_h * g.xh
            t.y = y + row_d * g.yd + row_h * g.yh
            if residual != NULL:
                t.residual = residual + row_d * g.rd + row_h * g.rh
            if floats <= 0:
                tile_row(tile, width_max, width, &t)
            # with something else to fetch, tile by tile
            pieces = (width + width_max - 1) // width_max if floats > 0 else 0
            at = 0
            while pieces > 0:
                left = (width - at + pieces - 1) // pieces
                t.ahead = coming + turn % g.x.c * g.x.h * g.x.w + turn // g.x.c * share
                t.ahead_lines = share // LINE // steps if turn // g.x.c * share < floats else 0
                turn = turn + 1
                tile(<int>left, 1, &t)
                t.x = t.x + left * g.xw
                t.y = t.y + left * g.yw
                if residual != NULL:
                    t.residual = t.residual + left * g.rw
                at = at + left
                pieces = pieces - 1
            if t.last and g.act.kind != ACT_NONE:
                # while the row is in the first-level cache
                for b in range(blocks):
                    yp = y + b * g.y.sp + (row // g.rows_h) * g.yd + (row % g.rows_h) * g.yh
                    if g.yw == lanes:
                        table.vector.activate(g.act.kind, yp, yp, width * lanes, g.act.alpha, g.act.beta)
                    else:
                        for at in range(width):
                            table.vector.activate(g.act.kind, yp + at * g.yw, yp + at * g.yw, lanes, g.act.alpha, g.act.beta)
        k0 = k0 + kn
        if k0 >= g.whole:
            break

    if g.write_halo and row0 == 0:
        for b in range(blocks):
            fill_halo(&g.y, <float *>args[4], n, group * g.y_blocks + block + b)


cdef inline Py_ssize_t at_least(Py_ssize_t a, Py_ssize_t low) noexcept nogil:
    return a if a > low else low


cdef object staged_view(object x, object out, object taps, object stride):
    """A plain x as planes of one channel with the halo that the taps of an output of `out` pixels need."""
    halo = []
    for axis, size in enumerate(x.dhw):
        last = (out[axis] - 1) * stride[axis]
        halo.append((max(0, -min(t[axis] for t in taps)), max(0, max(t[axis] for t in taps) + last - size + 1)))
    if halo[0] != (0, 0):
        raise ValueError(f"conv: the taps leave plain {x} along its depth")
    # rows start at cache lines, which are copied as they are
    left = -(-halo[2][0] // LINE) * LINE
    halo[2] = (left, -(-(left + x.dhw[2] + halo[2][1]) // LINE) * LINE - left - x.dhw[2])
    return x.planes(x.shape, 1, tuple(halo))


def build_conv(inputs, outputs, *, taps, stride=(1, 1, 1), start=(0, 0, 0), step=(1, 1, 1), extent=None, groups=1,
               activation=None, write_halo=True, weight_taps=None, weights_per_image=False):
    """Direct convolution of planes.

    Parameters
    ----------
    inputs : x, weights, bias, residual (or None)
        Views; weights are packed by `pack_conv`, bias padded by `pack_bias`. x may be plain, of one or two spatial axes and one
        group, where y has its own extent: pixels outside of it are zeros, and weights are those of planes of one channel.
    outputs : y
    taps : sequence of (d, h, w)
        Pixel of x that each kernel tap reads, from the pixel ``i * stride``; x in planes must have the halo for it.
    stride : (d, h, w)
        Steps in x of neighbouring pixels of the output grid.
    start, step, extent : (d, h, w)
        The output grid in y; `extent` defaults to y's own.
    groups : int
    activation : Activation, optional
    write_halo : bool
        Whether this call writes y's halo.
    weight_taps : (sequence of int, int), optional
        For weights that have more taps than this call uses: which of theirs each of `taps` is, ascending, and how many they have.
    weights_per_image : bool
        Whether every image has weights of its own, one packed set after another.
    """
    xv, wv, bv, rv = inputs
    yv, = outputs
    cdef conv_t g
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, i, n_taps = len(taps), lowest = 0, highest = 0, offset, first, last, blocks
    cdef Py_ssize_t od, oh, ow, cg, og, units, work, widest, tables, staged = 0
    cdef Py_ssize_t *block
    memset(&g, 0, sizeof(g))
    plain_bytes = xv.nbytes
    if xv.is_plain:
        if len(xv.shape) not in (3, 4) or groups != 1 or extent is not None or tuple(step) != (1, 1, 1) or not len(taps):
            raise ValueError(f"conv: plain {xv}")
        staged = 1
        xv = staged_view(xv, yv.dhw, taps, stride)
    if yv.lanes != lanes or xv.lanes not in (1, lanes) or xv.c % groups or yv.c % groups or xv.n != yv.n:
        raise ValueError(f"conv: {xv} -> {yv} with groups {groups}")
    for v in (xv, yv):
        # groups of whole blocks lie as one group does
        if v.groups != groups and not (v.groups == 1 and v.c // groups % v.lanes == 0):
            raise ValueError(f"conv: {v} does not have {groups} groups")
    g.table = table
    g.x = planes_of(xv)
    g.y = planes_of(yv)
    g.groups = groups
    cg = xv.c // groups
    og = yv.c // groups
    g.channels = xv.lanes
    g.x_blocks = (cg + g.channels - 1) // g.channels
    g.whole = cg // g.channels
    g.partial = cg % g.channels
    g.y_blocks = (og + lanes - 1) // lanes
    od, oh, ow = yv.dhw if extent is None else extent
    g.rows_h = oh
    g.rows = od * oh
    g.width = g.last_width = ow
    g.stride_h = stride[1]
    g.xd = stride[0] * g.x.sd
    g.xh = stride[1] * g.x.sh
    g.xw = stride[2] * g.x.lanes
    g.x0 = g.x.offset
    g.y0 = g.y.offset + start[0] * g.y.sd + start[1] * g.y.sh + start[2] * lanes
    g.yd = step[0] * g.y.sd
    g.yh = step[1] * g.y.sh
    g.yw = step[2] * lanes
    if start[0] + (od - 1) * step[0] >= g.y.d or start[1] + (oh - 1) * step[1] >= g.y.h or start[2] + (ow - 1) * step[2] >= g.y.w:
        raise ValueError("conv: the output grid leaves y")
    g.n_taps = g.w_taps = n_taps
    if weight_taps is not None:
        used, g.w_taps = weight_taps
        if len(used) != n_taps or any(b <= a for a, b in zip(used, used[1:])) or n_taps and not 0 <= used[0] <= used[-1] < g.w_taps:
            raise ValueError(f"conv: taps {used} of {g.w_taps} for {n_taps}")
    g.run = 1
    if g.channels == 1 and n_taps == g.w_taps and n_taps:
        # the longest run of neighbouring taps that divides them all
        g.run = next(r for r in range(n_taps, 0, -1) if n_taps % r == 0 and all(
            tuple(taps[i]) == (taps[i - i % r][0], taps[i - i % r][1], taps[i - i % r][2] + i % r) for i in range(n_taps)))
    g.write_halo = write_halo
    g.image_weights = groups * cg * g.w_taps * g.y_blocks * lanes if weights_per_image else 0
    g.act = activation_of(activation)
    if rv is not None:
        if rv.shape != yv.shape or rv.lanes != lanes or rv.groups != yv.groups or tuple(step) != (1, 1, 1):
            raise ValueError(f"conv: residual {rv} for {yv}")
        g.has_residual = 1
        g.r = planes_of(rv)
        g.r0 = g.r.offset + start[0] * g.r.sd + start[1] * g.r.sh + start[2] * lanes
        g.rd = g.r.sd
        g.rh = g.r.sh
        g.rw = lanes

    # a 1x1 convolution without halos: one long row, in runs of a few tiles
    flat = n_taps == 1 and tuple(taps[0]) == (0, 0, 0) and tuple(stride) == (1, 1, 1) and tuple(step) == (1, 1, 1) and extent is None and not staged
    for v in (xv, yv, rv):
        flat = flat and (v is None or all(a == 0 and b == 0 for a, b in v.halo))
    if flat:
        work = od * oh * ow
        g.width = 56 if work > 56 else work
        g.rows = g.rows_h = (work + g.width - 1) // g.width if work else 0
        g.last_width = work - (g.rows - 1) * g.width if work else 0
        g.xh = g.width * g.x.lanes
        g.yh = g.rh = g.width * lanes
    g.stride_index = stride[2] if stride[2] in (1, 2) else 0

    # K blocks of nearly equal size; a panel of two output blocks takes an eighth of the second-level cache at most
    g.k_block = at_least(<Py_ssize_t>second_level_cache() // 8 // at_least(n_taps * 2 * lanes * 4 * lanes, 1), 1)
    if g.channels == 1 or g.whole == 0:
        g.k_block = at_least(g.whole, 1)
    else:
        i = (g.whole + g.k_block - 1) // g.k_block
        g.k_block = (g.whole + i - 1) // i
    # narrow rows leave registers idle: four blocks at once; two and a last one are computed as three
    widest = table.conv.width[2]
    if g.channels > 1 and g.width <= table.conv.width[4] and lanes * 4 <= og:
        g.units4 = g.y_blocks // 4
    g.units2 = (g.y_blocks - 4 * g.units4) // 2
    g.units1 = g.y_blocks % 2
    if g.units1 and g.units2 and g.channels > 1:
        g.units1 = 0
        g.units3 = 1
        g.units2 = g.units2 - 1
    units = g.units4 + g.units2 + g.units3 + g.units1
    # chunks of 4 million multiply-adds at most; where that makes less than PIECES, of a PIECE at least
    work = at_least(cg * n_taps * lanes * (4 if g.units4 else 2) * g.width, 1)
    i = work * units * groups * xv.n * g.rows // PIECES
    g.chunk_rows = at_least((4000000 if i > 4000000 else i if i > PIECE else PIECE) // work, 1)
    if g.chunk_rows * g.width < 2 * widest:
        g.chunk_rows = (2 * widest + g.width - 1) // at_least(g.width, 1)
    if staged:
        # all units of a chunk share the copied rows, at least four rows of pixels
        g.stage_top = min(t[1] for t in taps)
        g.stage_bottom = max(t[1] for t in taps)
        g.stage_rows = at_least((STAGE // at_least(xv.c * g.x.sh, 1) - (g.stage_bottom - g.stage_top)) // g.stride_h, 4)
        g.chunk_rows = at_least(g.chunk_rows // units, g.stage_rows)
    # where the weights outweigh the input and units are many, each unit's weights are read once
    g.units_outside = cg * n_taps * og > xv.c // groups * xv.dhw[0] * xv.dhw[1] * xv.dhw[2]
    if g.units_outside and units * groups * xv.n >= 8 and not staged:
        g.chunk_rows = at_least(g.rows, 1)
    i = (g.rows + g.chunk_rows - 1) // g.chunk_rows
    g.chunk_rows = (g.rows + i - 1) // i if i else 1
    g.row_chunks = i

    tables = n_taps if g.w_taps == n_taps else 2 * n_taps + 1
    block = <Py_ssize_t *>malloc(sizeof(conv_t) + tables * sizeof(Py_ssize_t))
    if block == NULL:
        raise MemoryError("conv")
    try:
        memcpy(block, &g, sizeof(g))
        for i in range(n_taps):
            offset = taps[i][0] * g.x.sd + taps[i][1] * g.x.sh + taps[i][2] * g.x.lanes
            if i % g.run == 0:
                (<Py_ssize_t *>(<char *>block + sizeof(conv_t)))[i // g.run] = offset
            lowest = offset if offset < lowest or i == 0 else lowest
            highest = offset if offset > highest or i == 0 else highest
        if g.w_taps != n_taps:
            # the taps between one used and the next
            ends = [-1, *used, g.w_taps]
            for i in range(n_taps + 1):
                (<Py_ssize_t *>(<char *>block + sizeof(conv_t)))[n_taps + i] = ends[i + 1] - ends[i] - 1
        if g.rows and ow and xv.n and n_taps and g.x.blocks:
            first = g.x0 + lowest
            last = g.x0 + (xv.n - 1) * g.x.sn + (g.x.blocks - 1) * g.x.sp + highest + g.x.lanes - 1
            last = last + ((od - 1) * g.xd + (oh - 1) * g.xh + (ow - 1) * g.xw if not flat else (g.x.d * g.x.h * g.x.w - 1) * g.x.lanes)
            if first < 0 or last >= xv.size:
                raise ValueError(f"conv: the taps reach elements {first} to {last} of a buffer of {xv.size}")
        blocks = groups * g.y_blocks
        if staged:
            # the taps are checked: now the planes are those of the rows copied at a time
            (<conv_t *>block).x.sp = ((g.stage_rows - 1) * g.stride_h + g.stage_bottom - g.stage_top + 1) * g.x.sh
        return make_launch(
            f"conv {'x'.join(str(n) for n in (table.conv.width[4 if g.units4 else 2], 4 if g.units4 else 2))}"
            + (" rows" if staged else " plain" if g.channels == 1 else ""),
            staged_chunk if staged else conv_chunk,
            block,
            sizeof(conv_t) + tables * sizeof(Py_ssize_t),
            xv.n * g.row_chunks if staged else xv.n * groups * units * g.row_chunks,
            4 * xv.c * (<conv_t *>block).x.sp if staged else 0,
            (
                plain_bytes,
                4 * groups * cg * g.w_taps * g.y_blocks * lanes * (xv.n if weights_per_image else 1),
                4 * blocks * lanes,
                rv.nbytes if rv is not None else 0,
                yv.nbytes,
            ),
            2.0 * xv.n * yv.c * od * oh * ow * cg * n_taps,
            plain_bytes + yv.nbytes + 4.0 * groups * cg * n_taps * og + (rv.nbytes if rv is not None else 0),
        )
    finally:
        free(block)


cdef int run_five(Launch launch, const float[::1] x, const float[::1] w, const float[::1] bias, const float[::1] residual, float[::1] y,
                  int threads) except -1:
    cdef void *args[MAX_ARGS]
    launch.check(0, x.nbytes)
    launch.check(1, w.nbytes)
    launch.check(2, bias.nbytes)
    launch.check(3, residual.nbytes if residual is not None else 0)
    launch.check(4, y.nbytes)
    if launch.n_chunks == 0:
        return 0
    args[0] = <void *>&x[0] if x.shape[0] else NULL
    args[1] = <void *>&w[0] if w.shape[0] else NULL
    args[2] = <void *>&bias[0]
    args[3] = <void *>&residual[0] if residual is not None else NULL
    args[4] = &y[0]
    return launch.run(args, threads)


def conv(Launch launch, const float[::1] x, const float[::1] w, const float[::1] bias, const float[::1] residual, float[::1] y, int threads=1):
    """Run a convolution built by `build_conv` on these buffers, on at most `threads` threads."""
    run_five(launch, x, w, bias, residual, y, threads)


def pack_conv(w, Py_ssize_t groups, Py_ssize_t channels):
    """Weights (O, C / groups, taps...) as `build_conv` reads them.

    Parameters
    ----------
    w : ndarray of float32, shape (O, C / groups, ...)
        The axes from the third on are the kernel taps, in the order of `taps`.
    groups : int
    channels : int
        Channels of one input plane: the lanes, or 1.

    Returns
    -------
    ndarray of float32, 1-D
    """
    w = np.asarray(w, np.float32)
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, o = w.shape[0], cg = w.shape[1], og = o // groups, group
    cdef Py_ssize_t n_taps = int(np.prod(w.shape[2:], dtype=np.int64)), size = (og + lanes - 1) // lanes * lanes * cg * n_taps
    cdef bint columns = n_taps == 1 and o > 1 and cg > 1 and w.strides[0] == 4
    packed = aligned_floats(groups * size)
    cdef float[::1] target = packed
    if target.shape[0] == 0:
        return packed
    w = w.reshape(o, cg, n_taps)
    if not columns:
        w = np.ascontiguousarray(w)
    cdef const char *source = <const char *><size_t>w.ctypes.data      # perhaps unaligned: a view of a file
    cdef Py_ssize_t step = w.strides[1]
    with nogil:
        for group in range(groups):
            if columns:
                pack_columns(source + group * og * sizeof(float), step, &target[group * size], og, cg, lanes)
            else:
                pack_group(source + group * og * cg * n_taps * sizeof(float), &target[group * size], og, cg, n_taps, channels, table)
    return packed


def scale_rows(source, scale, empty):
    """float32 weights times a float64 number per index of their first axis: the products of float64, rounded once.

    Parameters
    ----------
    source : ndarray of float32
        C-contiguous, or a matrix whose columns are.
    scale : ndarray of float64, shape (len(source), 1, ...)
    empty : callable
        Gives memory for so many floats, 1-D.

    Returns
    -------
    ndarray of float32, or None
        In the source's order; None for other forms, which NumPy multiplies.
    """
    cdef Py_ssize_t rows = source.shape[0], columns, stride, i, k
    if source.dtype != np.float32 or source.size == 0 or scale.size != rows or scale.ndim != source.ndim or scale.shape[0] != rows:
        return None
    cdef const double[::1] factors = np.ascontiguousarray(scale, np.float64).reshape(-1)
    cdef float[::1] out
    cdef const char *x = <const char *><size_t>source.ctypes.data       # perhaps unaligned: a view of a file
    if source.flags.c_contiguous:
        columns = source.size // rows
        made = empty(source.size)
        out = made
        if out.shape[0] != rows * columns:
            raise ValueError("scale_rows: memory of the wrong size")
        with nogil:
            for i in range(rows):
                scale_run(x + i * columns * 4, &factors[i], 0, &out[i * columns], columns)
        return made.reshape(source.shape)
    if source.size != rows * source.shape[1] or source.strides[0] != 4 or source.strides[1] < 4 * rows or source.strides[1] % 4:
        return None
    columns, stride = source.shape[1], source.strides[1]
    made = empty(source.size)
    out = made
    if out.shape[0] != rows * columns:
        raise ValueError("scale_rows: memory of the wrong size")
    with nogil:
        for k in range(columns):
            scale_run(x + k * stride, &factors[0], 1, &out[k * rows], rows)
    return made.reshape(columns, rows).T.reshape(source.shape)


cdef void scale_run(const char *x, const double *scale, Py_ssize_t step, float *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef float v
    if step:
        for i in range(n):
            memcpy(&v, x + 4 * i, 4)
            y[i] = <float>(v * scale[i])
    else:
        for i in range(n):
            memcpy(&v, x + 4 * i, 4)
            y[i] = <float>(v * scale[0])


def pack_panels(w, Py_ssize_t channels, float[::1] out, Py_ssize_t first):
    """The panels of the outputs from `first` on, whose weights `w` are, as `pack_conv` writes them into all of `out`.

    `first` is the first output of a panel, and `w` ends with a panel or with the last output.
    """
    w = np.asarray(w, np.float32)
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, o = w.shape[0], cg = w.shape[1], n_taps = int(np.prod(w.shape[2:], dtype=np.int64))
    cdef Py_ssize_t at = first * cg * n_taps
    cdef bint columns = n_taps == 1 and o > 1 and cg > 1 and w.strides[0] == 4
    if first < 0 or first % (2 * lanes) or at + (o + lanes - 1) // lanes * lanes * cg * n_taps > out.shape[0]:
        raise ValueError(f"pack_panels: outputs {first} to {first + o} of {out.shape[0]} floats")
    if o * cg * n_taps == 0:
        return
    w = w.reshape(o, cg, n_taps)
    if not columns:
        w = np.ascontiguousarray(w)
    cdef const char *source = <const char *><size_t>w.ctypes.data      # perhaps unaligned: a view of a file
    cdef Py_ssize_t step = w.strides[1]
    with nogil:
        if columns:
            pack_columns(source, step, &out[at], o, cg, lanes)
        else:
            pack_group(source, &out[at], o, cg, n_taps, channels, table)


cdef enum:
    STAGED = 1536           # floats of weights that are transposed at a time: two such pieces lie on a stack that may be small


cdef void pack_group(const char *w, float *out, Py_ssize_t og, Py_ssize_t cg, Py_ssize_t n_taps, Py_ssize_t channels,
                     const KernelTable *table) noexcept nogil:
    """One group's panels from weights that lie row by row, [output][channel][tap]. A part of each row of a panel is copied side by
    side (rows may lie unaligned, and at distances that meet in few sets of the cache) and transposed by vectors from there."""
    cdef float stage[STAGED]
    cdef float turned[STAGED]
    cdef Py_ssize_t lanes = table.lanes, o0 = 0, c0, n, width, valid, i, k, t, first, some, ahead
    cdef const char *row
    cdef const char *part
    if n_taps == 1:
        channels = cg       # the same order, and longer pieces of the rows
    while o0 < og:
        width = 2 * lanes if og - o0 > lanes else lanes
        valid = width if og - o0 > width else og - o0
        c0 = 0
        while c0 < cg:
            n = channels if cg - c0 > channels else cg - c0
            row = w + (o0 * cg + c0) * n_taps * <Py_ssize_t>sizeof(float)
            if valid < width:
                memset(out, 0, n * n_taps * width * sizeof(float))
            # some whole channels at a time, or where even one has too many taps, some taps of it
            first = 0
            while first < n * n_taps:
                some = STAGED // width
                if n_taps <= some:
                    some = some // n_taps * n_taps
                else:
                    some = n_taps - first % n_taps if n_taps - first % n_taps < some else some
                if some > n * n_taps - first:
                    some = n * n_taps - first
                ahead = smaller(some, (cg - c0) * n_taps - first - some) * <Py_ssize_t>sizeof(float)
                for i in range(valid):
                    part = row + (i * cg * n_taps + first) * <Py_ssize_t>sizeof(float)
                    memcpy(stage + i * some, part, some * sizeof(float))
                    fetch_ahead(part + some * sizeof(float), ahead)
                if n_taps == 1:
                    table.move.transpose(stage, some, out + first * width, width, valid, some)
                else:
                    table.move.transpose(stage, some, turned, width, valid, some)
                    for i in range(some):
                        k = (first + i) // n_taps
                        t = (first + i) % n_taps
                        memcpy(out + (t * n + k) * width, turned + i * width, valid * sizeof(float))
                first = first + some
            out = out + n * n_taps * width
            c0 = c0 + n
        o0 = o0 + width


cdef void pack_columns(const char *w, Py_ssize_t step, float *out, Py_ssize_t og, Py_ssize_t cg, Py_ssize_t lanes) noexcept nogil:
    """One group's panels of kernels of one tap from weights that lie column by column, the outputs of a channel side by side."""
    cdef Py_ssize_t o0 = 0, width, valid, k
    while o0 < og:
        width = 2 * lanes if og - o0 > lanes else lanes
        valid = width if og - o0 > width else og - o0
        if valid < width:
            memset(out, 0, cg * width * sizeof(float))
        for k in range(cg):
            memcpy(out + k * width, w + k * step + o0 * <Py_ssize_t>sizeof(float), valid * sizeof(float))
        out = out + cg * width
        o0 = o0 + width


cdef class Slab:
    """Memory of arrays that are kept together: taken from large pieces, of which the system makes huge pages.

    First touches are then a third of the time, which is as much as packing takes. The first piece is small, for small models. A
    piece is given back when no array in it is left.
    """

    cdef object piece
    cdef Py_ssize_t at

    def __init__(self):
        self.piece = None
        self.at = 0

    def floats(self, Py_ssize_t n):
        """An uninitialised 1-D float32 array whose data is 64-byte aligned."""
        if n > SLAB_LARGEST:
            return own_floats(n, HUGE_PAGE)
        if self.piece is None or self.at + n > self.piece.shape[0]:
            small = self.piece is None and n <= SLAB_FIRST
            self.piece = own_floats(SLAB_FIRST) if small else own_floats(SLAB_PIECE, HUGE_PAGE)
            self.at = 0
        start = self.at
        self.at += (n + 15) & ~<Py_ssize_t>15
        return self.piece[start : start + n]


cdef enum:
    SLAB_FIRST = 1 << 18        # floats of a slab's first piece
    SLAB_PIECE = 1 << 22        # of the others
    SLAB_LARGEST = 1 << 21      # of an array in them
    HUGE_PAGE = 2 << 20         # bytes; NumPy asks the system for them where an array has twice as many

_packing = threading.local()


def pack_into(slab):
    """Take the memory of what this thread packs from a Slab, until it is None."""
    _packing.slab = slab


cdef object aligned_floats(Py_ssize_t n):
    """An uninitialised 1-D float32 array whose data is 64-byte aligned, of the Slab in use if there is one."""
    slab = getattr(_packing, "slab", None)
    return own_floats(n) if slab is None else slab.floats(n)


cdef object own_floats(Py_ssize_t n, Py_ssize_t alignment=64):
    """An uninitialised 1-D float32 array whose data is aligned to so many bytes."""
    raw = np.empty(n + alignment // 4, np.float32)
    cdef float[::1] whole = raw
    cdef Py_ssize_t start = (alignment - <Py_ssize_t>(<size_t>&whole[0] % alignment)) % alignment // 4
    return raw[start : start + n]


def pack_bias(bias, Py_ssize_t channels, Py_ssize_t groups=1):
    """A bias (or zeros for None) of `channels` values, each group padded with zeros to whole blocks."""
    cdef Py_ssize_t lanes = current_table().lanes
    og = channels // groups
    padded = -(-og // lanes) * lanes
    out = aligned_floats(groups * padded)
    rows = out.reshape(groups, padded)
    if bias is None or og < padded:
        rows[...] = 0
    if bias is not None:
        rows[:, :og] = np.asarray(bias).reshape(groups, og)
    return out


# ---------------------------------------------------------------- depthwise
cdef struct depthwise_t:
    const KernelTable *table
    planes_t x, y, r
    Py_ssize_t rows_h, rows, width, xd, xh, xw      # output grid
    Py_ssize_t y0, yd, yh, yw                       # floats: its first pixel in a plane of y, its steps
    Py_ssize_t n_taps, chunk_rows, row_chunks, per_group
    Py_ssize_t some_rows                            # rows of one call of the tile
    int has_residual, write_halo
    depthwise_rows_fn tile
    activation_t act
    # Py_ssize_t taps[n_taps] follows


cdef depthwise_rows_fn depthwise_tile_of(const KernelTable *table, object taps, Py_ssize_t stride) except *:
    """The tile for taps (..., w) of one channel a group: that of kernels of 3, 5 or 7 neighbours in a row, where they are such."""
    cdef Py_ssize_t i
    if stride in (1, 2):
        for k in (7, 5, 3):
            if len(taps) and len(taps) % k == 0 and all(
                tuple(taps[i]) == (*taps[i - i % k][:-1], taps[i - i % k][-1] + i % k) for i in range(len(taps))):
                return table.conv.kernels[<int>k // 2 - 1][<int>stride - 1]
    return table.conv.depthwise


cdef void depthwise_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const depthwise_t *g = <const depthwise_t *>geometry
    cdef Py_ssize_t block = chunk % g.y.blocks, part = chunk // g.y.blocks % g.row_chunks, n = chunk // g.row_chunks // g.y.blocks
    cdef Py_ssize_t row, i, end = (part + 1) * g.chunk_rows, lanes = g.table.lanes, some
    cdef const float *x = <const float *>args[0] + g.x.offset + n * g.x.sn + block * g.x.sp
    cdef float *y = <float *>args[4] + g.y.offset + n * g.y.sn + block * g.y.sp + g.y0
    cdef float *to
    cdef const float *r = <const float *>args[3] + g.r.offset + n * g.r.sn + block * g.r.sp if g.has_residual else NULL
    cdef depthwise_tile_t t
    t.w = <const float *>args[1] + block * g.n_taps * g.per_group * lanes
    t.per_group = g.per_group
    t.bias = <const float *>args[2] + block * lanes
    t.taps = <const Py_ssize_t *>(g + 1)
    t.n_taps = g.n_taps
    t.width = g.width
    t.xstep = g.xw
    t.low = g.act.low
    t.high = g.act.high
    t.residual = NULL
    if end > g.rows:
        end = g.rows
    t.xrow = g.xh
    t.yrow = g.yh
    t.rrow = g.r.sh
    row = part * g.chunk_rows
    while row < end:
        # some rows at a time: an activation finds them in the first-level cache
        some = g.rows_h - row % g.rows_h
        if some > g.some_rows:
            some = g.some_rows
        if some > end - row:
            some = end - row
        t.rows = some
        t.x = x + row // g.rows_h * g.xd + row % g.rows_h * g.xh
        to = y + row // g.rows_h * g.yd + row % g.rows_h * g.yh
        # rows of pixels that do not lie side by side are made aside
        t.y = to if g.yw == lanes else <float *>scratch
        if r != NULL:
            t.residual = r + row // g.rows_h * g.r.sd + row % g.rows_h * g.r.sh
        g.tile(&t)
        if g.act.kind != ACT_NONE:
            for i in range(some):
                g.table.vector.activate(g.act.kind, t.y + i * g.yh, t.y + i * g.yh, t.width * lanes, g.act.alpha, g.act.beta)
        if g.yw != lanes:
            for i in range(g.width):
                memcpy(to + i * g.yw, t.y + i * lanes, lanes * sizeof(float))
        row = row + some
    if part == 0 and g.write_halo:
        fill_halo(&g.y, <float *>args[4], n, block)


def build_depthwise(inputs, outputs, *, taps, stride=(1, 1, 1), start=(0, 0, 0), step=(1, 1, 1), extent=None, per_group=1, activation=None,
                    write_halo=True):
    """Convolution of planes in groups that do not leave a block: depthwise, or a few channels a group.

    Parameters
    ----------
    inputs : x, weights, bias, residual (or None)
        Views; weights are packed by `pack_depthwise`, bias by `pack_bias`.
    outputs : y
    taps, stride, start, step, extent, activation, write_halo
        As in `build_conv`.
    per_group : int
        Input channels of a group and its output channels: a power of two, at most `lanes`.
    """
    xv, wv, bv, rv = inputs
    yv, = outputs
    cdef depthwise_t g
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, i, n_taps = len(taps), lowest = 0, highest = 0, offset, first, last, od, oh, ow
    cdef Py_ssize_t *block
    memset(&g, 0, sizeof(g))
    if xv.lanes != lanes or yv.lanes != lanes or xv.c != yv.c or xv.groups != 1 or yv.groups != 1 or xv.n != yv.n:
        raise ValueError(f"depthwise: {xv} -> {yv}")
    if per_group < 1 or lanes % per_group or xv.c % per_group:
        raise ValueError(f"depthwise: {per_group} channels a group of {xv.c}, {lanes} a block")
    g.per_group = per_group
    g.table = table
    g.x = planes_of(xv)
    g.y = planes_of(yv)
    od, oh, ow = yv.dhw if extent is None else extent
    if start[0] + (od - 1) * step[0] >= g.y.d or start[1] + (oh - 1) * step[1] >= g.y.h or start[2] + (ow - 1) * step[2] >= g.y.w:
        raise ValueError("depthwise: the output grid leaves y")
    g.rows_h = oh
    g.rows = od * oh
    g.width = ow
    g.xd = stride[0] * g.x.sd
    g.xh = stride[1] * g.x.sh
    g.xw = stride[2] * lanes
    g.y0 = start[0] * g.y.sd + start[1] * g.y.sh + start[2] * lanes
    g.yd = step[0] * g.y.sd
    g.yh = step[1] * g.y.sh
    g.yw = step[2] * lanes
    g.write_halo = write_halo
    g.n_taps = n_taps
    g.act = activation_of(activation)
    g.tile = depthwise_tile_of(table, taps, stride[2]) if per_group == 1 else table.conv.grouped
    g.some_rows = 1 if g.yw != lanes else at_least(256 // at_least(g.width, 1), 1)
    if rv is not None:
        if rv.shape != yv.shape or rv.lanes != lanes or rv.groups != 1 or extent is not None or tuple(step) != (1, 1, 1):
            raise ValueError(f"depthwise: residual {rv} for {yv}")
        g.has_residual = 1
        g.r = planes_of(rv)
    # row by row through all blocks, as convolutions of large planes go: what a thread wrote there, it mostly reads here
    g.chunk_rows = at_least(200000 // at_least(n_taps * g.per_group * lanes * g.width, 1), 1)
    i = (g.rows + g.chunk_rows - 1) // g.chunk_rows
    if g.rows * g.width >= LARGE_PLANE:
        i = (i + 3) // 4 * 4
    g.chunk_rows = at_least((g.rows + i - 1) // i, 1) if i else 1
    g.row_chunks = (g.rows + g.chunk_rows - 1) // g.chunk_rows
    block = <Py_ssize_t *>malloc(sizeof(g) + n_taps * sizeof(Py_ssize_t))
    if block == NULL:
        raise MemoryError("depthwise")
    try:
        memcpy(block, &g, sizeof(g))
        for i in range(n_taps):
            offset = taps[i][0] * g.x.sd + taps[i][1] * g.x.sh + taps[i][2] * lanes
            (<Py_ssize_t *>(<char *>block + sizeof(g)))[i] = offset
            lowest = offset if offset < lowest or i == 0 else lowest
            highest = offset if offset > highest or i == 0 else highest
        if g.rows and g.width and xv.n and xv.c and n_taps:
            first = g.x.offset + lowest
            last = g.x.offset + (xv.n - 1) * g.x.sn + (g.x.blocks - 1) * g.x.sp + (od - 1) * g.xd + (oh - 1) * g.xh + (ow - 1) * g.xw
            last = last + highest + lanes - 1
            if first < 0 or last >= xv.size:
                raise ValueError(f"depthwise: the taps reach elements {first} to {last} of a buffer of {xv.size}")
        return make_launch(
            "depthwise" if per_group == 1 else f"grouped {per_group}",
            depthwise_chunk,
            block,
            sizeof(g) + n_taps * sizeof(Py_ssize_t),
            xv.n * g.y.blocks * g.row_chunks,
            4 * g.width * lanes if g.yw != lanes else 0,
            (xv.nbytes, 4 * g.y.blocks * n_taps * g.per_group * lanes, 4 * g.y.blocks * lanes, rv.nbytes if rv is not None else 0, yv.nbytes),
            2.0 * xv.n * yv.c * g.rows * g.width * n_taps * g.per_group,
            xv.nbytes + yv.nbytes + (rv.nbytes if rv is not None else 0),
        )
    finally:
        free(block)


def depthwise(Launch launch, const float[::1] x, const float[::1] w, const float[::1] bias, const float[::1] residual, float[::1] y,
              int threads=1):
    """Run a depthwise convolution built by `build_depthwise` on these buffers, on at most `threads` threads."""
    run_five(launch, x, w, bias, residual, y, threads)


def pack_depthwise(w):
    """Weights (C, channels per group, taps...) as `build_depthwise` reads them: [block][tap][channel of the group][lane]."""
    cdef Py_ssize_t lanes = current_table().lanes
    c, k = w.shape[:2]
    t = int(np.prod(w.shape[2:]))
    whole, blocks = c // lanes, -(-c // lanes)
    packed = aligned_floats(blocks * lanes * k * t)
    out = packed.reshape(blocks, t, k, lanes)       # no taps: a phase of a transposed convolution that no tap reaches
    w = w.reshape(c, k, t)
    out[:whole] = w[: whole * lanes].reshape(whole, lanes, k, t).transpose(0, 3, 2, 1)
    if whole < blocks:
        out[whole] = 0
        out[whole, :, :, : c - whole * lanes] = w[whole * lanes :].transpose(2, 1, 0)
    return packed


# ---------------------------------------------------------------- dense
cdef struct dense_t:
    const KernelTable *table
    Py_ssize_t m, k, o, whole, partial, blocks
    Py_ssize_t units4, units2, units1, chunk_rows, row_chunks
    Py_ssize_t some_units               # of a chunk
    int gathers                         # rows of x are laid side by side first
    int has_residual                    # then it is operand 3, and y operand 4
    activation_t act


cdef void dense_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const dense_t *g = <const dense_t *>geometry
    cdef const KernelTable *table = g.table
    cdef Py_ssize_t lanes = table.lanes, zero = 0, units = g.units4 + g.units2 + g.units1
    cdef Py_ssize_t first = chunk // g.row_chunks * g.some_units, last = smaller(first + g.some_units, units)
    cdef Py_ssize_t part = chunk % g.row_chunks, unit, block, blocks, row, left, pieces, valid, end, i, p, width
    cdef const float *r = <const float *>args[3]
    cdef const float *x
    cdef float *y = <float *>args[4 if g.has_residual else 3]
    cdef float *to
    cdef float *rest = <float *>scratch + 4 * lanes * 16
    cdef float *gathered = rest + 4 * lanes * 16
    cdef conv_tile_t t
    t.taps = &zero
    t.skips = NULL
    t.n_taps = 1
    t.planes = g.whole
    t.channels = lanes
    t.partial = g.partial
    t.yplane = lanes
    t.residual = NULL
    t.rplane = lanes
    t.first = t.last = 1
    t.ahead_lines = 0
    t.low = g.act.low
    t.high = g.act.high
    row = part * g.chunk_rows
    end = smaller(row + g.chunk_rows, g.m)
    width = table.conv.width[4 if first < g.units4 else 2 if first < g.units4 + g.units2 else 1]
    pieces = (end - row + width - 1) // width
    while pieces > 0:
        left = (end - row + pieces - 1) // pieces
        x = <const float *>args[0] + row * g.k
        t.x = x
        t.xplane = lanes
        t.xstep = g.k
        if g.gathers:
            for i in range(left):
                for p in range(g.whole):
                    memcpy(gathered + (p * left + i) * lanes, x + i * g.k + p * lanes, lanes * sizeof(float))
                memcpy(gathered + (g.whole * left + i) * lanes, x + i * g.k + g.whole * lanes, g.partial * sizeof(float))
            t.x = gathered
            t.xplane = left * lanes
            t.xstep = lanes
        for unit in range(first, last):
            if unit < g.units4:
                blocks = 4
                block = 4 * unit
            elif unit < g.units4 + g.units2:
                blocks = 2
                block = 4 * g.units4 + 2 * (unit - g.units4)
            else:
                blocks = 1
                block = g.blocks - 1
            # the last unit may end beyond the last output: its tiles go to scratch
            valid = smaller(g.o - block * lanes, blocks * lanes)
            t.bias = <const float *>args[2] + block * lanes
            t.w = <const float *>args[1] + block // 2 * g.k * 2 * lanes
            t.w2 = t.w + g.k * 2 * lanes
            to = y + row * g.o + block * lanes
            if g.has_residual:
                t.residual = r + row * g.o + block * lanes
                t.rstep = g.o
            if valid == blocks * lanes:
                t.y = to
                t.ystep = g.o
                table.conv.blocked[blocks][0](<int>left, 1, &t)
            else:
                t.y = <float *>scratch
                t.ystep = blocks * lanes
                if g.has_residual:
                    # no float beyond the last output is read either
                    for i in range(left):
                        memcpy(rest + i * t.ystep, t.residual + i * g.o, valid * sizeof(float))
                    t.residual = rest
                    t.rstep = t.ystep
                table.conv.blocked[blocks][0](<int>left, 1, &t)
                for i in range(left):
                    memcpy(to + i * g.o, t.y + i * t.ystep, valid * sizeof(float))
            if g.act.kind != ACT_NONE:
                for i in range(left):
                    table.vector.activate(g.act.kind, to + i * g.o, to + i * g.o, valid, g.act.alpha, g.act.beta)
        row = row + left
        pieces = pieces - 1


cdef Py_ssize_t sets_of(Py_ssize_t stride):
    """How many of a first-level cache's sets (64 of 64 bytes) lie under rows that are so many floats apart."""
    cdef Py_ssize_t lines = stride // LINE, sets = 64
    while sets > 1 and lines % 2 == 0:
        lines = lines // 2
        sets = sets // 2
    return sets


def build_dense(inputs, outputs, *, activation=None):
    """Dense layer ``y = act(x @ w.T + bias)``, or ``act(x @ w.T + bias + residual)``.

    Parameters
    ----------
    inputs : x, weights, bias; with a residual, `build_dense_add`
        x is plain with its last axis K, the axes before it rows; weights (O, K) packed by `pack_dense`, bias by `pack_bias`;
        the residual plain, of the shape of y.
    outputs : y
        Plain, its last axis O.
    """
    xv, wv, bv, *added = inputs
    yv, = outputs
    cdef dense_t g
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes
    memset(&g, 0, sizeof(g))
    if not xv.is_plain or not yv.is_plain or xv.shape[:-1] != yv.shape[:-1]:
        raise ValueError(f"dense: {xv} -> {yv}")
    for rv in added:
        if not rv.is_plain or rv.shape != yv.shape:
            raise ValueError(f"dense: residual {rv} for {yv}")
        g.has_residual = 1
    g.table = table
    g.k = xv.shape[-1]
    g.o = yv.shape[-1]
    g.m = int(np.prod(xv.shape[:-1]))
    g.whole = g.k // lanes
    g.partial = g.k % lanes
    g.blocks = (g.o + lanes - 1) // lanes
    if g.m <= table.conv.width[4] and table.conv.blocked[4][0] != NULL:
        g.units4 = g.blocks // 4
    g.units2 = (g.blocks - 4 * g.units4) // 2
    g.units1 = g.blocks % 2
    g.chunk_rows = at_least(2000000 // at_least(g.k * lanes * 2, 1), 4 * table.conv.width[2])
    g.row_chunks = (g.m + g.chunk_rows - 1) // g.chunk_rows
    # the pixels of a tile would push each other out of the few sets of the cache that all of them share
    pieces = at_least((g.m + table.conv.width[4 if g.units4 else 2] - 1) // table.conv.width[4 if g.units4 else 2], 1)
    g.gathers = (g.m + pieces - 1) // pieces > WAYS * sets_of(g.k)
    g.some_units = 4 if g.gathers else 1
    g.act = activation_of(activation)
    return make_launch(
        "dense",
        dense_chunk,
        &g,
        sizeof(g),
        (g.units4 + g.units2 + g.units1 + g.some_units - 1) // g.some_units * g.row_chunks,
        4 * 4 * lanes * 16 * 2 + (4 * (g.k + lanes) * table.conv.width[1] if g.gathers else 0),
        (xv.nbytes, 4 * g.k * g.blocks * lanes, 4 * g.blocks * lanes, *(rv.nbytes for rv in added), yv.nbytes),
        2.0 * g.m * g.k * g.o,
        xv.nbytes + yv.nbytes * (1 + len(added)) + 4.0 * g.k * g.o,
    )


def dense(Launch launch, const float[::1] x, const float[::1] w, const float[::1] bias, float[::1] y, int threads=1):
    """Run a dense layer built by `build_dense` on these buffers, on at most `threads` threads."""
    cdef void *args[MAX_ARGS]
    launch.check(0, x.nbytes)
    launch.check(1, w.nbytes)
    launch.check(2, bias.nbytes)
    launch.check(3, y.nbytes)
    if launch.n_chunks == 0:
        return
    args[0] = <void *>&x[0] if x.shape[0] else NULL
    args[1] = <void *>&w[0] if w.shape[0] else NULL
    args[2] = <void *>&bias[0]
    args[3] = &y[0]
    launch.run(args, threads)


def build_dense_add(inputs, outputs, *, activation=None):
    """`build_dense` with a fourth input, the residual."""
    x, w, bias, residual = inputs
    return build_dense((x, w, bias, residual), outputs, activation=activation)


def dense_add(Launch launch, const float[::1] x, const float[::1] w, const float[::1] bias, const float[::1] residual, float[::1] y,
              int threads=1):
    """Run a dense layer built by `build_dense_add` on these buffers, on at most `threads` threads."""
    run_five(launch, x, w, bias, residual, y, threads)


def pack_dense(w):
    """Weights (O, K) as `build_dense` reads them."""
    return pack_conv(w[:, :, None], 1, current_table().lanes)


# ---------------------------------------------------------------- dense, few rows
# A few rows of x are memory-bound whatever the layout: the weights (O, K) are read once, as they are, eight rows side by side.
# Panels as `pack_dense` makes them would be read no faster from memory, from the third-level cache in 0.7 of the time; but packing
# takes as long as some hundred runs save.
cdef struct dense_rows_t:
    const KernelTable *table
    Py_ssize_t m, k, o, chunk_outputs
    activation_t act


cdef void dense_rows_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const dense_rows_t *g = <const dense_rows_t *>geometry
    cdef Py_ssize_t first = chunk * g.chunk_outputs, end = first + g.chunk_outputs, o, n, row
    cdef const float *x = <const float *>args[0]
    cdef const float *w = <const float *>args[1]
    cdef const float *bias = <const float *>args[2]
    cdef float *y = <float *>args[3]
    if end > g.o:
        end = g.o
    o = first
    while o < end:
        n = end - o if end - o < DOT_ROWS else DOT_ROWS
        for row in range(g.m):
            g.table.conv.dot(x + row * g.k, w + o * g.k, g.k, <int>n, bias + o if bias != NULL else NULL, y + row * g.o + o,
                             g.act.low, g.act.high)
        o = o + n
    if g.act.kind != ACT_NONE:
        for row in range(g.m):
            g.table.vector.activate(g.act.kind, y + row * g.o + first, y + row * g.o + first, end - first, g.act.alpha, g.act.beta)


def build_dense_rows(inputs, outputs, *, activation=None):
    """Dense layer ``y = act(x @ w.T + bias)`` for few rows of x, with the weights as they are.

    Parameters
    ----------
    inputs : x (..., K), weights (O, K), bias (O,) or None
        Plain.
    outputs : y (..., O)
        Plain.
    """
    xv, wv, bv = inputs
    yv, = outputs
    cdef dense_rows_t g
    memset(&g, 0, sizeof(g))
    if not (xv.is_plain and wv.is_plain and yv.is_plain) or xv.shape[:-1] != yv.shape[:-1] or wv.shape != (yv.shape[-1], xv.shape[-1]):
        raise ValueError(f"dense_rows: {xv}, {wv} -> {yv}")
    if bv is not None and bv.shape != yv.shape[-1:]:
        raise ValueError(f"dense_rows: bias {bv} for {yv}")
    g.table = current_table()
    g.k = xv.shape[-1]
    g.o = yv.shape[-1]
    g.m = int(np.prod(xv.shape[:-1], dtype=np.int64))
    g.chunk_outputs = (at_least(200000 // at_least(g.k * g.m, 1), 1) + DOT_ROWS - 1) // DOT_ROWS * DOT_ROWS
    g.act = activation_of(activation)
    return make_launch(
        "dense rows",
        dense_rows_chunk,
        &g,
        sizeof(g),
        (g.o + g.chunk_outputs - 1) // g.chunk_outputs if g.m else 0,
        0,
        (xv.nbytes, wv.nbytes, bv.nbytes if bv is not None else 0, yv.nbytes),
        2.0 * g.m * g.k * g.o,
        xv.nbytes + wv.nbytes + yv.nbytes,
    )


def dense_rows(Launch launch, const float[::1] x, const float[::1] w, const float[::1] bias, float[::1] y, int threads=1):
    """Run a dense layer built by `build_dense_rows` on these buffers, on at most `threads` threads."""
    cdef void *args[MAX_ARGS]
    launch.check(0, x.nbytes)
    launch.check(1, w.nbytes)
    launch.check(2, bias.nbytes if bias is not None else 0)
    launch.check(3, y.nbytes)
    if launch.n_chunks == 0:
        return
    args[0] = <void *>&x[0] if x.shape[0] else NULL
    args[1] = <void *>&w[0] if w.shape[0] else NULL
    args[2] = <void *>&bias[0] if bias is not None else NULL
    args[3] = &y[0]
    launch.run(args, threads)
