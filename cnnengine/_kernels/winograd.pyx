# cython: language_level=3
"""Winograd convolution F(4x4, 3x3): 3x3 kernels at stride 1 with a quarter of the multiplications.

A tile is 4 x 4 output pixels, made from 6 x 6 input pixels: 36 products of a channel instead of 144. Larger tiles lose accuracy
(against float64, relative to max |y|: this one 0.5-1e-5, 6x6 tiles up to 3e-5, direct 1-4e-6) and are hardly faster.

Layout
    x, y, residual   planes (see runtime/layout.py)
    weights          G g G^T, made in float64: [element of 36] of panels as `pack_conv` writes them for 1x1 kernels
    scratch          V [element][input block][tile of the chunk][lane], then M [element][output block of the pass][tile][lane]

Loop order of a chunk
    A chunk is a run of tiles, counted through all images, and a part of the output blocks. It transforms every input block of its
    tiles into V. Then, pass by pass of a few output blocks: for every element a matrix product of V and weights, M, by the tiles of
    the 1x1 convolution; then M is transformed and stored with bias, residual and activation. V and M stay in the second-level
    cache; the weights are read once per run of tiles, so runs are longer where there are many weights.
    Few tiles give few runs: then output blocks are shared out too, and each chunk makes its own V.

Border tiles reach over the last pixels of x's halo: what is beyond is read as zero, and output pixels beyond y are not written.
"""

from libc.math cimport INFINITY
from libc.string cimport memcpy, memset

import numpy as np

from cnnengine._kernels.conv cimport activation_of, activation_t, aligned_floats, run_five
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.planes cimport fill_halo, planes_of, planes_t
from cnnengine._kernels.table cimport ACT_NONE, KernelTable
from cnnengine._kernels.tiles.conv cimport (
    WINOGRAD_ELEMENTS, WINOGRAD_IN, WINOGRAD_OUT, conv_tile_fn, conv_tile_t, start_ahead, step_ahead, winograd_output_t
)

cdef extern from "pack.h" nogil:
    void transform_panel(const float *g, float *u, Py_ssize_t size, Py_ssize_t width)

cdef enum:
    PASS_CHANNELS = 128                 # output channels of a pass
    MAX_PANEL = 32                      # output channels of a panel of weights, at most


cdef struct winograd_t:
    const KernelTable *table
    planes_t x, y, r
    Py_ssize_t x0, rows, columns                # first pixel of the first tile; pixels that tiles may read from there
    Py_ssize_t tiles_w, tiles, total            # tiles of a row, of an image, of all
    Py_ssize_t run, runs, parts, part_blocks, pass_blocks
    Py_ssize_t whole, partial, panel            # input planes, channels of one more; floats of the weights of one element
    int has_residual
    activation_t act


cdef inline Py_ssize_t least(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a < b else b


cdef void winograd_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const winograd_t *g = <const winograd_t *>geometry
    cdef const KernelTable *table = g.table
    cdef Py_ssize_t lanes = table.lanes, zero = 0
    cdef Py_ssize_t part = chunk % g.parts, first = chunk // g.parts * g.run, count = least(g.run, g.total - first)
    cdef Py_ssize_t block = part * g.part_blocks, end = least(block + g.part_blocks, g.y.blocks)
    cdef Py_ssize_t planes = g.x.blocks, b, t, n, ty, tx, e, blocks, unit, at, pieces, left, width, i, stop
    # one pixel more between elements: steps of a multiple of 4096 bytes would meet in one set of the cache
    cdef Py_ssize_t vplane = count * lanes, vstep = planes * vplane + lanes, mstep
    cdef float *v = <float *>scratch
    cdef float *m = v + WINOGRAD_ELEMENTS * (g.x.blocks * g.run * lanes + lanes)
    cdef float *no_bias = m + WINOGRAD_ELEMENTS * (g.pass_blocks * g.run * lanes + lanes)
    cdef Py_ssize_t panel = lanes * (g.whole * lanes + g.partial)   # floats of the weights of one element and output block
    cdef const float *ahead
    cdef float *yp
    cdef const float *residual = <const float *>args[3] if g.has_residual else NULL
    cdef conv_tile_t tile
    cdef conv_tile_fn product
    cdef winograd_output_t out

    for b in range(planes):
        for t in range(count):
            n = (first + t) // g.tiles
            ty = (first + t) % g.tiles // g.tiles_w * WINOGRAD_OUT
            tx = (first + t) % g.tiles_w * WINOGRAD_OUT
            table.conv.winograd_input(
                <const float *>args[0] + g.x0 + n * g.x.sn + b * g.x.sp + ty * g.x.sh + tx * lanes,
                g.x.sh, g.rows - ty, g.columns - tx, v + b * vplane + t * lanes, vstep,
            )

    memset(no_bias, 0, 4 * lanes * sizeof(float))
    memset(&tile, 0, sizeof(tile))
    tile.bias = no_bias
    tile.taps = &zero
    tile.n_taps = 1
    tile.planes = g.whole
    tile.channels = lanes
    tile.partial = g.partial
    tile.xplane = tile.yplane = vplane
    tile.xstep = tile.ystep = lanes
    tile.first = tile.last = 1
    tile.low = -INFINITY
    tile.high = INFINITY
    out.low = g.act.low
    out.high = g.act.high
    out.yrow = g.y.sh
    out.rrow = g.r.sh
    out.residual = NULL
    while block < end:
        blocks = least(g.pass_blocks, end - block)
        mstep = blocks * vplane + lanes
        out.step = mstep
        for e in range(WINOGRAD_ELEMENTS):
            b = 0
            while b < blocks:
                unit = 4 if count <= table.conv.width[4] and blocks - b >= 4 else 2 if blocks - b >= 2 else 1
                product = table.conv.blocked[unit][1]
                width = table.conv.width[unit]
                tile.w = <const float *>args[1] + e * g.panel + (block + b) * panel
                tile.w2 = tile.w + 2 * panel
                pieces = (count + width - 1) // width
                at = 0
                # meanwhile the weights of the next blocks, or of the next element
                ahead = <const float *>args[1] + (
                    e * g.panel + (block + b + unit) * panel if b + unit < blocks else (e + 1) * g.panel + block * panel
                )
                start_ahead(&tile, ahead, unit * panel if e + 1 < WINOGRAD_ELEMENTS or b + unit < blocks else 0, pieces)
                while pieces > 0:
                    left = (count - at + pieces - 1) // pieces
                    tile.x = v + e * vstep + at * lanes
                    tile.y = m + e * mstep + b * vplane + at * lanes
                    product(<int>left, &tile)
                    step_ahead(&tile, ahead + unit * panel)
                    at = at + left
                    pieces = pieces - 1
                b = b + unit
        for b in range(blocks):
            out.bias = <const float *>args[2] + (block + b) * lanes
            for t in range(count):
                n = (first + t) // g.tiles
                ty = (first + t) % g.tiles // g.tiles_w * WINOGRAD_OUT
                tx = (first + t) % g.tiles_w * WINOGRAD_OUT
                out.m = m + b * vplane + t * lanes
                out.y = <float *>args[4] + g.y.offset + n * g.y.sn + (block + b) * g.y.sp + ty * g.y.sh + tx * lanes
                if residual != NULL:
                    out.residual = residual + g.r.offset + n * g.r.sn + (block + b) * g.r.sp + ty * g.r.sh + tx * lanes
                out.rows = g.y.h - ty
                out.columns = g.y.w - tx
                table.conv.winograd_output(&out)
                if (first + t) % g.tiles == 0:
                    fill_halo(&g.y, <float *>args[4], n, block + b)
            if g.act.kind != ACT_NONE:
                # the tiles of one row lie side by side
                t = 0
                while t < count:
                    n = (first + t) // g.tiles
                    ty = (first + t) % g.tiles // g.tiles_w * WINOGRAD_OUT
                    tx = (first + t) % g.tiles_w
                    stop = least(g.tiles_w, tx + count - t)
                    yp = <float *>args[4] + g.y.offset + n * g.y.sn + (block + b) * g.y.sp + ty * g.y.sh + tx * WINOGRAD_OUT * lanes
                    width = least(stop * WINOGRAD_OUT, g.y.w) - tx * WINOGRAD_OUT
                    for i in range(least(WINOGRAD_OUT, g.y.h - ty)):
                        table.vector.activate(g.act.kind, yp + i * g.y.sh, yp + i * g.y.sh, width * lanes, g.act.alpha, g.act.beta)
                    t = t + stop - tx
        block = block + blocks


def build_winograd(inputs, outputs, *, pads=(0, 0), activation=None):
    """Convolution with 3x3 kernels, stride 1, no dilation, one group, one depth.

    Parameters
    ----------
    inputs : x, weights, bias, residual (or None)
        Views; weights are packed by `pack_winograd`, bias by `pack_bias`.
    outputs : y
    pads : (top, left)
        Pixels of x's halo that the first window covers; y's extent says where the last one ends.
    activation : Activation, optional
    """
    xv, wv, bv, rv = inputs
    yv, = outputs
    cdef winograd_t g
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, longest, scratch
    memset(&g, 0, sizeof(g))
    if xv.lanes != lanes or yv.lanes != lanes or xv.groups != 1 or yv.groups != 1 or xv.n != yv.n or xv.dhw[0] != 1 or yv.dhw[0] != 1:
        raise ValueError(f"winograd: {xv} -> {yv}")
    g.table = table
    g.x = planes_of(xv)
    g.y = planes_of(yv)
    top, left = pads
    if (top > g.x.h0 or left > g.x.w0 or top < 0 or left < 0
            or g.y.h + 2 > top + g.x.h + g.x.h1 or g.y.w + 2 > left + g.x.w + g.x.w1):
        raise ValueError(f"winograd: the windows of {yv} leave {xv}")
    g.x0 = g.x.offset - top * g.x.sh - left * lanes
    g.rows = g.y.h + 2
    g.columns = g.y.w + 2
    if rv is not None:
        if rv.shape != yv.shape or rv.lanes != lanes or rv.groups != 1:
            raise ValueError(f"winograd: residual {rv} for {yv}")
        g.has_residual = 1
        g.r = planes_of(rv)
    g.act = activation_of(activation)
    g.whole = xv.c // lanes
    g.partial = xv.c % lanes
    g.panel = xv.c * g.y.blocks * lanes
    g.tiles_w = (g.y.w + WINOGRAD_OUT - 1) // WINOGRAD_OUT
    g.tiles = g.tiles_w * ((g.y.h + WINOGRAD_OUT - 1) // WINOGRAD_OUT)
    g.total = g.tiles * xv.n
    # longer runs where the weights outweigh the cache; runs of nearly equal length
    longest = 56 if g.panel * WINOGRAD_ELEMENTS >= 1000000 else 28
    g.runs = (g.total + longest - 1) // longest
    g.run = (g.total + g.runs - 1) // g.runs if g.runs else 1
    g.runs = (g.total + g.run - 1) // g.run
    # pieces for several threads, of whole passes
    g.pass_blocks = least(PASS_CHANNELS // lanes, g.y.blocks)
    g.parts = 1
    g.part_blocks = g.y.blocks
    while g.runs * g.parts < 4 and g.part_blocks >= 2 * g.pass_blocks:
        g.part_blocks = (g.part_blocks // 2 + g.pass_blocks - 1) // g.pass_blocks * g.pass_blocks
        g.parts = (g.y.blocks + g.part_blocks - 1) // g.part_blocks
    scratch = WINOGRAD_ELEMENTS * ((g.x.blocks + g.pass_blocks) * g.run * lanes + 2 * lanes) + 4 * lanes
    return make_launch(
        "winograd",
        winograd_chunk,
        &g,
        sizeof(g),
        g.runs * g.parts if g.y.blocks else 0,
        4 * scratch,
        (xv.nbytes, 4 * WINOGRAD_ELEMENTS * g.panel, 4 * g.y.blocks * lanes, rv.nbytes if rv is not None else 0, yv.nbytes),
        2.0 * 9 * xv.n * yv.c * g.y.h * g.y.w * xv.c,
        xv.nbytes + yv.nbytes + 4.0 * WINOGRAD_ELEMENTS * g.panel + (rv.nbytes if rv is not None else 0),
    )


def winograd(Launch launch, const float[::1] x, const float[::1] w, const float[::1] bias, const float[::1] residual, float[::1] y,
             int threads=1):
    """Run a convolution built by `build_winograd` on these buffers, on at most `threads` threads."""
    run_five(launch, x, w, bias, residual, y, threads)


def pack_winograd(w):
    """Weights (O, C, 3, 3) as `build_winograd` reads them."""
    cdef Py_ssize_t lanes = current_table().lanes, o = w.shape[0], c = w.shape[1], size = (o + lanes - 1) // lanes * lanes * c
    cdef Py_ssize_t at, width, valid, k, i, t
    cdef float taps[9 * MAX_PANEL]
    cdef float row[9]
    packed = aligned_floats(WINOGRAD_ELEMENTS * size)
    cdef float[::1] target = packed
    if size == 0:
        return packed
    w = np.ascontiguousarray(w, np.float32)
    cdef const char *source = <const char *><size_t>w.ctypes.data      # perhaps unaligned: a view of a file
    with nogil:
        at = 0
        while at < o:
            width = 2 * lanes if o - at > lanes else lanes
            valid = width if o - at > width else o - at
            memset(taps, 0, sizeof(taps))
            for k in range(c):
                for i in range(valid):
                    memcpy(row, source + ((at + i) * c + k) * 9 * sizeof(float), 9 * sizeof(float))
                    for t in range(9):
                        taps[t * width + i] = row[t]
                transform_panel(taps, &target[at * c + k * width], size, width)
            at = at + width
    return packed
