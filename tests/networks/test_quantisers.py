"""Networks that onnxruntime's own quantiser writes, in all its forms: loaded, run, and judged by the file's own definition.

    pip install onnxruntime

The yardstick is the file as it is, node by node by the operators' references: integers exactly, floats in float64 but for the
roundings that the file has. Rewrites and kernels may be a step away where a sum lies next to a half, and what follows is judged
with that much play.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine._kernels import dispatch
from cnnengine.importer.graphs import import_model
from cnnengine.importer.reader import open_model
from cnnengine.report import check

pytest.importorskip("onnxruntime")
quantization = pytest.importorskip("onnxruntime.quantization")

F = np.float32
U8, S8, U16, S16 = (getattr(quantization.QuantType, n) for n in ("QUInt8", "QInt8", "QUInt16", "QInt16"))
QDQ, QOPERATOR = quantization.QuantFormat.QDQ, quantization.QuantFormat.QOperator


class Net:
    """A network of floats, made step by step."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def w(self, *shape: int, scale: float = 0.5) -> str:
        return self.c((self.rng.standard_normal(shape) * scale).astype(F))

    def c(self, value: Any, dtype: Any = None) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def n(self, op: str, *inputs: str, count: int = 1, **attributes: Any) -> Any:
        names = [f"v{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(count)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}_{len(self.nodes)}", **attributes))
        return names[0] if count == 1 else names

    def conv(self, x: str, c: int, o: int, k: int = 3, stride: int = 1, group: int = 1) -> str:
        w = self.w(o, c // group, k, k, scale=1 / np.sqrt(c // group * k * k))
        return str(self.n("Conv", x, w, self.w(o, scale=0.1), strides=[stride] * 2, pads=[k // 2] * 4, group=group))

    def proto(self, shape: tuple[int, ...], output: str, opset: int = 17) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], self.tensors,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def picture_net() -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """Convolutions of all kinds, residuals, gates, joins, pools, activations, a resize, a pad and a classifier."""
    b = Net()
    y = b.n("Relu", b.conv("x", 3, 16, stride=2))
    z = b.n("Clip", b.conv(y, 16, 16, group=16), b.c(0, F), b.c(6, F))
    z = b.n("Add", b.conv(z, 16, 16, 1), y)
    gate = b.n("Sigmoid", b.conv(b.n("GlobalAveragePool", z), 16, 16, 1))
    z = b.n("Mul", z, gate)
    left, right = b.n("Split", z, b.c([8, 8], np.int64), count=2, axis=1)
    left = b.n("LeakyRelu", b.conv(left, 8, 12), alpha=0.1)
    right = b.n("Mul", right, b.n("Sigmoid", right))
    pooled = b.n("MaxPool", left, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    pooled = b.n("Resize", pooled, "", b.c([1, 1, 2, 2], F), mode="nearest", coordinate_transformation_mode="asymmetric")
    averaged = b.n("AveragePool", right, kernel_shape=[3, 3], pads=[1] * 4)
    y = b.n("Concat", left, pooled, averaged, axis=1)
    y = b.n("Pad", y, b.c([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    y = b.n("HardSwish", b.conv(y, 32, 24, 3, stride=2))
    y = b.n("Reshape", b.n("Transpose", b.n("GlobalAveragePool", y), perm=[0, 2, 3, 1]), b.c([-1, 24], np.int64))
    y = b.n("Gemm", y, b.w(10, 24), b.w(10), transB=1)
    return b.proto((2, 3, 20, 24), b.n("Softmax", y, axis=1)), (2, 3, 20, 24)


def dense_net() -> tuple[onnx.ModelProto, tuple[int, ...]]:
    b = Net(2)
    y = b.n("Relu", b.n("Add", b.n("MatMul", "x", b.w(32, 48, scale=0.2)), b.w(48)))
    y = b.n("Tanh", b.n("MatMul", y, b.w(48, 32, scale=0.2)))
    attention = b.n("Softmax", b.n("MatMul", y, b.n("Transpose", y, perm=[0, 2, 1])), axis=-1)
    y = b.n("MatMul", attention, y)
    return b.proto((2, 5, 32), b.n("MatMul", y, b.w(32, 7, scale=0.2))), (2, 5, 32)


def line_net() -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """Along one axis."""
    b = Net(3)
    y = b.n("Relu", b.n("Conv", "x", b.w(8, 4, 5, scale=0.2), b.w(8, scale=0.1), pads=[2, 2]))
    y = b.n("Relu", b.n("Conv", y, b.w(8, 2, 3, scale=0.3), strides=[2], dilations=[2], group=4))
    y = b.n("Flatten", b.n("MaxPool", y, kernel_shape=[2], strides=[2]))
    return b.proto((3, 4, 33), b.n("Gemm", y, b.w(56, 6, scale=0.2), b.w(6))), (3, 4, 33)


NETS: dict[str, Callable[[], tuple[onnx.ModelProto, tuple[int, ...]]]] = {
    "picture": picture_net, "dense": dense_net, "line": line_net,
}  # fmt: skip


class Samples(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
    def __init__(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(0)
        self.data: Iterator[dict[str, np.ndarray]] = iter([{"x": rng.standard_normal(shape).astype(F)} for _ in range(4)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.data, None)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def judged(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], tolerance: float) -> list[np.ndarray]:
    """The outputs, which are those of the file node by node but for `tolerance` of the largest number."""
    graph = import_model(open_model(proto, None).message)
    with np.errstate(all="ignore"):
        want = graph.evaluate(feeds)
    found: list[np.ndarray] = []
    for isa in dispatch.available_isas():
        with dispatch.use_isa(isa), cnnengine.load(proto, threads=1) as loaded:
            results = loaded.run(None, feeds)
            for one, two, value in zip(results, loaded.run(None, feeds, threads=2), want, strict=True):
                np.testing.assert_array_equal(one, two)
                assert (one.shape, one.dtype) == (value.shape, value.dtype)
                wide = value.astype(np.float64)
                np.testing.assert_allclose(one.astype(np.float64), wide, rtol=0, atol=tolerance * np.abs(wide).max(initial=0))
            found = results
    return found


def peer(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    return [np.asarray(v) for v in ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feeds)]


def static(folder: Path, name: str, **options: Any) -> tuple[Path, dict[str, np.ndarray]]:
    """A network quantised by what its tensors are for a few inputs."""
    proto, shape = NETS[name]()
    source, target = folder / "float.onnx", folder / "quantised.onnx"
    onnx.save(proto, source)
    quantization.quantize_static(source, target, Samples(shape), **options)
    return target, {"x": np.random.default_rng(9).standard_normal(shape).astype(F)}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("form", [QDQ, QOPERATOR], ids=["qdq", "qoperator"])
@pytest.mark.parametrize("types", [(U8, S8), (U8, U8), (S8, S8)], ids=["u8s8", "u8u8", "s8s8"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
def test_static(tmp_path: Path, name: str, form: Any, types: tuple[Any, Any], per_channel: bool) -> None:
    """Weights have 7 bits, which onnxruntime needs to be exact where the processor has no VNNI."""
    path, feeds = static(
        tmp_path,
        name,
        quant_format=form,
        activation_type=types[0],
        weight_type=types[1],
        per_channel=per_channel,
        reduce_range=True,
    )
    mine = judged(onnx.load(path), feeds, 0.03)
    for one, other in zip(mine, peer(path, feeds), strict=True):
        assert np.abs(one - other).max() <= 0.04 * np.abs(other).max()


@pytest.mark.parametrize("types", [(U16, S8), (S16, S8), (U16, U16), (S16, S16)], ids=["u16s8", "s16s8", "u16u16", "s16s16"])
@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_16_bits(tmp_path: Path, types: tuple[Any, Any], domain: str) -> None:
    """By ONNX's operators, which have them since opset 21, or by onnxruntime's own."""
    path, feeds = static(
        tmp_path,
        "picture",
        quant_format=QDQ,
        activation_type=types[0],
        weight_type=types[1],
        extra_options={"UseQDQContribOps": domain != ""},
    )
    assert {n.domain for n in onnx.load(path).graph.node if n.op_type.endswith("quantizeLinear")} == {domain}
    mine = judged(onnx.load(path), feeds, 1e-3)
    for one, other in zip(mine, peer(path, feeds), strict=True):
        assert np.abs(one - other).max() <= 0.01 * np.abs(other).max()


def test_with_bits_to_spare(tmp_path: Path) -> None:
    """Weights of 8 bits, extremes among them: sums of two products leave 16 bits."""
    path, feeds = static(tmp_path, "picture", quant_format=QDQ, activation_type=U8, weight_type=S8, per_channel=True)
    judged(onnx.load(path), feeds, 0.03)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("weights", [U8, S8], ids=["u8", "s8"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
def test_dynamic(tmp_path: Path, name: str, weights: Any, per_channel: bool) -> None:
    proto, shape = NETS[name]()
    source, target = tmp_path / "float.onnx", tmp_path / "quantised.onnx"
    onnx.save(proto, source)
    quantization.quantize_dynamic(source, target, weight_type=weights, per_channel=per_channel, reduce_range=True)
    assert {"ConvInteger", "MatMulInteger"} & {n.op_type for n in onnx.load(target).graph.node}
    feeds = {"x": np.random.default_rng(9).standard_normal(shape).astype(F)}
    mine = judged(onnx.load(target), feeds, 0.02)
    for one, other in zip(mine, peer(target, feeds), strict=True):
        assert np.abs(one - other).max() <= 0.03 * np.abs(other).max()


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
def test_dynamic_lstm(tmp_path: Path, per_channel: bool) -> None:
    b = Net(4)
    y = b.n(
        "LSTM",
        "x",
        b.w(2, 32, 8, scale=0.3),
        b.w(2, 32, 8, scale=0.3),
        b.w(2, 64, scale=0.1),
        hidden_size=8,
        direction="bidirectional",
    )
    proto = b.proto((6, 3, 8), y)
    source, target = tmp_path / "float.onnx", tmp_path / "quantised.onnx"
    onnx.save(proto, source)
    quantization.quantize_dynamic(source, target, weight_type=S8, per_channel=per_channel, reduce_range=True)
    assert "DynamicQuantizeLSTM" in {n.op_type for n in onnx.load(target).graph.node}
    feeds = {"x": np.random.default_rng(9).standard_normal((6, 3, 8)).astype(F)}
    mine = judged(onnx.load(target), feeds, 1e-5)
    floats = cnnengine.load(proto).run(None, feeds)
    theirs = peer(target, feeds)
    assert np.abs(mine[0] - theirs[0]).max() <= 0.03
    assert np.abs(mine[0] - floats[0]).max() <= np.abs(theirs[0] - floats[0]).max() * 1.5  # x and states are not quantised
    assert not check(onnx.load(target)).host_nodes


@pytest.mark.parametrize("form", ["QOperator", "QDQ"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_four_bits(tmp_path: Path, form: str, symmetric: bool) -> None:
    """MatMulNBits, or a blocked DequantizeLinear of int4."""
    quantizer = pytest.importorskip("onnxruntime.quantization.matmul_nbits_quantizer")
    b = Net(5)
    y = b.n("MatMul", b.n("Relu", b.n("MatMul", "x", b.w(64, 48, scale=0.2))), b.w(48, 32, scale=0.2))
    proto = b.proto((3, 64), y, 21)
    config = quantizer.DefaultWeightOnlyQuantConfig(
        block_size=16, is_symmetric=symmetric, bits=4, quant_format=quantization.QuantFormat[form]
    )
    done = quantizer.MatMulNBitsQuantizer(proto, algo_config=config)
    done.process()
    path = tmp_path / "quantised.onnx"
    done.model.save_model_to_file(str(path))
    feeds = {"x": np.random.default_rng(9).standard_normal((3, 64)).astype(F)}
    mine = judged(onnx.load(path), feeds, 1e-5)
    for one, other in zip(mine, peer(path, feeds), strict=True):
        assert np.abs(one - other).max() <= 0.02 * np.abs(other).max()


# ---------------------------------------------------------------- other quantisers


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("preset", ["PERFORMANCE", "MIXED"])
def test_nncf(name: str, preset: str) -> None:
    """QDQ with int8 or uint8 activations, weights per channel, and biases of floats."""
    nncf = pytest.importorskip("nncf")
    proto, shape = NETS[name]()
    rng = np.random.default_rng(0)
    samples = nncf.Dataset([{"x": rng.standard_normal(shape).astype(F)} for _ in range(4)])
    done = nncf.quantize(onnx.shape_inference.infer_shapes(proto), samples, subset_size=4, preset=nncf.QuantizationPreset[preset])
    assert "QuantizeLinear" in {n.op_type for n in done.graph.node}
    judged(done, {"x": np.random.default_rng(9).standard_normal(shape).astype(F)}, 0.03)


def _torch_net() -> Any:
    nn = pytest.importorskip("torch").nn

    class Small(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.deep = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.last, self.dense = nn.Conv2d(8, 8, 1), nn.Linear(8, 5)

        def forward(self, x: Any) -> Any:
            y = nn.functional.relu(self.first(x))
            y = self.last(nn.functional.relu6(self.deep(y))) + y
            y = nn.functional.max_pool2d(y, 2)
            return self.dense(nn.functional.adaptive_avg_pool2d(y, 1).flatten(1))

    pytest.importorskip("torch").manual_seed(0)
    return Small().eval()


def test_pt2e(tmp_path: Path) -> None:
    """PyTorch's quantisation of exported graphs, by its exporter to ONNX; its other exporter refuses such graphs."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    pytest.importorskip("torchao")
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    x = torch.randn(1, 3, 16, 16)
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(torch.export.export(_torch_net(), (x,)).module(), quantizer)
    for _ in range(3):
        prepared(torch.randn(1, 3, 16, 16))
    converted = convert_pt2e(prepared)
    path = tmp_path / "pt2e.onnx"
    torch.onnx.export(converted, (x,), path, dynamo=True, verbose=False)
    proto = onnx.load(path)
    assert "QuantizeLinear" in {n.op_type for n in proto.graph.node}
    (y,) = judged(proto, {proto.graph.input[0].name: x.numpy()}, 0.02)
    want = converted(x).detach().numpy()
    assert np.abs(y - want).max() <= 0.02 * np.abs(want).max()


@pytest.mark.parametrize("engine", ["qnnpack", "fbgemm"])
def test_quantised_modules(tmp_path: Path, engine: str) -> None:
    """PyTorch's quantised modules, by its exporter of traces: scales and zero points come out of Constant, Cast and others."""
    torch = pytest.importorskip("torch")
    quantised = pytest.importorskip("torch.ao.quantization")
    if engine not in torch.backends.quantized.supported_engines:
        pytest.skip(f"this PyTorch has no {engine}")
    net = _torch_net()
    net.first, net.deep = torch.nn.Sequential(net.first, torch.nn.ReLU()), torch.nn.Identity()
    sums = torch.ao.nn.quantized.FloatFunctional()

    class Whole(torch.nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.into, self.out, self.net, self.sums = quantised.QuantStub(), quantised.DeQuantStub(), net, sums

        def forward(self, x: Any) -> Any:
            y = self.net.first(self.into(x))
            y = self.sums.add(self.net.last(y), y)
            return self.out(self.net.dense(torch.nn.functional.adaptive_avg_pool2d(y, 1).flatten(1)))

    before, whole = torch.backends.quantized.engine, Whole().eval()
    try:
        torch.backends.quantized.engine = engine
        whole.qconfig = quantised.get_default_qconfig(engine)
        quantised.fuse_modules(whole.net, [["first.0", "first.1"]], inplace=True)
        quantised.prepare(whole, inplace=True)
        for _ in range(3):
            whole(torch.randn(1, 3, 10, 10))
        quantised.convert(whole, inplace=True)
        x = torch.randn(1, 3, 10, 10)
        want = whole(x).numpy()
        path = tmp_path / "modules.onnx"
        torch.onnx.export(whole, (x,), path, dynamo=False, opset_version=17)
    finally:
        torch.backends.quantized.engine = before
    proto = onnx.load(path)
    (y,) = judged(proto, {proto.graph.input[0].name: x.numpy()}, 0.02)
    assert np.abs(y - want).max() <= 0.02 * np.abs(want).max()


# ---------------------------------------------------------------- forms that others write


def _steps(b: Net, scale: Any, zero: Any, dtype: Any) -> tuple[str, str]:
    return b.c(scale, F), b.c(zero, dtype)


def test_as_tf2onnx_writes_tflite(tmp_path: Path) -> None:
    """NHWC between transposes, int8 throughout, weights and int32 biases with scales per channel of their own."""
    b = Net(6)
    by = [_steps(b, scale, zero, np.int8) for scale, zero in ((0.03, -3), (0.05, -128), (0.04, 11), (0.06, 5))]

    def through(x: str, steps: tuple[str, str]) -> str:
        return str(b.n("DequantizeLinear", b.n("QuantizeLinear", x, *steps), *steps))

    def conv(x: str, scale: float, c: int, o: int, k: int, group: int = 1) -> str:
        per = (b.rng.random(o) * 0.01 + 0.002).astype(F)
        w = b.n(
            "DequantizeLinear",
            b.c(b.rng.integers(-127, 128, (o, c // group, k, k)), np.int8),
            b.c(per),
            b.c(np.zeros(o), np.int8),
            axis=0,
        )
        bias = b.n(
            "DequantizeLinear",
            b.c(b.rng.integers(-500, 500, o), np.int32),
            b.c(per * F(scale)),
            b.c(np.zeros(o), np.int32),
            axis=0,
        )
        return str(b.n("Conv", x, w, bias, pads=[k // 2] * 4, group=group))

    x = b.n("Transpose", through("x", by[0]), perm=[0, 3, 1, 2])
    y = through(b.n("Transpose", b.n("Relu", conv(x, 0.03, 3, 8, 3)), perm=[0, 2, 3, 1]), by[1])
    z = through(b.n("Transpose", conv(b.n("Transpose", y, perm=[0, 3, 1, 2]), 0.05, 8, 8, 3, 8), perm=[0, 2, 3, 1]), by[2])
    y = through(b.n("Add", y, z), by[3])
    y = through(b.n("ReduceMean", y, axes=[1, 2], keepdims=0), by[3])
    proto = b.proto((2, 10, 9, 3), y, 13)
    judged(proto, {"x": b.rng.standard_normal((2, 10, 9, 3)).astype(F)}, 0.02)


def test_as_paddle_writes_them() -> None:
    """Weights are floats that the file quantises itself, on axis 0 of Conv and 1 of MatMul; scales are ranges over 127."""
    b = Net(7)
    act = [_steps(b, scale, 0, np.int8) for scale in (3.0 / 127, 4.0 / 127, 2.0 / 127)]

    def through(x: str, steps: tuple[str, str], **attributes: Any) -> str:
        return str(b.n("DequantizeLinear", b.n("QuantizeLinear", x, *steps, **attributes), *steps, **attributes))

    w = b.rng.standard_normal((6, 3, 3, 3)).astype(F)
    by_channel = _steps(b, np.abs(w).max((1, 2, 3)) / 127, np.zeros(6), np.int8)
    y = b.n("Conv", through("x", act[0]), through(b.c(w), by_channel, axis=0), b.w(6), pads=[1] * 4)
    y = b.n("Flatten", through(b.n("Relu", y), act[1]))
    m = b.rng.standard_normal((6 * 5 * 5, 7)).astype(F)
    by_column = _steps(b, np.abs(m).max(0) / 127, np.zeros(7), np.int8)
    y = b.n("Add", b.n("MatMul", y, through(b.c(m), by_column, axis=1)), b.w(7))
    proto = b.proto((2, 3, 5, 5), through(y, act[2]), 13)
    judged(proto, {"x": b.rng.standard_normal((2, 3, 5, 5)).astype(F)}, 0.02)


def test_scales_that_are_inputs_with_defaults() -> None:
    """Before IR version 4 every initializer is an input as well."""
    b = Net(8)
    by = _steps(b, 0.05, 100, np.uint8)
    y = b.n("DequantizeLinear", b.n("QuantizeLinear", "x", *by), *by)
    proto = b.proto((2, 5), b.n("Relu", y), 13)
    proto.ir_version = 3
    for tensor in b.tensors:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    judged(proto, {"x": b.rng.standard_normal((2, 5)).astype(F)}, 1e-6)
