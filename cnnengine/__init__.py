"""A CNN inference engine for CPUs: ONNX in, compiled Cython kernels underneath.

>>> import cnnengine
>>> model = cnnengine.load("model.onnx")
>>> y = model(x)

`cnnengine.functional` has every layer as a function on arrays. `cnnengine.InferenceSession` and the names that belong to it
take the place of onnxruntime's on CPU.
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
from .session import (
    ExecutionMode,
    ExecutionOrder,
    GraphOptimizationLevel,
    InferenceSession,
    IOBinding,
    ModelMetadata,
    NodeArg,
    OrtValue,
    RunOptions,
    SessionOptions,
    disable_telemetry_events,
    enable_telemetry_events,
    get_all_providers,
    get_available_providers,
    get_build_info,
    get_device,
    get_version_string,
    set_default_logger_severity,
    set_default_logger_verbosity,
    set_seed,
)

try:
    __version__ = version("cnnengine")
except PackageNotFoundError:  # used from a source tree
    __version__ = "0+unknown"

__all__ = [
    "CNNEngineError",
    "ClosedError",
    "ExecutionMode",
    "ExecutionOrder",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "InputError",
    "Model",
    "ModelError",
    "ModelMetadata",
    "ModelNotFoundError",
    "NodeArg",
    "OrtValue",
    "RunOptions",
    "SessionOptions",
    "ShapeError",
    "TensorInfo",
    "UnsupportedOperatorError",
    "__version__",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "functional",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_version_string",
    "load",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_seed",
    "show_config",
]
