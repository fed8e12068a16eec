"""The benchmarks' own machinery: workers that fail say why, and no function of the package goes unmeasured."""

from __future__ import annotations

import inspect
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))

import compare  # noqa: E402
import harness  # noqa: E402
import layers  # noqa: E402

from cnnengine import functional  # noqa: E402

SERVER = f"""
import os, signal, sys, time
sys.path.insert(0, {str(BENCHMARKS)!r})
import harness
harness.serve({{
    "add": lambda a, b: {{"sum": a + b}},
    "talk": lambda: (print("x" * 300_000), {{"said": 300_000}})[1],
    "raise": lambda: 1 / 0,
    "die": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "sleep": lambda: time.sleep(60),
}})
"""


@pytest.fixture
def worker() -> Iterator[harness.Worker]:
    made = harness.Worker([sys.executable, "-c", SERVER], timeout=30)
    yield made
    made.close()


def state(worker: harness.Worker) -> str:
    status = Path(f"/proc/{worker.pid}/stat").read_text()
    return status.rsplit(")", 1)[1].split()[0]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_worker_answers_and_is_stopped_between_requests(worker: harness.Worker) -> None:
    assert worker.ask(do="add", a=2, b=3) == {"sum": 5}
    deadline = time.monotonic() + 5
    while state(worker) != "T" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert state(worker) == "T"
    assert worker.ask(do="talk") == {"said": 300_000}  # what it prints is no answer, and does not block it


def test_worker_that_fails_says_why(worker: harness.Worker) -> None:
    with pytest.raises(harness.WorkerError, match="ZeroDivisionError"):
        worker.ask(do="raise")
    assert worker.ask(do="add", a=1, b=1) == {"sum": 2}
    with pytest.raises(harness.WorkerError, match=signal.SIGSEGV.name):
        worker.ask(do="die")
    with pytest.raises(harness.WorkerError, match=signal.SIGSEGV.name):
        worker.ask(do="add", a=1, b=1)


def test_worker_that_hangs_is_given_up() -> None:
    hanging = harness.Worker([sys.executable, "-c", SERVER], timeout=1.0)
    try:
        with pytest.raises(harness.WorkerError, match="no answer"):
            hanging.ask(do="sleep")
    finally:
        hanging.close()


def test_summary() -> None:
    assert harness.summary([3.0, 1.0, 2.0, 10.0]) == {"runs": 4, "min_ms": 1.0, "median_ms": 2.5, "p90_ms": 10.0}


def test_every_function_has_a_case() -> None:
    assert set(functional.__all__) == {case.function for case in layers.CASES}


@pytest.mark.parametrize("case", layers.CASES, ids=lambda case: case.name)
def test_case_fits_the_signature(case: layers.Case) -> None:
    arrays = [None] * len(case.arrays)
    inspect.signature(getattr(functional, case.function)).bind(*arrays, *case.rest, **case.options, threads=1)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([[1.0, -4.0]], [[1.0, -4.0]], 0.0),
        ([[1.0, -4.0]], [[1.0, -3.0]], 0.25),
        ([[1.0, -4.0]], [[1.0]], float("inf")),
        ([[1.0], [2.0]], [[1.0]], float("inf")),
        ([[1.0]], [[float("nan")]], float("inf")),
    ],
)
def test_difference(ours: list[list[float]], theirs: list[list[float]], expected: float) -> None:
    def arrays(lists: list[list[float]]) -> list[np.ndarray]:
        return [np.asarray(values, np.float32) for values in lists]

    assert compare.difference(arrays(ours), arrays(theirs)) == expected
