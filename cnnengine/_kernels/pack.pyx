# cython: language_level=3
"""Packers: weights and biases in the order in which kernels read them.

Layout
    pack_conv        panels of two output blocks (the last one of an odd number: one), one after another, group by group:
                     [panel][plane][tap][channel of the plane][B * lanes]; only the last plane of a group may have fewer channels
    pack_dense       the same for a kernel of one tap, [panel][K][B * lanes]
    pack_depthwise   [block][tap][channel of the group][lane]
    pack_bias        [group][block][lane]
    Outputs beyond the last one are zeros.
    A packer takes its memory from `empty`, a callable that gives an uninitialised 1-D float32 array of so many floats whose data is
    64-byte aligned: whoever asks for a constant knows what it is kept with.

Loop order
    Weights are read as they come in, row by row, in a file perhaps: some taps of the rows of a panel at a time are copied side by
    side and transposed by vectors. A matrix whose columns are contiguous is read column by column.
"""

from libc.string cimport memcpy, memset

import numpy as np

from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, smaller
from cnnengine._kernels.table cimport KernelTable

cdef extern from "portable.h" nogil:
    void fetch_ahead(const char *p, Py_ssize_t size) noexcept


def pack_conv(w, Py_ssize_t groups, Py_ssize_t channels, empty):
    """Weights (O, C / groups, taps...) as `build_conv` reads them.

    Parameters
    ----------
    w : ndarray of float32, shape (O, C / groups, ...)
        The axes from the third on are the kernel taps, in the order of `taps`.
    groups : int
    channels : int
        Channels of one input plane: the lanes, or 1.
    empty : callable
        Gives the memory.

    Returns
    -------
    ndarray of float32, 1-D
    """
    w = np.asarray(w, np.float32)
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, o = w.shape[0], cg = w.shape[1], og = o // groups, group
    cdef Py_ssize_t n_taps = int(np.prod(w.shape[2:], dtype=np.int64)), size = ceil_div(og, lanes) * lanes * cg * n_taps
    cdef bint columns = n_taps == 1 and o > 1 and cg > 1 and w.strides[0] == 4
    packed = empty(groups * size)
    cdef float[::1] target = packed
    if target.shape[0] != groups * size:
        raise ValueError("pack_conv: memory of the wrong size")
    if target.shape[0] == 0:
        return packed
    w = w.reshape(o, cg, n_taps)
    if not columns:
        w = np.ascontiguousarray(w)
    cdef const char *source = <const char *><size_t>w.ctypes.data      # perhaps unaligned: a view of a file
    cdef Py_ssize_t step = w.strides[1]
    with nogil:
        for group in range(groups):
            if columns:
                pack_columns(source + group * og * sizeof(float), step, &target[group * size], og, cg, lanes)
            else:
                pack_group(source + group * og * cg * n_taps * sizeof(float), &target[group * size], og, cg, n_taps, channels, table)
    return packed


def scale_rows(source, scale, empty):
    """float32 weights times a float64 number per index of their first axis: the products of float64, rounded once.

    Parameters
    ----------
    source : ndarray of float32
        C-contiguous, or a matrix whose columns are.
    scale : ndarray of float64, shape (len(source), 1, ...)
    empty : callable
        Gives memory for so many floats, 1-D.

    Returns
    -------
    ndarray of float32, or None
        In the source's order; None for other forms, which NumPy multiplies.
    """
    cdef Py_ssize_t rows = source.shape[0], columns, stride, i, k
    if source.dtype != np.float32 or source.size == 0 or scale.size != rows or scale.ndim != source.ndim or scale.shape[0] != rows:
        return None
    cdef const double[::1] factors = np.ascontiguousarray(scale, np.float64).reshape(-1)
    cdef float[::1] out
    cdef const char *x = <const char *><size_t>source.ctypes.data       # perhaps unaligned: a view of a file
    if source.flags.c_contiguous:
        columns = source.size // rows
        made = empty(source.size)
        out = made
        if out.shape[0] != rows * columns:
            raise ValueError("scale_rows: memory of the wrong size")
        with nogil:
            for i in range(rows):
                scale_run(x + i * columns * 4, &factors[i], 0, &out[i * columns], columns)
        return made.reshape(source.shape)
    if source.size != rows * source.shape[1] or source.strides[0] != 4 or source.strides[1] < 4 * rows or source.strides[1] % 4:
        return None
    columns, stride = source.shape[1], source.strides[1]
    made = empty(source.size)
    out = made
    if out.shape[0] != rows * columns:
        raise ValueError("scale_rows: memory of the wrong size")
    with nogil:
        for k in range(columns):
            scale_run(x + k * stride, &factors[0], 1, &out[k * rows], rows)
    return made.reshape(columns, rows).T.reshape(source.shape)


cdef void scale_run(const char *x, const double *scale, Py_ssize_t step, float *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef float v
    if step:
        for i in range(n):
            memcpy(&v, x + 4 * i, 4)
            y[i] = <float>(v * scale[i])
    else:
        for i in range(n):
            memcpy(&v, x + 4 * i, 4)
            y[i] = <float>(v * scale[0])


def pack_panels(w, Py_ssize_t channels, float[::1] out, Py_ssize_t first):
    """The panels of the outputs from `first` on, whose weights `w` are, as `pack_conv` writes them into all of `out`.

    `first` is the first output of a panel, and `w` ends with a panel or with the last output.
    """
    w = np.asarray(w, np.float32)
    cdef const KernelTable *table = current_table()
    cdef Py_ssize_t lanes = table.lanes, o = w.shape[0], cg = w.shape[1], n_taps = int(np.prod(w.shape[2:], dtype=np.int64))
    cdef Py_ssize_t at = first * cg * n_taps
    cdef bint columns = n_taps == 1 and o > 1 and cg > 1 and w.strides[0] == 4
    if first < 0 or first % (2 * lanes) or at + ceil_div(o, lanes) * lanes * cg * n_taps > out.shape[0]:
        raise ValueError(f"pack_panels: outputs {first} to {first + o} of {out.shape[0]} floats")
    if o * cg * n_taps == 0:
        return
    w = w.reshape(o, cg, n_taps)
    if not columns:
        w = np.ascontiguousarray(w)
    cdef const char *source = <const char *><size_t>w.ctypes.data      # perhaps unaligned: a view of a file
    cdef Py_ssize_t step = w.strides[1]
    with nogil:
        if columns:
            pack_columns(source, step, &out[at], o, cg, lanes)
        else:
            pack_group(source, &out[at], o, cg, n_taps, channels, table)


cdef enum:
    STAGED = 1536           # floats of weights that are transposed at a time: two such pieces lie on a stack that may be small


cdef void pack_group(const char *w, float *out, Py_ssize_t og, Py_ssize_t cg, Py_ssize_t n_taps, Py_ssize_t channels,
                     const KernelTable *table) noexcept nogil:
    """One group's panels from weights that lie row by row, [output][channel][tap]. A part of each row of a panel is copied side by
    side (rows may lie unaligned, and at distances that meet in few sets of the cache) and transposed by vectors from there."""
    cdef float stage[STAGED]
    cdef float turned[STAGED]
    cdef Py_ssize_t lanes = table.lanes, o0 = 0, c0, n, width, valid, i, k, t, first, some, ahead
    cdef const char *row
    cdef const char *part
    if n_taps == 1:
        channels = cg       # the same order, and longer pieces of the rows
    while o0 < og:
        width = 2 * lanes if og - o0 > lanes else lanes
        valid = smaller(og - o0, width)
        c0 = 0
        while c0 < cg:
            n = smaller(channels, cg - c0)
            row = w + (o0 * cg + c0) * n_taps * <Py_ssize_t>sizeof(float)
            if valid < width:
                memset(out, 0, n * n_taps * width * sizeof(float))
            # some whole channels at a time, or where even one has too many taps, some taps of it
            first = 0
            while first < n * n_taps:
                some = STAGED // width
                if n_taps <= some:
                    some = some // n_taps * n_taps
                else:
                    some = smaller(n_taps - first % n_taps, some)
                some = smaller(some, n * n_taps - first)
                ahead = smaller(some, (cg - c0) * n_taps - first - some) * <Py_ssize_t>sizeof(float)
                for i in range(valid):
                    part = row + (i * cg * n_taps + first) * <Py_ssize_t>sizeof(float)
                    memcpy(stage + i * some, part, some * sizeof(float))
                    fetch_ahead(part + some * sizeof(float), ahead)
                if n_taps == 1:
                    table.move.transpose(stage, some, out + first * width, width, valid, some)
                else:
                    table.move.transpose(stage, some, turned, width, valid, some)
                    for i in range(some):
                        k = (first + i) // n_taps
                        t = (first + i) % n_taps
                        memcpy(out + (t * n + k) * width, turned + i * width, valid * sizeof(float))
                first = first + some
            out = out + n * n_taps * width
            c0 = c0 + n
        o0 = o0 + width


cdef void pack_columns(const char *w, Py_ssize_t step, float *out, Py_ssize_t og, Py_ssize_t cg, Py_ssize_t lanes) noexcept nogil:
    """One group's panels of kernels of one tap from weights that lie column by column, the outputs of a channel side by side."""
    cdef Py_ssize_t o0 = 0, width, valid, k
    while o0 < og:
        width = 2 * lanes if og - o0 > lanes else lanes
        valid = smaller(og - o0, width)
        if valid < width:
            memset(out, 0, cg * width * sizeof(float))
        for k in range(cg):
            memcpy(out + k * width, w + k * step + o0 * <Py_ssize_t>sizeof(float), valid * sizeof(float))
        out = out + cg * width
        o0 = o0 + width


def pack_bias(bias, Py_ssize_t channels, empty, Py_ssize_t groups=1):
    """A bias (or zeros for None) of `channels` values, each group padded with zeros to whole blocks, in memory by `empty`."""
    cdef Py_ssize_t lanes = current_table().lanes
    og = channels // groups
    padded = ceil_div(og, lanes) * lanes
    out = empty(groups * padded)
    rows = out.reshape(groups, padded)
    if bias is None or og < padded:
        rows[...] = 0
    if bias is not None:
        rows[:, :og] = np.asarray(bias).reshape(groups, og)
    return out


def pack_depthwise(w, empty):
    """Weights (C, channels per group, taps...) as `build_depthwise` reads them, in memory by `empty`."""
    cdef Py_ssize_t lanes = current_table().lanes
    c, k = w.shape[:2]
    t = int(np.prod(w.shape[2:]))
    whole, blocks = c // lanes, ceil_div(c, lanes)
    packed = empty(blocks * lanes * k * t)
    out = packed.reshape(blocks, t, k, lanes)       # no taps: a phase of a transposed convolution that no tap reaches
    w = w.reshape(c, k, t)
    out[:whole] = w[: whole * lanes].reshape(whole, lanes, k, t).transpose(0, 3, 2, 1)
    if whole < blocks:
        out[whole] = 0
        out[whole, :, :, : c - whole * lanes] = w[whole * lanes :].transpose(2, 1, 0)
    return packed


def pack_dense(w, empty):
    """Weights (O, K) as `build_dense` reads them, in memory by `empty`."""
    return pack_conv(w[:, :, None], 1, current_table().lanes, empty)
