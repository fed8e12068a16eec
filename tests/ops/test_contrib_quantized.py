"""Quantised operators of com.microsoft but for products: models at each instruction set, by 1 and 2 threads, against float64.

What is computed in floats may fall to either side of a half; everything else is the one number that the definition gives. Beside
onnxruntime, where it is installed and has the operator, results are at most a step apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from oracle.quantized import assert_steps, real

import cnnengine
from cnnengine import CNNEngineError, InputError, ModelError, ShapeError
from cnnengine._kernels import dispatch
from cnnengine.report import check

F = np.float32
RNG = np.random.default_rng(8)
TYPES = pytest.mark.parametrize("dtype", [np.uint8, np.int8])
Steps = tuple[np.ndarray, np.ndarray]
"""Scale and zero point."""


def model(
    op: str,
    feeds: Mapping[str, np.ndarray],
    constants: Mapping[str, Any],
    inputs: Sequence[str],
    outputs: Sequence[str] = ("y",),
    **attributes: Any,
) -> onnx.ModelProto:
    node = helper.make_node(op, inputs, outputs, name=op.lower(), domain="com.microsoft", **attributes)
    values = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()]
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    graph = helper.make_graph([node], "g", values, [onnx.ValueInfoProto(name=n) for n in outputs if n], tensors)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def run(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray], host: Sequence[str] = ()) -> np.ndarray:
    """By both readers, at each instruction set, by 1 and 2 threads."""
    found = []
    for isa in dispatch.available_isas():
        with dispatch.use_isa(isa):
            one, two = (cnnengine.load(proto.SerializeToString(), threads=t).run(None, feeds)[0] for t in (1, 2))
        np.testing.assert_array_equal(one, two)
        found.append(one)
    (same,) = cnnengine.load(proto, threads=1).run(None, feeds)
    np.testing.assert_array_equal(same, found[0])
    assert [n.operator for n in check(proto).host_nodes] == list(host)
    return found[0]


def peer(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    (y,) = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, dict(feeds))
    return np.asarray(y)


def alike(mine: np.ndarray, theirs: np.ndarray, steps: int = 1) -> None:
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    assert np.abs(mine.astype(int) - theirs.astype(int)).max(initial=0) <= steps


def values(dtype: Any, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    x = RNG.integers(info.min, info.max + 1, shape)
    flat = x.reshape(-1)
    flat[:2] = (info.min, info.max)[: flat.size]
    return x.astype(dtype)


def steps(dtype: Any, scale: float, zero: int | None = None) -> Steps:
    """A zero point of the type that stands where `zero` does in uint8."""
    at = 0 if zero is None else zero + int(np.iinfo(dtype).min)
    return np.asarray(F(scale)), np.asarray(at, dtype)


ZEROS = pytest.mark.parametrize("zero", [0, 3, 128, 255])


class TestOfOne:
    """Functions of one tensor."""

    def go(
        self,
        op: str,
        x: np.ndarray,
        given: Steps,
        wanted: Steps,
        want: Callable[[np.ndarray], Any],
        theirs: bool = True,
        **attributes: Any,
    ) -> None:
        """`want` gives the real numbers in float64 for those of x."""
        constants = {"xs": given[0], "xz": given[1], "ys": wanted[0], "yz": wanted[1]}
        proto = model(op, {"x": x}, constants, ["x", "xs", "xz", "ys", "yz"], **attributes)
        y = run(proto, {"x": x})
        assert y.dtype == x.dtype
        assert_steps(y, want(real(x, *given)), *wanted)
        if theirs:
            alike(y, peer(proto, {"x": x}))

    @TYPES
    @ZEROS
    def test_sigmoid(self, dtype: Any, zero: int) -> None:
        self.go("QLinearSigmoid", values(dtype, 2, 300), steps(dtype, 0.05, zero), steps(dtype, 1 / 256, 0), oracle.sigmoid)

    @TYPES
    @ZEROS
    @pytest.mark.parametrize("alpha", [None, 0.3, -0.5])
    def test_leaky_relu(self, dtype: Any, zero: int, alpha: float | None) -> None:
        given = {} if alpha is None else {"alpha": alpha}
        slope = F(0.01 if alpha is None else alpha)
        want = lambda x: np.where(x < 0, np.float64(slope) * x, x)  # noqa: E731
        self.go("QLinearLeakyRelu", values(dtype, 3, 5, 20), steps(dtype, 0.05, zero), steps(dtype, 0.04, 100), want, **given)

    @TYPES
    @pytest.mark.parametrize(("opset", "axis"), [(13, None), (13, -1), (13, 1), (17, 2), (12, 1), (11, 2), (12, None), (9, 0)])
    def test_softmax(self, dtype: Any, opset: int, axis: int | None) -> None:
        """Before opset 13 all axes from `axis` on are one."""
        x = values(dtype, 2, 3, 7)
        at = -1 if axis is None else axis

        def want(x: np.ndarray) -> np.ndarray:
            if opset >= 13:
                return np.asarray(oracle.softmax(x, axis=at))
            rows = x.reshape(int(np.prod(x.shape[: at % 3])), -1)
            return np.asarray(oracle.softmax(rows, axis=1)).reshape(x.shape)

        given = {"opset": opset} if axis is None else {"opset": opset, "axis": axis}
        self.go("QLinearSoftmax", x, steps(dtype, 0.02, 128), steps(dtype, 1 / 256, 0), want, **given)

    @TYPES
    @pytest.mark.parametrize(("axes", "keepdims"), [([2, 3], 1), ([2, 3], 0), ([-1], 1), ([0, 1, 2, 3], 0)])
    def test_reduce_mean(self, dtype: Any, axes: list[int], keepdims: int) -> None:
        want = lambda x: x.mean(tuple(axes), keepdims=bool(keepdims))  # noqa: E731
        x = values(dtype, 2, 3, 5, 7)
        self.go(  # onnxruntime has a schema of it alone
            "QLinearReduceMean", x, steps(dtype, 0.05, 100), steps(dtype, 0.01, 128), want, False, axes=axes, keepdims=keepdims
        )

    @TYPES
    @pytest.mark.parametrize("last", [0, 1])
    @pytest.mark.parametrize("given", [
        {"kernel_shape": [3, 2]},
        {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "strides": [2, 1]},
        {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "count_include_pad": 1},
        {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER"},
    ])  # fmt: skip
    def test_average_pool(self, dtype: Any, last: int, given: dict[str, Any]) -> None:
        x = values(dtype, 2, 5, 7, 9)
        kind = {"kernel": given["kernel_shape"], "stride": tuple(given.get("strides", [1, 1]))}

        def want(x: np.ndarray) -> np.ndarray:
            y = oracle.avg_pool(
                np.moveaxis(x, -1, 1) if last else x, kind["kernel"], stride=kind["stride"],
                pads=tuple(given.get("pads", [0] * 4)), ceil_mode=bool(given.get("ceil_mode")),
                count_include_pad=bool(given.get("count_include_pad")),
                auto_pad=given.get("auto_pad", "NOTSET"),
            )  # fmt: skip
            return np.asarray(np.moveaxis(y, 1, -1) if last else y)

        x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x
        self.go("QLinearAveragePool", x, steps(dtype, 0.05, 77), steps(dtype, 0.04, 90), want, channels_last=last, **given)

    @TYPES
    @pytest.mark.parametrize("last", [0, 1])
    @pytest.mark.parametrize("spatial", [(7, 9), (1, 1), (13,), (3, 4, 5)])
    def test_global_average_pool(self, dtype: Any, last: int, spatial: tuple[int, ...]) -> None:
        x = values(dtype, 2, 5, *spatial)
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x
        axes = tuple(range(1, 1 + len(spatial))) if last else tuple(range(2, 2 + len(spatial)))
        want = lambda x: x.mean(axes, keepdims=True)  # noqa: E731
        given = steps(dtype, 0.05, 77), steps(dtype, 0.011, 128)
        self.go("QLinearGlobalAveragePool", x, *given, want, len(spatial) == 2, channels_last=last)

    @TYPES
    def test_without_zero_points(self, dtype: Any) -> None:
        """They are 0, and the result has the type of x. (onnxruntime ends the process where the first one is absent.)"""
        x = values(dtype, 50)
        proto = model("QLinearLeakyRelu", {"x": x}, {"xs": F(0.5), "ys": F(0.25)}, ["x", "xs", "", "ys"], alpha=0.5)
        y = run(proto, {"x": x})
        assert y.dtype == dtype
        r = x.astype(float)
        assert_steps(y, np.where(r < 0, r / 4, r / 2), F(0.25), 0)


@st.composite
def pairs(draw: Any) -> tuple[Any, ...]:
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    other = tuple(draw(st.sampled_from([n, 1])) for n in shape)[draw(st.integers(0, len(shape) - 1)) :]
    swap, dtype = draw(st.booleans()), draw(st.sampled_from([np.uint8, np.int8]))
    zeros = [draw(st.sampled_from([0, 1, 128, 255])) for _ in range(3)]
    scales = [draw(st.sampled_from([0.001, 0.02, 0.11, 3.7])) for _ in range(3)]
    return (other, shape) if swap else (shape, other), dtype, zeros, scales, draw(st.integers(0, 999))


class TestOfSeveral:
    @pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
    @settings(max_examples=60)
    @given(pairs())
    def test_two(self, op: str, case: Any) -> None:
        shapes, dtype, zeros, scales, seed = case
        rng = np.random.default_rng(seed)
        info = np.iinfo(dtype)
        a, b = (rng.integers(info.min, info.max + 1, shape).astype(dtype) for shape in shapes)
        one, two, out = (steps(dtype, s, z) for s, z in zip(scales, zeros, strict=True))
        constants = {"as": one[0], "az": one[1], "bs": two[0], "bz": two[1], "ys": out[0], "yz": out[1]}
        proto = model(op, {"a": a, "b": b}, constants, ["a", "as", "az", "b", "bs", "bz", "ys", "yz"])
        feeds = {"a": a, "b": b}
        y = run(proto, feeds)
        left, right = real(a, *one), real(b, *two)
        assert_steps(y, left + right if op == "QLinearAdd" else left * right, *out)
        alike(y, peer(proto, feeds))

    @pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
    @TYPES
    def test_one_is_a_constant(self, op: str, dtype: Any) -> None:
        a, b = values(dtype, 2, 5, 6), values(dtype, 5, 1)
        constants = {"b": b, "as": F(0.1), "az": steps(dtype, 1, 9)[1], "bs": F(0.2), "ys": F(0.3)}
        proto = model(op, {"a": a}, constants, ["a", "as", "az", "b", "bs", "", "ys"])
        y = run(proto, {"a": a})
        left, right = real(a, F(0.1), constants["az"]), real(b, F(0.2), 0)
        assert_steps(y, left + right if op == "QLinearAdd" else left * right, F(0.3), 0)

    @TYPES
    @pytest.mark.parametrize(("x_shape", "y_shape", "flags"), [
        ((3, 4), (3, 4), (3, 4)), ((3, 4), (4,), (3, 1)), ((1,), (2, 3, 4), (4,)), ((5,), (1,), (2, 5)), ((3, 1), (1, 4), ()),
    ])  # fmt: skip
    def test_where(self, dtype: Any, x_shape: Any, y_shape: Any, flags: Any) -> None:
        x, y, c = values(dtype, *x_shape), values(dtype, *y_shape), RNG.random(flags) < 0.5
        one, two, out = steps(dtype, 0.1, 3), steps(dtype, 0.07, 200), steps(dtype, 0.12, 128)
        constants = {"xs": one[0], "xz": one[1], "ys": two[0], "yz": two[1], "zs": out[0], "zz": out[1]}
        feeds = {"c": np.asarray(c), "x": x, "y": y}
        proto = model("QLinearWhere", feeds, constants, ["c", "x", "xs", "xz", "y", "ys", "yz", "zs", "zz"], ["z"])
        z = run(proto, feeds)
        assert_steps(z, np.where(c, real(x, *one), real(y, *two)), *out)
        alike(z, peer(proto, feeds))

    @TYPES
    @pytest.mark.parametrize("axis", [0, 1, -1])
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_concat(self, dtype: Any, axis: int, count: int) -> None:
        shapes = [tuple(2 + i if j == axis % 3 else n for j, n in enumerate((2, 3, 4))) for i in range(count)]
        tensors = {f"x{i}": values(dtype, *shape) for i, shape in enumerate(shapes)}
        own = [steps(dtype, 0.05 * (i + 1), 40 * i) for i in range(count)]
        out = steps(dtype, 0.1, 100)
        constants = {"ys": out[0], "yz": out[1]} | {f"{k}{i}": v for i, o in enumerate(own) for k, v in zip("sz", o, strict=True)}
        inputs = ["ys", "yz", *(name for i in range(count) for name in (f"x{i}", f"s{i}", f"z{i}"))]
        proto = model("QLinearConcat", tensors, constants, inputs, axis=axis)
        y = run(proto, tensors)
        want = np.concatenate([real(x, *o) for x, o in zip(tensors.values(), own, strict=True)], axis)
        assert_steps(y, want, *out)
        alike(y, peer(proto, tensors))


class TestToAndFrom:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
    @pytest.mark.parametrize("axis", [None, 0, 1])
    def test_there_and_back(self, dtype: Any, axis: int | None) -> None:
        x = (RNG.standard_normal((3, 4, 5)) * 40).astype(F)
        x[0, 0, :3] = (np.inf, -1e9, np.nan)
        n = () if axis is None else (x.shape[axis],)
        scale = np.asarray(RNG.random(n) * 0.1 + 0.3, F)
        zero = np.asarray(RNG.integers(0, 100, n), dtype)
        given = {} if axis is None else {"axis": axis}
        wide = np.dtype(dtype).itemsize > 1
        q = run(model("QuantizeLinear", {"x": x}, {"s": scale, "z": zero}, ["x", "s", "z"], **given), {"x": x},
                ["QuantizeLinear"] if wide else [])  # fmt: skip
        shape = [-1 if i == axis else 1 for i in range(3)]
        s, z = (v.reshape(shape) if axis is not None else v for v in (scale, zero))
        with np.errstate(all="ignore"):
            rounded = np.nan_to_num(np.rint(x / s), nan=0.0, posinf=1e9, neginf=-1e9)
        info = np.iinfo(dtype)
        np.testing.assert_array_equal(q, np.clip(rounded + z.astype(int), info.min, info.max))
        assert q.dtype == dtype
        proto = model("DequantizeLinear", {"q": q}, {"s": scale, "z": zero}, ["q", "s", "z"], **given)
        back = run(proto, {"q": q}, ["DequantizeLinear"] if wide else [])
        np.testing.assert_array_equal(back, (q.astype(int) - z.astype(int)).astype(F) * s)

    def test_without_a_zero_point(self) -> None:
        x = np.float32([-1, 0.5, 1.5, 300])
        assert run(model("QuantizeLinear", {"x": x}, {"s": F(1)}, ["x", "s"]), {"x": x}).tolist() == [0, 0, 2, 255]
        q = np.int8([-3, 2])
        assert run(model("DequantizeLinear", {"q": q}, {"s": F(0.5)}, ["q", "s"]), {"q": q}).tolist() == [-1.5, 1]


class TestRecurrent:
    @pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
    @pytest.mark.parametrize("per_channel", [False, True])
    @TYPES
    def test_dynamic_quantize_lstm(self, direction: str, per_channel: bool, dtype: Any) -> None:
        steps_, batch, size, hidden = 5, 2, 6, 4
        d = 2 if direction == "bidirectional" else 1
        x = RNG.standard_normal((steps_, batch, size)).astype(F)
        w, r = values(dtype, d, size, 4 * hidden), values(dtype, d, hidden, 4 * hidden)
        shape = (d, 4 * hidden) if per_channel else (d,)
        ws, rs = ((RNG.random(shape) * 0.004 + 0.001).astype(F) for _ in range(2))
        wz, rz = (np.full(shape, 0 if dtype is np.int8 else 128, dtype) for _ in range(2))
        b = (RNG.standard_normal((d, 8 * hidden)) * 0.1).astype(F)
        h0, c0 = (RNG.standard_normal((d, batch, hidden)).astype(F) for _ in range(2))
        p = (RNG.standard_normal((d, 3 * hidden)) * 0.1).astype(F)
        lengths = np.array([5, 3], np.int32)
        constants = {"w": w, "r": r, "b": b, "n": lengths, "h": h0, "c": c0, "p": p, "ws": ws, "wz": wz, "rs": rs, "rz": rz}
        inputs = ["x", "w", "r", "b", "n", "h", "c", "p", "ws", "wz", "rs", "rz"]
        given = {"direction": direction, "hidden_size": hidden, "clip": 2.5}
        proto = model("DynamicQuantizeLSTM", {"x": x}, constants, inputs, ["y", "yh", "yc"], **given)
        got = cnnengine.load(proto, threads=1).run(None, {"x": x})
        assert not check(proto).host_nodes

        def floats(q: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
            full = [v.reshape(d, 1, -1) for v in (scale, zero.astype(int))]
            return np.ascontiguousarray(((q.astype(int) - full[1]) * full[0].astype(np.float64)).swapaxes(1, 2).astype(F))

        plain = helper.make_node("LSTM", ["x", "w", "r", "b", "n", "h", "c", "p"], ["y", "yh", "yc"], **given)
        proto.graph.node[0].CopyFrom(plain)
        for tensor in proto.graph.initializer:
            if tensor.name in "wr":
                q = (w, ws, wz) if tensor.name == "w" else (r, rs, rz)
                tensor.CopyFrom(numpy_helper.from_array(floats(*q), tensor.name))
        for mine, want in zip(got, cnnengine.load(proto, threads=1).run(None, {"x": x}), strict=True):
            np.testing.assert_allclose(mine, want, rtol=1e-5, atol=1e-5)

    def test_beside_onnxruntime(self) -> None:
        """It quantises x and the states too: what comes is a few of their steps apart. It adds up weights of 7 bits."""
        x = RNG.standard_normal((4, 1, 8)).astype(F)
        w, r = values(np.int8, 1, 8, 16) // 2, values(np.int8, 1, 4, 16) // 2
        constants = {"w": w, "r": r, "ws": np.full(1, 0.003, F), "wz": np.zeros(1, np.int8)}
        constants |= {"rs": np.full(1, 0.004, F), "rz": np.zeros(1, np.int8)}
        inputs = ["x", "w", "r", "", "", "", "", "", "ws", "wz", "rs", "rz"]
        proto = model("DynamicQuantizeLSTM", {"x": x}, constants, inputs, hidden_size=4)
        (mine,) = cnnengine.load(proto, threads=1).run(None, {"x": x})
        assert np.abs(mine - peer(proto, {"x": x})).max() < 0.02

    def test_refusals(self) -> None:
        x = RNG.standard_normal((4, 1, 8)).astype(F)
        good = {"w": values(np.int8, 1, 8, 16), "r": values(np.int8, 1, 4, 16), "ws": np.full(1, 0.003, F)}
        good |= {"wz": np.zeros(1, np.int8), "rs": np.full(1, 0.004, F), "rz": np.zeros(1, np.int8)}
        inputs = ["x", "w", "r", "", "", "", "", "", "ws", "wz", "rs", "rz"]
        for change, error, text in (
            ({"ws": np.full(3, 0.1, F)}, ShapeError, "ws.*one number per direction"),
            ({"rz": np.zeros((1, 4), np.int8)}, ShapeError, "rz.*one number per direction"),
            ({"ws": np.zeros(1, F)}, InputError, "ws.*positive"),
            ({"wz": np.zeros(1, np.uint8)}, InputError, "wz.*another type"),
            ({"w": values(np.int8, 8, 16)}, InputError, "dtype or rank"),
            ({"w": values(np.int8, 1, 7, 16)}, ShapeError, "wrong shape"),
        ):
            with pytest.raises(error, match=text):
                cnnengine.load(model("DynamicQuantizeLSTM", {"x": x}, {**good, **change}, inputs, hidden_size=4))


def test_refusals() -> None:
    x, one = values(np.uint8, 2, 3), {"s": F(1), "z": np.uint8(0)}
    for op, inputs, attributes, error, text in (
        ("QLinearConcat", ["s", "z", "x", "s"], {"axis": 0}, ModelError, "a scale and a zero point each"),
        ("QLinearConcat", ["s", "z", "x", "s", ""], {"axis": 0}, ModelError, "a scale and a zero point each"),
        ("QLinearSoftmax", ["x", "s", "z", "s", "z"], {}, ModelError, "required attribute"),
        ("QLinearAveragePool", ["x", "s", "z", "s", "z"], {"kernel_shape": [2, 2]}, ShapeError, "axes|rank|kernel"),
        ("QLinearSigmoid", ["x", "s", "z"], {}, ModelError, "wrong number of inputs"),
    ):
        with pytest.raises(error, match=text) as caught:
            cnnengine.load(model(op, {"x": x}, one, inputs, **attributes))
        assert isinstance(caught.value, CNNEngineError) and "node" in str(caught.value)


@pytest.mark.parametrize("op", ["QAttention", "QEmbedLayerNormalization", "QOrderedMatMul", "QMoE", "MatMulBnb4", "MulInteger"])
def test_what_is_not_here_is_refused_by_name(op: str) -> None:
    x = values(np.uint8, 2, 3)
    with pytest.raises(cnnengine.UnsupportedOperatorError, match=op):
        cnnengine.load(model(op, {"x": x}, {"s": F(1)}, ["x", "s"]))
