"""Broken models, and nodes that do not fit: each ends in a CNNEngineError that names node and cause, at load or at run.

`tests/importer` has the files that cannot be read (truncated, foreign, external data outside the folder, through links or of
the wrong size) and the graphs that do not hang together (cycles, names made twice or never, numbers of inputs and outputs,
attributes of wrong types, several unknown operators at once). Here are the rest: types, geometry, values and sizes.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine import CNNEngineError

F, I64, D, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.DOUBLE, TensorProto.BOOL
TYPES = {np.dtype(np.float32): F, np.dtype(np.int64): I64, np.dtype(np.float64): D, np.dtype(np.bool_): B}
IMAGE = np.linspace(-1, 1, 2 * 4 * 8 * 8, dtype=np.float32).reshape(2, 4, 8, 8)
SECONDS = 20
"""A case that takes longer hangs."""


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"took more than {SECONDS} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@dataclass
class Case:
    """One node named "bad" on an image x, with constants; `words` must stand in the message."""

    operator: str
    words: str
    constants: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    x: Any = field(default_factory=lambda: IMAGE)
    opset: int = 17
    outputs: int = 1
    fed: Sequence[str] = ()
    """Constants that come as inputs instead: the values are then known at run time only."""

    def model(self) -> onnx.ModelProto:
        node = helper.make_node(
            self.operator, ["x", *self.constants], [f"y{i}" for i in range(self.outputs)], name="bad", **self.attributes
        )
        values = {"x": self.x, **{n: np.asarray(v) for n, v in self.constants.items() if n in self.fed}}
        inputs = [helper.make_tensor_value_info(n, TYPES[v.dtype], [None] * v.ndim) for n, v in values.items()]
        weights = [numpy_helper.from_array(np.asarray(v), n) for n, v in self.constants.items() if n and n not in self.fed]
        results = [onnx.ValueInfoProto(name=n) for n in node.output]
        graph = helper.make_graph([node], "g", inputs, results, weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def feeds(self) -> dict[str, Any]:
        return {"x": self.x, **{n: np.asarray(self.constants[n]) for n in self.fed}}


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


W = zeros(6, 4, 3, 3)
HUGE = 2**40
NAN = float("nan")


def conv(words: str, w: np.ndarray = W, b: np.ndarray | None = None, **attributes: Any) -> Case:
    return Case("Conv", words, {"w": w} if b is None else {"w": w, "b": b}, attributes)


def transposed(words: str, w: np.ndarray | None = None, **attributes: Any) -> Case:
    return Case("ConvTranspose", words, {"w": zeros(4, 6, 3, 3) if w is None else w}, attributes)


def pool(operator: str, words: str, x: np.ndarray = IMAGE, **attributes: Any) -> Case:
    return Case(operator, words, {}, {"kernel_shape": [2, 2], **attributes}, x)


def shaped(operator: str, words: str, *values: Any, x: Any = IMAGE, opset: int = 17, outputs: int = 1, **attributes: Any) -> Case:
    """An operator with its further inputs as constants in order; None is an absent one."""
    constants = {f"c{i}" if v is not None else "": v for i, v in enumerate(values)}
    return Case(operator, words, constants, attributes, x, opset, outputs)


CASES: dict[str, Case] = {
    # convolution
    "conv: weights of a rank too low": conv("rank|shape", zeros(6, 4, 3)),
    "conv: weights of other channels": conv("channels|w", zeros(6, 3, 3, 3)),
    "conv: an image without space": Case("Conv", "rank|shape", {"w": zeros(6, 4)}, {}, zeros(2, 4)),
    "conv: groups that do not divide the channels": conv("group", zeros(6, 1, 3, 3), group=3),
    "conv: groups that do not divide the outputs": conv("group", zeros(5, 2, 3, 3), group=2),
    "conv: no groups": conv("group", group=0),
    "conv: negative groups": conv("group", group=-1),
    "conv: huge groups": conv("group", group=2**62),
    "conv: strides of zero": conv("stride", strides=[0, 1]),
    "conv: negative strides": conv("stride", strides=[1, -2]),
    "conv: too many strides": conv("stride", strides=[1, 1, 1]),
    "conv: dilations of zero": conv("dilation", dilations=[1, 0]),
    "conv: huge dilations": conv("kernel|window", dilations=[2**62, 1]),
    "conv: negative pads": conv("pads", pads=[-1, 0, 0, 0]),
    "conv: three pads": conv("pads", pads=[1, 1, 1]),
    "conv: huge pads": conv("pads|memory|size|large|bytes", pads=[HUGE, 0, 0, 0]),
    "conv: pads beyond 64 bits": conv("pads|memory|size|large|bytes", pads=[2**62, 2**62, 2**62, 2**62]),
    "conv: a kernel larger than the image": conv("kernel|window|input", zeros(6, 4, 9, 9)),
    "conv: an unknown auto_pad": conv("auto_pad", auto_pad="SAME"),
    "conv: a kernel_shape that is not the weights'": conv("kernel_shape", kernel_shape=[5, 5]),
    "conv: a bias too short": conv("bias|b", b=zeros(5)),
    "conv: a bias of rank 2": conv("bias|b", b=zeros(6, 1)),
    "conv: weights of doubles": conv("float64", zeros(6, 4, 3, 3, dtype=np.float64)),
    "conv: an image of integers": Case("Conv", "int64|dtype", {"w": W}, {}, zeros(2, 4, 8, 8, dtype=np.int64)),
    "conv: an empty kernel": conv("kernel", zeros(6, 4, 0, 3)),
    "conv: weights fed with other channels": Case("Conv", "channels|w", {"w": zeros(6, 3, 3, 3)}, fed=("w",)),
    # transposed convolution
    "transposed: weights of other channels": transposed("channels|w", zeros(3, 6, 3, 3)),
    "transposed: groups that do not divide": transposed("group", group=3),
    "transposed: strides of zero": transposed("stride", strides=[0, 0]),
    "transposed: output_padding as large as the stride": transposed("output_padding", output_padding=[1, 1], strides=[1, 1]),
    "transposed: negative output_padding": transposed("output_padding", output_padding=[-1, 0]),
    "transposed: an output_shape of one axis": transposed("output_shape", output_shape=[8]),
    "transposed: a negative output_shape": transposed("output_shape|output|pads", output_shape=[-8, 8]),
    "transposed: pads that leave nothing": transposed("pads|output", pads=[9, 9, 9, 9]),
    "transposed: huge strides": transposed("stride|memory|size|large|bytes", strides=[HUGE, HUGE]),
    "transposed: a huge output_shape": transposed("memory|size|large|bytes|output", output_shape=[2**40, 2**40]),
    # pooling
    "pool: a kernel of zero": pool("MaxPool", "kernel", kernel_shape=[0, 2]),
    "pool: a negative kernel": pool("AveragePool", "kernel", kernel_shape=[2, -2]),
    "pool: a kernel of one axis": pool("MaxPool", "kernel", kernel_shape=[2]),
    "pool: pads as large as the kernel": pool("AveragePool", "pads", pads=[2, 2, 2, 2]),
    "pool: negative pads": pool("MaxPool", "pads", pads=[-1, 0, 0, 0]),
    "pool: strides of zero": pool("LpPool", "stride", strides=[1, 0]),
    "pool: a kernel larger than the image": pool("MaxPool", "kernel|window|input", kernel_shape=[9, 9]),
    "pool: dilations of zero": pool("MaxPool", "dilation", dilations=[0, 1]),
    "pool: an image without space": pool("MaxPool", "rank|shape|kernel", zeros(2, 4)),
    "pool: a power of zero": pool("LpPool", "p", p=0),
    "pool: an unknown storage order": pool("MaxPool", "storage_order", storage_order=2),
    "pool: doubles": pool("MaxPool", "float64|dtype", zeros(2, 4, 8, 8, dtype=np.float64), auto_pad="SAME"),
    "global pool: no channels": Case("GlobalAveragePool", "rank|shape", x=zeros(4)),
    "unpool: indices outside": shaped(
        "MaxUnpool", "indices|index", np.full((2, 4, 8, 8), HUGE), kernel_shape=[2, 2], strides=[2, 2]
    ),
    "unpool: negative indices": shaped("MaxUnpool", "indices|index", np.full((2, 4, 8, 8), -1), kernel_shape=[2, 2]),
    "unpool: indices of another shape": shaped(
        "MaxUnpool", "indices|shape", zeros(2, 4, 8, 7, dtype=np.int64), kernel_shape=[2, 2]
    ),
    "unpool: indices of floats": shaped("MaxUnpool", "indices|int64", zeros(2, 4, 8, 8), kernel_shape=[2, 2]),
    # dense
    "gemm: inner extents that differ": shaped("Gemm", "inner|shape|w|b|columns", zeros(9, 5), x=zeros(3, 8)),
    "gemm: rank 3": shaped("Gemm", "rank|shape|matri", zeros(8, 5), x=zeros(3, 8, 1)),
    "gemm: a bias that does not broadcast": shaped("Gemm", "broadcast|bias|c|C", zeros(8, 5), zeros(4), x=zeros(3, 8)),
    "gemm: doubles and floats": shaped("Gemm", "float64|dtype", zeros(8, 5, dtype=np.float64), x=zeros(3, 8)),
    "matmul: inner extents that differ": shaped("MatMul", "inner|shape|broadcast|fit", zeros(9, 5)),
    "matmul: batches that do not broadcast": shaped("MatMul", "broadcast|shape|batch", zeros(3, 8, 5)),
    "matmul: a scalar": shaped("MatMul", "scalar|rank|axis|shape", np.float32(1)),
    # normalisation
    "batch norm: too few scales": shaped("BatchNormalization", "scale|shape|channels", *[zeros(3)] * 4),
    "batch norm: means of another length": shaped(
        "BatchNormalization", "mean|shape|channels", zeros(4), zeros(4), zeros(5), zeros(4)
    ),
    "batch norm: an image without channels": shaped("BatchNormalization", "rank|shape|channels", *[zeros(4)] * 4, x=zeros(3)),
    "instance norm: too few scales": shaped("InstanceNormalization", "scale|shape|channels", zeros(3), zeros(3)),
    "group norm: groups that do not divide": shaped("GroupNormalization", "group", zeros(4), zeros(4), opset=21, num_groups=3),
    "group norm: no groups": shaped("GroupNormalization", "group", zeros(4), zeros(4), opset=21, num_groups=0),
    "layer norm: no such axis": shaped("LayerNormalization", "axis", zeros(8), axis=7),
    "layer norm: scales of another shape": shaped("LayerNormalization", "scale|shape|broadcast", zeros(7)),
    "lrn: a size of zero": Case("LRN", "size", {}, {"size": 0}),
    "lrn: a negative size": Case("LRN", "size", {}, {"size": -3}),
    "lrn: a huge size": Case("LRN", "size", {}, {"size": 2**62}, x=zeros(4)),
    # elementwise and reductions
    "add: shapes that do not broadcast": shaped("Add", "broadcast", zeros(3)),
    "add: doubles and floats": shaped("Add", "float64|dtype", zeros(8, dtype=np.float64)),
    "prelu: slopes that do not broadcast": shaped("PRelu", "slope|broadcast", zeros(3)),
    "clip: a minimum of two elements": shaped("Clip", "min|scalar|element", zeros(2)),
    "clip: a minimum of integers": shaped("Clip", "min|int64|dtype", np.int64(0)),
    "where: a condition of floats": shaped("Where", "condition|bool|float32", zeros(8), zeros(8)),
    "mod: floats without fmod": shaped("Mod", "fmod", zeros(8)),
    "not: floats": Case("Not", "bool|float32"),
    "softmax: no such axis": Case("Softmax", "axis", {}, {"axis": 4}),
    "softmax: integers": Case("Softmax", "int64|float", {}, {}, zeros(2, 3, dtype=np.int64)),
    "reduce: no such axis": Case("ReduceMean", "axis|axes", {}, {"axes": [5]}),
    "reduce: an axis twice": Case("ReduceMax", "axis|axes", {}, {"axes": [1, -3]}),
    "reduce: axes that are NaN": shaped("ReduceSum", "axes|axis|integer", floats(NAN)),
    "reduce: nothing to compare": Case(
        "ReduceMax", "empty|extent|identity|element", {}, {"axes": [0], "keepdims": 0}, zeros(0, 3)
    ),
    "argmax: no such axis": Case("ArgMax", "axis", {}, {"axis": -5}),
    "argmax: nothing to compare": Case("ArgMax", "empty|extent|element", {}, {"axis": 0}, zeros(0, 3)),
    "cumsum: axes that are NaN": shaped("CumSum", "axis|integer", np.float32(NAN)),
    "cumsum: no such axis": shaped("CumSum", "axis", np.int64(4)),
    # shapes
    "reshape: another number of elements": shaped("Reshape", "shape|element", ints(3, 5)),
    "reshape: two open extents": shaped("Reshape", "-1|shape|one", ints(-1, -1)),
    "reshape: an extent of -2": shaped("Reshape", "-2|shape|extent", ints(-2, 4)),
    "reshape: an open extent that does not divide": shaped("Reshape", "shape|element|divide", ints(-1, 7)),
    "reshape: a copied extent that is not there": shaped("Reshape", "shape|0|axis", ints(2, 4, 8, 8, 0)),
    "reshape: an overflowing product": shaped("Reshape", "shape|element", ints(2**32, 2**32)),
    "reshape: an overflowing product that wraps to the right one": shaped("Reshape", "shape|element", ints(2**62, 4, 512)),
    "reshape: a shape of floats": shaped("Reshape", "shape|integer|int64", floats(2, 256)),
    "reshape: a shape that is a matrix": shaped("Reshape", "shape|1-D|rank", ints(2, 256).reshape(1, 2)),
    "reshape: a shape fed that does not fit": Case("Reshape", "shape|element", {"s": ints(3, 5)}, fed=("s",)),
    "flatten: no such axis": Case("Flatten", "axis", {}, {"axis": 5}),
    "squeeze: an extent that is not 1": shaped("Squeeze", "axis|axes|extent", ints(1)),
    "unsqueeze: an axis twice": shaped("Unsqueeze", "axis|axes", ints(1, 1)),
    "unsqueeze: huge axes": shaped("Unsqueeze", "axis|axes", ints(2**62)),
    "transpose: an axis twice": Case("Transpose", "perm|axis", {}, {"perm": [0, 0, 1, 2]}),
    "transpose: too few axes": Case("Transpose", "perm|axis|rank", {}, {"perm": [1, 0]}),
    "concat: no such axis": shaped("Concat", "axis", zeros(2, 4, 8, 8), axis=4),
    "concat: other extents": shaped("Concat", "extent|shape|fit", zeros(2, 4, 7, 8), axis=1),
    "concat: other ranks": shaped("Concat", "rank|shape", zeros(2, 4, 8), axis=1),
    "concat: other types": shaped("Concat", "float64|dtype|type", zeros(2, 4, 8, 8, dtype=np.float64), axis=1),
    "split: parts that do not sum up": shaped("Split", "split|sum|extent", ints(1, 2), axis=1, outputs=2),
    "split: negative parts": shaped("Split", "split|extent", ints(-1, 5), axis=1, outputs=2),
    "split: more outputs than parts": shaped("Split", "split|output|parts", ints(2, 2), axis=1, outputs=3),
    "split: more parts than extents": Case(
        "Split", "split|num_outputs|parts|extent", {}, {"axis": 1, "num_outputs": 9}, opset=18, outputs=9
    ),
    "slice: steps of zero": shaped("Slice", "step", ints(0), ints(2), ints(1), ints(0)),
    "slice: more starts than ends": shaped("Slice", "starts|ends|length", ints(0, 0), ints(1)),
    "slice: an axis twice": shaped("Slice", "axis|axes", ints(0, 0), ints(1, 1), ints(1, 1)),
    "slice: no such axis": shaped("Slice", "axis|axes", ints(0), ints(1), ints(9)),
    "slice: starts that are NaN": shaped("Slice", "starts|integer", floats(NAN), ints(1)),
    "pad: too few pads": shaped("Pad", "pads", ints(1, 1)),
    "pad: crops more than there is": shaped("Pad", "pads|extent|negative", ints(0, 0, -9, 0, 0, 0, 0, 0)),
    "pad: reflects more than there is": shaped("Pad", "pads|reflect", ints(0, 0, 9, 0, 0, 0, 9, 0), mode="reflect"),
    "pad: an unknown mode": shaped("Pad", "mode", ints(0, 0, 1, 0, 0, 0, 0, 0), mode="mirror"),
    "pad: huge pads": shaped("Pad", "pads|memory|size|large|bytes", ints(0, 0, HUGE, 0, 0, 0, HUGE, 0)),
    "pad: pads beyond 64 bits": shaped("Pad", "pads|memory|size|large|bytes", ints(0, 0, 2**62, 2**62, 0, 0, 2**62, 2**62)),
    "expand: shapes that do not broadcast": shaped("Expand", "broadcast", ints(3, 8)),
    "expand: a huge shape": shaped("Expand", "memory|size|large|bytes", ints(HUGE, 2, 4, 8, 8)),
    "expand: negative extents": shaped("Expand", "shape|extent|broadcast", ints(-3, 2, 4, 8, 8)),
    "tile: negative repeats": shaped("Tile", "repeats", ints(1, 1, -1, 1)),
    "tile: too few repeats": shaped("Tile", "repeats", ints(2)),
    "tile: huge repeats": shaped("Tile", "repeats|memory|size|large|bytes", ints(1, 1, HUGE, HUGE)),
    "depth to space: blocks of zero": Case("DepthToSpace", "blocksize|block", {}, {"blocksize": 0}),
    "depth to space: blocks that do not divide": Case("DepthToSpace", "blocksize|block|channels", {}, {"blocksize": 3}),
    "space to depth: negative blocks": Case("SpaceToDepth", "blocksize|block", {}, {"blocksize": -2}),
    "cast: an unknown type": Case("Cast", "type|99", {}, {"to": 99}),
    "constant of shape: negative extents": Case("ConstantOfShape", "shape|extent", x=ints(2, -3)),
    "constant of shape: huge": Case("ConstantOfShape", "memory|size|large|bytes", x=ints(2**40, 2**40)),
    "range: a step of zero": shaped("Range", "delta|step", np.int64(3), np.int64(0), x=np.array(0)),
    "range: huge": shaped("Range", "memory|size|large|bytes", np.int64(2**62), np.int64(1), x=np.array(0)),
    "range: NaN": shaped("Range", "limit|NaN|nan|finite", np.float32(NAN), np.float32(1), x=np.array(0, np.float32)),
    # indices
    "gather: an index outside": shaped("Gather", "index|indices", ints(4), axis=1),
    "gather: an index below": shaped("Gather", "index|indices", ints(-5), axis=1),
    "gather: indices of floats": shaped("Gather", "index|indices", floats(1), axis=1),
    "gather: fed indices outside": Case("Gather", "index|indices", {"i": ints(HUGE)}, {"axis": 1}, fed=("i",)),
    "gather elements: an index outside": shaped("GatherElements", "index|indices", np.full((1, 1, 1, 1), 9), axis=2),
    "gather nd: an index outside": shaped("GatherND", "index|indices", ints(0, 4).reshape(1, 2)),
    "gather nd: an index too long": shaped("GatherND", "index|indices|rank", ints(0, 0, 0, 0, 0).reshape(1, 5)),
    "scatter nd: an index outside": shaped("ScatterND", "index|indices", ints(2).reshape(1, 1), zeros(1, 4, 8, 8)),
    "scatter nd: updates of another shape": shaped("ScatterND", "updates|shape", ints(0).reshape(1, 1), zeros(1, 4, 8, 7)),
    "scatter elements: an index outside": shaped(
        "ScatterElements", "index|indices", np.full((1, 1, 1, 1), -9), zeros(1, 1, 1, 1)
    ),
    "topk: more than there are": shaped("TopK", "k", ints(9), outputs=2),
    "topk: fewer than none": shaped("TopK", "k", ints(-1), outputs=2),
    "topk: fed": Case("TopK", "k|K", {"k": ints(9)}, fed=("k",), outputs=2),
    "one hot: a negative depth": shaped("OneHot", "depth", np.int64(-2), floats(0, 1), x=ints(0, 1)),
    "one hot: a huge depth": shaped("OneHot", "depth|memory|size|large|bytes", np.int64(2**60), floats(0, 1), x=ints(0, 1)),
    "trilu: rank 1": Case("Trilu", "rank|axes|matri", x=zeros(4)),
    # resizing
    "resize: scales of zero": shaped("Resize", "scale", None, floats(1, 1, 0, 2)),
    "resize: scales that are NaN": shaped("Resize", "scale", None, floats(1, 1, NAN, 2)),
    "resize: endless scales": shaped("Resize", "scale|size|memory", None, floats(1, 1, np.inf, 2)),
    "resize: huge scales": shaped("Resize", "scale|size|memory|large|bytes", None, floats(1, 1, 1e12, 1e12)),
    "resize: too few scales": shaped("Resize", "scale", None, floats(2, 2)),
    "resize: an unknown mode": shaped("Resize", "mode", None, floats(1, 1, 2, 2), mode="best"),
    "resize: neither scales nor sizes": Case("Resize", "scale|size"),
    "upsample: scales below 1": shaped("Upsample", "scale", floats(1, 1, -2, 2), opset=9),
    # operators that run through the fallback
    "einsum: another equation": Case("Einsum", "equation|Einsum|Ellipsis|rank", {}, {"equation": "ab->b"}),
    "einsum: no equation": Case("Einsum", "equation|Einsum|fit", {}, {"equation": "->->"}),
    "lstm: weights of another shape": shaped(
        "LSTM", "LSTM|fit|comput", zeros(1, 5, 3), zeros(1, 8, 2), x=zeros(4, 1, 7), hidden_size=2
    ),
    "grid sample: a grid of another rank": shaped("GridSample", "GridSample|rank|fit|comput", zeros(2, 8, 8)),
    "nms: boxes of another rank": shaped("NonMaxSuppression", "rank|fit|comput|boxes", zeros(1, 1, 2), x=zeros(2, 4)),
}


def failure(model: Any, feeds: Mapping[str, Any] | None, **options: Any) -> CNNEngineError:
    with pytest.raises(CNNEngineError) as caught:
        loaded = cnnengine.load(model, threads=1, **options)
        if feeds is not None:
            loaded.run(None, feeds)
    return caught.value


def check_message(error: CNNEngineError, words: str, *names: str) -> None:
    text = str(error)
    for name in names:
        assert name in text, text
    lowered = text.lower()
    assert any(word.lower() in lowered.replace("'bad'", "") for word in words.split("|")), text
    assert "\n" not in text, text


@pytest.mark.parametrize("name", CASES)
def test_nodes_that_do_not_fit(name: str) -> None:
    case = CASES[name]
    error = failure(case.model(), case.feeds())
    check_message(error, case.words, "'bad'", case.operator)


# whole graphs


def value(name: str, shape: Sequence[Any] | None, dtype: int = F) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def network(
    nodes: Sequence[onnx.NodeProto] | None = None,
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    outputs: Sequence[onnx.ValueInfoProto] | None = None,
    tensors: Sequence[TensorProto] = (),
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes if nodes is not None else [helper.make_node("Relu", ["x"], ["y"], name="n")]),
        "g",
        list(inputs if inputs is not None else [value("x", ["n", 3])]),
        list(outputs if outputs is not None else [value("y", None)]),
        list(tensors),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def changed(change: Callable[[onnx.ModelProto], Any], tensor: TensorProto | None = None, **options: Any) -> onnx.ModelProto:
    """A model y = x + w after `change`."""
    tensor = tensor or numpy_helper.from_array(floats(1, 2, 3), "w")
    model = network([helper.make_node("Add", ["x", "w"], ["y"], name="n")], tensors=[tensor], **options)
    change(model)
    return model


def tensor(**fields: Any) -> TensorProto:
    return TensorProto(**{"name": "w", "data_type": F, "dims": [3], **fields})


def body(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], inputs: Sequence[onnx.ValueInfoProto] = ()) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "body", list(inputs), [value(o, None) for o in outputs])


def nothing(model: onnx.ModelProto) -> None:
    pass


def choice(then: Sequence[str], other: Sequence[str], condition: str = "c") -> onnx.ModelProto:
    branches = [body([helper.make_node("Relu", ["x"], [n]) for n in names], names) for names in (then, other)]
    node = helper.make_node("If", [condition], ["y"], name="n", then_branch=branches[0], else_branch=branches[1])
    return network([node], [value("x", ["n", 3]), value("c", None, B)])


def endless(limit: bool) -> onnx.ModelProto:
    inner = body(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["s"], ["t"])],
        ["on", "t"],
        [value("i", [], I64), value("go", [], B), value("s", None)],
    )
    tensors = [numpy_helper.from_array(np.array(True), "c"), numpy_helper.from_array(np.array(2**62), "limit")]
    return network([helper.make_node("Loop", ["limit" if limit else "", "c", "x"], ["y"], name="n", body=inner)], tensors=tensors)


X3 = {"x": np.ones((2, 3), np.float32)}
Graphs = dict[str, tuple[str, Callable[[], onnx.ModelProto], Mapping[str, Any] | None]]
GRAPHS: Graphs = {
    "raw data too short": ("'w'", lambda: changed(nothing, tensor(raw_data=b"\0" * 11)), X3),
    "raw data too long": ("'w'", lambda: changed(nothing, tensor(raw_data=b"\0" * 13)), X3),
    "float data too short": ("'w'", lambda: changed(nothing, tensor(float_data=[1.0, 2.0])), X3),
    "data in the field of another type": ("'w'", lambda: changed(nothing, tensor(int64_data=[1, 2, 3])), X3),
    "no data": ("'w'", lambda: changed(nothing, tensor()), X3),
    "negative extents": ("'w'", lambda: changed(nothing, tensor(dims=[-3], raw_data=b"\0" * 12)), X3),
    "extents whose product overflows": (
        "'w'",
        lambda: changed(nothing, tensor(dims=[2**32, 2**32], raw_data=b"")),
        X3,
    ),
    "extents whose product overflows to the right one": (
        "'w'",
        lambda: changed(nothing, tensor(dims=[2**62, 4, 3], raw_data=b"\0" * 12)),
        X3,
    ),
    "an element type that is not there": ("'w'", lambda: changed(nothing, tensor(data_type=0, raw_data=b"\0" * 12)), X3),
    "an element type from nowhere": ("'w'", lambda: changed(nothing, tensor(data_type=99, raw_data=b"\0" * 12)), X3),
    "a weight of strings": ("'n'|'w'", lambda: changed(nothing, tensor(data_type=8, string_data=[b"a", b"b", b"c"])), X3),
    "a weight of strings as raw data": ("'w'", lambda: changed(nothing, tensor(data_type=8, raw_data=b"abc")), X3),
    "a tensor without a name": ("name", lambda: changed(nothing, tensor(name="", raw_data=b"\0" * 12)), X3),
    "two tensors of one name": (
        "'w'",
        lambda: changed(lambda m: m.graph.initializer.append(numpy_helper.from_array(floats(4, 5, 6), "w"))),
        X3,
    ),
    "a node that makes an initializer": (
        "'w'",
        lambda: changed(lambda m: m.graph.node.append(helper.make_node("Relu", ["x"], ["w"], name="n2"))),
        X3,
    ),
    "two inputs of one name": ("'x'", lambda: changed(lambda m: m.graph.input.append(value("x", [3]))), X3),
    "an input without a name": ("name", lambda: changed(lambda m: m.graph.input.append(value("", [3]))), X3),
    "an input of an unknown type": ("'z'", lambda: changed(lambda m: m.graph.input.append(value("z", [3], 99))), X3),
    "an input of bfloat16": ("'z'", lambda: changed(lambda m: m.graph.input.append(value("z", [3], TensorProto.BFLOAT16))), X3),
    "an input with huge extents": ("memory|large|size", lambda: network(inputs=[value("x", [2**62, 2**62])]), None),
    "an input of more than can be addressed": ("memory|large|size", lambda: network(inputs=[value("x", [2**31, 2**31])]), None),
    "an input with a rank of 70": ("rank|axes|dimension", lambda: network(inputs=[value("x", [1] * 70)]), None),
    "no outputs": ("output", lambda: network(outputs=[]), X3),
    "an output without a name": ("name|output", lambda: network(outputs=[value("", None)]), X3),
    "an operator without a name": ("operator|''", lambda: network([helper.make_node("", ["x"], ["y"], name="n")]), X3),
    "an operator newer than the opset": ("Gelu", lambda: network([helper.make_node("Gelu", ["x"], ["y"], name="n")]), X3),
    "an operator that the opset no longer has": (
        "Upsample",
        lambda: network([helper.make_node("Upsample", ["x", "x"], ["y"], name="n")]),
        X3,
    ),
    "an opset of zero": ("opset|version", lambda: network(opset=0), X3),
    "a negative opset": ("opset|version", lambda: network(opset=-1), X3),
    "an opset twice": ("opset", lambda: changed(lambda m: m.opset_import.append(helper.make_opsetid("", 9))), X3),
    "branches of another number of outputs": ("'n'", lambda: choice(["a"], ["b", "d"]), {**X3, "c": np.array(True)}),
    "a condition of floats": ("'n'|'c'|bool", lambda: choice(["a"], ["b"], "x"), {**X3, "c": np.array(True)}),
    "a condition of two elements": ("'n'|cond", lambda: choice(["a"], ["b"]), {**X3, "c": np.array([True, False])}),
    "a loop without end": ("'n'", lambda: endless(False), X3),
    "a sparse tensor with an index outside": (
        "'w'",
        lambda: changed(
            lambda m: (
                m.graph.ClearField("initializer"),
                m.graph.sparse_initializer.append(
                    helper.make_sparse_tensor(numpy_helper.from_array(floats(1), "w"), numpy_helper.from_array(ints(7), "i"), [3])
                ),
            )
        ),
        X3,
    ),
    "a sparse tensor of huge extents": (
        "'w'",
        lambda: changed(
            lambda m: (
                m.graph.ClearField("initializer"),
                m.graph.sparse_initializer.append(
                    helper.make_sparse_tensor(
                        numpy_helper.from_array(floats(1), "w"), numpy_helper.from_array(ints(7), "i"), [2**40, 2**40]
                    )
                ),
            )
        ),
        X3,
    ),
    "a function that lacks an output": (
        "y|F",
        lambda: changed(
            lambda m: (
                m.graph.ClearField("node"),
                m.graph.node.append(helper.make_node("F", ["x"], ["y"], domain="own", name="n")),
                m.opset_import.append(helper.make_opsetid("own", 1)),
                m.functions.append(helper.make_function("own", "F", ["a"], ["b"], [], [helper.make_opsetid("", 17)])),
            )
        ),
        X3,
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_that_are_broken(name: str) -> None:
    words, build, feeds = GRAPHS[name]
    check_message(failure(build(), feeds), words)


def test_there_are_enough_of_them() -> None:
    assert len(CASES) + len(GRAPHS) >= 60


# damaged bytes


def small_network() -> bytes:
    rng = np.random.default_rng(5)
    tensors = {
        "w": rng.standard_normal((5, 3, 3, 3)).astype(np.float32),
        "b": rng.standard_normal(5).astype(np.float32),
        "d": rng.standard_normal((4, 20)).astype(np.float32),
        "shape": ints(0, -1),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["p", "shape"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "d"], ["g"], name="dense", transB=1),
        helper.make_node("Softmax", ["g"], ["y"], name="soft", axis=1),
    ]
    weights = [numpy_helper.from_array(v, n) for n, v in tensors.items()]
    graph = helper.make_graph(nodes, "g", [value("x", ["n", 3, 8, 8])], [value("y", ["n", 4])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def runs_or_refuses(data: bytes) -> bool:
    """Whether damaged bytes are refused; anything but a result or a CNNEngineError fails the test."""
    try:
        model = cnnengine.load(data, threads=1)
        model.run(
            None,
            {i.name: np.ones([d if isinstance(d, int) else 1 for d in i.shape or (1, 3, 8, 8)], i.dtype) for i in model.inputs},
        )
    except CNNEngineError:
        return True
    return False


@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_run_or_are_refused() -> None:
    signal.alarm(6 * SECONDS)
    data = small_network()
    rng = np.random.default_rng(11)
    header = data.replace(numpy_helper.to_array(onnx.load_from_string(data).graph.initializer[0]).tobytes(), b"")
    assert len(header) < len(data)
    refused = 0
    positions = [p for p in range(len(data)) if not 400 < p < 900]
    for _ in range(600):
        damaged = bytearray(data)
        for position in rng.choice(positions, rng.integers(1, 4)):
            damaged[position] = rng.integers(256)
        refused += runs_or_refuses(bytes(damaged))
    assert refused > 100
    for end in range(0, len(data), 9):
        runs_or_refuses(data[:end])
