# cython: language_level=3
"""Kernels that make images of images: Resize with any weights, Col2Im, the columns of DeformConv, AffineGrid.

`resample`
    Every output pixel is a weighted sum along each axis, of as many taps as there are: antialiased, cubic, cropped; and nearest
    and linear of plain tensors, which are planes of one lane here. An output row is first made from the input rows that weigh in
    it, whole rows at a time (tiles.mix_rows), into a row of scratch that stays in the first-level cache; then its pixels from
    that row. So what shrinks does its long sums over rows in vectors, and no intermediate tensor is stored. A row of one tap of
    weight 1 is read where it lies, and an output row that has the input row of the one above is a copy of it (nearest). Along
    the row:

        same        every pixel is its own
        repeat      every pixel is repeated as often (nearest, whole factors)
        pick        one tap of weight 1 (nearest)
        blend       at most two taps (linear)
        along       any taps, contiguous (plain)
        weigh       any taps (planes, tiles.weigh of the move family)

    Taps of weight 0 are left out of the tables: what does not weigh in is not read, be it infinite. Unit = piece of a plane.

`col2im`
    Plain. The columns of a channel are added up into its image, tap after tap, a row of blocks at a time. Unit = (image, channel):
    no two units write one pixel, and the order of sums is that of the taps.

`deform_columns`
    Samples for each tap of a kernel where an offset put it, all channels at once: what a 1x1 convolution multiplies
    afterwards. Channels of the output are (group, tap, channel), each tap's padded to whole blocks with zeros. The four corners
    and their weights are worked out once for a piece of a row and used for every block. Unit = (image, offset group, tap, piece).

`affine_grid`
    Plain. Unit = rows of a grid; along a row, coordinates are straight lines.
"""

from libc.math cimport floor
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from cnnengine._kernels.chunks cimport BYTES_PER_NS, per_chunk
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, smaller
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.planes cimport fill_halo, planes_of, planes_t, rows_of, rows_t
from cnnengine._kernels.table cimport KernelTable

import numpy as np

cdef enum:
    UNIT_BYTES = 131072                 # of one piece of a plane, which stays in cache
    PIECE = 64                          # output pixels of a row whose taps are worked out together

cdef enum:
    SAME = 0
    REPEAT = 1
    PICK = 2
    BLEND = 3
    ALONG = 4
    WEIGH = 5


class _Tables:
    """Arrays one after another behind a geometry, at multiples of eight bytes."""

    def __init__(self, start):
        self.start = start
        self.parts = []
        self.size = 0

    def add(self, array, dtype):
        """Its distance from the start of the geometry."""
        data = np.ascontiguousarray(array, dtype).tobytes()
        at = self.start + self.size
        self.parts.append(data + bytes((8 - len(data) % 8) % 8))
        self.size += len(self.parts[-1])
        return at


cdef Launch with_tables(Launch launch, object kept):
    """The launch, these tables behind its geometry."""
    cdef bytes tables = b"".join(kept.parts)
    memcpy(launch.tail(len(tables)), <const char *>tables, len(tables))
    return launch


cdef planes_t either_of(object view) except *:
    """Of a view in planes, or of a plain (N, C, 1 to 3 spatial axes) one: one lane, no halo."""
    cdef planes_t p
    if not view.is_plain:
        return planes_of(view)
    memset(&p, 0, sizeof(p))
    p.n, p.c, *spatial = view.shape
    p.d, p.h, p.w = (1,) * (3 - len(spatial)) + tuple(spatial)
    p.blocks = p.c
    p.groups = p.lanes = 1
    p.sh = p.w
    p.sd = p.h * p.sh
    p.sp = p.d * p.sd
    p.sn = p.c * p.sp
    return p


# ---------------------------------------------------------------- resample

cdef struct axis_t:
    Py_ssize_t starts, offsets, weights  # where the tables lie, in bytes from the geometry; offsets are floats into a plane


cdef struct resample_t:
    const KernelTable *table
    planes_t x, y
    axis_t d, h, w
    Py_ssize_t taps, second, share       # of w: taps of each pixel; BLEND: second indices and their weights
    Py_ssize_t off, n_off                # pixels of a row that are `value`
    Py_ssize_t most                      # taps of a row of the output, at most
    Py_ssize_t times                     # REPEAT
    Py_ssize_t unit_rows, units, n_units, chunk_units
    int way
    float value


cdef void resample_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const resample_t *g = <const resample_t *>geometry
    cdef const char *base = <const char *>geometry
    cdef const int64_t *zs = <const int64_t *>(base + g.d.starts)
    cdef const int64_t *hs = <const int64_t *>(base + g.h.starts)
    cdef const Py_ssize_t *zo = <const Py_ssize_t *>(base + g.d.offsets)
    cdef const Py_ssize_t *ho = <const Py_ssize_t *>(base + g.h.offsets)
    cdef const float *zw = <const float *>(base + g.d.weights)
    cdef const float *hw = <const float *>(base + g.h.weights)
    cdef const int64_t *off = <const int64_t *>(base + g.off)
    cdef Py_ssize_t *offsets = <Py_ssize_t *>scratch
    cdef float *weights = <float *>(offsets + g.most)
    cdef float *mixed = <float *>(scratch + (g.most * (sizeof(Py_ssize_t) + sizeof(float)) + 63) // 64 * 64)
    cdef Py_ssize_t unit = chunk * g.chunk_units, end = min(unit + g.chunk_units, g.n_units)
    cdef rows_t u
    cdef Py_ssize_t n, block, r, r0, r1, z, h, a, b, count, i, k
    cdef Py_ssize_t n_row = g.x.w * g.x.lanes, m_row = g.y.w * g.y.lanes
    cdef const float *x
    cdef const float *row
    cdef const float *last
    cdef float *y
    cdef float *to
    cdef float *before
    while unit < end:
        u = rows_of(unit, g.units, g.unit_rows, g.y.d * g.y.h, g.y.blocks)
        n, block, r0, r1 = u.n, u.block, u.r0, u.r1
        unit = unit + 1
        if r0 == 0:
            fill_halo(&g.y, <float *>args[1], n, block)
        x = <const float *>args[0] + g.x.offset + n * g.x.sn + block * g.x.sp
        y = <float *>args[1] + g.y.offset + n * g.y.sn + block * g.y.sp
        last = NULL
        before = NULL
        for r in range(r0, r1):
            z = r // g.y.h
            h = r % g.y.h
            to = y + z * g.y.sd + h * g.y.sh
            count = (zs[z + 1] - zs[z]) * (hs[h + 1] - hs[h])
            if count == 0:
                for i in range(m_row):
                    to[i] = g.value
                last = NULL
                continue
            if count == 1 and zw[zs[z]] * hw[hs[h]] == 1:
                row = x + zo[zs[z]] + ho[hs[h]]
                if row == last:
                    memcpy(to, before, m_row * sizeof(float))
                    continue
                last = row
                before = to
            else:
                last = NULL
                k = 0
                for a in range(zs[z], zs[z + 1]):
                    for b in range(hs[h], hs[h + 1]):
                        offsets[k] = zo[a] + ho[b]
                        weights[k] = zw[a] * hw[b]
                        k = k + 1
                row = mixed if g.way != SAME else to
                g.table.image.mix_rows(x, offsets, weights, count, <float *>row, n_row)
            if g.way == SAME:
                if row != to:
                    memcpy(to, row, m_row * sizeof(float))
            elif g.way == REPEAT:
                g.table.image.repeat(row, g.times, to, g.x.w)
            elif g.way == PICK:
                g.table.image.pick(row, <const int *>(base + g.w.offsets), to, g.y.w)
            elif g.way == BLEND:
                g.table.image.blend_along(row, <const int *>(base + g.w.offsets), <const int *>(base + g.second),
                                          <const float *>(base + g.w.weights), <const float *>(base + g.share), to, g.y.w)
            elif g.way == ALONG:
                g.table.image.mix_along(row, <const Py_ssize_t *>(base + g.w.offsets), <const float *>(base + g.w.weights),
                                        <const int *>(base + g.taps), to, g.y.w)
            else:
                g.table.move.weigh(row, <const Py_ssize_t *>(base + g.w.offsets), <const float *>(base + g.w.weights),
                                   <const int *>(base + g.taps), to, g.y.w)
            for i in range(g.n_off):
                for k in range(g.y.lanes):
                    to[off[i] * g.y.lanes + k] = g.value


def build_resample(inputs, outputs, *, tables, value=0.0) -> Launch:
    """Every output pixel a weighted sum of input pixels along each spatial axis.

    Parameters
    ----------
    inputs, outputs : tuple of one View
        (N, C, 1 to 3 spatial axes), float32: both plain, or both in planes of the instruction set's lanes and one group, with any
        halo; the output's halo is written.
    tables : sequence of (counts, indices, weights), one per spatial axis
        Output i of the axis has counts[i] taps, whose indices, one after another without a gap, and weights follow those of the
        outputs before it.
    value : float
        What pixels become that have no tap along some axis.

    Raises
    ------
    ValueError
        The views do not fit, or a table has another length than the output or an index outside of the input.
    """
    (x_view,), (y_view,) = inputs, outputs
    cdef resample_t g
    if x_view.is_plain != y_view.is_plain or x_view.dtype != np.float32 or y_view.dtype != np.float32 or not 3 <= len(x_view.shape) <= 5:
        raise ValueError("resample: both sides must be plain, or both in planes")
    if x_view.shape[:2] != y_view.shape[:2] or len(x_view.shape) != len(y_view.shape):
        raise ValueError(f"resample: {x_view.shape} to {y_view.shape}")
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    g.x = either_of(x_view)
    g.y = either_of(y_view)
    if not x_view.is_plain and (g.x.lanes != g.table.lanes or g.y.lanes != g.table.lanes or g.x.groups != 1 or g.y.groups != 1):
        raise ValueError("resample: planes of the instruction set's lanes in one group are needed")
    if len(tables) != len(x_view.shape) - 2:
        raise ValueError(f"resample: {len(tables)} tables")
    one = (np.ones(1, np.int64), np.zeros(1, np.int64), np.ones(1, np.float32))
    every = [one] * (3 - len(tables)) + [(np.asarray(c, np.int64), np.asarray(i, np.int64), np.asarray(w, np.float32)) for c, i, w in tables]
    for (counts, index, weights), n, m in zip(every, (g.x.d, g.x.h, g.x.w), (g.y.d, g.y.h, g.y.w)):
        if counts.shape != (m,) or index.ndim != 1 or index.shape != weights.shape or (m and counts.min() < 0) or counts.sum() != len(index):
            raise ValueError(f"resample: tables of {counts.shape}, {index.shape} and {weights.shape} for an axis of {m} outputs")
        if len(index) and (index.min() < 0 or index.max() >= n):
            raise ValueError(f"resample: an index outside of the {n} inputs of an axis")
        later = np.ones(len(index), bool)
        later[(np.cumsum(counts) - counts)[counts > 0]] = False
        if (np.diff(index, prepend=-2)[later] != 1).any():
            raise ValueError("resample: indices of one output with gaps")
    kept = _Tables(sizeof(g))
    for axis, step in ((0, g.x.sd), (1, g.x.sh)):
        counts, index, weights = every[axis]
        places = (kept.add(np.concatenate([[0], np.cumsum(counts)]), np.int64), kept.add(index * step, np.int64), kept.add(weights, np.float32))
        if axis == 0:
            g.d.starts, g.d.offsets, g.d.weights = places
        else:
            g.h.starts, g.h.offsets, g.h.weights = places
    counts, index, weights = every[2]
    n, m = g.x.w, g.y.w
    starts = np.cumsum(counts) - counts
    single = bool((counts == 1).all() and (weights == 1).all())
    if single and n == m and (index == np.arange(n)).all():
        g.way, name = SAME, "same"
    elif single and m > n and m % n == 0 and g.x.lanes == 1 and (index == np.arange(m) // (m // n)).all():
        g.way, name, g.times = REPEAT, "repeat", m // n
    elif g.x.lanes > 1:
        g.way, name = WEIGH, "weigh"
        g.w.offsets, g.w.weights, g.taps = kept.add(index * g.x.lanes, np.int64), kept.add(weights, np.float32), kept.add(counts, np.int32)
    elif single:
        g.way, name = PICK, "pick"
        g.w.offsets = kept.add(index, np.int32)
    elif m and counts.min() > 0 and counts.max() <= 2 and n < 1 << 31:
        g.way, name = BLEND, "blend"
        two = counts == 2
        second = starts + two
        # a pixel alone is the sum of its halves: with the weights 1 and 0, infinity would become no number
        u = np.where(two, weights[starts], weights[starts] / 2)
        g.w.offsets, g.second = kept.add(index[starts], np.int32), kept.add(index[second], np.int32)
        g.w.weights, g.share = kept.add(u, np.float32), kept.add(np.where(two, weights[second], u), np.float32)
    else:
        g.way, name = ALONG, "along"
        first = np.zeros(m, np.int64)
        first[counts > 0] = index[starts[counts > 0]]
        g.w.offsets, g.w.weights, g.taps = kept.add(first, np.int64), kept.add(weights, np.float32), kept.add(counts, np.int32)
    off = np.flatnonzero(counts == 0)
    g.off, g.n_off, g.value = kept.add(off, np.int64), len(off), value
    g.most = max(1, max(every[0][0], default=0) * max(every[1][0], default=0))
    row = max(<Py_ssize_t>1, 4 * g.x.lanes * (g.y.w + g.x.w * g.most))
    g.unit_rows = max(<Py_ssize_t>1, min(g.y.d * g.y.h, UNIT_BYTES // row))
    g.units = ceil_div(g.y.d * g.y.h, g.unit_rows)
    g.n_units = g.y.n * g.y.blocks * g.units if g.y.w else 0
    g.chunk_units = per_chunk(g.n_units, 2.0 * g.unit_rows * row / BYTES_PER_NS)
    scratch = ceil_div(g.most * (sizeof(Py_ssize_t) + sizeof(float)), 64) * 64 + g.x.w * g.x.lanes * sizeof(float)
    flops = 2.0 * g.y.n * g.y.blocks * g.x.lanes * (len(every[1][1]) * max(1, len(every[0][1])) * g.x.w + g.y.d * g.y.h * len(index))
    launch = make_launch(f"resample {name}", resample_chunk, &g, sizeof(g), ceil_div(g.n_units, g.chunk_units), scratch,
                         (x_view.nbytes, y_view.nbytes), flops, x_view.nbytes + y_view.nbytes)
    return with_tables(launch, kept)


# ---------------------------------------------------------------- columns to images

cdef struct col2im_t:
    const KernelTable *table
    Py_ssize_t image[3]
    Py_ssize_t block[3]
    Py_ssize_t blocks[3]                # of the image along each axis
    Py_ssize_t strides[3]
    Py_ssize_t dilations[3]
    Py_ssize_t pads[3]
    Py_ssize_t taps, columns, pixels


cdef inline void inside(Py_ssize_t start, Py_ssize_t stride, Py_ssize_t extent, Py_ssize_t count, Py_ssize_t *low, Py_ssize_t *high) noexcept nogil:
    """The i, low <= i < high, of 0 .. count for which 0 <= start + i * stride < extent."""
    low[0] = ceil_div(-start, stride) if start < 0 else 0
    high[0] = min(count, ceil_div(extent - start, stride)) if extent > start else 0


cdef void col2im_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const col2im_t *g = <const col2im_t *>geometry
    cdef const float *x = <const float *>args[0] + chunk * g.taps * g.columns
    cdef float *y = <float *>args[1] + chunk * g.pixels
    cdef Py_ssize_t kd, kh, kw, bd, bh, z, r, start, d0, d1, h0, h1, w0, w1
    memset(y, 0, g.pixels * sizeof(float))
    for kd in range(g.block[0]):
        inside(kd * g.dilations[0] - g.pads[0], g.strides[0], g.image[0], g.blocks[0], &d0, &d1)
        for kh in range(g.block[1]):
            inside(kh * g.dilations[1] - g.pads[1], g.strides[1], g.image[1], g.blocks[1], &h0, &h1)
            for kw in range(g.block[2]):
                start = kw * g.dilations[2] - g.pads[2]
                inside(start, g.strides[2], g.image[2], g.blocks[2], &w0, &w1)
                if w1 > w0:
                    for bd in range(d0, d1):
                        z = kd * g.dilations[0] - g.pads[0] + bd * g.strides[0]
                        for bh in range(h0, h1):
                            r = kh * g.dilations[1] - g.pads[1] + bh * g.strides[1]
                            g.table.image.scatter(x + (bd * g.blocks[1] + bh) * g.blocks[2] + w0,
                                                  y + (z * g.image[1] + r) * g.image[2] + start + w0 * g.strides[2], g.strides[2], w1 - w0)
                x = x + g.columns


def build_col2im(inputs, outputs, *, block, strides, dilations, pads) -> Launch:
    """Columns added up into images.

    Parameters
    ----------
    inputs : tuple of one View
        (N, C * taps, blocks), plain float32.
    outputs : tuple of one View
        (N, C, 1 to 3 spatial axes), plain float32.
    block, strides, dilations : sequence of int
        One for each spatial axis.
    pads : sequence of int
        All begins, then all ends.

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (x_view,), (y_view,) = inputs, outputs
    cdef col2im_t g
    cdef Py_ssize_t i
    rank = len(y_view.shape) - 2
    if not (x_view.is_plain and y_view.is_plain) or x_view.dtype != np.float32 or y_view.dtype != np.float32 or not 1 <= rank <= 3:
        raise ValueError("col2im: plain float32 with one to three spatial axes")
    if not len(block) == len(strides) == len(dilations) == rank or len(pads) != 2 * rank or min(*block, *strides, *dilations) < 1 or min(pads) < 0:
        raise ValueError(f"col2im: {block}, {strides}, {dilations}, {pads}")
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    g.taps = g.columns = g.pixels = 1
    for i in range(3):
        axis = i - (3 - rank)
        g.image[i], g.block[i], g.strides[i], g.dilations[i], g.pads[i] = (
            (y_view.shape[2 + axis], block[axis], strides[axis], dilations[axis], pads[axis]) if axis >= 0 else (1, 1, 1, 1, 0)
        )
        after = pads[rank + axis] if axis >= 0 else 0
        g.blocks[i] = (g.image[i] + g.pads[i] + after - g.dilations[i] * (g.block[i] - 1) - 1) // g.strides[i] + 1
        if g.blocks[i] < 1:
            raise ValueError("col2im: the block is larger than the image")
        g.taps *= g.block[i]
        g.columns *= g.blocks[i]
        g.pixels *= g.image[i]
    n, c = y_view.shape[:2]
    if x_view.shape != (n, c * g.taps, g.columns):
        raise ValueError(f"col2im: columns of {x_view.shape} for images of {y_view.shape}")
    return make_launch("col2im", col2im_chunk, &g, sizeof(g), n * c, 0, (x_view.nbytes, y_view.nbytes), 1.0 * x_view.size,
                       x_view.nbytes + y_view.nbytes)


# ---------------------------------------------------------------- deformable convolutions

cdef struct deform_t:
    const KernelTable *table
    planes_t x, y
    Py_ssize_t kernel[2]
    Py_ssize_t strides[2]
    Py_ssize_t dilations[2]
    Py_ssize_t pads[2]
    Py_ssize_t taps, parts, part_blocks, group_blocks, pieces, piece
    Py_ssize_t last                     # channels of each tap's last block


cdef void deform_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const deform_t *g = <const deform_t *>geometry
    cdef Py_ssize_t piece = chunk % g.pieces, row = chunk // g.pieces % g.y.h, tap = chunk // (g.pieces * g.y.h) % g.taps
    cdef Py_ssize_t part = chunk // (g.pieces * g.y.h * g.taps) % g.parts, n = chunk // (g.pieces * g.y.h * g.taps * g.parts)
    cdef Py_ssize_t start = piece * g.piece, pixels = min(g.piece, g.y.w - start), area = g.y.h * g.y.w, p, k = 0, b, block, i, j, l
    cdef const float *down = <const float *>args[1] + ((n * g.parts + part) * g.taps + tap) * 2 * area + row * g.y.w + start
    cdef const float *across = down + area
    cdef const float *mask = NULL
    cdef const float *x = <const float *>args[0] + g.x.offset + n * g.x.sn
    cdef float *y
    cdef Py_ssize_t *offsets = <Py_ssize_t *>scratch
    cdef float *weights = <float *>(offsets + 4 * g.piece)
    cdef int *taps = <int *>(weights + 4 * g.piece)
    cdef double top = <double>(row * g.strides[0] - g.pads[0] + tap // g.kernel[1] * g.dilations[0])
    cdef double left = <double>(start * g.strides[1] - g.pads[1] + tap % g.kernel[1] * g.dilations[1])
    cdef double h, w, low_h, low_w, part_h, part_w, share, factor
    if args[2] != NULL:
        mask = <const float *>args[2] + ((n * g.parts + part) * g.taps + tap) * area + row * g.y.w + start
    for p in range(pixels):
        taps[p] = 0
        h = top + down[p]
        w = left + <double>(p * g.strides[1]) + across[p]
        # elsewhere, also where one is no number, all samples are outside
        if not (h > -1 and h < <double>g.x.h and w > -1 and w < <double>g.x.w):
            continue
        low_h = floor(h)
        low_w = floor(w)
        part_h = h - low_h
        part_w = w - low_w
        factor = mask[p] if mask != NULL else 1
        for i in range(2):
            for j in range(2):
                share = (part_h if i else 1 - part_h) * (part_w if j else 1 - part_w)
                if share == 0 or low_h + <double>i < 0 or low_h + <double>i >= <double>g.x.h or low_w + <double>j < 0 or low_w + <double>j >= <double>g.x.w:
                    continue
                offsets[k] = (<Py_ssize_t>low_h + i) * g.x.sh + (<Py_ssize_t>low_w + j) * g.x.lanes
                weights[k] = <float>(share * factor)
                k = k + 1
                taps[p] = taps[p] + 1
    for b in range(g.part_blocks):
        block = part * g.part_blocks + b
        i = block // g.group_blocks * g.group_blocks * g.taps + tap * g.group_blocks + block % g.group_blocks
        if row == 0 and piece == 0:
            fill_halo(&g.y, <float *>args[3], n, i)
        y = <float *>args[3] + g.y.offset + n * g.y.sn + i * g.y.sp + row * g.y.sh + start * g.y.lanes
        g.table.move.weigh(x + block * g.x.sp, offsets, weights, taps, y, pixels)
        if block == g.x.blocks - 1 and g.last < g.x.lanes:
            for p in range(pixels):
                for l in range(g.last, g.x.lanes):
                    y[p * g.x.lanes + l] = 0


def build_deform_columns(inputs, outputs, *, kernel, strides, dilations, pads, group, parts) -> Launch:
    """Samples of x for each tap of a kernel, where offsets moved it.

    Parameters
    ----------
    inputs : tuple of View, View, View or None
        x (N, C, H, W) in planes of the instruction set's lanes, one group; offsets (N, parts * taps * 2, h, w) and masks
        (N, parts * taps, h, w), plain float32.
    outputs : tuple of one View
        (N, taps * channels, h, w) in planes of as many lanes: C rounded up to whole blocks, (group, tap, channel).
    kernel, strides, dilations, pads : pairs of int
        pads: the begins.
    group, parts : int
        Groups of channels in the output and of offsets. Where there are several, each must be whole blocks.

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (x_view, o_view, m_view), (y_view,) = inputs, outputs
    cdef deform_t g
    cdef Py_ssize_t i
    if x_view.is_plain or y_view.is_plain or x_view.groups != 1 or y_view.groups != 1 or len(x_view.shape) != 4 or len(y_view.shape) != 4:
        raise ValueError("deform_columns: x and y must be 2-D planes in one group")
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    g.x = planes_of(x_view)
    g.y = planes_of(y_view)
    for i in range(2):
        g.kernel[i], g.strides[i], g.dilations[i], g.pads[i] = kernel[i], strides[i], dilations[i], pads[i]
    if min(*kernel, *strides, *dilations, group, parts) < 1 or 0 in x_view.shape or 0 in y_view.shape:
        raise ValueError(f"deform_columns: {kernel}, {strides}, {dilations}, {group}, {parts}, {x_view.shape}")
    g.taps, g.parts = kernel[0] * kernel[1], parts
    if g.x.lanes != g.table.lanes or g.y.lanes != g.table.lanes or any(k > 1 and g.x.c % (k * g.x.lanes) for k in (group, parts)):
        raise ValueError(f"deform_columns: {g.x.c} channels in {group} groups, {parts} of offsets")
    if g.y.c != g.x.blocks * g.x.lanes * g.taps or g.y.n != g.x.n:
        raise ValueError(f"deform_columns: {x_view.shape} to {y_view.shape}")
    for view, count in ((o_view, 2), (m_view, 1)):
        if view is not None and (not view.is_plain or view.dtype != np.float32 or view.shape != (g.x.n, parts * g.taps * count, g.y.h, g.y.w)):
            raise ValueError(f"deform_columns: offsets or masks of {view.shape}")
    if o_view is None or max(x_view.shape[2:]) >= 1 << 30:
        raise ValueError("deform_columns: offsets are needed")
    g.part_blocks, g.group_blocks = g.x.blocks // parts, g.x.blocks // group
    g.last = g.x.c - (g.x.blocks - 1) * g.x.lanes
    g.piece = smaller(PIECE, g.y.w)
    g.pieces = ceil_div(g.y.w, g.piece)
    scratch = g.piece * (4 * (sizeof(Py_ssize_t) + sizeof(float)) + sizeof(int))
    return make_launch("deform_columns", deform_chunk, &g, sizeof(g), g.x.n * parts * g.taps * g.y.h * g.pieces, scratch,
                       (x_view.nbytes, o_view.nbytes, 0 if m_view is None else m_view.nbytes, y_view.nbytes), 8.0 * y_view.size,
                       x_view.nbytes + o_view.nbytes + y_view.nbytes)


# ---------------------------------------------------------------- affine grids

cdef struct affine_t:
    const KernelTable *table
    Py_ssize_t d, h, w, rows
    int axes
    Py_ssize_t at_d, at_h, at_w         # tables of coordinates


cdef void affine_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const affine_t *g = <const affine_t *>geometry
    cdef const double *down = <const double *>(<const char *>geometry + g.at_h)
    cdef const double *deep = <const double *>(<const char *>geometry + g.at_d)
    cdef const float *across = <const float *>(<const char *>geometry + g.at_w)
    cdef Py_ssize_t pieces = ceil_div(g.d * g.h, g.rows), n = chunk // pieces, r0 = chunk % pieces * g.rows, r, k
    cdef const float *theta = <const float *>args[0] + n * g.axes * (g.axes + 1)
    cdef float *y = <float *>args[1] + (n * g.d * g.h + r0) * g.w * g.axes
    cdef const float *t
    cdef float a[3]
    cdef float b[3]
    for r in range(r0, min(r0 + g.rows, g.d * g.h)):
        for k in range(g.axes):
            t = theta + k * (g.axes + 1)
            a[k] = t[0]
            if g.axes == 2:
                b[k] = <float>(t[1] * down[r] + t[2])
            else:
                b[k] = <float>(t[1] * down[r % g.h] + t[2] * deep[r // g.h] + t[3])
        g.table.image.lines(across, a, b, g.axes, y, g.w)
        y = y + g.w * g.axes


def build_affine_grid(inputs, outputs, *, coordinates) -> Launch:
    """Places of an affine transformation.

    Parameters
    ----------
    inputs : tuple of one View
        theta (N, 2, 3) or (N, 3, 4), plain float32.
    outputs : tuple of one View
        (N, h, w, 2) or (N, d, h, w, 3), plain float32.
    coordinates : sequence of float64 arrays
        Of the places along each axis of the grid.

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (t_view,), (y_view,) = inputs, outputs
    cdef affine_t g
    axes = len(y_view.shape) - 2
    if not (t_view.is_plain and y_view.is_plain) or t_view.dtype != np.float32 or y_view.dtype != np.float32 or axes not in (2, 3):
        raise ValueError("affine_grid: plain float32 of two or three axes")
    if t_view.shape != (y_view.shape[0], axes, axes + 1) or y_view.shape[-1] != axes or tuple(len(c) for c in coordinates) != y_view.shape[1:-1]:
        raise ValueError(f"affine_grid: {t_view.shape} to {y_view.shape}")
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    g.axes = axes
    g.d, g.h, g.w = (1,) * (3 - axes) + y_view.shape[1:-1]
    kept = _Tables(sizeof(g))
    g.at_d = kept.add(coordinates[0] if axes == 3 else [0.0], np.float64)
    g.at_h, g.at_w = kept.add(coordinates[-2], np.float64), kept.add(coordinates[-1], np.float32)
    # of one image, written alone
    g.rows = per_chunk(g.d * g.h, 4.0 * g.w * g.axes / BYTES_PER_NS)
    chunks = y_view.shape[0] * ceil_div(g.d * g.h, g.rows) if y_view.size else 0
    launch = make_launch("affine_grid", affine_chunk, &g, sizeof(g), chunks, 0, (t_view.nbytes, y_view.nbytes), 2.0 * y_view.size,
                         y_view.nbytes)
    return with_tables(launch, kept)
