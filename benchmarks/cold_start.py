"""A folder as small services ship it: how large it is, and the time from the start of a process to its first result.

    cnnengine bench --setup --against onnxruntime,ncnn,litert       # converters of ncnn's and LiteRT's files
    python benchmarks/cold_start.py [mobilenet_v2.ts] --wheel dist/cnnengine-*.whl [--rounds 20] [--threads 1]

Each engine is installed by `pip install --target FOLDER`, with all that it asks for, and started in processes that see nothing
but their folder (`python -I -S`), in turns. A process imports the engine, loads the model, runs it once and says so; the time
counts from before the process is made until the word comes. The first row is a process that imports NumPy and ends there, from
cnnengine's folder. Before the first round each has run once: its files lie in memory, and Python has written its .pyc.

Sizes are the bytes of the files, .pyc left out; "beyond NumPy" is without numpy and numpy.libs. Every engine is at its defaults
but for the number of threads, and prints where its largest result is, which tells that all read the same model.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import onnx
import zoo_support
from harness import ROOT

from cnnengine.bench.environments import default_cache, hint, interpreter

PACKAGES = {
    "cnnengine": ["cnnengine"],
    "onnxruntime": ["onnxruntime==1.31.1"],
    "litert": ["ai-edge-litert==2.3.0"],
    "ncnn": ["ncnn==1.0.20261020"],
}
CONVERTED = ("litert", "ncnn")
START = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
files, shape, threads = sys.argv[4:], [int(n) for n in sys.argv[2].split("x")], int(sys.argv[3])
x = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
"""
PROGRAMS = {
    "numpy": "y = x",
    "cnnengine": """
import cnnengine
y = cnnengine.load(files[0], threads=threads)(x)
""",
    "onnxruntime": """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(files[0], options, providers=["CPUExecutionProvider"])
y = session.run(None, {session.get_inputs()[0].name: x})[0]
""",
    "litert": """
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=files[0], num_threads=threads)
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
interpreter.invoke()
y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
""",
    "ncnn": """
import ncnn
net = ncnn.Net()
net.opt.num_threads = threads
net.load_param(files[0])
net.load_model(files[1])
with net.create_extractor() as extractor:
    extractor.input(net.input_names()[0], ncnn.Mat(x[0]))
    y = np.array(extractor.extract(net.output_names()[0])[1])
""",
}
END = """
print(int(np.asarray(y).argmax()), flush=True)
"""
CONVERT = """
import importlib.util, json, sys
import numpy as np
spec = importlib.util.spec_from_file_location("engines", sys.argv[1])
engines = importlib.util.module_from_spec(spec)
sys.modules["engines"] = engines
spec.loader.exec_module(engines)
job = engines.Job(**json.loads(sys.argv[3]))
engine = engines.ENGINES[sys.argv[2]]()
engine.prepare(job, {"x": np.zeros(job.shapes[0], np.float32)})
found = [engine.made] if hasattr(engine, "made") else [engine.param, engine.bin]
print(json.dumps([str(path) for path in found]))
"""


def installed(engine: str, folder: Path, wheel: Path | None) -> Path:
    """A folder with an engine and what it asks for; made where it is not there."""
    target = folder / engine
    if engine == "cnnengine" or not target.is_dir():
        packages = [str(wheel)] if engine == "cnnengine" and wheel else PACKAGES[engine]
        command = [sys.executable, "-m", "pip", "install", "-q", "--upgrade", "--target", str(target), *packages]
        subprocess.run(command, check=True)
    return target


def megabytes(folder: Path) -> tuple[float, float]:
    """Of all files, and of those that are not NumPy's."""
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    beyond = sum(size for path, size in sizes.items() if not path.relative_to(folder).parts[0].startswith("numpy"))
    return sum(sizes.values()) / 1e6, beyond / 1e6


def converted(engine: str, model: Path, shape: Sequence[int], threads: int) -> list[str]:
    """The model in an engine's own form, by the converter of `cnnengine bench`, which keeps it."""
    python = interpreter(engine, default_cache())
    if python is None:
        sys.exit(f"{engine}'s converter is missing: {hint(engine)}")
    job = {"model": str(model), "bare": str(model), "threads": threads, "shapes": [list(shape)], "folder": str(default_cache())}
    engines = ROOT / "cnnengine" / "bench" / "engines.py"
    command = [python, "-c", CONVERT, str(engines), engine, json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    files: list[str] = json.loads(done.stdout.splitlines()[-1])
    return files


def once(program: str, arguments: Sequence[str]) -> tuple[float, str]:
    """Milliseconds until a new process says its result, and what it said."""
    command = [sys.executable, "-I", "-S", "-c", START + program + END, *arguments]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        told = process.stdout.readline().strip()
        taken = time.perf_counter() - start
        process.stdout.read()
    if process.returncode or not told:
        sys.exit(f"ended with status {process.returncode}: {' '.join(command[4:])[:2000]}")
    return taken * 1e3, told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="mobilenet_v2.ts", help="a name of the zoo, or an ONNX file of one input")
    parser.add_argument("--wheel", type=Path, help="cnnengine's wheel; without it pip takes the last release")
    parser.add_argument("--folder", type=Path, default=default_cache() / "cold_start", help="where the engines are installed")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    model = Path(args.model) if os.path.exists(args.model) else zoo_support.materialized(args.model)
    (given,) = onnx.load(model, load_external_data=False).graph.input
    shape = [axis.dim_value or 1 for axis in given.type.tensor_type.shape.dim]
    folders = {engine: installed(engine, args.folder, args.wheel) for engine in PACKAGES}
    files = {
        engine: converted(engine, model, shape, args.threads) if engine in CONVERTED else [str(model)] for engine in PACKAGES
    }
    rest = ["x".join(map(str, shape)), str(args.threads)]
    rows = {"numpy": [str(folders["cnnengine"]), *rest]}
    rows |= {engine: [str(folders[engine]), *rest, *files[engine]] for engine in PACKAGES}
    told = {engine: once(PROGRAMS[engine], arguments)[1] for engine, arguments in rows.items()}
    times: dict[str, list[float]] = {engine: [] for engine in rows}
    for _ in range(args.rounds):
        for engine, arguments in rows.items():
            times[engine].append(once(PROGRAMS[engine], arguments)[0])
    print(f"{model.name}, {args.threads} threads, {args.rounds} rounds, Python {sys.version.split()[0]}\n")
    print("| engine | folder MB | beyond NumPy MB | first result ms, minimum | median | largest at |\n|---|---|---|---|---|---|")
    for engine, taken in times.items():
        whole, beyond = megabytes(folders[engine]) if engine in folders else (float("nan"), float("nan"))
        sizes = f"{whole:.1f} | {beyond:.1f}" if engine in folders else "|"
        print(f"| {engine} | {sizes} | {min(taken):.0f} | {statistics.median(taken):.0f} | {told[engine]} |")


if __name__ == "__main__":
    main()
