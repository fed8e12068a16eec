"""DFT and STFT against the sums that define them."""

from __future__ import annotations

import numpy as np
import pytest

from cnnengine.errors import InputError, ShapeError
from cnnengine.ops.signal import DFT, STFT
from cnnengine.spec import TensorSpec


def dft(x: np.ndarray, axis: int, sign: int) -> np.ndarray:
    """The sum of the definition, along an axis of a complex array."""
    n = x.shape[axis]
    factors = np.exp(sign * 2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)
    return np.moveaxis(np.tensordot(x, factors, (axis, 0)), -1, axis)


def run(op: DFT | STFT, *operands: np.ndarray | None) -> np.ndarray:
    (spec,) = op.specs([None if x is None else TensorSpec.of(x) for x in operands])
    (y,) = op.evaluate(*operands)
    assert y.shape == spec.concrete
    assert y.dtype == spec.dtype
    return y


@pytest.mark.parametrize("as_input", [False, True])
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("inverse", [0, 1])
@pytest.mark.parametrize("length", [None, 4, 9])
def test_dft(as_input: bool, axis: int, parts: int, onesided: int, inverse: int, length: int | None) -> None:
    x = np.random.default_rng(1).standard_normal((2, 5, 6, parts))
    op = DFT(None if as_input else axis, inverse, onesided)
    y = run(op, x, None if length is None else np.array(length), *([np.array(axis)] if as_input else []))
    values = x[..., 0] + (1j * x[..., 1] if parts == 2 else 0)
    back = inverse and onesided
    n = length or (2 * (x.shape[axis] - 1) if back else x.shape[axis])
    kept = n // 2 + 1 if back else n
    values = values.take(range(min(kept, x.shape[axis])), axis)
    widths = [(0, 0)] * 3
    widths[axis] = (0, kept - values.shape[axis])
    values = np.pad(values, widths)
    if back:  # the other half follows from the first
        first = values.take([0], axis).real
        middle = values.take(range(1, (n + 1) // 2), axis)
        last = values.take([n // 2], axis).real if n % 2 == 0 else values.take([], axis)
        whole = np.concatenate([first, middle, last, np.conj(np.flip(middle, axis))], axis)
        np.testing.assert_allclose(y, (dft(whole, axis, 1) / n).real[..., None], rtol=1e-9, atol=1e-9)
        return
    want = dft(values, axis, 1 if inverse else -1) / (n if inverse else 1)
    if onesided:
        want = want.take(range(n // 2 + 1), axis)
    np.testing.assert_allclose(y, np.stack([want.real, want.imag], -1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("windowed", [False, True])
def test_stft(onesided: int, windowed: bool) -> None:
    rng = np.random.default_rng(2)
    x, window = rng.standard_normal((2, 40, 1)), np.hanning(8) if windowed else None
    y = run(STFT(onesided), x, np.array(5), window, None if windowed else np.array(8))
    frames = np.stack([x[:, i : i + 8, 0] * (1 if window is None else window) for i in range(0, 33, 5)], 1)
    want = dft(frames, 2, -1)[..., : 5 if onesided else 8]
    np.testing.assert_allclose(y, np.stack([want.real, want.imag], -1), rtol=1e-9, atol=1e-9)


def test_refused() -> None:
    x = np.zeros((1, 8, 2), np.float32)
    with pytest.raises(ShapeError, match="last axis"):
        DFT(2).specs([TensorSpec.of(x)])
    with pytest.raises(ShapeError, match="axis of 1 or 2"):
        DFT(0).specs([TensorSpec.of(np.zeros((4, 3)))])
    with pytest.raises(InputError, match="positive"):
        DFT(1).evaluate(x, np.array(0))
    with pytest.raises(ShapeError, match="wrong shape"):
        STFT(1).evaluate(x, np.array(2))
    with pytest.raises(ShapeError, match="too short"):
        STFT(0).evaluate(x, np.array(2), None, np.array(9))
    with pytest.raises(ShapeError, match="window"):
        STFT(0).evaluate(x, np.array(2), np.ones(3), np.array(4))
