"""OrtValue: tensors that a session is given and gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import arguments
from ..errors import InputError, ShapeError, shortened

TYPE_NAMES: dict[str, tuple[str, int]] = {
    "float32": ("float", 1),
    "uint8": ("uint8", 2),
    "int8": ("int8", 3),
    "uint16": ("uint16", 4),
    "int16": ("int16", 5),
    "int32": ("int32", 6),
    "int64": ("int64", 7),
    "object": ("string", 8),
    "bool": ("bool", 9),
    "float16": ("float16", 10),
    "float64": ("double", 11),
    "uint32": ("uint32", 12),
    "uint64": ("uint64", 13),
    "complex64": ("complex64", 14),
    "complex128": ("complex128", 15),
}
"""dtype -> the element type's name in ``tensor(...)`` and its ONNX number."""


class OrtValue:
    """A tensor in the memory of the CPU, for IOBinding and run_with_ort_values; shares the memory of its array."""

    __slots__ = ("_array",)

    def __init__(self, array: np.ndarray) -> None:
        if not isinstance(array, np.ndarray) or array.dtype.newbyteorder("=").name not in TYPE_NAMES:
            raise InputError(
                "must be an array", expected=f"one of {', '.join(TYPE_NAMES)}", received=getattr(array, "dtype", type(array))
            )
        self._array = np.require(array, array.dtype.newbyteorder("="), "C").reshape(array.shape)

    @staticmethod
    def ortvalue_from_numpy(numpy_obj: np.ndarray, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1) -> OrtValue:
        """A tensor that shares the array's memory where that is contiguous, else a copy."""
        check_device(device_type, device_id)
        return OrtValue(numpy_obj)

    @staticmethod
    def ortvalue_from_shape_and_type(
        shape: Sequence[int], element_type: Any = np.float32, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """A tensor of this shape (zeros); `element_type` is a dtype or an ONNX number."""
        check_device(device_type, device_id)
        return OrtValue(zeros(shape, dtype_of(element_type)))

    def numpy(self) -> np.ndarray:
        """The array itself, not a copy."""
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        converted = self._array if dtype is None else self._array.astype(dtype, copy=False)
        return converted.copy() if copy and converted is self._array else converted

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()

    def update_inplace(self, np_arr: np.ndarray) -> None:
        """Overwrite the values; shape and dtype stay."""
        array = arguments.array(np_arr, "np_arr")
        if array.shape != self._array.shape or array.dtype.newbyteorder("=") != self._array.dtype:
            raise ShapeError(
                "the new values do not fit",
                expected=f"{self._array.dtype} {self._array.shape}",
                received=f"{array.dtype} {array.shape}",
            )
        if not self._array.flags.writeable:
            raise InputError("the tensor is read-only", expected="a writable array")
        np.copyto(self._array, array)

    def shape(self) -> list[int]:
        return list(self._array.shape)

    def data_type(self) -> str:
        """Such as ``"tensor(float)"``."""
        return f"tensor({TYPE_NAMES[self._array.dtype.name][0]})"

    def element_type(self) -> int:
        """ONNX's number of the element type."""
        return TYPE_NAMES[self._array.dtype.name][1]

    def device_name(self) -> str:
        return "cpu"

    def data_ptr(self) -> int:
        """Address of the first element."""
        return int(self._array.ctypes.data)

    def tensor_size_in_bytes(self) -> int:
        return int(self._array.nbytes)

    def has_value(self) -> bool:
        return True

    def is_tensor(self) -> bool:
        return True

    def is_sparse_tensor(self) -> bool:
        return False

    def is_tensor_sequence(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"<cnnengine.OrtValue {self.data_type()} {self.shape()}>"


def dtype_of(element_type: Any) -> np.dtype:
    """A dtype from a dtype, a scalar type or an ONNX number."""
    dtype: np.dtype
    if hasattr(type(element_type), "__index__"):
        wanted = arguments.integer(element_type, "element_type", None, None)
        for name, (_, number) in TYPE_NAMES.items():
            if number == wanted:
                dtype = np.dtype(name)
                return dtype
    elif element_type is not None and not isinstance(element_type, np.generic):  # NumPy takes None for float64
        try:
            dtype = np.dtype(element_type)
        except Exception:  # TypeError, and what texts that are no dtype's raise
            dtype = np.dtype("V")
        if dtype.newbyteorder("=").name in TYPE_NAMES:
            return dtype
    raise InputError(
        "an unknown element type",
        tensor="element_type",
        expected="a dtype or an ONNX number",
        received=shortened(repr, element_type),
    )


def zeros(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    extents = arguments.extents(shape, "shape")
    try:
        return np.zeros(extents, dtype)
    except (ValueError, MemoryError) as error:
        raise ShapeError(f"there is no memory for this shape ({error})", tensor="shape", received=extents) from None


def check_device(device_type: str, device_id: int) -> None:
    if str(device_type).lower() != "cpu":
        raise InputError("there is no such device", tensor="device_type", expected="'cpu'", received=device_type)
    if arguments.integer(device_id, "device_id", None, None) != 0:
        raise InputError("there is one CPU device", tensor="device_id", expected=0, received=device_id)
