# The native half of a plan: an array of steps over operand pointers, the memory of one running call, and the one place where the two
# are tied together: `attach` when a workspace turns to a plan, `wire` at every run, `run_plan` behind it.

from libc.stdint cimport int64_t, uint64_t

from cnnengine._kernels.launch cimport Launch
from cnnengine.runtime.threads cimport step_t

cdef extern from "<stdatomic.h>" nogil:
    ctypedef struct atomic_int "_Atomic int":
        pass

# An operand pointer that lies where a plan's own memory is: at an offset of the arena, or at a constant.
cdef struct fixed_t:
    Py_ssize_t arg
    Py_ssize_t where
    int in_arena

# An operand pointer that is an input or output of the plan, of this number.
cdef struct port_t:
    Py_ssize_t arg, number

# Words in which a step says that its inputs were bad (`Lowering.faults`): `chunks` times (whether, value, axis), all int64.
cdef struct fault_t:
    Py_ssize_t step, arg, chunks
    const char *text                    # for callers without Python

# All that runs read of a plan; operand pointers that are in none of the three lists are absent operands, NULL.
cdef struct plan_t:
    step_t *steps
    fixed_t *fixed
    port_t *reads                       # inputs
    port_t *writes                      # outputs
    fault_t *faults
    char *habits                        # HABIT_BYTES for each step that a run may begin with
    Py_ssize_t n_steps, n_args, n_fixed, n_reads, n_writes, n_faults
    Py_ssize_t n_inputs, n_outputs      # pointers that `wire` takes
    Py_ssize_t arena_bytes
    Py_ssize_t scratch_bytes            # of each thread
    double cost                         # estimated nanoseconds of all steps on one thread, at rates that no processor reaches

# What a run writes to besides its outputs.
cdef struct memory_t:
    char *arena
    char *scratch
    void **args                         # operand pointers of the steps

# What may end a run before its last step, and what did.
cdef enum:
    STOPPED = 1                         # somebody asked for it
    LATE = 2                            # it took longer than it may
    SIGNALLED = 3                       # a signal handler raised, and its exception is set
    FIRST_ENDED = 16                    # `run_plan` gives this less what ended it: below every fault

cdef struct ending_t:
    const atomic_int *flag              # not 0: end; NULL where nobody can ask
    uint64_t deadline                   # of the team's clock in nanoseconds, 0 for none
    const ending_t *outer               # what else may end it: the run that this one is a part of

# What ends the run that is under way on this thread; NULL where nothing but signals can.
cdef const ending_t *current_ending() noexcept nogil

# Point the operands at this run's inputs and outputs, each given by its number in the plan. Touches nothing but the memory, which
# is that of a workspace that is attached to the plan.
cdef void wire(const plan_t *plan, const memory_t *memory, void *const *ins, void *const *outs) noexcept nogil

# Run `count` steps from `first` on. The number of the first fault that they reported, or -1; `word` then points to its three words.
# Between steps `ending` may end the run (NULL: nothing does), and with `signals` Python's handlers run, if it takes long and this is
# the interpreter's main thread: -FIRST_ENDED - STOPPED and so on then.
cdef Py_ssize_t run_plan(const plan_t *plan, const memory_t *memory, Py_ssize_t first, Py_ssize_t count, int threads,
                         const int64_t **word, const ending_t *ending, bint signals) noexcept nogil


cdef class NativePlan:
    cdef plan_t c
    cdef list fault_notes               # (node, operator, text, tensor) of each fault
    cdef object keep                    # launches and constant arrays that the pointers reach into
    cdef int note(self, Launch launch, Py_ssize_t operand, Py_ssize_t arg, str kind, object where) except -1
    cdef int report(self, Py_ssize_t fault, const int64_t *word) except -1


cdef class Stop:
    cdef atomic_int flag


cdef class Ending:
    cdef ending_t c
    cdef Stop stop                      # whose flag it is
    cdef readonly object timeout


# An Ending by a flag that lives longer than it.
cdef Ending flagged(const atomic_int *flag)


cdef class Workspace:
    cdef memory_t c
    cdef void **ends                    # inputs and outputs of `begin`
    cdef NativePlan plan
    cdef readonly Py_ssize_t arena_bytes, scratch_bytes, n_args, n_ends
    cdef int unneeded                   # calls in a row that needed far less memory than there is
    cdef int attach(self, NativePlan plan, int threads) except -1
    cdef int check(self, Py_ssize_t first, Py_ssize_t count, int threads) except -1
    cdef void shrink(self) noexcept


cdef class Workspaces:
    cdef list idle
    cdef bint closed
    cpdef Workspace take(self)
    cpdef give(self, Workspace workspace)


cdef class Call:
    cdef NativePlan plan
    cdef Workspaces workspaces
    cdef tuple inputs                   # (name, number, shape, format, alignment)
    cdef tuple outputs                  # (shape, dtype)
    cdef tuple order
