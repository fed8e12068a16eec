"""One engine in a process of its own: what `harness.Worker` starts and asks.

    python worker.py ENGINE

The file stands alone, with `engines.py` beside it: it runs under interpreters that hold nothing but one engine and numpy. It
answers one JSON line on standard output per JSON line on standard input.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.util
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

PR_SET_PDEATHSIG = 1


# ---------------------------------------------------------------- measuring
def timed(call: Callable[[], object], seconds: float) -> list[float]:
    """Milliseconds of single calls, for about `seconds`.

    The call before them, which finds the caches as another process left them, is not counted, unless it takes longer than the
    whole turn: then it is the turn.
    """
    times: list[float] = []
    clock = time.perf_counter
    enabled = gc.isenabled()
    gc.disable()
    try:
        start = clock()
        call()
        now = clock()
        if now - start >= seconds:
            return [(now - start) * 1e3]
        end = now + seconds
        while not times or clock() < end:
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


def memory() -> dict[str, float | None]:
    """Resident memory of this process now, counted page by page, and at most so far, in MB (10**6 bytes); None without /proc."""
    found: dict[str, float | None] = {"resident_mb": None, "peak_resident_mb": None}
    for name, path, key in (("resident_mb", "smaps_rollup", "Rss:"), ("peak_resident_mb", "status", "VmHWM:")):
        with contextlib.suppress(OSError), open(f"/proc/self/{path}", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(key):
                    found[name] = int(line.split()[1]) * 1024 / 1e6
    return found


# ---------------------------------------------------------------- the process
def serve(handlers: dict[str, Callable[..., dict[str, Any]]]) -> None:
    """Answer requests {"do": name, ...} by handlers[name](**rest) until the input ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # also ends a worker that is stopped at that moment
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an engine prints does not get between the answers
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = handlers[request.pop("do")](**request)
        except Exception as error:
            reason = " ".join(str(error).split()) or repr(error)
            answer = {"error": f"{type(error).__name__}: {reason[:400]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


# ---------------------------------------------------------------- the requests
def engines_beside() -> ModuleType:
    """engines.py by its path: this interpreter need not have the package."""
    spec = importlib.util.spec_from_file_location("cnnengine_bench_engines", Path(__file__).with_name("engines.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class Server:
    """The requests about one engine."""

    def __init__(self, name: str) -> None:
        self.engines = engines_beside()
        self.engine = self.engines.ENGINES[name]()
        self.feeds: dict[str, np.ndarray] = {}
        self.job: Any = None
        self.call: Callable[[], list[np.ndarray]] = list

    def prepare(self, names: list[str], feeds: str, **job: Any) -> dict[str, Any]:
        """Everything before the clock: imports, conversion; the arrays are those of the file, in the order of the names."""
        with np.load(feeds) as stored:
            arrays = [np.ascontiguousarray(stored[key]) for key in sorted(stored.files)]
        self.feeds = dict(zip(names, arrays, strict=True))
        self.job = self.engines.Job(**job, shapes=[list(value.shape) for value in arrays])
        self.engine.prepare(self.job, self.feeds)
        return {}

    def load(self, outputs: str) -> dict[str, Any]:
        """From the file to the end of the first request; its results go into the file `outputs`."""
        before = memory()["resident_mb"]
        start = time.perf_counter()
        self.call = self.engine.load(self.job, self.feeds)
        loaded = time.perf_counter()
        results = self.call()
        first = time.perf_counter()
        np.savez(outputs, **{f"{i:03d}": value for i, value in enumerate(results)})  # type: ignore[arg-type]
        figures = {"load_s": loaded - start, "load_and_first_run_s": first - start, "before_load_mb": before}
        return figures | {"precision": self.engine.precision, "mode": self.engine.mode}

    def run(self, seconds: float) -> dict[str, Any]:
        return {"times_ms": [round(t, 5) for t in timed(self.call, seconds)]}

    def peak(self, threads: int, seconds: float) -> dict[str, Any]:
        """Of multiply-adds; by cnnengine alone."""
        from cnnengine.report.profile import fma_peak

        return {"gflops": fma_peak(threads, seconds)}


def main() -> None:
    server = Server(sys.argv[1])
    serve({"prepare": server.prepare, "load": server.load, "run": server.run, "peak": server.peak, "memory": memory})


if __name__ == "__main__":
    main()
