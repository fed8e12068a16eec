"""`cnnengine predict`: run a model on image files and NumPy arrays."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CNNEngineError, InputError
from ..files import expand, is_array, labels_of_file, read_feeds
from ..preprocess import LAYOUTS, Preprocess, labels_of_model, read_image, require_pillow
from ._common import EXIT_OK, EXIT_SOME_FAILED, add_precision_option, add_winograd_option, complain, positive
from .progress import Progress
from .results import Reader, json_line, output_kind, text_line

if TYPE_CHECKING:
    from ..model import Model

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


EXAMPLES = """examples:
  cnnengine predict model.onnx cat.jpg dog.jpg
  cnnengine predict model.onnx photos/ 'more/**/*.png' --top 1 --batch-size 8
  cnnengine predict model.onnx batch.npy --softmax --labels classes.txt
  cnnengine predict model.onnx cat.jpg --size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225

exit status: 0 all done, 1 some inputs failed (each in one line on standard error), 2 wrong usage or a model that cannot be used
"""


def add_to(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "predict",
        help="run a model on images or NumPy arrays",
        description="Run a model on images (resized, scaled and normalised as the model's metadata or the options say) and on "
        ".npy and .npz arrays (fed as they are). Prints a line per sample: the path, then the best classes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="ONNX file (example: model.onnx)")
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="image, .npy array, .npz with the model's input names, a folder of them, or a pattern "
        "(example: cat.jpg photos/ 'x/*.png')",
    )
    parser.add_argument(
        "--labels", metavar="FILE", help="class labels: one a line, or a JSON list (example: --labels classes.txt)"
    )
    parser.add_argument("--top", metavar="N", type=positive, default=3, help="classes to print (default: 3; example: --top 5)")
    parser.add_argument(
        "--softmax",
        action="store_true",
        help="the output holds logits: print probabilities (example: predict m.onnx x.png --softmax)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line (example: --json > results.jsonl)")
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=positive,
        help="samples to run at once (default: 1, or the model's; example: --batch-size 8)",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=positive,
        help="threads to use (default: CNNENGINE_NUM_THREADS, OMP_NUM_THREADS, or all CPUs; example: --threads 2)",
    )
    add_winograd_option(parser)
    add_precision_option(parser)
    add_image_options(parser)
    parser.set_defaults(run=run)


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Options that say how an image becomes the input."""
    images = parser.add_argument_group("images", "Each replaces what the model's metadata say: (pixel * scale - mean) / std.")
    images.add_argument(
        "--size", metavar="HxW", type=_size, help="resize to height x width (example: --size 224x320, or --size 224)"
    )
    images.add_argument("--scale", metavar="X", type=_number, help="factor for pixels 0..255 (example: --scale 1/255)")
    images.add_argument(
        "--mean",
        metavar="X[,X,X]",
        type=_numbers,
        help="subtracted after scaling: one, or one per channel (example: --mean 0.5,0.4,0.4)",
    )
    images.add_argument(
        "--std",
        metavar="X[,X,X]",
        type=_numbers,
        help="divided by: one, or one per channel (example: --std 0.2; negative: --std=-1)",
    )
    images.add_argument("--layout", choices=LAYOUTS, help="order of the input's axes (example: --layout NHWC)")
    images.add_argument(
        "--gray",
        action=argparse.BooleanOptionalAction,
        help="one gray channel instead of red, green, blue (example: --gray, or --no-gray against the metadata)",
    )


def image_options(args: argparse.Namespace) -> dict[str, object]:
    """What they were given, by the names of `Preprocess`' fields; None where not."""
    return {name: getattr(args, name) for name in ("size", "scale", "mean", "std", "layout", "gray")}


def run(args: argparse.Namespace) -> int:
    """Predict for every input; returns 0, or 1 when some inputs failed."""
    from .. import load

    given = expand(args.inputs)
    has_images = any(one.error is None and not is_array(one.path) for one in given)
    if has_images:
        require_pillow()
    with load(args.model, threads=args.threads, winograd=args.winograd, precision=args.precision) as model:
        job = _Job(model, args, _preprocess(model, args) if has_images else None, Progress(len(given), sys.stderr))
        for one in given:
            if one.error is None:
                job.add(one.path)
            else:
                job.refuse(one.path, one.error)
        job.flush()
        job.finish()
    return EXIT_SOME_FAILED if job.failures else EXIT_OK


def _preprocess(model: Model, args: argparse.Namespace) -> Preprocess:
    if len(model.inputs) != 1:
        names = ", ".join(value.name for value in model.inputs)
        raise InputError(f"the model has {len(model.inputs)} inputs: give .npz files with the arrays {names}")
    image = model.inputs[0]
    return Preprocess.of_model(model.metadata, image.shape, image.dtype, **image_options(args))


def _batch_size(model: Model, wanted: int | None) -> int:
    """Samples to run at once: as wanted, unless the file fixes it."""
    shape = model.inputs[0].shape if len(model.inputs) == 1 else None
    fixed = shape[0] if shape else None
    if not isinstance(fixed, int):
        return wanted or 1
    if wanted not in (None, fixed):
        raise InputError("the model fixes the batch size", tensor="--batch-size", expected=fixed, received=wanted)
    return fixed


class _Job:
    """Files in the order given: images wait until a batch is full; what cannot be read or run is reported and counted."""

    def __init__(self, model: Model, args: argparse.Namespace, preprocess: Preprocess | None, progress: Progress) -> None:
        self.failures = 0
        self._model = model
        self._preprocess = preprocess
        self._progress = progress
        self._batch_size = _batch_size(model, args.batch_size)
        self._line = json_line if args.json else text_line
        self._reader = Reader(
            [value.name for value in model.outputs],
            labels_of_file(args.labels) if args.labels else labels_of_model(model.metadata),
            "logits" if args.softmax else output_kind(model.metadata),
            args.top,
        )
        self._waiting: list[tuple[str, np.ndarray]] = []

    def add(self, path: str) -> None:
        """Take one file; its results are printed by this call or a later one."""
        try:
            feeds = self._read(path)
        except CNNEngineError as error:
            self.refuse(path, error)
            return
        if is_array(path):
            self.flush()
            self._run(feeds, [path])
            return
        (x,) = feeds.values()
        if self._waiting and self._waiting[0][1].shape != x.shape:
            self.flush()
        self._waiting.append((path, x))
        if len(self._waiting) == self._batch_size:
            self.flush()

    def refuse(self, path: str, error: CNNEngineError) -> None:
        """Report an input that cannot be read, after the results of those before it."""
        self.flush()
        self._fail(path, error)

    def flush(self) -> None:
        """Run the images that wait."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            x = np.concatenate([x for _, x in waiting])
            self._run({self._model.inputs[0].name: x}, [path for path, _ in waiting])

    def finish(self) -> None:
        """Leave the terminal as it was."""
        self._progress.clear()

    def _read(self, path: str) -> dict[str, np.ndarray]:
        if is_array(path):
            return read_feeds(path, self._model.inputs)
        assert self._preprocess is not None  # `run` made it: there is an image among the inputs
        image = self._model.inputs[0]
        return {image.name: self._preprocess.apply(read_image(path), image.dtype)}

    def _run(self, feeds: dict[str, np.ndarray], paths: list[str]) -> None:
        try:
            if len(feeds) == 1:
                (x,) = feeds.values()
                result = self._model.predict(x, batch_size=self._batch_size)
                results = list(result) if isinstance(result, tuple) else [result]
            else:
                results = self._model.run(None, feeds)
        except CNNEngineError as error:
            for path in paths:
                self._fail(path, error)
            return
        self._show(paths, _common_extent(feeds), results)

    def _show(self, paths: list[str], n: int | None, results: list[object]) -> None:
        """Print a line per sample, or one for the file when the outputs are not one per sample."""
        self._progress.clear()
        per_sample = n is not None and all(isinstance(y, np.ndarray) and y.shape[:1] == (n,) for y in results)
        if not per_sample:
            if len(paths) > 1:
                raise InputError("the model's outputs are not one per sample: use --batch-size 1")
            print(self._line(paths[0], self._reader.read(results)))
            self._progress.step(len(paths))
            return
        for i in range(n or 0):
            name = paths[i] if len(paths) > 1 or n == 1 else f"{paths[0]}[{i}]"
            print(self._line(name, self._reader.read([y[i] for y in results])))  # type: ignore[index]
        self._progress.step(len(paths))

    def _fail(self, path: str, error: CNNEngineError) -> None:
        self.failures += 1
        self._progress.clear()
        complain(error, about=path)
        self._progress.step()


def _common_extent(feeds: dict[str, np.ndarray]) -> int | None:
    """The number of samples: axis 0 of all feeds, or None when they differ."""
    extents = {x.shape[0] if x.ndim else None for x in feeds.values()}
    return extents.pop() if len(extents) == 1 else None


def _number(text: str) -> float:
    """A number or a fraction such as 1/255."""
    top, _, bottom = text.partition("/")
    value = float(top) / (float(bottom) or math.nan) if bottom else float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_number(part) for part in text.split(","))


def _size(text: str) -> tuple[int, int]:
    extents = [positive(part) for part in text.lower().split("x")]
    if len(extents) > 2:
        raise ValueError
    return extents[0], extents[-1]


# argparse names these in its messages: "invalid height and width value: 'x'".
_number.__name__ = "number"
_numbers.__name__ = "numbers"
_size.__name__ = "height and width"
