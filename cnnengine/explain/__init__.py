"""Which places of an input a score rests on: exact class activation maps, Ablation-CAM, occlusion (docs/explain.md).

`network` is a file's graph at one input, `target` what is explained, `heads` knows the heads whose maps are exact, `methods`
computes, `result` holds what was found, `page` shows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import integer
from ..errors import InputError
from ..graph import Graph
from ..plan.planner import Store
from .given import Given, fed
from .heads import head_of
from .methods import FILLS, METHODS, PATCHES, Found, ablation, cam, layer_of, occlusion, sizes, unfit
from .network import Axes, Network, Part
from .result import Explanation
from .target import Target, chosen_output, logits, resolved

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["METHODS", "Best", "Explanation", "Given", "Progress", "Wish", "explained", "fed"]

Progress = Callable[[int, int], object]
"""What is told how many runs are done, and of how many."""


class Wish:
    """How a score is explained, checked; `Model.explain` says what each is."""

    def __init__(self, method: Any, output: str | None, layer: str | None, patch: Any, stride: Any, hide: Any) -> None:
        for name, value, known in (("method", method, METHODS), ("hide", hide, FILLS)):
            if value not in known:
                raise InputError(f"unknown {name}", tensor=name, expected=" or ".join(map(repr, known)), received=value)
        if layer is not None and method not in ("auto", "ablation"):
            raise InputError("belongs to ablation", tensor="layer", expected="method='ablation'", received=method)
        if (patch is not None or stride is not None) and method not in ("auto", "occlusion"):
            raise InputError("belong to occlusion", tensor="patch", expected="method='occlusion'", received=method)
        if method == "auto":
            method = "ablation" if layer is not None else "occlusion" if patch is not None or stride is not None else method
        self.method = method
        self.output = output
        self.layer = layer
        self.patch = patch
        self.stride = stride
        self.hide = hide


def explained(
    graph: Graph,
    given: Given,
    targets: Sequence[Any],
    wish: Wish,
    *,
    labels: Sequence[str] | None,
    store: Store | None,
    threads: int,
    winograd: bool | float,
    limit: int,
    progress: Progress | None = None,
    precision: str = "float32",
) -> list[Explanation]:
    """An explanation of each target.

    Parameters
    ----------
    graph : Graph
        As it is in the file.
    targets : sequence
        As `Model.explain` takes them; an integer below zero, -k, stands for the k best classes.

    Raises
    ------
    InputError
        A target, layer or patch is not there, or the method does not fit the network.
    """
    started = time.perf_counter()
    network = Network(graph, given.feeds, given.begin, store=store, threads=threads, winograd=winograd, limit=limit)
    places = network.places(given.last)
    chosen = chosen_output(graph, wish.output)
    score = logits(network, chosen)
    order = list(graph.outputs)
    begin = given.begin
    whole = network.part([begin], list(dict.fromkeys([*order, score])))
    results = dict(zip(dict.fromkeys([*order, score]), whole.one(given.feeds[begin]), strict=True))
    found = [resolved(network, t, chosen, results, labels) for t in _spelled(targets, results[chosen])]
    tensors = list(dict.fromkeys([*([score] if any(t.function is None for t in found) else [])]))
    if any(t.function is not None for t in found):
        tensors = list(dict.fromkeys([*order, *tensors]))
    base = [float(t.values(results, order)[0]) for t in found]
    for value, target in zip(base, found, strict=True):
        if not np.isfinite(value):
            raise InputError("the score is no finite number", tensor=target.tensor or chosen, received=value)
    job = _Job(network, places, found, base, tensors, order, wish, progress)
    made, why, method, layer, part, of, more = job.run(score)
    x = given.feeds[begin]
    axes = places[begin]
    notes = () if precision == "float32" else (f"Computed in float32, and not in {precision} as the model's runs are.",)
    outputs = [None if t.index is None else float(results[t.output].reshape(-1)[t.index]) for t in found]
    cost = {"runs": part.runs, "of": of, "batch": max(part.batch, 1), "seconds": time.perf_counter() - started}

    def picture() -> Image | None:
        if given.picture is not None or len(axes) != 2:
            return given.picture
        from ..pages import image_of, pixels_of

        channel = next(a for a in range(1, x.ndim) if a not in axes)
        return image_of(pixels_of(np.moveaxis(x[0], (channel - 1, *(a - 1 for a in axes)), (0, 1, 2))))

    return [
        Explanation(
            one,
            target,
            method=method,
            why=why,
            score=value,
            output=output,
            layer=layer,
            cost=cost,
            notes=(*more, *notes),
            model=graph.name,
            name=begin,
            extents=[x.shape[a] for a in axes],
            picture=picture,
            place=given.place,
        )
        for one, target, value, output in zip(made, found, base, outputs, strict=True)
    ]


def _spelled(targets: Sequence[Any], y: Any) -> list[Any]:
    """The targets, the best classes in the place of their number."""
    made: list[Any] = []
    for target in targets:
        if type(target) is Best:
            flat = np.asarray(y).ravel()
            made += [int(i) for i in np.argsort(-flat, kind="stable")[: target.count]]
        else:
            made.append(target)
    return made


class Best:
    """As a target: the best classes."""

    def __init__(self, count: int) -> None:
        self.count = integer(count, "top", 1)


class _Job:
    """One choice of a method, and its run."""

    def __init__(
        self,
        network: Network,
        places: Mapping[str, Axes],
        targets: Sequence[Target],
        base: Sequence[float],
        tensors: Sequence[str],
        order: Sequence[str],
        wish: Wish,
        progress: Progress | None,
    ) -> None:
        self._network = network
        self._places = places
        self._targets = targets
        self._base = base
        self._tensors = tensors
        self._order = order
        self._wish = wish
        self._progress = progress

    def run(self, score: str) -> tuple[list[Found], str, str, str, Part, str, tuple[str, ...]]:
        """What was found, why by this method, the method, its layer, what was run, its name, what else it cannot tell."""
        wish, asked = self._wish, "it was asked for"
        declined: list[str] = []
        if wish.method in ("auto", "cam"):
            made, reason = self._cam(score)
            if made is not None:
                return made if wish.method == "auto" else (*made[:1], f"{asked}, and {reason}", *made[2:])
            if wish.method == "cam":
                raise InputError(f"has no exact class activation map: {reason}", tensor="method", received="cam")
            declined.append(reason)
        if wish.method in ("auto", "ablation"):
            layer, reason = self._layer()
            if layer is not None:
                made = self._ablation(layer, asked if wish.method == "ablation" else "; ".join(declined))
                if all(np.isfinite(one.coarse).all() for one in made[0]):
                    return made
                reason = f"without one of the channels of {layer} the score is no finite number"
            if wish.method == "ablation":
                raise InputError(f"has no layer to ablate: {reason}", tensor="method", received="ablation")
            declined.append(reason)
        made = self._occlusion(asked if wish.method == "occlusion" else "; ".join(declined))
        if not all(np.isfinite(one.coarse).all() for one in made[0]):
            raise InputError("without one of the patches the score is no finite number", tensor=self._network.begin)
        return made

    def _cam(self, score: str) -> tuple[tuple[list[Found], str, str, str, Part, str, tuple[str, ...]] | None, str]:
        network = self._network
        if any(t.function is not None for t in self._targets):
            return None, "the target is a function of the outputs, which need be no sum"
        head, reason = head_of(network, score, self._places)
        if head is None:
            return None, reason
        shape = network.shape(head.features)
        assert shape is not None
        several = any(shape[a] > 1 for a in head.axes)
        if not several and self._wish.method == "auto":
            return None, f"the mean ({head.node.op.op_type} {head.node.name!r}) is over one place"
        features = network.part([network.begin], [head.features]).one(network.feeds[network.begin])[0]
        found, tail = cam(network, head, features, score, self._targets, self._progress)
        if not self._holds(found, features.dtype):
            return None, "the mean of the map is not the score: the layers behind the mean are no sums for these numbers"
        more = () if several else ("The mean is over one place, so that the map has one number for all of the input.",)
        return (found, reason, "cam", head.features, tail, "the layers behind the mean", more), reason

    def _holds(self, found: Sequence[Found], dtype: np.dtype) -> bool:
        """Whether the mean of each map and its bias are the score, within what rounding makes."""
        digits = 1e-2 if dtype.itemsize < 4 else 1e-4
        for one, score in zip(found, self._base, strict=True):
            assert one.bias is not None
            scale = max(abs(score), abs(one.bias), float(np.abs(one.coarse).mean()), 1e-30)
            if not abs(one.coarse.mean() + one.bias - score) <= digits * scale:
                return False
        return True

    def _layer(self) -> tuple[str | None, str]:
        name = self._wish.layer
        if name is None:
            return layer_of(self._network, self._tensors, self._places)
        if name not in self._network.graph.names():
            raise self._network.graph.no_value(name)
        reason = unfit(self._network, name, self._places)
        if reason is None and name not in self._network.gates(*self._tensors):
            reason = "the score depends on more than this value"
        if reason is not None:
            raise InputError(f"cannot be ablated: {reason}", tensor=name, expected="one through which all passes, with places")
        return name, ""

    def _ablation(self, layer: str, why: str) -> tuple[list[Found], str, str, str, Part, str, tuple[str, ...]]:
        network = self._network
        features = network.part([network.begin], [layer]).one(network.feeds[network.begin])[0]
        axes = self._places[layer]
        found, tail = ablation(network, layer, axes, features, self._tensors, self._targets, self._order, self._progress)
        return found, why, "ablation", layer, tail, "the layers behind it", ()

    def _occlusion(self, why: str) -> tuple[list[Found], str, str, str, Part, str, tuple[str, ...]]:
        network, wish = self._network, self._wish
        axes = self._places[network.begin]
        extents = [network.feeds[network.begin].shape[a] for a in axes]
        usual = max(1, round(max(extents) / PATCHES))
        patch = sizes(wish.patch, extents, "patch", [usual] * len(extents), extents)
        stride = sizes(wish.stride, extents, "stride", [max(1, p // 2) for p in patch], patch)
        found, part = occlusion(
            network, axes, self._tensors, self._targets, self._order, self._base, patch, stride, wish.hide, self._progress
        )
        said = f"Patches of {' x '.join(map(str, patch))} at every {' x '.join(map(str, stride))}, in their place the {wish.hide}"
        of = "the whole network"
        return found, why, "occlusion", network.begin, part, of, (f"{said}{' of the channel' if wish.hide == 'mean' else ''}.",)
