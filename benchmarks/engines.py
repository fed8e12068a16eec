"""One engine, one model, in a process of its own: the worker behind compare.py.

    python engines.py ENGINE MODEL FEEDS.npz OUTPUTS.npz THREADS

Settings are those that serve each engine best at the asked number of threads, float32 throughout: the shapes are made known to
the engines that can use them before compiling (OpenVINO reshape, onnxruntime free dimension overrides, pnnx inputshape).
FEEDS.npz holds the input arrays as 000, 001 ... in the order of the model's inputs, OUTPUTS.npz will hold the outputs of
the first run.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np

Feeds = dict[str, np.ndarray]
Run = Callable[[], list[np.ndarray]]
"""One request: from the input arrays to the output arrays."""


def load_cnnengine(model: str, feeds: Feeds, threads: int) -> Run:
    m = harness.import_cnnengine().load(model, threads=threads)
    return lambda: m.run(None, feeds)


def load_onnxruntime(model: str, feeds: Feeds, threads: int, dims: dict[str, int]) -> Run:
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    for name, extent in dims.items():
        options.add_free_dimension_override_by_name(name, extent)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)


def load_openvino(model: str, feeds: Feeds, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    graph = core.read_model(model)
    graph.reshape({name: list(value.shape) for name, value in feeds.items()})
    hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(graph, "CPU", hints).create_infer_request()
    return lambda: list(request.infer(feeds, share_inputs=True, share_outputs=True).values())


def torchvision_stand_in() -> tuple[types.ModuleType, types.ModuleType]:
    """torchvision and torchvision.ops by name alone: onnx2torch imports them for detection operators, of which a CNN has none."""

    def absent(*args: object, **kwargs: object) -> object:
        raise NotImplementedError("the model uses a detection operator of torchvision, which is not installed")

    def lookup(name: str) -> Callable[..., object]:
        if name.startswith("__"):  # what Python itself asks a module for
            raise AttributeError(name)
        return absent

    package, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    package.__dict__.update(ops=ops, __path__=[])
    ops.__dict__["__getattr__"] = lookup
    return package, ops


def load_torch(model: str, feeds: Feeds, threads: int) -> Run:
    import torch

    if importlib.util.find_spec("torchvision") is None:
        sys.modules["torchvision"], sys.modules["torchvision.ops"] = torchvision_stand_in()
    from onnx2torch import convert

    torch.set_num_threads(threads)
    module = convert(model).eval()
    arguments = [torch.from_numpy(value) for value in feeds.values()]

    def run() -> list[np.ndarray]:
        with torch.inference_mode():
            result = module(*arguments)
        return [t.numpy() for t in (result if isinstance(result, tuple | list) else (result,))]

    return run


def convert_ncnn(model: str, feeds: Feeds) -> tuple[str, str]:
    """The model in ncnn's form, made by pnnx beside this worker's other files."""
    if any(value.shape[0] != 1 or value.dtype != np.float32 for value in feeds.values()):
        raise NotImplementedError("ncnn takes float32 inputs at batch 1 only")
    spec = importlib.util.find_spec("pnnx")
    beside = Path(spec.origin).parent / "pnnx" if spec is not None and spec.origin else None
    tool = os.fspath(beside) if beside is not None and beside.is_file() else shutil.which("pnnx")
    if tool is None:
        raise ModuleNotFoundError("the converter is missing: pip install --no-deps pnnx")
    folder = Path(sys.argv[4]).parent / "ncnn"
    folder.mkdir(exist_ok=True)
    link = folder / "model.onnx"
    if not link.exists():
        link.symlink_to(os.path.abspath(model))
    shapes = ",".join("[" + ",".join(map(str, value.shape)) + "]" for value in feeds.values())
    command = [tool, "model.onnx", f"inputshape={shapes}", "fp16=0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    files = folder / "model.ncnn.param", folder / "model.ncnn.bin"
    if done.returncode or not all(path.is_file() for path in files):
        raise RuntimeError(f"pnnx could not convert the model: {(done.stderr or done.stdout).strip()[-200:]}")
    return os.fspath(files[0]), os.fspath(files[1])


def load_ncnn(model: str, feeds: Feeds, threads: int, files: tuple[str, str]) -> Run:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, name, False)
    if net.load_param(files[0]) or net.load_model(files[1]):
        raise RuntimeError("ncnn does not load what pnnx made")
    sources, results = list(net.input_names()), list(net.output_names())

    def run() -> list[np.ndarray]:
        outputs = []
        with net.create_extractor() as extractor:
            for source, value in zip(sources, feeds.values(), strict=True):
                extractor.input(source, ncnn.Mat(value[0]))
            for result in results:
                code, value = extractor.extract(result)
                if code:
                    raise RuntimeError(f"ncnn gives no {result} (code {code})")
                outputs.append(np.array(value)[None])
        return outputs

    return run


LOADERS: dict[str, Callable[..., Run]] = {
    "cnnengine": load_cnnengine,
    "onnxruntime": load_onnxruntime,
    "openvino": load_openvino,
    "torch": load_torch,
    "ncnn": load_ncnn,
}
NEEDS = {
    "cnnengine": ("cnnengine",),
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "torch": ("torch", "onnx2torch"),
    "ncnn": ("ncnn",),
}
"""The packages of each engine, the one whose import time counts first."""


def main() -> None:
    engine, model, feeds_file, outputs_file, threads_text = sys.argv[1:6]
    threads = int(threads_text)
    with np.load(feeds_file) as stored:
        arrays = [np.ascontiguousarray(stored[key]) for key in sorted(stored.files)]
    state: dict[str, Run] = {}

    def load(names: list[str], dims: dict[str, int]) -> dict[str, Any]:
        clock = time.perf_counter
        feeds = dict(zip(names, arrays, strict=True))
        start = clock()
        if engine == "cnnengine":
            harness.import_cnnengine()
        else:
            importlib.import_module(NEEDS[engine][0])
        imported = clock() - start
        before = harness.resident_mb()
        extra: dict[str, Any] = {}
        if engine == "ncnn":
            extra["files"] = convert_ncnn(model, feeds)
        if engine == "onnxruntime":
            extra["dims"] = dims
        start = clock()
        state["run"] = run = LOADERS[engine](model, feeds, threads, **extra)
        loaded = clock() - start
        outputs = run()
        first = clock() - start
        np.savez(outputs_file, **{f"{i:03d}": value for i, value in enumerate(outputs)})  # type: ignore[arg-type]
        return {"import_s": imported, "load_s": loaded, "load_and_first_run_s": first, "before_load_mb": before}

    def config() -> dict[str, Any]:
        return {"config": harness.cnnengine_config()}

    def peak(seconds: float) -> dict[str, Any]:
        return {"gflops": harness.fma_peak(threads, seconds)}

    def run(seconds: float) -> dict[str, Any]:
        return {"times_ms": [round(t, 5) for t in harness.timed(state["run"], seconds)]}

    def memory() -> dict[str, Any]:
        return {"resident_mb": harness.resident_mb()}

    harness.serve({"load": load, "config": config, "peak": peak, "run": run, "memory": memory})


if __name__ == "__main__":
    main()
