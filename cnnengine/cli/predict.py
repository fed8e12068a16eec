"""`cnnengine predict`: run a model on image files and NumPy arrays."""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CNNEngineError, InputError
from ..feeds import TensorInfo
from ..files import Scaled, expand, is_array, read_feeds
from ..metadata import SETS
from ..metadata.own import SOURCE as OWN
from ..preprocess import Placement, Preprocess, frames_of, read_image, require_pillow
from ..tasks import Classify, Task
from ._common import EXIT_OK, EXIT_SOME_FAILED, add_precision_option, add_winograd_option, complain, positive
from .pictures import add_image_options, image_options, labels_given, option_name, preparation_of, told
from .progress import Progress
from .results import json_line, text_line

if TYPE_CHECKING:
    from ..metadata import Preparation
    from ..model import Model

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


EXAMPLES = """examples:
  cnnengine predict model.onnx cat.jpg dog.jpg
  cnnengine predict model.onnx photos/ 'more/**/*.png' --top 1 --batch-size 8
  cnnengine predict model.onnx batch.npy --softmax --labels classes.txt
  cnnengine predict model.onnx cat.jpg --fit crop --resize 256 --scale 1/255 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  cnnengine predict model.onnx cat.jpg --assume imagenet --labels imagenet --softmax

exit status: 0 all done, 1 some inputs failed (each in one line on standard error), 2 wrong usage or a model that cannot be used
"""


def add_to(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "predict",
        help="run a model on images or NumPy arrays",
        description="Run a model on images (resized, scaled and normalised as the model's file, one beside it, or the options "
        "say) and on .npy and .npz arrays (floats are fed as they are). Prints a line per sample: the path, then the best "
        "classes; and on standard error one line that says where all of this was found and what was assumed.",
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
        "--labels",
        metavar="FILE|NAME",
        help=f"class labels: a file with one a line or a JSON list, or those of {', '.join(SETS)} from torchvision or timm, "
        "where one is installed (default: the model's; example: --labels classes.txt)",
    )
    parser.add_argument("--top", metavar="N", type=positive, default=3, help="classes to print (default: 3; example: --top 5)")
    parser.add_argument(
        "--softmax",
        action="store_true",
        help="the output holds logits: print probabilities (example: predict m.onnx x.png --softmax)",
    )
    parser.add_argument(
        "--quiet",
        action="store_true",
        help="do not say where preparation and labels come from (example: predict m.onnx x.png --quiet)",
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


def run(args: argparse.Namespace) -> int:
    """Predict for every input; returns 0, or 1 when some inputs failed."""
    from .. import load

    given = expand(args.inputs)
    has_images = any(one.error is None and not is_array(one.path) for one in given)
    if has_images:
        require_pillow()
    with (
        warnings.catch_warnings(),
        load(args.model, threads=args.threads, winograd=args.winograd, precision=args.precision) as model,
    ):
        preparation = _preparation(model, args) if has_images else None
        if has_images:
            _allow_large_pictures()
        _tell(model, args, preparation)
        job = _Job(model, args, preparation, Progress(len(given), sys.stderr))
        for one in given:
            if one.error is None:
                job.add(one.path)
            else:
                job.refuse(one.path, one.error)
        job.flush()
        job.finish()
    return EXIT_SOME_FAILED if job.failures else EXIT_OK


def _allow_large_pictures() -> None:
    """Pillow refuses what is twice its limit, and warns from its limit on: that is a large photo."""
    from PIL import Image

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def _preparation(model: Model, args: argparse.Namespace) -> Preparation:
    if len(model.inputs) != 1:
        names = ", ".join(value.name for value in model.inputs)
        raise InputError(f"the model has {len(model.inputs)} inputs: give .npz files with the arrays {names}")
    return preparation_of(model, args)


def _tell(model: Model, args: argparse.Namespace, preparation: Preparation | None) -> None:
    """One line on standard error: what was taken from where, and what was assumed."""
    about = model.about
    if args.quiet or (preparation is None and all(s.source == OWN for s in about.statements)):
        return
    parts = told(about, preparation, args.labels, args.softmax)
    if parts:
        complain("; ".join(parts), about=model.name)


def _scaled(model: Model, args: argparse.Namespace) -> Scaled:
    """What makes floats of integers in arrays, where --scale says how."""

    def scaled(array: np.ndarray, info: TensorInfo) -> np.ndarray:
        if args.scale is None:
            raise InputError(
                "integers, and the input takes floats: --scale 1 feeds them as they are, --scale X scales them",
                tensor=info.name,
                expected=info.dtype,
                received=array.dtype,
            )
        if max(len(args.mean or ()), len(args.std or ())) > 1:
            settings = model.about.preparation(info, image_options(args), args.assume, option_name).settings
            return settings.normalise(array, 1 if settings.layout == "NCHW" else 3)
        settings = Preprocess(gray=True, scale=args.scale, mean=args.mean or (0.0,), std=args.std or (1.0,))
        return settings.normalise(array)

    return scaled


def _batch_size(model: Model, wanted: int | None) -> int:
    """Samples to run at once: as wanted, unless the file fixes it."""
    shape = model.inputs[0].shape if len(model.inputs) == 1 else None
    fixed = shape[0] if shape else None
    if not isinstance(fixed, int):
        return wanted or 1
    if wanted not in (None, fixed):
        raise InputError("the model fixes the batch size", tensor="--batch-size", expected=fixed, received=wanted)
    return fixed


def _task(model: Model, args: argparse.Namespace) -> Task:
    """What reads the outputs."""
    last = model.outputs[0].shape[-1] if len(model.outputs) == 1 and model.outputs[0].shape else None
    return Classify(
        [value.name for value in model.outputs],
        labels_given(args.labels, last if isinstance(last, int) else None) if args.labels else model.labels,
        "logits" if args.softmax else model.about.output,
        args.top,
    )


class _Job:
    """Files in the order given: images wait until a batch is full; what cannot be read or run is reported and counted."""

    def __init__(self, model: Model, args: argparse.Namespace, preparation: Preparation | None, progress: Progress) -> None:
        self.failures = 0
        self._model = model
        self._preprocess = None if preparation is None else preparation.settings
        self._scaled = _scaled(model, args)
        self._quiet = args.quiet
        self._progress = progress
        self._batch_size = _batch_size(model, args.batch_size)
        self._line = json_line if args.json else text_line
        self._task = _task(model, args)
        self._waiting: list[tuple[str, np.ndarray, Placement | None]] = []

    def add(self, path: str) -> None:
        """Take one file; its results are printed by this call or a later one."""
        try:
            if is_array(path):
                feeds = read_feeds(path, self._model.inputs, [value.name for value in self._model.outputs], self._scaled)
            else:
                x, place = self._picture(path)
        except CNNEngineError as error:
            self.refuse(path, error)
            return
        if is_array(path):
            self.flush()
            self._run(feeds, [path], [None])
            return
        if self._waiting and self._waiting[0][1].shape != x.shape:
            self.flush()
        self._waiting.append((path, x, place))
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
            x = np.concatenate([x for _, x, _ in waiting])
            self._run({self._model.inputs[0].name: x}, [path for path, _, _ in waiting], [place for _, _, place in waiting])

    def finish(self) -> None:
        """Leave the terminal as it was."""
        self._progress.clear()

    def _picture(self, path: str) -> tuple[np.ndarray, Placement]:
        """The input that a picture becomes, and where the picture lies in it."""
        assert self._preprocess is not None  # `run` made it: there is an image among the inputs
        image = read_image(path)
        x = self._preprocess.apply(image, self._model.inputs[0].dtype)
        if frames_of(image) > 1 and not self._quiet:
            self._progress.clear()
            complain(f"the first of {frames_of(image)} pictures is taken", about=path)
        return x, self._preprocess.place(image.height, image.width)

    def _run(self, feeds: dict[str, np.ndarray], paths: list[str], places: list[Placement | None]) -> None:
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
        self._show(paths, places, _common_extent(feeds), results)

    def _show(self, paths: list[str], places: list[Placement | None], n: int | None, results: list[object]) -> None:
        """Print a line per sample, or one for the file when the outputs are not one per sample."""
        self._progress.clear()
        per_sample = n is not None and all(isinstance(y, np.ndarray) and y.shape[:1] == (n,) for y in results)
        if not per_sample:
            if len(paths) > 1:
                raise InputError("the model's outputs are not one per sample: use --batch-size 1")
            print(self._line(paths[0], self._task.read(results, places[0])))
            self._progress.step(len(paths))
            return
        for i in range(n or 0):
            name = paths[i] if len(paths) > 1 or n == 1 else f"{paths[0]}[{i}]"
            place = places[i] if len(places) > 1 else places[0]
            print(self._line(name, self._task.read([y[i] for y in results], place)))  # type: ignore[index]
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
