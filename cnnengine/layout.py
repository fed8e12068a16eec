"""How tensors lie in memory, and calls of kernels as plain data.

Two layouts exist.

plain
    C-contiguous, as NumPy and ONNX see it; any rank and dtype.
planes
    float32 or uint8 tensors of rank 3 to 5 (and rank 2 as 1x1x1 pixels): channels in blocks of `lanes`,
    ``[n][channel block][d][h][w][lane]``, the absent spatial axes 1. ``lanes`` is the SIMD width of the instruction
    set in floats, whatever the type, or 1 (each channel a plane of its own). With ``groups`` > 1 every group of channels
    starts a new block. A halo may surround the pixels (``halo``: begin and end per spatial axis d, h, w); the producer of a
    tensor writes it: zeros, or where a quantised tensor has another number for zero, that one (``fill``). Lanes beyond the
    last channel of a group are unspecified: no kernel may let them reach a result.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Halo = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Begin and end widths of the halo along d, h and w, in pixels."""

FLOAT32 = np.dtype(np.float32)
NO_HALO: Halo = ((0, 0), (0, 0), (0, 0))
ALIGNMENT = 64
HUGE_PAGE = 2 << 20


def merge_halos(a: Halo, b: Halo) -> Halo:
    """The smallest halo that serves both."""
    return tuple((max(p[0], q[0]), max(p[1], q[1])) for p, q in zip(a, b, strict=True))  # type: ignore[return-value]


def spatial3(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(d, h, w) of a tensor (N, C, spatial...) with at most three spatial axes; absent ones are 1."""
    tail = shape[2:]
    return (1,) * (3 - len(tail)) + tuple(tail)  # type: ignore[return-value]


@dataclass(frozen=True)
class View:
    """Where a tensor lies in its buffer; all numbers count elements, not bytes.

    Attributes
    ----------
    shape : tuple of int
        The tensor's ONNX shape.
    dtype : numpy.dtype
    lanes : int
        0 for plain, else the channels of one plane.
    groups : int
    halo : Halo
    sn, sp, sd, sh : int
        Strides of batch, plane, depth and row (the stride of a pixel is `lanes`). Zero when plain.
    offset : int
        From the start of the buffer to the first pixel (n = plane = d = h = w = 0).
    size : int
        Elements that the buffer must have.
    fill : int
        What the halo holds: the zero point of a quantised tensor.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    lanes: int = 0
    groups: int = 1
    halo: Halo = NO_HALO
    sn: int = 0
    sp: int = 0
    sd: int = 0
    sh: int = 0
    offset: int = 0
    size: int = 0
    fill: int = 0

    @staticmethod
    def plain(shape: tuple[int, ...], dtype: np.dtype | type = np.float32) -> View:
        return View(tuple(shape), np.dtype(dtype), size=math.prod(shape))

    @staticmethod
    def planes(
        shape: tuple[int, ...],
        lanes: int,
        halo: Halo = NO_HALO,
        groups: int = 1,
        dtype: np.dtype = FLOAT32,
        fill: int = 0,
    ) -> View:
        """A dense blocked buffer for `shape` (N, C, up to three spatial axes)."""
        d, h, w = spatial3(shape)
        (d0, d1), (h0, h1), (w0, w1) = halo
        sh = (w0 + w + w1) * lanes
        sd = (h0 + h + h1) * sh
        sp = (d0 + d + d1) * sd
        blocks = groups * -(-(shape[1] // groups) // lanes)
        sn = blocks * sp
        return View(tuple(shape), dtype, lanes, groups, halo, sn, sp, sd, sh, d0 * sd + h0 * sh + w0 * lanes, shape[0] * sn, fill)

    def within(self, whole: View) -> View:
        """This view as a range of the channel blocks of `whole`, which has its lanes, spatial extents and halo.

        The offset counts from the first block of the range. For one image the view is the dense one.
        """
        if self.n <= 1:
            return self
        return replace(self, sn=whole.sn, size=(self.n - 1) * whole.sn + self.blocks * self.sp)

    @property
    def is_plain(self) -> bool:
        return self.lanes == 0

    @property
    def n(self) -> int:
        return self.shape[0]

    @property
    def c(self) -> int:
        return self.shape[1]

    @property
    def dhw(self) -> tuple[int, int, int]:
        return spatial3(self.shape)

    @property
    def group_blocks(self) -> int:
        """Channel blocks of one group."""
        return -(-(self.c // self.groups) // self.lanes)

    @property
    def blocks(self) -> int:
        """Channel blocks of the whole tensor."""
        return self.groups * self.group_blocks

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class KernelCall:
    """One call of a kernel, before memory is assigned: plain data.

    Attributes
    ----------
    kernel : str
        Name in `cnnengine._kernels.KERNELS`.
    inputs, outputs : tuples of operand keys (hashable; None where an optional operand is absent)
        The kernel's operands in its order, inputs first.
    params : mapping
        The keyword arguments of the kernel's builder.
    node : str
        Name of the node that it serves, for reports.
    """

    kernel: str
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    node: str = ""


def aligned_empty(size: int, dtype: np.dtype | type = np.float32) -> np.ndarray:
    """An uninitialised 1-D array whose data is 64-byte aligned, where it is large at the start of a huge page."""
    dtype = np.dtype(dtype)
    alignment = ALIGNMENT if size * dtype.itemsize < 2 * HUGE_PAGE else HUGE_PAGE
    raw = np.empty(size * dtype.itemsize + alignment, np.uint8)
    start = -raw.__array_interface__["data"][0] % alignment  # far quicker than raw.ctypes
    return raw[start : start + size * dtype.itemsize].view(dtype)


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """A 1-D, 64-byte aligned, native-order copy of `array` in C order."""
    out = aligned_empty(array.size, array.dtype.newbyteorder("="))
    out.reshape(array.shape)[...] = array
    return out


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array is a view of a mapped file: the file may be written to, so no run may read it."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)


def kept(array: np.ndarray) -> np.ndarray:
    """The array as runs may hold it: itself, or a copy of what lies in a file or unaligned."""
    array = np.asarray(array)
    if array.flags.aligned and not is_mapped(array):
        return array
    return aligned_copy(array).reshape(array.shape)
