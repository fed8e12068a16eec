"""Stepper: light nodes one by one, where planning them would take longer than running them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import CNNEngineError
from ..graph import Graph
from ..layout import is_mapped
from ..ops.common import FAULTS
from ..ops.control import Controlling
from .host import RunNode, settled
from .inference import located

LIGHT_SIZE = 1 << 18
"""Elements of an input up to which a node is light."""


class Stepper:
    """Runs light nodes of a graph without a plan.

    Parameters
    ----------
    graph : Graph
    run : callable
        Runs a node that holds graphs, as `run_host` does.
    """

    def __init__(self, graph: Graph, run: RunNode) -> None:
        self._graph = graph
        self._run = run
        self._light: list[bool] | None = None

    def is_light(self, index: int) -> bool:
        """Whether NumPy may run a node, its inputs being small: it gives the same bits, and reads no mapped file."""
        if self._light is None:
            constants = self._graph.constants
            self._light = [
                node.op.light >= 0
                and getattr(node.op, "activation", None) is None
                and getattr(node.op, "reduction", "none") == "none"
                and not any(n in constants and is_mapped(constants[n]) for n in node.inputs)
                for node in self._graph.nodes
            ]
        return self._light[index]

    def step(self, start: int, values: dict[str, Any], threads: int) -> int:
        """Run light nodes one by one, up to one that is not, or past one behind which a segment starts; returns where."""
        nodes, constants, at = self._graph.nodes, self._graph.constants, start
        node = nodes[start]
        try:
            while at < len(nodes) and self.is_light(at):
                node, op = nodes[at], nodes[at].op
                inputs = [None if not n else values[n] if n in values else constants[n] for n in node.inputs]
                rank = 0
                for a in inputs:
                    if a is not None:
                        if not isinstance(a, np.ndarray) or a.size > LIGHT_SIZE:
                            return at
                        rank = max(rank, a.ndim)
                if rank > op.light:
                    return at
                if isinstance(op, Controlling):
                    results = self._run(node, inputs, threads, None)
                else:
                    computed = op.immediate(*inputs)
                    results = op.evaluate(*inputs) if computed is None else computed
                for name, value in zip(node.outputs, results, strict=False):
                    if name:
                        values[name] = settled(value)
                at += 1
                if op.divides:
                    break
        except (CNNEngineError, *FAULTS):
            with located(node, self._graph.name):
                raise
        return at
