"""Convolutions and products of integers: models at each instruction set and by 1 and 2 threads, bit for bit as the oracle.

Beside onnxruntime where it is installed: it scales in another order, so that a result may be a step apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from oracle import quantized as oracle

import cnnengine
from cnnengine import ModelError
from cnnengine._kernels import dispatch

F = np.float32
LAST_BIT = 2.0**-22
Values = Mapping[str, Any]


def model(
    op: str, feeds: Values, constants: Values, inputs: Sequence[str], domain: str = "", **attributes: Any
) -> onnx.ModelProto:
    node = helper.make_node(op, inputs, ["y"], name=op.lower(), domain=domain, **attributes)
    values = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()]
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    graph = helper.make_graph([node], "g", values, [onnx.ValueInfoProto(name="y")], tensors)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def run(proto: onnx.ModelProto, feeds: Values) -> np.ndarray:
    """At each instruction set, by 1 and 2 threads: the results are the same bits, floats but for the last one."""
    found: list[np.ndarray] = []
    for isa in dispatch.available_isas():
        with dispatch.use_isa(isa):
            one, two = (cnnengine.load(proto, threads=t).run(None, feeds)[0] for t in (1, 2))
        np.testing.assert_array_equal(one, two)
        if found and one.dtype.kind == "f":
            np.testing.assert_allclose(one, found[0], rtol=LAST_BIT, atol=LAST_BIT * np.abs(one).max(initial=0))
        elif found:
            np.testing.assert_array_equal(one, found[0])
        found.append(one)
    return found[0]


def peer(proto: onnx.ModelProto, feeds: Values) -> np.ndarray:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    (y,) = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, dict(feeds))
    return np.asarray(y)


def full(dtype: Any, rng: np.random.Generator, *shape: int) -> np.ndarray:
    """All of the type's values, the extremes more often than the others."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    values = rng.integers(low, high + 1, shape)
    values = np.where(rng.random(shape) < 0.2, low, values)
    return np.asarray(np.where(rng.random(shape) < 0.2, high, values)).astype(dtype)


def zero_of(dtype: Any, place: str, rng: np.random.Generator, n: int = 0) -> np.ndarray:
    """A zero point at one end, in the middle or anywhere."""
    info = np.iinfo(dtype)
    ends = {"low": info.min, "high": info.max, "middle": (int(info.min) + int(info.max) + 1) // 2}
    shape = (n,) if n else ()
    value = rng.integers(info.min, info.max + 1, shape) if place == "any" else np.full(shape, ends[place])
    return np.asarray(value).astype(dtype)


def in_seven_bits(w: np.ndarray) -> np.ndarray:
    """int8 that onnxruntime multiplies exactly: without VNNI it adds two products in 16 bits, which saturate."""
    return w if w.dtype == np.uint8 else np.asarray(w // 2)


DTYPES = st.sampled_from([np.uint8, np.int8])
PLACES = st.sampled_from(["low", "high", "middle", "any"])


@st.composite
def convolutions(draw: Any) -> dict[str, Any]:
    rank = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    extents = [draw(st.integers(3, 7)) for _ in range(rank)]
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    dilation = [draw(st.integers(1, 2)) if auto == "NOTSET" else 1 for _ in range(rank)]
    pads = [draw(st.integers(0, 2)) if auto == "NOTSET" else 0 for _ in range(2 * rank)]
    for i in range(rank):  # a window that fits
        extents[i] = max(extents[i], dilation[i] * (kernel[i] - 1) + 1)
    return {
        "x": (draw(st.integers(1, 2)), groups * draw(st.integers(1, 9)), *extents),
        "out": groups * draw(st.integers(1, 5)), "kernel": kernel, "stride": [draw(st.integers(1, 2)) for _ in range(rank)],
        "dilation": dilation, "pads": pads, "groups": groups, "auto_pad": auto,
        "types": (draw(DTYPES), draw(DTYPES), draw(DTYPES)), "zeros": (draw(PLACES), draw(PLACES), draw(PLACES)),
        "per_channel": draw(st.booleans()),
        "zero_per_channel": draw(st.booleans()), "bias": draw(st.booleans()), "constant": draw(st.booleans()),
        "seed": draw(st.integers(0, 9999)), "wide": draw(st.sampled_from([0.5, 1.0, 30.0])),
    }  # fmt: skip


def operands(case: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], np.ndarray]:
    """Attributes, operands by name, and the sums."""
    rng = np.random.default_rng(case["seed"])
    x_type, w_type, y_type = case["types"]
    x = full(x_type, rng, *case["x"])
    w = full(w_type, rng, case["out"], x.shape[1] // case["groups"], *case["kernel"])
    x_zero, y_zero = zero_of(x_type, case["zeros"][0], rng), zero_of(y_type, case["zeros"][2], rng)
    w_zero = zero_of(w_type, case["zeros"][1], rng, case["out"] if case["zero_per_channel"] else 0)
    geometry = {k: case[k] for k in ("stride", "dilation", "pads", "groups", "auto_pad")}
    sums = oracle.conv_sums(x, x_zero, w, w_zero, **geometry)
    attributes = {"strides": case["stride"], "dilations": case["dilation"], "group": case["groups"], "auto_pad": case["auto_pad"]}
    if case["auto_pad"] == "NOTSET":
        attributes["pads"] = case["pads"]
    n = case["out"] if case["per_channel"] else 1
    w_scale = (rng.random(n) * 0.05 + 0.001).astype(F).reshape((n,) if case["per_channel"] else ())
    spread = max(float(np.abs(sums).max(initial=0)), 1.0) * 0.05 * 0.02
    values = {
        "x": x, "w": w, "x_zero": x_zero, "w_zero": w_zero, "x_scale": F(0.02), "w_scale": w_scale,
        "y_scale": F(spread / 255 * case["wide"]), "y_zero": y_zero,
        "bias": rng.integers(-9999, 9999, case["out"]).astype(np.int32),
    }  # fmt: skip
    return attributes, values, sums


def split(values: Values, names: Sequence[str], constant: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Feeds and constants: all but x are constants, or nothing is."""
    feeds = {n: np.asarray(values[n]) for n in names if n and (n == names[0] or not constant)}
    return feeds, {n: values[n] for n in names if n and n not in feeds}


class TestConvolutions:
    @settings(max_examples=50)
    @given(convolutions())
    def test_qlinear_conv(self, case: dict[str, Any]) -> None:
        attributes, values, sums = operands(case)
        names = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", *(["bias"] if case["bias"] else [])]
        if case["bias"]:
            sums = sums + values["bias"].reshape(-1, *(1,) * (sums.ndim - 2))
        ratio = values["x_scale"] * values["w_scale"] / values["y_scale"]
        want = oracle.requantize(sums, np.reshape(ratio, (-1, *(1,) * (sums.ndim - 2))), values["y_zero"], values["y_zero"].dtype)
        feeds, constants = split(values, names, case["constant"])
        y = run(model("QLinearConv", feeds, constants, names, **attributes), feeds)
        assert y.dtype == values["y_zero"].dtype
        np.testing.assert_array_equal(y, want)

    @settings(max_examples=50)
    @given(convolutions())
    def test_conv_integer(self, case: dict[str, Any]) -> None:
        attributes, values, sums = operands(case)
        names = ["x", "w", "x_zero", "w_zero"]
        feeds, constants = split(values, names, case["constant"])
        y = run(model("ConvInteger", feeds, constants, names, **attributes), feeds)
        assert y.dtype == np.int32
        np.testing.assert_array_equal(y, oracle.wrapped(sums))

    @settings(max_examples=50)
    @given(convolutions())
    def test_channels_last(self, case: dict[str, Any]) -> None:
        attributes, values, sums = operands(case)
        names = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"]
        ratio = values["x_scale"] * values["w_scale"] / values["y_scale"]
        want = oracle.requantize(sums, np.reshape(ratio, (-1, *(1,) * (sums.ndim - 2))), values["y_zero"], values["y_zero"].dtype)
        values["x"] = np.ascontiguousarray(np.moveaxis(values["x"], 1, -1))
        feeds, constants = split(values, names, True)
        y = run(model("QLinearConv", feeds, constants, names, "com.microsoft", channels_last=1, **attributes), feeds)
        np.testing.assert_array_equal(y, np.moveaxis(want, 1, -1))

    @pytest.mark.parametrize("sign", [1, -1])
    def test_sums_beyond_24_bits(self, sign: int) -> None:
        """float32 does not hold them: what is added up is integers, rounded once."""
        rng = np.random.default_rng(3)
        x, w = np.full((1, 600, 3, 3), 255, np.uint8), np.full((5, 600, 3, 3), 255, np.uint8)
        x.flat[::7] = 254
        w[rng.random(w.shape) < 0.1] = 253
        zeros = [np.uint8(0), np.uint8(0)] if sign > 0 else [np.uint8(0), np.uint8(255)]
        if sign < 0:
            w = 255 - w
        sums = oracle.conv_sums(x, zeros[0], w, zeros[1])
        assert np.abs(sums).min() > 2**28
        names = ["x", "w", "x_zero", "w_zero"]
        feeds, constants = split({"x": x, "w": w, "x_zero": zeros[0], "w_zero": zeros[1]}, names, True)
        np.testing.assert_array_equal(run(model("ConvInteger", feeds, constants, names), feeds), sums)

    def test_sums_beyond_32_bits_wrap_around(self) -> None:
        x, w = np.full((1, 33100, 1), 255, np.uint8), np.full((1, 33100, 1), 255, np.uint8)
        feeds, constants = split({"x": x, "w": w}, ["x", "w"], True)
        y = run(model("ConvInteger", feeds, constants, ["x", "w"]), feeds)
        assert y.tolist() == [[[33100 * 255 * 255 - 2**32]]]

    @settings(max_examples=50)
    @given(convolutions())
    def test_beside_onnxruntime(self, case: dict[str, Any]) -> None:
        case["types"] = (np.uint8, case["types"][1], np.uint8)  # other mixtures it does not have
        case["zeros"] = (case["zeros"][0], "middle" if case["types"][1] is np.int8 else case["zeros"][1], case["zeros"][2])
        case["zero_per_channel"] = False
        case["constant"] = True
        if len(case["kernel"]) == 3:  # it refuses some of these
            case["groups"] = 1
        attributes, values, _ = operands(case)
        values["w"] = in_seven_bits(values["w"])
        names = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", *(["bias"] if case["bias"] else [])]
        if case["per_channel"]:
            values["w_zero"] = np.full(case["out"], values["w_zero"].reshape(-1)[0])
        feeds, constants = split(values, names, True)
        proto = model("QLinearConv", feeds, constants, names, **attributes)
        theirs = peer(proto, feeds)
        mine = run(proto, feeds)
        assert mine.shape == theirs.shape
        assert np.abs(mine.astype(int) - theirs.astype(int)).max(initial=0) <= 1


@st.composite
def products(draw: Any) -> dict[str, Any]:
    batch = draw(st.sampled_from([(), (), (2,), (2, 3)]))
    return {
        "batch": batch, "spread": draw(st.booleans()) and bool(batch), "m": draw(st.integers(1, 5)),
        "k": draw(st.integers(1, 40)),
        "n": draw(st.integers(1, 9)), "types": (draw(DTYPES), draw(DTYPES), draw(DTYPES)),
        "zeros": (draw(PLACES), draw(PLACES), draw(PLACES)), "rows": draw(st.booleans()), "columns": draw(st.booleans()),
        "constant": draw(st.booleans()), "seed": draw(st.integers(0, 9999)), "wide": draw(st.sampled_from([0.5, 1.0, 30.0])),
        "flags": (draw(st.booleans()), draw(st.booleans())), "bias": draw(st.sampled_from(["", "vector", "matrix", "scalar"])),
        "alpha": draw(st.sampled_from([1.0, 0.5, 1.7])), "vector": draw(st.sampled_from(["", "", "a", "b"])),
    }  # fmt: skip


def matrices(case: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    """Operands of a product by name, and the sums."""
    rng = np.random.default_rng(case["seed"])
    a_type, b_type, y_type = case["types"]
    m, k, n = case["m"], case["k"], case["n"]
    a, b = full(a_type, rng, *case["batch"], m, k), full(b_type, rng, *(() if case["spread"] else case["batch"]), k, n)
    a_zero = zero_of(a_type, case["zeros"][0], rng, m if case["rows"] else 0)
    b_zero = zero_of(b_type, case["zeros"][1], rng, n if case["columns"] else 0)
    left = a.astype(np.int64) - (a_zero.astype(np.int64).reshape(-1, 1) if case["rows"] else int(a_zero))
    sums = np.einsum("...mk,...kn->...mn", left, b.astype(np.int64) - b_zero.astype(np.int64))
    scales = [(rng.random(count) * 0.05 + 0.001).astype(F) for count in (m, n)]
    values = {
        "a": a, "b": b, "a_zero": a_zero, "b_zero": b_zero, "a_scale": scales[0] if case["rows"] else scales[0][0],
        "b_scale": scales[1] if case["columns"] else scales[1][0], "y_zero": zero_of(y_type, case["zeros"][2], rng),
        "y_scale": F(max(float(np.abs(sums).max(initial=0)), 1.0) * 0.05 * 0.05 / 255 * case["wide"]),
    }  # fmt: skip
    return values, sums


class TestProducts:
    @settings(max_examples=50)
    @given(products())
    def test_matmul_integer(self, case: dict[str, Any]) -> None:
        values, sums = matrices(case)
        names = ["a", "b", "a_zero", "b_zero"]
        feeds, constants = split(values, names, case["constant"])
        y = run(model("MatMulInteger", feeds, constants, names), feeds)
        assert y.dtype == np.int32
        np.testing.assert_array_equal(y, oracle.wrapped(sums))

    @settings(max_examples=50)
    @given(products())
    def test_qlinear_matmul(self, case: dict[str, Any]) -> None:
        values, sums = matrices(case)
        names = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero"]
        rows = values["a_scale"].reshape(-1, 1) if case["rows"] else values["a_scale"]
        want = oracle.requantize(sums, rows * values["b_scale"] / values["y_scale"], values["y_zero"], values["y_zero"].dtype)
        feeds, constants = split(values, names, case["constant"])
        y = run(model("QLinearMatMul", feeds, constants, names), feeds)
        assert y.dtype == values["y_zero"].dtype
        np.testing.assert_array_equal(y, want)

    @pytest.mark.parametrize("which", ["a", "b", "both"])
    def test_vectors(self, which: str) -> None:
        rng = np.random.default_rng(5)
        a, b = full(np.uint8, rng, *(() if which != "b" else (3,)), 6), full(np.int8, rng, 6, *(() if which != "a" else (4,)))
        values = {"a": a, "b": b, "a_zero": np.uint8(200), "b_zero": np.int8(-128)}
        feeds, constants = split(values, list(values), True)
        want = (a.astype(int) - 200) @ (b.astype(int) + 128)
        np.testing.assert_array_equal(run(model("MatMulInteger", feeds, constants, list(values)), feeds), want)

    @settings(max_examples=50)
    @given(products(), st.booleans())
    def test_qgemm(self, case: dict[str, Any], floats: bool) -> None:
        values, sums = matrices({**case, "batch": (), "spread": False, "rows": False})
        rng = np.random.default_rng(case["seed"])
        shape = {"vector": (case["n"],), "matrix": (case["m"], case["n"]), "scalar": (1,)}.get(case["bias"])
        if shape is not None:
            values["c"] = rng.integers(-9999, 9999, shape).astype(np.int32)
            sums = sums + values["c"]
        names = [
            "a",
            "a_scale",
            "a_zero",
            "b",
            "b_scale",
            "b_zero",
            "c" if shape else "",
            *([] if floats else ["y_scale", "y_zero"]),
        ]
        ratio = F(case["alpha"]) * values["a_scale"] * values["b_scale"]
        want: np.ndarray = sums.astype(F) * ratio
        if not floats:
            want = oracle.requantize(sums, ratio / values["y_scale"], values["y_zero"], values["y_zero"].dtype)
        trans_a, trans_b = case["flags"]
        values["a"] = np.ascontiguousarray(values["a"].T) if trans_a else values["a"]
        values["b"] = np.ascontiguousarray(values["b"].T) if trans_b else values["b"]
        feeds, constants = split(values, names, case["constant"])
        proto = model(
            "QGemm", feeds, constants, names, "com.microsoft", transA=int(trans_a), transB=int(trans_b), alpha=case["alpha"]
        )
        y = run(proto, feeds)
        assert y.dtype == (F if floats else values["y_zero"].dtype)
        np.testing.assert_array_equal(y, want)

    @settings(max_examples=50)
    @given(products(), st.booleans())
    def test_qgemm_beside_onnxruntime(self, case: dict[str, Any], floats: bool) -> None:
        types = (np.uint8, case["types"][1], np.uint8)
        case = {
            **case,
            "types": types,
            "batch": (),
            "spread": False,
            "rows": False,
            "zeros": ("any", "any", "any"),
            "constant": True,
        }
        if case["columns"] and case["types"][1] is np.uint8:
            case["columns"] = False
        values, _ = matrices(case)
        values["b"] = in_seven_bits(values["b"])
        names = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "", *([] if floats else ["y_scale", "y_zero"])]
        feeds, constants = split(values, names, True)
        proto = model("QGemm", feeds, constants, names, "com.microsoft", alpha=case["alpha"])
        mine, theirs = run(proto, feeds), peer(proto, feeds)
        if floats:
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6 * np.abs(theirs).max(initial=0))
        else:
            assert np.abs(mine.astype(int) - theirs.astype(int)).max() <= 1

    @settings(max_examples=50)
    @given(products(), st.booleans())
    def test_matmul_integer_to_float(self, case: dict[str, Any], half: bool) -> None:
        values, sums = matrices({**case, "rows": False})
        kind = np.float16 if half else F
        bias = np.random.default_rng(1).standard_normal(case["n"]).astype(kind)
        values |= {"a_scale": values["a_scale"].astype(kind), "b_scale": values["b_scale"].astype(kind), "bias": bias}
        names = ["a", "b", "a_scale", "b_scale", "a_zero", "b_zero", "bias" if case["bias"] else ""]
        want = sums.astype(F) * (values["a_scale"].astype(F) * values["b_scale"].astype(F))
        if case["bias"]:
            want = want + bias.astype(F)
        feeds, constants = split(values, names, True)
        y = run(model("MatMulIntegerToFloat", feeds, constants, names, "com.microsoft"), feeds)
        assert y.dtype == kind
        eps = float(np.finfo(kind).eps)
        np.testing.assert_allclose(y, want.astype(kind), rtol=eps, atol=eps * np.abs(want).max(initial=0))

    @settings(max_examples=50)
    @given(products())
    def test_dynamic_quantize_matmul(self, case: dict[str, Any]) -> None:
        values, _ = matrices({**case, "rows": False})
        rng = np.random.default_rng(case["seed"])
        x = (rng.standard_normal(values["a"].shape) * case["wide"]).astype(F)
        quantised, scale, zero = oracle.dynamic(x)
        values |= {"x": x, "bias": rng.standard_normal(case["n"]).astype(F)}
        values["b"] = in_seven_bits(values["b"])
        right = values["b"].astype(np.int64) - values["b_zero"].astype(np.int64)
        want = ((quantised - zero) @ right).astype(F) * (scale * values["b_scale"])
        if case["bias"]:
            want = want + values["bias"]
        names = ["x", "b", "b_scale", "b_zero", "bias" if case["bias"] else ""]
        feeds, constants = split(values, names, True)
        proto = model("DynamicQuantizeMatMul", feeds, constants, names, "com.microsoft")
        mine = run(proto, feeds)
        np.testing.assert_allclose(mine, want, rtol=LAST_BIT, atol=LAST_BIT * np.abs(want).max(initial=0))
        if case["columns"] and values["b"].ndim > 2:
            return  # it has no numbers per column of several matrices
        theirs = peer(proto, feeds)
        # it multiplies by 1 / scale to quantise: next to a half, an element may be a step away
        step = float(scale) * np.abs(right * np.asarray(values["b_scale"], np.float64)).max() * case["k"]
        assert np.abs(theirs - want).max() <= step

    def test_what_is_missing(self) -> None:
        values, _ = matrices({
            "batch": (), "spread": False, "m": 2, "k": 3, "n": 4, "types": (np.uint8, np.int8, np.uint8), "rows": False,
            "zeros": ("any",) * 3, "columns": False, "seed": 1, "wide": 1.0,
        })  # fmt: skip
        names = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "", "y_scale"]
        feeds, constants = split(values, names, True)
        with pytest.raises(ModelError, match=r"node 'qgemm'.*both y_scale and y_zero_point"):
            cnnengine.load(model("QGemm", feeds, constants, names, "com.microsoft"))
