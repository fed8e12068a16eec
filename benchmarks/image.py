"""Operators that sample and resize images, beside onnxruntime: `cnnengine bench` for models of one operator each.

    python benchmarks/image.py --against onnxruntime --threads 1 [--only Resize]

Arrays come and go plain, as in other engines' layouts; what is named "in planes" stands between two 1x1 convolutions, as in a
network. Options and exit status are those of the command.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness  # noqa: F401
import numpy as np

from cnnengine.bench import Case
from cnnengine.cli.bench import add_options, execute
from cnnengine.errors import CNNEngineError

Arrays = dict[str, np.ndarray]
CASES: dict[str, tuple[str, Arrays, Arrays, dict[str, Any]]] = {}
"""Title -> operator, inputs, constants (in the operator's order; "" names one that is absent), attributes."""
BETWEEN: set[str] = set()
"""Titles of those between convolutions."""


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)


def resize(title: str, shape: Sequence[int], out: Sequence[int], *, between: bool = False, **attributes: Any) -> None:
    name = f"Resize {title} {'x'.join(map(str, shape[1:]))} to {'x'.join(map(str, out))}"
    constants = {"": np.zeros(0), " ": np.zeros(0), "sizes": np.array([*shape[:2], *out])}
    CASES[name] = ("Resize", {"x": normal(*shape)}, constants, attributes)
    if between:
        BETWEEN.add(name)


def build() -> None:
    resize("linear", (1, 1, 512, 512), (1024, 1024), mode="linear")
    resize("linear", (1, 3, 480, 640), (640, 640), mode="linear")
    resize("linear", (1, 64, 56, 56), (112, 112), mode="linear")
    floor = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    resize("nearest", (1, 3, 320, 320), (640, 640), mode="nearest", **floor)
    resize("nearest", (1, 64, 56, 56), (112, 112), mode="nearest", **floor)
    resize("nearest", (1, 3, 480, 640), (300, 500), mode="nearest")
    resize("nearest, in planes,", (1, 64, 56, 56), (112, 112), between=True, mode="nearest", **floor)
    resize("antialias linear", (1, 3, 720, 1280), (224, 224), mode="linear", antialias=1)
    resize("antialias cubic", (1, 3, 720, 1280), (224, 224), mode="cubic", antialias=1)
    resize("cubic", (1, 3, 224, 224), (448, 448), mode="cubic")
    image, block = np.array([112, 112]), np.array([3, 3])
    CASES["Col2Im 64x9x12544 to 112x112"] = (
        "Col2Im",
        {"x": normal(1, 64 * 9, 112 * 112)},
        {"image": image, "block": block},
        {"pads": [1, 1, 1, 1]},
    )
    columns = {"x": normal(1, 64 * 16, 56 * 56)}
    strided = {"pads": [1, 1, 1, 1], "strides": [2, 2]}
    CASES["Col2Im 64x16x3136, stride 2"] = ("Col2Im", columns, {"image": image, "block": np.array([4, 4])}, strided)
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 700, (100, 2))
    rois = np.concatenate([corners, corners + rng.uniform(16, 300, (100, 2))], 1).astype(np.float32)
    for mode in ("avg", "max"):
        attributes = {"mode": mode, "output_height": 7, "output_width": 7, "sampling_ratio": 2, "spatial_scale": 0.0625}
        given = {"x": normal(1, 256, 64, 64), "rois": rois, "images": np.zeros(100, np.int64)}
        CASES[f"RoiAlign {mode} 256x64x64, 100 regions"] = ("RoiAlign", given, {}, attributes)
    x, w = normal(1, 64, 56, 56), normal(64, 64, 3, 3) / np.float32(24)
    offsets = normal(1, 18, 56, 56)
    CASES["DeformConv 64x56x56, 3x3"] = ("DeformConv", {"x": x, "w": w, "offset": offsets}, {}, {"pads": [1] * 4})
    grid = rng.uniform(-1.1, 1.1, (1, 112, 112, 2)).astype(np.float32)
    for mode in ("linear", "nearest", "cubic"):
        CASES[f"GridSample {mode} 64x112x112"] = ("GridSample", {"x": normal(1, 64, 112, 112), "grid": grid}, {}, {"mode": mode})
    half = {"x": normal(1, 64, 112, 112).astype(np.float16), "grid": grid.astype(np.float16)}
    CASES["GridSample linear 64x112x112, float16"] = ("GridSample", half, {}, {"mode": "linear"})
    theta = normal(8, 2, 3)
    CASES["AffineGrid 8x224x224"] = ("AffineGrid", {"theta": theta}, {"size": np.array([8, 3, 224, 224])}, {})


def write(folder: Path, title: str) -> Case:
    """The model of one case as a file, and what it is fed."""
    import onnx
    from onnx import helper, numpy_helper

    operator, inputs, constants, attributes = CASES[title]
    feeds, names = dict(inputs), [*inputs, *(n.strip() for n in constants)]
    if operator == "DeformConv":  # weights are constants, between the inputs
        constants = {"w": feeds.pop("w")}
    initializers = [numpy_helper.from_array(a, n) for n, a in constants.items() if n.strip()]
    nodes = [helper.make_node(operator, names, ["y"], **attributes)]
    output = next(iter(inputs.values())).dtype
    if title in BETWEEN:
        c = inputs["x"].shape[1]
        few = np.eye(c, dtype=np.float32)[:, :4, None, None]
        feeds["x"] = inputs["x"][:, :4]
        nodes[0].input[0] = "a"
        nodes[0].output[0] = "b"
        nodes = [helper.make_node("Conv", ["x", "first"], ["a"]), *nodes, helper.make_node("Conv", ["b", "last"], ["y"])]
        initializers += [numpy_helper.from_array(few, "first"), numpy_helper.from_array(few.transpose(1, 0, 2, 3).copy(), "last")]
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()]
    outputs = [helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(output), None)]
    graph = helper.make_graph(nodes, "operator", infos, outputs, initializers)
    path = folder / f"{list(CASES).index(title)}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return Case(path, title, feeds=feeds)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TEXT", default="", help="cases whose title has this in it")
    add_options(parser)
    options = parser.parse_args(argv)
    build()
    chosen = [title for title in CASES if options.only.lower() in title.lower()]
    with tempfile.TemporaryDirectory() as folder:
        try:
            return execute([write(Path(folder), title) for title in chosen], options)
        except CNNEngineError as error:
            parser.error(str(error))
        except KeyboardInterrupt:
            return 130


if __name__ == "__main__":
    sys.exit(main())
