"""InferenceSession: the engine behind the names that callers of onnxruntime's CPU face use.

`docs/session.md` says of each option whether it has a meaning here. What fails raises a CNNEngineError, where onnxruntime has
exceptions of its own.
"""

from __future__ import annotations

import copy
import ctypes
import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

from . import arguments
from .errors import CNNEngineError, InputError, ModelError, ShapeError, UnsupportedOperatorError, shortened
from .model import Model
from .ops.common import DTYPE_NAMES
from .plan.budget import winograd_words
from .runtime.locks import own_lock

if TYPE_CHECKING:
    import onnx

__all__ = [
    "ExecutionMode",
    "ExecutionOrder",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "ModelMetadata",
    "NodeArg",
    "OrtValue",
    "RunOptions",
    "SessionOptions",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_version_string",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_seed",
]

PROVIDER = "CPUExecutionProvider"
"""The one execution provider."""

TYPE_NAMES: dict[str, tuple[str, int]] = {
    "float32": ("float", 1),
    "uint8": ("uint8", 2),
    "int8": ("int8", 3),
    "uint16": ("uint16", 4),
    "int16": ("int16", 5),
    "int32": ("int32", 6),
    "int64": ("int64", 7),
    "object": ("string", 8),
    "bool": ("bool", 9),
    "float16": ("float16", 10),
    "float64": ("double", 11),
    "uint32": ("uint32", 12),
    "uint64": ("uint64", 13),
    "complex64": ("complex64", 14),
    "complex128": ("complex128", 15),
}
"""dtype -> the element type's name in ``tensor(...)`` and its ONNX number."""

T = TypeVar("T")


# ---------------------------------------------------------------- the module's functions
def get_available_providers() -> list[str]:
    """``["CPUExecutionProvider"]``."""
    return [PROVIDER]


def get_all_providers() -> list[str]:
    """``["CPUExecutionProvider"]``."""
    return [PROVIDER]


def get_device() -> str:
    """``"CPU"``."""
    return "CPU"


def get_version_string() -> str:
    """The version of cnnengine."""
    from . import __version__

    return __version__


def get_build_info() -> str:
    """One line on the build: version, instruction sets, threads."""
    from .config import show_config

    return "cnnengine Build Info: " + ", ".join(f"{k}={v}" for k, v in show_config().items())


def set_seed(seed: int) -> None:
    """Accepted without effect: nothing here draws random numbers."""
    arguments.integer(seed, "seed", None, None)


def set_default_logger_severity(severity: int) -> None:
    """Accepted without effect: the engine logs nothing."""
    _severity(severity)


def set_default_logger_verbosity(verbosity: int) -> None:
    """Accepted without effect: the engine logs nothing."""
    arguments.integer(verbosity, "verbosity", None, None)


def enable_telemetry_events() -> None:
    """Accepted without effect: the engine reports to nobody."""


def disable_telemetry_events() -> None:
    """Accepted without effect: the engine reports to nobody."""


# ---------------------------------------------------------------- options
class GraphOptimizationLevel(IntEnum):
    """How far the graph is rewritten; without meaning here, where every rewrite keeps the results and always happens."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(IntEnum):
    """Whether nodes run side by side; without meaning here, where all threads work on one node at a time."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(IntEnum):
    """The order of nodes; without meaning here."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


class _Option(Generic[T]):
    """An attribute of one kind with a default: bool, int (of 32 bits), str or an IntEnum."""

    def __init__(self, kind: type[T], default: T) -> None:
        self.kind = kind
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> _Option[T]: ...
    @overload
    def __get__(self, instance: _Options, owner: type) -> T: ...
    def __get__(self, instance: _Options | None, owner: type) -> _Option[T] | T:
        if instance is None:
            return self
        value: T = instance._values.get(self.name, self.default)
        return value

    def __set__(self, instance: _Options, value: T) -> None:
        instance._values[self.name] = self._converted(value)

    def _converted(self, value: Any) -> Any:
        try:
            if self.kind is str:
                if not isinstance(value, str):
                    raise TypeError
                return value
            if self.kind is bool:
                return arguments.boolean(value, self.name)
            return self.kind(arguments.integer(value, self.name, -(2**31), 2**31 - 1))  # type: ignore[call-arg]
        except (TypeError, ValueError):
            raise InputError(
                "an option has a value of the wrong kind",
                tensor=self.name,
                expected=self.kind.__name__,
                received=shortened(repr, value),
            ) from None


class _Options:
    """What SessionOptions and RunOptions share: checked attributes and config entries."""

    __slots__ = ("_entries", "_values")

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._entries: dict[str, str] = {}

    def _add(self, key: str, value: str) -> None:
        if not isinstance(key, str) or not isinstance(value, str):
            raise InputError(
                "a config entry is a pair of strings", expected="str, str", received=(type(key).__name__, type(value).__name__)
            )
        self._entries[key] = value

    def _get(self, key: str) -> str:
        if not isinstance(key, str) or key not in self._entries:
            raise InputError("there is no such config entry", tensor=str(key), expected=sorted(self._entries))
        return self._entries[key]


def _severity(level: int) -> int:
    return arguments.integer(level, "log_severity_level", -1, 4)  # the default, then 0 (verbose) to 4 (fatal)


WINOGRAD_ENTRY = "cnnengine.winograd"
"""The config entry that says what `load` takes as `winograd`."""


class SessionOptions(_Options):
    """Options of an InferenceSession.

    With a meaning: `intra_op_num_threads` (0 or less: the default count), `enable_profiling` with `profile_file_prefix`,
    `add_free_dimension_override_by_name`, `add_initializer`, and the entry
    `session.model_external_initializers_file_folder_path`. All others are accepted, kept and have no effect.
    """

    __slots__ = ("_dimensions", "_initializers")

    enable_cpu_mem_arena = _Option(bool, True)
    enable_mem_pattern = _Option(bool, True)
    enable_mem_reuse = _Option(bool, True)
    enable_profiling = _Option(bool, False)
    execution_mode = _Option(ExecutionMode, ExecutionMode.ORT_SEQUENTIAL)
    execution_order = _Option(ExecutionOrder, ExecutionOrder.DEFAULT)
    graph_optimization_level = _Option(GraphOptimizationLevel, GraphOptimizationLevel.ORT_ENABLE_ALL)
    inter_op_num_threads = _Option(int, 0)
    intra_op_num_threads = _Option(int, 0)
    log_severity_level = _Option(int, -1)
    log_verbosity_level = _Option(int, 0)
    logid = _Option(str, "")
    optimized_model_filepath = _Option(str, "")
    profile_file_prefix = _Option(str, "onnxruntime_profile_")
    use_deterministic_compute = _Option(bool, False)
    use_per_session_threads = _Option(bool, True)

    def __init__(self) -> None:
        super().__init__()
        self._dimensions: dict[str, int] = {}
        self._initializers: dict[str, OrtValue] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Keep an entry.

        `session.model_external_initializers_file_folder_path` names the folder of external data of a model that is given as
        bytes, `cnnengine.winograd` is "on", "off" or a number, as `load` takes it; no other has an effect.
        """
        self._add(key, value)

    def get_session_config_entry(self, key: str) -> str:
        """An entry that was added; InputError where there is none."""
        return self._get(key)

    def add_free_dimension_override_by_name(self, name: str, value: int) -> None:
        """Fix the inputs' symbolic dimension of this name."""
        if not isinstance(name, str):
            raise InputError("must be a name", tensor="name", expected="str", received=type(name).__name__)
        self._dimensions[name] = arguments.integer(value, name, 1)

    def add_free_dimension_override_by_denotation(self, denotation: str, value: int) -> None:
        """Refused: denotations are not read here."""
        raise UnsupportedOperatorError("dimensions are fixed by their names alone", tensor=denotation, received=value)

    def add_initializer(self, name: str, value: OrtValue) -> None:
        """Use this tensor in place of the model's initializer of that name."""
        if not isinstance(name, str):
            raise InputError("must be a name", tensor="name", expected="str", received=type(name).__name__)
        if not isinstance(value, OrtValue):
            raise InputError("must be an OrtValue", tensor=name, expected="OrtValue", received=type(value).__name__)
        self._initializers[name] = value

    def add_external_initializers(self, names: Sequence[str], values: Sequence[OrtValue]) -> None:
        """`add_initializer` for several."""
        names = arguments.names(names, "names")
        if not isinstance(values, Sequence):
            raise InputError("must be a list", tensor="values", expected="OrtValues", received=type(values).__name__)
        if len(names) != len(values):
            raise InputError("one tensor per name is needed", tensor="values", expected=len(names), received=len(values))
        for name, value in zip(names, values, strict=True):
            self.add_initializer(name, value)

    def register_custom_ops_library(self, path: str) -> None:
        """Refused: code for another engine cannot be run here."""
        raise UnsupportedOperatorError("libraries of custom operators cannot be loaded", tensor=str(path))

    def has_providers(self) -> bool:
        """False: providers are given to the session alone."""
        return False

    def _copy(self) -> SessionOptions:
        other = SessionOptions()
        other._values, other._entries = dict(self._values), dict(self._entries)
        other._dimensions, other._initializers = dict(self._dimensions), dict(self._initializers)
        return other


class RunOptions(_Options):
    """Options of one run. `terminate` ends a run that has not begun; the others are accepted and have no effect."""

    __slots__ = ()

    log_severity_level = _Option(int, -1)
    log_verbosity_level = _Option(int, 0)
    logid = _Option(str, "")
    only_execute_path_to_fetches = _Option(bool, False)
    terminate = _Option(bool, False)

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Keep an entry; none has an effect."""
        self._add(key, value)

    def get_run_config_entry(self, key: str) -> str:
        """An entry that was added; InputError where there is none."""
        return self._get(key)


# ---------------------------------------------------------------- what a session tells and takes
@dataclass(frozen=True)
class NodeArg:
    """An input or output of the model.

    Attributes
    ----------
    name : str
    shape : list of int, str or None
        A string is a symbolic dimension, None an unknown one; empty where the rank is unknown, as for scalars.
    type : str
        Such as ``"tensor(float)"``.
    """

    name: str
    shape: list[int | str | None]
    type: str

    def __str__(self) -> str:
        return repr(self)


@dataclass(frozen=True)
class ModelMetadata:
    """What the file says of itself."""

    custom_metadata_map: dict[str, str] = field(default_factory=dict)
    description: str = ""
    domain: str = ""
    graph_description: str = ""
    graph_name: str = ""
    producer_name: str = ""
    version: int = 0


class OrtValue:
    """A tensor in the memory of the CPU, for IOBinding and run_with_ort_values; shares the memory of its array."""

    __slots__ = ("_array",)

    def __init__(self, array: np.ndarray) -> None:
        if not isinstance(array, np.ndarray) or array.dtype.newbyteorder("=").name not in TYPE_NAMES:
            raise InputError(
                "must be an array", expected=f"one of {', '.join(TYPE_NAMES)}", received=getattr(array, "dtype", type(array))
            )
        self._array = np.require(array, array.dtype.newbyteorder("="), "C").reshape(array.shape)

    @staticmethod
    def ortvalue_from_numpy(numpy_obj: np.ndarray, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1) -> OrtValue:
        """A tensor that shares the array's memory where that is contiguous, else a copy."""
        _check_device(device_type, device_id)
        return OrtValue(numpy_obj)

    @staticmethod
    def ortvalue_from_shape_and_type(
        shape: Sequence[int], element_type: Any = np.float32, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """A tensor of this shape (zeros); `element_type` is a dtype or an ONNX number."""
        _check_device(device_type, device_id)
        return OrtValue(_zeros(shape, _dtype(element_type)))

    def numpy(self) -> np.ndarray:
        """The array itself, not a copy."""
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        converted = self._array if dtype is None else self._array.astype(dtype, copy=False)
        return converted.copy() if copy and converted is self._array else converted

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()

    def update_inplace(self, np_arr: np.ndarray) -> None:
        """Overwrite the values; shape and dtype stay."""
        array = arguments.array(np_arr, "np_arr")
        if array.shape != self._array.shape or array.dtype.newbyteorder("=") != self._array.dtype:
            raise ShapeError(
                "the new values do not fit",
                expected=f"{self._array.dtype} {self._array.shape}",
                received=f"{array.dtype} {array.shape}",
            )
        if not self._array.flags.writeable:
            raise InputError("the tensor is read-only", expected="a writable array")
        np.copyto(self._array, array)

    def shape(self) -> list[int]:
        return list(self._array.shape)

    def data_type(self) -> str:
        """Such as ``"tensor(float)"``."""
        return f"tensor({TYPE_NAMES[self._array.dtype.name][0]})"

    def element_type(self) -> int:
        """ONNX's number of the element type."""
        return TYPE_NAMES[self._array.dtype.name][1]

    def device_name(self) -> str:
        return "cpu"

    def data_ptr(self) -> int:
        """Address of the first element."""
        return int(self._array.ctypes.data)

    def tensor_size_in_bytes(self) -> int:
        return int(self._array.nbytes)

    def has_value(self) -> bool:
        return True

    def is_tensor(self) -> bool:
        return True

    def is_sparse_tensor(self) -> bool:
        return False

    def is_tensor_sequence(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"<cnnengine.OrtValue {self.data_type()} {self.shape()}>"


def _dtype(element_type: Any) -> np.dtype:
    """A dtype from a dtype, a scalar type or an ONNX number."""
    dtype: np.dtype
    if hasattr(type(element_type), "__index__"):
        wanted = arguments.integer(element_type, "element_type", None, None)
        for name, (_, number) in TYPE_NAMES.items():
            if number == wanted:
                dtype = np.dtype(name)
                return dtype
    elif element_type is not None and not isinstance(element_type, np.generic):  # NumPy takes None for float64
        try:
            dtype = np.dtype(element_type)
        except Exception:  # TypeError, and what texts that are no dtype's raise
            dtype = np.dtype("V")
        if dtype.newbyteorder("=").name in TYPE_NAMES:
            return dtype
    raise InputError(
        "an unknown element type",
        tensor="element_type",
        expected="a dtype or an ONNX number",
        received=shortened(repr, element_type),
    )


def _zeros(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    extents = arguments.extents(shape, "shape")
    try:
        return np.zeros(extents, dtype)
    except (ValueError, MemoryError) as error:
        raise ShapeError(f"there is no memory for this shape ({error})", tensor="shape", received=extents) from None


def _check_device(device_type: str, device_id: int) -> None:
    if str(device_type).lower() != "cpu":
        raise InputError("there is no such device", tensor="device_type", expected="'cpu'", received=device_type)
    if arguments.integer(device_id, "device_id", None, None) != 0:
        raise InputError("there is one CPU device", tensor="device_id", expected=0, received=device_id)


# ---------------------------------------------------------------- bindings
class IOBinding:
    """Inputs and outputs that stay bound between runs; made by `InferenceSession.io_binding`."""

    def __init__(self, session: InferenceSession) -> None:
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
        _check_device(device_type, device_id)
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
        _check_device(device_type, device_id)
        self._session._check_output_name(name)
        if shape is None:
            if buffer_ptr is not None:
                raise InputError("memory needs a shape and a dtype", tensor=name, expected="shape, element_type")
            self._outputs[name] = None
            return
        if element_type is None:
            raise InputError("a shape needs a dtype", tensor=name, expected="element_type")
        if buffer_ptr is None:
            self._outputs[name] = OrtValue(_zeros(shape, _dtype(element_type)))
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
    dtype, extents = _dtype(element_type), arguments.extents(shape, "shape")
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


# ---------------------------------------------------------------- the session
class InferenceSession:
    """A model behind the methods of onnxruntime's InferenceSession on CPU. Safe to use from several threads at once; pickles.

    Parameters
    ----------
    path_or_bytes : str, PathLike or bytes
    sess_options : SessionOptions, optional
    providers : sequence of str or (str, dict), optional
        Names other than CPUExecutionProvider raise a UserWarning and are passed over.
    provider_options : sequence of dict, optional
        One per provider; without effect.
    disabled_optimizers, enable_fallback, read_config_from_model : optional
        Accepted without effect.

    Raises
    ------
    ModelNotFoundError, ModelError, UnsupportedOperatorError
        As `cnnengine.load` does.
    InputError
        A wrong argument.
    """

    def __init__(
        self,
        path_or_bytes: str | bytes | os.PathLike[str],
        sess_options: SessionOptions | None = None,
        providers: Sequence[str | tuple[str, Mapping[str, Any]]] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
        *,
        disabled_optimizers: Sequence[str] | None = None,
        enable_fallback: bool = True,
        read_config_from_model: bool = False,
    ) -> None:
        if not isinstance(path_or_bytes, (str, bytes, os.PathLike)):
            raise InputError(
                "cannot be loaded", tensor="path_or_bytes", expected="a path or bytes", received=type(path_or_bytes).__name__
            )
        if sess_options is not None and not isinstance(sess_options, SessionOptions):
            raise InputError(
                "of the wrong kind", tensor="sess_options", expected="SessionOptions", received=type(sess_options).__name__
            )
        _check_providers(providers, provider_options)
        options = SessionOptions() if sess_options is None else sess_options._copy()
        _severity(options.log_severity_level)
        if options.optimized_model_filepath:
            warnings.warn(
                "optimized_model_filepath: no file is written, the lowered graph is not ONNX", UserWarning, stacklevel=2
            )
        started = time.perf_counter_ns()
        self._options = options
        self._threads = options.intra_op_num_threads if options.intra_op_num_threads > 0 else None
        self._model = _load(path_or_bytes, options, self._threads)
        self._describe()
        self._overriding: dict[frozenset[str], Model] = {}
        self._lock = own_lock(self)
        self._profile_start = time.time_ns()
        self._origin = started
        self._events: list[dict[str, Any]] | None = [] if options.enable_profiling else None
        self._event("model_loading_uri" if not isinstance(path_or_bytes, bytes) else "model_loading_array", started)

    def _describe(self) -> None:
        source = self._model._source
        proto = source.message
        if not all(_is_known(v) and v.type.HasField("tensor_type") for v in (*proto.graph.input, *proto.graph.output)):
            proto = source.proto()  # protobuf tells of sequences, and ONNX infers what the file leaves out
        constants = _initializer_names(proto)
        self._inputs = [_node_arg(v) for v in proto.graph.input if v.name not in constants]
        overridable = [v for v in proto.graph.input if v.name in constants] if proto.ir_version >= 4 else []
        self._overridable = [_node_arg(v) for v in overridable]
        self._outputs = [_node_arg(v) for v in _complete(proto)]
        self._output_names = {a.name for a in self._outputs}
        self._dtypes = _dtypes(self._model)
        self._meta = ModelMetadata(
            {p.key: p.value for p in proto.metadata_props},
            proto.doc_string,
            proto.domain,
            proto.graph.doc_string,
            proto.graph.name,
            proto.producer_name,
            proto.model_version,
        )

    # ------------------------------------------------------------ what it is
    def get_inputs(self) -> list[NodeArg]:
        """The inputs that a run needs."""
        return list(self._inputs)

    def get_outputs(self) -> list[NodeArg]:
        return list(self._outputs)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Inputs that have an initializer in the file and may be fed in its place (from IR version 4 on)."""
        return list(self._overridable)

    def get_modelmeta(self) -> ModelMetadata:
        return self._meta

    def get_providers(self) -> list[str]:
        return [PROVIDER]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {PROVIDER: {}}

    def get_session_options(self) -> SessionOptions:
        """A copy of the options in force."""
        return self._options._copy()

    def set_providers(
        self,
        providers: Sequence[str | tuple[str, Mapping[str, Any]]] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Checked as in the constructor; there is one provider."""
        _check_providers(providers, provider_options)

    def disable_fallback(self) -> None:
        """Without effect: there is no other provider to fall back to."""

    def enable_fallback(self) -> None:
        """Without effect: there is no other provider to fall back to."""

    # ------------------------------------------------------------ running
    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: RunOptions | None = None
    ) -> list[Any]:
        """Outputs for these inputs.

        Parameters
        ----------
        output_names : sequence of str or None
            None or empty for all.
        input_feed : mapping of str to array_like or OrtValue
            Arrays (NumPy's, torch's, buffers: what has an element type) must have the input's dtype. Python's numbers and lists
            are converted to it where that keeps what they say: floats do not become integers, None nothing.
        run_options : RunOptions, optional

        Returns
        -------
        list of ndarray

        Raises
        ------
        InputError
            A missing, unknown or wrongly typed input; an unknown output; `run_options.terminate` is set.
        ShapeError
            The shapes do not fit the model.
        """
        if run_options is not None:
            _check_run_options(run_options, self._model.name)
        started = time.perf_counter_ns()
        model, names, feeds = self._ready(output_names, input_feed)
        results = model.run(names, feeds)
        self._event("model_run", started)
        return results

    def _ready(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any]) -> tuple[Model, Any, dict[str, Any]]:
        """The model that runs, the outputs that are wanted, and the inputs as it takes them."""
        if not isinstance(input_feed, Mapping):
            raise InputError(
                "must map names to arrays", tensor="input_feed", expected="a dict", received=type(input_feed).__name__
            )
        names = None if output_names is None else arguments.names(output_names, "output_names", model=self._model.name) or None
        overridden = frozenset(a.name for a in self._overridable if a.name in input_feed)
        model = self._override(overridden) if overridden else self._model
        dtypes = _dtypes(model) if overridden else self._dtypes
        return model, names, {name: self._array(name, value, dtypes.get(name)) for name, value in input_feed.items()}

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[Any], Any, str], None],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """`run` in another thread, which then calls ``callback(results, user_data, error)``, one of results and error empty.

        The inputs are what they hold now, whatever becomes of the arrays while the run is under way: they are copied. Every error
        goes to the callback, but for a callback that cannot be called.
        """
        if not callable(callback):
            raise InputError("must be callable", tensor="callback", expected="a function", received=type(callback).__name__)
        ready: tuple[Model, Any, dict[str, Any]] | BaseException
        try:
            model, names, feeds = self._ready(output_names, input_feed)
            ready = model, names, {name: _own(value) for name, value in feeds.items()}
        except Exception as caught:  # whatever it is: a caller waits for the callback
            ready = caught

        def work() -> None:
            started = time.perf_counter_ns()
            try:
                if isinstance(ready, BaseException):
                    raise ready
                _check_run_options(run_options, self._model.name)
                model, names, feeds = ready
                results, error = model.run(names, feeds), ""
                self._event("model_run", started)
            except CNNEngineError as caught:
                results, error = [], str(caught)
            except BaseException as caught:
                results, error = [], f"{type(caught).__name__}: {caught}"
            callback(results, user_data, error)

        threading.Thread(target=work, name="cnnengine-run-async").start()

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """`run` on OrtValues."""
        return [OrtValue(r) for r in self.run(output_names, input_dict_ort_values, run_options)]

    def io_binding(self) -> IOBinding:
        """An empty binding for `run_with_iobinding`."""
        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: RunOptions | None = None) -> None:
        """Run on the bound inputs; results are then in the bound outputs.

        Raises
        ------
        InputError, ShapeError
            No output is bound, or one in memory of another shape or dtype; and what `run` raises.
        """
        if not isinstance(iobinding, IOBinding) or iobinding._session is not self:
            raise InputError("is not a binding of this session", tensor="iobinding", expected="what io_binding() gave")
        names = list(iobinding._outputs)
        if not names:
            raise InputError("no output is bound", model=self._model.name, tensor="iobinding", expected="bind_output first")
        bound: list[OrtValue] = []
        for name, result in zip(names, self.run(names, iobinding._inputs, run_options), strict=True):
            target = iobinding._outputs[name]
            if target is None:
                target = OrtValue(result)
            elif list(result.shape) != target.shape() or result.dtype != target.numpy().dtype:
                raise ShapeError(
                    "the bound memory does not fit the output",
                    model=self._model.name,
                    tensor=name,
                    expected=f"{result.dtype} {result.shape}",
                    received=f"{target.numpy().dtype} {tuple(target.shape())}",
                )
            else:
                target.update_inplace(result)
            bound.append(target)
        iobinding._results = bound

    def _check_input_name(self, name: str) -> None:
        names = [a.name for a in (*self._inputs, *self._overridable)]
        if name not in names:
            raise InputError("no such input", model=self._model.name, tensor=str(name), expected=f"one of {', '.join(names)}")

    def _check_output_name(self, name: str) -> None:
        if name not in self._output_names:
            raise InputError(
                "no such output",
                model=self._model.name,
                tensor=str(name),
                expected=f"one of {', '.join(sorted(self._output_names))}",
            )

    def _array(self, name: str, value: Any, dtype: np.dtype | None) -> Any:
        if isinstance(value, np.ndarray):
            return value
        if isinstance(value, OrtValue):
            return value.numpy()
        if dtype is None or not arguments.is_python(value):
            return value
        return arguments.python_array(value, dtype, name, model=self._model.name)

    def _override(self, names: frozenset[str]) -> Model:
        """The model with these initializers as plain inputs: made at the first run that feeds them, and kept."""
        import onnx

        with self._lock:
            found = self._overriding.get(names)
            if found is None:
                proto = onnx.ModelProto()
                proto.CopyFrom(self._model._source.proto())
                for tensors in (proto.graph.initializer, proto.graph.sparse_initializer):
                    for index in reversed(range(len(tensors))):
                        if _name_of(tensors[index]) in names:
                            del tensors[index]
                found = Model(proto, threads=self._threads)
                found._name = self._model.name
                self._overriding[names] = found
            return found

    # ------------------------------------------------------------ profile
    def _event(self, name: str, started: int) -> None:
        events = self._events
        if events is None:
            return
        now = time.perf_counter_ns()
        events.append(
            {
                "cat": "Session",
                "pid": os.getpid(),
                "tid": threading.get_native_id(),
                "dur": (now - started) // 1000,
                "ts": (started - self._origin) // 1000,
                "ph": "X",
                "name": name,
                "args": {},
            }
        )

    def get_profiling_start_time_ns(self) -> int:
        """When the session was made, in ns since the epoch."""
        return self._profile_start

    def end_profiling(self) -> str:
        """Write the times of loading and of each run as a Chrome trace; the file's name, or "" where profiling is off."""
        events, self._events = self._events, None
        if events is None:
            return ""
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(self._profile_start // 10**9))
        path = f"{self._options.profile_file_prefix}_{stamp}_{self._profile_start // 10**6 % 1000:03d}.json"
        try:
            Path(path).write_text(json.dumps(events, indent=0), encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"the profile cannot be written ({error.strerror})", tensor="profile_file_prefix", received=path
            ) from None
        return path

    # ------------------------------------------------------------ life
    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for key in ("_lock", "_overriding", "_events"):
            del state[key]
        state["_options"] = (self._options._values, self._options._entries, self._options._dimensions)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._options = SessionOptions()
        self._options._values, self._options._entries, self._options._dimensions = map(dict, state["_options"])
        self._lock = own_lock(self)
        self._overriding = {}
        self._events = [] if self._options.enable_profiling else None

    def __deepcopy__(self, memo: dict[int, Any]) -> InferenceSession:
        other = InferenceSession.__new__(InferenceSession)
        other.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return other

    def __repr__(self) -> str:
        def show(arguments: list[NodeArg]) -> str:
            return ", ".join(f"{a.name}: {a.type} {a.shape}" for a in arguments)

        return f"<cnnengine.InferenceSession {self._model.name!r}: {show(self._inputs)} -> {show(self._outputs)}>"


def _dtypes(model: Model) -> dict[str, np.dtype]:
    """What Python values become, by the names of inputs that are tensors; lists for sequences stay lists, None stays None."""
    return {i.name: i.dtype for i in model.inputs if i.kind == "tensor"}


def _own(value: Any) -> Any:
    """A copy of an input that no other thread can write to."""
    if isinstance(value, list | tuple):
        return [_own(one) for one in value]
    return value if value is None else np.array(arguments.array(value, "input_feed"))


def _check_run_options(options: Any, model: str) -> None:
    if options is None:
        return
    if not isinstance(options, RunOptions):
        raise InputError("of the wrong kind", tensor="run_options", expected="RunOptions", received=type(options).__name__)
    if options.terminate:
        raise InputError("the run was ended by its options", model=model, tensor="run_options.terminate")


def _check_providers(providers: Any, provider_options: Any) -> None:
    if providers is None:
        if provider_options is not None:
            raise InputError(
                "need providers to belong to", tensor="provider_options", expected="providers", received=provider_options
            )
        return
    if isinstance(providers, str) or not isinstance(providers, Sequence):
        raise InputError("must be a list", tensor="providers", expected="a sequence of names", received=providers)
    for provider in providers:
        name, own = (provider, None) if isinstance(provider, str) else provider if _is_pair(provider) else (None, None)
        if not isinstance(name, str) or not (own is None or isinstance(own, Mapping)):
            raise InputError("a provider is a name, or a name and a dict", tensor="providers", received=provider)
        if own is not None and provider_options is not None:
            raise InputError(
                "options are given twice", tensor="provider_options", expected="names alone in providers", received=provider
            )
        if name != PROVIDER:
            warnings.warn(
                f"Specified provider '{name}' is not in available provider names. Available providers: '{PROVIDER}'",
                UserWarning,
                stacklevel=3,
            )
    if provider_options is not None and (
        not isinstance(provider_options, Sequence)
        or len(provider_options) != len(providers)
        or not all(isinstance(o, Mapping) for o in provider_options)
    ):
        raise InputError(
            "must be one dict per provider",
            tensor="provider_options",
            expected=f"{len(providers)} dicts",
            received=provider_options,
        )


def _is_pair(provider: Any) -> bool:
    return isinstance(provider, tuple | list) and len(provider) == 2


FOLDER_KEY = "session.model_external_initializers_file_folder_path"


def _load(source: str | bytes | os.PathLike[str], options: SessionOptions, threads: int | None) -> Model:
    """The Model, from a proto in which the options' dimensions and initializers are in place."""
    folder = options._entries.get(FOLDER_KEY) if isinstance(source, bytes) else None
    winograd = winograd_words(options._entries.get(WINOGRAD_ENTRY, "on"))
    if not options._dimensions and not options._initializers:
        return Model(source, threads=threads, base_dir=folder or None, winograd=winograd)
    from onnx import numpy_helper

    from .importer import read

    proto = read(source, folder or None)
    name = proto.graph.name or "model" if isinstance(source, bytes) else Path(os.fspath(source)).name
    for value in (*proto.graph.input, *proto.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in options._dimensions:
                dim.dim_value = options._dimensions[dim.dim_param]
    for key, tensor in options._initializers.items():
        own: onnx.TensorProto | None = next((t for t in proto.graph.initializer if t.name == key), None)
        if own is None:
            raise ModelError("the model has no initializer of this name", model=name, tensor=key)
        if tuple(own.dims) != tuple(tensor.shape()) or own.data_type != tensor.element_type():
            raise ShapeError(
                "does not fit the model's initializer",
                model=name,
                tensor=key,
                expected=f"element type {own.data_type}, shape {tuple(own.dims)}",
                received=f"element type {tensor.element_type()}, shape {tuple(tensor.shape())}",
            )
        own.CopyFrom(numpy_helper.from_array(tensor.numpy(), key))
    model = Model(proto, threads=threads, winograd=winograd)
    model._name = name
    return model


def _name_of(tensor: Any) -> str:
    return str(tensor.values.name if hasattr(tensor, "values") else tensor.name)


def _initializer_names(proto: onnx.ModelProto) -> set[str]:
    return {_name_of(t) for t in (*proto.graph.initializer, *proto.graph.sparse_initializer)}


_TYPE_NAMES = {number: name.lower() for name, number in DTYPE_NAMES.items()}


def _is_known(value: onnx.ValueInfoProto) -> bool:
    """Whether a file says an input's or output's type, and a tensor's shape."""
    kind = value.type.WhichOneof("value")
    return kind is not None and (
        kind != "tensor_type" or (value.type.tensor_type.elem_type != 0 and value.type.tensor_type.HasField("shape"))
    )


def _complete(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The graph's outputs, their types and shapes inferred where the file leaves them out."""

    outputs = list(proto.graph.output)
    if all(_is_known(v) for v in outputs):
        return outputs
    import onnx

    try:
        inferred = {v.name: v for v in onnx.shape_inference.infer_shapes(proto).graph.output}
    except Exception:
        # shape inference of files that run all the same: unknown domains, inconsistent declarations, more than 2 GB
        return outputs
    return [v if _is_known(v) else inferred.get(v.name, v) for v in outputs]


def _node_arg(value: onnx.ValueInfoProto) -> NodeArg:
    shape: list[int | str | None] = []
    if value.type.WhichOneof("value") == "tensor_type":
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param and not dim.dim_param.startswith("unk__"):  # the name that shape inference makes up
                shape.append(dim.dim_param)
            else:
                shape.append(int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value >= 0 else None)
    return NodeArg(value.name, shape, _type_name(value.type))


def _type_name(kind: onnx.TypeProto) -> str:
    field_name = kind.WhichOneof("value")
    if field_name == "tensor_type" and kind.tensor_type.elem_type in _TYPE_NAMES:
        return f"tensor({_TYPE_NAMES[kind.tensor_type.elem_type]})"
    import onnx

    if field_name in ("tensor_type", "sparse_tensor_type"):
        number = getattr(kind, field_name).elem_type
        try:
            name = str(onnx.TensorProto.DataType.Name(number)).lower()
        except ValueError:
            name = "undefined"
        return f"{'sparse_' if field_name == 'sparse_tensor_type' else ''}tensor({ {'undefined': 'float'}.get(name, name) })"
    if field_name == "sequence_type":
        return f"seq({_type_name(kind.sequence_type.elem_type)})"
    if field_name == "optional_type":
        return f"optional({_type_name(kind.optional_type.elem_type)})"
    if field_name == "map_type":
        key = str(onnx.TensorProto.DataType.Name(kind.map_type.key_type)).lower()
        return f"map({key},{_type_name(kind.map_type.value_type)})"
    return "tensor(float)"
