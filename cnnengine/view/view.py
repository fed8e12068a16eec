"""View: a run of a model on one input, and the page that shows it.

The page is one file. What it needs to compute with is in it as far as the budget goes: first elements of each layer, chosen here,
with all that they are made of; then maps in small; then whole tensors, the cheapest layers first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from ..plan.trace import Trace
from .layers import Layer, Order, Walk
from .maps import SIDE, Small, figures, scale_of, small
from .pack import OVERHEAD, Store, estimate, floats, packed, shares
from .rules import Box, read_by
from .trail import trail

POINTS = 5
"""Elements of a layer that are chosen at most."""
FOR_POINTS = 0.45
"""Part of the budget that they take at most."""
FOR_MAPS = 0.75
"""Part of the rest that maps in small take at most, where not all fits."""
LEAST_SIDE = 14
"""Rows and columns that maps in small are made smaller to at most."""

Told = Callable[[str, int, int], object]


class View:
    """The tensors of a run, looked at once; made by `look`.

    Attributes
    ----------
    layers : list of Layer
    about : dict
        What the page says of model, picture and results.
    """

    def __init__(self, trace: Trace, orders: Mapping[str, Order], about: dict[str, Any], told: Told | None = None) -> None:
        self.trace = trace
        self.about = about
        self.layers: list[Layer] = []
        self._small: list[Small | None] = []
        self._strength: list[np.ndarray | None] = []
        self._stats: list[dict[str, Any]] = []
        self._points: list[list[tuple[tuple[int, ...], list[tuple[Box, np.ndarray]]]]] = []
        walk = Walk(trace, orders)
        self._walk = walk
        choices: list[list[tuple[int, ...]]] = []
        for layer, value in walk.layers(None if told is None else lambda done, total: told("looking at tensors", done, total)):
            self.layers.append(layer)
            if layer.shown is None:
                self._small.append(None)
                self._strength.append(None)
                self._stats.append({})
                choices.append([])
                continue
            value = _plain(value)
            stats = figures(value, layer.shown)
            maps, strength = small(value, layer.shown, stats)
            self._small.append(maps)
            self._strength.append(strength)
            self._stats.append(stats)
            choices.append(_chosen(layer, value, maps) if layer.rule is not None else [])
        self.by_name = {layer.name: i for i, layer in enumerate(self.layers)}
        self.path = self._path(about.get("target"))
        for name, index in self.path:
            at = self.by_name[name]
            if self.layers[at].rule is not None:
                choices[at] = [index, *(c for c in choices[at] if c != index)][:POINTS]
        for i, chosen in enumerate(choices):
            if told is not None:
                told("choosing pixels", i, len(choices))
            self._points.append([(index, self.parts(i, index)) for index in chosen])

    # ------------------------------------------------------------ numbers
    def get(self, name: str, lo: Sequence[int], hi: Sequence[int]) -> np.ndarray:
        """A part of a tensor, from a first to a last index."""
        value = _plain(self.trace.value(name))
        return value[tuple(slice(a, b + 1) for a, b in zip(lo, hi, strict=True))]

    def parts(self, at: int, index: Sequence[int]) -> list[tuple[Box, np.ndarray]]:
        """The element of a layer, and all that it is made of."""
        layer = self.layers[at]
        boxes: list[Box] = [(layer.name, tuple(index), tuple(index))]
        boxes += [] if layer.rule is None else read_by(layer.rule, index)
        return [(box, np.array(self.get(*box))) for box in boxes]

    def map_of(self, at: int, number: int) -> np.ndarray:
        """A map of a layer, whole."""
        shown = self.layers[at].shown
        assert shown is not None
        found: np.ndarray = shown.of(_plain(self.trace.value(self.layers[at].name)))[number]
        return found

    def numbers(self) -> dict[str, int]:
        """The numbers that pages give to the tensors."""
        tensors = _Tensors(self._walk.shapes)
        for i in range(len(self.layers)):
            self._entry(i, tensors)
        return tensors.names

    def _path(self, target: tuple[str, tuple[int, ...]] | None) -> list[tuple[str, tuple[int, ...]]]:
        if target is None or target[0] not in self.by_name:
            return []
        return trail({layer.name: layer for layer in self.layers}, self.get, *target)

    # ------------------------------------------------------------ the page's data
    def data(self, budget: int, served: bool, frame: int, told: Told | None = None) -> tuple[dict[str, Any], list[str]]:
        """What a page shows, and its chunks, of at most so many bytes together with `frame` bytes that it has besides.

        Raises
        ------
        InputError
            Not even the names and figures fit.
        """
        tensors = _Tensors(self._walk.shapes)
        entries = [self._entry(i, tensors) for i in range(len(self.layers))]
        found = {
            **{key: value for key, value in self.about.items() if key != "target"},
            "layers": entries,
            "path": [[self.by_name[name], *index] for name, index in reversed(self.path)],
            "left": self._walk.left_out[:200],
            "served": int(served),
        }
        from .page import as_json

        fixed = (
            frame + len(as_json({**found, "tensors": tensors.as_json()}).encode()) + 400 * len(entries) + 40 * len(tensors.names)
        )
        if fixed > budget:
            raise InputError("the page does not fit", tensor="--budget", expected=f"at least {fixed:,} bytes", received=budget)
        store = Store(budget - fixed)
        self._fill(entries, tensors, store, told)
        found["tensors"] = tensors.as_json()
        found["notes"] = self._notes(entries)
        return found, store.chunks

    def _entry(self, i: int, tensors: _Tensors) -> dict[str, Any]:
        layer = self.layers[i]
        node = layer.node
        entry: dict[str, Any] = {
            "name": (node.name if node is not None else layer.name) or layer.name,
            "op": "Input" if node is None else node.operator,
            "t": tensors.of(layer.name),
            "words": layer.words,
            "dtype": layer.dtype,
            "stats": _rounded(self._stats[i]),
            **layer.extra,
        }
        if node is not None and node.domain != "ai.onnx":
            entry["domain"] = node.domain
        if layer.part:
            entry["part"] = layer.part
        if layer.how not in ("given", "alone"):
            entry["how"] = layer.how
        if layer.fused:
            entry["fused"] = list(layer.fused)
        if not layer.exact:
            entry["rounds"] = 1
        if layer.shown is not None:
            entry["view"] = [list(layer.shown.maps), layer.shown.y, layer.shown.x]
            entry["scale"] = scale_of(self._stats[i])
        if layer.rule is not None:
            rule = layer.rule.as_json()
            rule["r"] = [tensors.of(n) if n else -1 for n in layer.rule.reads]
            entry["rule"] = rule
        elif node is not None:
            entry["from"] = [self.by_name[n] for n in node.inputs if n in self.by_name]
        if layer.sees is not None:
            entry["sees"] = [[axis, *value] for axis, value in layer.sees.items()]
        if layer.gated:
            entry["gated"] = 1
        if "16" in layer.dtype:
            entry["tol"] = 2e-3 if layer.dtype == "float16" else 1.6e-2
        return entry

    def _fill(self, entries: list[dict[str, Any]], tensors: _Tensors, store: Store, told: Told | None) -> None:
        """Chunks, as many as fit: each layer's share first."""
        wanted = sum(estimate(tensors.shapes[n]) for n in tensors.names if n in self._walk.shapes)
        maps = [0.0 if m is None else m.codes.size * 4 / 3 + OVERHEAD for m in self._small]
        if wanted + sum(maps) + 12 * sum(0 if s is None else s.size for s in self._strength) < store.left:
            self._fill_maps(entries, store, maps)
            self._fill_whole(tensors, store, told)
            return
        self._fill_points(entries, tensors, store)
        room = store.left * FOR_MAPS
        self._fill_maps(entries, store, shares(maps, room))
        self._fill_whole(tensors, store, told)

    def _fill_points(self, entries: list[dict[str, Any]], tensors: _Tensors, store: Store) -> None:
        """Rounds over all layers, one more element in each, so that every layer has one before any has two."""
        room = store.left * FOR_POINTS
        kept: list[list[tuple[tuple[int, ...], list[tuple[Box, np.ndarray]]]]] = [[] for _ in entries]
        sizes = [[sum(a.size for _, a in parts) * 4 * 4 / 3 + 60 for _, parts in points] for points in self._points]
        for turn in range(POINTS):
            order = [i for i in range(len(entries)) if len(sizes[i]) > turn and len(kept[i]) == turn]
            for i in sorted(order, key=lambda i: sizes[i][turn]):
                if sizes[i][turn] <= room:
                    room -= sizes[i][turn]
                    kept[i].append(self._points[i][turn])
        for i, points in enumerate(kept):
            if not points:
                continue
            boxes: dict[tuple[str, tuple[int, ...], tuple[int, ...]], np.ndarray] = {}
            for _, parts in points:
                boxes.update(parts)
            text = packed(floats(np.concatenate([a.reshape(-1).astype(np.float64) for a in boxes.values()])))
            if store.fits(text):
                entries[i]["points"] = [list(index) for index, _ in points]
                entries[i]["boxes"] = [
                    [tensors.of(n), list(lo), [b - a + 1 for a, b in zip(lo, hi, strict=True)]] for n, lo, hi in boxes
                ]
                entries[i]["pc"] = store.add(text)

    def _fill_maps(self, entries: list[dict[str, Any]], store: Store, got: Sequence[float]) -> None:
        for i, maps in enumerate(self._small):
            strength = self._strength[i]
            if maps is None or strength is None or len(maps.numbers) == 0:
                continue
            part, text = maps, packed(maps.codes)
            side = SIDE if maps.codes.shape[1] > 1 else maps.codes.shape[2]
            while len(text) + OVERHEAD > got[i] and (side > LEAST_SIDE or len(part.numbers) > 1):
                if side > LEAST_SIDE and maps.codes.shape[2] > LEAST_SIDE:
                    side = max(side * 2 // 3, LEAST_SIDE)
                    part = maps.part(len(part.numbers), side)
                else:
                    side = min(side, LEAST_SIDE)
                    part = part.part(max(len(part.numbers) * 2 // 3, 1), max(side, 1))
                text = packed(part.codes)
            if not store.fits(text):
                continue
            entries[i]["maps"] = [store.add(text), *part.codes.shape[1:]]
            if len(strength) > 1:
                numbers = packed(np.concatenate([part.numbers.astype(np.float32), strength]))
                if store.fits(numbers):
                    entries[i]["order"] = [store.add(numbers), len(part.numbers)]
                else:
                    del entries[i]["maps"]

    def _fill_whole(self, tensors: _Tensors, store: Store, told: Told | None) -> None:
        """Whole tensors: those of the layers that need the fewest bytes more come first."""
        left = list(range(len(self.layers)))
        done: set[str] = set()

        def missing(i: int) -> list[str]:
            layer = self.layers[i]
            names = {layer.name, *(() if layer.rule is None else (n for n in layer.rule.reads if n))}
            return sorted(n for n in names - done if n in tensors.shapes)

        first = self._filters()
        while left:
            i = first if first in left else min(left, key=lambda i: (sum(estimate(tensors.shapes[n]) for n in missing(i)), i))
            left.remove(i)
            names = missing(i)
            if not names or sum(estimate(tensors.shapes[n]) for n in names) * 0.5 > store.left:
                continue
            if told is not None:
                told("packing", len(self.layers) - len(left), len(self.layers))
            texts = [(n, packed(floats(_plain(self.trace.value(n))))) for n in names]
            if sum(len(t) + OVERHEAD for _, t in texts) > store.left:
                continue
            for name, text in texts:
                tensors.whole[name] = store.add(text)
                done.add(name)

    def _filters(self) -> int:
        """The first layer whose filters are pictures; -1 where there is none."""
        for i, layer in enumerate(self.layers):
            if layer.rule is not None and layer.rule.kind == "conv" and len(layer.rule.shapes[1]) == 4:
                w = layer.rule.shapes[1]
                return i if w[1] in (1, 3) and layer.rule.settings["g"] == 1 and min(w[2:]) > 1 else -1
        return -1

    def _notes(self, entries: Sequence[Mapping[str, Any]]) -> list[str]:
        """What the page leaves out."""
        notes = []
        without = sorted({e["op"] for e in entries if "rule" not in e and e["op"] != "Input"})
        if without:
            notes.append(f"Arithmetic is not shown for {', '.join(without)}; their values are.")
        if self._walk.left_out:
            count = len(self._walk.left_out)
            notes.append(f"{count} tensor{'s' if count > 1 else ''} that follow from the file and the shapes alone are left out.")
        batch = [layer for layer in self.layers if layer.shown is not None and len(layer.shape) > 2 and layer.shape[0] > 1]
        if batch and 0 not in batch[0].shown.maps:  # type: ignore[union-attr]
            notes.append("Of a batch, the first sample is shown.")
        return notes


class _Tensors:
    """Numbers for the tensors that a page names."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = shapes
        self.names: dict[str, int] = {}
        self.whole: dict[str, int] = {}

    def of(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names))

    def as_json(self) -> list[list[Any]]:
        """Name, shape, and the chunk that has all of it, or -1."""
        return [[name, list(self.shapes.get(name, ())), self.whole.get(name, -1)] for name in self.names]


def _plain(value: Any) -> np.ndarray:
    """An array of a type that NumPy itself computes with."""
    array = np.asarray(value)
    return array if array.dtype.kind in "fiub" else array.astype(np.float32)


def _rounded(stats: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in stats.items()}


def _chosen(layer: Layer, value: np.ndarray, maps: Small) -> list[tuple[int, ...]]:
    """Elements worth a look: the largest; strong ones of strong maps at several places; one at an edge."""
    assert layer.shown is not None
    shown, shape = layer.shown, value.shape
    rows, columns = shown.extents(shape)
    planes = shown.of(value)
    found: list[tuple[int, ...]] = []

    def add(number: int, y: int, x: int) -> None:
        index = shown.index(number, y, x, shape)
        if index not in found:
            found.append(index)

    strongest = int(maps.numbers[0])
    for number, plane in ((int(maps.numbers[min(k, len(maps.numbers) - 1)]), None) for k in (0, 1, 3)):
        plane = np.nan_to_num(planes[number].astype(np.float64))
        add(number, *(int(v) for v in np.unravel_index(int(np.abs(plane).argmax()), plane.shape)))
    add(strongest, 0, 0)
    add(int(maps.numbers[len(maps.numbers) // 2]), rows // 2, columns // 2)
    add(int(maps.numbers[-1]), rows - 1, columns - 1)
    if len(found) < 3:
        for flat in range(min(3, rows * columns)):
            add(strongest, flat // columns, flat % columns)
    return found[:POINTS]
