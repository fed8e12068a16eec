"""QuantizedConv where 32 bits or a byte are narrow: large biases, weights less zero points; kernels beside the reference."""

from __future__ import annotations

import numpy as np
import pytest

from cnnengine.ops.conv import Conv, ConvTranspose
from cnnengine.ops.quantized_conv import QuantizedConv
from cnnengine.plan.eager import by_kernels

pytestmark = pytest.mark.products_of_bytes
RNG = np.random.default_rng(8)


def inputs(
    w: np.ndarray, bias: np.ndarray, ratio: float, w_zero: np.ndarray | None = None, channels: int = 9
) -> list[np.ndarray | None]:
    x = RNG.integers(0, 256, (1, channels, 6, 7)).astype(np.uint8)
    return [x, w, w_zero, np.full(len(bias), ratio, np.float32), bias.astype(np.int32)]


def same(op: QuantizedConv, arrays: list[np.ndarray | None]) -> np.ndarray:
    found = by_kernels(op, arrays)
    assert found is not None, "no kernel"
    np.testing.assert_array_equal(found[0], op.evaluate(*arrays)[0])
    return np.asarray(found[0])


def test_halves_go_to_the_even_number(isa: str) -> None:
    w = np.zeros((8, 9, 1, 1), np.int8)
    w[:, 4, 0, 0] = 1, -1, 3, -3, 5, -5, 7, -7
    arrays = inputs(w, np.zeros(8), 0.5)
    x = arrays[0]
    assert x is not None
    y = same(QuantizedConv(Conv(), 100, 128, -128, 127), arrays)
    sums = (x[:, 4:5].astype(int) - 100) * w[:, 4, 0, 0].reshape(1, 8, 1, 1)
    want = np.array([round(int(v) / 2) + 128 for v in sums.reshape(-1)]).reshape(sums.shape)  # Python's round goes to even
    assert (sums % 4 == 1).any() and (sums % 4 == 3).any()
    np.testing.assert_array_equal(y, want.clip(0, 255))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_bias_that_decides_alone_is_cut(isa: str, sign: int) -> None:
    """Its size and a sum do not fit in 32 bits; what is left of it is beyond the bounds, or what is cut off next to nothing."""
    w = RNG.integers(-3, 4, (12, 9, 1, 1)).astype(np.int8)
    for ratio, edge in ((1e-3, True), (1e-8, False)):
        y = same(QuantizedConv(Conv(), 0, 40, -40, 215), inputs(w, np.full(12, sign * (2**31 - 99)), ratio))
        assert (y == (255 if sign > 0 else 0)).all() == edge


def test_a_bias_that_cannot_be_cut_has_no_kernel(isa: str) -> None:
    w = np.full((4, 9, 1, 1), 127, np.int8)
    arrays = inputs(w, np.full(4, 2**31 - 99), 1e-6)
    assert by_kernels(QuantizedConv(Conv(), 0, 0, 0, 255), arrays) is not None  # 2147 steps: beyond the bounds
    arrays[3] = np.full(4, 4e-7, np.float32)
    assert by_kernels(QuantizedConv(Conv(), 0, 0, 0, 255), arrays) is None
    assert by_kernels(QuantizedConv(Conv(), 0, floats=True), inputs(w, np.full(4, 2**31 - 99), 1e-3)) is None


@pytest.mark.parametrize("zero", [0, 1, 255])
def test_weights_that_no_byte_holds(isa: str, zero: int) -> None:
    """uint8 less a zero point: in parts, where words are of bytes; three where it is 255."""
    w = RNG.integers(0, 256, (10, 9, 3, 3)).astype(np.uint8)
    w.reshape(-1)[:2] = 0, 255
    op = QuantizedConv(Conv(pads=(1, 1, 1, 1)), 117, 90, -90, 165)
    same(op, inputs(w, RNG.integers(-999, 999, 10), 3e-4, np.array(zero, np.uint8)))
    turned = QuantizedConv(ConvTranspose(strides=(2, 2)), 117, 90, -90, 165)
    same(turned, inputs(w.transpose(1, 0, 2, 3).copy(), RNG.integers(-999, 999, 10), 3e-4, np.array(zero, np.uint8)))
