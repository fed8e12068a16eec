"""InferenceSession: a model behind the methods of onnxruntime's."""

from __future__ import annotations

import copy
import json
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import arguments
from ..errors import CNNEngineError, InputError, ModelError, ShapeError, StoppedError
from ..limits import within
from ..model import Model, inside, named
from ..plan import Segment
from ..plan.budget import winograd_words
from ..runtime.locks import own_lock
from .binding import IOBinding
from .describe import ModelMetadata, NodeArg, complete_outputs, initializer_names, name_of, node_arg
from .options import (
    FOLDER_ENTRY,
    LIMITS_ENTRY,
    PRECISION_ENTRY,
    PROVIDER,
    WINOGRAD_ENTRY,
    RunOptions,
    SessionOptions,
    check_run_options,
    checked_severity,
    limits_of,
)
from .values import OrtValue


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
        checked_severity(options.log_severity_level)
        if options.optimized_model_filepath:
            warnings.warn(
                "optimized_model_filepath: no file is written, the lowered graph is not ONNX", UserWarning, stacklevel=2
            )
        if options._cancelled:
            raise ModelError("loading was cancelled by its options", tensor="sess_options.set_load_cancellation_flag")
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
        view = inside(self._model)
        proto = view.source.message
        constants = initializer_names(proto)
        self._inputs = [node_arg(v) for v in proto.graph.input if v.name not in constants]
        overridable = [v for v in proto.graph.input if v.name in constants] if proto.ir_version >= 4 else []
        self._overridable = [node_arg(v) for v in overridable]
        self._outputs = complete_outputs(view.source, _plan_of(self._model))
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
            A missing, unknown or wrongly typed input; an unknown output.
        StoppedError
            `run_options.terminate` is set, or was by another thread while the run was under way.
        ShapeError
            The shapes do not fit the model.
        """
        if run_options is not None:
            check_run_options(run_options, self._model.name)
        started = time.perf_counter_ns()
        model, names, feeds = self._ready(output_names, input_feed)
        results = _run(model, names, feeds, run_options)
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
                check_run_options(run_options, self._model.name)
                model, names, feeds = ready
                results, error = _run(model, names, feeds, run_options), ""
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
        with self._lock:
            found = self._overriding.get(names)
            if found is None:
                source = inside(self._model).source
                graph = source.message.graph
                kept = {
                    field: [t for t in getattr(graph, field) if name_of(t) not in names]
                    for field in ("initializer", "sparse_initializer")
                }
                limits = limits_of(self._options._entries.get(LIMITS_ENTRY, "default"))
                found = named(self._model.name, source.with_graph(**kept), threads=self._threads, limits=limits)
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
        state["_options"] = (self._options._values, self._options._entries, self._options._dimensions, self._options._provided)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._options = SessionOptions()
        self._options._values, self._options._entries, self._options._dimensions = map(dict, state["_options"][:3])
        self._options._provided = state["_options"][3]
        self._lock = own_lock(self)
        self._overriding = {}
        self._events = [] if self._options.enable_profiling else None

    def __deepcopy__(self, memo: dict[int, Any]) -> InferenceSession:
        other = type(self).__new__(type(self))
        other.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return other

    def __repr__(self) -> str:
        def show(arguments: list[NodeArg]) -> str:
            return ", ".join(f"{a.name}: {a.type} {a.shape}" for a in arguments)

        return f"<cnnengine.InferenceSession {self._model.name!r}: {show(self._inputs)} -> {show(self._outputs)}>"


def _run(model: Model, names: Any, feeds: dict[str, Any], options: RunOptions | None) -> list[Any]:
    if options is None:
        return model.run(names, feeds)
    try:
        return model.run(names, feeds, stop=options._stop)
    except StoppedError as error:
        raise error.locate(tensor="run_options.terminate") from None


def _dtypes(model: Model) -> dict[str, np.dtype]:
    """What Python values become, by the names of inputs that are tensors; lists for sequences stay lists, None stays None."""
    return {i.name: i.dtype for i in model.inputs if i.kind == "tensor"}


def _own(value: Any) -> Any:
    """A copy of an input that no other thread can write to."""
    if isinstance(value, list | tuple):
        return [_own(one) for one in value]
    return value if value is None else np.array(arguments.array(value, "input_feed"))


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


def _load(source: str | bytes | os.PathLike[str], options: SessionOptions, threads: int | None) -> Model:
    """The Model; its external data come from the options' files, where there are any."""
    folder = options._entries.get(FOLDER_ENTRY) if isinstance(source, bytes) else None
    if not options._files:
        return _load_from(source, folder, options, threads)
    with tempfile.TemporaryDirectory(prefix="cnnengine-") as place:  # a model outlives the files that it was read from
        for name, content in options._files.items():
            path = Path(place, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return _load_from(source, place, options, threads)


def _load_from(source: str | bytes | os.PathLike[str], folder: str | None, options: SessionOptions, threads: int | None) -> Model:
    """The Model, from a proto in which the options' dimensions and initializers are in place."""
    winograd = winograd_words(options._entries.get(WINOGRAD_ENTRY, "on"))
    precision = options._entries.get(PRECISION_ENTRY, "float32")
    limits = limits_of(options._entries.get(LIMITS_ENTRY, "default"))
    if not options._dimensions and not options._initializers:
        return Model(source, threads=threads, base_dir=folder or None, winograd=winograd, precision=precision, limits=limits)
    from ..importer import open_model
    from ..importer.attributes import tensor_of

    with within(limits):
        source_of = open_model(source, folder or None)
    graph = source_of.message.graph
    name = graph.name or "model" if isinstance(source, bytes) else Path(os.fspath(source)).name
    tensors = {t.name: t for t in graph.initializer}
    for key, tensor in options._initializers.items():
        own = tensors.get(key)
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
        tensors[key] = tensor_of(key, tensor.numpy(), tensor.element_type())
    changed = source_of.with_graph(
        initializer=[tensors[t.name] for t in graph.initializer],
        input=[_with_extents(v, options._dimensions) for v in graph.input],
        output=[_with_extents(v, options._dimensions) for v in graph.output],
    )
    return named(name, changed, threads=threads, winograd=winograd, precision=precision, limits=limits)


def _with_extents(value: Any, extents: Mapping[str, int]) -> Any:
    """A tensor's type with numbers in the place of these names."""
    if not any(dim.dim_param in extents for dim in value.type.tensor_type.shape.dim):
        return value
    tensor = value.type.tensor_type
    dims = []
    for dim in tensor.shape.dim:
        if dim.dim_param in extents:
            dim = dim.changed(dim_value=extents[dim.dim_param])
            del dim.dim_param
        dims.append(dim)
    shape = tensor.shape.changed(dim=dims)
    return value.changed(type=value.type.changed(tensor_type=tensor.changed(shape=shape)))


def _plan_of(model: Model) -> Segment | None:
    """The plan of all of the model that was made when it was loaded."""
    return next((s for s in inside(model).program.segments() if s.end == len(inside(model).graph.nodes)), None)
