"""Small things that several operator files share: axes, dtypes by ONNX number, sizes given as tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from ..errors import InputError, ModelError, ShapeError, UnsupportedOperatorError, needed
from ..spec import TensorSpec

Specs = Sequence[TensorSpec | None]
"""What is known of a node's inputs, None where absent."""

FAULTS = (ArithmeticError, LookupError, MemoryError, TypeError, ValueError)
"""What NumPy and Python raise when a reference or a kernel's builder meets values or sizes that nothing checked before."""

INT64 = np.dtype(np.int64)
FLOAT32 = np.dtype(np.float32)

DTYPES: dict[int, np.dtype] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    4: np.dtype(np.uint16),
    5: np.dtype(np.int16),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    8: np.dtype(object),
    9: np.dtype(np.bool_),
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
    12: np.dtype(np.uint32),
    13: np.dtype(np.uint64),
    14: np.dtype(np.complex64),
    15: np.dtype(np.complex128),
}
"""ONNX TensorProto.DataType -> dtype, for the types that NumPy has by itself; strings are objects."""

SMALL_TYPES: dict[int, str] = {
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4_e2m1fn",
    24: "float8_e8m0fnu",
    25: "uint2",
    26: "int2",
    27: "float6_e2m3fn",
    28: "float6_e3m2fn",
}
"""ONNX TensorProto.DataType -> name in ml_dtypes, one byte or two per element."""

DTYPE_NAMES: dict[str, int] = {
    "FLOAT": 1,
    "UINT8": 2,
    "INT8": 3,
    "UINT16": 4,
    "INT16": 5,
    "INT32": 6,
    "INT64": 7,
    "STRING": 8,
    "BOOL": 9,
    "FLOAT16": 10,
    "DOUBLE": 11,
    "UINT32": 12,
    "UINT64": 13,
    "COMPLEX64": 14,
    "COMPLEX128": 15,
    "BFLOAT16": 16,
}


@cache
def known_dtype(code: int) -> np.dtype | None:
    """The dtype of an ONNX type number, None where there is none.

    Raises
    ------
    NotInstalledError
        One that NumPy does not have by itself, and ml_dtypes is not installed.
    """
    if code in DTYPES:
        return DTYPES[code]
    if code not in SMALL_TYPES:
        return None
    name = SMALL_TYPES[code]
    dtype: np.dtype = np.dtype(getattr(needed("ml_dtypes", f"the element type {name}"), name))
    return dtype


def code_of(dtype: np.dtype) -> int | None:
    """The ONNX type number of a dtype, None where there is none."""
    for code, known in DTYPES.items():
        if known == dtype:
            return code
    for code, name in SMALL_TYPES.items():
        if dtype.name == name:
            return code
    return None


def is_small(dtype: np.dtype) -> bool:
    """Whether this is one of the types of ml_dtypes, which NumPy does not have by itself."""
    return dtype.isbuiltin == 2 and dtype.name in SMALL_TYPES.values()


def kind_of(dtype: np.dtype) -> str:
    """NumPy's letter for the kind of a dtype, those of ml_dtypes too: "f", "i", "u" ...; "V" is not known."""
    if not is_small(dtype):
        return dtype.kind
    return dtype.name[0] if dtype.name[0] in "iu" else "f"


def dtype_of(code: int | str, *, operator: str, node: str = "") -> np.dtype:
    """The dtype of an ONNX type number (or of its name, as Cast before version 6 has it).

    Raises
    ------
    UnsupportedOperatorError
        The type does not exist.
    """
    found = known_dtype(DTYPE_NAMES.get(code.upper(), -1) if isinstance(code, str) else int(code))
    if found is None:
        raise UnsupportedOperatorError(
            "this element type is not supported", node=node or None, operator=operator, expected="a NumPy dtype", received=code
        )
    return found


def spec_at(inputs: Sequence[TensorSpec | None], index: int) -> TensorSpec | None:
    """Input `index`, or None where it is absent."""
    return inputs[index] if index < len(inputs) else None


def required(inputs: Sequence[TensorSpec | None], index: int, operator: str) -> TensorSpec:
    """Input `index`, which must be there."""
    spec = spec_at(inputs, index)
    if spec is None:
        raise ModelError(
            "a required input is absent", operator=operator, expected=f"input {index}", received=f"{len(inputs)} inputs"
        )
    return spec


def normal_axis(axis: int, rank: int, operator: str) -> int:
    """`axis` counted from the front; raises ShapeError when the rank has no such axis."""
    if not -rank <= axis < rank:
        raise ShapeError(
            "there is no such axis", operator=operator, tensor="axis", expected=f"{-rank}..{rank - 1}", received=axis
        )
    return int(axis) + rank if axis < 0 else int(axis)


def normal_axes(axes: Iterable[int], rank: int, operator: str) -> tuple[int, ...]:
    """All of `axes` counted from the front; an axis named twice is an error."""
    result = tuple(normal_axis(int(a), rank, operator) for a in axes)
    if len(set(result)) != len(result):
        raise ShapeError("an axis is named twice", operator=operator, tensor="axes", expected="distinct axes", received=result)
    return result


def integers(value: Any, operator: str, tensor: str) -> tuple[int, ...]:
    """A 1-D (or scalar) integer tensor as Python ints, which cannot overflow."""
    array = np.asarray(value)
    if array.ndim > 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(
            "must be a list of integers",
            operator=operator,
            tensor=tensor,
            expected="a 1-D integer tensor",
            received=f"{array.dtype} of shape {array.shape}",
        )
    return tuple(int(v) for v in array.reshape(-1))


def scalar(value: Any, operator: str, tensor: str) -> Any:
    """The one element of a tensor, as a NumPy scalar."""
    array = np.asarray(value)
    if array.size != 1:
        raise InputError(
            "must hold one element", operator=operator, tensor=tensor, expected="a scalar", received=f"shape {array.shape}"
        )
    return array.reshape(-1)[0]


def broadcast_shape(a: Sequence[int], b: Sequence[int], operator: str) -> tuple[int, ...]:
    """The shape that both broadcast to."""
    try:
        return np.broadcast_shapes(tuple(a), tuple(b))
    except ValueError:
        raise ShapeError(
            "the shapes do not broadcast", operator=operator, expected=f"a shape that fits {tuple(a)}", received=tuple(b)
        ) from None


def as_ints(value: Any) -> tuple[int, ...] | None:
    """An attribute that is a list of integers, None where it is absent."""
    return None if value is None else tuple(int(v) for v in value)


def given_integers(
    inputs: Sequence[TensorSpec | None], index: int, attribute: tuple[int, ...] | None, operator: str, tensor: str
) -> tuple[int, ...] | None:
    """The attribute, or the known value of the input that replaced it; None where it is neither."""
    if attribute is not None:
        return attribute
    spec = spec_at(inputs, index)
    return None if spec is None or spec.value is None else integers(spec.value, operator, tensor)
