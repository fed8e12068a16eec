"""Model inputs from .npy and .npz files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from ..model import TensorInfo

SUFFIXES = (".npy", ".npz")


def is_array(path: str) -> bool:
    """Whether the file's name says that it holds NumPy arrays."""
    return Path(path).suffix.lower() in SUFFIXES


def read_feeds(path: str, inputs: Sequence[TensorInfo]) -> dict[str, np.ndarray]:
    """An array for every input of the model.

    A .npy file, or a .npz with one array, is the only input of a model with one; otherwise arrays are found by the
    inputs' names. A missing batch axis is added. Nothing is scaled or normalised.

    Raises
    ------
    InputError
        The file cannot be read, an array is missing, or its dtype or number of axes does not fit.
    """
    arrays = _load(path)
    if len(inputs) == 1 and len(arrays) == 1:
        arrays = {inputs[0].name: next(iter(arrays.values()))}
    missing = [value.name for value in inputs if value.name not in arrays]
    if missing:
        raise InputError("arrays are missing", expected=", ".join(missing), received=", ".join(arrays) or "none")
    return {value.name: _fitted(arrays[value.name], value) for value in inputs}


def _load(path: str) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise InputError(f"cannot read the array: {error.strerror or error}") from error
    except (ValueError, EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"not a NumPy file that can be read: {error}") from error


def _fitted(array: np.ndarray, value: TensorInfo) -> np.ndarray:
    if value.shape is not None and array.ndim == len(value.shape) - 1:
        array = array[None]
    if value.shape is not None and array.ndim != len(value.shape):
        raise InputError("wrong number of axes", tensor=value.name, expected=value.shape, received=array.shape)
    if not np.can_cast(array.dtype, value.dtype, "same_kind"):
        raise InputError("wrong dtype", tensor=value.name, expected=value.dtype, received=array.dtype)
    return array.astype(value.dtype, copy=False)
