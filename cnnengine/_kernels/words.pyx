# cython: language_level=3
"""What convolutions over words of 32 bits share: how a layer is cut into chunks, and what a chunk reads.

A word is four bytes, or two numbers of 16 bits, of neighbouring channels of a pixel: qconv.pyx has integers, bconv.pyx numbers of
bfloat16. Planes are those of layout.py; a group is whole blocks of both sides, or starts a block.

Staging
    Where x has other elements than the words (bytes less a zero point, floats), a chunk makes numbers of 16 bits of the pixels that
    it reads, in its scratch, all channels of its rows once. The staged rows are those that its taps meet; of a kernel of one row or
    column only what is met is staged, so that strides vanish.

Loop order of a chunk
    A chunk is one image, one group, a run of output rows of one depth and a run of units of two output blocks. Inside: unit, row, tile.
    Sums never leave the registers, so that a panel is read for each tile: it stays in the second-level cache while the rows pass.
    Where the weights outweigh the input a chunk has as many rows as the stage holds and few units, so that weights are read once;
    elsewhere few rows and all units, so that pixels are staged once.

Taps are a table of pixel offsets, and the output grid has a start and a step, as in conv.pyx.
"""

from libc.stdint cimport uint16_t
from libc.string cimport memset

from cnnengine._kernels.chunks cimport CHUNK_NS, FLOPS_PER_NS, PIECES
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, clamp, larger, smaller
from cnnengine._kernels.planes cimport planes_of, planes_t
from cnnengine._kernels.table cimport KernelTable
from cnnengine._kernels.tiles.words cimport word_tile_t

cdef enum:
    STAGE = 160 << 10                   # bytes of staged pixels: they and a panel of weights lie in the second-level cache


cdef void begin(const words_t *g, const Py_ssize_t *taps, const void *x, const void *w, void *y, const void *r, Py_ssize_t chunk, int zero,
                char *to, place_t *p, word_tile_t *t) noexcept nogil:
    cdef Py_ssize_t share, part, lanes = g.table.lanes
    # chunk -> image, group, depth, rows and units
    if g.units_outside:
        part = chunk % g.row_chunks
        chunk = chunk // g.row_chunks
        p.depth = chunk % g.depths
        chunk = chunk // g.depths
        share = chunk % g.unit_chunks
        chunk = chunk // g.unit_chunks
    else:
        share = chunk % g.unit_chunks
        chunk = chunk // g.unit_chunks
        part = chunk % g.row_chunks
        chunk = chunk // g.row_chunks
        p.depth = chunk % g.depths
        chunk = chunk // g.depths
    p.group = chunk % g.groups
    p.n = chunk // g.groups
    p.row0 = part * g.chunk_rows
    p.row1 = smaller(p.row0 + g.chunk_rows, g.rows)
    p.unit0 = share * g.chunk_units
    p.unit1 = smaller(p.unit0 + g.chunk_units, g.units)
    p.x = <const char *>x + g.x0 + p.n * g.x.sn + p.group * g.x_blocks * g.x.sp + p.depth * g.xd
    memset(t, 0, sizeof(word_tile_t))
    t.xplane = g.x.sp
    t.xstep = g.xw
    p.x_row = g.xh
    if g.staged != NULL:
        stage(g, p.x, p.row0, p.row1, zero, to)
        # where the staged pixels of the first row's own would be
        p.x = to
        t.xplane = g.stage_plane
        t.xstep = g.pixel_step
        p.x_row = g.stage_row * g.row_step
    else:
        p.x = p.x + p.row0 * g.xh
    # weights: groups lie one after another, a panel of an odd number's last block is half as large
    p.w = <const char *>w + p.group * (g.panel // 2) * g.y_blocks
    p.y = <char *>y + g.y0 + (p.n * g.y.sn + p.group * g.y_blocks * g.y.sp) * g.item + p.depth * g.yd
    p.r = NULL
    if r != NULL:
        p.r = <const char *>r + g.r0 + p.n * g.r.sn + p.group * g.y_blocks * g.r.sp + p.depth * g.rd
    t.taps = taps
    t.n_taps = g.n_taps
    t.planes = g.whole
    t.steps = g.steps
    t.partial = g.partial
    t.yplane = g.y.sp * g.item
    t.ystep = g.yw
    t.rplane = g.r.sp
    t.rstep = g.rw


cdef void stage(const words_t *g, const char *x, Py_ssize_t row0, Py_ssize_t row1, int zero, char *to) noexcept nogil:
    """The pixels of x that these output rows meet, all planes of the group, as numbers of 16 bits."""
    cdef Py_ssize_t lanes = g.x.lanes, planes = g.whole + (1 if g.partial else 0), plane, z, r, p, columns
    cdef Py_ssize_t rows = (row1 - 1 - row0) * g.row_step + g.more_rows + 1, pixel = lanes * g.x_item
    cdef const char *row
    cdef char *y
    for plane in range(planes):
        for z in range(g.stage_depths):
            y = to + plane * g.stage_plane + z * g.stage_depth
            row = x + plane * g.x.sp + (g.first_depth + z) * g.x.sd + row0 * g.xh + g.top * g.x.sh + g.left * pixel
            for r in range(rows):
                columns = g.last_columns if row0 + r >= g.rows - 1 else g.columns
                if g.x_pixel == pixel:
                    g.staged(g.table, row, y, columns * lanes, zero)
                else:
                    for p in range(columns):
                        g.staged(g.table, row + p * g.x_pixel, y + 2 * p * lanes, lanes, zero)
                if plane == g.whole and g.zeroed >= 0:
                    for p in range(columns):
                        (<uint16_t *>y)[p * lanes + g.zeroed] = 0
                y = y + g.stage_row
                row = row + g.x_row


cdef Py_ssize_t span(object taps, int axis) except -1:
    """How far the taps reach along an axis."""
    return max(t[axis] for t in taps) - min(t[axis] for t in taps)


cdef inline void in_bytes(planes_t *p, Py_ssize_t item) noexcept:
    """Strides and offset of elements of `item` bytes as bytes."""
    p.sn *= item
    p.sp *= item
    p.sd *= item
    p.sh *= item
    p.offset *= item


cdef int resolve(words_t *g, str name, object xv, object yv, object rv, object taps, object stride, object start, object step,
                 object extent, Py_ssize_t groups, Py_ssize_t word, halve_fn staged) except -1:
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, i, n_taps = len(taps), lowest = 0, highest = 0, offset, first, last
    cdef Py_ssize_t od, oh, ow, cg, og, work, wanted, rows, fixed
    memset(g, 0, sizeof(words_t))
    if yv.lanes != lanes or xv.c % groups or yv.c % groups or xv.n != yv.n:
        raise ValueError(f"{name}: {xv} -> {yv} with groups {groups}")
    for v in (xv, yv):
        # groups of whole blocks lie as one group does
        if v.groups != groups and not (v.groups == 1 and v.c // groups % v.lanes == 0):
            raise ValueError(f"{name}: {v} does not have {groups} groups")
    g.table = table
    g.staged = staged
    g.x = planes_of(xv)
    g.y = planes_of(yv)
    g.x_item = xv.dtype.itemsize
    g.item = yv.dtype.itemsize
    in_bytes(&g.x, g.x_item)
    g.groups = groups
    cg = xv.c // groups
    og = yv.c // groups
    g.x_blocks = ceil_div(cg, xv.lanes)
    g.whole = cg // xv.lanes
    g.steps = xv.lanes // word
    g.partial = ceil_div(cg % xv.lanes, word)
    g.y_blocks = ceil_div(og, lanes)
    g.zeroed = -1
    od, oh, ow = yv.dhw if extent is None else extent
    g.depths, g.rows = od, oh
    g.width = g.last_width = ow
    g.xd = stride[0] * g.x.sd
    g.xh = stride[1] * g.x.sh
    g.xw = stride[2] * g.x.lanes * g.x_item
    g.x0 = g.x.offset
    g.y0 = (g.y.offset + start[0] * g.y.sd + start[1] * g.y.sh + start[2] * lanes) * g.item
    g.yd = step[0] * g.y.sd * g.item
    g.yh = step[1] * g.y.sh * g.item
    g.yw = step[2] * lanes * g.item
    if start[0] + (od - 1) * step[0] >= g.y.d or start[1] + (oh - 1) * step[1] >= g.y.h or start[2] + (ow - 1) * step[2] >= g.y.w:
        raise ValueError(f"{name}: the output grid leaves y")
    g.n_taps = n_taps
    g.panel = (g.whole * g.steps + g.partial) * n_taps * 8 * lanes
    if rv is not None:
        if rv.shape != yv.shape or rv.lanes != lanes or rv.groups != yv.groups:
            raise ValueError(f"{name}: residual {rv} for {yv}")
        g.r = planes_of(rv)
        g.r_item = rv.dtype.itemsize
        in_bytes(&g.r, g.r_item)
        g.r0 = g.r.offset + start[0] * g.r.sd + start[1] * g.r.sh + start[2] * lanes * g.r_item
        g.rd = step[0] * g.r.sd
        g.rh = step[1] * g.r.sh
        g.rw = step[2] * lanes * g.r_item

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
        g.xh = g.width * g.x.lanes * g.x_item
        g.yh = g.width * lanes * g.item
        g.rh = g.width * lanes * g.r_item

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
        g.x_pixel = g.x.lanes * g.x_item if i else g.xw
        g.pixel_step = 2 * g.x.lanes * (stride[2] if i else 1)
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
    if staged != NULL and fixed:
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
    g.chunks = xv.n * groups * g.depths * g.row_chunks * g.unit_chunks
    rows = (g.chunk_rows - 1) * g.row_step + g.more_rows + 1
    if staged != NULL:
        g.stage_depth = rows * g.stage_row
        g.stage_plane = g.stage_depths * g.stage_depth
        g.stage_bytes = g.stage_plane * (g.whole + (1 if g.partial else 0))

    for i in range(n_taps):
        offset = taps[i][0] * g.x.sd + taps[i][1] * g.x.sh + taps[i][2] * g.x.lanes * g.x_item
        lowest = smaller(offset, lowest) if i else offset
        highest = larger(offset, highest) if i else offset
    if g.rows and g.depths and ow and xv.n and n_taps and g.x.blocks:
        first = g.x0 + lowest
        last = g.x0 + (xv.n - 1) * g.x.sn + (g.x.blocks - 1) * g.x.sp + highest + g.x.lanes * g.x_item - 1
        last += (od - 1) * g.xd + (oh - 1) * g.xh + (ow - 1) * g.xw if not flat else (g.x.d * g.x.h * g.x.w - 1) * g.x.lanes * g.x_item
        if first < 0 or last >= xv.nbytes:
            raise ValueError(f"{name}: the taps reach bytes {first} to {last} of a buffer of {xv.nbytes}")
    return 0


cdef int put_taps(const words_t *g, object taps, Py_ssize_t *offsets) except -1:
    cdef Py_ssize_t i
    for i in range(g.n_taps):
        if g.staged != NULL:
            offsets[i] = (taps[i][0] - g.first_depth) * g.stage_depth
            offsets[i] += ((taps[i][1] - g.top) * g.stage_row if g.more_rows else 0) + (taps[i][2] - g.left) * 2 * g.x.lanes
        else:
            offsets[i] = taps[i][0] * g.x.sd + taps[i][1] * g.x.sh + taps[i][2] * g.x.lanes * g.x_item
    return 0
