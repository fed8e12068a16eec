"""One sentence for what a layer does, by its operator and settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .rules import CURVES, Rule

CURVE_WORDS = {
    "Relu": "Keeps positive numbers and sets negative ones to zero.",
    "LeakyRelu": "Keeps positive numbers and multiplies negative ones by {alpha}.",
    "ThresholdedRelu": "Keeps numbers above {alpha} and sets all others to zero.",
    "Elu": "Keeps positive numbers; negative ones approach -{alpha} along an exponential.",
    "Selu": "Keeps positive numbers, scaled by {gamma}; negative ones approach a floor along an exponential.",
    "Celu": "Keeps positive numbers; negative ones approach -{alpha} along an exponential.",
    "Gelu": "Multiplies each number by the share of a normal distribution below it: large ones pass, negative ones fade out.",
    "Swish": "Multiplies each number by its own sigmoid: large ones pass, negative ones fade out.",
    "Affine": "Multiplies each number by {alpha} and adds {beta}.",
    "HardSigmoid": "Squeezes numbers into 0 to 1 by a straight line, {alpha} x + {beta}, cut off at both ends.",
    "Shrink": "Sets numbers between -{lambd} and {lambd} to zero and moves the others towards zero by {bias}.",
    "Sigmoid": "Squeezes each number into 0 to 1 along an S-shaped curve.",
    "Tanh": "Squeezes each number into -1 to 1 along an S-shaped curve.",
    "HardSwish": "Multiplies each number by a straight-line sigmoid of itself: above 3 it passes, below -3 it is zero.",
    "Mish": "Multiplies each number by tanh(softplus(x)): large ones pass, negative ones fade out.",
    "Softplus": "Bends each number along log(1 + e^x), a smooth version of ReLU.",
    "Softsign": "Squeezes each number into -1 to 1 by x / (1 + |x|).",
    "Exp": "Takes e to the power of each number.",
    "Log": "Takes the natural logarithm of each number.",
    "Sqrt": "Takes the square root of each number.",
    "Reciprocal": "Divides 1 by each number.",
    "Erf": "Applies the error function, an S-shaped curve from -1 to 1.",
    "Abs": "Drops the sign of each number.",
    "Neg": "Turns the sign of each number.",
    "Sign": "Keeps only the sign of each number: -1, 0 or 1.",
    "Floor": "Rounds each number down.",
    "Ceil": "Rounds each number up.",
    "Round": "Rounds each number to the nearest whole one.",
    "Sin": "Takes the sine of each number.",
    "Cos": "Takes the cosine of each number.",
    "Not": "Turns true into false and false into true.",
}
TOGETHER_WORDS = {
    "Add": "Adds {two}, element by element.",
    "Sum": "Adds {many} tensors, element by element.",
    "Mean": "Averages {many} tensors, element by element.",
    "Sub": "Subtracts the second from the first of {two}, element by element.",
    "Mul": "Multiplies {two}, element by element.",
    "Div": "Divides the first of {two} by the second, element by element.",
    "Pow": "Raises the first of {two} to the power of the second, element by element.",
    "Min": "Keeps the smallest of {many} numbers at each place.",
    "Max": "Keeps the largest of {many} numbers at each place.",
    "PRelu": "Keeps positive numbers and multiplies negative ones by a slope that was learned for each channel.",
    "Where": "Takes each number from the second tensor where the first says yes, and from the third elsewhere.",
    "QuantizeLinear": "Rounds each number to a whole step of a scale, from {lo} to {hi}: it needs fewer bits then.",
    "DequantizeLinear": "Turns steps back into numbers: (step - zero point) x scale.",
    "Expand": "Repeats the tensor along axes of extent 1 until it has a larger shape.",
}
OTHER_WORDS = {
    "Resize": "Resizes the maps by interpolation.",
    "Upsample": "Enlarges the maps by interpolation.",
    "Tile": "Repeats the tensor along its axes.",
    "Shape": "Gives the extents of a tensor as numbers.",
    "ArgMax": "Gives the place of the largest number along an axis.",
    "ArgMin": "Gives the place of the smallest number along an axis.",
    "TopK": "Keeps the largest numbers along an axis, in order.",
    "NonMaxSuppression": "Drops boxes that overlap a better box of the same class.",
    "QLinearConv": "Slides filters over the input in whole numbers and rounds the sums to 8-bit steps.",
    "LSTM": "Reads a sequence step by step with gates that decide what to keep and what to forget.",
    "GRU": "Reads a sequence step by step with gates that decide what to keep.",
    "SpaceToDepth": "Moves blocks of pixels into channels.",
}


def sentence(operator: str, rule: Rule | None) -> str:
    """What a layer does; of an operator without a rule, what is known of it by name."""
    if operator == "Dropout" and rule is not None:
        return "Dropout does nothing at inference: only training drops numbers at random. The output is the input."
    if operator == "Dropout":
        return "Dropout's mask: what training would drop. At inference it drops nothing."
    if rule is None:
        return OTHER_WORDS.get(operator, f"The operator {operator}: its values are shown, its arithmetic is not.")
    return _OF[rule.kind](operator, rule)


def times(extents: Sequence[int]) -> str:
    """3 x 3, or "3 in a row" along one axis."""
    return " x ".join(map(str, extents)) if len(extents) > 1 else f"{extents[0]} in a row"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number(value: float) -> str:
    return f"{value:.4g}"


def _moving(strides: Sequence[int]) -> str:
    if set(strides) == {1}:
        return "moving one pixel at a time"
    return f"moving by {strides[0]}" if len(set(strides)) == 1 else f"moving by {' and '.join(map(str, strides))}"


def _padding(rule: Rule) -> str:
    begins = rule.settings["b"]
    ends = [
        max((o - 1) * s - b + (k - 1) * d + 1 - n, 0)
        for o, n, k, s, d, b in zip(rule.shape[2:], rule.shapes[0][2:], *(rule.settings[v] for v in "nsdb"), strict=True)
    ]
    if not any(begins) and not any(ends):
        return ""
    if len({*begins, *ends}) == 1:
        return f", with a border of {begins[0]} filled in around the input"
    return ", with a border filled in around the input"


def _conv(operator: str, rule: Rule) -> str:
    s, w, x = rule.settings, rule.shapes[1], rule.shapes[0]
    if rule.kind == "convt":
        return (
            f"Spreads each pixel over {times(s['n'])} of the output, weighted by learned filters, {_moving(s['s'])}: "
            f"{plural(x[1], 'channel')} in, {plural(rule.shape[1], 'map')} out, larger than before."
        )
    gaps = (
        f", taking every {s['d'][0]}{'nd' if s['d'][0] == 2 else 'rd' if s['d'][0] == 3 else 'th'} pixel"
        if max(s["d"]) > 1
        else ""
    )
    if max(s["n"]) == 1:
        all_of = "all" if s["g"] == 1 else f"{w[1]} of the"
        return (
            f"Mixes channels at each pixel: each of {plural(w[0], 'map')} is its own weighted sum of {all_of} "
            f"{plural(x[1], 'channel')}{'' if set(s['s']) == {1} else ', ' + _moving(s['s'])}."
        )
    if s["g"] == x[1] and s["g"] > 1:
        what = f"Slides one {times(s['n'])} filter over each of {plural(x[1], 'channel')} by itself"
    elif s["g"] > 1:
        what = f"Slides {plural(w[0], 'filter')} of {times(s['n'])} over {s['g']} groups of {plural(w[1], 'channel')} each"
    else:
        what = f"Slides {plural(w[0], 'filter')} of {times(s['n'])} over {plural(x[1], 'channel')}"
    return f"{what}{gaps}, {_moving(s['s'])}{_padding(rule)}; each filter makes one map."


def _pool(operator: str, rule: Rule) -> str:
    s = rule.settings
    kept = {
        "max": "Keeps the largest of every",
        "average": "Averages every",
        "lp": "Takes the root of the sum of squares (L2) of every"
        if s.get("p") == 2
        else f"Takes the L{s.get('p', 0):g} norm of every",
    }[s["f"]]
    extent = [(k - 1) * d + 1 for k, d in zip(s["n"], s["d"], strict=True)]
    if any(e > t for e, t in zip(extent, s["s"], strict=True)):
        tail = ": neighbours overlap"
    elif any(e < t for e, t in zip(extent, s["s"], strict=True)):
        tail = ": pixels in between are skipped"
    else:
        tail = ": windows touch and do not overlap"
    gaps = " pixels with gaps" if max(s["d"]) > 1 else ""
    border = ""
    if s["f"] == "average" and any((*s["b"], *s["e"])):
        border = "; the border counts as zeros" if s["c"] else "; the border does not count"
    return f"{kept} {times(s['n'])}{gaps}, {_moving(s['s'])}{tail}{border}."


def _reduce(operator: str, rule: Rule) -> str:
    s, x = rule.settings, rule.shapes[0]
    count = math.prod(x[a] for a in s["a"])
    how = {
        "mean": "the mean",
        "sum": "the sum",
        "max": "the largest",
        "min": "the smallest",
        "lp": f"the L{s.get('p', 2):g} norm",
        "l1": "the sum of magnitudes",
        "sumsquare": "the sum of squares",
    }[s["f"]]
    if s["a"] == list(range(2, len(x))) and len(x) > 2:
        return f"Turns each whole map of {times([x[a] for a in s['a']])} into one number, {how} of its {plural(count, 'pixel')}."
    axes = " and ".join(str(a) for a in s["a"])
    return f"Replaces {plural(count, 'number')} along {'axis' if len(s['a']) == 1 else 'axes'} {axes} by {how} of them."


def _bins(operator: str, rule: Rule) -> str:
    s, x = rule.settings, rule.shapes[0]
    kept = "the largest" if s["f"] == "max" else "the mean"
    levels = ", ".join(" x ".join(map(str, bins)) for bins in s["l"])
    if s.get("flat"):
        return (
            f"Spatial pyramid pooling: divides each of {plural(x[1], 'map')} into {levels} bins and keeps {kept} of each bin, "
            "so that a picture of any size gives a vector of one length."
        )
    return f"Divides each map into {levels} bins, whatever its size, and keeps {kept} of each."


def _dense(operator: str, rule: Rule) -> str:
    a, s = rule.shapes[0], rule.settings
    length, outputs = (a[-2] if s["ta"] else a[-1]), rule.shape[-1]
    if operator == "Gemm":
        bias = ", plus a bias" if rule.reads[2] else ""
        return f"A dense layer: each of {plural(outputs, 'output')} is a weighted sum of all {plural(length, 'input')}{bias}."
    return f"A matrix product: each of {plural(outputs, 'column')} is a weighted sum of {plural(length, 'number')} of its row."


def _softmax(operator: str, rule: Rule) -> str:
    count = math.prod(rule.shapes[0][a] for a in rule.settings["a"])
    if rule.settings["log"]:
        return f"The logarithm of softmax over {plural(count, 'number')}: 0 is certain, and the lower, the less likely."
    return (
        f"Turns {plural(count, 'score')} into probabilities: e to the power of each, divided by their sum, so that all add up "
        "to 1."
    )


def _batch(operator: str, rule: Rule) -> str:
    return (
        f"Shifts and scales each of {plural(rule.shapes[0][1], 'channel')} by the mean and spread it had in training, then by "
        "a learned factor and offset."
    )


def _norm(operator: str, rule: Rule) -> str:
    s, x = rule.settings, rule.shapes[0]
    count = math.prod(x[a] for a in s["a"])
    learned = ", then by a learned factor and offset" if rule.reads[1] else ""
    if s.get("groups"):
        size = count * x[1] // s["groups"]
        return f"Brings each of {s['groups']} groups of channels ({plural(size, 'number')}) to mean 0 and spread 1{learned}."
    if not s["centred"]:
        return f"Divides {plural(count, 'number')} at a time by the root of their mean square{learned}."
    what = "each whole map" if s["a"] == list(range(2, len(x))) and len(x) > 2 else "each row"
    return f"Brings {what} ({plural(count, 'number')}) of this very input to mean 0 and spread 1{learned}."


def _lrn(operator: str, rule: Rule) -> str:
    return (
        f"Divides each pixel by a power of the summed squares of {rule.settings['size']} neighbouring channels: strong "
        "neighbours damp each other."
    )


def _curve(operator: str, rule: Rule) -> str:
    s: dict[str, Any] = rule.settings
    if s["f"] == "Clip":
        low, high = s.get("min"), s.get("max")
        if low == 0 and high is not None:
            return f"Keeps numbers between 0 and {number(high)}: negative ones become 0, larger ones {number(high)}."
        parts = [f"at least {number(low)}"] if low is not None else []
        parts += [f"at most {number(high)}"] if high is not None else []
        return f"Limits each number to {' and '.join(parts)}." if parts else "Leaves each number as it is."
    names = {k: v if isinstance(v, str) else number(v) for k, v in s.items() if k in CURVES.get(s["f"], ())}
    return CURVE_WORDS[s["f"]].format(**names)


def _together(operator: str, rule: Rule) -> str:
    f = rule.settings["f"]
    aligned = rule.settings["al"]
    if f in ("Add", "Mul", "Sub", "Div") and len(aligned) == 2 and aligned[0] != aligned[1]:
        small = min(aligned, key=math.prod)
        if f == "Mul" and len(small) > 2 and math.prod(small) == small[1] > 1:
            return "Multiplies each map by one number of its own: a gate that lets channels through or holds them back."
        if math.prod(small) == 1:
            return {
                "Add": "Adds one number to all others.",
                "Mul": "Multiplies all numbers by one.",
                "Sub": "Subtracts, with the same number on one side everywhere.",
                "Div": "Divides, with the same number on one side everywhere.",
            }[f]
    words = TOGETHER_WORDS.get(f, f"Compares or combines two tensors element by element ({f}).")
    return words.format(two="two tensors", many=len(rule.reads), lo=rule.settings.get("lo"), hi=rule.settings.get("hi"))


def _same(operator: str, rule: Rule) -> str:
    x, y = (" x ".join(map(str, s)) or "one number" for s in (rule.shapes[0], rule.shape))
    if operator in ("Flatten", "Reshape", "Squeeze", "Unsqueeze"):
        if rule.shapes[0] == rule.shape:
            return "Leaves the shape as it is: nothing is computed."
        last = (
            "the last axis runs fastest, so that each map follows the one before it"
            if len(rule.shapes[0]) > 2
            else "in the same order"
        )
        verb = "Lays out" if operator == "Flatten" else "Reads"
        return f"{verb} {x} as {y}: {last}. No number changes."
    if operator == "Cast":
        return "Stores each number as another type."
    return "Passes the numbers on as they are."


def _transpose(operator: str, rule: Rule) -> str:
    return (
        f"Changes the order of the axes to {', '.join(map(str, rule.settings['perm']))}: no number changes, only where it lies."
    )


def _concat(operator: str, rule: Rule) -> str:
    axis = rule.settings["a"]
    what = "channels" if axis == 1 and len(rule.shape) > 2 else f"axis {axis}"
    sizes = " + ".join(map(str, rule.settings["sizes"]))
    return f"Puts {plural(len(rule.reads), 'tensor')} one after the other along {what}: {sizes}."


def _slice(operator: str, rule: Rule) -> str:
    parts = [
        f"{b} to {b + (n - 1) * step}{f' by {step}' if step != 1 else ''} of axis {axis}"
        for axis, (b, step, n, m) in enumerate(
            zip(rule.settings["b"], rule.settings["s"], rule.shape, rule.shapes[0], strict=True)
        )
        if (n, step) != (m, 1)
    ]
    return f"Cuts out {' and '.join(parts)}." if parts else "Cuts out everything: nothing changes."


def _pad(operator: str, rule: Rule) -> str:
    how = {
        "constant": f"filled with {number(rule.settings['v'])}",
        "reflect": "filled by reflection",
        "edge": "filled by its edge",
    }
    old, new = (" x ".join(map(str, shape)) for shape in (rule.shapes[0], rule.shape))
    return f"Adds a border, {how[rule.settings['m']]}: {old} becomes {new}."


def _unpool(operator: str, rule: Rule) -> str:
    return (
        "Puts each number back to the place it came from when the maps were pooled, and fills all other places with zeros: what "
        "the pooling dropped stays lost."
    )


def _gather(operator: str, rule: Rule) -> str:
    picks = rule.settings["i"]
    what = f"number {picks[0]}" if len(picks) == 1 else f"{len(picks)} entries"
    return f"Picks {what} along axis {rule.settings['a']}."


def _blocks(operator: str, rule: Rule) -> str:
    n = rule.settings["n"]
    return f"Turns each {n * n} channels into blocks of {n} x {n} pixels: fewer maps, {n} times as wide and high."


def _resize(operator: str, rule: Rule) -> str:
    axes = sorted(int(a) for a in rule.settings["taps"])
    old, new = ([shape[a] for a in axes] for shape in (rule.shapes[0], rule.shape))
    how = {
        "nearest": "each pixel is a copy of the nearest one",
        "linear": "each pixel is a mean of its neighbours, weighted by how near they are",
        "cubic": "each pixel is a sum of 4 x 4 neighbours along smooth curves",
    }[rule.settings["m"]]
    if not axes:
        return "Resizes to the same size: nothing changes."
    verb = "Enlarges" if math.prod(new) > math.prod(old) else "Reduces"
    return f"{verb} the maps from {times(old)} to {times(new)}: {how}."


_OF = {
    **dict.fromkeys(("conv", "convt"), _conv),
    "pool": _pool,
    "reduce": _reduce,
    "bins": _bins,
    "dense": _dense,
    "softmax": _softmax,
    "batch": _batch,
    "norm": _norm,
    "lrn": _lrn,
    "curve": _curve,
    "together": _together,
    "same": _same,
    "transpose": _transpose,
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "unpool": _unpool,
    "gather": _gather,
    "blocks": _blocks,
    "resize": _resize,
}
