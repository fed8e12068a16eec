"""Reports of measurements for people: text and the bar chart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..report import tables
from ..report.plots import drawable
from .precision import shown
from .verdict import (
    AGAIN,
    AHEAD,
    LAGGING,
    MIXED,
    SAME,
    WHICH,
    compared,
    left_out,
    not_compared,
    overall,
    peers_in,
    precision_of,
    verdict,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    "cnnengine": "C3",
    "onnxruntime": "C0",
    "openvino": "C4",
    "ncnn": "C2",
    "torch": "C1",
    "torch-compile": "C5",
    "openvino-default": "C6",
    "litert": "C7",
    "mnn": "C8",
    "zentorch": "C9",
    "executorch": "0.3",
    "ncnn-bf16": "lightgreen",
    "torch-compile-bf16": "tan",
    AGAIN: "0.6",
}


def spread(values: Sequence[float]) -> str:
    """ "133" or "131..140"."""
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low}..{high}"


def table(rows: Sequence[Sequence[str]], left: int = 1, width: int | None = None) -> str:
    """Rows of text as aligned columns; the first `left` columns flush left. The first row is the heading."""
    return "\n".join(tables.table(rows, range(left, len(rows[0])), width, rule=True))


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}{'es' if what.endswith('s') else 's'}"


def head_text(head: Mapping[str, Any]) -> str:
    """The lines above the tables: machine, versions, settings, and the peers that are missing."""
    ours, versions = head["cnnengine"], dict(head["versions"])
    own = [f"cnnengine {ours['version']}", *(f"{name} {versions.pop(name)}" for name in ("numpy", "onnx") if name in versions)]
    peers = ", ".join(f"{name} {version}" for name, version in versions.items()) or "none"
    asked = ", ours in bf16" if head["precision"] == "bfloat16" else ""
    lines = [
        f"{head['date']}  {head['cpu']}, {counted(head['cpus'], 'CPU')}, {head['system']}, load {head['load']}",
        f"{', '.join(own)} under Python {head['python']}; peers: {peers} under Python {head['peers_python']}",
        f"{ours['isa']}, {counted(head['threads'], 'thread')}, batch {head['batch']}{asked}; {head['seconds']:g} s for each "
        f"engine in {counted(head['rounds'], 'round')}; multiply-add peak now {head['fma_peak_gflops']:.0f} GFLOP/s",
    ]
    if head["busy"]:
        lines.append(f"beside {counted(head['busy'], 'busy process')} of the same priority")
    return "\n".join([*lines, *(f"{name}: skipped: {reason}" for name, reason in head["absent"].items())])


def number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


HEADING = [
    "engine",
    "precision",
    "min ms",
    "median",
    "p90",
    "runs",
    "load+first s",
    "resident MB",
    "peak MB",
    "/ours min",
    "median",
    "max |diff|",
]


class Record(dict[str, Any]):
    """What was measured of one model: a dict, and printed as its table."""

    def __str__(self) -> str:
        return record_text(self, tables.terminal_width())

    def _repr_html_(self) -> str:
        above, rows, below = _told(self)
        text = tables.Text()
        text.line(above)
        text.table(rows if len(rows) > 1 else [], range(2, len(HEADING)))
        for line in below:
            text.line(line)
        return text.html()


def record_text(record: Mapping[str, Any], width: int | None = None) -> str:
    """The table of one model, its best peer, and whether the difference is one; the table at most so wide."""
    above, rows, below = _told(record)
    return "\n".join([above, table(rows, 2, width) if len(rows) > 1 else "no engine ran", *below])


def _told(record: Mapping[str, Any]) -> tuple[str, list[list[str]], list[str]]:
    """The line above the table, its rows, and the lines below it."""
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in record["inputs"].items())
    peaks = record["fma_peak_gflops"]
    above = f"{record['model']}  ({shapes}; multiply-add peak {spread(peaks) + ' GFLOP/s' if peaks else 'n/a'})"
    rows = [HEADING]
    for name, result in record["engines"].items():
        digits = 3 if result["median_ms"] < 10 else 2
        rows.append(
            [
                name,
                shown(precision_of(result)),
                *(number(result[key], digits) for key in ("min_ms", "median_ms", "p90_ms")),
                str(result["runs"]),
                number(result["load_and_first_run_s"], 3),
                number(result["resident_mb"], 1),
                number(result["peak_resident_mb"], 1),
                number(result.get("ratio_min")),
                number(result.get("ratio_median")),
                gap_text(result),
            ]
        )
    lines = [f"{name}: skipped: {reason}" for name, reason in record["skipped"].items()]
    results = record["engines"]
    for name in peers_in(results) if "cnnengine" in results else ():
        if why := left_out(name, results):
            lines.append(f"{name}: does not count: {why}")
    margins = record.get("noise")
    if margins:
        lines.append("null row: two processes of cnnengine differ by " + ", ".join(f"{margins[w]:.2f} of {w}" for w in WHICH))
    return above, rows, lines + verdict_lines(record)


def gap_text(result: Mapping[str, Any]) -> str:
    """The largest difference of the outputs, in steps where they are quantised."""
    if "agrees" not in result:
        return "-"
    gap, steps = result["difference"], result.get("steps")
    text = "-" if gap is None else f"{gap:.1e}" if "steps" not in result else f"{steps:.1f} steps"
    return text + ("" if result["agrees"] else " DIFFERS")


MEANING = {
    AHEAD: "we are ahead",
    LAGGING: "we are behind",
    SAME: "no difference",
    MIXED: "minimum and median do not say the same",
}


def verdict_lines(record: Mapping[str, Any]) -> list[str]:
    """The best peer by minimum and by median, and what both say."""
    best = record["best_peer"]
    found = verdict(best, record.get("noise"))
    if best["min"] is None or best["median"] is None or found is None:
        return [f"no peer to compare with: {not_compared(record)}"]
    parts = [f"{best[w]['engine']} takes {best[w]['ratio']:.2f} times our {w} ({MEANING[found[w]]})" for w in WHICH]
    return [f"best peer: {', '.join(parts)}; by both: {MEANING[found['both']]}"]


def brief(reason: str, most: int = 160) -> str:
    return reason if len(reason) <= most else f"{reason[:most]} ..."


def overall_text(records: Sequence[Mapping[str, Any]], absent: Mapping[str, str] | None = None, width: int | None = None) -> str:
    """The sum over several models: by size, the peers that ran, what is behind and what was not compared."""
    found = overall(records, absent)
    lines = []
    if found["classes"]:
        rows = [["best peer / ours, geometric mean", "models", "minima", "medians", AHEAD, SAME, LAGGING, MIXED]]
        for row in found["classes"]:
            counts = [str(row[kind]) for kind in (AHEAD, SAME, LAGGING, MIXED)]
            rows.append([row["class"], str(row["models"]), *(number(row[w]) for w in WHICH), *counts])
        lines.append(table(rows, 1, width))
        lines += [f"under 0.95 by {which}: {', '.join(found[which]['behind']) or 'none'}" for which in WHICH]
    else:
        lines.append("no model was compared with any peer")
    if found["peers"]:
        rows = [["peer", "precision", "ran", "counted", "of", "min / ours", "median / ours"]]
        for name, peer in found["peers"].items():
            precisions = ", ".join(map(shown, peer["precisions"])) or "-"
            ran = [str(peer[key]) for key in ("ran", "counted", "of")]
            rows.append([name, precisions, *ran, *(number(peer[w]) for w in WHICH)])
        lines += ["", table(rows, 2, width)]
        for name, peer in found["peers"].items():
            by_reason: dict[str, list[str]] = {}
            for model, reason in peer["missing"].items():
                by_reason.setdefault(reason, []).append(model)
            lines += [f"{name}: without {', '.join(models)}: {brief(reason)}" for reason, models in by_reason.items()]
            if "absent" in peer:
                lines.append(f"{name}: {peer['absent']}")
    lines += [f"not compared: {model}: {brief(why, 400)}" for model, why in found["not_compared"].items()]
    if compared(records) and any(record.get("noise") is None for record in compared(records)):
        lines.append("without a null row every difference counts")
    return "\n".join(lines)


def deciding(threads: int) -> str:
    """What the bars show: minima at one thread; at more medians, where a thread that stalls is a fault."""
    return "min" if threads == 1 else "median"


def plot(head: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Figure:
    """A bar for each engine and model: its time over cnnengine's, milliseconds written on it.

    Raises
    ------
    InputError
        matplotlib is not installed (the extra ``bench``), or cnnengine ran no model.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("plots need matplotlib: pip install matplotlib") from None

    records = [record for record in records if "cnnengine" in record["engines"]]
    if not records:
        raise InputError("there is nothing to draw: cnnengine ran no model")
    which = deciding(head["threads"])
    engines = [name for name in COLOURS if any(name in record["engines"] for record in records)]
    width = 0.8 / len(engines)
    figure = Figure(figsize=(max(7.0, 1.5 + 0.32 * len(engines) * len(records) + 0.5 * len(records)), 5.0), layout="constrained")
    axes = figure.add_subplot()
    top = 1.0
    for i, name in enumerate(engines):
        at, heights, labels = [], [], []
        kinds: set[str] = set()
        for j, record in enumerate(records):
            if name in record["engines"]:
                result = record["engines"][name]
                kinds.add(shown(precision_of(result)))
                at.append(j + (i - (len(engines) - 1) / 2) * width)
                heights.append(result[f"{which}_ms"] / record["engines"]["cnnengine"][f"{which}_ms"])
                wrong = "" if result.get("agrees", True) else " differs"
                labels.append(f"{result[f'{which}_ms']:.3g}{wrong}")
        top = max(top, *heights)
        bars = axes.bar(at, heights, width * 0.92, color=COLOURS[name], label=f"{name} ({', '.join(sorted(kinds))})")
        axes.bar_label(bars, labels, fontsize=7, rotation=90, padding=3)
    axes.axhline(1.0, color="0.5", linewidth=0.8, zorder=0)
    if top > 6:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(min(0.5, 0.9), top ** (1 + 0.9 / max(math.log(top), 1.0)))
    else:
        axes.set_ylim(0, top * 1.25)
    axes.set_xticks(
        range(len(records)),
        [drawable(record["model"]) for record in records],
        rotation=0 if len(records) < 4 else 30,
        ha="center",
    )
    axes.set_ylabel(f"{which} time / cnnengine's (milliseconds on the bars)")
    threads = counted(head["threads"], "thread")
    axes.set_title(
        f"{drawable(head['cpu'])}, {head['cnnengine']['isa']}, {threads}, batch {head['batch']}; lower is faster", fontsize=9
    )
    figure.legend(fontsize=8, ncols=len(engines), loc="outside lower center")
    return figure
