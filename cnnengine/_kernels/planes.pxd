# The C face of layout.View: extents and strides of a tensor in planes, counted in elements, and its halo.

from libc.string cimport memset

cdef struct planes_t:
    Py_ssize_t n, blocks, d, h, w       # blocks: channel blocks of all groups
    Py_ssize_t c                        # channels
    Py_ssize_t groups, lanes
    Py_ssize_t sn, sp, sd, sh           # strides in elements; a pixel is `lanes` of them
    Py_ssize_t offset                   # elements from the start of the buffer to pixel (0, 0, 0, 0, 0)
    Py_ssize_t d0, d1, h0, h1, w0, w1   # halo widths
    int fill                            # what the halo of bytes holds


cdef inline planes_t planes_of(object view) except *:
    """From a `View` that lies in planes."""
    cdef planes_t p
    p.n = view.n
    p.blocks = view.blocks
    p.d, p.h, p.w = view.dhw
    p.c = view.c
    p.groups = view.groups
    p.lanes = view.lanes
    p.sn = view.sn
    p.sp = view.sp
    p.sd = view.sd
    p.sh = view.sh
    p.offset = view.offset
    (p.d0, p.d1), (p.h0, p.h1), (p.w0, p.w1) = view.halo
    p.fill = view.fill
    return p


cdef inline planes_t planes_of_any(object view) except *:
    """planes_t of a view in planes, or of a plain one: one lane, no halo."""
    cdef planes_t p
    if not view.is_plain:
        return planes_of(view)
    memset(&p, 0, sizeof(p))
    p.n, p.c = view.shape[:2]
    p.d, p.h, p.w = view.dhw
    p.groups = p.lanes = 1
    p.blocks = p.c
    p.sh = p.w
    p.sd = p.h * p.sh
    p.sp = p.d * p.sd
    p.sn = p.c * p.sp
    return p


cdef inline Py_ssize_t first_channel(const planes_t *p, Py_ssize_t block) noexcept nogil:
    """The channel that lane 0 of this block is."""
    cdef Py_ssize_t per_group = p.blocks // p.groups
    return block // per_group * (p.c // p.groups) + block % per_group * p.lanes


cdef inline Py_ssize_t channels_of(const planes_t *p, Py_ssize_t block) noexcept nogil:
    """Channels in this block: p.lanes, or fewer in the last block of a group."""
    cdef Py_ssize_t left = p.c // p.groups - block % (p.blocks // p.groups) * p.lanes
    return left if left < p.lanes else p.lanes


cdef inline bint same_blocks(const planes_t *x, const planes_t *y) noexcept nogil:
    """Whether every channel has the same block and lane on both sides."""
    if x.lanes != y.lanes:
        return False
    return x.groups == y.groups or ((x.groups == 1 or x.c // x.groups % x.lanes == 0) and (y.groups == 1 or y.c // y.groups % y.lanes == 0))


cdef inline bint touching(const planes_t *p) noexcept nogil:
    """Whether the rows of a plane follow each other without gaps."""
    return p.sh == p.w * p.lanes and (p.d == 1 or p.sd == p.h * p.sh)


# What one unit of a chunk function is: rows r0 to r1 of a plane, d and h counted through.
cdef struct rows_t:
    Py_ssize_t n, block, r0, r1


cdef inline rows_t rows_of(Py_ssize_t unit, Py_ssize_t units, Py_ssize_t unit_rows, Py_ssize_t rows, Py_ssize_t blocks) noexcept nogil:
    """The rows of a unit, where a plane of `rows` rows has `units` of them, of `unit_rows` rows each but for the last one."""
    cdef rows_t u
    cdef Py_ssize_t plane = unit // units
    u.n = plane // blocks
    u.block = plane % blocks
    u.r0 = unit % units * unit_rows
    u.r1 = u.r0 + unit_rows if u.r0 + unit_rows < rows else rows
    return u


cdef inline void fill_halo(const planes_t *y, float *base, Py_ssize_t n, Py_ssize_t block) noexcept nogil:
    """Write the zero halo of one plane of floats; `base` is the start of the buffer."""
    fill_halo_of(y, sizeof(float), <char *>base, n, block, 0)


cdef inline void fill_halo_bytes(const planes_t *y, char *base, Py_ssize_t n, Py_ssize_t block, int fill) noexcept nogil:
    """Write the halo of one plane of bytes."""
    fill_halo_of(y, 1, base, n, block, fill)


cdef inline void fill_halo_of(const planes_t *y, Py_ssize_t item, char *base, Py_ssize_t n, Py_ssize_t block, int fill) noexcept nogil:
    """The same for elements of `item` bytes, all of which are `fill`."""
    cdef char *plane = base + (y.offset + n * y.sn + block * y.sp) * item
    cdef Py_ssize_t z, r, left = y.w0 * y.lanes * item, right = y.w1 * y.lanes * item, sd = y.sd * item, sh = y.sh * item
    cdef Py_ssize_t row = left + y.w * y.lanes * item + right
    cdef char *p
    if y.d0 == 0 and y.d1 == 0 and y.h0 == 0 and y.h1 == 0 and left == 0 and right == 0:
        return
    for z in range(-y.d0, y.d + y.d1):
        p = plane + z * sd - left
        if z < 0 or z >= y.d:
            for r in range(-y.h0, y.h + y.h1):
                memset(p + r * sh, fill, row)
            continue
        for r in range(-y.h0, 0):
            memset(p + r * sh, fill, row)
        for r in range(y.h, y.h + y.h1):
            memset(p + r * sh, fill, row)
        if left or right:
            for r in range(y.h):
                memset(p + r * sh, fill, left)
                memset(p + r * sh + row - right, fill, right)
