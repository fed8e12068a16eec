"""Usual ways to prepare pictures, which are taken only where somebody says so (`--assume NAME`)."""

from __future__ import annotations

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PRESETS: dict[str, tuple[str, dict[str, object]]] = {
    "imagenet": (
        "shorter side and middle (crop_pct 0.875), RGB, / 255, ImageNet's mean and deviation: torchvision, timm",
        {
            "fit": "crop",
            "crop_pct": 0.875,
            "order": "RGB",
            "scale": 1 / 255,
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
            "resample": "bilinear",
        },
    ),
    "unit": (
        "stretched, RGB, 0 to 1",
        {"fit": "stretch", "order": "RGB", "scale": 1 / 255, "mean": (0.0,), "std": (1.0,), "resample": "bilinear"},
    ),
    "signed": (
        "stretched, RGB, -1 to 1: TensorFlow's MobileNet, Inception",
        {"fit": "stretch", "order": "RGB", "scale": 1 / 255, "mean": (0.5,), "std": (0.5,), "resample": "bilinear"},
    ),
    "pixels": (
        "stretched, RGB, 0 to 255",
        {"fit": "stretch", "order": "RGB", "scale": 1.0, "mean": (0.0,), "std": (1.0,), "resample": "bilinear"},
    ),
    "caffe": (
        "shorter side and middle (crop_pct 0.875), BGR, less ImageNet's mean in levels: Caffe, Keras' ResNet and VGG",
        {
            "fit": "crop",
            "crop_pct": 0.875,
            "order": "BGR",
            "scale": 1.0,
            "mean": (103.939, 116.779, 123.68),
            "std": (1.0,),
            "resample": "bilinear",
        },
    ),
    "yolo": (
        "letterboxed with 114 around, RGB, 0 to 1, without antialiasing: YOLOv5 to v11",
        {
            "fit": "letterbox",
            "fill": (114.0,),
            "order": "RGB",
            "scale": 1 / 255,
            "mean": (0.0,),
            "std": (1.0,),
            "resample": "bilinear",
            "antialias": False,
        },
    ),
}
