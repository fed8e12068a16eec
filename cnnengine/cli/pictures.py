"""Options that say how a picture becomes the input, and the line that tells what was taken from where."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import CNNEngineError, InputError
from ..files import labels_of_file
from ..metadata import PRESETS, SETS, named_labels
from ..preprocess import ALIGNMENTS, FITS, LAYOUTS, ORDERS, RESAMPLES
from ._common import positive

if TYPE_CHECKING:
    from ..metadata import About, Preparation
    from ..model import Model

FIELDS = (
    *("size", "scale", "mean", "std", "layout", "gray", "order", "fit", "resize", "crop_pct", "longest", "multiple"),
    *("resample", "antialias", "fill", "align", "background"),
)
"""Fields of `Preprocess`, each with an option of its name."""


def option_name(field: str) -> str:
    """The option for a field: `--crop-pct` for crop_pct."""
    return f"--{field.replace('_', '-')}"


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Options that say how an image becomes the input."""
    images = parser.add_argument_group(
        "images",
        "Each goes before what the model's file, or one beside it, says: (pixel * scale - mean) / std, pixels 0..255. How they "
        "are scaled is never guessed.",
    )
    images.add_argument(
        "--size", metavar="HxW", type=_size, help="of the input, height x width (example: --size 224x320, or --size 224)"
    )
    images.add_argument("--scale", metavar="X", type=_number, help="factor for pixels 0..255 (example: --scale 1/255)")
    images.add_argument(
        "--mean",
        metavar="X[,X,X]",
        type=_numbers,
        help="subtracted after scaling: one, or one per channel in the input's order (example: --mean 0.5,0.4,0.4)",
    )
    images.add_argument(
        "--std",
        metavar="X[,X,X]",
        type=_numbers,
        help="divided by: one, or one per channel (example: --std 0.2; negative: --std=-1)",
    )
    images.add_argument("--layout", choices=LAYOUTS, help="order of the input's axes (example: --layout NHWC)")
    images.add_argument(
        "--gray",
        action=argparse.BooleanOptionalAction,
        help="one gray channel instead of red, green, blue (example: --gray, or --no-gray against the metadata)",
    )
    images.add_argument("--order", choices=ORDERS, help="order of the three channels (example: --order BGR)")
    images.add_argument(
        "--fit",
        choices=FITS,
        help="stretch; crop: cover the size and cut out the middle; letterbox: fit into it and fill; pad: fill without resizing; "
        "shorter: resize the shorter side; line: resize to the height (example: --fit crop --resize 256)",
    )
    images.add_argument(
        "--resize",
        metavar="N|HxW",
        type=_resize,
        help="what is resized to before the middle is cut out; one number is the shorter side (example: --resize 256)",
    )
    images.add_argument(
        "--crop-pct", metavar="X", type=_number, help="the same as a part: resize to size / X (example: --crop-pct 0.875)"
    )
    images.add_argument(
        "--longest",
        metavar="N",
        type=positive,
        help="with --fit shorter or line, the most that the other side becomes (example: --longest 1333)",
    )
    images.add_argument(
        "--multiple", metavar="N", type=positive, help="fill up to multiples where the size is free (example: --multiple 32)"
    )
    images.add_argument("--resample", choices=RESAMPLES, help="filter for resizing (example: --resample bicubic)")
    images.add_argument(
        "--antialias",
        action=argparse.BooleanOptionalAction,
        help="resize as Pillow does, or by the nearest pixels alone, as OpenCV does (example: --no-antialias)",
    )
    images.add_argument(
        "--fill", metavar="X[,X,X]", type=_numbers, help="pixel value 0..255 around a picture (default: 0; example: --fill 114)"
    )
    images.add_argument("--align", choices=ALIGNMENTS, help="where it lies in what is filled (example: --align start)")
    images.add_argument(
        "--background",
        metavar="X[,X,X]",
        type=_numbers,
        help="colour under transparent pictures, red, green, blue (default: transparency is dropped; example: --background 255)",
    )
    images.add_argument(
        "--assume",
        choices=PRESETS,
        help="a usual way, for what is not said otherwise: "
        + "; ".join(f"{name}: {text}" for name, (text, _) in PRESETS.items())
        + " (example: --assume imagenet)",
    )


def image_options(args: argparse.Namespace) -> dict[str, object]:
    """What they were given, by the names of `Preprocess`' fields; None where not."""
    return {name: getattr(args, name) for name in FIELDS}


def preparation_of(model: Model, args: argparse.Namespace | None = None) -> Preparation:
    """How pictures become the model's one input, by the options, where there are any, and what is known of the model."""
    given, assume = ({}, None) if args is None else (image_options(args), args.assume)
    try:
        return model.about.preparation(model.inputs[0], given, assume, option_name)
    except CNNEngineError as error:
        raise error.locate(model=model.name) from None


def labels_given(text: str, classes: int | None) -> tuple[str, ...]:
    """The labels that `--labels` names: a file's, or a well-known set's."""
    if os.path.exists(text):
        return labels_of_file(text)
    if text in SETS:
        return named_labels(text, classes)
    raise InputError(
        "there are no such labels", tensor="--labels", expected=f"a file, or one of {', '.join(SETS)}", received=text
    )


def told(about: About, preparation: Preparation | None, labels: str | None, softmax: bool) -> list[str]:
    """What is known of a model, and from where: the picture's way, labels, outputs, task; notes of sources come with them.

    Parameters
    ----------
    about : About
    preparation : Preparation or None
        None where there are no pictures.
    labels, softmax : the options of these names
    """
    parts = [] if preparation is None else [f"pictures: {preparation.describe()}"]
    found = about.first("labels")
    if labels is not None:
        parts.append(f"labels from {labels}")
    elif found is not None and isinstance(found[0], tuple):
        parts.append(f"{len(found[0])} labels from {found[1]}")
    output, task = about.first("output"), about.first("task")
    if softmax:
        parts.append("logits, by --softmax")
    elif output is not None:
        parts.append(f"{output[0]}, says {output[1]}")
    if task is not None:
        parts.append(f"task {task[0]}, says {task[1]}")
    used = () if preparation is None else preparation.notes
    parts += [f"{s.source}: {note}" for s in about.statements for note in s.notes if note not in used]
    return [*parts, *about.problems]


def told_as_json(about: About, preparation: Preparation | None) -> dict[str, object]:
    """The same for programs."""
    found: dict[str, object] = {"preparation": None}
    if preparation is not None:
        found["preparation"] = {
            "settings": preparation.settings.as_dict(),
            "sources": list(preparation.sources),
            "assumed": list(preparation.assumed),
        }
    for name in ("labels", "output", "task"):
        stated = about.first(name)
        value = None if stated is None else list(stated[0]) if isinstance(stated[0], tuple) else stated[0]
        found[name] = None if stated is None else {"value": value, "source": stated[1]}
    found["notes"] = [*(f"{s.source}: {note}" for s in about.statements for note in s.notes), *about.problems]
    return found


def _number(text: str) -> float:
    """A number or a fraction such as 1/255."""
    top, _, bottom = text.partition("/")
    value = float(top) / (float(bottom) or math.nan) if bottom else float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_number(part) for part in text.split(","))


def _size(text: str) -> tuple[int, int]:
    extents = _resize(text)
    return extents[0], extents[-1]


def _resize(text: str) -> Sequence[int]:
    extents = tuple(positive(part) for part in text.lower().split("x"))
    if len(extents) > 2:
        raise ValueError
    return extents


# argparse names these in its messages: "invalid height and width value: 'x'".
_number.__name__ = "number"
_numbers.__name__ = "numbers"
_size.__name__ = "height and width"
_resize.__name__ = "extent, or height and width"
