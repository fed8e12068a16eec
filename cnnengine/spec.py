"""What is known of a tensor: dtype, extents, and its value where shapes decide it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import ShapeError
from .limits import check
from .records import lazy

Dim = int | str | None
"""One extent: a number, the name of a symbolic dimension, or None where nothing is known."""


UNKNOWN = np.dtype("V")
"""The dtype of a value whose type is not known."""

MAX_RANK = 32
"""Axes that NumPy has in every version."""


def check_rank(rank: int, tensor: str | None = None) -> None:
    """Raise ShapeError for more axes than an array can have: a million extents would take hours to multiply."""
    if rank > MAX_RANK:
        raise ShapeError("too many axes", tensor=tensor, expected=f"at most {MAX_RANK}", received=rank)


def check_size(shape: Sequence[int], dtype: np.dtype, tensor: str | None = None) -> None:
    """Raise LimitError for a tensor that is larger than tensors may be, ShapeError for one of too many axes."""
    check_rank(len(shape), tensor)
    # NumPy refuses empty arrays too when their other extents are beyond all memory
    size = math.prod([d or 1 for d in shape]) * dtype.itemsize
    if size > ANY_SIZE:
        check("tensor_bytes", size, tensor=tensor)


ANY_SIZE = 1 << 16
"""Bytes of a tensor that no limit forbids."""


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
