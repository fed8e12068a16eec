"""What of a network's outputs is explained: a class, an element, or a number that a function makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arguments import integer, meant, nearest
from ..errors import InputError
from ..graph import Graph
from ..records import dataclass
from .network import Network

SQUASHING = ("Softmax", "LogSoftmax", "Sigmoid")
"""Operators at the end of a classifier, of which what they read is explained."""


@dataclass(frozen=True)
class Target:
    """One number of the outputs.

    Attributes
    ----------
    tensor : str
        The value that the number is an element of; "" for a function.
    index : int or None
        Of the element, in one sample of it.
    output : str
        The output that it belongs to.
    said : int, tuple of int, or None
        The index as callers have it; None for a function.
    label : str or None
    function : callable or None
        Of the outputs of one sample, as `Model.__call__` gives them.
    """

    tensor: str
    index: int | None
    output: str
    said: Any
    label: str | None = None
    function: Callable[[Any], Any] | None = None

    def __str__(self) -> str:
        if self.function is not None:
            return f"function {getattr(self.function, '__name__', 'of the outputs')}"
        return f"{self.said} {self.label}" if self.label not in (None, str(self.said)) else str(self.said)

    def values(self, outputs: Mapping[str, np.ndarray], order: Sequence[str]) -> np.ndarray:
        """The number for each sample of a run, float64.

        Raises
        ------
        InputError
            The function gives no finite number.
        """
        if self.function is None:
            y = outputs[self.tensor]
            return y.reshape(len(y), -1)[:, self.index].astype(np.float64)
        made = []
        for at in range(len(outputs[order[0]])):
            sample = [outputs[n][at : at + 1] for n in order]
            found = self.function(sample[0] if len(sample) == 1 else tuple(sample))
            try:
                number = float(np.asarray(found).reshape(()))
            except (TypeError, ValueError):
                number = math.nan
            if not math.isfinite(number):
                raise InputError(
                    "the function of the outputs gives no number", tensor="target", expected="a finite number", received=found
                )
            made.append(number)
        return np.array(made)


def is_ranking(shape: Sequence[int]) -> bool:
    """Whether the output of one sample is one score for each class."""
    return bool(shape) and shape[0] == 1 and math.prod(shape) == max(shape)


def logits(network: Network, output: str) -> str:
    """The value that a last Softmax, LogSoftmax or Sigmoid of the classes reads; the output itself where there is none."""
    graph, name = network.graph, output
    makers = graph.producers()
    shape = network.shape(output)
    views = ("Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast")
    plain = ("Identity",)
    ranking = shape is not None and is_ranking(shape)
    while (node := makers.get(name)) is not None:
        operator: Any = node.op
        inner = network.shape(node.inputs[0]) if node.inputs else None
        if operator.op_type in SQUASHING and inner is not None and len(inner):
            if operator.op_type != "Sigmoid":
                axis = operator.axis % len(inner)
                size = math.prod(inner[axis:]) if operator.flatten else inner[axis]
                if ranking and size != math.prod(inner):
                    return output
            return node.inputs[0]
        if operator.op_type not in (views if ranking else plain) or inner is None or math.prod(inner) != math.prod(shape or ()):
            return output
        name = node.inputs[0]
    return output


def chosen_output(graph: Graph, output: str | None) -> str:
    """The output that is explained: the one that is named, or the only or first one."""
    if output is None:
        return next(iter(graph.outputs))
    if output not in graph.outputs:
        said = f"no such output{meant(output, graph.outputs)}"
        raise InputError(said, tensor="output", expected=f"one of {', '.join(graph.outputs)}", received=output)
    return output


def resolved(
    network: Network,
    target: Any,
    output: str | None,
    results: Mapping[str, np.ndarray],
    labels: Sequence[str] | None,
) -> Target:
    """What a caller asks for: a class by index or label, an element by a tuple, a function; None for the best class.

    Parameters
    ----------
    results : mapping of str to ndarray
        The outputs for the input.

    Raises
    ------
    InputError
        There is no such class or element; `expected` has the labels like it.
    """
    name = chosen_output(network.graph, output)
    if callable(target):
        if any(not isinstance(y, np.ndarray) or y.shape[:1] != (1,) for y in results.values()):
            shapes = {n: getattr(y, "shape", "no array") for n, y in results.items()}
            raise InputError(
                "outputs are not those of one sample", tensor="target", expected="a first axis of 1", received=shapes
            )
        return Target("", None, name, None, None, target)
    y = results[name]
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "fiu" or not y.size or y.shape[:1] not in ((1,), ()):
        raise InputError(
            "the output is not of one sample's numbers",
            tensor=name,
            expected="numbers with a first axis of 1, or a function of the outputs as target",
            received=f"{getattr(y, 'dtype', type(y).__name__)} {getattr(y, 'shape', '')}",
        )
    tensor = logits(network, name)
    ranking = is_ranking(y.shape) or y.size == 1
    known = tuple(labels) if labels is not None and len(labels) == y.size else None
    if target is None:
        if not ranking:
            raise InputError(
                "the output is not one score for each class: say what is explained",
                tensor="target",
                expected=f"an index of {len(y.shape) - 1} numbers into {name} {y.shape[1:]}, or a function of the outputs",
            )
        target = int(np.nanargmax(y)) if np.isfinite(y).any() else 0
    if isinstance(target, str):
        target = _by_label(target, known, labels, y.size)
    if isinstance(target, (tuple, list)):
        shape = y.shape[1:]
        if len(target) != len(shape):
            raise InputError(
                "has another number of axes", tensor="target", expected=f"{len(shape)} numbers, for {shape}", received=target
            )
        place = tuple(integer(i, "target", -d, d - 1) % d for i, d in zip(target, shape, strict=True))
        return Target(tensor, int(np.ravel_multi_index(place, shape)) if shape else 0, name, place)
    if not ranking:
        raise InputError(
            "one number names no element of this output",
            tensor="target",
            expected=f"a tuple of {y.ndim - 1} numbers, for {y.shape[1:]}",
            received=target,
        )
    index = integer(target, "target", 0, y.size - 1)
    return Target(tensor, index, name, index, None if known is None else known[index])


def _by_label(text: str, known: tuple[str, ...] | None, labels: Sequence[str] | None, size: int) -> int:
    if known is None:
        if text.isascii() and text.isdigit():
            return int(text)
        state = "the model has no labels" if labels is None else f"the model has {len(labels)} labels for {size} scores"
        raise InputError(f"no such class: {state}", tensor="target", expected="the index of a class", received=text)
    found = [at for at, label in enumerate(known) if label == text]
    if not found:
        # labels such as "tabby, tabby cat" have several names
        found = [at for at, label in enumerate(known) if text.lower() in [part.strip().lower() for part in label.split(",")]]
    if not found and text.isascii() and text.isdigit():
        return int(text)
    if len(found) != 1:
        if found:
            said, expected = "several classes have this name", f"one of the indices {', '.join(map(str, found[:12]))}"
        else:
            said, expected = f"no such class{meant(text, known)}", nearest(text, known, "a label or an index")
        raise InputError(said, tensor="target", expected=expected, received=text)
    return found[0]
