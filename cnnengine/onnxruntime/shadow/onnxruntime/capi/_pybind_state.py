"""The same names as those of `onnxruntime_pybind11_state`: programs import this one."""

from . import onnxruntime_pybind11_state
from .onnxruntime_pybind11_state import *  # noqa: F403

__all__ = onnxruntime_pybind11_state.__all__
