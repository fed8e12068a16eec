"""What a step of a plan costs by the thread team, by an OpenMP ``prange`` per step, and by one thread.

A plan is 100 steps of 8 chunks of fixed work. Each case runs in a process of its own, in turn; times are of the whole plan.

    python benchmarks/threads.py                    # steps of 5, 50 and 500 us; quiet, and with one busy process beside it
    python benchmarks/threads.py --steps 50 --busy 0 --pause 5
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

STEPS, CHUNKS = 100, 8
DESIGNS = {"1 thread": (1, False), "team": (2, False), "prange": (2, True)}


def measure(design: str, step_us: float, runs: int, pause_ms: float) -> list[float]:
    """Seconds of each run of a plan, in this process."""
    import team_probe  # which the process that started this one compiled

    count, openmp = DESIGNS[design]
    chunks = CHUNKS if step_us else 2
    times: list[float] = []
    end = time.monotonic() + 5  # on a machine whose CPUs are taken a prange can take seconds
    while len(times) < runs and time.monotonic() < end:
        result = team_probe.probe(STEPS, chunks, 1000 * step_us / chunks, count, runs=10, openmp=openmp, pause_ms=pause_ms)
        assert result["counts"] == [[10] * chunks] * STEPS
        assert result["early"] == 0
        times += result["seconds"]
    return times


def in_own_process(*arguments: object) -> list[float]:
    command = [sys.executable, __file__, "--case", json.dumps(arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    return json.loads(done.stdout)


def line(times: list[float], unit: float) -> str:
    times = sorted(times)
    return f"{times[0] / unit:8.2f} {statistics.median(times) / unit:8.2f} {times[int(0.95 * (len(times) - 1))] / unit:8.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=float, nargs="+", default=[5, 50, 500], help="microseconds of work in a step")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1], help="busy processes beside the measured one")
    parser.add_argument("--pause", type=float, default=0, help="milliseconds between plans")
    parser.add_argument("--runs", type=int, default=0, help="plans per case; by default as many as 1 s of work; 5 s at most")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(*json.loads(options.case))))
        return

    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    import compiled

    from cnnengine.runtime import threads

    compiled.module(Path(__file__).parents[1] / "tests" / "runtime" / "team_probe.pyx")
    info = threads.thread_info()
    print(
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; "
        f"team: {info['team']}, clock: {info['clock']}, OpenMP {info['openmp']}"
    )
    print("\nempty steps (2 chunks without work), us a step:      min   median      p95")
    for design in DESIGNS:
        print(f"{design:>48} {line(in_own_process(design, 0, 300, 0), 1e-6 * STEPS)}")
    print(f"\n{STEPS} steps of {CHUNKS} chunks, ms a plan:                   min   median      p95   median / 1 thread")
    for busy in options.busy:
        spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            for step_us in options.steps:
                base = 0.0
                for design in DESIGNS:
                    runs = options.runs or max(20, min(200, int(1e6 / (step_us * STEPS))))
                    times = in_own_process(design, step_us, runs, options.pause)
                    base = base or statistics.median(times)
                    print(
                        f"busy {busy}, {step_us:5g} us a step, {design:>20} {line(times, 1e-3)} "
                        f"{statistics.median(times) / base:8.2f}"
                    )
        finally:
            for spinner in spinners:
                spinner.kill()
                spinner.wait()


if __name__ == "__main__":
    main()
