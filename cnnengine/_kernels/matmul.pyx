# cython: language_level=3
"""Products of two run-time matrices, any batch of them, over the convolution tiles of the instruction set.

Layout
    a (..., M, K) plain; b (..., K, N) or, transposed, (..., N, K), plain; y (..., M, N) plain. Batch axes broadcast. A row of `a`
    is read as a pixel whose planes are its runs of `lanes` floats, as the dense kernel does.

Loop order of a chunk
    A chunk is one matrix of the batch, one unit of one or two blocks of output columns and a run of rows. It first packs its
    columns of b into scratch, [k][blocks * lanes], zeros beyond the last column, and then runs the tiles over its rows. Packing
    costs K * N moves for 2 * K * N * rows operations; the rows of a chunk are many enough to hide it, and nothing is
    stored between chunks. A last unit that ends beyond the last column has its tiles written to scratch and copied.

Every sum runs over k in order, so results depend on neither the number of threads nor the batch.
"""

from libc.math cimport INFINITY
from libc.string cimport memcpy, memset

import math

from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.launch cimport MAX_ARGS, Launch, make_launch
from cnnengine._kernels.table cimport ACT_NONE, KernelTable
from cnnengine._kernels.tiles.conv cimport conv_tile_fn, conv_tile_t

from cnnengine._kernels import ACTIVATIONS

cdef enum:
    MAX_BATCH_AXES = 8
    CHUNK_FLOPS = 1 << 20               # aimed at, 10 to 50 us


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
    valid = g.n - block * lanes
    if valid > width:
        valid = width
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
    t.bias = bias
    t.w = panel
    t.w2 = panel
    t.taps = &zero
    t.skips = NULL
    t.n_taps = 1
    t.planes = g.k // lanes
    t.channels = lanes
    t.partial = g.k % lanes
    t.xplane = lanes
    t.xstep = g.k
    t.yplane = lanes
    t.residual = NULL
    t.rplane = t.rstep = 0
    t.first = t.last = 1
    t.ahead_lines = 0
    t.low = -INFINITY
    t.high = INFINITY
    row = part * g.chunk_rows
    end = row + g.chunk_rows
    if end > g.m:
        end = g.m
    # tiles of nearly equal height
    pieces = (end - row + table.conv.width[blocks] - 1) // table.conv.width[blocks]
    while pieces > 0:
        left = (end - row + pieces - 1) // pieces
        t.x = a + row * g.k
        to = y + row * g.n + block * lanes
        if valid == width:
            t.y = to
            t.ystep = g.n
            tile(<int>left, &t)
        else:
            t.y = <float *>scratch + g.tile_at
            t.ystep = width
            tile(<int>left, &t)
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
    g.blocks = (g.n + lanes - 1) // lanes
    g.units = (g.blocks + 1) // 2
    # whole tiles, and at least 32 rows for one packing
    rows = CHUNK_FLOPS // max(4 * lanes * g.k, 1)
    rows = max(rows, 32, table.conv.width[2])
    g.chunk_rows = rows // table.conv.width[2] * table.conv.width[2]
    g.row_chunks = (g.m + g.chunk_rows - 1) // g.chunk_rows
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
        4 * (g.tile_at + 2 * lanes * max(table.conv.width[1], table.conv.width[2])),
        (av.nbytes, bv.nbytes, yv.nbytes),
        2.0 * count * g.m * g.k * g.n,
        float(av.nbytes + bv.nbytes + yv.nbytes),
    )


def matmul(Launch launch, const float[::1] a, const float[::1] b, float[::1] y, int threads=1) -> None:
    """Run a product built by `build_matmul` on these buffers, on at most `threads` threads."""
    cdef void *args[MAX_ARGS]
    launch.check(0, a.nbytes)
    launch.check(1, b.nbytes)
    launch.check(2, y.nbytes)
    args[0] = <void *>&a[0] if a.shape[0] else NULL
    args[1] = <void *>&b[0] if b.shape[0] else NULL
    args[2] = <void *>&y[0] if y.shape[0] else NULL
    launch.run(args, threads)
