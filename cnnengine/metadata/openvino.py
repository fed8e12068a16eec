"""OpenVINO's model_info: in an ONNX file under keys `model_info NAME`, or in the .xml beside it that was made of it.

Values are texts, lists of them separated by spaces. The resizing is OpenCV's bilinear without antialiasing; the values are
`(pixel - mean_values) / scale_values`. `reverse_input_channels` turns the blue-first pictures of its programs around, so the
network takes red first; where it does not, the order depends on who called it.
"""

from __future__ import annotations

from collections.abc import Mapping

from .statement import Statement, Subject, numbers

PREFIX = "model_info "
FITS: dict[str, dict[str, object]] = {
    "standard": {"fit": "stretch"},
    "crop": {"fit": "crop"},
    "fit_to_window": {"fit": "letterbox", "align": "start"},
    "fit_to_window_letterbox": {"fit": "letterbox", "align": "center"},
}
KINDS = {"classification": "classify", "segmentation": "segment", "maskrcnn": "segment", "ssd": "detect"}


def read(subject: Subject) -> Statement | None:
    """What model_info says, or None."""
    info = {key.removeprefix(PREFIX): value for key, value in subject.props.items() if key.startswith(PREFIX)}
    source = "its model_info"
    if not info:
        for name, text in subject.texts(f"{subject.stem}.xml"):
            info, source = _of_xml(text), name
    return _statement(info, source) if info else None


def _of_xml(text: str) -> dict[str, str]:
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return {}
    return {item.tag: item.get("value", "") for item in root.findall("./rt_info/model_info/*")}


def _statement(info: Mapping[str, str], source: str) -> Statement:
    labels = tuple(info.get("labels", "").split())
    kind = info.get("model_type", "").lower()
    task = "detect" if kind.startswith("yolo") else KINDS.get(kind)
    if info.get("embedded_processing", "").lower() in ("true", "yes", "1"):
        notes: tuple[str, ...] = ("the network resizes and scales by itself: its input takes the picture's pixels",)
        inside: dict[str, object] = {"scale": 1.0, "mean": (0.0,), "std": (1.0,)}
        return Statement(source, inside, labels=labels or None, task=task, notes=notes)
    settings: dict[str, object] = {}
    notes = ()
    mode = info.get("intensity_mode", "none")
    if mode == "none":
        mean, deviation = (
            _numbers(info.get(name, ""), default) for name, default in (("mean_values", 0.0), ("scale_values", 1.0))
        )
        if mean is not None and deviation is not None and 0 not in deviation:
            settings.update(scale=1.0, mean=mean, std=deviation)
        else:
            notes = ("mean_values or scale_values are not numbers for each channel",)
    else:
        notes = (f"intensity_mode {mode!r} is not known",)
    if info.get("reverse_input_channels", "").lower() in ("true", "yes", "1"):
        settings["order"] = "RGB"
    fit = FITS.get(info.get("resize_type", "standard"))
    if fit is not None:
        settings.update(fit, resample="bilinear", antialias=False)
    pad = _numbers(info.get("pad_value", ""), 0.0)
    if pad is not None and len(pad) == 1 and 0 <= pad[0] <= 255:
        settings["fill"] = pad
    return Statement(source, settings, labels=labels or None, task=task, notes=notes)


def _numbers(text: str, default: float) -> tuple[float, ...] | None:
    if not text.split():
        return (default,)
    try:
        return numbers([float(part) for part in text.split()])
    except ValueError:
        return None
