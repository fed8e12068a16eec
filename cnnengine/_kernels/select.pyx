# cython: language_level=3
"""Kernels that choose: by indices that are known only while running, by rank, by value, by overlap.

Indices
    Gather, GatherND, GatherElements and the Scatter operators are two steps. `index_offsets` turns indices into offsets into
    the data, in items, once: it checks every one of them, counts negative ones from the end, and puts 0 where one is
    out of range, which it reports in its words (`Lowering.faults`); no later step can then reach outside. `take` and `put`
    move slices by offsets. An offset is a base, affine in the position of the point (batch axes, the axes that GatherElements
    keeps), plus the indices times their strides.

Rank
    `topk` walks an axis once with a heap of the k best, whose root is the worst of them: nearly every value costs a key and a
    comparison. Keys are unsigned integers in the order of the values, so ties go to the lower index, -0 equals 0, and NaN is
    larger than everything. Unit = one line of the axis.

Sums
    `running_sum` goes along the axis for a strip of inner columns.

Data-dependent extents
    `find_nonzero` and `suppress` give new arrays of as many rows as there are; the host calls them between plans. `suppress`
    takes boxes by falling score and asks whether one that stays overlaps; the boxes that stay lie as five arrays (edges
    and area), so that a register compares one box with LANES of them (tiles.overlaps). Boxes that share nothing, by far most,
    cost a minimum, a maximum and a comparison per axis, and no division.
"""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.chunks cimport BYTES_PER_NS, per_chunk
from cnnengine._kernels.ints cimport ceil_div
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.table cimport KernelTable

import numpy as np

from cnnengine._kernels import INDEX_CHUNK

cdef extern from "select.h" nogil:
    ctypedef struct ranked_t:
        uint64_t key
        int64_t index
    ctypedef void (*topk_fn)(const char *, Py_ssize_t, Py_ssize_t, Py_ssize_t, uint64_t, ranked_t *) noexcept
    ctypedef void (*put_fn)(char *, const int64_t *, Py_ssize_t, const char *, Py_ssize_t) noexcept
    ctypedef Py_ssize_t (*nonzero_fn)(const char *, Py_ssize_t, int64_t *) noexcept
    const topk_fn topks[10]
    const put_fn puts_of[4][4]
    const nonzero_fn nonzeros[6]
    void sift_down(ranked_t *, Py_ssize_t, Py_ssize_t) noexcept
    void sort_heap(ranked_t *, Py_ssize_t) noexcept

cdef enum:
    MAX_DIMS = 12


# ---------------------------------------------------------------- indices to offsets

cdef struct offsets_t:
    Py_ssize_t count, depth, per_chunk
    int wide                            # whether indices are int64
    int rank                            # axes of the points that have a base stride
    Py_ssize_t extents[MAX_DIMS]        # of the data's axes that indices name
    Py_ssize_t strides[MAX_DIMS]
    Py_ssize_t shape[MAX_DIMS]          # of the points
    Py_ssize_t bases[MAX_DIMS]


cdef void offsets_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const offsets_t *g = <const offsets_t *>geometry
    cdef const int64_t *wide = <const int64_t *>args[0]
    cdef const int32_t *narrow = <const int32_t *>args[0]
    cdef int64_t *offsets = <int64_t *>args[1]
    cdef int64_t *words = <int64_t *>args[2] + 3 * chunk
    cdef Py_ssize_t at[MAX_DIMS]
    cdef Py_ssize_t p = chunk * g.per_chunk, end = min(p + g.per_chunk, g.count), base = 0, rest = p, offset
    cdef int a, k
    cdef int64_t index
    for a in range(g.rank - 1, -1, -1):
        at[a] = rest % g.shape[a]
        rest = rest // g.shape[a]
        base = base + at[a] * g.bases[a]
    words[0] = words[1] = words[2] = 0
    while p < end:
        offset = base
        for k in range(<int>g.depth):
            index = wide[p * g.depth + k] if g.wide else narrow[p * g.depth + k]
            if index < -g.extents[k] or index >= g.extents[k]:
                if words[0] == 0:
                    words[0] = 1
                    words[1] = index
                    words[2] = k
                index = 0
            elif index < 0:
                index = index + g.extents[k]
            offset = offset + index * g.strides[k]
        offsets[p] = offset
        p = p + 1
        for a in range(g.rank - 1, -1, -1):
            at[a] = at[a] + 1
            base = base + g.bases[a]
            if at[a] < g.shape[a]:
                break
            base = base - g.shape[a] * g.bases[a]
            at[a] = 0


def build_index_offsets(inputs, outputs, *, depth, extents, strides, shape=(), bases=()) -> Launch:
    """Offsets into plain data from indices, in items.

    Parameters
    ----------
    inputs : tuple of one View
        Indices, plain, int32 or int64; every `depth` of them name one point.
    outputs : tuple of two Views
        int64: an offset per point, and three words per chunk of INDEX_CHUNK points: whether an index is out of range, the first
        such index, the number of its axis.
    depth : int
    extents, strides : sequence of int
        Of the axes that the indices name, `depth` of each, extents at least 1; strides in items.
    shape, bases : sequence of int
        The points as an array, and what one step along each of its axes adds to an offset.

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (i_view,), (o_view, w_view) = inputs, outputs
    cdef offsets_t g
    memset(&g, 0, sizeof(g))
    if not all(v.is_plain for v in (i_view, o_view, w_view)) or i_view.dtype not in (np.int32, np.int64):
        raise ValueError("index_offsets: plain int32 or int64 indices are needed")
    if o_view.dtype != np.int64 or w_view.dtype != np.int64:
        raise ValueError("index_offsets: offsets and words are int64")
    g.count, g.depth, g.rank = o_view.size, depth, len(shape)
    if depth < 1 or depth > MAX_DIMS or g.rank > MAX_DIMS or len(extents) != depth or len(strides) != depth or len(bases) != g.rank:
        raise ValueError(f"index_offsets: {depth} indices a point and {g.rank} axes of points")
    if i_view.size != g.count * depth or w_view.size != 3 * ceil_div(g.count, INDEX_CHUNK) or min(extents) < 1:
        raise ValueError(f"index_offsets: {i_view.size} indices for {g.count} points of {depth}")
    total = 1
    for n in shape:
        total *= n
    if g.rank and total != g.count:
        raise ValueError(f"index_offsets: {tuple(shape)} for {g.count} points")
    g.wide = i_view.dtype == np.int64
    for k in range(depth):
        g.extents[k], g.strides[k] = extents[k], strides[k]
    for a in range(g.rank):
        g.shape[a], g.bases[a] = shape[a], bases[a]
    g.per_chunk = INDEX_CHUNK
    return make_launch("index_offsets", offsets_chunk, &g, sizeof(g), ceil_div(g.count, INDEX_CHUNK), 0,
                       (i_view.nbytes, o_view.nbytes, w_view.nbytes), 0.0, i_view.nbytes + o_view.nbytes).typed(inputs, outputs)


# ---------------------------------------------------------------- take

cdef struct take_t:
    Py_ssize_t outer, step, count, inner  # y is [outer][count][inner bytes]; `step` bytes from one outer slice of x to the next
    Py_ssize_t item
    Py_ssize_t per_chunk


cdef void take_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const take_t *g = <const take_t *>geometry
    cdef const int64_t *offsets = <const int64_t *>args[1]
    cdef Py_ssize_t unit = chunk * g.per_chunk, end = min(unit + g.per_chunk, g.outer * g.count), at = unit % g.count
    cdef const char *x = <const char *>args[0] + unit // g.count * g.step
    cdef char *y = <char *>args[2] + unit * g.inner
    while unit < end:
        # copies of a known size are one load and one store
        if g.inner == 4:
            memcpy(y, x + offsets[at] * g.item, 4)
        elif g.inner == 8:
            memcpy(y, x + offsets[at] * g.item, 8)
        elif g.inner == 16:
            memcpy(y, x + offsets[at] * g.item, 16)
        elif g.inner == 1:
            y[0] = x[offsets[at]]
        else:
            memcpy(y, x + offsets[at] * g.item, g.inner)
        y = y + g.inner
        unit = unit + 1
        at = at + 1
        if at == g.count:
            at = 0
            x = x + g.step


def build_take(inputs, outputs, *, outer=1, step=0, inner=1) -> Launch:
    """Slices of `inner` items of x at the offsets of `index_offsets`, for each of `outer` slices of x that are `step` items apart.

    Parameters
    ----------
    inputs : tuple of two Views
        x, plain, of any dtype; offsets, int64, each at most x.size - (outer - 1) * step - inner.
    outputs : tuple of one View
        Of outer * offsets * inner items.

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (x_view, o_view), (y_view,) = inputs, outputs
    cdef take_t g
    if not all(v.is_plain for v in (x_view, o_view, y_view)) or x_view.dtype != y_view.dtype or o_view.dtype != np.int64:
        raise ValueError("take: all must be plain, x and y of one dtype, offsets int64")
    if outer < 1 or step < 0 or inner < 0 or y_view.size != outer * o_view.size * inner or (outer - 1) * step + inner > x_view.size:
        raise ValueError(f"take: {outer} times {o_view.size} slices of {inner} from {x_view.shape} do not give {y_view.shape}")
    g.item = x_view.dtype.itemsize
    g.outer, g.step, g.count, g.inner = outer, step * g.item, o_view.size, inner * g.item
    g.per_chunk = per_chunk(g.outer * g.count, (2.0 * g.inner + 16) / BYTES_PER_NS)
    units = g.outer * g.count if g.inner else 0
    return make_launch("take", take_chunk, &g, sizeof(g), ceil_div(units, g.per_chunk), 0,
                       (x_view.nbytes, o_view.nbytes, y_view.nbytes), 0.0, 2 * y_view.nbytes + o_view.nbytes).typed(inputs, outputs)


# ---------------------------------------------------------------- put

PUT_DTYPES = tuple(np.dtype(t) for t in ("float32", "float64", "int32", "int64"))
"""What `put` adds, multiplies and compares."""
PUT_REDUCTIONS = ("none", "add", "mul", "max", "min")

cdef struct put_t:
    Py_ssize_t count, inner, item
    put_fn fn                           # NULL: the updates replace what was there


cdef void put_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const put_t *g = <const put_t *>geometry
    cdef const int64_t *offsets = <const int64_t *>args[0]
    cdef const char *updates = <const char *>args[1]
    cdef char *y = <char *>args[2]
    cdef Py_ssize_t p, nbytes = g.inner * g.item
    if g.fn != NULL:
        g.fn(y, offsets, g.count, updates, g.inner)
        return
    for p in range(g.count):
        memcpy(y + offsets[p] * g.item, updates + p * nbytes, nbytes)


def build_put(inputs, outputs, *, inner=1, reduction="none") -> Launch:
    """Write slices of `inner` items into y, which is there already, at the offsets of `index_offsets`, one after the other.

    Later points see what earlier ones wrote, so a run is one chunk.

    Parameters
    ----------
    inputs : tuple of two Views
        offsets, int64, and updates, of y's dtype: a slice per offset.
    outputs : tuple of one View
        y, plain; with a reduction of a dtype of PUT_DTYPES.
    reduction : str
        Of PUT_REDUCTIONS: the updates replace what is there, or are added to it ...; integers wrap around, NaN stays NaN.

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (o_view, u_view), (y_view,) = inputs, outputs
    cdef put_t g
    if not all(v.is_plain for v in (o_view, u_view, y_view)) or u_view.dtype != y_view.dtype or o_view.dtype != np.int64:
        raise ValueError("put: all must be plain, updates and y of one dtype, offsets int64")
    if u_view.size != o_view.size * inner or inner > y_view.size:
        raise ValueError(f"put: {u_view.size} updates for {o_view.size} slices of {inner}")
    g.count, g.inner, g.item = o_view.size, inner, y_view.dtype.itemsize
    g.fn = NULL
    if reduction != "none":
        g.fn = puts_of[<int>PUT_DTYPES.index(y_view.dtype)][<int>PUT_REDUCTIONS.index(reduction) - 1]
    return make_launch(f"put {reduction}", put_chunk, &g, sizeof(g), 1 if u_view.size else 0, 0,
                       (o_view.nbytes, u_view.nbytes, y_view.nbytes), 0.0, o_view.nbytes + 3 * u_view.nbytes).typed(inputs, outputs)


# ---------------------------------------------------------------- top k

TOPK_DTYPES = tuple(
    np.dtype(t) for t in ("float32", "float64", "int32", "int64", "int16", "int8", "uint8", "uint16", "uint32", "uint64")
)
"""What `topk` ranks, in the order of its table."""

cdef struct topk_t:
    topk_fn fn
    uint64_t flip
    Py_ssize_t lines, n, inner, k, item, per_chunk


cdef inline void topk_line(const topk_t *g, const char *x, char *values, int64_t *indices, ranked_t *heap) noexcept nogil:
    cdef Py_ssize_t i
    g.fn(x, g.n, g.inner, g.k, g.flip, heap)
    for i in range(g.k):
        indices[i * g.inner] = heap[i].index
        if g.item == 4:
            memcpy(values + i * g.inner * 4, x + heap[i].index * g.inner * 4, 4)
        else:
            memcpy(values + i * g.inner * g.item, x + heap[i].index * g.inner * g.item, g.item)


cdef void topk_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const topk_t *g = <const topk_t *>geometry
    cdef Py_ssize_t line, outer, column
    for line in range(chunk * g.per_chunk, min(chunk * g.per_chunk + g.per_chunk, g.lines)):
        outer = line // g.inner
        column = line % g.inner
        topk_line(g, <const char *>args[0] + (outer * g.n * g.inner + column) * g.item,
                  <char *>args[1] + (outer * g.k * g.inner + column) * g.item,
                  <int64_t *>args[2] + outer * g.k * g.inner + column, <ranked_t *>scratch)


def build_topk(inputs, outputs, *, axis, largest=True) -> Launch:
    """The k best along an axis and their indices, best first; of equals the lower index first.

    NaN is larger than every number, -0 equals 0.

    Parameters
    ----------
    inputs : tuple of one View
        Plain, of a dtype of TOPK_DTYPES.
    outputs : tuple of two Views
        Values, of the input's dtype, and indices, int64: k of them along the axis.
    axis : int
        0 to rank - 1.

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (x_view,), (v_view, i_view) = inputs, outputs
    cdef topk_t g
    shape = x_view.shape
    if not all(v.is_plain for v in (x_view, v_view, i_view)) or v_view.dtype != x_view.dtype or i_view.dtype != np.int64:
        raise ValueError("topk: all must be plain, values of the input's dtype, indices int64")
    if x_view.dtype not in TOPK_DTYPES or not 0 <= axis < len(shape) or v_view.shape != i_view.shape:
        raise ValueError(f"topk: {x_view.dtype} of {shape} along axis {axis}")
    g.k = v_view.shape[axis] if len(v_view.shape) == len(shape) else -1
    if v_view.shape != shape[:axis] + (g.k,) + shape[axis + 1 :] or not 0 <= g.k <= shape[axis]:
        raise ValueError(f"topk: {v_view.shape} from {shape} along axis {axis}")
    g.fn = topks[<int>TOPK_DTYPES.index(x_view.dtype)]
    g.item, g.n = x_view.dtype.itemsize, shape[axis]
    g.flip = 0 if largest else ((<uint64_t>1 << (8 * g.item)) - 1 if g.item < 8 else ~<uint64_t>0)
    g.inner = 1
    for extent in shape[axis + 1 :]:
        g.inner *= extent
    g.lines = g.inner
    for extent in shape[:axis]:
        g.lines *= extent
    g.per_chunk = per_chunk(g.lines, g.n)
    return make_launch("topk", topk_chunk, &g, sizeof(g), ceil_div(g.lines, g.per_chunk) if g.k else 0, g.k * sizeof(ranked_t),
                       (x_view.nbytes, v_view.nbytes, i_view.nbytes), 0.0,
                       x_view.nbytes + v_view.nbytes + i_view.nbytes).typed(inputs, outputs)


def best_of_line(const float[::1] x, Py_ssize_t k, bint largest):
    """The k best of a vector and their indices, as `topk` has them.

    Parameters
    ----------
    x : ndarray
        float32, C-contiguous.
    k : int
        1 to the length of x.
    largest : bool

    Returns
    -------
    list of ndarray
        float32 and int64 (k,).
    """
    cdef ranked_t *heap
    cdef Py_ssize_t i, n = x.shape[0]
    cdef float[::1] v
    cdef int64_t[::1] at
    if not 1 <= k <= n:
        raise ValueError(f"best_of_line: {k} of {n}")
    values, indices = np.empty(k, np.float32), np.empty(k, np.int64)
    v, at = values, indices
    heap = <ranked_t *>malloc(k * sizeof(ranked_t))
    if heap == NULL:
        raise MemoryError("best_of_line")
    with nogil:
        topks[0](<const char *>&x[0], n, 1, k, 0 if largest else <uint64_t>0xffffffff, heap)
        for i in range(k):
            at[i] = heap[i].index
            v[i] = x[heap[i].index]
    free(heap)
    return [values, indices]


# ---------------------------------------------------------------- what is not zero

_NONZERO = {"float32": 0, "float64": 1, "bool": 2, "uint8": 2, "int8": 2, "uint16": 3, "int16": 3, "uint32": 4, "int32": 4,
            "uint64": 5, "int64": 5}
NONZERO_DTYPES = tuple(np.dtype(t) for t in _NONZERO)
"""What `find_nonzero` looks at."""
_NONZERO_OF = {np.dtype(t): i for t, i in _NONZERO.items()}


def find_nonzero(x):
    """Coordinates of the elements that are not zero, in C order.

    Parameters
    ----------
    x : ndarray
        C-contiguous, of a dtype of NONZERO_DTYPES; NaN is not zero.

    Returns
    -------
    ndarray
        int64 (rank, elements), a scalar counting as a vector of one.
    """
    cdef int kind = _NONZERO_OF[x.dtype]
    cdef Py_ssize_t n = x.size, count = 0, i, rest
    cdef int rank = max(x.ndim, 1), axis
    cdef const unsigned char[::1] data
    cdef int64_t[:, ::1] out
    cdef int64_t *flat
    cdef Py_ssize_t extents[32]
    if n == 0:
        return np.empty((rank, 0), np.int64)
    if x.ndim > 32:
        raise ValueError(f"find_nonzero: {x.ndim} axes")
    data = x.reshape(-1).view(np.uint8)
    for axis in range(x.ndim):
        extents[axis] = x.shape[axis]
    flat = <int64_t *>malloc(n * sizeof(int64_t))
    if flat == NULL:
        raise MemoryError("find_nonzero")
    try:
        with nogil:
            count = nonzeros[kind](<const char *>&data[0], n, flat)
        result = np.empty((rank, count), np.int64)
        if count == 0:
            return result
        out = result
        with nogil:
            if rank == 1:
                memcpy(&out[0, 0], flat, count * sizeof(int64_t))
            else:
                for i in range(count):
                    rest = flat[i]
                    for axis in range(rank - 1, 0, -1):
                        (&out[axis, 0])[i] = rest % extents[axis]
                        rest = rest // extents[axis]
                    (&out[0, 0])[i] = rest
    finally:
        free(flat)
    return result


# ---------------------------------------------------------------- non-maximum suppression

cdef inline uint64_t score_key(float v) noexcept nogil:
    """In the order of the scores; NaN, which no comparison prefers, comes last."""
    cdef unsigned int b
    if v != v:
        return 0
    v = v + 0
    memcpy(&b, &v, 4)
    return <uint64_t>(~b if b >> 31 else b | <unsigned int>0x80000000)


cdef Py_ssize_t suppress_class(const KernelTable *table, const float *edges, Py_ssize_t n, const float *scores, bint filtered,
                               float lowest, float threshold, Py_ssize_t most, ranked_t *order, float *kept, Py_ssize_t room,
                               int64_t *found) noexcept nogil:
    """Indices into `found` of the boxes of one class that stay; `kept` is five arrays of `room` floats."""
    cdef Py_ssize_t i, left = 0, count = 0, at
    cdef const float *box
    memset(kept + 4 * room, 0, room * sizeof(float))  # what is left of another class has no area
    for i in range(n):
        if filtered and not scores[i] > lowest:
            continue
        order[left].key = ~score_key(scores[i])  # a heap has its worst on top: the best, with the keys turned around
        order[left].index = -i
        left = left + 1
    for i in range(left // 2 - 1, -1, -1):
        sift_down(order, i, left)
    while left and count < most:
        at = -order[0].index
        left = left - 1
        order[0] = order[left]
        if left:
            sift_down(order, 0, left)
        box = edges + 5 * at
        if table.move.overlaps(kept, room, count, box, threshold):
            continue
        for i in range(5):
            kept[i * room + count] = box[i]
        found[count] = at
        count = count + 1
    return count


def suppress(boxes, scores, Py_ssize_t most, float threshold, lowest, bint center):
    """Greedy non-maximum suppression, class by class.

    Parameters
    ----------
    boxes : ndarray
        float32 (batch, n, 4), C-contiguous: two opposite corners, or centre, width and height where `center`.
    scores : ndarray
        float32 (batch, classes, n), C-contiguous.
    most : int
        Boxes that stay at most, per class.
    threshold : float
        A box goes when its intersection over union with a better one is above it.
    lowest : float or None
        Only boxes whose score is above it count.

    Returns
    -------
    ndarray
        int64 (boxes that stay, 3): batch, class and box, by falling score within a class, the lower index first among equals.
    """
    cdef const float[:, :, ::1] b = boxes
    cdef const float[:, :, ::1] s = scores
    cdef Py_ssize_t batch = s.shape[0], classes = s.shape[1], n = s.shape[2], i, c, k, total = 0, count, room
    cdef const KernelTable *table = current_table()
    cdef bint filtered = lowest is not None
    cdef float low = lowest if filtered else 0, half, w, h, x0, x1, y0, y1
    cdef float *edges = NULL
    cdef float *kept = NULL
    cdef ranked_t *order = NULL
    cdef int64_t *found = NULL
    cdef int64_t[:, ::1] out
    if b.shape[0] != batch or b.shape[1] != n or b.shape[2] != 4:
        raise ValueError(f"suppress: boxes {boxes.shape} and scores {scores.shape}")
    if most < 1 or n == 0 or batch * classes == 0:
        return np.empty((0, 3), np.int64)
    most = min(most, n)
    room = n + 64
    edges = <float *>malloc(5 * n * sizeof(float))
    kept = <float *>malloc(5 * room * sizeof(float))
    order = <ranked_t *>malloc(n * sizeof(ranked_t))
    found = <int64_t *>malloc(n * sizeof(int64_t))
    pieces = []
    try:
        if edges == NULL or kept == NULL or order == NULL or found == NULL:
            raise MemoryError("suppress")
        memset(kept, 0, 4 * room * sizeof(float))
        for i in range(batch):
            with nogil:
                for k in range(n):
                    if center:
                        w = b[i, k, 2] / 2
                        h = b[i, k, 3] / 2
                        x0 = b[i, k, 0] - w
                        x1 = b[i, k, 0] + w
                        y0 = b[i, k, 1] - h
                        y1 = b[i, k, 1] + h
                    else:
                        # a NaN among the corners is in both edges, as numpy.minimum has it
                        x0 = b[i, k, 0] if b[i, k, 0] < b[i, k, 2] or b[i, k, 0] != b[i, k, 0] else b[i, k, 2]
                        x1 = b[i, k, 0] if b[i, k, 0] > b[i, k, 2] or b[i, k, 0] != b[i, k, 0] else b[i, k, 2]
                        y0 = b[i, k, 1] if b[i, k, 1] < b[i, k, 3] or b[i, k, 1] != b[i, k, 1] else b[i, k, 3]
                        y1 = b[i, k, 1] if b[i, k, 1] > b[i, k, 3] or b[i, k, 1] != b[i, k, 1] else b[i, k, 3]
                    edges[5 * k] = x0
                    edges[5 * k + 1] = x1
                    edges[5 * k + 2] = y0
                    edges[5 * k + 3] = y1
                    edges[5 * k + 4] = (x1 - x0) * (y1 - y0)
            for c in range(classes):
                with nogil:
                    count = suppress_class(table, edges, n, &s[i, c, 0], filtered, low, threshold, most, order, kept, room, found)
                if count == 0:
                    continue
                one = np.empty((count, 3), np.int64)
                out = one
                for k in range(count):
                    out[k, 0] = i
                    out[k, 1] = c
                    out[k, 2] = found[k]
                pieces.append(one)
    finally:
        free(edges)
        free(kept)
        free(order)
        free(found)
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces) if pieces else np.empty((0, 3), np.int64)
