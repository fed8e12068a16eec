"""Run one operator on arrays, its launches called alone: the engine behind `cnnengine.functional`.

The same `lower` as in a model chooses kernels and layouts, so a one-node model gives the same bits (but for a few rows of a dense
layer, whose weights are read as they lie). Where the operator's only input is the data, or its kernels read the other inputs as
they are, shapes decide everything and the launches are kept. Weights
are packed anew at each call: they may change between calls, and nothing tells whether an array was written to. Of layers
with small weights the launches are kept too, for each thread, made over stand-ins that weights are copied into and packed from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np

from .._kernels import dispatch, kernel
from ..layout import NO_HALO, aligned_empty
from ..operator import READ_PACKED, READ_PLAIN
from ..runtime.runner import bad_input
from ..runtime.threads import default_threads
from ..spec import TensorSpec, check_size
from .buffers import Buffer, BufferRef
from .emit import Emitter

if TYPE_CHECKING:
    from ..operator import Operator

KEPT = 256
"""Operators with their shapes whose launches are kept."""

STOOD_IN = 1 << 17
"""Bytes of weights up to which they have stand-ins; planning takes no time beside packing more of them."""

SMALL = 4096
"""Elements up to which a result may lie anywhere: aligning it costs more than it saves."""


_Key = tuple[tuple[int, ...], np.dtype]


class _Ready:
    """The launches of one operator at one shape, and the buffers that they work on."""

    def __init__(self, emitter: Emitter, results: list[BufferRef]) -> None:
        self.results = results
        self.emitter = emitter
        self.stand_ins: list[np.ndarray | None] | None = None
        self.sizes: dict[Buffer, int] = {}
        self.steps: list[tuple[Callable[..., None], tuple[BufferRef | None, ...]]] = []
        self.alone = True
        for call in emitter.calls:
            operands = (*call.inputs, *call.outputs)
            launch = kernel(call.kernel).build(
                [None if r is None else r.view() for r in call.inputs], [r.view() for r in call.outputs], **call.params
            )
            small = any(r is not None and r.buffer.dtype.isbuiltin == 2 for r in operands)
            self.steps.append((_by_bits(launch) if small else launch, operands))
            self.alone = self.alone and launch.n_chunks <= 1
            for ref in operands:
                if ref is not None and ref.buffer.kind == "arena":
                    self.sizes[ref.buffer] = ref.view().size
        self.direct = self._direct()

    def _direct(self) -> tuple[Callable[..., None], tuple[int | None, ...], tuple[int, ...], np.dtype] | None:
        """(launch, number of the input for each operand, shape, dtype) where one launch makes one plain result of inputs.

        None stands for an absent operand; the result comes last.
        """
        if len(self.steps) != 1 or len(self.results) != 1:
            return None
        (launch, operands), result = self.steps[0], self.results[0]
        if operands[-1] is not result and (operands[-1] is None or operands[-1].buffer is not result.buffer):
            return None
        if result.buffer.kind != "arena" or result.buffer.lanes:
            return None
        if any(r is not None and r.buffer.kind != "input" for r in operands[:-1]):
            return None
        slots = tuple(None if r is None else r.buffer.slot for r in operands[:-1])
        return launch, slots, result.shape, result.buffer.dtype


def _by_bits(launch: Callable[..., None]) -> Callable[..., None]:
    """The launch for arrays of bfloat16, of which the buffer protocol does not know."""

    def run(*arrays: np.ndarray | None, threads: int) -> None:
        told = [a.view(np.uint16) if a is not None and a.dtype.isbuiltin == 2 and a.itemsize == 2 else a for a in arrays]
        launch(*told, threads=threads)

    return run


def run_operator(
    op: Operator,
    inputs: Sequence[np.ndarray | None],
    *,
    threads: int | None = 1,
    out: np.ndarray | None = None,
    outputs: int | None = None,
) -> list[Any]:
    """The outputs of `op` on these arrays.

    Parameters
    ----------
    op : Operator
    inputs : arrays (native byte order, C-contiguous), None where absent
        The first one is data; the others may be treated as constants.
    threads : int or None
        None for the default, which is asked for where a launch has work for several.
    out : ndarray, optional
        C-contiguous array of the first output's shape and dtype to write into.
    outputs : int, optional
        How many outputs are wanted; all that the operator infers when left out.
    """
    results = by_kernels(op, inputs, threads=threads, out=out, outputs=outputs)
    if results is not None:
        return results
    values = op.evaluate(*inputs)[:outputs]
    if out is not None:
        out[...] = values[0]
        values[0] = out
    return values


def by_kernels(
    op: Operator,
    inputs: Sequence[np.ndarray | None],
    *,
    threads: int | None = 1,
    out: np.ndarray | None = None,
    outputs: int | None = None,
) -> list[Any] | None:
    """As `run_operator`, or None where the operator has no kernels for these inputs."""
    data = inputs[0] if inputs else None
    ready = None
    if data is not None:
        if len(inputs) == 1:
            ready = _kept(op, dispatch.current_isa(), ((data.shape, data.dtype),), outputs)
        elif op.reads == READ_PACKED and sum(a.nbytes for a in inputs[1:] if a is not None) <= STOOD_IN:
            key = tuple([None if a is None else (a.shape, a.dtype) for a in inputs])
            ready = _kept_packing(op, dispatch.current_isa(), key, outputs, get_ident())
        elif op.reads == READ_PLAIN or all(a is None for a in inputs[1:]):
            key = tuple([None if a is None else (a.shape, a.dtype) for a in inputs])
            ready = _kept(op, dispatch.current_isa(), key, outputs)
        if ready is None and len(inputs) > 1:
            specs = [TensorSpec(data.dtype, data.shape), *[None if a is None else TensorSpec.of(a) for a in inputs[1:]]]
            ready = _prepare(op, specs, outputs)
    return None if ready is None or data is None else _execute(ready, inputs, threads, out)


@lru_cache(maxsize=KEPT)
def _kept(op: Operator, isa: str, inputs: tuple[_Key | None, ...], outputs: int | None) -> _Ready | None:
    """`_prepare` for shapes and dtypes alone; `isa` is part of the key."""
    return _prepare(op, [None if i is None else TensorSpec(i[1], i[0]) for i in inputs], outputs)


@lru_cache(maxsize=KEPT // 4)
def _kept_packing(op: Operator, isa: str, inputs: tuple[_Key | None, ...], outputs: int | None, thread: int) -> _Ready | None:
    """`_prepare` with stand-ins for the weights, which are this thread's."""
    data, *others = inputs
    assert data is not None
    stand_ins = [None if i is None else np.zeros(i[0], i[1]) for i in others]
    specs = [TensorSpec(data[1], data[0]), *(None if a is None else TensorSpec.of(a) for a in stand_ins)]
    ready = _prepare(op, specs, outputs)
    if ready is not None:
        ready.stand_ins = stand_ins
    return ready


def _prepare(op: Operator, specs: Sequence[TensorSpec | None], outputs: int | None) -> _Ready | None:
    """Launches for these inputs, or None where the operator has no kernels for them."""
    made = op.specs(specs)
    if not all(s.is_concrete for s in made):
        return None
    for result in made:
        check_size(result.concrete, result.dtype, f"result of {op.op_type}")
    emitter = Emitter(dispatch.lanes(), {}, keeps=False)
    names = []
    for i, spec in enumerate(specs):
        names.append("" if spec is None else f"input {i}")
        if spec is None:
            continue
        if spec.value is None:
            emitter.add_input(names[i], spec.concrete, spec.dtype, i)
        else:
            emitter.add_constant(names[i], spec.value)
    wanted = [f"output {i}" for i in range(len(made))][:outputs]
    absent = [""] * (len(made) - len(wanted))
    if not op.lower(emitter.context(op.op_type, op.op_type, names, wanted + absent, made)):
        return None
    results = [emitter.operand(name, 0, 1, NO_HALO, op.op_type) for name in wanted]
    emitter.pack()
    return _Ready(emitter, results)


def _execute(ready: _Ready, inputs: Sequence[np.ndarray | None], threads: int | None, out: np.ndarray | None) -> list[Any]:
    if threads is None:
        threads = 1 if ready.alone else default_threads()
    if ready.direct is not None:
        direct, slots, shape, dtype = ready.direct
        result = out
        if result is None:
            size = math.prod(shape)
            result = np.empty(shape, dtype) if size <= SMALL else aligned_empty(size, dtype).reshape(shape)
        direct(*[None if s is None else inputs[s] for s in slots], result, threads=threads)
        return [result]
    memory: dict[Buffer, np.ndarray] = {}
    if ready.stand_ins is not None:
        for stand_in, array in zip(ready.stand_ins, inputs[1:], strict=True):
            if stand_in is not None:
                stand_in[...] = array
        memory.update((buffer, ready.emitter.packed_by(key, build)) for buffer, key, build in ready.emitter.builds)
    if out is not None and ready.results[0].buffer.kind == "arena":
        memory[ready.results[0].buffer] = out.reshape(-1)

    def flat(ref: BufferRef | None) -> np.ndarray | None:
        if ref is None:
            return None
        buffer = ref.buffer
        if buffer.kind == "constant":
            return memory.get(buffer, buffer.array)
        if buffer.kind == "input":
            data = inputs[buffer.slot]
            assert data is not None
            return data.reshape(-1)
        if buffer not in memory:
            # an output without elements may be named by no call
            memory[buffer] = aligned_empty(ready.sizes.get(buffer, math.prod(ref.shape)), buffer.dtype)
        return memory[buffer]

    for launch, operands in ready.steps:
        launch(*[flat(r) for r in operands], threads=threads)
    for buffer, words in memory.items():
        if buffer.fault is not None:
            for bad, value, _ in words.reshape(-1, 3).tolist():
                if bad:
                    raise bad_input(*buffer.fault, value)
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
