"""SessionOptions, RunOptions and the enumerations of their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from pathlib import PurePath
from typing import Any, Generic, TypeVar, overload

from .. import arguments
from ..errors import InputError, StoppedError, UnsupportedOperatorError, shortened
from ..limits import Limits
from ..model import Stop
from .values import OrtValue

T = TypeVar("T")

PROVIDER = "CPUExecutionProvider"
"""The one execution provider."""

NO_ADAPTERS = "LoRA adapters are not read"
NO_COMPILED_MODELS = "models compiled for one provider, and the contexts beside them, are neither read nor written"


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


class _NoEntryError(InputError, RuntimeError):
    """An entry that was never added: programs that ask for it catch onnxruntime's RuntimeError."""


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
            raise _NoEntryError("there is no such config entry", tensor=str(key), expected=sorted(self._entries))
        return self._entries[key]


def checked_severity(level: int) -> int:
    return arguments.integer(level, "log_severity_level", -1, 4)  # the default, then 0 (verbose) to 4 (fatal)


FOLDER_ENTRY = "session.model_external_initializers_file_folder_path"
"""The config entry that says where the external data of a model given as bytes lie."""

WINOGRAD_ENTRY = "cnnengine.winograd"
"""The config entry that says what `load` takes as `winograd`."""


PRECISION_ENTRY = "cnnengine.precision"
"""The config entry that says what `load` takes as `precision`."""


LIMITS_ENTRY = "cnnengine.limits"
"""The config entry that says what a model may ask for: "default" or "strict"."""


def limits_of(words: str) -> Limits | None:
    """What `load` takes as `limits`, for the words of an option."""
    if words not in ("default", "strict"):
        raise InputError("unknown value", tensor=LIMITS_ENTRY, expected="'default' or 'strict'", received=words)
    return Limits.strict() if words == "strict" else None


class SessionOptions(_Options):
    """Options of an InferenceSession.

    With a meaning: `intra_op_num_threads` (0 or less: the default count), `enable_profiling` with `profile_file_prefix`,
    `add_free_dimension_override_by_name`, `add_initializer`, and the entry
    `session.model_external_initializers_file_folder_path`. All others are accepted, kept and have no effect.
    """

    __slots__ = ("_cancelled", "_dimensions", "_files", "_initializers", "_provided")

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
        self._files: dict[str, bytes] = {}
        self._provided = False
        self._cancelled = False

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Keep an entry.

        `session.model_external_initializers_file_folder_path` names the folder of external data of a model that is given as
        bytes, `cnnengine.winograd` is "on", "off" or a number, as `load` takes it, `cnnengine.precision` is "float32" or
        "bfloat16", `cnnengine.limits` is "default" or "strict"; no other has an effect.
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

    def add_external_initializers_from_files_in_memory(
        self, file_names: Sequence[str], buffers: Sequence[Any], lengths: Sequence[int]
    ) -> None:
        """Files of external data that are read from these buffers (copied, up to each length) and not from a folder."""
        names = arguments.names(file_names, "file_names")
        if not all(isinstance(given, Sequence) and len(given) == len(names) for given in (buffers, lengths)):
            raise InputError("one buffer and one length per file are needed", tensor="buffers", expected=f"{len(names)} of each")
        for name, buffer, length in zip(names, buffers, lengths, strict=True):
            parts = PurePath(name).parts
            if not parts or PurePath(name).is_absolute() or ".." in parts:
                raise InputError("is no file name inside of a folder", tensor="file_names", received=name)
            try:
                memory = memoryview(buffer).cast("B")
            except TypeError:
                raise InputError("has no bytes", tensor=name, expected="a buffer", received=type(buffer).__name__) from None
            self._files[name] = bytes(memory[: arguments.integer(length, f"length of {name}", 0, len(memory))])

    def register_custom_ops_library(self, path: str) -> None:
        """Refused: code for another engine cannot be run here."""
        raise UnsupportedOperatorError("libraries of custom operators cannot be loaded", file=str(path))

    def add_provider(self, name: str, options: Mapping[str, str]) -> None:
        """The one provider, whose options have no effect; others are refused."""
        if name != PROVIDER:
            raise InputError("there is no such provider", tensor="name", expected=PROVIDER, received=name)
        if not isinstance(options, Mapping):
            raise InputError("must be a dict", tensor="options", received=type(options).__name__)
        self._provided = True

    def add_provider_for_devices(self, devices: Sequence[Any], options: Mapping[str, str]) -> None:
        """The provider of these devices: what `get_ep_devices` gives."""
        if not isinstance(devices, Sequence) or not devices:
            raise InputError("no device is given", tensor="devices", expected="a list of what get_ep_devices gives")
        for device in devices:
            self.add_provider(getattr(device, "ep_name", type(device).__name__), options)

    def set_provider_selection_policy(self, policy: Any) -> None:
        """Accepted without effect: there is one provider."""
        self._provided = True

    def set_provider_selection_policy_delegate(self, delegate: Callable[..., Any]) -> None:
        """Accepted without effect: there is one provider, and the function is not called."""
        if not callable(delegate):
            raise InputError("must be callable", tensor="delegate", expected="a function", received=type(delegate).__name__)
        self._provided = True

    def has_providers(self) -> bool:
        """Whether providers were given to these options; a session has the one that there is, anyway."""
        return self._provided

    def set_load_cancellation_flag(self, cancel: bool) -> None:
        """A session that begins to load with the flag set raises ModelError; one that is being loaded is not interrupted."""
        self._cancelled = arguments.boolean(cancel, "cancel")

    def set_ep_context_data_read_func(self, read_func: Any, max_data_size: int) -> None:
        """Refused: compiled models of other providers are not read."""
        raise UnsupportedOperatorError(NO_COMPILED_MODELS, tensor="read_func")

    def clear_ep_context_data_read_func(self) -> None:
        """Accepted without effect: there is none."""

    def _copy(self) -> SessionOptions:
        other = SessionOptions()
        other._values, other._entries = dict(self._values), dict(self._entries)
        other._dimensions, other._initializers = dict(self._dimensions), dict(self._initializers)
        other._files, other._provided, other._cancelled = dict(self._files), self._provided, self._cancelled
        return other


class RunOptions(_Options):
    """Options of one run. `terminate`, set by any thread, ends the runs that have these options, at their next step, and those
    that begin with it; the others are accepted and have no effect."""

    __slots__ = ("_stop",)

    log_severity_level = _Option(int, -1)
    log_verbosity_level = _Option(int, 0)
    logid = _Option(str, "")
    only_execute_path_to_fetches = _Option(bool, False)

    def __init__(self) -> None:
        super().__init__()
        self._stop = Stop()

    @property
    def terminate(self) -> bool:
        return bool(self._stop.is_set())

    @terminate.setter
    def terminate(self, value: bool) -> None:
        if arguments.boolean(value, "terminate"):
            self._stop.set()
        else:
            self._stop.clear()

    def add_active_adapter(self, adapter: Any) -> None:
        """Refused: there are no LoRA adapters."""
        raise UnsupportedOperatorError(NO_ADAPTERS, tensor="adapter")

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Keep an entry; none has an effect."""
        self._add(key, value)

    def get_run_config_entry(self, key: str) -> str:
        """An entry that was added; InputError where there is none."""
        return self._get(key)


def check_run_options(options: Any, model: str) -> None:
    if options is None:
        return
    if not isinstance(options, RunOptions):
        raise InputError("of the wrong kind", tensor="run_options", expected="RunOptions", received=type(options).__name__)
    if options.terminate:
        raise StoppedError("the run was ended by its options", model=model, tensor="run_options.terminate")
