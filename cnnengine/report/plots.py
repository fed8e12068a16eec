"""Pictures of reports: bars beside a roofline, and what lies where in memory over the steps of a run.

matplotlib is asked for when something is drawn. A figure is made without pyplot, so that it opens no window and nothing keeps
it. Names from files are text: matplotlib would read what stands between two dollar signs as a formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .steps import StepProfile, by_layer, family
from .tables import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELLED = 6
"""Steps that the roofline names: those that take the most time."""
LOW, HIGH = 6.5, 10.0
"""Inches: the least and the most height of bars."""
ROW, LETTERS = 0.17, 0.115
"""Inches: from bar to bar where there is room, and what a name beside a bar needs."""
NAMED = 5
"""Pieces of memory that are named of the step with the most."""
LINE, READABLE = 130, 16
"""Letters that fit across the picture of memory, and those of a name that still say something."""
Box = tuple[str, str, int, int, int, int]
"""What is in memory, what made it, first and last step, offset and bytes."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure.

    Raises
    ------
    InputError
        matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("plots need matplotlib: pip install matplotlib") from None
    return Figure(figsize=(width, height), layout="constrained")


def drawable(text: str) -> str:
    """A text as matplotlib draws it: no formula, no control character, nothing that is no text."""
    clean = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return clean.replace("$", r"\$")


def size_text(size: int) -> str:
    """A power of two in MiB or KiB."""
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def _name(text: str, width: int = 40) -> str:
    return drawable(shortened(text, width))


# ---------------------------------------------------------------- times
def profile(steps: Sequence[StepProfile], peak: float, bandwidths: Sequence[tuple[int, float]], title: str) -> Figure:
    """A bar per layer on the left, the roofline on the right, kernels in the same colours."""
    layers = by_layer(steps)
    height = min(max(LOW, ROW * len(layers) + 1.6), HIGH)
    figure = new_figure(14.0, height)
    taken: dict[str, float] = {}
    for step in steps:
        taken[family(step.kernel)] = taken.get(family(step.kernel), 0.0) + step.seconds_min
    colours = {name: f"C{i % 10}" for i, name in enumerate(sorted(taken, key=lambda name: -taken[name]))}
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.25))
    _bars(left, layers, colours, (height - 1.6) / max(len(layers), 1))
    _roofline(right, steps, peak, bandwidths, colours)
    figure.suptitle(drawable(title), fontsize=11)
    if taken:
        from matplotlib.patches import Patch

        total = sum(taken.values()) or 1.0
        handles = [Patch(color=colours[name], label=drawable(f"{name} ({taken[name] / total:.0%})")) for name in colours]
        figure.legend(handles=handles, fontsize=8, ncols=min(len(handles), 6), loc="outside lower center")
    return figure


def _bars(axes: Axes, layers: Sequence[Sequence[StepProfile]], colours: dict[str, str], row: float) -> None:
    totals = [sum(step.seconds_min for step in layer) for layer in layers]
    everything = sum(totals) or 1.0
    places: list[float] = []
    widths: list[float] = []
    lefts: list[float] = []
    shades: list[tuple[str, float]] = []
    for at, layer in enumerate(layers):
        begin = 0.0
        for step in layer:
            asked = min(step.limit_seconds, step.seconds_min)
            for width, alpha in ((asked, 1.0), (step.seconds_min - asked, 0.4)):
                places.append(at)
                widths.append(width * 1e6)
                lefts.append(begin * 1e6)
                shades.append((colours[family(step.kernel)], alpha))
                begin += width
    axes.barh(places, widths, 0.84, lefts, color=shades)
    named = _apart(totals, max(1, math.ceil(LETTERS / max(row, 1e-9))))
    axes.set_yticks(named, [f"{_name(layers[i][0].node, 34)}  {drawable(layers[i][0].operator)}" for i in named], fontsize=7)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    longest = max(totals, default=0.0) * 1e6 or 1.0
    axes.set_xlim(0, longest * 1.12)
    for i in named:
        if totals[i] >= everything * 0.005:
            axes.text(totals[i] * 1e6 + longest * 0.01, i, f"{totals[i] / everything:.1%}", va="center", fontsize=7, color="0.3")
    axes.set_xlabel("microseconds, fastest round; the full colour: what the roofline asks for")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)


def _apart(sizes: Sequence[float], gap: int) -> list[int]:
    """Places no nearer than this to each other, those of large sizes first."""
    found: list[int] = []
    free = [True] * len(sizes)
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        if free[i]:
            found.append(i)
            first, last = max(0, i - gap + 1), min(len(sizes), i + gap)
            free[first:last] = [False] * (last - first)
    return sorted(found)


def _roofline(
    axes: Axes, steps: Sequence[StepProfile], peak: float, bandwidths: Sequence[tuple[int, float]], colours: dict[str, str]
) -> None:
    shown = [step for step in steps if step.flops > 0 and step.nbytes > 0]
    total = sum(step.seconds_min for step in steps) or 1.0
    low = min([0.25, *(step.intensity for step in shown)]) / 2
    high = max([64.0, *(step.intensity for step in shown)]) * 2
    floor = min([*(step.gflops for step in shown), peak / 100]) / 2
    shades = ("0.35", "0.55", "0.72")
    names = ("memory", "last-level cache", "second-level cache")
    for (size, rate), shade, name in zip(reversed(bandwidths), shades, names, strict=True):
        label = f"{name} ({size_text(size)}): {rate:.0f} GB/s"
        axes.plot([low, peak / rate, high], [low * rate, peak, peak], color=shade, linewidth=1.2, zorder=1, label=label)
    axes.text(high, peak * 1.06, f"multiply-add peak {peak:.0f} GFLOP/s ", ha="right", fontsize=9)
    for name, colour in colours.items():
        members = [step for step in shown if family(step.kernel) == name]
        if members:
            axes.scatter(
                [s.intensity for s in members],
                [s.gflops for s in members],
                [16 + 900 * s.seconds_min / total for s in members],
                color=colour,
                alpha=0.65,
                edgecolors="black",
                linewidths=0.4,
                zorder=2,
            )
    named = []
    for number, step in enumerate(sorted(shown, key=lambda s: -s.seconds_min)[:LABELLED], 1):
        side = (-9, 4) if number % 2 else (4, -11)
        axes.annotate(str(number), (step.intensity, step.gflops), xytext=side, textcoords="offset points", fontsize=9, zorder=3)
        named.append(f"{number}  {_name(step.node)}: {step.seconds_min / total:.0%}, {step.roofline:.0%} of its limit")
    if named:
        _note(axes, 0.012, 0.985, named)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=10)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlim(low, high)
    axes.set_ylim(floor, peak * 8)
    axes.set_xlabel("operations per byte of the operands")
    axes.set_ylabel("GFLOP/s, fastest round")
    axes.grid(which="major", color="0.9", zorder=0)
    axes.legend(loc="lower right", fontsize=8)


def _note(axes: Axes, x: float, y: float, lines: Sequence[str], **where: Any) -> None:
    box = {"facecolor": "white", "edgecolor": "0.8", "boxstyle": "round", "alpha": 0.9}
    axes.text(x, y, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=8, bbox=box, zorder=4, **where)


# ---------------------------------------------------------------- memory
def arena(boxes: Sequence[Box], steps: Sequence[str], in_use: Sequence[int], peak: int, nbytes: int, title: str) -> Figure:
    """What lies where in the arena, step by step, above how much of it is in use; the step with the most is marked.

    Parameters
    ----------
    boxes : sequence of (what is there, what made it, first step, last step, offset, bytes)
    steps, in_use : sequence of str, of int
        Names of the steps, and bytes in use while each runs.
    peak : int
        The step with the most in use; -1 where there is none.
    nbytes : int
        Of the arena.
    title : str
    """
    figure = new_figure(11.0, 7.5)
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Patch, Rectangle

    unit, name = next((u, n) for u, n in ((1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes")) if nbytes >= 4 * u or u == 1)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.0, 1.0))
    weights: dict[str, int] = {}
    for _, maker, first, last, _, size in boxes:
        weights[maker] = weights.get(maker, 0) + size * (last - first + 1)
    colours = {maker: f"C{i % 10}" for i, maker in enumerate(sorted(weights, key=lambda m: -weights[m]))}
    for maker, colour in colours.items():
        held = [Rectangle((b[2], b[4] / unit), b[3] - b[2] + 1, b[5] / unit) for b in boxes if b[1] == maker]
        above.add_collection(PatchCollection(held, facecolor=colour, alpha=0.55, edgecolor="black", linewidth=0.5))
    for what, _, first, last, offset, size in boxes:
        letters = int((last - first + 1) / max(len(steps), 1) * LINE)
        if size >= 0.025 * nbytes and letters >= min(len(what), READABLE):
            x, y = (first + last + 1) / 2, (offset + size / 2) / unit
            above.text(x, y, _name(what, letters), ha="center", va="center", fontsize=7, clip_on=True)
    above.axhline(nbytes / unit, color="0.3", linewidth=0.8, linestyle="--")
    above.set_ylim(0, nbytes / unit * 1.22 or 1.0)
    above.set_xlim(0, max(len(steps), 1))
    above.set_ylabel(f"place in the arena, {name}")
    below.stairs([n / unit for n in in_use], range(len(in_use) + 1), fill=True, color="0.65")
    below.set_ylim(0, nbytes / unit * 1.1 or 1.0)
    below.set_ylabel(f"in use, {name}")
    below.set_xlabel("step")
    if peak >= 0:
        for axes in (above, below):
            axes.axvspan(peak, peak + 1, facecolor="none", edgecolor="crimson", linewidth=1.0, zorder=3)
        there = sorted((b for b in boxes if b[2] <= peak <= b[3]), key=lambda b: -b[5])
        lines = [f"the most: {in_use[peak] / unit:,.2f} {name} in step {peak}, {_name(steps[peak])}"]
        lines += [f"{b[5] / unit:9,.2f}  {_name(b[0])}" for b in there[:NAMED]]
        if len(there) > NAMED:
            lines.append(f"{sum(b[5] for b in there[NAMED:]) / unit:9,.2f}  in {len(there) - NAMED} more")
        right = peak < len(steps) / 2
        _note(above, 0.988 if right else 0.012, 0.985, lines, ha="right" if right else "left")
    figure.suptitle(drawable(title), fontsize=11)
    if colours:
        shown = list(colours)[:12]
        handles = [Patch(facecolor=colours[m], alpha=0.55, edgecolor="black", label=drawable(m)) for m in shown]
        figure.legend(handles=handles, fontsize=8, ncols=6, loc="outside lower center")
    return figure
