"""Reports of measurements for people: text and the bar chart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .compare import deciding, overall

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    "cnnengine": "C3",
    "onnxruntime": "C0",
    "openvino": "C4",
    "ncnn": "C2",
    "torch": "C1",
    "torch-compile": "C5",
    "cnnengine-again": "0.6",
}


def spread(values: Sequence[float]) -> str:
    """ "133" or "131..140"."""
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low}..{high}"


def table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of text as aligned columns; the first `left` columns flush left. The first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def head_text(head: Mapping[str, Any]) -> str:
    """The lines above the tables: machine, versions, settings, and the peers that are missing."""
    ours, versions = head["cnnengine"], dict(head["versions"])
    own = [f"cnnengine {ours['version']}", *(f"{name} {versions.pop(name)}" for name in ("numpy", "onnx") if name in versions)]
    peers = ", ".join(f"{name} {version}" for name, version in versions.items()) or "none"
    lines = [
        f"{head['date']}  {head['cpu']}, {counted(head['cpus'], 'CPU')}, {head['system']}, load {head['load']}",
        f"{', '.join(own)} under Python {head['python']}; peers: {peers} under Python {head['peers_python']}",
        f"{ours['isa']}, {counted(head['threads'], 'thread')}, batch {head['batch']}, float32; {head['seconds']:g} s for each "
        f"engine in {counted(head['rounds'], 'round')}; multiply-add peak now {head['fma_peak_gflops']:.0f} GFLOP/s",
    ]
    if head["busy"]:
        lines.append(f"{counted(head['busy'], 'CPU')} kept busy by other processes")
    return "\n".join([*lines, *(f"{name}: skipped: {reason}" for name, reason in head["absent"].items())])


def number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


HEADING = [
    "engine",
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


def record_text(record: Mapping[str, Any]) -> str:
    """The table of one model, and its best peer."""
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in record["inputs"].items())
    peaks = record["fma_peak_gflops"]
    lines = [f"{record['model']}  ({shapes}; multiply-add peak {spread(peaks) + ' GFLOP/s' if peaks else 'n/a'})"]
    rows = [HEADING]
    for name, result in record["engines"].items():
        digits = 3 if result["median_ms"] < 10 else 2
        differs = "agrees" in result and not result["agrees"]
        gap = result.get("difference")
        rows.append(
            [
                name,
                *(number(result[key], digits) for key in ("min_ms", "median_ms", "p90_ms")),
                str(result["runs"]),
                number(result["load_and_first_run_s"], 3),
                number(result["resident_mb"], 1),
                number(result["peak_resident_mb"], 1),
                number(result.get("ratio_min")),
                number(result.get("ratio_median")),
                ("-" if gap is None else f"{gap:.1e}") + (" DIFFERS" if differs else ""),
            ]
        )
    lines.append(table(rows) if len(rows) > 1 else "no engine ran")
    lines += [f"{name}: skipped: {reason}" for name, reason in record["skipped"].items()]
    best, which = record["best_peer"], deciding(record["threads"])
    if best["min"] is not None and best["median"] is not None:
        lines.append(
            f"best peer: {best['min']['engine']} takes {best['min']['ratio']:.2f} times our minimum, {best['median']['engine']} "
            f"{best['median']['ratio']:.2f} times our median; at {counted(record['threads'], 'thread')} the {which} counts: "
            f"{best[which]['ratio']:.2f}"
        )
    return "\n".join(lines)


def overall_text(records: Sequence[Mapping[str, Any]]) -> str:
    """Geometric means over several models."""
    lines = []
    for which, found in overall(records).items():
        if found["models"]:
            behind = ", ".join(found["behind"]) or "none"
            mean = f"{found['geometric_mean']:.2f} over {counted(found['models'], 'model')}"
            lines.append(f"best peer / ours by {which}: geometric mean {mean}; under 0.95: {behind}")
    return "\n".join(lines)


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
        raise InputError("plots need matplotlib: pip install 'cnnengine[bench]'") from None

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
        for j, record in enumerate(records):
            if name in record["engines"]:
                result = record["engines"][name]
                at.append(j + (i - (len(engines) - 1) / 2) * width)
                heights.append(result[f"{which}_ms"] / record["engines"]["cnnengine"][f"{which}_ms"])
                wrong = "" if result.get("agrees", True) else " differs"
                labels.append(f"{result[f'{which}_ms']:.3g}{wrong}")
        top = max(top, *heights)
        bars = axes.bar(at, heights, width * 0.92, color=COLOURS[name], label=name)
        axes.bar_label(bars, labels, fontsize=7, rotation=90, padding=3)
    axes.axhline(1.0, color="0.5", linewidth=0.8, zorder=0)
    if top > 6:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(min(0.5, 0.9), top ** (1 + 0.9 / max(math.log(top), 1.0)))
    else:
        axes.set_ylim(0, top * 1.25)
    axes.set_xticks(
        range(len(records)), [record["model"] for record in records], rotation=0 if len(records) < 4 else 30, ha="center"
    )
    axes.set_ylabel(f"{which} time / cnnengine's (milliseconds on the bars)")
    threads = counted(head["threads"], "thread")
    axes.set_title(
        f"{head['cpu']}, {head['cnnengine']['isa']}, {threads}, batch {head['batch']}, float32; lower is faster", fontsize=9
    )
    figure.legend(fontsize=8, ncols=len(engines), loc="outside lower center")
    return figure
