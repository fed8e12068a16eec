"""Whole networks: cnnengine against other engines on the same machine in the same minutes.

    python benchmarks/compare.py resnet18.ts mobilenet_v2.ts --against onnxruntime,openvino,torch,ncnn --threads 1

MODEL is an ONNX file or the name of a zoo model (tests/zoo, or the folder in CNNENGINE_ZOO), which is completed with its
seeded weights in a cache folder. Every engine runs in a process of its own, one request at a time; the engines take turns
over many rounds, and all but the one whose turn it is are stopped. The first run of a turn is not counted. All get the same
input, and their outputs are compared. Times are those of a single request from arrays to arrays, in milliseconds: the
minimum is the machine undisturbed, median and 90th percentile say how it was. Only ratios within one report count: other
hours and machines have other clocks.

Peers may live in another environment than cnnengine: --peer-python /path/to/python. torch runs the file through onnx2torch,
ncnn through pnnx (`pip install --no-deps onnx2torch pnnx`). A peer that is missing, or cannot run a model, is skipped with
a line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import engines
import harness
import numpy as np
import zoo_support  # of tests/, which harness puts on the path

DIFFERS = 1e-3
"""Outputs further apart than this, relative to the largest absolute value, are not the same computation."""


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="ONNX file, or zoo name such as resnet18.ts")
    peers = [name for name in engines.LOADERS if name != "cnnengine"]
    parser.add_argument("--against", default=",".join(peers), help=f"peers, by default {','.join(peers)}; '' for none")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1, help="extent of a dynamic axis 0")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each engine (10)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn (1.0), at least three runs")
    parser.add_argument("--shape", action="append", default=[], metavar="NAME=1x3x224x224", help="of an input with dynamic axes")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter of the peers (this one)")
    parser.add_argument("--ours", default="cnnengine", choices=list(engines.LOADERS), help="what ratios refer to (cnnengine)")
    parser.add_argument("--fail-above", type=float, metavar="RATIO", help="exit code 1 when ours/peer exceeds it in the median")
    parser.add_argument("--cache", help="folder for completed zoo models (the user's cache folder)")
    parser.add_argument("--json", metavar="FILE", help="write every figure there too")
    options = parser.parse_args(argv)
    options.against = [name for name in options.against.split(",") if name and name != options.ours]
    for name in options.against:
        if name not in engines.LOADERS:
            parser.error(f"unknown engine {name!r}; there are {', '.join(engines.LOADERS)}")
    if options.threads < 1 or options.batch < 1 or options.rounds < 1 or options.seconds <= 0:
        parser.error("--threads, --batch, --rounds and --seconds must be positive")
    return options


def prepare(model: str, options: argparse.Namespace) -> tuple[Path, dict[str, np.ndarray], dict[str, int]]:
    """The file of a model, its input arrays in the order of the graph, and the extents that its named dimensions take."""
    import onnx

    asked = {}
    for text in options.shape:
        name, _, extents = text.rpartition("=")
        asked[name] = tuple(int(d) for d in extents.split("x"))
    zoo = not Path(model).is_file()
    try:
        path = zoo_support.materialized(model, options.cache) if zoo else Path(model).resolve()
    except KeyError as error:
        raise SystemExit(f"{model}: no such file, and {error.args[0]}") from None
    graph = onnx.load(os.fspath(path), load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    seeded = zoo_support.feeds(model) if zoo else {}
    feeds: dict[str, np.ndarray] = {}
    dims: dict[str, int] = {}
    for position, value in enumerate(v for v in graph.input if v.name not in constants):
        kind = value.type.tensor_type
        shape = list(asked.get(value.name, ()))
        for axis, dim in enumerate(kind.shape.dim):
            fixed = dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
            if len(shape) <= axis:
                if value.name in seeded and (fixed or axis):
                    shape.append(seeded[value.name].shape[axis])
                elif fixed or not axis:
                    shape.append(fixed or options.batch)
                else:
                    raise SystemExit(f"{model}: input {value.name!r} has dynamic axes; say --shape {value.name}=1x3x224x224")
            if fixed and shape[axis] != fixed:
                raise SystemExit(f"{model}: axis {axis} of input {value.name!r} is fixed to {fixed}, not {shape[axis]}")
            if dim.dim_param:
                dims[dim.dim_param] = shape[axis]
        if not position and shape and shape[0] != options.batch and value.name not in asked:
            raise SystemExit(f"{model}: its batch is fixed to {shape[0]}, --batch {options.batch} is not possible")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if value.name in seeded and tuple(shape[1:]) == seeded[value.name].shape[1:]:
            feeds[value.name] = zoo_support.feeds(model, shape[0] if shape[0] != seeded[value.name].shape[0] else None)[
                value.name
            ]
        elif np.issubdtype(dtype, np.floating):
            feeds[value.name] = np.random.default_rng(position).standard_normal(shape).astype(dtype)
        else:
            feeds[value.name] = np.ones(shape, dtype)
    return path, feeds, dims


def difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """Largest difference relative to the output's largest absolute value; infinite when count, size or finiteness differ."""
    if len(ours) != len(theirs):
        return float("inf")
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        if a.size != b.size:
            return float("inf")
        if a.size:
            wide = a.astype(np.float64).reshape(-1)
            gap = np.abs(wide - b.astype(np.float64).reshape(-1)).max()
            worst = max(worst, float(gap / (np.abs(wide).max() or 1.0))) if np.isfinite(gap) else float("inf")
    return worst


def stored_outputs(path: Path) -> list[np.ndarray]:
    with np.load(path) as stored:
        return [stored[key] for key in sorted(stored.files)]


def measure(model: str, names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one model, by engine."""
    path, feeds, dims = prepare(model, options)
    results: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    peaks: list[float] = []
    workers: dict[str, harness.Worker] = {}
    with tempfile.TemporaryDirectory(prefix="cnnengine-compare-") as folder:
        feeds_file = Path(folder) / "feeds.npz"
        np.savez(feeds_file, **{f"{i:03d}": value for i, value in enumerate(feeds.values())})  # type: ignore[arg-type]
        try:
            for name in names:
                python = sys.executable if name == "cnnengine" else options.peer_python
                home = Path(folder) / name
                home.mkdir()
                script = os.fspath(Path(engines.__file__).resolve())
                files = [os.fspath(path), os.fspath(feeds_file), os.fspath(home / "outputs.npz")]
                worker = harness.Worker([python, script, name, *files, str(options.threads)])
                workers[name] = worker
                try:
                    results[name] = worker.ask(do="load", names=list(feeds), dims=dims)
                except harness.WorkerError as error:
                    skipped[name] = str(error)
                    workers.pop(name).close()
            times: dict[str, list[list[float]]] = {name: [] for name in workers}
            for turn in range(options.rounds):
                order = list(workers)
                order = order[turn % len(order) :] + order[: turn % len(order)] if order else []
                if "cnnengine" in workers:
                    peak = workers["cnnengine"].ask(do="peak", seconds=0.1)["gflops"]
                    peaks += [peak] if peak else []
                for name in order:
                    try:
                        times[name].append(workers[name].ask(do="run", seconds=options.seconds)["times_ms"])
                    except harness.WorkerError as error:
                        skipped[name] = str(error)
                        workers.pop(name).close()
                        results.pop(name)
            for name, worker in workers.items():
                results[name] |= worker.ask(do="memory")
                results[name] |= harness.summary([t for turn_times in times[name] for t in turn_times])
                results[name]["rounds"] = [harness.summary(turn_times) for turn_times in times[name]]
            if options.ours in results:
                ours = stored_outputs(Path(folder) / options.ours / "outputs.npz")
                for name, result in results.items():
                    if name != options.ours:
                        result["difference"] = difference(ours, stored_outputs(Path(folder) / name / "outputs.npz"))
                        for which in ("min", "median"):
                            result[f"ours_over_this_{which}"] = results[options.ours][f"{which}_ms"] / result[f"{which}_ms"]
        finally:
            for worker in workers.values():
                worker.close()
    shapes = {name: list(value.shape) for name, value in feeds.items()}
    return {"model": model, "inputs": shapes, "engines": results, "skipped": skipped, "fma_peak_gflops": peaks}


def report(figures: dict[str, Any], ours: str) -> str:
    """The table of one model."""

    def number(value: float | None, digits: int = 2) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in figures["inputs"].items())
    peaks = figures["fma_peak_gflops"]
    lines = ["", f"{figures['model']}  ({shapes}; FMA peak {harness.spread(peaks) + ' GFLOP/s' if peaks else 'n/a'})"]
    head = ["engine", "min ms", "median", "p90", "runs", "load+first s", "resident MB", "of it model"]
    rows = [[*head, "ours/this min", "ours/this med", "max |diff|"]]
    for name, result in figures["engines"].items():
        resident, before = result["resident_mb"], result["before_load_mb"]
        growth = None if resident is None or before is None else resident - before
        digits = 3 if result["median_ms"] < 10 else 2
        gap = result.get("difference")
        rows.append(
            [
                name,
                *(number(result[key], digits) for key in ("min_ms", "median_ms", "p90_ms")),
                str(result["runs"]),
                number(result["load_and_first_run_s"], 3),
                number(resident, 1),
                number(growth, 1),
                number(result.get("ours_over_this_min")),
                number(result.get("ours_over_this_median")),
                "-" if gap is None else f"{gap:.1e}" + (" DIFFERS" if gap > DIFFERS else ""),
            ]
        )
    lines.append(harness.table(rows) if len(rows) > 1 else "no engine ran")
    lines += [f"{name}: skipped: {reason}" for name, reason in figures["skipped"].items()]
    if ours not in figures["engines"]:
        lines.append(f"{ours} did not run: no ratios, no comparison of outputs")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    packages = sorted({package for needs in engines.NEEDS.values() for package in needs} | {"numpy", "onnx", "pnnx"})
    here, there = harness.probe(sys.executable, packages), harness.probe(options.peer_python, packages)
    names, absent = [options.ours], {}
    for name in options.against:
        missing = [p for p in engines.NEEDS[name] if there["packages"][p] is None]
        if missing and name != "cnnengine":
            absent[name] = ", ".join(missing)
        else:
            names.append(name)
    head = harness.machine_head() | {"threads": options.threads, "batch": options.batch}
    print(f"{head['date']}  {head['cpu']}, {head['cpus']} CPUs, {head['system']}, load {head['load']}")
    print(f"threads {options.threads}, batch {options.batch}, {options.rounds} rounds of {options.seconds:g} s; float32")
    ours_text = f"numpy {here['packages']['numpy']}, onnx {here['packages']['onnx']}"
    print(f"Python {here['python']}, {ours_text}; peers: Python {there['python']}")
    versions = {p: there["packages"][p] for name in names if name != "cnnengine" for p in engines.NEEDS[name]}
    if "ncnn" in names:
        versions["pnnx"] = there["packages"]["pnnx"]
    print(", ".join(f"{package} {version or '(none)'}" for package, version in versions.items()) or "no peers")
    try:
        config = harness.cnnengine_config()
    except (ImportError, AttributeError, OSError) as error:
        config = f"not usable: {error!r}"
    print("cnnengine: " + "\n           ".join(config.splitlines()))
    for name, packages_text in absent.items():
        print(f"{name}: skipped: {options.peer_python} has no {packages_text}")
    sys.stdout.flush()

    everything: dict[str, Any] = {"machine": head, "versions": versions, "cnnengine": config, "absent": absent, "models": []}
    everything["settings"] = {"rounds": options.rounds, "seconds": options.seconds, "ours": options.ours}
    failed = False
    for model in options.models:
        figures = measure(model, names, options)
        everything["models"].append(figures)
        print(report(figures, options.ours), flush=True)
        failed |= options.ours not in figures["engines"]
        gaps = [result["difference"] for result in figures["engines"].values() if "difference" in result]
        failed |= bool(gaps) and min(gaps) > DIFFERS  # a peer alone with its result is shown, and is not our failure
        for result in figures["engines"].values():
            failed |= options.fail_above is not None and result.get("ours_over_this_median", 0.0) > options.fail_above
        if options.json:
            Path(options.json).write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
