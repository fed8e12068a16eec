"""What the published tables are about: which models, which of them at batch 8 and under torch.compile, which layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

PREFERRED = ("ts", "tf", "kt", "c2", "hm", "dy")
"""Of each model of the zoo one variant is measured: the first of these that is there."""
DOZEN = (
    "resnet18.ts",
    "resnet50.ts",
    "vgg16.ts",
    "mobilenet_v2.ts",
    "mobilenet_v3_large.ts",
    "efficientnet_b0.ts",
    "squeezenet1_1.ts",
    "shufflenet_v2_x1_0.ts",
    "densenet121.ts",
    "inception_v3.ts",
    "convnext_tiny.ts",
    "unet_convt.ts",
)
"""Measured at batch 8 too, in bfloat16, and compiled by torch."""
QUANTISED = (
    "resnet50.ts",
    "resnet18.ts",
    "mobilenet_v2.ts",
    "mobilenet_v3_large.ts",
    "efficientnet_b0.ts",
    "squeezenet1_1.ts",
    "inception_v3.ts",
)
"""Measured in each of `FORMS`."""
FORMS: dict[str, tuple[str, str] | None] = {
    "qdq": ("QDQ", "QUInt8"),
    "qdq-s8": ("QDQ", "QInt8"),
    "qop": ("QOperator", "QUInt8"),
    "dynamic": None,
}
"""Of quantised files: the format and the activations' type by onnxruntime's names, weights int8 per channel; None: dynamic."""


def variants(names: Iterable[str]) -> list[str]:
    """One name for each model, sorted."""
    found: dict[str, list[str]] = {}
    for name in names:
        model, _, variant = name.rpartition(".")
        found.setdefault(model, []).append(variant)

    def best(kinds: list[str]) -> str:
        return min(kinds, key=lambda kind: (PREFERRED.index(kind) if kind in PREFERRED else len(PREFERRED), kind))

    return sorted(f"{model}.{best(kinds)}" for model, kinds in found.items())


@dataclass(frozen=True)
class Layer:
    """One convolution, transposed convolution or dense layer, with bias.

    Attributes
    ----------
    family : str
        Layers of one family share a row of the table: how they are computed is the same.
    x, w : tuple of int
        Shapes of the input and of the weights, in the operator's layout.
    options : dict
        stride, pads, dilation, groups: numbers for every axis, as in torch.
    """

    family: str
    operator: str
    x: tuple[int, ...]
    w: tuple[int, ...]
    options: dict[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        shown = "".join(f" {key} {value}" for key, value in self.options.items())
        return f"{'x'.join(map(str, self.x))} * {'x'.join(map(str, self.w))}{shown}"


def _layers() -> list[Layer]:
    def conv(family: str, x: tuple[int, ...], out: int, kernel: tuple[int, ...], **options: Any) -> Layer:
        return Layer(family, "Conv", (1, *x), (out, x[0] // options.get("groups", 1), *kernel), options)

    def transposed(x: tuple[int, ...], out: int, kernel: tuple[int, ...], **options: Any) -> Layer:
        return Layer("transposed", "ConvTranspose", (1, *x), (x[0], out, *kernel), options)

    def dense(family: str, batch: int, wide: int, out: int) -> Layer:
        return Layer(family, "Gemm", (batch, wide), (out, wide))

    plain = [(64, 56), (128, 28), (256, 14), (512, 7)]
    return [
        *(conv("3x3", (c, n, n), c, (3, 3), pads=1) for c, n in plain),
        *(conv("3x3 stride 2", (c, n, n), 2 * c, (3, 3), stride=2, pads=1) for c, n in plain[:3]),
        *(conv("1x1", (c, n, n), 4 * c, (1, 1)) for c, n in plain),
        *(conv("1x1", (4 * c, n, n), c, (1, 1)) for c, n in plain),
        *(
            conv("1x1, few channels", (c, n, n), out, (1, 1))
            for c, n, out in [(32, 112, 16), (24, 56, 144), (40, 28, 240), (116, 14, 116)]
        ),
        *(
            conv("first layer", (3, n, n), c, (k, k), stride=2, pads=k // 2)
            for n, c, k in [(224, 64, 7), (224, 32, 3), (299, 32, 3)]
        ),
        *(conv("depthwise 3x3", (c, n, n), c, (3, 3), pads=1, groups=c) for c, n in [(144, 56), (384, 14), (960, 7)]),
        *(
            conv("depthwise 3x3 stride 2", (c, n, n), c, (3, 3), stride=2, pads=1, groups=c)
            for c, n in [(96, 112), (192, 28), (576, 14)]
        ),
        *(conv("depthwise 5x5", (c, n, n), c, (5, 5), pads=2, groups=c) for c, n in [(240, 28), (672, 14), (1152, 7)]),
        *(conv("depthwise 7x7", (c, n, n), c, (7, 7), pads=3, groups=c) for c, n in [(96, 56), (192, 28), (384, 14)]),
        *(conv("grouped", (c, n, n), c, (3, 3), pads=1, groups=g) for c, n, g in [(128, 56, 32), (256, 28, 32), (208, 14, 13)]),
        *(conv("dilated", (c, n, n), c, (3, 3), pads=d, dilation=d) for c, n, d in [(256, 28, 2), (160, 16, 4)]),
        *(conv("1-D", (c, n), out, (k,), pads=k // 2) for c, n, out, k in [(64, 1000, 128, 3), (128, 500, 256, 3)]),
        *(conv("3-D", (c, d, n, n), out, (3, 3, 3), pads=1) for c, d, n, out in [(64, 16, 28, 64), (128, 8, 14, 256)]),
        transposed((128, 28, 28), 64, (2, 2), stride=2),
        transposed((64, 28, 28), 64, (4, 4), stride=2, pads=1),
        dense("dense, batch 1", 1, 2048, 1000),
        dense("dense, batch 1", 1, 9216, 4096),
        dense("dense, batch 64", 64, 2048, 1000),
        conv("odd widths", (54, 54, 54), 54, (3, 3), pads=1),
        conv("odd widths", (40, 27, 27), 112, (3, 3), pads=1),
        conv("odd widths", (116, 13, 13), 116, (1, 1)),
    ]


LAYERS = _layers()
