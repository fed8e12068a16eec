"""The full run behind docs/performance.md: measures into benchmarks/results/, where tables.py reads.

    python benchmarks/publish.py && python benchmarks/tables.py

One variant of every model of the zoo (tests/zoo and the folder in CNNENGINE_ZOO) at batch 1 with 1 and 2 threads, the dozen of
suite.py at batch 8 with 1 thread, then the layer families. Each model is written down when it is measured: a run that was
interrupted goes on where it stopped (`--fresh` begins anew). What ncnn's converter and torch.compile make is kept in the user's
cache folder, so that a second run is shorter; `--seconds 0 --rounds 1 --results FOLDER` fills that cache beforehand.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import families
import harness
import suite
import zoo_support
from compare import zoo_case

from cnnengine.bench import PEERS, Comparison, record_text
from cnnengine.errors import CNNEngineError

MODELS = "models.json"
FAMILIES = "families.json"


def stored(path: Path) -> dict[str, Any]:
    """What earlier runs wrote: "runs" (heads of reports) and "records", each with the number of its run."""
    if not path.is_file():
        return {"runs": [], "records": []}
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def store(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    lines = [f"  {json.dumps(record)}" for record in data["records"]]  # a line each
    runs = [f"  {json.dumps(run)}" for run in data["runs"]]
    text = '{"runs": [\n' + ",\n".join(runs) + '\n],\n"records": [\n' + ",\n".join(lines) + "\n]}\n"
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def shorter(record: dict[str, Any]) -> dict[str, Any]:
    """A record without its single turns, and with figures of sensible length."""

    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.5g}")
        if isinstance(value, dict):
            return {key: rounded(inner) for key, inner in value.items() if key != "turns"}
        return [rounded(inner) for inner in value] if isinstance(value, list) else value

    peaks = record["fma_peak_gflops"]
    return rounded(record | {"fma_peak_gflops": [min(peaks), max(peaks)] if peaks else []})


def plan(names: list[str], threads: list[int], batch: int) -> list[tuple[str, int, int]]:
    """(name, threads, batch) in the order of measuring: a model at 1 and 2 threads in the same minute."""
    work = [(name, count, 1) for name in names for count in threads]
    return work + [(name, 1, batch) for name in names if batch > 1 and name in suite.DOZEN]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="models whose name contains it; several by commas")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="at batch 1 (1 2)")
    parser.add_argument("--batch", type=int, default=8, help="of the dozen, beside 1; 1 for none (8)")
    parser.add_argument("--seconds", type=float, default=0.6, help="for each engine and model (0.6)")
    parser.add_argument("--rounds", type=int, default=8, help="turns of each engine (8)")
    parser.add_argument("--against", default=",".join(PEERS), help=f"peers (all: {','.join(PEERS)})")
    parser.add_argument(
        "--compile", choices=["dozen", "all", "none"], default="dozen", help="which models torch.compile compiles (the dozen)"
    )
    parser.add_argument("--peer-python", help="interpreter of the peers (this one)")
    parser.add_argument("--results", type=Path, default=harness.RESULTS, help="folder of the figures (benchmarks/results)")
    parser.add_argument("--fresh", action="store_true", help="forget what is there")
    parser.add_argument("--no-layers", action="store_true", help="leave out the layer families")
    options = parser.parse_args(argv)

    path = options.results / MODELS
    data = {"runs": [], "records": []} if options.fresh else stored(path)
    done = {(record["model"], record["threads"], record["batch"]) for record in data["records"]}
    names = [name for name in suite.variants(zoo_support.names()) if any(part in name for part in options.only.split(","))]
    work = [item for item in plan(names, options.threads, options.batch) if item not in done]
    print(f"{len(work)} measurements to do, {len(done)} there", flush=True)
    comparisons: dict[tuple[int, int, bool], tuple[int, Comparison]] = {}
    asked = [name for name in options.against.split(",") if name]
    failures = 0
    start = time.monotonic()
    try:
        for position, (name, threads, batch) in enumerate(work):
            compiled = options.compile == "all" or (options.compile == "dozen" and name in suite.DOZEN)
            peers = [peer for peer in asked if peer != "torch-compile" or compiled]
            key = (threads, batch, compiled)
            if key not in comparisons:
                comparison = Comparison(
                    peers, threads=threads, batch=batch, seconds=options.seconds, rounds=options.rounds,
                    peer_python=options.peer_python, keep_compiled=True,
                )  # fmt: skip
                comparisons[key] = len(data["runs"]), comparison
                data["runs"].append(comparison.head())
            run, comparison = comparisons[key]
            try:
                record = comparison.measure(zoo_case(name, batch))
            except (CNNEngineError, ValueError) as error:  # a network that has no batch
                print(f"{name}: {error}", file=sys.stderr)
                failures += 1
                continue
            data["records"].append(shorter(record) | {"run": run})
            store(path, data)
            passed = time.monotonic() - start
            left = passed / (position + 1) * (len(work) - position - 1)
            print(f"\n[{position + 1}/{len(work)}, {passed / 60:.1f} min, {left / 60:.1f} left] {threads} threads, batch {batch}")
            print(record_text(record), flush=True)
        if not options.no_layers and (options.fresh or not (options.results / FAMILIES).is_file()):
            python = ["--peer-python", options.peer_python] if options.peer_python else []
            options.results.mkdir(parents=True, exist_ok=True)
            failures += families.main(["--json", os.fspath(options.results / FAMILIES), *python])
    except KeyboardInterrupt:
        print("interrupted; what was measured is kept", file=sys.stderr)
        return 130
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
