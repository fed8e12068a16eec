"""Render the tables of docs/performance.md from what publish.py measured.

    python benchmarks/tables.py            # rewrite what stands between the markers
    python benchmarks/tables.py --check    # exit code 1 when the page is not what the figures give

A marker is a line `<!-- table: NAME -->`, its table ends at `<!-- end -->`. Nothing is written by hand between them.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
import publish

from cnnengine.bench import PEERS
from cnnengine.bench.precision import INTEGER, shown
from cnnengine.bench.show import brief
from cnnengine.bench.verdict import (
    AHEAD,
    LAGGING,
    MIXED,
    SAME,
    WHICH,
    by_class,
    coverage,
    left_out,
    mean,
    precision_of,
    size_class,
    verdict_of,
)

BEHIND = 0.95
SLOWER = 1.1
PAGE = harness.ROOT / "docs" / "performance.md"
NOT_MEASURED = "Not measured yet: `python benchmarks/publish.py`."
CONVERTED = ("ncnn", "ncnn-bf16", "litert", "mnn", "executorch")
"""Peers that read what a converter made of the file beforehand."""
MARKER = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.S)

Record = Mapping[str, Any]
Figures = Mapping[str, Any]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table, its first row the heading."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def ms(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def ratio(value: float | None) -> str:
    """Two digits; bold where the best peer is ahead by more than it may."""
    if value is None:
        return "-"
    return f"**{value:.2f}**" if value < BEHIND else f"{value:.2f}"


def asked(record: Record) -> str:
    """The precision of a record's table: that of a quantised file, or what cnnengine was asked for."""
    kind = record.get("kind", "float32")
    return kind if kind in INTEGER else record.get("precision", "float32")


def chosen(models: Figures, threads: int, batch: int, busy: int = 0, precision: str = "float32") -> list[Record]:
    wanted = (threads, batch, busy, precision)
    found = [r for r in models["records"] if (r["threads"], r["batch"], r["busy"], asked(r)) == wanted]
    return sorted(found, key=lambda r: r["model"])


def settings(models: Figures) -> list[tuple[str, int, int]]:
    """Precision, threads and batch of what was measured, the highest precision first."""
    found = {(asked(r), r["threads"], r["batch"]) for r in models["records"] if not r["busy"]}
    return sorted(found, key=lambda s: (publish.PRECISIONS.index(s[0]) if s[0] in publish.PRECISIONS else 9, s[2], s[1]))


def absent(models: Figures, records: Sequence[Record]) -> dict[str, str]:
    """The peers that no record has because they were not installed, or were left out, with the reason."""
    found: dict[str, str] = {}
    for run in {record["run"] for record in records}:
        head = models["runs"][run] if run < len(models["runs"]) else {}
        found |= head.get("absent", {})
        found |= dict.fromkeys(head.get("left_out", ()), "not asked for")
    return {name: reason for name, reason in found.items() if not any(name in r["engines"] for r in records)}


def best(record: Record, which: str) -> float | None:
    found = record["best_peer"][which]
    return None if found is None else found["ratio"]


# ---------------------------------------------------------------- the tables
def machine(models: Figures, layers: Figures) -> str:
    """What the run ran on."""
    if not models["runs"]:
        return NOT_MEASURED
    head = models["runs"][-1]
    dates = sorted({run["date"] for run in models["runs"]})
    versions: dict[str, str] = {}
    for run in models["runs"]:
        versions |= run["versions"]
    peaks: dict[int, list[float]] = {}
    free = [record for record in models["records"] if not record["busy"]]
    factors = {which: [r["noise"][which] for r in free if r.get("noise")] for which in WHICH}
    for record in free:
        peaks.setdefault(record["threads"], []).extend(record["fma_peak_gflops"])
    rows = [["what", "value"]]
    rows.append(["date", dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"])
    rows.append(["CPU", f"{head['cpu']}, {head['cpus']} CPUs, {head['system']}"])
    rows.append(["cnnengine", f"{head['cnnengine']['version']}, {head['isa']}, Python {head['python']}"])
    rows.append(["versions", ", ".join(f"{name} {version}" for name, version in versions.items())])
    rows.append(["each engine and model", f"{head['seconds']:g} s in {head['rounds']} rounds"])
    for threads, values in sorted(peaks.items()):
        text = f"{min(values):.0f} to {max(values):.0f} GFLOP/s" if values else "-"
        rows.append([f"multiply-add peak, {threads} thread{'s' * (threads > 1)}", text])
    if factors["min"]:
        texts = [f"{statistics.median(factors[which]):.3f} of {which}" for which in WHICH]
        rows.append(["null row: two processes of cnnengine differ by, in the middle", ", ".join(texts)])
    rows.append(["measured again", f"{sum(record['again'] for record in free)} of {len(free)}"])
    return markdown(rows)


def summary(models: Figures, layers: Figures) -> str:
    """Geometric means by size, and of how many models minima and medians both say the same."""
    if not models["records"]:
        return NOT_MEASURED
    kinds = (AHEAD, SAME, LAGGING, MIXED)
    rows = [["precision", "threads", "batch", "our time", "models", "minima", "medians", f"under {BEHIND}", *kinds]]
    for precision, threads, batch in settings(models):
        records = chosen(models, threads, batch, precision=precision)
        behind = [r for r in records if (value := best(r, deciding(threads))) is not None and value < BEHIND]
        for row in by_class(records):
            means = {which: f"{row[which]:.2f}" for which in WHICH}
            means[deciding(threads)] = f"**{means[deciding(threads)]}**"
            under = str(len(behind)) if row["class"] == "all" else str(sum(size_class(r) == row["class"] for r in behind))
            counts = [str(row[kind]) for kind in kinds]
            rows.append(
                [shown(precision), str(threads), str(batch), row["class"], str(row["models"]), means["min"], means["median"]]
                + [under, *counts]
            )
    return markdown(rows)


def deciding(threads: int) -> str:
    """What the times of a table are: minima at one thread; at more medians, where a thread that stalls is a fault."""
    return "min" if threads == 1 else "median"


def peers(models: Figures, layers: Figures) -> str:
    """Of each peer its times over ours, on how many models it ran, and what the best peers' ratios are with it and without."""
    if not models["records"]:
        return NOT_MEASURED
    rows = [
        [
            "precision",
            "threads",
            "batch",
            "peer",
            "its precision",
            "ran",
            "counted",
            "minima",
            "medians",
            "best with it",
            "without",
        ]
    ]
    notes: dict[str, list[str]] = {}
    for precision, threads, batch in settings(models):
        records = chosen(models, threads, batch, precision=precision)
        where = f"{shown(precision)}, {threads} thread{'s' * (threads > 1)}, batch {batch}"
        for name, found in coverage(records, absent(models, records)).items():
            ran = [f"{found['ran']} of {found['of']}", str(found["counted"])]
            means = ["-" if found[key] is None else f"{found[key]:.2f}" for key in (*WHICH, "best_with", "best_without")]
            theirs = ", ".join(map(shown, found["precisions"])) or "-"
            rows.append([shown(precision), str(threads), str(batch), name, theirs, *ran, *means])
            if "absent" in found:
                notes.setdefault(f"{name}: {found['absent']}", []).append(where)
    lines = [markdown(rows), "", *(f"- {reason} ({'; '.join(places)})" for reason, places in notes.items())]
    return "\n".join(lines).rstrip()


def times(models: Figures, threads: int, batch: int, precision: str = "float32") -> str:
    """A line per model: milliseconds of every engine, the ratios, start and memory."""
    records = chosen(models, threads, batch, precision=precision)
    if not records:
        return NOT_MEASURED
    which = deciding(threads)
    names = [name for name in PEERS if any(name in r["engines"] for r in records)]
    single = alone(models, threads, batch, precision=precision) if threads > 1 else {}
    beside = alone(models, threads, batch, busy=1, precision=precision) if threads > 1 else {}
    head = [
        "model",
        "cnnengine",
        *names,
        "best / ours, min",
        "median",
        "by both",
        "load + first run, s",
        "peak MB, onnxruntime's",
    ]
    rows = [[*head, *(["of 1 thread"] if single else []), *(["beside one busy"] if beside else [])]]
    notes: dict[str, list[str]] = {}
    for record in records:
        row = [record["model"]]
        for name, reason in record["skipped"].items():
            notes.setdefault(f"{name}: {brief(reason, 240)}", []).append(record["model"])
        for name in ("cnnengine", *names):
            result = record["engines"].get(name)
            if result is None:
                row.append("-")
            else:
                own = precision_of(result)
                note = "" if own == precision else f" {shown(own)}"
                row.append(ms(result[f"{which}_ms"]) + note + ("" if result.get("agrees", True) else " differs"))
                if name != "cnnengine" and not result.get("agrees", True):
                    notes.setdefault(f"{name}: {left_out(name, record['engines'])}", []).append(record["model"])
        row += [ratio(best(record, "min")), ratio(best(record, "median")), verdict_of(record) or "-"]
        row += [start(record), memory(record)]
        row += [slowdown(found.get(record["model"])) for found in (single, beside) if found]
        rows.append(row)
    lines = [markdown(rows), ""]
    lines += [f"- {', '.join(sorted(names))}: {reason}" for reason, names in sorted(notes.items())]
    return "\n".join(lines).rstrip()


def alone(models: Figures, threads: int, batch: int, busy: int = 0, precision: str = "float32") -> dict[str, float]:
    """Our median over that of 1 thread under the same circumstances, by model."""
    medians = [
        {
            r["model"]: ours["median_ms"]
            for r in chosen(models, n, batch, busy, precision)
            if (ours := r["engines"].get("cnnengine"))
        }
        for n in (1, threads)
    ]
    return {name: value / medians[0][name] for name, value in medians[1].items() if name in medians[0]}


def slowdown(value: float | None) -> str:
    """Two digits; bold where more threads are slower by more than they may be."""
    if value is None:
        return "-"
    return f"**{value:.2f}**" if value > SLOWER else f"{value:.2f}"


def start(record: Record) -> str:
    """Seconds of load and first run: ours / the least of the peers that read the ONNX file, with its name."""
    key = "load_and_first_run_s"
    others = {name: r[key] for name, r in record["engines"].items() if name in PEERS and name not in CONVERTED}
    if "cnnengine" not in record["engines"] or not others:
        return "-"
    least = min(others, key=others.__getitem__)
    return f"{record['engines']['cnnengine'][key]:.2f} / {others[least]:.2f} {least}"


def memory(record: Record) -> str:
    """Highest resident memory: ours / onnxruntime's."""
    values = [record["engines"].get(name, {}).get("peak_resident_mb") for name in ("cnnengine", "onnxruntime")]
    return " / ".join("-" if value is None else f"{value:.0f}" for value in values)


def families(models: Figures, layers: Figures) -> str:
    """Fractions of the peak by family, from the slowest to the fastest layer of it, at each instruction set."""
    if not layers["layers"]:
        return NOT_MEASURED
    sets = list(dict.fromkeys(r["set"] for r in layers["layers"]))
    rows = [["family", "layers"]]
    for name in sets:
        rows[0] += [f"{name}: of peak", "direct", "of roofline", "torch", "torch's call / ours"]
    for family in dict.fromkeys(r["family"] for r in layers["layers"]):
        row = [family, ""]
        for name in sets:
            members = [r for r in layers["layers"] if (r["set"], r["family"]) == (name, family)]
            row[1] = str(len(members))
            ours = [r["cnnengine"] for r in members if r["cnnengine"]]
            row.append(span([way["chosen"]["of_peak"] for way in ours]))
            row.append(span([way["direct"]["of_peak"] for way in ours if "direct" in way]))
            row.append(span([way["chosen"]["roofline"] for way in ours]))
            row.append(span([r["torch"]["kernel_of_peak"] for r in members if "kernel_of_peak" in r.get("torch", {})]))
            calls = [r for r in members if "call_ms" in r.get("torch", {}) and "call_ms" in r["cnnengine"].get("chosen", {})]
            value = mean(r["torch"]["call_ms"] / r["cnnengine"]["chosen"]["call_ms"] for r in calls)
            row.append("-" if value is None else f"{value:.2f}")
        rows.append(row)
    return markdown(rows)


def layer_lines(models: Figures, layers: Figures) -> str:
    """Every layer on its own."""
    if not layers["layers"]:
        return NOT_MEASURED
    rows = [["layer", "set", "kernel", "ms", "GFLOP/s", "of peak", "torch's kernel, ms", "call, ms", "torch's"]]
    for r in layers["layers"]:
        ours = r["cnnengine"].get("chosen")
        figures = [ours["kernel"], f"{ours['ms']:.4f}", f"{ours['gflops']:.0f}", f"{ours['of_peak']:.0%}"] if ours else ["-"] * 4
        theirs = r.get("torch", {})
        more = [theirs.get("kernel_ms"), (ours or {}).get("call_ms"), theirs.get("call_ms")]
        rows.append([r["layer"], r["set"], *figures, *("-" if value is None else f"{value:.4f}" for value in more)])
    return markdown(rows)


def span(values: Sequence[float]) -> str:
    """ "81 %" or "81 to 92 %"."""
    if not values:
        return "-"
    low, high = f"{100 * min(values):.0f}", f"{100 * max(values):.0f}"
    return f"{low} %" if low == high else f"{low} to {high} %"


TABLES: dict[str, Callable[[Figures, Figures], str]] = {
    "machine": machine,
    "summary": summary,
    "peers": peers,
    "models-1": lambda models, layers: times(models, 1, 1),
    "models-2": lambda models, layers: times(models, 2, 1),
    "models-batch": lambda models, layers: times(models, 1, 8),
    "bf16-1": lambda models, layers: times(models, 1, 1, "bfloat16"),
    "bf16-2": lambda models, layers: times(models, 2, 1, "bfloat16"),
    "int8-1": lambda models, layers: times(models, 1, 1, "int8"),
    "int8-2": lambda models, layers: times(models, 2, 1, "int8"),
    "families": families,
    "layers": layer_lines,
}


def rendered(page: str, models: Figures, layers: Figures) -> str:
    """The page with every table anew.

    Raises
    ------
    ValueError
        A marker names no table, has no end, or a table has no marker.
    """
    begun = re.findall(r"<!-- table: (.*?) -->", page)
    found = [match[1] for match in MARKER.findall(page)]
    if sorted(begun) != sorted(TABLES) or found != begun:
        raise ValueError(f"markers {', '.join(begun)} do not fit the tables {', '.join(TABLES)}, or one has no end")
    return MARKER.sub(lambda match: f"{match[1]}{TABLES[match[2]](models, layers)}\n{match[4]}", page)


def figures(folder: Path) -> tuple[Figures, Figures]:
    """What publish.py wrote, empty where it did not."""
    path = folder / publish.FAMILIES
    layers = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"layers": []}
    return publish.stored(folder / publish.MODELS), layers


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=harness.RESULTS, help="folder of the figures (benchmarks/results)")
    parser.add_argument("--page", type=Path, default=PAGE, help="page with the markers (docs/performance.md)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when the page is stale")
    options = parser.parse_args(argv)
    page = options.page.read_text(encoding="utf-8")
    now = rendered(page, *figures(options.results))
    if options.check:
        if now != page:
            print(f"{options.page} is stale: python benchmarks/tables.py", file=sys.stderr)
        return int(now != page)
    options.page.write_text(now, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
