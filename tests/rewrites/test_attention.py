"""Attention as exporters write it runs as one kernel and computes what the single nodes do; near misses are left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine.runtime.runner import fill_arenas

N, T, H, D = 2, 37, 3, 12


@pytest.fixture(autouse=True)
def rubbish():
    fill_arenas(255)
    yield
    fill_arenas(None)


class Net:
    def __init__(self) -> None:
        self.nodes: list = []
        self.constants: list = []

    def ints(self, *values: int) -> str:
        self.constants.append(numpy_helper.from_array(np.array(values, np.int64), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def number(self, value: float, *shape: int) -> str:
        self.constants.append(numpy_helper.from_array(np.full(shape, value, np.float32), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def node(self, kind: str, *inputs: str, outputs: int = 1, **attributes) -> str | list[str]:
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def close(self, y: str, *more: str) -> bytes:
        info = helper.make_tensor_value_info
        outputs = [info(name, TensorProto.FLOAT, None) for name in (y, *more)]
        x = info("x", TensorProto.FLOAT, [N, T, 3 * H * D])
        graph = helper.make_graph(self.nodes, "attention", [x], outputs, self.constants)
        data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
        return data


def heads(net: Net, how: str) -> Sequence[str]:
    """q, k and v (N, H, T, D) of x (N, T, 3 H D)."""
    x = net.node("Reshape", "x", net.ints(N, T, 3, H, D))
    if how == "after":  # split before the heads are moved
        parts = net.node("Split", x, net.ints(1, 1, 1), axis=2, outputs=3)
        return [net.node("Transpose", net.node("Squeeze", p, net.ints(2)), perm=[0, 2, 1, 3]) for p in parts]
    x = net.node("Transpose", x, perm=[2, 0, 3, 1, 4])
    if how == "gather":
        index = [numpy_helper.from_array(np.array(i, np.int64), f"index{i}") for i in range(3)]
        net.constants += index
        return [net.node("Gather", x, i.name, axis=0) for i in index]
    if how == "slice":
        pieces = [net.node("Slice", x, net.ints(i), net.ints(i + 1), net.ints(0)) for i in range(3)]
        return [net.node("Squeeze", p, net.ints(0)) for p in pieces]
    parts = net.node("Split", x, net.ints(1, 1, 1), axis=0, outputs=3)
    if how == "reshape":
        return [net.node("Reshape", p, net.ints(N, H, T, D)) for p in parts]
    return [net.node("Squeeze", p, net.ints(0)) for p in parts]


def attention(net: Net, q: str, k: str, v: str, scaling: str = "after") -> str:
    k = net.node("Transpose", k, perm=[0, 1, 3, 2])
    if scaling == "both":
        q, k = (net.node("Mul", a, net.number(D**-0.25)) for a in (q, k))
    scores = net.node("MatMul", q, k)
    if scaling == "after":
        q = net.node("Div", q, net.number(D**0.5))
        scores = net.node("MatMul", q, k)
    if scaling == "product":
        scores = net.node("Mul", net.number(D**-0.5), scores)
    if scaling == "quotient":
        scores = net.node("Div", scores, net.number(D**0.5))
    return net.node("MatMul", net.node("Softmax", scores, axis=-1), v)


def merged(net: Net, y: str) -> str:
    return net.node("Reshape", net.node("Transpose", y, perm=[0, 2, 1, 3]), net.ints(N, T, H * D))


def expected(x: np.ndarray) -> np.ndarray:
    q, k, v = np.moveaxis(x.astype(np.float64).reshape(N, T, 3, H, D), 2, 0).transpose(0, 1, 3, 2, 4)
    scores = q @ k.swapaxes(-1, -2) * D**-0.5
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)) @ v


def run(data: bytes, threads: int = 1) -> tuple[list[np.ndarray], list[str], np.ndarray]:
    x = np.random.default_rng(3).standard_normal((N, T, 3 * H * D)).astype(np.float32)
    with cnnengine.load(data, threads=threads) as model:
        results = model.run(None, {"x": x})
        kernels = [r.kernel for r in model._program.segment(0, {"x": x}).plan.reports]
    return results, kernels, x


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("scaling", ["after", "both", "product", "quotient"])
@pytest.mark.parametrize("how", ["squeeze", "reshape", "gather", "slice", "after"])
def test_one_kernel(isa, how: str, scaling: str, threads: int) -> None:
    net = Net()
    data = net.close(merged(net, attention(net, *heads(net, how), scaling)))
    (y,), kernels, x = run(data, threads)
    if (how, scaling) == ("after", "both"):  # k's two Transposes became one, which its factor stands before
        assert kernels[-2:] == ["binary mul", "attention"]
    else:
        assert kernels == ["attention"]  # neither q, k, v nor the result is copied
    np.testing.assert_allclose(y, expected(x).transpose(0, 2, 1, 3).reshape(N, T, H * D), rtol=2e-5, atol=3e-6)


def with_mask(net: Net) -> list[str]:
    q, k, v = heads(net, "squeeze")
    scores = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 1, 3, 2]))
    scores = net.node("Add", net.node("Mul", scores, net.number(D**-0.5)), net.number(0.0, T, T))
    return [net.node("MatMul", net.node("Softmax", scores, axis=-1), v)]


def weights_read_elsewhere(net: Net) -> list[str]:
    q, k, v = heads(net, "gather")
    q = net.node("Mul", q, net.number(D**-0.5))
    weights = net.node("Softmax", net.node("MatMul", q, net.node("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    return [net.node("MatMul", weights, v), net.node("ReduceMax", weights, axes=[0, 1])]


def softmax_of_columns(net: Net) -> list[str]:
    q, k, v = heads(net, "after")
    q = net.node("Mul", q, net.number(D**-0.5))
    scores = net.node("MatMul", k, net.node("Transpose", q, perm=[0, 1, 3, 2]))
    weights = net.node("Softmax", scores, axis=-2)
    return [net.node("MatMul", net.node("Transpose", weights, perm=[0, 1, 3, 2]), v)]


def scores_read_elsewhere(net: Net) -> list[str]:
    q, k, v = heads(net, "gather")
    scores = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 1, 3, 2]))
    scaled = net.node("Mul", scores, net.number(D**-0.5))
    return [net.node("MatMul", net.node("Softmax", scaled, axis=-1), v), net.node("ReduceMax", scores, axes=[0, 1])]


def softmax_of_scores_read_elsewhere(net: Net) -> list[str]:
    """The factor is with q: the Softmax reads the product itself, and so does another."""
    q, k, v = heads(net, "gather")
    q = net.node("Mul", q, net.number(D**-0.5))
    scores = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 1, 3, 2]))
    return [net.node("MatMul", net.node("Softmax", scores, axis=-1), v), net.node("ReduceMax", scores, axes=[0, 1])]


def divided_by_the_scores(net: Net) -> list[str]:
    q, k, v = heads(net, "gather")
    scores = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 1, 3, 2]))
    inverse = net.node("Div", net.number(1.0), net.node("Div", net.number(D**0.5), scores))
    return [net.node("MatMul", net.node("Softmax", inverse, axis=-1), v)]


@pytest.mark.parametrize(
    "make",
    [
        *(with_mask, weights_read_elsewhere, softmax_of_columns, scores_read_elsewhere, softmax_of_scores_read_elsewhere),
        divided_by_the_scores,
    ],
)
def test_near_misses(make: Callable[[Net], list[str]]) -> None:
    net = Net()
    results, kernels, x = run(net.close(*make(net)))
    assert "attention" not in kernels
    np.testing.assert_allclose(results[0], expected(x), rtol=2e-5, atol=3e-6)


@pytest.mark.parametrize("which", ["q", "k", "v"])
def test_operands_read_elsewhere_too(which: str) -> None:
    """What scales or turns an operand stays for its other reader, and the product has the operand once."""
    net = Net()
    q, k, v = heads(net, "gather")
    q, k = net.node("Mul", q, net.number(D**-0.25)), net.node("Mul", k, net.number(D**-0.25))
    turned = net.node("Transpose", k, perm=[0, 1, 3, 2])
    y = net.node("MatMul", net.node("Softmax", net.node("MatMul", q, turned), axis=-1), v)
    results, _, x = run(net.close(y, net.node("Neg", {"q": q, "k": turned, "v": v}[which])))
    np.testing.assert_allclose(results[0], expected(x), rtol=2e-5, atol=3e-6)
    wide = np.moveaxis(x.astype(np.float64).reshape(N, T, 3, H, D), 2, 0).transpose(0, 1, 3, 2, 4)["qkv".index(which)]
    side = {"q": wide * D**-0.25, "k": wide.swapaxes(-1, -2) * D**-0.25, "v": wide}[which]
    np.testing.assert_allclose(results[1], -side, rtol=1e-6, atol=1e-6)


def test_a_result_read_twice_is_not_turned(isa) -> None:
    net = Net()
    y = attention(net, *heads(net, "squeeze"))
    results, kernels, x = run(net.close(merged(net, y), net.node("Neg", y)))
    assert "attention" in kernels
    np.testing.assert_allclose(-results[1], expected(x), rtol=2e-5, atol=3e-6)
    np.testing.assert_allclose(results[0], expected(x).transpose(0, 2, 1, 3).reshape(N, T, H * D), rtol=2e-5, atol=3e-6)
