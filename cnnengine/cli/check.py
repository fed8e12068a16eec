"""`cnnengine check`: whether a model will run, what of it is not compiled, and whether another engine agrees."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING

from ..errors import InputError
from ._common import (
    EXIT_OK,
    EXIT_SOME_FAILED,
    EXIT_UNUSABLE,
    add_precision_option,
    add_shape_option,
    complain,
    positive,
    shapes_of,
    show,
    whole,
)

if TYPE_CHECKING:
    import numpy as np

    from ..model import Model

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = """\
Say whether a model will run: load it and run it a few times on random or given input. Nodes that cannot be run are listed, all
of them, with the reason and a hint; so are those that run in Python, by NumPy ('host') or onnx.reference ('fallback'), with their
milliseconds and their share of a run. With --against, every intermediate tensor is compared with another engine's, and the first
node in the order of the graph that differs is named."""
EXAMPLES = """examples:
  cnnengine check model.onnx
  cnnengine check detector.onnx --shape image=1,3,480,640
  cnnengine check model.onnx --against onnxruntime --tolerance 1e-4
  cnnengine check model.onnx --input sample.npz --against onnxruntime
  cnnengine check model.onnx --json | python -m json.tool

engines: onnxruntime (pip install onnxruntime), reference (onnx.reference, which is slow)

exit status: 0 it runs, and agrees where it was compared; 1 it cannot be run, or differs; 2 wrong usage, no such file, or it was
  not run since a shape must be given, a given one does not fit, or zeros are no input for it (--input gives others)
"""


def _tolerance(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError
    return value


_tolerance.__name__ = "relative difference"  # argparse shows it in its message


def add_to(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "check",
        help="say whether a model will run, what is not compiled, and whether another engine agrees",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="ONNX file (example: model.onnx)")
    add_shape_option(parser)
    add_precision_option(parser)
    parser.add_argument(
        "--input",
        metavar="FILE",
        help="run it on these arrays, as predict takes them: .npy, or .npz with an array for each input by its name (default: "
        "random numbers, zeros for integers; example: --input sample.npz)",
    )
    parser.add_argument(
        "--against",
        metavar="ENGINE",
        choices=("onnxruntime", "reference"),
        help="compare every intermediate tensor with this engine's: onnxruntime or reference (example: --against onnxruntime)",
    )
    parser.add_argument(
        "--tolerance",
        metavar="X",
        type=_tolerance,
        default=1e-3,
        help="largest difference that is none, relative to the tensor's largest value (default: 1e-3; example: --tolerance 1e-4)",
    )
    parser.add_argument(
        "--steps",
        metavar="N",
        type=whole,
        default=1,
        help="the same for quantised tensors and those beside them, in steps of their scale (default: 1; example: --steps 2)",
    )
    parser.add_argument(
        "--threads", metavar="N", type=positive, help="threads to use (default: as predict; example: --threads 1)"
    )
    parser.add_argument(
        "--why",
        action="store_true",
        help="tell which nodes could nearly be fused with others, and why not (example: cnnengine check model.onnx --why)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object (example: cnnengine check model.onnx --json)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, and print what was found."""
    from ..report import check

    if args.input is not None and args.shape:
        raise InputError("the arrays have their shapes", tensor="--shape", expected="--shape or --input")
    found = check(
        args.model,
        lambda model: shapes_of(model, args.shape),
        feeds=None if args.input is None else lambda model: _feeds(args.input, model),
        against=args.against,
        tolerance=args.tolerance,
        steps=args.steps,
        threads=args.threads,
        why=args.why,
        precision=args.precision,
    )
    if args.json:
        print(json.dumps(found.as_dict(), ensure_ascii=False, allow_nan=False))
    else:
        show(found.text(args.why, reason=False))  # that is said on standard error
    if found.runs is None:
        complain(f"{found.error}; {found.hint}" if found.hint else found.error, about=found.model)
        return EXIT_UNUSABLE
    return EXIT_OK if found.ok else EXIT_SOME_FAILED


def _feeds(path: str, model: Model) -> dict[str, np.ndarray]:
    from ..files import read_feeds

    try:
        return read_feeds(path, model.inputs, [info.name for info in model.outputs])
    except InputError as error:
        raise error.locate(file=path) from None
