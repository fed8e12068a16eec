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
    "conv: weights of a rank too low": conv("'w': w has another rank than x", zeros(6, 4, 3)),
    "conv: weights of rank 1": conv("'w': w has another rank than x", zeros(6)),
    "conv: weights that are a scalar": conv("'w': w has another rank than x", np.float32(1)),
    "conv: weights of other channels": conv("'w': w does not fit the channels of x", zeros(6, 3, 3, 3)),
    "conv: an image without space": Case("Conv", "'x': x has the wrong rank", {"w": zeros(6, 4)}, {}, zeros(2, 4)),
    "conv: groups that do not divide the channels": conv(
        "'groups': groups do not divide the channels", zeros(6, 1, 3, 3), group=3
    ),
    "conv: groups that do not divide the outputs": conv(
        "'groups': groups do not divide the channels", zeros(5, 2, 3, 3), group=2
    ),
    "conv: no groups": conv("'groups': groups do not divide the channels", group=0),
    "conv: negative groups": conv("'groups': groups do not divide the channels", group=-1),
    "conv: huge groups": conv("'groups': groups do not divide the channels", group=2**62),
    "conv: strides of zero": conv("'strides': strides must be positive", strides=[0, 1]),
    "conv: negative strides": conv("'strides': strides must be positive", strides=[1, -2]),
    "conv: too many strides": conv("'strides': strides has the wrong length", strides=[1, 1, 1]),
    "conv: dilations of zero": conv("'dilations': dilations must be positive", dilations=[1, 0]),
    "conv: huge dilations": conv("'dilations': dilations beyond what can be computed with", dilations=[2**62, 1]),
    "conv: negative pads": conv("'pads': pads must not be negative", pads=[-1, 0, 0, 0]),
    "conv: three pads": conv("'pads': pads has the wrong length", pads=[1, 1, 1]),
    "conv: huge pads": conv("'pads': pads beyond what can be computed with", pads=[HUGE, 0, 0, 0]),
    "conv: pads beyond 64 bits": conv("'pads': pads beyond what can be computed with", pads=[2**62, 2**62, 2**62, 2**62]),
    "conv: a kernel larger than the image": conv("'x': the window does not fit into spatial axis 0", zeros(6, 4, 9, 9)),
    "conv: huge pads and strides": conv(
        "'strides': strides beyond what can be computed with", pads=[HUGE, HUGE] * 2, strides=[HUGE, HUGE]
    ),
    "conv: an unknown auto_pad": conv("'auto_pad': unknown auto_pad", auto_pad="SAME"),
    "conv: a kernel_shape that is not the weights'": conv("'w': kernel_shape differs from the weights", kernel_shape=[5, 5]),
    "conv: a bias too short": conv("'bias': the bias has the wrong shape", b=zeros(5)),
    "conv: a bias of rank 2": conv("'bias': the bias has the wrong shape", b=zeros(6, 1)),
    "conv: weights of doubles": conv("'w': has the wrong dtype", zeros(6, 4, 3, 3, dtype=np.float64)),
    "conv: an image of integers": Case("Conv", "'x': has the wrong dtype", {"w": W}, {}, zeros(2, 4, 8, 8, dtype=np.int64)),
    "conv: an empty kernel": conv("'kernel': kernel must be positive", zeros(6, 4, 0, 3)),
    "conv: weights fed with other channels": Case(
        "Conv", "'w': w does not fit the channels of x", {"w": zeros(6, 3, 3, 3)}, fed=("w",)
    ),
    # transposed convolution
    "transposed: weights of other channels": transposed("'w': w does not fit the channels of x", zeros(3, 6, 3, 3)),
    "transposed: groups that do not divide": transposed("'groups': groups do not divide the channels", group=3),
    "transposed: strides of zero": transposed("'strides': strides must be positive", strides=[0, 0]),
    "transposed: output_padding as large as the stride": transposed(
        "'output_padding': output_padding must be smaller than stride or dilation", output_padding=[1, 1], strides=[1, 1]
    ),
    "transposed: negative output_padding": transposed(
        "'output_padding': output_padding must be smaller than stride or dilation", output_padding=[-1, 0]
    ),
    "transposed: an output_shape of one axis": transposed("'output_shape': output_shape has the wrong length", output_shape=[8]),
    "transposed: a negative output_shape": transposed(
        "'pads': the pads of ConvTranspose leave nothing of spatial axis 0", output_shape=[-8, 8]
    ),
    "transposed: pads that leave nothing": transposed(
        "'pads': the pads of ConvTranspose leave nothing of spatial axis 0", pads=[9, 9, 9, 9]
    ),
    "transposed: huge strides": transposed("'strides': strides beyond what can be computed with", strides=[HUGE, HUGE]),
    "transposed: a huge output_shape": transposed(
        "'x': the window moves over more places than can be counted", output_shape=[2**40, 2**40]
    ),
    # pooling
    "pool: a kernel of zero": pool("MaxPool", "'kernel': kernel must be positive", kernel_shape=[0, 2]),
    "pool: a negative kernel": pool("AveragePool", "'kernel': kernel must be positive", kernel_shape=[2, -2]),
    "pool: a kernel of one axis": pool("MaxPool", "the window and the input differ in rank", kernel_shape=[2]),
    "pool: huge pads and ceil_mode": pool(
        "AveragePool", "'pads': pads beyond what can be computed with", pads=[HUGE, 1, 2**62, 1], ceil_mode=1
    ),
    "pool: negative pads": pool("MaxPool", "'pads': pads must not be negative", pads=[-1, 0, 0, 0]),
    "pool: strides of zero": pool("LpPool", "'strides': strides must be positive", strides=[1, 0]),
    "pool: a kernel larger than the image": pool("MaxPool", "the window does not fit into spatial axis 0", kernel_shape=[9, 9]),
    "pool: dilations of zero": pool("MaxPool", "'dilations': dilations must be positive", dilations=[0, 1]),
    "pool: an image without space": pool("MaxPool", "'x': needs a batch axis, a channel axis and spatial axes", zeros(2, 4)),
    "pool: a power of zero": pool("LpPool", "'p': p must be positive", p=0),
    "pool: an unknown storage order": pool("MaxPool", "'storage_order': unknown storage_order", storage_order=2),
    "pool: an unknown auto_pad": pool("MaxPool", "'auto_pad': unknown auto_pad", auto_pad="SAME"),
    "global pool: no channels": Case("GlobalAveragePool", "'x': needs a batch axis, a channel axis and spatial axes", x=zeros(4)),
    "unpool: indices outside": shaped(
        "MaxUnpool", "'indices': an index is out of range", np.full((2, 4, 8, 8), HUGE), kernel_shape=[2, 2], strides=[2, 2]
    ),
    "unpool: negative indices": shaped(
        "MaxUnpool", "'indices': an index is out of range", np.full((2, 4, 8, 8), -1), kernel_shape=[2, 2]
    ),
    "unpool: indices of another shape": shaped(
        "MaxUnpool",
        "'indices': indices must be int64 of the input's shape",
        zeros(2, 4, 8, 7, dtype=np.int64),
        kernel_shape=[2, 2],
    ),
    "unpool: indices of floats": shaped(
        "MaxUnpool", "'indices': indices must be int64 of the input's shape", zeros(2, 4, 8, 8), kernel_shape=[2, 2]
    ),
    # dense
    "gemm: inner extents that differ": shaped("Gemm", "'B': A and B do not fit", zeros(9, 5), x=zeros(3, 8)),
    "gemm: rank 3": shaped("Gemm", "A and B must be matrices", zeros(8, 5), x=zeros(3, 8, 1)),
    "gemm: a bias that does not broadcast": shaped(
        "Gemm", "'C': C does not broadcast to the product", zeros(8, 5), zeros(4), x=zeros(3, 8)
    ),
    "gemm: doubles and floats": shaped("Gemm", "'B': has the wrong dtype", zeros(8, 5, dtype=np.float64), x=zeros(3, 8)),
    "matmul: inner extents that differ": shaped("MatMul", "'B': A and B do not fit", zeros(9, 5)),
    "matmul: batches that do not broadcast": shaped("MatMul", "'B': A and B do not broadcast", zeros(3, 8, 5)),
    "matmul: a scalar": shaped("MatMul", "scalars cannot be multiplied", np.float32(1)),
    # normalisation
    "batch norm: too few scales": shaped("BatchNormalization", "'scale': has the wrong shape", *[zeros(3)] * 4),
    "batch norm: means of another length": shaped(
        "BatchNormalization", "'mean': has the wrong shape", zeros(4), zeros(4), zeros(5), zeros(4)
    ),
    "batch norm: a vector of other than one channel": shaped(
        "BatchNormalization", "'scale': has the wrong shape", *[zeros(4)] * 4, x=zeros(3)
    ),
    "batch norm: a scalar": shaped("BatchNormalization", "'x': the rank is too low", *[zeros(1)] * 4, x=np.float32(1)),
    "instance norm: too few scales": shaped("InstanceNormalization", "'scale': has the wrong shape", zeros(3), zeros(3)),
    "group norm: groups that do not divide": shaped(
        "GroupNormalization", "'groups': groups do not divide the channels", zeros(4), zeros(4), opset=21, num_groups=3
    ),
    "group norm: no groups": shaped(
        "GroupNormalization", "'groups': groups do not divide the channels", zeros(4), zeros(4), opset=21, num_groups=0
    ),
    "layer norm: no such axis": shaped("LayerNormalization", "'axis': there is no such axis", zeros(8), axis=7),
    "layer norm: scales of another shape": shaped("LayerNormalization", "'scale': does not broadcast to the axes", zeros(7)),
    "lrn: a size of zero": Case("LRN", "'size': the window must be positive", {}, {"size": 0}),
    "lrn: a negative size": Case("LRN", "'size': the window must be positive", {}, {"size": -3}),
    "lrn: an image without channels": Case("LRN", "'x': the rank is too low", {}, {"size": 3}, x=zeros(4)),
    # elementwise and reductions
    "add: shapes that do not broadcast": shaped("Add", "the shapes do not broadcast", zeros(3)),
    "add: doubles and floats": shaped("Add", "'input 1': inputs of different types", zeros(8, dtype=np.float64)),
    "prelu: slopes that do not broadcast": shaped("PRelu", "'slope': the slope does not broadcast to x", zeros(3)),
    "clip: a minimum of two elements": shaped("Clip", "'min': a bound must be a scalar", zeros(2)),
    "clip: a minimum of integers": shaped("Clip", "'min': a bound of another type", np.int64(0)),
    "where: a condition of floats": shaped(
        "Where", "'condition': an input of a type that the operator does not take", zeros(8), zeros(8)
    ),
    "not: floats": Case("Not", "'X': an input of a type that the operator does not take"),
    "softmax: no such axis": Case("Softmax", "'axis': there is no such axis", {}, {"axis": 4}),
    "softmax: integers": Case(
        "Softmax", "'X': an input of a type that the operator does not take", {}, {}, zeros(2, 3, dtype=np.int64)
    ),
    "reduce: no such axis": Case("ReduceMean", "'axis': there is no such axis", {}, {"axes": [5]}),
    "reduce: an axis twice": Case("ReduceMax", "'axes': an axis is named twice", {}, {"axes": [1, -3]}),
    "reduce: axes that are NaN": shaped("ReduceSum", "'axes': must be a list of integers", floats(NAN)),
    "argmax: no such axis": Case("ArgMax", "'axis': there is no such axis", {}, {"axis": -5}),
    "argmax: nothing to compare": Case("ArgMax", "'data': no extreme of nothing", {}, {"axis": 0}, zeros(0, 3)),
    "cumsum: axes that are NaN": shaped("CumSum", "'axis': the axis must be an integer", np.float32(NAN)),
    "cumsum: no such axis": shaped("CumSum", "'axis': there is no such axis", np.int64(4)),
    # shapes
    "reshape: another number of elements": shaped("Reshape", "the elements do not fit", ints(3, 5)),
    "reshape: two open extents": shaped("Reshape", "'shape': not a shape", ints(-1, -1)),
    "reshape: an extent of -2": shaped("Reshape", "'shape': not a shape", ints(-2, 4)),
    "reshape: an open extent that does not divide": shaped("Reshape", "the elements do not fit", ints(-1, 7)),
    "reshape: a copied extent that is not there": shaped(
        "Reshape", "'shape': 0 copies an extent that the input does not have", ints(2, 4, 8, 8, 0)
    ),
    "reshape: an overflowing product": shaped("Reshape", "the elements do not fit", ints(2**32, 2**32)),
    "reshape: an overflowing product that wraps to the right one": shaped(
        "Reshape", "the elements do not fit", ints(2**62, 4, 512)
    ),
    "reshape: a shape of floats": shaped("Reshape", "'shape': must be a list of integers", floats(2, 256)),
    "reshape: a shape that is a matrix": shaped("Reshape", "'shape': must be a list of integers", ints(2, 256).reshape(1, 2)),
    "reshape: a shape fed that does not fit": Case("Reshape", "the elements do not fit", {"s": ints(3, 5)}, fed=("s",)),
    "flatten: no such axis": Case("Flatten", "'axis': there is no such axis", {}, {"axis": 5}),
    "squeeze: an extent that is not 1": shaped("Squeeze", "axis 1 cannot be dropped", ints(1)),
    "unsqueeze: an axis twice": shaped("Unsqueeze", "'axes': an axis is named twice", ints(1, 1)),
    "unsqueeze: huge axes": shaped("Unsqueeze", "'axis': there is no such axis", ints(2**62)),
    "transpose: an axis twice": Case("Transpose", "'perm': not a permutation of the axes", {}, {"perm": [0, 0, 1, 2]}),
    "transpose: too few axes": Case("Transpose", "'perm': not a permutation of the axes", {}, {"perm": [1, 0]}),
    "concat: no such axis": shaped("Concat", "'axis': there is no such axis", zeros(2, 4, 8, 8), axis=4),
    "concat: other extents": shaped("Concat", "axis 2 differs between the inputs", zeros(2, 4, 7, 8), axis=1),
    "concat: other ranks": shaped("Concat", "the inputs differ in rank", zeros(2, 4, 8), axis=1),
    "concat: other types": shaped("Concat", "the inputs differ in dtype", zeros(2, 4, 8, 8, dtype=np.float64), axis=1),
    "split: parts that do not sum up": shaped(
        "Split", "'split': the pieces do not make up the axis", ints(1, 2), axis=1, outputs=2
    ),
    "split: negative parts": shaped("Split", "'split': the pieces do not make up the axis", ints(-1, 5), axis=1, outputs=2),
    "split: more outputs than parts": shaped(
        "Split", "'split': the pieces do not make up the axis", ints(2, 2), axis=1, outputs=3
    ),
    "slice: steps of zero": shaped("Slice", "'steps': a step of zero", ints(0), ints(2), ints(1), ints(0)),
    "slice: more starts than ends": shaped("Slice", "starts, ends, axes and steps differ in length", ints(0, 0), ints(1)),
    "slice: an axis twice": shaped("Slice", "'axes': an axis is named twice", ints(0, 0), ints(1, 1), ints(1, 1)),
    "slice: no such axis": shaped("Slice", "'axis': there is no such axis", ints(0), ints(1), ints(9)),
    "slice: starts that are NaN": shaped("Slice", "'starts': must be a list of integers", floats(NAN), ints(1)),
    "pad: too few pads": shaped("Pad", "'pads': pads has the wrong length", ints(1, 1)),
    "pad: crops more than there is": shaped("Pad", "'pads': more is cropped than axis 2 has", ints(0, 0, -9, 0, 0, 0, 0, 0)),
    "pad: an unknown mode": shaped("Pad", "unknown mode", ints(0, 0, 1, 0, 0, 0, 0, 0), mode="mirror"),
    "pad: huge pads": shaped(
        "Pad", "'y0': the model asks for more than the limit tensor_bytes allows", ints(0, 0, HUGE, 0, 0, 0, HUGE, 0)
    ),
    "pad: pads beyond 64 bits": shaped(
        "Pad", "'y0': the model asks for more than the limit tensor_bytes allows", ints(0, 0, 2**62, 2**62, 0, 0, 2**62, 2**62)
    ),
    "expand: shapes that do not broadcast": shaped("Expand", "the shapes do not broadcast", ints(3, 8)),
    "expand: a huge shape": shaped(
        "Expand", "'y0': the model asks for more than the limit tensor_bytes allows", ints(HUGE, 2, 4, 8, 8)
    ),
    "expand: negative extents": shaped("Expand", "the shapes do not broadcast", ints(-3, 2, 4, 8, 8)),
    "tile: negative repeats": shaped("Tile", "'repeats': repeats does not fit the input", ints(1, 1, -1, 1)),
    "tile: too few repeats": shaped("Tile", "'repeats': repeats does not fit the input", ints(2)),
    "tile: huge repeats": shaped(
        "Tile", "'y0': the model asks for more than the limit tensor_bytes allows", ints(1, 1, HUGE, HUGE)
    ),
    "depth to space: blocks of zero": Case("DepthToSpace", "the channels do not divide", {}, {"blocksize": 0}),
    "depth to space: blocks that do not divide": Case("DepthToSpace", "the channels do not divide", {}, {"blocksize": 3}),
    "space to depth: negative blocks": Case("SpaceToDepth", "the pixels do not divide", {}, {"blocksize": -2}),
    "cast: an unknown type": Case(
        "Cast", "this element type is not supported; expected a NumPy dtype; received 99", {}, {"to": 99}
    ),
    "constant of shape: negative extents": Case("ConstantOfShape", "'input': not a shape", x=ints(2, -3)),
    "constant of shape: huge": Case(
        "ConstantOfShape",
        "model 'g', node 'bad', operator 'ConstantOfShape': the model asks for more",
        x=ints(2**40, 2**40),
    ),
    "range: a step of zero": shaped("Range", "'delta': a step of zero", np.int64(3), np.int64(0), x=np.array(0)),
    "range: huge": shaped(
        "Range",
        "model 'g', node 'bad', operator 'Range': the model asks for more",
        np.int64(2**62),
        np.int64(1),
        x=np.array(0),
    ),
    "range: NaN": shaped("Range", "'limit': a range without an end", np.float32(NAN), np.float32(1), x=np.array(0, np.float32)),
    # indices
    "gather: an index outside": shaped("Gather", "'indices': an index lies outside the axis", ints(4), axis=1),
    "gather: an index below": shaped("Gather", "'indices': an index lies outside the axis", ints(-5), axis=1),
    "gather: indices of floats": shaped("Gather", "'indices': indices must be integers", floats(1), axis=1),
    "gather: fed indices outside": Case(
        "Gather", "'indices': an index lies outside the axis", {"i": ints(HUGE)}, {"axis": 1}, fed=("i",)
    ),
    "gather elements: an index outside": shaped(
        "GatherElements", "'indices': an index lies outside the axis", np.full((1, 1, 1, 1), 9), axis=2
    ),
    "gather nd: an index outside": shaped("GatherND", "'indices': an index lies outside the axis", ints(0, 4).reshape(1, 2)),
    "gather nd: an index too long": shaped(
        "GatherND", "the coordinates have the wrong length", ints(0, 0, 0, 0, 0).reshape(1, 5)
    ),
    "scatter nd: an index outside": shaped(
        "ScatterND", "'indices': an index lies outside the axis", ints(2).reshape(1, 1), zeros(1, 4, 8, 8)
    ),
    "scatter nd: updates of another shape": shaped(
        "ScatterND", "the updates have the wrong shape", ints(0).reshape(1, 1), zeros(1, 4, 8, 7)
    ),
    "scatter elements: an index outside": shaped(
        "ScatterElements", "'indices': an index lies outside the axis", np.full((1, 1, 1, 1), -9), zeros(1, 1, 1, 1)
    ),
    "topk: more than there are": shaped("TopK", "'K': k does not fit the axis", ints(9), outputs=2),
    "topk: fewer than none": shaped("TopK", "'K': k does not fit the axis", ints(-1), outputs=2),
    "topk: fed": Case("TopK", "'K': k does not fit the axis", {"k": ints(9)}, fed=("k",), outputs=2),
    "one hot: a negative depth": shaped("OneHot", "'depth': not a depth", np.int64(-2), floats(0, 1), x=ints(0, 1)),
    "one hot: a huge depth": shaped(
        "OneHot", "'y0': the model asks for more than the limit tensor_bytes allows", np.int64(2**60), floats(0, 1), x=ints(0, 1)
    ),
    "trilu: rank 1": Case("Trilu", "the input must hold matrices", x=zeros(4)),
    # resizing
    "resize: scales of zero": shaped("Resize", "scales or sizes do not fit", None, floats(1, 1, 0, 2)),
    "resize: scales that are NaN": shaped("Resize", "scales or sizes do not fit", None, floats(1, 1, NAN, 2)),
    "resize: endless scales": shaped("Resize", "scales or sizes do not fit", None, floats(1, 1, np.inf, 2)),
    "resize: huge scales": shaped(
        "Resize", "'y0': the model asks for more than the limit tensor_bytes allows", None, floats(1, 1, 1e12, 1e12)
    ),
    "resize: too few scales": shaped("Resize", "scales or sizes do not fit", None, floats(2, 2)),
    "resize: an unknown mode": shaped("Resize", "unknown mode", None, floats(1, 1, 2, 2), mode="best"),
    "resize: neither scales nor sizes": Case("Resize", "exactly one of scales and sizes must be given"),
    "upsample: scales below 1": shaped("Upsample", "scales or sizes do not fit", floats(1, 1, -2, 2), opset=9),
    "einsum: another equation": Case("Einsum", "the rank does not fit", {}, {"equation": "ab->b"}),
    "einsum: no equation": Case("Einsum", "the equation cannot be read", {}, {"equation": "->->"}),
    "lstm: weights of another shape": shaped(
        "LSTM", "'W': has the wrong shape", zeros(1, 5, 3), zeros(1, 8, 2), x=zeros(4, 1, 7), hidden_size=2
    ),
    "gru: an unknown function": shaped(
        "GRU", "an activation is not known", zeros(1, 6, 7), zeros(1, 6, 2), x=zeros(4, 1, 7), activations=["Sigmoid", "Sine"]
    ),
    "rnn: lengths beyond the steps": shaped(
        "RNN",
        "'sequence_lens': a length lies outside the steps",
        zeros(1, 2, 7),
        zeros(1, 2, 2),
        None,
        np.int32([5]),
        x=zeros(4, 1, 7),
    ),
    # operators that run through the fallback
    "grid sample: a grid of another rank": shaped("GridSample", "the inputs do not fit", zeros(2, 8, 8)),
    "nms: boxes of another rank": shaped("NonMaxSuppression", "boxes must be", zeros(1, 1, 2), x=zeros(2, 4)),
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
    assert words in text, text
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
    "raw data too short": ("'w': a tensor's data do not fit its dims", lambda: changed(nothing, tensor(raw_data=b"\0" * 11)), X3),
    "raw data too long": ("'w': a tensor's data do not fit its dims", lambda: changed(nothing, tensor(raw_data=b"\0" * 13)), X3),
    "float data too short": (
        "'w': a tensor's data do not fit its dims",
        lambda: changed(nothing, tensor(float_data=[1.0, 2.0])),
        X3,
    ),
    "data in the field of another type": (
        "'w': a tensor's data do not fit its dims",
        lambda: changed(nothing, tensor(int64_data=[1, 2, 3])),
        X3,
    ),
    "no data": ("'w': a tensor's data do not fit its dims", lambda: changed(nothing, tensor()), X3),
    "negative extents": (
        "'w': a tensor has a negative extent",
        lambda: changed(nothing, tensor(dims=[-3], raw_data=b"\0" * 12)),
        X3,
    ),
    "extents whose product overflows": (
        "'w': a tensor's data do not fit its dims",
        lambda: changed(nothing, tensor(dims=[2**32, 2**32], raw_data=b"")),
        X3,
    ),
    "extents whose product overflows to the right one": (
        "'w': a tensor's data do not fit its dims",
        lambda: changed(nothing, tensor(dims=[2**62, 4, 3], raw_data=b"\0" * 12)),
        X3,
    ),
    "an element type that is not there": (
        "'w': a tensor has an unknown element type",
        lambda: changed(nothing, tensor(data_type=0, raw_data=b"\0" * 12)),
        X3,
    ),
    "an element type from nowhere": (
        "'w': a tensor has an unknown element type",
        lambda: changed(nothing, tensor(data_type=99, raw_data=b"\0" * 12)),
        X3,
    ),
    "a weight of strings": (
        "'input 1': inputs of different types",
        lambda: changed(nothing, tensor(data_type=8, string_data=[b"a", b"b", b"c"])),
        X3,
    ),
    "a weight of strings as raw data": (
        "'w': a tensor's data do not fit its dims",
        lambda: changed(nothing, tensor(data_type=8, raw_data=b"abc")),
        X3,
    ),
    "a tensor without a name": (
        "an initializer has no name of its own",
        lambda: changed(nothing, tensor(name="", raw_data=b"\0" * 12)),
        X3,
    ),
    "two tensors of one name": (
        "'w': an initializer has no name of its own",
        lambda: changed(lambda m: m.graph.initializer.append(numpy_helper.from_array(floats(4, 5, 6), "w"))),
        X3,
    ),
    "a node that makes an initializer": (
        "'w': makes a value that exists already",
        lambda: changed(lambda m: m.graph.node.append(helper.make_node("Relu", ["x"], ["w"], name="n2"))),
        X3,
    ),
    "two inputs of one name": (
        "'x': an input has no name of its own",
        lambda: changed(lambda m: m.graph.input.append(value("x", [3]))),
        X3,
    ),
    "an input without a name": (
        "an input has no name of its own",
        lambda: changed(lambda m: m.graph.input.append(value("", [3]))),
        X3,
    ),
    "an input of an unknown type": (
        "'z': an input has an element type that is not supported",
        lambda: changed(lambda m: m.graph.input.append(value("z", [3], 99))),
        X3,
    ),
    "an input of bfloat16 that is not fed": (
        "'z': an input is missing",
        lambda: changed(lambda m: m.graph.input.append(value("z", [3], TensorProto.BFLOAT16))),
        X3,
    ),
    "an input with huge extents": (
        "'x': the model asks for more than the limit tensor_bytes allows",
        lambda: network(inputs=[value("x", [2**62, 2**62])]),
        None,
    ),
    "an input of more than can be addressed": (
        "'x': the model asks for more than the limit tensor_bytes allows",
        lambda: network(inputs=[value("x", [2**31, 2**31])]),
        None,
    ),
    "an input with a rank of 70": (
        "'x': too many axes",
        lambda: network(inputs=[value("x", [1] * 70)]),
        None,
    ),
    "an empty input beside huge extents": (
        "'x': the model asks for more than the limit tensor_bytes allows",
        lambda: network(inputs=[value("x", [0, 2**40, 2**40])]),
        None,
    ),
    "a normalisation of other channels than the convolution's": (
        "'bn'",
        lambda: network(
            [
                helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
                helper.make_node("BatchNormalization", ["c", *["s"] * 4], ["y"], name="bn"),
            ],
            [value("x", ["n", 4, 8, 8])],
            tensors=[numpy_helper.from_array(W, "w"), numpy_helper.from_array(zeros(5), "s")],
        ),
        {"x": IMAGE},
    ),
    "a convolution of a rank that its scale does not fit": (
        "'conv'",
        lambda: network(
            [
                helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
                helper.make_node("Mul", ["c", "s"], ["y"], name="scale"),
            ],
            [value("x", ["n", 4, 8, 8])],
            tensors=[numpy_helper.from_array(zeros(6), "w"), numpy_helper.from_array(zeros(6, 1, 1), "s")],
        ),
        {"x": IMAGE},
    ),
    "no outputs": ("the graph has no outputs", lambda: network(outputs=[]), X3),
    "an output without a name": ("an output that nothing makes", lambda: network(outputs=[value("", None)]), X3),
    "an operator without a name": ("no such operator", lambda: network([helper.make_node("", ["x"], ["y"], name="n")]), X3),
    "an operator newer than the opset": (
        "not in this opset",
        lambda: network([helper.make_node("Gelu", ["x"], ["y"], name="n")]),
        X3,
    ),
    "an operator that the opset no longer has": (
        "deprecated since version 10",
        lambda: network([helper.make_node("Upsample", ["x", "x"], ["y"], name="n")]),
        X3,
    ),
    "an opset of zero": ("not in this opset", lambda: network(opset=0), X3),
    "a negative opset": ("not in this opset", lambda: network(opset=-1), X3),
    "two opsets, the last one too old": (
        "not in this opset",
        lambda: changed(lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 0))),
        X3,
    ),
    "an output of training": (
        "not defined for inference before version 14",
        lambda: network(
            [
                helper.make_node("BatchNormalization", ["x", *"wwww"], ["b", "m", "", "", ""], name="n"),
                helper.make_node("Relu", ["m"], ["y"]),
            ],
            tensors=[numpy_helper.from_array(floats(3), "w")],
            opset=9,
        ),
        X3,
    ),
    "an experimental operator": (
        "deprecated since version 10",
        lambda: network([helper.make_node("Affine", ["x"], ["y"], name="n")]),
        X3,
    ),
    "one that nothing runs": (
        "an experimental operator, retired",
        lambda: network([helper.make_node("GRUUnit", ["x"] * 4, ["y"], name="n")]),
        X3,
    ),
    "branches of another number of outputs": (
        "a branch has the wrong number of outputs",
        lambda: choice(["a"], ["b", "d"]),
        {**X3, "c": np.array(True)},
    ),
    "a condition of floats": ("'cond': must hold one element", lambda: choice(["a"], ["b"], "x"), {**X3, "c": np.array(True)}),
    "a condition of two elements": (
        "'cond': must hold one element",
        lambda: choice(["a"], ["b"]),
        {**X3, "c": np.array([True, False])},
    ),
    "a loop without end": ("'cond': the loop has no end", lambda: endless(False), X3),
    "a sparse tensor with an index outside": (
        "'w': a sparse tensor's index lies outside",
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
        "'w': the model asks for more than the limit tensor_bytes allows",
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
        "'y': an output that nothing makes",
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
