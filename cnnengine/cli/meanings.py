"""Options that say what outputs mean, and what of it is wanted; the same for all commands that read outputs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..tasks import LAYOUTS, NAMES, VALUES, Wishes
from ._common import part, positive
from .pictures import labels_given, option_name

if TYPE_CHECKING:
    from ..model import Model

OPTIONS = {"layout": "--format"}
"""Options that are called otherwise than what they say."""


def option_of(name: str) -> str:
    """The option for a field of `Wishes` or of `Preprocess`."""
    return OPTIONS.get(name, option_name(name))


def add_task_options(parser: argparse.ArgumentParser, top: str) -> argparse._ArgumentGroup:
    """What the outputs mean, and what of it is wanted; `top` is the help of ``--top``."""
    tasks = parser.add_argument_group("tasks", "What the outputs mean, where the file does not say it (docs/tasks.md).")
    tasks.add_argument(
        "--task",
        choices=NAMES,
        help="classes, boxes, a class for each pixel, a picture, a vector, or a line of text (default: what the file says, or "
        "the outputs leave no doubt of; example: --task detect)",
    )
    tasks.add_argument("--top", metavar="N", type=positive, help=top)
    tasks.add_argument(
        "--threshold",
        metavar="X",
        type=part,
        help="boxes with scores above it count; of one score for each pixel, those above it (default: 0.25 for boxes, 0.5 for "
        "pixels; example: --threshold 0.5)",
    )
    tasks.add_argument(
        "--overlap",
        metavar="X",
        type=part,
        help="boxes that overlap a better one of their class by more, as intersection over union, are dropped (default: 0.45; "
        "example: --overlap 0.7)",
    )
    tasks.add_argument(
        "--format",
        metavar="NAME",
        choices=LAYOUTS,
        help=f"how outputs describe boxes: {', '.join(LAYOUTS)} (default: recognised; example: --format yolox)",
    )
    tasks.add_argument(
        "--values",
        choices=VALUES,
        help="what the numbers of an output that is a picture are: "
        + "; ".join(f"{name}: {text}" for name, text in VALUES.items())
        + " (default: input; example: --values unit)",
    )
    return tasks


def wishes_of(model: Model, args: argparse.Namespace) -> Wishes:
    """What the options ask of a model's outputs, ``--softmax`` and ``--labels`` among them."""
    last = model.outputs[0].shape[-1] if len(model.outputs) == 1 and model.outputs[0].shape else None
    return Wishes(
        task=args.task,
        layout=args.format,
        values=args.values,
        output="logits" if args.softmax else None,
        threshold=args.threshold,
        overlap=args.overlap,
        top=args.top,
        labels=labels_given(args.labels, last if isinstance(last, int) else None) if args.labels else None,
    )
