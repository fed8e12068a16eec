"""A model's intermediate tensors in cnnengine and in another engine, side by side.

Both engines are made to give every tensor, which also keeps them from fusing the nodes that make it. The model's own outputs are
compared once more as `cnnengine.load` computes them, fused: so a fault of a rewrite shows as well.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import CNNEngineError, InputError
from ..graph import Graph, Node
from ..model import Model, inside
from ..plan.host import run_host

if TYPE_CHECKING:
    import onnx

TOLERANCE = 1e-3


class Peer(Protocol):
    """Another engine."""

    name: str
    version: str

    def run(self, proto: onnx.ModelProto, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """These outputs of the model; may raise any exception."""
        ...


class OnnxRuntime:
    """onnxruntime on the CPU, its graph rewrites off."""

    name = "onnxruntime"

    def __init__(self) -> None:
        try:
            onnxruntime: Any = importlib.import_module("onnxruntime")
        except ImportError:
            raise InputError(
                "onnxruntime is not installed: pip install onnxruntime, or pip install 'cnnengine[bench]'", tensor="against"
            ) from None
        self.version = str(onnxruntime.__version__)
        self._module = onnxruntime

    def run(self, proto: onnx.ModelProto, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        options = self._module.SessionOptions()
        options.graph_optimization_level = self._module.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4  # errors are raised and reported
        session = self._module.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        results: list[Any] = session.run(list(outputs), dict(feeds))
        return results


class Reference:
    """onnx.reference: slow, installed with cnnengine; wrong for some older versions of operators."""

    name = "reference"

    def __init__(self) -> None:
        import onnx

        self.version = str(onnx.__version__)

    def run(self, proto: onnx.ModelProto, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        from onnx.reference import ReferenceEvaluator

        with np.errstate(all="ignore"):
            return list(ReferenceEvaluator(proto).run(list(outputs), dict(feeds)))


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
    cause : {"", "inputs", "rounding", "node", "rewrite"}
        Of a tensor that differs. "inputs": something that its node reads differs already. "rounding": all of it agrees, and on
        either engine's inputs the node, run by itself, gives that engine's result, so that the rounding before it decides (the
        order of equal scores, an index, a comparison). "node": neither, one of the engines computes the node wrongly. "rewrite",
        of outputs: the tensor agrees where the nodes run one by one.
    note : str
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


@dataclass(frozen=True)
class Comparison:
    """All tensors in both engines.

    Attributes
    ----------
    peer, version : str
    tolerance : float
    tensors : int
        Tensors compared.
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


def compare(model: Model, feeds: Mapping[str, Any], peer: Peer, tolerance: float = TOLERANCE) -> Comparison:
    """Run a model in both engines on the same inputs and compare every tensor that both have.

    Parameters
    ----------
    model : Model
    feeds : mapping of str to array
    peer : Peer
    tolerance : float

    Returns
    -------
    Comparison
        With `error` where one of the engines cannot give the tensors.
    """
    from ..importer import import_model

    try:
        source = inside(model).source
        proto = source.proto()
        graph = import_model(source.message, name=model.name)
    except CNNEngineError as error:
        return Comparison(peer.name, peer.version, tolerance, error=f"the model cannot be read again: {error}")
    makers = {name: node for node in graph.nodes for name in node.outputs if name}
    theirs_too = {name for node in proto.graph.node for name in node.output if name}
    names = [name for name in makers if name in theirs_too]
    left_out = tuple(name for name in makers if name not in theirs_too)
    own = [info.name for info in model.outputs if info.name not in names]  # outputs that are inputs or constants
    wanted = [*names, *own]
    try:
        theirs = dict(zip(wanted, peer.run(_with_outputs(proto, wanted), wanted, feeds), strict=True))
    except Exception as error:  # another engine raises what it likes
        said = (str(error).strip().splitlines() or [""])[0][:300]
        return Comparison(
            peer.name, peer.version, tolerance, error=f"{peer.name} cannot run it: {type(error).__name__}: {said}".rstrip(": ")
        )
    try:
        with Model(proto, threads=model.threads, outputs=wanted) as open_model:
            ours = dict(zip(wanted, open_model.run(None, feeds), strict=True))
        fused = dict(zip((i.name for i in model.outputs), model.run(None, feeds), strict=True))
    except CNNEngineError as error:
        return Comparison(peer.name, peer.version, tolerance, error=f"cnnengine cannot give all tensors: {error}")
    empty = Comparison(peer.name, peer.version, tolerance, left_out=left_out)
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
    tolerance = empty.tolerance
    makers = {name: node for node in graph.nodes for name in node.outputs if name}
    apart: set[str] = set()
    found: list[Difference] = []
    for node in graph.nodes:
        inherited = any(name in apart for name in node.inputs)
        here = [
            _difference(name, node, ours[name], theirs[name], tolerance, "inputs" if inherited else "node")
            for name in node.outputs
            if name in names
        ]
        if any(d.cause == "node" for d in here) and _is_rounding(node, graph, names, feeds, ours, theirs, tolerance):
            here = [replace(d, cause="rounding") if d.differs else d for d in here]
        found += here
        apart.update(d.tensor for d in here if d.differs)
        if inherited:  # what cannot be compared passes on what it reads
            apart.update(name for name in node.outputs if name and name not in names)
    outputs = tuple(
        _difference(name, makers.get(name), value, theirs[name], tolerance, "inputs" if name in apart else "rewrite")
        for name, value in fused.items()
    )
    differing = tuple(d for d in found if d.differs)
    return replace(
        empty,
        tensors=len(found),
        first=differing[0] if differing else None,
        largest=max(found, key=lambda d: math.inf if d.difference is None else d.difference, default=None),
        differing=differing,
        outputs=outputs,
    )


def _is_rounding(
    node: Node,
    graph: Graph,
    names: Collection[str],
    feeds: Mapping[str, Any],
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    tolerance: float,
) -> bool:
    """Whether the node by itself turns ours into ours and theirs into theirs."""
    for values in (ours, theirs):
        known = {**graph.constants, **feeds, **values}
        if any(name and name not in known for name in node.inputs):
            return False
        try:
            results = run_host(node, [known[name] if name else None for name in node.inputs], 1)
        except Exception:  # values of another engine, on which anything may fail
            return False
        for name, result in zip(node.outputs, results, strict=False):
            if name in names:
                difference = measure(result, values[name], tolerance)[0]
                if difference is None or difference > tolerance:
                    return False
    return True


def _difference(name: str, node: Node | None, ours: Any, theirs: Any, tolerance: float, cause: str) -> Difference:
    difference, scale, elements, size, note = measure(ours, theirs, tolerance)
    differs = difference is None or difference > tolerance
    where = ("", "") if node is None else (node.name, node.op.op_type)
    return Difference(name, *where, difference, scale, elements, size, differs, cause if differs else "", note)


def _with_outputs(proto: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy that gives these tensors too; their types are left to the engine."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    known = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    return copy
