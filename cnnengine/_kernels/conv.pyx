# cython: language_level=3
"""Direct convolution over the tiles of the instruction set.

Layout
    x, y, residual   planes (see layout.py); x may have planes of one channel (the first layer), or be plain: then a chunk
                     copies some of its rows between zeros, so that the whole image is neither copied nor read twice from afar.
                     An image (N, H, W, C) is one channel of rows of W * C pixels, its kernel's rows C times as long.
    weights          panels of two output blocks (the last one of an odd number: one), one after another, group by group:
                     [panel][plane][tap][channel of the plane][B * lanes]; only the last plane of a group may have fewer channels.
                     Of half the size (float16, bfloat16) they lie likewise, and a chunk widens a K block at a time, in its scratch

Loop order of a chunk
    A chunk is one image, one unit of 1 to 4 output blocks and a run of output rows. Inside: K block of input planes, row, tile.
    A K block's weights stay in the second-level cache while the rows pass (its lines come early enough: two are needed every 14
    cycles); sums of unfinished K blocks wait in y, so K blocks are as long as that allows.
    Rows are cut into tiles of nearly equal width, so that no width falls off a cliff. A 1x1 convolution without halo is one
    long row. Chunks run unit by unit where the weights outweigh the input, row by row otherwise. They are up to eight times as long as
    those of other kernels, because each reads its unit's weights anew.

Taps are a table of pixel offsets, and the output grid has a start and a step: dilation, 1-D, 2-D, 3-D and each phase of a
transposed convolution are the same kernel: ``y[start + i * step] = act(sum_t w[t] . x[i * stride + tap_t] + bias + residual)``.
"""

from libc.stdint cimport uint16_t
from libc.string cimport memcpy, memset

from cnnengine._kernels.activation cimport activation_of, activation_t
from cnnengine._kernels.chunks cimport CHUNK_NS, FLOPS_PER_NS, PIECES
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, clamp, larger, smaller
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.planes cimport fill_halo, planes_of, planes_t
from cnnengine._kernels.table cimport ACT_NONE, KernelTable
from cnnengine._kernels.tiles.conv cimport LINE, conv_tile_fn, conv_tile_t, start_ahead, tile_row
from cnnengine._kernels.tiles.half cimport widen_fn

from cnnengine._kernels.cast import HALVES

cdef extern from "portable.h" nogil:
    size_t second_level_cache() noexcept


cdef enum:
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
    widen_fn widen                                  # of weights of half the size; NULL of float32
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
    conv_unit(g, args, x, n, group, unit, part * g.chunk_rows, smaller((part + 1) * g.chunk_rows, g.rows), NULL, 0, <float *>scratch)


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
                      count * g.x.w if unit == 0 else 0, NULL)
        row = last


cdef void conv_unit(const conv_t *g, void *const *args, const float *x, Py_ssize_t n, Py_ssize_t group, Py_ssize_t unit,
                    Py_ssize_t row0, Py_ssize_t row1, const float *coming, Py_ssize_t floats, float *room) noexcept nogil:
    """These rows of one unit; x is the first pixel of the group's first plane. Fetches `floats` of every plane of a plain input, from
    `coming` on, besides. Weights of half the size are widened in `room`."""
    cdef const KernelTable *table = g.table
    cdef const float *w = <const float *>args[1]
    cdef const float *bias = <const float *>args[2]
    cdef const float *residual = <const float *>args[3] if g.has_residual else NULL
    cdef float *y = <float *>args[4]
    cdef Py_ssize_t lanes = table.lanes
    cdef Py_ssize_t block, blocks, row, k0, kn, at, left, pieces, width, k_channels
    cdef Py_ssize_t panel, b, size, tiles, width_max, row_d, row_h, steps = 0, share = 0, turn = 0, start, first, second, depth
    cdef const uint16_t *halves = <const uint16_t *>args[1]
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
    start = n * g.image_weights + group * k_channels * g.w_taps * g.y_blocks * lanes + (block // 2) * panel
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
        kn = smaller(g.whole - k0, g.k_block)
        t.first = k0 == 0
        t.last = k0 + kn == g.whole
        t.planes = kn
        t.partial = g.partial if t.last else 0
        first = start + k0 * g.channels * g.w_taps * (2 if blocks > 1 else 1) * lanes
        second = start + panel + k0 * g.channels * g.w_taps * (1 if blocks == 3 else 2) * lanes
        # meanwhile the next K block, or the next unit's first
        size = kn * g.channels * g.w_taps * (2 if blocks > 1 else 1) * lanes
        width_max = table.conv.width[blocks]
        tiles = (row1 - row0) * ceil_div(g.width, width_max)
        at = first + size + (panel if blocks == 4 and t.last else 0)
        if g.widen == NULL:
            t.w = w + first
            t.w2 = w + second
            start_ahead(&t, w + at, size, tiles)
        else:
            depth = (kn * g.channels + t.partial) * g.w_taps * lanes
            t.w = room
            t.w2 = room + 2 * depth
            g.widen(halves + first, room, (2 if blocks > 1 else 1) * depth)
            if blocks > 2:
                g.widen(halves + second, room + 2 * depth, (blocks - 2) * depth)
            start_ahead(&t, <const float *>(halves + at), size // 2, tiles)
        if floats > 0:
            # a plane's share of a tile, each tile one plane's
            steps = t.n_taps * kn
            share = (floats // LINE + tiles // g.x.c) // larger(tiles // g.x.c, 1)
            share = ceil_div(share, steps) * steps * LINE
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
            pieces = ceil_div(width, width_max) if floats > 0 else 0
            at = 0
            while pieces > 0:
                left = ceil_div(width - at, pieces)
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
               activation=None, write_halo=True, weight_taps=None, weights_per_image=False, kind="float32"):
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
    kind : {"float32", "float16", "bfloat16"}
        What the weights are; of half the size (`packing.NarrowPanels`) they are told as uint16, for x in planes of `lanes` channels.
    """
    xv, wv, bv, rv = inputs
    yv, = outputs
    cdef conv_t g
    cdef Py_ssize_t item = 4, room = 0
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, i, n_taps = len(taps), lowest = 0, highest = 0, offset, first, last
    cdef Py_ssize_t od, oh, ow, cg, og, units, work, widest, staged = 0
    cdef Py_ssize_t *offsets
    cdef Launch launch
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
    g.x_blocks = ceil_div(cg, g.channels)
    g.whole = cg // g.channels
    g.partial = cg % g.channels
    g.y_blocks = ceil_div(og, lanes)
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
        g.width = smaller(work, 56)
        g.rows = g.rows_h = ceil_div(work, g.width)
        g.last_width = work - (g.rows - 1) * g.width if work else 0
        g.xh = g.width * g.x.lanes
        g.yh = g.rh = g.width * lanes
    g.stride_index = stride[2] if stride[2] in (1, 2) else 0

    # K blocks of nearly equal size; a panel of two output blocks takes an eighth of the second-level cache at most
    g.k_block = larger(<Py_ssize_t>second_level_cache() // 8 // larger(n_taps * 2 * lanes * 4 * lanes, 1), 1)
    if g.channels == 1 or g.whole == 0:
        g.k_block = larger(g.whole, 1)
    else:
        g.k_block = ceil_div(g.whole, ceil_div(g.whole, g.k_block))
    if kind != "float32":
        if g.channels == 1 or staged or weights_per_image:
            raise ValueError(f"conv: weights of {kind} for {xv}")
        g.widen = table.half.widen[<int>HALVES[kind]]
        item = 2
        room = (smaller(g.k_block, g.whole) * g.channels + g.partial) * g.w_taps * 4 * lanes
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
    # a row's operations; twice PIECES chunks, where they are neither too short nor too long
    work = larger(2 * cg * n_taps * lanes * (4 if g.units4 else 2) * g.width, 1)
    i = clamp(work * units * groups * xv.n * g.rows // (2 * PIECES), CHUNK_NS * FLOPS_PER_NS, 8 * CHUNK_NS * FLOPS_PER_NS)
    g.chunk_rows = larger(i // work, 1)
    if g.chunk_rows * g.width < 2 * widest:
        g.chunk_rows = ceil_div(2 * widest, larger(g.width, 1))
    if staged:
        # all units of a chunk share the copied rows, at least four rows of pixels
        g.stage_top = min(t[1] for t in taps)
        g.stage_bottom = max(t[1] for t in taps)
        g.stage_rows = larger((STAGE // larger(xv.c * g.x.sh, 1) - (g.stage_bottom - g.stage_top)) // g.stride_h, 4)
        g.chunk_rows = larger(g.chunk_rows // units, g.stage_rows)
    # where the weights outweigh the input and units are many, each unit's weights are read once
    g.units_outside = cg * n_taps * og > xv.c // groups * xv.dhw[0] * xv.dhw[1] * xv.dhw[2]
    if g.units_outside and units * groups * xv.n >= 8 and not staged:
        g.chunk_rows = larger(g.rows, 1)
    g.row_chunks = ceil_div(g.rows, g.chunk_rows)
    g.chunk_rows = larger(ceil_div(g.rows, g.row_chunks), 1)

    for i in range(n_taps):
        offset = taps[i][0] * g.x.sd + taps[i][1] * g.x.sh + taps[i][2] * g.x.lanes
        lowest = smaller(offset, lowest) if i else offset
        highest = larger(offset, highest) if i else offset
    if g.rows and ow and xv.n and n_taps and g.x.blocks:
        first = g.x0 + lowest
        last = g.x0 + (xv.n - 1) * g.x.sn + (g.x.blocks - 1) * g.x.sp + highest + g.x.lanes - 1
        last = last + ((od - 1) * g.xd + (oh - 1) * g.xh + (ow - 1) * g.xw if not flat else (g.x.d * g.x.h * g.x.w - 1) * g.x.lanes)
        if first < 0 or last >= xv.size:
            raise ValueError(f"conv: the taps reach elements {first} to {last} of a buffer of {xv.size}")
    if staged:
        # the taps are checked: now the planes are those of the rows copied at a time
        g.x.sp = ((g.stage_rows - 1) * g.stride_h + g.stage_bottom - g.stage_top + 1) * g.x.sh
    launch = make_launch(
        f"conv {'x'.join(str(n) for n in (table.conv.width[4 if g.units4 else 2], 4 if g.units4 else 2))}"
        + (" rows" if staged else " plain" if g.channels == 1 else " half" if item == 2 else ""),
        staged_chunk if staged else conv_chunk,
        &g,
        sizeof(g),
        xv.n * g.row_chunks if staged else xv.n * groups * units * g.row_chunks,
        4 * (xv.c * g.x.sp if staged else room),
        (
            plain_bytes,
            item * groups * cg * g.w_taps * g.y_blocks * lanes * (xv.n if weights_per_image else 1),
            4 * groups * g.y_blocks * lanes,
            rv.nbytes if rv is not None else 0,
            yv.nbytes,
        ),
        2.0 * xv.n * yv.c * od * oh * ow * cg * n_taps,
        plain_bytes + yv.nbytes + <double>item * groups * cg * n_taps * og + (rv.nbytes if rv is not None else 0),
    )
    offsets = <Py_ssize_t *>launch.tail((n_taps if g.w_taps == n_taps else 2 * n_taps + 1) * sizeof(Py_ssize_t))
    for i in range(0, n_taps, g.run):
        offsets[i // g.run] = taps[i][0] * g.x.sd + taps[i][1] * g.x.sh + taps[i][2] * g.x.lanes
    if g.w_taps != n_taps:
        # the taps between one used and the next
        ends = [-1, *used, g.w_taps]
        for i in range(n_taps + 1):
            offsets[n_taps + i] = ends[i + 1] - ends[i] - 1
    return launch if item == 4 else launch.typed(inputs, outputs)
