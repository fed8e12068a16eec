"""`cnnengine bench`: a model in cnnengine and in other engines, side by side."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import CNNEngineError, InputError
from ._common import (
    EXIT_OK,
    EXIT_SOME_FAILED,
    EXIT_UNUSABLE,
    add_shape_option,
    check_plot,
    complain,
    positive,
    save_plot,
    seconds,
)

if TYPE_CHECKING:
    from types import FrameType

    from ..bench import Case, Comparison

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = """\
Time a model in cnnengine and in other engines on this machine. Each engine runs in a process of its own, one request at a time;
they take turns over many rounds, and all but the one whose turn it is are stopped. All get the same input, and their outputs are
compared. Per engine: shortest, median and 90th percentile of a request in milliseconds; seconds from the file to the end of the
first request (of torch-compile with the compilation), after the import; resident memory of the process at the end and at its
highest; its time over ours by minimum and by median; the largest difference of its outputs from ours, relative to their largest
value. Peers whose outputs differ do not count as best peer."""
EXAMPLES = """examples:
  cnnengine bench model.onnx
  cnnengine bench model.onnx --against onnxruntime,openvino --threads 2 --seconds 10
  cnnengine bench a.onnx b.onnx --peer-python ~/peers/bin/python --json --plot bench.png > bench.json

peers: torch and torch-compile (through onnx2torch), onnxruntime, openvino, ncnn (through pnnx);
  pip install 'cnnengine[bench]' && pip install --no-deps onnx2torch pnnx

exit status: 0 all models measured; 1 some were not, or no peer gives what cnnengine gives, or --fail-below;
  2 wrong usage, or no model can be used; 130 interrupted
"""


def add_to(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="time models in cnnengine and in other engines",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", metavar="MODEL", nargs="+", help="ONNX files (example: model.onnx)")
    add_options(parser)
    add_shape_option(parser)
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Everything but the models and their shapes."""
    parser.add_argument(
        "--against",
        metavar="NAMES",
        type=_names,
        default=None,
        help="peers, separated by commas: torch, torch-compile, onnxruntime, openvino, ncnn, or cnnengine for a second process "
        "of itself, which shows the noise (default: all five; example: --against onnxruntime,ncnn)",
    )
    parser.add_argument(
        "--threads", metavar="N", type=positive, default=1, help="of every engine (default: 1; example: --threads 2)"
    )
    parser.add_argument(
        "--batch", metavar="N", type=positive, default=1, help="extent of a dynamic batch axis (default: 1; example: --batch 8)"
    )
    parser.add_argument(
        "--seconds",
        metavar="X",
        type=seconds,
        default=5.0,
        help="how long to measure each engine, in all; engines more than four times slower have fewer rounds (default: 5; "
        "example: --seconds 20)",
    )
    parser.add_argument(
        "--rounds", metavar="N", type=positive, default=10, help="turns of each engine (default: 10; example: --rounds 20)"
    )
    parser.add_argument(
        "--busy",
        metavar="N",
        type=positive,
        default=0,
        help="CPUs that other processes keep busy meanwhile, as on a loaded machine (default: none; example: --busy 1)",
    )
    parser.add_argument(
        "--peer-python",
        metavar="PATH",
        help="interpreter that has the peers (default: this one; example: --peer-python python3.12)",
    )
    parser.add_argument(
        "--fail-below",
        metavar="RATIO",
        type=float,
        help="exit status 1 when the best peer's time over ours is less, of minima at 1 thread, of medians at more (example: "
        "--fail-below 0.95)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object with every figure (example: --json > bench.json)"
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="draw bars, .png, .svg or .pdf; needs matplotlib (example: --plot bench.png)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure what the command line names."""
    from ..bench import Case

    shapes: dict[str | None, tuple[int, ...]] = {}
    for name, shape in args.shape:
        if name in shapes:
            raise InputError("given twice", tensor=f"--shape {name or ''}".strip())
        shapes[name] = shape
    return execute([Case(path, shapes=shapes) for path in args.models], args)


def execute(cases: Sequence[Case], args: argparse.Namespace) -> int:
    """Measure, print, and draw when asked to.

    Parameters
    ----------
    cases : sequence of Case
    args : argparse.Namespace
        As of `add_options`.

    Returns
    -------
    int
        The exit status.
    """
    from ..bench import PEERS, Comparison, plot
    from ..bench.compare import deciding, failed
    from ..bench.show import head_text, overall_text, record_text

    if args.plot is not None:
        check_plot(args.plot)
    comparison = Comparison(
        PEERS if args.against is None else args.against,
        threads=args.threads,
        batch=args.batch,
        seconds=args.seconds,
        rounds=args.rounds,
        busy=args.busy,
        peer_python=args.peer_python,
        progress=_progress if sys.stderr.isatty() else None,
    )
    head = comparison.head()
    if not args.json:
        print(head_text(head), flush=True)
    records: list[dict[str, Any]] = []
    unusable = 0
    with _ended_by_signals():
        for case in cases:
            try:
                records.append(_measured(comparison, case))
            except CNNEngineError as error:
                complain(error)
                unusable += 1
                continue
            if not args.json:
                print(f"\n{record_text(records[-1])}", flush=True)
    if not records:
        return EXIT_UNUSABLE
    if args.json:
        print(json.dumps({"head": head, "models": records}, ensure_ascii=False, allow_nan=False))
    elif len(records) > 1:
        print(f"\n{overall_text(records)}")
    bad = unusable + sum(map(failed, records))
    best = [record["best_peer"][deciding(args.threads)] for record in records]
    if args.fail_below is not None:
        bad += sum(found is not None and found["ratio"] < args.fail_below for found in best)
    if args.plot is not None and any("cnnengine" in record["engines"] for record in records):
        save_plot(plot(head, records), args.plot)
    return EXIT_SOME_FAILED if bad else EXIT_OK


def _measured(comparison: Comparison, case: Case) -> dict[str, Any]:
    try:
        return comparison.measure(case)
    finally:
        _progress("")


def _progress(text: str) -> None:
    """What is being done, in place of the last such line, on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text[:79]}\x1b[K")
        sys.stderr.flush()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Leave by SystemExit, which ends the workers, when this process is told to end."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _names(text: str) -> tuple[str, ...]:
    from ..bench import PEERS

    names = tuple(filter(None, text.split(",")))
    unknown = [name for name in names if name not in (*PEERS, "cnnengine")]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no {unknown[0]!r}: {', '.join(PEERS)}, cnnengine")
    return names
