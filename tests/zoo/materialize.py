"""Complete ONNX files from the skeletons of this folder (needs onnx and numpy only).

    python materialize.py SRC_DIR DST_DIR        every SRC_DIR/*.onnx -> DST_DIR/*.onnx

A skeleton is an ordinary ONNX file without the data of its large float tensors. Such a TensorProto (initializer, or
tensor attribute of any node, also in subgraphs and functions) keeps its name, data_type and dims, has no data field, and
carries
    doc_string = "fill:v1 seed=<int> mean=<f> std=<f> min=<f> max=<f>"
Its values are, bit for bit the same on every machine and numpy version,
    x[i] = clip(mean + std * z(seed, i), min, max)          (double, then cast to data_type)
    z(seed, i) = (a+b+c+d - 131070) / sqrt((65536**2 - 1) / 3)      a..d: the four 16-bit words of
    h = output number i (from 0) of the splitmix64 generator started at state `seed`; i = C-order index
(z has mean 0, variance 1, |z| < 3.47; mean, std, min and max are those of the exported tensor, so variances stay
positive and activations keep their scale). All sums are exact: the only rounded operations are one division, one
multiplication and one addition per element. `normal` also makes the inputs that expected.json names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import onnx

DTYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "<f4", onnx.TensorProto.DOUBLE: "<f8", onnx.TensorProto.FLOAT16: "<f2"}
GOLD = 0x9E3779B97F4A7C15
PIECE = 1 << 20  # elements computed at once: bounds the temporaries of the largest weights


def z(seed: int, start: int, n: int) -> np.ndarray:
    """Elements start .. start+n-1 of the stream `seed`: n near-normal doubles."""
    x = np.arange(start + 1, start + n + 1, dtype=np.uint64) * np.uint64(GOLD) + np.uint64(seed)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    w = np.uint64(0xFFFF)
    s = (x & w) + ((x >> np.uint64(16)) & w) + ((x >> np.uint64(32)) & w) + (x >> np.uint64(48))
    return (s.astype(np.float64) - 131070.0) / np.sqrt((65536.0**2 - 1) / 3)


def normal(
    seed: int,
    shape: Sequence[int],
    mean: float = 0.0,
    std: float = 1.0,
    lo: float = -np.inf,
    hi: float = np.inf,
    dtype: str = "<f4",
) -> np.ndarray:
    """The array of `shape` for one fill specification."""
    n = int(np.prod(shape, dtype=np.int64))
    out = np.empty(n, dtype)
    for i in range(0, n, PIECE):
        k = min(PIECE, n - i)
        out[i : i + k] = np.clip(mean + std * z(seed, i, k), lo, hi)
    return out.reshape(shape)


def tensors(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.TensorProto]:
    """Every TensorProto of a graph or function: initializers and node attributes, recursively."""
    yield from getattr(graph, "initializer", ())
    for node in graph.node:
        for a in node.attribute:
            if a.HasField("t"):
                yield a.t
            yield from a.tensors
            for g in ([a.g] if a.HasField("g") else []) + list(a.graphs):
                yield from tensors(g)


def materialize(model: onnx.ModelProto) -> int:
    """Fill the dropped tensors of a skeleton in place; returns how many there were."""
    count = 0
    for graph in [model.graph, *model.functions]:
        for t in tensors(graph):
            if t.doc_string.startswith("fill:v1 "):
                p = dict(f.split("=") for f in t.doc_string.split()[1:])
                lo, hi = float(p["min"]), float(p["max"])
                v = normal(int(p["seed"]), tuple(t.dims), float(p["mean"]), float(p["std"]), lo, hi, DTYPES[t.data_type])
                t.raw_data = v.tobytes()
                t.doc_string = ""
                count += 1
    return count


def main(src: str, dst: str) -> None:
    os.makedirs(dst, exist_ok=True)
    for f in sorted(os.listdir(src)):
        if f.endswith(".onnx"):
            m = onnx.load(os.path.join(src, f), load_external_data=False)
            n = materialize(m)
            onnx.save(m, os.path.join(dst, f))
            print(f"{f}: {n} tensors filled")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
