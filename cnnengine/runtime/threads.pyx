# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, annotation_typing=False
"""How many threads to use, and the team of them that runs the steps of a plan.

The team itself is C, since Cython has no atomic operations: ``team.h`` describes it. This module is the only one that includes it.
"""

import functools
import os

from libc.stdint cimport uint64_t

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

if team_init():
    raise MemoryError("no memory for a fork handler")


if <int>TEAM_HABIT_BYTES != <int>HABIT_BYTES:
    raise ImportError("threads.pxd and team.h differ")


cdef int run_steps(const step_t *steps, Py_ssize_t n_steps, void *const *args, char *scratch, Py_ssize_t scratch_stride,
                   int threads, void *habit, ended_fn ended, void *about) noexcept nogil:
    cdef int owner = 0, alone = 0, timed = 0, end = 0
    cdef Py_ssize_t i
    cdef uint64_t start = 0
    if threads > 1 and habit != NULL:
        alone = team_habit_way(<team_habit *>habit, &timed)
        if alone:
            threads = 1
        if timed:
            start = team_ticks()
    for i in range(n_steps):
        if ended != NULL and i:
            end = ended(about, 0)
            if end < 0:
                team_leave(owner)
                owner = 0
                end = ended(about, 1)
            if end:
                break
        team_step(&owner, steps[i].fn, steps[i].geometry, steps[i].n_chunks, args + steps[i].first_arg, scratch, scratch_stride,
                  threads, steps[i].cost)
    team_leave(owner)
    if timed and not end:
        team_habit_note(<team_habit *>habit, alone, team_ticks() - start)
    return end


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


cdef uint64_t nanoseconds() noexcept nogil:
    return team_nanoseconds()


cdef bint runs_alone(void *habit) noexcept nogil:
    return team_habit_alone(<team_habit *>habit)


cdef void refuse_threads(bint on) noexcept nogil:
    team_spoil(on)


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
    quota = _quota("/")
    if quota is not None and quota < cpus:
        return min(max(1, int(quota)), TEAM_MAX), "cgroup quota"
    return min(cpus, TEAM_MAX), "CPU affinity"


@functools.cache
def _quota(root: str | os.PathLike[str]) -> float | None:
    """The CPUs that the control groups of this process pay for, the least of all levels; None without a limit (cgroup v1 and v2)."""
    limits = []
    try:
        lines = _text(os.path.join(root, "proc/self/cgroup")).splitlines()
    except OSError:
        return None
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            base = os.path.join(root, "sys/fs/cgroup")
        elif "cpu" in controllers.split(","):
            places = [os.path.join(root, "sys/fs/cgroup", name) for name in (controllers, "cpu")]
            base = next(filter(os.path.isdir, places), None)
        else:
            continue
        if base is None:
            continue
        # Inside a container the path may be the host's; what is mounted then is the container's own group, at the base.
        parts = [part for part in path.split("/") if part not in ("", ".")]
        for count in range(len(parts), -1, -1):
            limit = _limit(os.path.join(base, *parts[:count]))
            if limit is not None:
                limits.append(limit)
    return min(limits, default=None)


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _limit(folder: str) -> float | None:
    try:
        if os.path.exists(os.path.join(folder, "cpu.max")):
            quota, period = _text(os.path.join(folder, "cpu.max")).split()
        else:
            quota = _text(os.path.join(folder, "cpu.cfs_quota_us")).strip()
            period = _text(os.path.join(folder, "cpu.cfs_period_us")).strip()
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):       # "max" is no number
        return None
