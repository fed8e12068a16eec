"""A model's intermediate tensors in cnnengine and in another engine, side by side.

Both engines are made to give every tensor, which also keeps them from fusing the nodes that make it. The model's own outputs are
compared once more as `cnnengine.load` computes them, fused: so a fault of a rewrite shows as well.

Quantised tensors, and floats beside them, are compared in steps: what a relative difference says of them depends on how much of
their type's range they use, and a sum that lies between two steps may be rounded either way (`Steps`). A step here becomes many
some layers on, in a few elements, so behind a quantised tensor that is not equal a node is judged by itself: on either engine's
inputs it must give that engine's result.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import CNNEngineError, InputError, NotInstalledError, needed
from ..graph import Graph, Node
from ..model import Model, inside
from ..ops.quantized import DequantizeLinear
from ..plan.host import run_host

if TYPE_CHECKING:
    import onnx

TOLERANCE = 1e-3
STEPS = 1
"""Steps by which a quantised tensor may differ: what a sum between two steps is rounded to depends on the order of its terms."""
DRIFT = 4
"""Times as many steps may differ a single element of an output of a quantised network, where all of it is fused."""
SLACK = 0.01
"""Steps that float32 itself may be off: the largest number of 16 bits times a scale, rounded, twice."""


class Peer(Protocol):
    """Another engine."""

    name: str
    version: str

    def run(self, model: Any, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """These outputs of the model, an onnx.ModelProto (a file's bytes where `takes_bytes`); may raise any exception."""
        ...


class OnnxRuntime:
    """onnxruntime on the CPU, its graph rewrites off."""

    name = "onnxruntime"
    takes_bytes = True

    def __init__(self) -> None:
        try:
            onnxruntime: Any = importlib.import_module("onnxruntime")
        except ImportError:
            raise NotInstalledError("onnxruntime is not installed: pip install onnxruntime", tensor="against") from None
        if getattr(onnxruntime, "__author__", "") == "cnnengine":  # nothing would differ, whatever is wrong
            raise InputError("onnxruntime is cnnengine itself in this process: compare without the switch", tensor="against")
        self.version = str(onnxruntime.__version__)
        self._module = onnxruntime

    def run(self, model: bytes, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        options = self._module.SessionOptions()
        options.graph_optimization_level = self._module.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4  # errors are raised and reported
        session = self._module.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        results: list[Any] = session.run(list(outputs), dict(feeds))
        return results


class Reference:
    """onnx.reference: slow; wrong for some older versions of operators."""

    name = "reference"

    def __init__(self) -> None:
        self.version = str(needed("onnx", "onnx.reference", tensor="against").__version__)

    def run(self, model: onnx.ModelProto, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        from onnx.reference import ReferenceEvaluator

        with np.errstate(all="ignore"):
            return list(ReferenceEvaluator(model).run(list(outputs), dict(feeds)))


MOVES = frozenset(
    {
        "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "MaxPool", "Pad",
        "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""Operators that move or select values of their first input."""
CUTS = frozenset({"Clip", "Relu"})
"""Operators that keep values, or cut them off: those differ by no more than what they were made of."""
WHOLE = frozenset({"int2", "int4", "uint2", "uint4"})
"""Element types of integers that NumPy does not count among its own."""

PEERS: dict[str, Callable[[], Peer]] = {"onnxruntime": OnnxRuntime, "reference": Reference}
"""The engines to compare with."""


@dataclass(frozen=True)
class Difference:
    """One tensor in both engines.

    Attributes
    ----------
    tensor, node, operator : str
        The tensor, and the node that makes it.
    difference : float or None
        Largest absolute difference over the largest absolute (finite) value of the peer's tensor; None where it cannot be said,
        for which `note` gives the reason.
    scale : float
        That largest value; where it is 0, ours.
    elements, size : int
        How many elements are beyond the tolerance, of how many.
    differs : bool
        Beyond the tolerance; of tensors that are compared in steps, beyond as many steps as are allowed.
    cause : {"", "inputs", "rounding", "node", "rewrite"}
        Of a tensor that differs. "inputs": something that its node reads differs already. "rounding": all of it agrees, and on
        either engine's inputs the node, run by itself, gives that engine's result, so that the rounding before it decides (the
        order of equal scores, an index, a comparison). "node": neither, one of the engines computes the node wrongly. "rewrite",
        of outputs: the tensor agrees where the nodes run one by one.
    note : str
    steps : float or None
        Largest difference in steps, of a tensor that is compared so; `elements` are then those beyond the steps allowed.
    step : float or None
        What a step of a float tensor is, the largest where channels have their own; None for integers, and for tensors that are
        not compared in steps.
    """

    tensor: str
    node: str
    operator: str
    difference: float | None
    scale: float
    elements: int
    size: int
    differs: bool
    cause: str
    note: str
    steps: float | None = None
    step: float | None = None


@dataclass(frozen=True)
class Comparison:
    """All tensors in both engines.

    Attributes
    ----------
    peer, version : str
    tolerance : float
    steps : int
        By how many steps quantised tensors may differ.
    tensors : int
        Tensors compared.
    in_steps : int
        How many of them in steps.
    carried : int
        How many differ by more than the limits, and only by what roundings of quantised tensors before them have become; they are
        not among those that differ.
    left_out : tuple of str
        Those that one of the engines does not have under this name (inside of functions).
    first : Difference or None
        The first in the order of the graph that differs.
    largest : Difference or None
        That with the largest difference, whether it differs or not.
    differing : tuple of Difference
        All that differ, in the order of the graph.
    outputs : tuple of Difference
        The model's outputs, as they are computed without further outputs: with everything fused.
    error : str or None
        Why there was nothing to compare.
    """

    peer: str
    version: str
    tolerance: float
    tensors: int = 0
    left_out: tuple[str, ...] = ()
    first: Difference | None = None
    largest: Difference | None = None
    differing: tuple[Difference, ...] = ()
    outputs: tuple[Difference, ...] = ()
    error: str | None = None
    steps: int = STEPS
    in_steps: int = 0
    carried: int = 0

    @property
    def agrees(self) -> bool:
        """Whether both engines ran and no tensor differs."""
        return self.error is None and not self.differing and not any(d.differs for d in self.outputs)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {**asdict(self), "left_out": list(self.left_out), "agrees": self.agrees}


def measure(ours: Any, theirs: Any, tolerance: float) -> tuple[float | None, float, int, int, str]:
    """Difference, scale, elements beyond the tolerance, elements, and a note, as in `Difference`.

    Parameters
    ----------
    ours, theirs : ndarray, list of them (a sequence), or None (an empty optional)
    tolerance : float
        Relative to the scale.
    """
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        parts = [measure(a, b, tolerance) for a, b in zip(ours, theirs, strict=True)]
        note = next((p[4] for p in parts if p[4]), "")
        known = [p[0] for p in parts if p[0] is not None]
        worst = max(known, default=0.0) if len(known) == len(parts) else None
        return worst, max((p[1] for p in parts), default=0.0), sum(p[2] for p in parts), sum(p[3] for p in parts), note
    if ours is None and theirs is None:
        return 0.0, 0.0, 0, 0, ""
    if ours is None or theirs is None or isinstance(ours, list) or isinstance(theirs, list):
        return None, 0.0, 1, 1, f"ours is {_form(ours)}, theirs {_form(theirs)}"
    a, b = np.asarray(ours), np.asarray(theirs)
    if a.shape != b.shape:
        return None, 0.0, a.size, a.size, f"shapes differ: ours {a.shape}, theirs {b.shape}"
    texts = a.dtype.kind in "OUT" and b.dtype.kind in "OUT"
    if a.dtype != b.dtype and not texts:
        return None, 0.0, a.size, a.size, f"element types differ: ours {a.dtype}, theirs {b.dtype}"
    if texts or (a.dtype.kind in "OUTSV" and a.dtype.isbuiltin != 2):
        unequal = int(np.count_nonzero(a != b))
        return (None if unequal else 0.0), 0.0, unequal, a.size, "texts differ" if unequal else ""
    if a.dtype.kind == "c":
        a, b = np.stack([a.real, a.imag]), np.stack([b.real, b.imag])
    elif a.dtype.kind in "iu" and a.dtype.itemsize == 8 and np.array_equal(a, b):
        b = a  # what float64 cannot hold is equal all the same
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    odd = ~finite & ~((a == b) | (np.isnan(a) & np.isnan(b)))
    scale = float(np.max(np.abs(b[np.isfinite(b)]), initial=0.0)) or float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0))
    apart = np.abs(np.where(finite, a, 0.0) - np.where(finite, b, 0.0))
    count = int(np.count_nonzero((apart > tolerance * scale) | odd))
    if odd.any():
        return None, scale, count, a.size, f"{int(odd.sum())} values are NaN or infinite in one engine alone"
    return float(np.max(apart, initial=0.0)) / (scale or 1.0), scale, count, a.size, ""


def _form(value: Any) -> str:
    return "None" if value is None else f"a sequence of {len(value)}" if isinstance(value, list) else "a tensor"


class Steps:
    """Which tensors of a graph are compared in steps, and what a step of each is.

    These are: what a QuantizeLinear, a DynamicQuantizeLinear or an operator on quantised numbers (QLinear...) gives and what a
    DequantizeLinear reads, a step of which is 1; what a DequantizeLinear gives, and what a QuantizeLinear reads, a step of which
    is its scale; and tensors that an operator which only moves, selects or cuts off values makes of one of these, or makes one of
    these of. Other integers are not: a class or an index that is off by one is wrong. Neither are those of 32 bits, biases and
    sums, a step of which is a small part of any other tensor's.

    Parameters
    ----------
    graph : Graph
        As it is in the file.
    values : mapping of str to array
        Constants, inputs and tensors, for scales that are computed and for shapes.
    """

    def __init__(self, graph: Graph, values: Mapping[str, Any]) -> None:
        self._found: dict[str, np.ndarray | None] = {}
        self._values = values
        for node in graph.nodes:
            kind = node.op.op_type
            if kind == "DequantizeLinear":
                self._quantised(node.inputs[0])
                self._scaled(node, node.outputs[0], node.inputs[0])
            elif kind in ("QuantizeLinear", "DynamicQuantizeLinear", "QGemm") or kind.startswith("QLinear"):
                self._quantised(node.outputs[0])
            elif kind in MOVES or kind in CUTS:
                self._moved(node, [n for n in node.inputs[: None if kind == "Concat" else 1] if n], node.outputs)
        for node in reversed(graph.nodes):
            kind = node.op.op_type
            if kind == "QuantizeLinear":
                self._scaled(node, node.inputs[0], node.outputs[0])
            elif (kind in MOVES or kind in CUTS) and node.outputs[0]:
                self._moved(node, node.outputs[:1], node.inputs[: None if kind == "Concat" else 1])

    def __contains__(self, tensor: str) -> bool:
        return tensor in self._found

    def largest(self, tensor: str) -> float | None:
        """What a step of a float tensor is; None of an integer one."""
        step = self._found[tensor]
        return None if step is None else float(np.max(step))

    def count(self, tensor: str, ours: Any, theirs: Any) -> np.ndarray | None:
        """By how many steps each element differs; None where steps say nothing: other shapes, NaN and infinities."""
        if tensor not in self._found or not isinstance(ours, np.ndarray) or np.shape(theirs) != ours.shape:
            return None
        step = self._found[tensor]
        a, b = ours.astype(np.float64), np.asarray(theirs).astype(np.float64)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return None
        apart: np.ndarray = np.abs(a - b)
        return apart if step is None else apart / step

    def _quantised(self, tensor: str) -> None:
        if tensor and _is_whole(self._values.get(tensor)):
            self._found.setdefault(tensor, None)

    def _scaled(self, node: Node, tensor: str, quantised: str) -> None:
        """Note the steps of the float tensor on one side of a scale."""
        whole, scale = self._values.get(quantised), self._values.get(node.inputs[1])
        if tensor in self._found or not tensor or scale is None or not isinstance(whole, np.ndarray) or not _is_whole(whole):
            return
        fields = (getattr(node.op, "axis", 1), getattr(node.op, "block_size", 0))
        try:
            step = DequantizeLinear(*fields).reference(np.ones(whole.shape, np.int8), np.asarray(scale, np.float32))[0]
        except CNNEngineError:  # a scale that does not fit: the node says so where it runs
            return
        if np.size(step) and np.isfinite(step).all() and np.min(step) > 0:
            self._found[tensor] = np.asarray(step if np.size(scale) > 1 else np.max(step), np.float64)

    def _moved(self, node: Node, sources: Sequence[str], targets: Sequence[str]) -> None:
        """Tensors of the same numbers have the same steps, where it is one for all of them."""
        found = [self._found.get(name, np.zeros(2)) for name in sources]
        whole = all(step is None for step in found)
        scales = {float(step) for step in found if step is not None and step.ndim == 0}
        if not found or not (whole or (len(scales) == 1 and all(step is not None and step.ndim == 0 for step in found))):
            return
        for name in targets:
            value = self._values.get(name)
            if not name or name in self._found or not isinstance(value, np.ndarray):
                continue
            if whole and value.dtype == np.asarray(self._values.get(sources[0])).dtype:
                self._found[name] = None
            elif not whole and value.dtype.kind == "f":
                self._found[name] = np.array(next(iter(scales)))


def _is_whole(value: Any) -> bool:
    """Whether it is an array of integers of at most 16 bits."""
    return isinstance(value, np.ndarray) and (value.dtype.name in WHOLE or value.dtype.kind in "iu") and value.dtype.itemsize <= 2


def compare(model: Model, feeds: Mapping[str, Any], peer: Peer, tolerance: float = TOLERANCE, steps: int = STEPS) -> Comparison:
    """Run a model in both engines on the same inputs and compare every tensor that both have.

    Parameters
    ----------
    model : Model
    feeds : mapping of str to array
    peer : Peer
    tolerance : float
    steps : int
        By how many steps quantised tensors may differ.

    Returns
    -------
    Comparison
        With `error` where one of the engines cannot give the tensors.
    """
    from ..importer import import_model

    try:
        source = inside(model).source
        graph = import_model(source.message, name=model.name)
    except CNNEngineError as error:
        return Comparison(peer.name, peer.version, tolerance, error=f"the model cannot be read again: {error}")
    makers = {name: node for node in graph.nodes for name in node.outputs if name}
    theirs_too = {name for node in source.message.graph.node for name in node.output if name}
    names = [name for name in makers if name in theirs_too]
    left_out = tuple(name for name in makers if name not in theirs_too)
    own = [info.name for info in model.outputs if info.name not in names]  # outputs that are inputs or constants
    wanted = [*names, *own]
    try:
        theirs = dict(zip(wanted, peer.run(_model_for(peer, source.with_outputs(wanted)), wanted, feeds), strict=True))
    except Exception as error:  # another engine raises what it likes
        said = (str(error).strip().splitlines() or [""])[0][:300]
        return Comparison(
            peer.name, peer.version, tolerance, error=f"{peer.name} cannot run it: {type(error).__name__}: {said}".rstrip(": ")
        )
    try:
        with Model(source, threads=model.threads, outputs=wanted, precision=model.precision) as open_model:
            ours = dict(zip(wanted, open_model.run(None, feeds), strict=True))
        fused = dict(zip((i.name for i in model.outputs), model.run(None, feeds), strict=True))
    except CNNEngineError as error:
        return Comparison(peer.name, peer.version, tolerance, error=f"cnnengine cannot give all tensors: {error}")
    empty = Comparison(peer.name, peer.version, tolerance, left_out=left_out, steps=steps)
    return judge(graph, frozenset(names), feeds, ours, theirs, fused, empty)


def judge(
    graph: Graph,
    names: Collection[str],
    feeds: Mapping[str, Any],
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    fused: Mapping[str, Any],
    empty: Comparison,
) -> Comparison:
    """The comparison of these tensors; `names` are those of the nodes' outputs that both have, `empty` tells of the peer."""
    scales = Steps(graph, {**graph.constants, **feeds, **ours})
    limits = _Limits(empty.tolerance, empty.steps, scales)
    makers = {name: node for node in graph.nodes for name in node.outputs if name}
    apart: set[str] = set()
    loose: set[str] = set()  # quantised and not equal, or made of such
    carried = 0
    found: list[Difference] = []
    for node in graph.nodes:
        inherited = any(name in apart for name in node.inputs)
        here = [
            _difference(name, node, ours[name], theirs[name], limits, "inputs" if inherited else "node")
            for name in node.outputs
            if name in names
        ]
        follows = not inherited and any(name in loose for name in node.inputs)
        if any(d.cause == "node" for d in here) and _is_rounding(node, graph, names, feeds, ours, theirs, limits):
            excused = [d.tensor for d in here if d.differs and follows and _is_graded(ours[d.tensor], d)]
            carried += len(excused)
            here = [
                replace(d, differs=False, cause="") if d.tensor in excused else replace(d, cause="rounding") if d.differs else d
                for d in here
            ]
        if any(d.steps for d in here) or any(name in loose for name in node.inputs):
            loose.update(name for name in node.outputs if name)
        found += here
        apart.update(d.tensor for d in here if d.differs)
        if inherited:  # what cannot be compared passes on what it reads
            apart.update(name for name in node.outputs if name and name not in names)
    behind = _behind(graph, scales)
    outputs = []
    for name, value in fused.items():
        whole = _difference(name, makers.get(name), value, theirs[name], limits, "inputs" if name in apart else "rewrite")
        if whole.differs and name in behind and name not in apart and _has_drifted(whole, value, theirs[name], limits):
            whole = replace(whole, differs=False, cause="")
        outputs.append(whole)
    differing = tuple(d for d in found if d.differs)
    return replace(
        empty,
        tensors=len(found),
        in_steps=sum(d.steps is not None for d in found),
        carried=carried,
        first=differing[0] if differing else None,
        largest=max(found, key=lambda d: math.inf if d.difference is None else d.difference, default=None),
        differing=differing,
        outputs=tuple(outputs),
    )


def _behind(graph: Graph, scales: Steps) -> set[str]:
    """Quantised tensors, of which constants are none, and what is made of them."""
    names = {name for node in graph.nodes for name in (*node.inputs, *node.outputs)}
    found = {name for name in names if name in scales and scales.largest(name) is None and name not in graph.constants}
    for node in graph.nodes:
        if any(name in found for name in node.inputs):
            found.update(name for name in node.outputs if name)
    return found


def _has_drifted(found: Difference, ours: Any, theirs: Any, limits: _Limits) -> bool:
    """Whether an output of a quantised network differs by no more than what roundings on the way there become.

    That is, by the steps allowed in the root of the mean square, and by `DRIFT` times as many in no element. What has no scale of
    its own is taken as if it were quantised to 8 bits.
    """
    apart = limits.scales.count(found.tensor, ours, theirs)
    if apart is None:
        if found.difference is None or not found.scale or np.asarray(ours).dtype.kind != "f":
            return False
        apart = np.abs(np.asarray(ours).astype(np.float64) - np.asarray(theirs).astype(np.float64)) * (255 / found.scale)
    mean = math.sqrt(float(np.mean(apart * apart)))
    return mean <= limits.steps and float(np.max(apart)) <= limits.steps * DRIFT + SLACK


def _is_graded(value: Any, found: Difference) -> bool:
    """Whether a small difference of the tensor is a small one: of quantised numbers and floats, not of classes and indices."""
    return found.steps is not None or (isinstance(value, np.ndarray) and value.dtype.kind == "f" and found.difference is not None)


def _is_rounding(
    node: Node,
    graph: Graph,
    names: Collection[str],
    feeds: Mapping[str, Any],
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    limits: _Limits,
) -> bool:
    """Whether the node by itself turns ours into ours and theirs into theirs."""
    makers = graph.producers()
    for values in (ours, theirs):
        known = {**graph.constants, **feeds, **values}
        try:
            results = _run(node, known, makers)
        except Exception:  # values that are not known, or of another engine, on which anything may fail
            return False
        for name, result in zip(node.outputs, results, strict=False):
            if name in names and _difference(name, node, result, values[name], limits, "node").differs:
                return False
    return True


def _run(node: Node, known: dict[str, Any], makers: Mapping[str, Node]) -> list[Any]:
    """A node by itself; what it reads and is not known, since it has no name in the file, is computed of what is."""
    for name in node.inputs:
        if name and name not in known:
            maker = makers[name]
            known.update(zip(maker.outputs, _run(maker, known, makers), strict=False))
    return run_host(node, [known[name] if name else None for name in node.inputs], 1)


@dataclass(frozen=True)
class _Limits:
    """What two engines may differ by."""

    tolerance: float
    steps: int
    scales: Steps


def _difference(name: str, node: Node | None, ours: Any, theirs: Any, limits: _Limits, cause: str) -> Difference:
    difference, scale, elements, size, note = measure(ours, theirs, limits.tolerance)
    differs = difference is None or difference > limits.tolerance
    where = ("", "") if node is None else (node.name, node.op.op_type)
    apart = None if difference is None else limits.scales.count(name, ours, theirs)
    if apart is None:
        return Difference(name, *where, difference, scale, elements, size, differs, cause if differs else "", note)
    beyond = apart > limits.steps + SLACK
    differs, most = bool(beyond.any()), float(np.max(apart, initial=0.0))
    cause, elements, step = cause if differs else "", int(np.count_nonzero(beyond)), limits.scales.largest(name)
    return Difference(name, *where, difference, scale, elements, size, differs, cause, note, most, step)


def _model_for(peer: Peer, data: bytes) -> Any:
    if getattr(peer, "takes_bytes", False):
        return data
    return needed("onnx", f"a comparison with {peer.name}", tensor="against").load_from_string(data)
