"""`cnnengine profile`: where a model's time goes, step by step."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from ..errors import InputError
from ._common import (
    EXIT_OK,
    add_limits_option,
    add_precision_option,
    add_shape_option,
    add_winograd_option,
    check_json,
    check_plot,
    positive,
    save_plot,
    seconds,
    shapes_of,
    show,
)

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = """\
Time every step of a model's plan on random input, in rounds. A line per step: shortest and median time, share of the sum
of the shortest times, GFLOP/s, megabytes of its operands, operations per byte, and the fraction of the roofline: of the speed
that the multiply-add peak and the bandwidth for as many bytes allow, both measured in the same process. Operations are those
of the direct algorithm: Winograd convolutions may exceed the peak. Where the times say that other processes took part of the
machine, a line before the last tells by what."""
EXAMPLES = """examples:
  cnnengine profile model.onnx --threads 1
  cnnengine profile model.onnx --sort time --top 10
  cnnengine profile detector.onnx --shape image=1,3,480,640 --plot profile.png
  cnnengine profile model.onnx --trace trace.json --node-data times.json
"""


def add_to(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "profile",
        help="time every layer of a model against what the machine can do",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="ONNX file (example: model.onnx)")
    add_shape_option(parser)
    parser.add_argument(
        "--threads", metavar="N", type=positive, help="threads to use (default: as predict; example: --threads 1)"
    )
    add_winograd_option(parser)
    add_precision_option(parser)
    add_limits_option(parser)
    parser.add_argument(
        "--seconds",
        metavar="X",
        type=seconds,
        default=2.0,
        help="how long to measure (default: 2; at least 5 rounds; example: --seconds 10)",
    )
    parser.add_argument(
        "--sort",
        choices=("plan", "time"),
        default="plan",
        help="order of the lines: as run, or longest first (example: --sort time)",
    )
    parser.add_argument(
        "--top", metavar="N", type=positive, help="print N lines at most (default: all; example: --sort time --top 10)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object with all steps (example: --json > profile.json)"
    )
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="draw a bar per layer beside the roofline, .png, .svg or .pdf; needs matplotlib (example: --plot profile.png)",
    )
    parser.add_argument(
        "--trace",
        metavar="FILE",
        help="write the steps in Chrome's trace format, which Perfetto and chrome://tracing open (example: --trace trace.json)",
    )
    parser.add_argument(
        "--node-data",
        metavar="FILE",
        help="write the time of each node for Model Explorer, which lays it over the graph (example: --node-data times.json)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and write what is asked for."""
    from .. import load
    from ..report import profile

    if args.plot is not None:
        check_plot(args.plot)
    for option, path in (("--trace", args.trace), ("--node-data", args.node_data)):
        if path is not None:
            check_json(option, path, args.model)
    if args.trace is not None and args.node_data is not None and os.path.abspath(args.trace) == os.path.abspath(args.node_data):
        raise InputError("two results cannot be in one file", tensor="--node-data", received=args.node_data)
    with load(args.model, threads=args.threads, winograd=args.winograd, precision=args.precision, limits=args.limits) as model:
        report = profile(model, shapes_of(model, args.shape), seconds=args.seconds)
    if args.plot is not None:
        save_plot(report.plot(), args.plot)
    if args.trace is not None:
        report.write_trace(args.trace)
    if args.node_data is not None:
        report.write_node_data(args.node_data)
    if args.json:
        print(json.dumps(report.as_dict(), ensure_ascii=False, allow_nan=False))
    else:
        show(report.text(args.sort, args.top))
    return EXIT_OK
