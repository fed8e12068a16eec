"""The keys of a file's metadata that belong to pictures and classes, and labels as they hold them."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ModelError

METADATA_KEY = "cnnengine.preprocess"
LABELS_KEY = "cnnengine.labels"


def labels_of_model(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """The labels under our own key of a model's metadata, or None.

    Raises
    ------
    ModelError
        They are not a JSON list of strings.
    """
    text = metadata.get(LABELS_KEY)
    if text is None:
        return None
    try:
        return list_of_strings(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"not a JSON list of strings: {error}", tensor=LABELS_KEY) from None


def list_of_strings(text: str) -> tuple[str, ...]:
    """A JSON list of strings; raises ValueError for anything else."""
    import json  # only here: few files have labels

    labels = json.loads(text)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError("it holds something else")
    return tuple(labels)
