"""One engine in a process of its own: what `harness.Worker` starts and asks.

    python worker.py ENGINE

The file stands alone: it runs under interpreters that hold nothing but one engine and numpy, so it imports nothing of the package
but what the engine cnnengine needs. It answers one JSON line on standard output per JSON line on standard input.

Settings are those that serve each engine best at the asked number of threads, float32 throughout: shapes are made known to the
engines that can use them before compiling (OpenVINO reshape, onnxruntime free dimension overrides, pnnx inputshape); torch runs
in inference mode, torch.compile with the weights frozen.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pkgutil
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PR_SET_PDEATHSIG = 1
CONVERSION_SECONDS = 300
"""pnnx is given up after this time."""

Feeds = dict[str, np.ndarray]
Run = Callable[[], list[np.ndarray]]
"""One request: from the input arrays to the output arrays."""
NEEDS = {
    "cnnengine": ("cnnengine",),
    "torch": ("torch", "onnx2torch"),
    "torch-compile": ("torch", "onnx2torch"),
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "ncnn": ("ncnn", "pnnx"),
}
"""The packages of each engine, by the names that they are installed by; the first is the engine itself."""


# ---------------------------------------------------------------- measuring
def timed(call: Callable[[], object], seconds: float) -> list[float]:
    """Milliseconds of single calls, for about `seconds`.

    The call before them, which finds the caches as another process left them, is not counted, unless it takes longer than the
    whole turn: then it is the turn.
    """
    times: list[float] = []
    clock = time.perf_counter
    enabled = gc.isenabled()
    gc.disable()
    try:
        start = clock()
        call()
        now = clock()
        if now - start >= seconds:
            return [(now - start) * 1e3]
        end = now + seconds
        while not times or clock() < end:
            start = clock()
            call()
            times.append((clock() - start) * 1e3)
    finally:
        if enabled:
            gc.enable()
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    """Count, minimum, median and 90th percentile of times in ms."""
    ordered = sorted(times)
    return {
        "runs": len(ordered),
        "min_ms": ordered[0],
        "median_ms": statistics.median(ordered),
        "p90_ms": ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))],
    }


def memory() -> dict[str, float | None]:
    """Resident memory of this process now, counted page by page, and at most so far, in MB (10**6 bytes); None without /proc."""
    found: dict[str, float | None] = {"resident_mb": None, "peak_resident_mb": None}
    for name, path, key in (("resident_mb", "smaps_rollup", "Rss:"), ("peak_resident_mb", "status", "VmHWM:")):
        with contextlib.suppress(OSError), open(f"/proc/self/{path}", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(key):
                    found[name] = int(line.split()[1]) * 1024 / 1e6
    return found


# ---------------------------------------------------------------- the process
def serve(handlers: dict[str, Callable[..., dict[str, Any]]]) -> None:
    """Answer requests {"do": name, ...} by handlers[name](**rest) until the input ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # also ends a worker that is stopped at that moment
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an engine prints does not get between the answers
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = handlers[request.pop("do")](**request)
        except Exception as error:
            reason = " ".join(str(error).split()) or repr(error)
            answer = {"error": f"{type(error).__name__}: {reason[:400]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


# ---------------------------------------------------------------- the engines
class Engine:
    """One model in one engine; `prepare` is what needs no clock, `load` ends ready for `run`."""

    packages: tuple[str, ...] = ()

    def prepare(self, model: str, feeds: Feeds, folder: Path) -> None:
        """Import the engine; convert the model where the engine has a format of its own."""
        for name in self.packages:
            importlib.import_module(name)

    def load(self, model: str, feeds: Feeds, threads: int, dims: dict[str, int]) -> Run:
        raise NotImplementedError


class CNNEngine(Engine):
    def prepare(self, model: str, feeds: Feeds, folder: Path) -> None:
        """Also what `import cnnengine` puts off until it is asked for: onnx, and the parts that load and run models."""
        parts = ("model", "importer", "rewrites", "plan", "functional")
        for name in ("cnnengine", *(f"cnnengine.{part}" for part in parts), "onnx", "onnx.numpy_helper", "onnx.checker"):
            importlib.import_module(name)
        for folder_of in ("_kernels", "ops"):  # kernels and operators are imported when a model first needs them
            package = importlib.import_module(f"cnnengine.{folder_of}")
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{package.__name__}.{module.name}")

    def load(self, model: str, feeds: Feeds, threads: int, dims: dict[str, int]) -> Run:
        import cnnengine

        m = cnnengine.load(model, threads=threads)
        return lambda: m.run(None, feeds)


class OnnxRuntime(Engine):
    packages = ("onnxruntime",)

    def load(self, model: str, feeds: Feeds, threads: int, dims: dict[str, int]) -> Run:
        onnxruntime = importlib.import_module("onnxruntime")
        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        for name, extent in dims.items():
            options.add_free_dimension_override_by_name(name, extent)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return lambda: list(session.run(None, feeds))


class OpenVINO(Engine):
    packages = ("openvino",)

    def load(self, model: str, feeds: Feeds, threads: int, dims: dict[str, int]) -> Run:
        openvino = importlib.import_module("openvino")
        graph = openvino.Core().read_model(model)
        graph.reshape({name: list(value.shape) for name, value in feeds.items()})
        hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        request = openvino.Core().compile_model(graph, "CPU", hints).create_infer_request()
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


class Torch(Engine):
    def prepare(self, model: str, feeds: Feeds, folder: Path) -> None:
        importlib.import_module("torch")
        if importlib.util.find_spec("torchvision") is None:
            sys.modules["torchvision"], sys.modules["torchvision.ops"] = torchvision_stand_in()
        importlib.import_module("onnx2torch")

    def module(self, model: str) -> Any:
        return importlib.import_module("onnx2torch").convert(model).eval()

    def load(self, model: str, feeds: Feeds, threads: int, dims: dict[str, int]) -> Run:
        torch = importlib.import_module("torch")
        torch.set_num_threads(threads)
        module = self.module(model)
        arguments = [torch.from_numpy(value) for value in feeds.values()]

        def run() -> list[np.ndarray]:
            with torch.inference_mode():
                result = module(*arguments)
            return [t.numpy() for t in (result if isinstance(result, tuple | list) else (result,))]

        return run


class TorchCompile(Torch):
    def prepare(self, model: str, feeds: Feeds, folder: Path) -> None:
        if not any(map(shutil.which, [os.environ.get("CXX") or "g++", "clang++"])):
            raise RuntimeError("there is no C++ compiler (g++, clang++ or CXX), which torch.compile needs")
        # read when torch is imported; without processes that compile beside the timed one
        os.environ.update(TORCHINDUCTOR_FREEZING="1", TORCHINDUCTOR_COMPILE_THREADS="1")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.fspath(folder / "inductor")
        super().prepare(model, feeds, folder)

    def module(self, model: str) -> Any:
        torch = importlib.import_module("torch")
        return torch.compile(super().module(model), dynamic=False)


class Ncnn(Engine):
    """Through pnnx. ncnn has no batch axis: the images of a batch run one after another."""

    packages = ("ncnn",)

    def prepare(self, model: str, feeds: Feeds, folder: Path) -> None:
        super().prepare(model, feeds, folder)
        if any(value.dtype != np.float32 or value.ndim < 2 for value in feeds.values()):
            raise NotImplementedError("ncnn is given float32 inputs with a batch axis alone")
        extents = {value.shape[0] for value in feeds.values()}
        if len(extents) != 1:
            raise NotImplementedError("ncnn is given inputs of one batch size alone")
        self.param, self.bin = converted(model, [(1, *value.shape[1:]) for value in feeds.values()], folder)

    def load(self, model: str, feeds: Feeds, threads: int, dims: dict[str, int]) -> Run:
        ncnn = importlib.import_module("ncnn")
        net = ncnn.Net()
        net.opt.num_threads = threads
        for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(net.opt, name, False)
        if net.load_param(os.fspath(self.param)) or net.load_model(os.fspath(self.bin)):
            raise RuntimeError("ncnn does not load what pnnx made")
        sources, results = list(net.input_names()), list(net.output_names())
        batch = next(iter(feeds.values())).shape[0]

        def image(i: int) -> list[np.ndarray]:
            outputs = []
            with net.create_extractor() as extractor:
                for source, value in zip(sources, feeds.values(), strict=True):
                    extractor.input(source, ncnn.Mat(value[i]))
                for result in results:
                    code, value = extractor.extract(result)
                    if code:
                        raise RuntimeError(f"ncnn gives no {result} (code {code})")
                    outputs.append(np.array(value)[None])
            return outputs

        def run() -> list[np.ndarray]:
            images = [image(i) for i in range(batch)]
            return images[0] if batch == 1 else [np.concatenate(parts) for parts in zip(*images, strict=True)]

        return run


def converted(model: str, shapes: Sequence[tuple[int, ...]], folder: Path) -> tuple[Path, Path]:
    """The model in ncnn's form by pnnx, from `folder` when it is there already; a failure is remembered there too."""
    spec = importlib.util.find_spec("pnnx")
    beside = Path(spec.origin).parent / "pnnx" if spec is not None and spec.origin else None
    tool = os.fspath(beside) if beside is not None and beside.is_file() else shutil.which("pnnx")
    if tool is None:
        raise ModuleNotFoundError("the converter is missing: pip install --no-deps pnnx")
    shape_text = ",".join("[" + ",".join(map(str, shape)) + "]" for shape in shapes)
    digest = hashlib.sha256(f"{importlib.metadata.version('pnnx')} {shape_text} ".encode())
    with open(model, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    home = folder / "ncnn" / digest.hexdigest()[:24]
    made = home / "model.param", home / "model.bin"
    failure = home / "failure"
    if failure.is_file():
        raise RuntimeError(failure.read_text(encoding="utf-8"))
    if all(path.is_file() for path in made):
        return made
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as work:
        real, source = Path(model).resolve(), Path(work) / "model.onnx"
        source.symlink_to(real)  # pnnx goes by the suffix, and writes a file beside its source
        for data in {real.with_name(f"{real.name}.data"), real.with_suffix(".data")}:  # where exporters put large weights
            if data.is_file():
                (Path(work) / data.name).symlink_to(data)
        names = {f"pnnx{what}": f"other.{what}" for what in ("param", "bin", "py", "onnx")}
        names |= {"ncnnparam": "model.param", "ncnnbin": "model.bin", "ncnnpy": "other_ncnn.py"}
        command = [tool, os.fspath(source), f"inputshape={shape_text}", "fp16=0", *(f"{k}={v}" for k, v in names.items())]
        reason = ""
        try:
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False, timeout=CONVERSION_SECONDS)
            if done.returncode or not all((Path(work) / path.name).is_file() for path in made):
                how = f"was killed by signal {-done.returncode}" if done.returncode < 0 else "failed"
                last = ((done.stderr or done.stdout).strip().splitlines() or [""])[-1]
                reason = f"pnnx {how}" + (f": {last[-200:]}" if last else "")
        except subprocess.TimeoutExpired:
            reason = f"pnnx took more than {CONVERSION_SECONDS} s"
        if reason:
            failure.write_text(reason, encoding="utf-8")
            raise RuntimeError(reason)
        for path in made:
            os.replace(Path(work) / path.name, path)
    return made


ENGINES: dict[str, type[Engine]] = {
    "cnnengine": CNNEngine,
    "torch": Torch,
    "torch-compile": TorchCompile,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVINO,
    "ncnn": Ncnn,
}


# ---------------------------------------------------------------- the requests
class Server:
    """The requests about one engine."""

    def __init__(self, name: str) -> None:
        self.engine = ENGINES[name]()
        self.feeds: Feeds = {}
        self.model = ""
        self.call: Run = list

    def prepare(self, model: str, names: list[str], feeds: str, folder: str) -> dict[str, Any]:
        """Everything before the clock: imports, conversion; the arrays are those of the file, in the order of the names."""
        with np.load(feeds) as stored:
            arrays = [np.ascontiguousarray(stored[key]) for key in sorted(stored.files)]
        self.model, self.feeds = model, dict(zip(names, arrays, strict=True))
        self.engine.prepare(model, self.feeds, Path(folder))
        return {}

    def load(self, threads: int, dims: dict[str, int], outputs: str) -> dict[str, Any]:
        """From the file to the end of the first request; its results go into the file `outputs`."""
        before = memory()["resident_mb"]
        start = time.perf_counter()
        self.call = self.engine.load(self.model, self.feeds, threads, dims)
        loaded = time.perf_counter()
        results = self.call()
        first = time.perf_counter()
        np.savez(outputs, **{f"{i:03d}": value for i, value in enumerate(results)})  # type: ignore[arg-type]
        return {"load_s": loaded - start, "load_and_first_run_s": first - start, "before_load_mb": before}

    def run(self, seconds: float) -> dict[str, Any]:
        return {"times_ms": [round(t, 5) for t in timed(self.call, seconds)]}

    def peak(self, threads: int, seconds: float) -> dict[str, Any]:
        """Of multiply-adds; by cnnengine alone."""
        from cnnengine.report.profile import fma_peak

        return {"gflops": fma_peak(threads, seconds)}


def main() -> None:
    server = Server(sys.argv[1])
    serve({"prepare": server.prepare, "load": server.load, "run": server.run, "peak": server.peak, "memory": memory})


if __name__ == "__main__":
    main()
