"""Emitter: turns operators at concrete shapes into kernel calls over buffers, inserting reorders between layouts.

The Emitter implements the `Lowering` that operators see. It serves whole graphs (lowering) and single layers (functional)
alike, which is why a layer called as a function and a model of one node run the same kernels on the same layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import InputError, ShapeError
from ..layout import ALIGNMENT, NO_HALO, Halo, KernelCall, aligned_copy, aligned_empty, is_mapped, kept, merge_halos
from ..limits import check, look
from ..packing import Build, Copy, Empty, InParts, Scratch, Slab
from ..records import lazy
from ..spec import TensorSpec
from .buffers import WHOLE, Buffer, BufferRef
from .share import share

FLOAT32, UINT8, UINT16 = np.dtype(np.float32), np.dtype(np.uint8), np.dtype(np.uint16)

HALVES = -1
"""In the place of a halo's fill: planes of bfloat16, in which a value of float32 is held."""

ALONE = 4 << 20
"""Bytes of constants that one thread packs sooner than others are started."""


@dataclass(eq=False)
class Value:
    """A tensor and the buffers that hold it, by layout: (lanes, groups), or (lanes, groups, fill of another halo or HALVES)."""

    shape: tuple[int, ...]
    dtype: np.dtype
    constant: np.ndarray | None = None
    refs: dict[tuple[int, ...], BufferRef] = field(default_factory=dict)


def _hold(buffer: Buffer, array: np.ndarray) -> None:
    """Give a constant its values."""
    buffer.array, buffer.shape, buffer.dtype = array, array.shape, array.dtype


@dataclass(eq=False)
class _Pending:
    """A constant that is yet to be packed: where it goes, how it is made, and what its errors are located by."""

    buffer: Buffer
    store: dict[tuple[Hashable, ...], np.ndarray]
    key: tuple[Hashable, ...]
    build: Build
    located: Callable[[], AbstractContextManager[None]]


class Emitter:
    """Collects kernel calls.

    Parameters
    ----------
    lanes : int
        SIMD width of the instruction set.
    packed : dict
        Packed constants by key, shared by all plans of a program.
    winograd : bool or mapping
        Whether convolutions may use Winograd's algorithm, or the tiles of those that do, by the names of their outputs.
    on_pack : callable, optional
        Told the bytes of every constant that is packed, by the thread that packs it.
    slabs : list of Slab, optional
        Where constants are packed: one for each thread, more are added where they are missing.
    keeps : bool
        Whether what is packed serves more than one run.
    """

    def __init__(
        self,
        lanes: int,
        packed: dict[tuple[Hashable, ...], np.ndarray],
        winograd: bool | Mapping[str, tuple[int, int]] = False,
        on_pack: Callable[[int], None] | None = None,
        slabs: list[Slab] | None = None,
        keeps: bool = True,
    ) -> None:
        self.lanes = lanes
        self.winograd = winograd
        self.packed = packed
        self._on_pack = on_pack
        self._slabs = slabs
        self.keeps = keeps
        self._pending: list[_Pending] = []
        self._bytes = 0
        self.located: Callable[[], AbstractContextManager[None]] = nullcontext
        """What tells, in errors, of the node that is lowered."""
        self.undecided: set[Buffer] = set()
        """Buffers that nobody has read yet, whose kernels write the other layout too: planes for plain, plain for planes."""
        self.calls: list[KernelCall] = []
        self.values: dict[str, Value] = {}
        self.local: set[str] = set()
        """Names of constants that belong to this plan alone."""
        self.builds: list[tuple[Buffer, tuple[Hashable, ...], Build]] = []
        """Buffers of constants, and how they were packed."""
        self._constants: dict[tuple[Hashable, ...], Buffer] = {}

    def add_input(self, name: str, shape: tuple[int, ...], dtype: np.dtype, slot: int) -> Value:
        """A value that the caller hands in, plain, at every run."""
        value = Value(shape, dtype)
        value.refs[0, 1] = BufferRef(Buffer("input", shape, dtype, slot=slot), shape)
        self.values[name] = value
        return value

    def add_constant(self, name: str, array: np.ndarray) -> Value:
        value = Value(array.shape, array.dtype, array)
        self.values[name] = value
        return value

    def add_host_output(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> BufferRef:
        """A value that a host step writes, plain."""
        value = Value(shape, dtype)
        self.values[name] = value
        return self._new(value, (0, 1))

    def _new(self, value: Value, key: tuple[int, ...]) -> BufferRef:
        dtype = UINT16 if key[2:] == (HALVES,) else value.dtype
        ref = BufferRef(Buffer("arena", value.shape, dtype, key[0], key[1]), value.shape)
        value.refs[key] = ref
        return ref

    def constant_buffer(self, key: tuple[Hashable, ...], build: Build, nbytes: int = 0) -> BufferRef:
        """The packed constant of this key as an operand; `pack` makes it, from about so many bytes."""
        buffer = self._constants.get(key)
        if buffer is None:
            # what follows from shapes has other values in other plans, under the same name
            store = {} if self.local and any(isinstance(k, str) and k in self.local for k in key) else self.packed
            buffer = self._constants[key] = Buffer("constant", (), FLOAT32)
            if key in store:
                _hold(buffer, store[key])
            else:
                self._pending.append(_Pending(buffer, store, key, build, self.located))
                self._bytes += nbytes
            self.builds.append((buffer, key, build))
        return BufferRef(buffer, WHOLE)

    def pack(self, threads: int = 1) -> None:
        """Make the constants that were asked for, on at most so many threads; what each holds does not depend on them.

        Raises
        ------
        CNNEngineError
            A constant cannot be packed.
        """
        pending, self._pending = self._pending, []
        threads = threads if self._bytes > ALONE else 1
        self._bytes = 0
        if self._slabs is not None:
            self._slabs.extend(Slab() for _ in range(len(self._slabs), threads))
        scratch = [Scratch() for _ in range(threads)]
        jobs: list[Callable[[int], None]] = []
        for one in pending:
            # in parts, a file's pages are given back before the whole is made, and threads share it
            parts = one.build.parts(self.lanes, self._memory(0)) if isinstance(one.build, InParts) else None
            if parts is not None:
                _hold(one.buffer, parts[0])
                jobs.extend(lambda thread, one=one, part=part: self._pack_part(one, part, scratch[thread]) for part in parts[1])  # type: ignore[misc]
            else:
                jobs.append(lambda thread, one=one: self._pack(one, thread))  # type: ignore[misc]
        share(jobs, threads)
        for one in pending:
            assert one.buffer.array is not None
            one.store[one.key] = one.buffer.array

    def _pack(self, one: _Pending, thread: int) -> None:
        with one.located():
            array = self.packed_by(one.key, one.build, thread)
        _hold(one.buffer, array)
        if self._on_pack is not None:
            self._on_pack(array.nbytes)

    def _pack_part(self, one: _Pending, part: Callable[[Scratch], int], scratch: Scratch) -> None:
        with one.located():
            nbytes = part(scratch)
        if self._on_pack is not None:
            self._on_pack(nbytes)

    def _memory(self, thread: int) -> Empty:
        """Where this one of the threads that pack takes memory from."""
        return aligned_empty if self._slabs is None else self._slabs[thread].floats

    def packed_by(self, key: tuple[Hashable, ...], build: Build, thread: int = 0) -> np.ndarray:
        """What `build` gives, flat, in memory that a run may read; in the slab of this one of the threads that pack."""
        array = kept(np.ascontiguousarray(build(self._memory(thread))).reshape(-1))
        # what is packed is read in whole registers; plain tensors may lie anywhere
        aligned = key[0] == "plain" or array.__array_interface__["data"][0] % ALIGNMENT == 0
        return array if aligned else aligned_copy(array)

    def plain_constant(self, name: str, constant: np.ndarray) -> Buffer:
        """The constant of this name as it is, in memory that a run may read, shared by all plans."""
        return self.constant_buffer(("plain", name), Copy(constant), constant.nbytes).buffer

    def host_constant(self, name: str) -> np.ndarray | None:
        """The constant of this name as a host step may hold it; None where the value is no constant."""
        constant = self.values[name].constant
        if constant is None or not is_mapped(constant):
            return None if constant is None else np.asarray(constant)
        buffer = self.plain_constant(name, constant)
        if buffer.array is None:
            self.pack()
        assert buffer.array is not None
        return buffer.array.reshape(constant.shape)

    def operand(self, name: str, lanes: int, groups: int, halo: Halo, node: str, fill: int = 0) -> BufferRef:
        """The value in this layout, reordered here where it is not at hand."""
        value = self.values[name]
        if lanes and groups > 1 and value.shape[1] % groups == 0 and value.shape[1] // groups % lanes == 0:
            groups = 1  # every group is whole blocks: one layout
        key: tuple[int, ...] = (lanes, groups)
        ref = value.refs.get(key)
        if ref is not None and halo != NO_HALO and ref.buffer.halo != NO_HALO and ref.buffer.fill != fill:
            key = (lanes, groups, fill)  # its halo holds what another reader wants there
            ref = value.refs.get(key)
        if ref is None and self.undecided:
            ref = self._decided(value, key)
        if ref is None and value.constant is not None and lanes == 0:
            ref = value.refs[key] = BufferRef(self.plain_constant(name, value.constant), value.shape)
        if ref is None:
            if value.refs and all(held[2:] == (HALVES,) for held in value.refs):
                raise AssertionError(f"{node} reads {name}, which is held in bfloat16 alone, as something else")
            source = value.refs.get((self.lanes, 1)) or (
                next(iter(value.refs.values())) if value.refs else self.operand(name, 0, 1, NO_HALO, node)
            )
            ref = self._new(value, key)
            self.calls.append(KernelCall("reorder", (source,), (ref,), {}, node))
        self.undecided.discard(ref.buffer)
        if lanes:
            if halo != NO_HALO:
                ref.buffer.fill = fill
            ref.buffer.halo = merge_halos(ref.buffer.halo, halo)
        return ref

    def _decided(self, value: Value, key: tuple[int, ...]) -> BufferRef | None:
        """The value in this layout, written by its kernel itself, where it is undecided and tiles transpose to and from it."""
        if len(value.refs) != 1:
            return None
        ((first, other),) = value.refs.items()
        there = key[0] == 0 if first[0] else key[0] == self.lanes or (key[0] == 4 and value.dtype == UINT8)
        if not there or other.buffer not in self.undecided:
            return None
        for index in range(len(self.calls) - 1, -1, -1):
            call = self.calls[index]
            if other in call.outputs:
                self.undecided.discard(other.buffer)
                del value.refs[first]
                ref = self._new(value, key)
                self.calls[index] = replace(call, outputs=tuple(ref if o is other else o for o in call.outputs))
                return ref
        return None

    def context(
        self, node: str, operator: str, names: Sequence[str], outputs: Sequence[str], specs: Sequence[Any]
    ) -> NodeContext:
        """The `Lowering` of one node; `specs` are those of its outputs."""
        return NodeContext(self, node, operator, tuple(names), tuple(outputs), tuple(specs))


class NodeContext:
    """`cnnengine.operator.Lowering` for one node."""

    def __init__(
        self, emitter: Emitter, node: str, operator: str, names: tuple[str, ...], outputs: tuple[str, ...], specs: tuple[Any, ...]
    ) -> None:
        self._emitter = emitter
        self._node = node
        self._operator = operator
        self._names = names
        self._output_names = outputs
        self.lanes = emitter.lanes
        chosen = emitter.winograd
        self.winograd: bool | tuple[int, int] | None = (
            chosen if isinstance(chosen, bool) else chosen.get(outputs[0]) if outputs else None
        )
        self.keeps = emitter.keeps
        self.outputs = specs

    @lazy
    def inputs(self) -> tuple[TensorSpec | None, ...]:
        values = [self._emitter.values[n] if n else None for n in self._names]
        return tuple(None if v is None else TensorSpec(v.dtype, v.shape, v.constant) for v in values)

    def const(self, index: int) -> np.ndarray | None:
        if index >= len(self._names) or not self._names[index]:
            return None
        return self._emitter.values[self._names[index]].constant

    def name(self, index: int) -> str:
        return self._names[index]

    def is_planes(self, index: int) -> bool:
        return self.grouping(index) is not None

    def grouping(self, index: int) -> int | None:
        refs = self._emitter.values[self._names[index]].refs
        return min((key[1] for key in refs if key[0] == self.lanes), default=None)

    def plain(self, index: int) -> BufferRef:
        return self._emitter.operand(self._names[index], 0, 1, NO_HALO, self._node)

    def planes(
        self,
        index: int,
        *,
        halo: Halo = NO_HALO,
        lanes: int | None = None,
        groups: int = 1,
        fill: int | None = None,
        halves: bool = False,
    ) -> BufferRef:
        value = self._emitter.values[self._names[index]]
        expected = FLOAT32 if fill is None else UINT8
        if value.dtype != expected:
            raise InputError(f"must be {expected}", operator=self._operator, tensor=self._names[index], received=value.dtype)
        if not 2 <= len(value.shape) <= 5:
            raise ShapeError("the rank is not supported", operator=self._operator, expected="2 to 5 axes", received=value.shape)
        lanes = self.lanes if lanes is None else lanes
        held = value.refs.get((lanes, 1, HALVES)) if halves else None
        if held is not None:
            held.buffer.halo = merge_halos(held.buffer.halo, halo)
            return held
        return self._emitter.operand(self._names[index], lanes, groups, halo, self._node, fill or 0)

    def _output(self, index: int, key: tuple[int, ...]) -> BufferRef:
        spec = self.outputs[index]
        value = self._emitter.values.get(self._output_names[index]) if self._output_names[index] else None
        if value is None:
            value = Value(tuple(spec.shape), spec.dtype)
            if self._output_names[index]:
                self._emitter.values[self._output_names[index]] = value
        return value.refs.get(key) or self._emitter._new(value, key)

    def wants(self, index: int = 0) -> bool:
        """Whether output `index` is asked for at all."""
        return index < len(self._output_names) and bool(self._output_names[index])

    def out_plain(self, index: int = 0) -> BufferRef:
        return self._output(index, (0, 1))

    def out_any(self, index: int = 0, *, groups: int = 0) -> BufferRef:
        ref = self.out_planes(index, groups=groups) if groups else self.out_plain(index)
        if self.outputs[index].dtype in (FLOAT32, UINT8) and 2 <= len(ref.shape) <= 5:
            self._emitter.undecided.add(ref.buffer)
        return ref

    def out_planes(self, index: int = 0, *, groups: int = 1, halves: bool = False) -> BufferRef:
        shape = self.outputs[index].shape
        if groups > 1 and shape[1] // groups % self.lanes == 0:
            groups = 1
        return self._output(index, (self.lanes, 1, HALVES) if halves else (self.lanes, groups))

    def alias(self, output: int = 0, input: int = 0) -> None:
        if not self.wants(output):
            return
        spec = self.outputs[output]
        value = Value(tuple(spec.shape), spec.dtype)
        value.refs[0, 1] = BufferRef(self.plain(input).buffer, value.shape)
        self._emitter.values[self._output_names[output]] = value

    def same(self, output: int = 0, input: int = 0) -> None:
        if not self.wants(output):
            return
        self._emitter.values[self._output_names[output]] = self._emitter.values[self._names[input]]

    def pack(self, key: tuple[Hashable, ...], build: Build) -> BufferRef:
        constants = [self._emitter.values[name].constant for name in self._names if name]
        return self._emitter.constant_buffer(key, build, max([c.nbytes for c in constants if c is not None], default=0))

    def temp(self, shape: tuple[int, ...], dtype: np.dtype | type = np.float32) -> BufferRef:
        return BufferRef(Buffer("arena", tuple(shape), np.dtype(dtype)), tuple(shape))

    def temp_planes(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype = FLOAT32,
        *,
        lanes: int | None = None,
        groups: int = 1,
        halo: Halo = NO_HALO,
    ) -> BufferRef:
        lanes = self.lanes if lanes is None else lanes
        return BufferRef(Buffer("arena", tuple(shape), dtype, lanes, groups, halo), tuple(shape))

    def faults(self, n: int, text: str = "an index lies outside the axis", tensor: str = "indices") -> BufferRef:
        buffer = Buffer("arena", (3 * n,), np.dtype(np.int64), fault=(self._node, self._operator, text, tensor))
        return BufferRef(buffer, buffer.shape)

    def call(self, kernel: str, inputs: Sequence[Any], outputs: Sequence[Any], /, **params: Any) -> None:
        calls = self._emitter.calls
        if not len(calls) & 1023:  # a stride of the file may ask for as many as it says
            check("steps", len(calls), node=self._node, operator=self._operator)
            look(node=self._node, operator=self._operator)
        calls.append(KernelCall(kernel, tuple(inputs), tuple(outputs), params, self._node))
