# cython: language_level=3
"""Convolution of bfloat16 numbers over the tiles of the instruction set, where it multiplies pairs of them.

Layout
    x                planes (see layout.py) of bfloat16, or of float32: then a chunk rounds the pixels that it reads, in its scratch;
                     it copies them there too where channels of a group are odd, so that a zero completes the last pair
    weights          bfloat16: panels of two output blocks (the last one of an odd number: one), one after another, group by group:
                     [panel][tap][plane][pair of channels of the plane][B * lanes][2]; where a group ends in half a pair and beyond the
                     last output there are zeros
    bias             float32 per output channel, in whole blocks
    residual, y      planes of bfloat16 or of float32

Buffers tell numbers of bfloat16 as uint16. Sums are float32, from the bias to the activation, in one order whatever the threads: tap,
plane, pair. How a layer is cut into chunks and in which order one goes, words.pyx says. An activation that the tile does not have is
applied to a row of float32, which is rounded after that, while it is in the first-level cache.
"""

from libc.math cimport INFINITY
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcpy, memset

import numpy as np

from cnnengine._kernels.activation cimport activation_of, activation_t
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, larger, smaller
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.planes cimport fill_halo_of
from cnnengine._kernels.table cimport ACT_NONE, KernelTable
from cnnengine._kernels.tiles.bconv cimport B_FLOATS, B_HALVES
from cnnengine._kernels.tiles.words cimport tile_row, word_tile_fn, word_tile_t
from cnnengine._kernels.words cimport begin, begin_row, begin_unit, halve_fn, place_t, put_taps, resolve, words_t

HALF, FLOAT32 = np.dtype(np.uint16), np.dtype(np.float32)


cdef struct bconv_t:
    words_t words
    int r_half, mode
    Py_ssize_t row                                  # bytes of floats of a row of one block that are rounded later, or 0
    activation_t act
    # Py_ssize_t taps[n_taps] follows: bytes from the first pixel in x, or in what is staged


cdef void bconv_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const bconv_t *q = <const bconv_t *>geometry
    cdef const words_t *g = &q.words
    cdef const KernelTable *table = g.table
    cdef Py_ssize_t lanes = table.lanes, unit, row, width, left, block, blocks, b, widest
    cdef place_t p
    cdef word_tile_t t
    cdef word_tile_fn tile
    cdef float *floats
    begin(g, <const Py_ssize_t *>(q + 1), args[0], args[1], args[4], args[3], chunk, 0, scratch + 2 * q.row, &p, &t)
    t.r_half = q.r_half
    t.low, t.high = q.act.low, q.act.high
    for unit in range(p.unit0, p.unit1):
        block = 2 * unit
        blocks = smaller(2, g.y_blocks - block)
        tile = table.bconv.tile[blocks]
        widest = table.bconv.width[blocks]
        t.bias = <const float *>args[2] + (p.group * g.y_blocks + block) * lanes
        left = begin_unit(g, &p, unit, widest, &t)
        for row in range(p.row0, p.row1):
            width = g.width if row + 1 < g.rows else g.last_width
            t.mode = q.mode
            t.yplane = g.y.sp * g.item
            t.ystep = g.yw
            begin_row(g, &p, block, row, &t)
            if q.row:
                t.mode = B_FLOATS
                t.y = scratch
                t.yplane = q.row
                t.ystep = 4 * lanes
            tile_row(tile, widest, width, &t, &left)
            if q.act.kind == ACT_NONE:
                continue
            for b in range(blocks):
                floats = <float *>(scratch + b * q.row if q.row else p.y + (block + b) * g.y.sp * g.item + row * g.yh)
                table.vector.activate(q.act.kind, floats, floats, width * lanes, q.act.alpha, q.act.beta)
                if q.row:
                    table.bconv.narrow(floats, <uint16_t *>(p.y + (block + b) * g.y.sp * g.item + row * g.yh), width * lanes)
        if p.row0 == 0 and p.depth == 0:
            for b in range(blocks):
                fill_halo_of(&g.y, g.item, <char *>args[4], p.n, p.group * g.y_blocks + block + b, 0)


cdef void narrow(const KernelTable *table, const char *x, char *y, Py_ssize_t n, int zero) noexcept nogil:
    """Floats rounded, for what is staged."""
    table.bconv.narrow(<const float *>x, <uint16_t *>y, n)


cdef void copy(const KernelTable *table, const char *x, char *y, Py_ssize_t n, int zero) noexcept nogil:
    """Numbers as they are, staged so that a zero can stand beside an odd last channel."""
    memcpy(y, x, 2 * n)


def build_bconv(inputs, outputs, *, taps, stride=(1, 1, 1), groups=1, activation=None):
    """Convolution of planes by weights of bfloat16.

    Parameters
    ----------
    inputs : x, weights, bias, residual (or None)
        Views; weights are packed by `pack_pairs`, bias padded by `pack_bias`. x and residual have bfloat16, told as uint16, or float32.
    outputs : y
        Of either.
    taps : sequence of (d, h, w)
        Pixel of x that each kernel tap reads, from the pixel ``i * stride``; x must have the halo for it.
    stride : (d, h, w)
    groups : int
    activation : Activation, optional

    Raises
    ------
    ValueError
        Views and parameters do not fit together, or the instruction set in use has no products of bfloat16 numbers.
    """
    xv, wv, bv, rv = inputs
    yv, = outputs
    cdef bconv_t q
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, n_taps = len(taps), weights
    cdef halve_fn staged = NULL
    cdef Launch launch
    memset(&q, 0, sizeof(q))
    if table.bconv.lanes != lanes:
        raise ValueError(f"bconv: {table.name.decode()} has no products of bfloat16")
    if xv.lanes != lanes or not n_taps or any(v is not None and v.dtype not in (HALF, FLOAT32) for v in (xv, rv, yv)):
        raise ValueError(f"bconv: {xv} -> {yv} with residual {rv} and {n_taps} taps")
    if xv.dtype == FLOAT32:
        staged = narrow
    elif xv.c // groups % 2:
        staged = copy
    q.r_half = rv is not None and rv.dtype == HALF
    q.mode = B_HALVES if yv.dtype == HALF else B_FLOATS
    q.act = activation_of(activation)
    if q.act.kind != ACT_NONE:
        q.act.low, q.act.high = -INFINITY, INFINITY
    resolve(&q.words, "bconv", xv, yv, rv, taps, stride, (0, 0, 0), (1, 1, 1), None, groups, 2, staged)
    if xv.c // groups % 2:
        q.words.zeroed = xv.c // groups % lanes
    if q.act.kind != ACT_NONE and q.mode == B_HALVES:
        q.row = 4 * lanes * q.words.width
    weights = groups * (q.words.panel // 2) * q.words.y_blocks
    od, oh, ow = yv.dhw
    launch = make_launch(
        f"bconv {table.bconv.width[2]}x2" + (" rounds" if xv.dtype == FLOAT32 else ""),
        bconv_chunk,
        &q,
        sizeof(q),
        q.words.chunks,
        2 * q.row + q.words.stage_bytes,
        (xv.nbytes, weights, 4 * groups * q.words.y_blocks * lanes, rv.nbytes if rv is not None else 0, yv.nbytes),
        2.0 * xv.n * yv.c * od * oh * ow * (xv.c // groups) * n_taps,
        xv.nbytes + yv.nbytes + weights + (rv.nbytes if rv is not None else 0),
    )
    put_taps(&q.words, taps, <Py_ssize_t *>launch.tail(n_taps * sizeof(Py_ssize_t)))
    return launch.typed(inputs, outputs)


cdef inline uint32_t rounded(float value) noexcept nogil:
    """The bits of a float as bfloat16: to the nearest, halves to even; NaN is the quiet one of its sign."""
    cdef uint32_t bits
    memcpy(&bits, &value, 4)
    if value != value:
        return bits >> 16 & 0x8000 | 0x7fc0
    return bits + 0x7fff + (bits >> 16 & 1) >> 16


cdef void pack_outputs(const float *w, Py_ssize_t o, Py_ssize_t c, Py_ssize_t taps, Py_ssize_t lanes, uint32_t *to) noexcept nogil:
    """The panels of o outputs, all of which have c channels of `taps` numbers."""
    cdef Py_ssize_t words = (c + 1) // 2, block = 0, width, word, tap, lane
    cdef const float *at
    cdef uint32_t *panel
    cdef uint32_t pair
    while block < o:
        # whole blocks: of what is left, one or two
        width = lanes if o - block <= lanes else 2 * lanes
        panel = to + block * words * taps
        for word in range(words):
            for tap in range(taps):
                for lane in range(width):
                    pair = 0
                    if block + lane < o:
                        at = w + ((block + lane) * c + 2 * word) * taps + tap
                        pair = rounded(at[0])
                        if 2 * word + 1 < c:
                            pair = pair | rounded(at[taps]) << 16
                    panel[(tap * words + word) * width + lane] = pair
        block = block + 2 * lanes


def pack_pairs(const float[:, :, ::1] w, Py_ssize_t groups, uint16_t[::1] made) -> None:
    """Weights (O, C / groups, taps) rounded and laid out as `build_bconv` reads them, into `made`, which `pairs_size` tells the size of.

    Of one group, a run of outputs that starts a panel may be packed by itself.
    """
    cdef Py_ssize_t lanes = current_table().lanes, og = w.shape[0] // groups, group, size = pairs_size(og, w.shape[1] * w.shape[2], w.shape[2])
    if made.shape[0] < groups * size or og * groups != w.shape[0]:
        raise ValueError(f"pack_pairs: {w.shape[0]} outputs in {groups} groups, into {made.shape[0]} numbers")
    if w.shape[0] == 0 or w.shape[1] == 0 or w.shape[2] == 0:
        return
    with nogil:
        for group in range(groups):
            pack_outputs(&w[group * og, 0, 0], og, w.shape[1], w.shape[2], lanes, <uint32_t *>&made[group * size])


def pairs_size(Py_ssize_t outputs, Py_ssize_t row, Py_ssize_t taps) -> int:
    """Numbers that the packed weights of one group have: `outputs` rows of `row` numbers, `taps` for each channel."""
    cdef Py_ssize_t lanes = current_table().lanes
    return ceil_div(outputs, lanes) * lanes * ceil_div(row // larger(taps, 1), 2) * 2 * taps
