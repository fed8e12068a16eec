# cython: language_level=3
"""Launch: one resolved kernel call, and the one `prange` over its chunks that every front shares."""

from cython.parallel cimport prange, threadid
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

cdef extern from "portable.h" nogil:
    void *aligned_malloc(size_t size) noexcept
    void aligned_release(void *p) noexcept


cdef class Launch:
    """A kernel with its geometry resolved: immutable, shareable between threads, run any number of times.

    Built by the ``build_*`` functions of the kernel modules; ``run`` is reached through their memoryview fronts.
    """

    def __dealloc__(self):
        aligned_release(self.geometry)
        aligned_release(self._extents)

    def __repr__(self):
        return f"<Launch {self.kernel}: {self.n_chunks} chunks>"

    cdef int check(self, Py_ssize_t index, Py_ssize_t nbytes) except -1:
        """Raise ValueError unless operand `index` with `nbytes` bytes is large enough."""
        if nbytes < self._extents[index]:
            raise ValueError(f"{self.kernel}: operand {index} has {nbytes} bytes, {self._extents[index]} are needed")
        return 0

    cdef int run(self, void **args, int threads) except -1:
        """Run every chunk, on at most `threads` OpenMP threads; releases the GIL."""
        cdef Py_ssize_t i, n = self.n_chunks, stride = (self.scratch_bytes + 127) & ~63
        cdef char *scratch = NULL
        cdef chunk_fn fn = self.fn
        cdef const void *geometry = self.geometry
        if threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        if threads > n:
            threads = <int>n if n > 0 else 1
        if self.scratch_bytes:
            scratch = <char *>aligned_malloc(stride * threads)
            if scratch == NULL:
                raise MemoryError(f"{self.kernel}: {stride * threads} bytes of scratch")
            for i in range(threads):
                memset(scratch + i * stride, 0, 64)
        if threads == 1:
            with nogil:
                for i in range(n):
                    fn(geometry, args, i, scratch)
        else:
            for i in prange(n, nogil=True, schedule="dynamic", num_threads=threads):
                fn(geometry, args, i, scratch + threadid() * stride)
        aligned_release(scratch)
        return 0


cdef Launch make_launch(str kernel, chunk_fn fn, const void *geometry, Py_ssize_t geometry_bytes, Py_ssize_t n_chunks,
                        Py_ssize_t scratch_bytes, tuple extents, double flops, double nbytes):
    """Copy the geometry and make the Launch; `extents` are the bytes each operand must have."""
    cdef Launch launch = Launch.__new__(Launch)
    cdef Py_ssize_t i
    if len(extents) > MAX_ARGS:
        raise ValueError(f"{kernel}: more than {MAX_ARGS} operands")
    launch.geometry = aligned_malloc(geometry_bytes)
    launch._extents = <Py_ssize_t *>aligned_malloc(sizeof(Py_ssize_t) * len(extents))
    if launch.geometry == NULL or launch._extents == NULL:
        raise MemoryError(kernel)
    memcpy(launch.geometry, geometry, geometry_bytes)
    for i in range(len(extents)):
        launch._extents[i] = extents[i]
    launch.fn = fn
    launch.kernel = kernel
    launch.n_chunks = n_chunks
    launch.scratch_bytes = scratch_bytes
    launch.n_args = len(extents)
    launch.extents = extents
    launch.flops = flops
    launch.nbytes = nbytes
    return launch
