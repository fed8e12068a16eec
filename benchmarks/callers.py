"""Several callers of one model at once: runs a second, latency and CPU time, by C threads and by Python threads.

    python benchmarks/callers.py resnet18.onnx
    python benchmarks/callers.py resnet18.onnx --routes c --cases 8x2 8x1 --seconds 5

A case NxT is N callers whose runs have T threads each. Each case is a process of its own: every caller has a workspace of its own
(in Python, a thread) on the one model, warms up, and then runs as often as it can. The C route needs a C compiler and Python's
headers (callers.c). Printed are all callers' runs a second, the median and the 99th percentile of a run's time, the CPUs that the
process kept busy, and the CPU time that it uses in one second of silence afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

CASES = ["1x1", "1x2", "2x1", "2x2", "4x2", "8x1", "8x2"]
HERE = Path(__file__).resolve().parent


def measure(path: str, callers: int, threads: int, seconds: float) -> dict[str, float]:
    """One case by Python threads, in this process."""
    import cnnengine

    model = cnnengine.load(path, threads=threads)
    info = model.inputs[0]
    feeds = {info.name: np.zeros(model.default_shape(info), info.dtype)}
    times: list[list[float]] = [[] for _ in range(callers)]
    barrier = threading.Barrier(callers)
    end = 0.0

    def work(mine: list[float]) -> None:
        nonlocal end
        for _ in range(3):
            model.run(None, feeds)
        if barrier.wait() == 0:
            end = time.perf_counter() + seconds
        barrier.wait()
        start = time.perf_counter()
        while start < end:
            model.run(None, feeds)
            stop = time.perf_counter()
            mine.append(stop - start)
            start = stop

    workers = [threading.Thread(target=work, args=(mine,)) for mine in times]
    used = time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    used = time.process_time() - used
    every = np.sort(np.concatenate([np.array(mine) for mine in times]))
    time.sleep(0.1)
    idle = time.process_time()
    time.sleep(1.0)
    idle = time.process_time() - idle
    return {
        "runs_per_second": len(every) / seconds,
        "p50_ms": 1e3 * every[len(every) // 2],
        "p99_ms": 1e3 * every[int(0.99 * (len(every) - 1))],
        "cpus": used / seconds,
        "idle_ms": 1e3 * idle,
    }


def compiled(folder: Path) -> Path:
    """callers.c as a program that embeds this Python."""
    import cnnengine

    config = Path(sysconfig.get_config_var("BINDIR"), f"python{sysconfig.get_config_var('LDVERSION')}-config")
    flags = [
        shlex.split(subprocess.run([config, *wanted], capture_output=True, text=True, check=True).stdout)
        for wanted in (["--includes"], ["--ldflags", "--embed"])
    ]
    program = folder / "callers"
    command = ["cc", "-std=gnu11", "-O2", *flags[0], f"-I{cnnengine.get_include()}", HERE / "callers.c", "-o", program]
    exported = shlex.split(sysconfig.get_config_var("LINKFORSHARED") or "")
    subprocess.run([*command, *exported, *flags[1], "-lpthread"], check=True)
    return program


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="an ONNX file with one input of a fixed shape (the batch aside)")
    parser.add_argument("--routes", nargs="+", choices=["c", "python"], default=["c", "python"])
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="NxT")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each case")
    parser.add_argument("--case", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.model, *options.case, options.seconds)))
        return
    env = {**os.environ, "CNNENGINE_PYTHON": sys.executable, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with tempfile.TemporaryDirectory() as folder:
        program = compiled(Path(folder)) if "c" in options.routes else None
        print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {Path(options.model).name}\n")
        print("| threads of | callers x threads | runs/s | p50 ms | p99 ms | CPUs busy | CPU ms in a quiet second |")
        print("|---|---|---|---|---|---|---|")
        for route in options.routes:
            for case in options.cases:
                callers, _, threads = case.partition("x")
                command = [program, options.model, callers, threads, str(options.seconds)]
                if route == "python":
                    command = [sys.executable, __file__, options.model, "--case", callers, threads]
                    command += ["--seconds", str(options.seconds)]
                done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
                if done.returncode:
                    raise SystemExit(f"{route} {case}: {done.stderr.strip()}")
                r = json.loads(done.stdout)
                cells = [route.capitalize(), f"{callers} x {threads}", f"{r['runs_per_second']:.0f}", f"{r['p50_ms']:.2f}"]
                cells += [f"{r['p99_ms']:.2f}", f"{r['cpus']:.2f}", f"{r['idle_ms']:.2f}"]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
