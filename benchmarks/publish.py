"""The full run behind docs/performance.md: measures into benchmarks/results/, where tables.py reads.

    python benchmarks/publish.py && python benchmarks/tables.py

One variant of every model of the zoo (tests/zoo and the folder in CNNENGINE_ZOO) at batch 1 with 1 and 2 threads, cnnengine
alone also beside a busy process, the dozen of suite.py at batch 8 with 1 thread; the dozen in bfloat16; quantised forms of
seven models (benchmarks/quantised.py). What was disturbed is measured once more. Then come the layer families. Each model is
written down when it is measured: a run that was interrupted goes on where it stopped (`--fresh` begins anew). What ncnn's
converter and torch.compile make is kept in the user's cache folder, so that a second run is shorter; `--seconds 0 --rounds 1
--results FOLDER` fills that cache beforehand. Peers that have no environment are left out, and the tables say so: `cnnengine
bench --setup` makes them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import families
import harness
import suite
import zoo_support
from compare import zoo_case

from cnnengine.bench import PEERS, USUAL, Comparison, record_text
from cnnengine.errors import CNNEngineError

MODELS = "models.json"
FAMILIES = "families.json"
STEADY = ("cnnengine", "onnxruntime", "openvino")
"""Engines whose median on an undisturbed machine is close to their minimum."""
DISTURBED = 1.2


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


class Item(NamedTuple):
    """One measurement: a model, and under which circumstances."""

    name: str
    threads: int
    batch: int = 1
    busy: int = 0
    precision: str = "float32"
    """What cnnengine is asked for; quantised files are computed as they are."""

    @property
    def text(self) -> str:
        text = f"{self.threads} threads, batch {self.batch}" + f", beside {self.busy} busy" * bool(self.busy)
        return text + f", {self.precision}" * (self.precision != "float32")


def item_of(record: Mapping[str, Any]) -> Item:
    return Item(record["model"], record["threads"], record["batch"], record["busy"], record.get("precision", "float32"))


PRECISIONS = ("float32", "bfloat16", "int8")


def plan(
    names: list[str],
    threads: list[int],
    batch: int,
    busy: bool,
    precisions: Sequence[str] = PRECISIONS,
    forms: Sequence[str] = (),
) -> list[Item]:
    """What to measure, in order: a model at 1 and 2 threads in the same minute."""
    work = []
    for name in names if "float32" in precisions else ():
        work += [Item(name, count) for count in threads]
        work += [Item(name, count, busy=1) for count in threads if busy]
    dozen = [name for name in names if name in suite.DOZEN]
    if "float32" in precisions:
        work += [Item(name, 1, batch) for name in dozen if batch > 1]
    if "bfloat16" in precisions:
        work += [Item(name, count, precision="bfloat16") for name in dozen for count in threads]
    if "int8" in precisions:
        quantised = [f"{name} {form}" for name in names if name in suite.QUANTISED for form in forms]
        work += [Item(name, count) for name in quantised for count in threads]
    return work


def disturbed(record: Mapping[str, Any]) -> bool:
    """Whether the machine had other things to do: the median of an engine is far above its minimum. Measured once more then."""
    engines = [record["engines"].get(name) for name in STEADY]
    return not (record["busy"] or record["again"]) and any(e and e["median_ms"] > DISTURBED * e["min_ms"] for e in engines)


class Publication:
    """The measurements of a run, written down one by one."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.path = options.results / MODELS
        self.data = {"runs": [], "records": []} if options.fresh else stored(self.path)
        self.failures = 0
        self._asked = None if options.against is None else [name for name in options.against.split(",") if name]
        self._comparisons: dict[tuple[Any, ...], tuple[int, Comparison]] = {}

    @property
    def records(self) -> list[dict[str, Any]]:
        return self.data["records"]

    def _comparison(self, item: Item) -> tuple[int, Comparison]:
        """How an item is measured, and the number of its run."""
        dozen = item.name in suite.DOZEN
        chosen = {"torch": self.options.torch, "torch-compile": self.options.compile}
        left_out = {peer for peer, models in chosen.items() if models == "none" or (models == "dozen" and not dozen)}
        key = (*item[1:], "torch" in left_out, "torch-compile" in left_out)
        if key not in self._comparisons:
            usual = USUAL if item.precision == "float32" else PEERS
            asked = usual if self._asked is None else self._asked
            peers = [peer for peer in asked if peer.removesuffix("-bf16") not in left_out]
            comparison = Comparison(
                [] if item.busy else peers, threads=item.threads, batch=item.batch, seconds=self.options.seconds,
                rounds=self.options.rounds, busy=item.busy, precision=item.precision, peer_python=self.options.peer_python,
                keep_compiled=True,
            )  # fmt: skip
            self._comparisons[key] = len(self.data["runs"]), comparison
            self.data["runs"].append(comparison.head() | {"left_out": sorted(left_out)})
        return self._comparisons[key]

    def measure(self, work: Sequence[Item], again: bool = False) -> None:
        """Measure these, in place of what an earlier measurement gave."""
        start = time.monotonic()
        for position, item in enumerate(work):
            run, comparison = self._comparison(item)
            try:
                record = shorter(comparison.measure(zoo_case(item.name, item.batch)))
                record |= {"run": run, "again": again, "precision": item.precision}
            except (CNNEngineError, ValueError) as error:  # a network that has no batch
                print(f"{item.name}: {error}", file=sys.stderr)
                self.failures += 1
                continue
            places = [i for i, earlier in enumerate(self.records) if item_of(earlier) == item]
            if places:
                self.records[places[0]] = record
            else:
                self.records.append(record)
            store(self.path, self.data)
            passed = time.monotonic() - start
            left = passed / (position + 1) * (len(work) - position - 1)
            print(f"\n[{position + 1}/{len(work)}, {passed / 60:.1f} min, {left / 60:.1f} left] {item.text}")
            print(record_text(record), flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="models whose name contains it; several by commas")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="at batch 1 (1 2)")
    parser.add_argument("--batch", type=int, default=8, help="of the dozen, beside 1; 1 for none (8)")
    parser.add_argument("--seconds", type=float, default=0.6, help="for each engine and model (0.6)")
    parser.add_argument("--rounds", type=int, default=8, help="turns of each engine (8)")
    parser.add_argument("--against", help=f"peers, by commas (those that fit the precision, of {','.join(PEERS)})")
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=PRECISIONS,
        default=list(PRECISIONS),
        help=f"tables to measure ({' '.join(PRECISIONS)})",
    )
    parser.add_argument(
        "--forms", nargs="+", choices=list(suite.FORMS), default=list(suite.FORMS), help="of the quantised models (all)"
    )
    parser.add_argument(
        "--compile", choices=["dozen", "all", "none"], default="dozen", help="which models torch.compile compiles (the dozen)"
    )
    parser.add_argument(
        "--torch", choices=["dozen", "all", "none"], default="none", help="which models torch runs eagerly (none)"
    )
    parser.add_argument("--peer-python", help="interpreter of the peers (this one)")
    parser.add_argument("--results", type=Path, default=harness.RESULTS, help="folder of the figures (benchmarks/results)")
    parser.add_argument("--fresh", action="store_true", help="forget what is there")
    parser.add_argument("--no-busy", action="store_true", help="leave out cnnengine with one CPU kept busy")
    parser.add_argument("--no-again", action="store_true", help="do not measure again what was disturbed")
    parser.add_argument("--no-layers", action="store_true", help="leave out the layer families")
    options = parser.parse_args(argv)

    publication = Publication(options)
    done = set(map(item_of, publication.records))
    names = [name for name in suite.variants(zoo_support.names()) if any(part in name for part in options.only.split(","))]
    planned = plan(names, options.threads, options.batch, not options.no_busy, options.precisions, options.forms)
    work = [item for item in planned if item not in done]
    print(f"{len(work)} measurements to do, {len(done)} there", flush=True)
    try:
        publication.measure(work)
        if not options.no_again:
            publication.measure([item_of(record) for record in publication.records if disturbed(record)], again=True)
        if not options.no_layers and (options.fresh or not (options.results / FAMILIES).is_file()):
            python = ["--peer-python", options.peer_python] if options.peer_python else []
            options.results.mkdir(parents=True, exist_ok=True)
            publication.failures += families.main(["--json", os.fspath(options.results / FAMILIES), *python])
    except KeyboardInterrupt:
        print("interrupted; what was measured is kept", file=sys.stderr)
        return 130
    return int(publication.failures > 0)


if __name__ == "__main__":
    sys.exit(main())
