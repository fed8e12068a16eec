"""Single layers: every function of cnnengine.functional against torch.nn.functional on typical shapes.

    python benchmarks/layers.py [--only conv] [--threads 1]

Both run in processes of their own and take turns, the other one stopped; the first run of a turn is not counted. Both get
the same float32 arrays and allocate their results; results are compared. Times are milliseconds; of layers that compute,
GFLOP/s count a multiply-add as two, and stand beside the multiply-add peak measured in the same run. Functions slower than
twice torch's time (in the median) are named at the end (with --fail-slow the
exit code is then 1).

torch may live in another environment: --peer-python /path/to/python.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness
import numpy as np

DIFFERS = 1e-4
"""Results further apart than this, relative to the largest absolute value, are not the same computation."""
SLOW = 2.0
"""More than this many times torch's time is named."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One function on one shape.

    Attributes
    ----------
    function : str
        Its name in cnnengine.functional.
    label : str
        The shape, for the table.
    arrays : tuple of (kind, shape)
        The array arguments: "normal", "weight" or "recurrent" (scaled to keep the output near 1), "positive" or "unpool"; see
        `array`.
    rest : tuple
        Positional arguments behind the arrays.
    options : dict
        Keyword arguments.
    torch : callable
        (torch, torch.nn.functional, *tensors) -> tensor, the same computation. Where torch returns a view or its argument,
        while cnnengine returns a new array, it clones.
    flops : float
        Of layers that compute; 0 for those that memory alone limits.
    """

    function: str
    label: str
    arrays: tuple[tuple[str, Shape], ...]
    torch: Callable[..., Any]
    rest: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    flops: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.function} {self.label}"


def array(kind: str, shape: Shape, seed: int) -> np.ndarray:
    """One seeded argument."""
    rng = np.random.default_rng(seed)
    if kind == "unpool":  # the winner of each window of 2 per axis, as ONNX indices into the whole flattened output
        flat = np.arange(shape[0] * shape[1]).reshape(shape[:2] + (1,) * (len(shape) - 2))
        for axis, extent in enumerate(shape[2:]):
            along = np.arange(extent).reshape((extent,) + (1,) * (len(shape) - 3 - axis))
            flat = flat * (2 * extent) + 2 * along + rng.integers(0, 2, shape)
        return flat.astype(np.int64)
    values = rng.standard_normal(shape, np.float32)
    if kind == "weight":
        values /= np.float32(math.sqrt(math.prod(shape[1:])))
    elif kind == "recurrent":  # of a direction each
        values /= np.float32(math.sqrt(shape[-1]))
    elif kind == "positive":
        values = np.abs(values) + np.float32(0.5)
    return values


CASES: list[Case] = []


def add(function: str, label: str, arrays: Sequence[tuple[str, Shape]], torch: Callable[..., Any], **more: Any) -> None:
    CASES.append(Case(function, label, tuple(arrays), torch, **more))


def conv(x: Shape, out: int, kernel: Shape, stride: int = 1, pads: int = 0, dilation: int = 1, groups: int = 1) -> None:
    rank = len(kernel)
    w = (out, x[1] // groups, *kernel)
    extents = [(n + 2 * pads - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(x[2:], kernel, strict=True)]
    options = {"stride": stride, "pads": pads, "dilation": dilation, "groups": groups}
    shown = "".join(f" {key[0]}{value}" for key, value in options.items() if value != (0 if key == "pads" else 1))
    add(
        f"conv{rank}d",
        f"{'x'.join(map(str, x))} -> {out} k{'x'.join(map(str, kernel))}{shown}",
        [("normal", x), ("weight", w), ("normal", (out,))],
        lambda t, f, a, b, c: getattr(f, f"conv{rank}d")(a, b, c, stride, pads, dilation, groups),
        options=options,
        flops=2.0 * x[0] * out * math.prod(extents) * math.prod(w[1:]),
    )


def conv_transpose(
    x: Shape, out: int, kernel: Shape, stride: int, pads: int = 0, output_padding: int = 0, groups: int = 1
) -> None:
    rank = len(kernel)
    w = (x[1], out // groups, *kernel)
    add(
        f"conv_transpose{rank}d",
        f"{'x'.join(map(str, x))} -> {out} k{'x'.join(map(str, kernel))} s{stride} p{pads}"
        + (f" g{groups}" if groups > 1 else ""),
        [("normal", x), ("weight", w), ("normal", (out,))],
        lambda t, f, a, b, c: getattr(f, f"conv_transpose{rank}d")(a, b, c, stride, pads, output_padding, groups),
        options={"stride": stride, "pads": pads, "output_padding": output_padding, "groups": groups},
        flops=2.0 * math.prod(x) * math.prod(w[1:]),
    )


def text(shape: Shape) -> str:
    return "x".join(map(str, shape))


def build() -> None:
    """Fill CASES."""
    # the layers that compute
    conv((1, 3, 224, 224), 64, (7, 7), 2, 3)
    conv((1, 64, 56, 56), 64, (3, 3), 1, 1)
    conv((1, 256, 14, 14), 256, (3, 3), 1, 1)
    conv((1, 512, 7, 7), 512, (3, 3), 1, 1)
    conv((1, 64, 56, 56), 128, (3, 3), 2, 1)
    conv((1, 64, 56, 56), 256, (1, 1))
    conv((1, 256, 14, 14), 1024, (1, 1))
    conv((1, 2048, 7, 7), 512, (1, 1))
    conv((1, 144, 56, 56), 144, (3, 3), 1, 1, groups=144)
    conv((1, 576, 14, 14), 576, (5, 5), 1, 2, groups=576)
    conv((1, 128, 28, 28), 128, (3, 3), 1, 1, groups=32)
    conv((1, 256, 28, 28), 256, (3, 3), 1, 2, dilation=2)
    conv((1, 1, 16000), 64, (80,), 4, 38)
    conv((1, 64, 1000), 128, (3,), 1, 1)
    conv((1, 3, 16, 56, 56), 32, (3, 3, 3), 1, 1)
    conv((1, 64, 8, 28, 28), 64, (3, 3, 3), 1, 1)
    conv_transpose((1, 64, 500), 32, (4,), 2, 1)
    conv_transpose((1, 128, 28, 28), 64, (2, 2), 2)
    conv_transpose((1, 64, 28, 28), 64, (4, 4), 2, 1)
    conv_transpose((1, 64, 28, 28), 64, (4, 4), 2, 1, groups=64)
    conv_transpose((1, 32, 8, 14, 14), 32, (2, 2, 2), 2)
    x: Shape
    for x, out in (((1, 512), 1000), ((1, 9216), 4096), ((64, 512), 1000)):
        add(
            "dense",
            f"{text(x)} -> {out}",
            [("normal", x), ("weight", (out, x[1])), ("normal", (out,))],
            lambda t, f, a, b, c: f.linear(a, b, c),
            flops=2.0 * math.prod(x) * out,
        )

    # pooling
    typical: dict[int, Shape] = {1: (1, 64, 4000), 2: (1, 64, 112, 112), 3: (1, 32, 16, 28, 28)}
    for rank, x in typical.items():
        for kernel, stride, pads in ((2, 2, 0), (3, 2, 1)):
            label = f"{text(x)} k{kernel} s{stride} p{pads}"
            window = {"stride": stride, "pads": pads}
            add(
                f"max_pool{rank}d",
                label,
                [("normal", x)],
                lambda t, f, a, r=rank, k=kernel, s=stride, p=pads: getattr(f, f"max_pool{r}d")(a, k, s, p),
                rest=(kernel,),
                options=window,
            )
            add(
                f"avg_pool{rank}d",
                label,
                [("normal", x)],
                lambda t, f, a, r=rank, k=kernel, s=stride, p=pads: getattr(f, f"avg_pool{r}d")(a, k, s, p),
                rest=(kernel,),
                options=window | {"count_include_pad": True},
            )
        add(
            f"max_pool{rank}d",
            f"{text(x)} k2 s2 with indices",
            [("normal", x)],
            lambda t, f, a, r=rank: getattr(f, f"max_pool{r}d")(a, 2, 2, return_indices=True)[0],
            rest=(2,),
            options={"stride": 2, "return_indices": True},
        )
        add(
            f"lp_pool{rank}d",
            f"{text(x)} k3 s2",
            [("positive", x)],
            lambda t, f, a, r=rank: getattr(f, f"lp_pool{r}d")(a, 2.0, 3, 2),
            rest=(3,),
            options={"stride": 2},
        )
        for kind in ("max", "avg"):
            add(
                f"adaptive_{kind}_pool{rank}d",
                f"{text(x)} -> 7",
                [("normal", x)],
                lambda t, f, a, k=kind, r=rank: getattr(f, f"adaptive_{k}_pool{r}d")(a, 7),
                rest=(7,),
            )
    x = (1, 64, 112, 112)
    add(
        "max_pool2d",
        f"{text(x)} k5 s1 p2",
        [("normal", x)],
        lambda t, f, a: f.max_pool2d(a, 5, 1, 2),
        rest=(5,),
        options={"pads": 2},
    )
    x = (1, 512, 14, 14)
    add("global_max_pool", text(x), [("normal", x)], lambda t, f, a: f.adaptive_max_pool2d(a, 1))
    add("global_avg_pool", text(x), [("normal", x)], lambda t, f, a: f.adaptive_avg_pool2d(a, 1))
    add("global_lp_pool", text(x), [("normal", x)], lambda t, f, a: t.linalg.vector_norm(a, dim=(2, 3), keepdim=True))
    x = (1, 256, 13, 13)
    for mode in ("max", "avg"):
        add(
            "spatial_pyramid_pool",
            f"{text(x)} 4,2,1 {mode}",
            [("normal", x)],
            lambda t, f, a, m=mode: t.cat([getattr(f, f"adaptive_{m}_pool2d")(a, n).flatten(1) for n in (4, 2, 1)], 1),
            options={"levels": (4, 2, 1), "mode": mode},
        )
    for rank, x in {1: (1, 64, 2000), 2: (1, 64, 56, 56), 3: (1, 32, 8, 14, 14)}.items():
        unpool(rank, x)

    # normalisation
    x = (1, 64, 56, 56)
    channel = [("normal", (64,)), ("normal", (64,))]
    statistics = [("normal", (64,)), ("positive", (64,))]
    add("batch_norm", text(x), [("normal", x), *channel, *statistics], lambda t, f, a, s, b, m, v: f.batch_norm(a, m, v, s, b))
    add("instance_norm", text(x), [("normal", x), *channel], lambda t, f, a, s, b: f.instance_norm(a, weight=s, bias=b))
    add(
        "group_norm",
        f"{text(x)} groups 8",
        [("normal", x), *channel],
        lambda t, f, a, s, b: f.group_norm(a, 8, s, b),
        options={"groups": 8},
    )
    tokens = (1, 196, 768)
    add(
        "layer_norm",
        text(tokens),
        [("normal", tokens), ("normal", (768,)), ("normal", (768,))],
        lambda t, f, a, s, b: f.layer_norm(a, (768,), s, b),
    )
    add(
        "local_response_norm",
        f"{text(x)} size 5",
        [("normal", x)],
        lambda t, f, a: f.local_response_norm(a, 5, 1e-4, 0.75, 1.0),
        options={"size": 5},
    )
    add("dropout", text(x), [("normal", x)], lambda t, f, a: f.dropout(a, training=False).clone())
    add("flatten", text(x), [("normal", x)], lambda t, f, a: a.flatten(1).clone())

    # activations
    activations: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "relu": (lambda t, f, a: f.relu(a), {}),
        "leaky_relu": (lambda t, f, a: f.leaky_relu(a, 0.01), {}),
        "elu": (lambda t, f, a: f.elu(a), {}),
        "selu": (lambda t, f, a: f.selu(a), {}),
        "celu": (lambda t, f, a: f.celu(a), {}),
        "silu": (lambda t, f, a: f.silu(a), {}),
        "mish": (lambda t, f, a: f.mish(a), {}),
        "sigmoid": (lambda t, f, a: t.sigmoid(a), {}),
        "hard_sigmoid": (lambda t, f, a: f.hardsigmoid(a), {"alpha": 1 / 6}),
        "hard_swish": (lambda t, f, a: f.hardswish(a), {}),
        "tanh": (lambda t, f, a: t.tanh(a), {}),
        "softplus": (lambda t, f, a: f.softplus(a), {}),
        "softsign": (lambda t, f, a: f.softsign(a), {}),
    }
    for name, (same, options) in activations.items():
        add(name, text(x), [("normal", x)], same, options=options)
    add("gelu", text(x), [("normal", x)], lambda t, f, a: f.gelu(a))
    add(
        "gelu", f"{text(x)} tanh", [("normal", x)], lambda t, f, a: f.gelu(a, approximate="tanh"), options={"approximate": "tanh"}
    )
    add("prelu", text(x), [("normal", x), ("normal", (64, 1, 1))], lambda t, f, a, s: f.prelu(a, s.flatten()))
    add("clip", f"{text(x)} 0..6", [("normal", x)], lambda t, f, a: t.clamp(a, 0.0, 6.0), rest=(0.0, 6.0))
    for shape, axis in (((1, 1000), -1), ((1, 21, 64, 64), 1)):
        label = f"{text(shape)} axis {axis}"
        add("softmax", label, [("normal", shape)], lambda t, f, a, d=axis: f.softmax(a, d), options={"axis": axis})
        add("log_softmax", label, [("normal", shape)], lambda t, f, a, d=axis: f.log_softmax(a, d), options={"axis": axis})

    for size, hidden in ((64, 48), (512, 256)):
        for function in ("lstm", "gru", "rnn"):
            recurrent(function, 80, size, hidden)


def unpool(rank: int, x: Shape) -> None:
    add(
        f"max_unpool{rank}d",
        f"{text(x)} k2 s2",
        [("normal", x), ("unpool", x)],
        lambda t, f, a, i: getattr(f, f"max_unpool{rank}d")(a, i, 2, 2),
        rest=(2,),
        options={"stride": 2},
    )


RECURRENT: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "gru": ("gru", (1, 0, 2), {"linear_before_reset": True}),
    "lstm": ("lstm", (0, 2, 3, 1), {}),
    "rnn": ("rnn_tanh", (0,), {}),
}
"""torch's name, the places of its gates among ONNX's, and the options that make it the same layer."""


def recurrent(function: str, steps: int, size: int, hidden: int) -> None:
    """Both directions; torch's weights, whose gates stand in another order, are made at its first call."""
    name, order, options = RECURRENT[function]
    rows = len(order) * hidden
    weights: list[Any] = []

    def same(t: Any, f: Any, x: Any, w: Any, r: Any, b: Any) -> Any:
        if not weights:
            at = t.cat([t.arange(gate * hidden, (gate + 1) * hidden) for gate in order])
            for d in range(2):
                weights.extend([w[d][at].clone(), r[d][at].clone(), b[d][:rows][at].clone(), b[d][rows:][at].clone()])
        h = t.zeros(2, 1, hidden)
        state = (h, h) if function == "lstm" else h
        return getattr(t, name)(x, state, weights, True, 1, 0.0, False, True, False)[0].view(steps, 2, 1, hidden)

    add(
        function,
        f"{steps}x1x{size} -> {hidden} both ways",
        [
            ("normal", (steps, 1, size)),
            ("recurrent", (2, rows, size)),
            ("recurrent", (2, rows, hidden)),
            ("recurrent", (2, 2 * rows)),
        ],
        same,
        options={"direction": "bidirectional", **options},
        flops=4.0 * steps * rows * (size + hidden),
    )


build()


class Side:
    """The worker's side: one of the two, one case at a time."""

    def __init__(self, engine: str, folder: str, threads: int) -> None:
        self.engine, self.folder, self.threads = engine, Path(folder), threads
        self.module: Any = None
        self.call: Callable[[], Any] = lambda: None

    def start(self) -> dict[str, Any]:
        """Import the engine; the names of the functions that it offers."""
        if self.engine == "torch":
            import torch

            torch.set_num_threads(self.threads)
            torch.set_grad_enabled(False)
            self.module = torch
            return {"functions": []}
        import cnnengine.functional

        self.module = cnnengine.functional
        return {"functions": list(getattr(self.module, "__all__", ()))}

    def prepare(self, index: int) -> dict[str, Any]:
        """Make the arrays of a case, call it once, store the result for the comparison."""
        self.bind(index)
        result = self.call()
        result = result[0] if isinstance(result, tuple) else result
        np.save(self.folder / f"{index}.npy", np.asarray(result))
        return {}

    def bind(self, index: int) -> None:
        """Make the arrays of a case, and the call of it."""
        case = CASES[index]
        seed = zlib.crc32(case.name.encode())
        arrays = [array(kind, shape, seed + i) for i, (kind, shape) in enumerate(case.arrays)]
        if self.engine == "torch":
            for i, (kind, shape) in enumerate(case.arrays):
                if kind == "unpool":  # torch counts within each plane
                    arrays[i] %= math.prod(2 * extent for extent in shape[2:])
            torch = self.module
            self.call = self._bind(case.torch, torch, torch.nn.functional, *map(torch.from_numpy, arrays))
        else:
            function = getattr(self.module, case.function)
            self.call = self._bind(function, *arrays, *case.rest, **case.options, threads=self.threads)

    @staticmethod
    def _bind(function: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[[], Any]:
        return lambda: function(*arguments, **options)

    def run(self, seconds: float) -> dict[str, Any]:
        return {"times_ms": [round(t, 6) for t in harness.worker.timed(self.call, seconds)]}

    def peak(self, seconds: float) -> dict[str, Any]:
        from cnnengine.report.profile import fma_peak

        return {"gflops": fma_peak(self.threads, seconds)}


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference relative to the largest absolute value; infinite when shapes, dtypes or finiteness differ."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return math.inf
    gap = float(np.abs(a.astype(np.float64) - b).max())
    return gap / (float(np.abs(b).max()) or 1.0) if math.isfinite(gap) else math.inf


def measure(index: int, sides: dict[str, Any], folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one case."""
    from cnnengine.bench import WorkerError

    case = CASES[index]
    figures: dict[str, Any] = {"function": case.function, "case": case.label, "flops": case.flops}
    try:
        for side, worker in sides.items():
            figures["failed"] = side
            worker.ask(do="prepare", index=index)
        figures["difference"] = difference(*(np.load(folder / side / f"{index}.npy") for side in ("ours", "torch")))
        times: dict[str, list[float]] = {side: [] for side in sides}
        peaks: list[float] = []
        for turn in range(options.rounds):
            if case.flops and options.ours == "cnnengine":
                figures["failed"] = "fma_peak"
                peak = sides["ours"].ask(do="peak", seconds=0.02)["gflops"]
                peaks += [peak] if peak else []
            for side in list(sides)[:: 1 if turn % 2 else -1]:
                figures["failed"] = side
                times[side] += sides[side].ask(do="run", seconds=options.seconds)["times_ms"]
    except WorkerError as error:
        figures["reason"] = str(error)
        return figures
    del figures["failed"]
    figures |= {side: harness.worker.summary(of_side) for side, of_side in times.items()}
    for which in ("min", "median"):
        figures[f"ratio_{which}"] = figures["ours"][f"{which}_ms"] / figures["torch"][f"{which}_ms"]
    if case.flops:
        figures["gflops"] = case.flops / figures["ours"]["min_ms"] / 1e6
        figures["torch_gflops"] = case.flops / figures["torch"]["min_ms"] / 1e6
        figures["fma_peak_gflops"] = max(peaks, default=None)
    return figures


def line(figures: dict[str, Any]) -> list[str]:
    """One row of the table."""
    name = [figures["function"], figures["case"]]
    if "reason" in figures:
        return [*name, *["-"] * 8, f"{figures['failed']} failed"]
    times = [f"{figures[side][key]:.4f}" for side in ("ours", "torch") for key in ("min_ms", "median_ms")]
    ratios = [f"{figures[f'ratio_{which}']:.2f}" for which in ("min", "median")]
    speed, share = "", ""
    if figures["flops"]:
        speed = f"{figures['gflops']:.1f}"
        peak = figures["fma_peak_gflops"]
        share = f"{figures['gflops'] / peak:.0%}" if peak else "n/a"
    gap = figures["difference"]
    return [*name, *times, *ratios, speed, share, f"{gap:.0e}" + (" DIFFERS" if gap > DIFFERS else "")]


HEAD = [
    "function",
    "case",
    "ours min",
    "median",
    "torch min",
    "median",
    "ratio min",
    "median",
    "GFLOP/s",
    "of peak",
    "max |diff|",
]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side per case (5)")
    parser.add_argument("--seconds", type=float, default=0.05, help="length of a turn (0.05), at least three runs")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains it; several by commas")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has torch (this one)")
    parser.add_argument(
        "--ours", default="cnnengine", choices=["cnnengine", "torch"], help="torch: against itself, shows the noise"
    )
    parser.add_argument("--fail-slow", action="store_true", help="exit code 1 when a function is slower than twice torch")
    parser.add_argument("--json", metavar="FILE", help="write every figure there too")
    options = parser.parse_args(argv)
    if options.threads < 1 or options.rounds < 1 or options.seconds <= 0:
        parser.error("--threads, --rounds and --seconds must be positive")
    chosen = [i for i, case in enumerate(CASES) if any(part in case.name for part in options.only.split(","))]
    if not chosen:
        parser.error(f"no case contains {options.only!r}")

    from cnnengine import show_config
    from cnnengine.bench.harness import PACKAGE_HOME, Worker, machine_head, probe
    from cnnengine.bench.show import spread, table

    here, there = probe(sys.executable, ["numpy"]), probe(options.peer_python, ["torch", "numpy"])
    if there["packages"]["torch"] is None:
        raise SystemExit(f"{options.peer_python} has no torch: --peer-python names the interpreter that has it")
    head = machine_head() | {"threads": options.threads, "torch": there["packages"]["torch"]}
    print(f"{head['date']}  {head['cpu']}, {head['cpus']} CPUs, {head['system']}, load {head['load']}")
    print(f"threads {options.threads}, {options.rounds} rounds of {options.seconds:g} s; float32")
    print(f"Python {here['python']}, numpy {here['packages']['numpy']}; torch {head['torch']} under Python {there['python']}")
    if options.ours == "cnnengine":
        head["cnnengine"] = {key: list(value) if isinstance(value, tuple) else value for key, value in show_config().items()}
        print(f"cnnengine {head['cnnengine']['version']}, {head['cnnengine']['isa']}")
    sys.stdout.flush()

    results: list[dict[str, Any]] = []
    sides: dict[str, Worker] = {}
    untested: list[str] = []
    with tempfile.TemporaryDirectory(prefix="cnnengine-layers-") as folder:
        try:
            for side, engine in (("ours", options.ours), ("torch", "torch")):
                (Path(folder) / side).mkdir()
                python = options.peer_python if engine == "torch" else sys.executable
                arguments = ["--worker", engine, os.fspath(Path(folder) / side), str(options.threads)]
                beside = os.fspath(Path(__file__).resolve().parent)
                path = [beside] if engine == "torch" else [os.fspath(PACKAGE_HOME), os.environ.get("PYTHONPATH", ""), beside]
                environment = {"PYTHONPATH": os.pathsep.join(filter(None, path))}
                sides[side] = Worker([python, os.path.abspath(__file__), *arguments], environment=environment)
                offered = sides[side].ask(do="start")["functions"]
                untested += sorted(set(offered) - {case.function for case in CASES})
            for position, index in enumerate(chosen):
                if sys.stderr.isatty():
                    print(f"\r{position + 1}/{len(chosen)} {CASES[index].name:<70.70}", end="", file=sys.stderr)
                results.append(measure(index, sides, Path(folder), options))
                for side in sides:
                    (Path(folder) / side / f"{index}.npy").unlink(missing_ok=True)
        finally:
            for worker in sides.values():
                worker.close()
    if sys.stderr.isatty():
        print("\r" + " " * 80 + "\r", end="", file=sys.stderr)
    print(table([HEAD, *map(line, results)], left=2))

    measured = [r for r in results if "reason" not in r]
    failed = [r for r in results if "reason" in r]
    differing = [r for r in measured if r["difference"] > DIFFERS]
    slow = [r for r in measured if r["ratio_median"] > SLOW]
    peaks = [r["fma_peak_gflops"] for r in measured if r.get("fma_peak_gflops")]
    print(f"FMA peak {spread(peaks) + ' GFLOP/s' if peaks else 'n/a'}")
    if measured:
        mean = math.exp(sum(math.log(r["ratio_median"]) for r in measured) / len(measured))
        print(f"{len(measured)} cases, geometric mean of ours/torch in the median {mean:.2f}")
    print(f"slower than {SLOW:g} times torch: {len(slow) or 'none'}")
    for r in sorted(slow, key=lambda r: -r["ratio_median"]):
        print(f"  {r['function']} {r['case']}: {r['ratio_median']:.2f}")
    for r in differing:
        print(f"results differ: {r['function']} {r['case']}: {r['difference']:.1e}")
    for r in failed:
        print(f"failed ({r['failed']}): {r['function']} {r['case']}: {r['reason']}")
    if untested:
        print(f"functions without a case here: {', '.join(untested)}")
    if options.json:
        written = {"machine": head, "cases": results, "untested": untested}
        Path(options.json).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return int(bool(failed or differing or untested or (options.fail_slow and slow)))


def worker() -> None:
    engine, folder, threads = sys.argv[2:5]
    side = Side(engine, folder, int(threads))
    harness.worker.serve({"start": side.start, "prepare": side.prepare, "run": side.run, "peak": side.peak})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker()
    else:
        sys.exit(main())
