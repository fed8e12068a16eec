"""Small graphs for the rewrites' tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnengine import ops
from cnnengine.graph import Graph, Node
from cnnengine.operator import Operator
from cnnengine.spec import TensorSpec

F32 = np.dtype(np.float32)


class Builder:
    """Makes a graph step by step; every step returns the name of its (first) value."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(7)
        self.inputs: dict[str, TensorSpec] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.nodes: list[Node] = []
        self.feeds: dict[str, np.ndarray] = {}

    def input(self, *shape: int, name: str = "x", symbolic: bool = True) -> str:
        self.feeds[name] = self.rng.standard_normal(shape).astype(np.float32)
        self.inputs[name] = TensorSpec(F32, (None,) * len(shape) if symbolic else shape)
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.array(value, dtype)
        return name

    def random(self, *shape: int) -> str:
        return self.constant(self.rng.standard_normal(shape))

    def node(self, op: str | Operator, *inputs: str, outputs: Sequence[str] = (), **fields: Any) -> str:
        if isinstance(op, str):
            cls: Any = ops.lookup(op)
            op = cls(**fields)
        outputs = tuple(outputs) or (f"v{len(self.nodes)}",)
        self.nodes.append(Node(op, inputs, outputs, f"{op.op_type}_{len(self.nodes)}"))
        return outputs[0]

    def graph(self, *outputs: str) -> Graph:
        graph = Graph(self.inputs, {o: TensorSpec(F32, None) for o in outputs}, self.nodes, self.constants)
        graph.check()
        return graph


def same(builder: Builder, before: Graph, after: Graph, rtol: float = 2e-5) -> None:
    """Both graphs give the same outputs, up to rounding."""
    after.check()
    assert list(after.outputs) == list(before.outputs)
    for name, a, b in zip(before.outputs, before.evaluate(builder.feeds), after.evaluate(builder.feeds), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        np.testing.assert_allclose(
            b, a, rtol=rtol, atol=rtol * max(float(np.abs(a).max(initial=0)), 1e-30) if a.dtype.kind == "f" else 0
        )


def kinds(graph: Graph) -> list[str]:
    return [n.op.op_type for n in graph.nodes]
