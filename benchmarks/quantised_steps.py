"""How often a layer of a quantised network lies a step beside its evaluation in float64, from the same quantised inputs.

    python benchmarks/quantised_steps.py MODEL.onnx ... [--seed 0]

The network runs on one random input as the engine computes it, integers and their defined roundings. Each QuantizeLinear of
the file is then evaluated in float64 from the quantised tensors before it, which are those of the engine: so a layer's own
roundings are seen, not what grows out of those of others. A tensor that is no value of the engine's any more, since it is part
of a fused layer or of a table, has the float64 evaluation.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np

from cnnengine.graph import Graph
from cnnengine.importer.graphs import import_model
from cnnengine.importer.reader import open_model
from cnnengine.ops.quantized import DequantizeLinear, QuantizeLinear
from cnnengine.rewrites import simplify


def values_of(graph: Graph, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every value of a graph, by the operators' references."""
    values = {**graph.constants, **feeds}
    for node in graph.nodes:
        results = node.op.evaluate(*(values[n] if n else None for n in node.inputs))
        values.update({n: r for n, r in zip(node.outputs, results, strict=False) if n})
    return values


def exact(graph: Graph, feeds: dict[str, np.ndarray], known: dict[str, np.ndarray]) -> tuple[int, int, int]:
    """Elements of quantised tensors that were compared, that differ, and the largest difference in steps."""
    values: dict[str, np.ndarray] = {**graph.constants, **feeds}
    compared = differ = most = 0
    for node in graph.nodes:
        inputs = [values[n] if n else None for n in node.inputs]
        if isinstance(node.op, (QuantizeLinear, DequantizeLinear)):
            x, scale, zero = (*inputs, None)[:3]
            assert x is not None and scale is not None
            s = node.op._laid_out(scale.astype(np.float64), x.shape, "scale")
            z = 0 if zero is None else node.op._laid_out(zero.astype(np.float64), x.shape, "zero_point")
            if isinstance(node.op, DequantizeLinear):
                values[node.outputs[0]] = (x.astype(np.float64) - z) * s
                continue
            dtype = np.dtype(np.uint8) if zero is None else zero.dtype
            limits = np.iinfo(dtype)
            y = np.clip(np.rint(x / s) + z, limits.min, limits.max).astype(dtype)
            found = known.get(node.outputs[0])
            if found is not None:
                off = np.abs(found.astype(np.int64) - y)
                compared, differ, most = compared + off.size, differ + int((off > 0).sum()), max(most, int(off.max(initial=0)))
            values[node.outputs[0]] = y if found is None else found
            continue
        wide = [v.astype(np.float64) if v is not None and v.dtype == np.float32 else v for v in inputs]
        results = node.op.evaluate(*wide)
        values.update({n: r for n, r in zip(node.outputs, results, strict=False) if n})
    return compared, differ, most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| network | quantised elements | a step beside | share | largest |")
    print("|---|---|---|---|---|")
    for path in options.models:
        graph = import_model(open_model(str(path), None).message)
        rng = np.random.default_rng(options.seed)
        feeds = {}
        for name, spec in graph.inputs.items():
            extents = tuple(d if isinstance(d, int) else 1 for d in spec.shape or ())
            feeds[name] = rng.standard_normal(extents).astype(spec.dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compared, differ, most = exact(graph, feeds, values_of(simplify(graph), feeds))
        print(f"| {path.stem} | {compared} | {differ} | {differ / max(compared, 1):.2e} | {most} |", flush=True)


if __name__ == "__main__":
    main()
