"""Our own keys, as docs/metadata.md has them. What is under them and is not as described there is an error."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ModelError
from ..preprocess import LABELS_KEY, METADATA_KEY, labels_of_model, stated_settings
from .statement import OUTPUT_KINDS, TASKS, Statement, Subject

OUTPUT_KEY = "cnnengine.output"
TASK_KEY = "cnnengine.task"
SOURCE = "its cnnengine metadata"
KEYS = (LABELS_KEY, OUTPUT_KEY, METADATA_KEY, TASK_KEY)


def output_kind(metadata: Mapping[str, str]) -> str | None:
    """What a model's metadata say of its output: "logits", "probabilities" or None."""
    return _one_of(metadata, OUTPUT_KEY, "unknown kind of output", OUTPUT_KINDS)


def _one_of(metadata: Mapping[str, str], key: str, message: str, choices: tuple[str, ...]) -> str | None:
    kind = metadata.get(key)
    if kind is not None and kind not in choices:
        raise ModelError(message, tensor=key, expected=" or ".join(choices), received=kind)
    return kind


def read(subject: Subject) -> Statement | None:
    """What stands under our own keys; raises ModelError where it is malformed."""
    keys = [key for key in KEYS if key in subject.props]
    if not keys:
        return None
    settings = stated_settings(subject.props)
    return Statement(
        source=SOURCE,
        settings=settings or {},
        complete=settings is not None,
        labels=labels_of_model(subject.props),
        output=output_kind(subject.props),
        task=_one_of(subject.props, TASK_KEY, "unknown task", TASKS),
    )
