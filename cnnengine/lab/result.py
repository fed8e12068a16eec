"""What an experiment gives: arrays, a picture and a sentence for each."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import pages
from ..errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

SHEET = 200
"""Pixels of a picture's longer side, on a sheet."""
COLUMNS = 4
LINES = 5
"""Of a caption on a sheet."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of an experiment.

    Attributes
    ----------
    name : str
    array : ndarray
        What the layer gave, as it is.
    sentence : str
        What it did.
    pixels : ndarray, uint8, (H, W) or (H, W, 3)
        The array as it is shown.
    """

    name: str
    array: np.ndarray
    sentence: str
    pixels: np.ndarray

    @property
    def shape(self) -> str:
        """The extents of the array, without the axis of samples."""
        return " x ".join(map(str, self.array.shape[1:] if self.array.ndim > 1 else self.array.shape))


class Experiment:
    """The same input through several layers; made by the functions of `cnnengine.lab`.

    Attributes
    ----------
    title : str
    about : str
        One sentence on all of it.
    panels : tuple of Panel
    """

    def __init__(self, title: str, about: str, panels: Sequence[Panel]) -> None:
        self.title = title
        self.about = about
        self.panels = tuple(panels)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What each layer gave, by the panel's name."""
        return {panel.name: panel.array for panel in self.panels}

    def __getitem__(self, name: str) -> Panel:
        for panel in self.panels:
            if panel.name == name:
                return panel
        from ..arguments import nearest

        raise InputError(
            "no such panel", tensor="name", expected=nearest(name, [p.name for p in self.panels], "a panel"), received=name
        )

    def __iter__(self) -> Iterator[Panel]:
        return iter(self.panels)

    def __len__(self) -> int:
        return len(self.panels)

    def __str__(self) -> str:
        lines = [f"{self.title}: {self.about}"]
        wide = max(len(panel.name) for panel in self.panels)
        return "\n".join([*lines, *(f"  {p.name:{wide}}  {p.shape:>14}  {p.sentence}" for p in self.panels)])

    def __repr__(self) -> str:
        return f"<cnnengine.lab.Experiment {self.title!r}: {', '.join(panel.name for panel in self.panels)}>"

    def _repr_html_(self) -> str:
        return self.html()

    def html(self, level: int = 3) -> str:
        """A part of a page, under a heading of this level."""
        figures = "".join(_figure(panel) for panel in self.panels)
        return f"<section><h{level}>{pages.escape(self.title)}</h{level}><p>{pages.escape(self.about)}</p>{figures}</section>"

    def sheet(self) -> Image:
        """All pictures beside each other, with their sentences."""
        from PIL import Image as pillow
        from PIL import ImageDraw

        pictures = [_scaled(pages.image_of(panel.pixels), SHEET) for panel in self.panels]
        columns = min(COLUMNS, len(pictures))
        rows = -(-len(pictures) // columns)
        high = [max(p.height for p in pictures[r * columns : (r + 1) * columns]) + 14 * (LINES + 1) + 8 for r in range(rows)]
        made = pillow.new("RGB", (columns * (SHEET + 12) + 12, sum(high) + 12), "white")
        draw = ImageDraw.Draw(made)
        top = 12
        for row in range(rows):
            for column, at in enumerate(range(row * columns, min((row + 1) * columns, len(pictures)))):
                panel, picture, left = self.panels[at], pictures[at], 12 + column * (SHEET + 12)
                made.paste(picture, (left, top))
                text = [f"{panel.name}, {panel.shape}", *textwrap.wrap(panel.sentence, 36)[:LINES]]
                for line, words in enumerate(text):
                    draw.text((left, top + picture.height + 3 + 14 * line), words, fill="black" if not line else (70, 70, 70))
            top += high[row]
        return made

    def save(self, path: Any) -> None:
        """Write a sheet of all pictures (.png and what else Pillow knows), or a page that stands alone (.html).

        Raises
        ------
        InputError
            The file cannot be written, or Pillow is not installed.
        """
        if str(path).lower().endswith((".html", ".htm")):
            pages.written(path, pages.document(self.title, self.html(1)))
        else:
            pages.saved(path, self.sheet())


def _figure(panel: Panel) -> str:
    image = pages.image_of(panel.pixels)
    small = max(image.size) < SHEET
    name, sentence = pages.escape(panel.name), pages.escape(panel.sentence)
    width = SHEET if image.width >= image.height else max(1, SHEET * image.width // image.height)
    shown = pages.shown(image, panel.name, width, small)
    return f"<figure>{shown}<figcaption><b>{name}</b>, {pages.escape(panel.shape)}<br>{sentence}</figcaption></figure>"


def _scaled(image: Image, side: int) -> Image:
    from PIL import Image as pillow

    share = side / max(image.size)
    size = max(1, round(image.width * share)), max(1, round(image.height * share))
    return image.convert("RGB").resize(size, pillow.Resampling.NEAREST if share > 1 else pillow.Resampling.LANCZOS)
