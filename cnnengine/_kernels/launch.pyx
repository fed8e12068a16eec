# cython: language_level=3
"""Launch: one resolved kernel call, the one front that all kernels share, and the one `prange` over chunks.

Operands come by the buffer protocol. Each has a type, the kind of its numbers and their size, which stands in the launch beside the
bytes that the geometry reaches: a buffer is taken if it has this type, lies without gaps, is as large, and may be written to where
it is an output. Of which shape it is nobody asks: a tensor in planes is a run of floats to whoever has it.
"""

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

cdef extern from "portable.h" nogil:
    void *aligned_malloc(size_t size) noexcept
    void aligned_release(void *p) noexcept

cdef enum:
    FLOAT32 = c'f' << 8 | 4


cdef inline bint little_endian() noexcept:
    cdef int one = 1
    return (<const char *>&one)[0]


cdef int type_of(int kind, Py_ssize_t itemsize) noexcept:
    return kind << 8 | <int>itemsize


cdef int type_of_buffer(const Py_buffer *b) noexcept:
    """0 for what no kernel reads."""
    cdef const char *f = b.format
    if f == NULL:                       # bytes, says the protocol
        return type_of(c'u', 1)
    if f[0] == c'@' or f[0] == c'=' or f[0] == (c'<' if little_endian() else c'>'):
        f += 1
    if f[0] == 0 or f[1] != 0:
        return 0
    if f[0] == c'e' or f[0] == c'f' or f[0] == c'd':
        return type_of(c'f', b.itemsize)
    if f[0] == c'b' or f[0] == c'h' or f[0] == c'i' or f[0] == c'l' or f[0] == c'q' or f[0] == c'n':
        return type_of(c'i', b.itemsize)
    if f[0] == c'B' or f[0] == c'H' or f[0] == c'I' or f[0] == c'L' or f[0] == c'Q' or f[0] == c'N':
        return type_of(c'u', b.itemsize)
    return type_of(c'b', b.itemsize) if f[0] == c'?' else 0


cdef str name_of(int type):
    """As NumPy spells it."""
    if not type:
        return "a type that no kernel reads"
    if type == type_of(c'b', 1):
        return "bool"
    return f"{ {c'f': 'float', c'i': 'int', c'u': 'uint'}[type >> 8] }{8 * (type & 255)}"


cdef class Launch:
    """A kernel with its geometry resolved: immutable once its builder has returned it, shareable between threads, run any number of
    times.

    ``launch(*operands, threads=1)`` runs it on arrays: the inputs in the order of its builder, then the outputs, None for an
    absent one.
    """

    def __dealloc__(self):
        aligned_release(self.geometry)
        aligned_release(self._extents)
        aligned_release(self._operands)

    def __repr__(self):
        return f"<Launch {self.kernel}: {self.n_chunks} chunks>"

    def __call__(self, *operands, int threads=1):
        """Run every chunk on these operands, on at most `threads` threads.

        Parameters
        ----------
        *operands : objects with the buffer protocol, or None
            One for each of the kernel's inputs, then one for each of its outputs; the last ones may be left out if they may be None.
            C-contiguous, of the type and at least as large as the view that the kernel was built for; outputs writable.
        threads : int

        Raises
        ------
        ValueError
            An operand is absent that is needed, or has another type, gaps, too few bytes or no right to be written to; `threads`
            is less than 1.
        TypeError
            There are more operands, or one has no buffer.
        """
        cdef void *args[MAX_ARGS]
        cdef Py_buffer buffers[MAX_ARGS]
        cdef Py_buffer *b
        cdef Py_ssize_t i, n = len(operands), held = 0
        cdef int type
        if n > self.n_args:
            raise TypeError(f"{self.kernel}: {n} operands, {self.n_args} are known")
        try:
            for i in range(self.n_args):
                operand = operands[i] if i < n else None
                args[i] = NULL
                if operand is None:
                    self.check(i, 0)
                    continue
                b = &buffers[held]
                try:
                    PyObject_GetBuffer(operand, b, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (PyBUF_WRITABLE if self._operands[i].written else 0))
                except (BufferError, ValueError) as error:
                    raise ValueError(f"{self.kernel}: operand {i}: {error}") from None
                held += 1
                type = type_of_buffer(b)
                if type != self._operands[i].type:
                    raise ValueError(f"{self.kernel}: operand {i} is {name_of(type)}, {name_of(self._operands[i].type)} is needed")
                self.check(i, b.len)
                if b.len:
                    args[i] = b.buf
            self.run(args, threads)
        finally:
            for i in range(held):
                PyBuffer_Release(&buffers[i])

    cdef char *tail(self, Py_ssize_t nbytes) except NULL:
        """Room for `nbytes` bytes right behind the geometry struct, which moves: called once, by the builder."""
        cdef void *whole = aligned_malloc(self.geometry_bytes + nbytes)
        if whole == NULL:
            raise MemoryError(f"{self.kernel}: {nbytes} bytes of tables")
        memcpy(whole, self.geometry, self.geometry_bytes)
        aligned_release(self.geometry)
        self.geometry = whole
        return <char *>whole + self.geometry_bytes

    cdef Launch typed(self, object inputs, object outputs):
        """This launch, its operands' types being those of the views; the last outputs may be left out. An absent one (None) is not
        asked for its type."""
        cdef Py_ssize_t i = 0, n = len(inputs)
        for view in (*inputs, *outputs):
            if i == self.n_args:
                raise ValueError(f"{self.kernel}: more views than operands, which are {self.n_args}")
            if view is not None:
                self._operands[i].type = type_of(<int>ord(view.dtype.kind), view.dtype.itemsize)
            i += 1
        for i in range(self.n_args):
            self._operands[i].written = i >= n
        return self

    cdef int check(self, Py_ssize_t index, Py_ssize_t nbytes) except -1:
        """Raise ValueError unless operand `index` with `nbytes` bytes is large enough; 0 is an absent one too."""
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
        if self.scratch_bytes and n:
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
    launch._operands = <operand_t *>aligned_malloc(sizeof(operand_t) * len(extents))
    if launch.geometry == NULL or launch._extents == NULL or launch._operands == NULL:
        raise MemoryError(kernel)
    memcpy(launch.geometry, geometry, geometry_bytes)
    for i in range(len(extents)):
        launch._extents[i] = extents[i]
        launch._operands[i] = operand_t(type=FLOAT32, written=i == len(extents) - 1)
    launch.fn = fn
    launch.geometry_bytes = geometry_bytes
    launch.kernel = kernel
    launch.n_chunks = n_chunks
    launch.scratch_bytes = scratch_bytes
    launch.n_args = len(extents)
    launch.extents = extents
    launch.flops = flops
    launch.nbytes = nbytes
    return launch
