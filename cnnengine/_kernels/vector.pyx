# cython: language_level=3
"""Elementwise functions, reductions and softmax over the tiles of the instruction set.

Elementwise kernels (activation, binary, compare, logic, where)
    All are one walk (`walk_t`): runs of `run` contiguous output elements, found by up to 8 outer dimensions with one stride per
    operand. A plain output's runs are its trailing axes, as many as every operand crosses in one stride (NumPy broadcasting: an
    operand's stride is 0 along the axes that it lacks). An output in planes walks [n][block][d][h], a run being the pixels of a
    row, or more rows where no halo lies between them; the channels of a vector operand are LANES floats used again and again.
    Long runs are cut, short ones grouped, to the chunks of chunks.pxd at a nanosecond per element: 5 to 50 us.
    A constant per channel behind few channels (an image (N, H, W, 3) and a mean) makes runs of those few elements: then copies of
    it side by side are the operand of one long run.
    The chunk that owns a plane's first run writes its halo. A second function (the fused activation) goes over each run while
    it is in the first-level cache.

Reductions
    The axes are merged into kept and reduced ones. Where the innermost is reduced, an output is a walk over rows of
    contiguous floats, summed in registers. Where it is kept, a chunk takes a strip of it and accumulates whole rows. Sums
    are double between blocks. Softmax is (outer, axis, inner): rows where inner is 1, registers of columns elsewhere.
"""

from libc.math cimport INFINITY, isfinite, log, sqrt
from libc.stdint cimport uint32_t

from cnnengine._kernels.chunks cimport CHUNK_NS, chunk_ns
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, larger, smaller
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.planes cimport fill_halo, planes_of, planes_t
from cnnengine._kernels.table cimport ACT_NONE, KernelTable
from cnnengine._kernels.tiles.vector cimport (
    MODE_FULL, MODE_PIXEL, MODE_SCALAR, MODE_VECTOR, OP_ADD, OP_DIV, OP_MAX, OP_MIN, OP_MUL, OP_POW, OP_PRELU, OP_SUB, RED_ABS,
    RED_EXP, RED_MAX, RED_MIN, RED_PROD, RED_SQUARE, RED_SUM,
)

import math

from cnnengine._kernels import ACTIVATIONS

cdef enum:
    MAX_DIMS = 8
    STRIP = 256                         # columns of a reduction that one chunk accumulates
    WORDS = 64                          # floats of the widest register, with room
    SHORT = 64                          # elements of a run that is too short to be a call
    REPEATED = 2048                     # floats of an operand's copies side by side

BINARY = {
    "add": OP_ADD, "sub": OP_SUB, "mul": OP_MUL, "div": OP_DIV, "pow": OP_POW, "min": OP_MIN, "max": OP_MAX, "prelu": OP_PRELU,
}
COMPARE = {"equal": 0, "greater": 1, "greater_or_equal": 2, "less": 3, "less_or_equal": 4}
LOGIC = {"and": 0, "or": 1, "xor": 2}


# ---------------------------------------------------------------- the walk

cdef struct walk_t:
    const KernelTable *table
    int n_in, n_dims
    Py_ssize_t size[MAX_DIMS]
    Py_ssize_t stride[4][MAX_DIMS]      # of the inputs, then of the output; in elements
    Py_ssize_t base[4]
    int mode[4]
    Py_ssize_t period[4]                # a plain vector operand: its channels; 0 elsewhere
    Py_ssize_t run, rows                # elements of a run, runs
    Py_ssize_t parts, part              # pieces of a run, elements of a piece
    Py_ssize_t rows_per_chunk
    Py_ssize_t rows_per_plane           # runs of one plane; 0: no halo to write
    Py_ssize_t again                    # elements of the operand that repeats along a run; 0: none does
    int repeats                         # which one
    planes_t y
    int op, kind
    float alpha, beta


cdef struct cursor_t:
    Py_ssize_t index[MAX_DIMS]
    Py_ssize_t at[4]


cdef inline void seek(const walk_t *g, cursor_t *c, Py_ssize_t row) noexcept nogil:
    cdef int d, k
    for k in range(4):
        c.at[k] = g.base[k]
    for d in range(g.n_dims - 1, -1, -1):
        c.index[d] = row % g.size[d]
        row = row // g.size[d]
        for k in range(4):
            c.at[k] += c.index[d] * g.stride[k][d]


cdef inline void advance(const walk_t *g, cursor_t *c) noexcept nogil:
    cdef int d, k
    for d in range(g.n_dims - 1, -1, -1):
        c.index[d] += 1
        for k in range(4):
            c.at[k] += g.stride[k][d]
        if c.index[d] < g.size[d]:
            return
        for k in range(4):
            c.at[k] -= g.size[d] * g.stride[k][d]
        c.index[d] = 0


cdef inline Py_ssize_t ahead(int mode, Py_ssize_t start, Py_ssize_t lanes) noexcept nogil:
    """Where an operand's element of output element `start` of a run lies."""
    return start if mode == MODE_FULL else (start // lanes if mode == MODE_PIXEL else 0)


cdef void unary_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const walk_t *g = <const walk_t *>geometry
    cdef const float *x = <const float *>args[0]
    cdef float *y = <float *>args[1]
    cdef Py_ssize_t start = chunk % g.parts * g.part, row = chunk // g.parts * g.rows_per_chunk
    cdef Py_ssize_t last = row + g.rows_per_chunk, n = g.part, plane
    cdef cursor_t c
    if last > g.rows:
        last = g.rows
    if start + n > g.run:
        n = g.run - start
    seek(g, &c, row)
    while row < last:
        if g.rows_per_plane and start == 0 and row % g.rows_per_plane == 0:
            plane = row // g.rows_per_plane
            fill_halo(&g.y, y, plane // g.y.blocks, plane % g.y.blocks)
        g.table.vector.activate(g.kind, x + c.at[0] + start, y + c.at[3] + start, n, g.alpha, g.beta)
        advance(g, &c)
        row = row + 1


cdef inline const float *operand(const walk_t *g, int k, const float *base, Py_ssize_t at, Py_ssize_t start,
                                 float *words) noexcept nogil:
    """The operand's first element for a piece of a run; a vector that ends with its tensor is copied to `words`."""
    cdef Py_ssize_t left, i, lanes = g.table.lanes
    if g.period[k]:
        left = g.period[k] - at % g.period[k]
        if left < lanes:
            for i in range(lanes):
                words[i] = base[at + i] if i < left else 0
            return words
    return base + at + ahead(g.mode[k], start, lanes)


cdef inline void repeated(const walk_t *g, const float *a, const float *b, float *y, Py_ssize_t start, Py_ssize_t n,
                          float *copies) noexcept nogil:
    """A piece of a run along which one operand repeats; `start` is a multiple of its elements."""
    cdef const float *one = a if g.repeats == 0 else b
    cdef Py_ssize_t at = 0, piece = REPEATED // g.again * g.again, i
    if piece > n:
        piece = n
    for i in range(piece):
        copies[i] = one[i] if i < g.again else copies[i - g.again]
    while at < n:
        if piece > n - at:
            piece = n - at
        g.table.vector.binary(g.op, copies if g.repeats == 0 else a + start + at, MODE_FULL,
                              copies if g.repeats == 1 else b + start + at, MODE_FULL, y + at, piece)
        if g.kind != ACT_NONE:
            g.table.vector.activate(g.kind, y + at, y + at, piece, g.alpha, g.beta)
        at = at + piece


cdef int join_short_runs(walk_t *g) except -1:
    """Makes the runs that one operand has in common a single run, where they are short."""
    cdef int d = g.n_dims - 1, k
    cdef Py_ssize_t target
    if d < 0 or g.size[d] < 1 or not 1 < g.run < SHORT or g.stride[3][d] != g.run or g.mode[0] != MODE_FULL or g.mode[1] != MODE_FULL:
        return 0
    k = 0 if g.stride[0][d] == 0 else 1
    if g.stride[k][d] != 0 or g.stride[1 - k][d] != g.run:
        return 0
    g.again = g.run
    g.repeats = k
    g.rows //= g.size[d]
    g.run *= g.size[d]
    g.n_dims = d
    target = target_of(g.run * g.rows)
    g.part = smaller(g.run, target // g.again * g.again)
    g.parts = ceil_div(g.run, g.part)
    g.rows_per_chunk = larger(1, target // g.run)
    return 0


cdef void binary_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const walk_t *g = <const walk_t *>geometry
    cdef const float *a = <const float *>args[0]
    cdef const float *b = <const float *>args[1]
    cdef float *y = <float *>args[2]
    cdef float a_words[WORDS]
    cdef float b_words[WORDS]
    cdef Py_ssize_t start = chunk % g.parts * g.part, row = chunk // g.parts * g.rows_per_chunk
    cdef Py_ssize_t last = row + g.rows_per_chunk, n = g.part, plane
    cdef float *out
    cdef cursor_t c
    if last > g.rows:
        last = g.rows
    if start + n > g.run:
        n = g.run - start
    seek(g, &c, row)
    if g.again:
        while row < last:
            repeated(g, a + c.at[0], b + c.at[1], y + c.at[3] + start, start, n, <float *>scratch)
            advance(g, &c)
            row = row + 1
        return
    while row < last:
        if g.rows_per_plane and start == 0 and row % g.rows_per_plane == 0:
            plane = row // g.rows_per_plane
            fill_halo(&g.y, y, plane // g.y.blocks, plane % g.y.blocks)
        out = y + c.at[3] + start
        g.table.vector.binary(g.op, operand(g, 0, a, c.at[0], start, a_words), g.mode[0],
                              operand(g, 1, b, c.at[1], start, b_words), g.mode[1], out, n)
        if g.kind != ACT_NONE:
            g.table.vector.activate(g.kind, out, out, n, g.alpha, g.beta)
        advance(g, &c)
        row = row + 1


cdef void compare_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const walk_t *g = <const walk_t *>geometry
    cdef Py_ssize_t start = chunk % g.parts * g.part, row = chunk // g.parts * g.rows_per_chunk
    cdef Py_ssize_t last = row + g.rows_per_chunk, n = g.part, i
    cdef Py_ssize_t sa = g.mode[0] == MODE_FULL, sb = g.mode[1] == MODE_FULL
    cdef const float *a
    cdef const float *b
    cdef unsigned char *y
    cdef cursor_t c
    if last > g.rows:
        last = g.rows
    if start + n > g.run:
        n = g.run - start
    seek(g, &c, row)
    while row < last:
        a = <const float *>args[0] + c.at[0] + start * sa
        b = <const float *>args[1] + c.at[1] + start * sb
        y = <unsigned char *>args[2] + c.at[3] + start
        if g.op == 0:
            for i in range(n): y[i] = a[i * sa] == b[i * sb]
        elif g.op == 1:
            for i in range(n): y[i] = a[i * sa] > b[i * sb]
        elif g.op == 2:
            for i in range(n): y[i] = a[i * sa] >= b[i * sb]
        elif g.op == 3:
            for i in range(n): y[i] = a[i * sa] < b[i * sb]
        else:
            for i in range(n): y[i] = a[i * sa] <= b[i * sb]
        advance(g, &c)
        row = row + 1


cdef inline void select(const unsigned char *m, Py_ssize_t sm, const uint32_t *a, Py_ssize_t sa, const uint32_t *b, Py_ssize_t sb,
                        uint32_t *y, Py_ssize_t n) noexcept nogil:
    """y = m ? a : b of 32-bit patterns, without branches."""
    cdef Py_ssize_t i
    cdef uint32_t k
    for i in range(n):
        k = <uint32_t>0 - <uint32_t>(m[i * sm] != 0)
        y[i] = (a[i * sa] & k) | (b[i * sb] & ~k)


cdef void logic_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const walk_t *g = <const walk_t *>geometry
    cdef Py_ssize_t start = chunk % g.parts * g.part, row = chunk // g.parts * g.rows_per_chunk
    cdef Py_ssize_t last = row + g.rows_per_chunk, n = g.part, i
    cdef Py_ssize_t sa = g.mode[0] == MODE_FULL, sb = g.mode[1] == MODE_FULL
    cdef const unsigned char *a
    cdef const unsigned char *b
    cdef unsigned char *y
    cdef cursor_t c
    if last > g.rows:
        last = g.rows
    if start + n > g.run:
        n = g.run - start
    seek(g, &c, row)
    while row < last:
        a = <const unsigned char *>args[0] + c.at[0] + start * sa
        b = <const unsigned char *>args[1] + c.at[1] + start * sb
        y = <unsigned char *>args[2] + c.at[3] + start
        # any byte but 0 is true
        if g.op == 0:
            for i in range(n): y[i] = (a[i * sa] != 0) & (b[i * sb] != 0)
        elif g.op == 1:
            for i in range(n): y[i] = (a[i * sa] != 0) | (b[i * sb] != 0)
        else:
            for i in range(n): y[i] = (a[i * sa] != 0) ^ (b[i * sb] != 0)
        advance(g, &c)
        row = row + 1


cdef void where_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const walk_t *g = <const walk_t *>geometry
    cdef Py_ssize_t start = chunk % g.parts * g.part, row = chunk // g.parts * g.rows_per_chunk
    cdef Py_ssize_t last = row + g.rows_per_chunk, n = g.part, i
    cdef Py_ssize_t sc = g.mode[0] == MODE_FULL, sa = g.mode[1] == MODE_FULL, sb = g.mode[2] == MODE_FULL
    cdef const unsigned char *m
    cdef const uint32_t *a
    cdef const uint32_t *b
    cdef uint32_t *y
    cdef cursor_t c
    if last > g.rows:
        last = g.rows
    if start + n > g.run:
        n = g.run - start
    seek(g, &c, row)
    while row < last:
        m = <const unsigned char *>args[0] + c.at[0] + start * sc
        a = <const uint32_t *>args[1] + c.at[1] + start * sa
        b = <const uint32_t *>args[2] + c.at[2] + start * sb
        y = <uint32_t *>args[3] + c.at[3] + start
        # strides as constants, for the compiler to vectorise
        if not sc: select(m, 0, a, sa, b, sb, y, n)
        elif sa and sb: select(m, 1, a, 1, b, 1, y, n)
        elif sa: select(m, 1, a, 1, b, 0, y, n)
        elif sb: select(m, 1, a, 0, b, 1, y, n)
        else: select(m, 1, a, 0, b, 0, y, n)
        advance(g, &c)
        row = row + 1


def broadcast_dims(shapes, out_shape):
    """[(size, strides of the shapes' C-contiguous arrays)] of the axes of `out_shape`; raises ValueError."""
    rank = len(out_shape)
    dims = [(size, []) for size in out_shape]
    for shape in shapes:
        if len(shape) > rank:
            raise ValueError(f"an operand of shape {shape} does not broadcast to {out_shape}")
        stride = 1
        strides = [0] * rank
        for axis in range(1, rank + 1):
            size = shape[-axis] if axis <= len(shape) else 1
            if size != 1:
                if size != out_shape[-axis]:
                    raise ValueError(f"an operand of shape {shape} does not broadcast to {out_shape}")
                strides[-axis] = stride
                stride *= size
        for axis in range(rank):
            dims[axis][1].append(strides[axis])
    return dims


cdef inline Py_ssize_t target_of(Py_ssize_t total) noexcept nogil:
    """Elements of a chunk of a step over `total`: each takes a nanosecond."""
    return <Py_ssize_t>chunk_ns(<double>total)


cdef int set_walk(walk_t *g, list dims, Py_ssize_t run, list extents) except -1:
    """Fill in sizes and strides: `dims` [(size, strides of inputs and output)] outermost first, a run's length and how many
    elements of each operand it spans. Merges what can be merged, then sets the chunks."""
    cdef Py_ssize_t i, k, count, target
    dims = [d for d in dims if d[0] != 1]
    g.rows = 1
    for size, _ in dims:
        g.rows *= size
    # innermost dimensions that continue the run in every operand
    while dims and dims[-1][1] == extents and run * dims[-1][0] > 0:
        size = dims.pop()[0]
        run *= size
        extents = [e * size for e in extents]
        g.rows //= size
    merged = []
    for size, strides in dims:
        if merged and merged[-1][1] == [s * size for s in strides]:
            merged[-1] = (merged[-1][0] * size, strides)
        else:
            merged.append((size, strides))
    if len(merged) > MAX_DIMS:
        raise ValueError(f"more than {MAX_DIMS} dimensions with strides of their own")
    count = len(extents)
    g.n_in = count - 1
    g.n_dims = len(merged)
    for i in range(g.n_dims):
        g.size[i] = merged[i][0]
        for k in range(4):
            g.stride[k][i] = 0
        for k in range(count - 1):
            g.stride[k][i] = merged[i][1][k]
        g.stride[3][i] = merged[i][1][count - 1]
    g.run = run
    if run == 0:
        g.rows = 0
    target = target_of(run * g.rows)
    if run > target:
        g.parts = ceil_div(run, target)
        g.part = (ceil_div(run, g.parts) + 63) & ~63
        g.parts = ceil_div(run, g.part)
        g.rows_per_chunk = 1
    else:
        g.parts = 1
        g.part = run
        g.rows_per_chunk = larger(1, target // larger(run, 1))
    return 0


cdef int plain_walk(walk_t *g, list shapes, object out_shape) except -1:
    """The walk of plain operands under NumPy broadcasting."""
    cdef int k
    cdef list dims = broadcast_dims([*shapes, out_shape], out_shape)
    for axis in range(1, len(out_shape) + 1):
        if out_shape[-axis] != 1 and all(axis > len(s) or s[-axis] == 1 for s in shapes):
            raise ValueError(f"operands of shapes {shapes} do not broadcast to {out_shape}, but to less")
    dims = [d for d in dims if d[0] != 1]
    if dims:
        run, extents = dims.pop()
        extents = [run * s for s in extents]
        modes = [MODE_FULL if s else MODE_SCALAR for s in extents]
    else:
        run = 1
        extents = [1] * (len(shapes) + 1)
        modes = [MODE_FULL] * len(extents)
    for k in range(len(shapes)):
        g.mode[k] = modes[k]
    return set_walk(g, dims, run, extents)


cdef int planes_walk(walk_t *g, list views, object out) except -1:
    """The walk of an output in planes; operands are planes of its shape, or broadcast (plain or planes)."""
    cdef Py_ssize_t lanes = out.lanes
    cdef int k
    if lanes != g.table.lanes and lanes != 1:
        raise ValueError(f"planes of {lanes} channels, the instruction set has {g.table.lanes}")
    g.y = planes_of(out)
    rank = len(out.shape)
    n, c = out.shape[:2]
    d, h, w = out.dhw
    strides = []
    extents = []
    for k, view in enumerate(views):
        if not view.is_plain and view.shape == out.shape:
            if view.lanes != lanes or view.groups != out.groups:
                raise ValueError(f"planes of {view.lanes} channels in {view.groups} groups do not fit {lanes} in {out.groups}")
            g.mode[k] = MODE_FULL
            g.base[k] = view.offset
            strides.append([view.sn, view.sp, view.sd, view.sh])
            extents.append(w * lanes)
            continue
        if len(view.shape) > rank:
            raise ValueError(f"an operand of shape {view.shape} does not broadcast to {out.shape}")
        shape = (1,) * (rank - len(view.shape)) + tuple(view.shape)
        if any(s not in (1, o) for s, o in zip(shape, out.shape)):
            raise ValueError(f"an operand of shape {view.shape} does not broadcast to {out.shape}")
        if not view.is_plain and len(view.shape) != rank:
            raise ValueError("an operand in planes has another rank")
        spatial = math.prod(shape[2:])
        if spatial == 1:
            if shape[1] == 1:
                g.mode[k] = MODE_SCALAR
                if view.is_plain:
                    strides.append([1 if shape[0] != 1 else 0, 0, 0, 0])
                else:
                    g.base[k] = view.offset
                    strides.append([view.sn if shape[0] != 1 else 0, 0, 0, 0])
            elif not view.is_plain:
                if view.lanes != lanes or view.groups != out.groups:
                    raise ValueError(f"planes of {view.lanes} channels do not fit {lanes}")
                g.mode[k] = MODE_VECTOR if lanes > 1 else MODE_SCALAR
                g.base[k] = view.offset
                strides.append([view.sn if shape[0] != 1 else 0, view.sp, 0, 0])
            else:
                if out.groups != 1 and (c // out.groups) % lanes:
                    raise ValueError("a plain vector operand does not fit grouped planes with unused lanes")
                g.mode[k] = MODE_VECTOR if lanes > 1 else MODE_SCALAR
                g.period[k] = c if lanes > 1 else 0
                strides.append([c if shape[0] != 1 else 0, lanes, 0, 0])
            extents.append(0)
        elif shape[1] == 1 and shape[2:] == tuple(out.shape[2:]) and view.is_plain and lanes > 1:
            g.mode[k] = MODE_PIXEL
            strides.append([d * h * w if shape[0] != 1 else 0, 0, h * w, w])
            extents.append(w)
        else:
            raise ValueError(f"an operand of shape {view.shape} does not broadcast to planes of {out.shape}")
    if MODE_FULL not in [g.mode[k] for k in range(len(views))]:
        raise ValueError("no operand has the output's shape")
    g.base[3] = out.offset
    strides.append([out.sn, out.sp, out.sd, out.sh])
    extents.append(w * lanes)
    sizes = [n, g.y.blocks, d, h]
    halo = any(b or e for b, e in out.halo)
    # a halo keeps runs from reaching across planes
    set_walk(g, [(sizes[i], [s[i] for s in strides]) for i in range(4)], w * lanes, extents)
    if halo and n * g.y.blocks:
        g.rows_per_plane = g.rows // (n * g.y.blocks)
        if g.rows == 0:
            g.rows_per_plane = 0
    return 0


cdef inline void clear(walk_t *g) noexcept:
    cdef int k
    g.table = current_table()
    for k in range(4):
        g.base[k] = 0
        g.mode[k] = MODE_FULL
        g.period[k] = 0
    g.rows_per_plane = 0
    g.again = 0
    g.op = 0
    g.kind = ACT_NONE
    g.alpha = g.beta = 0


cdef int set_activation(walk_t *g, object activation) except -1:
    if activation is not None:
        g.kind = ACTIVATIONS[activation.kind]
        g.alpha = activation.alpha
        g.beta = activation.beta
    return 0


cdef Py_ssize_t chunks_of(const walk_t *g) noexcept:
    return ceil_div(g.rows, g.rows_per_chunk) * g.parts


def build_activation(inputs, outputs, *, activation) -> Launch:
    """Geometry of y = activation(x); both plain, or both planes (of any halo). x and y may be one buffer of one view."""
    cdef walk_t g
    x, y = inputs[0], outputs[0]
    if x.shape != y.shape or x.is_plain != y.is_plain:
        raise ValueError(f"activation: {x.shape} and {y.shape} differ in shape or layout")
    clear(&g)
    set_activation(&g, activation)
    if y.is_plain:
        plain_walk(&g, [x.shape], y.shape)
    else:
        planes_walk(&g, [x], y)
    count = math.prod(y.shape)
    return make_launch(f"activation {activation.kind}", unary_chunk, &g, sizeof(g), chunks_of(&g), 0, (x.nbytes, y.nbytes), count,
                       8.0 * count)


def build_binary(inputs, outputs, *, op, activation=None, b_shape=None) -> Launch:
    """Geometry of y = activation(a op b), `op` a name of BINARY.

    Plain outputs take plain operands of any shapes that broadcast. An output in planes takes planes of its shape, and plain
    scalars, channels (C, 1, 1), (N, C, 1, 1) (also in planes) and pixels (N or 1, 1, spatial...). y may be an operand of its view. `b_shape` is the shape
    that a plain b counts as.
    """
    cdef walk_t g
    a, b = inputs
    y = outputs[0]
    if b_shape is not None:
        if not b.is_plain or math.prod(b_shape) != math.prod(b.shape):
            raise ValueError(f"binary: an operand of shape {b.shape} does not count as {b_shape}")
        b = type(b).plain(b_shape)
    clear(&g)
    g.op = BINARY[op]
    set_activation(&g, activation)
    if y.is_plain:
        if not (a.is_plain and b.is_plain):
            raise ValueError("binary: a plain output takes plain operands")
        plain_walk(&g, [a.shape, b.shape], y.shape)
        join_short_runs(&g)
    else:
        planes_walk(&g, [a, b], y)
    count = math.prod(y.shape)
    return make_launch(f"binary {op}", binary_chunk, &g, sizeof(g), chunks_of(&g), 4 * REPEATED if g.again else 0, (a.nbytes, b.nbytes, y.nbytes),
                       count * (1.0 if activation is None else 2.0), float(a.nbytes + b.nbytes + y.nbytes))


def build_compare(inputs, outputs, *, op) -> Launch:
    """Geometry of y = a op b, bool, `op` a name of COMPARE; plain operands of any shapes that broadcast."""
    cdef walk_t g
    a, b = inputs
    y = outputs[0]
    clear(&g)
    g.op = COMPARE[op]
    if not (a.is_plain and b.is_plain and y.is_plain):
        raise ValueError("compare: operands must be plain")
    plain_walk(&g, [a.shape, b.shape], y.shape)
    count = math.prod(y.shape)
    return make_launch(f"compare {op}", compare_chunk, &g, sizeof(g), chunks_of(&g), 0, (a.nbytes, b.nbytes, y.nbytes), count,
                       float(a.nbytes + b.nbytes + y.nbytes)).typed(inputs, outputs)


def build_logic(inputs, outputs, *, op) -> Launch:
    """Geometry of y = a op b of bools, `op` a name of LOGIC; plain operands of any shapes that broadcast."""
    cdef walk_t g
    a, b = inputs
    y = outputs[0]
    clear(&g)
    g.op = LOGIC[op]
    if not (a.is_plain and b.is_plain and y.is_plain) or any(v.dtype.itemsize != 1 for v in (a, b, y)):
        raise ValueError("logic: operands must be plain bools")
    plain_walk(&g, [a.shape, b.shape], y.shape)
    count = math.prod(y.shape)
    return make_launch(f"logic {op}", logic_chunk, &g, sizeof(g), chunks_of(&g), 0, (a.nbytes, b.nbytes, y.nbytes), count,
                       float(a.nbytes + b.nbytes + y.nbytes)).typed(inputs, outputs)


def build_where(inputs, outputs) -> Launch:
    """Geometry of y = condition ? a : b, condition bool; plain operands of any shapes that broadcast."""
    cdef walk_t g
    m, a, b = inputs
    y = outputs[0]
    clear(&g)
    if not (m.is_plain and a.is_plain and b.is_plain and y.is_plain):
        raise ValueError("where: operands must be plain")
    plain_walk(&g, [m.shape, a.shape, b.shape], y.shape)
    count = math.prod(y.shape)
    return make_launch("where", where_chunk, &g, sizeof(g), chunks_of(&g), 0, (m.nbytes, a.nbytes, b.nbytes, y.nbytes), count,
                       float(m.nbytes + a.nbytes + b.nbytes + y.nbytes)).typed(inputs, outputs)


# ---------------------------------------------------------------- reductions

REDUCE = {
    # name -> (what is accumulated, how it ends)
    "sum": (RED_SUM, 0),
    "mean": (RED_SUM, 1),
    "l1": (RED_ABS, 0),
    "l2": (RED_SQUARE, 2),
    "sum_square": (RED_SQUARE, 0),
    "log_sum": (RED_SUM, 3),
    "log_sum_exp": (RED_EXP, 4),
    "prod": (RED_PROD, 0),
    "max": (RED_MAX, 0),
    "min": (RED_MIN, 0),
}


cdef struct reduce_t:
    const KernelTable *table
    int kind, finish
    int rows_inside                     # the innermost axis is reduced
    Py_ssize_t n_kept, n_reduced        # axes outside the innermost one and the rows
    Py_ssize_t kept_size[MAX_DIMS]
    Py_ssize_t kept_stride[MAX_DIMS]
    Py_ssize_t reduced_size[MAX_DIMS]
    Py_ssize_t reduced_stride[MAX_DIMS]
    Py_ssize_t combinations             # of the reduced axes outside the rows
    Py_ssize_t rows, stride             # the reduced axis next to the innermost one
    Py_ssize_t inner                    # elements of the innermost axis
    Py_ssize_t outer                    # kept elements outside the innermost axis
    Py_ssize_t strips, per_chunk
    double count                        # elements of one result


cdef inline Py_ssize_t offset_of(Py_ssize_t index, Py_ssize_t n, const Py_ssize_t *size, const Py_ssize_t *stride) noexcept nogil:
    cdef Py_ssize_t d, at = 0
    for d in range(n - 1, -1, -1):
        at += index % size[d] * stride[d]
        index = index // size[d]
    return at


cdef inline double first_of(int kind) noexcept nogil:
    return 1 if kind == RED_PROD else (-INFINITY if kind == RED_MAX else (INFINITY if kind == RED_MIN else 0))


cdef inline double finished(const reduce_t *g, double acc, float shift) noexcept nogil:
    if g.finish == 1:
        return acc / g.count
    if g.finish == 2:
        return sqrt(acc)
    if g.finish == 3:
        return log(acc)
    if g.finish == 4:
        return shift + log(acc)
    return acc


cdef double whole_row(const reduce_t *g, int kind, const float *x, float shift) noexcept nogil:
    """One result of innermost reduced axes, unfinished."""
    cdef Py_ssize_t k
    cdef double acc = first_of(kind)
    for k in range(g.combinations):
        acc = g.table.vector.reduce_rows(kind, x + offset_of(k, g.n_reduced, g.reduced_size, g.reduced_stride), g.stride, g.rows,
                                         g.inner, acc, shift)
    return acc


cdef void strip_of(const reduce_t *g, int kind, const float *x, Py_ssize_t n, double *acc, const float *shift) noexcept nogil:
    """n results side by side, unfinished."""
    cdef Py_ssize_t k, i
    for i in range(n):
        acc[i] = first_of(kind)
    for k in range(g.combinations):
        g.table.vector.reduce_columns(kind, x + offset_of(k, g.n_reduced, g.reduced_size, g.reduced_stride), g.stride, g.rows, n,
                                      acc, shift)


cdef void reduce_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const reduce_t *g = <const reduce_t *>geometry
    cdef const float *x
    cdef float *y
    cdef double acc[STRIP]
    cdef float shift[STRIP]
    cdef Py_ssize_t strip = chunk % g.strips * STRIP, outer = chunk // g.strips * g.per_chunk
    cdef Py_ssize_t last = outer + g.per_chunk, n = 1, i
    if last > g.outer:
        last = g.outer
    if not g.rows_inside:
        n = g.inner - strip if g.inner - strip < STRIP else STRIP
    while outer < last:
        x = <const float *>args[0] + offset_of(outer, g.n_kept, g.kept_size, g.kept_stride)
        y = <float *>args[1] + outer * (1 if g.rows_inside else g.inner) + strip
        x = x + strip
        for i in range(n):
            shift[i] = 0
        if g.kind == RED_EXP:
            # exp of differences to the largest; an infinite largest shifts nothing
            if g.rows_inside:
                acc[0] = whole_row(g, RED_MAX, x, 0)
            else:
                strip_of(g, RED_MAX, x, n, acc, shift)
            for i in range(n):
                shift[i] = <float>acc[i] if isfinite(acc[i]) else 0
        if g.rows_inside:
            acc[0] = whole_row(g, g.kind, x, shift[0])
        else:
            strip_of(g, g.kind, x, n, acc, shift)
        for i in range(n):
            y[i] = <float>finished(g, acc[i], shift[i])
        outer = outer + 1


def build_reduce(inputs, outputs, *, op, axes) -> Launch:
    """Geometry of y = op over `axes` of plain x, `op` a name of REDUCE; y has the kept elements, in order, whatever its rank.

    Nothing to reduce gives the neutral element: 0, 1, an infinity, or NaN for the mean.
    """
    cdef reduce_t g
    cdef int i
    x, y = inputs[0], outputs[0]
    if not (x.is_plain and y.is_plain):
        raise ValueError("reduce: operands must be plain")
    rank = len(x.shape)
    reduced_axes = {a + rank if a < 0 else a for a in axes}
    if not reduced_axes <= set(range(rank)):
        raise ValueError(f"reduce: axes {axes} of rank {rank}")
    kept_count = math.prod(s for a, s in enumerate(x.shape) if a not in reduced_axes)
    reduced_count = math.prod(s for a, s in enumerate(x.shape) if a in reduced_axes)
    if math.prod(y.shape) != kept_count:
        raise ValueError(f"reduce: {x.shape} over {axes} does not give {y.shape}")
    # runs of kept and of reduced axes, outermost first: [size, stride, reduced]
    dims = []
    stride = 1
    for axis in range(rank - 1, -1, -1):
        size = x.shape[axis]
        if size != 1:
            if dims and dims[0][2] == (axis in reduced_axes):
                dims[0][0] *= size
            else:
                dims.insert(0, [size, stride, axis in reduced_axes])
        stride *= size
    if len(dims) > MAX_DIMS:
        raise ValueError(f"reduce: more than {MAX_DIMS} runs of axes")
    g.table = current_table()
    g.kind, g.finish = REDUCE[op]
    g.count = reduced_count
    inner = dims.pop() if dims else [1, 1, False]
    g.rows_inside = inner[2]
    g.inner = inner[0]
    kept = [d for d in dims if not d[2]]
    reduced = [d for d in dims if d[2]]
    if reduced:
        g.rows, g.stride = reduced[-1][:2]
        reduced.pop()
    else:
        g.rows, g.stride = 1, 0
    g.n_kept = len(kept)
    g.n_reduced = len(reduced)
    for i, (size, stride, _) in enumerate(kept):
        g.kept_size[i] = size
        g.kept_stride[i] = stride
    for i, (size, stride, _) in enumerate(reduced):
        g.reduced_size[i] = size
        g.reduced_stride[i] = stride
    g.combinations = math.prod(d[0] for d in reduced)
    g.outer = math.prod(d[0] for d in kept)
    if reduced_count == 0:
        g.combinations = 0
    g.strips = 1 if g.rows_inside else ceil_div(g.inner, STRIP)
    work = max(1, reduced_count) * (1 if g.rows_inside else min(g.inner, STRIP))
    # half a nanosecond per element
    g.per_chunk = max(1, 2 * target_of(math.prod(x.shape) // 2) // work) if g.inner or g.rows_inside else 1
    chunks = ceil_div(g.outer, g.per_chunk) * g.strips if kept_count else 0
    total = math.prod(x.shape)
    return make_launch(f"reduce {op}", reduce_chunk, &g, sizeof(g), chunks, 0, (x.nbytes, y.nbytes), total,
                       float(x.nbytes + y.nbytes))


# ---------------------------------------------------------------- softmax

cdef struct softmax_t:
    const KernelTable *table
    int log_of
    Py_ssize_t outer, axis, inner
    Py_ssize_t strip, strips, per_chunk


cdef void softmax_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const softmax_t *g = <const softmax_t *>geometry
    cdef Py_ssize_t start = chunk % g.strips * g.strip, outer = chunk // g.strips * g.per_chunk
    cdef Py_ssize_t last = outer + g.per_chunk, at
    cdef Py_ssize_t n = g.inner - start if g.inner - start < g.strip else g.strip
    if last > g.outer:
        last = g.outer
    while outer < last:
        at = outer * g.axis * g.inner + start
        g.table.vector.softmax(g.log_of, <const float *>args[0] + at, <float *>args[1] + at, g.axis, g.inner, n)
        outer = outer + 1


def build_softmax(inputs, outputs, *, axis, log=False, flatten=False) -> Launch:
    """Geometry of softmax (or its logarithm) of plain x along `axis`, or with `flatten` along all axes from there on as one.

    x and y may be one buffer.
    """
    cdef softmax_t g
    x, y = inputs[0], outputs[0]
    if not (x.is_plain and y.is_plain) or x.shape != y.shape:
        raise ValueError("softmax: operands must be plain and of one shape")
    rank = len(x.shape)
    at = axis + rank if axis < 0 else axis
    if not 0 <= at < rank + (1 if flatten else 0):
        raise ValueError(f"softmax: axis {axis} of rank {rank}")
    g.table = current_table()
    g.log_of = bool(log)
    g.outer = math.prod(x.shape[:at])
    g.axis = math.prod(x.shape[at:]) if flatten else x.shape[at]
    g.inner = 1 if flatten else math.prod(x.shape[at + 1:])
    lanes = g.table.lanes
    g.strip = larger(lanes, CHUNK_NS // larger(g.axis, 1) // lanes * lanes) if g.inner > 1 else 1
    g.strips = ceil_div(g.inner, g.strip)
    g.per_chunk = max(1, target_of(math.prod(x.shape)) // max(1, g.axis * min(g.strip, g.inner)))
    chunks = ceil_div(g.outer, g.per_chunk) * g.strips if g.axis else 0
    total = math.prod(x.shape)
    return make_launch("log_softmax" if log else "softmax", softmax_chunk, &g, sizeof(g), chunks, 0, (x.nbytes, y.nbytes), 5.0 * total,
                       float(x.nbytes + y.nbytes))
