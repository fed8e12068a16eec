# cython: language_level=3
"""Depthwise convolution, and convolution in groups of a few channels, over the tiles of the instruction set.

Layout
    x, y, residual   planes (see layout.py); no group leaves a block, so that a block of y reads its own block of x and no other
    weights          [block][tap][channel of the group][lane]

Loop order of a chunk
    A chunk is one image, one block and a run of output rows. Inside: some rows at a time, so that an activation finds them in the
    first-level cache, and their pixels in tiles. Chunks go row by row through all blocks. Rows of a grid whose pixels do not lie
    side by side (a phase of a transposed convolution) are made in scratch, one at a time, and copied from there.

Taps and the output grid are those of `conv`. Kernels whose taps are runs of 3, 5 or 7 neighbours have tiles that load each pixel
once for all of them.
"""

from libc.string cimport memcpy, memset

from cnnengine._kernels.activation cimport activation_of, activation_t
from cnnengine._kernels.chunks cimport CHUNK_NS, LARGE_PLANE
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, larger, smaller
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.planes cimport fill_halo, planes_of, planes_t
from cnnengine._kernels.table cimport ACT_NONE, KernelTable
from cnnengine._kernels.tiles.conv cimport depthwise_rows_fn, depthwise_tile_t

cdef enum:
    FLOPS_PER_NS = 24       # a pixel is loaded for one or a few multiply-adds


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
    cdef Py_ssize_t row, i, end = smaller((part + 1) * g.chunk_rows, g.rows), lanes = g.table.lanes, some
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
    t.xrow = g.xh
    t.yrow = g.yh
    t.rrow = g.r.sh
    row = part * g.chunk_rows
    while row < end:
        # some rows at a time: an activation finds them in the first-level cache
        some = smaller(smaller(g.rows_h - row % g.rows_h, g.some_rows), end - row)
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
    cdef Py_ssize_t *offsets
    cdef Launch launch
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
    g.some_rows = 1 if g.yw != lanes else larger(256 // larger(g.width, 1), 1)
    if rv is not None:
        if rv.shape != yv.shape or rv.lanes != lanes or rv.groups != 1 or extent is not None or tuple(step) != (1, 1, 1):
            raise ValueError(f"depthwise: residual {rv} for {yv}")
        g.has_residual = 1
        g.r = planes_of(rv)
    # row by row through all blocks, as convolutions of large planes go: what a thread wrote there, it mostly reads here
    g.chunk_rows = larger(CHUNK_NS * FLOPS_PER_NS // larger(2 * n_taps * g.per_group * lanes * g.width, 1), 1)
    i = ceil_div(g.rows, g.chunk_rows)
    if g.rows * g.width >= LARGE_PLANE:
        i = ceil_div(i, 4) * 4
    g.chunk_rows = larger(ceil_div(g.rows, i), 1)
    g.row_chunks = ceil_div(g.rows, g.chunk_rows)
    for i in range(n_taps):
        offset = taps[i][0] * g.x.sd + taps[i][1] * g.x.sh + taps[i][2] * lanes
        lowest = smaller(offset, lowest) if i else offset
        highest = larger(offset, highest) if i else offset
    if g.rows and g.width and xv.n and xv.c and n_taps:
        first = g.x.offset + lowest
        last = g.x.offset + (xv.n - 1) * g.x.sn + (g.x.blocks - 1) * g.x.sp + (od - 1) * g.xd + (oh - 1) * g.xh + (ow - 1) * g.xw
        last = last + highest + lanes - 1
        if first < 0 or last >= xv.size:
            raise ValueError(f"depthwise: the taps reach elements {first} to {last} of a buffer of {xv.size}")
    launch = make_launch(
        "depthwise" if per_group == 1 else f"grouped {per_group}",
        depthwise_chunk,
        &g,
        sizeof(g),
        xv.n * g.y.blocks * g.row_chunks,
        4 * g.width * lanes if g.yw != lanes else 0,
        (xv.nbytes, 4 * g.y.blocks * n_taps * g.per_group * lanes, 4 * g.y.blocks * lanes, rv.nbytes if rv is not None else 0, yv.nbytes),
        2.0 * xv.n * yv.c * g.rows * g.width * n_taps * g.per_group,
        xv.nbytes + yv.nbytes + (rv.nbytes if rv is not None else 0),
    )
    offsets = <Py_ssize_t *>launch.tail(n_taps * sizeof(Py_ssize_t))
    for i in range(n_taps):
        offsets[i] = taps[i][0] * g.x.sd + taps[i][1] * g.x.sh + taps[i][2] * lanes
    return launch
