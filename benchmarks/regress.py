"""Compare two commits kernel by kernel and model by model, in interleaved runs.

    python benchmarks/regress.py main HEAD
    python benchmarks/regress.py v0.1.0 . --kernels conv --models mobilenet_v2.ts resnet18.ts
    python benchmarks/regress.py main HEAD --loads resnet50.ts ssdlite320.ts

Each commit becomes a git worktree in a temporary folder, built in place (CNNENGINE_ISAS makes that quick; `--trees FOLDER` keeps
the builds for the next time); `.` is this working tree as it is built now. Each runs in a process of its own, and the two take
turns, the other one stopped, so that what the machine does meanwhile hits both. A round gives one ratio, the shortest time of the
second over that of the first. Printed are the median of the rounds' ratios and an interval that holds the true median with at
least 95 % confidence, whatever the distribution (order statistics). What looks slower is measured again, with twice the rounds,
before it counts.

Exit code 1 when something is slower: its whole interval lies above 1 + --threshold. 2 when a commit cannot be built.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness
import suite

Item = dict[str, Any]
"""What is measured: "kind" (layer, function, model, or load: a model loaded and run once), "title", and where to find it."""


# ---------------------------------------------------------------- a worker
class Tree:
    """The worker's side: the cnnengine of one tree, one item at a time."""

    def __init__(self) -> None:
        self.call: Any = list

    def start(self) -> dict[str, Any]:
        cnnengine = importlib.import_module("cnnengine")
        return {"file": cnnengine.__file__, "isa": cnnengine.show_config()["isa"]}

    def prepare(self, kind: str, key: Any, threads: int, feeds: str = "") -> dict[str, Any]:
        import numpy as np

        if kind == "layer":
            families = importlib.import_module("families")
            side = families.Ours()
            side.prepare(key, threads, "")
            model, x = side.models["chosen"], side.x
            self.call = lambda: model(x)
        elif kind == "function":
            layers = importlib.import_module("layers")
            side = layers.Side("cnnengine", tempfile.gettempdir(), threads)
            side.start()
            side.bind(key)
            self.call = side.call
        else:
            load = importlib.import_module("cnnengine").load
            with np.load(feeds) as file:
                arrays = {name: file[name] for name in file.files}
            if kind == "load":
                self.call = lambda: load(key, threads=threads).run(None, arrays)
            else:
                model = load(key, threads=threads)
                self.call = lambda: model.run(None, arrays)
        self.call()
        return {}

    def run(self, seconds: float) -> dict[str, Any]:
        return {"times_ms": harness.worker.timed(self.call, seconds)}


# ---------------------------------------------------------------- statistics
def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of the median by order statistics; the extremes when there are too few values for the confidence."""
    ordered = sorted(values)
    n = len(ordered)
    outside, k = 0.0, 0
    while k < n // 2:
        outside += math.comb(n, k) / 2**n
        if 2 * outside > 1 - confidence:
            break
        k += 1
    k = max(k - 1, 0)
    return ordered[k], ordered[n - 1 - k]


def verdict(low: float, high: float, threshold: float) -> str:
    """Of an interval of ratios."""
    if low > 1 + threshold:
        return "slower"
    return "faster" if high < 1 / (1 + threshold) else ""


# ---------------------------------------------------------------- the trees
def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=harness.ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def built(commit: str, folder: Path) -> Path:
    """The tree of a commit with its extensions, made in `folder` unless it is there."""
    if commit == ".":
        return harness.ROOT
    digest = git("rev-parse", "--verify", f"{commit}^{{commit}}")
    tree = folder.resolve() / digest[:16]
    done = tree / "built"
    if done.is_file():
        return tree
    if not tree.is_dir():
        git("worktree", "prune")
        git("worktree", "add", "--detach", os.fspath(tree), digest)
    print(f"building {commit} ({digest[:12]}) ...", flush=True)
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    with open(tree / "build.log", "w", encoding="utf-8") as log:
        code = subprocess.run(command, cwd=tree, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        tail = (tree / "build.log").read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        raise BuildError("\n".join([f"{commit} does not build:", *tail]))
    done.touch()
    return tree


class BuildError(RuntimeError):
    """A commit that cannot be built."""


# ---------------------------------------------------------------- the comparison
def items(kernels: str | None, models: Sequence[str], loads: Sequence[str], threads: int, folder: Path) -> list[Item]:
    """What the options ask for; without any, every kernel."""
    import layers
    import numpy as np

    found: list[Item] = []
    if kernels is not None or not (models or loads):
        parts = (kernels or "").split(",")
        for index, layer in enumerate(suite.LAYERS):
            title = f"{layer.operator} {layer.family}: {layer.title}"
            if any(part.lower() in title.lower() for part in parts):
                found.append({"kind": "layer", "key": index, "title": title})
        for index, case in enumerate(layers.CASES):
            # those that compute are layers above
            if not case.flops and any(part.lower() in case.name.lower() for part in parts):
                found.append({"kind": "function", "key": index, "title": case.name})
    for kind, name in [*(("model", n) for n in models), *(("load", n) for n in loads)]:
        import zoo_support

        from cnnengine.bench import Case
        from cnnengine.bench.compare import inputs_of

        if Path(name).is_file():
            path, feeds = Path(name).resolve(), inputs_of(Case(name), 1)[0]
        else:
            path, feeds = zoo_support.materialized(name), zoo_support.feeds(name)
        stored = folder / f"feeds{len(found)}.npz"
        np.savez(stored, **feeds)  # type: ignore[arg-type]
        title = name if kind == "model" else f"{name}: load and first run"
        found.append({"kind": kind, "key": os.fspath(path), "title": title, "feeds": os.fspath(stored)})
    return found


def measure(item: Item, workers: Sequence[Any], options: argparse.Namespace) -> dict[str, Any]:
    """Ratios of the second tree's time to the first's over the rounds, measured again when it looks slower."""
    from cnnengine.bench import WorkerError

    figures: dict[str, Any] = {"kind": item["kind"], "title": item["title"]}
    request = {key: item[key] for key in ("kind", "key", "feeds") if key in item}
    for side, worker in zip("AB", workers, strict=True):
        try:
            worker.ask(do="prepare", threads=options.threads, **request)
        except WorkerError as error:
            return figures | {"reason": f"{side}: {error}"}
    for rounds in (options.rounds, 2 * options.rounds):
        pairs = []
        for turn in range(rounds):
            shortest = [0.0, 0.0]
            for i in (0, 1) if turn % 2 else (1, 0):
                shortest[i] = min(workers[i].ask(do="run", seconds=options.seconds)["times_ms"])
            pairs.append(shortest)
        ratios = [b / a for a, b in pairs]
        low, high = interval(ratios)
        figures |= {"a_ms": min(a for a, _ in pairs), "b_ms": min(b for _, b in pairs), "rounds": rounds}
        figures |= {"ratio": statistics.median(ratios), "low": low, "high": high}
        figures["verdict"] = verdict(low, high, options.threshold)
        if figures["verdict"] != "slower":
            break
    return figures


def row(figures: dict[str, Any]) -> list[str]:
    if "reason" in figures:
        return [figures["title"], "-", "-", "-", "-", "not measured"]
    between = f"{figures['low']:.3f} .. {figures['high']:.3f}"
    return [
        figures["title"],
        f"{figures['a_ms']:.4f}",
        f"{figures['b_ms']:.4f}",
        f"{figures['ratio']:.3f}",
        between,
        figures["verdict"],
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", metavar="COMMIT_A", help="the older commit, or . for this working tree")
    parser.add_argument("b", metavar="COMMIT_B", help="the newer one")
    parser.add_argument(
        "--kernels",
        nargs="?",
        const="",
        metavar="TEXT",
        help="kernels whose name contains it; several by commas (without models: all)",
    )
    parser.add_argument("--models", nargs="*", default=[], metavar="MODEL", help="ONNX files and names of the zoo")
    parser.add_argument(
        "--loads", nargs="*", default=[], metavar="MODEL", help="models that are loaded and run once, again and again"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12, help="turns of each commit (12)")
    parser.add_argument("--seconds", type=float, default=0.03, help="length of a turn (0.03)")
    parser.add_argument("--threshold", type=float, default=0.05, help="part by which slower counts (0.05)")
    parser.add_argument("--trees", type=Path, metavar="FOLDER", help="keep the built trees there (a temporary folder)")
    parser.add_argument("--json", metavar="FILE", help="write every figure there too")
    options = parser.parse_args(argv)
    if options.threads < 1 or options.rounds < 1 or options.seconds < 0 or options.threshold < 0:
        parser.error("--threads and --rounds must be positive, --seconds and --threshold not negative")

    from cnnengine.bench.harness import Worker, machine_head
    from cnnengine.bench.show import table

    beside = os.fspath(Path(__file__).resolve().parent)
    workers: list[Worker] = []
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="cnnengine-regress-") as temporary:
        folder = Path(temporary)
        home = options.trees or folder / "trees"
        try:
            trees = [built(commit, home) for commit in (options.a, options.b)]
            head = machine_head()
            print(f"{head['date']}  {head['cpu']}, load {head['load']}; {options.threads} threads")
            for side, commit, tree in zip("AB", (options.a, options.b), trees, strict=True):
                command = [sys.executable, os.path.abspath(__file__), "--worker"]
                workers.append(Worker(command, environment={"PYTHONPATH": os.pathsep.join([os.fspath(tree), beside])}))
                started = workers[-1].ask(do="start")
                if not Path(started["file"]).is_relative_to(tree):
                    raise SystemExit(f"{commit}: {started['file']} was imported instead of {tree}")
                print(f"{side}: {commit}, {started['isa']}")
            for item in items(options.kernels, options.models, options.loads, options.threads, folder):
                if sys.stderr.isatty():
                    print(f"\r{item['title']:<78.78}", end="", file=sys.stderr)
                results.append(measure(item, workers, options))
        except BuildError as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130
        finally:
            for worker in workers:
                worker.close()
            if options.trees is None and home.is_dir():
                for tree in home.iterdir():
                    git("worktree", "remove", "--force", os.fspath(tree))
    if sys.stderr.isatty():
        print("\r" + " " * 78 + "\r", end="", file=sys.stderr)
    print(table([["what", "A ms", "B ms", "B / A", "95 % interval", "verdict"], *map(row, results)]))
    for figures in results:
        if "reason" in figures:
            print(f"{figures['title']}: {figures['reason']}")
    measured = [figures for figures in results if "reason" not in figures]
    slower = [figures for figures in measured if figures["verdict"] == "slower"]
    if measured:
        mean = math.exp(sum(math.log(figures["ratio"]) for figures in measured) / len(measured))
        print(f"{len(measured)} measured, geometric mean B / A {mean:.3f}; slower by over {options.threshold:.0%}: {len(slower)}")
    if options.json:
        Path(options.json).write_text(json.dumps({"head": head, "items": results}, indent=1) + "\n", encoding="utf-8")
    return int(bool(slower))


def worker() -> None:
    tree = Tree()
    harness.worker.serve({"start": tree.start, "prepare": tree.prepare, "run": tree.run})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker()
    else:
        sys.exit(main())
