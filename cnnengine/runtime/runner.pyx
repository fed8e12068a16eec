# cython: language_level=3
"""Run compiled steps: no Python object, no allocation, no GIL between the first step and the last.

A `NativePlan` is immutable and shared; everything that a run changes lies in a `Workspace`, one per concurrent call.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset, strcmp

from cnnengine._kernels.launch cimport Launch
from cnnengine.runtime.threads cimport HABIT_BYTES, run_steps, step_t, time_steps

import numpy as np

from cnnengine.errors import InputError

cdef object ndarray = np.ndarray
cdef object empty = np.empty

cdef extern from "portable.h" nogil:
    void *aligned_malloc(size_t size) noexcept
    void aligned_release(void *p) noexcept

cdef extern from "<stdatomic.h>" nogil:
    ctypedef struct atomic_llong "_Atomic long long":
        pass
    long long atomic_load(atomic_llong *p) noexcept
    long long atomic_fetch_add(atomic_llong *p, long long v) noexcept

cdef atomic_llong _allocations          # workspaces grow in any thread
cdef int _fill_byte = -1

# Steps cheaper than this many nanoseconds are estimated from bytes and operations at these rates of one thread.
cdef double BYTES_PER_NS = 16.0
cdef double FLOPS_PER_NS = 80.0


def allocation_count() -> int:
    """Blocks of memory that plans and workspaces have asked for so far in this process; runs of one shape add none."""
    return atomic_load(&_allocations)


def fill_arenas(byte=None):
    """Fill every arena with this byte before each run (255 makes NaNs): tests show reads of what nobody wrote. None stops."""
    global _fill_byte
    _fill_byte = -1 if byte is None else byte


cdef void *allocate(Py_ssize_t size) except NULL:
    cdef void *p = aligned_malloc(size)
    if p == NULL:
        raise MemoryError(f"{size} bytes")
    atomic_fetch_add(&_allocations, 1)
    return p


cdef Py_ssize_t find_fault(const fault_t *faults, Py_ssize_t n, Py_ssize_t first, Py_ssize_t count, void *const *args,
                           const int64_t **word) noexcept nogil:
    cdef Py_ssize_t i, k
    cdef const int64_t *words
    for i in range(n):
        if first <= faults[i].step < first + count:
            words = <const int64_t *>args[faults[i].slot]
            for k in range(faults[i].chunks):
                if words[3 * k]:
                    word[0] = words + 3 * k
                    return i
    return -1


def bad_index(node, operator, value, axis):
    """The error of an index that a kernel found outside of its axis."""
    text, tensor = fault_of(operator)
    return InputError(text, node=node, operator=operator, tensor=tensor, received=value)


cdef tuple fault_of(operator):
    """What a step of this operator reports, and of which of its inputs."""
    if operator in ("LSTM", "GRU", "RNN"):
        return "a length lies outside the steps", "sequence_lens"
    return "an index lies outside the axis", "indices"


cdef uintptr_t address(object array) except? 0:
    """Where the data of a C-contiguous array lies; far quicker than array.ctypes."""
    cdef Py_buffer buffer
    cdef uintptr_t found
    try:
        PyObject_GetBuffer(array, &buffer, PyBUF_SIMPLE)
    except (BufferError, TypeError, ValueError):  # element types that buffers cannot name
        return array.ctypes.data
    found = <uintptr_t>buffer.buf
    PyBuffer_Release(&buffer)
    return found


cdef class NativePlan:
    """Steps over operand slots.

    Parameters
    ----------
    steps : list of (Launch, list of slots)
        A slot is (kind, where): ("null", 0), ("arena", byte offset), ("constant", ndarray), ("input", n), ("output", n).
        Absent operands at the end may be left out.
    arena_bytes : int
    faults : list of (step, operand, words, node, operator)
        Operands in which steps report bad inputs.
    """

    def __cinit__(self, list steps, Py_ssize_t arena_bytes, list faults=[]):
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
        self.n_faults = len(faults)
        self.fault_nodes = []
        self.faults = <fault_t *>allocate(sizeof(fault_t) * self.n_faults)
        for i, (step, operand, words, node, operator) in enumerate(faults):
            text = f"node {node} ({operator}): {fault_of(operator)[0]}".encode()
            self.keep.append(text)
            self.faults[i].step = step
            self.faults[i].slot = self.steps[<Py_ssize_t>step].first_arg + operand
            self.faults[i].chunks = words // 3
            self.faults[i].text = text
            self.fault_nodes.append((node, operator))

    def __dealloc__(self):
        aligned_release(self.faults)
        aligned_release(self.steps)
        aligned_release(self.slots)
        aligned_release(self.habits)


cdef int suffice(Workspace workspace, int threads) except -1:
    """Raise unless there is scratch for so many threads."""
    if threads < 1 or threads * workspace.plan.scratch_bytes > workspace.scratch_bytes:
        raise ValueError("no thread, or more than the workspace was begun for")
    return 0


cdef class Workspace:
    """Arena, scratch and operand pointers of one running call; serves one plan after another, and grows as they need."""

    def __dealloc__(self):
        aligned_release(self.arena)
        aligned_release(self.scratch)
        aligned_release(self.args)

    cdef int attach(self, NativePlan plan, int threads) except -1:
        cdef Py_ssize_t i
        cdef Py_ssize_t scratch = plan.scratch_bytes * threads
        if threads < 1:
            raise ValueError("no run without a thread")
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

    cdef int point(self, void *const *ins, void *const *outs) except -1:
        """Point the operands of the attached plan at the memory of its inputs and outputs."""
        cdef NativePlan plan = self.plan
        cdef Py_ssize_t i
        for i in range(plan.n_slots):
            if plan.slots[i].kind == SLOT_INPUT:
                self.args[i] = ins[plan.slots[i].where]
            elif plan.slots[i].kind == SLOT_OUTPUT:
                self.args[i] = outs[plan.slots[i].where]
        self.fill()
        return 0

    cdef void fill(self) noexcept:
        if _fill_byte >= 0 and self.plan.arena_bytes:
            memset(self.arena, _fill_byte, self.plan.arena_bytes)

    def begin(self, NativePlan plan, list inputs, list outputs, int threads):
        """Attach to a plan and point its operands at these arrays (C-contiguous; the caller keeps them alive)."""
        cdef Py_ssize_t i
        self.attach(plan, threads)
        if plan.n_inputs > len(inputs) or plan.n_outputs > len(outputs):
            raise ValueError(f"{len(inputs)} inputs, {len(outputs)} outputs for {plan.n_inputs}, {plan.n_outputs}")
        ins = [address(a) for a in inputs]
        outs = [address(a) for a in outputs]
        for i in range(plan.n_slots):
            if plan.slots[i].kind == SLOT_INPUT:
                self.args[i] = <void *><uintptr_t>ins[plan.slots[i].where]
            elif plan.slots[i].kind == SLOT_OUTPUT:
                self.args[i] = <void *><uintptr_t>outs[plan.slots[i].where]
        self.fill()

    def run(self, Py_ssize_t first, Py_ssize_t count, int threads):
        """Run `count` steps from `first` on; releases the GIL.

        Raises
        ------
        InputError
            A step found an index outside of its axis; every step has run, on such indices as if they were 0.
        """
        cdef NativePlan plan = self.plan
        if first < 0 or count < 0 or first + count > plan.n_steps:
            raise ValueError("steps outside the plan")
        suffice(self, threads)
        with nogil:
            run_steps(plan.steps + first, count, <void *const *>self.args, self.scratch, plan.scratch_bytes, threads,
                      plan.habits + HABIT_BYTES * first if count == plan.n_steps or count > 1 else NULL)
        self.verify(first, count)

    cdef int verify(self, Py_ssize_t first, Py_ssize_t count) except -1:
        """Raise InputError where one of these steps reported an index."""
        cdef NativePlan plan = self.plan
        cdef const int64_t *word = NULL
        cdef Py_ssize_t fault
        if plan.n_faults:
            fault = find_fault(plan.faults, plan.n_faults, first, count, <void *const *>self.args, &word)
            if fault >= 0:
                node, operator = plan.fault_nodes[fault]
                raise bad_index(node, operator, word[1], word[2])
        return 0

    def time(self, Py_ssize_t first, Py_ssize_t count, int threads, double[::1] taken):
        """`run`, and write the nanoseconds that each step took into `taken`."""
        cdef NativePlan plan = self.plan
        if first < 0 or count < 0 or first + count > plan.n_steps or taken.shape[0] < count:
            raise ValueError("steps outside the plan")
        suffice(self, threads)
        if count:
            with nogil:
                time_steps(plan.steps + first, count, <void *const *>self.args, self.scratch, plan.scratch_bytes, threads, &taken[0])

    def array(self, Py_ssize_t offset, tuple shape, dtype):
        """A tensor in the arena as an array; valid until the workspace serves another call."""
        cdef Py_ssize_t size = dtype.itemsize
        for extent in shape:
            size *= extent
        if offset < 0 or offset + size > self.arena_bytes:
            raise ValueError("outside the arena")
        if size == 0:
            return np.empty(shape, dtype)
        return np.frombuffer(<char[:size]>(self.arena + offset), dtype).reshape(shape)


cdef enum:
    CALL_OPERANDS = 8                   # inputs, and outputs, that a Call takes at most


cdef class Call:
    """Runs of a plan on arrays that lie as the plan reads them: what costs a small model most is Python around its steps.

    Parameters
    ----------
    plan : NativePlan
        A whole model, without host steps.
    inputs : sequence of (name, slot, shape, dtype)
        What the caller hands in; slot -1 where the plan does not read it.
    outputs : sequence of (shape, dtype)
        Of the plan, by slot.
    order : sequence of int
        The slots that the caller gets, in this order.
    """

    def __init__(self, NativePlan plan, inputs, outputs, order):
        self.plan = plan
        self.inputs = tuple([(name, slot, tuple(shape), format_of(dtype), dtype.alignment) for name, slot, shape, dtype in inputs])
        self.outputs = tuple([(tuple(shape), dtype) for shape, dtype in outputs])
        self.order = tuple(order)
        if max(len(self.inputs), len(self.outputs)) > CALL_OPERANDS or plan.n_outputs > len(self.outputs):
            raise ValueError(f"{len(self.inputs)} inputs, {len(self.outputs)} outputs: {CALL_OPERANDS} at most")
        if plan.n_inputs > 1 + max([slot for _, slot, _, _, _ in self.inputs], default=-1):
            raise ValueError("the plan reads an input that is not handed in")

    @staticmethod
    def takes(inputs, outputs):
        """Whether there may be a Call: few operands, and element types that buffers can tell."""
        kinds = [dtype.kind in "biuf" and dtype.isbuiltin == 1 for *_, dtype in (*inputs, *outputs)]
        return max(len(inputs), len(outputs)) <= CALL_OPERANDS and all(kinds)

    def run(self, feeds, list workspaces, int threads):
        """Fresh outputs for these inputs; None, and nothing done, unless they are plain arrays of the planned shapes and dtypes.

        The workspace comes from the end of the list, and goes back there.
        """
        cdef Py_buffer views[CALL_OPERANDS]
        cdef Py_buffer made
        cdef void *ins[CALL_OPERANDS]
        cdef void *outs[CALL_OPERANDS]
        cdef Py_ssize_t held = 0, slot, i, alignment
        cdef Workspace workspace
        cdef NativePlan plan = self.plan
        cdef tuple shape
        cdef bytes form
        cdef list outputs = []
        if type(feeds) is not dict or len(<dict>feeds) != len(self.inputs):
            return None
        try:
            for name, slot, shape, form, alignment in self.inputs:
                array = (<dict>feeds).get(name)
                if type(array) is not ndarray:
                    return None
                try:
                    PyObject_GetBuffer(array, &views[held], PyBUF_FORMAT | PyBUF_STRIDES)
                except (ValueError, BufferError):
                    return None
                held += 1
                if views[held - 1].ndim != len(shape) or strcmp(views[held - 1].format, form) != 0:
                    return None
                for i in range(views[held - 1].ndim):
                    if views[held - 1].shape[i] != <Py_ssize_t>shape[i]:
                        return None
                if not PyBuffer_IsContiguous(&views[held - 1], b"C") or <uintptr_t>views[held - 1].buf % alignment:
                    return None
                if slot >= 0:
                    ins[slot] = views[held - 1].buf
            for shape, dtype in self.outputs:
                array = empty(shape, dtype)
                PyObject_GetBuffer(array, &made, PyBUF_STRIDES | PyBUF_WRITABLE)
                outs[len(outputs)] = made.buf
                PyBuffer_Release(&made)
                outputs.append(array)
            try:
                workspace = workspaces.pop()
            except IndexError:
                workspace = Workspace()
            try:
                workspace.attach(plan, threads)
                workspace.point(ins, outs)
                with nogil:
                    run_steps(plan.steps, plan.n_steps, <void *const *>workspace.args, workspace.scratch, plan.scratch_bytes, threads,
                              plan.habits)
                workspace.verify(0, plan.n_steps)
            finally:
                workspaces.append(workspace)
        finally:
            for i in range(held):
                PyBuffer_Release(&views[i])
        return [outputs[slot] for slot in self.order]


def format_of(dtype):
    """The buffer protocol's name of an element type, as bytes."""
    return memoryview(empty(0, dtype)).format.encode()
