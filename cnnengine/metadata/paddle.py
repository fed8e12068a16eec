"""What RapidOCR's conversions of PaddleOCR's networks write: `character`, a class a line.

Of a network that classifies, they are its labels; how pictures are prepared it does not say. Of one that reads lines of text
(an output of three axes) the classes are a blank, these, and a space. Such networks take lines of one height, as wide as their
aspect asks for but at least 320 of 48, blue first, from -1 to 1, and 0 where a line is shorter; OpenCV's bilinear without
antialiasing.
"""

from __future__ import annotations

from .statement import Statement, Subject

SOURCE = "its RapidOCR metadata"
HEIGHT, WIDTH = 48, 320


def read(subject: Subject) -> Statement | None:
    """The labels or characters, or None."""
    text = subject.props.get("character")
    characters = () if text is None else tuple(text.splitlines())
    if len(characters) < 2:
        return None
    if subject.classes is not None:
        return Statement(SOURCE, labels=characters, task="classify") if subject.classes == len(characters) else None
    last = [shape[-1] for shape in subject.outputs if shape is not None and len(shape) == 3]
    if not last or (isinstance(last[0], int) and last[0] != len(characters) + 2):
        return None
    height, width = (subject.shape[2], subject.shape[3]) if subject.shape and len(subject.shape) == 4 else (None, None)
    notes = () if isinstance(height, int) else (f"lines of {HEIGHT} pixels, as PP-OCR's networks take them",)
    settings: dict[str, object] = {
        "size": (height if isinstance(height, int) else HEIGHT, width if isinstance(width, int) else WIDTH),
        "fit": "line",
        "longest": width if isinstance(width, int) else None,
        "align": "start",
        "fill": (127.5,),
        "order": "BGR",
        "scale": 1 / 255,
        "mean": (0.5,),
        "std": (0.5,),
        "resample": "bilinear",
        "antialias": False,
    }
    return Statement(SOURCE, settings, task="text", characters=(*characters, " "), notes=notes)
