"""What is known of a tensor: dtype, extents, and its value where shapes decide it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import ShapeError
from .records import lazy

Dim = int | str | None
"""One extent: a number, the name of a symbolic dimension, or None where nothing is known."""


UNKNOWN = np.dtype("V")
"""The dtype of a value whose type is not known."""

MAX_RANK = 32
"""Axes that NumPy has in every version."""


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not every system tells
        return 1 << 40


MAX_BYTES = _memory()
"""Bytes of one tensor: the machine's memory. A file of a hundred bytes can ask for more than any machine has."""


def check_size(shape: Sequence[int], dtype: np.dtype, tensor: str | None = None) -> None:
    """Raise ShapeError for a tensor that no memory can hold."""
    if 0 < math.prod(shape) * dtype.itemsize <= MAX_BYTES and len(shape) <= MAX_RANK:
        return
    # NumPy refuses empty arrays too when their other extents are beyond all memory
    if len(shape) > MAX_RANK or math.prod(max(d, 1) for d in shape) * dtype.itemsize > MAX_BYTES:
        raise ShapeError(
            "a tensor of this size cannot be held",
            tensor=tensor,
            expected=f"at most {MAX_BYTES} bytes and {MAX_RANK} axes",
            received=tuple(shape),
        )


@dataclass(frozen=True, eq=False)
class TensorSpec:
    """What is known of a value: dtype, shape, and the value itself where shapes alone decide it.

    Attributes
    ----------
    dtype : numpy.dtype
    shape : tuple of int, str or None, or None
        None when even the rank is unknown. While planning, all extents are ints.
    value : ndarray or None
        The value, when it is a constant or follows from shapes (Shape -> Gather -> Concat ...).
    kind : {"tensor", "sequence", "optional", "optional sequence"}
        What inputs and outputs of a graph are: a sequence is a list of arrays, dtype and shape those of its elements; an
        optional value may be None.
    """

    dtype: np.dtype
    shape: tuple[Dim, ...] | None
    value: np.ndarray | None = None
    kind: str = "tensor"

    def __init__(
        self, dtype: np.dtype, shape: tuple[Dim, ...] | None, value: np.ndarray | None = None, kind: str = "tensor"
    ) -> None:
        # as the generated one does, which sets each field by a call: planning makes thousands
        fields = self.__dict__
        fields["dtype"] = dtype
        fields["shape"] = shape
        fields["value"] = value
        fields["kind"] = kind

    @staticmethod
    def of(value: np.ndarray) -> TensorSpec:
        """The spec of a known value."""
        return TensorSpec(value.dtype, value.shape, value)

    @property
    def concrete(self) -> tuple[int, ...]:
        """The shape, when every extent is known; raises ValueError otherwise."""
        if not self.is_concrete:
            raise ValueError(f"the shape {self.shape} is not fully known")
        return self.shape  # type: ignore[return-value]

    @lazy
    def is_concrete(self) -> bool:
        if self.shape is None:
            return False
        for extent in self.shape:  # noqa: SIM110  asked so often that a generator would be felt
            if not isinstance(extent, int):
                return False
        return True
