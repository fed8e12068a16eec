"""Which convolutions of a plan are transformed, where the memory for transformed weights is bounded."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from ..graph import Node
from ..ops.conv_choice import PAIR_TIME, Transform
from ..ops.fused import convolution
from ..ops.taps import Pair
from ..spec import TensorSpec

ALLOWANCE = 24 << 20
"""Bytes that transformed weights may always take beyond the plain ones."""


def winograd_option(value: Any) -> bool | float:
    """What `load` was given for `winograd`, checked.

    Raises
    ------
    InputError
        It is neither True, False nor a number from 1 on.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | float | np.integer | np.floating) and value >= 1:
        return float(value)
    raise InputError("unknown value", tensor="winograd", expected="True, False or a number from 1 on", received=value)


def winograd_words(text: str) -> bool | float:
    """The option as a command line and a session have it: "on", "off" or a number; raises as `winograd_option`."""
    if text in ("on", "off"):
        return text == "on"
    try:
        return winograd_option(float(text))
    except ValueError:
        raise InputError(
            "unknown value", tensor="winograd", expected="'on', 'off' or a number from 1 on", received=text
        ) from None


def allowed(winograd: bool | float, plain: int, apart: bool) -> float:
    """Bytes of transformed weights beyond the plain ones that a model may have.

    Parameters
    ----------
    winograd : bool or float
        As `load` takes it.
    plain : int
        Bytes of all constants.
    apart : bool
        Whether they lie in files of their own. Engines read those piece by piece, and hold all of a model's own file beside what
        they make of it: measured at their peak, that is what is left before more memory is taken than by onnxruntime.
    """
    if winograd is True:
        return ALLOWANCE if apart else ALLOWANCE + plain
    return max(winograd - 1, 0.0) * plain


def choose_transforms(
    nodes: Sequence[Node],
    specs: Mapping[str, TensorSpec],
    lanes: int,
    limit: float,
    direct: Collection[str] = (),
    paired: Collection[str] = (),
) -> dict[str, Pair]:
    """The tiles of the convolutions that are transformed, by the name of their output.

    All that gain by it where the limit allows; else those that save the most products per byte, a smaller tile being a step on
    the way to a larger one. It follows from the shapes of one image alone: a batch changes no rounding.

    Parameters
    ----------
    nodes, specs : of the plan
    lanes : int
    limit : float
        Bytes beyond those of the plain weights.
    direct : names of weights that are not transformed
    paired : outputs of convolutions that are products of bfloat16 numbers if they are not transformed, which saves less then
    """
    found: list[tuple[str, Hashable, list[Transform]]] = []
    for node in nodes:
        conv = convolution(node.op)
        if conv is not None and len(node.inputs) > 1 and node.inputs[1] not in direct:
            x, w = specs[node.inputs[0]], specs[node.inputs[1]]
            options = conv.transforms(x.concrete, w, lanes)
            if node.outputs[0] in paired:
                saved = _products(node, specs) * (1 - PAIR_TIME)
                options = [Transform(o.tile, o.extra, o.saved - saved) for o in options if o.saved > saved]
            if options:
                found.append((node.outputs[0], (tuple(node.inputs[1:3]), conv.group, tuple(conv.strides)), options))
    best = {(key, options[0].tile): options[0].extra for _, key, options in found}
    if sum(best.values()) <= limit:
        return {name: options[0].tile for name, _, options in found}
    # layers that share weights share what is made of them
    groups: dict[tuple[Hashable, tuple[Pair, ...]], tuple[list[str], list[Transform]]] = {}
    for name, key, options in found:
        tiles = tuple(option.tile for option in options)
        names, summed = groups.setdefault((key, tiles), ([], [Transform(o.tile, o.extra, 0.0) for o in options]))
        names.append(name)
        summed[:] = [Transform(o.tile, o.extra, o.saved + more.saved) for o, more in zip(summed, options, strict=True)]
    steps: list[tuple[float, int, Transform, Transform | None]] = []
    listed = list(groups.values())
    for index, (_, options) in enumerate(listed):
        before: Transform | None = None
        for option in reversed(options):
            if option.saved <= 0 or (before is not None and option.saved <= before.saved):
                continue
            rate = _rate(option, None)
            if before is not None and rate < _rate(before, None):
                steps.append((_rate(option, before), index, option, before))
                continue
            if before is not None:
                steps.pop()
            steps.append((rate, index, option, None))
            before = option
    taken: dict[int, Transform] = {}
    left = limit
    for _, index, option, before in sorted(steps, key=lambda step: (-step[0], step[1])):
        extra = option.extra - (before.extra if before is not None else 0)
        if extra <= left and taken.get(index) is before:
            taken[index] = option
            left -= extra
    return {name: option.tile for index, option in taken.items() for name in listed[index][0]}


def _products(node: Node, specs: Mapping[str, TensorSpec]) -> int:
    """Multiply-adds of a convolution for one image."""
    inputs, outputs = ([specs[name].concrete if name else None for name in names] for names in (node.inputs, node.outputs))
    y = outputs[0]
    return 0 if y is None or not y[0] else (node.op.multiply_adds(inputs, outputs) or 0) // y[0]


def _rate(option: Transform, before: Transform | None) -> float:
    """Products saved per byte, beyond those of a step before."""
    saved, extra = option.saved, option.extra
    if before is not None:
        saved, extra = saved - before.saved, extra - before.extra
    return saved / extra if extra > 0 else math.inf
