"""fold_scale: constants per channel that are multiplied or added after a convolution or Gemm go into its weights and bias."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..graph import Graph, Node
from .rewrite import FLOAT32, Uses, fresh, only_output

LINEAR = ("Conv", "ConvTranspose", "Gemm")


def fold_scale(graph: Graph) -> Graph:
    """Mul, Div, Add and Sub by constants per channel after Conv, ConvTranspose or Gemm, one after another."""
    uses = Uses(graph)
    fold = Folding(graph, uses)
    for node in graph.nodes:
        if node.op.op_type not in ("Mul", "Div", "Add", "Sub") or not only_output(node):
            continue
        if getattr(node.op, "activation", None) is not None:
            continue
        for index in (0, 1):
            target = fold.target(node.inputs[1 - index])
            if target is None:
                continue
            if node.op.op_type in ("Div", "Sub") and index == 0:
                continue  # constant / y and constant - y
            value = uses.constant(node, index)
            vector = None if value is None else per_channel(value, *channels(target, uses))
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


class Folding:
    """Folds y -> y * scale + shift into the nodes that make y; a node takes one fold per pass."""

    def __init__(self, graph: Graph, uses: Uses) -> None:
        self.graph = graph
        self.uses = uses
        self.changes: dict[int, Node] = {}
        self.gone: set[int] = set()
        self.constants: dict[str, np.ndarray] = {}

    def target(self, name: str) -> Node | None:
        """The convolution or Gemm that makes a value read once, when its weights and bias are float32 constants."""
        node = self.uses.maker(name, *LINEAR)
        if node is None or self.uses.only_reader(name) is None or id(node) in self.changes or not only_output(node):
            return None
        if getattr(node.op, "activation", None) is not None or len(node.inputs) > 3:
            return None
        w = self.uses.constant(node, 1)
        if w is None or w.dtype != FLOAT32 or not np.isfinite(w).all():
            return None
        if len(node.inputs) > 2 and node.inputs[2]:
            b = self.uses.constant(node, 2)
            if (
                b is None
                or b.dtype != FLOAT32
                or (node.op.op_type == "Gemm" and per_channel(b, *channels(node, self.uses)) is None)
            ):
                return None
        return node

    def apply(self, node: Node, after: Node, scale: np.ndarray, shift: np.ndarray) -> None:
        """Let `node` (a `target`) give what `after` gives: its result times scale plus shift, both (C,) float64."""
        op: Any = node.op
        w = self.uses.constant(node, 1)
        b = self.uses.constant(node, 2)
        assert w is not None
        changes: dict[str, object] = {}
        if op.op_type == "Gemm":
            new_w = w * (scale[:, None] if op.transB else scale)
            old = 0.0 if b is None else op.beta * per_channel(b, *channels(node, self.uses))
            changes["beta"] = 1.0
        else:
            if op.op_type == "Conv":
                new_w = w * scale.reshape(-1, *(1,) * (w.ndim - 1))
            else:  # (C_in, C_out/groups, kernel...): each group of inputs has its own outputs
                g = op.group
                parts = w.reshape(g, w.shape[0] // g, *w.shape[1:])
                new_w = (parts * scale.reshape(g, 1, -1, *(1,) * (w.ndim - 2))).reshape(w.shape)
            old = 0.0 if b is None else b.astype(np.float64)
        new_b = old * scale + shift
        names = []
        for suffix, value in (("weight", new_w), ("bias", new_b)):
            name = fresh(self.graph, f"{node.name}/folded_{suffix}", self.constants)
            self.constants[name] = np.asarray(value, np.float32)
            names.append(name)
        if not all(np.isfinite(self.constants[n]).all() for n in names):
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
