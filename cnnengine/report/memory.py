"""Where intermediate tensors lie while a model runs: which live when, and where the most memory is in use."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..model import Model, inside
from ..plan import Segment
from ..plan.buffers import Buffer
from ..plan.plan import HostStep
from ..runtime.runner import Workspace
from . import plots
from .owners import owners_of
from .planning import Shapes, opened, random_feeds
from .suggest import needed_shapes
from .tables import Printed, Text, shape_text, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Held:
    """A piece of the arena while it is in use.

    Attributes
    ----------
    tensors : tuple of str
        What lies in it: the tensor, those that are the same numbers under another shape, and those that are a part of it (what
        a Concat joins is made in its place); empty where it is working memory.
    node, operator : str
        What writes it first.
    first, last : int
        Steps between which it may not be overwritten, both of them included.
    offset, nbytes : int
        Where it lies, and how much it is with the zeros around its planes.
    """

    tensors: tuple[str, ...]
    node: str
    operator: str
    first: int
    last: int
    offset: int
    nbytes: int

    @property
    def name(self) -> str:
        """The tensor, or whose working memory it is."""
        return self.tensors[0] if self.tensors else f"working memory of {self.node}"


@dataclass(frozen=True)
class Memory(Printed):
    """Memory over the steps of a run at given input shapes.

    Inputs and outputs are the caller's arrays and weights are packed once: neither is here. Nor is what a step on the host
    takes for itself, and the scratch of single kernels, which each thread has once.

    Attributes
    ----------
    model : str
    shapes : dict of str to tuple of int
    arena_bytes : int
        What a run takes for all of it.
    steps : tuple of (node, operator, kernel)
        As run; the kernel is "host" for a step in Python.
    held : tuple of Held
        By their first step.
    """

    model: str
    shapes: dict[str, tuple[int, ...]]
    arena_bytes: int
    steps: tuple[tuple[str, str, str], ...]
    held: tuple[Held, ...]

    @property
    def in_use(self) -> tuple[int, ...]:
        """Bytes that hold something while each step runs."""
        change = [0] * (len(self.steps) + 1)
        for one in self.held:
            change[one.first] += one.nbytes
            change[one.last + 1] -= one.nbytes
        return tuple(itertools.accumulate(change[:-1]))

    @property
    def peak(self) -> int:
        """The first step with the most bytes in use; -1 where nothing lies in the arena."""
        used = self.in_use
        most = max(used, default=0)
        return used.index(most) if most else -1

    def at(self, step: int) -> tuple[Held, ...]:
        """What is in use while a step runs, the largest first."""
        return tuple(sorted((h for h in self.held if h.first <= step <= h.last), key=lambda h: -h.nbytes))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        used = self.in_use
        steps = [{"node": n, "operator": o, "kernel": k, "in_use": u} for (n, o, k), u in zip(self.steps, used, strict=True)]
        held = [{**one.__dict__, "tensors": list(one.tensors)} for one in self.held]
        return {"arena_bytes": self.arena_bytes, "peak": self.peak, "steps": steps, "held": held}

    def text(self) -> Text:
        """A line for each step with the bytes in use, and what lies there at the peak."""
        out = Text()
        shapes = ", ".join(f"{name} {shape_text(shape)}" for name, shape in self.shapes.items())
        out.line(f"{self.model} at {shapes}: {self.arena_bytes:,} bytes for tensors")
        used = self.in_use
        rows = [["step", "layer", "operator", "kernel", "bytes in use"]]
        for at, (node, operator, kernel) in enumerate(self.steps):
            rows.append([str(at), shortened(node), operator, kernel, f"{used[at]:,}"])
        out.table(rows, (0, 4))
        if self.peak >= 0:
            there = ", ".join(f"{shortened(one.name)} {one.nbytes:,}" for one in self.at(self.peak))
            out.line(f"the most: {used[self.peak]:,} bytes in step {self.peak}: {there}")
        return out

    def plot(self) -> Figure:
        """What lies where in the arena step by step, and how much of it is in use; the step with the most is marked.

        Raises
        ------
        InputError
            matplotlib is not installed.
        """
        shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in self.shapes.items())
        title = f"{self.model}: {shapes}; {self.arena_bytes:,} bytes for tensors between {len(self.steps)} steps"
        boxes = [(h.name, h.operator or "reorder", h.first, h.last, h.offset, h.nbytes) for h in self.held]
        names = [node for node, _, _ in self.steps]
        return plots.arena(boxes, names, self.in_use, self.peak, self.arena_bytes, title)


def memory(model: Any, shapes: Shapes | None = None) -> Memory:
    """Say what lies where in memory while a model runs; nothing is run, but where shapes depend on data.

    Parameters
    ----------
    model : Model, or as for `cnnengine.load`
    shapes : mapping of str to tuple of int, optional
        As for `summarize`, but every dynamic extent other than the batch must be given.

    Returns
    -------
    Memory

    Raises
    ------
    InputError
        A dynamic extent was not given.
    ShapeError
        The shapes do not fit the model.
    ClosedError
    """
    with opened(model) as loaded:
        return _memory(loaded, shapes)


def _memory(model: Model, shapes: Shapes | None) -> Memory:
    resolved = needed_shapes(model, shapes)
    return memory_of(model.name, resolved, segments_of(model, resolved))


def segments_of(model: Model, shapes: Shapes) -> list[Segment]:
    """The segments of a run at these shapes; where shapes depend on data, those of a run on random input."""
    view = inside(model)
    if not view.graph.nodes:
        return []
    first = view.program.segment(0, view.of_shapes(shapes))
    if first.end == len(view.graph.nodes):
        return [first]
    return list(view.segments(random_feeds(model, shapes), Workspace(), model.threads))


def memory_of(model: str, shapes: dict[str, tuple[int, ...]], segments: Iterable[Segment]) -> Memory:
    """What these segments hold in the arena, which each has for itself while it runs."""
    steps: list[tuple[str, str, str]] = []
    held: list[Held] = []
    arena = 0
    for segment in segments:
        own = _steps(segment)
        parts: dict[Buffer, list[Buffer]] = {root: [root] for root in segment.plan.lives}
        for buffer in segment.plan.offsets:
            parts[buffer.place()[0]].append(buffer)
        for root, life in segment.plan.lives.items():
            names = tuple(dict.fromkeys(name for buffer in parts[root] for name in segment.tensors.get(buffer, ())))
            node, operator, _ = own[life.first]
            last = min(life.last, len(own) - 1)  # words of a kernel's complaint are read when all has run
            held.append(Held(names, node, operator, len(steps) + life.first, len(steps) + last, life.offset, life.nbytes))
        steps += own
        if segment.tail is not None:
            steps.append((segment.tail.node.name, segment.tail.node.op.op_type, "host"))
        arena = max(arena, segment.plan.arena_bytes)
    return Memory(model, shapes, arena, tuple(steps), tuple(sorted(held, key=lambda h: (h.first, h.offset))))


def _steps(segment: Segment) -> Sequence[tuple[str, str, str]]:
    """The plan's steps, native and on the host, in the order in which they run."""
    owners = owners_of(segment)
    found: list[tuple[str, str, str]] = []
    for piece in segment.plan.pieces:
        if isinstance(piece, HostStep):
            found.append((piece.node, piece.operator, "host"))
            continue
        for report in segment.plan.reports[piece[0] : piece[0] + piece[1]]:
            node = owners.get(report.node)
            name, operator = (report.node, "") if node is None else (node.name, node.op.op_type)
            found.append((name, operator, report.kernel))
    return found
