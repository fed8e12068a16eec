"""Draws the pictures of docs/explain.md and docs/lab.md: what the library makes of the digits in models/samples.

python docs/make_pictures.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import cnnengine
from cnnengine import lab

HERE = Path(__file__).resolve().parent
PICTURES = HERE / "pictures"
MODELS = HERE.parent / "models"
SIDE = 160
SHOWN = ("strides", "dilations", "paddings", "activations", "pooling", "shift", "winners", "unpooling", "normalisations")
"""Experiments whose sheets docs/lab.md has."""


def side_by_side(pictures: list[Image.Image], gap: int = 6) -> Image.Image:
    """Pictures beside each other, each as high as SIDE."""
    scaled = [one.resize((SIDE * one.width // one.height, SIDE), Image.Resampling.NEAREST) for one in pictures]
    made = Image.new("RGB", (sum(one.width for one in scaled) + gap * (len(scaled) - 1), SIDE), "white")
    left = 0
    for one in scaled:
        made.paste(one, (left, 0))
        left += one.width + gap
    return made


def save(name: str, picture: Image.Image) -> None:
    """Write a picture of few colours, which is small."""
    picture.quantize(64, dither=Image.Dither.NONE).save(PICTURES / f"{name}.png", optimize=True)


def explain() -> None:
    """The same digit by each method, and one digit seen as two classes."""
    digit = MODELS / "samples" / "3.png"
    with cnnengine.load(MODELS / "digits_nin.onnx") as model:
        found = [model.explain(digit, method=method) for method in ("cam", "ablation", "occlusion")]
        assert found[0].picture is not None
        save("explain-methods", side_by_side([found[0].picture, *[one.overlay() for one in found]]))
        digit = MODELS / "samples" / "8.png"
        classes = [model.explain(digit, target) for target in ("8", "3", "0")]
        assert classes[0].picture is not None
        save("explain-classes", side_by_side([classes[0].picture, *[one.overlay() for one in classes]]))


def scene() -> Image.Image:
    """A drawing with what layers differ on: a soft sky, a round sun, a fence of fine stripes, a roof, letters."""
    width, height = 192, 144
    rows = np.linspace(0, 1, height)[:, None, None]
    sky = np.array((90, 150, 220)) * (1 - rows) + np.array((235, 225, 200)) * rows
    made = Image.fromarray(np.broadcast_to(np.rint(sky), (height, width, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(made)
    draw.ellipse((142, 12, 174, 44), fill=(255, 215, 90))
    draw.rectangle((0, 108, width, height), fill=(80, 130, 70))
    draw.rectangle((34, 62, 100, 116), fill=(205, 120, 90))
    draw.polygon(((26, 62), (67, 30), (108, 62)), fill=(120, 45, 40))
    draw.rectangle((44, 74, 60, 90), fill=(250, 240, 170), outline=(40, 30, 30))
    draw.rectangle((74, 82, 90, 116), fill=(60, 40, 30))
    for left in range(112, width, 4):
        draw.rectangle((left, 94, left + 1, 120), fill=(245, 245, 240))
    draw.text((118, 56), "CNN", fill=(20, 20, 30), font_size=28)
    return made


def laboratory() -> None:
    """Sheets of experiments on the scene."""
    picture = scene()
    save("lab-input", picture)
    for name in SHOWN:
        save(f"lab-{name}", lab.EXPERIMENTS[name](picture).sheet())


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    explain()
    laboratory()
