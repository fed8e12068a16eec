"""Rewrites that need shapes: what a pass over the graph cannot decide."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..graph import Node, output_specs
from ..operator import Activation
from ..ops.conv import Conv
from ..ops.dense import MatMul
from ..ops.elementwise import Add, Mul
from ..ops.extend import Pad
from ..ops.fused import (
    ChannelsLastConv,
    ConvChain,
    Dense,
    FusedConv,
    Place,
    ScaledMatMul,
    SoftmaxProduct,
    TakeChannels,
    convolution,
)
from ..ops.gather import Gather
from ..ops.norm import BatchNormalization
from ..ops.pieces import Concat, Slice, Split
from ..ops.reduce import Softmax
from ..ops.shape import Flatten, Identity, Reshape, Squeeze, Unsqueeze
from ..ops.transpose import Transpose
from ..spec import TensorSpec

FLOAT32 = np.dtype(np.float32)

ATTENTION_BYTES = 1 << 20
"""Of keys and values of one matrix that attention packs at most: half of a common second-level cache."""
CHAIN_BYTES = 1 << 19
"""Hidden tensors of an image from this size on are not stored: a quarter of a common second-level cache."""


def _users(nodes: Sequence[Node]) -> Counter[str]:
    """How often each value is read, by subgraphs too."""
    return Counter(itertools.chain.from_iterable([node.reads() for node in nodes]))


def fuse_residuals(
    nodes: Sequence[Node], specs: Mapping[str, TensorSpec], constants: Collection[str], kept: set[str]
) -> list[Node]:
    """Conv or MatMul + Add of a tensor of the same shape (+ activation) -> the same with a residual input.

    A constant vector added to a MatMul becomes its bias (where ranks were not known before). The convolution, or product by a
    constant matrix, must be read by the Add alone, and the other operand must exist before it runs.
    """
    users = _users(nodes)
    made = {name: i for i, node in enumerate(nodes) for name in node.outputs if name}
    result: list[Node | None] = list(nodes)
    for index, node in enumerate(nodes):
        if node.op.op_type != "Add" or len(node.inputs) != 2 or node.inputs[0] == node.inputs[1]:
            continue
        # prefer the operand that is made last: the other one then exists
        first, second = sorted(node.inputs, key=lambda n: made.get(n, -1), reverse=True)
        at = made.get(first, -1)
        conv = result[at] if at >= 0 else None
        if conv is None or first in kept or users[first] != 1 or made.get(second, -1) >= at:
            continue
        by_axis = getattr(node.op, "axis", None) is not None
        fused = _plus(conv, second, specs, () if by_axis else constants, getattr(node.op, "activation", None))
        if fused is None:
            continue
        result[index] = None
        result[at] = replace(fused, outputs=node.outputs)
        made[node.outputs[0]] = at
    return [n for n in result if n is not None]


def fuse_pads(nodes: Sequence[Node], specs: Mapping[str, TensorSpec]) -> list[Node]:
    """Pad by zeros whose widths follow from shapes, also between two Transposes that cancel -> pads of the Conv behind it.

    The Pad and the Transposes stay; they are for the caller to drop where nothing else reads them.
    """
    makers = {name: node for node in nodes for name in node.outputs if name}
    return [_with_pads(node, node.op, makers, specs) if isinstance(node.op, Conv) else node for node in nodes]


def _with_pads(node: Node, op: Conv, makers: Mapping[str, Node], specs: Mapping[str, TensorSpec]) -> Node:
    rank = len(specs[node.inputs[0]].concrete)
    order = tuple(range(rank))
    maker = makers.get(node.inputs[0])
    if maker is not None and isinstance(maker.op, Transpose):
        order = maker.op.order(rank)
        maker = makers.get(maker.inputs[0])
    if (
        maker is None
        or not isinstance(maker.op, Pad)
        or maker.op.mode != "constant"
        or op.auto_pad not in ("NOTSET", "VALID", "")
    ):
        return node
    known = [None if not name else specs[name].value for name in (*maker.inputs[1:], "", "", "")[:3]]
    if any(name and value is None for name, value in zip(maker.inputs[1:], known, strict=False)):
        return node
    pads, value, axes = known
    given = maker.op.pads if maker.op.pads is not None else pads
    filled = np.asarray(maker.op.value if value is None else value)
    if given is None or filled.size != 1 or np.any(filled != 0):
        return node
    chosen = None if axes is None else tuple(int(a) for a in axes.reshape(-1))
    widths = maker.op.resolve(rank, tuple(int(p) for p in np.asarray(given).reshape(-1)), chosen)
    widths = [widths[axis] for axis in order]
    if any(w != (0, 0) for w in widths[:2]) or any(min(w) < 0 for w in widths):
        return node
    source = maker.inputs[0]
    if order != tuple(range(rank)):
        before = makers.get(source)
        if before is None or not isinstance(before.op, Transpose):
            return node
        first = before.op.order(rank)
        if tuple(first[axis] for axis in order) != tuple(range(rank)):
            return node
        source = before.inputs[0]
    old = op.pads if op.pads and op.auto_pad != "VALID" else (0,) * (2 * (rank - 2))
    added = [w[0] for w in widths[2:]] + [w[1] for w in widths[2:]]
    new = replace(op, pads=tuple(int(o) + n for o, n in zip(old, added, strict=True)), auto_pad="NOTSET")
    return node.replace(op=new, inputs=(source, *node.inputs[1:]))


def fuse_affine(nodes: Sequence[Node], specs: dict[str, TensorSpec], constants: Collection[str], kept: set[str]) -> list[Node]:
    """Mul and Add by constants per channel -> one BatchNormalization, which passes over the tensor once.

    Adds the new constants to `specs`. Only values of `constants` count: what follows from shapes differs from plan to plan.
    """
    users = _users(nodes)
    makers = {name: node for node in nodes for name in node.outputs if name}
    result: list[Node] = []
    for node in nodes:
        result.append(node)
        if not isinstance(node.op, Add):
            continue
        shift = _by_channel(node, specs, constants)
        first = None if shift is None else makers.get(node.inputs[shift[0]])
        if shift is None or first is None or not isinstance(first.op, Mul) or first.op.activation is not None:
            continue
        scale = _by_channel(first, specs, constants)
        middle = first.outputs[0]
        if scale is None or users[middle] != 1 or middle in kept:
            continue
        vectors = {"scale": scale[1], "bias": shift[1], "mean": np.zeros_like(scale[1]), "variance": np.ones_like(scale[1])}
        names = []
        for kind, vector in vectors.items():
            names.append(f"{node.outputs[0]} ({kind})")
            specs[names[-1]] = TensorSpec.of(vector)
        op = BatchNormalization(epsilon=0.0, activation=node.op.activation)
        result[-1] = Node(op, (first.inputs[scale[0]], *names), node.outputs, node.name)
    return result


def _by_channel(node: Node, specs: Mapping[str, TensorSpec], constants: Collection[str]) -> tuple[int, np.ndarray] | None:
    """Which input of this Add or Mul is a whole tensor (N, C, spatial...), and the other, a constant, as (C,)."""
    assert isinstance(node.op, (Add, Mul))
    out = specs[node.outputs[0]]
    if node.op.axis is not None or out.dtype != FLOAT32 or not 3 <= len(out.concrete) <= 5:
        return None
    for index in (0, 1):
        value = specs[node.inputs[1 - index]].value
        if value is None or node.inputs[1 - index] not in constants or specs[node.inputs[index]].concrete != out.concrete:
            continue
        c, spatial = out.concrete[1], len(out.concrete) - 2
        if value.size == 1 or (value.shape[-1 - spatial :] == (c, *(1,) * spatial) and value.size == c):
            return index, np.ascontiguousarray(np.broadcast_to(value.reshape(-1), (c,)))
    return None


def _plus(
    node: Node, addend: str, specs: Mapping[str, TensorSpec], constants: Collection[str], activation: Activation | None
) -> Node | None:
    """The convolution or product with `addend` added before `activation`, or None where it cannot be."""
    op, y, other = node.op, specs[node.outputs[0]], specs[addend]
    if not isinstance(op, (Conv, MatMul, Dense)) or op.activation is not None or other.dtype != y.dtype:
        return None
    new: FusedConv | Dense
    if isinstance(op, Conv):
        new = FusedConv(replace(op, activation=activation), residual=True)
    else:
        new = Dense(activation, residual=True)
        w = specs[node.inputs[1]].value
        if w is None or node.inputs[1] not in constants or w.ndim != 2:
            return None
        if y.dtype != FLOAT32 or len(specs[node.inputs[0]].concrete) < 2:
            return None
        # packed once for all plans: what follows from shapes alone differs from plan to plan
        if len(node.inputs) == 2 and addend in constants and other.shape == y.concrete[-1:]:
            return node.replace(op=Dense(activation), inputs=(*node.inputs, addend))
    if other.shape != y.shape or (isinstance(op, Dense) and op.residual):
        return None
    inputs = (*node.inputs, *("",) * (3 - len(node.inputs)), addend)
    return node.replace(op=new, inputs=inputs)


def repeat_channels(nodes: Sequence[Node], specs: dict[str, TensorSpec]) -> list[Node]:
    """Depthwise Conv with several outputs a channel -> TakeChannels, which repeats the channels, + depthwise Conv.

    Groups of one channel with several outputs would lie a block each, most of its lanes empty.
    """
    result: list[Node] = []
    for node in nodes:
        op, conv = node.op, convolution(node.op)
        if conv is not None and node.inputs[1] in specs and _blocked(node.inputs[0], specs):
            x, w = specs[node.inputs[0]], specs[node.inputs[1]]
            c, o = x.concrete[1], w.concrete[0]
            if conv.group == c > 1 and o > c and o % c == 0 and w.concrete[1] == 1 and w.value is not None:
                name = f"{node.outputs[0]} (channels)"
                specs[name] = TensorSpec(x.dtype, (x.concrete[0], o, *x.concrete[2:]))
                take = TakeChannels(tuple(i // (o // c) for i in range(o)))
                result.append(Node(take, node.inputs[:1], (name,), f"{node.name} (channels)"))
                conv = replace(conv, group=o)
                new = replace(op, conv=conv) if isinstance(op, FusedConv) else conv
                node = node.replace(op=new, inputs=(name, *node.inputs[1:]))
        result.append(node)
    return result


Channels = list[tuple[str, int]]
"""For each channel of a value, a value that holds it and where."""


def fuse_channels(nodes: Sequence[Node], specs: Mapping[str, TensorSpec]) -> list[Node]:
    """Channel shuffles, Gather along channels, and Split or Slice of one -> TakeChannels, of a Concat's inputs where it is one.

    A shuffle is Reshape (N, C, ...) -> (N, g, C / g, ...), Transpose of axes 1 and 2, and Reshape back. Nodes that nothing
    reads any more stay; they are for the caller to drop.
    """
    makers = {name: node for node in nodes for name in node.outputs if name}
    result: list[Node] = []
    for node in nodes:
        op: Any = node.op
        if not isinstance(op, (Gather, Split, Slice, Reshape)) or (
            isinstance(op, (Split, Slice)) and _shuffled(node.inputs[0], makers, specs) is None
        ):
            result.append(node)
            continue
        shuffles: list[Channels] = []
        names = [name for name in node.outputs if name]
        for name in names:
            found = _shuffled(name, makers, specs)
            if found is None:
                result.append(node)
                break
            shuffles.append(found)
        else:
            for name, found in zip(names, shuffles, strict=True):
                sources = list(dict.fromkeys(source for source, _ in found))
                starts = dict(zip(sources, np.cumsum([0, *(specs[s].concrete[1] for s in sources)]).tolist(), strict=False))
                op = TakeChannels(tuple(starts[source] + c for source, c in found))
                result.append(Node(op, tuple(sources), (name,), node.name))
    return result


def _blocked(name: str, specs: Mapping[str, TensorSpec]) -> bool:
    """Whether the value may lie in planes and is not empty."""
    spec = specs.get(name)
    return (
        spec is not None
        and spec.value is None
        and spec.dtype == FLOAT32
        and spec.is_concrete
        and 2 <= len(spec.concrete) <= 5
        and 0 not in spec.concrete
    )


def _joined(name: str, makers: Mapping[str, Node], specs: Mapping[str, TensorSpec]) -> Channels:
    """The channels of a value; those of a Concat along channels are its inputs'."""
    node = makers.get(name)
    joined = node is not None and isinstance(node.op, Concat) and node.op.axis in (1, 1 - len(specs[name].concrete))
    parts = node.inputs if node is not None and joined else (name,)
    if len(parts) > TakeChannels.MAX_INPUTS or not all(_blocked(part, specs) for part in parts):
        parts = (name,)
    return [(part, c) for part in parts for c in range(specs[part].concrete[1])]


def _shuffled(name: str, makers: Mapping[str, Node], specs: Mapping[str, TensorSpec]) -> Channels | None:
    """The channels of a value that is a shuffle or a part of one, else None."""
    node = makers.get(name)
    if node is None or not isinstance(node.op, (Gather, Split, Slice, Reshape)) or not _blocked(name, specs):
        return None
    if not node.inputs or not node.inputs[0]:
        return None
    source = node.inputs[0]
    if isinstance(node.op, Gather):
        spec = specs[node.inputs[1]]
        if node.op.axis not in (1, 1 - len(specs[name].concrete)) or not _blocked(source, specs):
            return None
        if spec.value is None or spec.value.ndim != 1 or len(specs[source].concrete) != len(specs[name].concrete):
            return None
        channels, n = _joined(source, makers, specs), specs[source].concrete[1]
        if spec.value.min() < -n or spec.value.max() >= n:
            return None  # the reference raises when it runs
        return [channels[int(c)] for c in spec.value]
    if isinstance(node.op, (Split, Slice)):
        whole = _shuffled(source, makers, specs)
        part = None if whole is None else _range(node, name, specs)
        return None if whole is None or part is None else whole[part[0] : part[1]]
    transpose = makers.get(source)
    first = makers.get(transpose.inputs[0]) if transpose is not None and isinstance(transpose.op, Transpose) else None
    if transpose is None or first is None or not isinstance(first.op, Reshape) or not _blocked(first.inputs[0], specs):
        return None
    assert isinstance(transpose.op, Transpose)
    before, inside = specs[first.inputs[0]].concrete, specs[first.outputs[0]].concrete
    if before != specs[name].concrete or len(inside) < 3 or inside[0] != before[0] or inside[1] * inside[2] != before[1]:
        return None
    if transpose.op.order(len(inside)) != (0, 2, 1, *range(3, len(inside))):
        return None
    channels = _joined(first.inputs[0], makers, specs)
    return [channels[i] for i in np.arange(before[1]).reshape(inside[1:3]).T.reshape(-1).tolist()]


def _resolved_cut(node: Node, specs: Mapping[str, TensorSpec]) -> list[tuple[int, int, int]] | None:
    """(start, step, count) of a Slice along each axis; None where its numbers are known only while it runs."""
    assert isinstance(node.op, Slice)
    values: list[tuple[int, ...] | None] = [node.op.starts, node.op.ends, node.op.axes, None]
    for index, tensor in enumerate(node.inputs[1:]):
        if tensor:
            known = specs[tensor].value
            if known is None:
                return None
            values[index] = tuple(int(v) for v in known.reshape(-1))
    starts, ends, axes, steps = values
    if starts is None or ends is None:
        return None
    return node.op.resolve(specs[node.inputs[0]].concrete, starts, ends, axes, steps)


def _before(node: Node, name: str, specs: Mapping[str, TensorSpec], axis: int) -> int:
    """Extent, along the axis, of the pieces of a Split before one of its outputs; some of them may be absent."""
    return sum(spec.concrete[axis] for spec in output_specs(node, specs)[: node.outputs.index(name)])


def _range(node: Node, name: str, specs: Mapping[str, TensorSpec]) -> tuple[int, int] | None:
    """First channel and end of an output of a Split or Slice that cuts channels alone."""
    x, y = specs[node.inputs[0]].concrete, specs[name].concrete
    rank = len(x)
    if isinstance(node.op, Split):
        if node.op.axis not in (1, 1 - rank):
            return None
        start = _before(node, name, specs, 1)
        return start, start + y[1]
    cut = _resolved_cut(node, specs)
    if cut is None:
        return None
    if any(part != (0, 1, n) for i, (part, n) in enumerate(zip(cut, x, strict=True)) if i != 1) or cut[1][1] != 1:
        return None
    return cut[1][0], cut[1][0] + cut[1][2]


def fuse_chains(nodes: Sequence[Node], specs: Mapping[str, TensorSpec], kept: set[str]) -> list[Node]:
    """1x1 Conv + depthwise Conv, and depthwise Conv + 1x1 Conv, where the tensor between them is large -> ConvChain.

    That tensor must be read by the second convolution alone.
    """
    users = _users(nodes)
    made = {name: i for i, node in enumerate(nodes) for name in node.outputs if name}
    result: list[Node | None] = list(nodes)

    def before(name: str) -> int | None:
        """The node that makes `name`, if nobody else reads it and it is too large to be stored."""
        at = made.get(name)
        if at is None or users[name] != 1 or name in kept:
            return None
        return at if 4 * int(np.prod(specs[name].concrete[1:])) >= CHAIN_BYTES else None

    for index, node in enumerate(nodes):
        current = result[index]
        if current is None:
            continue
        if _is_depthwise(node, specs):
            at = before(node.inputs[0])
            if at is not None and result[at] is nodes[at] and _is_pointwise(nodes[at], specs) and _expands(nodes[at], specs):
                result[at] = None
                result[index] = _chain([nodes[at], node], expand=True, project=False)
        elif _is_pointwise(node, specs):
            at = before(node.inputs[0])
            # a depthwise convolution that is already in a chain stays there: all three in one are no faster
            if at is not None and result[at] is nodes[at] and _is_depthwise(nodes[at], specs):
                result[at] = None
                result[index] = _chain([nodes[at], node], expand=False, project=True)
    return [n for n in result if n is not None]


def fuse_gates_into_weights(nodes: Sequence[Node], specs: Mapping[str, TensorSpec], kept: set[str]) -> list[Node]:
    """x (N, C, H, W) * gate (N, C, 1, 1) + 1x1 Conv -> Conv with a gate, where the weights are fewer than the pixels.

    The product must be read by the convolution alone, and its gate must not be known (then it is folded anyway).
    """
    users = _users(nodes)
    made = {name: i for i, node in enumerate(nodes) for name in node.outputs if name}
    result: list[Node | None] = list(nodes)
    for index, node in enumerate(nodes):
        at, op = made.get(node.inputs[0]) if node.inputs else None, node.op
        mul = None if at is None else nodes[at]
        if (
            at is None
            or mul is None
            or not isinstance(op, (Conv, FusedConv))
            or type(mul.op) is not Mul
            or mul.op.activation is not None
            or not _is_pointwise(node, specs)
        ):
            continue
        y = mul.outputs[0]
        shape = specs[y].concrete
        o, pixels = specs[node.outputs[0]].concrete[1], int(np.prod(shape[2:]))
        if users[y] != 1 or y in kept or shape[1] < 8 or 2 * o > pixels or shape[0] == 0:
            continue
        for x, gate in (mul.inputs, mul.inputs[::-1]):
            if specs[x].shape == shape and specs[gate].shape == (*shape[:2], 1, 1) and specs[gate].value is None:
                inputs = (x, *node.inputs[1:], *("",) * (3 - len(node.inputs)), gate)
                result[at] = None
                result[index] = replace(node, op=replace(FusedConv.of(op), gated=True), inputs=inputs)
                break
    return [n for n in result if n is not None]


def fuse_channels_last(nodes: Sequence[Node], specs: Mapping[str, TensorSpec], kept: set[str]) -> list[Node]:
    """Transpose (N, H, W, C) -> (N, C, H, W) of few channels + Conv -> Conv that reads the image as it is.

    The last of the rewrites: the others take the axes of a convolution's input for (N, C, H, W).
    """
    users = _users(nodes)
    makers = {name: node for node in nodes for name in node.outputs if name}
    result, gone = [], set()
    for node in nodes:
        maker = makers.get(node.inputs[0]) if node.inputs and node.inputs[0] else None
        if (
            maker is not None
            and isinstance(maker.op, Transpose)
            and users[node.inputs[0]] == 1
            and node.inputs[0] not in kept
            and _known_conv(node, specs)
            and specs[maker.inputs[0]].value is None
            and maker.op.order(4) == (0, 3, 1, 2)
            and 1 <= specs[node.inputs[0]].concrete[1] <= 4
            and 0 not in specs[node.outputs[0]].concrete
            and (conv := convolution(node.op)) is not None
            and conv.group == 1
            and max(conv.dilations, default=1) == 1
        ):
            gone.add(id(maker))
            op = ChannelsLastConv(conv, FusedConv.of(node.op).residual)  # type: ignore[arg-type]
            node = node.replace(op=op, inputs=(maker.inputs[0], *node.inputs[1:]))
        result.append(node)
    return [node for node in result if id(node) not in gone]


def _chain(convs: Sequence[Node], *, expand: bool, project: bool) -> Node:
    inputs = [convs[0].inputs[0]]
    for node in convs:
        inputs += [node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else ""]
    last = convs[-1]
    inputs += last.inputs[3:]
    ops = [FusedConv.of(n.op) for n in convs]  # type: ignore[arg-type]
    chain = ConvChain(tuple(op.conv for op in ops), expand, project, residual=ops[-1].residual)
    return replace(last, op=chain, inputs=tuple(inputs))


def _known_conv(node: Node, specs: Mapping[str, TensorSpec]) -> bool:
    """A Conv over two spatial axes of float32 whose weights and bias are known."""
    return (
        convolution(node.op) is not None
        and not (isinstance(node.op, FusedConv) and node.op.gated)
        and all(not n or specs[n].value is not None for n in node.inputs[1:3])
        and len(specs[node.inputs[0]].concrete) == 4
        and specs[node.inputs[0]].dtype == FLOAT32
    )


def _is_pointwise(node: Node, specs: Mapping[str, TensorSpec]) -> bool:
    if not _known_conv(node, specs):
        return False
    conv = convolution(node.op)
    assert conv is not None
    x, w, y = (specs[n].concrete for n in (node.inputs[0], node.inputs[1], node.outputs[0]))
    return conv.group == 1 and w[2:] == (1, 1) and x[2:] == y[2:] and max(conv.strides, default=1) == 1


def _expands(node: Node, specs: Mapping[str, TensorSpec]) -> bool:
    """Whether a 1x1 convolution, with nothing added, reads less than it writes, and whole blocks of channels."""
    x, y = specs[node.inputs[0]].concrete, specs[node.outputs[0]].concrete
    return isinstance(node.op, Conv) and 8 <= x[1] < y[1]


def _is_depthwise(node: Node, specs: Mapping[str, TensorSpec]) -> bool:
    """One channel a group, nothing added, and every row of padding met by the kernel together with a row of the plane."""
    if not _known_conv(node, specs) or not isinstance(node.op, Conv):
        return False
    x, w, y = (specs[n].concrete for n in (node.inputs[0], node.inputs[1], node.outputs[0]))
    if not node.op.group == x[1] == w[0] > 1 or w[1] != 1 or 0 in y:
        return False
    window = node.op.window(w)
    _, begins, _ = window.resolve(x[2:])
    return bool(0 <= begins[0] < window.extent[0])


def fuse_attention(nodes: Sequence[Node], specs: Mapping[str, TensorSpec], kept: set[str]) -> list[Node]:
    """MatMul of values that are scaled by numbers known by now, or whose last axes were swapped -> ScaledMatMul.

    Attention is written so: (q * s) @ (Transpose(k) * s), or (q @ Transpose(k)) * s. What made the operands goes where nothing
    else reads it, and so does a product that only its scaling reads.
    """
    users = _users(nodes)
    makers = {name: node for node in nodes for name in node.outputs if name}
    changes: dict[int, Node] = {}
    gone: set[int] = set()
    for node in nodes:
        op = node.op
        if not isinstance(op, MatMul) or any(specs[n].value is not None for n in node.inputs):
            continue
        inputs, scale, swapped, used = list(node.inputs), 1.0, False, set()
        for i in (0, 1):
            while True:
                maker = makers.get(inputs[i])
                if maker is None or users[inputs[i]] != 1 or inputs[i] in kept or specs[inputs[i]].dtype != FLOAT32:
                    break
                number = _scaled_by(maker, specs)
                if number is not None:
                    scale *= number[1]
                    inputs[i] = number[0]
                elif (
                    i == 1
                    and isinstance(maker.op, Transpose)
                    and maker.op.order(rank := len(specs[inputs[1]].concrete))
                    == (
                        *range(rank - 2),
                        rank - 1,
                        rank - 2,
                    )
                ):
                    swapped = not swapped
                    inputs[i] = maker.inputs[0]
                else:
                    break
                used.add(id(maker))
        if used and np.isfinite(np.float32(scale)) and specs[inputs[1]].value is None and specs[inputs[0]].value is None:
            changes[id(node)] = node.replace(op=ScaledMatMul.of(op, scale, swapped), inputs=tuple(inputs))
            gone |= used
    for node in nodes:
        number = _scaled_by(node, specs) if id(node) not in gone else None
        product = None if number is None else makers.get(number[0])
        if number is None or product is None or users[number[0]] != 1 or number[0] in kept or specs[number[0]].dtype != FLOAT32:
            continue
        product = changes.get(id(product), product)
        op = product.op
        if not isinstance(op, (MatMul, ScaledMatMul)) or op.activation is not None:
            continue
        scale, swapped = (op.scale, op.transposed) if isinstance(op, ScaledMatMul) else (1.0, False)
        scale *= number[1]
        if any(specs[n].value is not None for n in product.inputs) or not np.isfinite(np.float32(scale)):
            continue
        changes[id(node)] = product.replace(op=ScaledMatMul.of(op, scale, swapped), outputs=node.outputs)
        gone.add(id(makers[number[0]]))
    return [changes.get(id(n), n) for n in nodes if id(n) not in gone]


def _scaled_by(node: Node, specs: Mapping[str, TensorSpec]) -> tuple[str, float] | None:
    """(x, s) when the node is x * s or x / s for a finite number s and makes a value of x's shape."""
    if node.op.op_type not in ("Mul", "Div") or len(node.inputs) != 2 or getattr(node.op, "activation", None) is not None:
        return None
    for i in (1, 0) if node.op.op_type == "Mul" else (1,):
        value, x = specs[node.inputs[i]].value, node.inputs[1 - i]
        if value is None or value.size != 1 or specs[x].shape != specs[node.outputs[0]].shape:
            continue
        number = float(value.reshape(-1)[0])
        if not np.isfinite(number) or number == 0:
            return None
        return x, number if node.op.op_type == "Mul" else 1 / number
    return None


def fuse_softmax_products(nodes: Sequence[Node], specs: Mapping[str, TensorSpec], kept: set[str]) -> list[Node]:
    """MatMul or ScaledMatMul + Softmax of the last axis + MatMul -> SoftmaxProduct, where nothing else reads between.

    q, k and v are read where they lie in what Transpose, Split, Slice, Squeeze, Gather and Reshape made them of, and a Transpose
    of the result is done while it is written. Nodes that nothing reads any more stay; they are for the caller to drop.
    """
    users = _users(nodes)
    makers = {name: node for node in nodes for name in node.outputs if name}
    readers = {name: node for node in nodes for name in node.inputs if name and users[name] == 1}
    changes: dict[int, Node | None] = {}

    def alone(name: str) -> bool:
        return users[name] == 1 and name not in kept and specs[name].dtype == FLOAT32

    for node in nodes:
        softmax = makers.get(node.inputs[0]) if isinstance(node.op, MatMul) else None
        scores = None if softmax is None or not isinstance(softmax.op, Softmax) else makers.get(softmax.inputs[0])
        if softmax is None or not isinstance(softmax.op, Softmax):
            continue
        if scores is None or not isinstance(scores.op, (MatMul, ScaledMatMul)):
            continue
        names = (*scores.inputs, node.inputs[1])
        first, last, axis = scores.op, node.op, softmax.op.axis
        if any(specs[n].value is not None or specs[n].dtype != FLOAT32 for n in names):
            continue
        rank = len(specs[node.outputs[0]].concrete)
        if not (alone(node.inputs[0]) and alone(softmax.inputs[0])) or rank < 2 or axis not in (-1, rank - 1):
            continue
        scale, transposed = (first.scale, first.transposed) if isinstance(first, ScaledMatMul) else (1.0, False)
        if first.activation is not None or last != MatMul() or not np.isfinite(np.float32(scale)):
            continue
        places = [_place(n, makers, specs, rows=i != 1) for i, n in enumerate(names)]
        (q_name, q), (k_name, k), (v_name, v) = places
        if not transposed:
            k = (_swapped(k[0]), _swapped(k[1]), k[2])
        *batch, n, e = v[0]
        d = q[0][-1]
        if len({len(p[0]) for p in (q, k, v)}) != 1 or list(q[0][:-2]) != batch or list(k[0][:-2]) != batch:
            continue
        if len(batch) > 8 or 0 in (*q[0], *k[0], *v[0]) or 4 * n * (d + e) > ATTENTION_BYTES or q[1][-1] != 1 or v[1][-1] != 1:
            continue
        if 1 not in k[1][-2:]:
            continue
        order, outputs = tuple(range(rank)), node.outputs
        after = readers.get(node.outputs[0])
        if (
            after is not None
            and alone(node.outputs[0])
            and isinstance(after.op, Transpose)
            and after.op.order(rank)[-1] == rank - 1
        ):
            order, outputs = after.op.order(rank), after.outputs
            changes[id(after)] = None
        changes[id(scores)] = changes[id(softmax)] = None
        changes[id(node)] = Node(SoftmaxProduct(q, k, v, order, scale), (q_name, k_name, v_name), outputs, node.name)
    return [new for new in (changes.get(id(n), n) for n in nodes) if new is not None]


def _swapped(pair: tuple[int, ...]) -> tuple[int, ...]:
    return (*pair[:-2], pair[-1], pair[-2])


def _place(name: str, makers: Mapping[str, Node], specs: Mapping[str, TensorSpec], rows: bool) -> tuple[str, Place]:
    """A value as a strided part of the first tensor before it that is computed, its rows contiguous where `rows`."""
    source, view, offset = _strided(name, makers, specs)
    if rows and view.strides[-1] != 1 and view.shape[-1] > 1:
        source, view, offset = name, _dense(specs[name].concrete), 0
    strides = view.strides if view.shape[-1] > 1 or not rows else (*view.strides[:-1], 1)
    return source, (view.shape, strides, offset)


def _dense(shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape, C-contiguous, of items of one byte; none of them exists."""
    strides = tuple(int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))
    return np.lib.stride_tricks.as_strided(np.empty(1, np.int8), shape, strides, writeable=False)


def _strided(name: str, makers: Mapping[str, Node], specs: Mapping[str, TensorSpec]) -> tuple[str, np.ndarray, int]:
    """(source, view, offset): the value is this view of a contiguous source; NumPy's views do the arithmetic."""
    node, whole = makers.get(name), (name, _dense(specs[name].concrete), 0)
    if node is None or not node.inputs or specs[name].value is not None:
        return whole
    op, shape = node.op, specs[name].concrete
    if not isinstance(op, (Flatten, Gather, Identity, Reshape, Slice, Split, Squeeze, Transpose, Unsqueeze)):
        return whole
    source, view, offset = _strided(node.inputs[0], makers, specs)
    if isinstance(op, Transpose):
        return source, view.transpose(op.order(view.ndim)), offset
    if isinstance(op, (Split, Slice)):
        starts = _starts(node, name, specs)
        if starts is None:
            return whole
        offset += sum(start * step for start, step in zip(starts, view.strides, strict=True))
        return source, view[tuple(slice(extent) for extent in shape)], offset
    if isinstance(op, Gather):
        index, axis = specs[node.inputs[1]].value, op.axis % view.ndim
        if index is None or index.size != 1 or not -view.shape[axis] <= int(index.reshape(-1)[0]) < view.shape[axis]:
            return whole
        offset += int(index.reshape(-1)[0]) % view.shape[axis] * view.strides[axis]
        view = view[(slice(None),) * axis + (slice(1),)]
    try:
        view = view[...]
        view.shape = shape
    except AttributeError:  # not without a copy
        return whole
    return source, view, offset


def _starts(node: Node, name: str, specs: Mapping[str, TensorSpec]) -> list[int] | None:
    """Where an output of a Split, or of a Slice of step 1, starts in the input, per axis."""
    x = specs[node.inputs[0]].concrete
    if isinstance(node.op, Split):
        starts, axis = [0] * len(x), node.op.axis % len(x)
        starts[axis] = _before(node, name, specs, axis)
        return starts
    cut = _resolved_cut(node, specs)
    if cut is None:
        return None
    return [start for start, _, _ in cut] if all(step == 1 for _, step, _ in cut) else None
