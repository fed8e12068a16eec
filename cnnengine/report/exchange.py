"""Times of steps as other programs read them: events of a trace, and values that lie over the nodes of a graph.

Chrome's trace format (Perfetto, chrome://tracing) and Model Explorer's node data are both JSON; neither program is needed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .steps import StepProfile, by_layer

PROCESS = 1
MEDIAN, SHORTEST, WHOLE = 1, 2, 3
"""Tracks of a trace."""
GRADIENT = ({"stop": 0, "bgColor": "#ffffff"}, {"stop": 0.5, "bgColor": "#f4b183"}, {"stop": 1, "bgColor": "#e05a00"})
"""Colours from the least to the most time."""
RESERVED = "results"
"""The name by which Model Explorer tells the data of one graph from those of several."""


def trace_events(steps: Sequence[StepProfile], model: str, threads: int, rounds: int, run_median: float) -> list[dict[str, Any]]:
    """Events for the steps end to end: a track of medians, one of shortest times, and one of the whole run."""
    each = f"{threads} thread{'s' * (threads > 1)} on each"
    tracks = {
        MEDIAN: f"steps: medians of {rounds} rounds, {each}",
        SHORTEST: f"steps: shortest of {rounds} rounds, {each}",
        WHOLE: f"whole run: median of {rounds}",
    }
    events = [_meta("process_name", 0, {"name": f"cnnengine: {model}"})]
    for track, name in tracks.items():
        events += [_meta("thread_name", track, {"name": name}), _meta("thread_sort_index", track, {"sort_index": track})]
    for track, which in ((MEDIAN, "seconds_median"), (SHORTEST, "seconds_min")):
        at = 0.0
        for index, step in enumerate(steps):
            took = getattr(step, which) * 1e6
            name, kind = step.node or step.kernel, step.operator or step.kernel
            events.append(_complete(name, kind, track, at, took, {"step": index, **_arguments(step)}))
            at += took
    events.append(_complete(model, "run", WHOLE, 0.0, run_median * 1e6, {"steps": len(steps), "rounds": rounds}))
    return events


def _meta(name: str, track: int, args: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": PROCESS, "tid": track, "ts": 0, "args": args}


def _complete(name: str, kind: str, track: int, at: float, took: float, args: dict[str, Any]) -> dict[str, Any]:
    """An event with a beginning and a length; in microseconds to a thousandth, rounded so that neighbours do not overlap."""
    begin, end = round(at, 3), round(at + took, 3)
    lasts = round(end - begin, 3)
    return {"ph": "X", "name": name, "cat": kind, "pid": PROCESS, "tid": track, "ts": begin, "dur": lasts, "args": args}


def _arguments(step: StepProfile) -> dict[str, Any]:
    shapes = {name: "?" if shape is None else "x".join(map(str, shape)) or "scalar" for name, shape in step.outputs}
    found: dict[str, Any] = {"node": step.node, "operator": step.operator, "kernel": step.kernel, "outputs": shapes}
    found |= {"flops": step.flops, "bytes": step.nbytes, "chunks": step.chunks}
    if step.limit_seconds:
        found |= {"GFLOP/s": round(step.gflops, 3), "roofline": round(step.roofline, 4)}
    return found


def node_data(steps: Sequence[StepProfile]) -> dict[str, Any]:
    """Model Explorer's data of one graph: for each node the microseconds of its steps, in their fastest rounds."""
    results: dict[str, dict[str, float]] = {}
    for layer in by_layer(steps):
        if layer[0].node not in ("", RESERVED):
            results[layer[0].node] = {"value": round(sum(step.seconds_min for step in layer) * 1e6, 3)}
    return {"name": "cnnengine: microseconds", "results": results, "gradient": [dict(stop) for stop in GRADIENT]}
