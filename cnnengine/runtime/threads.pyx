# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, annotation_typing=False
"""How many threads to use, and the team of them that runs the steps of a plan.

The team itself is C, since Cython has no atomic operations: ``team.h`` describes it. This module is the only one that includes it.
"""

import functools
import os
from pathlib import Path

from cython.parallel cimport prange, threadid
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from cnnengine.arguments import integer
from cnnengine.errors import InputError

cdef extern from "team.h" nogil:
    const char *TEAM_KIND
    const char *TEAM_CLOCK
    enum: TEAM_MAX
    const int team_openmp
    int team_init() noexcept
    int team_helpers() noexcept
    int team_openmp_limit() noexcept
    void team_spoil(int on) noexcept
    void team_step(int *owner, chunk_fn fn, const void *geometry, Py_ssize_t n_chunks, void *const *args, char *scratch,
                   Py_ssize_t stride, int threads, double cost) noexcept
    void team_leave(int owner) noexcept
    uint64_t team_nanoseconds() noexcept
    uint64_t team_ticks() noexcept
    enum: TEAM_HABIT_BYTES
    ctypedef struct team_habit:
        pass
    int team_habit_way(team_habit *habit, int *timed) noexcept
    int team_habit_alone(team_habit *habit) noexcept
    void team_habit_note(team_habit *habit, int alone, uint64_t ticks) noexcept

cdef extern from "<stdatomic.h>" nogil:
    ctypedef struct atomic_int "_Atomic int":
        pass
    int atomic_load(atomic_int *p) noexcept
    int atomic_fetch_add(atomic_int *p, int v) noexcept
    int atomic_fetch_or(atomic_int *p, int v) noexcept
    void atomic_store(atomic_int *p, int v) noexcept

if team_init():
    raise MemoryError("no memory for a fork handler")


if TEAM_HABIT_BYTES != HABIT_BYTES:
    raise ImportError("threads.pxd and team.h differ")


cdef void run_steps(const step_t *steps, Py_ssize_t n_steps, void *const *args, char *scratch, Py_ssize_t scratch_stride,
                    int threads, void *habit) noexcept nogil:
    cdef int owner = 0, alone = 0, timed = 0
    cdef Py_ssize_t i
    cdef uint64_t start = 0
    if threads > 1 and habit != NULL:
        alone = team_habit_way(<team_habit *>habit, &timed)
        if alone:
            threads = 1
        if timed:
            start = team_ticks()
    for i in range(n_steps):
        team_step(&owner, steps[i].fn, steps[i].geometry, steps[i].n_chunks, args + steps[i].first_arg, scratch, scratch_stride,
                  threads, steps[i].cost)
    team_leave(owner)
    if timed:
        team_habit_note(<team_habit *>habit, alone, team_ticks() - start)


cdef void time_steps(const step_t *steps, Py_ssize_t n_steps, void *const *args, char *scratch, Py_ssize_t scratch_stride,
                     int threads, double *taken) noexcept nogil:
    cdef int owner = 0
    cdef Py_ssize_t i
    cdef uint64_t start = team_nanoseconds(), now
    for i in range(n_steps):
        team_step(&owner, steps[i].fn, steps[i].geometry, steps[i].n_chunks, args + steps[i].first_arg, scratch, scratch_stride,
                  threads, steps[i].cost)
        now = team_nanoseconds()
        taken[i] = <double>(now - start)
        start = now
    team_leave(owner)


cdef int allowed_threads(int threads) noexcept nogil:
    cdef int limit = team_openmp_limit()
    return limit if 0 < limit < threads else threads


def limited_threads(int threads) -> int:
    """`threads`, or what the calling thread's OpenMP settings were lowered to since the start (threadpoolctl, omp_set_num_threads)."""
    return allowed_threads(threads)


def default_threads(threads: int | None = None, name: str = "threads") -> int:
    """How many threads to use.

    Parameters
    ----------
    threads : int, optional
        What the caller asked for; 256 where it is more.
    name : str
        Of the argument that it came by, for the message.

    Returns
    -------
    int
        ``threads``, else ``CNNENGINE_NUM_THREADS``, else ``OMP_NUM_THREADS`` (the first number of its list), else the number of CPUs
        that the calling thread may run on, lowered to what the control group's CPU quota pays for in full; from 1 to 256.

    Raises
    ------
    InputError
        ``threads`` is not an integer of at least 1, or ``CNNENGINE_NUM_THREADS`` is set to anything else.
    """
    if threads is None:
        return _count()[0]
    return min(integer(threads, name, 1, None), TEAM_MAX)


def thread_info() -> dict[str, object]:
    """What ``show_config`` says about threads.

    Returns
    -------
    dict
        ``threads``: the default count; ``source``: where it comes from; ``team``: what the helpers sleep on; ``clock``: what they
        measure time with; ``helpers``: how many exist in this process by now; ``openmp``: the OpenMP version of the build as a
        date (``201511`` is 4.5), None for a build without it.
    """
    threads, source = _count()
    return {
        "threads": threads,
        "source": source,
        "team": TEAM_KIND.decode(),
        "clock": TEAM_CLOCK.decode(),
        "helpers": team_helpers(),
        "openmp": team_openmp or None,
    }


def _count() -> tuple[int, str]:
    text = os.environ.get("CNNENGINE_NUM_THREADS", "").strip()
    if text:
        if not (text.isascii() and text.isdigit() and int(text) >= 1):
            raise InputError("the environment variable does not hold a number of threads", tensor="CNNENGINE_NUM_THREADS",
                             expected="an integer of at least 1", received=repr(text))
        return min(int(text), TEAM_MAX), "CNNENGINE_NUM_THREADS"
    # Anything else than a list of positive numbers is ignored, as OpenMP runtimes do: the variable is not ours.
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if text.isascii() and text.isdigit() and int(text) >= 1:
        return min(int(text), TEAM_MAX), "OMP_NUM_THREADS"
    try:
        cpus = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        cpus = os.cpu_count() or 1
    quota = _quota(Path("/"))
    if quota is not None and quota < cpus:
        return min(max(1, int(quota)), TEAM_MAX), "cgroup quota"
    return min(cpus, TEAM_MAX), "CPU affinity"


@functools.cache
def _quota(root: Path) -> float | None:
    """The CPUs that the control groups of this process pay for, the least of all levels; None without a limit (cgroup v1 and v2)."""
    limits = []
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            base = root / "sys/fs/cgroup"
        elif "cpu" in controllers.split(","):
            base = next((b for b in (root / "sys/fs/cgroup" / controllers, root / "sys/fs/cgroup/cpu") if b.is_dir()), None)
        else:
            continue
        if base is None:
            continue
        # Inside a container the path may be the host's; what is mounted then is the container's own group, at the base.
        folder = base / path.strip("/")
        for level in (folder, *folder.parents):
            limit = _limit(level)
            if limit is not None:
                limits.append(limit)
            if level == base:
                break
    return min(limits, default=None)


def _limit(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):       # "max" is no number
        return None


# ---- a kernel for the tests and the benchmark: it records its chunks ----

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
        start = team_nanoseconds()
        x |= _busy(20000)
        best = min(best, team_nanoseconds() - start)
    return 20000 / (best / 1000) if x else 0.0


def _spoil(on: bool) -> None:
    """For the tests: let no thread be created while `on`."""
    team_spoil(on)


def _probe(Py_ssize_t n_steps, Py_ssize_t n_chunks, double work_ns, int threads, Py_ssize_t runs=1, double cost=0.0,
           bint openmp=False, double pause_ms=0.0, bint learn=False) -> dict[str, object]:
    """Run a plan of `n_steps` equal steps of `n_chunks` chunks of `work_ns` each, `runs` times: for the tests and the benchmark.

    Returns
    -------
    dict
        ``counts``: per step and chunk, how often it ran in all (``runs`` is right); ``workers``: per step and chunk, a bit for each
        thread that ran it; ``early``: how many chunks ran before the step before theirs was done, or with operands of another step
        (0 is right); ``seconds``: per run; ``alone``: whether it was found that the caller is faster alone. With ``openmp`` each step is a ``prange`` instead; with ``learn``
        the runs are one plan's, which is run alone where that is faster.
    """
    if n_steps < 0 or n_chunks < 0 or not 1 <= threads <= 31 or runs < 0:
        raise InputError("steps, chunks and runs are at least 0, threads from 1 to 31", received=(n_steps, n_chunks, threads, runs))
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
            start = team_nanoseconds()
            if openmp:
                for i in range(n_steps):
                    for c in prange(n_chunks, nogil=True, schedule="dynamic", num_threads=threads):
                        fn(steps[i].geometry, args + 2 * i, c, scratch + threadid() * stride)
            else:
                with nogil:
                    run_steps(steps, n_steps, args, scratch, stride, threads, habit)
            seconds.append((team_nanoseconds() - start) * 1e-9)
        return {
            "counts": [[atomic_load(&records[2 * (i * n_chunks + c)]) for c in range(n_chunks)] for i in range(n_steps)],
            "workers": [[atomic_load(&records[2 * (i * n_chunks + c) + 1]) for c in range(n_chunks)] for i in range(n_steps)],
            "early": atomic_load(&finished[n_steps]),
            "seconds": seconds,
            "alone": learn and bool(team_habit_alone(<team_habit *>habit)),
        }
    finally:
        free(steps)
        free(probes)
        free(args)
        free(records)
        free(finished)
        free(scratch)
        free(record)
