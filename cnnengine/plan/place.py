"""Placing: tensors in planes that are parts of another one (Concat, Split, Slice along channels) lie inside of it.

Every buffer is written by one node and never changes after, so a copy of whole channel blocks can be left out when both sides
can be the same memory: the part becomes a range of blocks of the whole (`Buffer.parent`, `Buffer.block`), and what makes or
reads the part works on that range. It is the coalescing of register allocation, on calls that are already in order and
layouts that are already chosen:

    a part of a Concat     whose first channel starts a block of the result and that lies nowhere else yet
    a piece of a Split     whose first channel starts a block of the source; nothing else writes the piece
    a Concat in a Concat   whose parts all are parts of a later result, as far from each other (each layer of a DenseNet joins
                           all that was made before): it is a range of the later one, which copies these parts no more

A part may end within a block. The lanes behind it then belong to the next part, which starts within a block and is copied:
when the joining node runs, after the parts before it have been written.

What is placed has one halo, the widest that a member asks for; every member's producer writes it around its own blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..layout import NO_HALO, KernelCall, merge_halos
from .buffers import Buffer, BufferRef


def _blocks(buffer: Buffer) -> bool:
    return buffer.kind == "arena" and buffer.lanes > 0 and buffer.groups == 1


def _fit(part: Buffer, whole: Buffer, channel: int) -> bool:
    """Whether `part` may become blocks of `whole` from this channel on."""
    root = whole.place()[0]
    return (
        _blocks(part)
        and _blocks(whole)
        and part.parent is None
        and part.lanes == whole.lanes
        and part.dtype == whole.dtype
        and (part.fill == root.fill or NO_HALO in (part.halo, root.halo))
        and channel % whole.lanes == 0
        and part.shape[0] == whole.shape[0]
        and part.shape[2:] == whole.shape[2:]
        and root is not part
    )


def _put(part: Buffer, whole: Buffer, channel: int) -> None:
    part.parent, part.block = whole, channel // whole.lanes
    root = whole.place()[0]
    if part.halo != NO_HALO:
        root.fill = part.fill
    root.halo = merge_halos(root.halo, part.halo)


def place(items: Sequence[Any]) -> list[Any]:
    """The items without the copies that placing makes needless; sets `parent` and `block` of the buffers placed.

    Parameters
    ----------
    items : sequence of KernelCall or HostStep
        In the order in which they run.
    """
    writers: dict[Buffer, int] = {}
    joins: dict[Buffer, list[tuple[int, Buffer, int]]] = {}
    cuts: list[tuple[int, Buffer, Buffer, int]] = []
    for index, item in enumerate(items):
        for ref in item.outputs:
            if isinstance(ref, BufferRef):
                writers[ref.buffer] = writers.get(ref.buffer, 0) + 1
        if not isinstance(item, KernelCall) or item.kernel != "copy_planes":
            continue
        source, target = item.inputs[0].buffer, item.outputs[0].buffer
        x_channel, y_channel, channels = (item.params.get(k, 0) for k in ("x_channel", "y_channel", "channels"))
        if channels == source.shape[1]:
            joins.setdefault(target, []).append((index, source, y_channel))
        elif channels == target.shape[1]:
            cuts.append((index, source, target, x_channel))
    # what other kernels write too is no plain join
    joins = {target: parts for target, parts in joins.items() if len(parts) == writers[target]}
    gone: set[int] = set()
    done: list[Buffer] = []
    for target in reversed(joins):
        parts = joins[target]
        found = _inside(target, parts, joins, done)
        if found is not None:
            whole, base = found
            _put(target, whole, base)
            made = {(source, at + base) for _, source, at in parts}
            gone.update(index for index, source, at in joins[whole] if (source, at) in made)
            joins[whole] = [part for part in joins[whole] if (part[1], part[2]) not in made]
            # the parts are looked for where they are made, or those of a join before both would not be found
            joins[whole] += [(index, source, at + base) for index, source, at in parts]
        done.append(target)
    for target in reversed(joins):
        for index, source, at in joins[target]:
            if index not in gone and _fit(source, target, at):
                _put(source, target, at)
                gone.add(index)
    for index, source, target, at in cuts:
        if writers[target] == 1 and index not in gone and _fit(target, source, at):
            _put(target, source, at)
            gone.add(index)
    return [item for index, item in enumerate(items) if index not in gone]


def _inside(
    target: Buffer, parts: list[tuple[int, Buffer, int]], joins: dict[Buffer, list[tuple[int, Buffer, int]]], done: list[Buffer]
) -> tuple[Buffer, int] | None:
    """A later join that has all these parts as far from each other, and the channel where they begin."""
    _, first, first_at = parts[0]
    for whole in done:
        there = {(source, at) for _, source, at in joins[whole]}
        for _, source, at in joins[whole]:
            base = at - first_at
            if source is not first or base < 0 or not _fit(target, whole, base):
                continue
            if all((s, a + base) in there for _, s, a in parts):
                return whole, base
    return None
