"""ONNX's backend interface, by `cnnengine.backend`."""

from typing import Any

from cnnengine.backend import Backend, BackendRep
from cnnengine.model import Model
from cnnengine.onnxruntime.errors import raising
from cnnengine.onnxruntime.inference import InferenceSession, Session


@raising
def prepare(model: Any, device: str = "CPU", **kwargs: Any) -> BackendRep:
    """A model that is ready to run: of a path, bytes, a ModelProto, a session, or what this function gave."""
    if isinstance(model, BackendRep):
        return model
    if isinstance(model, Session):
        return BackendRep(model._model)
    return BackendRep(InferenceSession(model)._model if isinstance(model, str | bytes) else Model(model))


@raising
def run(model: Any, inputs: Any, device: str = "CPU", **kwargs: Any) -> Any:
    """The outputs of a model, one after another."""
    return prepare(model, device).run(inputs, **kwargs)


def is_compatible(model: Any, device: str = "CPU", **kwargs: Any) -> bool:
    """Whether the device is the CPU, as onnxruntime says it: a model is looked at when it is prepared."""
    return supports_device(device)


def supports_device(device: str) -> bool:
    """Whether the device is the CPU."""
    return bool(Backend.supports_device(device))


__all__ = ["is_compatible", "prepare", "run", "supports_device"]
