"""Write a detector of torchvision as an ONNX file, and what torchvision finds in a picture: FILE.onnx PICTURE.png FILE.npz NAME.

Weights are those of a seed; normalisations have the statistics of the picture, without which all numbers would vanish. Where
torchvision's compiled operators do not fit the torch that is installed, they are written here: a detector needs its non-maximum
suppression alone.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import torch


def nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive, kept = torch.ones(len(boxes), dtype=torch.bool), []
    for i in torch.argsort(scores, descending=True, stable=True).tolist():
        if not alive[i]:
            continue
        kept.append(i)
        sides = (torch.minimum(boxes[i, 2:], boxes[:, 2:]) - torch.maximum(boxes[i, :2], boxes[:, :2])).clamp(min=0)
        shared = sides[:, 0] * sides[:, 1]
        alive &= ~(shared / (area[i] + area - shared) > threshold)
    return torch.tensor(kept, dtype=torch.int64)


def has_ops() -> bool:
    return True


def nothing() -> None:
    pass


try:
    import torchvision
except RuntimeError:
    for name in [n for n in sys.modules if n.startswith("torchvision")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define(
        "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
        "int sampling_ratio, bool aligned) -> Tensor"
    )
    library.impl("nms", nms, "CPU")
    import torchvision

    torchvision.extension._has_ops = has_ops
    torchvision.ops.boxes._assert_has_ops = nothing

from torchvision.models import detection  # noqa: E402

MODELS = {
    "ssdlite": lambda: detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=6, score_thresh=0.1, detections_per_img=40
    ),
}


def main(path: str, picture: str, results: str, name: str) -> None:
    from PIL import Image

    torch.manual_seed(3)
    model = MODELS[name]()
    x = torch.from_numpy(np.asarray(Image.open(picture).convert("RGB")).copy()).permute(2, 0, 1) / 255
    turned = torch.stack([x, x.flip(1), x.flip(2), x.flip(1, 2)])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.head(list(model.backbone(torch.nn.functional.interpolate(turned, (320, 320)) * 2 - 1).values()))
    model.eval()
    with torch.inference_mode():
        (found,) = model([x])
    np.savez(results, **{key: value.numpy() for key, value in found.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            ([x],),
            path,
            opset_version=17,
            dynamo=False,
            input_names=["image"],
            output_names=["boxes", "scores", "labels"],
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
