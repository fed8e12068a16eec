"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear of all types and granularities, bit for bit as the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from oracle import quantized as oracle

import cnnengine
from cnnengine._kernels import dispatch
from cnnengine.report import check

F = np.float32
SMALL = {n: np.dtype(getattr(ml_dtypes, n)) for n in ("int4", "uint4", "int2", "uint2")}
CODES = {"int4": TensorProto.INT4, "uint4": TensorProto.UINT4, "int2": TensorProto.INT2, "uint2": TensorProto.UINT2}
TARGETS = ["uint8", "int8", "uint16", "int16", *SMALL]


def dtype_of(name: str) -> np.dtype:
    return SMALL.get(name) or np.dtype(name)


def tensor(name: str, value: Any) -> onnx.TensorProto:
    value = np.asarray(value)
    if value.dtype.name in SMALL:
        return helper.make_tensor(name, CODES[value.dtype.name], value.shape, value.astype(np.int64).reshape(-1).tolist())
    return numpy_helper.from_array(value, name)


def model(op: str, feeds: Mapping[str, Any], constants: Mapping[str, Any], outputs: Sequence[str] = ("y",), opset: int = 25,
          **attributes: Any) -> onnx.ModelProto:  # fmt: skip
    names = [*feeds, *constants]
    node = helper.make_node(op, sorted(names), outputs, name="node", **attributes)  # x < xs < xz
    values = [
        helper.make_tensor_value_info(n, CODES.get(v.dtype.name) or helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in feeds.items()
    ]
    tensors = [tensor(n, v) for n, v in constants.items()]
    graph = helper.make_graph([node], "g", values, [onnx.ValueInfoProto(name=n) for n in outputs if n], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def bits(y: np.ndarray) -> np.ndarray:
    return y.view(np.uint8) if y.dtype.name in SMALL else y


def run(proto: onnx.ModelProto, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None) -> list[Any]:
    """At each instruction set, by 1 and 2 threads: the same bits."""
    found: list[Any] = []
    for isa in dispatch.available_isas():
        with dispatch.use_isa(isa):
            found += [cnnengine.load(proto, threads=t).run(outputs, dict(feeds)) for t in (1, 2)]
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(bits(a), bits(b))
    return list(found[0])


@st.composite
def cases(draw: Any) -> dict[str, Any]:
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    kind = draw(st.sampled_from(["tensor", "one", "axis", "axis", "blocks"]))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return {
        "shape": shape, "kind": kind, "axis": axis, "block": draw(st.integers(1, 7)), "target": draw(st.sampled_from(TARGETS)),
        "zero": draw(st.booleans()), "seed": draw(st.integers(0, 9999)), "constant": draw(st.booleans()),
        "spread": draw(st.sampled_from([1.0, 30.0, 1e9])),
    }  # fmt: skip


def parameters(case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, dict[str, int], Any]:
    """Scale, zero point, attributes, and what lays either out in the whole shape."""
    rng = np.random.default_rng(case["seed"])
    shape, axis = case["shape"], case["axis"] % len(case["shape"])
    attributes: dict[str, int] = {}
    if case["kind"] == "blocks":
        extents = tuple(-(-n // case["block"]) if i == axis else n for i, n in enumerate(shape))
        attributes = {"axis": case["axis"], "block_size": case["block"]}
        lay = lambda v: oracle.in_blocks(v, shape, axis, case["block"])  # noqa: E731
    elif case["kind"] == "axis":
        extents, attributes = (shape[axis],), {"axis": case["axis"]}
        lay = lambda v: oracle.along(v, shape, axis)  # noqa: E731
    else:
        extents = () if case["kind"] == "tensor" else (1,)
        lay = lambda v: oracle.along(v, shape, 0)  # noqa: E731
    low, high = oracle.LIMITS[case["target"]]
    scale = (rng.random(extents) * 0.3 + 0.01).astype(F)
    zero = rng.integers(low, high + 1, extents)
    zero = np.where(rng.random(extents) < 0.3, high, np.where(rng.random(extents) < 0.3, low, zero))
    return np.asarray(scale, F), np.asarray(zero).astype(dtype_of(case["target"])), attributes, lay


@settings(max_examples=150)
@given(cases())
def test_quantize(case: dict[str, Any]) -> None:
    rng = np.random.default_rng(case["seed"] + 1)
    scale, zero, attributes, lay = parameters(case)
    x = np.asarray(rng.standard_normal(case["shape"]) * case["spread"], F)
    x[rng.random(case["shape"]) < 0.2] = 0.25 * F(scale.reshape(-1)[0]) * 10  # halves, of many scales
    x.reshape(-1)[:3] = np.array([np.nan, np.inf, -np.inf], F)[: x.size]
    given_ = {"xs": scale} | ({"xz": zero} if case["zero"] or case["target"] != "uint8" else {})
    want = oracle.quantize(x, lay(scale), lay(zero.astype(np.int64)) if "xz" in given_ else 0, zero.dtype)
    feeds, constants = ({"x": x}, given_) if case["constant"] or case["target"] in SMALL else ({"x": x, **given_}, {})
    (y,) = run(model("QuantizeLinear", feeds, constants, **attributes), feeds)
    assert y.dtype == zero.dtype
    np.testing.assert_array_equal(y.astype(np.int64), want)


@settings(max_examples=150)
@given(cases(), st.booleans())
def test_dequantize(case: dict[str, Any], weights: bool) -> None:
    """Of activations and of weights, which are computed when the model is loaded."""
    rng = np.random.default_rng(case["seed"] + 1)
    scale, zero, attributes, lay = parameters(case)
    low, high = oracle.LIMITS[case["target"]]
    q = rng.integers(low, high + 1, case["shape"]).astype(zero.dtype)
    given_ = {"xs": scale} | ({"xz": zero} if case["zero"] else {})
    want = oracle.dequantize(q.astype(np.int64), lay(scale), lay(zero.astype(np.int64)) if case["zero"] else 0)
    if weights or case["target"] in SMALL:
        feeds, constants = {}, {"x": q, **given_}
    else:
        feeds, constants = ({"x": q}, given_) if case["constant"] else ({"x": q, **given_}, {})
    (y,) = run(model("DequantizeLinear", feeds, constants, **attributes), feeds)
    assert y.dtype == F
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("constant", [False, True])
def test_biases(constant: bool) -> None:
    """int32 by a scale per channel: rounded once to float32, then times the scale."""
    x = np.array([2**31 - 1, -(2**31), 16777217, -5], np.int32)
    scale = np.array([0.5, 0.25, 1.5, 3e-9], F)
    given_ = {"x": x, "xs": scale, "xz": np.zeros(4, np.int32)}
    feeds = {} if constant else {"x": x}
    proto = model("DequantizeLinear", feeds, {n: v for n, v in given_.items() if n not in feeds}, axis=0)
    np.testing.assert_array_equal(run(proto, feeds)[0], x.astype(F) * scale)
    assert not check(proto).host_nodes


@pytest.mark.parametrize("target", ["uint8", "int8"])
@pytest.mark.parametrize("zero", [True, False])
def test_kernels_compute_8_bits(target: str, zero: bool) -> None:
    x = np.linspace(-3, 3, 24, dtype=F).reshape(2, 3, 4)
    given_ = {"xs": np.array([0.1, 0.2, 0.3], F)} | ({"xz": np.array([0, 5, 9], target)} if zero else {})
    assert not check(model("QuantizeLinear", {"x": x}, given_)).host_nodes
    if zero:
        assert not check(model("DequantizeLinear", {"x": x.astype(target)}, given_)).host_nodes


@settings(max_examples=100)
@given(
    st.lists(st.integers(1, 9), min_size=0, max_size=4),
    st.sampled_from([0.0, 1e-30, 1.0, 300.0, 3e38]),
    st.sampled_from([-1, 0, 1]),
    st.integers(0, 999),
)
@example([3, 4], 0.0, 0, 0)
def test_dynamic(shape: list[int], spread: float, side: int, seed: int) -> None:
    """Also of one sign alone, of nothing but zeros, and where the range overflows."""
    rng = np.random.default_rng(seed)
    x = np.clip(rng.standard_normal(shape) * spread, -3e38, 3e38).astype(F)
    x = np.asarray(np.abs(x) * side if side else x, F)
    feeds = {"x": x}
    proto = model("DynamicQuantizeLinear", feeds, {}, ["y", "s", "z"])
    y, scale, zero = run(proto, feeds, ["y", "s", "z"])
    assert (y.dtype, scale.dtype, zero.dtype, scale.shape, zero.shape) == (np.uint8, F, np.uint8, (), ())
    with np.errstate(over="ignore"):
        want = oracle.dynamic(x)
    assert (scale, zero) == want[1:]
    np.testing.assert_array_equal(y, want[0])
    (plain,) = cnnengine.load(proto)._graph.nodes
    for mine, reference in zip((y, scale, zero), plain.op.evaluate(x), strict=True):
        np.testing.assert_array_equal(mine, reference)
    assert not check(proto).host_nodes


@pytest.mark.parametrize("values", [[np.nan, 1.0], [np.inf, -1.0], [-np.inf, 2.0]])
def test_dynamic_of_what_is_not_finite(values: list[float]) -> None:
    x = np.array(values, F)
    proto = model("DynamicQuantizeLinear", {"x": x}, {}, ["y", "s", "z"])
    found = run(proto, {"x": x}, ["y", "s", "z"])
    (plain,) = cnnengine.load(proto)._graph.nodes
    for mine, reference in zip(found, plain.op.evaluate(x), strict=True):
        np.testing.assert_array_equal(mine, reference)
