"""ONNX's own properties of pictures: Image.BitmapPixelFormat, Image.ColorSpaceGamma, Image.NominalPixelRange.

They say which channels in which order, and the range of the values; not how a picture gets the input's size.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..preprocess import Preprocess
from .statement import Statement, Subject

FORMAT, GAMMA, RANGE = "Image.BitmapPixelFormat", "Image.ColorSpaceGamma", "Image.NominalPixelRange"

FORMATS: dict[str, dict[str, object]] = {
    "gray8": {"gray": True},
    "rgb8": {"gray": False, "order": "RGB"},
    "bgr8": {"gray": False, "order": "BGR"},
}
RANGES: dict[str, tuple[str, dict[str, object]]] = {
    "nominalrange_0_255": ("NominalRange_0_255", {"scale": 1.0, "mean": (0.0,), "std": (1.0,)}),
    "normalized_0_1": ("Normalized_0_1", {"scale": 1 / 255, "mean": (0.0,), "std": (1.0,)}),
    "normalized_1_1": ("Normalized_1_1", {"scale": 1 / 255, "mean": (0.5,), "std": (0.5,)}),
    "nominalrange_16_235": ("NominalRange_16_235", {"scale": 219 / 255, "mean": (-16.0,), "std": (1.0,)}),
}


def read(subject: Subject) -> Statement | None:
    """What the properties settle, or None."""
    form, span, gamma = (subject.props.get(key, "").lower() for key in (FORMAT, RANGE, GAMMA))
    if form not in FORMATS and span not in RANGES:
        return None
    settings = {**FORMATS.get(form, {}), **(RANGES[span][1] if span in RANGES else {})}
    notes = ("the input's values are linear, those of pictures are not",) if gamma == "linear" else ()
    return Statement("its Image properties", settings, notes=notes)


def properties(settings: Preprocess) -> Mapping[str, str]:
    """The properties that say of these settings what they can say; none where the values have another range."""
    if settings.scale == 1 and settings.mean == (0.0,) and settings.std == (1.0,):
        span = "NominalRange_0_255"
    else:
        found = (
            name for name, fields in RANGES.values() if all(getattr(settings, field) == value for field, value in fields.items())
        )
        span = next(found, "")
    if not span:
        return {}
    form = "Gray8" if settings.gray else f"{settings.order.title()}8"
    return {FORMAT: form, GAMMA: "SRGB", RANGE: span}
