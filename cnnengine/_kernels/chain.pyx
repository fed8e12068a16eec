# cython: language_level=3
"""Chains of convolutions whose hidden tensors never reach memory: 1x1 -> depthwise, depthwise -> 1x1, 1x1 -> depthwise -> 1x1.

Why
    The hidden tensor of an inverted residual is several times as large as its input and output. Where it does not fit the
    second-level cache, writing and reading it takes longer than computing it.

Layout
    x, y, residual   planes; weights and biases as of `conv` (`pack_conv`, `pack_bias`) and `depthwise` (`pack_depthwise`)
    ring             scratch: as many expanded rows of 1 or 2 channel blocks as the depthwise kernel is high, with zero columns
                     on both sides. Row i of the hidden plane lies in slot i mod rows; rows outside of the plane are zeros.
    band             scratch: depthwise rows of all channel blocks, [block][row][pixel][lane], read by the second 1x1

Loop order of a chunk
    With the first 1x1: unit of 1 or 2 hidden blocks, output row; the expanded rows that it adds come just before it, so that the
    depthwise tiles find them in the first-level cache. Without the second 1x1 a chunk is one image, one band of output rows and
    one unit, and chunks share nothing but the rows where bands meet, which both compute. With the second 1x1 a chunk is one
    image and one band; the 1x1 tiles run over the band when it is whole, all its planes at once.

Every sum has the order that `conv` and `depthwise` give it, and values stay float between them: the bits are the same.
"""

from libc.string cimport memcpy, memset

from cnnengine._kernels.activation cimport activation_of, activation_t
from cnnengine._kernels.chunks cimport CHUNK_NS, FLOPS_PER_NS
from cnnengine._kernels.depthwise cimport depthwise_tile_of
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, larger, smaller
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.planes cimport fill_halo, planes_of, planes_t
from cnnengine._kernels.table cimport ACT_NONE, KernelTable
from cnnengine._kernels.tiles.conv cimport conv_tile_t, depthwise_rows_fn, depthwise_tile_t, tile_row
from cnnengine._kernels.tiles.vector cimport MODE_FULL, MODE_PIXEL, OP_MUL


cdef struct chain_t:
    const KernelTable *table
    planes_t x, y, r
    int has_expand, has_project, has_residual
    Py_ssize_t hidden, blocks                       # hidden channels
    Py_ssize_t rows, width                          # of the depthwise output
    Py_ssize_t stride_h, xstep                      # rows; floats between pixels that neighbouring outputs start from
    Py_ssize_t h, w                                 # of the hidden plane that the depthwise taps read
    Py_ssize_t top, tall, left, right               # rows above, rows of the kernel, columns left and right of the plane
    Py_ssize_t n_taps
    Py_ssize_t pitch, ring                          # floats of a ring row, of one block's ring
    Py_ssize_t band_rows, bands, units
    depthwise_rows_fn depthwise
    activation_t expand_act, depthwise_act, project_act
    # Py_ssize_t taps[phases][n_taps] follows; phases: the ring slot of a kernel's first row, or 1 without a ring


cdef inline void pointwise_row(const KernelTable *table, int blocks, conv_tile_t *t, const float *x, float *y, const float *residual,
                               Py_ssize_t width, const activation_t *act) noexcept nogil:
    """One row of a 1x1 convolution: tiles of nearly equal width, then what does not fit into them."""
    cdef Py_ssize_t lanes = table.lanes, b
    t.x = x
    t.y = y
    t.residual = residual
    tile_row(table.conv.blocked[blocks][1], table.conv.width[blocks], width, t)
    if act.kind != ACT_NONE:
        for b in range(blocks):
            table.vector.activate(act.kind, y + b * t.yplane, y + b * t.yplane, width * lanes, act.alpha, act.beta)


cdef inline void pointwise_tile(conv_tile_t *t, const Py_ssize_t *zero, Py_ssize_t channels, Py_ssize_t lanes, Py_ssize_t xplane,
                                Py_ssize_t yplane, const activation_t *act) noexcept nogil:
    """What all tiles of a 1x1 convolution share."""
    memset(t, 0, sizeof(t[0]))
    t.taps = zero
    t.n_taps = 1
    t.planes = channels // lanes
    t.partial = channels % lanes
    t.channels = lanes
    t.xplane = xplane
    t.xstep = lanes
    t.yplane = yplane
    t.ystep = lanes
    t.first = t.last = 1
    t.low = act.low
    t.high = act.high


cdef void chain_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const chain_t *g = <const chain_t *>geometry
    cdef const KernelTable *table = g.table
    cdef Py_ssize_t lanes = table.lanes, zero = 0
    cdef Py_ssize_t unit, end, n, row, row0, row1, block, b, next = 0, slot, first
    cdef int blocks
    cdef const Py_ssize_t *taps = <const Py_ssize_t *>(g + 1)
    cdef float *ring = <float *>scratch
    cdef float *band = <float *>scratch + (2 * g.ring if g.has_expand else 0)
    cdef float *to
    cdef Py_ssize_t to_row, to_block
    cdef const float *x = <const float *>args[0] + g.x.offset
    cdef float *y = <float *>args[8] + g.y.offset
    cdef const float *residual = NULL
    cdef conv_tile_t t
    cdef depthwise_tile_t d
    if g.has_project:
        unit = 0
        end = g.units
    else:
        unit = chunk % g.units
        end = unit + 1
        chunk = chunk // g.units
    n = chunk // g.bands
    row0 = chunk % g.bands * g.band_rows
    row1 = smaller(row0 + g.band_rows, g.rows)
    x = x + n * g.x.sn
    y = y + n * g.y.sn

    if g.has_expand:
        pointwise_tile(&t, &zero, g.x.c, lanes, g.x.sp, g.ring, &g.expand_act)
    d.n_taps = g.n_taps
    d.per_group = 1
    d.width = g.width
    d.xstep = g.xstep
    d.rows = 1
    d.xrow = d.yrow = d.rrow = 0
    d.low = g.depthwise_act.low
    d.high = g.depthwise_act.high
    d.residual = NULL
    d.taps = taps
    while unit < end:
        block = 2 * unit
        blocks = 2 if block + 2 <= g.blocks else 1
        if g.has_project:
            to_row = g.width * lanes
            to_block = g.band_rows * to_row
            to = band + block * to_block
        else:
            to_row = g.y.sh
            to_block = g.y.sp
            to = y + block * to_block + row0 * to_row
        if g.has_expand:
            t.w = <const float *>args[1] + block * g.x.c * lanes
            t.bias = <const float *>args[2] + block * lanes
            for b in range(blocks):
                for slot in range(g.tall):
                    memset(ring + b * g.ring + slot * g.pitch, 0, g.left * lanes * sizeof(float))
                    memset(ring + b * g.ring + slot * g.pitch + (g.left + g.w) * lanes, 0, g.right * lanes * sizeof(float))
            next = row0 * g.stride_h - g.top
        for row in range(row0, row1):
            if g.has_expand:
                first = row * g.stride_h - g.top
                next = larger(next, first)
                while next < first + g.tall:
                    slot = (next + g.tall) % g.tall         # next >= -top > -tall
                    if next < 0 or next >= g.h:
                        for b in range(blocks):
                            memset(ring + b * g.ring + slot * g.pitch + g.left * lanes, 0, g.w * lanes * sizeof(float))
                    else:
                        pointwise_row(table, blocks, &t, x + next * g.x.sh, ring + slot * g.pitch + g.left * lanes, NULL, g.w,
                                      &g.expand_act)
                    next = next + 1
                d.taps = taps + (first + g.tall) % g.tall * g.n_taps
            for b in range(blocks):
                d.w = <const float *>args[3] + (block + b) * g.n_taps * lanes
                d.bias = <const float *>args[4] + (block + b) * lanes
                d.x = ring + b * g.ring if g.has_expand else x + (block + b) * g.x.sp + row * g.stride_h * g.x.sh
                d.y = to + b * to_block + (row - row0) * to_row
                g.depthwise(&d)
                if g.depthwise_act.kind != ACT_NONE:
                    table.vector.activate(g.depthwise_act.kind, d.y, d.y, g.width * lanes, g.depthwise_act.alpha, g.depthwise_act.beta)
        if row0 == 0 and not g.has_project:
            for b in range(blocks):
                fill_halo(&g.y, <float *>args[8], n, block + b)
        unit = unit + 1
    if not g.has_project:
        return

    if g.has_residual:
        residual = <const float *>args[7] + g.r.offset + n * g.r.sn
    pointwise_tile(&t, &zero, g.hidden, lanes, g.band_rows * g.width * lanes, g.y.sp, &g.project_act)
    t.rplane = g.r.sp
    t.rstep = lanes
    block = 0
    while block < g.y.blocks:
        blocks = 2 if block + 2 <= g.y.blocks else 1
        t.w = <const float *>args[5] + block * g.hidden * lanes
        t.bias = <const float *>args[6] + block * lanes
        for row in range(row0, row1):
            pointwise_row(table, blocks, &t, band + (row - row0) * g.width * lanes, y + block * g.y.sp + row * g.y.sh,
                          residual + block * g.r.sp + row * g.r.sh if residual != NULL else NULL, g.width, &g.project_act)
        if row0 == 0:
            for b in range(blocks):
                fill_halo(&g.y, <float *>args[8], n, block + b)
        block = block + blocks


def build_chain(inputs, outputs, *, taps, hidden, size, stride=(1, 1), expand=None, depthwise=None, project=None):
    """A depthwise convolution with a 1x1 convolution before it, after it, or both; two spatial axes.

    Parameters
    ----------
    inputs : x, expand weights, expand bias, depthwise weights, depthwise bias, project weights, project bias, residual
        Views. The weights and bias of an absent 1x1 are None; so is an absent residual (of y's shape, added before the last
        activation; only with the second 1x1).
    outputs : y
    taps : sequence of (h, w)
        Pixel of the hidden plane that each depthwise tap reads, from the pixel ``i * stride``. Without the first 1x1 that plane
        is x's, which must have the halo for it.
    hidden : int
        Channels between the convolutions.
    size : (h, w)
        Rows and columns of the depthwise output.
    stride : (h, w)
    expand, depthwise, project : Activation, optional
        Activation after each convolution.
    """
    xv, ew, eb, dw, db, pw, pb, rv = inputs
    yv, = outputs
    cdef chain_t g
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, i, phase, n_taps = len(taps), phases, lowest, highest, first, last, overlap, work, scratch
    cdef Py_ssize_t *offsets
    cdef Launch launch
    memset(&g, 0, sizeof(g))
    g.table = table
    g.has_expand = ew is not None
    g.has_project = pw is not None
    g.has_residual = rv is not None
    g.rows, g.width = size
    for v in (xv, yv) if rv is None else (xv, yv, rv):
        if v.lanes != lanes or v.groups != 1 or v.dhw[0] != 1 or v.n != xv.n:
            raise ValueError(f"chain: {v}")
    if yv.dhw[1:] != (g.rows, g.width) or n_taps < 1 or min(stride) < 1:
        raise ValueError(f"chain: {n_taps} taps, stride {stride} to {size} for {yv}")
    if not g.has_expand and xv.c != hidden or not g.has_project and yv.c != hidden:
        raise ValueError(f"chain: {xv} -> {hidden} channels -> {yv}")
    if rv is not None and (not g.has_project or rv.shape != yv.shape):
        raise ValueError(f"chain: residual {rv} for {yv}")
    g.x = planes_of(xv)
    g.y = planes_of(yv)
    if rv is not None:
        g.r = planes_of(rv)
    g.hidden = hidden
    g.blocks = ceil_div(hidden, lanes)
    g.units = ceil_div(g.blocks, 2)
    g.h = g.x.h
    g.w = g.x.w
    g.stride_h = stride[0]
    g.xstep = stride[1] * lanes
    g.n_taps = n_taps
    g.depthwise = depthwise_tile_of(table, taps, stride[1])
    g.expand_act = activation_of(expand)
    g.depthwise_act = activation_of(depthwise)
    g.project_act = activation_of(project)
    lowest = min(t[0] for t in taps)
    g.top = -lowest
    g.tall = max(t[0] for t in taps) - lowest + 1
    if g.top < 0 or g.top >= g.tall:
        raise ValueError(f"chain: the taps {taps} leave no row above or at the pixel")
    g.left = larger(-min(t[1] for t in taps), 0)
    g.right = larger(max(t[1] for t in taps) + (g.width - 1) * stride[1] - (g.w - 1), 0)
    g.pitch = (g.left + g.w + g.right) * lanes
    g.ring = g.tall * g.pitch
    phases = g.tall if g.has_expand else 1

    # Bands of six chunks of other kernels: rows where bands meet are expanded twice, so bands are 16 times as tall as those.
    work = g.width * n_taps * 4
    if g.has_expand:
        work = work + g.w * stride[0] * g.x.c
    work = work * lanes * (g.blocks if g.has_project else 2)
    if g.has_project:
        work = work + g.width * hidden * g.y.blocks * lanes
    g.band_rows = larger(6 * CHUNK_NS * FLOPS_PER_NS // larger(2 * work, 1), 1)
    overlap = g.tall - g.stride_h
    if g.has_expand and overlap > 0:
        g.band_rows = larger(g.band_rows, ceil_div(16 * overlap, g.stride_h))
    g.bands = larger(ceil_div(g.rows, g.band_rows), 1)
    # an even number of bands, where no thread has units to choose from
    if g.has_project and g.rows > 1:
        g.bands = ceil_div(g.bands, 2) * 2
    g.band_rows = ceil_div(g.rows, g.bands)
    g.bands = ceil_div(g.rows, g.band_rows)
    scratch = 4 * ((2 * g.ring if g.has_expand else 0) + (g.blocks * g.band_rows * g.width * lanes if g.has_project else 0))

    if not g.has_expand and xv.n and g.rows and g.width:
        lowest = highest = 0
        for i in range(n_taps):
            lowest = smaller(taps[i][0] * g.x.sh + taps[i][1] * lanes, lowest)
            highest = larger(taps[i][0] * g.x.sh + taps[i][1] * lanes, highest)
        first = g.x.offset + lowest
        last = g.x.offset + (xv.n - 1) * g.x.sn + (g.x.blocks - 1) * g.x.sp + (g.rows - 1) * g.stride_h * g.x.sh
        last = last + (g.width - 1) * g.xstep + highest + lanes - 1
        if first < 0 or last >= xv.size:
            raise ValueError(f"chain: the taps reach elements {first} to {last} of a buffer of {xv.size}")
    weights = [4 * g.x.c * g.blocks * lanes if ew is not None else 0, 4 * g.blocks * lanes if ew is not None else 0,
               4 * g.blocks * n_taps * lanes, 4 * g.blocks * lanes,
               4 * hidden * g.y.blocks * lanes if pw is not None else 0, 4 * g.y.blocks * lanes if pw is not None else 0]
    launch = make_launch(
        "+".join((["expand"] if ew is not None else []) + ["depthwise"] + (["project"] if pw is not None else [])),
        chain_chunk,
        &g,
        sizeof(g),
        xv.n * g.bands * (1 if g.has_project else g.units) if g.width else 0,
        scratch,
        (xv.nbytes, *weights, rv.nbytes if rv is not None else 0, yv.nbytes),
        2.0 * xv.n * hidden * ((<double>g.h * g.w * g.x.c if g.has_expand else 0.0)
                               + <double>g.rows * g.width * (n_taps + (g.y.c if g.has_project else 0))),
        xv.nbytes + yv.nbytes + float(sum(weights)) + (rv.nbytes if rv is not None else 0),
    )
    offsets = <Py_ssize_t *>launch.tail(phases * n_taps * sizeof(Py_ssize_t))
    for phase in range(phases):
        for i in range(n_taps):
            if g.has_expand:
                offsets[phase * n_taps + i] = (taps[i][0] + g.top + phase) % g.tall * g.pitch + (g.left + taps[i][1]) * lanes
            else:
                offsets[phase * n_taps + i] = taps[i][0] * g.x.sh + taps[i][1] * lanes
    return launch


# ---------------------------------------------------------------- gates
# Squeeze and excitation scales each channel of x before a 1x1 convolution. Scaling the weights instead, once per image, leaves
# the planes alone: y = sum_c (w_oc * gate_c) x_c.
cdef struct gate_t:
    const KernelTable *table
    Py_ssize_t channels, blocks, panels             # input channels; blocks and panels of the output
    Py_ssize_t gate_offset, gate_n


cdef void gate_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const gate_t *g = <const gate_t *>geometry
    cdef Py_ssize_t lanes = g.table.lanes, n = chunk // g.panels, panel = chunk % g.panels, k
    cdef Py_ssize_t wide = 2 if 2 * panel + 2 <= g.blocks else 1, at = 2 * panel * g.channels * lanes
    cdef const float *gate = <const float *>args[1] + g.gate_offset + n * g.gate_n
    cdef float *each = <float *>scratch
    # one factor per register of weights
    if wide == 2:
        for k in range(g.channels):
            each[2 * k] = each[2 * k + 1] = gate[k]
        gate = each
    g.table.vector.binary(OP_MUL, <const float *>args[0] + at, MODE_FULL, gate, MODE_PIXEL,
                          <float *>args[2] + n * g.blocks * g.channels * lanes + at, wide * g.channels * lanes)


def build_gate_weights(inputs, outputs, *, out_channels):
    """Weights of a 1x1 convolution times a factor per image and input channel, for `build_conv` with ``weights_per_image``.

    Parameters
    ----------
    inputs : weights, gate
        Weights packed by `pack_conv` for planes of `lanes` channels and one group; gate (N, C, 1...) in planes without a halo.
    outputs : scaled
        Plain, N times as many floats as the weights.
    out_channels : int
    """
    wv, gv = inputs
    sv, = outputs
    cdef gate_t g
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    g.channels = gv.c
    g.blocks = ceil_div(out_channels, g.table.lanes)
    g.panels = ceil_div(g.blocks, 2)
    g.gate_offset = gv.offset
    g.gate_n = gv.sn
    if gv.lanes != g.table.lanes or gv.groups != 1 or gv.dhw != (1, 1, 1) or gv.sp != gv.lanes:
        raise ValueError(f"gate_weights: gate {gv}")
    if wv.size != g.blocks * g.table.lanes * gv.c or sv.size != gv.n * wv.size or not sv.is_plain:
        raise ValueError(f"gate_weights: {wv}, {gv} -> {sv}")
    return make_launch("gate weights", gate_chunk, &g, sizeof(g), gv.n * g.panels, 8 * g.channels, (wv.nbytes, gv.nbytes, sv.nbytes),
                       1.0 * sv.size, float(gv.n * wv.nbytes + sv.nbytes))
