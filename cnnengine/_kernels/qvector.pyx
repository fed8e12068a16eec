# cython: language_level=3
"""Kernels of quantised numbers, but for products: to floats and back, by a table, with the highest bit flipped, two to one.

`quantize`, `dequantize`, `qtable` and `flip_sign` are one function of each element, and a move between layouts at once where the
two sides lie differently. Three ways, by the lanes of both sides (a plain tensor is planes of one lane):

    rows        the same blocks, or both plain: rows as they are
    pack        1 -> LANES or 4: a piece of as many rows as a block has channels
    unpack      LANES or 4 -> 1

Pack and unpack are transposes of bytes, on the side of the function where the bytes are: floats are quantised row by row to a
buffer that stays in the first-level cache, from where the bytes go to their pixels; bytes are transposed to that buffer and leave it
as floats. So each value is read once and written once, whatever the layouts. Where scales differ along an axis, both sides are plain:
a row is what has one scale, or, along the last axis, scales are read beside the values.

`qadd` and `qmul` take two tensors of bytes that lie alike, or of which the second has one number per channel of a batch (a gate),
for all of them, or per row: registers of its numbers are repeated then.

`qrange` finds the least and greatest number of every RANGE_CHUNK floats, `dynamic_scale` the scale and the zero point that follow.

Loops: unit = (n, block, rows) of planes, or a piece of a row of what is plain; many small ones make a chunk.
"""

from libc.math cimport rintf
from libc.stdint cimport int8_t, uint8_t
from libc.string cimport memcpy, memset

from cnnengine._kernels.chunks cimport BYTES_PER_NS, per_chunk
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, smaller
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.planes cimport (
    channels_of, fill_halo_of, first_channel, planes_of, planes_of_any, planes_t,
    rows_of, rows_t, same_blocks, touching,
)
from cnnengine._kernels.table cimport KernelTable
from cnnengine._kernels.tiles.qvector cimport pairing_t, scaling_t

import math

import numpy as np

from cnnengine._kernels import RANGE_CHUNK as _RANGE_CHUNK

cdef enum:
    SEGMENT = 512                       # pixels of a row that go through scratch at once
    PIECE = 16384                       # elements of a plain row that are a unit
    EACH = 1024                         # the same where each has a scale of its own
    UNIT_BYTES = 65536                  # of a unit of planes
    MAX_LANES = 16

cdef enum:
    OP_QUANTIZE = 0
    OP_DEQUANTIZE = 1
    OP_TABLE = 2
    OP_FLIP = 3

cdef enum:
    WAY_FLAT = 0
    WAY_ROWS = 1
    WAY_PACK = 2
    WAY_UNPACK = 3

cdef Py_ssize_t RANGE_CHUNK = _RANGE_CHUNK
UINT8, INT8, FLOAT32 = np.dtype(np.uint8), np.dtype(np.int8), np.dtype(np.float32)


# ---------------------------------------------------------------- one function of each element

cdef struct convert_t:
    const KernelTable *table
    int op, way
    int xi, yi                          # bytes of an element
    bint is_signed                      # the integers of a quantize or dequantize
    int scales, zeros                   # operands they are, 0: none
    Py_ssize_t scale_step, zero_step    # 0 where one number serves all
    # planes: rows = d * height of `width` pixels, the last one of `last`
    planes_t x, y
    Py_ssize_t blocks, height, width, last, rows, xd, xh, yd, yh
    Py_ssize_t unit_rows, units
    # flat: rows of `inner` elements, row r with scale r % count; or with one scale each
    Py_ssize_t count, inner, piece, pieces
    bint each
    Py_ssize_t n_units, chunk_units


cdef inline int zero_at(const convert_t *g, void *const *args, Py_ssize_t index) noexcept nogil:
    """The zero point as tiles have it: that of uint8, to which int8 is flipped."""
    if g.zeros == 0:
        return 128 if g.is_signed else 0
    index = index * g.zero_step
    if g.is_signed:
        return (<const int8_t *>args[g.zeros])[index] + 128
    return (<const uint8_t *>args[g.zeros])[index]


cdef inline void convert(const convert_t *g, void *const *args, const scaling_t *s, const char *x, char *y, Py_ssize_t n) noexcept nogil:
    """n elements that lie side by side on both sides."""
    if g.op == OP_QUANTIZE:
        g.table.qvector.quantize(<const float *>x, s, <uint8_t *>y, n)
    elif g.op == OP_DEQUANTIZE:
        g.table.qvector.dequantize(<const uint8_t *>x, s, <float *>y, n)
    elif g.op == OP_TABLE:
        g.table.qvector.table(<const uint8_t *>args[1], <const uint8_t *>x, <uint8_t *>y, n)
    else:
        g.table.qvector.flip(<const uint8_t *>x, <uint8_t *>y, n, 128)


cdef inline void pack(const convert_t *g, const char *x, Py_ssize_t xc, char *y, Py_ssize_t pixels, Py_ssize_t channels) noexcept nogil:
    if g.y.lanes == g.table.lanes:
        g.table.qvector.pack(<const uint8_t *>x, xc, pixels, <uint8_t *>y, pixels, channels, g.y.fill)
    else:
        g.table.qvector.pack4(<const uint8_t *>x, xc, pixels, <uint8_t *>y, pixels, channels, g.y.fill)


cdef inline void unpack(const convert_t *g, const char *x, char *y, Py_ssize_t yc, Py_ssize_t pixels, Py_ssize_t channels) noexcept nogil:
    if g.x.lanes == g.table.lanes:
        g.table.qvector.unpack(<const uint8_t *>x, <uint8_t *>y, yc, pixels, pixels, channels)
    else:
        g.table.qvector.unpack4(<const uint8_t *>x, <uint8_t *>y, yc, pixels, pixels, channels)


cdef void packed(const convert_t *g, void *const *args, const scaling_t *s, const char *x, char *y, Py_ssize_t pixels,
                 Py_ssize_t channels, char *buffer) noexcept nogil:
    """At most SEGMENT pixels from rows of channels to pixels of lanes."""
    cdef Py_ssize_t c
    if g.op == OP_QUANTIZE:
        for c in range(channels):
            convert(g, args, s, x + c * g.x.sp * 4, buffer + c * SEGMENT, pixels)
        pack(g, buffer, SEGMENT, y, pixels, channels)
    elif g.op == OP_DEQUANTIZE:
        pack(g, x, g.x.sp, buffer, pixels, channels)
        convert(g, args, s, buffer, y, pixels * g.y.lanes)
    else:
        pack(g, x, g.x.sp, y, pixels, channels)
        convert(g, args, s, y, y, pixels * g.y.lanes)


cdef void unpacked(const convert_t *g, void *const *args, const scaling_t *s, const char *x, char *y, Py_ssize_t pixels,
                   Py_ssize_t channels, char *buffer) noexcept nogil:
    """The same backwards."""
    cdef Py_ssize_t c
    if g.op == OP_DEQUANTIZE:
        unpack(g, x, buffer, SEGMENT, pixels, channels)
        for c in range(channels):
            convert(g, args, s, buffer + c * SEGMENT, y + c * g.y.sp * 4, pixels)
    else:
        convert(g, args, s, x, buffer, pixels * g.x.lanes)
        unpack(g, buffer, y, g.y.sp, pixels, channels)


cdef void planes_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const convert_t *g = <const convert_t *>geometry
    cdef int last = 3 if g.scales else 2 if g.op == OP_TABLE else 1, zero = 0
    cdef char *y0 = <char *>args[last]
    cdef const char *x
    cdef char *y
    cdef Py_ssize_t unit = chunk * g.chunk_units, end = smaller(unit + g.chunk_units, g.n_units)
    cdef rows_t u
    cdef Py_ssize_t n, block, r, r1, w, at, c, channels, pixels
    cdef scaling_t s
    memset(&s, 0, sizeof(s))
    if g.scales:
        zero = zero_at(g, args, 0)
        s.scale = <const float *>args[g.scales]
        s.zero = &zero
        s.flip = 128 if g.is_signed else 0
    while unit < end:
        u = rows_of(unit, g.units, g.unit_rows, g.rows, g.blocks)
        n, block, r, r1 = u.n, u.block, u.r0, u.r1
        unit = unit + 1
        if g.way == WAY_UNPACK:
            c = first_channel(&g.x, block)
            channels = channels_of(&g.x, block)
            x = <const char *>args[0] + (g.x.offset + n * g.x.sn + block * g.x.sp) * g.xi
            y = y0 + (g.y.offset + n * g.y.sn + c * g.y.sp) * g.yi
            if r == 0:
                for at in range(channels):
                    fill_halo_of(&g.y, g.yi, y0, n, c + at, g.y.fill)
        else:
            c = first_channel(&g.y, block)
            channels = channels_of(&g.y, block)
            x = <const char *>args[0] + (g.x.offset + n * g.x.sn + (c if g.way == WAY_PACK else block) * g.x.sp) * g.xi
            y = y0 + (g.y.offset + n * g.y.sn + block * g.y.sp) * g.yi
            if r == 0:
                fill_halo_of(&g.y, g.yi, y0, n, block, g.y.fill)
        while r < r1:
            w = g.last if r == g.rows - 1 else g.width
            if g.way == WAY_ROWS:
                convert(g, args, &s, x + (r // g.height * g.xd + r % g.height * g.xh) * g.xi,
                        y + (r // g.height * g.yd + r % g.height * g.yh) * g.yi, w * g.x.lanes)
            at = 0 if g.way != WAY_ROWS else w
            while at < w:
                pixels = smaller(w - at, SEGMENT)
                if g.way == WAY_PACK:
                    packed(g, args, &s, x + (r // g.height * g.xd + r % g.height * g.xh + at) * g.xi,
                           y + (r // g.height * g.yd + r % g.height * g.yh + at * g.y.lanes) * g.yi, pixels, channels, scratch)
                else:
                    unpacked(g, args, &s, x + (r // g.height * g.xd + r % g.height * g.xh + at * g.x.lanes) * g.xi,
                             y + (r // g.height * g.yd + r % g.height * g.yh + at) * g.yi, pixels, channels, scratch)
                at = at + pixels
            r = r + 1


cdef void flat_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const convert_t *g = <const convert_t *>geometry
    cdef int last = 3 if g.scales else 2 if g.op == OP_TABLE else 1, zero = 0
    cdef Py_ssize_t unit = chunk * g.chunk_units, end = smaller(unit + g.chunk_units, g.n_units), row, at, n, i
    cdef float *scales = <float *>scratch
    cdef int *zeros = <int *>(scales + EACH)
    cdef scaling_t s
    memset(&s, 0, sizeof(s))
    s.flip = 128 if g.is_signed else 0
    s.each = g.each
    while unit < end:
        row = unit // g.pieces
        at = unit % g.pieces * g.piece
        n = smaller(g.piece, g.inner - at)
        unit = unit + 1
        if g.each:
            for i in range(n):
                scales[i] = (<const float *>args[g.scales])[(at + i) * g.scale_step]
                zeros[i] = zero_at(g, args, at + i)
            s.scale = scales
            s.zero = zeros
        elif g.scales:
            zero = zero_at(g, args, row % g.count)
            s.scale = <const float *>args[g.scales] + row % g.count * g.scale_step
            s.zero = &zero
        convert(g, args, &s, <const char *>args[0] + (row * g.inner + at) * g.xi, <char *>args[last] + (row * g.inner + at) * g.yi, n)


cdef int cut_rows(convert_t *g, double ns_per_byte) except -1:
    """Rows, units and chunks of planes; rows that touch on both sides count as one row, cut into pieces of equal length."""
    cdef Py_ssize_t pixel = (g.xi + g.yi) * max(g.x.lanes, g.y.lanes), size
    g.blocks = g.x.blocks if g.way == WAY_UNPACK else g.y.blocks
    g.height = g.y.h
    g.width = g.last = g.y.w
    g.rows = g.y.d * g.y.h
    g.xd, g.xh, g.yd, g.yh = g.x.sd, g.x.sh, g.y.sd, g.y.sh
    if touching(&g.x) and touching(&g.y) and g.rows * g.width:
        g.last = g.rows * g.width
        g.width = smaller(g.last, max(<Py_ssize_t>SEGMENT, UNIT_BYTES // pixel // SEGMENT * SEGMENT))
        g.rows = ceil_div(g.last, g.width)
        g.last -= (g.rows - 1) * g.width
        g.height = g.rows
        g.xh, g.yh = g.width * g.x.lanes, g.width * g.y.lanes
    size = max(<Py_ssize_t>1, g.width * pixel)
    g.unit_rows = max(<Py_ssize_t>1, smaller(g.rows, UNIT_BYTES // size))
    g.units = max(<Py_ssize_t>1, ceil_div(g.rows, g.unit_rows))     # an empty plane has a halo
    g.n_units = g.y.n * g.blocks * g.units
    g.chunk_units = per_chunk(g.n_units, min(g.unit_rows, g.rows) * size * ns_per_byte)
    return 0


cdef Launch make_convert(str kernel, convert_t *g, tuple inputs, tuple outputs, axis, double ns_per_byte):
    """A launch for op, operands and signs that are set."""
    x_view, y_view = inputs[0], outputs[0]
    cdef Py_ssize_t rank = len(x_view.shape), at, count = 1
    if x_view.shape != y_view.shape:
        raise ValueError(f"{kernel}: shapes {x_view.shape} and {y_view.shape}")
    for view in inputs[1:]:
        if view is not None and not view.is_plain:
            raise ValueError(f"{kernel}: the operands after the first must be plain")
    g.table = current_table()
    g.xi, g.yi = x_view.dtype.itemsize, y_view.dtype.itemsize
    if axis is not None:
        if not 0 <= axis < rank:
            raise ValueError(f"{kernel}: axis {axis} of {rank}")
        count = x_view.shape[axis]
    steps = []
    for view in inputs[1:]:
        if view is None or g.scales == 0:
            continue
        if view.size != 1 and (axis is None or view.size != count):
            raise ValueError(f"{kernel}: {view.size} scales or zero points for {1 if axis is None else count}")
        steps.append(view.size != 1)
    if g.scales:
        g.scale_step = steps[0]
        g.zero_step = steps[1] if len(steps) > 1 else 0
    extents = (*(0 if v is None else v.nbytes for v in inputs), y_view.nbytes)
    moved = x_view.nbytes + y_view.nbytes
    if x_view.is_plain and y_view.is_plain:
        g.way = WAY_FLAT
        g.count, g.inner = 1, x_view.size
        if any(steps):
            g.inner = math.prod(x_view.shape[axis + 1:])
            g.each = g.inner == 1
            g.count = 1 if g.each else count
            g.inner = count if g.each else g.inner
        g.piece = EACH if g.each else smaller(PIECE, max(g.inner, <Py_ssize_t>1))
        g.pieces = ceil_div(g.inner, g.piece)
        g.n_units = x_view.size // g.inner * g.pieces if x_view.size else 0
        g.chunk_units = per_chunk(g.n_units, smaller(g.piece, g.inner) * (g.xi + g.yi) * ns_per_byte)
        return make_launch(f"{kernel}[flat]", flat_chunk, g, sizeof(g[0]), ceil_div(g.n_units, g.chunk_units),
                           2 * EACH * sizeof(float) if g.each else 0, extents, 0.0, moved).typed(inputs, outputs)
    if any(steps):
        raise ValueError(f"{kernel}: scales differ along an axis of what does not lie plain on both sides")
    if not 2 <= rank <= 5 or INT8 in ({v.dtype for v in (x_view, y_view) if not v.is_plain}):
        raise ValueError(f"{kernel}: planes of {x_view.dtype} or {y_view.dtype} of shape {x_view.shape}")
    g.x, g.y = planes_of_any(x_view), planes_of_any(y_view)
    if same_blocks(&g.x, &g.y):
        g.way = WAY_ROWS
    elif g.x.lanes == 1 and packs(g, g.y.lanes):
        g.way = WAY_PACK
    elif g.y.lanes == 1 and packs(g, g.x.lanes):
        g.way = WAY_UNPACK
    else:
        raise ValueError(f"{kernel}: from planes of {g.x.lanes} lanes and {g.x.groups} groups to {g.y.lanes} and {g.y.groups}")
    cut_rows(g, ns_per_byte)
    way = ("", "rows", "pack", "unpack")[g.way]
    return make_launch(f"{kernel}[{way}]", planes_chunk, g, sizeof(g[0]), ceil_div(g.n_units, g.chunk_units),
                       0 if g.way == WAY_ROWS else SEGMENT * MAX_LANES, extents, 0.0, moved).typed(inputs, outputs)


cdef bint packs(const convert_t *g, Py_ssize_t lanes) noexcept:
    """Whether tiles transpose bytes between planes of one lane and of these."""
    return lanes == g.table.lanes or lanes == 4


cdef int scaled(convert_t *g, str kernel, tuple inputs, object integers) except -1:
    """What quantize and dequantize share: operands scale and zero point."""
    scale, zero = inputs[1:]
    if integers.dtype not in (UINT8, INT8) or scale.dtype != FLOAT32 or (zero is not None and zero.dtype != integers.dtype):
        raise ValueError(f"{kernel}: {integers.dtype} with a scale of {scale.dtype} and a zero point of {zero and zero.dtype}")
    g.is_signed = integers.dtype == INT8
    g.scales = 1
    g.zeros = 2 if zero is not None else 0
    return 0


def build_quantize(inputs, outputs, *, axis=None) -> Launch:
    """y = clamp(rint(x / scale) + zero), halves to even; what is no number becomes the zero point.

    Parameters
    ----------
    inputs : (x, scale, zero)
        x of float32; scale of float32 and zero of y's dtype, or None for 0: one number, or one per index of the axis, plain.
    outputs : tuple of one View
        uint8 or int8, of x's shape. Both sides are plain; or, of rank 2 to 5 and with one scale, planes of any halo: y in uint8, in
        the blocks of x, or one of the two sides plain or of one lane and the other one of the instruction set's lanes, or of 4 in y.
    axis : int, optional
        0 to rank - 1.

    Raises
    ------
    ValueError
        The views do not fit together.
    """
    (x, _, _), (y,) = inputs, outputs
    cdef convert_t g
    memset(&g, 0, sizeof(g))
    g.op = OP_QUANTIZE
    if x.dtype != FLOAT32 or (not x.is_plain and x.lanes not in (1, current_table().lanes)):
        raise ValueError(f"quantize: {x.dtype} in planes of {x.lanes} lanes")
    scaled(&g, "quantize", tuple(inputs), y)
    return make_convert("quantize", &g, tuple(inputs), tuple(outputs), axis, 1.0 / BYTES_PER_NS)


def build_dequantize(inputs, outputs, *, axis=None) -> Launch:
    """y = (x - zero) * scale in float32.

    Parameters
    ----------
    inputs : (x, scale, zero)
        x of uint8 or int8; scale and zero as `build_quantize` has them.
    outputs : tuple of one View
        float32, of x's shape; layouts as in `build_quantize`, sides exchanged.
    axis : int, optional
        0 to rank - 1.

    Raises
    ------
    ValueError
        The views do not fit together.
    """
    (x, _, _), (y,) = inputs, outputs
    cdef convert_t g
    memset(&g, 0, sizeof(g))
    g.op = OP_DEQUANTIZE
    if y.dtype != FLOAT32 or (not y.is_plain and y.lanes not in (1, current_table().lanes)):
        raise ValueError(f"dequantize: {y.dtype} in planes of {y.lanes} lanes")
    scaled(&g, "dequantize", tuple(inputs), x)
    return make_convert("dequantize", &g, tuple(inputs), tuple(outputs), axis, 1.0 / BYTES_PER_NS)


def build_qtable(inputs, outputs) -> Launch:
    """y = table[x].

    Parameters
    ----------
    inputs : (x, table)
        uint8; the table plain, of 256.
    outputs : tuple of one View
        uint8, of x's shape. Both sides plain, or of rank 2 to 5 in planes of any halo, as in `build_quantize`.

    Raises
    ------
    ValueError
        The views do not fit together.
    """
    (x, table), (y,) = inputs, outputs
    cdef convert_t g
    memset(&g, 0, sizeof(g))
    g.op = OP_TABLE
    if not x.dtype == y.dtype == table.dtype == UINT8 or table.size != 256:
        raise ValueError(f"qtable: {x.dtype} to {y.dtype} by {table.size} entries of {table.dtype}")
    return make_convert("qtable", &g, tuple(inputs), tuple(outputs), None, 2.0 / BYTES_PER_NS)


def build_flip_sign(inputs, outputs) -> Launch:
    """y = x ^ 128: uint8 as int8 of 128 less, or int8 as uint8 of 128 more.

    Parameters
    ----------
    inputs, outputs : tuple of one View
        One of uint8 and one of int8, of one shape; the one of uint8 may lie in planes, as in `build_quantize`.

    Raises
    ------
    ValueError
        The views do not fit together.
    """
    (x,), (y,) = inputs, outputs
    cdef convert_t g
    memset(&g, 0, sizeof(g))
    g.op = OP_FLIP
    if {x.dtype, y.dtype} != {UINT8, INT8}:
        raise ValueError(f"flip_sign: {x.dtype} to {y.dtype}")
    return make_convert("flip_sign", &g, tuple(inputs), tuple(outputs), None, 1.0 / BYTES_PER_NS)


# ---------------------------------------------------------------- scales of what is at hand

cdef struct range_t:
    const KernelTable *table
    Py_ssize_t n
    planes_t x                          # where x lies in planes


cdef void qrange_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const range_t *g = <const range_t *>geometry
    g.table.qvector.range(<const float *>args[0] + chunk * RANGE_CHUNK, <float *>args[1] + 2 * chunk,
                          smaller(RANGE_CHUNK, g.n - chunk * RANGE_CHUNK))


cdef inline void widened(float *low, float *high, float least, float greatest) noexcept nogil:
    """What is no number stays: it is neither less nor greater, and nothing is than it."""
    if low[0] == low[0] and not least >= low[0]:
        low[0] = least
    if high[0] == high[0] and not greatest <= high[0]:
        high[0] = greatest


cdef void qrange_plane(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    """A plane of one image: its pixels alone, and of the last block of a group the channels that there are."""
    cdef const range_t *g = <const range_t *>geometry
    cdef Py_ssize_t n = chunk // g.x.blocks, block = chunk % g.x.blocks, row, p, channels, c
    cdef const float *plane = <const float *>args[0] + g.x.offset + n * g.x.sn + block * g.x.sp
    cdef const float *x
    cdef float found[2]
    cdef float low = 0, high = 0
    channels = channels_of(&g.x, block)
    for row in range(g.x.d * g.x.h):
        x = plane + row // g.x.h * g.x.sd + row % g.x.h * g.x.sh
        if channels == g.x.lanes:
            g.table.qvector.range(x, found, g.x.w * g.x.lanes)
            widened(&low, &high, found[0], found[1])
        else:
            for p in range(g.x.w):
                for c in range(channels):
                    widened(&low, &high, x[p * g.x.lanes + c], x[p * g.x.lanes + c])
    (<float *>args[1])[2 * chunk] = low
    (<float *>args[1])[2 * chunk + 1] = high


def build_qrange(inputs, outputs) -> Launch:
    """The least and the greatest of 0 and each RANGE_CHUNK floats, or of each plane; not-a-number where one of them is.

    Parameters
    ----------
    inputs : tuple of one View
        Plain or planes, not empty.
    outputs : tuple of one View
        Plain: two floats for each chunk, or for each plane of each image.

    Raises
    ------
    ValueError
        The views do not fit together.
    """
    (x,), (y,) = inputs, outputs
    cdef range_t g
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    g.n = x.size
    cdef Py_ssize_t chunks = ceil_div(g.n, RANGE_CHUNK)
    if not x.is_plain:
        g.x = planes_of(x)
        chunks = g.x.n * g.x.blocks
        if x.dtype != FLOAT32 or x.lanes != g.table.lanes or not y.is_plain or y.dtype != FLOAT32 or y.size != 2 * chunks:
            raise ValueError(f"qrange: {x} to {y}, two floats for every plane are needed")
        return make_launch("qrange planes", qrange_plane, &g, sizeof(g), chunks, 0, (x.nbytes, y.nbytes), 0.0, x.nbytes + y.nbytes)
    if not y.is_plain or not x.dtype == y.dtype == FLOAT32 or y.size != 2 * chunks or not chunks:
        raise ValueError(f"qrange: {x.size} of {x.dtype} to {y.size} of {y.dtype}, two for every {RANGE_CHUNK} are needed")
    return make_launch("qrange", qrange_chunk, &g, sizeof(g), chunks, 0, (x.nbytes, y.nbytes), 0.0, x.nbytes + y.nbytes)


cdef void dynamic_scale_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const range_t *g = <const range_t *>geometry
    cdef const float *found = <const float *>args[0]
    cdef float low = 0, high = 0, scale, zero
    cdef Py_ssize_t i
    for i in range(g.n):
        widened(&low, &high, found[2 * i], found[2 * i + 1])
    scale = 1 if high == low else (high - low) / <float>255
    zero = -(low / scale)
    zero = 0 if not zero > 0 else 255 if zero > 255 else rintf(zero)
    (<float *>args[1])[0] = scale
    (<uint8_t *>args[2])[0] = <uint8_t>zero


def build_dynamic_scale(inputs, outputs) -> Launch:
    """The scale and the zero point by which uint8 reaches from the least to the greatest number and to 0; 1 and 0 where all are 0.

    Parameters
    ----------
    inputs : tuple of one View
        What `qrange` gives.
    outputs : (scale, zero)
        One float32, one uint8.

    Raises
    ------
    ValueError
        The views do not fit together.
    """
    (x,), (scale, zero) = inputs, outputs
    cdef range_t g
    g.table = current_table()
    g.n = x.size // 2
    if not (x.is_plain and scale.is_plain and zero.is_plain) or x.dtype != FLOAT32 or x.size % 2 or scale.size != 1 or zero.size != 1:
        raise ValueError(f"dynamic_scale: {x.size} of {x.dtype} to {scale.size} and {zero.size}")
    if scale.dtype != FLOAT32 or zero.dtype != UINT8:
        raise ValueError(f"dynamic_scale: a scale of {scale.dtype} and a zero point of {zero.dtype}")
    return make_launch("dynamic_scale", dynamic_scale_chunk, &g, sizeof(g), 1, 0, (x.nbytes, scale.nbytes, zero.nbytes), 0.0,
                       x.nbytes).typed(inputs, outputs)


# ---------------------------------------------------------------- two operands

cdef enum:
    PAIR_OWN = 0                        # every element has its own second number
    PAIR_CHANNEL = 1                    # one per lane of a block
    PAIR_ROW = 2                        # one per row

cdef struct pair_t:
    const KernelTable *table
    pairing_t numbers
    int kind
    planes_t x, b, y                    # where they lie plain, one row, or rows of the length of b
    Py_ssize_t blocks, height, width, last, rows, xd, xh, bd, bh, yd, yh
    Py_ssize_t unit_rows, units, n_units, chunk_units
    Py_ssize_t b_rows, piece, pieces    # PAIR_ROW: row r has b[r % b_rows], and so many pieces of so many numbers


cdef void pair_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const pair_t *g = <const pair_t *>geometry
    cdef const uint8_t *a
    cdef const uint8_t *b
    cdef uint8_t *y
    cdef Py_ssize_t unit = chunk * g.chunk_units, end = smaller(unit + g.chunk_units, g.n_units)
    cdef rows_t u
    cdef Py_ssize_t n, block, r, r1, w, l, z, h
    cdef uint8_t *repeated = <uint8_t *>scratch
    while unit < end:
        u = rows_of(unit, g.units, g.unit_rows, g.rows, g.blocks)
        n, block, r, r1 = u.n, u.block, u.r0, u.r1
        unit = unit + 1
        if r == 0:
            fill_halo_of(&g.y, 1, <char *>args[2], n, block, g.y.fill)
        a = <const uint8_t *>args[0] + g.x.offset + n * g.x.sn + block * g.x.sp
        b = <const uint8_t *>args[1] + g.b.offset + n * g.b.sn + block * g.b.sp
        y = <uint8_t *>args[2] + g.y.offset + n * g.y.sn + block * g.y.sp
        if g.kind == PAIR_CHANNEL:
            for l in range(4 * g.table.lanes):
                repeated[l] = b[l % g.y.lanes]
        while r < r1:
            w = (g.last if r == g.rows - 1 else g.width) * g.y.lanes
            z = r // g.height
            h = r % g.height
            if g.kind == PAIR_OWN:
                g.table.qvector.pair(a + z * g.xd + h * g.xh, b + z * g.bd + h * g.bh, 0, &g.numbers, y + z * g.yd + h * g.yh, w)
            else:
                g.table.qvector.pair(a + z * g.xd + h * g.xh, repeated, 4 * g.table.lanes, &g.numbers, y + z * g.yd + h * g.yh, w)
            r = r + 1


cdef void pair_rows_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    """The same for PAIR_ROW."""
    cdef const pair_t *g = <const pair_t *>geometry
    cdef Py_ssize_t unit = chunk * g.chunk_units, end = smaller(unit + g.chunk_units, g.n_units), row, at
    while unit < end:
        row = unit // g.pieces
        at = row * g.width + unit % g.pieces * g.piece
        g.table.qvector.pair(<const uint8_t *>args[0] + at, <const uint8_t *>args[1] + row % g.b_rows, 1, &g.numbers,
                             <uint8_t *>args[2] + at, smaller(g.piece, (row + 1) * g.width - at))
        unit = unit + 1


cdef planes_t line_of(Py_ssize_t rows, Py_ssize_t width) noexcept:
    """Rows that lie plain, as one plane of one lane."""
    cdef planes_t p
    memset(&p, 0, sizeof(p))
    p.n = p.c = p.d = p.groups = p.lanes = p.blocks = 1
    p.h = rows
    p.w = p.sh = width
    p.sd = p.sp = p.sn = rows * width
    return p


cdef Launch make_pair(str kernel, tuple inputs, tuple outputs, dict numbers, bint product):
    (a, b), (y,) = inputs, outputs
    cdef pair_t g
    cdef Py_ssize_t width, size
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    if not a.dtype == b.dtype == y.dtype == UINT8 or a.shape != y.shape:
        raise ValueError(f"{kernel}: {a.dtype} {a.shape} and {b.dtype} {b.shape} to {y.dtype} {y.shape}")
    for name in ("a_zero", "b_zero", "zero", "low", "high"):
        if not 0 <= numbers[name] <= 255:
            raise ValueError(f"{kernel}: {name} of {numbers[name]}")
    g.numbers.a_zero, g.numbers.b_zero = numbers["a_zero"], numbers["b_zero"]
    g.numbers.zero, g.numbers.low, g.numbers.high = numbers["zero"], numbers["low"], numbers["high"]
    ratios = [float(r) for r in numbers["ratios"]]
    reach = 255 * 255 * abs(ratios[0]) if product else 255 * sum(map(abs, ratios))
    if not reach <= MAX_REACH or g.numbers.low > g.numbers.high:
        raise ValueError(f"{kernel}: ratios {ratios}, between {numbers['low']} and {numbers['high']}")
    g.numbers.a_ratio, g.numbers.b_ratio = ratios[0], ratios[len(ratios) - 1]
    g.numbers.product = product
    if a.is_plain and b.is_plain and y.is_plain:
        if b.shape == a.shape:
            g.kind = PAIR_OWN
            g.x = g.b = g.y = line_of(1, a.size)
        else:
            # b's extents are a's, then 1: each of its numbers serves a row
            short = (1,) * (len(a.shape) - len(b.shape)) + b.shape
            axis = max((i for i, n in enumerate(short) if n != 1), default=-1) + 1
            if len(b.shape) > len(a.shape) or any(n not in (1, m) or (n != m and started) for n, m, started in
                   zip(short[:axis], a.shape[:axis], (any(k != 1 for k in short[:i]) for i in range(axis)))):
                raise ValueError(f"{kernel}: {b.shape} against {a.shape}")
            width = math.prod(a.shape[axis:])
            g.b_rows = max(<Py_ssize_t>1, <Py_ssize_t>b.size)
            if width == 1 and b.size > 1:
                g.kind = PAIR_OWN       # the same row of b for every one of a
                g.x = g.y = line_of(a.size // b.size, b.size)
                g.b = line_of(1, b.size)
                g.b.sh = 0
            else:
                g.kind = PAIR_ROW
                g.width = width
                g.piece = smaller(PIECE, max(width, <Py_ssize_t>1))
                g.pieces = ceil_div(width, g.piece)
                g.n_units = math.prod(a.shape[:axis]) * g.pieces
                g.chunk_units = per_chunk(g.n_units, g.piece * 3.0 / BYTES_PER_NS)
                return make_launch(f"{kernel}[by row]", pair_rows_chunk, &g, sizeof(g), ceil_div(g.n_units, g.chunk_units), 0,
                                   (a.nbytes, b.nbytes, y.nbytes), 0.0, a.nbytes + b.nbytes + y.nbytes).typed(inputs, outputs)
    elif a.is_plain or b.is_plain or y.is_plain or not a.lanes == b.lanes == y.lanes:
        raise ValueError(f"{kernel}: all must lie plain, or all in planes of the same lanes")
    else:
        g.x, g.b, g.y = planes_of(a), planes_of(b), planes_of(y)
        if not same_blocks(&g.x, &g.y) or not same_blocks(&g.b, &g.y) or 4 * g.table.lanes % g.y.lanes:
            raise ValueError(f"{kernel}: the blocks of {a.groups}, {b.groups} and {y.groups} groups differ")
        if b.shape == a.shape:
            g.kind = PAIR_OWN
        elif b.shape == (*a.shape[:2], *(1,) * (len(a.shape) - 2)):
            g.kind = PAIR_CHANNEL
        else:
            raise ValueError(f"{kernel}: {b.shape} against {a.shape}")
    g.blocks = g.y.blocks
    g.height, g.rows = g.y.h, g.y.d * g.y.h
    g.width = g.last = g.y.w
    g.xd, g.xh, g.bd, g.bh, g.yd, g.yh = g.x.sd, g.x.sh, g.b.sd, g.b.sh, g.y.sd, g.y.sh
    if touching(&g.x) and touching(&g.y) and (g.kind == PAIR_CHANNEL or touching(&g.b)) and g.rows * g.width:
        g.last = g.rows * g.width
        g.width = smaller(g.last, PIECE // g.y.lanes)
        g.rows = ceil_div(g.last, g.width)
        g.last -= (g.rows - 1) * g.width
        g.height = g.rows
        g.xh = g.bh = g.yh = g.width * g.y.lanes
    size = max(<Py_ssize_t>1, g.width * g.y.lanes)
    g.unit_rows = max(<Py_ssize_t>1, smaller(g.rows, PIECE // size))
    g.units = max(<Py_ssize_t>1, ceil_div(g.rows, g.unit_rows))
    g.n_units = g.y.n * g.blocks * g.units
    g.chunk_units = per_chunk(g.n_units, min(g.unit_rows, g.rows) * size * 3.0 / BYTES_PER_NS)
    return make_launch(kernel, pair_chunk, &g, sizeof(g), ceil_div(g.n_units, g.chunk_units), 4 * MAX_LANES,
                       (a.nbytes, b.nbytes, y.nbytes), 0.0, a.nbytes + b.nbytes + y.nbytes).typed(inputs, outputs)


MAX_REACH = 2.0**30
"""How large a sum or product of two operands may become before it is clamped, in steps of the result."""


def build_qadd(inputs, outputs, *, a_zero, b_zero, ratios, zero, low=0, high=255) -> Launch:
    """y = clamp(rint((a - a_zero) * ratios[0] + (b - b_zero) * ratios[1]) + zero, low, high): each product and the sum are rounded
    to float32, halves go to even.

    Parameters
    ----------
    inputs : (a, b)
        uint8. Both of y's shape, or b broadcasts: in planes one number per channel (N, C, 1, ...); plain those of some axes on
        from any one, between extents of 1.
    outputs : tuple of one View
        uint8, of a's shape; all plain, or all in planes of the same lanes with any halo.
    a_zero, b_zero, zero, low, high : int
        0 to 255.
    ratios : two floats
        255 times the sum of their sizes is at most MAX_REACH.

    Raises
    ------
    ValueError
        The views or numbers do not fit together.
    """
    if len(ratios) != 2:
        raise ValueError(f"qadd: ratios {ratios}")
    numbers = {"a_zero": a_zero, "b_zero": b_zero, "ratios": ratios, "zero": zero, "low": low, "high": high}
    return make_pair("qadd", tuple(inputs), tuple(outputs), numbers, False)


def build_qmul(inputs, outputs, *, a_zero, b_zero, ratio, zero, low=0, high=255) -> Launch:
    """y = clamp(rint((a - a_zero) * (b - b_zero) * ratio) + zero, low, high), the product rounded to float32, halves to even.

    Views as in `build_qadd`; 65025 times the ratio's size is at most MAX_REACH.

    Raises
    ------
    ValueError
        The views or numbers do not fit together.
    """
    numbers = {"a_zero": a_zero, "b_zero": b_zero, "ratios": (ratio,), "zero": zero, "low": low, "high": high}
    return make_pair("qmul", tuple(inputs), tuple(outputs), numbers, True)
