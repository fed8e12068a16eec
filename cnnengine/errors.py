"""The exceptions that the package raises, under one root."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

__all__ = [
    "CNNEngineError",
    "ClosedError",
    "InputError",
    "LimitError",
    "ModelError",
    "ModelNotFoundError",
    "NotInstalledError",
    "ShapeError",
    "StoppedError",
    "TimedOutError",
    "UnsupportedOperatorError",
]

LONGEST = 600
"""Characters of what was received that a message shows; a whole tensor is no help."""


def shortened(show: Callable[[object], str], value: object, most: int = 120) -> str:
    """What `show` (str, repr) says of a value, in few characters; what it raises is no matter."""
    if isinstance(value, (bytes, bytearray, str, list, tuple, dict)) and len(value) > most:
        text = f"{type(value).__name__} of {len(value)}"
    else:
        try:
            text = show(value)
        except Exception:  # objects raise what they like
            text = type(value).__name__
    return text if len(text) <= most else text[:most] + "..."


class CNNEngineError(Exception):
    """Root of every error that cnnengine raises on purpose.

    Parameters
    ----------
    message : str
        What is wrong, in one sentence.
    model, node, operator, tensor, file : str, optional
        Where: the model's name or path, the node's name, its ONNX operator, the tensor, argument or option, another file.
    expected, received : object, optional
        What would have been right, and what came.

    All of them stay readable as attributes; those given are also part of the printed message.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str | None = None,
        node: str | None = None,
        operator: str | None = None,
        tensor: str | None = None,
        file: str | None = None,
        expected: object = None,
        received: object = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.model = model
        self.node = node
        self.operator = operator
        self.tensor = tensor
        self.file = file
        self.expected = expected
        self.received = received

    def __str__(self) -> str:
        is_option = self.tensor is not None and self.tensor.startswith("--") and len(self.tensor) > 2
        where = [
            f"{label} {value!r}"
            for label, value in (
                ("model", self.model),
                ("node", self.node),
                ("operator", self.operator),
                ("file", self.file),
                ("tensor", None if is_option else self.tensor),
            )
            if value is not None
        ]
        if is_option:
            where.append(f"option {self.tensor}")
        text = f"{', '.join(where)}: {self.message}" if where else self.message
        if self.expected is not None:
            text += f"; expected {self.expected}"
        if self.received is not None:
            received = str(self.received)
            text += f"; received {received if len(received) <= LONGEST else received[:LONGEST] + '...'}"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, dict(self.__dict__)))

    def locate(self, **where: str | None) -> CNNEngineError:
        """Fill in those of model, node, operator, tensor and file that are not known yet; returns self."""
        for key, value in where.items():
            if getattr(self, key) is None:
                setattr(self, key, value)
        return self


def _rebuild(cls: type[CNNEngineError], message: str, state: dict[str, object]) -> CNNEngineError:
    error = cls(message)
    error.__dict__.update(state)
    return error


class ModelError(CNNEngineError, ValueError):
    """The model is not a valid ONNX model, or asks for something that ONNX does not define."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """The model file, or a file that it refers to, does not exist."""


class UnsupportedOperatorError(ModelError, NotImplementedError):
    """The model is valid, but uses operators, versions or dtypes that cannot be run; names all of them."""


class ShapeError(CNNEngineError, ValueError):
    """Shapes or geometry do not fit together."""


class InputError(CNNEngineError, ValueError):
    """An array or argument given by the caller has the wrong name, dtype, kind or number."""


class LimitError(ModelError, ShapeError):
    """A model asks for more than the caller's `Limits` allow; the attribute `limit` is the name of the one that was reached."""

    limit: str | None = None


class StoppedError(CNNEngineError, RuntimeError):
    """A run was ended before its last step, because somebody asked for it; the model goes on working."""


class TimedOutError(StoppedError, TimeoutError):
    """A run was ended because it took longer than it may."""


class NotInstalledError(InputError, ImportError):
    """A package that few need is not installed, or cannot be imported; says what needs it and which command installs it."""


def needed(package: str, what: str, *, extra: str = "onnx", **where: str | None) -> Any:
    """A package that an extra brings, imported.

    Parameters
    ----------
    package : str
        Its module's name.
    what : str
        What needs it: the subject of the error's sentence.
    extra : str
        The extra of cnnengine that installs it.
    **where
        Model, node, operator and tensor, for the error.

    Raises
    ------
    NotInstalledError
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        top = package.partition(".")[0]
        state = f"cannot be imported ({error})"
        if isinstance(error, ModuleNotFoundError) and error.name == top:
            state = "is not installed"
        raise NotInstalledError(f"{what} needs {top}, which {state}: {command(extra)}", **where) from None


def command(extra: str = "onnx") -> str:
    """What installs that which an extra brings, whether or not an index has a release of cnnengine."""
    packages = {"onnx": "onnx", "quantize": "onnxruntime", "image": "Pillow", "completion": "shtab"}
    return f"pip install {packages[extra]}"


class ClosedError(CNNEngineError, ValueError):
    """The model was closed."""
