# The C face of layout.View: extents and strides of a tensor in planes, and its halo.

from libc.string cimport memset

cdef struct planes_t:
    Py_ssize_t n, blocks, d, h, w       # blocks: channel blocks of all groups
    Py_ssize_t c                        # channels
    Py_ssize_t groups, lanes
    Py_ssize_t sn, sp, sd, sh           # strides in floats; a pixel is `lanes` floats
    Py_ssize_t offset                   # floats from the start of the buffer to pixel (0, 0, 0, 0, 0)
    Py_ssize_t d0, d1, h0, h1, w0, w1   # halo widths


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
    return p


cdef inline void fill_halo(const planes_t *y, float *base, Py_ssize_t n, Py_ssize_t block) noexcept nogil:
    """Write the zero halo of one plane; `base` is the start of the buffer."""
    cdef float *plane = base + y.offset + n * y.sn + block * y.sp
    cdef Py_ssize_t z, r, left = y.w0 * y.lanes, right = y.w1 * y.lanes
    cdef Py_ssize_t row = left + y.w * y.lanes + right
    cdef float *p
    if y.d0 == 0 and y.d1 == 0 and y.h0 == 0 and y.h1 == 0 and left == 0 and right == 0:
        return
    for z in range(-y.d0, y.d + y.d1):
        p = plane + z * y.sd - left
        if z < 0 or z >= y.d:
            for r in range(-y.h0, y.h + y.h1):
                memset(p + r * y.sh, 0, row * sizeof(float))
            continue
        for r in range(-y.h0, 0):
            memset(p + r * y.sh, 0, row * sizeof(float))
        for r in range(y.h, y.h + y.h1):
            memset(p + r * y.sh, 0, row * sizeof(float))
        if left or right:
            for r in range(y.h):
                memset(p + r * y.sh, 0, left * sizeof(float))
                memset(p + r * y.sh + row - right, 0, right * sizeof(float))
