"""A file's graph at one input: which values depend on it, which of them everything behind passes through, where on the input
their axes lie, and runs of any part of it on many samples at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from ..errors import CNNEngineError, InputError
from ..graph import Graph, Node
from ..importer.cut import cut
from ..layout import kept
from ..plan import Program
from ..plan.inference import infer_nodes
from ..plan.planner import Store
from ..runtime.blas import limited
from ..spec import UNKNOWN, TensorSpec

Axes = tuple[int, ...]

SLIDING = frozenset(
    (
        *("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "FusedConv", "QLinearAveragePool", "MaxPool"),
        *(
            "AveragePool",
            "LpPool",
            "GlobalAveragePool",
            "GlobalMaxPool",
            "GlobalLpPool",
            "QLinearGlobalAveragePool",
            "MaxRoiPool",
        ),
        *("Resize", "Upsample", "DepthToSpace", "SpaceToDepth", "MaxUnpool", "InstanceNormalization", "LRN"),
    )
)
"""Operators whose first input is (N, C, places...), and whose output has the same axes."""
SHUFFLING = frozenset(("ReverseSequence", "GridSample", "RNN", "LSTM", "GRU", "Einsum", "Col2Im", "RoiAlign", "ScatterND"))
"""Operators behind which an axis of the same extent need not be the same places."""
VIEWS = frozenset(("Reshape", "Flatten", "Squeeze", "Unsqueeze"))
TYPICAL = 32
"""Samples of one run, at most: more make convolutions no faster."""


class Network:
    """A file's graph at one input.

    Parameters
    ----------
    graph : Graph
        As it is in the file.
    feeds : mapping of str to ndarray
        One sample of every input.
    begin : str
        The input that is explained.
    store : Store or None
        Of the file that constants are views of.
    threads, winograd, limit
        Of `Model.explain`: `limit` is bytes of one run.

    Attributes
    ----------
    specs : dict of str to TensorSpec
        Of all values whose shapes do not depend on data.
    live : set of str
        Values that depend on what the input holds, not on its shape alone.
    """

    def __init__(
        self,
        graph: Graph,
        feeds: Mapping[str, np.ndarray],
        begin: str,
        *,
        store: Store | None,
        threads: int,
        winograd: bool | float,
        limit: int,
    ) -> None:
        self.graph = graph
        self.feeds = dict(feeds)
        self.begin = begin
        self.threads = threads
        self.limit = limit
        self._store = store
        self._winograd = winograd
        with self.reading():
            self.specs = {n: TensorSpec.of(np.asarray(v)) for n, v in graph.constants.items()}
            self.specs.update({n: TensorSpec(v.dtype, v.shape) for n, v in feeds.items()})
            infer_nodes(graph.nodes, self.specs, graph.name)
        self.live = {begin}
        for node in graph.nodes:
            if not self.live.isdisjoint(node.inputs):
                self.live.update(n for n in node.outputs if n and (n not in self.specs or self.specs[n].value is None))

    def reading(self) -> Any:
        """Context in which constants may be read."""
        if self._store is None:
            return nullcontext()
        self._store.check()
        return self._store.reading()

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The extents of a value; None where they depend on data."""
        spec = self.specs.get(name)
        return spec.concrete if spec is not None and spec.is_concrete else None

    def part(self, inputs: Sequence[str], outputs: Sequence[str]) -> Part:
        """The graph from these values to those; other inputs of the file are fed what they were given.

        Raises
        ------
        InputError
            More than these values leads to the outputs.
        """
        return Part(self, inputs, outputs)

    # ------------------------------------------------------------ what leads to a value
    def needed(self, *names: str) -> list[Node]:
        """The nodes of live values that lead to these, in order."""
        wanted, seen = list(names), set[int]()
        makers = self.graph.producers()
        while wanted:
            node = makers.get(wanted.pop())
            if node is not None and id(node) not in seen and not self.live.isdisjoint(node.outputs):
                seen.add(id(node))
                wanted += [n for n in node.inputs if n in self.live]
        return [node for node in self.graph.nodes if id(node) in seen]

    def gates(self, *names: str) -> list[str]:
        """The values through which all passes that leads from the input to these, from the last to the input.

        Going back through the nodes, the live values that are still to be made are those that cross the place where one is; where
        it is one alone, all passes through it.
        """
        crossing = {n for n in names if n in self.live}
        found = list(crossing) if len(crossing) == 1 else []
        for node in reversed(self.needed(*names)):
            crossing.difference_update(node.outputs)
            crossing.update(n for n in node.inputs if n in self.live)
            if len(crossing) == 1 and (one := next(iter(crossing))) not in found[-1:]:
                found.append(one)
        return found

    # ------------------------------------------------------------ where axes lie
    def places(self, last: bool | None) -> dict[str, Axes]:
        """For each value whose axes are known: those that run over the places of the input, in the order of the input's.

        Parameters
        ----------
        last : bool or None
            Whether the input has its channels last; None where nobody says it: then its readers do.

        Raises
        ------
        InputError
            The input has no axes of places, or nothing says which they are.
        """
        shape = self.feeds[self.begin].shape
        if not 3 <= len(shape) <= 5:
            raise InputError(
                "has no axes that are places",
                tensor=self.begin,
                expected="(N, C, places...) or (N, places..., C), of 1 to 3 axes of places",
                received=shape,
            )
        ways = {False: tuple(range(2, len(shape))), True: tuple(range(1, len(shape) - 1))}
        for way in (False, True) if last is None else (last,):
            found, fits = self._spread(ways[way])
            if fits or last is not None:
                return found
        if any(node.op.op_type in SLIDING for node in self._of_live()):
            raise InputError(
                "which axes are places does not follow from the network: say it",
                tensor="layout",
                expected="layout='NCHW' or 'NHWC'",
                received=shape,
            )
        few = (1, 3, 4)
        return self._spread(ways[shape[-1] in few and shape[1] not in few])[0]

    def _of_live(self) -> list[Node]:
        return [node for node in self.graph.nodes if not self.live.isdisjoint(node.outputs)]

    def _spread(self, begin: Axes) -> tuple[dict[str, Axes], bool]:
        """Where axes lie, if those of the input are these; and whether the first that slides over places reads them so."""
        found, fits, own = {self.begin: begin}, False, tuple(range(2, 2 + len(begin)))
        for node in self._of_live():
            source = next((n for n in node.inputs if n in found), None)
            shape = self.shape(node.outputs[0]) if node.outputs[0] else None
            if shape is None:
                continue
            if node.op.op_type in SLIDING:
                if source is not None and source == node.inputs[0] and not fits:
                    if found[source] != own:
                        return found, False
                    fits = True
                if fits and len(shape) == 2 + len(begin):
                    known = found.get(node.inputs[0])
                    if known is None or known == own:
                        found[node.outputs[0]] = own
                continue
            if source is None:
                continue
            for name in node.inputs:
                axes = None if name not in found else self._carried(node, name, found[name], shape)
                if axes is not None:
                    found.update((n, axes) for n in node.outputs if n and len(self.shape(n) or ()) == len(shape))
                    break
        return found, fits

    def _carried(self, node: Node, name: str, axes: Axes, shape: tuple[int, ...]) -> Axes | None:
        """Where a node's output has these axes of one of its inputs; None where it has not, or nobody knows."""
        own = self.shape(name)
        operator: Any = node.op
        if own is None or operator.op_type in SHUFFLING:
            return None
        if operator.op_type == "Transpose":
            order = operator.perm if operator.perm is not None else tuple(reversed(range(len(own))))
            return tuple(order.index(a) for a in axes)
        if operator.op_type in VIEWS:
            before = [math.prod(shape[:a]) for a in range(len(shape))]
            made: list[int] = []
            for axis in axes:
                places = math.prod(own[:axis])
                same = [a for a in range(len(shape)) if a not in made and (shape[a], before[a]) == (own[axis], places)]
                if not same:
                    return None
                made.append(same[0])
            return tuple(made)
        if operator.op_type in ("Gather", "GatherElements", "TopK"):
            axis = operator.axis % len(own)
            if axis in axes:
                return None
            if operator.op_type == "Gather":
                more = len(shape) - len(own)
                return tuple(a + more if a > axis else a for a in axes)
        if operator.op_type == "Slice" and len(node.inputs) > 4 and node.inputs[4]:
            steps = self.specs[node.inputs[4]].value
            if steps is None or (np.asarray(steps) < 0).any():
                return None
        if operator.op_type in ("Pad", "Slice"):
            return axes
        if len(shape) != len(own) or any(shape[a] != own[a] for a in axes):
            return None
        return axes


class Part:
    """A part of a network, run on any number of samples: together where that gives what each gives alone, else one by one.

    Attributes
    ----------
    runs : int
        Samples that it was run on.
    batch : int
        Samples of one run.
    """

    def __init__(self, network: Network, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        from ..rewrites import simplify  # as in `Planner`

        self._network = network
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self.runs = 0
        self.batch = 0
        graph = network.graph
        others = [n for n in graph.inputs if n not in inputs]
        with network.reading(), limited(network.threads):
            wanted = graph.replace(outputs={n: graph.outputs.get(n) or TensorSpec(UNKNOWN, None) for n in outputs})
            begun = cut(wanted, [*inputs, *others])
            simple = simplify(begun)
            given = {n: kept(simple.constants[n]) for n in simple.outputs if n in simple.constants}
            simple = simple.replace(constants={**simple.constants, **given})
        self._others = {n: network.feeds[n] for n in others}
        self._program = Program(simple, winograd=network._winograd, store=network._store, threads=network.threads)

    def run(self, *values: np.ndarray) -> list[np.ndarray]:
        """The outputs for these values, as they are."""
        feeds: dict[str, Any] = {**self._others, **dict(zip(self._inputs, map(np.ascontiguousarray, values), strict=True))}
        self._program.run(feeds, self._network.threads)
        constants = self._program.graph.constants
        return [feeds[n] if n in feeds else np.asarray(constants[n]) for n in self._outputs]

    def one(self, value: np.ndarray) -> list[np.ndarray]:
        """The outputs for one sample."""
        self.runs += 1
        return self.run(value)

    def each(
        self, make: Callable[[int, int], np.ndarray], count: int, tell: Callable[[int], None] | None = None
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """The outputs for many samples, in order: where each batch begins, and its outputs.

        Parameters
        ----------
        make : function of (begin, end)
            The samples, joined along axis 0.
        count : int
        tell : function of int, optional
            Called after each run with how many are done.
        """
        if not count:
            return
        first = make(0, 1)
        alone = self.one(first)
        self.batch = self._batch(first, alone, make, count)
        yield 0, alone
        begin = 1
        while begin < count:
            end = min(begin + self.batch, count)
            outputs = self.run(make(begin, end))
            self.runs += end - begin
            yield begin, outputs
            begin = end
            if tell is not None:
                tell(begin)

    def _batch(self, first: np.ndarray, alone: Sequence[np.ndarray], make: Callable[[int, int], np.ndarray], count: int) -> int:
        """How many samples go together: as many as `limit` bytes hold, and one where two give something else than each alone."""
        if count < 3 or any(y.shape[:1] != (1,) for y in alone):
            return 1
        arenas = [segment.plan.arena_bytes for segment in self._program.segments()]
        each = 2 * first.nbytes + sum(y.nbytes for y in alone) + max(arenas, default=0)
        room = min(TYPICAL, count - 1, self._network.limit // max(each, 1))
        if room < 2:
            return 1
        try:
            pair = np.concatenate([make(1, 2), first])
            together = self.run(pair)
        except CNNEngineError:
            return 1
        self.runs += 2
        for y, single in zip(together, alone, strict=True):
            if y.shape != (2, *single.shape[1:]) or not _close(y[1:], single):
                return 1
        return int(room)


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether numbers are the same within what another order of sums makes."""
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    wide = np.asarray(a, np.float64), np.asarray(b, np.float64)
    scale = float(np.max(np.abs(wide[1]), initial=0, where=np.isfinite(wide[1])))
    digits = 1e-2 if a.dtype.itemsize == 2 else 1e-4
    return bool(np.allclose(*wide, rtol=0, atol=digits * max(scale, 1e-30), equal_nan=True))
