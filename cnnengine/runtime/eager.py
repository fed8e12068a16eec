"""Run one operator on arrays, through the kernels' memoryview fronts: the engine behind `cnnengine.functional`.

The same `lower` as in a model chooses kernels and layouts, so a one-node model gives the same bits. Where the operator's only
input is the data, its shape decides everything and the launches are kept; weights are packed anew at each call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .._kernels import BYTE_FRONTS, dispatch, kernel
from ..graph import TensorSpec
from .emit import Buffer, BufferRef, Emitter
from .layout import NO_HALO, aligned_empty

if TYPE_CHECKING:
    from ..ops.base import Operator

KEPT = 256
"""Operators with their shapes whose launches are kept."""


class _Ready:
    """The launches of one operator at one shape, and the buffers that they work on."""

    def __init__(self, emitter: Emitter, results: list[BufferRef]) -> None:
        self.results = results
        self.sizes: dict[Buffer, int] = {}
        self.steps: list[tuple[Callable[..., None], Any, tuple[BufferRef | None, ...], bool]] = []
        for call in emitter.calls:
            build, front = kernel(call.kernel)
            operands = (*call.inputs, *call.outputs)
            launch = build(
                [None if r is None else r.view() for r in call.inputs], [r.view() for r in call.outputs], **call.params
            )
            self.steps.append((front, launch, operands, call.kernel in BYTE_FRONTS))
            for ref in operands:
                if ref is not None and ref.buffer.kind == "arena":
                    self.sizes[ref.buffer] = ref.view().size


def run_operator(
    op: Operator,
    inputs: Sequence[np.ndarray | None],
    *,
    threads: int = 1,
    out: np.ndarray | None = None,
    outputs: int | None = None,
) -> list[Any]:
    """The outputs of `op` on these arrays.

    Parameters
    ----------
    op : Operator
    inputs : arrays (native byte order, C-contiguous), None where absent
        The first one is data; the others may be treated as constants.
    threads : int
    out : ndarray, optional
        C-contiguous array of the first output's shape and dtype to write into.
    outputs : int, optional
        How many outputs are wanted; all that the operator infers when left out.
    """
    data = inputs[0] if inputs else None
    ready = None
    if data is not None:
        if all(a is None for a in inputs[1:]):
            ready = _kept(op, dispatch.current_isa(), (data.shape, data.dtype, len(inputs)), outputs)
        else:
            specs = [TensorSpec(data.dtype, data.shape), *[None if a is None else TensorSpec.of(a) for a in inputs[1:]]]
            ready = _prepare(op, specs, outputs)
    if ready is not None and data is not None:
        return _execute(ready, data, threads, out)
    values = op.reference(*inputs)[:outputs]
    if out is not None:
        out[...] = values[0]
        values[0] = out
    return values


@lru_cache(maxsize=KEPT)
def _kept(op: Operator, isa: str, data: tuple[Any, ...], outputs: int | None) -> _Ready | None:
    """`_prepare` for data alone; `isa` is part of the key."""
    shape, dtype, count = data
    return _prepare(op, [TensorSpec(dtype, shape), *[None] * (count - 1)], outputs)


def _prepare(op: Operator, specs: Sequence[TensorSpec | None], outputs: int | None) -> _Ready | None:
    """Launches for these inputs, or None where the operator has no kernels for them."""
    results = op.infer(specs)[:outputs]
    if not all(s.is_concrete for s in results):
        return None
    emitter = Emitter(dispatch.lanes(), {})
    names = []
    for i, spec in enumerate(specs):
        names.append("" if spec is None else f"input {i}")
        if spec is None:
            continue
        if spec.value is None:
            emitter.add_input(names[i], spec.concrete, spec.dtype, 0)
        else:
            emitter.add_constant(names[i], spec.value)
    wanted = [f"output {i}" for i in range(len(results))]
    if not op.lower(emitter.context(op.op_type, op.op_type, names, wanted, results)):
        return None
    return _Ready(emitter, [emitter.operand(name, 0, 1, NO_HALO, op.op_type) for name in wanted])


def _execute(ready: _Ready, data: np.ndarray, threads: int, out: np.ndarray | None) -> list[Any]:
    memory: dict[Buffer, np.ndarray] = {}
    if out is not None and ready.results[0].buffer.kind == "arena":
        memory[ready.results[0].buffer] = out.reshape(-1)

    def flat(ref: BufferRef | None) -> np.ndarray | None:
        if ref is None:
            return None
        buffer = ref.buffer
        if buffer.kind == "constant":
            return buffer.array
        if buffer.kind == "input":
            return data.reshape(-1)
        if buffer not in memory:
            # an output without elements may be named by no call
            memory[buffer] = aligned_empty(ready.sizes.get(buffer, math.prod(ref.shape)), buffer.dtype)
        return memory[buffer]

    for front, launch, operands, as_bytes in ready.steps:
        front(launch, *[_as_bytes(flat(r), as_bytes) for r in operands], threads=threads)
    values = []
    for i, ref in enumerate(ready.results):
        array = flat(ref)
        assert array is not None
        array = array.reshape(ref.shape)
        if ref.buffer.kind in ("input", "constant"):
            array = array.copy()
        if i == 0 and out is not None:
            if not np.shares_memory(array, out):
                out[...] = array
            array = out
        values.append(array)
    return values


def _as_bytes(buffer: np.ndarray | None, always: bool) -> np.ndarray | None:
    """The buffer as its front takes it: bools are bytes to all of them."""
    if buffer is None or not (always or buffer.dtype == np.bool_):
        return buffer
    return buffer.view(np.uint8)
