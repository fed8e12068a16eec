"""The engines that are compared: how each loads a model and runs it, and how it is converted for those that read no ONNX file.

The file stands alone: it runs under interpreters that hold nothing but one engine and numpy, so it imports nothing of the package
but what the engine cnnengine needs. As a program it converts, apart from the process that is measured:

    python engines.py ENGINE JOB.json FOLDER

Settings are those that serve each engine best at the asked number of threads: shapes are made known to the engines that can use
them before compiling (OpenVINO reshape, onnxruntime free dimension overrides, pnnx inputshape); torch runs in inference mode,
torch.compile with the weights frozen and channels last. An engine says in which precision it computes: that of the file, if it is
not told another, or does not choose one itself as OpenVINO does.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

CONVERSION_SECONDS = 300
"""A conversion is given up after this time."""

Feeds = dict[str, np.ndarray]
Run = Callable[[], list[np.ndarray]]
"""One request: from the input arrays to the output arrays."""
NEEDS = {
    "cnnengine": ("cnnengine",),
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "openvino-default": ("openvino",),
    "ncnn": ("ncnn", "pnnx"),
    "ncnn-bf16": ("ncnn", "pnnx"),
    "torch": ("torch", "onnx2torch"),
    "torch-compile": ("torch", "onnx2torch"),
    "torch-compile-bf16": ("torch", "onnx2torch"),
    "litert": ("ai-edge-litert", "litert-torch", "onnx2torch"),
    "mnn": ("MNN",),
    "zentorch": ("zentorch", "torch", "onnx2torch"),
    "executorch": ("executorch", "torch", "onnx2torch"),
}
"""The packages of each engine, by the names that they are installed by; the first is the engine itself."""
LOWERED = "-bf16"
"""How the names of engines end that are told to compute in fewer bits than the file."""
QUANTISED = ("int4", "float8", "int8", "int16")
FLOATS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


@dataclass
class Job:
    """A model to run.

    Attributes
    ----------
    model, bare : str
        The file; the same without weights among its inputs, for converters.
    kind : str
        The precision that the file asks for.
    precision : str
        What cnnengine shall compute float32 files in.
    threads : int
    dims : dict
        Extents of named dimensions.
    shapes : list
        Of the inputs, in the order of the graph.
    folder : str
        Where conversions are kept.
    """

    model: str
    bare: str
    kind: str = "float32"
    precision: str = "float32"
    threads: int = 1
    dims: dict[str, int] = field(default_factory=dict)
    shapes: list[list[int]] = field(default_factory=list)
    folder: str = ""


class Engine:
    """One model in one engine; `prepare` is what needs no clock, `load` ends ready for `run`."""

    packages: tuple[str, ...] = ()
    mode = ""
    """How it runs, in a few words."""

    def __init__(self) -> None:
        self.precision = "float32"

    def prepare(self, job: Job, feeds: Feeds) -> None:
        """Import the engine; convert the model where the engine has a format of its own."""
        self.precision = job.kind
        for name in self.packages:
            importlib.import_module(name)

    def load(self, job: Job, feeds: Feeds) -> Run:
        raise NotImplementedError


class CNNEngine(Engine):
    def prepare(self, job: Job, feeds: Feeds) -> None:
        """Also what `import cnnengine` puts off until it is asked for: onnx, and the parts that load and run models."""
        self.precision = job.kind if job.kind in QUANTISED or job.precision == "float32" else job.precision
        parts = ("model", "importer", "rewrites", "plan", "functional")
        for name in ("cnnengine", *(f"cnnengine.{part}" for part in parts), "onnx", "onnx.numpy_helper", "onnx.checker"):
            importlib.import_module(name)
        for folder_of in ("_kernels", "ops"):  # kernels and operators are imported when a model first needs them
            package = importlib.import_module(f"cnnengine.{folder_of}")
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{package.__name__}.{module.name}")

    def load(self, job: Job, feeds: Feeds) -> Run:
        import cnnengine

        options: dict[str, Any] = {} if job.precision == "float32" else {"precision": job.precision}
        m = cnnengine.load(job.model, threads=job.threads, **options)
        return lambda: m.run(None, feeds)


class OnnxRuntime(Engine):
    packages = ("onnxruntime",)

    def load(self, job: Job, feeds: Feeds) -> Run:
        onnxruntime = importlib.import_module("onnxruntime")
        if getattr(onnxruntime, "__author__", "") == "cnnengine":
            raise RuntimeError("onnxruntime is cnnengine itself in this process: measure without the switch")
        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.threads
        options.inter_op_num_threads = 1
        for name, extent in job.dims.items():
            options.add_free_dimension_override_by_name(name, extent)
        session = onnxruntime.InferenceSession(job.model, options, providers=["CPUExecutionProvider"])
        return lambda: list(session.run(None, feeds))


class OpenVINO(Engine):
    """In float32, whatever the processor offers."""

    packages = ("openvino",)
    mode = "told to compute in f32"
    hints: Mapping[str, str] = {"INFERENCE_PRECISION_HINT": "f32"}

    def load(self, job: Job, feeds: Feeds) -> Run:
        openvino = importlib.import_module("openvino")
        graph = openvino.Core().read_model(job.model)
        graph.reshape({name: list(value.shape) for name, value in feeds.items()})
        hints = {"INFERENCE_NUM_THREADS": job.threads, "PERFORMANCE_HINT": "LATENCY", **self.hints}
        compiled = openvino.Core().compile_model(graph, "CPU", hints)
        if job.kind not in QUANTISED:
            used = compiled.get_property("INFERENCE_PRECISION_HINT")
            self.precision = FLOATS.get(used.get_type_name() if hasattr(used, "get_type_name") else str(used), job.kind)
        request = compiled.create_infer_request()
        return lambda: list(request.infer(feeds, share_inputs=True, share_outputs=True).values())


class OpenVINODefault(OpenVINO):
    """As it comes: in bfloat16 where the processor has instructions for it."""

    mode = "as it comes"
    hints: Mapping[str, str] = {}


# ---------------------------------------------------------------- torch
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


def import_onnx2torch() -> Any:
    importlib.import_module("torch")
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        sys.modules["torchvision"], sys.modules["torchvision.ops"] = torchvision_stand_in()
    return importlib.import_module("onnx2torch")


def torch_module(model: str) -> Any:
    return import_onnx2torch().convert(model).eval()


class Torch(Engine):
    mode = "eager, NCHW"

    def prepare(self, job: Job, feeds: Feeds) -> None:
        super().prepare(job, feeds)
        import_onnx2torch()

    def module(self, job: Job, arguments: Sequence[Any]) -> tuple[Any, list[Any]]:
        """The module, and its arguments as it likes them best."""
        return torch_module(job.model), list(arguments)

    def load(self, job: Job, feeds: Feeds) -> Run:
        torch = importlib.import_module("torch")
        torch.set_num_threads(job.threads)
        module, arguments = self.module(job, [torch.from_numpy(value) for value in feeds.values()])

        def run() -> list[np.ndarray]:
            with torch.inference_mode():
                result = module(*arguments)
            return [t.numpy() for t in (result if isinstance(result, tuple | list) else (result,))]

        return run


class TorchCompile(Torch):
    """Its fastest mode. The input lies channels last already, as it does where torch reads images so."""

    mode = "compiled, weights frozen, channels last"
    backend = "inductor"

    def prepare(self, job: Job, feeds: Feeds) -> None:
        if not any(map(shutil.which, [os.environ.get("CXX") or "g++", "clang++"])):
            raise RuntimeError("there is no C++ compiler (g++, clang++ or CXX), which torch.compile needs")
        # read when torch is imported; without processes that compile beside the timed one
        os.environ.update(TORCHINDUCTOR_FREEZING="1", TORCHINDUCTOR_COMPILE_THREADS="1")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.fspath(Path(job.folder) / "inductor")
        super().prepare(job, feeds)

    def module(self, job: Job, arguments: Sequence[Any]) -> tuple[Any, list[Any]]:
        torch = importlib.import_module("torch")
        module, last = torch_module(job.model), {4: torch.channels_last, 5: torch.channels_last_3d}
        images = [last[value.dim()] for value in arguments if value.dim() in last]
        if images:
            module = module.to(memory_format=images[0])
        ready = [v.contiguous(memory_format=last[v.dim()]) if v.dim() in last else v for v in arguments]
        return torch.compile(self.lowered(module), dynamic=False, backend=self.backend), ready

    def lowered(self, module: Any) -> Any:
        return module


class TorchCompileBF16(TorchCompile):
    mode = f"{TorchCompile.mode}, bfloat16"

    def lowered(self, module: Any) -> Any:
        """Weights and activations in bfloat16; what comes in and goes out stays in float32."""
        torch = importlib.import_module("torch")
        self.precision = "bfloat16"
        inner = module.to(torch.bfloat16)

        def narrow(*arguments: Any) -> Any:
            result = inner(*[v.to(torch.bfloat16) if v.is_floating_point() else v for v in arguments])
            several = result if isinstance(result, tuple | list) else (result,)
            return tuple(v.float() if v.is_floating_point() else v for v in several)

        return narrow


class ZenTorch(TorchCompile):
    """Without AVX-512 it is torch under another name: it then says so itself and changes nothing."""

    mode = "compiled by zentorch, weights frozen, channels last"
    backend = "zentorch"

    def prepare(self, job: Job, feeds: Feeds) -> None:
        if "avx512f" not in processor_flags():
            raise RuntimeError("zentorch optimises on processors with AVX-512 alone")
        super().prepare(job, feeds)
        importlib.import_module("zentorch")


def processor_flags() -> set[str]:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("flags"):
                return set(line.split(":", 1)[1].split())
    return set()


# ---------------------------------------------------------------- conversions
def kept(engine: str, version: str, job: Job, files: Sequence[str], make: Callable[[Path], None]) -> list[Path]:
    """Files that `make` leaves in the folder that it is given; from the cache when they are there already.

    A failure is remembered there too: RuntimeError with its reason.
    """
    digest = hashlib.sha256(f"{version} {job.shapes} ".encode())
    for path in (Path(job.bare), *data_beside(Path(job.bare))):
        with open(path, "rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    home = Path(job.folder) / engine / digest.hexdigest()[:24]
    made = [home / name for name in files]
    failure = home / "failure"
    if failure.is_file():
        raise RuntimeError(failure.read_text(encoding="utf-8"))
    if all(path.is_file() for path in made):
        return made
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as work:
        reason = ""
        try:
            make(Path(work))
        except subprocess.TimeoutExpired:
            reason = f"its conversion took more than {CONVERSION_SECONDS} s"
        except RuntimeError as error:
            reason = str(error)
        if not reason and not all((Path(work) / path.name).is_file() for path in made):
            reason = "its conversion left no file"
        if reason:
            failure.write_text(reason, encoding="utf-8")
            raise RuntimeError(reason)
        for path in made:
            os.replace(Path(work) / path.name, path)
    return made


def data_beside(model: Path) -> list[Path]:
    """Where exporters put large weights."""
    real = model.resolve()
    return [path for path in sorted({real.with_name(f"{real.name}.data"), real.with_suffix(".data")}) if path.is_file()]


def last_line(done: subprocess.CompletedProcess[str], what: str) -> str:
    """Why a tool failed, in one line."""
    how = f"was killed by signal {-done.returncode}" if done.returncode < 0 else "failed"
    last = ((done.stderr or done.stdout).strip().splitlines() or [""])[-1]
    return f"{what} {how}" + (f": {last[-300:]}" if last else "")


class Converted(Engine):
    """An engine with a file format of its own, made by a program of its own: its memory is not that of the engine."""

    name = ""
    converter = ""
    """The package whose version the conversion depends on."""
    file = ""

    def prepare(self, job: Job, feeds: Feeds) -> None:
        super().prepare(job, feeds)
        version = f"{importlib.metadata.version(self.converter)} {self.mode}"
        (self.made,) = kept(self.name, version, job, [self.file], lambda work: self.run_converter(job, work))

    def run_converter(self, job: Job, work: Path) -> None:
        (work / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
        command = [sys.executable, os.path.abspath(__file__), self.name, "job.json", self.file]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False, timeout=CONVERSION_SECONDS)
        if done.returncode:
            raise RuntimeError(last_line(done, "the conversion"))

    @staticmethod
    def convert(job: Job, target: str) -> None:
        """In the process that converts."""
        raise NotImplementedError


def beside(name: str) -> types.ModuleType:
    """A file of this folder by its path: the interpreter need not have the package."""
    spec = importlib.util.spec_from_file_location(f"cnnengine_bench_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def example(job: Job) -> tuple[Any, tuple[Any, ...]]:
    """The module of torch and zeros of its inputs' shapes."""
    torch = importlib.import_module("torch")
    return torch_module(job.bare), tuple(torch.zeros(shape) for shape in job.shapes)


def numbered(details: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Inputs or outputs in the order of the numbers in their names."""

    def place(item: tuple[int, Mapping[str, Any]]) -> tuple[int, int]:
        found = re.findall(r"\d+", str(item[1]["name"]))
        return (int(found[-1]) if found else 0, item[0])

    return [detail for _, detail in sorted(enumerate(details), key=place)]


class LiteRT(Converted):
    """XNNPACK, which its interpreter uses by itself."""

    packages = ("ai_edge_litert",)
    name, converter, file = "litert", "litert-torch", "model.tflite"
    mode = "XNNPACK, by litert-torch, images channels last"

    @staticmethod
    def convert(job: Job, target: str) -> None:
        tool = importlib.import_module("litert_torch")
        torch = importlib.import_module("torch")
        images = [i for i, shape in enumerate(job.shapes) if len(shape) == 4]  # its operators want them channels last
        arguments = tuple(torch.zeros(channels_last(shape)) for shape in job.shapes)
        if job.kind not in QUANTISED:
            module = tool.to_channel_last_io(torch_module(job.bare), args=images) if images else torch_module(job.bare)
            tool.convert(module, arguments).export(target)
            return
        quantiser = importlib.import_module("litert_torch.quantize.pt2e_quantizer")
        settings = importlib.import_module("litert_torch.quantize.quant_config")
        module = beside("quantised").module(job.bare, import_onnx2torch().convert)
        module = tool.to_channel_last_io(module, args=images) if images else module
        # that it is quantised is what the converter is told by this; the scales are in the module
        static = quantiser.PT2EQuantizer().set_global(quantiser.get_symmetric_quantization_config(is_per_channel=True))
        tool.convert(module, arguments, quant_config=settings.QuantConfig(pt2e_quantizer=static)).export(target)

    def load(self, job: Job, feeds: Feeds) -> Run:
        interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(
            model_path=os.fspath(self.made), num_threads=job.threads
        )
        interpreter.allocate_tensors()
        sources, results = numbered(interpreter.get_input_details()), numbered(interpreter.get_output_details())
        values = [v.transpose(0, 2, 3, 1).copy() if v.ndim == 4 else v for v in feeds.values()]
        if len(sources) != len(values):
            raise RuntimeError(f"the conversion has {len(sources)} inputs of {len(values)}")
        if any(detail["dtype"] == np.int8 for detail in sources):
            self.mode += ", inputs and outputs quantised by NumPy"

        def run() -> list[np.ndarray]:
            for detail, value in zip(sources, values, strict=True):
                interpreter.set_tensor(detail["index"], narrowed(value, detail))
            interpreter.invoke()
            return [widened(interpreter.get_tensor(detail["index"]), detail) for detail in results]

        return run


def channels_last(shape: Sequence[int]) -> list[int]:
    """Of an image; other shapes as they are."""
    return [shape[0], *shape[2:], shape[1]] if len(shape) == 4 else list(shape)


def narrowed(value: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    """An input as LiteRT takes it: of a quantised network, whose converter leaves the first Quantize to the caller, in int8."""
    if detail["dtype"] != np.int8 or value.dtype == np.int8:
        return value
    scale, zero = detail["quantization"]
    steps = np.divide(value, np.float32(scale))
    np.rint(steps, out=steps)
    steps += np.float32(zero)
    np.clip(steps, -128, 127, out=steps)
    whole: np.ndarray = steps.astype(np.int8)
    return whole


def widened(value: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    """An output in floats again."""
    if value.dtype != np.int8 or not detail["quantization"][0]:
        return value
    scale, zero = detail["quantization"]
    steps = value.astype(np.float32)
    steps -= np.float32(zero)
    steps *= np.float32(scale)
    return steps


class MNN(Converted):
    """Converted by the module `_tools`: the command of the package reports its use over the network."""

    packages = ("MNN",)
    name, converter, file = "mnn", "MNN", "model.mnn"
    mode = "precision high"

    @staticmethod
    def convert(job: Job, target: str) -> None:
        arguments = ["MNNConvert", "-f", "ONNX", "--modelFile", job.bare, "--MNNModel", target, "--bizCode", "bench"]
        importlib.import_module("_tools").mnnconvert(arguments)

    def load(self, job: Job, feeds: Feeds) -> Run:
        nn, expr = importlib.import_module("MNN.nn"), importlib.import_module("MNN.expr")
        settings = {"backend": "CPU", "numThread": job.threads, "precision": "high", "memory": "normal", "power": "high"}
        self.manager = nn.create_runtime_manager((settings,))
        names = list(feeds)
        module = nn.load_module_from_file(os.fspath(self.made), names, [], runtime_manager=self.manager)
        if module is None:
            raise RuntimeError("MNN does not load what its converter made")
        types_of = {"float32": expr.float, "int32": expr.int, "int64": expr.int64, "uint8": expr.uint8, "int8": expr.int8}

        def run() -> list[np.ndarray]:
            given = [expr.const(v, list(v.shape), expr.NCHW, types_of[str(v.dtype)]) for v in feeds.values()]
            outputs = module.forward(given)
            several = outputs if isinstance(outputs, list | tuple) else [outputs]
            return [np.array(value.read()) for value in several]

        return run


class ExecuTorch(Converted):
    packages = ("executorch.runtime",)
    name, converter, file = "executorch", "executorch", "model.pte"
    mode = "XNNPACK"

    @staticmethod
    def convert(job: Job, target: str) -> None:
        torch = importlib.import_module("torch")
        partitioner = importlib.import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
        exir = importlib.import_module("executorch.exir")
        module, arguments = example(job)
        with torch.no_grad():
            exported = torch.export.export(module, arguments)
        lowered = exir.to_edge_transform_and_lower(exported, partitioner=[partitioner.XnnpackPartitioner()])
        Path(target).write_bytes(lowered.to_executorch().buffer)

    def load(self, job: Job, feeds: Feeds) -> Run:
        torch = importlib.import_module("torch")
        library = importlib.import_module("executorch.extension.pybindings.portable_lib")
        library._unsafe_reset_threadpool(job.threads)
        runtime = importlib.import_module("executorch.runtime").Runtime.get()
        self.program = runtime.load_program(os.fspath(self.made))
        method = self.program.load_method("forward")
        arguments = [torch.from_numpy(value) for value in feeds.values()]
        return lambda: [value.numpy() for value in method.execute(arguments)]


class Ncnn(Engine):
    """Through pnnx. ncnn has no batch axis: the images of a batch run one after another."""

    packages = ("ncnn",)
    mode = "by pnnx, 16-bit storage and arithmetic off"
    bfloat16 = False

    def prepare(self, job: Job, feeds: Feeds) -> None:
        super().prepare(job, feeds)
        if any(value.dtype != np.float32 or value.ndim < 2 for value in feeds.values()):
            raise NotImplementedError("ncnn is given float32 inputs with a batch axis alone")
        extents = {value.shape[0] for value in feeds.values()}
        if len(extents) != 1:
            raise NotImplementedError("ncnn is given inputs of one batch size alone")
        self.param, self.bin = pnnx_converted(job)

    def load(self, job: Job, feeds: Feeds) -> Run:
        ncnn = importlib.import_module("ncnn")
        net = ncnn.Net()
        net.opt.num_threads = job.threads
        for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
            setattr(net.opt, name, False)
        net.opt.use_bf16_storage = self.bfloat16
        if self.bfloat16 and job.kind not in QUANTISED:
            self.precision = "bfloat16"
        if net.load_param(os.fspath(self.param)) or net.load_model(os.fspath(self.bin)):
            raise RuntimeError(f"ncnn does not load what pnnx made{unknown_layers(self.param, ncnn)}")
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


class NcnnBF16(Ncnn):
    mode = "by pnnx, bfloat16 storage"
    bfloat16 = True


def unknown_layers(param: Path, ncnn: Any) -> str:
    """ ": it knows no aten::x, F.y", of the layers in what pnnx made."""
    kinds = [line.split()[0] for line in param.read_text(encoding="utf-8", errors="replace").splitlines()[2:] if line.split()]
    unknown = [kind for kind in dict.fromkeys(kinds) if ncnn.layer_to_index(kind) < 0]
    return f": it knows no {', '.join(unknown)}" if unknown else ""


def pnnx_converted(job: Job) -> list[Path]:
    """The model in ncnn's form."""
    spec = importlib.util.find_spec("pnnx")
    beside = Path(spec.origin).parent / "pnnx" if spec is not None and spec.origin else None
    tool = os.fspath(beside) if beside is not None and beside.is_file() else shutil.which("pnnx")
    if tool is None:
        raise ModuleNotFoundError("the converter is missing: pip install --no-deps pnnx")
    shape_text = ",".join("[" + ",".join(map(str, (1, *shape[1:]))) + "]" for shape in job.shapes)

    def make(work: Path) -> None:
        source = work / "model.onnx"
        source.symlink_to(Path(job.bare).resolve())  # pnnx goes by the suffix, and writes a file beside its source
        for data in data_beside(Path(job.bare)):
            (work / data.name).symlink_to(data)
        names = {f"pnnx{what}": f"other.{what}" for what in ("param", "bin", "py", "onnx")}
        names |= {"ncnnparam": "model.param", "ncnnbin": "model.bin", "ncnnpy": "other_ncnn.py"}
        command = [tool, os.fspath(source), f"inputshape={shape_text}", "fp16=0", *(f"{k}={v}" for k, v in names.items())]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False, timeout=CONVERSION_SECONDS)
        if done.returncode or not (work / "model.bin").is_file():
            raise RuntimeError(last_line(done, "pnnx"))

    one = Job(**asdict(job) | {"shapes": [[1, *shape[1:]] for shape in job.shapes]})
    return kept("ncnn", importlib.metadata.version("pnnx"), one, ["model.param", "model.bin"], make)


ENGINES: dict[str, type[Engine]] = {
    "cnnengine": CNNEngine,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVINO,
    "openvino-default": OpenVINODefault,
    "ncnn": Ncnn,
    "ncnn-bf16": NcnnBF16,
    "torch": Torch,
    "torch-compile": TorchCompile,
    "torch-compile-bf16": TorchCompileBF16,
    "litert": LiteRT,
    "mnn": MNN,
    "zentorch": ZenTorch,
    "executorch": ExecuTorch,
}


if __name__ == "__main__":
    kind = ENGINES[sys.argv[1]]
    assert issubclass(kind, Converted)
    kind.convert(Job(**json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))), sys.argv[3])
