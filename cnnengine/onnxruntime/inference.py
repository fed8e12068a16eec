"""InferenceSession and IOBinding as programs for onnxruntime know them: with its errors, and with what they look up inside."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .. import session
from ..errors import InputError
from ..model import inside
from ..session import NodeArg, RunOptions, SessionOptions
from ..session.options import PROVIDER
from ..session.values import OrtValue
from . import functions
from .devices import (
    OrtAllocatorType,
    OrtDevice,
    OrtEpAssignedNode,
    OrtEpAssignedSubgraph,
    OrtEpDevice,
    OrtMemoryInfo,
    OrtMemType,
    OrtValueVector,
    the_device,
)
from .errors import known, raising, refusal
from .refused import OTHER_SESSION

RECORD_ENTRY = "session.record_ep_graph_assignment_info"
"""The config entry without which nothing is told of which provider runs a node."""


class Session(session.InferenceSession):
    """The methods of a session; programs ask whether something is one."""

    run = raising(session.InferenceSession.run)
    run_with_ort_values = raising(session.InferenceSession.run_with_ort_values)
    run_with_iobinding = raising(session.InferenceSession.run_with_iobinding)

    def io_binding(self) -> IOBinding:
        """An empty binding for `run_with_iobinding`."""
        return IOBinding(self)

    @raising
    def run_with_ortvaluevector(
        self,
        run_options: RunOptions | None,
        feed_names: Sequence[str],
        feeds: OrtValueVector,
        fetch_names: Sequence[str],
        fetches: OrtValueVector,
        fetch_devices: Sequence[Any],
    ) -> None:
        """`run` from a vector into another, to which the outputs are appended, or whose tensors are overwritten."""
        if len(feed_names) != len(feeds):
            raise InputError("one tensor per name is needed", tensor="feeds", expected=len(feed_names), received=len(feeds))
        results = self.run_with_ort_values(fetch_names, dict(zip(feed_names, feeds, strict=True)), run_options)
        if len(fetches) == 0:
            for result in results:
                fetches.push_back(result)
            return
        if len(fetches) != len(results):
            raise InputError("one tensor per output is needed", tensor="fetches", expected=len(results), received=len(fetches))
        for target, result in zip(fetches, results, strict=True):
            target.update_inplace(result)

    @raising
    def create_ortvalue_from_shape_and_type(
        self, shape: Sequence[int], element_type: Any, device_type: str, device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """A tensor of this shape (zeros)."""
        return OrtValue.ortvalue_from_shape_and_type(shape, element_type, device_type, device_id)

    # ------------------------------------------------------------ where it runs
    def get_input_memory_infos(self) -> list[OrtMemoryInfo]:
        """The CPU's memory, for each input."""
        return [_memory() for _ in self._inputs]

    def get_output_memory_infos(self) -> list[OrtMemoryInfo]:
        """The CPU's memory, for each output."""
        return [_memory() for _ in self._outputs]

    def get_input_epdevices(self) -> list[OrtEpDevice]:
        """The CPU, for each input."""
        return [the_device() for _ in self._inputs]

    def get_provider_graph_assignment_info(self) -> list[OrtEpAssignedSubgraph]:
        """One part with all nodes of the file, where the entry that onnxruntime asks for is in the options."""
        if self._options._entries.get(RECORD_ENTRY) != "1":
            raise known(InputError("is not recorded", tensor=RECORD_ENTRY, expected="'1' in the session's options"))
        graph = inside(self._model).source.message.graph
        nodes = tuple(OrtEpAssignedNode(node.name, node.domain, node.op_type) for node in graph.node)
        return [OrtEpAssignedSubgraph(PROVIDER, nodes)]

    # ------------------------------------------------------------ without effect
    def release_captured_graph(self, graph_annotation_id: int = 0) -> None:
        """Accepted without effect: no graph is captured."""

    def set_ep_dynamic_options(self, options: Mapping[str, str]) -> None:
        """Accepted without effect: the provider has none."""

    def get_tuning_results(self) -> list[Any]:
        """Empty: nothing is tuned."""
        return []

    def set_tuning_results(self, results: Sequence[Any], *, error_on_invalid: bool = False) -> None:
        """Accepted without effect: nothing is tuned."""

    # ------------------------------------------------------------ what programs look up inside
    @property
    def _sess(self) -> Session:
        return self

    @property
    def _inputs_meta(self) -> list[NodeArg]:
        return self.get_inputs()

    @property
    def _outputs_meta(self) -> list[NodeArg]:
        return self.get_outputs()

    inputs_meta = property(session.InferenceSession.get_inputs)
    outputs_meta = property(session.InferenceSession.get_outputs)
    overridable_initializers = property(session.InferenceSession.get_overridable_initializers)
    model_meta = property(session.InferenceSession.get_modelmeta)
    session_options = property(session.InferenceSession.get_session_options)
    input_meminfos = property(get_input_memory_infos)
    output_meminfos = property(get_output_memory_infos)
    input_epdevices = property(get_input_epdevices)
    initialize_session = refusal("InferenceSession.initialize_session", OTHER_SESSION)

    def create_ortvalue_from_shape_and_onnx_type(self, shape: Sequence[int], element_type: int, device: Any) -> OrtValue:
        """A tensor of this shape (zeros)."""
        return OrtValue.ortvalue_from_shape_and_onnx_type(shape, element_type)

    def is_webgpu_graph_capture_enabled(self) -> bool:
        return False

    def webgpu_context_id(self) -> int:
        """-1: none."""
        return -1

    @property
    def _providers(self) -> list[str]:
        return self.get_providers()

    @property
    def _sess_options(self) -> SessionOptions:
        return self.get_session_options()


class InferenceSession(Session):
    """A model behind the methods of onnxruntime's InferenceSession; its errors are onnxruntime's too.

    Keyword arguments that neither knows are passed over, as onnxruntime does.
    """

    _model_path: str | None
    _model_bytes: bytes | None

    @raising
    def __init__(
        self,
        path_or_bytes: str | bytes | os.PathLike[str],
        sess_options: SessionOptions | None = None,
        providers: Sequence[str | tuple[str, Mapping[str, Any]]] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(sess_options, SessionOptions):
            sess_options = functions.with_global_threads(sess_options)
        super().__init__(path_or_bytes, sess_options, providers, provider_options)
        self._model_path = None if isinstance(path_or_bytes, bytes) else os.fspath(path_or_bytes)
        self._model_bytes = None


def _memory() -> OrtMemoryInfo:
    return OrtMemoryInfo("Cpu", OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, OrtMemType.DEFAULT)


class IOBinding(session.IOBinding):
    """Inputs and outputs that stay bound between runs."""

    def get_outputs_as_ortvaluevector(self) -> OrtValueVector:
        """The bound outputs of the last run."""
        return OrtValueVector(self.get_outputs())

    @property
    def _iobinding(self) -> SessionIOBinding:
        """The same bindings, by the calls of the class inside of onnxruntime's."""
        other = SessionIOBinding.__new__(SessionIOBinding)
        other.__dict__ = self.__dict__
        return other


class SessionIOBinding(IOBinding):
    """A binding that takes an OrtDevice where `IOBinding` takes a device's name and number."""

    def bind_input(self, name: str, *where: Any) -> None:
        """``bind_input(name, array)``, or ``bind_input(name, device, element_type, shape, address)``."""
        if len(where) == 1:
            self.bind_cpu_input(name, where[0])
        elif len(where) == 4:
            super().bind_input(name, *_device(where[0]), *where[1:])
        else:
            raise InputError("is not bound so", tensor=name, expected="an array, or device, element type, shape and address")

    def bind_output(self, name: str, *where: Any) -> None:
        """``bind_output(name, device)``, or ``bind_output(name, device, element_type, shape, address)``."""
        if len(where) not in (1, 4):
            raise InputError("is not bound so", tensor=name, expected="a device, or device, element type, shape and address")
        super().bind_output(name, *_device(where[0]), *where[1:])

    def get_outputs(self) -> Any:
        """The bound outputs of the last run, as a vector."""
        return OrtValueVector(super().get_outputs())


def _device(device: Any) -> tuple[str, int]:
    if not isinstance(device, OrtDevice):
        raise InputError("must be a device", tensor="device", expected="OrtDevice", received=type(device).__name__)
    return "cpu", 0
