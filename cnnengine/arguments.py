"""Arguments as callers give them, checked and converted: one function for each kind, for all of the public surface.

What is of the wrong kind is an InputError that names the argument; nothing is rounded, cut or guessed. `bool` is no integer and
no number, though Python counts it among them: ``threads=True`` is a mistake. What an argument's own methods raise (``__index__``,
``__float__``, ``__array__``, ``__dlpack__``) becomes an InputError too; only MemoryError passes.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np

from .errors import CNNEngineError, InputError, ShapeError, shortened

MOST = 2**63 - 1
"""The largest extent, axis or count."""

FEW, CLOSE, LONGEST_NAME = 12, 4, 200
"""Names that a message lists although none is like what was asked for; those like it that it lists; characters of a name that
are compared."""

_RANKS = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}
"""Kinds of NumPy's numbers: a Python value goes to its own kind or to one after it."""


def _is_bool(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_)) or str(getattr(value, "dtype", "")).endswith("bool")


def integer(
    value: Any,
    name: str,
    low: int | None = None,
    high: int | None = MOST,
    *,
    model: str | None = None,
    outside: type[CNNEngineError] = InputError,
) -> int:
    """An integer: an int or what has ``__index__`` (NumPy's integers, 0-d integer arrays), but no bool.

    Parameters
    ----------
    value : object
    name : str
        Of the argument.
    low, high : int or None
        The least and the largest value; None for no such limit.
    model : str, optional
        The model's name, for the message.
    outside : exception type
        What is raised for an integer outside of the limits; of another kind it is always InputError.
    """
    if type(value) is int:
        number = value
    else:
        try:
            if _is_bool(value):
                raise TypeError
            number = operator.index(value)
        except MemoryError:
            raise
        except Exception:  # objects raise what they like
            raise InputError(
                "must be an integer", model=model, tensor=name, expected="an integer", received=shortened(repr, value)
            ) from None
    if (low is not None and number < low) or (high is not None and number > high):
        expected = f">= {low}" if high is None or high == MOST else f"{low} to {high}" if low is not None else f"<= {high}"
        raise outside("is out of range", model=model, tensor=name, expected=expected, received=number)
    return number


def number(value: Any, name: str) -> float:
    """A float: whatever Python can make one of without a guess, but no text and no bool."""
    if type(value) is float:
        return value
    try:
        if _is_bool(value) or isinstance(value, (str, bytes, bytearray)) or getattr(value, "ndim", False):
            raise TypeError
        return float(value)
    except MemoryError:
        raise
    except Exception:  # objects raise what they like
        raise InputError("must be a number", tensor=name, expected="a number", received=shortened(repr, value)) from None


def boolean(value: Any, name: str) -> bool:
    """True or False, also as NumPy's bool or as the integers 1 and 0."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    try:
        if (found := operator.index(value)) in (0, 1):
            return bool(found)
    except MemoryError:
        raise
    except Exception:  # objects raise what they like
        pass
    raise InputError("must be a bool", tensor=name, expected="True or False", received=shortened(repr, value))


def extents(value: Any, name: str, *, model: str | None = None) -> tuple[int, ...]:
    """A shape: integers of at least 0 in a sequence or array."""
    if isinstance(value, (str, bytes, bytearray, Mapping, Set)) or not isinstance(value, Iterable):
        raise InputError(
            "is no shape", model=model, tensor=name, expected="a sequence of integers", received=shortened(repr, value)
        )
    try:
        items = tuple(value)
    except MemoryError:
        raise
    except Exception as error:  # objects raise what they like
        raise InputError("is no shape", model=model, tensor=name, expected="a sequence of integers") from error
    found = tuple([integer(item, name, None, None, model=model) for item in items])
    if any(not 0 <= d <= MOST for d in found):
        raise ShapeError("not a shape", model=model, tensor=name, expected="extents >= 0", received=found)
    return found


def names(value: Any, name: str, *, model: str | None = None) -> list[str]:
    """Names of tensors: strings in a sequence, but no string itself."""
    # the names' order counts, and a set has none; what a mapping's values would mean is not for us to say
    if isinstance(value, (str, bytes, bytearray, Mapping, set, frozenset)) or not isinstance(value, Iterable):
        found: list[Any] = [None]
    else:
        found = list(value)
    if not all(isinstance(one, str) for one in found):
        expected = f"a sequence of str, as [{value!r}]" if isinstance(value, str) and len(value) <= 80 else "a sequence of str"
        raise InputError("must be a list of names", model=model, tensor=name, expected=expected, received=shortened(repr, value))
    return found


def meant(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a message about an unknown name: "; did you mean 'image'?" where one is near, else nothing."""
    near = _alike(name, known, 1, cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


def _alike(name: object, known: Iterable[str], most: int, cutoff: float = 0.6) -> list[str]:
    """The known names that look like this one, whatever their case, the nearest first."""
    from difflib import get_close_matches  # only here: calls without a mistake need no such thing

    folded: dict[str, str] = {}
    for one in known:
        folded.setdefault(one.lower(), one)
    return [folded[key] for key in get_close_matches(str(name)[:LONGEST_NAME].lower(), folded, most, cutoff)]


def mapping(value: Any, name: str, *, model: str | None = None) -> Mapping[str, Any]:
    """A mapping whose keys are strings."""
    if not isinstance(value, Mapping):
        raise InputError("must be a mapping", model=model, tensor=name, expected="a dict", received=type(value).__name__)
    for key in value:
        if not isinstance(key, str):
            raise InputError("must have names as keys", model=model, tensor=name, expected="str", received=shortened(repr, key))
    return value


def array(value: Any, name: str, *, model: str | None = None) -> np.ndarray:
    """What NumPy makes of a value; by DLPack where that is all it offers."""
    if isinstance(value, np.ndarray):
        return value
    kind = type(value)
    try:
        if hasattr(kind, "__dlpack__") and not hasattr(kind, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:  # objects raise what they like
        raise InputError(
            f"cannot be read as an array ({shortened(str, error)})",
            model=model,
            tensor=name,
            expected="an array",
            received=kind.__name__,
        ) from error


def is_python(value: Any) -> bool:
    """Whether a value has no element type of its own: Python's numbers, texts and None, and lists of values."""
    return (value is None or isinstance(value, (int, float, complex, str, list, tuple))) and not isinstance(value, np.generic)


def python_array(value: Any, dtype: np.dtype, name: str, *, model: str | None = None) -> np.ndarray:
    """An array of this dtype for a Python value, where that keeps what the value says.

    Integers become floats, rounded where they must be; floats do not become integers, numbers no bools, None nothing, and what is
    out of the dtype's range is refused.
    """
    try:
        found = np.asarray(value, object) if dtype.kind == "O" else np.asarray(value)
        kinds = found.dtype.kind, dtype.kind
        if dtype.kind == "O":
            if all(isinstance(one, str) for one in found.flat):
                return found
        elif found.size == 0 or found.dtype == dtype:
            return found.astype(dtype)
        elif kinds[0] == "O" and all(isinstance(one, (int, float, complex)) for one in found.flat):
            return np.asarray(value, dtype)  # beyond 64 bits
        elif kinds[0] in _RANKS and (kinds[1] not in _RANKS or _RANKS[kinds[0]] <= _RANKS[kinds[1]]):
            with np.errstate(over="ignore"):
                made = found.astype(dtype)
            if kinds[1] in "iu":
                limits = np.iinfo(dtype)
                if int(found.min()) >= limits.min and int(found.max()) <= limits.max:
                    return made
            elif kinds[1] not in "fc" or bool((np.isfinite(made) | ~np.isfinite(found)).all()):
                return made
    except MemoryError:
        raise
    except Exception as error:  # ragged lists, objects that raise what they like
        raise InputError(
            f"is not an array ({shortened(str, error)})",
            model=model,
            tensor=name,
            expected=dtype,
            received=type(value).__name__,
        ) from error
    raise InputError("values do not fit the dtype", model=model, tensor=name, expected=dtype, received=shortened(repr, value))


def nearest(name: object, known: Iterable[str], what: str) -> str:
    """What is expected in the place of a name that is not known: with the known ones that look like it, or all where few are.

    Parameters
    ----------
    name : object
        As the caller wrote it.
    known : iterable of str
    what : str
        What a name stands for, as the error shall say it.
    """
    names = sorted({one for one in known if one})
    if len(names) <= FEW:
        return f"{what}: one of {', '.join(map(repr, names))}" if names else what
    close = _alike(name, names, CLOSE)
    inner = str(name)[:LONGEST_NAME].lower().strip("/")
    close += [one for one in names if len(inner) > 2 and inner in one.lower() and one not in close]
    return f"{what}; near it are {', '.join(map(repr, close[:CLOSE]))}" if close else f"{what}, of which there are {len(names)}"
