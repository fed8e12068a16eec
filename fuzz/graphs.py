"""Models that are changed at random, loaded and run: none may crash, hang, or end in an exception that is not cnnengine's.

    python fuzz/graphs.py --seconds 300             # mutants from a random start; a line for each fault, then the counts
    python fuzz/graphs.py --first 7000 --count 500  # these mutants
    python fuzz/graphs.py --only 7123               # one, in this process, nothing caught

A mutant is made from its number alone: a seed model (those of models/, and of one node each for many operators) and a few
changes of its attributes, shapes, types, edges, initializers, opset, nodes, and of its bytes. Each is loaded with
`Limits.strict()` and run once with inputs of ones, in a child that may have so much memory and CPU time. The exit code is 1 when
there is a fault.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import resource
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

import cnnengine

MODELS = Path(__file__).resolve().parents[1] / "models"
MEMORY = 4 << 30
SECONDS = 10.0
"""Of CPU, for one mutant."""
NUMBERS = [0, 1, -1, 2, 3, 7, 8, 16, 255, 1000, -2, 2**31 - 1, -(2**31), 2**31, 2**32 + 1, 2**40, 2**62, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, 1e38, float("inf"), float("-inf"), float("nan"), 3.4e38, 1e-6]
TYPES = [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 22]
OPERATORS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("Conv", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, ["x", "w"]),
    ("ConvTranspose", {"strides": [2, 2]}, ["x", "w"]),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, ["x"]),
    ("AveragePool", {"kernel_shape": [3, 3], "count_include_pad": 1, "pads": [1, 1, 1, 1]}, ["x"]),
    ("LpPool", {"kernel_shape": [2, 2]}, ["x"]),
    ("GlobalAveragePool", {}, ["x"]),
    ("LRN", {"size": 3}, ["x"]),
    ("Pad", {"mode": "reflect"}, ["x", "pads"]),
    ("Resize", {"mode": "linear"}, ["x", "", "scales"]),
    ("Slice", {}, ["x", "starts", "ends", "axes", "steps"]),
    ("Reshape", {}, ["x", "shape"]),
    ("Expand", {}, ["x", "sizes"]),
    ("Tile", {}, ["x", "ones"]),
    ("Transpose", {"perm": [0, 2, 3, 1]}, ["x"]),
    ("Concat", {"axis": 1}, ["x", "x"]),
    ("Split", {"axis": 1, "num_outputs": 2}, ["x"]),
    ("Gather", {"axis": 1}, ["x", "index"]),
    ("ScatterND", {}, ["x", "indices", "updates"]),
    ("OneHot", {}, ["index", "depth", "pair"]),
    ("TopK", {"axis": 1}, ["x", "k"]),
    ("ReduceMean", {"keepdims": 1}, ["x", "axes"]),
    ("Softmax", {"axis": 1}, ["x"]),
    ("LayerNormalization", {"axis": -1}, ["x", "v"]),
    ("InstanceNormalization", {}, ["x", "v4", "v4"]),
    ("GroupNormalization", {"num_groups": 2}, ["x", "v4", "v4"]),
    ("BatchNormalization", {}, ["x", "v4", "v4", "v4", "v4"]),
    ("DepthToSpace", {"blocksize": 2}, ["x"]),
    ("SpaceToDepth", {"blocksize": 2}, ["x"]),
    ("CumSum", {}, ["x", "axis"]),
    ("Einsum", {"equation": "nchw,nchw->nc"}, ["x", "x"]),
    ("MatMul", {}, ["x", "m"]),
    ("Gemm", {"transB": 1}, ["a", "b"]),
    ("RoiAlign", {"output_height": 2, "output_width": 2}, ["x", "rois", "images"]),
    ("GridSample", {"mode": "cubic"}, ["x", "grid"]),
    ("Range", {}, ["axis", "depth", "axis1"]),
    ("ConstantOfShape", {}, ["shape"]),
    ("NonZero", {}, ["x"]),
    ("Where", {}, ["mask", "x", "x"]),
    ("Clip", {}, ["x", "low", "high"]),
    ("QuantizeLinear", {"axis": 1}, ["x", "low1", "zero"]),
    ("Trilu", {"upper": 0}, ["x"]),
    ("LSTM", {"hidden_size": 3}, ["seq", "lw", "lr"]),
    ("DFT", {"axis": 2}, ["x1"]),
    ("Col2Im", {}, ["cols", "image", "block"]),
]  # fmt: skip
GIVEN: dict[str, Any] = {
    "w": np.ones((4, 4, 3, 3), np.float32),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "scales": np.array([1, 1, 2, 2], np.float32),
    "starts": np.array([0, 1]),
    "ends": np.array([4, 7]),
    "axes": np.array([2, 3]),
    "steps": np.array([1, 2]),
    "shape": np.array([1, -1]),
    "sizes": np.array([2, 4, 8, 8]),
    "ones": np.array([1, 2, 1, 1]),
    "index": np.array([[0, 1], [3, 2]]),
    "indices": np.array([[0, 1]]),
    "updates": np.zeros((1, 8, 8), np.float32),
    "depth": np.array(5),
    "pair": np.array([0, 1], np.float32),
    "k": np.array([2]),
    "v": np.ones(8, np.float32),
    "v4": np.ones(4, np.float32),
    "axis": np.array(1),
    "axis1": np.array(1),
    "m": np.ones((8, 5), np.float32),
    "a": np.ones((3, 4), np.float32),
    "b": np.ones((5, 4), np.float32),
    "rois": np.array([[0, 0, 4, 4]], np.float32),
    "images": np.zeros(1, np.int64),
    "grid": np.zeros((1, 3, 3, 2), np.float32),
    "mask": np.ones((1, 4, 1, 8), np.bool_),
    "low": np.float32(0),
    "high": np.float32(6),
    "low1": np.float32(0.1),
    "zero": np.uint8(3),
    "seq": np.ones((4, 1, 2), np.float32),
    "lw": np.ones((1, 12, 2), np.float32),
    "lr": np.ones((1, 12, 3), np.float32),
    "x1": np.ones((1, 4, 8, 1), np.float32),
    "cols": np.ones((1, 16, 16), np.float32),
    "image": np.array([5, 5]),
    "block": np.array([2, 2]),
}


def of_operator(op: str, attributes: dict[str, Any], inputs: list[str], constant: bool) -> onnx.ModelProto:
    """A model of this node; `constant`: its other inputs are initializers, else they are fed."""
    outputs = ["y", "y2"][: 2 if op in ("Split", "TopK", "LSTM") else 1]
    node = helper.make_node(op, inputs, outputs, **attributes)
    given = [numpy_helper.from_array(np.asarray(GIVEN[n]), n) for n in dict.fromkeys(inputs) if n in GIVEN]
    fed = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])] if "x" in inputs else []
    if not constant:
        fed += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in given]
    ends = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs]
    graph = helper.make_graph([node], "g", fed, ends, given if constant else [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def branched(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model's nodes in both branches of an If."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    branches = {}
    for name in ("then_branch", "else_branch"):
        branch = onnx.GraphProto(name=name)
        branch.node.extend(model.graph.node)
        branch.output.extend(model.graph.output)
        branches[name] = branch
    outputs = [value.name for value in model.graph.output]
    del made.graph.node[:]
    made.graph.node.append(helper.make_node("If", ["condition"], outputs, **branches))
    made.graph.input.append(helper.make_tensor_value_info("condition", TensorProto.BOOL, []))
    return made


def seeds() -> list[onnx.ModelProto]:
    found = [onnx.load(path) for path in sorted(MODELS.glob("*.onnx")) if path.stat().st_size < 1 << 20]
    for op, attributes, inputs in OPERATORS:
        found += [of_operator(op, attributes, inputs, True), of_operator(op, attributes, inputs, False)]
        found.append(branched(found[-2]))
    return found


def number(draw: random.Random, old: int = 0) -> int:
    kind = draw.randrange(4)
    if kind == 0:
        return max(min(old + draw.choice([-1, 1, 2, -2]), 2**63 - 1), -(2**63))
    return draw.choice(NUMBERS) if kind < 3 else draw.randrange(-4, 20)


def change_attribute(model: onnx.ModelProto, draw: random.Random) -> None:
    node = draw.choice(all_nodes(model.graph))
    if not node.attribute:
        node.attribute.append(helper.make_attribute(draw.choice(["axis", "alpha", "pads", "group", "mode", "to"]), number(draw)))
        return
    a = draw.choice(node.attribute)
    if a.type == AttributeProto.INT:
        a.i = number(draw, a.i)
    elif a.type == AttributeProto.INTS and a.ints:
        at = draw.randrange(len(a.ints))
        what = draw.randrange(5)
        if what == 0:
            del a.ints[at]
        elif what == 1:
            a.ints.append(number(draw))
        else:
            a.ints[at] = number(draw, a.ints[at])
    elif a.type == AttributeProto.FLOAT:
        a.f = draw.choice(FLOATS)
    elif a.type == AttributeProto.STRING:
        a.s = draw.choice(
            [b"SAME_UPPER", b"SAME_LOWER", b"VALID", b"nearest", b"cubic", b"wrap", b"edge", b"constant", b"\xff", b"max"]
        )
    elif draw.randrange(2):
        node.attribute.remove(a)


def change_initializer(model: onnx.ModelProto, draw: random.Random) -> None:
    if not model.graph.initializer:
        return
    tensor = draw.choice(model.graph.initializer)
    what = draw.randrange(4)
    if what == 0 and tensor.dims:
        at = draw.randrange(len(tensor.dims))
        tensor.dims[at] = number(draw, tensor.dims[at])
        return
    if what == 1:
        tensor.data_type = draw.choice(TYPES)
        return
    try:
        array = np.array(numpy_helper.to_array(tensor))
    except Exception:
        return
    if array.size and array.dtype.kind in "iuf":
        flat = array.reshape(-1)
        for _ in range(draw.randrange(1, 4)):
            at = draw.randrange(flat.size)
            if array.dtype.kind == "f":
                flat[at] = np.float64(draw.choice(FLOATS)).astype(array.dtype)
            else:
                limits = np.iinfo(array.dtype)
                flat[at] = max(min(number(draw, int(flat[at])), limits.max), limits.min)
    if what == 3:
        array = array.reshape(-1)[: draw.randrange(array.size + 1)]
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def change_value(model: onnx.ModelProto, draw: random.Random) -> None:
    values = [*model.graph.input, *model.graph.output]
    if not values:
        return
    tensor = draw.choice(values).type.tensor_type
    if draw.randrange(3) == 0:
        tensor.elem_type = draw.choice(TYPES)
    elif tensor.shape.dim:
        dim = draw.choice(tensor.shape.dim)
        if draw.randrange(4):
            dim.dim_value = number(draw, dim.dim_value)
        else:
            dim.dim_param = "n"
    else:
        tensor.shape.dim.add(dim_value=draw.randrange(4))


def change_edge(model: onnx.ModelProto, draw: random.Random) -> None:
    nodes = all_nodes(model.graph)
    node = draw.choice(nodes)
    names = [n for one in nodes for n in (*one.input, *one.output)] + [v.name for v in model.graph.input] + ["", "nowhere"]
    ends = node.input if draw.randrange(4) else node.output
    what = draw.randrange(4)
    if what == 0 and ends:
        del ends[draw.randrange(len(ends))]
    elif what == 1 or not ends:
        ends.append(draw.choice(names))
    else:
        ends[draw.randrange(len(ends))] = draw.choice(names)


def change_node(model: onnx.ModelProto, draw: random.Random) -> None:
    nodes = all_nodes(model.graph)
    node = draw.choice(nodes)
    what = draw.randrange(4)
    if what == 0:
        node.op_type = draw.choice(OPERATORS)[0]
    elif what == 1:
        node.op_type = draw.choice(
            ["Relu", "Identity", "Exp", "Neg", "Shape", "Cast", "Sigmoid", "Abs", "Not", "SequenceConstruct"]
        )
    elif what == 2 and len(model.graph.node) > 1:
        del model.graph.node[draw.randrange(len(model.graph.node))]
    else:
        model.graph.node.insert(draw.randrange(len(model.graph.node) + 1), node)


def change_opset(model: onnx.ModelProto, draw: random.Random) -> None:
    if draw.randrange(3):
        model.opset_import[0].version = draw.choice([1, 6, 7, 9, 10, 11, 12, 13, 16, 18, 19, 21, 22, 23, number(draw)])
    else:
        model.ir_version = max(draw.choice([3, 4, 8, number(draw)]), -(2**63))


def all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    found = list(graph.node)
    for node in graph.node:
        for a in node.attribute:
            if a.HasField("g"):
                found += all_nodes(a.g)
    return found or [graph.node.add(op_type="Relu", input=["x"], output=["y"])]


CHANGES = (
    [change_attribute] * 5
    + [change_initializer] * 4
    + [change_value, change_value, change_edge, change_edge, change_node, change_opset]
)


def mutant(at: int, models: list[onnx.ModelProto]) -> bytes:
    """The file of this number."""
    draw = random.Random(at)
    model = onnx.ModelProto()
    model.CopyFrom(models[at % len(models)])
    for _ in range(draw.choice([1, 1, 2, 3, 5])):
        draw.choice(CHANGES)(model, draw)
    data: bytes = model.SerializeToString()
    if draw.randrange(8) == 0:  # bytes
        changed = bytearray(data)
        for _ in range(draw.randrange(1, 6)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        data = bytes(changed[: draw.randrange(len(changed) + 1)] if draw.randrange(4) == 0 else changed)
    return data


def attempt(data: bytes) -> None:
    with cnnengine.load(data, threads=1, limits=cnnengine.Limits.strict()) as model:
        feeds = {}
        for info in model.inputs:
            shape = [d if isinstance(d, int) else 1 for d in info.shape or ()]
            if np.prod([float(d) for d in shape]) > 1 << 22:
                return
            feeds[info.name] = np.full(shape, "a", object) if info.dtype == object else np.ones(shape, info.dtype)
        model.run(None, feeds, timeout=SECONDS)


def child(first: int, count: int, models: list[onnx.ModelProto], out: int) -> None:
    """Work through mutants and tell of each: its number before, how it ended after."""
    import warnings

    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for at in range(first, first + count):
        os.write(out, f"{at} begun\n".encode())
        try:
            attempt(mutant(at, models))
            end = "ran"
        except cnnengine.CNNEngineError as error:
            end = f"refused {type(error).__name__}"
        except MemoryError:
            end = "MEMORY"
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            end = f"FOREIGN {type(error).__name__}: {str(error)[:120]!r} at {place.filename}:{place.lineno}"
        os.write(out, f"{at} {end}\n".replace("\n", " ").encode() + b"\n")


def work(first: int, count: int, models: list[onnx.ModelProto], told: Any) -> int:
    """Run these in a child, telling how each ended; how many were done."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(read)
        try:
            child(first, count, models, write)
        finally:
            os._exit(0)
    os.close(write)
    left, at, since, done = b"", first, 0.0, 0
    ended = ""
    while True:
        ready, _, _ = select.select([read], [], [], 0.25)
        if ready:
            part = os.read(read, 1 << 16)
            if not part:
                break
            *lines, left = (left + part).split(b"\n")
            for line in lines:
                number_, _, end = line.decode().partition(" ")
                at = int(number_)
                if end.startswith("begun"):
                    since = _cpu(process)
                else:
                    told(at, end.strip())
                    done += 1
        elif _cpu(process) - since > SECONDS + 2:
            os.kill(process, signal.SIGKILL)
            ended = f"HANG {SECONDS} s of CPU"
            break
    os.close(read)
    _, status = os.waitpid(process, 0)
    if not ended and os.WIFSIGNALED(status):
        ended = f"CRASH {signal.Signals(os.WTERMSIG(status)).name}"
    if ended:
        told(at, ended)
        done += 1
    return max(done, 1)


def _cpu(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: 60)")
    parser.add_argument("--first", type=int, help="the first mutant (default: random)")
    parser.add_argument("--count", type=int, help="how many, in the place of a time")
    parser.add_argument("--only", type=int, help="this one, in this process")
    args = parser.parse_args()
    models = seeds()
    if args.only is not None:
        attempt(mutant(args.only, models))
        return 0
    at = random.SystemRandom().randrange(10**9) if args.first is None else args.first
    tally: collections.Counter[str] = collections.Counter()
    faults = []

    def told(number_: int, end: str) -> None:
        tally[end.split()[0] if not end.startswith("refused") else end] += 1
        if end[0].isupper():
            faults.append(number_)
            print(f"mutant {number_}: {end}", flush=True)

    first, stop = at, time.monotonic() + args.seconds
    while (args.count is None and time.monotonic() < stop) or (args.count is not None and at < first + args.count):
        at += work(at, 200 if args.count is None else min(200, first + args.count - at), models, told)
    print(f"{sum(tally.values())} mutants from {first}, of {len(models)} models")
    for end, count in tally.most_common():
        print(f"  {count:7d} {end}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
