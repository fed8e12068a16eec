# cython: language_level=3
"""Winograd convolution: of kernels with 3 or 5 taps along both axes, or 3, 5 or 7 along one of them, and of 3x3 at stride 2.

F(m, r) makes m output pixels along an axis from m + r - 1 input pixels, by as many products, instead of m r:

    F(4x4, 3x3)     36 products instead of 144
    F(2x2, 5x5)     36 instead of 100, with the same points and so the same transform of the input
    F(2x2, 3x3)     16 instead of 36; its weights are less than half of F(4x4, 3x3)'s, which counts where few tiles share them
    F(4, 3)         6 instead of 12, along one axis: 1x3 and 3x1 kernels and those of 1-D convolutions
    F(4, 5)         8 instead of 20
    F(4, 7)         10 instead of 28
    stride 2        81 instead of 144: 4x4 outputs of 3x3 taps. Along an axis the outer taps meet the even pixels, two taps at
                    stride 1, five products for 4 outputs; the middle tap meets the odd pixels, four products with one weight. So
                    36 matrices of weights serve 81 elements.

A kernel dilated by d meets every d-th pixel: d x d planes (phases) of a part of the pixels, whose tiles are those of d x d images.

Errors against float64 relative to max |y|: 0.3-1e-5 where both axes are transformed, 2-5e-6 along one axis, direct 1-4e-6. Larger
tiles along both axes lose accuracy (6x6 outputs of 3x3: up to 3e-5) and are hardly faster. Kernels with D taps in depth are D such
kernels, whose products are added before the transform back: D times as many channels.

Layout
    x, y, residual   planes (see layout.py)
    weights          [group] of G g G^T, made in float64: [element] of panels as `pack_conv` writes them for 1x1 kernels,
                     their channels tap in depth by tap in depth; then marks [panel][run of MARKED channels][tap][lane], the signs
                     and the zeros of the taps
    scratch          sums of squares and the unfit pixels of each tile; V [element][input depth][input block][tile of the chunk]
                     [lane]; M [element][output depth][output block of the pass][tile][lane]

Loop order of a chunk
    A chunk is a run of tiles, counted through all images, a part of a group's output blocks, and with several taps in depth a few
    output depths (with one tap, depths count as images). It transforms every input block of its tiles and depths into V: once
    for all taps. Then, pass by pass of a few output blocks: for every element a matrix product of V and weights, M, by the tiles
    of the 1x1 convolution; then M is transformed and stored with bias, residual and activation. V and M stay in the second-level
    cache; the weights are read once per chunk, so runs are longer where there are many weights. A product sums over one run of
    channels of one tap after the other: their weights stay near while the depths pass, and a run's sum begins at zero before it
    comes to the others, which halves the rounding error of 512 channels. Few tiles give few runs: then output
    blocks are shared out too. Chunks of the same tiles follow each other, and a thread keeps V from one to the next.

Unfit pixels
    A transform mixes all pixels of a tile, and rounds in the scale of the largest: an infinity would make the whole tile NaN, a pixel
    of 1e6 among ones change its neighbours by 0.2. So the transform of the input adds up the squares of all its pixels, while
    they are in registers, and those of four of them, of which each window of the tile has one. Where all together are at most
    SPREAD times the least of the four, nothing more is done: no window's rounding error is then more than sqrt(SPREAD) / 2 = 8
    times that of a tile of even pixels. (In networks of random weights, on noise, smooth pictures, and either with a black half, no
    window at all was beyond it, and 0 to 4 % of a network's tiles were looked at; with 64 it would be up to 0.7 and 21 %.) Elsewhere (border tiles whose four pixels lie in padding are such,
    and tiles beside zeros) the windows are looked at one by one, in powers of the largest magnitude, so that no square leaves
    the range of float32; and output pixels whose own window has less than 1 / SPREAD of the squares, all of a tile with what is
    not finite or beyond LARGEST, are computed once more by the tiles of the direct algorithm. It depends on nothing outside of the
    tile: neither threads nor the batch change a bit.

    Their kernels are restored from the transformed weights, a few planes at a time for all tiles of a chunk, in the room of M: no
    second copy of the weights is kept. The transform has a left inverse, and what comes back differs from the taps by about 1e-7 of
    the kernel's sum; two bits a tap say what rounding might hide, its sign and whether it is zero, so that infinity times a tap is
    what it is. Weights that are not finite, or so large that elements may overflow, are refused when they are packed.

Border tiles reach over the last pixels of x's halo: what is beyond is read as zero, and output pixels beyond y are not written.
Taps that lie in front of x or behind it, in depth, are left out of the sum.
"""

from libc.math cimport INFINITY, fabsf
from libc.string cimport memcpy, memset

import numpy as np

from cnnengine._kernels.activation cimport activation_of, activation_t
from cnnengine._kernels.chunks cimport FLOPS_PER_NS, PIECES
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, larger, smaller
from cnnengine._kernels.launch cimport make_launch
from cnnengine._kernels.planes cimport fill_halo, planes_of, planes_t
from cnnengine._kernels.table cimport ACT_NONE, KernelTable
from cnnengine._kernels.tiles.conv cimport conv_tile_fn, conv_tile_t, start_ahead, tile_row
from cnnengine._kernels.tiles.winograd cimport (
    MARKED, MAX_ELEMENTS, SQUARES, winograd_form_t, winograd_input_t, winograd_kernel_t, winograd_output_t
)


def forms_of_tiles():
    """Kernel, output pixels of a tile, stride, (h, w) each, of every form of the tiles: its place in their table."""
    cdef const KernelTable *table = current_table()
    cdef const winograd_form_t *form
    cdef int i
    found = {}
    for i in range(table.winograd.n_forms):
        form = &table.winograd.forms[i]
        found[(form.taps_h, form.taps_w), (form.tile_h, form.tile_w), (form.stride, form.stride)] = i
    return found


FORMS = forms_of_tiles()
"""Of each kernel the largest tile first. One source makes the tiles of all instruction sets, so that all have these forms."""

cdef enum:
    PASS_CHANNELS = 128                 # output channels of a pass
    MAX_PANEL = 32                      # output channels of a panel of weights, at most
    RUN_CHANNELS = 128                  # input channels of one product, whose weights stay in the first-level cache
    LONGEST = 28                        # tiles of a run of 36 elements each
    LONGEST_HEAVY = 56                  # where the weights are HEAVY bytes or more
    HEAVY = 4000000
    DEEPEST = 4                         # output depths of a chunk
    SECOND_LEVEL = 1300000              # bytes of V and M, with several taps in depth
    LEAST = 28                          # tiles of a chunk, those of all depths counted, whatever V and M take
    MAX_TAPS = 25
    MAX_OUTPUTS = 16                    # pixels of a tile
    SPREAD = 256                        # times the squares of a window that those of its tile may be
    PIECE_NS = 9375                     # of one of PIECES chunks, if the output channels suffice
    FEWEST = 4                          # chunks for which runs are shortened ...
    SHORTEST = 7                        # ... to so many tiles


cdef float LARGEST = 1e30               # of x in a tile: its transforms stay finite


cdef struct winograd_t:
    const KernelTable *table
    planes_t x, y, r
    const winograd_form_t *form
    Py_ssize_t elements, out_h, out_w           # elements of a tile, its output pixels
    Py_ssize_t in_h, in_w                       # pixels of x between tiles
    Py_ssize_t dilation_h, dilation_w, phases   # a dilated kernel meets every so many pixels: as many planes inside of the plane
    Py_ssize_t matrices                         # of weights; which of them each element has
    unsigned char matrix[MAX_ELEMENTS]
    Py_ssize_t x0, rows, columns                # first pixel of the first tile in depth 0; pixels that tiles may read from there
    Py_ssize_t tiles_w, tiles, total            # tiles of a row, of a phase, of all frames
    Py_ssize_t fold                             # frames of an image: its output depths with one tap in depth, or 1
    Py_ssize_t taps, stride, front              # along depth
    Py_ssize_t deep, windows                    # output depths of a chunk, chunks along depth
    Py_ssize_t run, runs, parts, part_blocks, pass_blocks
    Py_ssize_t groups, x_blocks, y_blocks       # blocks of a group
    Py_ssize_t whole, partial                   # input planes of a group, channels of one more
    Py_ssize_t k_blocks                         # runs of input planes in a tap; 0: all taps at once
    Py_ssize_t panel                            # floats of the weights of one element and group
    Py_ssize_t group_floats                     # of the weights of a group, marks behind them
    int spots[4]                                # which sums of squares of single pixels there are
    int n_spots
    Py_ssize_t head, floats                     # floats of scratch before V; of all of it
    int has_residual
    activation_t act


cdef inline Py_ssize_t first_tap(const winograd_t *g, Py_ssize_t z) noexcept nogil:
    """Of output depth z, the first tap inside x; with one tap x's halo serves."""
    return larger(0, g.front - z * g.stride) if g.taps > 1 else 0


cdef inline Py_ssize_t end_tap(const winograd_t *g, Py_ssize_t z) noexcept nogil:
    """The tap behind the last one inside x."""
    return smaller(g.taps, g.x.d + g.front - z * g.stride) if g.taps > 1 else 1


cdef struct place_t:
    Py_ssize_t n, depth                         # image, and output depth where these count as frames
    Py_ssize_t py, px                           # first pixel of the phase
    Py_ssize_t row, column                      # in tiles of the phase


cdef inline place_t place_of(const winograd_t *g, Py_ssize_t tile) noexcept nogil:
    """Where a tile of all frames lies."""
    cdef place_t p
    cdef Py_ssize_t frame = tile // g.tiles, at = tile % g.tiles
    p.py = frame % g.phases // g.dilation_w
    p.px = frame % g.phases % g.dilation_w
    frame = frame // g.phases
    p.n = frame // g.fold
    p.depth = frame % g.fold
    p.row = at // g.tiles_w
    p.column = at % g.tiles_w
    return p


cdef inline Py_ssize_t of_phase(Py_ssize_t pixels, Py_ssize_t first, Py_ssize_t dilation) noexcept nogil:
    """How many of these pixels a phase has."""
    return ceil_div(pixels - first, dilation)


cdef inline bint apart(const winograd_t *g, const float *sums, Py_ssize_t slices, Py_ssize_t step) noexcept nogil:
    """Whether the squares of a tile, in so many input depths, perhaps outweigh those of one of its windows, or are not finite."""
    cdef float whole = 0, least_spot = INFINITY, spot
    cdef Py_ssize_t s
    cdef int i
    for s in range(slices):
        whole = whole + sums[s * step]
    for i in range(g.n_spots):
        spot = 0
        for s in range(slices):
            spot = spot + sums[s * step + g.spots[i]]
        least_spot = spot if spot < least_spot else least_spot
    return not (whole <= SPREAD * least_spot and whole < INFINITY)


cdef unsigned int unfit_pixels(const winograd_t *g, const float *x, Py_ssize_t group, Py_ssize_t at, Py_ssize_t slice0,
                               Py_ssize_t slices) noexcept nogil:
    """The output pixels of a tile that its transforms would spoil, a bit for each: pixel by pixel of x, at any magnitude."""
    cdef const KernelTable *table = g.table
    cdef place_t p = place_of(g, at)
    cdef Py_ssize_t lanes = table.lanes, row = p.row * g.in_h, column = p.column * g.in_w, i, j, k, l, s
    cdef Py_ssize_t stride = g.form.stride
    cdef Py_ssize_t rows = smaller((g.out_h - 1) * stride + g.form.taps_h, of_phase(g.rows, p.py, g.dilation_h) - row)
    cdef Py_ssize_t columns = smaller((g.out_w - 1) * stride + g.form.taps_w, of_phase(g.columns, p.px, g.dilation_w) - column)
    cdef Py_ssize_t out_rows = smaller(g.out_h, of_phase(g.y.h, p.py, g.dilation_h) - p.row * g.out_h)
    cdef Py_ssize_t out_columns = smaller(g.out_w, of_phase(g.y.w, p.px, g.dilation_w) - p.column * g.out_w)
    cdef float squares[MAX_ELEMENTS]
    cdef float largest = 0, ignored = 0, scale = 1, whole, window
    cdef const float *xp
    cdef unsigned int found = 0
    cdef int turn
    x = x + g.x0 + p.n * g.x.sn + group * g.x_blocks * g.x.sp + (p.depth * g.stride + slice0) * g.x.sd
    x = x + (row * g.dilation_h + p.py) * g.x.sh + (column * g.dilation_w + p.px) * lanes
    # first the largest magnitude, by which all are divided then: their squares stay in range
    for turn in range(2):
        for i in range(rows):
            for j in range(columns):
                squares[i * columns + j] = 0
                for s in range(slices):
                    xp = x + s * g.x.sd + i * g.dilation_h * g.x.sh + j * g.dilation_w * lanes
                    table.winograd.weigh_pixel(xp, g.x.sp, g.whole, <int>g.partial, scale, &squares[i * columns + j],
                                           &largest if turn == 0 else &ignored)
        if turn == 0:
            largest = fabsf(largest)
            if largest == 0:
                return 0
            if not largest < LARGEST:
                # NaN, infinity, and what the transforms may make infinite
                for i in range(out_rows):
                    for j in range(out_columns):
                        found |= <unsigned int>1 << (i * g.out_w + j)
                return found
            scale = 1 / largest if largest > 1 / LARGEST else LARGEST
    whole = 0
    for i in range(rows * columns):
        whole = whole + squares[i]
    for i in range(out_rows):
        for j in range(out_columns):
            window = 0
            for k in range(i * stride, i * stride + g.form.taps_h):
                for l in range(j * stride, j * stride + g.form.taps_w):
                    window = window + squares[k * columns + l]
            if whole > SPREAD * window:
                found |= <unsigned int>1 << (i * g.out_w + j)
    return found


cdef void directly(const winograd_t *g, void *const *args, Py_ssize_t group, Py_ssize_t block, int unit, Py_ssize_t first,
                   Py_ssize_t count, Py_ssize_t z0, Py_ssize_t deep, const unsigned int *unfit, float *room, Py_ssize_t floats) noexcept nogil:
    """The unfit pixels of a chunk's tiles in one or two output blocks by the direct algorithm, over what stands there.

    Planes by planes, as many as there is room for, kernels are restored from the transformed weights for all tiles of the chunk;
    y holds the sums in between.
    """
    cdef const KernelTable *table = g.table
    cdef Py_ssize_t lanes = table.lanes, n = g.form.taps_h * g.form.taps_w, channels = lanes * g.whole + g.partial, width = unit * lanes
    cdef Py_ssize_t planes = g.whole + (1 if g.partial else 0), some = larger(floats // (n * lanes * width), 1)
    cdef Py_ssize_t all_channels = g.taps * channels, words = ceil_div(all_channels, MARKED)
    cdef Py_ssize_t stride = g.form.stride, i, j, k, k0, k1, c, z, t, ch, row, j0, j1, i_block = group * g.y_blocks + block
    cdef Py_ssize_t taps[MAX_TAPS]
    cdef const float *w = <const float *>args[1] + group * g.group_floats
    cdef const unsigned int *marks = <const unsigned int *>(w + g.matrices * g.panel) + block * lanes * n * words
    cdef const float *x = <const float *>args[0] + g.x0 + group * g.x_blocks * g.x.sp
    cdef const float *xp
    cdef float *yp
    cdef const float *rp = NULL
    cdef unsigned int bits
    cdef conv_tile_t tile
    cdef conv_tile_fn product = table.conv.blocked[unit][0]
    cdef winograd_kernel_t one
    cdef place_t p
    w = w + block * lanes * all_channels
    one.size = g.panel
    one.width = width
    memset(&tile, 0, sizeof(tile))
    for i in range(n):
        taps[i] = i // g.form.taps_w * g.dilation_h * g.x.sh + i % g.form.taps_w * g.dilation_w * lanes
    tile.taps = taps
    tile.n_taps = n
    tile.channels = lanes
    tile.w = room
    tile.bias = <const float *>args[2] + i_block * lanes
    tile.xplane = g.x.sp
    tile.yplane = g.y.sp
    tile.rplane = g.r.sp
    tile.xstep = stride * g.dilation_w * lanes
    tile.ystep = tile.rstep = g.dilation_w * lanes
    tile.low = g.act.low
    tile.high = g.act.high
    for j in range(g.taps):
        k0 = 0
        while k0 < planes:
            k1 = smaller(k0 + some, planes)
            for c in range(k0 * lanes, smaller(k1 * lanes, channels)):
                k = j * channels + c
                ch = lanes if c < g.whole * lanes else g.partial
                one.u = <float *>w + k * width
                one.marks = marks + k // MARKED * n * width
                one.bit = <int>(k % MARKED)
                one.g = room + ((c - c % lanes - k0 * lanes) * n + c % lanes) * width
                one.apart = ch * width
                g.form.restore(&one)
            tile.planes = smaller(k1, g.whole) - k0
            tile.partial = g.partial if k1 > g.whole else 0
            for z in range(deep):
                j0 = first_tap(g, z0 + z)
                j1 = end_tap(g, z0 + z)
                if not j0 <= j < j1:
                    continue
                tile.first = j == j0 and k0 == 0
                tile.last = j == j1 - 1 and k1 == planes
                for t in range(count):
                    if unfit[z * count + t] == 0:
                        continue
                    p = place_of(g, first + t)
                    for row in range(g.out_h):
                        bits = unfit[z * count + t] >> (row * g.out_w) & ((1 << g.out_w) - 1)
                        i = 0
                        while bits >> i:
                            if not bits >> i & 1:
                                i = i + 1
                                continue
                            # a run of pixels side by side
                            ch = 1
                            while bits >> (i + ch) & 1:
                                ch = ch + 1
                            xp = x + p.n * g.x.sn + ((p.depth + z0 + z) * g.stride - g.front + j) * g.x.sd
                            xp = xp + ((p.row * g.out_h + row) * stride * g.dilation_h + p.py) * g.x.sh + k0 * g.x.sp
                            tile.x = xp + ((p.column * g.out_w + i) * stride * g.dilation_w + p.px) * lanes
                            yp = <float *>args[4] + g.y.offset + p.n * g.y.sn + i_block * g.y.sp + (p.depth + z0 + z) * g.y.sd
                            yp = yp + ((p.row * g.out_h + row) * g.dilation_h + p.py) * g.y.sh
                            tile.y = yp + ((p.column * g.out_w + i) * g.dilation_w + p.px) * lanes
                            tile.residual = NULL
                            if g.has_residual:
                                rp = <const float *>args[3] + g.r.offset + p.n * g.r.sn + i_block * g.r.sp + (p.depth + z0 + z) * g.r.sd
                                rp = rp + ((p.row * g.out_h + row) * g.dilation_h + p.py) * g.r.sh
                                tile.residual = rp + ((p.column * g.out_w + i) * g.dilation_w + p.px) * lanes
                            product(<int>ch, 1, &tile)
                            if g.act.kind != ACT_NONE and tile.last:
                                for k in range(unit * ch):
                                    yp = tile.y + k % unit * g.y.sp + k // unit * tile.ystep
                                    table.vector.activate(g.act.kind, yp, yp, lanes, g.act.alpha, g.act.beta)
                            i = i + ch
            k0 = k1


cdef void winograd_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const winograd_t *g = <const winograd_t *>geometry
    cdef const KernelTable *table = g.table
    cdef Py_ssize_t lanes = table.lanes, zero = 0
    cdef Py_ssize_t part = chunk % g.parts, window = chunk // g.parts % g.windows
    cdef Py_ssize_t group = chunk // g.parts // g.windows % g.groups, first = chunk // g.parts // g.windows // g.groups * g.run
    cdef Py_ssize_t count = smaller(g.run, g.total - first)
    cdef Py_ssize_t block = part * g.part_blocks, end = smaller(block + g.part_blocks, g.y_blocks)
    cdef Py_ssize_t z0 = window * g.deep, deep = smaller(g.deep, g.y.d - z0 if g.fold == 1 else 1)
    cdef Py_ssize_t b, t, e, z, s, j, j0, j1, k, k0, k1, blocks, unit, width, i, side, begun, size, row, column, depth
    cdef place_t p
    # input depths of the chunk, relative to that of the frame
    cdef Py_ssize_t low = larger(0, z0 * g.stride - g.front) if g.taps > 1 else -g.front
    cdef Py_ssize_t slices = smaller(g.x.d, (z0 + deep - 1) * g.stride - g.front + g.taps) - low if g.taps > 1 else 1
    # one pixel more between elements: steps of a multiple of 4096 bytes would meet in one set of the cache
    cdef Py_ssize_t vplane = count * lanes, vslice = g.x_blocks * vplane, vstep, mdepth, mstep
    cdef Py_ssize_t channels = lanes * g.whole + g.partial
    cdef Py_ssize_t panel = lanes * g.taps * channels       # floats of the weights of one element and output block
    cdef Py_ssize_t *made = <Py_ssize_t *>scratch           # 1 + the number of the V that this thread has in scratch
    cdef float *no_bias = <float *>(scratch + 64)
    cdef float *squares = no_bias + 4 * lanes
    cdef float *sums = squares + g.run * SQUARES * lanes    # [input depth][tile][SQUARES], lanes added up
    cdef float *v = no_bias + g.head
    cdef float *m
    cdef unsigned int *unfit = <unsigned int *>(v - g.deep * g.run)     # [output depth][tile]: a bit for each pixel to compute directly
    cdef const float *w = <const float *>args[1] + group * g.group_floats
    cdef const float *wp
    cdef const float *ahead
    cdef const float *xp
    cdef float *yp
    cdef const float *residual = <const float *>args[3] if g.has_residual else NULL
    cdef conv_tile_t tile
    cdef conv_tile_fn product
    cdef winograd_input_t into
    cdef winograd_output_t out

    slices = larger(slices, 0)
    vstep = slices * vslice + lanes
    m = v + g.elements * vstep

    into.xrow = g.dilation_h * g.x.sh
    into.xstep = g.dilation_w * lanes
    into.step = vstep
    # parts of the same tiles come one after another
    for s in range(slices if made[0] != 1 + chunk // g.parts else 0):
        memset(sums + s * count * SQUARES, 0, count * SQUARES * sizeof(float))
        for b in range(g.x_blocks):
            if b == 0 or b == g.whole:
                memset(squares, 0, count * SQUARES * lanes * sizeof(float))
            t = 0
            while t < count:
                # tiles side by side
                p = place_of(g, first + t)
                side = smaller(g.tiles_w - p.column, count - t)
                row = p.row * g.in_h
                column = p.column * g.in_w
                xp = <const float *>args[0] + g.x0 + p.n * g.x.sn + (group * g.x_blocks + b) * g.x.sp
                xp = xp + (p.depth * g.stride + low + s) * g.x.sd + (row * g.dilation_h + p.py) * g.x.sh
                xp = xp + (column * g.dilation_w + p.px) * lanes
                into.rows = of_phase(g.rows, p.py, g.dilation_h) - row
                into.columns = of_phase(g.columns, p.px, g.dilation_w) - column
                into.x = xp
                into.v = v + s * vslice + b * vplane + t * lanes
                into.squares = squares + t * SQUARES * lanes
                for i in range(side):
                    g.form.input(&into)
                    into.columns = into.columns - g.in_w
                    into.x = into.x + g.in_w * into.xstep
                    into.v = into.v + lanes
                    into.squares = into.squares + SQUARES * lanes
                t = t + side
            # lanes beyond the last channel hold anything
            if b + 1 == g.whole or b == g.whole:
                side = lanes if b < g.whole else g.partial
                table.winograd.add_lanes(squares, count * SQUARES, <int>side, sums + s * count * SQUARES)

    if made[0] != 1 + chunk // g.parts:
        made[1] = 0
        for z in range(deep):
            j0 = first_tap(g, z0 + z)
            j1 = end_tap(g, z0 + z)
            s = (z0 + z) * g.stride - g.front + j0 - low if g.taps > 1 else 0
            for t in range(count):
                unfit[z * count + t] = 0
                if j0 < j1 and apart(g, sums + (s * count + t) * SQUARES, j1 - j0, count * SQUARES):
                    unfit[z * count + t] = unfit_pixels(g, <const float *>args[0], group, first + t, low + s, j1 - j0)
                    made[1] |= unfit[z * count + t] != 0
    made[0] = 1 + chunk // g.parts
    memset(no_bias, 0, 4 * lanes * sizeof(float))
    memset(&tile, 0, sizeof(tile))
    tile.bias = no_bias
    tile.taps = &zero
    tile.n_taps = 1
    tile.channels = lanes
    tile.xplane = tile.yplane = tile.rplane = vplane
    tile.xstep = tile.ystep = tile.rstep = lanes
    tile.low = -INFINITY
    tile.high = INFINITY
    out.low = g.act.low
    out.high = g.act.high
    out.yrow = g.dilation_h * g.y.sh
    out.rrow = g.dilation_h * g.r.sh
    out.ystep = out.rstep = g.dilation_w * lanes
    while block < end:
        blocks = smaller(g.pass_blocks, end - block)
        mdepth = blocks * vplane
        mstep = deep * mdepth + lanes
        out.step = mstep
        for e in range(g.elements):
            b = 0
            while b < blocks:
                unit = 4 if count <= table.conv.width[4] and blocks - b >= 4 else 2 if blocks - b >= 2 else 1
                product = table.conv.blocked[unit][1]
                width = table.conv.width[unit]
                wp = w + g.matrix[e] * g.panel + (block + b) * panel
                # runs of input planes: all taps' together, or a part of one tap's
                for k in range(g.taps * g.k_blocks if g.k_blocks else 1):
                    if g.k_blocks:
                        j = k // g.k_blocks
                        k0 = k % g.k_blocks * g.whole // g.k_blocks
                        k1 = (k % g.k_blocks + 1) * g.whole // g.k_blocks
                    else:
                        j = k0 = 0
                        k1 = g.taps * g.whole
                    # meanwhile the weights that follow, most of a panel further on
                    ahead = wp + (j * channels + k1 * lanes) * smaller(unit, 2) * lanes
                    if k + 1 >= g.taps * g.k_blocks:
                        ahead = wp + unit * panel
                        if b + unit >= blocks:
                            ahead = w + g.matrix[smaller(e + 1, g.elements - 1)] * g.panel + block * panel
                    tile.planes = k1 - k0
                    size = unit * lanes * lanes * (k1 - k0) if e + 1 < g.elements or b + unit < blocks else 0
                    start_ahead(&tile, ahead, size, ceil_div(count, width) * deep)
                    tile.first = tile.last = 1
                    for z in range(deep):
                        j0 = first_tap(g, z0 + z)
                        j1 = end_tap(g, z0 + z)
                        if g.k_blocks == 0:
                            tile.planes = larger(j1 - j0, 0) * g.whole
                            tile.partial = g.partial
                            begun = 0
                            j = j0
                        elif j0 <= j < j1:
                            begun = j > j0 or k0 > 0
                            tile.planes = k1 - k0
                            tile.partial = g.partial if k1 == g.whole else 0
                        elif j0 >= j1 and k == 0:
                            # padding alone: zeros
                            tile.planes = tile.partial = begun = 0
                        else:
                            continue
                        tile.w = wp + (j * channels + k0 * lanes) * smaller(unit, 2) * lanes
                        tile.w2 = tile.w + 2 * panel
                        tile.x = v + e * vstep + k0 * vplane
                        if g.taps > 1:
                            tile.x = tile.x + ((z0 + z) * g.stride - g.front + j - low) * vslice
                        tile.y = m + e * mstep + z * mdepth + b * vplane
                        # every run's sum begins at zero, and what there is comes to it: long sums round less so
                        tile.residual = tile.y if begun else NULL
                        tile_row(product, width, count, &tile)
                b = b + unit
        for b in range(blocks):
            i = group * g.y_blocks + block + b
            out.bias = <const float *>args[2] + i * lanes
            for z in range(deep):
                t = 0
                while t < count:
                    p = place_of(g, first + t)
                    side = smaller(g.tiles_w - p.column, count - t)
                    out.rows = of_phase(g.y.h, p.py, g.dilation_h) - p.row * g.out_h
                    out.columns = of_phase(g.y.w, p.px, g.dilation_w) - p.column * g.out_w
                    width = smaller(side * g.out_w, out.columns)
                    out.m = m + z * mdepth + b * vplane + t * lanes
                    row = p.row * g.out_h * g.dilation_h + p.py
                    column = (p.column * g.out_w * g.dilation_w + p.px) * lanes
                    depth = p.depth + z0 + z
                    yp = <float *>args[4] + g.y.offset + p.n * g.y.sn + i * g.y.sp + depth * g.y.sd + row * g.y.sh + column
                    out.y = yp
                    out.residual = NULL
                    if residual != NULL:
                        out.residual = residual + g.r.offset + p.n * g.r.sn + i * g.r.sp + depth * g.r.sd + row * g.r.sh + column
                    for k in range(side):
                        g.form.output(&out)
                        out.m = out.m + lanes
                        out.y = out.y + g.out_w * out.ystep
                        if residual != NULL:
                            out.residual = out.residual + g.out_w * out.ystep
                        out.columns = out.columns - g.out_w
                    if g.act.kind != ACT_NONE:
                        for k in range(smaller(g.out_h, out.rows)):
                            if out.ystep == lanes:
                                table.vector.activate(g.act.kind, yp, yp, larger(width, 0) * lanes, g.act.alpha, g.act.beta)
                            else:
                                for j in range(width):
                                    table.vector.activate(g.act.kind, yp + j * out.ystep, yp + j * out.ystep, lanes, g.act.alpha, g.act.beta)
                            yp = yp + out.yrow
                    if row == 0 and column == 0 and depth == 0:
                        fill_halo(&g.y, <float *>args[4], p.n, i)
                    t = t + side
        if made[1]:
            for b in range(0, blocks, 2):
                directly(g, args, group, block + b, <int>smaller(blocks - b, 2), first, count, z0, deep, unfit, m, g.floats - (m - no_bias))
        block = block + blocks


cdef void share(winograd_t *g):
    """Choose the sizes of chunks, all of nearly equal length."""
    cdef Py_ssize_t lanes = g.table.lanes, longest, slices, bytes_of_tile, wanted, chunks, unit, pieces
    cdef double work
    cdef Py_ssize_t weights = 4 * g.matrices * g.panel
    g.pass_blocks = smaller(larger(PASS_CHANNELS // lanes, 1), g.y_blocks)
    g.deep = g.windows = 1
    # longer runs where the weights outweigh the cache
    longest = (LONGEST_HEAVY if weights >= HEAVY else LONGEST) * 36 // g.elements
    if g.taps > 1 and g.y.d > 0:
        g.windows = ceil_div(g.y.d, DEEPEST)
        g.deep = ceil_div(g.y.d, g.windows)
        g.windows = ceil_div(g.y.d, g.deep)
        slices = smaller(g.x.d, (g.deep - 1) * g.stride + g.taps)
        bytes_of_tile = 4 * g.elements * lanes * (slices * g.x_blocks + g.deep * g.pass_blocks)
        longest = larger(smaller(longest, SECOND_LEVEL // bytes_of_tile), ceil_div(LEAST, g.deep))
    g.runs = ceil_div(g.total, longest)
    g.run = ceil_div(g.total, g.runs) if g.runs else 1
    g.runs = ceil_div(g.total, g.run)
    # pieces for several threads: whole tiles of output blocks, then shorter runs, each of which reads all weights
    g.parts = 1
    g.part_blocks = g.y_blocks
    work = 2.0 * g.elements * g.panel * g.groups * g.total * (g.y.d if g.taps > 1 else 1)
    wanted = smaller(PIECES, <Py_ssize_t>(work / (PIECE_NS * FLOPS_PER_NS)))
    chunks = g.runs * g.windows * g.groups
    if 0 < chunks < wanted:
        unit = 4 if g.run <= g.table.conv.width[4] else 2
        pieces = ceil_div(wanted, chunks)
        g.part_blocks = ceil_div(g.y_blocks, pieces)
        g.part_blocks = smaller(ceil_div(g.part_blocks, unit) * unit, g.y_blocks)
        g.parts = ceil_div(g.y_blocks, g.part_blocks)
        g.pass_blocks = smaller(g.pass_blocks, g.part_blocks)
        chunks = chunks * g.parts
        if chunks < wanted and g.taps == 1:
            if chunks < FEWEST:
                pieces = smaller(g.runs * ceil_div(FEWEST, chunks), g.total // SHORTEST)
            else:
                pieces = g.runs + chunks % 2
            g.runs = larger(pieces, g.runs)
            g.run = ceil_div(g.total, g.runs)
            g.runs = ceil_div(g.total, g.run)


def build_winograd(inputs, outputs, *, kernel=(3, 3), tile=(4, 4), strides=(1, 1), dilations=(1, 1), pads=(0, 0, 0), taps=1, stride=1,
                   groups=1, activation=None):
    """Convolution with kernels of `taps` x `kernel`.

    Parameters
    ----------
    inputs : x, weights, bias, residual (or None)
        Views; weights are packed by `pack_winograd` (kernels with several taps in depth: see `depth_as_channels`), bias by
        `pack_bias`.
    outputs : y
    kernel, tile, strides : (h, w)
        Taps, output pixels of a tile, stride: one of `FORMS`.
    dilations : (h, w)
        Pixels between taps, at stride 1.
    pads : (front, top, left)
        Pixels before x that the first window covers; top and left lie in x's halo, as do all depths if there is one tap in
        depth. y's extent says where the last window ends.
    taps, stride : int
        Along depth.
    groups : int
    activation : Activation, optional
    """
    xv, wv, bv, rv = inputs
    yv, = outputs
    cdef winograd_t g
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, slices, cg, og, kh, kw, high, wide, columns, i
    memset(&g, 0, sizeof(g))
    if (tuple(kernel), tuple(tile), tuple(strides)) not in FORMS:
        raise ValueError(f"winograd: kernels of {kernel} in tiles of {tile} at stride {strides}")
    if min(dilations) < 1 or max(dilations) > 1 and max(strides) > 1:
        raise ValueError(f"winograd: dilations of {dilations} at stride {strides}")
    g.form = &table.winograd.forms[<int>FORMS[tuple(kernel), tuple(tile), tuple(strides)]]
    kh, kw = kernel
    g.out_h, g.out_w = tile
    if xv.lanes != lanes or yv.lanes != lanes or xv.c % groups or yv.c % groups or xv.n != yv.n or taps < 1 or stride < 1:
        raise ValueError(f"winograd: {xv} -> {yv} with {groups} groups, {taps} taps in depth at stride {stride}")
    for v in (xv, yv):
        # groups of whole blocks lie as one group does
        if v.groups != groups and not (v.groups == 1 and v.c // groups % lanes == 0):
            raise ValueError(f"winograd: {v} does not have {groups} groups")
    g.table = table
    g.dilation_h, g.dilation_w = dilations
    g.phases = g.dilation_h * g.dilation_w
    g.in_h = g.out_h * strides[0]
    g.in_w = g.out_w * strides[1]
    high, wide = g.out_h + kh - 1, g.out_w + kw - 1
    g.matrices = high * wide
    columns = g.in_w + kw - strides[1]
    g.elements = (g.in_h + kh - strides[0]) * columns
    for i in range(g.elements):
        # at stride 2 the odd pixels, last along an axis, share the last matrix
        g.matrix[i] = wide * smaller(i // columns, high - 1) + smaller(i % columns, wide - 1)
    g.x = planes_of(xv)
    g.y = planes_of(yv)
    g.taps = taps
    g.stride = stride
    g.front, top, left = pads
    g.rows = (g.y.h - 1) * strides[0] + (kh - 1) * g.dilation_h + 1
    g.columns = (g.y.w - 1) * strides[1] + (kw - 1) * g.dilation_w + 1
    if (top > g.x.h0 or left > g.x.w0 or top < 0 or left < 0 or g.front < 0
            or g.rows > top + g.x.h + g.x.h1 or g.columns > left + g.x.w + g.x.w1
            or taps == 1 and g.y.d and (g.front > g.x.d0 or (g.y.d - 1) * g.stride >= g.front + g.x.d + g.x.d1)):
        raise ValueError(f"winograd: the windows of {yv} leave {xv}")
    g.x0 = g.x.offset - top * g.x.sh - left * lanes
    if rv is not None:
        if rv.shape != yv.shape or rv.lanes != lanes or rv.groups != yv.groups:
            raise ValueError(f"winograd: residual {rv} for {yv}")
        g.has_residual = 1
        g.r = planes_of(rv)
    g.act = activation_of(activation)
    g.groups = groups
    cg = xv.c // groups
    og = yv.c // groups
    g.x_blocks = ceil_div(cg, lanes)
    g.y_blocks = ceil_div(og, lanes)
    g.whole = cg // lanes
    g.partial = cg % lanes
    g.panel = cg * g.taps * g.y_blocks * lanes
    g.group_floats = g.matrices * g.panel + marks_of(og, cg * g.taps, kh * kw, lanes)
    # of those that the transform of the input gives: lower and upper along h for the lower and the upper along w
    for i in range(4):
        if (kh > 1 or i % 2 == 0) and (kw > 1 or i < 2):
            g.spots[g.n_spots] = 1 + i
            g.n_spots += 1
    g.fold = g.y.d if taps == 1 and g.y.d else 1
    g.k_blocks = 0
    if g.taps * cg > (RUN_CHANNELS if g.taps == 1 else RUN_CHANNELS // 2) or g.taps > 1 and g.partial:
        g.k_blocks = larger(ceil_div(cg, RUN_CHANNELS), 1)
    g.tiles_w = ceil_div(ceil_div(g.y.w, g.dilation_w), g.out_w)
    g.tiles = g.tiles_w * ceil_div(ceil_div(g.y.h, g.dilation_h), g.out_h)
    g.total = g.tiles * g.phases * xv.n * g.fold if g.y.d else 0
    share(&g)
    # the number of V and whether pixels are unfit; then the bias, squares and sums, unfit pixels; V and M of a chunk, each with a
    # pixel between elements, M with room for restored kernels of two blocks
    slices = smaller(g.x.d, (g.deep - 1) * g.stride + g.taps) if g.taps > 1 else 1
    g.head = 4 * lanes + g.run * SQUARES * (lanes + slices) + g.deep * g.run
    g.head = ceil_div(g.head, 16) * 16
    g.floats = larger(g.elements * (g.deep * g.pass_blocks * g.run * lanes + lanes), 2 * kh * kw * lanes * lanes)
    g.floats = g.head + g.elements * (slices * g.x_blocks * g.run * lanes + lanes) + g.floats
    return make_launch(
        "winograd",
        winograd_chunk,
        &g,
        sizeof(g),
        g.runs * g.windows * g.groups * g.parts if g.y_blocks else 0,
        64 + 4 * g.floats,
        (xv.nbytes, 4 * g.group_floats * groups, 4 * groups * g.y_blocks * lanes, rv.nbytes if rv is not None else 0, yv.nbytes),
        2.0 * kh * kw * g.taps * xv.n * yv.c * g.y.d * g.y.h * g.y.w * cg,
        xv.nbytes + yv.nbytes + 4.0 * g.matrices * g.panel * groups + (rv.nbytes if rv is not None else 0),
    )


def depth_as_channels(w):
    """Weights (O, C, taps, h, w) as (O, taps * C, h, w) for `pack_winograd`: the sum runs tap by tap over the channels."""
    return w.transpose(0, 2, 1, 3, 4).reshape(w.shape[0], -1, *w.shape[3:])


cdef Py_ssize_t marks_of(Py_ssize_t o, Py_ssize_t c, Py_ssize_t taps, Py_ssize_t lanes) noexcept nogil:
    """Words of the marks of so many kernels."""
    return ceil_div(o, lanes) * lanes * ceil_div(c, MARKED) * taps


def pack_winograd(w, empty, tile=(4, 4), strides=(1, 1), Py_ssize_t groups=1):
    """Weights (O, C / groups, h, w) as `build_winograd` reads them for these output pixels of a tile and strides.

    Parameters
    ----------
    w : ndarray of float32
    empty : callable
        Gives the memory, for so many floats.
    tile, strides : (h, w)
    groups : int

    Raises
    ------
    OverflowError
        Weights are not finite, or so large that elements of theirs may overflow.
    """
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, o = w.shape[0] // groups, c = w.shape[1], size = ceil_div(o, lanes) * lanes * c
    cdef Py_ssize_t at, width, valid, k, some, i, n, elements, group, whole
    cdef const winograd_form_t *form
    cdef int bad = 0
    if (w.shape[2:], tuple(tile), tuple(strides)) not in FORMS:
        raise ValueError(f"winograd: kernels of {w.shape[2:]} in tiles of {tile} at stride {strides}")
    form = &table.winograd.forms[<int>FORMS[w.shape[2:], tuple(tile), tuple(strides)]]
    n = form.taps_h * form.taps_w
    elements = (form.tile_h + form.taps_h - 1) * (form.tile_w + form.taps_w - 1)
    whole = elements * size + marks_of(o, c, n, lanes)
    packed = empty(groups * whole)
    cdef float[::1] target = packed
    if target.shape[0] != groups * whole:
        raise ValueError("pack_winograd: memory of the wrong size")
    if size == 0 or groups == 0:
        return packed
    # MARKED kernels of each output of a panel, row by row and side by side
    cdef float[::1] stage = np.zeros(2 * n * MARKED * 2 * lanes, np.float32)
    cdef float *rows = &stage[0]
    cdef float *taps = rows + n * MARKED * 2 * lanes
    w = np.ascontiguousarray(w, np.float32)
    cdef const char *source = <const char *><size_t>w.ctypes.data      # perhaps unaligned: a view of a file
    cdef float *to
    cdef unsigned int *marks
    with nogil:
        for group in range(groups):
            to = &target[group * whole]
            marks = <unsigned int *>(to + elements * size)
            at = 0
            while at < o:
                width = 2 * lanes if o - at > lanes else lanes
                valid = smaller(o - at, width)
                if valid < width:
                    memset(taps, 0, n * MARKED * width * sizeof(float))
                k = 0
                while k < c:
                    some = smaller(c - k, MARKED)
                    for i in range(valid):
                        memcpy(rows + i * n * some, source + ((group * o + at + i) * c + k) * n * sizeof(float), n * some * sizeof(float))
                    table.move.transpose(rows, n * some, taps, width, valid, n * some)
                    bad |= table.winograd.weights(form, taps, to + at * c + k * width, size, width, some, marks)
                    marks = marks + n * width
                    k = k + some
                at = at + width
    if bad:
        raise OverflowError("winograd: weights too large for a transform, or not finite")
    return packed
