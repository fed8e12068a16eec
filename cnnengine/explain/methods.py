"""The three ways to find which places of an input a score rests on.

Each takes several targets at once, since what costs are the runs, and the runs give the scores of all classes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from ..records import dataclass
from .heads import Head
from .network import Axes, Network, Part
from .target import Target

METHODS = ("auto", "cam", "ablation", "occlusion")
FILLS = ("mean", "blur")
PATCHES = 7
"""Patches along the longer side, where nobody says how large they are."""

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Source:
    """Where a method was published."""

    name: str
    authors: str
    title: str
    where: str
    year: int

    def __str__(self) -> str:
        return f"{self.name}: {self.authors}, {self.title!r}, {self.where} {self.year}"


SOURCES = {
    "cam": Source(
        "class activation map",
        "B. Zhou, A. Khosla, A. Lapedriza, A. Oliva, A. Torralba",
        "Learning Deep Features for Discriminative Localization",
        "CVPR",
        2016,
    ),
    "ablation": Source(
        "Ablation-CAM",
        "S. Desai, H. G. Ramaswamy",
        "Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free Localization",
        "WACV",
        2020,
    ),
    "occlusion": Source(
        "occlusion",
        "M. D. Zeiler, R. Fergus",
        "Visualizing and Understanding Convolutional Networks",
        "ECCV",
        2014,
    ),
}
LIMITS = {
    "cam": (
        "It splits the score over the places of the last layer, exactly. They are drawn as if they shared the input out evenly; "
        "each sees far more of it.",
        "What raises the scores of all classes alike is in the map too.",
    ),
    "ablation": (
        "Channels are removed whole and one at a time: what two of them say together is counted for neither, or for both.",
        "Each channel has one weight for all places, which are drawn as if they shared the input out evenly. The map does not "
        "add up to the score.",
        "Weights are falls of the score, not divided by it, and the map is not cut at zero: what is below speaks against it.",
    ),
    "occlusion": (
        "What stands in the place of a patch is a picture too, and one that the network was not trained on: its edges may be "
        "seen as something.",
        "What is there twice is missed, since hiding one leaves the other. Anything smaller than a patch is blurred to its size.",
    ),
}


@dataclass(frozen=True)
class Found:
    """What a method found for one target.

    Attributes
    ----------
    coarse : ndarray
        A number for each place, in the order of the input's axes of places.
    map : ndarray or None
        At the input's extents, where it is not `coarse` brought there.
    bias : float or None
        What no place adds to the score.
    """

    coarse: np.ndarray
    map: np.ndarray | None = None
    bias: float | None = None


class Telling:
    """Counts what is done of all runs, for whoever wants to know."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total

    def __call__(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, self._total)


# ---------------------------------------------------------------- class activation maps
def cam(
    network: Network, head: Head, features: np.ndarray, score: str, targets: Sequence[Target], progress: Progress | None
) -> tuple[list[Found], Part]:
    """What each place adds to the score: behind the mean there are sums, so that the score of the mean is the mean of the scores.

    The network behind the mean is run for the features of each place, as if they were the mean, and for zeros, which give the
    bias.
    """
    tail = network.part([head.mean], [score])
    shape = network.shape(head.mean)
    assert shape is not None
    spread = np.moveaxis(features, head.axes, range(len(head.axes)))
    extents = spread.shape[: len(head.axes)]
    rows = np.ascontiguousarray(spread.reshape(math.prod(extents), *shape[1:]) * features.dtype.type(head.factor))
    rows = np.concatenate([rows, np.zeros_like(rows[:1])])
    made = np.empty((len(targets), len(rows)))
    for begin, (y,) in tail.each(lambda b, e: rows[b:e], len(rows), Telling(progress, len(rows))):
        for at, target in enumerate(targets):
            made[at, begin : begin + len(y)] = target.values({score: y}, ())
    return [Found((row[:-1] - row[-1]).reshape(extents), None, float(row[-1])) for row in made], tail


# ---------------------------------------------------------------- Ablation-CAM
def layer_of(network: Network, scores: Sequence[str], places: Mapping[str, Axes]) -> tuple[str | None, str]:
    """The last value with channels over several places that all passes through; and why there is none."""
    reason = "no value with channels over several places stands between the input and the score, by which all passes"
    for name in network.gates(*scores):
        if name not in scores and name != network.begin and unfit(network, name, places) is None:
            return name, ""
    return None, reason


def unfit(network: Network, name: str, places: Mapping[str, Axes]) -> str | None:
    """Why the channels of a value cannot be ablated; None where they can."""
    axes, shape, spec = places.get(name), network.shape(name), network.specs.get(name)
    if axes is None or shape is None or spec is None:
        return "which of its axes are places is not known"
    if math.prod(shape[a] for a in axes) < 2:
        return "it has one place"
    rest = [a for a in range(1, len(shape)) if a not in axes]
    if 0 in axes or shape[0] != 1 or len(rest) != 1 or shape[rest[0]] < 2:
        return "it has no axis of several channels"
    return None if spec.dtype.kind == "f" else "it holds no floats, in which 0 stands for nothing"


def ablation(
    network: Network,
    layer: str,
    axes: Axes,
    features: np.ndarray,
    outputs: Sequence[str],
    targets: Sequence[Target],
    order: Sequence[str],
    progress: Progress | None,
) -> tuple[list[Found], Part]:
    """The layer's maps, each by how far the score falls without it."""
    tail = network.part([layer], outputs)
    channel = next(a for a in range(1, features.ndim) if a not in axes)
    maps = np.moveaxis(features, (channel, *axes), range(1 + len(axes))).reshape(
        features.shape[channel], *[features.shape[a] for a in axes]
    )
    count = len(maps)

    def without(begin: int, end: int) -> np.ndarray:
        made = np.repeat(features, end - begin, 0)
        moved = np.moveaxis(made, channel, 1)
        for at, index in enumerate(range(begin, end)):
            if index:  # the first is the layer as it is
                moved[at, index - 1] = 0
        return made

    scores = np.empty((len(targets), count + 1))
    for begin, ys in tail.each(without, count + 1, Telling(progress, count + 1)):
        named = dict(zip(outputs, ys, strict=True))
        for at, target in enumerate(targets):
            found = target.values(named, order)
            scores[at, begin : begin + len(found)] = found
    weights = scores[:, :1] - scores[:, 1:]
    with np.errstate(invalid="ignore"):
        return [Found(np.tensordot(w, maps.astype(np.float64), 1)) for w in weights], tail


# ---------------------------------------------------------------- occlusion
def occlusion(
    network: Network,
    axes: Axes,
    outputs: Sequence[str],
    targets: Sequence[Target],
    order: Sequence[str],
    base: Sequence[float],
    patch: Sequence[int],
    stride: Sequence[int],
    fill: str,
    progress: Progress | None,
) -> tuple[list[Found], Part]:
    """How far the score falls when a patch of the input is hidden; a place has the mean of the patches that hide it."""
    whole = network.part([network.begin], outputs)
    x = network.feeds[network.begin]
    extents = [x.shape[a] for a in axes]
    begins = [starts(n, p, s) for n, p, s in zip(extents, patch, stride, strict=True)]
    corners = list(itertools.product(*begins))
    hidden = filled(x, axes, patch, fill)

    def area(corner: Sequence[int]) -> tuple[slice, ...]:
        found = [slice(None)] * x.ndim
        for axis, at, size in zip(axes, corner, patch, strict=True):
            found[axis] = slice(at, at + size)
        return tuple(found)

    def without(begin: int, end: int) -> np.ndarray:
        made = np.repeat(x, end - begin, 0)
        for at, corner in enumerate(corners[begin:end]):
            where = area(corner)
            made[at : at + 1][where] = hidden[where]
        return made

    falls = np.empty((len(targets), len(corners)))
    for begin, ys in whole.each(without, len(corners), Telling(progress, len(corners))):
        named = dict(zip(outputs, ys, strict=True))
        for at, target in enumerate(targets):
            found = base[at] - target.values(named, order)
            falls[at, begin : begin + len(found)] = found
    results = []
    covered = np.zeros(extents)
    for corner in corners:
        covered[tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))] += 1
    for row in falls:
        total = np.zeros(extents)
        for corner, fall in zip(corners, row, strict=True):
            total[tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))] += fall
        results.append(Found(row.reshape([len(b) for b in begins]), (total / covered).astype(np.float32)))
    return results, whole


def starts(extent: int, patch: int, stride: int) -> list[int]:
    """Where patches begin along an axis: all of it is covered, the last one ends where the axis does."""
    found = list(range(0, extent - patch + 1, stride))
    return found if found[-1] == extent - patch else [*found, extent - patch]


def filled(x: np.ndarray, axes: Axes, patch: Sequence[int], fill: str) -> np.ndarray:
    """What patches show in the place of the input: the mean of each channel, or the input blurred about as wide as a patch."""
    wide = x.astype(np.float64)
    if fill == "mean":
        made = np.broadcast_to(wide.mean(axis=axes, keepdims=True), x.shape)
    else:
        made = wide
        for axis, size in zip(axes, patch, strict=True):
            for _ in range(2):  # two boxes make a triangle
                made = _box(made, axis, size // 2)
    return np.rint(made).astype(x.dtype) if x.dtype.kind in "iu" else made.astype(x.dtype)


def _box(x: np.ndarray, axis: int, radius: int) -> np.ndarray:
    """The mean of each element and those up to `radius` beside it; beyond the ends stands the last one."""
    width = [(0, 0)] * x.ndim
    width[axis] = (radius + 1, radius)
    sums = np.cumsum(np.pad(x, width, mode="edge"), axis=axis)
    size = 2 * radius + 1
    ahead, behind = [np.arange(x.shape[axis]) + offset for offset in (size, 0)]
    return np.asarray((np.take(sums, ahead, axis) - np.take(sums, behind, axis)) / size)


def sizes(given: Any, extents: Sequence[int], name: str, usual: Sequence[int], most: Sequence[int]) -> tuple[int, ...]:
    """A patch or stride: one number for all axes, or one for each; None for the usual.

    Raises
    ------
    InputError
    """
    if given is None:
        return tuple(min(u, m) for u, m in zip(usual, most, strict=True))
    from ..arguments import integer

    values = list(given) if isinstance(given, (tuple, list)) else [given] * len(extents)
    if len(values) != len(extents):
        raise InputError("has another number of axes", tensor=name, expected=f"1 or {len(extents)} numbers", received=given)
    return tuple(integer(v, name, 1, m) for v, m in zip(values, most, strict=True))
