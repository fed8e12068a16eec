"""Run one operator on arrays, through the kernels' memoryview fronts: the engine behind `cnnengine.functional`.

The same `lower` as in a model chooses kernels and layouts, so a one-node model gives the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._kernels import BYTE_FRONTS, dispatch, kernel
from ..graph import TensorSpec
from .emit import Buffer, BufferRef, Emitter
from .layout import NO_HALO, aligned_empty

if TYPE_CHECKING:
    from ..ops.base import Operator


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
        The first one is data; the others may be treated as constants (weights are packed anew at each call).
    threads : int
    out : ndarray, optional
        C-contiguous array of the first output's shape and dtype to write into.
    outputs : int, optional
        How many outputs are wanted; all that the operator infers when left out.
    """
    specs = [None if a is None else TensorSpec(a.dtype, a.shape) if i == 0 else TensorSpec.of(a) for i, a in enumerate(inputs)]
    results = op.infer(specs)[:outputs]
    if all(s.is_concrete for s in results):
        emitter = Emitter(dispatch.lanes(), {})
        names = []
        for i, a in enumerate(inputs):
            names.append("" if a is None else f"input {i}")
            if a is not None:
                if i == 0:
                    emitter.add_input(names[i], a.shape, a.dtype, 0)
                else:
                    emitter.add_constant(names[i], a)
        wanted = [f"output {i}" for i in range(len(results))]
        ctx = emitter.context(op.op_type, op.op_type, names, wanted, results)
        if op.lower(ctx):
            refs = [emitter.operand(name, 0, 1, NO_HALO, op.op_type) for name in wanted]
            data = inputs[0]
            assert data is not None
            return _execute(emitter, refs, data, threads, out)
    values = op.reference(*inputs)[:outputs]
    if out is not None:
        out[...] = values[0]
        values[0] = out
    return values


def _execute(emitter: Emitter, refs: list[BufferRef], data: np.ndarray, threads: int, out: np.ndarray | None) -> list[Any]:
    memory: dict[Buffer, np.ndarray] = {}
    result = refs[0].buffer
    if out is not None and result.kind == "arena":
        memory[result] = out.reshape(-1)

    def flat(ref: BufferRef | None) -> np.ndarray | None:
        if ref is None:
            return None
        buffer = ref.buffer
        if buffer.kind == "constant":
            return buffer.array
        if buffer.kind == "input":
            return data.reshape(-1)
        if buffer not in memory:
            memory[buffer] = aligned_empty(ref.view().size, buffer.dtype)
        return memory[buffer]

    for call in emitter.calls:
        build, front = kernel(call.kernel)
        launch = build([None if r is None else r.view() for r in call.inputs], [r.view() for r in call.outputs], **call.params)
        buffers = [flat(r) for r in (*call.inputs, *call.outputs)]
        front(launch, *[_as_bytes(b, call.kernel in BYTE_FRONTS) for b in buffers], threads=threads)
    values = []
    for i, ref in enumerate(refs):
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
