"""Linear Resize between quantised tensors: one kernel on bytes, bit for bit its definition, and what is left to floats."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine._kernels.dispatch import available_isas, use_isa
from cnnengine.report import check, summarize

RNG = np.random.default_rng(3)
MODES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
X_SCALE, Y_SCALE = np.float32(0.037), np.float32(0.029)


def position(mode: str, i: int, n: int, m: int, scale: Fraction) -> Fraction:
    """Where output pixel i of m falls among n input pixels, as ONNX has it."""
    if mode == "asymmetric":
        return i / scale
    if mode == "align_corners":
        return i * (n - 1) / (n * scale - 1) if n * scale > 1 else Fraction(0)
    if mode == "pytorch_half_pixel" and m <= 1:
        return Fraction(0)
    moved = (n - m / scale) / 2 if mode == "half_pixel_symmetric" else 0
    return (i + Fraction(1, 2)) / scale - Fraction(1, 2) + moved


def mixed(x: np.ndarray, mode: str, out: tuple[int, ...], factors: list[Fraction], kind: Any) -> np.ndarray:
    """x with its spatial axes resized, in numbers of this kind."""
    y = x.astype(kind)
    for axis, (m, scale) in enumerate(zip(out, factors, strict=True), 2):
        n, rows = y.shape[axis], []
        for i in range(m):
            at = position(mode, i, n, m, scale)
            base = math.floor(at)
            a, b = (y.take(min(max(k, 0), n - 1), axis) for k in (base, base + 1))
            rows.append(a + (b - a) * kind(float(at - base)))
        y = np.stack(rows, axis)
    return y


def steps_of(mixture: np.ndarray, x_zero: int, zero: int, low: int = 0, high: int = 255) -> np.ndarray:
    steps = np.rint((mixture - np.float32(x_zero)) * np.float32(X_SCALE / Y_SCALE)).astype(np.float64)
    return np.clip(steps + zero, low, high)


def model(
    x: np.ndarray,
    coordinates: str,
    zeros: tuple[int, int],
    *,
    scales: Any = None,
    sizes: Any = None,
    between: str = "",
    **attributes: Any,
) -> onnx.ModelProto:
    """Integers -> DequantizeLinear -> Resize -> QuantizeLinear, of the type of x."""
    constants = {"sx": X_SCALE, "zx": x.dtype.type(zeros[0]), "sy": Y_SCALE, "zy": x.dtype.type(zeros[1])}
    if scales is not None:
        constants["scales"] = np.float32(scales)
    else:
        constants["sizes"] = np.int64(sizes)
    given = ["scales"] if scales is not None else ["", "sizes"]
    fields = {"mode": "linear", "coordinate_transformation_mode": coordinates} | attributes
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "sx", "zx"], ["f"]),
        helper.make_node("Resize", ["f", "", *given], ["r"], name="resize", **fields),
        *([helper.make_node(between, ["r"], ["b"])] if between else []),
        helper.make_node("QuantizeLinear", ["b" if between else "r", "sy", "zy"], ["y"]),
    ]
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", kind, [None] * x.ndim)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def kinds(proto: onnx.ModelProto) -> list[str]:
    return [layer.operator for layer in summarize(proto).layers]


CASES = [
    # x, scales or sizes
    ((1, 16, 7, 9), {"scales": (1, 1, 2, 2)}),
    ((2, 19, 5, 6), {"scales": (1, 1, 4, 3)}),
    ((1, 21, 6, 8), {"sizes": (1, 21, 17, 13)}),
    ((1, 3, 9, 11), {"sizes": (1, 3, 4, 5)}),
    ((1, 8, 13), {"scales": (1, 1, 2.5)}),
    ((1, 9, 3, 4, 5), {"sizes": (1, 9, 5, 4, 12)}),
    ((1, 5, 6, 6), {"sizes": (1, 5, 1, 6)}),
]


@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("mode", MODES)
def test_bits(mode: str, case: int) -> None:
    shape, given = CASES[case]
    x = RNG.integers(0, 256, shape).astype(np.uint8)
    x[0, 0] = np.where(x[0, 0] < 128, 0, 255)
    proto = model(x, mode, (120, 131), **given)
    if "scales" in given:
        factors = [Fraction(float(np.float32(s))) for s in given["scales"]]
        out = tuple(math.floor(n * s) for n, s in zip(shape, factors, strict=True))
    else:
        out, factors = given["sizes"], [Fraction(m, n) for m, n in zip(given["sizes"], shape, strict=True)]
    want = steps_of(mixed(x, mode, out[2:], factors[2:], np.float32), 120, 131)
    near = mixed(x, mode, out[2:], factors[2:], np.float64)
    floats = np.clip(np.rint((near - 120) * float(X_SCALE) / float(Y_SCALE)) + 131, 0, 255)
    for isa in available_isas():
        for threads in (1, 2):
            with use_isa(isa), cnnengine.load(proto, threads=threads) as loaded:
                got = loaded(x)
            np.testing.assert_array_equal(got, want.astype(np.uint8), f"{isa}, {threads} threads")
    assert np.abs(want - floats).max() <= 1  # beside the file's own floats
    assert kinds(proto) == ["QuantizedResize"]
    assert check(proto).host_nodes == ()


@pytest.mark.parametrize(("between", "bounds"), [("", (-128, 127)), ("Relu", (-11, 127))])
def test_signed_and_bounded(between: str, bounds: tuple[int, int]) -> None:
    x = RNG.integers(-128, 128, (1, 10, 6, 7)).astype(np.int8)
    proto = model(x, "half_pixel", (5, -11), scales=(1, 1, 2, 2), between=between)
    want = steps_of(mixed(x.astype(np.int32), "half_pixel", (12, 14), [Fraction(2)] * 2, np.float32), 5, -11, *bounds)
    np.testing.assert_array_equal(cnnengine.load(proto)(x), want.astype(np.int8))
    assert set(kinds(proto)) == {"FlipSign", "QuantizedResize"}


@pytest.mark.parametrize(
    ("mode", "fields"),
    [
        ("tf_crop_and_resize", {}),
        ("tf_half_pixel_for_nn", {}),
        ("half_pixel", {"exclude_outside": 1}),
        ("half_pixel", {"antialias": 1}),
        ("half_pixel", {"mode": "cubic"}),
    ],
)
def test_what_is_no_mixture_of_two_stays_as_the_file_has_it(mode: str, fields: dict[str, Any]) -> None:
    x = RNG.integers(0, 256, (1, 12, 6, 7)).astype(np.uint8)
    proto = model(x, mode, (120, 131), scales=(1, 1, 2, 2), **fields)
    if mode == "tf_crop_and_resize":
        proto.graph.node[1].input[1] = "roi"
        proto.graph.initializer.append(numpy_helper.from_array(np.float32([0, 0, 0, 0, 1, 1, 1, 1]), "roi"))
    assert "QuantizedResize" not in kinds(proto)
    declined = {(d.rewrite, d.reason) for d in check(proto, why=True).declined}
    assert ("quantized_resizes", "its pixels are not mixtures of two per axis") in declined


def test_what_else_is_left() -> None:
    x = RNG.integers(0, 256, (1, 12, 6, 7)).astype(np.uint8)
    shared = model(x, "half_pixel", (120, 131), scales=(1, 1, 2, 2))
    shared.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 12, 12, 14]))
    wide = model(x, "half_pixel", (120, 131), scales=(1, 1, 2, 2))
    wide.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.float32(1e-9), "sy"))
    by_channel = model(x, "half_pixel", (120, 131), scales=(1, 1, 2, 2))
    by_channel.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full(12, 0.03, np.float32), "sx"))
    by_channel.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.full(12, 7, np.uint8), "zx"))
    reasons = [
        "no QuantizeLinear with one constant scale and zero point alone reads it",
        "the ratio of its scales serves no kernel",
        "its input has no constant scale and zero point for all of it",
    ]
    for proto, reason in zip((shared, wide, by_channel), reasons, strict=True):
        declined = {(d.rewrite, d.reason) for d in check(proto, why=True).declined}
        assert ("quantized_resizes", reason) in declined
        assert "QuantizedResize" not in kinds(proto)


def test_channels_that_are_mixed_too() -> None:
    """No kernel does it; the definition is the same."""
    x = RNG.integers(0, 256, (1, 6, 4, 5)).astype(np.uint8)
    proto = model(x, "asymmetric", (120, 131), scales=(1, 2, 1, 1))
    moved = mixed(x.transpose(0, 2, 1, 3), "asymmetric", (12, 5), [Fraction(2), Fraction(1)], np.float32).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(cnnengine.load(proto)(x), steps_of(moved, 120, 131).astype(np.uint8))
