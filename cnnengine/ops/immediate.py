"""Kernels run on arrays at once, for operators whose shapes are known only when they run: no plan, no lowering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._kernels import INDEX_CHUNK, kernel
from ..errors import InputError
from ..layout import View
from .common import INT64


def call(
    name: str, inputs: Sequence[np.ndarray], outputs: Sequence[tuple[tuple[int, ...], np.dtype]], **params: Any
) -> list[np.ndarray]:
    """The outputs of a kernel on plain C-contiguous arrays."""
    made = [np.empty(shape, dtype) for shape, dtype in outputs]
    launch = kernel(name).build(
        [View.plain(a.shape, a.dtype) for a in inputs], [View.plain(a.shape, a.dtype) for a in made], **params
    )
    launch(*inputs, *made)
    return made


def offsets(
    indices: np.ndarray,
    operator: str,
    depth: int,
    extents: Sequence[int],
    strides: Sequence[int],
    shape: Sequence[int] = (),
    bases: Sequence[int] = (),
) -> np.ndarray:
    """As `copies.offsets`, on an array.

    Raises
    ------
    InputError
        An index lies outside of its axis.
    """
    count = math.prod(indices.shape) // depth
    found, words = call(
        "index_offsets",
        [indices],
        [((count,), INT64), ((3 * -(-count // INDEX_CHUNK),), INT64)],
        depth=depth,
        extents=extents,
        strides=strides,
        shape=shape,
        bases=bases,
    )
    for bad, value, _ in words.reshape(-1, 3).tolist():
        if bad:
            raise InputError("an index lies outside the axis", operator=operator, tensor="indices", received=value)
    return found
