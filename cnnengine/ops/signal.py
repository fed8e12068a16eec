"""Fourier transforms: DFT and STFT, by NumPy's FFT. Complex numbers lie along a last axis of 2, real ones along one of 1."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ShapeError
from ..operator import SAME, Gives, Giving, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import Specs, normal_axis, required, scalar, spec_at
from .elements import check_kind


def _complex(x: np.ndarray) -> np.ndarray:
    """Complex numbers of the precision of `x`, at least single: NumPy's FFT computes in it."""
    wide = x.astype(np.float64 if x.dtype == np.float64 else np.float32)
    if x.shape[-1] == 1:
        return wide[..., 0]
    return np.ascontiguousarray(wide).view(np.result_type(wide, np.complex64))[..., 0]


def _parts(y: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.stack([y.real, y.imag], axis=-1).astype(dtype)


def _positive(value: Any, operator: str, tensor: str) -> int:
    number = scalar(value, operator, tensor)
    if number.dtype.kind not in "iu" or number < 1:
        raise InputError("must be a positive integer", operator=operator, tensor=tensor, expected=">= 1", received=number)
    return int(number)


@dataclass(frozen=True)
class DFT(Operator):
    """ONNX DFT (17, 20): the discrete Fourier transform along an axis, forwards or back.

    Attributes
    ----------
    axis : int, optional
        Version 17; later the third input, -2 where it is absent.
    onesided : int
        Forwards: the first half of the spectrum alone. Back: `x` is such a half, and the result is real.
    """

    axis: int | None = None
    inverse: int = 0
    onesided: int = 0

    op_type: ClassVar[str] = "DFT"
    min_version: ClassVar[int] = 17
    gives: ClassVar[Giving] = SAME

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> DFT:
        axis = int(node.attribute("axis", 1)) if node.version < 20 else None
        return cls(axis, int(node.attribute("inverse", 0)), int(node.attribute("onesided", 0)))

    def _axis(self, given: Any, rank: int) -> int:
        axis = self.axis if self.axis is not None else -2 if given is None else int(scalar(given, self.op_type, "axis"))
        axis = normal_axis(axis, rank, self.op_type)
        if axis == rank - 1:
            raise ShapeError(
                "the last axis holds real and imaginary parts", operator=self.op_type, tensor="axis", expected=f"< {rank - 1}"
            )
        return axis

    def _length(self, extent: int, given: Any) -> int:
        if given is not None:
            return _positive(given, self.op_type, "dft_length")
        return 2 * (extent - 1) if self.inverse and self.onesided else extent

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, length, axis = required(inputs, 0, self.op_type), spec_at(inputs, 1), spec_at(inputs, 2)
        check_kind(x, "f", self.op_type)
        shape = list(x.concrete)
        if len(shape) < 2 or shape[-1] not in (1, 2):
            raise ShapeError(
                "must end in an axis of 1 or 2", operator=self.op_type, tensor="input", expected="(..., 1 or 2)", received=shape
            )
        back = bool(self.inverse and self.onesided)
        shape[-1] = 1 if back else 2
        if axis is not None and axis.value is None:
            return [TensorSpec(x.dtype, (*(None,) * (len(shape) - 1), shape[-1]))]
        at = self._axis(None if axis is None else axis.value, len(shape))
        if length is not None and length.value is None:
            return [TensorSpec(x.dtype, tuple(None if i == at else d for i, d in enumerate(shape)))]
        n = self._length(shape[at], None if length is None else length.value)
        shape[at] = n // 2 + 1 if self.onesided and not self.inverse else n
        return [TensorSpec(x.dtype, tuple(shape))]

    def reference(self, *inputs: Any) -> list[Any]:
        x, length, axis = (*inputs, None, None)[:3]
        at = self._axis(axis, x.ndim)
        n = self._length(x.shape[at], length)
        signal = _complex(x)
        if self.inverse and self.onesided:
            return [np.fft.irfft(signal, n, axis=at)[..., None].astype(x.dtype)]
        y = np.fft.ifft(signal, n, axis=at) if self.inverse else np.fft.fft(signal, n, axis=at)
        if self.onesided:
            y = y.take(range(n // 2 + 1), axis=at)
        return [_parts(y, x.dtype)]


@dataclass(frozen=True)
class STFT(Operator):
    """ONNX STFT (17): Fourier transforms of windowed frames of a signal (batch, length, 1 or 2).

    Attributes
    ----------
    onesided : int
        The first half of each spectrum alone; for real signals.
    """

    onesided: int = 1

    op_type: ClassVar[str] = "STFT"
    min_version: ClassVar[int] = 17
    gives: ClassVar[Giving] = (Gives(rank=4),)

    def _frames(self, shape: tuple[int, ...], step: Any, window: tuple[int, ...] | None, length: Any) -> tuple[int, int, int]:
        """Number of frames, their length and distance."""
        if len(shape) != 3 or shape[2] not in (1, 2) or (self.onesided and shape[2] == 2):
            raise ShapeError(
                "the signal has the wrong shape",
                operator=self.op_type,
                tensor="signal",
                expected="(batch, length, 1), or 2 parts where onesided is 0",
                received=shape,
            )
        distance = _positive(step, self.op_type, "frame_step")
        n = _positive(length, self.op_type, "frame_length") if length is not None else window[0] if window else shape[1]
        if window is not None and window != (n,):
            raise ShapeError("the window does not fit", operator=self.op_type, tensor="window", expected=(n,), received=window)
        if n > shape[1]:
            raise ShapeError("the signal is too short", operator=self.op_type, expected=f"at least {n}", received=shape[1])
        return 1 + (shape[1] - n) // distance, n, distance

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, step = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        window, length = spec_at(inputs, 2), spec_at(inputs, 3)
        check_kind(x, "f", self.op_type, "signal")
        if step.value is None or (length is not None and length.value is None):
            return [TensorSpec(x.dtype, (x.concrete[0], None, None, 2))]
        frames, n, _ = self._frames(
            x.concrete, step.value, None if window is None else window.concrete, None if length is None else length.value
        )
        return [TensorSpec(x.dtype, (x.concrete[0], frames, n // 2 + 1 if self.onesided else n, 2))]

    def reference(self, *inputs: Any) -> list[Any]:
        x, step, window, length = (*inputs, None, None)[:4]
        frames, n, distance = self._frames(x.shape, step, None if window is None else window.shape, length)
        signal = _complex(x)
        cut = np.stack([signal[:, i * distance : i * distance + n] for i in range(frames)], axis=1)
        y = np.fft.fft(cut if window is None else cut * window.astype(cut.real.dtype), axis=-1)
        return [_parts(y[..., : n // 2 + 1] if self.onesided else y, x.dtype)]
