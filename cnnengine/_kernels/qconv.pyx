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
pixels that it reads, less the zero point, in its scratch. How a layer is cut into chunks and in which order one goes, words.pyx says.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int16_t, int32_t, uint8_t
from libc.string cimport memcpy, memset

import numpy as np

from cnnengine._kernels.activation cimport activation_of, activation_t
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, larger, smaller
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.planes cimport fill_halo_of, planes_of, planes_t
from cnnengine._kernels.table cimport ACT_NONE, KernelTable
from cnnengine._kernels.tiles.qconv cimport Q_BYTES, Q_FLOATS, Q_SUMS
from cnnengine._kernels.tiles.words cimport tile_row, word_tile_fn, word_tile_t
from cnnengine._kernels.words cimport begin, begin_row, begin_unit, halve_fn, place_t, put_taps, resolve, words_t


cdef enum:                              # operands
    X, WEIGHTS, BIAS, SUMS, RATIO, OFFSET, RESIDUAL, TABLE, ZERO, Y


cdef struct qconv_t:
    words_t words
    int mode, x_zero, zero, write_halo
    float low, high, first_low, first_high, scale, r_scale, r_zero
    activation_t act
    # Py_ssize_t taps[n_taps] follows: bytes from the first pixel in x, or in what is staged


cdef void qconv_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const qconv_t *q = <const qconv_t *>geometry
    cdef const words_t *g = &q.words
    cdef const KernelTable *table = g.table
    cdef Py_ssize_t lanes = table.lanes, unit, row, width, at, left, block, blocks, b, widest
    cdef int zero = q.x_zero
    cdef int32_t *bias = <int32_t *>scratch
    cdef const int32_t *sums
    cdef place_t p
    cdef word_tile_t t
    cdef word_tile_fn tile
    cdef uint8_t *row_y
    cdef float *row_f
    if args[ZERO] != NULL:
        zero = (<const uint8_t *>args[ZERO])[0]
    begin(g, <const Py_ssize_t *>(q + 1), args[X], args[WEIGHTS], args[Y], args[RESIDUAL], chunk, zero, scratch + 256, &p, &t)
    if g.staged == NULL:
        zero = zero - (128 if table.qconv.flip else 0)
    t.mode = q.mode
    t.low, t.high = q.low, q.high
    t.zeros = q.zero | q.zero << 16
    t.lows = splat(<int>q.low + q.zero) if q.mode == Q_BYTES else 0
    t.highs = splat(<int>q.high + q.zero) if q.mode == Q_BYTES else 0
    t.first_low, t.first_high = q.first_low, q.first_high
    t.scale, t.r_scale, t.r_zero = q.scale, q.r_scale, q.r_zero
    t.bias = bias
    for unit in range(p.unit0, p.unit1):
        block = 2 * unit
        blocks = smaller(2, g.y_blocks - block)
        tile = table.qconv.tile[blocks]
        widest = table.qconv.width[blocks]
        at = (p.group * g.y_blocks + block) * lanes
        for b in range(blocks * lanes):
            bias[b] = (<const int32_t *>args[BIAS])[at + b]
        if g.staged == NULL:
            sums = <const int32_t *>args[SUMS] + at
            for b in range(blocks * lanes):
                # unsigned, for sums that wrap around
                bias[b] = <int32_t>(<unsigned int>bias[b] - <unsigned int>zero * <unsigned int>sums[b])
        t.ratio = <const float *>args[RATIO] + at
        if args[OFFSET] != NULL:
            t.offset = <const float *>args[OFFSET] + at
        left = begin_unit(g, &p, unit, widest, &t)
        for row in range(p.row0, p.row1):
            width = g.width if row + 1 < g.rows else g.last_width
            begin_row(g, &p, block, row, &t)
            tile_row(tile, widest, width, &t, &left)
            t.y = p.y + block * t.yplane + row * g.yh
            # while the row is in the first-level cache
            if args[TABLE] != NULL:
                for b in range(blocks):
                    row_y = <uint8_t *>t.y + b * g.y.sp
                    if g.yw == lanes:
                        table.qvector.table(<const uint8_t *>args[TABLE], row_y, row_y, width * lanes)
                    else:
                        for at in range(width):
                            table.qvector.table(<const uint8_t *>args[TABLE], row_y + at * g.yw, row_y + at * g.yw, lanes)
            elif q.act.kind != ACT_NONE:
                for b in range(blocks):
                    row_f = <float *>(t.y + b * t.yplane)
                    if g.yw == 4 * lanes:
                        table.vector.activate(q.act.kind, row_f, row_f, width * lanes, q.act.alpha, q.act.beta)
                    else:
                        for at in range(width):
                            table.vector.activate(q.act.kind, row_f, row_f, lanes, q.act.alpha, q.act.beta)
                            row_f = <float *>(<char *>row_f + g.yw)
        if q.write_halo and p.row0 == 0 and p.depth == 0:
            for b in range(blocks):
                fill_halo_of(&g.y, g.item, <char *>args[Y], p.n, p.group * g.y_blocks + block + b, g.y.fill if q.mode == Q_BYTES else 0)


cdef inline int splat(int byte) noexcept nogil:
    """A byte four times."""
    return <int>(<unsigned int>byte * 0x01010101u)


cdef void widen(const KernelTable *table, const char *x, char *y, Py_ssize_t n, int zero) noexcept nogil:
    """Bytes less the zero point, for what is staged."""
    table.qconv.widen(<const uint8_t *>x, <int16_t *>y, n, zero)


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
    cdef qconv_t q
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, n_taps = len(taps), padded, weights
    cdef halve_fn staged = NULL
    cdef Launch launch
    memset(&q, 0, sizeof(q))
    modes = {"bytes": (Q_BYTES, np.uint8), "floats": (Q_FLOATS, np.float32), "sums": (Q_SUMS, np.int32)}
    q.mode = modes[mode][0]
    if xv.dtype != np.uint8 or yv.dtype != modes[mode][1]:
        raise ValueError(f"qconv: {xv} -> {yv} in {mode}")
    if xv.lanes not in (4, lanes) or (xv.lanes < lanes and xv.c > 4):
        raise ValueError(f"qconv: {xv} -> {yv} with groups {groups}")
    q.x_zero, q.zero = x_zero, zero
    q.low, q.high = low, high
    q.act = activation_of(activation)
    if q.act.kind != ACT_NONE and q.mode != Q_FLOATS:
        raise ValueError(f"qconv: {activation} of {mode}")
    if q.mode == Q_FLOATS and activation is not None and q.act.kind == ACT_NONE:
        q.low, q.high = q.act.low, q.act.high
    if q.mode == Q_BYTES:
        low, high = max(low, -zero), min(high, 255 - zero)
        q.low, q.high = low, high
    if q.mode == Q_BYTES and not (0 <= zero <= 255 and low <= high and low == int(low) and high == int(high)):
        raise ValueError(f"qconv: bounds {low} and {high} around {zero}")
    if not 0 <= x_zero <= 255 or (tv is not None and (q.mode != Q_BYTES or tv.nbytes != 256)):
        raise ValueError(f"qconv: zero point {x_zero}, table {tv}")
    if rv is not None:
        if rv.dtype != np.uint8 or q.mode != Q_BYTES:
            raise ValueError(f"qconv: residual {rv} for {yv}")
        q.first_low, q.first_high = first
        q.scale, q.r_scale = scales
        q.r_zero = r_zero
    q.write_halo = write_halo
    if table.qconv.step == 2:
        staged = widen
    resolve(&q.words, "qconv", xv, yv, rv, taps, stride, start, step, extent, groups, table.qconv.step, staged)
    padded = groups * q.words.y_blocks * lanes
    weights = groups * (q.words.panel // 2) * q.words.y_blocks
    od, oh, ow = yv.dhw if extent is None else extent
    launch = make_launch(
        f"qconv {table.qconv.width[2]}x2 " + ("dot" if q.words.staged == NULL else "staged") + ("" if mode == "bytes" else f" {mode}"),
        qconv_chunk,
        &q,
        sizeof(q),
        q.words.chunks,
        256 + q.words.stage_bytes,
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
        2.0 * xv.n * yv.c * od * oh * ow * (xv.c // groups) * n_taps,
        xv.nbytes + yv.nbytes + weights + (rv.nbytes if rv is not None else 0),
    )
    put_taps(&q.words, taps, <Py_ssize_t *>launch.tail(larger(n_taps, 1) * sizeof(Py_ssize_t)))
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
