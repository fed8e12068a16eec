"""The exceptions of onnxruntime's, and errors of cnnengine that are these too."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from ..errors import (
    ClosedError,
    CNNEngineError,
    InputError,
    LimitError,
    ModelError,
    ModelNotFoundError,
    NotInstalledError,
    ShapeError,
    StoppedError,
    TimedOutError,
    UnsupportedOperatorError,
)

P = ParamSpec("P")
R = TypeVar("R")


class Fail(Exception):
    """What cannot be loaded or computed."""


class InvalidArgument(Exception):
    """Wrong inputs, outputs or options of a run."""


class NoSuchFile(Exception):
    """A file that does not exist."""


class InvalidProtobuf(Exception):
    """A file that cannot be read."""


class InvalidGraph(Exception):
    """A graph that ONNX does not allow."""


class NotImplemented(Exception):
    """What is not there."""


class RuntimeException(Exception):
    """A node that failed while it ran."""


class ModelLoadCanceled(Exception):
    """Loading ended by `SessionOptions.set_load_cancellation_flag`."""


class NoModel(Exception):
    """Never raised."""


class EngineError(Exception):
    """Never raised."""


class ModelLoaded(Exception):
    """Never raised."""


class EPFail(Exception):
    """Never raised: there are no other providers."""


class ModelRequiresCompilation(Exception):
    """Never raised."""


class NotFound(Exception):
    """Never raised."""


class DeviceReset(Exception):
    """Never raised: there are no devices but the CPU."""


# Errors of a session here: each is cnnengine's and, at the same time, what programs catch that were written for onnxruntime.
class MissingFileError(ModelNotFoundError, NoSuchFile):
    """A model's file, or one that it refers to, does not exist."""


class RefusedError(UnsupportedOperatorError, NotImplemented, InvalidGraph, Fail):
    """What cannot be run here."""


class NeededPackageError(NotInstalledError, NotImplemented, Fail):
    """What another package is needed for, which is not installed."""


class BadModelError(ModelError, InvalidProtobuf, InvalidGraph, Fail):
    """No valid model: which of the three onnxruntime would call it is not told apart here."""


class CancelledError(ModelError, ModelLoadCanceled):
    """A load that its options forbade."""


class BadInputError(InputError, InvalidArgument):
    """A wrong argument."""


class BadShapeError(ShapeError, InvalidArgument):
    """Shapes that do not fit the model."""


class NodeInputError(InputError, RuntimeException, InvalidArgument, Fail):
    """What a node cannot take, found while it ran."""


class NodeShapeError(ShapeError, RuntimeException, InvalidArgument, Fail):
    """Shapes that do not fit a node, found while it ran."""


class ClosedModelError(ClosedError, Fail):
    """The model was closed."""


class TooMuchError(LimitError, InvalidGraph, Fail):
    """A model that asks for more than the limits allow."""


class EndedError(StoppedError, Fail):
    """A run that its options ended."""


class LateError(TimedOutError, Fail):
    """A run that took longer than it may."""


class FailedError(CNNEngineError, Fail):
    """Anything else."""


_KINDS: list[tuple[type[CNNEngineError], type[CNNEngineError], type[CNNEngineError]]] = [
    # ours, as programs know it, and as they know it of a node
    (LimitError, TooMuchError, TooMuchError),
    (TimedOutError, LateError, LateError),
    (StoppedError, EndedError, EndedError),
    (ModelNotFoundError, MissingFileError, MissingFileError),
    (UnsupportedOperatorError, RefusedError, RefusedError),
    (ModelError, BadModelError, BadModelError),
    (NotInstalledError, NeededPackageError, NeededPackageError),
    (ShapeError, BadShapeError, NodeShapeError),
    (InputError, BadInputError, NodeInputError),
    (ClosedError, ClosedModelError, ClosedModelError),
    (CNNEngineError, FailedError, FailedError),
]


def known(error: CNNEngineError) -> CNNEngineError:
    """The same error as one that programs for onnxruntime catch."""
    kind = next((at_node if error.node is not None else plain) for ours, plain, at_node in _KINDS if isinstance(error, ours))
    if error.tensor == "sess_options.set_load_cancellation_flag":
        kind = CancelledError
    other = kind(error.message)
    other.__dict__.update(error.__dict__)
    other.__cause__, other.__context__ = error.__cause__, error.__context__
    other.__suppress_context__ = True
    return other.with_traceback(error.__traceback__)


def raising(call: Callable[P, R]) -> Callable[P, R]:
    """The same function, with errors that programs for onnxruntime catch."""

    @wraps(call)
    def function(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except (Fail, InvalidArgument, NoSuchFile, InvalidProtobuf, InvalidGraph, NotImplemented, ModelLoadCanceled):
            raise
        except CNNEngineError as error:
            raise known(error) from error.__cause__

    return function


def refusal(name: str, reason: str) -> Callable[..., Any]:
    """A function in the place of one that is not there."""

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise RefusedError(reason, tensor=name)

    refused.__name__ = refused.__qualname__ = name.rpartition(".")[2]
    refused.__doc__ = f"Refused: {reason}."
    return refused


def refused_class(name: str, reason: str, *members: str) -> type:
    """A class in the place of one that is not there: neither it nor what it has can be called."""
    functions = {member: staticmethod(refusal(f"{name}.{member}", reason)) for member in members}
    return type(
        name, (), {"__init__": refusal(name, reason), "__doc__": f"Refused: {reason}.", "__module__": __name__, **functions}
    )
