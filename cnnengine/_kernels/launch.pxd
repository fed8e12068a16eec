# One resolved call of a kernel: a chunk function over a geometry struct.
#
# A kernel is two nogil functions over one geometry: how many chunks there are, and `chunk_fn`, which computes one of them.
# A chunk writes its own outputs and nothing else, so chunks may run in any order and in any threads, with bit-identical results.
# `args` are the operands' buffers (inputs first, then outputs; NULL for an absent optional one); `scratch` is at least
# `scratch_bytes` of 64-byte aligned memory that belongs to the calling thread. Its first 64 bytes are zeros when a thread runs its
# first chunk of a call; what a chunk leaves in scratch, the same thread's next chunk of that call finds there.
#
# A builder ends in `make_launch`. Its operands are float32 with one output, the last, unless it says otherwise by `typed`; where
# tables of a length of their own follow the geometry struct, it writes them to what `tail` gives:
#
#     launch = make_launch("gather", gather_chunk, &g, sizeof(g), chunks, 0, (x.nbytes, y.nbytes), 0.0, moved)
#     memcpy(launch.tail(count * sizeof(Py_ssize_t)), offsets, count * sizeof(Py_ssize_t))
#     return launch.typed(inputs, outputs)

ctypedef void (*chunk_fn)(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil

cdef enum:
    MAX_ARGS = 24


cdef struct operand_t:
    int type                            # kind of numbers as NumPy's dtype.kind has it, and the bytes of one: launch.pyx
    int written


cdef class Launch:
    cdef chunk_fn fn
    cdef void *geometry                 # 64-byte aligned copy, owned
    cdef Py_ssize_t geometry_bytes
    cdef readonly str kernel            # name, with the variant chosen, for reports
    cdef readonly Py_ssize_t n_chunks
    cdef readonly Py_ssize_t scratch_bytes
    cdef readonly Py_ssize_t n_args
    cdef readonly tuple extents         # bytes that each operand must at least have (0: may be absent)
    cdef readonly double flops          # floating-point operations of one call, for reports and threading
    cdef readonly double nbytes         # bytes read and written by one call
    cdef Py_ssize_t *_extents
    cdef operand_t *_operands

    cdef char *tail(self, Py_ssize_t nbytes) except NULL
    cdef Launch typed(self, object inputs, object outputs)
    cdef int check(self, Py_ssize_t index, Py_ssize_t nbytes) except -1
    cdef int run(self, void **args, int threads) except -1


cdef Launch make_launch(str kernel, chunk_fn fn, const void *geometry, Py_ssize_t geometry_bytes, Py_ssize_t n_chunks,
                        Py_ssize_t scratch_bytes, tuple extents, double flops, double nbytes)
