# cython: language_level=3
"""Dense layers over the tiles of the convolution.

Layout
    x, y, residual   x (M, K), y and residual (M, O), plain; a row is read as a pixel whose planes are its runs of `lanes` floats
    weights          `dense`: panels as `pack_conv` writes them for a kernel of one tap, [panel][K][B * lanes]
                     `dense_half`: the same of float16, or of bfloat16 with the two blocks of a panel in turn, number by number
                     `dense_rows`: (O, K), as they are

Loop order of a chunk
    A chunk of `dense` is a run of rows and one unit of 1, 2 or 4 output blocks. Where rows lie a power of two apart, the pixels of
    a tile would push each other out of the few sets of the first-level cache that all of them share: then a tile's rows are laid
    side by side in scratch first, and a chunk has several units, which share that. Chunks are four times as long as those of other
    kernels, because each reads its units' weights anew.
    `dense_half` is for weights that come from memory at half the size: tiles of its own (tiles/half.pyx) widen them in registers. A
    chunk is a run of rows and some panels, which a tile takes side by side where rows are few. Its sums go as those of `dense`: it
    gives the bits of that kernel on the widened weights.
    A chunk of `dense_rows` is a run of outputs, eight rows of weights at a time, for every row of x.
"""

from libc.stdint cimport uint16_t
from libc.string cimport memcpy, memset

import numpy as np

from cnnengine._kernels.activation cimport activation_of, activation_t
from cnnengine._kernels.chunks cimport BYTES_PER_NS, CHUNK_NS, FLOPS_PER_NS
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, larger, smaller
from cnnengine._kernels.launch cimport make_launch
from cnnengine._kernels.table cimport ACT_NONE, KernelTable
from cnnengine._kernels.tiles.conv cimport DOT_ROWS, LINE, conv_tile_t
from cnnengine._kernels.tiles.half cimport half_dense_fn, half_tile_t

from cnnengine._kernels.cast import HALVES

cdef enum:
    WAYS = 4                # lines of one set of the first-level cache, of eight or more, that a tile's pixels may take


cdef struct dense_t:
    const KernelTable *table
    Py_ssize_t m, k, o, whole, partial, blocks
    Py_ssize_t units4, units2, units1, chunk_rows, row_chunks
    Py_ssize_t some_units               # of a chunk
    int gathers                         # rows of x are laid side by side first
    int has_residual
    activation_t act


cdef void dense_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const dense_t *g = <const dense_t *>geometry
    cdef const KernelTable *table = g.table
    cdef Py_ssize_t lanes = table.lanes, zero = 0, units = g.units4 + g.units2 + g.units1
    cdef Py_ssize_t first = chunk // g.row_chunks * g.some_units, last = smaller(first + g.some_units, units)
    cdef Py_ssize_t part = chunk % g.row_chunks, unit, block, blocks, row, left, pieces, valid, end, i, p, width
    cdef const float *r = <const float *>args[3]
    cdef const float *x
    cdef float *y = <float *>args[4]
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
    pieces = ceil_div(end - row, width)
    while pieces > 0:
        left = ceil_div(end - row, pieces)
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
    inputs : x, weights, bias, residual (or None)
        x is plain with its last axis K, the axes before it rows; weights (O, K) packed by `pack_dense`, bias by `pack_bias`;
        the residual plain, of the shape of y.
    outputs : y
        Plain, its last axis O.
    """
    xv, wv, bv, rv = inputs
    yv, = outputs
    cdef dense_t g
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes
    memset(&g, 0, sizeof(g))
    if not xv.is_plain or not yv.is_plain or xv.shape[:-1] != yv.shape[:-1]:
        raise ValueError(f"dense: {xv} -> {yv}")
    if rv is not None:
        if not rv.is_plain or rv.shape != yv.shape:
            raise ValueError(f"dense: residual {rv} for {yv}")
        g.has_residual = 1
    g.table = table
    g.k = xv.shape[-1]
    g.o = yv.shape[-1]
    g.m = int(np.prod(xv.shape[:-1]))
    g.whole = g.k // lanes
    g.partial = g.k % lanes
    g.blocks = ceil_div(g.o, lanes)
    if g.m <= table.conv.width[4] and table.conv.blocked[4][0] != NULL:
        g.units4 = g.blocks // 4
    g.units2 = (g.blocks - 4 * g.units4) // 2
    g.units1 = g.blocks % 2
    g.chunk_rows = larger(4 * CHUNK_NS * FLOPS_PER_NS // larger(4 * g.k * lanes, 1), 4 * table.conv.width[2])
    g.row_chunks = ceil_div(g.m, g.chunk_rows)
    # the pixels of a tile would push each other out of the few sets of the cache that all of them share
    pieces = larger(ceil_div(g.m, table.conv.width[4 if g.units4 else 2]), 1)
    g.gathers = ceil_div(g.m, pieces) > WAYS * sets_of(g.k)
    g.some_units = 4 if g.gathers else 1
    g.act = activation_of(activation)
    return make_launch(
        "dense",
        dense_chunk,
        &g,
        sizeof(g),
        ceil_div(g.units4 + g.units2 + g.units1, g.some_units) * g.row_chunks,
        4 * 4 * lanes * 16 * 2 + (4 * (g.k + lanes) * table.conv.width[1] if g.gathers else 0),
        (xv.nbytes, 4 * g.k * g.blocks * lanes, 4 * g.blocks * lanes, rv.nbytes if rv is not None else 0, yv.nbytes),
        2.0 * g.m * g.k * g.o,
        xv.nbytes + yv.nbytes + (rv.nbytes if rv is not None else 0) + 4.0 * g.k * g.o,
    )


# ---------------------------------------------------------------- dense, weights of half the size
cdef struct dense_half_t:
    const KernelTable *table
    half_dense_fn tile
    Py_ssize_t m, k, o, panels, chunk_panels, chunk_rows, row_chunks
    int has_residual
    activation_t act


cdef void dense_half_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const dense_half_t *g = <const dense_half_t *>geometry
    cdef Py_ssize_t width = 2 * g.table.lanes, widest = g.table.half.rows, panel, last, some, first, row, end, pieces, left, valid, i
    cdef bint single
    cdef const float *r = <const float *>args[3]
    cdef float *y = <float *>args[4]
    cdef float *to
    cdef float *rest = <float *>scratch + widest * width
    cdef half_tile_t t
    t.k = t.xstep = g.k
    t.low = g.act.low
    t.high = g.act.high
    t.residual = NULL
    t.rstep = 0
    panel = chunk // g.row_chunks * g.chunk_panels
    last = smaller(panel + g.chunk_panels, g.panels)
    first = chunk % g.row_chunks * g.chunk_rows
    end = smaller(first + g.chunk_rows, g.m)
    while panel < last:
        # outputs beyond the last one: a panel that has some is computed into scratch, alone
        some = 1
        if end - first == 1 and panel + 4 <= last and (panel + 4) * width <= g.o:
            some = 4
        elif end - first <= 2 and panel + 2 <= last and (panel + 2) * width <= g.o:
            some = 2
        valid = smaller(g.o - panel * width, some * width)
        single = valid <= width // 2
        t.w = <const uint16_t *>args[1] + panel * width * g.k
        t.bias = <const float *>args[2] + panel * width
        row = first
        pieces = ceil_div(end - first, widest)
        while pieces > 0:
            left = ceil_div(end - row, pieces)
            t.x = <const float *>args[0] + row * g.k
            to = y + row * g.o + panel * width
            if g.has_residual:
                t.residual = r + row * g.o + panel * width
                t.rstep = g.o
            if valid == some * width or (single and valid == width // 2):
                t.y = to
                t.ystep = g.o
                g.tile(<int>left, <int>some, single, &t)
            else:
                t.y = <float *>scratch
                t.ystep = width
                if g.has_residual:
                    for i in range(left):
                        memcpy(rest + i * width, t.residual + i * g.o, valid * sizeof(float))
                    t.residual = rest
                    t.rstep = width
                g.tile(<int>left, 1, single, &t)
                for i in range(left):
                    memcpy(to + i * g.o, t.y + i * width, valid * sizeof(float))
            if g.act.kind != ACT_NONE:
                for i in range(left):
                    g.table.vector.activate(g.act.kind, to + i * g.o, to + i * g.o, valid, g.act.alpha, g.act.beta)
            row = row + left
            pieces = pieces - 1
        panel = panel + some


def build_dense_half(inputs, outputs, *, kind, activation=None):
    """`build_dense` by weights that are packed as float16 or bfloat16 (`kind`), told as uint16.

    Parameters
    ----------
    inputs : x, weights, bias, residual (or None)
        As `build_dense` has them, but for the weights' type.
    outputs : y
    kind : str
        "float16" or "bfloat16".
    """
    xv, wv, bv, rv = inputs
    yv, = outputs
    cdef dense_half_t g
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, padded, ns
    memset(&g, 0, sizeof(g))
    if kind not in HALVES:
        raise ValueError(f"dense_half: {kind!r} is none of {', '.join(HALVES)}")
    if not xv.is_plain or not yv.is_plain or xv.shape[:-1] != yv.shape[:-1]:
        raise ValueError(f"dense_half: {xv} -> {yv}")
    if rv is not None:
        if not rv.is_plain or rv.shape != yv.shape:
            raise ValueError(f"dense_half: residual {rv} for {yv}")
        g.has_residual = 1
    g.table = table
    g.tile = table.half.dense[<int>HALVES[kind]]
    g.k = xv.shape[-1]
    g.o = yv.shape[-1]
    g.m = int(np.prod(xv.shape[:-1], dtype=np.int64))
    g.panels = ceil_div(g.o, 2 * lanes)
    # one chunk reads a panel once for each tile of rows
    g.chunk_rows = larger(4 * CHUNK_NS * FLOPS_PER_NS // larger(4 * g.k * lanes, 1), 4 * table.half.rows)
    g.row_chunks = ceil_div(g.m, g.chunk_rows)
    ns = larger(4 * lanes * g.k // BYTES_PER_NS, 4 * lanes * g.k * smaller(g.m, g.chunk_rows) // FLOPS_PER_NS)
    g.chunk_panels = larger(CHUNK_NS // larger(ns, 1), 1)
    if g.m <= 2:
        g.chunk_panels = ceil_div(g.chunk_panels, 4) * 4
    g.act = activation_of(activation)
    padded = ceil_div(g.o, lanes) * lanes
    return make_launch(
        "dense half",
        dense_half_chunk,
        &g,
        sizeof(g),
        ceil_div(g.panels, g.chunk_panels) * g.row_chunks,
        4 * 2 * lanes * table.half.rows * 2,
        (xv.nbytes, 2 * g.k * padded, 4 * padded, rv.nbytes if rv is not None else 0, yv.nbytes),
        2.0 * g.m * g.k * g.o,
        xv.nbytes + yv.nbytes + (rv.nbytes if rv is not None else 0) + 2.0 * g.k * g.o,
    ).typed(inputs, outputs)


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
    cdef Py_ssize_t first = chunk * g.chunk_outputs, end = smaller(first + g.chunk_outputs, g.o), o, n, row
    cdef const float *x = <const float *>args[0]
    cdef const float *w = <const float *>args[1]
    cdef const float *bias = <const float *>args[2]
    cdef float *y = <float *>args[3]
    o = first
    while o < end:
        n = smaller(end - o, DOT_ROWS)
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
    g.chunk_outputs = ceil_div(larger(CHUNK_NS * BYTES_PER_NS // larger(4 * g.k * g.m, 1), 1), DOT_ROWS) * DOT_ROWS
    g.act = activation_of(activation)
    return make_launch(
        "dense rows",
        dense_rows_chunk,
        &g,
        sizeof(g),
        ceil_div(g.o, g.chunk_outputs) if g.m else 0,
        0,
        (xv.nbytes, wv.nbytes, bv.nbytes if bv is not None else 0, yv.nbytes),
        2.0 * g.m * g.k * g.o,
        xv.nbytes + wv.nbytes + yv.nbytes,
    )
