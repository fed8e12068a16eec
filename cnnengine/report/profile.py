"""Where a model's time goes: every step of its plan timed on its own, against what the machine can do.

The limits are measured in the same process, before the steps: multiply-adds in registers, and bytes copied per second at a
few sizes, since what fits a cache moves faster than what does not. A step's limit is the longer of two times: its operations
at the first rate, its bytes at the second rate for that many bytes.
"""

from __future__ import annotations

import bisect
import json
import math
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import arguments
from .._kernels import dispatch
from ..errors import InputError
from ..layout import aligned_empty
from ..model import Model, inside
from ..pages import written
from ..plan import Layer
from ..plan.plan import HostStep
from ..runtime.blas import limited
from ..runtime.runner import Workspace
from ..runtime.threads import default_threads
from . import exchange, plots
from .owners import layers_of, owners_of
from .planning import Shapes, opened, random_feeds
from .steps import StepProfile
from .suggest import needed_shapes
from .tables import Printed, Text, shape_text, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = (1 << 18, 1 << 22, 1 << 27)
"""Bytes moved per measurement of bandwidth: about a second-level cache, a last-level cache, and memory."""

RESOLUTION = 50
"""Nanoseconds below which a step's own time cannot be told from the cost of timing it."""

UNSTEADY = 1.2
"""Two measurements of one thing further apart than this factor are not of the same machine."""
STEP_COST = 5e-6
"""Seconds that a step run alone may take longer than within a run: it wakes the threads, and finds other things in the cache."""
FULL_SHARE = 0.9
FLOATS, BYTES, PAIRS = "floats", "bytes", "pairs of bfloat16 numbers"

_clock = time.perf_counter_ns


@dataclass(frozen=True)
class Profile(Printed):
    """The steps of a model at given input shapes.

    Attributes
    ----------
    model, isa : str
    threads : int
    shapes : dict of str to tuple of int
    rounds : int
        Times that every step was run.
    peak_gflops : float
        Multiply-adds of floats in registers, all threads together.
    peak_gops : float
        Products of bytes and their sums, likewise; 0 where no layer has any.
    peak_pairs : float
        Products of pairs of bfloat16 numbers in GFLOP/s, likewise; 0 where no layer has any.
    bandwidths : tuple of (bytes, GB/s)
        Copies that move this many bytes.
    run_min, run_median : float
        Seconds of whole runs, in between the steps' rounds.
    steps : tuple of StepProfile
    disturbed : tuple of str
        What says that the machine had other things to do meanwhile; empty where nothing does.
    precision : str
        As the model was loaded.
    """

    model: str
    isa: str
    threads: int
    shapes: dict[str, tuple[int, ...]]
    rounds: int
    peak_gflops: float
    peak_gops: float
    bandwidths: tuple[tuple[int, float], ...]
    run_min: float
    run_median: float
    steps: tuple[StepProfile, ...]
    disturbed: tuple[str, ...] = ()
    precision: str = "float32"
    peak_pairs: float = 0.0

    @property
    def steps_min(self) -> float:
        """Sum of the steps' shortest times: what the kernels themselves take."""
        return sum(step.seconds_min for step in self.steps)

    @property
    def flops(self) -> float:
        return sum(step.flops for step in self.steps)

    @property
    def roofline(self) -> float:
        """The steps' limits over their shortest times."""
        return sum(step.limit_seconds for step in self.steps) / self.steps_min if self.steps_min else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        data = dict(self.__dict__)
        data["bandwidths"] = [{"bytes": size, "gigabytes_per_second": rate} for size, rate in self.bandwidths]
        data["steps"] = [step.as_dict() for step in self.steps]
        data["disturbed"] = list(self.disturbed)
        return {**data, "steps_min": self.steps_min, "flops": self.flops, "roofline": self.roofline}

    def text(self, sort: str = "plan", top: int | None = None) -> Text:
        """A line for each step: as run, or by "time" the longest first; `top` of them at most."""
        out = Text()
        shapes = ", ".join(f"{name} {shape_text(shape)}" for name, shape in self.shapes.items())
        out.line(f"{self.model} at {shapes}: {self.isa}, {self.precision}, {self.threads} threads, {self.rounds} rounds")
        rates = ", ".join(f"{rate:.0f} GB/s at {_size(size)}" for size, rate in self.bandwidths)
        integers = f", {self.peak_gops:.0f} GOP/s of products of bytes" if self.peak_gops else ""
        pairs = f", {self.peak_pairs:.0f} GFLOP/s of pairs of bfloat16 numbers" if self.peak_pairs else ""
        out.line(f"this machine now: {self.peak_gflops:.0f} GFLOP/s of multiply-adds{integers}{pairs}; copies {rates}")
        steps = sorted(self.steps, key=lambda s: -s.seconds_min) if sort == "time" else list(self.steps)
        rows = [["layer", "operator", "kernel", "min us", "median us", "share", "GFLOP/s", "MB", "op/byte", "roofline"]]
        rows += [_row(step, self.steps_min) for step in steps[:top]]
        out.table(rows, range(3, 10))
        out.line(f"whole run: min {self.run_min * 1e3:.3f} ms, median {self.run_median * 1e3:.3f} ms")
        rate = self.flops / max(self.steps_min, 1e-12) * 1e-9
        if self.disturbed:
            out.line(f"disturbed: {'; '.join(self.disturbed)}: measure again on a quiet machine, or longer (--seconds)")
        out.line(f"steps' shortest times: {self.steps_min * 1e3:.3f} ms, {rate:.1f} GFLOP/s, {self.roofline:.0%} of the roofline")
        return out

    def plot(self) -> Figure:
        """A bar per layer, as run, beside the roofline, a point per step over its operations per byte.

        A bar is the sum of the steps' shortest times; as much of it as the roofline asks for is dark, the rest pale.

        Raises
        ------
        InputError
            matplotlib is not installed.
        """
        shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in self.shapes.items())
        title = f"{self.model}: {shapes}; {self.isa}, {self.threads} threads, {self.run_min * 1e3:.2f} ms"
        return plots.profile(self.steps, self.peak_gflops, self.bandwidths, title)

    def trace_events(self) -> list[dict[str, Any]]:
        """The steps as events of Chrome's trace format, which Perfetto and chrome://tracing open; `write_trace` writes them.

        Steps are timed one by one, round after round, so this is no recording of one run. A track has the medians of the
        steps end to end, one their shortest times, one the median of whole runs. Threads have no tracks: all of
        `threads` work on a step, and which did what is not known.

        Returns
        -------
        list of dict
            Times in microseconds. The arguments of a step are its operator, kernel, shapes of outputs, flops, bytes, chunks, what
            it reached and the share of the roofline.
        """
        return exchange.trace_events(self.steps, self.model, self.threads, self.rounds, self.run_median)

    def write_trace(self, path: str | os.PathLike[str]) -> None:
        """Write `trace_events` as a file.

        Raises
        ------
        InputError
            The file cannot be written.
        """
        about = {
            "model": self.model,
            "inputs": {name: list(shape) for name, shape in self.shapes.items()},
            "isa": self.isa,
            "precision": self.precision,
            "threads": self.threads,
            "rounds": self.rounds,
            "peak_gflops": self.peak_gflops,
            "disturbed": list(self.disturbed),
        }
        data = {"traceEvents": self.trace_events(), "displayTimeUnit": "ms", "otherData": about}
        written(path, json.dumps(data, allow_nan=False))

    def node_data(self) -> dict[str, Any]:
        """Microseconds by the names of nodes, as Model Explorer lays them over the graph; `write_node_data` writes them.

        Nodes that were fused into another have no time of their own, and are left out; so is a node that is named "results",
        which Model Explorer would take for the data of a graph.

        Returns
        -------
        dict
            Data of one graph: "name", "results" and the "gradient" of colours.
        """
        return exchange.node_data(self.steps)

    def write_node_data(self, path: str | os.PathLike[str]) -> None:
        """Write `node_data` as a file.

        Raises
        ------
        InputError
            The file cannot be written.
        """
        written(path, json.dumps(self.node_data(), allow_nan=False, indent=1))


def _row(step: StepProfile, total: float) -> list[str]:
    return [
        shortened(step.node),
        step.operator,
        step.kernel,
        f"{step.seconds_min * 1e6:.1f}",
        f"{step.seconds_median * 1e6:.1f}",
        f"{step.seconds_min / total:.1%}" if total else "",
        f"{step.gflops:.1f}" if step.flops else "",
        f"{step.nbytes * 1e-6:.3f}" if step.nbytes else "",
        f"{step.intensity:.1f}" if step.flops and step.nbytes else "",
        f"{step.roofline:.0%}" if step.limit_seconds else "",
    ]


def _size(nbytes: int) -> str:
    return f"{nbytes >> 20} MiB" if nbytes >= 1 << 20 else f"{nbytes >> 10} KiB"


def profile(
    model: Any, shapes: Shapes | None = None, *, threads: int | None = None, seconds: float = 2.0, min_rounds: int = 5
) -> Profile:
    """Time every step of a model's plan.

    Parameters
    ----------
    model : Model, or as for `cnnengine.load`
    shapes : mapping of str to tuple of int, optional
        As for `summarize`, but every dynamic extent other than the batch must be given.
    threads : int, optional
        The model's by default.
    seconds : float
        How long to go on with rounds of all steps.
    min_rounds : int
        Rounds at least.

    Returns
    -------
    Profile

    Raises
    ------
    InputError
        A dynamic extent was not given, or an argument is out of range.
    ShapeError
        The shapes do not fit the model.
    ClosedError
    """
    with opened(model) as loaded:
        return _profile(loaded, shapes, threads, seconds, min_rounds)


def _profile(model: Model, shapes: Shapes | None, threads: int | None, seconds: float, min_rounds: int) -> Profile:
    view = inside(model)
    threads = model.threads if threads is None else default_threads(threads)
    min_rounds, seconds = arguments.integer(min_rounds, "min_rounds", 1), arguments.number(seconds, "seconds")
    if not 0 <= seconds < 1e9:
        raise InputError("must be a time", model=model.name, tensor="seconds", expected=">= 0", received=seconds)
    resolved = needed_shapes(model, shapes)
    peak, bandwidths = fma_peak(threads), tuple((size, copy_bandwidth(size, threads)) for size in SIZES)

    workspace = Workspace()
    values = random_feeds(model, resolved)
    feeds = dict(values)
    parts: list[tuple[Any, list[np.ndarray], list[np.ndarray]]] = []
    for segment in view.segments(values, workspace, threads):
        segment.execute(values, workspace, threads)  # warms up, and gives the next segment its inputs
        outputs = [np.empty(shape, dtype) for _, shape, dtype in segment.outputs]
        parts.append((segment, [values[name] for name in segment.inputs], outputs))

    steps: list[_Step] = []
    for segment, inputs, outputs in parts:
        owners = owners_of(segment)
        made = {layer.node.name: _outputs(layer) for layer in layers_of(segment)}
        begin = _beginning(segment.plan, workspace, inputs, outputs, threads)
        for piece in segment.plan.pieces:
            if isinstance(piece, HostStep):
                run = _host(segment.plan, piece, workspace, inputs, outputs)
                steps.append(_Step(piece.node, piece.operator, "host", 1, 0.0, 0.0, run, begin, made.get(piece.node, ())))
            else:
                for index in range(piece[0], piece[0] + piece[1]):
                    report = segment.plan.reports[index]
                    node = owners.get(report.node)
                    name, operator = (report.node, "") if node is None else (node.name, node.op.op_type)
                    run = _native(workspace, index, threads)
                    figures = report.kernel, report.n_chunks, report.flops, report.nbytes
                    steps.append(_Step(name, operator, *figures, run, begin, made.get(name, ())))
        if segment.tail is not None:
            node = segment.tail.node
            run = _tail(segment, values, threads)
            results = tuple((name, getattr(values[name], "shape", None)) for name in node.outputs if name)  # a sequence has none
            steps.append(_Step(node.name, node.op.op_type, "host", 1, 0.0, 0.0, run, begin, results))

    whole: list[int] = []
    began, worked = time.perf_counter(), time.process_time()
    end = _clock() + int(seconds * 1e9)
    while len(whole) < min_rounds or _clock() < end:
        last: Callable[[], None] | None = None
        with limited(threads):  # as a run has it
            for step in steps:
                if step.begin is not last:
                    step.begin()
                    last = step.begin
                start = _clock()
                step.run()
                step.taken.append(_clock() - start)
        start = _clock()
        view.run(dict(feeds), threads)
        whole.append(_clock() - start)
    elapsed, worked = time.perf_counter() - began, time.process_time() - worked
    cost = _call_cost(workspace, threads)
    counted = {step.counts for step in steps}
    integers = dot_peak(threads) if BYTES in counted else 0.0
    pairs = pair_peak(threads) if PAIRS in counted else 0.0
    peaks = {FLOATS: peak, BYTES: integers, PAIRS: pairs}
    timed = tuple(step.result(cost, peaks[step.counts], bandwidths) for step in steps)
    signs = disturbances(
        threads,
        timed,
        min(whole) * 1e-9,
        statistics.median(whole) * 1e-9,
        (peak, fma_peak(threads)),
        worked / max(elapsed, 1e-9),
    )
    return Profile(
        model.name,
        model.isa,
        threads,
        resolved,
        len(whole),
        peak,
        integers,
        bandwidths,
        min(whole) * 1e-9,
        statistics.median(whole) * 1e-9,
        timed,
        signs,
        model.precision,
        pairs,
    )


def disturbances(
    threads: int, steps: Sequence[StepProfile], run_min: float, run_median: float, peaks: tuple[float, float], cpu_share: float
) -> tuple[str, ...]:
    """What says that other processes took part of the machine while the steps were timed.

    Parameters
    ----------
    threads : int
    steps : sequence of StepProfile
    run_min, run_median : float
        Seconds of whole runs.
    peaks : (float, float)
        Multiply-add peak before and after.
    cpu_share : float
        CPU time of this process over the time that passed; judged at one thread, where nothing waits for another.

    Returns
    -------
    tuple of str
        A clause for each sign.
    """
    signs = []
    if run_median > UNSTEADY * run_min:
        signs.append(f"whole runs take {run_median / run_min:.2f} times their shortest in the median")
    least, middle = sum(step.seconds_min for step in steps), sum(step.seconds_median for step in steps)
    if middle > UNSTEADY * least > 0:
        signs.append(f"steps take {middle / least:.2f} times their shortest in the median")
    if least > run_min * UNSTEADY and least - run_min > len(steps) * STEP_COST:
        signs.append(f"the steps' shortest times sum up to {least / run_min:.2f} times the shortest whole run")
    low, high = sorted(peaks)
    if high > UNSTEADY * low:
        signs.append(f"the multiply-add peak was {peaks[0]:.0f} GFLOP/s before and {peaks[1]:.0f} after")
    if threads == 1 and cpu_share < FULL_SHARE:
        signs.append(f"the process had a CPU for {cpu_share:.0%} of the time")
    return tuple(signs)


@dataclass(eq=False)
class _Step:
    node: str
    operator: str
    kernel: str
    chunks: int
    flops: float
    nbytes: float
    run: Callable[[], None]
    begin: Callable[[], None]
    outputs: tuple[tuple[str, tuple[int, ...] | None], ...] = ()

    def __post_init__(self) -> None:
        self.taken: list[int] = []

    @property
    def counts(self) -> str:
        """What its operations are products of."""
        if self.kernel.startswith(("qconv", "qdense")):
            return BYTES
        return PAIRS if self.kernel.startswith("bconv") else FLOATS

    def result(self, cost: int, peak: float, bandwidths: tuple[tuple[int, float], ...]) -> StepProfile:
        least, median = (max(int(n) - cost, RESOLUTION) * 1e-9 for n in (min(self.taken), statistics.median(self.taken)))
        limit = max(self.flops / (peak * 1e9), self.nbytes / (bandwidth_at(bandwidths, self.nbytes) * 1e9))
        figures = least, median, self.flops, self.nbytes, limit
        return StepProfile(self.node, self.operator, self.kernel, self.chunks, *figures, self.outputs)


def _outputs(layer: Layer) -> tuple[tuple[str, tuple[int, ...] | None], ...]:
    """Names and shapes of what a layer makes and something reads."""
    known = zip(layer.node.outputs, layer.outputs, strict=True)
    return tuple((name, None if found is None else found[0]) for name, found in known if name)


def _beginning(
    plan: Any, workspace: Workspace, inputs: list[np.ndarray], outputs: list[np.ndarray], threads: int
) -> Callable[[], None]:
    return lambda: workspace.begin(plan.native, inputs, outputs, threads)


def _native(workspace: Workspace, index: int, threads: int) -> Callable[[], None]:
    return lambda: workspace.run(index, 1, threads)


def _host(
    plan: Any, step: HostStep, workspace: Workspace, inputs: list[np.ndarray], outputs: list[np.ndarray]
) -> Callable[[], None]:
    return lambda: plan.run_host_step(step, workspace, inputs, outputs)


def _tail(segment: Any, values: dict[str, Any], threads: int) -> Callable[[], None]:
    return lambda: segment.run_tail(values, threads)


def _call_cost(workspace: Workspace, threads: int) -> int:
    """Nanoseconds of timing a run of no step: what Python and the clock add to every measurement."""

    def run() -> None:
        workspace.run(0, 0, threads)

    taken = []
    for _ in range(1000):
        start = _clock()
        run()
        taken.append(_clock() - start)
    return min(taken)


# ---------------------------------------------------------------- the machine
def fma_peak(threads: int, seconds: float = 0.1) -> float:
    """GFLOP/s of multiply-adds in registers, on this many threads at once, with the instruction set in use."""
    return _peak(dispatch.fma_peak, threads, seconds)


def dot_peak(threads: int, seconds: float = 0.1) -> float:
    """GOP/s of products of bytes and their sums, likewise."""
    return _peak(dispatch.dot_peak, threads, seconds)


def pair_peak(threads: int, seconds: float = 0.1) -> float:
    """GFLOP/s of products of pairs of bfloat16 numbers and their sums, likewise."""
    return _peak(dispatch.pair_peak, threads, seconds)


def _peak(of: Callable[[float], float], threads: int, seconds: float) -> float:
    if threads == 1:
        return float(of(seconds))
    rates = [0.0] * threads

    def measure(i: int) -> None:
        rates[i] = of(seconds)

    _at_once(measure, threads)
    return sum(rates)


def copy_bandwidth(nbytes: int, threads: int, seconds: float = 0.08) -> float:
    """GB/s of copies that move this many bytes in all, read and written, on this many threads at once."""
    size = max(nbytes // threads // 8, 64)
    pairs = [(aligned_empty(size), aligned_empty(size)) for _ in range(threads)]
    for source, target in pairs:
        source.fill(1)
        target.fill(0)
    rates = [0.0] * threads

    def measure(i: int) -> None:
        source, target = pairs[i]
        best = math.inf
        end = _clock() + int(seconds * 1e9)
        while True:
            start = _clock()
            np.copyto(target, source)
            now = _clock()
            best = min(best, max(now - start, 1))
            if now > end:
                break
        rates[i] = 2 * source.nbytes / best

    if threads == 1:
        measure(0)
    else:
        _at_once(measure, threads)
    return sum(rates)


def _at_once(work: Callable[[int], None], threads: int) -> None:
    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def bandwidth_at(bandwidths: tuple[tuple[int, float], ...], nbytes: float) -> float:
    """The bandwidth for this many bytes: between two measured sizes by their logarithms, at the ends that of the last."""
    sizes = [size for size, _ in bandwidths]
    at = bisect.bisect_left(sizes, nbytes)
    if at == 0:
        return bandwidths[0][1]
    if at == len(sizes):
        return bandwidths[-1][1]
    (a, low), (b, high) = bandwidths[at - 1], bandwidths[at]
    part = math.log(nbytes / a) / math.log(b / a)
    return low + (high - low) * part
