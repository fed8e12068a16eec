# cython: language_level=3
"""Normalisation: batch norm at inference, instance, group and layer norm, local response norm.

Layout
    batch_norm     planes -> planes, or plain -> plain (channels are axis 1)
    channel_norm   planes -> planes: every channel of an image by itself (instance norm)
    row_norm       plain: runs of contiguous floats (a group of channels, the trailing axes of layer norm)
    pixel_norm     planes -> planes: every pixel by the mean and variance of its channels (layer norm, channels first)
    lrn            planes -> planes, or plain -> plain

Loop order of a chunk
    batch_norm: rows of pixels of one plane or several small planes; plain, runs of one channel after another.
    channel_norm: one plane, which passes three times while it lies in the second-level cache.
    row_norm: some rows, each three times; the mean square of RMS norm comes of the same moments, as variance + mean ** 2. pixel_norm: some pixels, all blocks. lrn: a run of pixels (LRN_PIXELS at a time), or LANES plain positions, all channels.

No kernel folds the mean into the shift; see tiles/norm.pyx.
"""

from libc.math cimport INFINITY, sqrt
from libc.string cimport memset

from cnnengine._kernels.chunks cimport LARGE_PLANE, chunk_ns, per_chunk
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, smaller
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.planes cimport fill_halo, planes_of, planes_t
from cnnengine._kernels.table cimport ACT_CLIP, ACT_NONE, KernelTable
from cnnengine._kernels.tiles.norm cimport LRN_PIXELS, affine_tile_t, lrn_tile_t, pixel_norm_tile_t

import math

from cnnengine._kernels import ACTIVATIONS

cdef enum:
    PER_NS = 4                          # floats that are read and normalised in a nanosecond by values that are there
    MAX_LANES = 64


cdef inline Py_ssize_t floats_of_chunk(Py_ssize_t total) noexcept nogil:
    """What a chunk of a step over `total` floats reads."""
    return <Py_ssize_t>(PER_NS * chunk_ns(<double>total / PER_NS))


cdef struct planes_pair_t:
    planes_t x, y
    Py_ssize_t rows                     # of a plane
    Py_ssize_t chunk_rows, row_chunks   # of a chunk; chunks of a plane
    Py_ssize_t planes, chunk_planes     # of the batch; of a chunk (1 where row_chunks > 1: then the rows of all planes of an
                                        # image that meet in a part follow each other)


cdef int set_planes(planes_pair_t *g, object xv, object yv, Py_ssize_t lanes) except -1:
    """Both operands in planes, cut into chunks; raises ValueError."""
    cdef Py_ssize_t floats, wanted
    if xv.lanes != lanes or yv.lanes != lanes or xv.groups != 1 or yv.groups != 1 or xv.shape != yv.shape:
        raise ValueError(f"norm: planes {xv.shape}, {xv.lanes} lanes -> {yv.shape}, {yv.lanes} lanes; one group only")
    g.x = planes_of(xv)
    g.y = planes_of(yv)
    g.rows = g.x.d * g.x.h
    g.planes = g.x.n * g.x.blocks
    floats = g.x.w * lanes
    wanted = floats_of_chunk(g.planes * g.rows * floats)
    g.chunk_rows = smaller(g.rows, wanted // (floats + 1) + 1)
    if g.rows * g.x.w >= LARGE_PLANE and g.rows > 1:
        g.chunk_rows = smaller(g.chunk_rows, (g.rows + 1) // 2)
    g.row_chunks = ceil_div(g.rows, g.chunk_rows) if g.rows else 1
    g.chunk_planes = smaller(wanted // (g.rows * floats + 1) + 1, 64) if g.row_chunks == 1 else 1
    return 0


cdef inline Py_ssize_t first_plane(const planes_pair_t *g, Py_ssize_t chunk) noexcept nogil:
    """Of a chunk."""
    if g.row_chunks == 1:
        return chunk * g.chunk_planes
    return chunk // (g.x.blocks * g.row_chunks) * g.x.blocks + chunk % g.x.blocks


cdef inline Py_ssize_t row_part(const planes_pair_t *g, Py_ssize_t chunk) noexcept nogil:
    return chunk // g.x.blocks % g.row_chunks if g.row_chunks > 1 else 0


cdef Py_ssize_t chunks_of(const planes_pair_t *g):
    return ceil_div(g.planes, g.chunk_planes) * g.row_chunks


cdef int check_lengths(object views, Py_ssize_t length, str kernel) except -1:
    for v in views:
        if v is not None and (not v.is_plain or v.size != length):
            raise ValueError(f"{kernel}: a parameter of {v.size} elements, {length} are needed")
    return 0


# ---------------------------------------------------------------- batch norm
cdef struct batch_norm_t:
    const KernelTable *table
    planes_pair_t p                     # planes
    Py_ssize_t c, spatial               # plain
    Py_ssize_t rows, chunk_rows         # plain: (n, c) runs, or images where spatial is 1
    double epsilon
    int kind                            # activation that is not a clip
    float alpha, beta, low, high


cdef inline float factor_of(const batch_norm_t *g, void *const *args, Py_ssize_t c) noexcept nogil:
    return <float>((<const float *>args[1])[c] / sqrt((<const float *>args[4])[c] + g.epsilon))


cdef void batch_norm_planes_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const batch_norm_t *g = <const batch_norm_t *>geometry
    cdef const planes_pair_t *p = &g.p
    cdef Py_ssize_t first = first_plane(p, chunk), part = row_part(p, chunk), plane, n, block, r, k, c
    cdef Py_ssize_t row = part * p.chunk_rows, end = smaller(row + p.chunk_rows, p.rows), lanes = p.x.lanes
    cdef float values[3][MAX_LANES]
    cdef const float *x
    cdef float *y
    cdef affine_tile_t t
    t.n = p.x.w
    t.mean, t.rest, t.factor, t.scale, t.shift = values[0], NULL, values[1], NULL, values[2]
    t.low, t.high = g.low, g.high
    for plane in range(first, smaller(first + p.chunk_planes, p.planes)):
        n = plane // p.x.blocks
        block = plane % p.x.blocks
        if part == 0:
            fill_halo(&p.y, <float *>args[5], n, block)
        for k in range(lanes):
            c = block * lanes + k
            values[0][k] = (<const float *>args[3])[c] if c < p.x.c else 0
            values[1][k] = factor_of(g, args, c) if c < p.x.c else 0
            values[2][k] = (<const float *>args[2])[c] if c < p.x.c else 0
        x = <const float *>args[0] + p.x.offset + n * p.x.sn + block * p.x.sp
        y = <float *>args[5] + p.y.offset + n * p.y.sn + block * p.y.sp
        for r in range(row, end):
            t.x = x + r // p.x.h * p.x.sd + r % p.x.h * p.x.sh
            t.y = y + r // p.x.h * p.y.sd + r % p.x.h * p.y.sh
            g.table.norm.planes(&t)
            if g.kind != ACT_NONE:
                g.table.vector.activate(g.kind, t.y, t.y, t.n * lanes, g.alpha, g.beta)


cdef void batch_norm_plain_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const batch_norm_t *g = <const batch_norm_t *>geometry
    cdef Py_ssize_t row, first = chunk * g.chunk_rows, end = smaller(first + g.chunk_rows, g.rows), c
    cdef float factor
    cdef float *factors = <float *>scratch
    cdef affine_tile_t t
    t.rest, t.scale = NULL, NULL
    t.low, t.high = g.low, g.high
    if g.spatial == 1:
        t.mean, t.factor, t.shift = <const float *>args[3], factors, <const float *>args[2]
        t.n = g.c
        for c in range(g.c):
            factors[c] = factor_of(g, args, c)
    else:
        t.factor = &factor
        t.n = g.spatial
    for row in range(first, end):
        t.x = <const float *>args[0] + row * t.n
        t.y = <float *>args[5] + row * t.n
        if g.spatial == 1:
            g.table.norm.vectors(&t)
        else:
            c = row % g.c
            factor = factor_of(g, args, c)
            t.mean = <const float *>args[3] + c
            t.shift = <const float *>args[2] + c
            g.table.norm.run(&t)
        if g.kind != ACT_NONE:
            g.table.vector.activate(g.kind, t.y, t.y, t.n, g.alpha, g.beta)


def build_batch_norm(inputs, outputs, *, epsilon=1e-5, activation=None):
    """``y = act((x - mean) / sqrt(var + epsilon) * scale + bias)`` per channel.

    Parameters
    ----------
    inputs : x, scale, bias, mean, var
        x (N, C, ...) in planes (one group) or plain; the others plain, C floats each.
    outputs : y
        Like x; its halo may differ.
    epsilon : float
    activation : Activation, optional
    """
    xv, *parameters = inputs
    yv, = outputs
    cdef batch_norm_t g
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    g.epsilon = epsilon
    g.low = -INFINITY
    g.high = INFINITY
    if activation is not None:
        code = ACTIVATIONS[activation.kind]
        if code == ACT_CLIP:
            g.low, g.high = activation.alpha, activation.beta
        else:
            g.kind, g.alpha, g.beta = code, activation.alpha, activation.beta
    if len(xv.shape) < 2 or xv.shape != yv.shape:
        raise ValueError(f"batch_norm: {xv.shape} -> {yv.shape}")
    check_lengths(parameters, xv.shape[1], "batch_norm")
    extents = (xv.nbytes, *(v.nbytes for v in parameters), yv.nbytes)
    flops, nbytes = 3.0 * math.prod(xv.shape), xv.nbytes + yv.nbytes
    if xv.is_plain and yv.is_plain:
        g.c = xv.shape[1]
        g.spatial = math.prod(xv.shape[2:])
        g.rows = xv.shape[0] * (1 if g.spatial == 1 else g.c)
        g.chunk_rows = per_chunk(g.rows, <double>(g.c if g.spatial == 1 else g.spatial) / PER_NS)
        return make_launch("batch_norm, plain", batch_norm_plain_chunk, &g, sizeof(g), ceil_div(g.rows, g.chunk_rows),
                           g.c * sizeof(float) if g.spatial == 1 else 0, extents, flops, nbytes)
    set_planes(&g.p, xv, yv, g.table.lanes)
    return make_launch("batch_norm", batch_norm_planes_chunk, &g, sizeof(g), chunks_of(&g.p), 0, extents, flops, nbytes)


# ---------------------------------------------------------------- instance norm of planes
cdef struct channel_norm_t:
    const KernelTable *table
    planes_t x, y
    double epsilon


cdef void channel_norm_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const channel_norm_t *g = <const channel_norm_t *>geometry
    cdef Py_ssize_t n = chunk // g.x.blocks, block = chunk % g.x.blocks, k, c, z, r, d = g.x.d, h = g.x.h, w = g.x.w
    cdef double mean[MAX_LANES]
    cdef double squares[MAX_LANES]
    cdef double deviation
    cdef float values[4][MAX_LANES]
    cdef const float *x = <const float *>args[0] + g.x.offset + n * g.x.sn + block * g.x.sp
    cdef float *y = <float *>args[3] + g.y.offset + n * g.y.sn + block * g.y.sp
    cdef affine_tile_t t
    fill_halo(&g.y, <float *>args[3], n, block)
    g.table.norm.moments_planes(x, d, h, w, g.x.sd, g.x.sh, mean, squares)
    for k in range(g.x.lanes):
        c = block * g.x.lanes + k
        deviation = sqrt(squares[k] / <double>(d * h * w) + g.epsilon)
        values[0][k] = <float>mean[k]
        values[1][k] = <float>(mean[k] - values[0][k])
        if c >= g.x.c:
            values[2][k] = values[3][k] = 0
            continue
        values[2][k] = <float>((<const float *>args[1])[c] / deviation)
        values[3][k] = (<const float *>args[2])[c]
    t.n = w
    t.mean, t.rest, t.factor, t.scale, t.shift = values[0], values[1], values[2], NULL, values[3]
    t.low, t.high = -INFINITY, INFINITY
    for z in range(d):
        for r in range(h):
            t.x = x + z * g.x.sd + r * g.x.sh
            t.y = y + z * g.y.sd + r * g.y.sh
            g.table.norm.planes(&t)


def build_channel_norm(inputs, outputs, *, epsilon=1e-5):
    """Instance norm of planes: every channel of an image by its own mean and variance.

    Parameters
    ----------
    inputs : x, scale, bias
        x in planes of one group; scale and bias plain, C floats.
    outputs : y
        Like x; its halo may differ.
    epsilon : float
    """
    xv, *parameters = inputs
    yv, = outputs
    cdef channel_norm_t g
    cdef planes_pair_t pair
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    set_planes(&pair, xv, yv, g.table.lanes)
    check_lengths(parameters, xv.shape[1], "channel_norm")
    g.x = pair.x
    g.y = pair.y
    g.epsilon = epsilon
    return make_launch("channel_norm", channel_norm_chunk, &g, sizeof(g), pair.planes if pair.rows * g.x.w else 0, 0,
                       (xv.nbytes, *(v.nbytes for v in parameters), yv.nbytes), 8.0 * math.prod(xv.shape), 2 * xv.nbytes + yv.nbytes)


# ---------------------------------------------------------------- rows
cdef struct row_norm_t:
    const KernelTable *table
    Py_ssize_t rows, length, chunk_rows
    Py_ssize_t runs, run                # channels of a row and floats of each; runs == 0: one scale and bias per float
    Py_ssize_t parameters               # length of scale and bias
    bint centred
    double epsilon


cdef void row_norm_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const row_norm_t *g = <const row_norm_t *>geometry
    cdef Py_ssize_t row, first = chunk * g.chunk_rows, end = smaller(first + g.chunk_rows, g.rows), i, c
    cdef const float *scale = <const float *>args[1]
    cdef const float *bias = <const float *>args[2]
    cdef const float *x
    cdef float *y
    cdef double mu, squares, inverse
    cdef float mean, rest, factor, shift
    cdef affine_tile_t t
    t.mean, t.rest, t.factor = &mean, &rest, &factor
    t.low, t.high = -INFINITY, INFINITY
    for row in range(first, end):
        x = <const float *>args[0] + row * g.length
        y = <float *>args[3] + row * g.length
        g.table.norm.moments(x, g.length, &mu, &squares)
        squares /= <double>g.length
        if not g.centred:
            squares += mu * mu
            mu = 0
        inverse = 1 / sqrt(squares + g.epsilon)
        mean = <float>mu
        rest = <float>(mu - mean)
        if args[4] != NULL:
            (<float *>args[4])[row] = mean
        if args[5] != NULL:
            (<float *>args[5])[row] = <float>inverse
        if g.runs == 0:
            factor = <float>inverse
            t.x, t.y, t.n, t.scale, t.shift = x, y, g.length, scale, bias
            g.table.norm.each(&t)
            continue
        t.scale = NULL
        t.shift = &shift
        t.n = g.run
        for i in range(g.runs):
            c = (row * g.runs + i) % g.parameters
            factor = <float>(inverse * scale[c]) if scale != NULL else <float>inverse
            shift = bias[c] if bias != NULL else 0
            t.x = x + i * g.run
            t.y = y + i * g.run
            g.table.norm.run(&t)


def build_row_norm(inputs, outputs, *, length, runs=0, epsilon=1e-5, centred=True):
    """Rows of `length` contiguous floats, each by its own mean and variance, or by its mean square.

    Parameters
    ----------
    inputs : x, scale (or None), bias (or None)
        Plain. Scale and bias have `length` floats where `runs` is 0 (layer norm); else run i of row r takes element
        ``(r * runs + i) % size`` of them (instance and group norm).
    outputs : y, mean (or None), inverse of the deviation (or None)
        Plain; one float per row for the last two.
    length : int
    runs : int
        Channels of a row.
    epsilon : float
    centred : bool
        False: the mean counts as 0 (RMS norm).
    """
    xv, sv, bv = inputs
    yv, mv, iv = (*outputs, None, None)[:3]
    cdef row_norm_t g
    memset(&g, 0, sizeof(g))
    if not xv.is_plain or not yv.is_plain or xv.size != yv.size or length < 0 or (length and xv.size % length):
        raise ValueError(f"row_norm: rows of {length} in {xv.shape} -> {yv.shape}")
    g.table = current_table()
    g.length = length
    g.rows = xv.size // length if length else 0
    g.runs = runs
    g.run = length // runs if runs else 0
    if runs and length % runs:
        raise ValueError(f"row_norm: {runs} runs in rows of {length}")
    g.epsilon = epsilon
    g.centred = centred
    given = [v.size for v in (sv, bv) if v is not None]
    if given and (len(set(given)) > 1 or (given[0] != length if not runs else not given[0])):
        raise ValueError(f"row_norm: scale and bias of {given} floats, rows of {length}")
    g.parameters = given[0] if given else 1
    check_lengths((mv, iv), g.rows, "row_norm")
    g.chunk_rows = per_chunk(g.rows, 2.0 * length / PER_NS)
    return make_launch("row_norm", row_norm_chunk, &g, sizeof(g), ceil_div(g.rows, g.chunk_rows), 0,
                       tuple(0 if v is None else v.nbytes for v in (xv, sv, bv, yv, mv, iv)), 8.0 * xv.size,
                       2 * xv.nbytes + yv.nbytes).typed(inputs, outputs)


# ---------------------------------------------------------------- channels of a pixel
cdef struct pixel_norm_t:
    const KernelTable *table
    planes_t x, y
    Py_ssize_t width, last              # pixels of a run, of the last one of an image
    Py_ssize_t runs, height             # of an image, of a plane d: rows, or pieces where rows touch (then height = runs)
    Py_ssize_t xd, xh, yd, yh           # strides of depth and run, in floats
    Py_ssize_t chunk_runs
    bint has_scale, has_shift
    double epsilon


cdef void pixel_norm_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const pixel_norm_t *g = <const pixel_norm_t *>geometry
    cdef Py_ssize_t run = chunk * g.chunk_runs, end = smaller(run + g.chunk_runs, g.x.n * g.runs), n, inside, block, z, h
    cdef pixel_norm_tile_t t
    t.channels, t.xstride, t.ystride, t.epsilon = g.x.c, g.x.sp, g.y.sp, g.epsilon
    t.scale = <const float *>args[1] if g.has_scale else NULL
    t.shift = <const float *>args[2] if g.has_shift else NULL
    for run in range(run, end):
        n = run // g.runs
        inside = run % g.runs
        if inside == 0:
            for block in range(g.y.blocks):
                fill_halo(&g.y, <float *>args[3], n, block)
        z = inside // g.height
        h = inside % g.height
        t.x = <const float *>args[0] + g.x.offset + n * g.x.sn + z * g.xd + h * g.xh
        t.y = <float *>args[3] + g.y.offset + n * g.y.sn + z * g.yd + h * g.yh
        t.n = g.last if inside == g.runs - 1 else g.width
        g.table.norm.pixel_norm(&t)


def build_pixel_norm(inputs, outputs, *, epsilon=1e-5):
    """``(x - mean) / sqrt(variance + epsilon) * scale + bias``, the mean and variance those of a pixel's channels.

    Parameters
    ----------
    inputs : x, scale (or None), bias (or None)
        x (N, C, ...) in planes (one group); the others plain, C floats each.
    outputs : y
        Like x; its halo may differ.
    epsilon : float
    """
    xv, sv, bv = inputs
    yv, = outputs
    cdef pixel_norm_t g
    cdef planes_pair_t pair
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    if xv.is_plain or yv.is_plain:
        raise ValueError(f"pixel_norm: both sides must be planes, not {xv} -> {yv}")
    set_planes(&pair, xv, yv, g.table.lanes)
    check_lengths((sv, bv), xv.shape[1], "pixel_norm")
    g.x, g.y = pair.x, pair.y
    g.epsilon = epsilon
    g.has_scale, g.has_shift = sv is not None, bv is not None
    g.width = g.last = g.x.w
    g.runs, g.height = g.x.d * g.x.h, g.x.h
    g.xd, g.xh, g.yd, g.yh = g.x.sd, g.x.sh, g.y.sd, g.y.sh
    lanes = xv.lanes
    pixels = g.runs * g.width
    if pixels and all(v.sh == v.dhw[2] * lanes and v.sd == v.dhw[1] * v.sh for v in (xv, yv)):
        g.width = smaller(32, pixels)
        g.runs = g.height = ceil_div(pixels, g.width)
        g.last = pixels - (g.runs - 1) * g.width
        g.xh = g.yh = g.width * lanes
    count = g.x.n * g.runs if g.x.c and g.width else 0
    g.chunk_runs = per_chunk(count, 4.0 * g.x.blocks * g.width * lanes / PER_NS)
    return make_launch("pixel_norm", pixel_norm_chunk, &g, sizeof(g), ceil_div(count, g.chunk_runs), 0,
                       (xv.nbytes, sv.nbytes if sv is not None else 0, bv.nbytes if bv is not None else 0, yv.nbytes),
                       8.0 * math.prod(xv.shape), xv.nbytes + yv.nbytes)


# ---------------------------------------------------------------- local response
cdef struct lrn_t:
    const KernelTable *table
    planes_t x, y
    Py_ssize_t c, spatial               # plain
    Py_ssize_t rows, chunk_rows         # rows of pixels of the batch; plain: tiles of LANES positions of the batch
    Py_ssize_t before, after
    float alpha, beta, bias


cdef void lrn_planes_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const lrn_t *g = <const lrn_t *>geometry
    cdef Py_ssize_t row, first = chunk * g.chunk_rows, end = smaller(first + g.chunk_rows, g.rows), rows = g.x.d * g.x.h
    cdef Py_ssize_t n, inside, at, block
    cdef const float *x
    cdef float *y
    cdef lrn_tile_t t
    t.channels, t.stride, t.ystride = g.x.c, g.x.sp, g.y.sp
    t.before, t.after, t.alpha, t.beta, t.bias = g.before, g.after, g.alpha, g.beta, g.bias
    t.scratch = <float *>scratch
    for row in range(first, end):
        n = row // rows
        inside = row % rows
        if inside == 0:
            for block in range(g.y.blocks):
                fill_halo(&g.y, <float *>args[1], n, block)
        x = <const float *>args[0] + g.x.offset + n * g.x.sn + inside // g.x.h * g.x.sd + inside % g.x.h * g.x.sh
        y = <float *>args[1] + g.y.offset + n * g.y.sn + inside // g.x.h * g.y.sd + inside % g.x.h * g.y.sh
        at = 0
        while at < g.x.w:
            t.x = x + at * g.x.lanes
            t.y = y + at * g.x.lanes
            t.n = smaller(LRN_PIXELS, g.x.w - at)
            g.table.norm.lrn_pixels(&t)
            at = at + LRN_PIXELS


cdef void lrn_plain_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const lrn_t *g = <const lrn_t *>geometry
    cdef Py_ssize_t lanes = g.table.lanes, tiles = ceil_div(g.spatial, lanes)
    cdef Py_ssize_t tile, first = chunk * g.chunk_rows, end = smaller(first + g.chunk_rows, g.rows), at
    cdef lrn_tile_t t
    t.channels, t.stride, t.ystride = g.c, g.spatial, g.spatial
    t.before, t.after, t.alpha, t.beta, t.bias = g.before, g.after, g.alpha, g.beta, g.bias
    t.scratch = NULL
    for tile in range(first, end):
        at = tile // tiles * g.c * g.spatial + tile % tiles * lanes
        t.x = <const float *>args[0] + at
        t.y = <float *>args[1] + at
        t.n = smaller(lanes, g.spatial - tile % tiles * lanes)
        g.table.norm.lrn_run(&t)


def build_lrn(inputs, outputs, *, size, alpha, beta, bias):
    """``y = x / (bias + alpha / size * sum of squares of `size` channels) ** beta``.

    Of an even window the larger half lies behind the channel: floor((size - 1) / 2) before, ceil((size - 1) / 2) after.

    Parameters
    ----------
    inputs, outputs : x; y
        (N, C, ...), both in planes of one group, or both plain.
    size : int
    alpha, beta, bias : float
    """
    xv, = inputs
    yv, = outputs
    cdef lrn_t g
    cdef planes_pair_t pair
    memset(&g, 0, sizeof(g))
    if size < 1 or len(xv.shape) < 2 or xv.shape != yv.shape:
        raise ValueError(f"lrn: {xv.shape} -> {yv.shape}, size {size}")
    g.table = current_table()
    g.c = xv.shape[1]
    # a window wider than the channels adds nothing
    g.before = smaller((size - 1) // 2, g.c)
    g.after = smaller(size // 2, g.c)
    g.alpha = alpha / size
    g.beta = beta
    g.bias = bias
    flops = <double>xv.size * (2 * size + 10)
    if xv.is_plain and yv.is_plain:
        g.spatial = math.prod(xv.shape[2:])
        g.rows = xv.shape[0] * ceil_div(g.spatial, g.table.lanes)
        g.chunk_rows = per_chunk(g.rows, 8.0 * g.c * g.table.lanes / PER_NS)
        return make_launch("lrn, plain", lrn_plain_chunk, &g, sizeof(g), ceil_div(g.rows, g.chunk_rows), 0, (xv.nbytes, yv.nbytes), flops,
                           xv.nbytes + yv.nbytes)
    set_planes(&pair, xv, yv, g.table.lanes)
    g.x = pair.x
    g.y = pair.y
    g.rows = xv.shape[0] * pair.rows
    g.chunk_rows = per_chunk(g.rows, 8.0 * g.x.blocks * g.x.w * g.x.lanes / PER_NS)
    return make_launch("lrn", lrn_planes_chunk, &g, sizeof(g), ceil_div(g.rows, g.chunk_rows),
                       LRN_PIXELS * (g.before + g.x.blocks * g.x.lanes + g.after) * sizeof(float), (xv.nbytes, yv.nbytes), flops,
                       xv.nbytes + yv.nbytes)
