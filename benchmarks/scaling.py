"""Where several threads gain less than they could: every step of a model at one thread and at several, within whole runs.

    python benchmarks/scaling.py resnet18.ts mobilenet_v2.ts --threads 2 --top 10

Runs at one thread and at `--threads` take turns; a step's time is that from its start to the next one's, its loss what it takes
beyond its part of the time at one thread. First the losses by kernel, then the steps that lose most, microseconds. Unlike a
model's own runs these are always shared out. Names are those of the zoo (see README.md); ONNX files may stand among them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness  # noqa: F401  puts tests/ on the path
import numpy as np
import zoo_support

import cnnengine
from cnnengine.errors import CNNEngineError
from cnnengine.model import inside
from cnnengine.plan.plan import HostStep, StepReport
from cnnengine.report.planning import random_feeds, resolve_shapes
from cnnengine.runtime.runner import Workspace

TURNS = 6


class Timed:
    """A model with one number of threads, and what its steps took."""

    def __init__(self, model: cnnengine.Model, feeds: dict[str, Any], threads: int) -> None:
        self.threads = threads
        self.workspace = Workspace()
        self.taken: list[np.ndarray] = []
        self.parts = []
        values = dict(feeds)
        for segment in inside(model).segments(values, self.workspace, threads):
            segment.execute(values, self.workspace, threads)
            outputs = [np.empty(shape, dtype) for _, shape, dtype in segment.outputs]
            self.parts.append((segment.plan, [values[name] for name in segment.inputs], outputs))

    @property
    def reports(self) -> list[StepReport]:
        return [report for plan, _, _ in self.parts for report in plan.reports]

    def run(self) -> np.ndarray:
        """Nanoseconds of every native step of one run."""
        taken = []
        for plan, inputs, outputs in self.parts:
            self.workspace.begin(plan.native, inputs, outputs, self.threads)
            for piece in plan.pieces:
                if isinstance(piece, HostStep):
                    plan.run_host_step(piece, self.workspace, inputs, outputs)
                else:
                    times = np.empty(piece[1])
                    self.workspace.time(*piece, self.threads, times)
                    taken.append(times)
        return np.concatenate(taken) if taken else np.empty(0)

    def turn(self, seconds: float) -> None:
        self.run()  # finds the caches as the other left them
        end = time.perf_counter() + seconds
        while True:
            self.taken.append(self.run())
            if time.perf_counter() > end:
                return


def measure(name: str, threads: int, seconds: float, top: int) -> None:
    """Measure and print one model."""
    if Path(name).is_file():
        path, feeds = Path(name), None
    else:
        path, feeds = zoo_support.materialized(name), zoo_support.feeds(name)
    with cnnengine.load(path, threads=threads) as model:
        if feeds is None:
            shapes = resolve_shapes(model, None)
            if shapes is None:
                raise SystemExit(f"{name}: more than the batch is dynamic")
            feeds = random_feeds(model, shapes)
        sides = [Timed(model, feeds, 1), Timed(model, feeds, threads)]
        for _ in range(TURNS):
            for side in sides:
                side.turn(seconds / TURNS / 2)
        one, many = (np.array(side.taken) / 1e3 for side in sides)
        reports = sides[0].reports
    whole = [(runs.sum(1).min(), np.median(runs.sum(1))) for runs in (one, many)]
    shown = [f"{shortest:.0f} / {median:.0f}" for shortest, median in whole]
    print(f"{name}: 1 thread {shown[0]} us (min / median), {threads} threads {shown[1]}")
    alone, shared = np.median(one, axis=0), np.median(many, axis=0)
    loss = shared - alone / threads
    kinds: dict[str, list[float]] = {}
    for i, report in enumerate(reports):
        row = kinds.setdefault(report.kernel.split("[")[0].split(",")[0], [0, 0.0, 0.0, 0.0])
        for k, value in enumerate((1, alone[i], shared[i], loss[i])):
            row[k] += value
    print(f"  {'kernel':28s} {'steps':>6s} {'1 thread':>10s} {'shared':>10s} {'loss':>9s}")
    for kind, row in sorted(kinds.items(), key=lambda item: -item[1][3]):
        print(f"  {kind:28s} {row[0]:6.0f} {row[1]:10.1f} {row[2]:10.1f} {row[3]:9.1f}")
    print(f"  {'step':28s} {'chunks':>6s} {'1 thread':>10s} {'shared':>10s} {'loss':>9s}")
    for i in np.argsort(-loss)[:top]:
        report = reports[i]
        figures = f"{report.n_chunks:6d} {alone[i]:10.1f} {shared[i]:10.1f} {loss[i]:9.1f}"
        print(f"  {report.kernel[:28]:28s} {figures}  {report.node[-48:]}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="zoo name, or ONNX file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each model")
    parser.add_argument("--top", type=int, default=12, help="steps to print")
    options = parser.parse_args(argv)
    try:
        for name in options.models:
            measure(name, options.threads, options.seconds, options.top)
    except KeyError as error:
        parser.error(f"no such file, and {error.args[0]}")
    except CNNEngineError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
