"""The files that `cnnengine predict` was given: by name, by folder, by pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from .arrays import SUFFIXES as ARRAYS

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Names that count as images in a folder; a file that is named itself may have any."""


@dataclass(frozen=True)
class Given:
    """One file to read, or an argument that stands for none and why."""

    path: str
    error: InputError | None = None


def expand(arguments: Sequence[str]) -> list[Given]:
    """Every file that the arguments stand for, in their order; folders and patterns sorted by name.

    A folder stands for the images and arrays directly in it. A pattern is one with ``*``, ``?`` or ``[`` that is not itself a
    file; ``**`` goes into folders.
    """
    found: list[Given] = []
    for argument in arguments:
        if os.path.isdir(argument):
            try:
                listed = os.listdir(argument)
            except OSError as error:
                found.append(Given(argument, InputError(f"cannot read the folder: {error.strerror or error}")))
                continue
            names = sorted(name for name in listed if name.lower().endswith((*IMAGES, *ARRAYS)))
            paths = [os.path.join(argument, name) for name in names]
            paths = [path for path in paths if not os.path.isdir(path)]
            reason = "no images or arrays in the folder"
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            paths = sorted(path for path in glob.glob(argument, recursive=True) if not os.path.isdir(path))
            reason = "no file matches the pattern"
        else:
            paths, reason = [argument], ""
        found += [Given(path) for path in paths] or [Given(argument, InputError(reason))]
    return found
