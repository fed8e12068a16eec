"""What the subcommands share: exit statuses, how an error is shown, shapes of inputs, tables."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from ..arguments import integer
from ..errors import InputError
from ..limits import Limits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..model import Model
    from ..report.tables import Text

EXIT_OK = 0
EXIT_SOME_FAILED = 1
EXIT_UNUSABLE = 2

BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What ends a line or a field, moves a terminal's cursor, or is no text: bytes of another encoding are lone surrogates."""


def shown(name: str) -> str:
    """A name within a line: one that holds a tab, a new line or no text is written as a string of Python."""
    return repr(name) if BREAKING.search(name) or name[:1] in ("'", '"') else name


def one_line(text: object) -> str:
    """A text without what ends a line or moves a terminal's cursor: those characters as Python writes them."""
    return "".join(c if c.isprintable() or c == " " else c.encode("unicode_escape").decode() for c in str(text))


def message_of(error: object) -> str:
    """What an error says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        names = [one_line(repr(name)) for name in (error.filename, error.filename2) if name is not None]
        return ": ".join([*names, error.strerror])
    return one_line(" ".join(str(error).split())) or type(error).__name__


def complain(error: object, about: str | None = None) -> None:
    """Print an error as one line on standard error; where nobody takes it, there is nobody to tell."""
    text = message_of(error)
    with suppress(OSError, ValueError):
        if sys.stderr is not None:  # print would take standard output
            print(f"cnnengine: {one_line(shown(about))}: {text}" if about else f"cnnengine: {text}", file=sys.stderr, flush=True)


def whole(text: str, low: int = 0) -> int:
    """A whole number in digits alone, of at least `low`; ValueError for anything else."""
    if not (text.isascii() and text.isdigit()):  # int() takes "1_000", " 3" and the digits of every script
        raise ValueError
    return integer(int(text), "the number", low)


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    return whole(text, 1)


positive.__name__ = "positive whole number"  # argparse shows it in its message


def part(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


part.__name__ = "number from 0 to 1"


def seconds(text: str) -> float:
    """An argparse type: a time, 0 or more."""
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError
    return value


seconds.__name__ = "number of seconds"


def check_plot(path: str) -> None:
    """Refuse before measuring what could not be drawn after it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError("plots need matplotlib: pip install matplotlib") from None
    if not path.lower().endswith((".png", ".svg", ".pdf")):
        raise InputError("unknown kind of file", tensor="--plot", expected=".png, .svg or .pdf", received=path)


def check_json(option: str, path: str, model: str) -> None:
    """Refuse before measuring what could not be written after it, or would be written over the model."""
    if not path.lower().endswith(".json"):
        raise InputError("unknown kind of file", tensor=option, expected=".json", received=path)
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise InputError("cannot be written: there is no such folder", file=path)
    if os.path.exists(path) and os.path.exists(model) and os.path.samefile(path, model):
        raise InputError("is the model itself", tensor=option, expected="another name", received=path)


def save_plot(figure: Figure, path: str) -> None:
    """Write a figure; a folder that is not there is an `InputError`."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph ")  # of names in scripts that the font lacks, which show as boxes
            figure.savefig(path, dpi=120)
    except OSError as error:
        raise InputError(f"cannot write the plot: {error.strerror or error}", file=path) from error


def named_shape(text: str) -> tuple[str | None, tuple[int, ...]]:
    """An argparse type: `name=1,3,224,224`, or the extents alone for a model of one input."""
    name, equals, extents = text.rpartition("=")
    shape = tuple(whole(part.strip()) for part in extents.split(",")) if extents != "scalar" else ()
    return (name if equals else None), shape


named_shape.__name__ = "shape"


def winograd(text: str) -> bool | float:
    """An argparse type: 'on', 'off' or a number from 1 on."""
    from ..plan.budget import winograd_words

    try:
        return winograd_words(text)
    except InputError:
        raise ValueError from None


winograd.__name__ = "'on', 'off' or number from 1 on"


def add_winograd_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--winograd",
        metavar="X",
        type=winograd,
        default=True,
        help="compute convolutions by Winograd's algorithm: on, off, or with weights of at most X times the model's memory "
        "(default: on, twice and 24 MiB; example: --winograd 4)",
    )


def limits(text: str) -> Limits | None:
    """An argparse type: 'default' or 'strict'."""
    if text not in ("default", "strict"):
        raise ValueError
    return Limits.strict() if text == "strict" else None


limits.__name__ = "'default' or 'strict'"


def add_limits_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--limits",
        metavar="NAME",
        type=limits,
        default=None,
        help="how much memory and time a model may ask for: default, or strict for a stranger's file (default: default; "
        "example: --limits strict)",
    )


def add_precision_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        metavar="NAME",
        default="float32",
        help="float32, or bfloat16: keep weights of dense layers that come from memory in half the size (default: float32; "
        "example: --precision bfloat16)",
    )


def add_shape_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shape",
        metavar="NAME=N,N,...",
        type=named_shape,
        action="append",
        default=[],
        help="shape of an input that is dynamic in the file; once per input, the name may be left out when there is one "
        "(default: a batch of 1; example: --shape image=1,3,224,224)",
    )


def shapes_of(model: Model, given: Sequence[tuple[str | None, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    """The shapes that `--shape` gave, by input."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in given:
        if name is None:
            if len(model.inputs) != 1:
                names = ", ".join(info.name for info in model.inputs)
                raise InputError("name the input", tensor="--shape", expected=f"NAME=N,N,... with one of {names}")
            name = model.inputs[0].name
        if name in shapes:
            raise InputError("given twice", tensor=f"--shape {name}")
        shapes[name] = shape
    return shapes


def show(text: Text) -> None:
    """Print a report, its tables no wider than the terminal."""
    from ..report.tables import terminal_width

    for line in text.lines(terminal_width()):
        print(line)
