# The native half of a plan: an array of steps over operand slots, and the memory of one running call.

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


cdef class NativePlan:
    cdef step_t *steps
    cdef slot_t *slots
    cdef char *habits                   # HABIT_BYTES for each step that a run may begin with
    cdef readonly Py_ssize_t n_steps, n_slots, n_inputs, n_outputs
    cdef readonly Py_ssize_t arena_bytes
    cdef readonly Py_ssize_t scratch_bytes
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


cdef class Call:
    cdef NativePlan plan
    cdef tuple inputs                   # (name, slot, shape, format, alignment)
    cdef tuple outputs                  # (shape, dtype)
    cdef tuple order
