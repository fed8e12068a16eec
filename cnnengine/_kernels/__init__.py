"""Kernels: compiled functions on arrays, and the index of them.

A kernel is called alone in two steps. Its builder, ``build_NAME(inputs, outputs, **params)`` of its module, resolves the geometry
for these views (`cnnengine.layout.View`, None for an absent optional operand) on the current instruction set, and raises
ValueError when views and parameters do not fit together. What it returns, a `launch.Launch`, is called with the operands' buffers
as often as one likes: it checks each one's type, size and right to be written to, and runs a `prange` over the chunks. ::

    view = View.plain((1000,))
    launch = kernel("softmax").build((view,), (view,), axis=0)
    y = numpy.empty(1000, numpy.float32)
    launch(x, y, threads=2)

Buffers are C-contiguous arrays, or whatever has the buffer protocol, in the layout of the view: of a tensor in planes, the run of
floats from the start of its halo. Packers of weights, and functions that are no kernels (FUNCTIONS), take typed memoryviews.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

try:
    from .dispatch import ACTIVATIONS as ACTIVATIONS
except ModuleNotFoundError as error:
    if error.name != f"{__name__}.dispatch":
        raise
    from pathlib import Path

    _folder = Path(__file__).resolve().parent
    _text = f"the compiled modules of cnnengine for Python {sys.version_info[0]}.{sys.version_info[1]} are missing in {_folder}"
    if (_folder.parents[1] / "setup.py").exists():
        _text += (
            ". This is the source tree, which Python finds before an installed cnnengine when it is started here: start it in "
            "another folder, or as `python -P`. To use the tree itself, compile its modules in place: `pip install -e .`"
        )
    else:
        _text += ": install cnnengine anew, with this Python's pip"
    raise ImportError(_text, name=error.name) from None
from .launch import Launch

KERNELS: dict[str, str] = {
    # kernel name -> module
    "conv": "conv",
    "depthwise": "depthwise",
    "qconv": "qconv",
    "surround": "qconv",
    "bconv": "bconv",
    "chain": "chain",
    "gate_weights": "chain",
    "dense": "dense",
    "dense_rows": "dense",
    "dense_half": "dense",
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
    "qdepthwise": "qdepthwise",
    "qpool": "qpool",
    "qglobal_pool": "qpool",
    "qdense": "qdense",
    "qpack": "qdense",
    "copy_planes": "move",
    "take_planes": "move",
    "pad_planes": "move",
    "copy_nd": "move",
    "fill": "move",
    "gather": "move",
    "resize": "move",
    "cast": "cast",
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
    "quantize": "qvector",
    "dequantize": "qvector",
    "qrange": "qvector",
    "dynamic_scale": "qvector",
    "flip_sign": "qvector",
    "qtable": "qvector",
    "qadd": "qvector",
    "qmul": "qvector",
}

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

RANGE_CHUNK = 16384
"""Floats whose least and greatest one chunk of `qrange` finds."""


class Kernel(NamedTuple):
    """Builder of one kernel, and the front that all kernels have: ``front(launch, *operands, threads=1)`` is ``launch(...)``."""

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
    return Kernel(getattr(module, f"build_{name}"), Launch.__call__)
