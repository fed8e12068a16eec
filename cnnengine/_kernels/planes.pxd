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
