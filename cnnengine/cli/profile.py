"""`cnnengine profile`: where a model's time goes, step by step."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from ._common import (
    EXIT_OK,
    add_precision_option,
    add_shape_option,
    add_winograd_option,
    check_plot,
    positive,
    save_plot,
    seconds,
    shape_text,
    shapes_of,
    shortened,
    table,
)

if TYPE_CHECKING:
    from ..report import Profile, StepProfile

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
  cnnengine profile detector.onnx --shape image=1,3,480,640 --plot roofline.png
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
        "--plot", metavar="FILE", help="draw the roofline, .png, .svg or .pdf; needs matplotlib (example: --plot roofline.png)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and draw when asked to."""
    from .. import load
    from ..report import profile

    if args.plot is not None:
        check_plot(args.plot)
    with load(args.model, threads=args.threads, winograd=args.winograd, precision=args.precision) as model:
        report = profile(model, shapes_of(model, args.shape), seconds=args.seconds)
    if args.plot is not None:
        save_plot(report.plot(), args.plot)
    if args.json:
        print(json.dumps(report.as_dict(), ensure_ascii=False, allow_nan=False))
    else:
        _print(report, args.sort, args.top)
    return EXIT_OK


def _print(report: Profile, sort: str, top: int | None) -> None:
    shapes = ", ".join(f"{name} {shape_text(shape)}" for name, shape in report.shapes.items())
    print(f"{report.model} at {shapes}: {report.isa}, {report.precision}, {report.threads} threads, {report.rounds} rounds")
    rates = ", ".join(f"{rate:.0f} GB/s at {_size(size)}" for size, rate in report.bandwidths)
    integers = f", {report.peak_gops:.0f} GOP/s of products of bytes" if report.peak_gops else ""
    pairs = f", {report.peak_pairs:.0f} GFLOP/s of pairs of bfloat16 numbers" if report.peak_pairs else ""
    print(f"this machine now: {report.peak_gflops:.0f} GFLOP/s of multiply-adds{integers}{pairs}; copies {rates}")
    steps = sorted(report.steps, key=lambda s: -s.seconds_min) if sort == "time" else list(report.steps)
    rows = [["layer", "operator", "kernel", "min us", "median us", "share", "GFLOP/s", "MB", "op/byte", "roofline"]]
    rows += [_row(step, report.steps_min) for step in steps[:top]]
    for line in table(rows, right=range(3, 10)):
        print(line)
    print(f"whole run: min {report.run_min * 1e3:.3f} ms, median {report.run_median * 1e3:.3f} ms")
    rate = report.flops / max(report.steps_min, 1e-12) * 1e-9
    if report.disturbed:
        print(f"disturbed: {'; '.join(report.disturbed)}: measure again on a quiet machine, or longer (--seconds)")
    print(f"steps' shortest times: {report.steps_min * 1e3:.3f} ms, {rate:.1f} GFLOP/s, {report.roofline:.0%} of the roofline")


def _row(step: StepProfile, total: float) -> list[str]:
    return [
        shortened(step.node),
        step.operator,
        step.kernel,
        f"{step.seconds_min * 1e6:.1f}",
        f"{step.seconds_median * 1e6:.1f}",
        f"{step.seconds_min / total:.1%}" if total else "",
        f"{step.gflops:.1f}" if step.flops else "",
        f"{step.nbytes * 1e-6:.3f}" if step.nbytes else "",
        f"{step.intensity:.1f}" if step.flops and step.nbytes else "",
        f"{step.roofline:.0%}" if step.limit_seconds else "",
    ]


def _size(nbytes: int) -> str:
    return f"{nbytes >> 20} MiB" if nbytes >= 1 << 20 else f"{nbytes >> 10} KiB"
