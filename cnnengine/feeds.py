"""Arrays that callers hand in: what a model's inputs must be, and arrays that results may be written to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import arguments
from .errors import InputError, ShapeError
from .spec import Dim


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model.

    Attributes
    ----------
    name : str
    shape : tuple of int, str or None
        A string or None is a dynamic dimension; the whole shape is None where the file does not say its rank.
    dtype : numpy.dtype
    kind : {"tensor", "sequence", "optional", "optional sequence"}
        A sequence is a list of arrays, and an optional value may be None; dtype is then that of the elements.
    """

    name: str
    shape: tuple[Dim, ...] | None
    dtype: np.dtype
    kind: str = "tensor"

    @property
    def default_shape(self) -> tuple[int, ...] | None:
        """The shape with 1 for a dynamic first axis; None where another extent is dynamic, or it is no tensor of known rank."""
        if self.shape is None or self.kind != "tensor":
            return None
        shape = tuple(1 if axis == 0 and not isinstance(d, int) else d for axis, d in enumerate(self.shape))
        return shape if all(isinstance(d, int) for d in shape) else None  # type: ignore[return-value]


def check_feeds(feeds: Mapping[str, Any], infos: Mapping[str, TensorInfo], *, model: str, copies: bool = True) -> dict[str, Any]:
    """Values for all of these inputs: arrays C-contiguous and aligned (with `copies` alone), sequences as lists of arrays.

    Raises
    ------
    InputError, ShapeError
        A missing, unknown or wrongly typed input, or a wrong shape.
    """
    if not isinstance(feeds, Mapping):
        raise InputError(
            "must map names to arrays", model=model, tensor="feeds", expected="a dict", received=type(feeds).__name__
        )
    for name in feeds:
        if name not in infos:
            raise InputError(
                f"no such input{arguments.meant(name, infos)}",
                model=model,
                tensor=str(name),
                expected=f"one of {', '.join(infos)}",
                received=name,
            )
    values: dict[str, Any] = {}
    for name, info in infos.items():
        if name not in feeds:
            raise InputError("an input is missing", model=model, tensor=name, expected=f"{info.dtype} {info.shape}")
        if info.kind != "tensor":
            values[name] = _check_form(info, feeds[name], model)
            continue
        array = _typed(info, feeds[name], model)
        if info.shape is not None and (
            array.ndim != len(info.shape)
            or any(isinstance(d, int) and d != n for d, n in zip(info.shape, array.shape, strict=True))
        ):
            raise ShapeError("has the wrong shape", model=model, tensor=name, expected=info.shape, received=array.shape)
        if copies:
            array = np.require(array, info.dtype, ("C", "ALIGNED")).reshape(array.shape)
        values[name] = array
    return values


def _typed(info: TensorInfo, value: Any, model: str) -> np.ndarray:
    """One array of the input's dtype, in any byte order; texts may be NumPy's."""
    array = arguments.array(value, info.name, model=model)
    if info.dtype == object and array.dtype.kind in "UT":
        array = array.astype(object)
    if array.dtype.newbyteorder("=") != info.dtype:
        raise InputError("has the wrong dtype", model=model, tensor=info.name, expected=info.dtype, received=array.dtype)
    return array


def _check_form(info: TensorInfo, value: Any, model: str) -> Any:
    """A sequence or optional value, with arrays of its own."""
    if value is None and info.kind.startswith("optional"):
        return None
    if not info.kind.endswith("sequence"):
        return np.array(_typed(info, value, model), info.dtype, order="C")
    if not isinstance(value, list | tuple):
        received = type(value).__name__
        raise InputError("must be a sequence", model=model, tensor=info.name, expected="a list of arrays", received=received)
    return [np.array(_typed(info, v, model), info.dtype, order="C") for v in value]


def result_targets(wanted: Sequence[str], out: Sequence[Any], *, model: str) -> list[tuple[str, np.ndarray | None]]:
    """The arrays that results are to be written to as NumPy sees them, by output; None where none was given.

    Raises
    ------
    InputError
        Not one for each output, or one that cannot be written to.
    """
    if not isinstance(out, Iterable) or not hasattr(type(out), "__len__"):
        raise InputError("must be a list of arrays", model=model, tensor="out", expected="a list", received=type(out).__name__)
    if len(out) != len(wanted):
        raise InputError(
            "one array (or None) for each output", model=model, tensor="out", expected=len(wanted), received=len(out)
        )
    targets: list[tuple[str, np.ndarray | None]] = []
    for name, target in zip(wanted, out, strict=True):
        array = None if target is None else shared(target)
        if array is not None and (not array.flags.writeable or any(a is array for _, a in targets)):
            raise InputError("cannot be written to", model=model, tensor=name, expected="a writeable array of its own")
        if target is not None and array is None:
            raise InputError(
                "its memory cannot be reached",
                model=model,
                tensor=name,
                expected="an array",
                received=type(target).__name__,
            )
        targets.append((name, array))
    return targets


def in_place(name: str, array: np.ndarray | None, *, model: str) -> np.ndarray:
    """An array that kernels can work on where it lies; raises InputError for others."""
    if array is None or not (array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative):
        raise InputError("cannot be used where it lies", model=model, tensor=name, expected="a C-contiguous array")
    return array


def shared(value: Any) -> np.ndarray | None:
    """The memory of a value as an array, never a copy; None where that is not possible."""
    if isinstance(value, np.ndarray):
        return value
    try:
        array = np.asarray(memoryview(value))
    except (BufferError, TypeError, ValueError):
        if not hasattr(type(value), "__dlpack__") and not hasattr(value, "__array_interface__"):
            return None
        try:
            array = np.asarray(value) if hasattr(value, "__array_interface__") else np.from_dlpack(value)
            if not array.flags.writeable and hasattr(type(value), "__array__"):
                # NumPy takes DLPack's memory as read-only where it is not told; the array of its own may be a copy
                own = np.asarray(value)
                array = own if np.may_share_memory(own, array) else array
        except MemoryError:
            raise
        except Exception:  # objects raise what they like
            return None
    return array


def direct_targets(targets: Sequence[tuple[str, np.ndarray | None]], values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The given arrays that kernels may write to while they read the inputs."""
    inputs = [v for v in values.values() if isinstance(v, np.ndarray)]
    return {
        name: array
        for name, array in targets
        if array is not None
        and array.flags.c_contiguous
        and array.flags.aligned
        and array.dtype.isnative
        and not any(np.may_share_memory(array, v) for v in inputs)
        and not any(other is not array and other is not None and np.may_share_memory(array, other) for _, other in targets)
    }
