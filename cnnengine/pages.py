"""What results look like in notebooks and in pages: text escaped, pictures inside of the page, one sheet of colours.

A page asks nobody for anything: its style, script and pictures are in it, and its policy forbids the browser every request.
Signed numbers are orange above zero and blue below, which those who see red and green alike keep apart.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError
from .preprocess import require_pillow

if TYPE_CHECKING:
    from PIL.Image import Image

ABOVE, BELOW = (224, 90, 0), (0, 104, 178)
"""Red, green, blue of what is above zero, and below."""
STYLE = """\
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#57606a;--paper:#fff;--line:#d0d7de}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9da7b1;--paper:#0d1117;--line:#30363d}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
margin:0 auto;max-width:70rem;padding:1rem}
h1{font-size:1.3rem}h2{font-size:1.1rem}p,dd{max-width:44rem}dt{color:var(--dim)}dd{margin:0 0 .5rem}
table{border-collapse:collapse}td,th{padding:.15rem .6rem .15rem 0;text-align:left;vertical-align:top}
th{color:var(--dim);font-weight:400}
img{image-rendering:auto;max-width:100%}img.pixels{image-rendering:pixelated}
figure{margin:0 1rem 1rem 0;display:inline-block;vertical-align:top;max-width:15rem}
figcaption{font-size:.85rem;color:var(--dim)}
"""


def escape(text: object) -> str:
    """A text as HTML shows it, whatever is in it."""
    return html.escape(str(text), quote=True)


def preformatted(value: object) -> str:
    """What a value prints, as it stands."""
    return f"<pre>{escape(value)}</pre>"


def facts(rows: Iterable[tuple[object, object]]) -> str:
    """A table of two columns: what, and its value."""
    body = "".join(f"<tr><th>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in rows)
    return f"<table>{body}</table>"


def listing(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a head."""
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def document(title: str, body: str, style: str = "", script: str = "") -> str:
    """A page that stands alone."""
    code = f"<script>{script}</script>" if script else ""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{STYLE}{style}</style></head><body>{body}{code}</body></html>\n"
    )


def image_of(pixels: np.ndarray) -> Image:
    """uint8 (H, W), (H, W, 3) or (H, W, 4) as a picture."""
    require_pillow()
    from PIL import Image as pillow

    return pillow.fromarray(np.ascontiguousarray(pixels))


def uri(image: Image, kind: str = "PNG") -> str:
    """A picture as an address that holds it."""
    file = io.BytesIO()
    image.save(file, kind, **({"optimize": True} if kind == "PNG" else {"quality": 88}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def shown(image: Image, text: str, width: int | None = None, pixels: bool = False) -> str:
    """A picture in a page, and what it says to those who do not see it."""
    size = "" if width is None else f' width="{width}"'
    return f'<img{" class=pixels" if pixels else ""} alt="{escape(text)}"{size} src="{uri(image)}">'


def signed(numbers: np.ndarray, most: float | None = None) -> np.ndarray:
    """Signed numbers as colours on white: uint8 (..., 3)."""
    cover = heat(numbers, most)
    part = cover[..., 3:] / 255
    return np.rint(cover[..., :3] * part + 255 * (1 - part)).astype(np.uint8)


def heat(numbers: np.ndarray, most: float | None = None) -> np.ndarray:
    """Signed numbers as colours to lie over a picture: uint8 (..., 4), clear at zero.

    Parameters
    ----------
    numbers : ndarray
    most : float, optional
        The number with the full colour; by default the largest, regardless of its sign.
    """
    numbers = np.nan_to_num(np.asarray(numbers, np.float64), posinf=0, neginf=0)
    most = float(np.abs(numbers).max(initial=0)) if most is None else most
    share = np.clip(np.abs(numbers) / most, 0, 1) if most > 0 else np.zeros(numbers.shape)
    made = np.empty((*numbers.shape, 4), np.uint8)
    made[..., :3] = np.where((numbers >= 0)[..., None], ABOVE, BELOW)
    made[..., 3] = np.rint(255 * share)
    return made


def over(picture: Image, cover: np.ndarray, opacity: float) -> Image:
    """A picture, its colours faded, with a cover on it; both have the same extents."""
    base = faded(picture)
    share = cover[..., 3:].astype(np.float32) * (opacity / 255)
    made = np.asarray(base, np.float32) * (1 - share) + cover[..., :3].astype(np.float32) * share
    return image_of(np.rint(made).astype(np.uint8))


def faded(picture: Image) -> Image:
    """A picture with a quarter of its colours, on which those of a cover are seen."""
    pixels = np.asarray(picture.convert("RGB"), np.float32)
    gray = pixels @ np.array((0.299, 0.587, 0.114), np.float32)
    return image_of(np.rint(gray[..., None] * 0.75 + pixels * 0.25).astype(np.uint8))


def pixels_of(numbers: np.ndarray) -> np.ndarray:
    """Numbers (C, H, W) of any range as a picture: uint8 (H, W) of one channel, or (H, W, 3) of three; of others their mean."""
    maps = np.nan_to_num(np.asarray(numbers, np.float64), posinf=0, neginf=0)
    maps = maps if len(maps) == 3 else maps.mean(axis=0, keepdims=True)
    low, high = float(maps.min(initial=0)), float(maps.max(initial=0))
    low = float(maps.min()) if maps.size else low
    made = np.rint((maps - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)
    return made[0] if len(made) == 1 else np.moveaxis(made, 0, 2)


def written(path: Any, text: str) -> None:
    """Write a page.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    try:
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=os.fspath(path)) from error


def saved(path: Any, image: Image) -> None:
    """Write a picture; raises as `written` does."""
    try:
        image.save(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be written: {getattr(error, 'strerror', None) or error}", file=os.fspath(path)) from error
