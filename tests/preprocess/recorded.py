"""What torchvision makes of pictures: records samples of it in recorded.npz, which test_recorded.py compares with.

    python tests/preprocess/recorded.py      # needs torch and torchvision; written with torchvision 0.29.1

Pictures are those that scikit-image ships with, and one that is made here. Each case is a transform of torchvision and the
`Preprocess` that shall be equal to it; of each result the same places are kept.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnnengine.preprocess import Preprocess

FILE = Path(__file__).with_name("recorded.npz")
KEPT = 600
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# name -> the settings; `preset` is torchvision's ImageClassification, `image` transforms of a Pillow image, `tensor` of a tensor.
CASES: dict[str, tuple[str, dict[str, object]]] = {
    "preset 256 224": ("preset", {"size": 224, "fit": "crop", "resize": 256, "mean": MEAN, "std": STD}),
    "preset 232 224 bilinear": ("preset", {"size": 224, "fit": "crop", "resize": 232, "mean": MEAN, "std": STD}),
    "preset 384 bicubic": (
        "preset",
        {"size": 384, "fit": "crop", "resize": 384, "resample": "bicubic", "mean": MEAN, "std": STD},
    ),
    "preset lanczos 64 larger crop": (
        "preset",
        {"size": (80, 70), "fit": "crop", "resize": 64, "resample": "lanczos", "mean": MEAN, "std": STD},
    ),
    "preset odd": ("preset", {"size": (111, 97), "fit": "crop", "resize": 128, "mean": MEAN, "std": STD}),
    "stretch bilinear": ("image", {"size": (97, 161)}),
    "stretch bicubic": ("image", {"size": (97, 161), "resample": "bicubic"}),
    "stretch lanczos": ("image", {"size": (97, 161), "resample": "lanczos"}),
    "stretch nearest": ("image", {"size": (97, 161), "resample": "nearest"}),
    "enlarge bicubic": ("image", {"size": (700, 650), "resample": "bicubic"}),
    "shorter": ("image", {"fit": "shorter", "resize": 120, "longest": 150}),
    "tensor bilinear": ("tensor", {"size": (97, 161), "antialias": False}),
    "tensor bicubic": ("tensor", {"size": (97, 161), "resample": "bicubic", "antialias": False}),
    "tensor nearest": ("tensor", {"size": (97, 161), "resample": "nearest", "antialias": False}),
    "tensor enlarge bilinear": ("tensor", {"size": (700, 650), "antialias": False}),
    "tensor enlarge bicubic": ("tensor", {"size": (700, 650), "resample": "bicubic", "antialias": False}),
    "tensor antialias bilinear": ("tensor", {"size": (97, 161)}),
    "tensor antialias bicubic": ("tensor", {"size": (97, 161), "resample": "bicubic"}),
}
PICTURES = ("made", "astronaut.png", "chelsea.png", "coffee.png", "camera.png")


def picture(name: str) -> np.ndarray:
    """Pixels by name: (H, W, 3) or, of gray ones, (H, W)."""
    if name == "made":
        y, x = np.mgrid[0:301, 0:223]
        waves = [127.5 + 127.5 * np.sin(x * x / (40 + 30 * c) + y / (3 + c)) for c in range(3)]
        return np.stack(waves, -1).round().astype(np.uint8)
    import skimage
    from PIL import Image

    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        image.load()
        return np.asarray(image)


def kept(x: np.ndarray) -> np.ndarray:
    """The values that are recorded of a result."""
    places = np.random.default_rng(7).integers(0, x.size, KEPT)
    return x.ravel()[places].astype(np.float32)


def torchvision_of(kind: str, settings: Preprocess, pixels: np.ndarray) -> np.ndarray:
    """What torchvision makes of it, (C, H, W)."""
    import torch
    from PIL import Image
    from torchvision.transforms import InterpolationMode, v2
    from torchvision.transforms import functional as F
    from torchvision.transforms._presets import ImageClassification

    image = Image.fromarray(pixels).convert("RGB")
    how = InterpolationMode(settings.resample)
    if kind == "preset":
        assert settings.size is not None
        assert settings.resize is not None
        preset = ImageClassification(
            crop_size=list(settings.size),  # type: ignore[arg-type]
            resize_size=settings.resize[0],
            mean=settings.mean,
            std=settings.std,
            interpolation=how,
        )
        preset.crop_size = list(settings.size)
        return preset(image).numpy()
    if settings.fit == "shorter":
        assert settings.resize is not None
        return F.to_tensor(F.resize(image, list(settings.resize), how, max_size=settings.longest)).numpy()
    assert settings.size is not None
    if kind == "image":
        return F.to_tensor(F.resize(image, list(settings.size), how)).numpy()
    x = torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())
    # With antialiasing v2 has Pillow's arithmetic of 8 bits; without it, the older functions compute in float and round once.
    resize = v2.functional.resize if settings.antialias else F.resize
    return (resize(x, list(settings.size), how, antialias=settings.antialias).float() / 255).numpy()


def main() -> None:
    """Write recorded.npz."""
    found = {}
    for case, (kind, fields) in CASES.items():
        for name in PICTURES:
            x = torchvision_of(kind, Preprocess(**fields), picture(name))  # type: ignore[arg-type]
            found[f"{case}/{name}/shape"] = np.array(x.shape)
            found[f"{case}/{name}"] = kept(x)
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    main()
