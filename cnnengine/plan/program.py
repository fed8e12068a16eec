"""Program: a graph made ready for one instruction set; keeps its segments and runs them one after another."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Hashable, Mapping
from functools import partial
from typing import Any

import numpy as np

from .._kernels import dispatch
from ..errors import CNNEngineError
from ..graph import Graph
from ..limits import Limits, within
from ..runtime.locks import own_lock
from ..runtime.runner import Workspace, Workspaces
from ..spec import TensorSpec
from .bodies import Bodies
from .planner import Planner, Store
from .segment import Segment
from .stepper import Stepper

PLANS = 32
"""Plans kept for each node that a segment starts at, the least recently used given up first."""

STEPPED = 10
"""Times that light nodes behind a data-dependent extent run one by one before those shapes get a plan, which takes as long."""

SEEN = 2048
"""Shapes whose runs are counted."""


class Program:
    """A graph lowered for one instruction set; immutable but for its caches, shared by all threads.

    Parameters
    ----------
    graph : Graph
        After the rewrites that need no shapes.
    winograd : bool or float
        As `load` takes it: whether convolutions may use Winograd's algorithm, and what memory their weights may take.
    store : Store, optional
        Of the file that constants are views of.
    threads : int
        Threads that pack constants.
    pairs : collection of str
        Names of convolutions that are computed by products of bfloat16 numbers where that is the fastest.
    limits : Limits, optional
        How much plans and runs may ask for.

    Attributes
    ----------
    graph : Graph
    isa : str
    workspaces : Workspaces
        Memory of its runs.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        winograd: bool | float = False,
        store: Store | None = None,
        threads: int = 1,
        pairs: Collection[str] = (),
        limits: Limits | None = None,
    ) -> None:
        self.graph = graph
        self._limits = limits
        self.isa = dispatch.current_isa()
        self.workspaces = Workspaces()
        self._segments: dict[int, OrderedDict[Hashable, Segment]] = {}
        self._seen: OrderedDict[Hashable, int] = OrderedDict()
        self._live: dict[int, list[str]] = {}
        self._last_read = _last_reads(graph)
        self._lock = own_lock(self)
        # none of these refers to the program: it is freed, weights and all, with the last reference to it
        self._bodies = Bodies(partial(Program, winograd=winograd, store=store, threads=threads, limits=limits))
        run_node = self._bodies.run_node
        self._stepper = Stepper(graph, run_node)
        self._make_planner = partial(
            Planner,
            graph,
            dispatch.lanes(),
            self._last_read,
            run_node,
            winograd=winograd,
            store=store,
            threads=threads,
            pairs=pairs,
        )
        self._planner = self._make_planner()
        self._planning: int | None = None  # the thread that plans

    @property
    def packed(self) -> Mapping[tuple[Hashable, ...], np.ndarray]:
        """Packed constants by key."""
        return self._planner.packed

    @property
    def paired(self) -> frozenset[str]:
        """Names of the convolutions that plans made so far compute by products of bfloat16 numbers."""
        with self._lock:
            return frozenset(self._planner.paired)

    def segment(self, start: int, values: Mapping[str, Any]) -> Segment:
        """The segment from node `start` on for values of these shapes, planned or from the cache.

        Raises
        ------
        ShapeError, InputError
            The shapes do not fit the model; names node and operator.
        """
        found = self._segment(start, values, True)
        assert found is not None
        return found

    def _segment(self, start: int, values: Mapping[str, Any], at_once: bool) -> Segment | None:
        """As `segment`; unless `at_once`, None for shapes of light nodes that have not come often enough to be planned."""
        names = self._live.get(start)
        if names is None:
            before = [*self.graph.inputs, *(n for node in self.graph.nodes[:start] for n in node.outputs if n)]
            names = [n for n in before if self._last_read.get(n, -1) >= start and n not in self.graph.constants]
            self._live[start] = names
        live = {n: values[n] for n in names if n in values}
        absent = () if len(live) == len(names) else tuple(n for n in names if n not in values)
        key = (start, absent, *[(v.dtype.str, v.shape) if isinstance(v, np.ndarray) else "list" for v in live.values()])
        with self._lock:
            plans = self._segments.setdefault(start, OrderedDict())
            found = plans.get(key)
            if found is not None:
                plans.move_to_end(key)
                return found
            if not at_once:
                times = self._seen.pop(key, 0)
                if times < STEPPED:
                    self._seen[key] = times + 1
                    if len(self._seen) > SEEN:
                        self._seen.popitem(last=False)
                    return None
            specs = {
                n: TensorSpec(v.dtype, v.shape) if isinstance(v, np.ndarray) else TensorSpec(np.dtype(object), None)
                for n, v in live.items()
            }
            made = self._plan(start, specs)
            plans[key] = made
            while len(plans) > PLANS:
                plans.popitem(last=False)
            return made

    def _plan(self, start: int, specs: Mapping[str, TensorSpec]) -> Segment:
        """The segment from a node on; with the lock held."""
        with within(self._limits):
            if self._planning == threading.get_ident():
                # a signal handler or a finalizer of the thread that is in the middle of planning: it has what it makes to itself
                return self._make_planner().plan(start, specs)
            self._planning = threading.get_ident()
            try:
                return self._planner.plan(start, specs)
            finally:
                self._planning = None

    def segments(self) -> list[Segment]:
        """All segments that are planned now, those of the nodes' graphs too."""
        with self._lock:
            found = [segment for plans in self._segments.values() for segment in plans.values()]
        return found + self._bodies.segments()

    def trim(self) -> None:
        """Give up the memory of runs, and all plans but the last one for each node that a segment starts at."""
        self.workspaces.trim()
        with self._lock:
            for plans in list(self._segments.values()):
                while len(plans) > 1:
                    plans.popitem(last=False)
            self._seen.clear()
        self._bodies.trim()

    def close(self) -> None:
        """Give up plans and workspaces; what runs now runs to its end."""
        self.workspaces.close()
        with self._lock:
            self._segments.clear()
            self._seen.clear()
        self._bodies.close()

    def run(self, values: dict[str, Any], threads: int, given: Mapping[str, np.ndarray] | None = None) -> Segment | None:
        """Run the whole graph on `values` (arrays by name, C-contiguous) and add its results to them; returns the first segment.

        `given` are arrays (C-contiguous, aligned) that results are written into where their shapes and dtypes are right.

        Behind a node whose output's extents depend on data, shapes that come for the first few times run node by node where all
        nodes are light: planning them would take longer than running them, and such shapes may never come again.
        """
        workspace = self.workspaces.take()
        try:
            with within(self._limits):
                return self._run(values, workspace, threads, given)
        except CNNEngineError as error:
            raise error.locate(model=self.graph.name or None) from None
        finally:
            self.workspaces.give(workspace)

    def _run(
        self, values: dict[str, Any], workspace: Workspace, threads: int, given: Mapping[str, np.ndarray] | None
    ) -> Segment | None:
        start, count = 0, len(self.graph.nodes)
        opening: Segment | None = None
        before: Segment | None = None
        while start < count:
            segment: Segment | None = None
            follows: Hashable = None
            if before is not None and before.tail is not None:
                made = [values[n] for n in before.tail.node.outputs if n]
                follows = tuple([(a.dtype.num, a.shape) if isinstance(a, np.ndarray) else "list" for a in made])
                segment = before.following.get(follows)
            if segment is None:
                segment = self._segment(start, values, start == 0 or not self._stepper.is_light(start))
                if segment is not None and before is not None and follows is not None:
                    before.following[follows] = segment
            if segment is None:
                end = self._stepper.step(start, values, threads)
                if end > start:
                    start, before = end, None
                    continue
                segment = self.segment(start, values)
            segment.execute(values, workspace, threads, given)
            opening = opening or segment
            start, before = segment.end, segment
        return opening


def _last_reads(graph: Graph) -> dict[str, int]:
    """The last node that reads a value, by its name; the number of nodes for outputs of the graph."""
    reads: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        reads.update(dict.fromkeys(node.inputs, index))
    reads.pop("", None)
    for name in graph.outputs:
        reads[name] = len(graph.nodes)
    return reads
