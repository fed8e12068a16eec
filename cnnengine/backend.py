"""ONNX's backend interface (`onnx.backend.base`) over cnnengine, for tools and test suites that speak it.

import cnnengine.backend as backend
outputs = backend.run_model(onnx.load("model.onnx"), [x])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .arguments import array, integer
from .errors import InputError, needed
from .model import Model, load

needed("onnx", "cnnengine.backend")
import onnx  # noqa: E402
from onnx import helper  # noqa: E402
from onnx.backend.base import Backend as _Backend  # noqa: E402
from onnx.backend.base import BackendRep as _BackendRep  # noqa: E402
from onnx.backend.base import Device, DeviceType, namedtupledict  # noqa: E402

__all__ = ["Backend", "BackendRep", "is_compatible", "prepare", "run_model", "run_node", "supports_device"]


def _sequence(inputs: Any) -> Sequence[Any]:
    if not isinstance(inputs, Sequence) or isinstance(inputs, str):
        kind = type(inputs).__name__
        raise InputError("must be in their order, or by name", tensor="inputs", expected="a list or a dict", received=kind)
    return inputs


class BackendRep(_BackendRep):
    """A loaded model.

    Attributes
    ----------
    model : Model
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._outputs = [info.name for info in model.outputs]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Outputs for these inputs.

        Parameters
        ----------
        inputs : sequence, in the order of the model's inputs; mapping by name; or an array, for models of one input

        Returns
        -------
        namedtuple of the outputs, by their names where those are Python names

        Raises
        ------
        InputError, ShapeError
            The inputs do not fit the model.
        """
        if kwargs:
            raise InputError("unknown arguments", model=self.model.name, expected="inputs alone", received=sorted(kwargs))
        if isinstance(inputs, np.ndarray) or (np.isscalar(inputs) and not isinstance(inputs, str)):
            inputs = [inputs]
        if isinstance(inputs, Mapping):
            feeds = dict(inputs)
        else:
            inputs = _sequence(inputs)
            if len(inputs) > len(self.model.inputs):
                raise InputError("too many inputs", model=self.model.name, expected=len(self.model.inputs), received=len(inputs))
            feeds = {info.name: value for info, value in zip(self.model.inputs, inputs, strict=False)}
        results = self.model.run(None, feeds)
        return namedtupledict("Outputs", self._outputs)(*results)


class Backend(_Backend):
    """cnnengine as an ONNX backend; CPU alone."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether the model can be loaded."""
        try:
            cls.prepare(model, device, **kwargs)
        except Exception:  # whatever stops it
            return False
        return True

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep:
        """Load a model.

        Parameters
        ----------
        model : onnx.ModelProto
        device : str
            "CPU".
        **kwargs
            Those of `cnnengine.load`.

        Raises
        ------
        InputError
            Another device.
        ModelError, UnsupportedOperatorError
            As `cnnengine.load`.
        """
        if not cls.supports_device(device):
            raise InputError("there is no such device", tensor="device", expected="CPU", received=device)
        return BackendRep(load(model, **kwargs))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Load a model and run it once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node.

        Parameters
        ----------
        node : onnx.NodeProto
        inputs : sequence of ndarray, in the order of the node's inputs that are present; or a mapping by name
        device : str
        outputs_info : sequence of (dtype, shape), optional
            Not needed.
        **kwargs
            ``opset_version`` : int, the operator set of the node's domain (the newest); others go to `cnnengine.load`.

        Returns
        -------
        namedtuple of the outputs
        """
        version = kwargs.pop("opset_version", None)
        names = list(dict.fromkeys(n for n in node.input if n))
        if not isinstance(inputs, Mapping):
            inputs = [inputs] if isinstance(inputs, np.ndarray) else _sequence(inputs)
            if len(inputs) != len(names):
                raise InputError(
                    "wrong number of inputs", node=node.name, operator=node.op_type, expected=len(names), received=len(inputs)
                )
            inputs = dict(zip(names, inputs, strict=True))
        missing = [name for name in names if name not in inputs]
        if missing:
            raise InputError("an input is missing", node=node.name, operator=node.op_type, expected=missing)
        arrays = {name: array(inputs[name], name) for name in names}
        domain = "" if node.domain == "ai.onnx" else node.domain
        if version is not None:
            version = integer(version, "opset_version", 1)
        else:
            version = onnx.defs.onnx_opset_version() if not domain else 1
        graph = helper.make_graph(
            [node],
            node.name or node.op_type,
            [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in arrays.items()],
            [onnx.ValueInfoProto(name=n) for n in node.output if n],
        )
        model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, version)]))
        return cls.prepare(model, device, **kwargs).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether `device` is the CPU."""
        try:
            return bool(Device(device).type == DeviceType.CPU)
        except (AttributeError, ValueError):
            return False


is_compatible = Backend.is_compatible
prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
