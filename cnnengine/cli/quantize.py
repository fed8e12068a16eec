"""`cnnengine quantize`: a float model to 8 bits, and what that costs and gains."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CNNEngineError, InputError
from ..files import is_array
from ..model import Model
from ..preprocess import Preprocess
from ._common import EXIT_OK, EXIT_SOME_FAILED, complain, positive, show
from .pictures import add_image_options, image_options, option_name, preparation_of
from .progress import StatusLine

if TYPE_CHECKING:
    from ..quantization import LayerError, Quantization

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = """\
Quantise a float model to 8 bits by onnxruntime's quantiser (pip install onnxruntime Pillow), with ranges taken from samples:
pictures, prepared as predict prepares them, or .npy and .npz arrays. Prints the error of each layer, accuracy, size and speed
before and after."""
EXAMPLES = """examples:
  cnnengine quantize model.onnx --data pictures/ -o model8.onnx
  cnnengine quantize model.onnx --data classes/ -o model8.onnx --keep-accuracy 0.5% --report report.json
  cnnengine quantize model.onnx --data train/ --test held-out/ -o model8.onnx --calibration percentile
  cnnengine quantize model.onnx --data batch.npz -o model8.onnx --exclude Softmax,/head/Conv

--data and --test are a folder, files or patterns. The class of a sample is known where the folder has a sub-folder for each class
  (its name a label of the model or the class' number), by --truth, or by an array `labels` in a .npz

exit status: 0 written, and the accuracy is kept where --keep-accuracy asks for it; 1 written, but some samples could not be used
  (each in one line on standard error), or no set of layers keeps the accuracy; 2 wrong usage, or a model that cannot be used
"""
MOST = 40
"""Layers listed at most: those with the largest errors of their own, in the order of the graph."""


def add_to(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "quantize",
        help="quantise a model to 8 bits, and tell what that costs and gains",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="ONNX file in float32 (example: model.onnx)")
    parser.add_argument(
        "--data", metavar="PATH", nargs="+", required=True, help="samples to calibrate on (example: --data pictures/)"
    )
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="the file to write (example: -o model8.onnx)")
    parser.add_argument(
        "--test",
        metavar="PATH",
        nargs="+",
        help="samples to compare the networks on (default: those of --data; example: --test held-out/)",
    )
    parser.add_argument(
        "--truth",
        metavar="FILE",
        help="the samples' classes, PATH,LABEL a line, paths relative to the folder (example: --truth classes.csv)",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="class labels: one a line, or a JSON list (default: the model's; example: --labels x.txt)",
    )
    parser.add_argument(
        "--format",
        choices=("qdq", "qoperator"),
        default="qdq",
        help="float operators between QuantizeLinear and DequantizeLinear, or operators on quantised numbers "
        "(default: qdq; example: --format qoperator)",
    )
    parser.add_argument(
        "--type",
        choices=("u8s8", "s8s8", "u8u8"),
        default="u8s8",
        help="of activations and weights: unsigned or signed 8 bits (default: u8s8; example: --type s8s8)",
    )
    parser.add_argument(
        "--per-tensor", action="store_true", help="one scale for all channels of a weight (example: quantize ... --per-tensor)"
    )
    parser.add_argument(
        "--calibration",
        choices=("minmax", "percentile", "entropy"),
        default="minmax",
        help="how ranges are taken from the samples (default: minmax; example: --calibration percentile)",
    )
    parser.add_argument(
        "--percentile",
        metavar="X",
        type=_percentile,
        help="with --calibration percentile: the part of the values that a range holds, in percent "
        "(default: 99.99; example: --percentile 99.9)",
    )
    parser.add_argument(
        "--samples",
        metavar="N",
        type=positive,
        default=128,
        help="samples to calibrate on at most (default: 128; example: --samples 32)",
    )
    parser.add_argument(
        "--exclude",
        metavar="NAMES",
        type=_names,
        action="append",
        default=[],
        help="leave these in float: names of nodes, patterns of them with *, operators (example: --exclude Softmax,'/head/*')",
    )
    parser.add_argument(
        "--keep-accuracy",
        metavar="X%",
        type=_percent,
        help="leave as many layers in float as it takes to lose no more than this (example: --keep-accuracy 0.5%%)",
    )
    parser.add_argument(
        "--threads", metavar="N", type=positive, help="threads to use (default: as predict; example: --threads 2)"
    )
    parser.add_argument("--report", metavar="FILE", help="write all figures as JSON (example: --report report.json)")
    add_image_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Quantise, and print what was found."""
    from ..quantization import quantize

    if args.percentile is not None and args.calibration != "percentile":
        raise InputError("says nothing without --calibration percentile", tensor="--percentile", received=args.percentile)
    if args.report is not None:
        _check_report(args)
    preprocess = _preprocess(args)
    line = StatusLine(sys.stderr)

    def refuse(path: str, error: CNNEngineError) -> None:
        line.clear()
        complain(error, about=path)

    try:
        found = quantize(
            args.model,
            args.data,
            args.out,
            test=args.test,
            truth=args.truth,
            labels=args.labels,
            format=args.format,
            type=args.type,
            per_channel=not args.per_tensor,
            calibration=args.calibration,
            percentile=args.percentile or 99.99,
            samples=args.samples,
            exclude=[name for names in args.exclude for name in names],
            keep_accuracy=args.keep_accuracy,
            threads=args.threads,
            preprocess=preprocess,
            refuse=refuse,
            tell=_teller(line),
        )
    finally:
        line.clear()
    _print(found)
    if args.report is not None:
        text = json.dumps(found.as_dict(), ensure_ascii=False, allow_nan=False, indent=1)
        try:
            Path(args.report).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write the report: {error.strerror or error}", tensor=args.report) from error
    if not found.kept:
        complain(f"no set of layers keeps the accuracy; {args.out} is the best that was tried")
    return EXIT_OK if found.kept and not found.refused else EXIT_SOME_FAILED


def _preprocess(args: argparse.Namespace) -> Preprocess | None:
    """How pictures are prepared, where that is known; what is assumed is told."""
    given = [option_name(name) for name, value in image_options(args).items() if value is not None]
    asked = bool(given) or args.assume is not None
    with Model(args.model) as model:
        if len(model.inputs) != 1:
            if asked:
                raise InputError("the model has several inputs, none of them an image", tensor=next(iter(given), "--assume"))
            return None
        try:
            preparation = preparation_of(model, args)
        except InputError:
            if asked:
                raise
            return None  # asked for where there is a picture among the samples
        if preparation.assumed and not all(is_array(path) for path in args.data):
            complain(f"pictures: {preparation.describe()}", about=model.name)
        return preparation.settings


def _check_report(args: argparse.Namespace) -> None:
    """Refuse before any work what could not be written after it, or would be written over a model."""
    path = Path(args.report)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError("cannot be written", tensor="--report", expected="a file in a folder that exists", received=args.report)
    for other in (args.model, args.out):
        if os.path.abspath(other) == os.path.abspath(path) or (path.exists() and os.path.exists(other) and path.samefile(other)):
            raise InputError("is a model's file: give another name", tensor="--report", received=args.report)


def _teller(line: StatusLine) -> Callable[[str, int, int], None]:
    return lambda text, done, of: line.tell(f"{text} {done}/{of}" if of > 1 else text)


# ---------------------------------------------------------------- what is printed
def _print(found: Quantization) -> None:
    scales = "per channel" if found.per_channel else "per tensor"
    ranges = found.calibration + (f" {found.percentile:g}" if found.percentile is not None else "")
    print(f"{found.model} -> {found.out}: {found.format}, {found.type} {scales}, {ranges} of {found.calibrated} samples")
    _print_layers(found.layers)
    for output in found.outputs:
        print(f"output {output.tensor}: error {_part(output.error)}, {_decibels(output.snr)} dB")
    _print_accuracy(found)
    _print_trials(found)
    ratio = f"{found.size_after / found.size_before:.2f} of it" if found.size_before else ""
    print(f"size: {found.size_before:,} bytes before, {found.size_after:,} after, {ratio}")
    _print_speed(found)


def _print_layers(layers: tuple[LayerError, ...]) -> None:
    by_own = sorted(layers, key=lambda layer: -(layer.own or 0.0))[:MOST]
    shown = [layer for layer in layers if any(layer is other for other in by_own)]
    from ..report.tables import shortened

    searched = any(layer.effect is not None for layer in layers)
    rows = [["layer", "operator", "own error", "dB", "error", "dB", *(["effect"] if searched else [])]]
    for layer in shown:
        own = None if not layer.own else -20 * math.log10(layer.own)
        error = [_part(layer.error), _decibels(layer.snr)] if layer.quantised else ["in float", ""]
        row = [shortened(layer.node), layer.operator, _part(layer.own), _decibels(own), *error]
        rows.append([*row, *([_part(layer.effect)] if searched else [])])
    _show_table(rows, range(2, 7))
    if len(shown) < len(layers):
        print(f"  (the {len(shown)} of {len(layers)} layers that lose most by themselves; --report has all)")


def _show_table(rows: Sequence[Sequence[str]], right: Sequence[int]) -> None:
    from ..report.tables import Text

    text = Text()
    text.table(rows, right)
    show(text)


def _part(value: float | None) -> str:
    return "?" if value is None else f"{value:.2%}"


def _decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _print_accuracy(found: Quantization) -> None:
    if found.scores is None or found.same is None:
        print("accuracy: not known, no output has a score for each class")
        return
    if found.accuracy_before is not None and found.accuracy_after is not None:
        before = f"{found.accuracy_before:.2%} ({found.correct_before} of {found.labelled}) before"
        print(f"accuracy: {before}, {found.accuracy_after:.2%} ({found.correct_after} of {found.labelled}) after")
    else:
        print("accuracy: not known without classes; see --help for how to give them")
    told = "" if found.engine == "cnnengine" else f" (by {found.engine}, cnnengine cannot run it)"
    print(f"same class as the float network: {found.same} of {found.evaluated}{told}")


def _print_trials(found: Quantization) -> None:
    if found.keep_accuracy is None:
        return
    asked = f"to lose no more than {found.keep_accuracy * 100:g} %"
    if len(found.trials) == 1:
        print(f"{asked}: all layers can be quantised")
        return
    print(f"{asked}, {len(found.trials)} sets of layers were left in float:")
    rows = [["in float", "accuracy", "bytes", "ms", "enough", "layers"]]
    for trial in found.trials:
        time = "?" if trial.milliseconds is None else f"{trial.milliseconds:.3f}"
        names = ", ".join(trial.float_layers)
        names = names if len(names) <= 60 else f"{names[:57]}..."
        kept = "yes" if trial.kept else "no"
        rows.append([str(len(trial.float_layers)), f"{trial.accuracy:.2%}", f"{trial.size:,}", time, kept, names])
    _show_table(rows, range(4))
    print(f"left in float: {', '.join(found.float_layers) or 'none'}")


def _print_speed(found: Quantization) -> None:
    where = f"cnnengine, {found.isa}, {found.threads} thread{'s' * (found.threads != 1)}"
    before, after = found.milliseconds_before, found.milliseconds_after
    if before is None or after is None:
        print(f"speed: not known, {where} cannot run the {'float' if before is None else 'quantised'} network")
    else:
        print(f"speed: {before:.3f} ms before, {after:.3f} after, {before / after:.2f} times as fast ({where})")


# ---------------------------------------------------------------- arguments
def _percentile(text: str) -> float:
    value = float(text)
    if not 50 < value <= 100:
        raise ValueError
    return value


def _percent(text: str) -> float:
    if not text.endswith("%"):
        raise ValueError
    value = float(text[:-1])
    if not 0 <= value < 100:
        raise ValueError
    return value / 100


def _names(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",")]
    if not all(names):
        raise ValueError
    return names


# argparse names these in its messages: "invalid percentage (as 0.5%) value: '2'".
_percentile.__name__ = "percentile (more than 50, at most 100)"
_percent.__name__ = "percentage (0% to 100%, as 0.5%)"
_names.__name__ = "list of names"
