# The native half of a plan: an array of steps over operand slots, and the memory of one running call.

from libc.stdint cimport int64_t

from cnnengine.runtime.threads cimport step_t

cdef enum:
    SLOT_NULL = 0
    SLOT_ARENA = 1
    SLOT_CONSTANT = 2
    SLOT_INPUT = 3
    SLOT_OUTPUT = 4

cdef struct slot_t:
    int kind
    Py_ssize_t where                    # offset in the arena, address of a constant, or number of an input or output


# Words in which a step says that its inputs were bad (`Lowering.faults`): `chunks` times (whether, value, axis), all int64.
cdef struct fault_t:
    Py_ssize_t step, slot, chunks
    const char *text                    # for callers without Python


# The number of the first fault that these steps reported, or -1; `word` then points to its three words.
cdef Py_ssize_t find_fault(const fault_t *faults, Py_ssize_t n, Py_ssize_t first, Py_ssize_t count, void *const *args,
                           const int64_t **word) noexcept nogil


cdef class NativePlan:
    cdef step_t *steps
    cdef slot_t *slots
    cdef char *habits                   # HABIT_BYTES for each step that a run may begin with
    cdef readonly Py_ssize_t n_steps, n_slots, n_inputs, n_outputs
    cdef readonly Py_ssize_t arena_bytes
    cdef readonly Py_ssize_t scratch_bytes
    cdef fault_t *faults
    cdef readonly Py_ssize_t n_faults
    cdef list fault_nodes               # (node, operator) of each
    cdef object keep                    # launches and constant arrays that the pointers reach into


cdef class Workspace:
    cdef char *arena
    cdef char *scratch
    cdef void **args
    cdef NativePlan plan
    cdef readonly Py_ssize_t arena_bytes, scratch_bytes, n_args
    cdef int attach(self, NativePlan plan, int threads) except -1
    cdef int point(self, void *const *ins, void *const *outs) except -1
    cdef void fill(self) noexcept
    cdef int verify(self, Py_ssize_t first, Py_ssize_t count) except -1


cdef class Call:
    cdef NativePlan plan
    cdef tuple inputs                   # (name, slot, shape, format, alignment)
    cdef tuple outputs                  # (shape, dtype)
    cdef tuple order
