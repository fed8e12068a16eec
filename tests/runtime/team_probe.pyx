# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A kernel that records its chunks, and plans of it: how the tests and benchmarks/threads.py look at the thread team.

Compiled by `compiled.module` against the declarations of the package that is tested, of which it is no part.
"""

import functools

from cython.parallel cimport prange, threadid
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from cnnengine._kernels.launch cimport chunk_fn
from cnnengine.runtime.threads cimport HABIT_BYTES, nanoseconds, refuse_threads, run_steps, runs_alone, step_t

cdef extern from "<stdatomic.h>" nogil:
    ctypedef struct atomic_int "_Atomic int":
        pass
    int atomic_load(atomic_int *p) noexcept
    int atomic_fetch_add(atomic_int *p, int v) noexcept
    int atomic_fetch_or(atomic_int *p, int v) noexcept
    void atomic_store(atomic_int *p, int v) noexcept


cdef struct probe_t:
    int step
    Py_ssize_t n_chunks
    int64_t rounds
    atomic_int *finished        # per step, in the present run
    atomic_int *early           # chunks that began before the step before theirs was done, or got the wrong operands
    char *scratch
    Py_ssize_t stride


cdef uint64_t _busy(int64_t rounds) noexcept nogil:
    """Work that takes the same cycles each time and cannot be skipped, unlike a wait for a time, which other threads' work shortens."""
    cdef uint64_t x = 88172645463325252
    cdef int64_t i
    for i in range(rounds):
        x ^= x << 13
        x ^= x >> 7
        x ^= x << 17
    return x


cdef void _probe_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const probe_t *g = <const probe_t *>geometry
    cdef atomic_int *record = <atomic_int *>args[0]         # two numbers a chunk: times run, bits of the threads that ran it
    if args[1] != geometry or (g.step and atomic_load(&g.finished[g.step - 1]) != <int>g.n_chunks):
        atomic_fetch_add(g.early, 1)
    if _busy(g.rounds) == 0:                                # never
        return
    atomic_fetch_add(&record[2 * chunk], 1)
    atomic_fetch_or(&record[2 * chunk + 1], 1 << ((scratch - g.scratch) // g.stride))
    atomic_fetch_add(&g.finished[g.step], 1)


@functools.cache
def _rounds_per_us() -> float:
    """Rounds of `_busy` in a microsecond: the best of several tries, since other processes only ever slow it down."""
    cdef uint64_t best = 1 << 62, start, x = 0
    cdef int i
    for i in range(50):
        start = nanoseconds()
        x |= _busy(20000)
        best = min(best, nanoseconds() - start)
    return 20000 / (best / 1000) if x else 0.0


def spoil(bint on) -> None:
    """Let no thread be created while `on`."""
    refuse_threads(on)


def probe(Py_ssize_t n_steps, Py_ssize_t n_chunks, double work_ns, int threads, Py_ssize_t runs=1, double cost=0.0,
          bint openmp=False, double pause_ms=0.0, bint learn=False) -> dict[str, object]:
    """Run a plan of `n_steps` equal steps of `n_chunks` chunks of `work_ns` each, `runs` times.

    Returns
    -------
    dict
        ``counts``: per step and chunk, how often it ran in all (``runs`` is right); ``workers``: per step and chunk, a bit for each
        thread that ran it; ``early``: how many chunks ran before the step before theirs was done, or with operands of another step
        (0 is right); ``seconds``: per run; ``alone``: whether it was found that the caller is faster alone. With ``openmp`` each step is a ``prange`` instead; with ``learn``
        the runs are one plan's, which is run alone where that is faster.
    """
    if n_steps < 0 or n_chunks < 0 or not 1 <= threads <= 31 or runs < 0:
        raise ValueError(f"steps, chunks and runs are at least 0, threads from 1 to 31, not {(n_steps, n_chunks, runs, threads)}")
    import time
    cdef Py_ssize_t i, r, c, stride = 64
    cdef uint64_t start
    cdef chunk_fn fn = _probe_chunk
    cdef step_t *steps = <step_t *>calloc(n_steps + 1, sizeof(step_t))
    cdef probe_t *probes = <probe_t *>calloc(n_steps + 1, sizeof(probe_t))
    cdef void **args = <void **>calloc(2 * n_steps + 1, sizeof(void *))
    cdef atomic_int *records = <atomic_int *>calloc(2 * n_steps * n_chunks + 1, sizeof(atomic_int))
    cdef atomic_int *finished = <atomic_int *>calloc(n_steps + 1, sizeof(atomic_int))
    cdef char *scratch = <char *>calloc(threads, stride)
    cdef char *record = <char *>calloc(2, HABIT_BYTES)
    cdef void *habit = record + (-<size_t>record) % HABIT_BYTES if learn else NULL
    cdef int64_t rounds = <int64_t>(work_ns * _rounds_per_us() / 1000.0)
    seconds = []
    try:
        if not (steps and probes and args and records and finished and scratch and record):
            raise MemoryError
        for i in range(n_steps):
            probes[i] = probe_t(step=i, n_chunks=n_chunks, rounds=rounds, finished=finished, early=finished + n_steps, scratch=scratch,
                                stride=stride)
            steps[i] = step_t(fn=fn, geometry=probes + i, n_chunks=n_chunks, first_arg=2 * i, cost=cost)
            args[2 * i] = records + 2 * i * n_chunks
            args[2 * i + 1] = probes + i
        for r in range(runs):
            if pause_ms > 0:
                time.sleep(pause_ms / 1000)
            for i in range(n_steps):
                atomic_store(&finished[i], 0)
            start = nanoseconds()
            if openmp:
                for i in range(n_steps):
                    for c in prange(n_chunks, nogil=True, schedule="dynamic", num_threads=threads):
                        fn(steps[i].geometry, args + 2 * i, c, scratch + threadid() * stride)
            else:
                with nogil:
                    run_steps(steps, n_steps, args, scratch, stride, threads, habit, NULL, NULL)
            seconds.append((nanoseconds() - start) * 1e-9)
        return {
            "counts": [[atomic_load(&records[2 * (i * n_chunks + c)]) for c in range(n_chunks)] for i in range(n_steps)],
            "workers": [[atomic_load(&records[2 * (i * n_chunks + c) + 1]) for c in range(n_chunks)] for i in range(n_steps)],
            "early": atomic_load(&finished[n_steps]),
            "seconds": seconds,
            "alone": learn and bool(runs_alone(habit)),
        }
    finally:
        free(steps)
        free(probes)
        free(args)
        free(records)
        free(finished)
        free(scratch)
        free(record)
