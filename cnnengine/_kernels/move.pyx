# cython: language_level=3
"""Kernels that move values: between layouts, with strides, by index.

`reorder` copies a tensor of float32 or uint8 between layouts. A plain (N, C, D, H, W) tensor is planes of one lane without a halo,
so there are four ways from x to y, by their lanes:

    same lanes, same blocks     rows are copied
    1 -> LANES                  every row of a block is a transpose of channels x pixels (tiles.pack)
    LANES -> 1                  the same backwards (tiles.unpack)
    LANES -> LANES              between groupings: as take_planes
    any other                   lane by lane, scalar; for rare cases alone

Bytes may lie in planes of 4 lanes too, which are packed as those of LANES are (tiles of qvector.pyx). Lanes beyond the last channel
hold what the halo does: sums of products of bytes read them.

`copy_planes` copies a range of channels between tensors in planes of the same lanes: whole blocks as rows, and where the range
starts within a block, as take_planes.

`take_planes` picks channels of one or several tensors in planes, in any order (channel shuffles, Gather along channels). Each
block of the output knows the source blocks that its lanes come from; a pixel is one load, permutation and selection for each
of them (tiles.mix): two where channels are shifted, at most LANES. A block that is one of a source is copied as rows.

Loops: unit = (n, block of the many-laned side, rows). Planes whose rows touch on both sides count as one row, cut into rows
of equal length, so that small images fill registers. Units are a piece of a plane, or many small planes make a chunk.

`copy_nd` copies any item size with strides, `fill` writes a constant, `gather` picks slices by constant indices, `resize` mixes
pixels in planes.
`copy_nd` sorts the axes by the output's strides, joins those that lie together on both sides, and treats the innermost one, or
the innermost two, in one of four ways:

    rows        both sides contiguous: memcpy
    spread      the input's stride is 0 (Expand, fill): one item repeated
    transpose   another axis is the input's contiguous one: LANES x LANES blocks of floats, else scalar in blocks
    strided     item by item

Loops: unit = (outer axes, piece of the innermost or of the longer of the innermost two).
"""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy, memset

from cnnengine._kernels.chunks cimport BYTES_PER_NS, chunk_ns, per_chunk
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div
from cnnengine._kernels.launch cimport MAX_ARGS, Launch, chunk_fn, make_launch
from cnnengine._kernels.planes cimport (
    channels_of, fill_halo, fill_halo_of, first_channel, planes_of, planes_of_any,
    planes_t, rows_of, rows_t, same_blocks, touching,
)
from cnnengine._kernels.table cimport KernelTable
from cnnengine._kernels.tiles.qvector cimport blending_t

from dataclasses import replace

import numpy as np

cdef enum:
    UNIT_BYTES = 131072                 # of one piece of a large plane or axis, which stays in cache

cdef enum:
    WAY_ROWS = 0
    WAY_PACK = 1
    WAY_UNPACK = 2
    WAY_SCALAR = 3


# ---------------------------------------------------------------- reorder

cdef struct reorder_t:
    const KernelTable *table
    int way
    planes_t x, y
    planes_t around                     # where `ringed`, a narrower halo is written after that of y: with another fill
    bint ringed
    int item                            # bytes of an element: 4 are a float
    Py_ssize_t blocks                   # of the side that leads
    Py_ssize_t height, width, rows      # rows = d * height of `width` pixels, the last one of `last`
    Py_ssize_t last
    Py_ssize_t xd, xh, yd, yh           # strides of depth and row, in elements
    Py_ssize_t unit_rows, units, n_units, chunk_units   # rows of a unit, units of a plane, of all, units of a chunk
    bint dense                          # rows of y touch


cdef inline Py_ssize_t plane_of_channel(const planes_t *p, Py_ssize_t channel, Py_ssize_t *lane) noexcept nogil:
    cdef Py_ssize_t size = p.c // p.groups, inside = channel % size
    lane[0] = inside % p.lanes
    return channel // size * (p.blocks // p.groups) + inside // p.lanes


cdef inline void pack_rows(const reorder_t *g, const char *x, Py_ssize_t readable, char *y, Py_ssize_t w, Py_ssize_t channels) noexcept nogil:
    if g.item == 4:
        g.table.move.pack(<const float *>x, g.x.sp, readable, <float *>y, w, channels)
    elif g.y.lanes == g.table.lanes:
        g.table.qvector.pack(<const uint8_t *>x, g.x.sp, readable, <uint8_t *>y, w, channels, g.y.fill)
    else:
        g.table.qvector.pack4(<const uint8_t *>x, g.x.sp, readable, <uint8_t *>y, w, channels, g.y.fill)


cdef inline void unpack_rows(const reorder_t *g, const char *x, char *y, Py_ssize_t writable, Py_ssize_t w, Py_ssize_t channels) noexcept nogil:
    if g.item == 4:
        g.table.move.unpack(<const float *>x, <float *>y, g.y.sp, writable, w, channels)
    elif g.x.lanes == g.table.lanes:
        g.table.qvector.unpack(<const uint8_t *>x, <uint8_t *>y, g.y.sp, writable, w, channels)
    else:
        g.table.qvector.unpack4(<const uint8_t *>x, <uint8_t *>y, g.y.sp, writable, w, channels)


cdef inline void lane_of(const reorder_t *g, const char *x, char *y, Py_ssize_t pixels, bint there) noexcept nogil:
    """One lane of a row, or where no channel is there, zeros or what the halo holds."""
    cdef Py_ssize_t p
    for p in range(pixels):
        if g.item == 1:
            y[p * g.y.lanes] = x[p * g.x.lanes] if there else <char>g.y.fill
        else:
            (<float *>y)[p * g.y.lanes] = (<const float *>x)[p * g.x.lanes] if there else 0


cdef void reorder_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const reorder_t *g = <const reorder_t *>geometry
    cdef Py_ssize_t item = g.item
    cdef const char *x0 = <const char *>args[0] + g.x.offset * item
    cdef char *y0 = <char *>args[1] + g.y.offset * item
    cdef const char *x
    cdef char *y
    cdef Py_ssize_t unit = chunk * g.chunk_units, end = min(unit + g.chunk_units, g.n_units)
    cdef rows_t u
    cdef Py_ssize_t n, block, r, r0, r1, w, at, c, channels, lane, xo, yo, last_x, last_y
    while unit < end:
        u = rows_of(unit, g.units, g.unit_rows, g.rows, g.blocks)
        n, block, r0, r1 = u.n, u.block, u.r0, u.r1
        unit = unit + 1
        if g.way == WAY_UNPACK:
            # the source block leads: its channels are planes of y
            c = first_channel(&g.x, block)
            channels = channels_of(&g.x, block)
            if r0 == 0:
                for at in range(channels):
                    fill_halo_of(&g.y, item, <char *>args[1], n, c + at, g.y.fill)
            last_y = (r1 - 1) // g.height * g.yd + (r1 - 1) % g.height * g.yh + (g.last if r1 == g.rows else g.width)
            for r in range(r0, r1):
                w = g.last if r == g.rows - 1 else g.width
                xo = r // g.height * g.xd + r % g.height * g.xh
                yo = r // g.height * g.yd + r % g.height * g.yh
                unpack_rows(g, x0 + (n * g.x.sn + block * g.x.sp + xo) * item, y0 + (n * g.y.sn + c * g.y.sp + yo) * item,
                            last_y - yo if g.dense else w, w, channels)
            continue
        if r0 == 0:
            fill_halo_of(&g.y, item, <char *>args[1], n, block, g.y.fill)
            if g.ringed:
                fill_halo_of(&g.around, item, <char *>args[1], n, block, g.around.fill)
        y = y0 + (n * g.y.sn + block * g.y.sp) * item
        c = first_channel(&g.y, block)
        channels = channels_of(&g.y, block)
        if g.way == WAY_ROWS:
            x = x0 + (n * g.x.sn + block * g.x.sp) * item
            for r in range(r0, r1):
                w = g.last if r == g.rows - 1 else g.width
                memcpy(y + (r // g.height * g.yd + r % g.height * g.yh) * item, x + (r // g.height * g.xd + r % g.height * g.xh) * item,
                       w * g.y.lanes * item)
        elif g.way == WAY_PACK:
            x = x0 + (n * g.x.sn + c * g.x.sp) * item
            last_x = (g.rows - 1) // g.height * g.xd + (g.rows - 1) % g.height * g.xh + g.last
            for r in range(r0, r1):
                w = g.last if r == g.rows - 1 else g.width
                xo = r // g.height * g.xd + r % g.height * g.xh
                pack_rows(g, x + xo * item, last_x - xo, y + (r // g.height * g.yd + r % g.height * g.yh) * item, w, channels)
        else:
            for r in range(r0, r1):
                w = g.last if r == g.rows - 1 else g.width
                xo = r // g.height * g.xd + r % g.height * g.xh
                yo = r // g.height * g.yd + r % g.height * g.yh
                for at in range(g.y.lanes):
                    lane = 0
                    x = x0
                    if at < channels:
                        x = x0 + (n * g.x.sn + plane_of_channel(&g.x, c + at, &lane) * g.x.sp + xo) * item
                    lane_of(g, x + lane * item, y + (yo + at) * item, w, at < channels)


cdef inline Py_ssize_t chunk_bytes(Py_ssize_t total) noexcept nogil:
    """Bytes of a chunk of a step that moves `total`."""
    return <Py_ssize_t>(BYTES_PER_NS * chunk_ns(<double>total / BYTES_PER_NS))


cdef int plan_units(reorder_t *g) except -1:
    """Rows, units and chunks, for views, blocks and way that are set."""
    cdef Py_ssize_t pixel, width, size, bytes_of_chunk
    g.height = g.y.h
    g.width = g.last = g.y.w
    g.rows = g.y.d * g.y.h
    g.xd, g.xh, g.yd, g.yh = g.x.sd, g.x.sh, g.y.sd, g.y.sh
    g.dense = touching(&g.y)
    pixel = g.item * (max(g.x.lanes, g.y.lanes) * 2)
    if g.dense and touching(&g.x) and g.rows * g.width:
        width = min(g.rows * g.width, max(<Py_ssize_t>64, UNIT_BYTES // pixel))
        g.last = g.rows * g.width
        g.rows = ceil_div(g.last, width)
        g.last -= (g.rows - 1) * width
        g.width = width
        g.height = g.rows
        g.xh, g.yh = width * g.x.lanes, width * g.y.lanes
    size = max(<Py_ssize_t>1, g.width * pixel)
    bytes_of_chunk = chunk_bytes(g.y.n * g.blocks * g.rows * size)
    g.unit_rows = min(g.rows, max(<Py_ssize_t>1, min(<Py_ssize_t>UNIT_BYTES, bytes_of_chunk) // size))
    g.units = ceil_div(g.rows, g.unit_rows)
    g.n_units = g.y.n * g.blocks * g.units
    g.chunk_units = max(<Py_ssize_t>1, bytes_of_chunk // max(<Py_ssize_t>1, g.unit_rows * size))
    return 0


cdef int item_of(str kernel, object x_view, object y_view) except -1:
    """Bytes of an element of both sides."""
    if x_view.dtype != y_view.dtype or x_view.dtype not in (np.float32, np.uint8):
        raise ValueError(f"{kernel}: {x_view.dtype} to {y_view.dtype}, float32 or uint8 on both sides is needed")
    return y_view.dtype.itemsize


cdef bint packs(const reorder_t *g, Py_ssize_t lanes) noexcept:
    """Whether tiles transpose between planes of one lane and of these."""
    return lanes == g.table.lanes or (g.item == 1 and lanes == 4)


def build_reorder(inputs, outputs) -> Launch:
    """One tensor of float32 or uint8 (N, C, up to three spatial axes) from one layout to another.

    Parameters
    ----------
    inputs, outputs : tuple of one View
        Plain, or planes with any lanes, halo and groups; the same shape and dtype. The halo of the output is written; so are zeros,
        in uint8 what the halo holds, to the lanes beyond the last channel, unless whole blocks are copied.

    Raises
    ------
    ValueError
        The views differ in shape or dtype, are of another dtype, or have another rank than 2 to 5.
    """
    (x_view,), (y_view,) = inputs, outputs
    return make_reorder(x_view, y_view, None)


cdef Launch make_reorder(object x_view, object y_view, object around):
    """`around`: the view that y lies inside of, if it has a halo of its own beside the one that y has."""
    cdef reorder_t g
    if x_view.shape != y_view.shape or not 2 <= len(x_view.shape) <= 5:
        raise ValueError(f"reorder: shapes {x_view.shape} and {y_view.shape} must be equal, of rank 2 to 5")
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    g.item = item_of("reorder", x_view, y_view)
    g.x = planes_of_any(x_view)
    g.y = planes_of_any(y_view)
    if around is not None and around.fill != y_view.fill:
        g.ringed = True
        g.around = planes_of(around)
    if same_blocks(&g.x, &g.y):
        g.way = WAY_ROWS
    elif g.x.lanes == 1 and packs(&g, g.y.lanes):
        g.way = WAY_PACK
    elif g.y.lanes == 1 and packs(&g, g.x.lanes):
        g.way = WAY_UNPACK
    elif g.x.lanes == g.y.lanes == g.table.lanes:
        return make_take("reorder[regroup]", (x_view,), y_view, range(y_view.c))
    else:
        g.way = WAY_SCALAR
    g.blocks = g.x.blocks if g.way == WAY_UNPACK else g.y.blocks
    plan_units(&g)
    way = ("rows", "pack", "unpack", "scalar")[g.way]
    return make_launch(f"reorder[{way}]", reorder_chunk, &g, sizeof(g), ceil_div(g.n_units, g.chunk_units), 0,
                       (x_view.nbytes, y_view.nbytes), 0.0, x_view.nbytes + y_view.nbytes).typed((x_view,), (y_view,))


def build_copy_planes(inputs, outputs, *, channels, x_channel=0, y_channel=0) -> Launch:
    """A range of channels from one tensor in planes to another: Concat, Split and Slice along channels.

    Parameters
    ----------
    inputs, outputs : tuple of one View
        Of float32 or uint8 in planes of the same lanes, one group, equal but for the channels; any halo. The output's halo is
        written around every block that is touched; its other channels are left alone.
    channels : int
        How many channels.
    x_channel, y_channel : int
        The first one in the input, in the output.

    Raises
    ------
    ValueError
        The views do not fit together, or the range lies outside of one of them.
    """
    (x_view,), (y_view,) = inputs, outputs
    cdef reorder_t g
    cdef Py_ssize_t lanes = y_view.lanes, x_block, y_block
    if x_view.is_plain or x_view.lanes != y_view.lanes or x_view.groups != 1 or y_view.groups != 1:
        raise ValueError("copy_planes: both sides must be planes of the same lanes, in one group")
    if x_view.n != y_view.n or x_view.dhw != y_view.dhw:
        raise ValueError(f"copy_planes: shapes {x_view.shape} and {y_view.shape} differ in more than channels")
    if channels < 1 or not 0 <= x_channel <= x_view.c - channels or not 0 <= y_channel <= y_view.c - channels:
        raise ValueError(
            f"copy_planes: {channels} channels from {x_channel} of {x_view.c} do not fit to {y_channel} of {y_view.c}"
        )
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    g.item = item_of("copy_planes", x_view, y_view)
    g.x = planes_of(x_view)
    g.y = planes_of(y_view)
    x_block, y_block = x_channel // lanes, y_channel // lanes
    g.x.offset += x_block * g.x.sp
    g.y.offset += y_block * g.y.sp
    # lanes that come along in the last block are unspecified ones of the output
    if x_channel % lanes or y_channel % lanes or (channels % lanes and y_channel + channels != y_view.c):
        if lanes != g.table.lanes:
            raise ValueError(f"copy_planes: within blocks of {lanes} lanes, not the instruction set's")
        here = [-1] * y_channel + list(range(x_channel, x_channel + channels)) + [-1] * (y_view.c - y_channel - channels)
        return make_take("copy_planes[shift]", (x_view,), y_view, here)
    g.way = WAY_ROWS
    g.blocks = ceil_div(channels, lanes)
    plan_units(&g)
    moved = 2 * g.item * y_view.n * channels * g.y.d * g.y.h * g.y.w
    return make_launch("copy_planes[rows]", reorder_chunk, &g, sizeof(g), ceil_div(g.n_units, g.chunk_units), 0,
                       (x_view.nbytes, y_view.nbytes), 0.0, moved).typed(inputs, outputs)


def build_pad_planes(inputs, outputs, *, pads, value=0) -> Launch:
    """One number around the pixels of a tensor in planes: the pixels are copied, and the number is a wider halo around them.

    Parameters
    ----------
    inputs, outputs : tuple of one View
        Of float32 or uint8 in planes of the same lanes and groups; any halo. The output's halo is written.
    pads : sequence of (begin, end), one per spatial axis
        Not negative.
    value : int
        0 in float32; 0 to 255 in uint8. The output's halo holds what its view says.

    Raises
    ------
    ValueError
        The views do not fit together, or the input has no pixels.
    """
    (x_view,), (y_view,) = inputs, outputs
    if not 0 <= value <= (255 if y_view.dtype == np.uint8 else 0):
        raise ValueError(f"pad_planes: {value} around {y_view.dtype}")
    widths = [(0, 0)] * (3 - len(pads)) + [(int(b), int(e)) for b, e in pads]
    if x_view.is_plain or y_view.is_plain or x_view.lanes != y_view.lanes or x_view.groups != y_view.groups:
        raise ValueError("pad_planes: both sides must be planes of the same lanes and groups")
    padded = tuple(n + b + e for n, (b, e) in zip(x_view.dhw, widths))
    if x_view.shape[:2] != y_view.shape[:2] or padded != y_view.dhw or min(min(w) for w in widths) < 0 or 0 in x_view.shape[2:]:
        raise ValueError(f"pad_planes: {x_view.shape} with {list(pads)} around is not {y_view.shape}")
    strides = (y_view.sd, y_view.sh, y_view.lanes)
    inside = replace(
        y_view,
        shape=x_view.shape,
        halo=tuple((a + b, c + d) for (a, c), (b, d) in zip(y_view.halo, widths)),
        offset=y_view.offset + sum(b * s for (b, _), s in zip(widths, strides)),
        fill=value,
    )
    return make_reorder(x_view, inside, y_view)


# ---------------------------------------------------------------- take_planes

cdef enum:
    MAX_LANES = 16

cdef struct source_t:
    planes_t x
    Py_ssize_t xd, xh                   # strides of depth and row, in elements

cdef struct part_t:
    Py_ssize_t source, block

cdef struct take_t:
    const KernelTable *table
    planes_t y
    int item                            # bytes of an element
    Py_ssize_t sources
    Py_ssize_t height, width, rows, last, yd, yh   # as in reorder_t
    Py_ssize_t unit_rows, units, n_units, chunk_units
    Py_ssize_t blocks                   # of y that are written, listed below
    Py_ssize_t n_parts
    # tables follow: source_t[sources]; block, first part, rows or keep (see TAKE_*) of the blocks [3 * blocks + 3];
    # part_t[n_parts]; of floats orders and masks int[n_parts][2][lanes], of bytes orders uint8_t[n_parts][lanes]

cdef enum:
    TAKE_CLEAR = 0                      # other lanes become 0
    TAKE_KEEP = 1                       # other lanes stay
    TAKE_ROWS = 2                       # the block is one of a source


cdef void take_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const take_t *g = <const take_t *>geometry
    cdef const source_t *sources = <const source_t *>(<const char *>geometry + sizeof(take_t))
    cdef const Py_ssize_t *blocks = <const Py_ssize_t *>(sources + g.sources)
    cdef const part_t *parts = <const part_t *>(blocks + 3 * g.blocks + 3)
    cdef const char *table = <const char *>(parts + g.n_parts)
    cdef const part_t *part
    cdef const source_t *s
    cdef const char *x[MAX_LANES]
    cdef char *y
    cdef Py_ssize_t item = g.item
    cdef Py_ssize_t unit = chunk * g.chunk_units, end = min(unit + g.chunk_units, g.n_units)
    cdef rows_t u
    cdef Py_ssize_t n, at, r, r0, r1, w, first, z, h
    cdef int i, count
    while unit < end:
        u = rows_of(unit, g.units, g.unit_rows, g.rows, g.blocks)
        n, at, r0, r1 = u.n, u.block * 3, u.r0, u.r1
        unit = unit + 1
        if r0 == 0:
            fill_halo_of(&g.y, item, <char *>args[g.sources], n, blocks[at], g.y.fill)
        first = blocks[at + 1]
        count = <int>(blocks[at + 4] - first)
        for r in range(r0, r1):
            w = g.last if r == g.rows - 1 else g.width
            z = r // g.height
            h = r % g.height
            for i in range(count):
                part = parts + first + i
                s = sources + part.source
                x[i] = (<const char *>args[part.source]
                        + (s.x.offset + n * s.x.sn + part.block * s.x.sp + z * s.xd + h * s.xh) * item)
            y = <char *>args[g.sources] + (g.y.offset + n * g.y.sn + blocks[at] * g.y.sp + z * g.yd + h * g.yh) * item
            if blocks[at + 2] == TAKE_ROWS:
                memcpy(y, x[0], w * g.y.lanes * item)
            elif item == 1:
                g.table.qvector.mix(<const uint8_t *const *>x, <const uint8_t *>table + first * g.y.lanes, count,
                                    blocks[at + 2] == TAKE_KEEP, <uint8_t *>y, w)
            else:
                g.table.move.mix(<const float *const *>x, <const int *>table + first * 2 * g.y.lanes, count,
                                 blocks[at + 2] == TAKE_KEEP, <float *>y, w)


cdef Launch make_take(str kernel, tuple x_views, object y_view, channels):
    """Channel c of y becomes channel channels[c] of the inputs, counted through all of them; where it is negative, y keeps its own."""
    cdef take_t g
    cdef planes_t p
    cdef Launch launch
    cdef Py_ssize_t lanes = y_view.lanes, c, block, lane, i, k, source, pixel, total, inside, width
    cdef source_t *sources
    cdef Py_ssize_t *listed
    cdef part_t *parts
    cdef int *table
    cdef uint8_t *orders
    cdef bint touch
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    for view in x_views:
        g.item = item_of(kernel, view, y_view)
    g.y = planes_of(y_view)
    g.sources = len(x_views)
    starts = [0]
    for view in x_views:
        starts.append(starts[-1] + view.c)
    # for every block of y, its lanes from every source block
    found = {}
    kept = set()
    c = 0
    source = 0
    xs = []
    for view in x_views:
        xs.append((view.c // view.groups, view.group_blocks))
    for picked in channels:
        block = plane_of_channel(&g.y, c, &lane)
        c += 1
        if picked < 0:
            kept.add(block)
            continue
        while picked >= starts[source + 1]:
            source += 1
        while picked < starts[source]:
            source -= 1
        size, per_group = xs[source]
        k = picked - starts[source]
        inside = k % size
        found.setdefault(block, {}).setdefault((source, k // size * per_group + inside // lanes), []).append((lane, inside % lanes))
    g.blocks = len(found)
    g.n_parts = sum(len(v) for v in found.values())
    g.height = g.y.h
    g.width = g.last = g.y.w
    g.rows = g.y.d * g.y.h
    g.yd, g.yh = g.y.sd, g.y.sh
    pixel = 2 * g.item * lanes
    touch = touching(&g.y)
    for view in x_views:
        p = planes_of(view)
        touch = touch and touching(&p)
    if touch and g.rows * g.width:
        width = min(g.rows * g.width, max(<Py_ssize_t>64, UNIT_BYTES // pixel))
        g.last = g.rows * g.width
        g.rows = ceil_div(g.last, width)
        g.last -= (g.rows - 1) * width
        g.width = width
        g.height = g.rows
        g.yh = width * lanes
    g.unit_rows = min(g.rows, max(<Py_ssize_t>1, UNIT_BYTES // max(<Py_ssize_t>1, g.width * pixel)))
    g.units = max(<Py_ssize_t>1, ceil_div(g.rows, g.unit_rows))   # an empty plane has a halo
    g.n_units = g.y.n * g.blocks * g.units
    g.chunk_units = per_chunk(g.n_units, <double>(g.unit_rows * g.width * pixel) / BYTES_PER_NS)
    moved = 2.0 * g.item * g.y.n * lanes * g.n_parts * g.y.d * g.y.h * g.y.w
    launch = make_launch(kernel, take_chunk, &g, sizeof(g), ceil_div(g.n_units, g.chunk_units), 0,
                         (*(view.nbytes for view in x_views), y_view.nbytes), 0.0, moved).typed(x_views, (y_view,))
    total = g.sources * sizeof(source_t) + (3 * g.blocks + 3) * sizeof(Py_ssize_t) + g.n_parts * (sizeof(part_t) + 2 * lanes * sizeof(int))
    sources = <source_t *>launch.tail(total)
    memset(sources, 0, total)
    listed = <Py_ssize_t *>(sources + g.sources)
    parts = <part_t *>(listed + 3 * g.blocks + 3)
    table = <int *>(parts + g.n_parts)
    orders = <uint8_t *>table
    if g.item == 1:
        memset(orders, 255, g.n_parts * lanes)
    for i in range(g.sources):
        sources[i].x = planes_of(x_views[i])
        sources[i].xd, sources[i].xh = sources[i].x.sd, g.width * lanes if touch else sources[i].x.sh
    i = k = 0
    for block, by_source in found.items():
        listed[3 * i], listed[3 * i + 1] = block, k
        listed[3 * i + 2] = TAKE_KEEP if block in kept else TAKE_CLEAR
        (pairs, *others) = by_source.values()
        if not others and len(pairs) == lanes and all(a == b for a, b in pairs):
            listed[3 * i + 2] = TAKE_ROWS
        for (source, at), pairs in by_source.items():
            parts[k].source, parts[k].block = source, at
            for to, lane in pairs:
                if g.item == 1:
                    orders[k * lanes + <Py_ssize_t>to] = <uint8_t>lane
                else:
                    table[2 * k * lanes + <Py_ssize_t>to] = <int>lane
                    table[(2 * k + 1) * lanes + <Py_ssize_t>to] = -1
            k += 1
        i += 1
    listed[3 * i + 1] = k
    return launch


def build_take_planes(inputs, outputs, *, channels) -> Launch:
    """Channels of one or several tensors in planes, in any order: channel shuffles, Gather, Split and Concat along channels.

    Parameters
    ----------
    inputs : tuple of up to 23 Views
    outputs : tuple of one View
        All of float32 or all of uint8, in planes of the instruction set's lanes, equal but for the channels; any halo and groups.
        The output's halo is written.
    channels : sequence of int
        For each channel of the output, the channel of the input, counted on from one input to the next.

    Raises
    ------
    ValueError
        The views do not fit together, or a channel is not there.
    """
    (y_view,) = outputs
    x_views = tuple(inputs)
    table_lanes = current_table().lanes
    if not 1 <= len(x_views) < MAX_ARGS:
        raise ValueError(f"take_planes: {len(x_views)} inputs")
    for view in (*x_views, y_view):
        if view.is_plain or view.lanes != table_lanes:
            raise ValueError("take_planes: all sides must be planes of the instruction set's lanes")
        if view.n != y_view.n or view.dhw != y_view.dhw:
            raise ValueError(f"take_planes: shapes {view.shape} and {y_view.shape} differ in more than channels")
    count = sum(view.c for view in x_views)
    picked = [int(c) for c in channels]
    if len(picked) != y_view.c or any(not 0 <= c < count for c in picked):
        raise ValueError(f"take_planes: channels {picked} of {count} for an output of {y_view.c}")
    return make_take("take_planes", x_views, y_view, picked)


# ---------------------------------------------------------------- copy_nd, fill

cdef extern from *:
    """
    /* items of any alignment: rows of small items are copied as one larger item */
    typedef uint16_t u2 __attribute__((aligned(1), may_alias));
    typedef uint32_t u4 __attribute__((aligned(1), may_alias));
    typedef uint64_t u8 __attribute__((aligned(1), may_alias));
    #define MOVE_ITEMS(T)                                                                                              \
        static void strided_##T(const char *x, Py_ssize_t xs, char *y, Py_ssize_t ys, Py_ssize_t n)                    \
        {                                                                                                              \
            const Py_ssize_t size = sizeof(T);                                                                         \
            const T *from = (const T *)x;                                                                              \
            T *to = (T *)y;                                                                                            \
            /* flips and every second item: constant strides, which compilers turn into shuffles */                    \
            if (ys == size && xs == -size)                                                                             \
                for (Py_ssize_t i = 0; i < n; i++)                                                                     \
                    to[i] = from[-i];                                                                                  \
            else if (ys == size && xs == 2 * size)                                                                     \
                for (Py_ssize_t i = 0; i < n; i++)                                                                     \
                    to[i] = from[2 * i];                                                                               \
            else                                                                                                       \
                for (Py_ssize_t i = 0; i < n; i++)                                                                     \
                    *(T *)(y + i * ys) = *(const T *)(x + i * xs);                                                     \
        }                                                                                                              \
        static void spread_##T(const char *x, char *y, Py_ssize_t n)                                                   \
        {                                                                                                              \
            const T v = *(const T *)x;                                                                                 \
            T *to = (T *)y;                                                                                            \
            for (Py_ssize_t i = 0; i < n; i++)                                                                         \
                to[i] = v;                                                                                             \
        }                                                                                                              \
        /* y[c * yr + r] = x[r * xr + c], in blocks of 16 columns: a block of x's rows stays in cache */               \
        static void transpose_##T(const char *x, Py_ssize_t xr, char *y, Py_ssize_t yr, Py_ssize_t rows, Py_ssize_t columns) \
        {                                                                                                              \
            for (Py_ssize_t c0 = 0; c0 < columns; c0 += 16) {                                                          \
                const Py_ssize_t c1 = c0 + 16 < columns ? c0 + 16 : columns;                                           \
                for (Py_ssize_t r0 = 0; r0 < rows; r0 += 16) {                                                         \
                    const Py_ssize_t r1 = r0 + 16 < rows ? r0 + 16 : rows;                                             \
                    for (Py_ssize_t c = c0; c < c1; c++)                                                               \
                        for (Py_ssize_t r = r0; r < r1; r++)                                                           \
                            ((T *)(y + c * yr))[r] = ((const T *)(x + r * xr))[c];                                     \
                }                                                                                                      \
            }                                                                                                          \
        }
    typedef unsigned char u1;
    MOVE_ITEMS(u1)
    MOVE_ITEMS(u2)
    MOVE_ITEMS(u4)
    MOVE_ITEMS(u8)
    typedef void (*strided_fn)(const char *, Py_ssize_t, char *, Py_ssize_t, Py_ssize_t);
    typedef void (*spread_fn)(const char *, char *, Py_ssize_t);
    typedef void (*move_transpose_fn)(const char *, Py_ssize_t, char *, Py_ssize_t, Py_ssize_t, Py_ssize_t);
    /* by the logarithm of the item size */
    static const strided_fn strided_items[4] = {strided_u1, strided_u2, strided_u4, strided_u8};
    static const spread_fn spread_items[4] = {spread_u1, spread_u2, spread_u4, spread_u8};
    static const move_transpose_fn transpose_items[4] = {transpose_u1, transpose_u2, transpose_u4, transpose_u8};
    """
    ctypedef void (*strided_fn)(const char *, Py_ssize_t, char *, Py_ssize_t, Py_ssize_t) noexcept nogil
    ctypedef void (*spread_fn)(const char *, char *, Py_ssize_t) noexcept nogil
    ctypedef void (*move_transpose_fn)(const char *, Py_ssize_t, char *, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil
    const strided_fn strided_items[4]
    const spread_fn spread_items[4]
    const move_transpose_fn transpose_items[4]

cdef enum:
    COPY_ROWS = 0
    COPY_SPREAD = 1
    COPY_TRANSPOSE = 2
    COPY_STRIDED = 3
    MAX_AXES = 8

cdef struct copy_t:
    const KernelTable *table
    int way, log_item
    bint vector                         # transposes by tiles
    bint constant                       # the input is `value`
    char value[8]
    int outer                           # outer axes; extents and strides in bytes
    Py_ssize_t n[MAX_AXES]
    Py_ssize_t xs[MAX_AXES]
    Py_ssize_t ys[MAX_AXES]
    Py_ssize_t rows, row_x, row_y       # innermost axis of y
    Py_ssize_t columns, column_x, column_y   # COPY_TRANSPOSE: innermost axis of x
    bint by_columns                     # which of the two is cut into pieces
    Py_ssize_t piece, pieces
    Py_ssize_t x_offset, y_offset       # bytes
    Py_ssize_t n_units, chunk_units


cdef void copy_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const copy_t *g = <const copy_t *>geometry
    cdef const char *x = <const char *>&g.value[0] if g.constant else <const char *>args[0] + g.x_offset
    cdef char *y = <char *>args[0 if g.constant else 1] + g.y_offset
    cdef const char *xp
    cdef char *yp
    cdef Py_ssize_t unit = chunk * g.chunk_units, end = min(unit + g.chunk_units, g.n_units)
    cdef Py_ssize_t at[MAX_AXES]
    cdef Py_ssize_t left = unit // g.pieces, piece = unit % g.pieces, start, rows, columns
    cdef int axis
    for axis in range(g.outer - 1, -1, -1):
        at[axis] = left % g.n[axis]
        left = left // g.n[axis]
        x = x + at[axis] * g.xs[axis]
        y = y + at[axis] * g.ys[axis]
    while unit < end:
        start = piece * g.piece
        rows, columns = g.rows, g.columns
        if g.by_columns:
            columns = min(g.piece, g.columns - start)
            xp = x + start * g.column_x
            yp = y + start * g.column_y
        else:
            rows = min(g.piece, g.rows - start)
            xp = x + start * g.row_x
            yp = y + start * g.row_y
        if g.way == COPY_ROWS:
            memcpy(yp, xp, rows * g.row_y)
        elif g.way == COPY_SPREAD:
            spread_items[g.log_item](xp, yp, rows)
        elif g.way == COPY_STRIDED:
            strided_items[g.log_item](xp, g.row_x, yp, g.row_y, rows)
        elif g.vector:
            g.table.move.transpose(<const float *>xp, g.row_x // 4, <float *>yp, g.column_y // 4, rows, columns)
        else:
            transpose_items[g.log_item](xp, g.row_x, yp, g.column_y, rows, columns)
        unit = unit + 1
        piece = piece + 1
        if piece == g.pieces:
            piece = 0
            for axis in range(g.outer - 1, -1, -1):
                at[axis] = at[axis] + 1
                x = x + g.xs[axis]
                y = y + g.ys[axis]
                if at[axis] < g.n[axis]:
                    break
                at[axis] = 0
                x = x - g.n[axis] * g.xs[axis]
                y = y - g.n[axis] * g.ys[axis]


def joined_axes(shape, x_strides, y_strides) -> list:
    """Axes (extent, x stride, y stride) sorted by the output's stride, those joined that lie together on both sides."""
    axes = sorted(((n, a, b) for n, a, b in zip(shape, x_strides, y_strides, strict=True) if n != 1), key=lambda t: -t[2])
    joined = []
    for n, a, b in axes:
        if joined and joined[-1][1] == a * n and joined[-1][2] == b * n:
            joined[-1] = (joined[-1][0] * n, a, b)
        else:
            joined.append((n, a, b))
    return joined


def check_region(kernel, operand, size, shape, strides, offset, writes) -> None:
    """Raise ValueError unless every item lies inside the buffer; where it is written, it must be written once."""
    low = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s < 0)
    high = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s > 0)
    if low < 0 or high >= size:
        raise ValueError(f"{kernel}: {operand} reaches items {low} to {high} of {size}")
    if writes:
        reach = 0
        for s, n in sorted((s, n) for n, s in zip(shape, strides, strict=True) if n > 1):
            if s <= reach:
                raise ValueError(f"{kernel}: {operand} with strides {strides} overlaps itself")
            reach += (n - 1) * s


cdef Launch make_copy(str kernel, tuple views, shape, x_strides, y_strides, Py_ssize_t x_offset, Py_ssize_t y_offset, object value):
    """The launch of copy_nd, or of fill where `value` is not None; strides and offsets in items, already checked."""
    cdef copy_t g
    cdef Py_ssize_t item = views[-1].dtype.itemsize, cost
    cdef int i
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    g.pieces = 1
    g.columns = 1
    axes = [] if 0 in shape else joined_axes(shape, [s * item for s in x_strides], [s * item for s in y_strides])
    # a short contiguous row of small items is one larger item
    if len(axes) > 1 and axes[-1][1] == axes[-1][2] == item and axes[-1][0] * item in (2, 4, 8):
        item = item * axes.pop()[0]
    if not axes:
        axes = [(1, item, item)]
    n, xs, ys = axes.pop()
    g.rows, g.row_x, g.row_y = n, xs, ys
    if value is not None:
        g.constant = True
        raw = np.asarray(value, views[-1].dtype).tobytes()
        for i in range(len(raw)):
            g.value[i] = (<const char *>raw)[i]
    across = next((k for k in range(len(axes) - 1, -1, -1) if axes[k][1] == item), None)
    if xs == item and ys == item and not g.constant:
        g.way = COPY_ROWS
    elif xs == 0 and ys == item:
        g.way = COPY_SPREAD
    elif ys == item and across is not None:
        g.way = COPY_TRANSPOSE
        g.columns, g.column_x, g.column_y = axes.pop(across)
        g.by_columns = g.columns > g.rows
        g.vector = item == 4 and not any(v % 4 for v in (g.row_x, g.column_y, x_offset * views[0].dtype.itemsize))
        for axis in axes:
            if axis[1] % 4 or axis[2] % 4:
                g.vector = False
        if y_offset * views[-1].dtype.itemsize % 4:
            g.vector = False
    else:
        g.way = COPY_STRIDED
    g.log_item = (<Py_ssize_t>item).bit_length() - 1
    # pieces of the innermost axis, or of the longer of the innermost two (whole tiles of it)
    cost = 2 * item * (g.rows if g.by_columns else g.columns)
    moved = 2 * item * g.rows * g.columns
    for i in range(len(axes)):
        moved *= axes[i][0]
    g.piece = max(<Py_ssize_t>16, min(<Py_ssize_t>UNIT_BYTES, chunk_bytes(moved)) // max(<Py_ssize_t>1, cost) // 16 * 16)
    g.pieces = ceil_div(g.columns if g.by_columns else g.rows, g.piece)
    if len(axes) > MAX_AXES:
        raise ValueError(f"{kernel}: more than {MAX_AXES} separate axes")
    g.outer = len(axes)
    g.n_units = 0 if 0 in shape else g.pieces
    for i in range(g.outer):
        g.n[i], g.xs[i], g.ys[i] = axes[i]
        g.n_units *= g.n[i]
    g.x_offset = x_offset * (0 if g.constant else <Py_ssize_t>views[0].dtype.itemsize)
    g.y_offset = y_offset * <Py_ssize_t>views[-1].dtype.itemsize
    cost = 2 * item * g.rows * g.columns // max(<Py_ssize_t>1, g.pieces)
    # 32: what finding the next unit costs, in bytes that could have been copied
    g.chunk_units = max(<Py_ssize_t>1, chunk_bytes(g.n_units * (cost + 32)) // (cost + 32))
    way = ("rows", "spread", "transpose", "strided")[g.way]
    return make_launch(f"{kernel}[{way}]", copy_chunk, &g, sizeof(g), ceil_div(g.n_units, g.chunk_units), 0,
                       tuple(v.nbytes for v in views), 0.0, moved if g.n_units else 0).typed(views[:-1], views[-1:])


def build_copy_nd(inputs, outputs, *, shape, x_strides, y_strides, x_offset=0, y_offset=0) -> Launch:
    """y[y_offset + sum(i * y_strides)] = x[x_offset + sum(i * x_strides)] for every index i of `shape`; any item size.

    Parameters
    ----------
    inputs, outputs : tuple of one View
        Plain, of the same item size: 1, 2, 4 or 8 bytes.
    shape, x_strides, y_strides : sequences of int
        Extents and strides of the region, in items. Input strides may be 0 or negative; the output's are positive and
        name no item twice.
    x_offset, y_offset : int
        The first item.

    Raises
    ------
    ValueError
        The region leaves a buffer or overlaps itself in y, the item sizes differ, or more than 9 axes remain once those that
        lie together are joined.
    """
    (x_view,), (y_view,) = inputs, outputs
    if not (x_view.is_plain and y_view.is_plain) or x_view.dtype.itemsize != y_view.dtype.itemsize:
        raise ValueError("copy_nd: both sides must be plain, of one item size")
    if y_view.dtype.itemsize not in (1, 2, 4, 8):
        raise ValueError(f"copy_nd: items of {y_view.dtype.itemsize} bytes")
    if min(shape, default=1) < 0:
        raise ValueError(f"copy_nd: shape {tuple(shape)}")
    if 0 not in shape:
        check_region("copy_nd", "input", x_view.size, shape, x_strides, x_offset, False)
        check_region("copy_nd", "output", y_view.size, shape, y_strides, y_offset, True)
    return make_copy("copy_nd", (x_view, y_view), tuple(shape), tuple(x_strides), tuple(y_strides), x_offset, y_offset, None)


def build_fill(inputs, outputs, *, value, shape=None, y_strides=None, y_offset=0) -> Launch:
    """y[y_offset + sum(i * y_strides)] = value for every index i of `shape` (default: the whole output).

    Parameters
    ----------
    inputs : empty tuple
    outputs : tuple of one View
        Plain, items of 1, 2, 4 or 8 bytes.
    value : scalar
        Converted to the output's dtype.
    shape, y_strides, y_offset
        As in `build_copy_nd`.

    Raises
    ------
    ValueError
        The region leaves the buffer, or overlaps itself.
    """
    (y_view,) = outputs
    if len(inputs) or not y_view.is_plain or y_view.dtype.itemsize not in (1, 2, 4, 8):
        raise ValueError("fill: one plain output with items of 1, 2, 4 or 8 bytes, no input")
    if shape is None:
        shape, y_strides, y_offset = (y_view.size,), (1,), 0
    if min(shape, default=1) < 0:
        raise ValueError(f"fill: shape {tuple(shape)}")
    if 0 not in shape:
        check_region("fill", "output", y_view.size, shape, y_strides, y_offset, True)
    return make_copy("fill", (y_view,), tuple(shape), (0,) * len(shape), tuple(y_strides), 0, y_offset, value)


# ---------------------------------------------------------------- gather

cdef struct gather_t:
    Py_ssize_t outer, n, count, inner   # x is [outer][n][inner bytes], y is [outer][count][inner bytes]
    int log_item                        # of inner, where it is one item; else -1
    Py_ssize_t chunk_units
    # `count` offsets into a slice of x follow, in bytes


cdef void gather_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const gather_t *g = <const gather_t *>geometry
    cdef const Py_ssize_t *offsets = <const Py_ssize_t *>(<const char *>geometry + sizeof(gather_t))
    cdef const char *x = <const char *>args[0]
    cdef char *y = <char *>args[1]
    cdef Py_ssize_t unit = chunk * g.chunk_units, end = min(unit + g.chunk_units, g.outer * g.count), at = unit % g.count
    cdef Py_ssize_t slice_bytes = g.n * g.inner
    x = x + unit // g.count * slice_bytes
    while unit < end:
        if g.log_item >= 0:
            spread_items[g.log_item](x + offsets[at], y + unit * g.inner, 1)
        else:
            memcpy(y + unit * g.inner, x + offsets[at], g.inner)
        unit = unit + 1
        at = at + 1
        if at == g.count:
            at = 0
            x = x + slice_bytes


def build_gather(inputs, outputs, *, axis, indices) -> Launch:
    """numpy.take(x, indices, axis) with indices that are known now; any item size.

    Parameters
    ----------
    inputs, outputs : tuple of one View
        Plain, of one dtype.
    axis : int
        0 to rank - 1.
    indices : array of int
        Each at least -n and less than n, n being the extent of the axis.

    Raises
    ------
    ValueError
        An index is out of range, or the views do not fit.
    """
    (x_view,), (y_view,) = inputs, outputs
    cdef gather_t g
    cdef Launch launch
    cdef Py_ssize_t i
    cdef Py_ssize_t *offsets
    shape = x_view.shape
    if not (x_view.is_plain and y_view.is_plain) or x_view.dtype != y_view.dtype or not 0 <= axis < len(shape):
        raise ValueError("gather: both sides must be plain, of one dtype, and the axis within the rank")
    picked = np.asarray(indices).astype(np.int64)
    if y_view.shape != shape[:axis] + picked.shape + shape[axis + 1 :]:
        raise ValueError(f"gather: {shape} by indices of shape {picked.shape} at axis {axis} do not give {y_view.shape}")
    if picked.size and (picked.min() < -shape[axis] or picked.max() >= shape[axis]):
        raise ValueError(f"gather: indices {picked.min()} to {picked.max()} for an axis of {shape[axis]}")
    memset(&g, 0, sizeof(g))
    g.n = shape[axis]
    g.count = picked.size
    g.outer = int(np.prod(shape[:axis], dtype=np.int64))
    g.inner = int(np.prod(shape[axis + 1 :], dtype=np.int64)) * x_view.dtype.itemsize
    g.log_item = (<object>g.inner).bit_length() - 1 if g.inner in (1, 2, 4, 8) else -1
    g.chunk_units = per_chunk(g.outer * g.count, (2.0 * g.inner + 16) / BYTES_PER_NS)
    cdef int64_t[::1] flat = np.ascontiguousarray(np.where(picked < 0, picked + g.n, picked).reshape(-1) * g.inner)
    units = g.outer * g.count if g.inner else 0
    launch = make_launch("gather", gather_chunk, &g, sizeof(g), ceil_div(units, g.chunk_units), 0, (x_view.nbytes, y_view.nbytes), 0.0,
                         2 * y_view.nbytes)
    offsets = <Py_ssize_t *>launch.tail(g.count * sizeof(Py_ssize_t))
    for i in range(g.count):
        offsets[i] = flat[i]
    return launch.typed(inputs, outputs)


# ---------------------------------------------------------------- resize

cdef struct resize_t:
    const KernelTable *table
    planes_t x, y
    Py_ssize_t unit_rows, units, n_units, chunk_units
    bint blend                          # some pixel along w is a mixture
    blending_t store                    # how mixtures of bytes become bytes
    # tables follow: first and second index of d, h, w (w in elements), then the second's weight of d, h, w


cdef void resize_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const resize_t *g = <const resize_t *>geometry
    cdef Py_ssize_t axes = g.y.d + g.y.h + g.y.w
    cdef const Py_ssize_t *first = <const Py_ssize_t *>(<const char *>geometry + sizeof(resize_t))
    cdef const Py_ssize_t *second = first + axes
    cdef const float *weight = <const float *>(second + axes)
    cdef const float *x
    cdef const float *row
    cdef const float *other
    cdef float *y
    cdef float *a = <float *>scratch
    cdef Py_ssize_t unit = chunk * g.chunk_units, end = min(unit + g.chunk_units, g.n_units)
    cdef rows_t u
    cdef Py_ssize_t n, block, r, r0, r1, z, h, n_row = g.x.w * g.x.lanes
    while unit < end:
        u = rows_of(unit, g.units, g.unit_rows, g.y.d * g.y.h, g.y.blocks)
        n, block, r0, r1 = u.n, u.block, u.r0, u.r1
        unit = unit + 1
        if r0 == 0:
            fill_halo(&g.y, <float *>args[1], n, block)
        x = <const float *>args[0] + g.x.offset + n * g.x.sn + block * g.x.sp
        y = <float *>args[1] + g.y.offset + n * g.y.sn + block * g.y.sp
        for r in range(r0, r1):
            z = r // g.y.h
            h = g.y.d + r % g.y.h
            row = x + first[z] * g.x.sd + first[h] * g.x.sh
            # a weight of zero leaves its row unread: infinities there do not count
            if weight[h] != 0:
                g.table.move.blend_rows(row, x + first[z] * g.x.sd + second[h] * g.x.sh, weight[h], a, n_row)
                row = a
            if weight[z] != 0:
                other = x + second[z] * g.x.sd + first[h] * g.x.sh
                if weight[h] != 0:
                    g.table.move.blend_rows(other, x + second[z] * g.x.sd + second[h] * g.x.sh, weight[h], a + n_row, n_row)
                    other = a + n_row
                g.table.move.blend_rows(row, other, weight[z], a, n_row)
                row = a
            g.table.move.blend_pixels(row, first + g.y.d + g.y.h, second + g.y.d + g.y.h,
                                      weight + g.y.d + g.y.h if g.blend else NULL, y + z * g.y.sd + r % g.y.h * g.y.sh, g.y.w)


cdef void pick_pixels_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    """The same for bytes, which are not mixed."""
    cdef const resize_t *g = <const resize_t *>geometry
    cdef const Py_ssize_t *first = <const Py_ssize_t *>(<const char *>geometry + sizeof(resize_t))
    cdef const uint8_t *x
    cdef uint8_t *y
    cdef Py_ssize_t unit = chunk * g.chunk_units, end = min(unit + g.chunk_units, g.n_units)
    cdef rows_t u
    cdef Py_ssize_t n, block, r, r0, r1, z, h
    while unit < end:
        u = rows_of(unit, g.units, g.unit_rows, g.y.d * g.y.h, g.y.blocks)
        n, block, r0, r1 = u.n, u.block, u.r0, u.r1
        unit = unit + 1
        if r0 == 0:
            fill_halo_of(&g.y, 1, <char *>args[1], n, block, g.y.fill)
        x = <const uint8_t *>args[0] + g.x.offset + n * g.x.sn + block * g.x.sp
        y = <uint8_t *>args[1] + g.y.offset + n * g.y.sn + block * g.y.sp
        for r in range(r0, r1):
            z = r // g.y.h
            h = g.y.d + r % g.y.h
            if r > r0 and z == (r - 1) // g.y.h and first[h] == first[h - 1]:   # the row above again
                memcpy(y + z * g.y.sd + r % g.y.h * g.y.sh, y + z * g.y.sd + (r % g.y.h - 1) * g.y.sh, g.y.w * g.y.lanes)
            else:
                g.table.qvector.pick(x + first[z] * g.x.sd + first[h] * g.x.sh, first + g.y.d + g.y.h,
                                     y + z * g.y.sd + r % g.y.h * g.y.sh, g.y.w)


cdef void blend_bytes_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    """The same for bytes that are mixed: rows of floats along d and h, bytes along w."""
    cdef const resize_t *g = <const resize_t *>geometry
    cdef Py_ssize_t axes = g.y.d + g.y.h + g.y.w
    cdef const Py_ssize_t *first = <const Py_ssize_t *>(<const char *>geometry + sizeof(resize_t))
    cdef const Py_ssize_t *second = first + axes
    cdef const float *weight = <const float *>(second + axes)
    cdef const uint8_t *x
    cdef const uint8_t *row
    cdef const uint8_t *other
    cdef uint8_t *y
    cdef float *a = <float *>scratch
    cdef Py_ssize_t unit = chunk * g.chunk_units, end = min(unit + g.chunk_units, g.n_units)
    cdef rows_t u
    cdef Py_ssize_t n, block, r, r0, r1, z, h, w = g.y.d + g.y.h, n_row = g.x.w * g.x.lanes
    while unit < end:
        u = rows_of(unit, g.units, g.unit_rows, g.y.d * g.y.h, g.y.blocks)
        n, block, r0, r1 = u.n, u.block, u.r0, u.r1
        unit = unit + 1
        if r0 == 0:
            fill_halo_of(&g.y, 1, <char *>args[1], n, block, g.y.fill)
        x = <const uint8_t *>args[0] + g.x.offset + n * g.x.sn + block * g.x.sp
        y = <uint8_t *>args[1] + g.y.offset + n * g.y.sn + block * g.y.sp
        for r in range(r0, r1):
            z = r // g.y.h
            h = g.y.d + r % g.y.h
            row = x + first[z] * g.x.sd + first[h] * g.x.sh
            other = x + first[z] * g.x.sd + second[h] * g.x.sh
            if weight[z] != 0:
                g.table.qvector.blend_bytes(row, x + second[z] * g.x.sd + first[h] * g.x.sh, weight[z], a, n_row)
                if weight[h] != 0:
                    g.table.qvector.blend_bytes(other, x + second[z] * g.x.sd + second[h] * g.x.sh, weight[z], a + n_row, n_row)
                    g.table.qvector.blend_floats(a, a + n_row, weight[h], a, n_row)
            else:
                g.table.qvector.blend_bytes(row, other, weight[h], a, n_row)
            g.table.qvector.blend_pixels(a, first + w, second + w, weight + w, &g.store, y + z * g.y.sd + r % g.y.h * g.y.sh, g.y.w)


def build_resize(inputs, outputs, *, tables, store=None) -> Launch:
    """Every output pixel a mixture of two input pixels per spatial axis: nearest and linear Resize.

    Parameters
    ----------
    inputs, outputs : tuple of one View
        Of float32 or uint8 in planes of the instruction set's lanes, one group; any halo. The output's halo is written.
    tables : sequence of (first, second, weight), one per spatial axis
        Output i of the axis is input[first[i]] * (1 - weight[i]) + input[second[i]] * weight[i]; where the weight is 0 the
        second is not read, but along the last axis. In uint8 all weights are 0, unless `store` says what becomes of mixtures.
    store : (x_zero, ratio, zero, low, high), optional
        Of uint8: ``clamp(rint((mixture - x_zero) * ratio) + zero, low, high)``, mixtures made along d, then h, then w, each
        operation rounded to float32. Bounds are those of y, from 0 to 255.

    Raises
    ------
    ValueError
        The views do not fit, a table has another length than the output or an index outside the input, or numbers of `store` are
        none of uint8 or not finite.
    """
    (x_view,), (y_view,) = inputs, outputs
    cdef resize_t g
    cdef chunk_fn run = resize_chunk
    cdef Launch launch
    cdef Py_ssize_t i, at = 0, total, step, item
    cdef Py_ssize_t *indices
    cdef float *weights
    if x_view.is_plain or y_view.is_plain or x_view.groups != 1 or y_view.groups != 1 or x_view.shape[:2] != y_view.shape[:2]:
        raise ValueError("resize: both sides must be planes in one group, of one batch size and channel count")
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    g.x = planes_of(x_view)
    g.y = planes_of(y_view)
    if g.x.lanes != g.table.lanes or g.y.lanes != g.table.lanes or len(tables) != len(x_view.shape) - 2:
        raise ValueError("resize: planes of the instruction set's lanes and a table per spatial axis are needed")
    one = (np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.float32))
    every = [one] * (3 - len(tables)) + [tuple(np.asarray(v) for v in t) for t in tables]
    for (first, second, weight), n, m in zip(every, x_view.dhw, y_view.dhw):
        if not first.shape == second.shape == weight.shape == (m,):
            raise ValueError(f"resize: a table of {first.shape} for an axis of {m} outputs")
        if m and (min(first.min(), second.min()) < 0 or max(first.max(), second.max()) >= n):
            raise ValueError(f"resize: an index outside of the {n} inputs of an axis")
    item = item_of("resize", x_view, y_view)
    if item == 1:
        run = pick_pixels_chunk if store is None else blend_bytes_chunk
        if store is None and any(weight.any() for _, _, weight in every):
            raise ValueError("resize: pixels of uint8 are not mixed")
    if store is not None:
        x_zero, ratio, zero, low, high = store
        if item != 1 or not 0 <= x_zero <= 255 or not 0 <= low <= high <= 255 or not 0 <= zero <= 255 or not 0 < ratio < 2.0 ** 22:
            raise ValueError(f"resize: {y_view.dtype} stored by {store}")
        g.store.x_zero, g.store.ratio = x_zero, ratio
        g.store.zero, g.store.low, g.store.high = zero, low, high
    total = g.y.d + g.y.h + g.y.w
    g.blend = bool(every[2][2].any())
    g.unit_rows = max(<Py_ssize_t>1, UNIT_BYTES // max(<Py_ssize_t>1, g.y.w * g.y.lanes * 2 * item))
    g.units = ceil_div(g.y.d * g.y.h, g.unit_rows)
    g.n_units = g.y.n * g.y.blocks * g.units if g.y.w else 0
    # blending rows and then pixels takes twice as long as moving them
    g.chunk_units = per_chunk(g.n_units, min(g.unit_rows, g.y.d * g.y.h) * g.y.w * g.y.lanes * 4.0 * item / BYTES_PER_NS)
    launch = make_launch("resize", run, &g, sizeof(g), ceil_div(g.n_units, g.chunk_units),
                         2 * g.x.w * g.x.lanes * sizeof(float) if run != pick_pixels_chunk else 0, (x_view.nbytes, y_view.nbytes), 0.0,
                         x_view.nbytes + y_view.nbytes).typed(inputs, outputs)
    indices = <Py_ssize_t *>launch.tail(total * (2 * sizeof(Py_ssize_t) + sizeof(float)))
    weights = <float *>(indices + 2 * total)
    for axis, (first, second, weight) in enumerate(every):
        step = g.x.lanes if axis == 2 else 1
        for i in range(len(first)):
            indices[at] = first[i] * step
            indices[total + at] = second[i] * step
            weights[at] = weight[i]
            at += 1
    return launch
