"""Draws the pictures of docs/explain.md and docs/lab.md: what the library makes of the digits in models/samples.

python docs/make_pictures.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

import cnnengine

HERE = Path(__file__).resolve().parent
PICTURES = HERE / "pictures"
MODELS = HERE.parent / "models"
SIDE = 160


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


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    explain()
