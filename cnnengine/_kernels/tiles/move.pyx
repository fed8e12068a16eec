"""Data-movement tiles: transposes of LANES x LANES floats in registers, compiled once per instruction set.

A tile loads LANES registers, interleaves them log2(LANES) times (register i with register i + LANES / 2: a perfect shuffle,
after which the block is transposed) and stores them: LANES * log2(LANES) shuffles for LANES * LANES values, which is
faster than any cache delivers them. Edges: where enough floats may be read (or overwritten) beyond a row, its last tile is a
whole one of which a part is stored; a matrix edge is done by an overlapping tile; what is narrower than one tile is scalar,
but for pixels of three or four channels (images as they are decoded), whose distances compilers turn into shuffles.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.string cimport memcpy

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE

from cnnengine._kernels.simd cimport *


cdef extern from *:
    """
    static void split3(const float *restrict x, float *restrict a, float *restrict b, float *restrict c, Py_ssize_t n)
    {
        for (Py_ssize_t i = 0; i < n; i++) {
            a[i] = x[3 * i];
            b[i] = x[3 * i + 1];
            c[i] = x[3 * i + 2];
        }
    }
    static void split4(const float *restrict x, float *restrict a, float *restrict b, float *restrict c, float *restrict d, Py_ssize_t n)
    {
        for (Py_ssize_t i = 0; i < n; i++) {
            a[i] = x[4 * i];
            b[i] = x[4 * i + 1];
            c[i] = x[4 * i + 2];
            d[i] = x[4 * i + 3];
        }
    }
    static void join3(const float *restrict a, const float *restrict b, const float *restrict c, float *restrict y, Py_ssize_t n)
    {
        for (Py_ssize_t i = 0; i < n; i++) {
            y[3 * i] = a[i];
            y[3 * i + 1] = b[i];
            y[3 * i + 2] = c[i];
        }
    }
    """
    void split3(const float *, float *, float *, float *, Py_ssize_t) noexcept nogil
    void split4(const float *, float *, float *, float *, float *, Py_ssize_t) noexcept nogil
    void join3(const float *, const float *, const float *, float *, Py_ssize_t) noexcept nogil


cdef inline void transpose_block(vf *r) noexcept nogil:
    """Transpose the LANES x LANES floats of r[0 .. LANES)."""
    cdef vf t[16]
    cdef int i, s
    for s in range(VLOG):
        for i in range(LANES // 2):
            t[2 * i] = vzip_lo(r[i], r[i + LANES // 2])
            t[2 * i + 1] = vzip_hi(r[i], r[i + LANES // 2])
        for i in range(LANES):
            r[i] = t[i]


cdef inline void tile(const float *x, Py_ssize_t xr, float *y, Py_ssize_t yr) noexcept nogil:
    """One whole block: y[c * yr + r] = x[r * xr + c]."""
    cdef vf r[16]
    cdef int i
    for i in range(LANES):
        r[i] = vload(x + i * xr)
    transpose_block(r)
    for i in range(LANES):
        vstore(y + i * yr, r[i])


cdef inline void partial_tile(const float *x, Py_ssize_t xr, Py_ssize_t rows, float *y, Py_ssize_t yr, Py_ssize_t columns) noexcept nogil:
    """A block of which `rows` rows are loaded (the rest is zero) and `columns` columns stored, each LANES long."""
    cdef vf r[16]
    cdef int i
    for i in range(LANES):
        r[i] = vload(x + i * xr) if i < rows else vset(0)
    transpose_block(r)
    for i in range(LANES):
        if i < columns:
            vstore(y + i * yr, r[i])


cdef void pack(const float *x, Py_ssize_t xc, Py_ssize_t readable, float *y, Py_ssize_t pixels, Py_ssize_t channels) noexcept nogil:
    cdef Py_ssize_t at = 0, c, p
    if channels == LANES:
        while at + LANES <= pixels:
            tile(x + at, xc, y + at * LANES, LANES)
            at = at + LANES
    while at < pixels and at + LANES <= readable:
        partial_tile(x + at, xc, channels, y + at * LANES, LANES, pixels - at)
        at = at + LANES
    for p in range(at, pixels):
        for c in range(channels):
            y[p * LANES + c] = x[c * xc + p]
        for c in range(channels, LANES):
            y[p * LANES + c] = 0


cdef void unpack(const float *x, float *y, Py_ssize_t yc, Py_ssize_t writable, Py_ssize_t pixels, Py_ssize_t channels) noexcept nogil:
    cdef Py_ssize_t at = 0, c, p
    if channels == LANES:
        while at + LANES <= pixels:
            tile(x + at * LANES, LANES, y + at, yc)
            at = at + LANES
    while at < pixels and at + LANES <= writable:
        partial_tile(x + at * LANES, LANES, pixels - at, y + at, yc, channels)
        at = at + LANES
    for c in range(channels):
        for p in range(at, pixels):
            y[c * yc + p] = x[p * LANES + c]


cdef void transpose(const float *x, Py_ssize_t xr, float *y, Py_ssize_t yr, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t r = 0, c = 0, i, j
    if rows < LANES or columns < LANES:
        if columns == xr == 3:
            split3(x, y, y + yr, y + 2 * yr, rows)
        elif columns == xr == 4:
            split4(x, y, y + yr, y + 2 * yr, y + 3 * yr, rows)
        elif rows == yr == 3:
            join3(x, x + xr, x + 2 * xr, y, columns)
        elif columns < rows:
            for r in range(rows):
                for c in range(columns):
                    y[c * yr + r] = x[r * xr + c]
        else:
            for c in range(columns):
                for r in range(rows):
                    y[c * yr + r] = x[r * xr + c]
        return
    while c < columns:
        j = c if c + LANES <= columns else columns - LANES
        r = 0
        while r < rows:
            i = r if r + LANES <= rows else rows - LANES
            tile(x + i * xr + j, xr, y + j * yr + i, yr)
            r = r + LANES
        c = c + LANES


cdef void blend_rows(const float *a, const float *b, float t, float *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef vf near = vset(<float>1 - t), far = vset(t)
    for i in range(n // LANES):
        vstore(y + i * LANES, vload(a + i * LANES) * near + vload(b + i * LANES) * far)


cdef void blend_pixels(const float *x, const Py_ssize_t *first, const Py_ssize_t *second, const float *t, float *y,
                       Py_ssize_t pixels) noexcept nogil:
    cdef Py_ssize_t p
    if t == NULL:
        for p in range(pixels):
            vstore(y + p * LANES, vload(x + first[p]))
        return
    for p in range(pixels):
        vstore(y + p * LANES, vload(x + first[p]) * (<float>1 - t[p]) + vload(x + second[p]) * t[p])


cdef inline void mix_few(const float *const *x, const int *table, int parts, bint keep, float *y, Py_ssize_t pixels) noexcept nogil:
    """`parts` and `keep` are constants, so that orders and masks stay in registers."""
    cdef vi order[4]
    cdef vi mask[4]
    cdef const float *from_[4]
    cdef Py_ssize_t p
    cdef vf v
    cdef int i
    for i in range(parts):
        order[i] = vf_bits(vload(<const float *>table + 2 * i * LANES))
        mask[i] = vf_bits(vload(<const float *>table + (2 * i + 1) * LANES))
        from_[i] = x[i]
    for p in range(pixels):
        v = vload(y + p * LANES) if keep else vset(0)
        for i in range(parts):
            v = vselect(mask[i], vpermute(vload(from_[i] + p * LANES), order[i]), v)
        vstore(y + p * LANES, v)


cdef void mix(const float *const *x, const int *table, int parts, bint keep, float *y, Py_ssize_t pixels) noexcept nogil:
    cdef int at = 0
    while at < parts:
        if parts - at >= 4:
            if keep:
                mix_few(x + at, table + 2 * at * LANES, 4, True, y, pixels)
            else:
                mix_few(x + at, table, 4, False, y, pixels)
            at = at + 4
        elif parts - at >= 2:
            if keep:
                mix_few(x + at, table + 2 * at * LANES, 2, True, y, pixels)
            else:
                mix_few(x + at, table, 2, False, y, pixels)
            at = at + 2
        else:
            if keep:
                mix_few(x + at, table + 2 * at * LANES, 1, True, y, pixels)
            else:
                mix_few(x + at, table, 1, False, y, pixels)
            at = at + 1
        keep = True


cdef inline vi shares(const float *boxes, Py_ssize_t room, const float *box) noexcept nogil:
    """Whether each box shares any part of `box`."""
    cdef vf wide = vmin_keep(vload(boxes + room), box[1]) - vmax_keep(vload(boxes), box[0])
    cdef vf high = vmin_keep(vload(boxes + 3 * room), box[3]) - vmax_keep(vload(boxes + 2 * room), box[2])
    return vlt(vset(0), wide) & vlt(vset(0), high)


cdef inline vi covers(const float *boxes, Py_ssize_t room, const float *box, float threshold) noexcept nogil:
    """Whether each box shares more than the threshold. Rounded step by step, as NumPy computes it: ties are equal to the bit."""
    cdef vf wide = vmin_keep(vload(boxes + room), box[1]) - vmax_keep(vload(boxes), box[0])
    cdef vf high = vmin_keep(vload(boxes + 3 * room), box[3]) - vmax_keep(vload(boxes + 2 * room), box[2])
    cdef vf shared = vrounded(vmax_keep(wide, 0) * vmax_keep(high, 0))
    cdef vf area = vload(boxes + 4 * room)
    cdef vf joint = area + vset(box[4]) - shared
    return vlt(vset(threshold), shared / joint) & vlt(vset(0), area) & vlt(vset(0), joint)


cdef bint overlaps(const float *boxes, Py_ssize_t room, Py_ssize_t n, const float *box, float threshold) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef const float *b
    if not box[4] > 0:
        return False
    while i < n:
        b = boxes + i
        if vany(shares(b, room, box) | shares(b + LANES, room, box) | shares(b + 2 * LANES, room, box)
                | shares(b + 3 * LANES, room, box)):
            if vany(covers(b, room, box, threshold) | covers(b + LANES, room, box, threshold)
                    | covers(b + 2 * LANES, room, box, threshold) | covers(b + 3 * LANES, room, box, threshold)):
                return True
        i = i + 4 * LANES
    return False


cdef void weigh(const float *x, const Py_ssize_t *offsets, const float *weights, const int *taps, float *y,
                Py_ssize_t pixels) noexcept nogil:
    cdef Py_ssize_t p, k = 0
    cdef int i
    cdef vf total
    for p in range(pixels):
        total = vset(0)
        for i in range(taps[p]):
            total = total + vset(weights[k]) * vload(x + offsets[k])
            k = k + 1
        vstore(y + p * LANES, total)


cdef MoveTiles tiles
tiles.lanes = LANES
tiles.pack = pack
tiles.unpack = unpack
tiles.transpose = transpose
tiles.blend_rows = blend_rows
tiles.blend_pixels = blend_pixels
tiles.mix = mix
tiles.overlaps = overlaps
tiles.weigh = weigh
capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
