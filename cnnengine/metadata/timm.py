"""timm's config.json beside a model: `pretrained_cfg` with input_size, interpolation, crop_pct, crop_mode, mean and std.

Older files have these fields at the top. What is done with a picture is timm's transform for evaluation: `center` resizes the
shorter side to input_size / crop_pct, rounded down, and cuts out the middle; `squash` stretches to it first; `border` fits the
picture in and fills with the mean.
"""

from __future__ import annotations

from typing import Any

from ..preprocess import RESAMPLES
from .statement import Statement, Subject, numbered, numbers, positive


def read(subject: Subject) -> Statement | None:
    """What a timm config.json beside the model says, or None."""
    for name, found in subject.objects("config.json"):
        inner = found.get("pretrained_cfg")
        config = {**found, **inner} if isinstance(inner, dict) else found
        if "architecture" in config and {"mean", "std"} <= set(config):
            return _statement(name, config)
    return None


def _statement(source: str, config: dict[str, Any]) -> Statement:
    settings: dict[str, object] = {}
    notes = []
    mean, std = numbers(config["mean"]), numbers(config["std"])
    if mean is not None and std is not None and 0 not in std:
        settings.update(scale=1 / 255, mean=mean, std=std, order="RGB")
    extents = config.get("input_size")
    if isinstance(extents, (list, tuple)) and len(extents) == 3 and all(positive(n) for n in extents):
        settings["size"] = (int(extents[1]), int(extents[2]))
        if extents[0] == 1:
            settings["gray"] = True
    crop = numbers(config.get("crop_pct", 0.875), (1,))
    mode = config.get("crop_mode") or "center"
    if crop is not None and 0.01 <= crop[0] <= 1 and mode in ("center", "squash", "border"):
        settings["fit"] = {"center": "crop", "squash": "stretch", "border": "letterbox"}[mode]
        settings["crop_pct"] = crop[0]
        if mode == "border" and mean is not None:
            settings["fill"] = tuple(float(min(max(round(255 * v), 0), 255)) for v in mean)
    else:
        notes.append(f"crop_pct {config.get('crop_pct')!r} with crop_mode {mode!r} is not known")
    resample = config.get("interpolation", "bilinear")
    if resample in RESAMPLES:
        settings.update(resample=resample, antialias=True)
    else:
        notes.append(f"interpolation {resample!r} is not known")
    classes = config.get("num_classes")
    return Statement(
        source,
        settings,
        labels=_labels(config),
        output=None if classes == 0 else "logits",
        task="embed" if classes == 0 else "classify",
        notes=tuple(notes),
    )


def _labels(config: dict[str, Any]) -> tuple[str, ...] | None:
    names = numbered(config.get("label_names"))
    described = config.get("label_descriptions")
    if names is not None and isinstance(described, dict):
        return tuple(described[n] if isinstance(described.get(n), str) else n for n in names)
    return names
