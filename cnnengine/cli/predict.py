"""`cnnengine predict`: run a model on image files and NumPy arrays."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CNNEngineError, InputError
from ..feeds import TensorInfo
from ..files import Given, Scaled, expand, is_array, read_feeds
from ..metadata import SETS
from ..metadata.own import SOURCE as OWN
from ..preprocess import Placement, Preprocess, frames_of, require_pillow
from ..tasks import Chosen, Described, canvas_of, picture_input, unplaced, upright
from ..tasks.task import by_the_first_axis
from ._common import (
    EXIT_OK,
    EXIT_SOME_FAILED,
    add_limits_option,
    add_precision_option,
    add_winograd_option,
    complain,
    positive,
    whole,
)
from .drawings import Drawings
from .meanings import add_task_options, option_of, wishes_of
from .out import KINDS, Mode, Out, Sample, opened
from .pictures import add_image_options, image_options, option_name, preparation_of, told
from .progress import MANY, Progress
from .reading import Ahead
from .results import json_line, printed, text_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL.Image import Image

    from ..metadata import Preparation
    from ..model import Model

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


EXAMPLES = """examples:
  cnnengine predict model.onnx cat.jpg dog.jpg
  cnnengine predict model.onnx photos/ 'more/**/*.png' --top 1 --batch-size 8
  cnnengine predict model.onnx batch.npy --softmax --labels classes.txt
  cnnengine predict model.onnx cat.jpg --fit crop --resize 256 --scale 1/255 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  cnnengine predict model.onnx cat.jpg --assume imagenet --labels imagenet --softmax
  cnnengine predict yolo11n.onnx photos/ --task detect --draw out/
  cnnengine predict model.onnx photos/ --out results.jsonl --resume

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
        help="image, .npy array, .npz with the model's input names, a folder of them and of such folders, or a pattern "
        "(example: cat.jpg photos/ 'x/*.png')",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE|NAME",
        help=f"class labels: a file with one a line or a JSON list, or those of {', '.join(SETS)} from torchvision or timm, "
        "where one is installed (default: the model's; example: --labels classes.txt)",
    )
    tasks = add_task_options(parser, "classes to print, or boxes to keep (default: 3 classes, 100 boxes; example: --top 5)")
    tasks.add_argument(
        "--draw",
        metavar="FOLDER",
        help="write pictures there: with boxes or segments drawn, or those that the network makes (example: --draw out/)",
    )
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
    _add_file_options(parser)
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=positive,
        help="samples to run at once (default: 1, or the model's; example: --batch-size 8)",
    )
    parser.add_argument(
        "--readers",
        metavar="N",
        type=_readers,
        help="threads that decode pictures while the network runs; 0 for none (default: as many as CPUs, at most 8; example: "
        "--readers 4)",
    )
    parser.add_argument(
        "--exact",
        action="store_true",
        help="decode every pixel of JPEG files that become less than half as large (default: as many as are needed; example: "
        "predict m.onnx photos/ --exact)",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=positive,
        help="threads to use (default: CNNENGINE_NUM_THREADS, OMP_NUM_THREADS, or all CPUs; example: --threads 2)",
    )
    add_winograd_option(parser)
    add_precision_option(parser)
    add_limits_option(parser)
    add_image_options(parser)
    parser.set_defaults(run=run)


def _readers(text: str) -> int:
    return min(whole(text), 256)


_readers.__name__ = "whole number"


def _add_file_options(parser: argparse.ArgumentParser) -> None:
    """Where results go."""
    files = parser.add_argument_group("files", "Results in a file in place of standard output (docs/predict.md).")
    files.add_argument(
        "--out",
        metavar="FILE|FOLDER",
        help=f"write results there: {', '.join(KINDS)}, or a folder for pictures of segments and those that the network makes "
        "(default: standard output; example: --out results.csv)",
    )
    goes_on = files.add_mutually_exclusive_group()
    goes_on.add_argument("--append", action="store_true", help="add to results that are there (example: --out r.csv --append)")
    goes_on.add_argument(
        "--resume",
        action="store_true",
        help="add to results that are there, and leave out inputs that they hold (example: --out r.csv --resume)",
    )


def run(args: argparse.Namespace) -> int:
    """Predict for every input; returns 0, or 1 when some inputs failed."""
    from .. import load

    if args.out is None and (args.append or args.resume):
        raise InputError("goes on with results of --out", tensor="--append" if args.append else "--resume", expected="--out")
    if args.out is not None and args.json:
        raise InputError("is for standard output", tensor="--json", expected="no --out, or --out with .jsonl")
    given = expand(args.inputs, deep=True, leave=[path for path in (args.out, args.draw) if path is not None])
    images = sum(one.error is None and not is_array(one.path) for one in given)
    if images:
        require_pillow()
    with (
        warnings.catch_warnings(),
        load(args.model, threads=args.threads, winograd=args.winograd, precision=args.precision, limits=args.limits) as model,
    ):
        preparation = _preparation(model, args) if images else None
        if images:
            _prepare_pillow()
        readers = 0 if images < 2 else min(_cpus(), 8) if args.readers is None else args.readers
        with contextlib.closing(_Job(model, args, preparation, given)) as job:
            job.work(given, readers)
    return EXIT_SOME_FAILED if job.failures else EXIT_OK


def _cpus() -> int:
    """CPUs that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _prepare_pillow() -> None:
    """Pillow refuses what is twice its limit, and warns from its limit on: that is a large photo. Readers are registered here,
    once, before several threads ask for them.
    """
    from PIL import Image

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    Image.preinit()


def _preparation(model: Model, args: argparse.Namespace) -> Preparation:
    try:
        taken = picture_input(model)
    except InputError:
        names = ", ".join(value.name for value in model.inputs)
        raise InputError(f"the model has {len(model.inputs)} inputs: give .npz files with the arrays {names}") from None
    if len(model.inputs) == 1 and not taken.bare:
        return preparation_of(model, args)
    try:
        return model.about.preparation(taken.info, image_options(args), args.assume, option_name)
    except InputError as error:
        raise error.locate(model=model.name) from None


def _tell(model: Model, args: argparse.Namespace, preparation: Preparation | None, said: tuple[str, ...]) -> None:
    """One line on standard error: what was taken from where, what was assumed, and how the outputs are read."""
    about = model.about
    if args.quiet or (preparation is None and not said and all(s.source == OWN for s in about.statements)):
        return
    parts = [*told(about, preparation, args.labels, args.softmax), *said]
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


def _task(model: Model, args: argparse.Namespace, preparation: Preparation | None) -> Chosen:
    """What reads the outputs."""
    return Chosen(model, wishes_of(model, args), None if preparation is None else preparation.settings, option_of)


@dataclass(frozen=True, eq=False)
class _Read:
    """A picture that waits for the network.

    Attributes
    ----------
    sample : Sample
    x : ndarray
        The input that it became.
    place : Placement
        Where it lies in the input.
    image : PIL.Image.Image or None
        What is drawn on.
    frames : int
        How many pictures the file holds.
    reduced : bool
        Whether it was decoded at a part of its extents.
    """

    sample: Sample
    x: np.ndarray
    place: Placement
    image: Image | None
    frames: int
    reduced: bool


class _Job:
    """Files in the order given: images wait until a batch is full; what cannot be read or run is reported and counted."""

    def __init__(self, model: Model, args: argparse.Namespace, preparation: Preparation | None, given: Sequence[Given]) -> None:
        self.failures = 0
        self._written = self._skipped = 0
        self._total = len(given)
        self._model = model
        self._names = [value.name for value in model.outputs]
        self._preprocess = None if preparation is None else preparation.settings
        self._scaled = _scaled(model, args)
        self._quiet = args.quiet
        self._exact = args.exact or args.draw is not None
        self._progress = Progress(len(given), sys.stderr)
        self._shares_a_terminal = sys.stdout.isatty()
        self._batch_size = _batch_size(model, args.batch_size)
        self._line = json_line if args.json else text_line
        self._task = _task(model, args, preparation)
        inputs = [one.path for one in given]
        self._drawings = None if args.draw is None else Drawings(args.draw, inputs)
        self._taken = None if preparation is None else picture_input(model)
        self._untold: Callable[[], None] | None = lambda: _tell(model, args, preparation, self._task.said)
        self._notes: list[tuple[str, str]] = []
        self._waiting: list[_Read] = []
        mode = Mode.RESUME if args.resume else Mode.APPEND if args.append else Mode.NEW
        self._path: str | None = args.out
        self._out: Out | None = None if args.out is None else opened(args.out, mode, inputs)
        self._begun = self._said_reduced = False

    def work(self, given: Sequence[Given], readers: int) -> None:
        """Take every file, in order."""
        with contextlib.closing(Ahead(self._to_do(given), self._read, readers, self._batch_size + 2 * readers)) as ahead:
            for one, read in ahead:
                sample = Sample(one.path, None, one.below)
                try:
                    picture = read()
                    if picture is None:
                        feeds = read_feeds(one.path, self._model.inputs, self._names, self._scaled)
                except CNNEngineError as error:
                    self.flush()
                    self._fail(sample, error)
                    continue
                if picture is not None:
                    self._wait(picture)
                    continue
                self.flush()
                (canvas,) = {canvas_of(x.shape) for x in feeds.values()} if len(feeds) == 1 else (None,)
                self._run(feeds, [sample], [None if canvas is None else unplaced(canvas)], [None])
        self.flush()
        self._say()
        self._progress.clear()
        self._sum_up()

    def close(self) -> None:
        """Leave the terminal as it was, and the results whole."""
        self._progress.clear()
        if self._out is not None:
            self._out.close()

    def flush(self) -> None:
        """Run the images that wait."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            assert self._taken is not None
            x = np.concatenate([one.x for one in waiting])
            self._run(self._taken.feeds(x), [w.sample for w in waiting], [w.place for w in waiting], [w.image for w in waiting])

    def _to_do(self, given: Sequence[Given]) -> Iterator[Given]:
        """What is not there already; what arrays hold is seen when they are read."""
        for one in given:
            if self._out is None or one.error is not None or is_array(one.path):
                yield one
            elif self._out.has(Sample(one.path, None, one.below)):
                self._skipped += 1
                self._progress.skip()
            else:
                yield one

    def _read(self, one: Given) -> _Read | None:
        """The input that a picture becomes; None for arrays. Called in several threads."""
        if one.error is not None:
            raise one.error
        if is_array(one.path):
            return None
        assert self._preprocess is not None  # `run` made it: there is an image among the inputs
        assert self._taken is not None
        picture = self._preprocess.read(one.path, self._exact)
        x, place = self._preprocess.prepared(picture, self._taken.info.dtype)
        image = None if self._drawings is None else upright(picture.image)
        return _Read(Sample(one.path, None, one.below), x, place, image, frames_of(picture.image), picture.box is not None)

    def _wait(self, picture: _Read) -> None:
        if not self._quiet and picture.frames > 1:
            self._notes.append((f"the first of {picture.frames} pictures is taken", picture.sample.path))
        if not self._quiet and picture.reduced and not self._said_reduced:
            self._said_reduced = True
            self._notes.append(("large JPEG files are decoded at a part of their extents; --exact: at all of them", ""))
        if self._waiting and self._waiting[0].x.shape != picture.x.shape:
            self.flush()
        self._waiting.append(picture)
        if len(self._waiting) == self._batch_size:
            self.flush()

    def _say(self) -> None:
        """The line about what was taken from where, once: when the first outputs have shown what they are."""
        if self._untold is not None:
            say, self._untold = self._untold, None
            self._progress.clear()
            say()
        notes, self._notes = self._notes, []
        for note, path in notes:
            self._progress.clear()
            complain(note, about=path or self._model.name)

    def _sum_up(self) -> None:
        """How many there were, where that does not show."""
        if self._quiet or (self._path is None and (self._total < MANY or not self.failures)):
            return
        if self._path is None:
            complain(f"{self.failures} failed of {self._total} inputs")
            return
        parts = [f"{self._written} written"]
        parts += [f"{self._skipped} there already"] if self._skipped else []
        parts += [f"{self.failures} failed"] if self.failures else []
        complain(", ".join(parts), about=self._path)

    def _run(
        self,
        feeds: dict[str, np.ndarray],
        samples: list[Sample],
        places: list[Placement | None],
        images: list[Image | None],
    ) -> None:
        try:
            if len(feeds) == 1 and not (self._taken is not None and self._taken.bare):
                (x,) = feeds.values()
                result = self._model.predict(x, batch_size=self._batch_size)
                results = list(result) if isinstance(result, tuple) else [result]
            else:
                results = self._model.run(None, feeds)
        except CNNEngineError as error:
            for sample in samples:
                self._fail(sample, error)
            return
        n = 1 if self._taken is not None and self._taken.bare else _common_extent(feeds)
        self._show(samples, places, images, n, results)

    def _show(
        self,
        samples: list[Sample],
        places: list[Placement | None],
        images: list[Image | None],
        n: int | None,
        results: list[object],
    ) -> None:
        """Write what each sample's outputs mean, or the file's when the outputs are not one per sample."""
        try:
            outputs = self._task.samples(results, n, None if places[0] is None else places[0].canvas)
        finally:
            self._say()
        if outputs is None:
            if len(samples) > 1:
                raise InputError("the model's outputs are not one per sample: use --batch-size 1")
            outputs, n = [list(results)], 1
        plain = by_the_first_axis(results, n) or ([list(results)] if len(outputs) == 1 else None)
        for i, sample in enumerate(outputs):
            one = samples[i] if len(samples) > 1 or n == 1 else Sample(samples[0].path, i, samples[0].below)
            at = i if len(places) > 1 else 0
            try:
                if self._out is not None and is_array(one.path) and self._out.has(one):
                    self._skipped += 1
                    continue
                found = self._task.read(sample, places[at])
            except CNNEngineError as error:
                self._fail(one, error, steps=0)
                continue
            self._begin(found, None if plain is None else plain[i])
            try:
                self._write(one, found, None if plain is None else plain[i])
                if self._drawings is not None:
                    self._drawings.write(one, found.values(), images[at])
            except CNNEngineError as error:
                self._fail(one, error, steps=0)
        self._progress.step(len(samples))

    def _begin(self, found: Mapping[str, Described], plain: list[object] | None) -> None:
        """Let the file see the first sample: what it cannot hold ends the command before anything is written."""
        if self._out is not None and not self._begun:
            self._out.begin(found, self._named(plain))
            self._begun = True

    def _write(self, sample: Sample, found: Mapping[str, Described], plain: list[object] | None) -> None:
        if self._out is not None:
            self._out.write(sample, found, self._named(plain))
        else:
            if self._shares_a_terminal:
                self._progress.clear()
            printed(self._line(sample.name, found))
        self._written += 1

    def _named(self, plain: list[object] | None) -> dict[str, object]:
        """Outputs by name; none where they cannot be told apart by sample."""
        return {} if plain is None else dict(zip(self._names, plain, strict=True))

    def _fail(self, sample: Sample, error: CNNEngineError, steps: int = 1) -> None:
        self.failures += 1
        self._progress.clear()
        complain(error, about=sample.name)
        self._progress.step(steps, failed=1)


def _common_extent(feeds: dict[str, np.ndarray]) -> int | None:
    """The number of samples: axis 0 of all feeds, or None when they differ."""
    extents = {x.shape[0] if x.ndim else None for x in feeds.values()}
    return extents.pop() if len(extents) == 1 else None
