"""Bodies: the graphs inside of nodes (If, Loop, Scan, SequenceMap), planned and kept as the model's own graph is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..graph import Graph, Node
from ..ops.control import Controlling
from ..runtime.locks import own_lock
from ..runtime.runner import check_ended
from .host import run_host, settled
from .segment import Segment


class Body(Protocol):
    """A graph made ready to run: a program of its own."""

    @property
    def graph(self) -> Graph: ...

    def run(self, values: dict[str, Any], threads: int) -> Segment | None:
        """Run the whole graph on `values` and add its results to them."""
        ...

    def segments(self) -> list[Segment]:
        """All segments that are planned now."""
        ...

    def trim(self) -> None:
        """Give up memory and plans that can be made again."""
        ...

    def close(self) -> None:
        """Give up plans and workspaces."""
        ...


class Bodies:
    """The bodies that were made so far.

    Parameters
    ----------
    make : callable
        Gives the body of a graph.
    """

    def __init__(self, make: Callable[[Graph], Body]) -> None:
        self._make = make
        self._lock = own_lock(self)
        self._made: dict[int, Body] = {}  # by the graph's id, which lives as long as its body

    def run_node(self, node: Node, inputs: Sequence[Any], threads: int, by_numpy: set[str] | None = None) -> list[Any]:
        """As `run_host`, the graphs of a node being planned too."""
        if not isinstance(node.op, Controlling):
            return run_host(node, inputs, threads, by_numpy)
        results = node.op.run(inputs, lambda graph, values: self.evaluate(graph, values, threads))
        if by_numpy is not None and node.name not in by_numpy:
            made = [self._made.get(id(getattr(node.op, field))) for field in node.op.graphs]
            if any(segment.by_numpy for body in made if body is not None for segment in body.segments()):
                by_numpy.add(node.name)
        return results

    def evaluate(self, graph: Graph, values: Sequence[Any], threads: int) -> list[Any]:
        """The outputs of a node's graph for its inputs, in their order."""
        check_ended()
        body = self._made.get(id(graph))
        if body is None:
            with self._lock:
                body = self._made.setdefault(id(graph), self._make(graph))
        feeds = {name: settled(value) for name, value in zip(graph.inputs, values, strict=True)}
        body.run(feeds, threads)
        return [feeds[name] if name in feeds else body.graph.constants[name] for name in graph.outputs]

    def segments(self) -> list[Segment]:
        """All segments of all bodies that are planned now."""
        with self._lock:
            made = list(self._made.values())
        return [segment for body in made for segment in body.segments()]

    def trim(self) -> None:
        """Give up the memory of their runs, and plans."""
        with self._lock:
            made = list(self._made.values())
        for body in made:
            body.trim()

    def close(self) -> None:
        """Give up all of them."""
        with self._lock:
            made = list(self._made.values())
            self._made.clear()
        for body in made:
            body.close()
