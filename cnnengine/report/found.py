"""What `check` finds, and how it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..rewrites import Declined
from .against import Comparison, Difference
from .precision import PrecisionErrors
from .tables import Printed, Text, shape_text, shortened

LINES = 20
"""Tensors that differ listed at most; above it, host nodes are listed by operator."""
CAUSES = {
    "node": "its inputs agree and its outputs do not: one of the engines computes it wrongly",
    "rounding": "its inputs agree but for rounding, which decides here (the order of equal scores, say); "
    "given the same inputs, the node gives the same",
    "inputs": "something that it reads differs already",
}


@dataclass(frozen=True)
class Unsupported:
    """A node that cannot be run.

    Attributes
    ----------
    node, operator, domain : str
        The domain of ONNX's own operators is "ai.onnx".
    version : int
        The operator's own; the opset that the file imports where ONNX has no such operator in it, 0 without one.
    reason, hint : str
    """

    node: str
    operator: str
    domain: str
    version: int
    reason: str
    hint: str


@dataclass(frozen=True)
class HostNode:
    """A node that runs in Python.

    Attributes
    ----------
    node, operator, domain : str
    version : int or None
        The operator's own, of those that onnx.reference runs.
    runs : {"host", "fallback"}
        By NumPy, or by onnx.reference.
    milliseconds : float or None
        Of the fastest run, with the copies to and from Python; None when nothing was run.
    share : float or None
        Part of that run.
    reason, hint : str
    """

    node: str
    operator: str
    domain: str
    version: int | None
    runs: str
    milliseconds: float | None
    share: float | None
    reason: str
    hint: str


@dataclass(frozen=True)
class Check(Printed):
    """What `check` found.

    Attributes
    ----------
    model, isa : str
    threads : int or None
        None for a model that cannot be loaded.
    runs : bool or None
        Whether it ran; None when it was loaded and not run, since the shape of an input is not known, or what was made up does
        not fit: a shape that was given, or zeros in the place of integers.
    error, hint : str or None
        Why it does not run (or was not run), and what to try.
    nodes : int or None
        Of the file, without constants, with those of subgraphs; None where it cannot be read.
    unsupported : tuple of Unsupported
    shapes : dict of str to tuple of int, or None
        Of the inputs that it was run with.
    layers : dict of str to int
        How many layers, after all rewrites, are "compiled", "free" (nothing to compute), "host", "fallback", or "unknown".
    milliseconds : float or None
        The fastest run.
    host_nodes : tuple of HostNode
        Those that run in Python, in order.
    warnings : tuple of str
        What loading warned of, as opsets newer than known.
    comparison : Comparison or None
    precision : str
        As the model was loaded.
    errors : PrecisionErrors or None
        Against float32, where the precision is another one.
    declined : tuple of Declined
        Why rewrites left nodes that their patterns nearly fit, where that was asked for.
    """

    model: str
    isa: str
    threads: int | None = None
    runs: bool | None = False
    error: str | None = None
    hint: str | None = None
    nodes: int | None = None
    unsupported: tuple[Unsupported, ...] = ()
    shapes: dict[str, tuple[int, ...]] | None = None
    layers: dict[str, int] = field(default_factory=dict)
    milliseconds: float | None = None
    host_nodes: tuple[HostNode, ...] = ()
    warnings: tuple[str, ...] = ()
    comparison: Comparison | None = None
    declined: tuple[Declined, ...] = ()
    precision: str = "float32"
    errors: PrecisionErrors | None = None

    @property
    def host_milliseconds(self) -> float | None:
        """Of all host nodes together."""
        return None if self.milliseconds is None else sum(node.milliseconds or 0.0 for node in self.host_nodes)

    @property
    def ok(self) -> bool:
        """Whether the model ran, and agrees where it was compared."""
        return self.runs is True and (self.comparison is None or self.comparison.agrees)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        comparison = None if self.comparison is None else self.comparison.as_dict()
        return {**asdict(self), "comparison": comparison, "host_milliseconds": self.host_milliseconds, "ok": self.ok}

    def text(self, why: bool = False, reason: bool = True) -> Text:
        """The report for people; with `why`, also that no rewrite nearly fits; without `reason`, not why it was not run."""
        out = Text()
        _text(self, out, why, reason)
        return out


def _text(found: Check, out: Text, why: bool, reason: bool) -> None:
    out.line(f"{found.model}: {_verdict(found)}")
    for text in found.warnings:
        out.line(f"warning: {text}")
    if found.runs is False or (found.runs is None and reason):
        if found.error and not found.unsupported:
            out.line(f"reason: {found.error}")
        if found.hint:
            out.line(f"hint: {found.hint}")
        _tell_unsupported(found, out)
    if found.layers:
        kinds = {
            "compiled": "compiled",
            "free": "nothing to compute",
            "host": "host (NumPy)",
            "fallback": "fallback (onnx.reference)",
        }
        kinds["unknown"] = "not known without shapes"
        parts = [f"{found.layers[kind]} {text}" for kind, text in kinds.items() if found.layers.get(kind)]
        out.line(f"{found.nodes} nodes in the file, {sum(found.layers.values())} layers: {', '.join(parts)}")
    _tell_host_nodes(found, out)
    if found.errors is not None:
        _tell_errors(found.errors, out)
    if found.comparison is not None:
        _tell_comparison(found.comparison, out)
    if why or found.declined:
        _tell_declined(found.declined, out)


def _tell_errors(found: PrecisionErrors, out: Text) -> None:
    count = len(found.layers)
    out.line(f"{found.precision} in {count} layer{'s' * (count != 1)}, errors against float32:")
    rows = [["node", "operator", "tensor", "largest", "rms"]]
    rows += [[shortened(e.node), e.operator, shortened(e.tensor), f"{e.error:.2e}", f"{e.rms:.2e}"] for e in found.layers]
    rows += [["output", "", shortened(e.tensor), f"{e.error:.2e}", f"{e.rms:.2e}"] for e in found.outputs]
    out.table(rows, (3, 4))


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


def _tell_unsupported(found: Check, out: Text) -> None:
    rows = [["node", "operator", "domain", "version", "reason"]] if found.unsupported else []
    rows += [[shortened(n.node), n.operator, n.domain, str(n.version), n.reason] for n in found.unsupported]
    out.table(rows, (3,))
    _tell_hints([(n.operator, n.hint) for n in found.unsupported], out)


def _tell_host_nodes(found: Check, out: Text) -> None:
    if not found.host_nodes:
        if found.runs:
            out.line("all of it is compiled")
        return
    if found.host_milliseconds is None or not found.milliseconds:
        out.line("in Python:")
    else:
        out.line(f"in Python: {found.host_milliseconds:.2f} ms, {found.host_milliseconds / found.milliseconds:.1%} of a run")
    if len(found.host_nodes) > LINES:
        rows = [["operator", "nodes", "runs", "ms", "share", "reason"], *_grouped(found.host_nodes)]
    else:
        rows = [["node", "operator", "runs", "ms", "share", "reason"]]
        rows += [[shortened(n.node), _versioned(n), n.runs, *_cost([n]), n.reason] for n in found.host_nodes]
    out.table(rows, (1, 3, 4) if len(found.host_nodes) > LINES else (3, 4))
    if len(found.host_nodes) > LINES:
        out.line(f"  ({len(found.host_nodes)} nodes; --json has each)")
    _tell_hints([(n.operator, n.hint) for n in found.host_nodes], out)


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


def _tell_declined(found: Sequence[Declined], out: Text) -> None:
    out.line(f"rewrites that nearly fit: {len(found)}" if found else "no rewrite nearly fits")
    if len(found) > LINES:
        groups = Counter((d.rewrite, d.operator, d.reason) for d in found)
        rows = [["rewrite", "operator", "nodes", "left because"]]
        rows += [[rewrite, operator, str(count), reason] for (rewrite, operator, reason), count in groups.most_common()]
    else:
        rows = [["node", "operator", "rewrite", "left because"]] if found else []
        rows += [[shortened(d.node), d.operator, d.rewrite, d.reason] for d in found]
    out.table(rows, (2,) if len(found) > LINES else ())
    if len(found) > LINES:
        out.line(f"  ({len(found)} nodes; --json has each)")


def _tell_hints(hints: list[tuple[str, str]], out: Text) -> None:
    """Each hint once, with its operators."""
    by_hint: dict[str, list[str]] = {}
    for operator, hint in hints:
        if operator not in by_hint.setdefault(hint, []):
            by_hint[hint].append(operator)
    for hint, operators in by_hint.items():
        out.line(f"hint: {', '.join(operators)}: {hint}")


def _tell_comparison(found: Comparison, out: Text) -> None:
    head = f"against {found.peer} {found.version}"
    if found.error is not None:
        out.line(f"{head}: not compared: {found.error}")
        if found.peer != "reference":
            out.line("hint: --against reference takes more operators and versions, and is slow")
        return
    beyond = f"{len(found.differing)} beyond {found.tolerance:g}"
    if found.in_steps:
        beyond = f"{found.in_steps} of them in steps, {beyond} or {_steps(found.steps)}"
    out.line(f"{head}: {found.tensors} tensors compared, {beyond}")
    if found.carried:
        out.line(f"{found.carried} more differ by roundings before them alone: their nodes give the same for the same inputs")
    if found.left_out:
        out.line(f"not compared: {len(found.left_out)} tensors that have no name in the file (inside of functions)")
    if found.largest is not None and found.first is None:
        out.line(f"largest difference: {_difference(found.largest)}")
    if found.first is not None:
        out.line(f"first node that differs: {_difference(found.first)}")
        rows = [["node", "operator", "tensor", "difference", "elements", "cause"]]
        for d in found.differing[:LINES]:
            said = d.note or (f"{d.difference:.2e}" if d.steps is None else _steps(d.steps))
            share = f"{d.elements} of {d.size}"
            rows.append([shortened(d.node), d.operator, shortened(d.tensor), said, share, d.cause])
        out.table(rows, (4,))
        if len(found.differing) > LINES:
            out.line(f"  and {len(found.differing) - LINES} more (--json has all)")
        if found.peer == "onnxruntime" and found.first.cause == "node" and found.first.operator.startswith("QLinear"):
            out.line(
                "on processors without VNNI onnxruntime's sums of products of 8 bits saturate, in files with QLinear operators"
            )
        for cause, text in CAUSES.items():
            if any(d.cause == cause for d in found.differing):
                out.line(f"cause {cause}: {text}")
    for d in found.outputs:
        out.line(f"output {d.tensor}, as it is computed with everything fused: {_by(d)}{', DIFFERS' if d.differs else ''}")
    if not found.differing and any(d.differs for d in found.outputs):
        out.line("every node agrees by itself and the outputs do not: a rewrite of the graph is at fault; please report it")


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
