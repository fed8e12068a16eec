"""What the exporters of Ultralytics and YOLOv5 write: texts of Python values under plain keys.

`names`, `stride`, and of Ultralytics `task`, `imgsz`, `channels`, `args`; YOLOv5 writes the first two alone. Detectors and their
kin take a letterbox with 114 around it, and OpenCV's bilinear without antialiasing; classifiers the shorter side and the middle,
by Pillow. YOLOv5's classifiers cut out the middle square before they resize, and expect ImageNet's mean and deviation.
"""

from __future__ import annotations

import ast
from typing import Any

from .presets import IMAGENET_MEAN, IMAGENET_STD
from .statement import TASKS, Statement, Subject, numbered, positive

LETTERBOXED = ("detect", "segment", "pose", "obb")


def read(subject: Subject) -> Statement | None:
    """The metadata of an Ultralytics export, or None: `names` alone may be anybody's."""
    props = subject.props
    names = numbered(_value(props.get("names")))
    stride = positive(_value(props.get("stride")))
    if names is None or stride is None:
        return None
    task = props.get("task")
    newer = task is not None
    notes = []
    if newer and task not in TASKS:
        return Statement("its Ultralytics metadata", labels=names, notes=(f"task {task!r} is not known",))
    if task is None:
        task = "classify" if subject.classes == len(names) else "detect"
        notes.append(f"task {task} by the shape of the output, as YOLOv5 does not name it")
    gray = positive(_value(props.get("channels"))) == 1
    settings: dict[str, object] = {"gray": gray, "scale": 1 / 255, "mean": (0.0,), "std": (1.0,), "order": "RGB"}
    size = _size(_value(props.get("imgsz"))) or subject.fixed
    if size is not None:
        settings["size"] = size
    if task in LETTERBOXED:
        settings.update(fit="letterbox", fill=(114.0,), resample="bilinear", antialias=False, align="center")
        if subject.fixed is None:
            settings["multiple"] = stride
    elif newer:
        settings.update(fit="crop", resample="bilinear", antialias=True)
    else:
        settings.update(fit="crop", resample="bilinear", antialias=False, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    source = "its Ultralytics metadata" if newer else "its YOLOv5 metadata"
    output = ("probabilities" if newer else "logits") if task == "classify" else None
    return Statement(source, settings, labels=names, output=output, task=task, notes=tuple(notes))


def _value(text: str | None) -> Any:
    """A Python literal; None where it is none."""
    if text is None or len(text) > 1 << 20:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _size(value: object) -> tuple[int, int] | None:
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    found = [positive(item) for item in items]
    if len(found) not in (1, 2) or None in found:
        return None
    return found[0], found[-1]  # type: ignore[return-value]
