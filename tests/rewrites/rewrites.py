"""Graphs for every rewrite: what it matches, in several forms, and what comes near.

A `Draft` is a small ONNX model that can still be changed. `PATTERNS` draft what each rewrite of `cnnengine.rewrites`
looks for; `CHANGES` turn a draft into a neighbour: another axis, constant, order of operands, dtype
or rank of a constant, an extent of 1, one more reader, an inner value as an output. A neighbour may be a match too, or no valid
model at all. All choices come from one random generator, so that a case is a pattern's name and a seed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSETS = (11, 13, 17, 18, 21)
COMMUTATIVE = frozenset(["Add", "Mul", "Sum", "Max", "Min"])


class Op:
    """A node of a draft."""

    def __init__(self, kind: str, inputs: list[str], outputs: list[str], attributes: dict[str, Any]) -> None:
        self.kind, self.inputs, self.outputs, self.attributes = kind, inputs, outputs, attributes


class Draft:
    """A model that is being made."""

    def __init__(self, seed: str, plainly: bool = False) -> None:
        self.pick = random.Random(seed)
        self.rng = np.random.default_rng(self.pick.getrandbits(32))
        self.plainly = plainly
        """No extents of 1 and nothing else that may keep a pattern from matching."""
        self.opset = self.one(*OPSETS)
        self.nodes: list[Op] = []
        self.constants: dict[str, np.ndarray] = {}
        self.feeds: dict[str, np.ndarray] = {}
        self.outputs: list[str] = []
        self.shown: set[str] = set()
        """Constants that are inputs of the graph too: defaults."""
        self.scales: list[str] = []
        """Constants that say what a step of quantised numbers is."""
        self.symbolic: set[str] = set()
        self.notes: list[str] = []

    # ---------------------------------------------------------------- choices

    def one(self, *choices: Any) -> Any:
        return self.pick.choice(choices)

    def maybe(self, share: float = 0.5) -> bool:
        return self.pick.random() < share

    def extent(self, *usual: int) -> int:
        return 1 if not self.plainly and self.maybe(0.15) else self.one(*usual)

    def shape(self, rank: int, channels: Sequence[int] = (3, 5, 8, 9)) -> tuple[int, ...]:
        """(N, C, spatial...); all the same now and then, so that other axes fit as well."""
        if not self.plainly and self.maybe(0.25):
            return (self.one(*[n for n in (4, 6, *channels) if n < 7]),) * rank
        return (self.extent(2, 3), self.extent(*channels), *(self.extent(4, 5, 6) for _ in range(rank - 2)))[:rank]

    def near(self, share: float = 0.2) -> bool:
        """Whether to draft what comes near, here."""
        return not self.plainly and self.maybe(share)

    def thinned(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape, now and then with an axis of extent 1, which parameters of the whole shape widen."""
        axis = self.one(1, self.pick.randrange(len(shape))) if self.near(0.25) else -1
        return tuple(1 if i == axis else n for i, n in enumerate(shape))

    def like(self, shape: Sequence[int]) -> tuple[int, ...]:
        """A shape that broadcasts to this one."""
        return tuple(n if self.maybe() else 1 for n in shape)[self.pick.randint(0, len(shape)) :]

    def order(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Two operands in either order."""
        return (a, b) if self.maybe() else (b, a)

    def vector_for(self, axis: int, shape: Sequence[int]) -> tuple[int, ...]:
        """A shape of one number per element of an axis, as broadcasting aligns it."""
        full = [1] * len(shape)
        full[axis] = shape[axis]
        leading = self.pick.randint(0, axis)
        return tuple(full[leading:])

    # ---------------------------------------------------------------- values

    def feed(self, *shape: int, scale: float = 1.5) -> str:
        name = f"x{len(self.feeds)}"
        self.feeds[name] = (self.rng.standard_normal(shape) * scale).astype(np.float32)
        return name

    def x(self, *shape: int, scale: float = 1.5) -> str:
        """A value of this shape: an input, or what a node makes of one."""
        name = self.feed(*shape, scale=scale)
        return self.n(self.one("Tanh", "Abs", "Neg"), name) if self.maybe(0.3) else name

    def c(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.array(value, dtype)
        return name

    def r(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> str:
        return self.c(self.rng.standard_normal(shape) * scale + shift)

    def ints(self, *values: int) -> str:
        return self.c(values, np.int64)

    def number(self, value: float) -> str:
        """A constant of one element, of rank 0 or 1, or of one that may widen what it meets."""
        if self.near(0.05):
            return self.c(np.full((1,) * self.pick.randint(2, 5), value))
        return self.c(value if self.plainly or self.maybe(0.7) else [value])

    def n(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"v{len(self.nodes)}" + (f".{i}" if i else "") for i in range(outputs)]
        self.nodes.append(Op(kind, list(inputs), names, attributes))
        return names[0] if outputs == 1 else names

    # ---------------------------------------------------------------- operators whose form depends on the opset

    def reduce(self, kind: str, x: str, axes: Sequence[int], keepdims: int = 1) -> str:
        if self.opset >= 18:
            return self.n(kind, x, self.ints(*axes), keepdims=keepdims)
        return self.n(kind, x, axes=list(axes), keepdims=keepdims)

    def clip(self, x: str, low: float | None, high: float | None) -> str:
        return self.n("Clip", x, "" if low is None else self.c(low), *([] if high is None else [self.c(high)]))

    def split(self, x: str, sizes: Sequence[int], axis: int) -> list[str]:
        if self.opset >= 13:
            return self.n("Split", x, self.ints(*sizes), outputs=len(sizes), axis=axis)
        return self.n("Split", x, outputs=len(sizes), axis=axis, split=list(sizes))

    def squeeze(self, x: str, *axes: int) -> str:
        return self.n("Squeeze", x, self.ints(*axes)) if self.opset >= 13 else self.n("Squeeze", x, axes=list(axes))

    def conv(self, x: str, c: int, o: int, kernel: Sequence[int], bias: bool | None = None, **attributes: Any) -> str:
        group = attributes.get("group", 1)
        w = self.r(o, c // group, *kernel, scale=1 / math.sqrt(c // group * math.prod(kernel)))
        extra = [self.r(o, scale=0.3)] if (self.maybe() if bias is None else bias) else []
        return self.n("Conv", x, w, *extra, **attributes)

    def same(self, x: str, shape: Sequence[int], kernel: int = 3, **attributes: Any) -> str:
        """A convolution that keeps the shape."""
        spatial = len(shape) - 2
        pads = [kernel // 2] * 2 * spatial
        return self.conv(x, shape[1], shape[1], [kernel] * spatial, pads=pads, **attributes)

    def linear(self, rank: int) -> tuple[str, tuple[int, ...]]:
        """What Conv, ConvTranspose or Gemm makes, and its shape."""
        shape = self.shape(rank)
        o = self.extent(4, 6, 8)
        if rank == 2:
            transposed = self.one(0, 1)
            w = self.r(*((o, shape[1]) if transposed else (shape[1], o)), scale=0.5)
            extra = [self.c(self.rng.standard_normal(self.one((o,), (1, o), (1,))))] if self.maybe() else []
            scales = {"alpha": self.one(1.0, 0.5), "beta": self.one(1.0, 2.0)}
            return self.n("Gemm", self.x(*shape), w, *extra, transB=transposed, **scales), (shape[0], o)
        spatial = shape[2:]
        group = self.one(*[g for g in (1, 2, 3) if shape[1] % g == 0 and o % g == 0])
        k = [min(3, n) for n in spatial]
        x = self.x(*shape)
        if self.maybe(0.3):
            w = self.r(shape[1], o // group, *k, scale=0.3)
            extra = [self.r(o, scale=0.3)] if self.maybe() else []
            y = self.n("ConvTranspose", x, w, *extra, group=group)
            return y, (shape[0], o, *(n + q - 1 for n, q in zip(spatial, k, strict=True)))
        y = self.conv(x, shape[1], o, k, group=group)
        return y, (shape[0], o, *(n - q + 1 for n, q in zip(spatial, k, strict=True)))

    # ---------------------------------------------------------------- the model

    def give(self, *names: str) -> None:
        self.outputs += [n for n in names if n not in self.outputs]

    def step(self) -> float:
        """How far roundings to steps may be apart: not at all while steps are powers of two, so that floats are exact."""
        values = np.concatenate(
            [np.abs(v).reshape(-1) for n in self.scales if (v := self._value(n)) is not None] or [np.zeros(0)]
        )
        exact = all(np.frexp(v)[0] == 0.5 for v in values if v)
        return 0.0 if exact else float(values.max())

    def _value(self, name: str) -> np.ndarray | None:
        return self.constants.get(name, self.feeds.get(name))

    def proto(self) -> onnx.ModelProto:
        inputs = []
        for name, value in self.feeds.items():
            dims: list[Any] = list(value.shape)
            if name in self.symbolic:
                dims = ["N" if i == 0 else f"d{i}" if self.opset % 2 else d for i, d in enumerate(dims)]
            inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), dims))
        for name in sorted(self.shown):
            value = self.constants[name]
            inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape))
        nodes = [
            helper.make_node(o.kind, o.inputs, o.outputs, name=f"{o.kind} {i}", **o.attributes) for i, o in enumerate(self.nodes)
        ]
        graph = helper.make_graph(
            nodes,
            "draft",
            inputs,
            [onnx.ValueInfoProto(name=n) for n in self.outputs],
            [numpy_helper.from_array(v, n) for n, v in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


Pattern = Callable[[Draft], None]
PATTERNS: dict[str, Pattern] = {}


def pattern(rewrite: str) -> Callable[[Pattern], Pattern]:
    """Register what drafts a match of this rewrite; several may."""

    def add(make: Pattern) -> Pattern:
        PATTERNS[f"{rewrite}: {make.__name__}"] = make
        return make

    return add


# -------------------------------------------------------------------- rewrites before shapes are known


@pattern("resolve_castlike")
def cast_like(d: Draft) -> None:
    d.opset = d.one(15, 17, 21)
    x = d.x(*d.shape(d.one(2, 4)))
    y = d.n("CastLike", x, d.c(d.one(1.0, [1.0, 2.0]), d.one(np.float32, np.float64, np.int32, np.float16)))
    d.give(d.n("Cast", y, to=onnx.TensorProto.FLOAT))


@pattern("remove_identity")
def nothing_done(d: Draft) -> None:
    shape = d.shape(d.one(2, 3, 4, 5))
    fewer = d.near(0.3)
    shape = (*shape[:-1], 1) if fewer else shape
    x, rank = d.n("Tanh", d.feed(*shape)), len(shape)
    kind = d.pick.randrange(6)
    if kind == 0:
        y = d.n(d.one("Identity", "Dropout"), x)
    elif kind == 1:
        to = onnx.TensorProto.FLOAT if d.plainly or d.maybe() else d.one(onnx.TensorProto.DOUBLE, onnx.TensorProto.INT32)
        y = d.n("Cast", x, to=to)
        if to != onnx.TensorProto.FLOAT:
            d.give(y)
            return
    elif kind == 2:
        y = d.n("Transpose", x, perm=list(range(rank)))
    elif kind == 3:
        y = d.n("Concat", x, axis=d.pick.randrange(-rank, rank))
    elif kind == 4:
        y = d.n("Reshape", x, d.ints(*[0] * (rank - fewer)))
    else:
        y = d.n("Pad", x, d.ints(*[0] * 2 * rank), mode=d.one("constant", "edge", "reflect"))
    d.give(d.n("Relu", y))


@pattern("fold_constants")
def constant_arithmetic(d: Draft) -> None:
    shape = d.shape(4)
    a, b = d.r(shape[1], 1, 1), d.r(1, shape[1], 1, 1)
    factor = d.n(d.one("Add", "Mul", "Sub"), a, b)
    if d.maybe():
        factor = d.n("Reshape", factor, d.ints(shape[1], 1, 1))
    d.give(d.n("Mul", *d.order(d.x(*shape), factor)))


def _branches(d: Draft, x: str, reads: str, outputs: int) -> dict[str, onnx.GraphProto]:
    found = {}
    for i, branch in enumerate(("then", "else")):
        nodes, names = [], []
        for k in range(outputs):
            names.append(f"{branch}{k}")
            kind = d.one("Add", "Mul", "Sub")
            nodes.append(helper.make_node(kind, [x, reads] if k == i else [reads, x], [names[-1]], name=names[-1]))
        found[f"{branch}_branch"] = helper.make_graph(nodes, branch, [], [onnx.ValueInfoProto(name=n) for n in names])
    return found


@pattern("inline_if")
def chosen_branch(d: Draft) -> None:
    shape = d.shape(4)
    x, factor = d.x(*shape), d.r(*d.vector_for(1, shape))
    condition = d.c(d.maybe(), np.bool_)
    y = d.n("If", condition, outputs=2, **_branches(d, x, factor, 2))
    d.give(d.n("Relu", y[0]), *y[1:])


@pattern("bind_constants")
def captured_constants(d: Draft) -> None:
    shape = d.shape(d.one(2, 4))
    x, factor = d.x(*shape), d.r(*d.vector_for(1, shape))
    d.feeds["choose"] = np.array(d.maybe())
    d.give(d.n("Relu", d.n("If", "choose", **_branches(d, x, factor, 1))))


@pattern("widen_half")
def halves(d: Draft) -> None:
    shape = d.shape(4)
    y = d.same(d.n("Tanh", d.feed(*shape)), shape)
    y = d.n("Mul", *d.order(y, d.r(*d.vector_for(1, shape))))
    d.give(d.n("Concat", d.n("Relu", y), y, axis=1))
    _halved(d, np.float16)


@pattern("fold_sequences")
def pieces(d: Draft) -> None:
    shape = d.shape(d.one(2, 3, 4), channels=(6, 8))
    axis = d.pick.randrange(len(shape))
    size = d.pick.randint(1, max(1, shape[axis] - 1))
    rest = shape[axis] - size
    split = d.c(size, np.int64) if d.maybe() else d.ints(*([size, rest] if rest else [size]))
    s = d.n("SplitToSequence", d.x(*shape), split, axis=axis)
    d.give(d.n("Abs", d.n("SequenceAt", s, d.c(0, np.int64))))
    if rest and d.maybe():
        d.give(d.n("Neg", d.n("SequenceAt", s, d.c(d.one(1, -1) if len(d.constants[split].shape) else 1, np.int64))))


@pattern("common_subexpressions")
def twins(d: Draft) -> None:
    shape = d.shape(d.one(2, 4))
    x = d.x(*shape)
    value = d.rng.standard_normal(d.vector_for(1, shape))
    kind = d.one("Add", "Mul", "Sub", "Max")
    other = value if d.plainly or d.maybe() else value.reshape(d.one((1, *value.shape), value.shape[::-1], (-1,), (-1, 1)))
    a, b = (d.n(kind, x, d.c(v)) for v in (value, other))
    d.give(d.n("Add", *d.order(d.n("Relu", a), d.n("Tanh", b))))


@pattern("cancel_transposes")
def two_transposes(d: Draft) -> None:
    shape = d.shape(d.one(2, 3, 4, 5))
    first, second = (d.pick.sample(range(len(shape)), len(shape)) for _ in "ab")
    middle = d.n("Transpose", d.x(*shape), perm=first)
    d.give(d.n("Abs", d.n("Transpose", middle, perm=second)))


def _gate_input(d: Draft) -> str:
    return d.x(*d.shape(d.one(2, 3, 4, 5)))


@pattern("fuse_gates")
def swish(d: Draft) -> None:
    x = _gate_input(d)
    d.give(d.n("Mul", *d.order(x, d.n("Sigmoid", x))))


@pattern("fuse_gates")
def hard_swish(d: Draft) -> None:
    x = _gate_input(d)
    if d.maybe():
        d.give(d.n("Mul", *d.order(x, d.n("HardSigmoid", x, alpha=1 / 6, beta=0.5))))
        return
    gate = d.clip(d.n("Add", *d.order(x, d.number(3.0))), 0.0, 6.0)
    if d.maybe():
        d.give(d.n("Div", d.n("Mul", *d.order(x, gate)), d.number(6.0)))
    else:
        d.give(d.n("Mul", *d.order(x, d.n("Div", gate, d.number(6.0)))))


@pattern("fuse_gates")
def mish(d: Draft) -> None:
    x = _gate_input(d)
    d.give(d.n("Mul", *d.order(x, d.n("Tanh", d.n("Softplus", x)))))


@pattern("fuse_gates")
def gelu(d: Draft) -> None:
    x = _gate_input(d)
    root = d.n("Div", x, d.number(math.sqrt(2))) if d.maybe() else d.n("Mul", *d.order(x, d.number(math.sqrt(0.5))))
    gate = d.n("Add", *d.order(d.n("Erf", root), d.number(1.0)))
    if d.maybe():
        d.give(d.n("Mul", *d.order(d.n("Mul", *d.order(x, gate)), d.number(0.5))))
    else:
        d.give(d.n("Mul", *d.order(d.n("Mul", *d.order(x, d.number(0.5))), gate)))


@pattern("fuse_gates")
def gelu_tanh(d: Draft) -> None:
    x = _gate_input(d)
    if d.maybe():
        cube = d.n("Pow", x, d.number(3.0)) if d.maybe() else d.n("Mul", *d.order(x, d.n("Mul", x, x)))
        inner = d.n("Add", *d.order(x, d.n("Mul", *d.order(cube, d.number(0.044715)))))
    else:
        square = d.n("Mul", *d.order(d.n("Mul", x, x), d.number(0.044715)))
        inner = d.n("Mul", *d.order(x, d.n("Add", *d.order(square, d.number(1.0)))))
    tanh = d.n("Tanh", d.n("Mul", *d.order(inner, d.number(math.sqrt(2 / math.pi)))))
    gate = d.n("Add", *d.order(tanh, d.number(1.0)))
    d.give(d.n("Mul", *d.order(d.n("Mul", *d.order(x, gate)), d.number(0.5))))


def _moments(d: Draft, x: str, axes: Sequence[int]) -> tuple[str, str, str]:
    """Mean, x - mean, and variance + epsilon."""
    mean = d.reduce("ReduceMean", x, axes)
    centred = d.n("Sub", x, mean)
    if d.near(0.1):  # of another value
        centred = d.n("Sub", d.n("Abs", x), mean)
    if d.near(0.1):  # over other axes
        axes = [0]
    kind = d.pick.randrange(3)
    if kind == 0:
        variance = d.reduce("ReduceMean", d.n("Pow", centred, d.number(2.0)), axes)
    elif kind == 1:
        variance = d.reduce("ReduceMean", d.n("Mul", centred, centred), axes)
    else:
        squares = d.reduce("ReduceMean", d.n("Mul", x, x), axes)
        variance = d.n("Sub", squares, d.n("Mul", mean, mean))
    return mean, centred, d.n("Add", *d.order(variance, d.number(0.05)))


def _norm_axes(d: Draft, shape: Sequence[int]) -> tuple[list[int], tuple[int, ...]]:
    """Axes of a norm, and the shape of its parameters."""
    rank = len(shape)
    kind = d.pick.randrange(4) if rank > 2 else 0
    if kind == 0:
        return [d.one(-1, rank - 1)], d.vector_for(rank - 1, shape)
    if kind == 1:
        return [1], d.vector_for(1, shape)
    if kind == 2:
        return list(range(2, rank)), d.vector_for(1, shape)
    return d.pick.sample([-1, -2], 2), d.one(tuple(shape[-2:]), (1,) * (rank - 2) + tuple(shape[-2:]), tuple(shape[-1:]))


@pattern("fuse_layernorm")
def norm_by_deviation(d: Draft) -> None:
    shape = d.shape(d.one(2, 3, 4, 5))
    axes, own = _norm_axes(d, shape)
    _, centred, variance = _moments(d, d.x(*d.thinned(shape)), axes)
    deviation = d.n("Sqrt", variance) if d.maybe() else d.n("Pow", variance, d.number(0.5))
    if d.maybe():
        y = d.n("Div", centred, deviation)
    else:
        y = d.n("Mul", *d.order(centred, d.n("Reciprocal", deviation) if d.maybe() else d.n("Div", d.number(1.0), deviation)))
    if d.near(0.2):
        own = d.like(shape)
    if d.maybe(0.8):
        d.give(*[y] * d.near(0.1))
        y = d.n("Mul", *d.order(y, d.r(*own, scale=0.3, shift=1)))
    if d.maybe(0.8):
        d.give(*[y] * d.near(0.1))
        y = d.n("Add", *d.order(y, d.r(*own)))
    d.give(d.n("Relu", y) if d.maybe(0.3) else y)


@pattern("fuse_layernorm")
def norm_by_factor(d: Draft) -> None:
    shape = d.shape(d.one(2, 3, 4, 5))
    axes, own = _norm_axes(d, shape)
    x = d.x(*d.thinned(shape))
    mean, _, variance = _moments(d, x, axes)
    factor = d.n("Pow", variance, d.number(-0.5)) if d.maybe() else d.n("Reciprocal", d.n("Sqrt", variance))
    if d.maybe(0.8):
        factor = d.n("Mul", *d.order(factor, d.r(*own, scale=0.3, shift=1)))
    product, shift = d.n("Mul", *d.order(x, factor)), d.n("Mul", *d.order(mean, factor))
    if d.maybe(0.7):
        d.give(d.n("Add", *d.order(product, d.n("Sub", d.r(*own), shift))))
    else:
        d.give(d.n("Sub", product, shift))


@pattern("fuse_prelu")
def prelu_in_parts(d: Draft) -> None:
    shape = d.shape(d.one(2, 3, 4, 5))
    x = d.x(*d.thinned(shape))
    own = d.one(d.vector_for(1, shape), d.vector_for(len(shape) - 1, shape), tuple(shape), tuple(shape[1:]), ())
    if d.near(0.1):
        own = (d.one(1, 2), *shape)
    slope = d.r(*own, scale=0.3)
    positive = d.n("Relu", x) if d.maybe() else d.n("Max", *d.order(x, d.number(0.0)))
    kind = d.pick.randrange(4)
    if kind == 0:
        d.give(d.n("Sub", positive, d.n("Mul", *d.order(slope, d.n("Relu", d.n("Neg", x))))))
    elif kind == 1:
        d.give(d.n("Add", *d.order(positive, d.n("Mul", *d.order(slope, d.n("Min", *d.order(x, d.number(0.0))))))))
    elif kind == 2:
        twice = d.n("Sub", x, d.n("Abs", x))
        half = d.n("Mul", *d.order(d.n("Mul", *d.order(slope, twice)), d.number(0.5)))
        d.give(d.n("Add", *d.order(positive, half)))
    else:
        negative = d.n("Neg", d.n("Mul", *d.order(slope, d.n("Relu", d.n("Neg", x)))))
        d.give(d.n("Add", *d.order(d.clip(x, 0.0, None), negative)))


@pattern("global_pool")
def reduced(d: Draft) -> None:
    shape = d.shape(d.one(3, 4, 5))
    rank = len(shape)
    axes = [a - d.one(0, rank) for a in range(2, rank)]
    d.pick.shuffle(axes)
    y = d.reduce(d.one("ReduceMean", "ReduceMax"), d.x(*shape), axes, d.one(0, 1))
    d.give(d.n("Relu", y) if d.maybe() else y)


@pattern("sum_as_add")
def sums(d: Draft) -> None:
    shape = d.shape(d.one(2, 4))
    values = [d.x(*shape) for _ in range(d.pick.randint(1, 3))] + [d.r(*d.vector_for(1, shape))]
    d.pick.shuffle(values)
    d.give(d.n("Relu", d.n("Sum", *values)))


def _padded(d: Draft, x: str, rank: int, low: int = 0) -> tuple[str, list[int]]:
    """A value padded by zeros along its spatial axes, which are those from `low` on."""
    widths = [d.pick.randint(0, 2) for _ in range(2 * (rank - 2))]
    before, after = widths[: rank - 2], widths[rank - 2 :]
    where = [0] * rank
    back = [0] * rank
    for i in range(rank - 2):
        where[low + i], back[low + i] = before[i], after[i]
    if d.plainly and not any(widths):
        where[low] = before[0] = 1
    total = [a + b for a, b in zip(before, after, strict=True)]
    extra = [d.c(0.0)] if d.maybe() else []
    if d.opset >= 18 and d.maybe():
        axes = list(range(low, low + rank - 2))
        return d.n("Pad", x, d.ints(*(where[a] for a in axes), *(back[a] for a in axes)), d.c(0.0), d.ints(*axes)), total
    return d.n("Pad", x, d.ints(*where, *back), *extra), total


@pattern("fuse_pad")
def padded_windows(d: Draft) -> None:
    shape = d.shape(d.one(3, 4, 5))
    spatial = len(shape) - 2
    x, total = _padded(d, d.x(*shape), len(shape), 2)
    kernel = [min(3, n + t) for n, t in zip(shape[2:], total, strict=True)]
    own = {"pads": [d.pick.randint(0, k // 2) for k in kernel * 2]} if d.maybe(0.4) and not d.plainly else {}
    if d.maybe(0.3) and not d.plainly:
        own = {"auto_pad": d.one("VALID", "SAME_UPPER", "NOTSET")}
    strides = [d.one(1, 2) for _ in range(spatial)]
    if d.maybe() or d.plainly:
        d.give(d.conv(x, shape[1], 4, kernel, strides=strides, **own))
    else:
        d.give(d.n("AveragePool", x, kernel_shape=kernel, strides=strides, count_include_pad=d.one(0, 1), **own))


@pattern("fuse_matmul")
def product_and_bias(d: Draft) -> None:
    shape = d.shape(d.one(2, 2, 3, 4))
    n = d.extent(4, shape[-2], 8)
    y = d.n("MatMul", d.x(*shape), d.r(shape[-1], n, scale=0.5))
    own = d.like((*shape[:-1], n)) if d.near(0.3) else d.vector_for(len(shape) - 1, (*shape[:-1], n))
    y = d.n("Add", *d.order(y, d.r(*own)))
    d.give(d.n("Relu", y) if d.maybe() else y)


@pattern("fuse_matmul")
def product_and_bias_of_before(d: Draft) -> None:
    """Before version 7 operands align at an axis."""
    d.opset = 6
    size = d.one(4, 5)
    y = d.n("MatMul", d.feed(size, size), d.r(size, size, scale=0.5))
    d.give(d.n("Add", y, d.r(size), broadcast=1, **({} if d.plainly else {"axis": d.one(0, 1)})))


@pattern("fold_batchnorm")
def linear_and_batchnorm(d: Draft) -> None:
    y, shape = d.linear(d.one(2, 3, 4, 5))
    vectors = [d.r(shape[1], scale=0.3, shift=1) for _ in range(3)]
    variance = d.c(d.rng.uniform(0.5, 2, shape[1]))
    y = d.n("BatchNormalization", y, *vectors, variance, epsilon=d.one(1e-5, 1e-2))
    d.give(d.n("Relu", y) if d.maybe() else y)


@pattern("fold_scale")
def linear_and_scale(d: Draft) -> None:
    y, shape = d.linear(d.one(2, 3, 4, 5))
    for _ in range(d.pick.randint(1, 3)):
        own = d.like(shape) if d.near() else d.one(d.vector_for(1, shape), d.vector_for(1, shape), ())
        kind = d.one("Mul", "Div", "Add", "Sub")
        constant = d.r(*own, scale=0.2, shift=1)
        y = d.n(kind, *((y, constant) if kind in ("Div", "Sub") else d.order(y, constant)))
    d.give(y)


@pattern("fold_scale")
def linear_and_scale_of_before(d: Draft) -> None:
    d.opset = 6
    size = d.one(3, 4)
    shape = (size, size, size, size)
    y = d.conv(d.feed(*shape), size, size, (1, 1))
    axis = d.pick.randrange(4)
    own = d.one((size,), (size, 1, 1), (size, 1)) if axis < 2 else (size,)
    where = {"axis": axis}
    if d.plainly or d.maybe(0.2):
        where, own = {}, (size, 1, 1)
    d.give(d.n(d.one("Mul", "Add"), y, d.r(*own, scale=0.2, shift=1), broadcast=1, **where))


@pattern("merge_branches")
def reparametrised(d: Draft) -> None:
    shape = d.shape(d.one(3, 4, 5))
    x = d.n("Tanh", d.feed(*shape))
    strides = [d.one(1, 2) if not d.plainly else 1] * (len(shape) - 2)
    large = d.same(x, shape, 3, strides=strides)
    if d.maybe():
        small = d.same(x, shape, 1, strides=strides)
    elif max(strides) == 1:
        small = d.n("BatchNormalization", x, *[d.r(shape[1]) for _ in range(3)], d.c(d.rng.uniform(0.5, 2, shape[1])))
    else:
        small = d.same(x, shape, 3, strides=strides)
    d.give(*[small] * d.near(0.1))
    d.give(d.n("Relu", d.n("Add", *d.order(large, small))))


@pattern("channels_first")
def channels_last_block(d: Draft) -> None:
    d.opset = d.one(17, 18, 21)
    shape = d.shape(d.one(4, 5))
    rank, c = len(shape), shape[1]
    last, first = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
    y = d.n("Transpose", d.n("Tanh", d.feed(*shape)), perm=last)
    for _ in range(d.pick.randint(1, 3)):
        kind = d.pick.randrange(6)
        if kind == 0 and d.near():
            y = d.n("LayerNormalization", y, d.r(*shape[-1:], c), axis=-2, epsilon=0.05)
        elif kind == 0:
            y = d.n("LayerNormalization", y, *[d.r(c) for _ in range(d.one(1, 2))], axis=d.one(-1, rank - 1), epsilon=0.05)
        elif kind == 1:
            y = d.n("MatMul", y, d.r(c, c, scale=0.5))
        elif kind == 2:
            y = d.n(d.one("Relu", "Gelu" if d.opset > 19 else "Elu", "Abs", "Sigmoid"), y)
        elif kind == 3:
            y = d.n("PRelu", y, d.r(*d.vector_for(rank - 1, (*shape[:1], *shape[2:], c))))
        elif kind == 4:
            whole = (*shape[:1], *shape[2:], c)
            own = d.like(whole) if d.near(0.3) else d.vector_for(rank - 1, whole)
            y = d.n(d.one("Add", "Mul", "Sub"), *d.order(y, d.r(*own)))
        else:
            y = d.n(d.one("Add", "Mul"), *d.order(y, d.n("Transpose", d.x(*shape), perm=last)))
    d.give(d.n("Transpose", y, perm=first) if d.maybe(0.7) else y)


@pattern("dead_code")
def unused(d: Draft) -> None:
    shape = d.shape(d.one(2, 4))
    x = d.x(*shape)
    d.n("Mul", d.n("Neg", x), d.r(*shape))
    d.give(d.n("Relu", x))


@pattern("merge_activation")
def activated(d: Draft) -> None:
    d.opset = d.one(18, 21)
    if d.maybe():
        y, shape = d.linear(d.one(2, 3, 4, 5))
    else:
        shape = d.shape(d.one(2, 4))
        y = d.n(d.one("Add", "Mul", "Sub"), *d.order(d.x(*shape), d.x(*d.one(shape, (1,) * len(shape), shape[-1:]))))
    kind = d.pick.randrange(12)
    if kind == 0:
        y = d.clip(y, *d.one((-1.0, 1.0), (0.0, None), (None, 0.5), (1.0, -1.0)))
    elif kind == 1:
        y = d.n("PRelu", y, d.c(d.rng.standard_normal(d.one((), (1,), (1,) * len(shape), (shape[1], *(1,) * (len(shape) - 2))))))
    else:
        name, attributes = d.one(
            ("Relu", {}),
            ("LeakyRelu", {"alpha": 0.2}),
            ("Sigmoid", {}),
            ("Tanh", {}),
            ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
            ("HardSwish", {}),
            ("Elu", {"alpha": 0.7}),
            ("Selu", {}),
            ("Celu", {"alpha": 0.8}),
            ("Mish", {}),
            ("Softplus", {}),
            ("Softsign", {}),
        )
        y = d.n(name, y, **attributes)
    d.give(y)


# -------------------------------------------------------------------- rewrites that need shapes


@pattern("fuse_residuals")
def linear_and_residual(d: Draft) -> None:
    if d.maybe():
        shape = d.shape(d.one(3, 4, 5))
        x = d.x(*shape)
        y = d.same(x, shape)
    else:
        shape = d.shape(d.one(2, 3))
        x = d.x(*shape)
        y = d.n("MatMul", x, d.r(shape[-1], shape[-1], scale=0.5))
    other = x if d.maybe() else d.n("Relu", d.feed(*shape))
    if not d.plainly and d.maybe(0.3):
        other = d.x(*(n if d.maybe(0.7) else 1 for n in shape))
    y = d.n("Add", *d.order(y, other))
    d.give(d.n("Relu", y) if d.maybe() else y)


@pattern("fuse_matmul")
def product_and_vector_of_before(d: Draft) -> None:
    """A rank that only running tells, and a vector along an axis."""
    d.opset = 6
    size = d.one(4, 5)
    d.constants["target"] = np.array([size, size])
    x = d.n("Reshape", d.feed(size * size), d.n("Cast", d.n("Shape", d.feed(size, size)), to=onnx.TensorProto.INT64))
    y = d.n("MatMul", x, d.r(size, size, scale=0.5))
    d.give(d.n("Add", y, d.r(size), broadcast=1, **({} if d.plainly else {"axis": d.one(0, 1)})))


@pattern("fuse_pad")
def pads_between_transposes(d: Draft) -> None:
    shape = d.shape(d.one(3, 4, 5))
    rank = len(shape)
    x = d.n("Tanh", d.feed(*shape))
    between = d.plainly or d.maybe()
    order, back = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
    if between:
        x = d.n("Transpose", x, perm=order)
        x, total = _padded(d, x, rank, 1)
        x = d.n("Transpose", x, perm=back)
    else:
        x, total = _padded(d, x, rank, 2)
    kernel = [min(3, n + t) for n, t in zip(shape[2:], total, strict=True)]
    d.give(d.conv(x, shape[1], 4, kernel))


@pattern("fuse_affine")
def scale_and_shift(d: Draft) -> None:
    shape = d.shape(d.one(3, 4, 5))
    y = d.n("Tanh", d.feed(*shape))
    own = [d.one(d.vector_for(1, shape), (shape[1], *(1,) * (len(shape) - 2)), ()) for _ in "ab"]
    y = d.n("Mul", *d.order(y, d.r(*own[0])))
    d.give(*[y] * d.near(0.1))
    y = d.n("Add", *d.order(y, d.r(*own[1])))
    d.give(d.n("Relu", y) if d.maybe() else y)


@pattern("repeat_channels")
def several_outputs_a_channel(d: Draft) -> None:
    shape = d.shape(d.one(3, 4), channels=(3, 5, 8))
    if shape[1] > 1 or not d.plainly:
        d.give(d.conv(d.x(*shape), shape[1], shape[1] * d.one(2, 3), [1] * (len(shape) - 2), group=shape[1]))


@pattern("fuse_channels")
def shuffled(d: Draft) -> None:
    shape = (*d.shape(2, channels=(8, 16)), *d.shape(4)[2:])
    n, c, h, w = shape
    x = d.n("Relu", d.feed(*shape))
    if d.maybe(0.3):
        x = d.n("Concat", x, d.n("Tanh", d.feed(*shape)), axis=d.one(1, -3))
        c *= 2
    kind = d.pick.randrange(3)
    if kind == 0:
        y = d.n("Gather", x, d.c(d.pick.choices(range(-c, c), k=c), np.int64), axis=d.one(1, -3))
    else:
        g = d.one(*[g for g in (2, 4, 1) if c % g == 0])
        y = d.n("Reshape", x, d.ints(n, g, c // g, h, w) if d.maybe() else d.ints(n, g, c // g, h * w))
        rank = 5 if len(d.constants[d.nodes[-1].inputs[1]]) == 5 else 4
        y = d.n("Reshape", d.n("Transpose", y, perm=[0, 2, 1, 3, 4][:rank]), d.ints(n, c, h, w))
        if kind == 2 and c > 1:
            parts = d.split(y, [c - c // 2, c // 2], 1)
            d.give(d.n("Tanh", parts[0]))
            y = parts[1]
    d.give(d.n("Relu", y))


@pattern("fuse_chains")
def inverted_residual(d: Draft) -> None:
    shape = d.shape(4, channels=(8, 12))
    wide = 2 * shape[1]
    x = d.n("Tanh", d.feed(*shape))
    y = d.conv(x, shape[1], wide, (1, 1))
    y = d.n("Relu", y) if d.maybe() else y
    y = d.conv(y, wide, wide, (3, 3), pads=[1, 1, 1, 1], group=wide, strides=[d.one(1, 2)] * 2)
    y = d.n("Relu", y) if d.maybe() else y
    d.give(d.conv(y, wide, 8, (1, 1)))


@pattern("fuse_gates_into_weights")
def squeezed(d: Draft) -> None:
    shape = (d.extent(1, 2), d.extent(8, 16), d.one(5, 6), d.one(5, 6))
    x, gate = d.n("Tanh", d.feed(*shape)), d.n("Sigmoid", d.feed(*shape[:2], 1, 1))
    if not d.plainly and d.maybe(0.3):
        gate = d.n("Sigmoid", d.feed(*(n if d.maybe() else 1 for n in shape)))
    d.give(d.conv(d.n("Mul", *d.order(x, gate)), shape[1], d.one(4, 8), (1, 1)))


@pattern("fuse_channels_last")
def channels_last_image(d: Draft) -> None:
    shape = (d.extent(1, 2), d.extent(8, 9), d.extent(8, 9), d.one(1, 3, 4))
    x = d.n("Transpose", d.feed(*shape), perm=[0, 3, 2, 1] if d.near() else [0, 3, 1, 2])
    k = min(3, *shape[1:3])
    d.give(d.n("Relu", d.conv(x, shape[3], d.one(4, 8), (k, k), strides=[d.one(1, 2)] * 2)))


def _heads(d: Draft, count: int) -> tuple[list[str], tuple[int, ...]]:
    """Values (batch..., tokens, size)."""
    batch = tuple(d.extent(2, 3) for _ in range(d.one(0, 1, 2)))
    tokens, size = d.extent(5, 6), d.extent(4, 8)
    if len(batch) == 2 and d.maybe():
        whole = d.x(batch[0], tokens, 3 * batch[1] * size)
        parts = d.split(whole, [batch[1] * size] * 3, d.one(2, -1))
        made = [d.n("Reshape", p, d.ints(batch[0], tokens, batch[1], size)) for p in parts]
        return [d.n("Transpose", p, perm=[0, 2, 1, 3]) for p in made][:count], (*batch, tokens, size)
    return [d.x(*batch, tokens, size) for _ in range(count)], (*batch, tokens, size)


def _scores(d: Draft, q: str, k: str, rank: int, size: int) -> str:
    swap = [*range(rank - 2), rank - 1, rank - 2]
    if d.maybe():
        q = d.n("Mul", *d.order(q, d.number(size**-0.25)))
        return d.n("MatMul", q, d.n("Mul", *d.order(d.n("Transpose", k, perm=swap), d.number(size**-0.25))))
    k = d.n("Transpose", k, perm=swap)
    if d.maybe():
        q = d.n("Div", q, d.number(size**0.5))
        return d.n("MatMul", q, k)
    return d.n("Div", d.n("MatMul", q, k), d.number(size**0.5))


@pattern("fuse_attention")
def scaled_product(d: Draft) -> None:
    (q, k), shape = _heads(d, 2)
    swap = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    if d.maybe():
        q = d.n(d.one("Mul", "Div"), q, d.number(0.7))
    d.give(d.n("MatMul", q, d.n("Transpose", k, perm=swap)))


@pattern("fuse_softmax_products")
def attention(d: Draft) -> None:
    d.opset = max(d.opset, 13)
    (q, k, v), shape = _heads(d, 3)
    rank = len(shape)
    y = d.n("MatMul", d.n("Softmax", _scores(d, q, k, rank, shape[-1]), axis=0 if d.near() else d.one(-1, rank - 1)), v)
    if rank == 4 and d.maybe():
        y = d.n("Transpose", y, perm=[0, 2, 1, 3])
    d.give(y)


# -------------------------------------------------------------------- neighbours


Change = Callable[[Draft], bool]


def _floats(d: Draft) -> list[str]:
    return [n for n, v in d.constants.items() if v.dtype.kind == "f"]


def _inner(d: Draft) -> list[str]:
    return [o for node in d.nodes for o in node.outputs if o and o not in d.outputs and not node.kind.startswith("SplitTo")]


def output_too(d: Draft) -> bool:
    """An inner value is an output."""
    names = _inner(d)
    if names:
        d.outputs.insert(d.one(0, len(d.outputs)), d.one(*names))
    return bool(names)


def one_more_reader(d: Draft) -> bool:
    names = _inner(d) + d.outputs
    read = [i for node in d.nodes for i in node.inputs]
    names = [n for n in names if n in read or n in d.outputs]
    if names:
        d.give(d.n("Identity" if d.maybe() else "Shape", d.one(*names)))
    return bool(names)


def swapped_operands(d: Draft) -> bool:
    nodes = [n for n in d.nodes if len(n.inputs) == 2 and n.kind in ("Add", "Mul", "Sub", "Div", "MatMul", "Pow", "Max", "Min")]
    if nodes:
        d.one(*nodes).inputs.reverse()
    return bool(nodes)


def other_shape(d: Draft) -> bool:
    """A constant of another shape that may broadcast, whose values are about as large."""
    names = _floats(d)
    if not names or not d.feeds:
        return False
    name = d.one(*names)
    old = d.constants[name]
    shape: Sequence[int] = d.one(*d.feeds.values()).shape
    kind = d.pick.randrange(7)
    if kind == 0:
        new: tuple[int, ...] = ()
    elif kind == 1:
        new = (1,) * d.pick.randint(1, len(shape) + 1)
    elif kind == 2:
        new = (1,) * d.pick.randint(0, 2) + old.shape
    elif kind == 3:
        new = tuple(shape)
    elif kind == 4:
        new = tuple(n if d.maybe() else 1 for n in shape)
    elif kind == 5:  # widens what has an extent of 1 there
        new = tuple(2 if n == 1 and d.maybe(0.7) else n for n in old.shape)
    else:
        new = tuple(n if d.maybe() else 1 for n in shape)[d.pick.randint(0, len(shape)) :]
    spread = 0.0 if old.size == 1 and d.maybe() else 0.1
    values = float(old.reshape(-1)[0]) * (1 + spread * d.rng.standard_normal(new)) if old.size else d.rng.standard_normal(new)
    d.constants[name] = np.asarray(values).astype(old.dtype)
    return True


def other_value(d: Draft) -> bool:
    """A constant that is off by a bit, of the other sign, or zero; all of it or one element."""
    names = [n for n in _floats(d) if d.constants[n].size]
    if not names:
        return False
    name = d.one(*names)
    value = d.constants[name].copy().reshape(-1)
    where = slice(None) if d.maybe() else d.pick.randrange(value.size)
    value[where] = d.one(value[where] * 1.003, -value[where], value[where] * 0, value[where] + 0.5)
    d.constants[name] = value.reshape(d.constants[name].shape)
    return True


def other_attribute(d: Draft) -> bool:
    choices = [(n, k) for n in d.nodes for k, v in n.attributes.items() if not isinstance(v, onnx.GraphProto) and k != "to"]
    if not choices:
        return False
    node, key = d.one(*choices)
    value = node.attributes[key]
    if key == "axis":
        node.attributes[key] = d.pick.randrange(-4, 4)
    elif key == "keepdims":
        node.attributes[key] = 1 - value
    elif key in ("perm", "axes", "split", "pads", "strides") and d.maybe():
        node.attributes[key] = d.pick.sample(value, len(value))
    elif key in ("pads", "strides", "axes"):
        at = d.pick.randrange(len(value))
        node.attributes[key] = [v + d.one(1, -1) * (i == at) for i, v in enumerate(value)]
    elif isinstance(value, float):
        node.attributes[key] = d.one(value * 1.01, value + 0.25, -value)
    elif isinstance(value, int):
        node.attributes[key] = d.one(value + 1, 0, 1)
    elif isinstance(value, str):
        node.attributes[key] = d.one("edge", "reflect", "constant") if key == "mode" else d.one("VALID", "SAME_LOWER", "NOTSET")
    return True


def other_integers(d: Draft) -> bool:
    """Axes, sizes, widths or positions that are constants."""
    names = [n for n, v in d.constants.items() if v.dtype.kind == "i" and v.size]
    if not names:
        return False
    name = d.one(*names)
    value = d.constants[name].copy().reshape(-1)
    if d.maybe():
        d.pick.shuffle(value)
    else:
        value[d.pick.randrange(value.size)] += d.one(1, -1)
    d.constants[name] = value.reshape(d.constants[name].shape)
    return True


def _halved(d: Draft, dtype: Any) -> None:
    for values in (d.constants, d.feeds):
        for name, value in values.items():
            if value.dtype.kind == "f":
                values[name] = value.astype(dtype)


def other_dtype(d: Draft) -> bool:
    _halved(d, d.one(np.float16, np.float64, np.float64))
    return True


def extent_of_one(d: Draft) -> bool:
    """An input with one axis of extent 1: constants and other inputs may widen it then."""
    names = [n for n, v in d.feeds.items() if v.ndim and max(v.shape) > 1]
    if not names:
        return False
    name = d.one(*names)
    axis = d.one(*[i for i, n in enumerate(d.feeds[name].shape) if n > 1])
    d.feeds[name] = d.feeds[name].take([0], axis=axis)
    return True


def symbolic(d: Draft) -> bool:
    d.symbolic.update(n for n in d.feeds if d.maybe(0.8))
    return True


def default_input(d: Draft) -> bool:
    """A constant is an input of the graph with a default."""
    if d.constants:
        d.shown.add(d.one(*d.constants))
    return bool(d.constants)


def fed_constant(d: Draft) -> bool:
    """What was a constant comes from outside."""
    names = [n for n in _floats(d) if n not in d.shown]
    if not names:
        return False
    name = d.one(*names)
    d.feeds[name] = d.constants.pop(name)
    return True


def other_source(d: Draft) -> bool:
    """One reader of a value reads another value of its shape, or the same negated."""
    made = set(d.feeds).union(*[n.outputs for n in d.nodes if n.kind != "SplitToSequence"])
    places = [(n, i) for n in d.nodes for i, name in enumerate(n.inputs) if name in made]
    if not places:
        return False
    node, i = d.one(*places)
    name = node.inputs[i]
    if name in d.feeds and d.feeds[name].dtype.kind == "f" and d.maybe():
        other = f"{name}'"
        d.feeds[other] = d.feeds[name] + np.asarray(0.5, d.feeds[name].dtype)
        node.inputs[i] = other
        return True
    new = f"{name} {len(d.nodes)}"
    d.nodes.insert(d.nodes.index(node), Op(d.one("Neg", "Identity", "Abs"), [name], [new], {}))
    node.inputs[i] = new
    return True


def legacy_or_new(d: Draft) -> bool:
    d.opset = d.one(6, 9, *OPSETS)
    return True


CHANGES: tuple[Change, ...] = (
    output_too,
    one_more_reader,
    swapped_operands,
    other_shape,
    other_shape,
    other_value,
    other_attribute,
    other_attribute,
    other_integers,
    other_dtype,
    extent_of_one,
    extent_of_one,
    symbolic,
    default_input,
    fed_constant,
    other_source,
    other_source,
    legacy_or_new,
)


def draft(name: str, seed: int, changes: int | None = None, plainly: bool = False) -> Draft:
    """A pattern's draft and changes of it: the first of them by the seed, each in its turn, and none to two more."""
    d = Draft(f"{name} {seed}", plainly)
    PATTERNS[name](d)
    count = d.one(1, 1, 1, 1, 2, 3) if changes is None else changes
    for i in range(count):
        change = d.one(*CHANGES) if i else CHANGES[seed % len(CHANGES)]
        if change(d):
            d.notes.append(change.__name__)
    return d


import quantised_drafts as quantised_drafts  # noqa: E402  their drafts register themselves
import quantised_elements as quantised_elements  # noqa: E402
import quantised_products as quantised_products  # noqa: E402
