"""Names of the Python part of onnxruntime."""

from collections.abc import Callable
from typing import Any

from cnnengine.onnxruntime.devices import OrtDevice, OrtDeviceVendorId, get_ort_device_type
from cnnengine.onnxruntime.functions import (
    check_and_normalize_provider_args,
    copy_tensors,
    get_vendor_id_for_device_type,
    make_get_initializer_location_func_wrapper,
)
from cnnengine.onnxruntime.inference import InferenceSession, IOBinding, Session
from cnnengine.onnxruntime.refused import OBJECTS
from cnnengine.session import OrtValue

from . import _pybind_state as C

AdapterFormat = OBJECTS["AdapterFormat"]
ModelCompiler = OBJECTS["ModelCompiler"]
SparseTensor = OBJECTS["SparseTensor"]
GetInitializerLocationFunc = GetInitializerLocationWrapperFunc = Callable[..., Any]

__all__ = [
    "AdapterFormat",
    "C",
    "GetInitializerLocationFunc",
    "GetInitializerLocationWrapperFunc",
    "IOBinding",
    "InferenceSession",
    "ModelCompiler",
    "OrtDevice",
    "OrtDeviceVendorId",
    "OrtValue",
    "Session",
    "SparseTensor",
    "check_and_normalize_provider_args",
    "copy_tensors",
    "get_ort_device_type",
    "get_vendor_id_for_device_type",
    "make_get_initializer_location_func_wrapper",
]
