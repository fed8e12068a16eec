"""Measure a model in several engines, one process each, in turns."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import config
from ..arguments import integer, number
from ..errors import InputError, ShapeError
from ..importer.reader import read
from ..report.profile import fma_peak
from .engines import LOWERED, NEEDS
from .environments import default_cache, hint, interpreter
from .harness import Worker, WorkerError, busy_processes, engine_worker, machine_head, probe
from .precision import RANK, TOLERANCE, of_model, steps_of
from .show import Record
from .verdict import AGAIN, best_peer, compare_outputs, noise, peers_in, verdict, why_not
from .worker import summary

if TYPE_CHECKING:
    import onnx

PEERS = tuple(name for name in NEEDS if name != "cnnengine")
"""The engines to compare with."""
USUAL = tuple(name for name in PEERS if not name.endswith(LOWERED))
"""Those that are compared with where none are named: the others compute in 16 bits by request."""
FAR_SLOWER = 4.0
"""An engine that needs this many times our time, and more than a turn for two requests, has few turns: all would be long ones."""
FEW_TURNS = 3
PEAK_SECONDS = 0.02
MOST_BUSY = 256
LARGE = 1_900_000_000
"""Bytes from which a model does not fit into one message of protobuf."""


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


def distinct(cases: Iterable[Case]) -> list[Case]:
    """The cases, each with a name of its own: of files of one name with as many folders before it as tell them apart."""
    cases = list(cases)
    named = [case.title for case in cases]
    paths = [Path(case.path).resolve().parts for case in cases]
    depth = 1
    while depth < max(map(len, paths), default=1):
        files: dict[str, set[tuple[str, ...]]] = {}
        for name, parts in zip(named, paths, strict=True):
            files.setdefault(name, set()).add(parts)
        clashes = {name for name, found in files.items() if len(found) > 1}
        if not clashes:
            break
        depth += 1
        named = [
            os.fspath(Path(*parts[-depth:])) if name in clashes and not case.name else name
            for name, parts, case in zip(named, paths, cases, strict=True)
        ]
    seen: dict[str, int] = {}
    for i, name in enumerate(named):  # the same file again, or the same name given twice
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            named[i] = f"{name} ({seen[name]})"
    return [replace(case, name=name) for case, name in zip(cases, named, strict=True)]


class Comparison:
    """How to measure.

    Parameters
    ----------
    against : sequence of str
        Peers, of `PEERS`. A second process of cnnengine, the null row, runs in any case; "cnnengine" names it too.
    threads, batch : int
        Of every engine. The batch is the extent of a dynamic axis 0.
    seconds : float
        For each engine and model, in all, beside loading.
    rounds : int
        Turns that these seconds are divided into.
    busy : int
        Other processes that compute without end during the turns of every engine, of equal priority and tied to no CPU.
    precision : str
        What cnnengine computes float32 files in: "float32" or "bfloat16".
    any_precision : bool
        Whether peers of a lower precision than ours count too.
    tolerance : mapping, optional
        How far outputs may lie from ours by precision, in place of `precision.TOLERANCE`.
    peer_python : str, optional
        The interpreter that has the peers; this one by default. Peers that it has not are looked for in their environments.
    cache : path, optional
        Where conversions and environments are kept; `cnnengine/bench` in the user's cache folder by default.
    keep_compiled : bool
        Keep what torch.compile compiled there too. The next run's load time is then that of a second start.
    progress : callable, optional
        Told in a few words what is being done.

    Raises
    ------
    InputError
        An unknown engine or precision, a number out of range, or `peer_python` does not run.
    """

    def __init__(
        self,
        against: Sequence[str] = USUAL,
        *,
        threads: int = 1,
        batch: int = 1,
        seconds: float = 5.0,
        rounds: int = 10,
        busy: int = 0,
        precision: str = "float32",
        any_precision: bool = False,
        tolerance: Mapping[str, float] | None = None,
        peer_python: str | None = None,
        cache: str | os.PathLike[str] | None = None,
        keep_compiled: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        for name in against:
            if name not in (*PEERS, "cnnengine"):
                raise InputError("unknown engine", tensor="against", expected=", ".join(PEERS), received=name)
        if precision not in ("float32", "bfloat16"):
            raise InputError("unknown precision", tensor="precision", expected="float32 or bfloat16", received=precision)
        for name, value in (tolerance or {}).items():
            if name not in RANK or not (math.isfinite(value) and value >= 0):
                raise InputError(
                    "no tolerance", tensor="tolerance", expected=f"of {', '.join(RANK)}", received=f"{name}: {value}"
                )
        threads, batch = integer(threads, "threads", 1, 256), integer(batch, "batch", 1)
        rounds, seconds = integer(rounds, "rounds", 1), number(seconds, "seconds")
        if not (math.isfinite(seconds) and seconds >= 0):
            raise InputError("must be a time", tensor="seconds", expected=">= 0", received=seconds)
        busy = integer(busy, "busy", 0, MOST_BUSY)
        self.threads, self.batch, self.seconds, self.rounds, self.busy = threads, batch, seconds, rounds, busy
        self.precision, self.any_precision = precision, any_precision
        self.tolerance = {**TOLERANCE, **(tolerance or {})}
        self.cache = Path(cache) if cache is not None else default_cache()
        self.keep_compiled = keep_compiled
        self._progress = progress or (lambda text: None)
        packages = sorted({package for needs in NEEDS.values() for package in needs} | {"numpy", "onnx"})
        found = {sys.executable: probe(sys.executable, packages)}
        first = peer_python or sys.executable
        self.absent: dict[str, str] = {}
        self.engines = ["cnnengine", AGAIN]
        self.pythons = dict.fromkeys(self.engines, sys.executable)
        versions: dict[str, str] = {}
        for name in dict.fromkeys(against):
            if name == "cnnengine":
                continue
            lacking = list(NEEDS[name])
            for python in filter(None, (first, interpreter(name, self.cache))):
                if python not in found:
                    found[python] = probe(python, packages)
                there = found[python]["packages"]
                missing = [package for package in NEEDS[name] if there[package] is None]
                if not missing:
                    self.engines.append(name)
                    self.pythons[name] = python
                    versions |= {package: there[package] for package in NEEDS[name]}
                    break
                lacking = min(lacking, missing, key=len)
            else:
                self.absent[name] = f"{' and '.join(lacking)} not installed ({hint(name)})"
        here = found[sys.executable]
        self._python = {"python": here["python"], "peers_python": found.get(first, here)["python"]}
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
            "precision": self.precision,
            "any_precision": self.any_precision,
            "tolerance": self.tolerance,
            "engines": self.engines,
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
        model = read(os.fspath(path))
        feeds, dims = inputs_of(case, self.batch, model)
        kind, steps = of_model(model), steps_of(model)
        workers: dict[str, Worker] = {}
        with tempfile.TemporaryDirectory(prefix="cnnengine-bench-") as folder:
            try:
                given = bare(path, model, Path(folder))
                del model
                return self._measure(case.title, (path, given), feeds, dims, (kind, steps), Path(folder), workers)
            finally:
                for worker in workers.values():
                    worker.close()

    def _measure(
        self,
        title: str,
        paths: tuple[Path, Path],
        feeds: dict[str, np.ndarray],
        dims: dict[str, int],
        precision: tuple[str, Sequence[float | None]],
        folder: Path,
        workers: dict[str, Worker],
    ) -> dict[str, Any]:
        kind, steps = precision
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
            engine = "cnnengine" if name == AGAIN else name
            workers[name] = engine_worker(engine, self.pythons[name])
            home = folder if name.startswith("torch") and not self.keep_compiled else self.cache
            request = {"model": os.fspath(paths[0]), "bare": os.fspath(paths[1]), "kind": kind, "precision": self.precision}
            try:
                workers[name].send(
                    do="prepare", **request, threads=self.threads, dims=dims, folder=os.fspath(home), names=list(feeds),
                    feeds=feeds_file,
                )  # fmt: skip
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
                results[name] = workers[name].ask(do="load", outputs=outputs)
            except WorkerError as error:
                give_up(name, error)

        times: dict[str, list[list[float]]] = {name: [] for name in workers}
        few = set(range(0, self.rounds, max(1, math.ceil(self.rounds / FEW_TURNS))))
        turn_seconds = self.seconds / self.rounds
        with busy_processes(self.busy):
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
            compare_outputs(results, {name: stored(folder / f"{name}.npz") for name in results}, steps, self.tolerance)
            for name in peers_in(results):
                results[name]["left_out"] = why_not(name, results, self.any_precision)
        else:
            skipped.pop(AGAIN, None)  # for the same reason
        best, margins = best_peer(results, self.any_precision), noise(results)
        figures: dict[str, Any] = {
            "model": title,
            "inputs": {name: list(value.shape) for name, value in feeds.items()},
            "kind": kind,
            "threads": self.threads,
            "batch": self.batch,
            "busy": self.busy,
            "fma_peak_gflops": peaks,
            "engines": results,
            "skipped": skipped,
            "best_peer": best,
            "noise": margins,
            "verdict": verdict(best, margins),
        }
        return Record(figures)


def far_slower(times: Mapping[str, Sequence[Sequence[float]]], name: str, turn_ms: float) -> bool:
    """Whether an engine's shortest time is `FAR_SLOWER` ours and half a turn; unknown before the first turns."""
    ours, theirs = times.get("cnnengine"), times[name]
    if not ours or not theirs:
        return False
    shortest = min(map(min, theirs))
    return 2 * shortest > turn_ms and shortest > FAR_SLOWER * min(map(min, ours))


# ---------------------------------------------------------------- inputs
def inputs_of(case: Case, batch: int, model: onnx.ModelProto | None = None) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The input arrays in the order of the graph, and the extents that its named dimensions take."""
    graph = (model or read(os.fspath(case.path))).graph
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


def bare(path: Path, model: onnx.ModelProto, folder: Path) -> Path:
    """The file, or, of one that lists its weights as inputs too, a copy without: converters take them for what is fed.

    `model` is altered.
    """
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    fed = [value for value in model.graph.input if value.name not in weights]
    if len(fed) == len(model.graph.input):
        return path
    del model.graph.input[:]
    model.graph.input.extend(fed)
    target = folder / "bare.onnx"
    large = model.ByteSize() > LARGE
    onnx.save(model, target, save_as_external_data=large, location="bare.onnx.data" if large else None)
    return target


def stored(path: Path) -> list[np.ndarray]:
    """The outputs that a worker wrote."""
    with np.load(path) as file:
        return [file[key] for key in sorted(file.files)]
