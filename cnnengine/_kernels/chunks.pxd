# How finely a step is cut: one policy for all kernels, over the nanoseconds that a chunk is estimated to take.
#
# Handing a chunk to a thread costs up to a microsecond, and threads that end one after another wait for the last for up to a
# chunk. So a chunk takes CHUNK_NS; a step for which that makes fewer than PIECES chunks is cut into PIECES, as long as they do not
# get shorter than SHORT_NS. The estimates are of one thread of a processor of today with its data in the second-level cache or
# behind it, and coarse: a factor of two matters to nobody. They depend on extents alone, never on the number of threads.

from cnnengine._kernels.ints cimport ceil_div

cdef enum:
    CHUNK_NS = 16384
    SHORT_NS = 2048
    PIECES = 8
    BYTES_PER_NS = 16                   # read and written where values only move
    FLOPS_PER_NS = 64                   # of multiply-adds in registers, two operations each
    LARGE_PLANE = 400                   # pixels of planes that are cut by rows, so that what a thread wrote it mostly reads again


cdef inline double chunk_ns(double total) noexcept nogil:
    """What a chunk shall take of a step of `total` nanoseconds."""
    cdef double ns = total / PIECES
    return CHUNK_NS if ns > CHUNK_NS else ns if ns > SHORT_NS else SHORT_NS


cdef inline Py_ssize_t per_chunk(Py_ssize_t units, double ns) noexcept nogil:
    """How many of the `units` of a step, of `ns` nanoseconds each, a chunk has: at least one, all chunks nearly as many."""
    cdef double many = chunk_ns(units * ns) / (ns if ns > 0.001 else 0.001)
    if units < 1 or many < 1:
        return 1
    return ceil_div(units, ceil_div(units, units if many > units else <Py_ssize_t>many))


cdef inline Py_ssize_t chunks_for(Py_ssize_t units, double ns) noexcept nogil:
    """How many chunks a step of so many units of `ns` nanoseconds each has."""
    return ceil_div(units, per_chunk(units, ns))
