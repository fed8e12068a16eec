# cython: language_level=3
"""Recurrent layers: LSTM, GRU and RNN over steps that depend on each other.

What a step adds from x does not depend on the steps: one dense layer (`dense`) gives the products with W, and the biases, of all
steps and directions at once. What is left for `recurrent` is, step by step, the product of R and the state, and the cell.

Layout
    sums     plain, a row (directions, gates, P) for every step of every sequence: the products with W. P is the hidden size rounded
             up to whole registers, so that no gate has a rest; what stands behind the hidden size is never read by a product
    R        for each direction panels of the convolution, [panel][k][2 * lanes]: those of all gates (LSTM, RNN), or of z and r and
             then of h (GRU). Gates have P outputs; the last panel is filled with zeros
    y        plain, [step][direction][sequence][unit], or with the sequences first: strides say which, so nothing is transposed

Loop order of a chunk
    A chunk is one direction of some sequences, and walks all steps by itself: a step is a few microseconds, less than threads take
    to meet between two of them. The state and the sums of a step lie in scratch. A lone sequence has a tile of its own
    (tiles/recurrent.pyx), which goes over R forward and backward in turn; several are the pixels of a convolution's tile, so that
    R is read once for as many as a tile holds. Sequences that have ended are multiplied along with the others, and nothing of it is
    kept.

Cells
    LSTM and GRU with the functions that they have by default are one loop over registers; whatever else ONNX allows is made of the
    tiles of activations and binary operations, gate by gate.

A sum runs over k in order, from the sum of x on; results depend on neither the number of threads nor the other sequences.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

import numpy as np

from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, larger, smaller
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.table cimport ACT_AFFINE, ACT_CLIP, ACT_SIGMOID, ACT_TANH, KernelTable
from cnnengine._kernels.tiles.conv cimport LINE, conv_tile_t
from cnnengine._kernels.tiles.vector cimport MODE_FULL, OP_ADD, OP_MUL

from cnnengine._kernels import ACTIVATIONS
from cnnengine._kernels.pack import pack_bias, pack_dense

cdef enum:
    CELL_LSTM = 0
    CELL_GRU = 1
    CELL_RNN = 2

cdef enum:
    FUNCTIONS = 3                       # of a direction: f, g, h
    PARTS = 3                           # activations that one function is made of
    ARG_SUMS = 0
    ARG_WEIGHTS = 1
    ARG_AGAIN = 2
    ARG_LENGTHS = 3
    ARG_H = 4
    ARG_C = 5
    ARG_PEEPHOLES = 6
    ARG_Y = 7
    ARG_LAST_H = 8
    ARG_LAST_C = 9
    ARG_WORDS = 10

CELLS = {"LSTM": CELL_LSTM, "GRU": CELL_GRU, "RNN": CELL_RNN}
GATES = (4, 3, 1)


cdef struct function_t:
    int n
    int kind[PARTS]
    float alpha[PARTS]
    float beta[PARTS]


cdef struct recurrent_t:
    const KernelTable *table
    int cell, gates
    int linear                          # GRU: the state is multiplied before it is reset
    int coupled                         # LSTM: the forget gate is one minus the input gate
    int fused                           # the cell's functions are those of its tile
    int reverse                         # direction 0 goes backward through the steps; direction 1 always does
    int has_y, has_h, has_c
    float clip                          # of sums, infinite where there is none
    function_t functions[2][FUNCTIONS]
    Py_ssize_t steps, batch, hidden, padded
    Py_ssize_t panels, more_panels      # of the first product, of the second one (GRU)
    Py_ssize_t weights                  # floats of a direction's R
    Py_ssize_t rows, row_chunks         # sequences of a chunk
    Py_ssize_t sums_step, sums_row      # floats between steps and sequences
    Py_ssize_t y_step, y_row, y_direction
    Py_ssize_t state_row, state_direction       # of h and c as they come and go
    # scratch: floats from its start to the arrays, and between the sequences of an array
    Py_ssize_t h_at, c_at, gates_at, again_at, lengths_at
    Py_ssize_t state_stride, gates_stride


cdef inline void multiply(const recurrent_t *g, const float *x, Py_ssize_t rows, const float *w, Py_ssize_t panels, int backwards,
                          float *y, Py_ssize_t y_stride) noexcept nogil:
    """y += w @ x for states of `state_stride`."""
    cdef const KernelTable *table = g.table
    cdef Py_ssize_t lanes = table.lanes, zero = 0, panel = 0, blocks, count, row
    cdef Py_ssize_t size = g.hidden * 2 * lanes
    cdef bint wide = table.conv.blocked[4][0] != NULL and rows <= table.conv.width[4]
    cdef conv_tile_t t
    if rows == 1:
        table.recurrent.vector_product(x, w, g.hidden, panels, backwards, y)
        return
    t.bias = y
    t.residual = NULL
    t.taps = &zero
    t.skips = NULL
    t.n_taps = 1
    t.planes = g.hidden // lanes
    t.channels = lanes
    t.partial = g.hidden % lanes
    t.xplane = t.yplane = lanes
    t.xstep = g.state_stride
    t.ystep = y_stride
    t.rplane = t.rstep = 0
    t.ahead = NULL
    t.ahead_end = NULL
    t.ahead_lines = 0
    t.first = 0                         # the sums of x stand in y
    t.last = 1
    t.low = -INFINITY
    t.high = INFINITY
    while panel < panels:
        blocks = 4 if wide and panel + 2 <= panels else 2
        t.w = w + panel * size
        t.w2 = t.w + size
        row = 0
        while row < rows:
            count = smaller(rows - row, table.conv.width[blocks])
            t.x = x + row * g.state_stride
            t.y = y + row * y_stride + panel * 2 * lanes
            table.conv.blocked[blocks][0](<int>count, 1, &t)
            row = row + count
        panel = panel + blocks // 2


cdef inline void apply(const recurrent_t *g, const function_t *f, const float *x, float *y, Py_ssize_t n) noexcept nogil:
    """y = f(x)."""
    cdef int i
    if f.n == 0 and x != y:
        memcpy(y, x, n * sizeof(float))
    for i in range(f.n):
        g.table.vector.activate(f.kind[i], x if i == 0 else y, y, n, f.alpha[i], f.beta[i])


cdef inline void bound(const recurrent_t *g, float *x, Py_ssize_t n) noexcept nogil:
    if g.clip != INFINITY:
        g.table.vector.activate(ACT_CLIP, x, x, n, -g.clip, g.clip)


cdef inline void combine(const recurrent_t *g, int op, const float *a, const float *b, float *y, Py_ssize_t n) noexcept nogil:
    g.table.vector.binary(op, a, MODE_FULL, b, MODE_FULL, y, n)


cdef inline void complement(const recurrent_t *g, const float *x, float *y) noexcept nogil:
    """y = 1 - x."""
    g.table.vector.activate(ACT_AFFINE, x, y, g.padded, -1, 1)


cdef void lstm_row(const recurrent_t *g, const function_t *f, const float *peepholes, float *gates, float *c, float *h,
                   float *spare) noexcept nogil:
    """i = f(i + Pi * c), f = f(f + Pf * c), c = f * c + i * g(c gate), o = f(o + Po * c), h = o * h(c).

    The clip bounds what goes into f and g; h sees the cell as it is.
    """
    cdef Py_ssize_t n = g.padded, hidden = g.hidden
    cdef float *out = gates + n
    cdef float *forget = gates + 2 * n
    cdef float *cell = gates + 3 * n
    if peepholes != NULL:
        combine(g, OP_MUL, peepholes, c, spare, hidden)
        combine(g, OP_ADD, gates, spare, gates, hidden)
    bound(g, gates, n)
    apply(g, f, gates, gates, n)
    if g.coupled:
        complement(g, gates, forget)
    else:
        if peepholes != NULL:
            combine(g, OP_MUL, peepholes + 2 * hidden, c, spare, hidden)
            combine(g, OP_ADD, forget, spare, forget, hidden)
        bound(g, forget, n)
        apply(g, f, forget, forget, n)
    bound(g, cell, n)
    apply(g, f + 1, cell, cell, n)
    combine(g, OP_MUL, forget, c, c, n)
    combine(g, OP_MUL, gates, cell, cell, n)
    combine(g, OP_ADD, c, cell, c, n)
    if peepholes != NULL:
        combine(g, OP_MUL, peepholes + hidden, c, spare, hidden)
        combine(g, OP_ADD, out, spare, out, hidden)
    bound(g, out, n)
    apply(g, f, out, out, n)
    apply(g, f + 2, c, h, n)
    combine(g, OP_MUL, out, h, h, n)


cdef void gru_update(const recurrent_t *g, const function_t *f, float *gates, float *h) noexcept nogil:
    """h = (1 - z) * g(h gate) + z * h; z stands ready."""
    cdef Py_ssize_t n = g.padded
    cdef float *hidden = gates + 2 * n
    bound(g, hidden, n)
    apply(g, f + 1, hidden, hidden, n)
    # the reset gate has served
    complement(g, gates, gates + n)
    combine(g, OP_MUL, gates + n, hidden, hidden, n)
    combine(g, OP_MUL, gates, h, h, n)
    combine(g, OP_ADD, hidden, h, h, n)


cdef void recurrent_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const recurrent_t *g = <const recurrent_t *>geometry
    cdef const KernelTable *table = g.table
    cdef Py_ssize_t direction = chunk // g.row_chunks, first = chunk % g.row_chunks * g.rows, rows, i, s, t, longest = 0
    cdef Py_ssize_t n = g.padded, state = g.hidden * sizeof(float)
    cdef bint back = direction == 1 or g.reverse
    cdef const float *sums = <const float *>args[ARG_SUMS] + first * g.sums_row + direction * g.gates * n
    cdef const float *w = <const float *>args[ARG_WEIGHTS] + direction * g.weights
    cdef const float *more = w + g.panels * g.hidden * 2 * table.lanes
    cdef const float *again_bias = <const float *>args[ARG_AGAIN]
    cdef const int *lengths = <const int *>args[ARG_LENGTHS]
    cdef const float *before
    cdef const float *peepholes = <const float *>args[ARG_PEEPHOLES]
    cdef const function_t *f = g.functions[direction]
    cdef float *y = <float *>args[ARG_Y] + first * g.y_row + direction * g.y_direction
    cdef float *at = <float *>scratch
    cdef float *h = at + g.h_at
    cdef float *c = at + g.c_at
    cdef float *gates = at + g.gates_at
    cdef float *again = at + g.again_at
    cdef float *to
    cdef Py_ssize_t *ends = <Py_ssize_t *>(at + g.lengths_at)
    cdef int64_t *words = <int64_t *>args[ARG_WORDS]
    rows = smaller(g.batch - first, g.rows)
    if peepholes != NULL:
        peepholes = peepholes + direction * 3 * g.hidden
    if again_bias != NULL:
        again_bias = again_bias + direction * n
    if words != NULL:
        words = words + 3 * chunk
        words[0] = words[1] = words[2] = 0
    for i in range(rows):
        ends[i] = g.steps
        if lengths != NULL:
            ends[i] = lengths[first + i]
            if ends[i] < 0 or ends[i] > g.steps:
                if words != NULL and words[0] == 0:
                    words[0] = 1
                    words[1] = ends[i]
                ends[i] = 0
        longest = larger(longest, ends[i])
    # states as they come in; gates of sequences without any step are multiplied too, so they hold numbers
    memset(h, 0, rows * g.state_stride * sizeof(float))
    memset(c, 0, rows * g.state_stride * sizeof(float))
    memset(gates, 0, rows * g.gates_stride * sizeof(float))
    memset(again, 0, rows * g.state_stride * sizeof(float))
    for i in range(rows):
        if args[ARG_H] != NULL:
            before = <const float *>args[ARG_H] + direction * g.state_direction + (first + i) * g.state_row
            memcpy(h + i * g.state_stride, before, state)
        if args[ARG_C] != NULL:
            before = <const float *>args[ARG_C] + direction * g.state_direction + (first + i) * g.state_row
            memcpy(c + i * g.state_stride, before, state)

    for s in range(longest):
        for i in range(rows):
            if s < ends[i]:
                t = ends[i] - 1 - s if back else s
                memcpy(gates + i * g.gates_stride, sums + t * g.sums_step + i * g.sums_row, g.gates * n * sizeof(float))
        multiply(g, h, rows, w, g.panels, s & 1, gates, g.gates_stride)
        if g.cell == CELL_GRU:
            # what the reset gate acts on: the state's product, or the state
            for i in range(rows):
                if g.linear:
                    to = again + i * g.state_stride
                    if again_bias != NULL:
                        memcpy(to, again_bias, n * sizeof(float))
                    else:
                        memset(to, 0, n * sizeof(float))
                if not g.fused and s < ends[i]:
                    to = gates + i * g.gates_stride
                    bound(g, to, 2 * n)
                    apply(g, f, to, to, 2 * n)
                    if not g.linear:
                        combine(g, OP_MUL, to + n, h + i * g.state_stride, again + i * g.state_stride, n)
            if g.linear:
                multiply(g, h, rows, more, g.more_panels, s & 1, again, g.state_stride)
            else:
                multiply(g, again, rows, more, g.more_panels, s & 1, gates + 2 * n, g.gates_stride)
        for i in range(rows):
            if s >= ends[i]:
                continue
            to = gates + i * g.gates_stride
            if g.cell == CELL_LSTM:
                if g.fused:
                    table.recurrent.lstm(to, n, c + i * g.state_stride, h + i * g.state_stride)
                else:
                    lstm_row(g, f, peepholes, to, c + i * g.state_stride, h + i * g.state_stride, again + i * g.state_stride)
            elif g.cell == CELL_GRU:
                if g.fused:
                    table.recurrent.gru(to, again + i * g.state_stride, n, h + i * g.state_stride)
                else:
                    if g.linear:
                        combine(g, OP_MUL, to + n, again + i * g.state_stride, again + i * g.state_stride, n)
                        combine(g, OP_ADD, to + 2 * n, again + i * g.state_stride, to + 2 * n, n)
                    gru_update(g, f, to, h + i * g.state_stride)
            else:
                bound(g, to, n)
                apply(g, f, to, h + i * g.state_stride, n)
            if g.has_y:
                t = ends[i] - 1 - s if back else s
                memcpy(y + t * g.y_step + i * g.y_row, h + i * g.state_stride, state)

    for i in range(rows):
        if g.has_y:
            for t in range(ends[i], g.steps):
                memset(y + t * g.y_step + i * g.y_row, 0, state)
        t = direction * g.state_direction + (first + i) * g.state_row
        if g.has_h:
            memcpy(<float *>args[ARG_LAST_H] + t, h + i * g.state_stride, state)
        if g.has_c:
            memcpy(<float *>args[ARG_LAST_C] + t, c + i * g.state_stride, state)


def padded_size(hidden):
    """The units that a gate of `hidden` ones has where it lies: whole registers."""
    lanes = current_table().lanes
    return ceil_div(hidden, lanes) * lanes


def pad_gates(w, gates):
    """Rows (..., gates * hidden, columns) with zeros after each gate, up to whole registers: (..., gates * padded, columns)."""
    hidden = w.shape[-2] // gates
    whole = np.zeros((*w.shape[:-2], gates, padded_size(hidden), w.shape[-1]), np.float32)
    whole[..., :hidden, :] = w.reshape(*w.shape[:-2], gates, hidden, w.shape[-1])
    return whole.reshape(*w.shape[:-2], -1, w.shape[-1])


def pack_input_weights(w, gates, empty):
    """W (directions, gates * hidden, input) as `build_dense` reads it."""
    return pack_dense(pad_gates(np.asarray(w, np.float32), gates).reshape(-1, w.shape[-1]), empty)


def pack_input_bias(bias, gates, empty):
    """A bias (directions, gates * hidden), or its gates' part of it, for `build_dense`."""
    padded = pad_gates(np.asarray(bias, np.float32)[..., None], gates).reshape(-1)
    return pack_bias(padded, len(padded), empty)


def floats(n):
    """Memory for a moment."""
    return np.empty(n, np.float32)


def pack_state_weights(r, cell, empty):
    """R (directions, gates * hidden, hidden) as `build_recurrent` reads it."""
    gates = GATES[CELLS[cell]]
    whole = pad_gates(np.asarray(r, np.float32), gates)
    width = 2 * current_table().lanes
    parts = []
    for rows in whole:
        of = np.split(rows, [2 * len(rows) // 3]) if cell == "GRU" else [rows]
        for part in of:
            full = np.zeros((ceil_div(len(part), width) * width, part.shape[1]), np.float32)
            full[: len(part)] = part
            parts.append(pack_dense(full, floats))
    return np.concatenate(parts, out=empty(sum(part.size for part in parts)))


cdef int set_function(function_t *f, parts) except -1:
    if len(parts) > PARTS:
        raise ValueError(f"recurrent: a function of {len(parts)} parts")
    f.n = len(parts)
    for i, part in enumerate(parts):
        f.kind[i] = ACTIVATIONS[part.kind]
        f.alpha[i] = part.alpha
        f.beta[i] = part.beta
    return 0


def build_recurrent(inputs, outputs, *, cell, hidden, functions, reverse=False, batch_first=False, linear=False, coupled=False,
                    clip=INFINITY) -> Launch:
    """Geometry of the steps of a recurrent layer, whose products with x are made.

    Parameters
    ----------
    inputs : sums, weights, again, lengths, h, c, peepholes
        sums are plain (S, N, directions * gates * padded), or (N, S, ...) with `batch_first`; weights as of `pack_state_weights`;
        again is None or the bias of the product that a linear GRU resets, padded. Then plain and None where absent: lengths (N,) of
        int32, h and c (directions, N, hidden), peepholes (directions, 3 * hidden).
    outputs : y, last_h, last_c and, where there are lengths, words
        y is (S, directions, N, hidden), the states as h; with `batch_first` (N, S, directions, hidden) and (N, directions, hidden).
        Any of them may have no elements, and is not written then. words are three int64 for each chunk: whether a length is
        outside of 0 to S, that length, 0; it counts as 0.
    cell : {"LSTM", "GRU", "RNN"}
    functions : for each direction f, g and h, as many as the cell has; each a tuple of up to three activations in turn
    reverse : bool
        The first direction begins at the end.
    linear, coupled : bool
        ONNX's linear_before_reset and input_forget.
    clip : float
    """
    cdef recurrent_t g
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, directions = len(functions), chunks
    sums, weights, again, lengths, hv, cv, peepholes = inputs
    y, last_h, last_c, *words = outputs
    memset(&g, 0, sizeof(g))
    g.table = table
    g.cell = CELLS[cell]
    g.gates = GATES[g.cell]
    g.hidden = hidden
    g.padded = padded_size(hidden)
    if len(sums.shape) != 3 or directions not in (1, 2) or sums.shape[2] != directions * g.gates * g.padded:
        raise ValueError(f"recurrent: sums {sums.shape} for {directions} directions of {cell}, {hidden} units")
    g.batch, g.steps = sums.shape[:2] if batch_first else sums.shape[1::-1]
    row = sums.shape[2]
    g.sums_step, g.sums_row = (row, g.steps * row) if batch_first else (g.batch * row, row)
    y_shape = (g.batch, g.steps, directions, g.hidden) if batch_first else (g.steps, directions, g.batch, g.hidden)
    state_shape = (g.batch, directions, g.hidden) if batch_first else (directions, g.batch, g.hidden)
    if batch_first:
        g.y_row, g.y_step, g.y_direction = g.steps * directions * g.hidden, directions * g.hidden, g.hidden
        g.state_row, g.state_direction = directions * g.hidden, g.hidden
    else:
        g.y_row, g.y_step, g.y_direction = g.hidden, directions * g.batch * g.hidden, g.batch * g.hidden
        g.state_row, g.state_direction = g.hidden, g.batch * g.hidden
    for name, view, shape in (
        ("lengths", lengths, (g.batch,)), ("h", hv, state_shape), ("c", cv, state_shape),
        ("peepholes", peepholes, (directions, 3 * g.hidden)), ("y", y, y_shape), ("last_h", last_h, state_shape),
        ("last_c", last_c, state_shape),
    ):
        if view is not None and (not view.is_plain or (tuple(view.shape) != shape and (view.size or name not in ("y", "last_h", "last_c")))):
            raise ValueError(f"recurrent: {name} {view.shape} for {shape}")
    if (cv is not None or peepholes is not None or last_c.size) and g.cell != CELL_LSTM:
        raise ValueError(f"recurrent: a cell's state for {cell}")
    if lengths is not None and lengths.dtype != np.dtype(np.int32):
        raise ValueError(f"recurrent: lengths of {lengths.dtype}")
    g.has_y = y.size > 0
    g.has_h = last_h.size > 0
    g.has_c = last_c.size > 0
    g.reverse = reverse
    g.linear = linear and g.cell == CELL_GRU
    g.coupled = coupled and g.cell == CELL_LSTM
    g.clip = clip
    standard = True
    for i, direction in enumerate(functions):
        if len(direction) != (3, 2, 1)[g.cell]:
            raise ValueError(f"recurrent: {len(direction)} functions for {cell}")
        for j, parts in enumerate(direction):
            set_function(&g.functions[i][j], parts)
            if g.functions[i][j].n != 1 or g.functions[i][j].kind[0] != (ACT_SIGMOID if j == 0 else ACT_TANH):
                standard = False
    g.fused = standard and g.clip == INFINITY and (
        (g.cell == CELL_LSTM and peepholes is None and not g.coupled) or (g.cell == CELL_GRU and g.linear)
    )
    g.panels = ceil_div((2 if g.cell == CELL_GRU else g.gates) * g.padded // lanes, 2)
    g.more_panels = ceil_div(g.padded // lanes, 2) if g.cell == CELL_GRU else 0
    g.weights = (g.panels + g.more_panels) * g.hidden * 2 * lanes
    # one reading of R serves as many sequences as a tile holds
    g.rows = table.conv.width[2]
    g.row_chunks = ceil_div(g.batch, g.rows)
    if g.row_chunks:
        g.rows = ceil_div(g.batch, g.row_chunks)
    chunks = directions * g.row_chunks
    if lengths is not None and words and (words[0].dtype != np.dtype(np.int64) or words[0].size < 3 * chunks):
        raise ValueError(f"recurrent: words {words[0].shape} for {chunks} chunks")
    # a line more: states of neighbouring sequences begin in different sets of the cache; a last panel may end beyond the gates
    g.state_stride = (g.padded + 2 * lanes + 2 * LINE - 1) // LINE * LINE
    g.gates_stride = (g.gates * g.padded + 2 * lanes + 2 * LINE - 1) // LINE * LINE
    g.h_at = LINE
    g.c_at = g.h_at + g.rows * g.state_stride
    g.again_at = g.c_at + g.rows * g.state_stride
    g.gates_at = g.again_at + g.rows * g.state_stride
    g.lengths_at = g.gates_at + g.rows * g.gates_stride
    return make_launch(
        f"recurrent {cell}",
        recurrent_chunk,
        &g,
        sizeof(g),
        chunks,
        4 * g.lengths_at + sizeof(Py_ssize_t) * g.rows,
        (
            sums.nbytes,
            4 * directions * g.weights,
            4 * directions * g.padded if again is not None else 0,
            *(v.nbytes if v is not None else 0 for v in (lengths, hv, cv, peepholes)),
            y.nbytes,
            last_h.nbytes,
            last_c.nbytes,
            24 * chunks if words else 0,
        ),
        2.0 * g.steps * g.batch * directions * g.gates * g.hidden * g.hidden,
        sums.nbytes + y.nbytes + 4.0 * directions * g.weights,
    ).typed(inputs, outputs)


def chunks_of(batch):
    """How many chunks a direction of so many sequences has: each reports a bad length in three words."""
    rows = current_table().conv.width[2]
    return ceil_div(batch, rows)
