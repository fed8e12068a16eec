"""Hugging Face's preprocessor_config.json and config.json beside a model.

The first has the fields of an image processor. Most mean the same in all of them; those whose class gives a field another
meaning are told by their name (`image_processor_type`, or `feature_extractor_type` in older files):

- a plain number for `size` is the shorter side for some, height and width for the others;
- ConvNext resizes the shorter side to size / crop_pct and cuts out the middle below 384, and stretches from there on;
- LeViT resizes the shorter side to size * 256 / 224, PoolFormer to size / crop_pct;
- EfficientNet divides by a second deviation where `include_top` is set, and MobileViT turns the channels around.

The second has the labels (`id2label`), and in the names of its classes what the network is for.
"""

from __future__ import annotations

from typing import Any

from .statement import Statement, Subject, numbered, numbers, positive

BY_THE_SHORTER = frozenset(
    {
        "CLIP", "ChineseCLIP", "ConvNext", "Bit", "MobileNetV1", "MobileNetV2", "MobileViT", "Levit", "PoolFormer",
        "Detr", "ConditionalDetr", "DeformableDetr", "Deta", "Yolos", "MaskFormer", "Mask2Former", "OneFormer",
    }
)  # fmt: skip
"""Processors that take a plain number for the shorter side."""
CROPS = frozenset({"CLIP", "ChineseCLIP", "Bit", "MobileNetV1", "MobileNetV2", "MobileViT", "Levit", "PoolFormer", "Deit"})
"""Processors that cut out the middle unless they are told not to."""
RESAMPLES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
SECOND_DEVIATION = (0.47853944, 0.4732864, 0.47434163)
HEADS = (
    ("ForImageClassification", "classify"),
    ("ForImageClassificationWithTeacher", "classify"),
    ("ForObjectDetection", "detect"),
    ("ForSemanticSegmentation", "segment"),
    ("ForImageToImage", "image"),
    ("ForImageSuperResolution", "image"),
)


def read(subject: Subject) -> Statement | None:
    """What a preprocessor_config.json beside the model says, or None."""
    for name, found in subject.objects("preprocessor_config.json"):
        if {"image_mean", "do_normalize", "do_rescale", "do_resize"} & set(found):
            return _statement(name, found)
    return None


def read_classes(subject: Subject) -> Statement | None:
    """What a config.json beside the model says of its classes, or None."""
    for name, found in subject.objects("config.json"):
        heads = found.get("architectures")
        if "model_type" not in found and not isinstance(heads, list):
            continue
        labels = numbered(found.get("id2label"))
        if labels is not None and all(label == f"LABEL_{i}" for i, label in enumerate(labels)):
            labels = None
        head = str(heads[0]) if isinstance(heads, list) and heads else ""
        task = next((task for ending, task in HEADS if head.endswith(ending)), None)
        several = found.get("problem_type") in ("multi_label_classification", "regression")
        output = "logits" if task == "classify" and not several else None
        if labels is not None or task is not None:
            return Statement(name, labels=labels, output=output, task=task)
    return None


def _statement(source: str, found: dict[str, Any]) -> Statement:
    notes: list[str] = []
    kind = str(found.get("image_processor_type") or found.get("feature_extractor_type") or "")
    for ending in ("ImageProcessorFast", "ImageProcessor", "FeatureExtractor", "Processor"):
        kind = kind.removesuffix(ending)
    settings = {**_values(found, kind, notes), **_fit(found, kind, notes)}
    resample = found.get("resample")
    if resample in RESAMPLES and not isinstance(resample, bool):
        settings.update(resample=RESAMPLES[resample], antialias=True)
    elif resample is not None:
        notes.append(f"resample {resample!r} is not known")
    return Statement(source, settings, notes=tuple(notes))


def _values(found: dict[str, Any], kind: str, notes: list[str]) -> dict[str, object]:
    scale = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    if found.get("do_rescale", True):
        given = numbers(found.get("rescale_factor", 1 / 255), (1,))
        if given is None:
            notes.append("rescale_factor is no number")
            return {}
        scale = given[0]
    if found.get("do_normalize", "image_mean" in found):
        known = numbers(found.get("image_mean")), numbers(found.get("image_std"))
        if known[0] is None or known[1] is None or 0 in known[1]:
            notes.append("image_mean and image_std are not numbers for each channel")
            return {}
        mean, std = known[0], known[1]
    if found.get("rescale_offset"):
        mean = tuple(v + 1 for v in mean)
    if kind == "EfficientNet" and found.get("include_top", True):
        std = tuple(v * w for v, w in zip(std * (3 // len(std)), SECOND_DEVIATION, strict=True))
    turned = found.get("do_flip_channel_order", kind == "MobileViT")
    return {"scale": scale, "mean": mean, "std": std, "order": "BGR" if turned else "RGB"}


def _fit(found: dict[str, Any], kind: str, notes: list[str]) -> dict[str, object]:
    if not found.get("do_resize", True):
        return _not_resized(found, notes)
    size = found.get("size")
    short, long = None, None
    both: tuple[int, int] | None = None
    if isinstance(size, dict):
        short, long = positive(size.get("shortest_edge")), positive(size.get("longest_edge"))
        height, width = positive(size.get("height")), positive(size.get("width"))
        both = (height, width) if height and width else None
    elif isinstance(size, (list, tuple)) and len(size) == 2:
        height, width = positive(size[0]), positive(size[1])
        both = (height, width) if height and width else None
    elif positive(size):
        plain = positive(size)
        if kind in BY_THE_SHORTER:
            short = plain
        elif plain:
            both = (plain, plain)
        long = positive(found.get("max_size"))
    crop = _crop(found, kind)
    if kind == "ConvNext" and short:
        part = numbers(found.get("crop_pct") or 224 / 256, (1,))
        if short >= 384 or part is None or not 0.01 <= part[0] <= 1:
            return {"fit": "stretch", "size": (short, short)}
        return {"fit": "crop", "size": (short, short), "resize": (int(short / part[0]),)}
    if kind == "Levit" and short and crop:
        return {"fit": "crop", "size": crop, "resize": (int(256 / 224 * short),)}
    if kind == "PoolFormer" and short and crop:
        part = numbers(found.get("crop_pct") or 0.9, (1,))
        if part is not None and 0.01 <= part[0] <= 1:
            return {"fit": "crop", "size": crop, "resize": (int(short / part[0]),)}
    if short and crop:
        return {"fit": "crop", "size": crop, "resize": (short,)}
    if short:
        return {"fit": "shorter", "resize": (short,), "longest": long}
    if both and crop and crop != both:
        return {"fit": "stretch", "size": crop, "resize": both}
    if both:
        return {"fit": "stretch", "size": both}
    notes.append(f"size {size!r} is not known")
    return {}


def _crop(found: dict[str, Any], kind: str) -> tuple[int, int] | None:
    size = found.get("crop_size")
    if not found.get("do_center_crop", kind in CROPS or size is not None):
        return None
    if isinstance(size, dict):
        height, width = positive(size.get("height")), positive(size.get("width"))
    else:
        height = width = positive(size)
    return (height, width) if height and width else None


def _not_resized(found: dict[str, Any], notes: list[str]) -> dict[str, object]:
    multiple = positive(found.get("pad_size")) or positive(found.get("size_divisor"))
    if found.get("do_pad") and multiple:
        return {"fit": "pad", "multiple": multiple, "align": "start"}
    if found.get("do_center_crop"):
        notes.append("do_center_crop without do_resize is not known")
        return {}
    return {"fit": "stretch"}
