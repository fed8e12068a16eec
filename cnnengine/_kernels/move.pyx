# cython: language_level=3
"""Kernels that move values: between layouts, with strides, by index.

`reorder` copies a float32 tensor between layouts. A plain (N, C, D, H, W) tensor is planes of one lane without a halo, so
there are four ways from x to y, by their lanes:

    same lanes, same blocks     rows are copied
    1 -> LANES                  every row of a block is a transpose of channels x pixels (tiles.pack)
    LANES -> 1                  the same backwards (tiles.unpack)
    any other                   lane by lane, scalar; for rare cases alone

Loops: unit = (n, block of the many-laned side, rows). Planes whose rows touch on both sides count as one row, cut into rows
of equal length, so that small images fill registers. Units are a piece of a plane, or many small planes make a chunk.
"""

from libc.string cimport memcpy, memset

from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.launch cimport MAX_ARGS, Launch, make_launch
from cnnengine._kernels.planes cimport fill_halo, planes_of, planes_t
from cnnengine._kernels.table cimport KernelTable

import numpy as np

cdef enum:
    CHUNK_BYTES = 131072                # read and written by one chunk: 10-30 us

cdef enum:
    WAY_ROWS = 0
    WAY_PACK = 1
    WAY_UNPACK = 2
    WAY_SCALAR = 3


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b if b > 0 else 0


# ---------------------------------------------------------------- reorder

cdef struct reorder_t:
    const KernelTable *table
    int way
    planes_t x, y
    Py_ssize_t blocks                   # of the side that leads
    Py_ssize_t height, width, rows      # rows = d * height of `width` pixels, the last one of `last`
    Py_ssize_t last
    Py_ssize_t xd, xh, yd, yh           # strides of depth and row, in floats
    Py_ssize_t unit_rows, units, n_units, chunk_units   # rows of a unit, units of a plane, of all, units of a chunk
    bint dense                          # rows of y touch


cdef planes_t planes_of_any(object view) except *:
    """planes_t of a view in planes, or of a plain one: one lane, no halo."""
    cdef planes_t p
    if not view.is_plain:
        return planes_of(view)
    memset(&p, 0, sizeof(p))
    p.n, p.c = view.shape[:2]
    p.d, p.h, p.w = view.dhw
    p.groups = p.lanes = 1
    p.blocks = p.c
    p.sh = p.w
    p.sd = p.h * p.sh
    p.sp = p.d * p.sd
    p.sn = p.c * p.sp
    return p


cdef inline Py_ssize_t first_channel(const planes_t *p, Py_ssize_t block) noexcept nogil:
    cdef Py_ssize_t per_group = p.blocks // p.groups
    return block // per_group * (p.c // p.groups) + block % per_group * p.lanes


cdef inline Py_ssize_t channels_of(const planes_t *p, Py_ssize_t block) noexcept nogil:
    """Channels in this block: p.lanes, or fewer in the last block of a group."""
    cdef Py_ssize_t left = p.c // p.groups - block % (p.blocks // p.groups) * p.lanes
    return left if left < p.lanes else p.lanes


cdef inline Py_ssize_t plane_of_channel(const planes_t *p, Py_ssize_t channel, Py_ssize_t *lane) noexcept nogil:
    cdef Py_ssize_t size = p.c // p.groups, inside = channel % size
    lane[0] = inside % p.lanes
    return channel // size * (p.blocks // p.groups) + inside // p.lanes


cdef void reorder_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const reorder_t *g = <const reorder_t *>geometry
    cdef const float *x0 = <const float *>args[0] + g.x.offset
    cdef float *y0 = <float *>args[1] + g.y.offset
    cdef const float *x
    cdef float *y
    cdef Py_ssize_t unit = chunk * g.chunk_units, end = min(unit + g.chunk_units, g.n_units)
    cdef Py_ssize_t plane, n, block, r, r0, r1, w, at, c, channels, lane, xo, yo, p, last_x, last_y
    while unit < end:
        plane = unit // g.units
        n = plane // g.blocks
        block = plane % g.blocks
        r0 = unit % g.units * g.unit_rows
        r1 = min(r0 + g.unit_rows, g.rows)
        unit = unit + 1
        if g.way == WAY_UNPACK:
            # the source block leads: its channels are planes of y
            c = first_channel(&g.x, block)
            channels = channels_of(&g.x, block)
            if r0 == 0:
                for at in range(channels):
                    fill_halo(&g.y, <float *>args[1], n, c + at)
            last_y = (r1 - 1) // g.height * g.yd + (r1 - 1) % g.height * g.yh + (g.last if r1 == g.rows else g.width)
            for r in range(r0, r1):
                w = g.last if r == g.rows - 1 else g.width
                xo = r // g.height * g.xd + r % g.height * g.xh
                yo = r // g.height * g.yd + r % g.height * g.yh
                g.table.move.unpack(x0 + n * g.x.sn + block * g.x.sp + xo, y0 + n * g.y.sn + c * g.y.sp + yo, g.y.sp,
                                    last_y - yo if g.dense else w, w, channels)
            continue
        if r0 == 0:
            fill_halo(&g.y, <float *>args[1], n, block)
        y = y0 + n * g.y.sn + block * g.y.sp
        c = first_channel(&g.y, block)
        channels = channels_of(&g.y, block)
        if g.way == WAY_ROWS:
            x = x0 + n * g.x.sn + block * g.x.sp
            for r in range(r0, r1):
                w = g.last if r == g.rows - 1 else g.width
                memcpy(y + r // g.height * g.yd + r % g.height * g.yh, x + r // g.height * g.xd + r % g.height * g.xh,
                       w * g.y.lanes * sizeof(float))
        elif g.way == WAY_PACK:
            x = x0 + n * g.x.sn + c * g.x.sp
            last_x = (g.rows - 1) // g.height * g.xd + (g.rows - 1) % g.height * g.xh + g.last
            for r in range(r0, r1):
                w = g.last if r == g.rows - 1 else g.width
                xo = r // g.height * g.xd + r % g.height * g.xh
                g.table.move.pack(x + xo, g.x.sp, last_x - xo, y + r // g.height * g.yd + r % g.height * g.yh, w, channels)
        else:
            for r in range(r0, r1):
                w = g.last if r == g.rows - 1 else g.width
                xo = r // g.height * g.xd + r % g.height * g.xh
                yo = r // g.height * g.yd + r % g.height * g.yh
                for at in range(g.y.lanes):
                    if at < channels:
                        x = x0 + n * g.x.sn + plane_of_channel(&g.x, c + at, &lane) * g.x.sp + xo
                        for p in range(w):
                            y[yo + p * g.y.lanes + at] = x[p * g.x.lanes + lane]
                    else:
                        for p in range(w):
                            y[yo + p * g.y.lanes + at] = 0


cdef bint same_blocks(const planes_t *x, const planes_t *y) noexcept:
    """Whether every channel has the same block and lane on both sides."""
    if x.lanes != y.lanes:
        return False
    return x.groups == y.groups or ((x.groups == 1 or x.c // x.groups % x.lanes == 0) and (y.groups == 1 or y.c // y.groups % y.lanes == 0))


def build_reorder(inputs, outputs) -> Launch:
    """One float32 tensor (N, C, up to three spatial axes) from one layout to another.

    Parameters
    ----------
    inputs, outputs : tuple of one View
        Plain, or planes with any lanes, halo and groups; the same shape. The halo of the output is written; so are zeros to
        the lanes beyond the last channel, unless whole blocks are copied.

    Raises
    ------
    ValueError
        The views differ in shape, are not float32, or have another rank than 2 to 5.
    """
    (x_view,), (y_view,) = inputs, outputs
    cdef reorder_t g
    cdef Py_ssize_t pixel, width
    if x_view.shape != y_view.shape or not 2 <= len(x_view.shape) <= 5:
        raise ValueError(f"reorder: shapes {x_view.shape} and {y_view.shape} must be equal, of rank 2 to 5")
    if x_view.dtype != np.float32 or y_view.dtype != np.float32:
        raise ValueError(f"reorder: {x_view.dtype} to {y_view.dtype}, float32 is needed")
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    g.x = planes_of_any(x_view)
    g.y = planes_of_any(y_view)
    if same_blocks(&g.x, &g.y):
        g.way = WAY_ROWS
    elif g.x.lanes == 1 and g.y.lanes == g.table.lanes:
        g.way = WAY_PACK
    elif g.y.lanes == 1 and g.x.lanes == g.table.lanes:
        g.way = WAY_UNPACK
    else:
        g.way = WAY_SCALAR
    g.blocks = g.x.blocks if g.way == WAY_UNPACK else g.y.blocks
    g.height = g.y.h
    g.width = g.last = g.y.w
    g.rows = g.y.d * g.y.h
    g.xd, g.xh, g.yd, g.yh = g.x.sd, g.x.sh, g.y.sd, g.y.sh
    g.dense = touching(&g.y)
    pixel = 4 * (max(g.x.lanes, g.y.lanes) * 2)
    if g.dense and touching(&g.x) and g.rows * g.width:
        width = min(g.rows * g.width, max(<Py_ssize_t>64, CHUNK_BYTES // pixel))
        g.last = g.rows * g.width
        g.rows = ceil_div(g.last, width)
        g.last -= (g.rows - 1) * width
        g.width = width
        g.height = g.rows
        g.xh, g.yh = width * g.x.lanes, width * g.y.lanes
    g.unit_rows = min(g.rows, max(<Py_ssize_t>1, CHUNK_BYTES // max(<Py_ssize_t>1, g.width * pixel)))
    g.units = ceil_div(g.rows, g.unit_rows)
    g.n_units = g.y.n * g.blocks * g.units
    g.chunk_units = max(<Py_ssize_t>1, CHUNK_BYTES // max(<Py_ssize_t>1, g.unit_rows * g.width * pixel))
    way = ("rows", "pack", "unpack", "scalar")[g.way]
    return make_launch(f"reorder[{way}]", reorder_chunk, &g, sizeof(g), ceil_div(g.n_units, g.chunk_units), 0,
                       (x_view.nbytes, y_view.nbytes), 0.0, x_view.nbytes + y_view.nbytes)


cdef bint touching(const planes_t *p) noexcept:
    """Whether the rows of a plane follow each other without gaps."""
    return p.sh == p.w * p.lanes and (p.d == 1 or p.sd == p.h * p.sh)


def reorder(Launch launch, const float[::1] x, float[::1] y, int threads=1):
    """Run a `build_reorder` launch: x and y are the buffers of the two views."""
    cdef void *args[MAX_ARGS]
    launch.check(0, x.shape[0] * 4)
    launch.check(1, y.shape[0] * 4)
    args[0] = <void *>&x[0] if x.shape[0] else NULL
    args[1] = &y[0] if y.shape[0] else NULL
    launch.run(args, threads)
