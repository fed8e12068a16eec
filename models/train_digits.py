"""Train `digits_lenet.onnx` on scikit-learn's bundled digits, and write everything that goes with it.

    pip install '.[dev]'
    python models/train_digits.py

The data are the 1,797 handwritten digits of 8 x 8 pixels that scikit-learn carries (nothing is downloaded). A third of them,
drawn once with a fixed seed and balanced by class, is held out: it decides neither weights nor any setting, and the
accuracy printed at the end is the accuracy on it. Written beside this script, or into `--out`:

    digits_lenet.onnx      the network, with labels and preprocessing in its metadata
    digits_heldout.npz     the held-out digits: images (uint8, 8 x 8), labels, and the logits that PyTorch computes
    samples/0.png ...      the first held-out digit of every class, 32 x 32 gray
    samples/expected.npz   the same ten as the network's input and PyTorch's logits

The script fails when the accuracy on the held-out third is below 97 %, and writes nothing then.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

SEED = 5
SIZE = 32
EPOCHS = 60
BATCH = 32
REQUIRED = 0.97
OPSET = 18
LABELS = [str(digit) for digit in range(10)]


class LeNet(nn.Module):
    """LeNet-5 (LeCun et al. 1998) with ReLU and max pooling: 61,706 parameters, logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.conv3 = nn.Conv2d(16, 120, 5)
        self.fc1 = nn.Linear(120, 84)
        self.fc2 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.conv3(x)).flatten(1)
        return self.fc2(F.relu(self.fc1(x)))


def to_levels(images: np.ndarray) -> np.ndarray:
    """scikit-learn's ink counts 0..16 as gray levels 0..255."""
    return np.rint(images * (255.0 / 16.0)).astype(np.uint8)


def enlarge(levels: np.ndarray) -> np.ndarray:
    """(N, 8, 8) gray levels -> (N, 32, 32), by the same resampling as `cnnengine predict`."""
    return np.stack([np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for image in levels])


def to_input(enlarged: np.ndarray, preprocess: dict[str, object]) -> np.ndarray:
    """(N, 32, 32) gray levels -> the network's input (N, 1, 32, 32), float32."""
    scale, mean, std = (np.float32(preprocess[key]) for key in ("scale", "mean", "std"))
    return ((enlarged.astype(np.float32) * scale - mean) / std)[:, None]


def jitter(x: Tensor, background: float, generator: torch.Generator) -> Tensor:
    """Small random rotations, scalings and shifts, other for every image; what comes in from outside is background."""
    n = len(x)
    angle = (torch.rand(n, generator=generator) * 2 - 1) * 0.2
    scale = 1 + (torch.rand(n, generator=generator) * 2 - 1) * 0.12
    shift = (torch.rand(n, 2, generator=generator) * 2 - 1) * 0.12
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x - background, grid, align_corners=False) + background


def train(x: Tensor, y: Tensor, background: float) -> LeNet:
    """Fit a LeNet with Adam and a cosine schedule; the same weights on every run with the same PyTorch and CPU."""
    generator = torch.Generator().manual_seed(SEED)
    net = LeNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, weight_decay=1e-4)
    steps = -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * steps)
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(len(x), generator=generator).split(BATCH):
            loss = F.cross_entropy(net(jitter(x[batch], background, generator)), y[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1:2d}  loss {total / steps:.4f}")
    return net.eval()


def export(net: LeNet, path: Path, preprocess: dict[str, object]) -> None:
    """Write the network as ONNX with a dynamic batch, and how to use it into its metadata (docs/metadata.md)."""
    torch.onnx.export(
        net,
        (torch.zeros(1, 1, SIZE, SIZE),),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        opset_version=OPSET,
        dynamo=False,
    )
    model = onnx.load(path)
    model.graph.name = "digits_lenet"
    model.graph.doc_string = "LeNet-5 with ReLU and max pooling, trained on scikit-learn's digits."
    onnx.helper.set_model_props(
        model,
        {
            "cnnengine.labels": json.dumps(LABELS),
            "cnnengine.preprocess": json.dumps(preprocess),
            "cnnengine.output": "logits",
        },
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train digits_lenet.onnx and write it with its samples.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write into (default: this script's)")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    digits = load_digits()
    levels = to_levels(digits.images)
    train_levels, held_levels, train_y, held_y = train_test_split(
        levels, digits.target, test_size=1 / 3, stratify=digits.target, random_state=SEED
    )
    train_big = enlarge(train_levels)
    preprocess: dict[str, object] = {
        "layout": "NCHW",
        "size": [SIZE, SIZE],
        "gray": True,
        "resample": "bilinear",
        "scale": 1 / 255,
        "mean": round(float(train_big.mean()) / 255, 4),
        "std": round(float(train_big.std()) / 255, 4),
    }
    background = float(to_input(np.zeros((1, 1, 1), np.uint8), preprocess)[0, 0, 0, 0])
    net = train(torch.from_numpy(to_input(train_big, preprocess)), torch.from_numpy(train_y), background)

    held_big = enlarge(held_levels)
    held_x = to_input(held_big, preprocess)
    with torch.inference_mode():
        logits = net(torch.from_numpy(held_x)).numpy()
    correct = int((logits.argmax(1) == held_y).sum())
    accuracy = correct / len(held_y)
    print(f"trained on {len(train_y)} digits; held-out third: {correct} of {len(held_y)} right, accuracy {accuracy:.2%}")
    if accuracy < REQUIRED:
        raise SystemExit(f"the accuracy is below {REQUIRED:.0%}: nothing written")

    samples = args.out / "samples"
    samples.mkdir(parents=True, exist_ok=True)
    model_path = args.out / "digits_lenet.onnx"
    export(net, model_path, preprocess)
    np.savez_compressed(
        args.out / "digits_heldout.npz", images=held_levels, labels=held_y.astype(np.int64), logits=logits
    )
    first = [int(np.flatnonzero(held_y == digit)[0]) for digit in range(10)]
    for digit, index in enumerate(first):
        Image.fromarray(held_big[index]).save(samples / f"{digit}.png", optimize=True)
    np.savez_compressed(samples / "expected.npz", image=held_x[first], logits=logits[first])
    print(f"wrote {model_path.name} ({model_path.stat().st_size:,} bytes), digits_heldout.npz and samples/ to {args.out}")


if __name__ == "__main__":
    main()
