"""Dense layers by weights in float32, float16 and bfloat16, and casts between them, side by side.

    python benchmarks/dense_half.py [--rows 1,2,8,64] [--threads 1] [--rounds 30]

The kernels alone, in turn, on weights that do not fit into a cache (and on some that do). Printed are the minimum and the median
over the turns in microseconds, the weights' bytes a second of the minimum, and the ratio of the float32 minimum to it. Casts are
measured against NumPy's `astype`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from cnnengine._kernels import kernel
from cnnengine._kernels.dispatch import current_isa, lanes
from cnnengine._kernels.pack import pack_bias, pack_dense
from cnnengine.layout import View, aligned_empty
from cnnengine.packing import HalfPanels
from cnnengine.weights import Rounded

LAYERS = {"alexnet fc6": (9216, 4096), "vgg fc7": (4096, 4096), "resnet50 fc": (2048, 1000), "mobilenet_v3 fc": (960, 1280)}
"""Inputs and outputs."""
TURN = 5e-3
"""Seconds of a turn, at least one call."""
CASTS = (1 << 16, 1 << 22)
"""Numbers that are converted."""


def measure(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, tuple[float, float]]:
    """Minimum and median seconds of one call of each, in turn."""
    counts = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        counts[name] = max(1, int(TURN / max(time.perf_counter() - start, 1e-7)))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(counts[name]):
                call()
            taken[name].append((time.perf_counter() - start) / counts[name])
    return {name: (min(times), statistics.median(times)) for name, times in taken.items()}


def dense(rows: int, k: int, o: int, threads: int) -> dict[str, Callable[[], None]]:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((rows, k), dtype=np.float32), rng.standard_normal((o, k), dtype=np.float32)
    bias, y = pack_bias(None, o, aligned_empty), np.empty((rows, o), np.float32)
    calls: dict[str, Callable[[], None]] = {}
    for kind in ("float32", "float16", "bfloat16"):
        packed = pack_dense(w, aligned_empty) if kind == "float32" else HalfPanels(Rounded(w, kind), lanes())(aligned_empty)
        views = (View.plain(x.shape), View.plain(packed.shape, packed.dtype), View.plain(bias.shape), None)
        if kind == "float32":
            launch = kernel("dense").build(views, (View.plain(y.shape),))
        else:
            launch = kernel("dense_half").build(views, (View.plain(y.shape),), kind=kind)
        calls[kind] = lambda launch=launch, packed=packed: launch(x, packed, bias, None, y, threads=threads)  # type: ignore[misc]
    return calls


def casts(n: int, threads: int) -> dict[str, Callable[[], None]]:
    x = np.random.default_rng(0).standard_normal(n, dtype=np.float32)
    calls: dict[str, Callable[[], None]] = {}
    for source, target in (("float32", "float16"), ("float16", "float32")):
        a, y = x.astype(source), np.empty(n, target)
        launch = kernel("cast").build((View.plain((n,), a.dtype),), (View.plain((n,), y.dtype),))
        calls[f"{source} to {target}"] = lambda launch=launch, a=a, y=y: launch(a, y, threads=threads)  # type: ignore[misc]
        calls[f"{source} to {target}, NumPy"] = lambda a=a, y=y: np.copyto(y, a, casting="unsafe")  # type: ignore[misc]
    return calls


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1,2,8,64", help="rows of x (default: 1,2,8,64)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args(argv)
    print(f"{current_isa()}, {options.threads} threads")
    print("| layer | rows | weights | min us | median us | GB/s | of float32 |\n|---|---|---|---|---|---|---|")
    for title, (k, o) in LAYERS.items():
        for rows in map(int, options.rows.split(",")):
            found = measure(dense(rows, k, o, options.threads), options.rounds)
            for kind, (least, median) in found.items():
                size = k * o * (4 if kind == "float32" else 2)
                ratio = found["float32"][0] / least
                times = f"{least * 1e6:.1f} | {median * 1e6:.1f}"
                print(f"| {title} | {rows} | {kind} | {times} | {size / least * 1e-9:.1f} | {ratio:.2f} |")
    print("\n| cast | numbers | min us | median us | GB/s |\n|---|---|---|---|---|")
    for n in CASTS:
        for title, (least, median) in measure(casts(n, options.threads), options.rounds).items():
            print(f"| {title} | {n} | {least * 1e6:.1f} | {median * 1e6:.1f} | {6 * n / least * 1e-9:.1f} |")


if __name__ == "__main__":
    main()
