"""Results as rows of a table: a row for each class or box, or one for the sample.

Every row has `input`, `output` and `kind`; what else depends on the kind alone, never on what was found: the header stands when
the first sample is known, also where nothing was found in it.
"""

from __future__ import annotations

import json
from typing import Any

from ...errors import InputError
from .base import Found

ALWAYS = ("input", "output", "kind")
CLASSES = ("rank", "index", "label", "score")
BY_KIND = {
    "probability": CLASSES,
    "score": CLASSES,
    "array": ("dtype", "shape", "min", "max"),
    "detections": (*CLASSES, "left", "top", "right", "bottom", "pixels", "points", "width", "height"),
    "segmentation": ("index", "label", "share", "width", "height"),
    "picture": ("width", "height", "channels", "min", "max"),
    "embedding": ("norm", "vector"),
    "text": ("text", "score"),
}
"""Columns of each kind of result, beside those that every row has."""
TYPES: dict[str, type] = {
    **dict.fromkeys(("rank", "index", "pixels", "width", "height", "channels"), int),
    **dict.fromkeys(("score", "share", "norm", "min", "max", "left", "top", "right", "bottom"), float),
    **dict.fromkeys((*ALWAYS, "label", "dtype", "shape", "points", "text"), str),
    "vector": list,
}

Row = dict[str, Any]


def columns_of(found: Found) -> tuple[str, ...]:
    """The header for what a sample has."""
    names = dict.fromkeys(ALWAYS)
    for value in found.values():
        names.update(dict.fromkeys(BY_KIND[str(value.as_json()["kind"])]))
    return tuple(names)


def rows_of(sample: str, found: Found, columns: tuple[str, ...]) -> list[Row]:
    """A sample's rows; what a row has no value for is left out.

    Raises
    ------
    InputError
        It has what the columns have no place for.
    """
    rows = []
    for output, value in found.items():
        data: Any = value.as_json()
        kind = data.pop("kind")
        if not set(BY_KIND[kind]) <= set(columns):
            raise InputError(
                "does not go with the columns of the samples before it; .jsonl takes everything",
                tensor=output,
                expected=", ".join(columns),
                received=kind,
            )
        common = {"input": sample, "output": output, "kind": kind}
        several = data.pop("top", data.pop("found", None))
        if "size" in data:
            data["height"], data["width"] = data.pop("size")
        if several is None:
            rows.append({**common, **_plain(data)})
        else:
            rows += [{**common, **_plain(data), **_plain(one), "rank": i} for i, one in enumerate(several, 1)] or [
                {**common, **_plain(data)}
            ]
    return [{name: value for name, value in row.items() if name in columns} for row in rows]


def _plain(data: dict[str, Any]) -> Row:
    """Values that a cell holds: boxes by side, lists as JSON; a probability is a score of its kind."""
    row = dict(data)
    if "probability" in row:
        row["score"] = row.pop("probability")
    if "box" in row:
        row["left"], row["top"], row["right"], row["bottom"] = row.pop("box")
    for name in ("points", "shape"):
        if name in row:
            row[name] = json.dumps(row[name])
    return row
