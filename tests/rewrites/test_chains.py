"""Chains of convolutions and gates in models: what is fused, that results stay, and what reports say of it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine.operator import Activation, Operator
from cnnengine.ops.conv import Conv
from cnnengine.ops.dense import MatMul
from cnnengine.ops.fused import ChannelsLastConv, ConvChain, Dense, FusedConv, ScaledMatMul
from cnnengine.report import summarize
from cnnengine.runtime.runner import fill_arenas
from cnnengine.spec import TensorSpec

CHAINS = importlib.import_module("cnnengine.rewrites.fuse_chains")  # the package has the rewrite under this name

RNG = np.random.default_rng(11)


def rand(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


class Net:
    """Nodes that follow one another; every call returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def add(self, op: str, *inputs: str, **attributes) -> str:
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def conv(self, x: str, c: int, o: int, k: int, *, groups: int = 1, bias: bool = True, **attributes) -> str:
        w = f"w{len(self.nodes)}"
        self.constants[w] = rand(o, c // groups, k, k) / np.float32(np.sqrt(c // groups * k * k))
        names = [x, w]
        if bias:
            self.constants[w + "b"] = rand(o)
            names.append(w + "b")
        return self.add("Conv", *names, group=groups, pads=[k // 2] * 4, **attributes)

    def model(self, x_shape, outputs: list[str]) -> onnx.ModelProto:
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "net",
            [info("x", TensorProto.FLOAT, x_shape)],
            [info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(v, k) for k, v in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def inverted_residual(x_shape, c, hidden, o, k, stride, *, expose=(), gate=False) -> onnx.ModelProto:
    net = Net()
    x = net.conv("x", x_shape[1], c, 3)
    a = net.add("Relu", net.conv(x, c, hidden, 1))
    d = net.add("HardSwish", net.conv(a, hidden, hidden, k, groups=hidden, strides=[stride, stride], bias=False))
    if gate:
        s = net.add("GlobalAveragePool", d)
        s = net.add("Sigmoid", net.conv(net.add("Relu", net.conv(s, hidden, 12, 1)), 12, hidden, 1))
        d = net.add("Mul", d, s)
    p = net.conv(d, hidden, o, 1)
    y = net.add("Add", p, x) if stride == 1 and c == o else p
    return net.model(x_shape, [y, *({"a": a, "d": d}[e] for e in expose)])


def operators(model: cnnengine.Model) -> list[str]:
    return [layer.operator for layer in summarize(model).layers]


def unfused(monkeypatch, proto):
    with monkeypatch.context() as patch:
        patch.setattr(CHAINS, "CHAIN_BYTES", 1 << 60)
        return cnnengine.load(proto)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("c", "hidden", "o", "k", "stride", "size"),
    [(24, 116, 24, 3, 1, (40, 37)), (16, 96, 24, 3, 2, (57, 31)), (40, 200, 40, 5, 1, (29, 33)), (8, 40, 20, 7, 2, (64, 64))],
)
def test_chains_keep_the_bits(monkeypatch, isa, c, hidden, o, k, stride, size, threads):
    proto = inverted_residual((1, 3, *size), c, hidden, o, k, stride)
    x = rand(1, 3, *size)
    with unfused(monkeypatch, proto) as plain:
        (expected,) = plain.run(None, {"x": x})
        assert "ConvChain" not in operators(plain)
    monkeypatch.setattr(CHAINS, "CHAIN_BYTES", 1 << 16)
    with cnnengine.load(proto, threads=threads) as model:
        assert operators(model).count("ConvChain") == 1
        fill_arenas(255)
        try:
            (y,) = model.run(None, {"x": x})
        finally:
            fill_arenas(None)
    assert np.array_equal(y, expected)


def test_a_hidden_tensor_that_others_read_is_stored(monkeypatch):
    monkeypatch.setattr(CHAINS, "CHAIN_BYTES", 1)
    for expose in ("a", "d"):
        with cnnengine.load(inverted_residual((1, 3, 20, 20), 16, 48, 16, 3, 1, expose=expose)) as model:
            found = operators(model)
        # where the depthwise output is asked for, the 1x1 before it still joins
        assert found.count("ConvChain") == 1


def test_depthwise_and_project(monkeypatch):
    net = Net()
    x = net.conv("x", 3, 20, 3)
    y = net.conv(net.add("Relu", net.conv(x, 20, 20, 3, groups=20)), 20, 12, 1)
    proto = net.model((2, 3, 33, 30), [y])
    x = rand(2, 3, 33, 30)
    with unfused(monkeypatch, proto) as plain:
        (expected,) = plain.run(None, {"x": x})
    monkeypatch.setattr(CHAINS, "CHAIN_BYTES", 1)
    with cnnengine.load(proto) as model:
        assert "ConvChain" in operators(model)
        assert np.array_equal(model.run(None, {"x": x})[0], expected)


@pytest.mark.parametrize(("begin", "fits"), [(0, True), (2, True), (3, False), (5, False)])
def test_rows_of_padding_that_meet_no_row(monkeypatch, begin, fits):
    """Where the first windows are padding alone, the depthwise convolution stays by itself."""
    net = Net()
    x = net.add("Relu", net.conv("x", 16, 40, 1))
    net.constants["d"] = rand(40, 1, 3, 3)
    y = net.add("Conv", x, "d", group=40, pads=[begin, 1, 1, 1])
    proto = net.model((2, 16, 17, 14), [net.add("Neg", y)])
    x = rand(2, 16, 17, 14)
    with unfused(monkeypatch, proto) as plain:
        (expected,) = plain.run(None, {"x": x})
    monkeypatch.setattr(CHAINS, "CHAIN_BYTES", 1)
    with cnnengine.load(proto) as model:
        assert ("ConvChain" in operators(model)) == fits
        assert np.array_equal(model.run(None, {"x": x})[0], expected)


def test_what_reports_say(monkeypatch):
    proto = inverted_residual((1, 3, 20, 22), 16, 48, 24, 3, 2)
    with unfused(monkeypatch, proto) as plain:
        expected = summarize(plain)
    monkeypatch.setattr(CHAINS, "CHAIN_BYTES", 1)
    with cnnengine.load(proto) as model:
        report = summarize(model)
    chain = next(layer for layer in report.layers if layer.operator == "ConvChain")
    assert chain.fused == ("expand", "relu", "depthwise", "hard_swish")
    assert chain.kernels == ("expand+depthwise",)
    assert (report.macs, report.parameters) == (expected.macs, expected.parameters)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("hidden", "o", "size"), [(40, 24, (19, 16)), (72, 17, (12, 13))])
def test_gates_go_into_the_weights(isa, hidden, o, size, batch):
    proto = inverted_residual((batch, 3, *size), 16, hidden, o, 3, 1, gate=True)
    x = rand(batch, 3, *size)
    with cnnengine.load(proto, threads=2) as model:
        assert "Mul" not in operators(model)
        layers = summarize(model).layers
        assert [layer.kernels[0] for layer in layers if "gate" in layer.fused] == ["gate weights"]
        fill_arenas(255)
        try:
            (y,) = model.run(None, {"x": x})
        finally:
            fill_arenas(None)
        (expected,) = model._graph.evaluate({"x": x})
    assert np.allclose(y, expected, rtol=1e-4, atol=1e-5)
    for i in range(batch):
        with cnnengine.load(for_one_image(proto)) as single:
            assert np.array_equal(single.run(None, {"x": x[i : i + 1]})[0], y[i : i + 1])


def for_one_image(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model for one image."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    copy.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return copy


def test_small_planes_keep_the_product():
    """Where the weights outnumber the pixels, scaling the pixels is less work."""
    with cnnengine.load(inverted_residual((1, 3, 5, 5), 16, 40, 24, 3, 1, gate=True)) as model:
        assert "Mul" in operators(model)


def check(op: Operator, values: Sequence[np.ndarray | None], expected: np.ndarray) -> None:
    """infer and reference of one operator."""
    (spec,) = op.specs([None if v is None else TensorSpec(v.dtype, v.shape) for v in values])
    (y,) = op.evaluate(*values)
    assert spec.shape == y.shape == expected.shape
    assert spec.dtype == y.dtype == expected.dtype
    assert np.allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_products_by_themselves():
    relu, a, w, b, r = Activation("clip", 0.0, np.inf), rand(2, 3, 5), rand(5, 4), rand(4), rand(2, 3, 4)
    check(Dense(), (a, w, b), a @ w + b)
    check(Dense(relu, residual=True), (a, w, None, r), np.maximum(a @ w + r, 0))
    check(Dense(residual=True), (a, w, b, r), a @ w + b + r)
    other, turned = rand(2, 5, 4), rand(2, 4, 5)
    check(ScaledMatMul(0.5, activation=relu), (a, other), np.maximum(np.float32(0.5) * (a @ other), 0))
    check(ScaledMatMul(2.0, transposed=True), (a, turned), np.float32(2.0) * (a @ turned.swapaxes(1, 2)))
    assert ScaledMatMul.of(MatMul(relu), 1.0, False) == MatMul(relu)


def test_convolutions_by_themselves():
    relu = Activation("clip", 0.0, np.inf)
    x, w, b, r, g = rand(2, 9, 4, 5), rand(6, 9, 1, 1), rand(6), rand(2, 6, 4, 5), rand(2, 9, 1, 1)
    (expected,) = Conv().evaluate(x * g, w, b)
    check(FusedConv(Conv(activation=relu), residual=True, gated=True), (x, w, b, r, g), np.maximum(expected + r, 0))
    check(FusedConv(Conv(), gated=True), (x, w, None, g), Conv().evaluate(x * g, w)[0])
    last, k = np.ascontiguousarray(np.moveaxis(x, 1, -1)), rand(6, 9, 3, 2)
    strided = Conv(strides=(1, 2), pads=(1, 1, 1, 1))
    (expected,) = strided.evaluate(x, k, b)
    check(ChannelsLastConv(strided), (last, k, b), expected)
    r = rand(*expected.shape)
    check(
        ChannelsLastConv(replace(strided, activation=relu), residual=True),
        (last, k, None, r),
        np.maximum(strided.evaluate(x, k)[0] + r, 0),
    )
    chain = ConvChain((Conv(), Conv(group=6, pads=(1, 1, 1, 1), strides=(2, 2)), Conv()), True, True, residual=True)
    d, p = rand(6, 1, 3, 3), rand(4, 6, 1, 1)
    r = rand(2, 4, 2, 3)
    values = (x, w, b, d, None, p, None, r)
    hidden = chain.convs[1].evaluate(Conv().evaluate(x, w, b)[0], d, None)[0]
    check(chain, values, Conv().evaluate(hidden, p, None)[0] + r)
    shapes = [None if v is None else v.shape for v in values]
    assert chain.multiply_adds(shapes, [r.shape]) == 2 * (20 * 54 + 6 * 54 + 6 * 24)
    assert chain.multiply_adds([], [r.shape]) is None and chain.multiply_adds(shapes, [None]) is None
