# cython: language_level=3
"""Run compiled steps: no Python object, no allocation, no GIL between the first step and the last.

A `NativePlan` is immutable and shared; everything that a run changes lies in a `Workspace`, one per concurrent call.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.string cimport memset, strcmp

from cnnengine._kernels.launch cimport Launch
from cnnengine.runtime.threads cimport HABIT_BYTES, ended_fn, nanoseconds, run_steps, step_t, time_steps

import os
import threading

import numpy as np

from cnnengine.errors import InputError, StoppedError, TimedOutError

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
    int atomic_load_int "atomic_load"(const atomic_int *p) noexcept
    void atomic_store_int "atomic_store"(atomic_int *p, int v) noexcept

cdef extern from *:
    """
    static _Thread_local const void *runner_ending;
    #define RUNNER_ENDING() runner_ending
    #define RUNNER_END_BY(ending) (runner_ending = (ending))
    """
    const void *ending_of_thread "RUNNER_ENDING"() noexcept nogil
    void set_ending_of_thread "RUNNER_END_BY"(const void *ending) noexcept nogil

cdef extern from "Python.h" nogil:
    int check_signals "PyErr_CheckSignals"() noexcept
    unsigned long thread_ident "PyThread_get_thread_ident"() noexcept

cdef atomic_llong _allocations          # workspaces grow in any thread
cdef int _fill_byte = -1

# Steps cheaper than this many nanoseconds are estimated from bytes and operations at these rates of one thread.
cdef double BYTES_PER_NS = 16.0
cdef double FLOPS_PER_NS = 80.0

# Plans that are estimated to take less do not ask for signals between their steps: they are done before anyone waits.
cdef double SHORT_NS = 1e6
# Signals are looked for once in this time, since that takes the GIL, for which other threads may be waiting too.
cdef uint64_t LOOK_NS = 30000000

# Bytes of an arena that is never given back, and calls that need less than a quarter of a larger one before that is.
cdef Py_ssize_t _small_arena = 32 << 20
cdef int _unneeded_calls = 64
SMALL_ARENA, UNNEEDED_CALLS = _small_arena, _unneeded_calls

# The thread that runs Python's signal handlers: the one that forked, in a child.
cdef unsigned long _main_thread = threading.main_thread().ident or 0


def _forked():
    global _main_thread
    _main_thread = threading.get_ident()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


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


cdef void wire(const plan_t *plan, const memory_t *memory, void *const *ins, void *const *outs) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(plan.n_reads):
        memory.args[plan.reads[i].arg] = ins[plan.reads[i].number]
    for i in range(plan.n_writes):
        memory.args[plan.writes[i].arg] = outs[plan.writes[i].number]
    if _fill_byte >= 0 and plan.arena_bytes:
        memset(memory.arena, _fill_byte, plan.arena_bytes)


cdef const ending_t *current_ending() noexcept nogil:
    return <const ending_t *>ending_of_thread()


cdef int ended_by(const ending_t *ending) noexcept nogil:
    cdef uint64_t now = 0
    while ending != NULL:
        if ending.flag != NULL and atomic_load_int(ending.flag):
            return STOPPED
        if ending.deadline:
            now = now or nanoseconds()
            if now >= ending.deadline:
                return LATE
        ending = ending.outer
    return 0


# What is asked between steps, for as long as they run.
cdef struct watch_t:
    const ending_t *ending
    bint signals
    uint64_t looked


cdef int look(void *about, int idle) noexcept nogil:
    cdef watch_t *watch = <watch_t *>about
    cdef const void *kept
    cdef int raised = 0, end = ended_by(watch.ending)
    if end or not watch.signals:
        return end
    if not idle:
        return -1 if nanoseconds() - watch.looked >= LOOK_NS else 0
    # a handler may run models of its own: what ends this run is no matter to those
    kept = ending_of_thread()
    set_ending_of_thread(NULL)
    with gil:
        raised = check_signals()
    set_ending_of_thread(kept)
    watch.looked = nanoseconds()
    return SIGNALLED if raised else 0


cdef Py_ssize_t run_plan(const plan_t *plan, const memory_t *memory, Py_ssize_t first, Py_ssize_t count, int threads,
                         const int64_t **word, const ending_t *ending, bint signals) noexcept nogil:
    cdef Py_ssize_t i, k
    cdef const int64_t *words
    cdef watch_t watch
    cdef ended_fn ended = NULL
    cdef int end = 0
    cdef bint watched = ending != NULL
    if signals and plan.cost > SHORT_NS and thread_ident() == _main_thread:
        watched = True
    else:
        signals = False
    if watched:
        watch.ending = ending
        watch.signals = signals
        watch.looked = nanoseconds() if signals else 0
        end = ended_by(ending)
        ended = look
    # a lone step in the middle of others tells nothing of how long the plan takes
    if not end:
        end = run_steps(plan.steps + first, count, <void *const *>memory.args, memory.scratch, plan.scratch_bytes, threads,
                        plan.habits + HABIT_BYTES * first if count == plan.n_steps or count > 1 else NULL,
                        ended, &watch)
    if end:
        return -FIRST_ENDED - end
    for i in range(plan.n_faults):
        if first <= plan.faults[i].step < first + count:
            words = <const int64_t *>memory.args[plan.faults[i].arg]
            for k in range(plan.faults[i].chunks):
                if words[3 * k]:
                    word[0] = words + 3 * k
                    return i
    return -1


def bad_input(node, operator, text, tensor, value):
    """The error of what a kernel found to be wrong with an input: `text` says what, `tensor` which one."""
    return InputError(text, node=node, operator=operator, tensor=tensor, received=value)


cdef int raise_end(int end) except -1:
    """Raise for what ended a run; the exception of a signal handler is set already."""
    if end == SIGNALLED:
        return -1
    if end == LATE:
        raise TimedOutError("the run took longer than it may")
    raise StoppedError("the run was ended")


def check_ended():
    """Raise where the run that is under way on this thread shall end: what runs in Python asks between its parts."""
    cdef const ending_t *ending = current_ending()
    cdef int end
    if ending != NULL:
        end = ended_by(ending)
        if end:
            raise_end(end)


cdef class Stop:
    """Ends runs from another thread: those that were told of it (``model.run(..., stop=stop)``) end at their next step, with a
    StoppedError, once it is set; runs that are told of it while it is set end at once.
    """

    def set(self):
        """End the runs."""
        atomic_store_int(&self.flag, 1)

    def clear(self):
        """Let runs begin again; those that did not look since it was set go on."""
        atomic_store_int(&self.flag, 0)

    def is_set(self) -> bool:
        return atomic_load_int(&self.flag) != 0

    def __reduce__(self):
        raise TypeError("a Stop is an object of this process alone")


cdef class Ending:
    """Context in which runs of this thread end once `stop` is set, or after so many seconds.

    Parameters
    ----------
    stop : Stop or None
    timeout : float or None
        Seconds from entering.
    """

    def __init__(self, Stop stop, timeout):
        self.stop = stop
        self.timeout = timeout
        self.c.flag = NULL if stop is None else &stop.flag

    def __enter__(self):
        self.c.outer = current_ending()
        self.c.deadline = 0
        if self.timeout is not None:
            self.c.deadline = nanoseconds() + <uint64_t>(min(self.timeout, 1e9) * 1e9)
        set_ending_of_thread(&self.c)
        return self

    def __exit__(self, kind, value, trace):
        set_ending_of_thread(self.c.outer)


cdef Ending flagged(const atomic_int *flag):
    cdef Ending made = Ending(None, None)
    made.c.flag = flag
    return made


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
    """Steps over operand pointers.

    Parameters
    ----------
    steps : list of (Launch, list of operands)
        An operand is (kind, where): ("null", 0), ("arena", byte offset), ("constant", ndarray), ("input", n), ("output", n).
        Absent operands at the end may be left out.
    arena_bytes : int
    faults : list of (step, operand, words, node, operator, text, tensor)
        Operands in which steps report bad inputs, and what they say then.
    """

    def __cinit__(self, list steps, Py_ssize_t arena_bytes, list faults=[]):
        cdef Py_ssize_t i = 0, k = 0
        cdef Launch launch
        cdef plan_t *c = &self.c
        c.arena_bytes = arena_bytes
        self.keep = [steps]
        self.fault_notes = []
        operands = []
        for launch, given in steps:
            if len(given) > launch.n_args or any(launch.extents[len(given):]):
                raise ValueError(f"{launch.kernel}: {len(given)} operands for {launch.n_args}")
            operands += [*given, *[("null", 0)] * (launch.n_args - len(given))]
        kinds = [kind for kind, _ in operands]
        c.n_args = len(operands)
        c.steps = <step_t *>allocate(sizeof(step_t) * len(steps))
        c.habits = <char *>allocate(HABIT_BYTES * len(steps))
        c.fixed = <fixed_t *>allocate(sizeof(fixed_t) * (kinds.count("arena") + kinds.count("constant")))
        c.reads = <port_t *>allocate(sizeof(port_t) * kinds.count("input"))
        c.writes = <port_t *>allocate(sizeof(port_t) * kinds.count("output"))
        c.faults = <fault_t *>allocate(sizeof(fault_t) * len(faults))
        memset(c.habits, 0, HABIT_BYTES * len(steps))
        for launch, _ in steps:
            c.steps[i].fn = launch.fn
            c.steps[i].geometry = launch.geometry
            c.steps[i].n_chunks = launch.n_chunks
            c.steps[i].first_arg = k
            c.steps[i].cost = max(launch.nbytes / BYTES_PER_NS, launch.flops / FLOPS_PER_NS)
            c.cost += c.steps[i].cost
            c.scratch_bytes = max(c.scratch_bytes, (launch.scratch_bytes + 63) & ~63)
            for operand in range(launch.n_args):
                kind, where = operands[k]
                self.note(launch, operand, k, kind, where)
                k += 1
            i += 1
        c.n_steps = i
        for i, (step, operand, words, node, operator, text, tensor) in enumerate(faults):
            told = f"node {node} ({operator}): {text}".encode()
            self.keep.append(told)
            c.faults[i].step = step
            c.faults[i].arg = c.steps[<Py_ssize_t>step].first_arg + operand
            c.faults[i].chunks = words // 3
            c.faults[i].text = told
            self.fault_notes.append((node, operator, text, tensor))
        c.n_faults = len(faults)

    cdef int note(self, Launch launch, Py_ssize_t operand, Py_ssize_t arg, str kind, object where) except -1:
        """Note where the operand pointer `arg` leads, an operand of this launch."""
        cdef plan_t *c = &self.c
        if kind == "constant":
            launch.check(operand, where.nbytes)
            self.keep.append(where)
            c.fixed[c.n_fixed].where = <Py_ssize_t><uintptr_t>where.ctypes.data
        elif kind == "arena":
            if where + launch._extents[operand] > c.arena_bytes:
                raise ValueError(f"{launch.kernel}: operand {operand} leaves the arena")
            c.fixed[c.n_fixed].where = where
        if kind in ("constant", "arena"):
            c.fixed[c.n_fixed].arg = arg
            c.fixed[c.n_fixed].in_arena = kind == "arena"
            c.n_fixed += 1
        elif kind == "input":
            c.reads[c.n_reads].arg = arg
            c.reads[c.n_reads].number = where
            c.n_reads += 1
            c.n_inputs = max(c.n_inputs, where + 1)
        elif kind == "output":
            c.writes[c.n_writes].arg = arg
            c.writes[c.n_writes].number = where
            c.n_writes += 1
            c.n_outputs = max(c.n_outputs, where + 1)
        elif kind != "null":
            raise ValueError(f"{launch.kernel}: an operand of kind {kind!r}")
        return 0

    @property
    def n_steps(self):
        return self.c.n_steps

    @property
    def arena_bytes(self):
        return self.c.arena_bytes

    cdef int report(self, Py_ssize_t fault, const int64_t *word) except -1:
        """Raise for what `run_plan` gave: InputError for a fault, else what ended the run."""
        if fault <= -FIRST_ENDED:
            return raise_end(<int>(-FIRST_ENDED - fault))
        raise bad_input(*self.fault_notes[fault], word[1])

    def __dealloc__(self):
        aligned_release(self.c.steps)
        aligned_release(self.c.habits)
        aligned_release(self.c.fixed)
        aligned_release(self.c.reads)
        aligned_release(self.c.writes)
        aligned_release(self.c.faults)


cdef class Workspace:
    """Arena, scratch and operand pointers of one running call; serves one plan after another, and grows as they need."""

    def __dealloc__(self):
        aligned_release(self.c.arena)
        aligned_release(self.c.scratch)
        aligned_release(self.c.args)
        aligned_release(self.ends)

    cdef int attach(self, NativePlan plan, int threads) except -1:
        """Make ready for runs of this plan on up to so many threads; `wire` does the rest."""
        cdef Py_ssize_t i
        cdef const plan_t *c = &plan.c
        cdef Py_ssize_t scratch = c.scratch_bytes * threads
        if threads < 1:
            raise ValueError("no run without a thread")
        if self.plan is not plan:
            self.plan = None                # whatever fails from here on: its operands may lead to memory that is given back
            if c.arena_bytes > self.arena_bytes:
                aligned_release(self.c.arena)
                self.c.arena = NULL
                self.arena_bytes = 0
                self.c.arena = <char *>allocate(c.arena_bytes)
                self.arena_bytes = c.arena_bytes
            if c.n_args > self.n_args:
                aligned_release(self.c.args)
                self.c.args = NULL
                self.n_args = 0
                self.c.args = <void **>allocate(sizeof(void *) * c.n_args)
                self.n_args = c.n_args
            for i in range(c.n_args):
                self.c.args[i] = NULL
            for i in range(c.n_fixed):
                self.c.args[c.fixed[i].arg] = (self.c.arena + c.fixed[i].where) if c.fixed[i].in_arena else <void *>c.fixed[i].where
            self.plan = plan
        if scratch > self.scratch_bytes:
            aligned_release(self.c.scratch)
            self.c.scratch = NULL
            self.scratch_bytes = 0
            self.c.scratch = <char *>allocate(scratch)
            self.scratch_bytes = scratch
        return 0

    def begin(self, NativePlan plan, list inputs, list outputs, int threads):
        """Attach to a plan and point its operands at these arrays (C-contiguous; the caller keeps them alive)."""
        cdef Py_ssize_t i, n = len(inputs) + len(outputs)
        self.attach(plan, threads)
        if plan.c.n_inputs > len(inputs) or plan.c.n_outputs > len(outputs):
            raise ValueError(f"{len(inputs)} inputs, {len(outputs)} outputs for {plan.c.n_inputs}, {plan.c.n_outputs}")
        if n > self.n_ends or self.ends == NULL:
            aligned_release(self.ends)
            self.ends = NULL
            self.n_ends = 0
            self.ends = <void **>allocate(sizeof(void *) * n)
            self.n_ends = n
        for i, array in enumerate(inputs):
            self.ends[i] = <void *>address(array)
        for i, array in enumerate(outputs):
            self.ends[len(inputs) + i] = <void *>address(array)
        wire(&plan.c, &self.c, <void *const *>self.ends, <void *const *>(self.ends + len(inputs)))

    cdef int check(self, Py_ssize_t first, Py_ssize_t count, int threads) except -1:
        """Raise unless these are steps of the plan, and there is scratch for so many threads."""
        if self.plan is None or first < 0 or count < 0 or first + count > self.plan.c.n_steps:
            raise ValueError("steps outside the plan")
        if threads < 1 or threads * self.plan.c.scratch_bytes > self.scratch_bytes:
            raise ValueError("no thread, or more than the workspace was begun for")
        return 0

    def run(self, Py_ssize_t first, Py_ssize_t count, int threads):
        """Run `count` steps from `first` on; releases the GIL.

        Raises
        ------
        InputError
            A step found an index outside of its axis; every step has run, on such indices as if they were 0.
        """
        cdef NativePlan plan = self.plan
        cdef const int64_t *word = NULL
        cdef Py_ssize_t fault
        self.check(first, count, threads)
        with nogil:
            fault = run_plan(&plan.c, &self.c, first, count, threads, &word, current_ending(), True)
        if fault != -1:
            plan.report(fault, word)

    def time(self, Py_ssize_t first, Py_ssize_t count, int threads, double[::1] taken):
        """`run`, and write the nanoseconds that each step took into `taken`."""
        cdef NativePlan plan = self.plan
        self.check(first, count, threads)
        if taken.shape[0] < count:
            raise ValueError("steps outside the plan")
        if count:
            with nogil:
                time_steps(plan.c.steps + first, count, <void *const *>self.c.args, self.c.scratch, plan.c.scratch_bytes, threads, &taken[0])

    cdef void shrink(self) noexcept:
        """Give back an arena that is far larger than what calls have needed for a while."""
        if self.plan is None or self.plan.c.arena_bytes > self.arena_bytes // 4:
            self.unneeded = 0
            return
        self.unneeded += 1
        if self.unneeded >= _unneeded_calls:
            self.unneeded = 0
            self.plan = None
            aligned_release(self.c.arena)
            self.c.arena = NULL
            self.arena_bytes = 0

    def array(self, Py_ssize_t offset, tuple shape, dtype):
        """A tensor in the arena as an array; valid until the workspace serves another call."""
        cdef Py_ssize_t size = dtype.itemsize
        for extent in shape:
            size *= extent
        if offset < 0 or offset + size > self.arena_bytes:
            raise ValueError("outside the arena")
        if size == 0:
            return np.empty(shape, dtype)
        return np.frombuffer(<char[:size]>(self.c.arena + offset), dtype).reshape(shape)


cdef class Workspaces:
    """Workspaces that no call uses now. There are as many as there ever were calls at once, and they serve all plans of a model."""

    def __cinit__(self):
        self.idle = []

    def __len__(self):
        return len(self.idle)

    cpdef Workspace take(self):
        """A workspace for one call, to be given back."""
        try:
            return <Workspace>self.idle.pop()
        except IndexError:
            return Workspace()

    cpdef give(self, Workspace workspace):
        if workspace.arena_bytes > _small_arena:
            workspace.shrink()
        if not self.closed:
            self.idle.append(workspace)

    def arenas(self):
        """Bytes of the arenas that no call uses now."""
        return [(<Workspace>workspace).arena_bytes for workspace in self.idle]

    def trim(self):
        """Give up the memory of all calls but those under way."""
        self.idle.clear()

    def close(self):
        """Give up all memory, that of the calls under way when they end."""
        self.closed = True
        self.idle.clear()


cdef enum:
    CALL_OPERANDS = 8                   # inputs, and outputs, that a Call takes at most


cdef class Call:
    """Runs of a plan on arrays that lie as the plan reads them: what costs a small model most is Python around its steps.

    Parameters
    ----------
    plan : NativePlan
        A whole model, without host steps.
    workspaces : Workspaces
        Of the model.
    inputs : sequence of (name, number, shape, dtype)
        What the caller hands in; number -1 where the plan does not read it.
    outputs : sequence of (shape, dtype)
        Of the plan, by number.
    order : sequence of int
        The numbers of those that the caller gets, in this order.
    """

    def __init__(self, NativePlan plan, Workspaces workspaces, inputs, outputs, order):
        self.plan = plan
        self.workspaces = workspaces
        self.inputs = tuple([(name, number, tuple(shape), format_of(dtype), dtype.alignment) for name, number, shape, dtype in inputs])
        self.outputs = tuple([(tuple(shape), dtype) for shape, dtype in outputs])
        self.order = tuple(order)
        if max(len(self.inputs), len(self.outputs)) > CALL_OPERANDS or plan.c.n_outputs > len(self.outputs):
            raise ValueError(f"{len(self.inputs)} inputs, {len(self.outputs)} outputs: {CALL_OPERANDS} at most")
        if plan.c.n_inputs > 1 + max([number for _, number, _, _, _ in self.inputs], default=-1):
            raise ValueError("the plan reads an input that is not handed in")

    @staticmethod
    def takes(inputs, outputs):
        """Whether there may be a Call: few operands, and element types that buffers can tell."""
        kinds = [dtype.kind in "biuf" and dtype.isbuiltin == 1 for *_, dtype in (*inputs, *outputs)]
        return max(len(inputs), len(outputs)) <= CALL_OPERANDS and all(kinds)

    def run(self, feeds, int threads):
        """Fresh outputs for these inputs; None, and nothing done, unless they are plain arrays of the planned shapes and dtypes."""
        cdef Py_buffer views[CALL_OPERANDS]
        cdef Py_buffer made
        cdef void *ins[CALL_OPERANDS]
        cdef void *outs[CALL_OPERANDS]
        cdef const int64_t *word = NULL
        cdef Py_ssize_t held = 0, number, i, alignment, fault
        cdef Workspace workspace
        cdef NativePlan plan = self.plan
        cdef tuple shape
        cdef bytes form
        cdef list outputs = []
        if type(feeds) is not dict or len(<dict>feeds) != len(self.inputs):
            return None
        try:
            for name, number, shape, form, alignment in self.inputs:
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
                if number >= 0:
                    ins[number] = views[held - 1].buf
            for shape, dtype in self.outputs:
                array = empty(shape, dtype)
                PyObject_GetBuffer(array, &made, PyBUF_STRIDES | PyBUF_WRITABLE)
                outs[len(outputs)] = made.buf
                PyBuffer_Release(&made)
                outputs.append(array)
            workspace = self.workspaces.take()
            try:
                workspace.attach(plan, threads)
                with nogil:
                    wire(&plan.c, &workspace.c, ins, outs)
                    fault = run_plan(&plan.c, &workspace.c, 0, plan.c.n_steps, threads, &word, current_ending(), True)
                if fault != -1:
                    plan.report(fault, word)
            finally:
                self.workspaces.give(workspace)
        finally:
            for i in range(held):
                PyBuffer_Release(&views[i])
        return [outputs[number] for number in self.order]


def format_of(dtype):
    """The buffer protocol's name of an element type, as bytes."""
    return memoryview(empty(0, dtype)).format.encode()
