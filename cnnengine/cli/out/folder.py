"""A folder of pictures: one .png for each sample, with the name of the file that it was made of, in the same sub-folders."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError
from ...files import is_array
from ...preprocess import require_pillow
from ...tasks import Picture, Segmentation
from ...tasks.drawing import colour_of
from .base import Found, Mode, Outputs, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

UNSEEN = 255
"""The level of pixels that the network has not seen."""


class Targets:
    """Where the picture of each sample goes, within a folder that is made where it is not there.

    Samples that would come to one name get a number, in the order in which they are asked for.

    Parameters
    ----------
    folder : str
    option : str
        That named it.
    inputs : sequence of str
        What no picture is written over.

    Raises
    ------
    InputError
        The folder cannot be made, or Pillow is not installed.
    """

    def __init__(self, folder: str, option: str, inputs: Sequence[str] = ()) -> None:
        require_pillow()
        self._inputs = frozenset(os.path.realpath(path) for path in inputs)
        self._folder = folder
        self._option = option
        self._used: dict[str, int] = {}
        self._make(folder)

    def of(self, sample: Sample) -> str:
        """The file's name; its folder is there.

        Raises
        ------
        InputError
            It is an input, or the folder cannot be made.
        """
        stem = os.path.basename(sample.path)
        stem = stem if is_array(stem) else os.path.splitext(stem)[0]  # arrays stay apart from pictures beside them
        stem = os.path.join(sample.below, stem if sample.index is None else f"{stem}.{sample.index}")
        number = self._used[stem] = self._used.get(stem, 0) + 1
        target = os.path.join(self._folder, f"{stem}.png" if number == 1 else f"{stem}.{number}.png")
        if os.path.exists(target) and os.path.realpath(target) in self._inputs:
            raise InputError("would be written over", tensor=target, expected=f"another folder for {self._option}")
        if sample.below:
            self._make(os.path.dirname(target))
        return target

    def _make(self, folder: str) -> None:
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make the folder: {error.strerror or error}", tensor=self._option, expected="a folder", received=folder
            ) from error


def saved(image: Image, target: str) -> None:
    """Write a picture whole: what is there under the name is no part of one, whatever happens.

    Raises
    ------
    OSError
        It cannot be written.
    """
    part = f"{target}.part"
    try:
        image.save(part, format="PNG")
        os.replace(part, target)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)


class Folder:
    """Class maps of segmentation, as palette pictures whose levels are the classes, and pictures that networks make."""

    def __init__(self, path: str, mode: Mode, inputs: Sequence[str] = ()) -> None:
        if mode is Mode.NEW and os.path.isdir(path) and os.listdir(path):
            raise InputError(
                "holds files already", tensor="--out", expected="--resume or --append, or another folder", received=path
            )
        self._targets = Targets(path, "--out", inputs)
        self._mode = mode
        self._waiting: dict[str, str] = {}

    def has(self, sample: Sample) -> bool:
        target = self._targets.of(sample)
        while self._mode is Mode.APPEND and os.path.exists(target):
            target = self._targets.of(sample)
        if self._mode is Mode.RESUME and os.path.exists(target):
            return True
        self._waiting[sample.name] = target
        return False

    def begin(self, found: Found, outputs: Outputs) -> None:
        if not any(isinstance(value, (Picture, Segmentation)) for value in found.values()):
            raise InputError(
                "the results are no pictures", tensor="--out", expected=".jsonl, .csv, .parquet or .npz; --draw draws on pictures"
            )

    def write(self, sample: Sample, found: Found, outputs: Outputs) -> None:
        (value,) = [v for v in found.values() if isinstance(v, (Picture, Segmentation))]
        image = value.image() if isinstance(value, Picture) else _levels(value)
        saved(image, self._waiting.pop(sample.name))

    def close(self) -> None:
        pass


def _levels(found: Segmentation) -> Image:
    """A picture whose levels are the classes, with the colours that they are drawn in; of many classes one of 16 bits."""
    from PIL import Image as pillow

    classes = found.classes
    if classes.max(initial=0) >= UNSEEN:
        return pillow.fromarray(np.where(classes < 0, 65535, np.minimum(classes, 65534)).astype(np.uint16))
    image = pillow.fromarray(np.where(classes < 0, UNSEEN, classes).astype(np.uint8))
    colours = [0, 0, 0, *(v for i in range(1, UNSEEN) for v in colour_of(i)), 255, 255, 255]
    image.putpalette(colours)
    return image
