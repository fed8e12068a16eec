# cython: language_level=3
"""Sampling at places that are known only while running: RoiAlign and GridSample, on planes.

Every output pixel is a weighted sum of input pixels, the same for all channels: its taps (offsets into a plane, and weights) are
worked out once and used for every block of channels (tiles.weigh), a register of channels at a time.

`roi_align`
    Means over bilinear samples factor into rows and columns: a sample's weight is a row's times a column's, and so is whether it
    lies outside. Each bin row has a weight per input row, each bin column one per input column, summed over the samples, which
    are visited only where they can lie inside; a bin's taps are their products. Unit = one region, all channels.

`grid_sample`
    Unit = (image, piece of an output row). Coordinates that are no numbers take nothing where the padding is zeros, and count
    as 0 elsewhere; no coordinate leads outside of the plane.
"""

from libc.math cimport ceil, floor, fmod, rint
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div, smaller
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.planes cimport fill_halo, planes_of, planes_t
from cnnengine._kernels.table cimport KernelTable

import numpy as np

cdef enum:
    PIECE = 64                          # output pixels of a row whose taps are worked out together

cdef enum:
    NEAREST = 0
    LINEAR = 1
    CUBIC = 2

cdef enum:
    ZEROS = 0
    BORDER = 1
    REFLECTION = 2


# ---------------------------------------------------------------- regions

cdef struct roi_t:
    const KernelTable *table
    planes_t x, y
    double scale, shift
    bint largest                        # of the weighted corners, not the mean of the samples
    int ratio                           # samples per bin and axis, 0: as many as the bin has pixels
    bint half                           # regions may be smaller than a pixel
    bint wide                           # batch indices are int64


cdef struct samples_t:
    double begin, size                  # of the region
    double count                        # per bin
    Py_ssize_t bins
    Py_ssize_t n                        # pixels of the axis


cdef inline samples_t samples_of(double start, double size, Py_ssize_t bins, int ratio, Py_ssize_t n) noexcept nogil:
    cdef samples_t s
    s.begin, s.size, s.bins, s.n = start, size, bins, n
    s.count = <double>ratio if ratio > 0 else ceil(size / <double>bins)
    if not (s.count >= 1 and s.count < 1e18) or not (-1e18 < start < 1e18) or not (-1e18 < size < 1e18):
        s.count = 0
    return s


cdef inline double place(const samples_t *s, double k) noexcept nogil:
    """Of sample k, counted through all bins. One rounded division: a place that lies on a border exactly is found there."""
    return s.begin + s.size * (2 * k + 1) / (2 * <double>s.bins * s.count)


cdef inline bint within(const samples_t *s, Py_ssize_t b, double *first, double *last) noexcept nogil:
    """The samples of bin b that may lie between -1 and n, with one to spare on either side; False: none does."""
    cdef double step = s.size / (<double>s.bins * s.count), begin = s.begin + <double>b * s.count * step
    cdef double low = 0, high = s.count - 1
    if step > 0:
        low = max(low, (-1.0 - begin) / step - 2)
        high = min(high, (<double>s.n - begin) / step + 2)
    elif step < 0:
        low = max(low, (<double>s.n - begin) / step - 2)
        high = min(high, (-1.0 - begin) / step + 2)
    first[0], last[0] = floor(low), floor(high)
    return low <= high


cdef double axis_weights(double start, double size, Py_ssize_t bins, int ratio, Py_ssize_t n, float *weights, Py_ssize_t *ranges) noexcept nogil:
    """weights[b * n + i] of input i for bin b, nonzero for ranges[2 * b] <= i < ranges[2 * b + 1]; returns samples per bin."""
    cdef samples_t s = samples_of(start, size, bins, ratio, n)
    cdef double first, last, at
    cdef Py_ssize_t b, i, k
    memset(weights, 0, bins * n * sizeof(float))
    memset(ranges, 0, 2 * bins * sizeof(Py_ssize_t))
    if s.count == 0:
        return 1
    for b in range(bins):
        if not within(&s, b, &first, &last):
            continue
        ranges[2 * b] = n
        for k in range(<Py_ssize_t>first, <Py_ssize_t>last + 1):
            at = place(&s, <double>b * s.count + <double>k)
            if not (at >= -1 and at <= <double>n):
                continue
            at = max(at, <double>0)
            i = <Py_ssize_t>at
            if i >= n - 1:
                i = n - 1
                weights[b * n + i] += 1
                ranges[2 * b] = min(ranges[2 * b], i)
                ranges[2 * b + 1] = n
            else:
                weights[b * n + i] += <float>(1 - (at - <double>i))
                weights[b * n + i + 1] += <float>(at - <double>i)
                ranges[2 * b] = min(ranges[2 * b], i)
                ranges[2 * b + 1] = max(ranges[2 * b + 1], i + 2)
    return s.count


cdef inline void widen(float *high, float *low, Py_ssize_t *span, Py_ssize_t i, double weight) noexcept nogil:
    high[i] = max(high[i], <float>weight)
    low[i] = min(low[i], <float>weight)
    span[0] = min(span[0], i)
    span[1] = max(span[1], i + 1)


cdef void axis_extremes(double start, double size, Py_ssize_t bins, int ratio, Py_ssize_t n, float *high, float *low, Py_ssize_t *ranges,
                        bint *outside) noexcept nogil:
    """high[b * n + i] and low[b * n + i]: the largest and smallest weight of input i in any sample of bin b, within the bin's range
    (high < 0: in none); outside[b]: some sample of the bin lies outside."""
    cdef samples_t s = samples_of(start, size, bins, ratio, n)
    cdef double first, last, at
    cdef Py_ssize_t b, i, k, seen
    memset(ranges, 0, 2 * bins * sizeof(Py_ssize_t))
    for i in range(bins * n):
        high[i] = -1
        low[i] = 2
    for b in range(bins):
        outside[b] = s.count > 0
        if s.count == 0 or not within(&s, b, &first, &last):
            continue
        ranges[2 * b] = n
        seen = 0
        for k in range(<Py_ssize_t>first, <Py_ssize_t>last + 1):
            at = place(&s, <double>b * s.count + <double>k)
            if not (at >= -1 and at <= <double>n):
                continue
            seen = seen + 1
            at = min(max(at, <double>0), <double>(n - 1))
            i = <Py_ssize_t>at
            widen(high + b * n, low + b * n, ranges + 2 * b, i, 1 - (at - <double>i))
            # beyond the last pixel it stands for itself, and weighs nothing
            widen(high + b * n, low + b * n, ranges + 2 * b, min(i + 1, n - 1), at - <double>i)
        outside[b] = <double>seen < s.count


cdef void roi_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const roi_t *g = <const roi_t *>geometry
    cdef const float *roi = <const float *>args[1] + 4 * chunk
    cdef int64_t image = (<const int64_t *>args[2])[chunk] if g.wide else (<const int32_t *>args[2])[chunk]
    cdef int64_t *words = <int64_t *>args[4] + 3 * chunk
    cdef Py_ssize_t *ranges = <Py_ssize_t *>scratch
    cdef Py_ssize_t *offsets = ranges + 2 * (g.y.h + g.y.w)
    cdef float *weights = <float *>(offsets + g.x.h * g.x.w)
    cdef float *rows = weights + g.x.h * g.x.w
    cdef float *columns = rows + g.y.h * g.x.h
    cdef const float *x
    cdef float *y
    cdef Py_ssize_t ph, pw, r, c, block
    cdef int taps
    cdef double x0, y0, x1, y1, width, height, count
    words[0] = words[1] = words[2] = 0
    if image < 0 or image >= g.x.n:
        words[0] = 1
        words[1] = image
        image = 0
    x0 = <double>roi[0] * g.scale - g.shift
    y0 = <double>roi[1] * g.scale - g.shift
    x1 = <double>roi[2] * g.scale - g.shift
    y1 = <double>roi[3] * g.scale - g.shift
    width = x1 - x0
    height = y1 - y0
    if not g.half:  # regions that are too small or turned around count as a pixel
        width = max(width, <double>1)
        height = max(height, <double>1)
    for block in range(g.y.blocks):
        fill_halo(&g.y, <float *>args[3], chunk, block)
    x = <const float *>args[0] + g.x.offset + image * g.x.sn
    y = <float *>args[3] + g.y.offset + chunk * g.y.sn
    if g.largest:
        roi_largest(g, x, y, y0, height, x0, width, scratch)
        return
    count = axis_weights(y0, height, g.y.h, g.ratio, g.x.h, rows, ranges)
    count = count * axis_weights(x0, width, g.y.w, g.ratio, g.x.w, columns, ranges + 2 * g.y.h)
    for ph in range(g.y.h):
        for pw in range(g.y.w):
            taps = 0
            for r in range(ranges[2 * ph], ranges[2 * ph + 1]):
                for c in range(ranges[2 * (g.y.h + pw)], ranges[2 * (g.y.h + pw) + 1]):
                    offsets[taps] = r * g.x.sh + c * g.x.lanes
                    weights[taps] = <float>(<double>rows[ph * g.x.h + r] * columns[pw * g.x.w + c] / count)
                    taps = taps + 1
            for block in range(g.y.blocks):
                g.table.move.weigh(x + block * g.x.sp, offsets, weights, &taps, y + block * g.y.sp + ph * g.y.sh + pw * g.y.lanes, 1)


cdef void roi_largest(const roi_t *g, const float *x, float *y, double y0, double height, double x0, double width, char *scratch) noexcept nogil:
    """The largest weighted corner of all samples of each bin.

    A corner's weight is a row's times a column's, and rounding is monotonic: of all samples that have a pixel as a corner, the
    largest product is that of the largest or of the smallest weights, by the sign of the pixel. So a bin reads a pixel once.
    """
    cdef Py_ssize_t *ranges = <Py_ssize_t *>scratch
    cdef Py_ssize_t *offsets = ranges + 2 * (g.y.h + g.y.w)
    cdef float *high = <float *>(offsets + g.x.h * g.x.w)
    cdef float *low = high + g.x.h * g.x.w
    cdef float *row_high = low + g.x.h * g.x.w
    cdef float *row_low = row_high + g.y.h * g.x.h
    cdef float *column_high = row_low + g.y.h * g.x.h
    cdef float *column_low = column_high + g.y.w * g.x.w
    cdef bint *outside = <bint *>(column_low + g.y.w * g.x.w)
    cdef Py_ssize_t ph, pw, r, c, taps, block
    axis_extremes(y0, height, g.y.h, g.ratio, g.x.h, row_high, row_low, ranges, outside)
    axis_extremes(x0, width, g.y.w, g.ratio, g.x.w, column_high, column_low, ranges + 2 * g.y.h, outside + g.y.h)
    for ph in range(g.y.h):
        for pw in range(g.y.w):
            taps = 0
            for r in range(ranges[2 * ph], ranges[2 * ph + 1]):
                if row_high[ph * g.x.h + r] < 0:
                    continue
                for c in range(ranges[2 * (g.y.h + pw)], ranges[2 * (g.y.h + pw) + 1]):
                    if column_high[pw * g.x.w + c] < 0:
                        continue
                    offsets[taps] = r * g.x.sh + c * g.x.lanes
                    high[taps] = row_high[ph * g.x.h + r] * column_high[pw * g.x.w + c]
                    low[taps] = row_low[ph * g.x.h + r] * column_low[pw * g.x.w + c]
                    taps = taps + 1
            for block in range(g.y.blocks):
                g.table.image.weigh_max(x + block * g.x.sp, offsets, high, low, taps, outside[ph] or outside[g.y.h + pw],
                                        y + block * g.y.sp + ph * g.y.sh + pw * g.y.lanes)


def build_roi_align(inputs, outputs, *, scale, ratio, half_pixel, mode="avg") -> Launch:
    """Means over bilinear samples in the bins of regions, or the largest weighted corner of them.

    Parameters
    ----------
    inputs : tuple of three Views
        x (N, C, H, W) in planes of the instruction set's lanes, one group; regions (R, 4), plain float32, corners x, y, x, y;
        the images that they are in (R,), plain int32 or int64.
    outputs : tuple of two Views
        (R, C, h, w) in planes of as many lanes; three words of int64 per region: whether its image is out of range, the image, 0.
    scale : float
        From the regions' coordinates to pixels of x.
    ratio : int
        Samples per bin and axis; 0 for as many as a bin has pixels.
    half_pixel : bool
        Whether pixels' centres are at halves, and regions may be smaller than a pixel.
    mode : {"avg", "max"}

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (x_view, r_view, i_view), (y_view, w_view) = inputs, outputs
    cdef roi_t g
    if x_view.is_plain or y_view.is_plain or x_view.groups != 1 or y_view.groups != 1 or len(x_view.shape) != 4 or len(y_view.shape) != 4:
        raise ValueError("roi_align: x and y must be 2-D planes in one group")
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    g.x = planes_of(x_view)
    g.y = planes_of(y_view)
    if g.x.lanes != g.table.lanes or g.y.lanes != g.table.lanes or g.x.c != g.y.c or 0 in x_view.shape or 0 in y_view.shape:
        raise ValueError(f"roi_align: {x_view.shape} to {y_view.shape}")
    if not (r_view.is_plain and i_view.is_plain and w_view.is_plain) or r_view.dtype != np.float32 or r_view.shape != (g.y.n, 4):
        raise ValueError(f"roi_align: regions of {r_view.shape} for {g.y.n} results")
    if i_view.shape != (g.y.n,) or i_view.dtype not in (np.int32, np.int64) or w_view.dtype != np.int64 or w_view.size != 3 * g.y.n:
        raise ValueError("roi_align: an int32 or int64 image and three words for each region are needed")
    if ratio < 0 or ratio >= 1 << 20 or g.x.h * g.x.w >= 1 << 30:
        raise ValueError(f"roi_align: {ratio} samples, planes of {g.x.h} by {g.x.w}")
    g.scale, g.shift, g.ratio, g.half, g.wide = scale, 0.5 if half_pixel else 0.0, ratio, half_pixel, i_view.dtype == np.int64
    g.largest = ("avg", "max").index(mode)
    scratch = 2 * (g.y.h + g.y.w) * sizeof(Py_ssize_t) + g.x.h * g.x.w * (sizeof(Py_ssize_t) + sizeof(float))
    scratch += (g.y.h * g.x.h + g.y.w * g.x.w) * sizeof(float)
    if g.largest:  # of weights the largest and the smallest, and whether samples lie outside
        scratch += (g.x.h * g.x.w + g.y.h * g.x.h + g.y.w * g.x.w) * sizeof(float) + (g.y.h + g.y.w) * sizeof(bint)
    return make_launch(f"roi_align {mode}", roi_chunk, &g, sizeof(g), g.y.n, scratch,
                       (x_view.nbytes, r_view.nbytes, i_view.nbytes, y_view.nbytes, w_view.nbytes), 16.0 * y_view.size,
                       x_view.nbytes + 2 * y_view.nbytes).typed(inputs, outputs)


# ---------------------------------------------------------------- grids

cdef struct grid_t:
    const KernelTable *table
    planes_t x, y
    int mode, padding
    bint corners
    Py_ssize_t pieces, piece


cdef inline double reflected(double v, double low, double high) noexcept nogil:
    """Mirrored at the borders until it lies between them."""
    cdef double span = high - low, away, rest
    if span <= 0:
        return low
    if v < low:
        away = low - v
    elif v > high:
        away = v - high
    else:
        return v
    rest = fmod(away, span)
    # an even number of whole spans away: the side that it came from
    if fmod((away - rest) / span + 0.5, 2.0) < 1.0:
        return low + rest if v < low else high - rest
    return high - rest if v < low else low + rest


cdef inline Py_ssize_t tap(double i, Py_ssize_t n, const grid_t *g) noexcept nogil:
    """The pixel for a whole coordinate, which is finite; -1 where there is none."""
    if i >= 0 and i <= <double>(n - 1):
        return <Py_ssize_t>i
    if g.padding == ZEROS:
        return -1
    if g.padding == REFLECTION:
        i = reflected(i, 0 if g.corners else -0.5, <double>(n - 1) if g.corners else <double>n - 0.5)
        i = <double><Py_ssize_t>i
    return <Py_ssize_t>min(max(i, <double>0), <double>(n - 1))


cdef inline int axis_taps(double v, Py_ssize_t n, const grid_t *g, Py_ssize_t *at, float *weights) noexcept nogil:
    """Pixels and weights along an axis of n for a normalised coordinate; returns their number.

    In double, in which pixels' coordinates are exact: no rounding decides which pixels those are.
    """
    cdef double low = 0 if g.corners else -0.5
    cdef double high = <double>(n - 1) if g.corners else <double>n - 0.5
    cdef double base
    cdef float t, a = -0.75
    cdef float w[4]
    cdef int k, first = 0, taps = 1, count = 0
    cdef Py_ssize_t i
    v = (v + 1) / 2 * <double>(n - 1) if g.corners else ((v + 1) * <double>n - 1) / 2
    if not (v > -1e18 and v < 1e18):
        if g.padding == ZEROS:
            return 0
        v = 0 if v != v else (low if v < 0 else high)
    if g.mode == NEAREST:
        v = rint(v)
    if v < low or v > high:
        if g.padding == BORDER:
            if g.mode != CUBIC:  # of which each tap is clamped: the weights are those of the place outside
                v = min(max(v, <double>0), <double>(n - 1))
        elif g.padding == REFLECTION:
            v = reflected(v, low, high)
    w[0] = 1
    if g.mode == NEAREST:
        base = <double><int64_t>v
    else:
        base = floor(v)
        t = <float>(v - base)
        if g.mode == LINEAR:
            taps = 2
            w[0] = 1 - t
            w[1] = t
        else:
            taps, first = 4, -1
            w[0] = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a
            w[1] = ((a + 2) * t - (a + 3)) * t * t + 1
            w[2] = ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1
            w[3] = ((a * (2 - t) - 5 * a) * (2 - t) + 8 * a) * (2 - t) - 4 * a
    for k in range(taps):
        i = tap(base + <double>(first + k), n, g)
        if i >= 0 and w[k] != 0:
            at[count] = i
            weights[count] = w[k]
            count = count + 1
    return count


cdef void grid_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const grid_t *g = <const grid_t *>geometry
    cdef Py_ssize_t piece = chunk % g.pieces, row = chunk // g.pieces % g.y.h, n = chunk // (g.pieces * g.y.h)
    cdef Py_ssize_t start = piece * g.piece, pixels = min(g.piece, g.y.w - start), p, k = 0, block
    cdef const float *grid = <const float *>args[1] + ((n * g.y.h + row) * g.y.w + start) * 2
    cdef const float *x = <const float *>args[0] + g.x.offset + n * g.x.sn
    cdef float *y = <float *>args[2] + g.y.offset + n * g.y.sn + row * g.y.sh + start * g.y.lanes
    cdef Py_ssize_t *offsets = <Py_ssize_t *>scratch
    cdef float *weights = <float *>(offsets + 16 * g.piece)
    cdef int *taps = <int *>(weights + 16 * g.piece)
    cdef Py_ssize_t across[4]
    cdef Py_ssize_t down[4]
    cdef float wx[4]
    cdef float wy[4]
    cdef int nx, ny, i, j
    for p in range(pixels):
        nx = axis_taps(grid[2 * p], g.x.w, g, across, wx)
        ny = axis_taps(grid[2 * p + 1], g.x.h, g, down, wy)
        taps[p] = nx * ny
        for j in range(ny):
            for i in range(nx):
                offsets[k] = down[j] * g.x.sh + across[i] * g.x.lanes
                weights[k] = wy[j] * wx[i]
                k = k + 1
    for block in range(g.y.blocks):
        if row == 0 and piece == 0:
            fill_halo(&g.y, <float *>args[2], n, block)
        g.table.move.weigh(x + block * g.x.sp, offsets, weights, taps, y + block * g.y.sp, pixels)


def build_grid_sample(inputs, outputs, *, mode, padding, align_corners) -> Launch:
    """Pixels of x at the places that a grid names.

    Parameters
    ----------
    inputs : tuple of two Views
        x (N, C, H, W) in planes of the instruction set's lanes, one group; the grid (N, h, w, 2), plain float32: x and y from -1 to 1.
    outputs : tuple of one View
        (N, C, h, w) in planes of as many lanes.
    mode : {"nearest", "linear", "cubic"}
    padding : {"zeros", "border", "reflection"}
    align_corners : bool
        Whether -1 and 1 are the centres of the outermost pixels, not their edges.

    Raises
    ------
    ValueError
        The views do not fit.
    """
    (x_view, g_view), (y_view,) = inputs, outputs
    cdef grid_t g
    if x_view.is_plain or y_view.is_plain or x_view.groups != 1 or y_view.groups != 1 or len(x_view.shape) != 4 or len(y_view.shape) != 4:
        raise ValueError("grid_sample: x and y must be 2-D planes in one group")
    memset(&g, 0, sizeof(g))
    g.table = current_table()
    g.x = planes_of(x_view)
    g.y = planes_of(y_view)
    if g.x.lanes != g.table.lanes or g.y.lanes != g.table.lanes or x_view.shape[:2] != y_view.shape[:2]:
        raise ValueError(f"grid_sample: {x_view.shape} to {y_view.shape}")
    if not g_view.is_plain or g_view.dtype != np.float32 or g_view.shape != (g.y.n, g.y.h, g.y.w, 2) or 0 in x_view.shape or 0 in y_view.shape:
        raise ValueError(f"grid_sample: a grid of {g_view.shape} for {y_view.shape}")
    if max(x_view.shape[2:]) >= 1 << 24:
        raise ValueError(f"grid_sample: planes of {g.x.h} by {g.x.w}")
    g.mode = ("nearest", "linear", "cubic").index(mode)
    g.padding = ("zeros", "border", "reflection").index(padding)
    g.corners = align_corners
    g.piece = smaller(PIECE, g.y.w)
    g.pieces = ceil_div(g.y.w, g.piece)
    scratch = g.piece * (16 * (sizeof(Py_ssize_t) + sizeof(float)) + sizeof(int))
    taps = (1, 4, 16)[g.mode]
    return make_launch(f"grid_sample {mode}", grid_chunk, &g, sizeof(g), g.y.n * g.y.h * g.pieces, scratch,
                       (x_view.nbytes, g_view.nbytes, y_view.nbytes), 2.0 * taps * y_view.size, x_view.nbytes + g_view.nbytes + y_view.nbytes)
