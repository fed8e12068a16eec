"""What the benchmarks share: worker processes that take turns, statistics, and the head of a report.

A worker is a process of its own that answers one JSON line on its standard output per JSON line on its standard input. Only the
worker whose turn it is runs, the others are stopped by SIGSTOP: threads of an idle engine spin for a while, and would
take the cores from the others.

Only the standard library and numpy are used, so that workers run under interpreters that hold nothing but one engine.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import json
import os
import platform
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(os.fspath(ROOT / "tests"))
PR_SET_PDEATHSIG = 1


class WorkerError(RuntimeError):
    """A worker could not do what it was asked; the message is the reason in one line."""


class Worker:
    """The parent's side of one worker process; stopped except inside `ask`."""

    def __init__(self, argv: Sequence[str], timeout: float = 600.0) -> None:
        environment = dict(os.environ)
        for name in ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"):
            environment.pop(name, None)  # would put the threads of several engines on one CPU
        self.timeout = timeout
        self._buffer = b""
        self._complaint = b""
        self._process = subprocess.Popen(
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **request: Any) -> dict[str, Any]:
        """Wake the worker, send a request, wait for its answer, stop it again."""
        process = self._process
        assert process.stdin is not None
        self._signal(signal.SIGCONT)
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(self._line())
        except BrokenPipeError:
            raise WorkerError(self._obituary()) from None
        finally:
            self._signal(signal.SIGSTOP)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        out, err = self._process.stdout.fileno(), self._process.stderr.fileno()
        end = time.monotonic() + self.timeout
        watched = [out, err]
        while b"\n" not in self._buffer:
            ready = select.select(watched, [], [], max(0.0, end - time.monotonic()))[0]
            if not ready:
                raise WorkerError(f"no answer within {self.timeout:.0f} s")
            if err in ready:  # read, so that a talkative engine does not block; the tail is the reason when it dies
                text = os.read(err, 65536)
                self._complaint = (self._complaint + text)[-4000:]
                if not text:
                    watched.remove(err)
            if out in ready:
                data = os.read(out, 65536)
                if not data:
                    raise WorkerError(self._obituary())
                self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _obituary(self) -> str:
        code = self._process.wait(timeout=30)
        complaint = self._complaint
        assert self._process.stderr is not None
        if select.select([self._process.stderr], [], [], 0)[0]:
            complaint += os.read(self._process.stderr.fileno(), 65536)
        last = (complaint.decode(errors="replace").strip().splitlines() or [""])[-1][-300:]
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"the worker {how}" + (f": {last}" if last else "")

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()  # reaches stopped processes too
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def serve(handlers: dict[str, Callable[..., dict[str, Any]]]) -> None:
    """The worker's side: answer requests {"do": name, ...} by handlers[name](**rest) until the input ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # also ends a worker that is stopped at that moment
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an engine prints does not get between the answers
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = handlers[request.pop("do")](**request)
        except BaseException as error:
            if not isinstance(error, Exception):
                raise
            reason = " ".join(str(error).split()) or repr(error)
            answer = {"error": f"{type(error).__name__}: {reason[:400]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def timed(call: Callable[[], object], seconds: float, at_least: int = 3) -> list[float]:
    """Milliseconds of single calls, for about `seconds`; one call before them is not counted."""
    times: list[float] = []
    clock = time.perf_counter
    enabled = gc.isenabled()
    gc.disable()
    try:
        call()
        end = clock() + seconds
        while len(times) < at_least or clock() < end:
            start = clock()
            call()
            times.append((clock() - start) * 1e3)
    finally:
        if enabled:
            gc.enable()
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    """Count, minimum, median and 90th percentile of times in ms."""
    ordered = sorted(times)
    return {
        "runs": len(ordered),
        "min_ms": ordered[0],
        "median_ms": statistics.median(ordered),
        "p90_ms": ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))],
    }


def resident_mb() -> float | None:
    """Resident memory of this process in MB (10**6 bytes), counted page by page; None where /proc has none."""
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Rss:"):
                    return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return None


def import_cnnengine() -> Any:
    """cnnengine as installed, or else the one built in place beside this folder."""
    try:
        import cnnengine
    except ImportError:
        sys.path.insert(0, os.fspath(ROOT))
        import cnnengine
    return cnnengine


def cnnengine_config() -> str:
    """What `cnnengine.show_config` says, as text, whether it prints or returns it."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        returned = import_cnnengine().show_config()
    return printed.getvalue().strip() or ("" if returned is None else str(returned).strip())


def fma_peak(threads: int, seconds: float) -> float | None:
    """GFLOP/s of multiply-adds in registers, of so many threads at once, as cnnengine measures it; None where it does not."""
    import_cnnengine()
    try:
        from cnnengine._kernels import dispatch
    except ImportError:
        return None
    measure = getattr(dispatch, "fma_peak", None)
    if measure is None:
        return None
    with ThreadPoolExecutor(threads) as pool:  # it measures one thread, without the GIL
        return sum(pool.map(lambda _: float(measure(seconds=seconds)), range(threads)))


def cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith(("model name", "Model")):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


PROBE = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        found[name] = None
print(json.dumps({"python": sys.version.split()[0], "packages": found}))
"""


def probe(python: str, packages: Sequence[str]) -> dict[str, Any]:
    """Python version of an interpreter and the versions of packages there (None: absent), without importing them."""
    done = subprocess.run([python, "-c", PROBE, *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python} does not run: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout)


def spread(values: Sequence[float]) -> str:
    """ "133" or "131..140"."""
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low}..{high}"


def machine_head() -> dict[str, Any]:
    """CPU, system and load, for the head of a report."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu_model(),
        "cpus": affinity,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of text as aligned columns; the first `left` columns flush left. The first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)
