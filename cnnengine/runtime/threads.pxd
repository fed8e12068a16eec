# The threads of the plan runner: run an array of kernel steps with one caller and helpers that it never has to wait for.
# The state lives in the threads module alone (team.h); everyone else reaches it through these declarations.

from libc.stdint cimport uint64_t

from cnnengine._kernels.launch cimport chunk_fn

cdef struct step_t:
    chunk_fn fn
    const void *geometry
    Py_ssize_t n_chunks
    Py_ssize_t first_arg        # index into args of this step's operand pointers
    double cost                 # estimated nanoseconds of the whole step on one thread (0: unknown); cheap steps are not shared out

cdef enum:
    HABIT_BYTES = 64            # of what run_steps remembers of a plan; zeros at first

# Asked before each step but the first. A number above 0 ends the run there; one below asks for a second call with `idle`, for which the
# helpers are given back, since it may take long and do anything.
ctypedef int (*ended_fn)(void *about, int idle) noexcept nogil

# Run the steps in order; every chunk of a step is done, and seen by every thread, before a chunk of the next one begins.
# Thread t of the call uses scratch + t * scratch_stride, 0 <= t < threads; t = 0 is the caller. scratch may be NULL. Where the
# stride is at least 64, the first 64 bytes of a thread's scratch are zeros at its first chunk of each step.
# `habit` (64-byte aligned; or NULL) remembers how long these steps took, and has short plans run by the caller alone where that is
# faster.
# Where `ended` is not NULL it is asked between steps; the result is what ended the run, or 0. What steps wrote before is then lost.
# Safe from several threads at once: one of them has the helpers, the others run alone. Chunks must not call run_steps; an idle `ended`
# may.
cdef int run_steps(const step_t *steps, Py_ssize_t n_steps, void *const *args, char *scratch, Py_ssize_t scratch_stride,
                   int threads, void *habit, ended_fn ended, void *about) noexcept nogil

# The same without habits, and the nanoseconds from the start of each step to that of the next one, for reports.
cdef void time_steps(const step_t *steps, Py_ssize_t n_steps, void *const *args, char *scratch, Py_ssize_t scratch_stride,
                     int threads, double *taken) noexcept nogil

# `threads`, or less where the calling thread's OpenMP settings were lowered since the start.
cdef int allowed_threads(int threads) noexcept nogil

# What the tests ask for (tests/runtime/probe.pyx): the clock of the team, whether a habit found the caller to be faster alone, and that
# no thread can be created while `on`.
cdef uint64_t nanoseconds() noexcept nogil
cdef bint runs_alone(void *habit) noexcept nogil
cdef void refuse_threads(bint on) noexcept nogil
