# cython: language_level=3
"""Products of quantised matrices.

Layout
    x        uint8 (..., M, K), plain
    weights  panels of BLOCKS * lanes columns one after another, [panel][word of K][column][number of the word], a byte each: int8
             (uint8 with its highest bit flipped), zeros beyond the last column and the last number
    y        uint8, float32 or int32 (..., M, N), plain

Loop order of a chunk
    A chunk is one product of the batch, a run of panels and a run of rows. Rows of x whose numbers are no words as they lie (where
    a word is two numbers of 16 bits, or the last one is not full) are made words in scratch first, once a chunk. Inside: panel by
    panel, so that one stays in the cache while all rows of the chunk meet it; innermost, tiles of a few rows. For few rows a chunk
    reads its weights once, in the order in which they lie: that is as fast as memory gives them.

`qpack` makes such panels of a matrix that is known only while running: a chunk is a panel.

Numbers are multiplied as they come, and what zero points change is added to the sums: with z of x and v of a column of w,

    sum (x - z) (w - v)  =  sum x' w  +  (f - z) sum w  -  v sum (x - z)        x' = x - f; f is 128 where x' is signed, else 0

so that weights keep one byte whatever their zero points are. All of it is in 32 bits that wrap around: what does not fit is what
ONNX's int32 has.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int8_t, int32_t, uint8_t
from libc.string cimport memset

import numpy as np

from cnnengine._kernels.chunks cimport CHUNK_NS, per_chunk
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, larger, smaller
from cnnengine._kernels.launch cimport make_launch
from cnnengine._kernels.table cimport KernelTable
from cnnengine._kernels.tiles.qconv cimport Q_BYTES, Q_FLOATS, Q_SUMS
from cnnengine._kernels.tiles.qdense cimport QDENSE_BLOCKS, qdense_tile_t, qfinish_t

cdef enum:
    ROWS = 131072           # bytes of words of x of a chunk: they stay in the second-level cache
    OPS_PER_NS = 100        # of tiles of several rows, two operations a product
    BYTES_PER_NS = 12       # of weights, where a tile has few rows


cdef struct qdense_t:
    const KernelTable *table
    Py_ssize_t m, k, n, panels, words
    Py_ssize_t chunk_rows, row_chunks, chunk_panels, panel_chunks
    Py_ssize_t x_step, w_step, s_step               # bytes, bytes and numbers between products of the batch
    Py_ssize_t panel                                # bytes of one
    Py_ssize_t y_item, row_bytes                    # of a number of y; of a row of words
    int as_it_lies                                  # rows of x are words
    int x_zero, w_zero                              # where none comes as an operand
    qfinish_t finish


cdef enum:                                          # operands
    X, W, W_SUMS, W_ZERO, BIAS, RATIO, MORE, X_SCALE, X_ZERO, W_SCALE, W_SHIFT, Y


cdef void qdense_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const qdense_t *g = <const qdense_t *>geometry
    cdef const KernelTable *table = g.table
    cdef Py_ssize_t part = chunk % g.row_chunks, run = chunk // g.row_chunks % g.panel_chunks
    cdef Py_ssize_t batch = chunk // g.row_chunks // g.panel_chunks
    cdef Py_ssize_t first = part * g.chunk_rows, end = smaller(first + g.chunk_rows, g.m), rows = end - first
    cdef Py_ssize_t columns = QDENSE_BLOCKS * table.lanes, panel, row, pieces, some, i, column
    cdef const uint8_t *x = <const uint8_t *>args[X] + batch * g.x_step + first * g.k
    cdef char *y = <char *>args[Y] + (batch * g.m + first) * g.n * g.y_item
    cdef int32_t *sums = <int32_t *>scratch
    cdef int32_t *x_sums = sums + columns * table.qdense.rows
    cdef char *made = <char *>(x_sums + g.chunk_rows)
    cdef int x_zero = (<const uint8_t *>args[X_ZERO])[0] if args[X_ZERO] != NULL else g.x_zero
    cdef qdense_tile_t t
    cdef qfinish_t f = g.finish
    f.x_shift = (128 if table.qdense.flip else 0) - x_zero
    f.w_shift = (<const uint8_t *>args[W_SHIFT])[0] - 128 if args[W_SHIFT] != NULL else g.w_zero
    f.shifts = f.w_shift != 0 or args[W_ZERO] != NULL
    f.scale = 1
    if args[X_SCALE] != NULL:
        f.scale = (<const float *>args[X_SCALE])[0]
    if args[W_SCALE] != NULL:
        f.scale = f.scale * (<const float *>args[W_SCALE])[0]
    t.words = g.words
    t.x = <const char *>x
    t.xrow = g.k
    if not g.as_it_lies:
        t.x = made
        t.xrow = g.row_bytes
        for i in range(rows):
            table.qdense.words(x + i * g.k, made + i * g.row_bytes, g.k)
    if f.shifts:
        for i in range(rows):
            x_sums[i] = table.qdense.sum(x + i * g.k, g.k) + <int32_t>(f.x_shift * g.k)
    t.sums = sums
    for panel in range(run * g.chunk_panels, smaller((run + 1) * g.chunk_panels, g.panels)):
        column = panel * columns
        t.w = <const char *>args[W] + batch * g.w_step + panel * g.panel
        f.w_sums = <const int32_t *>args[W_SUMS] + batch * g.s_step + column if args[W_SUMS] != NULL else NULL
        f.w_zero = <const int32_t *>args[W_ZERO] + column if args[W_ZERO] != NULL else NULL
        f.bias = <const int32_t *>args[BIAS] + column if args[BIAS] != NULL else NULL
        f.ratio = <const float *>args[RATIO] + column if args[RATIO] != NULL else NULL
        f.table = <const uint8_t *>args[MORE] if f.mode == Q_BYTES else NULL
        f.offset = <const float *>args[MORE] + column if f.mode == Q_FLOATS and args[MORE] != NULL else NULL
        t.x = <const char *>x if g.as_it_lies else made
        row = 0
        pieces = ceil_div(rows, table.qdense.rows)
        while pieces > 0:
            some = ceil_div(rows - row, pieces)
            table.qdense.tile[some](&t)
            for i in range(some):
                table.qdense.finish(sums + i * columns, y + ((row + i) * g.n + column) * g.y_item, smaller(g.n - column, columns),
                                    x_sums[row + i] if f.shifts else 0, &f)
            t.x = t.x + some * t.xrow
            row = row + some
            pieces = pieces - 1


cdef int scalar_of(object view, str dtype, str what) except -1:
    """1 for a number of this type, 0 where it is absent."""
    if view is None:
        return 0
    if view.dtype.str[1:] != dtype or view.size != 1:
        raise ValueError(f"qdense: {what} {view}")
    return 1


def build_qdense(inputs, outputs, *, x_zero=0, w_zero=0, y_zero=0, low=None, high=None, batched=False):
    """Product of quantised matrices: ``sum = (x - x_zero) @ (w - w_zero) + bias``, as bytes, floats or as it is.

    Parameters
    ----------
    inputs : x, weights, w_sums, w_zeros, bias, ratio, more, x_scale, x_zero, w_scale, w_zero
        x uint8 (..., M, K), plain. weights int8 by `pack_qdense` or `qpack`; w_sums int32, the sum of each column of them, or None
        where the bias takes x's zero point into account (`pack_qdense_bias`). w_zeros int32, a zero point for each column, or
        None; bias int32 or None; ratio float32 or None for 1. more: a table of 256 uint8 that stand for the results, or, of
        float results, what is added to them, float32 for each column; or None. What is there for each column is padded to
        whole panels (`pack_columns`).
        x_scale and w_scale (float32), x_zero and w_zero (uint8, w_zero being that of weights before they were packed): numbers
        known only while running, or None. Scales multiply each other and the ratio.
    outputs : y
        Plain: uint8, ``clamp(rint(float32(sum) * ratio) + y_zero)``; float32, ``float32(sum) * ratio + offset`` within the bounds;
        or int32, the sums.
    x_zero, w_zero : int
        Zero points where none comes as an operand; that of weights is the packed ones', and is added to w_zeros.
    y_zero : int
    low, high : number, optional
        Bounds of what is stored, the zero point included where it is bytes.
    batched : bool
        Whether the weights are as many matrices as x has, one after another; x may then be one matrix for all, (M, K).
    """
    xv, wv, sv, zv, bv, rv, mv, xsv, xzv, wsv, wzv = inputs
    yv, = outputs
    cdef qdense_t g
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t columns = QDENSE_BLOCKS * table.lanes, batch = 1, whole
    memset(&g, 0, sizeof(g))
    g.table = table
    if not xv.is_plain or not yv.is_plain or len(xv.shape) < 2 or len(yv.shape) < 2 or xv.shape[-2] != yv.shape[-2]:
        raise ValueError(f"qdense: {xv} -> {yv}")
    if xv.dtype.str != "|u1" or wv.dtype.str != "|i1" or yv.dtype.str[1:] not in ("u1", "f4", "i4"):
        raise ValueError(f"qdense: {xv.dtype} by {wv.dtype} -> {yv.dtype}")
    g.finish.mode = {"u1": Q_BYTES, "f4": Q_FLOATS, "i4": Q_SUMS}[yv.dtype.str[1:]]
    g.k = xv.shape[-1]
    g.n = yv.shape[-1]
    g.m = xv.shape[-2]
    whole = int(np.prod(yv.shape[:-2], dtype=np.int64))
    if batched:
        batch = whole
        g.x_step = g.m * g.k if xv.shape[:-2] else 0
    else:
        g.m = g.m * whole
    if xv.shape[:-2] != yv.shape[:-2] and not (batched and not xv.shape[:-2]):
        raise ValueError(f"qdense: {xv} -> {yv}")
    g.panels = ceil_div(g.n, columns)
    g.words = ceil_div(g.k, table.qdense.step)
    g.panel = g.words * columns * table.qdense.step
    g.w_step = g.panels * g.panel
    g.s_step = g.panels * columns
    g.y_item = yv.dtype.itemsize
    g.row_bytes = 4 * g.words
    g.as_it_lies = table.qdense.step == 4 and g.k % 4 == 0
    if not 0 <= x_zero <= 255 or not -128 <= w_zero <= 127 or not 0 <= y_zero <= 255:
        raise ValueError(f"qdense: zero points {x_zero}, {w_zero} and {y_zero}")
    g.x_zero = x_zero
    g.w_zero = w_zero
    if scalar_of(xzv, "u1", "x_zero") and sv is None:
        raise ValueError("qdense: without the sums of columns, x's zero point is known before")
    scalar_of(wzv, "u1", "w_zero")
    g.finish.scales = scalar_of(xsv, "f4", "x_scale") + scalar_of(wsv, "f4", "w_scale") > 0
    g.finish.zero = y_zero
    if g.finish.mode == Q_BYTES:
        low, high = 0 if low is None else low, 255 if high is None else high
        if not 0 <= low <= high <= 255 or g.finish.scales:
            raise ValueError(f"qdense: bounds {low} and {high}, scales {xsv} and {wsv} of bytes")
        g.finish.low, g.finish.high = low - y_zero, high - y_zero
    else:
        g.finish.low, g.finish.high = -INFINITY if low is None else low, INFINITY if high is None else high
        if g.finish.mode == Q_SUMS and (rv is not None or mv is not None or g.finish.scales):
            raise ValueError("qdense: sums are stored as they are")
    for view, dtype in ((sv, "i4"), (zv, "i4"), (bv, "i4"), (rv, "f4"), (mv, "u1" if g.finish.mode == Q_BYTES else "f4")):
        if view is not None and view.dtype.str[1:] != dtype:
            raise ValueError(f"qdense: {view.dtype} where {dtype} is needed")
    # rows of a chunk, whose words stay in the cache, and panels of it
    g.chunk_rows = smaller(g.m, larger(ROWS // larger(g.row_bytes, 1), 4 * table.qdense.rows))
    g.chunk_rows = ceil_div(g.m, ceil_div(g.m, larger(g.chunk_rows, 1))) if g.m else 1
    g.chunk_rows = ceil_div(g.chunk_rows, table.qdense.rows) * table.qdense.rows
    g.row_chunks = ceil_div(g.m, g.chunk_rows)
    rows = smaller(g.chunk_rows, g.m)
    ns = larger(<Py_ssize_t>(2.0 * rows * g.k * columns / OPS_PER_NS), g.panel // BYTES_PER_NS) + 1
    g.chunk_panels = larger(smaller(per_chunk(g.panels * larger(g.row_chunks * batch, 1), ns), g.panels), 1)
    g.panel_chunks = ceil_div(g.panels, g.chunk_panels)
    per_column = 4 * g.panels * columns
    return make_launch(
        "qdense rows" if g.m <= table.qdense.rows else "qdense",
        qdense_chunk,
        &g,
        sizeof(g),
        batch * g.row_chunks * g.panel_chunks,
        4 * columns * table.qdense.rows + 4 * g.chunk_rows + (0 if g.as_it_lies else g.chunk_rows * g.row_bytes),
        (
            xv.nbytes,
            (batch if batched else 1) * g.w_step,
            0 if sv is None else (batch if batched else 1) * per_column,
            0 if zv is None else per_column,
            0 if bv is None else per_column,
            0 if rv is None else per_column,
            0 if mv is None else 256 if g.finish.mode == Q_BYTES else per_column,
            0 if xsv is None else 4,
            0 if xzv is None else 1,
            0 if wsv is None else 4,
            0 if wzv is None else 1,
            yv.nbytes,
        ),
        2.0 * batch * g.m * g.k * g.n,
        xv.nbytes + yv.nbytes + <double>(batch if batched else 1) * g.k * g.n,
    ).typed(inputs, outputs)


# ---------------------------------------------------------------- a matrix that is known only while running
cdef struct qpack_t:
    const KernelTable *table
    Py_ssize_t k, n, panels, panel, row, column


cdef void qpack_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const qpack_t *g = <const qpack_t *>geometry
    cdef Py_ssize_t columns = QDENSE_BLOCKS * g.table.lanes, panel = chunk % g.panels, batch = chunk // g.panels
    cdef int32_t *sums = <int32_t *>args[2] + chunk * columns
    g.table.qdense.pack(<const uint8_t *>args[0] + batch * g.k * g.n + panel * columns * g.column, g.row, g.column, g.k,
                        smaller(g.n - panel * columns, columns), 128, <int8_t *>args[1] + chunk * g.panel, sums)


def build_qpack(inputs, outputs, *, transposed=False):
    """Panels for `qdense` of matrices of bytes, whose highest bits are flipped.

    Parameters
    ----------
    inputs : w
        uint8 (..., K, N), plain; or, `transposed`, (..., N, K).
    outputs : weights, sums
        int8, of `packed_sizes(K, N)` bytes for each matrix, and int32, the sum of each of its columns.
    """
    wv, = inputs
    packed, sums = outputs
    cdef qpack_t g
    cdef Py_ssize_t columns, batch
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    columns = QDENSE_BLOCKS * g.table.lanes
    if not wv.is_plain or len(wv.shape) < 2 or wv.dtype.str != "|u1" or packed.dtype.str != "|i1" or sums.dtype.str[1:] != "i4":
        raise ValueError(f"qpack: {wv} -> {packed}, {sums}")
    g.k, g.n = wv.shape[-2:] if not transposed else wv.shape[:-3:-1]
    g.row = 1 if transposed else g.n
    g.column = g.k if transposed else 1
    batch = int(np.prod(wv.shape[:-2], dtype=np.int64))
    g.panels = ceil_div(g.n, columns)
    g.panel = ceil_div(g.k, g.table.qdense.step) * columns * g.table.qdense.step
    return make_launch(
        "qpack", qpack_chunk, &g, sizeof(g), batch * g.panels, 0,
        (wv.nbytes, batch * g.panels * g.panel, batch * g.panels * columns * 4), 0.0, 2.0 * wv.nbytes
    ).typed(inputs, outputs)


# ---------------------------------------------------------------- what is known beforehand
def packed_sizes(Py_ssize_t k, Py_ssize_t n):
    """Bytes of the panels of a matrix (k, n), and how many columns they have."""
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t columns = QDENSE_BLOCKS * table.lanes
    return ceil_div(n, columns) * columns * ceil_div(k, table.qdense.step) * table.qdense.step, ceil_div(n, columns) * columns


def pack_qdense(w, empty):
    """Weights (K, N) of int8, or of uint8 whose highest bits are flipped, as `build_qdense` reads them, in memory by `empty`.

    Any strides: a transposed view is read as it lies.
    """
    out = empty(packed_sizes(*w.shape)[0] // 4).view(np.int8)           # a panel's columns, a byte each, are a multiple of 4
    pack_qdense_part(w, 0, 0, w.shape[0], out)
    return out


def pack_qdense_part(w, Py_ssize_t first, Py_ssize_t column, Py_ssize_t k, int8_t[::1] out):
    """What of the panels of a matrix of k rows comes of its part w, whose first row and column these are.

    `first` begins a word and `column` a panel, and w ends with one, or with the matrix; `out` is all of the panels.
    """
    if w.ndim != 2 or w.dtype.str not in ("|i1", "|u1"):
        raise ValueError(f"pack_qdense: {w.dtype} {w.shape}")
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t columns = QDENSE_BLOCKS * table.lanes, step = table.qdense.step, rows = w.shape[0], n = w.shape[1], panel
    cdef Py_ssize_t size = ceil_div(k, step) * columns * step, panels = ceil_div(n, columns), row = w.strides[0], apart = w.strides[1]
    cdef int flip = 128 if w.dtype.kind == "u" else 0
    if first < 0 or column < 0 or first % step or column % columns or first + rows > k or (rows % step and first + rows < k):
        raise ValueError(f"pack_qdense: rows from {first} and columns from {column} on, {w.shape} of {k} rows")
    if (column // columns + panels) * size > out.shape[0]:
        raise ValueError(f"pack_qdense: {panels} panels from {column // columns} on in {out.shape[0]} bytes")
    if panels == 0 or rows == 0:
        return
    cdef const char *source = <const char *><size_t>w.ctypes.data
    with nogil:
        for panel in range(panels):
            table.qdense.pack(<const uint8_t *>source + panel * columns * apart, row, apart, rows, smaller(n - panel * columns, columns),
                              flip, &out[(column // columns + panel) * size + first * columns], NULL)


def pack_columns(values, Py_ssize_t n, dtype, empty):
    """A number, or one for each of n columns, padded with zeros to whole panels, in memory by `empty`; 4 bytes each."""
    padded = packed_sizes(0, n)[1]
    out = empty(padded).view(dtype)
    out[:n] = values
    out[n:] = 0
    return out


def pack_qdense_bias(w, bias, int x_zero, empty, totals=None):
    """The bias of `build_qdense` without sums of columns, int32: it takes x's zero point into account.

    Parameters
    ----------
    w : ndarray of int8 or uint8, (K, N)
    bias : ndarray of int32 (N,), or None
    x_zero : int
    empty : callable
    totals : ndarray of int64 (N,), optional
        The sums of w's columns, where they are known.
    """
    cdef int shift = (128 if current_table().qdense.flip else 0) - x_zero
    flip = 128 if w.dtype.kind == "u" else 0
    k, n = w.shape
    sums = (w.sum(axis=0, dtype=np.int64) if totals is None else totals) - flip * k
    whole = sums * shift + (0 if bias is None else bias)
    return pack_columns(whole.astype(np.int32), n, np.int32, empty)
