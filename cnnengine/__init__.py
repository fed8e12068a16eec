# ruff: noqa: F403, F405
"""A CNN inference engine for CPUs: ONNX in, compiled Cython kernels underneath.

>>> import cnnengine
>>> model = cnnengine.load("model.onnx")
>>> y = model(x)

`cnnengine.functional` has every layer as a function on arrays. `cnnengine.InferenceSession` and the names that belong to it
take the place of onnxruntime's on CPU.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from .errors import (
    ClosedError,
    CNNEngineError,
    InputError,
    LimitError,
    ModelError,
    ModelNotFoundError,
    NotInstalledError,
    ShapeError,
    StoppedError,
    TimedOutError,
    UnsupportedOperatorError,
)

_refused: CNNEngineError | None = None
try:
    from .limits import Limits
    from .model import Model, Stop, TensorInfo, load
except CNNEngineError as error:
    # CNNENGINE_ISA names no instruction set of this machine: what computes raises this when it is asked for, so that the command,
    # which lies in this package, can say it in a line
    _refused = error

if TYPE_CHECKING:
    from . import functional, lab, tasks
    from .config import show_config
    from .preprocess import Preprocess
    from .quantization import quantize
    from .session import *

    __version__: str


_ELSEWHERE = {"Preprocess": ".preprocess", "quantize": ".quantization", "show_config": ".config"}
"""Names that no first prediction needs, and the modules that have them."""


def __getattr__(name: str) -> Any:
    """What is listed here, and `session`'s names, are found when first asked for: importing stays cheap."""
    if _refused is not None and name in __all__ and name != "__version__":
        raise _refused
    if name in ("functional", "lab", "tasks"):
        return importlib.import_module(f".{name}", __name__)
    value: Any
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value = version("cnnengine")
        except PackageNotFoundError:  # used from a source tree
            value = "0+unknown"
    elif name in _ELSEWHERE:
        value = getattr(importlib.import_module(_ELSEWHERE[name], __name__), name)
    elif name in __all__:
        value = getattr(importlib.import_module(".session", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def get_include() -> str:
    """Folder of cnnengine.h, for programs and extension modules that embed the engine (docs/embedding.md)."""
    return os.path.join(os.path.dirname(__file__), "include")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "CNNEngineError",
    "ClosedError",
    "ExecutionMode",
    "ExecutionOrder",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "InputError",
    "LimitError",
    "Limits",
    "Model",
    "ModelError",
    "ModelMetadata",
    "ModelNotFoundError",
    "NodeArg",
    "NotInstalledError",
    "OrtValue",
    "Preprocess",
    "RunOptions",
    "SessionOptions",
    "ShapeError",
    "Stop",
    "StoppedError",
    "TensorInfo",
    "TimedOutError",
    "UnsupportedOperatorError",
    "__version__",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "functional",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_include",
    "get_version_string",
    "lab",
    "load",
    "quantize",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_seed",
    "show_config",
    "tasks",
]
