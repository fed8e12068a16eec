"""A CNN inference engine for CPUs: ONNX in, compiled Cython kernels underneath.

>>> import cnnengine
>>> model = cnnengine.load("model.onnx")
>>> y = model(x)

`cnnengine.functional` has every layer as a function on arrays.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from . import functional
from .config import show_config
from .errors import (
    ClosedError,
    CNNEngineError,
    InputError,
    ModelError,
    ModelNotFoundError,
    ShapeError,
    UnsupportedOperatorError,
)
from .model import Model, TensorInfo, load

try:
    __version__ = version("cnnengine")
except PackageNotFoundError:  # used from a source tree
    __version__ = "0+unknown"

__all__ = [
    "CNNEngineError",
    "ClosedError",
    "InputError",
    "Model",
    "ModelError",
    "ModelNotFoundError",
    "ShapeError",
    "TensorInfo",
    "UnsupportedOperatorError",
    "__version__",
    "functional",
    "load",
    "show_config",
]
