# cython: language_level=3
"""Run compiled steps: no Python object, no allocation, no GIL between the first step and the last.

A `NativePlan` is immutable and shared; everything that a run changes lies in a `Workspace`, one per concurrent call.
"""

from libc.stdint cimport uintptr_t
from libc.string cimport memset

from cnnengine._kernels.launch cimport Launch
from cnnengine.runtime.threads cimport HABIT_BYTES, run_steps, step_t, time_steps

import numpy as np

cdef extern from "portable.h" nogil:
    void *aligned_malloc(size_t size) noexcept
    void aligned_release(void *p) noexcept

cdef Py_ssize_t _allocations = 0
cdef int _fill_byte = -1

# Steps cheaper than this many nanoseconds are estimated from bytes and operations at these rates of one thread.
cdef double BYTES_PER_NS = 16.0
cdef double FLOPS_PER_NS = 80.0


def allocation_count() -> int:
    """Blocks of memory that plans and workspaces have asked for so far in this process; runs of one shape add none."""
    return _allocations


def fill_arenas(byte=None):
    """Fill every arena with this byte before each run (255 makes NaNs): tests show reads of what nobody wrote. None stops."""
    global _fill_byte
    _fill_byte = -1 if byte is None else byte


cdef void *allocate(Py_ssize_t size) except NULL:
    global _allocations
    cdef void *p = aligned_malloc(size)
    if p == NULL:
        raise MemoryError(f"{size} bytes")
    _allocations += 1
    return p


cdef class NativePlan:
    """Steps over operand slots.

    Parameters
    ----------
    steps : list of (Launch, list of slots)
        A slot is (kind, where): ("null", 0), ("arena", byte offset), ("constant", ndarray), ("input", n), ("output", n).
        Absent operands at the end may be left out.
    arena_bytes : int
    """

    def __cinit__(self, list steps, Py_ssize_t arena_bytes):
        cdef Py_ssize_t i = 0, k = 0
        cdef Launch launch
        kinds = {"null": SLOT_NULL, "arena": SLOT_ARENA, "constant": SLOT_CONSTANT, "input": SLOT_INPUT, "output": SLOT_OUTPUT}
        self.n_steps = len(steps)
        self.n_slots = sum((<Launch>one).n_args for one, _ in steps)
        self.arena_bytes = arena_bytes
        self.keep = [steps]
        self.steps = <step_t *>allocate(sizeof(step_t) * self.n_steps)
        self.slots = <slot_t *>allocate(sizeof(slot_t) * self.n_slots)
        self.habits = <char *>allocate(HABIT_BYTES * self.n_steps)
        memset(self.habits, 0, HABIT_BYTES * self.n_steps)
        for launch, slots in steps:
            if len(slots) > launch.n_args or any(launch.extents[len(slots):]):
                raise ValueError(f"{launch.kernel}: {len(slots)} operands for {launch.n_args}")
            slots = [*slots, *[("null", 0)] * (launch.n_args - len(slots))]
            self.steps[i].fn = launch.fn
            self.steps[i].geometry = launch.geometry
            self.steps[i].n_chunks = launch.n_chunks
            self.steps[i].first_arg = k
            self.steps[i].cost = max(launch.nbytes / BYTES_PER_NS, launch.flops / FLOPS_PER_NS)
            self.scratch_bytes = max(self.scratch_bytes, (launch.scratch_bytes + 63) & ~63)
            for operand, (kind, where) in enumerate(slots):
                self.slots[k].kind = kinds[kind]
                if kind == "constant":
                    launch.check(operand, where.nbytes)
                    self.slots[k].where = <Py_ssize_t><uintptr_t>where.ctypes.data
                    self.keep.append(where)
                else:
                    self.slots[k].where = where
                    if kind == "input":
                        self.n_inputs = max(self.n_inputs, where + 1)
                    elif kind == "output":
                        self.n_outputs = max(self.n_outputs, where + 1)
                    elif kind == "arena" and where + launch._extents[operand] > arena_bytes:
                        raise ValueError(f"{launch.kernel}: operand {operand} leaves the arena")
                k += 1
            i += 1

    def __dealloc__(self):
        aligned_release(self.steps)
        aligned_release(self.slots)
        aligned_release(self.habits)


cdef class Workspace:
    """Arena, scratch and operand pointers of one running call; serves one plan after another, and grows as they need."""

    def __dealloc__(self):
        aligned_release(self.arena)
        aligned_release(self.scratch)
        aligned_release(self.args)

    cdef int attach(self, NativePlan plan, int threads) except -1:
        cdef Py_ssize_t i
        cdef Py_ssize_t scratch = plan.scratch_bytes * threads
        if self.plan is not plan:
            if plan.arena_bytes > self.arena_bytes:
                aligned_release(self.arena)
                self.arena = NULL
                self.arena_bytes = 0
                self.arena = <char *>allocate(plan.arena_bytes)
                self.arena_bytes = plan.arena_bytes
            if plan.n_slots > self.n_args:
                aligned_release(self.args)
                self.args = NULL
                self.n_args = 0
                self.args = <void **>allocate(sizeof(void *) * plan.n_slots)
                self.n_args = plan.n_slots
            self.plan = None
            for i in range(plan.n_slots):
                if plan.slots[i].kind == SLOT_ARENA:
                    self.args[i] = self.arena + plan.slots[i].where
                elif plan.slots[i].kind == SLOT_CONSTANT:
                    self.args[i] = <void *>plan.slots[i].where
                else:
                    self.args[i] = NULL
            self.plan = plan
        if scratch > self.scratch_bytes:
            aligned_release(self.scratch)
            self.scratch = NULL
            self.scratch_bytes = 0
            self.scratch = <char *>allocate(scratch)
            self.scratch_bytes = scratch
        return 0

    def begin(self, NativePlan plan, list inputs, list outputs, int threads):
        """Attach to a plan and point its operands at these arrays (C-contiguous; the caller keeps them alive)."""
        cdef Py_ssize_t i
        self.attach(plan, threads)
        if plan.n_inputs > len(inputs) or plan.n_outputs > len(outputs):
            raise ValueError(f"{len(inputs)} inputs, {len(outputs)} outputs for {plan.n_inputs}, {plan.n_outputs}")
        ins = [a.ctypes.data for a in inputs]
        outs = [a.ctypes.data for a in outputs]
        for i in range(plan.n_slots):
            if plan.slots[i].kind == SLOT_INPUT:
                self.args[i] = <void *><uintptr_t>ins[plan.slots[i].where]
            elif plan.slots[i].kind == SLOT_OUTPUT:
                self.args[i] = <void *><uintptr_t>outs[plan.slots[i].where]
        if _fill_byte >= 0:
            memset(self.arena, _fill_byte, plan.arena_bytes)

    def run(self, Py_ssize_t first, Py_ssize_t count, int threads):
        """Run `count` steps from `first` on; releases the GIL."""
        cdef NativePlan plan = self.plan
        if first < 0 or count < 0 or first + count > plan.n_steps:
            raise ValueError("steps outside the plan")
        if threads * plan.scratch_bytes > self.scratch_bytes:
            raise ValueError("more threads than the workspace was begun for")
        with nogil:
            run_steps(plan.steps + first, count, <void *const *>self.args, self.scratch, plan.scratch_bytes, threads,
                      plan.habits + HABIT_BYTES * first if count == plan.n_steps or count > 1 else NULL)

    def time(self, Py_ssize_t first, Py_ssize_t count, int threads, double[::1] taken):
        """`run`, and write the nanoseconds that each step took into `taken`."""
        cdef NativePlan plan = self.plan
        if first < 0 or count < 0 or first + count > plan.n_steps or taken.shape[0] < count:
            raise ValueError("steps outside the plan")
        if threads * plan.scratch_bytes > self.scratch_bytes:
            raise ValueError("more threads than the workspace was begun for")
        if count:
            with nogil:
                time_steps(plan.steps + first, count, <void *const *>self.args, self.scratch, plan.scratch_bytes, threads, &taken[0])

    def array(self, Py_ssize_t offset, tuple shape, dtype):
        """A tensor in the arena as an array; valid until the workspace serves another call."""
        cdef Py_ssize_t size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if offset < 0 or offset + size > self.arena_bytes:
            raise ValueError("outside the arena")
        if size == 0:
            return np.empty(shape, dtype)
        return np.frombuffer(<char[:size]>(self.arena + offset), dtype).reshape(shape)
