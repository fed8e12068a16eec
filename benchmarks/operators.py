"""Single operators: models of one node in cnnengine and in onnxruntime, side by side.

    python benchmarks/operators.py [--only Sin,OneHot] [--threads 1] [--rounds 30]

Both run in this process, in turn, on the same arrays; a turn is as many calls as take about five milliseconds, and its time the
mean of those. Printed are the minimum and the median over the turns in microseconds, and the ratio of ours to onnxruntime's.
Outputs are compared once; what differs is marked.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

TURN = 5e-3
"""Seconds of a turn, about."""
RNG = np.random.default_rng(5)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (RNG.standard_normal(shape) * scale).astype(np.float32)


def unit(*shape: int) -> np.ndarray:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


IMAGE = (1, 32, 112, 112)
LABELS = RNG.integers(0, 21, (1, 224, 224))
WITH_NAN = np.where(RNG.random(IMAGE) < 0.01, np.nan, normal(*IMAGE)).astype(np.float32)
BYTES = RNG.integers(0, 256, IMAGE).astype(np.uint8)
STEPS = (np.float32(0.037), np.uint8(128))

Case = tuple[str, list[np.ndarray], dict[str, Any], tuple[int, ...], int]
"""Operator, inputs, attributes, which inputs are constants, outputs."""

CASES: list[Case] = [
    *((op, [normal(*IMAGE, scale=3)], {}, (), 1) for op in ("Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh")),
    *((op, [unit(*IMAGE)], {}, (), 1) for op in ("Asin", "Acos", "Atanh")),
    ("Acosh", [1 + np.abs(normal(*IMAGE))], {}, (), 1),
    ("IsNaN", [WITH_NAN], {}, (), 1),
    ("IsInf", [WITH_NAN], {}, (), 1),
    ("Mod", [normal(*IMAGE, scale=9), np.float32(1.7)], {"fmod": 1}, (1,), 1),
    ("Mod", [RNG.integers(-99, 99, IMAGE), np.array(7)], {}, (1,), 1),
    ("BitShift", [RNG.integers(0, 99, IMAGE).astype(np.uint8), np.uint8(2)], {"direction": "RIGHT"}, (1,), 1),
    ("OneHot", [LABELS, np.array(21), np.float32([0, 1])], {"axis": 1}, (1, 2), 1),
    ("OneHot", [LABELS.reshape(-1), np.array(21), np.float32([0, 1])], {}, (1, 2), 1),
    ("Trilu", [normal(8, 256, 256)], {}, (), 1),
    ("Hardmax", [normal(64, 1000)], {}, (), 1),
    ("Hardmax", [normal(1, 21, 128, 128)], {"axis": 1}, (), 1),
    ("ArgMax", [normal(64, 1000)], {"axis": 1}, (), 1),
    ("ArgMax", [normal(1, 21, 224, 224)], {"axis": 1}, (), 1),
    ("Range", [np.float32(0), np.float32(50000), np.float32(0.5)], {}, (), 1),
    ("Unique", [RNG.integers(0, 5000, 100000)], {}, (), 4),
    ("Unique", [RNG.integers(0, 5000, 20000).astype(np.float32)], {}, (), 1),
    ("Compress", [normal(300000), RNG.random(300000) < 0.3], {"axis": 0}, (), 1),
    ("Compress", [normal(8400, 85), RNG.random(8400) < 0.1], {"axis": 0}, (), 1),
    ("ReverseSequence", [normal(80, 16, 64), RNG.integers(1, 80, 16)], {}, (), 1),
    ("Det", [normal(2000, 3, 3)], {}, (), 1),
    ("EyeLike", [normal(512, 512)], {}, (), 1),
    *(
        (op, [x, np.float32(0.037), np.uint8(128)], {}, (1, 2), 1)
        for op, x in (("QuantizeLinear", normal(*IMAGE)), ("DequantizeLinear", BYTES))
    ),
    ("QuantizeLinear", [normal(*IMAGE), np.full(32, 0.037, np.float32), np.zeros(32, np.int8)], {"axis": 1}, (1, 2), 1),
    ("DynamicQuantizeLinear", [normal(*IMAGE)], {}, (), 3),
    *(
        (f"com.microsoft.{op}", [BYTES, *STEPS, BYTES, *STEPS, *STEPS], {}, (1, 2, 4, 5, 6, 7), 1)
        for op in ("QLinearAdd", "QLinearMul")
    ),
    ("com.microsoft.QLinearMul", [BYTES, *STEPS, BYTES[:, :, :1, :1], *STEPS, *STEPS], {}, (1, 2, 4, 5, 6, 7), 1),
    ("com.microsoft.QLinearSigmoid", [BYTES, *STEPS, np.float32(1 / 256), np.uint8(0)], {}, (1, 2, 3, 4), 1),
]


def proto(case: Case) -> Any:
    from onnx import ValueInfoProto, helper, numpy_helper

    op, inputs, attributes, constants, outputs = case
    names, made = [f"x{i}" for i in range(len(inputs))], [f"y{i}" for i in range(outputs)]
    fed = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.asarray(x).dtype), np.asarray(x).shape)
        for i, (n, x) in enumerate(zip(names, inputs, strict=True))
        if i not in constants
    ]
    held = [numpy_helper.from_array(np.asarray(inputs[i]), names[i]) for i in constants]
    domain, _, kind = op.rpartition(".")
    node = helper.make_node(kind, names, made, domain=domain, **attributes)
    graph = helper.make_graph([node], "operator", fed, [ValueInfoProto(name=n) for n in made], held)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def turn(call: Callable[[], Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="OPERATORS", help="separated by commas")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args(argv)
    import onnxruntime

    import cnnengine
    from cnnengine.bench.show import table

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 4
    rows = [["operator", "inputs", "ours min", "median", "onnxruntime min", "median", "ratio min", "median"]]
    for case in CASES:
        op, inputs, attributes, constants, _ = case
        if options.only and op.rpartition(".")[2] not in options.only.split(","):
            continue
        shown = " ".join(f"{np.asarray(x).dtype}{list(np.asarray(x).shape)}" for i, x in enumerate(inputs) if i not in constants)
        shown += f" axis {attributes['axis']}" if "axis" in attributes else ""
        model = proto(case)
        feeds = {f"x{i}": np.asarray(x) for i, x in enumerate(inputs) if i not in constants}
        ours = cnnengine.load(model, threads=options.threads)
        theirs = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        calls = [lambda ours=ours, feeds=feeds: ours.run(None, feeds), lambda theirs=theirs, feeds=feeds: theirs.run(None, feeds)]
        same = all(
            # a step more or less, where a result lies between two
            np.allclose(a, b, rtol=1e-4, atol=1 if a.dtype in (np.uint8, np.int8) else 1e-5, equal_nan=True)
            for a, b in zip(*(call() for call in calls), strict=True)
        )
        counts = [max(1, int(TURN / turn(call, 1))) for call in calls]
        times: list[list[float]] = [[], []]
        for _ in range(options.rounds):
            for which in (0, 1):
                times[which].append(turn(calls[which], counts[which]) * 1e6)
        figures = [function(times[which]) for which in (0, 1) for function in (np.min, np.median)]
        rows.append(
            [
                op + ("" if same else " DIFFERS"),
                shown,
                *(f"{f:.1f}" for f in figures),
                *(f"{figures[i] / figures[2 + i]:.2f}" for i in (0, 1)),
            ]
        )
    print(f"cnnengine {cnnengine.__version__}, onnxruntime {onnxruntime.__version__}, {options.threads} thread(s); microseconds")
    print(table(rows, left=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
