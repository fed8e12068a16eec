"""The thread team: every chunk once, steps in order, whatever else happens; and the choice of the number of threads."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import compiled
import pytest

import cnnengine
from cnnengine.errors import InputError
from cnnengine.runtime import threads

team_probe = compiled.module(Path(__file__).with_name("team_probe.pyx"))

WORKERS = [1, 2, 4]
needs_two_cpus = pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one CPU")
needs_names = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads and their names are read from /proc")
needs_moves = pytest.mark.skipif(threads.thread_info()["team"] != "futex", reason="Linux alone tells a thread's CPU")


@pytest.fixture(autouse=True)
def _time_limit() -> Iterator[None]:
    """A team that hangs would hang without the GIL and without a signal handler: end the process, with all tracebacks."""
    faulthandler.dump_traceback_later(120, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def check(result: dict, steps: int, chunks: int, runs: int, workers: int) -> None:
    assert result["counts"] == [[runs] * chunks] * steps
    assert result["early"] == 0
    assert len(result["seconds"]) == runs
    for step in result["workers"]:
        assert all(0 < bits < 1 << workers for bits in step)


def seen(result: dict) -> int:
    """How many threads ran a chunk."""
    bits = 0
    for step in result["workers"]:
        for mask in step:
            bits |= mask
    return bits.bit_count()


def until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether `condition()` comes true in time: helpers are optional, and a busy machine may withhold their CPU for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
    return False


# ---- every chunk once, steps in order ----


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize(("steps", "chunks"), [(0, 3), (1, 0), (3, 0), (1, 1), (5, 1), (1, 2), (7, 3), (100, 8), (3, 1000)])
def test_every_chunk_runs_once_and_in_order(steps: int, chunks: int, workers: int) -> None:
    check(team_probe.probe(steps, chunks, 200, workers, runs=20), steps, chunks, 20, workers)


@pytest.mark.parametrize("workers", WORKERS)
def test_thousands_of_runs(workers: int) -> None:
    check(team_probe.probe(20, 6, 0, workers, runs=3000), 20, 6, 3000, workers)
    check(team_probe.probe(5, 3, 2000, workers, runs=1000), 5, 3, 1000, workers)


@pytest.mark.parametrize("chunks", [4094, 4095, 4096, 4097, 8190, 8191, 65_536, 200_003])
def test_more_chunks_than_a_share_counts(chunks: int) -> None:
    check(team_probe.probe(2, chunks, 0, 2), 2, chunks, 1, 2)


@pytest.mark.parametrize("cost", [1.0, 2999.0, 3000.0, 1e4, 1e6, 1e12, float("inf"), float("nan"), -1.0])
@pytest.mark.parametrize("chunks", [2, 7, 9, 1000, 70_001])
def test_any_cost_only_groups_chunks(chunks: int, cost: float) -> None:
    check(team_probe.probe(3, chunks, 0, 3, runs=3, cost=cost), 3, chunks, 3, 3)


def test_cheap_steps_are_not_shared_out() -> None:
    assert seen(team_probe.probe(200, 8, 1000, 2, runs=50, cost=2000.0)) == 1


@pytest.mark.parametrize("workers", [2, 3, 7, 31])
@pytest.mark.parametrize("chunks", [2, 3, 5, 8, 13, 31, 33])
def test_fewer_chunks_than_threads_and_more(chunks: int, workers: int) -> None:
    """Ranges of every size, empty ones among them."""
    check(team_probe.probe(4, chunks, 500, workers, runs=20), 4, chunks, 20, workers)


@needs_two_cpus
def test_neighbouring_chunks_are_one_threads() -> None:
    """The caller has the first half and the helper the second, but for what one takes from the other's end."""

    def halves() -> bool:
        workers = team_probe.probe(1, 8, 200_000, 2)["workers"][0]
        return workers == sorted(workers) and set(workers) == {1, 2}

    assert until(halves)


@needs_two_cpus
def test_two_workers_at_work() -> None:
    assert until(lambda: seen(team_probe.probe(20, 8, 50_000, 2)) == 2)


@needs_two_cpus
def test_more_helpers_than_one() -> None:
    assert until(lambda: seen(team_probe.probe(5, 64, 200_000, 3)) == 3)


@needs_two_cpus
def test_fewer_threads_than_the_team_has() -> None:
    """A helper that a larger call created takes no part in a smaller one, whose scratch it has no share of."""
    team_probe.probe(1, 8, 1000, 4)
    for _ in range(200):
        check(team_probe.probe(5, 8, 5000, 2), 5, 8, 1, 2)


@needs_two_cpus
def test_openmp_shows_two_workers() -> None:
    if threads.thread_info()["openmp"] is None:
        pytest.skip("built without OpenMP")
    result = team_probe.probe(20, 8, 50_000, 2, openmp=True)
    check(result, 20, 8, 1, 2)
    assert until(lambda: seen(team_probe.probe(20, 8, 50_000, 2, openmp=True)) == 2)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize(("steps", "chunks", "work"), [(3, 4, 0), (5, 8, 20_000), (1, 2, 3_000_000)])
def test_learning_runs_every_chunk_once(steps: int, chunks: int, work: int, workers: int) -> None:
    runs = 40 if work > 100_000 else 400
    check(team_probe.probe(steps, chunks, work, workers, runs=runs, learn=True), steps, chunks, runs, workers)


@needs_two_cpus
def test_steps_of_nothing_are_run_alone() -> None:
    assert until(lambda: bool(team_probe.probe(20, 2, 0, 2, runs=40, learn=True)["alone"]))
    assert not team_probe.probe(20, 2, 0, 2, runs=40)["alone"]


@needs_two_cpus
def test_short_steps_worth_sharing_are_shared() -> None:
    assert until(lambda: not team_probe.probe(5, 8, 20_000, 2, runs=40, learn=True)["alone"])


# ---- several callers ----


def test_callers_in_several_threads() -> None:
    results: list[dict] = []

    def call(work: float) -> None:
        results.extend(team_probe.probe(10, 5, work, 2, runs=10) for _ in range(50))

    callers = [threading.Thread(target=call, args=(work,)) for work in (0, 500, 3000, 20_000)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 200
    for result in results:
        check(result, 10, 5, 10, 2)


@needs_two_cpus
def test_the_team_is_free_again_after_a_caller_has_ended() -> None:
    caller = threading.Thread(target=team_probe.probe, args=(10, 8, 1000, 2))
    caller.start()
    caller.join()
    assert until(lambda: seen(team_probe.probe(20, 8, 50_000, 2)) == 2)


# ---- fork ----


def in_child(body: Callable[[], None]) -> int:
    """Run `body` in a forked child; its exit status, or -1 when it had to be killed after 20 s."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestFork:
    @pytest.mark.parametrize(("children", "openmp"), [(100, False), (25, True)])
    def test_many_children_run_again(self, children: int, openmp: bool) -> None:
        """Parent and child both go on with two threads, by the team and by OpenMP."""

        def body() -> None:
            check(team_probe.probe(10, 8, 1000, 2, runs=3, openmp=openmp), 10, 8, 3, 2)

        for _ in range(children):
            check(team_probe.probe(10, 8, 1000, 2, runs=3, openmp=openmp), 10, 8, 3, 2)
            assert in_child(body) == 0

    def test_while_another_thread_runs(self) -> None:
        """The team belongs to another thread at the moment of the fork: in the child it belongs to nobody."""
        stop = threading.Event()
        bad: list[object] = []

        def run() -> None:
            while not stop.is_set():
                result = team_probe.probe(50, 8, 3000, 2)
                if result["counts"] != [[1] * 8] * 50 or result["early"]:
                    bad.append(result)

        def body() -> None:
            check(team_probe.probe(10, 8, 1000, 2, runs=3), 10, 8, 3, 2)
            assert threads.thread_info()["helpers"] == 1

        caller = threading.Thread(target=run)
        caller.start()
        try:
            assert [in_child(body) for _ in range(30)] == [0] * 30
        finally:
            stop.set()
            caller.join()
        assert not bad

    def test_child_of_a_child(self) -> None:
        def body() -> None:
            check(team_probe.probe(10, 8, 1000, 2), 10, 8, 1, 2)
            assert in_child(lambda: check(team_probe.probe(10, 8, 1000, 2), 10, 8, 1, 2)) == 0

        check(team_probe.probe(10, 8, 1000, 2), 10, 8, 1, 2)
        assert in_child(body) == 0


def run_script(text: str, **env: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(threads.__file__).parents[2])
    path = os.pathsep.join(p for p in (root, str(compiled.folder()), os.environ.get("PYTHONPATH", "")) if p)
    return subprocess.run(
        [sys.executable, "-c", "import team_probe\n" + text],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": path, **env},
    )


def test_fork_before_any_run() -> None:
    """No OpenMP region and no team yet: the fork handlers find nothing to do."""
    done = run_script(
        "import os\n"
        "from cnnengine.runtime import threads\n"
        "pid = os.fork()\n"
        "r = [team_probe.probe(5, 8, 1000, 2, openmp=o)['counts'] == [[1] * 8] * 5 for o in (False, True)]\n"
        "if pid == 0: os._exit(0 if all(r) else 1)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) or not all(r))\n"
    )
    assert done.returncode == 0, done.stderr


# ---- what helpers cost and how they end ----


def test_no_helper_before_it_is_needed() -> None:
    done = run_script(
        "from cnnengine.runtime import threads\n"
        "count = lambda: threads.thread_info()['helpers']\n"
        "seen = [count()]\n"
        "for n_chunks, n in ((8, 1), (1, 2), (8, 2), (8, 4), (8, 2)):\n"
        "    team_probe.probe(2, n_chunks, 100, n)\n"
        "    seen.append(count())\n"
        "print(seen)\n"
    )
    assert done.stdout.strip() == "[0, 0, 0, 1, 3, 3]", done.stderr


def test_interpreter_exit_with_helpers_at_work() -> None:
    """Helpers sleep, spin or compute for a daemon thread while the process ends."""
    text = (
        "import threading, time\n"
        "from cnnengine.runtime import threads\n"
        "team_probe.probe(10, 8, 1000, 4)\n"
        "threading.Thread(target=team_probe.probe, args=(10**4, 8, 10000, 4), daemon=True).start()\n"
        "time.sleep(0.05)\n"
    )
    for _ in range(5):
        done = run_script(text)
        assert done.returncode == 0, done.stderr


def test_idle_helpers_use_no_cpu() -> None:
    """50 us of looking for work, then sleep: three idle helpers in half a second stay far below a millisecond each."""
    team_probe.probe(20, 8, 5000, 4, runs=10)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.01


def helper_tasks() -> list[Path]:
    return [t for t in Path("/proc/self/task").iterdir() if (t / "comm").read_text().startswith("cnnengine-")]


@needs_names
def test_helpers_block_signals_but_their_own_faults() -> None:
    team_probe.probe(2, 8, 100, 2)
    assert until(lambda: len(helper_tasks()) >= 1)
    faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
    for task in helper_tasks():
        line = next(x for x in (task / "status").read_text().splitlines() if x.startswith("SigBlk:"))
        mask = int(line.split()[1], 16)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGPROF, signal.SIGUSR1):
            assert mask >> (number - 1) & 1
        for number in faults:
            assert not mask >> (number - 1) & 1


def test_signals_reach_a_caller_at_work() -> None:
    got: list[float] = []
    before = signal.signal(signal.SIGALRM, lambda *_: got.append(time.monotonic()))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        check(team_probe.probe(20, 8, 1000, 2, runs=500), 20, 8, 500, 2)
        assert until(lambda: len(got) > 0, 5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def no_new_threads() -> Iterator[None]:
    team_probe.spoil(True)
    try:
        yield
    finally:
        team_probe.spoil(False)


def test_without_new_threads_the_caller_runs_alone() -> None:
    done = run_script(
        "from cnnengine.runtime import threads\n"
        "import time\n"
        "team_probe.spoil(True)\n"
        "r = team_probe.probe(10, 8, 1000, 4, runs=10)\n"
        "assert r['counts'] == [[10] * 8] * 10 and r['workers'] == [[1] * 8] * 10 and r['early'] == 0\n"
        "assert threads.thread_info()['helpers'] == 0\n"
        "team_probe.spoil(False)\n"
        "end = time.monotonic() + 30\n"  # a second must pass before the next attempt
        "while threads.thread_info()['helpers'] != 3 and time.monotonic() < end:\n"
        "    team_probe.probe(1, 8, 1000, 4)\n"
        "assert threads.thread_info()['helpers'] == 3\n"
    )
    assert done.returncode == 0, done.stderr


def test_a_team_that_cannot_grow_goes_on_as_it_is() -> None:
    team_probe.probe(2, 8, 100, 2)
    with no_new_threads():
        check(team_probe.probe(10, 8, 1000, 31, runs=10), 10, 8, 10, 31)


@needs_two_cpus
@needs_moves
def test_affinity_of_the_caller_is_followed() -> None:
    """Helpers that exist already go where the caller may go, there and back."""
    before = os.sched_getaffinity(0)
    one = {min(before)}
    check(team_probe.probe(5, 8, 20_000, 2), 5, 8, 1, 2)
    assert until(lambda: any((t / "comm").read_text().strip() == "cnnengine-1" for t in helper_tasks()))
    first = [int(t.name) for t in helper_tasks() if (t / "comm").read_text().strip() == "cnnengine-1"]

    def follows(mask: set[int]) -> bool:
        check(team_probe.probe(5, 8, 20_000, 2), 5, 8, 1, 2)
        return os.sched_getaffinity(first[0]) == mask

    assert until(lambda: follows(before))
    try:
        os.sched_setaffinity(0, one)
        assert until(lambda: follows(one))
    finally:
        os.sched_setaffinity(0, before)
    assert until(lambda: follows(before))


# ---- how many threads ----


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("CNNENGINE_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return monkeypatch


def test_precedence(clean: pytest.MonkeyPatch) -> None:
    machine = threads.default_threads()
    assert machine >= 1
    assert threads.thread_info()["source"] in ("CPU affinity", "cgroup quota")
    clean.setenv("OMP_NUM_THREADS", "5,3")
    assert threads.default_threads() == 5
    assert threads.thread_info()["source"] == "OMP_NUM_THREADS"
    clean.setenv("CNNENGINE_NUM_THREADS", " 3 ")
    assert threads.default_threads() == 3
    assert threads.thread_info()["source"] == "CNNENGINE_NUM_THREADS"
    assert threads.default_threads(2) == 2
    assert threads.default_threads(10**6) == 256


@needs_two_cpus
def test_show_config_tells_each_step(clean: pytest.MonkeyPatch) -> None:
    """The argument, CNNENGINE_NUM_THREADS, OMP_NUM_THREADS, the affinity, the quota: each hides those after it."""

    def shown() -> tuple[object, object]:
        config = cnnengine.show_config()
        return config["threads"], config["source"]

    path = Path(__file__).resolve().parents[2] / "models" / "digits_lenet.onnx"
    before = os.sched_getaffinity(0)
    try:
        clean.setattr(threads, "_quota", lambda root: 1.9)
        assert shown() == (1, "cgroup quota")
        clean.setattr(threads, "_quota", lambda root: None)
        assert shown() == (len(before), "CPU affinity")
        os.sched_setaffinity(0, {max(before)})
        assert shown() == (1, "CPU affinity")
        clean.setenv("OMP_NUM_THREADS", "5")
        assert shown() == (5, "OMP_NUM_THREADS")
        clean.setenv("CNNENGINE_NUM_THREADS", "3")
        assert shown() == (3, "CNNENGINE_NUM_THREADS")
        with cnnengine.load(path) as model:
            assert model.threads == 3
        with cnnengine.load(path, threads=4) as model:
            assert model.threads == 4
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "1,2", "٣", "1_0", "+2"])
def test_wrong_own_variable_is_an_error(clean: pytest.MonkeyPatch, text: str) -> None:
    clean.setenv("CNNENGINE_NUM_THREADS", text)
    with pytest.raises(InputError, match="CNNENGINE_NUM_THREADS"):
        threads.default_threads()
    assert threads.default_threads(2) == 2


@pytest.mark.parametrize("text", ["", "0", "many", "-2"])
def test_wrong_foreign_variable_is_ignored(clean: pytest.MonkeyPatch, text: str) -> None:
    machine = threads.default_threads()
    clean.setenv("OMP_NUM_THREADS", text)
    assert threads.default_threads() == machine


@pytest.mark.parametrize("wrong", [0, -3, 1.0, "2", True, [2]])
def test_wrong_argument(wrong: object) -> None:
    with pytest.raises(InputError, match="threads"):
        threads.default_threads(wrong)  # type: ignore[arg-type]


@needs_two_cpus
def test_affinity_counts(clean: pytest.MonkeyPatch) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {max(before)})
        assert threads.default_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


def files(root: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("cpu_max", "cpu.max").replace("cfs_", "cpu.cfs_")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("texts", "quota"),
    [
        ({}, None),
        ({"proc__self__cgroup": "0::/a/b\n"}, None),
        ({"proc__self__cgroup": "0::/a/b\n", "sys__fs__cgroup__a__b__cpu_max": "max 100000\n"}, None),
        ({"proc__self__cgroup": "0::/a/b\n", "sys__fs__cgroup__a__b__cpu_max": "150000 100000\n"}, 1.5),
        (
            {
                "proc__self__cgroup": "0::/a/b\n",
                "sys__fs__cgroup__a__b__cpu_max": "max 100000\n",
                "sys__fs__cgroup__a__cpu_max": "400000 100000\n",
            },
            4.0,
        ),
        ({"proc__self__cgroup": "0::/gone\n", "sys__fs__cgroup__cpu_max": "200000 100000\n"}, 2.0),
        ({"proc__self__cgroup": "0::/a\n", "sys__fs__cgroup__a__cpu_max": "nonsense\n"}, None),
        (
            {
                "proc__self__cgroup": "4:cpu,cpuacct:/x\n2:cpuset:/y\n",
                "sys__fs__cgroup__cpu,cpuacct__x__cfs_quota_us": "300000\n",
                "sys__fs__cgroup__cpu,cpuacct__x__cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            {
                "proc__self__cgroup": "4:cpu:/x\n",
                "sys__fs__cgroup__cpu__cfs_quota_us": "-1\n",
                "sys__fs__cgroup__cpu__cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_quota(tmp_path: Path, texts: dict[str, str], quota: float | None) -> None:
    assert threads._quota(files(tmp_path, **texts)) == quota


def test_quota_lowers_the_count_but_not_below_one(clean: pytest.MonkeyPatch) -> None:
    """Only threads that the quota pays for in full: a process over its quota stands still for the rest of the period."""
    clean.setattr(threads, "_quota", lambda root: 0.5)
    assert threads._count() == (1, "cgroup quota")
    clean.setattr(threads, "_quota", lambda root: 1e9)
    assert threads._count()[1] == "CPU affinity"


def test_info() -> None:
    info = threads.thread_info()
    assert set(info) == {"threads", "source", "team", "clock", "helpers", "openmp"}
    own = sys.platform.startswith("linux") and os.environ.get("CNNENGINE_POSIX", "0") != "1"
    assert info["team"] == ("futex" if own else "condition variable")
    assert info["openmp"] is None or info["openmp"] >= 201511
