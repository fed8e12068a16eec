"""Whether a model will run, what of it is compiled, what is not and costs how much, and whether another engine agrees.

Host nodes are timed inside of whole runs, each by the clock around it; what counts is the fastest run, so that shares are of one
and the same run.
"""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from .._kernels import dispatch
from ..arguments import integer, number
from ..errors import CNNEngineError, InputError, ModelNotFoundError, ShapeError, UnsupportedOperatorError
from ..graph import Node
from ..model import Model, inside, named
from ..plan import Layer, Segment
from ..rewrites import explaining, precision_option
from ..runtime.blas import limited
from ..runtime.runner import Workspace
from ..runtime.threads import default_threads
from . import hints
from .against import PEERS, STEPS, TOLERANCE, Peer, compare
from .found import Check, HostNode, Unsupported
from .owners import layers_of
from .planning import Shapes, dynamic_inputs, random_feeds, resolve_shapes
from .precision import precision_errors
from .suggest import suggested
from .summary import kernels_of

ROUNDS = 5
"""Runs at most, after the one that plans."""
SECONDS = 1.0
"""No further run is begun after this time."""

_clock = time.perf_counter_ns


def check(
    model: str | bytes | os.PathLike[str] | Any,
    shapes: Shapes | Callable[[Model], Shapes] | None = None,
    *,
    feeds: Mapping[str, Any] | Callable[[Model], Mapping[str, Any]] | None = None,
    against: str | Peer | None = None,
    tolerance: float = TOLERANCE,
    steps: int = STEPS,
    threads: int | None = None,
    why: bool = False,
    precision: str | None = None,
) -> Check:
    """Say whether a model will run, which nodes are not compiled and what they cost, and whether another engine agrees.

    The model is loaded and run a few times, by default on random numbers (zeros where inputs are integers).

    Parameters
    ----------
    model : Model, or as for `cnnengine.load`
    shapes : mapping of str to tuple of int, or a function of the loaded Model that gives one; optional
        Shapes of inputs; those left out are the file's, with a batch of 1 where it is dynamic.
    feeds : mapping of str to array, or a function of the loaded Model that gives one; optional
        An array for each input, in place of `shapes` and random numbers: where inputs are indices or shapes, and to compare on
        what the model is made for.
    against : str or Peer, optional
        An engine to compare every intermediate tensor with: "onnxruntime", "reference" (onnx.reference), or an object with
        `name`, `version` and `run(proto, outputs, feeds)`.
    tolerance : float
        Largest difference that is none, relative to the largest absolute value of the tensor.
    steps : int
        The same for quantised tensors, in steps of their scale.
    threads : int, optional
    why : bool
        Whether to tell, in `declined`, which rewrites nearly fit and why they left the nodes as they are.
    precision : str, optional
        As `cnnengine.load` takes it, "float32" by default; where it is not that, `errors` tells what it costs. A Model has a
        precision and threads of its own.

    Returns
    -------
    Check
        Also for models that cannot be loaded or run: `runs`, `error`, `unsupported` tell.

    Raises
    ------
    ModelNotFoundError
        There is no such file.
    InputError, ShapeError
        The given shapes or arrays are not those of the model's inputs, or the engine is unknown or not installed.
    """
    tolerance, steps = number(tolerance, "tolerance"), integer(steps, "steps", 0)
    threads = None if threads is None else default_threads(threads)  # before the model's own errors are caught
    if not tolerance >= 0:
        raise InputError("must not be negative", tensor="tolerance", received=tolerance)
    precision, peer = None if precision is None else precision_option(precision), _peer(against)
    if isinstance(model, Model):
        for name, given, own in (("threads", threads, model.threads), ("precision", precision, model.precision)):
            if given not in (None, own):
                raise InputError("the model was loaded with its own", model=model.name, tensor=name, expected=own, received=given)
        inside(model)  # it is open
    precision = precision or "float32"
    if not why:
        return _check(model, shapes, feeds, peer, (tolerance, steps), threads, precision)
    with explaining() as reasons:
        if isinstance(model, Model):  # what rewrites say of it, they said when it was loaded
            loaded = inside(model)
            with named(model.name, loaded.source, **{**loaded.options, "threads": model.threads}) as again:
                found = _check(again, shapes, feeds, peer, (tolerance, steps), threads, precision)
        else:
            found = _check(model, shapes, feeds, peer, (tolerance, steps), threads, precision)
    return replace(found, declined=tuple(reasons.values()))


def _check(
    model: Any,
    shapes: Shapes | Callable[[Model], Shapes] | None,
    feeds: Mapping[str, Any] | Callable[[Model], Mapping[str, Any]] | None,
    peer: Peer | None,
    limits: tuple[float, int],
    threads: int | None,
    precision: str,
) -> Check:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found, loaded = _loaded(model) if isinstance(model, Model) else _load(model, threads, precision)
    found = replace(found, warnings=tuple(str(w.message) for w in caught if issubclass(w.category, UserWarning)))
    if loaded is None:
        return found
    with nullcontext(model) if loaded is model else loaded:
        given = shapes(loaded) if callable(shapes) else shapes
        arrays = feeds(loaded) if callable(feeds) else feeds
        if given and arrays:
            raise InputError("shapes are those of the given arrays", model=loaded.name, tensor="shapes", expected="one of both")
        return _try(found, loaded, given, arrays, peer, limits)


def _peer(against: str | Peer | None) -> Peer | None:
    if not isinstance(against, str):
        return against
    if against not in PEERS:
        raise InputError("unknown engine", tensor="against", expected=", ".join(PEERS), received=against)
    return PEERS[against]()


# ---------------------------------------------------------------- loading
def _load(model: Any, threads: int | None, precision: str) -> tuple[Check, Model | None]:
    name = os.path.basename(os.fsdecode(model)) if isinstance(model, (str, os.PathLike)) else "model"
    found = Check(name, dispatch.current_isa(), precision=precision)
    try:
        loaded = Model(model, threads=threads, precision=precision)
    except ModelNotFoundError as error:
        if _is_there(model):  # it is data outside of the file that is missing
            return replace(found, error=str(error), hint=hints.of_error(error)), None
        raise
    except UnsupportedOperatorError as error:
        nodes, problems = _nodes_of(model), _unsupported(error)
        hint = None if problems else hints.of_error(error)
        return replace(found, error=_first_line(error), hint=hint, nodes=nodes, unsupported=problems), None
    except CNNEngineError as error:
        return replace(found, error=str(error), hint=hints.of_error(error), nodes=_nodes_of(model)), None
    return _loaded(loaded)


def _loaded(loaded: Model) -> tuple[Check, Model]:
    found = Check(loaded.name, loaded.isa, precision=loaded.precision)
    view = inside(loaded)
    nodes = _count(view.source.message.graph)
    layers = Counter("fallback" if node.op.by_onnx else "unknown" for node in view.graph.nodes)
    return replace(found, model=loaded.name, isa=loaded.isa, threads=loaded.threads, nodes=nodes, layers=dict(layers)), loaded


def _is_there(model: Any) -> bool:
    return not isinstance(model, (str, os.PathLike)) or os.path.exists(model)


def _nodes_of(model: Any) -> int | None:
    """Nodes of a file that cannot be loaded, when it can be read."""
    from ..importer import open_model

    if hasattr(model, "read"):
        return None  # read already
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _count(open_model(model).message.graph)
    except CNNEngineError:
        return None


def _count(graph: Any) -> int:
    """Nodes but constants, with those of subgraphs."""
    inner = [g for node in graph.node for a in node.attribute for g in (*a.graphs, *((a.g,) if a.HasField("g") else ()))]
    own = len([node for node in graph.node if node.op_type != "Constant"])
    return own + sum(_count(g) for g in inner)


def _unsupported(error: UnsupportedOperatorError) -> tuple[Unsupported, ...]:
    problems = getattr(error, "problems", ())
    return tuple(
        Unsupported(
            p.node, p.op_type, p.domain or "ai.onnx", p.version, p.reason, hints.of_unsupported(p.op_type, p.domain, p.version)
        )
        for p in problems
    )


def _first_line(error: CNNEngineError) -> str:
    return str(error).splitlines()[0].rstrip(":")


# ---------------------------------------------------------------- running
def _try(
    found: Check,
    model: Model,
    shapes: Shapes | None,
    arrays: Mapping[str, Any] | None,
    peer: Peer | None,
    limits: tuple[float, int],
) -> Check:
    if arrays is not None:
        feeds = inside(model).check_feeds(arrays)
        found = replace(found, shapes={name: np.shape(value) for name, value in feeds.items() if isinstance(value, np.ndarray)})
    else:
        resolved = resolve_shapes(model, shapes)
        if resolved is None or any(info.kind != "tensor" for info in model.inputs):
            return _not_run(found, model, shapes)
        feeds = random_feeds(model, resolved)
        found = replace(found, shapes=resolved)
    try:
        layers, host_nodes, milliseconds = _measure(model, feeds)
    except UnsupportedOperatorError as error:
        operator = error.operator or ""
        node = next((n for n in inside(model).graph.nodes if n.name == error.node), None)
        domain, version = ("", 0) if node is None else (node.op.domain, getattr(node.op, "version", 0))
        entry = Unsupported(error.node or "", operator, domain or "ai.onnx", version, error.message, hints.of_error(error))
        return replace(found, error=_first_line(error), unsupported=(entry,))
    except (CNNEngineError, MemoryError) as error:
        hint = "a smaller shape needs less memory"
        if isinstance(error, CNNEngineError):
            misfit = _misfit(found, model, error, shapes) if arrays is None else None
            if misfit is not None:
                return misfit
            hint = hints.of_error(error, arrays_given=arrays is not None)
        return replace(found, error=str(error) or "not enough memory", hint=hint)
    found = replace(found, runs=True, layers=layers, host_nodes=host_nodes, milliseconds=milliseconds)
    if model.precision != "float32":
        found = replace(found, errors=precision_errors(model, feeds))
    return found if peer is None else replace(found, comparison=compare(model, feeds, peer, *limits))


def _not_run(found: Check, model: Model, shapes: Shapes | None) -> Check:
    """The answer where no input can be made up."""
    missing = [name for name in dynamic_inputs(model) if name not in (shapes or {})]
    why, hint = f"not run: the shape of {', '.join(missing)} is dynamic", f"give it: {suggested(model, missing)}"
    if any(info.kind != "tensor" for info in model.inputs):
        why, hint = "not run: an input is no tensor", "in Python: check(model, feeds={...})"
    return replace(found, runs=None, error=why, hint=hint, host_nodes=tuple(_planned_fallbacks(model)))


def _misfit(found: Check, model: Model, error: CNNEngineError, shapes: Shapes | None) -> Check | None:
    """The answer where what was made up may be at fault, not the model: a given shape, or zeros for integers."""
    dynamic = {info.name for info in model.inputs if info.shape is None or any(not isinstance(n, int) for n in info.shape)}
    guessed = [name for name in shapes or {} if name in dynamic]
    integers = [info.name for info in model.inputs if info.dtype.kind in "iu"]
    if guessed and isinstance(error, ShapeError):
        hint = f"a shape that the model is made for: {suggested(model, guessed)}; a size that was fixed at export stays fixed"
        why = "not run: it does not fit this shape"
    elif integers:
        hint = f"give real ones for {', '.join(integers)}: --input FILE.npz"
        why = "not run: integer inputs were zeros, which it may not take"
    else:
        return None
    return replace(found, runs=None, error=f"{why}: {error}", hint=hint, host_nodes=tuple(_planned_fallbacks(model)))


def _planned_fallbacks(model: Model) -> Iterator[HostNode]:
    for node in inside(model).graph.nodes:
        if node.op.by_onnx:
            yield _host_node(node, "fallback", [], False, None, None)


def _measure(model: Model, feeds: Mapping[str, Any]) -> tuple[dict[str, int], tuple[HostNode, ...], float]:
    """Layers by the way that they run, the host nodes, and the milliseconds of the fastest run."""
    workspace = Workspace()
    found, _, _ = _round(model, dict(feeds), workspace)  # plans
    best, taken = None, 0
    end = _clock() + int(SECONDS * 1e9)
    with limited(model.threads):  # as a run has it
        for _ in range(ROUNDS):
            found, total, spent = _round(model, dict(feeds), workspace)
            if best is None or total < taken:
                best, taken = spent, total
            if _clock() > end:
                break
    assert best is not None
    counts: Counter[str] = Counter()
    nodes: list[HostNode] = []
    for segment in found:
        kernels = kernels_of(segment)
        for layer in layers_of(segment):
            node, tail = layer.node, segment.tail is not None and layer.node is segment.tail.node
            if node.name not in best and not tail and node.name not in segment.host_nodes:
                counts["compiled" if kernels.get(id(node)) else "free"] += 1
                continue
            runs = "fallback" if node.op.by_onnx else "host" if node.name in segment.by_numpy else "compiled"
            counts[runs] += 1
            if runs != "compiled":
                time_of = best.get(node.name, 0)
                nodes.append(_host_node(node, runs, _dtypes(layer), tail, time_of * 1e-6, time_of / max(taken, 1)))
    return dict(counts), tuple(nodes), taken * 1e-6


def _round(model: Model, values: dict[str, Any], workspace: Workspace) -> tuple[list[Segment], int, dict[str, int]]:
    """One run: its segments, its nanoseconds, and those of each host node."""
    spent: dict[str, int] = {}
    found: list[Segment] = []

    @contextmanager
    def timed(node: str) -> Iterator[None]:
        before = _clock()
        yield
        spent[node] = spent.get(node, 0) + _clock() - before

    view = inside(model)
    begin = _clock()
    start, count = 0, len(view.graph.nodes)
    while start < count:
        segment = view.program.segment(start, values)
        found.append(segment)
        segment.execute(values, workspace, model.threads, around=timed)
        start = segment.end
    return found, _clock() - begin, spent


def _dtypes(layer: Layer) -> list[np.dtype]:
    return [known[1] for known in layer.inputs if known is not None]


def _host_node(
    node: Node, runs: str, dtypes: Sequence[np.dtype], tail: bool, milliseconds: float | None, share: float | None
) -> HostNode:
    reason, hint = hints.of_host(node.op.op_type, runs, list(dtypes), tail)
    version = getattr(node.op, "version", None) if runs == "fallback" else None
    return HostNode(node.name, node.op.op_type, node.op.domain or "ai.onnx", version, runs, milliseconds, share, reason, hint)
