"""Model.explain: maps against naive computations, heads and near misses of them, and what deleting the marked pixels does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import zoo_support
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine.errors import InputError
from cnnengine.explain.methods import filled, starts
from cnnengine.importer.cut import cut
from cnnengine.importer.graphs import import_model

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ("digits_lenet", "digits_lenet_dynamo", "digits_nin", "digits_spp")
node = helper.make_node
FLOAT = TensorProto.FLOAT
Nodes = list[onnx.NodeProto]


def rand(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


CONSTANTS = {
    "w": rand(6, 3, 3, 3, seed=1) * np.float32(0.3),
    "w1": rand(6, 3, 3, seed=1) * np.float32(0.3),
    "w3": rand(6, 3, 2, 3, 3, seed=1) * np.float32(0.2),
    "wide": rand(6, 3, 8, 10, seed=1) * np.float32(0.1),
    "narrow": rand(5, 6, 1, 1, seed=2),
    "bt": rand(5, 6, seed=4),
    "b": rand(6, 5, seed=4),
    "b2": rand(5, 5, seed=5),
    "c": rand(5, seed=6),
    "cm": rand(6, 1, 1, seed=7),
    "s": np.abs(rand(6, seed=8)) + 1,
    "t": rand(6, seed=9),
    "hw": np.array([2, 3], np.int64),
    "wh": np.array([-1, -2], np.int64),
    "mid": np.array([1, 2], np.int64),
    "last": np.array([3], np.int64),
    "one": np.array([2], np.int64),
    "flat": np.array([0, -1], np.int64),
    "fixed": np.array([1, 6], np.int64),
    "count": np.array(80.0, np.float32),
    "zero": np.array(0, np.int64),
    "first": np.array([0], np.int64),
    "until": np.array([1], np.int64),
    "rest": np.array([6], np.int64),
    "ratio": np.array(0.5, np.float32),
}


def model_of(
    nodes: Nodes, shape: tuple[Any, ...] = ("N", 3, 8, 10), out: str = "y", more: dict[str, tuple[Any, ...]] | None = None
) -> onnx.ModelProto:
    used = {n for one in nodes for n in one.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, FLOAT, s) for n, s in {"x": shape, **(more or {})}.items()],
        [helper.make_tensor_value_info(out, FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in CONSTANTS.items() if n in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def body(gives: str = "f", weights: str = "w", **pads: Any) -> Nodes:
    rank = CONSTANTS[weights].ndim - 2
    return [
        node("Conv", ["x", weights], ["a"], "conv", pads=[1] * (2 * rank) if not pads else pads["pads"]),
        node("Relu", ["a"], [gives], "relu"),
    ]


def gemm(of: str = "v") -> Nodes:
    return [node("Gemm", [of, "bt", "c"], ["y"], "dense", transB=1)]


GAP = [node("GlobalAveragePool", ["f"], ["m"], "mean")]
FLATTEN = [node("Flatten", ["m"], ["v"], "flat")]
MEAN_0 = [node("ReduceMean", ["f", "hw"], ["v"], "mean", keepdims=0)]

HEADS: dict[str, tuple[Nodes, dict[str, Any]]] = {
    "global pool, flatten, dense": ([*body(), *GAP, *FLATTEN, *gemm()], {}),
    "mean, product, sum": ([*body(), *MEAN_0, node("MatMul", ["v", "b"], ["p"]), node("Add", ["c", "p"], ["y"])], {}),
    "mean from behind, reshaped, softmax": (
        [
            *body(),
            node("ReduceMean", ["f", "wh"], ["m"], "mean"),
            node("Reshape", ["m", "flat"], ["v"]),
            node("Gemm", ["v", "bt", "c"], ["z"], transB=1),
            node("Softmax", ["z"], ["y"]),
        ],
        {},
    ),
    "average pool of the whole extent": (
        [*body(), node("AveragePool", ["f"], ["m"], "mean", kernel_shape=[8, 10]), *FLATTEN, *gemm()],
        {},
    ),
    "1x1 convolution behind": ([*body(), *GAP, node("Conv", ["m", "narrow", "c"], ["k"]), node("Flatten", ["k"], ["y"])], {}),
    "1x1 convolution before": (
        [
            *body("h"),
            node("Conv", ["h", "narrow", "c"], ["f"]),
            *GAP,
            node("Flatten", ["m"], ["z"]),
            node("LogSoftmax", ["z"], ["y"]),
        ],
        {},
    ),
    "channels last": (
        [
            node("Transpose", ["x"], ["t0"], perm=[0, 3, 1, 2]),
            node("Conv", ["t0", "w"], ["a"], pads=[1, 1, 1, 1]),
            node("Transpose", ["a"], ["t1"], perm=[0, 2, 3, 1]),
            node("Relu", ["t1"], ["f"]),
            node("ReduceMean", ["f", "mid"], ["v"], keepdims=0),
            *gemm(),
        ],
        {"shape": ("N", 8, 10, 3)},
    ),
    "rows and columns exchanged": (
        [*body("h"), node("Transpose", ["h"], ["f"], perm=[0, 1, 3, 2]), *GAP, *FLATTEN, *gemm()],
        {},
    ),
    "dropout, two dense layers": (
        [
            *body(),
            *GAP,
            *FLATTEN,
            node("Dropout", ["v", "ratio"], ["d"]),
            node("Gemm", ["d", "bt", "c"], ["z"], transB=1),
            node("MatMul", ["z", "b2"], ["y"]),
        ],
        {},
    ),
    "normalisation and a shift": (
        [
            *body(),
            *GAP,
            node("BatchNormalization", ["m", "s", "t", "t", "s"], ["n"]),
            node("Sub", ["cm", "n"], ["o"]),
            node("Flatten", ["o"], ["v"]),
            *gemm(),
        ],
        {},
    ),
    "a sum by its count": (
        [*body(), node("ReduceSum", ["f", "hw"], ["u"], keepdims=0), node("Div", ["u", "count"], ["v"]), *gemm()],
        {},
    ),
    "a shape that is computed": (
        [
            *body(),
            *GAP,
            node("Shape", ["m"], ["sh"]),
            node("Slice", ["sh", "first", "one"], ["sl"]),
            node("Reshape", ["m", "sl"], ["v"]),
            *gemm(),
        ],
        {},
    ),
    "a shape of one sample": ([*body(), *GAP, node("Reshape", ["m", "fixed"], ["v"]), *gemm()], {}),
    "the shape of the input": (
        [
            *body(),
            *GAP,
            node("Shape", ["x"], ["sh"]),
            node("Slice", ["sh", "first", "one"], ["sl"]),
            node("Slice", ["sl", "first", "until"], ["s0"]),
            node("Concat", ["s0", "rest"], ["s1"], axis=0),
            node("Reshape", ["m", "s1"], ["v"]),
            *gemm(),
        ],
        {},
    ),
    "a fixed batch": ([*body(), *GAP, *FLATTEN, *gemm()], {"shape": (1, 3, 8, 10)}),
    "a mean that is added to the maps": (
        [
            *body("h"),
            node("GlobalAveragePool", ["h"], ["g"], "inner"),
            node("Add", ["h", "g"], ["f"]),
            *GAP,
            *FLATTEN,
            *gemm(),
        ],
        {},
    ),
    "two readers of the mean": (
        [
            *body(),
            *MEAN_0,
            node("MatMul", ["v", "b"], ["p"]),
            node("Gemm", ["v", "bt", "c"], ["q"], transB=1),
            node("Sub", ["p", "q"], ["y"]),
        ],
        {},
    ),
    "a reader of the maps that leads nowhere": (
        [*body(), node("GlobalMaxPool", ["f"], ["unread"]), *GAP, *FLATTEN, *gemm()],
        {},
    ),
    "a signal": (
        [*body(weights="w1"), node("ReduceMean", ["f", "one"], ["v"], keepdims=0), *gemm()],
        {"shape": ("N", 3, 30)},
    ),
    "a volume": ([*body(weights="w3", pads=[1, 1, 1, 0, 1, 1]), *GAP, *FLATTEN, *gemm()], {"shape": ("N", 3, 4, 6, 5)}),
}


def sample(shape: tuple[Any, ...], seed: int = 11) -> np.ndarray:
    return rand(*[1 if isinstance(d, str) else d for d in shape], seed=seed)


@pytest.mark.parametrize("name", HEADS)
def test_the_mean_of_the_map_is_the_score(name: str) -> None:
    nodes, options = HEADS[name]
    proto = model_of(nodes, **options)
    x = sample(options.get("shape", ("N", 3, 8, 10)))
    z = "z" if nodes[-1].op_type in ("Softmax", "LogSoftmax") else "y"
    with cnnengine.load(proto) as model:
        (want,) = import_model(proto).evaluate({"x": x}, [z])
        features = np.asarray(model.trace(x)["f"].value, np.float64)
        for target in range(5):
            found = model.explain(x, target)
            assert found.method == "cam", found.why
            assert found.bias is not None
            assert abs(found.score - want[0, target]) <= 1e-5 * max(1, abs(want[0, target]))
            assert abs(found.coarse.mean(dtype=np.float64) + found.bias - want[0, target]) <= 1e-5 * max(1, np.abs(want).max())
            assert found.map.dtype == np.float32
            places = [d for d in x.shape[1:] if d != 3]
            assert found.map.shape == tuple(places)
            assert_same_as_weights(name, features, found, target)
        assert model.explain(x).target == int(want.argmax())


def assert_same_as_weights(name: str, features: np.ndarray, found: Any, target: int) -> None:
    """Heads whose weights are known: the map is their sum of the features, place by place."""
    if name in ("global pool, flatten, dense", "average pool of the whole extent", "a shape of one sample", "a fixed batch"):
        want = np.tensordot(CONSTANTS["bt"][target].astype(np.float64), features[0], 1)
    elif name == "channels last":
        want = features[0] @ CONSTANTS["bt"][target].astype(np.float64)
    elif name == "rows and columns exchanged":
        want = np.tensordot(CONSTANTS["bt"][target].astype(np.float64), features[0], 1).T
    elif name == "1x1 convolution before":
        want = features[0, target]
    else:
        return
    assert found.coarse.shape == want.shape
    np.testing.assert_allclose(found.coarse, want, rtol=0, atol=1e-5 * np.abs(want).max())


MISSES: dict[str, tuple[Nodes, dict[str, Any], str]] = {
    "another axis": (
        [*body(), node("ReduceMean", ["f", "mid"], ["v"], keepdims=0), node("Flatten", ["v"], ["y"])],
        {},
        "is a mean over the axes",
    ),
    "one of two axes": (
        [*body(), node("ReduceMean", ["f", "last"], ["v"], keepdims=0), node("Flatten", ["v"], ["y"])],
        {},
        "is a mean over the axes",
    ),
    "two readers": (
        [
            *body(),
            *GAP,
            node("GlobalMaxPool", ["f"], ["n"]),
            node("Add", ["m", "n"], ["u"]),
            node("Flatten", ["u"], ["v"]),
            *gemm(),
        ],
        {},
        "depends on more than the mean",
    ),
    "a skip from further up": (
        [
            *body(),
            *GAP,
            node("GlobalMaxPool", ["a"], ["n"]),
            node("Concat", ["m", "n"], ["u"], axis=1),
            node("Flatten", ["u"], ["y"]),
        ],
        {},
        "depends on more than the mean",
    ),
    "an activation between": ([*body(), *GAP, *FLATTEN, node("Relu", ["v"], ["r"], "act"), *gemm("r")], {}, "Relu 'act'"),
    "a gate": (
        [*body(), *GAP, *FLATTEN, node("Sigmoid", ["v"], ["g"]), node("Mul", ["v", "g"], ["r"], "gate"), *gemm("r")],
        {},
        "Mul 'gate'",
    ),
    "a product with itself": (
        [*body(), *GAP, *FLATTEN, node("Mul", ["v", "v"], ["r"], "square"), *gemm("r")],
        {},
        "Mul 'square'",
    ),
    "divided by": (
        [*body(), *GAP, *FLATTEN, node("Div", ["t", "v"], ["r"], "inverse"), *gemm("r")],
        {},
        "Div 'inverse'",
    ),
    "a pool of less": (
        [*body(), node("AveragePool", ["f"], ["m"], "pool", kernel_shape=[7, 9], strides=[7, 9]), *FLATTEN, *gemm()],
        {},
        "does not cover",
    ),
    "a pool that is padded": (
        [
            *body(),
            node("AveragePool", ["f"], ["m"], "pool", kernel_shape=[8, 10], pads=[1, 0, 0, 0], strides=[9, 9]),
            *FLATTEN,
            *gemm(),
        ],
        {},
        "does not cover",
    ),
    "the largest": ([*body(), node("GlobalMaxPool", ["f"], ["m"]), *FLATTEN, *gemm()], {}, "no mean over all places"),
    "an extent of 1": ([*body(weights="wide", pads=[0, 0, 0, 0]), *GAP, *FLATTEN, *gemm()], {}, "over one place"),
    "no head": ([*body(), node("Flatten", ["f"], ["y"])], {}, "no mean over all places"),
}


@pytest.mark.parametrize("name", MISSES)
def test_near_misses_of_the_head(name: str) -> None:
    nodes, options, reason = MISSES[name]
    x = sample(("N", 3, 8, 10))
    with cnnengine.load(model_of(nodes, **options)) as model:
        found = model.explain(x, 1)
        assert found.method in ("ablation", "occlusion")
        assert reason in found.why
        assert found.bias is None
        assert np.isfinite(found.map).all()
        if name == "an extent of 1":
            exact = model.explain(x, 1, method="cam")
            assert exact.coarse.shape == (1, 1)
            assert abs(exact.coarse.mean() + exact.bias - exact.score) < 1e-5
        else:
            if name == "divided by":  # by zero, without a channel
                assert (found.method, "no finite number" in found.why) == ("occlusion", True)
            with pytest.raises(InputError, match="no exact class activation map") as caught:
                model.explain(x, 1, method="cam")
            assert reason in str(caught.value)


ZOO = ["mobilenet_v2.ts", "mobilenet_v2.dy", "resnet18.ts", "resnet18.dyraw", "c3d_small.ts", "audio_m5_1d.dy", "nin_lppool.ts"]
ZOO += ["norm_ln.ts", "squeezenet1_1.ts", "googlenet.ts", "densenet121.dy", "k_mobilenet_v2.tf", "kt_mobilenet.kt"]


@pytest.mark.parametrize("name", ZOO)
def test_zoo(name: str) -> None:
    if name not in zoo_support.names():
        pytest.skip("CNNENGINE_ZOO names the folder of the larger networks")
    (x,) = zoo_support.feeds(name).values()
    with cnnengine.load(zoo_support.materialized(name)) as model:
        (scores,) = model.run(None, {model.inputs[0].name: x})
        best, other = model.explain(x, top=2)
        assert best.target == int(scores.argmax())
        for found in (best, other):
            assert found.method == "cam", found.why
            assert abs(found.coarse.mean(dtype=np.float64) + found.bias - found.score) <= 1e-5 * max(1, abs(found.score))
            assert found.map.shape == tuple(d for d in x.shape[1:] if d != x.shape[1 if not name.startswith("k") else -1])


# ---------------------------------------------------------------- ablation and occlusion against naive loops
def naive_ablation(proto: onnx.ModelProto, layer: str, features: np.ndarray, target: int, channel: int) -> np.ndarray:
    """By the operators' NumPy references, one channel after another."""
    tail = cut(import_model(proto), [layer])
    (base,) = tail.evaluate({layer: features})
    total = np.zeros(np.delete(features.shape, [0, channel]))
    for index in range(features.shape[channel]):
        edited = features.copy()
        np.moveaxis(edited, channel, 0)[index] = 0
        (y,) = tail.evaluate({layer: edited})
        total += float(base.ravel()[target] - y.ravel()[target]) * np.take(features[0], index, channel - 1)
    return total


@pytest.mark.parametrize("name", DIGITS)
@pytest.mark.parametrize("limit", [1 << 28, 1])
def test_ablation_is_the_naive_loop(name: str, limit: int) -> None:
    path = ROOT / "models" / f"{name}.onnx"
    x = np.load(ROOT / "models" / "samples" / "expected.npz")["image"][3:4]
    with cnnengine.load(path) as model:
        found = model.explain(x, 3, method="ablation", limit=limit)
        assert (found.cost["batch"] > 1) == (limit > 1)
        features = np.array(model.trace(x)[found.layer].value)
        want = naive_ablation(onnx.load(path), found.layer, features, 3, 1)
    np.testing.assert_allclose(found.coarse, want, rtol=0, atol=2e-5 * np.abs(want).max())


def test_ablation_of_channels_last_and_of_a_named_layer() -> None:
    nodes, options = HEADS["channels last"]
    proto, x = model_of(nodes, **options), sample((1, 8, 10, 3))
    with cnnengine.load(proto) as model:
        for layer, channel in (("f", 3), ("a", 1)):
            found = model.explain(x, 2, layer=layer)
            assert (found.method, found.layer) == ("ablation", layer)
            want = naive_ablation(proto, layer, np.array(model.trace(x)[layer].value), 2, channel)
            np.testing.assert_allclose(found.coarse, want, rtol=0, atol=2e-5 * np.abs(want).max())
        for layer, reason in (("v", "places is not known"), ("nosuch", "no such value"), ("m", "no such value")):
            with pytest.raises(InputError, match=reason):
                model.explain(x, 2, layer=layer)


@pytest.mark.parametrize("hide", ["mean", "blur"])
@pytest.mark.parametrize(("patch", "stride"), [(3, 2), ((5, 4), (5, 1)), (8, 8), (1, 1)])
def test_occlusion_is_the_naive_loop(hide: str, patch: Any, stride: Any) -> None:
    nodes, _ = HEADS["global pool, flatten, dense"]
    x = sample((1, 3, 8, 10))
    p, s = [(v, v) if isinstance(v, int) else v for v in (patch, stride)]
    with cnnengine.load(model_of(nodes)) as model:
        found = model.explain(x, 2, method="occlusion", patch=patch, stride=stride, hide=hide)
        score = float(model(x)[0, 2])
        shown = filled(x, (2, 3), p, hide)
        falls, total, seen = [], np.zeros((8, 10)), np.zeros((8, 10))
        for top in starts(8, p[0], s[0]):
            for left in starts(10, p[1], s[1]):
                edited = x.copy()
                where = slice(top, top + p[0]), slice(left, left + p[1])
                edited[:, :, *where] = shown[:, :, *where]
                falls.append(score - float(model(edited)[0, 2]))
                total[where] += falls[-1]
                seen[where] += 1
    assert seen.min() >= 1
    np.testing.assert_allclose(found.coarse.ravel(), falls, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.map, total / seen, rtol=0, atol=1e-5)
    assert found.cost["runs"] >= len(falls)


def test_what_patches_show() -> None:
    x = sample((1, 3, 8, 10))
    np.testing.assert_allclose(filled(x, (2, 3), (3, 3), "mean")[0, :, 2, 5], x[0].mean(axis=(1, 2)), atol=1e-6)
    ones = np.full((1, 8, 10, 3), 7, np.uint8)
    assert (filled(ones, (1, 2), (3, 3), "blur") == 7).all()
    row = np.zeros((1, 1, 9))
    row[0, 0, 4] = 9
    assert filled(row, (2,), (3,), "blur")[0, 0].tolist() == [0, 0, 1, 2, 3, 2, 1, 0, 0]


# ---------------------------------------------------------------- what the marked pixels are worth
def falls(model: cnnengine.Model, x: np.ndarray, found: Any, share: float = 0.2, times: int = 12) -> tuple[float, float]:
    """How far the score falls when the most marked pixels are deleted, and when as many at random are, on average."""
    count = round(found.map.size * share)
    rng = np.random.default_rng(0)
    picks = [np.argsort(-found.map, axis=None, kind="stable")[:count]]
    picks += [rng.permutation(found.map.size)[:count] for _ in range(times)]
    made = []
    for pick in picks:
        edited = x.copy()
        flat = edited.reshape(*x.shape[:2], -1)
        flat[:, :, pick] = x.mean(axis=(2, 3))[:, :, None]
        (y,) = model.run(None, {model.inputs[0].name: edited})
        made.append(found.score - float(y.ravel()[found.target]))
    return made[0], float(np.mean(made[1:]))


@pytest.mark.parametrize("method", ["auto", "ablation", "occlusion"])
@pytest.mark.parametrize("name", DIGITS)
def test_deleting_what_is_marked_costs_more_than_deleting_at_random(name: str, method: str) -> None:
    images = np.load(ROOT / "models" / "samples" / "expected.npz")["image"]
    with cnnengine.load(ROOT / "models" / f"{name}.onnx") as model:
        pairs = np.array([falls(model, x[None], model.explain(x[None], method=method)) for x in images])
    marked, random = pairs.T
    assert marked.mean() > 1.2 * random.mean(), (marked, random)
    assert (marked > random).sum() >= 7, (marked, random)
