"""Model: the one face over the stages, from a file to predictions."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import arguments
from .errors import (
    ClosedError,
    CNNEngineError,
    InputError,
    LimitError,
    ShapeError,
    StoppedError,
    TimedOutError,
    UnsupportedOperatorError,
)
from .feeds import TensorInfo, check_feeds, direct_targets, in_place, result_targets, shared
from .graph import Graph
from .layout import kept
from .limits import Limits, within
from .loaded import Loaded
from .plan import Binding, Program, Segment
from .plan.budget import winograd_option
from .records import fields_of
from .runtime.blas import limited
from .runtime.quiet import collector_paused
from .runtime.runner import Call, Ending, Stop
from .runtime.threads import default_threads, limited_threads
from .spec import TensorSpec

if TYPE_CHECKING:
    from .importer import Source
    from .metadata import About, Preparation
    from .plan.trace import Trace

__all__ = ["Model", "Stop", "TensorInfo", "load"]


Progress = Callable[[int, "int | None"], object]
"""What is told how many samples are done, and of how many."""


class Model:
    """A loaded model; made by `load`. Safe to use from several threads at once.

    Attributes
    ----------
    inputs, outputs : tuple of TensorInfo
        Inputs that have an initializer in the file are optional and not listed.
    metadata : dict of str to str
        The file's metadata_props.
    name : str
    threads : int
        Threads of one run; may be set.
    precision : str
        As `load` took it.
    lowered : tuple of str
        Names of the layers that are in this precision, where that is not float32: of convolutions those to which a plan made so
        far gives it (the extents of an image decide that).
    """

    def __init__(
        self,
        model: Any,
        *,
        threads: int | None = None,
        fallback: str = "checked",
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        outputs: Sequence[str] | None = None,
        base_dir: str | os.PathLike[str] | None = None,
        winograd: bool | float = True,
        precision: str = "float32",
        inputs: Sequence[str] | None = None,
        limits: Limits | None = None,
    ) -> None:
        from .importer import import_model, reading
        from .rewrites import lower_precision, precision_option, simplify

        if not isinstance(fallback, str) or fallback not in ("checked", "error"):
            raise InputError("unknown value", tensor="fallback", expected="'checked' or 'error'", received=fallback)
        self._threads: int = default_threads(threads)
        self._threads_given = threads is not None
        if input_shapes is not None:
            given_shapes = arguments.mapping(input_shapes, "input_shapes")
            input_shapes = {k: arguments.extents(v, f"input_shapes[{k!r}]") for k, v in given_shapes.items()}
        outputs = None if outputs is None else tuple(arguments.names(outputs, "outputs"))
        inputs = None if inputs is None else tuple(arguments.names(inputs, "inputs"))
        if base_dir is not None and not isinstance(base_dir, (str, bytes, os.PathLike)):
            raise InputError("is no path", tensor="base_dir", expected="a path", received=type(base_dir).__name__)
        if base_dir is not None and not _is_folder(base_dir):
            raise InputError("is no folder", tensor="base_dir", expected="a folder that is there", received=repr(base_dir))
        winograd = winograd_option(winograd)
        self.precision: str = precision_option(precision)
        if limits is not None and not isinstance(limits, Limits):
            raise InputError("of the wrong kind", tensor="limits", expected="Limits", received=type(limits).__name__)
        started = time.perf_counter()
        self._options: dict[str, Any] = {
            "threads": None if threads is None else self._threads,
            "fallback": fallback,
            "input_shapes": input_shapes,
            "outputs": outputs,
            "inputs": inputs,
            "winograd": winograd,
            "precision": precision,
            "limits": limits,
        }
        with within(limits), reading() as files, collector_paused(), limited(self._threads):
            source = files.open(model, base_dir)
            message = source.message
            self._name = _file_name(model) if isinstance(model, (str, os.PathLike)) else message.graph.name or "model"
            self._source: Source = source
            self._path = os.path.abspath(os.fsdecode(os.fspath(model))) if isinstance(model, (str, os.PathLike)) else None
            self._about: tuple[dict[str, str], About] | None = None
            graph = import_model(message, name=self._name, fallback=fallback)
            self._begins_inside = inputs is not None and any(name not in graph.inputs for name in inputs)
            graph = _part_of(graph, inputs, outputs)
            self._declared = dict(graph.outputs)
            simple, rounded, pairs = lower_precision(simplify(graph), precision)
            self._rounded = frozenset(rounded)
            source.release()
            given = {n: kept(simple.constants[n]) for n in simple.outputs if n in simple.constants}
            self._graph: Graph = simple.replace(constants={**simple.constants, **given})
            self._program = Program(
                self._graph, winograd=winograd, store=source, threads=self._thread_count(), pairs=pairs, limits=limits
            )
            self._short: tuple[Segment | None, Call | None] = None, None
            self._closed = False
            self.metadata = dict(graph.metadata)
            self.inputs = tuple(TensorInfo(n, s.shape, s.dtype, s.kind) for n, s in graph.inputs.items())
            self.outputs = tuple(TensorInfo(n, s.shape, s.dtype, s.kind) for n, s in graph.outputs.items())
            self._by_name = {i.name: i for i in self.inputs}
            self._plan_ahead(input_shapes)
        self.load_seconds = time.perf_counter() - started

    @property
    def name(self) -> str:
        return self._name

    @property
    def lowered(self) -> tuple[str, ...]:
        if self.precision == "float32":
            return ()
        program = self._opened()
        names = self._rounded | program.paired
        return tuple(node.name for node in program.graph.nodes if node.name in names)

    @property
    def threads(self) -> int:
        """Threads of one run, from 1 to 256; may be set."""
        return self._threads

    @threads.setter
    def threads(self, threads: int) -> None:
        self._threads = default_threads(arguments.integer(threads, "threads", 1, None, model=self._name))
        self._threads_given = True
        self._options["threads"] = self._threads

    def _shapes_to_prepare(self, given: Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]] | None:
        """Shapes to plan for at load: those given, else the file's with a batch of 1; None where others are dynamic."""
        if given is not None:
            return dict(given)  # type: ignore[arg-type]
        shapes = {info.name: info.default_shape for info in self.inputs}
        return None if None in shapes.values() else shapes  # type: ignore[return-value]

    def _plan_ahead(self, given: Mapping[str, Sequence[int]] | None) -> None:
        """Plan at load, where the shapes are known or only the batch is not.

        Then 1 is a guess, and a graph may fit every other batch (a Squeeze without axes takes the batch away as well): 2 is
        tried then. A graph that fits neither may fit a batch that its constants decide, and says at a run what is wrong.
        """
        shapes = self._shapes_to_prepare(given)
        if shapes is None:
            return
        try:
            self.prepare(shapes)
        except LimitError:
            raise
        except ShapeError:
            guessed = [i for i in self.inputs if i.shape and i.shape[0] != shapes[i.name][0]]
            if given is not None or not guessed:
                raise
            try:
                self.prepare({**shapes, **{i.name: (2, *shapes[i.name][1:]) for i in guessed}})
                return
            except LimitError:
                raise
            except ShapeError:
                pass

    # ------------------------------------------------------------ running
    def run(
        self,
        names: Sequence[str] | None,
        feeds: Mapping[str, Any],
        *,
        threads: int | None = None,
        out: Sequence[Any] | None = None,
        timeout: float | None = None,
        stop: Stop | None = None,
    ) -> list[Any]:
        """Outputs for these inputs.

        Parameters
        ----------
        names : list of str or None
            Outputs that are wanted, in this order; None for all.
        feeds : mapping of str to array_like
            One array per input, of the input's dtype: what NumPy reads without a copy (buffers, ``__array_interface__``, DLPack,
            torch tensors on the CPU) is read where it lies when it is C-contiguous.
        threads : int, optional
            For this run alone.
        out : sequence of array or None, optional
            One per output that is wanted: results are written there, without a copy where the array is C-contiguous and shares no
            memory with an input. Anything that NumPy can write to in place will do.
        timeout : float, optional
            Seconds after which the run ends at its next step.
        stop : Stop, optional
            Ends the run at its next step once another thread, or a signal handler, sets it.

        Returns
        -------
        list of ndarray
            Fresh arrays, never views of the engine's memory; or, where given, what `out` holds.

        Raises
        ------
        InputError
            A missing, unknown or wrongly typed input; an unknown output name.
        ShapeError
            The shapes do not fit the model.
        TimedOutError, StoppedError
            `timeout` is over, or `stop` is set; the model goes on working. What `out` holds then is no result.
        ClosedError
        """
        if timeout is not None or stop is not None:
            return self._run_until(timeout, stop, names, feeds, threads, out)
        if threads is None:
            threads = self._thread_count()
        elif type(threads) is not int or not 0 < threads <= 256:
            threads = default_threads(threads)
        call = self._short[1]
        if call is not None and names is None and out is None:
            made: list[Any] | None = call.run(feeds, threads)
            if made is not None:
                return made
        program = self._opened()
        values: dict[str, Any] = check_feeds(feeds, self._by_name, model=self._name)
        wanted = [i.name for i in self.outputs] if names is None else arguments.names(names, "names", model=self._name)
        for name in wanted:
            if name not in self._declared:
                said = f"no such output{arguments.meant(name, self._declared)}"
                raise InputError(
                    said, model=self._name, tensor=name, expected=f"one of {', '.join(self._declared)}", received=name
                )
        targets = None if out is None else result_targets(wanted, out, model=self._name)
        direct = None if targets is None else direct_targets(targets, values)
        first = program.run(values, threads, direct)
        if first is not self._short[0]:
            self._short = first, None if first is None else self._call_of(first, values, program)
            if self._closed:  # by another thread, meanwhile
                self._short = None, None
        results: list[Any] = []
        for at, name in enumerate(wanted):
            value = values[name] if name in values else program.graph.constants[name]
            target = None if targets is None else targets[at][1]
            if target is not None:
                if isinstance(value, list) or value is None:
                    raise InputError("only arrays can be written to a given array", model=self._name, tensor=name)
                if target.shape != np.shape(value) or target.dtype != np.asarray(value).dtype:
                    wrong = ShapeError if target.dtype == np.asarray(value).dtype else InputError
                    raise wrong(
                        "the output does not fit the given array",
                        model=self._name,
                        tensor=name,
                        expected=(str(np.asarray(value).dtype), np.shape(value)),
                        received=(str(target.dtype), target.shape),
                    )
                if target is not value:
                    target[...] = value
                assert out is not None
                value = out[at]
            elif name in self._by_name or name in program.graph.constants:
                value = copy.deepcopy(value)
            results.append(value)
        return results

    def _run_until(self, timeout: Any, stop: Any, names: Any, feeds: Any, threads: Any, out: Any) -> list[Any]:
        """`run` with an end."""
        if timeout is not None:
            timeout = arguments.number(timeout, "timeout")
            if not timeout > 0:
                raise InputError("is out of range", model=self._name, tensor="timeout", expected="> 0", received=timeout)
        if stop is not None and not isinstance(stop, Stop):
            raise InputError("of the wrong kind", model=self._name, tensor="stop", expected="Stop", received=type(stop).__name__)
        try:
            with Ending(stop, timeout):
                return self.run(names, feeds, threads=threads, out=out)
        except TimedOutError as error:
            error.expected = error.expected or f"at most {timeout} s"
            raise error.locate(model=self._name, tensor="timeout") from None
        except StoppedError as error:
            raise error.locate(model=self._name) from None

    def _thread_count(self) -> int:
        count: int = self._threads if self._threads_given else limited_threads(self._threads)
        return count

    def bind(self, inputs: Mapping[str, Any] | None = None, outputs: Mapping[str, Any] | None = None) -> Binding:
        """Tie the model to buffers, for a loop that copies and allocates nothing.

        Parameters
        ----------
        inputs : mapping of str to array, optional
            Arrays to read at each run, C-contiguous; those left out are made, in the file's shape with a batch of 1.
        outputs : mapping of str to array, optional
            Arrays to write at each run, C-contiguous; those left out are made.

        Returns
        -------
        Binding
            ``binding.inputs`` and ``binding.outputs`` hold the arrays, ``binding.run()`` computes.

        Raises
        ------
        InputError, ShapeError
            An array cannot be used where it lies, or does not fit.
        UnsupportedOperatorError
            The model has nodes that run in Python, or shapes that depend on data.

        Examples
        --------
        >>> loop = model.bind()
        >>> for frame in frames:
        ...     loop.inputs["image"][...] = frame
        ...     scores = loop.run()["scores"]
        """
        self._check_open()
        for kind, given, known in (("input", inputs, self._by_name), ("output", outputs, self._declared)):
            for name in () if given is None else arguments.mapping(given, f"{kind}s", model=self._name):
                if name not in known:
                    said = f"no such {kind}{arguments.meant(name, known)}"
                    raise InputError(said, model=self._name, tensor=name, expected=list(known), received=name)
        ins: dict[str, np.ndarray] = {}
        for info in self.inputs:
            given_input = (inputs or {}).get(info.name)
            array = np.zeros(self.default_shape(info), info.dtype) if given_input is None else shared(given_input)
            ins[info.name] = in_place(info.name, array, model=self._name)
        check_feeds(ins, self._by_name, model=self._name, copies=False)
        view = inside(self)
        segment = view.whole_plan({n: a.shape for n, a in ins.items()})
        if segment is None:
            raise UnsupportedOperatorError(
                "nodes run in Python, or shapes depend on data: it cannot be bound", model=self._name, received=self.host_nodes()
            )
        planned = {name: (shape, dtype) for name, shape, dtype in segment.outputs}
        outs: dict[str, np.ndarray] = {}
        copies = []
        for info in self.outputs:
            value = None
            if info.name not in planned:
                value = ins[info.name] if info.name in ins else view.known_value(segment, info.name)
            if value is None:
                shape, dtype = planned[info.name]
            else:
                shape, dtype = value.shape, value.dtype
            given_output = (outputs or {}).get(info.name)
            array = np.empty(shape, dtype) if given_output is None else shared(given_output)
            array = in_place(info.name, array, model=self._name)
            if array.dtype != dtype:
                raise InputError("has the wrong dtype", model=self._name, tensor=info.name, expected=dtype, received=array.dtype)
            if array.shape != shape:
                raise ShapeError("has the wrong shape", model=self._name, tensor=info.name, expected=shape, received=array.shape)
            if not array.flags.writeable or any(np.may_share_memory(array, a) for a in (*ins.values(), *outs.values())):
                raise InputError("must be writeable memory of its own", model=self._name, tensor=info.name)
            outs[info.name] = array
            if value is not None:
                copies.append((array, value))
        return Binding(segment, ins, outs, copies, self._thread_count)

    def _call_of(self, segment: Segment, values: Mapping[str, Any], program: Program) -> Call | None:
        """The short way for inputs of these shapes; None where the segment is not all of the model, or some of it is Python."""
        slots = {name: slot for slot, (name, _, _) in enumerate(segment.outputs)}
        if segment.end < len(program.graph.nodes) or not segment.is_compiled:
            return None
        if any(i.kind != "tensor" for i in self.inputs) or any(o.name not in slots for o in self.outputs):
            return None
        read = {name: slot for slot, name in enumerate(segment.inputs)}
        inputs = [(i.name, read.get(i.name, -1), values[i.name].shape, i.dtype) for i in self.inputs]
        outputs = [(shape, dtype) for _, shape, dtype in segment.outputs]
        if not Call.takes(inputs, outputs):
            return None
        return Call(segment.plan.native, program.workspaces, inputs, outputs, [slots[o.name] for o in self.outputs])

    def __call__(self, *args: Any, **feeds: Any) -> Any:
        """The outputs for positional or named inputs: an array for one output, else a tuple."""
        if len(args) > len(self.inputs):
            raise InputError("too many inputs", model=self._name, expected=len(self.inputs), received=len(args))
        named = {info.name: a for info, a in zip(self.inputs, args, strict=False)}
        for name in feeds:
            if name in named:
                raise InputError("given twice", model=self._name, tensor=name)
        results = self.run(None, {**named, **feeds})
        return results[0] if len(results) == 1 else tuple(results)

    def predict(self, x: Any, batch_size: int | None = None, progress: Progress | None = None) -> Any:
        """Outputs for a whole set of samples along axis 0, in batches.

        Parameters
        ----------
        x : array_like, (samples, ...)
            For models of one input.
        batch_size : int, optional
            Samples of one run; the file's own where its batch is fixed, else all at once.
        progress : function of (int, int), optional
            Called after each run with the samples that are done, and all of them.

        Returns
        -------
        ndarray, or tuple of ndarray for several outputs
            Joined along axis 0.
        """
        parts = list(self._batches(x, batch_size, progress))
        joined = [np.concatenate(column) if len(column) > 1 else column[0] for column in zip(*parts, strict=True)]
        return joined[0] if len(joined) == 1 else tuple(joined)

    def iterate(self, samples: Iterable[Any], batch_size: int | None = None, progress: Progress | None = None) -> Iterator[Any]:
        """Outputs sample by sample, for more samples than memory holds.

        Parameters
        ----------
        samples : iterable of array_like
            For models of one input, each without the axis of samples: taken as they are needed, a batch at a time. Samples of
            another shape begin another batch.
        batch_size : int, optional
            Samples of one run; the file's own where its batch is fixed, else 1.
        progress : function of (int, int or None), optional
            Called after each run with the samples that are done, and how many there are, where `samples` has a length.

        Yields
        ------
        ndarray, or tuple of ndarray for several outputs
            Of one sample, without the axis of samples, in the order of the samples.

        Raises
        ------
        InputError, ShapeError
            As `run`, when the sample's turn comes; results before it have been given then.
        """
        info, size = self._samples_of(batch_size)
        if isinstance(samples, (str, bytes, bytearray, Mapping)) or not isinstance(samples, Iterable):
            received = type(samples).__name__
            raise InputError(
                "are no samples", model=self._name, tensor="samples", expected="an iterable of arrays", received=received
            )
        progress = _reporter(progress, self._name)
        return self._iterate(info, samples, size or 1, progress)

    def _iterate(self, info: TensorInfo, samples: Iterable[Any], size: int, progress: Progress | None) -> Iterator[Any]:
        total = len(samples) if hasattr(type(samples), "__len__") else None  # type: ignore[arg-type]
        done, waiting = 0, list[np.ndarray]()

        def run() -> Iterator[Any]:
            nonlocal done, waiting
            batch, waiting = waiting, []
            for results in self._batches(np.stack(batch), size, None):
                for at in range(len(results[0])):
                    row = tuple(result[at] for result in results)
                    yield row[0] if len(row) == 1 else row
            done += len(batch)
            if progress is not None:
                progress(done, total)

        for sample in samples:
            array = arguments.array(sample, info.name, model=self._name)
            if waiting and (array.shape != waiting[0].shape or array.dtype != waiting[0].dtype):
                yield from run()
            waiting.append(array)
            if len(waiting) == size:
                yield from run()
        if waiting:
            yield from run()

    async def predict_async(self, x: Any, batch_size: int | None = None, progress: Progress | None = None) -> Any:
        """`predict` for programs with an event loop, which goes on while a thread computes.

        Parameters
        ----------
        x, batch_size
            As for `predict`.
        progress : function of (int, int), optional
            Called in the event loop's thread.

        Returns
        -------
        ndarray, or tuple of ndarray for several outputs

        Raises
        ------
        InputError, ShapeError, ClosedError
            As `predict`. When the task is cancelled, no further batch is begun.
        """
        import asyncio

        progress = _reporter(progress, self._name)
        array = arguments.array(x, "x", model=self._name)
        batches, parts, done = self._batches(array, batch_size, None), list[list[np.ndarray]](), 0
        while (part := await asyncio.to_thread(next, batches, None)) is not None:
            parts.append(part)
            done += len(part[0])
            if progress is not None:
                progress(done, len(array))
        joined = [np.concatenate(column) if len(column) > 1 else column[0] for column in zip(*parts, strict=True)]
        return joined[0] if len(joined) == 1 else tuple(joined)

    def _samples_of(self, batch_size: int | None) -> tuple[TensorInfo, int | None]:
        """The only input, and the samples of one run: as wanted, unless the file fixes it; None for all at once."""
        self._check_open()
        if len(self.inputs) != 1:
            raise InputError("predict serves models of one input", model=self._name, expected=1, received=len(self.inputs))
        info = self.inputs[0]
        fixed = info.shape[0] if info.shape else None
        if batch_size is not None:
            batch_size = arguments.integer(batch_size, "batch_size", 1, None, model=self._name)
        if not isinstance(fixed, int):
            return info, batch_size
        if batch_size not in (None, fixed):
            raise InputError(
                "the file fixes the batch", model=self._name, tensor="batch_size", expected=fixed, received=batch_size
            )
        return info, fixed

    def _batches(self, x: Any, batch_size: int | None, progress: Progress | None) -> Iterator[list[np.ndarray]]:
        """The outputs of each batch in turn."""
        info, step = self._samples_of(batch_size)
        progress = _reporter(progress, self._name)
        array = arguments.array(x, info.name, model=self._name)
        if array.ndim == 0:
            raise ShapeError("needs an axis of samples", model=self._name, tensor=info.name, received=array.shape)
        fixed = info.shape[0] if info.shape else None
        step = step or max(len(array), 1)
        for start in range(0, max(len(array), 1), step):
            piece = array[start : start + step]
            short = step - len(piece) if isinstance(fixed, int) else 0
            if short:
                # the file's batch cannot be smaller: fill it up and drop the surplus
                piece = np.concatenate([piece, np.zeros((short, *array.shape[1:]), array.dtype)])
            results = self.run(None, {info.name: piece})
            yield [r[: len(r) - short] if short else r for r in results]
            if progress is not None:
                progress(min(start + step, len(array)), len(array))

    def trace(self, feeds: Any, *, threads: int | None = None, limit: int = 1 << 28) -> Trace:
        """Every tensor of the file for this input, computed as the file says (docs/trace.md).

        Nothing is computed yet: a tensor is when its value is asked for, with what lies before it. Rewrites fuse nothing across
        the file's tensors, so that each is what its node makes of those that it reads.

        Parameters
        ----------
        feeds : mapping of str to array_like, or one array_like for a model of one input
            As `run` takes them; they are copied.
        threads : int, optional
            The model's by default.
        limit : int
            Bytes of tensors that are computed together, and about those that are kept. What is given up is computed again when it
            is asked for, from what lies next before it.

        Returns
        -------
        Trace
            A mapping from the tensors' names, in the file's order. ``trace[name].value`` is the array, ``.node`` the file's node,
            ``.exact`` says whether a run has these bits, ``.how`` and ``.fused`` what it does instead.

        Raises
        ------
        InputError, ShapeError
            As `run`.
        ClosedError

        Examples
        --------
        >>> trace = model.trace(x)
        >>> for name, tensor in trace.items():
        ...     print(name, tensor.node, tensor.how)
        >>> trace["conv1_out"].value.mean(axis=(0, 2, 3))
        """
        from .plan.trace import FileNode, Trace

        program = self._opened()
        source: Source | None = self._source
        if source is None:
            raise ClosedError("the model was closed", model=self._name)
        count = self._thread_count() if threads is None else default_threads(threads)
        limit = arguments.integer(limit, "limit", 1, None, model=self._name)
        if not isinstance(feeds, Mapping):
            if len(self.inputs) != 1:
                raise InputError("name the inputs", model=self._name, tensor="feeds", expected=[i.name for i in self.inputs])
            feeds = {self.inputs[0].name: feeds}
        values = check_feeds(feeds, self._by_name, model=self._name)
        message = source.message
        graph = self._file_graph(source)
        nodes = [FileNode(n.name, n.op_type, n.domain or "ai.onnx", (*n.input,), (*n.output,)) for n in message.graph.node]
        initializers = [t.name for t in message.graph.initializer] + [t.values.name for t in message.graph.sparse_initializer]
        return Trace(
            graph,
            program,
            values,
            nodes,
            initializers,
            store=source,
            threads=count,
            winograd=self._options["winograd"],
            precision=self.precision,
            limit=limit,
        )

    def _file_graph(self, source: Source) -> Graph:
        """The graph as it is in the file, before rewrites, between the inputs and outputs that were asked for."""
        from .importer import import_model

        source.check()
        with source.reading(), collector_paused():
            graph = import_model(source.message, name=self._name, fallback=self._options["fallback"])
            return _part_of(graph, self._options["inputs"], self._options["outputs"])

    def explain(
        self,
        x: Any,
        target: Any = None,
        *,
        method: str = "auto",
        top: int | None = None,
        input: str | None = None,
        output: str | None = None,
        layer: str | None = None,
        patch: int | Sequence[int] | None = None,
        stride: int | Sequence[int] | None = None,
        hide: str = "mean",
        layout: str | None = None,
        labels: Sequence[str] | None = None,
        threads: int | None = None,
        limit: int = 1 << 28,
        progress: Callable[[int, int], object] | None = None,
        assume: str | None = None,
        **settings: Any,
    ) -> Any:
        """Which places of an input a score rests on (docs/explain.md).

        Parameters
        ----------
        x : array_like, mapping of str to array_like, or a picture
            One sample, as `run` takes it, also without the axis of samples; or a picture as `preprocess` takes it. A uint8 array
            (H, W) or (H, W, 3) is a picture where the input takes other numbers.
        target : int, str, tuple of int, function, or list of these, optional
            A class by its index or label, the best one by default; of outputs that are no ranking, the index of an element
            without the axis of samples; or a function of the outputs of one sample, as the model gives them when it is called,
            to a number. A list gives a list.
        method : {"auto", "cam", "ablation", "occlusion"}
            "cam" is exact, and fits networks that end in a mean over all places and sums; "ablation" removes the channels of one
            layer (Ablation-CAM); "occlusion" hides patches of the input. "auto" takes the first of them that fits.
        top : int, optional
            Explain so many of the best classes, in place of a target: gives a list.
        input, output : str, optional
            Which of several: the only one that has places by default, and the first.
        layer : str, optional
            The tensor whose channels are ablated; the last with several places by default.
        patch, stride : int or sequence of int, optional
            Of occlusion, in elements of the input: a seventh of the longer side, and half a patch.
        hide : {"mean", "blur"}
            What patches show.
        layout : {"NCHW", "NHWC"}, optional
            Order of the input's axes, where it does not follow from the network.
        labels : sequence of str, optional
            In place of the file's.
        threads : int, optional
        limit : int
            Bytes of tensors of one run: how many samples go together.
        progress : function of (int, int), optional
            Called after each run with how many are done, and of how many.
        assume, **settings
            As for `preparation`.

        Returns
        -------
        Explanation, or list of Explanation
            ``.map`` is float32 at the input's extents, ``.overlay()`` a picture, ``str()`` says method, reason, cost and source.

        Raises
        ------
        InputError
            No such class, element, tensor or method; several samples; an input without axes of places; a method that does not
            fit the network, which says why.
        ShapeError
            As `run`.

        Examples
        --------
        >>> found = model.explain("cat.jpg", "tabby")
        >>> found.save("heat.png")
        """
        from .explain import Best, Wish, explained, fed

        self._opened()
        source: Source | None = self._source
        if source is None:
            raise ClosedError("the model was closed", model=self._name)
        count = self._thread_count() if threads is None else default_threads(threads)
        limit = arguments.integer(limit, "limit", 1, None, model=self._name)
        progress = _reporter(progress, self._name)
        try:
            wish = Wish(method, output, layer, patch, stride, hide)
            if top is not None and target is not None:
                raise InputError("stands in place of a target", tensor="top", received=target)
            targets = [Best(top)] if top is not None else target if isinstance(target, list) else [target]
            if layout is not None:
                settings["layout"] = layout
            names = self.labels if labels is None else arguments.names(labels, "labels")
            found = explained(
                self._file_graph(source),
                fed(x, self.inputs, input, layout, lambda: self.preparation(assume, **settings), self._name),
                targets,
                wish,
                labels=names,
                store=source,
                threads=count,
                winograd=self._options["winograd"],
                limit=limit,
                progress=progress,
                precision=self.precision,
            )
        except CNNEngineError as error:
            raise error.locate(model=self._name) from None
        return found if top is not None or isinstance(target, list) else found[0]

    def prepare(self, shapes: Mapping[str, Sequence[int]] | Sequence[int]) -> Model:
        """Plan for these input shapes ahead of the first run.

        Parameters
        ----------
        shapes : mapping of str to tuple of int, or one tuple for a model of one input

        Returns
        -------
        Model
            Itself.
        """
        view = inside(self)
        if not isinstance(shapes, Mapping):
            if len(self.inputs) != 1:
                raise InputError("name the inputs", model=self._name, tensor="shapes", expected=[i.name for i in self.inputs])
            shapes = {self.inputs[0].name: shapes}
        view.program.segment(0, view.of_shapes(shapes))
        return self

    def default_shape(self, info: TensorInfo) -> tuple[int, ...]:
        """The file's shape of an input, with 1 for a dynamic first axis.

        Raises
        ------
        ShapeError
            Another extent is dynamic.
        """
        if info.default_shape is None:
            raise ShapeError("the shape is dynamic", model=self._name, tensor=info.name, expected="a shape", received=info.shape)
        return info.default_shape

    # ------------------------------------------------------------ what the file says of itself
    @property
    def labels(self) -> tuple[str, ...] | None:
        """The classes' names in the order of the output, as the file or one beside it has them; None where none does.

        Raises
        ------
        ModelError
            Our own metadata are not a list of strings.
        """
        from .preprocess import labels_of_model

        try:
            own = labels_of_model(self.metadata)
            return self.about.labels if own is None else own
        except CNNEngineError as error:
            raise error.locate(model=self._name) from None

    @property
    def about(self) -> About:
        """What the file's metadata, and files beside it, say of pictures, classes and purpose (docs/metadata.md).

        Raises
        ------
        ModelError
            Our own metadata are not what docs/metadata.md says.
        """
        from .metadata import Subject, about

        if self._about is None or self._about[0] != self.metadata:
            shape = self.inputs[0].shape if len(self.inputs) == 1 else None
            try:
                found = about(Subject(dict(self.metadata), self._path, shape, tuple(o.shape for o in self.outputs)))
            except CNNEngineError as error:
                raise error.locate(model=self._name) from None
            self._about = dict(self.metadata), found
        return self._about[1]

    def preparation(self, assume: str | None = None, **settings: Any) -> Preparation:
        """How a picture becomes the model's input, and who says so.

        Parameters
        ----------
        assume : str, optional
            A usual way for what nobody says: "imagenet", "unit", "signed", "pixels", "caffe", "yolo" (docs/metadata.md).
        **settings
            Fields of `cnnengine.Preprocess` that go before what the file says, as ``size=(224, 224)``.

        Returns
        -------
        Preparation
            ``settings`` is the `Preprocess`, ``sources`` and ``assumed`` say where it comes from.

        Raises
        ------
        InputError
            Nobody says how pixels are scaled, a setting is invalid, or the model has several inputs or none for images.
        ModelError
            Our own metadata are not what docs/metadata.md says.
        """
        from .preprocess import Preprocess

        if len(self.inputs) != 1:
            raise InputError("images go to models of one input", model=self._name, expected=1, received=len(self.inputs))
        known = list(fields_of(Preprocess))
        if self._begins_inside:
            raise InputError(
                "pictures go to the file's input, and this model begins behind it", model=self._name, tensor=self.inputs[0].name
            )
        for name in settings:
            if name not in known:
                said = f"no such setting{arguments.meant(name, known)}"
                raise InputError(said, model=self._name, tensor=name, expected=known)
        try:
            return self.about.preparation(self.inputs[0], settings, assume)
        except CNNEngineError as error:
            raise error.locate(model=self._name) from None

    def preprocess(self, image: Any, assume: str | None = None, **settings: Any) -> np.ndarray:
        """An image as the model's input: resized, scaled and normalised as `preparation` has it.

        Parameters
        ----------
        image : path, bytes, binary file object, PIL.Image.Image, or uint8 ndarray (H, W) or (H, W, 3)
            Needs Pillow (the extra ``image``). Channels of an array are red, green, blue.
        assume, **settings
            As for `preparation`.

        Returns
        -------
        ndarray, (1, C, H, W) or (1, H, W, C), of the input's dtype
            Join several along axis 0 for a batch.

        Raises
        ------
        InputError
            As `preparation`; or the image cannot be read.
        ModelError
            Our own metadata are not what docs/metadata.md says.
        """
        from .preprocess import as_image

        found = self.preparation(assume, **settings)
        try:
            return found.settings.apply(as_image(image), self.inputs[0].dtype)
        except CNNEngineError as error:
            raise error.locate(model=self._name) from None

    # ------------------------------------------------------------ life
    def _check_open(self) -> None:
        self._opened()

    def _opened(self) -> Program:
        """The program, which a caller keeps although another thread closes the model meanwhile."""
        program: Program | None = self._program
        if program is None:
            raise ClosedError("the model was closed", model=self._name)
        return program

    def trim(self) -> None:
        """Give back memory that can be had again: that of runs but those under way, and plans but the last one of each part.

        Without it memory of runs stays for the next ones, but for what is far larger than the last runs needed.
        """
        self._opened().trim()

    def close(self) -> None:
        """Give up weights, plans and workspaces; every later use raises ClosedError."""
        if self._closed:
            return
        self._closed = True
        self._short = None, None
        program: Program | None = self._program
        if program is not None:
            program.close()
        self._program = None  # type: ignore[assignment]
        self._graph = None  # type: ignore[assignment]
        self._source = None  # type: ignore[assignment]

    def __enter__(self) -> Model:
        self._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        def show(infos: Iterable[TensorInfo]) -> str:
            return ", ".join(f"{i.name}: {i.dtype}{list(i.shape) if i.shape is not None else ' of any rank'}" for i in infos)

        state = " (closed)" if self._closed else ""
        how = f"{self.threads} threads" if self.precision == "float32" else f"{self.threads} threads, {self.precision}"
        return f"<cnnengine.Model {self._name!r}{state}: {show(self.inputs)} -> {show(self.outputs)}; {how}>"

    def _repr_html_(self) -> str:
        from .pages import facts, listing

        if self._closed:
            return facts([("model", f"{self._name} (closed)")])
        rows: list[tuple[str, str, Any, str]] = []
        for kind, infos in (("input", self.inputs), ("output", self.outputs)):
            shown = [
                (i.name, i.dtype, "of any rank" if i.shape is None else " x ".join(map(str, i.shape)) or "scalar") for i in infos
            ]
            rows += [(kind, *one) for one in shown]
        known = [("model", self._name), ("runs with", f"{self.threads} threads, {self.precision}, {self.isa}")]
        return facts(known) + listing(("", "name", "element", "shape"), rows)

    def __reduce__(self) -> tuple[Any, ...]:
        self._check_open()
        return (_restore, (self._bytes(), self._name, dict(self._options)), {"_path": self._path})

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        self._check_open()
        made = _restore(self._bytes(), self._name, copy.deepcopy(self._options, memo))
        made._path = self._path
        return made

    def _bytes(self) -> bytes:
        source: Source | None = self._source
        if source is None:
            raise ClosedError("the model was closed", model=self._name)
        try:
            return source.serialized()
        except CNNEngineError as error:
            raise error.locate(model=self._name) from None

    # ------------------------------------------------------------ reports
    @property
    def isa(self) -> str:
        """Instruction set that the model was lowered for."""
        return self._opened().isa

    @property
    def is_pure(self) -> bool:
        """Whether no node runs on the host, judged by the shapes planned last (by the operators alone before)."""
        return not self.host_nodes()

    def host_nodes(self) -> list[str]:
        """Names of the nodes that run on the host (fallbacks, NumPy references), by the plans made so far."""
        program = self._opened()
        names: list[str] = [n.name for n in program.graph.nodes if n.op.by_onnx]
        for segment in program.segments():
            names += [n for n in segment.host_nodes if n not in names]
            if segment.tail is not None and segment.tail.node.name not in names:
                names.append(segment.tail.node.name)
        return names


def _reporter(progress: Any, model: str) -> Progress | None:
    """The function that is told of progress, if one was given."""
    if progress is None:
        return None
    if callable(progress):
        told: Progress = progress
        return told
    raise InputError(
        "must be a function",
        model=model,
        tensor="progress",
        expected="a function of two numbers, or None",
        received=type(progress).__name__,
    )


def _part_of(graph: Graph, inputs: Sequence[str] | None, outputs: Sequence[str] | None) -> Graph:
    """The graph between these inputs and outputs, the file's where there are none."""
    if outputs is not None:
        graph = _with_outputs(graph, outputs)
    if inputs is not None:
        from .importer.cut import cut

        graph = cut(graph, inputs)
    return graph


def _with_outputs(graph: Graph, names: Sequence[str]) -> Graph:
    """The graph with exactly these outputs: any of its values, by their names or by the name of the node that makes them."""
    values = graph.names()
    by_node = {node.name: [n for n in node.outputs if n] for node in graph.nodes if node.name}
    outputs: dict[str, TensorSpec] = {}
    for given in names:
        found = [given] if given and given in values else by_node.get(given)
        if not found:
            raise graph.no_value(given, "a name of a tensor or of a node of the graph", by_node)
        for name in found:
            known = graph.outputs.get(name) or graph.inputs.get(name)
            outputs[name] = known or TensorSpec(np.dtype(np.float32), None)
    return graph.replace(outputs=outputs)


def named(name: str, source: Any, **options: Any) -> Model:
    """As `load`, of a model that is called otherwise than its source: one that was made of a file's contents."""
    model = Model(source, **options)
    model._name = name
    return model


def _is_folder(path: str | bytes | os.PathLike[str]) -> bool:
    try:
        return os.path.isdir(path)
    except ValueError:  # a null byte
        return False


def _file_name(path: str | os.PathLike[str]) -> str:
    """The last part of a path; `pathlib` would take longer to import than small files to load."""
    return os.path.basename(os.fsdecode(path).rstrip(os.sep))


def _restore(source: bytes, name: str, options: dict[str, Any]) -> Model:
    """What pickles of models call, by this name."""
    return named(name, source, **options)


def inside(model: Model) -> Loaded:
    """What an open model consists of, for code that looks at how it runs.

    Raises
    ------
    ClosedError
    """
    program = model._opened()
    return Loaded(model.name, model._source, program.graph, program, model._by_name, model._threads_given, model._options)


def load(
    model: Any,
    *,
    threads: int | None = None,
    fallback: str = "checked",
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] | None = None,
    base_dir: str | os.PathLike[str] | None = None,
    winograd: bool | float = True,
    precision: str = "float32",
    inputs: Sequence[str] | None = None,
    limits: Limits | None = None,
) -> Model:
    """Load an ONNX model.

    Parameters
    ----------
    model : path, bytes, binary file object or onnx.ModelProto
    threads : int, optional
        Threads of one run; else CNNENGINE_NUM_THREADS, OMP_NUM_THREADS, the CPUs that this process may use.
    fallback : {"checked", "error"}
        What to do with operators that have no class here: run them through onnx.reference where that was checked, or refuse.
    input_shapes : mapping of str to tuple of int, optional
        Shapes to plan for at once.
    outputs : sequence of str, optional
        Tensors to give instead of the file's outputs, which are given only where they are named too. Any tensor of the file may
        be named, or a node, which stands for all that it gives; a tensor comes before a node of the same name.
    base_dir : path, optional
        Folder of external data; the model file's own by default. Needed for models that do not come from a path. Links in a
        folder that is named here may lead out of it.
    winograd : bool or float
        Whether convolutions of 3, 5 or 7 taps along an axis may be computed by Winograd's algorithm, which rounds about three
        times as much. Its weights take up to four times the memory of the plain ones: True bounds what they add for the whole
        model by the bytes of its weights and 24 MiB, or by 24 MiB alone where these lie in external data, and layers that save
        most products per byte come first. A number from 1 on is the bound for all weights, in times of the plain ones:
        `math.inf` is none.
    precision : {"float32", "bfloat16"}
        "bfloat16" rounds the weights of dense layers that come from memory at each run, but for the first and the last layers,
        and keeps them in half the size; sums, and all other layers, stay float32. Nothing chooses it without being asked to.
    inputs : sequence of str, optional
        Tensors to feed instead of the file's inputs, in this order: any intermediate tensor, at which the network then begins, or
        an initializer. Where a skip leads past them, what it carries must be named too (docs/trace.md).
    limits : Limits, optional
        How much the model may ask for, now and in its runs; `Limits.strict()` for a stranger's file (docs/security.md).

    Returns
    -------
    Model

    Raises
    ------
    ModelNotFoundError, ModelError
        There is no such file, or it is not a valid model.
    UnsupportedOperatorError
        Names every node that cannot be run; or the type of a tensor in `inputs` does not follow from the graph.
    LimitError
        The model asks for more than `limits` allow.
    InputError
        An argument is not what it should be; of a name that is not in the graph, `expected` has those like it.
    """
    return Model(
        model,
        threads=threads,
        fallback=fallback,
        input_shapes=input_shapes,
        outputs=outputs,
        base_dir=base_dir,
        winograd=winograd,
        precision=precision,
        inputs=inputs,
        limits=limits,
    )
