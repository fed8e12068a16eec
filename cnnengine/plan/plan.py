"""Plan: kernel calls with memory assigned, compiled to an array of native steps.

Buffers of the arena share memory when their lives do not meet (plan.arena). Those that are parts of another one lie inside of it
(plan.place). Constants, inputs and outputs are reached where they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._kernels import kernel
from ..errors import ShapeError
from ..layout import KernelCall, View
from ..limits import check, current
from ..runtime.blas import limited
from ..runtime.runner import NativePlan, Workspace, check_ended
from .arena import Life, assign
from .buffers import Buffer, BufferRef
from .place import place

Around = Callable[[str], AbstractContextManager[None]]
"""Gives the context that a node of this name runs in."""


@dataclass(eq=False)
class HostStep:
    """A node that runs on the host, between native steps: through NumPy or onnx.reference.

    `inputs` are plain operands, None where absent, or the constant itself; `outputs` plain operands, None where unused.
    """

    node: str
    operator: str
    run: Any
    inputs: tuple[BufferRef | np.ndarray | None, ...]
    outputs: tuple[BufferRef | None, ...]


@dataclass(eq=False)
class StepReport:
    """What `profile` and `info` show of a native step."""

    node: str
    kernel: str
    flops: float
    nbytes: float
    n_chunks: int


@dataclass(eq=False)
class Plan:
    """An executable for one set of shapes; immutable once built.

    Attributes
    ----------
    native : NativePlan
    pieces : list of (first, count) of native steps, or HostStep
    offsets : bytes from the start of the arena to each buffer that lies in it
    reports : of the native steps, in order
    lives : of the buffers that lie in the arena and in no other one: first and last item of the plan, bytes, place
    hosted : whether any piece runs on the host
    """

    native: NativePlan
    pieces: list[tuple[int, int] | HostStep]
    offsets: dict[Buffer, int]
    reports: list[StepReport] = field(default_factory=list)
    lives: dict[Buffer, Life] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hosted = any(isinstance(piece, HostStep) for piece in self.pieces)

    @property
    def arena_bytes(self) -> int:
        return int(self.native.arena_bytes)

    def execute(
        self,
        workspace: Workspace,
        inputs: list[np.ndarray],
        outputs: list[np.ndarray],
        threads: int,
        around: Around | None = None,
    ) -> None:
        """Run all pieces; inputs and outputs are C-contiguous arrays of the planned shapes and dtypes.

        Steps on the host run inside of `around`.
        """
        workspace.begin(self.native, inputs, outputs, threads)
        with limited(threads) if self.hosted else nullcontext():
            for piece in self.pieces:
                if not isinstance(piece, HostStep):
                    workspace.run(piece[0], piece[1], threads)
                    continue
                check_ended()
                with nullcontext() if around is None else around(piece.node):
                    self.run_host_step(piece, workspace, inputs, outputs)

    def _array(self, ref: BufferRef, workspace: Workspace, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> np.ndarray:
        buffer = ref.buffer
        if buffer.kind == "input":
            return inputs[buffer.slot].reshape(ref.shape)
        if buffer.kind == "output":
            return outputs[buffer.slot].reshape(ref.shape)
        if buffer.kind == "constant":
            assert buffer.array is not None
            return buffer.array.reshape(ref.shape)
        array: np.ndarray = workspace.array(self.offsets[buffer], ref.shape, buffer.dtype)
        return array

    def run_host_step(self, step: HostStep, workspace: Workspace, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> None:
        """Run one of the pieces, in a workspace that was begun for the plan with these arrays."""
        arrays = [self._array(r, workspace, inputs, outputs) if isinstance(r, BufferRef) else r for r in step.inputs]
        results = step.run(*arrays)
        for ref, result in itertools.zip_longest(step.outputs, results[: len(step.outputs)]):
            if ref is None:
                continue
            target = self._array(ref, workspace, inputs, outputs)
            found = None if result is None else np.shape(result)
            if found != target.shape:  # NumPy would repeat one element as often as there is room
                raise ShapeError(
                    "a node gave another shape than its operator says",
                    node=step.node,
                    operator=step.operator,
                    expected=target.shape,
                    received="no result" if found is None else found,
                )
            target[...] = result


def build_plan(items: Sequence[KernelCall | HostStep]) -> Plan:
    """Assign memory to the buffers of these calls, build their launches and the native steps.

    Raises
    ------
    ValueError
        From a kernel's builder, when operands do not fit (a fault of the lowering, not of the user).
    """
    items = place(items)
    lives: dict[Buffer, Life] = {}
    views: dict[BufferRef, View] = {}
    starts: dict[Buffer, int] = {}
    for time, item in enumerate(items):
        for ref in (*item.inputs, *item.outputs):
            if not isinstance(ref, BufferRef):
                continue
            view = views.get(ref) or views.setdefault(ref, ref.view())
            if ref.buffer.kind != "arena":
                continue
            root, _ = ref.buffer.place()
            life = lives.setdefault(root, Life(time, time, 0))
            life.last = time
            if ref.buffer not in starts:
                starts[ref.buffer] = ref.start()
            life.nbytes = max(life.nbytes, starts[ref.buffer] + view.nbytes)
            if ref.buffer.fault is not None:
                life.last = len(items)  # read when the steps have run
    arena = assign(list(lives.values()))
    if arena > current().arena_bytes:
        time = max(lives.values(), key=lambda life: life.nbytes).first
        check("arena_bytes", arena, node=items[time].node)
    given = {r.buffer: views[r].nbytes for item in items for r in item.outputs if r is not None and r.buffer.kind == "output"}
    if given:
        check("arena_bytes", sum(given.values()), node=items[-1].node)
    offsets = {buffer: lives[buffer.place()[0]].offset + start for buffer, start in starts.items()}

    steps: list[tuple[Any, list[tuple[str, Any]]]] = []
    pieces: list[tuple[int, int] | HostStep] = []
    reports: list[StepReport] = []
    faults: list[tuple[int, int, int, str, str, str, str]] = []
    first = 0
    for item in items:
        if isinstance(item, HostStep):
            if len(steps) > first:
                pieces.append((first, len(steps) - first))
            pieces.append(item)
            first = len(steps)
            continue
        try:
            launch = kernel(item.kernel).build(
                [None if r is None else views[r] for r in item.inputs], [views[r] for r in item.outputs], **item.params
            )
        except (MemoryError, OverflowError) as error:
            raise ShapeError(f"extents beyond what can be computed with ({error})", node=item.node) from None
        check("arena_bytes", arena + launch.scratch_bytes, node=item.node)
        slots = [_slot(r, offsets) for r in (*item.inputs, *item.outputs)]
        if any(launch.extents[len(slots) :]):
            raise ValueError(f"{launch.kernel}: {len(slots)} operands for {launch.n_args}")
        for operand, ref in enumerate(item.outputs, len(item.inputs)):
            if ref.buffer.fault is not None:
                faults.append((len(steps), operand, views[ref].size, *ref.buffer.fault))
        slots += [("null", 0)] * (launch.n_args - len(slots))  # outputs that may be absent and are
        steps.append((launch, slots))
        reports.append(StepReport(item.node, launch.kernel, launch.flops, launch.nbytes, launch.n_chunks))
    if len(steps) > first:
        pieces.append((first, len(steps) - first))
    return Plan(NativePlan(steps, arena, faults), pieces, offsets, reports, lives)


def _slot(ref: BufferRef | None, offsets: dict[Buffer, int]) -> tuple[str, Any]:
    if ref is None:
        return ("null", 0)
    buffer = ref.buffer
    if buffer.kind == "arena":
        return ("arena", offsets[buffer])
    if buffer.kind == "constant":
        return ("constant", buffer.array)
    return (buffer.kind, buffer.slot)
