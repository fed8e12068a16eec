"""Products and means of quantised numbers as files have them: one kernel each, bit for bit their definition."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine.model import inside
from cnnengine.ops.pool import AveragePool
from cnnengine.ops.quantized_dense import QuantizedDense
from cnnengine.ops.quantized_pool import QuantizedAveragePool, QuantizedGlobalAveragePool
from cnnengine.spec import TensorSpec

U8, S8, F32, I32 = np.uint8, np.int8, np.float32, np.int32
RNG = np.random.default_rng(7)


class File:
    """A model as a file."""

    def __init__(self, **feeds: np.ndarray) -> None:
        self.feeds = feeds
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def c(self, value: Any, dtype: Any = F32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def n(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"v{len(self.nodes)}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"{kind} {len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def proto(self, *outputs: str) -> onnx.ModelProto:
        inputs = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in self.feeds.items()
        ]
        constants = [numpy_helper.from_array(v, n) for n, v in self.constants.items()]
        results = [onnx.ValueInfoProto(name=n) for n in outputs]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        graph = helper.make_graph(self.nodes, "file", inputs, results, constants)
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def run(self, *outputs: str, threads: int = 1, only: str = "") -> list[np.ndarray]:
        """The outputs; `only`: the kernels that run, with spaces between."""
        model = cnnengine.load(self.proto(*outputs), threads=threads)
        results = model.run(None, self.feeds)
        if only:
            assert kernels(model, self.feeds) == only.split()
        return results


def kernels(model: cnnengine.Model, feeds: dict[str, np.ndarray]) -> list[str]:
    """The kernels that run, in order, without variants."""
    return [report.kernel.partition("[")[0].split()[0] for report in inside(model).program.segment(0, dict(feeds)).plan.reports]


def bytes_of(*shape: int, dtype: Any = U8) -> np.ndarray:
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max + 1, shape).astype(dtype)


def requantised(sums: np.ndarray, ratio: Any, zero: int, dtype: Any, low: float = -np.inf, high: float = np.inf) -> np.ndarray:
    limits = np.iinfo(dtype)
    steps = np.rint(sums.astype(F32) * np.asarray(ratio, F32)).astype(np.float64)
    return np.clip(np.clip(steps, low, high) + zero, limits.min, limits.max).astype(dtype)


def exact(x: np.ndarray, w: np.ndarray, x_zero: int = 0, w_zero: Any = 0) -> np.ndarray:
    return np.asarray((x.astype(np.int64) - x_zero) @ (w.astype(np.int64) - w_zero))


# ---------------------------------------------------------------- QLinearMatMul and QGemm

SIGNS = [(U8, S8, U8), (S8, S8, S8), (U8, U8, S8), (S8, U8, U8)]


@pytest.mark.parametrize("types", SIGNS)
@pytest.mark.parametrize("shape", [(3, 40), (1, 64), (2, 5, 33), (70,)])
@pytest.mark.parametrize("columns", [False, True])
def test_qlinear_matmul(types: Any, shape: tuple[int, ...], columns: bool, isa: str, threads: int) -> None:
    a, b, y = types
    n = 37
    x, w = bytes_of(*shape, dtype=a), bytes_of(shape[-1], n, dtype=b)
    scale = RNG.uniform(0.01, 0.02, n).astype(F32) if columns else F32(0.013)
    zero = RNG.integers(0, 9, n).astype(b) if columns else b(5)
    f = File(x=x)
    f.constants["w"] = w
    z = f.n("QLinearMatMul", "x", f.c(0.02), f.c(11, a), "w", f.c(scale), f.c(zero, b), f.c(0.9), f.c(3, y))
    got = f.run(z, threads=threads)[0]
    want = requantised(exact(x, w, 11, zero), F32(0.02) * scale / F32(0.9), 3, y)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("floats", [False, True])
def test_qgemm(turned: int, floats: bool, isa: str) -> None:
    x, w = bytes_of(4, 50), bytes_of(50, 33, dtype=S8)
    units = RNG.integers(-9999, 9999, 33).astype(I32)
    f = File(x=x)
    f.constants["w"] = np.ascontiguousarray(w.T) if turned else w
    scale = RNG.uniform(0.01, 0.02, 33).astype(F32)
    names = ["x", f.c(0.02), f.c(100, U8), "w", f.c(scale), f.c(np.zeros(33), S8), f.c(units, I32)]
    names += [] if floats else [f.c(0.7), f.c(9, U8)]
    y = f.n("QGemm", *names, domain="com.microsoft", transB=turned, alpha=2.0)
    got = f.run(y, only="qdense")[0]
    sums = exact(x, w, 100) + units
    ratio = F32(2) * F32(0.02) * scale
    np.testing.assert_array_equal(got, sums.astype(F32) * ratio if floats else requantised(sums, ratio / F32(0.7), 9, U8))


# ---------------------------------------------------------------- between DequantizeLinear and QuantizeLinear


@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("end", ["", "Relu"])
def test_between(kind: str, signed: bool, end: str, isa: str, threads: int) -> None:
    t = S8 if signed else U8
    x, w = bytes_of(5, 45, dtype=t), bytes_of(45, 70, dtype=S8)
    scale = RNG.uniform(0.01, 0.02, 70).astype(F32)
    units = RNG.integers(-999, 999, 70).astype(I32)
    f = File(x=x)
    f.constants["w"] = w
    left = f.n("DequantizeLinear", "x", f.c(0.02), f.c(11, t))
    right = f.n("DequantizeLinear", "w", f.c(scale), axis=1)
    bias = f.n("DequantizeLinear", f.c(units, I32), f.c(F32(0.02) * scale), axis=0)
    y = f.n("Gemm", left, right, bias) if kind == "Gemm" else f.n("Add", f.n("MatMul", left, right), bias)
    y = f.n(end, y) if end else y
    quantised = f.n("QuantizeLinear", y, f.c(0.5), f.c(-3 if signed else 3, t))
    got = f.run(quantised, threads=threads)[0]
    sums = exact(x, w, 11) + units
    want = requantised(sums, F32(0.02) * scale / F32(0.5), -3 if signed else 3, t, 0 if end else -np.inf)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(
        f.run(y, threads=threads)[0], np.maximum(sums.astype(F32) * (F32(0.02) * scale), 0 if end else -np.inf)
    )


def test_only_integers_run() -> None:
    """A perceptron of two layers: one kernel a layer, and those that quantise and dequantise."""
    f = File(x=RNG.standard_normal((2, 40)).astype(F32))
    y = "x"
    for k, n in ((40, 30), (30, 10)):
        y = f.n("DequantizeLinear", f.n("QuantizeLinear", y, f.c(0.03), f.c(128, U8)), *list(f.constants)[-2:])
        w = f.n("DequantizeLinear", f.c(bytes_of(k, n, dtype=S8), S8), f.c(0.01))
        y = f.n("Relu", f.n("Gemm", y, w, f.c(RNG.standard_normal(n))))
    y = f.n("QuantizeLinear", y, f.c(0.1), f.c(0, U8))
    f.run(f.n("DequantizeLinear", y, *list(f.constants)[-2:]), only="quantize qdense qdense dequantize")


@pytest.mark.parametrize("batch", [((2, 3), (2, 3)), ((), ()), ((2,), ()), ((1,), (1,))])
@pytest.mark.parametrize("t", [U8, S8])
def test_two_results(batch: Any, t: Any, isa: str, threads: int) -> None:
    a, b = bytes_of(*batch[0], 9, 20, dtype=t), bytes_of(*batch[1], 20, 35, dtype=t)
    f = File(a=a, b=b)
    left = f.n("DequantizeLinear", "a", f.c(0.02), f.c(11, t))
    right = f.n("DequantizeLinear", "b", f.c(0.05), f.c(-7 if t == S8 else 130, t))
    y = f.n("QuantizeLinear", f.n("MatMul", left, right), f.c(0.5), f.c(3, t))
    got = f.run(y, threads=threads)[0]
    want = requantised(exact(a, b, 11, -7 if t == S8 else 130), F32(0.02) * F32(0.05) / F32(0.5), 3, t)
    np.testing.assert_array_equal(got, want)


# ---------------------------------------------------------------- MatMulInteger


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 7])
def test_dynamic(known: bool, bias: bool, rows: int, isa: str, threads: int) -> None:
    """One kernel, with the scale and zero point that were just found."""
    feeds = {"x": RNG.standard_normal((2, rows, 40)).astype(F32)}
    w = bytes_of(40, 35, dtype=S8)
    f = File(**feeds) if known else File(**feeds, b=RNG.standard_normal((2, 40, 35)).astype(F32))
    x, x_scale, x_zero = f.n("DynamicQuantizeLinear", "x", outputs=3)
    right: tuple[str, ...] = ("w", f.c(0.02), f.c(-4, S8))
    if known:
        f.constants["w"] = w
    else:
        right = tuple(f.n("DynamicQuantizeLinear", "b", outputs=3))
    sums = f.n("MatMulInteger", x, right[0], x_zero, right[2])
    y = f.n("Mul", f.n("Cast", sums, to=TensorProto.FLOAT), f.n("Mul", x_scale, right[1]))
    added = RNG.standard_normal(35).astype(F32)
    y = f.n("Add", y, f.c(added)) if bias else y
    got, *parts = f.run(y, x, x_scale, x_zero, *(() if known else right), threads=threads)
    q, scale, zero = parts[:3]
    other, w_scale, w_zero = (w, F32(0.02), -4) if known else parts[3:]
    want = exact(q, other, int(zero), int(w_zero)).astype(F32) * (scale * w_scale)
    if (bias and known) or bias:
        want = want + added
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("types", [(U8, S8), (S8, S8), (S8, U8), (U8, U8)])
@pytest.mark.parametrize("known", [False, True])
def test_sums(types: Any, known: bool, isa: str, threads: int) -> None:
    a, b = types
    x, w = bytes_of(6, 50, dtype=a), bytes_of(50, 33, dtype=b)
    f = File(x=x) if known else File(x=x, w=w)
    if known:
        f.constants["w"] = w
    y = f.n("MatMulInteger", "x", "w", f.c(3, a), f.c(7, b))
    np.testing.assert_array_equal(f.run(y, threads=threads)[0], exact(x, w, 3, 7).astype(I32))


def test_sums_wrap_around_where_onnx_has_them_and_only_there() -> None:
    x, w = np.full((1, 70000), 255, U8), np.full((70000, 2), 127, S8)
    f = File(x=x)
    f.constants["w"] = w
    y = f.n("MatMulInteger", "x", "w")
    np.testing.assert_array_equal(f.run(y)[0], exact(x, w).astype(I32))
    f = File(x=x)
    f.constants["w"] = w
    y = f.n("QLinearMatMul", "x", f.c(1), f.c(0, U8), "w", f.c(1), f.c(0, S8), f.c(2**24), f.c(0, U8))
    np.testing.assert_array_equal(f.run(y)[0], requantised(exact(x, w), 2.0**-24, 0, U8))
    assert f.run(y)[0].min() > 128


# ---------------------------------------------------------------- pools


@pytest.mark.parametrize("t", [U8, S8])
@pytest.mark.parametrize("kind", ["AveragePool", "GlobalAveragePool", "ReduceMean", "flat ReduceMean"])
def test_means(t: Any, kind: str, isa: str, threads: int) -> None:
    x = bytes_of(2, 19, 9, 10, dtype=t)
    f = File(x=x)
    left = f.n("DequantizeLinear", "x", f.c(0.02), f.c(11, t))
    if kind == "AveragePool":
        y = f.n(kind, left, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    elif kind == "GlobalAveragePool":
        y = f.n(kind, left)
    else:
        y = f.n("ReduceMean", left, axes=[2, 3], keepdims=int("flat" not in kind))
    got = f.run(f.n("QuantizeLinear", y, f.c(0.011), f.c(5, t)), threads=threads)[0]
    move = 128 if t == S8 else 0
    wide = (x.astype(np.int64) + move).astype(U8)
    if kind == "AveragePool":
        pool = AveragePool((3, 3), (2, 2), (1, 1, 1, 1))
        want = QuantizedAveragePool(0.02, 11 + move, 0.011, 5 + move, pool).reference(wide)[0]
    else:
        want = QuantizedGlobalAveragePool(0.02, 11 + move, 0.011, 5 + move).reference(wide)[0]
    np.testing.assert_array_equal(got, (want.astype(np.int64) - move).astype(t).reshape(got.shape))


def test_a_mean_is_what_its_formula_says() -> None:
    x = bytes_of(1, 3, 4, 5)
    got = QuantizedGlobalAveragePool(0.02, 100, 0.3, 7).reference(x)[0]
    sums = (x.astype(np.int64) - 100).sum(axis=(2, 3), keepdims=True).astype(F32)
    np.testing.assert_array_equal(got, np.clip(np.rint(sums * (F32(0.02) / F32(0.3)) / F32(20)) + 7, 0, 255))


@pytest.mark.parametrize("t", [U8, S8])
def test_max_pool(t: Any, isa: str, threads: int) -> None:
    x = bytes_of(2, 19, 9, 10, dtype=t)
    f = File(x=x)
    got = f.run(f.n("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), threads=threads)[0]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=np.iinfo(t).min)
    want = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3)).max(axis=(4, 5))[:, :, ::2, ::2]
    np.testing.assert_array_equal(got, want)


def test_inference_of_wrong_types() -> None:
    u8, f32 = (TensorSpec(np.dtype(t), (1, 2, 3, 3)) for t in (U8, F32))
    with pytest.raises(cnnengine.InputError, match=r"QuantizedGlobalAveragePool.*expected uint8.*received float32"):
        QuantizedGlobalAveragePool(1, 0, 1, 0).infer([f32])
    with pytest.raises(cnnengine.InputError, match=r"QuantizedDense.*x.*received float32"):
        QuantizedDense().infer([f32, u8])
    with pytest.raises(cnnengine.ShapeError):
        QuantizedDense().infer([TensorSpec(np.dtype(U8), (2, 5)), TensorSpec(np.dtype(S8), (4, 3))])


# ---------------------------------------------------------------- memory

LARGE = """
import resource, sys
import numpy as np
import cnnengine
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = cnnengine.load(sys.argv[1])
model.run(None, {"x": np.ones((1, 4096), np.uint8)})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_weights_take_a_byte_each(tmp_path: Path) -> None:
    """A layer of 64 MB of weights is loaded and run in little more than the file, mapped, and its packed copy."""
    assert resource.RUSAGE_SELF == 0
    f = File(x=np.zeros((1, 4096), U8))
    f.constants["w"] = bytes_of(4096, 16384, dtype=S8)
    left = f.n("DequantizeLinear", "x", f.c(0.02), f.c(11, U8))
    right = f.n("DequantizeLinear", "w", f.c(0.01))
    path = tmp_path / "large.onnx"
    onnx.save(f.proto(f.n("QuantizeLinear", f.n("MatMul", left, right), f.c(0.5), f.c(3, U8))), path)
    done = subprocess.run([sys.executable, "-c", LARGE, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2.5 * 4096 * 16384, f"{int(done.stdout) / 2**20:.0f} MB"
