"""The strongest path: from a number of the output back to the input, by the largest term of each sum on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .layers import Layer
from .rules import Rule, read_by, source_of

Get = Callable[[str, Sequence[int], Sequence[int]], np.ndarray]
"""A part of a tensor, from a first to a last index."""
Element = tuple[str, tuple[int, ...]]


def trail(layers: Mapping[str, Layer], get: Get, name: str, index: tuple[int, ...]) -> list[Element]:
    """Elements from the output to the input, each the largest term of the one before it; it ends where a rule is missing."""
    found: list[Element] = [(name, index)]
    while len(found) <= len(layers):
        rule = layers[found[-1][0]].rule
        step = None if rule is None else _strongest(rule, found[-1][1], get, layers)
        if step is None or step[0] not in layers:
            break
        found.append(step)
    return found


def _strongest(rule: Rule, index: tuple[int, ...], get: Get, layers: Mapping[str, Layer]) -> Element | None:
    if rule.kind in ("softmax", "batch", "norm", "lrn"):
        return rule.reads[0], index
    if rule.kind == "together":
        return _together(rule, index, get, layers)
    if rule.kind == "conv":
        return _conv(rule, index, get)
    if rule.kind == "dense":
        (name, lo, hi), weights = read_by(rule, index)[:2]
        x = get(name, lo, hi).astype(np.float64)
        return name, _at(lo, x.shape, int((x.reshape(-1) * get(*weights).reshape(-1)).argmax()))
    if rule.kind in ("pool", "reduce", "bins"):
        return _window(rule, index, get)
    if rule.kind == "resize":
        place = list(index)
        for axis, (places, weights) in rule.settings["taps"].items():
            at = index[int(axis)]
            place[int(axis)] = places[at][int(np.argmax(weights[at]))]
        return rule.reads[0], tuple(place)
    source = source_of(rule, index)
    return None if source is None else (rule.reads[source[0]], source[1])


def _together(rule: Rule, index: tuple[int, ...], get: Get, layers: Mapping[str, Layer]) -> Element | None:
    """Of a sum the larger part; of anything else the larger tensor, which others only change."""
    parts = [(box, shape) for box, shape in zip(read_by(rule, index), rule.shapes[:-1], strict=True) if box[0] in layers]
    if not parts:
        return None
    if rule.settings["f"] in ("Add", "Sum", "Mean", "Sub", "Max"):
        box, _ = max(parts, key=lambda part: abs(float(get(*part[0]).reshape(-1)[0])))
    else:
        box, _ = max(parts, key=lambda part: int(np.prod(part[1])))
    return box[0], box[1]


def _conv(rule: Rule, index: tuple[int, ...], get: Get) -> Element | None:
    boxes = read_by(rule, index)
    if len(boxes) < 2 or boxes[0][0] != rule.reads[0]:  # all in the padding
        return None
    (name, lo, hi), weights = boxes[:2]
    x, w = get(name, lo, hi)[0].astype(np.float64), get(*weights)[0].astype(np.float64)
    taps: list[list[int]] = []
    steps = []
    for i, a, b, *settings in zip(index[2:], lo[2:], hi[2:], *(rule.settings[v] for v in "nsdb"), strict=True):
        n, stride, dilation, begin = settings
        inside = [k for k in range(n) if a <= i * stride - begin + k * dilation <= b]
        taps.append(inside)
        steps.append((i * stride - begin, dilation, a))
    for axis, (inside, (first, dilation, a)) in enumerate(zip(taps, steps, strict=True), 1):
        x = x.take([first + k * dilation - a for k in inside], axis)
        w = w.take(inside, axis)
    best = [int(v) for v in np.unravel_index(int((x * w).argmax()), x.shape)]
    place = [first + inside[i] * dilation for inside, (first, dilation, _), i in zip(taps, steps, best[1:], strict=True)]
    return name, (index[0], lo[1] + best[0], *place)


def _window(rule: Rule, index: tuple[int, ...], get: Get) -> Element | None:
    boxes = read_by(rule, index)
    if not boxes:
        return None
    name, lo, hi = boxes[0]
    steps = [1, 1, *rule.settings["d"]] if rule.kind == "pool" else [1] * len(lo)
    x = get(name, lo, hi)[tuple(slice(None, None, s) for s in steps)].astype(np.float64)
    best = np.unravel_index(int((x if rule.settings["f"] == "max" else np.abs(x)).argmax()), x.shape)
    return name, tuple(a + int(i) * s for a, i, s in zip(lo, best, steps, strict=True))


def _at(first: Sequence[int], shape: Sequence[int], flat: int) -> tuple[int, ...]:
    return tuple(a + int(b) for a, b in zip(first, np.unravel_index(flat, shape), strict=True))
