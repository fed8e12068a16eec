"""Rules: how one element of a tensor follows from others, in whole numbers that a page can compute with.

A rule names what it reads and holds the settings as they are for these shapes: pads resolved, axes counted from 0, bounds read
from constants. `read_by` says which elements a box of the output is made of, so that no more than these need to be in a page.
Operators without a rule are shown, and not computed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..graph import Node
from ..window import Window

Box = tuple[str, tuple[int, ...], tuple[int, ...]]
"""A tensor, and the first and the last index of a part of it."""

SAME = ("Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast")
CURVES: dict[str, tuple[str, ...]] = {
    "Relu": (),
    "LeakyRelu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
    "Elu": ("alpha",),
    "Selu": ("alpha", "gamma"),
    "Celu": ("alpha",),
    "Gelu": ("approximate",),
    "Swish": ("alpha",),
    "Affine": ("alpha", "beta"),
    "HardSigmoid": ("alpha", "beta"),
    "Shrink": ("lambd", "bias"),
    **dict.fromkeys(
        ("Sigmoid", "Tanh", "HardSwish", "Mish", "Softplus", "Softsign", "Exp", "Log", "Sqrt", "Reciprocal", "Erf", "Abs", "Neg"),
        (),
    ),
    **dict.fromkeys(("Sign", "Floor", "Ceil", "Round", "Sin", "Cos", "Not"), ()),
}
"""Functions of one number, with the settings that they have."""
TOGETHER = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Sum", "Mean", "Min", "Max", "PRelu", "Where", "Expand"),
    *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor"),
)
"""Functions of the numbers at one place of several tensors."""
REDUCED = {
    **{f"Reduce{n}": n.lower() for n in ("Mean", "Sum", "Max", "Min", "L1", "L2", "SumSquare")},
    **{f"Global{n}Pool": n.lower() for n in ("Average", "Max", "Lp")},
}
WINDOWS = {"MaxPool": "max", "AveragePool": "average", "LpPool": "lp"}


@dataclass(frozen=True)
class Rule:
    """How the elements of one tensor are computed.

    Attributes
    ----------
    kind : str
    reads : tuple of str
        Tensors by their places; "" of one that is absent.
    shapes : tuple of tuple of int
        Theirs, and last that of the output.
    settings : dict
        Numbers, texts and lists.
    """

    kind: str
    reads: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the output."""
        return self.shapes[-1]

    def as_json(self) -> dict[str, Any]:
        found = {"k": self.kind, "r": list(self.reads), **self.settings}
        if "v" in found and not math.isfinite(found["v"]):  # JSON has no word for it, JavaScript and Python read these
            found["v"] = "NaN" if math.isnan(found["v"]) else "Infinity" if found["v"] > 0 else "-Infinity"
        return found


class Known:
    """What a rule may be made of.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Of the tensors so far.
    dtypes : mapping of str to numpy.dtype
        Theirs.
    value : function of str
        What a tensor holds that does not depend on the input; None of any other.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        dtypes: Mapping[str, np.dtype],
        value: Callable[[str], np.ndarray | None],
    ) -> None:
        self.shapes = shapes
        self.dtypes = dtypes
        self.value = value

    def numbers(self, node: Node, at: int) -> list[int] | None:
        """Whole numbers that an input holds; None where it is absent or not known."""
        if at >= len(node.inputs) or not node.inputs[at]:
            return None
        found = self.value(node.inputs[at])
        return None if found is None else [int(v) for v in np.asarray(found).ravel()]

    def number(self, node: Node, at: int) -> float | None:
        if at >= len(node.inputs) or not node.inputs[at]:
            return None
        found = self.value(node.inputs[at])
        return None if found is None or np.size(found) != 1 else float(np.asarray(found).ravel()[0])


def rule_of(node: Node, output: str, known: Known) -> Rule | None:
    """The rule of one output of a node; None where there is none for this operator or these settings."""
    kind = node.op.op_type
    if any(n and n not in known.shapes for n in node.inputs) or output not in known.shapes:
        return None
    make = MAKERS.get(kind)
    if make is None or not known.shapes[output] or 0 in known.shapes[output]:
        return None
    if node.outputs and output != node.outputs[0] and kind != "Split":
        return None
    reads = tuple(node.inputs)
    made = make(node, output, known, tuple(known.shapes[n] if n else () for n in reads))
    if made is None:
        return None
    name, taken, settings = made
    if any(isinstance(v, float) and not math.isfinite(v) for k, v in settings.items() if k != "v"):
        return None
    shapes = tuple(known.shapes[n] if n else () for n in taken)
    return Rule(name, taken, (*shapes, known.shapes[output]), settings)


Made = tuple[str, tuple[str, ...], dict[str, Any]] | None
Shapes = tuple[tuple[int, ...], ...]


def _conv(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    if getattr(op, "activation", None) is not None or len(shapes[0]) < 3:
        return None
    window = Window.of(shapes[1][2:], op.strides, op.dilations, op.pads, op.auto_pad)
    spatial = shapes[0][2:]
    if op.op_type == "Conv":
        _, begins, _ = window.resolve(spatial)
    else:
        _, begins, _ = window.resolve_transpose(spatial, op.output_padding, op.output_shape)
    reads = (*node.inputs[:2], node.inputs[2] if len(node.inputs) > 2 else "")
    settings = {"n": list(window.kernel), "s": list(window.strides), "d": list(window.dilations), "b": list(begins)}
    return "conv" if op.op_type == "Conv" else "convt", reads, {**settings, "g": op.group}


def _pool(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    window = Window.of(op.kernel_shape, op.strides, op.dilations, op.pads, op.auto_pad, bool(op.ceil_mode))
    _, begins, ends = window.resolve(shapes[0][2:])
    settings: dict[str, Any] = {
        "n": list(window.kernel),
        "s": list(window.strides),
        "d": list(window.dilations),
        "b": list(begins),
    }
    settings |= {"f": WINDOWS[op.op_type], "e": list(ends)}
    if op.op_type == "AveragePool":
        settings["c"] = int(bool(op.count_include_pad))
    if op.op_type == "LpPool":
        settings["p"] = float(op.p)
    return "pool", (node.inputs[0],), settings


def _reduce(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    rank = len(shapes[0])
    name = REDUCED[op.op_type]
    if op.op_type.startswith("Global"):
        axes, keep = list(range(2, rank)), True
    else:
        given = list(op.axes) if op.axes is not None else known.numbers(node, 1)
        if given is None and len(node.inputs) > 1 and node.inputs[1]:
            return None
        if not given and op.noop_with_empty_axes:
            return None
        axes, keep = sorted(a % rank for a in given) if given else list(range(rank)), bool(op.keepdims)
    f = {"average": "mean", "l1": "l1", "l2": "lp", "lp": "lp", "sumsquare": "sumsquare"}.get(name, name)
    settings: dict[str, Any] = {"f": f, "a": axes, "keep": int(keep)}
    if f == "lp":
        settings["p"] = float(getattr(op, "p", 2))
    return "reduce", (node.inputs[0],), settings


def _bins(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    rank = len(shapes[0]) - 2
    if op.op_type == "AdaptivePool":
        return "bins", (node.inputs[0],), {"f": op.mode, "l": [list(op.output_size)]}
    return "bins", (node.inputs[0],), {"f": op.mode, "l": [[v] * rank for v in op.levels], "flat": 1}


def _gemm(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    if getattr(op, "activation", None) is not None or len(shapes[0]) != 2 or len(shapes[1]) != 2:
        return None
    reads = (*node.inputs[:2], node.inputs[2] if len(node.inputs) > 2 else "")
    return "dense", reads, {"alpha": float(op.alpha), "beta": float(op.beta), "ta": int(op.transA), "tb": int(op.transB)}


def _matmul(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    if min(len(shapes[0]), len(shapes[1])) < 2 or getattr(node.op, "activation", None) is not None:
        return None
    return "dense", (*node.inputs[:2], ""), {"alpha": 1.0, "beta": 1.0, "ta": 0, "tb": 0}


def _softmax(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    rank = len(shapes[0])
    axis = op.axis % rank
    axes = list(range(axis, rank)) if op.flatten else [axis]
    return "softmax", node.inputs[:1], {"a": axes, "log": int(op.op_type == "LogSoftmax")}


def _batch(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    if op.training_mode or not op.spatial or op.activation is not None or len(shapes[0]) < 2:
        return None
    return "batch", node.inputs[:5], {"eps": float(op.epsilon)}


def _norm(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    kind, rank = op.op_type, len(shapes[0])
    reads = (node.inputs[0], *(node.inputs[i] if len(node.inputs) > i else "" for i in (1, 2)))
    if kind in ("LayerNormalization", "RMSNormalization"):
        axis = op.axis % rank
        fits = all(not n or s == shapes[0][-len(s) :] for n, s in zip(node.inputs[1:3], shapes[1:3], strict=False))
        settings: dict[str, Any] = {"a": list(range(axis, rank)), "by": "last", "centred": int(kind == "LayerNormalization")}
        return ("norm", reads, {**settings, "eps": float(op.epsilon)}) if fits else None
    if kind == "MeanVarianceNormalization":
        axes = sorted(a % rank for a in op.axes)
        return "norm", (node.inputs[0], "", ""), {"a": axes, "by": "channel", "centred": 1, "eps": 1e-9, "after": 1}
    if getattr(op, "expands", False):
        return None
    settings = {"a": list(range(2, rank)), "by": "channel", "centred": 1, "eps": float(op.epsilon)}
    if kind == "GroupNormalization":
        settings |= {"groups": op.num_groups, "by": "group" if op.per_group else "channel"}
    return "norm", reads, settings


def _lrn(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    settings = {"size": op.size, "alpha": float(op.alpha), "beta": float(op.beta), "bias": float(op.bias)}
    return "lrn", node.inputs[:1], settings


def _curve(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    settings: dict[str, Any] = {"f": node.op.op_type}
    for name in CURVES[node.op.op_type]:
        value = getattr(node.op, name)
        settings[name] = value if isinstance(value, str) else float(value)
    return "curve", node.inputs[:1], settings


def _clip(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    bounds: dict[str, Any] = {"f": "Clip"}
    for at, name in ((1, "min"), (2, "max")):
        value = getattr(op, name)
        if value is None and len(node.inputs) > at and node.inputs[at]:
            value = known.number(node, at)
            if value is None:
                return None
        if value is not None and math.isfinite(value):
            bounds[name] = float(value)
    return "curve", node.inputs[:1], bounds


def _together(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    kind, out = op.op_type, known.shapes[output]
    if getattr(op, "activation", None) is not None:
        return None
    reads = node.inputs[:1] if kind == "Expand" else tuple(n for n in node.inputs if n)
    aligned = []
    for name in reads:
        shape = known.shapes[name]
        legacy = getattr(op, "axis", None)
        if name != reads[0] and legacy is not None:
            at = legacy % len(out)
            shape = (*(1,) * at, *shape, *(1,) * (len(out) - at - len(shape)))
        elif kind == "PRelu" and name != reads[0] and len(shape) == 1 and len(out) > 1 and (op.by_channel or op.expands):
            shape = (1, shape[0], *(1,) * (len(out) - 2))
        else:
            shape = (*(1,) * (len(out) - len(shape)), *shape)
        if len(shape) != len(out) or any(a not in (1, b) for a, b in zip(shape, out, strict=True)):
            return None
        aligned.append(list(shape))
    return "together", reads, {"f": kind, "al": aligned}


def _scaled(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    quantises = op.op_type == "QuantizeLinear"
    steps = known.dtypes[output if quantises else node.inputs[0]]
    if op.block_size or steps.kind not in "iu" or (quantises and op.precision not in (None, np.dtype(np.float32))):
        return None
    reads = tuple(n for n in node.inputs if n)
    aligned = [list(shapes[0])]
    for name in reads[1:]:
        shape = [1] * len(shapes[0])
        if math.prod(known.shapes[name]) != 1:
            shape[op.axis % len(shape)] = math.prod(known.shapes[name])
        aligned.append(shape)
    settings: dict[str, Any] = {"f": op.op_type, "al": aligned}
    if quantises:
        if known.dtypes[node.inputs[0]] != np.float32:
            return None
        limits = np.iinfo(steps)
        settings |= {"lo": int(limits.min), "hi": int(limits.max)}
    return "together", reads, settings


def _same(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    if math.prod(shapes[0]) != math.prod(known.shapes[output]):
        return None
    return "same", node.inputs[:1], {}


def _transpose(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    rank = len(shapes[0])
    perm = getattr(node.op, "perm", None)
    return "transpose", node.inputs[:1], {"perm": [int(p) for p in perm] if perm else list(range(rank))[::-1]}


def _concat(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    reads = tuple(n for n in node.inputs if n)
    axis = getattr(node.op, "axis", 1) % len(shapes[0])
    return "concat", reads, {"a": axis, "sizes": [known.shapes[n][axis] for n in reads]}


def _slice(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    rank = len(shapes[0])
    starts = list(op.starts) if op.starts is not None else known.numbers(node, 1)
    axes = list(op.axes) if op.axes is not None else known.numbers(node, 3)
    steps = known.numbers(node, 4) or []
    if starts is None or (len(node.inputs) > 3 and node.inputs[3] and axes is None):
        return None
    begin, step = [0] * rank, [1] * rank
    for i, start in enumerate(starts):
        axis = (axes[i] if axes else i) % rank
        step[axis] = steps[i] if i < len(steps) else 1
        n = shapes[0][axis]
        start = start + n if start < 0 else start
        begin[axis] = min(max(start, 0), n) if step[axis] > 0 else min(max(start, 0), n - 1)
    return "slice", node.inputs[:1], {"b": begin, "s": step}


def _split(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    axis = op.axis % len(shapes[0])
    begin = [0] * len(shapes[0])
    for name in node.outputs:
        if name == output:
            break
        if name not in known.shapes:
            return None
        begin[axis] += known.shapes[name][axis]
    return "slice", node.inputs[:1], {"b": begin, "s": [1] * len(begin)}


def _pad(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    rank = len(shapes[0])
    pads = list(op.pads) if op.pads is not None else known.numbers(node, 1)
    if pads is None or op.mode not in ("constant", "reflect", "edge"):
        return None
    if len(node.inputs) > 3 and node.inputs[3]:
        axes = known.numbers(node, 3)
        if axes is None:
            return None
        begins = [0] * rank
        for i, axis in enumerate(axes):
            begins[axis % rank] = pads[i]
    else:
        begins = pads[:rank]
    value = float(op.value)
    if len(node.inputs) > 2 and node.inputs[2]:
        given = known.number(node, 2)
        if given is None:
            return None
        value = given
    return "pad", node.inputs[:1], {"b": begins, "m": op.mode, "v": value}


def _unpool(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    if len(node.inputs) > 2 or len(shapes[0]) < 3 or shapes[0][:2] != known.shapes[output][:2]:
        return None  # the indices address another shape than the output's
    return "unpool", node.inputs[:2], {}


def _gather(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    picks = known.numbers(node, 1)
    axis = op.axis % len(shapes[0])
    if picks is None or len(shapes[1]) > 1 or len(picks) > 4096:
        return None
    n = shapes[0][axis]
    return "gather", node.inputs[:1], {"a": axis, "i": [p % n for p in picks], "keep": len(shapes[1])}


def _blocks(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    if op.op_type != "DepthToSpace":
        return None
    return "blocks", node.inputs[:1], {"n": op.blocksize, "m": op.mode}


def _resize(node: Node, output: str, known: Known, shapes: Shapes) -> Made:
    op: Any = node.op
    if op.coordinates == "tf_crop_and_resize":
        return None
    scales: Any = None if op.factors is None else np.array(op.factors)
    sizes: Any = None
    if scales is None:  # inputs from `first` on: scales, and sizes behind them
        if any(n and known.value(n) is None for n in node.inputs[op.first :]):
            return None
        scales, sizes = ([*(known.value(n) if n else None for n in node.inputs[op.first :]), None, None])[:2]
    out, factors = op.resolve(shapes[0], scales, sizes)
    if out != known.shapes[output]:
        return None
    taps: dict[str, Any] = {}
    for axis, (n, m, factor) in enumerate(zip(shapes[0], out, factors, strict=True)):
        if n == m and factor == 1 and op.coordinates != "tf_half_pixel_for_nn":
            continue
        index, weights = op.taps(n, m, factor)
        if index.size > MOST_TAPS:
            return None
        taps[str(axis)] = [index.tolist(), [[float(f"{w:.8g}") for w in row] for row in weights.tolist()]]
    return "resize", node.inputs[:1], {"taps": taps, "m": op.mode}


MOST_TAPS = 4096
"""Of one axis that is resized: more would be a page's worth of numbers."""

MAKERS: dict[str, Callable[[Node, str, Known, Shapes], Made]] = {
    **dict.fromkeys(("Conv", "ConvTranspose"), _conv),
    **dict.fromkeys(WINDOWS, _pool),
    **dict.fromkeys(REDUCED, _reduce),
    **dict.fromkeys(("AdaptivePool", "SpatialPyramidPool"), _bins),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(
        (
            "InstanceNormalization",
            "GroupNormalization",
            "LayerNormalization",
            "RMSNormalization",
            "MeanVarianceNormalization",
        ),
        _norm,
    ),
    **dict.fromkeys(CURVES, _curve),
    **dict.fromkeys(TOGETHER, _together),
    **dict.fromkeys(SAME, _same),
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch,
    "LRN": _lrn,
    "Clip": _clip,
    "Transpose": _transpose,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Pad": _pad,
    "MaxUnpool": _unpool,
    "Gather": _gather,
    "DepthToSpace": _blocks,
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _scaled),
}


# ---------------------------------------------------------------- what an element is made of
def read_by(rule: Rule, index: Sequence[int]) -> list[Box]:
    """The parts of the tensors that one element of the output is made of; parts that lie in the padding alone are left out."""
    found = _PARTS[rule.kind](rule, tuple(index))
    return [(name, lo, hi) for name, lo, hi in found if name and all(a <= b for a, b in zip(lo, hi, strict=True))]


def _whole(name: str, shape: tuple[int, ...]) -> Box:
    return name, (0,) * len(shape), tuple(n - 1 for n in shape)


def _taps(rule: Rule, index: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """The spatial part of a window, clipped to the input."""
    lo, hi = [], []
    for at, n, k, s, d, b in zip(index[2:], rule.shapes[0][2:], *(rule.settings[x] for x in "nsdb"), strict=True):
        begin = at * s - b
        first = begin if begin >= 0 else begin % d  # the first tap that is inside, else where it would be
        lo.append(first)
        hi.append(min(begin + (k - 1) * d, n - 1))
    return lo, hi


def _conv_parts(rule: Rule, index: tuple[int, ...]) -> list[Box]:
    w, m = rule.shapes[1], rule.shape[1]
    group = index[1] // (m // rule.settings["g"])
    lo, hi = _taps(rule, index)
    c = index[1]
    x = rule.reads[0], (index[0], group * w[1], *lo), (index[0], (group + 1) * w[1] - 1, *hi)
    weights = rule.reads[1], (c, *(0,) * (len(w) - 1)), (c, *(n - 1 for n in w[1:]))
    return [x, weights, (rule.reads[2], (c,), (c,))]


def _convt_parts(rule: Rule, index: tuple[int, ...]) -> list[Box]:
    w, x = rule.shapes[1], rule.shapes[0]
    groups = rule.settings["g"]
    own, group = index[1] % w[1], index[1] // w[1]
    first = group * (x[1] // groups)
    last = first + x[1] // groups - 1
    lo, hi = [], []
    for at, n, k, s, d, b in zip(index[2:], x[2:], *(rule.settings[v] for v in "nsdb"), strict=True):
        lo.append(max(-(-(at + b - (k - 1) * d) // s), 0))
        hi.append(min((at + b) // s, n - 1))
    weights = rule.reads[1], (first, own, *(0,) * len(lo)), (last, own, *(n - 1 for n in w[2:]))
    return [(rule.reads[0], (index[0], first, *lo), (index[0], last, *hi)), weights, (rule.reads[2], (index[1],), (index[1],))]


def _pool_parts(rule: Rule, index: tuple[int, ...]) -> list[Box]:
    lo, hi = _taps(rule, index)
    return [(rule.reads[0], (*index[:2], *lo), (*index[:2], *hi))]


def _reduce_parts(rule: Rule, index: tuple[int, ...]) -> list[Box]:
    x, axes = rule.shapes[0], rule.settings["a"]
    rest = iter(index)
    lo, hi = [], []
    for axis, n in enumerate(x):
        if axis in axes:
            if rule.settings["keep"]:
                next(rest)
            lo.append(0)
            hi.append(n - 1)
        else:
            at = next(rest)
            lo.append(at)
            hi.append(at)
    return [(rule.reads[0], tuple(lo), tuple(hi))]


def bin_of(rule: Rule, index: Sequence[int]) -> tuple[int, list[int], list[int], list[int]]:
    """Channel, number of bins per axis, and the first and last pixel of the bin that an element is of."""
    x, levels = rule.shapes[0], rule.settings["l"]
    if rule.settings.get("flat"):
        channel, at, bins = 0, index[1], levels[0]
        for bins in levels:
            size = x[1] * math.prod(bins)
            if at < size:
                channel, at = divmod(at, math.prod(bins))
                break
            at -= size
        place = [int(v) for v in np.unravel_index(at, bins)]
    else:
        channel, bins, place = index[1], levels[0], list(index[2:])
    lo = [i * n // o for i, n, o in zip(place, x[2:], bins, strict=True)]
    hi = [-(-(i + 1) * n // o) - 1 for i, n, o in zip(place, x[2:], bins, strict=True)]
    return channel, list(bins), lo, hi


def _bins_parts(rule: Rule, index: tuple[int, ...]) -> list[Box]:
    channel, _, lo, hi = bin_of(rule, index)
    return [(rule.reads[0], (index[0], channel, *lo), (index[0], channel, *hi))]


def _dense_parts(rule: Rule, index: tuple[int, ...]) -> list[Box]:
    a, b, c = rule.shapes[:3]
    row, column = index[-2:]
    length = a[-2] if rule.settings["ta"] else a[-1]
    over = index[:-2]

    def of(name: str, shape: tuple[int, ...], outer: int, turned: bool) -> Box:
        before = tuple(0 if n == 1 else i for n, i in zip(shape[:-2], over[len(over) - len(shape) + 2 :], strict=True))
        lo, hi = ((outer, 0), (outer, length - 1)) if not turned else ((0, outer), (length - 1, outer))
        return name, (*before, *lo), (*before, *hi)

    found = [of(rule.reads[0], a, row, bool(rule.settings["ta"])), of(rule.reads[1], b, column, not rule.settings["tb"])]
    if rule.reads[2]:
        at = tuple(0 if n == 1 else i for n, i in zip(c, index[len(index) - len(c) :], strict=True))
        found.append((rule.reads[2], at, at))
    return found


def _along_parts(rule: Rule, index: tuple[int, ...]) -> list[Box]:
    """All along the axes "a"."""
    axes = rule.settings["a"]
    lo = tuple(0 if i in axes else v for i, v in enumerate(index))
    hi = tuple(n - 1 if i in axes else v for i, (v, n) in enumerate(zip(index, rule.shapes[0], strict=True)))
    return [(rule.reads[0], lo, hi)]


def _batch_parts(rule: Rule, index: tuple[int, ...]) -> list[Box]:
    c = (index[1],)
    return [(rule.reads[0], index, index), *((name, c, c) for name in rule.reads[1:])]


def _norm_parts(rule: Rule, index: tuple[int, ...]) -> list[Box]:
    ((name, lo, hi),) = _along_parts(rule, index)
    groups = rule.settings.get("groups")
    at: tuple[int, ...] = (index[1],) if len(index) > 1 else (0,)
    if groups:
        size = rule.shapes[0][1] // groups
        first = index[1] // size * size
        lo, hi = (lo[0], first, *lo[2:]), (hi[0], first + size - 1, *hi[2:])
        at = (index[1] // size,) if rule.settings["by"] == "group" else at
    found: list[Box] = [(name, lo, hi)]
    for other, shape in zip(rule.reads[1:], rule.shapes[1:3], strict=True):
        if other:
            place = index[len(index) - len(shape) :] if rule.settings["by"] == "last" else at
            found.append((other, tuple(place), tuple(place)))
    return found


def _lrn_parts(rule: Rule, index: tuple[int, ...]) -> list[Box]:
    size, c = rule.settings["size"], index[1]
    first, last = max(0, c - (size - 1) // 2), min(rule.shapes[0][1] - 1, c + size // 2)
    return [(rule.reads[0], (index[0], first, *index[2:]), (index[0], last, *index[2:]))]


def _together_parts(rule: Rule, index: tuple[int, ...]) -> list[Box]:
    found: list[Box] = []
    for name, shape, aligned in zip(rule.reads, rule.shapes[:-1], rule.settings["al"], strict=True):
        at = unravel(ravel([0 if n == 1 else i for i, n in zip(index, aligned, strict=True)], aligned), shape)
        found.append((name, at, at))
    return found


def ravel(index: Sequence[int], shape: Sequence[int]) -> int:
    flat = 0
    for i, n in zip(index, shape, strict=True):
        flat = flat * n + i
    return flat


def unravel(flat: int, shape: Sequence[int]) -> tuple[int, ...]:
    found = []
    for n in reversed(shape):
        flat, at = divmod(flat, n)
        found.append(at)
    return tuple(found[::-1])


def source_of(rule: Rule, index: Sequence[int]) -> tuple[int, tuple[int, ...]] | None:
    """Of an operator that moves elements: the place among `reads`, and the index there; None of one that is filled in."""
    kind, s, x = rule.kind, rule.settings, rule.shapes[0]
    if kind in ("same", "curve"):
        return 0, unravel(ravel(index, rule.shape), x)
    if kind == "transpose":
        found = [0] * len(x)
        for at, axis in zip(index, s["perm"], strict=True):
            found[axis] = at
        return 0, tuple(found)
    if kind == "concat":
        at = index[s["a"]]
        for place, size in enumerate(s["sizes"]):
            if at < size:
                return place, (*index[: s["a"]], at, *index[s["a"] + 1 :])
            at -= size
        return None
    if kind == "slice":
        return 0, tuple(b + i * step for i, b, step in zip(index, s["b"], s["s"], strict=True))
    if kind == "pad":
        found = []
        for i, b, n in zip(index, s["b"], x, strict=True):
            at = i - b
            if not 0 <= at < n:
                if s["m"] == "constant":
                    return None
                at = min(max(at, 0), n - 1) if s["m"] == "edge" else -at if at < 0 else 2 * (n - 1) - at
            found.append(at)
        return 0, tuple(found)
    if kind == "gather":
        a, rest = s["a"], list(index)
        if s["keep"]:
            rest[a] = s["i"][rest[a]]
        else:
            rest.insert(a, s["i"][0])
        return 0, tuple(rest)
    if kind == "blocks":
        n, (c, y, w) = s["n"], index[1:]
        step = rule.shape[1]
        within = (y % n) * n + w % n
        channel = within * step + c if s["m"] == "DCR" else c * n * n + within
        return 0, (index[0], channel, y // n, w // n)
    return None


def _moved_parts(rule: Rule, index: tuple[int, ...]) -> list[Box]:
    found = source_of(rule, index)
    return [] if found is None else [(rule.reads[found[0]], found[1], found[1])]


def _unpool_parts(rule: Rule, index: tuple[int, ...]) -> list[Box]:
    lo = (*index[:2], *(0,) * (len(index) - 2))
    hi = (*index[:2], *(n - 1 for n in rule.shapes[0][2:]))
    return [(rule.reads[0], lo, hi), (rule.reads[1], lo, hi)]


def _resize_parts(rule: Rule, index: tuple[int, ...]) -> list[Box]:
    lo, hi = list(index), list(index)
    for axis, (places, _) in rule.settings["taps"].items():
        at = places[index[int(axis)]]
        lo[int(axis)], hi[int(axis)] = min(at), max(at)
    return [(rule.reads[0], tuple(lo), tuple(hi))]


_PARTS: dict[str, Callable[[Rule, tuple[int, ...]], list[Box]]] = {
    "conv": _conv_parts,
    "convt": _convt_parts,
    "pool": _pool_parts,
    "reduce": _reduce_parts,
    "bins": _bins_parts,
    "dense": _dense_parts,
    "softmax": _along_parts,
    "batch": _batch_parts,
    "norm": _norm_parts,
    "lrn": _lrn_parts,
    "together": _together_parts,
    "unpool": _unpool_parts,
    "resize": _resize_parts,
    **dict.fromkeys(("same", "curve", "transpose", "concat", "slice", "pad", "gather", "blocks"), _moved_parts),
}
