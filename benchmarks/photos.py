"""A folder of JPEG photos through a classifier: pictures a second, of `cnnengine predict` and of torchvision with onnxruntime.

    python benchmarks/photos.py MODEL PHOTOS [--make 24] [--threads 2] [--batch-size 8] [--rounds 5]

MODEL takes float32 (N, 3, H, W), prepared as torchvision's classifiers are: shorter side to H / 0.875, the middle cut out,
ImageNet's mean and deviation. All take the same files and the same preparation, decode in as many threads or processes as the
network has threads, and run in processes of their own, in turn. What starts them is taken off: a run over one photo.

| row | |
|---|---|
| `cnnengine` | `predict`, JPEG files decoded as far as needed |
| `cnnengine --exact` | every pixel decoded |
| `torchvision` | torchvision's transforms in a DataLoader with worker processes, onnxruntime |

Without photos at hand, `--make 24` fills a new folder with JPEG files of 12 megapixels, enlarged from scikit-image's pictures,
with the noise of a sensor added: without it they would be small files that decode faster than photos.

The last column is the largest difference of outputs from those of `--exact`, as a part of the largest output.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESIZE = 0.875


def photos_of(folder: Path) -> list[Path]:
    """JPEG files below a folder, sorted."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg") and p.is_file())


def make(folder: Path, count: int) -> None:
    """Fill a new folder with photos of 4000 x 3000 pixels."""
    from PIL import Image
    from skimage import data

    folder.mkdir(parents=True)
    pictures = [Image.fromarray(picture) for picture in (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())]
    random = np.random.default_rng(0)
    for at in range(count):
        picture = pictures[at % len(pictures)]
        if at // len(pictures) % 2:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        left = random.uniform(0, 0.2) * picture.width
        top = random.uniform(0, 0.2) * picture.height
        box = (left, top, left + 0.8 * picture.width, top + 0.8 * picture.height)
        large = np.asarray(picture.convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC, box), np.float32)
        noise = random.standard_normal(large.shape, np.float32) * 3
        Image.fromarray((large + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{at:03}.jpg", quality=90)


def size_of(model: str) -> int:
    """Height of the input."""
    import onnxruntime

    shape = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs()[0].shape
    return shape[2] if isinstance(shape[2], int) else 224


def ours(model: str, files: Sequence[Path], target: Path, threads: int, batch: int, size: int, *options: str) -> list[str]:
    """The command of `cnnengine predict`."""
    command = [sys.executable, "-m", "cnnengine", "predict", model, *map(str, files), "--quiet", "--out", str(target)]
    command += ["--assume", "imagenet", "--size", str(size), "--threads", str(threads), "--readers", str(threads)]
    return [*command, "--batch-size", str(batch), *options]


def theirs(model: str, files: Sequence[Path], target: Path, threads: int, batch: int, size: int) -> list[str]:
    """This script, as torchvision's side."""
    command = [sys.executable, __file__, model, "--worker", str(target), "--threads", str(threads), "--batch-size", str(batch)]
    return [*command, "--size", str(size), *map(str, files)]


def worker(model: str, files: Sequence[str], target: str, threads: int, batch: int, size: int) -> None:
    """Run the photos through a DataLoader and onnxruntime, and keep the outputs."""
    import onnxruntime
    import torch
    from PIL import Image
    from torchvision import transforms

    prepare = transforms.Compose(
        [
            transforms.Resize(int(size / RESIZE)),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    class Photos(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, at: int) -> torch.Tensor:
            return prepare(Image.open(files[at]).convert("RGB"))  # type: ignore[no-any-return]

    torch.set_num_threads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    loader = torch.utils.data.DataLoader(Photos(), batch_size=batch, num_workers=threads)
    np.savez(target, y=np.concatenate([session.run(None, {name: x.numpy()})[0] for x in loader]))


def seconds(command: Sequence[str]) -> float:
    """How long a command takes."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    before = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:5])} ...: {done.stderr.strip()}")
    return time.perf_counter() - before


def first_output(path: Path) -> np.ndarray:
    """The rows of the first output of a .npz."""
    with np.load(path) as whole:
        return np.asarray(whole[next(name for name in whole.files if name != "input")], np.float64)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("photos", nargs="+", help="a folder of JPEG files")
    parser.add_argument("--make", metavar="N", type=int, help="make so many photos in a new folder PHOTOS first")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        worker(args.model, args.photos, args.worker, args.threads, args.batch_size, args.size)
        return 0
    if args.make:
        make(Path(args.photos[0]), args.make)
    files = [file for folder in args.photos for file in photos_of(Path(folder))]
    if len(files) < 2:
        parser.error("there are not two JPEG files")
    size = args.size or size_of(args.model)
    given = (args.threads, args.batch_size, size)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "r.npz"
        sides = {
            "cnnengine": lambda some: ours(args.model, some, target, *given),
            "cnnengine --exact": lambda some: ours(args.model, some, target, *given, "--exact"),
            "torchvision": lambda some: theirs(args.model, some, target, *given),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        outputs: dict[str, np.ndarray] = {}
        for _ in range(args.rounds):
            for name, command in sides.items():
                target.unlink(missing_ok=True)
                start = seconds(command(files[:1]))
                target.unlink(missing_ok=True)
                taken = seconds(command(files)) - start
                if taken < start / 4:
                    raise SystemExit(f"{name}: starting takes {start:.1f} s, these photos {taken:.1f} s: more photos are needed")
                times[name].append(taken)
                outputs[name] = first_output(target)
        exact = outputs["cnnengine --exact"]
        print(f"{len(files)} photos, {size} x {size}, {args.threads} threads, batches of {args.batch_size}, {args.rounds} rounds")
        print(f"{'':20}{'best':>10}{'median':>10}  pictures a second; difference")
        for name, found in times.items():
            rates = sorted((len(files) - 1) / t for t in found)
            difference = np.abs(outputs[name] - exact).max() / np.abs(exact).max()
            print(f"{name:20}{rates[-1]:10.1f}{rates[len(rates) // 2]:10.1f}  {difference:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
