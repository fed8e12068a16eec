"""Measure a model in several engines, one process each, in turns."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import config
from ..arguments import integer, number
from ..errors import InputError, ShapeError
from ..importer.reader import read
from ..report.profile import fma_peak
from .harness import Worker, WorkerError, busy_cpus, engine_worker, machine_head, probe
from .worker import NEEDS, summary

if TYPE_CHECKING:
    import onnx

PEERS = tuple(name for name in NEEDS if name != "cnnengine")
"""The engines to compare with."""
AGAIN = "cnnengine-again"
"""A second process of cnnengine: how far apart two that are the same come out."""
DIFFERS = 1e-3
"""Outputs further apart than this, relative to the largest absolute value, are not the same computation."""
BEHIND = 0.95
"""A ratio below this is behind the best peer."""
FAR_SLOWER = 4.0
"""An engine that needs this many times our time, and more than a turn for two requests, has few turns: all would be long ones."""
FEW_TURNS = 3
PEAK_SECONDS = 0.02

INSTALL = {
    "torch": "pip install torch && pip install --no-deps onnx2torch",
    "torch-compile": "pip install torch && pip install --no-deps onnx2torch",
    "ncnn": "pip install ncnn && pip install --no-deps pnnx",
}


@dataclass(frozen=True)
class Case:
    """A model to measure.

    Attributes
    ----------
    path : str or path
        The ONNX file.
    name : str
        What to call it; the file's name by default.
    shapes : mapping
        Shapes of inputs with dynamic axes, by name; None as the name is the only input.
    feeds : mapping, or None
        The input arrays. Others, or all, are seeded: normally distributed floats, ones of other kinds.
    """

    path: str | os.PathLike[str]
    name: str = ""
    shapes: Mapping[str | None, tuple[int, ...]] = field(default_factory=dict)
    feeds: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.name or Path(self.path).name


class Comparison:
    """How to measure.

    Parameters
    ----------
    against : sequence of str
        Peers, of `PEERS`; "cnnengine" measures against a second process of itself, which shows the noise.
    threads, batch : int
        Of every engine. The batch is the extent of a dynamic axis 0.
    seconds : float
        For each engine and model, in all, beside loading.
    rounds : int
        Turns that these seconds are divided into.
    busy : int
        CPUs that other processes keep busy during the turns.
    peer_python : str, optional
        The interpreter that has the peers; this one by default.
    cache : path, optional
        Where ncnn's conversions are kept; `cnnengine/bench` in the user's cache folder by default.
    keep_compiled : bool
        Keep what torch.compile compiled there too. The next run's load time is then that of a second start.
    progress : callable, optional
        Told in a few words what is being done.

    Raises
    ------
    InputError
        An unknown engine, a number out of range, or `peer_python` does not run.
    """

    def __init__(
        self,
        against: Sequence[str] = PEERS,
        *,
        threads: int = 1,
        batch: int = 1,
        seconds: float = 5.0,
        rounds: int = 10,
        busy: int = 0,
        peer_python: str | None = None,
        cache: str | os.PathLike[str] | None = None,
        keep_compiled: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        for name in against:
            if name not in (*PEERS, "cnnengine"):
                raise InputError("unknown engine", tensor="against", expected=", ".join(PEERS), received=name)
        threads, batch = integer(threads, "threads", 1, 256), integer(batch, "batch", 1)
        rounds, seconds = integer(rounds, "rounds", 1), number(seconds, "seconds")
        if not (math.isfinite(seconds) and seconds >= 0):
            raise InputError("must be a time", tensor="seconds", expected=">= 0", received=seconds)
        busy = integer(busy, "busy", 0, machine_head()["cpus"])
        self.threads, self.batch, self.seconds, self.rounds, self.busy = threads, batch, seconds, rounds, busy
        self.peer_python = peer_python or sys.executable
        self.cache = Path(cache) if cache is not None else default_cache()
        self.keep_compiled = keep_compiled
        self._progress = progress or (lambda text: None)
        packages = sorted({package for needs in NEEDS.values() for package in needs} | {"numpy", "onnx"})
        here, there = probe(sys.executable, packages), probe(self.peer_python, packages)
        self.absent: dict[str, str] = {}
        self.engines = ["cnnengine"]
        versions: dict[str, str] = {}
        for name in dict.fromkeys(against):
            if name == "cnnengine":
                self.engines.append(AGAIN)
                continue
            missing = [p for p in NEEDS[name] if there["packages"][p] is None]
            if missing:
                hint = INSTALL.get(name, f"pip install {name}")
                self.absent[name] = f"{' and '.join(missing)} not installed ({hint})"
            else:
                self.engines.append(name)
                versions |= {p: there["packages"][p] for p in NEEDS[name]}
        self._python = {"python": here["python"], "peers_python": there["python"]}
        self._versions = {"numpy": here["packages"]["numpy"], "onnx": here["packages"]["onnx"], **versions}

    def head(self) -> dict[str, Any]:
        """What a report begins with: the machine, the settings, the versions, the multiply-add peak of this moment."""
        ours = {key: list(value) if isinstance(value, tuple) else value for key, value in config.show_config().items()}
        return {
            **machine_head(),
            "threads": self.threads,
            "batch": self.batch,
            "seconds": self.seconds,
            "rounds": self.rounds,
            "busy": self.busy,
            "isa": ours["isa"],
            "fma_peak_gflops": fma_peak(self.threads),
            "cnnengine": ours,
            **self._python,
            "versions": self._versions,
            "absent": self.absent,
        }

    def measure(self, case: Case) -> dict[str, Any]:
        """All figures of one model, by engine.

        Raises
        ------
        ModelError, ShapeError, InputError
            The file is no model, or the shapes or arrays do not fit it. That an engine cannot run it is no error, but
            stands under "skipped".
        """
        path = Path(case.path).resolve()
        feeds, dims = inputs_of(case, self.batch)
        workers: dict[str, Worker] = {}
        with tempfile.TemporaryDirectory(prefix="cnnengine-bench-") as folder:
            try:
                return self._measure(case.title, path, feeds, dims, Path(folder), workers)
            finally:
                for worker in workers.values():
                    worker.close()

    def _measure(
        self, title: str, path: Path, feeds: dict[str, np.ndarray], dims: dict[str, int], folder: Path, workers: dict[str, Worker]
    ) -> dict[str, Any]:
        skipped: dict[str, str] = {}
        results: dict[str, dict[str, Any]] = {}
        peaks: list[float] = []

        def give_up(name: str, reason: object) -> None:
            skipped[name] = str(reason)
            results.pop(name, None)
            workers.pop(name).close()

        feeds_file = os.fspath(folder / "feeds.npz")
        np.savez(feeds_file, **{f"{i:03d}": value for i, value in enumerate(feeds.values())})  # type: ignore[arg-type]
        self._progress(f"{title}: starting {len(self.engines)} engines")
        for name in self.engines:  # imports and conversions are not timed: all at once
            kind = "cnnengine" if name == AGAIN else name
            workers[name] = engine_worker(kind, sys.executable if kind == "cnnengine" else self.peer_python)
            home = self.cache if name == "ncnn" or self.keep_compiled else folder
            try:
                workers[name].send(
                    do="prepare", model=os.fspath(path), names=list(feeds), feeds=feeds_file, folder=os.fspath(home)
                )
            except WorkerError as error:
                give_up(name, error)
        for name in list(workers):
            try:
                workers[name].receive()
            except WorkerError as error:
                give_up(name, error)
        for name in list(workers):
            self._progress(f"{title}: loading {name}")
            try:
                outputs = os.fspath(folder / f"{name}.npz")
                results[name] = workers[name].ask(do="load", threads=self.threads, dims=dims, outputs=outputs)
            except WorkerError as error:
                give_up(name, error)

        times: dict[str, list[list[float]]] = {name: [] for name in workers}
        few = set(range(0, self.rounds, max(1, math.ceil(self.rounds / FEW_TURNS))))
        turn_seconds = self.seconds / self.rounds
        with busy_cpus(self.busy):
            for turn in range(self.rounds):
                self._progress(f"{title}: round {turn + 1} of {self.rounds}")
                if "cnnengine" in workers:
                    peaks.append(workers["cnnengine"].ask(do="peak", threads=self.threads, seconds=PEAK_SECONDS)["gflops"])
                order = list(workers)
                first = turn % max(len(order), 1)
                for name in order[first:] + order[:first]:
                    if turn not in few and far_slower(times, name, turn_seconds * 1e3):
                        continue
                    try:
                        times[name].append(workers[name].ask(do="run", seconds=turn_seconds)["times_ms"])
                    except WorkerError as error:
                        give_up(name, error)
        for name in list(workers):
            results[name] |= workers[name].ask(do="memory") | summary([t for turn_times in times[name] for t in turn_times])
            results[name]["turns"] = [summary(turn_times) for turn_times in times[name]]
        if "cnnengine" in results:
            compare_outputs(results, {name: stored(folder / f"{name}.npz") for name in results})
        return {
            "model": title,
            "inputs": {name: list(value.shape) for name, value in feeds.items()},
            "threads": self.threads,
            "batch": self.batch,
            "busy": self.busy,
            "fma_peak_gflops": peaks,
            "engines": results,
            "skipped": skipped,
            "best_peer": best_peer(results),
        }


def default_cache() -> Path:
    """$XDG_CACHE_HOME/cnnengine/bench, by default ~/.cache/cnnengine/bench."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cnnengine" / "bench"


def far_slower(times: Mapping[str, Sequence[Sequence[float]]], name: str, turn_ms: float) -> bool:
    """Whether an engine's shortest time is `FAR_SLOWER` ours and half a turn; unknown before the first turns."""
    ours, theirs = times.get("cnnengine"), times[name]
    if not ours or not theirs:
        return False
    shortest = min(map(min, theirs))
    return 2 * shortest > turn_ms and shortest > FAR_SLOWER * min(map(min, ours))


# ---------------------------------------------------------------- inputs
def inputs_of(case: Case, batch: int) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The input arrays in the order of the graph, and the extents that its named dimensions take."""
    graph = read(os.fspath(case.path)).graph
    constants = {tensor.name for tensor in graph.initializer}
    values = [value for value in graph.input if value.name not in constants]
    shapes = _named(case, [value.name for value in values])
    feeds: dict[str, np.ndarray] = {}
    dims: dict[str, int] = {}
    for position, value in enumerate(values):
        given = case.feeds.get(value.name)
        wanted = shapes.get(value.name) if given is None else given.shape
        shape = _shape(case.title, value, wanted, batch, dims)
        feeds[value.name] = _array(value, shape, position) if given is None else np.ascontiguousarray(given)
    return feeds, dims


def _named(case: Case, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in case.shapes.items():
        if name is None and len(names) != 1:
            raise InputError("name the input", model=case.title, tensor="shape", expected=f"one of {', '.join(names)}")
        real = names[0] if name is None else name
        if real not in names:
            raise InputError("no such input", model=case.title, tensor=real, expected=f"one of {', '.join(names)}")
        found[real] = shape
    return found


def _shape(
    title: str, value: onnx.ValueInfoProto, wanted: tuple[int, ...] | None, batch: int, dims: dict[str, int]
) -> tuple[int, ...]:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        if wanted is None:
            raise InputError("its rank is unknown: give the shape", model=title, tensor=value.name)
        return wanted
    declared = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in kind.shape.dim]
    if wanted is None:
        if None in declared[1:]:
            raise InputError("more than the batch is dynamic: give the shape", model=title, tensor=value.name)
        if declared and declared[0] is not None and declared[0] != batch and batch != 1:
            raise ShapeError("its batch is fixed", model=title, tensor=value.name, expected=declared[0], received=batch)
        wanted = tuple(batch if extent is None else extent for extent in declared)
    fits = len(wanted) == len(declared) and all(e is None or e == w for e, w in zip(declared, wanted, strict=True))
    if not fits:
        raise ShapeError("the shape does not fit", model=title, tensor=value.name, expected=declared, received=wanted)
    for dim, extent in zip(kind.shape.dim, wanted, strict=True):
        if dim.dim_param and dims.setdefault(dim.dim_param, extent) != extent:
            raise ShapeError(f"{dim.dim_param} has two extents", model=title, tensor=value.name, received=wanted)
    return wanted


def _array(value: onnx.ValueInfoProto, shape: tuple[int, ...], seed: int) -> np.ndarray:
    import onnx

    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    if np.issubdtype(dtype, np.floating):
        return np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return np.ones(shape, dtype)


# ---------------------------------------------------------------- results
def stored(path: Path) -> list[np.ndarray]:
    """The outputs that a worker wrote."""
    with np.load(path) as file:
        return [file[key] for key in sorted(file.files)]


def difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """Largest difference relative to the output's largest absolute value; infinite when count, size or finiteness differ."""
    if len(ours) != len(theirs):
        return math.inf
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        if a.size != b.size:
            return math.inf
        if a.size:
            wide = a.astype(np.float64).reshape(-1)
            gap = np.abs(wide - b.astype(np.float64).reshape(-1)).max()
            worst = max(worst, float(gap / (np.abs(wide).max() or 1.0))) if np.isfinite(gap) else math.inf
    return worst


def compare_outputs(results: dict[str, dict[str, Any]], outputs: Mapping[str, Sequence[np.ndarray]]) -> None:
    """To each peer's figures: how far its outputs are from ours, and how many times our time it took."""
    ours = results["cnnengine"]
    for name, result in results.items():
        if name != "cnnengine":
            gap = difference(outputs["cnnengine"], outputs[name])
            result["difference"] = gap if math.isfinite(gap) else None  # JSON has no infinity
            result["agrees"] = gap <= DIFFERS
            for which in ("min", "median"):
                result[f"ratio_{which}"] = result[f"{which}_ms"] / ours[f"{which}_ms"]


def best_peer(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any] | None]:
    """The fastest peer whose outputs agree, by its minimum and by its median, with its time over ours."""
    found: dict[str, dict[str, Any] | None] = {}
    for which in ("min", "median"):
        peers = {name: r[f"ratio_{which}"] for name, r in results.items() if r.get("agrees") and name != AGAIN}
        best = min(peers, key=peers.__getitem__, default=None)
        found[which] = None if best is None else {"engine": best, "ratio": peers[best]}
    return found


def deciding(threads: int) -> str:
    """The ratio that counts: of minima at one thread; of medians at more, where a thread that stalls is a fault."""
    return "min" if threads == 1 else "median"


def failed(record: Mapping[str, Any]) -> bool:
    """Whether cnnengine did not run the model, or no peer gives what it gives."""
    agreements = [r["agrees"] for r in record["engines"].values() if "agrees" in r]
    return "cnnengine" not in record["engines"] or (bool(agreements) and not any(agreements))


def overall(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Geometric mean of the ratios to the best peer, by minima and medians, the count of models and those behind.

    Returns
    -------
    dict
        Per "min" and "median": ``geometric_mean``, ``models`` and ``behind``, the models whose ratio is under 0.95.
    """
    result: dict[str, dict[str, Any]] = {}
    for which in ("min", "median"):
        found = {r["model"]: r["best_peer"][which]["ratio"] for r in records if r["best_peer"][which] is not None}
        mean = math.exp(sum(map(math.log, found.values())) / len(found)) if found else None
        behind = [name for name, ratio in found.items() if ratio < BEHIND]
        result[which] = {"geometric_mean": mean, "models": len(found), "behind": behind}
    return result
