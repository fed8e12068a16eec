"""Files that callers name: by name, by folder, by pattern; arrays for a model's inputs from .npy and .npz, labels from text."""

from __future__ import annotations

import glob
import os
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .arguments import meant
from .errors import InputError
from .feeds import TensorInfo
from .preprocess import list_of_strings

ARRAYS = (".npy", ".npz")
UNNAMED = ("", "arr_0")
"""What an array without a name is called: that of a .npy, and the first that `np.savez` was given without one."""
IMAGES = (
    *(".apng", ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tga"),
    *(".tif", ".tiff", ".webp"),
)
"""Names that count as images in a folder; a file that is named itself may have any."""


@dataclass(frozen=True)
class Given:
    """One file to read, or an argument that stands for none and why.

    Attributes
    ----------
    path : str
    error : InputError or None
    below : str
        The folder that it was found in, from the folder on that was given; "" where the file itself was.
    """

    path: str
    error: InputError | None = None
    below: str = ""


def expand(arguments: Sequence[str], deep: bool = False, leave: Sequence[str] = ()) -> list[Given]:
    """Every file that the arguments stand for, in their order; folders and patterns sorted by name.

    A folder stands for the images and arrays directly in it. A pattern is one with ``*``, ``?`` or ``[`` that is not itself a
    file; ``**`` goes into folders.

    Parameters
    ----------
    arguments : sequence of str
    deep : bool
        Folders stand for what is in the folders below them, too, each at its name's place, unless its name begins with a dot.
    leave : sequence of str
        Files and folders that no folder stands for: those that results go to.
    """
    found: list[Given] = []
    left = frozenset(os.path.realpath(path) for path in leave)
    for argument in arguments:
        if os.path.isdir(argument):
            here = list(_inside(argument, deep, left))
            reason = "no images or arrays in the folder"
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            here = [Given(p) for p in sorted(glob.glob(argument, recursive=True)) if not os.path.isdir(p)]
            reason = "no file matches the pattern"
        else:
            here, reason = [Given(argument)], ""
        found += here or [Given(argument, InputError(reason))]
    return found


def _inside(top: str, deep: bool, leave: Collection[str]) -> Iterator[Given]:
    """Images and arrays of a folder by name; a link to one of the folders that it lies in is not followed."""
    waiting = [(top, "", frozenset[str]())]  # folders and files that are still to come, the next one last
    while waiting:
        path, below, above = waiting.pop()
        if not os.path.isdir(path):
            yield Given(path, None, below)
            continue
        own = os.path.realpath(path)
        if own in above or (path != top and own in leave):
            continue
        try:
            names = sorted(os.listdir(path), reverse=True)
        except OSError as error:
            yield Given(path, InputError(f"cannot read the folder: {error.strerror or error}"))
            continue
        inside = below if path == top else os.path.join(below, os.path.basename(path))
        for name in names:
            one = os.path.join(path, name)
            if os.path.isdir(one):
                if deep and not name.startswith("."):
                    waiting.append((one, inside, above | {own}))
            elif name.lower().endswith((*IMAGES, *ARRAYS)) and not (leave and os.path.realpath(one) in leave):
                waiting.append((one, inside, above))


def is_array(path: str) -> bool:
    """Whether the file's name says that it holds NumPy arrays."""
    return Path(path).suffix.lower() in ARRAYS


Scaled = Callable[[np.ndarray, TensorInfo], np.ndarray]
"""What makes floats of an array of integers for an input."""


def read_feeds(
    path: str, inputs: Sequence[TensorInfo], beside: Collection[str] = (), scaled: Scaled | None = None
) -> dict[str, np.ndarray]:
    """An array for every input of the model.

    A .npy file, or a .npz with one array that has no name of its own, is the only input of a model with one; otherwise arrays are
    found by the inputs' names. A missing batch axis is added. Floats are neither scaled nor normalised.

    Parameters
    ----------
    path : str
    inputs : sequence of TensorInfo
    beside : collection of str
        Names that a .npz may have beside those of the inputs: of outputs, for what is expected of them.
    scaled : function, optional
        For integers where the input takes floats, which are refused without it.

    Raises
    ------
    InputError
        The file cannot be read, an array is missing or is no input, or its dtype or number of axes does not fit.
    """
    return fitted(read_arrays(path), inputs, beside, scaled)


def fitted(
    arrays: dict[str, np.ndarray], inputs: Sequence[TensorInfo], beside: Collection[str] = (), scaled: Scaled | None = None
) -> dict[str, np.ndarray]:
    """Arrays as `read_feeds` gives them; raises as it does."""
    if len(inputs) == 1 and len(arrays) == 1 and next(iter(arrays)) in UNNAMED:
        arrays = {inputs[0].name: next(iter(arrays.values()))}
    names = [value.name for value in inputs]
    for name in arrays:
        if name not in names and name not in beside:
            hint = meant(name, [one for one in names if one not in arrays])
            raise InputError(f"there is no input {name!r}{hint}", expected=", ".join(names), received=", ".join(arrays))
    missing = [name for name in names if name not in arrays]
    if missing:
        raise InputError("arrays are missing", expected=", ".join(missing), received=", ".join(arrays) or "none")
    return {value.name: _fitted(arrays[value.name], value, scaled) for value in inputs}


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """The arrays of a file by name; that of a .npy has "". Raises InputError where the file cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(6)
            if not head.startswith((b"\x93NUMPY", b"PK")):
                raise InputError("neither a .npy nor a .npz file", received=f"first bytes {head!r}" if head else "an empty file")
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise InputError(f"cannot read the array: {error.strerror or error}") from error
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise InputError("holds Python objects, which are not read", expected="arrays of numbers") from None
        raise InputError(f"not a NumPy file that can be read: {error}") from error
    except (EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"not a NumPy file that can be read: {error}") from error


def _fitted(array: np.ndarray, value: TensorInfo, scaled: Scaled | None) -> np.ndarray:
    if value.shape is not None and array.ndim == len(value.shape) - 1:
        array = array[None]
    if value.shape is not None and array.ndim != len(value.shape):
        raise InputError("wrong number of axes", tensor=value.name, expected=value.shape, received=array.shape)
    if array.dtype.kind in "iu" and value.dtype.kind == "f":
        if scaled is None:
            raise InputError(
                "integers, and the input takes floats: how they are scaled is not known",
                tensor=value.name,
                expected=value.dtype,
                received=f"{array.dtype}{_range(array)}",
            )
        array = scaled(array, value)
    if not np.can_cast(array.dtype, value.dtype, "same_kind"):
        raise InputError("wrong dtype", tensor=value.name, expected=value.dtype, received=array.dtype)
    with np.errstate(over="ignore"):
        made = array.astype(value.dtype, copy=False)
    if made.dtype.itemsize < array.dtype.itemsize and not _kept(array, made):
        raise InputError(
            "values do not fit the dtype", tensor=value.name, expected=value.dtype, received=f"{array.dtype}{_range(array)}"
        )
    return made


def _kept(array: np.ndarray, made: np.ndarray) -> bool:
    """Whether a narrower dtype holds the values: of integers all, of floats none that became infinite."""
    if array.dtype.kind in "iu":
        return bool((array == made).all())
    return array.dtype.kind not in "fc" or bool((np.isfinite(made) | ~np.isfinite(array)).all())


def _range(array: np.ndarray) -> str:
    return f", {array.min():g} to {array.max():g}" if array.size and array.dtype.kind in "iuf" else ""


def labels_of_file(path: str) -> tuple[str, ...]:
    """Labels from a file: a JSON list of strings, or one label a line in the order of the classes.

    Raises
    ------
    InputError
        The file cannot be read, is not UTF-8, or is neither form.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read the labels: {error.strerror}", file=path) from error
    except UnicodeDecodeError as error:
        raise InputError("the labels are not UTF-8 text", file=path) from error
    if not text.lstrip().startswith("["):
        return tuple(line.strip() for line in text.rstrip().splitlines())
    try:
        return list_of_strings(text)
    except ValueError as error:
        raise InputError(f"the labels are not a JSON list of strings: {error}", file=path) from None
