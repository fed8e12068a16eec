"""Kernels: compiled functions on arrays, their builders, and the index of both.

For every kernel NAME of the index, its module has

``build_NAME(inputs, outputs, **params) -> Launch``
    Resolves the geometry for these views (`cnnengine.layout.View`, None for an absent optional operand) on the
    current instruction set. Raises ValueError when views and parameters do not fit together.
``NAME(launch, *inputs, *outputs, threads=1)``
    The front: typed 1-D contiguous memoryviews over the operands' buffers, checked against the geometry's extents, and a
    `prange` over the chunks. Absent operands are None.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from .launch import Launch

ACTIVATIONS = {
    "clip": 1,
    "leaky_relu": 2,
    "sigmoid": 3,
    "tanh": 4,
    "silu": 5,
    "hard_sigmoid": 6,
    "hard_swish": 7,
    "elu": 8,
    "selu": 9,
    "celu": 10,
    "gelu": 11,
    "gelu_tanh": 12,
    "mish": 13,
    "softplus": 14,
    "softsign": 15,
    "exp": 16,
    "log": 17,
    "erf": 18,
    "abs": 19,
    "neg": 20,
    "sqrt": 21,
    "reciprocal": 22,
    "sign": 23,
    "floor": 24,
    "ceil": 25,
    "round": 26,
    "thresholded_relu": 27,
    "square": 28,
    "pow": 29,
    "affine": 30,
    "swish": 31,
    "shrink": 32,
    "sin": 33,
    "cos": 34,
    "tan": 35,
    "asin": 36,
    "acos": 37,
    "atan": 38,
    "sinh": 39,
    "cosh": 40,
    "asinh": 41,
    "acosh": 42,
    "atanh": 43,
    "whole": 44,
}
"""Names of the activations, to the numbers of ActivationKind (tiles/vector.pxd, which explains alpha and beta)."""

KERNELS: dict[str, str] = {
    # kernel name -> module
    "conv": "conv",
    "depthwise": "depthwise",
    "chain": "chain",
    "gate_weights": "chain",
    "dense": "dense",
    "dense_rows": "dense",
    "matmul": "matmul",
    "attention": "matmul",
    "winograd": "winograd",
    "reorder": "move",
    "pool": "pool",
    "global_pool": "pool",
    "adaptive_pool": "pool",
    "max_pool_indices": "pool",
    "max_unpool": "pool",
    "batch_norm": "norm",
    "channel_norm": "norm",
    "row_norm": "norm",
    "pixel_norm": "norm",
    "lrn": "norm",
    "recurrent": "recurrent",
    "copy_planes": "move",
    "take_planes": "move",
    "pad_planes": "move",
    "copy_nd": "move",
    "fill": "move",
    "gather": "move",
    "resize": "move",
    "cast": "move",
    "index_offsets": "select",
    "take": "select",
    "put": "select",
    "topk": "select",
    "pair": "typed",
    "float_test": "typed",
    "arg": "typed",
    "hardmax": "typed",
    "one_hot": "typed",
    "triangle": "typed",
    "reverse_sequence": "typed",
    "running": "typed",
    "determinant": "typed",
    "resample": "image",
    "col2im": "image",
    "deform_columns": "image",
    "affine_grid": "image",
    "roi_align": "sample",
    "grid_sample": "sample",
    "activation": "vector",
    "binary": "vector",
    "compare": "vector",
    "logic": "vector",
    "where": "vector",
    "reduce": "vector",
    "softmax": "vector",
}

BYTE_FRONTS = frozenset(
    ["cast", "copy_nd", "fill", "gather", "grid_sample", "index_offsets", "put", "roi_align", "take", "topk"]
    + ["arg", "determinant", "float_test", "hardmax", "one_hot", "pair", "reverse_sequence", "running", "triangle"]
)
"""Kernels of any element type: their fronts take the buffers as bytes."""


FUNCTIONS: dict[str, str] = {
    "best_of_line": "select",
    "find_nonzero": "select",
    "suppress": "select",
    "compress": "typed",
    "progression": "typed",
    "unique": "typed",
}
"""Functions that give arrays of as many rows as there are, called by the host: name -> module."""

INDEX_CHUNK = 16384
"""Points whose indices one chunk of `index_offsets` checks."""


class Kernel(NamedTuple):
    """Builder and front of one kernel."""

    build: Callable[..., Any]
    front: Callable[..., None]


@cache
def function(name: str) -> Callable[..., Any]:
    """The function of FUNCTIONS of this name; raises KeyError."""
    found: Callable[..., Any] = getattr(importlib.import_module(f"{__name__}.{FUNCTIONS[name]}"), name)
    return found


@cache
def kernel(name: str) -> Kernel:
    """The kernel of this name; raises KeyError."""
    module = importlib.import_module(f"{__name__}.{KERNELS[name]}")
    return Kernel(getattr(module, f"build_{name}"), getattr(module, name, Launch.__call__))
