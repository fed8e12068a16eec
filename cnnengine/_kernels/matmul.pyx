# cython: language_level=3
"""Products of run-time matrices, any batch of them, over the convolution tiles of the instruction set; attention.

Layout
    a (..., M, K) plain; b (..., K, N) or, transposed, (..., N, K), plain; y (..., M, N) plain. Batch axes broadcast. A row of `a`
    is read as a pixel whose planes are its runs of `lanes` floats, as the dense kernel does.

Loop order of a chunk
    A chunk is one matrix of the batch, one unit of one or two blocks of output columns and a run of rows. It first packs its
    columns of b into scratch, [k][blocks * lanes], zeros beyond the last column, and then runs the tiles over its rows. Packing
    costs K * N moves for 2 * K * N * rows operations; the rows of a chunk are many enough to hide it, and nothing is
    stored between chunks. A last unit that ends beyond the last column has its tiles written to scratch and copied.

Attention
    softmax(scale * q @ k^T) @ v in one kernel: scores never leave the cache, and q, k and v are read, and y is written, where they
    lie (rows of a product that computed all three, say), so that no Split and no Transpose copies them. A chunk is one matrix of
    the batch and a run of rows of q: it packs k and v into scratch, [unit][d][blocks * lanes] and [unit][n][blocks * lanes], and
    then takes some rows of q at a time through scores, softmax and the product with v.

Every sum runs over k in order, so results depend on neither the number of threads nor the batch.
"""

from libc.math cimport INFINITY
from libc.string cimport memcpy, memset

import math

from cnnengine._kernels.chunks cimport CHUNK_NS, FLOPS_PER_NS
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, larger, smaller
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.table cimport ACT_NONE, KernelTable
from cnnengine._kernels.tiles.conv cimport conv_tile_fn, conv_tile_t

from cnnengine._kernels import ACTIVATIONS

cdef enum:
    MAX_BATCH_AXES = 8


cdef struct matmul_t:
    const KernelTable *table
    int n_axes                          # of the batch, merged
    Py_ssize_t size[MAX_BATCH_AXES]
    Py_ssize_t a_stride[MAX_BATCH_AXES]
    Py_ssize_t b_stride[MAX_BATCH_AXES]
    Py_ssize_t m, k, n
    Py_ssize_t b_k, b_n                 # floats between neighbours of b along k and n
    Py_ssize_t blocks, units, chunk_rows, row_chunks
    Py_ssize_t bias_at, panel_at, tile_at       # floats of scratch: zeros, the packed panel, a tile beyond the last column
    float scale
    int kind
    float alpha, beta


cdef inline void set_tile(conv_tile_t *t, Py_ssize_t lanes, const float *bias, Py_ssize_t k, const Py_ssize_t *zero) noexcept nogil:
    """A tile of a product: rows of k floats are pixels of ceil(k / lanes) planes. `zero` is the one tap."""
    t.bias = bias
    t.taps = zero
    t.skips = NULL
    t.n_taps = 1
    t.planes = k // lanes
    t.channels = lanes
    t.partial = k % lanes
    t.xplane = lanes
    t.yplane = lanes
    t.residual = NULL
    t.rplane = t.rstep = 0
    t.first = t.last = 1
    t.ahead_lines = 0
    t.low = -INFINITY
    t.high = INFINITY


cdef void matmul_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const matmul_t *g = <const matmul_t *>geometry
    cdef const KernelTable *table = g.table
    cdef Py_ssize_t lanes = table.lanes, zero = 0
    cdef Py_ssize_t part = chunk % g.row_chunks, unit = chunk // g.row_chunks % g.units
    cdef Py_ssize_t matrix = chunk // g.row_chunks // g.units, rest = matrix, index
    cdef Py_ssize_t block = 2 * unit, blocks, width, valid, i, j, row, end, left, pieces
    cdef int d
    cdef const float *a = <const float *>args[0]
    cdef const float *b = <const float *>args[1]
    cdef const float *column
    cdef float *y = <float *>args[2] + matrix * g.m * g.n
    cdef float *bias = <float *>scratch + g.bias_at
    cdef float *panel = <float *>scratch + g.panel_at
    cdef float *to
    cdef conv_tile_t t
    cdef conv_tile_fn tile
    for d in range(g.n_axes - 1, -1, -1):
        index = rest % g.size[d]
        rest = rest // g.size[d]
        a = a + index * g.a_stride[d]
        b = b + index * g.b_stride[d]
    blocks = 2 if block + 1 < g.blocks else 1
    width = blocks * lanes
    valid = smaller(g.n - block * lanes, width)
    memset(bias, 0, width * sizeof(float))
    b = b + block * lanes * g.b_n
    if g.b_n == 1 and g.scale == 1:
        for i in range(g.k):
            memcpy(panel + i * width, b + i * g.b_k, valid * sizeof(float))
            if valid < width:
                memset(panel + i * width + valid, 0, (width - valid) * sizeof(float))
    else:
        if valid < width:
            memset(panel, 0, g.k * width * sizeof(float))
        for j in range(valid):
            column = b + j * g.b_n
            to = panel + j
            for i in range(g.k):
                to[i * width] = column[i * g.b_k] * g.scale

    tile = table.conv.blocked[blocks][0]
    set_tile(&t, lanes, bias, g.k, &zero)
    t.w = panel
    t.w2 = panel
    t.xstep = g.k
    row = part * g.chunk_rows
    end = smaller(row + g.chunk_rows, g.m)
    # tiles of nearly equal height
    pieces = ceil_div(end - row, table.conv.width[blocks])
    while pieces > 0:
        left = ceil_div(end - row, pieces)
        t.x = a + row * g.k
        to = y + row * g.n + block * lanes
        if valid == width:
            t.y = to
            t.ystep = g.n
            tile(<int>left, 1, &t)
        else:
            t.y = <float *>scratch + g.tile_at
            t.ystep = width
            tile(<int>left, 1, &t)
            for i in range(left):
                memcpy(to + i * g.n, t.y + i * width, valid * sizeof(float))
        if g.kind != ACT_NONE:
            for i in range(left):
                table.vector.activate(g.kind, to + i * g.n, to + i * g.n, valid, g.alpha, g.beta)
        row = row + left
        pieces = pieces - 1


def build_matmul(inputs, outputs, *, transposed=False, scale=1.0, activation=None) -> Launch:
    """Geometry of ``y = activation(scale * a @ b)``, NumPy's matmul with broadcast batch axes and 1-D operands.

    Parameters
    ----------
    inputs : a, b
        Plain.
    outputs : y
        Plain.
    transposed : bool
        b is (..., N, K).
    scale : float
        Applied to b.
    """
    cdef matmul_t g
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, rows
    av, bv = inputs
    yv, = outputs
    memset(&g, 0, sizeof(g))
    if not (av.is_plain and bv.is_plain and yv.is_plain):
        raise ValueError("matmul: operands must be plain")
    if not av.shape or not bv.shape:
        raise ValueError(f"matmul: {av.shape} by {bv.shape}")
    a = av.shape if len(av.shape) > 1 else (1, *av.shape)
    b = bv.shape if len(bv.shape) > 1 else ((1, *bv.shape) if transposed else (*bv.shape, 1))
    k2, n = b[:-3:-1] if transposed else b[-2:]
    m, k = a[-2:]
    rank = max(len(a), len(b)) - 2
    a_batch = (1,) * (rank + 2 - len(a)) + tuple(a[:-2])
    b_batch = (1,) * (rank + 2 - len(b)) + tuple(b[:-2])
    if k != k2 or any(p != q and 1 not in (p, q) for p, q in zip(a_batch, b_batch)):
        raise ValueError(f"matmul: {av.shape} by {bv.shape}{' transposed' if transposed else ''}")
    batch = tuple(q if p == 1 else p for p, q in zip(a_batch, b_batch))
    shape = (*batch, *((m,) if len(av.shape) > 1 else ()), *((n,) if len(bv.shape) > 1 else ()))
    if tuple(yv.shape) != shape:
        raise ValueError(f"matmul: an output of shape {yv.shape} for {shape}")
    # batch axes that both operands cross in one stride become one
    axes = []
    a_step, b_step = m * k, k * n
    for size, p, q in zip(batch[::-1], a_batch[::-1], b_batch[::-1]):
        steps = (a_step if p != 1 else 0, b_step if q != 1 else 0)
        a_step *= p
        b_step *= q
        if size == 1:
            continue
        if axes and steps == (axes[-1][0] * axes[-1][1], axes[-1][0] * axes[-1][2]):
            axes[-1] = (axes[-1][0] * size, *axes[-1][1:])
        else:
            axes.append((size, *steps))
    if len(axes) > MAX_BATCH_AXES:
        raise ValueError(f"matmul: more than {MAX_BATCH_AXES} batch axes with strides of their own")
    g.n_axes = len(axes)
    for i, (size, p, q) in enumerate(axes[::-1]):
        g.size[i] = size
        g.a_stride[i] = p
        g.b_stride[i] = q
    g.table = table
    g.m, g.k, g.n = m, k, n
    g.b_k, g.b_n = (1, k) if transposed else (n, 1)
    g.blocks = ceil_div(g.n, lanes)
    g.units = ceil_div(g.blocks, 2)
    # whole tiles, and at least 32 rows for one packing
    rows = larger(larger(CHUNK_NS * FLOPS_PER_NS // larger(4 * lanes * g.k, 1), 32), table.conv.width[2])
    g.chunk_rows = rows // table.conv.width[2] * table.conv.width[2]
    g.row_chunks = ceil_div(g.m, g.chunk_rows)
    g.scale = scale
    g.kind = ACT_NONE
    if activation is not None:
        g.kind = ACTIVATIONS[activation.kind]
        g.alpha = activation.alpha
        g.beta = activation.beta
    g.panel_at = 2 * lanes
    g.tile_at = g.panel_at + 2 * lanes * g.k
    count = math.prod(batch)
    return make_launch(
        "matmul",
        matmul_chunk,
        &g,
        sizeof(g),
        count * g.units * g.row_chunks,
        4 * (g.tile_at + 2 * lanes * larger(table.conv.width[1], table.conv.width[2])),
        (av.nbytes, bv.nbytes, yv.nbytes),
        2.0 * count * g.m * g.k * g.n,
        float(av.nbytes + bv.nbytes + yv.nbytes),
    )


# ---------------------------------------------------------------- attention
cdef struct operand_t:
    Py_ssize_t stride[MAX_BATCH_AXES]   # of the batch axes
    Py_ssize_t offset, row, column      # of the last two axes; all in floats


cdef struct attention_t:
    const KernelTable *table
    int n_axes
    Py_ssize_t size[MAX_BATCH_AXES]
    operand_t q, k, v, y
    Py_ssize_t m, n, d, e               # rows of q, rows of k and v, columns of q and k, columns of v
    Py_ssize_t rows                     # that go through together
    Py_ssize_t chunk_rows, row_chunks
    Py_ssize_t q_at, k_at, v_at, scores_at, tile_at     # floats of scratch, after 2 * lanes zeros
    Py_ssize_t score_row
    float scale


cdef inline const float *operand_at(const attention_t *g, const operand_t *o, Py_ssize_t matrix, const void *base) noexcept nogil:
    cdef const float *p = <const float *>base + o.offset
    cdef int d
    for d in range(g.n_axes - 1, -1, -1):
        p = p + matrix % g.size[d] * o.stride[d]
        matrix = matrix // g.size[d]
    return p


cdef void pack_keys(const attention_t *g, const float *k, float *panel) noexcept nogil:
    """[unit][d][2 * lanes], zeros beyond the last row of k."""
    cdef Py_ssize_t width = 2 * g.table.lanes, at = 0, count, i
    while at < g.n:
        count = smaller(g.n - at, width)
        if count < width:
            memset(panel, 0, g.d * width * sizeof(float))
        if g.k.column == 1:
            g.table.move.transpose(k + at * g.k.row, g.k.row, panel, width, count, g.d)
        else:
            for i in range(g.d):
                memcpy(panel + i * width, k + at + i * g.k.column, count * sizeof(float))
        panel = panel + g.d * width
        at = at + width


cdef void pack_values(const attention_t *g, const float *v, float *panel) noexcept nogil:
    """[unit][n][blocks * lanes], zeros beyond the last column of v; a unit is two blocks or, the last one, what is left."""
    cdef Py_ssize_t lanes = g.table.lanes, at = 0, width, count, i
    while at < g.e:
        width = 2 * lanes if g.e - at > lanes else lanes
        count = smaller(g.e - at, width)
        for i in range(g.n):
            memcpy(panel + i * width, v + i * g.v.row + at, count * sizeof(float))
            if count < width:
                memset(panel + i * width + count, 0, (width - count) * sizeof(float))
        panel = panel + g.n * width
        at = at + width


cdef void attention_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const attention_t *g = <const attention_t *>geometry
    cdef const KernelTable *table = g.table
    cdef Py_ssize_t lanes = table.lanes, zero = 0, matrix = chunk // g.row_chunks
    cdef Py_ssize_t row = chunk % g.row_chunks * g.chunk_rows, end = smaller(row + g.chunk_rows, g.m), count, i, j, at, width, left, piece
    cdef const float *q = operand_at(g, &g.q, matrix, args[0])
    cdef float *y = <float *>operand_at(g, &g.y, matrix, args[3])
    cdef float *bias = <float *>scratch
    cdef float *rows = bias + g.q_at
    cdef float *keys = bias + g.k_at
    cdef float *values = bias + g.v_at
    cdef float *scores = bias + g.scores_at
    cdef float *out = bias + g.tile_at
    cdef const float *panel
    cdef conv_tile_t t
    memset(bias, 0, 2 * lanes * sizeof(float))
    pack_keys(g, operand_at(g, &g.k, matrix, args[1]), keys)
    pack_values(g, operand_at(g, &g.v, matrix, args[2]), values)
    while row < end:
        count = smaller(end - row, g.rows)
        for i in range(count):
            for j in range(g.d):
                rows[i * g.d + j] = q[(row + i) * g.q.row + j] * g.scale
        set_tile(&t, lanes, bias, g.d, &zero)
        t.xstep = g.d
        t.ystep = g.score_row
        at = 0
        panel = keys
        while at < g.n:
            t.w = panel
            t.w2 = panel
            i = 0
            while i < count:
                piece = smaller(count - i, table.conv.width[2])
                t.x = rows + i * g.d
                t.y = scores + i * g.score_row + at
                table.conv.blocked[2][0](<int>piece, 1, &t)
                i = i + piece
            panel = panel + g.d * 2 * lanes
            at = at + 2 * lanes
        for i in range(count):
            table.vector.softmax(0, scores + i * g.score_row, scores + i * g.score_row, g.n, 1, 1)
        set_tile(&t, lanes, bias, g.n, &zero)
        t.xstep = g.score_row
        at = 0
        panel = values
        while at < g.e:
            width = 2 if g.e - at > lanes else 1
            left = smaller(g.e - at, width * lanes)
            t.w = panel
            t.w2 = panel
            i = 0
            while i < count:
                piece = smaller(count - i, table.conv.width[width])
                t.x = scores + i * g.score_row
                if left == width * lanes:
                    t.y = y + (row + i) * g.y.row + at
                    t.ystep = g.y.row
                else:
                    t.y = out
                    t.ystep = width * lanes
                table.conv.blocked[width][0](<int>piece, 1, &t)
                if left < width * lanes:
                    for j in range(piece):
                        memcpy(y + (row + i + j) * g.y.row + at, out + j * width * lanes, left * sizeof(float))
                i = i + piece
            panel = panel + g.n * width * lanes
            at = at + width * lanes
        row = row + count


cdef int set_operand(operand_t *o, object view, tuple shape, given, name) except -1:
    """Strides and offset of one operand; raises ValueError where they leave its buffer."""
    strides, offset = given
    cdef int i
    if not view.is_plain or len(strides) != len(shape) or min(strides, default=0) < 0 or offset < 0:
        raise ValueError(f"attention: {name} of {view.shape} by strides {strides} from {offset}")
    if 0 not in shape and offset + sum((n - 1) * s for n, s in zip(shape, strides)) >= view.size:
        raise ValueError(f"attention: {name} of {view.shape} does not hold {shape} by strides {strides} from {offset}")
    for i in range(len(shape) - 2):
        o.stride[i] = strides[i]
    o.offset = offset
    o.row = strides[len(strides) - 2]
    o.column = strides[len(strides) - 1]
    return 0


def build_attention(inputs, outputs, *, batch, m, n, d, e, q, k, v, y, scale=1.0) -> Launch:
    """Geometry of ``y = softmax(scale * q @ k^T) @ v`` for a batch of matrices, each operand anywhere in a plain buffer.

    Parameters
    ----------
    inputs : q, k, v
        Plain; may be one buffer.
    outputs : y
        Plain; every element is written once.
    batch : tuple of int
    m, n, d, e : int
        q is (*batch, m, d), k (*batch, n, d), v (*batch, n, e), y (*batch, m, e).
    q, k, v, y : (strides, offset)
        Where they lie, in floats; not negative. The last stride is 1, of k the last or the one before.
    scale : float
    """
    cdef attention_t g
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes
    qv, kv, vv = inputs
    yv, = outputs
    memset(&g, 0, sizeof(g))
    batch = tuple(batch)
    extents = (m, n, d, e) + batch
    if len(batch) > MAX_BATCH_AXES or min(extents) < 1:
        raise ValueError(f"attention: batch {batch}, {m} x {d} by {n} x {d}, {n} x {e}")
    set_operand(&g.q, qv, (*batch, m, d), q, "q")
    set_operand(&g.k, kv, (*batch, n, d), k, "k")
    set_operand(&g.v, vv, (*batch, n, e), v, "v")
    set_operand(&g.y, yv, (*batch, m, e), y, "y")
    if (g.q.column != 1 and d > 1) or (g.v.column != 1 and e > 1) or (g.y.column != 1 and e > 1) or (g.k.column != 1 and g.k.row != 1):
        raise ValueError("attention: the last axis must lie together")
    if math.prod(batch) * m * e != math.prod(yv.shape):
        raise ValueError(f"attention: an output of shape {yv.shape}")
    g.n_axes = len(batch)
    for i, size in enumerate(batch):
        g.size[i] = size
    g.table = table
    g.m, g.n, g.d, g.e = m, n, d, e
    g.scale = scale
    g.rows = 2 * table.conv.width[2]
    # packing k and v moves n * (d + e) floats, a row computes 2 * n * (d + e) operations: at least 64 rows for one packing
    g.chunk_rows = larger(ceil_div(4 * CHUNK_NS * FLOPS_PER_NS // (2 * g.n * (g.d + g.e)), 64) * 64, 64)
    g.row_chunks = ceil_div(g.m, g.chunk_rows)
    units = ceil_div(g.n, 2 * lanes)
    g.score_row = units * 2 * lanes
    g.q_at = 2 * lanes
    g.k_at = g.q_at + ceil_div(g.rows * g.d, lanes) * lanes
    g.v_at = g.k_at + units * d * 2 * lanes
    g.scores_at = g.v_at + g.n * ceil_div(g.e, lanes) * lanes
    g.tile_at = g.scores_at + g.rows * g.score_row
    count = math.prod(batch)
    return make_launch(
        "attention",
        attention_chunk,
        &g,
        sizeof(g),
        count * g.row_chunks,
        4 * (g.tile_at + 2 * lanes * larger(table.conv.width[1], table.conv.width[2])),
        (qv.nbytes, kv.nbytes, vv.nbytes, yv.nbytes),
        float(count) * m * n * (2 * (d + e) + 5),
        4.0 * count * (m * (d + e) + n * (d + e)),
    )
