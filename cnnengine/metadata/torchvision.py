"""The fields of torchvision's presets as JSON beside a model: transforms.json, or MODEL.transforms.json of one model.

    json.dump(vars(weights.transforms()), file, default=str)

has `crop_size`, `resize_size`, `mean`, `std`, `interpolation` and `antialias` of ImageClassification; of SemanticSegmentation,
`resize_size` alone. `categories`, of `weights.meta`, are the labels.
"""

from __future__ import annotations

from typing import Any

from ..preprocess import RESAMPLES
from .statement import Statement, Subject, numbered, numbers, positive


def read(subject: Subject) -> Statement | None:
    """What such a file beside the model says, or None."""
    for name, found in subject.objects(f"{subject.stem}.transforms.json", "transforms.json"):
        if {"mean", "std", "resize_size"} <= set(found):
            return _statement(name, found)
    return None


def _statement(source: str, found: dict[str, Any]) -> Statement:
    settings: dict[str, object] = {}
    notes = []
    mean, std = numbers(found["mean"]), numbers(found["std"])
    if mean is not None and std is not None and 0 not in std:
        settings.update(scale=1 / 255, mean=mean, std=std, order="RGB")
    resize, crop = _extents(found["resize_size"]), _extents(found.get("crop_size"))
    if resize is not None and crop is not None:
        settings.update(size=(crop[0], crop[-1]), fit="crop" if len(resize) == 1 else "stretch", resize=resize)
    elif resize is not None and "crop_size" not in found:
        if len(resize) == 1:
            settings.update(fit="shorter", resize=resize)
        else:
            settings.update(fit="stretch", size=resize)
    else:
        notes.append("crop_size and resize_size are not extents")
    resample = str(found.get("interpolation", "bilinear")).rpartition(".")[2].lower()
    if resample in RESAMPLES:
        settings["resample"] = resample
    else:
        notes.append(f"interpolation {resample!r} is not known")
    # Presets are called with Pillow's images, which are always antialiased, whatever `antialias` says of tensors.
    settings["antialias"] = True
    labels = numbered(found.get("categories"))
    return Statement(source, settings, labels=labels, output="logits" if labels else None, notes=tuple(notes))


def _extents(value: object) -> tuple[int, ...] | None:
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    found = [positive(item) for item in items]
    if len(found) not in (1, 2) or any(n is None for n in found):
        return None
    return tuple(n for n in found if n is not None)
