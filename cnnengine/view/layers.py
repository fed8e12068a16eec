"""Layers: the tensors of a file in order, each with its rule, its shape as maps, and what it sees of the input."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..graph import Node
from ..plan.trace import FileNode, Trace
from .rules import Known, Rule, rule_of
from .words import sentence

Field = Mapping[int, tuple[int, float, float, float]]
"""What an element sees of the input: for an axis of the tensor the axis of the input, and scale, first and last offset there.

Element i sees i * scale + first to i * scale + last. Axes that are not named are seen whole.
"""


@dataclass(frozen=True)
class Shown:
    """How a tensor is shown as maps: axes by what they are.

    Attributes
    ----------
    maps : tuple of int
        Axes that number the maps, in order.
    y, x : int
        Axes of a map's rows and columns; -1 where there are none. Axes that are left stay at 0.
    """

    maps: tuple[int, ...]
    y: int
    x: int

    def count(self, shape: Sequence[int]) -> int:
        return math.prod(shape[a] for a in self.maps)

    def extents(self, shape: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of a map."""
        return 1 if self.y < 0 else shape[self.y], 1 if self.x < 0 else shape[self.x]

    def index(self, number: int, y: int, x: int, shape: Sequence[int]) -> tuple[int, ...]:
        """The element of a map at a row and column."""
        found = [0] * len(shape)
        for axis in reversed(self.maps):
            number, found[axis] = divmod(number, shape[axis])
        if self.y >= 0:
            found[self.y] = y
        if self.x >= 0:
            found[self.x] = x
        return tuple(found)

    def of(self, value: np.ndarray) -> np.ndarray:
        """A tensor as (maps, rows, columns)."""
        rows, columns = self.extents(value.shape)
        order = [*self.maps, *(a for a in (self.y, self.x) if a >= 0)]
        part = value[tuple(slice(None) if a in order else 0 for a in range(value.ndim))]
        kept = sorted(order)
        moved: np.ndarray = part.transpose([kept.index(a) for a in order])
        return moved.reshape(self.count(value.shape), rows, columns)


@dataclass
class Layer:
    """A tensor of a page.

    Attributes
    ----------
    name : str
        Of the tensor.
    node : FileNode or None
        None of an input.
    part : str
        Which of the node's outputs it is, where it has several.
    rule : Rule or None
    words : str
    shape : tuple of int
    shown : Shown or None
        None where it is not an array of numbers.
    sees : dict, or None where it is not known or all
    gated : bool
        Whether a gate or a normalisation lets it depend on more than `sees`.
    """

    name: str
    node: FileNode | None
    part: str
    rule: Rule | None
    words: str
    shape: tuple[int, ...]
    dtype: str
    shown: Shown | None
    sees: Field | None
    gated: bool = False
    how: str = "given"
    fused: tuple[str, ...] = ()
    exact: bool = True
    extra: dict[str, Any] = field(default_factory=dict)


Order = tuple[str, ...]
"""What each axis is: "N", "C", "D", "H", "W", or "" where that is not known."""
FIRST: dict[int, Order] = {2: ("N", "C"), 3: ("N", "C", "W"), 4: ("N", "C", "H", "W"), 5: ("N", "C", "D", "H", "W")}
KEPT = ("curve", "together", "softmax", "concat", "slice", "pad", "same", "norm", "resize")


def shown_of(shape: Sequence[int], order: Order | None) -> Shown:
    """The axes of maps, rows and columns of a tensor."""
    rank = len(shape)
    if rank == 0:
        return Shown((), -1, -1)
    if order is not None and "C" in order:
        axes = {role: order.index(role) for role in ("D", "H", "W") if role in order}
        channel = order.index("C")
        if shape[channel] > 1 and axes and all(shape[a] == 1 for a in axes.values()):
            return Shown((), -1, channel)  # one number for each channel
        maps = [channel, *([axes["D"]] if "D" in axes else [])]
        if "W" in axes:
            return Shown(tuple(maps), axes.get("H", -1), axes["W"])
    if rank == 1:
        return Shown((), -1, 0)
    if rank == 2:
        return Shown((), -1, 1) if shape[0] == 1 else Shown((), 0, 1)
    return Shown(tuple(range(1, rank - 2)), rank - 2, rank - 1)


class Walk:
    """Goes through a trace, tensor by tensor.

    Parameters
    ----------
    trace : Trace
    orders : mapping of str to Order
        Of the inputs.
    """

    def __init__(self, trace: Trace, orders: Mapping[str, Order]) -> None:
        self._trace = trace
        self._orders: dict[str, Order] = dict(orders)
        self._sees: dict[str, Field | None] = {}
        self._gated: dict[str, bool] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.left_out: list[str] = []
        """Tensors that follow from the file and the shapes alone."""
        self._dtypes: dict[str, np.dtype] = {}
        self._known = Known(self.shapes, self._dtypes, self._constant)

    def _constant(self, name: str) -> np.ndarray | None:
        tensor = self._trace[name]
        if tensor.source == "constant" or tensor.how == "known":
            value = tensor.value
            return value if isinstance(value, np.ndarray) else None
        return None

    def layers(self, told: Callable[[int, int], object] | None = None) -> Iterator[tuple[Layer, Any]]:
        """Each layer with its value, in order."""
        total = len(self._trace)
        for at, (name, tensor) in enumerate(self._trace.items()):
            if told is not None:
                told(at, total)
            value = tensor.value
            if isinstance(value, np.ndarray):
                self.shapes[name], self._dtypes[name] = value.shape, value.dtype
            if tensor.source == "constant":
                continue
            if tensor.node is None:
                yield self._input(name, value), value
                continue
            if tensor.how == "known":
                self.left_out.append(name)
                continue
            yield self._layer(name, tensor.node, value), value

    def _input(self, name: str, value: Any) -> Layer:
        if not _numbers(value):
            return Layer(name, None, "", None, "An input of the network.", (), "", None, None)
        order = self._orders.get(name) or FIRST.get(value.ndim)
        if order is not None:
            self._orders[name] = order
        shown = shown_of(value.shape, order)
        axes = [a for a, role in enumerate(order or ()) if role in ("D", "H", "W")]
        self._sees[name] = {a: (a, 1.0, 0.0, 0.0) for a in axes} if axes else None
        words = (
            "The input, as the network gets it: resized, scaled and normalised." if len(axes) == 2 else "An input of the network."
        )
        return Layer(name, None, "", None, words, value.shape, str(value.dtype), shown, self._sees[name])

    def _layer(self, name: str, node: FileNode, value: Any) -> Layer:
        tensor = self._trace[name]
        outputs = [n for n in node.outputs if n]
        part = f"output {node.outputs.index(name) + 1} of {len(node.outputs)}" if len(outputs) > 1 else ""
        if not _numbers(value):
            what = "a sequence" if isinstance(value, list) else "nothing" if value is None else _unlike(value)
            words = f"The operator {node.operator} gives {what}, which the page does not show."
            return Layer(name, node, part, None, words, (), "", None, None, False, tensor.how, tensor.fused, tensor.exact)
        inner: Node | None = self._trace.maker(name)
        rule = None if inner is None or inner.outputs[: len(node.outputs)] != node.outputs else rule_of(inner, name, self._known)
        order = self._order(rule, value.shape)
        if order is not None:
            self._orders[name] = order
        self._sees[name], self._gated[name] = self._seen(rule, node)
        words = sentence(node.operator, rule)
        if rule is not None and rule.kind == "bins" and rule.settings.get("flat"):
            order = None
        return Layer(
            name,
            node,
            part,
            rule,
            words,
            value.shape,
            str(value.dtype),
            shown_of(value.shape, order),
            self._sees[name],
            self._gated[name],
            tensor.how,
            tensor.fused,
            tensor.exact,
        )

    def _order(self, rule: Rule | None, shape: tuple[int, ...]) -> Order | None:
        if rule is None:
            return FIRST.get(len(shape)) if len(shape) > 3 else None
        orders = [self._orders.get(n) for n in rule.reads]
        first = next((o for o in orders if o is not None and len(o) == len(shape)), None)
        if rule.kind in ("conv", "convt", "pool", "batch", "lrn", "unpool", "blocks"):
            return FIRST.get(len(shape))
        if rule.kind == "transpose":
            return None if first is None else tuple(first[a] for a in rule.settings["perm"])
        if rule.kind == "reduce" and rule.settings["keep"]:
            return first
        if rule.kind in KEPT:
            return first or (FIRST.get(len(shape)) if len(shape) > 3 else None)
        return None

    def _seen(self, rule: Rule | None, node: FileNode) -> tuple[Field | None, bool]:
        """What of the input an element depends on, and whether on more by a gate."""
        if rule is None:
            return None, False
        gated = any(self._gated.get(n, False) for n in rule.reads)
        fields = [(self._sees.get(n), s) for n, s in zip(rule.reads, rule.shapes, strict=False) if n in self._sees]
        if not fields:
            return None, gated
        main = max(fields, key=lambda one: math.prod(one[1]))
        seen, shape = main
        if seen is None:
            return None, gated
        s = rule.settings
        if rule.kind in ("conv", "pool"):
            made = {}
            for axis, (to, scale, lo, hi) in seen.items():
                if axis < 2:
                    return None, gated
                k, step, d, b = (s[v][axis - 2] for v in "nsdb")
                made[axis] = (to, scale * step, lo - b * scale, hi + ((k - 1) * d - b) * scale)
            return made, gated
        if rule.kind == "convt":
            made = {}
            for axis, (to, scale, lo, hi) in seen.items():
                if axis < 2:
                    return None, gated
                k, step, d, b = (s[v][axis - 2] for v in "nsdb")
                made[axis] = (to, scale / step, lo + (b - (k - 1) * d) * scale / step, hi + b * scale / step)
            return made, gated
        if rule.kind == "resize":
            made = dict(seen)
            for axis, (places, _) in s["taps"].items():
                a = int(axis)
                if a not in seen:
                    return None, gated
                to, scale, lo, hi = seen[a]
                step = rule.shapes[0][a] / rule.shape[a]
                first = min(min(p) - i * step for i, p in enumerate(places))
                last = max(max(p) - i * step for i, p in enumerate(places))
                made[a] = (to, scale * step, lo + first * scale, hi + last * scale)
            return made, gated
        if rule.kind == "transpose":
            return {s["perm"].index(axis): value for axis, value in seen.items()}, gated
        if rule.kind == "slice":
            return {
                a: (to, scale * s["s"][a], lo + s["b"][a] * scale, hi + s["b"][a] * scale)
                for a, (to, scale, lo, hi) in seen.items()
            }, gated
        if rule.kind == "pad":
            return {
                a: (to, scale, lo - s["b"][a] * scale, hi - s["b"][a] * scale) for a, (to, scale, lo, hi) in seen.items()
            }, gated
        if rule.kind in ("batch", "lrn", "curve", "together", "concat", "softmax", "norm") or (
            rule.kind == "same" and rule.shape == shape
        ):
            if rule.kind in ("softmax", "norm") and set(s["a"]) & set(seen):
                gated = True
            if shape != rule.shape and rule.kind != "concat":
                return None, gated
            for other, extents in fields:
                if other is seen:
                    continue
                if other is None or set(other) != set(seen) or extents[2:] != shape[2:]:
                    gated = True  # a broadcast gate
                    continue
                seen = {
                    a: (v[0], v[1], min(v[2], other[a][2]), max(v[3], other[a][3]))
                    for a, v in seen.items()
                    if other[a][:2] == v[:2]
                }
            return seen or None, gated
        if rule.kind == "same":  # axes that keep their extents keep what they see, where no other lies between
            kept = {
                a: v
                for a, v in seen.items()
                if len(rule.shape) == len(shape) and rule.shape[: a + 1] == shape[: a + 1] and rule.shape[a] == shape[a]
            }
            return (kept if len(kept) == len(seen) else None), gated
        return None, gated


def _numbers(value: Any) -> bool:
    """Whether a value is an array that can be shown: numbers, not texts or complex ones, and not empty."""
    if not isinstance(value, np.ndarray) or not value.size:
        return False
    return value.dtype.kind in "fiub" or "float" in value.dtype.name


def _unlike(value: Any) -> str:
    """What an array holds that is not shown."""
    return (
        "texts" if value.dtype.kind in "OUS" else f"complex numbers {value.shape}" if value.size else f"no number: {value.shape}"
    )


def pictured(value: np.ndarray, order: Order | None) -> tuple[int, int] | None:
    """The axes of rows and columns of an input that is a picture; None of any other."""
    order = order or FIRST.get(value.ndim)
    if order is None or "H" not in order or "D" in order:
        return None
    return (order.index("H"), order.index("W")) if value.shape[order.index("C")] in (1, 3, 4) else None
