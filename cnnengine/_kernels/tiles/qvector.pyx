"""Tiles of quantised numbers, but for products: between layouts, to and from floats, by a table, two to one, mixtures of pixels.

Moves are transposes in blocks of 16 pixels: the rows of 16 bytes of as many channels as a pixel has lanes, as one run, have their
halves interleaved until the channel is the innermost index (qbytes.h); backwards as many times as 16 pixels have bits. The last
block of a row overlaps the one before it; a row of fewer pixels is one block, of which a part is read and written.

Numbers are computed as floats, LANES at a time, four registers for one register of bytes. What rounds, and where, is said in
qvector.pxd; it is the same on every instruction set: a true division, products and sums that are rounded each, halves to even.
A register of bytes that is left over at the end goes through a buffer.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memset

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE

from cnnengine._kernels.qsimd cimport vbytes_int, vi_load, vround, vstore_bytes
from cnnengine._kernels.simd cimport *


cdef extern from "qbytes.h" nogil:
    ctypedef unsigned char vb
    ctypedef unsigned char b16
    ctypedef struct bytes_table:
        pass
    enum: TABLE_REGISTERS
    vi viset(int) noexcept
    vb vb_load(const uint8_t *) noexcept
    void vb_store(uint8_t *, vb) noexcept
    vb vb_set(int) noexcept
    vb vb_xor(vb, vb) noexcept
    vb vb_join(const vi *) noexcept
    void vb_less(vb, float, vf *) noexcept
    vb vb_rounded(const vf *, int) noexcept
    vb vb_between(vb, vb, vb) noexcept
    b16 b16_load(const uint8_t *) noexcept
    void b16_store(uint8_t *, b16) noexcept
    b16 b16_set(int) noexcept
    b16 b16_part(const uint8_t *, size_t) noexcept
    void b16_store_part(uint8_t *, b16, size_t) noexcept
    b16 b16_or(b16, b16) noexcept
    b16 b16_and(b16, b16) noexcept
    b16 b16_pick(b16, b16) noexcept
    void b16_shuffle(b16 *, int rows, int times) noexcept
    void table_start(bytes_table *, const uint8_t *) noexcept
    void table_apply(const bytes_table *, const uint8_t *, uint8_t *) noexcept

cdef enum:
    BYTES = 4 * LANES                   # of one register


# ---------------------------------------------------------------- moves

cdef inline void pack_block(int width, int log, bint whole, const uint8_t *x, Py_ssize_t xc, Py_ssize_t readable, uint8_t *y,
                            Py_ssize_t pixels, Py_ssize_t channels, int fill) noexcept nogil:
    """At most 16 pixels; `width`, 1 << log of it and `whole` are constants, the last one whether there are 16 of as many channels."""
    cdef b16 r[16]
    cdef int i
    cdef Py_ssize_t left
    for i in range(width):
        if whole:
            r[i] = b16_load(x + i * xc)
        elif i >= channels:
            r[i] = b16_set(fill)
        elif readable >= 16:
            r[i] = b16_load(x + i * xc)
        else:
            r[i] = b16_part(x + i * xc, pixels)
    b16_shuffle(r, width, log)
    for i in range(width):
        left = pixels * width - 16 * i
        if whole or left >= 16:
            b16_store(y + 16 * i, r[i])
        elif left > 0:
            b16_store_part(y + 16 * i, r[i], left)


cdef inline void pack_any(int width, int log, const uint8_t *x, Py_ssize_t xc, Py_ssize_t readable, uint8_t *y, Py_ssize_t pixels,
                          Py_ssize_t channels, int fill) noexcept nogil:
    cdef Py_ssize_t at = 0
    if pixels < 16:
        if pixels > 0:
            pack_block(width, log, False, x, xc, readable, y, pixels, channels, fill)
        return
    while at < pixels:
        at = at if at + 16 <= pixels else pixels - 16
        if channels == width:
            pack_block(width, log, True, x + at, xc, 16, y + at * width, 16, channels, fill)
        else:
            pack_block(width, log, False, x + at, xc, 16, y + at * width, 16, channels, fill)
        at = at + 16


cdef inline void unpack_block(int width, bint whole, const uint8_t *x, uint8_t *y, Py_ssize_t yc, Py_ssize_t writable, Py_ssize_t pixels,
                              Py_ssize_t channels) noexcept nogil:
    cdef b16 r[16]
    cdef int i
    cdef Py_ssize_t left
    for i in range(width):
        left = pixels * width - 16 * i
        if whole or left >= 16:
            r[i] = b16_load(x + 16 * i)
        else:
            r[i] = b16_part(x + 16 * i, left if left > 0 else 0)
    b16_shuffle(r, width, 4)
    for i in range(width):
        if whole:
            b16_store(y + i * yc, r[i])
        elif i < channels:
            if writable >= 16:
                b16_store(y + i * yc, r[i])
            else:
                b16_store_part(y + i * yc, r[i], pixels)


cdef inline void unpack_any(int width, const uint8_t *x, uint8_t *y, Py_ssize_t yc, Py_ssize_t writable, Py_ssize_t pixels,
                            Py_ssize_t channels) noexcept nogil:
    cdef Py_ssize_t at = 0
    if pixels < 16:
        if pixels > 0:
            unpack_block(width, False, x, y, yc, writable, pixels, channels)
        return
    while at < pixels:
        at = at if at + 16 <= pixels else pixels - 16
        if channels == width:
            unpack_block(width, True, x + at * width, y + at, yc, 16, 16, channels)
        else:
            unpack_block(width, False, x + at * width, y + at, yc, 16, 16, channels)
        at = at + 16


cdef void pack(const uint8_t *x, Py_ssize_t xc, Py_ssize_t readable, uint8_t *y, Py_ssize_t pixels, Py_ssize_t channels,
               int fill) noexcept nogil:
    pack_any(LANES, VLOG, x, xc, readable, y, pixels, channels, fill)


cdef void pack4(const uint8_t *x, Py_ssize_t xc, Py_ssize_t readable, uint8_t *y, Py_ssize_t pixels, Py_ssize_t channels,
                int fill) noexcept nogil:
    pack_any(4, 2, x, xc, readable, y, pixels, channels, fill)


cdef void unpack(const uint8_t *x, uint8_t *y, Py_ssize_t yc, Py_ssize_t writable, Py_ssize_t pixels, Py_ssize_t channels) noexcept nogil:
    unpack_any(LANES, x, y, yc, writable, pixels, channels)


cdef void unpack4(const uint8_t *x, uint8_t *y, Py_ssize_t yc, Py_ssize_t writable, Py_ssize_t pixels, Py_ssize_t channels) noexcept nogil:
    unpack_any(4, x, y, yc, writable, pixels, channels)


cdef inline void mix_some(int parts, bint keep, const uint8_t *const *x, const b16 *order, b16 kept, uint8_t *y, Py_ssize_t n) noexcept nogil:
    """n bytes; `parts`, where they are few, and `keep` are constants."""
    cdef Py_ssize_t at = 0
    cdef b16 v
    cdef int i
    while at + 16 <= n:
        v = b16_and(b16_load(y + at), kept) if keep else b16_set(0)
        for i in range(parts):
            v = b16_or(v, b16_pick(b16_load(x[i] + at), order[i]))
        b16_store(y + at, v)
        at = at + 16
    if at < n:
        v = b16_and(b16_part(y + at, n - at), kept) if keep else b16_set(0)
        for i in range(parts):
            v = b16_or(v, b16_pick(b16_part(x[i] + at, n - at), order[i]))
        b16_store_part(y + at, v, n - at)


cdef void mix(const uint8_t *const *x, const uint8_t *orders, int parts, bint keep, uint8_t *y, Py_ssize_t pixels) noexcept nogil:
    cdef b16 order[16]
    cdef uint8_t bytes_of[16]
    cdef uint8_t kept[16]
    cdef int i, l
    memset(kept, 255, 16)
    for i in range(parts):
        for l in range(16):
            bytes_of[l] = orders[i * LANES + l % LANES]
            if bytes_of[l] != 255:
                bytes_of[l] = <uint8_t>(bytes_of[l] + l // LANES * LANES)
                kept[l] = 0
        order[i] = b16_load(bytes_of)
    if keep:
        mix_some(parts, True, x, order, b16_load(kept), y, pixels * LANES)
    elif parts == 1:
        mix_some(1, False, x, order, b16_load(kept), y, pixels * LANES)
    elif parts == 2:
        mix_some(2, False, x, order, b16_load(kept), y, pixels * LANES)
    else:
        mix_some(parts, False, x, order, b16_load(kept), y, pixels * LANES)


cdef void pick(const uint8_t *x, const Py_ssize_t *first, uint8_t *y, Py_ssize_t pixels) noexcept nogil:
    cdef Py_ssize_t p
    for p in range(pixels):
        memcpy(y + p * LANES, x + first[p], LANES)


cdef void flip(const uint8_t *x, uint8_t *y, Py_ssize_t n, int bits) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n // BYTES):
        vb_store(y + i * BYTES, vb_xor(vb_load(x + i * BYTES), vb_set(bits)))
    for i in range(n // BYTES * BYTES, n):
        y[i] = <uint8_t>(x[i] ^ bits)


cdef void table(const uint8_t *entries, const uint8_t *x, uint8_t *y, Py_ssize_t n) noexcept nogil:
    cdef bytes_table t
    cdef Py_ssize_t i = 0
    if TABLE_REGISTERS and n >= TABLE_REGISTERS * BYTES:
        table_start(&t, entries)
        while i + TABLE_REGISTERS * BYTES <= n:
            table_apply(&t, x + i, y + i)
            i = i + TABLE_REGISTERS * BYTES
    while i < n:
        y[i] = entries[x[i]]
        i = i + 1


# ---------------------------------------------------------------- to and from floats

cdef inline vi quantized(vf x, vf scale, vi zero) noexcept nogil:
    """For scales and zero points of single lanes."""
    cdef vf q = vmin_nan(vmax_nan(x / scale, vi_to_vf(-zero)), vi_to_vf(viset(255) - zero))
    return vround(vselect(veq(q, q), q, vset(0))) + zero


cdef void quantize(const float *x, const scaling_t *s, uint8_t *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef vf scale = vset(s.scale[0]), q
    cdef vi zero = viset(s.zero[0])
    cdef float low = <float>-s.zero[0], high = <float>(255 - s.zero[0])
    cdef vb bits = vb_set(s.flip)
    cdef vi r[4]
    cdef int k, l
    cdef uint8_t last[LANES]
    cdef int zeros[LANES]
    if not s.each:
        while i + BYTES <= n:
            for k in range(4):
                q = vmin_keep(vmax_keep(vload(x + i + k * LANES) / scale, low), high)
                r[k] = vround(vselect(veq(q, q), q, vset(0))) + zero
            vb_store(y + i, vb_xor(vb_join(r), bits))
            i = i + BYTES
    while i < n:
        k = <int>(n - i) if n - i < LANES else LANES
        if s.each:
            memset(zeros, 0, sizeof(zeros))
            memcpy(zeros, s.zero + i, k * sizeof(int))
            zero = vi_load(zeros)
            scale = vload_fill(s.scale + i, k, 1)
        vstore_bytes(last, quantized(vload_part(x + i, k), scale, zero))
        for l in range(k):
            y[i + l] = <uint8_t>(last[l] ^ s.flip)
        i = i + LANES


cdef void dequantize(const uint8_t *x, const scaling_t *s, float *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef vf scale = vset(s.scale[0])
    cdef vi zero = viset(s.zero[0]), bits = viset(s.flip)
    cdef uint8_t last[LANES]
    cdef int zeros[LANES]
    cdef int k
    if not s.each:
        while i + LANES <= n:
            vstore(y + i, vi_to_vf((vbytes_int(x + i) ^ bits) - zero) * scale)
            i = i + LANES
    while i < n:
        k = <int>(n - i) if n - i < LANES else LANES
        memset(last, 0, sizeof(last))
        memcpy(last, x + i, k)
        if s.each:
            memset(zeros, 0, sizeof(zeros))
            memcpy(zeros, s.zero + i, k * sizeof(int))
            zero = vi_load(zeros)
            scale = vload_part(s.scale + i, k)
        vstore_part(y + i, vi_to_vf((vbytes_int(last) ^ bits) - zero) * scale, k)
        i = i + LANES


cdef void range_of(const float *x, float *found, Py_ssize_t n) noexcept nogil:
    cdef vf low = vset(0), high = vset(0), v, low2 = vset(0), high2 = vset(0)
    cdef Py_ssize_t i = 0
    while i + 2 * LANES <= n:
        v = vload(x + i)
        low, high = vmin_nan(low, v), vmax_nan(high, v)
        v = vload(x + i + LANES)
        low2, high2 = vmin_nan(low2, v), vmax_nan(high2, v)
        i = i + 2 * LANES
    while i < n:
        v = vload_part(x + i, <int>(n - i) if n - i < LANES else LANES)
        low, high = vmin_nan(low, v), vmax_nan(high, v)
        i = i + LANES
    found[0] = vlane(vall_min(vmin_nan(low, low2)), 0)
    found[1] = vlane(vall_max(vmax_nan(high, high2)), 0)


# ---------------------------------------------------------------- two operands

cdef inline vb paired(vb a, vb b, const pairing_t *s, bint product) noexcept nogil:
    cdef vf p[4]
    cdef vf q[4]
    cdef int k
    vb_less(a, s.a_zero, p)
    vb_less(b, s.b_zero, q)
    for k in range(4):
        if product:
            p[k] = p[k] * q[k] * s.a_ratio
        else:
            p[k] = vrounded(p[k] * s.a_ratio) + vrounded(q[k] * s.b_ratio)
    return vb_between(vb_rounded(p, s.zero), vb_set(s.low), vb_set(s.high))


cdef inline void pair_any(bint product, bint own, const uint8_t *a, const uint8_t *b, Py_ssize_t period, const pairing_t *s, uint8_t *y,
                          Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef uint8_t left[BYTES]
    cdef uint8_t right[BYTES]
    cdef vb other = vb_set(0)
    cdef pairing_t numbers = s[0]       # which no store can change
    if not own:
        other = vb_load(b) if period > 1 else vb_set(b[0])
    while i + BYTES <= n:
        vb_store(y + i, paired(vb_load(a + i), vb_load(b + i) if own else other, &numbers, product))
        i = i + BYTES
    if i < n:
        memset(left, 0, BYTES)
        memset(right, 0, BYTES)
        memcpy(left, a + i, n - i)
        if own:
            memcpy(right, b + i, n - i)
            other = vb_load(right)
        vb_store(left, paired(vb_load(left), other, &numbers, product))
        memcpy(y + i, left, n - i)


cdef void pair(const uint8_t *a, const uint8_t *b, Py_ssize_t period, const pairing_t *s, uint8_t *y, Py_ssize_t n) noexcept nogil:
    if s.product:
        if period:
            pair_any(True, False, a, b, period, s, y, n)
        else:
            pair_any(True, True, a, b, period, s, y, n)
    elif period:
        pair_any(False, False, a, b, period, s, y, n)
    else:
        pair_any(False, True, a, b, period, s, y, n)


# ---------------------------------------------------------------- mixtures of pixels

cdef inline vf blended(vf a, vf b, float t) noexcept nogil:
    return a + vrounded((b - a) * t)


cdef void blend_bytes(const uint8_t *a, const uint8_t *b, float t, float *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i < n:
        vstore(y + i, blended(vi_to_vf(vbytes_int(a + i)), vi_to_vf(vbytes_int(b + i)), t))
        i = i + LANES


cdef void blend_floats(const float *a, const float *b, float t, float *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i < n:
        vstore(y + i, blended(vload(a + i), vload(b + i), t))
        i = i + LANES


cdef void blend_pixels(const float *x, const Py_ssize_t *first, const Py_ssize_t *second, const float *t, const blending_t *s,
                       uint8_t *y, Py_ssize_t pixels) noexcept nogil:
    cdef Py_ssize_t p
    cdef float low = <float>(s.low - s.zero), high = <float>(s.high - s.zero)
    cdef vf x_zero = vset(s.x_zero), ratio = vset(s.ratio), v
    cdef vi zero = viset(s.zero)
    for p in range(pixels):
        v = vrounded(blended(vload(x + first[p]), vload(x + second[p]), t[p]) - x_zero) * ratio
        vstore_bytes(y + p * LANES, vround(vmin_keep(vmax_keep(v, low), high)) + zero)


cdef QVectorTiles tiles
tiles.lanes = LANES
tiles.pack = pack
tiles.pack4 = pack4
tiles.unpack = unpack
tiles.unpack4 = unpack4
tiles.mix = mix
tiles.pick = pick
tiles.flip = flip
tiles.table = table
tiles.quantize = quantize
tiles.dequantize = dequantize
tiles.range = range_of
tiles.pair = pair
tiles.blend_bytes = blend_bytes
tiles.blend_floats = blend_floats
tiles.blend_pixels = blend_pixels
capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
