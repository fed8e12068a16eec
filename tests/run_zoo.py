"""Run the zoo of exported graphs, print a table and how many files agree; exit code 1 when one does not.

    python tests/run_zoo.py [--threads N] [--no-batch] [NAME...]

NAME is the beginning of file names, such as ``resnet18`` or ``resnet18.ts``; all files when none is given. The files are those
of tests/zoo, and of the folder that the environment variable CNNENGINE_ZOO names. A file agrees when its outputs are within
the tolerance of expected.json, no node runs on the host (but for files whose shapes depend on data), and a batch of three,
where the file takes one, equals three runs.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from dataclasses import dataclass

import zoo_support

import cnnengine


@dataclass
class Row:
    """What a file did."""

    name: str
    load_s: float = 0.0
    run_ms: float = 0.0
    error: float = float("nan")
    batch: float | None = None
    host: int = 0
    problems: tuple[str, ...] = ()

    def text(self) -> str:
        batch = "fixed" if self.batch is None else f"{self.batch:.1e}"
        verdict = "; ".join(self.problems) or "ok"
        return f"{self.name:28s} {self.error:8.1e} {batch:>8s} {self.host:5d} {self.load_s:7.2f} {self.run_ms:9.1f}  {verdict}"


HEADER = f"{'file':28s} {'error':>8s} {'batch 3':>8s} {'host':>5s} {'load s':>7s} {'run ms':>9s}  verdict"


def examine(name: str, threads: int | None, with_batch: bool) -> Row:
    """Load and run one file, twice, and as a batch."""
    row = Row(name)
    problems: list[str] = []
    try:
        proto = zoo_support.model_proto(name)
        dynamic = with_batch and zoo_support.batch_is_dynamic(proto)
        started = time.perf_counter()
        with cnnengine.load(proto, threads=threads) as model:
            row.load_s = time.perf_counter() - started
            del proto
            feeds = zoo_support.feeds(name)
            row.error = zoo_support.check_outputs(name, model.run(None, feeds), float("inf"))
            started = time.perf_counter()
            model.run(None, feeds)
            row.run_ms = 1e3 * (time.perf_counter() - started)
            if dynamic:
                feeds = zoo_support.feeds(name, batch=3)
                together = model.run(None, feeds)
                single = [model.run(None, {key: value[i : i + 1] for key, value in feeds.items()}) for i in range(3)]
                row.batch = zoo_support.batch_difference(together, single)
            row.host = len(model.host_nodes())
    except (cnnengine.CNNEngineError, AssertionError) as error:
        problems.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
    else:
        if not row.error <= zoo_support.tolerance(name):
            problems.append(f"off by {row.error:.1e}, allowed {zoo_support.tolerance(name):.0e}")
        if row.host and name not in zoo_support.IMPURE:
            problems.append(f"{row.host} nodes on the host")
        if row.batch is not None and not row.batch <= zoo_support.BATCH_TOLERANCE:
            problems.append(f"a batch differs from single runs by {row.batch:.1e}")
    row.problems = tuple(problems)
    return row


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--threads", type=int, help="threads of one run (default: the engine's)")
    parser.add_argument("--no-batch", action="store_true", help="leave the batches of three out")
    options = parser.parse_args(arguments)
    names = [n for n in zoo_support.names() if not options.names or n.startswith(tuple(options.names))]
    if not names:
        parser.error(f"no zoo file begins with {' or '.join(options.names)}")
    print(HEADER)
    bad: list[Row] = []
    excepted: list[Row] = []
    for name in names:
        row = examine(name, options.threads, not options.no_batch)
        print(row.text(), flush=True)
        gc.collect()
        if row.problems:
            bad.append(row)
        elif row.error > zoo_support.WIDER.get(name, zoo_support.TOLERANCE):
            excepted.append(row)
    print(f"{len(names) - len(bad) - len(excepted)} of {len(names)} files agree")
    for row in excepted:
        print(f"excepted: {row.name}, off by {row.error:.1e}: {zoo_support.EXCEPTED[row.name][1]}")
    for row in bad:
        print(f"failed: {row.name}: {'; '.join(row.problems)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
