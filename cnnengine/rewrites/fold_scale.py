"""fold_scale: constants per channel that are multiplied or added after a convolution or Gemm go into its weights and bias."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from ..graph import Graph, Node
from ..weights import Computed, Scaled
from .rewrite import FLOAT32, Uses, fresh, only_output, plain

LINEAR = ("Conv", "ConvTranspose", "Gemm")
LARGE = 1 << 16
"""Bytes of weights from which the products are not kept."""
PART = 1 << 16
"""Weights that are compared at a time: they stay in the second-level cache."""
MAX_FLOAT32 = float(np.finfo(np.float32).max)


def fold_scale(graph: Graph) -> Graph:
    """Mul, Div, Add and Sub by constants per channel after Conv, ConvTranspose or Gemm, one after another."""
    uses = Uses(graph)
    fold = Folding(graph, uses)
    for node in graph.nodes:
        if node.op.op_type not in ("Mul", "Div", "Add", "Sub") or not only_output(node) or not plain(node):
            continue
        for index in (0, 1):
            value = uses.constant(node, index)
            if value is None or (node.op.op_type in ("Div", "Sub") and index == 0):
                continue  # no constant; constant / y and constant - y
            target = fold.target(node.inputs[1 - index])
            if target is None:
                continue
            vector = per_channel(value, *channels(target, uses))
            if vector is None:
                continue
            one, zero = np.ones_like(vector), np.zeros_like(vector)
            if node.op.op_type == "Mul":
                fold.apply(target, node, vector, zero)
            elif node.op.op_type == "Div" and vector.all():
                fold.apply(target, node, 1 / vector, zero)
            elif node.op.op_type == "Add":
                fold.apply(target, node, one, vector)
            elif node.op.op_type == "Sub":
                fold.apply(target, node, one, -vector)
            break
    return fold.done()


def channels(node: Node, uses: Uses) -> tuple[int, int]:
    """Output channels and rank of the result of a convolution or Gemm with constant weights."""
    w = uses.constant(node, 1)
    op: Any = node.op
    assert w is not None
    if op.op_type == "Gemm":
        return w.shape[0 if op.transB else 1], 2
    return (w.shape[0] if op.op_type == "Conv" else w.shape[1] * op.group), w.ndim


def per_channel(value: np.ndarray, count: int, rank: int) -> np.ndarray | None:
    """A constant as one float64 number per channel (axis 1 of `rank` axes), or None where it is something else."""
    if value.dtype != FLOAT32 or value.ndim > rank:
        return None
    shape = (1,) * (rank - value.ndim) + value.shape
    if any(d != 1 for i, d in enumerate(shape) if i != 1) or shape[1] not in (1, count):
        return None
    return np.broadcast_to(value.reshape(shape[1]).astype(np.float64), (count,))


def _largest(w: np.ndarray) -> float:
    """The largest absolute value, NaN where there is one; part by part, so that weights come from memory once."""
    if not w.size:
        return 0.0
    flat = w.reshape(-1) if w.flags.c_contiguous else w.T.reshape(-1) if w.flags.f_contiguous else w
    step = PART if flat.ndim == 1 else max(len(flat), 1)
    found = []
    for start in range(0, len(flat), step):
        part = flat[start : start + step]
        found += [float(part.max()), -float(part.min())]
    return float(np.max(found))


class Folding:
    """Folds y -> y * scale + shift into the nodes that make y; a node takes one fold per pass."""

    def __init__(self, graph: Graph, uses: Uses) -> None:
        self.graph = graph
        self.uses = uses
        self.changes: dict[int, Node] = {}
        self.gone: set[int] = set()
        self.constants: dict[str, np.ndarray] = {}
        self._largest: dict[int, float] = {}

    def target(self, name: str) -> Node | None:
        """The convolution or Gemm that makes a value read once, when its weights and bias are float32 constants."""
        node = self.uses.maker(name, *LINEAR)
        if node is None or self.uses.only_reader(name) is None or id(node) in self.changes or not only_output(node):
            return None
        if getattr(node.op, "activation", None) is not None or len(node.inputs) > 3:
            return None
        w = self.uses.constant(node, 1)
        if w is None or w.dtype != FLOAT32:
            return None
        if len(node.inputs) > 2 and node.inputs[2]:
            b = self.uses.constant(node, 2)
            if (
                b is None
                or b.dtype != FLOAT32
                or (node.op.op_type == "Gemm" and per_channel(b, *channels(node, self.uses)) is None)
                or (node.op.op_type != "Gemm" and b.shape != channels(node, self.uses)[:1])
            ):
                return None
        return node

    def largest(self, w: np.ndarray | Computed) -> float:
        """The largest absolute value, or not less than it; NaN where there is one."""
        if isinstance(w, Computed):
            return w.bound(self.largest)
        if id(w) not in self._largest:
            self._largest[id(w)] = _largest(w)
        return self._largest[id(w)]

    def apply(self, node: Node, after: Node, scale: np.ndarray, shift: np.ndarray) -> None:
        """Let `node` (a `target`) give what `after` gives: its result times scale plus shift, both (C,) float64.

        Nothing changes where the weights, now or then, are not finite.
        """
        op: Any = node.op
        w = self.uses.constant(node, 1)
        b = self.uses.constant(node, 2)
        assert w is not None
        if not math.isfinite(self.largest(w)):  # asked here, at last, since it reads all of them
            return
        changes: dict[str, object] = {}
        if op.op_type == "Gemm":
            factor = scale[:, None] if op.transB else scale
            old = 0.0 if b is None else op.beta * per_channel(b, *channels(node, self.uses))
            changes["beta"] = 1.0
        else:
            if op.op_type == "Conv":
                factor = scale.reshape(-1, *(1,) * (w.ndim - 1))
            else:  # (C_in, C_out/groups, kernel...): each group of inputs has its own outputs
                g = op.group
                by_group = np.repeat(scale.reshape(g, -1), w.shape[0] // g, axis=0)
                factor = by_group.reshape(*w.shape[:2], *(1,) * (w.ndim - 2))
            old = 0.0 if b is None else b.astype(np.float64)
        new_b = old * scale + shift
        new_w: Any = Scaled(w, factor)
        if w.nbytes < LARGE or not self.largest(new_w) < MAX_FLOAT32:  # where that is no more than a bound, the products decide
            new_w = np.asarray(new_w)
        names = []
        values: list[Any] = [new_w, np.asarray(new_b, np.float32)]
        for suffix, value in zip(("weight", "bias"), values, strict=True):
            name = fresh(self.graph, f"{node.name}/folded_{suffix}", self.constants)
            self.constants[name] = value
            names.append(name)
        if not all(isinstance(v, Computed) or np.isfinite(v).all() for v in values):
            for n in names:  # beyond float32: the two steps may still be fine one after the other
                del self.constants[n]
            return
        self.changes[id(node)] = node.replace(
            op=dataclasses.replace(op, **changes) if changes else op, inputs=(node.inputs[0], *names), outputs=after.outputs
        )
        self.gone.add(id(after))

    def done(self) -> Graph:
        """The rewritten graph."""
        if not self.changes:
            return self.graph
        nodes = [self.changes.get(id(n), n) for n in self.graph.nodes if id(n) not in self.gone]
        return self.graph.replace(nodes=nodes, constants={**self.graph.constants, **self.constants})
