# cython: language_level=3
"""Kernels over every element type that NumPy has by itself, and those that make tensors out of a few numbers.

Two operands (`pair`)
    NumPy broadcasting: trailing axes that both operands cross in one stride, or not at all, are one run; the axes outside are merged
    where they can be. A chunk is a piece of a long run or several short ones, at a nanosecond per element. Loops over types and functions
    are C macros (typed.h): float32 has tiles of its own in vector.pyx for all but the remainders.

Positions of extremes (`arg`, `hardmax`)
    Lines that lie together (float32): the extreme by the reduction tile, then the search for its first place, which ends early.
    Elsewhere a strip of ARG_STRIP neighbouring lines goes along the axis at once, so that loads are contiguous and each comparison
    is a register of lines.

Filling (`one_hot`, `triangle`)
    Bound by stores: a chunk fills a contiguous piece of y, then writes the few places that differ.

Data-dependent extents
    `compress`, `unique` and `progression` give new arrays; the host calls them between plans. `unique` sorts keys of select.h (unsigned
    integers in the order of the values) with their places, bytewise, so the time does not depend on the values; rows are compared
    key by key in a merge sort. Both are stable: the first of equals stays the first.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from cnnengine._kernels.chunks cimport BYTES_PER_NS, chunk_ns, per_chunk
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.table cimport KernelTable
from cnnengine._kernels.tiles.vector cimport RED_MAX, RED_MIN

import math

import numpy as np

from cnnengine._kernels.vector import broadcast_dims

cdef extern from "select.h" nogil:
    uint64_t key_f4(const void *p) noexcept
    uint64_t key_f8(const void *p) noexcept
    uint64_t key_i1(const void *p) noexcept
    uint64_t key_i2(const void *p) noexcept
    uint64_t key_i4(const void *p) noexcept
    uint64_t key_i8(const void *p) noexcept
    uint64_t key_u1(const void *p) noexcept
    uint64_t key_u2(const void *p) noexcept
    uint64_t key_u4(const void *p) noexcept
    uint64_t key_u8(const void *p) noexcept

cdef extern from "typed.h" nogil:
    enum: ARG_STRIP
    ctypedef void (*pair_fn)(const char *, Py_ssize_t, const char *, Py_ssize_t, char *, Py_ssize_t) noexcept
    ctypedef void (*test_fn)(const char *, char *, Py_ssize_t, int) noexcept
    ctypedef void (*arg_fn)(const char *, Py_ssize_t, Py_ssize_t, Py_ssize_t, int, int, int64_t *) noexcept
    ctypedef void (*running_fn)(const char *, char *, Py_ssize_t, Py_ssize_t, Py_ssize_t, int, int) noexcept
    ctypedef void (*progression_fn)(const void *, const void *, void *, Py_ssize_t) noexcept
    ctypedef struct keyed_t:
        uint64_t key
        int64_t index
    const pair_fn pairs_of[10][18]
    const test_fn tests_of[3]
    const arg_fn args_of[10]
    const running_fn runnings_of[2][6]
    const progression_fn progressions_of[5]
    void repeat_item(char *, const char *, Py_ssize_t, Py_ssize_t) noexcept
    int64_t place_of(const char *, int, int64_t) noexcept
    double determinant_of(double *, Py_ssize_t) noexcept
    Py_ssize_t first_of(const float *, Py_ssize_t, float) noexcept
    Py_ssize_t last_of(const float *, Py_ssize_t, float) noexcept
    keyed_t *sort_keys(keyed_t *, keyed_t *, Py_ssize_t, int) noexcept
    int64_t *sort_rows(const uint64_t *, Py_ssize_t, int64_t *, int64_t *, Py_ssize_t) noexcept
    int row_order(const uint64_t *, Py_ssize_t, int64_t, int64_t) noexcept

cdef enum:
    MAX_DIMS = 9

TYPES = tuple(
    np.dtype(t) for t in ("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
)
"""Element types, in the order of the tables of typed.h."""
FLOATS = tuple(np.dtype(t) for t in ("float32", "float64", "float16"))
"""What `float_test` looks at."""
RUNNING_TYPES = tuple(np.dtype(t) for t in ("float32", "float64", "int32", "int64", "uint32", "uint64"))
"""What `running` adds up and multiplies."""
RUNNING = ("sum", "product")
PROGRESSION_TYPES = tuple(np.dtype(t) for t in ("float32", "float64", "int16", "int32", "int64"))
"""What `progression` counts in."""
ARITHMETIC = ("add", "sub", "mul", "div", "max", "min")
COMPARISONS = ("equal", "greater", "greater_or_equal", "less", "less_or_equal")
REMAINDERS = ("fmod", "mod")
BITS = ("and", "or", "xor", "left", "right")
PAIRS = (*ARITHMETIC, *COMPARISONS, *REMAINDERS, *BITS)
"""Functions of two operands, in the order of the table of typed.h; those of BITS for integers alone."""
_INDEX = {t: i for i, t in enumerate(TYPES)}


cdef int type_of(object dtype) except -1:
    if dtype not in _INDEX:
        raise ValueError(f"no kernel for {dtype}")
    return _INDEX[dtype]


# ---------------------------------------------------------------- two operands

cdef struct pair_t:
    pair_fn fn
    int n_dims
    Py_ssize_t size[MAX_DIMS]
    Py_ssize_t a_stride[MAX_DIMS]       # bytes
    Py_ssize_t b_stride[MAX_DIMS]
    Py_ssize_t run, rows                # elements of a run, runs
    Py_ssize_t sa, sb                   # whether an operand moves along a run
    Py_ssize_t item, y_item
    Py_ssize_t part, parts, per_chunk


cdef void pair_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const pair_t *g = <const pair_t *>geometry
    cdef Py_ssize_t start = chunk % g.parts * g.part, row = chunk // g.parts * g.per_chunk
    cdef Py_ssize_t last = min(row + g.per_chunk, g.rows), n = min(g.part, g.run - start), rest
    cdef const char *a
    cdef const char *b
    cdef int d
    while row < last:
        a = <const char *>args[0] + start * g.sa * g.item
        b = <const char *>args[1] + start * g.sb * g.item
        rest = row
        for d in range(g.n_dims - 1, -1, -1):
            a = a + rest % g.size[d] * g.a_stride[d]
            b = b + rest % g.size[d] * g.b_stride[d]
            rest = rest // g.size[d]
        g.fn(a, g.sa, b, g.sb, <char *>args[2] + (row * g.run + start) * g.y_item, n)
        row = row + 1


def build_pair(inputs, outputs, *, op, b_shape=None) -> Launch:
    """y = a op b of one element type, `op` a name of PAIRS; plain operands of any shapes that broadcast.

    Integers wrap around; "div" of integers goes toward zero, "mod" has the sign of the divisor, "fmod" that of the dividend.

    Parameters
    ----------
    inputs : tuple of two Views
        a and b, of one dtype of TYPES. Integers that are divided by must not hold zeros.
    outputs : tuple of one View
        Of the same dtype, bool for COMPARISONS.
    op : str
    b_shape : tuple of int, optional
        What b counts as for broadcasting.

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (av, bv), (yv,) = inputs, outputs
    cdef pair_t g
    cdef int d
    memset(&g, 0, sizeof(g))
    if op not in PAIRS or not (av.is_plain and bv.is_plain and yv.is_plain) or av.dtype != bv.dtype:
        raise ValueError(f"pair {op}: {av.dtype} and {bv.dtype}")
    if yv.dtype != (np.bool_ if op in COMPARISONS else av.dtype):
        raise ValueError(f"pair {op}: {yv.dtype} of {av.dtype}")
    shape = bv.shape if b_shape is None else tuple(b_shape)
    if math.prod(shape) != bv.size:
        raise ValueError(f"pair: {bv.shape} does not count as {shape}")
    g.fn = pairs_of[type_of(av.dtype)][<int>PAIRS.index(op)]
    if g.fn == NULL:
        raise ValueError(f"pair {op}: not of {av.dtype}")
    dims = [(size, strides[:2]) for size, strides in broadcast_dims([av.shape, shape], yv.shape) if size != 1]
    if any(strides == [0, 0] for _, strides in dims):
        raise ValueError(f"pair: {av.shape} and {shape} broadcast to less than {yv.shape}")
    g.item, g.y_item = av.dtype.itemsize, yv.dtype.itemsize
    merged = []
    for size, strides in dims:
        if merged and merged[-1][1] == [s * size for s in strides]:
            merged[-1] = (merged[-1][0] * size, strides)
        else:
            merged.append((size, strides))
    g.run, (g.sa, g.sb) = merged.pop() if merged else (1, [1, 1])
    if len(merged) > MAX_DIMS:
        raise ValueError(f"pair: more than {MAX_DIMS} dimensions with strides of their own")
    g.n_dims = len(merged)
    g.rows = 1
    for d, (size, strides) in enumerate(merged):
        g.size[d] = size
        g.a_stride[d], g.b_stride[d] = (s * g.item for s in strides)
        g.rows *= size
    if yv.size == 0:
        g.rows = 0
    target = <Py_ssize_t>chunk_ns(yv.size)
    g.parts = max(<Py_ssize_t>1, ceil_div(g.run, target))
    g.part = max(<Py_ssize_t>1, (ceil_div(g.run, g.parts) + 63) & ~63 if g.parts > 1 else g.run)
    g.parts = max(<Py_ssize_t>1, ceil_div(g.run, g.part))
    g.per_chunk = max(<Py_ssize_t>1, target // g.part) if g.parts == 1 else 1
    return make_launch(f"pair {op}", pair_chunk, &g, sizeof(g), ceil_div(g.rows, g.per_chunk) * g.parts, 0,
                       (av.nbytes, bv.nbytes, yv.nbytes), float(yv.size), float(av.nbytes + bv.nbytes + yv.nbytes)).typed(inputs, outputs)


# ---------------------------------------------------------------- tests of floats

cdef struct test_t:
    test_fn fn
    int what
    Py_ssize_t n, step, item


cdef void test_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const test_t *g = <const test_t *>geometry
    cdef Py_ssize_t start = chunk * g.step
    if g.what < 0:
        memset(<char *>args[1] + start, 0, min(g.step, g.n - start))
    else:
        g.fn(<const char *>args[0] + start * g.item, <char *>args[1] + start, min(g.step, g.n - start), g.what)


def build_float_test(inputs, outputs, *, nan=False, positive=False, negative=False) -> Launch:
    """Where x is NaN, or where it is infinite of these signs: bool.

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (xv,), (yv,) = inputs, outputs
    cdef test_t g
    if not (xv.is_plain and yv.is_plain) or xv.size != yv.size or xv.dtype not in FLOATS or yv.dtype != np.bool_:
        raise ValueError(f"float_test: {xv.dtype} {xv.shape} to {yv.dtype} {yv.shape}")
    g.fn = tests_of[<int>FLOATS.index(xv.dtype)]
    g.what = 0 if nan else (1 if positive else 0) + (2 if negative else 0) or -1
    g.n, g.step, g.item = xv.size, per_chunk(xv.size, 1), xv.dtype.itemsize
    return make_launch("float_test", test_chunk, &g, sizeof(g), ceil_div(g.n, g.step), 0, (xv.nbytes, yv.nbytes), 0.0,
                       float(xv.nbytes + yv.nbytes)).typed(inputs, outputs)


# ---------------------------------------------------------------- positions of extremes

cdef struct arg_t:
    const KernelTable *table
    arg_fn fn
    int floats, least, last, item
    Py_ssize_t outer, n, inner, strip, strips, per_chunk


cdef Py_ssize_t arg_unit(const arg_t *g, const char *x, Py_ssize_t unit, int64_t *at) noexcept nogil:
    """The positions of one strip of lines; returns how many they are."""
    cdef Py_ssize_t start = unit % g.strips * g.strip, columns = min(g.strip, g.inner - start)
    cdef const float *line
    cdef float best
    x = x + (unit // g.strips * g.n * g.inner + start) * g.item
    if g.floats and g.inner == 1:
        line = <const float *>x
        best = <float>g.table.vector.reduce_rows(RED_MIN if g.least else RED_MAX, line, g.n, 1, g.n, line[0], 0)
        at[0] = last_of(line, g.n, best) if g.last else first_of(line, g.n, best)
    else:
        g.fn(x, g.n, g.inner, columns, g.least, g.last, at)
    return columns


cdef void arg_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const arg_t *g = <const arg_t *>geometry
    cdef Py_ssize_t unit
    for unit in range(chunk * g.per_chunk, min(chunk * g.per_chunk + g.per_chunk, g.outer * g.strips)):
        arg_unit(g, <const char *>args[0], unit, <int64_t *>args[1] + unit // g.strips * g.inner + unit % g.strips * g.strip)


cdef int arg_geometry(arg_t *g, object xv, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner) except -1:
    memset(g, 0, sizeof(g[0]))
    g.table = current_table()
    g.fn = args_of[type_of(xv.dtype)]
    g.floats = xv.dtype == np.float32
    g.item = xv.dtype.itemsize
    g.outer, g.n, g.inner = outer, n, inner
    if not 1 <= n < 1 << 31:
        raise ValueError(f"arg: lines of {n} elements")
    g.strip = min(inner, <Py_ssize_t>ARG_STRIP)
    g.strips = ceil_div(inner, g.strip) if inner else 0
    g.per_chunk = per_chunk(outer * g.strips, n * g.strip)
    return 0


def build_arg(inputs, outputs, *, axis, least=False, last=False) -> Launch:
    """Position along an axis of the largest (or least) element, of the first or last of equals; NaN is more extreme than all.

    Parameters
    ----------
    inputs : tuple of one View
        Plain, of a dtype of TYPES; the axis has elements.
    outputs : tuple of one View
        int64, of the shape without the axis, or with 1 there.
    axis : int
        0 to rank - 1.
    least, last : bool

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (xv,), (yv,) = inputs, outputs
    cdef arg_t g
    shape = xv.shape
    if not (xv.is_plain and yv.is_plain) or yv.dtype != np.int64 or not 0 <= axis < len(shape) or yv.size * shape[axis] != xv.size:
        raise ValueError(f"arg: {xv.shape} along axis {axis} to {yv.dtype} {yv.shape}")
    arg_geometry(&g, xv, math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1:]))
    g.least, g.last = least, last
    return make_launch("arg", arg_chunk, &g, sizeof(g), ceil_div(g.outer * g.strips, g.per_chunk), 0, (xv.nbytes, yv.nbytes),
                       float(xv.size), float(xv.nbytes + yv.nbytes)).typed(inputs, outputs)


cdef void hardmax_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const arg_t *g = <const arg_t *>geometry
    cdef int64_t at[ARG_STRIP]
    cdef Py_ssize_t unit, columns, i, j
    cdef char *y
    cdef float one = 1
    cdef double wide = 1
    for unit in range(chunk * g.per_chunk, min(chunk * g.per_chunk + g.per_chunk, g.outer * g.strips)):
        columns = arg_unit(g, <const char *>args[0], unit, at)
        y = <char *>args[1] + (unit // g.strips * g.n * g.inner + unit % g.strips * g.strip) * g.item
        if columns == g.inner:
            memset(y, 0, g.n * columns * g.item)
        else:
            for i in range(g.n):
                memset(y + i * g.inner * g.item, 0, columns * g.item)
        for j in range(columns):
            if g.floats:
                memcpy(y + (at[j] * g.inner + j) * 4, &one, 4)
            else:
                memcpy(y + (at[j] * g.inner + j) * 8, &wide, 8)


def build_hardmax(inputs, outputs, *, axis, flatten=False) -> Launch:
    """1 at the first largest element along an axis, or with `flatten` along all axes from there on as one, 0 elsewhere.

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (xv,), (yv,) = inputs, outputs
    cdef arg_t g
    shape = xv.shape
    if not (xv.is_plain and yv.is_plain) or yv.shape != shape or yv.dtype != xv.dtype or xv.dtype not in (np.float32, np.float64):
        raise ValueError(f"hardmax: {xv.dtype} {xv.shape} to {yv.dtype} {yv.shape}")
    if not 0 <= axis < len(shape) + (1 if flatten else 0) or xv.size == 0:
        raise ValueError(f"hardmax: axis {axis} of {shape}")
    arg_geometry(&g, xv, math.prod(shape[:axis]), math.prod(shape[axis:]) if flatten else shape[axis],
                 1 if flatten else math.prod(shape[axis + 1:]))
    return make_launch("hardmax", hardmax_chunk, &g, sizeof(g), ceil_div(g.outer * g.strips, g.per_chunk), 0,
                       (xv.nbytes, yv.nbytes), float(xv.size), float(xv.nbytes + yv.nbytes)).typed(inputs, outputs)


# ---------------------------------------------------------------- one hot

cdef struct one_hot_t:
    int kind
    Py_ssize_t index_item, item
    Py_ssize_t outer, depth, inner, strip, strips, per_chunk


cdef void one_hot_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const one_hot_t *g = <const one_hot_t *>geometry
    cdef const char *values = <const char *>args[1]
    cdef const char *on = values + g.item
    cdef Py_ssize_t unit = chunk * g.per_chunk, end = min(unit + g.per_chunk, g.outer * g.strips), start, columns, i, j
    cdef const char *indices
    cdef char *y
    cdef int64_t at
    if g.inner == 1:
        repeat_item(<char *>args[2] + unit * g.depth * g.item, values, g.item, (end - unit) * g.depth)
    while unit < end:
        start = unit % g.strips * g.strip
        columns = min(g.strip, g.inner - start)
        indices = <const char *>args[0] + (unit // g.strips * g.inner + start) * g.index_item
        y = <char *>args[2] + (unit // g.strips * g.depth * g.inner + start) * g.item
        if g.inner > 1:
            for i in range(g.depth):
                repeat_item(y + i * g.inner * g.item, values, g.item, columns)
        for j in range(columns):
            at = place_of(indices + j * g.index_item, g.kind, g.depth)
            if at >= 0:
                if g.item == 4:
                    memcpy(y + (at * g.inner + j) * 4, on, 4)
                else:
                    memcpy(y + (at * g.inner + j) * g.item, on, g.item)
        unit = unit + 1


def build_one_hot(inputs, outputs, *, axis) -> Launch:
    """values[1] where the new axis equals the index, values[0] elsewhere and for numbers that are no place of the axis.

    Parameters
    ----------
    inputs : tuple of two Views
        Indices, of a dtype of TYPES, negative ones from the end; two values.
    outputs : tuple of one View
        Of the values' dtype, of the indices' shape with another axis.
    axis : int
        Where that axis is in the output.

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (iv, vv), (yv,) = inputs, outputs
    cdef one_hot_t g
    shape = yv.shape
    if not all(v.is_plain for v in (iv, vv, yv)) or vv.size != 2 or vv.dtype != yv.dtype or yv.dtype.itemsize not in (1, 2, 4, 8):
        raise ValueError(f"one_hot: {vv.dtype} {vv.shape} to {yv.dtype}")
    if not 0 <= axis < len(shape) or shape[:axis] + shape[axis + 1:] != iv.shape:
        raise ValueError(f"one_hot: {iv.shape} with axis {axis} to {shape}")
    g.kind = type_of(iv.dtype)
    g.index_item, g.item = iv.dtype.itemsize, yv.dtype.itemsize
    g.outer, g.depth, g.inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1:])
    g.strip = min(g.inner, <Py_ssize_t>2048)
    g.strips = ceil_div(g.inner, g.strip) if g.inner else 0
    g.per_chunk = per_chunk(g.outer * g.strips, <double>(g.depth * g.strip * g.item) / BYTES_PER_NS)
    return make_launch("one_hot", one_hot_chunk, &g, sizeof(g), ceil_div(g.outer * g.strips, g.per_chunk) if g.depth else 0, 0,
                       (iv.nbytes, vv.nbytes, yv.nbytes), 0.0, float(iv.nbytes + yv.nbytes)).typed(inputs, outputs)


# ---------------------------------------------------------------- triangles

cdef struct triangle_t:
    Py_ssize_t matrices, rows, columns, item, per_chunk
    int upper


cdef void triangle_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const triangle_t *g = <const triangle_t *>geometry
    cdef int64_t k = 0
    cdef Py_ssize_t row, edge
    cdef const char *x
    cdef char *y
    if args[1] != NULL:
        k = (<const int64_t *>args[1])[0]
    k = min(max(k, -<int64_t>g.rows), <int64_t>g.columns)
    for row in range(chunk * g.per_chunk, min(chunk * g.per_chunk + g.per_chunk, g.matrices * g.rows)):
        x = <const char *>args[0] + row * g.columns * g.item
        y = <char *>args[2] + row * g.columns * g.item
        # the first column that the upper triangle keeps, or the first that the lower one does not
        edge = row % g.rows + k + (0 if g.upper else 1)
        edge = min(max(edge, 0), g.columns) * g.item
        if g.upper:
            memset(y, 0, edge)
            memcpy(y + edge, x + edge, g.columns * g.item - edge)
        else:
            memcpy(y, x, edge)
            memset(y + edge, 0, g.columns * g.item - edge)


def build_triangle(inputs, outputs, *, upper) -> Launch:
    """The upper or lower triangle of matrices, from the k-th diagonal on; zeros elsewhere.

    Parameters
    ----------
    inputs : tuple of two Views
        x, plain, of any dtype; k, int64 of one element, None for 0.
    outputs : tuple of one View
        Of x's shape and dtype.

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (xv, kv), (yv,) = inputs, outputs
    cdef triangle_t g
    if not (xv.is_plain and yv.is_plain) or xv.shape != yv.shape or xv.dtype != yv.dtype or len(xv.shape) < 2:
        raise ValueError(f"triangle: {xv.dtype} {xv.shape} to {yv.dtype} {yv.shape}")
    if kv is not None and (not kv.is_plain or kv.dtype != np.int64 or kv.size != 1):
        raise ValueError(f"triangle: k is {kv.dtype} {kv.shape}")
    g.rows, g.columns = xv.shape[-2:]
    g.matrices = math.prod(xv.shape[:-2])
    g.item, g.upper = xv.dtype.itemsize, bool(upper)
    g.per_chunk = per_chunk(g.matrices * g.rows, <double>(g.columns * g.item) / BYTES_PER_NS)
    return make_launch("triangle", triangle_chunk, &g, sizeof(g), ceil_div(g.matrices * g.rows, g.per_chunk) if g.columns else 0, 0,
                       (xv.nbytes, 0 if kv is None else kv.nbytes, yv.nbytes), 0.0, float(xv.nbytes + yv.nbytes)).typed(inputs, outputs)


# ---------------------------------------------------------------- reversed sequences

cdef struct reversed_t:
    Py_ssize_t time, batch, inner, time_step, batch_step, per_chunk  # inner and steps in bytes


cdef void reversed_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const reversed_t *g = <const reversed_t *>geometry
    cdef const int64_t *lengths = <const int64_t *>args[1]
    cdef int64_t *words = <int64_t *>args[3] + 3 * chunk
    cdef Py_ssize_t unit, b, t, source
    cdef int64_t length
    words[0] = words[1] = words[2] = 0
    for unit in range(chunk * g.per_chunk, min(chunk * g.per_chunk + g.per_chunk, g.time * g.batch)):
        b = unit // g.time
        t = unit % g.time
        length = lengths[b]
        if length < 0 or length > g.time:
            if words[0] == 0:
                words[0] = 1
                words[1] = length
            length = 0
        source = length - 1 - t if t < length else t
        memcpy(<char *>args[2] + b * g.batch_step + t * g.time_step,
               <const char *>args[0] + b * g.batch_step + source * g.time_step, g.inner)


def build_reverse_sequence(inputs, outputs, *, batch_axis) -> Launch:
    """The first so many elements of each sequence in reverse, the others as they are.

    Parameters
    ----------
    inputs : tuple of two Views
        x, plain, of any dtype, its first two axes time and batch; lengths, int64 (batch).
    outputs : tuple of two Views
        y; three words of int64 for each chunk (`reverse_chunks`): whether a length is out of range, the first such, 0.
    batch_axis : {0, 1}

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (xv, lv), (yv, wv) = inputs, outputs
    cdef reversed_t g
    if not all(v.is_plain for v in (xv, lv, yv, wv)) or xv.shape != yv.shape or xv.dtype != yv.dtype or len(xv.shape) < 2:
        raise ValueError(f"reverse_sequence: {xv.dtype} {xv.shape} to {yv.dtype} {yv.shape}")
    if batch_axis not in (0, 1) or lv.dtype != np.int64 or lv.shape != (xv.shape[batch_axis],):
        raise ValueError(f"reverse_sequence: lengths {lv.dtype} {lv.shape}")
    if wv.dtype != np.int64 or wv.size != 3 * reverse_chunks(xv.shape, xv.dtype.itemsize):
        raise ValueError(f"reverse_sequence: words {wv.shape}")
    g.batch, g.time = xv.shape[batch_axis], xv.shape[1 - batch_axis]
    g.inner = math.prod(xv.shape[2:]) * xv.dtype.itemsize
    g.batch_step = g.inner * (g.time if batch_axis == 0 else 1)
    g.time_step = g.inner * (g.batch if batch_axis == 1 else 1)
    g.per_chunk = rows_of_reversing(g.time * g.batch, g.inner)
    return make_launch("reverse_sequence", reversed_chunk, &g, sizeof(g), ceil_div(g.time * g.batch, g.per_chunk), 0,
                       (xv.nbytes, lv.nbytes, yv.nbytes, wv.nbytes), 0.0, float(xv.nbytes + yv.nbytes)).typed(inputs, outputs)


cdef Py_ssize_t rows_of_reversing(Py_ssize_t rows, Py_ssize_t inner) noexcept:
    """Rows of a chunk."""
    return per_chunk(rows, (2.0 * inner + 16) / BYTES_PER_NS)


def reverse_chunks(shape, Py_ssize_t item) -> int:
    """Chunks of `reverse_sequence` for x of this shape and bytes of an element."""
    cdef Py_ssize_t rows = shape[0] * shape[1]
    return ceil_div(rows, rows_of_reversing(rows, math.prod(shape[2:]) * item))


# ---------------------------------------------------------------- running sums and products

cdef struct running_t:
    running_fn fn
    Py_ssize_t outer, axis, inner, strip, strips, item, per_chunk
    int exclusive, reverse


cdef void running_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const running_t *g = <const running_t *>geometry
    cdef Py_ssize_t unit, at, start
    for unit in range(chunk * g.per_chunk, min(chunk * g.per_chunk + g.per_chunk, g.outer * g.strips)):
        start = unit % g.strips * g.strip
        at = (unit // g.strips * g.axis * g.inner + start) * g.item
        g.fn(<const char *>args[0] + at, <char *>args[1] + at, g.axis, g.inner, min(g.strip, g.inner - start), g.exclusive, g.reverse)


def build_running(inputs, outputs, *, op, axis, exclusive=False, reverse=False) -> Launch:
    """Sums or products of the elements up to each along an axis, in their own dtype, one after the other as numpy.cumsum does it.

    Parameters
    ----------
    inputs, outputs : tuple of one View
        Plain, of one shape and a dtype of RUNNING_TYPES.
    op : str
        Of RUNNING.
    axis : int
        0 to rank - 1.
    exclusive : bool
        Whether an element is left out of its own sum.
    reverse : bool
        Whether sums start at the end.

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (xv,), (yv,) = inputs, outputs
    cdef running_t g
    shape = xv.shape
    if not (xv.is_plain and yv.is_plain) or yv.shape != shape or yv.dtype != xv.dtype or not 0 <= axis < len(shape):
        raise ValueError(f"running {op}: {xv.dtype} {shape} along axis {axis} to {yv.dtype} {yv.shape}")
    if op not in RUNNING or xv.dtype not in RUNNING_TYPES:
        raise ValueError(f"running {op}: not of {xv.dtype}")
    g.fn = runnings_of[<int>RUNNING.index(op)][<int>RUNNING_TYPES.index(xv.dtype)]
    g.item, g.axis, g.exclusive, g.reverse = xv.dtype.itemsize, shape[axis], exclusive, reverse
    g.outer, g.inner = math.prod(shape[:axis]), math.prod(shape[axis + 1:])
    g.strip = min(g.inner, <Py_ssize_t>1024)
    g.strips = ceil_div(g.inner, g.strip) if g.inner else 0
    g.per_chunk = per_chunk(g.outer * g.strips, g.axis * g.strip)
    return make_launch(f"running {op}", running_chunk, &g, sizeof(g), ceil_div(g.outer * g.strips, g.per_chunk) if g.axis else 0, 0,
                       (xv.nbytes, yv.nbytes), float(xv.size), float(xv.nbytes + yv.nbytes)).typed(inputs, outputs)


# ---------------------------------------------------------------- determinants

cdef struct determinant_t:
    Py_ssize_t matrices, n, per_chunk
    int wide


cdef void determinant_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const determinant_t *g = <const determinant_t *>geometry
    cdef double *a = <double *>scratch
    cdef Py_ssize_t m, i, size = g.n * g.n
    cdef double found
    for m in range(chunk * g.per_chunk, min(chunk * g.per_chunk + g.per_chunk, g.matrices)):
        if g.wide:
            if size:  # a matrix of no elements may have no memory at all
                memcpy(a, <const double *>args[0] + m * size, size * sizeof(double))
        else:
            for i in range(size):
                a[i] = (<const float *>args[0])[m * size + i]
        found = determinant_of(a, g.n)
        if g.wide:
            (<double *>args[1])[m] = found
        else:
            (<float *>args[1])[m] = <float>found


def build_determinant(inputs, outputs) -> Launch:
    """Determinants of square matrices, computed in double.

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (xv,), (yv,) = inputs, outputs
    cdef determinant_t g
    shape = xv.shape
    if not (xv.is_plain and yv.is_plain) or xv.dtype not in (np.float32, np.float64) or yv.dtype != xv.dtype:
        raise ValueError(f"determinant: {xv.dtype} to {yv.dtype}")
    if len(shape) < 2 or shape[-1] != shape[-2] or yv.shape != shape[:-2]:
        raise ValueError(f"determinant: {shape} to {yv.shape}")
    g.n, g.matrices, g.wide = shape[-1], yv.size, xv.dtype == np.float64
    g.per_chunk = per_chunk(g.matrices, <double>(g.n * g.n * g.n))
    return make_launch("determinant", determinant_chunk, &g, sizeof(g), ceil_div(g.matrices, g.per_chunk), max(64, 8 * g.n * g.n),
                       (xv.nbytes, yv.nbytes), float(g.matrices * g.n * g.n * g.n), float(xv.nbytes + yv.nbytes)).typed(inputs, outputs)


# ---------------------------------------------------------------- as many rows as there are

def progression(start, delta, Py_ssize_t count):
    """start + i * delta for i below `count`: two scalars of one dtype of PROGRESSION_TYPES; integers wrap around."""
    dtype = start.dtype
    if dtype != delta.dtype or dtype not in PROGRESSION_TYPES or count < 0:
        raise ValueError(f"progression: {count} steps of {delta.dtype} from {dtype}")
    cdef progression_fn fn = progressions_of[<int>PROGRESSION_TYPES.index(dtype)]
    cdef const unsigned char[::1] first = np.array([start]).view(np.uint8)
    cdef const unsigned char[::1] step = np.array([delta]).view(np.uint8)
    cdef unsigned char[::1] out
    result = np.empty(count, dtype)
    if count:
        out = result.view(np.uint8)
        with nogil:
            fn(&first[0], &step[0], &out[0], count)
    return result


def compress(x, condition, axis):
    """The slices of x along an axis for which a condition holds; of x as a vector where the axis is None.

    Parameters
    ----------
    x : ndarray
        C-contiguous, of items of 1, 2, 4 or 8 bytes.
    condition : ndarray
        bool (n,): at most as many as the axis has slices; slices beyond count as left out.
    axis : int or None
    """
    cdef const unsigned char[::1] wanted = np.ascontiguousarray(condition).view(np.uint8)
    cdef const unsigned char[::1] data
    cdef unsigned char[::1] out
    cdef Py_ssize_t item = x.dtype.itemsize, outer, n, inner, count = 0, i, o, used = wanted.shape[0]
    cdef const char *source
    cdef char *target
    shape = (x.size,) if axis is None else x.shape
    at = 0 if axis is None else axis
    outer, n, inner = math.prod(shape[:at]), shape[at], math.prod(shape[at + 1:]) * item
    if used > n or item not in (1, 2, 4, 8):
        raise ValueError(f"compress: {used} conditions for {n} slices of {x.dtype}")
    count = np.count_nonzero(condition)
    result = np.empty((*shape[:at], count, *shape[at + 1:]), x.dtype)
    if result.size == 0:
        return result
    data = x.reshape(-1).view(np.uint8)
    out = result.reshape(-1).view(np.uint8)
    source, target = <const char *>&data[0], <char *>&out[0]
    with nogil:
        for o in range(outer):
            if inner == 4 or inner == 8:
                # without a branch: what is not wanted is overwritten, and the last one is written only if it is
                i = pick_words(source, &wanted[0], used, target, inner, count)
            else:
                for i in range(used):
                    if wanted[i]:
                        memcpy(target, source + i * inner, inner)
                        target = target + inner
                target = target - count * inner
            source = source + n * inner
            target = target + count * inner
    return result


cdef Py_ssize_t pick_words(const char *x, const unsigned char *wanted, Py_ssize_t n, char *y, Py_ssize_t size,
                           Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i, at = 0
    for i in range(n):
        if at == count:
            break
        if size == 4:
            memcpy(y + at * 4, x + i * 4, 4)
        else:
            memcpy(y + at * 8, x + i * 8, 8)
        at += wanted[i] != 0
    return at


cdef uint64_t key_at(int kind, const char *p) noexcept nogil:
    if kind == 0: return key_f4(p)
    if kind == 1: return key_f8(p)
    if kind == 2: return key_i1(p)
    if kind == 3: return key_u1(p)
    if kind == 4: return key_i2(p)
    if kind == 5: return key_u2(p)
    if kind == 6: return key_i4(p)
    if kind == 7: return key_u4(p)
    if kind == 8: return key_i8(p)
    return key_u8(p)


def unique(rows, bint in_order):
    """Which rows differ from all before them, and where each is found.

    Parameters
    ----------
    rows : ndarray
        C-contiguous (n, width) of a dtype of TYPES. NaN equals NaN and is larger than all, -0 equals 0.
    in_order : bool
        Whether the rows that differ are numbered by their order (lexicographic), or as they first come.

    Returns
    -------
    first, inverse, counts : ndarray of int64
        Of each row that differs, in their numbering: where it first is; for each row of the input the number of its equal; how many
        equal it.
    """
    cdef int kind = type_of(rows.dtype)
    cdef Py_ssize_t n = rows.shape[0], width = rows.shape[1], item = rows.dtype.itemsize, i, found = 0
    cdef const unsigned char[::1] data
    cdef const char *x
    cdef keyed_t *pairs = NULL
    cdef keyed_t *sorted_pairs = NULL
    cdef uint64_t *keys = NULL
    cdef int64_t *order = NULL
    cdef int64_t *ranked = NULL
    cdef int64_t *new_number = NULL
    cdef int64_t[::1] inverse, first, count
    if n == 0:
        return tuple(np.empty(0, np.int64) for _ in range(3))
    inverse_array = np.empty(n, np.int64)
    inverse = inverse_array
    order = <int64_t *>malloc(2 * n * sizeof(int64_t))
    try:
        if order == NULL:
            raise MemoryError("unique")
        if width == 0:
            ranked = order
            for i in range(n):
                ranked[i] = i
        elif width == 1:
            data = rows.reshape(-1).view(np.uint8)
            x = <const char *>&data[0]
            pairs = <keyed_t *>malloc(2 * n * sizeof(keyed_t))
            if pairs == NULL:
                raise MemoryError("unique")
            with nogil:
                for i in range(n):
                    pairs[i].key = key_at(kind, x + i * item)
                    pairs[i].index = i
                sorted_pairs = sort_keys(pairs, pairs + n, n, <int>item)
                ranked = order
                for i in range(n):
                    ranked[i] = sorted_pairs[i].index
        else:
            data = rows.reshape(-1).view(np.uint8)
            x = <const char *>&data[0]
            keys = <uint64_t *>malloc(n * width * sizeof(uint64_t))
            if keys == NULL:
                raise MemoryError("unique")
            with nogil:
                for i in range(n * width):
                    keys[i] = key_at(kind, x + i * item)
                for i in range(n):
                    order[i] = i
                ranked = sort_rows(keys, width, order, order + n, n)
        # numbers in sorted order
        with nogil:
            for i in range(n):
                if i > 0:
                    if width == 1:
                        found += sorted_pairs[i].key != sorted_pairs[i - 1].key
                    elif width > 1:
                        found += row_order(keys, width, ranked[i], ranked[i - 1]) != 0
                inverse[ranked[i]] = found
        found += 1
        first_array, count_array = np.empty(found, np.int64), np.zeros(found, np.int64)
        first, count = first_array, count_array
        if not in_order:
            new_number = <int64_t *>malloc(found * sizeof(int64_t))
            if new_number == NULL:
                raise MemoryError("unique")
            with nogil:
                for i in range(found):
                    new_number[i] = -1
                found = 0
                for i in range(n):
                    if new_number[inverse[i]] < 0:
                        new_number[inverse[i]] = found
                        found += 1
                    inverse[i] = new_number[inverse[i]]
        with nogil:
            for i in range(n - 1, -1, -1):
                first[inverse[i]] = i
                count[inverse[i]] += 1
    finally:
        free(pairs)
        free(keys)
        free(order)
        free(new_number)
    return first_array, inverse_array, count_array
