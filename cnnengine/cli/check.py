"""`cnnengine check`: whether a model will run, what of it is not compiled, and whether another engine agrees."""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Sequence
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
    shape_text,
    shapes_of,
    shortened,
    table,
    whole,
)

if TYPE_CHECKING:
    import numpy as np

    from ..model import Model
    from ..report import Check, Comparison, Declined, Difference, HostNode, PrecisionErrors

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
LINES = 20
"""Tensors that differ listed at most; above it, host nodes are listed by operator."""
CAUSES = {
    "node": "its inputs agree and its outputs do not: one of the engines computes it wrongly",
    "rounding": "its inputs agree but for rounding, which decides here (the order of equal scores, say); "
    "given the same inputs, the node gives the same",
    "inputs": "something that it reads differs already",
}


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
        _print(found)
        if args.why:
            _print_declined(found.declined)
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


def _print(found: Check) -> None:
    print(f"{found.model}: {_verdict(found)}")
    for text in found.warnings:
        print(f"warning: {text}")
    if found.runs is False:  # that it was not run, and why, is said on standard error
        if found.error and not found.unsupported:
            print(f"reason: {found.error}")
        if found.hint:
            print(f"hint: {found.hint}")
        _print_unsupported(found)
    if found.layers:
        kinds = {
            "compiled": "compiled",
            "free": "nothing to compute",
            "host": "host (NumPy)",
            "fallback": "fallback (onnx.reference)",
        }
        kinds["unknown"] = "not known without shapes"
        parts = [f"{found.layers[kind]} {text}" for kind, text in kinds.items() if found.layers.get(kind)]
        print(f"{found.nodes} nodes in the file, {sum(found.layers.values())} layers: {', '.join(parts)}")
    _print_host_nodes(found)
    if found.errors is not None:
        _print_errors(found.errors)
    if found.comparison is not None:
        _print_comparison(found.comparison)


def _print_errors(found: PrecisionErrors) -> None:
    count = len(found.layers)
    print(f"{found.precision} in {count} layer{'s' * (count != 1)}, errors against float32:")
    rows = [["node", "operator", "tensor", "largest", "rms"]]
    rows += [[shortened(e.node), e.operator, shortened(e.tensor), f"{e.error:.2e}", f"{e.rms:.2e}"] for e in found.layers]
    rows += [["output", "", shortened(e.tensor), f"{e.error:.2e}", f"{e.rms:.2e}"] for e in found.outputs]
    for line in table(rows, right=(3, 4)):
        print(f"  {line}")


def _verdict(found: Check) -> str:
    if found.runs is None:
        return f"can be loaded; not run{_at(found)}"
    if not found.runs:
        if found.unsupported:
            count, of = len(found.unsupported), f" of {found.nodes}" if found.nodes else ""
            return f"cannot run: {count}{of} nodes {'is' if count == 1 else 'are'} not supported"
        return "cannot run"
    threads = f"{found.threads} thread{'s' * (found.threads != 1)}"
    return f"runs{_at(found)}: {found.milliseconds:.2f} ms, {found.isa}, {found.precision}, {threads}"


def _at(found: Check) -> str:
    shapes = ", ".join(f"{name} {shape_text(shape)}" for name, shape in (found.shapes or {}).items())
    return f" at {shapes}" if shapes else ""


def _print_unsupported(found: Check) -> None:
    rows = [["node", "operator", "domain", "version", "reason"]] if found.unsupported else []
    rows += [[shortened(n.node), n.operator, n.domain, str(n.version), n.reason] for n in found.unsupported]
    for line in table(rows, right=(3,)):
        print(f"  {line}")
    _print_hints([(n.operator, n.hint) for n in found.unsupported])


def _print_host_nodes(found: Check) -> None:
    if not found.host_nodes:
        if found.runs:
            print("all of it is compiled")
        return
    if found.host_milliseconds is None or not found.milliseconds:
        print("in Python:")
    else:
        print(f"in Python: {found.host_milliseconds:.2f} ms, {found.host_milliseconds / found.milliseconds:.1%} of a run")
    if len(found.host_nodes) > LINES:
        rows = [["operator", "nodes", "runs", "ms", "share", "reason"], *_grouped(found.host_nodes)]
    else:
        rows = [["node", "operator", "runs", "ms", "share", "reason"]]
        rows += [[shortened(n.node), _versioned(n), n.runs, *_cost([n]), n.reason] for n in found.host_nodes]
    for line in table(rows, right=(1, 3, 4) if len(found.host_nodes) > LINES else (3, 4)):
        print(f"  {line}")
    if len(found.host_nodes) > LINES:
        print(f"  ({len(found.host_nodes)} nodes; --json has each)")
    _print_hints([(n.operator, n.hint) for n in found.host_nodes])


def _grouped(nodes: Sequence[HostNode]) -> list[list[str]]:
    """A row for each operator and reason, the dearest first."""
    groups: dict[tuple[str, str, str], list[HostNode]] = {}
    for node in nodes:
        groups.setdefault((_versioned(node), node.runs, node.reason), []).append(node)
    ordered = sorted(groups.items(), key=lambda item: -sum(n.milliseconds or 0.0 for n in item[1]))
    return [[operator, str(len(group)), runs, *_cost(group), reason] for (operator, runs, reason), group in ordered]


def _versioned(node: HostNode) -> str:
    return node.operator if node.version is None else f"{node.operator}-{node.version}"


def _cost(nodes: Sequence[HostNode]) -> list[str]:
    times, shares = [n.milliseconds for n in nodes], [n.share for n in nodes]
    if None in times or None in shares:
        return ["?", "?"]
    return [f"{sum(t or 0.0 for t in times):.3f}", f"{sum(s or 0.0 for s in shares):.1%}"]


def _print_declined(found: Sequence[Declined]) -> None:
    print(f"rewrites that nearly fit: {len(found)}" if found else "no rewrite nearly fits")
    if len(found) > LINES:
        groups = Counter((d.rewrite, d.operator, d.reason) for d in found)
        rows = [["rewrite", "operator", "nodes", "left because"]]
        rows += [[rewrite, operator, str(count), reason] for (rewrite, operator, reason), count in groups.most_common()]
    else:
        rows = [["node", "operator", "rewrite", "left because"]] if found else []
        rows += [[shortened(d.node), d.operator, d.rewrite, d.reason] for d in found]
    for line in table(rows, right=(2,) if len(found) > LINES else ()):
        print(f"  {line}")
    if len(found) > LINES:
        print(f"  ({len(found)} nodes; --json has each)")


def _print_hints(hints: list[tuple[str, str]]) -> None:
    """Each hint once, with its operators."""
    by_hint: dict[str, list[str]] = {}
    for operator, hint in hints:
        if operator not in by_hint.setdefault(hint, []):
            by_hint[hint].append(operator)
    for hint, operators in by_hint.items():
        print(f"hint: {', '.join(operators)}: {hint}")


def _print_comparison(found: Comparison) -> None:
    head = f"against {found.peer} {found.version}"
    if found.error is not None:
        print(f"{head}: not compared: {found.error}")
        if found.peer != "reference":
            print("hint: --against reference takes more operators and versions, and is slow")
        return
    beyond = f"{len(found.differing)} beyond {found.tolerance:g}"
    if found.in_steps:
        beyond = f"{found.in_steps} of them in steps, {beyond} or {_steps(found.steps)}"
    print(f"{head}: {found.tensors} tensors compared, {beyond}")
    if found.carried:
        print(f"{found.carried} more differ by roundings before them alone: their nodes give the same for the same inputs")
    if found.left_out:
        print(f"not compared: {len(found.left_out)} tensors that have no name in the file (inside of functions)")
    if found.largest is not None and found.first is None:
        print(f"largest difference: {_difference(found.largest)}")
    if found.first is not None:
        print(f"first node that differs: {_difference(found.first)}")
        rows = [["node", "operator", "tensor", "difference", "elements", "cause"]]
        for d in found.differing[:LINES]:
            said = d.note or (f"{d.difference:.2e}" if d.steps is None else _steps(d.steps))
            share = f"{d.elements} of {d.size}"
            rows.append([shortened(d.node), d.operator, shortened(d.tensor), said, share, d.cause])
        for line in table(rows, right=(4,)):
            print(f"  {line}")
        if len(found.differing) > LINES:
            print(f"  and {len(found.differing) - LINES} more (--json has all)")
        if found.peer == "onnxruntime" and found.first.cause == "node" and found.first.operator.startswith("QLinear"):
            print("on processors without VNNI onnxruntime's sums of products of 8 bits saturate, in files with QLinear operators")
        for cause, text in CAUSES.items():
            if any(d.cause == cause for d in found.differing):
                print(f"cause {cause}: {text}")
    for d in found.outputs:
        print(f"output {d.tensor}, as it is computed with everything fused: {_by(d)}{', DIFFERS' if d.differs else ''}")
    if not found.differing and any(d.differs for d in found.outputs):
        print("every node agrees by itself and the outputs do not: a rewrite of the graph is at fault; please report it")


def _difference(d: Difference) -> str:
    return f"{d.node} ({d.operator}), tensor {d.tensor}: {_by(d)}"


def _by(d: Difference) -> str:
    if d.note or d.steps is None:
        return d.note or f"{d.difference:.2e} of its scale {d.scale:.4g}"
    return _steps(d.steps) if d.step is None else f"{_steps(d.steps)} of {d.step:.4g}"


def _steps(count: float) -> str:
    near = round(count)
    text = str(near) if abs(count - near) < 0.005 else f"{count:.2f}"
    return f"{text} step{'s' * (text != '1')}"
