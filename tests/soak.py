"""Does memory stay where it is? Many runs of one model over many shapes, in one process.

    python tests/soak.py --runs 1000 --shapes 20

The model is a U-Net of the zoo whose height and width are made dynamic too; inputs of `--shapes` different batch sizes,
heights and widths take turns. Two things are measured, and the exit code is 1 when either fails:

- Resident memory after run 100 may grow by less than 1 MB. The shapes come in the same cycle again and again, and memory is
  read at the end of cycles only, so that the same plans are cached each time.
- Repeated runs of one shape allocate nothing but their outputs: `cnnengine.runtime.runner.allocation_count()` for the
  engine's own buffers, tracemalloc for Python objects and arrays.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import zoo_support

import cnnengine

WARM_RUNS = 100
GROWTH_LIMIT = 1_000_000  # bytes
TRACED_SLACK = 16_384  # bytes of small Python objects that may come and go within a run, or stay after fifty
REPEATS = 50


def resident_bytes() -> int:
    """Resident memory, counted page by page (the counters of statm lag behind by some pages per thread)."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
    raise OSError("/proc/self/smaps_rollup has no Rss line")


def dynamic_model(name: str) -> bytes:
    """A zoo model whose N, H and W are dynamic."""
    model = zoo_support.model_proto(name)
    del model.graph.value_info[:]  # they speak of the size it was exported with
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        for axis, symbol in ((0, "N"), (2, "H"), (3, "W")):
            if axis < len(dims):
                dims[axis].dim_param = symbol
    return model.SerializeToString()


def shapes(count: int, channels: int, step: int, seed: int) -> list[tuple[int, ...]]:
    """`count` different shapes, extents multiples of `step`."""
    draw = random.Random(seed)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < count:
        found[(draw.randint(1, 3), channels, step * draw.randint(3, 12), step * draw.randint(3, 12))] = None
    return list(found)


def allocation_counter() -> Callable[[], int]:
    """The engine's count of its own allocations; exits when it has none, since nothing could be said then."""
    try:
        from cnnengine.runtime import runner
    except ImportError as error:
        sys.exit(f"FAIL: cnnengine.runtime.runner cannot be imported, so allocations cannot be counted: {error}")
    counter = getattr(runner, "allocation_count", None)
    if counter is None:
        sys.exit("FAIL: cnnengine.runtime.runner has no allocation_count(), so allocations cannot be counted")
    return counter


def check_growth(engine: cnnengine.Model, inputs: list[np.ndarray], runs: int, name: str) -> bool:
    """Part one: resident memory over all shapes."""
    cycle = len(inputs)
    warm = -(-WARM_RUNS // cycle) * cycle
    runs = max(-(-runs // cycle) * cycle, warm + cycle)
    start, readings = time.monotonic(), []
    first: list[np.ndarray | None] = [None] * cycle
    for i in range(runs):
        value = engine.run(None, {name: inputs[i % cycle]})[0]
        before = first[i % cycle]
        sample = value[:, :, ::5, ::7].copy()  # a part, so that the check itself holds little memory
        if before is None:
            first[i % cycle] = sample
        elif not np.array_equal(before, sample):
            print(f"FAIL: run {i + 1}, shape {inputs[i % cycle].shape}: not the outputs of the first run of that shape")
            return False
        del value, sample, before
        if (i + 1) % cycle == 0 and i + 1 >= warm:
            gc.collect()
            readings.append((i + 1, resident_bytes()))
    base = readings[0][1]
    peak_run, peak = max(readings[1:], key=lambda reading: reading[1])
    growth = peak - base
    print(
        f"{runs} runs over {cycle} shapes in {time.monotonic() - start:.1f} s: {base / 1e6:.2f} MB resident after run {warm}, "
        f"{readings[-1][1] / 1e6:.2f} MB at the end; most {growth / 1e6:+.3f} MB, after run {peak_run}"
    )
    if growth >= GROWTH_LIMIT:
        print(f"FAIL: resident memory grew by {growth} bytes, allowed are less than {GROWTH_LIMIT}")
        return False
    return True


def check_allocations(engine: cnnengine.Model, inputs: list[np.ndarray], name: str, count: Callable[[], int]) -> bool:
    """Part two: one shape again and again, for several shapes."""
    good = True
    for x in inputs:
        feeds = {name: x}
        output_bytes = sum(value.nbytes for value in engine.run(None, feeds))
        engine.run(None, feeds)
        before = count()
        for _ in range(REPEATS):
            engine.run(None, feeds)
        native = count() - before
        tracemalloc.start()
        try:
            engine.run(None, feeds)
            gc.collect()
            held = tracemalloc.get_traced_memory()[0]
            within = 0
            for _ in range(REPEATS):
                tracemalloc.reset_peak()
                at_start = tracemalloc.get_traced_memory()[0]
                engine.run(None, feeds)
                within = max(within, tracemalloc.get_traced_memory()[1] - at_start - output_bytes)
            gc.collect()
            kept = tracemalloc.get_traced_memory()[0] - held
        finally:
            tracemalloc.stop()
        failed = native != 0 or kept > TRACED_SLACK or within > TRACED_SLACK
        good = good and not failed
        print(
            f"{'FAIL: ' if failed else ''}shape {x.shape}, {REPEATS} runs: {native} engine allocations; "
            f"Python keeps {kept} bytes, and uses {within} within a run beside the {output_bytes} of the outputs"
        )
    return good


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--shapes", type=int, default=20)
    parser.add_argument("--model", default="unet_convt.ts", help="a zoo model that takes any N, H, W (unet_convt.ts)")
    parser.add_argument("--step", type=int, default=8, help="extents are 3 to 12 times this (8)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if not 1 <= options.shapes <= 300 or options.runs < 1 or options.step < 1:
        parser.error("--shapes must be 1 to 300, --runs and --step positive")

    count = allocation_counter()
    entry = zoo_support.expected(options.model)["input"]
    drawn = shapes(options.shapes, entry["shape"][1], options.step, options.seed)
    rng = np.random.default_rng(options.seed)
    inputs = [rng.standard_normal(shape, np.float32) for shape in drawn]
    with cnnengine.load(dynamic_model(options.model), threads=options.threads, fallback="error") as engine:
        print(f"{options.model}, N, H and W dynamic, {options.threads} threads")
        steady = check_growth(engine, inputs, options.runs, entry["name"])
        quiet = check_allocations(engine, inputs[:3], entry["name"], count)
    print("passed" if steady and quiet else "FAILED")
    return 0 if steady and quiet else 1


if __name__ == "__main__":
    sys.exit(main())
