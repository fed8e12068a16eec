"""From a model and a picture to a View: what goes in, what came out, how long it took."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..errors import CNNEngineError, InputError
from ..metadata import Preparation
from ..model import Model
from ..preprocess import Placement, Preprocess, as_image
from ..report import profile, summarize
from ..tasks import (
    Chosen,
    Described,
    Detections,
    Picture,
    Ranking,
    Segmentation,
    Wishes,
    canvas_of,
    picture_input,
    unplaced,
    upright,
)
from .layers import FIRST, Order, pictured
from .view import Told, View

if TYPE_CHECKING:
    from PIL.Image import Image

TOP = 5
PICTURE = 480
"""Pixels of a side of the picture in a page at most."""
ROWS = 5
"""Lines of a result that are shown."""


def look(
    model: Model,
    image: Any = None,
    *,
    feeds: Mapping[str, np.ndarray] | None = None,
    preparation: Preparation | None = None,
    wishes: Wishes | None = None,
    option: Callable[[str], str] = "{}=".format,
    timed: bool = True,
    title: str = "",
    told: Told | None = None,
) -> View:
    """Run a model on one input and look at all of its tensors.

    Parameters
    ----------
    model : Model
    image : path, bytes, binary file object, PIL.Image.Image, or uint8 ndarray (H, W) or (H, W, 3), optional
    feeds : mapping of str to ndarray, optional
        Arrays in place of a picture.
    preparation : Preparation, optional
        How the picture becomes the input; as `Model.preparation` has it by default.
    wishes : Wishes, optional
        How outputs are read.
    option : function
        How a caller names a wish.
    timed : bool
        Whether to measure how long each layer takes.
    title : str
        What the input is called.
    told : function of what is done, how much of it, and of how many, optional

    Returns
    -------
    View

    Raises
    ------
    InputError
        There is neither a picture nor arrays, or both; the picture cannot be read, or the model takes none.
    CNNEngineError
        As `Model.trace`.
    """
    if (image is None) == (feeds is None):
        raise InputError(
            "give a picture or arrays", model=model.name, expected="one of both", received="both" if image is not None else "none"
        )
    place: Placement | None = None
    settings: Preprocess | None = None
    drawn: Image | None = None
    orders: dict[str, Order] = {}
    if image is not None:
        taken = picture_input(model)
        if preparation is None:
            preparation = (
                model.preparation()
                if len(model.inputs) == 1 and not taken.bare
                else model.about.preparation(taken.info, {}, None)
            )
        settings = preparation.settings
        picture = as_image(image)
        x = settings.apply(picture, taken.info.dtype)
        place = settings.place(picture.height, picture.width)
        feeds = taken.feeds(x)
        drawn = upright(picture)
        if not taken.bare:
            orders[taken.info.name] = ("N", "C", "H", "W") if settings.layout == "NCHW" else ("N", "H", "W", "C")
    assert feeds is not None
    for name, value in feeds.items():
        if name not in orders and np.ndim(value) == 4 and np.shape(value)[3] in (1, 3) and np.shape(value)[1] not in (1, 3):
            orders[name] = ("N", "H", "W", "C")
    trace = model.trace(feeds)
    about: dict[str, Any] = {
        "model": model.name,
        "title": title,
        "version": __version__,
        "isa": model.isa,
        "threads": model.threads,
        "inputs": [{"name": i.name, "shape": list(np.shape(feeds[i.name]))} for i in model.inputs if i.name in feeds],
    }
    if drawn is not None:
        about["picture"] = _uri(drawn, PICTURE)
    about["seen"] = _seen(trace, orders, settings)
    outputs = [trace.value(o.name) for o in model.outputs]
    about["result"], about["target"] = _result(model, outputs, wishes, settings, place, drawn, option, feeds)
    view = View(trace, orders, about, told)
    if timed:
        if told is not None:
            told("timing layers", 0, 1)
        _time(model, {n: np.shape(v) for n, v in feeds.items()}, view)
    return view


# ---------------------------------------------------------------- pictures
def _uri(image: Image, side: int) -> str:
    """A picture as a text that a page shows, made smaller where it is larger."""
    from PIL import Image as pillow

    scale = side / max(image.size)
    if scale < 1:
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), pillow.Resampling.LANCZOS)
    data = io.BytesIO()
    if max(image.size) <= 96:
        image.save(data, "PNG", optimize=True)
        kind = "png"
    else:
        image.convert("RGB").save(data, "JPEG", quality=86, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"


def _seen(trace: Any, orders: Mapping[str, Order], settings: Preprocess | None) -> dict[str, Any] | None:
    """The first input that is a picture, pixel for pixel as the network gets it, with its levels made visible again."""
    try:
        from PIL import Image as pillow
    except ImportError:
        return None
    for name in trace.inputs:
        value = trace.value(name)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or not value.size or value.ndim != 4:
            continue
        axes = pictured(value, orders.get(name))
        if axes is None:
            continue
        order = orders.get(name) or FIRST[4]
        pixels = np.nan_to_num(value[0].astype(np.float64))
        pixels = pixels if order[3] == "C" else pixels.transpose(1, 2, 0)
        channels = pixels.shape[2]
        if settings is not None and channels == settings.channels:
            levels = (pixels * settings.std + settings.mean) / settings.scale
            levels = levels[:, :, ::-1] if settings.order == "BGR" and channels == 3 else levels
        else:
            low, high = float(pixels.min()), float(pixels.max())
            levels = (pixels - low) * (255 / (high - low) if high > low else 0.0)
        made = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        image = pillow.fromarray(np.ascontiguousarray(made[:, :, 0] if channels == 1 else made[:, :, :3]))
        side = 512
        return {"t": name, "png": _uri(image, side), "axes": list(axes), "w": int(image.width), "h": int(image.height)}
    return None


# ---------------------------------------------------------------- what came out
def _result(
    model: Model,
    outputs: Sequence[Any],
    wishes: Wishes | None,
    settings: Preprocess | None,
    place: Placement | None,
    drawn: Image | None,
    option: Callable[[str], str],
    feeds: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], tuple[str, tuple[int, ...]] | None]:
    """The outputs as their task reads them, and the number at which the strongest path begins."""
    wishes = wishes or Wishes(top=TOP)
    said: list[str] = []
    items: list[dict[str, Any]] = []
    target: tuple[str, tuple[int, ...]] | None = None
    try:
        task = Chosen(model, wishes, settings, option)
        if place is None:
            shape = next((np.shape(v) for v in feeds.values() if np.ndim(v) == 4), None)
            canvas = None if shape is None else canvas_of(shape)
            place = None if canvas is None else unplaced(canvas)
        samples = task.samples(list(outputs), 1, None if place is None else place.canvas)
        found: Mapping[str, Described] = task.read(samples[0] if samples else list(outputs), place)
        said += task.said
        for name, one in found.items():
            items.append(_item(name, one, drawn))
            if isinstance(one, Ranking) and target is None:
                at = next((i for i, o in enumerate(model.outputs) if o.name == name), None)
                if at is not None and isinstance(outputs[at], np.ndarray):
                    flat = one.classes[0][0]
                    target = name, tuple(int(v) for v in np.unravel_index(flat, outputs[at].shape))
    except CNNEngineError as error:
        said.append(error.message)
    if target is None:
        target = _largest(model, outputs)
    return {"items": items, "said": said}, target


def _largest(model: Model, outputs: Sequence[Any]) -> tuple[str, tuple[int, ...]] | None:
    """The largest number of the first output that has numbers with fractions."""
    for info, value in zip(model.outputs, outputs, strict=True):
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size:
            flat = int(np.nan_to_num(value[:1]).argmax()) if value.ndim else 0
            return info.name, tuple(int(v) for v in np.unravel_index(flat, value[:1].shape if value.ndim else ()))
    return None


def _item(name: str, one: Described, drawn: Image | None) -> dict[str, Any]:
    item: dict[str, Any] = {"name": name, "text": one.as_text()[:400]}
    if isinstance(one, Ranking):
        item["unit"] = one.kind
        item["rows"] = [[str(i) if label is None else label, _finite(value)] for i, label, value in one.classes]
    elif isinstance(one, Detections):
        item["unit"] = "box"
        item["rows"] = [[n, _finite(s)] for n, s in zip(one.names[:ROWS], one.scores[:ROWS].tolist(), strict=True)]
        item["text"] = f"{len(one)} found"
    elif isinstance(one, Segmentation):
        item["unit"] = "share of pixels"
        names = one.labels or ()
        item["rows"] = [[names[i] if i < len(names) else str(i), share] for i, share in one.shares()[:ROWS]]
        item["text"] = ""
    if isinstance(one, (Detections, Segmentation)) and drawn is not None:
        item["drawn"] = _uri(one.draw(drawn), PICTURE)
    if isinstance(one, Picture):
        item["drawn"] = _uri(one.image(), PICTURE)
    return item


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


# ---------------------------------------------------------------- how long it took
def _time(model: Model, shapes: Mapping[str, Sequence[int]], view: View) -> None:
    """Kernel and time of each layer, where the model can be timed; what a run computes together has one time."""
    try:
        report = profile(model, shapes, seconds=0.2, min_rounds=3)
        summary = summarize(model, shapes)
    except CNNEngineError as error:
        view.about["untimed"] = error.message
        return
    owners = {t: layer.name for layer in summary.layers for t in layer.tensors if t}
    nodes = {layer.name: layer for layer in summary.layers}
    seconds: dict[str, float] = {}
    kernels: dict[str, list[str]] = {}
    for step in report.steps:
        seconds[step.node] = seconds.get(step.node, 0.0) + step.seconds_median
        if step.kernel not in kernels.setdefault(step.node, []):
            kernels[step.node].append(step.kernel)
    ends: dict[tuple[str, ...], str] = {}
    for layer in view.layers:
        if layer.name in owners and layer.fused:
            ends[layer.fused] = owners[layer.name]
    total = sum(seconds.values())
    told: set[str] = set()
    for layer in view.layers:
        if layer.node is None:
            continue
        owner = owners.get(layer.name) or ends.get(layer.fused) if layer.fused else owners.get(layer.name)
        if owner is None or owner not in nodes:
            continue
        if owner in kernels:
            layer.extra["kernel"] = kernels[owner]
        macs = nodes[owner].macs
        if owner in seconds and owner not in told:
            told.add(owner)
            layer.extra["seconds"] = seconds[owner]
            layer.extra["share"] = seconds[owner] / total if total else 0.0
            if macs:
                layer.extra["macs"] = macs
    view.about["seconds"] = report.run_median
