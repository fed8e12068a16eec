"""Pages that show how a network computes: arithmetic, budget, words, and that no name of a file becomes markup."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import zoo_support
from command import runner
from onnx import TensorProto, helper, numpy_helper
from page_reader import Read, wrong
from PIL import Image

import cnnengine
from cnnengine.errors import InputError
from cnnengine.view import LEAST, Server, View, look, page
from cnnengine.view.pack import shares

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
SAMPLES = MODELS / "samples"
FLOAT = TensorProto.FLOAT
HOSTILE = "</script><img src=x onerror=alert(1)>\u2028<!--&\"'`"
node = helper.make_node


@pytest.fixture
def cnn(capsys: pytest.CaptureFixture[str]):
    return runner(capsys, "view")


def digit(name: str = "digits_lenet", budget: int | None = None, **options: Any) -> tuple[Read, View]:
    """The page of a digit network on the picture of a three."""
    with cnnengine.load(MODELS / f"{name}.onnx") as model:
        view = look(model, SAMPLES / "3.png", timed=False, title="3.png", **options)
        return Read(page(view, **({} if budget is None else {"budget": budget}))), view


def made(
    nodes: list[onnx.NodeProto],
    x: np.ndarray | dict[str, np.ndarray],
    outputs: dict[str, tuple | None],
    weights: dict | None = None,
    budget: int = 2_000_000,
    opset: int = 21,
) -> Read:
    """The page of a small graph."""
    feeds = x if isinstance(x, dict) else {"x": x}
    kinds = {n: helper.np_dtype_to_tensor_dtype(v.dtype) for n, v in feeds.items()}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, kinds[n], v.shape) for n, v in feeds.items()],
        [helper.make_tensor_value_info(n, FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(w), n) for n, w in (weights or {}).items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    with cnnengine.load(proto.SerializeToString()) as model:
        return Read(page(look(model, feeds=feeds, timed=False), budget))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def layer(read: Read, op: str, part: int = 0) -> dict[str, Any]:
    return [one for one in read.layers if one["op"] == op][part]


def assert_agrees(read: Read, least: int = 1, count: int = 3) -> None:
    """Every layer that has a rule can be computed from the page, and gives what the engine computed."""
    bad, compared = wrong(read, count)
    assert not bad
    assert compared >= least
    without = [one["op"] for i, one in enumerate(read.layers) if "rule" in one and not read.points(i)]
    assert not without


# ---------------------------------------------------------------- arithmetic
@pytest.mark.parametrize("name", ["digits_lenet", "digits_lenet_dynamo", "digits_nin", "digits_spp"])
def test_the_arithmetic_of_every_layer_of_our_models(name: str):
    read, view = digit(name)
    assert_agrees(read, 3 * (len(view.layers) - 1), 6)
    assert all("rule" in one for one in read.layers[1:])


ZOO = {
    "act_zoo.dy": {"Pad"},
    "audio_m5_1d.ts": set(),
    "c3d_small.tsbn": set(),
    "convt_zoo.ts": set(),
    "hand_nin_lppool.hm": set(),
    "k_layers.tf": set(),
    "k_unet.tf": set(),
    "mobilenet_v2.ts": set(),
    "norm_gn.dy24": set(),
    "norm_in.ts": set(),
    "norm_ln.ts20": set(),
    "pool_zoo.ts": set(),
    "sppnet.ts": set(),
    "zoo_squeezenet.c2": {"Dropout"},
}
"""Exported networks, and their operators of which the arithmetic is not shown."""


@pytest.mark.parametrize("name", ZOO)
def test_the_arithmetic_of_exported_networks(name: str):
    with cnnengine.load(zoo_support.materialized(name)) as model:
        read = Read(page(look(model, feeds=zoo_support.feeds(name), timed=False)))
    assert_agrees(read, len(read.layers))
    assert {one["op"] for one in read.layers if "rule" not in one} - {"Input"} == ZOO[name]
    assert all("maps" in one for one in read.layers if "view" in one)


def test_a_wrong_weight_is_seen():
    """What the other tests of arithmetic rest on."""
    read, _ = digit()
    conv = next(i for i, one in enumerate(read.layers) if one["op"] == "Conv")
    weights = read.layers[conv]["rule"]["r"][1]
    changed = np.array(read.whole(weights))
    changed[:, 0, 2, 2] += 0.01
    read._whole[weights] = changed
    bad, _ = wrong(read, 20)
    assert bad
    assert {text.split()[1] for text in bad} == {"Conv"}


POOLS = [
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", {"kernel_shape": [3, 2], "auto_pad": "SAME_LOWER"}),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 1, 1, 1], "count_include_pad": 1, "ceil_mode": 1}),
    ("LpPool", {"kernel_shape": [2, 3], "strides": [1, 2], "p": 3}),
    ("LpPool", {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1]}),
    ("GlobalAveragePool", {}),
    ("GlobalMaxPool", {}),
    ("GlobalLpPool", {"p": 2}),
]


@pytest.mark.parametrize(("op", "settings"), POOLS)
def test_pooling(op: str, settings: dict[str, Any]):
    read = made([node(op, ["x"], ["y"], **settings)], normal(1, 3, 10, 11), {"y": None})
    assert_agrees(read, 20, 40)


CONVOLUTIONS = [
    ((4, 3, 3, 3), {}),
    ((4, 3, 3, 3), {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
    ((4, 3, 3, 2), {"dilations": [2, 3], "pads": [2, 2, 2, 2]}),
    ((6, 1, 5, 5), {"group": 3, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((3, 1, 7, 7), {"group": 3, "pads": [6, 6, 6, 6]}),
    ((4, 3, 1, 1), {}),
]


@pytest.mark.parametrize(("shape", "settings"), CONVOLUTIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_convolutions(shape: tuple[int, ...], settings: dict[str, Any], bias: bool):
    weights = {"w": normal(*shape, seed=1), **({"b": normal(shape[0], seed=2)} if bias else {})}
    assert_agrees(made([node("Conv", ["x", *weights], ["y"], **settings)], normal(1, 3, 12, 13), {"y": None}, weights), 30, 40)


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((3, 4, 3, 3), {"strides": [2, 2]}),
        ((3, 2, 4, 3), {"strides": [2, 3], "pads": [1, 1, 2, 0], "output_padding": [1, 2]}),
        ((3, 2, 2, 2), {"group": 3, "dilations": [2, 2]}),
        ((3, 2, 3, 3), {"output_shape": [14, 15], "strides": [2, 2]}),
    ],
)
def test_transposed_convolutions(shape: tuple[int, ...], settings: dict[str, Any]):
    read = made(
        [node("ConvTranspose", ["x", "w"], ["y"], **settings)], normal(1, 3, 7, 8), {"y": None}, {"w": normal(*shape, seed=1)}
    )
    assert_agrees(read, 30, 60)


def test_unpooling_tells_what_was_dropped():
    nodes = [
        node("MaxPool", ["x"], ["p", "i"], kernel_shape=[2, 2], strides=[2, 2]),
        node("MaxUnpool", ["p", "i"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    read = made(nodes, normal(1, 3, 6, 6), {"y": None})
    assert_agrees(read, 30, 60)
    assert "stays lost" in layer(read, "MaxUnpool")["words"]
    assert layer(read, "MaxPool", 1)["part"] == "output 2 of 2"
    assert "rule" not in layer(read, "MaxPool", 1)


DENSE = [
    ([node("Gemm", ["x", "w", "b"], ["y"], transB=1, alpha=0.5, beta=2.0)], (3, 8), {"w": normal(5, 8), "b": normal(5)}),
    ([node("Gemm", ["x", "w"], ["y"], transA=1)], (8, 3), {"w": normal(8, 5)}),
    ([node("MatMul", ["x", "w"], ["y"])], (2, 4, 8), {"w": normal(8, 5)}),
    ([node("MatMul", ["x", "w"], ["y"])], (2, 3, 4, 8), {"w": normal(3, 8, 5)}),
    ([node("Softmax", ["x"], ["y"])], (2, 9), {}),
    ([node("LogSoftmax", ["x"], ["y"], axis=1)], (2, 9, 3), {}),
    ([node("LRN", ["x"], ["y"], size=5)], (1, 9, 3, 3), {}),
    ([node("LRN", ["x"], ["y"], size=4, alpha=0.5)], (1, 9, 3, 3), {}),
    ([node("BatchNormalization", ["x", "a", "b", "c", "d"], ["y"])], (2, 3, 4), {n: np.abs(normal(3)) + 1 for n in "abcd"}),
    ([node("InstanceNormalization", ["x", "a", "b"], ["y"])], (1, 3, 4, 5), {n: normal(3) for n in "ab"}),
    ([node("GroupNormalization", ["x", "a", "b"], ["y"], num_groups=2)], (1, 6, 4, 5), {n: normal(6) for n in "ab"}),
    ([node("LayerNormalization", ["x", "a", "b"], ["y"], axis=-2)], (1, 6, 4, 5), {n: normal(4, 5) for n in "ab"}),
    ([node("LayerNormalization", ["x", "a"], ["y"])], (1, 6, 4, 5), {"a": normal(5)}),
    ([node("MeanVarianceNormalization", ["x"], ["y"])], (1, 6, 4, 5), {}),
    ([node("PRelu", ["x", "s"], ["y"])], (1, 6, 4, 5), {"s": normal(6, 1, 1)}),
    ([node("Mul", ["x", "s"], ["y"])], (1, 6, 4, 5), {"s": normal(1, 6, 1, 1)}),
    ([node("Pad", ["x", "p", "v"], ["y"])], (2, 3), {"p": np.array([1, 0, 2, 1]), "v": np.float32(3)}),
    ([node("Pad", ["x", "p"], ["y"], mode="reflect")], (4, 5), {"p": np.array([1, 2, 2, 1])}),
    ([node("Slice", ["x", "s", "e", "a", "t"], ["y"])], (4, 9), {"s": [-1], "e": [0], "a": [1], "t": [-2]}),
    ([node("Transpose", ["x"], ["y"], perm=[2, 0, 1])], (2, 3, 4), {}),
    ([node("Concat", ["x", "x"], ["y"], axis=1)], (2, 3, 4), {}),
    ([node("Flatten", ["x"], ["y"])], (2, 3, 4), {}),
    ([node("DepthToSpace", ["x"], ["y"], blocksize=2, mode="CRD")], (1, 8, 3, 2), {}),
    ([node("DepthToSpace", ["x"], ["y"], blocksize=2)], (1, 8, 3, 2), {}),
    ([node("Gather", ["x", "i"], ["y"], axis=1)], (2, 5, 3), {"i": np.array([4, -4])}),
    ([node("ReduceL2", ["x", "a"], ["y"], keepdims=0)], (2, 5, 3), {"a": np.array([1])}),
    ([node("ReduceMean", ["x"], ["y"], keepdims=1)], (2, 5, 3), {}),
    ([node("Resize", ["x", "", "s"], ["y"], mode="linear")], (1, 2, 5, 4), {"s": np.float32([1, 1, 2, 1.5])}),
    ([node("Resize", ["x", "", "s"], ["y"], mode="cubic")], (1, 2, 5, 4), {"s": np.float32([1, 1, 2, 2])}),
    ([node("Resize", ["x", "", "", "z"], ["y"])], (1, 2, 5, 4), {"z": np.array([1, 2, 3, 7])}),
    ([node("Gelu", ["x"], ["y"])], (2, 9), {}),
    ([node("Clip", ["x", "", "m"], ["y"])], (2, 9), {"m": np.float32(0.25)}),
]


@pytest.mark.parametrize("case", range(len(DENSE)))
def test_other_operators(case: int):
    nodes, shape, weights = DENSE[case]
    arrays = {n: np.asarray(w) for n, w in weights.items()}
    read = made(nodes, normal(*shape, seed=3), {"y": None}, arrays)
    assert "rule" in read.layers[-1]
    assert_agrees(read, 6, 30)


QUANTISED = [
    {"s": np.float32(0.02), "z": np.uint8(128)},
    {"s": np.float32(0.004), "z": np.int8(-3)},
    {"s": np.float32([0.01, 0.02, 0.5]), "z": np.int8([0, 3, -7])},
    {"s": np.float32(0.0625), "z": np.uint16(5)},
]


@pytest.mark.parametrize("case", range(len(QUANTISED)))
def test_quantised_tensors(case: int):
    x = normal(1, 3, 6, 7)
    x[0, 0, 0, :3] = 0.03125, 0.09375, -0.03125  # halves of a step
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1), node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1)]
    read = made(nodes, x, {"y": None}, QUANTISED[case])
    assert all("rule" in one for one in read.layers[1:])
    for i in (1, 2):
        for index in np.ndindex(1, 3, 6, 7):
            assert read.compute(i, list(index))[0] == pytest.approx(read.value(read.layers[i]["t"], index), rel=1e-6, abs=1e-9)


NEAR = [
    (node("Pad", ["x", "p"], ["y"], mode="wrap"), (4, 5), {"p": np.array([1, 2, 2, 1])}),
    (node("ReduceLogSumExp", ["x"], ["y"]), (2, 5), {}),
    (node("BatchNormalization", ["x", "a", "a", "a", "a"], ["y"], training_mode=1), (2, 3, 4), {"a": np.abs(normal(3))}),
    (node("MatMul", ["x", "w"], ["y"]), (2, 8), {"w": normal(8)}),
    (node("LpNormalization", ["x"], ["y"]), (2, 8), {}),
]


@pytest.mark.parametrize("case", range(len(NEAR)))
def test_what_has_no_rule_is_shown_without_arithmetic(case: int):
    one, shape, weights = NEAR[case]
    read = made([one], normal(*shape), {"y": None}, weights)
    assert "rule" not in read.layers[-1]
    assert "maps" in read.layers[-1]
    assert any(one.op_type in text for text in read.data["notes"])


# ---------------------------------------------------------------- what is told
SENTENCES = [
    (
        node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2]),
        "Keeps the largest of every 3 x 3, moving by 2: neighbours overlap.",
    ),
    (
        node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
        "Keeps the largest of every 2 x 2, moving by 2: windows touch and do not overlap.",
    ),
    (
        node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[3, 3]),
        "Keeps the largest of every 2 x 2, moving by 3: pixels in between are skipped.",
    ),
    (
        node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
        "Averages every 2 x 2, moving by 2: windows touch and do not overlap; the border counts as zeros.",
    ),
    (
        node("LpPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
        "Takes the root of the sum of squares (L2) of every 2 x 2, moving by 2: windows touch and do not overlap.",
    ),
    (node("GlobalAveragePool", ["x"], ["y"]), "Turns each whole map of 9 x 9 into one number, the mean of its 81 pixels."),
    (
        node("Dropout", ["x"], ["y"]),
        "Dropout does nothing at inference: only training drops numbers at random. The output is the input.",
    ),
    (node("LeakyRelu", ["x"], ["y"], alpha=0.1), "Keeps positive numbers and multiplies negative ones by 0.1."),
    (node("Relu", ["x"], ["y"]), "Keeps positive numbers and sets negative ones to zero."),
]


@pytest.mark.parametrize("case", range(len(SENTENCES)))
def test_sentences(case: int):
    one, words = SENTENCES[case]
    assert made([one], normal(1, 4, 9, 9), {"y": None}).layers[-1]["words"] == words


def test_sentences_of_convolutions_have_their_settings():
    def of(shape: tuple[int, ...], **settings: Any) -> str:
        read = made([node("Conv", ["x", "w"], ["y"], **settings)], normal(1, 4, 9, 9), {"y": None}, {"w": normal(*shape)})
        return read.layers[-1]["words"]

    assert of((8, 4, 3, 3), pads=[1, 1, 1, 1]).startswith(
        "Slides 8 filters of 3 x 3 over 4 channels, moving one pixel at a time, with a border of 1"
    )
    assert of((4, 1, 3, 3), group=4).startswith("Slides one 3 x 3 filter over each of 4 channels by itself")
    assert of((8, 2, 3, 3), group=2).startswith("Slides 8 filters of 3 x 3 over 2 groups of 2 channels each")
    assert of((8, 4, 1, 1)).startswith("Mixes channels at each pixel: each of 8 maps")
    assert "every 2nd pixel" in of((8, 4, 3, 3), dilations=[2, 2])


def test_figures_and_maps():
    read, view = digit()
    relu = layer(read, "Relu")
    i = read.layers.index(relu)
    value = view.trace.value(view.layers[i].name)
    stats = relu["stats"]
    assert stats["min"] == value.min() == 0
    assert stats["max"] == value.max()
    assert stats["zeros"] == pytest.approx((value == 0).mean())
    assert sum(stats["hist"]) == value.size
    assert relu["scale"] == [0, value.max()]
    chunk, rows, columns = relu["maps"]
    codes = np.frombuffer(read.bytes_of(chunk), np.uint8).reshape(-1, rows, columns)
    numbers = read.floats(relu["order"][0], relu["order"][1] + value.shape[1])
    order, strength = numbers[: relu["order"][1]].astype(int), numbers[relu["order"][1] :]
    np.testing.assert_allclose(strength, np.abs(value[0]).mean(axis=(1, 2)), rtol=1e-6)
    assert list(order) == list(np.argsort(-strength, kind="stable"))
    np.testing.assert_allclose(codes * (value.max() / 254), value[0][order], atol=value.max() / 254 * 0.51)


def test_silent_maps_and_what_is_not_finite_are_counted():
    x = normal(1, 4, 5, 5)
    x[0, 1] = 0
    x[0, 2, 0, 0] = np.nan
    x[0, 2, 0, 1] = np.inf
    read = made([node("Neg", ["x"], ["y"])], x, {"y": None})
    stats = read.layers[-1]["stats"]
    assert (stats["silent"], stats["bad"]) == (1, 2)
    assert np.isfinite([stats["min"], stats["max"]]).all()
    assert_agrees(read, 3, 30)


def test_the_result_and_the_path_from_it_to_the_input():
    read, _ = digit("digits_nin")
    rows = read.data["result"]["items"][0]["rows"]
    assert rows[0][0] == "3"
    assert len(rows) == 5
    path = read.data["path"]
    assert [at for at, *_ in path] == list(range(len(read.layers)))  # this network has no branches
    assert path[-1][1:] == [0, 3]
    for at, *index in path:
        assert len(index) == len(read.shape(read.layers[at]["t"]))


@pytest.mark.parametrize("name", ["digits_lenet", "digits_nin", "digits_spp"])
def test_no_pixel_of_the_input_matters_that_is_not_seen(name: str):
    """What the page says that an element sees of the input: all that changes it lies there."""
    read, view = digit(name)
    # Winograd's algorithm rounds by tiles, which reach farther than what an element is made of
    with cnnengine.load(MODELS / f"{name}.onnx", winograd=False) as model:
        x = np.array(view.trace.value(model.inputs[0].name))
        other = np.array(x)
        other[0, 0, 7, 9] += 3
        traces = model.trace(x), model.trace(other)
        checked = 0
        for i, one in enumerate(read.layers):
            if "sees" not in one or i == 0:
                continue
            before, after = (trace.value(view.layers[i].name) for trace in traces)
            changed = np.argwhere(after != before)
            assert len(changed)
            for axis, to, scale, lo, hi in one["sees"]:
                place = {2: 7, 3: 9}[to]
                at = changed[:, axis]
                assert (at * scale + lo <= place).all() and (at * scale + hi >= place).all()
                checked += 1
                # and no more than that: the farthest element that sees the pixel is one that it changes
                reach = [k for k in range(before.shape[axis]) if k * scale + lo <= place <= k * scale + hi]
                if one["op"] == "Conv":
                    assert (at.min(), at.max()) == (reach[0], reach[-1])
        assert checked >= 8


# ---------------------------------------------------------------- shapes of all kinds
def test_channels_last_are_maps():
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[0, 3, 1, 2]),
        node("Relu", ["a"], ["b"]),
        node("Transpose", ["b"], ["c"], perm=[0, 2, 3, 1]),
        node("Neg", ["c"], ["y"]),
    ]
    read = made(nodes, normal(1, 8, 9, 3), {"y": None})
    views = {one["name"]: one["view"] for one in read.layers}
    assert [views[name] for name in views] == [[[3], 1, 2], [[1], 2, 3], [[1], 2, 3], [[3], 1, 2], [[3], 1, 2]]
    assert read.data["seen"]["axes"] == [1, 2]
    assert_agrees(read, 12)


@pytest.mark.parametrize(
    ("shape", "view"),
    [
        ((7,), [[], -1, 0]),
        ((1, 7), [[], -1, 1]),
        ((3, 7), [[], 0, 1]),
        ((1, 3, 7), [[1], -1, 2]),
        ((1, 3, 4, 5), [[1], 2, 3]),
        ((1, 3, 1, 1), [[], -1, 1]),
        ((1, 1, 1, 1), [[1], 2, 3]),
        ((1, 3, 2, 4, 5), [[1, 2], 3, 4]),
        ((1, 2, 3, 2, 4, 5), [[1, 2, 3], 4, 5]),
        ((), [[], -1, -1]),
    ],
)
def test_axes_by_rank(shape: tuple[int, ...], view: list):
    read = made([node("Neg", ["x"], ["y"])], normal(*shape) if shape else np.float32(2), {"y": shape})
    assert [one["view"] for one in read.layers] == [view, view]
    if shape:
        assert_agrees(read, 1)


def test_several_inputs():
    nodes = [node("Conv", ["x", "w"], ["a"]), node("Add", ["a", "z"], ["y"])]
    feeds = {"x": normal(1, 3, 6, 6), "z": normal(1, 4, 1, 1)}
    read = made(nodes, feeds, {"y": None}, {"w": normal(4, 3, 3, 3)})
    assert [one["op"] for one in read.layers] == ["Input", "Input", "Conv", "Add"]
    assert_agrees(read, 6)


def test_of_a_batch_the_first_is_shown_and_said():
    read = made([node("Relu", ["x"], ["y"])], normal(3, 2, 4, 4), {"y": None})
    assert "Of a batch, the first sample is shown." in read.data["notes"]
    assert all(index[0] == 0 for i in range(2) for index in read.layers[i].get("points", []))


def test_what_is_no_array_is_named():
    nodes = [
        node("SequenceConstruct", ["x", "x"], ["s"]),
        node("SequenceAt", ["s", "i"], ["a"]),
        node("Relu", ["a"], ["y"]),
    ]
    read = made(nodes, normal(2, 3), {"y": None}, {"i": np.int64(1)})
    assert "a sequence" in layer(read, "SequenceConstruct")["words"]
    assert "view" not in layer(read, "SequenceConstruct")


def test_integers_that_float32_has_not_keep_their_value():
    big = np.array([[2**24 + 1, 5], [-(2**30) - 1, 7]], np.int64)
    nodes = [node("Concat", ["x", "x"], ["a"], axis=0), node("Cast", ["a"], ["y"], to=FLOAT)]
    read = made(nodes, big, {"y": None})
    at = layer(read, "Concat")
    assert [[read.value(at["t"], (i, j)) for j in range(2)] for i in range(2)] == big.tolist()


def on_a_picture(tmp_path: Path, y: np.ndarray, name: str, **options: Any) -> Read:
    """The page of a network that gives these numbers for every picture of 32 x 32, on one of 64 x 64."""
    nodes = [
        node("ReduceMean", ["images"], ["m"], keepdims=0),
        node("Mul", ["m", "zero"], ["z"]),
        node("Add", ["y", "z"], [name]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info(name, FLOAT, y.shape)],
        [numpy_helper.from_array(y, "y"), numpy_helper.from_array(np.float32(0), "zero")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    picture = tmp_path / "p.png"
    Image.new("RGB", (64, 64), (200, 30, 30)).save(picture)
    with cnnengine.load(proto.SerializeToString()) as model:
        wishes = cnnengine.tasks.Wishes(top=5, **options)
        return Read(page(look(model, picture, preparation=model.preparation("unit"), timed=False, wishes=wishes)))


def drawn(item: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(item["drawn"].partition(",")[2]))).convert("RGB")).astype(int)


def test_boxes_are_drawn_on_the_picture(tmp_path: Path):
    y = np.zeros((1, 7, 21), np.float32)  # 4 + 3 classes of the cells at strides of 8, 16 and 32
    y[0, :4, 5] = 16, 16, 16, 16
    y[0, 5, 5] = 0.9
    read = on_a_picture(tmp_path, y, "output0", task="detect")
    (item,) = read.data["result"]["items"]
    assert item["rows"] == [["1", pytest.approx(0.9)]]
    changed = np.abs(drawn(item) - [200, 30, 30]).sum(axis=2) > 60
    assert changed[16:48, 16].all() and changed[16:48, 47].all()  # the box at twice its size
    assert not changed[28:44, 24:40].any() and not changed[52:].any()


def test_segments_are_laid_over_the_picture(tmp_path: Path):
    y = np.zeros((1, 2, 8, 8), np.float32)
    y[0, 1, :, :4] = 1
    y[0, 0, :, 4:] = 1
    read = on_a_picture(tmp_path, y, "out", task="segment")
    (item,) = read.data["result"]["items"]
    assert item["unit"] == "share of pixels"
    assert sum(share for _, share in item["rows"]) == pytest.approx(1)
    pixels = drawn(item)
    assert np.abs(pixels[:, 40:] - [200, 30, 30]).max() < 12
    assert (np.abs(pixels[:, :24] - [200, 30, 30]).sum(axis=2) > 40).all()


def test_outputs_that_no_task_reads_are_said(tmp_path: Path):
    read = on_a_picture(tmp_path, np.zeros((1, 2, 8, 8), np.float32), "out", task="detect")
    assert read.data["result"]["items"] == []
    assert read.data["result"]["said"]


def test_numbers_that_json_has_no_word_for():
    pads = {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "v": np.float32(-np.inf)}
    nodes = [node("Pad", ["x", "p", "v"], ["a"]), node("MaxPool", ["a"], ["y"], kernel_shape=[3, 3])]
    read = made(nodes, normal(1, 2, 5, 5), {"y": None}, pads)
    pad = layer(read, "Pad")
    assert pad["rule"]["v"] == "-Infinity"
    assert read.compute(read.layers.index(pad), [0, 0, 0, 0])[0] == -np.inf
    assert pad["stats"]["bad"] == 2 * (49 - 25)
    assert_agrees(read, 6, 40)
    assert "rule" not in made([node("Elu", ["x"], ["y"], alpha=np.inf)], normal(2, 3), {"y": None}).layers[-1]


def test_names_that_are_no_text(tmp_path: Path):
    path = tmp_path / os.fsdecode(b"m\xff.onnx")
    path.write_bytes((MODELS / "digits_lenet.onnx").read_bytes())
    with cnnengine.load(path) as model:
        text = page(look(model, SAMPLES / "3.png", timed=False, title=os.fsdecode(b"3\xff.png")))
    text.encode("utf-8")
    assert Read(text).data["title"] == "3?.png"


# ---------------------------------------------------------------- budget
def test_a_page_is_never_larger_than_its_budget():
    with cnnengine.load(zoo_support.materialized("squeezenet1_1.ts")) as model:
        view = look(model, feeds=zoo_support.feeds("squeezenet1_1.ts"), timed=False)
    sizes = []
    for budget in (300_000, 700_000, 2_000_000, 8_000_000):
        text = page(view, budget)
        assert len(text.encode()) <= budget
        read = Read(text)
        bad, _ = wrong(read, 2)
        assert not bad
        checkable = sum(bool(read.points(i)) for i in range(len(read.layers)))
        sizes.append((len(text), checkable, sum("maps" in one for one in read.layers)))
    assert sizes == sorted(sizes)
    layers = len(read.layers)
    assert sizes[-1][1:] == (layers - 1, layers)
    assert sizes[2][1:] == (layers - 1, layers)  # and at a quarter, every layer has a pixel and a map still
    assert sizes[0][1] > layers // 2


def test_budgets_that_just_do_and_do_not_fit():
    with cnnengine.load(MODELS / "digits_lenet.onnx") as model:
        view = look(model, SAMPLES / "3.png", timed=False)
    whole = len(page(view).encode())
    assert all(t[2] >= 0 for t in Read(page(view, 2 * whole)).tensors)
    tight = Read(page(view, whole - 1000))
    assert len(tight.text.encode()) < whole
    assert not wrong(tight)[0]
    assert all(tight.points(i) for i in range(1, len(tight.layers)))
    with pytest.raises(InputError, match="budget"):
        page(view, LEAST - 1)
    least = Read(page(view, LEAST))
    assert len(least.text.encode()) <= LEAST
    assert not wrong(least)[0]


def test_a_budget_that_names_alone_are_too_much_for():
    read_names = [f"a_long_name_of_a_tensor_{i:05}" for i in range(400)]
    nodes = [node("Relu", [a], [b]) for a, b in zip(["x", *read_names[:-1]], read_names, strict=True)]
    with pytest.raises(InputError, match="at least"):
        made(nodes, normal(1, 2, 3, 3), {read_names[-1]: None}, budget=LEAST)


def test_shares_go_on_to_those_that_need_them():
    assert shares([1, 1, 1], 9) == [1, 1, 1]
    assert shares([10, 10, 10], 9) == [3, 3, 3]
    assert shares([1, 10, 10], 9) == [1, 4, 4]
    assert shares([10, 1, 2], 9) == [6, 1, 2]
    assert shares([], 9) == []


# ---------------------------------------------------------------- names that would be markup
def hostile_model() -> bytes:
    graph = helper.make_graph(
        [
            node("Conv", ["x" + HOSTILE, "w" + HOSTILE], ["a" + HOSTILE], name="n" + HOSTILE),
            node("GlobalAveragePool", ["a" + HOSTILE], ["g"], name="{{data}}{{program}}"),
            node("Flatten", ["g"], ["y" + HOSTILE], name="__proto__"),
        ],
        "g" + HOSTILE,
        [helper.make_tensor_value_info("x" + HOSTILE, FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("y" + HOSTILE, FLOAT, [1, 3])],
        [numpy_helper.from_array(normal(3, 1, 3, 3), "w" + HOSTILE)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    labels = json.dumps([f"label {i}{HOSTILE}" for i in range(3)])
    helper.set_model_props(proto, {"cnnengine.labels": labels, "cnnengine.output": "logits"})
    return proto.SerializeToString()


def test_names_labels_and_titles_stay_text():
    with cnnengine.load(hostile_model()) as model:
        view = look(model, feeds={"x" + HOSTILE: normal(1, 1, 8, 8)}, timed=False, title="file" + HOSTILE)
        read = Read(page(view))
    plain, _ = digit()
    kinds = [[tag for tag, attrs in r.elements.tags if attrs.get("id", "")[:1] != "c"] for r in (read, plain)]
    assert kinds[0] == kinds[1]  # the same elements, and no more
    assert not any(name.startswith("on") for _, attrs in read.elements.tags for name in attrs)
    assert "<img" not in read.text
    assert all("\u2028" not in body for _, body in read.elements.scripts)
    assert read.data["title"] == "file" + HOSTILE
    assert read.layers[1]["name"] == "n" + HOSTILE
    assert read.data["result"]["items"][0]["rows"][0][0].endswith(HOSTILE)
    assert_agrees(read, 9)


def test_the_page_lets_nothing_run_or_be_fetched_but_itself():
    read, _ = digit()
    (policy,) = [attrs["content"] for tag, attrs in read.elements.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "unsafe" not in policy
    outside = [v for _, attrs in read.elements.tags for k, v in attrs.items() if k in ("src", "href") and not v.startswith("#")]
    assert not outside
    program = next(body for attrs, body in read.elements.scripts if not attrs)
    assert "innerHTML" not in program and "eval(" not in program and "document.write" not in program


# ---------------------------------------------------------------- the command
def test_the_command_writes_a_page(cnn, tmp_path: Path):
    target = tmp_path / "page.html"
    result = cnn(MODELS / "digits_lenet.onnx", SAMPLES / "7.png", "-o", target)
    assert result.status == 0
    assert not result.out
    assert re.fullmatch(r"cnnengine: .*page.html: 13 layers, 0\.\d\d MB", result.err[-1])
    read = Read(target.read_text(encoding="utf-8"))
    assert read.data["title"] == "7.png"
    assert read.data["result"]["items"][0]["rows"][0][0] == "7"
    assert read.data["seconds"] > 0
    timed = [one for one in read.layers if "seconds" in one]
    assert timed
    assert sum(one["share"] for one in timed) <= 1.001
    assert all(one["kernel"] for one in timed)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_the_command_takes_arrays(cnn, tmp_path: Path):
    np.save(tmp_path / "x.npy", normal(1, 32, 32))
    assert cnn(MODELS / "digits_lenet.onnx", tmp_path / "x.npy", "-o", tmp_path / "page.html", "--untimed").status == 0
    read = Read((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "picture" not in read.data
    assert read.data["seen"]["w"] == 32
    assert_agrees(read)


WRONG = {
    "no picture": (["3.txt", "-o", "p.html"], "3.txt"),
    "no image": (["wrong.png", "-o", "p.html"], "not an image|cannot"),
    "missing": (["missing.png", "-o", "p.html"], "missing.png"),
    "no output": (["3.png"], "required"),
    "both": (["3.png", "-o", "p.html", "--serve"], "not allowed"),
    "a folder": (["3.png", "-o", "."], "--output"),
    "no folder": (["3.png", "-o", "none/p.html"], "--output"),
    "over the input": (["3.png", "-o", "3.png"], "written over"),
    "too small": (["3.png", "-o", "p.html", "--budget", "99K"], "100,000"),
    "no size": (["3.png", "-o", "p.html", "--budget", "-1"], "--budget"),
    "no size either": (["3.png", "-o", "p.html", "--budget", "8X"], "size"),
    "wrong array": (["wrong.npy", "-o", "p.html"], "axes"),
    "no port": (["3.png", "--serve", "--port", "65536"], "port"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_one_line(cnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str):
    monkeypatch.chdir(tmp_path)
    Path("3.png").write_bytes((SAMPLES / "3.png").read_bytes())
    Path("wrong.png").write_bytes(b"no picture at all")
    np.save("wrong.npy", normal(3))
    arguments, said = WRONG[case]
    result = cnn(MODELS / "digits_lenet.onnx", *arguments)
    assert result.status == 2
    assert len(result.err) == 1
    assert re.search(said, result.err[0])
    assert not Path("p.html").exists()
    assert Image.open("3.png").size == Image.open(SAMPLES / "3.png").size


def test_look_needs_one_input():
    with cnnengine.load(MODELS / "digits_lenet.onnx") as model:
        with pytest.raises(InputError, match="picture or arrays"):
            look(model)
        with pytest.raises(InputError, match="picture or arrays"):
            look(model, SAMPLES / "3.png", feeds={"image": normal(1, 1, 32, 32)})


def test_a_model_that_pictures_do_not_go_to():
    with cnnengine.load(zoo_support.materialized("audio_m5_1d.ts")) as model, pytest.raises(InputError):
        look(model, SAMPLES / "3.png")


# ---------------------------------------------------------------- the server
def fetched(url: str, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture(scope="module")
def served():
    with cnnengine.load(MODELS / "digits_nin.onnx") as model:
        view = look(model, SAMPLES / "3.png", timed=False)
        with Server(view, page(view, LEAST + 60_000, served=True)) as server:
            yield server, view


def unpacked(text: str, count: int) -> np.ndarray:
    raw = np.frombuffer(base64.b64decode(text), np.uint8)
    size = len(raw) // count
    return np.ascontiguousarray(raw.reshape(size, count).T).view(f"<f{size}").reshape(-1)


def test_the_server_gives_the_page_and_any_pixel(served):
    server, view = served
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", server.url)
    status, body = fetched(server.url)
    assert status == 200
    read = Read(body.decode())
    assert read.data["served"] == 1
    at = next(i for i, one in enumerate(read.layers) if one["op"] == "Conv" and i > 4)
    shape = read.shape(read.layers[at]["t"])
    index = [0, shape[1] - 1, 3, 2]
    status, body = fetched(f"{server.url}need?layer={at}&index={','.join(map(str, index))}")
    assert status == 200
    for box in json.loads(body)["boxes"]:
        count = int(np.prod(box["n"]))
        read._boxes.setdefault(box["t"], []).insert(0, (box["lo"], unpacked(box["data"], count).reshape(box["n"])))
    value, size = read.compute(at, index)
    engine = float(view.trace.value(view.layers[at].name)[tuple(index)])
    assert read.value(read.layers[at]["t"], index) == engine
    assert abs(value - engine) <= 1e-5 * max(size, abs(engine))
    status, body = fetched(f"{server.url}map?layer={at}&map=2")
    found = unpacked(json.loads(body)["data"], shape[2] * shape[3]).reshape(shape[2:])
    np.testing.assert_array_equal(found, view.trace.value(view.layers[at].name)[0, 2])


@pytest.mark.parametrize(
    "path",
    [
        "need?layer=99&index=0,0,0,0",
        "need?layer=1&index=0,0,0",
        "need?layer=1&index=0,0,0,9999",
        "need?layer=1&index=0,0,0,-1",
        "need?layer=-1&index=0",
        "need",
        "map?layer=1&map=999",
        "map?layer=1&map=1e3",
        "map?layer=1&map=" + "9" * 30,
    ],
)
def test_the_server_refuses_what_is_not_there(served, path: str):
    server, _ = served
    status, body = fetched(server.url + path)
    assert status == 400
    assert b"Traceback" not in body


def test_the_server_answers_only_to_who_knows_it(served):
    server, _ = served
    base = server.url.rsplit("/", 2)[0]
    assert fetched(base + "/")[0] == 404
    assert fetched(base + "/" + "A" * 32 + "/")[0] == 404
    assert fetched(server.url[:-2] + "/")[0] == 404
    assert fetched(server.url + "../etc/passwd")[0] == 404
    assert fetched(server.url, Host="example.org")[0] == 403
    assert fetched(server.url, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert fetched(server.url, **{"Sec-Fetch-Site": "same-origin"})[0] == 200


def test_a_port_that_is_taken(served):
    server, view = served
    port = int(re.search(r":(\d+)/", server.url)[1])
    with pytest.raises(InputError, match="listen"):
        Server(view, "", port)


def test_the_picture_of_the_input_is_what_the_network_gets():
    read, _ = digit()
    seen = Image.open(io.BytesIO(base64.b64decode(read.data["seen"]["png"].partition(",")[2])))
    prepared = cnnengine.load(MODELS / "digits_lenet.onnx")
    settings = prepared.preparation().settings
    x = np.asarray(prepared.preprocess(SAMPLES / "3.png"))[0, 0]
    levels = np.rint((x * settings.std[0] + settings.mean[0]) / settings.scale)
    np.testing.assert_array_equal(np.asarray(seen), levels)
