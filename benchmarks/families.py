"""Layer families: which fraction of the multiply-add peak each reaches, at each instruction set, and torch held to it beside it.

    python benchmarks/families.py --isa avx512 --isa avx2 --json FILE

Kernel beside kernel, and call beside call. Of ours the kernel is the layer's own step within a model of that layer
(`cnnengine profile`): weights packed at load, without bringing the arrays into the layout and back, which a model does once.
Of torch it is what oneDNN says that its primitive took (its verbose mode), weights reordered beforehand (torch.utils.mkldnn),
without what torch does around it; layers that torch computes otherwise have none. A call goes from plain arrays to plain
arrays on both sides, of torch the faster of its two ways. Of layers with Winograd the direct algorithm stands beside it.
Transposed convolutions are torch's as torch.nn.functional has them. Operations are those of the direct algorithm, so Winograd
may exceed the peak, which is measured with every turn.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import harness
import numpy as np
import suite

TORCH_LIMITS = {
    "sse2": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
}
"""What holds torch and its oneDNN to an instruction set; oneDNN knows none below SSE4.1."""


def arrays(layer: suite.Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, w and bias, seeded; outputs near 1."""
    rng = np.random.default_rng(len(layer.title))
    x, w = (rng.standard_normal(shape, np.float32) for shape in (layer.x, layer.w))
    outputs = layer.w[1] if layer.operator == "ConvTranspose" else layer.w[0]
    return x, w / np.float32(np.sqrt(w[0].size)), rng.standard_normal(outputs, np.float32)


class Ours:
    """The worker's side: cnnengine."""

    def __init__(self) -> None:
        self.models: dict[str, Any] = {}
        self.x = np.zeros(0, np.float32)

    def prepare(self, index: int, threads: int, output: str) -> dict[str, Any]:
        from onnx import TensorProto, helper, numpy_helper

        import cnnengine

        layer = suite.LAYERS[index]
        self.x, w, b = arrays(layer)
        spatial = len(layer.x) - 2
        options: dict[str, Any] = {}
        for key, value in layer.options.items():
            name = {"stride": "strides", "dilation": "dilations", "groups": "group"}.get(key, key)
            options[name] = value if key == "groups" else [value] * (2 * spatial if key == "pads" else spatial)
        if layer.operator == "Gemm":
            options = {"transB": 1}
        graph = helper.make_graph(
            [helper.make_node(layer.operator, ["x", "w", "b"], ["y"], **options)],
            "layer",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, layer.x)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        chosen = cnnengine.load(proto, threads=threads)
        self.models = {"chosen": chosen}
        if output:
            np.save(output, chosen(self.x))
        if any("winograd" in step for step in self._kernels(chosen)):
            self.models["direct"] = cnnengine.load(proto, threads=threads, winograd=False)
        return {"isa": chosen.isa}

    @staticmethod
    def _kernels(model: Any) -> list[str]:
        from cnnengine.report import summarize

        return [kernel for layer in summarize(model).layers for kernel in layer.kernels]

    def run(self, seconds: float) -> dict[str, Any]:
        """Per way of computing: the shortest time of the layer's steps but reorders, its GFLOP/s, the peak then."""
        from cnnengine.report import profile

        found = {}
        for name, model in self.models.items():
            measured = profile(model, seconds=seconds)
            steps = [step for step in measured.steps if step.flops]
            time = sum(step.seconds_min for step in steps)
            flops = sum(step.flops for step in steps)
            found[name] = {
                "ms": time * 1e3,
                "gflops": flops / max(time, 1e-12) * 1e-9,
                "flops": flops,
                "peak_gflops": measured.peak_gflops,
                "roofline": sum(step.limit_seconds for step in steps) / max(time, 1e-12),
                "kernel": steps[0].kernel if steps else "",
                "call_ms": min(harness.worker.timed(lambda model=model: model(self.x), seconds)),
            }
        return found


class Torch:
    """The worker's side: torch."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.kernel: Any = list

    def prepare(self, index: int, threads: int, output: str) -> dict[str, Any]:
        import torch
        import torch.utils.mkldnn

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        layer = suite.LAYERS[index]
        x, w, b = map(torch.from_numpy, arrays(layer))
        rank = len(layer.x) - 2
        options = {{"pads": "padding"}.get(key, key): value for key, value in layer.options.items()}
        if layer.operator == "ConvTranspose":
            function = getattr(torch.nn.functional, f"conv_transpose{rank}d")
            self.kernel = lambda: function(x, w, b, **options)
            self.calls = [self.kernel]
        else:
            if layer.operator == "Gemm":
                module = torch.nn.Linear(w.shape[1], w.shape[0])
            else:
                kernel = tuple(w.shape[2:])
                module = getattr(torch.nn, f"Conv{rank}d")(layer.x[1], w.shape[0], kernel, **options)
            module.weight.copy_(w)
            module.bias.copy_(b)
            module.eval()
            ready, blocked = torch.utils.mkldnn.to_mkldnn(copy.deepcopy(module)), x.to_mkldnn()
            self.kernel = lambda: ready(blocked)
            self.calls = [lambda: module(x), lambda: ready(x.to_mkldnn()).to_dense()]  # which is faster depends on the layer
        np.save(output, self.calls[0]().numpy())
        return {"isa": torch.backends.cpu.get_cpu_capability()}

    def run(self, seconds: float) -> dict[str, Any]:
        """Milliseconds of calls, and of the primitives in them."""
        import torch

        ways = [harness.worker.timed(call, seconds) for call in self.calls]
        self.kernel()
        with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
            before = os.dup(1)
            os.dup2(said.fileno(), 1)
            try:
                with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                    harness.worker.timed(self.kernel, seconds)
            finally:
                sys.stdout.flush()
                os.dup2(before, 1)
                os.close(before)
            said.seek(0)
            return {"times_ms": min(ways, key=min), "kernels_ms": primitives(said)}


PRIMITIVES = ("convolution", "deconvolution", "inner_product", "matmul")
"""Those that compute a layer; others bring its arrays into a layout."""


def primitives(lines: Iterable[str]) -> list[float]:
    """Milliseconds that oneDNN's verbose lines tell of the primitives that compute."""
    found = []
    for line in lines:
        fields = line.strip().split(",")
        if fields[0] == "onednn_verbose" and "exec" in fields and any(name in fields for name in PRIMITIVES):
            found.append(float(fields[-1]))
    return found


def measure(index: int, workers: dict[str, Any], options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The figures of one layer."""
    from cnnengine.bench import WorkerError
    from cnnengine.bench.verdict import difference

    layer = suite.LAYERS[index]
    figures: dict[str, Any] = {"family": layer.family, "operator": layer.operator, "layer": layer.title}
    alive = dict(workers)
    for name in list(alive):
        try:
            figures.setdefault("isa", {})[name] = alive[name].ask(
                do="prepare", index=index, threads=options.threads, output=str(folder / f"{name}.npy")
            )["isa"]
        except WorkerError as error:
            figures.setdefault("skipped", {})[name] = str(error)
            del alive[name]
    if len(alive) == 2:
        gap = difference([np.load(folder / "cnnengine.npy")], [np.load(folder / "torch.npy")])
        figures["difference"] = gap if np.isfinite(gap) else None
    ours: dict[str, dict[str, Any]] = {}
    calls: list[float] = []
    kernels: list[float] = []
    for _ in range(options.rounds):
        if "cnnengine" in alive:
            for way, found in alive["cnnengine"].ask(do="run", seconds=options.seconds).items():
                # of a slow moment peak and time are both low: what counts is the best turn for the layer
                known = ours.get(way, found)
                best = {"peak_gflops": max(found["peak_gflops"], known["peak_gflops"])}
                best["call_ms"] = min(found["call_ms"], known["call_ms"])
                ours[way] = (found if found["ms"] < known["ms"] else known) | best
        if "torch" in alive:
            turn = alive["torch"].ask(do="run", seconds=options.seconds)
            calls += turn["times_ms"]
            kernels += turn["kernels_ms"]
    figures["cnnengine"] = {way: found | {"of_peak": found["gflops"] / found["peak_gflops"]} for way, found in ours.items()}
    if calls:
        figures["torch"] = {"call_ms": min(calls)}
        if kernels:
            figures["torch"]["kernel_ms"] = min(kernels)
        if kernels and ours:
            chosen = ours["chosen"]
            figures["torch"]["gflops"] = chosen["flops"] / min(kernels) * 1e-6
            figures["torch"]["kernel_of_peak"] = figures["torch"]["gflops"] / chosen["peak_gflops"]
    return figures


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", action="append", help="instruction set; several times for several (all but sse2 that run here)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (3)")
    parser.add_argument("--seconds", type=float, default=0.05, help="length of a turn (0.05)")
    parser.add_argument("--only", default="", metavar="TEXT", help="families whose name contains it")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has torch (this one)")
    parser.add_argument("--json", metavar="FILE", help="write every figure there too")
    options = parser.parse_args(argv)

    from cnnengine._kernels import dispatch
    from cnnengine.bench.harness import PACKAGE_HOME, Worker, machine_head, probe
    from cnnengine.bench.show import table

    isas = options.isa or [name for name in reversed(dispatch.available_isas()) if name != "sse2"]
    if set(isas) - set(dispatch.available_isas()):
        parser.error(f"instruction sets of this machine and build: {', '.join(dispatch.available_isas())}")
    chosen = [i for i, layer in enumerate(suite.LAYERS) if options.only in layer.family]
    torch_version = probe(options.peer_python, ["torch"])["packages"]["torch"]
    head = machine_head() | {
        "threads": options.threads,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "torch": torch_version,
    }
    print(f"{head['date']}  {head['cpu']}, {options.threads} threads; torch {torch_version or 'is not installed: skipped'}")
    results = []
    for isa in isas:
        script = [os.path.abspath(__file__), "--worker"]
        path = os.pathsep.join(filter(None, [str(PACKAGE_HOME), os.environ.get("PYTHONPATH")]))
        beside = str(Path(__file__).resolve().parent)
        workers = {
            "cnnengine": Worker(
                [sys.executable, *script, "ours"], environment={"CNNENGINE_ISA": isa, "PYTHONPATH": f"{path}{os.pathsep}{beside}"}
            )
        }
        if torch_version is not None:
            limits = TORCH_LIMITS.get(isa, {})
            workers["torch"] = Worker([options.peer_python, *script, "torch"], environment={**limits, "PYTHONPATH": beside})
        rows = [
            [
                "family",
                "layer",
                "kernel",
                "ms",
                "GFLOP/s",
                "of peak",
                "direct",
                "of roofline",
                "torch ms",
                "of peak",
                "call ms",
                "torch call",
                "max |diff|",
            ]
        ]
        try:
            with tempfile.TemporaryDirectory(prefix="cnnengine-families-") as folder:
                for index in chosen:
                    figures = measure(index, workers, options, Path(folder))
                    results.append({"set": isa, **figures})
                    rows.append(row(figures))
        finally:
            for worker in workers.values():
                worker.close()
        print(f"\n{isa}\n{table(rows, left=3)}", flush=True)
        for figures in results:
            for name, reason in figures.get("skipped", {}).items() if figures["set"] == isa else ():
                print(f"{name}: skipped: {figures['layer']}: {reason}")
    if options.json:
        Path(options.json).write_text(json.dumps({"head": head, "layers": results}, indent=1) + "\n", encoding="utf-8")
    gaps = [r.get("difference") for r in results if "cnnengine" in r.get("isa", {}) and "torch" in r.get("isa", {})]
    bad = any(gap is None or gap > 1e-3 for gap in gaps) or any("cnnengine" in r.get("skipped", {}) for r in results)
    return int(bad)


def row(figures: dict[str, Any]) -> list[str]:
    ours, torch = figures["cnnengine"], figures.get("torch")
    if not ours:
        return [figures["family"], figures["layer"], figures["skipped"]["cnnengine"], *["-"] * 10]
    chosen, direct = ours["chosen"], ours.get("direct")
    gap = figures.get("difference")
    return [
        figures["family"],
        figures["layer"],
        chosen["kernel"],
        f"{chosen['ms']:.4f}",
        f"{chosen['gflops']:.1f}",
        f"{chosen['of_peak']:.0%}",
        f"{direct['of_peak']:.0%}" if direct else "",
        f"{chosen['roofline']:.0%}",
        f"{torch['kernel_ms']:.4f}" if torch and "kernel_ms" in torch else "-",
        f"{torch['kernel_of_peak']:.0%}" if torch and "kernel_of_peak" in torch else "-",
        f"{chosen['call_ms']:.4f}",
        f"{torch['call_ms']:.4f}" if torch else "-",
        "-" if gap is None else f"{gap:.0e}",
    ]


def worker() -> None:
    side: Any = Ours() if sys.argv[2] == "ours" else Torch()
    harness.worker.serve({"prepare": side.prepare, "run": side.run})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker()
    else:
        sys.exit(main())
