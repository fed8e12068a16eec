"""Pictures that `predict --draw` writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..tasks import Picture
from .out import Sample, Targets, saved

if TYPE_CHECKING:
    from PIL.Image import Image


class Drawings:
    """A folder of pictures, each with the name of the file that it was made of, in the same sub-folders.

    Parameters
    ----------
    folder : str
        Made where it is not there.
    inputs : sequence of str
        What no picture is written over.

    Raises
    ------
    InputError
        It cannot be made, or Pillow is not installed.
    """

    def __init__(self, folder: str, inputs: Sequence[str]) -> None:
        self._targets = Targets(folder, "--draw", inputs)

    def write(self, sample: Sample, found: Iterable[object], image: Image | None) -> None:
        """Draw what was found in the picture of this sample.

        Files of one name get a number. An input is never written over.

        Raises
        ------
        InputError
            There is nothing that can be drawn, or the file cannot be written.
        """
        drawable: list[Any] = [one for one in found if hasattr(one, "draw")]
        if not drawable:
            raise InputError("there is nothing to draw", tensor="--draw", expected="--task detect, segment or image")
        if image is None and not all(isinstance(one, Picture) for one in drawable):
            raise InputError("arrays are not drawn on", tensor="--draw", expected="a picture")
        for one in drawable:
            image = one.draw(image)
        assert image is not None
        target = self._targets.of(sample)
        try:
            saved(image, target)
        except (OSError, ValueError) as error:
            raise InputError(f"{target}: cannot be written: {getattr(error, 'strerror', None) or error}") from error
