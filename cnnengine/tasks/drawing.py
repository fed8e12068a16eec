"""Results drawn on pictures, by Pillow."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

GOLDEN = 0.61803398875
"""Hues this far apart, around the circle, come close to no earlier one for as long as possible."""
STRENGTH = 0.45
"""Of a colour that lies over a picture."""

Colour = tuple[int, int, int]


def colour_of(index: int) -> Colour:
    """A colour for a class, the same one always."""
    red, green, blue = colorsys.hsv_to_rgb((index * GOLDEN) % 1, 0.85 if index % 2 else 0.65, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def overlaid(image: Image, mask: np.ndarray, left: int, top: int, colour: Colour) -> None:
    """Lay a colour over the pixels of a mask whose upper left lies there; the image, of mode RGB, is changed."""
    from PIL import Image as pillow

    alpha = pillow.fromarray(np.where(mask, round(255 * STRENGTH), 0).astype(np.uint8))
    image.paste(colour, (left, top, left + mask.shape[1], top + mask.shape[0]), alpha)


def boxes_drawn(
    image: Image, boxes: np.ndarray, texts: Sequence[str], colours: Sequence[Colour], points: np.ndarray | None = None
) -> None:
    """Draw frames with a text at each, the first on top; the image, of mode RGB, is changed."""
    from PIL import ImageDraw, ImageFont

    side = max(image.size)
    width = max(2, round(side / 400))
    font = ImageFont.load_default(max(10, round(side / 55)))
    draw = ImageDraw.Draw(image)
    for i in reversed(range(len(boxes))):
        left, top, right, bottom = (float(v) for v in boxes[i])
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colours[i], width=width)
        if points is not None:
            for x, y in points[i][:, :2]:
                draw.ellipse((x - width, y - width, x + width, y + width), fill=colours[i])
    for i in reversed(range(len(boxes))):
        left, top = float(boxes[i][0]), float(boxes[i][1])
        text = _drawable(texts[i])
        _, _, wide, high = draw.textbbox((0, 0), text, font=font)
        at = max(0.0, min(left, image.width - wide - 2)), max(0.0, top - high - 2)
        draw.rectangle((at[0], at[1], at[0] + wide + 2, at[1] + high + 2), fill=colours[i])
        light = sum(c * w for c, w in zip(colours[i], (0.299, 0.587, 0.114), strict=True))
        draw.text((at[0] + 1, at[1]), text, fill=(0, 0, 0) if light > 128 else (255, 255, 255), font=font)


def _drawable(text: str) -> str:
    """One line, without what a font cannot draw."""
    return "".join(c if c.isprintable() else "?" for c in text)
