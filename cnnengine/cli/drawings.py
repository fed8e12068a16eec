"""Pictures that `predict --draw` writes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..preprocess import require_pillow
from ..tasks import Picture

if TYPE_CHECKING:
    from PIL.Image import Image


class Drawings:
    """A folder of pictures, each with the name of the file that it was made of.

    Parameters
    ----------
    folder : str
        Made where it is not there.

    Raises
    ------
    InputError
        It cannot be made, or Pillow is not installed.
    """

    def __init__(self, folder: str) -> None:
        require_pillow()
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make the folder: {error.strerror or error}", tensor="--draw", expected="a folder", received=folder
            ) from error
        self._folder = folder
        self._used: dict[str, int] = {}

    def write(self, path: str, found: Iterable[object], image: Image | None) -> None:
        """Draw what was found in the picture of this file.

        Files of one name from several folders get a number. An input is never written over.

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
        target = self._target(path)
        try:
            image.save(target)
        except (OSError, ValueError) as error:
            raise InputError(f"{target}: cannot be written: {getattr(error, 'strerror', None) or error}") from error

    def _target(self, path: str) -> str:
        stem = os.path.splitext(os.path.basename(path))[0]
        number = self._used[stem] = self._used.get(stem, 0) + 1
        target = os.path.join(self._folder, f"{stem}.png" if number == 1 else f"{stem}.{number}.png")
        if os.path.exists(target) and os.path.exists(path) and os.path.samefile(target, path):
            raise InputError("would be written over", tensor=target, expected="another folder for --draw")
        return target
