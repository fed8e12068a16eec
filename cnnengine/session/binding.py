"""IOBinding: inputs and outputs that stay bound between runs."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from .. import arguments
from ..errors import InputError, ShapeError
from ..model import Model
from .values import OrtValue, check_device, dtype_of, zeros


class _Session(Protocol):
    """What a binding asks of its session: `session.session` imports this file, and not the other way round."""

    _model: Model

    def _check_input_name(self, name: str) -> None:
        """Raise InputError unless there is such an input."""
        ...

    def _check_output_name(self, name: str) -> None:
        """Raise InputError unless there is such an output."""
        ...


class IOBinding:
    """Inputs and outputs that stay bound between runs; made by `InferenceSession.io_binding`."""

    def __init__(self, session: _Session) -> None:
        self._session = session
        self._inputs: dict[str, np.ndarray] = {}
        self._outputs: dict[str, OrtValue | None] = {}
        self._results: list[OrtValue] = []

    def bind_cpu_input(self, name: str, arr_on_cpu: np.ndarray) -> None:
        """Bind an array: later changes of it are seen by later runs."""
        self._session._check_input_name(name)
        self._inputs[name] = arguments.array(arr_on_cpu, name, model=self._session._model.name)

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Sequence[int], buffer_ptr: int
    ) -> None:
        """Bind memory by its address, which must hold so many bytes and live as long as the binding."""
        check_device(device_type, device_id)
        self._session._check_input_name(name)
        self._inputs[name] = _at_address(name, element_type, shape, buffer_ptr)

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        self._session._check_input_name(name)
        if not isinstance(ortvalue, OrtValue):
            raise InputError("must be an OrtValue", tensor=name, expected="OrtValue", received=type(ortvalue).__name__)
        self._inputs[name] = ortvalue.numpy()

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Ask for an output: in fresh memory, or in memory of this shape (at that address)."""
        check_device(device_type, device_id)
        self._session._check_output_name(name)
        if shape is None:
            if buffer_ptr is not None:
                raise InputError("memory needs a shape and a dtype", tensor=name, expected="shape, element_type")
            self._outputs[name] = None
            return
        if element_type is None:
            raise InputError("a shape needs a dtype", tensor=name, expected="element_type")
        if buffer_ptr is None:
            self._outputs[name] = OrtValue(zeros(shape, dtype_of(element_type)))
        else:
            self._outputs[name] = OrtValue(_at_address(name, element_type, shape, buffer_ptr))

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Ask for an output in this tensor's memory."""
        self._session._check_output_name(name)
        if not isinstance(ortvalue, OrtValue):
            raise InputError("must be an OrtValue", tensor=name, expected="OrtValue", received=type(ortvalue).__name__)
        self._outputs[name] = ortvalue

    def synchronize_inputs(self) -> None:
        """Nothing to wait for on a CPU."""

    def synchronize_outputs(self) -> None:
        """Nothing to wait for on a CPU."""

    def get_outputs(self) -> list[OrtValue]:
        """The bound outputs of the last run, in the order of binding."""
        return list(self._results)

    def copy_outputs_to_cpu(self) -> list[np.ndarray]:
        """Copies of the last run's outputs."""
        return [v.numpy().copy() for v in self._results]

    def clear_binding_inputs(self) -> None:
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        self._outputs.clear()
        self._results = []


def _at_address(name: str, element_type: Any, shape: Sequence[int], address: int) -> np.ndarray:
    dtype, extents = dtype_of(element_type), arguments.extents(shape, "shape")
    if dtype.hasobject:
        raise InputError("strings have no address", tensor=name, expected="numbers")
    count = 1
    for d in extents:
        count *= d
    if count == 0:
        return np.zeros(extents, dtype)
    address = arguments.integer(address, "buffer_ptr", 1, 2**64 - 1)
    if count * dtype.itemsize >= 2**47:
        raise ShapeError("no memory has this size", tensor=name, received=extents)
    memory: Any = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return np.ndarray(extents, dtype, memory)
