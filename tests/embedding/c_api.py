"""The C interface through ctypes: the table of functions in the capsule, as a C program reaches it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

import cnnengine.capi

MAX_RANK = 8
OK, ARGUMENT, HANDLE, NOT_FOUND, MODEL, UNSUPPORTED, SHAPE, DTYPE, MEMORY, BUSY, NEEDS_PYTHON, INPUT, INTERNAL, STOPPED = range(
    14
)
ALLOW_PYTHON, NO_WINOGRAD = 1, 2
CODES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "float64": 11}


class Options(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("threads", ctypes.c_int32)]


class Info(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("dims", ctypes.c_int64 * MAX_RANK),
    ]


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("dims", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
    ]


U64, I32, PU64, PI32, PINFO, PTENSOR = (
    ctypes.c_uint64,
    ctypes.c_int32,
    ctypes.POINTER(ctypes.c_uint64),
    ctypes.POINTER(ctypes.c_int32),
    ctypes.POINTER(Info),
    ctypes.POINTER(Tensor),
)


def function(*arguments: type, result: type = ctypes.c_int) -> type:
    return ctypes.CFUNCTYPE(result, *arguments)


class Table(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("load", function(ctypes.c_char_p, ctypes.POINTER(Options), PU64)),
        ("load_memory", function(ctypes.c_char_p, ctypes.c_size_t, ctypes.POINTER(Options), PU64)),
        ("model_free", function(U64)),
        ("input_count", function(U64, PI32)),
        ("output_count", function(U64, PI32)),
        ("input_info", function(U64, I32, PINFO)),
        ("output_info", function(U64, I32, PINFO)),
        ("workspace_new", function(U64, PTENSOR, I32, ctypes.c_uint32, PU64)),
        ("workspace_free", function(U64)),
        ("workspace_output", function(U64, I32, PINFO)),
        ("run", function(U64, PTENSOR, I32, PTENSOR, I32)),
        ("last_error", function(result=ctypes.c_char_p)),
        ("status_name", function(ctypes.c_int, result=ctypes.c_char_p)),
        ("stop", function(U64)),
    ]


def table() -> Table:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return Table.from_address(get(cnnengine.capi._C_API, b"cnnengine.capi._C_API"))


def tensors(arrays: Sequence[np.ndarray], *, strided: bool = False) -> ctypes.Array[Tensor]:
    """Descriptions of arrays, which the caller keeps alive; with `strided` as they lie, else as if in C order."""
    made = (Tensor * max(len(arrays), 1))()
    for t, a in zip(made, arrays, strict=False):
        t.data, t.dtype, t.rank = a.ctypes.data, CODES[a.dtype.name], a.ndim
        t.dims = (ctypes.c_int64 * max(a.ndim, 1))(*a.shape)
        if strided:
            t.strides = (ctypes.c_int64 * max(a.ndim, 1))(*a.strides)
    return made
