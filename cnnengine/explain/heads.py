"""The head of a classifier: a mean over all places, and behind it nothing but sums."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import CNNEngineError
from ..graph import Node
from ..records import dataclass
from .network import Axes, Network

LINEAR = frozenset(
    (
        *("Identity", "Dropout", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Split", "Slice"),
        *("Gather", "Expand", "Pad", "Gemm", "MatMul", "Conv", "BatchNormalization", "Add", "Sub", "Sum", "Mul", "Div", "Neg"),
        *("Mean", "ReduceSum", "ReduceMean", "GlobalAveragePool", "AveragePool"),
    )
)
"""Operators that are a weighted sum of one input and a constant, where all their other inputs are constant."""
SEVERAL = frozenset(("Add", "Sub", "Sum", "Mean", "Concat"))
"""Those of them that are linear in all of their inputs at once."""


@dataclass(frozen=True)
class Head:
    """A mean over all places, from which sums alone lead to the score.

    Attributes
    ----------
    features : str
        What the mean is of.
    mean : str
        What it gives.
    node : Node
    axes : tuple of int
        Of `features`, in the order of the input's.
    factor : int
        1; for a sum the number of places.
    """

    features: str
    mean: str
    node: Node
    axes: Axes
    factor: int = 1


def head_of(network: Network, score: str, places: Mapping[str, Axes]) -> tuple[Head | None, str]:
    """The head of a score, the one with the most places; and one sentence why that, or why there is none."""
    gates = set(network.gates(score))
    nodes = network.needed(score)
    found: list[Head] = []
    reasons: list[str] = []
    blocked: Node | None = None
    for node in reversed(nodes):
        head, reason = _mean(network, node, places)
        if head is not None and head.mean in gates:
            if blocked is not None:
                if not found:
                    reasons.append(
                        f"between the mean ({_named(head.node)}) and the score stands {_named(blocked)}, which is not a sum of "
                        "what it reads"
                    )
                break
            found.append(head)
        elif head is not None:
            reasons.append(f"the score depends on more than the mean that {_named(node)} gives")
        elif reason:
            reasons.append(reason)
        if blocked is None and not _is_linear(network, node):
            blocked = node
            if found:
                break
    if found:
        best = max(found, key=lambda head: _places(network, head))
        return best, f"behind the mean over all places ({_named(best.node)}) there are sums alone"
    return None, reasons[0] if reasons else "no mean over all places leads to the score"


def _places(network: Network, head: Head) -> int:
    shape = network.shape(head.features) or ()
    return math.prod([shape[a] for a in head.axes])


def _named(node: Node) -> str:
    return f"{node.op.op_type} {node.name!r}"


def _is_linear(network: Network, node: Node) -> bool:
    operator: Any = node.op
    live = [at for at, name in enumerate(node.inputs) if name in network.live]
    kind = operator.op_type
    if (
        kind not in LINEAR
        or getattr(operator, "activation", None) is not None
        or getattr(operator, "domain", "") not in ("", "ai.onnx")
    ):
        return False
    if kind in SEVERAL:
        return True
    if kind == "Gemm":
        return live in ([0], [2])
    if kind in ("MatMul", "Mul"):
        return len(live) == 1
    if kind == "Dropout":
        mode = network.specs[node.inputs[2]].value if len(node.inputs) > 2 and node.inputs[2] else False
        return live == [0] and mode is not None and not bool(mode)
    if kind == "BatchNormalization" and operator.training_mode:
        return False
    if kind == "Pad" and getattr(operator, "mode", "constant") not in ("constant", b"constant"):
        return live == [0]
    if kind == "Cast":
        spec = network.specs.get(node.outputs[0])
        return spec is not None and spec.dtype.kind == "f"
    return live == [0]


def _mean(network: Network, node: Node, places: Mapping[str, Axes]) -> tuple[Head | None, str]:
    """The node as a mean over all places; and why not, where it nearly is one."""
    kind = node.op.op_type
    if kind not in ("GlobalAveragePool", "AveragePool", "ReduceMean", "ReduceSum") or node.inputs[0] not in network.live:
        return None, ""
    name, gives = node.inputs[0], node.outputs[0]
    axes, shape, made = places.get(name), network.shape(name), network.shape(gives)
    if shape is None or made is None:
        return None, f"the extents that {_named(node)} reads depend on data"
    if axes is None:
        return None, f"which axes are places is not known of what {_named(node)} reads"
    places_of = math.prod(shape[a] for a in axes)
    operator: Any = node.op
    if kind == "GlobalAveragePool":
        covers = set(axes) == set(range(2, len(shape)))
    elif kind == "AveragePool":
        covers = set(axes) == set(range(2, len(shape))) and _whole(operator, shape)
        if not covers and math.prod(made[2:]) == 1:
            return None, f"{_named(node)} does not cover exactly the places that it reads, {shape[2:]}"
    else:
        chosen = _reduced(network, node, len(shape))
        if chosen is None:
            return None, f"the axes of {_named(node)} depend on data"
        covers = set(chosen) == set(axes)
        if not covers and kind == "ReduceMean":
            return None, f"{_named(node)} is a mean over the axes {sorted(chosen)}, and places are {sorted(axes)}"
    if not covers:
        return None, ""
    return Head(name, gives, node, axes, places_of if kind == "ReduceSum" else 1), ""


def _reduced(network: Network, node: Node, rank: int) -> tuple[int, ...] | None:
    operator: Any = node.op
    given = None
    if len(node.inputs) > 1 and node.inputs[1]:
        spec = network.specs.get(node.inputs[1])
        given = None if spec is None else spec.value
        if given is None:
            return None
    try:
        chosen: tuple[int, ...] = operator._axes(rank, given)
    except CNNEngineError:
        return None
    return chosen


def _whole(operator: Any, shape: Sequence[int]) -> bool:
    """Whether a window lies over all places once, and over nothing else."""
    extents = tuple(shape[2:])
    out, begins, ends = operator._resolve(shape)
    dilated = any(d > 1 for d in operator.dilations)
    return tuple(operator.kernel_shape) == extents and not dilated and all(n == 1 for n in out) and not any((*begins, *ends))
