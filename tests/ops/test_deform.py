"""DeformConv against the standard's formula, written out pixel by pixel, and against onnx.reference."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import cnnengine
from cnnengine import ModelError, ShapeError
from cnnengine.ops.deform import DeformConv

from .test_sample import standard


def sampled(plane: np.ndarray, at: tuple[float, ...]) -> float:
    """Linear interpolation with zeros outside."""
    total = 0.0
    low = [math.floor(v) for v in at]
    for corner in itertools.product((0, 1), repeat=len(at)):
        index = tuple(a + c for a, c in zip(low, corner, strict=True))
        if all(0 <= i < n for i, n in zip(index, plane.shape, strict=True)):
            weight = math.prod(v - a if c else 1 - (v - a) for v, a, c in zip(at, low, corner, strict=True))
            total += weight * float(plane[index])
    return total


def naive(
    op: DeformConv, x: np.ndarray, w: np.ndarray, offset: np.ndarray, bias: np.ndarray | None, mask: np.ndarray | None
) -> np.ndarray:
    rank = x.ndim - 2
    strides, dilations = op.strides or (1,) * rank, op.dilations or (1,) * rank
    pads = op.pads or (0,) * 2 * rank
    out, taps = offset.shape[2:], math.prod(w.shape[2:])
    y = np.zeros((x.shape[0], w.shape[0], *out))
    for n, o, pixel in itertools.product(range(x.shape[0]), range(w.shape[0]), np.ndindex(*out)):
        group = o // (w.shape[0] // op.group)
        total = 0.0 if bias is None else float(bias[o])
        for c in range(w.shape[1]):
            channel = group * w.shape[1] + c
            part = channel // (x.shape[1] // op.offset_group)
            for k, tap in enumerate(np.ndindex(*w.shape[2:])):
                first = (part * taps + k) * rank
                at = tuple(
                    pixel[a] * strides[a] - pads[a] + tap[a] * dilations[a] + float(offset[(n, first + a, *pixel)])
                    for a in range(rank)
                )
                weight = 1.0 if mask is None else float(mask[(n, part * taps + k, *pixel)])
                total += float(w[(o, c, *tap)]) * weight * sampled(x[n, channel], at)
        y[(n, o, *pixel)] = total
    return y


def arrays(
    op: DeformConv, x_shape: tuple[int, ...], outputs: int, kernel: tuple[int, ...], out: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(len(kernel) + outputs)
    taps = op.offset_group * math.prod(kernel)
    offset = rng.uniform(-2.5, 2.5, (x_shape[0], taps * len(kernel), *out))
    offset.reshape(-1)[::7] = np.round(offset.reshape(-1)[::7])  # on pixels, too
    offset.reshape(-1)[3::29] = 40.0
    shapes = [(outputs,), (x_shape[0], taps, *out)]
    x, w = rng.standard_normal(x_shape), rng.standard_normal((outputs, x_shape[1] // op.group, *kernel))
    return tuple(a.astype(np.float32) for a in (x, w, offset, *map(rng.standard_normal, shapes)))


CASES: list[tuple[DeformConv, Any, int, Any, Any]] = [
    (DeformConv(), (1, 2, 5, 4), 3, (2, 2), (4, 3)),
    (DeformConv(pads=(1, 1, 1, 1), kernel_shape=(3, 3)), (2, 4, 5, 5), 2, (3, 3), (5, 5)),
    (DeformConv((2, 1), (1, 0, 0, 1), (1, 2), group=2, offset_group=2), (1, 4, 6, 7), 4, (3, 2), (3, 6)),
    (DeformConv(group=1, offset_group=3), (1, 6, 4, 4), 2, (1, 2), (4, 3)),
    (DeformConv((2,), (1, 1)), (2, 3, 8), 2, (3,), (4,)),
    (DeformConv(), (1, 2, 3, 4, 3), 2, (2, 2, 1), (2, 3, 3)),
]


@pytest.mark.parametrize(("op", "x_shape", "outputs", "kernel", "out"), CASES)
def test_reference(op: DeformConv, x_shape: Any, outputs: int, kernel: Any, out: Any) -> None:
    x, w, offset, bias, mask = arrays(op, x_shape, outputs, kernel, out)
    for given in ((None, None), (bias, None), (None, mask), (bias, mask)):
        (y,) = op.evaluate(x, w, offset, *given)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, naive(op, x, w, offset, *given), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("op", "x_shape", "outputs", "kernel", "out"), [case for case in CASES if len(case[1]) == 4])
def test_reference_is_the_standards(op: DeformConv, x_shape: Any, outputs: int, kernel: Any, out: Any) -> None:
    inputs = list(arrays(op, x_shape, outputs, kernel, out))
    attributes = {name: list(v) for name in ("strides", "pads", "dilations") if (v := getattr(op, name)) is not None}
    expected = standard("DeformConv", inputs, 19, group=op.group, offset_group=op.offset_group, kernel_shape=kernel, **attributes)
    np.testing.assert_allclose(op.evaluate(*inputs)[0], expected, rtol=2e-4, atol=2e-4)


def test_offsets_that_are_no_numbers_sample_nothing() -> None:
    x, w, offset, bias, _ = arrays(DeformConv(), (1, 2, 5, 4), 3, (2, 2), (4, 3))
    offset[:, :, 1, 1] = np.nan
    offset[:, :, 2, 2] = np.inf
    (y,) = DeformConv().evaluate(x, w, offset, bias)
    np.testing.assert_array_equal(y[0, :, 1, 1], bias)
    np.testing.assert_array_equal(y[0, :, 2, 2], bias)
    assert np.isfinite(y).all()


@pytest.mark.parametrize(
    ("at", "shape", "name"),
    [(1, (3, 3, 2, 2), "W"), (2, (1, 8, 4, 4), "offset"), (3, (4,), "B"), (4, (1, 3, 4, 3), "mask"), (1, (3, 2, 6, 2), "kernel")],
)
def test_shapes_that_do_not_fit(at: int, shape: tuple[int, ...], name: str) -> None:
    given = list(arrays(DeformConv(), (1, 2, 5, 4), 3, (2, 2), (4, 3)))
    given[at] = np.zeros(shape, np.float32)
    with pytest.raises(ShapeError, match=name):
        DeformConv().evaluate(*given)


@pytest.mark.parametrize(("name", "value"), [("group", 0), ("strides", [0, 1]), ("pads", [-1, 0, 0, 0])])
def test_attributes_that_cannot_be(name: str, value: Any) -> None:
    import onnx

    node = onnx.helper.make_node("DeformConv", ["x", "w", "offset"], ["y"], **{name: value})
    inputs = [onnx.helper.make_tensor_value_info(n, 1, [1, s, 3, 3]) for n, s in (("x", 1), ("w", 1), ("offset", 18))]
    graph = onnx.helper.make_graph([node], "g", inputs, [onnx.helper.make_tensor_value_info("y", 1, None)])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10)
    with pytest.raises(ModelError, match=name):
        cnnengine.load(model.SerializeToString())
