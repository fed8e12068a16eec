"""`cnnengine bench`: a model in cnnengine and in other engines, side by side."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
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
from .progress import StatusLine

if TYPE_CHECKING:
    from types import FrameType

    from ..bench import Case, Comparison

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = """\
Time a model in cnnengine and in other engines on this machine. Each engine runs in a process of its own, one request at a
time; they take turns over many rounds, and all but the one whose turn it is are stopped. All get the same input, and their
outputs are compared. Per engine: the precision it computes in; shortest, median and 90th percentile of a request in
milliseconds; seconds from the file to the end of the first request (of torch-compile with the compilation), after the import;
resident memory of the process at the end and at its highest; its time over ours by minimum and by median; the largest
difference of its outputs from ours, relative to their largest value, or in quantisation steps. A second process of cnnengine
is the null row: a difference within what the two differ by is no difference. Peers whose outputs differ do not count as best
peer, nor do those that compute in a lower precision than ours. Of a folder all ONNX files in it are measured; of several
models the means are printed by size, and on how many each peer ran."""
EXAMPLES = """examples:
  cnnengine bench model.onnx
  cnnengine bench model.onnx --against onnxruntime,openvino --threads 2 --seconds 10
  cnnengine bench a.onnx b.onnx --peer-python ~/peers/bin/python --json --plot bench.png > bench.json
  cnnengine bench --setup && cnnengine bench my_models/ --threads 2
  cnnengine bench model.onnx --busy 4 --threads 2
  cnnengine bench quantised.onnx --tolerance 6steps --fail-below 1

peers: onnxruntime; openvino, told to compute in float32, and openvino-default, as it comes; ncnn (by pnnx) and ncnn-bf16;
  torch (by onnx2torch, eager), torch-compile (compiled, weights frozen, channels last) and torch-compile-bf16;
  litert (XNNPACK, by litert-torch), mnn, zentorch, executorch. --setup makes an environment for each that is not there.

exit status: 0 all models measured; 1 some were not, or no peer gives what cnnengine gives, or --fail-below;
  2 wrong usage, or no model can be used; 130 interrupted
  (--fail-below: also 1 where no peer was compared with; --setup: 1 where an environment could not be made)
"""


def add_to(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="time models in cnnengine and in other engines",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", metavar="MODEL", nargs="*", help="ONNX files, and folders of them (example: model.onnx)")
    parser.add_argument(
        "--setup",
        action="store_true",
        help="make the environments of the peers, those of --against or all, in the user's cache folder by pip "
        "(example: --setup --against litert,mnn)",
    )
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
        help="peers, separated by commas; cnnengine for the null row alone (default: all that compute in the file's precision, "
        "with --precision bfloat16 those in 16 bits too; example: --against onnxruntime,ncnn)",
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
        help="other processes that compute meanwhile, of equal priority, beside every engine (default: none; example: --busy 4)",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="what cnnengine computes float32 files in (default: float32; example: --precision bfloat16)",
    )
    parser.add_argument(
        "--any-precision",
        action="store_true",
        help="let peers count that compute in a lower precision than ours (default: none; example: --any-precision)",
    )
    parser.add_argument(
        "--tolerance",
        metavar="X",
        type=_tolerance,
        help="how far outputs may lie from ours: of floats relative to their largest value, of quantised networks in steps "
        "(default: 1e-3, f16 1e-2, bf16 0.1, 16steps; example: --tolerance 6steps,bf16=0.05)",
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
        help="exit status 1 when the best peer's time over ours is less, by minima or by medians, and by more than the null row "
        "differs, and when no peer was compared with (example: --fail-below 0.95)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object with every figure (example: --json > bench.json)"
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="draw bars, .png, .svg or .pdf; needs matplotlib (example: --plot bench.png)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure what the command line names, or make the environments."""
    from ..bench import Case

    if args.setup:
        return _set_up(args)
    if not args.models:
        raise InputError("MODEL: no model", expected="ONNX files, folders of them, or --setup")
    shapes: dict[str | None, tuple[int, ...]] = {}
    for name, shape in args.shape:
        if name in shapes:
            raise InputError("given twice", tensor=f"--shape {name or ''}".strip())
        shapes[name] = shape
    return execute([Case(path, shapes=shapes) for path in files_of(args.models)], args)


def files_of(paths: Sequence[str]) -> list[str]:
    """The files, and of folders the ONNX files in them and in theirs, sorted.

    Raises
    ------
    InputError
        A folder has none.
    """
    found: list[str] = []
    for path in paths:
        if not Path(path).is_dir():
            found.append(path)
            continue
        inside = sorted(str(file) for file in Path(path).rglob("*.onnx") if file.is_file())
        if not inside:
            raise InputError("there is no ONNX file in it", file=path)
        found += inside
    return found


def _set_up(args: argparse.Namespace) -> int:
    from ..bench import PEERS, set_up

    if args.models:
        raise InputError("takes no models", tensor="--setup", received=", ".join(args.models))
    failures = set_up(PEERS if args.against is None else args.against)
    for name, reason in failures.items():
        print(f"{name}: not made: {reason}", file=sys.stderr)
    return EXIT_SOME_FAILED if failures else EXIT_OK


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
    from ..bench import PEERS, USUAL, Comparison, distinct, overall, plot
    from ..bench.show import head_text, overall_text, record_text
    from ..bench.verdict import below, failed, not_compared
    from ..report.tables import terminal_width

    if args.plot is not None:
        check_plot(args.plot)
    line = StatusLine(sys.stderr)
    comparison = Comparison(
        (USUAL if args.precision == "float32" else PEERS) if args.against is None else args.against,
        threads=args.threads,
        batch=args.batch,
        seconds=args.seconds,
        rounds=args.rounds,
        busy=args.busy,
        precision=args.precision,
        any_precision=args.any_precision,
        tolerance=args.tolerance,
        peer_python=args.peer_python,
        progress=line.tell,
    )
    head = comparison.head()
    if not args.json:
        print(head_text(head), flush=True)
    records: list[dict[str, Any]] = []
    unusable = 0
    with _ended_by_signals():
        for case in distinct(cases):
            try:
                records.append(_measured(comparison, case, line))
            except CNNEngineError as error:
                complain(error)
                unusable += 1
                continue
            if not args.json:
                print(f"\n{record_text(records[-1], terminal_width())}", flush=True)
    if not records:
        return EXIT_UNUSABLE
    if args.json:
        print(
            json.dumps(
                {"head": head, "models": records, "overall": overall(records, comparison.absent)},
                ensure_ascii=False,
                allow_nan=False,
            )
        )
    elif len(records) > 1:
        print(f"\n{overall_text(records, comparison.absent, terminal_width())}")
    bad = unusable + sum(map(failed, records))
    if args.fail_below is not None:
        for record in records:
            if why := not_compared(record, comparison.absent):
                print(f"{record['model']}: --fail-below: no peer was compared with: {why}", file=sys.stderr)
        bad += sum(record["best_peer"]["min"] is None or below(record, args.fail_below) for record in records)
    if args.plot is not None and any("cnnengine" in record["engines"] for record in records):
        save_plot(plot(head, records), args.plot)
    return EXIT_SOME_FAILED if bad else EXIT_OK


def _measured(comparison: Comparison, case: Case, line: StatusLine) -> dict[str, Any]:
    try:
        return comparison.measure(case)
    finally:
        line.clear()


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


def _tolerance(text: str) -> dict[str, float]:
    from ..bench.precision import tolerances

    try:
        return tolerances(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _names(text: str) -> tuple[str, ...]:
    from ..bench import PEERS

    names = tuple(filter(None, text.split(",")))
    unknown = [name for name in names if name not in (*PEERS, "cnnengine")]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no {unknown[0]!r}: {', '.join(PEERS)}, cnnengine")
    return names
