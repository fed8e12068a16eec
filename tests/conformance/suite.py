"""ONNX's conformance suite on cnnengine: one record per case. `python tests/conformance/suite.py` prints the count.

    python tests/conformance/suite.py                 # a line per operator, then the totals
    python tests/conformance/suite.py --match resize  # cases whose name contains this; failures in full
    python tests/conformance/suite.py --json FILE

`names.txt` has the names of all cases (`--names` writes it).
Every case of the installed onnx package is run through `cnnengine.backend`, with the suite's own tolerances. Besides whether
it passed, a record says how its operator ran: "compiled" when no node of the case ran on the host, else "host" (NumPy) or
"fallback" (onnx.reference).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import unittest
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import onnx.backend.test

from cnnengine.backend import Backend, BackendRep
from cnnengine.model import Model, load

EXCLUDED = {
    **dict.fromkeys(
        (
            "test_bernoulli_cpu",
            "test_bernoulli_double_cpu",
            "test_bernoulli_double_expanded_cpu",
            "test_bernoulli_expanded_cpu",
            "test_bernoulli_seed_cpu",
            "test_bernoulli_seed_expanded_cpu",
        ),
        "random values without a defined answer",
    ),
    **dict.fromkeys(("test_gradient_of_add_and_mul_cpu", "test_gradient_of_add_cpu"), "Gradient is a training operator"),
}
"""Cases that have no right answer here, by name and with the reason."""

PINNED = "1.23.2"
"""The release of onnx that the names and counts are of."""

RUNS = ("compiled", "host", "fallback")
"""How a case can run, the best first."""

NAMES = Path(__file__).with_name("names.txt")
"""The names of the others in onnx 1.23.2, so that collecting the tests need not make the cases."""


@dataclass
class Record:
    """What became of one case.

    Attributes
    ----------
    category : "Node", "PyTorchConverted", "PyTorchOperator", "Simple" or "Real"
    name : str
    operators : list of str, with the domain where it is not ONNX's
        Node types of the model, those of subgraphs and functions left out.
    passed : bool
    types : list of str
        Element types of the model's inputs.
    runs : "compiled", "host", "fallback" or ""
        Empty where nothing was run.
    error : str
    """

    category: str
    name: str
    operators: list[str]
    passed: bool
    types: list[str] = field(default_factory=list)
    runs: str = ""
    error: str = ""


class Recorder(Backend):
    """The backend, keeping the model that it prepared last."""

    last: BackendRep | None = None
    proto: onnx.ModelProto | None = None

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep:
        cls.proto, cls.last = model, None
        cls.last = super().prepare(model, device, **kwargs)
        # files are read by another reader than protobuf, which must say the same
        from_file = load(model.SerializeToString(), **kwargs)
        assert _operators(from_file) == _operators(cls.last.model), "the file is read differently"
        return cls.last


class Suite(onnx.backend.test.BackendTest):  # type: ignore[misc]
    """The package's suite, which can also compare sequences with elements of rank 0 (it asks each element for its length).

    Elements are compared like outputs: by shape, dtype and value, at the same tolerances.
    """

    @classmethod
    def assert_similar_outputs(
        cls, ref_outputs: Sequence[Any], outputs: Sequence[Any], rtol: float, atol: float, model_dir: str | None = None
    ) -> None:
        assert len(outputs) == len(ref_outputs), f"{len(outputs)} outputs, not {len(ref_outputs)}"
        for expected, received in zip(ref_outputs, outputs, strict=True):
            if isinstance(expected, list | tuple):
                assert isinstance(received, list | tuple), f"{type(received)} where a sequence is expected"
                cls.assert_similar_outputs(expected, received, rtol, atol, model_dir)
            else:
                super().assert_similar_outputs([expected], [received], rtol, atol, model_dir)


def _operators(model: Model) -> list[tuple[str, tuple[str, ...]]]:
    return [(n.op.op_type, n.inputs) for n in model._graph.nodes]


def cases(backend: type[Backend] = Recorder) -> Iterator[tuple[str, str, Any]]:
    """(category, name, function of one argument) of every CPU case that is not excluded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        suite = Suite(backend, __name__)
    for category, items in suite._test_items.items():
        for name, item in sorted(items.items()):
            if name.endswith("_cpu") and name not in EXCLUDED:
                yield category.removesuffix("Model"), name, item.func


def how(rep: BackendRep) -> str:
    """How the model ran."""
    model = rep.model
    if any(n.op.by_onnx for n in model._graph.nodes):
        return "fallback"
    return "host" if any(s.by_numpy for s in model._program.segments()) else "compiled"


def _types(proto: onnx.ModelProto | None) -> list[str]:
    """Names of the element types of the model's inputs."""
    codes = set()
    for value in proto.graph.input if proto else ():
        held = value.type
        for form in ("optional_type", "sequence_type"):
            if held.HasField(form):
                held = getattr(held, form).elem_type
        codes.add(held.tensor_type.elem_type)
    return sorted(onnx.TensorProto.DataType.Name(c).lower() for c in codes)


def run_case(category: str, name: str, function: Any) -> Record:
    Recorder.last = Recorder.proto = None
    error = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(None)
    except unittest.SkipTest as skipped:
        error = f"skipped: {skipped}"
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
    proto = Recorder.proto
    operators = sorted({f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in proto.graph.node}) if proto else []
    runs = how(Recorder.last) if Recorder.last is not None else ""
    return Record(category, name, operators, not error, _types(proto), runs, error)


@cache
def by_name() -> dict[str, tuple[str, Any]]:
    """Name -> (category, function) of every case that is not excluded; making them takes seconds."""
    # the suite writes inputs and outputs of the light models into this folder
    os.environ["ONNX_MODELS"] = _folder().name
    return {name: (category, function) for category, name, function in cases()}


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@cache
def record(name: str) -> Record:
    """What became of this case, run once per process."""
    category, function = by_name()[name]
    return run_case(category, name, function)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--match", default="", help="only cases whose name contains this")
    parser.add_argument("--json", metavar="FILE", help="write all records there")
    parser.add_argument("--quiet", action="store_true", help="print no line per operator")
    parser.add_argument("--names", action="store_true", help="write names.txt and run nothing")
    options = parser.parse_args()
    if options.names:
        NAMES.write_text("".join(f"{name}\n" for name in by_name()))
        return 0
    records = [record(name) for name in by_name() if options.match in name]
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(r) for r in records], indent=1) + "\n")
    by_operator: dict[str, list[Record]] = {}
    for found_one in records:
        for operator in found_one.operators:
            by_operator.setdefault(operator, []).append(found_one)
    if not options.quiet:
        print(f"{'operator':40s} {'passed':>8s} {'of':>5s} {'compiled':>9s} {'host':>9s} {'fallback':>9s}")
        for operator, found in sorted(by_operator.items()):
            count = {runs: sum(r.passed and r.runs == runs for r in found) for runs in RUNS}
            counts = " ".join(f"{count[runs]:9d}" for runs in RUNS)
            print(f"{operator:40s} {sum(r.passed for r in found):8d} {len(found):5d} {counts}")
    for r in records:
        if not r.passed:
            print(f"FAILED {r.category} {r.name}: {r.error if options.match else r.error.strip().splitlines()[0][:200]}")
    for category in dict.fromkeys(r.category for r in records):
        found = [r for r in records if r.category == category]
        print(f"{category}: {sum(r.passed for r in found)} of {len(found)}")
    passed = [r for r in records if r.passed]
    count = {runs: sum(r.runs == runs for r in passed) for runs in RUNS}
    print(
        f"{len(passed)} of {len(records)} cases pass; {count['compiled']} compiled, {count['host']} with nodes on the host, "
        f"{count['fallback']} with nodes by onnx.reference; {len(EXCLUDED)} excluded"
    )
    return 0 if len(passed) == len(records) else 1


if __name__ == "__main__":
    sys.exit(main())
