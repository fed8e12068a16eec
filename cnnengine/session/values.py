"""OrtValue: tensors that a session is given and gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import arguments
from ..errors import InputError, ShapeError, UnsupportedOperatorError, shortened

NO_SPARSE_TENSORS = "there are no sparse tensors"

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

    _array: np.ndarray

    def __init__(self, array: np.ndarray | OrtValue, numpy_obj: np.ndarray | None = None) -> None:
        if isinstance(array, OrtValue):  # what onnxruntime's class takes: a tensor, and the array to be kept alive
            self._array = array._array
            return
        if not isinstance(array, np.ndarray) or array.dtype.newbyteorder("=").name not in TYPE_NAMES:
            raise InputError(
                "must be an array", expected=f"one of {', '.join(TYPE_NAMES)}", received=getattr(array, "dtype", type(array))
            )
        if array.dtype.kind == "O" and not all(isinstance(one, (str, int)) and not isinstance(one, bool) for one in array.flat):
            raise InputError("objects that are no texts", tensor="array", expected="an array of str")
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

    @staticmethod
    def ortvalue_from_numpy_with_onnx_type(data: np.ndarray, /, onnx_element_type: int) -> OrtValue:
        """A tensor that shares the array's memory; the number must be that of the array's dtype."""
        value = OrtValue(data)
        if dtype_of(onnx_element_type) != value._array.dtype:
            raise InputError(
                "the number is not that of the array's dtype",
                tensor="onnx_element_type",
                expected=value.element_type(),
                received=onnx_element_type,
            )
        return value

    @staticmethod
    def ortvalue_from_shape_and_onnx_type(shape: Sequence[int], onnx_element_type: int, device: Any = None) -> OrtValue:
        """A tensor of this shape (zeros), by ONNX's number of its element type."""
        return OrtValue(zeros(shape, dtype_of(onnx_element_type)))

    @staticmethod
    def ortvalue_from_shape_and_type_for_memory_info(shape: Sequence[int], element_type: Any, memory_info: Any) -> OrtValue:
        """A tensor of this shape (zeros); there is one memory."""
        return OrtValue(zeros(shape, dtype_of(element_type)))

    @staticmethod
    def ortvalue_from_shape_and_onnx_type_for_memory_info(shape: Sequence[int], element_type: int, memory_info: Any) -> OrtValue:
        """A tensor of this shape (zeros); there is one memory."""
        return OrtValue(zeros(shape, dtype_of(element_type)))

    @staticmethod
    def from_dlpack(data: Any, is_bool: bool | None = None) -> OrtValue:
        """A tensor in the memory of another library's, on the CPU: what has `__dlpack__`, or a capsule of it.

        DLPack tells booleans as bytes; `is_bool` says so where the tensor itself does not.
        """
        if is_bool is None:
            is_bool = str(getattr(getattr(data, "dtype", None), "name", getattr(data, "dtype", ""))) in ("bool", "torch.bool")
        try:
            array = np.from_dlpack(data if hasattr(data, "__dlpack__") else _Capsule(data))
        except (TypeError, ValueError, RuntimeError, BufferError, AttributeError) as error:
            raise InputError(
                f"is no tensor on the CPU ({error})", tensor="data", expected="__dlpack__", received=type(data).__name__
            ) from None
        return OrtValue(array.view(np.bool_) if is_bool and array.dtype == np.uint8 else array)

    @staticmethod
    def ort_value_from_sparse_tensor(sparse_tensor: Any) -> OrtValue:
        """Refused: there are no sparse tensors."""
        raise UnsupportedOperatorError(NO_SPARSE_TENSORS, tensor="sparse_tensor")

    def as_sparse_tensor(self) -> Any:
        """Refused: there are no sparse tensors."""
        raise UnsupportedOperatorError(NO_SPARSE_TENSORS)

    def to_dlpack(self) -> Any:
        """A capsule for another library's `from_dlpack`."""
        return self.__dlpack__()

    @property
    def _ortvalue(self) -> OrtValue:
        """The tensor itself: onnxruntime's class has another one inside, which programs ask for."""
        return self

    def _get_c_value(self) -> OrtValue:
        return self

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

    def update_inplace(self, data: np.ndarray | OrtValue) -> None:
        """Overwrite the values; shape and dtype stay."""
        array = data._array if isinstance(data, OrtValue) else arguments.array(data, "data")
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


class _Capsule:
    """What NumPy asks for, around a bare capsule, which says nothing of its device."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


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
