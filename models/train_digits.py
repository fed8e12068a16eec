"""Train the digit networks on scikit-learn's bundled digits, and write everything that goes with them.

    pip install '.[dev]'
    python models/train_digits.py

The data are the 1,797 handwritten digits of 8 x 8 pixels that scikit-learn carries (nothing is downloaded). A third of them,
drawn once with a fixed seed and balanced by class, is held out: it decides neither weights nor any setting, and the
accuracies printed are those on it. Written beside this script, or into `--out`:

    digits_lenet.onnx          LeNet-5, by PyTorch's TorchScript-based exporter
    digits_lenet_dynamo.onnx   the same weights, by PyTorch's newer exporter
    digits_nin.onnx            a network in network with L2 pooling, overlapping max pooling and batch normalisation
    digits_spp.onnx            a network for images of any size, with spatial pyramid pooling
    digits_heldout.npz         the held-out digits: images (uint8, 8 x 8), labels, and the logits that PyTorch computes
    samples/0.png ...          the first held-out digit of every class, 32 x 32 gray
    samples/expected*.npz      the same ten as the networks' inputs, and PyTorch's logits

The script fails when an accuracy on the held-out third is below 97 %, and writes nothing then.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

from cnnengine import onnx_functions

SEED = 5
SIZE = 32
EPOCHS = 60
BATCH = 32
REQUIRED = 0.97
OPSET = 18
LABELS = [str(digit) for digit in range(10)]
SPP_LEVELS = (4, 2, 1)
SPP_TRAINED = [(8, 8), (8, 8), (10, 14), (16, 16), (24, 18), (32, 32)]
"""Heights and widths that the SPP network sees in training, each as often as it stands here."""
SPP_TESTED = [(8, 8), (16, 24), (32, 32), (37, 53)]

Size = tuple[int, int]


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


class L2Pool(nn.Module):
    """ONNX LpPool with p = 2 over 2 x 2 windows: the square root of the sum of squares.

    PyTorch's exporters write `nn.LPPool2d` as a chain of powers and means; here the operator itself is written.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            shape = (x.shape[0], x.shape[1], x.shape[2] // 2, x.shape[3] // 2)
            attributes = {"kernel_shape": [2, 2], "strides": [2, 2], "p": 2}
            return torch.onnx.ops.symbolic("LpPool", (x,), attributes, dtype=x.dtype, shape=shape)
        squares = F.avg_pool2d(x * x, 2) * 4
        # the root has no slope at 0: windows without any signal send nothing back
        return squares.clamp_min(1e-12).sqrt() if self.training else squares.sqrt()


class NetworkInNetwork(nn.Module):
    """A network in network (Lin et al. 2013, arXiv:1312.4400): 1 x 1 convolutions after each convolution, and a global mean
    in place of dense layers; with L2 pooling, overlapping max pooling (3 x 3 windows, stride 2) and batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 5, padding=2)
        self.cccp1 = nn.Conv2d(24, 16, 1)
        self.pool1 = L2Pool()
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 48, 3, padding=1)
        self.cccp2 = nn.Conv2d(48, 32, 1)
        self.pool2 = nn.MaxPool2d(3, stride=2, padding=1)
        self.norm2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.cccp3 = nn.Conv2d(64, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.pool1(F.relu(self.cccp1(F.relu(self.conv1(x))))))
        x = self.norm2(self.pool2(F.relu(self.cccp2(F.relu(self.conv2(x))))))
        return self.cccp3(F.relu(self.conv3(x))).mean((2, 3))


class SpatialPyramidPool(nn.Module):
    """Spatial pyramid max pooling (He et al. 2014, arXiv:1406.4729), for any height and width."""

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.function = onnx_functions.spatial_pyramid_pool(self.levels).name

    def forward(self, x: Tensor) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            length = x.shape[1] * sum(level * level for level in self.levels)
            name = f"{onnx_functions.DOMAIN}::{self.function}"
            return torch.onnx.ops.symbolic(name, (x,), dtype=x.dtype, shape=(x.shape[0], length), version=1)
        return torch.cat([F.adaptive_max_pool2d(x, level).flatten(1) for level in self.levels], 1)


class SPPNet(nn.Module):
    """Three convolutions, a spatial pyramid and two dense layers: any image from 8 x 8 up to ten logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 48, 3, padding=1)
        self.pyramid = SpatialPyramidPool(SPP_LEVELS)
        self.fc1 = nn.Linear(48 * sum(level * level for level in SPP_LEVELS), 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = F.relu(self.conv3(F.max_pool2d(x, 2)))
        return self.fc2(F.relu(self.fc1(self.pyramid(x))))


def to_levels(images: np.ndarray) -> np.ndarray:
    """scikit-learn's ink counts 0..16 as gray levels 0..255."""
    return np.rint(images * (255.0 / 16.0)).astype(np.uint8)


def enlarge(levels: np.ndarray, size: Size = (SIZE, SIZE)) -> np.ndarray:
    """(N, 8, 8) gray levels -> (N, height, width), by the same resampling as `cnnengine predict`."""
    height, width = size
    return np.stack([np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)) for image in levels])


def to_input(enlarged: np.ndarray, preprocess: dict[str, object]) -> np.ndarray:
    """(N, H, W) gray levels -> the network's input (N, 1, H, W), float32."""
    scale, mean, std = (np.float32(preprocess[key]) for key in ("scale", "mean", "std"))
    return ((enlarged.astype(np.float32) * scale - mean) / std)[:, None]


def preprocessing(levels: np.ndarray, size: Size | None) -> dict[str, object]:
    """What the metadata say (docs/metadata.md): mean and deviation are those of the training images at this size."""
    images = levels if size is None else enlarge(levels, size)
    return {
        "layout": "NCHW",
        "size": None if size is None else list(size),
        "gray": True,
        "resample": "bilinear",
        "scale": 1 / 255,
        "mean": round(float(images.mean()) / 255, 4),
        "std": round(float(images.std()) / 255, 4),
    }


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


def train(net: nn.Module, inputs: Sequence[Tensor], y: Tensor, background: float, epochs: int) -> nn.Module:
    """Fit a network with Adam and a cosine schedule; the same weights on every run with the same PyTorch and CPU.

    `inputs` holds the training set at one or more sizes; each batch takes one of them.
    """
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, weight_decay=1e-4)
    steps = -(-len(y) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(y), generator=generator).split(BATCH):
            x = inputs[0]
            if len(inputs) > 1:
                x = inputs[int(torch.randint(len(inputs), (), generator=generator))]
            loss = F.cross_entropy(net(jitter(x[batch], background, generator)), y[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1:2d}  loss {total / steps:.4f}  {time.perf_counter() - started:.0f} s")
    return net.eval()


def export(net: nn.Module, name: str, doc: str, preprocess: dict[str, object], *, dynamo: bool, any_size: bool = False) -> bytes:
    """The network as ONNX with a dynamic batch (and size), and how to use it in its metadata (docs/metadata.md)."""
    x = torch.zeros(2, 1, SIZE, SIZE)
    names = {"input_names": ["image"], "output_names": ["logits"], "opset_version": OPSET}
    if dynamo:
        dims = {0: torch.export.Dim("N")}
        if any_size:
            dims |= {2: torch.export.Dim("H", min=8), 3: torch.export.Dim("W", min=8)}
        program = torch.onnx.export(net, (x,), dynamic_shapes=(dims,), dynamo=True, verbose=False, **names)
        assert program is not None
        model = anonymous(program.model_proto)
        onnx_functions.attach(model)
    else:
        axes = {"image": {0: "N"}, "logits": {0: "N"}}
        file = io.BytesIO()
        torch.onnx.export(net, (x[:1],), file, dynamic_axes=axes, dynamo=False, **names)
        model = onnx.load_from_string(file.getvalue())
    model.graph.name = name
    model.graph.doc_string = doc
    onnx.helper.set_model_props(
        model,
        {
            "cnnengine.labels": json.dumps(LABELS),
            "cnnengine.preprocess": json.dumps(preprocess),
            "cnnengine.output": "logits",
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def anonymous(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without what the newer exporter notes of the training machine: source lines with their paths, in texts all over."""
    del model.metadata_props[:]
    model.doc_string = ""
    for graph in (model.graph, *model.functions):
        del graph.metadata_props[:]
        graph.doc_string = ""
        values = [*graph.value_info]
        if isinstance(graph, onnx.GraphProto):
            values += [*graph.input, *graph.output, *graph.initializer]
        for part in (*graph.node, *values):
            del part.metadata_props[:]
            part.doc_string = ""
    return model


def logits_of(net: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return net(torch.from_numpy(x)).numpy()


def accuracy(name: str, logits: np.ndarray, y: np.ndarray) -> float:
    """The share of right answers, printed."""
    correct = int((logits.argmax(1) == y).sum())
    print(f"{name}: {correct} of {len(y)} held-out digits right, accuracy {correct / len(y):.2%}")
    return correct / len(y)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the digit networks and write them with their samples.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write into (default: this script's)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    digits = load_digits()
    levels = to_levels(digits.images)
    train_levels, held_levels, train_y, held_y = train_test_split(
        levels, digits.target, test_size=1 / 3, stratify=digits.target, random_state=SEED
    )
    y = torch.from_numpy(train_y)
    fixed, free = preprocessing(train_levels, (SIZE, SIZE)), preprocessing(train_levels, None)
    train_x = [torch.from_numpy(to_input(enlarge(train_levels), fixed))]
    train_any = [torch.from_numpy(to_input(enlarge(train_levels, size), free)) for size in SPP_TRAINED]
    held_big = enlarge(held_levels)
    held_x = to_input(held_big, fixed)
    held_any = {size: to_input(enlarge(held_levels, size), free) for size in SPP_TESTED}

    def background(preprocess: dict[str, object]) -> float:
        return float(to_input(np.zeros((1, 1, 1), np.uint8), preprocess)[0, 0, 0, 0])

    torch.manual_seed(SEED)
    lenet = train(LeNet(), train_x, y, background(fixed), EPOCHS)
    torch.manual_seed(SEED)
    nin = train(NetworkInNetwork(), train_x, y, background(fixed), 30)
    torch.manual_seed(SEED)
    spp = train(SPPNet(), train_any, y, background(free), 50)

    logits = {"logits": logits_of(lenet, held_x), "logits_nin": logits_of(nin, held_x)}
    reached = [accuracy("LeNet", logits["logits"], held_y), accuracy("network in network", logits["logits_nin"], held_y)]
    for size, x in held_any.items():
        key = f"logits_spp_{size[0]}x{size[1]}"
        logits[key] = logits_of(spp, x)
        reached.append(accuracy(f"SPP network at {size[0]} x {size[1]}", logits[key], held_y))
    if min(reached) < REQUIRED:
        raise SystemExit(f"an accuracy is below {REQUIRED:.0%}: nothing written")

    lenet_doc = "LeNet-5 with ReLU and max pooling, trained on scikit-learn's digits."
    nin_doc = "Network in network with L2 pooling, overlapping max pooling and batch normalisation; scikit-learn's digits."
    spp_doc = "Convolutions and spatial pyramid pooling, for images of any size from 8 x 8; scikit-learn's digits."
    files = {
        "digits_lenet.onnx": export(lenet, "digits_lenet", lenet_doc, fixed, dynamo=False),
        "digits_lenet_dynamo.onnx": export(lenet, "digits_lenet_dynamo", lenet_doc, fixed, dynamo=True),
        "digits_nin.onnx": export(nin, "digits_nin", nin_doc, fixed, dynamo=True),
        "digits_spp.onnx": export(spp, "digits_spp", spp_doc, free, dynamo=True, any_size=True),
    }
    samples = args.out / "samples"
    samples.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (args.out / name).write_bytes(content)
        print(f"wrote {name} ({len(content):,} bytes)")
    np.savez_compressed(args.out / "digits_heldout.npz", images=held_levels, labels=held_y.astype(np.int64), **logits)
    first = [int(np.flatnonzero(held_y == digit)[0]) for digit in range(10)]
    for digit, index in enumerate(first):
        Image.fromarray(held_big[index]).save(samples / f"{digit}.png", optimize=True)
    np.savez_compressed(samples / "expected.npz", image=held_x[first], logits=logits["logits"][first])
    np.savez_compressed(samples / "expected_nin.npz", image=held_x[first], logits=logits["logits_nin"][first])
    some = {}
    for size, x in held_any.items():
        some[f"image_{size[0]}x{size[1]}"] = x[first]
        some[f"logits_{size[0]}x{size[1]}"] = logits[f"logits_spp_{size[0]}x{size[1]}"][first]
    np.savez_compressed(samples / "expected_spp.npz", **some)
    print(f"wrote digits_heldout.npz and samples/ to {args.out}")


if __name__ == "__main__":
    main()
