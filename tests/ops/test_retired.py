"""What files of ONNX's first years have: experimental operators, old versions, and forms that onnxruntime takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import oracle
import pytest
from onnx import helper, numpy_helper
from oracle import contrib

import cnnengine
from cnnengine import CNNEngineError, ModelError, ShapeError, UnsupportedOperatorError
from cnnengine.report import check, hints

F = np.float32
RNG = np.random.default_rng(19)
X = RNG.standard_normal((2, 3, 8, 10)).astype(F)
BIAS = [0.5, -2.0, 0.25]


def model(
    nodes: Sequence[onnx.NodeProto],
    feeds: Mapping[str, np.ndarray],
    opset: int,
    weights: Mapping[str, np.ndarray] | None = None,
    outputs: Sequence[str] = ("y",),
) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()]
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name=n) for n in outputs], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4 if opset < 10 else 8)


def node(op: str, inputs: Sequence[str] = ("x",), outputs: Sequence[str] = ("y",), **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, name="n", **attributes)


def runs(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray], want: np.ndarray, host: Sequence[str] = ()) -> None:
    for source, threads in ((proto, 1), (proto.SerializeToString(), 2)):
        (y, *_) = cnnengine.load(source, threads=threads).run(None, feeds)
        assert y.shape == want.shape
        np.testing.assert_allclose(y, want, rtol=2e-5, atol=2e-5 * (np.abs(want).max(initial=0) or 1))
    assert [n.operator for n in check(proto).host_nodes] == list(host)


def standard(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    wide = contrib.wide(x)
    return (wide - wide.mean(axis=axes, keepdims=True)) / wide.std(axis=axes, keepdims=True)


EXPERIMENTAL: dict[str, tuple[dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = {
    "Affine": ({"alpha": 2.0, "beta": 0.5}, lambda x: 2 * x + 0.5),
    "Crop": ({"border": [1, 2, 3, 4]}, lambda x: x[:, :, 2:-4, 1:-3]),
    "ImageScaler": ({"scale": 3.0, "bias": BIAS}, lambda x: 3 * x + np.array(BIAS).reshape(3, 1, 1)),
    "ParametricSoftplus": ({"alpha": 2.0, "beta": 0.5}, lambda x: 2 * np.log1p(np.exp(0.5 * x))),
    "Scale": ({"scale": -3.0}, lambda x: -3 * x),
    "ScaledTanh": ({"alpha": 2.0, "beta": 0.5}, lambda x: 2 * np.tanh(0.5 * x)),
}


@pytest.mark.parametrize("opset", [1, 8, 9])
@pytest.mark.parametrize("op", sorted(EXPERIMENTAL))
def test_experimental(isa: str, op: str, opset: int) -> None:
    attributes, want = EXPERIMENTAL[op]
    runs(model([node(op, **attributes)], {"x": X}, opset), {"x": X}, want(contrib.wide(X)))


@pytest.mark.parametrize("op", sorted(EXPERIMENTAL))
def test_they_went_with_opset_10(op: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match="deprecated since version 10") as caught:
        cnnengine.load(model([node(op, **EXPERIMENTAL[op][0])], {"x": X}, 10))
    assert caught.value.node == "n"
    hint = hints.of_unsupported(op, "", 10)
    assert "retired in opset 10" in hint and "newer" not in hint


@pytest.mark.parametrize("op", ["ATen", "ConstantFill", "GRUUnit", "GivenTensorFill"])
def test_the_others_are_refused_as_retired(op: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match="an experimental operator, retired"):
        cnnengine.load(model([node(op)], {"x": X}, 7))
    assert "retired" in hints.of_unsupported(op, "", 7)


def test_crop_by_extents_and_slices_by_inputs(isa: str) -> None:
    runs(model([node("Crop", border=[1, 2, 0, 0], scale=[5, 4])], {"x": X}, 8), {"x": X}, X[:, :, 2:7, 1:5])
    ends = {"s": np.array([1, 2]), "e": np.array([8, -1]), "a": np.array([2, 3])}
    runs(model([node("DynamicSlice", ["x", "s", "e", "a"])], {"x": X}, 9, ends), {"x": X}, X[:, :, 1:8, 2:-1])


def test_refusals() -> None:
    for op, attributes, x, error, text in (
        ("Crop", {}, X, ModelError, "required attribute"),
        ("Crop", {"border": [1, 2, 3]}, X, ModelError, "four sides"),
        ("Crop", {"border": [0, 0, 0, -1]}, X, ModelError, "four sides"),
        ("Crop", {"border": [0, 5, 0, 4]}, X, ShapeError, "not so much to crop"),
        ("Crop", {"border": [0, 5, 0, 0], "scale": [4, 1]}, X, ShapeError, "not so much to crop"),
        ("Crop", {"border": [0, 0, 0, 0]}, X[0], ShapeError, "needs images"),
        ("ImageScaler", {"scale": 2.0}, X, ModelError, "required attribute"),
        ("ImageScaler", {"bias": [1.0]}, X, ShapeError, "has the wrong shape"),
        ("ImageScaler", {"bias": [1.0, 2.0]}, X[:, :1], ShapeError, "has the wrong shape"),
        ("ScaledTanh", {"alpha": 1.0}, X, ModelError, "required attribute"),
        ("Affine", {"gamma": 1.0}, X, ModelError, "does not have"),
    ):
        with pytest.raises(error, match=text) as caught:
            cnnengine.load(model([node(op, **attributes)], {"x": x}, 8)).run(None, {"x": x})
        assert isinstance(caught.value, CNNEngineError) and "n" in str(caught.value.node)


# ---------------------------------------------------------------- before the opset in which they came


@pytest.mark.parametrize("opset", [1, 9])
def test_thresholded_relu(isa: str, opset: int) -> None:
    runs(model([node("ThresholdedRelu", alpha=0.3)], {"x": X}, opset), {"x": X}, np.where(F(0.3) < X, X, 0))


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5, 3)])
@pytest.mark.parametrize(("across", "divide"), itertools.product((0, 1), (0, 1)))
def test_mean_variance_normalization(isa: str, shape: tuple[int, ...], across: int, divide: int) -> None:
    """Over the batch too, as the version that followed has it by default; axes beyond the fourth stay."""
    x = RNG.standard_normal(shape).astype(F)
    axes = tuple(a for a in ((0, 1, 2, 3) if across else (0, 2, 3)) if a < len(shape))
    want = standard(x, axes) if divide else contrib.wide(x) - contrib.wide(x).mean(axis=axes, keepdims=True)
    operator = node("MeanVarianceNormalization", across_channels=across, normalize_variance=divide)
    runs(model([operator], {"x": x}, 8), {"x": x}, want)


@pytest.mark.parametrize("opset", [1, 6])
def test_upsample(isa: str, opset: int) -> None:
    operator = node("Upsample", height_scale=2.0, width_scale=3.0)
    runs(model([operator], {"x": X}, opset), {"x": X}, X.repeat(2, 2).repeat(3, 3))


# ---------------------------------------------------------------- BatchNormalization

BN = dict(zip("sbmv", (RNG.random((4, 3)) + 0.3).astype(F), strict=True))


@pytest.mark.parametrize("opset", [6, 7, 9, 13])
@pytest.mark.parametrize("outputs", [("y", "m1", "v1", "m2", "v2"), ("y", "m1", "", "", "")])
def test_outputs_of_training_that_nothing_reads(isa: str, opset: int, outputs: Sequence[str]) -> None:
    x = {"x": X}
    proto = model([node("BatchNormalization", ["x", *"sbmv"], outputs)], x, opset, BN)
    runs(proto, x, oracle.batch_norm(X, *BN.values()))
    behind = helper.make_node("Clip", ["y", "", "high"], ["z"])  # an absent input is none of the outputs that have no name
    if opset > 10:
        cnnengine.load(model([*proto.graph.node, behind], x, opset, {**BN, "high": np.float32(1)}, ["z"]))
    reading = model([*proto.graph.node, helper.make_node("Neg", ["m1"], ["z"])], x, opset, BN, ["y", "z"])
    asking = model(proto.graph.node, x, opset, BN, ["y", "m1"])
    for refused in (reading, asking):
        with pytest.raises(ModelError, match="not defined for inference") as caught:
            cnnengine.load(refused)
        assert (caught.value.node, caught.value.tensor) == ("n", "m1")


@pytest.mark.parametrize("opset", [9, 15])
def test_of_a_vector(isa: str, opset: int) -> None:
    """One axis is the batch's, of one channel."""
    x, one = np.linspace(-3, 3, 37, dtype=F), {k: v[:1] for k, v in BN.items()}
    s, b, m, v = (float(a[0]) for a in one.values())
    proto = model([node("BatchNormalization", ["x", *"sbmv"])], {"x": x}, opset, one)
    runs(proto, {"x": x}, (contrib.wide(x) - m) / np.sqrt(v + 1e-5) * s + b)
    with pytest.raises(ShapeError, match="'scale': has the wrong shape"):
        cnnengine.load(model([node("BatchNormalization", ["x", *"sbmv"])], {"x": x}, opset, BN)).run(None, {"x": x})


def test_of_a_vector_in_training() -> None:
    x, one = np.linspace(-3, 3, 37, dtype=F), {k: v[:1] for k, v in BN.items()}
    proto = model(
        [node("BatchNormalization", ["x", *"sbmv"], ["y", "m1", "v1"], training_mode=1)], {"x": x}, 15, one, ["y", "m1"]
    )
    y, mean = cnnengine.load(proto).run(None, {"x": x})
    np.testing.assert_allclose(y, x / np.sqrt(x.var() + 1e-5) * one["s"] + one["b"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean, one["m"] * 0.9, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- four spatial axes

FOUR = RNG.standard_normal((2, 4, 4, 5, 3, 4)).astype(F)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_convolutions_of_four_axes(groups: int, bias: bool) -> None:
    w, b = RNG.standard_normal((6, 4 // groups, 2, 1, 2, 2)).astype(F), RNG.standard_normal(6).astype(F)
    given = {"pads": [1, 0, 1, 0, 0, 1, 0, 2], "strides": [2, 1, 1, 2], "dilations": [1, 1, 2, 1], "group": groups}
    want = oracle.conv(
        FOUR, w, b if bias else None, pads=given["pads"], stride=given["strides"], dilation=given["dilations"], groups=groups
    )
    proto = model(
        [node("Conv", ["x", "w", "b"][: 2 + bias], ["c"], **given), node("Relu", ["c"])], {"x": FOUR}, 17, {"w": w, "b": b}
    )
    runs(proto, {"x": FOUR}, np.maximum(want, 0), host=["Conv"])
    w = RNG.standard_normal((4, 6 // groups, 2, 1, 2, 2)).astype(F)
    want = oracle.conv_transpose(FOUR, w, b if bias else None, stride=(2, 1, 1, 2), groups=groups)
    operator = node("ConvTranspose", ["x", "w", "b"][: 2 + bias], group=groups, strides=[2, 1, 1, 2])
    runs(model([operator], {"x": FOUR}, 17, {"w": w, "b": b}), {"x": FOUR}, want, host=["ConvTranspose"])


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_an_output_shape_with_and_without_batch_and_channels(named: bool, rank: int) -> None:
    x, w = FOUR[(slice(None), slice(None), *(0,) * (4 - rank))].copy(), RNG.standard_normal((4, 3, *(2,) * rank)).astype(F)
    want = oracle.conv_transpose(x, w, stride=2)
    spatial = list(want.shape[2:])
    operator = node("ConvTranspose", ["x", "w"], strides=[2] * rank, output_shape=[2, 3, *spatial] if named else spatial)
    runs(model([operator], {"x": x}, 17, {"w": w}), {"x": x}, want, host=["ConvTranspose"] if rank > 3 else [])


@pytest.mark.parametrize("alpha", [-0.5, -2.0, 0.25])
def test_celu_of_any_alpha(isa: str, alpha: float) -> None:
    """Below zero it is no exponential that dies out but one that grows; behind a convolution too, which may take it in."""
    x = np.concatenate([X, 20 * X], 1)
    w = np.eye(6, dtype=F).reshape(6, 6, 1, 1)
    wide = contrib.wide(x)
    with np.errstate(over="ignore"):
        want = (np.maximum(wide, 0) + np.minimum(0, alpha * np.expm1(wide / alpha))).astype(F)  # infinite where float32 ends
    for nodes in ([node("Celu", alpha=alpha)], [node("Conv", ["x", "w"], ["c"]), node("Celu", ["c"], alpha=alpha)]):
        (y,) = cnnengine.load(model(nodes, {"x": x}, 17, {"w": w})).run(None, {"x": x})
        np.testing.assert_allclose(y, want, rtol=2e-5, atol=2e-6)


def test_pooling_of_four_axes() -> None:
    for op, want in (("MaxPool", oracle.max_pool(FOUR, (2, 2, 1, 2))[0]), ("AveragePool", oracle.avg_pool(FOUR, (2, 2, 1, 2)))):
        runs(model([node(op, kernel_shape=[2, 2, 1, 2])], {"x": FOUR}, 17), {"x": FOUR}, want, host=[op])


def test_an_image_without_spatial_axes_is_refused() -> None:
    x, w = {"x": FOUR[:, :, 0, 0, 0, 0].copy()}, {"w": np.ones((3, 4), F)}
    with pytest.raises(ShapeError, match="x has the wrong rank"):
        cnnengine.load(model([node("Conv", ["x", "w"])], x, 17, w)).run(None, x)


# ---------------------------------------------------------------- the form of the graph


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
@pytest.mark.parametrize(("first", "last"), [(11, 13), (13, 11), (13, 13)])
def test_of_two_imports_the_last_counts(domain: str, first: int, last: int) -> None:
    """Softmax has another meaning since opset 13."""
    x = {"x": X}
    proto = model([node("Softmax", axis=1)], x, first)
    proto.opset_import.add(domain=domain, version=last)
    wide = np.exp(contrib.wide(X))
    runs(proto, x, wide / wide.sum(axis=1 if last == 13 else (1, 2, 3), keepdims=True))


def test_one_value_as_two_outputs() -> None:
    proto = model([node("Relu")], {"x": X}, 17, outputs=["y", "y"])
    loaded = cnnengine.load(proto)
    names = [o.name for o in loaded.outputs]
    assert len(set(names)) == 2 and names[0] == "y"
    one, two = loaded.run(None, {"x": X})
    np.testing.assert_array_equal(one, np.maximum(X, 0))
    np.testing.assert_array_equal(two, one)
